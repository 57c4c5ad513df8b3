"""What is foretold of fleets with many instances, beside what the same cores then do with each other's datagrams."""

from collections import deque
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from random import Random

import pytest

from floatip.core import settings
from floatip.core.election.elector import Role
from floatip.core.events import (
    CheckDone,
    ClockMoved,
    DatagramReceived,
    Drained,
    Event,
    Held,
    Hold,
    Order,
    SendDatagram,
    Started,
    Ticked,
)
from floatip.core.foresight import Kind, Outcome, Question, names
from floatip.core.node import Node
from floatip.core.whatif import Foreseen

SETTLED = 8.0
EPOCH = 1.8e9


class Fleet:
    """Nodes that hear each other without delay or loss, and a kernel that holds at once."""

    def __init__(self, instances: tuple[settings.Instance, ...], members: tuple[settings.Node, ...]) -> None:
        self.members = members
        self.instances = instances
        self.checks = tuple(settings.Check(name, pushed=True) for each in instances for name in each.checks)
        self.nodes: dict[str, Node] = {}
        self.sick: set[tuple[str, str]] = set()
        self.now, self._boots = 0.0, 0
        for member in members:
            self.start(member.name)
        self.run(SETTLED)

    def start(self, name: str) -> None:
        self._boots += 1
        link = settings.Link(self.members, name, (bytes(32),), bytes(8))
        node = Node(settings.Settings(self.checks, self.instances, link=link, boot=self._boots), self.now)
        self.nodes[name] = node
        for event in (ClockMoved(EPOCH), Held(frozenset()), Started()):
            self.tell(name, event)
        for check in self.checks:
            self.tell(name, CheckDone(check.name, 0, (name, check.name) not in self.sick, ""))

    def tell(self, name: str, event: Event) -> None:
        queue = deque([(name, event)])
        while queue:
            hearer, event = queue.popleft()
            if hearer not in self.nodes:
                continue
            for effect in self.nodes[hearer].handle(event, self.now):
                if isinstance(effect, SendDatagram):
                    to = next(one.name for one in self.members if one.address == effect.destination)
                    source = next(one.address for one in self.members if one.name == hearer)
                    queue.append((to, DatagramReceived(source, effect.data, self.now)))
                elif isinstance(effect, Hold):
                    queue.append((hearer, Held(effect.addresses)))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.nodes and (now := min(node.deadline for node in self.nodes.values())) < until:
            self.now = max(self.now, now)
            for name, node in list(self.nodes.items()):
                if node.deadline <= self.now:
                    self.tell(name, Ticked())
        self.now = until

    def carriers(self) -> dict[str, str]:
        """Of each instance."""
        return {
            each.name: " and ".join(
                n for n, node in self.nodes.items() if node.instances[each.name].role is Role.MASTER
            )
            for each in self.instances
        }

    def foretold(self, by: str, kind: Kind, of: str) -> dict[str, Outcome]:
        node = self.nodes[by]
        play = Foreseen(node, Question(kind, of), names(node), self.now)
        for instance in node.instances.values():
            play.take(instance)
        return {outcome.instance: outcome for outcome in play.outcomes()}

    # What happens

    def questions(self) -> list[tuple[Kind, str, str]]:
        """Kind, node, and what is asked about."""
        found: list[tuple[Kind, str, str]] = []
        for name, node in self.nodes.items():
            found.append(("down", name, name))
            assert node.fleet
            found.append(("undrained" if node.fleet.drained else "drained", name, name))
            for check in self.checks:
                found.append(("check-passes" if (name, check.name) in self.sick else "check-fails", name, check.name))
        return found

    def do(self, kind: Kind, name: str, of: str) -> None:
        match kind:
            case "down":
                del self.nodes[name]
            case "drained" | "undrained":
                self.tell(name, Drained(Order() if kind == "drained" else None))
            case "check-fails" | "check-passes":
                (self.sick.add if kind == "check-fails" else self.sick.discard)((name, of))
                self.tell(name, CheckDone(of, 0, kind == "check-passes", ""))


def drawn(chance: Random) -> Fleet:
    members = tuple(settings.Node(f"n{n}", IPv4Address(f"10.0.0.{n}")) for n in range(1, chance.randint(2, 4) + 1))
    preempt = chance.random() < 0.4
    instances = []
    for number in range(1, chance.randint(2, 7)):
        election = settings.Nodes(preempt=preempt)
        match chance.randrange(4):
            case 0:
                election = replace(election, prefer=(chance.choice(members).name,))
            case 1:
                election = replace(election, together="group", preempt=False)
            case 2:
                election = replace(election, apart="group")
        address, check = (IPv4Interface(f"192.0.2.{number}/32"),), (f"check{number}",)
        instances.append(settings.Instance(f"web{number}", address, election, check, "master", "eth0"))
    return Fleet(tuple(instances), members)


@pytest.mark.parametrize("seed", [*range(9), 101, 118, 155])
def test_each_node_foretells_where_all_instances_go(seed: int) -> None:
    chance = Random(seed)
    fleet = drawn(chance)
    for _ in range(8):
        if len(fleet.nodes) < len(fleet.members) and chance.random() < 0.5:
            fleet.start(chance.choice([one.name for one in fleet.members if one.name not in fleet.nodes]))
            fleet.run(SETTLED)
        if not fleet.nodes:
            break
        kind, name, of = chance.choice(fleet.questions())
        asked = list(fleet.nodes) if kind in ("down", "drained", "undrained") else [name]
        said = {one: fleet.foretold(one, kind, of) for one in asked}
        before = fleet.carriers()
        fleet.do(kind, name, of)
        fleet.run(SETTLED)
        for one, outcomes in said.items():
            wrong = {i: o for i, o in outcomes.items() if o.carrier != fleet.carriers()[i]}
            assert not wrong, f"{one}: {kind} {of} on {name}: from {before} to {fleet.carriers()}, and not {wrong}"


def test_instances_that_are_together_move_together_where_a_third_node_is_ready_for_both() -> None:
    election = settings.Nodes(together="mail")
    instances = tuple(
        settings.Instance(f"web{n}", (IPv4Interface(f"192.0.2.{n}/32"),), election, (f"check{n}",), "master", "eth0")
        for n in (1, 2)
    )
    fleet = Fleet(instances, tuple(settings.Node(f"n{n}", IPv4Address(f"10.0.0.{n}")) for n in (1, 2, 3)))
    (carrier,) = set(fleet.carriers().values())
    said = fleet.foretold(carrier, "check-fails", "check1")
    fleet.do("check-fails", carrier, "check1")
    fleet.run(SETTLED)
    (other,) = set(fleet.carriers().values())
    assert other != carrier
    assert {outcome.carrier for outcome in said.values()} == {other}
