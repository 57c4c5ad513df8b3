"""The provider's network behind the route servers: it sends a prefix where they do.

A provider's routers weigh what all route servers say. Here the first one that has a route decides, because the route
servers agree, and the verdicts say so if they do not.
"""

import socket
from threading import Lock

from pyroute2 import IPRoute

from floatip.core.events import Address
from floatip.lab.namespaces import Closes
from floatip.lab.network import NODES, ROUTE_SERVERS, ROUTER, Network
from floatip.lab.routes import RouteWatch


class Fabric(Closes):
    """The router's route of one prefix follows the kernels of the route servers, whichever program fills them."""

    def __init__(self, network: Network, prefix: str) -> None:
        self._network = network
        self._prefix = prefix
        self._next_hop: Address | None = None
        self._lock = Lock()
        self.watches: dict[str, RouteWatch] = {}
        for server in ROUTE_SERVERS:
            self.watches[server.name] = RouteWatch(network, server.name, prefix, self._follow)
        self._follow()

    def close(self) -> None:
        for watch in self.watches.values():
            watch.close()

    def _follow(self) -> None:
        with self._lock:
            hops = [watch.next_hop for watch in list(self.watches.values())]
            next_hop = next((hop for hop in hops if hop), None)
            if next_hop == self._next_hop:
                return
            with self._network.inside(ROUTER), IPRoute() as ip:
                if next_hop is None:
                    ip.route("del", dst=self._prefix)
                else:
                    (interface,) = (node.name for node in NODES if node.ipv6 == next_hop)
                    (index,) = ip.link_lookup(ifname=interface)
                    ip.route("replace", dst=self._prefix, oif=index, **_via(self._prefix, next_hop))
            self._next_hop = next_hop


def _via(prefix: str, next_hop: Address) -> dict[str, object]:
    if ":" in prefix:
        return {"gateway": str(next_hop)}
    return {"via": {"family": socket.AF_INET6, "addr": str(next_hop)}}
