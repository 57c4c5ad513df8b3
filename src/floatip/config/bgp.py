"""`[linode]` and `[bgp]`: the network that is announced to, and the `Speaker` that follows from both."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from floatip.config.document import closest, shown
from floatip.config.values import Delay, Ip, Ipv4, Name, Table, between, some, wrong
from floatip.core.bgp import rank
from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.trouble import Trouble
from floatip.core.events import Address
from floatip.core.settings import Speaker
from floatip.providers import LINODE_REGIONS, Provider


def _dcid(value: object) -> int:
    numbers = {region.slug: region.dcid for region in LINODE_REGIONS}
    if isinstance(value, str) and value in numbers:
        return numbers[value]
    if isinstance(value, str):
        hint = closest(value, numbers, "give the number of the data centre: dcid = 6")
        raise wrong(f"{shown(value)} is not a known region", hint)
    # lelastic refuses 0 and 1 too; the digits must fit one group of an IPv6 address.
    if type(value) is not int or not 2 <= value <= 9999:
        raise wrong(f"{shown(value)} is not the number of a data centre", 'for example 6, or its region: "us-east"')
    return value


def _community(value: object) -> tuple[int, ...]:
    """Two numbers (RFC 1997) or three (RFC 8092)."""
    parts = value.split(":") if isinstance(value, str) else []
    hint = 'two numbers up to 65535 as in "65000:1", or three up to 4294967295 for a large community'
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        raise wrong(f"{shown(value)} is not a community", hint)
    numbers = tuple(map(int, parts))
    if max(numbers) >= (1 << 16 if len(parts) == 2 else 1 << 32):
        raise wrong(f"{shown(value)} is out of range", hint)
    return numbers


def _few(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) > 32:
        raise wrong(f"{len(values)} are more than 32", "an UPDATE must have room for prefixes")
    return values


def _md5_key(value: str) -> str:
    if (octets := len(value.encode())) > 80:
        raise wrong(f"a key of {octets} octets is too long", "the kernel takes 80 octets")
    return value


def _med(value: object) -> object:
    if value is False:
        return None
    if value == "election" or (type(value) is int and 0 <= value < 1 << 32):
        return value
    raise wrong(f'{shown(value)} is not false, a number or "election"', "false sends none; a number has 32 bits")


def _next_hop(value: object) -> object:
    if value in ("session", "ipv4", "ipv6"):
        return value
    try:
        addresses = [ip_address(text if isinstance(text, str) else "") for text in value]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        addresses = []
    if not addresses or len({address.version for address in addresses}) < len(addresses):
        hint = 'one address of a family as in ["192.0.2.1", "2001:db8::1"], or "ipv4", "ipv6" or "session"'
        raise wrong(f"{shown(value)} is not a next hop", hint)
    return tuple(sorted(addresses, key=lambda address: address.version))


Asn = Annotated[int, Strict(), between(1, 2**32 - 1, "an AS number has 16 or 32 bits; 65001 is ours on Linode")]
Ttl = Annotated[int, Strict(), between(1, 255, "the TTL of a packet has 8 bits")]
Communities = Annotated[tuple[Annotated[tuple[int, ...], BeforeValidator(_community)], ...], AfterValidator(_few)]


class Linode(Table):
    dcid: Annotated[int, BeforeValidator(_dcid)] = Field(examples=[6])


class Marks(Table):
    """Where a rank does not look as the provider's profile has it."""

    communities: Communities | None = None
    origin: Literal["igp", "egp", "incomplete"] | None = None
    prepend: Annotated[int, Strict(), between(0, 10, "how many times more our AS stands in the path")] | None = None


class Ranks(Table):
    last_resort: Marks = Marks()
    standby: Marks = Marks()
    active: Marks = Marks()
    takeover: Marks = Marks()
    takeover_again: Marks = Marks()

    def __getitem__(self, which: Rank) -> Marks:
        marks: Marks = getattr(self, which.name.lower())
        return marks


class Bgp(Table):
    provider: Literal["generic", "vultr"] = "generic"
    peers: Annotated[tuple[Ip, ...], AfterValidator(some)] | None = Field(default=None, examples=[["192.0.2.254"]])
    asn: Asn | None = Field(default=None, examples=[65001])
    peer_asn: Asn | None = Field(default=None, examples=[65000])
    router_id: Ipv4 | None = None
    hold_time: Annotated[int, Strict(), between(3, 65535, "seconds (RFC 4271 section 4.2)")] | None = None
    retry_interval: Annotated[float, Strict(), between(0.1, 3600, "seconds; half a second is 0.5")] = 1.0
    source: Ip | None = None
    interface: Name | None = None
    multihop_ttl: Ttl | None = None
    min_ttl: Annotated[int, Strict(), between(1, 255, "255 for a peer on the same link, one less for each hop")] = 0
    md5: Annotated[Name, AfterValidator(_md5_key)] = ""
    next_hop: Annotated[Literal["session", "ipv4", "ipv6"] | tuple[Address, ...], BeforeValidator(_next_hop)] = (
        "session"
    )
    communities: Communities = ()
    med: Annotated[Literal["election"] | int | None, BeforeValidator(_med)] = "election"
    graceful_shutdown: Delay = 0.0
    ranks: Ranks = Ranks()

    def over(self, provider: Provider) -> Provider:
        keys = {"peers", "asn", "peer_asn", "hold_time", "multihop_ttl"}
        own = self.model_dump(exclude_none=True, include=keys)
        if self.min_ttl:
            own["multihop_ttl"] = 255  # RFC 5082 3
        return replace(provider, **own)

    def speaker(self, profile: Provider, machine: IPv4Address | None, hostname: str) -> Speaker:
        """`machine`: an IPv4 address of this machine, as router id and as next hop."""
        large = {which: self._communities(which, 3) for which in profile.marks}
        return Speaker(
            asn=profile.asn,
            peer_asn=profile.peer_asn,
            # Any number does; lelastic sends 10.0.0.1 from every node, and the route servers take it.
            router_id=self.router_id or machine or IPv4Address("10.0.0.1"),
            peers=profile.peers,
            marks=self.marks(profile.marks),
            large_communities={which: communities for which, communities in large.items() if communities},
            med=self.med,
            next_hops=self._next_hops(machine),
            hold_time=profile.hold_time,
            hostname=hostname,
            retry_interval=self.retry_interval,
            source=self.source,
            interface=self.interface or "",
            ttl=profile.multihop_ttl,
            min_ttl=self.min_ttl,
            md5=self.md5,
            graceful_shutdown=self.graceful_shutdown,
            first_repeat=profile.first_repeat,
            repeat_interval=profile.repeat_interval,
            hints=self._hints(profile),
        )

    def marks(self, profile: Mapping[Rank, rank.Marks]) -> dict[Rank, rank.Marks]:
        return {which: self._marks(which, marks) for which, marks in profile.items()}

    def _marks(self, which: Rank, marks: rank.Marks) -> rank.Marks:
        own = self.ranks[which]
        communities = marks.communities if own.communities is None else ()
        return rank.Marks(
            origin=marks.origin if own.origin is None else Origin[own.origin.upper()],
            path_length=marks.path_length if own.prepend is None else 1 + own.prepend,
            communities=tuple(dict.fromkeys((*communities, *self._communities(which, 2)))),
        )

    def _communities(self, which: Rank, numbers: int) -> tuple[Any, ...]:
        """Those of two or of three numbers that the configuration adds."""
        own = (*(self.ranks[which].communities or ()), *self.communities)
        return tuple(dict.fromkeys(community for community in own if len(community) == numbers))

    def _next_hops(self, machine: IPv4Address | None) -> tuple[Address, ...]:
        if isinstance(self.next_hop, tuple):
            return self.next_hop
        return (machine,) if self.next_hop == "ipv4" and machine else ()

    def _hints(self, profile: Provider) -> dict[Trouble, str]:
        """A wrong key or too few hops left look the same from here: silence."""
        doubts = ["; or the MD5 key does not match"] if self.md5 else []
        doubts += ["; or the TTL does not: the peer must send with 255 and be near enough for min_ttl"] * bool(
            self.min_ttl
        )
        return {**profile.hints, Trouble.TIMED_OUT: profile.hints[Trouble.TIMED_OUT] + "".join(doubts)}
