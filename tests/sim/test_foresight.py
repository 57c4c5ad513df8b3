"""What `floatip explain` foretells, compared with what the simulated world then does. All times are virtual."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import pytest

from floatip.core.foresight import Kind, Outcome, Question, names
from floatip.core.settings import Hmac
from floatip.core.virtual_router_play import BY_MULTICAST
from floatip.core.whatif import foreseen
from tests.sim.beside import Beside
from tests.sim.linked import Linked
from tests.sim.world import CHECK, INSTANCE, RUNNING, World

SETTLED = 15.0
"""Seconds after which nothing more follows from an event, beside the delay of a preemption and the hold time."""
LATE = 0.15
"""Seconds by which a takeover may be later than it was foretold."""


def foretold(world: World, by: str, kind: Kind, of: str) -> Outcome:
    node = world.nodes[by].node
    question = Question(kind, of)
    return foreseen(node, question, names(node), node.instances[INSTANCE], world.now)


@dataclass(frozen=True)
class Act:
    kind: Kind
    node: str
    do: Callable[[], None]
    by: tuple[str, ...]
    """The nodes that can be asked."""

    @property
    def of(self) -> str:
        return CHECK if self.kind in ("check-fails", "check-passes") else self.node


def come_back(world: World, name: str) -> None:
    """Well, whatever it was before."""
    if world.nodes[name].service != "ok":
        world.heal(name)
    world.boot(name)


def acts(world: World) -> list[Act]:
    """What can happen now."""
    found = []
    up = tuple(name for name, each in world.nodes.items() if each.power is RUNNING)
    for name, each in world.nodes.items():
        others = tuple(one for one in up if one != name)
        if each.power is not RUNNING:
            found.append(Act("back", name, partial(come_back, world, name), others))
            continue
        found.append(Act("down", name, partial(world.crash, name), up))
        if each.service == "ok":
            found.append(Act("check-fails", name, partial(world.sicken, name), (name,)))
        else:
            found.append(Act("check-passes", name, partial(world.heal, name), (name,)))
        if not isinstance(world, Linked):
            continue
        if world.is_drained(name):
            found.append(Act("undrained", name, partial(world.undrain, name), up))
        else:
            found.append(Act("drained", name, partial(world.drain, name), up))
        if (fleet := each.node.fleet) and fleet.paused:
            found.append(Act("resumed", name, partial(world.resume_election, name), up))
    return found


@pytest.mark.parametrize("nodes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_foretold_of_a_node_happens(nodes: int, seed: int) -> None:
    random = Random(seed)
    prefer = tuple(random.sample("abcd"[:nodes], random.randrange(nodes + 1)))
    delay = random.choice((0.0, 3.0))
    world = Linked(seed, nodes=nodes, prefer=prefer, preempt=bool(seed % 2), preempt_delay=delay)
    world.run(40)
    wrong = []
    for _ in range(10):
        running = [name for name, each in world.nodes.items() if each.power is RUNNING]
        if running and random.random() < 0.1 and not world.is_held:
            world.hold_election(random.choice(running))
            world.run(2)
        act = random.choice(acts(world))
        said = {name: foretold(world, name, act.kind, act.of) for name in act.by}
        began = world.now
        act.do()
        world.run(SETTLED)
        for name, outcome in said.items():
            possible = {outcome.carrier} if outcome.certain else {outcome.carrier, outcome.before}
            if world.serving not in possible or is_late(world, outcome, began):
                wrong.append((round(began, 1), name, outcome, world.serving, world.masters))
    assert not wrong, "\n".join([*map(str, wrong), *world.score()])


def is_late(world: World, outcome: Outcome, began: float) -> bool:
    if outcome.after is None or outcome.rule == "standby-route" or outcome.if_ == "back":
        return False
    taken = [at for at, _, who, what, _ in world.trace if at >= began and (who, what) == (outcome.carrier, MASTERED)]
    return not taken or max(taken) - began > outcome.after + LATE + (2.0 if "check" in outcome.if_ else 0.0)


MASTERED = f"role {INSTANCE} master"


@pytest.mark.parametrize(
    ("kind", "vrrp"),
    [(World, {}), (Beside, {}), (World, {"peers": ()}), (World, {"hmac": Hmac(((1, bytes(32)),), 1)})],
    ids=["unicast", "beside keepalived", "multicast", "signed"],
)
@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_foretold_of_vrrp_happens_or_is_said_to_be_unknown(
    kind: type[World], vrrp: dict[str, Any], nodes: int, seed: int
) -> None:
    random = Random(seed)
    priorities = tuple(random.choice((50, 50, 100, 150)) for _ in range(nodes))
    world = kind(seed, priorities=priorities, preempt=bool(seed % 2), vrrp=vrrp)
    world.run(40)
    wrong = []
    for _ in range(10):
        act = random.choice(acts(world))
        address = str(world.nodes[act.node].source)
        of = act.of if act.of == CHECK else address
        said = {name: foretold(world, name, act.kind, of) for name in act.by} if act.kind != "back" else {}
        began = world.now
        act.do()
        world.run(SETTLED)
        serving = str(world.nodes[world.serving].source) if world.serving else ""
        for name, outcome in said.items():
            possible = {outcome.carrier} if outcome.certain else {outcome.carrier, *outcome.candidates, ""}
            if serving not in possible and BY_MULTICAST not in outcome.unknown:
                wrong.append((round(began, 1), name, outcome, world.serving, world.masters))
    assert not wrong, "\n".join([*map(str, wrong), *world.score()])
