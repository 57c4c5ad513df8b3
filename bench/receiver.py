"""A route server that only listens, and says when which message came.

It takes one session and notes the bytes with the time of their arrival; it reads them when asked, so that no stamp
waits for a parser. The session is established when the benchmark says so: several at the same instant if need be.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from math import inf

from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import Message, parse, split
from floatip.lab.namespaces import Closes, LabError
from floatip.lab.network import LabHost, Network, router_id
from floatip.lab.speaker import KEEPALIVE, Peering, PeeringState, Speaker

ASN = 65000
HOLD_TIME = 300
"""So long that one KEEPALIVE from us is enough."""
QUIET = 0.3
TIMEOUT = 60.0

Part = Callable[[Update], tuple[Prefix, ...]]


class Receiver(Closes):
    def __init__(self, network: Network, host: LabHost, asn: int = ASN) -> None:
        with network.inside(host.name):
            self._listener = socket.create_server(("::", 179), family=socket.AF_INET6)
        self._speaker = Speaker(asn, IPv4Address(router_id(host.name)), HOLD_TIME)
        self._peering = Peering(self._speaker, hold_at=inf)
        self._name = host.name
        self._opened = threading.Event()
        self._arrivals: list[tuple[float, bytes]] = []
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name=host.name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        for each in filter(None, (self._listener, self._connection)):
            with suppress(OSError):  # the peer may have gone
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def send(self, data: bytes) -> None:
        assert self._connection, f"nobody has dialled {self._name}"
        self._connection.sendall(data)

    def wait_for_open(self) -> None:
        """Until our KEEPALIVE is all that the peer still waits for."""
        if not self._opened.wait(TIMEOUT):
            raise LabError(f"nobody opened a session with {self._name}", "see the log of the one that should have")

    def messages(self, after: float = 0.0) -> Iterator[tuple[float, Message]]:
        buffer = bytearray()
        for at, data in list(self._arrivals):
            buffer += data
            yield from ((at, parse(message)) for message in split(buffer) if at >= after)

    def updates(self, after: float = 0.0) -> list[tuple[float, Update]]:
        return [(at, message) for at, message in self.messages(after) if isinstance(message, Update)]

    @property
    def quiet_since(self) -> float:
        """When the last bytes came, KEEPALIVEs aside."""
        return next((at for at, data in reversed(self._arrivals) if data != KEEPALIVE), 0.0)

    def _serve(self) -> None:
        with suppress(OSError):  # closed, here or there
            self._connection, _ = self._listener.accept()
            with self._connection:
                self._listen(self._connection)

    def _listen(self, connection: socket.socket) -> None:
        connection.sendall(self._speaker.open())
        while data := connection.recv(1 << 18):
            self._arrivals.append((time.monotonic(), data))
            if not self._opened.is_set():
                self._peering.received(data, time.monotonic())  # what it answers is sent by `establish`
                if self._peering.state is PeeringState.ESTABLISHED:
                    self._opened.set()


def establish(receivers: Iterable[Receiver]) -> float:
    """All sessions at once; the instant before."""
    waiting = list(receivers)
    for receiver in waiting:
        receiver.wait_for_open()
    at = time.monotonic()
    for receiver in waiting:
        receiver.send(KEEPALIVE)
    return at


def all_told_at(receivers: Sequence[Receiver], prefixes: Iterable[Prefix], after: float) -> float:
    """When the last receiver had the last of the prefixes."""
    return _complete_at(receivers, prefixes, lambda update: update.announced, after)


def all_withdrawn_at(receivers: Sequence[Receiver], prefixes: Iterable[Prefix], after: float) -> float:
    return _complete_at(receivers, prefixes, lambda update: update.withdrawn, after)


def _complete_at(receivers: Sequence[Receiver], prefixes: Iterable[Prefix], part: Part, after: float) -> float:
    wanted, deadline = frozenset(prefixes), time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        time.sleep(QUIET)
        if time.monotonic() < max(receiver.quiet_since for receiver in receivers) + QUIET:
            continue  # our reading takes time from those who write
        times = [at for receiver in receivers if (at := _last_at(receiver, wanted, part, after))]
        if len(times) == len(receivers):
            return max(times)
    raise LabError(f"{len(wanted)} prefixes did not all come", "see the log of the one that should send them")


def _last_at(receiver: Receiver, prefixes: frozenset[Prefix], part: Part, after: float) -> float | None:
    missing = set(prefixes)
    for at, update in receiver.updates(after):
        missing.difference_update(part(update))
        if not missing:
            return at
    return None
