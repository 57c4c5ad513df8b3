"""keepalived, FRR and floatip as routers of one virtual router: what each change of master costs, in one run.

python -m bench.interop [--runs 3] [--only "version 3; 10 ms"] [--frr] [--json FILE]

A play is two routers of one configuration, and what happens to them: `tests/lab/vrrp/plays.py`. The times come from
the kernel, by netlink, as each address comes and goes. keepalived and floatip are scheduled as floatip's unit does it
(real-time). Each cell has three figures, in ms, medians of the runs: until the new master has the addresses; for how
long nobody had them; for how long two hosts had them. In a crash the first is counted from the last advert of the
master that crashed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from floatip.lab.namespaces import LabError, enter
from tests.lab.vrrp.kinds import Kind
from tests.lab.vrrp.plays import Broken, Play, Step

OURS, THEIRS, FRR = "floatip", "keepalived", "frr"
PAIRS = ((THEIRS, THEIRS), (OURS, OURS), (OURS, THEIRS), (THEIRS, OURS))
FRR_PAIRS = ((FRR, FRR), (OURS, FRR), (FRR, OURS), (FRR, THEIRS))
V2: dict[str, Any] = {"version": 2, "interval": 1}
KINDS = [
    Kind("version 2", **V2, begins_as_master=True),
    Kind("version 2, PASS", **V2, password="secret"),
    Kind("version 2, unicast", **V2, multicast=False),
    Kind("version 2, weight", **V2, check="weight"),
    Kind("version 3, 1 s", interval=1, check="weight"),
    Kind("version 3", check="fault"),
    Kind("unicast", multicast=False),
    Kind("weight", check="weight"),
    Kind("nopreempt", preempt=False),
    Kind("equal priorities", equal=True),
    Kind("owner", owner=True),
    Kind("sync group", groups=2, check="fault"),
    Kind("sync group, weight", groups=2, check="weight"),
    Kind("IPv6", family=6),
    Kind("IPv6, unicast", family=6, multicast=False),
    Kind("10 ms", interval=0.01),
    Kind("10 ms, weight", interval=0.01, check="weight"),
    Kind("10 ms, unicast", interval=0.01, multicast=False),
]
AT_ONCE = {1.0: 8, 0.1: 3, 0.01: 1}
"""Plays side by side, by advert interval: the shorter it is, the more a busy machine disturbs."""
JUDGED = ("stop", "crash", "check fails")
SLACK, SLACK_MS = 1.05, 5.0
"""How much worse than keepalived floatip may be: neither is as steady as this."""


def figures(step: Step) -> tuple[float, float, float]:
    """Milliseconds."""
    took = step.since_last_advert if step.name == "crash" else step.took
    return 1000 * took, 1000 * step.gap, 1000 * step.overlap


def _steps(plays: Iterable[Play]) -> dict[str, list[tuple[float, float, float]]]:
    """Of all runs, by the name of the step; a return after a crash is like one after a stop."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for play in plays:
        for step in play.steps:
            found.setdefault(step.name, []).append(figures(step))
    return found


def _cell(runs: Sequence[tuple[float, float, float]], name: str) -> str:
    if not runs:
        return "-"
    took, gap, overlap = (f"{statistics.median(values):.0f}" for values in zip(*runs, strict=True))
    # How long a return takes says how fast a program starts.
    took = "" if name in ("start", "return", "two masters meet") else took
    return f"{took:>5}{gap:>5}{overlap:>4}"


def play_all(kinds: Sequence[Kind], pairs: Sequence[tuple[str, str]], runs: int) -> Iterator[tuple[Kind, list[Play]]]:
    for interval, at_once in AT_ONCE.items():
        with ThreadPoolExecutor(at_once) as pool:
            some = [kind for kind in kinds if kind.interval == interval]
            begun = {
                kind: [pool.submit(_played, Play(kind, pair)) for pair in pairs for _ in range(runs)] for kind in some
            }
            for kind in some:
                yield kind, [each.result() for each in begun[kind]]


def _played(play: Play) -> Play:
    try:
        return play.run()
    except (Broken, LabError) as error:
        print(f"  {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
        play.steps.clear()
        return play


def measure(runs: int, only: str = "", frr: bool = False) -> list[dict[str, Any]]:
    """In a process of its own; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "interop.json")
        command = [sys.executable, "-m", "bench.interop", "--json", str(found), "--runs", str(runs), "--only", only]
        subprocess.run([*command, *(["--frr"] if frr else [])], check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.interop")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="names of kinds, with semicolons between them")
    parser.add_argument("--frr", action="store_true", help="FRR's vrrpd in place of keepalived, with multicast alone")
    parser.add_argument("--json", type=Path, help="all steps of all plays")
    options = parser.parse_args()
    try:
        enter([sys.executable, *parser.prog.split()[1:], *sys.argv[1:]])
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    chosen = [each.strip() for each in options.only.split(";") if each.strip()]
    kinds = [kind for kind in KINDS if not chosen or kind.name in chosen]
    if options.frr:
        kinds = [k for k in kinds if k.multicast and not k.owner and not k.check and k.groups == 1 and not k.password]
    pairs = FRR_PAIRS if options.frr else PAIRS
    rows: list[dict[str, Any]] = []
    for line, what in enumerate(("the better one:", "the other one:")):
        print(f"{what:20}" + "".join(f"{pair[line]:>15}" for pair in pairs))
    for kind, plays in play_all(kinds, pairs, options.runs):
        rows += _rows(kind, plays, pairs)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    for row in rows:
        if row["holds"] is False:
            print(f"{row['kind']}, {row['step']}: floatip {row['floatip']}, keepalived {row['keepalived']} ms: WORSE")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 1 if any(row["holds"] is False for row in rows) else 0


def _rows(kind: Kind, plays: Sequence[Play], pairs: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    by_pair = {pair: [play for play in plays if play.programs == pair] for pair in pairs}
    found = {pair: _steps(some) for pair, some in by_pair.items()}
    print(f"{kind.name}, adverts of {kind.interval:g} s")
    names = list(dict.fromkeys(name for steps in found.values() for name in steps))
    for broken in (play for play in plays if not play.steps):
        yield {"kind": broken.title, "step": "all", "floatip": None, "keepalived": None, "holds": False}
    for name in names[1:]:  # who starts first says how fast a program starts
        cells = [_cell(found[pair].get(name, []), name) for pair in pairs]
        print(f"  {name:18}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
        medians = {
            " over ".join(pair): [statistics.median(values) for values in zip(*runs, strict=True)]
            for pair in pairs
            if (runs := found[pair].get(name))
        }
        yield {
            "kind": kind.name,
            "step": name,
            "floatip": (ours := medians.get("floatip over floatip", [None])[0]),
            "keepalived": (theirs := medians.get("keepalived over keepalived", [None])[0]),
            "holds": _holds(name, ours, theirs),
            "pairs": medians,
            "runs": {
                " over ".join(pair): [asdict(s) for p in by_pair[pair] for s in p.steps if s.name == name]
                for pair in pairs
            },
        }


def _holds(step: str, ours: float | None, theirs: float | None) -> bool | None:
    """None: nothing is demanded."""
    if step not in JUDGED or ours is None or theirs is None:
        return None
    return ours <= SLACK * theirs + SLACK_MS


if __name__ == "__main__":
    sys.exit(main())
