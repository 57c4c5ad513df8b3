"""Each fault of the table on floatip beside keepalived, with its verdicts; and the guide's stack measured meanwhile.

RUNS=5 plays each five times.
"""

import pytest

from tests.systemd.conftest import RUNS, Figures
from tests.systemd.faults import FAULTS, GIVEN_UP_AFTER, Fault, play
from tests.systemd.pair import Pair
from tests.systemd.stacks import BESIDE, GUIDE, settle, use
from tests.systemd.table import TABLE


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_floatip_beside_keepalived_loses_nothing_by(guide_figures: Figures, pair: Pair, fault: Fault, run: int) -> None:
    use(pair, BESIDE)
    fault.prepare(pair)
    outcome = play(pair, BESIDE, fault, settle(pair, BESIDE))
    TABLE.add(fault.name, BESIDE.name, outcome.cost)
    print(outcome.report())
    assert all(verdict.holds for verdict in outcome.verdicts), outcome.report()


def test_the_stack_of_the_guide_was_measured_in_the_same_faults(guide_figures: Figures) -> None:
    figures = guide_figures()
    for each in figures:
        TABLE.add(each["fault"], GUIDE.name, each["cost"])
    assert {each["fault"] for each in figures} == {fault.name for fault in FAULTS if not fault.only_beside}
    trigger = [each["longest"] for each in figures if each["fault"] == FAULTS[0].name]
    # Six seconds are GoBGP's wait before it dials first; if they are gone, this is no longer the guide's stack.
    assert all(3 < longest < GIVEN_UP_AFTER for longest in trigger), figures
