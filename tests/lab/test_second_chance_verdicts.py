"""What the verdicts say of connections through a move, in records that are made up."""

from dataclasses import replace
from typing import Literal

import pytest

from floatip.lab.connections import CLOSED, REFUSED, RESET, TIMED_OUT, WRONG_BYTES, Connections, Long, Short, Transfer
from floatip.lab.record import PassedOn, Record, RunOptions
from floatip.lab.scheduling import Delay
from floatip.lab.second_chance_scenes import STALL, begun_at, no_hang, survived, way_of_answers, were_reset

LONG = Long(0, "haproxy1", 1.0, 9.0, "", 100, 0.05, 5.0)
SHORT = Short(5.0, 0.1, "haproxy1", "")
UPLOAD = Transfer("upload", "haproxy1", "", 1000, 0.05, 5.0)


def record(long: Long = LONG, short: Short = SHORT, transfer: Transfer = UPLOAD) -> Record:
    """Two of each kind: one that is whole, and this one."""
    made = Record(RunOptions(connections=2, second_chance="on"), routes={"router": []})
    made.connections = Connections((LONG, long), (SHORT, short), (UPLOAD, transfer))
    made.passed_on = [PassedOn(500, 400), PassedOn(700, 560)]
    return made


def failed(made: Record) -> list[str]:
    """With the second chance."""
    return [verdict.text for verdict in (*survived(made), no_hang(made)) if not verdict.holds]


def test_with_the_second_chance_nothing_may_end() -> None:
    assert failed(record()) == []
    for end in (RESET, CLOSED, TIMED_OUT, WRONG_BYTES):
        assert failed(record(long=replace(LONG, end=end))) == [f"1 of 2 long connections failed: 1 {end}"]
        assert failed(record(short=replace(SHORT, end=end))) == [f"1 of 2 short connections failed: 1 {end}"]
        assert failed(record(transfer=replace(UPLOAD, end=end))) == [f"the upload {end}"]


def test_connections_that_were_never_there_prove_nothing() -> None:
    made = record()
    made.connections = Connections()
    assert len(failed(made)) == 3
    assert not all(verdict.holds for verdict in were_reset(made))


def test_a_connection_that_began_after_the_takeover_is_for_the_node_that_took_over() -> None:
    made = record(short=replace(SHORT, at=7.0, who="haproxy2"))
    assert begun_at(made, "haproxy2", 6.0).holds
    assert not begun_at(made, "haproxy2", 7.0).holds, "there was none"
    assert begun_at(record(short=replace(SHORT, at=6.05)), "haproxy2", 6.0).holds is False
    wrong = record(short=replace(SHORT, at=7.0))
    assert not begun_at(wrong, "haproxy2", 6.0).holds
    wrong.connections = Connections((), (SHORT, replace(SHORT, at=6.3), replace(SHORT, at=7.0, who="haproxy2")), ())
    assert not begun_at(wrong, "haproxy2", 6.0).holds
    wrong.delays.append(Delay(6.0, 6.25))
    assert begun_at(wrong, "haproxy2", 6.0).holds


def test_a_stall_has_a_limit_that_is_extended_by_what_the_machine_delayed() -> None:
    made = record(long=replace(LONG, stall=STALL + 0.1, stall_at=5.0))
    assert failed(made) == ["the echo of a message took 0.500 s at most (limit 0.4 s)"]
    made.delays.append(Delay(5.1, 5.3))
    assert failed(made) == []
    made.delays[:] = [Delay(6.0, 7.0)]
    assert len(failed(made)) == 1


def test_no_answer_for_three_seconds_is_a_hang_whatever_came_then() -> None:
    made = record(short=replace(SHORT, took=3.5))
    assert failed(made) == [
        "1 of 6 connections had no answer for 3 s; the slowest short one that was answered took 3.500 s"
    ]
    made.delays.append(Delay(5.0, 5.6))
    assert no_hang(made).holds
    assert "0 of 6 connections had no answer for 3 s, except 1 while the lab had no CPU" in no_hang(made).text
    assert not no_hang(record(long=replace(LONG, stall=3.5, end=RESET))).holds


@pytest.mark.parametrize(
    ("long", "short", "holds"),
    [
        ((RESET, RESET), ("", RESET), True),
        ((RESET, RESET), ("", ""), True),
        ((RESET, ""), ("", RESET), False),
        ((RESET, TIMED_OUT), ("", ""), False),
        ((RESET, RESET), ("", TIMED_OUT), False),
        ((RESET, RESET), ("", REFUSED), False),
    ],
)
def test_without_the_second_chance_all_that_are_open_are_reset_and_nothing_else_happens(
    long: tuple[str, str], short: tuple[str, str], holds: bool
) -> None:
    made = record()
    made.connections = Connections(
        tuple(replace(LONG, end=end) for end in long),
        tuple(replace(SHORT, end=end) for end in short),
        (replace(UPLOAD, end=RESET),),
    )
    assert all(verdict.holds for verdict in were_reset(made)) is holds


@pytest.mark.parametrize(
    ("answers", "strict", "last", "holds"),
    [
        ("tunnel", False, PassedOn(700, 560), True),
        ("tunnel", False, PassedOn(700, 400), False),
        ("auto", False, PassedOn(700, 401), True),
        ("auto", False, PassedOn(700, 500), False),
        ("auto", True, PassedOn(700, 560), True),
        ("auto", True, PassedOn(700, 400), False),
        ("auto", False, PassedOn(500, 400), False),
    ],
)
def test_answers_went_the_way_that_they_may_go(
    answers: Literal["tunnel", "auto"], strict: bool, last: PassedOn, holds: bool
) -> None:
    made = record()
    made.options = replace(made.options, answers=answers, strict=strict)
    made.passed_on[1] = last
    assert way_of_answers(made).holds == holds
    made.passed_on.pop()
    assert not way_of_answers(made).holds
