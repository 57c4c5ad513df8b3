"""Raw sockets of protocol 112 (RFC 9568 section 5.1): what differs between IPv4 (ip(7)) and IPv6 (ipv6(7), RFC 3542).

Over IPv4 a raw socket delivers the IP header, which the kernel has checked (RFC 791 section 3.1). Over IPv6 it delivers
none: hop limit and destination come as ancillary data, and the kernel writes and checks the checksum of VRRP, over all
that is sent.
"""

import contextlib
import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from floatip.core.addresses import Address
from floatip.core.vrrp.wire import PROTOCOL

SO_RCVBUFFORCE = 33
IP_PKTINFO, IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 8, 10, 0
TTL, TRAFFIC_CLASS = 255, 0xC0
CHECKSUM_AT = 6
"""RFC 9568 section 5.2.8."""
LONGEST_PACKET = 65535
ADDRESSES_KEPT = 1024
INT = struct.Struct("=i")
INFO = struct.Struct("=16sI")
"""struct in6_pktinfo."""
ANCILLARY = socket.CMSG_SPACE(INFO.size) + socket.CMSG_SPACE(INT.size)

Ancillary = list[tuple[int, int, bytes]]
Packet = tuple[Address, Address, int, bytes]
"""Source, destination, TTL or hop limit, and what follows the IP header."""

_buffer = bytearray(LONGEST_PACKET)
_view = memoryview(_buffer)
_addresses: dict[object, Address] = {}
"""By packed octets or text: the same few nodes are heard again and again."""


class Family(Protocol):
    version: int

    def open(self, interface: str, buffer: int) -> socket.socket:
        """Raises OSError."""

    def join(self, raw: socket.socket, group: Address, index: int) -> None:
        """Raises OSError."""

    def leave(self, raw: socket.socket, group: Address, index: int) -> None:
        """Raises OSError."""

    def way(
        self, source: Address, destination: Address, ttl: int, index: int
    ) -> tuple[Ancillary, tuple[str, int] | tuple[str, int, int, int]]:
        """With what to send, and where to."""

    def receive(self, raw: socket.socket) -> Packet:
        """Raises OSError."""

    def dscp(self, raw: socket.socket) -> int:
        """Raises OSError."""


class _IPv4:
    version = 4

    def open(self, interface: str, buffer: int) -> socket.socket:
        options = [
            (socket.IPPROTO_IP, socket.IP_TTL, TTL),
            (socket.IPPROTO_IP, socket.IP_TOS, TRAFFIC_CLASS),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0),
            # No "don't fragment" bit, as keepalived: an advert of many addresses must pass a smaller MTU on its way.
            (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT),
        ]
        return _raw(socket.AF_INET, interface, buffer, options)

    def join(self, raw: socket.socket, group: Address, index: int) -> None:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4xi", group.packed, index))

    def leave(self, raw: socket.socket, group: Address, index: int) -> None:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, struct.pack("=4s4xi", group.packed, index))

    def way(self, source: Address, destination: Address, ttl: int, index: int) -> tuple[Ancillary, tuple[str, int]]:
        # struct in_pktinfo: the index is the socket's, the source is ours to choose.
        ancillary = [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, source.packed))]
        if ttl != TTL:
            ancillary.append((socket.IPPROTO_IP, socket.IP_TTL, INT.pack(ttl)))
        return ancillary, (str(destination), 0)

    def receive(self, raw: socket.socket) -> Packet:
        length = raw.recv_into(_buffer)
        source, destination = _address(bytes(_view[12:16])), _address(bytes(_view[16:20]))
        return source, destination, _buffer[8], bytes(_view[(_buffer[0] & 0x0F) * 4 : length])

    def dscp(self, raw: socket.socket) -> int:
        return raw.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> 2


class _IPv6:
    version = 6

    def open(self, interface: str, buffer: int) -> socket.socket:
        options = [
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL),
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TRAFFIC_CLASS),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, TTL),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0),
            (socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, CHECKSUM_AT),
            (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1),
            (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
        ]
        return _raw(socket.AF_INET6, interface, buffer, options)

    def join(self, raw: socket.socket, group: Address, index: int) -> None:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, INFO.pack(group.packed, index))

    def leave(self, raw: socket.socket, group: Address, index: int) -> None:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, INFO.pack(group.packed, index))

    def way(
        self, source: Address, destination: Address, ttl: int, index: int
    ) -> tuple[Ancillary, tuple[str, int, int, int]]:
        ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, INFO.pack(source.packed, index))]
        if ttl != TTL:
            ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, INT.pack(ttl)))
        return ancillary, (str(destination), 0, 0, index)

    def receive(self, raw: socket.socket) -> Packet:
        length, ancillary, _, sender = raw.recvmsg_into([_buffer], ANCILLARY)
        found = {kind: data for _, kind, data in ancillary}
        if not found.keys() >= {socket.IPV6_HOPLIMIT, socket.IPV6_PKTINFO}:
            raise OSError(errno.EBADMSG, "")
        (hops,) = INT.unpack(found[socket.IPV6_HOPLIMIT])
        destination, _ = INFO.unpack(found[socket.IPV6_PKTINFO])
        return _address(sender[0].partition("%")[0]), _address(destination), hops, bytes(_view[:length])

    def dscp(self, raw: socket.socket) -> int:
        return raw.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) >> 2


FAMILIES: dict[int, Family] = {4: _IPv4(), 6: _IPv6()}


def _raw(family: int, interface: str, buffer: int, options: list[tuple[int, int, int]]) -> socket.socket:
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        for level, option, value in options:
            raw.setsockopt(level, option, value)
        with contextlib.suppress(PermissionError):
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    except OSError:
        raw.close()
        raise
    return raw


def _address(known_as: bytes | str) -> Address:
    if (address := _addresses.get(known_as)) is None:
        if len(_addresses) >= ADDRESSES_KEPT:
            _addresses.clear()
        address = ip_address(known_as) if isinstance(known_as, str) else _unpacked(known_as)
        _addresses[known_as] = address
    return address


def _unpacked(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
