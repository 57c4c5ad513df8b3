"""python -m tests.etcd_faults.play --seed 1: in namespaces of its own. Exit status 1: a rule was broken."""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from floatip.lab.namespaces import enter
from tests.etcd_faults import history, plan, watch
from tests.etcd_faults.plan import NODES, Fault
from tests.etcd_faults.world import ADDRESSES, EXCLUSIVE, Host, World
from tests.linearizable import complaints

START_TIMEOUT = 120.0
WHOLE_AGAIN = 75.0
"""Seconds: a node that was started three times within a minute is barred for a minute."""
SLOW = 0.05, 0.15
"""Seconds of running and of standing still, of a slow member."""
LOG_SHOWN = 6000
"""The last characters of each daemon's log, where something is wrong."""
FIGURES = "figures: "
FAULT = re.compile(r"([a-z-]+)(?::([\d-]+))?@([\d.]+)\+([\d.]+)(?:=([-\d.]+))?")


@dataclass
class Figures:
    """Of one sequence. Seconds."""

    seed: int
    samples: int = 0
    longest_gap: float = 0.0
    late: int = 0
    moves: int = 0
    closest: float = inf
    """The shortest time from when an exclusive address left a node until it came to another."""
    wrong: int = 0


class Play:
    """One sequence of faults."""

    def __init__(self, world: World, seed: int, faults: Sequence[Fault]) -> None:
        self.world = world
        self.faults = list(faults)
        self.figures = Figures(seed)
        self.story: list[tuple[float, int, str, bool]] = []
        self.wrong: list[str] = []
        self.notes: list[str] = []
        self._stopped: dict[object, int] = {}

    def run(self) -> None:
        world = self.world
        namespaces = {number: node.namespace for number, node in world.nodes.items()}
        pid, stop, answer = watch.start(namespaces, ADDRESSES, len(EXCLUSIVE))
        assert os.read(answer, 1) == b"+"
        try:
            self._play()
            began = time.monotonic()
            if world.wait(WHOLE_AGAIN):
                self.notes.append(f"whole {time.monotonic() - began:.1f} s after the last fault")
            else:
                holders = world.holders()
                self.wrong.append(f"not each address is on one node {WHOLE_AGAIN:g} s after the last fault: {holders}")
        finally:
            os.close(stop)
            with os.fdopen(answer) as file:
                text = file.read()
            os.waitpid(pid, 0)
        self._judge(watch.Seen(**json.loads(text)))

    def _play(self) -> None:
        """Each fault is a generator: it does, yields for how long it lasts, and undoes."""
        began = time.monotonic()
        waiting = list(self.faults)
        lasting: list[tuple[float, Iterator[float]]] = []
        while waiting or lasting:
            now = time.monotonic() - began
            for entry in sorted((one for one in lasting if one[0] <= now), key=lambda one: one[0]):
                lasting.remove(entry)
                if (more := next(entry[1], None)) is not None:
                    lasting.append((now + more, entry[1]))
            while waiting and waiting[0].at <= now:
                fault = waiting.pop(0)
                doing = getattr(self, f"_{fault.kind.replace('-', '_')}")(fault)
                if (lasts := next(doing, None)) is not None:
                    lasting.append((now + lasts, doing))
            for node in self.world.nodes.values():
                node.look_after()
            following = [at for at, _ in lasting] + [fault.at for fault in waiting[:1]]
            if following:
                time.sleep(min(0.05, max(0.0, min(following) - (time.monotonic() - began))))

    # The faults

    def _holder(self) -> int:
        holders = self.world.holders()[EXCLUSIVE[0]]
        number = holders[0] if holders else NODES[self.figures.seed % len(NODES)]
        self.notes.append(f"node{number} was the holder")
        return number

    def _kill(self, fault: Fault) -> Iterator[float]:
        node = self.world.nodes[fault.where[0]]
        node.kill()
        yield fault.lasts
        if not node.process:
            node.start()

    def _stop(self, fault: Fault) -> Iterator[float]:
        node = self.world.nodes[fault.where[0]]
        process = node.process
        if process:
            with self._stands_still(process.pid):
                yield fault.lasts

    @contextmanager
    def _stands_still(self, pid: int) -> Iterator[None]:
        """Two that overlap end with the later one."""
        self._stopped[pid] = self._stopped.get(pid, 0) + 1
        _signal(pid, signal.SIGSTOP)
        yield
        self._stopped[pid] -= 1
        if not self._stopped[pid]:
            _signal(pid, signal.SIGCONT)

    def _holder_stop(self, fault: Fault) -> Iterator[float]:
        return self._stop(Fault("stop", fault.at, fault.lasts, (self._holder(),)))

    def _holder_kill(self, fault: Fault) -> Iterator[float]:
        return self._kill(Fault("kill", fault.at, fault.lasts, (self._holder(),)))

    def _holder_cut(self, fault: Fault) -> Iterator[float]:
        return self._cut_node_etcd(Fault("cut-node-etcd", fault.at, fault.lasts, (self._holder(),)))

    def _member_kill(self, fault: Fault) -> Iterator[float]:
        member = self.world.cluster.members[fault.where[0] - 1]
        member.kill()
        yield fault.lasts
        if not member.is_running:
            member.restart()

    def _member_stop(self, fault: Fault) -> Iterator[float]:
        member = self.world.cluster.members[fault.where[0] - 1]
        if member.is_running:
            with self._stands_still(member.pid):
                yield fault.lasts

    def _leader_stop(self, fault: Fault) -> Iterator[float]:
        for member in self.world.cluster.members:
            status = member.status(timeout=0.5)
            if status and status.get("leader") == status["header"]["member_id"]:
                return self._member_stop(Fault("member-stop", fault.at, fault.lasts, (member.number,)))
        return iter(())

    def _member_slow(self, fault: Fault) -> Iterator[float]:
        member = self.world.cluster.members[fault.where[0] - 1]
        left = fault.lasts
        while left > 0 and member.is_running:
            with self._stands_still(member.pid):
                yield SLOW[1]
            yield SLOW[0]
            left -= sum(SLOW)

    def _cut(self, fault: Fault, pairs: list[tuple[Host, Host]]) -> Iterator[float]:
        for one, other in pairs:
            one.cut(other)
            other.cut(one)
        yield fault.lasts
        for one, other in pairs:
            one.mend(other)
            other.mend(one)

    def _cut_node_etcd(self, fault: Fault) -> Iterator[float]:
        node = self.world.nodes[fault.where[0]]
        return self._cut(fault, [(node, host) for host in self.world.hosts.values()])

    def _cut_node_member(self, fault: Fault) -> Iterator[float]:
        return self._cut(fault, [(self.world.nodes[fault.where[0]], self.world.hosts[fault.where[1]])])

    def _cut_nodes(self, fault: Fault) -> Iterator[float]:
        return self._cut(fault, [(self.world.nodes[fault.where[0]], self.world.nodes[fault.where[1]])])

    def _cut_members(self, fault: Fault) -> Iterator[float]:
        return self._cut(fault, [(self.world.hosts[fault.where[0]], self.world.hosts[fault.where[1]])])

    def _isolate(self, fault: Fault) -> Iterator[float]:
        node = self.world.nodes[fault.where[0]]
        others: list[Host] = [one for one in self.world.nodes.values() if one is not node]
        return self._cut(fault, [(node, other) for other in [*others, *self.world.hosts.values()]])

    def _clock(self, fault: Fault) -> Iterator[float]:
        """Of the time of day; it goes back at the end."""
        node = self.world.nodes[fault.where[0]]
        node.step_clock(fault.amount)
        yield fault.lasts
        node.step_clock(-fault.amount)

    def _disk(self, fault: Fault) -> Iterator[float]:
        member = self.world.cluster.members[fault.where[0] - 1]
        filler = member.directory / "filler"
        try:
            with filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        except OSError:
            pass  # it is full
        yield fault.lasts
        filler.unlink()
        if member.has_exited:
            self.notes.append(f"etcd{member.number} exited, its disk was full")
            member.restart()

    # What became of it

    def _judge(self, seen: watch.Seen) -> None:
        self.wrong += seen.twice
        if seen.lost:
            self.wrong.append(f"{seen.lost} messages of the kernel were lost: the verdict is not complete")
        for node in self.world.nodes.values():
            self.wrong += node.ends
            node.ends.clear()
        left: dict[str, tuple[float, int]] = {}
        figures = self.figures
        for at, number, address, came in seen.story:
            if not came:
                left[address] = at, number
            elif address in EXCLUSIVE and address in left and left[address][1] != number:
                figures.closest = min(figures.closest, at - left[address][0])
        moves = {address: sum(came for _, _, one, came in seen.story if one == address) for address in ADDRESSES}
        figures.samples, figures.longest_gap, figures.late = seen.samples, seen.longest_gap, seen.late
        figures.moves, figures.wrong = sum(moves.values()), len(self.wrong)
        self.story = seen.story
        self.notes.append(f"came to a node: {moves}; shortest time from one to another {figures.closest:.3f} s")
        gap = f"longest gap {seen.longest_gap * 1e3:.1f} ms, {seen.late} above 2 ms"
        self.notes.append(f"{seen.samples} samples, {gap}")

    def told(self, story: bool) -> str:
        lines = [f"seed {self.figures.seed}", *map(str, self.faults)]
        first = self.story[0][0] if self.story else 0.0
        for at, number, address, came in self.story if story or self.wrong else ():
            lines.append(f"{at - first:8.3f} ({at:.3f}) {'came to' if came else 'left'} node{number}: {address}")
        return "\n  ".join([*lines, *self.notes, *(f"WRONG: {one}" for one in self.wrong)])


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _parsed(text: str) -> Fault:
    """`holder-stop@1.5+6`, `cut-nodes:1-2@0+3`, `clock:2@1+4=-5`."""
    kind, where, at, lasts, amount = FAULT.fullmatch(text).groups()  # type: ignore[union-attr]
    return Fault(kind, float(at), float(lasts), tuple(map(int, where.split("-"))) if where else (), float(amount or 0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etcd_faults.play")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sequences", type=int, default=1, help="of the seeds that follow too, on the same nodes")
    parser.add_argument("--faults", help="these in place of what the seed draws: holder-stop@1.5+6,cut-nodes:1-2@2+3")
    parser.add_argument("--keep", type=Path, help="a directory for the logs, which must not exist yet")
    parser.add_argument("--figures", action="store_true", help="print figures as JSON too")
    parser.add_argument("--story", action="store_true", help="say who had which address when")
    options = parser.parse_args()
    enter([sys.executable, "-m", "tests.etcd_faults.play", *sys.argv[1:]])
    given = [_parsed(one) for one in options.faults.split(",")] if options.faults else []
    with tempfile.TemporaryDirectory(prefix="floatip-etcd-") as made:
        directory = options.keep or Path(made)
        directory.mkdir(exist_ok=not options.keep)
        directory.chmod(0o755)
        world = World(directory)
        wrong = list[str]()
        try:
            world.start()
            if not world.wait(START_TIMEOUT):
                wrong.append(f"the fleet did not start within {START_TIMEOUT:g} s: {world.holders()}")
            for seed in range(options.seed, options.seed + options.sequences):
                if wrong:
                    break
                play = Play(world, seed, given or plan.draw(seed))
                play.run()
                wrong = play.wrong
                print(play.told(options.story), flush=True)
                if options.figures:
                    print(f"{FIGURES}{json.dumps(asdict(play.figures))}", flush=True)
        finally:
            world.close()
        asked = history.read([node.history for node in world.nodes.values() if node.history.exists()])
        found = complaints(asked)
        print(f"{len(asked)} questions to etcd", *found, sep="\nWRONG: ")
        if options.figures:
            print(f"{FIGURES}{json.dumps({'asked': len(asked), 'wrong': len(found)})}", flush=True)
        if wrong or found:
            print(*wrong, sep="\n")
            for node in world.nodes.values():
                print(f"--- {node.name}", node.log.read_text()[-LOG_SHOWN:], sep="\n", flush=True)
    return 1 if wrong or found else 0


if __name__ == "__main__":
    sys.exit(main())
