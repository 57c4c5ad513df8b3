"""BGP messages: bytes to dataclasses and back (RFC 4271 section 4), for both sides of a session.

CONTRACT STUB: to be implemented.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from floatip.core.events import Address

Prefix = IPv4Network | IPv6Network
Family = tuple[int, int]
"""AFI and SAFI (RFC 4760)."""

IPV4_UNICAST: Family = (1, 1)
IPV6_UNICAST: Family = (2, 1)
MAX_LENGTH = 4096
AS_TRANS = 23456


class Origin(IntEnum):
    """From most to least preferred (RFC 4271 section 9.1.2.2 b)."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


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
    other: tuple[int, ...] = ()
    """Codes of the capabilities that we do not know, as received."""


@dataclass(frozen=True, slots=True)
class Open:
    asn: int
    """The real AS: from the four-octet capability when it is there (RFC 6793)."""
    hold_time: int
    """Seconds; 0 or at least 3."""
    router_id: IPv4Address
    capabilities: Capabilities = Capabilities()


@dataclass(frozen=True, slots=True)
class Attributes:
    """The path attributes that a route carries, next hop included. Equal attributes may share one UPDATE."""

    next_hop: Address
    origin: Origin = Origin.INCOMPLETE
    as_path: tuple[int, ...] = ()
    med: int | None = None
    communities: tuple[tuple[int, int], ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    announced: tuple[Prefix, ...] = ()
    attributes: Attributes | None = None
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class EndOfRib:
    family: Family


@dataclass(frozen=True, slots=True)
class Notification:
    code: int
    subcode: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Keepalive:
    pass


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    family: Family


Message = Open | Update | EndOfRib | Notification | Keepalive | RouteRefresh


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole messages off the front of `buffer`; raises `Malformed` on a bad header."""
    raise NotImplementedError


def parse(data: bytes, *, four_octet_asn: bool = True) -> Message:
    """One whole message, header included."""
    raise NotImplementedError


def pack(message: Message, *, four_octet_asn: bool = True) -> bytes:
    """The inverse of `parse`; an Update too large for one message is an AssertionError, see `pack_routes`."""
    raise NotImplementedError


def pack_routes(
    announced: Iterable[tuple[Prefix, Attributes]], withdrawn: Iterable[Prefix], *, four_octet_asn: bool = True
) -> Iterator[bytes]:
    """UPDATEs of at most 4096 octets that say all this: equal attributes and family share one, in order."""
    raise NotImplementedError


def explain(notification: Notification) -> str:
    """What a NOTIFICATION means, in words, with the peer's own text (RFC 9003) made safe to print."""
    raise NotImplementedError
