"""What happens to many instances at once is decided, done and told at once."""

from ipaddress import IPv4Address, IPv4Interface

from floatip.core import settings
from floatip.core.events import (
    Became,
    DatagramReceived,
    Effect,
    Event,
    Held,
    Hold,
    LinkChanged,
    SendDatagram,
    Started,
    Ticked,
)
from floatip.core.node import Node

INSTANCES = 255
NODES = tuple(settings.Node(f"haproxy{n}", IPv4Address(f"192.168.143.{n}")) for n in (1, 2))
DATAGRAMS_OF_ALL = 16
"""So many have room for the state of all instances."""


def test_what_a_silent_node_leaves_is_taken_over_in_one_go() -> None:
    one, other = (_node(number) for number in (0, 1))
    _play(one, other, until=5.0)
    dead, alive = sorted((one, other), key=_carried)
    assert _carried(dead) + _carried(alive) == INSTANCES
    effects: list[Effect] = []
    while not any(isinstance(effect, Became) and effect.what == "role" for effect in effects):
        effects = _handle(alive, Ticked(), alive.deadline)
    assert _carried(alive) == INSTANCES
    assert sum(isinstance(effect, Hold) for effect in effects) == 1
    # The last hello before, and what is new.
    assert sum(isinstance(effect, SendDatagram) for effect in effects) <= 2 * DATAGRAMS_OF_ALL


def _node(number: int) -> Node:
    instances = tuple(
        settings.Instance(
            f"VI_{each}",
            (IPv4Interface(f"192.168.200.{each}/32"),),
            settings.Nodes(),
            placement="master",
            interface="eth0",
        )
        for each in range(1, INSTANCES + 1)
    )
    link = settings.Link(NODES, NODES[number].name, (bytes(32),), bytes(8))
    return Node(settings.Settings(instances=instances, link=link, boot=number + 1), 0.0)


def _carried(node: Node) -> int:
    return sum(instance.role.value == "master" for instance in node.instances.values())


def _play(one: Node, other: Node, until: float) -> None:
    """Without delay or loss."""
    nodes = (one, other)
    for event in (LinkChanged("eth0", True, ""), Held(frozenset()), Started()):
        for node in nodes:
            _deliver(nodes, node, event, 0.0)
    while (now := min(node.deadline for node in nodes)) < until:
        for node in nodes:
            if node.deadline <= now:
                _deliver(nodes, node, Ticked(), now)


def _deliver(nodes: tuple[Node, Node], node: Node, event: Event, now: float) -> None:
    queue = [(node, event)]
    while queue:
        hearer, event = queue.pop(0)
        index = nodes.index(hearer)
        for effect in _handle(hearer, event, now):
            if isinstance(effect, SendDatagram):
                queue.append((nodes[1 - index], DatagramReceived(NODES[index].address, effect.data, now)))


def _handle(node: Node, event: Event, now: float) -> list[Effect]:
    """The kernel does at once what the node wants."""
    effects = node.handle(event, now)
    held = [effect.addresses for effect in effects if isinstance(effect, Hold)]
    return effects + (_handle(node, Held(held[-1]), now) if held else [])
