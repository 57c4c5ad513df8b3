"""When a fault must end before its time: by what the nodes say, and by what the observers see."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from floatip.core.state import CarriedView, DrillView, Standing, Status
from floatip.drill.faults import Check, CutOff, Fault, Handover, Stop
from floatip.drill.lifeline import CONFIRMED, PATIENCE, Lifeline
from floatip.drill.verdict import hindrance
from tests.web.views import PAIR, instance, node

CHECK = Check("haproxy", 10.0, lambda: cast(Any, None), lambda: None)
STOP = Stop("floatip.service", 10.0)
DRILL = DrillView("web", "check", "haproxy", True, "root", 20.0)


def during(state: str = "alive", *, ready: bool = True, is_master: bool = False, role: str = "fault") -> Status:
    """`state`, `ready` and `is_master` are of the other node, `role` is of this one."""
    carried = CarriedView("web", "standby", ready=ready, master_since=1.0 if is_master else None)
    other = replace(node("haproxy2", {}), state=state, carries=(carried,))
    web = replace(instance("web"), role=Standing(role, 1.0, "a drill"))
    return replace(PAIR, instances=(web,), nodes=(PAIR.nodes[0], other), drill=DRILL)


class Play:
    def __init__(self, fault: Fault, status: Status | None, *, observed: bool = False) -> None:
        self.now, self.told = 0.0, (100, 0)
        self.watch = SimpleNamespace(status=status)
        observer = SimpleNamespace(is_probing=True, probes_so_far=lambda: self.told)
        self.lifeline = Lifeline(
            fault, instance("web"), cast(Any, [observer] * observed), cast(Any, self.watch), lambda: self.now
        )

    def until(self, end: float) -> str:
        while self.now < end:
            if said := self.lifeline.broken():
                return said
            self.now += 0.1
            self.tell()
        return ""

    def tell(self) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (during("silent"), "no node could carry web: haproxy2 is silent"),
        (during("silent", is_master=True), "no node could carry web: haproxy2 is silent"),
        (during(ready=False), "no node could carry web: haproxy2 is not ready"),
        (replace(during(), drill=None), "the daemon knows of no drill any more; was it restarted?"),
    ],
)
def test_a_check_counts_as_it_is_at_once_where_no_node_could_carry_the_instance(status: Status, says: str) -> None:
    play = Play(CHECK, status)
    assert play.until(CONFIRMED + 0.2) == says


def test_a_node_that_is_ready_has_time_to_take_over() -> None:
    play = Play(CHECK, during())
    assert play.until(PATIENCE - 0.2) == ""
    assert play.until(PATIENCE + 1) == "no node carries web"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (CHECK, during(is_master=True)),
        (CHECK, during(is_master=True, ready=False)),
        (CHECK, during("silent", role="master")),
        (CHECK, None),
        (CHECK, replace(during(), nodes=())),
        (CutOff(), during("silent", role="backup")),
        (STOP, None),
    ],
)
def test_a_fault_lasts_its_time_where_another_serves_or_this_node_cannot_know(
    fault: Fault, status: Status | None
) -> None:
    assert Play(fault, status).until(30.0) == ""


class NoAnswers(Play):
    def tell(self) -> None:
        sent, lost = self.told
        self.told = sent + 5, lost + 5


@pytest.mark.parametrize("fault", [CHECK, STOP])
def test_a_fault_ends_early_when_no_observer_gets_an_answer(fault: Fault) -> None:
    play = NoAnswers(fault, during(is_master=True), observed=True)
    assert play.until(PATIENCE - 0.2) == ""
    assert play.until(PATIENCE + 1).startswith("no probe was answered for 3")


@pytest.mark.parametrize("fault", [CutOff(), Handover("web", "", force=False)])
def test_what_ends_by_itself_or_hides_the_observer_is_not_ended_by_it(fault: Fault) -> None:
    assert NoAnswers(fault, None, observed=True).until(30.0) == ""


def test_an_observer_that_is_not_heard_of_says_nothing() -> None:
    assert Play(STOP, None, observed=True).until(30.0) == ""


def test_what_comes_between_the_preflight_and_the_fault_keeps_it_from_being_made() -> None:
    was = during(role="master")
    assert hindrance(was, was, "web") == ""
    assert hindrance(was, during("silent", role="master"), "web") == "not ready any more: haproxy2"
    assert hindrance(was, during(role="backup"), "web") == "this node does not carry web any more"
    assert hindrance(was, None, "web") == "the daemon does not answer any more"
    others = (was.nodes[0], replace(was.nodes[1], drill=True))
    assert hindrance(was, replace(was, nodes=others), "web") == "a drill runs on haproxy2"
