"""What an operator may ask of a node, what stands against it, and how far it has come."""

from dataclasses import dataclass

from floatip.core import settings
from floatip.core.election.elector import Role
from floatip.core.events import Drained, HandoverAsked, Paused
from floatip.core.fleet import Fleet, why_not
from floatip.core.instance import Instance
from floatip.core.link import wire
from floatip.core.link.wire import NodeFlag
from floatip.core.node import Node
from floatip.core.state import FRESH_SESSION

OURS = settings.Nodes | settings.Vrrp
Order = Drained | Paused | HandoverAsked


@dataclass(frozen=True, slots=True)
class Refused:
    """Why it is not done, and what to do next."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Progress:
    done: bool
    waiting: tuple[str, ...] = ()
    result: str = ""


def objection(node: Node, order: Order, *, force: bool) -> Refused | None:
    """`force`: also where nobody is ready, or the route servers may not believe the one who takes over."""
    fleet = node.fleet
    if fleet is None:
        hint = "name all nodes in the configuration, each with a [[node]] table, then: systemctl reload floatip"
        return Refused("no [[node]] is configured: this node knows no others", hint)
    match order:
        case Drained(None) | Paused():
            return None
        case Drained():
            return _foreign(node) or _paused(fleet) or (None if force else _unready(node, fleet, _elected(node)))
        case HandoverAsked():
            return _paused(fleet) or _handover(node, fleet, order, force=force)


def progress(node: Node, order: Order) -> Progress | Refused:
    """How far it is, since it was accepted."""
    fleet = node.fleet
    if fleet is None:
        return Refused("a reload has removed the nodes", "floatip status")
    match order:
        case Drained(None):
            return Progress(done=True, result=f"{fleet.own.name} is ready to take over")
        case Paused(None):
            return Progress(done=True, result="the nodes elect")
        case Paused():
            return Progress(done=True, result="no node takes over or yields until: floatip resume")
        case Drained():
            return _left(fleet, [one for one in _elected(node) if one.role is Role.MASTER], _elected(node))
        case HandoverAsked(names):
            asked = [node.instances[name] for name in names if name in node.instances]
            still = [one for one in asked if one.role is Role.MASTER]
            if late := [one.config.name for one in still if one.config.name not in fleet.wishes]:
                return Refused(f"no node took over {', '.join(late)} in time", "see how they are: floatip nodes")
            return _left(fleet, still, asked)


def names_to_hand_over(node: Node, instance: str | None) -> tuple[str, ...]:
    """Those that an order without a name means: all that this node carries."""
    return (instance,) if instance else tuple(one.config.name for one in _elected(node) if one.role is Role.MASTER)


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
            return Refused(f"keepalived elects the master of {name}, not floatip", hint)
        case settings.Vrrp():
            what = f"VRRP elects the master of {name}: a node with the higher priority would take it back"
            return Refused(what, "to move it until you say otherwise: floatip drain")
    return Refused(f"the role of {name} is configured: static", "change static on both nodes, then reload")


def _paused(fleet: Fleet) -> Refused | None:
    if reason := fleet.pause_reason:
        who = next((peer.name for peer in fleet.others if peer.node and peer.node.flags & NodeFlag.PAUSED), "")
        where = "here" if fleet.paused else f"on {who}"
        return Refused(f"no node takes over now: {reason}", f"{where}: floatip resume")
    return None


def _handover(node: Node, fleet: Fleet, order: HandoverAsked, *, force: bool) -> Refused | None:
    for name in order.instances:
        instance = node.instances.get(name)
        if instance is None:
            known = ", ".join(node.instances) or "none"
            return Refused(f"there is no instance {name}", f"the instances are: {known}")
        if not isinstance(instance.config.election, settings.Nodes):
            return _not_ours(instance)
        if instance.role is not Role.MASTER:
            return Refused(f"this node does not carry {name}", _who_carries(fleet, name))
    if not order.instances:
        return Refused("this node carries nothing", "see who does: floatip nodes")
    if order.to and order.to not in fleet.link.peers:
        known = ", ".join(fleet.link.peers)
        what = "is this node" if order.to == fleet.own.name else "is no node of the configuration"
        return Refused(f"{order.to} {what}", f"the others are: {known}")
    return _unready(node, fleet, [node.instances[name] for name in order.instances], order.to, force=force)


def _who_carries(fleet: Fleet, name: str) -> str:
    identity = wire.identity(name)
    for peer in fleet.others:
        state = peer.instances.get(identity)
        if peer.alive and state and state.role is wire.Role.MASTER:
            return f"{peer.name} does; run it there"
    return "no node that is heard does: floatip nodes"


def _unready(
    node: Node, fleet: Fleet, instances: list[Instance], to: str = "", *, force: bool = False
) -> Refused | None:
    """`force`: the one who takes over may be young, but must be there."""
    for instance in instances:
        name = instance.config.name
        ready = [peer for peer in fleet.heirs(name) if to in ("", peer.name)]
        if not ready:
            what = "; ".join(f"{p.name} {why_not(p, name)}" for p in fleet.others if to in ("", p.name))
            hint = "mend that node first: floatip nodes"
            hint += "" if to else "; floatip drain --force leaves as soon as one is ready"
            return Refused(f"no other node could take over {name}: {what}", hint)
        seasoned = [peer for peer in ready if peer.node and peer.node.flags & NodeFlag.SEASONED]
        if not seasoned and not force and instance.role is Role.MASTER:
            who = ", ".join(peer.name for peer in ready)
            what = f"the BGP sessions of {who} are younger than {FRESH_SESSION:g} s, and route servers may ignore them"
            return Refused(f"{name} would be lost for a moment: {what}", "wait until then, or add --force")
    return None


def _left(fleet: Fleet, still: list[Instance], asked: list[Instance]) -> Progress:
    waiting = []
    for instance in still:
        name = instance.config.name
        heirs = [peer.name for peer in fleet.heirs(name)]
        if heirs:
            waiting.append(f"{name}: waits for {' or '.join(heirs)} to take over")
    if waiting:
        return Progress(done=False, waiting=tuple(waiting))
    stay = [one.config.name for one in still]
    carried = [sentence for one in asked if one not in still and (sentence := _carried(fleet, one.config.name))]
    results = [f"{', '.join(stay)} stays here until another node is ready"] if stay else []
    return Progress(done=True, result="; ".join([*carried, *results]))


def _carried(fleet: Fleet, name: str) -> str:
    identity = wire.identity(name)
    for peer in fleet.others:
        state = peer.instances.get(identity)
        if peer.alive and state and state.role is wire.Role.MASTER:
            return f"{peer.name} carries {name}"
    return ""
