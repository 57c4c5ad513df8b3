"""TCP to the route servers: dials, moves bytes, measures, closes so that a last message arrives. It knows no BGP.

At most one connection a peer is open; a connection that was closed lives on by itself until its last bytes have left.
Bytes that the kernel did not take are kept, and `Writable` is reported only when it has all of them.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass

from floatip.core.addresses import Address
from floatip.core.bgp.trouble import Trouble
from floatip.core.events import (
    BytesReceived,
    Close,
    Connected,
    Dial,
    Disconnected,
    Event,
    Measure,
    Measured,
    SendBytes,
    Writable,
)
from floatip.core.state import SocketView
from floatip.host.errors import in_words, trouble

BGP_PORT = 179
LINGER_TIMEOUT = 1.0
TCP_THIN_LINEAR_TIMEOUTS = 16
TCP_RTO_MAX_MS = 44
TCP_SYN_SENT = 2
TCP_MD5SIG = 14
IPV6_ADDR_PREFERENCES, IPV6_PREFER_SRC_PUBLIC = 72, 2
DSCP_CS6 = 0xC0
"""RFC 4271 appendix E."""
OF_VERSION = {
    4: (socket.IPPROTO_IP, socket.IP_TTL, 21, socket.IP_TOS),
    6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 73, socket.IPV6_TCLASS),
}
"""Level, and the options for TTL, least TTL (IP_MINTTL, IPV6_MINHOPCOUNT) and traffic class."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the connections are made."""

    source: Address | None = None
    ttl: int = 64
    interface: str = ""
    min_ttl: int = 0
    md5: str = ""
    floating: frozenset[Address] = frozenset()
    """They move: no connection may leave from one."""


class Peers:
    def __init__(self, report: Callable[[Event], None], port: int = BGP_PORT) -> None:
        self._report = report
        self._port = port
        self._options = Options()
        self._connections: dict[Address, _Connection] = {}

    def configure(self, options: Options) -> None:
        """For the connections that are dialled from now on."""
        self._options = options

    def dial(self, dial: Dial) -> None:
        self.close(Close(dial.peer))
        connection = _Connection(dial.peer, self._report, self._ended)
        self._connections[dial.peer] = connection
        connection.dial(self._port, self._options, dial.timeout)

    def send(self, effect: SendBytes) -> None:
        if connection := self._connections.get(effect.peer):
            connection.send(effect.data)

    def close(self, effect: Close) -> None:
        if connection := self._connections.pop(effect.peer, None):
            connection.finish()

    def measure(self, effect: Measure) -> None:
        connection = self._connections.get(effect.peer)
        self._report(Measured(effect.peer, connection is not None and connection.acknowledged()))

    def sockets(self) -> list[SocketView]:
        return [SocketView(f"BGP to {peer}", one.dscp, None) for peer, one in self._connections.items()]

    def close_all(self) -> None:
        for peer in list(self._connections):
            self.close(Close(peer))

    def _ended(self, connection: "_Connection", reason: str, trouble: Trouble) -> None:
        if self._connections.get(connection.peer) is connection:
            del self._connections[connection.peer]
            self._report(Disconnected(connection.peer, reason, trouble))


class _Connection:
    def __init__(
        self, peer: Address, report: Callable[[Event], None], ended: Callable[["_Connection", str, Trouble], None]
    ) -> None:
        self.peer = peer
        self._report = report
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket
        self._unsent = b""
        self._connected = False
        self._finishing = False
        self._timer: asyncio.TimerHandle | None = None

    def dial(self, port: int, options: Options, timeout: float) -> None:
        try:
            family = socket.AF_INET if self.peer.version == 4 else socket.AF_INET6
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            return self._ended(self, in_words(error.errno), trouble(error.errno))
        self._timer = self._loop.call_later(timeout, self._end, f"timed out after {timeout:g} s", Trouble.TIMED_OUT)
        try:
            self._set(options)
            if options.source and options.source.version == self.peer.version:
                self._socket.bind((str(options.source), 0))
            with contextlib.suppress(BlockingIOError):
                self._socket.connect((str(self.peer), port))
            local = self._local()
        except OSError as error:
            return self._end(in_words(error.errno), trouble(error.errno))
        if local in options.floating:
            return self._end(f"the kernel chose the floating address {local} as source", Trouble.FLOATING_SOURCE)
        self._loop.add_writer(self._socket, self._established)

    def send(self, data: bytes) -> None:
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._flush()

    def finish(self) -> None:
        """Say nothing more to the core; let the last bytes leave, and FIN rather than RST follow them."""
        self._finishing = True
        if not self._connected:
            return self._end("")
        self._timer = self._loop.call_later(LINGER_TIMEOUT, self._end, "")
        if not self._unsent:
            self._shut()

    @property
    def dscp(self) -> int:
        level, _, _, traffic_class = OF_VERSION[self.peer.version]
        return self._socket.getsockopt(level, traffic_class) >> 2

    def acknowledged(self) -> bool:
        """The state is the first octet of struct tcp_info; what is queued counts whether it has left or not."""
        try:
            state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            queued = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return state != TCP_SYN_SENT and not any(queued)

    def _set(self, options: Options) -> None:
        level, ttl, min_ttl, traffic_class = OF_VERSION[self.peer.version]
        self._socket.setsockopt(level, ttl, options.ttl)
        self._socket.setsockopt(level, min_ttl, options.min_ttl)
        if options.interface:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.interface.encode())
        if options.md5:
            self._socket.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, _md5_signature(self.peer, options.md5.encode()))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What not every kernel knows, and what is only better with it.
        wishes = [
            (level, traffic_class, DSCP_CS6),
            # After a cut the next try comes within a second, so that its end is seen soon.
            (socket.IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1),
            (socket.IPPROTO_TCP, TCP_RTO_MAX_MS, 1000),
        ]
        if self.peer.version == 6:
            # Not from a temporary address (RFC 8981): route servers know the permanent one.
            wishes.append((level, IPV6_ADDR_PREFERENCES, IPV6_PREFER_SRC_PUBLIC))
        for wish in wishes:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(*wish)

    def _local(self) -> Address:
        return type(self.peer)(self._socket.getsockname()[0])

    def _established(self) -> None:
        self._loop.remove_writer(self._socket)
        try:
            if error := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self._end(in_words(error), trouble(error))
            local = self._local()
        except OSError as error:
            return self._end(in_words(error.errno), trouble(error.errno))
        if self._timer:
            self._timer.cancel()
        self._connected = True
        self._loop.add_reader(self._socket, self._read)
        self._report(Connected(self.peer, local))

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            return self._end(in_words(error.errno), trouble(error.errno))
        if not data:
            self._end("closed by the peer")
        elif not self._finishing:
            self._report(BytesReceived(self.peer, data))

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            # What the peer said before it went is still to be read; reading tells of the end.
            self._loop.remove_writer(self._socket)
            return
        if self._unsent:
            self._loop.add_writer(self._socket, self._flush)
            return
        self._loop.remove_writer(self._socket)
        if self._finishing:
            self._shut()
        else:
            # Not at once: the loop has its turn between the parts of a long announcement.
            self._loop.call_soon(self._tell_writable)

    def _tell_writable(self) -> None:
        if not self._finishing and not self._unsent and self._socket.fileno() >= 0:
            self._report(Writable(self.peer))

    def _shut(self) -> None:
        # The peer's FIN ends it; until then what still arrives is read, since unread bytes turn a close into a RST.
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end("")

    def _end(self, reason: str, trouble: Trouble = Trouble.OTHER) -> None:
        if self._timer:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._ended(self, reason, trouble)


def _md5_signature(peer: Address, key: bytes) -> bytes:
    """struct tcp_md5sig of linux/tcp.h."""
    # A sockaddr_in has its address behind family and port, a sockaddr_in6 behind the flow label, too.
    gap = 2 if peer.version == 4 else 6
    family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
    address = struct.pack(f"=H{gap}x", family) + peer.packed
    return struct.pack("=128sBBHi80s", address, 0, 0, len(key), 0, key)
