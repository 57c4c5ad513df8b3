"""`python -m floatip.lab.route_server_process ROUTER-ID HOLD-TIME`: sockets, clock and kernel around `RouteServer`.

It decides nothing. Its best routes go into the main table of its namespace; `floatip.lab.fabric` reads them there.
"""

import selectors
import signal
import socket
import sys
import time
from ipaddress import IPv4Address, ip_address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from floatip.lab.route_server import BestChanged, Drop, Output, RouteServer, Send

PORT = 179
ASN = 65000
CLIENT_ASN = 65001
RTPROT_BGP = 186
LONGEST_WAIT = 3600.0


class Server:
    """Connections are numbered by their descriptors."""

    def __init__(self, machine: RouteServer, ip: IPRoute) -> None:
        self._machine = machine
        self._ip = ip
        (self._eth0,) = ip.link_lookup(ifname="eth0")
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("::", PORT), family=socket.AF_INET6)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._clients: dict[int, socket.socket] = {}

    def serve(self) -> None:
        while True:
            wait = min(self._machine.deadline - time.monotonic(), LONGEST_WAIT)
            for key, _ in self._selector.select(max(0.0, wait)):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._receive(key.fd)
            self._perform(self._machine.tick(time.monotonic()))

    def _accept(self) -> None:
        client, peer = self._listener.accept()
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ)
        self._clients[client.fileno()] = client
        self._perform(self._machine.accepted(client.fileno(), ip_address(peer[0]), time.monotonic()))

    def _receive(self, connection: int) -> None:
        if connection not in self._clients:  # dropped in this turn
            return
        try:
            data = self._clients[connection].recv(1 << 16)
        except OSError:
            data = b""
        if data:
            self._perform(self._machine.received(connection, data, time.monotonic()))
        else:
            self._close(connection)
            self._perform(self._machine.closed(connection, time.monotonic()))

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(connection, data):
                    self._send(connection, data)
                case Drop(connection, reason):
                    _log(f"connection {connection} dropped: {reason}")
                    self._close(connection)
                case BestChanged(prefix, route):
                    _log(f"{prefix} " + (f"by {route.peer}: {route.attributes}" if route else "has no route"))
                    self._install(output)

    def _send(self, connection: int, data: bytes) -> None:
        try:
            self._clients[connection].sendall(data)
        except OSError as error:  # reading, or the hold timer, ends it
            _log(f"connection {connection}: {error}")

    def _close(self, connection: int) -> None:
        client = self._clients.pop(connection)
        self._selector.unregister(client)
        client.close()

    def _install(self, change: BestChanged) -> None:
        try:
            if change.route is None:
                self._ip.route("del", dst=str(change.prefix), proto=RTPROT_BGP)
                return
            next_hop = change.route.attributes.next_hop
            way = {"family": socket.AF_INET6, "addr": str(next_hop)}
            by_ipv6 = change.prefix.version == 4 and next_hop.version == 6
            gateway = {"via": way} if by_ipv6 else {"gateway": str(next_hop)}
            self._ip.route("replace", dst=str(change.prefix), proto=RTPROT_BGP, oif=self._eth0, **gateway)
        except NetlinkError as error:
            _log(f"{change.prefix} not installed: {error}")


def _log(line: str) -> None:
    print(f"{time.monotonic():.3f} {line}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with IPRoute() as kernel:
        kernel.flush_routes(proto=RTPROT_BGP)  # a predecessor that was killed left its routes
        try:
            Server(
                RouteServer(ASN, IPv4Address(sys.argv[1]), int(sys.argv[2]), frozenset({CLIENT_ASN})), kernel
            ).serve()
        finally:
            kernel.flush_routes(proto=RTPROT_BGP)
