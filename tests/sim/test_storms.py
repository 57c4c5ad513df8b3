"""Some hundred storms with each run of the tests; `make sim` plays ten thousand."""

import os
import subprocess
import sys
from typing import Any

import pytest

from floatip.core.settings import Hmac
from tests.sim.storm import StormOfKind, play, report_of, storm

SIGNED = {"hmac": Hmac(((1, bytes(range(32))),), 1)}
MULTICAST: dict[str, Any] = {"peers": ()}


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_nothing_forbidden_is_seen_in_a_storm(first: int) -> None:
    for seed in range(first, first + 20):
        report = play(seed)
        assert not report.violations, "\n".join([f"SEED={seed}", *report.score, *report.violations])


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_nothing_forbidden_is_seen_in_a_storm_of_nodes_that_elect_over_the_link(first: int) -> None:
    for seed in range(first, first + 10):
        report = play(seed, linked=1)
        assert not report.violations, "\n".join([f"SEED={seed}", *report.score, *report.violations])


@pytest.mark.parametrize("vrrp", [SIGNED, MULTICAST, SIGNED | MULTICAST], ids=["signed", "multicast", "both"])
@pytest.mark.parametrize("first", range(0, 20, 10))
def test_nothing_forbidden_is_seen_in_a_storm_of_other_kinds_of_adverts(vrrp: dict[str, Any], first: int) -> None:
    for seed in range(first, first + 10):
        report = report_of(StormOfKind(seed, **vrrp), seed)
        assert not report.violations, "\n".join([f"SEED={seed}", *report.score, *report.violations])


@pytest.mark.parametrize(
    "seed", [3, 4, 5, 40], ids=["by itself", "on a shared layer 2", "beside keepalived", "over the link"]
)
def test_the_same_seed_gives_the_same_score_whatever_the_order_of_sets_and_hashes(seed: int) -> None:
    script = f"from tests.sim.storm import storm; s = storm({seed}); s.play(); print('\\n'.join(s.world.score()))"
    scores = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    played = storm(seed)
    played.play()
    assert scores == {"\n".join(played.world.score()) + "\n"}
