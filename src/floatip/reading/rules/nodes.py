"""The nodes that know each other, and which of them this machine is."""

from collections.abc import Iterator

from floatip.core.settings import Node, Nodes
from floatip.model import Model
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem
from floatip.reading.rules import members
from floatip.reading.rules.parts import floating, instances, own_addresses
from floatip.reading.words import closest, listed, shown


def here(model: Model, machine: Machine) -> list[Node]:
    """Those whose address this machine has; a member knows by its name which one it is."""
    if model.member:
        node = members.own(model)
        return [node] if node and machine.has(node.address) else []
    return [node for node in model.nodes if machine.has(node.address)]


def of_file(model: Model) -> tuple[Node, ...]:
    """Those of the file."""
    return () if model.member else model.nodes


def enough(model: Model, places: Places) -> Iterator[Problem]:
    if len(model.nodes) == 1 and not model.member and places.is_whole(("node",)):
        what = "there is only one [[node]], and nodes know each other"
        yield places.error(("node",), what, "add one for each of the other nodes, with its name and address")
    if ("link",) in places.given and ("node",) not in places.given and not model.member:
        hint = "add a [[node]] for each node, with its name and address, or remove the table"
        yield places.warning(("link",), "there are no nodes that could speak with each other", hint)


def addresses(model: Model, places: Places) -> Iterator[Problem]:
    moving = {one.ip for _, one in floating(model, places)}
    known: dict[object, Node] = {}
    for at, node in places.each(("node",), of_file(model)):
        thing = (*at, "address")
        if node.address.is_unspecified:
            continue
        first = next(iter(known.values()), node)
        if node.address in known:
            hint = "give each node the address that only this node has"
            yield places.error(thing, f"{node.address} is the address of {known[node.address].name} too", hint)
        elif node.address in moving:
            hint = "name the node's own address, which stays there"
            yield places.error(thing, f"{node.address} is a floating address", hint)
        elif node.address.version != first.address.version:
            what = f"{node.address} is IPv{node.address.version}, and {first.name} has IPv{first.address.version}"
            yield places.error(thing, what, "give all nodes addresses of one version: they send to each other")
        known.setdefault(node.address, node)


def preferences(model: Model, places: Places) -> Iterator[Problem]:
    names = [node.name for node in model.nodes if node.name]
    for at, instance in instances(model, places):
        if not isinstance(instance.election, Nodes):
            continue
        seen = set[str]()
        for thing, name in places.each((*at, "prefer"), instance.election.prefer):
            if name in seen:
                yield places.error(
                    thing, f"{shown(name)} is there twice", "name each node once, the first choice first"
                )
            elif name not in names and model.member:
                what = f"there is no member {shown(name)} now"
                yield places.warning(thing, what, f"it counts once it has registered; the members are {listed(names)}")
            elif name not in names and places.is_whole(("node",)):
                hint = (
                    f'did you mean "{close}"?' if (close := closest(name, names)) else f"the nodes are {listed(names)}"
                )
                yield places.error(thing, f"there is no node {shown(name)}", hint)
            seen.add(name)


def own(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """An error: without it this node can take no part. At boot the address may come later than floatip."""
    if model.member:
        yield from members.place(model, places, machine)
        return
    found = here(model, machine)
    if len({node.address for node in found}) > 1:
        what = f"more than one is this machine: {listed([*map(_named, found)])}"
        hint = "give each [[node]] an address that only its machine has: ip address"
        yield places.on_machine(("node",), what, hint)
    elif model.nodes and not found and places.is_whole(("node",)):
        has = own_addresses(model, places, machine)
        what = f"none is this machine, which has {has}; the nodes are {listed([*map(_named, model.nodes)])}"
        hint = "correct the address of this machine's [[node]], or bring the address up: ip address"
        yield places.on_machine(("node",), what, hint)


def _named(node: Node) -> str:
    return f"{node.name} {node.address}"


RULES = (enough, addresses, preferences)
ON_MACHINE = (own,)
