"""The control socket: one JSON object a line, in both directions. The kernel says who asks (SO_PEERCRED, unix(7)).

`{"cmd": "status"}` is answered once; `{"cmd": "figures"}` with what was counted; `{"cmd": "watch"}` with the history so
far and then each change as it happens; they are for root and for the daemon's own user and group.
`{"cmd": "notify", "state": "MASTER"}` is for root, for the daemon's user, and for those named for it. Other users are
refused when they connect. What is not a request is counted, answered with an error and a hint, and ends the connection.

However many clients send however much, they get about a tenth of a core: the unit makes the loop a real-time thread,
which nobody must be able to keep busy. Clients take turns, a request each, and have none while they do not read their
answers.
"""

import asyncio
import json
import math
import os
import pwd
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from floatip.core.diagnosis import MATTERS
from floatip.core.problems import Code, Problem
from floatip.core.refusals import Why
from floatip.host.ask import ControlError, Record, encode
from floatip.host.network.slices import Slice

LONGEST_LINE = 65536
IDLE_TIMEOUT = 60.0
MOST_UNREAD = 1 << 20
"""A watcher that does not read is left behind when so many bytes wait for it."""
MOST_CLIENTS = 64
"""Of one user at a time: descriptors are few, and without one for the next client the daemon could not go on."""
MOST_IN_ALL = 256
READ_AT_ONCE = 4096
"""Bytes of one client: asyncio alone would take 256 KiB of each."""
ACCEPTED_AT_ONCE, ACCEPT_PAUSE = 8, 0.02
NO_DESCRIPTOR_PAUSE = 1.0
REST = 9
"""How many times as long as answers took none is given."""
BACKLOG = 100
"""Connections that the kernel keeps until they are accepted; for more of them, `ask` waits."""
SO_PEERGROUPS = 59


@dataclass(frozen=True, slots=True)
class Credentials:
    pid: int
    uid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Held:
    """The answer to a request that lasts as long as its connection."""

    answer: Record
    end: Callable[[], None] | None = None
    """What the end of the connection does; None: the request is done with."""


@dataclass(frozen=True, slots=True)
class Command:
    answer: Callable[[Record, int], Record | str]
    """Takes the request and the pid of the sender; the text of an answer is sent as it is."""
    verb: str
    """What a user may not who is refused."""
    is_for_notifiers: bool = False
    """Else it is for those who may ask for the status."""
    prepare: Callable[[Callable[[], None]], None] = lambda answer: answer()
    """Calls back as soon as the request can be answered."""
    think: Callable[[Record, Callable[[Callable[[], Record]], None]], None] | None = None
    """Instead of `prepare`: takes the request, and calls back with what gives the answer."""
    hold: Callable[[Record, Credentials], Held] | None = None
    """Instead of `answer`; for root and the daemon's user alone."""


class Control:
    def __init__(
        self,
        path: Path,
        commands: Mapping[str, Command],
        history: Callable[[], Iterable[Record]],
        cannot_accept: Callable[[OSError], None],
    ) -> None:
        """`history`: what a watcher gets first. `cannot_accept` is called once a second while that lasts."""
        self.path = path
        self.commands = commands
        self.history = history
        self.cannot_accept = cannot_accept
        self.notifiers: frozenset[int] = frozenset()
        """Users besides root who may notify."""
        self.watchers: set[asyncio.Transport] = set()
        self.clients: Counter[int] = Counter()
        """By user."""
        self.rejected = 0
        self.rejected_at = -math.inf
        self.read = memoryview(bytearray(READ_AT_ONCE))
        """Where the bytes of every client arrive."""
        self._turns: dict[_Client, None] = {}
        """Clients with a request, in order."""
        self._next_turn: asyncio.Handle | None = None
        self._rest_until = 0.0
        self._listener: socket.socket | None = None
        self._inode = 0
        self._next_accept: asyncio.Handle | None = None
        self._opening: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(self.path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(str(self.path))
        self._inode = self.path.stat().st_ino
        self._listener.listen(BACKLOG)
        self._listen()
        self.allow(self.notifiers)

    def _listen(self) -> None:
        assert self._listener
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """A few clients, and then none for a moment (asyncio's own server takes all that wait)."""
        assert self._listener
        loop, pause = asyncio.get_running_loop(), ACCEPT_PAUSE
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                client, _ = self._listener.accept()
                client.setblocking(False)
                task = loop.create_task(loop.connect_accepted_socket(lambda: _Client(self), client))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
        except BlockingIOError:
            pass  # these were all
        except OSError as error:
            self.cannot_accept(error)
            pause = NO_DESCRIPTOR_PAUSE
        loop.remove_reader(self._listener)
        self._next_accept = loop.call_later(pause, self._listen)

    def allow(self, notifiers: frozenset[int]) -> None:
        """Whoever may only notify must reach the socket too; then the credentials alone decide."""
        self.notifiers = notifiers
        if self._listener and self.path.exists():
            self.path.chmod(0o666 if notifiers - {0, os.geteuid()} else 0o660)

    def may_notify(self, who: Credentials) -> bool:
        return who.uid in {0, os.geteuid(), *self.notifiers}

    def may_ask(self, who: Credentials) -> bool:
        return who.uid in {0, os.geteuid()} or os.getegid() in who.groups

    def may_hold(self, who: Credentials) -> bool:
        return who.uid in {0, os.geteuid()}

    def problems(self, now: float) -> list[Problem]:
        """Requests that were not understood lately."""
        if now >= self.rejected_at + MATTERS:
            return []
        what = f"requests on the control socket that were not understood: {self.rejected}"
        hint = "find out who writes to it: ss -xp | grep floatip"
        return [Problem(Code.CONTROL_MISUSE, "control socket", what, hint, since=self.rejected_at)]

    def publish(self, record: Record) -> None:
        if not self.watchers:
            return
        line = encode(record)
        for watcher in list(self.watchers):
            watcher.write(line)
            if watcher.get_write_buffer_size() > MOST_UNREAD:
                watcher.abort()

    def line_up(self, client: "_Client") -> None:
        self._turns[client] = None
        if not self._next_turn:
            self._next_turn = asyncio.get_running_loop().call_at(self._rest_until, self._answer)

    def leave(self, client: "_Client") -> None:
        self._turns.pop(client, None)

    def _answer(self) -> None:
        """For one slice. CPU time counts: a daemon that was suspended meanwhile owes no rest."""
        loop = asyncio.get_running_loop()
        part, began = Slice(), time.thread_time()
        while self._turns:
            client = next(iter(self._turns))
            del self._turns[client]
            client.answer()
            if part.is_over:
                break
        self._rest_until = loop.time() + REST * (time.thread_time() - began)
        self._next_turn = loop.call_at(self._rest_until, self._answer) if self._turns else None

    def close(self) -> None:
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            # systemd removes the directory of a unit that ends, and the socket there may be a successor's by now.
            with suppress(OSError):
                if self.path.stat().st_ino == self._inode:
                    self.path.unlink()
        if self._next_accept:
            self._next_accept.cancel()
        for watcher in self.watchers:
            watcher.close()


class _Client(asyncio.BufferedProtocol):
    def __init__(self, control: Control) -> None:
        self._control = control
        self._buffer = bytearray()
        self._is_full = False
        """Whether answers wait that the client does not read."""
        self._is_waiting = False
        """Whether a request is being prepared; those that follow wait for its answer."""
        self._prepared: Callable[[], Record | str] | None = None
        """Gives the answer that has been prepared."""
        self._ends: list[Callable[[], None]] = []
        """What lasts as long as the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._who = _credentials(transport.get_extra_info("socket"))
        self._wait()
        if not self._control.may_ask(self._who) and not self._control.may_notify(self._who):
            self._forbid("use this socket")
            transport.close()
        self._control.clients[self._who.uid] += 1
        if self._control.clients[self._who.uid] > MOST_CLIENTS or self._control.clients.total() > MOST_IN_ALL:
            self._reject(f"user {self._who.uid}, or all together, have too many connections", "close some of them")

    def _wait(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        self._control.clients[self._who.uid] -= 1
        self._control.watchers.discard(self._transport)
        self._control.leave(self)
        for end in self._ends:
            end()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._go_on()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._control.read

    def buffer_updated(self, nbytes: int) -> None:
        self._idle.cancel()
        if self._transport not in self._control.watchers and not self._ends:
            self._wait()
        self._buffer += self._control.read[:nbytes]
        self._go_on()

    def _go_on(self) -> None:
        """To the next answer if there is one to give, and nothing more is read before it; or else read on."""
        if self._transport.is_closing():
            return
        if self._prepared or self._is_waiting or b"\n" in self._buffer:
            self._transport.pause_reading()
            if self._prepared or not (self._is_full or self._is_waiting):
                self._control.line_up(self)
        elif len(self._buffer) > LONGEST_LINE:
            self._reject(f"a request is longer than {LONGEST_LINE} bytes")
        else:
            self._transport.resume_reading()

    def answer(self) -> None:
        """It is this client's turn: the answer that has been prepared, or the next request."""
        if self._transport.is_closing():
            return
        if not self._prepared and not self._is_full:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._answer(bytes(line))
        if self._prepared:
            answer, self._prepared = self._prepared, None
            self._transport.write(encode(answer()))
            self._control.leave(self)
        self._go_on()

    def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return self._reject("a request is not JSON")
        name = request.get("cmd") if isinstance(request, dict) else None
        if name == "watch":
            return self._watch()
        command = self._control.commands.get(name) if isinstance(name, str) else None
        if command is None:
            return self._reject("there is no such command")
        may = self._control.may_notify if command.is_for_notifiers else self._control.may_ask
        if command.hold:
            may = self._control.may_hold
        if not may(self._who):
            return self._forbid(command.verb)
        if command.hold:
            return self._hold(command.hold(request, self._who))
        self._is_waiting = True
        if command.think:
            command.think(request, self._can_tell)
            return
        command.prepare(partial(self._can_tell, partial(command.answer, request, self._who.pid)))

    def _can_tell(self, answer: Callable[[], Record | str]) -> None:
        self._is_waiting, self._prepared = False, answer
        self._control.line_up(self)

    def _watch(self) -> None:
        if not self._control.may_ask(self._who):
            return self._forbid("ask for the status")
        self._idle.cancel()
        if self._transport not in self._control.watchers:
            self._control.watchers.add(self._transport)
            self._transport.writelines(encode(record) for record in self._control.history())

    def _hold(self, held: Held) -> None:
        if held.end:
            self._ends.append(held.end)
            self._idle.cancel()
        self._transport.write(encode(held.answer))

    def _forbid(self, what: str) -> None:
        hint = "root may; [keepalived] script_user names who may notify, and the socket's group may ask for the status"
        # Not counted: any user may try, where all may connect, and that is no problem of this node.
        answer = {"error": f"user {self._who.uid} may not {what}", "hint": hint, "forbidden": True}
        self._transport.write(encode(answer))

    def _reject(self, what: str, hint: str = 'send {"cmd": "status"} or {"cmd": "watch"}, one a line') -> None:
        self._control.rejected += 1
        self._control.rejected_at = asyncio.get_running_loop().time()
        self._transport.write(encode({"error": what, "hint": hint}))
        self._transport.close()


def _credentials(client: socket.socket) -> Credentials:
    pid, uid, gid = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        groups = client.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:  # more than 256 of them
        groups = b""
    return Credentials(pid, uid, frozenset({gid, *struct.unpack(f"{len(groups) // 4}I", groups)}))


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink()
            return
        except PermissionError:
            raise _of_another_user(path) from None
        except BlockingIOError:
            # A daemon whose backlog is full has not died.
            pid = 0
        else:
            pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if _is_zombie(pid):
        path.unlink()
        return
    raise ControlError(
        f"floatip already runs with this runtime directory (pid {pid or 'unknown'})",
        f"stop it first, or set RUNTIME_DIRECTORY to another directory than {path.parent}",
        Why.ALREADY_RUNS,
    )


def _is_zombie(pid: int) -> bool:
    """Its main thread has ended; another one hangs in the kernel, and keeps the socket open."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
    except OSError:  # in another namespace, or hidden from us
        return False


def _of_another_user(path: Path) -> ControlError:
    uid = path.lstat().st_uid
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    what = f"a floatip of user {owner} already runs with this runtime directory, or has left {path} behind"
    return ControlError(what, f"stop it; if `pgrep -a -u {owner} floatip` finds none: sudo rm {path}", Why.ALREADY_RUNS)
