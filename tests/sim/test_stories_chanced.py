"""Named cases of planned moves with the second chance. All times are virtual."""

from typing import Any

import pytest

from floatip.core.second_chance.moves import PREPARE_TIME
from tests.sim.chanced import LIMIT, Chanced, ChancedByVrrp
from tests.sim.judges import MOMENT
from tests.sim.test_stories_linked import DETECTION, changes, until
from tests.sim.world import RUNNING

CONNECTIONS = 40
QUICKLY = 0.1
"""Seconds for which a move is prepared, where all works."""


def settled(**options: Any) -> Chanced:
    """a is master, with open connections."""
    world = Chanced(prefer=("a",), **options)
    world.run(5)
    assert world.masters == ["a"]
    world.open("a", CONNECTIONS)
    return world


def lines(world: Chanced, since: float, *begin: str) -> list[tuple[float, str, str]]:
    return [(at, who, what) for at, _, who, what, _ in world.trace if at >= since and what.startswith(begin)]


def order(world: Chanced, since: float) -> list[str]:
    """What is forwarded and who is master, in the order in which it came."""
    found = [f"{who} {what}" for _, who, what in lines(world, since, "forwards", "role web")]
    return list(dict.fromkeys(found))


def test_a_handover_waits_until_the_other_node_forwards_all_that_are_open() -> None:
    world = settled()
    at = world.now
    world.hand_over("a")
    assert until(world, "b") < QUICKLY
    world.run(1)
    assert order(world, at) == [f"b forwards {CONNECTIONS}", "b role web master", "a role web backup"]
    assert set(world.forwarded["b"].values()) == {"a"}
    assert world.outage(at) == 0


def test_a_drain_waits_too_and_the_last_connection_ends_it() -> None:
    world = settled()
    world.drain("a")
    assert until(world, "b") < QUICKLY
    world.run(6)
    assert len(world.forwarded["b"]) == CONNECTIONS
    world.connections["a"].clear()
    world.run(3)
    assert not world.forwarded["b"]
    ended = lines(world, 0, "connections b ended", "connections a ended")
    assert {who for _, who, _ in ended} == {"a", "b"}


def test_a_node_that_stops_lives_until_its_last_connection_has_ended() -> None:
    world = settled()
    at = world.now
    world.stop("a")
    assert until(world, "b") < QUICKLY
    world.run(10)
    assert world.nodes["a"].power is RUNNING
    assert world.nodes["a"].has_address
    world.connections["a"].clear()
    world.run(5)
    assert world.nodes["a"].power is not RUNNING
    assert not world.nodes["a"].has_address
    assert world.outage(at) == 0


@pytest.mark.parametrize("order", ["drain", "hand_over"])
def test_a_node_that_was_left_before_stops_only_when_its_last_connection_has_ended(order: str) -> None:
    world = settled()
    getattr(world, order)("a")
    until(world, "b")
    world.run(5)
    world.stop("a")
    world.run(10)
    assert world.nodes["a"].power is RUNNING
    assert len(world.forwarded["b"]) == CONNECTIONS
    world.connections["a"].clear()
    world.run(5)
    assert world.nodes["a"].power is not RUNNING


def test_a_node_that_stops_waits_no_longer_than_the_limit_and_both_nodes_say_so() -> None:
    world = settled()
    world.stop("a")
    until(world, "b")
    world.run(LIMIT - 1)
    assert world.nodes["a"].power is RUNNING
    moves = {name: world.nodes[name].node.moves for name in ("a", "b")}
    world.run(9)
    assert world.nodes["a"].power is not RUNNING
    for name, other in (("a", "b"), ("b", "a")):
        assert [who for _, who, _ in lines(world, 0, f"connections {other} cut off")] == [name]
        known = moves[name]
        assert known
        ((_, over),) = known.ended.values()
        assert (over.connections, over.reason) == (CONNECTIONS, f"the limit of {LIMIT:g} s")
    assert not world.forwarded["b"]


def test_a_node_without_connections_stops_as_fast_as_it_can_tell() -> None:
    world = settled()
    world.connections["a"].clear()
    world.stop("a")
    world.run(8)
    assert world.nodes["a"].power is not RUNNING


def test_who_is_preferred_takes_over_only_when_it_forwards_all_that_are_open() -> None:
    world = settled(preempt=True)
    world.drain("a")
    until(world, "b")
    world.run(5)
    world.connections["a"].clear()
    world.run(5)
    world.open("b", CONNECTIONS)
    at = world.now
    world.undrain("a")
    assert until(world, "a") < 1 + QUICKLY
    world.run(1)
    assert order(world, at)[:2] == [f"a forwards {CONNECTIONS}", "a role web master"]
    assert world.outage(at) == 0


def test_without_a_tunnel_nothing_waits() -> None:
    world = settled()
    world.no_tunnel = True
    world.run(5)
    at = world.now
    world.hand_over("a")
    assert until(world, "b") < QUICKLY
    assert not lines(world, at, "forwards")
    (why,) = [why for when, _, who, what, why in world.trace if when >= at and what == "connections web not moved"]
    assert why.startswith("nothing comes from b through the tunnel: open connections are reset")


def test_a_tunnel_that_falls_silent_holds_a_move_up_for_a_second_at_most_and_that_is_said() -> None:
    world = settled()
    at = world.now
    world.no_tunnel = True
    world.hand_over("a")
    assert PREPARE_TIME <= until(world, "b") < PREPARE_TIME + QUICKLY
    (said,) = lines(world, at, "connections web")
    assert said[1:] == ("a", "connections web not moved")
    assert world.outage(at) == 0


def test_a_stop_without_a_tunnel_is_as_fast_as_ever() -> None:
    world = settled()
    world.no_tunnel = True
    world.run(5)
    world.stop("a")
    until(world, "b")
    world.run(5)
    assert world.nodes["a"].power is not RUNNING


@pytest.mark.parametrize("fault", ["crash", "kill", "sicken"])
def test_a_crash_and_a_failed_check_wait_for_nothing(fault: str) -> None:
    world = settled()
    at = world.now
    getattr(world, fault)("a")
    world.run(8)
    assert world.masters == ["b"]
    assert not lines(world, at, "forwards")
    assert world.outage(at) <= DETECTION + MOMENT + (3 if fault == "sicken" else 0)


def test_the_new_node_dies_and_the_old_one_goes_on_with_its_own() -> None:
    world = settled()
    world.hand_over("a")
    until(world, "b")
    world.run(5)
    at = world.now
    world.crash("b")
    world.run(5)
    assert world.masters == ["a"]
    assert world.nodes["a"].power is RUNNING
    assert world.outage(at) <= DETECTION + MOMENT
    assert changes(world, at) == ["a role web master"]
    assert (moves := world.nodes["a"].node.moves)
    assert not moves.standing.streams


def settled_by_vrrp() -> ChancedByVrrp:
    world = ChancedByVrrp()
    world.run(15)
    assert world.masters == ["b"]
    world.open("b", CONNECTIONS)
    return world


def test_by_vrrp_a_drained_node_yields_only_when_the_other_forwards_all_and_takes_back_its_own() -> None:
    world = settled_by_vrrp()
    at = world.now
    world.drain("b")
    assert until(world, "a") < 1.5
    world.run(1)
    assert order(world, at) == [f"a forwards {CONNECTIONS}", "b role web backup", "a role web master"]
    world.run(5)
    world.open("a", 2 * CONNECTIONS)
    world.connections["b"].clear()
    world.run(3)
    at = world.now
    world.undrain("b")
    until(world, "b")
    world.run(1)
    assert order(world, at)[:2] == [f"b forwards {2 * CONNECTIONS}", "b role web master"]


def test_by_vrrp_a_node_that_stops_lives_until_its_last_connection_has_ended() -> None:
    world = settled_by_vrrp()
    at = world.now
    world.stop("b")
    assert until(world, "a") < 1.5
    world.run(8)
    assert world.nodes["b"].power is RUNNING
    assert order(world, at)[0] == f"a forwards {CONNECTIONS}"
    world.connections["b"].clear()
    world.run(5)
    assert world.nodes["b"].power is not RUNNING
    assert world.outage(at) == 0


def test_who_is_asked_to_stop_again_waits_for_no_connection_and_releases_all_in_order() -> None:
    world = settled()
    world.stop("a")
    until(world, "b")
    world.run(5)
    node = world.nodes["a"].node
    assert node.waits_for_connections(world.now)
    world.stop("a")
    world.run(3)
    assert world.nodes["a"].power is not RUNNING
    assert not world.nodes["a"].has_address
