"""The soak's own rules: what is drawn from a seed, and what counts as a violation."""

from itertools import islice

import pytest

from floatip.lab.network import ROUTER
from floatip.lab.record import Record
from floatip.lab.scheduling import Delay
from floatip.observing.summary import ProbeResult
from tests.soak.judge import grown, judge
from tests.soak.kinds import KINDS, draw
from tests.soak.world import Footprint


def record(lost_from: float, lost_until: float, *, until: float = 20.0) -> Record:
    """A probe every 100 ms from 10 on."""
    times = [10 + number / 10 for number in range(round((until - 10) * 10))]
    probes = [ProbeResult("echo", at, not lost_from <= at < lost_until, who="haproxy1") for at in times]
    return Record(probes=probes, routes={ROUTER: []})


@pytest.mark.parametrize("placement", ["all", "master"])
def test_a_seed_always_gives_the_same_faults_and_each_kind_comes_up(placement: str) -> None:
    kinds = [name for name, kind in KINDS.items() if kind.bound(placement) is not None]
    first, second = (list(islice(draw(7, placement), 3 * len(kinds))) for _ in range(2))
    assert first == second
    assert sorted(first[: len(kinds)]) == sorted(kinds)
    assert first != list(islice(draw(8, placement), 3 * len(kinds)))


def test_only_an_outage_beyond_its_bound_is_a_violation() -> None:
    assert judge("cut", "haproxy1", record(12, 15), 10, 3.05, 1.0).violations == []
    (violation,) = judge("cut", "haproxy1", record(12, 15), 10, 2.95, 1.0).violations
    assert "echoes lost for 3.00 s, 2.00 s after the fault" in violation


def test_time_without_a_cpu_is_added_to_the_bound_and_what_was_before_the_fault_is_not_judged() -> None:
    delayed = record(12, 15)
    delayed.delays.append(Delay(12.5, 13.5))
    assert judge("cut", "haproxy1", delayed, 10, 2.1, 1.0).violations == []
    assert judge("cut", "haproxy1", record(12, 15), 15, 0, 1.0).violations == []


def test_an_outage_that_does_not_end_and_a_pair_that_is_not_calm_are_violations() -> None:
    assert judge("cut", "haproxy1", record(19, 30), 10, 5, 1.0).violations != []
    assert judge("cut", "haproxy1", record(30, 30), 10, 5, None).violations != []
    assert judge("cut", "haproxy1", record(30, 30, until=10), 10, 5, 1.0).violations == [
        "the observer has sent nothing"
    ]


def test_a_daemon_that_grows_is_a_violation() -> None:
    before = Footprint(27.0, 17, 4)
    assert grown([before], [Footprint(28.0, 17, 5)]) == []
    assert len(grown([before], [Footprint(40.0, 18, 40)])) == 3
    busy = Footprint(27.0, 19, 4)
    assert grown([before, busy], [busy]) == grown([before], [busy, before]) == []
