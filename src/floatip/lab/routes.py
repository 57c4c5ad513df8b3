"""Routes in a host's main table: where the kernel sends a prefix, when that changed, and what it is told."""

import json
import select
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from threading import Event, Thread
from typing import Any

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Prefix
from floatip.lab.namespaces import Closes
from floatip.lab.network import Network
from floatip.rtnetlink import Netlink, attribute, attributes

NEWROUTE, DELROUTE, F_CREATE_REPLACE = 24, 25, 0x500
ROUTE = struct.Struct("=BBBBBBBBI")
RTA_DST, RTA_GATEWAY, RTA_VIA = 1, 5, 18
MAIN_TABLE, RTPROT_BGP, RTN_UNICAST, RT_SCOPE_UNIVERSE, RT_SCOPE_NOWHERE = 254, 186, 1, 0, 255


@dataclass(frozen=True, slots=True)
class RouteChange:
    """From `at` (monotonic) the prefix had this next hop; None: no route."""

    at: float
    next_hop: Address | None


class RouteWatch(Closes):
    """The next hop of a prefix in a host's main table, and all its changes; a thread listens to the kernel."""

    _groups = 0x40 | 0x400
    """RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE."""

    def __init__(self, network: Network, host: str, prefix: str) -> None:
        self._prefix = ip_network(prefix)
        self._closing = Event()
        with network.inside(host):
            self._netlink = Netlink(self._groups)
            self.changes = [RouteChange(time.monotonic(), self._shown())]
        self._thread = Thread(target=self._listen, name=f"routes of {host}", daemon=True)
        self._thread.start()

    @property
    def next_hop(self) -> Address | None:
        return self.changes[-1].next_hop

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._netlink.close()

    def _listen(self) -> None:
        while not self._closing.is_set():
            # netlink knows no shutdown() that would end a recv.
            if select.select([self._netlink.socket], [], [], 0.1)[0]:
                now = time.monotonic()
                for kind, _, _, body in self._netlink.datagram():
                    for next_hop in self._said(kind, body):
                        if next_hop != self.next_hop:
                            self.changes.append(RouteChange(now, next_hop))

    def _shown(self) -> Address | None:
        """The next hop now; in the host."""
        for route in ip_shows(f"-{self._prefix.version}", "route", "show", str(self._prefix)):
            hop = route["via"]["host"] if "via" in route else route.get("gateway")
            return ip_address(hop) if hop else None
        return None

    def _said(self, kind: int, body: memoryview) -> list[Address | None]:
        """By one message; empty: it is about something else."""
        found, wanted = attributes(body, ROUTE.size), self._prefix
        _, length, _, _, table, *_ = ROUTE.unpack_from(body)
        destination = bytes(found.get(RTA_DST, b""))
        if (destination, length, table) != (wanted.network_address.packed, wanted.prefixlen, MAIN_TABLE):
            return []
        gateway = found[RTA_VIA][2:] if RTA_VIA in found else found.get(RTA_GATEWAY)
        return [ip_address(bytes(gateway)) if gateway and kind == NEWROUTE else None]


def ip_shows(*what: str) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads(subprocess.check_output(["ip", "-json", *what]) or "[]")
    return shown


def request(prefix: Prefix, next_hop: Address | None) -> tuple[int, int, bytes]:
    """For `Netlink.request`: the one route of ours to the prefix; None: there is none."""
    family = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
    scope = RT_SCOPE_UNIVERSE if next_hop else RT_SCOPE_NOWHERE
    body = ROUTE.pack(family, prefix.prefixlen, 0, 0, MAIN_TABLE, RTPROT_BGP, scope, RTN_UNICAST, 0)
    body += attribute(RTA_DST, prefix.network_address.packed)
    if next_hop is None:
        return DELROUTE, 0, body
    if next_hop.version == prefix.version:
        return NEWROUTE, F_CREATE_REPLACE, body + attribute(RTA_GATEWAY, next_hop.packed)
    return NEWROUTE, F_CREATE_REPLACE, body + attribute(RTA_VIA, struct.pack("=H", socket.AF_INET6) + next_hop.packed)


def flush() -> None:
    """Removes what routing programs have told this kernel, which keeps the routes of one that is killed."""
    for family in ("-4", "-6"):
        for protocol in ("bird", "bgp"):
            subprocess.run(["ip", family, "route", "flush", "proto", protocol], check=True)
