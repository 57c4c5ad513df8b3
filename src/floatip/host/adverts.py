"""VRRP packets: one raw socket an interface, for what arrives and for what is sent (RFC 9568 section 5.1).

Nothing is judged here: every packet of protocol 112 becomes an `AdvertReceived`. `drain` empties the sockets, so
that a timer is believed only after everything that has arrived in time was heard.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from floatip.core.events import Address, AdvertReceived, Event, Failed, SendAdvert
from floatip.core.vrrp.wire import PROTOCOL
from floatip.host.errors import in_words

GROUP = IPv4Address("224.0.0.18")
"""RFC 9568 section 5.1.1.2."""
MOST_AT_ONCE = 512
RECEIVE_BUFFER = 4 << 20
SO_RCVBUFFORCE = 33
IP_PKTINFO = 8


class Adverts:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[str, tuple[int, socket.socket]] = {}
        self._interfaces: frozenset[str] = frozenset()
        self._multicast: frozenset[str] = frozenset()
        self._failures: dict[tuple[str, Address], str] = {}

    def configure(self, interfaces: Iterable[str], multicast: Iterable[str] = ()) -> None:
        """`multicast`: those on which adverts to the group are wanted too; nothing is sent there."""
        self._interfaces, self._multicast = frozenset(interfaces), frozenset(multicast)
        self.refresh()

    def refresh(self) -> None:
        """Open what can be opened now; the socket of an interface that was created anew is deaf, by its old index."""
        indices = {name: index for index, name in socket.if_nameindex() if name in self._interfaces}
        for interface, (index, old) in list(self._sockets.items()):
            if indices.get(interface) != index:
                self._loop.remove_reader(old)
                old.close()
                del self._sockets[interface]
        for interface in indices.keys() - self._sockets.keys():
            try:
                self._sockets[interface] = indices[interface], self._open(interface)
            except OSError as error:
                self._report(Failed(f"VRRP on {interface}", in_words(error.errno)))

    def drain(self) -> None:
        for interface in list(self._sockets):
            self._read(interface)

    def send(self, advert: SendAdvert) -> None:
        key = advert.interface, advert.destination
        try:
            _, sender = self._sockets[advert.interface]
            # struct in_pktinfo: the index is the socket's, the source is ours to choose.
            source = struct.pack("=i4s4x", 0, advert.source.packed)
            sender.sendmsg([advert.data], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, (str(advert.destination), 0))
        except KeyError:
            self._failed(key, "the interface does not exist")
        except OSError as error:
            self._failed(key, in_words(error.errno))
        else:
            self._failures.pop(key, None)

    def close(self) -> None:
        self.configure(())

    def _failed(self, key: tuple[str, Address], reason: str) -> None:
        if self._failures.get(key) != reason:
            self._failures[key] = reason
            self._report(Failed(f"advert to {key[1]} on {key[0]}", reason))

    def _open(self, interface: str) -> socket.socket:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)
            if interface in self._multicast:
                member = struct.pack("=4s4xi", GROUP.packed, socket.if_nametoindex(interface))
                raw.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            with contextlib.suppress(PermissionError):
                raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:
            raw.close()
            raise
        self._loop.add_reader(raw, self._read, interface)
        return raw

    def _read(self, interface: str) -> None:
        _, receiver = self._sockets[interface]
        for _ in range(MOST_AT_ONCE):
            try:
                packet = receiver.recv(65535)
            except OSError:
                return
            self._report(parse(interface, packet))


def parse(interface: str, packet: bytes) -> AdvertReceived:
    """A raw IPv4 socket delivers the header too, checked by the kernel (RFC 791 section 3.1)."""
    header_length = (packet[0] & 0x0F) * 4
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    return AdvertReceived(interface, source, destination, packet[8], packet[header_length:])
