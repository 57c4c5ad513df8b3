"""A pair of real daemons in the lab, whose address moves again and again; what each move did to open connections."""

import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from floatip.connection_words import sentences
from floatip.core.second_chance.machine import HELLO_PATIENCE, SILENCE
from floatip.core.second_chance.moves import PREPARE_TIME
from floatip.core.state import Status, read
from floatip.host.ask import ask
from floatip.lab.connections import Connections, ends
from floatip.lab.network import FLOATING, NODES, OBSERVER, ROUTER, LabHost, Network
from floatip.lab.programs.connections import PORT, ConnectionsProgram
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.record import Record, RunEvent, RunOptions
from floatip.lab.run import Run
from floatip.lab.second_chance_scenes import STALL, begun_at, no_hang, none_failed, were_reset
from floatip.lab.verdicts import AGREEMENT, Verdict, limit, no_loss

LONG = 30
"""To each of the two addresses."""
FLOATING6 = "2001:db8:ff::158"
HEAD = """\
[linode]
dcid = 6

[bgp]
hold_time = 9

[second_chance]
mode = "on"
"""
NODE = """
[[node]]
name = "{}"
address = "{}"
"""
INSTANCE = """
[[instance]]
name = "{}"
addresses = [{}]
"""
ENDS_WITHIN = 30.0
STOPS_WITHIN = 30.0
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "handover": {"instance": None, "to": None, "force": False},
    "drain": {"reason": "", "for": None, "withdraw": False, "force": False},
}
"""Of orders."""
OPEN = 0.05
"""Seconds for which a request is open."""
LOST_AFTER = 1.0
"""Seconds after which the observer has given up a probe."""
MOVES_WITHIN = 0.5
"""Seconds in which an address moves where nothing is prepared."""
DELAYED, LOAD, TRIES = 0.2, 8, 3
"""Where a machine does not run a program for so many seconds, or so many for each CPU want to run, a play that fails is
played again; so often at most."""
REPEATED_WITHIN = 2 * SILENCE + 0.6
"""Seconds after which TCP has sent again what it sent shortly before that silence began."""


@dataclass(frozen=True)
class Story:
    """What a move did."""

    keeper: str
    carrier: str
    at: float
    taken_at: float
    over_at: float
    record: Record
    """From before the move until the connections were closed."""
    said: str
    """By `floatip history` and `floatip status` on both nodes."""

    def judge(self, verdicts: Sequence[Verdict]) -> bool:
        """Whether all hold. False where one does not and this machine may be why: it did not run all programs."""
        texts = [f"{'ok ' if one.holds else 'NOT'} {one.text}" for one in verdicts]
        news = [f"    {one.at - self.at:6.2f} {one.host} {one.name} {one.value}: {one.reason}" for one in self.news()]
        holds = all(one.holds for one in verdicts)
        delayed = self.record.delayed(self.at, self.over_at)
        load = os.getloadavg()[0]
        is_busy = delayed > DELAYED or load > LOAD * (os.cpu_count() or 1)
        machine = f"this machine did not run all programs for {delayed:.2f} s, load {load:.0f}"
        print(*texts, *news, machine, sep="\n")
        assert holds or is_busy, "\n".join([*texts, *news, machine, self.said])
        return holds

    def no_loss(self, spared: str) -> list[Verdict]:
        """`spared`: a kind of probe that may be lost while the traffic moves."""
        moved = self.taken_at + AGREEMENT + self.record.delayed(self.at, self.taken_at + AGREEMENT)
        probes = [one for one in self.record.probes if one.kind != spared or not self.at - OPEN < one.at < moved]
        return no_loss(replace(self.record, probes=probes))

    def news(self) -> list[RunEvent]:
        return [one for one in self.record.events if one.what == "connections"]

    def everywhere(self, spared: str) -> list[Verdict]:
        """Whatever became of the old connections. `spared`: as in `no_loss`."""
        took, delayed = self.taken_at - self.at, self.record.delayed(self.at, self.taken_at)
        most = MOVES_WITHIN + PREPARE_TIME
        after = self.taken_at + AGREEMENT
        begun = [one for one in self.record.connections.short if one.at >= after + self.record.delayed(self.at, one.at)]
        failed = ends(begun)
        return [
            Verdict(took < most + delayed, f"{self.carrier} took over after {took:.2f} s ({limit(most, delayed)})"),
            *self.no_loss(spared),
            begun_at(self.record, self.carrier, self.taken_at),
            Verdict(not failed, f"{sum(failed.values())} of {len(begun)} that began after that failed {failed or ''}"),
        ]

    def went_on(self, stall: float = STALL) -> list[Verdict]:
        """`stall`: seconds that the echo of a message may take."""
        return [
            *self.everywhere(""),
            *none_failed(self.record.connections),
            Verdict(not self.record.torn, f"{len(self.record.torn)} requests of the observer were reset by the move"),
            self.stalled(stall),
            no_hang(self.record),
            self.tells("kept", "of this node go on here"),
        ]

    def stalled(self, most: float) -> Verdict:
        longest = self.record.connections.longest
        assert longest
        delayed = self.record.delayed(longest.stall_at, longest.stall_at + longest.stall)
        text = f"the echo of a message took {longest.stall:.3f} s at most ({limit(most, delayed)})"
        return Verdict(longest.stall <= most + delayed, text)

    def reset(self, news: str, why: str, since: float, within: float) -> list[Verdict]:
        """As without a second chance. `news`: of the daemons; `since`: when it went wrong."""
        found = self.record.connections
        stalls = [one.stall for one in (*found.long, *found.transfers)] + [one.took for one in found.short]
        longest = max(stalls)
        delayed = self.record.delayed(since, since + within)
        return [
            *self.everywhere("request"),  # one that was open is an old connection
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


class Pair:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.targets = (str(FLOATING.ip), FLOATING6)
        self.clients = [
            ConnectionsProgram(run.network, LONG, target, f"connections-{number}")
            for number, target in enumerate(self.targets, 1)
        ]
        self._stopping: list[str] = []
        self.was_closed = False
        """The tunnel was, and one of the nodes may be about to notice that it is not any more."""
        self.instances = run.record.carries(self.master)
        for node in NODES:
            run.wait_until_seasoned(node.name)

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
                for target in self.targets:
                    kill = ["ss", "--kill", "--tcp", "--no-header", "src", f"[{target}]"]
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

    def open_ports(self) -> set[tuple[str, str]]:
        """Of the clients' connections, with the address that they are to."""
        found = set()
        with self.network.inside(OBSERVER.name):
            for target in self.targets:
                command = ["ss", "--tcp", "--no-header", "--numeric", "dst", f"[{target}]:{PORT}"]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found |= {(target, line.split()[3].rpartition(":")[2]) for line in told.splitlines()}
        return found

    @property
    def idle(self) -> int:
        """Connections that say something at the end."""
        return sum(client.idle for client in self.clients)

    @contextmanager
    def connected(self) -> Iterator["Connected"]:
        try:
            for client in self.clients:
                client.log.unlink(missing_ok=True)
                client.start()
            self.run.wait_for(lambda: all(client.is_ready for client in self.clients), "the connections to be open", 60)
            yield Connected(self, self.open_ports())
        finally:
            for client in self.clients:
                if client.running:
                    client.kill()

    def close_connections(self) -> Connections:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(ConnectionsProgram.end, self.clients))
        return Connections(
            tuple(chain.from_iterable(one.long for one in found)),
            tuple(chain.from_iterable(one.short for one in found)),
            tuple(chain.from_iterable(one.transfers for one in found)),
        )

    def order(self, node: str, what: str) -> float:
        """When that was asked for."""
        at = self.run.fault(f"{node}: {what}")
        answer = ask(self.run.nodes[node].socket, {"cmd": what, **OPTIONS.get(what, {})})
        assert not answer.get("refused"), answer
        return at

    def taken_over(self, node: str, after: float) -> float:
        """When it was master of all."""
        self.run.wait_for(lambda: self.run.record.carries(node) == self.instances, f"{node} to take over")
        return max(one.at for one in self.run.record.of(node, "role") if one.at >= after and one.value == "master")

    def stop(self, node: str) -> float:
        """Its daemon, which waits for its connections."""
        at = self.run.fault(f"stop floatip on {node}")
        self.run.nodes[node].stop()
        self._stopping.append(node)
        return at

    def start_again(self) -> None:
        """The daemons that were stopped, once they have exited."""
        while self._stopping:
            name = self._stopping.pop()
            daemon = self.run.nodes[name]
            assert daemon.wait(STOPS_WITHIN) == 0
            assert not self.run.holds_address(name)
            self.run.start_node(name)
            self.run.wait_until_seasoned(name)


@dataclass
class Connected:
    """Open connections, and the story of their move."""

    pair: Pair
    ports: set[tuple[str, str]]
    began_at: float = field(default_factory=time.monotonic)

    def wait_for_resets(self) -> None:
        """Of all that say something."""
        self.pair.run.wait_for(
            lambda: len(self.ports & self.pair.open_ports()) <= self.pair.idle, "the resets", ENDS_WITHIN
        )

    def tell(self, keeper: str, at: float, taken_at: float) -> Story:
        """Ends them."""
        run, carrier = self.pair.run, self.pair.other(keeper)
        over_at = time.monotonic()
        found = self.pair.close_connections()
        said = [run.nodes[node].ask(word).stdout for word in ("history", "status") for node in (keeper, carrier)]
        time.sleep(max(0.0, over_at + LOST_AFTER + run.record.delayed(over_at, time.monotonic()) - time.monotonic()))
        record = Record(run.options, routes={ROUTER: list(run.record.routes[ROUTER])}, delays=list(run.record.delays))
        record.events = [one for one in run.record.events if one.at >= self.began_at]
        record.probes = [one for one in list(run.record.probes) if self.began_at <= one.at <= over_at]
        record.connections = found
        return Story(keeper, carrier, at, taken_at, over_at, record, " ".join(" ".join(said).split()))


def head(link: int) -> str:
    """The part of the nodes' files that all have; `link`: the IP version of the link."""
    nodes = "".join(NODE.format(each.name, each.ipv6 if link == 6 else each.ipv4.ip) for each in NODES if each.ipv4)
    return HEAD + nodes


def by_link(host: LabHost, link: int = 4) -> str:
    """The nodes elect, and have the same file. `link`: its IP version."""
    return head(link) + INSTANCE.format("VI_1", f'"{FLOATING}", "{FLOATING6}/128"')


class MovingRun(Run):
    """With these files."""

    def __init__(self, options: RunOptions, file: Callable[[LabHost], str]) -> None:
        self._file = file
        super().__init__(options)

    def _node(self, host: str) -> FloatipDaemon:
        (node,) = (each for each in NODES if each.name == host)
        return FloatipDaemon(self.network, host, self._file(node))


@contextmanager
def moving(file: Callable[[LabHost], str] = by_link, **options: Any) -> Iterator[Pair]:
    """`file`: of a node. `options`: of the run."""
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    chosen: dict[str, Any] = {
        "election": "nodes",
        "second_chance": "on",
        "connections": LONG,
        "probe_interval": 0.01,
    } | options
    with MovingRun(RunOptions(**chosen), file) as run:
        run.start()
        yield Pair(run)


def until_judged(play: Callable[[], bool]) -> None:
    """`play`: as `Story.judge`."""
    assert any(play() for _ in range(TRIES)), f"this machine was too busy, {TRIES} times"
