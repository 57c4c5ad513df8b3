"""What the second chance costs, and what it stands: 10,000 connections, floods, a packet, one flow, an idle process.

python -m bench.second_chance_load [--only large,syn,ack,packet,flow,idle] [--connections 10000] [--rounds 7] [--json F]

large   10,000 connections and a handover, without the second chance and with it: what the preparation takes, whether
        hellos are late meanwhile, what is reset
syn     a flood of SYNs to the service, 40,000 a second from addresses that do not answer: while 500 connections go on
        at the other node, and beside it without any move and without the second chance
ack     the same of ACKs that belong to no connection
packet  what a packet costs the node that gets it, on one core: without rules of ours, with them while nothing moves,
        with 10,000 connections that are forwarded and of which it is none, and if it is forwarded itself. Beside them
        a kernel that tracks connections. In rounds, so that the machine's moods meet all of them
flow    how fast one connection is, an upload and a download, before a handover and after it. Packets as on a wire
idle    CPU and memory of the process while nothing moves

Everything happens in namespaces that end with this process. The exit status is 1 if something is not as it must be.
"""

import argparse
import array
import fcntl
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.attackers import BATCH, Packets, tcp_packet
from bench.attacks import Lateness, Window, attack, schedule_as_the_unit
from bench.bulk import CHUNK, DOWNLOAD, UPLOAD
from bench.pairs import cpu_of, stage
from bench.scale import log
from bench.wire import Tap, Watch
from floatip.core.second_chance.flow import Flow
from floatip.core.settings import SECOND_CHANCE_PORT
from floatip.lab.connections import ends
from floatip.lab.namespaces import LabError, enter, find_program
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, OBSERVER, ROUTER, Network
from floatip.lab.programs.connections import PORT
from floatip.lab.record import Record, RunOptions
from floatip.lab.run import Run
from floatip.lab.scenes import MASTER, STANDBY
from floatip.second_chance.rules import Rules
from floatip.second_chance.run import VNI
from floatip.second_chance.surroundings import Surroundings
from floatip.second_chance.tunnel import Node, Tunnel
from floatip.text import aligned

HELLO_INTERVAL = 0.1
CALM, AFTER = 6.0, 6.0
"""Seconds that are looked at before a move, and after it began."""
READY_WITHIN = 0.3
P99_MORE_AT_MOST = 0.005
FLOOD, FLOOD_SECONDS = 40_000, 8.0
IN_FLOOD = 500
"""Connections."""
FLOW_SECONDS = 4.0
BULK = 9
"""The port of the service that swallows and gives as much as it can."""
BATCHES = 1000
PATIENCE = 20.0
WAYS = {"upload": UPLOAD, "download": DOWNLOAD}
IDLE_SECONDS = 20.0
SETTLED = 4.0
"""Seconds after a move until lists are exchanged slowly."""
SIOCETHTOOL = 0x8946
OFFLOADS = (0x17, 0x15, 0x1F, 0x24, 0x2C)
"""ETHTOOL_SRXCSUM, STXCSUM, STSO, SGSO, SGRO."""


@dataclass(frozen=True, slots=True)
class Row:
    part: str
    what: str
    unit: str
    on: float
    """With the second chance."""
    off: float | None = None
    """Beside it, without."""
    at_most: float | None = None
    """What `on` may be."""

    @property
    def holds(self) -> bool | None:
        return None if self.at_most is None else self.on <= self.at_most


# Many connections


def large(options: argparse.Namespace) -> Iterator[Row]:
    count = options.connections
    off, on = (_handed_over(count, mode) for mode in ("off", "on"))
    part = f"{count} connections"
    yield Row(part, "takeover after the order", "s", on["took"], off["took"], off["took"] + READY_WITHIN)
    for when in ("calm", "move"):
        late = on[when].p99, off[when].p99
        at_most = None if when == "calm" else 1000 * (max(on["calm"].p99, late[1]) + P99_MORE_AT_MOST)
        yield Row(part, f"hellos, {when}: late, p99", "ms", 1000 * late[0], 1000 * late[1], at_most)
        ours = 1000 * on[when].ours, 1000 * off[when].ours
        yield Row(part, f"hellos, {when}: latest, without the wait for a CPU", "ms", *ours)
    yield Row(part, "long connections that failed", "", on["long"], off["long"], 0)
    yield Row(part, "short connections that failed", "", on["short"], off["short"], 0)
    yield Row(part, "probes lost", "", on["lost"], off["lost"], 0)


def _handed_over(connections: int, second_chance: Any) -> dict[str, Any]:
    log(f"{connections} connections, second chance {second_chance}")
    with _running(connections, second_chance) as (run, exits):
        tap = exits.enter_context(Tap(run.network, run.nodes))
        watch = exits.enter_context(Watch({host: node.pid for host, node in run.nodes.items()}))
        run.open_connections()
        calm = time.monotonic()
        time.sleep(CALM)
        at = _hand_over(run)
        time.sleep(max(0.0, at + AFTER - time.monotonic()))
        until = time.monotonic()
        tap.settle()
        run.close_connections()
        record = run.finish()
        taken = record.first(STANDBY, "role", "master", at)
        assert taken
        hellos = [(node, times) for (node, _), times in tap.hellos.items()]
        windows = {"calm": Window(calm, at, watch, 0, 0), "move": Window(at, until, watch, 0, 0)}
        lateness = {name: Lateness.of(hellos, HELLO_INTERVAL, window) for name, window in windows.items()}
        return {"took": taken.at - at, **lateness, **_failed(record)}


@contextmanager
def _running(connections: int, second_chance: Any, **more: Any) -> Iterator[tuple[Run, ExitStack]]:
    """The lab, whose standby may be handed to."""
    with ExitStack() as exits:
        asked = RunOptions(election="nodes", connections=connections, second_chance=second_chance, **more)
        run = exits.enter_context(Run(asked))
        run.start()
        for node in run.nodes.values():
            schedule_as_the_unit(node.pid)
        run.wait_until_seasoned(STANDBY)
        yield run, exits


def _hand_over(run: Run) -> float:
    """When it was ordered. Returns when it is done."""
    at = run.fault(f"{MASTER} hands over")
    done = run.ask(MASTER, "handover")
    if done.status:
        raise LabError(f"the handover failed: {done.text}", "this is an error of the benchmark")
    run.wait_for_role(STANDBY, "master")
    return at


def _failed(record: Record) -> dict[str, int]:
    found = record.connections
    lost = sum(not probe.ok for probe in record.probes) - len(record.torn)
    return {"long": sum(ends(found.long).values()), "short": sum(ends(found.short).values()), "lost": lost}


# Floods


def syn(options: argparse.Namespace) -> Iterator[Row]:
    yield from _flooded("syn")


def ack(options: argparse.Namespace) -> Iterator[Row]:
    yield from _flooded("ack")


def _flooded(kind: str) -> Iterator[Row]:
    off, on = (_in_flood(kind, mode) for mode in ("off", "on"))
    part = f"{kind.upper()} flood"
    yield Row(part, "packets a second that were sent", "", on["a_second"], off["a_second"])
    yield Row(part, "packets a second that reached the node", "", on["arrived"], off["arrived"])
    yield Row(part, "packets a second that were passed on", "", on["forwarded"])
    yield Row(part, "the same, before the flood", "", on["forwarded before"])
    yield Row(part, f"of {IN_FLOOD} long connections: failed", "", on["long"], off["long"], off["long"])
    yield Row(part, "short connections that failed", "", on["short"], off["short"], off["short"])
    yield Row(part, "of so many", "", on["shorts"], off["shorts"])
    yield Row(part, "longest wait for an echo", "s", on["stall"], off["stall"])
    yield Row(part, "slowest short connection", "s", on["slowest"], off["slowest"])


def _in_flood(kind: str, second_chance: Any) -> dict[str, float]:
    """`on`: after a handover, so that the long connections go on at the other node. `off`: without one."""
    log(f"a flood of {kind.upper()}s, second chance {second_chance}")
    with _running(IN_FLOOD, second_chance) as (run, _):
        run.open_connections()
        carrier = MASTER
        if second_chance == "on":
            _hand_over(run)
            time.sleep(SETTLED)
            carrier = STANDBY
        ethernet = _ethernet(run.network, carrier).hex()
        rates = []
        for flood in (False, True):
            received, forwarded = _received(run.network, carrier), _forwarded(run.network, carrier)
            if flood:
                told = attack(run, ROUTER, "tcp", FLOATING.ip, FLOOD, FLOOD_SECONDS, PORT, kind, carrier, ethernet)
            else:
                time.sleep(FLOOD_SECONDS)
            gone = _forwarded(run.network, carrier) - forwarded
            rates.append([each / FLOOD_SECONDS for each in (_received(run.network, carrier) - received, gone)])
        time.sleep(1.0)
        run.close_connections()
        record = run.finish()
        found = record.connections
        return {
            **_failed(record),
            "a_second": told["a_second"],
            "arrived": rates[1][0],
            "forwarded": rates[1][1],
            "forwarded before": rates[0][1],
            "shorts": len(found.short),
            "stall": found.longest.stall if found.longest else 0.0,
            "slowest": found.slowest.took if found.slowest else 0.0,
        }


def _received(network: Network, host: str) -> int:
    with network.inside(host):
        devices = Path("/proc/thread-self/net/dev").read_text()
    (found,) = (line.split() for line in devices.splitlines() if line.strip().startswith("eth0:"))
    return int(found[2])


def _forwarded(network: Network, host: str) -> int:
    with network.inside(host):
        command = [find_program("nft", "nftables"), "--json", "list", "counters"]
        told = subprocess.run(command, check=True, capture_output=True)
    found = [each.get("counter", {}) for each in json.loads(told.stdout).get("nftables", [])]
    return sum(int(one["packets"]) for one in found if one.get("name") == "forwarded")


# A packet


FILTER = """
flush ruleset
table ip bench {{
  chain pre {{
    type filter hook prerouting priority {priority}
    tcp dport {port} drop
  }}
}}
{more}
"""
"""What is measured ends early in the IP layer: all of ours that concerns a packet is before that."""
TRACKING = """
table ip track {
  chain pre {
    type filter hook prerouting priority -160
    ct state invalid counter
  }
}
"""
INTO_TUNNEL = """
table netdev bench {{
  chain in {{
    type filter hook ingress device "{device}" priority 0
    udp dport {port} drop
  }}
}}
"""


def packet(options: argparse.Namespace) -> Iterator[Row]:
    log(f"{options.rounds} rounds of {BATCHES * BATCH} packets each")
    took: dict[str, list[float]] = {}
    with stage() as network:
        with network.inside(ROUTER):
            _nft(INTO_TUNNEL.format(device=HAPROXY2.name, port=SECOND_CHANCE_PORT))
        for number in range(options.rounds + 1):
            for kind, cost in _round(network):
                if number:  # everything is warm after the first
                    took.setdefault(kind, []).append(1e6 * cost)
    none = took["none"]
    part = f"a packet, {options.rounds} round{'s' * (options.rounds > 1)}"
    for kind, costs in took.items():
        more = [cost - beside for cost, beside in zip(costs, none, strict=True)]
        if kind != "none":
            what = f"{kind} ({min(more):+.2f} to {max(more):+.2f})"
            yield Row(part, what, "us", statistics.median(costs), statistics.median(none))


def _round(network: Network) -> Iterator[tuple[str, float]]:
    """What is in the way, and the seconds that a packet took."""
    missed, ours = 40_000, 50_000
    moved = {_key(port): HAPROXY1.name for port in (*range(10_000, 20_000), ours)}
    early = FILTER.format(priority=-400, port=PORT, more="")
    with network.inside(HAPROXY2.name):
        _nft(early)
    yield "none", _sent(network, missed)
    with network.inside(HAPROXY2.name):
        own, other = (Node(host.name, host.ipv4.ip) for host in (HAPROXY2, HAPROXY1) if host.ipv4)
        tunnel = Tunnel.open(own, [other], SECOND_CHANCE_PORT, VNI)
        surroundings = Surroundings.open(tunnel.index)
        rules = Rules.open(tunnel, SECOND_CHANCE_PORT, 600.0, surroundings.read())
    try:
        yield "nothing moves", _sent(network, missed)
        with network.inside(HAPROXY2.name):
            rules.moved(moved, ())
        yield "10,000 others are passed on", _sent(network, missed)
        yield "it is passed on itself", _sent(network, ours)
    finally:
        with network.inside(HAPROXY2.name):
            surroundings.close()
            rules.close()
            tunnel.close()
    with network.inside(HAPROXY2.name):
        _nft(FILTER.format(priority=-150, port=PORT, more=TRACKING))
    yield "the kernel tracks connections", _sent(network, missed)


def _key(port: int) -> Flow:
    assert OBSERVER.ipv4
    ends = ((OBSERVER.ipv4.ip.packed, port), (FLOATING.ip.packed, PORT))
    return b"".join(address + number.to_bytes(2, "big") + b"\0\0" for address, number in ends)


def _sent(network: Network, port: int) -> float:
    """Seconds a packet, from the router: what it costs the node is done by the same core before the call returns."""
    assert OBSERVER.ipv4
    data = tcp_packet((str(OBSERVER.ipv4.ip), port), (str(FLOATING.ip), PORT), "ack")
    frame = _ethernet(network, HAPROXY2.name) + data
    cores = os.sched_getaffinity(0)
    with network.inside(ROUTER), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sending:
        sending.bind((HAPROXY2.name, 0))
        packets = Packets(sending, [frame] * BATCH)
        os.sched_setaffinity(0, {max(cores)})
        try:
            began = time.perf_counter()
            sent = sum(packets.send() for _ in range(BATCHES))
            return (time.perf_counter() - began) / sent
        finally:
            os.sched_setaffinity(0, cores)


def _ethernet(network: Network, node: str) -> bytes:
    """The header of a frame of IPv4 from the router to the node."""
    return _mac_of(network, node) + _mac_of(network, ROUTER, node) + b"\x08\x00"


def _mac_of(network: Network, host: str, device: str = "eth0") -> bytes:
    with network.inside(host):
        told = subprocess.run(["ip", "-json", "link", "show", device], capture_output=True, check=True)
    return bytes.fromhex(json.loads(told.stdout)[0]["address"].replace(":", ""))


def _nft(rules: str) -> None:
    subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=rules, text=True, check=True)


# One flow


def flow(options: argparse.Namespace) -> Iterator[Row]:
    log("one connection at a time, as fast as it goes")
    with _running(0, "on") as (run, exits):
        _without_offloads(run.network)
        for host in run.nodes:
            run.network.run(host, [sys.executable, "-m", "bench.bulk", str(BULK)])
        flows = {way: exits.enter_context(_opened(run, word)) for way, word in WAYS.items()}
        before = {way: _rate(opened, way) for way, opened in flows.items()}
        _hand_over(run)
        time.sleep(SETTLED)
        after = {way: _rate(opened, way) for way, opened in flows.items()}
        for way in WAYS:
            yield Row(
                "one flow",
                f"{way}: before the move, and after it through the tunnel",
                "Mbit/s",
                after[way],
                before[way],
            )


def _opened(run: Run, word: bytes) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    with run.network.inside(OBSERVER.name):
        while True:
            try:
                opened = socket.create_connection((str(FLOATING.ip), BULK), PATIENCE)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"the service does not answer: {error}", "is the machine overloaded?") from error
                time.sleep(0.05)
    opened.sendall(word)
    return opened


def _rate(opened: socket.socket, way: str) -> float:
    """Mbit/s over some seconds."""
    data, octets = bytearray(CHUNK), 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + FLOW_SECONDS:
        octets += opened.send(data) if way == "upload" else opened.recv_into(data)
    return 8 * octets / (now - began) / 1e6


def _without_offloads(network: Network) -> None:
    """No packet is larger than on a wire."""
    ends = [("eth0", host) for host in (HAPROXY1.name, HAPROXY2.name, OBSERVER.name)]
    ends += [(host, ROUTER) for _, host in ends]
    for device, host in ends:
        with network.inside(host), socket.socket() as any_socket:
            for command in OFFLOADS:
                value = array.array("B", struct.pack("=II", command, 0))
                request = struct.pack("16sP", device.encode(), value.buffer_info()[0])
                with suppress(OSError):  # one that the device never has
                    fcntl.ioctl(any_socket, SIOCETHTOOL, request)


# A process that has nothing to do


def idle(options: argparse.Namespace) -> Iterator[Row]:
    log(f"idle for {IDLE_SECONDS:g} s")
    found: dict[str, dict[str, float]] = {}
    for mode in ("off", "on"):
        with _running(0, mode) as (run, _):
            time.sleep(SETTLED)
            pids = {pid for node in run.nodes.values() for pid in _family(node.pid)}
            before = sum(map(cpu_of, pids))
            time.sleep(IDLE_SECONDS)
            cpu = 100 * (sum(map(cpu_of, pids)) - before) / IDLE_SECONDS / len(run.nodes)
            found[mode] = {"cpu": cpu, "pss": sum(map(_pss, pids)) / len(run.nodes)}
    on, off = found["on"], found["off"]
    yield Row("idle", "CPU of all processes of a node", "% of a core", on["cpu"], off["cpu"])
    yield Row("idle", "memory of all processes of a node (PSS)", "MB", on["pss"], off["pss"])


def _family(pid: int) -> Iterator[int]:
    """A process, and those that it has started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _pss(pid: int) -> float:
    """MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(rollup.split("Pss:")[1].split()[0]) / 1e6


# The table


PARTS: Mapping[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "large": large,
    "syn": syn,
    "ack": ack,
    "packet": packet,
    "flow": flow,
    "idle": idle,
}
HEAD = ("", "", "", "with", "without", "more", "ratio", "limit", "")


def table(rows: Iterable[Row]) -> str:
    return "\n".join(aligned([HEAD, *map(_cells, rows)]))


def _cells(row: Row) -> tuple[str, ...]:
    more = "" if row.off is None else f"{'+' if row.on >= row.off else '-'}{_short(abs(row.on - row.off))}"
    ratio = f"{row.on / row.off:.2f}" if row.off else ""
    numbers = ("" if each is None else _short(each) for each in (row.on, row.off))
    limit = "" if row.at_most is None else _short(row.at_most)
    return (
        row.part,
        row.what,
        row.unit,
        *numbers,
        more,
        ratio,
        limit,
        {None: "", True: "ok", False: "FAILED"}[row.holds],
    )


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


def measure(names: str = ",".join(PARTS)) -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "rows.json")
        command = [sys.executable, "-m", "bench.second_chance_load", "--only", names, "--json", str(found)]
        subprocess.run(command, check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def _up_to(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if text.isdecimal() and 1 <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number between 1 and {most}")

    return number


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.second_chance_load")
    parser.add_argument(
        "--only", default=",".join(PARTS), metavar="PARTS", help=f"some of {','.join(PARTS)}, with commas between them"
    )
    parser.add_argument("--connections", type=_up_to(20_000), default=10_000, metavar="N", help="in large: 10000")
    parser.add_argument("--rounds", type=_up_to(1000), default=7, metavar="N", help="of packet: 7")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows to FILE")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - PARTS.keys():
        parser.error(f"unknown parts: {', '.join(map(repr, sorted(unknown)))}; there are {', '.join(PARTS)}")
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: {options.json.absolute().parent} is no directory")
    rows: list[Row] = []
    try:
        enter([sys.executable, "-m", "bench.second_chance_load", *sys.argv[1:]])
        for name in names:
            log(f"{name}: load of the machine {os.getloadavg()[0]:.1f}")
            rows += PARTS[name](options)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([{**asdict(row), "holds": row.holds} for row in rows], indent=1))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
