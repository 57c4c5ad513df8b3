"""Random moves and faults of the second chance, judged by what the clients see and by what is left in the kernels.

More of them: `python -m tests.sim.test_second_chance_storms FIRST LAST`.
"""

import random
import sys
from collections.abc import Callable
from functools import partial

import pytest

from floatip.core.second_chance.terms import Phase
from tests.sim.second_chance_world import World

SEEDS = range(24)
LONGEST_STALL = 7.5
"""Seconds: a silence of 3.2 s is noticed, and TCP's next repeat comes at 6.2 s, of a SYN at 7 s."""
FAULTS = (
    "old process killed",
    "new process killed",
    "old process restarted",
    "new process restarted",
    "tunnel blocked",
    "tunnel loses packets but no frames",
    "old node drops what comes through the tunnel",
    "old node vanishes",
    "new node vanishes",
    "move undone",
)
TAKEN_BACK = "new node vanishes", "move undone"
CLOSED = "direct way closes", "direct way closes behind the probes"
"""Faults of answers that leave directly."""
SLOWLY_SEEN = "tunnel loses packets but no frames", "old node drops what comes through the tunnel"
"""Where few connections are left by then, it takes up to 10 s until enough of their packets are lost."""


def begun(world: World, chance: random.Random, lasts: float) -> None:
    """Long connections, and short ones all the while."""
    for _ in range(chance.randrange(5, 40)):
        world.connect(chance.uniform(0.05, 0.8), uploads=world.direct and chance.random() < world.uploading)
    every, until = chance.uniform(0.01, 0.05), world.now + lasts

    def connect() -> None:
        if world.now < until:
            world.connect(0.3, lasts=0.3)
            world.later(every, connect)

    connect()
    world.run(4)


def end(world: World) -> list[str]:
    """All clients close, and those that were reset are forgotten by the service."""
    for client in world.clients.values():
        client.ends = world.now
        if client.reset_at >= 0:
            for machine in world.machines.values():
                machine.sockets.discard(client.flow)
    world.run(12)
    return world.left_behind()


def fair(seed: int, *, direct: bool = False) -> list[str]:
    """What is wrong after moves there and back and on, while the tunnel loses, delays and repeats frames."""
    chance = random.Random(seed)
    names = ("a", "b", "c")[: chance.choice((2, 2, 3))]
    world = World(seed, names, loss=chance.choice((0.0, 0.05, 0.15)), direct=direct)
    ways = random.Random(f"ways {seed}")
    world.uploading = ways.choice((0.0, 0.5, 1.0))
    world.is_strict, world.is_strict_beyond = ways.choice(((False, False), (True, True), (False, True)))
    begun(world, chance, 30)
    at, all_ready = "a", True
    for _ in range(chance.randrange(1, 6)):
        new = chance.choice([name for name in names if name != at])
        all_ready &= world.move(at, new, flaps=chance.choice((0, 20)), by=chance.choice(("", new)))
        at = new
        world.run(chance.choice((0.5, 1, 2, 5, 8)))
    world.run(5)
    wrong = []
    if all_ready and world.reset:
        wrong.append(f"{len(world.reset)} connections were reset")
    if world.longest > (LONGEST_STALL if direct and world.is_strict_beyond else 4):
        wrong.append(f"a client waited {world.longest:.1f} s")
    return wrong + end(world)


def foul(fault: str, seed: int, *, direct: bool = False) -> list[str]:
    """What is wrong after a move with a fault before, in or after it."""
    chance = random.Random(f"{fault} {seed}")
    world = World(seed, loss=chance.choice((0.0, 0.0, 0.1)), direct=direct)
    ways = random.Random(f"ways {fault} {seed}")
    world.uploading = ways.choice((0.0, 0.5, 1.0))
    begun(world, chance, 25)
    when = chance.choice((-0.05, 0.02, 0.1, 0.3, 0.6, 1, 2.5, 3.5, 5))
    if direct and fault not in SLOWLY_SEEN and ways.random() < 0.7:
        when = ways.uniform(3, 8)
    if fault in TAKEN_BACK:
        when = abs(when)
    make = partial(_make, world, fault, chance)
    if when < 0:
        make()
    is_ready = world.move("a", "b", by=chance.choice(("", "b")))
    if when >= 0:
        world.later(when, make)
    world.run(max(12.0, when + 9))
    carrier = world.machines[world.target]
    wrong = []
    if own := [client for client in world.reset if carrier.lives and client.flow in carrier.sockets]:
        wrong.append(f"{len(own)} connections of the carrier were reset")
    # A process that restarts shortly after a move looks like a tunnel that does not work.
    goes_on = fault == "new process restarted" or (fault == "old process restarted" and when >= 1)
    if world.reset and (fault in TAKEN_BACK + CLOSED or (goes_on and is_ready)):
        wrong.append(f"{len(world.reset)} connections were reset")
    if world.longest > LONGEST_STALL:
        wrong.append(f"a client waited {world.longest:.1f} s")
    for name, machine in world.machines.items():
        if machine.lives and not machine.process:
            world.start(name)
    return wrong + end(world)


def _make(world: World, fault: str, chance: random.Random) -> None:
    old, new = "a", "b"
    back: Callable[[], None] = partial(_take_back, world)
    match fault:
        case "old process killed":
            world.kill_process(old)
        case "new process killed":
            world.kill_process(new)
        case "old process restarted" | "new process restarted":
            name = old if fault.startswith("old") else new
            world.kill_process(name)
            world.later(chance.uniform(0.1, 2.0), partial(world.start, name))
        case "tunnel blocked":
            world.blocked.add(frozenset((old, new)))
        case "tunnel loses packets but no frames":
            world.data_blocked.add(frozenset((old, new)))
        case "old node drops what comes through the tunnel":
            world.machines[old].refuses_tunnel = True
        case "old node vanishes":
            world.kill_machine(old)
        case "new node vanishes":
            world.kill_machine(new)
            world.later(0.3, back)
        case "direct way closes":
            world.is_strict = world.is_strict_beyond = True
        case "direct way closes behind the probes":
            world.is_strict_beyond = True
        case "move undone":
            world.tell(new, Phase.REST)
            back()
        case _:
            raise ValueError(fault)


def _take_back(world: World) -> None:
    world.tell("a", Phase.CARRIES)
    world.point("a")


@pytest.mark.parametrize("seed", SEEDS)
def test_moves_reset_nothing_and_leave_nothing(seed: int) -> None:
    assert not fair(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_moves_reset_nothing_and_leave_nothing_where_answers_may_leave_directly(seed: int) -> None:
    assert not fair(seed, direct=True)


@pytest.mark.parametrize("fault", FAULTS + CLOSED)
def test_a_fault_does_no_more_harm_where_answers_may_leave_directly(fault: str) -> None:
    wrong = {seed: found for seed in range(6) if (found := foul(fault, seed, direct=True))}
    assert not wrong


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_resets_nothing_of_the_carrier_and_no_client_hangs(fault: str) -> None:
    wrong = {seed: found for seed in range(6) if (found := foul(fault, seed))}
    assert not wrong


def main() -> None:
    first, last = map(int, sys.argv[1:])
    wrong = 0
    for seed in range(first, last):
        plays = {"fair": fair(seed)} | {fault: foul(fault, seed) for fault in FAULTS}
        plays |= {"fair, direct": fair(seed, direct=True)}
        plays |= {f"{fault}, direct": foul(fault, seed, direct=True) for fault in FAULTS + CLOSED}
        for name, found in plays.items():
            if found:
                wrong += 1
                print(seed, name, found)
    print(f"{last - first} seeds, {(last - first) * (2 + 2 * len(FAULTS) + len(CLOSED))} plays, {wrong} wrong")


if __name__ == "__main__":
    main()
