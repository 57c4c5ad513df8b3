"""A shared layer 2: both nodes and the observer on one bridge, as in a VLAN. The address is where the master is.

The bridge stands in the router's place, a port has the name of its host, and nothing runs on the route servers.
"""

import struct

from floatip.core.addresses import Address
from floatip.lab.network import NODES, OBSERVER, ROUTER, Network, write_sysctls
from floatip.lab.routes import RouteWatch, ip_shows
from floatip.rtnetlink import attributes

MACS = {host.name: f"02:00:00:00:02:{number:02x}" for number, host in enumerate((*NODES, OBSERVER), 1)}
NEIGHBOUR = struct.Struct("=BxxxiHBB")
NDA_DST, NDA_LLADDR = 1, 2


class SharedLayer2(Network):
    filtered_as = "bridge"

    def _build(self) -> None:
        self.ip(ROUTER, ["link add bridge type bridge", "link set bridge up"])
        for host in (*NODES, OBSERVER):
            peer = self._peer(host.name, MACS[host.name])
            port = [f"link add {host.name} type veth peer {peer}", f"link set {host.name} master bridge up"]
            self.ip(ROUTER, port)
            if host == OBSERVER and self._delay:
                self._lay_cable(MACS[host.name])
            with self.inside(host.name):
                write_sysctls(router=False)
            self.ip(host.name, ["link set lo up", "link set eth0 up", f"address add {host.ipv4} dev eth0"])


class NeighbourWatch(RouteWatch):
    """Which node the observer sends to: the neighbour entry of a /32."""

    _groups = 0x4
    """RTMGRP_NEIGH."""

    def __init__(self, network: Network, prefix: str) -> None:
        self._nodes = {MACS[node.name]: node.ipv6 for node in NODES}
        super().__init__(network, OBSERVER.name, prefix)

    def _shown(self) -> Address | None:
        entries = ip_shows("neigh", "show", "to", str(self._prefix))
        return next((self._nodes.get(entry.get("lladdr", "")) for entry in entries), None)

    def _said(self, kind: int, body: memoryview) -> list[Address | None]:
        """A failed entry has no MAC: then it leads where it led."""
        found = attributes(body, NEIGHBOUR.size)
        mac = bytes(found.get(NDA_LLADDR, b"")).hex(":")
        is_ours = bytes(found.get(NDA_DST, b"")) == self._prefix.network_address.packed
        return [self._nodes[mac]] if is_ours and mac in self._nodes else []
