"""Which node has the traffic of an instance, as far as the status lets one know.

The best route has it: route servers compare ranks. Without BGP the master has it, because it alone holds the address.
A node that fell silent may still attract traffic by a stale route, until that expires or a better one is announced.
"""

from typing import NamedTuple

from floatip.core.state import InstanceView, NodeView, Status

RANKS = ("none", "last-resort", "standby", "active", "takeover", "takeover-again")
"""The labels of `core.bgp.rank.Rank`, from worst to best; importing that would take longer than to draw the status."""
STANDBY = RANKS.index("standby")
THIS_NODE = "this node"


class Carrier(NamedTuple):
    node: str
    """`THIS_NODE`, a node's name or address; empty: nobody, or it is not known."""
    is_known: bool = True
    why: str = ""
    """Why it is not known; or why nobody has it."""


def carriers(status: Status) -> dict[str, Carrier]:
    """By the name of the instance."""
    others: dict[str, dict[str, int]] = {instance.name: {} for instance in status.instances}
    for node in status.nodes:
        if not node.own and node.state == "alive" and (node.sessions_up or not node.sessions):
            for carried in node.carries:
                others.setdefault(carried.instance, {})[node.name] = _place(carried.rank)
    gone = [node.name for node in status.nodes if not node.own and node.state != "alive"]
    return {one.name: _carrier(one, others[one.name], gone, status.nodes) for one in status.instances}


def _carrier(instance: InstanceView, others: dict[str, int], gone: list[str], nodes: tuple[NodeView, ...]) -> Carrier:
    if instance.etcd and instance.etcd.exclusive:  # its backups announce nothing
        others = {name: rank for name, rank in others.items() if rank > STANDBY}
    offers = {**others, THIS_NODE: _own_rank(instance)}
    best = max(offers.values())
    who = [name for name, rank in offers.items() if rank == best]
    if best > STANDBY:
        verb = "announce" if instance.route_servers else "hold"
        return Carrier(who[0]) if len(who) == 1 else Carrier("", False, f"{_all(who)} {verb} it alike")
    if nodes:
        return _of_standbys(instance, who if best > 0 else [], gone)
    if instance.master:
        return Carrier(instance.master)
    if instance.election == "static" and best > 0:
        return Carrier("", False, "this node is secondary, and does not know the others")
    if instance.role.value == "master":
        reached = "no route server has it from" if instance.route_servers else "no address is on"
        return Carrier("", False, f"this node is master, and {reached} this node")
    return Carrier("", False, "this node follows no master")


def _of_standbys(instance: InstanceView, who: list[str], gone: list[str]) -> Carrier:
    if gone:
        return Carrier("", False, f"{', '.join(gone)} cannot be asked")
    if not who or not instance.route_servers:
        return Carrier("", True, "no node announces it" if instance.route_servers else "no node is master")
    if len(who) == 1:
        return Carrier(who[0])
    return Carrier("", False, f"no node is master, and {_all(who)} announce it alike")


def _own_rank(instance: InstanceView) -> int:
    """That of the route which this node's route servers have; a rank that reaches nobody is none."""
    if not instance.route_servers:
        holds = not instance.addresses or any(address.held for address in instance.addresses)
        return _place(instance.rank.value) if instance.role.value == "master" and holds else 0
    return _place(instance.rank.value) if any(address.announced_to for address in instance.addresses) else 0


def _place(rank: str) -> int:
    return RANKS.index(rank) if rank in RANKS else 0


def _all(names: list[str]) -> str:
    return " and ".join(sorted(names))
