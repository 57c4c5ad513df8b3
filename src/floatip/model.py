"""What the daemon runs from, whichever file it was read from: plain data with its defaults. Durations are seconds."""

import hmac
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Literal

import floatip
from floatip.core import settings as core
from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.trouble import Trouble
from floatip.core.state import NetworkView
from floatip.providers import LINODE_REGIONS, Provider

Placement = Literal["all", "master"]
PRIORITY = 100
HTTP_PORT = 8179
"""TCP; outside of 9100 to 9999, where exporters are."""
PREFIX = "/floatip/"
"""At etcd."""
OWN_INTERFACE = ""
"""Of an instance: the one that has this node's own address, once that is found."""
NO_ROUTER_ID = IPv4Address("10.0.0.1")
"""Any number does; lelastic sends this one from every node, and the route servers take it."""
Community = tuple[int, ...]
NextHop = Literal["session", "ipv4", "ipv6"] | tuple[Address, ...]


# A check: what is looked at, one class a kind, and the policy by which the core judges the results


@dataclass(frozen=True, slots=True)
class RunAs:
    """Whose rights a command has."""

    user: str = ""
    """Empty: the daemon's."""
    group: str = ""
    """Empty: the user's own, and all others that it is in."""


DAEMON = RunAs()


@dataclass(frozen=True, slots=True)
class Script:
    """Passes when the program exits with status 0."""

    argv: tuple[str, ...]
    run_as: RunAs = DAEMON

    @property
    def what(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Tcp:
    """Passes when a connection opens."""

    host: str
    """An address, or `localhost`: a check must not hang on a name server."""
    port: int

    @property
    def what(self) -> str:
        return f"{self.host} {self.port}"


@dataclass(frozen=True, slots=True)
class File:
    """Watched: the host reports each change, the core never asks."""

    path: Path
    fail_when: Literal["present", "absent"] = "present"


@dataclass(frozen=True, slots=True)
class Value:
    """Watched: a file with a number (`track_file`). The number goes to the core; 0 passes."""

    path: Path
    initial: int | None = None
    """Written at the start where the file is missing (`init_file`)."""
    overwrite: bool = False
    """Written at each start."""


@dataclass(frozen=True, slots=True)
class Process:
    """Watched. `process` is the name that `pgrep -x` finds, or the absolute path of a pid file."""

    process: str
    quorum: int = 1
    """So many processes at least. Of a pid file: 1."""
    quorum_max: int | None = None
    """At most so many; 0: none may run."""
    command: tuple[str, ...] = ()
    """The command line of the process (`full_command`); empty: the name alone counts."""
    param_match: Literal["exact", "initial", "partial"] = "exact"
    """How the parameters of `command` are compared (`param_match`)."""


@dataclass(frozen=True, slots=True)
class Http:
    """Passes when an HTTP or HTTPS request is answered as wanted."""

    url: str
    """The host is an address or `localhost`, unless `address` is given."""
    address: str = ""
    """To connect to, in place of the host of the URL."""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    """Ranges, both ends included. A redirect is not followed."""
    body: str = ""
    """A regular expression that is found in the first 64 KiB of the body; empty: any body."""
    header: tuple[tuple[str, str], ...] = ()
    """Headers of the answer: name, and a regular expression that is found in the value."""
    verify: bool = True
    """Whether the certificate must be valid for the name and trusted here."""
    ca: Path | None = None
    certificate_days: int = 0
    """The certificate is valid for at least so many days more; 0: not asked."""


@dataclass(frozen=True, slots=True)
class Dns:
    """Passes when a name server answers."""

    server: str
    """An address."""
    name: str = "."
    type: str = "SOA"
    port: int = 53
    answer: str = ""
    """One of the answers, as text; empty: any answer, also that there is no such name."""


@dataclass(frozen=True, slots=True)
class Icmp:
    """Passes when an echo request is answered."""

    host: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """Watched: passes while the interface is there and up (IFF_UP and IFF_RUNNING)."""

    name: str


@dataclass(frozen=True, slots=True)
class Haproxy:
    """Passes when a backend of HAProxy has so many servers up, by its stats socket."""

    socket: Path
    backend: str
    servers: int = 1


@dataclass(frozen=True, slots=True)
class Bgp:
    """Passes while so many BGP sessions of this node are up. The core knows; nothing is looked at."""

    sessions: int = 1


@dataclass(frozen=True, slots=True)
class Systemd:
    """Watched by D-Bus: passes while the unit is active."""

    unit: str


@dataclass(frozen=True, slots=True)
class Quorum:
    """Passes while so many of other checks are up. The core knows; nothing is looked at."""

    of: tuple[str, ...]
    quorum: int


Kind = Script | Tcp | File | Value | Process | Http | Dns | Icmp | Interface | Haproxy | Bgp | Systemd | Quorum


WATCHED = File, Value, Process, Interface, Systemd
"""They answer at each change, and are never asked."""


@dataclass(frozen=True, slots=True)
class Check:
    policy: core.Check
    kind: Kind | None
    """None: refused. Such a check is looked at by the rules and never run."""

    @property
    def name(self) -> str:
        return self.policy.name


def check(name: str, kind: Kind | None, **policy: Any) -> Check:
    """`policy`: fields of `core.Check` that do not follow from the kind."""
    match kind:
        case Quorum(of, quorum):
            follows: dict[str, Any] = {"of": of, "quorum": quorum}
        case Bgp(sessions):
            follows = {"sessions": sessions}
        case Script() | Tcp():
            follows = {"what": kind.what}
        case None:
            follows = {}
        case _:
            follows = {"pushed": True} if isinstance(kind, WATCHED) else {"what": repr(kind)}
    return Check(core.Check(name, **follows, **policy), kind)


# An instance of the core


def usual_version(source: Address) -> Literal[2, 3]:
    """Of VRRP: version 2 has no IPv6 (RFC 3768)."""
    return 3 if source.version == 6 else 2


def instance(
    name: str,
    addresses: tuple[InterfaceAddress, ...],
    election: core.Election,
    *,
    has_bgp: bool,
    placement: Placement | None = None,
    interface: str | None = None,
    **others: object,
) -> core.Instance:
    """Without BGP only the master can hold an address, and it does so on the interface where the nodes meet."""
    is_announced = has_bgp and bool(others.get("is_announced", True))
    placement = placement or usual_placement(has_bgp=is_announced, exclusive=is_exclusive(election))
    interface = interface or usual_interface(election, placement)
    figures: dict[str, Any] = {"placement": placement, "interface": interface, **others}
    return core.Instance(name, addresses, election, **figures)


def usual_placement(*, has_bgp: bool, exclusive: bool = False) -> Placement:
    return "all" if has_bgp and not exclusive else "master"


def is_exclusive(election: core.Election) -> bool:
    return isinstance(election, core.Nodes) and election.exclusive


def usual_interface(election: core.Election, placement: Placement) -> str:
    if placement == "master" and isinstance(election, core.Vrrp):
        return election.interface
    return OWN_INTERFACE if placement == "master" and isinstance(election, core.Nodes) else "lo"


# The network that is announced to: a provider's profile under what the file says, and the `Speaker` that follows


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
    speaker: core.Speaker
    """Complete but for its router id and next hops, which may depend on the machine."""
    router_id: IPv4Address | None = None
    next_hop: NextHop = "session"

    @property
    def view(self) -> NetworkView:
        dcid = self.profile.dcid
        place = next((region.place for region in LINODE_REGIONS if region.dcid == dcid), "")
        return NetworkView(self.profile.name, dcid or None, place)

    def speak(self, machine: IPv4Address | None) -> core.Speaker:
        """`machine`: an IPv4 address of this machine, as router id and as next hop."""
        next_hops = self.next_hop if isinstance(self.next_hop, tuple) else ()
        if self.next_hop == "ipv4" and machine:
            next_hops = (machine,)
        router_id = self.router_id or machine or NO_ROUTER_ID
        return replace(self.speaker, router_id=router_id, next_hops=next_hops)


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
    """What is None is as the provider has it. `options`: fields of `core.Speaker` that the provider does not touch."""
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
    speaker = core.Speaker(
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


# The nodes that know each other


@dataclass(frozen=True, slots=True)
class Link:
    interval: float = 0.1
    port: int = core.LINK_PORT
    key: Path | None = None
    """None: the file `key` beside the configuration."""


@dataclass(frozen=True, slots=True)
class Here:
    """Which of the nodes this machine is, and what the file of the key has here."""

    node: core.Node
    interface: str
    """The one that has the node's address."""
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    """The first one signs, each is believed; none: the file was not read."""


# etcd, which decides who has what, and where the fleet's part of the configuration may be


@dataclass(frozen=True, slots=True)
class Etcd:
    endpoints: tuple[str, ...]
    """URLs of its members, such as `https://192.0.2.1:2379`."""
    prefix: str = PREFIX
    """Of all keys of this fleet; it ends with a slash."""
    ca: Path | None = None
    """None: the system's."""
    certificate: Path | None = None
    key: Path | None = None
    user: str = ""
    password: Path | None = None
    """The file with the password of `user`."""
    lease_time: float = 10.0
    keepalive_interval: float = 1.0
    request_timeout: float = 1.5


@dataclass(frozen=True, slots=True)
class Member:
    """This node, where no [[node]] is in the file: it registers itself at etcd."""

    name: str = ""
    """Empty: the machine's host name."""
    address: Address | None = None
    """None: the one with which it reaches etcd."""
    weight: float = 1.0


# Open connections at a planned move


@dataclass(frozen=True, slots=True)
class SecondChance:
    mode: Literal["off", "on", "auto"] = "auto"
    """"auto": where it works, and silent where it does not."""
    port: int = core.SECOND_CHANCE_PORT
    limit: float = 600.0
    answers: Literal["tunnel", "auto"] = "tunnel"
    """"auto": not through the tunnel where a probe has proven that they arrive without it."""


# All of it: what a configuration says, and the core's settings that follow from it


@dataclass(frozen=True, slots=True)
class LocalKeepalived:
    """The keepalived of this machine, whichever instances follow it."""

    fifo: Path = Path("/run/keepalived/floatip")
    pid_file: Path = Path("/run/keepalived.pid")
    vrrp_pid_file: Path = Path("/run/vrrp.pid")
    script_user: str = ""
    """Who besides root may run `floatip notify`; empty: nobody."""
    other_vrids: tuple[int, ...] = ()
    """Of instances that keepalived has and none here follows."""


@dataclass(frozen=True, slots=True)
class Notify:
    """A command that runs at each change of role of each instance, and one that runs when this node is empty."""

    command: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()
    """Runs when all that an administrator has moved away has gone, with its open connections; empty: none."""
    timeout: float = 5.0


NotifyEvent = Literal["master", "backup", "fault", "stop", "deleted", "master_rx_lower_pri", "any"]


@dataclass(frozen=True, slots=True)
class Told:
    """A command that runs at one event of one instance or sync group (keepalived.conf(5), notify_...)."""

    kind: Literal["INSTANCE", "GROUP"]
    name: str
    event: NotifyEvent
    """"any": `notify`, which is given the kind, the name, the state and the priority, after the command of the state.
    The others are given only the words of their own command."""
    command: tuple[str, ...]
    run_as: RunAs = DAEMON
    timeout: float = 0.0
    """0: it may run until the next command of the same instance or group is due, and 30 s more."""


@dataclass(frozen=True, slots=True)
class Fifo:
    """A FIFO that gets a line for each change, in keepalived's form (`notify_fifo`)."""

    path: Path
    owner: RunAs = DAEMON
    script: tuple[str, ...] = ()
    """Started with the path as its last argument, and again when it ends (`notify_fifo_script`)."""
    run_as: RunAs = DAEMON
    on_reload: bool = False
    """All states are written after a reload (`fifo_write_vrrp_states_on_reload`)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """The listener for browsers and Prometheus."""

    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", HTTP_PORT),)
    """An address and a port."""
    token: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """None: the file of the certificate has it."""
    client_ca: Path | None = None
    hosts: tuple[str, ...] = ()
    """Names by which it may be asked, besides those of the loopback and the address that was connected to."""

    def open_listeners(self) -> list[tuple[str, int]]:
        """Those that other machines reach."""
        return [each for each in self.listen if not ip_address(each[0]).is_loopback]


@dataclass(frozen=True, slots=True)
class Model:
    checks: tuple[Check, ...] = ()
    instances: tuple[core.Instance, ...] = ()
    sync_groups: tuple[core.SyncGroup, ...] = ()
    network: Network | None = None
    """None: nothing is announced by BGP."""
    nodes: tuple[core.Node, ...] = ()
    """All that know each other; none: they do not."""
    link: Link = Link()
    etcd: Etcd | None = None
    """None: the nodes decide among themselves."""
    member: Member | None = None
    """None: all nodes are in the file."""
    second_chance: SecondChance | None = None
    """None: off."""
    keepalived: LocalKeepalived = LocalKeepalived()
    notify: Notify | None = None
    told: tuple[Told, ...] = ()
    fifos: tuple[Fifo, ...] = ()
    tells_priorities: frozenset[str] = frozenset()
    """Instances of which FIFOs and commands are told each change of the priority (`notify_priority_changes`)."""
    log: str = "text"
    """"text", which has fields where it goes to the journal, or "json"."""
    http: Listener | None = None
    """None: nothing listens."""
    state_log: Path | None = None
    release_delay: float = core.Settings().release_delay

    def settings(
        self,
        seed: int = 0,
        router_id: IPv4Address | None = None,
        here: Here | None = None,
        boot: int = 0,
        machine: str = "",
    ) -> core.Settings:
        """What the core needs. `router_id` is an IPv4 address of this machine, used when the file has none.

        `machine`: the boot id of this machine.
        """
        own = here.node.address if here and isinstance(here.node.address, IPv4Address) else None
        return core.Settings(
            checks=tuple(check.policy for check in self.checks),
            instances=self.instances,
            sync_groups=self.sync_groups,
            speaker=self.network.speak(self.source or own or router_id) if self.network else None,
            other_vrids=frozenset(self.keepalived.other_vrids),
            link=self._link(here) if here else None,
            arbiter=self._arbiter(here, machine) if here else None,
            second_chance=self._second_chance() if here else None,
            release_delay=self.release_delay,
            seed=seed,
            boot=boot,
        )

    def _link(self, here: Here) -> core.Link:
        figures = self.link.interval, self.link.port, floatip.__version__
        return core.Link(self.nodes, here.node.name, here.keys, self.digest, *figures)

    def _arbiter(self, here: Here, machine: str) -> core.Arbiter | None:
        if not self.etcd:
            return None
        times = self.etcd.lease_time, self.etcd.keepalive_interval, self.etcd.request_timeout
        figures = *times, self.member is not None
        keys = [*map(fingerprint, here.keys)] or [""]
        return core.Arbiter(machine, keys[0], *figures, floatip.__version__, tuple(keys[1:]), self.etcd.prefix)

    def _second_chance(self) -> core.SecondChance | None:
        one = self.second_chance
        if not one or one.mode == "off":
            return None
        return core.SecondChance(one.port, one.limit, one.mode == "on", one.answers == "auto")

    @property
    def digest(self) -> bytes:
        """Of what must be the same on all nodes: the first 8 octets of a SHA-256."""
        return sha256(self._alike().encode()).digest()[:8]

    def _alike(self) -> str:
        """What must be the same on all nodes, in one form, however the file writes it.

        Route servers, sources and the router id may differ, and so may an election by VRRP or keepalived. Members come
        and go, so they are not in it.
        """
        instances = [
            (
                *(one.name, one.addresses, one.checks, one.tracks, one.placement, one.is_announced),
                [each.address for each in one.options if not each.is_advertised],
                isinstance(one.election, core.Nodes) and one.election,
            )
            for one in self.instances
        ]
        network = self.network and (
            self.network.profile.name,
            self.network.profile.dcid,
            self.network.speaker.med,
            self.network.speaker.marks,
            self.network.speaker.large_communities,
        )
        second_chance = self._second_chance()
        return json.dumps(
            (
                *(() if self.member else self.nodes, self.link.interval, self.checks, instances, self.sync_groups),
                *(network, self.etcd and (self.etcd.prefix, self.etcd.lease_time)),
                # Nothing where it is off: a node of a version that does not know it has the same digest.
                *([(second_chance.is_wanted, second_chance.port)] if second_chance else ()),
            ),
            default=_plain,
            sort_keys=True,
        )

    def on(self, interface: str) -> "Model":
        """With this as the one of this node's own address."""
        instances = (
            replace(one, interface=interface) if one.interface == OWN_INTERFACE else one for one in self.instances
        )
        return replace(self, instances=tuple(instances))

    @property
    def source(self) -> IPv4Address | None:
        """The first with which an instance takes part in an election."""
        elections = (instance.election for instance in self.instances)
        sources = (one.source for one in elections if isinstance(one, core.Vrrp | core.Keepalived))
        return next((source for source in sources if isinstance(source, IPv4Address)), None)


def fingerprint(key: bytes) -> str:
    """Tells fleets apart by the key of their link, and says nothing of it."""
    return hmac.digest(key, b"floatip: whose prefix at etcd", "sha256")[:8].hex()


def _plain(value: Any) -> object:
    """What JSON has no form for."""
    if is_dataclass(value):
        return type(value).__name__, *(getattr(value, one.name) for one in fields(value))
    return str(value)
