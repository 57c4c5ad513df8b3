"""Checks: from single results to a verdict, and from verdicts to the health of an instance."""

from dataclasses import replace
from typing import Any

import pytest

from floatip.core.events import Became, Probe
from floatip.core.health import FIRST_SESSIONS, CheckState, Health, combine, of_parts, of_sessions
from floatip.core.settings import Check as Config


def checked(results: str, *, rise: int = 1, fall: int = 1) -> CheckState:
    """A check that was run once a second, with these results: + passed, - failed, t no answer."""
    check = CheckState(Config("web", interval=2, timeout=1, rise=rise, fall=fall), now=0)
    for turn, result in enumerate(results):
        check.tick(2 * turn)
        if result == "t":
            check.tick(2 * turn + 1)
        else:
            check.done(check.runs, result == "+", "it said so", 2 * turn + 0.5)
    return check


@pytest.mark.parametrize(
    ("results", "health"),
    [
        ("", Health.UNKNOWN),
        ("+", Health.UP),
        ("-", Health.DOWN),
        ("t", Health.DOWN),
        ("+--", Health.UP),
        ("+---", Health.DOWN),
        ("+--+--", Health.UP),
        ("+-t-", Health.DOWN),
        ("-+", Health.DOWN),
        ("-++", Health.UP),
        ("-+-+", Health.DOWN),
        ("+---+-+", Health.DOWN),
    ],
)
def test_the_first_result_decides_and_then_fall_or_rise_in_a_row(results: str, health: Health) -> None:
    assert checked(results, rise=2, fall=3).health is health


def test_a_verdict_is_news_with_its_reason_and_the_same_verdict_again_is_none() -> None:
    check = checked("+", fall=2)
    assert check.done(*probe(check, 2), False, "exit status 1", 2.1) == []
    assert check.done(*probe(check, 4), False, "exit status 1", 4.1) == [
        Became("check", "web", "down", "exit status 1, 2 in a row")
    ]
    assert check.done(*probe(check, 6), False, "exit status 2", 6.1) == []
    assert (check.reason, check.since, check.last_result) == ("exit status 1, 2 in a row", 4.1, "exit status 2")


def probe(check: CheckState, now: float) -> tuple[int]:
    """Let the check run; the number of the run."""
    [asked] = check.tick(now)
    assert isinstance(asked, Probe)
    return (asked.run,)


def test_a_check_runs_at_once_and_then_at_its_interval() -> None:
    check = CheckState(Config("web", interval=2, timeout=1), now=10)
    assert check.deadline == 10
    assert check.tick(10) == [Probe("web", 1, 1)]
    assert check.tick(10) == []
    check.done(1, True, "", 10.2)
    assert (check.deadline, check.tick(11.9)) == (12, [])
    assert check.tick(12) == [Probe("web", 2, 1)]


def test_a_check_that_takes_longer_than_its_interval_never_runs_twice_at_a_time() -> None:
    check = CheckState(Config("web", interval=1, timeout=5), now=0)
    check.tick(0)
    assert (check.deadline, check.tick(1), check.tick(4)) == (5, [], [])
    check.done(1, True, "", 4.5)
    assert check.tick(4.5) == [Probe("web", 2, 5)]


def test_the_verdict_of_a_hanging_check_falls_at_its_timeout() -> None:
    check = checked("+")
    check.tick(2)
    assert (check.deadline, check.tick(2.99)) == (3, [])
    assert check.tick(3) == [Became("check", "web", "down", "timed out after 1 s")]


def test_an_answer_after_the_timeout_or_to_another_run_is_ignored() -> None:
    check = checked("+t")
    assert check.done(2, True, "at last", 3.5) == []
    check.tick(4)
    assert check.done(2, True, "at last", 4.5) == []
    assert check.health is Health.DOWN
    assert check.done(3, True, "well", 4.6) == [Became("check", "web", "up", "well")]


def test_the_same_answer_counts_once() -> None:
    check = checked("+-", fall=2)
    assert check.done(check.runs, False, "again", 2.6) == []
    assert check.health is Health.UP


def test_a_check_that_we_slept_through_is_run_again_and_not_judged() -> None:
    check = checked("+")
    check.tick(2)
    assert check.tick(60) == [Probe("web", 3, 1)]
    assert (check.health, check.deadline) == (Health.UP, 61)
    assert check.tick(61) == [Became("check", "web", "down", "timed out after 1 s")]


def test_a_pushed_check_is_never_asked_and_each_report_is_a_verdict() -> None:
    check = CheckState(Config("trigger", pushed=True, rise=3, fall=3), now=0)
    assert (check.deadline, check.tick(100)) == (float("inf"), [])
    assert check.done(0, True, "no such file", 1) == [Became("check", "trigger", "up", "no such file")]
    assert check.done(0, False, "the file exists", 2) == [Became("check", "trigger", "down", "the file exists")]
    assert check.done(0, True, "no such file", 3) == [Became("check", "trigger", "up", "no such file")]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], (Health.UP, "no checks are configured, so the node always counts as healthy")),
        (["+"], (Health.UP, "check web: it said so")),
        (["+", "+"], (Health.UP, "all checks are up")),
        (["+", ""], (Health.UNKNOWN, "check web: no result yet")),
        (["", "+", "-"], (Health.DOWN, "check web: it said so")),
    ],
)
def test_down_beats_unknown_and_unknown_beats_up(results: list[str], expected: tuple[Health, str]) -> None:
    assert combine([checked(each) for each in results]) == expected


def policed(**policy: Any) -> CheckState:
    return CheckState(Config("web", **policy), now=0)


def pushed(check: CheckState, passed: bool, at: float) -> list[Any]:
    return check.done(0, passed, "it said so", at)


def test_a_master_that_has_the_check_may_have_another_rise_and_fall() -> None:
    check = checked("+", fall=3)
    check.config = replace(check.config, master_fall=1, master_rise=2)
    check.is_master = True
    check.done(*probe(check, 2), False, "exit status 1", 2.1)
    assert check.health is Health.DOWN
    check.done(*probe(check, 4), True, "exit status 0", 4.1)
    assert check.health is Health.DOWN
    check.done(*probe(check, 6), True, "exit status 0", 6.1)
    assert check.health is Health.UP


def test_a_check_whose_results_differ_from_its_verdict_runs_at_the_fast_interval_until_they_do_not() -> None:
    check = policed(interval=10, timeout=1, fall=3, fast_interval=2)
    runs = []
    for passed in (True, False, True, False, False, False, False):
        now = check.deadline
        runs.append(now)
        check.done(*probe(check, now), passed, "", now + 0.1)
    assert runs == [0, 10, 12, 22, 24, 26, 36]
    assert check.health is Health.DOWN


def test_of_an_inverted_check_a_run_that_fails_passes_however_it_fails() -> None:
    check = policed(inverted=True, timeout=1)
    check.done(*probe(check, 0), False, "exit status 1", 0.1)
    assert (check.health, check.last_result) == (Health.UP, "exit status 1 (inverted)")
    check.done(*probe(check, 1), True, "exit status 0", 1.1)
    assert check.health is Health.DOWN
    check.tick(2)
    assert check.tick(3) == [Became("check", "web", "up", "timed out after 1 s (inverted)")]


@pytest.mark.parametrize(("initial", "results", "health"), [("down", "+", "down"), ("up", "-", "up"), ("up", "", "up")])
def test_a_check_with_a_first_verdict_counts_its_first_results_like_later_ones(
    initial: Any, results: str, health: str
) -> None:
    check = policed(initial=initial, rise=2, fall=2)
    assert check.health.value == initial
    for result in results:
        check.done(*probe(check, 0), result == "+", "", 0.1)
    assert check.health is Health(health)


def test_a_pushed_check_changes_its_verdict_after_its_delay_unless_the_result_changes_back() -> None:
    check = policed(pushed=True, rise_delay=2.0, fall_delay=0.5)
    assert len(pushed(check, True, 1)) == 1  # the first result decides at once
    assert (pushed(check, False, 2), check.deadline) == ([], 2.5)
    assert (pushed(check, True, 2.4), check.deadline) == ([], float("inf"))
    pushed(check, False, 3)
    pushed(check, False, 3.4)
    assert check.tick(3.4) == []
    assert check.tick(3.5) == [Became("check", "web", "down", "it said so, for 0.5 s")]
    assert (pushed(check, True, 4), check.tick(5.9)) == ([], [])
    assert check.tick(6) == [Became("check", "web", "up", "it said so, for 2 s")]


def test_a_check_that_is_run_must_fail_often_and_for_long_enough() -> None:
    check = policed(interval=1, timeout=1, fall=2, fall_delay=3.0)
    for at, passed in ((0, True), (1, False), (2, False), (3, False)):
        check.done(*probe(check, at), passed, "exit status 1", at + 0.1)
    assert (check.health, check.deadline) == (Health.UP, 4)
    probe(check, 4)
    assert check.tick(4.1) == [Became("check", "web", "down", "exit status 1, 3 in a row, for 3 s")]


def test_the_number_of_a_result_is_kept_and_shown() -> None:
    check = policed(pushed=True)
    check.done(0, True, "empty", 1, 0)
    assert (check.health, check.value, check.last_result) == (Health.UP, 0, "0: empty")
    check.done(0, False, "the file says 7", 2, 7)
    assert (check.health, check.value, check.last_result) == (Health.DOWN, 7, "the file says 7")


@pytest.mark.parametrize(
    ("results", "quorum", "passed"),
    [
        (["+", "+", "-"], 2, True),
        (["+", "-", "-"], 2, False),
        (["+", "", "-"], 2, None),
        (["+", "+", ""], 2, True),
        (["", "-", "-"], 2, False),
        (["", "", ""], 1, None),
    ],
)
def test_a_quorum_is_known_as_soon_as_no_part_without_a_result_can_change_it(
    results: list[str], quorum: int, passed: bool | None
) -> None:
    assert of_parts(quorum, [checked(each) for each in results])[0] is passed


def test_a_check_made_of_others_is_never_asked_and_stays_while_it_cannot_be_told() -> None:
    check = policed(of=("a", "b"), quorum=1)
    assert check.deadline == float("inf")
    assert check.conclude(None, "0 of 2 are up", 1) == []
    assert check.conclude(True, "1 of 2 are up", 2) == [Became("check", "web", "up", "1 of 2 are up")]
    assert (check.conclude(None, "0 of 2 are up", 3), check.health) == ([], Health.UP)


def test_sessions_have_a_moment_to_come_up_before_too_few_are_a_failure() -> None:
    check = policed(sessions=2)
    assert (check.conclude(*of_sessions(2, 0, 4), 0), check.deadline) == ([], FIRST_SESSIONS)
    assert check.conclude(*of_sessions(2, 1, 4), 1) == []
    assert check.tick(FIRST_SESSIONS)[0] == Became(
        "check", "web", "down", "1 of 4 BGP sessions are up, 2 must be, for 3 s"
    )
    assert check.conclude(*of_sessions(2, 2, 4), 4)[0].value == "up"  # type: ignore[union-attr]
    assert check.conclude(*of_sessions(2, 1, 4), 9)[0].value == "down"  # type: ignore[union-attr]
