"""Why this node is or is not the one that carries an instance: the rule that decided, and what would change it.

A rule is a code that machines match on, with a sentence for people. The order of the guards is that of the electors:
the first that applies is the answer, and what else stands in the way is told beside it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from floatip.core import settings
from floatip.core.arbiter_problems import is_fenced, waits
from floatip.core.election.elector import Role
from floatip.core.election.follower import Follower
from floatip.core.election.nodes import NodesElector
from floatip.core.election.router import Router
from floatip.core.fleet import Fleet
from floatip.core.fleet_problems import says_master
from floatip.core.foresight import Names, Question, carrier, reaches
from floatip.core.health import Health
from floatip.core.instance import Instance
from floatip.core.link import wire
from floatip.core.link.wire import InstanceFlag, NodeFlag
from floatip.core.node import Node
from floatip.core.problems import UNSTEADY
from floatip.core.rules import Rule
from floatip.core.snapshot import owner_of
from floatip.core.state import OwnerView

MOST_QUESTIONS = 12


@dataclass(frozen=True, slots=True)
class Reason:
    rule: Rule
    what: str


@dataclass(frozen=True, slots=True)
class Explanation:
    instance: str
    election: str
    node: str
    """This one."""
    role: str
    rank: str
    for_: float
    """Seconds in this role."""
    carrier: str
    """The node that carries it, as far as this one knows; empty: none."""
    rule: Rule
    what: str
    because: str
    """What gave this node its role."""
    also: tuple[Reason, ...]
    """What else keeps it from carrying the instance."""
    unknown: tuple[str, ...]
    """What cannot be known from here."""
    questions: tuple[Question, ...]
    """What would change it, or might be thought to: each can be asked."""
    owner: OwnerView | None = None
    """What etcd says; None: it does not decide about it."""
    etcd_silent: float | None = None
    """For so many seconds etcd has not answered; None: it does, or it has no part in this."""


def explain(node: Node, instance: Instance, known: Names, now: float) -> Explanation:
    who = carrier(node, instance, known, now)
    first: dict[Rule, Reason] = {}  # of each rule
    for reason in _reasons(node, instance, known, who, now):
        if reason.what not in {one.what for one in first.values()}:
            first.setdefault(reason.rule, reason)
    reasons = [*first.values()] or [Reason(Rule.STARTING, instance.elector.reason)]
    return Explanation(
        instance.config.name,
        type(instance.config.election).__name__.lower(),
        known.own,
        instance.role.value,
        instance.decision.rank.label,
        now - instance.elector.since,
        who,
        reasons[0].rule,
        reasons[0].what,
        instance.elector.reason,
        tuple(reasons[1:]),
        tuple(_unknown(node, instance, known)),
        tuple(_questions(node, instance, known, who))[:MOST_QUESTIONS],
        owner_of(node, instance),
        now - node.arbiter.since if node.arbiter and not node.arbiter.answers else None,
    )


def _reasons(node: Node, instance: Instance, known: Names, who: str, now: float) -> Iterator[Reason]:
    """The first one decided."""
    elector, own = instance.elector, known.own
    if node.stopping:
        yield Reason(Rule.STOPPING, f"{own} is stopping: {node.stopping}")
    yield from _unfit(node, instance, known, who, now)
    if isinstance(instance.config.election, settings.Static):
        yield Reason(
            Rule.CONFIGURED, f"{own} is {instance.config.election.role}: nobody elects, the roles are configured"
        )
    elif isinstance(elector, NodesElector) and node.fleet:
        yield from _by_etcd(node, node.fleet, instance, elector, now)
        yield from _of_nodes(node.fleet, instance, elector, known, who, now)
    elif isinstance(elector, Router):
        yield from _of_router(node, instance, elector, known, now)
    elif isinstance(elector, Follower):
        yield from _of_follower(instance, elector, known)


def _unfit(node: Node, instance: Instance, known: Names, who: str, now: float) -> Iterator[Reason]:
    """What keeps it from carrying the instance in any election."""
    elector = instance.elector
    if instance.health is Health.DOWN:
        yield Reason(Rule.UNHEALTHY, instance.health_reason)
    elif instance.health is Health.UNKNOWN:
        yield Reason(Rule.NO_RESULT_YET, f"it cannot start before its checks have a result: {instance.health_reason}")
    if fault := node.link_fault(instance):
        yield Reason(Rule.LINK_DOWN, fault)
    if instance.waiting:
        yield Reason(Rule.NO_ADDRESS, instance.waiting)
    if node.network.cut_off and instance.is_announced:
        what = f"no route server has acknowledged anything for more than {node.network.cut_off_time:.1f} s"
        if not isinstance(instance.config.election, settings.Static):
            what += "; it may take over when one does"
        yield Reason(Rule.NO_ROUTE_SERVER, what)
    elif is_fenced(node, instance, now):
        why = "etcd does not answer" if node.arbiter and not node.arbiter.answers else instance.bar
        follows = f"{known.own} may not take it over" if who else "no node may have it"
        yield Reason(Rule.ETCD_SILENT, f"{why}; without etcd {follows}")
    elif instance.bar:  # in the election of keepalived it is keepalived's to see
        yield Reason(Rule.CRASH_LOOP if instance.bar == UNSTEADY else Rule.DAMPED, instance.bar)
    elif elector.role is Role.MASTER and not reaches(node, instance):
        if any(instance.held(node.holding)):
            yield Reason(Rule.NO_ROUTE_SERVER, "it is master, and no route server has its routes")
        else:
            yield Reason(Rule.NOT_HELD, "it is master, and this machine does not have its addresses")


def _by_etcd(node: Node, fleet: Fleet, instance: Instance, elector: NodesElector, now: float) -> Iterator[Reason]:
    arbiter, name, own = node.arbiter, instance.config.name, fleet.own.name
    if arbiter is None:
        return
    if waiting := waits(node, instance, now):
        yield Reason(Rule.WAITS_FOR_ETCD, waiting)
    elif elector.role is not Role.MASTER and elector.bid and not arbiter.is_own(name) and arbiter.answers:
        yield Reason(Rule.WAITS_FOR_ETCD, f"{own} has asked etcd for it, and waits for the answer")
    owner = fleet.living_owner(name)
    if owner and elector.role is Role.MASTER:
        yield Reason(Rule.TWO_MASTERS, f"etcd says that {owner.node} owns it: the owner stays")
    elif owner and (peer := fleet.link.peers.get(owner.node)) and not says_master(peer, name):
        yield Reason(Rule.OWNER, f"etcd says that {owner.node} owns it, and that node lives: {own} leaves it there")


def _of_nodes(
    fleet: Fleet, instance: Instance, elector: NodesElector, known: Names, who: str, now: float
) -> Iterator[Reason]:
    name, own, election = instance.config.name, known.own, elector.config
    leaving = fleet.leaves(instance)
    heirs = [peer.name for peer in fleet.heirs(name)]
    if elector.role is Role.MASTER:
        if leaving:
            rule = Rule.DRAINED if fleet.drained else Rule.STOPPING if fleet.leaving else Rule.HANDS_OVER
            to = f"until {_or(heirs)} has taken over" if heirs else f"because no other could: {fleet.why_nobody(name)}"
            yield Reason(rule, f"{own} is to leave ({leaving}), and goes on {to}")
        rival = fleet.carrier(name)
        if rival:
            yield Reason(Rule.TWO_MASTERS, f"{rival} says that it is master too; the later one stays")
        if not heirs:
            yield Reason(Rule.ONLY_READY_NODE, f"no other node could take over: {fleet.why_nobody(name)}")
        elif fleet.whole and fleet.whole.get(name) == own and election.preempt:
            yield Reason(Rule.PREFERRED, f"{own} is preferred for it, and preempt is on")
        yield Reason(Rule.STICKY, f"{own} carries it, and keeps it as long as it is ready")
        if fleet.pause_reason:
            yield Reason(Rule.PAUSED, f"no node takes over: {fleet.pause_reason}")
        return
    if leaving:
        yield Reason(Rule.DRAINED if fleet.drained else Rule.HANDS_OVER, f"{own} leaves it to other nodes ({leaving})")
    if fleet.pause_reason:
        yield Reason(Rule.PAUSED, f"no node takes over: {fleet.pause_reason}")
    if elector.role in (Role.BACKUP, Role.FAULT):
        yield from _unready(fleet, instance)
    if who:
        yield from _held_by(fleet, elector, instance, who, now)
    elif elector.role is Role.BACKUP and not (elector.obstacles.barred or leaving or fleet.pause_reason):
        wait = max(elector.deadline - now, 0.0) if elector.deadline < math.inf else 0.0
        yield Reason(
            Rule.WAITS_ITS_TURN, f"nobody carries it; {own} takes over in {wait:.1f} s unless another node does"
        )
    elif elector.role is Role.INIT:
        yield Reason(Rule.STARTING, elector.reason)


def _held_by(fleet: Fleet, elector: NodesElector, instance: Instance, who: str, now: float) -> Iterator[Reason]:
    election, own = elector.config, fleet.own.name
    if fleet.given.get(instance.config.name) == who:
        yield Reason(Rule.HANDED_OVER, f"{own} has handed it over to {who}, and takes nothing back")
    elif elector.preempts_at < math.inf:
        wait = max(elector.preempts_at - now, 0.0)
        yield Reason(
            Rule.PREEMPT_DELAY, f"{own} is preferred, and takes over from {who} in {wait:.0f} s (preempt_delay)"
        )
    elif not election.preempt:
        yield Reason(Rule.STICKY, f"{who} carries it, and keeps it as long as it is ready (preempt is off)")
    elif election.preempt:
        yield Reason(Rule.PREFERRED, f"{who} carries it, and {own} is not preferred to it")


def _unready(fleet: Fleet, instance: Instance) -> Iterator[Reason]:
    state = fleet.link.own_state(wire.identity(instance.config.name))
    if state and not state.flags & InstanceFlag.HELD and instance.config.placement == "all":
        yield Reason(Rule.NOT_HELD, "this machine does not have its addresses")
    own = fleet.link.own_node
    if own and own.sessions and not own.sessions_up:
        yield Reason(Rule.NO_ROUTE_SERVER, "no route server has a session with it; it is ready when one has")


def _of_router(node: Node, instance: Instance, elector: Router, known: Names, now: float) -> Iterator[Reason]:
    config, own = elector.config, known.own
    if node.fleet and (leaving := node.fleet.leaves(instance)):
        rule = Rule.DRAINED if node.fleet.drained else Rule.HANDS_OVER
        yield Reason(rule, f"{own} leaves mastership to other nodes ({leaving})")
    if elector.role is Role.MASTER:
        if elector.second_master(now):
            yield Reason(Rule.TWO_MASTERS, "another node says that it is master too: it does not hear this one")
        what = f"{own} is master, and hears no node with a higher priority than {elector.priority}{_sum(instance)}"
        yield Reason(Rule.PRIORITY, what)
        return
    is_well, group = instance.health is Health.UP and not node.link_fault(instance), node.group_of(instance)
    if group and elector.wants_master:
        yield Reason(Rule.SYNC_GROUP, f"no better master is heard, but {group.holds_back(instance) or elector.reason}")
        return
    if group and is_well and elector.role is Role.FAULT:
        yield Reason(Rule.SYNC_GROUP, elector.reason)
        return
    if elector.role is not Role.BACKUP:
        yield Reason(Rule.STARTING if elector.role is Role.INIT else Rule.UNHEALTHY, elector.reason)
        return
    master = elector.master
    if master is None:
        wait = max(elector.deadline - now, 0.0)
        yield Reason(Rule.LISTENS, f"no master is heard; {own} becomes master in {wait:.1f} s unless it hears one")
        return
    theirs, ours = elector.master_priority, elector.priority
    who = known.of(master)
    if theirs > ours:
        yield Reason(
            Rule.PRIORITY, f"{who} is master with priority {theirs}, above the {ours} of {own}{_sum(instance)}"
        )
    elif theirs == ours and int(master) > int(config.source):
        yield Reason(Rule.TIE_BY_ADDRESS, f"{who} is master with the same priority {ours} and the greater address")
    elif theirs == ours:
        yield Reason(Rule.STICKY, f"{who} is master with the same priority {ours}, and a master keeps it")
    elif not config.preempt:
        yield Reason(Rule.STICKY, f"{who} is master; the higher priority of {own} does not matter (preempt is off)")
    else:
        what = f"{own} has the higher priority {ours}, above {theirs}, and takes over from {who} after preempt_delay"
        yield Reason(Rule.PREEMPT_DELAY, what)


def _sum(instance: Instance) -> str:
    """What checks have to do with its priority."""
    return f" ({instance.why_shift})" if instance.verdict.shift else ""


def _of_follower(instance: Instance, elector: Follower, known: Names) -> Iterator[Reason]:
    own = known.own
    if not elector.runs:
        yield Reason(Rule.KEEPALIVED_DOWN, f"keepalived elects, and does not run on {own}")
    elif elector.doubts:
        yield Reason(Rule.CONTESTED, elector.reason)
    elif elector.role is Role.MASTER:
        yield Reason(Rule.KEEPALIVED, f"keepalived elects, and is master on {own}: {elector.reason}")
    else:
        who = f"; {known.of(elector.master)} sends adverts" if elector.master else ""
        yield Reason(Rule.KEEPALIVED, f"keepalived elects, and is not master on {own}: {elector.reason}{who}")


def _unknown(node: Node, instance: Instance, known: Names) -> Iterator[str]:
    election = instance.config.election
    if isinstance(election, settings.Static):
        yield "which other nodes announce it: without an election they do not hear each other"
    elif isinstance(election, settings.Vrrp | settings.Keepalived) and instance.role is Role.MASTER:
        silent = [known.of(address) for address in election.peers if known.of(address) not in _linked(node)]
        if silent or not election.peers:
            yield f"whether {_or(silent) or 'another node'} could take over: a backup is silent"


def _linked(node: Node) -> set[str]:
    return {peer.name for peer in node.fleet.others if peer.alive} if node.fleet else set()


def _questions(node: Node, instance: Instance, known: Names, who: str) -> Iterator[Question]:
    config, fleet, own = instance.config, node.fleet, known.own
    elected = isinstance(config.election, settings.Nodes) and fleet is not None
    has = node.tracked(instance)
    checks = dict.fromkeys((*has.checks, *(check for _, check in has.tracks)))
    yield from (Question("check-passes", c.config.name) for c in checks if c.health is Health.DOWN)
    if fleet and fleet.drained:
        yield Question("undrained", own)
    pauser = _pauser(fleet) if fleet else ""
    if elected and pauser:
        yield Question("resumed", pauser)
    if who:
        yield Question("down", who)
    yield from (Question("check-fails", c.config.name) for c in checks if c.health is not Health.DOWN)
    if fleet and not fleet.drained and who == own and isinstance(config.election, settings.Nodes | settings.Vrrp):
        yield Question("drained", own)
    if elected and fleet:
        yield from (Question("drained", peer.name) for peer in fleet.others if peer.name == who and peer.alive)
        yield from (Question("back", peer.name) for peer in fleet.others if not peer.alive)
    if elected and node.arbiter and node.arbiter.answers:
        yield Question("etcd-gone")
    others = [name for name in known.others if name != who and (fleet is None or name in _linked(node))]
    yield from (Question("down", name) for name in others if who == own)


def _pauser(fleet: Fleet) -> str:
    if fleet.paused:
        return fleet.own.name
    return next((one.name for one in fleet.others if one.alive and one.node and one.node.flags & NodeFlag.PAUSED), "")


def _or(who: list[str]) -> str:
    return " or ".join(who)
