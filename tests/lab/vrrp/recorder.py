"""Which host has which address, and who sends adverts, as the kernel says: each change with its time.

It runs as a process of its own, before all others if it may, so that the times are right on a busy machine. Addresses
come from a netlink socket in each host. Adverts come from a packet socket on each port of the switch, with the
kernel's time stamps. Every line of its output is one `Change` or `Sent`, in JSON.

An interface without a carrier has no address: FRR takes the carrier of its interface away instead of its address.
"""

import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

from floatip.core.vrrp.wire import PROTOCOL
from floatip.lab.namespaces import CLONE_NEWNET, Closes
from floatip.lab.network import ROUTER
from floatip.rtnetlink import GETADDR, GETLINK, GROUPS, AddressMessage, LinkMessage, Message, Netlink
from tests.lab.vrrp.segment import Segment

REAL_TIME = 50
ANSWERS_WITHIN = 60.0
ASKED = 0
"""The standard input."""
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@qq")
ETH_P_ALL = 3
LENGTHS = {0x0800: (20, 9), 0x86DD: (40, 6)}
"""By EtherType: of the IP header, and where the protocol is in it."""


@dataclass(frozen=True, slots=True)
class Change:
    at: float
    """Seconds of the monotonic clock."""
    host: str
    address: str
    has: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """An advert, as it arrives at the switch."""

    at: float
    host: str
    vrid: int
    priority: int


class Recorder(Closes):
    """From its start on, until it is closed."""

    def __init__(self, segment: Segment, hosts: Sequence[str], addresses: Iterable[str]) -> None:
        self.changes: list[Change] = []
        self.adverts: list[Sent] = []
        self._ours = set(addresses)
        self._news = Condition()
        self._asked = self._answered = 0
        self._holders: dict[str, set[str]] = {address: set() for address in self._ours}
        namespaces = [f"{host}={segment.path_of(host)}" for host in (ROUTER, *hosts)]
        command = [sys.executable, "-m", "tests.lab.vrrp.recorder", *namespaces]
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", "the recorder ended"
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        for pipe in filter(None, (self._process.stdin, self._process.stdout)):
            pipe.close()

    def holders(self, address: str) -> set[str]:
        return set(self._holders[address])

    def wait(self, true: Callable[[], bool], timeout: float) -> bool:
        """`true` is asked again whenever something has changed; whether it became true."""
        with self._news:
            return self._news.wait_for(true, timeout)

    def settle(self) -> None:
        """Wait until everything that has happened by now is known."""
        assert self._process.stdin
        with self._news:
            self._asked += 1
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            assert self._news.wait_for(lambda: self._answered == self._asked, ANSWERS_WITHIN), "the recorder hangs"

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            kind, *fields = json.loads(line)
            if kind == "advert":
                self.adverts.append(Sent(*fields))
                continue
            if kind == "settled":
                with self._news:
                    self._answered += 1
                    self._news.notify_all()
                continue
            change = Change(*fields)
            if change.address in self._ours:
                with self._news:
                    self.changes.append(change)
                    holders = self._holders[change.address]
                    (holders.add if change.has else holders.discard)(change.host)
                    self._news.notify_all()


# The process


class _Host:
    def __init__(self, name: str) -> None:
        self._name = name
        self._carriers: dict[int, bool] = {}
        self._addresses: dict[int, set[str]] = defaultdict(set)
        self._said: set[str] = set()
        self.monitor = Netlink(GROUPS)
        reader = Netlink()
        for kind in (GETLINK, GETADDR):
            for message in reader.read(kind):
                self._take(message)
        reader.close()

    def read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                messages, now = list(self.monitor.receive()), time.monotonic()
                for message in messages:
                    self._take(message)
                    self.say(now)

    def _take(self, message: Message) -> None:
        match message:
            case LinkMessage():
                self._carriers[message.index] = message.carrier and message.up and not message.gone
            case AddressMessage():
                address = socket.inet_ntop(
                    socket.AF_INET6 if len(message.packed) == 16 else socket.AF_INET, message.packed
                )
                addresses = self._addresses[message.index]
                (addresses.discard if message.gone else addresses.add)(address)

    def say(self, now: float) -> None:
        has = {address for index, some in self._addresses.items() if self._carriers.get(index) for address in some}
        for address in has ^ self._said:
            _write("address", now, self._name, address, address in has)
        self._said = has


class _Port:
    """A socket of one protocol sees nothing here: the bridge takes the frames before."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((host, ETH_P_ALL))
        self._to_monotonic = time.monotonic_ns() - time.time_ns()

    def read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet, ancillary, _, (_, family, direction, *_) = self.socket.recvmsg(64, 64)
                if direction == socket.PACKET_OUTGOING or family not in LENGTHS:
                    continue
                header, protocol = LENGTHS[family]
                if packet[protocol] == PROTOCOL:
                    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2][: TIMESPEC.size])
                    at = (seconds * 1_000_000_000 + nanoseconds + self._to_monotonic) / 1e9
                    _write("advert", at, self._host, packet[header + 1], packet[header + 2])


def _write(*fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")


def _main(namespaces: Sequence[str]) -> None:
    setns = ctypes.CDLL(None).setns
    sources: dict[int, _Host | _Port] = {}
    names = [each.partition("=")[0] for each in namespaces]
    for name, path in zip(names, (each.partition("=")[2] for each in namespaces), strict=True):
        with open(path) as namespace:
            assert setns(namespace.fileno(), CLONE_NEWNET) == 0, f"cannot enter {path}"
        if name != ROUTER:
            host = _Host(name)
            sources[host.monitor.socket.fileno()] = host
            continue
        for port in names:
            if port != ROUTER:
                opened = _Port(port)
                sources[opened.socket.fileno()] = opened
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REAL_TIME))
    poll = select.poll()
    for descriptor in (*sources, ASKED):
        poll.register(descriptor, select.POLLIN)
    print("ready", flush=True)
    for source in sources.values():
        if isinstance(source, _Host):
            source.say(time.monotonic())
    while True:
        sys.stdout.flush()
        ready = {descriptor for descriptor, _ in poll.poll()}
        questions = os.read(ASKED, 4096) if ASKED in ready else b""
        for descriptor in sources if questions else ready:
            sources[descriptor].read()
        for _ in questions:
            _write("settled")


if __name__ == "__main__":
    _main(sys.argv[1:])
