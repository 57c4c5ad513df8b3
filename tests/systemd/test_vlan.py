"""Each fault on floatip alone in a VLAN, with its verdicts, and on keepalived alone for the table.

RUNS=5 plays each five times.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from floatip.lab.layer2 import SharedLayer2
from tests.systemd.conftest import RUNS
from tests.systemd.faults import Fault, Outcome, play, shell
from tests.systemd.machines import Rack
from tests.systemd.pair import Pair
from tests.systemd.stacks import Stack, begin_to_build, settle, use
from tests.systemd.table import VLAN_TABLE
from tests.systemd.vlan import FAULTS, FLOATIP, KEEPALIVED, MARGIN


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


def test_a_keepalived_whose_check_needs_root_is_replaced_and_hands_over_first(pair: Pair) -> None:
    """`killall -0` may not signal another user's processes: adopt says so before anything stops."""
    use(pair, KEEPALIVED)
    master = settle(pair, KEEPALIVED)
    other = pair.other(master)
    pair.stack = None
    refused = other.run("floatip adopt --replace --yes 2>&1", check=False)
    assert "checks fail as the daemon runs them" in refused
    assert "--root" in refused
    assert other.succeeds("systemctl is-active keepalived")
    with pair.observed() as backup:
        other.run("floatip adopt --replace --root --yes")
    assert not [probe for probe in backup.record.seen.probes if not probe.ok]
    assert "--force, which lets it take over first" in master.run("floatip adopt --replace --yes 2>&1", check=False)
    replace = Fault("keepalived as master", shell("floatip adopt --replace --root --force --yes"), True, MARGIN, MARGIN)
    outcome = play(pair, KEEPALIVED, replace, master)
    print(outcome.report())
    assert all(verdict.holds for verdict in outcome.verdicts), outcome.report()
    assert FLOATIP.claims(other)
    assert not FLOATIP.claims(master)
    for node in (master, other):
        node.run("floatip adopt --undo --yes")
    settle(pair, KEEPALIVED)
