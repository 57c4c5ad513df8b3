"""Addresses and links, by netlink: reports what the kernel has, holds what the core wants, puts nothing in between.

What the kernel's own notifications say is the only truth; our own requests change nothing but the kernel. Addresses
that we added are remembered in the state file, written before they are added, and marked (IFA_PROTO) where the kernel
can do that: a successor adopts them, and an address that someone else added is used but never released.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any, Literal

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK

from floatip.core.events import Address, Event, Failed, Garp, Held, Hold, InterfaceAddress, LinkChanged, Placed
from floatip.host.disk import Memory
from floatip.host.errors import in_words
from floatip.host.garp import tell_neighbours

OURS = 0xF1
"""IFA_PROTO (Linux 5.18) of the addresses that we add."""
IFF_UP = 1
IFA_F_NODAD = 0x02
IFA_F_PERMANENT = 0x80
"""Not so: an address with a lifetime, from a router's advertisement (SLAAC) or from DHCP."""
IFA_F_UNUSABLE = 0x08 | 0x40
"""Duplicate address detection failed or is still going on."""
NO_CARRIER = {"DOWN", "LOWERLAYERDOWN", "NOTPRESENT"}
WRITE_TIMEOUT = 0.5
"""Seconds that an address waits for the disk at most, before it is added."""
GARP_DELAYS = (0.0, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    up: bool
    carrier: bool
    mac: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An address as the kernel reports it."""

    usable: bool
    permanent: bool
    proto: int | None


class Tables:
    """What the kernel has, kept by its messages."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: dict[tuple[int, InterfaceAddress], Entry] = {}
        self.changes = 0
        """How often something came, went or became another; a message may say what is known already."""

    def take(self, message: Any) -> set[Placed]:
        """Returns what has gone by it."""
        index = message["index"]
        match message["event"]:
            # Of family AF_BRIDGE these tell of a port that joins or leaves its bridge.
            case "RTM_NEWLINK" if message["family"] == socket.AF_UNSPEC:
                carrier = message.get("operstate") not in NO_CARRIER
                mac = bytes.fromhex((message.get("address") or "").replace(":", ""))
                link = Link(message.get("ifname"), bool(message["flags"] & IFF_UP), carrier, mac)
                self.changes += self.links.get(index) != link
                self.links[index] = link
            case "RTM_DELLINK" if message["family"] == socket.AF_UNSPEC:
                self.changes += 1
                self.links.pop(index, None)
            case "RTM_NEWADDR":
                flags, key = message["flags"], (index, _address(message))
                entry = Entry(not flags & IFA_F_UNUSABLE, bool(flags & IFA_F_PERMANENT), message.get("proto"))
                self.changes += self.addresses.get(key) != entry
                self.addresses[key] = entry
            case "RTM_DELADDR":
                self.changes += 1
                self.addresses.pop((index, _address(message)), None)
                return {Placed(self.links[index].name, _address(message))} if index in self.links else set()
        return set()

    def placed(self) -> dict[Placed, Entry]:
        return {
            Placed(self.links[index].name, address): entry
            for (index, address), entry in self.addresses.items()
            if index in self.links
        }

    def usable(self) -> Iterator[tuple[Link, InterfaceAddress, Entry]]:
        """A link that is down answers for nothing, even while it keeps its addresses."""
        up = {index: link for index, link in self.links.items() if link.up}
        return ((up[index], a, entry) for (index, a), entry in self.addresses.items() if entry.usable and index in up)

    def link(self, interface: str) -> tuple[int, Link] | None:
        return next(((index, link) for index, link in self.links.items() if link.name == interface), None)


class Kernel:
    def __init__(self, report: Callable[[Event], None], memory: Memory | None) -> None:
        """Without a memory it must not be asked to hold anything, and leaves a predecessor's addresses alone."""
        self._report = report
        self._memory = memory
        self._tables = Tables()
        self._sources: Mapping[str, frozenset[Address]] = {}
        self._told: dict[str, Event] = {}
        self._changes = 0
        self._telling = False
        self._desired: frozenset[Placed] | None = None
        self._ours: set[Placed] = set()
        self._asked = asyncio.Event()
        self._remembered: set[Placed] | None = None
        self._failures: dict[Placed, str] = {}

    def configure(self, sources: Mapping[str, frozenset[Address]]) -> None:
        """The interfaces to watch, and the source addresses that each must carry."""
        self._sources = sources
        self._tell()

    async def start(self) -> None:
        self._requests = AsyncIPRoute()
        self._monitor = AsyncIPRoute()
        await self._read_everything()
        self._ours = self._left_by_a_predecessor()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._keep())

    def close(self) -> None:
        self._monitor.close()
        self._requests.close()

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(address.ip for _, address, _ in self._tables.usable())

    @property
    def permanent(self) -> frozenset[Placed]:
        """Those of the usable addresses that somebody configured."""
        return frozenset(Placed(link.name, a) for link, a, entry in self._tables.usable() if entry.permanent)

    def hold(self, hold: Hold) -> None:
        self._desired = hold.addresses
        self._asked.set()

    def garp(self, garp: Garp) -> None:
        for placed in _sorted(garp.addresses):
            for delay in GARP_DELAYS:
                asyncio.get_running_loop().call_later(delay, self._garp, placed)

    # What the kernel has

    async def _watch(self) -> None:
        while True:
            try:
                async for message in self._monitor.get():
                    # Should one that has gone come back, it is someone else's, unless we add it again.
                    self._ours -= self._tables.take(message)
            except (OSError, NetlinkError) as error:
                if _code(error) != errno.ENOBUFS:
                    raise
                await self._read_everything()
            # A burst of messages is told once.
            if not self._telling:
                self._telling = True
                asyncio.get_running_loop().call_soon(self._tell)

    async def _read_everything(self) -> None:
        """A monitor that lost messages (ENOBUFS) is of no more use; a new one listens before all is read."""
        self._monitor.close()
        self._monitor = AsyncIPRoute()
        await self._monitor.bind(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
        tables = Tables()
        self._changes = -1
        for dump in (self._requests.link, self._requests.addr):
            async for message in await dump("dump"):
                tables.take(message)
        self._tables = tables

    def _tell(self) -> None:
        self._telling = False
        events: dict[str, Event] = {interface: self._link_state(interface) for interface in self._sources}
        events["addresses"] = Held(frozenset(Placed(link.name, a) for link, a, _ in self._tables.usable()))
        if self._changes != self._tables.changes:
            # Whoever follows `permanent` must hear of it even if the addresses are the same.
            self._changes = self._tables.changes
            self._told.pop("addresses", None)
        news = [event for key, event in events.items() if self._told.get(key) != event]
        self._told = events
        for event in news:
            self._report(event)

    def _link_state(self, interface: str) -> LinkChanged:
        match self._tables.link(interface):
            case None:
                reason = "the interface does not exist"
            case _, Link(up=False):
                reason = "the interface is down"
            case _, Link(carrier=False):
                reason = "the interface has no carrier"
            case _:
                here = {placed.address.ip for placed in self._tables.placed() if placed.interface == interface}
                missing = sorted(map(str, self._sources[interface] - here))
                reason = f"the interface does not have {', '.join(missing)}" if missing else ""
        return LinkChanged(interface, not reason, reason or "the interface is up")

    # What is held

    async def _keep(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._desired is not None:
                await self._reconcile(self._desired)

    async def _reconcile(self, desired: frozenset[Placed]) -> None:
        surplus = self._ours - desired
        present = {(p.interface, p.address.ip) for p in self._tables.placed() if p not in surplus}
        missing = {placed for placed in desired if (placed.interface, placed.address.ip) not in present}
        # Before they are added: whatever happens in between, a successor knows them.
        if over := self._remember(self._ours | missing):
            await asyncio.wait([over], timeout=WRITE_TIMEOUT)
        for placed in _sorted(missing):
            if await self._request("add", placed):
                self._ours.add(placed)
        for placed in _sorted(surplus):
            if await self._request("del", placed):
                self._ours.discard(placed)
        self._remember(self._ours)

    async def _request(self, command: Literal["add", "del"], placed: Placed) -> bool:
        """Whether the kernel did it."""
        try:
            if not (found := self._tables.link(placed.interface)):
                raise OSError(errno.ENODEV, "")
            ip, length = str(placed.address.ip), placed.address.network.prefixlen
            options = dict[str, Any](index=found[0], address=ip, prefixlen=length)
            if command == "add":
                options["proto"] = OURS
                if placed.address.version == 6:
                    # Ours at once, and never the source of an outgoing connection.
                    options |= {"flags": IFA_F_NODAD, "preferred": 0}
            await self._requests.addr(command, **options)
        except (OSError, NetlinkError) as error:
            return self._refused(command, placed, _code(error))
        self._failures.pop(placed, None)
        return True

    def _refused(self, command: str, placed: Placed, code: int) -> bool:
        if code == errno.EEXIST:
            return False
        gone = command == "del" and code in (errno.EADDRNOTAVAIL, errno.ENODEV)
        reason = in_words(code)
        if not gone and self._failures.get(placed) != reason:
            self._failures[placed] = reason
            self._report(Failed(f"{command} {placed.address} on {placed.interface}", reason))
        return gone

    # What is remembered

    def _left_by_a_predecessor(self) -> set[Placed]:
        left = self._memory.recall(_held) if self._memory else None
        placed = self._tables.placed()
        return {one for one in left or () if one in placed and placed[one].proto in (OURS, None)}

    def _remember(self, addresses: set[Placed]) -> asyncio.Future[None] | None:
        """None: it is remembered already."""
        if not self._memory or addresses == self._remembered:
            return None
        self._remembered = set(addresses)
        return self._memory.remember({"held": [[one.interface, str(one.address)] for one in _sorted(addresses)]})

    def _garp(self, placed: Placed) -> None:
        found = self._tables.link(placed.interface)
        # It may have been released since the first of them.
        if not found or placed not in self._tables.placed() or not any(found[1].mac):
            return
        try:
            tell_neighbours(placed.interface, found[1].mac, placed.address.ip)
        except OSError as error:
            self._report(Failed(f"gratuitous ARP for {placed.address.ip}", in_words(error.errno)))


def _held(state: dict[str, Any]) -> set[Placed]:
    return {Placed(interface, ip_interface(address)) for interface, address in state["held"]}


def _address(message: Any) -> InterfaceAddress:
    # IFA_LOCAL is ours; IFA_ADDRESS is the other end of a point-to-point link.
    return ip_interface(f"{message.get('local') or message.get('address')}/{message['prefixlen']}")


def _sorted(addresses: Iterable[Placed]) -> list[Placed]:
    # `ipaddress` refuses to order IPv4 and IPv6.
    return sorted(addresses, key=lambda placed: (placed.interface, str(placed.address)))


def _code(error: OSError | NetlinkError) -> int:
    return int(error.code if isinstance(error, NetlinkError) else error.errno or 0)
