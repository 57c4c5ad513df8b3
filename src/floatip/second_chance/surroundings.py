"""The devices and routes of this machine, as far as packets of connections come and answers leave by them."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any, Self

from floatip.core.addresses import Address
from floatip.rtnetlink import (
    GETADDR,
    GETLINK,
    IFF_UP,
    IFLA_IFNAME,
    LINK,
    NEWLINK,
    U32,
    AddressMessage,
    Interrupted,
    Netlink,
    attributes,
)
from floatip.second_chance.cannot import Cannot
from floatip.virtuals import MAIN, Network

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
GROUPS = 0x01 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, and of both families RTMGRP_..._IFADDR and RTMGRP_..._ROUTE."""
IFF_LOOPBACK = 8
IFLA_MASTER, IFLA_LINKINFO, INFO_SLAVE_KIND = 10, 18, 4
SHARED = frozenset({b"bridge", b"bond", b"team"})
"""What a packet on a port of these arrives at, once more, as its own packet."""
ROUTE = 12
"""Octets of struct rtmsg."""
UNICAST, CLONED, DEAD, LINK_DOWN = 1, 0x200, 1, 16
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 7, 9, 15, 18
UNFIT = 0x01 | 0x08 | 0x20 | 0x40
"""IFA_F_SECONDARY (of IPv6: TEMPORARY), DADFAILED, DEPRECATED, TENTATIVE."""
MOST_ROUTES = 10_000
ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Route:
    destination: Network
    device: int
    """Its index."""
    gateway: Address | None
    """None: the destination is a neighbour."""


@dataclass(frozen=True, slots=True)
class Seen:
    uplinks: frozenset[str]
    """Devices that are up and have an address, without loopback, the tunnel, and ports of bridges and bonds."""
    routes: frozenset[Route]
    """Of the main table, the best one for each destination. Of several next hops the first."""
    own: tuple[Address, ...] = ()
    """Addresses of this machine on the way that packets of clients take: on the devices of the default routes. The one
    by which this machine itself speaks comes first."""

    def way_out(self, version: int) -> Route | None:
        """The default route."""
        routes = (one for one in self.routes if one.destination.version == version)
        return next((one for one in routes if not one.destination.prefixlen), None)


class Surroundings:
    def __init__(self, tunnel: int) -> None:
        self._tunnel = tunnel
        self._sources: dict[int, Address | None] = {}
        """What the default routes say that packets leave with, by version."""
        self._monitor = Netlink(GROUPS)
        try:
            self._reader = Netlink()
        except OSError:
            self._monitor.close()
            raise

    @classmethod
    def open(cls, tunnel: int) -> Self:
        """`tunnel`: the index of the device that is ours. Raises Cannot."""
        try:
            return cls(tunnel)
        except OSError as error:
            raise _cannot(error) from error

    def fileno(self) -> int:
        """Readable when a device, an address or a route has changed: then call `read`."""
        return self._monitor.socket.fileno()

    def read(self) -> Seen:
        """What there is now; also takes all notifications off the socket. Raises Cannot."""
        self._discard()
        try:
            for _ in range(ATTEMPTS):
                with contextlib.suppress(Interrupted):
                    self._sources = {}
                    addresses = [one for one in self._reader.read(GETADDR) if isinstance(one, AddressMessage)]
                    seen = Seen(self._uplinks({one.index for one in addresses}), frozenset(self._routes()))
                    return replace(seen, own=tuple(self._own(seen, addresses)))
            raise OSError(errno.EAGAIN, "")
        except OSError as error:
            raise _cannot(error) from error

    def _discard(self) -> None:
        # What is lost is in the tables.
        while True:
            try:
                self._monitor.socket.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise _cannot(error) from error

    def _uplinks(self, addressed: set[int]) -> frozenset[str]:
        """`addressed`: the devices that have an address."""
        named = {}
        for kind, body in self._reader.dump(GETLINK, LINK.pack(0, 0, 0, 0, 0)):
            _, _, index, flags, _ = LINK.unpack_from(body)
            if kind != NEWLINK or index == self._tunnel or not flags & IFF_UP or flags & IFF_LOOPBACK:
                continue
            has = attributes(body, LINK.size)
            info = attributes(has.get(IFLA_LINKINFO, memoryview(b"")), 0)
            if IFLA_MASTER in has and bytes(info.get(INFO_SLAVE_KIND, b"")).rstrip(b"\0") in SHARED:
                continue
            named[index] = bytes(has[IFLA_IFNAME]).rstrip(b"\0").decode(errors="replace")
        return frozenset(name for index, name in named.items() if index in addressed)

    def _own(self, seen: Seen, addresses: Iterable[AddressMessage]) -> Iterator[Address]:
        for version, size in ((4, 4), (6, 16)):
            if not (way := seen.way_out(version)):
                continue
            there = [
                (int(not _is_near(one, way.gateway)), ip_address(one.packed))
                for one in addresses
                if one.index == way.device and len(one.packed) == size and not one.flags & UNFIT
            ]
            source = self._sources.get(version)
            yield from [source] if source else []
            usable = [(far, one) for far, one in there if not one.is_link_local and one != source]
            yield from (one for _, one in sorted(usable, key=lambda each: each[0]))

    def _routes(self) -> Iterator[Route]:
        best: dict[Network, tuple[int, Route]] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            head = bytes([family]) + bytes(ROUTE - 1)
            for kind, body in self._reader.dump(RTM_GETROUTE, head):
                if kind != RTM_NEWROUTE or body[0] != family or not (found := self._route(family, body)):
                    continue
                metric, route = found
                if route.destination not in best or metric < best[route.destination][0]:
                    best[route.destination] = metric, route
                    if not route.destination.prefixlen:
                        source = attributes(body, ROUTE).get(RTA_PREFSRC)
                        self._sources[route.destination.version] = ip_address(bytes(source)) if source else None
            if len(best) > MOST_ROUTES:
                raise Cannot(
                    f"the main routing table has more than {MOST_ROUTES} routes",
                    "the second chance needs a machine with few routes: keep the routes of BGP in a table of their own",
                )
        yield from (route for _, route in best.values())

    def _route(self, family: int, body: memoryview) -> tuple[int, Route] | None:
        has = attributes(body, ROUTE)
        flags = U32.unpack(body[8:12])[0]
        table = U32.unpack(has[RTA_TABLE])[0] if RTA_TABLE in has else body[4]
        if table != MAIN or body[7] != UNICAST or flags & (CLONED | DEAD | LINK_DOWN):
            return None
        hop: Any = has
        if RTA_MULTIPATH in has:
            # struct rtnexthop: length, flags, weight, device; then attributes.
            hops = has[RTA_MULTIPATH]
            length = int.from_bytes(hops[:2], "little") if U32.pack(1)[0] else int.from_bytes(hops[:2], "big")
            device, hop = U32.unpack(hops[4:8])[0], attributes(hops[:length], 8)
        elif RTA_OIF in has:
            device = U32.unpack(has[RTA_OIF])[0]
        else:
            return None
        if RTA_VIA in hop or device == self._tunnel:
            return None  # an IPv4 route by an IPv6 router: the rules cannot name that neighbour
        destination = bytes(has.get(RTA_DST, bytes(4 if family == socket.AF_INET else 16)))
        network = ip_network((destination, body[1]))
        if network.is_link_local:
            return None  # no client comes from there
        gateway = ip_address(bytes(hop[RTA_GATEWAY])) if RTA_GATEWAY in hop else None
        metric = U32.unpack(has[RTA_PRIORITY])[0] if RTA_PRIORITY in has else 0
        return metric, Route(network, device, gateway)

    def close(self) -> None:
        self._monitor.close()
        self._reader.close()


def _is_near(own: AddressMessage, gateway: Address | None) -> bool:
    """Whether the gateway is in its network: then packets to the gateway leave with this address."""
    if gateway is None or len(gateway.packed) != len(own.packed):
        return False
    return gateway in ip_network((own.packed, own.prefixlen), strict=False)


def _cannot(error: OSError) -> Cannot:
    code = error.errno or errno.EIO
    return Cannot(
        f"cannot read devices and routes: {os.strerror(code).lower()}", "see what the kernel says: journalctl -k"
    )
