"""BGP messages: bytes to dataclasses and back (RFC 4271 section 4), for both sides of a session.

`parse` is total: any bytes give a message or `Malformed` with the NOTIFICATION that the RFCs demand, and nothing else.
Here are the header, the OPEN and the short messages; UPDATE and NOTIFICATION have their own files.
Whether a message is welcome in the state of the session, and who the peer should be, is not decided here.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

from floatip.core.bgp.attributes import AS_TRANS, Attributes, Family, Prefix, parse_family
from floatip.core.bgp.notification import Notification, counted_text
from floatip.core.bgp.update import EndOfRib, Update, fill_updates, pack_end_of_rib, pack_update, parse_update
from floatip.core.malformed import Malformed

MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a speaker offers in its OPEN (RFC 5492)."""

    families: frozenset[Family] = frozenset()
    extended_next_hop: frozenset[tuple[int, int, int]] = frozenset()
    """(AFI, SAFI, next hop AFI) (RFC 8950)."""
    route_refresh: bool = False
    four_octet_asn: bool = False
    hostname: str = ""
    """FQDN capability (73); empty: not offered."""


@dataclass(frozen=True, slots=True)
class Open:
    asn: int
    """The real AS: from the four-octet capability when it is there (RFC 6793)."""
    hold_time: int
    """Seconds; 0 or at least 3."""
    router_id: IPv4Address
    capabilities: Capabilities = Capabilities()


@dataclass(frozen=True, slots=True)
class Keepalive:
    pass


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    family: Family


Message = Open | Update | EndOfRib | Notification | Keepalive | RouteRefresh


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole messages off the front of `buffer`; raises `Malformed` on a bad header."""
    while len(buffer) >= _HEADER.size:
        length = _check_header(buffer)
        if len(buffer) < length:
            return
        message = bytes(buffer[:length])
        del buffer[:length]
        yield message


def parse(data: bytes, *, four_octet_asn: bool = True) -> Message:
    """One whole message, header included."""
    if len(data) < _HEADER.size or _check_header(data) != len(data):
        raise Malformed(f"{len(data)} octets are not one whole message", 1, 2, data[16:18])
    body = data[_HEADER.size :]
    match data[18]:
        case Type.OPEN:
            return _parse_open(body)
        case Type.UPDATE:
            return parse_update(body, 4 if four_octet_asn else 2)
        case Type.NOTIFICATION:
            return Notification(body[0], body[1], body[2:])
        case Type.KEEPALIVE:
            return Keepalive()
        case _:
            return RouteRefresh(parse_family(body[:2], body[3]))


def pack(message: Message, *, four_octet_asn: bool = True) -> bytes:
    """The inverse of `parse`; an Update too large for one message is an AssertionError, see `pack_routes`."""
    match message:
        case Open():
            return _frame(Type.OPEN, _pack_open(message))
        case Update():
            return _frame(Type.UPDATE, pack_update(message, four_octet_asn))
        case EndOfRib(family):
            return _frame(Type.UPDATE, pack_end_of_rib(family))
        case Notification(code, subcode, data):
            return _frame(Type.NOTIFICATION, bytes((code, subcode)) + data)
        case Keepalive():
            return _frame(Type.KEEPALIVE, b"")
        case RouteRefresh((afi, safi)):
            return _frame(Type.ROUTE_REFRESH, struct.pack("!HBB", afi, 0, safi))


def pack_routes(
    announced: Iterable[tuple[Prefix, Attributes]], withdrawn: Iterable[Prefix], *, four_octet_asn: bool = True
) -> Iterator[bytes]:
    """As few UPDATEs as say all this, IPv4 first, each of at most 4096 octets."""
    for update in fill_updates(announced, withdrawn, MAX_LENGTH - _HEADER.size, four_octet_asn):
        yield pack(update, four_octet_asn=four_octet_asn)


# The header (RFC 4271 section 4.1)


class Type(IntEnum):
    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


def counters() -> list[int]:
    """A zero for each `Type`."""
    return [0] * (max(Type) + 1)


def count(messages: bytes, counts: list[int]) -> None:
    """Add what we are about to send, by `Type`."""
    at = 0
    while at < len(messages):
        counts[messages[at + 18]] += 1
        at += messages[at + 16] << 8 | messages[at + 17]


_MARKER = b"\xff" * 16
_HEADER = struct.Struct("!16sHB")
_MIN_LENGTH = {Type.OPEN: 29, Type.UPDATE: 23, Type.NOTIFICATION: 21, Type.KEEPALIVE: 19, Type.ROUTE_REFRESH: 23}


def _check_header(data: bytes | bytearray) -> int:
    """The length of the message (RFC 4271 section 6.1)."""
    length: int
    marker, length, kind = _HEADER.unpack_from(data)
    if marker != _MARKER:
        raise Malformed("the marker is not all ones", 1, 1)
    if not _HEADER.size <= length <= MAX_LENGTH:
        raise Malformed(f"a message cannot be {length} octets long", 1, 2, bytes(data[16:18]))
    if kind not in _MIN_LENGTH:
        raise Malformed(f"message type {kind} is unknown", 1, 3, bytes((kind,)))
    shortest = _MIN_LENGTH[kind]
    # RFC 2918 3: like a KEEPALIVE, a ROUTE-REFRESH has one length only
    if length < shortest or (length > shortest and kind in (Type.KEEPALIVE, Type.ROUTE_REFRESH)):
        raise Malformed(f"{Type(kind).name} of {length} octets", 1, 2, bytes(data[16:18]))
    return length


def _frame(kind: Type, body: bytes) -> bytes:
    length = _HEADER.size + len(body)
    assert length <= MAX_LENGTH, f"{kind.name} of {length} octets"
    return _HEADER.pack(_MARKER, length, kind) + body


# OPEN (RFC 4271 section 4.2), capabilities (RFC 5492)


class _Capability(IntEnum):
    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_NEXT_HOP = 5
    FOUR_OCTET_ASN = 65
    HOSTNAME = 73


_OPEN = struct.Struct("!BHH4sB")
_CAPABILITIES = 2


def _parse_open(body: bytes) -> Open:
    version, asn, hold_time, router_id, length = _OPEN.unpack_from(body)
    if version != 4:
        raise Malformed(f"BGP version {version}", 2, 1, b"\0\4")
    parameters, length_octets = body[_OPEN.size :], 1
    if length and parameters[:1] == b"\xff":  # RFC 9072 2: type 255 announces the extended form, of any size
        if len(parameters) < 3:
            raise Malformed("the extended length of the optional parameters is cut off", 2, 0)
        length, parameters, length_octets = int.from_bytes(parameters[1:3]), parameters[3:], 2
    if length != len(parameters):
        raise Malformed("the length of the optional parameters is wrong", 2, 0)
    offered: list[tuple[int, bytes]] = []
    for kind, value in _parse_options(parameters, length_octets):
        if kind != _CAPABILITIES:
            raise Malformed(f"optional parameter {kind} is unknown", 2, 4)
        offered += _parse_options(value)
    capabilities, four_octet_asn = _parse_capabilities(offered)
    asn = asn if four_octet_asn is None else four_octet_asn
    if not asn:  # RFC 7607 2
        raise Malformed("AS 0", 2, 2)
    if hold_time in (1, 2):
        raise Malformed(f"hold time of {hold_time} s", 2, 6)
    if router_id == bytes(4):
        raise Malformed("BGP identifier 0.0.0.0", 2, 3)
    return Open(asn, hold_time, IPv4Address(router_id), capabilities)


def _parse_options(data: bytes, length_octets: int = 1) -> Iterator[tuple[int, bytes]]:
    """Type, length, value: optional parameters and capabilities alike."""
    while data:
        start = 1 + length_octets
        end = start + int.from_bytes(data[1:start])
        if len(data) < end:
            raise Malformed("an optional parameter or capability overruns the OPEN", 2, 0)
        yield data[0], data[start:end]
        data = data[end:]


def _parse_capabilities(offered: Iterable[tuple[int, bytes]]) -> tuple[Capabilities, int | None]:
    """The capabilities, and the AS of the four-octet one."""
    families: set[Family] = set()
    extended_next_hop: set[tuple[int, int, int]] = set()
    asn: int | None = None
    route_refresh, hostname = False, ""
    for code, value in offered:
        match code, len(value):
            case _Capability.MULTIPROTOCOL, 4:
                families.add(parse_family(value[:2], value[3]))
            case _Capability.EXTENDED_NEXT_HOP, length if length % 6 == 0:
                extended_next_hop.update(struct.iter_unpack("!HHH", value))
            case _Capability.FOUR_OCTET_ASN, 4:
                asn = int.from_bytes(value)
            case ((_Capability.MULTIPROTOCOL | _Capability.EXTENDED_NEXT_HOP | _Capability.FOUR_OCTET_ASN), length):
                raise Malformed(f"capability {code} of {length} octets", 2, 0)
            case _Capability.ROUTE_REFRESH, _:
                route_refresh = True
            case _Capability.HOSTNAME, _:
                hostname = counted_text(value)
    capabilities = Capabilities(
        families=frozenset(families),
        extended_next_hop=frozenset(extended_next_hop),
        route_refresh=route_refresh,
        four_octet_asn=asn is not None,
        hostname=hostname,
    )
    return capabilities, asn


def _pack_open(message: Open) -> bytes:
    asn = message.asn if message.asn <= 0xFFFF else AS_TRANS
    capabilities = b"".join(_pack_option(code, value) for code, value in _offer(message))
    parameters = _pack_option(_CAPABILITIES, capabilities) if capabilities else b""
    return _OPEN.pack(4, asn, message.hold_time, message.router_id.packed, len(parameters)) + parameters


def _offer(message: Open) -> Iterator[tuple[int, bytes]]:
    """In lelastic's order: route servers have seen this OPEN for years."""
    offered = message.capabilities
    if offered.route_refresh:
        yield _Capability.ROUTE_REFRESH, b""
    if offered.hostname:
        hostname = offered.hostname.encode()[:64]
        yield _Capability.HOSTNAME, bytes((len(hostname),)) + hostname + b"\0"
    for afi, safi in sorted(offered.families):
        yield _Capability.MULTIPROTOCOL, struct.pack("!HBB", afi, 0, safi)
    if offered.four_octet_asn:
        yield _Capability.FOUR_OCTET_ASN, message.asn.to_bytes(4)
    if offered.extended_next_hop:
        triples = sorted(offered.extended_next_hop)
        yield _Capability.EXTENDED_NEXT_HOP, b"".join(struct.pack("!HHH", *triple) for triple in triples)


def _pack_option(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value
