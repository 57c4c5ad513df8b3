"""A fleet in one process: the real core of each node in virtual time, without route servers. What scale costs it.

python -m bench fleet-sim
python -m bench.fleet_sim [--sizes 8x200,50x1000] [--seconds 10] [--json FILE]

Every node has the whole core of a daemon and holds its addresses at once; a datagram takes 0.2 ms. CPU is that of
`Node.handle` alone, so other load of the machine does not count; sockets and the kernel come on top. All times of the
election are virtual, and so exact.

start     from nothing until each instance has one master: virtual time, CPU of a node, its longest turn
steady    `--seconds` of nothing: CPU of a node, what it sends
crash     a node is gone: from its last hello until each of its instances has a master again; CPU and the longest turn
          of the nodes that are left
plan      `floatip plan`: who carries what, from nothing; and a rebalance after the node is back
memory    of all nodes together, divided by them
"""

import argparse
import gc
import resource
import time
from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Interface

from bench.scale import Row, table
from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.election.elector import Role
from floatip.core.events import (
    DatagramReceived,
    Effect,
    Event,
    Held,
    Hold,
    LinkChanged,
    SendDatagram,
    Started,
    Ticked,
)
from floatip.core.link import spread
from floatip.core.node import Node

DELAY = 0.0002
"""Seconds on the way."""
MOST = 30.0
"""Seconds for which a phase is waited for."""
SLICE = 0.010
"""Seconds that one turn of the loop may take: a tenth of the time between two hellos."""


class Machine:
    def __init__(self, node: Node, address: Address) -> None:
        self.node, self.address = node, address
        self.lives = True
        self.cpu = self.longest = 0.0
        self.last = ""
        self.sent = self.octets = 0
        self.ticks_at = -1.0
        self.heard_at = 0.0

    @property
    def carries(self) -> list[str]:
        return [name for name, one in self.node.instances.items() if one.role is Role.MASTER]


class Fleet:
    def __init__(self, nodes: int, instances: int) -> None:
        self.now = 0.0
        known = tuple(settings.Node(f"node{number}", IPv4Address(f"10.0.0.{number}")) for number in range(1, nodes + 1))
        self.configs = tuple(
            settings.Instance(
                f"VI_{number}", (IPv4Interface(IPv4Address("10.1.0.0") + number),), settings.Nodes(), interface="lo"
            )
            for number in range(1, instances + 1)
        )
        self.machines = {
            node.address: Machine(self._node(known, node, number), node.address) for number, node in enumerate(known)
        }
        self._heap: list[tuple[float, int, Machine, Event]] = []
        self._order = 0

    def _node(self, known: tuple[settings.Node, ...], own: settings.Node, number: int) -> Node:
        link = settings.Link(known, own.name, (bytes(32),), bytes(8))
        return Node(settings.Settings(instances=self.configs, link=link, boot=number + 1), 0.0)

    def start(self) -> None:
        for number, machine in enumerate(self.machines.values()):
            at = 0.1 * number / len(self.machines)  # nobody starts at the same moment
            for event in (LinkChanged("lo", True, ""), Held(frozenset()), Started()):
                self._push(at, machine, event)

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, machine, event = heappop(self._heap)
            if machine.lives and not (isinstance(event, Ticked) and machine.node.deadline > self.now):
                self._handle(machine, event)
        self.now = until

    def _push(self, at: float, machine: Machine, event: Event) -> None:
        self._order += 1
        heappush(self._heap, (at, self._order, machine, event))

    def _handle(self, machine: Machine, event: Event) -> None:
        began = time.thread_time()
        effects = machine.node.handle(event, self.now)
        took = time.thread_time() - began
        machine.cpu += took
        if took > machine.longest:
            machine.longest, machine.last = took, type(event).__name__
        for effect in effects:
            self._perform(machine, effect)
        if machine.node.deadline != machine.ticks_at:
            machine.ticks_at = machine.node.deadline
            self._push(max(machine.ticks_at, self.now), machine, Ticked())

    def _perform(self, machine: Machine, effect: Effect) -> None:
        match effect:
            case SendDatagram():
                machine.sent += 1
                machine.octets += len(effect.data) + 28  # IP and UDP headers
                other = self.machines[effect.destination]
                if other.lives:
                    at = self.now + DELAY
                    self._push(at, other, DatagramReceived(machine.address, effect.data, at))
            case Hold():
                self._push(self.now, machine, Held(effect.addresses))

    def forget_figures(self) -> None:
        for machine in self.machines.values():
            machine.cpu = machine.longest = 0.0
            machine.sent = machine.octets = 0

    @property
    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.lives]

    def masters(self) -> Counter[str]:
        return Counter(name for machine in self.alive for name in machine.carries)

    def until_carried(self) -> float:
        """Virtual seconds until each instance has exactly one master."""
        began = self.now
        while (masters := self.masters()) != Counter(config.name for config in self.configs):
            if self.now > began + MOST:
                raise RuntimeError(f"after {MOST:g} s {len(masters)} of {len(self.configs)} have a master")
            self.run(self.now + 0.005)
        return self.now - began


def measure_size(nodes: int, instances: int, seconds: float) -> Iterator[Row]:
    part = f"{nodes} x {instances}"
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fleet = Fleet(nodes, instances)
    fleet.start()
    fleet.run(0.2)
    took = 0.2 + fleet.until_carried()
    yield Row(part, "start: until each instance has one master", "s", took)
    yield from _turns(part, "start", fleet)
    fleet.run(fleet.now + 10.0)
    fleet.forget_figures()
    fleet.run(fleet.now + seconds)
    yield Row(part, "steady: CPU of a node", "% of a core", 100 * _mean(fleet, "cpu") / seconds)
    yield Row(part, "steady: longest turn", "ms", 1000 * max(machine.longest for machine in fleet.alive))
    yield Row(part, "steady: sent by a node", "kB/s", _mean(fleet, "octets") / 1000 / seconds)
    yield Row(part, "steady: datagrams sent by a node", "1/s", _mean(fleet, "sent") / seconds)
    if changed := fleet.masters() != Counter(config.name for config in fleet.configs):
        yield Row(part, "steady: instances without one master", "", float(changed), limit=0)
    loads = [len(machine.carries) for machine in fleet.alive]
    yield Row(part, "instances of the busiest node, of the idlest: difference", "", max(loads) - min(loads))
    dead = max(fleet.alive, key=lambda machine: len(machine.carries))
    left = len(dead.carries)
    fleet.forget_figures()
    dead.lives = False
    took = fleet.until_carried()
    yield Row(part, f"crash: {left} instances are taken over within", "s", took)
    fleet.run(fleet.now + 1.0)
    yield from _turns(part, "crash", fleet)
    yield Row(part, "memory of a node (all in one process)", "MB", _memory(before) / nodes)
    yield from _plans(part, fleet, dead)


def _turns(part: str, phase: str, fleet: Fleet) -> Iterator[Row]:
    yield Row(part, f"{phase}: CPU of a node", "ms", 1000 * _mean(fleet, "cpu"))
    slowest = max(fleet.alive, key=lambda machine: machine.longest)
    yield Row(part, f"{phase}: longest turn ({slowest.last})", "ms", 1000 * slowest.longest)


def _plans(part: str, fleet: Fleet, dead: Machine) -> Iterator[Row]:
    any_node = fleet.alive[0].node
    assert any_node.fleet
    nodes = any_node.fleet.link.config.nodes
    began = time.thread_time()
    spread.assign(fleet.configs, nodes, lambda instance, node: True, {})
    yield Row(part, "plan: all nodes ready, nothing carried", "ms", 1000 * (time.thread_time() - began))


def _mean(fleet: Fleet, what: str) -> float:
    alive = fleet.alive
    return float(sum(getattr(machine, what) for machine in alive)) / len(alive)


def _memory(before: int) -> float:
    """MB more than before, at most so far."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet_sim")
    parser.add_argument("--sizes", default="8x200,8x1000,32x1000,50x1000", help="nodes x instances")
    parser.add_argument("--seconds", type=float, default=10.0, help="virtual seconds of `steady`")
    options = parser.parse_args()
    rows: list[Row] = []
    for size in options.sizes.split(","):
        nodes, instances = map(int, size.split("x"))
        began = time.monotonic()
        rows += measure_size(nodes, instances, options.seconds)
        print(f"{size}: {time.monotonic() - began:.0f} s", flush=True)
    print(table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
