"""The network that is announced to: a provider's profile under what the file says, and the `Speaker` that follows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Literal

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.trouble import Trouble
from floatip.core.settings import Speaker
from floatip.providers import Provider

NO_ROUTER_ID = IPv4Address("10.0.0.1")
"""Any number does; lelastic sends this one from every node, and the route servers take it."""
Community = tuple[int, ...]
NextHop = Literal["session", "ipv4", "ipv6"] | tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class RankMarks:
    """Where a rank does not look as the provider's profile has it. None: as there."""

    communities: tuple[Community, ...] | None = None
    origin: Origin | None = None
    prepend: int | None = None
    """How many times more our AS stands in the path."""


@dataclass(frozen=True, slots=True)
class Network:
    profile: Provider
    """With the figures of the file over those of the provider."""
    speaker: Speaker
    """Complete but for its router id and next hops, which may depend on the machine."""
    router_id: IPv4Address | None = None
    next_hop: NextHop = "session"

    def speak(self, machine: IPv4Address | None, hostname: str) -> Speaker:
        """`machine`: an IPv4 address of this machine, as router id and as next hop."""
        next_hops = self.next_hop if isinstance(self.next_hop, tuple) else ()
        if self.next_hop == "ipv4" and machine:
            next_hops = (machine,)
        router_id = self.router_id or machine or NO_ROUTER_ID
        return replace(self.speaker, router_id=router_id, next_hops=next_hops, hostname=hostname)


def network(
    provider: Provider,
    *,
    router_id: IPv4Address | None = None,
    next_hop: NextHop = "session",
    communities: tuple[Community, ...] = (),
    ranks: Mapping[Rank, RankMarks] | None = None,
    peers: tuple[Address, ...] | None = None,
    asn: int | None = None,
    peer_asn: int | None = None,
    hold_time: int | None = None,
    multihop_ttl: int | None = None,
    **options: Any,
) -> Network:
    """What is None is as the provider has it. `options` are fields of `Speaker` that the provider does not touch."""
    figures: dict[str, Any] = {
        "peers": peers,
        "asn": asn,
        "peer_asn": peer_asn,
        "hold_time": hold_time,
        # RFC 5082 section 3: packets that the peer may count hops of leave with 255.
        "multihop_ttl": 255 if options.get("min_ttl") else multihop_ttl,
    }
    profile = replace(provider, **{key: value for key, value in figures.items() if value is not None})
    own = {which: (ranks or {}).get(which, RankMarks()) for which in profile.marks}
    added = {which: (*(marks.communities or ()), *communities) for which, marks in own.items()}
    large = {which: _of_length(3, added[which]) for which in added}
    speaker = Speaker(
        asn=profile.asn,
        peer_asn=profile.peer_asn,
        router_id=NO_ROUTER_ID,
        peers=profile.peers,
        marks={which: _marks(profile.marks[which], own[which], added[which]) for which in own},
        large_communities={which: numbers for which, numbers in large.items() if numbers},
        hold_time=profile.hold_time,
        ttl=profile.multihop_ttl,
        first_repeat=profile.first_repeat,
        repeat_interval=profile.repeat_interval,
        hints=_hints(profile, has_key=bool(options.get("md5")), has_min_ttl=bool(options.get("min_ttl"))),
        **options,
    )
    return Network(profile, speaker, router_id, next_hop)


def _marks(marks: Marks, own: RankMarks, added: tuple[Community, ...]) -> Marks:
    kept = marks.communities if own.communities is None else ()
    return Marks(
        origin=marks.origin if own.origin is None else own.origin,
        path_length=marks.path_length if own.prepend is None else 1 + own.prepend,
        communities=tuple(dict.fromkeys((*kept, *_of_length(2, added)))),
    )


def _of_length(length: int, communities: tuple[Community, ...]) -> tuple[Any, ...]:
    """Those of two numbers (RFC 1997) or of three (RFC 8092), each once."""
    return tuple(dict.fromkeys(numbers for numbers in communities if len(numbers) == length))


def _hints(profile: Provider, *, has_key: bool, has_min_ttl: bool) -> dict[Trouble, str]:
    """A wrong key or too few hops left look the same from here: silence."""
    doubts = "; or the MD5 key does not match" * has_key
    doubts += "; or the TTL does not: the peer must send with 255 and be near enough for min_ttl" * has_min_ttl
    return {**profile.hints, Trouble.TIMED_OUT: profile.hints[Trouble.TIMED_OUT] + doubts}
