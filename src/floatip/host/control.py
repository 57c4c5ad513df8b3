"""The control socket: one JSON object a line, in both directions. The kernel says who asks (SO_PEERCRED, unix(7)).

`{"cmd": "status"}` is answered once; `{"cmd": "watch"}` with the history so far and then each change as it happens;
both are for root and for the daemon's own user and group. `{"cmd": "notify", "state": "MASTER"}` is for root, for the
daemon's user, and for those named for it. Who may neither is sent away before he has asked. What is not a request is
counted and answered with an error and a hint; nothing else changes.
"""

import asyncio
import json
import os
import pwd
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from floatip.host.ask import ControlError, Record, encode

LONGEST_LINE = 65536
IDLE_TIMEOUT = 60.0
MOST_UNREAD = 1 << 20
"""A watcher that does not read is left behind when so many bytes wait for it."""
MOST_CLIENTS = 64
"""Of one user at a time: descriptors are few, and without one for the next client the daemon could not go on."""
SO_PEERGROUPS = 59


@dataclass(frozen=True, slots=True)
class Credentials:
    pid: int
    uid: int
    groups: frozenset[int]


Notified = Callable[[Record, int], Record]
"""What to do with a notify request and the pid that sent it: the answer."""


class Control:
    def __init__(self, path: Path, status: Callable[[], Record], history: Iterable[Record], notified: Notified) -> None:
        self.path = path
        self.status = status
        self.history = history
        self.notified = notified
        self.notifiers: frozenset[int] = frozenset()
        """Users besides root who may notify."""
        self.watchers: set[asyncio.Transport] = set()
        self.clients: Counter[int] = Counter()
        """By user."""
        self.rejected = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(self.path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Client(self), sock=listener)
        self.allow(self.notifiers)

    def allow(self, notifiers: frozenset[int]) -> None:
        """Whoever may only notify must reach the socket too; then the credentials alone decide."""
        self.notifiers = notifiers
        if self._server and self.path.exists():
            self.path.chmod(0o666 if notifiers - {0, os.geteuid()} else 0o660)

    def may_notify(self, who: Credentials) -> bool:
        return who.uid in {0, os.geteuid(), *self.notifiers}

    def may_ask(self, who: Credentials) -> bool:
        return who.uid in {0, os.geteuid()} or os.getegid() in who.groups

    def publish(self, record: Record) -> None:
        line = encode(record)
        for watcher in list(self.watchers):
            watcher.write(line)
            if watcher.get_write_buffer_size() > MOST_UNREAD:
                watcher.abort()

    def close(self) -> None:
        if self._server:
            self._server.close()
            self.path.unlink(missing_ok=True)
        for watcher in self.watchers:
            watcher.close()


class _Client(asyncio.Protocol):
    def __init__(self, control: Control) -> None:
        self._control = control
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._who = _credentials(transport.get_extra_info("socket"))
        self._wait()
        if not self._control.may_ask(self._who) and not self._control.may_notify(self._who):
            self._forbid("use this socket")
            transport.close()
        self._control.clients[self._who.uid] += 1
        if self._control.clients[self._who.uid] > MOST_CLIENTS:
            self._reject(f"user {self._who.uid} has {MOST_CLIENTS} connections already", "close some of them")
            transport.close()

    def _wait(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
        self._control.clients[self._who.uid] -= 1
        self._control.watchers.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._idle.cancel()
        if self._transport not in self._control.watchers:
            self._wait()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._answer(line)
        if len(self._buffer) > LONGEST_LINE:
            self._reject(f"a request is longer than {LONGEST_LINE} bytes")
            self._transport.close()

    def _answer(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return self._reject("a request is not JSON")
        match request:
            case {"cmd": "notify"} if not self._control.may_notify(self._who):
                self._forbid("notify")
            case {"cmd": "status" | "watch"} if not self._control.may_ask(self._who):
                self._forbid("ask for the status")
            case {"cmd": "notify"}:
                self._transport.write(encode(self._control.notified(request, self._who.pid)))
            case {"cmd": "status"}:
                self._transport.write(encode(self._control.status()))
            case {"cmd": "watch"}:
                self._idle.cancel()
                self._transport.writelines(encode(record) for record in self._control.history)
                self._control.watchers.add(self._transport)
            case _:
                self._reject("there is no such command")

    def _forbid(self, what: str) -> None:
        hint = "root may; [keepalived] script_user names who may notify, and the socket's group may ask for the status"
        # Not counted: any user may try, where all may connect, and that is no problem of this node.
        answer = {"error": f"user {self._who.uid} may not {what}", "hint": hint, "forbidden": True}
        self._transport.write(encode(answer))

    def _reject(self, what: str, hint: str = 'send {"cmd": "status"} or {"cmd": "watch"}, one a line') -> None:
        self._control.rejected += 1
        self._transport.write(encode({"error": what, "hint": hint}))


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
    )


def _is_zombie(pid: int) -> bool:
    """Its main thread has ended; another one hangs in the kernel, and with it the socket stays open for ever."""
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
    return ControlError(what, f"stop it; if `pgrep -a -u {owner} floatip` finds none: sudo rm {path}")
