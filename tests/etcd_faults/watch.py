"""Looks at the kernels of all nodes, in a process of its own: who has which address, at each instant.

Two eyes. The kernel tells one socket of what happens in all network namespaces (NETLINK_LISTEN_ALL_NSID), one message
after the other, in the order in which it happened, however late this process reads them. And each millisecond the
addresses of each node are read, in case a message does not tell.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address

from floatip.lab.namespaces import Namespace
from floatip.rtnetlink import ADDRESS, GETADDR, GROUPS, HEADER, SOL_NETLINK, AddressMessage, Netlink, _parsed

NETLINK_LISTEN_ALL_NSID = 8
NLM_F_DUMP = 0x301
PERIOD = 0.001
"""Seconds."""


@dataclass
class Seen:
    """Times are monotonic seconds."""

    twice: list[str] = field(default_factory=list)
    """Instants at which two nodes had one exclusive address, as people read them."""
    story: list[tuple[float, int, str, bool]] = field(default_factory=list)
    """When this process learned that an address came (true) or went, and on which node."""
    samples: int = 0
    longest_gap: float = 0.0
    late: int = 0
    """Gaps of more than two milliseconds."""
    lost: int = 0
    """Messages that found no room: the verdict is not complete."""


class Watcher:
    def __init__(self, namespaces: Mapping[int, Namespace], addresses: Sequence[str], exclusive: int) -> None:
        """`namespaces`: by the number of the node, by which this namespace knows each. The first `exclusive` are."""
        self.seen = Seen()
        self._nodes = frozenset(namespaces)
        self._packed = {ip_address(one).packed: one for one in addresses}
        self._exclusive = set(addresses[:exclusive])
        self._holders: dict[str, set[int]] = {one: set() for one in addresses}
        self._monitor = Netlink(GROUPS)
        self._monitor.socket.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
        self._readers = []
        for namespace in namespaces.values():
            with namespace.inside():
                reader = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            reader.settimeout(5)
            self._readers.append(reader)
        body = ADDRESS.pack(0, 0, 0, 0, 0)
        self._dump = HEADER.pack(HEADER.size + len(body), GETADDR, NLM_F_DUMP, 1, 0) + body
        for number, reader in zip(namespaces, self._readers, strict=True):
            there = self._sample(reader)
            for packed, address in self._packed.items():
                if packed in there:
                    self._holders[address].add(number)

    def look(self) -> None:
        self._listen()
        now = time.monotonic()
        found = [self._sample(reader) for reader in self._readers]
        for packed, address in self._packed.items():
            if address in self._exclusive and sum(packed in data for data in found) > 1:
                # Read one after the other: an address may have moved in between. What the kernel told, decides.
                before = {node: address in self._said(node) for node in self._nodes}
                self._listen()
                again = [self._sample(reader) for reader in self._readers]
                if sum(packed in data for data in again) > 1:
                    self.seen.twice.append(f"{address} at {now:.4f}, sampled twice; the kernel told {before}")
        self.seen.samples += 1

    def close(self) -> None:
        self._monitor.close()
        for reader in self._readers:
            reader.close()

    def _said(self, node: int) -> set[str]:
        return {address for address, nodes in self._holders.items() if node in nodes}

    def _listen(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._monitor.socket.recvmsg(1 << 16, 64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self.seen.lost += 1
                continue
            nsid = next(
                (struct.unpack("=i", data)[0] for _, kind, data in ancillary if kind == NETLINK_LISTEN_ALL_NSID), None
            )
            if nsid in self._nodes:
                self._take(nsid, data)

    def _take(self, node: int, data: bytes) -> None:
        at = 0
        while at + HEADER.size <= len(data):
            length, kind, *_ = HEADER.unpack_from(data, at)
            message = _parsed(kind, memoryview(data)[at + HEADER.size : at + length])
            at += length + 3 & ~3
            address = self._packed.get(message.packed) if isinstance(message, AddressMessage) else None
            if address is None or not isinstance(message, AddressMessage):
                continue
            holders, now = self._holders[address], time.monotonic()
            was = node in holders
            if message.gone:
                holders.discard(node)
            else:
                holders.add(node)
            if was == message.gone:
                self.seen.story.append((now, node, address, not message.gone))
            if len(holders) > 1 and not was and address in self._exclusive:
                self.seen.twice.append(
                    f"{address} at {now:.4f}: came to node {node} while {sorted(holders - {node})} had it"
                )

    def _sample(self, reader: socket.socket) -> bytes:
        reader.send(self._dump)
        found = b""
        while True:
            data = reader.recv(1 << 16)
            found += data
            at, kind = 0, 0
            while at + HEADER.size <= len(data):  # the end of a table comes with its last part, or after it
                length, kind, *_ = HEADER.unpack_from(data, at)
                at += length + 3 & ~3
            if kind in (2, 3):
                return found

    def run(self, end: int) -> None:
        """Until `end`, a pipe, is closed at its other side."""
        os.set_blocking(end, False)
        last = due = time.monotonic()
        while True:
            now = time.monotonic()
            self.seen.longest_gap = max(self.seen.longest_gap, now - last)
            self.seen.late += now - last > 2 * PERIOD
            last = now
            self.look()
            try:
                if not os.read(end, 1):
                    break
            except BlockingIOError:
                pass
            due = max(due + PERIOD, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        self._listen()


def start(namespaces: Mapping[int, Namespace], addresses: Sequence[str], exclusive: int) -> tuple[int, int, int]:
    """Its pid, a pipe that ends it when it is closed, and one from which what it has seen can be read then."""
    stop_reading, stop = os.pipe()
    answer, answer_writing = os.pipe()
    if pid := os.fork():
        os.close(stop_reading)
        os.close(answer_writing)
        return pid, stop, answer
    status = 1
    try:
        os.close(stop)
        os.close(answer)
        with contextlib.suppress(PermissionError):  # below the daemons, above what else is busy here
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(9))
        watcher = Watcher(namespaces, addresses, exclusive)
        os.write(answer_writing, b"+")
        watcher.run(stop_reading)
        with os.fdopen(answer_writing, "w") as file:
            json.dump(asdict(watcher.seen), file)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)
