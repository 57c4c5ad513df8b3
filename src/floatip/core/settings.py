"""What the core must know of the configuration. `config.py` makes these from the file; nothing here reads anything.

Durations are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from floatip.core.bgp.rank import Marks, Rank
from floatip.core.events import Address, InterfaceAddress


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 1
    fall: int = 1
    pushed: bool = False
    """The host reports each change by itself (a file by inotify); the core never asks."""


@dataclass(frozen=True, slots=True)
class Vrrp:
    """One virtual router (RFC 9568; version 2: RFC 3768), unicast."""

    interface: str
    vrid: int
    priority: int
    source: IPv4Address
    peers: tuple[IPv4Address, ...]
    version: Literal[2, 3] = 2
    advert_interval: float = 1.0
    preempt: bool = True
    preempt_delay: float = 0.0
    auth_pass: str = ""
    """Version 2 only; the first eight octets reach the wire (RFC 2338 section 5.3.10)."""
    min_ttl: int = 0
    """Drop adverts below it; 0: no check, because unicast peers may have routers between them."""


@dataclass(frozen=True, slots=True)
class Static:
    """No election: the role is configured, as with lelastic's flags."""

    role: Literal["primary", "secondary"]


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    addresses: tuple[InterfaceAddress, ...]
    election: Vrrp | Static
    checks: tuple[str, ...] = ()
    placement: Literal["all", "master"] = "all"
    interface: str = "lo"
    """Where the addresses are held."""
    last_resort: bool = False
    """Announce at the lowest rank while sick, rather than withdraw."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Our side of the BGP sessions, and the peers: the route servers."""

    asn: int
    peer_asn: int
    router_id: IPv4Address
    peers: tuple[Address, ...]
    marks: Mapping[Rank, Marks]
    """What each rank looks like on the wire, from the provider's profile."""
    hold_time: int = 9


@dataclass(frozen=True, slots=True)
class Settings:
    checks: tuple[Check, ...] = ()
    instances: tuple[Instance, ...] = ()
    speaker: Speaker | None = None
    release_delay: float = 1.0
    """How long a stopping node keeps its addresses after it has withdrawn them."""
    seed: int = field(default=0, compare=False)
    """Spreads the reconnects of nodes that lost the same route server; the host draws it."""
