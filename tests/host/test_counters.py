from dataclasses import fields

from floatip.core.events import Phases
from floatip.core.figures import HistogramsFigures, read
from floatip.host.figures import Counters
from tests.core.host import master


def counts(of: HistogramsFigures) -> dict[str, dict[float, int]]:
    """By name and bound, those that are not 0; infinity: above all bounds."""
    bounds = [*of.bounds, float("inf")]
    return {one.name: {b: n for b, n in zip(bounds, one.counts, strict=True) if n} for one in of.each}


def test_the_loop_is_late_by_the_time_that_passed_since_it_was_due() -> None:
    counters = Counters()
    for due, now in ((1.0, 1.0004), (1.0, 1.03), (1.0, 0.9999), (1.0, 60.0)):
        counters.woke(due, now)
    lateness = read(counters.answer(master().node)).lateness
    assert counts(lateness) == {"": {0.001: 2, 0.05: 1, float("inf"): 1}}


def test_a_takeover_counts_in_the_phases_that_it_had() -> None:
    counters = Counters()
    counters.took_over(0.31, 0.0004, 0.002, 0.02)
    counters.took_over(None, 0.0006, None, None)
    phases = read(counters.answer(master().node)).phases
    assert [one.name for one in phases.each] == [phase.name for phase in fields(Phases)]
    assert counts(phases) == {
        "detected": {0.5: 1},
        "decided": {0.001: 2},
        "wire": {0.005: 1},
        "acknowledged": {0.025: 1},
    }
