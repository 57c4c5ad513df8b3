"""What two nodes say to each other through the tunnel of the second chance, format 1: one message a frame.

Frames have an EtherType of their own, so the firewall of the host does not see them, and that they arrive is the proof
that the tunnel works. The last 16 octets are an HMAC-SHA256, cut (RFC 2104 section 5), by a key of the link.
"""

import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address

from floatip.core.addresses import Address
from floatip.core.link.wire import ID
from floatip.core.malformed import Malformed
from floatip.core.second_chance.direct import NONCE
from floatip.core.second_chance.flow import V4, V6, Flow, is_flow

MAGIC = b"f2"
FORMAT = 1
LARGEST = 1400
"""Octets of a frame behind its Ethernet header: with VXLAN around it, it fits in 1500."""
WHOLE = 1500
"""Octets of a frame at most: as much as the tunnel carries. Outside it takes two fragments where it must."""
TAG = 16
HEADER = struct.Struct(f"!2sBB{ID}s{ID}sQQQ")
"""Magic, format, kind; sender, receiver; boot of the sender, of the receiver as the sender knows it; sequence."""
HELLO = struct.Struct("!BB")
ASK = struct.Struct("!QQQBQ")
"""Number, version and its boot, flags, packets that were forwarded. Then the addresses, the reason, and of direct
answers: the nonce, where probes are to go, and a bit for each of the addresses that one came from."""
LIST = struct.Struct("!QIQQHHIQBHHHH")
"""Number, milliseconds since it was asked, version, base, part, parts, left, accepted, whether answers leave directly;
then how many flows of 16 and 40 octets come, and how many go."""
ADDRESSES = struct.Struct("!HH")
"""How many of IPv4 come, and then of IPv6."""
FLOWS_IN_A_PART = 1200
"""Octets of flows in one frame, at most."""
MOST_OCTETS = 1120
"""Of addresses in one frame."""
BITS = MOST_OCTETS // 4 // 8
"""Octets with a bit for each address."""
NO_NONCE = bytes(NONCE)
LONGEST_REASON = 200


class Kind(IntEnum):
    HELLO = 1
    OFFER = 2
    ASK = 3
    LIST = 4


class AskFlag(IntFlag):
    FAST = 1
    """Before a move and shortly after it: list often, and ask the sender too (`Ask.reverse`)."""
    READY = 2
    """All that was listed is forwarded from now on, as soon as its packets come."""
    CARRIES = 4
    """The sender is master: send the answers through the tunnel."""


@dataclass(frozen=True, slots=True)
class Hello:
    """That the sender lives, and whether it can take part."""

    usable: bool
    reason: str = ""
    """Why it cannot."""
    is_large: bool = False
    """It has the size of the largest packets of connections: that small ones pass is no proof."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The sender is about to hand these addresses over to the receiver, which is to ask."""

    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class Ask:
    """What the sender wants to forward for the receiver; said again and again, and none: nothing any more."""

    number: int
    """Grows with each change of `addresses`."""
    addresses: frozenset[Address]
    reverse: frozenset[Address] = frozenset()
    """Those of `addresses` of which the receiver is, or becomes, the carrier: it has asked for them first."""
    flags: int = 0
    """Of `AskFlag`."""
    version: int = 0
    """The list of the receiver that it forwards; 0: none."""
    boot: int = 0
    """Of the receiver's process that made that list."""
    forwarded: int = 0
    """Packets so far, to the receiver and to others."""
    reason: str = ""
    """Why it has ended, where there are no addresses."""
    nonce: bytes = NO_NONCE
    """Of the probes that the sender wants; `NO_NONCE`: none."""
    probe_at: frozenset[Address] = frozenset()
    """Where it looks for them: one address of IPv4 and one of IPv6 at most."""
    direct: frozenset[Address] = frozenset()
    """Those of `addresses` from which probes came lately."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A part of how the sender's connections differ from the version `base`; 0: all of them."""

    number: int
    """Of the `Ask` that it answers."""
    asked_ago: int
    """Milliseconds since the sender heard the last one."""
    version: int
    base: int
    part: int
    parts: int
    left: int
    """Connections in all."""
    accepted: int
    """Packets of the receiver so far that have reached a socket of the sender."""
    add: frozenset[Flow] = frozenset()
    remove: frozenset[Flow] = frozenset()
    is_direct: bool = False
    """Answers leave the sender by its own way, and do not come through the tunnel."""


Message = Hello | Offer | Ask | Listing


@dataclass(frozen=True, slots=True)
class Frame:
    sender: bytes
    """`identity` of its name."""
    receiver: bytes
    boot: int
    your_boot: int
    """Of the receiver, as it was heard last; 0: it was not."""
    sequence: int
    message: Message


def parts_of(add: Iterable[Flow], remove: Iterable[Flow]) -> list[tuple[frozenset[Flow], frozenset[Flow]]]:
    """What has room in a frame each; one at least."""
    found: list[tuple[list[Flow], list[Flow]]] = [([], [])]
    room = FLOWS_IN_A_PART
    for position, flows in enumerate((add, remove)):
        for flow in flows:
            if len(flow) > room:
                found.append(([], []))
                room = FLOWS_IN_A_PART
            found[-1][position].append(flow)
            room -= len(flow)
    return [(frozenset(one), frozenset(other)) for one, other in found]


def pack(frame: Frame, key: bytes, whole: int = WHOLE) -> bytes:
    """`whole`: octets of a `Hello` that is large."""
    kind, body = _packed(frame.message)
    header = HEADER.pack(MAGIC, FORMAT, kind, frame.sender, frame.receiver, frame.boot, frame.your_boot, frame.sequence)
    signed = header + body
    if isinstance(frame.message, Hello) and frame.message.is_large:
        signed = signed.ljust(whole - TAG, b"\0")
    return signed + _tag(signed, key)


def _packed(message: Message) -> tuple[Kind, bytes]:
    match message:
        case Hello():
            return Kind.HELLO, HELLO.pack(message.usable, message.is_large) + _text(message.reason)
        case Offer():
            return Kind.OFFER, _addresses(message.addresses)
        case Ask():
            fixed = ASK.pack(
                message.number,
                message.version,
                message.boot,
                message.flags,
                message.forwarded,
            )
            sets = _addresses(message.addresses - message.reverse) + _addresses(message.reverse)
            bits = sum(1 << place for place, one in enumerate(_in_order(message.addresses)) if one in message.direct)
            of_probes = message.nonce + _addresses(message.probe_at) + bits.to_bytes(BITS, "big")
            return Kind.ASK, fixed + sets + _text(message.reason) + of_probes
        case Listing():
            short_in, long_in = _by_length(message.add)
            short_out, long_out = _by_length(message.remove)
            groups = short_in, long_in, short_out, long_out
            fixed = LIST.pack(
                message.number,
                min(message.asked_ago, 0xFFFFFFFF),
                message.version,
                message.base,
                message.part,
                message.parts,
                message.left,
                message.accepted,
                message.is_direct,
                *map(len, groups),
            )
            return Kind.LIST, fixed + b"".join(b"".join(group) for group in groups)


def parse(data: bytes, keys: Iterable[bytes]) -> Frame:
    """Raises Malformed. What it says is believed only after one of the keys has signed it. Padding may follow it."""
    if not HEADER.size + TAG <= len(data) <= WHOLE:
        raise Malformed("too short or too long for a frame of the second chance")
    magic, version, kind, sender, receiver, boot, your_boot, sequence = HEADER.unpack_from(data)
    if magic != MAGIC or version != FORMAT:
        raise Malformed("not a frame of this format")
    signed, tag = data[:-TAG], data[-TAG:]
    if not any(hmac.compare_digest(tag, _tag(signed, key)) for key in keys):
        raise Malformed("signed with another key")
    body = memoryview(signed)[HEADER.size :]
    try:
        message = _unpacked(kind, bytes(body))
    except (struct.error, IndexError) as error:
        raise Malformed(f"a cut frame of kind {kind}") from error
    return Frame(sender, receiver, boot, your_boot, sequence, message)


def _unpacked(kind: int, body: bytes) -> Message:
    match kind:
        case Kind.HELLO:
            usable, is_large = HELLO.unpack_from(body)
            return Hello(bool(usable), _read_text(body, HELLO.size)[0], bool(is_large))
        case Kind.OFFER:
            return Offer(_read_addresses(body, 0)[0])
        case Kind.ASK:
            number, version, boot, flags, forwarded = ASK.unpack_from(body)
            addresses, at = _read_addresses(body, ASK.size)
            reverse, at = _read_addresses(body, at)
            reason, at = _read_text(body, at)
            probe_at, end = _read_addresses(body, at + NONCE)
            if len(body) < end + BITS or len({one.version for one in probe_at}) < len(probe_at):
                raise Malformed("probes that make no sense")
            nonce, bits = body[at : at + NONCE], int.from_bytes(body[end : end + BITS], "big")
            wanted = addresses | reverse
            direct = frozenset(one for place, one in enumerate(_in_order(wanted)) if bits >> place & 1)
            ask = number, wanted, reverse, flags, version, boot, forwarded, reason
            return Ask(*ask, nonce, probe_at, direct)
        case Kind.LIST:
            number, asked_ago, version, base, part, parts, left, accepted, direct, *counts = LIST.unpack_from(body)
            if part >= parts:
                raise Malformed("a part that its list does not have")
            groups, at = list[list[Flow]](), LIST.size
            for count, length in zip(counts, (V4, V6, V4, V6), strict=True):
                end = at + count * length
                if end > len(body):
                    raise Malformed("a cut list")
                flows = [body[begin : begin + length] for begin in range(at, end, length)]
                if not all(map(is_flow, flows)):
                    raise Malformed("a connection that is none")
                groups.append(flows)
                at = end
            add, remove = frozenset(groups[0] + groups[1]), frozenset(groups[2] + groups[3])
            about = number, asked_ago, version, base, part, parts, left, accepted
            return Listing(*about, add, remove, bool(direct))
    raise Malformed(f"a kind of frame that is not known: {kind}")


def _by_length(flows: Iterable[Flow]) -> tuple[list[Flow], list[Flow]]:
    short, long = list[Flow](), list[Flow]()
    for flow in flows:
        (short if len(flow) == V4 else long).append(flow)
    return short, long


def that_fit(addresses: Iterable[Address]) -> frozenset[Address]:
    """Those of which one frame can speak: 280 of IPv4, or 70 of IPv6."""
    found, room = list[Address](), MOST_OCTETS
    for address in _in_order(addresses):
        room -= len(address.packed)
        if room < 0:
            break
        found.append(address)
    return frozenset(found)


def _in_order(addresses: Iterable[Address]) -> list[Address]:
    return sorted(addresses, key=lambda one: (one.version, int(one)))


def _addresses(addresses: Iterable[Address]) -> bytes:
    in_order = _in_order(that_fit(addresses))
    counts = (sum(one.version == version for one in in_order) for version in (4, 6))
    return ADDRESSES.pack(*counts) + b"".join(one.packed for one in in_order)


def _read_addresses(body: bytes, at: int) -> tuple[frozenset[Address], int]:
    shorter, longer = ADDRESSES.unpack_from(body, at)
    middle = at + ADDRESSES.size + 4 * shorter
    end = middle + 16 * longer
    if end > len(body):
        raise Malformed("a cut address")
    found: set[Address] = {IPv4Address(body[one : one + 4]) for one in range(at + ADDRESSES.size, middle, 4)}
    found.update(IPv6Address(body[one : one + 16]) for one in range(middle, end, 16))
    return frozenset(found), end


def _text(text: str) -> bytes:
    octets = text.encode("utf-8", "replace")[:LONGEST_REASON].decode("utf-8", "ignore").encode()
    return bytes((len(octets),)) + octets


def _read_text(body: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + body[at]
    if end > len(body):
        raise Malformed("a cut text")
    text = body[at + 1 : end].decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text), end


def _tag(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"second chance" + signed, "sha256")[:TAG]
