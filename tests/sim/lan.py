"""The world of placement `master`: no route servers, and clients that find the address by ARP on a shared layer 2.

The clients' neighbour tables are played as one. They believe the last gratuitous ARP that reached them. An entry that
answers no longer is forgotten after a while; then, and where there is none, whoever holds the address answers. Several
holders answer in any order.
"""

from collections import Counter
from functools import partial
from ipaddress import IPv4Interface
from itertools import accumulate
from math import inf
from typing import Any

from floatip.core.addresses import Placed
from floatip.core.bgp.rank import Rank
from floatip.core.events import Effect, Event, Garp, StopGarp
from floatip.host.network.kernel.neighbours import DEFAULT, pauses
from tests.sim.world import FLOATING, INSTANCE, INTERFACE, Machine, World

FORGET_AFTER = 8.0
"""Seconds: what Linux takes for an entry that is stale, DELAY (5 s) and three probes."""
ASK_INTERVAL = 1.0
ARP_LATENCY = 0.0001, 0.002


class Lan(World):
    """`pointer` is the node in the clients' neighbour tables."""

    placement = "master"
    placed = Placed(INTERFACE, IPv4Interface(FLOATING))

    def __init__(self, seed: int = 0, **options: Any) -> None:
        self.arp_loss = 0.0
        self._orders: Counter[str] = Counter()
        """By node. A new order to tell the neighbours replaces the repeats of an older one."""
        self._gone: set[str] = set()
        """Nodes without the interface."""
        self._ask_at = inf
        """When the neighbours ask who has the address; `inf`: who they know answers."""
        super().__init__(seed, route_servers=0, **options)

    def pointers(self) -> set[str]:
        return {self.pointer.name if self.pointer else ""}

    @property
    def holders(self) -> list[str]:
        return [each.name for each in self.nodes.values() if each.has_address]

    def _can_lead_clients_to(self, node: Machine) -> bool:
        return node.has_link

    def _rank(self, node: Machine) -> Rank:
        return node.node.instances[INSTANCE].decision.rank

    # Faults and their mending

    def link_down(self, name: str, reason: str = "eth0 has no carrier", *, is_gone: bool = False) -> None:
        """`is_gone`: the interface is removed, and its addresses with it."""
        node = self.nodes[name]
        node.has_link, node.cut = False, True
        if is_gone:
            node.kernel.clear()
            self._gone.add(name)
        super().link_down(name, reason)
        self._kernel_reports(node)

    def link_up(self, name: str) -> None:
        node = self.nodes[name]
        node.has_link, node.cut = True, False
        self._gone.discard(name)
        super().link_up(name)
        self._kernel_reports(node)

    def lose_arp(self, share: float) -> None:
        """Of the gratuitous ones."""
        if share:
            self._strike("arp-loss", "", f"{share:.0%} of gratuitous ARPs")
        else:
            self._mend("arp-loss", "")
        self.arp_loss = share

    # The host of a node

    def _perform(self, node: Machine, effect: Effect, answers: list[Event]) -> None:
        match effect:
            case Garp():
                self._tell_neighbours(node)
            case StopGarp():
                self._orders[node.name] += 1
            case _:
                super()._perform(node, effect, answers)

    def _tell_neighbours(self, node: Machine) -> None:
        self._orders[node.name] += 1
        for delay in accumulate(pauses(DEFAULT.repeat, DEFAULT.delay)):
            node.process.later(delay, partial(self._send_garp, node, self._orders[node.name]), is_timer=True)

    def _send_garp(self, node: Machine, order: int) -> None:
        is_latest = order == self._orders[node.name]
        if is_latest and self._answers(node) and (not self.arp_loss or self.random.random() >= self.arp_loss):
            self.at(self.now + self.random.uniform(*ARP_LATENCY), self._point_at, node)

    def _hold(self, node: Machine, incarnation: int, wanted: set[Placed]) -> None:
        if node.name not in self._gone:
            super()._hold(node, incarnation, wanted)

    def _kernel_reports(self, node: Machine) -> None:
        if self.placed not in node.kernel:
            self._orders[node.name] += 1  # what was left to be told of it is not
        super()._kernel_reports(node)

    # The neighbours

    @staticmethod
    def _answers(node: Machine) -> bool:
        return node.is_alive and not node.cut and node.has_address

    def _point_at(self, node: Machine | None) -> None:
        if node is not self.pointer:
            self.pointer = node
            self.note("", f"neighbours -> {node.name if node else 'nobody'}")
            self._changed()

    def _observe(self) -> None:
        if self.pointer and self._answers(self.pointer):
            self._ask_at = inf
        elif self._ask_at == inf:
            self._ask_at = self.now + (FORGET_AFTER if self.pointer else ASK_INTERVAL)
            self.at(self._ask_at, self._ask)
        super()._observe()

    def _ask(self) -> None:
        if self.now < self._ask_at:
            return
        answers = [each for each in self.nodes.values() if self._answers(each)]
        self._point_at(self.random.choice(answers) if answers else None)
        self._ask_at = inf
        self._changed()
