"""Whether what the daemons foretold came true, by records that are made up."""

from typing import Any

from floatip.lab.foresight import NOT_FORETOLD, came_true
from floatip.lab.record import Foresight, Record, RunEvent
from floatip.lab.scenes import SCENES
from floatip.observing.summary import ProbeResult


def said(carrier: str, *, certain: bool = True, candidates: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"carrier": carrier, "certain": certain, "candidates": list(candidates)}


def record(*foresights: Foresight, answers: dict[float, str]) -> Record:
    made = Record(foresights=list(foresights), routes={"router": []})
    made.probes = [ProbeResult("request", at, True, 1.0, who) for at, who in answers.items()]
    return made


def holds(*foresights: Foresight, answers: dict[float, str], scene: str = "crash") -> list[bool]:
    return [verdict.holds for verdict in came_true(scene, record(*foresights, answers=answers))]


def asked(at: float, **answers: dict[str, Any]) -> Foresight:
    return Foresight(at, "if haproxy1 goes down", answers)


def test_a_scene_is_classified_once_and_by_its_name() -> None:
    assert set(NOT_FORETOLD) < set(SCENES)
    assert all(NOT_FORETOLD.values())


def test_a_scene_in_which_no_daemon_was_asked_fails_unless_it_is_listed() -> None:
    assert holds(answers={1.0: "haproxy1"}, scene="crash") == [False]
    assert holds(answers={1.0: "haproxy1"}, scene="split") == []
    right = asked(0.0, haproxy1=said("haproxy2"))
    assert holds(right, answers={1.0: "haproxy2"}, scene="split") == [False]


def test_each_question_is_compared_with_who_carries_before_the_next() -> None:
    first, second = asked(0.0, haproxy1=said("haproxy2")), asked(2.0, haproxy2=said("haproxy1"))
    assert holds(first, second, answers={1.0: "haproxy2", 3.0: "haproxy1"}) == [True, True]
    assert holds(first, second, answers={1.0: "haproxy1", 3.0: "haproxy2"}) == [False, False]


def test_one_daemon_that_was_wrong_is_enough_to_fail() -> None:
    both = asked(0.0, haproxy1=said("haproxy1"), haproxy2=said("haproxy2"))
    assert holds(both, answers={1.0: "haproxy2"}) == [False]


def test_what_is_not_certain_may_name_others_but_somebody_must_know() -> None:
    unsure = said("", certain=False, candidates=("192.168.143.241",))
    assert holds(asked(0.0, haproxy1=unsure), answers={1.0: "haproxy2"}) == [False]
    assert holds(asked(0.0, haproxy1=unsure, haproxy2=said("haproxy2")), answers={1.0: "haproxy2"}) == [True]
    astray = said("", certain=False, candidates=("192.168.143.227",))
    assert holds(asked(0.0, haproxy1=astray, haproxy2=said("haproxy2")), answers={1.0: "haproxy2"}) == [False]


def test_a_master_that_is_younger_than_the_last_answer_counts() -> None:
    made = record(asked(0.0, haproxy1=said("haproxy2")), answers={1.0: "haproxy1"})
    made.events = [RunEvent(1.0, "haproxy2", "role", "VI_1", "master", "it took over")]
    assert [verdict.holds for verdict in came_true("crash", made)] == [True]
