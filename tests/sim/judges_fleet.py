"""What must never be seen of nodes with etcd as their arbiter, beside what must never be seen of any over the link.

The promise of an exclusive address: at no instant two kernels have it and answer for it. One case is no part of it, and
is counted apart: a machine whose clock stood still with it cannot know that it was away. It may have the address, when
it goes on, until what it last knew is older than `lease_time`.
"""

import json
from functools import partial
from math import inf

from tests.linearizable import complaints
from tests.sim.etcd import ELECTION
from tests.sim.fleet_world import DRIFT, Fleet
from tests.sim.judges import MOMENT, PUT_BACK
from tests.sim.judges_linked import HARMLESS, JudgesLinked, replace_kind
from tests.sim.storm_kinds import NODE_KINDS
from tests.sim.world import INSTANCE, RUNNING, Fault, Machine

TAKE_A_NODE = {*NODE_KINDS, "stand", "drain", "etcd-cut"}
"""Faults that take a node away, and leave the others what they need."""
QUESTIONS = 6
"""A second, of one node in quiet times."""
QUESTIONS_AT_MOST = 40
"""A second, of one node, whatever happens."""


class JudgesFleet(JudgesLinked):
    def __init__(self, world: Fleet, *, fall: int = 1) -> None:
        self.fleet = world
        self.overlaps = 0
        """Times when a machine whose clock stood still had an exclusive address beside another."""
        self._held_twice = dict.fromkeys(world.exclusive, (False, False))
        self._open_since: dict[str, float] = dict.fromkeys(world.exclusive, inf)
        super().__init__(world, fall=fall)
        for node in world.nodes.values():
            for name in world.exclusive:
                what = f"{node.name} announces {name} and does not have it"
                self._never(PUT_BACK + MOMENT, what, partial(self._announces_without, node, name))
        world.watchers.append(self._watch_exclusive)

    @property
    def longest_takeover(self) -> float:
        """Of what is exclusive: the link notices, a first claim may get no answer, the second one waits."""
        arbiter = self.fleet.arbiter
        waits = arbiter.lease_time + arbiter.keepalive_interval + 2 * arbiter.request_timeout
        return self.linked.slowest_takeover + 2 * self._verdict + waits + self.fleet.interval * 10

    def _announces_without(self, node: Machine, name: str) -> bool:
        world = self.fleet
        has = world.placed_of[name] in node.fenced
        return node.power is RUNNING and not has and world.announces_as_master(node, name)

    def _watch_exclusive(self) -> None:
        world, now = self.fleet, self.fleet.now
        for name in world.exclusive:
            holders = world.holders(name)
            excused = [each for each in holders if now < world.woke_at.get(each, -inf) + self._excuse]
            is_excused = len(holders) > 1
            is_wrong = len(holders) - len(excused) > 1
            was_excused, was_wrong = self._held_twice[name]
            if is_wrong and not was_wrong:
                self.violations.append(f"{now:.4f}: {' and '.join(holders)} have {name}")
            elif is_excused and not was_excused:
                self.overlaps += 1
            self._held_twice[name] = is_excused, is_wrong
            self._watch_open(name, holders)

    def _cost(self, fault: Fault, in_play: list[Fault]) -> float:
        cost = super()._cost(replace_kind(fault, "freeze") if fault.kind == "stand" else fault, in_play)
        slow = {"etcd-slow", "etcd-late", "etcd-leader"}
        if cost and any(each.kind in slow and each.at <= fault.at for each in self.world.faults):
            # A claim that is done after its node has died is a sign of life, until the lease of that node is over.
            cost += 2 * self.fleet.arbiter.lease_time + ELECTION
        return cost

    @property
    def _excuse(self) -> float:
        return self.fleet.arbiter.lease_time * (1 + DRIFT) + MOMENT

    def _watch_open(self, name: str, holders: list[str]) -> None:
        """Nobody has it who can serve it, though a node is ready and etcd answers."""
        world, now = self.fleet, self.fleet.now
        nodes = [world.nodes[each] for each in holders]
        has_server = any(each.power is RUNNING and not each.cut and each.service == "ok" for each in nodes)
        if has_server or world.is_held or not any(self._can_take(each, name) for each in world.nodes.values()):
            self._open_since[name] = inf
            return
        faults = [each for each in world.faults if each.kind not in HARMLESS]
        if not world.etcd.answers or any(each.until > now and each.kind not in TAKE_A_NODE for each in faults):
            self._open_since[name] = inf
            return
        edges = [each.until if each.until <= now else each.at for each in faults]
        self._open_since[name] = max(min(self._open_since[name], now), *edges, 0.0, world.etcd.elected_at)
        if now - self._open_since[name] > self.longest_takeover:
            since = self._open_since[name]
            self.violations.append(f"{since:.3f}: nobody has {name} for more than {self.longest_takeover:.2f} s")
            self._open_since[name] = inf

    def _can_take(self, node: Machine, name: str) -> bool:
        world = self.fleet
        is_well = world.roles.get((node.name, name)) == "backup" and node.able_since + world.grace <= world.now
        can_ask = world.etcd.reaches(node.name) and not world.is_drained(node.name)
        return is_well and can_ask and not node.node.instances[name].bar

    # After the run

    def judge_hooks(self) -> None:
        """The notify command is judged where there is one instance."""

    def judge_end(self, incumbent: str, *, preempt: bool) -> None:
        super().judge_end(incumbent, preempt=preempt)
        world = self.fleet
        for name in world.exclusive:
            found = {
                "master": world.masters_of(name),
                "have it": world.holders(name),
                "announce it": world.announcers(name),
                "are found": [world.pointer_of(name)],
                "own it at etcd": [_owner(world, name)],
            }
            if len(found["master"]) != 1 or any(who != found["master"] for who in found.values()):
                self.violations.append(f"at the end, of {name}: {found}")
        if [owner := _owner(world, INSTANCE)] != world.masters:
            self.violations.append(f"at the end {owner or 'nobody'} owns {INSTANCE}, and {world.masters} carry it")

    def judge_questions(self, quiet_since: float) -> None:
        """Of each node, in each second."""
        world = self.fleet
        for name in world.nodes:
            times = [at for at, node, _ in world.asked if node == name]
            quiet = sum(at >= quiet_since for at in times) / max(1.0, world.now - quiet_since)
            if quiet > QUESTIONS:
                self.violations.append(f"{name} asks etcd {quiet:.1f} times a second when nothing happens")
            for first, last in zip(times, times[QUESTIONS_AT_MOST:], strict=False):
                if last - first < 1.0:
                    self.violations.append(f"{first:.3f}: {name} asks etcd {QUESTIONS_AT_MOST} times within a second")
                    break

    def judge_history(self) -> None:
        self.violations += complaints(self.fleet.etcd.asked)


def _owner(world: Fleet, name: str) -> str:
    """Who has it, as etcd's row says."""
    try:
        row = json.loads(world.owner(name) or "{}")
        return "" if row["released"] else str(row["node"])
    except (ValueError, LookupError, TypeError):
        return ""
