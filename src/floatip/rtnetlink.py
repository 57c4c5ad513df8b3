"""The part of rtnetlink(7) that floatip needs: read, follow, add and delete addresses; read and follow links.

Requests travel in batches. The kernel works a batch off before the send returns, so no answer is waited for.
"""

import contextlib
import errno
import math
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface

from floatip.core.addresses import InterfaceAddress
from floatip.core.settings import AddressOptions

ERROR, DONE = 2, 3
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
F_REQUEST, F_ACK, F_DUMP_INTR, F_DUMP, F_CREATE_EXCL = 0x01, 0x04, 0x10, 0x300, 0x600
F_REPLACE = 0x100
GROUPS = 0x01 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""
SOL_NETLINK, NETLINK_CAP_ACK = 270, 10

HEADER = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
ATTRIBUTE = struct.Struct("=HH")
U32 = struct.Struct("=I")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_OPERSTATE, IFLA_AF_SPEC, IFLA_EXT_MASK = 1, 3, 16, 26, 29
IFLA_INET_CONF, PROMOTE_SECONDARIES = 1, 20
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS, IFA_PROTO = 1, 2, 3, 6, 8, 11
IFA_F_NODAD = 0x02
OURS = 0xF1
"""IFA_PROTO of the addresses that floatip adds."""
IFF_UP = 1
NO_CARRIER = frozenset({1, 2, 3})
"""IF_OPER_NOTPRESENT, IF_OPER_DOWN, IF_OPER_LOWERLAYERDOWN (RFC 2863)."""
SKIP_STATISTICS = U32.pack(8)
FOR_EVER = 0xFFFFFFFF
LONGEST = 1 << 16
RECEIVE_BUFFER = 4 << 20
SO_RCVBUFFORCE = 33


class Interrupted(Exception):
    """The tables changed while they were read: read them again."""


@dataclass(frozen=True, slots=True)
class LinkMessage:
    gone: bool
    index: int
    family: int
    name: str
    up: bool
    carrier: bool
    mac: bytes


@dataclass(slots=True)
class AddressMessage:
    gone: bool
    index: int
    prefixlen: int
    packed: bytes
    """Our end; IFA_ADDRESS is the other end of a point-to-point link."""
    flags: int
    proto: int | None
    """Who added it (Linux 5.18)."""


Message = LinkMessage | AddressMessage


class Netlink:
    """One socket. A monitor for `groups`, or for requests, or for reading tables: not all at once."""

    def __init__(self, groups: int = 0) -> None:
        """Raises OSError."""
        self._sequence = 0
        self._buffer = bytearray(LONGEST)
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        try:
            self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            with contextlib.suppress(PermissionError):
                self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            self.socket.bind((0, groups))
        except OSError:
            self.socket.close()
            raise

    def close(self) -> None:
        self.socket.close()

    def receive(self) -> Iterator[Message]:
        """The messages of one datagram. Raises BlockingIOError, or OSError(ENOBUFS) if some were lost."""
        for kind, _, _, body in self.datagram():
            if message := _parsed(kind, body):
                yield message

    def read(self, kind: int) -> Iterator[Message]:
        """A whole table, GETLINK or GETADDR, read as it is consumed. Raises OSError and Interrupted."""
        attributes = attribute(IFLA_EXT_MASK, SKIP_STATISTICS) if kind == GETLINK else b""
        head = LINK.pack(0, 0, 0, 0, 0) if kind == GETLINK else ADDRESS.pack(0, 0, 0, 0, 0)
        for answer, body in self.dump(kind, head + attributes):
            if message := _parsed(answer, body):
                yield message

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[int, memoryview]]:
        """The kind and body of each answer, read as they are consumed. Raises OSError and Interrupted."""
        self._sequence += 1
        self.socket.send(_message(kind, F_REQUEST | F_DUMP, self._sequence, body))
        was_interrupted = False
        while True:
            for answer, flags, _, found in self.datagram():
                was_interrupted = was_interrupted or bool(flags & F_DUMP_INTR)
                if answer == DONE:
                    if was_interrupted:
                        raise Interrupted
                    return
                if answer == ERROR:
                    raise OSError(_code(found), "")
                yield answer, found

    def request(self, requests: Sequence[tuple[int, int, bytes]], by: float = math.inf) -> list[int]:
        """Performs each (kind, flags, body); 0 or the errno of each, in order.

        `by`: monotonic seconds after which none of them is sent any more (ETIME). The clock is read at the last moment.
        """
        first = self._sequence + 1
        self._sequence += len(requests)
        # Errors are always told. Only the last one is told of its success as well.
        datagram = b"".join(
            _message(kind, F_REQUEST | flags | (F_ACK if first + n == self._sequence else 0), first + n, body)
            for n, (kind, flags, body) in enumerate(requests)
        )
        codes = [0] * len(requests)
        if time.monotonic() > by:
            return [errno.ETIME] * len(requests)
        try:
            self.socket.send(datagram)
            while True:
                for kind, _, sequence, body in self.datagram():
                    if kind == ERROR and sequence >= first:
                        codes[sequence - first] = _code(body)
                    if sequence == self._sequence:
                        return codes
        except OSError as error:
            return [code or error.errno or errno.EIO for code in codes]

    def datagram(self) -> Iterator[tuple[int, int, int, memoryview]]:
        """Kind, flags, sequence and body of each message."""
        end = self.socket.recv_into(self._buffer)
        view, at = memoryview(self._buffer), 0
        while at + HEADER.size <= end:
            length, kind, flags, sequence, _ = HEADER.unpack_from(view, at)
            if length < HEADER.size or at + length > end:
                raise OSError(errno.ENOBUFS, "")  # cut off: as good as lost
            yield kind, flags, sequence, view[at + HEADER.size : at + length]
            at += length + 3 & ~3


def addition(
    index: int,
    address: InterfaceAddress,
    proto: int,
    options: AddressOptions | None = None,
    lifetime: int = FOR_EVER,
    *,
    again: bool = False,
) -> tuple[int, int, bytes]:
    """An IPv6 address is usable at once (no duplicate address detection).

    No connection leaves from it, unless `options` say for how long it is preferred. After `lifetime` seconds the kernel
    removes it. `again`: one that is there gets this lifetime; one that is not there is added all the same.
    """
    flags, attributes = 0, attribute(IFA_PROTO, bytes([proto]))
    preferred = options.preferred_lft if options else None
    if address.version == 6:
        flags, preferred = IFA_F_NODAD, preferred or 0
    if preferred is not None or lifetime != FOR_EVER:
        # struct ifa_cacheinfo: deprecated after so many seconds, removed after so many.
        preferred = lifetime if preferred is None else min(preferred, lifetime)
        attributes += attribute(IFA_CACHEINFO, struct.pack("=IIII", preferred, lifetime, 0, 0))
    if options and options.label:
        attributes += attribute(IFA_LABEL, options.label.encode() + b"\0")
    scope = (options.scope if options else None) or 0
    head = _address(index, address, flags, scope)
    return NEWADDR, F_REPLACE if again else F_CREATE_EXCL, head + attributes


def deletion(index: int, address: InterfaceAddress) -> tuple[int, int, bytes]:
    return DELADDR, 0, _address(index, address)


def promotion(index: int) -> tuple[int, int, bytes]:
    """Sets promote_secondaries: without, the first address of a network takes the others along when it goes."""
    setting = attribute(IFLA_INET_CONF, attribute(PROMOTE_SECONDARIES, U32.pack(1)))
    return SETLINK, 0, LINK.pack(0, 0, index, 0, 0) + attribute(IFLA_AF_SPEC, attribute(socket.AF_INET, setting))


def _address(index: int, address: InterfaceAddress, flags: int = 0, scope: int = 0) -> bytes:
    family = socket.AF_INET if isinstance(address, IPv4Interface) else socket.AF_INET6
    head = ADDRESS.pack(family, address.network.prefixlen, flags, scope, index)
    return head + attribute(IFA_LOCAL, address.packed) + attribute(IFA_ADDRESS, address.packed)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _code(body: memoryview) -> int:
    """struct nlmsgerr: a negative errno, or 0."""
    return -int.from_bytes(body[:4], "little" if U32.pack(1)[0] else "big", signed=True)


def _parsed(kind: int, body: memoryview) -> Message | None:
    if kind in (NEWADDR, DELADDR):
        _, prefixlen, flags, _, index = ADDRESS.unpack_from(body)
        found = attributes(body, ADDRESS.size)
        packed = bytes(found.get(IFA_LOCAL) or found.get(IFA_ADDRESS) or b"")
        if IFA_FLAGS in found:
            flags = U32.unpack(found[IFA_FLAGS])[0]
        proto = found[IFA_PROTO][0] if IFA_PROTO in found else None
        return AddressMessage(kind == DELADDR, index, prefixlen, packed, flags, proto)
    if kind in (NEWLINK, DELLINK):
        family, _, index, flags, _ = LINK.unpack_from(body)
        found = attributes(body, LINK.size)
        if IFLA_OPERSTATE not in found or IFLA_IFNAME not in found:
            return None  # of a wireless driver, which tells of other things by the same kind
        name = bytes(found[IFLA_IFNAME]).rstrip(b"\0").decode(errors="replace")
        up, carrier = bool(flags & IFF_UP), found[IFLA_OPERSTATE][0] not in NO_CARRIER
        return LinkMessage(kind == DELLINK, index, family, name, up, carrier, bytes(found.get(IFLA_ADDRESS, b"")))
    return None


def attributes(body: memoryview, at: int) -> dict[int, memoryview]:
    found = {}
    while at + 4 <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += length + 3 & ~3
    return found
