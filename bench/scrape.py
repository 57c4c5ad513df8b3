"""What a scrape costs: floatip's own exporter beside those of others, in one run, one scrape a second of each.

python -m bench.scrape [--only pair,many] [--scrapes 60] [--json FILE]

pair  a node that elects over the link, has four BGP sessions and one check: floatip in its own names and in those of
      keepalived-exporter; beside it HAProxy's own exporter, Debian's prometheus-node-exporter, and, where the program
      is on the PATH, keepalived-exporter with a keepalived of one instance
many  255 instances: the same scrape, and how long the process takes to make the text

Time is that of the client. CPU is that of all processes that take part, less what they use without scrapes.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

from bench.fleet import Fleet, stage
from bench.idle import keepalived_beside
from bench.pairs import cpu_of, rss, wait_for
from floatip.core import figures
from floatip.core.state import Status, read
from floatip.host.ask import ask
from floatip.lab.namespaces import LabError, enter, find_program
from floatip.lab.network import HAPROXY1, HAPROXY2, Network
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program
from floatip.lab.record import RunOptions
from floatip.lab.run import Run
from floatip.web.metrics import render

HOST = HAPROXY1.name
LISTENER = '[http]\nlisten = ["127.0.0.1:8179"]\n'
READY_WITHIN = 60.0
MOST_TO_RENDER = 10.0
"""Milliseconds."""


class HAProxyExporter(Program):
    name = "haproxy-exporter"

    def command(self) -> Sequence[str]:
        config = """
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend metrics
  bind 127.0.0.1:8405
  http-request use-service prometheus-exporter if { path /metrics }
  default_backend web
backend web
  server web 127.0.0.1:80 check
"""
        return [find_program("haproxy", "haproxy"), "-db", "-f", self.write("exporter.cfg", config)]


class NodeExporter(Program):
    name = "node-exporter"

    def command(self) -> Sequence[str]:
        program = find_program("prometheus-node-exporter", "prometheus-node-exporter")
        return [program, "--web.listen-address=127.0.0.1:9100"]


class KeepalivedExporter(Program):
    """It makes keepalived write its state to files below /tmp, by signals, and reads them."""

    name = "keepalived-exporter"

    def __init__(self, network: Network, host: str, keepalived: KeepalivedProgram) -> None:
        super().__init__(network, host)
        self._pid_file = keepalived.pid_file

    def command(self) -> Sequence[str]:
        return [
            find_program("keepalived-exporter", "keepalived-exporter"),
            "-web.listen-address=127.0.0.1:9165",
            f"-ka.pid-path={self._pid_file}",
        ]


@dataclass(slots=True)
class Exporter:
    name: str
    port: int
    path: str
    programs: Sequence[Program]
    """All that take part in a scrape, the one that answers first."""
    with_children: bool = True
    times: list[float] = field(default_factory=list)
    cpu: float = 0.0
    """Seconds a scrape."""
    octets: int = 0
    series: int = 0

    def scrape(self, network: Network) -> bool:
        """Whether it answered."""
        with network.inside(HOST), suppress(OSError):
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            began = time.perf_counter()
            client.request("GET", self.path)
            answer = client.getresponse()
            body = answer.read()
            self.times.append(time.perf_counter() - began)
            client.close()
            self.octets = len(body)
            self.series = sum(not line.startswith(b"#") for line in body.splitlines())
            return answer.status == 200
        return False

    def used(self) -> float:
        """Seconds of CPU so far."""
        pids = [pid for one in self.programs for pid in (family(one) if self.with_children else [one.pid])]
        return sum(map(cpu_of, pids))

    def row(self, part: str) -> dict[str, Any]:
        times = sorted(1000 * each for each in self.times)
        p95 = times[int(len(times) * 0.95)]
        return {
            "part": part,
            "name": self.name,
            "median": statistics.median(times),
            "p95": p95,
            "cpu": 1000 * self.cpu,
            "series": self.series,
            "kB": self.octets / 1000,
            "holds": None,
        }


def family(program: Program) -> list[int]:
    """Its process, and what that has started."""
    found = [program.pid]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def measure(network: Network, exporters: Sequence[Exporter], scrapes: int) -> None:
    for one in exporters:
        wait_for(lambda one=one: one.scrape(network), f"{one.name} to answer", READY_WITHIN)  # type: ignore[misc]
        one.times.clear()

    def scrape() -> None:
        for _ in range(scrapes):
            began = time.monotonic()
            for one in exporters:
                one.scrape(network)
            time.sleep(max(0.0, began + 1 - time.monotonic()))

    idle = _cpu_while(exporters, lambda: time.sleep(scrapes))
    busy = _cpu_while(exporters, scrape)
    for one, before, after in zip(exporters, idle, busy, strict=True):
        one.cpu = max(after - before, 0.0)  # a second, and so a scrape


def _cpu_while(exporters: Sequence[Exporter], what: Callable[[], None]) -> list[float]:
    """Seconds of CPU a second."""
    before, began = [one.used() for one in exporters], time.monotonic()
    what()
    took = time.monotonic() - began
    return [(one.used() - at) / took for one, at in zip(exporters, before, strict=True)]


def pair(scrapes: int) -> list[dict[str, Any]]:
    with Run(RunOptions(election="nodes", check='script = "/bin/true"')) as run:
        run.start(observed=False)
        floatip = run.nodes[HOST]
        floatip.reload(LISTENER)
        exporters = [Exporter("floatip", 8179, "/metrics", [floatip])]
        haproxy, node = HAProxyExporter(run.network, HOST), NodeExporter(run.network, HOST)
        exporters.append(Exporter("HAProxy's own", 8405, "/metrics", [haproxy]))
        exporters.append(Exporter("node-exporter", 9100, "/metrics", [node]))
        if which("keepalived-exporter"):
            keepalived = keepalived_beside(run, HAPROXY1, HAPROXY2, Path("/bin/true"))
            keepalived.start()
            its = KeepalivedExporter(run.network, HOST, keepalived)
            exporters.append(Exporter("keepalived-exporter", 9165, "/metrics", [its, keepalived]))
        else:
            print("keepalived-exporter is not on the PATH: it is left out", file=sys.stderr)
        for exporter in exporters[1:]:
            exporter.programs[0].start()
        measure(run.network, exporters, scrapes)
        as_keepalived = Exporter("floatip, ?compat=keepalived", 8179, "/metrics?compat=keepalived", [floatip])
        measure(run.network, [as_keepalived], scrapes)
        daemon, *listener = (rss(pid) for pid in family(floatip))
    rows = show("a pair", [*exporters, as_keepalived])
    print(f"RSS: the daemon {daemon:.1f} MB, the process that listens {sum(listener):.1f} MB")
    return rows


def many(scrapes: int) -> list[dict[str, Any]]:
    with stage() as network:
        fleet = Fleet(network, 2, 255)
        fleet.start()
        floatip = fleet.nodes[HOST]
        floatip.reload(LISTENER)
        whole = Exporter("floatip", 8179, "/metrics", [floatip])
        measure(network, [whole], scrapes)
        alone = Exporter("floatip: the daemon's part", 8179, "/metrics", [floatip], with_children=False)
        measure(network, [alone], scrapes)
        status = read(Status, ask(floatip.socket, {"cmd": "status"}, timeout=60))
        counted = figures.read(ask(floatip.socket, {"cmd": "figures"}, timeout=60))
    rows = show("255 instances", [whole, alone])
    took = []
    for _ in range(51):
        began = time.thread_time()
        render(status, counted)
        took.append(1000 * (time.thread_time() - began))
    median = statistics.median(took)
    verdict = "ok" if median <= MOST_TO_RENDER else "OVER"
    print(f"CPU to make the text: {median:.2f} ms, limit {MOST_TO_RENDER:g} ms: {verdict}")
    return [*rows, {"part": "255 instances", "name": "text", "cpu": median, "holds": median <= MOST_TO_RENDER}]


def show(part: str, exporters: Sequence[Exporter]) -> list[dict[str, Any]]:
    rows = [exporter.row(part) for exporter in exporters]
    print(f"{part:28}{'median':>9}{'p95':>9}{'CPU':>9}  {'series':>6}{'size':>9}   floatip's time, CPU beside it")
    for row in rows:
        beside = f"{rows[0]['median'] / row['median']:6.1f}" + (
            f"{rows[0]['cpu'] / row['cpu']:8.1f}" if row["cpu"] else ""
        )
        times = "".join(f"{row[each]:6.2f} ms" for each in ("median", "p95", "cpu"))
        print(f"{row['name']:28}{times}  {row['series']:6}{row['kB']:6.1f} kB {beside if row is not rows[0] else ''}")
    return rows


PARTS: Mapping[str, Callable[[int], list[dict[str, Any]]]] = {"pair": pair, "many": many}


def run() -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "scrape.json")
        subprocess.run([sys.executable, "-m", "bench.scrape", "--json", str(found)], check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scrape")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--scrapes", type=int, default=60)
    parser.add_argument("--json", type=Path, help="all rows")
    options = parser.parse_args()
    try:
        enter([sys.executable, "-m", "bench.scrape", *sys.argv[1:]])
        rows = [row for part in options.only.split(",") for row in PARTS[part](options.scrapes)]
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(rows))
    return 0 if all(row["holds"] is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
