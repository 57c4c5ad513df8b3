"""The world of nodes that elect among themselves, over the link: datagrams, what goes wrong with them, and orders."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.events import (
    DatagramReceived,
    Drained,
    Effect,
    Event,
    HandoverAsked,
    KeepOrders,
    Order,
    OrdersRecalled,
    Paused,
    SendDatagram,
)
from floatip.core.link import wire
from floatip.core.link.wire import HelloFlag, InstanceFlag, InstanceState, NodeFlag, NodeState
from floatip.core.node import Node
from tests.sim.world import FROZEN, INSTANCE, Machine, World

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
INTERVAL = 0.1
RECORDED = 200
"""Datagrams that can be replayed: of the whole time, and of the last moments."""
FAR_AHEAD = 10**15
"""A reign that none can be later than."""


class Linked(World):
    """`nodes` of them; the first ones of `prefer` are preferred."""

    def __init__(
        self,
        seed: int = 0,
        *,
        nodes: int = 2,
        prefer: tuple[str, ...] = (),
        preempt: bool = False,
        preempt_delay: float = 0.0,
        interval: float = INTERVAL,
        **options: Any,
    ) -> None:
        self._nodes_election = settings.Nodes(prefer=prefer, preempt=preempt, preempt_delay=preempt_delay)
        self.interval = interval
        self.preempt_delay = preempt_delay if preempt else 0.0
        self.one_way: set[tuple[str, str]] = set()
        """From whom to whom nothing of the link comes."""
        self.jitter = self.doubled = 0.0
        """Seconds by which a datagram may be late, and the share of those that come twice."""
        self.orders: dict[str, OrdersRecalled] = {}
        """What is kept on the disk of each node."""
        self._recorded: list[tuple[Machine, Machine, bytes]] = []
        self._latest: deque[tuple[Machine, Machine, bytes]] = deque(maxlen=RECORDED)
        self._seen = 0
        super().__init__(seed, priorities=(100,) * nodes, **options)
        self.detection_time = self._any.fleet.link.detection_time if self._any.fleet else 0.0
        # The successors that come before may have just gone too.
        self.slowest_takeover = self.detection_time * (1 + (nodes - 2) / 2) + 2 * self.interval

    @property
    def _any(self) -> Node:
        return next(iter(self.nodes.values())).node

    def _election(self, name: str, vrrp: settings.Vrrp) -> settings.Election:
        return self._nodes_election

    def _link(self, own: str, sources: Mapping[str, Address]) -> settings.Link | None:
        nodes = tuple(settings.Node(name, address) for name, address in sources.items())
        return settings.Link(nodes, own, (KEY,), digest=bytes(8), interval=self.interval, version="1")

    def _drawn(self, config: settings.Settings) -> settings.Settings:
        return replace(super()._drawn(config), boot=self.random.getrandbits(63) | 1)

    # Faults of the link and their mending

    def silence(self, one: str, other: str) -> None:
        """Nothing of the link comes from the one to the other."""
        self._strike("one-way", one, f"to {other}")
        self.one_way.add((one, other))

    def unsilence(self, one: str, other: str) -> None:
        self._mend("one-way", one)
        self.one_way.discard((one, other))

    def delay(self, jitter: float) -> None:
        """Each datagram by another time: they overtake each other."""
        if jitter:
            self._strike("jitter", "", f"up to {jitter:g} s")
        else:
            self._mend("jitter", "")
        self.jitter = jitter

    def double(self, share: float) -> None:
        if share:
            self._strike("double", "", f"{share:.0%} of datagrams")
        else:
            self._mend("double", "")
        self.doubled = share

    def pause(self, name: str, seconds: float, *, deaf: bool = False) -> None:
        """It stands still for so short a while that nobody is to notice."""
        self._strike("pause", name, f"for {seconds:g} s")
        node = self.nodes[name]
        node.power, node.deaf = FROZEN, deaf
        self.at(self.now + seconds, self._unpause, node, node.incarnation)

    def _unpause(self, node: Machine, incarnation: int) -> None:
        if node.incarnation == incarnation and node.power is FROZEN:
            self._mend("pause", node.name)
            self.wake(node.name)

    def replay(self, number: int = 1) -> None:
        """Of what has been heard, to whom it was for and to others."""
        self._strike("replay", "", f"{number} datagrams")
        for _ in range(number):
            if stored := self.random.choice((self._recorded, self._latest)):
                sender, receiver, data = self.random.choice(stored)
                if self.random.random() < 0.3:
                    receiver = self.random.choice(list(self.nodes.values()))
                self.at(self.now + self.random.uniform(0.0, 2.0), self._arrive_by_link, receiver, sender, data)
        self._mend("replay", "")

    def forge(self, number: int = 1) -> None:
        """A mutated datagram, or a good one with another key: it is master, and the latest, or it leaves."""
        self._strike("forge", "", f"{number} datagrams")
        for _ in range(number):
            sender, receiver = self.random.sample(list(self.nodes.values()), 2)
            if self._latest and self.random.random() < 0.5:
                sender, receiver, data = self.random.choice(self._latest)
                data = self._mutated(data)
            else:
                data = self._forged(sender, receiver)
            self.at(self.now + self.random.uniform(0.0, 2.0), self._arrive_by_link, receiver, sender, data)
        self._mend("forge", "")

    def _mutated(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(changed[: self.random.choice((len(data), len(data), self.random.randrange(len(data) + 1)))])

    def _forged(self, sender: Machine, receiver: Machine) -> bytes:
        flags = self.random.choice((HelloFlag(0), HelloFlag.LEAVES))
        master = InstanceFlag.READY | InstanceFlag.ACKNOWLEDGED | InstanceFlag.HEALTHY | InstanceFlag.HELD
        state = InstanceState(wire.identity(INSTANCE), wire.Role.MASTER, 9, master, 0, FAR_AHEAD)
        datagram = wire.Datagram(
            wire.identity(sender.name),
            sender.node.config.boot,
            1 << 40,
            100,
            flags,
            receiver.node.config.boot,
            1,
            1,
            NodeState(sender.name, "1", bytes(8), 1, NodeFlag.SEASONED),
            (state,),
            receiver=wire.identity(receiver.name),
        )
        return wire.pack(datagram, OTHER_KEY)

    # Orders

    def drain(self, name: str, reason: str = "") -> None:
        self._strike("drain", name)
        self._deliver(self.nodes[name], Drained(Order(reason)))

    def undrain(self, name: str) -> None:
        self._mend("drain", name)
        self._deliver(self.nodes[name], Drained(None))

    def hold_election(self, name: str) -> None:
        self._strike("hold", name)
        self._deliver(self.nodes[name], Paused(Order("by hand")))

    def resume_election(self, name: str) -> None:
        self._mend("hold", name)
        self._deliver(self.nodes[name], Paused(None))

    def hand_over(self, name: str, to: str = "") -> None:
        self._strike("handover", name, f"to {to}" if to else "")
        self._deliver(self.nodes[name], HandoverAsked((INSTANCE,), to))
        self._mend("handover", name)

    def is_drained(self, name: str) -> bool:
        fleet = self.nodes[name].node.fleet
        return bool(fleet and fleet.drained)

    @property
    def is_held(self) -> bool:
        """Somebody has paused the election."""
        fleets = [each.node.fleet for each in self.nodes.values()]
        return any(fleet and fleet.pause_reason for fleet in fleets)

    # The host of a node

    def _introduce(self, node: Machine) -> None:
        if kept := self.orders.get(node.name):
            self._handle(node, kept)

    def _perform(self, node: Machine, effect: Effect, answers: list[Event]) -> None:
        match effect:
            case SendDatagram(destination, data):
                self._transmit(node, self._node_by_source[destination], data)
            case KeepOrders(drained, paused):
                self.orders[node.name] = OrdersRecalled(drained, paused)
            case _:
                super()._perform(node, effect, answers)

    # The link

    def _transmit(self, sender: Machine, receiver: Machine, data: bytes) -> None:
        if (sender.name, receiver.name) in self.one_way or not self._hears(sender, receiver):
            return
        for _ in range(2 if self.doubled and self.random.random() < self.doubled else 1):
            late = self.random.uniform(0.0, self.jitter) if self.jitter else 0.0
            at = self.now + self.latency[sender.source, receiver.source] + late
            self.at(at, self._arrive_by_link, receiver, sender, data)
        self._record(sender, receiver, data)

    def _record(self, sender: Machine, receiver: Machine, data: bytes) -> None:
        """Whoever listens keeps the latest, and some of all that was ever said."""
        one = sender, receiver, data
        self._latest.append(one)
        self._seen += 1
        if len(self._recorded) < RECORDED:
            self._recorded.append(one)
        elif self._seen % 16 == 0:
            self._recorded[self._seen // 16 % RECORDED] = one

    def _arrive_by_link(self, receiver: Machine, sender: Machine, data: bytes) -> None:
        if receiver.deaf or receiver.cut:
            return
        if receiver.power is FROZEN:  # its kernel receives it when it wakes
            receiver.inbox.append(partial(self._receive, receiver, receiver.incarnation, sender.source, data))
        else:
            self._deliver(receiver, DatagramReceived(sender.source, data, self.clock(receiver)))

    def _receive(self, receiver: Machine, incarnation: int, source: Address, data: bytes) -> None:
        if receiver.incarnation == incarnation:
            self._handle(receiver, DatagramReceived(source, data, self.clock(receiver)))
