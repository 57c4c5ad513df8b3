"""Named cases of placement `master`: who holds the address, and where the neighbour tables of the clients lead.

All times are virtual.
"""

from typing import Any

import pytest

from tests.sim.lan import ASK_INTERVAL, FORGET_AFTER, Lan
from tests.sim.test_stories import DETECTION, SOON

SKEW = DETECTION - 3


def settled(**options: Any) -> Lan:
    lan = Lan(**options)
    lan.run(20)
    assert_whole(lan, served_by="a")
    return lan


def assert_whole(lan: Lan, *, served_by: str) -> None:
    """One master, which alone holds the address, and clients find it there."""
    assert (lan.masters, lan.holders, lan.serving) == ([served_by], [served_by], served_by)


def test_after_a_cold_start_the_highest_priority_alone_holds_the_address() -> None:
    lan = Lan(priorities=(50, 100, 70))
    lan.run(20)
    assert_whole(lan, served_by="b")


def test_after_a_crash_the_neighbours_are_led_to_the_next_master_at_once() -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.crash("a")
        lan.run(30)
    assert_whole(lan, served_by="b")
    assert lost[0] < DETECTION + SOON


def test_a_planned_stop_costs_nothing_and_the_address_is_released() -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.stop("a")
        lan.run(30)
    assert_whole(lan, served_by="b")
    assert lost == [0]


def test_a_sick_master_releases_the_address_and_another_takes_it() -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.sicken("a")
        lan.run(30)
    assert_whole(lan, served_by="b")
    assert lost[0] < 1 + SKEW + SOON


def test_a_better_master_takes_over_without_loss_even_if_its_kernel_is_slow() -> None:
    lan = settled(kernel_delay=0.15)
    lan.crash("a")
    lan.run(10)
    lan.boot("a")
    with lan.measured() as lost:
        lan.run(30)
    assert_whole(lan, served_by="a")
    assert lost == [0]


def test_a_gratuitous_arp_that_is_lost_is_repeated() -> None:
    lan = settled()
    lan.lose_arp(1.0)
    with lan.measured() as lost:
        lan.crash("a")
        lan.run(DETECTION + 0.5)
        lan.lose_arp(0.0)
        lan.run(30)
    assert_whole(lan, served_by="b")
    assert lost[0] < DETECTION + 1


def test_neighbours_that_nobody_could_tell_find_the_master_when_they_ask() -> None:
    lan = settled()
    lan.lose_arp(1.0)
    with lan.measured() as lost:
        lan.crash("a")
        lan.run(30)
    assert_whole(lan, served_by="b")
    assert DETECTION < lost[0] < FORGET_AFTER + ASK_INTERVAL


def test_a_split_makes_two_holders_and_after_it_the_neighbours_are_led_to_the_better_one_without_loss() -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.part("a", "b")
        lan.run(20)
        assert (lan.masters, lan.holders) == (["a", "b"], ["a", "b"])
        lan.join("a", "b")
        lan.run(1 + SOON)
        assert lan.serving == "a"
        lan.run(20)
    assert_whole(lan, served_by="a")
    assert lost == [0]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("seed", range(4))
def test_after_a_cut_the_neighbours_are_led_to_the_node_that_stays_master(name: str, seed: int) -> None:
    lan = settled(seed=seed)
    lan.cut(name)
    lan.run(10)
    with lan.measured() as lost:
        lan.uncut(name)
        lan.run(20)
    assert_whole(lan, served_by="a")
    assert lost == [0]


def test_one_that_yields_while_it_still_tells_the_neighbours_leads_them_nowhere() -> None:
    """It keeps the address for a moment, and has told of it twice."""
    lan = settled()
    lan.part("a", "b")
    lan.run(DETECTION - 1 + SOON)
    while lan.masters != ["a", "b"]:
        lan.run(0.01)
    lan.run(0.1)
    with lan.measured() as lost:
        lan.join("a", "b")
        lan.run(20)
    assert_whole(lan, served_by="a")
    assert lost == [0]


@pytest.mark.parametrize("pause", [Lan.hang, Lan.freeze])
def test_a_master_that_is_suspended_while_it_tells_the_neighbours_does_not_go_on_when_it_wakes(pause: Any) -> None:
    lan = Lan(preempt=False)
    while lan.serving != "a":
        lan.run(0.1)
    pause(lan, "a")
    lan.run(10)
    assert lan.serving == "b"
    with lan.measured() as lost:
        lan.wake("a")
        lan.run(20)
    assert_whole(lan, served_by="b")
    assert lost == [0]


@pytest.mark.parametrize("is_gone", [False, True], ids=["no carrier", "no interface"])
def test_a_link_that_goes_down_costs_the_detection_time_and_when_it_is_back_nothing(is_gone: bool) -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.link_down("a", is_gone=is_gone)
        lan.run(10)
        assert_whole(lan, served_by="b")
        lan.link_up("a")
        lan.run(20)
    assert_whole(lan, served_by="a")
    assert lost[0] < DETECTION + SOON


@pytest.mark.parametrize("is_gone", [False, True], ids=["no carrier", "no interface"])
def test_a_link_that_blinks_leaves_the_master_with_its_address(is_gone: bool) -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.link_down("a", is_gone=is_gone)
        lan.run(0.01)
        lan.link_up("a")
        lan.run(20)
    assert_whole(lan, served_by="a")
    assert not [line for line in lan.score() if "b      role web master" in line]
    assert lost[0] < 0.05


def test_an_address_that_somebody_deletes_is_put_back_and_told_again() -> None:
    lan = settled()
    with lan.measured() as lost:
        lan.delete("a")
        lan.run(20)
    assert_whole(lan, served_by="a")
    assert lost[0] < 0.05


def test_what_a_killed_daemon_left_serves_until_its_successor_is_master() -> None:
    lan = settled(preempt=False)
    with lan.measured() as lost:
        lan.kill("a")
        lan.run(1)
        lan.start("a")
        lan.run(1)
        lan.cut("b")
        lan.run(20)
    assert (lan.serving, lost) == ("a", [0])


def test_the_successor_of_a_killed_daemon_that_hears_another_master_has_the_neighbours_told() -> None:
    """The other was cut off when the neighbours were told and when it was asked."""
    lan = settled(preempt=False)
    lan.cut("b")
    lan.run(10)
    lan.kill("a")
    lan.run(0.1)
    lan.start("a")
    lan.run(1)
    assert lan.serving == "a"
    with lan.measured() as lost:
        lan.uncut("b")
        lan.run(20)
    assert_whole(lan, served_by="b")
    assert lost[0] < SOON


def test_a_daemon_that_was_killed_leaves_the_address_and_its_successor_releases_it() -> None:
    lan = settled(preempt=False)
    with lan.measured() as lost:
        lan.kill("a")
        lan.run(10)
        assert (lan.serving, lan.holders) == ("b", ["a", "b"])
        lan.start("a")
        lan.run(20)
    assert_whole(lan, served_by="b")
    assert lost == [0]
