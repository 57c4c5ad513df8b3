"""Seeded storms: two or three nodes, one to four route servers, four faults, all mended at the end; judges watch.

    python -m tests.sim.storm --storms 10000 --jobs 2
    SEED=42 python -m tests.sim.storm          # one storm again, with its score

Some are played by two to seven nodes that elect over the link, with lost, late, doubled, replayed and forged datagrams,
nodes that stand still for a moment, and orders. Of three others one is played by nodes of placement `master` on a
shared layer 2, and one by nodes that follow a keepalived, with two faults more and those of keepalived among them. Each
seed also switches some kinds of fault off and weighs the rest wildly, so that rare mixtures happen. Until all is mended
a node's notify command works, fails, is slow or hangs.
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
from typing import Any, ClassVar

from floatip.core.bgp.rank import Rank
from floatip.providers import GENERIC_MARKS, LINODE_MARKS
from tests.sim.beside import Beside
from tests.sim.host import NOTIFY_TIMEOUT, PASSES, RUN_TIME, Outcome
from tests.sim.judges import Judges
from tests.sim.judges_beside import JudgesBeside
from tests.sim.judges_lan import JudgesLan
from tests.sim.judges_linked import JudgesLinked
from tests.sim.lan import Lan
from tests.sim.linked import Linked
from tests.sim.storm_kinds import (
    ALL_KINDS,
    ELECTION_KINDS,
    KEEPALIVED_KINDS,
    LAN_KINDS,
    LINK_KINDS,
    NODE_KINDS,
    SERVER_KINDS,
)
from tests.sim.world import Fault, World

FAULTS_UNTIL = 40.0
MENDED_AT = 45.0
GRACE = 6.0
"""A TCP retransmission, a dial that times out and the pause before the next."""
GRACE_LAN = 3.1
"""Until a service that is well again has passed its checks: the last run that hangs, and two that pass."""
LASTS, BRIEFLY = (1.0, 15.0), (0.0, 0.5)
QUIET = 5.0

LINKED = 40
"""One of so many storms is played by nodes that elect over the link: it costs as much as five others."""

Verbs = tuple[Callable[[str], None], Callable[[str], None]]
OFTEN_BRIEF = {"kill", "kp-kill", "kp-fifo", "kp-strip"}
"""Beside keepalived: systemd starts what was killed, and others than keepalived mend its address."""


@dataclass(slots=True)
class Report:
    seed: int
    placement: str
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    outages: list[tuple[str, float]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    score: list[str] = field(default_factory=list)


class Storm:
    """Of nodes that elect and announce by themselves."""

    kinds: ClassVar[tuple[str, ...]] = (*NODE_KINDS, *ELECTION_KINDS, *SERVER_KINDS)
    faults: ClassVar = 4
    until: ClassVar = FAULTS_UNTIL
    mended_at: ClassVar = MENDED_AT

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.preempt = random.random() < 0.5
        self.fall = random.choice((1, 1, 2, 3))
        self.server_hold_time = random.choice((9, 9, 9, 9, 9, 9, 30, 90))
        self._make(seed)
        self.world.command = self._command
        self._commands = Random(seed)
        """Of their own, so that what else happens does not depend on them."""
        self.weights = [random.random() ** 2 if random.random() < 0.7 else 0.0 for _ in self.kinds]
        if not any(self.weights):
            self.weights = [1.0] * len(self.kinds)
        self._mends: list[tuple[float, int, Callable[[], None]]] = []
        self._struck: set[str] = set()

    def _make(self, seed: int) -> None:
        self.world = World(seed, **self._figures())
        self.judges = Judges(self.world, fall=self.fall)

    def _figures(self) -> dict[str, Any]:
        random = self.random
        return {
            "route_servers": random.choice((1, 2, 2, 3, 4)),
            "priorities": [random.randrange(1, 255) for _ in range(random.choice((2, 2, 3)))],
            "preempt": self.preempt,
            "hold_time": random.choice((9, 9, 9, 90)),
            "server_hold_time": self.server_hold_time,
            "advert_interval": random.choice((1.0,) * 19 + (0.2,)),
            "last_resort": random.random() < 0.5,
            "marks": random.choice((LINODE_MARKS, GENERIC_MARKS)),
            "fall": self.fall,
            "rise": random.choice((1, 2)),
            "grace": GRACE,
        }

    def play(self) -> None:
        world, random = self.world, self.random
        for at in sorted(random.uniform(1.0, self.until) for _ in range(self.faults)):
            self._pass(at)
            self._strike(random.choices(self.kinds, self.weights)[0])
        self._pass(self.mended_at)
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
        return Outcome(random.random() < 0.5, after) if self.world.now < self.mended_at else PASSES

    def _pass(self, until: float) -> None:
        while self._mends and self._mends[0][0] <= until:
            at, _, mend = heappop(self._mends)
            self.world.run(at - self.world.now)
            mend()
        self.world.run(until - self.world.now)

    def _strike(self, kind: str) -> None:
        world, random = self.world, self.random
        if kind in NODE_KINDS:
            self._strike_node(kind)
        elif kind == "split" and not world.split:
            one, other = random.sample(sorted(world.nodes), 2)
            world.part(one, other)
            self._later(partial(world.join, one, other))
        elif kind == "loss" and not world.loss:
            world.lose(0.3)
            self._later(partial(world.lose, 0.0))
        elif kind in SERVER_KINDS and kind not in self._struck:
            strike, mend = (world.rs_down, world.rs_up) if kind == "rs-down" else (world.rs_cut, world.rs_uncut)
            servers = range(1, len(world.servers) + 1)
            for number in random.sample(servers, min(random.choice((1, 1, 2, 4)), len(servers))):
                strike(number)
                self._later(partial(mend, number), kind)

    def _strike_node(self, kind: str) -> None:
        if free := sorted(set(self.world.nodes) - self._struck):
            name = self.random.choice(free)
            strike, mend = self._verbs()[kind]
            strike(name)
            self._later(partial(mend, name), name, kind)

    def _verbs(self) -> dict[str, Verbs]:
        """What is done to a node, and what mends it."""
        world = self.world
        return {
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

    def _later(self, mend: Callable[[], None], name: str = "", kind: str = "", lasts: float | None = None) -> None:
        self._struck.add(name)

        def mended() -> None:
            self._struck.discard(name)
            mend()

        if lasts is None:
            lasts = self.random.uniform(*(BRIEFLY if self._is_brief(kind) else LASTS))
        at = self.world.now + max(2.0 if kind in ("stop", "kp-stop") else 0.0, lasts)
        heappush(self._mends, (at, len(self._mends) + int(at * 1e6), mended))

    def _is_brief(self, kind: str) -> bool:
        return False


class StormOnLan(Storm):
    """Of nodes of which the master alone holds the address."""

    kinds: ClassVar = (*NODE_KINDS, *ELECTION_KINDS, *LAN_KINDS)

    def _make(self, seed: int) -> None:
        figures = self._figures() | {"grace": GRACE_LAN}
        for name in ("route_servers", "hold_time", "server_hold_time", "marks"):
            del figures[name]
        self.world = self.lan = Lan(seed, **figures)
        self.judges = JudgesLan(self.lan, fall=self.fall)

    def _strike(self, kind: str) -> None:
        if kind == "link-down":
            self._strike_node(kind)
        elif kind == "arp-loss" and not self.lan.arp_loss:
            self.lan.lose_arp(self.random.choice((0.5, 0.9, 1.0)))
            self._later(partial(self.lan.lose_arp, 0.0))
        else:
            super()._strike(kind)

    def _verbs(self) -> dict[str, Verbs]:
        is_gone = self.random.random() < 0.5
        return super()._verbs() | {"link-down": (partial(self.lan.link_down, is_gone=is_gone), self.lan.link_up)}

    def _is_brief(self, kind: str) -> bool:
        return kind in ("kill", "link-down") and self.random.random() < 0.5


class StormBeside(Storm):
    """Of nodes that follow a keepalived."""

    kinds: ClassVar = (*Storm.kinds, *KEEPALIVED_KINDS)
    faults: ClassVar = 6

    def _make(self, seed: int) -> None:
        fifo_size = self.random.choice((0, 1, 1000))
        self.world = self.beside = Beside(seed, fifo_size=fifo_size, **self._figures())
        self.judges = JudgesBeside(self.beside, fall=self.fall)

    def _strike(self, kind: str) -> None:
        if kind not in KEEPALIVED_KINDS:
            super()._strike(kind)
        elif free := sorted(each for each in self.world.nodes if _keepalived_of(each) not in self._struck):
            self._strike_keepalived(kind, self.random.choice(free))

    def _strike_keepalived(self, kind: str, name: str) -> None:
        world = self.beside
        pairs: dict[str, Verbs] = {
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

    def _is_brief(self, kind: str) -> bool:
        return kind in OFTEN_BRIEF and self.random.random() < 0.5


class StormLinked(Storm):
    """Of nodes that elect over the link."""

    kinds: ClassVar = (*Storm.kinds, *LINK_KINDS)
    faults: ClassVar = 5
    until: ClassVar = 12.0
    mended_at: ClassVar = 14.0

    def _make(self, seed: int) -> None:
        random = self.random
        figures = self._figures()
        for name in ("priorities", "advert_interval"):
            del figures[name]
        figures["nodes"] = nodes = random.choice((2,) * 12 + (3,) * 5 + (4, 5, 7))
        figures["interval"] = 0.1 if nodes < 4 else 0.3  # many nodes say much
        figures["prefer"] = tuple(random.sample("abcdefg"[:nodes], random.choice((0, 1, 2))))
        figures["preempt_delay"] = random.choice((0.0, 0.0, 2.0))
        self.world = self.linked = Linked(seed, **figures)
        self.judges = self.judges_linked = JudgesLinked(self.linked, fall=self.fall)

    def play(self) -> None:
        super().play()
        self.judges_linked.judge_changes()

    def _strike(self, kind: str) -> None:
        world, random = self.linked, self.random
        nodes = sorted(world.nodes)
        match kind:
            case "one-way" if not world.one_way:
                one, other = random.sample(nodes, 2)
                world.silence(one, other)
                self._later(partial(world.unsilence, one, other))
            case "jitter" if not world.jitter:
                world.delay(random.choice((0.01, 0.1, 0.5)))
                self._later(partial(world.delay, 0.0))
            case "double" if not world.doubled:
                world.double(random.choice((0.1, 1.0)))
                self._later(partial(world.double, 0.0))
            case "loss" if not world.loss:
                world.lose(random.choice((0.05, 0.2, 0.4)))
                self._later(partial(world.lose, 0.0))
            case "replay":
                world.replay(random.choice((1, 20)))
            case "forge":
                world.forge(random.choice((1, 20)))
            case "handover":
                world.hand_over(random.choice(world.masters or nodes), random.choice(["", *nodes]))
            case "pause" if free := sorted(set(nodes) - self._struck):
                name, lasts = random.choice(free), random.uniform(0.0, 0.2)
                world.pause(name, lasts, deaf=random.random() < 0.5)
                self._later(lambda: None, name, lasts=lasts)
            case "drain" | "hold" if free := sorted(set(nodes) - self._struck):
                name = random.choice(free)
                strike, mend = self._verbs()[kind]
                strike(name)
                self._later(partial(mend, name), name)
            case _:
                super()._strike(kind)

    def _verbs(self) -> dict[str, Verbs]:
        world = self.linked
        orders = {"drain": (world.drain, world.undrain), "hold": (world.hold_election, world.resume_election)}
        return super()._verbs() | orders


class StormOfKind(Storm):
    """The same with other figures of VRRP."""

    def __init__(self, seed: int, **vrrp: Any) -> None:
        self.vrrp = vrrp
        super().__init__(seed)

    def _figures(self) -> dict[str, Any]:
        return super()._figures() | {"vrrp": self.vrrp}


def _keepalived_of(name: str) -> str:
    """It may have a fault of its own beside that of its node."""
    return f"keepalived {name}"


def storm(seed: int, linked: int = LINKED) -> Storm:
    if seed % linked == 0:
        return StormLinked(seed)
    return (Storm, StormOnLan, StormBeside)[seed % 3](seed)


def play(seed: int, linked: int = LINKED) -> Report:
    return report_of(storm(seed, linked), seed)


def report_of(played: Storm, seed: int) -> Report:
    report = Report(seed, played.world.placement)
    try:
        played.play()
        report.outages = played.judges.judge_outages()
    except Exception:
        report.violations.append(traceback.format_exc())
    report.violations += played.judges.violations
    report.seconds = played.world.now
    report.faults = played.world.faults
    if report.violations:
        report.score = list(played.world.score())
    return report


def main() -> int:
    options = argparse.ArgumentParser(description="storms in the simulated world")
    options.add_argument("--storms", type=int, default=10000)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--linked", type=int, default=LINKED, help="one of so many is of nodes that know each other")
    arguments = options.parse_args()
    if "SEED" in os.environ:
        return replay(storm(int(os.environ["SEED"]), arguments.linked))
    seeds = range(arguments.first, arguments.first + arguments.storms)
    return run(seeds, arguments.jobs, partial(play, linked=arguments.linked))


def replay(played: Storm) -> int:
    try:
        played.play()
        played.judges.judge_outages()
    finally:
        print("\n".join(played.world.score()))
    violations = played.judges.violations
    print("\n".join(["", *violations] if violations else ["", "nothing to object to"]))
    return bool(violations)


def run(seeds: range, jobs: int, play: Callable[[int], Report]) -> int:
    began = time.monotonic()
    seconds = 0.0
    by_placement = {placement: Statistics() for placement in ("all", "master")}
    failed: list[Report] = []
    with Pool(jobs, gc.set_threshold, (100_000,)) as pool:
        for number, report in enumerate(pool.imap_unordered(play, seeds, chunksize=20), 1):
            seconds += report.seconds
            by_placement[report.placement].add(report)
            if report.violations:
                failed.append(report)
                print(f"SEED={report.seed} failed", file=sys.stderr, flush=True)
            elif number % 500 == 0:
                print(f"{number} of {len(seeds)}", file=sys.stderr, flush=True)
    wall = time.monotonic() - began
    print(f"{len(seeds)} storms, {seconds:.0f} virtual seconds, {wall:.1f} s, {jobs} jobs")
    for placement, statistics in by_placement.items():
        statistics.show(placement)
    for report in sorted(failed, key=lambda each: each.seed)[:20]:
        print(f"SEED={report.seed}: {report.violations[0].strip()}")
    print(f"{len(failed)} failed")
    sys.stdout.flush()
    return bool(failed)


class Statistics:
    """Of the storms of one placement."""

    def __init__(self) -> None:
        self._outages: dict[str, list[float]] = defaultdict(list)
        self._faults: Counter[str] = Counter()
        self._ranks: Counter[tuple[str, Rank]] = Counter()

    def add(self, report: Report) -> None:
        for kind, spent in report.outages:
            self._outages[kind].append(spent)
        self._faults.update(each.kind for each in report.faults)
        self._ranks.update((each.kind, each.rank) for each in report.faults)

    def show(self, placement: str) -> None:
        print(f"\nplacement {placement}\noutage, s        faults  with outage    p50    p90    p99    max")
        for kind in ("start", *filter(self._faults.get, ALL_KINDS)):
            spent = sorted(self._outages.get(kind, []))
            shares = (0.5, 0.9, 0.99, 1) if spent else ()
            figures = [spent[min(len(spent) - 1, int(len(spent) * share))] for share in shares]
            row = " ".join(f"{each:6.3f}" for each in figures)
            print(f"{kind:<15} {self._faults[kind]:>7}  {len(spent):>11} {row}")
        print("\nrank at the node " + " ".join(f"{rank.label:>14}" for rank in Rank))
        for kind in filter(self._faults.get, (*NODE_KINDS, "link-down", *KEEPALIVED_KINDS)):
            print(f"{kind:<16} " + " ".join(f"{self._ranks[kind, rank]:>14}" for rank in Rank))


if __name__ == "__main__":
    sys.exit(main())
