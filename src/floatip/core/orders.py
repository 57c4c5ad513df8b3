"""What an operator may ask of a node, what stands against it, and how far it has come."""

from dataclasses import dataclass, replace

from floatip.core import events, settings
from floatip.core.arbiter_problems import needs_etcd
from floatip.core.election.elector import Role
from floatip.core.events import Drained, HandoverAsked, Paused
from floatip.core.fleet import Fleet
from floatip.core.instance import Instance
from floatip.core.link import wire
from floatip.core.link.wire import InstanceFlag, NodeFlag
from floatip.core.node import Node
from floatip.core.refusals import Why
from floatip.core.state import FRESH_SESSION

OURS = settings.Nodes | settings.Vrrp
Order = Drained | Paused | HandoverAsked

PAUSES = "no node that hears this one takes over or yields until: floatip resume"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why it is not done, and what to do next."""

    what: str
    hint: str
    code: Why


@dataclass(frozen=True, slots=True)
class Progress:
    done: bool
    waiting: tuple[str, ...] = ()
    result: str = ""
    kept: "Kept | None" = None
    """Done, and connections of this node go on by other nodes; None: none does."""
    gone: str = ""
    """A sentence: nothing is left here, and how its connections ended; empty: that is not known."""


@dataclass(frozen=True, slots=True)
class Kept:
    connections: int | None
    """None: nobody knows yet how many."""
    nodes: tuple[str, ...] = ()
    """By which."""
    until: float | None = None
    """Monotonic seconds: when they are cut off at the latest."""


def objection(node: Node, order: Order, *, force: bool) -> Refused | None:
    """`force`: also where nobody is ready, or the route servers may not believe the one who takes over."""
    fleet = node.fleet
    if fleet is None:
        hint = "name all nodes in the configuration, each with a [[node]] table, then: systemctl reload floatip"
        return Refused("no [[node]] is configured: this node knows no others", hint, Why.NO_NODES)
    match order:
        case Drained(None) | Paused():
            return None
        case Drained():
            return _foreign(node) or _paused(fleet) or _unready_to_drain(node, fleet, force=force)
        case HandoverAsked():
            return _paused(fleet) or _handover(node, fleet, order, force=force)


def foreseen(node: Node, order: Order) -> list[str]:
    """What would come of an order that nothing stands against, in sentences."""
    fleet = node.fleet
    assert fleet
    match order:
        case Drained(None):
            return [f"{fleet.own.name} takes part in elections again"]
        case Paused(wanted):
            return [PAUSES if wanted else "the nodes elect again"]
        case Drained():
            names, to = names_to_hand_over(node, None), ""
            rest = [f"{fleet.own.name} takes over nothing until: floatip undrain"]
        case HandoverAsked(names, to):
            rest = []
    heirs = {name: [peer.name for peer in fleet.heirs(name) if to in ("", peer.name)] for name in names}
    moves = [
        f"{' or '.join(ready)} takes over {name}" if ready else f"{name} stays here until another node is ready"
        for name, ready in heirs.items()
    ]
    return [*(moves or [f"{fleet.own.name} carries nothing, so no traffic moves"]), *rest]


def progress(node: Node, order: Order, *, force: bool) -> Progress | Refused:
    """How far it is, since it was accepted. With `force`, a drain is also done where nobody is ready."""
    fleet = node.fleet
    if fleet is None:
        return Refused("a reload has removed the nodes", "floatip status", Why.NO_NODES)
    match order:
        case Drained(wanted):
            found = _meanwhile("drained", fleet.drained, wanted) or _drained(node, fleet, force=force)
            return found if wanted is None else _with_kept(node, found)
        case Paused(wanted):
            return _meanwhile("paused", fleet.paused, wanted) or Progress(done=True, result=_paused_result(fleet))
        case HandoverAsked(names):
            asked = [node.instances[name] for name in names if name in node.instances]
            return _with_kept(node, _handed_over(fleet, asked))


def _with_kept(node: Node, found: Progress | Refused) -> Progress | Refused:
    """With the connections that go on here after the move."""
    if isinstance(found, Refused) or not found.done:
        return found
    return replace(found, kept=_kept(node), gone=node.departure.said)


def _kept(node: Node) -> Kept | None:
    streams = [one for one in node.moves.kept if one.connections] if node.moves else []
    if streams:
        until = max(one.until for one in streams)
        return Kept(sum(one.connections for one in streams), tuple(one.node for one in streams), until)
    return Kept(None) if node.departure.order else None


def names_to_hand_over(node: Node, instance: str | None) -> tuple[str, ...]:
    """Those that an order without a name means: all that this node carries."""
    if instance is not None:
        return (instance,)
    return tuple(one.config.name for one in _elected(node) if one.role is Role.MASTER)


def _meanwhile(what: str, is_so: events.Order | None, wanted: events.Order | None) -> Refused | None:
    """Whether somebody has asked for the opposite since."""
    if bool(is_so) == bool(wanted):
        return None
    change = f"this node has been {what} again" if is_so else f"this node is not {what} any more"
    return Refused(
        f"{change}, by another command or by a time limit", "see how it stands: floatip nodes", Why.COUNTERMANDED
    )


def _drained(node: Node, fleet: Fleet, *, force: bool) -> Progress:
    asked = _elected(node)
    if not fleet.drained:
        return Progress(done=True, result=_in_service(fleet, asked))
    still = [one for one in asked if one.role is Role.MASTER]
    stay = [one.config.name for one in still if force and not fleet.heirs(one.config.name)]
    if waiting := _waits(fleet, [one for one in still if one.config.name not in stay]):
        return Progress(done=False, waiting=waiting)
    carried = [sentence for one in asked if one not in still and (sentence := _carried(fleet, one.config.name))]
    rest = [f"{', '.join(stay)} stays here until another node is ready"] if stay else []
    return Progress(done=True, result="; ".join([*carried, *rest]))


def _in_service(fleet: Fleet, elected: list[Instance]) -> str:
    states = [(one, fleet.link.own_state(wire.identity(one.config.name))) for one in elected]
    late = [one for one, state in states if not state or not state.flags & InstanceFlag.READY]
    unready = "".join(f"; it could not carry {one.config.name} now: {one.elector.reason}" for one in late)
    return f"{fleet.own.name} is in service" + (unready or ", and ready to take over")


def _paused_result(fleet: Fleet) -> str:
    if fleet.paused:
        return PAUSES
    return fleet.pause_reason or "the nodes elect"


def _handed_over(fleet: Fleet, asked: list[Instance]) -> Progress | Refused:
    still = [one for one in asked if one.role is Role.MASTER]
    if late := [one.config.name for one in still if one.config.name not in fleet.wishes]:
        what = f"{', '.join(late)} is here: no node took over in time, or gave it back"
        return Refused(what, "see how they are: floatip nodes", Why.NOT_TAKEN_OVER)
    carried = {one.config.name: _carried(fleet, one.config.name) for one in asked if one not in still}
    nowhere = [f"{name}: no node that is heard is master" for name, sentence in carried.items() if not sentence]
    if waiting := [*_waits(fleet, still), *nowhere]:
        return Progress(done=False, waiting=tuple(waiting))
    return Progress(done=True, result="; ".join(carried.values()))


def _elected(node: Node) -> list[Instance]:
    """Those that floatip can hand over."""
    return [one for one in node.instances.values() if isinstance(one.config.election, OURS)]


def _foreign(node: Node) -> Refused | None:
    others = [one for one in node.instances.values() if not isinstance(one.config.election, OURS)]
    return _not_ours(others[0]) if others else None


def _not_ours(instance: Instance) -> Refused:
    name = instance.config.name
    match instance.config.election:
        case settings.Keepalived(instance=theirs):
            hint = f"have keepalived hand over: systemctl stop keepalived; it elects {theirs}"
            return Refused(f"keepalived elects the master of {name}, not floatip", hint, Why.ELECTED_ELSEWHERE)
        case settings.Vrrp():
            what = f"VRRP elects the master of {name}: a node with the higher priority would take it back"
            return Refused(what, "to move it until you say otherwise: floatip drain", Why.ELECTED_ELSEWHERE)
    what, hint = f"the role of {name} is configured: static", "change static on both nodes, then reload"
    return Refused(what, hint, Why.ELECTED_ELSEWHERE)


def _unready_to_drain(node: Node, fleet: Fleet, *, force: bool) -> Refused | None:
    return None if force or fleet.drained else _unready(node, fleet, _elected(node))


def _paused(fleet: Fleet) -> Refused | None:
    if reason := fleet.pause_reason:
        who = next((peer.name for peer in fleet.others if peer.node and peer.node.flags & NodeFlag.PAUSED), "")
        where = "here" if fleet.paused else f"on {who}"
        return Refused(f"no node takes over now: {reason}", f"{where}: floatip resume", Why.ELECTION_PAUSED)
    return None


def _handover(node: Node, fleet: Fleet, order: HandoverAsked, *, force: bool) -> Refused | None:
    for name in order.instances:
        instance = node.instances.get(name)
        if instance is None:
            known = ", ".join(node.instances) or "none"
            return Refused(f"there is no instance {name}", f"the instances are: {known}", Why.UNKNOWN_NAME)
        if not isinstance(instance.config.election, settings.Nodes):
            return _not_ours(instance)
        if instance.role is not Role.MASTER:
            return Refused(f"this node does not carry {name}", _who_carries(fleet, name), Why.CARRIED_ELSEWHERE)
    if not order.instances:
        return Refused("this node carries nothing", "see who does: floatip nodes", Why.CARRIED_ELSEWHERE)
    if order.to and order.to not in fleet.link.peers:
        known = ", ".join(fleet.link.peers)
        what = "is this node" if order.to == fleet.own.name else "is no node of the configuration"
        return Refused(f"{order.to} {what}", f"the others are: {known}", Why.UNKNOWN_NAME)
    return _unready(node, fleet, [node.instances[name] for name in order.instances], order.to, force=force)


def _who_carries(fleet: Fleet, name: str) -> str:
    carrier = fleet.carrier(name)
    return f"{carrier} does; run it there" if carrier else "no node that is heard does: floatip nodes"


def _unready(
    node: Node, fleet: Fleet, instances: list[Instance], to: str = "", *, force: bool = False
) -> Refused | None:
    """`force`: the one who takes over may be young, but must be there."""
    for instance in instances:
        name = instance.config.name
        ready = [peer for peer in fleet.heirs(name) if to in ("", peer.name)]
        if not ready:
            why, hint = fleet.why_nobody(name, to), "mend that node first: run floatip status there"
            if node.arbiter and not node.arbiter.answers and needs_etcd(instance):
                why = "etcd does not answer, and without etcd no node may have it"
                hint = "make etcd answer first: floatip doctor"
            hint += "" if to else "; floatip drain --force leaves as soon as one is ready"
            what = f"no other node could take over {name}: {why}"
            return Refused(what, hint, Why.NOBODY_READY)
        seasoned = [peer for peer in ready if peer.node and peer.node.flags & NodeFlag.SEASONED]
        if not seasoned and not force and instance.role is Role.MASTER:
            who = ", ".join(peer.name for peer in ready)
            what = f"the BGP sessions of {who} are younger than {FRESH_SESSION:g} s, and route servers may ignore them"
            what = f"{name} would be lost for a moment: {what}"
            return Refused(what, "wait until then, or add --force", Why.YOUNG_SESSIONS)
    return None


def _waits(fleet: Fleet, still: list[Instance]) -> tuple[str, ...]:
    """What keeps this node master."""
    waiting = []
    for name in (one.config.name for one in still):
        if fleet.pause_reason:
            waiting.append(f"{name}: no node takes over now: {fleet.pause_reason}")
        elif heirs := [peer.name for peer in fleet.heirs(name)]:
            waiting.append(f"{name}: waits for {' or '.join(heirs)} to take over")
        else:
            waiting.append(f"{name}: no other node is ready: {fleet.why_nobody(name)}")
    return tuple(waiting)


def _carried(fleet: Fleet, name: str) -> str:
    carrier = fleet.carrier(name)
    return f"{carrier} carries {name}" if carrier else ""
