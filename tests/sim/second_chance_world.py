"""A world for the second chance in virtual time: nodes with the pure machine and a model of what the kernel does for
it, a router that sends each packet to one of them, clients with TCP connections, and a tunnel that loses, delays and
repeats.

The judges look at the clients, and at what is left in the kernels.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address

from floatip.core.addresses import Address
from floatip.core.second_chance.direct import NONCE, Probe, Pulse
from floatip.core.second_chance.flow import Flow, packed_address
from floatip.core.second_chance.machine import SecondChance
from floatip.core.second_chance.terms import (
    Admit,
    AnswerBy,
    CountPackets,
    Effect,
    ExpectProbes,
    Forward,
    HoldBack,
    ListSockets,
    Over,
    Phase,
    SendFrame,
    SendProbes,
    Standing,
    Tell,
    Wish,
)
from floatip.core.second_chance.wire import pack, parse
from tests.flows import flow

VIP = IPv4Address("192.0.2.1")
KEY = b"k" * 32
PATH = 0.01
"""Seconds between a client and a node, one way."""
HELD_FOR = 3.0
"""Seconds for which a held address stays held in the kernel unless it is said again."""
LIMIT = 60.0
PATIENCE = 1.0
"""Seconds for which the daemon waits until all is ready."""
FIRST_RETRY = 0.2
STUCK_AFTER = 3 * FIRST_RETRY
"""Seconds after which something was sent for the third time."""
PROVEN_FOR = 3.5
"""Seconds for which a probe is remembered."""
RST, ACK = "rst", "ack"


def address_of(name: str) -> Address:
    return IPv4Address(f"198.51.100.{ord(name[0])}")


@dataclass(eq=False)
class Machine:
    """A node: its kernel, and its process, if it runs."""

    name: str
    process: SecondChance | None = None
    sockets: set[Flow] = field(default_factory=set)
    moved: dict[Flow, str] = field(default_factory=dict)
    here: set[Flow] = field(default_factory=set)
    held: dict[Address, float] = field(default_factory=dict)
    """Until when."""
    answer_by: dict[Address, str] = field(default_factory=dict)
    direct: frozenset[Address] = frozenset()
    expected: frozenset[Probe] = frozenset()
    seen: dict[Probe, float] = field(default_factory=dict)
    """Until when it is remembered."""
    unacknowledged: dict[Flow, float] = field(default_factory=dict)
    """Since when."""
    got: dict[Flow, float] = field(default_factory=dict)
    """What of the client came last, by when it was sent first."""
    repeats: int = 0
    directly: int = 0
    """Answers that left neither as the carrier's nor by the tunnel."""
    forwarded: int = 0
    answers: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    lives: bool = True
    standing: Standing = field(default_factory=Standing)
    over: list[Over] = field(default_factory=list)
    timer: float = -1.0
    wishes: list[Wish] = field(default_factory=list)
    refuses_tunnel: bool = False
    """A filter drops what comes through the tunnel, behind its own counter."""


@dataclass(eq=False)
class Client:
    flow: Flow
    interval: float
    began: float
    ends: float
    is_open: bool = False
    sent_at: float = 0.0
    waits: bool = False
    longest: float = 0.0
    reset_at: float = -1.0
    tries: int = 0
    uploads: bool = False
    """What it gets are acknowledgements alone."""


class World:
    def __init__(
        self, seed: int, names: tuple[str, ...] = ("a", "b"), loss: float = 0.0, *, direct: bool = False
    ) -> None:
        """`direct`: answers may leave directly."""
        self.random = random.Random(seed)
        self.now = 100.0
        self.loss = loss
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.machines = {name: Machine(name) for name in names}
        self.target = names[0]
        """Where the router sends packets of the address."""
        self.blocked: set[frozenset[str]] = set()
        """Pairs between which the tunnel loses everything."""
        self.data_blocked: set[frozenset[str]] = set()
        """Pairs between which it loses all but frames."""
        self.direct = direct
        self.uploading = 0.0
        """The part of the long connections that are uploads."""
        self.is_strict = False
        """The router drops what comes from another node than `target`."""
        self.is_strict_beyond = False
        """Some router behind it does, which probes do not meet."""
        self.clients: dict[Flow, Client] = {}
        self.wrongs: list[str] = []
        for name in names:
            self.start(name)
        self.tell(names[0], Phase.CARRIES)
        for name in names[1:]:
            self.tell(name, Phase.REST)

    # Time

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._number), what))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = until

    def run_until(self, true: Callable[[], bool], seconds: float) -> bool:
        until = self.now + seconds
        while not true():
            if not self._queue or self._queue[0][0] > until:
                self.now = until
                return true()
            self.now, _, what = heapq.heappop(self._queue)
            what()
        return True

    # The nodes

    def start(self, name: str) -> None:
        machine = self.machines[name]
        boot = self.random.getrandbits(63) | 1
        secret = self.random.randbytes(NONCE) if self.direct else b""
        machine.process = SecondChance(name, self.machines, boot, LIMIT, self.now, secret)
        machine.expected, machine.seen = frozenset(), {}  # the rules are made again
        machine.direct = frozenset()  # as `Tunnel.adopted_answers` does it
        machine.process.adopt(machine.moved, frozenset(machine.here), dict(machine.answer_by))
        self.do(machine, machine.process.speak_from([address_of(name)], self.now))
        self.do(machine, machine.process.wish(machine.wishes, self.now))

    def kill_process(self, name: str) -> None:
        self.machines[name].process = None

    def kill_machine(self, name: str) -> None:
        machine = self.machines[name]
        machine.process, machine.lives = None, False
        machine.sockets.clear()

    def tell(self, name: str, phase: Phase, *nodes: str, moved_at: float | None = None) -> None:
        machine = self.machines[name]
        machine.wishes = [Wish("web", frozenset((VIP,)), phase, nodes, moved_at)]
        if machine.process:
            self.do(machine, machine.process.wish(machine.wishes, self.now))

    def do(self, machine: Machine, effects: list[Effect]) -> None:
        process = machine.process
        assert process
        for effect in effects:
            match effect:
                case SendFrame():
                    self.send(machine, effect)
                case ListSockets(addresses):
                    packed = {address.packed for address in addresses}
                    flows = frozenset(flow for flow in machine.sockets if packed_address(flow) in packed)
                    self.later(0.002, partial(self.listed, machine, process, flows))
                case CountPackets():
                    counts = machine.forwarded, machine.answers, dict(machine.accepted)
                    seen = frozenset(one for one, until in machine.seen.items() if self.now < until)
                    self.later(0.001, partial(self.counted, machine, process, counts, seen))
                case ExpectProbes(probes):
                    machine.expected = probes
                    machine.seen = {one: until for one, until in machine.seen.items() if one in probes}
                case SendProbes():
                    self.probe(machine, effect)
                case Forward():
                    for flow in effect.remove:
                        machine.moved.pop(flow, None)
                    machine.moved.update(effect.add)
                case Admit():
                    machine.here |= effect.add
                    machine.here -= effect.remove
                case HoldBack():
                    machine.held = dict.fromkeys(effect.addresses, self.now + HELD_FOR)
                case AnswerBy():
                    machine.answer_by, machine.direct = dict(effect.nodes), effect.direct
                case Tell():
                    machine.standing = effect.standing
                case Over():
                    machine.over.append(effect)
        self.arm(machine)

    def arm(self, machine: Machine) -> None:
        process = machine.process
        if process and process.deadline != machine.timer:
            machine.timer = at = process.deadline

            def tick() -> None:
                if machine.process is process and machine.timer == at:
                    machine.timer = -1.0
                    self.do(machine, process.tick(self.now))

            self.later(max(at - self.now, 0.0), tick)

    def listed(self, machine: Machine, process: SecondChance, flows: frozenset[Flow]) -> None:
        if machine.process is process and machine.lives:
            waiting = [since for flow, since in machine.unacknowledged.items() if flow in flows]
            stuck = sum(self.now >= since + STUCK_AFTER for since in waiting)
            pulse = Pulse(len(waiting), stuck, machine.repeats)
            self.do(machine, process.listed(flows, 0.002, self.now, pulse))

    def counted(
        self, machine: Machine, process: SecondChance, counts: tuple[int, int, dict[str, int]], seen: frozenset[Probe]
    ) -> None:
        if machine.process is process and machine.lives:
            self.do(machine, process.counted(*counts, self.now, seen))

    def probe(self, machine: Machine, effect: SendProbes) -> None:
        (receiver,) = (one for one in self.machines.values() if address_of(one.name) == effect.to)
        for source in effect.sources:
            is_dropped = self.is_strict and machine.name != self.target
            probe = Probe(effect.nonce, source)
            if not is_dropped and self.random.random() >= self.loss and receiver.lives:
                self.later(2 * PATH, partial(self.see, receiver, probe))

    def see(self, machine: Machine, probe: Probe) -> None:
        if probe in machine.expected and machine.moved:
            machine.seen[probe] = self.now + PROVEN_FOR

    def send(self, machine: Machine, effect: SendFrame) -> None:
        data = pack(effect.frame, KEY)
        pair = frozenset((machine.name, effect.node))
        if pair in self.blocked or self.random.random() < self.loss:
            return
        delay = self.random.uniform(0.001, 0.003 if not self.loss else 0.06)
        for _ in range(2 if self.random.random() < self.loss else 1):
            receiver = self.machines[effect.node]

            def arrive(receiver: Machine = receiver) -> None:
                process = receiver.process
                if process and receiver.lives and pair not in self.blocked:
                    self.do(receiver, process.heard(parse(data, [KEY]), self.now))

            self.later(delay, arrive)

    # The network

    def connect(self, interval: float, lasts: float = 1e9, *, uploads: bool = False) -> Client:
        connection = flow(IPv4Address(0x0A000000 + next(self._number)), 12345, VIP, 80)
        client = self.clients[connection] = Client(connection, interval, self.now, self.now + lasts, uploads=uploads)
        self.speak(client)
        return client

    def speak(self, client: Client) -> None:
        """It sends something, and waits for the answer."""
        if client.reset_at >= 0:
            return
        if self.now >= client.ends and client.is_open:
            for machine in self.machines.values():
                machine.sockets.discard(client.flow)
                machine.unacknowledged.pop(client.flow, None)
            del self.clients[client.flow]
            return
        client.waits, client.sent_at, client.tries = True, self.now, 0
        self.transmit(client, client.sent_at)

    def transmit(self, client: Client, of: float) -> None:
        if not client.waits or client.sent_at != of or client.reset_at >= 0:
            return
        client.longest = max(client.longest, self.now - client.sent_at)
        is_syn = not client.is_open
        self.later(PATH, lambda: self.arrive(client, self.machines[self.target], is_syn))
        client.tries += 1
        first = 1.0 if is_syn else FIRST_RETRY
        self.later(first * 2 ** (client.tries - 1), lambda: self.transmit(client, of))

    def arrive(self, client: Client, machine: Machine, is_syn: bool) -> None:
        """At an uplink."""
        if not machine.lives:
            return
        flow = client.flow
        if node := machine.moved.get(flow):
            machine.forwarded += 1
            pair = frozenset((machine.name, node))
            if pair not in self.blocked | self.data_blocked:
                self.later(0.001, lambda: self.emerge(client, self.machines[node], machine))
            return
        if is_syn and flow not in machine.sockets:
            machine.sockets.add(flow)
        self.take(client, machine)

    def take(self, client: Client, machine: Machine) -> None:
        """At its socket, if there is one."""
        if client.flow not in machine.sockets:
            self.answer(client, machine, RST)
            return
        machine.repeats += machine.got.get(client.flow) == client.sent_at
        machine.got[client.flow] = client.sent_at
        if not client.uploads:
            machine.unacknowledged.setdefault(client.flow, self.now)
        self.answer(client, machine, ACK)

    def emerge(self, client: Client, machine: Machine, carrier: Machine) -> None:
        """From the tunnel. Never forwarded again."""
        if not machine.lives or client.flow not in machine.here or machine.refuses_tunnel:
            return
        machine.accepted[carrier.name] += 1
        self.take(client, machine)

    def answer(self, client: Client, machine: Machine, what: str) -> None:
        if what is RST and machine.held.get(VIP, 0.0) > self.now:
            return
        if (by := machine.answer_by.get(VIP)) and VIP not in machine.direct:
            pair = frozenset((machine.name, by))
            carrier = self.machines[by]
            if pair in self.blocked | self.data_blocked or not carrier.lives or client.flow not in carrier.moved:
                return
            carrier.answers += 1
        elif machine.name != self.target:
            machine.directly += 1
            if self.is_strict or self.is_strict_beyond:
                return
        self.later(PATH, lambda: self.hear(client, what, machine))

    def hear(self, client: Client, what: str, machine: Machine) -> None:
        if client.reset_at >= 0 or client.flow not in self.clients:
            return
        if what is RST:
            if client.is_open:
                client.reset_at = self.now
            return
        machine.unacknowledged.pop(client.flow, None)
        if client.waits:
            client.waits, client.is_open = False, True
            client.longest = max(client.longest, self.now - client.sent_at)
            self.later(client.interval, lambda: self.speak(client))

    # Moves

    def move(self, old: str, new: str, flaps: int = 0, by: str = "") -> bool:
        """A planned one, begun by the old carrier or (`by`) by the new. Returns whether all was ready before it."""
        if by == new:
            self.tell(new, Phase.ASKS, old)
            ready = ("web", "")
            waits = self.machines[new]
        else:
            self.tell(old, Phase.OFFERS, new)
            ready = ("web", new)
            waits = self.machines[old]
        is_ready = self.run_until(lambda: ready in waits.standing.ready, PATIENCE)
        self.tell(new, Phase.CARRIES, moved_at=self.now)
        self.later(0.005, lambda: self.tell(old, Phase.REST))
        for flap in range(flaps):
            where = self.random.choice((old, new))
            self.later(0.01 + 0.4 * flap / flaps, partial(self.point, where))
        self.later(0.01 + (0.4 if flaps else 0.0), lambda: self.point(new))
        return is_ready

    def point(self, target: str) -> None:
        self.target = target

    # Judges

    @property
    def reset(self) -> list[Client]:
        return [client for client in self.clients.values() if client.reset_at >= 0]

    @property
    def longest(self) -> float:
        """The longest that a client waited for an answer, or waits."""
        waits = [self.now - one.sent_at for one in self.clients.values() if one.waits and one.reset_at < 0]
        return max([one.longest for one in self.clients.values()] + waits, default=0.0)

    def left_behind(self) -> list[str]:
        found = []
        for machine in self.machines.values():
            if not machine.lives:
                continue
            is_held = any(until > self.now for until in machine.held.values())
            for what, is_there in (
                ("forwards", machine.moved),
                ("admits", machine.here),
                ("holds", is_held),
                ("answers by the tunnel", machine.answer_by),
                ("answers directly", machine.direct),
                ("looks for probes", machine.expected),
            ):
                if is_there:
                    found.append(f"{machine.name} still {what}")
        return found
