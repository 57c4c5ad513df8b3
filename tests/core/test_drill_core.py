"""A drill in the core: a check that counts as failed for a while, and what stands against a drill."""

from dataclasses import replace
from typing import Any

from floatip.core.bgp.rank import Rank
from floatip.core.drill import objections
from floatip.core.election.elector import Role
from floatip.core.events import Became, Drill, Drilled
from floatip.core.health import CheckState, Health
from floatip.core.settings import Check, Static
from tests.core.host import CONFIG, SICK, Host, backup, config, master, problems, status

DRILL = Drill("VI_1", "check", "started by root, pid 7", 10.0, "web")


def check(*results: bool) -> CheckState:
    made = CheckState(Check("web", pushed=True), now=0)
    for result in results:
        made.done(0, result, "it said so", 1.0)
    return made


def test_a_check_that_a_drill_takes_as_failed_is_down_at_once_and_up_again_at_once() -> None:
    web = check(True)
    assert web.take_as_failed("a drill", 2.0) == [Became("check", "web", "down", "a drill")]
    assert (web.health, web.reason, web.since) == (Health.DOWN, "a drill", 2.0)
    assert web.take_as_it_is(5.0) == [Became("check", "web", "up", "the drill is over: it said so")]
    assert (web.health, web.since) == (Health.UP, 5.0)
    assert web.take_as_it_is(6.0) == []


def test_a_service_that_fails_during_a_drill_is_down_after_it() -> None:
    web = check(True)
    web.take_as_failed("a drill", 2.0)
    assert web.done(0, False, "it really fails", 3.0) == []
    assert web.reason == "a drill"
    assert web.take_as_it_is(5.0) == [Became("check", "web", "down", "the drill is over: it really fails")]


def test_what_a_check_says_does_not_grow_with_each_drill() -> None:
    web = check(True)
    for at in (2.0, 6.0):
        web.take_as_failed("a drill", at)
        web.take_as_it_is(at + 1)
    assert web.reason == "the drill is over: it said so"


def test_a_service_that_recovers_during_a_drill_stays_down_until_its_end() -> None:
    web = check(True)
    web.take_as_failed("a drill", 2.0)
    web.done(0, False, "fails", 3.0)
    assert web.done(0, True, "is back", 4.0) == []
    assert web.health is Health.DOWN
    web.take_as_it_is(5.0)
    assert web.health is Health.UP


def test_a_drill_makes_the_node_withdraw_and_its_end_brings_it_back() -> None:
    host = master()
    host.tell(Drilled(DRILL))
    assert host.role is Role.MASTER, "it is only known by now"
    assert "check down" in host.tell(Drilled(replace(DRILL, fails=True)))
    assert (host.role, host.rank) == (Role.FAULT, Rank.NONE)
    assert status(host)["drill"] == {
        "instance": "VI_1",
        "fault": "check",
        "check": "web",
        "fails": True,
        "by": "started by root, pid 7",
        "left": 10.0,
    }
    assert [code for code, _ in problems(host)] == ["unhealthy"]
    assert (
        "drill-runs",
        "a drill rehearses a failover of VI_1: check, check web counts as failed; started by root, pid 7, "
        "for at most 10 s more",
    ) in problems(host, "warning")
    assert "check up" in host.tell(Drilled(None))
    assert host.role is not Role.FAULT
    assert status(host)["drill"] is None


def test_a_drill_whose_command_hangs_ends_after_its_time() -> None:
    host = master()
    host.tell(Drilled(replace(DRILL, fails=True)))
    host.run(host.now + 9.5)
    assert host.role is Role.FAULT
    host.run(host.now + 1)
    assert host.role is not Role.FAULT
    assert host.node.drill is None
    assert host.tell(Drilled(None)) == [], "its connection ends later"


def test_a_reload_leaves_a_drill_as_it_is() -> None:
    host = master()
    host.tell(Drilled(replace(DRILL, fails=True)))
    host.reload(CONFIG)
    assert host.role is Role.FAULT
    host.run(host.now + 11)
    assert host.role is not Role.FAULT


def test_a_check_that_a_reload_replaces_counts_as_failed_until_the_end_of_the_drill() -> None:
    host = master()
    host.tell(Drilled(replace(DRILL, fails=True)))
    (web,) = (one for one in CONFIG.checks if one.name == "web")
    host.reload(replace(CONFIG, checks=(replace(web, pushed=not web.pushed),)))
    assert "a drill counts it as failed" in host.node.checks["web"].reason
    assert host.role is Role.FAULT


def against(host: Host, **changes: Any) -> dict[str, bool]:
    """What stands against a drill, and whether it may be forced."""
    return {one.what: one.may_force for one in objections(host.node, replace(DRILL, **changes), host.now)}


UNKNOWN = "whether another node is ready is not known: no [[node]] is configured"


def test_nothing_but_what_the_node_cannot_know_stands_against_a_drill_on_a_master() -> None:
    assert against(master()) == {UNKNOWN: True}


def test_each_reason_against_a_drill_is_named() -> None:
    assert against(backup())["this node does not carry VI_1"] is False
    host = master()
    assert against(host, instance="mail")["there is no instance mail"] is False
    assert against(host, check="disk")["VI_1 has no check disk"] is False
    assert against(host, fault="handover")["VI_1 cannot be handed over: VRRP elects its master"] is False
    assert against(Host())["BGP sessions of this node are younger than 30 s: 1 of 1"] is True
    host.tell(Drilled(DRILL))
    assert against(host)["a drill runs on this node: check of VI_1, started by root, pid 7"] is False


def test_a_problem_stands_against_a_drill_unless_forced() -> None:
    host = master()
    host.tell(SICK)
    found = against(host)
    assert found["problem unhealthy: VI_1 is not healthy: check web: exit status 1"] is True
    assert found["this node does not carry VI_1"] is False


def test_a_third_withdrawal_within_five_minutes_would_damp_the_node() -> None:
    host = master()
    damps = "one more withdrawal of VI_1 within five minutes damps this node for five minutes"
    for _ in range(2):
        assert damps not in against(host)
        host.tell(Drilled(replace(DRILL, fails=True)))
        host.tell(Drilled(None))
        host.run(host.now + 30)
    assert against(host)[damps] is True
    assert damps not in against(host, fault="cut")
    host.run(host.now + 300)
    assert damps not in against(host)


def test_a_role_that_is_configured_cannot_be_rehearsed() -> None:
    assert (
        against(master(config(election=Static("primary"))))["the role of VI_1 is configured: no node takes it over"]
        is False
    )
