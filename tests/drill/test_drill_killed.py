"""A drill that is killed at each of its steps leaves the network whole within ten seconds.

Judged by the kernels, the daemons and a client, not by what the drill says. The faults are played side by side, each
in a lab of its own.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.drill.rig import Rig, rig

KNOWN = "the daemon knows of the drill"
READY = "what undoes the fault stands ready"
STEPS = {
    "check": (KNOWN, READY, "check trigger counts as failed", "the fault is made", "check trigger counts as it is"),
    "handover": (KNOWN, READY, "floatip handover", "the fault is made", "nothing is to be undone"),
    "cut": (KNOWN, READY, "nftables drops", "the fault is made", "the tables of nftables are removed"),
}
LATER = "3.2 s after the fault"
"""Later than a node takes itself for cut off."""
Outcome = dict[str, float]


def play(fault: str) -> Outcome:
    """Seconds until all was whole, for each step."""
    took: Outcome = {}
    with rig() as lab:
        for step in (*STEPS[fault], LATER, "all is as before"):
            lab.wait_until_whole(60.0)
            took[step] = _killed_at(lab, fault, step)
    return took


def _killed_at(lab: Rig, fault: str, step: str) -> float:
    drill = lab.drill(lab.master(), "--fault", fault, "--for", "3.5", "--yes", "--force")
    if step == LATER:
        drill.wait_for("the fault is made")
        time.sleep(3.2)
    else:
        drill.wait_for(f" {step}")
    drill.kill()
    return lab.wait_until_whole()


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    with ThreadPoolExecutor() as pool:
        yield {fault: pool.submit(play, fault) for fault in STEPS}


@pytest.mark.parametrize("fault", STEPS)
def test_a_drill_killed_at_any_step_leaves_the_network_whole_within_ten_seconds(
    outcomes: dict[str, Future[Outcome]], fault: str
) -> None:
    took = outcomes[fault].result()
    print(*(f"{fault}, killed at {step!r}: whole after {seconds:.2f} s" for step, seconds in took.items()), sep="\n")
    assert len(took) == len(STEPS[fault]) + 2
