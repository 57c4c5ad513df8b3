"""A world of sync groups: on each node a VLAN address and a BGP address, each an instance of its own, in one group.

Only VRRP is played, with the real core and real bytes: adverts with latency, loss of what one node says of one instance
to another, machines that crash, hang and come back, interfaces without a link, checks that fail. All chance comes from
the seed. `splits` is what must never be: a moment in which a node is master of one member and not of the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Interface
from math import inf
from random import Random
from typing import Any

from floatip.core.addresses import Placed
from floatip.core.election.elector import Role
from floatip.core.events import (
    AdvertReceived,
    Became,
    CheckDone,
    Effect,
    Event,
    Exit,
    Held,
    Hold,
    LinkChanged,
    SendAdvert,
    Started,
    StopRequested,
    Ticked,
)
from floatip.core.node import Node
from floatip.core.settings import Check, Instance, Settings, SyncGroup, Vrrp

VLAN, BGP, GROUP = "vlan", "bgp", "G"
INTERFACES = {VLAN: "eth1", BGP: "eth0"}
VRIDS = {VLAN: 51, BGP: 52}
LATENCY = 0.0002, 0.002
KERNEL_DELAY = 0.001


@dataclass(eq=False)
class Machine:
    name: str
    number: int
    config: Settings
    node: Node | None = None
    """None: it is crashed or stopped."""
    kernel: frozenset[Placed] = frozenset()
    is_hung: bool = False
    incarnation: int = 0
    wake_at: float = inf
    inbox: list[Event] = field(default_factory=list)
    dark: set[str] = field(default_factory=set)
    """Interfaces without a link."""
    sick: set[str] = field(default_factory=set)
    """Checks that fail."""

    def role(self, instance: str) -> Role | None:
        return self.node.instances[instance].role if self.node else None

    @property
    def is_master(self) -> bool:
        return self.node is not None and all(one.role is Role.MASTER for one in self.node.instances.values())


class Groups:
    def __init__(
        self,
        priorities: Sequence[tuple[int, int]] = ((100, 100), (50, 50)),
        seed: int = 0,
        *,
        latency: tuple[float, float] = LATENCY,
        together: bool = True,
        **vrrp: Any,
    ) -> None:
        """`priorities`: of the VLAN address and of the BGP address on each node. `together`: in a group."""
        self.now = 0.0
        self.random = Random(seed)
        self.latency = latency
        self.lost: set[tuple[str, str, str]] = set()
        """Sender, receiver, instance: adverts that do not arrive."""
        self.splits: list[tuple[float, str]] = []
        self.news: list[tuple[float, str, Became]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        numbers = range(1, len(priorities) + 1)
        self.machines = {
            name: Machine(name, number, self._config(number, of_each, numbers, together, vrrp))
            for name, number, of_each in zip("abcdef", numbers, priorities, strict=False)
        }
        slowest = max(256 - each for pair in priorities for each in pair) / 256
        self.takeover = 3 * vrrp.get("advert_interval", 1.0) + slowest
        for machine in self.machines.values():
            self.boot(machine.name)

    def _config(
        self, number: int, priorities: tuple[int, int], numbers: Sequence[int], together: bool, vrrp: dict[str, Any]
    ) -> Settings:
        instances = []
        for net, (name, priority) in enumerate(zip((VLAN, BGP), priorities, strict=True)):
            source = IPv4Address(f"10.0.{net}.{number}")
            peers = tuple(IPv4Address(f"10.0.{net}.{other}") for other in numbers if other != number)
            election = Vrrp(INTERFACES[name], VRIDS[name], priority, source, peers, **vrrp)
            addresses = (IPv4Interface(f"192.0.2.{net + 1}/32"),)
            where: dict[str, Any] = {"placement": "master", "interface": "eth1"} if name == VLAN else {}
            instances.append(Instance(name, addresses, election, checks=(name,), **where))
        group = SyncGroup(GROUP, (VLAN, BGP), checks=("both",))
        checks = tuple(Check(name, pushed=True) for name in (VLAN, BGP, "both"))
        return Settings(checks, tuple(instances), (group,) if together else (), release_delay=0.1)

    # Faults and their mending

    def boot(self, name: str) -> None:
        machine = self.machines[name]
        if machine.node is None:
            machine.incarnation += 1
            machine.node, machine.inbox, machine.kernel = Node(machine.config, self.now), [], frozenset()
            self._handle(machine, Started())
            for interface in INTERFACES.values():
                self._link(machine, interface)
            for check in machine.config.checks:
                self._check(machine, check.name)

    def crash(self, name: str) -> None:
        machine = self.machines[name]
        machine.node, machine.kernel, machine.is_hung = None, frozenset(), False

    def stop(self, name: str) -> None:
        self._tell(self.machines[name], StopRequested())

    def hang(self, name: str) -> None:
        self.machines[name].is_hung = True

    def wake(self, name: str) -> None:
        machine = self.machines[name]
        machine.is_hung = False
        waiting, machine.inbox = machine.inbox, []
        for event in (*waiting, Ticked()):
            self._tell(machine, event)

    def unplug(self, name: str, instance: str) -> None:
        self._set_link(name, instance, is_up=False)

    def plug(self, name: str, instance: str) -> None:
        self._set_link(name, instance, is_up=True)

    def _set_link(self, name: str, instance: str, *, is_up: bool) -> None:
        machine, interface = self.machines[name], INTERFACES[instance]
        (machine.dark.discard if is_up else machine.dark.add)(interface)
        self._link(machine, interface)

    def _link(self, machine: Machine, interface: str) -> None:
        is_up = interface not in machine.dark
        self._tell(machine, LinkChanged(interface, is_up, "" if is_up else "no carrier"))

    def sicken(self, name: str, check: str) -> None:
        self.machines[name].sick.add(check)
        self._check(self.machines[name], check)

    def heal(self, name: str, check: str) -> None:
        self.machines[name].sick.discard(check)
        self._check(self.machines[name], check)

    def _check(self, machine: Machine, check: str) -> None:
        passed = check not in machine.sick
        self._tell(machine, CheckDone(check, 0, passed, "it passes" if passed else "it fails"))

    def lose(self, sender: str, receiver: str, instance: str) -> None:
        self.lost.add((sender, receiver, instance))

    def mend(self) -> None:
        """All that is broken."""
        self.lost.clear()
        for name, machine in self.machines.items():
            self.boot(name)
            self.wake(name)
            for instance in INTERFACES:
                self.plug(name, instance)
            for check in sorted(machine.sick):
                self.heal(name, check)

    # Time

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._heap, (time, self._order, action))

    def run(self, seconds: float) -> None:
        until, steps = self.now + seconds, 0
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heappop(self._heap)
            action()
            steps += 1
            assert steps < 1000 * (1 + seconds), "this never falls quiet"
        self.now = until

    def _tell(self, machine: Machine, event: Event) -> None:
        if machine.is_hung and machine.node:
            machine.inbox.append(event)
        elif machine.node:
            self._handle(machine, event)

    def _handle(self, machine: Machine, event: Event) -> None:
        assert machine.node is not None
        for effect in machine.node.handle(event, self.now):
            self._perform(machine, effect)
        self._observe(machine)
        if machine.node and machine.node.deadline < machine.wake_at:
            machine.wake_at = machine.node.deadline
            self.at(max(self.now, machine.wake_at), partial(self._wake, machine, machine.incarnation))

    def _wake(self, machine: Machine, incarnation: int) -> None:
        machine.wake_at = inf
        if machine.node and not machine.is_hung:
            self._handle(machine, Ticked())

    def _perform(self, machine: Machine, effect: Effect) -> None:
        match effect:
            case SendAdvert():
                self._send(machine, effect)
            case Hold(addresses):
                self.at(self.now + KERNEL_DELAY, partial(self._hold, machine, machine.incarnation, addresses))
            case Became():
                self.news.append((self.now, machine.name, effect))
            case Exit():
                machine.node = None

    def _hold(self, machine: Machine, incarnation: int, addresses: frozenset[Placed]) -> None:
        if machine.incarnation == incarnation and machine.node:
            machine.kernel = addresses
            self._tell(machine, Held(addresses))

    def _send(self, machine: Machine, sent: SendAdvert) -> None:
        instance = VLAN if sent.interface == INTERFACES[VLAN] else BGP
        number = int(sent.destination) & 0xFF
        receiver = next(one for one in self.machines.values() if one.number == number)
        is_lost = (machine.name, receiver.name, instance) in self.lost
        if not is_lost and sent.interface not in machine.dark | receiver.dark:
            event = AdvertReceived(sent.interface, sent.source, sent.destination, 255, sent.data)
            self.at(self.now + self.random.uniform(*self.latency), partial(self._tell, receiver, event))

    # What is seen

    @property
    def masters(self) -> list[str]:
        """Of the whole group."""
        return [name for name, machine in self.machines.items() if machine.is_master]

    def _observe(self, machine: Machine) -> None:
        roles = [one.role is Role.MASTER for one in machine.node.instances.values()] if machine.node else []
        if any(roles) and not all(roles):
            self.splits.append((self.now, machine.name))

    def changes(self, what: str, name: str) -> list[tuple[float, str, str]]:
        """Of a group or an instance: when, on which node, and what it became."""
        return [(at, on, one.value) for at, on, one in self.news if (one.what, one.name) == (what, name)]
