"""The state of a node as typed values: for each thing its value, for how long, and because of what.

`floatip status --json` prints it, the control socket carries it, and whoever reads it (the screen, `adopt`, the lab)
reads it back into the same types. `core/snapshot.py` makes it. Ages are seconds. A name that Python reserves has an
underscore here and none in the JSON.
"""

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from floatip.core.problems import Severity

FRESH_SESSION = 30.0
"""Seconds: route servers may silently drop what a younger session announces."""
T = TypeVar("T")
PLAIN = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Standing:
    value: str
    """Which one, as in `master`, `up`, `standby`."""
    for_: float
    """For so many seconds."""
    reason: str
    """A sentence: why."""


@dataclass(frozen=True, slots=True)
class AddressView:
    address: str
    """With its prefix length."""
    interface: str
    """On which it is, or is to be; empty: none yet."""
    held: bool
    """The kernel has it here."""
    announced_to: int
    """How many route servers have been told."""


@dataclass(frozen=True, slots=True)
class TrackView:
    """A check that moves the priority of an instance, or whose success is a fault."""

    check: str
    """Its name."""
    weight: int
    """0: no priority, a fault."""
    reverse: bool
    """Its success counts as its failure."""
    shift: int
    """What it adds to the priority now."""


@dataclass(frozen=True, slots=True)
class OwnerView:
    """What etcd says of an instance."""

    exclusive: bool
    """At most one node holds it, at any instant."""
    owner: str
    """The node that owns it; empty: nobody, or not known yet."""
    own: bool
    """It is this daemon."""
    alive: bool
    """The owner lives, as far as etcd or the link knows."""
    epoch: int
    """When the owner took over: milliseconds since the epoch, and greater than of every owner before; 0: no owner."""
    released: bool
    """The owner has let go."""
    why: str
    """Why the owner took over, as it says."""
    asked: bool
    """This node has asked etcd for it, and waits for the answer."""
    waits_for: str
    """The node from which this one took it, and which may still hold it; empty: none."""
    free_at: float | None
    """This node owns it, and may hold it then at the latest: seconds of CLOCK_MONOTONIC, as `monotonic`; None: it is
    not the owner, or has nothing to wait for."""


@dataclass(frozen=True, slots=True)
class InstanceView:
    name: str
    """As configured."""
    role: Standing
    """`master`, `backup`, `fault` or `init`."""
    health: Standing
    """`up`, `down` or `unknown`."""
    rank: Standing
    """`none`, `last-resort`, `standby`, `active`, `takeover` or `takeover-again`."""
    master: str | None
    """Who is master elsewhere, as far as we hear."""
    election: str
    """Who elects: `nodes`, `vrrp`, `keepalived` or `static`."""
    priority: int | None
    """The effective one: with what checks add and take off."""
    vrid: int | None
    """Of VRRP; None: another election."""
    dropped: dict[str, int]
    """Adverts that were not used, by reason."""
    master_down_interval: float | None
    """Seconds of silence after which a backup takes over; None: not by VRRP."""
    addresses: tuple[AddressView, ...]
    """As configured."""
    route_servers: int
    """How many there are."""
    base_priority: int | None = None
    """Of the configuration."""
    why_priority: str = ""
    """As `100 - 20 (check web is down)`; empty: no check changes it."""
    tracks: tuple[TrackView, ...] = ()
    """Also those of its sync group."""
    group: str = ""
    """Its sync group; empty: none."""
    etcd: OwnerView | None = None
    """None: etcd does not decide about it."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """A sync group: instances that change role together."""

    name: str
    """As configured."""
    role: Standing
    """As that of an instance."""
    members: tuple[str, ...]
    """Names of the instances."""


@dataclass(frozen=True, slots=True)
class CheckView:
    name: str
    """As configured."""
    value: str
    """`up`, `down` or `unknown`."""
    for_: float
    """For so many seconds."""
    reason: str
    """Of the verdict; `last_result` is newer."""
    last_result: str
    """What its last run said."""
    runs: int
    """How often it was run."""
    number: int | None = None
    """That the last result gave; None: it gave none."""


@dataclass(frozen=True, slots=True)
class SessionView:
    peer: str
    """The address of the route server."""
    state: str
    """`idle`, `connect`, `open-sent`, `open-confirm` or `established`."""
    for_: float
    """For so many seconds."""
    reason: str
    """A sentence: why it is in that state."""
    young: bool
    """Route servers may not believe yet what it announces."""
    lost_because: str
    """Why the session before ended; empty: there was none."""
    hint: str
    """The next step; empty: none."""
    hold_time: int | None
    """Seconds that were agreed on; None: it is down."""
    announced: int
    """How many prefixes it has been told."""
    updates_sent: int
    """UPDATE messages."""
    updates_received: int
    """UPDATE messages."""
    times_established: int
    """How often the session came up."""
    malformed_messages: int
    """How many it has sent."""
    last_malformed: str
    """What was wrong with the last one; empty: there was none."""


@dataclass(frozen=True, slots=True)
class WordView:
    kind: str
    """`INSTANCE` or `GROUP`."""
    name: str
    """As in keepalived.conf."""
    state: str
    """As keepalived said it."""
    for_: float
    """Seconds since it said so."""


@dataclass(frozen=True, slots=True)
class KeepalivedView:
    """What is known of the keepalived that elects."""

    runs: bool
    """Its process is there."""
    for_: float
    """For so many seconds that is so."""
    reason: str
    """A sentence: why not, or how it was found."""
    said: tuple[WordView, ...]
    """What it said last of each instance and group."""


@dataclass(frozen=True, slots=True)
class LinkView:
    interface: str
    """An interface on which VRRP elects."""
    up: bool
    """It can carry adverts."""
    reason: str
    """A sentence: why not."""


@dataclass(frozen=True, slots=True)
class CarriedView:
    instance: str
    """Its name."""
    rank: str
    """At which it is announced there."""
    leaving: bool = False
    """It hands the instance over."""
    ready: bool = False
    """It could be master now."""
    master_since: float | None = None
    """Seconds since the epoch, by its clock; None: it is not master."""


@dataclass(frozen=True, slots=True)
class CheckBrief:
    """A check, as its node tells the others."""

    name: str
    """As configured."""
    value: str
    """`up`, `down` or `unknown`."""
    last_result: str
    """What its last run said, perhaps cut."""


@dataclass(frozen=True, slots=True)
class ProblemBrief:
    """A problem, as its node tells the others."""

    code: str
    """A later release may have codes that this one does not know."""
    severity: str
    """`problem`, `warning` or `note`."""
    subject: str
    """Which instance, session or part."""
    what: str
    """A sentence."""
    hint: str
    """The next step; empty: the sentence says it."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A configured node, as this one knows it over the link."""

    name: str
    """As configured."""
    address: str
    """Its own."""
    own: bool
    """It is the node that says this."""
    state: str
    """One of "this node", "alive", "silent", "unheard" (not once since the start), "refused"."""
    why: str = ""
    """A sentence: why it is silent or refused."""
    version: str = ""
    """Of its floatip; empty: not known."""
    same_configuration: bool | None = None
    """None: not known, as all of what follows is while it is unheard."""
    healthy: bool | None = None
    """All its instances are; None: not known."""
    instances_healthy: int = 0
    """How many of its instances are healthy."""
    instances: int = 0
    """How many it has."""
    sessions_up: int = 0
    """Route servers that it is connected to."""
    sessions: int = 0
    """Route servers that it has."""
    carries: tuple[CarriedView, ...] = ()
    """What it announces."""
    heard: float | None = None
    """Seconds ago."""
    hears_us: float | None = None
    """How many seconds ago it last heard this node, as it says; None: it does not hear this node."""
    drained: bool = False
    """It carries nothing, because an administrator said so."""
    paused: bool = False
    """It moves nothing, because an administrator said so."""
    stopping: bool = False
    """Its daemon stops."""
    reason: str = ""
    """Why it is drained or paused, as the administrator said."""
    until: float | None = None
    """Seconds until the drain or pause ends; None: until `undrain` or `resume`."""
    reported: float | None = None
    """How many seconds ago it told its checks and problems; None: they are not known."""
    checks: tuple[CheckBrief, ...] = ()
    """Worst first, and the problems too."""
    more_checks: int = 0
    """So many are not listed."""
    problems: tuple[ProblemBrief, ...] = ()
    """The worst first."""
    more_problems: int = 0
    """So many are not listed."""
    drill: bool = False
    """An administrator rehearses a failover there (`floatip drill`)."""
    etcd: str = ""
    """At etcd: `alive`, `gone` (its lease is over), `other` (another machine has its name); empty: not known."""


@dataclass(frozen=True, slots=True)
class SchedulingView:
    """Of the thread that runs the daemon's loop (sched(7))."""

    policy: str
    """`rr` is real-time, `other` is not."""
    priority: int
    """Of real-time; 0: none."""
    reset_on_fork: bool
    """What the daemon starts, threads and checks, does not inherit a real-time policy."""


@dataclass(frozen=True, slots=True)
class SocketView:
    what: str
    """VRRP, the link or BGP, and where."""
    dscp: int
    """RFC 2474; 48: CS6, network control."""
    packet_filter: str | None
    """What the kernel passes to the daemon: "known nodes" or "everything"; None: no filter is used."""


@dataclass(frozen=True, slots=True)
class ProblemView:
    code: str
    """Its section in troubleshooting."""
    severity: str
    """Only a `problem` makes the exit status 1."""
    subject: str
    """Which instance, session or part."""
    what: str
    """A sentence."""
    hint: str
    """The next step; empty: the sentence says it."""
    for_: float | None
    """For so many seconds; None: not known."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """The network that is announced to."""

    name: str
    """The provider, as the configuration has it."""
    dcid: int | None = None
    """Linode's data centre; None: another provider's."""
    place: str = ""
    """Where that is; empty: not known."""


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change, as the history keeps it."""

    time: str
    """Of the wall clock, UTC, ISO 8601 with milliseconds."""
    what: str
    """The kind of thing: role, rank, health, check, session, node, address, network, link, failure, start, ..."""
    name: str
    """Of the thing."""
    before: str
    """Its value until then; empty: not known."""
    value: str
    """What it became."""
    reason: str
    """A sentence: why."""


@dataclass(frozen=True, slots=True)
class DrillView:
    """A failover that an administrator rehearses on this node (`floatip drill`)."""

    instance: str
    """Which is rehearsed."""
    fault: str
    """One of check, stop, handover, cut."""
    check: str
    """Which check counts as failed; empty: none."""
    fails: bool
    """Whether it does so already."""
    by: str
    """Who began it, as a sentence."""
    left: float
    """Seconds after which it is over at the latest."""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """A member of etcd, as the configuration names it."""

    url: str
    answers: bool | None
    """None: it has not been asked."""
    for_: float
    """For so many seconds."""
    said: str
    """Why it does not answer, or that an alarm is raised; empty: all is well."""
    hint: str = ""
    """The next step; empty: none."""
    in_use: bool = False
    """The questions go there."""
    version: str = ""
    """Of etcd; empty: not known."""


@dataclass(frozen=True, slots=True)
class RowView:
    """A row below the prefix that floatip cannot use, and leaves alone."""

    key: str
    """Below the prefix."""
    why: str
    """A sentence: what is wrong with it."""


@dataclass(frozen=True, slots=True)
class EtcdView:
    """etcd, which decides who may have which instance, as this node knows it."""

    answers: bool
    """False also while it has not answered yet."""
    for_: float
    """For so many seconds."""
    reason: str
    """A sentence: why it does not answer; empty: it does."""
    hint: str
    """The next step; empty: the sentence says it."""
    lease_time: float
    """Seconds after which a node that etcd does not answer has nothing exclusive."""
    lease_left: float | None
    """Seconds until this node's lease at etcd ends, unless it is renewed; None: it has none."""
    exclusive_left: float | None
    """Seconds for which exclusive instances may stay here if etcd says nothing more; None: not at all."""
    revision: int
    """Of etcd's store, as this node saw it last; it grows with each write."""
    answered: int
    """How many questions of this node etcd has answered."""
    unknown: int
    """How many had no answer, or one that says nothing for sure."""
    claims_won: int
    """How often this node became owner."""
    claims_lost: int
    """How often another node was first."""
    claims_unknown: int
    """How often it is not known which."""
    alive: tuple[str, ...] = ()
    """Nodes with a lease at etcd."""
    rows: tuple[RowView, ...] = ()
    """Those that floatip cannot use; not all of them if there are many, or their keys are no text."""
    more_rows: int = 0
    """So many are not listed."""
    prefix: str = ""
    """Of this fleet's keys."""
    endpoints: tuple[EndpointView, ...] = ()
    """As configured."""


@dataclass(frozen=True, slots=True)
class ThroughView:
    """Another node, and whether open connections can be moved to it and from it."""

    node: str
    """As configured."""
    works: bool
    """Packets pass the tunnel both ways, and both nodes can take part."""
    for_: float
    """For so many seconds."""
    why: str
    """A sentence: why not; empty: it works."""
    fault: str
    """The same as a code; empty: it works. `here` and `there`: that node cannot take part. `unheard`: nothing comes
    from the other one. `deaf`: it hears nothing from this one. `large`: only small packets come from it.
    """


@dataclass(frozen=True, slots=True)
class WithoutView:
    instance: str
    """Its name."""
    why: str
    """A sentence: why its open connections cannot be moved."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """Open connections that go on at one node, while another node is master and passes their packets on."""

    node: str
    """The other node."""
    forwards: bool
    """They go on there, and this node passes the packets on; false: they go on here."""
    connections: int
    """How many are left."""
    for_: float
    """For so many seconds."""
    left: float
    """Seconds after which they are cut off at the latest."""
    forwarded: int
    """Packets that the master has passed on since its process started, to all nodes."""
    accepted: int
    """Packets that have reached the sockets of the node that has the connections, since its process started. There:
    those of all masters; on the master: its own."""
    direct: bool = False
    """Answers leave that node by its own way, where `answers = "auto"` and a probe has proven that they arrive; false:
    they go through the tunnel."""


@dataclass(frozen=True, slots=True)
class PreparingView:
    """A planned move that waits, for a second at most, until the open connections are known on the other node."""

    instance: str
    """Its name."""
    offers: bool
    """This node hands it over; false: this node takes it over."""
    nodes: tuple[str, ...]
    """To whom, or from whom."""
    for_: float
    """For so many seconds."""


@dataclass(frozen=True, slots=True)
class EndedView:
    """The last time that open connections of one node went on by another one."""

    node: str
    """The other node."""
    forwards: bool
    """As while it went on."""
    connections: int
    """How many were left; they were reset, unless it ended as `moved-on`. A keeper does not know where it ended as
    `silent`."""
    for_: float
    """So many seconds ago."""
    why: str
    """A sentence."""
    end: str
    """The same as a code: `done`, `limit`, `silent`, `unaccepted`, `unanswered`, `moved-on`, `unable`, `there`."""


@dataclass(frozen=True, slots=True)
class SecondChanceView:
    """What keeps open connections whole in a planned move."""

    mode: str
    """`on` or `auto`."""
    usable: bool
    """This node can take part."""
    for_: float
    """For so many seconds."""
    why: str
    """A sentence: why not; empty: it can."""
    hint: str
    """The next step; empty: none."""
    port: int
    """The UDP port of the tunnel."""
    limit: float
    """Seconds for which connections go on after a move at most."""
    nodes: tuple[ThroughView, ...] = ()
    """All other nodes; none: the process of the second chance has not said yet."""
    without: tuple[WithoutView, ...] = ()
    """Instances whose connections cannot be moved."""
    streams: tuple[StreamView, ...] = ()
    """What goes on now."""
    preparing: tuple[PreparingView, ...] = ()
    """Planned moves that wait."""
    ended: tuple[EndedView, ...] = ()
    """The last of each node and way."""
    ends: dict[str, int] = field(default_factory=dict)
    """How often it ended since the daemon started, by the codes of `EndedView`."""
    cut: int = 0
    """Connections that were cut off since the daemon started."""
    forwarded: int = 0
    """Packets that this node has passed on to others, as of the last move; from 0 again if the process is restarted."""
    accepted: int = 0
    """Packets that reached this node's sockets through others, likewise."""
    waits: bool = False
    """The daemon is to stop, and waits until no connection goes on here."""


@dataclass(frozen=True, slots=True)
class Status:
    stopping: str
    """Why the daemon stops; empty: it does not."""
    cut_off: bool
    """No route server acknowledges anything."""
    instances: tuple[InstanceView, ...]
    """As configured."""
    checks: tuple[CheckView, ...]
    """As configured."""
    sessions: tuple[SessionView, ...]
    """With the route servers."""
    keepalived: KeepalivedView | None
    """None: none elects."""
    links: tuple[LinkView, ...]
    """Interfaces of VRRP."""
    dropped: dict[str, int]
    """VRRP packets that belong to no instance, by reason."""
    problems: tuple[ProblemView, ...]
    """Worst first."""
    pid: int = 0
    """Of the daemon."""
    version: str = ""
    """Of the daemon."""
    log_lines_dropped: int = 0
    """The journal was too slow for them."""
    hooks_dropped: int = 0
    """Commands and lines of FIFOs that were skipped, because their reader was too slow."""
    control_requests_rejected: int = 0
    """Requests that were not understood."""
    scheduling: SchedulingView | None = None
    """None: not known."""
    sockets: tuple[SocketView, ...] = ()
    """Those that are open."""
    nodes: tuple[NodeView, ...] = ()
    """As configured: all nodes, this one among them; none: there is no link."""
    host: str = ""
    """The name of the machine."""
    time: str = ""
    """When this was so, by the wall clock: UTC, ISO 8601 with milliseconds."""
    monotonic: float = 0.0
    """The same moment in seconds of CLOCK_MONOTONIC (clock_gettime(2))."""
    uptime: float = 0.0
    """Seconds since the daemon was started."""
    recent: tuple[ChangeView, ...] = ()
    """The last three changes worth a line, oldest first."""
    network: NetworkView | None = None
    """None: nothing is announced by BGP."""
    groups: tuple[GroupView, ...] = ()
    """The sync groups."""
    drill: DrillView | None = None
    """None: no drill runs here."""
    etcd: EtcdView | None = None
    """None: the nodes decide among themselves."""
    second_chance: SecondChanceView | None = None
    """None: a planned move resets open connections."""

    @property
    def needs_a_person(self) -> bool:
        return any(problem.severity == Severity.PROBLEM for problem in self.problems)


# To JSON and back


def as_data(value: Any) -> Any:
    """What `json.dumps` takes."""
    kind = value.__class__
    if kind in PLAIN:
        return value
    if keys := _keys(kind):
        return {key: as_data(getattr(value, name)) for name, key in keys}
    if isinstance(value, tuple | list):
        return [as_data(each) for each in value]
    return value


def read(kind: type[T], data: Any) -> T:
    """The value of which `as_data` made this. What another version has besides is passed over.

    Raises KeyError, TypeError or ValueError where it is no such value.
    """
    made: Any = kind
    result: T = _reader(made)(data)
    return result


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of this kind of its data; made once for each kind, because a status has thousands."""
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        inner = _reader(arguments[0])
        return lambda data: None if data is None else inner(data)
    if typing.get_origin(kind) is tuple:
        inner = _reader(arguments[0])
        return lambda data: tuple([inner(each) for each in data])
    if not (keys := _keys(kind)):
        return _same
    hints = typing.get_type_hints(kind)
    parts = [(name, key, _reader(hints[name])) for name, key in keys]
    return lambda data: kind(**{name: part(data[key]) for name, key, part in parts if key in data})


def _same(data: Any) -> Any:
    return data


@cache
def _keys(kind: Any) -> tuple[tuple[str, str], ...]:
    """Its fields, and what each is called in the JSON; none: it is no dataclass."""
    return tuple((field.name, field.name.rstrip("_")) for field in fields(kind)) if is_dataclass(kind) else ()
