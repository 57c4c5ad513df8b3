"""Checks: from single results to a verdict, and from verdicts to the health of an instance."""

import pytest

from floatip.core.events import Became, Probe
from floatip.core.health import CheckState, Health, combine
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
