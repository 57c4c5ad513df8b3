"""The UPDATE message (RFC 4271 section 4.3): prefixes announced with their attributes, and prefixes withdrawn.

Errors that RFC 7606 answers by treat-as-withdraw are no errors here: they give an Update that withdraws the prefixes.
What each attribute and prefix looks like is in `attributes`; the header is `wire`'s.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import (
    IPV4_UNICAST,
    Attributes,
    Code,
    Family,
    Prefix,
    family_of,
    is_classic,
    pack_path,
    pack_prefixes,
    pack_reach,
    pack_unreach,
    parse_attributes,
    parse_prefixes,
    parse_reach,
    parse_unreach,
    split_attributes,
)
from floatip.core.malformed import Malformed

OVERHEAD = 4 + 4 + 5 + 16
"""The two lengths of an UPDATE, and an MP_REACH_NLRI with an IPv6 next hop."""


@dataclass(frozen=True, slots=True)
class Update:
    announced: tuple[Prefix, ...] = ()
    attributes: Attributes | None = None
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class EndOfRib:
    family: Family


def split_update(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Withdrawn routes, attributes, NLRI: the framing (RFC 4271 section 6.3), whatever is in them."""
    withdrawn_end = 2 + int.from_bytes(body[:2])
    attributes_start = withdrawn_end + 2
    attributes_end = attributes_start + int.from_bytes(body[withdrawn_end:attributes_start])
    if len(body) < attributes_end:
        raise Malformed("the withdrawn routes or attributes overrun the UPDATE", 3, 1)
    return body[2:withdrawn_end], body[attributes_start:attributes_end], body[attributes_end:]


def parse_update(body: bytes, asn_octets: int) -> Update | EndOfRib:
    withdrawn_routes, path_attributes, nlri = split_update(body)
    if len(body) == 4:
        return EndOfRib(IPV4_UNICAST)
    withdrawn = parse_prefixes(withdrawn_routes, IPV4_UNICAST, 10)
    announced = parse_prefixes(nlri, IPV4_UNICAST, 10)
    required: tuple[Code, ...] = (Code.ORIGIN, Code.AS_PATH, Code.NEXT_HOP) if announced else ()
    next_hop: Address | None = None
    found, error = split_attributes(path_attributes)
    if Code.MP_UNREACH_NLRI in found:
        family, unreachable = parse_unreach(found[Code.MP_UNREACH_NLRI])
        withdrawn += unreachable
        if len(found) == 1 and len(found[Code.MP_UNREACH_NLRI]) == 3 and not (withdrawn or announced or error):
            return EndOfRib(family)
    if Code.MP_REACH_NLRI in found:
        next_hop, reachable = parse_reach(found[Code.MP_REACH_NLRI])
        announced += reachable
        required = required or (Code.ORIGIN, Code.AS_PATH)
    try:
        if error:
            raise error
        attributes = parse_attributes(found, required, next_hop, asn_octets)
    except Malformed:
        if not required:  # RFC 7606 5.2: no route that could be treated as withdrawn
            raise
        return Update(withdrawn=withdrawn + announced)
    return Update(announced, attributes if announced else None, withdrawn)


def pack_update(update: Update, four_octet_asn: bool) -> bytes:
    """IPv4 is withdrawn by the field of RFC 4271 4.3, the form that every peer knows; IPv6 by MP_UNREACH_NLRI.

    RFC 7606 5.1: MP_UNREACH_NLRI or MP_REACH_NLRI is the first attribute.
    """
    assert update.announced or update.withdrawn, "an UPDATE that says nothing is an End-of-RIB"
    withdrawn, attributes, nlri = b"", b"", b""
    if update.withdrawn:
        (family,) = set(map(family_of, update.withdrawn))
        if family == IPV4_UNICAST:
            withdrawn = pack_prefixes(update.withdrawn)
        else:
            attributes = pack_unreach(family, update.withdrawn)
    if update.announced:
        assert update.attributes is not None, "routes have attributes"
        (family,) = set(map(family_of, update.announced))
        if is_classic(family, update.attributes):
            nlri = pack_prefixes(update.announced)
        else:
            attributes += pack_reach(family, update.attributes.next_hop, update.announced)
        attributes += pack_path(family, update.attributes, four_octet_asn)
    return _pack_body(withdrawn, attributes, nlri)


def pack_end_of_rib(family: Family) -> bytes:
    """RFC 4724 2: the empty UPDATE for IPv4, an empty MP_UNREACH_NLRI for the rest."""
    return _pack_body(attributes=b"" if family == IPV4_UNICAST else pack_unreach(family, ()))


def _pack_body(withdrawn: bytes = b"", attributes: bytes = b"", nlri: bytes = b"") -> bytes:
    return len(withdrawn).to_bytes(2) + withdrawn + len(attributes).to_bytes(2) + attributes + nlri


def fill_updates(
    announced: Iterable[tuple[Prefix, Attributes]], withdrawn: Iterable[Prefix], size: int, four_octet_asn: bool
) -> Iterator[Update]:
    """UPDATEs of at most `size` octets that say all this: equal attributes and family share one, IPv4 first."""
    for _, prefixes in groupby(sorted(withdrawn, key=family_of), family_of):
        for batch in _fill(prefixes, size - OVERHEAD):
            yield Update(withdrawn=batch)
    by_family = sorted(announced, key=lambda route: family_of(route[0]))
    for (family, attributes), routes in groupby(by_family, lambda route: (family_of(route[0]), route[1])):
        room = size - OVERHEAD - len(pack_path(family, attributes, four_octet_asn))
        for batch in _fill((prefix for prefix, _ in routes), room):
            yield Update(batch, attributes)


def _fill(prefixes: Iterable[Prefix], room: int) -> Iterator[tuple[Prefix, ...]]:
    """As many prefixes at a time as `room` octets hold."""
    batch: list[Prefix] = []
    left = room
    for prefix in prefixes:
        octets = 1 + (prefix.prefixlen + 7) // 8
        assert octets <= room, "the attributes leave no room for a prefix"
        if octets > left:
            yield tuple(batch)
            batch, left = [], room
        batch.append(prefix)
        left -= octets
    yield tuple(batch)
