"""The alert rules and the dashboard that the package brings, judged by promtool."""

import json
import re
from pathlib import Path

import pytest

from floatip.core.counters import Cause
from tests.web.promtool import ALERTS, DASHBOARD, expressions, firing, promtool

ONE, TWO = 'job="floatip",instance="haproxy1:8179"', 'job="floatip",instance="haproxy2:8179"'
UP = "1x500"
Expected = dict[str, dict[str, int]]
"""By the time, how many alerts of each name fire."""
GUIDE = Path(__file__).parents[2] / "docs" / "operate" / "monitoring.md"


def node(labels: str, role: str, other: str) -> dict[str, str]:
    """A node that is well: its series, a value each 15 s for two hours."""
    states = {each: f"{int(each == role)}x500" for each in ("init", "backup", "master", "fault")}
    return {
        f'floatip_build_info{{{labels},version="1.0"}}': UP,
        f'floatip_instance_info{{{labels},iname="VI_1",election="nodes"}}': UP,
        **{f'floatip_instance_state{{{labels},iname="VI_1",state="{each}"}}': at for each, at in states.items()},
        f'floatip_instance_ready{{{labels},iname="VI_1"}}': UP,
        f'floatip_became_master_total{{{labels},iname="VI_1"}}': "1x500",
        f'floatip_check_up{{{labels},check="haproxy"}}': UP,
        **{f'floatip_bgp_session_up{{{labels},peer="2001:db8::{n}",peer_as="65000"}}': UP for n in (1, 2)},
        f'floatip_node_up{{{labels},node="{other}"}}': UP,
        f"floatip_drained{{{labels}}}": "0x500",
        f"floatip_paused{{{labels}}}": "0x500",
        f'floatip_problems{{{labels},code="peer-unheard",severity="note"}}': UP,
        f'floatip_loop_lateness_seconds_bucket{{{labels},le="0.002"}}': "0+150x500",
        f'floatip_loop_lateness_seconds_bucket{{{labels},le="0.25"}}': "0+150x500",
        f'floatip_loop_lateness_seconds_bucket{{{labels},le="+Inf"}}': "0+150x500",
    }


PAIR = node(ONE, "master", "haproxy2") | node(TWO, "backup", "haproxy1")


def state(labels: str, role: str) -> str:
    return f'floatip_instance_state{{{labels},iname="VI_1",state="{role}"}}'


def ended(labels: str) -> dict[str, str]:
    """The series of a node that does not answer any more after five minutes: Prometheus marks them as stale."""
    return {name: values.replace("x500", "x20 stale") for name, values in PAIR.items() if labels in name}


def after(minutes: int, before: str, then: str) -> str:
    return f"{before}x{4 * minutes} {then}x400"


def test_promtool_accepts_the_rules() -> None:
    assert promtool("check", "rules", str(ALERTS)) == ""


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    assert firing(PAIR, {at: {} for at in ("1m", "10m", "90m")}, tmp_path) == ""


def test_a_failover_is_no_alarm_but_what_is_left_of_it_is(tmp_path: Path) -> None:
    """haproxy1 vanishes after five minutes, and haproxy2 takes over at the next scrape."""
    taken = {
        state(TWO, "backup"): after(5, "1", "0"),
        state(TWO, "master"): after(5, "0", "1"),
        f'floatip_became_master_total{{{TWO},iname="VI_1"}}': after(5, "0", "1"),
        f'floatip_node_up{{{TWO},node="haproxy1"}}': after(5, "1", "0"),
    }
    left = {"FloatipDown": 1, "FloatipNodeSilent": 1}
    expected: Expected = {"5m": {}, "5m30s": {}, "7m": left, "12m": left | {"FloatipNoStandby": 1}}
    assert firing(PAIR | ended(ONE) | taken, expected, tmp_path) == ""


def test_a_planned_handover_is_no_alarm(tmp_path: Path) -> None:
    """Both are master for a scrape: make before break."""
    moved = {
        state(ONE, "master"): "1x21 0x400",
        state(ONE, "backup"): "0x21 1x400",
        state(TWO, "master"): "0x20 1x400",
        state(TWO, "backup"): "1x20 0x400",
    }
    assert firing(PAIR | moved, {at: {} for at in ("5m", "5m15s", "5m30s", "6m", "12m")}, tmp_path) == ""


def test_a_split_brain_fires_and_says_who_does_not_hear_whom(tmp_path: Path) -> None:
    split = {
        state(TWO, "backup"): after(5, "1", "0"),
        state(TWO, "master"): after(5, "0", "1"),
        f'floatip_node_up{{{ONE},node="haproxy2"}}': after(5, "1", "0"),
        f'floatip_node_up{{{TWO},node="haproxy1"}}': after(5, "1", "0"),
    }
    expected: Expected = {"5m15s": {}, "6m": {"FloatipTwoMasters": 1, "FloatipNodeSilent": 2}}
    assert firing(PAIR | split, expected, tmp_path) == ""


def test_two_nodes_with_a_fixed_role_are_no_split_brain(tmp_path: Path) -> None:
    fixed = {name.replace('election="nodes"', 'election="static"'): values for name, values in PAIR.items()}
    fixed |= {state(TWO, "master"): UP, state(TWO, "backup"): "0x500"}
    assert firing(fixed, {"10m": {}}, tmp_path) == ""


def test_one_dead_session_warns_and_all_of_them_alarm_at_once(tmp_path: Path) -> None:
    first, second = (f'floatip_bgp_session_up{{{ONE},peer="2001:db8::{n}",peer_as="65000"}}' for n in (1, 2))
    dead = {first: after(5, "1", "0"), second: after(10, "1", "0")}
    expected: Expected = {
        "5m30s": {},
        "7m": {"FloatipSessionDown": 1},
        "10m45s": {"FloatipSessionDown": 1, "FloatipAllSessionsDown": 1},
        "12m": {"FloatipSessionDown": 2, "FloatipAllSessionsDown": 1},
    }
    assert firing(PAIR | dead, expected, tmp_path) == ""


def test_series_that_are_absent_alarm(tmp_path: Path) -> None:
    gone = ended(ONE) | ended(TWO)
    assert firing(gone, {"7m": {"FloatipAbsent": 1, "FloatipDown": 2}}, tmp_path) == ""
    assert firing({}, {"2m": {"FloatipAbsent": 1}}, tmp_path) == ""


OTHERS: dict[str, tuple[dict[str, str], Expected]] = {
    "no master": ({state(ONE, "master"): after(5, "1", "0")}, {"5m": {}, "6m": {"FloatipNoMaster": 1}}),
    "second chance": (
        {f'floatip_second_chance_usable{{{ONE},node="haproxy2"}}': after(5, "1", "0")},
        {"14m": {}, "16m": {"FloatipSecondChanceLost": 1}},
    ),
    "no second chance": ({f'floatip_second_chance_usable{{{ONE},node="haproxy2"}}': "0x500"}, {"30m": {}}),
    "fault": ({state(TWO, "fault"): after(5, "0", "1")}, {"5m": {}, "5m45s": {"FloatipFault": 1}}),
    "not ready": (
        {f'floatip_instance_ready{{{TWO},iname="VI_1"}}': after(5, "1", "0")},
        {"9m": {}, "11m": {"FloatipNoStandby": 1}},
    ),
    "check": (
        {f'floatip_check_up{{{TWO},check="haproxy"}}': after(5, "1", "0")},
        {"5m45s": {}, "7m": {"FloatipCheckFailing": 1}},
    ),
    "flapping": (
        {f'floatip_became_master_total{{{TWO},iname="VI_1"}}': "0x20 1x4 2x4 3x4 4x400"},
        {"5m": {}, "9m": {"FloatipFlapping": 1}, "30m": {}},
    ),
    "drained": ({f"floatip_drained{{{TWO}}}": after(5, "0", "1")}, {"60m": {}, "66m": {"FloatipDrained": 1}}),
    "paused": ({f"floatip_paused{{{TWO}}}": after(5, "0", "1")}, {"60m": {}, "66m": {"FloatipPaused": 1}}),
    "late": (
        {
            f'floatip_loop_lateness_seconds_bucket{{{ONE},le="0.002"}}': "0+140x500",
            f'floatip_loop_lateness_seconds_bucket{{{ONE},le="0.25"}}': "0+150x500",
        },
        {"3m": {}, "12m": {"FloatipLoopLate": 1}},
    ),
    "keepalived": (
        {f"floatip_keepalived_up{{{ONE}}}": after(5, "1", "0")},
        {"5m": {}, "6m": {"FloatipKeepalivedDown": 1}},
    ),
    "etcd": (
        {f"floatip_etcd_up{{{ONE}}}": after(5, "1", "0"), f"floatip_etcd_up{{{TWO}}}": UP},
        {"5m": {}, "5m30s": {"FloatipEtcdLost": 1}},
    ),
    "an endpoint": (
        {
            f'floatip_etcd_endpoint_up{{{ONE},endpoint="https://10.0.0.1:2379"}}': UP,
            f'floatip_etcd_endpoint_up{{{ONE},endpoint="https://10.0.0.2:2379"}}': after(5, "1", "0"),
        },
        {"5m45s": {}, "7m": {"FloatipEtcdMemberDown": 1}},
    ),
    "no owner": (
        {
            f'floatip_instance_owned{{{ONE},iname="VI_1"}}': after(5, "1", "0"),
            f'floatip_instance_owned{{{TWO},iname="VI_1"}}': after(5, "1", "0"),
        },
        {"5m15s": {}, "6m": {"FloatipNobodyOwns": 1}},
    ),
    "another owner": (
        {
            f"floatip_etcd_up{{{ONE}}}": UP,
            f"floatip_etcd_up{{{TWO}}}": UP,
            f'floatip_instance_owner{{{ONE},iname="VI_1"}}': after(5, "1", "0"),
            f'floatip_instance_owner{{{TWO},iname="VI_1"}}': after(5, "0", "1"),
        },
        {"5m15s": {}, "6m": {"FloatipEtcdDisagrees": 1}},
    ),
    "problem": (
        {f'floatip_problems{{{ONE},code="not-held",severity="problem"}}': "_x20 1x400"},
        {"9m": {}, "11m": {"FloatipProblem": 1}},
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_each_of_the_others_fires_for_its_cause_and_not_before_its_time(what: str, tmp_path: Path) -> None:
    changes, expected = OTHERS[what]
    assert firing(PAIR | changes, expected, tmp_path) == ""


def test_two_reboots_in_a_quarter_of_an_hour_are_no_flapping(tmp_path: Path) -> None:
    became = {f'floatip_became_master_total{{{TWO},iname="VI_1"}}': "1x20 _x4 0x2 1x10 _x4 0x2 1x400"}
    assert firing(PAIR | became, {"12m": {}, "15m": {}}, tmp_path) == ""


def test_an_instance_may_have_any_name(tmp_path: Path) -> None:
    """Names come through the templates of the alerts as they are."""
    name = 'a \\"}} <b> {{ $value }} \\\\ é'
    evil = {series.replace('iname="VI_1"', f'iname="{name}"'): values for series, values in (PAIR | ended(ONE)).items()}
    evil[state(TWO, "master").replace("VI_1", name)] = "0x500"
    expected: Expected = {"4m": {}, "12m": {"FloatipNoMaster": 1, "FloatipDown": 1, "FloatipNoStandby": 1}}
    assert firing(evil, expected, tmp_path) == ""


def test_each_alert_is_explained_in_the_guide() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert re.findall(r"^\| `(Floatip\w+)` \|", GUIDE.read_text(), re.MULTILINE) == alerts


def test_the_guide_names_each_cause_of_a_change_of_role() -> None:
    (causes,) = re.findall(r"the causes are (.*?) \|", GUIDE.read_text())
    assert re.findall(r"`(\w+)`", causes) == [*Cause]


def test_prometheus_accepts_the_configuration_that_the_guide_shows(tmp_path: Path) -> None:
    first, second = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    file = tmp_path / "prometheus.yml"
    file.write_text(first + second)
    assert promtool("check", "config", "--syntax-only", str(file)) == ""


def test_prometheus_understands_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": "panel", "expr": one, "labels": {"title": title}} for title, one in expressions().items()]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert promtool("check", "rules", str(file)) == ""
    assert not any("$" in one for one in expressions().values())


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
