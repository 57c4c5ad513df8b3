"""VRRP packets: two raw sockets for each interface and IP version, for what arrives and for what is sent.

Nothing is judged here: every packet of protocol 112 that the kernel's filter lets through becomes an `AdvertReceived`.
`drain` empties the sockets, so that a timer is believed only after everything that has arrived in time was heard.
Packets of strangers come by a second socket, and only so many a second: a flood of them costs nothing. What this node
sends to a multicast group does not come back to it.
"""

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from floatip.core.addresses import Address
from floatip.core.events import AdvertReceived, Event, LinkChanged, SendAdvert
from floatip.core.state import SocketView
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network import packet_filter
from floatip.host.network.packet_filter import Known
from floatip.host.network.slices import Slice
from floatip.host.network.vrrp_sockets import FAMILIES, Ancillary, Family

MOST_AT_ONCE = 512
STRANGERS_A_SECOND = 50
RECEIVE_BUFFER = 4 << 20
SIOCGIFINDEX = 0x8933
OPEN_AGAIN_INTERVAL = 1.0
PATIENCE, MOST_PATIENCE = 5.0, 800.0
"""Seconds for which a destination fails, at least and at most; in between, three times the time between two tries. A
backup sends no more, so nobody would know."""

Place = tuple[str, int]
"""An interface, and the version of IP."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What is to be heard in one place."""

    groups: frozenset[Address] = frozenset()
    """Of multicast."""
    known: Known | None = None
    """What is for us; None: every packet."""


@dataclass(slots=True)
class _Way:
    """From one source to one destination, made once and used for each advert."""

    what: str
    tried_at: float
    fails: bool = False
    index: int = 0
    """Of the interface for which the rest was made."""
    ancillary: Ancillary = field(default_factory=list)
    to: tuple[str, int] | tuple[str, int, int, int] = ("", 0)


@dataclass(slots=True)
class _Link:
    """The sockets of an interface, over one version of IP."""

    family: Family
    index: int
    adverts: socket.socket
    strangers: socket.socket
    groups: set[Address] = field(default_factory=set)
    """Those that it has joined."""
    is_filtered: bool = False


class Adverts:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._links: dict[Place, _Link] = {}
        self._wanted: Mapping[Place, Listening] = {}
        self._down: set[str] = set()
        """Interfaces on which VRRP cannot work now: that no advert leaves there is no failure of its own."""
        self._ways: dict[tuple[str, int, int, int], _Way] = {}
        self._opening = Failures("VRRP sockets", report)
        self._sending = Failures("adverts", report)
        self._again: asyncio.TimerHandle | None = None

    def configure(self, wanted: Mapping[Place, Listening]) -> None:
        self._wanted = wanted
        interfaces = {interface for interface, _ in wanted}
        self._down &= interfaces
        self._ways = {key: way for key, way in self._ways.items() if way.fails and key[0] in interfaces}
        self._sending.keep(way.what for way in self._ways.values())
        self.refresh()

    def link(self, change: LinkChanged) -> None:
        if not change.up:
            self._down.add(change.interface)
            for way in [way for (interface, *_), way in self._ways.items() if interface == change.interface]:
                self._works(way)
        elif change.interface in self._down:
            self._down.discard(change.interface)
            for (interface, _), link in self._links.items():
                if interface == change.interface:
                    _leave_all(link)  # the kernel may have forgotten them: IPv6 was disabled, or the MTU too small
        self.refresh()

    def refresh(self) -> None:
        """Open what can be opened now; the socket of an interface that was created again is deaf, by its old index."""
        if self._again:
            self._again.cancel()
            self._again = None
        # Not yet: who has just stopped being a virtual router there says so now.
        self._loop.call_soon(self._close_the_others)
        for place in self._wanted:
            self._open(place)
        self._opening.keep(_vrrp_on(place) for place in self._wanted)

    def drain(self) -> None:
        for (interface, _), link in list(self._links.items()):
            for _ in range(MOST_AT_ONCE):
                if not self._hear(interface, link.family, link.adverts):
                    break

    def send(self, advert: SendAdvert) -> None:
        key = advert.interface, int(advert.source), int(advert.destination), advert.ttl
        now = self._loop.time()
        if (way := self._ways.get(key)) is None:
            way = self._ways[key] = _Way(f"advert to {advert.destination} on {advert.interface}", now)
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
                _vrrp_on(place), link.family.dscp(link.adverts), "known nodes" if link.is_filtered else "everything"
            )
            for place, link in self._links.items()
        ]

    def close(self) -> None:
        self.configure({})
        self._close_the_others()
        if self._again:
            self._again.cancel()

    def _try(self, advert: SendAdvert, way: _Way) -> str:
        """Why it failed, or nothing."""
        place = advert.interface, advert.source.version
        link = self._links.get(place)
        if link is None:
            return f"{advert.interface} does not exist"
        if way.index != link.index:
            way.ancillary, way.to = link.family.way(advert.source, advert.destination, advert.ttl, link.index)
            way.index = link.index
        try:
            link.adverts.sendmsg([advert.data], way.ancillary, 0, way.to)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                self._open(place)
            return in_words(error.errno)
        return ""

    # Sockets

    def _open(self, place: Place) -> None:
        """Unless it is open, and the same interface as before; as it is configured now."""
        interface, version = place
        try:
            index = _index(interface)
            link = self._links.get(place)
            if link is None or link.index != index:
                self._close(place)
                link = self._links[place] = _link(interface, FAMILIES[version], index)
                self._loop.add_reader(link.adverts, self._read, place)
                self._loop.add_reader(link.strangers, self._look, place, link.strangers)
            self._fit(place, link)
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._close(place)  # the kernel's part tells that it is not there, or has no IPv6
            else:
                self._opening.set(_vrrp_on(place), in_words(error.errno))
                if not self._again:
                    self._again = self._loop.call_later(OPEN_AGAIN_INTERVAL, self.refresh)
                return
        self._opening.clear(_vrrp_on(place))

    def _fit(self, place: Place, link: _Link) -> None:
        """Raises OSError."""
        if (wanted := self._wanted.get(place)) is None:
            return  # it is about to be closed
        for group in wanted.groups - link.groups:
            link.family.join(link.adverts, group, link.index)
            link.groups.add(group)
        for group in link.groups - wanted.groups:
            link.groups.discard(group)
            link.family.leave(link.adverts, group, link.index)
        version = link.family.version
        packet_filter.attach(link.adverts, packet_filter.program(wanted.known, version=version))
        packet_filter.attach(link.strangers, packet_filter.program(wanted.known, strangers=True, version=version))
        link.is_filtered = wanted.known is not None

    def _close_the_others(self) -> None:
        for place in self._links.keys() - self._wanted.keys():
            self._close(place)

    def _close(self, place: Place) -> None:
        if link := self._links.pop(place, None):
            for one in (link.adverts, link.strangers):
                self._loop.remove_reader(one)
                one.close()

    # What arrives

    def _read(self, place: Place) -> None:
        """For one slice: the loop asks again."""
        part, link = Slice(), self._links[place]
        while self._hear(place[0], link.family, link.adverts) and not part.is_over:
            pass

    def _look(self, place: Place, strangers: socket.socket) -> None:
        number, family = 0, FAMILIES[place[1]]
        while number < STRANGERS_A_SECOND and self._hear(place[0], family, strangers):
            number += 1
        # A flood that comes one by one must not wake the loop either. What the socket cannot keep, the kernel drops.
        self._loop.remove_reader(strangers)
        self._loop.call_later(number / STRANGERS_A_SECOND, self._look_again, place, strangers)

    def _look_again(self, place: Place, strangers: socket.socket) -> None:
        link = self._links.get(place)
        if link and link.strangers is strangers:
            self._loop.add_reader(strangers, self._look, place, strangers)

    def _hear(self, interface: str, family: Family, receiver: socket.socket) -> bool:
        """Whether there was a packet."""
        try:
            packet = family.receive(receiver)
        except OSError:
            return False
        self._report(AdvertReceived(interface, *packet))
        return True


def _index(interface: str) -> int:
    """Raises OSError. (`socket.if_nametoindex` does not say why.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sI20x", interface.encode(), 0)
        return int(struct.unpack("16sI20x", fcntl.ioctl(any_socket, SIOCGIFINDEX, request))[1])


def _vrrp_on(place: Place) -> str:
    interface, version = place
    return f"VRRP on {interface}" if version == 4 else f"VRRP over IPv6 on {interface}"


def _link(interface: str, family: Family, index: int) -> _Link:
    adverts = family.open(interface, RECEIVE_BUFFER)
    try:
        return _Link(family, index, adverts, family.open(interface, RECEIVE_BUFFER >> 6))
    except OSError:
        adverts.close()
        raise


def _leave_all(link: _Link) -> None:
    for group in link.groups:
        with contextlib.suppress(OSError):
            link.family.leave(link.adverts, group, link.index)
    link.groups.clear()
