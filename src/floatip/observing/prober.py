"""`floatip observe`: probe the floating address from a third machine and tell what is lost and which node answers.

Every `interval` it sends one ICMP echo and one request on a new connection. If both nodes hold the address, an echo
does not tell which node answered, so the request asks the service (`summary` says how a service names its node).

No slot is skipped: slots follow an absolute schedule, a late one is sent at once and its lateness is kept.
All times are `time.monotonic()`, so they compare with those of other processes on the same machine.
Limits: every result stays in memory (at 2 ms about 0.6 GB an hour); where the service leaves it to us to close the
connection, each one costs a local port for a minute, and the default range lasts for a minute of 500 requests a second.
"""

import errno
import gc
import math
import os
import resource
import select
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.core.vrrp.wire import checksum
from floatip.observing.report import FLUSH_INTERVAL, JsonReport, Report, TextReport
from floatip.observing.summary import (
    KINDS,
    RESET,
    TIMED_OUT,
    Answer,
    Kind,
    MoveDetector,
    ProbeResult,
    Summary,
    read_http,
    read_line,
)

RequestKind = Literal["http", "tcp", "none"]

LONGEST_ANSWER = 65536
SHORTEST_PAUSE = 0.1
"""Seconds between two turns of the loop above which the machine is taken to have paused."""
ERROR_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.ETIMEDOUT: TIMED_OUT,
    errno.EADDRNOTAVAIL: "no local port left",
}


class CannotObserve(Refusal):
    status = 2
    code = Why.CANNOT_OBSERVE


class Echoes:
    """One ICMP socket for all echoes. Ours are known by a random token, each by its sequence number (RFC 792, 4443)."""

    def __init__(self, family: int) -> None:
        self.request, self.reply = (128, 129) if family == socket.AF_INET6 else (8, 0)
        self.token = os.urandom(8)
        self.ident = int.from_bytes(os.urandom(2))
        # Never connected: a connected one would report an old ICMP error instead of sending the next echo.
        self.socket = _icmp_socket(family)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def pack(self, sequence: int) -> bytes:
        rest = struct.pack("!HH", self.ident, sequence) + self.token
        # For IPv6 the kernel overwrites the checksum, and for a ping socket the identifier too.
        return struct.pack("!BBH", self.request, 0, checksum(bytes((self.request, 0)) + rest)) + rest

    def parse(self, data: bytes) -> int | None:
        """The sequence number, if this is a reply to us; a raw IPv4 socket puts the IP header in front."""
        echo = data[-16:]
        if len(echo) < 16 or echo[0] != self.reply or echo[8:] != self.token:
            return None
        return int.from_bytes(echo[6:8])


def _icmp_socket(family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    try:
        return socket.socket(family, socket.SOCK_DGRAM, protocol)
    except OSError:
        pass
    try:
        return socket.socket(family, socket.SOCK_RAW, protocol)
    except PermissionError as problem:
        raise CannotObserve(
            "no permission to send ICMP echoes",
            "run as root (or with CAP_NET_RAW), or add your group to the sysctl net.ipv4.ping_group_range",
        ) from problem
    except OSError as problem:
        raise CannotObserve(
            f"cannot open an ICMP socket: {problem.strerror}",
            "check that this address family is enabled on this machine",
        ) from problem


@dataclass(slots=True, eq=False)
class Outstanding:
    """A probe on its way. A request stays until its connection is closed too."""

    kind: Kind
    at: float
    late: float
    away: float = 0.0
    """`Prober.away` when this was sent."""
    sequence: int = 0
    connection: socket.socket | None = None
    unsent: bytes = b""
    received: bytes = b""
    done: bool = False


@dataclass(slots=True)
class Prober:
    """One epoll loop. `queue` is in the order of sending, so only its head can be the next to time out."""

    target: tuple[Any, ...]
    family: int
    interval: float
    timeout: float
    count: float
    request: RequestKind
    message: bytes
    report: Report
    echoes: Echoes
    probes: list[ProbeResult] = field(default_factory=list)
    stops: int = 0
    epoll: select.epoll = field(default_factory=select.epoll)
    queue: deque[Outstanding] = field(default_factory=deque)
    by_sequence: dict[int, Outstanding] = field(default_factory=dict)
    by_fd: dict[int, Outstanding] = field(default_factory=dict)
    detector: MoveDetector = field(default_factory=MoveDetector)
    looked_at: float = math.inf
    away: float = 0.0
    """Seconds so far in which this process did not run."""

    def stop(self, *_: object) -> None:
        """First call: send no more and wait for what is outstanding. Second call: do not wait, and do not count it."""
        self.stops += 1

    def run(self, started_at: float) -> None:
        self.epoll.register(self.echoes.socket, select.EPOLLIN)
        slot = 0
        due_at = started_at
        while self.stops < 2:
            now = time.monotonic()
            while due_at <= now and slot < self.count and not self.stops:
                self._send_echo(slot % 65536, due_at)
                if self.request != "none":
                    self._send_request(due_at)
                slot += 1
                due_at = started_at + slot * self.interval
            sending = slot < self.count and not self.stops
            if not sending and not self.queue:
                break
            self._wait(due_at if sending else math.inf)
            now = time.monotonic()
            self._look(now)
            self._receive()
            # After receiving: an answer that waited in the socket came in time, even if this process is late.
            self._expire(now)
            self.report.settled(self.queue[0].at if self.queue else time.monotonic())

    def close(self) -> None:
        for outstanding in list(self.queue):
            self._close(outstanding)
        self.epoll.close()
        self.echoes.socket.close()

    def _look(self, now: float) -> None:
        """A long turn: the machine paused, and perhaps the service with it. That time counts against nobody."""
        pause = now - self.looked_at - FLUSH_INTERVAL
        if pause > SHORTEST_PAUSE:
            self.away += pause
        self.looked_at = now

    def _timeout_of(self, outstanding: Outstanding) -> float:
        return outstanding.at + self.timeout + self.away - outstanding.away

    def _wait(self, due_at: float) -> None:
        if self.queue:
            due_at = min(due_at, self._timeout_of(self.queue[0]))
        # epoll rounds up to 1 ms, half of the shortest interval; select does not.
        select.select([self.epoll], [], [], min(max(0.0, due_at - time.monotonic()), FLUSH_INTERVAL))

    def _send_echo(self, sequence: int, due_at: float) -> None:
        now = time.monotonic()
        outstanding = Outstanding("echo", now, now - due_at, self.away, sequence)
        self.queue.append(outstanding)
        self.by_sequence[sequence] = outstanding
        try:
            # A raw IPv6 socket refuses an address with a port.
            self.echoes.socket.sendto(self.echoes.pack(sequence), (self.target[0], 0, *self.target[2:]))
        except OSError as problem:
            self._finish(outstanding, Answer(error=_word(problem)))

    def _send_request(self, due_at: float) -> None:
        connection = socket.socket(self.family, socket.SOCK_STREAM)
        connection.setblocking(False)
        now = time.monotonic()
        outstanding = Outstanding("request", now, now - due_at, self.away, connection=connection, unsent=self.message)
        self.queue.append(outstanding)
        try:
            connection.connect(self.target)
        except BlockingIOError:
            pass
        except OSError as problem:
            self._fail(outstanding, problem)
            return
        self.by_fd[connection.fileno()] = outstanding
        self.epoll.register(connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def _receive(self) -> None:
        for fd, _ in self.epoll.poll(0, 4096):
            if fd == self.echoes.socket.fileno():
                self._receive_echoes()
            elif outstanding := self.by_fd.get(fd):
                self._advance(outstanding)

    def _receive_echoes(self) -> None:
        try:
            while True:
                sequence = self.echoes.parse(self.echoes.socket.recv(2048))
                if sequence is not None and (outstanding := self.by_sequence.get(sequence)):
                    self._finish(outstanding, Answer())
        except OSError:
            return

    def _advance(self, outstanding: Outstanding) -> None:
        connection = outstanding.connection
        assert connection is not None
        try:
            if outstanding.unsent:
                outstanding.unsent = outstanding.unsent[connection.send(outstanding.unsent) :]
            # Edge-triggered: read until nothing is left. Read until the service closes, too: who closes first keeps
            # the port in TIME_WAIT.
            while True:
                data = connection.recv(LONGEST_ANSWER)
                outstanding.received += data
                self._read(outstanding, ended=not data)
                if not data or len(outstanding.received) > LONGEST_ANSWER:
                    self._close(outstanding)
                    return
        except BlockingIOError:
            return
        except OSError as problem:
            self._fail(outstanding, problem)

    def _read(self, outstanding: Outstanding, *, ended: bool) -> None:
        if outstanding.done:
            return
        read = read_http if self.request == "http" else read_line
        answer = read(outstanding.received, ended or len(outstanding.received) > LONGEST_ANSWER)
        if answer is not None:
            too_late = time.monotonic() > outstanding.at + self.timeout and _was_sent_again(outstanding)
            self._finish(outstanding, Answer(error=TIMED_OUT) if too_late else answer)

    def _fail(self, outstanding: Outstanding, problem: OSError) -> None:
        self._finish(outstanding, Answer(error=_word(problem)))
        self._close(outstanding)

    def _expire(self, now: float) -> None:
        while self.queue:
            first = self.queue[0]
            too_late = first.at + self.timeout <= now and _was_sent_again(first)
            if self._timeout_of(first) > now and not too_late and (not first.done or first.connection is not None):
                return
            self.queue.popleft()
            self._finish(first, Answer(error=TIMED_OUT))
            self._close(first)

    def _finish(self, outstanding: Outstanding, answer: Answer) -> None:
        if outstanding.done:
            return
        outstanding.done = True
        if outstanding.kind == "echo":
            del self.by_sequence[outstanding.sequence]
        ok = answer.error is None
        rtt = time.monotonic() - outstanding.at if answer.error != TIMED_OUT else None
        sent = outstanding
        probe = ProbeResult(sent.kind, sent.at, ok, rtt, answer.who, answer.error, sent.late, answer.named_by)
        self.probes.append(probe)
        self.report.probe(probe)
        if move := self.detector.follow(probe):
            self.report.move(move)

    def _close(self, outstanding: Outstanding) -> None:
        if outstanding.connection is not None:
            self.by_fd.pop(outstanding.connection.fileno(), None)
            outstanding.connection.close()
            outstanding.connection = None


def _was_sent_again(outstanding: Outstanding) -> bool:
    """TCP repeats a lost SYN after a second, even while this process pauses: that request counts as lost."""
    if outstanding.connection is None:
        return False
    total_retrans = outstanding.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[100:]
    return any(total_retrans)


def _word(problem: OSError) -> str:
    return ERROR_WORDS.get(problem.errno or 0) or (problem.strerror or str(problem)).lower()


def observe(
    address: str,
    *,
    port: int = 80,
    interval: float = 0.1,
    timeout: float = 1.0,
    duration: float | None = None,
    count: int | None = None,
    as_json: bool = False,
    probes: bool = False,
    request: RequestKind = "http",
    path: str = "/",
) -> int:
    """0: nothing lost, 1: something lost. `count` and `duration` limit what is sent. Raises `CannotObserve`."""
    _check(interval, timeout, path)
    family, target = _resolve(address, port)
    echoes = Echoes(family)
    slots = math.inf if count is None else count
    if duration is not None:
        slots = min(slots, math.ceil(duration / interval - 1e-9))
    started_at = time.monotonic()
    report = JsonReport(probes=probes) if as_json else TextReport(started_at, interval)
    report.start(
        at=started_at,
        wall=time.time(),
        name=address,
        address=target[0],
        port=port,
        interval=interval,
        timeout=timeout,
        request=request,
    )
    message = _message(address, path) if request == "http" else b""
    prober = Prober(target, family, interval, timeout, slots, request, message, report, echoes)
    try:
        with _undisturbed(prober):
            prober.run(started_at)
    finally:
        prober.close()
    summary = Summary.from_probes(prober.probes)
    report.summary(summary)
    return 1 if any(summary.lost(kind) for kind in KINDS) else 0


@contextmanager
def _undisturbed(prober: Prober) -> Iterator[None]:
    previous = {number: signal.signal(number, prober.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    # A collection among a million kept probes would cost slots; nothing here makes cycles.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _resolve(address: str, port: int) -> tuple[int, tuple[Any, ...]]:
    """A name is resolved once: what is observed must not change on the way."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        reason = (problem.strerror if isinstance(problem, OSError) else "") or "not a host name"
        hint = "give the floating IP without its prefix length, or a name that resolves to it"
        raise CannotObserve(f"cannot resolve {address}: {reason}", hint) from problem
    return found[0][0], found[0][4]


def _check(interval: float, timeout: float, path: str) -> None:
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise CannotObserve(f"path {path!r} is not a path", "begin it with / and percent-encode it, as in /health")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = math.ceil(timeout / interval) + 100
    if needed > hard:
        raise CannotObserve(
            f"{needed} open files are needed, {hard} allowed",
            "give a shorter timeout, or raise the limit with ulimit -n",
        )
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _message(address: str, path: str) -> bytes:
    """HTTP/1.0, so that no answer comes in chunks."""
    host = f"[{address}]" if ":" in address else address
    return f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: floatip\r\nConnection: close\r\n\r\n".encode()
