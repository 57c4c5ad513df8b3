"""python -m tests.etcd_faults --runs 200 --seed 1: seeded faults on real etcd and real daemons.

Each sequence of faults has a seed of its own: the first, and those that follow. One that breaks a rule prints all that
is known, and `python -m tests.etcd_faults.play --seed N --story` plays its faults again. Exit status 1: there was one.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from statistics import median
from typing import Any

from tests.etcd_faults.play import FIGURES

IN_A_ROW = 10
"""Sequences that the same nodes and members go through: to start them takes as long as a sequence."""


def play(seed: int, sequences: int = IN_A_ROW, *more: str) -> list[dict[str, Any]]:
    """Prints what it says, as it comes. Returns its figures; without those of each sequence, it went wrong."""
    command = [sys.executable, "-m", "tests.etcd_faults.play", "--seed", str(seed), "--figures", *more]
    figures = list[dict[str, Any]]()
    said = list[str]()
    with subprocess.Popen(
        [*command, "--sequences", str(sequences)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(FIGURES):
                figures.append(json.loads(line.removeprefix(FIGURES)))
                print("".join(said), end="", flush=True)  # what is said of one sequence, without others in between
                said = []
            else:
                said.append(line)
    print("".join(said), end="", flush=True)
    if process.returncode and not any(one["wrong"] for one in figures):
        figures.append({"wrong": 1})
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etcd_faults")
    parser.add_argument("--runs", type=int, default=200, help="sequences of faults")
    parser.add_argument("--seed", type=int, help="of the first sequence (default: a new one)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="played side by side")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    end, began, figures = first + options.runs, time.monotonic(), list[dict[str, Any]]()
    with ThreadPoolExecutor(options.workers) as pool:
        groups = [pool.submit(play, seed, min(IN_A_ROW, end - seed)) for seed in range(first, end, IN_A_ROW)]
        for group in as_completed(groups):
            figures += group.result()
            played = sum("seed" in one for one in figures)
            print(f"{played} of {options.runs} sequences, {time.monotonic() - began:.0f} s", flush=True)
    return summarize(figures, options.runs)


def summarize(figures: list[dict[str, Any]], runs: int) -> int:
    played = [one for one in figures if "seed" in one]
    bad = sum(one["wrong"] for one in figures)
    if played:
        gaps = [one["longest_gap"] for one in played]
        samples, late = sum(one["samples"] for one in played), sum(one["late"] for one in played)
        print(f"{samples} looks at the kernels of all nodes, {late} of them later than 2 ms after the one before")
        print(
            f"longest time between two: median of the sequences {median(gaps) * 1e3:.1f} ms, {max(gaps) * 1e3:.1f} ms"
        )
        print(f"{sum(one['moves'] for one in played)} times an address came to a node")
        print(
            f"shortest time from leaving one node to coming to another: {min(one['closest'] for one in played):.4f} s"
        )
        print(f"{sum(one.get('asked', 0) for one in figures)} questions to etcd, whose histories are checked")
    print(f"{len(played)} of {runs} sequences played, rules broken: {bad}")
    return 1 if bad or len(played) < runs else 0


if __name__ == "__main__":
    sys.exit(main())
