"""The lab's own route server: `python -m floatip.lab.route_server_process ROUTER-ID HOLD-TIME`.

It learns routes from its clients and announces none. The best go into the main table of its namespace, where
`floatip.lab.fabric` reads them. The routes of a silent client stay until the hold time ends.
"""

import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from math import inf

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import Capabilities, Keepalive, Open, pack, parse, split
from floatip.core.malformed import Malformed
from floatip.lab.best_path import BestChanged, Routes

PORT = 179
ASN = 65000
CLIENT_ASN = 65001
RTPROT_BGP = 186
OPEN_TIMEOUT = 240.0  # RFC 4271 section 8.2.2
LONGEST_WAIT = 3600.0
CAPABILITIES = Capabilities(
    families=frozenset({IPV4_UNICAST, IPV6_UNICAST}),
    extended_next_hop=frozenset({(1, 1, 2)}),
    route_refresh=True,
    four_octet_asn=True,
)


class SessionEnded(Exception):
    """`notification`: what to tell the client; None if it ended the session itself."""

    def __init__(self, reason: str, notification: Notification | None = None) -> None:
        super().__init__(reason)
        self.notification = notification


class Client:
    """A session (RFC 4271) from the client's connection on. `open`, `read` and `tick` raise SessionEnded."""

    def __init__(self, connection: socket.socket, peer: Address, ours: Open) -> None:
        self.connection = connection
        self.peer = peer
        self._ours = ours
        self._theirs: Open | None = None
        self._buffer = bytearray()
        self._hold_time = 0
        self._hold_at = time.monotonic() + OPEN_TIMEOUT
        self._keepalive_at = inf

    @property
    def deadline(self) -> float:
        return min(self._hold_at, self._keepalive_at)

    def open(self) -> list[Update]:
        self.send(pack(self._ours))
        return []

    def read(self) -> list[Update]:
        try:
            data = self.connection.recv(1 << 16)
        except OSError as error:
            raise SessionEnded(str(error)) from error
        if not data:
            raise SessionEnded("closed by the client")
        self._buffer += data
        try:
            return [update for each in split(self._buffer) for update in self._take(each)]
        except Malformed as error:
            raise SessionEnded(error.what, Notification(error.code, error.subcode, error.data)) from error

    def tick(self) -> list[Update]:
        now = time.monotonic()
        if now >= self._hold_at:
            raise SessionEnded("hold timer expired", Notification(4, 0))
        if now >= self._keepalive_at:
            self._send_keepalive()
        return []

    def _take(self, data: bytes) -> list[Update]:
        four_octet_asn = self._theirs is None or self._theirs.capabilities.four_octet_asn
        message = parse(data, four_octet_asn=four_octet_asn)
        if self._hold_time:
            self._hold_at = time.monotonic() + self._hold_time
        match message:
            case Notification():
                raise SessionEnded(explain(message))
            case Open() if self._theirs is None:
                self._opened(message)
            case Update() if self._theirs is not None:
                return [message]
            case _ if self._theirs is None or isinstance(message, Open):
                raise SessionEnded(f"unexpected {type(message).__name__}", Notification(5, 0))
        return []

    def _opened(self, theirs: Open) -> None:
        if theirs.asn != CLIENT_ASN:
            raise SessionEnded(f"AS {theirs.asn} is not a client", Notification(2, 2))
        self._theirs = theirs
        self._hold_time = min(self._ours.hold_time, theirs.hold_time)
        self._hold_at = time.monotonic() + (self._hold_time or inf)
        self._send_keepalive()

    def _send_keepalive(self) -> None:
        self._keepalive_at = time.monotonic() + (self._hold_time / 3 or inf)
        self.send(pack(Keepalive()))

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise SessionEnded(str(error)) from error


class Server:
    def __init__(self, router_id: IPv4Address, hold_time: int, ip: IPRoute) -> None:
        self._open = Open(ASN, hold_time, router_id, CAPABILITIES)
        self._ip = ip
        (self._eth0,) = ip.link_lookup(ifname="eth0")
        self._routes = Routes()
        self._clients: dict[Address, Client] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("::", PORT), family=socket.AF_INET6)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def serve(self) -> None:
        while True:
            deadline = min((client.deadline for client in self._clients.values()), default=inf)
            wait = min(deadline - time.monotonic(), LONGEST_WAIT)
            for key, _ in self._selector.select(max(0.0, wait)):
                if key.data is None:
                    self._accept()
                else:
                    self._attend(key.data, key.data.read)
            for client in list(self._clients.values()):
                self._attend(client, client.tick)

    def _accept(self) -> None:
        connection, (host, *_) = self._listener.accept()
        connection.setblocking(False)
        client = Client(connection, ip_address(host), self._open)
        if client.peer in self._clients:
            # A client that crashed and is back must wait for the end of its old session: BIRD does not look whether
            # the old one is dead, and refuses (RFC 4486 subcode 7).
            self._close(client, SessionEnded(f"{host} has a session already", Notification(6, 7)))
            return
        self._clients[client.peer] = client
        self._selector.register(connection, selectors.EVENT_READ, client)
        self._attend(client, client.open)

    def _attend(self, client: Client, act: Callable[[], list[Update]]) -> None:
        try:
            updates = act()
        except SessionEnded as end:
            del self._clients[client.peer]
            self._selector.unregister(client.connection)
            self._close(client, end)
            self._install(self._routes.forget(client.peer))
            return
        for update in updates:
            self._install(self._routes.update(client.peer, update, time.monotonic()))

    def _close(self, client: Client, end: SessionEnded) -> None:
        _log(f"session with {client.peer} ended: {end}")
        with client.connection, suppress(SessionEnded):
            if end.notification:
                client.send(pack(end.notification))

    def _install(self, changes: list[BestChanged]) -> None:
        for change in changes:
            route = change.route
            _log(f"{change.prefix} " + (f"by {route.peer}: {route.attributes}" if route else "has no route"))
            try:
                self._install_one(change)
            except NetlinkError as error:
                _log(f"{change.prefix} not installed: {error}")

    def _install_one(self, change: BestChanged) -> None:
        if change.route is None:
            self._ip.route("del", dst=str(change.prefix), proto=RTPROT_BGP)
            return
        next_hop = change.route.attributes.next_hop
        way = {"family": socket.AF_INET6, "addr": str(next_hop)}
        by_ipv6 = change.prefix.version == 4 and next_hop.version == 6
        gateway = {"via": way} if by_ipv6 else {"gateway": str(next_hop)}
        self._ip.route("replace", dst=str(change.prefix), proto=RTPROT_BGP, oif=self._eth0, **gateway)


def _log(line: str) -> None:
    print(f"{time.monotonic():.3f} {line}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with IPRoute() as kernel:
        kernel.flush_routes(proto=RTPROT_BGP)  # a predecessor that was killed left its routes
        try:
            Server(IPv4Address(sys.argv[1]), int(sys.argv[2]), kernel).serve()
        finally:
            kernel.flush_routes(proto=RTPROT_BGP)
