"""What floatip needs of the kernel's nftables, as nfnetlink messages.

Not by libnftables: the tables belong to the socket that made them, and libnftables opens a new socket where another
program changes rules at the same moment. The kernel then takes the tables away. Besides, nft 1.0.6 (Debian 12) has no
word for `persist`, and 10,000 elements as text take four times as long.

nft(8) shows what these messages make: nft list table netdev floatip_sc.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from floatip.rtnetlink import DONE, ERROR, F_ACK, F_DUMP, F_DUMP_INTR, F_REQUEST, HEADER, Interrupted, attributes

NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_EXT_ACK, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 270, 11, 32, 33
BUFFER = 1 << 18
LARGEST_BATCH = 64 << 20
"""Octets of the socket's send buffer, which a transaction must fit in. Memory is used as it is needed."""
RECEIVE_BUFFER = 4 << 20
F_CREATE, F_EXCL, F_APPEND, F_ACK_TLVS = 0x400, 0x200, 0x800, 0x200
BATCH_BEGIN, BATCH_END, SUBSYSTEM = 16, 17, 10
GENERAL = struct.Struct("!BBH")
"""struct nfgenmsg: family, version, resource."""
NESTED = 0x8000
ERRMSG_TEXT = 1

INET, NETDEV = 1, 5
NEWTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, DELRULE = 0, 2, 3, 4, 5, 6, 8
NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM, NEWOBJ, GETOBJ = 9, 12, 13, 14, 18, 19
OWNER, PERSIST = 2, 4
"""Of a table (Linux 5.12, 6.9): only this socket changes it; it outlives the socket, and then any may take it over."""
INTERVAL, MAP, TIMEOUT, EVAL = 4, 8, 16, 32
COUNTER = 1
DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5
LINK, NETWORK, TRANSPORT = 0, 1, 2
EQUAL, UNEQUAL = 0, 1
META_PROTOCOL, META_IIF, META_NFPROTO, META_L4PROTO = 1, 4, 15, 16
FRAGMENT = 44
"""IPv6's fragment header."""
INPUT, OUTPUT, INGRESS = 1, 3, 0
NFPROTO_OF = {4: 2, 6: 10}

LARGEST_ATTRIBUTE = 60_000
"""Octets: a length has 16 bits."""


class Message(NamedTuple):
    kind: int
    flags: int
    family: int
    body: bytes


class Refused(Exception):
    """The kernel's errno, and what it says about it, which may be nothing."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text or os.strerror(code).lower())
        self.code = code


class Nftables:
    """One socket, which owns the tables that it makes."""

    def __init__(self) -> None:
        """Raises OSError."""
        kinds = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kinds, NETLINK_NETFILTER)
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, LARGEST_BATCH)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self._buffer = bytearray(BUFFER)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def run(self, messages: Sequence[Message]) -> None:
        """One transaction: all of it or nothing. Raises Refused with the first of the kernel's errors, and OSError."""
        if not messages:
            return
        last = len(messages) - 1
        parts = [self._message(BATCH_BEGIN, 0, GENERAL.pack(0, 0, SUBSYSTEM))]
        for number, (kind, flags, family, body) in enumerate(messages):
            acknowledged = F_ACK if number == last else 0
            parts.append(self._message(SUBSYSTEM << 8 | kind, flags | acknowledged, GENERAL.pack(family, 0, 0) + body))
        parts.append(self._message(BATCH_END, 0, GENERAL.pack(0, 0, SUBSYSTEM)))
        self._socket.send(b"".join(parts))
        # The kernel has done it all, and every answer is there, when `send` returns.
        refused = None
        try:
            while True:
                for answer, answer_flags, said in self._datagram():
                    if answer == ERROR and refused is None and (code := _code(said)):
                        refused = Refused(code, _text(answer_flags, said))
        except BlockingIOError:
            pass
        if refused:
            raise refused

    def dump(self, message: Message) -> Iterator[memoryview]:
        """The body of each answer. Raises Refused, OSError and Interrupted."""
        kind, flags, family, body = message
        head = GENERAL.pack(family, 0, 0)
        self._socket.send(self._message(SUBSYSTEM << 8 | kind, flags | F_DUMP, head + body))
        was_interrupted = False
        while True:
            for answer, answer_flags, found in self._datagram():
                was_interrupted = was_interrupted or bool(answer_flags & F_DUMP_INTR)
                if answer == ERROR:
                    raise Refused(_code(found), _text(answer_flags, found))
                if answer == DONE:
                    if was_interrupted:
                        raise Interrupted
                    return
                yield found[GENERAL.size :]

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        return HEADER.pack(HEADER.size + len(body), kind, F_REQUEST | flags, self._sequence, 0) + body

    def _datagram(self) -> Iterator[tuple[int, int, memoryview]]:
        end, at = self._socket.recv_into(self._buffer), 0
        view = memoryview(self._buffer)
        while at + HEADER.size <= end:
            length, kind, flags, _, _ = HEADER.unpack_from(view, at)
            if length < HEADER.size or at + length > end:
                raise OSError(errno.ENOBUFS, "")
            yield kind, flags, view[at + HEADER.size : at + length]
            at += length + 3 & ~3


def _code(body: memoryview) -> int:
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def _text(flags: int, body: memoryview) -> str:
    """Behind the errno: the message that is meant, which must be passed over, and attributes."""
    if not flags & F_ACK_TLVS or len(body) < 4 + HEADER.size:
        return ""
    quoted = HEADER.unpack_from(body, 4)[0] if not flags & 0x100 else HEADER.size
    found = attributes(body, 4 + (quoted + 3 & ~3))
    return bytes(found.get(ERRMSG_TEXT, b"")).rstrip(b"\0").decode(errors="replace")


# Attributes. Numbers are in network order here.


def octets(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    return octets(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    return octets(kind, struct.pack("!I", value & 0xFFFFFFFF))


def long(kind: int, value: int) -> bytes:
    return octets(kind, struct.pack("!Q", value))


def nested(kind: int, *parts: bytes) -> bytes:
    return octets(kind | NESTED, b"".join(parts))


# Tables and what is in them


def new_table(family: int, table: str, flags: int) -> Message:
    return Message(NEWTABLE, F_CREATE, family, text(1, table) + number(2, flags))


def delete_table(family: int, table: str) -> Message:
    return Message(DELTABLE, 0, family, text(1, table))


def new_chain(family: int, table: str, chain: str) -> Message:
    return Message(NEWCHAIN, F_CREATE, family, text(1, table) + text(3, chain))


def new_base_chain(family: int, table: str, chain: str, hook: int, priority: int, device: str = "") -> Message:
    where = number(1, hook) + number(2, priority) + (text(3, device) if device else b"")
    body = text(1, table) + text(3, chain) + nested(4, where) + number(5, ACCEPT) + text(7, "filter")
    return Message(NEWCHAIN, F_CREATE, family, body)


def delete_base_chain(family: int, table: str, chain: str) -> list[Message]:
    """With its rules."""
    rules = Message(DELRULE, 0, family, text(1, table) + text(2, chain))
    return [rules, Message(DELCHAIN, 0, family, text(1, table) + text(3, chain))]


def rule(family: int, table: str, chain: str, *expressions: bytes) -> Message:
    body = text(1, table) + text(2, chain) + nested(4, *(nested(1, each) for each in expressions))
    return Message(NEWRULE, F_CREATE | F_APPEND, family, body)


class Kind(NamedTuple):
    """Of a key or a value: what nft(8) calls it, and its octets."""

    number: int
    size: int


IPV4, IPV6, SERVICE, DEVICE = Kind(7, 4), Kind(8, 16), Kind(13, 4), Kind(20, 4)
MARK = Kind(19, 4)
"""For a number that has no kind of its own: nft 1.0.6 aborts at a key of the kind that is meant for it."""


class Set(NamedTuple):
    """A set, or with `value` a map. `timeout` in seconds; 0: elements stay."""

    name: str
    key: tuple[Kind, ...]
    value: tuple[Kind, ...] = ()
    flags: int = 0
    timeout: float = 0
    most: int = 0


_IN_HOST_ORDER = struct.pack("=BBI", 1, 4, 1)
"""Of a map's values, for nft(8): it keeps notes of its own in a set."""


def new_set(family: int, table: str, it: Set) -> Message:
    flags = it.flags | (MAP if it.value else 0) | (TIMEOUT if it.timeout else 0)
    body = text(1, table) + text(2, it.name) + number(3, flags) + number(4, _kinds(it.key)) + number(5, _size(it.key))
    if it.value:
        body += number(6, _kinds(it.value)) + number(7, _size(it.value))
    if it.most:
        body += nested(9, number(1, it.most))
    body += number(10, 1)
    if it.value == (DEVICE,):
        body += octets(13, _IN_HOST_ORDER)
    if it.timeout:
        body += long(11, round(it.timeout * 1000))
    return Message(NEWSET, F_CREATE, family, body)


def _kinds(kinds: Iterable[Kind]) -> int:
    total = 0
    for each in kinds:
        total = total << 6 | each.number
    return total


def _size(kinds: Iterable[Kind]) -> int:
    return sum(each.size for each in kinds)


def add_elements(
    family: int, table: str, name: str, elements: Iterable[bytes] | Mapping[bytes, bytes]
) -> list[Message]:
    """Keys of a set, or keys and values of a map; all keys of one length."""
    if isinstance(elements, Mapping):
        parts = [element(key, value) for key, value in elements.items()]
    else:
        parts = [element(key) for key in elements]
    return _elements(NEWSETELEM, F_CREATE, family, table, name, parts)


def add_intervals(family: int, table: str, name: str, elements: Iterable[bytes]) -> list[Message]:
    """Of `element` and `interval_end`."""
    return _elements(NEWSETELEM, F_CREATE, family, table, name, list(elements))


def delete_elements(family: int, table: str, name: str, keys: Iterable[bytes]) -> list[Message]:
    return _elements(DELSETELEM, 0, family, table, name, [element(key) for key in keys])


def flush_set(family: int, table: str, name: str) -> Message:
    return Message(DELSETELEM, 0, family, text(1, table) + text(2, name))


def _elements(kind: int, flags: int, family: int, table: str, name: str, parts: list[bytes]) -> list[Message]:
    head = text(1, table) + text(2, name)
    at_once = LARGEST_ATTRIBUTE // max((len(part) for part in parts), default=1)
    return [
        Message(kind, flags, family, head + nested(3, *parts[at : at + at_once]))
        for at in range(0, len(parts), at_once)
    ]


_ELEMENT = struct.Struct("=HHHHHH")
_VALUE = struct.Struct("=HHHH")


def element(key: bytes, value: bytes = b"") -> bytes:
    """Lengths must be multiples of four. Written out, because there may be 10,000."""
    size = len(key)
    if not value:
        return _ELEMENT.pack(size + 12, 0x8001, size + 8, 0x8001, size + 4, 1) + key
    more = len(value)
    head = _ELEMENT.pack(size + more + 20, 0x8001, size + 8, 0x8001, size + 4, 1)
    return b"%b%b%b%b" % (head, key, _VALUE.pack(more + 8, 0x8002, more + 4, 1), value)


def interval_end(key: bytes) -> bytes:
    return nested(1, nested(1, octets(1, key)), number(3, 1))


def get_elements(family: int, table: str, name: str) -> Message:
    return Message(GETSETELEM, 0, family, text(1, table) + text(2, name))


def elements(body: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values in one answer to `get_elements`."""
    listed = attributes(body, 0).get(3, memoryview(b""))
    at = 0
    while at + 4 <= len(listed):
        length = int.from_bytes(listed[at : at + 2], sys.byteorder)
        if length < 4:
            return
        has = attributes(listed[at + 4 : at + length], 0)
        if 1 in has:
            value = attributes(has[2], 0).get(1, b"") if 2 in has else b""
            yield bytes(attributes(has[1], 0).get(1, b"")), bytes(value)
        at += length + 3 & ~3


def new_counter(family: int, table: str, name: str) -> Message:
    return Message(NEWOBJ, F_CREATE, family, text(1, table) + text(2, name) + number(3, COUNTER) + nested(4))


def get_counters(family: int, table: str) -> Message:
    return Message(GETOBJ, 0, family, text(1, table) + number(3, COUNTER))


def counted(body: memoryview) -> tuple[str, int]:
    """The name and the packets of a counter, from an answer to `get_counters`."""
    has = attributes(body, 0)
    packets = attributes(has[4], 0)[2]
    return bytes(has[2]).rstrip(b"\0").decode(errors="replace"), int.from_bytes(packets, "big")


def get_chains(family: int, table: str) -> Message:
    return Message(GETCHAIN, 0, family, text(1, table))


def chain_of(body: memoryview) -> tuple[str, str]:
    """Table and name of a chain, from an answer to `get_chains`."""
    has = attributes(body, 0)
    table, name = (bytes(has.get(kind, b"")).rstrip(b"\0").decode(errors="replace") for kind in (1, 3))
    return table, name


# Expressions. Registers are numbered from 8, four octets each.


def _expression(name: str, *parts: bytes) -> bytes:
    return text(1, name) + nested(2, *parts)


def meta(key: int, into: int) -> bytes:
    return _expression("meta", number(1, into), number(2, key))


def payload(base: int, offset: int, length: int, into: int) -> bytes:
    return _expression("payload", number(1, into), number(2, base), number(3, offset), number(4, length))


def extension(kind: int, offset: int, length: int, into: int) -> bytes:
    """Of IPv6: a rule ends where the packet has no such header."""
    return _expression("exthdr", number(1, into), octets(2, bytes([kind])), number(3, offset), number(4, length))


def masked(register: int, mask: bytes) -> bytes:
    parts = [nested(4, octets(1, mask)), nested(5, octets(1, bytes(len(mask))))]
    return _expression("bitwise", number(1, register), number(2, register), number(3, len(mask)), *parts)


def compare(register: int, value: bytes, operation: int = EQUAL) -> bytes:
    return _expression("cmp", number(1, register), number(2, operation), nested(3, octets(1, value)))


def lookup(name: str, register: int, into: int | None = None, *, inverted: bool = False) -> bytes:
    parts = [text(1, name), number(2, register)]
    if into is not None:
        parts.append(number(3, into))
    return _expression("lookup", *parts, *([number(5, 1)] if inverted else []))


def immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", number(1, register), nested(2, octets(1, value)))


def verdict(code: int, chain: str = "") -> bytes:
    parts = number(1, code) + (text(2, chain) if chain else b"")
    return _expression("immediate", number(1, 0), nested(2, nested(2, parts)))


def count(name: str) -> bytes:
    return _expression("objref", number(1, COUNTER), text(2, name))


def forward(device: int, address: int, version: int) -> bytes:
    """To the neighbour whose address is in that register, by the device whose index is in that one."""
    return _expression("fwd", number(1, device), number(2, address), number(3, NFPROTO_OF[version]))


def remember(name: str, key: int, value: int | None = None, *, again: bool = False) -> bytes:
    """Adds what is in these registers to a set or a map. `again`: what is there begins its timeout again."""
    parts = [text(1, name), number(3, int(again)), number(4, key)]
    return _expression("dynset", *parts, *([number(5, value)] if value is not None else []))
