"""Path attributes and prefixes: bytes to dataclasses and back (RFC 4271 sections 4.3 and 5, RFC 4760).

`Code` is the table of the attributes that we know. The others, and routes of families other than IPv4 and IPv6
unicast, are skipped. An error is `Malformed` with the subcode of RFC 4271 section 6.3; whether it costs the session or
only the routes (RFC 7606) is for `update` to say.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Self

from floatip.core.addresses import Address
from floatip.core.malformed import Malformed

Prefix = IPv4Network | IPv6Network
Family = tuple[int, int]
"""AFI and SAFI (RFC 4760)."""

IPV4_UNICAST: Family = (1, 1)
IPV6_UNICAST: Family = (2, 1)
AS_TRANS = 23456
AS_SET, AS_SEQUENCE = 1, 2
OPTIONAL, TRANSITIVE, EXTENDED_LENGTH = 0x80, 0x40, 0x10


class Origin(IntEnum):
    """From most to least preferred (RFC 4271 section 9.1.2.2 b)."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


@dataclass(frozen=True, slots=True)
class Attributes:
    """The path attributes that a route carries, next hop included. Equal attributes may share one UPDATE."""

    next_hop: Address
    origin: Origin = Origin.INCOMPLETE
    as_path: tuple[int, ...] = ()
    med: int | None = None
    communities: tuple[tuple[int, int], ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()


class Code(IntEnum):
    """Number, flags, and the layout of the value, or of an element of a list. Without it: read on its own, or not."""

    ORIGIN = 1, TRANSITIVE, "!B"
    AS_PATH = 2, TRANSITIVE
    NEXT_HOP = 3, TRANSITIVE, "!I"
    MED = 4, OPTIONAL, "!I"
    LOCAL_PREF = 5, TRANSITIVE
    ATOMIC_AGGREGATE = 6, TRANSITIVE
    AGGREGATOR = 7, OPTIONAL | TRANSITIVE
    COMMUNITIES = 8, OPTIONAL | TRANSITIVE, "!HH", "list"
    MP_REACH_NLRI = 14, OPTIONAL
    MP_UNREACH_NLRI = 15, OPTIONAL
    EXTENDED_COMMUNITIES = 16, OPTIONAL | TRANSITIVE, "!8s", "list"
    AS4_PATH = 17, OPTIONAL | TRANSITIVE
    AS4_AGGREGATOR = 18, OPTIONAL | TRANSITIVE
    LARGE_COMMUNITY = 32, OPTIONAL | TRANSITIVE, "!III", "list"

    flags: int
    layout: struct.Struct
    is_list: bool

    def __new__(cls, number: int, flags: int, layout: str = "", shape: str = "") -> Self:
        code = int.__new__(cls, number)
        code._value_ = number
        code.flags, code.layout, code.is_list = flags, struct.Struct(layout), shape == "list"
        return code


_KNOWN: dict[int, Code] = {code: code for code in Code}


def split_attributes(data: bytes) -> tuple[dict[int, bytes], Malformed | None]:
    """Attributes by code, and the first error that lets the list be read on (RFC 7606 section 3)."""
    found: dict[int, bytes] = {}
    error: Malformed | None = None
    while data:
        start = 4 if data[0] & EXTENDED_LENGTH else 3
        end = start + int.from_bytes(data[2:start])
        if len(data) < end:  # RFC 7606 4
            return found, error or Malformed("an attribute overruns the list", 3, 1)
        flags, code, attribute = data[0] & (OPTIONAL | TRANSITIVE), data[1], data[:end]
        data = data[end:]
        known = _KNOWN.get(code)
        if code in found:
            if known in (Code.MP_REACH_NLRI, Code.MP_UNREACH_NLRI):
                raise Malformed(f"{known.name} twice", 3, 1)
            continue  # RFC 7606 3 g: the first one counts
        if not known and not flags & OPTIONAL:
            error = error or Malformed(f"well-known attribute {code} is unknown", 3, 2, attribute)
        if known and flags != known.flags:
            error = error or Malformed(f"{known.name} with flags {attribute[0]:#04x}", 3, 4, attribute)
        found[code] = attribute[start:]
    return found, error


def parse_attributes(
    found: dict[int, bytes], required: Iterable[Code], next_hop: Address | None, asn_octets: int
) -> Attributes:
    for code in required:
        if code not in found:
            raise Malformed(f"{code.name} is missing", 3, 3, bytes((code,)))
    values = {code: _parse_value(code, found[code]) for code in Code if code.layout.size and code in found}
    origin = values.get(Code.ORIGIN, Origin.INCOMPLETE)
    if origin > Origin.INCOMPLETE:
        raise Malformed(f"ORIGIN {origin}", 3, 6, _pack_value(Code.ORIGIN, origin))
    return Attributes(
        next_hop=next_hop or IPv4Address(values.get(Code.NEXT_HOP, 0)),
        origin=Origin(origin),
        as_path=_merge_as4_path(found, asn_octets),
        med=values.get(Code.MED),
        communities=values.get(Code.COMMUNITIES, ()),
        large_communities=values.get(Code.LARGE_COMMUNITY, ()),
    )


def _parse_value(code: Code, value: bytes) -> Any:
    """By its layout; a list without what it repeats."""
    if code.is_list and value and len(value) % code.layout.size == 0:
        return tuple(dict.fromkeys(code.layout.iter_unpack(value)))
    if not code.is_list and len(value) == code.layout.size:
        return code.layout.unpack(value)[0]
    raise Malformed(f"{code.name} of {len(value)} octets", 3, 5, _pack_attribute(code, value))


def _pack_value(code: Code, value: Any) -> bytes:
    elements = value if code.is_list else [(value,)]
    return _pack_attribute(code, b"".join(code.layout.pack(*element) for element in elements))


def _pack_attribute(code: Code, value: bytes) -> bytes:
    if len(value) > 255:
        return struct.pack("!BBH", code.flags | EXTENDED_LENGTH, code, len(value)) + value
    return bytes((code.flags, code, len(value))) + value


def _merge_as4_path(found: dict[int, bytes], asn_octets: int) -> tuple[int, ...]:
    """The AS path; from a two-octet speaker with the real numbers at its end (RFC 6793 section 4.2.3)."""
    path = _parse_as_path(found.get(Code.AS_PATH, b""), asn_octets)
    if asn_octets == 2 and Code.AS4_PATH in found:
        with suppress(Malformed):  # RFC 6793 6: discarded
            as4_path = _parse_as_path(found[Code.AS4_PATH], 4)
            if len(as4_path) <= len(path):
                return path[: len(path) - len(as4_path)] + as4_path
    return path


def _parse_as_path(data: bytes, asn_octets: int) -> tuple[int, ...]:
    """One AS for each hop: an AS_SET counts as one (RFC 4271 section 9.1.2.2 a), its lowest member stands for it."""
    path: list[int] = []
    while data:
        kind, end = data[0], 2 + asn_octets * int.from_bytes(data[1:2])
        asns = [int.from_bytes(data[at : at + asn_octets]) for at in range(2, end, asn_octets)]
        # RFC 5065 5: no confederation segments from another AS; RFC 7607 2: no AS 0
        if len(data) < end or kind not in (AS_SET, AS_SEQUENCE) or not asns or 0 in asns:
            raise Malformed("AS_PATH is malformed", 3, 11)
        path += asns if kind == AS_SEQUENCE else [min(asns)]
        data = data[end:]
    return tuple(path)


def _pack_as_path(path: tuple[int, ...], asn_format: str) -> bytes:
    segments = [path[at : at + 255] for at in range(0, len(path), 255)]
    return b"".join(struct.pack(f"!BB{len(asns)}{asn_format}", AS_SEQUENCE, len(asns), *asns) for asns in segments)


@lru_cache(maxsize=64)  # thousands of prefixes have a handful of different paths
def pack_path(family: Family, attributes: Attributes, four_octet_asn: bool) -> bytes:
    """All attributes but MP_REACH_NLRI, in ascending order."""
    path = attributes.as_path
    asns = path if four_octet_asn else tuple(asn if asn <= 0xFFFF else AS_TRANS for asn in path)
    packed = _pack_value(Code.ORIGIN, attributes.origin)
    packed += _pack_attribute(Code.AS_PATH, _pack_as_path(asns, "I" if four_octet_asn else "H"))
    if is_classic(family, attributes):
        packed += _pack_value(Code.NEXT_HOP, int(attributes.next_hop))
    if attributes.med is not None:
        packed += _pack_value(Code.MED, attributes.med)
    if attributes.communities:
        packed += _pack_value(Code.COMMUNITIES, attributes.communities)
    if asns != path:  # RFC 6793 4.2.2
        packed += _pack_attribute(Code.AS4_PATH, _pack_as_path(path, "I"))
    if attributes.large_communities:
        packed += _pack_value(Code.LARGE_COMMUNITY, attributes.large_communities)
    return packed


def is_classic(family: Family, attributes: Attributes) -> bool:
    """Whether the UPDATE of RFC 4271 can say it; everything else needs MP_REACH_NLRI."""
    return family == IPV4_UNICAST and attributes.next_hop.version == 4


def parse_reach(value: bytes) -> tuple[Address | None, tuple[Prefix, ...]]:
    """Next hop and prefixes; none when we do not know the family."""
    nlri_start = 5 + int.from_bytes(value[3:4])
    if len(value) < nlri_start:
        raise Malformed("MP_REACH_NLRI is too short", 3, 9, _pack_attribute(Code.MP_REACH_NLRI, value))
    family, next_hop = parse_family(value[:2], value[2]), value[4 : nlri_start - 1]
    if family not in (IPV4_UNICAST, IPV6_UNICAST):
        return None, ()
    if len(next_hop) not in (4, 16, 32):  # RFC 8950 3; RFC 2545 3: a link-local address may follow the global one
        what = f"next hop of {len(next_hop)} octets"
        raise Malformed(what, 3, 9, _pack_attribute(Code.MP_REACH_NLRI, value))
    address = IPv4Address(next_hop) if len(next_hop) == 4 else IPv6Address(next_hop[:16])
    return address, parse_prefixes(value[nlri_start:], family, 9)


def pack_reach(family: Family, next_hop: Address, prefixes: Iterable[Prefix]) -> bytes:
    value = struct.pack("!HBB", *family, len(next_hop.packed)) + next_hop.packed + b"\0" + pack_prefixes(prefixes)
    return _pack_attribute(Code.MP_REACH_NLRI, value)


def parse_unreach(value: bytes) -> tuple[Family, tuple[Prefix, ...]]:
    if len(value) < 3:
        raise Malformed("MP_UNREACH_NLRI is too short", 3, 9, _pack_attribute(Code.MP_UNREACH_NLRI, value))
    family = parse_family(value[:2], value[2])
    return family, parse_prefixes(value[3:], family, 9) if family in (IPV4_UNICAST, IPV6_UNICAST) else ()


def pack_unreach(family: Family, prefixes: Iterable[Prefix]) -> bytes:
    return _pack_attribute(Code.MP_UNREACH_NLRI, struct.pack("!HB", *family) + pack_prefixes(prefixes))


def parse_family(afi: bytes, safi: int) -> Family:
    return int.from_bytes(afi), safi


def parse_prefixes(data: bytes, family: Family, subcode: int) -> tuple[Prefix, ...]:
    bits, network = (32, IPv4Network) if family == IPV4_UNICAST else (128, IPv6Network)
    prefixes: list[Prefix] = []
    at = 0
    while at < len(data):
        length = data[at]
        end = at + 1 + (length + 7) // 8
        if length > bits or end > len(data):
            raise Malformed(f"a prefix of length {length} does not fit", 3, subcode)
        # RFC 4271 4.3: whatever the bits behind the prefix are
        prefixes.append(network((data[at + 1 : end].ljust(bits // 8, b"\0"), length), strict=False))
        at = end
    return tuple(prefixes)


def pack_prefixes(prefixes: Iterable[Prefix]) -> bytes:
    return b"".join(
        bytes((prefix.prefixlen,)) + prefix.network_address.packed[: (prefix.prefixlen + 7) // 8] for prefix in prefixes
    )


def family_of(prefix: Prefix) -> Family:
    return IPV4_UNICAST if prefix.version == 4 else IPV6_UNICAST
