"""python -m tests.etcd_faults --runs 200 --seed 1: seeded faults on real etcd and real daemons.

Several runs are played side by side. Each has a seed of its own: the first, and those that follow. A run that breaks
a rule prints all that it has, and `python -m tests.etcd_faults.play --seed N --story` plays its faults again. Exit
status 1: there was one.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

RUN_TIMEOUT = 400.0


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    said: str
    figures: dict[str, Any] | None
    """None: it could not be played."""

    @property
    def is_good(self) -> bool:
        return self.figures is not None and self.figures["wrong"] == 0


def play(seed: int) -> Outcome:
    command = [sys.executable, "-m", "tests.etcd_faults.play", "--seed", str(seed), "--figures"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(seed, f"seed {seed}: not over after {RUN_TIMEOUT:g} s", None)
    said, _, last = done.stdout.rstrip("\n").rpartition("\n")
    try:
        return Outcome(seed, said + done.stderr, json.loads(last))
    except ValueError:
        return Outcome(seed, f"seed {seed}\n{done.stdout}{done.stderr}", None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etcd_faults")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, help="of the first run (default: a new one)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs side by side")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    began, outcomes = time.monotonic(), list[Outcome]()
    with ThreadPoolExecutor(options.workers) as pool:
        for outcome in pool.map(play, range(first, first + options.runs)):
            outcomes.append(outcome)
            bad = sum(not one.is_good for one in outcomes)
            print(outcome.said)
            print(f"{len(outcomes)} of {options.runs} runs, {bad} bad, {time.monotonic() - began:.0f} s", flush=True)
    return summarize(outcomes)


def summarize(outcomes: list[Outcome]) -> int:
    figures = [one.figures for one in outcomes if one.figures]
    bad = [one.seed for one in outcomes if not one.is_good]
    if figures:
        gaps = sorted(one["longest_gap"] for one in figures)
        print(f"{sum(one['samples'] for one in figures)} looks at the kernels of three nodes each")
        print(
            f"longest time between two of them: median of the runs {statistics.median(gaps) * 1e3:.1f} ms,"
            f" longest {gaps[-1] * 1e3:.1f} ms; {sum(one['late'] for one in figures)} were above 2 ms"
        )
        print(f"{sum(one['moves'] for one in figures)} times an address came to a node")
        print(f"{sum(one['asked'] for one in figures)} questions to etcd, in histories that are checked")
    print(f"{len(outcomes)} runs, {len(bad)} broke a rule or could not be played" + (f": seeds {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
