"""What stands against a drill on this node, as far as the node knows. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from floatip.core import orders, settings
from floatip.core.decision import FLAP_WITHDRAWALS
from floatip.core.diagnosis import diagnose
from floatip.core.election.elector import Role
from floatip.core.events import Drill, HandoverAsked
from floatip.core.fleet import Fleet
from floatip.core.instance import Instance
from floatip.core.link.wire import NodeFlag
from floatip.core.node import Node
from floatip.core.problems import Code, Problem, Severity
from floatip.core.state import FRESH_SESSION

FAULTS = ("check", "stop", "handover", "cut")
ELSEWHERE = (Code.DRILL, Code.DRAINED, Code.PAUSED)
"""Problems that are named as reasons of their own."""


@dataclass(frozen=True, slots=True)
class Objection:
    what: str
    hint: str
    may_force: bool = False
    """An administrator may take the risk."""


def objections(node: Node, drill: Drill, now: float) -> list[Objection]:
    """None: as far as this node knows, another node takes over, and nobody else rehearses."""
    found = [*_of_node(node, drill.instance)]
    instance = node.instances.get(drill.instance)
    if instance is None:
        known = ", ".join(node.instances) or "none"
        return [*found, Objection(f"there is no instance {drill.instance}", f"the instances are: {known}")]
    found += [*_of_role(node, instance), *_of_fault(node, instance, drill), *_of_others(node, instance)]
    found += _of_flaps(node, instance, drill, now)
    if young := [
        session for session in node.sessions.values() if session.is_up and now - session.since < FRESH_SESSION
    ]:
        left = max(FRESH_SESSION - (now - session.since) for session in young)
        what = f"BGP sessions of this node are younger than {FRESH_SESSION:g} s: {len(young)} of {len(node.sessions)}"
        found.append(Objection(what, f"wait {left:.0f} s, or add --force", may_force=True))
    return [*found, *map(_of_problem, _problems(node, now))]


def checks_of(node: Node, instance: str) -> list[str]:
    """The checks of which one alone makes the instance unhealthy."""
    found = node.instances.get(instance)
    return [check.config.name for check in node.tracked(found).checks] if found else []


def _of_node(node: Node, name: str) -> Iterator[Objection]:
    if reason := node.stopping or node.draining:
        yield Objection(f"the daemon is stopping: {reason}", "wait for it: systemctl status floatip")
    if node.drill:
        who = f"{node.drill.fault} of {node.drill.instance}, {node.drill.by}"
        yield Objection(f"a drill runs on this node: {who}", "wait for its end: floatip status")
    fleet = node.fleet
    if fleet is None:
        return
    if elsewhere := fleet.drills_elsewhere:
        yield Objection(f"a drill runs on {elsewhere}", "wait for its end: floatip nodes")
    if fleet.drained:
        yield Objection("this node is drained", "end that first: floatip undrain")
    if fleet.pause_reason:
        yield Objection(f"no node takes over now: {fleet.pause_reason}", "end that first: floatip resume")


def _of_role(node: Node, instance: Instance) -> Iterator[Objection]:
    name = instance.config.name
    if isinstance(instance.config.election, settings.Static):
        yield Objection(f"the role of {name} is configured: no node takes it over", "elect the master: remove static")
    elif instance.role is not Role.MASTER:
        carrier = node.fleet.carrier(name) if node.fleet else ""
        hint = f"{carrier} does: run the drill there" if carrier else "see who does: floatip status"
        yield Objection(f"this node does not carry {name}", hint)


def _of_fault(node: Node, instance: Instance, drill: Drill) -> Iterator[Objection]:
    name, election = instance.config.name, instance.config.election
    if drill.fault == "handover" and not isinstance(election, settings.Nodes):
        what = f"{name} cannot be handed over: {'keepalived' if _follows(election) else 'VRRP'} elects its master"
        yield Objection(what, "rehearse another fault: --fault check, stop or cut")
    elif drill.fault == "handover" and drill.to and instance.role is Role.MASTER:
        refused = orders.objection(node, HandoverAsked((name,), drill.to), force=True)
        yield from [Objection(refused.what, refused.hint)] if refused else []
    if drill.fault == "check":
        known = checks_of(node, name)
        if not known:
            hint = "rehearse another fault: --fault handover, stop or cut"
            yield Objection(f"{name} has no check that could fail", hint)
        elif drill.check not in known:
            yield Objection(f"{name} has no check {drill.check}", f"its checks are: {', '.join(known)}")


def _of_flaps(node: Node, instance: Instance, drill: Drill, now: float) -> Iterator[Objection]:
    if drill.fault == "check" and node.sessions and instance.decision.withdrawals(now) >= FLAP_WITHDRAWALS - 1:
        what = f"one more withdrawal of {instance.config.name} within five minutes damps this node for five minutes"
        yield Objection(what, "wait five minutes, rehearse --fault handover, or add --force", may_force=True)


def _follows(election: object) -> bool:
    return isinstance(election, settings.Keepalived)


def _of_others(node: Node, instance: Instance) -> Iterator[Objection]:
    fleet, name = node.fleet, instance.config.name
    if fleet is None:
        what = "whether another node is ready is not known: no [[node]] is configured"
        hint = "look at the other node: floatip status there; if it is ready, add --force"
        yield Objection(what, hint, may_force=True)
        return
    heirs = fleet.heirs(name)
    if not heirs:
        yield _unready(fleet, name)
    elif not any(peer.node and peer.node.flags & NodeFlag.SEASONED for peer in heirs):
        who = ", ".join(peer.name for peer in heirs)
        what = f"the BGP sessions of {who} are younger than {FRESH_SESSION:g} s: route servers may ignore them"
        yield Objection(what, f"wait {FRESH_SESSION:g} s, or add --force", may_force=True)


def _unready(fleet: Fleet, name: str) -> Objection:
    why = fleet.why_nobody(name)
    hint = "mend that node first: run floatip status there"
    return Objection(f"no other node could take over {name}: {why}", hint)


def _problems(node: Node, now: float) -> Iterator[Problem]:
    for problem in diagnose(node, now):
        if problem.severity is not Severity.NOTE and problem.code not in ELSEWHERE:
            yield problem


def _of_problem(problem: Problem) -> Objection:
    hint = f"{problem.hint}; or add --force" if problem.hint else "see: floatip status; or add --force"
    return Objection(f"{problem.severity} {problem.code}: {problem.what}", hint, may_force=True)
