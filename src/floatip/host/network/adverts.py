"""VRRP packets: one raw socket an interface, for what arrives and for what is sent (RFC 9568 section 5.1).

Nothing is judged here: every packet of protocol 112 that the kernel's filter lets through becomes an `AdvertReceived`.
`drain` empties the sockets, so that a timer is believed only after everything that has arrived in time was heard.
Packets of strangers come by a second socket, and only so many a second: a flood of them costs nothing.
"""

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from floatip.core.events import AdvertReceived, Event, LinkChanged, SendAdvert
from floatip.core.state import SocketView
from floatip.core.vrrp.wire import GROUP, PROTOCOL
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network import packet_filter
from floatip.host.network.packet_filter import Known
from floatip.host.network.slices import Slice

MOST_AT_ONCE = 512
STRANGERS_A_SECOND = 50
RECEIVE_BUFFER = 4 << 20
SO_RCVBUFFORCE = 33
IP_PKTINFO = 8
SIOCGIFINDEX = 0x8933
LONGEST_PACKET = 65535
OPEN_AGAIN_INTERVAL = 1.0
PATIENCE, MOST_PATIENCE = 5.0, 800.0
"""Seconds for which a destination fails, at least and at most; in between, three times the time between two tries. A
backup sends no more, so nobody would know."""
SOURCES_KEPT = 1024


@dataclass(slots=True)
class _Way:
    """From one source to one destination, made once and used for each advert."""

    what: str
    ancillary: list[tuple[int, int, bytes]]
    to: tuple[str, int]
    tried_at: float
    fails: bool = False


@dataclass(slots=True)
class _Link:
    """The sockets of an interface."""

    index: int
    adverts: socket.socket
    strangers: socket.socket
    is_member: bool = False
    is_filtered: bool = False


class Adverts:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._links: dict[str, _Link] = {}
        self._interfaces: frozenset[str] = frozenset()
        self._multicast: frozenset[str] = frozenset()
        self._known: Mapping[str, Known] = {}
        self._down: set[str] = set()
        """Interfaces on which VRRP cannot work now: that no advert leaves there is no failure of its own."""
        self._ways: dict[tuple[str, int, int], _Way] = {}
        self._opening = Failures("VRRP sockets", report)
        self._sending = Failures("adverts", report)
        self._again: asyncio.TimerHandle | None = None
        self._buffer = bytearray(LONGEST_PACKET)
        self._view = memoryview(self._buffer)
        self._addresses: dict[bytes, IPv4Address] = {}

    def configure(
        self, interfaces: Iterable[str], multicast: Iterable[str] = (), known: Mapping[str, Known] | None = None
    ) -> None:
        """`multicast`: the interfaces on which adverts to the group are wanted too; nothing is sent there.

        `known`: what is for us, by interface; on one that is not named, every packet is.
        """
        self._interfaces, self._multicast, self._known = frozenset(interfaces), frozenset(multicast), known or {}
        self._down &= self._interfaces
        self._ways = {key: way for key, way in self._ways.items() if way.fails and key[0] in self._interfaces}
        self._sending.keep(way.what for way in self._ways.values())
        self.refresh()

    def link(self, change: LinkChanged) -> None:
        if change.up:
            self._down.discard(change.interface)
        else:
            self._down.add(change.interface)
            for way in [way for (interface, *_), way in self._ways.items() if interface == change.interface]:
                self._works(way)
        self.refresh()

    def refresh(self) -> None:
        """Open what can be opened now; the socket of an interface that was created anew is deaf, by its old index."""
        if self._again:
            self._again.cancel()
            self._again = None
        # Not yet: who has just stopped being a virtual router there says so now.
        self._loop.call_soon(self._close_the_others)
        for interface in self._interfaces:
            self._open(interface)
        self._opening.keep(_vrrp_on(interface) for interface in self._interfaces)

    def drain(self) -> None:
        for interface, link in list(self._links.items()):
            for _ in range(MOST_AT_ONCE):
                if not self._hear(interface, link.adverts):
                    break

    def send(self, advert: SendAdvert) -> None:
        key = advert.interface, int(advert.source), int(advert.destination)
        now = self._loop.time()
        way = self._ways.get(key) or self._ways.setdefault(key, _way(advert, now))
        since, way.tried_at = now - way.tried_at, now
        reason = self._try(advert, way)
        if reason and advert.interface not in self._down:
            way.fails = True
            self._sending.set(way.what, reason, lasts=max(PATIENCE, min(3 * since, MOST_PATIENCE)))
        else:
            self._works(way)

    def _works(self, way: _Way) -> None:
        if way.fails:
            way.fails = False
            self._sending.clear(way.what)

    def sockets(self) -> list[SocketView]:
        return [
            SocketView(
                _vrrp_on(interface),
                link.adverts.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> 2,
                "known nodes" if link.is_filtered else "everything",
            )
            for interface, link in self._links.items()
        ]

    def close(self) -> None:
        self.configure(())
        self._close_the_others()
        if self._again:
            self._again.cancel()

    def _try(self, advert: SendAdvert, way: _Way) -> str:
        """Why it failed, or nothing."""
        link = self._links.get(advert.interface)
        if link is None:
            return f"{advert.interface} does not exist"
        try:
            link.adverts.sendmsg([advert.data], way.ancillary, 0, way.to)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                self._open(advert.interface)
            return in_words(error.errno)
        return ""

    # Sockets

    def _open(self, interface: str) -> None:
        """Unless it is open, and the same interface as before; as it is configured now."""
        try:
            index = _index(interface)
            link = self._links.get(interface)
            if link is None or link.index != index:
                self._close(interface)
                link = self._links[interface] = _link(interface, index)
                self._loop.add_reader(link.adverts, self._read, interface)
                self._loop.add_reader(link.strangers, self._look, interface, link.strangers)
            self._fit(interface, link)
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._close(interface)  # the kernel's part tells that it is not there
            else:
                self._opening.set(_vrrp_on(interface), in_words(error.errno))
                if not self._again:
                    self._again = self._loop.call_later(OPEN_AGAIN_INTERVAL, self.refresh)
                return
        self._opening.clear(_vrrp_on(interface))

    def _fit(self, interface: str, link: _Link) -> None:
        wants = interface in self._multicast
        if wants != link.is_member:
            option = socket.IP_ADD_MEMBERSHIP if wants else socket.IP_DROP_MEMBERSHIP
            link.adverts.setsockopt(socket.IPPROTO_IP, option, struct.pack("=4s4xi", GROUP.packed, link.index))
            link.is_member = wants
        known = self._known.get(interface)
        packet_filter.attach(link.adverts, packet_filter.program(known))
        packet_filter.attach(link.strangers, packet_filter.program(known, strangers=True))
        link.is_filtered = known is not None

    def _close_the_others(self) -> None:
        for interface in self._links.keys() - self._interfaces:
            self._close(interface)

    def _close(self, interface: str) -> None:
        if link := self._links.pop(interface, None):
            for one in (link.adverts, link.strangers):
                self._loop.remove_reader(one)
                one.close()

    # What arrives

    def _read(self, interface: str) -> None:
        """For one slice: the loop asks again."""
        part, receiver = Slice(), self._links[interface].adverts
        while self._hear(interface, receiver) and not part.is_over:
            pass

    def _look(self, interface: str, strangers: socket.socket) -> None:
        number = 0
        while number < STRANGERS_A_SECOND and self._hear(interface, strangers):
            number += 1
        # A flood that comes one by one must not wake the loop either. What the socket cannot keep, the kernel drops.
        self._loop.remove_reader(strangers)
        self._loop.call_later(number / STRANGERS_A_SECOND, self._look_again, interface, strangers)

    def _look_again(self, interface: str, strangers: socket.socket) -> None:
        link = self._links.get(interface)
        if link and link.strangers is strangers:
            self._loop.add_reader(strangers, self._look, interface, strangers)

    def _hear(self, interface: str, receiver: socket.socket) -> bool:
        """Whether there was a packet."""
        try:
            length = receiver.recv_into(self._buffer)
        except OSError:
            return False
        # A raw IPv4 socket delivers the header too, checked by the kernel (RFC 791 section 3.1).
        packet = self._buffer
        source, destination = self._address(bytes(packet[12:16])), self._address(bytes(packet[16:20]))
        data = bytes(self._view[(packet[0] & 0x0F) * 4 : length])
        self._report(AdvertReceived(interface, source, destination, packet[8], data))
        return True

    def _address(self, packed: bytes) -> IPv4Address:
        if (address := self._addresses.get(packed)) is None:
            if len(self._addresses) >= SOURCES_KEPT:
                self._addresses.clear()
            address = self._addresses[packed] = IPv4Address(packed)
        return address


def _index(interface: str) -> int:
    """Raises OSError. (`socket.if_nametoindex` does not say why.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sI20x", interface.encode(), 0)
        return int(struct.unpack("16sI20x", fcntl.ioctl(any_socket, SIOCGIFINDEX, request))[1])


def _vrrp_on(interface: str) -> str:
    return f"VRRP on {interface}"


def _way(advert: SendAdvert, now: float) -> _Way:
    # struct in_pktinfo: the index is the socket's, the source is ours to choose.
    source = struct.pack("=i4s4x", 0, advert.source.packed)
    what = f"advert to {advert.destination} on {advert.interface}"
    return _Way(what, [(socket.IPPROTO_IP, IP_PKTINFO, source)], (str(advert.destination), 0), now)


def _link(interface: str, index: int) -> _Link:
    adverts = _open(interface, RECEIVE_BUFFER)
    try:
        return _Link(index, adverts, _open(interface, RECEIVE_BUFFER >> 6))
    except OSError:
        adverts.close()
        raise


def _open(interface: str, buffer: int) -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)
        with contextlib.suppress(PermissionError):
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    except OSError:
        raw.close()
        raise
    return raw
