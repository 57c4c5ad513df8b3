"""What an attacker does, in a process of its own, so that the one that measures stays free.

python -m bench.attackers clients PATH LINE NUMBER BYTES SECONDS AGAIN
python -m bench.attackers flood ADDRESS A_SECOND SECONDS
python -m bench.attackers forge ADDRESS A_SECOND SECONDS SOURCE
python -m bench.attackers tcp ADDRESS A_SECOND SECONDS PORT syn|ack DEVICE ETHERNET
python -m bench.attackers delete ADDRESS A_SECOND SECONDS
python -m bench.attackers freeze TIMES LENGTH SECONDS PID ...

It prints one JSON object: what it reached, when it began, and the CPU time that it took.
"""

import ctypes
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, ip_interface

from floatip import rtnetlink
from floatip.core.link import wire as link_wire
from floatip.core.settings import LINK_PORT
from floatip.core.vrrp.wire import PROTOCOL, Advert, pack
from floatip.lab.network import FLOATING

VRID = 51
BATCH = 100
LARGEST = 1 << 18
STRANGERS = 20_000
SYN, ACK = 0x02, 0x10


def clients(path: str, line: str, number: int, size: int, seconds: float, again: bool) -> dict[str, float]:
    """`number` clients send `size` bytes of `line` each and read what they get; `again`: until the time is up."""
    data = memoryview((line.encode() * (size // len(line) + 1))[:size])
    until, waiting, told = time.monotonic() + seconds, selectors.DefaultSelector(), {"connections": 0, "sent": 0}
    for _ in range(number):
        _Client(path, data, waiting, told)
    while waiting.get_map() and time.monotonic() < until:
        for key, _ in waiting.select(0.1):
            if not key.data.goes_on() and again:
                _Client(path, data, waiting, told)
    return {**told}


class _Client:
    def __init__(self, path: str, data: memoryview, waiting: selectors.DefaultSelector, told: dict[str, int]) -> None:
        self._rest, self._waiting, self._told = data, waiting, told
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.setblocking(False)
        told["connections"] += 1
        waiting.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def goes_on(self) -> bool:
        """Send and read what is possible now."""
        try:
            with suppress(BlockingIOError):
                if not self._socket.recv(LARGEST):
                    raise ConnectionResetError
            with suppress(BlockingIOError):
                if self._rest:
                    sent = self._socket.send(self._rest[:LARGEST])
                    self._told["sent"] += sent
                    self._rest = self._rest[sent:]
            if self._rest:
                return True
        except OSError:
            pass  # the daemon has closed it
        self._waiting.unregister(self._socket)
        self._socket.close()
        return False


class _Buffer(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr: where to is known, as the socket is connected."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("buffers_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr (sendmmsg(2))."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


def flood(address: str, a_second: float, seconds: float) -> dict[str, float]:
    """The strongest advert that a backup would believe, if its sender were a peer."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as raw:
        raw.connect((address, 0))
        source = IPv4Address(raw.getsockname()[0])
        data = pack(Advert(3, VRID, 255, 0.1, (FLOATING.ip,)), source, IPv4Address(address))
        return _repeat(raw, [data] * BATCH, a_second, seconds)


def forge(address: str, a_second: float, seconds: float, source: str) -> dict[str, float]:
    """A hello with a state, of the node that has the source, signed with another key."""
    state = link_wire.InstanceState(bytes(8), link_wire.Role.MASTER, 3, link_wire.InstanceFlag.READY)
    said = link_wire.Datagram(bytes(8), 1, 1, 100, link_wire.HelloFlag(0), instances=(state,))
    hello = link_wire.pack(said, b"not the key of these nodes")
    udp = struct.pack("!HHHH", LINK_PORT, LINK_PORT, 8 + len(hello), 0) + hello
    fixed = struct.pack("!BBHLBBH", 0x45, 0, 20 + len(udp), 0, 64, socket.IPPROTO_UDP, 0)
    ends = IPv4Address(source).packed + IPv4Address(address).packed
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.connect((address, 0))
        return _repeat(raw, [fixed + ends + udp] * BATCH, a_second, seconds)


def tcp(
    address: str, a_second: float, seconds: float, port: str, kind: str, device: str, ethernet: str
) -> dict[str, float]:
    """SYNs, or ACKs that belong to no connection, from addresses that lead nowhere. `ethernet`: their header (hex)."""
    # Few addresses: the whole machine has room for 1,024 neighbours.
    frames = [
        bytes.fromhex(ethernet)
        + tcp_packet((f"192.168.130.{1 + number % 200}", 1024 + number), (address, int(port)), kind)
        for number in range(STRANGERS)
    ]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        return _repeat(raw, frames, a_second, seconds)


def tcp_packet(source: tuple[str, int], destination: tuple[str, int], kind: str) -> bytes:
    """With its IP header."""
    ends = b"".join(IPv4Address(address).packed for address, _ in (source, destination))
    ports = struct.pack("!HH", source[1], destination[1])
    numbers = struct.pack("!II", source[1] * 40_000, 0 if kind == "syn" else 1)
    said = ports + numbers + struct.pack("!BBH", 5 << 4, SYN if kind == "syn" else ACK, 64_000)
    checksum = checksum_of(ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20) + said)  # RFC 9293 section 3.1
    fixed = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, socket.IPPROTO_TCP, 0)
    header = fixed[:10] + struct.pack("!H", checksum_of(fixed + ends)) + ends
    return header + said + struct.pack("!HH", checksum, 0)


def checksum_of(octets: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Packets:
    """To send many of them with few calls, over and over."""

    def __init__(self, sending: socket.socket, packets: Sequence[bytes]) -> None:
        """The socket knows where to."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._sending = sending
        self._count = len(packets)
        self._buffers = [_Buffer(data, len(data)) for data in packets]
        headers = [_Header(buffers=ctypes.pointer(each), buffers_count=1) for each in self._buffers]
        self._messages = (_Message * self._count)(*map(_Message, headers))
        self._next = 0

    def send(self) -> int:
        """A batch; how many were sent."""
        count = min(BATCH, self._count - self._next)
        begin = ctypes.byref(self._messages, self._next * ctypes.sizeof(_Message))
        self._next = (self._next + count) % self._count
        return max(0, int(self._libc.sendmmsg(self._sending.fileno(), begin, count, 0)))


def _repeat(raw: socket.socket, packets: Sequence[bytes], a_second: float, seconds: float) -> dict[str, float]:
    sending = Packets(raw, packets)
    return {"a_second": sum(sending.send() for _ in _pace(a_second / BATCH, seconds)) / seconds}


def delete(address: str, a_second: float, seconds: float) -> dict[str, float]:
    """Asks the kernel so often; only what was there counts."""
    netlink = rtnetlink.Netlink()
    request = rtnetlink.deletion(socket.if_nametoindex("lo"), ip_interface(address))
    found = [netlink.request([request]) == [0] for _ in _pace(a_second, seconds)]
    return {"asked": len(found), "deleted": sum(found)}


def freeze(times: int, length: float, seconds: float, pids: Sequence[int]) -> dict[str, float]:
    """Each process so often, one after the other."""
    longest = 0.0
    for turn, _ in enumerate(_pace(times * len(pids) / seconds, seconds)):
        stopped_at = time.monotonic()
        os.kill(pids[turn % len(pids)], signal.SIGSTOP)
        try:
            time.sleep(length)
        finally:
            os.kill(pids[turn % len(pids)], signal.SIGCONT)
        longest = max(longest, time.monotonic() - stopped_at)
    return {"longest": longest}


def _pace(a_second: float, seconds: float) -> Iterator[None]:
    """Once for each turn that is due; turns that are missed are made good."""
    began, turns = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        if (early := began + turns / a_second - now) > 0:
            time.sleep(early)
        turns += 1
        yield


def main() -> None:
    what, *rest = sys.argv[1:]
    began = time.monotonic()
    if what == "clients":
        path, line, number, size, seconds, again = rest
        told = clients(path, line, int(number), int(size), float(seconds), again == "again")
    elif what == "freeze":
        times, length, seconds, *pids = rest
        told = freeze(int(times), float(length), float(seconds), [int(pid) for pid in pids])
    else:
        address, a_second, seconds, *source = rest
        attacks: dict[str, Callable[..., dict[str, float]]] = {
            "flood": flood,
            "forge": forge,
            "tcp": tcp,
            "delete": delete,
        }
        told = attacks[what](address, float(a_second), float(seconds), *source)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**told, "began": began, "cpu": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main()
