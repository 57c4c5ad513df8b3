"""Tells the layer-2 neighbours who answers for an address now: gratuitous ARP, unsolicited neighbour advertisement.

Its sockets stay open: closing a packet socket waits for the kernel for tens of milliseconds. Each address is told in
sets, as its `Garps` say, by one queue with one timer, in small slices between which the loop does other work.
keepalived sends a set as one burst. Here a set is spread over a second: the first packet leaves at once, and a switch
that is busy with the failover does not lose all of them.
"""

import asyncio
import contextlib
import errno
import heapq
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from floatip.core.addresses import Address, Placed
from floatip.core.events import Event, Failure
from floatip.core.settings import Garps
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network.kernel.tables import Tables
from floatip.host.network.slices import Slice

ETH_P_ARP = 0x0806
ALL_NODES = "ff02::1"
ICMPV6_FILTER, NOTHING = 1, b"\xff" * 32
SPREAD = 1.0
"""Seconds over which a set is spread."""
DEFAULT = Garps(delay=0.0, lower_delay=0.0)
"""For addresses of which nothing else is configured: one set."""


@dataclass(slots=True)
class _Order:
    placed: Placed
    pauses: Iterator[float]
    """Seconds before each packet."""
    has_slot: bool = False
    """Whether its turn on its interface has been found already."""


class Neighbours:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tables = Tables()
        self._failures = Failures("neighbours", report)
        self._refused: dict[Placed, Failure] = {}
        self._queue: list[tuple[float, int, _Order]] = []
        """When, and a number that keeps orders of the same time apart."""
        self._number = 0
        self._sets: dict[Placed, _Order] = {}
        """The latest of each address; what an older one left in the queue is passed over."""
        self._told: dict[Placed, _Order | None] = {}
        """The addresses of which they know, each with what refreshes that."""
        self._garps: Mapping[Placed, Garps] = {}
        self._free_at: dict[tuple[str, int], float] = {}
        """By interface and version of IP: when a packet may leave that has no slot yet."""
        self._left_at: dict[tuple[str, int], float] = {}
        """When the last one left."""
        self._timer: asyncio.TimerHandle | None = None
        self._arp: socket.socket | None = None
        self._icmp: socket.socket | None = None

    def configure(self, garps: Mapping[Placed, Garps]) -> None:
        """How each address is told, from the next order on; refreshing follows at once."""
        before, self._garps = self._garps, garps
        for placed in self._told:
            if before.get(placed) != garps.get(placed):
                self._refresh(placed)
        self._arm()

    def look_at(self, tables: Tables) -> None:
        self._tables = tables

    def tell(self, addresses: Iterable[Placed], after_lower: bool = False) -> None:
        """A new order replaces the repeats of an older one."""
        now = self._loop.time()
        for placed in addresses:
            garps = self._garps.get(placed, DEFAULT)
            repeat, delay = (garps.lower_repeat, garps.lower_delay) if after_lower else (garps.repeat, garps.delay)
            if repeat:
                self._sets[placed] = order = _Order(placed, pauses(repeat, delay))
                self._queue_next(order, now)
            if placed not in self._told:
                self._refresh(placed)
        self._arm()

    def greet(self, interface: str, address: Address) -> None:
        """Once, of an address that is no floating one."""
        link = self._tables.link(interface)
        if link and any(link.mac):
            with contextlib.suppress(OSError):  # what is refused now is refused to the adverts too, and told there
                self._send(interface, link.mac, address)

    def forget(self, placed: Placed) -> None:
        """It has gone, or another node answers for it: what was left to be told of it is not."""
        self._sets.pop(placed, None)
        self._told.pop(placed, None)
        if self._refused.pop(placed, None):
            self._say_what_fails()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._queue.clear()
        for one in (self._arp, self._icmp):
            if one:
                one.close()
        self._arp = self._icmp = None

    def _refresh(self, placed: Placed) -> None:
        garps = self._garps.get(placed, DEFAULT)
        self._told[placed] = None
        if garps.refresh and garps.refresh_repeat:
            self._told[placed] = order = _Order(placed, _refreshes(garps.refresh, garps.refresh_repeat))
            self._queue_next(order, self._loop.time())

    def _queue_next(self, order: _Order, now: float) -> bool:
        """Whether there is one more."""
        pause = next(order.pauses, None)
        if pause is not None:
            order.has_slot = False
            self._put(order, now + pause)
        return pause is not None

    def _put(self, order: _Order, at: float) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, order))

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
            _, _, order = heapq.heappop(self._queue)
            placed = order.placed
            if self._sets.get(placed) is not order and self._told.get(placed) is not order:
                continue
            if (slot := self._slot(order, now)) > now:
                self._put(order, slot)
                continue
            self._tell(placed)
            if not self._queue_next(order, now) and placed not in self._refused:
                del self._sets[placed]
        self._say_what_fails()
        self._arm()

    def _slot(self, order: _Order, now: float) -> float:
        """When the packet may leave, `interval` after the one before on its interface."""
        placed = order.placed
        garps = self._garps.get(placed, DEFAULT)
        interval = garps.interval if placed.address.version == 4 else garps.gna_interval
        if not interval:
            return now
        where = placed.interface, placed.address.version
        if not order.has_slot:
            slot = max(self._free_at.get(where, now), now)
            self._free_at[where], order.has_slot = slot + interval, True
            if slot > now:
                return slot
        # Where the loop is late, the one before has only just left.
        slot = max(self._left_at.get(where, now - interval) + interval, now)
        if slot == now:
            self._left_at[where] = now
        return slot

    def _tell(self, placed: Placed) -> None:
        link = self._tables.link(placed.interface)
        # It may have been released since the first of them.
        if not link or not any(link.mac) or not self._tables.entry(placed):
            return
        ip = placed.address.ip
        try:
            self._send(placed.interface, link.mac, ip)
            self._refused.pop(placed, None)
        except OSError as error:
            what = f"gratuitous ARP for {ip}" if ip.version == 4 else f"neighbour advertisement for {ip}"
            self._refused[placed] = Failure(f"{what} on {placed.interface}", in_words(error.errno))

    def _say_what_fails(self) -> None:
        self._failures.replace(self._refused.values())

    def _send(self, interface: str, mac: bytes, address: Address) -> None:
        """Raises OSError."""
        if isinstance(address, IPv4Address):
            self._send_arp(interface, mac, address)
        else:
            self._send_advertisement(interface, mac, address)

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


def pauses(repeat: int, delay: float) -> Iterator[float]:
    """Seconds before each packet of a set that begins at once, and of one that begins `delay` seconds later."""
    yield 0.0
    yield from _rest_of_set(repeat)
    if delay:
        yield max(delay - (SPREAD if repeat > 1 else 0.0), 0.0)
        yield from _rest_of_set(repeat)


def _refreshes(interval: float, repeat: int) -> Iterator[float]:
    while True:
        yield interval
        yield from (0.0 for _ in range(repeat - 1))


def _rest_of_set(repeat: int) -> Iterator[float]:
    return (SPREAD / (repeat - 1) for _ in range(repeat - 1))


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
