"""What must never be seen in the simulated world, whatever happens in it, and what must be seen when it is whole again.

Nearly all of it has one form: a condition that must not last longer than so long. The judges look at what the world
shows (kernel, bytes sent, roles, where the network points), not at what a node says of itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

from floatip.core.bgp.rank import Rank
from floatip.core.settings import Keepalived, Vrrp
from tests.sim.world import INSTANCE, RUNNING, Fault, Machine, Outage, World

MOMENT = 0.02
"""Latencies and the kernel's answers, several of each."""
PUT_BACK = 0.05
UPDATES = 3
STARTS = {"crash", "kill", "stop"}
UNDECIDED = {"split", "loss"}
"""While these last, more than one may be master at one rank, or none: then a dead one's route has nothing above it, and
ends with the hold time."""


@dataclass(slots=True)
class Spell:
    """A condition that may hold for `limit` seconds at a time."""

    what: str
    holds: Callable[[], bool]
    limit: float
    since: float = inf


class Judges:
    """Watches a world from the moment that it is made; `violations` says what was seen, with its time."""

    updates = UPDATES

    def __init__(self, world: World, *, fall: int = 1) -> None:
        self.world = world
        self.violations: list[str] = []
        self._verdict = fall + MOMENT  # checks run each second; one that hangs takes a second more each time
        self._spells: list[Spell] = []
        for node in world.nodes.values():
            self._watch_placement(node)
        nodes = list(world.nodes.values())
        for index, one in enumerate(nodes):
            for other in nodes[index + 1 :]:
                what = f"{one.name} and {other.name} hear each other and both are master"
                self._never(self._argument, what, partial(self._both_masters, one, other))
        self._watch_election()
        world.watchers.append(self._watch)

    def _watch_placement(self, node: Machine) -> None:
        self._never_for(
            PUT_BACK + MOMENT, f"{node.name} announces what it does not hold", _announces_without_address, node
        )
        self._never_for(
            2 * self._verdict, f"{node.name} is sick and announces above last-resort", _announces_though_sick, node
        )

    @property
    def _argument(self) -> float:
        """How long it may take two masters to find out that one of them is too many."""
        return self.world.advert_interval + MOMENT

    def _watch_election(self) -> None:
        self._never(self._slowest_handover, "the master has stopped and nobody has followed", self._is_orphaned)

    @property
    def _slowest_handover(self) -> float:
        skew = max(256 - _priority(each) for each in self.world.nodes.values()) / 256
        return skew + MOMENT

    def _never_for(self, limit: float, what: str, condition: Callable[[Machine], bool], node: Machine) -> None:
        self._never(limit, what, partial(condition, node))

    def _never(self, limit: float, what: str, condition: Callable[[], bool]) -> None:
        self._spells.append(Spell(what, condition, limit))

    def _watch(self) -> None:
        now = self.world.now
        for spell in self._spells:
            if now - spell.since > spell.limit:
                self.violations.append(f"{spell.since:.3f}: {spell.what} for more than {spell.limit:.2f} s")
                spell.since = inf
            if not spell.holds():
                spell.since = inf
            elif spell.since == inf:
                spell.since = now

    def _both_masters(self, one: Machine, other: Machine) -> bool:
        return one.role == "master" and other.role == "master" and self._argue(one, other)

    def _argue(self, one: Machine, other: Machine) -> bool:
        connected = hear_each_other(self.world, one, other)
        return connected and one.power is RUNNING and other.power is RUNNING

    def _is_orphaned(self) -> bool:
        """The last thing that happened is a planned stop of the master, and a backup has heard it."""
        world = self.world
        last = world.faults[-1] if world.faults else None
        if last is None or last.kind != "stop" or last.rank < Rank.ACTIVE or world.masters or world.loss or world.split:
            return False
        if any(last.at < each.until < inf for each in world.faults):
            return False
        return any(each.role == "backup" and last.at - each.able_since > world.grace for each in world.nodes.values())

    # After the run

    def judge_outages(self) -> list[tuple[str, float]]:
        """Needless outages by the kind of the fault that began last before each, for the statistics."""
        found = []
        for outage in self.world.needless():
            faults = [each for each in self.world.faults if each.at <= outage.at + MOMENT]
            spent = outage.until - outage.at
            found.append((faults[-1].kind if faults else "start", spent))
            if spent > (bound := self._bound(outage)):
                self.violations.append(f"{outage.at:.3f}: outage of {spent:.3f} s, at most {bound:.3f} s are due")
        return found

    def _bound(self, outage: Outage) -> float:
        """What the faults in play may cost, together: a second fault may start the clock of the first again."""
        world = self.world
        wake = world.grace + world.slowest_takeover
        in_play = [each for each in world.faults if each.at <= outage.until and each.until + wake >= outage.at]
        return MOMENT + sum(self._cost(fault, in_play) for fault in in_play)

    def _cost(self, fault: Fault, in_play: list[Fault]) -> float:
        hold_time = self.world.hold_time + MOMENT
        match fault.kind:
            case "crash" | "freeze" | "cut" if self._is_undecided(fault, in_play) or self._is_unheard(fault):
                return hold_time
            case "crash" | "freeze" | "cut":
                return self.world.slowest_takeover + 0.1
            # Who came back and was refused by the route servers cannot withdraw what its former life left there.
            case "stop" if fault.rank is Rank.NONE:
                return hold_time
            case "sick":
                return self._verdict
            case "hanging":
                return 2 * self._verdict
            # The nodes may not have dialled yet the one that came back just before this one went.
            case "rs-down" if any(each.kind == "rs-down" and each.until <= fault.at for each in in_play):
                return self.world.grace
            # The fabric still hears a route server that no node reaches, whose stale routes may be the best.
            case "rs-cut" if len(in_play) > 1:
                return hold_time
            case _:
                return 0.0

    def _is_undecided(self, fault: Fault, in_play: list[Fault]) -> bool:
        return any(each.kind in UNDECIDED for each in in_play)

    def _is_unheard(self, fault: Fault) -> bool:
        """Whether the successor may have started too late to hear that this master was the second within moments."""
        starts = [each for each in self.world.faults if each.kind in STARTS and each.node != fault.node]
        heard_by = fault.at - self.world.advert_interval
        return fault.rank is Rank.TAKEOVER_AGAIN and any(each.until >= heard_by for each in starts)

    def judge_churn(self) -> None:
        echo = self.world.settle_time + self.world.slowest_takeover + 2 * self._verdict
        for at, node, count in self.world.churn:
            # Each fault and each mending starts the count again, but what others set off may still come, and the
            # verdict over a check that hung, or over being cut off, may fall after the mending.
            in_play = [each for each in self.world.faults if each.at < at < each.until + echo]
            others = in_play if in_play and in_play[-1].kind in ("hanging", "cut") else in_play[:-1]
            if count > self.updates + len(others):
                self.violations.append(f"{at:.3f}: UPDATE number {count} of {node} to one route server after one fault")

    def judge_hooks(self) -> None:
        """What the notify command was told, in each incarnation."""
        for name, notified in self.world.notified:
            self.violations += [f"{name}: {complaint}" for complaint in notified.complaints(self.world.now)]

    def judge_end(self, incumbent: str, *, preempt: bool) -> None:
        """All is mended and time has passed."""
        world = self.world
        masters = world.masters
        successors = self._successors(incumbent, preempt=preempt)
        if len(masters) != 1 or masters[0] not in successors:
            self.violations.append(f"at the end the masters are {masters}, not one of {successors}")
        if len(world.pointers()) != 1 or not world.serving:
            self.violations.append(f"at the end clients are led to {sorted(world.pointers())}")
        self._judge_placement(masters)

    def _judge_placement(self, masters: list[str]) -> None:
        world = self.world
        preferred = [each for each in masters if is_preferred(world.nodes[each])]
        if preferred and world.pointers() != set(preferred):
            self.violations.append(f"at the end {preferred[0]} is preferred, and not where all route servers point")
        for each in world.nodes.values():
            if world.placed not in each.kernel:
                self.violations.append(f"at the end {each.name} does not hold the address")

    def _successors(self, incumbent: str, *, preempt: bool) -> list[str]:
        nodes = self.world.nodes
        if not preempt:
            return [incumbent] if incumbent else list(nodes)
        # One that is damped leaves mastership to others, unless it was master before.
        free = [each for each in nodes.values() if not self._is_damped(each)] or list(nodes.values())
        highest = {max(map(_priority, nodes.values())), max(map(_priority, free))}
        return [name for name, each in nodes.items() if _priority(each) in highest]

    def _is_damped(self, node: Machine) -> bool:
        return bool(node.node.instances[INSTANCE].decision.damped(self.world.clock(node)))


def _announces_without_address(node: Machine) -> bool:
    return bool(node.told) and not node.has_address and node.power is RUNNING


def is_preferred(node: Machine) -> bool:
    """It announces as a master does."""
    return node.power is RUNNING and node.rank > Rank.STANDBY


def hear_each_other(world: World, one: Machine, other: Machine) -> bool:
    return not (one.cut or other.cut or world.loss or frozenset((one.name, other.name)) in world.split)


def _announces_though_sick(node: Machine) -> bool:
    return node.service != "ok" and node.power is RUNNING and node.rank > Rank.LAST_RESORT


def _priority(node: Machine) -> int:
    election = node.config.instances[0].election
    assert isinstance(election, Vrrp | Keepalived)
    return election.priority
