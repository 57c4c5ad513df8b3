"""Storms of nodes with etcd as arbiter: those of the link, and what goes wrong at etcd and with clocks.

python -m tests.sim.storm_fleet --storms 10000 --jobs 1
SEED=42 python -m tests.sim.storm_fleet
"""

import argparse
import os
import sys
from functools import partial
from typing import ClassVar, TypeGuard

from floatip.core.etcd import Row
from floatip.core.settings import Arbiter
from tests.sim.fleet_world import Fleet
from tests.sim.judges_fleet import JudgesFleet
from tests.sim.storm import Report, StormLinked, Verbs, replay, report_of, run
from tests.sim.storm_kinds import ETCD_KINDS, MACHINE_KINDS

ROWS = ("", "{}", "null", "[1]", '{"node": "z"}', "\x1b[31m" * 30, "x" * 5000, None, None)
"""What somebody writes by hand; None: deletes."""


class StormFleet(StormLinked):
    kinds: ClassVar = (*StormLinked.kinds, *ETCD_KINDS, *MACHINE_KINDS)
    faults: ClassVar = 6
    until: ClassVar = 14.0
    mended_at: ClassVar = 16.0

    def _make(self, seed: int) -> None:
        random = self.random
        figures = self._figures()
        for name in ("priorities", "advert_interval"):
            del figures[name]
        figures["nodes"] = nodes = random.choice((2,) * 6 + (3,) * 6 + (4, 5))
        figures["interval"] = 0.1 if nodes < 3 else 0.3
        figures["prefer"] = tuple(random.sample("abcdefg"[:nodes], random.choice((0, 1, 2))))
        figures["preempt_delay"] = random.choice((0.0, 0.0, 2.0))
        figures["exclusive"] = random.choice((1, 1, 2))
        figures["arbiter"] = random.choice((Arbiter("", "fleet", 5.0), Arbiter("", "fleet", 3.0, 0.5, 1.0)))
        self.world = self.linked = self.fleet = Fleet(seed, **figures)
        self.judges = self.judges_linked = self.judges_fleet = JudgesFleet(self.fleet, fall=self.fall)

    def play(self) -> None:
        super().play()
        self.judges_fleet.judge_questions(self.fleet.now - 5.0)
        self.judges_fleet.judge_history()

    def _strike(self, kind: str) -> None:
        world, random = self.fleet, self.random
        nodes, etcd = sorted(world.nodes), world.etcd
        free = sorted(set(nodes) - self._struck)
        match kind:
            case "etcd-gone" if not etcd.is_gone:
                world.lose_etcd()
                self._later(world.find_etcd)
            case "etcd-leader" if etcd.answers:
                world.lose_etcd_leader(random.uniform(0.5, 4.0))
            case "etcd-slow" | "etcd-lost" | "etcd-late" | "etcd-full" if kind not in self._struck:
                world.trouble_etcd(kind, random.choice((0.1, 0.3, 0.7)))
                self._later(partial(world.trouble_etcd, kind, 0.0), kind)
            case "etcd-lag":
                name = random.choice(nodes)
                world.delay_watch(name, random.uniform(0.5, 8.0))
                self._later(partial(world.delay_watch, name, 0.0), kind)
            case "etcd-gap":
                world.break_watch(random.choice(nodes))
            case "etcd-compact":
                world.compact_etcd()
            case "row":
                names = ["web", *world.exclusive, "strange"]
                key = random.choice((f"owners/{random.choice(names)}", f"alive/{random.choice(nodes)}", "fleet", "x"))
                row = etcd.store.rows.get(key)
                world.write_row(key, random.choice(ROWS))
                if key == "fleet" and row:  # whose prefix it is, only people can say
                    self._later(partial(self._put_back, key, row.value))
            case "restore" if not etcd.is_gone:
                if world.backup is None:
                    world.backup = etcd.backup()
                else:
                    self._restore()
            case "clock" if world.nodes[name := random.choice(nodes)].power.value == "":
                world.step_clock(name, random.choice((-3600.0, -5.0, -0.5, 0.5, 5.0, 86400.0)))
            case "handover-exclusive":
                world.hand_over_exclusive(random.choice(nodes), random.choice(["", *nodes]))
            case "delete-exclusive":
                world.delete_exclusive(random.choice(nodes), random.choice(world.exclusive))
            case "etcd-cut" | "etcd-stale" | "stand" if free:
                name = random.choice(free)
                strike, mend = self._verbs()[kind]
                strike(name)
                self._later(partial(mend, name), name)
            case _ if kind not in (*ETCD_KINDS, *MACHINE_KINDS):
                super()._strike(kind)

    def _put_back(self, key: str, value: str) -> None:
        """By somebody who tries until etcd takes it: it may be full."""
        world = self.fleet
        world.write_row(key, value)
        row = world.etcd.store.rows.get(key)
        if row is None or row.value != value:
            world.at(world.now + 0.1, self._put_back, key, value)

    def _restore(self) -> None:
        """Who restores stops all members, so etcd is gone for longer than anything may be held without it."""
        world = self.fleet
        world.lose_etcd()

        def restored() -> None:
            before = world.etcd.store.rows.get("fleet")
            world.restore_etcd()
            world.find_etcd()
            after = world.etcd.store.rows.get("fleet")
            if _is_fleet(before) and after and not _is_fleet(after):  # somebody had garbled it before the backup
                self._put_back("fleet", before.value)

        self._later(restored, lasts=world.arbiter.lease_time + self.random.uniform(0.0, 3.0))

    def _verbs(self) -> dict[str, Verbs]:
        world = self.fleet
        return super()._verbs() | {
            "etcd-cut": (world.cut_from_etcd, world.uncut_from_etcd),
            "etcd-stale": (world.leave_with_old_leader, world.return_from_old_leader),
            "stand": (world.stand_still, world.wake),
        }


def _is_fleet(row: Row | None) -> TypeGuard[Row]:
    return row is not None and '"key"' in row.value


def play(seed: int) -> Report:
    return report_of(StormFleet(seed), seed)


def main() -> int:
    options = argparse.ArgumentParser(description="storms in the simulated world, with etcd as arbiter")
    options.add_argument("--storms", type=int, default=10000)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = options.parse_args()
    if "SEED" in os.environ:
        return replay(StormFleet(int(os.environ["SEED"])))
    return run(range(arguments.first, arguments.first + arguments.storms), arguments.jobs, play)


if __name__ == "__main__":
    sys.exit(main())
