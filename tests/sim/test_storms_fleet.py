"""Some storms of nodes with etcd as arbiter with each run of the tests; `make sim` plays ten thousand."""

import pytest

from tests.sim.storm_fleet import play


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_nothing_forbidden_is_seen_in_a_storm_of_nodes_with_etcd(first: int) -> None:
    for seed in range(first, first + 20):
        report = play(seed)
        assert not report.violations, "\n".join([f"SEED={seed}", *report.score, *report.violations])
