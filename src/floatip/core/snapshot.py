"""The state of a node, taken at one moment.

With hundreds of instances most of it is as it was a moment before. So each view of an instance is made of `Facts`,
which are quick to take and to compare, and of the time: `host/answer.py` makes again only what is different.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.arbiter import Arbiter
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.session import Session
from floatip.core.diagnosis import diagnose
from floatip.core.election.elector import Role
from floatip.core.election.router import Router
from floatip.core.fleet import Fleet
from floatip.core.health import CheckState, Health
from floatip.core.instance import Instance, Target
from floatip.core.link import wire
from floatip.core.link.link import MATTERS, Peer
from floatip.core.link.report import Content
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag, NodeState
from floatip.core.node import Node
from floatip.core.problems import Problem
from floatip.core.report import content
from floatip.core.second_chance.moves import Moves
from floatip.core.second_chance.terms import Phase, Through
from floatip.core.state import (
    FRESH_SESSION,
    AddressView,
    CarriedView,
    CheckView,
    DrillView,
    EndedView,
    EndpointView,
    EtcdView,
    GroupView,
    InstanceView,
    KeepalivedView,
    LinkView,
    NodeView,
    OwnerView,
    PreparingView,
    ProblemView,
    RowView,
    SecondChanceView,
    SessionView,
    Standing,
    Status,
    StreamView,
    ThroughView,
    TrackView,
    WithoutView,
    WordView,
)
from floatip.core.sync_groups import SyncGroup
from floatip.core.tracks import Tracked, Verdict, shift, why_priority


class Facts(NamedTuple):
    """All that the view of an instance is made of, but the time."""

    config: settings.Instance
    targets: tuple[Target, ...]
    role: Role
    role_since: float
    role_reason: str
    health: Health
    health_since: float
    health_reason: str
    rank: Rank
    rank_since: float
    rank_reason: str
    master: Address | None
    priority: int | None
    master_down_interval: float | None
    dropped: tuple[tuple[str, int], ...]
    held: tuple[bool, ...]
    announced: tuple[int, ...]
    """To how many route servers, for each target."""
    route_servers: int
    verdict: Verdict
    tracked: Tracked
    group: str
    owner: OwnerView | None


def describe(node: Node, now: float) -> Status:
    frame = describe_frame(node, diagnose(node, now), now)
    names = names_of(node)
    states = dict(states_of(node))
    nodes = (replace(one, carries=carried(states[one.name], names)) for one in frame.nodes)
    instances = (of_instance(facts(node, one, announced(node, one)), now) for one in node.instances.values())
    return replace(frame, instances=tuple(instances), nodes=tuple(nodes))


def describe_frame(node: Node, problems: Sequence[Problem], now: float) -> Status:
    """All but the instances, and what each node carries of them. `problems`: as `diagnose` gives them."""
    strangers = {f"no instance has vrid {vrid} on {where}": n for (where, vrid), n in node.strangers.items()}
    return Status(
        stopping=node.stopping or node.draining,
        cut_off=node.network.cut_off,
        instances=(),
        checks=tuple(_check(check, now) for check in node.checks.values()),
        sessions=tuple(_session(session, now) for session in node.sessions.values()),
        keepalived=_keepalived(node, now),
        links=tuple(LinkView(name, not fault, fault) for name, fault in node.links.items()),
        dropped=dict(node.dropped.counts) | strangers,
        nodes=tuple(_nodes(node, problems, now)),
        problems=tuple(view(problem, now) for problem in problems),
        groups=tuple(_group(group, now) for group in node.groups.values()),
        drill=_drill(node, now),
        etcd=_etcd(node.arbiter, now) if node.arbiter else None,
        second_chance=_second_chance(node, node.moves, now) if node.moves else None,
    )


def _second_chance(node: Node, moves: Moves, now: float) -> SecondChanceView:
    standing, since = moves.standing, moves.since

    def through(one: Through) -> ThroughView:
        return ThroughView(one.node, one.works, _age(since.get(one.node, now), now), one.why, one.fault or "")

    return SecondChanceView(
        mode="on" if moves.config.is_wanted else "auto",
        usable=not standing.why_not,
        for_=_age(since[""], now),
        why=standing.why_not,
        hint=standing.hint,
        port=moves.config.port,
        limit=moves.config.limit,
        nodes=tuple(through(one) for one in standing.through),
        without=tuple(WithoutView(*one) for one in standing.without),
        streams=tuple(
            StreamView(
                one.node,
                one.forwards,
                one.connections,
                _age(one.since, now),
                max(_age(now, one.until), 0.0),
                one.forwarded,
                one.accepted,
                one.direct,
            )
            for one in standing.streams
        ),
        preparing=tuple(
            PreparingView(name, one.phase is Phase.OFFERS, one.nodes, _age(one.since, now))
            for name, one in moves.preparations.items()
        ),
        ended=tuple(
            EndedView(one.node, one.forwards, one.connections, _age(at, now), one.reason, one.end)
            for at, one in moves.ended.values()
        ),
        ends={end.value: count for end, count in sorted(moves.ends.items())},
        cut=moves.cut,
        forwarded=moves.forwarded,
        accepted=moves.accepted,
        waits=node.waits_for_connections(now),
    )


def _etcd(arbiter: Arbiter, now: float) -> EtcdView:
    config, counts = arbiter.config, arbiter.counts
    refused, lease_until = [*arbiter.refused.items()], arbiter.kept_at + math.ceil(config.lease_time)
    return EtcdView(
        answers=arbiter.answers,
        for_=_age(arbiter.since, now),
        reason="" if arbiter.answers else arbiter.reason,
        hint="" if arbiter.answers else arbiter.hint,
        lease_time=config.lease_time,
        lease_left=max(_age(now, lease_until), 0.0) if arbiter.lease else None,
        exclusive_left=max(_age(now, arbiter.until), 0.0) if arbiter.until > -math.inf else None,
        revision=arbiter.revision,
        answered=counts["answered"],
        unknown=counts["unknown"],
        claims_won=counts["won"],
        claims_lost=counts["lost"],
        claims_unknown=counts["claim unknown"],
        alive=tuple(sorted(arbiter.alive)),
        rows=tuple(RowView(key, why) for key, why in refused[:MOST_ROWS]),
        more_rows=max(len(refused) - MOST_ROWS, 0) + arbiter.skipped,
        endpoints=tuple(
            EndpointView(one.url, one.answers, _age(since, now), one.reason, one.hint, one.in_use, one.version)
            for since, one in arbiter.endpoints.values()
        ),
    )


def owner_of(node: Node, instance: Instance) -> OwnerView | None:
    """What etcd says of it, and nothing that changes with the time alone."""
    arbiter, election, name = node.arbiter, instance.config.election, instance.config.name
    if arbiter is None or not isinstance(election, settings.Nodes):
        return None
    owner, is_own = arbiter.owners.get(name), arbiter.is_own(name)
    before, free_at = arbiter.awaited.get(name), arbiter.free_at.get(name, -math.inf)
    peer = node.fleet.link.peers.get(owner.node) if node.fleet and owner else None
    return OwnerView(
        exclusive=election.exclusive,
        owner=owner.node if owner else "",
        own=is_own,
        alive=is_own or bool(owner and ((peer and peer.alive) or owner.node in arbiter.alive)),
        epoch=owner.epoch if owner else 0,
        released=bool(owner and owner.released),
        why=owner.why if owner else "",
        asked=arbiter.claim_of(name) < math.inf,
        waits_for=before.node if before else "",
        free_at=round(free_at, 3) if is_own and free_at > -math.inf else None,
    )


def _drill(node: Node, now: float) -> DrillView | None:
    drill = node.drill
    if drill is None:
        return None
    return DrillView(
        drill.instance, drill.fault, drill.check, drill.fails, drill.by, max(_age(now, node.drill_until), 0.0)
    )


HEALTHY, LEAVES, READY = (int(flag) for flag in (InstanceFlag.HEALTHY, InstanceFlag.LEAVES, InstanceFlag.READY))
RANKS = {rank.value: rank.label for rank in Rank if rank is not Rank.NONE}


MOST_ROWS = 20
"""Of those at etcd that cannot be used; more are counted."""


def _age(since: float, now: float) -> float:
    """In whole milliseconds."""
    return round(now - since, 3)


def view(problem: Problem, now: float) -> ProblemView:
    age = None if problem.since is None or math.isinf(problem.since) else _age(problem.since, now)
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
            at_etcd = _at_etcd(node.arbiter, one.name)
            yield replace(own, own=True, state="this node", same_configuration=None, etcd=at_etcd)


def _peer(node: Node, fleet: Fleet, peer: Peer, now: float) -> NodeView:
    told = _told(node, peer.config, peer.node, peer.instances, now)
    is_heard = peer.detector.heard_at > -math.inf
    known = replace(
        told,
        same_configuration=peer.node.digest == fleet.link.config.digest if peer.node else None,
        heard=_age(peer.detector.heard_at, now) if is_heard else None,
        hears_us=_age(peer.hears_us_at, now) if peer.hears_us(now) else None,
        etcd=_at_etcd(node.arbiter, peer.name),
    )
    if peer.alive:
        return _with_report(known, peer.report.content, _age(peer.report.at, now))
    if peer.refused and now < peer.refused_at + MATTERS:
        return replace(known, state="refused", why=peer.refused)
    return replace(known, state="silent" if peer.was_heard else "unheard", why=peer.why if peer.was_heard else "")


def _at_etcd(arbiter: Arbiter | None, name: str) -> str:
    if arbiter is None or not arbiter.is_synced or not arbiter.knows_who_lives:
        return ""
    if name == arbiter.own.name and arbiter.name_taken:
        return "other"
    return "alive" if name in arbiter.alive else "gone"


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
    healthy = sum(int(each.flags) & HEALTHY for each in instances.values()) // HEALTHY
    return replace(
        view,
        version=state.version,
        healthy=healthy == len(instances),
        instances_healthy=healthy,
        instances=state.instances,
        sessions_up=state.sessions_up,
        sessions=state.sessions,
        drained=bool(state.flags & NodeFlag.DRAINED),
        paused=bool(state.flags & NodeFlag.PAUSED),
        stopping=bool(state.flags & NodeFlag.STOPPING),
        drill=bool(state.flags & NodeFlag.DRILL),
        reason=state.reason,
        until=_age(now, state.until - node.clock_ahead) if state.until else None,
    )


def states_of(node: Node) -> Iterator[tuple[str, Mapping[bytes, InstanceState]]]:
    """What each node has said of the instances, by its name."""
    if node.fleet:
        link = node.fleet.link
        yield link.own.name, link.own_instances if link.own_node else {}
        for peer in link.peers.values():
            yield peer.name, peer.instances if peer.node else {}


def names_of(node: Node) -> dict[bytes, str]:
    """The instances, by what stands for them on the wire."""
    return {wire.identity(name): name for name in node.instances} if node.fleet else {}


def carried(states: Mapping[bytes, InstanceState], names: Mapping[bytes, str]) -> tuple[CarriedView, ...]:
    return tuple(
        CarriedView(
            names[identity],
            RANKS[each.rank],
            bool(int(each.flags) & LEAVES),
            bool(int(each.flags) & READY),
            each.reign / 1000 if each.reign else None,
        )
        for identity, each in states.items()
        if identity in names and each.rank in RANKS
    )


def announced(node: Node, instance: Instance) -> tuple[int, ...]:
    sessions = node.sessions.values()
    return tuple(sum(session.tells(target.prefix) for session in sessions) for target in instance.targets)


def facts(node: Node, instance: Instance, announced: tuple[int, ...]) -> Facts:
    elector, decision, dropped = instance.elector, instance.decision, instance.elector.dropped.counts
    preference = elector.preference
    return Facts(
        instance.config,
        instance.targets,
        elector.role,
        elector.since,
        elector.reason,
        instance.health,
        instance.health_since,
        instance.health_reason,
        decision.rank,
        decision.since,
        decision.reason,
        elector.master or (elector.lower_master if isinstance(elector, Router) else None),
        preference[0] if preference else None,
        elector.master_down_interval,
        tuple(dropped.items()) if dropped else (),
        instance.held(node.holding),
        announced,
        len(node.sessions) if instance.is_announced else 0,
        instance.verdict,
        node.tracked(instance),
        group.config.name if (group := node.group_of(instance)) else "",
        owner_of(node, instance),
    )


def of_instance(known: Facts, now: float) -> InstanceView:
    election = known.config.election
    return InstanceView(
        name=known.config.name,
        role=Standing(known.role.value, _age(known.role_since, now), known.role_reason),
        health=Standing(known.health.value, _age(known.health_since, now), known.health_reason),
        rank=Standing(known.rank.label, _age(known.rank_since, now), known.rank_reason),
        master=str(known.master) if known.master else None,
        election=type(election).__name__.lower(),
        priority=known.priority,
        vrid=getattr(election, "vrid", None),
        dropped=dict(known.dropped),
        master_down_interval=known.master_down_interval,
        addresses=tuple(
            AddressView(str(target.address), target.placed.interface, is_held, count)
            for target, is_held, count in zip(known.targets, known.held, known.announced, strict=True)
        ),
        route_servers=known.route_servers,
        base_priority=getattr(election, "priority", None),
        why_priority=why_priority(election, known.verdict),
        tracks=tuple(
            TrackView(track.check, track.weight, track.reverse, shift(track, check))
            for track, check in known.tracked.tracks
        ),
        group=known.group,
        etcd=known.owner,
    )


def _keepalived(node: Node, now: float) -> KeepalivedView | None:
    if not node.follows_keepalived:
        return None
    found = node.keepalived
    said = [WordView(kind, name, state, _age(at, now)) for (kind, name), (state, at) in node.keepalived_said.items()]
    runs = found is not None and found.running
    return KeepalivedView(runs, _age(node.keepalived_since, now), found.reason if found else "", tuple(said))


def _check(check: CheckState, now: float) -> CheckView:
    return CheckView(
        check.config.name,
        check.health.value,
        _age(check.since, now),
        check.reason,
        check.last_result,
        check.runs,
        check.value,
    )


def _group(group: SyncGroup, now: float) -> GroupView:
    return GroupView(group.config.name, Standing(group.role.value, _age(group.since, now), group.reason), group.names)


def _session(session: Session, now: float) -> SessionView:
    return SessionView(
        peer=str(session.peer),
        state=session.state.value,
        for_=_age(session.since, now),
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
