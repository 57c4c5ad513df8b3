"""The HTTP listener: what its readers cost the hellos, what it takes of memory, and whether it leaks.

python -m bench.web [--only readers,memory,leak] [--seconds 60] [--requests 1000000] [--streams 10000] [--json FILE]

readers   255 instances on two nodes. Beside a scrape a second, ten open event streams and `floatip status --watch`:
          how late hellos are, beside the same without readers. An instance is handed over every other second in both
memory    of a daemon with the listener and one without it
leak      after a million requests of the status, and ten thousand event streams that were opened and dropped

Everything happens in namespaces that end with this process. The exit status is 1 when a figure is over its limit.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from bench.attacks import Lateness, Window
from bench.fleet import Fleet, stage
from bench.pairs import rss
from bench.scale import Part, Row, log, run_parts
from bench.wire import Tap, Watch
from floatip.lab.network import Network
from floatip.lab.programs.floatip import FloatipDaemon

INSTANCES, INTERVAL, SETTLE = 255, 0.1, 4.0
STREAMS = 10
HANDOVER_EVERY = 2.0
PORT = 8179
HTTP = "[http]\n"
P99_MORE_AT_MOST, RSS_MORE_AT_MOST = 5.0, 5.0
"""Milliseconds, as the link's flood may cost; MB."""
LEFT_AT_MOST = 2.0
"""MB that may be left after all requests: what the allocator keeps."""


def readers(options: argparse.Namespace) -> Iterator[Row]:
    with ExitStack() as exits:
        network = exits.enter_context(stage())
        made = _settled(network, INSTANCES)
        carrier = max(made.nodes, key=made.carries)
        tap = exits.enter_context(Tap(network, made.nodes))
        watch = exits.enter_context(Watch(made.pids))
        exits.enter_context(_handing_over(made))
        without = 0.0
        windows: dict[str, Callable[[], None]] = {
            "without readers": lambda: time.sleep(options.seconds),
            "with readers": lambda: _read(network, made.nodes[carrier], options.seconds),
        }
        for name, play in windows.items():
            log(f"{name}, {options.seconds:g} s ...")
            began, cpu = time.monotonic(), made.cpu()
            play()
            until, after = time.monotonic(), made.cpu()
            tap.settle()
            sent = ((node, times) for (node, _), times in tap.hellos.items())
            late = Lateness.of(sent, INTERVAL, Window(began, until, watch, 0.0, 0.0))
            without = without or late.p99
            yield Row(name, "hellos late, p99", "ms", 1000 * late.p99, limit=1000 * without + P99_MORE_AT_MOST)
            yield Row(name, "hellos late, longest", "ms", 1000 * late.longest)
            yield Row(name, "hellos late, longest of our making", "ms", 1000 * late.ours)
            gone = [each for each in made.since(began, "node") if each["value"] == "gone"]
            yield Row(name, "nodes declared gone", "", len(gone), limit=0)
            yield Row(name, "CPU of the daemon", "% of a core", 100 * (after[carrier] - cpu[carrier]) / (until - began))


def _read(network: Network, node: FloatipDaemon, seconds: float) -> None:
    command = [sys.executable, "-m", "floatip", "status", "--watch"]
    with Path(os.devnull).open("wb") as nowhere:
        screen = subprocess.Popen(
            ["script", "-qfc", " ".join(command), "/dev/null"],
            env={**os.environ, **node.environment(), "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=nowhere,
        )
    try:
        told = _client(network, node, "open", STREAMS, seconds)
    finally:
        screen.kill()
        screen.wait()
    log(f"{told['scrapes']:.0f} scrapes of {told['octets']:,.0f} octets, the slowest {1000 * told['slow']:.0f} ms; ")
    log(f"{told['streams']:.0f} streams had {told['events']:.0f} events")


@contextmanager
def _handing_over(made: Fleet) -> Iterator[None]:
    """One instance, to and fro: something to tell."""
    over = Event()

    def play() -> None:
        while not over.wait(HANDOVER_EVERY):
            for node in made.nodes.values():
                with suppress(OSError):
                    node.ask("handover", "VI_1")

    thread = Thread(target=play, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def memory(options: argparse.Namespace) -> Iterator[Row]:
    figures: dict[bool, float] = {}
    for has_http in (False, True):
        with stage() as network:
            made = _settled(network, INSTANCES, has_http=has_http)
            node = next(iter(made.nodes.values()))
            if has_http:
                _client(network, node, "requests", 400)
            figures[has_http] = made.rss()
            if has_http:
                child = _listener(node)
                yield Row("memory", "RSS of the listener's process", "MB", rss(child))
                yield Row("memory", "its own, which it shares with no other (USS)", "MB", _own(child))
    more = figures[True] - figures[False]
    yield Row("memory", "RSS of the daemon without the listener", "MB", figures[False])
    yield Row("memory", "RSS of the daemon more with it", "MB", more, limit=RSS_MORE_AT_MOST)


def leak(options: argparse.Namespace) -> Iterator[Row]:
    with stage() as network:
        made = _settled(network, 1)
        node = next(iter(made.nodes.values()))
        child = _listener(node)
        _client(network, node, "requests", 4000)
        _client(network, node, "streams", 100)
        before = _held(node.pid), _held(child)
        plays: tuple[tuple[str, Callable[[], dict[str, float]]], ...] = (
            (f"{options.requests:,} requests", lambda: _client(network, node, "requests", options.requests)),
            (f"{options.streams:,} streams", lambda: _client(network, node, "streams", options.streams)),
        )
        for name, play in plays:
            log(f"{name} ...")
            told = play()
            log(f"{name}: {told}")
            time.sleep(1.0)
            for who, pid, (size, files) in (("daemon", node.pid, before[0]), ("listener", child, before[1])):
                now_size, now_files = _held(pid)
                yield Row(f"after {name}", f"RSS of the {who}, more", "MB", now_size - size, limit=LEFT_AT_MOST)
                yield Row(f"after {name}", f"open files of the {who}, more", "", now_files - files, limit=0)


def _held(pid: int) -> tuple[float, int]:
    """RSS in MB, and how many open files."""
    return rss(pid), len(os.listdir(f"/proc/{pid}/fd"))


def _own(pid: int) -> float:
    """MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def _listener(node: FloatipDaemon) -> int:
    """The pid of the daemon's child that listens."""
    for path in Path(f"/proc/{node.pid}/task").glob("*/children"):
        for pid in map(int, path.read_text().split()):
            if b"floatip.web" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise RuntimeError("the daemon has no listener")


def _client(network: Network, node: FloatipDaemon, *words: object) -> dict[str, float]:
    what, *rest = map(str, words)
    command = [sys.executable, "-m", "bench.readers", what, str(PORT), *rest]
    output, _ = network.run(node.host, command).communicate()
    told: dict[str, float] = json.loads(output)
    return told


def _settled(network: Network, instances: int, *, has_http: bool = True) -> Fleet:
    made = Fleet(network, 2, instances, INTERVAL, more=HTTP if has_http else "")
    made.start()
    time.sleep(SETTLE)
    return made


PARTS: dict[str, Part] = {"readers": readers, "memory": memory, "leak": leak}


def measure(seconds: float) -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "web.json")
        command = [sys.executable, "-m", "bench.web", "--seconds", str(seconds), "--json", str(found)]
        subprocess.run(command, check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.web")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `readers` measures, each time")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of `leak`")
    parser.add_argument("--streams", type=int, default=10_000, help="of `leak`")
    return run_parts(parser, PARTS)


if __name__ == "__main__":
    sys.exit(main())
