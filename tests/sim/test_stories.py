"""Named cases in the simulated world: what goes wrong, and what a client notices.

"Settled" is long after a cold start: the master has gone from takeover to active. All times are virtual.
"""

from collections.abc import Callable
from typing import Any

import pytest

from floatip.core.bgp.rank import Rank
from floatip.providers import GENERIC_MARKS, LINODE_MARKS
from tests.sim.host import HANGS, PASSES, Outcome
from tests.sim.world import CHECK, ROUTE_SERVERS, World

DETECTION = 3 + (256 - 50) / 256
"""The master-down interval of the backup, priority 50, at adverts of 1 s."""
SOON = 0.1


def settled(*, hold_time: int = 9, **options: Any) -> World:
    world = World(hold_time=hold_time, **options)
    world.run(20 + 2 * hold_time)
    assert_whole(world, served_by="a")
    assert_rank(world, "a", Rank.ACTIVE)
    return world


def assert_whole(world: World, *, served_by: str) -> None:
    """One master, and all route servers point at it."""
    assert (world.masters, world.serving, world.pointers()) == ([served_by], served_by, {served_by})


def assert_rank(world: World, name: str, rank: Rank) -> None:
    assert world.nodes[name].rank is rank


def test_the_first_route_is_there_within_a_second_of_a_cold_start() -> None:
    world = World()
    world.run(1)
    assert world.serving
    assert world.outage() < 0.1


def test_nothing_is_announced_before_the_kernel_has_the_address() -> None:
    world = World(kernel_delay=5.0)
    world.run(4.9)
    assert world.pointers() == {""}
    world.run(1)
    assert world.serving


def test_after_a_cold_start_the_highest_priority_becomes_master_and_settles() -> None:
    world = World(priorities=(50, 100, 70))
    world.run(40)
    assert_whole(world, served_by="b")
    assert [each.rank for each in world.nodes.values()] == [Rank.STANDBY, Rank.ACTIVE, Rank.STANDBY]


def test_the_same_seed_gives_the_same_score() -> None:
    def play() -> list[str]:
        world = settled(seed=7)
        world.lose(0.3)
        world.crash("a")
        world.run(20)
        world.boot("a")
        world.run(30)
        return list(world.score())

    assert play() == play()


@pytest.mark.parametrize("marks", [LINODE_MARKS, GENERIC_MARKS], ids=["linode", "generic"])
def test_a_planned_stop_costs_nothing_and_is_taken_over_within_the_skew(marks: Any) -> None:
    world = settled(marks=marks)
    with world.measured() as lost:
        world.stop("a")
        world.run(0.8 + SOON)
        assert_whole(world, served_by="b")
        world.run(60)
    assert lost == [0]


def test_a_stopping_node_releases_the_address_only_after_the_withdrawal() -> None:
    world = settled()
    world.stop("a")
    world.run(0.9)
    assert world.nodes["a"].kernel
    world.run(0.3)
    assert not world.nodes["a"].kernel


def test_traffic_leaves_a_sick_node_as_soon_as_its_check_has_failed() -> None:
    world = settled()
    with world.measured() as lost:
        world.sicken("a")
        world.run(60)
    assert_whole(world, served_by="b")
    assert lost[0] < 1 + 0.05


def test_a_withdrawal_ends_no_session() -> None:
    world = settled()
    dials = world.nodes["a"].dials.copy()
    world.sicken("a")
    world.run(10)
    assert not world.nodes["a"].told
    world.heal("a")
    world.run(60)
    assert_whole(world, served_by="a")
    assert world.nodes["a"].dials == dials


def test_traffic_leaves_a_node_whose_check_hangs_at_its_timeout() -> None:
    world = settled()
    with world.measured() as lost:
        world.sicken("a", hanging=True)
        world.run(60)
    assert_whole(world, served_by="b")
    assert lost[0] < 2 + 0.05


def test_one_failure_moves_nothing_where_fall_asks_for_two() -> None:
    world = settled(fall=2)
    world.sicken("a")
    world.run(1)
    world.heal("a")
    world.run(10)
    assert_whole(world, served_by="a")
    assert not world.updates


def test_one_run_that_times_out_counts_once_where_fall_asks_for_two() -> None:
    """The next run is due in the instant in which that one is killed."""
    world = settled(fall=2)
    world.sicken("a", hanging=True)
    world.run(1)
    world.heal("a")
    world.run(10)
    assert_whole(world, served_by="a")
    assert not world.updates


@pytest.mark.parametrize("pause", [World.hang, World.freeze])
def test_a_run_that_a_pause_has_interrupted_is_no_failure(pause: Callable[[World, str], None]) -> None:
    world = settled()
    world.sicken("a", hanging=True)
    world.run(1)  # one run has begun and has not timed out
    world.heal("a")
    pause(world, "a")
    world.run(5)
    world.wake("a")
    world.run(30)
    assert not [line for line in world.score() if f"check {CHECK} down" in line]
    assert_whole(world, served_by="a")


@pytest.mark.parametrize("age", [6, 40])
@pytest.mark.parametrize("hold_time", [9, 90])
def test_a_silent_crash_costs_the_detection_time_and_not_the_hold_time(age: int, hold_time: int) -> None:
    world = World(hold_time=hold_time)
    world.run(age)
    with world.measured() as lost:
        world.crash("a")
        world.run(max(60, 2 * hold_time))
    assert_whole(world, served_by="b")
    assert lost[0] < DETECTION + SOON


@pytest.mark.parametrize("hold_time", [9, 90])
def test_a_second_crash_before_the_first_route_is_gone_costs_no_more_than_the_first(hold_time: int) -> None:
    world = settled(hold_time=hold_time, preempt=False)
    world.crash("a")
    world.run(2)
    world.boot("a")
    world.run(DETECTION + 3)
    while not world.nodes["a"].told:  # a route server takes a back when it has found the old session dead
        world.run(1)
        assert world.now < 600
    world.run(5)
    assert_whole(world, served_by="b")
    with world.measured() as lost:
        world.crash("b")
        world.run(60)
    assert lost[0] < DETECTION + SOON
    assert_whole(world, served_by="a")


def test_a_master_whose_link_has_a_fault_is_left_at_once_although_nobody_is_master_yet() -> None:
    world = settled(priorities=(60, 50))
    world.link_down("a")
    world.run(SOON)
    assert (world.masters, world.pointers()) == ([], {"b"})


def test_a_third_mastership_before_the_first_has_settled_is_beaten_as_well() -> None:
    world = settled(priorities=(60, 50), preempt=False)
    world.crash("a")
    world.run(5)
    world.boot("a")
    world.run(8)
    world.cut("b")
    world.run(5)
    assert_whole(world, served_by="a")
    world.uncut("b")
    world.run(3)
    assert_rank(world, "a", Rank.TAKEOVER_AGAIN)
    with world.measured() as lost:
        world.crash("a")
        world.run(60)
    assert lost[0] < DETECTION + SOON


@pytest.mark.parametrize("seed", range(4))
def test_after_a_crash_the_best_survivor_takes_over_and_nobody_else_tries(seed: int) -> None:
    world = settled(seed=seed, priorities=(200, 100, 50))
    world.crash("a")
    world.run(10)
    assert_whole(world, served_by="b")
    assert not [line for line in world.score() if "c      role web master" in line]


def test_a_master_that_died_just_before_it_settled_is_beaten_all_the_same() -> None:
    """Its route is still at takeover, though the survivor has known it for longer than the settle time by then."""
    world = World()
    world.run(3.62 + 19.5)
    with world.measured() as lost:
        world.crash("a")
        world.run(60)
    assert lost[0] < DETECTION + SOON


def test_a_master_that_began_again_unnoticed_is_beaten_all_the_same() -> None:
    """Frozen while the standby hangs: nobody takes over, and it starts from takeover once more."""
    world = settled()
    world.hang("b")
    world.freeze("a", deaf=True)
    world.run(8)
    world.wake("a")
    world.run(0.5)
    world.wake("b")
    world.run(12)
    with world.measured() as lost:
        world.crash("a")
        world.run(60)
    assert lost[0] < DETECTION + SOON


def test_a_killed_daemon_costs_nothing_and_nothing_moves_back_without_preemption() -> None:
    world = settled(preempt=False)
    with world.measured() as lost:
        world.kill("a")
        world.run(30)
        assert_whole(world, served_by="b")
        moves = len([line for line in world.score() if "fabric ->" in line])
        world.start("a")
        world.run(60)
    assert_whole(world, served_by="b")
    assert len([line for line in world.score() if "fabric ->" in line]) == moves
    assert lost == [0]


@pytest.mark.parametrize("preempt", [True, False])
def test_a_hung_daemon_costs_nothing_and_does_not_disturb_when_it_wakes(preempt: bool) -> None:
    world = settled(preempt=preempt)
    with world.measured() as lost:
        world.hang("a")
        world.run(12)
        assert_whole(world, served_by="b")
        world.wake("a")
        world.run(1)
        assert world.masters == ["b"] or preempt
        assert len(world.masters) == 1
        world.run(60)
    assert_whole(world, served_by="a" if preempt else "b")
    assert lost == [0]


@pytest.mark.parametrize("deaf", [True, False], ids=["adverts lost", "adverts queued"])
@pytest.mark.parametrize("seconds", [2, 6, 12, 100])
def test_a_frozen_machine_costs_the_detection_time_and_returns_as_backup(seconds: float, deaf: bool) -> None:
    world = settled(preempt=False)
    with world.measured() as lost:
        world.freeze("a", deaf=deaf)
        world.run(seconds)
        world.wake("a")
        world.run(60)
    assert lost[0] < min(seconds, DETECTION) + SOON
    assert_whole(world, served_by="a" if seconds == 2 else "b")


def test_a_master_that_was_late_by_more_than_master_down_does_not_believe_itself() -> None:
    world = settled(preempt=False, advert_interval=0.2)
    world.freeze("a", deaf=True)
    world.run(2)
    world.wake("a")
    world.run(30)
    assert_whole(world, served_by="b")


def test_in_a_long_split_all_route_servers_point_at_the_better_node_even_after_they_restarted() -> None:
    world = settled()
    world.part("a", "b")
    world.run(60)
    for number in (1, 2, 3, 4):
        world.rs_down(number)
        world.run(1)
        world.rs_up(number)
        world.run(10)
    assert world.masters == ["a", "b"]
    assert world.pointers() == {"a"}


@pytest.mark.parametrize("hold_time", [9, 90])
def test_a_split_of_the_election_and_its_healing_cost_nothing(hold_time: int) -> None:
    world = settled(hold_time=hold_time)
    with world.measured() as lost:
        for change, at_most in ((world.part, DETECTION), (world.join, 1.0)):
            change("a", "b")
            world.run(at_most + SOON)
            agreed = world.pointers()
            assert len(agreed) == 1
            for _ in range(600):
                world.run(0.1)
                assert world.pointers() == agreed or change == world.part
            assert len(world.pointers()) == 1
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_one_route_server_cut_or_restarted_costs_nothing_and_moves_nothing() -> None:
    world = settled()
    with world.measured() as lost:
        world.rs_cut(1)
        world.run(30)
        world.rs_uncut(1)
        world.run(30)
        world.rs_down(2)
        world.run(5)
        world.rs_up(2)
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_route_server_that_restarts_every_four_seconds_is_left_alone_more_and_more_and_costs_nothing() -> None:
    world = settled()
    sessions = world.nodes["a"].node.sessions
    counts = {peer: session.established_count for peer, session in sessions.items()}
    with world.measured() as lost:
        for _ in range(40):
            world.rs_down(1)
            world.run(1)
            world.rs_up(1)
            world.run(3)
        restarted, *others = [sessions[peer].established_count - count for peer, count in counts.items()]
        assert 9 < restarted < 17
        assert others == [0, 0, 0]
        world.run(120)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_a_silent_route_server_is_given_up_when_the_hold_time_ends() -> None:
    world = settled(server_hold_time=9)
    world.rs_cut(1)
    world.run(5.5)
    assert ROUTE_SERVERS[0] in world.nodes["a"].sockets
    world.run(4)
    assert ROUTE_SERVERS[0] not in world.nodes["a"].sockets


def test_a_crash_while_the_standby_has_one_route_server_only_costs_the_detection_time() -> None:
    world = settled()
    for number in (1, 2, 3):
        world.rs_cut(number)
    world.run(1)
    with world.measured() as lost:
        world.crash("a")
        world.run(60)
    assert lost[0] < DETECTION + SOON
    assert world.serving == "b"


def test_all_four_route_servers_restart_and_service_is_back_soon_after_the_first() -> None:
    world = settled()
    for number in (1, 2, 3, 4):
        world.rs_down(number)
    world.run(10)
    for number in (1, 2, 3, 4):
        world.rs_up(number)
    with world.measured() as lost:
        world.run(60)
    assert lost[0] < 2.5
    assert_whole(world, served_by="a")
    assert all(each.kernel for each in world.nodes.values())


def test_all_four_route_servers_silently_cut_and_back() -> None:
    world = settled()
    for number in (1, 2, 3, 4):
        world.rs_cut(number)
    world.run(20)
    assert world.masters == []
    for number in (1, 2, 3, 4):
        world.rs_uncut(number)
    with world.measured() as lost:
        world.run(60)
    assert lost[0] < 5
    assert_whole(world, served_by="a")


def test_an_address_deleted_by_hand_is_back_at_once_without_a_move() -> None:
    world = settled()
    with world.measured() as lost:
        world.delete("a")
        world.run(30)
    assert lost[0] < 0.005
    assert_whole(world, served_by="a")
    assert not world.updates


def test_both_sick_and_no_last_resort_means_no_route_at_all() -> None:
    world = settled()
    world.sicken("a")
    world.sicken("b")
    world.run(30)
    assert world.pointers() == {""}


def test_both_sick_with_last_resort_keeps_one_announcer_of_the_lowest_rank() -> None:
    world = settled(last_resort=True)
    world.sicken("b")
    world.run(10)
    world.sicken("a")
    world.run(30)
    assert len(world.pointers()) == 1
    assert {each.rank for each in world.nodes.values()} == {Rank.LAST_RESORT}
    world.heal("b")
    world.run(30)
    assert_whole(world, served_by="b")


def test_a_lower_advert_from_a_node_that_is_not_our_master_makes_no_false_takeover() -> None:
    """c hears b only; b follows a. When c claims mastership, b must not take it for a sign that a has gone."""
    world = settled(priorities=(254, 250, 50))
    world.part("a", "c")
    with world.measured() as lost:
        for _ in range(300):
            world.run(0.1)
            assert "b" not in world.masters
        assert "c" in world.masters
        world.join("a", "c")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_equal_priorities_fall_by_the_greater_source_address() -> None:
    world = World(priorities=(100, 100))
    world.run(60)
    assert_whole(world, served_by="b")


def test_a_better_node_that_comes_back_preempts_without_loss() -> None:
    world = settled()
    world.kill("a")
    world.run(60)
    with world.measured() as lost:
        world.start("a")
        world.run(60)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_without_preemption_a_better_node_stays_backup_until_the_master_goes() -> None:
    world = settled(preempt=False)
    world.stop("a")
    world.run(30)
    world.start("a")
    world.run(60)
    assert_whole(world, served_by="b")
    world.stop("b")
    world.run(10)
    assert_whole(world, served_by="a")


def test_after_three_withdrawals_in_five_minutes_a_node_stays_at_standby_until_it_was_quiet() -> None:
    world = settled()
    for _ in range(3):
        world.sicken("a")
        world.run(10)
        world.heal("a")
        world.run(20)
    assert_rank(world, "a", Rank.STANDBY)
    assert world.serving
    world.run(320)
    assert_whole(world, served_by="a")
    assert_rank(world, "a", Rank.ACTIVE)


def test_a_master_that_was_cut_off_returns_as_backup_and_takes_nothing_back() -> None:
    world = settled(preempt=False)
    with world.measured() as lost:
        world.cut("a")
        world.run(20)
        assert_whole(world, served_by="b")
        world.uncut("a")
        world.run(60)
    assert_whole(world, served_by="b")
    assert lost[0] < DETECTION + SOON


@pytest.mark.parametrize("seconds", [4, 6, 8])
def test_a_master_cut_off_for_less_than_the_hold_time_takes_nothing_back_by_accident(seconds: float) -> None:
    """Its sessions survive, so its old route is still there when it returns."""
    world = settled(preempt=False)
    with world.measured() as lost:
        world.cut("a")
        world.run(seconds)
        world.uncut("a")
        world.run(60)
    assert_whole(world, served_by="b")
    assert lost[0] < DETECTION + SOON


def test_a_node_with_a_lost_third_of_adverts_keeps_its_service() -> None:
    world = settled()
    world.lose(0.3)
    with world.measured() as lost:
        world.run(300)
    assert lost == [0]


@pytest.mark.parametrize("deaf", [True, False])
def test_a_late_master_steps_down_although_no_route_server_tells_it_that_it_was_away(deaf: bool) -> None:
    world = World(route_servers=0, preempt=False)
    world.run(25)
    assert world.masters == ["a"]
    world.freeze("a", deaf=deaf)
    world.run(12)
    world.wake("a")
    world.run(10)
    assert world.masters == ["b"]


def assert_told(world: World, name: str, *roles: str) -> None:
    """By its notify command, and as it should be."""
    notified = world.nodes[name].notified
    assert [role for role, _ in (call.said for call in notified.calls)] == list(roles)
    assert not list(notified.complaints(world.now))


def test_a_notify_command_that_hangs_is_told_of_each_role_in_order_and_one_at_a_time() -> None:
    world = settled()
    world.command = lambda: HANGS
    for _ in range(2):
        world.sicken("a")
        world.run(2)
        world.heal("a")
        world.run(2)
    world.run(60)
    assert_told(world, "a", "BACKUP", "MASTER", *("FAULT", "BACKUP") * 2, "MASTER")


def test_of_too_many_changes_of_role_the_notify_command_is_told_the_last() -> None:
    world = settled()
    world.command = lambda: HANGS
    for _ in range(70):
        world.sicken("a")
        world.run(1)
        world.heal("a")
        world.run(1)
    world.command = lambda: PASSES
    world.run(10)
    notified = world.nodes["a"].notified
    assert notified.hooks.dropped
    assert notified.calls[-1].said[0] == "BACKUP", "damped"
    assert not list(notified.complaints(world.now))


def test_a_node_that_stops_waits_a_moment_for_a_notify_command_and_tells_it_of_the_stop() -> None:
    world = settled()
    world.command = lambda: Outcome(True, after=2.0)
    world.sicken("a")
    world.run(1.1)
    world.stop("a")
    world.run(1.5)
    assert_told(world, "a", "BACKUP", "MASTER", "FAULT")
    world.run(10)
    assert_told(world, "a", "BACKUP", "MASTER", "FAULT", "STOP")


def flapped(world: World, name: str) -> None:
    """Damped from now on."""
    for _ in range(3):
        world.sicken(name)
        world.run(10)
        world.heal(name)
        world.run(20)


@pytest.mark.parametrize("crashes", ["a", "b"])
def test_a_damped_node_that_a_handover_made_master_carries_the_traffic_and_is_replaced_in_time(crashes: str) -> None:
    """Rank and role go together: the carrier is the master, so the crash of neither costs the hold time."""
    world = settled(preempt=False)
    flapped(world, "b")
    world.run(60)
    world.stop("a")
    world.run(2)
    world.start("a")
    world.run(10)
    assert_whole(world, served_by="b")
    with world.measured() as lost:
        world.crash(crashes)
        world.run(60)
    assert lost[0] < (DETECTION + SOON if crashes == "b" else 0.001)


def test_a_damped_node_replaces_a_master_that_crashes_as_fast_as_any() -> None:
    world = settled()
    flapped(world, "a")
    assert_whole(world, served_by="b")
    with world.measured() as lost:
        world.crash("b")
        world.run(60)
    assert_whole(world, served_by="a")
    assert lost[0] < DETECTION + SOON


def moves(world: World, since: float) -> int:
    return len([at for at, _, _, what, _ in world.trace if at >= since and what.startswith("fabric ->")])


@pytest.mark.parametrize(("interval", "seconds"), [(0.1, 30), (1.0, 300)])
@pytest.mark.parametrize("preempt", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_lost_adverts_move_the_traffic_a_few_times_and_not_again_and_again(
    seed: int, preempt: bool, interval: float, seconds: float
) -> None:
    world = settled(seed=seed, preempt=preempt, advert_interval=interval)
    world.lose(0.4)
    with world.measured() as lost:
        world.run(seconds)
    assert lost == [0]
    assert moves(world, 38) <= 6


def test_a_backup_that_asks_takes_over_from_a_dead_master_in_time() -> None:
    world = settled(advert_interval=0.1)
    world.lose(0.4)
    world.run(60)
    world.lose(0)
    world.run(30)
    assert_whole(world, served_by="a")
    with world.measured() as lost:
        world.crash("a")
        world.run(60)
    assert lost[0] < DETECTION / 10 + SOON


@pytest.mark.parametrize("reason", ["the interface does not have 192.168.143.1", "the interface has no carrier"])
def test_a_link_that_blinks_moves_nothing(reason: str) -> None:
    world = settled()
    world.link_down("a", reason)
    world.run(0.01)
    world.link_up("a")
    world.run(30)
    assert_whole(world, served_by="a")
    assert not world.updates


def test_a_link_that_stays_down_costs_nothing_and_is_a_fault_within_a_moment() -> None:
    world = settled()
    with world.measured() as lost:
        world.link_down("a")
        world.run(0.8 + SOON)
        assert_whole(world, served_by="b")
        world.run(30)
        assert not [line for line in world.score() if "a      role web master" in line][1:]
    assert lost == [0]


def test_after_a_fault_of_its_link_a_node_waits_until_the_others_can_have_found_it() -> None:
    """ARP: for a second or two nothing arrives, and adverts of 100 ms would be missed."""
    world = World(route_servers=0, preempt=False, advert_interval=0.1)
    world.run(10)
    assert world.masters == ["a"]
    world.link_down("a")
    world.part("a", "b")
    world.run(20)
    world.link_up("a")
    world.run(1.5)
    world.join("a", "b")
    world.run(10)
    assert world.masters == ["b"]
    assert len([line for line in world.score() if "a      role web master" in line]) == 1


def test_where_an_address_cannot_be_kept_the_standby_serves() -> None:
    world = settled()
    with world.measured() as lost:
        world.cannot_keep("a")
        world.run(0.8 + SOON)
        assert_whole(world, served_by="b")
        world.run(60)
        assert_whole(world, served_by="b")
        world.keeps_again("a")
        world.run(30)
    assert_whole(world, served_by="a")
    assert lost == [0]


def test_where_an_address_cannot_be_kept_and_nobody_else_is_there_it_is_served_all_the_same() -> None:
    world = settled()
    world.crash("b")
    world.run(30)
    with world.measured() as lost:
        world.cannot_keep("a")
        world.run(60)
    assert_whole(world, served_by="a")
    assert lost == [0]
