"""What the kernel has, kept by its messages: a message costs the same however many addresses there are."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.rtnetlink import AddressMessage, LinkMessage, Message

IFA_F_PERMANENT = 0x80
"""Not so: an address with a lifetime, from a router's advertisement (SLAAC) or from DHCP."""
IFA_F_UNUSABLE = 0x08 | 0x40
"""Duplicate address detection failed or is still going on."""


@dataclass(slots=True)
class Entry:
    """An address as the kernel reports it."""

    placed: Placed
    usable: bool
    permanent: bool
    proto: int | None


class Tables:
    def __init__(self) -> None:
        self.links: dict[int, LinkMessage] = {}
        self.usable: set[Placed] = set()
        """A link that is down answers for nothing, even while it keeps its addresses."""
        self.changes = 0
        """How often something came, went or became another; a message may say what is known already."""
        self.knows_marks = False
        """Whether the kernel says who added an address: of ::1 every kernel that can does."""
        self.renamed: list[tuple[Placed, Placed]] = []
        """Addresses whose interface has another name now, until somebody takes them off this list."""
        self._indices: dict[str, int] = {}
        self._entries: dict[int, dict[bytes, dict[int, Entry]]] = {}
        """By interface, address and prefix length."""

    def take(self, message: Message) -> Placed | None:
        """Returns what has gone by it."""
        if isinstance(message, LinkMessage):
            # Of family AF_BRIDGE these tell of a port that joins or leaves its bridge.
            if message.family == socket.AF_UNSPEC:
                self._link(message)
        elif message.gone:
            return self._lose(message)
        else:
            self._gain(message)
        return None

    def _link(self, message: LinkMessage) -> None:
        index, before = message.index, self.links.get(message.index)
        link = None if message.gone else message
        if link == before:
            return
        self.changes += 1
        if before and self._indices.get(before.name) == index:
            del self._indices[before.name]
        if link:
            self.links[index] = link
            self._indices[link.name] = index
        else:
            self.links.pop(index, None)
        for entry in self._on(index):
            self.usable.discard(entry.placed)
            if link:
                if link.name != entry.placed.interface:
                    before_it, entry.placed = entry.placed, Placed(link.name, entry.placed.address)
                    self.renamed.append((before_it, entry.placed))
                if link.up and entry.usable:
                    self.usable.add(entry.placed)

    def _gain(self, message: AddressMessage) -> None:
        usable, permanent = not message.flags & IFA_F_UNUSABLE, bool(message.flags & IFA_F_PERMANENT)
        lengths = self._entries.setdefault(message.index, {}).setdefault(message.packed, {})
        entry = lengths.get(message.prefixlen)
        if entry and (entry.usable, entry.permanent, entry.proto) == (usable, permanent, message.proto):
            return
        self.changes += 1
        link = self.links.get(message.index)
        if entry:
            entry.usable, entry.permanent, entry.proto = usable, permanent, message.proto
        else:
            placed = Placed(link.name if link else "", ip_interface((message.packed, message.prefixlen)))
            entry = lengths[message.prefixlen] = Entry(placed, usable, permanent, message.proto)
        self.knows_marks = self.knows_marks or message.proto is not None
        if usable and link and link.up:
            self.usable.add(entry.placed)
        else:
            self.usable.discard(entry.placed)

    def _lose(self, message: AddressMessage) -> Placed | None:
        self.changes += 1
        lengths = self._entries.get(message.index, {}).get(message.packed, {})
        entry = lengths.pop(message.prefixlen, None)
        if entry is None:
            return None
        if not lengths:
            del self._entries[message.index][message.packed]
        self.usable.discard(entry.placed)
        return entry.placed

    def _on(self, index: int) -> Iterator[Entry]:
        return (entry for lengths in self._entries.get(index, {}).values() for entry in lengths.values())

    # Questions

    def index(self, interface: str) -> int | None:
        return self._indices.get(interface)

    def link(self, interface: str) -> LinkMessage | None:
        index = self._indices.get(interface)
        return None if index is None else self.links[index]

    def entry(self, placed: Placed) -> Entry | None:
        """The very one: interface, address and prefix length."""
        lengths = self._lengths(placed.interface, placed.address)
        return lengths.get(placed.address.network.prefixlen)

    def standing(self, placed: Placed) -> Iterator[Placed]:
        """The same address on the same interface, whatever its prefix length."""
        return (entry.placed for entry in self._lengths(placed.interface, placed.address).values())

    def has(self, interface: str, address: Address) -> bool:
        return bool(self._lengths(interface, address))

    def can_use(self, interface: str, address: Address) -> bool:
        """Also while the link is down."""
        return any(entry.usable for entry in self._lengths(interface, address).values())

    def on(self, interface: str) -> Iterator[Entry]:
        index = self._indices.get(interface)
        return iter(()) if index is None else self._on(index)

    def entries(self) -> Iterator[Entry]:
        return (entry for index in self.links for entry in self._on(index))

    def _lengths(self, interface: str, address: Address | InterfaceAddress) -> dict[int, Entry]:
        index = self._indices.get(interface)
        return {} if index is None else self._entries.get(index, {}).get(address.packed, {})
