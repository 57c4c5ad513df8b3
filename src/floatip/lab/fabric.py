"""The provider's network behind the route servers: it sends a prefix where they do.

A provider's routers weigh what all route servers say. Here the first one that has a route decides, because the route
servers agree, and the verdicts say so if they do not.
"""

import subprocess
from threading import Lock

from floatip.core.addresses import Address
from floatip.lab.namespaces import Closes
from floatip.lab.network import NODES, ROUTE_SERVERS, ROUTER, Network
from floatip.lab.routes import RouteWatch

WAYS: dict[Address, str] = {node.ipv6: f"via inet6 {node.ipv6} dev {node.name}" for node in NODES}


class Fabric(Closes):
    """The router's route of one prefix follows the kernels of the route servers, whichever program fills them."""

    def __init__(self, network: Network, prefix: str) -> None:
        self._prefix = prefix
        self._next_hop: Address | None = None
        self._lock = Lock()
        with network.inside(ROUTER):
            # It reads one command a line: to start a program for each change would take as long as the change.
            self._ip = subprocess.Popen(["ip", "-force", "-batch", "-"], stdin=subprocess.PIPE, text=True)
        self.watches: dict[str, RouteWatch] = {}
        for server in ROUTE_SERVERS:
            self.watches[server.name] = RouteWatch(network, server.name, prefix, self._follow)
        self._follow()

    def close(self) -> None:
        for watch in self.watches.values():
            watch.close()
        self._ip.communicate()

    def _follow(self) -> None:
        with self._lock:
            hops = [watch.next_hop for watch in list(self.watches.values())]
            next_hop = next((hop for hop in hops if hop), None)
            if next_hop == self._next_hop:
                return
            self._next_hop = next_hop
            assert self._ip.stdin
            change = f"replace {self._prefix} {WAYS[next_hop]}" if next_hop else f"del {self._prefix}"
            self._ip.stdin.write(f"route {change}\n")
            self._ip.stdin.flush()
