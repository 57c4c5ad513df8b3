"""The link between nodes: UDP datagrams from and to the own node's address and port.

Nothing is judged here: every datagram of a known node becomes a `DatagramReceived`, with the time at which the kernel
received it. `drain` empties the socket, so that a node is called silent only after all that it said was heard.
Datagrams of strangers come by a second socket, and only so many a second: a flood of them costs nothing.
"""

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_address

from floatip.core.addresses import Address
from floatip.core.events import DatagramReceived, Event, SendDatagram
from floatip.core.link.wire import LARGEST
from floatip.core.state import SocketView
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network import packet_filter
from floatip.host.network.slices import Slice

MOST_AT_ONCE = 512
STRANGERS_A_SECOND = 50
RECEIVE_BUFFER = 4 << 20
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
OPEN_AGAIN_INTERVAL = 1.0
CLOCK_TOLERANCE = 0.01
"""Seconds by which the time of day may go astray between two datagrams before it is called set."""
DSCP_CS6 = 0xC0
OF_VERSION = {
    4: (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TOS),
    6: (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
}
"""Family, and level and option of the traffic class."""
OPENING = "link socket"


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both are bound to the same address and port. A filter of the kernel shares out what arrives."""

    known: socket.socket
    strangers: socket.socket


class Link:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._own: Address | None = None
        self._port = 0
        self._known: dict[str, Address] = {}
        self._sockets: _Pair | None = None
        self._failing: dict[Address, str] = {}
        """Destinations, and what their failures are called."""
        self._failures = Failures("link", report)
        self._again: asyncio.TimerHandle | None = None
        self._clock = _Clock()
        self._buffer = bytearray(LARGEST + 1)
        """One octet more than a datagram may have: a longer one is cut by the kernel, and the core refuses it."""
        self._room = [self._buffer]
        self._view = memoryview(self._buffer)

    def configure(self, own: Address | None, port: int = 0, known: Collection[Address] = ()) -> None:
        """`known`: the other nodes, with addresses of the same IP version. Without an own one, the link is closed."""
        if (own, port) != (self._own, self._port):
            self._shut()
            self._own, self._port = own, port
            self._failing.clear()
        self._known = {str(address): address for address in known}
        self._failing = {to: what for to, what in self._failing.items() if to in known}
        self._failures.keep((OPENING, *self._failing.values()) if own else ())
        self._open()

    def send(self, datagram: SendDatagram) -> None:
        to = datagram.destination
        if not self._sockets or not self._own:
            return  # that it is not open is a failure already
        try:
            self._sockets.known.sendto(datagram.data, (str(to), self._port))
        except OSError as error:
            if str(to) in self._known:
                what = self._failing.setdefault(to, f"link to {to}")
                self._failures.set(what, in_words(error.errno), self._hint(error, to))
        else:
            if what := self._failing.pop(to, ""):
                self._failures.clear(what)

    def drain(self) -> None:
        if self._sockets:
            for _ in range(MOST_AT_ONCE):
                if not self._hear(self._sockets.known):
                    break

    def sockets(self) -> list[SocketView]:
        if not self._sockets or not self._own:
            return []
        _, level, traffic_class = OF_VERSION[self._own.version]
        dscp = self._sockets.known.getsockopt(level, traffic_class) >> 2
        return [SocketView(f"link at {self._own} port {self._port}", dscp, "known nodes")]

    def close(self) -> None:
        self.configure(None)

    def _hint(self, error: OSError, to: Address) -> str:
        if error.errno == errno.EPERM:
            return f"let UDP to port {self._port} out of this machine's firewall: nft list ruleset"
        return f"see which way it would go, and from which address: ip address; ip route get {to} from {self._own}"

    # Sockets

    def _open(self) -> None:
        """Unless it is open; with the nodes that are known now."""
        if self._again:
            self._again.cancel()
            self._again = None
        if not self._own:
            return
        try:
            if not self._sockets:
                self._sockets = _pair(self._own, self._port)
                self._loop.add_reader(self._sockets.known, self._read, self._sockets.known)
                self._loop.add_reader(self._sockets.strangers, self._look, self._sockets.strangers)
            packet_filter.share_out(self._sockets.known, self._known.values())
        except OSError as error:
            self._failures.set(OPENING, *self._why_closed(error))
            self._again = self._loop.call_later(OPEN_AGAIN_INTERVAL, self._open)
        else:
            self._failures.clear(OPENING)

    def _why_closed(self, error: OSError) -> tuple[str, str]:
        """And the next step."""
        if error.errno == errno.EADDRNOTAVAIL:
            hint = f"add {self._own} to its interface, or correct the address of this node in the configuration"
            return f"this machine does not have {self._own}", f"{hint}: ip address"
        if error.errno == errno.EADDRINUSE:
            reason = f"another program uses UDP port {self._port} of {self._own}"
            return reason, f"stop the program that has port {self._port}, or change the link's port: ss -lunp"
        reason = f"cannot use UDP port {self._port} of {self._own}: {in_words(error.errno)}"
        return reason, "see what the kernel says: ip address; journalctl -k"

    def _shut(self) -> None:
        if pair := self._sockets:
            self._sockets = None
            for one in (pair.known, pair.strangers):
                self._loop.remove_reader(one)
                one.close()

    # What arrives

    def _read(self, known: socket.socket) -> None:
        """For one slice: the loop asks again."""
        part = Slice()
        while self._hear(known) and not part.is_over:
            pass

    def _look(self, strangers: socket.socket) -> None:
        number = 0
        while number < STRANGERS_A_SECOND and self._hear(strangers):
            number += 1
        # A flood that comes one by one must not wake the loop either. What the socket cannot keep, the kernel drops.
        self._loop.remove_reader(strangers)
        self._loop.call_later(number / STRANGERS_A_SECOND, self._look_again, strangers)

    def _look_again(self, strangers: socket.socket) -> None:
        if self._sockets and self._sockets.strangers is strangers:
            self._loop.add_reader(strangers, self._look, strangers)

    def _hear(self, receiver: socket.socket) -> bool:
        """Whether there was a datagram."""
        try:
            length, ancillary, _, (host, *_) = receiver.recvmsg_into(self._room, socket.CMSG_SPACE(TIMESPEC.size))
        except OSError:
            return False
        at = self._clock.monotonic(ancillary)
        source = self._known.get(host) or ip_address(host)
        self._report(DatagramReceived(source, bytes(self._view[:length]), at))
        return True


class _Clock:
    """From the kernel's time of day to the loop's monotonic time."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()
        self._set_at = 0.0
        """Time of day at which the clock was seen to have been set: what is stamped before it means nothing."""

    def monotonic(self, ancillary: list[tuple[int, int, bytes]]) -> float:
        """When a datagram was received; now, if that cannot be known."""
        # In this order: if the process is suspended in between, the datagram seems younger, never older.
        wall, now = time.time(), time.monotonic()
        if abs(wall - now - self._ahead) > CLOCK_TOLERANCE:
            self._set_at = wall
        self._ahead = wall - now
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) == TIMESPEC.size:
                seconds, nanoseconds = TIMESPEC.unpack(data)
                stamp: float = seconds + nanoseconds / 1e9
                if self._set_at <= stamp <= wall:
                    return now - (wall - stamp)
        return now


def _pair(own: Address, port: int) -> _Pair:
    """Raises OSError."""
    # Sockets that share a port do not say that another pair has it.
    _bound(own, port, RECEIVE_BUFFER, shares=False).close()
    known = _bound(own, port, RECEIVE_BUFFER)
    try:
        return _Pair(known, _bound(own, port, RECEIVE_BUFFER >> 6))
    except OSError:
        known.close()
        raise


def _bound(own: Address, port: int, buffer: int, shares: bool = True) -> socket.socket:
    family, level, traffic_class = OF_VERSION[own.version]
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        udp.setsockopt(level, traffic_class, DSCP_CS6)
        with contextlib.suppress(PermissionError):
            udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        udp.bind((str(own), port))
    except OSError:
        udp.close()
        raise
    return udp
