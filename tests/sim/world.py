"""A small world in virtual time: floatip nodes, four route servers, the network between them, and things that go wrong.

The nodes are the real core and the bytes are real; only time, kernel and network are played. Everything that happens
is an entry on one heap of (time, order, action) and all chance comes from the seed, so a seed is a whole story.
The world judges nothing. It shows what a client would notice: where the network points, and whether that node serves.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from math import inf
from random import Random
from typing import Any, Literal

from floatip.core import settings
from floatip.core.addresses import Address, Placed
from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import parse, split
from floatip.core.events import (
    AdvertReceived,
    Became,
    BytesReceived,
    ClockMoved,
    Close,
    Connected,
    Dial,
    Disconnected,
    Effect,
    Event,
    Exit,
    Failing,
    Failure,
    Held,
    Hold,
    LinkChanged,
    Measure,
    Measured,
    Probe,
    SendAdvert,
    SendBytes,
    Started,
    StopRequested,
    Ticked,
    Writable,
)
from floatip.core.node import Node
from floatip.host.checks import Probes
from floatip.lab.route_server import BestChanged, Drop, LearntRoute, Output, RouteServer, Send, choose
from floatip.providers import LINODE_MARKS
from tests.sim import host

INTERFACE, INSTANCE, CHECK = "eth0", "web", "service"
FLOATING = IPv4Address("192.168.223.158")
PREFIX: Prefix = IPv4Network(FLOATING)
RETRANSMISSION = 1.0
"""TCP delivers what was sent into a cut within this time of the healing."""
STEPS_PER_SECOND = 2000
KEEPALIVE_LENGTH = 19
EPOCH, CLOCK_SKEW = 1.8e9, 0.05
TICKED = Ticked()


class Power(Enum):
    """The state of a node's process and of the machine below it; the value is its mark in the score."""

    RUNNING = ""
    HUNG = "h"  # SIGSTOP: the kernel, the address and the service live on
    FROZEN = "z"  # the whole VM stands still
    DEAD = "k"  # the process has ended, the machine lives on
    CRASHED = "."


RUNNING, HUNG, FROZEN, DEAD, CRASHED = Power


class Ip4(IPv4Address):
    """Remembers its hash, as the next does: everything here is looked up by address."""

    __slots__ = ("_hash",)

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class Ip6(IPv6Address):
    __slots__ = ("_hash",)

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


ROUTE_SERVERS = tuple(Ip6(f"2600:3c0f:6:34::{n}") for n in (1, 2, 3, 4))


@dataclass(slots=True)
class Pipe:
    """One direction of a TCP connection; None in the queue is the FIN."""

    queue: deque[bytes | None] = field(default_factory=deque)
    scheduled: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    number: int
    node: "Machine"
    server: "Server"
    incarnation: int
    latency: float
    up: Pipe = field(default_factory=Pipe)
    down: Pipe = field(default_factory=Pipe)
    node_open: bool = True
    server_open: bool = True
    writable: Writable = field(init=False)
    """The events of each second, made once."""
    measured: tuple[Measured, Measured] = field(init=False)

    def __post_init__(self) -> None:
        peer = self.server.address
        self.writable = Writable(peer)
        self.measured = Measured(peer, acknowledged=False), Measured(peer, acknowledged=True)


@dataclass(slots=True, eq=False)
class Server:
    """One of the four route servers; it may be cut off from the nodes (the fabric still hears it), or down."""

    name: str
    address: Address
    hold_time: int
    machine: RouteServer
    up: bool = True
    cut: bool = False
    connections: dict[int, Connection] = field(default_factory=dict)
    wake_at: float = inf


@dataclass(slots=True, eq=False)
class Machine:
    """One node: the host around a core. `kernel` is what the kernel has, `told` what each route server was told."""

    name: str
    config: settings.Settings
    source: IPv4Address
    local: Address
    node: Node
    power: Power = CRASHED
    clock_skew: float = 0.0
    """Seconds by which its time of day is ahead of the true one."""
    service: str = "ok"
    cut: bool = False
    has_link: bool = True
    """Without it the kernel has its addresses and answers for none."""
    deaf: bool = False
    """Adverts that arrive while it does not run are lost, not queued."""
    role: str = "init"
    incarnation: int = 0
    kernel: set[Placed] = field(default_factory=set)
    fenced: set[Placed] = field(default_factory=set)
    """What the kernel has beside it: exclusive addresses, of instances that only the world of fleets has."""
    sockets: dict[Address, Connection] = field(default_factory=dict)
    dials: Counter[Address] = field(default_factory=Counter)
    told: dict[Address, Rank] = field(default_factory=dict)
    checks: Probes = field(init=False)
    """The host's own, of this incarnation."""
    process: "Process" = field(init=False)
    notified: host.Notified = field(init=False)
    inbox: deque[Event | Callable[[], None]] = field(default_factory=deque)
    """What waits for a process that hangs: what its descriptors have to tell, then its timers."""
    timers: deque[Callable[[], None]] = field(default_factory=deque)
    deadline: float = inf
    wake_at: float = inf
    stopping: bool = False
    able_since: float = inf

    @property
    def has_address(self) -> bool:
        """On whichever interface: the kernel answers for it. There is one address in this world."""
        return self.has_link and bool(self.kernel)

    @property
    def usable(self) -> frozenset[Placed]:
        return frozenset(self.kernel | self.fenced) if self.has_link else frozenset()

    @property
    def is_alive(self) -> bool:
        """Its kernel runs."""
        return self.power in (RUNNING, HUNG, DEAD)

    @property
    def serves(self) -> bool:
        return self.is_alive and not self.cut and self.service == "ok" and self.has_address

    @property
    def rank(self) -> Rank:
        """The best rank that any route server was told."""
        return max(self.told.values(), default=Rank.NONE)

    def rank_of(self, told: Attributes) -> Rank:
        assert self.config.speaker is not None
        marks = Marks(told.origin, len(told.as_path), told.communities)
        return max(rank for rank, its_marks in self.config.speaker.marks.items() if its_marks == marks)


@dataclass(slots=True, eq=False)
class Fault:
    kind: str
    node: str
    rank: Rank
    at: float
    until: float = inf


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the network pointed at nothing or at a node that did not serve; `needless`: another could."""

    at: float
    until: float
    needless: bool


@lru_cache(1000)
def _updates(data: bytes) -> list[Update]:
    """All route servers are told the same."""
    messages = map(parse, split(bytearray(data)))
    return [each for each in messages if isinstance(each, Update) and (each.announced or each.withdrawn)]


class Process:
    """What the host parts of one incarnation of a node see of the world; see `host.Process`."""

    def __init__(self, world: "World", node: Machine) -> None:
        self._world = world
        self._node = node
        self._incarnation = node.incarnation
        self.is_ending = False
        """The core is done, and the process waits for its children."""

    def now(self) -> float:
        return self._world.now

    def later(self, delay: float, happen: Callable[[], None], *, is_timer: bool) -> None:
        self._world.at(self._world.now + delay, self._happen, happen, is_timer)

    def report(self, event: Event) -> None:
        self._world._deliver_to(self._node, self._incarnation, event)

    def _happen(self, happen: Callable[[], None], is_timer: bool) -> None:
        node = self._node
        if self.is_ending:
            happen()
        elif node.incarnation != self._incarnation:
            return
        elif node.power is RUNNING:
            happen()
        elif node.power in (HUNG, FROZEN):
            (node.timers if is_timer else node.inbox).append(happen)


class World:
    """`run(seconds)` lets time pass; the verbs make faults and mend them; `outage`, `serving` and `trace` observe."""

    placement: Literal["all", "master"] = "all"
    placed = Placed("lo", IPv4Interface(FLOATING))
    """Where floatip holds the address."""

    def __init__(
        self,
        seed: int = 0,
        *,
        priorities: Sequence[int] = (100, 50),
        route_servers: int = 4,
        preempt: bool = True,
        hold_time: int = 9,
        server_hold_time: int = 90,
        advert_interval: float = 1.0,
        last_resort: bool = False,
        marks: Mapping[Rank, Marks] = LINODE_MARKS,
        fall: int = 1,
        rise: int = 1,
        kernel_delay: float = 0.001,
        grace: float = 0.0,
        vrrp: Mapping[str, Any] | None = None,
    ) -> None:
        """`vrrp`: other figures of each node's election."""
        self.now = 0.0
        self.random = Random(seed)
        self.kernel_delay = kernel_delay
        self.grace = grace
        """For how long a node must have been well and connected to count as one that could serve."""
        self.loss = 0.0
        self.split: set[frozenset[str]] = set()
        self.trace: list[tuple[float, str, str, str, str]] = []
        self.faults: list[Fault] = []
        self.outages: list[Outage] = []
        self.updates: Counter[tuple[str, Address]] = Counter()
        """UPDATEs since the last fault or mending, by node and route server."""
        self.churn: list[tuple[float, str, int]] = []
        """Each UPDATE, with that count."""
        self.watchers: list[Callable[[], None]] = []
        self.notified: list[tuple[str, host.Notified]] = []
        """Of each incarnation of each node."""
        self.command: Callable[[], host.Outcome] = lambda: host.PASSES
        """What each run of a notify command does."""
        self.latency: dict[tuple[Address, Address], float] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._connections = 0
        self._news: list[Became] = []
        """Of the event that is handled."""
        self._dark: tuple[bool, bool] = (False, False)
        self._dark_since = 0.0
        self._is_stale = False
        self.pointer: Machine | None = None
        peers = ROUTE_SERVERS[:route_servers]
        names = "abcdefgh"[: len(priorities)]
        sources = [Ip4(f"192.168.143.{n}") for n in range(1, len(priorities) + 1)]
        # To each other the nodes differ, to the route servers, which are in one place, they mostly do not.
        ends: list[Address] = [*sources, *peers]
        for source in sources:
            near = self.random.uniform(0.0001, 0.002)
            for other in ends:
                far = other in sources or self.random.random() < 0.1
                self.latency[other, source] = self.random.uniform(0.0001, 0.002) if far else near
        self.servers = [
            Server(f"rs{n}", address, server_hold_time, self._route_server(server_hold_time))
            for n, address in enumerate(peers, start=1)
        ]
        self._server_by_address = {each.address: each for each in self.servers}
        self.nodes: dict[str, Machine] = {}
        for name, source, priority in zip(names, sources, priorities, strict=True):
            election = settings.Vrrp(
                INTERFACE,
                51,
                priority,
                source,
                tuple(each for each in sources if each != source),
                version=2 if advert_interval >= 1 else 3,
                advert_interval=advert_interval,
                preempt=preempt,
            )
            election = replace(election, **(vrrp or {}))
            config = settings.Settings(
                checks=(settings.Check(CHECK, fall=fall, rise=rise),),
                instances=self._instances(
                    settings.Instance(
                        INSTANCE,
                        (IPv4Interface(FLOATING),),
                        self._election(name, election),
                        checks=(CHECK,),
                        placement=self.placement,
                        interface=self.placed.interface,
                        last_resort=last_resort,
                    ),
                ),
                speaker=settings.Speaker(65001, 65000, source, peers, marks=marks, hold_time=hold_time)
                if peers
                else None,
                link=self._link(name, dict(zip(names, sources, strict=True))),
                seed=self.random.getrandbits(32),
            )
            local = Ip6(f"2600:3c0f:6::{int(source) & 0xFF:x}")
            self.nodes[name] = Machine(name, config, source, local, Node(config))
            self.nodes[name].clock_skew = self.random.uniform(-CLOCK_SKEW, CLOCK_SKEW)
        self._node_by_source: dict[Address, Machine] = {each.source: each for each in self.nodes.values()}
        self._node_by_local = {each.local: each for each in self.nodes.values()}
        self.hold_time = min(hold_time, server_hold_time)
        self.settle_time = max(20.0, 2.0 * self.hold_time)
        self.advert_interval = advert_interval
        self.slowest_takeover = 3 * advert_interval + max(256 - each for each in priorities) / 256 * min(
            1.0, advert_interval
        )
        self._prepare()
        for each in self.nodes.values():
            self._boot(each)

    def _prepare(self) -> None:
        """What else there is before the nodes start."""

    def _election(self, name: str, vrrp: settings.Vrrp) -> settings.Election:
        """Who elects for a node: by itself with these figures, or another with them."""
        return vrrp

    def _link(self, own: str, sources: Mapping[str, Address]) -> settings.Link | None:
        """How a node knows the others."""
        return None

    def _instances(self, instance: settings.Instance) -> tuple[settings.Instance, ...]:
        """With others beside it, which nothing here looks at."""
        return (instance,)

    # Time

    def clock(self, node: Machine) -> float:
        """Its monotonic time."""
        return self.now

    def when(self, node: Machine, clock: float) -> float:
        """Its monotonic clock will say so, unless it stands still before."""
        return clock

    def _ahead(self, node: Machine) -> float:
        """Its time of day, from its monotonic time."""
        return EPOCH + node.clock_skew

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        assert time >= self.now, "what is past cannot happen"
        self._order += 1
        heappush(self._heap, (time, self._order, action, arguments))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        steps, limit, heap = 0, STEPS_PER_SECOND * max(1.0, seconds), self._heap
        while self._is_stale or (heap and heap[0][0] <= until):
            if self._is_stale and not (heap and heap[0][0] <= self.now):
                self._observe()  # what this instant has come to; something may follow from it before the next
                continue
            self.now, _, action, arguments = heappop(heap)
            action(*arguments)
            steps += 1
            assert steps < limit, f"more than {STEPS_PER_SECOND} steps a second: this never falls quiet"
        self.now = until
        self._observe()

    # What a client notices

    @property
    def serving(self) -> str:
        """The node that answers clients now, or empty."""
        return self.pointer.name if self.pointer is not None and self.pointer.serves else ""

    @property
    def masters(self) -> list[str]:
        return [each.name for each in self.nodes.values() if each.role == "master" and each.power is RUNNING]

    def pointers(self) -> set[str]:
        """Where the route servers point, each for itself."""
        bests = [each.machine.best(PREFIX) for each in self.servers if each.up]
        return {self._node_by_local[best.peer].name if best else "" for best in bests}

    def outage(self, since: float = 0.0) -> float:
        """Seconds without service since then, whether or not somebody could have served."""
        return sum(each.until - max(each.at, since) for each in self._all_outages() if each.until > since)

    def needless(self) -> list[Outage]:
        return [each for each in self._all_outages() if each.needless]

    def _all_outages(self) -> list[Outage]:
        dark, needless = self._dark
        last = [Outage(self._dark_since, self.now, needless)] if dark and self.now > self._dark_since else []
        return self.outages + last

    def score(self) -> Iterator[str]:
        """The trace: time, a mark for each node (M master, b backup, f fault, i init; h hung, z frozen, k killed,
        . crashed), where the network points, and what happened."""
        for time, marks, who, what, why in self.trace:
            yield f"{time:10.4f}  {marks}  {who:<6} {what:<28} {why}".rstrip()

    def note(self, who: str, what: str, why: str = "") -> None:
        marks = "".join(each.power.value or each.role.translate({109: 77})[0] for each in self.nodes.values())
        pointer = self.pointer.name if self.pointer else "-"
        self.trace.append((self.now, f"{marks} {pointer}", who, what, why))

    def _changed(self) -> None:
        """Something that a client or a judge can see may have changed: it is looked at when this instant is over."""
        self._is_stale = True

    def _observe(self) -> None:
        self._is_stale = False
        for each in self.nodes.values():
            if not self._is_able(each):
                each.able_since = inf
            elif each.able_since == inf:
                each.able_since = self.now
                if self.grace:
                    self.at(self.now + self.grace, self._changed)
        dark = not self.serving
        needless = dark and any(each.able_since + self.grace <= self.now for each in self.nodes.values())
        if (dark, needless) != self._dark:
            self.outages = self._all_outages()
            self._dark, self._dark_since = (dark, needless), self.now
            self.note("", "dark" if dark else "light", "another node could serve" if needless else "")
        for watch in self.watchers:
            watch()

    def _is_able(self, node: Machine) -> bool:
        if node.power is not RUNNING or node.cut or node.stopping or node.service != "ok":
            return False
        return self._can_lead_clients_to(node)

    def _can_lead_clients_to(self, node: Machine) -> bool:
        return any(each.up and not each.cut and not self._is_refused(node, each) for each in self.servers)

    @staticmethod
    def _is_refused(node: Machine, server: Server) -> bool:
        """The route server still has a session of the node's former life and lets no other in."""
        return any(
            each.node is node and (not each.node_open or each.incarnation != node.incarnation)
            for each in server.connections.values()
        )

    # Faults and their mending

    def crash(self, name: str) -> None:
        """Power off: nothing is said to anyone, and nothing is left of it."""
        node = self._strike("crash", name)
        node.power = CRASHED
        node.kernel.clear()
        for each in node.sockets.values():
            each.up.queue.clear()
        self._forget_process(node)

    def boot(self, name: str) -> None:
        self._mend("crash", name)
        self.nodes[name].service = "ok"
        self._boot(self.nodes[name])
        # Stray segments of a former life are answered with RST.
        self._resume(self.nodes[name])

    def kill(self, name: str) -> None:
        """SIGKILL of the daemon: its kernel closes the connections at once, the address stays."""
        node = self._strike("kill", name)
        node.power = DEAD
        self._close_all(node)
        self._forget_process(node)

    def stop(self, name: str) -> None:
        node = self._strike("stop", name)
        node.stopping = True
        self._deliver(node, StopRequested())

    def start(self, name: str) -> None:
        """Of a daemon that was killed or stopped."""
        self._mend("kill", name)
        self._mend("stop", name)
        self._boot(self.nodes[name])

    def hang(self, name: str) -> None:
        self._strike("hang", name).power = HUNG

    def freeze(self, name: str, *, deaf: bool = False) -> None:
        node = self._strike("freeze", name)
        node.power, node.deaf = FROZEN, deaf

    def wake(self, name: str) -> None:
        self._mend("hang", name)
        self._mend("freeze", name)
        node = self.nodes[name]
        node.power, node.deaf = RUNNING, False
        while node.inbox:
            self._happen(node, node.inbox.popleft())
        self._handle(node, TICKED)
        while node.timers:
            node.timers.popleft()()
        self._resume(node)

    def sicken(self, name: str, *, hanging: bool = False) -> None:
        self._strike("hanging" if hanging else "sick", name).service = "hanging" if hanging else "sick"

    def heal(self, name: str) -> None:
        self._mend("sick", name)
        self._mend("hanging", name)
        self.nodes[name].service = "ok"

    def cut(self, name: str) -> None:
        """From everything: route servers, other nodes, clients."""
        self._strike("cut", name).cut = True

    def uncut(self, name: str) -> None:
        self._mend("cut", name)
        self.nodes[name].cut = False
        self._resume(self.nodes[name])

    def part(self, one: str, other: str) -> None:
        """No adverts between the two; all else works."""
        self._strike("split", one, f"from {other}")
        self.split.add(frozenset((one, other)))

    def join(self, one: str, other: str) -> None:
        self._mend("split", one)
        self.split.discard(frozenset((one, other)))

    def lose(self, share: float) -> None:
        if share:
            self._strike("loss", "", f"{share:.0%} of adverts")
        else:
            self._mend("loss", "")
        self.loss = share

    def delete(self, name: str) -> None:
        """Somebody deletes the address by hand."""
        node = self._strike("delete", name)
        node.kernel.discard(self.placed)
        self._kernel_reports(node)
        self._mend("delete", name)

    def link_down(self, name: str, reason: str = "the interface has no carrier") -> None:
        """As its kernel tells; the world goes on."""
        node = self._strike("link-down", name)
        self._deliver(node, LinkChanged(INTERFACE, False, reason))

    def link_up(self, name: str) -> None:
        self._mend("link-down", name)
        self._deliver(self.nodes[name], LinkChanged(INTERFACE, True, "has its address"))

    def cannot_keep(self, name: str) -> None:
        """Another program removes the address again and again."""
        node = self._strike("cannot-keep", name)
        failure = Failure(str(FLOATING), "something keeps removing it", unkept=frozenset({self.placed}))
        self._deliver(node, Failing("removals", frozenset({failure})))

    def keeps_again(self, name: str) -> None:
        self._mend("cannot-keep", name)
        self._deliver(self.nodes[name], Failing("removals", frozenset()))

    def rs_cut(self, number: int) -> None:
        self._strike("rs-cut", f"rs{number}")
        self.servers[number - 1].cut = True

    def rs_uncut(self, number: int) -> None:
        server = self.servers[number - 1]
        self._mend("rs-cut", server.name)
        server.cut = False
        self._resume(server)

    def rs_down(self, number: int) -> None:
        server = self.servers[number - 1]
        self._strike("rs-down", server.name)
        server.up = False
        for each in server.connections.values():
            each.server_open = False
            self._send(each, each.down, None)
        server.connections.clear()
        server.machine = self._route_server(server.hold_time)
        self._point()

    def rs_up(self, number: int) -> None:
        self._mend("rs-down", f"rs{number}")
        self.servers[number - 1].up = True

    @contextmanager
    def measured(self) -> Iterator[list[float]]:
        """Collects the outage seconds of its body."""
        spent: list[float] = []
        before = self.outage()
        yield spent
        spent.append(self.outage() - before)

    def _strike(self, kind: str, name: str, why: str = "") -> Machine:
        node = self.nodes.get(name)
        rank = self._rank(node) if node else Rank.NONE
        self.faults.append(Fault(kind, name, rank, self.now))
        self._edge(name, kind, why or (f"at rank {rank.label}" if node else ""))
        return node if node else next(iter(self.nodes.values()))

    def _rank(self, node: Machine) -> Rank:
        return node.rank

    def _mend(self, kind: str, name: str) -> None:
        for each in self.faults:
            if (each.kind, each.node, each.until) == (kind, name, inf):
                each.until = self.now
                self._edge(name, f"end of {kind}", "")

    def _edge(self, who: str, what: str, why: str) -> None:
        self.updates.clear()
        self.note(who, what.upper(), why)
        self.at(self.now, self._changed)

    # The host of a node

    def _boot(self, node: Machine) -> None:
        node.incarnation += 1
        node.power, node.stopping = RUNNING, False
        node.node = Node(self._drawn(node.config), self.clock(node))
        node.process = Process(self, node)
        node.checks = host.checks(node.process, lambda: node.service, CHECK)
        node.notified = host.Notified(node.process, node.node, self._run_command)
        self.notified.append((node.name, node.notified))
        self._handle(node, ClockMoved(self._ahead(node)))
        self._handle(node, Held(node.usable))
        self._handle(node, LinkChanged(INTERFACE, True, "has its address"))
        self._introduce(node)
        self._handle(node, Started())
        self._changed()

    def _drawn(self, config: settings.Settings) -> settings.Settings:
        """With what its host draws at each start."""
        return replace(config, seed=self.random.getrandbits(32))

    def _introduce(self, node: Machine) -> None:
        """What else its host knows before it starts."""

    def _run_command(self) -> host.Outcome:
        return self.command()

    def _forget_process(self, node: Machine) -> None:
        node.incarnation += 1
        node.notified.ended_at = self.now
        node.role, node.wake_at = "init", inf
        node.sockets, node.told = {}, {}
        node.inbox.clear()
        node.timers.clear()
        self._changed()

    def _close_all(self, node: Machine) -> None:
        for each in list(node.sockets.values()):
            each.node_open = False
            self._send(each, each.up, None)

    def _deliver(self, node: Machine, event: Event) -> None:
        if node.power is RUNNING:
            self._handle(node, event)
        elif node.power in (HUNG, FROZEN):
            node.inbox.append(event)

    def _happen(self, node: Machine, what: Event | Callable[[], None]) -> None:
        if callable(what):
            what()
        else:
            self._handle(node, what)

    def _deliver_to(self, node: Machine, incarnation: int, event: Event) -> None:
        if node.incarnation == incarnation:
            self._deliver(node, event)

    def _handle(self, node: Machine, event: Event) -> None:
        events = [event]
        for each in events:  # it grows by the answers
            if node.power is not RUNNING:
                return
            for effect in node.node.handle(each, self.clock(node)):
                self._perform(node, effect, events)
            if self._news:
                node.notified.news.add(self._news, self.now)
                self._news = []
        if node.power is RUNNING:
            node.deadline = max(self.when(node, node.node.deadline), self.now)
            self._set_alarm(node)

    def _set_alarm(self, node: Machine) -> None:
        if node.deadline < node.wake_at:
            node.wake_at = node.deadline
            self.at(node.wake_at, self._wake_up, node, node.incarnation)

    def _wake_up(self, node: Machine, incarnation: int) -> None:
        if node.incarnation != incarnation or self.now < node.wake_at:
            return
        node.wake_at = inf
        if node.power is not RUNNING:
            return
        if node.deadline <= self.now:
            self._handle(node, TICKED)
        else:
            self._set_alarm(node)

    def _perform(self, node: Machine, effect: Effect, answers: list[Event]) -> None:
        match effect:
            case SendBytes(peer, data):
                if connection := node.sockets.get(peer):
                    self._learn_what_is_told(node, peer, data)
                    self._send(connection, connection.up, data)
                    answers.append(connection.writable)
            case Measure(peer):
                if connection := node.sockets.get(peer):
                    answers.append(connection.measured[not connection.up.queue])
            case SendAdvert(interface, source, destination, data):
                to_all = destination.is_multicast
                receivers = self.nodes.values() if to_all else (self._node_by_source[destination],)
                advert = AdvertReceived(interface, source, destination, 255 if to_all else 254, data)
                for receiver in receivers:
                    if receiver is not node and self._hears(node, receiver):
                        self.at(self.now + self.latency[source, receiver.source], self._advert, receiver, advert)
            case Probe():
                node.checks.run(effect)
            case Dial(peer, timeout):
                self._dial(node, peer, timeout)
            case Close(peer):
                node.dials[peer] += 1
                node.told.pop(peer, None)
                if connection := node.sockets.pop(peer, None):
                    connection.node_open = False
                    self._send(connection, connection.up, None)
            case Hold(addresses):
                self.at(self.now + self.kernel_delay, self._hold, node, node.incarnation, set(addresses))
            case Became(what, name, value, reason):
                self._news.append(effect)
                if what == "role" and name == INSTANCE:
                    node.role = value.lower()
                    node.notified.expect(value, reason)
                if what != "session":
                    self.note(node.name, f"{what} {name} {value}", reason)
                self._changed()
            case Exit():
                node.power = DEAD
                self._close_all(node)
                node.process.is_ending = True
                node.process.later(0.0, node.notified.finish, is_timer=False)
                self._forget_process(node)

    def _hold(self, node: Machine, incarnation: int, wanted: set[Placed]) -> None:
        held = {each for each in node.kernel if each.interface == self.placed.interface}
        if node.incarnation == incarnation and held != wanted:
            node.kernel = node.kernel - held | wanted
            self._kernel_reports(node)

    def _kernel_reports(self, node: Machine) -> None:
        where = ", ".join(sorted(f"{each.address} on {each.interface}" for each in node.kernel))
        self.note(node.name, "kernel has" if where else "kernel has not", where or str(FLOATING))
        self._changed()
        self.at(self.now + 0.0002, self._deliver_to, node, node.incarnation, Held(node.usable))

    def _learn_what_is_told(self, node: Machine, peer: Address, data: bytes) -> None:
        if len(data) == KEEPALIVE_LENGTH:
            return
        for update in _updates(data):
            if PREFIX not in update.announced + update.withdrawn:
                continue
            self.updates[node.name, peer] += 1
            if not self.loss:  # each burst of lost adverts is a fault of its own
                self.churn.append((self.now, node.name, self.updates[node.name, peer]))
            if PREFIX in update.announced and update.attributes is not None:
                node.told[peer] = node.rank_of(update.attributes)
            else:
                node.told.pop(peer, None)
            self._changed()

    # The network

    def _hears(self, sender: Machine, receiver: Machine) -> bool:
        if sender.cut or receiver.cut or (self.split and frozenset((sender.name, receiver.name)) in self.split):
            return False
        return not self.loss or self.random.random() >= self.loss

    def _advert(self, receiver: Machine, event: AdvertReceived) -> None:
        if not (receiver.deaf or receiver.cut):
            self._deliver(receiver, event)

    def _dial(self, node: Machine, peer: Address, timeout: float) -> None:
        server = self._server_by_address[peer]
        node.dials[peer] += 1
        attempt = (node, node.incarnation, node.dials[peer], server)
        if node.cut or server.cut:
            self.at(self.now + timeout, self._refuse, *attempt, "timed out")
        else:
            self.at(self.now + 2 * self.latency[peer, node.source], self._connect, *attempt)

    def _refuse(self, node: Machine, incarnation: int, attempt: int, server: Server, reason: str) -> None:
        if node.dials[server.address] == attempt:
            self._deliver_to(node, incarnation, Disconnected(server.address, reason))

    def _connect(self, node: Machine, incarnation: int, attempt: int, server: Server) -> None:
        if node.incarnation != incarnation or node.dials[server.address] != attempt:
            return
        if not server.up:
            self._deliver(node, Disconnected(server.address, "connection refused"))
            return
        self._connections += 1
        connection = Connection(self._connections, node, server, incarnation, self.latency[server.address, node.source])
        node.sockets[server.address] = connection
        self.updates[node.name, server.address] = 0  # what a new session must be told is no churn
        server.connections[connection.number] = connection
        self._deliver(node, Connected(server.address, node.local))
        self._perform_outputs(server, server.machine.accepted(connection.number, node.local, self.now))

    def _send(self, connection: Connection, pipe: Pipe, data: bytes | None) -> None:
        pipe.queue.append(data)
        if not pipe.scheduled:
            pipe.scheduled = True
            self.at(self.now + connection.latency, self._arrive, connection, pipe)

    def _arrive(self, connection: Connection, pipe: Pipe) -> None:
        pipe.scheduled = False
        node, server = connection.node, connection.server
        if node.cut or server.cut or node.power in (CRASHED, FROZEN):
            return  # it stays in the sender's kernel until `_resume`
        ended = bool(pipe.queue) and pipe.queue[-1] is None
        data = b"".join(filter(None, pipe.queue))
        pipe.queue.clear()
        if pipe is connection.up:
            self._arrive_at_server(connection, data, ended)
        elif connection.incarnation == node.incarnation:
            self._arrive_at_node(connection, data, ended)
        elif connection.server_open:
            # The node that this was for is gone: its machine answers RST.
            self._arrive_at_server(connection, b"", ended=True)

    def _arrive_at_server(self, connection: Connection, data: bytes, ended: bool) -> None:
        server = connection.server
        if data and connection.server_open:
            self._perform_outputs(server, server.machine.received(connection.number, data, self.now))
        if ended and connection.server_open:
            connection.server_open = False
            server.connections.pop(connection.number, None)
            self._perform_outputs(server, server.machine.closed(connection.number))
            self._changed()

    def _arrive_at_node(self, connection: Connection, data: bytes, ended: bool) -> None:
        node, peer = connection.node, connection.server.address
        if data and connection.node_open:
            self._deliver(node, BytesReceived(peer, data))
        if ended and connection.node_open:
            connection.node_open = False
            if node.sockets.get(peer) is connection:
                del node.sockets[peer]
            node.told.pop(peer, None)
            self._deliver(node, Disconnected(peer, "connection closed by the peer"))

    def _resume(self, end: Machine | Server) -> None:
        """A way is open again: TCP retransmits what waited."""
        ends = [each.connections.values() for each in self.servers] + [
            each.sockets.values() for each in self.nodes.values()
        ]
        known = {each.number: each for connections in ends for each in connections}
        for _, connection in sorted(known.items()):
            if end not in (connection.node, connection.server):
                continue
            for pipe in (connection.up, connection.down):
                if pipe.queue and not pipe.scheduled:
                    pipe.scheduled = True
                    self.at(self.now + self.random.uniform(0.0, RETRANSMISSION), self._arrive, connection, pipe)

    # Route servers and the fabric behind them

    def _route_server(self, hold_time: int) -> RouteServer:
        return RouteServer(65000, IPv4Address("192.0.2.254"), hold_time, frozenset({65001}))

    def _perform_outputs(self, server: Server, outputs: list[Output]) -> None:
        if not outputs:
            return  # then no deadline has come nearer
        for output in outputs:
            match output:
                case Send(number, data):
                    connection = server.connections[number]
                    self._send(connection, connection.down, data)
                case Drop(number, reason):
                    connection = server.connections.pop(number)
                    connection.server_open = False
                    self._send(connection, connection.down, None)
                    self.note(server.name, f"drops {connection.node.name}", reason)
                case BestChanged():
                    self._point()
        self._set_server_alarm(server)

    def _set_server_alarm(self, server: Server) -> None:
        if (deadline := server.machine.deadline) < server.wake_at:
            server.wake_at = deadline
            self.at(deadline, self._tick_server, server)

    def _tick_server(self, server: Server) -> None:
        if self.now < server.wake_at:
            return
        server.wake_at = inf
        if server.up:
            self._perform_outputs(server, server.machine.tick(self.now))
            self._set_server_alarm(server)

    def _point(self) -> None:
        """The fabric hears all four and takes the best of their bests."""
        bests: list[LearntRoute] = [best for each in self.servers if each.up and (best := each.machine.best(PREFIX))]
        best = choose(bests)
        pointer = self._node_by_local[best.peer] if best else None
        if pointer is not self.pointer:
            self.pointer = pointer
            self.note("", f"fabric -> {pointer.name if pointer else 'nobody'}")
        self._changed()
