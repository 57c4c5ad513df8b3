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
SECOND_CHANCE_PORT = 8473
MOST_NODES, MOST_INSTANCES = 64, 4096
"""That nodes elect among themselves, and for. docs/reference/limits.md says what was tried."""


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
    master_rise: int = 0
    """In place of `rise` while this node is master of an instance that has the check; 0: as `rise`."""
    master_fall: int = 0
    fast_interval: float = 0.0
    """In place of `interval` while results differ from the verdict; 0: as `interval`."""
    inverted: bool = False
    """A run that fails passes."""
    initial: Literal["unknown", "up", "down"] = "unknown"
    """The verdict before the first result. From another than "unknown", `rise` and `fall` count."""
    rise_delay: float = 0.0
    """Seconds for which it must pass before it is up."""
    fall_delay: float = 0.0
    of: tuple[str, ...] = ()
    """Other checks, of which `quorum` must be up; nothing is run."""
    quorum: int = 1
    sessions: int = 0
    """So many BGP sessions must be up; nothing is run."""


@dataclass(frozen=True, slots=True)
class Track:
    """What a check does to the priority of an instance or a sync group (keepalived.conf(5), track_script)."""

    check: str
    weight: int = 0
    """Above 0: added while the check is up. Below 0: taken off while it is down. 0: a fault while it is down.

    Of a check that gives a number (`track_file`): what the number is multiplied with; 0: a fault unless it is 0.
    """
    reverse: bool = False
    """What would be added is taken off, and the other way round. With weight 0: a fault while the check is up."""


@dataclass(frozen=True, slots=True)
class Garps:
    """When a master tells its layer-2 neighbours where the addresses are (keepalived.conf(5), garp_*)."""

    repeat: int = 5
    """How often at once, when it becomes master."""
    delay: float = 5.0
    """Seconds until it does so once more; 0: it does not."""
    lower_repeat: int = 5
    """The same after an advert of a lower master."""
    lower_delay: float = 5.0
    refresh: float = 0.0
    """Seconds between two times while it is master; 0: it does not."""
    refresh_repeat: int = 1
    interval: float = 0.0
    """Seconds between two packets (gratuitous ARP) on one interface."""
    gna_interval: float = 0.0
    """The same for IPv6."""


@dataclass(frozen=True, slots=True)
class Hmac:
    """The trailer of draft-cassen-vrrp-auth-hmac, as keepalived 2.4 has it."""

    keys: tuple[tuple[int, bytes], ...] = field(repr=False)
    """Key ids (0 to 255) and keys, 32 to 64 octets."""
    active: int
    """The id of the one that signs."""
    mode: Literal["receive-only", "permissive", "enforce"] = "enforce"
    """Verify what is signed and do not sign; sign, and accept what is unsigned; sign, and accept nothing else."""
    window: float = 0.0
    """Seconds by which the clocks may differ, 1 to 300; 0: three advert intervals, at least 5."""
    monotonic: bool = False
    """Sequence numbers only grow, and are never taken back to the clock (`anti_replay monotonic`)."""


@dataclass(frozen=True, slots=True)
class Vrrp:
    """One virtual router (RFC 9568; version 2: RFC 3768), over IPv4 or IPv6, unicast or multicast."""

    interface: str
    vrid: int
    priority: int
    """Of the configuration; what checks add and take off is not in it."""
    source: Address
    peers: tuple[Address, ...]
    """Empty: multicast, to `group`."""
    version: Literal[2, 3] = 2
    advert_interval: float = 1.0
    preempt: bool = True
    preempt_delay: float = 0.0
    auth_pass: str = ""
    """Version 2 over IPv4 only; the first eight octets reach the wire (RFC 2338 section 5.3.10)."""
    min_ttl: int = 0
    """Drop adverts below it; 0: no check, because unicast peers may have routers between them.

    Multicast adverts must have 255 (RFC 9568 section 7.1).
    """
    max_ttl: int = 255
    ttl: int = 255
    """Of unicast adverts that are sent (`unicast_ttl`)."""
    group: Address | None = None
    """None: 224.0.0.18 or ff02::12 (RFC 9568 section 5.1)."""
    begins_as_master: bool = False
    """`state MASTER`: the first wait is one advert interval and a skew of the highest priority."""
    down_timer_adverts: int = 3
    """So many adverts are missed before a master is gone."""
    startup_delay: float = 0.0
    """Seconds after the start in which adverts are dropped and nothing is claimed (`vrrp_startup_delay`)."""
    tracks_interface: bool = True
    """Whether it is in FAULT while its interface is down (`dont_track_primary`)."""
    sends_before_yielding: bool = False
    """One more advert to a better master (`higher_prio_send_advert`)."""
    answers_lower: bool = True
    """An advert at once to a lower master (`lower_prio_no_advert`)."""
    owner_ignores_adverts: bool = False
    checksum_as_v2: bool = False
    """Version 3 over IPv4 without the pseudo-header (`v3_checksum_as_v2`, RFC 9568 section 5.2.8)."""
    checks_source: bool = True
    """Unicast adverts come from `peers` only (`check_unicast_src`)."""
    hmac: Hmac | None = None
    garps: Garps = Garps()


@dataclass(frozen=True, slots=True)
class Keepalived:
    """The user's keepalived elects, and holds the addresses on `interface` while it is master; we follow it."""

    instance: str
    """What keepalived calls it."""
    interface: str
    vrid: int
    priority: int
    source: Address
    peers: tuple[Address, ...] = ()
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
    exclusive: bool = False
    """At most one node holds or announces it, at any instant: only with etcd, and only placement "master"."""
    on_arbiter_loss: Literal["hold", "release"] = "hold"
    """Where etcd does not answer: go on by the link, or leave it when the lease is over. An exclusive one leaves it."""


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
class Arbiter:
    """etcd decides who has which instance; see `core/arbiter.py`."""

    machine: str
    """Tells the machines apart, and each boot of one (/proc/sys/kernel/random/boot_id)."""
    fleet: str
    """Tells the fleets apart: a fingerprint of the key of the link."""
    lease_time: float = 10.0
    """Seconds after which a node that etcd has not answered has nothing exclusive, and another may have it."""
    keepalive_interval: float = 1.0
    request_timeout: float = 1.5
    registers: bool = False
    """Whether the nodes are those that register: the others may not know this one yet, and not speak with it."""
    version: str = ""
    """Of floatip."""
    older: tuple[str, ...] = ()
    """Fingerprints of other keys that are believed, while the key is replaced."""
    prefix: str = ""
    """Of all keys at etcd, for people: the core's keys are without it."""


@dataclass(frozen=True, slots=True)
class SecondChance:
    """How open connections survive a planned move: the carrier of an address passes them on to the node before it."""

    port: int = SECOND_CHANCE_PORT
    """UDP, of the tunnel between the nodes."""
    limit: float = 600.0
    """Seconds after a move in which open connections are passed on, at most."""
    is_wanted: bool = False
    """What stands in the way is a problem; without it, the nodes move addresses as if this were off."""
    may_be_direct: bool = False
    """Answers may leave the node that has the connections by its own way, where a probe has proven that they arrive."""


@dataclass(frozen=True, slots=True)
class AddressOptions:
    """What is special about one address of an instance."""

    address: InterfaceAddress
    interface: str = ""
    """Empty: as the instance's."""
    label: str = ""
    """Of IPv4 (`ip address ... label`)."""
    scope: int | None = None
    """RT_SCOPE_...; None: as the kernel chooses."""
    is_advertised: bool = True
    """False: held like the others, and in no advert (`virtual_ipaddress_excluded`)."""
    is_tracked: bool = True
    """False: `no_track`. What others remove is added again, and no mastership ends by it, either way."""
    preferred_lft: int | None = None
    """Seconds for which an IPv6 address is preferred as a source, 2^32 - 1 without limit; None: 0, it is no source."""


@dataclass(frozen=True, slots=True)
class Virtual:
    """A route or rule that moves with an instance (`virtual_routes`, `virtual_rules`)."""

    kind: Literal["route", "rule"]
    words: tuple[str, ...]
    """As ip-route(8) or ip-rule(8) have them, with the interface named."""
    is_tracked: bool = True


@dataclass(frozen=True, slots=True)
class SyncGroup:
    """Instances of VRRP that change state together (`vrrp_sync_group`)."""

    name: str
    members: tuple[str, ...]
    """Names of instances."""
    checks: tuple[str, ...] = ()
    tracks: tuple[Track, ...] = ()
    members_have_weights: bool = False
    """`sync_group_tracking_weight`: weighted tracks of its members count for each of them alone."""


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
    tracks: tuple[Track, ...] = ()
    """Checks that move its priority, or whose success is a fault; `checks` are those whose failure is one."""
    options: tuple[AddressOptions, ...] = ()
    """Of the addresses that have any."""
    virtuals: tuple[Virtual, ...] = ()
    """There while it is master, in this order."""
    is_announced: bool = True
    """By BGP, where there are route servers."""

    @property
    def may_have_second_chance(self) -> bool:
        """Whether a node that has handed it over still holds the addresses, and can go on with open connections."""
        is_exclusive = isinstance(self.election, Nodes) and self.election.exclusive
        return self.placement == "all" and isinstance(self.election, Nodes | Vrrp) and not is_exclusive


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
    sync_groups: tuple[SyncGroup, ...] = ()
    speaker: Speaker | None = None
    other_vrids: frozenset[int] = frozenset()
    """Of this machine's keepalived, for instances that nobody here follows."""
    link: Link | None = None
    """None: the nodes do not know each other."""
    arbiter: Arbiter | None = None
    """None: the nodes decide among themselves."""
    second_chance: SecondChance | None = None
    """None: a planned move resets open connections."""
    release_delay: float = 1.0
    """How long a stopping node keeps its addresses after it has withdrawn them."""
    seed: int = field(default=0, compare=False)
    """Spreads the reconnects of nodes that lost the same route server; the host draws it."""
    boot: int = field(default=0, compare=False)
    """Tells the datagrams of this daemon from those of its predecessors; the host draws it, and it is not 0."""
