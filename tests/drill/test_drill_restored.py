"""What a drill says at its end of whether all is as before: pure."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from floatip.core.state import CarriedView, CheckView, DrillView, ProblemView, Status
from floatip.drill.verdict import restored
from tests.web.views import PAIR


def standby(status: Status, *, ready: bool = True) -> Status:
    """After it the other node is master of web, and this one is in reserve."""
    web, mail = status.instances
    own, other = status.nodes
    carries = (CarriedView("web", "standby", ready=ready), *own.carries[1:])
    held = tuple(replace(one, held=True) for one in web.addresses)
    web = replace(web, role=replace(web.role, value="backup", reason="haproxy2 is master"), addresses=held)
    return replace(status, instances=(web, mail), nodes=(replace(own, carries=carries), other))


def check_down(status: Status) -> Status:
    down = CheckView("haproxy", "down", 1.0, "exit status 1", "exit status 1", 1)
    return replace(status, checks=(down,))


def session_down(status: Status) -> Status:
    first, *others = status.sessions
    return replace(status, sessions=(replace(first, state="idle"), *others))


def damped(status: Status) -> Status:
    problem = ProblemView("damped", "warning", "web", "withdrawn 3 times within five minutes", "", 1.0)
    return replace(standby(status, ready=False), problems=(problem,))


def drilled(status: Status) -> Status:
    return replace(status, drill=DrillView("web", "check", "haproxy", True, "root (pid 812)", 5.0))


def released(status: Status) -> Status:
    web, mail = status.instances
    return replace(
        status, instances=(replace(web, addresses=tuple(replace(a, held=False) for a in web.addresses)), mail)
    )


def failing(now: Status | None) -> list[str]:
    return [finding.text for finding in restored(standby(PAIR), now, "web") if not finding.holds]


def test_a_node_in_reserve_that_is_ready_is_as_before() -> None:
    assert failing(standby(PAIR)) == []


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (check_down, "check haproxy"),
        (session_down, "3 of 4 BGP sessions"),
        (damped, "withdrawn 3 times"),
        (drilled, "drill"),
        (released, "does not hold"),
    ],
)
def test_what_is_not_as_before_is_named(harm: Callable[[Status], Status], word: str) -> None:
    assert any(word in text for text in failing(harm(standby(PAIR)))), failing(harm(standby(PAIR)))


def test_without_a_daemon_nothing_is_restored() -> None:
    assert failing(None) == ["no daemon answers on this node"]


def test_an_instance_that_a_reload_has_removed_is_named() -> None:
    assert failing(replace(PAIR, instances=PAIR.instances[1:])) == ["there is no instance web any more"]
