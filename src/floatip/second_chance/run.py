"""What runs in the process, from its start to the end of the connection to the daemon."""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterable
from random import SystemRandom
from typing import Any

from floatip.core.malformed import Malformed
from floatip.core.second_chance.direct import NONCE, Pulse
from floatip.core.second_chance.machine import SecondChance
from floatip.core.second_chance.terms import (
    Admit,
    AnswerBy,
    CountPackets,
    Effect,
    ExpectProbes,
    Forward,
    HoldBack,
    ListSockets,
    Over,
    SendFrame,
    SendProbes,
    Standing,
    Tell,
    Wish,
)
from floatip.core.second_chance.wire import pack, parse
from floatip.second_chance import lines, probes, sockets
from floatip.second_chance.cannot import Cannot
from floatip.second_chance.lines import Configured
from floatip.second_chance.rules import Rules
from floatip.second_chance.surroundings import Surroundings
from floatip.second_chance.tunnel import Node, Tunnel
from floatip.serving import What, end, serve

VNI = 241
FIRST_RETRY, RETRY_INTERVAL = 0.1, 5.0
"""Seconds until what the kernel refused is tried again: somebody may have removed the device, and no more."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks at who listens, and at whether the kernel still has what it was given."""
SURROUNDINGS_INTERVAL = 0.2
FORGOTTEN_AFTER = 60.0
"""Seconds beyond the limit after which the kernel forgets a connection, if this process is not there to remove it."""


def run(connection: socket.socket) -> None:
    """What the kernel has stays there for a successor, unless the daemon says that it is the end."""
    asyncio.run(serve(connection, Process, lines.LARGEST * 2, _read))


def _read(packet: bytes, connection: socket.socket) -> Iterable[What]:
    return without_outdated(map(json.loads, [packet, *_waiting(connection)]))


def _waiting(connection: socket.socket) -> Iterable[bytes]:
    """What was sent as well meanwhile. The end of the connection is seen again."""
    with contextlib.suppress(BlockingIOError):
        while packet := connection.recv(lines.LARGEST * 2):
            yield packet


def without_outdated(told: Iterable[What]) -> Iterable[What]:
    """Wishes are the whole set each time: of several in a row the last one counts."""
    last: What | None = None
    for one in told:
        if last and not last[0] == one[0] == "wish":
            yield last
        last = one
    if last:
        yield last


class InKernel:
    """All that the kernel has of the second chance."""

    def __init__(self, configured: Configured) -> None:
        """Raises Cannot."""
        own, peers = _nodes(configured)
        self.tunnel = Tunnel.open(own, peers, configured.port, VNI)
        try:
            self.surroundings = Surroundings.open(self.tunnel.index)
            timeout = configured.limit + FORGOTTEN_AFTER
            self.seen = self.surroundings.read()
            self.rules = Rules.open(self.tunnel, configured.port, timeout, self.seen)
        except BaseException:
            self.tunnel.close()
            raise

    def configure(self, configured: Configured) -> None:
        _, peers = _nodes(configured)
        self.tunnel.configure(peers)
        self.rules.peers(peer.address for peer in peers)

    def look_around(self) -> None:
        self.seen = self.surroundings.read()
        self.rules.uplinks(self.seen.uplinks)
        self.rules.routes(self.seen.routes)

    def close(self) -> None:
        """Everything is removed, as far as that is possible."""
        self.surroundings.close()
        for part in (self.rules, self.tunnel):
            with contextlib.suppress(Cannot):
                part.close()


class Process:
    def __init__(self, daemon: socket.socket) -> None:
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(end)
        self._configured: Configured | None = None
        self._machine: SecondChance | None = None
        self._kernel: InKernel | None = None
        self._wishes: list[Wish] = []
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._answer_by: AnswerBy | None = None
        self._retry_after = FIRST_RETRY
        self._unsaid: bytes | None = None
        """How it stands, which the daemon has not read yet: only the last counts."""
        self._unsaid_ends: deque[bytes] = deque()
        """Each of them counts, and comes before how it stands then."""

    def told(self, what: list[Any]) -> None:
        match what:
            case ["configure", *fields]:
                self._configure(lines.configured(fields))
            case ["wish", told]:
                self._wishes = lines.wishes(told)
                if self._machine:
                    self._do(self._machine.wish(self._wishes, self._loop.time()))
            case ["end"]:
                if self._machine:
                    self._do(self._machine.leave(self._loop.time()))
                self._close_kernel()
                os._exit(0)

    def _configure(self, configured: Configured) -> None:
        before, self._configured = self._configured, configured
        names = [name for name, _ in configured.nodes]
        if before and before.opening == configured.opening and self._machine:
            self._machine.configure(names, configured.limit)
            if configured.may_be_direct != bool(self._machine.secret):
                self._machine.secret = _secret(configured)
                self._speak()
            self._do(self._machine.wish(self._wishes, self._loop.time()))  # before a node goes whose flows are there
            if self._kernel:
                try:
                    self._kernel.configure(configured)
                except Cannot as error:
                    self._fail(error)
        else:
            if self._machine:
                self._do(self._machine.unable("the tunnel is configured otherwise", "", self._loop.time()))
            self._close_kernel()
            boot = SystemRandom().getrandbits(63) | 1
            machine = configured.own, names, boot, configured.limit, self._loop.time(), _secret(configured)
            self._machine = SecondChance(*machine)
            self._open()
        self._do(self._machine.wish(self._wishes, self._loop.time()))

    # The kernel

    def _open(self) -> None:
        assert self._configured
        assert self._machine
        self._retry = None
        try:
            self._kernel = InKernel(self._configured)
            answers = self._kernel.tunnel.adopted_answers()
        except Cannot as error:
            self._fail(error)
            return
        rules = self._kernel.rules
        self._machine.adopt(rules.adopted(), rules.adopted_here(), answers)
        self._loop.add_reader(self._kernel.tunnel.fileno(), self._receive)
        self._loop.add_reader(self._kernel.surroundings.fileno(), self._look_around)
        if self._machine.why_not:
            self._do(self._machine.unable("", "", self._loop.time()))
        self._speak()
        self._look()

    def _fail(self, error: Cannot) -> None:
        """Nothing is forwarded then. It is tried again."""
        assert self._machine
        self._close_kernel()
        self._retry = self._retry or self._loop.call_later(self._retry_after, self._open)
        self._retry_after = RETRY_INTERVAL
        self._do(self._machine.unable(error.what, error.hint, self._loop.time()))

    def _close_kernel(self) -> None:
        kernel, self._kernel, self._answer_by = self._kernel, None, None
        for timer in (self._looking, self._retry):
            if timer:
                timer.cancel()
        self._looking = self._retry = None
        if kernel:
            for descriptor in (kernel.tunnel.fileno(), kernel.surroundings.fileno()):
                self._loop.remove_reader(descriptor)
            kernel.close()

    def _look_around(self) -> None:
        """A device, an address or a route has changed. Where that happens all the time, it is read now and then."""
        if not self._kernel:
            return
        try:
            self._kernel.look_around()
        except Cannot as error:
            self._fail(error)
            return
        self._speak()
        if not self._kernel:
            return
        descriptor = self._kernel.surroundings.fileno()
        self._loop.remove_reader(descriptor)
        self._loop.call_later(SURROUNDINGS_INTERVAL, self._follow, self._kernel)

    def _speak(self) -> None:
        if self._machine and self._machine.secret and self._kernel:
            self._do(self._machine.speak_from(self._kernel.seen.own, self._loop.time()))

    def _follow(self, kernel: InKernel) -> None:
        if self._kernel is kernel:
            self._loop.add_reader(kernel.surroundings.fileno(), self._look_around)

    def _look(self) -> None:
        """From time to time."""
        self._looking = self._loop.call_later(LOOK_INTERVAL, self._look_again)
        if not self._machine or not self._kernel:
            return
        without = dict(self._left_out())
        if without != self._machine.without:
            self._do(self._machine.leave_out(without, self._loop.time()))
        try:
            self._kernel.tunnel.repair()
        except Cannot as error:
            self._fail(error)
            return
        if self._answer_by and self._answer_by.nodes:
            self._do([self._answer_by])  # some programs remove rules that are not theirs

    def _look_again(self) -> None:
        self._retry_after = FIRST_RETRY  # it has worked for a while
        self._look()

    def _left_out(self) -> Iterable[tuple[str, str]]:
        addresses = frozenset(address for wish in self._wishes for address in wish.addresses)
        try:
            served, has_mptcp = sockets.listeners(addresses), sockets.has_mptcp(addresses)
        except OSError as error:
            yield from ((wish.instance, f"sockets cannot be listed: {error.strerror}") for wish in self._wishes)
            return
        for wish in self._wishes:
            if unserved := sorted(map(str, wish.addresses - served)):
                what = f"no program of this machine listens at {unserved[0]}: it may be in a container, behind NAT"
                yield wish.instance, what
            elif has_mptcp and sockets.has_mptcp(wish.addresses):
                yield wish.instance, "it has MPTCP connections, whose parts cannot be moved together"

    # The machine

    def _receive(self) -> None:
        assert self._machine
        assert self._configured
        if not self._kernel:
            return
        try:
            frames = self._kernel.tunnel.receive()
        except Cannot as error:
            self._fail(error)
            return
        for _, data in frames:
            with contextlib.suppress(Malformed):
                frame = parse(data, self._configured.keys)
                self._do(self._machine.heard(frame, self._loop.time()))

    def _tick(self) -> None:
        self._timer = None
        if self._machine:
            self._do(self._machine.tick(self._loop.time()))

    def _do(self, effects: list[Effect]) -> None:
        assert self._machine
        todo = list(effects)
        while todo:
            try:
                todo = [one for effect in todo for one in self._perform(effect)]
            except Cannot as error:
                self._fail(error)
                return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._machine.deadline, self._tick)

    def _perform(self, effect: Effect) -> list[Effect]:
        """What follows from it. Raises Cannot."""
        machine, kernel, configured = self._machine, self._kernel, self._configured
        assert machine
        assert configured
        match effect:
            case Tell(standing):
                self._say_standing(standing)
            case Over():
                self._say_over(effect)
            case _ if kernel is None:
                pass
            case SendFrame(node, frame):
                kernel.tunnel.send(node, pack(frame, configured.keys[0], kernel.tunnel.whole))
            case ListSockets(addresses):
                began = time.thread_time()  # a list is not dear because this process had to wait for a CPU
                try:
                    found, repeats = sockets.listed(addresses), sockets.repeats() if machine.secret else 0
                except OSError as error:
                    raise Cannot(f"connections cannot be listed: {error.strerror}", "modprobe tcp_diag") from error
                pulse = Pulse(found.waiting, found.stuck, repeats)
                return machine.listed(found.flows, time.thread_time() - began, self._loop.time(), pulse)
            case CountPackets():
                counts, seen = kernel.rules.counts(), kernel.rules.seen()
                return machine.counted(counts.forwarded, counts.answers, counts.accepted, self._loop.time(), seen)
            case Forward(add, remove):
                kernel.rules.moved(add, remove)
            case Admit(add, remove):
                kernel.rules.here(add, remove)
            case HoldBack(addresses):
                kernel.rules.hold(addresses)
            case ExpectProbes(expected):
                kernel.rules.expect(expected)
            case SendProbes(nonce, sources, to):
                if way := kernel.seen.way_out(to.version):
                    probes.send(nonce, sources, to, configured.port, way)
            case AnswerBy(nodes, direct):
                self._answer_by = effect
                kernel.tunnel.answer_by(nodes, direct)
        return []

    # The daemon

    def _say_standing(self, standing: Standing) -> None:
        self._unsaid = lines.of_standing(standing)
        self._flush()

    def _say_over(self, over: Over) -> None:
        self._unsaid_ends.append(lines.of_over(over))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsaid_ends:
                self._daemon.send(self._unsaid_ends[0])
                self._unsaid_ends.popleft()
            if self._unsaid is not None:
                self._daemon.send(self._unsaid)
                self._unsaid = None
            self._loop.remove_writer(self._daemon)
        except BlockingIOError:
            self._loop.add_writer(self._daemon, self._flush)
        except OSError:
            os._exit(0)


def _secret(configured: Configured) -> bytes:
    return SystemRandom().randbytes(NONCE) if configured.may_be_direct else b""


def _nodes(configured: Configured) -> tuple[Node, list[Node]]:
    nodes = {name: Node(name, address) for name, address in configured.nodes}
    own = nodes.pop(configured.own)
    return own, list(nodes.values())
