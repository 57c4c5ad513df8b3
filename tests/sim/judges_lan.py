"""What must never be seen where the master alone holds the address, and how long the neighbours may be led astray."""

from functools import partial
from math import inf

from floatip.core.instance import KEEP_TIME
from floatip.core.node import LINK_PATIENCE
from tests.sim.judges import MOMENT, PUT_BACK, UNDECIDED, Judges
from tests.sim.lan import ASK_INTERVAL, FORGET_AFTER, Lan
from tests.sim.world import DEAD, RUNNING, Fault, Machine, Outage


class JudgesLan(Judges):
    def __init__(self, world: Lan, *, fall: int = 1) -> None:
        self.lan = world
        self._is_dark = False
        self._astray: dict[float, bool] = {}
        """When each outage began, and whether another node than that with the fault had the address then: it had told
        the neighbours before the other did, and has no reason to tell them again."""
        super().__init__(world, fall=fall)
        nodes = list(world.nodes.values())
        for index, one in enumerate(nodes):
            for other in nodes[index + 1 :]:
                what = f"{one.name} and {other.name} hear each other and both hold the address"
                self._never(self._argument + KEEP_TIME, what, partial(self._both_hold, one, other))
        world.watchers.append(self._watch_neighbours)

    def _watch_placement(self, node: Machine) -> None:
        self._never_for(2 * self._verdict, f"{node.name} is sick and holds the address", _holds_though_sick, node)
        self._never_for(MOMENT, f"{node.name} has stopped and holds the address", _holds_though_stopped, node)

    def _both_hold(self, one: Machine, other: Machine) -> bool:
        """Beside a master. What killed daemons left on two nodes stays until one of them is."""
        if "master" not in (one.role, other.role):
            return False
        hold = one.has_address and other.has_address and not (one.stopping or other.stopping)
        return hold and self._argue(one, other)

    def _watch_neighbours(self) -> None:
        is_dark, pointer = not self.lan.serving, self.lan.pointer
        if is_dark and not self._is_dark:
            others = [each for each in self.lan.nodes.values() if each.has_address and each is not pointer]
            self._astray[self.lan.now] = bool(others) and not (pointer and self._yields(pointer))
        self._is_dark = is_dark

    def _yields(self, node: Machine) -> bool:
        """It is well, and has told the other so. One that was suspended has said nothing."""
        has_slept = any(
            each.node == node.name and each.kind in ("hang", "freeze") and self.world.now < each.until + 2 * KEEP_TIME
            for each in self.world.faults
        )
        return node.able_since < inf and node.role == "backup" and not has_slept

    def _bound(self, outage: Outage) -> float:
        takeover = self.world.slowest_takeover
        bound = super()._bound(outage)
        if outage.at < takeover:
            bound += takeover  # nobody was master before
        if self._astray[max(at for at in self._astray if at <= outage.at)]:
            bound += FORGET_AFTER
        return bound

    def _cost(self, fault: Fault, in_play: list[Fault]) -> float:
        takeover = self.world.slowest_takeover + 0.1
        is_undecided = any(each.kind in UNDECIDED for each in in_play)
        handover = takeover if is_undecided else self._slowest_handover
        match fault.kind:
            case "link-down" if fault.until - fault.at < LINK_PATIENCE:
                return fault.until - fault.at + MOMENT
            case "crash" | "freeze" | "cut" | "link-down":
                return takeover
            # What a killed daemon left serves until its successor hears another master, or is it.
            case "kill" if is_undecided:
                return takeover
            # The node is a backup when it wakes up, and holds nothing: another must follow.
            case "hang":
                return takeover
            # Nobody has heard it, or who comes back has not yet listened for long enough.
            case "stop" if is_undecided or len(in_play) > 1:
                return takeover
            case "sick":
                return self._verdict + handover
            case "hanging":
                return 2 * self._verdict + handover
            case "delete":
                return PUT_BACK
            # Nobody told the neighbours, or the last advert of a master that yields is lost.
            case "arp-loss" | "loss":
                return FORGET_AFTER + ASK_INTERVAL
            case _:
                return 0.0

    def _judge_placement(self, masters: list[str]) -> None:
        for what, names in (("held by", set(self.lan.holders)), ("found at", self.world.pointers())):
            if names != set(masters):
                self.violations.append(f"at the end {masters} are master, and the address is {what} {sorted(names)}")


def _holds_though_sick(node: Machine) -> bool:
    return node.service != "ok" and node.power is RUNNING and node.has_address


def _holds_though_stopped(node: Machine) -> bool:
    return node.stopping and node.power is DEAD and node.has_address
