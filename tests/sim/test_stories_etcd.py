"""What happens to nodes with etcd as arbiter, scene by scene."""

import pytest

from tests.sim.fleet_world import Fleet
from tests.sim.judges_fleet import JudgesFleet

PATIENCE = 0.02
"""Seconds by which etcd may make a takeover slower."""
SETTLED = 12.0


def settled(seed: int = 0, *, nodes: int = 3) -> tuple[Fleet, JudgesFleet]:
    world = Fleet(seed, nodes=nodes, prefer=("a",), drift=0.0)
    judges = JudgesFleet(world)
    world.run(SETTLED)
    assert (world.masters, world.holders("db"), world.pointer_of("db")) == (["a"], ["a"], "a")
    return world, judges


def until_held(world: Fleet, by: set[str]) -> float:
    began = world.now
    while not set(world.holders("db")) & by:
        world.run(0.001)
        assert world.now < began + 30, "\n".join(world.score())
    return world.now - began


@pytest.mark.parametrize("seed", range(3))
def test_etcds_leader_dies_with_the_carrier_and_nobody_waits_for_etcd(seed: int) -> None:
    world, judges = settled(seed)
    with world.measured() as lost:
        world.lose_etcd_leader(4.0)
        world.crash("a")
        world.run(3)
    assert len(world.masters) == 1
    assert lost[0] < world.detection_time + PATIENCE
    assert judges.violations == []


def test_an_exclusive_address_moves_after_the_lease_time_where_its_carrier_is_gone() -> None:
    world, judges = settled()
    world.crash("a")
    waited = until_held(world, {"b", "c"})
    assert world.arbiter.lease_time < waited < world.arbiter.lease_time + world.detection_time + PATIENCE
    assert judges.violations == []


def test_an_exclusive_address_moves_at_once_where_its_carrier_hands_it_over() -> None:
    world, judges = settled()
    world.hand_over_exclusive("a", "b")
    assert until_held(world, {"b", "c"}) < 0.5
    assert judges.violations == []


def test_a_carrier_that_hangs_loses_the_exclusive_address_by_its_kernel_before_another_has_it() -> None:
    world, judges = settled()
    world.hang("a")
    until_held(world, {"b", "c"})
    assert "a" not in world.holders("db")
    world.wake("a")
    world.run(5)
    assert len(world.holders("db")) == 1
    assert judges.violations == []


def test_all_of_etcd_is_gone_for_a_minute_and_what_is_not_exclusive_stays_where_it_is() -> None:
    world, judges = settled()
    with world.measured() as lost:
        world.lose_etcd()
        world.run(world.arbiter.lease_time)
        assert world.holders("db") == []
        world.run(60)
        assert world.masters == ["a"]
        world.find_etcd()
        world.run(15)
    assert lost == [0]
    assert world.masters == ["a"]
    assert len(world.holders("db")) == 1
    assert judges.violations == []


def test_the_carrier_cannot_reach_etcd_and_another_takes_only_what_is_exclusive() -> None:
    world, judges = settled()
    with world.measured() as lost:
        world.cut_from_etcd("a")
        assert until_held(world, {"b", "c"}) < 2 * world.arbiter.lease_time
        assert world.masters == ["a"]
    assert lost == [0]
    assert judges.violations == []


def test_a_left_leader_that_renews_leases_gives_nobody_an_exclusive_address() -> None:
    world, judges = settled()
    world.leave_with_old_leader("a")
    until_held(world, {"b", "c"})
    world.run(10)
    assert "a" not in world.holders("db")
    assert judges.violations == []


def test_nodes_that_do_not_hear_each_other_do_not_take_it_from_each_other() -> None:
    world, judges = settled(nodes=2)
    world.part("a", "b")
    world.run(20)
    asked = len(world.asked)
    world.run(10)
    assert (len(world.asked) - asked) / 20 < 6
    assert len(world.holders("db")) == 1
    assert judges.violations == []


def test_a_row_that_somebody_garbled_is_replaced_and_not_fought_over() -> None:
    world, judges = settled()
    world.write_row("owners/db", "no row")
    world.write_row("alive/a", "no row")
    world.run(20)
    asked = len(world.asked)
    world.run(10)
    assert (len(world.asked) - asked) / 30 < 6
    assert len(world.holders("db")) == 1
    assert judges.violations == []


def test_a_machine_whose_clock_stood_still_lets_go_within_the_lease_time() -> None:
    world, judges = settled()
    world.stand_still("a")
    until_held(world, {"b", "c"})
    world.wake("a")
    world.run(world.arbiter.lease_time)
    assert len(world.holders("db")) == 1
    assert "a" not in world.holders("db")
    assert judges.violations == []
