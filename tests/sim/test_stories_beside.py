"""Named cases beside a keepalived: what becomes of it, what the nodes make of that, and what a client notices.

"Settled" is long after a cold start. The times are virtual, and keepalived's own figures: a backup of priority 50 waits
3.8 s for adverts, an ending process takes a second.
"""

from typing import Any

import pytest

from floatip.core.bgp.rank import Rank
from floatip.core.election.follower import BELIEVE_KERNEL_AFTER, CONTESTED_AFTER, PATIENCE
from tests.sim.beside import Beside
from tests.sim.test_stories import DETECTION, SOON, assert_rank, assert_whole
from tests.sim.world import World


def settled(*, hold_time: int = 9, **options: Any) -> Beside:
    world = Beside(hold_time=hold_time, **options)
    world.run(20 + 2 * hold_time)
    assert_whole(world, served_by="a")
    assert_rank(world, "a", Rank.ACTIVE)
    assert world.electors == ["a"]
    return world


def settled_on_the_lower(**options: Any) -> Beside:
    """a has the lower priority and is master all the same, since b came later and does not preempt."""
    world = Beside(priorities=(50, 100), preempt=False, **options)
    world.stop_keepalived("b")
    world.run(10)
    world.start_keepalived("b")
    world.run(100)
    assert_whole(world, served_by="a")
    assert_rank(world, "a", Rank.ACTIVE)
    return world


def roles(world: World, name: str, role: str, since: float) -> int:
    """How many times the node has taken it."""
    taken = [at for at, _, who, what, _ in world.trace if (who, what) == (name, f"role web {role}")]
    return len([at for at in taken if at >= since])


def test_the_first_route_is_there_before_keepalived_has_elected_anybody() -> None:
    world = Beside()
    world.run(1)
    assert world.serving
    assert not world.electors
    assert world.outage() < 0.1


def test_a_keepalived_that_is_stopped_costs_nothing_and_is_followed_within_the_skew() -> None:
    world = settled()
    with world.measured() as lost:
        world.stop_keepalived("a")
        world.run(0.8 + SOON)
        assert_whole(world, served_by="b")
        world.run(30)
        world.start_keepalived("a")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_killed_keepalived_costs_nothing_although_its_address_stays() -> None:
    world = settled()
    with world.measured() as lost:
        world.kill_keepalived("a")
        world.run(0.01)
        assert_rank(world, "a", Rank.STANDBY)
        world.run(DETECTION + SOON)
        assert_whole(world, served_by="b")
        world.start_keepalived("a")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_killed_keepalived_that_systemd_starts_at_once_is_not_master_by_what_the_dead_one_left() -> None:
    world = settled()
    with world.measured() as lost:
        world.kill_keepalived("a")
        world.run(0.02)
        killed_at = world.now
        world.start_keepalived("a")
        world.run(3)
        assert roles(world, "a", "master", killed_at) == 0
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


@pytest.mark.parametrize("preempt", [True, False])
def test_a_keepalived_that_hangs_costs_nothing_and_its_node_gives_way_to_the_new_master(preempt: bool) -> None:
    world = settled(preempt=preempt)
    with world.measured() as lost:
        world.hang_keepalived("a")
        world.run(DETECTION + SOON)
        assert world.serving == "b"
        world.run((CONTESTED_AFTER + 1) * 1.0 + SOON)
        assert_whole(world, served_by="b")
        world.run(60)
        assert_whole(world, served_by="b")
        world.wake_keepalived("a")
        world.run(2 * DETECTION)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_keepalived_that_hangs_is_noticed_although_two_others_call_themselves_master_by_turns() -> None:
    world = settled(priorities=(100, 50, 20))
    world.part("b", "c")
    world.hang_keepalived("a")
    world.run(20)
    assert world.electors == ["a", "b", "c"]
    assert world.masters == ["b", "c"]


def test_a_backup_whose_keepalived_hangs_stays_backup_even_when_it_wakes() -> None:
    world = settled(seed=2)
    with world.measured() as lost:
        world.hang_keepalived("b")
        world.run(30)
        world.wake_keepalived("b")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


@pytest.mark.parametrize("hold_time", [9, 90])
def test_a_silent_crash_costs_the_detection_time_and_not_the_hold_time(hold_time: int) -> None:
    world = settled(hold_time=hold_time)
    with world.measured() as lost:
        world.crash("a")
        world.run(max(60, 2 * hold_time))
    assert_whole(world, served_by="b")
    assert lost[0] < DETECTION + SOON


def test_a_second_crash_before_the_first_route_is_gone_costs_no_more_than_the_first() -> None:
    world = settled(preempt=False)
    world.crash("a")
    world.run(2)
    world.boot("a")
    world.run(DETECTION + 6)
    assert_whole(world, served_by="b")
    with world.measured() as lost:
        world.crash("b")
        world.run(60)
    assert lost[0] < DETECTION + SOON
    assert_whole(world, served_by="a")


@pytest.mark.parametrize("last_resort", [True, False])
def test_a_check_of_keepalived_that_fails_moves_the_traffic_and_costs_nothing(last_resort: bool) -> None:
    world = settled(last_resort=last_resort)
    with world.measured() as lost:
        world.fail_check("a")
        world.run(0.05)
        assert_rank(world, "a", Rank.LAST_RESORT if last_resort else Rank.NONE)
        world.run(10)
        assert_whole(world, served_by="b")
        world.pass_check("a")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_sick_node_gives_way_although_keepalived_still_takes_it_for_the_best() -> None:
    world = settled()
    with world.measured() as lost:
        world.sicken("a")
        world.run(30)
        assert (world.serving, world.electors) == ("b", ["a"])
        world.heal("a")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost[0] < 1 + SOON


def test_a_master_whose_address_somebody_deletes_stands_by_until_it_is_back() -> None:
    world = settled()
    with world.measured() as lost:
        world.strip("a")
        world.run(PATIENCE + 0.01)
        assert_rank(world, "a", Rank.STANDBY)
        world.run(10)
        world.dress("a")
        world.run(1)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_master_whose_address_is_deleted_and_back_at_once_moves_nothing() -> None:
    world = settled()
    world.strip("a")
    world.run(PATIENCE / 2)
    world.dress("a")
    world.run(10)
    assert_whole(world, served_by="a")
    assert not world.updates


@pytest.mark.parametrize("add", [Beside.add_by_hand, Beside.help], ids=["by hand", "by Network Helper"])
def test_an_address_that_is_on_the_interface_of_a_backup_makes_it_no_master(add: Any) -> None:
    world = settled()
    since = world.now
    with world.measured() as lost:
        add(world, "b")
        world.run(60)
    assert roles(world, "b", "master", since) == 0
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_one_that_listens_hears_a_new_master_in_the_middle_of_it() -> None:
    """The address on c was added by hand; the master changes while c waits for silence."""
    world = settled(priorities=(100, 50, 20))
    world.add_by_hand("c")
    world.run(BELIEVE_KERNEL_AFTER + 2.5)
    since = world.now
    world.stop_keepalived("a")
    world.run(30)
    assert roles(world, "c", "master", since) == 0
    assert_whole(world, served_by="b")


def test_a_master_without_words_is_believed_after_silence() -> None:
    """b cannot read its FIFO, and learns from the kernel that its keepalived took over."""
    world = settled()
    world.lose_fifo("b")
    world.crash("a")
    world.run(DETECTION + BELIEVE_KERNEL_AFTER)
    assert world.electors == ["b"]
    assert world.masters == []
    world.run(DETECTION + SOON)
    assert_whole(world, served_by="b")


def test_the_first_of_many_lines_that_nobody_read_is_not_believed_against_the_kernel() -> None:
    """Only FAULT found a place in the FIFO of b; that its keepalived is well again, and master, did not."""
    world = settled(fifo_size=1)
    world.kill("b")
    world.fail_check("b")
    world.run(1)
    world.pass_check("b")
    world.crash("a")
    world.run(10)
    assert world.electors == ["b"]
    world.start("b")
    world.run(0.1)
    assert world.nodes["b"].role == "backup", "it listens, and is not in fault"
    world.run(DETECTION + SOON)
    assert_whole(world, served_by="b")


def test_what_an_earlier_keepalived_said_is_not_said_by_the_one_that_runs() -> None:
    """b's keepalived said FAULT; its successor is well, and starts while no floatip runs that would hear it."""
    world = settled(fifo_size=0)
    world.fail_check("b")
    world.run(2)
    assert world.nodes["b"].role == "fault"
    world.kill("b")
    world.kill_keepalived("b")
    world.pass_check("b")
    world.run(1)
    world.start_keepalived("b")
    world.run(2)
    world.start("b")
    world.run(3)
    assert world.nodes["b"].role == "backup"


def test_a_restarted_floatip_knows_the_role_at_once_although_keepalived_says_nothing() -> None:
    world = settled()
    with world.measured() as lost:
        world.kill("a")
        world.run(0.2)
        world.start("a")
        world.run(0.1)
        assert world.masters == ["a"]
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_crash_soon_after_floatip_was_restarted_costs_the_detection_time() -> None:
    """Its keepalived has been master all the time, and what it said then is remembered: it is no new master."""
    world = settled()
    world.kill("a")
    world.run(0.2)
    world.start("a")
    world.run(10)
    with world.measured() as lost:
        world.crash("a")
        world.run(30)
    assert lost[0] < DETECTION + SOON
    assert_whole(world, served_by="b")


def test_what_a_former_floatip_heard_is_not_believed_against_the_kernel() -> None:
    """Its keepalived was in FAULT, then master again, and the lines that said so are lost."""
    world = settled()
    world.fail_check("a")
    world.run(10)
    world.kill("a")
    world.lose_fifo("a")
    world.pass_check("a")
    world.run(10)
    world.start("a")
    world.run(DETECTION + SOON)
    assert world.electors == ["a"]
    assert_whole(world, served_by="a")


def test_lines_that_nobody_read_leave_no_node_sick_for_ever() -> None:
    """Its notify commands find floatip hung: that keepalived is well, and that it is master, is never heard."""
    world = settled(fifo_size=0)
    world.fail_check("a")
    world.run(10)
    world.hang("a")
    world.pass_check("a")
    world.run(5)
    world.wake("a")
    world.run(BELIEVE_KERNEL_AFTER + DETECTION)
    assert world.electors == ["a"]
    assert_whole(world, served_by="a")


def test_a_floatip_that_starts_while_its_keepalived_hangs_gives_way_all_the_same() -> None:
    world = settled()
    with world.measured() as lost:
        world.hang_keepalived("a")
        world.run(20)
        world.kill("a")
        world.run(1)
        world.start("a")
        world.run(5)
        assert_whole(world, served_by="b")
    assert lost == [0]


def test_a_floatip_whose_keepalived_starts_anew_while_it_hangs_hears_the_new_one() -> None:
    world = settled()
    world.hang("a")
    world.kill_keepalived("a")
    world.run(0.1)
    world.start_keepalived("a")
    world.run(5)
    world.wake("a")
    world.run(2 * DETECTION)
    assert_whole(world, served_by="a")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("seconds", [8, 20])
def test_one_that_was_cut_off_takes_nothing_back_from_the_new_master(seconds: float, seed: int) -> None:
    """Whether it hears first that the route servers are back or that there is another master."""
    world = settled_on_the_lower(seed=seed, advert_interval=2.0, hold_time=30)
    with world.measured() as lost:
        world.cut("a")
        world.run(seconds)
        since = world.now
        world.uncut("a")
        world.run(60)
    assert roles(world, "a", "master", since) == 0
    assert_whole(world, served_by="b")
    assert lost[0] < world.slowest_takeover + SOON


def test_cut_off_from_all_route_servers_it_is_not_master_whatever_keepalived_says() -> None:
    world = settled()
    for number in (1, 2, 3, 4):
        world.rs_cut(number)
    world.run(20)
    assert (world.masters, world.electors) == ([], ["a"])
    for number in (1, 2, 3, 4):
        world.rs_uncut(number)
    with world.measured() as lost:
        world.run(60)
    assert lost[0] < 5
    assert_whole(world, served_by="a")


def test_a_split_of_the_election_and_its_healing_cost_nothing() -> None:
    world = settled()
    with world.measured() as lost:
        world.part("a", "b")
        world.run(30)
        assert world.electors == ["a", "b"]
        assert len(world.pointers()) == 1
        world.join("a", "b")
        world.run(2 * DETECTION)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_the_first_adverts_after_a_split_are_no_contest() -> None:
    """The better master hears the other until that has heard of it."""
    world = settled()
    world.part("a", "b")
    world.run(30)
    since = world.now
    world.join("a", "b")
    world.run(30)
    assert roles(world, "a", "backup", since) == 0
    assert_whole(world, served_by="a")


def test_a_lost_third_of_adverts_costs_nothing() -> None:
    world = settled()
    world.lose(0.3)
    with world.measured() as lost:
        world.run(300)
    assert lost == [0]


def test_a_master_that_is_reloaded_and_then_crashes_costs_no_more_than_one_that_was_not() -> None:
    for hold_time in (9, 90):
        world = settled(hold_time=hold_time)
        with world.measured() as lost:
            world.reload("a")
            world.run(5)
            assert_rank(world, "a", Rank.ACTIVE)
            world.crash("a")
            world.run(2 * hold_time + 20)
        assert_whole(world, served_by="b")
        print(f"hold time {hold_time} s: {lost[0]:.2f} s")
        assert lost[0] < DETECTION + SOON


def test_a_mastership_that_ended_and_came_back_while_floatip_was_away_is_a_new_one() -> None:
    world = settled()
    world.stop("a")
    world.run(2)
    world.fail_check("a")
    world.run(40)
    assert world.electors == ["b"]
    assert_rank(world, "b", Rank.ACTIVE)
    world.crash("b")
    world.pass_check("a")
    world.run(6)
    assert world.electors == ["a"]
    with world.measured() as lost:
        world.start("a")
        world.run(1)
        assert_rank(world, "a", Rank.TAKEOVER)
        world.run(30)
    print(f"{lost[0]:.2f} s from floatip's start on")
    assert lost[0] < 1
    assert_whole(world, served_by="a")


def test_a_sick_node_is_not_led_to_when_both_keepaliveds_are_away() -> None:
    world = settled()
    world.fail_check("a")
    world.run(10)
    assert_whole(world, served_by="b")
    with world.measured() as lost:
        world.stop_keepalived("a")
        world.run(5)
        world.stop_keepalived("b")
        world.run(20)
        assert_rank(world, "a", Rank.NONE)
        assert_rank(world, "b", Rank.STANDBY)
    assert lost == [0]
    assert world.serving == "b"
