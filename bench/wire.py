"""Adverts on the wire with the kernel's time stamps, and how long the machine kept their senders from running.

All times are monotonic seconds. The kernel stamps each packet on arrival, so it does not matter when this process
reads it. A late advert has two possible causes: its sender was slow, or the machine did not run the sender. `Watch`
samples how long each sender waited for a CPU, so that the second can be subtracted.
"""

import bisect
import os
import select
import socket
import struct
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from threading import Event, Thread
from types import TracebackType
from typing import Self

from floatip.core.settings import LINK_PORT
from floatip.core.vrrp.wire import PROTOCOL
from floatip.lab.namespaces import Closes, LabError
from floatip.lab.network import ROUTER, Network
from floatip.lab.scheduling import stolen
from floatip.lab.speaker import KEEPALIVE

DRAIN_INTERVAL = 0.05
SAMPLE_INTERVAL = 0.005
LATE = 0.005
"""Seconds by which a sample of `Watch` may be late before that counts as the machine's doing."""
BUFFER = 64 << 20
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_PACKET = 263
PACKET_STATISTICS = 6
TIMESPEC = struct.Struct("@qq")
IP_HEADER = 20
HELLO_PORT = LINK_PORT.to_bytes(2)
RTMGRP_ADDRESSES = 0x10 | 0x100
RTM_NEWADDR, RTM_DELADDR = 20, 21
IFA_ADDRESS, IFA_LOCAL = 1, 2

Key = tuple[str, int]
"""The sending host and the group's vrid."""


class Capture:
    """What arrives at each of `hosts`; `senders` gives the name of an IPv4 source address."""

    def __init__(self, network: Network, hosts: Iterable[str], senders: Mapping[str, str]) -> None:
        self._names = {socket.inet_aton(address): name for address, name in senders.items()}
        self.adverts: dict[Key, array[float]] = {}
        """When each advert of a priority above 0 arrived."""
        self.resignations: dict[Key, array[float]] = {}
        """The same with priority 0."""
        self._clock = _Clock()
        self._sockets = []
        for host in hosts:
            with network.inside(host):
                self._sockets.append(_open_packet_socket(ETH_P_IP))
        self._closing = Event()
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        for each in self._sockets:
            each.close()

    def sent(self, host: str, vrid: int, since: float = 0.0) -> "array[float]":
        times = self.adverts.get((host, vrid), array("d"))
        return times[bisect.bisect_left(times, since) :]

    def settle(self) -> None:
        """Wait until everything that has arrived by now is in `adverts`."""
        time.sleep(3 * DRAIN_INTERVAL)
        for each in self._sockets:
            _, dropped = struct.unpack("@II", each.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            if dropped:
                raise LabError(f"the capture lost {dropped} packets", "run the benchmark on a less busy machine")

    def _read(self) -> None:
        while not self._closing.wait(DRAIN_INTERVAL):
            for each in self._sockets:
                with suppress(BlockingIOError):
                    while True:
                        packet, ancillary, _, _ = each.recvmsg(32, 64)
                        if packet[9] == PROTOCOL:
                            self._note(packet, ancillary[0][2])

    def _note(self, packet: bytes, stamp: bytes) -> None:
        key = self._names.get(packet[12:16], "?"), packet[IP_HEADER + 1]
        kept = self.adverts if packet[IP_HEADER + 2] else self.resignations
        if key not in kept:
            kept[key] = array("d")
        kept[key].append(self._clock.monotonic(stamp))


class Tap(Closes):
    """When adverts, KEEPALIVEs and hellos left their nodes: seen in the router, where the links of the nodes end."""

    def __init__(self, network: Network, nodes: Iterable[str]) -> None:
        self.adverts: dict[str, list[float]] = {node: [] for node in nodes}
        """Of each node, those of a priority above 0."""
        self.keepalives: dict[tuple[str, bytes], list[float]] = {}
        """By node and route server."""
        self.hellos: dict[tuple[str, bytes], list[float]] = {}
        """By node and the node that it is for."""
        self.octets: Counter[str] = Counter()
        """Of the hellos of each node, as in their IP headers."""
        self._clock = _Clock()
        self._sockets: list[tuple[str, socket.socket]] = []
        with network.inside(ROUTER):
            for node in self.adverts:
                for protocol in (ETH_P_IP, ETH_P_IPV6):
                    opened = _open_packet_socket(protocol)
                    opened.bind((node, protocol))
                    self._sockets.append((node, opened))
        self._closing = Event()
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for _, each in self._sockets:
            each.close()

    def settle(self) -> None:
        """Wait until everything that has arrived by now is noted."""
        time.sleep(3 * DRAIN_INTERVAL)

    def _read(self) -> None:
        while not self._closing.wait(DRAIN_INTERVAL):
            for node, each in self._sockets:
                with suppress(BlockingIOError):
                    while True:
                        packet, ancillary, _, _ = each.recvmsg(256, 64)
                        self._note(node, packet, ancillary[0][2])

    def _note(self, node: str, packet: bytes, stamp: bytes) -> None:
        if packet[0] >> 4 == 4:
            if packet[9] == PROTOCOL and packet[IP_HEADER + 2]:
                self.adverts[node].append(self._clock.monotonic(stamp))
            elif packet[9] == socket.IPPROTO_UDP and packet[IP_HEADER + 2 : IP_HEADER + 4] == HELLO_PORT:
                self.hellos.setdefault((node, packet[16:20]), []).append(self._clock.monotonic(stamp))
                self.octets[node] += int.from_bytes(packet[2:4])
        elif packet[6] == socket.IPPROTO_TCP and packet.endswith(KEEPALIVE):
            self.keepalives.setdefault((node, packet[24:40]), []).append(self._clock.monotonic(stamp))


class _Clock:
    """From the kernel's stamps, which are of the wall clock, to monotonic seconds."""

    def __init__(self) -> None:
        self._to_monotonic = time.monotonic_ns() - time.time_ns()

    def monotonic(self, stamp: bytes) -> float:
        seconds, nanoseconds = TIMESPEC.unpack(stamp[: TIMESPEC.size])
        return float(seconds * 1_000_000_000 + nanoseconds + self._to_monotonic) / 1e9


def _open_packet_socket(protocol: int) -> socket.socket:
    """Bound to a protocol, so it sees what arrives and not what this host sends."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(protocol))
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return opened


class Watch:
    """Samples, for each host, how long its sender waited for a CPU, and whether anything could run at all."""

    def __init__(self, senders: Mapping[str, int]) -> None:
        """`senders`: the process of each host."""
        self._files = {host: os.open(f"/proc/{pid}/schedstat", os.O_RDONLY) for host, pid in senders.items()}
        self._at = array("d")
        self._waited = {host: array("d") for host in senders}
        self._idle = array("d")
        """Seconds so far in which this thread, which asks for nothing else, was not run."""
        self._closing = Event()
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        for file in self._files.values():
            os.close(file)

    def held_up(self, host: str, since: float, until: float) -> float:
        """Seconds between two instants for which the machine kept the host's sender from running."""
        if not self._at or host not in self._waited:
            return 0.0
        first = max(bisect.bisect_right(self._at, since) - 1, 0)
        last = min(bisect.bisect_left(self._at, until), len(self._at) - 1)
        shares = [kept[last] - kept[first] for kept in (self._waited[host], self._idle)]
        return min(max(shares), until - since)

    def longest_hold_up(self) -> float:
        """Seconds of the longest single wait of any sender: the kernel adds a wait to the count when it ends."""
        return max((b - a for kept in (*self._waited.values(), self._idle) for a, b in pairwise(kept)), default=0.0)

    def _sample(self) -> None:
        before, taken, idle = time.monotonic(), stolen(), 0.0
        while not self._closing.wait(SAMPLE_INTERVAL):
            now, taken_before = time.monotonic(), taken
            taken = stolen()
            late = max(now - before - SAMPLE_INTERVAL, taken - taken_before)
            idle += late if late > LATE else 0.0
            for host, file in self._files.items():
                self._waited[host].append(_run_delay(file, self._waited[host]))
            self._idle.append(idle)
            self._at.append(now)
            before = now


def _run_delay(file: int, before: "array[float]") -> float:
    try:
        return int(os.pread(file, 64, 0).split()[1]) / 1e9
    except OSError:  # the process has ended
        return before[-1] if before else 0.0


class AddressMonitor:
    """When a host got and lost each of `addresses`, as the kernel says by netlink."""

    def __init__(self, network: Network, host: str, addresses: Sequence[str]) -> None:
        self.got: dict[str, float] = {}
        self.lost: dict[str, float] = {}
        self._ours = set(addresses)
        with network.inside(host):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            self._socket.bind((0, RTMGRP_ADDRESSES))
        self._closing = Event()
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._socket], [], [], 0.1)[0]:
                continue
            data, now = self._socket.recv(1 << 20), time.monotonic()
            for kind, address in _addresses(data):
                if address in self._ours:
                    times = self.got if kind == RTM_NEWADDR else self.lost
                    times.setdefault(address, now)


def _addresses(data: bytes) -> Iterable[tuple[int, str]]:
    """Of rtnetlink messages: the kind and the address of each (rtnetlink(7))."""
    while len(data) >= 24:
        length, kind = struct.unpack_from("=IH", data)
        family = data[16]
        attributes = data[24:length]
        found = {}
        while len(attributes) >= 4:
            size, name = struct.unpack_from("=HH", attributes)
            found[name] = attributes[4:size]
            attributes = attributes[(size + 3) & ~3 :]
        packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
        if kind in (RTM_NEWADDR, RTM_DELADDR) and packed:
            yield kind, socket.inet_ntop(family, packed)
        data = data[(length + 3) & ~3 :]
