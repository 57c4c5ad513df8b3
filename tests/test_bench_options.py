"""What the benchmarks refuse before they begin, which some of them said minutes later, or by a traceback."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--only", "idle,"), "unknown parts: ''"),
        (("--rounds", "0"), "'0' is not a whole number between 1 and 1000"),
        (("--connections", "99999999"), "'99999999' is not a whole number between 1 and 20000"),
        (("--json", "/nowhere/rows.json"), "--json: /nowhere is no directory"),
    ],
)
def test_options_that_lead_nowhere_are_refused_at_once(words: tuple[str, str], why: str) -> None:
    command = [sys.executable, "-m", "bench.second_chance_load", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert why in done.stderr
