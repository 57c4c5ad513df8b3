"""The client of connections: python -m floatip.lab.connections_process ADDRESS PORT LONG IDLE SHORT RATE.

LONG connections with a message each few milliseconds, IDLE long ones that say nothing until the end, SHORT ones a
second, and an upload and a download of RATE octets a second (0: none) to an `echo_process`. It writes a line `ready`
when all long ones are open, and on SIGTERM what became of each connection (JSON; `connections.Connections`).

One epoll loop on an absolute schedule, as the observer has it. A message is said when it is due, whether the one before
it has come back or not, unless the kernel takes no more. A connection that has ended is not opened again: what is
counted is what a move did to those that were open.
"""

import errno
import fcntl
import gc
import json
import math
import random
import select
import signal
import socket
import struct
import sys
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Literal

from floatip.lab.connections import (
    CLOSED,
    HANG,
    REFUSED,
    RESET,
    TIMED_OUT,
    WRONG_BYTES,
    Connections,
    Long,
    Short,
    Transfer,
    interval,
)
from floatip.lab.namespaces import Closes, LabError, allow_files

SIZE = 64
"""Octets of a message."""
OPENING = 256
"""Long connections that are opened at once."""
OPEN_WITHIN = 60.0
PATIENCE = 10.0
"""Seconds that a short connection takes at most, and a transfer from the end of its data to its digest."""
BATCH = 0.001
"""Seconds between two looks at what has come: one at a time would cost twice the CPU."""
TICK = 0.01
FILES = 50
"""Beside the connections."""
CHUNK = 16384
DIGEST = 32
WORDS = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.ETIMEDOUT: TIMED_OUT,
}
WHOLE = "whole"
"""The end of a transfer whose digest is right."""
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
BUFFER = 65536
SHORT_FROM = 1_000_000_000
"""The number of the first short one: no two connections say the same."""


@dataclass(slots=True, eq=False)
class _Open:
    """A connection, and what it must say next."""

    socket: socket.socket
    at: float
    """When it was begun."""
    number: int = 0
    who: bytes = b""
    unsent: bytes = b""
    ended_at: float = math.inf
    end: str = ""

    @property
    def is_open(self) -> bool:
        """The service has said its name."""
        return self.who.endswith(b"\n")

    def after_name(self, data: bytes) -> bytes:
        """What follows the node's name."""
        if not self.is_open:
            name, found, data = (self.who + data).partition(b"\n")
            self.who = name + found
        return data

    @property
    def name(self) -> str:
        return self.who.decode(errors="replace").strip()

    def send(self) -> None:
        if self.unsent:
            with suppress(BlockingIOError):
                self.unsent = self.unsent[self.socket.send(self.unsent) :]


@dataclass(slots=True, eq=False)
class _Echoed(_Open):
    said: deque[tuple[float, bytes]] = field(default_factory=deque)
    """What has not come back, and when it was said."""
    got: int = 0
    """Octets of the first of them that have come back."""
    count: int = 0
    """Of all that it said."""
    stall: float = 0.0
    stall_at: float = 0.0

    @property
    def waits_since(self) -> float:
        """inf: all has come back."""
        return self.said[0][0] if self.said else math.inf

    def say(self, now: float) -> None:
        message = (b"%010d %010d" % (self.number, self.count)).ljust(SIZE, b".")
        self.said.append((now, message))
        self.count += 1
        self.unsent += message
        self.send()

    def hear(self, data: bytes, now: float) -> bool:
        """Whether that is what was said."""
        while data:
            if not self.said:
                return False
            rest = self.said[0][1][self.got : self.got + len(data)]
            if not data.startswith(rest):
                return False
            data = data[len(rest) :]
            self.got += len(rest)
            if self.got == SIZE:
                self.account(now)
                self.said.popleft()
                self.got = 0
        return True

    def account(self, now: float) -> None:
        """Of the first one that has not come back."""
        if now - self.waits_since > self.stall:
            self.stall, self.stall_at = now - self.waits_since, self.waits_since

    def result(self) -> Long:
        echoed = self.count - len(self.said)
        return Long(self.number, self.name, self.at, self.ended_at, self.end, echoed, self.stall, self.stall_at)


@dataclass(slots=True, eq=False)
class _Moving(_Open):
    """A transfer."""

    way: Literal["upload", "download"] = "upload"
    arrived: int = 0
    """Octets at the other end: acknowledged, or received."""
    given: int = 0
    arrived_at: float = 0.0
    stall: float = 0.0
    stall_at: float = 0.0
    tail: bytes = b""
    """What may be the digest."""
    is_over: bool = False
    """This half has been closed."""
    digest: Any = field(default_factory=sha256)

    def progress(self, arrived: int, now: float) -> None:
        if now - self.arrived_at > self.stall:
            self.stall, self.stall_at = now - self.arrived_at, self.arrived_at
        if arrived > self.arrived:
            self.arrived, self.arrived_at = arrived, now

    def hear(self, data: bytes, now: float) -> None:
        data = self.tail + data
        if self.way == "download" and len(data) > DIGEST:
            self.digest.update(data[:-DIGEST])
            self.progress(self.arrived + len(data) - DIGEST, now)
        self.tail = data[-DIGEST:] if self.way == "download" else data

    def result(self) -> Transfer:
        end = "" if self.end == WHOLE else self.end
        return Transfer(self.way, self.name, end, self.arrived, self.stall, self.stall_at)


class Client(Closes):
    def __init__(
        self,
        address: str,
        port: int,
        *,
        long: int,
        short: float,
        idle: int = 0,
        rate: int = 0,
        pace: float | None = None,
    ) -> None:
        """`short`: a second. `pace`: seconds between two messages of one connection."""
        self._target = (address, port)
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._talking, self._short_rate, self._rate = long, short, rate
        self._count = long + idle
        self._pace = interval(long) if pace is None else pace
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Open] = {}
        self._long: list[_Echoed] = []
        self._short: dict[int, _Echoed] = {}
        """Those that are not over, by number, in the order in which they were begun."""
        self._transfers: list[_Moving] = []
        self._random = random.Random(1)
        self._done: list[Short] = []
        self._stopping = False

    def close(self) -> None:
        for one in self._by_fd.values():
            one.socket.close()
        self._by_fd.clear()
        self._epoll.close()

    def stop(self, *_: object) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stopping = True

    @property
    def over(self) -> int:
        """How many short ones have ended."""
        return len(self._done)

    @property
    def echoed(self) -> int:
        """Messages of the long ones."""
        return sum(one.count - len(one.said) for one in self._long)

    @property
    def ended(self) -> int:
        """How many long ones have."""
        return sum(bool(one.end) for one in self._long)

    @property
    def transferred(self) -> int:
        """Octets, by the transfer that has got least."""
        return min((one.arrived for one in self._transfers), default=0)

    def open(self) -> None:
        """The long ones and the transfers. Raises LabError."""
        deadline = time.monotonic() + OPEN_WITHIN
        ways: tuple[Literal["upload", "download"], ...] = ("upload", "download")
        self._transfers = [self._transfer(way) for way in ways if self._rate]
        opened = 0
        while opened < self._count or not all(one.is_open for one in self._transfers):
            for number in range(len(self._long), min(self._count, opened + OPENING)):
                one = _Echoed(self._socket(), time.monotonic(), number, unsent=b"echo\n")
                self._long.append(one)
                self._connect(one)
            self._receive(TICK)
            opened = sum(one.is_open for one in self._long)
            failed = next((one.end for one in (*self._long, *self._transfers) if one.end), "")
            if failed or time.monotonic() > deadline:
                why = failed or f"{opened} of {self._count} are open after {OPEN_WITHIN:g} s"
                raise LabError(f"cannot open the connections: {why}", "read the log of the service on the nodes")

    def _transfer(self, way: Literal["upload", "download"]) -> _Moving:
        now = time.monotonic()
        line = b"upload\n" if way == "upload" else b"download %d\n" % self._rate
        one = _Moving(self._socket(), now, unsent=line, way=way, arrived_at=now)
        self._connect(one)
        return one

    def run(self) -> Connections:
        """Until `stop`."""
        began = time.monotonic()
        for moving in self._transfers:
            moving.arrived_at = began
        slot = begun = 0
        moved = began
        while not self._stopping:
            now = time.monotonic()
            while self._talking and began + slot * self._pace / self._talking <= now:
                one = self._long[slot % self._talking]
                if not one.end and not one.unsent:
                    self._try(one, one.say, now)
                slot += 1
            while begun < (now - began) * self._short_rate:
                self._begin(SHORT_FROM + begun, now)
                begun += 1
            if now >= moved + TICK:
                moved = now
                for moving in self._transfers:
                    self._try(moving, self._go_on, moving, now - began)
                self._expire(now)
            time.sleep(BATCH)
            self._receive(0)
        self._finish()
        return self._result(time.monotonic())

    def _finish(self) -> None:
        """Learn the fate of all that has not been answered."""
        for one in self._long[self._talking :]:
            if not one.end:
                self._try(one, one.say, time.monotonic())
        until = time.monotonic() + PATIENCE
        while (now := time.monotonic()) < until and self._waits(now):
            for moving in self._transfers:
                if not moving.end and not moving.unsent and not moving.is_over:
                    moving.is_over = True
                    self._try(moving, moving.socket.shutdown, socket.SHUT_WR)
            self._expire(now)
            self._receive(TICK)

    def _waits(self, now: float) -> bool:
        """Whether any of them may still be answered in time."""
        waiting = any(one.waits_since <= now <= one.waits_since + HANG for one in self._long if not one.end)
        return waiting or bool(self._short) or any(not one.end for one in self._transfers)

    def _result(self, now: float) -> Connections:
        for one in self._long:
            if not one.end:
                one.account(now)
                one.ended_at = now
                if one.said:
                    one.end = TIMED_OUT
        for moving in self._transfers:
            if not moving.end:
                moving.end = TIMED_OUT
        return Connections(
            tuple(one.result() for one in self._long),
            tuple(self._done),
            tuple(one.result() for one in self._transfers),
        )

    def _socket(self) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_STREAM)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _connect(self, one: _Open) -> None:
        self._by_fd[one.socket.fileno()] = one
        self._epoll.register(one.socket, EVENTS)
        try:
            one.socket.connect(self._target)
        except BlockingIOError:
            return
        except OSError as problem:
            self._over(one, word(problem))

    def _begin(self, number: int, now: float) -> None:
        one = _Echoed(self._socket(), now, number, unsent=b"echo\n")
        self._short[number] = one
        self._connect(one)
        if not one.end:
            self._try(one, one.say, now)

    def _go_on(self, one: _Moving, seconds: float) -> None:
        if one.end:
            return
        if one.way == "upload":
            while not one.unsent and one.given + CHUNK <= seconds * self._rate:
                one.unsent = self._random.randbytes(CHUNK)
                one.digest.update(one.unsent)
                one.given += CHUNK
                one.send()
            one.progress(one.given - len(one.unsent) - unacknowledged(one.socket), time.monotonic())
        else:
            one.progress(one.arrived, time.monotonic())

    def _receive(self, seconds: float) -> None:
        found = self._epoll.poll(seconds, 4096)
        now = time.monotonic()
        for fd, event in found:
            if one := self._by_fd.get(fd):
                self._try(one, self._advance, one, event, now)

    def _try(self, one: _Open, act: Callable[..., object], *arguments: object) -> None:
        try:
            act(*arguments)
        except OSError as problem:
            self._over(one, word(problem))

    def _advance(self, one: _Open, event: int, now: float) -> None:
        one.send()
        # Edge-triggered: read until nothing is left.
        size = BUFFER
        while size == BUFFER or event & ENDED:
            try:
                data = one.socket.recv(BUFFER)
            except BlockingIOError:
                return
            if not data:
                self._over(one, self._closed(one))
                return
            size = len(data)
            rest = one.after_name(data)
            if rest and isinstance(one, _Moving):
                one.hear(rest, now)
            elif rest and isinstance(one, _Echoed):
                is_right = one.hear(rest, now)
                if not is_right or (not one.said and one.number in self._short):
                    self._over(one, "" if is_right else WRONG_BYTES)
                    return

    def _closed(self, one: _Open) -> str:
        if not isinstance(one, _Moving) or not self._stopping:
            return CLOSED
        return WHOLE if one.tail == one.digest.digest() else WRONG_BYTES

    def _over(self, one: _Open, end: str) -> None:
        """`end` is empty for a short one that was answered."""
        now = time.monotonic()
        one.end, one.ended_at = end, now
        self._by_fd.pop(one.socket.fileno(), None)
        one.socket.close()
        if isinstance(one, _Echoed):
            one.account(now)
            if self._short.pop(one.number, None):
                self._done.append(Short(one.at, now - one.at, one.name, end))

    def _expire(self, now: float) -> None:
        while self._short:
            first = next(iter(self._short.values()))
            if first.at + PATIENCE > now:
                return
            self._over(first, TIMED_OUT)


def unacknowledged(connection: socket.socket) -> int:
    """Octets that this kernel has, and the other one has not acknowledged (SIOCOUTQ)."""
    found: tuple[int] = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return found[0]


def word(problem: OSError) -> str:
    return WORDS.get(problem.errno or 0) or (problem.strerror or str(problem)).lower()


def lines(found: Connections) -> Iterator[str]:
    for kind, some in (("long", found.long), ("short", found.short), ("transfer", found.transfers)):
        for one in some:
            yield json.dumps({"event": kind, **asdict(one)})


def main() -> int:
    address, *numbers = sys.argv[1:]
    port, long, idle, short, rate = map(int, numbers)
    gc.disable()  # nothing here makes cycles
    try:
        allow_files(long + idle + int(short * PATIENCE) + FILES)
        with Client(address, port, long=long, idle=idle, short=short, rate=rate) as client:
            signal.signal(signal.SIGTERM, client.stop)
            client.open()
            print(json.dumps({"event": "ready"}), flush=True)
            print("\n".join(lines(client.run())))
    except LabError as problem:
        print(f"error: {problem}")
        return problem.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
