"""`floatip drill --fault stop` on hosts with a real systemd: it goes as it says, and heals also when it is killed."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.systemd.machines import Machine, Rack
from tests.systemd.nodes import NODES_STACK, season
from tests.systemd.pair import Pair
from tests.systemd.stacks import begin_to_build, claims, is_announced, settle, status, use

WHOLE_WITHIN = 10.0
STEPS = (
    "the drill is known to the daemon",
    "what undoes the fault stands ready",
    "systemctl stop floatip",
    "the fault is made",
    "systemctl start floatip",
)
UNITS = "floatip-drill-guard.service floatip-drill-start.timer floatip-drill-start.service"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        made = Pair(rack, exits)
        use(made, NODES_STACK)
        yield made


def test_a_drill_stops_the_daemon_and_starts_it_again_and_reports_that(pair: Pair) -> None:
    master = settle(pair, NODES_STACK)
    season(pair)
    other = pair.other(master)
    before = status(master)["pid"]
    said = master.run("floatip drill --fault stop --for 4 --yes --report /root/drill.json --report /root/drill.html")
    assert "it held" in said
    assert f"{other.name} took web over after" in said
    assert "no guard and no timer is left" in said
    assert status(master)["pid"] != before
    assert claims(status(other)), "it stays there"
    report: dict[str, Any] = json.loads(master.run("cat /root/drill.json", quiet=True))
    assert report["method"]["fault"] == "stop"
    assert all(one["holds"] for one in report["restored"])
    assert master.succeeds("grep -q '<svg' /root/drill.html")
    assert not _units(master)


def test_a_drill_of_stop_that_is_killed_at_any_step_leaves_the_daemon_running_within_ten_seconds(pair: Pair) -> None:
    for step in STEPS:
        for victims in ("$pid", "$pid $(systemctl show --value --property MainPID floatip-drill-guard)"):
            if step == STEPS[0] and " " in victims:
                continue  # there is no guard yet
            master = settle(pair, NODES_STACK)
            took = _killed(pair, master, step, victims)
            print(f"killed at {step!r} ({victims}): whole after {took:.1f} s")


def test_a_terminal_that_is_closed_ends_the_drill_and_starts_the_daemon(pair: Pair) -> None:
    master = settle(pair, NODES_STACK)
    _begin(master, "the fault is made")
    master.run("kill -HUP $(cat /tmp/drill.pid)")
    assert _until_whole(pair, time.monotonic()) < WHOLE_WITHIN
    master.run("while kill -0 $(cat /tmp/drill.pid); do sleep 0.1; done 2>/dev/null; cat /tmp/drill.log")
    assert "ended early, by SIGHUP" in master.run("cat /tmp/drill.log", quiet=True)


def _begin(master: Machine, step: str) -> None:
    """Returns when it has said the step."""
    master.run(
        "setsid floatip drill --fault stop --for 4 --yes --force >/tmp/drill.log 2>&1 </dev/null & "
        f"echo $! >/tmp/drill.pid; until grep -q ' {step}' /tmp/drill.log; do sleep 0.02; done",
    )


def _killed(pair: Pair, master: Machine, step: str, victims: str) -> float:
    _begin(master, step)
    master.run(f"pid=$(cat /tmp/drill.pid); kill -KILL {victims}", check=False)
    return _until_whole(pair, time.monotonic())


def _until_whole(pair: Pair, since: float) -> float:
    wrong = _wrong(pair)
    while wrong and time.monotonic() < since + WHOLE_WITHIN:
        time.sleep(0.1)
        wrong = _wrong(pair)
    assert not wrong, f"after {WHOLE_WITHIN:g} s: {wrong}"
    return time.monotonic() - since


def _wrong(pair: Pair) -> str:
    for node in pair.nodes:
        if not node.succeeds("systemctl is-active --quiet floatip && floatip status --json >/dev/null"):
            return f"{node.name}: floatip does not run"
        told = status(node)
        if not is_announced(told) or told["drill"]:
            return f"{node.name}: {told['sessions']}, {told['drill']}"
        if left := _units(node):
            return f"{node.name}: {left}"
    carrying = [node.name for node in pair.nodes if claims(status(node))]
    return "" if len(carrying) == 1 else f"{carrying} carry it"


def _units(node: Machine) -> str:
    """What is left of guard and timer, and is not on its way out."""
    return node.run(f"systemctl list-units --no-legend --plain --state=active {UNITS}", quiet=True)
