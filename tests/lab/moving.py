"""A pair of real daemons in the lab, whose address moves again and again; what each move did to open connections."""

import math
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from floatip.connection_words import sentences
from floatip.core.second_chance.machine import HELLO_PATIENCE, SILENCE
from floatip.core.second_chance.moves import PREPARE_TIME
from floatip.core.state import Status, read
from floatip.host.ask import ask
from floatip.lab.connections import ends
from floatip.lab.namespaces import Closes
from floatip.lab.network import FLOATING, NODES, OBSERVER, ROUTER, Network
from floatip.lab.programs.connections import PORT, ConnectionsProgram
from floatip.lab.record import Record, RunEvent, RunOptions
from floatip.lab.run import Run
from floatip.lab.scheduling import DelayWatch
from floatip.lab.second_chance_scenes import begun_at, no_hang, survived, were_reset
from floatip.lab.verdicts import AGREEMENT, Verdict, limit, no_loss

LONG = 30
ENDS_WITHIN = 30.0
LOST_AFTER = 1.0
"""Seconds after which the observer has given up a probe."""
MOVES_WITHIN = 0.5
"""Seconds in which an address moves where nothing is prepared."""
REPEATED_WITHIN = 2 * SILENCE + 0.6
"""Seconds after which TCP has sent again what it sent shortly before that silence began."""


@dataclass(frozen=True)
class Story:
    """What a move did."""

    keeper: str
    carrier: str
    at: float
    taken_at: float
    record: Record
    """From before the move until the connections were closed."""
    said: str
    """By `floatip history` and `floatip status` on both nodes."""

    def judge(self, verdicts: Sequence[Verdict]) -> None:
        texts = [f"{'ok ' if one.holds else 'NOT'} {one.text}" for one in verdicts]
        news = [f"    {one.at - self.at:6.2f} {one.host} {one.name} {one.value}: {one.reason}" for one in self.news()]
        print(*texts, *news, sep="\n")
        assert all(one.holds for one in verdicts), "\n".join([*texts, *news, self.said])

    def no_loss(self) -> list[Verdict]:
        """A request that was open when the traffic moved is an old connection."""
        moved = self.taken_at + AGREEMENT + self.record.delayed(self.at, self.taken_at + AGREEMENT)
        probes = [one for one in self.record.probes if one.kind == "echo" or not self.at - 0.05 < one.at < moved]
        return no_loss(replace(self.record, probes=probes))

    def news(self) -> list[RunEvent]:
        return [one for one in self.record.events if one.what == "connections"]

    def everywhere(self) -> list[Verdict]:
        """Whatever became of the old connections."""
        took, delayed = self.taken_at - self.at, self.record.delayed(self.at, self.taken_at)
        most = MOVES_WITHIN + PREPARE_TIME
        after = self.taken_at + AGREEMENT
        begun = [one for one in self.record.connections.short if one.at >= after + self.record.delayed(self.at, one.at)]
        failed = ends(begun)
        return [
            Verdict(took < most + delayed, f"{self.carrier} took over after {took:.2f} s ({limit(most, delayed)})"),
            *self.no_loss(),
            begun_at(self.record, self.carrier, self.taken_at),
            Verdict(not failed, f"{sum(failed.values())} of {len(begun)} that began after that failed {failed or ''}"),
        ]

    def went_on(self, stall: float) -> list[Verdict]:
        """`stall`: seconds that the echo of a message may take."""
        return [
            *self.everywhere(),
            *survived(self.record, stall),
            no_hang(self.record),
            self.tells("kept", "of this node go on here"),
        ]

    def reset(self, news: str, why: str, since: float, within: float) -> list[Verdict]:
        """As without a second chance. `news`: of the daemons; `since`: when it went wrong."""
        found = self.record.connections
        stalls = [one.stall for one in (*found.long, *found.transfers)] + [one.took for one in found.short]
        longest = max(stalls)
        delayed = self.record.delayed(since, since + within)
        return [
            *self.everywhere(),
            *were_reset(self.record),
            Verdict(
                longest < within + delayed,
                f"none had to wait for longer than {longest:.2f} s ({limit(within, delayed)})",
            ),
            self.tells(news, why),
        ]

    def tells(self, news: str, why: str) -> Verdict:
        told = [one for one in self.news() if one.value == news and re.search(why, one.reason)]
        is_said = re.search(why, self.said) is not None
        return Verdict(bool(told) and is_said, f"the daemons tell it: {news}: {why}")


class Pair(Closes):
    def __init__(self, run: Run, target: str = str(FLOATING.ip)) -> None:
        """`target`: the address of the connections."""
        self.run = run
        self.target = target
        self.client = ConnectionsProgram(run.network, LONG)
        self.was_closed = False
        """The tunnel was, and one of the nodes may be about to notice that it is not any more."""
        self._delays = DelayWatch(self._helpers, run.record.delays)
        for node in NODES:
            run.wait_until_seasoned(node.name)

    def close(self) -> None:
        self._delays.close()

    def _helpers(self) -> list[int]:
        """The daemons' other processes, that of the second chance among them. Their delays count as well."""
        found: list[int] = []
        for node in self.nodes:
            with suppress(OSError):
                pid = self.run.nodes[node].pid
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    @property
    def network(self) -> Network:
        return self.run.network

    @property
    def nodes(self) -> list[str]:
        return [node.name for node in NODES]

    @property
    def master(self) -> str:
        (found,) = self.run.record.masters
        return found

    def other(self, node: str) -> str:
        (found,) = (each for each in self.nodes if each != node)
        return found

    def status(self, node: str) -> Status:
        return read(Status, self.run.nodes[node].status())

    def says(self, node: str, words: str) -> bool:
        """Of open connections, in its status."""
        return any(re.search(words, said.text) for said in sentences(self.status(node)))

    def settle(self) -> None:
        """Until both could move again, and nothing is left of what was."""
        for node in self.nodes:
            with self.network.inside(node):
                kill = ["ss", "--kill", "--tcp", "--no-header", "src", self.target]
                subprocess.run(kill, check=True, capture_output=True)
        well_since = math.inf

        def is_well() -> bool:
            nonlocal well_since
            now = time.monotonic()
            well_since = min(well_since, now) if all(map(self.is_usable, self.nodes)) else math.inf
            return now >= well_since + (HELLO_PATIENCE if self.was_closed else 0)

        self.run.wait_for(is_well, "the tunnel to work, with nothing in it", 60)
        self.was_closed = False

    def is_usable(self, node: str) -> bool:
        told = self.status(node).second_chance
        works = told and told.usable and told.nodes and all(one.works for one in told.nodes)
        return bool(works and told and not told.without and not told.streams)

    def open_ports(self) -> set[str]:
        """Of the client's connections."""
        with self.network.inside(OBSERVER.name):
            command = ["ss", "--tcp", "--no-header", "--numeric", "dst", f"{self.target}:{PORT}"]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {line.split()[3].rpartition(":")[2] for line in told.splitlines()}

    @contextmanager
    def connected(self) -> Iterator["Connected"]:
        self.client.log.unlink(missing_ok=True)
        self.client.start()
        try:
            self.run.wait_for(lambda: self.client.is_ready, "the connections to be open", 60)
            yield Connected(self, self.open_ports())
        finally:
            if self.client.running:
                self.client.kill()

    def hand_over(self, node: str) -> float:
        """When that was asked for."""
        at = self.run.fault(f"{node} hands over")
        answer = ask(self.run.nodes[node].socket, {"cmd": "handover", "instance": None, "to": None, "force": False})
        assert not answer.get("refused"), answer
        return at

    def taken_over(self, node: str, after: float) -> float:
        self.run.wait_for_event(node, "role", "master", after)
        found = self.run.record.first(node, "role", "master", after)
        assert found
        return found.at


@dataclass
class Connected:
    """Open connections, and the story of their move."""

    pair: Pair
    ports: set[str]
    began_at: float = field(default_factory=time.monotonic)

    def wait_for_resets(self) -> None:
        """Of all that say something."""
        # The idle ones say something at the end.
        self.pair.run.wait_for(
            lambda: len(self.ports & self.pair.open_ports()) <= self.pair.client.idle, "the resets", ENDS_WITHIN
        )

    def tell(self, keeper: str, at: float, taken_at: float) -> Story:
        """Ends them."""
        run, carrier = self.pair.run, self.pair.other(keeper)
        over_at = time.monotonic()
        found = self.pair.client.end()
        said = [run.nodes[node].ask(word).stdout for word in ("history", "status") for node in (keeper, carrier)]
        time.sleep(max(0.0, over_at + LOST_AFTER + run.record.delayed(over_at, time.monotonic()) - time.monotonic()))
        record = Record(run.options, routes={ROUTER: list(run.record.routes[ROUTER])}, delays=list(run.record.delays))
        record.events = [one for one in run.record.events if one.at >= self.began_at]
        record.probes = [one for one in list(run.record.probes) if self.began_at <= one.at <= over_at]
        record.connections = found
        return Story(keeper, carrier, at, taken_at, record, " ".join(" ".join(said).split()))


@contextmanager
def moving() -> Iterator[Pair]:
    """Nodes that elect, with the second chance."""
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with Run(RunOptions(election="nodes", second_chance="on", connections=LONG, probe_interval=0.01)) as run:
        run.start()
        with Pair(run) as pair:
            yield pair
