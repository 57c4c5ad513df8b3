"""The election of a virtual router, played with a copy of this node's elector; and where nobody elects.

A backup is silent, so who would take over is known only as far as there is one other node, or a link that says more.
"""

import copy
import math
from collections.abc import Iterator

from floatip.core.election.elector import Obstacles, Role, VirtualRouter
from floatip.core.election.follower import Follower
from floatip.core.election.router import Router
from floatip.core.events import Drained, Order
from floatip.core.foresight import Names, Outcome, Question, Step, carrier
from floatip.core.health import Health
from floatip.core.instance import Instance
from floatip.core.link import wire
from floatip.core.link.wire import InstanceFlag
from floatip.core.node import Node
from floatip.core.orders import objection
from floatip.core.rules import Rule
from floatip.core.supposed import concerns, says_a_number, verdict_if
from floatip.core.tracks import Verdict, why_priority
from floatip.core.vrrp.wire import Advert

MOST_STEPS = 40
BY_MULTICAST = "which other nodes use this vrid: by multicast a backup is not known"
OWN_CHECKS = "whether floatip's own checks pass on the other nodes: keepalived does not know of them"


class VirtualRouterPlay:
    """One question about one instance that VRRP or keepalived elects."""

    def __init__(self, node: Node, question: Question, known: Names, instance: Instance, now: float) -> None:
        self.node, self.question, self.known, self.instance, self.now = node, question, known, instance, now
        self.of = known.find(question.of)
        self.before = carrier(node, instance, known, now)
        assert isinstance(instance.elector, VirtualRouter)
        self.elector = instance.elector
        self.peers = self._peers()
        self.is_own = self.of == known.own
        self.refused = ""
        if question.kind == "drained" and self.is_own and not (node.fleet and node.fleet.drained):
            refused = objection(node, Drained(Order()), force=False)
            self.refused = refused.what if refused else ""

    def _peers(self) -> list[str]:
        """The other nodes of this virtual router."""
        found = [self.known.of(address) for address in self.elector.config.peers]
        if self.elector.master and self.known.of(self.elector.master) not in found:
            found.append(self.known.of(self.elector.master))
        return found

    def outcome(self) -> Outcome:
        kind, role = self.question.kind, self.instance.role
        is_master = role is Role.MASTER
        match kind:
            case "down" if self.is_own and is_master:
                return self._to_peers(
                    self.elector.detection_time, Rule.SILENT, "a backup takes over from a silent master"
                )
            case "down" if not self.is_own and self.of == self.before:
                return self._to_us()
            case "check-fails" | "check-passes" if self._is_concerned:
                return self._checked(is_master)
            case "drained" if isinstance(self.elector, Follower):
                return self._nothing(Rule.KEEPALIVED, "keepalived elects, and a drain does not change its role")
            case "drained" if self.is_own and is_master:
                why = f"{self.known.own} hands over (priority 0)"
                return self._to_peers(self.elector.skew, Rule.HANDS_OVER, why, or_back=True)
            case "drained" if self.of == self.before and not self.is_own:
                return self._handed_to_us()
        return self._nothing(*self._why_nothing())

    @property
    def _members(self) -> tuple[Instance, ...]:
        group = self.node.group_of(self.instance)
        return group.members if group else (self.instance,)

    @property
    def _is_concerned(self) -> bool:
        return any(concerns(self.node, self.question, member) for member in self._members)

    def _checked(self, is_master: bool) -> Outcome:
        """A check fails or passes: a fault or the end of one, here or in the sync group, or another priority."""
        verdicts = {member.config.name: verdict_if(self.node, self.question, member) for member in self._members}
        is_sick = any(verdict.health is not Health.UP for verdict in verdicts.values())
        was_sick = any(member.health is not Health.UP for member in self._members)
        verdict = verdicts[self.instance.config.name]
        if is_sick and (not was_sick or self.question.kind == "check-fails"):
            return self._sick(is_master)
        if self.question.kind == "check-passes" and (was_sick or isinstance(self.elector, Follower)):
            return self._well()
        if isinstance(self.elector, Router) and says_a_number(self.node, self.question, self.instance):
            unknown = (f"which number check {self.question.of} would say, and so the priority",)
            what = f"the number of check {self.question.of} times its weight is added to the priority"
            return self._told("", False, None, Rule.PRIORITY, what, candidates=self._all, unknown=unknown)
        if isinstance(self.elector, Router) and verdict.shift != self.elector.shift:
            return self._shifted(self.elector, verdict)
        return self._nothing(*self._why_nothing())

    def _shifted(self, elector: Router, verdict: Verdict) -> Outcome:
        """The check moves the priority, and this node stays well."""
        own, played = self.known.own, copy.deepcopy(elector)
        played.constrain(Obstacles(barred=self.instance.bar, shift=verdict.shift), self.now)
        ours, before = played.priority, elector.priority
        why = f"the priority of {own} becomes {ours} ({why_priority(elector.config, verdict) or 'as configured'})"
        if elector.role is Role.MASTER:
            heirs, _ = self._heirs()
            if ours >= before or not (heirs or self._multicast):
                return self._nothing(Rule.PRIORITY, f"{why}, and it goes on as master")
            unknown = (f"whether another node has a higher priority than {ours}, and preempts: a backup is silent",)
            what = f"{why}; a backup with a higher one takes over if it preempts"
            return self._told("", False, elector.skew, Rule.PRIORITY, what, candidates=(own, *heirs), unknown=unknown)
        theirs = elector.master_priority
        if elector.master is None or elector.role is not Role.BACKUP:
            return self._nothing(Rule.PRIORITY, why)
        if ours <= theirs or not elector.config.preempt:
            much = "not above that" if ours <= theirs else "and preempt is off; the other has that"
            return self._nothing(Rule.PRIORITY, f"{why}, {much} of {self.before} ({theirs})")
        rivals = [name for name in self.peers if name != self.before]
        is_bound = self.node.group_of(self.instance) is not None
        doubts = self._doubts(rivals, "has a higher priority")
        unknowns = (*doubts, *["whether the other members of its sync group can be master here too"] * is_bound)
        after = elector.config.preempt_delay + played.skew
        what = f"{why}, above that of {self.before} ({theirs}): it takes over"
        candidates = (own, self.before, *rivals) if unknowns else ()
        return self._told(own, not unknowns, after, Rule.PRIORITY, what, candidates=candidates, unknown=unknowns)

    def _why_nothing(self) -> tuple[Rule, str]:
        who = self.before or "no node that is heard"
        return Rule.STICKY, f"{who} goes on as master"

    def _nothing(self, rule: Rule, what: str) -> Outcome:
        if isinstance(self.elector, Follower) and self.instance.config.checks and self.before != self.known.own:
            return self._told(self.before, False, None, rule, what, candidates=self._all, unknown=(OWN_CHECKS,))
        return self._told(self.before, True, None, rule, what)

    @property
    def _all(self) -> tuple[str, ...]:
        return (self.known.own, *self.peers)

    def _told(
        self,
        to: str,
        certain: bool,
        after: float | None,
        rule: Rule,
        what: str,
        *,
        candidates: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        steps: tuple[Step, ...] = (),
    ) -> Outcome:
        question = self.question
        name = self.instance.config.name
        return Outcome(
            name, question.kind, question.of, self.before, to, certain, after, rule, what, candidates, unknown,
            self.refused, steps,
        )  # fmt: skip

    # Away from this node

    def _heirs(self) -> tuple[list[str], bool]:
        """Who may take over, and whether the link says that they can."""
        said = {name: can for name in self.peers if (can := self._can(name)) is not None}
        heirs = [name for name in self.peers if said.get(name, True)]
        return heirs, bool(heirs) and all(name in said for name in heirs)

    def _can(self, name: str) -> bool | None:
        """Whether it could be master, as the link says; None: nothing is known."""
        peer = self.node.fleet.link.peers.get(name) if self.node.fleet else None
        if peer is None:
            return None
        state = peer.instances.get(wire.identity(self.instance.config.name))
        return bool(peer.alive and state and state.flags & InstanceFlag.READY)

    def _to_peers(self, after: float, rule: Rule, why: str, *, or_back: bool = False) -> Outcome:
        heirs, is_known = self._heirs()
        unknown = tuple(self._doubts([] if is_known else heirs, "could take over"))
        if not heirs:
            reason = "the other nodes could not take over" if self.peers else "no other node is known"
            certain = not self._multicast
            if or_back:
                what = f"{why}, and becomes master again: {reason}"
                return self._told(self.known.own, certain, None, Rule.NO_SUCCESSOR, what, unknown=unknown)
            return self._told("", certain, None, Rule.NOBODY_READY, reason, unknown=unknown)
        if len(heirs) > 1 or self._multicast:
            what = f"{why}; the backup with the highest priority takes over"
            return self._told("", False, after, rule, what, candidates=tuple(heirs), unknown=unknown)
        return self._told(heirs[0], is_known, after, rule, why, unknown=unknown)

    @property
    def _multicast(self) -> bool:
        """Whoever uses the vrid may be a peer."""
        return not self.elector.config.peers

    def _doubts(self, rivals: list[str], might: str) -> Iterator[str]:
        if rivals:
            yield f"whether {_or(rivals)} {might}: a backup is silent"
        if self._multicast:
            yield BY_MULTICAST

    def _sick(self, is_master: bool) -> Outcome:
        check, own = self.question.of, self.known.own
        if isinstance(self.elector, Follower):
            why = f"{own} withdraws its route (check {check}); keepalived does not know and keeps its role"
            heirs, _ = self._heirs()
            if not is_master:
                return self._nothing(Rule.UNHEALTHY, why)
            unknown = ("which node the route servers choose then: another one that announces the address",)
            to = heirs[0] if len(heirs) == 1 else ""
            return self._told(to, False, 0.0, Rule.UNHEALTHY, why, candidates=tuple(heirs), unknown=unknown)
        assert isinstance(self.elector, Router)
        played = copy.deepcopy(self.elector)
        played.constrain(Obstacles(sick=f"check {check} fails", shift=played.shift), self.now)
        if not is_master:
            who = f"{self.before} goes on as master" if self.before else "no node that is heard is master"
            return self._nothing(Rule.UNHEALTHY, f"{who}; {own} could not take over ({played.role.value})")
        announces = bool(self.node.sessions)
        after = 0.0 if announces else self.elector.skew
        return self._to_peers(
            after, Rule.UNHEALTHY, f"{own} becomes {played.role.value.upper()} and says so (priority 0)"
        )

    # To this node

    def _to_us(self) -> Outcome:
        """The master is gone, and nothing more is heard."""
        own, rivals = self.known.own, [name for name in self.peers if name != self.of]
        if isinstance(self.elector, Follower):
            return self._keepalived_here(rivals)
        assert isinstance(self.elector, Router)
        played = copy.deepcopy(self.elector)
        return self._played(played, rivals, "a backup takes over from a silent master", own)

    def _handed_to_us(self) -> Outcome:
        rivals = [name for name in self.peers if name != self.of]
        if not isinstance(self.elector, Router) or self.elector.master is None:
            return self._nothing(*self._why_nothing())
        played, config = copy.deepcopy(self.elector), self.elector.config
        last = Advert(config.version, config.vrid, 0, config.advert_interval, played.addresses)
        played.accept(last, self.elector.master, self.now)
        return self._played(played, rivals, f"{self.of} hands over (priority 0)", self.known.own)

    def _played(self, played: Router, rivals: list[str], why: str, own: str) -> Outcome:
        at, is_bound = self.now, bool(played.held_back)
        played.held_back = ""
        for _ in range(MOST_STEPS):
            if played.role is Role.MASTER or played.deadline == math.inf:
                break
            at = max(at, played.deadline)
            played.tick(at)
        if played.role is not Role.MASTER:
            reason = f"{own} could not take over: {self.instance.bar or self.instance.elector.reason}"
            unknown = tuple(self._doubts(rivals, "takes over"))
            return self._told(
                "", not unknown, None, Rule.NOBODY_READY, reason, candidates=tuple(rivals), unknown=unknown
            )
        steps = (Step(at - self.now, own, played.reason),)
        if is_bound:
            unknown = ("whether the other members of its sync group can be master here too",)
            what = f"{why}; {own} takes over with its sync group"
            return self._told(own, False, at - self.now, Rule.SILENT, what, candidates=(own, *rivals), unknown=unknown)
        if unknown := tuple(self._doubts(rivals, "has a higher priority")):
            what = f"{why}; {own} takes over, unless another backup does before it"
            return self._told(own, False, at - self.now, Rule.SILENT, what, candidates=(own, *rivals), unknown=unknown)
        return self._told(own, True, at - self.now, Rule.SILENT, why, steps=steps)

    def _keepalived_here(self, rivals: list[str]) -> Outcome:
        elector, own = self.elector, self.known.own
        assert isinstance(elector, Follower)
        after = elector.master_down_interval
        if not elector.runs or elector.word == "FAULT" or elector.role is Role.FAULT:
            reason = "does not run" if not elector.runs else "says FAULT"
            unknown = tuple(self._doubts(rivals, "has a higher priority"))
            what = f"keepalived on {own} {reason}"
            return self._told("", not unknown, None, Rule.NOBODY_READY, what, candidates=tuple(rivals), unknown=unknown)
        if self.instance.health is not Health.UP:
            what = f"keepalived on {own} becomes master, and floatip withdraws there: {self.instance.health_reason}"
            return self._told("", False, None, Rule.UNHEALTHY, what, candidates=tuple(rivals), unknown=(OWN_CHECKS,))
        unknown = tuple(self._doubts(rivals, "has a higher priority"))
        what = f"keepalived on {own} becomes master, and floatip follows it"
        return self._told(own, not unknown, after, Rule.SILENT, what, candidates=(own, *rivals), unknown=unknown)

    def _well(self) -> Outcome:
        own = self.known.own
        if isinstance(self.elector, Follower):
            what = f"{own} announces again; keepalived decides who is master"
            if damped := self.instance.decision.damped(self.now):
                return self._told("", False, None, Rule.DAMPED, damped, candidates=self._all, unknown=(OWN_CHECKS,))
            if self.instance.role is Role.MASTER:
                return self._told(own, True, 0.0, Rule.KEEPALIVED, what)
            return self._nothing(Rule.KEEPALIVED, what)
        assert isinstance(self.elector, Router)
        verdicts = {member.config.name: verdict_if(self.node, self.question, member) for member in self._members}
        faults = [self.node.link_fault(member) for member in self._members]
        faults += [verdict.reason for verdict in verdicts.values() if verdict.health is not Health.UP]
        if fault := next(filter(None, faults), ""):
            return self._nothing(Rule.UNHEALTHY, f"{own} is not well either way: {fault}")
        if self.before and not self.elector.config.preempt:
            return self._nothing(Rule.STICKY, f"{self.before} keeps it, because preempt is off")
        if self.before:
            what = "the node with the higher priority is master (preempt is on)"
            return self._told("", False, None, Rule.PRIORITY, what, candidates=(self.before, own))
        played = copy.deepcopy(self.elector)
        shift = verdicts[self.instance.config.name].shift
        played.constrain(Obstacles(barred=self.instance.bar, shift=shift), self.now)
        return self._played(played, self.peers, "no master is heard", own)


def static_outcome(node: Node, question: Question, known: Names, instance: Instance, now: float) -> Outcome:
    """The roles are configured, and the route servers choose."""
    own, before = known.own, carrier(node, instance, known, now)
    leaves = question.kind == "down" and known.find(question.of) == own
    if concerns(node, question, instance):
        leaves |= verdict_if(node, question, instance).health is not Health.UP
    name = instance.config.name
    if not leaves:
        what = "the roles are configured: nothing moves here"
        return Outcome(name, question.kind, question.of, before, before, bool(before), None, Rule.CONFIGURED, what)
    what = f"{own} no longer announces it; the route servers choose the best of the others"
    unknown = ("which other nodes announce it: without an election they do not hear each other",)
    return Outcome(name, question.kind, question.of, before, "", False, 0.0, Rule.CONFIGURED, what, unknown=unknown)


def _or(who: list[str]) -> str:
    return " or ".join(who)
