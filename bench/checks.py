"""Hundreds of script checks: what they cost the daemon beside keepalived, and how late its adverts get.

The scripts' own time is not counted: they are the same for both. keepalived 2.2 runs a script once a second at most, so
what is faster is measured without it.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from bench.pairs import ONE, OTHER, PROGRAMS, SENDERS, Group, Pair, Plan, stage, wait_for
from bench.scale import Row, gaps, log
from bench.wire import Capture, Watch
from floatip.lab.scheduling import stolen

RATES: Sequence[tuple[str, int, float, Sequence[str]]] = (
    ("500 scripts, each once a second", 500, 1.0, PROGRAMS),
    ("50 scripts, each ten times a second", 50, 0.1, ("floatip",)),
    ("5 scripts, each a hundred times a second", 5, 0.01, ("floatip",)),
    ("no script", 0, 1.0, PROGRAMS),
)
SETTLE = 5.0
ADVERTS = 0.1
"""Seconds between two adverts."""


def measure(seconds: float) -> list[dict[str, object]]:
    rows = list(_rows(seconds))
    width = max(len(row.what) for row in rows)
    part = ""
    for row in rows:
        if row.part != part:
            part = row.part
            print(f"{part}:")
        beside = f"{row.keepalived:10.2f}  x{row.ratio:.2f}" if row.keepalived and row.ratio else ""
        print(f"  {row.what:{width}}  {row.floatip:10.2f}{beside}  {row.unit}", flush=True)
    return [{"part": row.part, "what": row.what, "floatip": row.floatip, "keepalived": row.keepalived} for row in rows]


def _rows(seconds: float) -> Iterator[Row]:
    for name, count, interval, programs in RATES:
        found = {program: _run(program, count, interval, seconds) for program in programs}
        for what, unit in found["floatip"]:
            keepalived = found["keepalived"][what, unit] if "keepalived" in found else None
            yield Row(name, what, unit, found["floatip"][what, unit], keepalived)


def _run(program: str, count: int, interval: float, seconds: float) -> dict[tuple[str, str], float]:
    with stage() as network, Capture(network, (ONE, OTHER), SENDERS) as capture:
        counter = Path(network.directory, "runs")
        counter.touch()
        script = Path(network.directory, "check")
        script.write_text(f"#!/bin/sh\necho >> {counter}\n")
        script.chmod(0o755)
        plan = Plan([Group(1, ONE, ("192.168.200.1/32",))], ADVERTS, False, (str(script),) * count, interval)
        pair = Pair(network, program, plan)
        pair.start(ONE)
        wait_for(lambda: (ONE, 1) in capture.adverts.copy(), "adverts", 60)
        time.sleep(SETTLE)
        with Watch(pair.senders()) as watch:
            since, before, runs, taken = time.monotonic(), pair.cpu()[ONE], counter.stat().st_size, stolen()
            time.sleep(seconds)
            until, after = time.monotonic(), pair.cpu()[ONE]
            runs = counter.stat().st_size - runs
            capture.settle()
            gap = gaps(capture, watch, plan, plan.groups, since, until)
            took = until - since
            times = [at for at in capture.sent(ONE, 1, since) if at < until]
            late = [max(0.0, later - earlier - ADVERTS) for earlier, later in pairwise(times)] or [took]
        log(f"{program}: {count} scripts each {interval:g} s, for {took:.0f} s; {stolen() - taken:.1f} s were stolen")
        return {
            ("runs", "1/s"): runs / took,
            ("CPU without the scripts'", "% of a core"): 100 * (after - before) / took,
            ("CPU a run", "us"): 1e6 * (after - before) / runs if runs else 0.0,
            ("adverts late, median", "ms"): 1000 * statistics.median(late),
            ("adverts late, p99", "ms"): 1000 * statistics.quantiles(late, n=100)[98],
            ("longest gap of an advert", "ms"): 1000 * gap.length,
            ("the same without what the machine made", "ms"): 1000 * gap.ours,
            ("RSS", "MB"): pair.rss(),
        }


if __name__ == "__main__":
    measure(10.0)
