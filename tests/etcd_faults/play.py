"""python -m tests.etcd_faults.play --seed 1: one run, in its own namespaces. Exit status 1: a rule was broken."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
OUR_BUG = 70


class Play:
    def __init__(self, seed: int, directory: Path) -> None:
        self.seed = seed
        self.faults = plan.draw(seed)
        disks = [fault.where[0] for fault in self.faults if fault.kind == "disk"]
        self.world = World(directory, small_disk=disks[0] if disks else 0)
        self.wrong: list[str] = []
        self.notes: list[str] = []
        self._stopped: dict[object, int] = {}

    def run(self) -> None:
        world = self.world
        world.start()
        namespaces = {number: node.namespace for number, node in world.nodes.items()}
        pid, stop, answer = watch.start(namespaces, ADDRESSES, len(EXCLUSIVE))
        assert os.read(answer, 1) == b"+"
        try:
            if world.wait(START_TIMEOUT):
                self._play()
                began = time.monotonic()
                if world.wait(WHOLE_AGAIN):
                    self.notes.append(f"whole {time.monotonic() - began:.1f} s after the last fault")
                else:
                    self.wrong.append(
                        f"not each address is on one node {WHOLE_AGAIN:g} s after the last fault: {world.holders()}"
                    )
            else:
                self.wrong.append(f"the fleet did not start within {START_TIMEOUT:g} s: {world.holders()}")
        finally:
            os.close(stop)
            with os.fdopen(answer) as file:
                text = file.read()
            os.waitpid(pid, 0)
            world.close()
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
        number = holders[0] if holders else NODES[self.seed % len(NODES)]
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
        world = self.world
        self.wrong += seen.twice
        if seen.lost:
            self.wrong.append(f"{seen.lost} messages of the kernel were lost: the verdict is not complete")
        self.wrong += [end for node in world.nodes.values() for end in node.ends]
        asked = history.read([node.history for node in world.nodes.values() if node.history.exists()])
        self.wrong += complaints(asked)
        moves = {address: sum(came for _, _, one, came in seen.story if one == address) for address in ADDRESSES}
        self.notes.append(f"came to a node: {moves}")
        self.notes.append(f"{len(asked)} questions to etcd")
        self.notes.append(
            f"{seen.samples} samples, longest gap {seen.longest_gap * 1e3:.1f} ms, {seen.late} above 2 ms"
        )
        self.figures = {
            "samples": seen.samples, "longest_gap": seen.longest_gap, "late": seen.late, "asked": len(asked),
            "moves": sum(moves.values()), "wrong": len(self.wrong),
        }  # fmt: skip
        self.story = seen.story


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etcd_faults.play")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--keep", type=Path, help="a directory for the logs, which must not exist yet")
    parser.add_argument("--figures", action="store_true", help="the last line is JSON")
    parser.add_argument("--story", action="store_true", help="say who had which address when")
    options = parser.parse_args()
    enter([sys.executable, "-m", "tests.etcd_faults.play", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="floatip-etcd-") as made:
        directory = options.keep or Path(made)
        directory.mkdir(exist_ok=not options.keep)
        directory.chmod(0o755)
        play = Play(options.seed, directory)
        print(f"seed {options.seed}", *play.faults, sep="\n  ", flush=True)
        play.run()
        if options.story:
            first = play.story[0][0] if play.story else 0.0
            for at, number, address, came in play.story:
                print(f"  {at - first:8.3f} ({at:.3f}) {'came to' if came else 'left'} node{number}: {address}")
        for note in play.notes:
            print(f"  {note}")
        for wrong in play.wrong:
            print(f"  WRONG: {wrong}")
        if play.wrong and not options.keep:
            for node in play.world.nodes.values():
                print(f"--- {node.name}", node.log.read_text()[-6000:], sep="\n")
        if options.figures:
            print(json.dumps(play.figures))
    return 1 if play.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
