"""Eight nodes that carry 200 addresses, which etcd decides: how long a start and a crash take, and what it all costs.

python -m bench.on_etcd [--only etcd,alone] [--seconds 60] [--json FILE]

etcd   its three members run beside the nodes
alone  the same nodes without etcd

The nodes announce to four of the built-in route servers, and all of it runs on this machine.
One node is then cut off from everything, so nobody learns of it but by its silence. An address is acknowledged when all
route servers of the node that took it have acknowledged its route. The figures have no limits.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from bench.attacks import schedule_as_the_unit
from bench.fleet import Fleet, stage
from bench.pairs import STARTED_WITHIN, cpu_of, rss, wait_for
from bench.scale import Part, Row, log, run_parts
from floatip.lab.namespaces import in_memory
from floatip.lab.network import ROUTE_SERVERS, WITNESSES, Network
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from floatip.lab.programs.etcd import Etcd, EtcdMember

NODES, ADDRESSES = 8, 200
STARTED = "grpc_server_started_total{"
SETTLE = 10.0
TAKEN_WITHIN = 30.0
ANSWERS_WITHIN = 30.0


def with_etcd(options: argparse.Namespace) -> Iterator[Row]:
    with stage(WITNESSES) as network, in_memory(network.directory / "etcd") as data:
        etcd = Etcd(network, data)
        etcd.start()
        yield from _figures("with etcd", network, etcd, options.seconds)


def without_etcd(options: argparse.Namespace) -> Iterator[Row]:
    with stage() as network:
        yield from _figures("without", network, None, options.seconds)


def _figures(part: str, network: Network, etcd: Etcd | None, seconds: float) -> Iterator[Row]:
    schedule_as_the_unit(os.getpid())
    for program in (BuiltInFabric(network), *(BuiltInRouteServer(network, host.name) for host in ROUTE_SERVERS)):
        program.start()
    table = f"[etcd]\nendpoints = {json.dumps(etcd.endpoints)}\n" if etcd else ""
    made = Fleet(network, NODES, ADDRESSES, more=table, bgp=True)
    began = time.monotonic()
    made.start()
    wait_for(lambda: len(_acknowledged(made, began)) == ADDRESSES, "all to be acknowledged", STARTED_WITHIN)
    yield Row(part, "start until all are carried", "s", _last(_masters(made, began)) - began)
    yield Row(part, "start until all are acknowledged", "s", _last(_acknowledged(made, began)) - began)
    time.sleep(SETTLE)
    carried = {host: made.carries(host) for host in made.nodes}
    log(f"carried: {', '.join(f'{host} {count}' for host, count in carried.items())}")
    yield from _cost(part, made, etcd, seconds)
    yield from _crash(part, made, etcd, max(carried, key=lambda host: carried[host]))


def _masters(made: Fleet, since: float) -> dict[str, float]:
    """By instance: when a node last became its master."""
    return {each["name"]: each["at"] for each in made.since(since, "role") if each["value"] == "master"}


def _acknowledged(made: Fleet, since: float) -> dict[str, float]:
    """By instance: when the route servers had acknowledged that."""
    return {each["name"]: each["at"] for each in made.since(since, "takeover") if each["value"] == "complete"}


def _last(times: dict[str, float]) -> float:
    return max(times.values())


def _cost(part: str, made: Fleet, etcd: Etcd | None, seconds: float) -> Iterator[Row]:
    groups = [list(_with_children(node.pid)) for node in made.nodes.values()]
    daemons, members = [pids[0] for pids in groups], [member.pid for member in etcd.members.values()] if etcd else []
    log(f"measured for {seconds:g} s while nothing happens")
    with _Requests(part, "idle", etcd) as requests:
        before = [_cpu(pids) for pids in (*groups, daemons, members)]
        time.sleep(seconds)
        spent = [_cpu(pids) - cpu for pids, cpu in zip((*groups, daemons, members), before, strict=True)]
    *of_nodes, of_daemons, of_members = (100 * each / seconds for each in spent)
    yield Row(part, "CPU of a node, on average", "% of a core", sum(of_nodes) / NODES)
    yield Row(part, "CPU of the busiest node", "% of a core", max(of_nodes))
    yield Row(part, "CPU of a daemon alone, on average", "% of a core", of_daemons / NODES)
    yield Row(part, "RSS of the largest daemon", "MB", made.rss())
    if etcd:
        yield Row(
            part, "RSS of the processes that a daemon has started", "MB", max(sum(map(rss, p[1:])) for p in groups)
        )
        yield Row(part, "CPU of a member of etcd, on average", "% of a core", of_members / len(members))
        yield Row(part, "RSS of the largest member of etcd", "MB", max(map(rss, members)))
    yield from requests.rows


def _crash(part: str, made: Fleet, etcd: Etcd | None, host: str) -> Iterator[Row]:
    theirs = [each["name"] for each in made.nodes[host].status()["instances"] if each["role"]["value"] == "master"]
    log(f"{host} crashes, which carries {len(theirs)}")
    with _Requests(part, "in the crash", etcd) as requests:
        began = time.monotonic()
        made.network.faults.cut(host)
        wait_for(lambda: set(theirs) <= _acknowledged(made, began).keys(), "all to be taken over", TAKEN_WITHIN)
        time.sleep(1.0)
    carried, known = _masters(made, began), _acknowledged(made, began)
    noticed = min(each["at"] for each in made.since(began, "node") if each["value"] == "gone")
    yield Row(part, "addresses of the node that crashes", "", len(theirs))
    yield Row(part, "its crash until the first node misses it", "s", noticed - began)
    yield Row(part, "its crash until all are carried", "s", _last(carried) - began)
    yield Row(part, "its crash until all are acknowledged", "s", _last(known) - began)
    yield Row(part, "changes of master beside these", "", len(carried.keys() - set(theirs)))
    yield from requests.rows


class _Requests:
    """What etcd is asked in a `with` block."""

    def __init__(self, part: str, when: str, etcd: Etcd | None) -> None:
        self._part, self._when, self._etcd = part, when, etcd
        self.rows: list[Row] = []

    def __enter__(self) -> Self:
        self._began, self._before = time.monotonic(), self._counted()
        return self

    def __exit__(self, *error: object) -> None:
        if self._etcd:
            asked, seconds = self._counted() - self._before, time.monotonic() - self._began
            kinds = [(f"  of them {method}", count) for method, count in asked.most_common(4)]
            for what, count in ((f"requests to etcd, {self._when}", asked.total()), *kinds):
                self.rows.append(Row(self._part, what, "1/s", count / seconds))

    def _counted(self) -> Counter[str]:
        return _requests(self._etcd) if self._etcd else Counter()


def _requests(etcd: Etcd) -> Counter[str]:
    """How many of each kind all members have begun to answer, as they count them."""
    found: Counter[str] = Counter()
    for member in etcd.members.values():
        for line in _metrics(member).splitlines():
            if line.startswith(STARTED):
                labels, _, count = line.rpartition(" ")
                found[labels.split('grpc_method="')[1].split('"')[0]] += int(float(count))
    return found


def _metrics(member: EtcdMember) -> str:
    """The nodes are scheduled before it, and may leave it too little CPU to answer at once."""
    until = time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            return member.get("/metrics").decode()
        except OSError:
            if time.monotonic() > until:
                raise


def _with_children(pid: int) -> Iterator[int]:
    """It, and what it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _with_children(int(child))


def _cpu(pids: Iterable[int]) -> float:
    """Seconds so far."""
    return sum(map(cpu_of, pids))


PARTS: dict[str, Part] = {"etcd": with_etcd, "alone": without_etcd}


def measure(seconds: float) -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "fleet.json")
        command = [sys.executable, "-m", "bench.on_etcd", "--seconds", str(seconds), "--json", str(found)]
        subprocess.run(command, check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.on_etcd")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is measured while nothing happens")
    return run_parts(parser, PARTS)


if __name__ == "__main__":
    sys.exit(main())
