"""What an attacker does, in a process of its own, so that the one that measures stays free.

python -m bench.attackers clients PATH LINE NUMBER BYTES SECONDS AGAIN
python -m bench.attackers flood ADDRESS A_SECOND SECONDS
python -m bench.attackers delete ADDRESS A_SECOND SECONDS

It prints one JSON object: what it reached, when it began, and the CPU time that it took.
"""

import ctypes
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, ip_interface

from floatip import rtnetlink
from floatip.core.vrrp.wire import PROTOCOL, Advert, pack
from floatip.lab.network import FLOATING

VRID = 51
BATCH = 100
LARGEST = 1 << 18


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
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as raw:
        raw.connect((address, 0))
        source = IPv4Address(raw.getsockname()[0])
        data = pack(Advert(3, VRID, 255, 0.1, (FLOATING.ip,)), source, IPv4Address(address))
        buffer = _Buffer(data, len(data))
        message = _Message(_Header(buffers=ctypes.pointer(buffer), buffers_count=1))
        messages = (_Message * BATCH)(*[message] * BATCH)
        sent = sum(max(0, libc.sendmmsg(raw.fileno(), messages, BATCH, 0)) for _ in _pace(a_second / BATCH, seconds))
    return {"a_second": sent / seconds}


def delete(address: str, a_second: float, seconds: float) -> dict[str, float]:
    """Asks the kernel so often; only what was there counts."""
    netlink = rtnetlink.Netlink()
    request = rtnetlink.deletion(socket.if_nametoindex("lo"), ip_interface(address))
    found = [netlink.request([request]) == [0] for _ in _pace(a_second, seconds)]
    return {"asked": len(found), "deleted": sum(found)}


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
    else:
        attack = {"flood": flood, "delete": delete}[what]
        told = attack(rest[0], float(rest[1]), float(rest[2]))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**told, "began": began, "cpu": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main()
