"""The link between nodes: what it costs beside keepalived, false alarms, floods, and handing over a hundred instances.

python -m bench.link [--only pair,fleet,alarm,...] [--seconds 60] [--runs 20] [--json FILE]

pair        255 instances on two nodes; beside it keepalived with 255 groups and adverts of 100 ms, half of them on
            each. Then one node is killed (SIGKILL)
fleet       100 instances on five nodes
alarm       four hogs beside two nodes, each stopped for 0.2 s ten times
alarm-20ms  the same with hellos of 0.02 s, for which nothing is demanded
flood       20,000 forged hellos a second, from the address of the other node with a wrong key, and from a stranger
handover    `floatip handover` of 100 instances, to and fro, with four BIRDs as route servers; probes of every address

The daemons have the scheduling that the unit gives them (SCHED_RR, priority 10), where the machine allows that;
keepalived has its default. A lateness "of our making" is what stays after the time for which the machine did not run
the node is subtracted. Everything happens in namespaces that end with this process. The exit status is 1 when a figure
is over its limit.
"""

import argparse
import json
import math
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from bench.attacks import Lateness, Window, schedule_as_the_unit
from bench.fleet import Fleet, addresses_of, configuration, ipv4_of, stage
from bench.pairs import ONE, OTHER, STARTED_WITHIN, Pair, Plan, shared_groups, wait_for
from bench.pairs import stage as stage_of_pair
from bench.scale import Part, Row, log, run_parts
from bench.wire import Tap, Watch
from floatip.core.state import FRESH_SESSION
from floatip.lab.namespaces import LabError
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, NODES, OBSERVER, Network
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.record import RunOptions
from floatip.lab.run import Run

INSTANCES = 255
SETTLE = 4.0
INTERVAL, SHORT_INTERVAL = 0.1, 0.02


# What it costs


def pair(options: argparse.Namespace) -> Iterator[Row]:
    floatip = _cost(2, INSTANCES, options.seconds)
    keepalived = _cost_of_keepalived(options.seconds)
    part = f"2 x {INSTANCES}"
    yield Row(part, "CPU of both daemons", "% of a core", floatip["cpu"], keepalived["cpu"], 1.0, of_ratio=True)
    yield Row(part, "CPU of the busier one", "% of a core", floatip["busier"], keepalived["busier"])
    yield Row(part, "RSS of one", "MB", floatip["rss"], keepalived["rss"])
    yield from _on_the_wire(part, floatip)
    for what, figure in _killed().items():
        yield Row(part, what, "ms", 1000 * figure)


def fleet(options: argparse.Namespace) -> Iterator[Row]:
    found = _cost(5, 100, options.seconds)
    yield Row("5 x 100", "CPU of a node, on average", "% of a core", found["cpu"] / 5)
    yield Row("5 x 100", "CPU of the busiest node", "% of a core", found["busier"])
    yield Row("5 x 100", "RSS of the largest", "MB", found["rss"])
    yield from _on_the_wire("5 x 100", found)


def _on_the_wire(part: str, found: Mapping[str, float]) -> Iterator[Row]:
    yield Row(part, "sent by a node, IP headers included", "kB/s", found["octets"] / 1000)
    yield Row(part, "datagrams sent by a node", "1/s", found["datagrams"])
    yield Row(part, "changes of role, nodes declared gone", "", found["alarms"], limit=0)


def _cost(nodes: int, instances: int, seconds: float) -> dict[str, float]:
    with stage() as network:
        made = _settled(network, INTERVAL, instances, nodes)
        carried = ", ".join(str(made.carries(host)) for host in made.nodes)
        log(f"floatip: {nodes} nodes carry {carried} instances, measured for {seconds:g} s")
        with Tap(network, made.nodes) as tap:
            cpu = _cpu_while(made.cpu, seconds)
            tap.settle()
            took = seconds + 0.15
            sent = sum(map(len, tap.hellos.values()))
            alarms = made.since(time.monotonic() - took, "role") + made.since(time.monotonic() - took, "node")
        return {
            "cpu": sum(cpu),
            "busier": max(cpu),
            "rss": made.rss(),
            "octets": tap.octets.total() / nodes / took,
            "datagrams": sent / nodes / took,
            "alarms": len(alarms),
        }


def _killed() -> dict[str, float]:
    with stage() as network:
        made = _settled(network, INTERVAL, INSTANCES)
        with Tap(network, made.nodes) as tap:
            dead, alive = sorted(made.nodes, key=made.carries, reverse=True)
            count = made.carries(dead)
            time.sleep(1.0)
            made.nodes[dead].kill()
            began = time.monotonic()
            wait_for(lambda: len(made.since(began, "role")) >= count, "the other node", STARTED_WITHIN)
            time.sleep(1.0)
            tap.settle()
            last = max(tap.hellos[dead, _packed(made, alive)])
            taken = [each["at"] - last for each in made.since(began, "role")]
            hellos = [at for at in tap.hellos[alive, _packed(made, dead)] if at >= began]
        log(f"{dead} was killed, and {alive} took over {count} instances")
        return {
            "one node killed: the last instance taken over after its last hello": max(taken),
            "longest time meanwhile without a hello of the other node": max(b - a for a, b in pairwise(hellos)),
        }


def _packed(made: Fleet, host: str) -> bytes:
    return next(socket.inet_aton(ipv4_of(each)) for each in made.hosts if each.name == host)


def _cost_of_keepalived(seconds: float) -> dict[str, float]:
    plan = Plan(shared_groups(INSTANCES, lambda vrid: ONE if vrid % 2 else OTHER), INTERVAL)
    with stage_of_pair() as network:
        made = Pair(network, "keepalived", plan)
        made.start(ONE)
        made.start(OTHER)
        time.sleep(SETTLE)
        log(f"keepalived: {INSTANCES} groups, measured for {seconds:g} s")
        cpu = _cpu_while(made.cpu, seconds)
        return {"cpu": sum(cpu), "busier": max(cpu), "rss": made.rss()}


def _cpu_while(cpu: Callable[[], Mapping[str, float]], seconds: float) -> list[float]:
    """Percent of a core, of each node."""
    before, began = cpu(), time.monotonic()
    time.sleep(seconds)
    after, took = cpu(), time.monotonic() - began
    return [100 * (after[host] - before[host]) / took for host in after]


# False alarms

HOGS, FREEZES, FROZEN_FOR = 4, 10, 0.2


def alarm(options: argparse.Namespace) -> Iterator[Row]:
    yield from _alarm(INTERVAL, options.seconds, limit=0)


def alarm_short(options: argparse.Namespace) -> Iterator[Row]:
    yield from _alarm(SHORT_INTERVAL, options.seconds)


def _alarm(interval: float, seconds: float, limit: float | None = None) -> Iterator[Row]:
    with ExitStack() as exits:
        network = exits.enter_context(stage())
        made = _settled(network, interval)
        exits.enter_context(_hogs())
        tap = exits.enter_context(Tap(network, made.nodes))
        watch = exits.enter_context(Watch(made.pids))
        log(f"hellos of {interval:g} s beside {HOGS} hogs, {FREEZES} freezes of each node in {seconds:g} s")
        began = time.monotonic()
        longest = _freeze(made.pids.values(), seconds)
        until = time.monotonic()
        tap.settle()
        roles, nodes = made.since(began, "role"), made.since(began, "node")
        late = _lateness(tap, Window(began, until, watch, 0.0, 0.0), interval)
        part = f"alarm, {interval:g} s"
        for each in (*roles, *nodes):
            log(f"{each['at'] - began:.3f} s, {each['host']}: {each['what']} {each['name']} {each['value']}")
    yield Row(part, f"changes of role in {seconds:g} s", "", len(roles), limit=limit)
    yield Row(part, "nodes declared gone", "", sum(each["value"] == "gone" for each in nodes), limit=limit)
    yield Row(part, f"longest of {2 * FREEZES} freezes", "ms", 1000 * longest)
    yield Row(part, "hellos late, p99", "ms", 1000 * late.p99)
    yield Row(part, "hellos late, longest", "ms", 1000 * late.longest)
    yield Row(part, "hellos late, longest of our making, freezes included", "ms", 1000 * late.ours)


def _settled(network: Network, interval: float, instances: int = 10, nodes: int = 2) -> Fleet:
    made = Fleet(network, nodes, instances, interval)
    made.start()
    time.sleep(SETTLE)
    return made


def _lateness(tap: Tap, window: Window, interval: float) -> Lateness:
    return Lateness.of(((node, times) for (node, _), times in tap.hellos.items()), interval, window)


@contextmanager
def _hogs() -> Iterator[None]:
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(HOGS)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def _freeze(pids: Iterable[int], seconds: float) -> float:
    """The longest of them."""
    command = [sys.executable, "-m", "bench.attackers", "freeze", *map(str, (FREEZES, FROZEN_FOR, seconds, *pids))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    # What is to be 0.2 s must not become 0.3 s because the one who freezes waits for a CPU.
    schedule_as_the_unit(process.pid)
    output, _ = process.communicate(timeout=seconds + 60)
    longest: float = json.loads(output)["longest"]
    return longest


# A flood

FLOOD, FLOOD_SECONDS = 20_000, 12.0
P99_MORE_AT_MOST = 5.0
"""Milliseconds, as `bench.attacks` demands."""


def flood(options: argparse.Namespace) -> Iterator[Row]:
    """To the node that carries nothing: it would take over if it took the other one for gone."""
    with ExitStack() as exits:
        network = exits.enter_context(stage())
        made = _settled(network, INTERVAL)
        one, other = sorted(made.hosts, key=lambda host: made.carries(host.name))
        tap = exits.enter_context(Tap(network, made.nodes))
        watch = exits.enter_context(Watch(made.pids))
        windows: dict[str, Callable[[], None]] = {
            "without": lambda: time.sleep(FLOOD_SECONDS),
            "wrong key": lambda: _forge(network, ipv4_of(one), ipv4_of(other)),
            "strangers": lambda: _forge(network, ipv4_of(one), ipv4_of(OBSERVER)),
        }
        without = 0.0
        for name, play in windows.items():
            log(f"flood: {name} ...")
            began, cpu = time.monotonic(), made.cpu()
            play()
            until, after = time.monotonic(), made.cpu()
            tap.settle()
            late = _lateness(tap, Window(began, until, watch, 0.0, 0.0), INTERVAL)
            without = without or late.p99
            part = f"flood, {name}"
            yield Row(part, "hellos late, p99", "ms", 1000 * late.p99, limit=1000 * without + P99_MORE_AT_MOST)
            yield Row(part, "hellos late, longest", "ms", 1000 * late.longest)
            yield Row(part, "hellos late, longest of our making", "ms", 1000 * late.ours, limit=20.0)
            alarms = made.since(began, "role") + made.since(began, "node")
            yield Row(part, "changes of role, nodes declared gone", "", len(alarms), limit=0)
            took = max(after[host] - cpu[host] for host in after) / (until - began)
            yield Row(part, "CPU of the node", "% of a core", 100 * took)


def _forge(network: Network, target: str, source: str) -> None:
    command = [sys.executable, "-m", "bench.attackers", "forge", target, str(FLOOD), str(FLOOD_SECONDS), source]
    output, _ = network.run(OBSERVER.name, command).communicate(timeout=FLOOD_SECONDS + 60)
    told = json.loads(output)
    log(f"{told['a_second']:,.0f} datagrams a second were sent")


# A hundred instances at once

AT_ONCE = 100
PROBE_INTERVAL = 0.05
BETWEEN = 2.0


class FleetRun(Run):
    """Both nodes elect a hundred instances over the link."""

    addresses = (str(FLOATING.ip), *addresses_of(AT_ONCE - 1))

    def _node(self, host: str) -> FloatipDaemon:
        return FloatipDaemon(self.network, host, configuration(NODES, self.addresses, INTERVAL, bgp=True))


def handover(options: argparse.Namespace) -> Iterator[Row]:
    times = []
    with FleetRun(RunOptions(bird=True, election="nodes")) as run, Probes(run.network, run.addresses) as probes:
        run.start(observed=False)
        log(f"waiting {FRESH_SESSION:g} s for the route servers to believe both nodes")
        time.sleep(FRESH_SESSION + SETTLE)
        began = probes.begin()
        source, target = HAPROXY1.name, HAPROXY2.name
        for _ in range(options.runs):
            times.append(_hand_over(run, source))
            time.sleep(BETWEEN)
            source, target = target, source
        lost = probes.finish()
        roles = {(event.host, event.name): event.value for event in run.record.events if event.what == "role"}
        left = [name for (host, name), role in roles.items() if host == target and role == "master"]
        alone = _longest_without_master(run, began)
        both = _longest_with_two(run, began)
    ordered = sorted(times)
    part = f"{AT_ONCE} at once"
    yield Row(part, f"`floatip handover`, median of {options.runs}", "s", statistics.median(times))
    yield Row(part, "`floatip handover`, p99", "s", ordered[math.ceil(0.99 * len(ordered)) - 1])
    yield Row(part, f"lost of {probes.sent} probes", "", lost, limit=0)
    yield Row(part, "longest time of an instance without a master", "ms", 1000 * alone, limit=0)
    yield Row(part, "longest time of an instance with two", "ms", 1000 * both)
    yield Row(part, "instances left behind", "", len(left), limit=0)


def _hand_over(run: Run, host: str) -> float:
    """Seconds of the whole command."""
    began = time.monotonic()
    asked = run.nodes[host].ask("handover")
    took = time.monotonic() - began
    if asked.returncode:
        raise LabError(f"floatip handover failed on {host}: {asked.stdout}", "see the daemons' logs")
    return took


def _masters(run: Run, began: float) -> Iterator[tuple[float, float, int]]:
    """Of each instance in turn, spans of time with the number of its masters."""
    until = time.monotonic()
    events = [event for event in run.record.events.copy() if event.what == "role"]
    for name in dict.fromkeys(event.name for event in events):
        masters: set[str] = set()
        since = began
        for event in sorted((event for event in events if event.name == name), key=lambda event: event.at):
            if event.at > began:
                yield since, event.at, len(masters)
                since = event.at
            masters = masters | {event.host} if event.value == "master" else masters - {event.host}
        yield since, until, len(masters)


def _longest_without_master(run: Run, began: float) -> float:
    return max((until - since for since, until, masters in _masters(run, began) if not masters), default=0.0)


def _longest_with_two(run: Run, began: float) -> float:
    return max((until - since for since, until, masters in _masters(run, began) if masters > 1), default=0.0)


class Probes:
    """An ICMP echo to every address each `PROBE_INTERVAL`, from the observer."""

    def __init__(self, network: Network, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._numbers = {address: number for number, address in enumerate(addresses)}
        with network.inside(OBSERVER.name):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.settimeout(0.1)
        self._answered: set[tuple[int, int]] = set()
        self._rounds = 0
        self._closing = Event()
        self._threads = [Thread(target=each, daemon=True) for each in (self._send, self._receive)]

    def __enter__(self) -> "Probes":
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for each in self._threads:
            if each.is_alive():
                each.join()
        self._socket.close()

    @property
    def sent(self) -> int:
        return self._rounds * len(self._addresses)

    def begin(self) -> float:
        for each in reversed(self._threads):
            each.start()
        return time.monotonic()

    def finish(self) -> int:
        """How many were lost."""
        self._closing.set()
        for each in self._threads:
            each.join()
        return self.sent - len(self._answered)

    def _send(self) -> None:
        began = time.monotonic()
        while not self._closing.wait(max(0.0, began + self._rounds * PROBE_INTERVAL - time.monotonic())):
            packet = _echo(self._rounds)
            for address in self._addresses:
                self._socket.sendto(packet, (address, 0))
            self._rounds += 1

    def _receive(self) -> None:
        last = math.inf
        while time.monotonic() < last:
            if self._closing.is_set():
                last = min(last, time.monotonic() + 1.0)
            try:
                packet, (source, _) = self._socket.recvfrom(128)
            except TimeoutError:
                continue
            if packet[20] == 0 and source in self._numbers:
                self._answered.add((self._numbers[source], int.from_bytes(packet[24:28])))


def _echo(number: int) -> bytes:
    """The number takes the place of identifier and sequence."""
    words = [0x0800, number >> 16, number & 0xFFFF]
    total = sum(words)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return b"".join(word.to_bytes(2) for word in (words[0], checksum, *words[1:]))


# All


PARTS: dict[str, Part] = {
    "pair": pair,
    "fleet": fleet,
    "alarm": alarm,
    "alarm-20ms": alarm_short,
    "flood": flood,
    "handover": handover,
}


def measure(seconds: float) -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "link.json")
        subprocess.run(
            [sys.executable, "-m", "bench.link", "--seconds", str(seconds), "--json", str(found)], check=False
        )
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.link")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `pair`, `fleet` and `alarm` measure")
    parser.add_argument("--runs", type=int, default=20, help="of `handover`")
    return run_parts(parser, PARTS)


if __name__ == "__main__":
    sys.exit(main())
