"""The state of a node as typed values: for each thing its value, for how long, and because of what.

`floatip status --json` prints it, the control socket carries it, and whoever reads it (the screen, `adopt`, the lab)
reads it back into the same types. `core/snapshot.py` makes it. Ages are seconds. A name that Python reserves has an
underscore here and none in the JSON.
"""

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
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
    for_: float
    reason: str


@dataclass(frozen=True, slots=True)
class AddressView:
    address: str
    interface: str
    held: bool
    announced_to: int
    """How many route servers have been told."""


@dataclass(frozen=True, slots=True)
class TrackView:
    """A check that moves the priority of an instance, or whose success is a fault."""

    check: str
    weight: int
    """0: no priority, a fault."""
    reverse: bool
    shift: int
    """What it adds to the priority now."""


@dataclass(frozen=True, slots=True)
class InstanceView:
    name: str
    role: Standing
    health: Standing
    rank: Standing
    master: str | None
    """Who is master elsewhere, as far as we hear."""
    election: str
    priority: int | None
    """The effective one: with what checks add and take off."""
    vrid: int | None
    dropped: dict[str, int]
    master_down_interval: float | None
    addresses: tuple[AddressView, ...]
    route_servers: int
    base_priority: int | None = None
    """Of the configuration."""
    why_priority: str = ""
    """As `100 - 20 (check web is down)`; empty: no check changes it."""
    tracks: tuple[TrackView, ...] = ()
    """Also those of its sync group."""
    group: str = ""
    """Its sync group; empty: none."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """A sync group: instances that change role together."""

    name: str
    role: Standing
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckView:
    name: str
    value: str
    for_: float
    reason: str
    """Of the verdict; `last_result` is newer."""
    last_result: str
    runs: int
    number: int | None = None
    """That the last result gave; None: it gave none."""


@dataclass(frozen=True, slots=True)
class SessionView:
    peer: str
    state: str
    for_: float
    reason: str
    young: bool
    """Route servers may not believe yet what it announces."""
    lost_because: str
    hint: str
    hold_time: int | None
    announced: int
    updates_sent: int
    updates_received: int
    times_established: int
    malformed_messages: int
    last_malformed: str


@dataclass(frozen=True, slots=True)
class WordView:
    kind: str
    name: str
    state: str
    for_: float


@dataclass(frozen=True, slots=True)
class KeepalivedView:
    """What is known of the keepalived that elects."""

    runs: bool
    for_: float
    reason: str
    said: tuple[WordView, ...]


@dataclass(frozen=True, slots=True)
class LinkView:
    interface: str
    up: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CarriedView:
    instance: str
    rank: str
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
    value: str
    last_result: str


@dataclass(frozen=True, slots=True)
class ProblemBrief:
    """A problem, as its node tells the others."""

    code: str
    """A later release may have codes that this one does not know."""
    severity: str
    subject: str
    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """A configured node, as this one knows it over the link."""

    name: str
    address: str
    own: bool
    """It is the node that says this."""
    state: str
    """One of "this node", "alive", "silent", "unheard" (not once since the start), "refused"."""
    why: str = ""
    """A sentence: why it is silent or refused."""
    version: str = ""
    same_configuration: bool | None = None
    """None: not known, as all of what follows is while it is unheard."""
    healthy: bool | None = None
    instances_healthy: int = 0
    instances: int = 0
    sessions_up: int = 0
    sessions: int = 0
    carries: tuple[CarriedView, ...] = ()
    heard: float | None = None
    """Seconds ago."""
    hears_us: float | None = None
    """How many seconds ago it last heard this node, as it says; None: it does not hear this node."""
    drained: bool = False
    paused: bool = False
    stopping: bool = False
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
    more_problems: int = 0
    drill: bool = False
    """An administrator rehearses a failover there (`floatip drill`)."""


@dataclass(frozen=True, slots=True)
class SchedulingView:
    """Of the thread that runs the daemon's loop (sched(7))."""

    policy: str
    priority: int
    reset_on_fork: bool
    """What the daemon starts, threads and checks, does not inherit a real-time policy."""


@dataclass(frozen=True, slots=True)
class SocketView:
    what: str
    dscp: int
    """RFC 2474; 48: CS6, network control."""
    packet_filter: str | None
    """What the kernel passes to the daemon: "known nodes" or "everything"; None: no filter is used."""


@dataclass(frozen=True, slots=True)
class ProblemView:
    code: str
    severity: str
    subject: str
    what: str
    hint: str
    for_: float | None


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
    before: str
    """Its value until then; empty: not known."""
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class DrillView:
    """A failover that an administrator rehearses on this node (`floatip drill`)."""

    instance: str
    fault: str
    """One of check, stop, handover, cut."""
    check: str
    """Which check counts as failed; empty: none."""
    fails: bool
    """Whether it does so already."""
    by: str
    left: float
    """Seconds after which it is over at the latest."""


@dataclass(frozen=True, slots=True)
class Status:
    stopping: str
    cut_off: bool
    instances: tuple[InstanceView, ...]
    checks: tuple[CheckView, ...]
    sessions: tuple[SessionView, ...]
    keepalived: KeepalivedView | None
    """None: none elects."""
    links: tuple[LinkView, ...]
    dropped: dict[str, int]
    problems: tuple[ProblemView, ...]
    """Worst first."""
    pid: int = 0
    version: str = ""
    log_lines_dropped: int = 0
    hooks_dropped: int = 0
    control_requests_rejected: int = 0
    scheduling: SchedulingView | None = None
    sockets: tuple[SocketView, ...] = ()
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
    drill: DrillView | None = None
    """None: no drill runs here."""

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
