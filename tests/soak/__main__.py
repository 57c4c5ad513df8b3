"""python -m tests.soak --seed 1 --minutes 60 [--placement all|master] [--kinds kill,cut]

Plays faults one after another: a fault, then quiet until one node is master and the other is ready. Prints a line a
fault and a table at the end. Exit status 1: a bound was exceeded, the pair did not become calm, or a daemon has grown.
Half of the minutes is for each placement. The same seed plays the same faults, unless their kinds are named.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle

from floatip.lab.namespaces import enter
from floatip.lab.network import ROUTER
from floatip.text import aligned
from tests.soak.judge import Judged, grown, judge
from tests.soak.kinds import KINDS, draw
from tests.soak.world import CALM_TIMEOUT, Footprint, World

QUIET = 2.0
"""Seconds for which nothing is done once the pair is calm."""
STARTS_APART = 35.0
"""Seconds between two crashes of a node: three starts within a minute bar it, on purpose."""
FATE_KNOWN = 1.3
"""Seconds after which it is known whether a probe was lost."""
FIRST_LOOK = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--placement", choices=("all", "master", "both"), default="both")
    parser.add_argument("--kinds", help="only these, in this order, again and again")
    options = parser.parse_args()
    enter([sys.executable, "-m", "tests.soak", *sys.argv[1:]])
    placements = ["all", "master"] if options.placement == "both" else [options.placement]
    violations: list[str] = []
    for placement in placements:
        names = cycle(options.kinds.split(",")) if options.kinds else draw(options.seed, placement)
        print(f"placement {placement}, seed {options.seed}", flush=True)
        with World(placement) as world:
            violations += Soak(world).play(names, 60 * options.minutes / len(placements))
    print(f"{len(violations)} violations", *violations, sep="\n  ")
    return 1 if violations else 0


class Soak:
    def __init__(self, world: World) -> None:
        self._world = world
        self._began = time.monotonic()
        self._judged: list[Judged] = []
        self._violations: list[str] = []
        self._started = dict.fromkeys(world.nodes, self._began)
        self._first: list[dict[str, Footprint]] = []

    def play(self, names: Iterator[str], seconds: float) -> list[str]:
        """The violations."""
        world = self._world
        world.wait_for(world.is_calm, "the pair to be calm")
        world.wait_for(lambda: any(probe.who for probe in world.observer.new_results()), "the observer's first answer")
        for name in names:
            if time.monotonic() - self._began > seconds or not self._fault(name):
                break
            if not self._first and time.monotonic() - self._began > FIRST_LOOK:
                self._first = world.footprints()
        self._look_at_footprints()
        print(self._table(), flush=True)
        return self._violations

    def _fault(self, name: str) -> bool:
        """Whether the pair is calm again."""
        world, kind = self._world, KINDS[name]
        # The machine itself may have paused meanwhile, for long enough to move mastership.
        world.wait_for(world.is_calm, "the pair to be calm before the next fault")
        master = world.master
        node = master if kind.of == "master" else next(each for each in world.nodes if each != master)
        if kind.starts:
            time.sleep(max(0.0, self._started[node] + STARTS_APART - time.monotonic()))
            self._started[node] = time.monotonic()
        logged = {each: daemon.log.stat().st_size for each, daemon in world.nodes.items()}
        at = time.monotonic()
        kind.play(world, node)
        over = time.monotonic()
        calm_after = self._calm_after(over)
        time.sleep(FATE_KNOWN)
        world.record.probes[:] = world.observer.new_results()
        bound = kind.bound(world.placement)
        assert bound is not None
        found = judge(name, node, world.record, at, bound, calm_after)
        self._judged.append(found)
        print(f"{at - self._began:7.1f}  {found.line}", flush=True)
        if found.violations:
            what = f"{world.placement}: {at - self._began:.1f} s: {name} on {node}: "
            self._violations += [what + violation for violation in found.violations]
            for each, daemon in world.nodes.items():
                for line in daemon.log.read_bytes()[logged[each] :].decode(errors="replace").splitlines():
                    print(f"         {each}: {line}")
            for change in world.record.routes[ROUTER]:
                if change.at > at:
                    print(f"         {change.at - at:7.2f} s after the fault, traffic to {change.next_hop}")
        if calm_after is None:
            self._violations.append(f"roles: {world.roles()}, {[world.status(each) for each in world.nodes]}")
        return calm_after is not None

    def _calm_after(self, over: float) -> float | None:
        """How long after the end of a fault the pair was calm and stayed so; None: it does not become calm."""
        world = self._world
        while time.monotonic() < over + CALM_TIMEOUT:
            # A daemon that has just woken up may not know yet that it was away.
            with suppress(TimeoutError):
                calm_at = world.wait_for(world.is_calm, "one master and a backup")
                time.sleep(QUIET)
                if world.is_calm():
                    return calm_at - over
        return None

    def _look_at_footprints(self) -> None:
        last = self._world.footprints()
        for node in self._world.nodes:
            early, late = ([each[node] for each in samples] for samples in (self._first or last, last))
            print(f"{node}: {early[-1]} after the first minute, {late[-1]} at the end")
            self._violations += [f"{self._world.placement}: {node}: {what}" for what in grown(early, late)]

    def _table(self) -> str:
        rows = [("fault", "played", "longest outage", "bound", "calm after", "violations")]
        for name in KINDS:
            if mine := [each for each in self._judged if each.name == name]:
                longest, bound = max(each.outage for each in mine), mine[0].bound
                calm = max((each.calm_after for each in mine if each.calm_after is not None), default=0.0)
                wrong = sum(len(each.violations) for each in mine)
                figures = (f"{longest:.2f} s", f"{bound:.2f} s", f"{calm:.1f} s", str(wrong))
                rows.append((name, str(len(mine)), *figures))
        return "\n".join(aligned(rows))


if __name__ == "__main__":
    sys.exit(main())
