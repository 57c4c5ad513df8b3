"""A TCP connection: one handshake, which is closed at once. Runs do not wait for each other."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

from floatip.host.checks.kind import Means, Report, Runner
from floatip.host.errors import in_words
from floatip.model import Tcp

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpRunner(Runner):
    def __init__(self, kind: Tcp, report: Report, means: Means) -> None:
        self._kind = kind
        self._report = report
        self._connects: set[_Connect] = set()

    def run(self, run: int, timeout: float) -> None:
        done = partial(self._report, run)
        address = ip_address("127.0.0.1" if self._kind.host == "localhost" else self._kind.host)
        try:
            connecting = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        except OSError as error:
            done(False, f"cannot open a socket for IPv{address.version}: {in_words(error.errno)}")
            return
        _Connect(connecting, (str(address), self._kind.port), timeout, done, self._connects)

    def close(self) -> None:
        for connect in list(self._connects):
            connect.close()


class _Connect:
    def __init__(
        self,
        connecting: socket.socket,
        address: tuple[str, int],
        timeout: float,
        done: Callable[[bool, str], None],
        all_of_them: "set[_Connect]",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = done
        self._socket = connecting
        self._socket.setblocking(False)
        self._all = all_of_them
        self._all.add(self)
        self._timer = self._loop.call_later(timeout, self._end, False, f"timed out after {timeout:g} s")
        self._conclude(self._socket.connect_ex(address))

    def close(self) -> None:
        self._all.discard(self)
        self._timer.cancel()
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _writable(self) -> None:
        self._conclude(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _conclude(self, error: int) -> None:
        if error == errno.EINPROGRESS:
            self._loop.add_writer(self._socket, self._writable)
        elif error:
            self._end(False, in_words(error))
        elif self._is_connected_to_itself():
            self._end(False, "connected to itself: nobody listens")
        else:
            self._end(True, "connected")

    def _is_connected_to_itself(self) -> bool:
        """TCP may choose the port that is dialled as its own, and then it answers itself (RFC 9293, 3.5)."""
        try:
            if self._socket.getsockname() != self._socket.getpeername():
                return False
        except OSError:
            return False  # the peer has closed already
        # No TIME_WAIT: the service could not listen on its port for a minute.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return True

    def _end(self, passed: bool, reason: str) -> None:
        self.close()
        self._done(passed, reason)
