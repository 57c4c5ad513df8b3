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
from functools import lru_cache
from hashlib import sha256
from itertools import islice

from floatip.core.malformed import Malformed
from floatip.core.problems import Severity
from floatip.core.settings import MOST_INSTANCES
from floatip.core.state import CheckBrief, ProblemBrief

MAGIC = b"fl"
FORMAT = 1
LARGEST = 1200
"""Octets in a datagram: it fits in any path without fragments (IPv6 needs 1280, RFC 8200 section 5)."""
ID = 8
NOBODY = bytes(ID)
TAG = 16
NEVER = 0xFFFFFFFF
"""An age: it was not heard yet."""
LONGEST_NAME = 64
LONGEST_REASON = 160
LONGEST_CODE = 32
LONGEST_SENTENCE = 200
"""Octets: what a problem is, and its hint."""
MOST_PARTS = 32
"""Of a report."""
PREFIX = struct.Struct("!2sB")
"""Magic and format: nothing else is read before the signature has been checked."""
HEADER = struct.Struct("!2sBB8s8sQQQQIH2x")
"""Magic, format, flags, sender, receiver, boot, sequence; of the receiver: boot, sequence, age; then the interval."""
BLOCK = struct.Struct("!BH")
NODE = struct.Struct("!BBH8sQB")
"""Sessions up, sessions, number of instances, digest, until, flags; then name, version and reason."""
INSTANCE = struct.Struct("!8sBBHQ8sB")
"""Id, role, rank, preference, reign, successor, flags; then the reason, and after it the epoch."""
EPOCH = struct.Struct("!Q")
HEARD = struct.Struct("!8sI")
REPORT = struct.Struct("!QBBHH")
"""Number, part, parts; checks and problems of the sender in all."""
CHECK = struct.Struct("!B")
"""Its value; then name and last result."""
PROBLEM = struct.Struct("!B")
"""Its severity; then code, subject, what and hint."""
ROOM = LARGEST - HEADER.size - TAG
"""Octets for blocks."""

OTHER_FORMAT = 1
OTHER_KEY = 2
"""Codes of `Malformed`; 0 is everything else."""


class Kind(IntEnum):
    NODE = 1
    INSTANCE = 2
    HEARD = 3
    CHECK = 4
    PROBLEM = 5
    REPORT = 6


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
    DRILL = 16
    """An administrator rehearses a failover there."""


class InstanceFlag(IntFlag):
    READY = 1
    """It could be master now."""
    ACKNOWLEDGED = 2
    """A route server has what it announces as master."""
    LEAVES = 4
    """It is master, and wants another node to take over."""
    HEALTHY = 8
    HELD = 16
    FREE = 32
    """It is not master, and nothing of what it held under `epoch` is in its kernel any more, or can come back."""


CHECK_VALUES = ("unknown", "up", "down")
SEVERITIES = (Severity.PROBLEM, Severity.WARNING, Severity.NOTE)

# Looked up: to make a flag of a number takes ten times as long, and an instance's block is read very often.
_ROLES = {int(role): role for role in Role}
_HELLO_FLAGS = tuple(map(HelloFlag, range(1 << len(HelloFlag))))
_NODE_FLAGS = tuple(map(NodeFlag, range(1 << len(NodeFlag))))
_INSTANCE_FLAGS = tuple(map(InstanceFlag, range(1 << len(InstanceFlag))))


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
    successor: bytes = NOBODY
    """Who is to take over; zeros: whoever is best."""
    reason: str = ""
    """Why it has its role."""
    epoch: int = 0
    """The last with which etcd said that it is the owner; 0: none."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Of a third node, as the sender hears it."""

    node: bytes
    age: int
    """Milliseconds; `NEVER`."""


@dataclass(frozen=True, slots=True)
class Report:
    """Says which report the checks and problems of a datagram belong to."""

    number: int
    """Greater than that of the report before; the same when a report is repeated."""
    part: int
    """Each part is a datagram; 0 is the first."""
    parts: int
    checks: int
    """How many the sender has. A report names the worst of them."""
    problems: int


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
    receiver: bytes = bytes(ID)
    """`identity` of its name. Each receiver has its own sequence, so a datagram to another one must not be believed."""
    report: Report | None = None
    checks: tuple[CheckBrief, ...] = ()
    problems: tuple[ProblemBrief, ...] = ()


@lru_cache(2 * MOST_INSTANCES)
def identity(name: str) -> bytes:
    """Of a node or an instance, on the wire."""
    return sha256(name.encode()).digest()[:ID]


def node_block(state: NodeState) -> bytes:
    fixed = NODE.pack(
        _within(state.sessions_up, 0xFF),
        _within(state.sessions, 0xFF),
        _within(state.instances, 0xFFFF),
        state.digest,
        _within(state.until, 0xFFFFFFFFFFFFFFFF),
        state.flags,
    )
    texts = _text(state.name, LONGEST_NAME), _text(state.version, LONGEST_NAME), _text(state.reason, LONGEST_REASON)
    return _block(Kind.NODE, fixed, *texts)


def instance_block(state: InstanceState) -> bytes:
    fixed = INSTANCE.pack(
        state.instance,
        state.role,
        _within(state.rank, 0xFF),
        _within(state.preference, 0xFFFF),
        _within(state.reign, 0xFFFFFFFFFFFFFFFF),
        state.successor,
        state.flags,
    )
    epoch = EPOCH.pack(state.epoch) if state.epoch else b""
    return _block(Kind.INSTANCE, fixed, _text(state.reason, LONGEST_REASON), epoch)


def heard_block(heard: Iterable[Heard]) -> bytes:
    """Of the first 93 at most: a block that is larger than the room could never be sent."""
    most = (ROOM - BLOCK.size) // HEARD.size
    return _block(Kind.HEARD, *(HEARD.pack(one.node, _within(one.age, NEVER)) for one in islice(heard, most)))


def report_block(report: Report) -> bytes:
    checks, problems = (_within(count, 0xFFFF) for count in (report.checks, report.problems))
    return _block(Kind.REPORT, REPORT.pack(report.number, report.part, report.parts, checks, problems))


def check_block(check: CheckBrief) -> bytes:
    texts = _text(check.name, LONGEST_NAME), _text(check.last_result, LONGEST_REASON)
    return _block(Kind.CHECK, CHECK.pack(CHECK_VALUES.index(check.value)), *texts)


def problem_block(problem: ProblemBrief) -> bytes:
    fixed = PROBLEM.pack(SEVERITIES.index(Severity(problem.severity)))
    names = _text(problem.code, LONGEST_CODE), _text(problem.subject, LONGEST_NAME)
    sentences = _text(problem.what, LONGEST_SENTENCE), _text(problem.hint, LONGEST_SENTENCE)
    return _block(Kind.PROBLEM, fixed, *names, *sentences)


def pack(datagram: Datagram, key: bytes, blocks: Iterable[bytes] = ()) -> bytes:
    """`blocks`: those made already; the datagram's own come before them.

    A block for which there is no room is left out: nobody would read the hello with it, and take its sender for dead.
    """
    own = [node_block(datagram.node)] if datagram.node else []
    own += map(instance_block, datagram.instances)
    own += [heard_block(datagram.heard)] if datagram.heard else []
    own += [report_block(datagram.report)] if datagram.report else []
    own += [*map(check_block, datagram.checks), *map(problem_block, datagram.problems)]
    header = HEADER.pack(
        MAGIC,
        FORMAT,
        datagram.flags,
        datagram.sender,
        datagram.receiver,
        datagram.boot,
        datagram.sequence,
        datagram.your_boot,
        datagram.your_sequence,
        _within(datagram.your_age, NEVER),
        max(_within(datagram.interval, 0xFFFF), 1),
    )
    signed = b"".join((header, *_that_fit((*own, *blocks))))
    return signed + _tag(signed, key)


def pieces(blocks: Iterable[bytes], most: int = ROOM) -> Iterator[list[bytes]]:
    """What has room in one datagram each; the first piece comes even where there is nothing to say."""
    piece, room = list[bytes](), most
    for block in blocks:
        if len(block) > room:
            yield piece
            piece, room = [], most
        piece.append(block)
        room -= len(block)
    yield piece


def _that_fit(blocks: Iterable[bytes]) -> Iterator[bytes]:
    room = ROOM
    for block in blocks:
        if len(block) <= room:
            yield block
            room -= len(block)


def parse(data: bytes, keys: Iterable[bytes]) -> Datagram:
    """Raises Malformed. What it says is believed only after one of the keys has signed it."""
    if len(data) < HEADER.size + TAG:
        raise Malformed("shorter than a hello")
    magic, version = PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise Malformed("not a datagram of the link")
    if version != FORMAT:
        raise Malformed(f"format {version}, not {FORMAT}: from another release of floatip", OTHER_FORMAT)
    if len(data) > LARGEST:
        raise Malformed(f"longer than {LARGEST} octets")
    signed, tag = data[:-TAG], data[-TAG:]
    if not any(hmac.compare_digest(tag, _tag(signed, key)) for key in keys):
        raise Malformed("signed with another key", OTHER_KEY)
    return _believed(signed)


def _believed(data: bytes) -> Datagram:
    fields = HEADER.unpack_from(data)
    _, _, flags, sender, receiver, boot, sequence, your_boot, your_sequence, your_age, interval = fields
    if not interval:
        raise Malformed("an interval of 0")
    node: NodeState | None = None
    instances: list[InstanceState] = []
    heard: list[Heard] = []
    report: Report | None = None
    checks: list[CheckBrief] = []
    problems: list[ProblemBrief] = []
    for kind, body in _blocks(data, HEADER.size):
        if kind == Kind.NODE:
            node = _node(body)
        elif kind == Kind.INSTANCE:
            instances.append(_instance(body))
        elif kind == Kind.HEARD:
            heard += [Heard(*one) for one in HEARD.iter_unpack(body[: len(body) - len(body) % HEARD.size])]
        elif kind == Kind.REPORT:
            report = _report(body)
        elif kind == Kind.CHECK:
            checks.append(_check(body))
        elif kind == Kind.PROBLEM:
            problems.append(_problem(body))
    return Datagram(
        sender,
        boot,
        sequence,
        interval,
        _HELLO_FLAGS[flags & (len(_HELLO_FLAGS) - 1)],
        your_boot,
        your_sequence,
        your_age,
        node,
        tuple(instances),
        tuple(heard),
        receiver,
        report,
        tuple(checks),
        tuple(problems),
    )


def _blocks(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    end = len(data)
    while at < end:
        body = at + BLOCK.size
        if body > end:
            raise Malformed("a block is cut")
        kind, length = BLOCK.unpack_from(data, at)
        at = body + length
        if at > end:
            raise Malformed("a block is cut")
        yield kind, data[body:at]


def _node(body: bytes) -> NodeState:
    if len(body) < NODE.size:
        raise Malformed("a node's block is too short")
    sessions_up, sessions, instances, digest, until, flags = NODE.unpack_from(body)
    name, version, reason = _texts(body, NODE.size, 3)
    known = _NODE_FLAGS[flags & (len(_NODE_FLAGS) - 1)]
    return NodeState(name, version, digest, instances, known, sessions_up, sessions, until, reason)


def _instance(body: bytes) -> InstanceState:
    if len(body) < INSTANCE.size:
        raise Malformed("an instance's block is too short")
    instance, role, rank, preference, reign, successor, flags = INSTANCE.unpack_from(body)
    (reason,) = _texts(body, INSTANCE.size, 1)
    at = INSTANCE.size + 1 + body[INSTANCE.size]
    epoch = EPOCH.unpack_from(body, at)[0] if len(body) >= at + EPOCH.size else 0
    known = _INSTANCE_FLAGS[flags & (len(_INSTANCE_FLAGS) - 1)]
    # A role of a later release takes no part here. To refuse it would make the whole node seem dead.
    role = _ROLES.get(role, Role.INIT)
    successor = successor if successor != NOBODY else NOBODY  # one object for all
    return InstanceState(instance, role, rank, known, preference, reign, successor, reason, epoch)


def _report(body: bytes) -> Report:
    if len(body) < REPORT.size:
        raise Malformed("a report's block is too short")
    report = Report(*REPORT.unpack_from(body))
    if report.part >= report.parts:
        raise Malformed("a part that its report does not have")
    return report


def _check(body: bytes) -> CheckBrief:
    if len(body) < CHECK.size:
        raise Malformed("a check's block is too short")
    (value,) = CHECK.unpack_from(body)
    name, last_result = _texts(body, CHECK.size, 2)
    return CheckBrief(name, CHECK_VALUES[value] if value < len(CHECK_VALUES) else CHECK_VALUES[0], last_result)


def _problem(body: bytes) -> ProblemBrief:
    if len(body) < PROBLEM.size:
        raise Malformed("a problem's block is too short")
    (severity,) = PROBLEM.unpack_from(body)
    code, subject, what, hint = _texts(body, PROBLEM.size, 4)
    known = SEVERITIES[severity] if severity < len(SEVERITIES) else Severity.NOTE
    return ProblemBrief(code, known, subject, what, hint)


def _texts(data: bytes, at: int, number: int) -> list[str]:
    texts = []
    for _ in range(number):
        if at >= len(data) or at + 1 + data[at] > len(data):
            raise Malformed("a text is cut")
        end = at + 1 + data[at]
        texts.append(_clean(data[at + 1 : end]))
        at = end
    return texts


@lru_cache(1024)  # many instances have one reason
def _clean(octets: bytes) -> str:
    """What can be shown on a terminal."""
    text = octets.decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _text(text: str, longest: int) -> bytes:
    octets = text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore").encode()  # no half character
    return bytes((len(octets),)) + octets


def _block(kind: Kind, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return BLOCK.pack(kind, len(body)) + body


def _within(number: int, most: int) -> int:
    return max(0, min(number, most))


def _tag(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:TAG]
