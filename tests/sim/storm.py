"""Seeded storms: two or three nodes, one to four route servers, four faults, all mended at the end; judges watch.

    python -m tests.sim.storm --storms 10000 --jobs 2
    SEED=42 python -m tests.sim.storm          # one storm again, with its score

Every third is a storm among nodes that follow a keepalived, with two faults more and those of keepalived among them.
Each seed also switches some kinds of fault off and weighs the rest wildly, so that rare mixtures happen. Until all is
mended a node's notify command works, fails, is slow or hangs.
"""

import argparse
import gc
import os
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from math import inf
from multiprocessing import Pool
from random import Random

from floatip.core.bgp.rank import Rank
from floatip.providers import GENERIC_MARKS, LINODE_MARKS
from tests.sim.beside import Beside
from tests.sim.host import NOTIFY_TIMEOUT, PASSES, RUN_TIME, Outcome
from tests.sim.judges import Judges
from tests.sim.judges_beside import JudgesBeside
from tests.sim.world import Fault, World

FAULTS, FAULTS_BESIDE = 4, 6
FAULTS_UNTIL = 40.0
MENDED_AT = 45.0
GRACE = 6.0
"""A TCP retransmission, a dial that times out and the pause before the next."""
LASTS, BRIEFLY = (1.0, 15.0), (0.0, 0.5)
QUIET = 5.0

NODE_KINDS = ("crash", "kill", "freeze", "hang", "sick", "hanging", "cut", "stop", "delete")
KINDS = (*NODE_KINDS, "split", "loss", "rs-down", "rs-cut")
KEEPALIVED_KINDS = ("kp-stop", "kp-kill", "kp-hang", "kp-fault", "kp-fifo", "kp-strip", "kp-add", "helper", "reload")
ALL_KINDS = (*KINDS, *KEEPALIVED_KINDS)
OFTEN_BRIEF = {"kill", "kp-kill", "kp-fifo", "kp-strip"}
"""Beside keepalived: systemd starts what was killed, and others than keepalived mend its address."""


@dataclass(slots=True)
class Report:
    seed: int
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    outages: list[tuple[str, float]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    score: list[str] = field(default_factory=list)


class Storm:
    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.preempt = random.random() < 0.5
        fall = random.choice((1, 1, 2, 3))
        self.server_hold_time = random.choice((9, 9, 9, 9, 9, 9, 30, 90))
        make = partial(Beside, fifo_size=random.choice((0, 1, 1000))) if seed % 3 == 2 else World
        self.world = make(
            seed,
            route_servers=random.choice((1, 2, 2, 3, 4)),
            priorities=[random.randrange(1, 255) for _ in range(random.choice((2, 2, 3)))],
            preempt=self.preempt,
            hold_time=random.choice((9, 9, 9, 90)),
            server_hold_time=self.server_hold_time,
            advert_interval=random.choice((1.0,) * 19 + (0.2,)),
            last_resort=random.random() < 0.5,
            marks=random.choice((LINODE_MARKS, GENERIC_MARKS)),
            fall=fall,
            rise=random.choice((1, 2)),
            grace=GRACE,
        )
        world = self.world
        world.command = self._command
        self._commands = Random(seed)
        """Of their own, so that what else happens does not depend on them."""
        self.judges = JudgesBeside(world, fall=fall) if isinstance(world, Beside) else Judges(world, fall=fall)
        self.kinds = ALL_KINDS if isinstance(self.world, Beside) else KINDS
        self.weights = [random.random() ** 2 if random.random() < 0.7 else 0.0 for _ in self.kinds]
        if not any(self.weights):
            self.weights = [1.0] * len(self.kinds)
        self._mends: list[tuple[float, int, Callable[[], None]]] = []
        self._struck: set[str] = set()

    def play(self) -> None:
        world, random = self.world, self.random
        faults = FAULTS_BESIDE if isinstance(world, Beside) else FAULTS
        for at in sorted(random.uniform(1.0, FAULTS_UNTIL) for _ in range(faults)):
            self._pass(at)
            self._strike(random.choices(self.kinds, self.weights)[0])
        self._pass(MENDED_AT)
        while self._mends:
            heappop(self._mends)[2]()
        world.run(QUIET)
        incumbent = world.masters[0] if len(world.masters) == 1 else ""
        # A route server may need a third of its hold time to find out that a session is dead.
        world.run(max(11.0, 7.0 + self.server_hold_time / 3))
        self.judges.judge_end(incumbent, preempt=self.preempt)
        self.judges.judge_churn()
        self.judges.judge_hooks()

    def _command(self) -> Outcome:
        """The notify command works, fails, is slow or hangs, until all is mended."""
        random = self._commands
        after = random.choice((RUN_TIME, RUN_TIME, random.uniform(0.0, 2 * NOTIFY_TIMEOUT), inf))
        return Outcome(random.random() < 0.5, after) if self.world.now < MENDED_AT else PASSES

    def _pass(self, until: float) -> None:
        while self._mends and self._mends[0][0] <= until:
            at, _, mend = heappop(self._mends)
            self.world.run(at - self.world.now)
            mend()
        self.world.run(until - self.world.now)

    def _strike(self, kind: str) -> None:
        world, random = self.world, self.random
        if kind in NODE_KINDS:
            free = sorted(set(world.nodes) - self._struck)
            if free:
                self._strike_node(kind, random.choice(free))
        elif isinstance(world, Beside) and kind in KEEPALIVED_KINDS:
            free = sorted(each for each in world.nodes if _keepalived_of(each) not in self._struck)
            if free:
                self._strike_keepalived(world, kind, random.choice(free))
        elif kind == "split" and not world.split:
            one, other = random.sample(sorted(world.nodes), 2)
            world.part(one, other)
            self._later(partial(world.join, one, other))
        elif kind == "loss" and not world.loss:
            world.lose(0.3)
            self._later(partial(world.lose, 0.0))
        elif kind in ("rs-down", "rs-cut") and kind not in self._struck:
            strike, mend = (world.rs_down, world.rs_up) if kind == "rs-down" else (world.rs_cut, world.rs_uncut)
            servers = range(1, len(world.servers) + 1)
            for number in random.sample(servers, min(random.choice((1, 1, 2, 4)), len(servers))):
                strike(number)
                self._later(partial(mend, number), kind)

    def _strike_node(self, kind: str, name: str) -> None:
        world = self.world
        pairs: dict[str, tuple[Callable[[str], None], Callable[[str], None]]] = {
            "crash": (world.crash, world.boot),
            "kill": (world.kill, world.start),
            "freeze": (partial(world.freeze, deaf=self.random.random() < 0.5), world.wake),
            "hang": (world.hang, world.wake),
            "sick": (world.sicken, world.heal),
            "hanging": (partial(world.sicken, hanging=True), world.heal),
            "cut": (world.cut, world.uncut),
            "stop": (world.stop, world.start),
            "delete": (world.delete, lambda _: None),
        }
        strike, mend = pairs[kind]
        strike(name)
        self._later(partial(mend, name), name, kind)

    def _strike_keepalived(self, world: Beside, kind: str, name: str) -> None:
        pairs: dict[str, tuple[Callable[[str], None], Callable[[str], None]]] = {
            "kp-stop": (world.stop_keepalived, world.start_keepalived),
            "kp-kill": (world.kill_keepalived, world.start_keepalived),
            "kp-hang": (world.hang_keepalived, world.wake_keepalived),
            "kp-fault": (world.fail_check, world.pass_check),
            "kp-fifo": (world.lose_fifo, world.find_fifo),
            "kp-strip": (world.strip, world.dress),
            "kp-add": (world.add_by_hand, world.dress),
            "helper": (world.help, world.unhelp),
            "reload": (world.reload, world.reload),
        }
        strike, mend = pairs[kind]
        strike(name)
        self._later(partial(mend, name), _keepalived_of(name), kind)

    def _later(self, mend: Callable[[], None], name: str = "", kind: str = "") -> None:
        self._struck.add(name)

        def mended() -> None:
            self._struck.discard(name)
            mend()

        is_brief = isinstance(self.world, Beside) and kind in OFTEN_BRIEF and self.random.random() < 0.5
        lasts = self.random.uniform(*(BRIEFLY if is_brief else LASTS))
        at = self.world.now + max(2.0 if kind in ("stop", "kp-stop") else 0.0, lasts)
        heappush(self._mends, (at, len(self._mends) + int(at * 1e6), mended))


def _keepalived_of(name: str) -> str:
    """It may have a fault of its own beside that of its node."""
    return f"keepalived {name}"


def play(seed: int) -> Report:
    report = Report(seed)
    storm = Storm(seed)
    try:
        storm.play()
        report.outages = storm.judges.judge_outages()
    except Exception:
        report.violations.append(traceback.format_exc())
    report.violations += storm.judges.violations
    report.seconds = storm.world.now
    report.faults = storm.world.faults
    if report.violations:
        report.score = list(storm.world.score())
    return report


def main() -> int:
    options = argparse.ArgumentParser(description="storms in the simulated world")
    options.add_argument("--storms", type=int, default=10000)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = options.parse_args()
    if "SEED" in os.environ:
        return replay(int(os.environ["SEED"]))
    return run(range(arguments.first, arguments.first + arguments.storms), arguments.jobs)


def replay(seed: int) -> int:
    storm = Storm(seed)
    try:
        storm.play()
        storm.judges.judge_outages()
    finally:
        print("\n".join(storm.world.score()))
    print("\n".join(["", *storm.judges.violations] if storm.judges.violations else ["", "nothing to object to"]))
    return bool(storm.judges.violations)


def run(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    seconds = 0.0
    outages: dict[str, list[float]] = defaultdict(list)
    coverage: Counter[tuple[str, Rank]] = Counter()
    failed: list[Report] = []
    with Pool(jobs, gc.set_threshold, (100_000,)) as pool:
        for report in pool.imap_unordered(play, seeds, chunksize=20):
            seconds += report.seconds
            for kind, spent in report.outages:
                outages[kind].append(spent)
            coverage.update((each.kind, each.rank) for each in report.faults)
            if report.violations:
                failed.append(report)
    wall = time.monotonic() - began
    print(f"{len(seeds)} storms, {seconds:.0f} virtual seconds, {wall:.1f} s, {jobs} jobs")
    _print_outages(outages, coverage)
    _print_coverage(coverage)
    for report in sorted(failed, key=lambda each: each.seed)[:20]:
        print(f"SEED={report.seed}: {report.violations[0].strip()}")
    print(f"{len(failed)} failed")
    sys.stdout.flush()
    return bool(failed)


def _print_outages(outages: dict[str, list[float]], coverage: Counter[tuple[str, Rank]]) -> None:
    faults: Counter[str] = Counter()
    for (kind, _), number in coverage.items():
        faults[kind] += number
    print("\noutage, s        faults  with outage    p50    p90    p99    max")
    for kind in ("start", *ALL_KINDS):
        spent = sorted(outages.get(kind, []))
        figures = (
            [spent[min(len(spent) - 1, int(len(spent) * share))] for share in (0.5, 0.9, 0.99, 1)] if spent else []
        )
        print(f"{kind:<15} {faults[kind]:>7}  {len(spent):>11} " + " ".join(f"{each:6.3f}" for each in figures))


def _print_coverage(coverage: Counter[tuple[str, Rank]]) -> None:
    print("\nrank at the node " + " ".join(f"{rank.label:>14}" for rank in Rank))
    for kind in (*NODE_KINDS, *KEEPALIVED_KINDS):
        print(f"{kind:<16} " + " ".join(f"{coverage[kind, rank]:>14}" for rank in Rank))
    print()


if __name__ == "__main__":
    sys.exit(main())
