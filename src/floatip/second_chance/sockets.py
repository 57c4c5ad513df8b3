"""The TCP connections of this machine, from the kernel's sock_diag(7).

The kernel compares the addresses (INET_DIAG_REQ_BYTECODE), so a machine with many other connections costs little.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from floatip.core.addresses import Address
from floatip.core.second_chance.flow import Flow
from floatip.rtnetlink import DONE, ERROR, F_DUMP, F_REQUEST, HEADER, U32, attribute, attributes

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
ANY_LENGTH = 255
"""sdiag_protocol where an attribute names the protocol, because it needs more than eight bits."""
IPPROTO_MPTCP = 262
REQ_BYTECODE, REQ_PROTOCOL = 1, 3
SKV6ONLY = 11
BC_JMP, BC_S_COND = 1, 7

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(
    1, 12
)
ALIVE = (ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING)
"""The states that need packets. A SYN_RECV socket is a half of a handshake: the client may believe it is connected.

Not TIME_WAIT: both sides have sent and received everything, FINs too. All that may still come is the client's FIN, if
our last acknowledgement of it was lost; the answer to that is a reset, which the client's program does not see: it has
read the end of the stream already, and its own end is closed. A busy server has tens of thousands of these for a
minute, and each would keep the drain from its end.
"""

REQUEST = struct.Struct("=BBBxI48x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, and a socket id that is not looked at."""
OP = struct.Struct("=BBH")
CONDITION = struct.Struct("=BBxxi")
"""struct inet_diag_hostcond: family, length of the prefix, port (-1: any); then the address."""
LAYOUT = "=IH10xBxBB2s2s12s4s12s4s32x"
"""Length, kind; struct inet_diag_msg: family, timer and how often it ended, our port, the client's, our address, the
client's. Attributes follow.
"""
MESSAGE = struct.Struct(LAYOUT)
MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address in an IPv6 socket begins with."""
BUFFER = 1 << 18
RETRANSMISSION = 1
"""The timer of a socket that waits for an acknowledgement."""
STUCK = 2
"""How often that timer has ended, for a connection that is taken for stuck."""
NETSTAT, REPEATED = "/proc/thread-self/net/netstat", "DelayedACKLost"
"""What the kernel counts when something comes again that it has already."""


class Listed(NamedTuple):
    flows: frozenset[Flow]
    waiting: int
    """Those that wait for the client to acknowledge something."""
    stuck: int
    """Of these, those that have sent it for the third time, or more often."""


def listed(addresses: Iterable[Address]) -> Listed:
    """The connections whose local address is one of these, in every state that still needs packets. Raises OSError.

    An IPv6 socket may hold an IPv4 connection (::ffff:192.0.2.1); that is one of IPv4.
    """
    wanted, found, waiting, stuck = tuple(addresses), set[Flow](), 0, 0
    for family in _families(wanted):
        for datagram in _dump(family, socket.IPPROTO_TCP, ALIVE, wanted):
            for _, _, kind, timer, ended, our_port, port, head, ours, client_head, client in _rows(datagram):
                if timer == RETRANSMISSION:
                    waiting += 1
                    stuck += ended >= STUCK
                if kind == socket.AF_INET:
                    found.add(b"%b%b\0\0%b%b\0\0" % (client_head[:4], port, head[:4], our_port))
                elif head == MAPPED:
                    found.add(b"%b%b\0\0%b%b\0\0" % (client, port, ours, our_port))
                else:
                    found.add(b"%b%b%b\0\0%b%b%b\0\0" % (client_head, client, port, head, ours, our_port))
    return Listed(frozenset(found), waiting, stuck)


def repeats() -> int:
    """Segments that came again, on the whole machine, since it started; 0 where the kernel does not say."""
    names = list[str]()
    with suppress(OSError), open(NETSTAT, encoding="ascii") as lines:
        for line in lines:
            if line.startswith("TcpExt:"):
                if names:
                    return int(dict(zip(names, line.split(), strict=True)).get(REPEATED, 0))
                names = line.split()
    return 0


def listeners(addresses: Iterable[Address]) -> frozenset[Address]:
    """Those of the addresses at which some program listens, by name or as one of all. Raises OSError."""
    wanted, found = frozenset(addresses), set[Address]()
    for family in _families(wanted):
        for datagram in _dump(family, socket.IPPROTO_TCP, (LISTEN,), ()):
            for (_, _, kind, _, _, _, _, head, tail, _, _), rest in _messages(datagram):
                if kind == socket.AF_INET:
                    found |= _served(wanted, IPv4Address(head[:4]), only=4)
                elif head == MAPPED:
                    found |= _served(wanted, IPv4Address(tail), only=4)
                else:
                    is_v6_only = attributes(rest, 0).get(SKV6ONLY, b"\1")[0]
                    found |= _served(wanted, IPv6Address(head + tail), only=6 if is_v6_only else None)
    return frozenset(found)


def has_mptcp(addresses: Iterable[Address]) -> bool:
    """Whether one of these addresses has an MPTCP connection, which has parts that no list shows. Raises OSError."""
    wanted = tuple(addresses)
    try:
        return any(True for family in _families(wanted) for _ in _dump(family, IPPROTO_MPTCP, (ESTABLISHED,), wanted))
    except FileNotFoundError:  # the kernel has no MPTCP, or nothing that lists it
        return False


def _served(wanted: frozenset[Address], by: Address, only: int | None) -> set[Address]:
    if by.is_unspecified:
        return {one for one in wanted if only in (None, one.version)}
    return {by} & wanted


def _families(addresses: Iterable[Address]) -> list[int]:
    """IPv4 connections are in both tables, IPv6 connections in one."""
    if not (versions := {address.version for address in addresses}):
        return []
    return [socket.AF_INET, socket.AF_INET6] if 4 in versions else [socket.AF_INET6]


def _dump(family: int, protocol: int, states: Iterable[int], local: Iterable[Address]) -> Iterator[memoryview]:
    """Each socket in these states, with one of these local addresses; of all where none is given. Raises OSError."""
    mask = sum(1 << state for state in states)
    request = REQUEST.pack(family, protocol if protocol < ANY_LENGTH else ANY_LENGTH, 0, mask)
    if code := _bytecode(local):
        request += attribute(REQ_BYTECODE, code)
    if protocol > ANY_LENGTH:
        request += attribute(REQ_PROTOCOL, U32.pack(protocol))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, F_REQUEST | F_DUMP, 1, 0) + request)
        yield from _datagrams(kernel)


def _datagrams(kernel: socket.socket) -> Iterator[memoryview]:
    """Each has at least one socket."""
    buffer = bytearray(BUFFER)
    while end := kernel.recv_into(buffer):
        kind = HEADER.unpack_from(buffer)[1] if end >= HEADER.size else DONE
        if kind == DONE:
            return
        if kind == ERROR:
            code = -int.from_bytes(buffer[HEADER.size :][:4], sys.byteorder, signed=True)
            raise OSError(code, os.strerror(code))
        yield memoryview(buffer)[:end]


def _rows(datagram: memoryview) -> Iterator[tuple[Any, ...]]:
    """Each socket, as MESSAGE has it. Mostly all are of one length, and then reading them takes a quarter of the time.

    A row that is read twice does no harm: they go into a set.
    """
    length = HEADER.unpack_from(datagram)[0]
    if length >= MESSAGE.size and length % 4 == 0 and len(datagram) % length == 0:
        for row in struct.iter_unpack(f"{LAYOUT}{length - MESSAGE.size}x", datagram):
            if row[0] != length:
                break
            yield row
        else:
            return
    yield from (row for row, _ in _messages(datagram))


def _messages(datagram: memoryview) -> Iterator[tuple[tuple[Any, ...], memoryview]]:
    """Each socket, as MESSAGE has it, and its attributes."""
    at = 0
    while at + MESSAGE.size <= len(datagram):
        row = MESSAGE.unpack_from(datagram, at)
        length, kind = row[:2]
        if kind == DONE or length < MESSAGE.size:
            return
        yield row, datagram[at + MESSAGE.size : at + length]
        at += length + 3 & ~3


def _bytecode(local: Iterable[Address]) -> bytes:
    """One condition for each address. One that holds jumps to the end, which accepts; the last one jumps past it."""
    conditions = []
    for address in local:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        conditions.append(CONDITION.pack(family, address.max_prefixlen, -1) + address.packed)
    code = b""
    for number, condition in enumerate(reversed(conditions)):
        length = OP.size + len(condition)
        jump = OP.pack(BC_JMP, OP.size, OP.size + len(code)) if number else b""
        code = OP.pack(BC_S_COND, length, length + OP.size) + condition + jump + code
    return code
