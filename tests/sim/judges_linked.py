"""What must never be seen of nodes that elect over the link, beside what must be seen of none."""

from functools import partial
from math import inf

from floatip.core.election.nodes import YIELD_AFTER
from floatip.core.fleet import HANDOVER_TIME
from floatip.core.link.detector import MOST_INTERVALS
from floatip.core.link.link import ROUND
from floatip.core.link.spread import assign
from tests.sim.judges import MOMENT, UPDATES, Judges
from tests.sim.linked import Linked
from tests.sim.world import INSTANCE, RUNNING, Fault, Machine

HARMLESS = {"replay", "forge", "double", "pause"}
"""Faults that must change no role."""
LOSSY = {"loss", "jitter", "one-way", "split"}
ECHO = 10.0
"""Seconds after which a fault, an order or its end changes nothing more."""
STEADY = 2.0
"""Seconds until what has just changed is known to all."""
LOSS_REMEMBERED = 20.0
"""Seconds for which a node that lost datagrams is more patient: until 64 have come without a loss."""


class JudgesLinked(Judges):
    updates = UPDATES + 2  # a preferred node may come back later

    def __init__(self, world: Linked, *, fall: int = 1) -> None:
        self.linked = world
        super().__init__(world, fall=fall)
        for node in world.nodes.values():
            self._never_for(
                HANDOVER_TIME, f"{node.name} is drained and master, and another is ready", self._clings, node
            )

    @property
    def _argument(self) -> float:
        return YIELD_AFTER + 2 * self.linked.detection_time + MOMENT

    def _watch_election(self) -> None:
        quick = self.linked.detection_time * 1.5 + MOMENT
        self._never(quick, "nobody is master, and a node is ready", partial(self._is_open, is_lossy=False))
        slow = (MOST_INTERVALS + 5) * self.linked.interval + ROUND
        self._never(slow, "nobody is master, and a node is ready", partial(self._is_open, is_lossy=True))

    def _is_open(self, *, is_lossy: bool) -> bool:
        world = self.linked
        if world.masters or world.is_held or self._is_recent(LOSSY, LOSS_REMEMBERED) is not is_lossy:
            return False
        ready = [each for each in world.nodes.values() if self._is_ready(each)]
        # That one which is to come first has just gone too, or was not heard yet, costs a step.
        return bool(ready) and not self._is_recent(None, STEADY, but_last=True)

    def _is_ready(self, node: Machine) -> bool:
        world = self.linked
        well = node.role == "backup" and node.able_since + world.grace <= world.now
        return well and not world.is_drained(node.name) and not node.node.instances[INSTANCE].bar

    def _is_recent(self, kinds: set[str] | None, seconds: float, *, but_last: bool = False) -> bool:
        """Whether one of the faults lasts, or has ended within so many seconds."""
        faults = [each for each in self.world.faults if each.kind not in HARMLESS]
        faults = faults[:-1] if but_last else faults
        return any(
            (kinds is None or each.kind in kinds) and (each.until == inf or self.world.now < each.until + seconds)
            for each in faults
        )

    def _clings(self, node: Machine) -> bool:
        world = self.linked
        if node.role != "master" or not world.is_drained(node.name) or node.power is not RUNNING or world.is_held:
            return False
        others = [each for each in world.nodes.values() if each is not node and self._is_ready(each)]
        return not self._is_recent(LOSSY, LOSS_REMEMBERED) and any(self._argue(node, each) for each in others)

    def _both_masters(self, one: Machine, other: Machine) -> bool:
        if self.linked.is_held or self._is_recent(LOSSY, ROUND) or inf in (one.able_since, other.able_since):
            return False
        return super()._both_masters(one, other)

    def _cost(self, fault: Fault, in_play: list[Fault]) -> float:
        lossy = self._patience_of_loss(in_play)
        match fault.kind:
            case "crash" | "freeze" | "cut" | "pause":
                return (
                    super()._cost(replace_kind(fault, "crash" if fault.kind == "pause" else fault.kind), in_play)
                    + lossy
                )
            case "hang" if fault.until < inf:
                return 0.0
            case _:
                return super()._cost(fault, in_play)

    def _patience_of_loss(self, in_play: list[Fault]) -> float:
        is_lossy = any(each.kind in LOSSY for each in self.world.faults if each.at <= in_play[-1].at)
        return MOST_INTERVALS * self.linked.interval if is_lossy else 0.0

    def _is_undecided(self, fault: Fault, in_play: list[Fault]) -> bool:
        # One that was cut off did not learn that another took over, and perhaps died meanwhile.
        others = [each for each in in_play if each.node != fault.node]
        undecided = any(each.kind in ("hold", "drain", "cut", "freeze", "hang") for each in others)
        return undecided or any(each.kind in LOSSY for each in in_play)

    # After the run

    def judge_changes(self) -> None:
        """A role changes because something has happened."""
        patience = ECHO + self.linked.preempt_delay + self.world.hold_time
        for at, _, who, what, why in self.world.trace:
            if not what.startswith(f"role {INSTANCE}") or at < ECHO:
                continue
            faults = [each for each in self.world.faults if each.kind not in HARMLESS and each.at <= at]
            if not any(at <= max(each.at, min(each.until, at)) + patience for each in faults):
                self.violations.append(f"{at:.3f}: {who} becomes {what.split()[-1]} for no reason: {why}")

    def judge_end(self, incumbent: str, *, preempt: bool) -> None:
        super().judge_end(incumbent, preempt=preempt)
        for node in self.world.nodes.values():
            masters = self.world.masters
            known = node.node.instances[INSTANCE].elector.master
            if len(masters) == 1 and node.name != masters[0] and known != self.world.nodes[masters[0]].source:
                self.violations.append(f"at the end {node.name} takes {known} for master, not {masters[0]}")

    def _successors(self, incumbent: str, *, preempt: bool) -> list[str]:
        nodes = self.world.nodes
        if not preempt:
            return [incumbent] if incumbent else list(nodes)
        config = next(iter(nodes.values())).config
        free = [name for name, each in nodes.items() if not self._is_damped(each)] or list(nodes)
        assert config.link is not None
        best = assign(config.instances, config.link.nodes, lambda _, node: node in free, {})
        # What was given by hand is not taken back; what a node was asked for that did not have it, it did not give.
        was_asked = any(each.kind == "handover" for each in self.world.faults)
        return [*best.values(), *([incumbent or "nobody"] if was_asked else [])]


def replace_kind(fault: Fault, kind: str) -> Fault:
    return Fault(kind, fault.node, fault.rank, fault.at, fault.until)
