"""Where the kernel of a host sends a prefix, and when that changed."""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Condition, Event, Thread
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
from pyroute2.netlink.rtnl.iprsocket import MarshalRtnl

from floatip.core.addresses import Address
from floatip.lab.namespaces import Closes
from floatip.lab.network import Network

MAIN_TABLE = 254


@dataclass(frozen=True, slots=True)
class RouteChange:
    """From `at` (monotonic) the prefix had this next hop; None: no route."""

    at: float
    next_hop: Address | None


class RouteWatch(Closes):
    """The next hop of a prefix in a host's main table, and all its changes; a thread listens to the kernel."""

    _groups = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE

    def __init__(self, network: Network, host: str, prefix: str) -> None:
        self._prefix, length = prefix.split("/")
        self._length = int(length)
        self._condition = Condition()
        self._closing = Event()
        with network.inside(host):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.bind((0, self._groups))
            self._socket.settimeout(0.1)  # netlink knows no shutdown() that would end the thread's recv
            with IPRoute() as ip:
                found = [route for route in self._now(ip) if self._concerns(route)]
        self.changes = [RouteChange(time.monotonic(), self._next_hop(found[0]) if found else None)]
        self._thread = Thread(target=self._listen, name=f"routes of {host}", daemon=True)
        self._thread.start()

    @property
    def next_hop(self) -> Address | None:
        return self.changes[-1].next_hop

    def wait_for(self, next_hop: Address | None, timeout: float) -> float | None:
        """Since when the prefix has had this next hop; None if it does not get it within `timeout` seconds."""
        with self._condition:
            arrived = self._condition.wait_for(lambda: self.next_hop == next_hop, timeout)
            return self.changes[-1].at if arrived else None

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        marshal = MarshalRtnl()
        while not self._closing.is_set():
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            for message in marshal.parse(data):
                if self._concerns(message):
                    self._changed(RouteChange(now, self._next_hop(message)))

    def _changed(self, change: RouteChange) -> None:
        with self._condition:
            if change.next_hop != self.next_hop:
                self.changes.append(change)
                self._condition.notify_all()

    def _now(self, ip: IPRoute) -> Iterable[Any]:
        return ip.get_routes(table=MAIN_TABLE)  # type: ignore[no-any-return]

    def _concerns(self, route: Any) -> bool:
        found = route.get_attr("RTA_DST"), route["dst_len"], route.get_attr("RTA_TABLE")
        return found == (self._prefix, self._length, MAIN_TABLE)

    def _next_hop(self, route: Any) -> Address | None:
        via = route.get_attr("RTA_VIA")
        gateway = via["addr"] if via else route.get_attr("RTA_GATEWAY")
        return ip_address(gateway) if gateway and route["event"] == "RTM_NEWROUTE" else None
