"""The datagrams of the link, format 1. docs/reference/link.md draws them.

Every datagram is a hello: it says that its sender lives, and what it has heard last of the one it goes to. Blocks carry
the sender's state beside it. A reader passes over blocks that it does not know and over what a known block has more, so
a later release can add to both. The last 16 octets are an HMAC-SHA256, cut (RFC 2104 section 5).
"""

import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from hashlib import sha256

from floatip.core.malformed import Malformed

MAGIC = b"fl"
FORMAT = 1
LARGEST = 1200
"""Octets in a datagram: it fits in any path without fragments (IPv6 needs 1280, RFC 8200 section 5)."""
ID = 8
TAG = 16
NEVER = 0xFFFFFFFF
"""An age: it was not heard yet."""
LONGEST_NAME = 64
LONGEST_REASON = 160
HEADER = struct.Struct("!2sBB8sQQHQQI")
"""Magic, format, flags, sender, boot, sequence, interval; and of the receiver: boot, sequence, age."""
BLOCK = struct.Struct("!BH")
NODE = struct.Struct("!BBB8sQH")
"""Flags, sessions up, sessions, digest, until, number of instances; then name, version and reason."""
INSTANCE = struct.Struct("!8sBBBHQ8s")
"""Id, role, rank, flags, preference, reign, successor; then the reason."""
HEARD = struct.Struct("!8sI")


class Kind(IntEnum):
    NODE = 1
    INSTANCE = 2
    HEARD = 3


class Role(IntEnum):
    INIT = 0
    BACKUP = 1
    MASTER = 2
    FAULT = 3


class HelloFlag(IntFlag):
    LEAVES = 1
    """The last word of a daemon that ends: do not wait for it."""


class NodeFlag(IntFlag):
    DRAINED = 1
    PAUSED = 2
    STOPPING = 4
    SEASONED = 8
    """Route servers believe what its sessions announce: one is up for long enough."""


class InstanceFlag(IntFlag):
    READY = 1
    """It could be master now."""
    ACKNOWLEDGED = 2
    """A route server has what it announces as master."""
    LEAVES = 4
    """It is master, and wants another node to take over."""
    HEALTHY = 8
    HELD = 16


@dataclass(frozen=True, slots=True)
class NodeState:
    name: str
    version: str
    digest: bytes
    """Of the configuration: the first 8 octets of a SHA-256."""
    instances: int
    flags: NodeFlag
    sessions_up: int = 0
    sessions: int = 0
    until: int = 0
    """When a drain or a pause ends, in seconds since the epoch; 0: it has no end."""
    reason: str = ""
    """Of a drain or a pause."""


@dataclass(frozen=True, slots=True)
class InstanceState:
    instance: bytes
    role: Role
    rank: int
    flags: InstanceFlag
    preference: int = 0
    """Its place in the order of preference there; 0 is the first."""
    reign: int = 0
    """When it became master, in milliseconds since the epoch; 0: it is not master."""
    successor: bytes = bytes(ID)
    """Who is to take over; zeros: whoever is best."""
    reason: str = ""
    """Why it has its role."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Of a third node, as the sender hears it."""

    node: bytes
    age: int
    """Milliseconds; `NEVER`."""


@dataclass(frozen=True, slots=True)
class Datagram:
    sender: bytes
    """`identity` of its name."""
    boot: int
    """Drawn at each start of the daemon."""
    sequence: int
    """Grows with each datagram to this receiver."""
    interval: int
    """Milliseconds between its hellos."""
    flags: HelloFlag
    your_boot: int = 0
    """Of the receiver, as it was heard last; 0: it was not."""
    your_sequence: int = 0
    your_age: int = NEVER
    """Milliseconds since then."""
    node: NodeState | None = None
    instances: tuple[InstanceState, ...] = ()
    heard: tuple[Heard, ...] = ()


def identity(name: str) -> bytes:
    """Of a node or an instance, on the wire."""
    return sha256(name.encode()).digest()[:ID]


def node_block(state: NodeState) -> bytes:
    fixed = NODE.pack(
        state.flags, _octet(state.sessions_up), _octet(state.sessions), state.digest, state.until, state.instances
    )
    texts = _text(state.name, LONGEST_NAME), _text(state.version, LONGEST_NAME), _text(state.reason, LONGEST_REASON)
    return _block(Kind.NODE, fixed, *texts)


def instance_block(state: InstanceState) -> bytes:
    fixed = INSTANCE.pack(
        state.instance, state.role, state.rank, state.flags, state.preference, state.reign, state.successor
    )
    return _block(Kind.INSTANCE, fixed, _text(state.reason, LONGEST_REASON))


def heard_block(heard: Iterable[Heard]) -> bytes:
    return _block(Kind.HEARD, *(HEARD.pack(one.node, one.age) for one in heard))


def pack(datagram: Datagram, key: bytes, blocks: Iterable[bytes] = ()) -> bytes:
    """`blocks`: those made already; the datagram's own come before them. Whoever fills it keeps within `LARGEST`."""
    own = [node_block(datagram.node)] if datagram.node else []
    own += map(instance_block, datagram.instances)
    own += [heard_block(datagram.heard)] if datagram.heard else []
    header = HEADER.pack(
        MAGIC,
        FORMAT,
        datagram.flags,
        datagram.sender,
        datagram.boot,
        datagram.sequence,
        datagram.interval,
        datagram.your_boot,
        datagram.your_sequence,
        datagram.your_age,
    )
    signed = b"".join((header, *own, *blocks))
    return signed + _tag(signed, key)


ROOM = LARGEST - HEADER.size - TAG
"""Octets for blocks."""


def parse(data: bytes, keys: Iterable[bytes]) -> Datagram:
    """Raises Malformed. What it says is believed only after one of the keys has signed it."""
    if len(data) < HEADER.size + TAG:
        raise Malformed("shorter than a hello")
    if len(data) > LARGEST:
        raise Malformed(f"longer than {LARGEST} octets")
    magic, version, flags, *figures = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Malformed("no hello of floatip")
    if version != FORMAT:
        raise Malformed(f"format {version}, ours is {FORMAT}: it is of another release")
    signed, tag = data[:-TAG], data[-TAG:]
    if not any(hmac.compare_digest(tag, _tag(signed, key)) for key in keys):
        raise Malformed("signed with another key")
    sender, boot, sequence, interval, your_boot, your_sequence, your_age = figures
    if not interval:
        raise Malformed("an interval of 0")
    node: NodeState | None = None
    instances: list[InstanceState] = []
    heard: list[Heard] = []
    for kind, body in _blocks(signed[HEADER.size :]):
        if kind == Kind.NODE:
            node = _node(body)
        elif kind == Kind.INSTANCE:
            instances.append(_instance(body))
        elif kind == Kind.HEARD:
            heard += [Heard(*one) for one in HEARD.iter_unpack(body[: len(body) - len(body) % HEARD.size])]
    return Datagram(
        sender,
        boot,
        sequence,
        interval,
        HelloFlag(flags & HelloFlag.LEAVES),
        your_boot,
        your_sequence,
        your_age,
        node,
        tuple(instances),
        tuple(heard),
    )


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        if len(data) < BLOCK.size:
            raise Malformed("a block is cut")
        kind, length = BLOCK.unpack_from(data)
        if len(data) < BLOCK.size + length:
            raise Malformed("a block is cut")
        yield kind, data[BLOCK.size : BLOCK.size + length]
        data = data[BLOCK.size + length :]


def _node(body: bytes) -> NodeState:
    if len(body) < NODE.size:
        raise Malformed("a node's block is too short")
    flags, sessions_up, sessions, digest, until, instances = NODE.unpack_from(body)
    name, version, reason = _texts(body[NODE.size :], 3)
    known = NodeFlag(flags & 0x0F)
    return NodeState(name, version, digest, instances, known, sessions_up, sessions, until, reason)


def _instance(body: bytes) -> InstanceState:
    if len(body) < INSTANCE.size:
        raise Malformed("an instance's block is too short")
    instance, role, rank, flags, preference, reign, successor = INSTANCE.unpack_from(body)
    if role not in set(Role):
        raise Malformed(f"role {role} of an instance")
    (reason,) = _texts(body[INSTANCE.size :], 1)
    known = InstanceFlag(flags & 0x1F)
    return InstanceState(instance, Role(role), rank, known, preference, reign, successor, reason)


def _texts(data: bytes, number: int) -> list[str]:
    texts = []
    for _ in range(number):
        if not data or len(data) < 1 + data[0]:
            raise Malformed("a text is cut")
        texts.append(_clean(data[1 : 1 + data[0]]))
        data = data[1 + data[0] :]
    return texts


def _clean(octets: bytes) -> str:
    """What can be shown on a terminal."""
    text = octets.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _text(text: str, longest: int) -> bytes:
    octets = text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore").encode()  # no half character
    return bytes((len(octets),)) + octets


def _block(kind: Kind, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return BLOCK.pack(kind, len(body)) + body


def _octet(number: int) -> int:
    return min(number, 255)


def _tag(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:TAG]
