"""Tells the layer-2 neighbours who answers for an address now: gratuitous ARP, unsolicited neighbour advertisement.

Its sockets stay open: closing a packet socket waits for the kernel for tens of milliseconds. Each address is told five
times within a second, by one queue with one timer, in small slices between which the loop does other work.
"""

import asyncio
import errno
import heapq
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from floatip.core.addresses import Placed
from floatip.core.events import Event, Failure
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network.kernel.tables import Tables
from floatip.host.network.slices import Slice

ETH_P_ARP = 0x0806
ALL_NODES = "ff02::1"
ICMPV6_FILTER, NOTHING = 1, b"\xff" * 32
DELAYS = (0.0, 0.2, 0.4, 0.7, 1.0)


class Neighbours:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tables = Tables()
        self._failures = Failures("neighbours", report)
        self._refused: dict[Placed, Failure] = {}
        self._queue: list[tuple[float, int, int, Placed]] = []
        """When, the number of its order, which of its repeats, of which address."""
        self._orders: dict[Placed, int] = {}
        """The latest of each address; what an older one left in the queue is passed over."""
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._arp: socket.socket | None = None
        self._icmp: socket.socket | None = None

    def look_at(self, tables: Tables) -> None:
        self._tables = tables

    def tell(self, addresses: Iterable[Placed]) -> None:
        """A new order replaces the repeats of an older one."""
        now = self._loop.time()
        for placed in addresses:
            self._order += 1
            self._orders[placed] = self._order
            heapq.heappush(self._queue, (now + DELAYS[0], self._order, 0, placed))
        self._arm()

    def forget(self, placed: Placed) -> None:
        """It has gone, or another node answers for it: what was left to be told of it is not."""
        if self._orders.pop(placed, None) and self._refused.pop(placed, None):
            self._say_what_fails()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._queue.clear()
        for one in (self._arp, self._icmp):
            if one:
                one.close()
        self._arp = self._icmp = None

    def _arm(self) -> None:
        if not self._queue:
            return
        at = self._queue[0][0]
        if self._timer:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        # Not at once, even if it is due: what the loop has to do already comes first. After a suspension the core then
        # learns the time before the neighbours are told what may have changed meanwhile.
        self._timer = self._loop.call_at(at, self._loop.call_soon, self._work)

    def _work(self) -> None:
        self._timer = None
        part, now = Slice(), self._loop.time()
        while self._queue and self._queue[0][0] <= now and not part.is_over:
            _, order, repeat, placed = heapq.heappop(self._queue)
            if self._orders.get(placed) != order:
                continue
            self._tell(placed)
            if repeat + 1 < len(DELAYS):
                at = now + DELAYS[repeat + 1] - DELAYS[repeat]
                heapq.heappush(self._queue, (at, order, repeat + 1, placed))
            elif placed not in self._refused:
                del self._orders[placed]
        self._say_what_fails()
        self._arm()

    def _tell(self, placed: Placed) -> None:
        link = self._tables.link(placed.interface)
        # It may have been released since the first of them.
        if not link or not any(link.mac) or not self._tables.entry(placed):
            return
        ip = placed.address.ip
        try:
            if isinstance(ip, IPv4Address):
                self._send_arp(placed.interface, link.mac, ip)
            else:
                self._send_advertisement(placed.interface, link.mac, ip)
            self._refused.pop(placed, None)
        except OSError as error:
            what = f"gratuitous ARP for {ip}" if ip.version == 4 else f"neighbour advertisement for {ip}"
            self._refused[placed] = Failure(f"{what} on {placed.interface}", in_words(error.errno))

    def _say_what_fails(self) -> None:
        self._failures.replace(self._refused.values())

    def _send_arp(self, interface: str, mac: bytes, address: IPv4Address) -> None:
        if not self._arp:
            # Protocol 0: nothing is received.
            self._arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._arp.sendto(gratuitous_arp(mac, address), (interface, ETH_P_ARP))

    def _send_advertisement(self, interface: str, mac: bytes, address: IPv6Address) -> None:
        if not self._icmp:
            self._icmp = _icmp_socket()
        index = self._tables.index(interface)
        if index is None:
            raise OSError(errno.ENODEV, "")
        # struct in6_pktinfo: from the address itself. The kernel writes the checksum.
        source = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address.packed + struct.pack("=I", index))]
        self._icmp.sendmsg([neighbour_advertisement(mac, address)], source, 0, (ALL_NODES, 0, 0, index))


def _icmp_socket() -> socket.socket:
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
    try:
        raw.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, NOTHING)
        # RFC 4861 section 7.1.2: dropped with any other hop limit.
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    except OSError:
        raw.close()
        raise
    return raw


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """An announcement (RFC 5227 section 1.1): a request in which sender and target are the same."""
    ethernet = b"\xff" * 6 + mac + struct.pack("!H", ETH_P_ARP)
    return ethernet + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed


def neighbour_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """RFC 4861 section 4.4, unsolicited, with the override flag; option 2 is the target's link-layer address."""
    return struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address.packed + struct.pack("!BB", 2, 1) + mac
