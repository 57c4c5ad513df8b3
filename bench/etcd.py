"""Fleets on etcd: how long a crash of the carrier, and one of etcd, costs; vip-manager beside it, in one run.

python -m bench.etcd [--only vip-manager,link] [--runs 30] [--side-by-side 3] [--gone 60] [--json FILE]

Three hosts with a member of a real etcd each, on one layer 2, and a client. The address is on one of two of them. The
carrier vanishes: all its packets are dropped, both ways, its link stays up. Then all its programs are killed, what it
has is forgotten, and it comes back. The client sends an echo each 5 ms. The outage is the time between the sending of
the last echo that was answered before and of the first one that was answered after. In the first kind of crash etcd's
leader is on the third host, in the second it vanishes with the carrier.

Of floatip the steps come from its own history: *detected* is the silence of the carrier until the link declares it
gone, *decided* is the time from there until the node is master (etcd's share), and *added* is the time from there until
the kernel has the address.
"""

import argparse
import itertools
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from bench.pairs import wait_for
from floatip.history import read_history
from floatip.host.ask import NobodyAnswers
from floatip.lab.namespaces import Closes, LabError, enter, find_program
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.program import Program
from tests.lab.vrrp.recorder import Recorder
from tests.lab.vrrp.segment import Segment, ipv4_of

NODES = ("r1", "r2")
WITNESS, CLIENT = "r3", "r4"
MEMBERS = (*NODES, WITNESS)
ADDRESS = "10.0.0.100"
ENDPOINTS = [f"http://{ipv4_of(host)}:2379" for host in MEMBERS]
PROBE_INTERVAL = 0.005
WITHIN = 120.0
DISK = "/var/tmp"
"""For etcd's data: what it writes must be synced to a disk, as in use."""
ECHO = struct.Struct("!BBHHHd")


class Member(Program):
    name = "etcd"

    def __init__(self, segment: Segment, host: str, disk: Path) -> None:
        super().__init__(segment, host)
        self._data = disk / host

    def command(self) -> Sequence[str]:
        here = f"http://{ipv4_of(self.host)}"
        cluster = ",".join(f"{host}=http://{ipv4_of(host)}:2380" for host in MEMBERS)
        named = ["--name", self.host, "--data-dir", str(self._data), "--initial-cluster", cluster]
        peers = ["--listen-peer-urls", f"{here}:2380", "--initial-advertise-peer-urls", f"{here}:2380"]
        clients = ["--listen-client-urls", f"{here}:2379", "--advertise-client-urls", f"{here}:2379"]
        older_api = ["--enable-v2=true"]  # all that vip-manager 1.0.2 knows
        return [find_program("etcd", "etcd-server"), *named, *peers, *clients, *older_api]

    def says(self, path: str, **values: object) -> dict[str, Any]:
        """Empty: it does not answer."""
        body = json.dumps(values).encode()
        head = f"POST {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        try:
            with self.network.inside(self.host):
                client = socket.create_connection((str(ipv4_of(self.host)), 2379), timeout=2.0)
            with client:
                client.sendall(head + body)
                with client.makefile("rb") as answer:
                    return dict(json.loads(answer.read().partition(b"\r\n\r\n")[2]))
        except (OSError, ValueError):
            return {}


class Etcd:
    def __init__(self, segment: Segment, disk: Path) -> None:
        self.members = {host: Member(segment, host, disk) for host in MEMBERS}

    def start(self, *hosts: str) -> None:
        for host in hosts or MEMBERS:
            self.members[host].start()
        wait_for(self._is_whole, "etcd's members to agree on a leader", WITHIN)

    def _is_whole(self) -> bool:
        said = [each.says("/v3/maintenance/status") for each in self.members.values()]
        leaders = {one.get("leader", "0") for one in said}
        return len(leaders) == 1 and leaders != {"0"} and not any(one.get("errors") for one in said)

    def lead(self, host: str) -> None:
        """Returns when this member is the leader, in the eyes of all."""

        def leads() -> bool:
            said = {each: member.says("/v3/maintenance/status") for each, member in self.members.items()}
            wanted = said[host].get("header", {}).get("member_id")
            leaders = {one.get("leader") for one in said.values()}
            if leaders == {wanted}:
                return True
            for member in self.members.values():
                member.says("/v3/maintenance/transfer-leadership", targetID=wanted)
            return False

        wait_for(leads, f"{host} to lead etcd", WITHIN)


class VipManager(Program):
    name = "vip-manager"

    def command(self) -> Sequence[str]:
        where = ["--ip", ADDRESS, "--netmask", "32", "--interface", "eth0"]
        key = ["--trigger-key", "/service/pgcluster/leader", "--trigger-value", self.host]
        return ["/usr/bin/vip-manager", *where, *key, "--dcs-type", "etcd", "--dcs-endpoints", ",".join(ENDPOINTS)]


class LeaseHolder(Program):
    name = "leaseholder"

    def __init__(self, segment: Segment, host: str, ttl: int, loop: float, timeout: float) -> None:
        super().__init__(segment, host)
        self._values = [str(ttl), str(loop), str(timeout)]

    def command(self) -> Sequence[str]:
        own = f"http://{ipv4_of(self.host)}:2379"
        endpoints = [own, *(each for each in ENDPOINTS if each != own)]
        return [sys.executable, "-m", "bench.leaseholder", self.host, *self._values, *endpoints]


@dataclass(frozen=True, slots=True)
class Contender:
    title: str
    make: Callable[[Segment, str], list[Program]]
    """What runs on a node."""
    wander: float
    """Seconds: its longest interval. Crashes are spread evenly over it."""
    share: float = 1.0
    """Of the runs asked for, where each takes long."""


def vip_manager(ttl: int, loop: float, timeout: float) -> Callable[[Segment, str], list[Program]]:
    return lambda segment, host: [LeaseHolder(segment, host, ttl, loop, timeout), VipManager(segment, host)]


def floatip(more: str = "", exclusive: bool = False) -> Callable[[Segment, str], list[Program]]:
    nodes = "".join(f'[[node]]\nname = "{host}"\naddress = "{ipv4_of(host)}"\n' for host in NODES)
    instance = f'[[instance]]\nname = "db"\naddresses = ["{ADDRESS}/32"]\nplacement = "master"\n'
    text = f"release_delay = 0\n{more}{nodes}{instance}" + ("exclusive = true\n" if exclusive else "")
    return lambda segment, host: [RealTimeDaemon(segment, host, text)]


class RealTimeDaemon(FloatipDaemon):
    """Scheduled as its unit does it."""

    def start(self) -> None:
        super().start()
        Thread(target=lambda: [None for _ in self.watch()], daemon=True).start()

    @property
    def history(self) -> Path:
        return self._state

    def forget(self) -> None:
        """Its starts too: three within a minute would bar it."""
        for each in self._state.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()


ETCD = f"[etcd]\nendpoints = {json.dumps(ENDPOINTS)}\n"
SMALLEST = "lease_time = 4\nkeepalive_interval = 1\nrequest_timeout = 1.5\n"
CONTENDERS = {
    "vip-manager": Contender("vip-manager, ttl 2 s", vip_manager(2, 0.5, 0.7), 1.0),
    "vip-manager-30": Contender("vip-manager, ttl 30 s (Patroni's defaults)", vip_manager(30, 10.0, 3.3), 10.0, 1 / 3),
    "link": Contender("floatip without etcd", floatip(), 0.1),
    "etcd": Contender("floatip with etcd", floatip(ETCD), 1.0),
    "exclusive-5": Contender("floatip, exclusive, lease_time 5", floatip(ETCD, exclusive=True), 1.0),
    "exclusive-4": Contender("floatip, exclusive, lease_time 4", floatip(ETCD + SMALLEST, exclusive=True), 1.0),
}


class Echoes(Closes):
    """A client that asks the address each 5 ms, from its start on."""

    def __init__(self, segment: Segment) -> None:
        self.answered: list[float] = []
        """When each echo that was answered was sent, in order."""
        self.sent = 0
        self._closing = Event()
        with segment.inside(CLIENT):
            self._sender, self._receiver = (
                socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) for _ in range(2)
            )
        self._sender.setblocking(False)
        self._receiver.settimeout(0.2)
        self._threads = [Thread(target=each, daemon=True) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    def _send(self) -> None:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
        due = time.monotonic()
        while not self._closing.is_set():
            packet = ECHO.pack(8, 0, 0, 1, self.sent & 0xFFFF, time.monotonic())
            with suppress(OSError):  # no neighbour answers, and too many packets wait for one
                self._sender.sendto(packet[:2] + _checksum(packet) + packet[4:], (ADDRESS, 0))
            self.sent += 1
            due = max(due + PROBE_INTERVAL, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))

    def _receive(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                packet = self._receiver.recv(1024)[20:]
                if packet[0] == 0 and len(packet) == ECHO.size:
                    self.answered.append(ECHO.unpack(packet)[-1])

    def answers_since(self, at: float) -> bool:
        return bool(self.answered) and self.answered[-1] > at

    def outage(self, since: float) -> tuple[float, float]:
        """The longest time without an answer that ends after `since`: when it began and ended."""
        answered = self.answered.copy()
        pairs = [(a, b) for a, b in itertools.pairwise(answered) if b > since]
        return max(pairs, key=lambda pair: pair[1] - pair[0])


def _checksum(packet: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


@dataclass(frozen=True, slots=True)
class Crash:
    """All in seconds; None: not known of this program."""

    contender: str
    with_leader: bool
    outage: float
    detected: float | None = None
    decided: float | None = None
    added: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    contender: str
    seconds: float
    sent: int
    lost: int
    longest: float
    moved: bool


class Stage(Closes):
    """The hosts, etcd, one contender on both nodes, and the client."""

    def __init__(self, name: str, seed: str) -> None:
        self.name, self.contender, self._random = name, CONTENDERS[name], Random(seed)
        with ExitStack() as opened:
            directory = Path(opened.enter_context(TemporaryDirectory(prefix="b", dir="/run")))
            disk = Path(opened.enter_context(TemporaryDirectory(prefix="floatip-bench-", dir=DISK)))
            self.segment = opened.enter_context(Segment(directory, [*MEMBERS, CLIENT]))
            self.recorder = opened.enter_context(Recorder(self.segment, NODES, [ADDRESS]))
            self.etcd = Etcd(self.segment, disk)
            self.programs = {host: self.contender.make(self.segment, host) for host in NODES}
            self.etcd.start()
            self._start(*NODES)
            self.echoes = opened.enter_context(Echoes(self.segment))
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def _start(self, *hosts: str) -> None:
        for host in hosts:
            for program in self.programs[host]:
                program.start()

    def carrier(self) -> str:
        """Returns when exactly one node has the address, and answers."""
        asked = time.monotonic()
        wait_for(
            lambda: len(self.recorder.holders(ADDRESS)) == 1 and self.echoes.answers_since(asked),
            f"one node to carry the address ({self.name})",
            WITHIN,
        )
        (found,) = self.recorder.holders(ADDRESS)
        return found

    def crash(self, *, with_leader: bool) -> Crash:
        self._settle()
        carrier = self.carrier()
        other = next(host for host in NODES if host != carrier)
        self.etcd.lead(carrier if with_leader else WITNESS)
        time.sleep(self._random.uniform(0.0, self.contender.wander))
        began = time.monotonic()
        self.segment.faults.cut(carrier)
        cut = time.monotonic()
        wait_for(lambda: self.echoes.answers_since(cut), f"{other} to answer ({self.name})", WITHIN)
        self.recorder.settle()
        gap = self.echoes.outage(began)
        has_at = next(
            each.at for each in self.recorder.changes if (each.host, each.has) == (other, True) and each.at > began
        )
        found = Crash(self.name, with_leader, gap[1] - gap[0], **self._steps(other, began, has_at))
        self._reboot(carrier)
        return found

    def _settle(self) -> None:
        """Returns when both nodes take part."""
        daemons = [each for host in NODES for each in self.programs[host] if isinstance(each, RealTimeDaemon)]
        wait_for(lambda: all(map(_is_ready, daemons)), "the nodes to hear each other", WITHIN)
        # Both have looked at the key; of floatip, each has heard the owner since it learned who that is.
        time.sleep(0.5 if daemons else self.contender.wander + 1.0)

    def _steps(self, host: str, began: float, has_at: float) -> Mapping[str, float | None]:
        daemon = next((each for each in self.programs[host] if isinstance(each, RealTimeDaemon)), None)
        if not daemon:
            return {}
        wait_for(lambda: bool(_takeover(daemon, began)), "the takeover in the history", WITHIN)
        role_at, took = _takeover(daemon, began)[-1]
        decided = took["decided"] or 0.0
        return {"detected": took["detected"], "decided": decided, "added": has_at - role_at + decided}

    def _reboot(self, host: str) -> None:
        programs = self.programs[host]
        member = self.etcd.members[host]
        for program in (*programs, member):
            program.kill()
        with self.segment.inside(host):
            subprocess.run(["ip", "address", "flush", "to", f"{ADDRESS}/32"], check=True)
        for program in programs:
            if isinstance(program, RealTimeDaemon):
                program.forget()
        self.segment.faults.heal(host)
        self.etcd.start(host)
        self._start(host)

    def gone(self, seconds: float) -> Gone:
        """All members of etcd are killed, and come back after so long."""
        self._settle()
        before = self.carrier()
        began, sent, first = time.monotonic(), self.echoes.sent, len(self.echoes.answered)
        for member in self.etcd.members.values():
            member.kill()
        time.sleep(seconds)
        self.etcd.start()
        after = self.carrier()
        time.sleep(1.0)
        at, answered = self.echoes.sent, len(self.echoes.answered)
        since, until = self.echoes.outage(began)
        return Gone(self.name, seconds, at - sent, at - sent - (answered - first), until - since, before != after)


def _is_ready(daemon: RealTimeDaemon) -> bool:
    with suppress(NobodyAnswers):
        others = [node for node in daemon.status()["nodes"] if not node["own"]]
        if all(node["state"] == "alive" and node["hears_us"] is not None for node in others):
            said = [each.value for each in read_history(daemon.history, None) if each.what == "etcd"]
            return said[-1:] == ["answers"] or "[etcd]" not in Path(daemon.config).read_text()
    return False


def _takeover(daemon: RealTimeDaemon, since: float) -> list[tuple[float, dict[str, float | None]]]:
    """When it became master, and how long the steps took."""
    changes = [each for each in read_history(daemon.history, None) if each.monotonic >= since]
    masters = [each.monotonic for each in changes if (each.what, each.value) == ("role", "master")]
    took = [each.took for each in changes if each.what == "takeover" and each.took]
    return list(zip(masters, took, strict=False))


def play(name: str, runs: int, side_by_side: int) -> list[Crash]:
    """Some stages, each with its part of the runs of both kinds."""
    each = -(-max(1, round(runs * CONTENDERS[name].share)) // side_by_side)

    def on_a_stage(number: int) -> list[Crash]:
        found: list[Crash] = []
        try:
            with Stage(name, f"{name} {number}") as stage:
                for run in range(2 * each):
                    found.append(_told(stage.crash(with_leader=bool(run % 2)), run, 2 * each))
        except LabError as error:  # what was measured counts
            print(f"{name}, after {len(found)} of {2 * each}: {error}", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(side_by_side) as pool:
        return [crash for found in pool.map(on_a_stage, range(side_by_side)) for crash in found]


def _told(crash: Crash, run: int, of: int) -> Crash:
    print(f"{crash.contender}, {run + 1} of {of}: {crash.outage:.2f} s", file=sys.stderr, flush=True)
    return crash


def share(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _line(title: str, crashes: Sequence[Crash]) -> Iterator[str]:
    for with_leader, what in ((False, "the carrier"), (True, "and etcd's leader")):
        if not (some := [each for each in crashes if each.with_leader is with_leader]):
            continue
        outages = [each.outage for each in some]
        cells = f"{statistics.median(outages):6.2f} {share(outages, 0.99):6.2f} {max(outages):6.2f} s"
        steps = [
            f"{step} {1000 * statistics.median(known):.0f}, {1000 * share(known, 0.99):.0f} ms"
            for step in ("detected", "decided", "added")
            if (known := [value for each in some if (value := getattr(each, step)) is not None])
        ]
        yield f"{title if not with_leader else '':44}{what:20}{len(some):4}  {cells}  {'; '.join(steps)}"


def measure(runs: int, only: Sequence[str] = (), side_by_side: int = 3, gone: float = 60.0) -> list[dict[str, Any]]:
    """In a process of its own; prints the tables. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "etcd.json")
        options = [
            "--runs",
            runs,
            "--side-by-side",
            side_by_side,
            "--gone",
            gone,
            "--json",
            found,
            "--only",
            ",".join(only),
        ]
        subprocess.run([sys.executable, "-m", "bench.etcd", *map(str, options)], check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.etcd")
    parser.add_argument("--only", default="", help=", ".join(CONTENDERS))
    parser.add_argument(
        "--runs", type=int, default=30, help="crashes of each kind; a third of it with Patroni's defaults"
    )
    parser.add_argument("--side-by-side", type=int, default=3, help="networks at once")
    parser.add_argument("--gone", type=float, default=60.0, help="for how many seconds all of etcd is gone; 0: not")
    parser.add_argument("--json", type=Path, help="all crashes")
    options = parser.parse_args()
    try:
        enter([sys.executable, *parser.prog.split()[1:], *sys.argv[1:]])
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    names = [each for each in options.only.split(",") if each] or list(CONTENDERS)
    crashes: list[Crash] = []
    print(f"{'outage: median, p99, longest':64}runs")
    for name in names:
        some = play(name, options.runs, options.side_by_side)
        crashes += some
        print("\n".join(_line(CONTENDERS[name].title, some)), flush=True)
    gone = _all_gone(names, options.gone) if options.gone else []
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps([*map(asdict, crashes), *map(asdict, gone)], indent=1))
    return 0


def _all_gone(names: Sequence[str], seconds: float) -> list[Gone]:
    def on_a_stage(name: str) -> Gone:
        with Stage(name, name) as stage:
            return stage.gone(seconds)

    print(f"\nall of etcd is gone for {seconds:g} s; echoes sent, lost; the longest outage")
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(on_a_stage, names))
    for each in found:
        moved = "it moved" if each.moved else "nothing moved"
        title = CONTENDERS[each.contender].title
        print(f"{title:44}{each.sent:7}{each.lost:7}  {each.longest:6.2f} s  {moved}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
