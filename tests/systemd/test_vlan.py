"""Each fault on floatip alone in a VLAN, with its verdicts, and on keepalived alone for the table.

RUNS=5 plays each five times.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from floatip.lab.layer2 import SharedLayer2
from tests.systemd.conftest import RUNS
from tests.systemd.faults import Fault, Outcome, play
from tests.systemd.machines import Rack
from tests.systemd.pair import Pair
from tests.systemd.stacks import Stack, begin_to_build, settle, use
from tests.systemd.table import VLAN_TABLE
from tests.systemd.vlan import FAULTS, FLOATIP, KEEPALIVED


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        yield Pair(rack, exits, SharedLayer2)


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_floatip_alone_loses_no_more_than_the_docs_say(pair: Pair, fault: Fault, run: int) -> None:
    outcome = measure(pair, FLOATIP, fault)
    assert all(verdict.holds for verdict in outcome.verdicts), outcome.report()


def test_keepalived_alone_was_measured_in_the_same_faults(pair: Pair) -> None:
    outcomes = [measure(pair, KEEPALIVED, fault) for fault in FAULTS for _ in range(RUNS)]
    # No bound is asked of it. But where it is stopped the other must be master, else this is no pair of keepaliveds.
    stopped = [outcome for outcome in outcomes if outcome.fault.name == "systemctl stop"]
    assert [outcome.claiming for outcome in stopped] == [(outcome.other,) for outcome in stopped]


def measure(pair: Pair, stack: Stack, fault: Fault) -> Outcome:
    use(pair, stack)
    outcome = play(pair, stack, fault, settle(pair, stack))
    VLAN_TABLE.add(fault.name, stack.name, outcome.cost)
    print(outcome.report())
    return outcome
