"""The world of nodes with the second chance: each has the pure machine of its process, and connections that last.

What the kernel does with packets, `second_chance_world` has; here it is whether moves wait for the lists, and for whom.
"""

from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from floatip.core import settings
from floatip.core.events import Arrange, Effect, Event, Exit, StandingTold, StreamOver
from floatip.core.second_chance.flow import Flow
from floatip.core.second_chance.machine import SecondChance
from floatip.core.second_chance.terms import Admit, Forward, ListSockets, Over, SendFrame, Standing, Tell, Wish
from floatip.core.second_chance.terms import Effect as OfProcess
from floatip.core.second_chance.wire import Frame
from tests.flows import flow
from tests.sim.linked import Linked
from tests.sim.world import INSTANCE, Machine

PATH = 0.002
LIMIT = 30.0


def flows(first: int, count: int, address: IPv4Address) -> set[Flow]:
    return {flow(IPv4Address(0x0A000000 + first + n), 12345, address, 80) for n in range(count)}


class Chanced(Linked):
    def __init__(self, seed: int = 0, *, limit: float = LIMIT, wanted: bool = False, **options: Any) -> None:
        self._chance = settings.SecondChance(limit=limit, is_wanted=wanted)
        self.processes: dict[str, SecondChance] = {}
        self.connections: dict[str, set[Flow]] = {}
        """Open ones of each node."""
        self.forwarded: dict[str, dict[Flow, str]] = {}
        """What each node forwards, and to whom."""
        self.admitted: dict[str, set[Flow]] = {}
        """What each node lets in through the tunnel."""
        self.no_tunnel = False
        self._ticks: dict[str, float] = {}
        self._wishes: dict[str, tuple[Wish, ...]] = {}
        super().__init__(seed, **options)

    def _drawn(self, config: settings.Settings) -> settings.Settings:
        return replace(super()._drawn(config), second_chance=self._chance)

    def open(self, name: str, count: int) -> None:
        (address,) = self.nodes[name].node.instances[INSTANCE].targets
        assert isinstance(address.ip, IPv4Address)
        self.connections[name] = flows(1000 * len(self.connections), count, address.ip)

    def _introduce(self, node: Machine) -> None:
        super()._introduce(node)
        self.forwarded[node.name] = {}
        self._begin(node.name)

    def _begin(self, name: str) -> None:
        boot = self.random.getrandbits(63) | 1
        process = self.processes[name] = SecondChance(name, self.nodes, boot, self._chance.limit, self.now)
        process.adopt(self.forwarded[name], frozenset(self.admitted.get(name, ())), {})
        self._do(name, process.wish(self._wishes.get(name, ()), self.now))

    def restart_process(self, name: str, after: float) -> None:
        """It is killed, and the daemon starts another one."""
        self._ticks.pop(name, None)
        del self.processes[name]
        self._deliver(self.nodes[name], StandingTold(Standing("its process was killed")))
        self.at(self.now + after, self._begin, name)

    def _perform(self, node: Machine, effect: Effect, answers: list[Event]) -> None:
        match effect:
            case Arrange(wishes):
                self._wishes[node.name] = wishes
                self.at(self.now + 0.001, self._wish, node.name, self.processes.get(node.name), wishes)
            case Exit():
                self.processes.pop(node.name, None)
                super()._perform(node, effect, answers)
            case _:
                super()._perform(node, effect, answers)

    def _wish(self, name: str, process: SecondChance | None, wishes: Any) -> None:
        if process and self.processes.get(name) is process:
            self._do(name, process.wish(wishes, self.now))

    def _do(self, name: str, effects: list[OfProcess]) -> None:
        process, node = self.processes[name], self.nodes[name]
        for effect in effects:
            match effect:
                case SendFrame(to, frame):
                    if not self.no_tunnel:
                        self.at(self.now + PATH, self._take_frame, to, frame)
                case ListSockets():
                    listed = frozenset(self.connections.get(name, ()))
                    self.at(self.now + PATH, self._listed, name, process, listed)
                case Forward(add, remove):
                    for flow in remove:
                        self.forwarded[name].pop(flow, None)
                    self.forwarded[name].update(add)
                    self.note(name, f"forwards {len(self.forwarded[name])}")
                case Admit(let_in, shut_out):
                    self.admitted[name] = (self.admitted.get(name, set()) | let_in) - shut_out
                case Tell(standing):
                    self.at(self.now, self._deliver, node, StandingTold(standing))
                case Over():
                    self.at(self.now, self._deliver, node, StreamOver(effect))
        if self._ticks.get(name) != process.deadline:
            self._ticks[name] = process.deadline
            self.at(process.deadline, partial(self._tick_process, name, process, process.deadline))

    def _tick_process(self, name: str, process: SecondChance, at: float) -> None:
        if self.processes.get(name) is process and self._ticks.get(name) == at and self.nodes[name].is_alive:
            self._ticks.pop(name)
            self._do(name, process.tick(self.now))

    def _take_frame(self, to: str, frame: Frame) -> None:
        if (process := self.processes.get(to)) and self.nodes[to].is_alive and not self.no_tunnel:
            self._do(to, process.heard(frame, self.now))

    def _listed(self, name: str, process: SecondChance, listed: frozenset[Flow]) -> None:
        if self.processes.get(name) is process and self.nodes[name].is_alive:
            self._do(name, process.listed(listed, PATH, self.now))


class ChancedByVrrp(Chanced):
    """The same, and VRRP elects: b has the better priority."""

    def _election(self, name: str, vrrp: settings.Vrrp) -> settings.Election:
        return replace(vrrp, priority=150 if name == "b" else 100)
