"""A fleet in one process, in virtual time, without route servers: what scale costs a node.

python -m bench fleet-sim
python -m bench.fleet_sim [--sizes 8x200,50x1000] [--seconds 10] [--real 2]

Some nodes have the whole core of a daemon, and hold their addresses at once. Of the others only the link is there: they
say what a node would say, and take over what the plan gives them. A datagram takes 0.2 ms. CPU is that of `Node.handle`
on one core, by the clock of the thread, so other load of the machine counts little; sockets and the kernel come on top.

start     the real nodes start, where the others run already: until each instance has one master
steady    `--seconds` of nothing: CPU, what a node sends
crash     a node is gone: from its last hello until each of its instances has one master again
plan      who carries what, from nothing; who takes over when a node is gone; the moves after it is back
memory    what a real node adds to this process
"""

import argparse
import gc
import math
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from bench.scale import Row, table
from floatip.core import settings
from floatip.core.election.elector import Role
from floatip.core.events import (
    ClockMoved,
    DatagramReceived,
    Effect,
    Event,
    Exit,
    Held,
    Hold,
    LinkChanged,
    SendDatagram,
    Started,
    Ticked,
)
from floatip.core.link import spread, wire
from floatip.core.link.detector import Detector
from floatip.core.link.link import Link, Peer
from floatip.core.link.rebalance import rebalance
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag, NodeState
from floatip.core.node import Node

DELAY = 0.0002
"""Seconds on the way."""
MOST = 30.0
"""Seconds for which a phase is waited for."""


class Machine:
    """A node."""

    def __init__(self, own: settings.Node) -> None:
        self.name, self.address = own.name, own.address
        self.lives = True
        self.cpu = self.longest = 0.0
        self.last = ""
        self.sent = self.octets = 0
        self.ticks_at = -1.0

    @property
    def deadline(self) -> float:
        raise NotImplementedError

    @property
    def carries(self) -> list[str]:
        raise NotImplementedError

    def handle(self, event: Event, now: float) -> list[Effect]:
        raise NotImplementedError


class Real(Machine):
    def __init__(self, config: settings.Settings) -> None:
        assert config.link
        super().__init__(next(node for node in config.link.nodes if node.name == config.link.own))
        self.node = Node(config, 0.0)

    @property
    def deadline(self) -> float:
        return self.node.deadline

    @property
    def carries(self) -> list[str]:
        return [name for name, one in self.node.instances.items() if one.role is Role.MASTER]

    def handle(self, event: Event, now: float) -> list[Effect]:
        return self.node.handle(event, now)


class QuietLink(Link):
    """Says nothing to those that would not listen."""

    listeners: frozenset[str] = frozenset()

    def _datagram(self, peer: Peer, blocks: Iterable[bytes], now: float, **how: Any) -> Effect:
        if peer.name in self.listeners:
            return super()._datagram(peer, blocks, now, **how)
        return Exit()


class Ghost(Machine):
    """Only the link of a node, which says what it is given."""

    def __init__(self, config: settings.Settings, listeners: frozenset[str], carries: Iterable[str]) -> None:
        assert config.link
        super().__init__(next(node for node in config.link.nodes if node.name == config.link.own))
        self.link = QuietLink(config.link, config.boot, 0.0)
        self.link.listeners = listeners
        self._carries = list(carries)
        self._names = [instance.name for instance in config.instances]

    @property
    def deadline(self) -> float:
        return self.link.deadline

    @property
    def carries(self) -> list[str]:
        return self._carries

    def handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Started():
                state = NodeState(self.name, "", bytes(8), len(self._names), NodeFlag.SEASONED)
                return self.link.tell(state, dict(map(self._state, self._names)), now)
            case Ticked():
                return self.link.tick(now)[0]
            case DatagramReceived():
                return self.link.received(event.source, event.data, event.at, now)[0]
        return []

    def take(self, name: str, now: float) -> list[Effect]:
        self._carries.append(name)
        assert self.link.own_node
        return self.link.tell(self.link.own_node, dict([self._state(name)]), now)

    def _state(self, name: str) -> tuple[bytes, InstanceState]:
        is_master = name in self._carries
        role, rank = (wire.Role.MASTER, 3) if is_master else (wire.Role.BACKUP, 2)
        flags = InstanceFlag.READY | InstanceFlag.HEALTHY | InstanceFlag.HELD
        flags |= InstanceFlag.ACKNOWLEDGED if is_master else InstanceFlag(0)
        reason = "no other node was master" if is_master else "started"
        reign = 1_790_000_000_000 if is_master else 0
        return wire.identity(name), InstanceState(wire.identity(name), role, rank, flags, 7, reign, reason=reason)


class Fleet:
    def __init__(self, nodes: int, instances: int, real: int) -> None:
        self.now = 0.0
        self.nodes = tuple(
            settings.Node(f"node{number}", IPv4Address(f"10.0.0.{number}")) for number in range(1, nodes + 1)
        )
        self.configs = tuple(
            settings.Instance(
                f"VI_{number}", (IPv4Interface(IPv4Address("10.1.0.0") + number),), settings.Nodes(), interface="lo"
            )
            for number in range(1, instances + 1)
        )
        self._heap: list[tuple[float, int, Machine, Event]] = []
        self._order = 0
        self.machines: dict[Any, Machine] = {}
        names = [node.name for node in self.nodes]
        listeners = frozenset(names[:real])
        ghosts = spread.assign(self.configs, self.nodes, lambda one, node: node not in listeners, {})
        for number in range(real, nodes):
            carries = [name for name, node in ghosts.items() if node == names[number]]
            self._add(Ghost(self._settings(number), listeners, carries))
        for number in range(real, nodes):
            self._begin(self.machines[self.nodes[number].address], 0.1 * number / nodes)
        self.run(1.0)
        gc.collect()
        self.ghosts_memory = _memory()
        for number in range(real):
            self._add(Real(self._settings(number)))

    def _settings(self, number: int) -> settings.Settings:
        link = settings.Link(self.nodes, self.nodes[number].name, (bytes(32),), bytes(8))
        return settings.Settings(instances=self.configs, link=link, boot=number + 1)

    def _add(self, machine: Machine) -> None:
        self.machines[machine.address] = machine

    def _begin(self, machine: Machine, at: float) -> None:
        for event in (ClockMoved(1.79e9), LinkChanged("lo", True, ""), Held(frozenset()), Started()):
            self._push(at, machine, event)

    @property
    def real(self) -> list[Real]:
        return [machine for machine in self.machines.values() if isinstance(machine, Real)]

    def start(self) -> None:
        for number, machine in enumerate(self.real):
            self._begin(machine, self.now + 0.05 * number)

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, machine, event = heappop(self._heap)
            if machine.lives and not (isinstance(event, Ticked) and machine.deadline > self.now):
                self._handle(machine, event)
        self.now = until

    def _push(self, at: float, machine: Machine, event: Event) -> None:
        self._order += 1
        heappush(self._heap, (at, self._order, machine, event))

    def _handle(self, machine: Machine, event: Event) -> None:
        began = time.thread_time()
        effects = machine.handle(event, self.now)
        took = time.thread_time() - began
        machine.cpu += took
        if took > machine.longest:
            machine.longest, machine.last = took, type(event).__name__
        self.perform(machine, effects)

    def perform(self, machine: Machine, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendDatagram():
                    machine.sent += 1
                    machine.octets += len(effect.data) + 28  # IP and UDP headers
                    if (other := self.machines.get(effect.destination)) and other.lives:
                        at = self.now + DELAY
                        self._push(at, other, DatagramReceived(machine.address, effect.data, at))
                case Hold():
                    self._push(self.now, machine, Held(effect.addresses))
        if machine.deadline != machine.ticks_at and machine.deadline < math.inf:
            machine.ticks_at = machine.deadline
            self._push(max(machine.ticks_at, self.now), machine, Ticked())

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

    def crash(self, dead: Machine) -> float:
        """Virtual seconds from its last hello until others have all that it carried."""
        carried = {name: one.name for one in self.alive for name in one.carries}
        dead.lives = False
        homes = spread.assign(self.configs, self.nodes, lambda one, node: node != dead.name, carried)
        self.run(self.now + Detector(0.1).patience)
        for machine in self.alive:
            if isinstance(machine, Ghost):
                for name in dead.carries:
                    if homes[name] == machine.name:
                        self.perform(machine, machine.take(name, self.now))
        return Detector(0.1).patience + self.until_carried()


def measure_size(nodes: int, instances: int, seconds: float, real: int) -> Iterator[Row]:
    part = f"{nodes} x {instances}"
    fleet = Fleet(nodes, instances, min(real, nodes))
    fleet.forget_figures()
    fleet.start()
    began = fleet.now
    fleet.run(fleet.now + 0.2)
    fleet.until_carried()
    yield Row(part, "start: until each instance has one master", "s", fleet.now - began)
    fleet.run(fleet.now + 10.0)
    yield from _turns(part, "start, and 10 s", fleet)
    yield Row(part, "memory of a node", "MB", (_memory() - fleet.ghosts_memory) / len(fleet.real))
    fleet.forget_figures()
    fleet.run(fleet.now + seconds)
    yield Row(part, "steady: CPU of a node", "% of a core", 100 * _mean(fleet, "cpu") / seconds)
    yield Row(part, "steady: longest turn", "ms", 1000 * max(machine.longest for machine in fleet.real))
    yield Row(part, "steady: sent by a node", "kB/s", _mean(fleet, "octets") / 1000 / seconds)
    yield Row(part, "steady: datagrams sent by a node", "1/s", _mean(fleet, "sent") / seconds)
    wrong = fleet.masters() - Counter(config.name for config in fleet.configs)
    yield Row(part, "steady: instances with more than one master", "", len(wrong), limit=0)
    candidates = [machine for machine in fleet.alive if isinstance(machine, Ghost)] or fleet.alive
    dead = max(candidates, key=lambda machine: len(machine.carries))
    left = len(dead.carries)
    fleet.forget_figures()
    took = fleet.crash(dead)
    yield Row(part, f"crash: {left} instances are taken over within", "s", took)
    fleet.run(fleet.now + 1.0)
    yield from _turns(part, "crash, and 1 s", fleet)
    yield from _plans(part, fleet, dead)


def _turns(part: str, phase: str, fleet: Fleet) -> Iterator[Row]:
    yield Row(part, f"{phase}: CPU of a node", "ms", 1000 * _mean(fleet, "cpu"))
    slowest = max(fleet.real, key=lambda machine: machine.longest)
    yield Row(part, f"{phase}: longest turn ({slowest.last})", "ms", 1000 * slowest.longest)


def _plans(part: str, fleet: Fleet, dead: Machine) -> Iterator[Row]:
    def all_ready(instance: str, node: str) -> bool:
        return True

    whole = spread.assign(fleet.configs, fleet.nodes, all_ready, {})
    for what, ready, carried in (
        ("nothing carried", all_ready, {}),
        ("one node gone", lambda one, node: node != dead.name, whole),
    ):
        began = time.thread_time()
        without = spread.assign(fleet.configs, fleet.nodes, ready, carried)
        yield Row(part, f"plan: {what}", "ms", 1000 * (time.thread_time() - began))
    began = time.thread_time()
    moves = rebalance(fleet.configs, fleet.nodes, all_ready, without)
    took = time.thread_time() - began
    yield Row(part, f"plan: a rebalance after that node is back, {len(moves)} moves", "ms", 1000 * took)


def _mean(fleet: Fleet, what: str) -> float:
    return float(sum(getattr(machine, what) for machine in fleet.real)) / len(fleet.real)


def _memory() -> float:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def measure() -> list[dict[str, Any]]:
    rows = [row for nodes, instances in ((8, 200), (50, 1000)) for row in measure_size(nodes, instances, 10.0, 2)]
    print(table(rows))
    return [{**asdict(row), "holds": row.holds} for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet_sim")
    parser.add_argument("--sizes", default="8x200,8x1000,32x1000,50x1000", help="nodes x instances")
    parser.add_argument("--seconds", type=float, default=10.0, help="virtual seconds of `steady`")
    parser.add_argument("--real", type=int, default=2, help="nodes with the whole core")
    options = parser.parse_args()
    rows: list[Row] = []
    for size in options.sizes.split(","):
        nodes, instances = map(int, size.split("x"))
        began = time.monotonic()
        rows += measure_size(nodes, instances, options.seconds, options.real)
        print(f"{size}: {time.monotonic() - began:.0f} s", flush=True)
    print(table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
