"""What `floatip status` costs with 255 instances and 1,000 prefixes, on two nodes with four route servers.

python -m bench.status [--runs 30] [--json FILE]

answer      the time for which the daemon's loop makes the answer, wall clock and its thread's CPU alone: at rest, and
            at a handover of all that one node carries, asked as fast as the daemon answers
command     the whole command in a pipe, as a person or a monitoring plug-in runs it

The daemons have the scheduling that the unit gives them, where the machine allows that.
Everything happens in namespaces that end with this process. The exit status is 1 when a figure is over its limit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from bench.attacks import schedule_as_the_unit
from bench.fleet import configuration, stage
from bench.pairs import wait_for
from bench.scale import Part, Row, log, run_parts
from floatip.host.ask import ControlError, ask
from floatip.lab.namespaces import LabError
from floatip.lab.network import NODES, ROUTE_SERVERS, Network
from floatip.lab.programs.bird import BirdRouteServer
from floatip.lab.programs.floatip import FloatipDaemon

INSTANCES, PREFIXES = 255, 1000
ANSWER, COMMAND = 5.0, 150.0
"""Milliseconds that are allowed."""
ANNOUNCED_WITHIN = 180.0
HANDOVER = 5.0
"""Seconds for which a handover is watched."""
MEASURED = """
import json, sys, time
from floatip.host import daemon
times, status = [], daemon.Daemon._status
def measured(self, request, pid):
    if request.get("figures"):
        return {{"times": times}}
    wall, cpu = time.perf_counter(), time.thread_time()
    answer = status(self, request, pid)
    answer.encode()
    times.append((time.perf_counter() - wall, time.thread_time() - cpu))
    return answer
daemon.Daemon._status = measured
sys.exit(daemon.run({file!r}))
"""


class MeasuredDaemon(FloatipDaemon):
    """The real one, which notes for how long it makes each answer."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", MEASURED.format(file=self.config)]

    def times(self) -> list[tuple[float, float]]:
        """Wall clock and CPU in seconds, of each answer so far."""
        found: Any = ask(self.socket, {"cmd": "status", "figures": True}, timeout=30)["times"]
        return [(wall, cpu) for wall, cpu in found]

    def ask_for_status(self) -> dict[str, Any]:
        return ask(self.socket, {"cmd": "status"}, timeout=30)


def text() -> str:
    """The configuration: what `configuration` writes, with several addresses in each instance."""
    each = [PREFIXES // INSTANCES + (number < PREFIXES % INSTANCES) for number in range(INSTANCES)]
    octets = iter(f"192.168.{200 + number // 250}.{number % 250 + 1}" for number in range(PREFIXES))
    lists = ['/32", "'.join(next(octets) for _ in range(count)) for count in each]
    return configuration(NODES, lists, 0.1, bgp=True)


def status(options: argparse.Namespace) -> Iterator[Row]:
    with stage() as network:
        nodes = _started(network)
        node = max(nodes, key=_carried)
        carried = _carried(node)
        size = len(json.dumps(node.ask_for_status()))
        log(f"{carried} of {INSTANCES} instances on this node, {PREFIXES} prefixes, an answer of {size / 1000:.0f} kB")
        begin = len(node.times())
        for _ in range(options.runs):
            node.ask_for_status()
            time.sleep(0.1)
        yield from _answers("at rest", node.times()[begin:], ANSWER)
        begin = len(node.times())
        moving = Thread(target=ask, args=(node.socket, {"cmd": "handover", "force": True}, 60))
        moving.start()
        until = time.monotonic() + HANDOVER
        while time.monotonic() < until:
            node.ask_for_status()
        moving.join()
        if _carried(node) == carried:
            raise LabError("the handover moved nothing", f"its log: {node.log.read_text()[-2000:]}")
        yield from _answers("at a handover", node.times()[begin:], None)
        yield from _commands(node, options.runs)


def _started(network: Network) -> list[MeasuredDaemon]:
    """With all sessions up and all prefixes announced by both."""
    for server in ROUTE_SERVERS:
        BirdRouteServer(network, server.name).start()
    time.sleep(1.0)
    nodes = [MeasuredDaemon(network, host.name, text()) for host in NODES]
    for node in nodes:
        node.start()
        schedule_as_the_unit(node.pid)
    for node in nodes:
        wait_for(lambda node=node: _is_whole(node), f"{node.host} to announce all", ANNOUNCED_WITHIN)  # type: ignore[misc]
    return nodes


def _is_whole(node: MeasuredDaemon) -> bool:
    time.sleep(1.0)  # to ask again and again would hold up what is waited for
    try:
        known = node.ask_for_status()
    except ControlError:
        return False
    told = [address["announced_to"] for one in known["instances"] for address in one["addresses"]]
    return told == [len(ROUTE_SERVERS)] * PREFIXES and not known["problems"]


def _carried(node: MeasuredDaemon) -> int:
    return sum(one["role"]["value"] == "master" for one in node.ask_for_status()["instances"])


def _answers(when: str, times: Sequence[tuple[float, float]], limit: float | None) -> Iterator[Row]:
    walls, cpus = ([1000 * each for each in column] for column in zip(*times, strict=True))
    yield Row("answer", f"{when}, median of {len(times)}", "ms", statistics.median(walls), limit=limit)
    yield Row("answer", f"{when}, CPU alone, median", "ms", statistics.median(cpus))
    yield Row("answer", f"{when}, the longest, CPU alone", "ms", max(cpus))


def _commands(node: MeasuredDaemon, runs: int) -> Iterator[Row]:
    yield Row("command", "an empty Python program, the fastest", "ms", min(_times(["-c", "pass"], node, runs)))
    for options in ((), ("--brief",), ("--json",)):
        took = _times(["-m", "floatip", "status", *options], node, runs)
        name = " ".join(("floatip status", *options))
        yield Row("command", f"{name}, median of {runs}", "ms", statistics.median(took), limit=COMMAND)
        yield Row("command", f"{name}, the fastest", "ms", min(took))


def _times(arguments: list[str], node: MeasuredDaemon, runs: int) -> list[float]:
    """Milliseconds of each run."""
    took = []
    for _ in range(runs):
        began = time.monotonic()
        done = subprocess.run([sys.executable, *arguments], env=_environment(node), capture_output=True, check=False)
        took.append(1000 * (time.monotonic() - began))
        if done.returncode > 1:
            raise LabError(f"{arguments} failed: {done.stderr.decode()}", "see the daemon's log")
    return took


def _environment(node: MeasuredDaemon) -> dict[str, str]:
    return {**os.environ, **node.environment()}


def measure(runs: int) -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "status.json")
        command = [sys.executable, "-m", "bench.status", "--json", str(found), "--runs", str(runs)]
        subprocess.run(command, check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


PARTS: dict[str, Part] = {"status": status}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.status")
    parser.add_argument("--only", default=",".join(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=30)
    return run_parts(parser, PARTS)


if __name__ == "__main__":
    sys.exit(main())
