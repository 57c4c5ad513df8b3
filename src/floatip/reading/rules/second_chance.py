"""Open connections at a planned move: the port of the tunnel, and the instances that can have it."""

from collections.abc import Iterator

from floatip.core.settings import LINK_PORT, SECOND_CHANCE_PORT, Keepalived, Nodes, Static
from floatip.model import Model, SecondChance
from floatip.reading.place import Places, Problem
from floatip.reading.rules.parts import instances
from floatip.reading.words import few

MOST_SHOWN = 3
"""Instances in a message."""
TAKEN = {4789: "Docker Swarm and Calico", 8472: "flannel and Cilium"}
"""Ports of tunnels of other programs, whose packets floatip would drop."""


def nodes(model: Model, places: Places) -> Iterator[Problem]:
    if _used(model) and not model.nodes and not model.member and places.is_whole(("node",)):
        what = "there are no nodes that could pass connections on to each other"
        hint = "add a [[node]] for each node, with its name and address; or remove the table"
        yield places.error(("second_chance",), what, hint)


def port(model: Model, places: Places) -> Iterator[Problem]:
    at = ("second_chance", "port")
    if not (one := _used(model)) or not places.is_whole(at) or not places.is_whole(("link", "port")):
        return
    if one.port == model.link.port:
        thing = at if at in places.given else ("link", "port")
        hint = f"give one of the two another port; the defaults are {LINK_PORT} and {SECOND_CHANCE_PORT}"
        yield places.error(thing, f"{one.port} is the UDP port of both the link and the second chance", hint)
    elif taken := TAKEN.get(one.port):
        what = f"{taken} use UDP port {one.port} for their tunnels, and floatip drops what is not from its nodes there"
        yield places.warning(at, what, f"leave it out: the default is {SECOND_CHANCE_PORT}")


def placements(model: Model, places: Places) -> Iterator[Problem]:
    """Nothing for "auto": it is used where it can be."""
    if not (one := _used(model)) or one.mode != "on":
        return
    without = [
        instance
        for _, instance in instances(model, places)
        if not instance.may_have_second_chance and not isinstance(instance.election, Static)  # which never moves
    ]
    followed = [instance.name for instance in without if isinstance(instance.election, Keepalived)]
    exclusive = [one.name for one in without if isinstance(one.election, Nodes) and one.election.exclusive]
    moving = [one.name for one in without if one.name not in followed and one.name not in exclusive]
    at = ("second_chance", "mode")
    if followed:
        what = f"keepalived elects {few(followed, ', ', MOST_SHOWN)}: open connections there are reset at each move"
        hint = 'write mode = "auto", or let floatip elect: floatip adopt --replace'
        yield places.warning(at, what, hint)
    if exclusive:
        names = few(exclusive, ", ", MOST_SHOWN)
        what = f"an exclusive address leaves its node at each move ({names}): open connections there are reset"
        yield places.warning(at, what, 'write mode = "auto"; or leave out exclusive for the instance')
    if moving:
        what = f"only the master holds {few(moving, ', ', MOST_SHOWN)}: open connections there are reset at each move"
        hint = 'write mode = "auto"; or, where BGP announces the address, placement = "all" for the instance'
        yield places.warning(at, what, hint)


def _used(model: Model) -> SecondChance | None:
    return model.second_chance if model.second_chance and model.second_chance.mode != "off" else None


RULES = (nodes, port, placements)
