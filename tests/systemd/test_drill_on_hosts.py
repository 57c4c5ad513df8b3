"""`floatip drill --fault stop` on hosts with a real systemd: it goes as it says, and heals also when it is killed."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.systemd.machines import Machine, Rack, wait_for
from tests.systemd.nodes import NODES_STACK, season
from tests.systemd.pair import Pair
from tests.systemd.stacks import begin_to_build, claims, settle, status, use

WHOLE_WITHIN = 10.0
STEPS = (
    "what undoes the fault stands ready",
    "systemctl stop floatip",
    "the fault is made",
    "systemctl start floatip",
)
GUARD = "$(systemctl show --value --property MainPID floatip-drill-guard)"
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
    assert "PASSED" in said
    assert f"{other.name} took web over after" in said
    assert "no guard and no timer is left" in said
    assert status(master)["pid"] != before
    assert claims(status(other)), "it stays there"
    report: dict[str, Any] = json.loads(master.run("cat /root/drill.json", quiet=True))
    assert report["method"]["fault"] == "stop"
    assert all(one["holds"] for one in report["restored"])
    assert master.succeeds("grep -q '<svg' /root/drill.html")
    assert not _units(master)


CASES = [*((step, "") for step in STEPS), ("the fault is made", GUARD)]


@pytest.mark.parametrize(("step", "also"), CASES)
def test_a_drill_of_stop_that_is_killed_leaves_the_daemon_running_within_ten_seconds(
    pair: Pair, step: str, also: str
) -> None:
    """`also`: what is killed with it. When the daemon was ready, systemd says."""
    master = settle(pair, NODES_STACK)
    _begin(master, step)
    killed = float(master.run(f"kill -KILL $(cat /tmp/drill.pid) {also}; cut -d' ' -f1 /proc/uptime").split()[-1])
    took = _ready_at(master) - killed
    print(f"killed at {step!r}{' with its guard' * bool(also)}: the daemon was ready after {max(took, 0):.2f} s")
    assert took < WHOLE_WITHIN
    settle(pair, NODES_STACK)
    wait_for(lambda: not _units(master), "guard and timer to end", WHOLE_WITHIN)


def test_a_terminal_that_is_closed_ends_the_drill_and_starts_the_daemon(pair: Pair) -> None:
    master = settle(pair, NODES_STACK)
    _begin(master, "the fault is made")
    master.run("kill -HUP $(cat /tmp/drill.pid); while kill -0 $(cat /tmp/drill.pid); do sleep 0.1; done 2>/dev/null")
    said = master.run("cat /tmp/drill.log")
    assert "ended early, by SIGHUP" in said
    assert "PASSED" in said
    assert not _units(master)
    settle(pair, NODES_STACK)


def _begin(master: Machine, step: str) -> None:
    """Returns when it has said the step."""
    master.run(
        "setsid floatip drill --fault stop --for 4 --yes --force >/tmp/drill.log 2>&1 </dev/null & "
        f"echo $! >/tmp/drill.pid; until grep -q ' {step}' /tmp/drill.log; do sleep 0.02; done",
    )


def _ready_at(master: Machine) -> float:
    """In seconds since the boot of this machine: when the daemon that runs, and goes on running, said that it is."""
    settled = "systemctl is-active --quiet floatip && ! systemctl list-jobs | grep -q floatip.service"
    wait_for(lambda: master.succeeds(settled), "floatip to run", 2 * WHOLE_WITHIN)
    return int(master.run("systemctl show --value --property=ActiveEnterTimestampMonotonic floatip", quiet=True)) / 1e6


def _units(node: Machine) -> str:
    """What is left of guard and timer."""
    return node.run(f"systemctl list-units --no-legend --plain --state=active {UNITS}", quiet=True)
