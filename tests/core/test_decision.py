"""From role and health to a rank: the ladder with its reasons, settling and damping."""

import math
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from floatip.core.bgp.rank import Rank, med
from floatip.core.decision import Decision, Facts
from floatip.core.election.elector import Role
from floatip.core.health import Health

UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN
BLIND, AHEAD = 10, 1.8e9
MASTER, BACKUP, FAULT, INIT = Role.MASTER, Role.BACKUP, Role.FAULT, Role.INIT


def facts(role: Role = BACKUP, health: Health = UP, stopping: str = "") -> Facts:
    return Facts(role, "so it was elected", health, "check web: so it said", stopping)


@pytest.mark.parametrize(
    ("said", "last_resort", "rank", "reason"),
    [
        (facts(), False, Rank.STANDBY, "not master"),
        (facts(FAULT), False, Rank.STANDBY, "so it was elected"),
        (facts(INIT), False, Rank.STANDBY, "not master"),
        (facts(MASTER), False, Rank.ACTIVE, "master, settled"),
        (facts(MASTER, DOWN), False, Rank.NONE, "check web: so it said"),
        (facts(MASTER, DOWN), True, Rank.LAST_RESORT, "check web: so it said"),
        (facts(BACKUP, UNKNOWN), False, Rank.NONE, "check web: so it said"),
        (facts(BACKUP, UNKNOWN), True, Rank.NONE, "check web: so it said"),
        (facts(MASTER, UP, "asked to stop"), True, Rank.NONE, "asked to stop"),
        (facts(MASTER, DOWN, "asked to stop"), True, Rank.NONE, "asked to stop"),
    ],
)
def test_the_first_guard_that_applies_decides(said: Facts, last_resort: bool, rank: Rank, reason: str) -> None:
    decision = Decision(last_resort, now=0)
    decision.decide(said, 1)
    assert (decision.rank, decision.reason) == (rank, reason)


def test_only_another_rank_is_a_change() -> None:
    decision = Decision(False, now=0)
    assert decision.decide(facts(), 1)
    assert not decision.decide(facts(FAULT), 2)
    assert (decision.reason, decision.since) == ("so it was elected", 1)


@pytest.mark.parametrize(
    ("other", "ours", "rung"),
    [
        (-math.inf, 100, Rank.TAKEOVER),
        (70, 100, Rank.TAKEOVER),
        (70.1, 100, Rank.TAKEOVER_AGAIN),
    ],
)
def test_who_replaces_a_master_that_could_not_settle_takes_the_second_rung(
    other: float, ours: float, rung: Rank
) -> None:
    decision = Decision(False, now=0)
    decision.became_master(ours, other, AHEAD, 9, BLIND)
    decision.decide(facts(MASTER), 100)
    assert (decision.rank, decision.master_since) == (rung, ours + AHEAD)


def test_a_new_master_says_why_it_is_at_takeover() -> None:
    decision = Decision(False, now=0)
    decision.became_master(80, -math.inf, AHEAD, 9, BLIND)
    decision.decide(facts(MASTER), 80)
    assert decision.reason == "took over; outranks a stale route of the old master until that must be gone"
    decision.became_master(100, 90, AHEAD, 9, BLIND)
    decision.decide(facts(MASTER), 100)
    assert decision.reason == "took over before the last takeover had settled, so one step stronger"


@pytest.mark.parametrize(("hold_time", "settle"), [(0, 20), (3, 20), (9, 20), (10, 20), (11, 22), (90, 180)])
def test_a_master_settles_after_twice_the_hold_time_and_20_s_at_least(hold_time: float, settle: float) -> None:
    decision = Decision(False, now=0)
    decision.became_master(100, -math.inf, AHEAD, hold_time, BLIND)
    decision.decide(facts(MASTER), 100)
    assert decision.deadline == 100 + settle
    assert not decision.decide(facts(MASTER), 99.9 + settle)
    assert decision.decide(facts(MASTER), 100 + settle)
    assert (decision.rank, decision.deadline) == (Rank.ACTIVE, float("inf"))


def test_the_rung_goes_with_the_mastership() -> None:
    decision = Decision(False, now=0)
    decision.became_master(100, -math.inf, AHEAD, 9, BLIND)
    decision.decide(facts(MASTER), 100)
    decision.decide(facts(BACKUP), 105)
    assert (decision.rank, decision.deadline) == (Rank.STANDBY, float("inf"))
    decision.became_master(110, 105, AHEAD, 9, BLIND)
    decision.decide(facts(MASTER), 110)
    assert (decision.rank, decision.deadline) == (Rank.TAKEOVER_AGAIN, 130)


def withdrawn(times: Iterable[float]) -> Decision:
    """A backup that was sick for a second at each of these times."""
    decision = Decision(False, now=0)
    decision.decide(facts(), 1)
    for at in times:
        decision.decide(facts(BACKUP, DOWN), at)
        decision.decide(facts(), at + 1)
    return decision


DAMPED = "withdrawn 3 times in 5 minutes: leaves mastership to others until it is quiet"


def test_after_three_withdrawals_in_five_minutes_a_master_stays_at_standby() -> None:
    decision = withdrawn([10, 100, 300])
    decision.decide(facts(MASTER), 599)
    assert (decision.rank, decision.reason, decision.deadline) == (Rank.STANDBY, DAMPED, 600)
    decision.decide(facts(MASTER), 600)
    assert decision.rank is Rank.ACTIVE


@pytest.mark.parametrize("times", [[10, 100], [10, 100, 310], [10, 310, 610, 910]])
def test_fewer_withdrawals_are_no_flap(times: list[float]) -> None:
    decision = withdrawn(times)
    decision.decide(facts(MASTER), times[-1] + 2)
    assert decision.rank is Rank.ACTIVE


def test_a_withdrawal_while_damped_starts_the_wait_anew() -> None:
    decision = withdrawn([10, 20, 30, 325])
    decision.decide(facts(MASTER), 624)
    assert (decision.rank, decision.reason) == (Rank.STANDBY, DAMPED)
    decision.decide(facts(MASTER), 625)
    assert decision.rank is Rank.ACTIVE


def test_who_becomes_master_while_it_is_damped_is_announced_as_a_master() -> None:
    """The elector lets it become master only if nobody else is."""
    decision = withdrawn([10, 20, 30])
    decision.became_master(40, -math.inf, AHEAD, 9, BLIND)
    decision.decide(facts(MASTER), 40)
    assert (decision.rank, decision.deadline) == (Rank.TAKEOVER, 60)
    decision.decide(facts(MASTER), 60)
    assert (decision.rank, decision.deadline) == (Rank.ACTIVE, 330)
    decision.decide(facts(BACKUP), 70)
    assert (decision.rank, decision.reason) == (Rank.STANDBY, DAMPED)
    decision.decide(facts(MASTER, DOWN), 80)
    decision.decide(facts(MASTER), 81)
    assert decision.rank is Rank.STANDBY, "it is the mastership that flapped"


def test_a_master_whose_address_does_not_stay_is_at_standby_until_it_becomes_master_again() -> None:
    decision = Decision(False, now=0)
    decision.decide(facts(MASTER), 1)
    decision.decide(replace(facts(MASTER), unkept="somebody removes it"), 2)
    assert (decision.rank, decision.reason) == (Rank.STANDBY, "somebody removes it")
    decision.became_master(10, -math.inf, AHEAD, 9, BLIND)
    decision.decide(replace(facts(MASTER), unkept="somebody removes it"), 10)
    assert decision.rank is Rank.TAKEOVER


def test_a_sick_node_is_withdrawn_also_while_damped() -> None:
    decision = withdrawn([10, 20, 30])
    decision.decide(facts(BACKUP, DOWN), 40)
    assert decision.rank is Rank.NONE


def test_a_master_that_announces_nothing_outranks_no_stale_route_and_is_never_damped() -> None:
    decision = Decision(False, now=0)
    decision.became_master(100, 95, AHEAD, 0, BLIND)
    for at in (100, 110, 120, 130):
        decision.decide(replace(facts(MASTER), announces=False), at)
        assert (decision.rank, decision.reason) == (Rank.ACTIVE, "master, settled")
        decision.decide(replace(facts(MASTER, DOWN), announces=False), at + 1)
    decision.decide(facts(MASTER), 140)
    assert decision.rank is Rank.ACTIVE, "what was not announced was not withdrawn"


def test_neither_a_last_resort_nor_a_stop_is_a_withdrawal_that_counts() -> None:
    decision = Decision(True, now=0)
    for at in (10, 20, 30):
        decision.decide(facts(BACKUP, DOWN), at)
        decision.decide(facts(), at + 1)
        decision.decide(facts(stopping="asked to stop"), at + 2)
        decision.decide(facts(), at + 3)
    assert (decision.rank, decision.reason) == (Rank.STANDBY, "not master")


def test_equal_ranks_are_ordered_by_priority_then_by_the_greater_address() -> None:
    nodes = [(100, "10.0.0.9"), (100, "10.0.0.1"), (50, "10.0.1.200"), (50, "10.0.0.227")]
    meds = [med(priority, IPv4Address(source), Rank.ACTIVE) for priority, source in nodes]
    assert meds == sorted(set(meds))


def test_a_sick_node_is_worse_and_the_latest_of_several_masters_better_than_any_other() -> None:
    best, worst = (255, IPv4Address("10.0.0.9")), (1, IPv4Address("10.0.0.1"))
    assert med(*best, Rank.LAST_RESORT, in_fault=True) > med(*best, Rank.STANDBY, in_fault=True)
    assert med(*best, Rank.STANDBY, in_fault=True) > med(*worst, Rank.STANDBY)
    for rung in (Rank.TAKEOVER, Rank.TAKEOVER_AGAIN):
        for at in (1.8e9, 1.8e9 + 0.1, 1.8e9 + 5):
            assert 0 <= med(*worst, rung, at + 0.05) < med(*best, rung, at) < med(*best, Rank.ACTIVE)
        assert med(*best, rung, 1.8e9) != med(*worst, rung, 1.8e9)


def test_where_the_latest_master_stays_the_latest_of_settled_ones_has_the_best_med() -> None:
    best, worst = (255, IPv4Address("10.0.0.9")), (1, IPv4Address("10.0.0.1"))
    day = 86400
    for age in (4, 60, day, 7 * day, 180 * day):
        later, earlier = (
            med(*node, Rank.ACTIVE, at, latest_stays=True) for node, at in ((worst, 1.8e9), (best, 1.8e9 - age))
        )
        assert 0 <= later < earlier < med(*best, Rank.STANDBY)
    assert med(*best, Rank.ACTIVE, 1.8e9, latest_stays=True) < med(*worst, Rank.ACTIVE, 1.8e9, latest_stays=True)
