"""What the core must know of the configuration. `config` makes these from the file; nothing here reads anything.

Durations are seconds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.trouble import Trouble

LINK_PORT = 9112


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 1
    fall: int = 1
    what: str = ""
    """What is run; when a reload brings another, the check is run at once."""
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
class Keepalived:
    """The user's keepalived elects, and holds the addresses on `interface` while it is master; we follow it."""

    instance: str
    """What keepalived calls it."""
    interface: str
    vrid: int
    priority: int
    source: IPv4Address
    peers: tuple[IPv4Address, ...] = ()
    """Empty: keepalived speaks multicast, and whoever uses the vrid is a peer."""
    sync_group: str = ""
    """The members of a group that change with it are not always named by keepalived."""
    version: Literal[2, 3] = 2
    advert_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Static:
    """No election: the role is configured, as with lelastic's flags."""

    role: Literal["primary", "secondary"]


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes elect among themselves, over the link."""

    prefer: tuple[str, ...] = ()
    """Nodes, the first choice first; those that are not named come after them, spread evenly."""
    together: str = ""
    """The instances that name the same word are carried by one node, as long as it can."""
    apart: str = ""
    """The instances that name the same word are carried by different nodes, as long as there are enough."""
    preempt: bool = False
    """Whether a better node takes over from a node that carries it."""
    preempt_delay: float = 0.0


Election = Vrrp | Keepalived | Static | Nodes


@dataclass(frozen=True, slots=True)
class Node:
    """One of the nodes that know each other."""

    name: str
    address: Address
    weight: float = 1.0
    """How much it carries, beside the others; 0: nothing, unless it is preferred or nobody else is there."""


@dataclass(frozen=True, slots=True)
class Link:
    """How the nodes speak with each other."""

    nodes: tuple[Node, ...]
    """All of them, in the order of the file."""
    own: str
    """Which of them this node is."""
    keys: tuple[bytes, ...] = field(repr=False)
    """The first one signs; each is believed."""
    digest: bytes
    """Of the configuration: the first 8 octets of a SHA-256."""
    interval: float = 0.1
    port: int = LINK_PORT
    version: str = ""
    """Of floatip."""


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    addresses: tuple[InterfaceAddress, ...]
    election: Election
    checks: tuple[str, ...] = ()
    placement: Literal["all", "master", "found"] = "all"
    """Who holds the addresses; "found": not us, the host lists those that it finds and we only announce them."""
    interface: str = "lo"
    """Where the addresses are held, or found."""
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
    large_communities: Mapping[Rank, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    """Beside the marks (RFC 8092)."""
    med: Literal["election"] | int | None = "election"
    """In the order of the election, the same for every rank, or not sent."""
    next_hops: tuple[Address, ...] = ()
    """At most one of each family, before our end of the session; IPv4 prefixes can have either family (RFC 8950)."""
    hold_time: int = 9
    hostname: str = ""
    """Offered in the FQDN capability, so that the peer's operator sees a name; empty: not offered."""
    retry_interval: float = 1.0
    """Between two dials, and up to twice that."""
    source: Address | None = None
    interface: str = ""
    """The sessions leave by it, whatever the routes say; empty: no matter."""
    ttl: int = 64
    min_ttl: int = 0
    """Packets of a peer with less are dropped (RFC 5082); 0: none are."""
    md5: str = field(default="", repr=False)
    """The key of the TCP MD5 signature (RFC 2385); empty: not signed."""
    graceful_shutdown: float = 0.0
    """How long a stopping node announces with GRACEFUL_SHUTDOWN before it withdraws (RFC 8326)."""
    first_repeat: float = math.inf
    """When all routes are announced again: a route server may drop in silence what so young a session announces."""
    repeat_interval: float = math.inf
    hints: Mapping[Trouble, str] = field(default_factory=dict)
    """What to try when a session is down."""

    @property
    def opening(self) -> tuple[object, ...]:
        """What the OPEN and the TCP connection are made of. Sessions go on where it stays the same."""
        opened = (self.asn, self.peer_asn, self.router_id, self.hold_time, self.hostname)
        return (*opened, self.source, self.interface, self.ttl, self.min_ttl, self.md5)


@dataclass(frozen=True, slots=True)
class Settings:
    checks: tuple[Check, ...] = ()
    instances: tuple[Instance, ...] = ()
    speaker: Speaker | None = None
    other_vrids: frozenset[int] = frozenset()
    """Of this machine's keepalived, for instances that nobody here follows."""
    link: Link | None = None
    """None: the nodes do not know each other."""
    release_delay: float = 1.0
    """How long a stopping node keeps its addresses after it has withdrawn them."""
    seed: int = field(default=0, compare=False)
    """Spreads the reconnects of nodes that lost the same route server; the host draws it."""
    boot: int = field(default=0, compare=False)
    """Tells the datagrams of this daemon from those of its predecessors; the host draws it, and it is not 0."""
