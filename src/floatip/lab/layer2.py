"""A shared layer 2: both nodes and the observer on one bridge, as in a VLAN. The address is where the master is.

The bridge stands in the router's place, a port has the name of its host, and nothing runs on the route servers.
"""

from collections.abc import Iterable
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_NEIGH

from floatip.core.addresses import Address
from floatip.lab.network import NODES, OBSERVER, ROUTER, Network, add_address, index_of, write_sysctls
from floatip.lab.routes import RouteWatch

MACS = {host.name: f"02:00:00:00:02:{number:02x}" for number, host in enumerate((*NODES, OBSERVER), 1)}


class SharedLayer2(Network):
    filtered_as = "bridge"

    def _build(self) -> None:
        with self.inside(ROUTER), IPRoute() as ip:
            ip.link("add", kind="bridge", ifname="bridge")
            bridge = index_of(ip, "bridge")
            ip.link("set", index=bridge, state="up")
            for host, mac in MACS.items():
                peer = {"ifname": "eth0", "address": mac, "net_ns_fd": self._namespaces[host].fd}
                ip.link("add", kind="veth", ifname=host, peer=peer)
                ip.link("set", index=index_of(ip, host), master=bridge, state="up")
        for each in (*NODES, OBSERVER):
            with self.inside(each.name), IPRoute() as ip:
                write_sysctls(router=False)
                for interface in ("lo", "eth0"):
                    ip.link("set", index=index_of(ip, interface), state="up")
                add_address(ip, index_of(ip, "eth0"), str(each.ipv4))


class NeighbourWatch(RouteWatch):
    """Which node the observer sends to: the neighbour entry of a /32."""

    _groups = RTMGRP_NEIGH

    def __init__(self, network: Network, prefix: str) -> None:
        self._nodes = {MACS[node.name]: node.ipv6 for node in NODES}
        super().__init__(network, OBSERVER.name, prefix)

    def _now(self, ip: IPRoute) -> Iterable[Any]:
        return ip.get_neighbours()  # type: ignore[no-any-return]

    def _concerns(self, neighbour: Any) -> bool:
        """A failed entry has no MAC: then it leads where it led."""
        return (neighbour.get_attr("NDA_DST"), neighbour.get_attr("NDA_LLADDR") in self._nodes) == (self._prefix, True)

    def _next_hop(self, neighbour: Any) -> Address | None:
        return self._nodes[neighbour.get_attr("NDA_LLADDR")]
