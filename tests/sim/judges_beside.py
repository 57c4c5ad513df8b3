"""What must never be seen of nodes that follow a keepalived, beside what must be seen of none.

Keepalived is who decides, so it is the measure: whoever it says is master is followed, and what it has left behind, or
cannot say because it hangs, is not believed for longer than finding out takes.
"""

from collections.abc import Callable

from floatip.core.bgp.rank import Rank
from floatip.core.election.follower import BELIEVE_KERNEL_AFTER, CONTESTED_AFTER, PATIENCE
from tests.sim.beside import ON_ITS_INTERFACE, Beside
from tests.sim.judges import MOMENT, Judges, hear_each_other, is_preferred
from tests.sim.world import RUNNING, Fault, Machine

UNDECIDED_BESIDE = {"kill", "stop", "hang", "sick", "hanging", "cut"}
UNDECIDED_BESIDE |= {"kp-stop", "kp-kill", "kp-hang", "kp-fault", "kp-fifo", "kp-strip", "kp-add"}
"""Keepalived also elects a node on which floatip cannot follow it."""


class JudgesBeside(Judges):
    def __init__(self, world: Beside, *, fall: int = 1) -> None:
        self.beside = world
        super().__init__(world, fall=fall)

    @property
    def _argument(self) -> float:
        """Until the adverts of another have shown that our keepalived hangs: it may just have sent one."""
        return (CONTESTED_AFTER + 2) * self.world.advert_interval + MOMENT

    def _watch_election(self) -> None:
        believed = self.world.slowest_takeover + BELIEVE_KERNEL_AFTER + MOMENT
        never: tuple[tuple[float, str, Callable[[Machine], bool]], ...] = (
            (
                PATIENCE + MOMENT,
                "is announced as master, and its keepalived has ended or lost the address",
                self._is_stale,
            ),
            (MOMENT, "is announced above last-resort, and its keepalived says FAULT", self._ignores_fault),
            (self._argument, "is announced as master, its keepalived hangs and another is master", self._clings),
            (believed, "is not master, and its keepalived is", self._disobeys),
        )
        for node in self.world.nodes.values():
            for limit, what, condition in never:
                self._never_for(limit, f"{node.name} {what}", condition, node)

    def _is_stale(self, node: Machine) -> bool:
        keepalived = self.beside.keepaliveds[node.name]
        return is_preferred(node) and not (keepalived.is_alive and ON_ITS_INTERFACE in node.kernel)

    def _ignores_fault(self, node: Machine) -> bool:
        keepalived = self.beside.keepaliveds[node.name]
        sick = keepalived.says_fault and keepalived.is_heard
        return sick and node.power is RUNNING and node.rank > Rank.LAST_RESORT

    def _clings(self, node: Machine) -> bool:
        if not self.beside.keepaliveds[node.name].is_hung or not is_preferred(node):
            return False
        others = [self.world.nodes[each] for each in self.beside.electors if each != node.name]
        return any(self.beside.runs(each) and hear_each_other(self.world, node, each) for each in others)

    def _disobeys(self, node: Machine) -> bool:
        world = self.beside
        well = node.able_since + world.grace <= world.now and world.runs(node) and ON_ITS_INTERFACE in node.kernel
        return well and node.role != "master" and world.electors == [node.name]

    def _both_masters(self, one: Machine, other: Machine) -> bool:
        """Of two keepaliveds that hang neither sends adverts."""
        return (self.beside.runs(one) or self.beside.runs(other)) and super()._both_masters(one, other)

    def _is_undecided(self, fault: Fault, in_play: list[Fault]) -> bool:
        others = [each for each in in_play if each.node != fault.node and each.kind in UNDECIDED_BESIDE]
        return bool(others) or super()._is_undecided(fault, in_play)

    def _successors(self, incumbent: str, *, preempt: bool) -> list[str]:
        return self.beside.electors
