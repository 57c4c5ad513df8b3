"""The second chance on hosts with a real systemd, the packaged unit, and HAProxy: what a stop, a restart, an upgrade, a
reboot and crashes do to connections that are open.

TLS with keep-alive, idle connections as a WebSocket's, messages each 50 ms, an upload, a download and short connections
all last over the move.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from floatip.lab.verdicts import nothing_lost
from floatip.observing.summary import Summary
from tests.systemd.chance import Chanced, Load, kept_here, kept_there, left_in_kernel, loaded
from tests.systemd.faults import starved
from tests.systemd.machines import Machine, Rack, wait_for
from tests.systemd.pair import Observation, Pair
from tests.systemd.stacks import begin_to_build, claims, settle, status, use

CHANCED = Chanced()
TIMEOUT_STOP = 15.0
"""Seconds: TimeoutStopSec of the unit."""
MOVED_WITHIN = 10.0
STOPS_WITHIN = 8.0
"""Seconds from the end of the last connection to the end of a stop."""
STATE = "systemctl show --value --property=ActiveState floatip"
STATUS = "systemctl show --value --property=StatusText floatip"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        yield Pair(rack, exits)


@pytest.fixture
def master(pair: Pair) -> Machine:
    """Ready to be moved away from."""
    use(pair, CHANCED)
    return settle(pair, CHANCED)


def test_a_stop_waits_until_the_clients_have_closed_and_leaves_nothing_behind(pair: Pair, master: Machine) -> None:
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load:
        at = time.monotonic()
        master.run("systemctl stop --no-block floatip")
        moved(pair, other, master)
        wait_for(lambda: "open connections go on by" in said(master), "the status to say what is left", MOVED_WITHIN)
        print(said(master))
        assert kept_here(master) > 0
        time.sleep(max(0.0, at + TIMEOUT_STOP + 3 - time.monotonic()))
        assert state(master) == "deactivating", "it waits longer than TimeoutStopSec"
        master.run("systemctl status floatip; floatip status", check=False)
        load.end()
        stopped = wait_for(lambda: state(master) == "inactive", "the stop to end", 60) - load.ended_at
        print(f"it stopped {stopped:.2f} s after the last connection")
    none_failed(load)
    no_probe_lost(observation)
    assert stopped < STOPS_WITHIN
    assert left_in_kernel(pair, master) == []
    assert not master.succeeds("pgrep --full 'floatip[.]second_chance'")


def said(node: Machine) -> str:
    return node.run(STATUS, quiet=True)


def state(node: Machine) -> str:
    return node.run(STATE, quiet=True).strip()


def moved(pair: Pair, carrier: Machine, keeper: Machine) -> None:
    wait_for(lambda: claims(status(carrier)), f"{carrier.name} to take over", MOVED_WITHIN)
    wait_for(lambda: kept_there(carrier) > 0, f"connections of {keeper.name} to go on by it", MOVED_WITHIN)


def none_failed(load: Load) -> None:
    print(load.report())
    assert load.failures() == []


def no_probe_lost(observation: Observation) -> None:
    record = observation.record
    served = Summary.from_probes(probe for probe in record.probes if not starved(record, probe))
    verdicts = nothing_lost(served)
    print([verdict.text for verdict in verdicts])
    assert all(verdict.holds for verdict in verdicts), [verdict.text for verdict in verdicts]
