"""Named cases of sync groups: a node is master of all members or of none, whatever fails.

All times are virtual.
"""

from random import Random
from typing import Any

import pytest

from floatip.core.election.elector import Role
from tests.sim.grouped import BGP, GROUP, VLAN, Groups

DETECTION, SOON = 3 + 206 / 256, 0.05


def settled(*arguments: Any, by: str = "a", **options: Any) -> Groups:
    world = Groups(*arguments, **options)
    world.run(20)
    assert_whole(world, by)
    return world


def assert_whole(world: Groups, by: str) -> None:
    """One node is master of both, and no node ever was of one alone."""
    roles = {name: {machine.role(one) for one in (VLAN, BGP)} for name, machine in world.machines.items()}
    assert [name for name, each in roles.items() if Role.MASTER in each] == [by], roles
    assert (world.masters, world.splits) == ([by], [])


def test_without_a_group_the_two_addresses_part() -> None:
    """What the group is for: this world can show it."""
    world = Groups(together=False)
    world.run(20)
    world.unplug("a", VLAN)
    world.run(20)
    assert (world.machines["a"].role(BGP), world.machines["b"].role(VLAN)) == (Role.MASTER, Role.MASTER)
    assert world.splits


@pytest.mark.parametrize("instance", [VLAN, BGP])
def test_a_link_that_goes_down_takes_the_other_address_along_within_the_detection_time(instance: str) -> None:
    world = settled()
    world.unplug("a", instance)
    world.run(DETECTION + SOON + 0.1)
    assert_whole(world, "b")
    assert {world.machines["a"].role(one) for one in (VLAN, BGP)} == {Role.FAULT}
    world.plug("a", instance)
    world.run(20)
    assert_whole(world, "a")
    assert [(on, value) for _, on, value in world.changes("group", GROUP)] == [
        *[("a", "backup"), ("b", "backup"), ("a", "master")],
        *[("a", "fault"), ("b", "master"), ("a", "backup"), ("a", "master"), ("b", "backup")],
    ]


@pytest.mark.parametrize("check", [VLAN, BGP, "both"])
def test_a_check_of_one_member_or_of_the_group_fails_all_and_all_say_so(check: str) -> None:
    """So the other node waits for the skew time only, in both."""
    world = settled()
    world.sicken("a", check)
    world.run(206 / 256 + SOON)
    assert_whole(world, "b")


def test_a_crash_and_a_restart_move_both_at_once() -> None:
    world = settled()
    world.crash("a")
    world.run(DETECTION + SOON)
    assert_whole(world, "b")
    world.boot("a")
    world.run(20)
    assert_whole(world, "a")


def test_a_stop_hands_both_over() -> None:
    world = settled()
    world.stop("a")
    world.run(206 / 256 + SOON)
    assert_whole(world, "b")


def test_a_master_that_is_suspended_gives_both_up_when_it_wakes() -> None:
    world = settled()
    world.hang("a")
    world.run(10)
    assert world.masters == ["a", "b"]
    world.wake("a")
    world.run(SOON)
    assert_whole(world, "b")
    world.run(20)
    assert_whole(world, "a")


@pytest.mark.parametrize("instance", [VLAN, BGP])
@pytest.mark.parametrize("priorities", [((100, 100), (50, 50)), ((50, 50), (100, 100)), ((100, 100), (100, 100))])
@pytest.mark.parametrize("ways", [[("a", "b")], [("b", "a")], [("a", "b"), ("b", "a")]])
def test_adverts_of_one_instance_that_are_lost_move_nothing(
    instance: str, priorities: tuple[Any, Any], ways: list[tuple[str, str]]
) -> None:
    """The silence of one member is not believed while the other member hears its master."""
    world = Groups(priorities)
    world.run(20)
    by = "a" if priorities == ((100, 100), (50, 50)) else "b"
    assert_whole(world, by)
    before = len(world.news)
    for sender, receiver in ways:
        world.lose(sender, receiver, instance)
    world.run(60)
    assert_whole(world, by)
    world.mend()
    world.run(20)
    assert_whole(world, by)
    assert [one for _, _, one in world.news[before:] if one.what in ("role", "group")] == []


@pytest.mark.parametrize("instance", [VLAN, BGP])
@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_who_starts_while_adverts_of_one_instance_are_lost_becomes_master_or_not_as_a_whole(
    instance: str, way: tuple[str, str]
) -> None:
    world = settled()
    world.crash("a")
    world.run(10)
    world.lose(*way, instance)
    world.boot("a")
    world.run(20)
    assert_whole(world, "a")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("latency", [(0.001, 0.001), (0.0002, 0.002)])
def test_two_nodes_that_each_have_a_better_member_agree(seed: int, latency: tuple[float, float]) -> None:
    """They start together, claim at the same moment, and each makes the other yield: once, and then one waits."""
    world = Groups(((100, 50), (50, 100)), seed, latency=latency)
    world.run(30)
    assert len(world.masters) == 1
    assert_whole(world, world.masters[0])
    changes = len(world.changes("group", GROUP))
    world.run(60)
    assert len(world.changes("group", GROUP)) == changes == 7


def test_without_preemption_a_better_node_that_returns_stays_backup_of_both() -> None:
    world = settled(preempt=False)
    world.crash("a")
    world.run(10)
    world.boot("a")
    world.run(20)
    assert_whole(world, "b")


@pytest.mark.parametrize("seed", range(40))
def test_in_a_storm_no_node_is_ever_master_of_one_member_alone_and_after_it_one_has_both(seed: int) -> None:
    random = Random(seed)
    count = random.choice([2, 2, 3])
    alike = random.random() < 0.7
    priorities = [(p, p if alike else random.randint(1, 254)) for p in random.sample(range(1, 255), count)]
    if random.random() < 0.2:
        priorities = [(100, 100)] * count
    world = Groups(priorities, seed, preempt=random.random() < 0.8)
    names = list(world.machines)
    for _ in range(30):
        world.run(random.choice([0.01, 0.3, 1.0, 3.0, 8.0]) * random.random())
        name, instance = random.choice(names), random.choice([VLAN, BGP])
        match random.choice(
            ["crash", "boot", "hang", "wake", "unplug", "plug", "sicken", "heal", "lose", "found", "stop"]
        ):
            case "crash":
                world.crash(name)
            case "boot":
                world.boot(name)
            case "hang":
                world.hang(name)
            case "wake":
                world.wake(name)
            case "unplug":
                world.unplug(name, instance)
            case "plug":
                world.plug(name, instance)
            case "sicken":
                world.sicken(name, random.choice([instance, "both"]))
            case "heal":
                world.heal(name, random.choice([instance, "both"]))
            case "lose":
                world.lose(name, random.choice([other for other in names if other != name]), instance)
            case "found":
                world.lost.clear()
            case "stop":
                world.stop(name)
    world.mend()
    world.run(4 * world.takeover + 10)
    world.mend()  # what was just stopping
    world.run(4 * world.takeover + 10)
    assert len(world.masters) == 1
    assert_whole(world, world.masters[0])
    held = {name: len(machine.kernel) for name, machine in world.machines.items()}
    assert held == {name: 2 if name in world.masters else 1 for name in names}
