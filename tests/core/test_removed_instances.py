"""A reload removes an instance from the node that carries it, and the others still have it."""

from dataclasses import replace

import pytest

from floatip.core import settings
from floatip.core.election.elector import Role
from floatip.core.events import Reloaded
from tests.core.arbitrated import DB, LEASE_TIME, WEB, World

DETECTION = 0.5
"""Seconds, and more than the nodes need to miss each other."""


@pytest.mark.parametrize("answers", [True, False])
def test_another_node_takes_over_at_once_what_a_reload_removes_from_its_carrier(*, answers: bool) -> None:
    world = without(WEB, answers=answers)
    world.run(DETECTION)
    assert is_master(world, WEB)


def test_another_node_takes_what_is_exclusive_after_the_lease_time_where_a_reload_removes_it_from_its_carrier() -> None:
    world = without(DB)
    world.run(LEASE_TIME - DETECTION)
    assert not is_master(world, DB)
    world.run(2 * DETECTION)
    assert is_master(world, DB)


def without(removed: settings.Instance, *, answers: bool = True) -> World:
    """n1 has carried it, and has just removed it."""
    world = World((removed,), answers=answers)
    world.run(4 * LEASE_TIME)
    assert world.carriers() == {removed.name: "n1"}
    world.tell("n1", Reloaded(replace(world.nodes["n1"].config, instances=())))
    return world


def is_master(world: World, instance: settings.Instance) -> bool:
    return world.nodes["n2"].instances[instance.name].role is Role.MASTER
