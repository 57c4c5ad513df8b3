"""What checks do to the priority of an instance, and which of their results are a fault."""

from dataclasses import replace
from typing import Any

import pytest

from floatip.core.election.elector import Role
from floatip.core.events import Became, CheckDone, Disconnected, Effect
from floatip.core.health import CheckState, Health
from floatip.core.settings import Check, Settings, Track
from floatip.core.tracks import shift, tracked
from tests.core.host import CONFIG, RS, WEB, Host, advert, backup, config, elected, master, words

UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN


def state(health: Health, value: int | None = None, name: str = "web") -> CheckState:
    check = CheckState(Check(name, pushed=True), now=0)
    if health is not UNKNOWN:
        check.done(0, health is UP, "it said so", 1, value)
    return check


@pytest.mark.parametrize(
    ("weight", "reverse", "up", "down"),
    [(20, False, 20, 0), (-20, False, 0, -20), (20, True, -20, 0), (-20, True, 0, 20)],
)
def test_reverse_turns_the_sign_of_the_weight_round(weight: int, reverse: bool, up: int, down: int) -> None:
    """So keepalived's adverts show it; the difference alone would be the same if up and down were swapped."""
    expected = {UP: up, DOWN: down, UNKNOWN: 0}
    assert {health: shift(Track("web", weight, reverse), state(health)) for health in Health} == expected


@pytest.mark.parametrize(
    ("value", "weight", "reverse", "by", "health"),
    [
        (7, 2, False, 14, UP),
        (7, -2, False, -14, UP),
        (7, 2, True, -14, UP),
        (0, 5, False, 0, UP),
        (300, 1, False, 253, UP),
        (-253, 1, False, -253, UP),
        (-254, 1, False, -254, DOWN),
        (100, -3, False, -254, DOWN),
        (0, 0, False, 0, UP),
        (7, 0, False, 0, DOWN),
        (7, 0, True, 0, UP),
    ],
)
def test_a_number_is_multiplied_with_its_weight_and_a_great_loss_is_a_fault(
    value: int, weight: int, reverse: bool, by: int, health: Health
) -> None:
    check = state(UP if value == 0 else DOWN, value)
    verdict = tracked([], [(Track("web", weight, reverse), check)]).judge()
    assert (verdict.shift, verdict.health) == (by, health)


@pytest.mark.parametrize(("of_check", "of_instance"), [(UP, DOWN), (DOWN, UP), (UNKNOWN, UNKNOWN)])
def test_weight_0_reverse_is_a_fault_while_the_check_is_up(of_check: Health, of_instance: Health) -> None:
    assert tracked([], [(Track("maintenance", 0, True), state(of_check))]).judge().health is of_instance


def test_a_weighted_check_without_a_result_neither_counts_nor_keeps_the_instance_waiting() -> None:
    verdict = tracked([state(UP)], [(Track("haproxy", -20), state(UNKNOWN, name="haproxy"))]).judge()
    assert (verdict.health, verdict.shift, verdict.why) == (UP, 0, "")


def test_all_weights_are_added_up_and_each_has_its_sentence() -> None:
    tracks = [
        (Track("a", -20), state(DOWN, name="a")),
        (Track("b", 5), state(UP, name="b")),
        (Track("c", 2), state(DOWN, 3, name="c")),
        (Track("d", 9), state(DOWN, name="d")),
    ]
    verdict = tracked([], tracks).judge()
    assert (verdict.shift, verdict.why) == (-9, " - 20 (check a is down) + 5 (check b is up) + 6 (check c says 3)")


# In a node

HAPROXY = Check("haproxy", pushed=True)
WEIGHTED = replace(config(tracks=(Track("haproxy", -20),)), checks=(*CONFIG.checks, HAPROXY))


def done(passed: bool, check: str = "haproxy", value: int | None = None) -> CheckDone:
    return CheckDone(check, 0, passed, "it said so", value)


def said(host: Host, event: Any) -> list[Effect]:
    effects = host.node.handle(event, host.now)
    host.perform(effects)
    return effects


def test_a_master_whose_check_fails_stays_master_with_a_lower_priority_that_it_says_at_once() -> None:
    host = master(WEIGHTED)
    effects = said(host, done(False))
    assert words(effects) == ["check down", "advert 30", "priority 30", "active 192.0.2.10"]
    assert Became("priority", "VI_1", "30", "50 - 20 (check haproxy is down)") in effects
    assert host.role is Role.MASTER
    effects = said(host, done(True))
    assert Became("priority", "VI_1", "50", "no check changes it") in effects


def test_a_backup_whose_check_passes_again_takes_over_from_a_master_that_is_lower_then() -> None:
    host = Host(WEIGHTED)
    host.tell(done(False))
    host.adverts_from_peer = 40
    host.run(30)
    assert host.role is Role.BACKUP
    host.tell(done(True))
    assert host.run(35).role is Role.MASTER


def test_an_address_owner_has_no_weights() -> None:
    host = Host(replace(WEIGHTED, instances=(replace(WEIGHTED.instances[0], election=elected(priority=255)),)))
    assert host.role is Role.MASTER
    assert "advert 235" not in host.tell(done(False))
    assert host.run(2).when("advert 235") == []


def test_a_number_that_changes_moves_the_priority_though_its_check_stays_down() -> None:
    host = master(replace(WEIGHTED, instances=(replace(WEB, tracks=(Track("haproxy", 2),)),)))
    assert host.tell(done(False, value=3))[:2] == ["check down", "advert 56"]
    assert host.tell(done(False, value=4)) == ["advert 58", "priority 58", "active 192.0.2.10"]


def test_a_track_that_a_reload_adds_or_takes_away_changes_the_priority_and_no_role() -> None:
    host = master(replace(WEIGHTED, instances=(WEB,)))
    host.tell(done(False))
    assert host.reload(WEIGHTED)[:2] == ["advert 30", "priority 30"]
    assert host.reload(replace(WEIGHTED, instances=(WEB,)))[:2] == ["advert 50", "priority 50"]
    assert host.when("role backup") == [0.0]


def test_a_quorum_counts_like_a_check_and_a_quorum_of_quorums_too() -> None:
    parts = [Check(name, pushed=True) for name in "abc"]
    two = Check("two", of=("a", "b", "c"), quorum=2)
    no = Check("no", of=("two",), quorum=1, inverted=True)
    quorums = Settings(
        checks=(no, two, *parts), instances=(replace(WEB, checks=("two",), tracks=(Track("no", 0, True),)),)
    )
    host = Host(quorums)
    assert host.role is Role.INIT
    host.tell(done(True, "a"), done(False, "b"))
    assert host.role is Role.INIT
    assert host.tell(done(True, "c")) == [
        "check up",
        "check up",
        "check down",
        "health up",
        "role backup",
        "rank standby",
    ]
    assert host.tell(done(False, "a"))[:4] == ["check down", "check down", "check up", "health down"]


def test_checks_in_a_circle_stay_unknown_and_harm_nobody() -> None:
    circle = (Check("a", of=("b",)), Check("b", of=("a",)), *CONFIG.checks)
    assert master(replace(CONFIG, checks=circle)).role is Role.MASTER


def test_a_check_of_the_sessions_follows_them() -> None:
    host = master(replace(config(checks=("bgp",)), checks=(Check("bgp", sessions=1),)))
    [(at, _)] = [(at, word) for at, word in host.log if word == "check up"]
    assert at < 1
    host.dialling_works = False
    host.tell(Disconnected(RS, "reset"))
    assert host.role is Role.FAULT


def test_a_check_knows_whether_this_node_is_master_with_it() -> None:
    minding = replace(CONFIG, checks=(replace(CONFIG.checks[0], master_fall=3),))
    assert master(minding).node.checks["web"].is_master
    host = master(minding)
    host.tell(advert(100))
    assert not host.node.checks["web"].is_master
    assert not backup(minding).node.checks["web"].is_master
