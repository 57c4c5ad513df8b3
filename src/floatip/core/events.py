"""What happens to a node (events, in the past tense) and what it wants done (effects, imperative).

These dataclasses are the whole border between `core/`, which decides, and `host/`, which does; the simulation
stands in for the host with the same classes. All times are monotonic seconds and never inside an event: `now` is an
argument beside it. Effects that name a set (`Hold`) name the whole desired set, so a retry, a reload and a
restart are the same code.
"""

from dataclasses import dataclass, field
from typing import Literal

from floatip.core.addresses import Address, Placed
from floatip.core.bgp.trouble import Trouble
from floatip.core.etcd import AskEtcd, EtcdAnswered, EtcdChanged, EtcdMembers, EtcdTrouble, EtcdUnwatched, WatchEtcd
from floatip.core.problems import Code
from floatip.core.second_chance.terms import Over, Standing, Wish
from floatip.core.settings import Settings, Virtual

# Events


@dataclass(frozen=True, slots=True)
class Started:
    """The host is ready: it has read the kernel's state and can perform effects."""

    barred_for: float = 0.0
    """Seconds in which the node must not be master, because it keeps dying."""


@dataclass(frozen=True, slots=True)
class ClockMoved:
    """The time of day went another way than monotonic time, or is told for the first time."""

    ahead: float
    """Seconds from monotonic time to seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """`node.deadline` may have passed. Early, late and repeated ticks do no harm."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """SIGTERM: hand over, then release, then `Exit`."""

    reason: str = "asked to stop"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """SIGHUP: the administrator wants another configuration. What is the same in it is not touched."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator has asked for, until it is taken back."""

    reason: str = ""
    until: float = 0.0
    """Seconds since the epoch; 0: it has no end."""
    withdraw: bool = False
    """Of a drain: announce nothing either, once another node has taken over."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Leave mastership to the others: each of them takes over before this node lowers. None: serve again."""

    order: Order | None


@dataclass(frozen=True, slots=True)
class Paused:
    """No node takes over or yields, whatever it prefers, while it is healthy. None: go on."""

    order: Order | None


@dataclass(frozen=True, slots=True)
class OrdersRecalled:
    """What a predecessor was asked for, and nobody has taken back."""

    drained: Order | None
    paused: Order | None


@dataclass(frozen=True, slots=True)
class HandoverAsked:
    """Once, and only if another node takes over within `HANDOVER_TIME`."""

    instances: tuple[str, ...]
    to: str = ""
    """Which node; empty: the best."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A failover that an administrator rehearses on this node."""

    instance: str
    fault: str
    """Its kind, for people: check, stop, handover, cut."""
    by: str
    """Who, for people."""
    lasts: float
    """Seconds from now after which it is over, whatever became of the command."""
    check: str = ""
    """Which check counts as failed; empty: none."""
    fails: bool = False
    """Whether it does so already."""
    to: str = ""
    """Which node is to take over; empty: the best."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """How it stands with a drill. None: it is over."""

    drill: Drill | None


@dataclass(frozen=True, slots=True)
class CheckDone:
    """The answer to `Probe(check, run)`; a pushed check (file) answers by itself, with run 0."""

    check: str
    run: int
    passed: bool
    reason: str
    value: int | None = None
    """Of a check that gives a number (`track_file`)."""


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """An IP packet of protocol 112 arrived; `data` is what follows the IP header, unverified."""

    interface: str
    source: Address
    destination: Address
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """A UDP datagram of another node arrived at the link's port; `data` is unverified."""

    source: Address
    data: bytes
    at: float
    """When the kernel received it, in monotonic seconds."""


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """Whether VRRP can work on the interface: it exists, is up and carries the configured source addresses."""

    interface: str
    up: bool
    reason: str
    index: int | None = None
    """Another one: another interface, by the same name."""
    lacking: frozenset[Address] = frozenset()
    """The sources that it cannot send from now, where nothing else is wrong: the others go on."""


@dataclass(frozen=True, slots=True)
class Held:
    """All addresses that the kernel has and can answer for, each with its interface (the whole set, each time)."""

    addresses: frozenset[Placed]


@dataclass(frozen=True, slots=True)
class KeepalivedFound:
    """Whether the user's keepalived runs; a new process, even a short while later, is told again."""

    running: bool
    reason: str
    since: float | None = field(default=None, compare=False)
    """When its process began; None: not known, or it does not run."""


@dataclass(frozen=True, slots=True)
class KeepalivedSaid:
    """A line of its notify FIFO, or the same by `floatip notify`."""

    kind: Literal["INSTANCE", "GROUP"]
    name: str
    state: Literal["MASTER", "BACKUP", "FAULT", "STOP"]
    is_old: bool = False
    """It had been waiting for a reader: true when it was written, and perhaps no more."""
    at: float | None = None
    """When a predecessor of this daemon heard it from the same process (monotonic seconds)."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The TCP connection that `Dial` asked for stands; it is writable."""

    peer: Address
    local: Address


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended or never came about. Not sent in answer to our own `Close`."""

    peer: Address
    reason: str
    trouble: Trouble = Trouble.OTHER


@dataclass(frozen=True, slots=True)
class BytesReceived:
    peer: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class Writable:
    """All bytes of the last `SendBytes` are in the kernel's hands. Until then the core sends no more."""

    peer: Address


@dataclass(frozen=True, slots=True)
class Measured:
    """The answer to `Measure`: whether the peer's TCP has acknowledged all that was sent (TCP_INFO)."""

    peer: Address
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that the host cannot do now. `what` names it and is its identity; `hint` is the next step."""

    what: str
    reason: str
    hint: str = ""
    code: Code = Code.FAILURE
    unkept: frozenset[Placed] = frozenset()
    """The addresses that do not stay where they are put."""


@dataclass(frozen=True, slots=True)
class Failing:
    """All that one part of the host cannot do now (the whole set, each time); empty: it can do everything."""

    part: str
    failures: frozenset[Failure]


@dataclass(frozen=True, slots=True)
class StandingTold:
    """How it stands with the second chance, as its process says."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class StreamOver:
    """Connections of one node that another one has forwarded to it: it does no more."""

    over: Over


Event = (
    Started
    | ClockMoved
    | Ticked
    | StopRequested
    | Reloaded
    | Drained
    | Paused
    | HandoverAsked
    | OrdersRecalled
    | Drilled
    | CheckDone
    | AdvertReceived
    | DatagramReceived
    | LinkChanged
    | Held
    | KeepalivedFound
    | KeepalivedSaid
    | Connected
    | Disconnected
    | BytesReceived
    | Writable
    | Measured
    | Failing
    | EtcdAnswered
    | EtcdChanged
    | EtcdUnwatched
    | EtcdTrouble
    | EtcdMembers
    | StandingTold
    | StreamOver
)


# Effects


@dataclass(frozen=True, slots=True)
class Probe:
    """Run the check once and answer with `CheckDone(check, run, ...)`; after `timeout` seconds give it up and kill it.

    The core fails the run by itself at the timeout, so an answer that never comes does no harm.
    """

    check: str
    run: int
    timeout: float


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send `data` as an IP packet of protocol 112 with TOS 0xc0. Over IPv6 the kernel writes the checksum."""

    interface: str
    source: Address
    destination: Address
    data: bytes
    ttl: int = 255
    """Of unicast; to a group it is 255 (RFC 9568 section 5.1.1.3)."""


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send `data` to the link's port of another node."""

    destination: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class KeepOrders:
    """Remember them for the next start, across reboots; both, each time."""

    drained: Order | None
    paused: Order | None


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a TCP connection; answer with `Connected` or, within `timeout` seconds, `Disconnected`."""

    peer: Address
    timeout: float


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Write; answer with `Writable` when the kernel has taken all of it."""

    peer: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection after what was sent so far has left (FIN, not RST). No answer."""

    peer: Address


@dataclass(frozen=True, slots=True)
class Measure:
    """Answer with `Measured`."""

    peer: Address


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold exactly these addresses: add what is missing, release what we added before and is not named.

    An address that is already there, on that interface, is left as it is and never released.
    Answer with `Held` when the kernel reports a change.
    """

    addresses: frozenset[Placed]


@dataclass(frozen=True, slots=True)
class Fence:
    """Exclusive addresses, and until when they may be here: the whole set, each time, before the `Hold` that adds them.

    The host gives them a lifetime in the kernel (`valid_lft`) that ends by then, so that they go even if this process
    hangs or is stopped. It adds none of them after `until`, and none that is not named here any more.
    """

    addresses: frozenset[Placed]
    until: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Install:
    """Have exactly these routes and rules, in this order: add what is missing, remove what we added before."""

    virtuals: tuple[Virtual, ...]


@dataclass(frozen=True, slots=True)
class Arrange:
    """What the process of the second chance is to know of each instance: the whole set, each time."""

    wishes: tuple[Wish, ...]


@dataclass(frozen=True, slots=True)
class Garp:
    """Tell the layer-2 neighbours: gratuitous ARP (IPv4), unsolicited neighbour advertisement (IPv6).

    How often and when, `Vrrp.garps` says; the host goes on until `StopGarp`.
    """

    addresses: frozenset[Placed]
    after_lower: bool = False
    """A lower node takes itself for master, and may have told them so."""


@dataclass(frozen=True, slots=True)
class StopGarp:
    """Another node may answer for these from now on: what is left of the repeats of `Garp` is not sent."""

    addresses: frozenset[Placed]


@dataclass(frozen=True, slots=True)
class Became:
    """Something changed that a person would want to know: the log, the hook, the history and the tests read it.

    `what` is one of: check, health, role, rank, priority, group, advert, takeover, session, address, link, node,
    network, drill, failure, start, connections; the host adds daemon and configuration.
    `name` says which one; `value` is the new state in one word; `reason` is what follows "because".
    """

    what: str
    name: str
    value: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Phases:
    """How long each step of a takeover lasted, in seconds, one after the other; None: not known."""

    detected: float | None
    """From the last sign of life of the old master to the verdict that it is gone."""
    decided: float | None
    """From the verdict to the role."""
    wire: float | None
    """From the role to the first UPDATE with the new rank in the kernel's hands; None: there is no BGP."""
    acknowledged: float | None
    """From then on, until all route servers have it; without BGP from the role, until the address is held and its
    neighbours are told by ARP."""


@dataclass(frozen=True, slots=True)
class TookOver:
    """This node became master, and now that is complete, or it is not master any more. `Became` follows, in words."""

    instance: str
    phases: Phases


@dataclass(frozen=True, slots=True)
class Exit:
    """All is handed over and released: the process may end."""


Effect = (
    Probe
    | SendAdvert
    | SendDatagram
    | AskEtcd
    | WatchEtcd
    | KeepOrders
    | Dial
    | SendBytes
    | Close
    | Measure
    | Hold
    | Fence
    | Install
    | Arrange
    | Garp
    | StopGarp
    | Became
    | TookOver
    | Exit
)
