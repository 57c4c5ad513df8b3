"""The state of a node, taken at one moment."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from floatip.core import settings
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.session import Session
from floatip.core.diagnosis import diagnose
from floatip.core.fleet import Fleet
from floatip.core.health import CheckState
from floatip.core.instance import Instance, is_held
from floatip.core.link import wire
from floatip.core.link.link import MATTERS, Peer
from floatip.core.link.report import Content
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag, NodeState
from floatip.core.node import Node
from floatip.core.problems import Problem
from floatip.core.report import content
from floatip.core.state import (
    FRESH_SESSION,
    AddressView,
    CarriedView,
    CheckView,
    InstanceView,
    KeepalivedView,
    LinkView,
    NodeView,
    ProblemView,
    SessionView,
    Standing,
    Status,
    WordView,
)


def describe(node: Node, now: float) -> Status:
    problems = diagnose(node, now)
    strangers = {f"no instance has vrid {vrid} on {where}": n for (where, vrid), n in node.strangers.items()}
    return Status(
        stopping=node.stopping or node.draining,
        cut_off=node.network.cut_off,
        instances=tuple(_instance(node, instance, now) for instance in node.instances.values()),
        checks=tuple(_check(check, now) for check in node.checks.values()),
        sessions=tuple(_session(session, now) for session in node.sessions.values()),
        keepalived=_keepalived(node, now),
        links=tuple(LinkView(name, not fault, fault) for name, fault in node.links.items()),
        dropped=dict(node.dropped.counts) | strangers,
        nodes=tuple(_nodes(node, problems, now)),
        problems=tuple(view(problem, now) for problem in problems),
    )


def view(problem: Problem, now: float) -> ProblemView:
    age = None if problem.since is None or math.isinf(problem.since) else now - problem.since
    return ProblemView(problem.code, problem.severity, problem.subject, problem.what, problem.hint, age)


def _nodes(node: Node, problems: Iterable[Problem], now: float) -> Iterator[NodeView]:
    """In the order of the configuration."""
    fleet = node.fleet
    if fleet is None:
        return
    for one in fleet.link.config.nodes:
        peer = fleet.link.peers.get(one.name)
        if peer:
            yield _peer(node, fleet, peer, now)
        elif state := fleet.link.own_node:
            instances = fleet.link.own_instances
            told = _told(node, one, state, instances, now)
            own = _with_report(told, content(node.checks.values(), problems), 0.0)
            yield replace(own, own=True, state="this node", same_configuration=None)


def _peer(node: Node, fleet: Fleet, peer: Peer, now: float) -> NodeView:
    told = _told(node, peer.config, peer.node, peer.instances, now)
    is_heard = peer.detector.heard_at > -math.inf
    known = replace(
        told,
        same_configuration=peer.node.digest == fleet.link.config.digest if peer.node else None,
        heard=now - peer.detector.heard_at if is_heard else None,
        hears_us=now - peer.hears_us_at if peer.hears_us(now) else None,
    )
    if peer.alive:
        return _with_report(known, peer.report.content, now - peer.report.at)
    if peer.refused and now < peer.refused_at + MATTERS:
        return replace(known, state="refused", why=peer.refused)
    return replace(known, state="silent" if peer.was_heard else "unheard", why=peer.why if peer.was_heard else "")


def _with_report(view: NodeView, report: Content | None, age: float) -> NodeView:
    if report is None:
        return view
    return replace(
        view,
        reported=age,
        checks=report.checks,
        more_checks=report.more_checks,
        problems=report.problems,
        more_problems=report.more_problems,
    )


def _told(
    node: Node, one: settings.Node, state: NodeState | None, instances: Mapping[bytes, InstanceState], now: float
) -> NodeView:
    """As the node says it of itself."""
    view = NodeView(one.name, str(one.address), own=False, state="alive")
    if state is None:
        return view
    names = {wire.identity(name): name for name in node.instances}
    healthy = sum(bool(each.flags & InstanceFlag.HEALTHY) for each in instances.values())
    ranks = {rank.value: rank.label for rank in Rank if rank is not Rank.NONE}
    return replace(
        view,
        version=state.version,
        healthy=healthy == len(instances),
        instances_healthy=healthy,
        instances=state.instances,
        sessions_up=state.sessions_up,
        sessions=state.sessions,
        carries=tuple(
            CarriedView(names[identity], ranks[each.rank], bool(each.flags & InstanceFlag.LEAVES))
            for identity, each in instances.items()
            if identity in names and each.rank in ranks
        ),
        drained=bool(state.flags & NodeFlag.DRAINED),
        paused=bool(state.flags & NodeFlag.PAUSED),
        stopping=bool(state.flags & NodeFlag.STOPPING),
        reason=state.reason,
        until=state.until - node.clock_ahead - now if state.until else None,
    )


def _instance(node: Node, instance: Instance, now: float) -> InstanceView:
    elector, decision, election = instance.elector, instance.decision, instance.config.election
    sessions = node.sessions.values()
    return InstanceView(
        name=instance.config.name,
        role=Standing(elector.role.value, now - elector.since, elector.reason),
        health=Standing(instance.health.value, now - instance.health_since, instance.health_reason),
        rank=Standing(decision.rank.label, now - decision.since, decision.reason),
        master=str(elector.master) if elector.master else None,
        election=type(election).__name__.lower(),
        priority=elector.preference[0] if elector.preference else None,
        vrid=getattr(election, "vrid", None),
        dropped=dict(elector.dropped.counts),
        master_down_interval=elector.master_down_interval,
        addresses=tuple(
            AddressView(
                str(target.address),
                instance.config.interface,
                is_held(node.holding, instance, target),
                sum(session.tells(target.prefix) for session in sessions),
            )
            for target in instance.targets
        ),
        route_servers=len(sessions),
    )


def _keepalived(node: Node, now: float) -> KeepalivedView | None:
    if not node.follows_keepalived:
        return None
    found = node.keepalived
    said = [WordView(kind, name, state, now - at) for (kind, name), (state, at) in node.keepalived_said.items()]
    runs = found is not None and found.running
    return KeepalivedView(runs, now - node.keepalived_since, found.reason if found else "", tuple(said))


def _check(check: CheckState, now: float) -> CheckView:
    return CheckView(
        check.config.name, check.health.value, now - check.since, check.reason, check.last_result, check.runs
    )


def _session(session: Session, now: float) -> SessionView:
    return SessionView(
        peer=str(session.peer),
        state=session.state.value,
        for_=now - session.since,
        reason=session.why,
        young=session.is_up and now - session.since < FRESH_SESSION,
        lost_because=session.lost_because,
        hint=session.hint,
        hold_time=session.hold_time if session.is_up else None,
        announced=session.announced,
        updates_sent=session.sent_updates,
        updates_received=session.received_updates,
        times_established=session.established_count,
        malformed_messages=session.malformed_messages,
        last_malformed=session.last_malformed,
    )
