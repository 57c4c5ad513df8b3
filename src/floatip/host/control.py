"""The control socket: one JSON object a line, in both directions. The kernel says who asks (SO_PEERCRED, unix(7)).

`{"cmd": "status"}` is answered once; `{"cmd": "watch"}` with the history so far and then each change as it happens;
both are for root and for the daemon's own user and group. `{"cmd": "notify", "state": "MASTER"}` is for root and the
users named for it. What is not a request is counted and answered with an error and a hint; nothing else changes.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from floatip.host.ask import ControlError, Record, encode

LONGEST_LINE = 65536
IDLE_TIMEOUT = 60.0
MOST_UNREAD = 1 << 20
"""A watcher that does not read is left behind when so many bytes wait for it."""


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
        self.rejected = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _remove_stale(self.path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        self.allow(self.notifiers)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Client(self), sock=listener)

    def allow(self, notifiers: frozenset[int]) -> None:
        """Whoever may only notify must reach the socket too; then the credentials alone decide."""
        self.notifiers = notifiers
        if self.path.exists():
            self.path.chmod(0o666 if notifiers - {0, os.geteuid()} else 0o660)

    def objection(self, request: object, who: Credentials) -> str:
        """Why this one must not ask that; empty: he may."""
        is_notify = isinstance(request, dict) and request.get("cmd") == "notify"
        if who.uid in (0, os.geteuid()) or (is_notify and who.uid in self.notifiers):
            return ""
        if not is_notify and os.getegid() in who.groups:
            return ""
        return f"user {who.uid} may not {'notify' if is_notify else 'ask that'}"

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

    def _wait(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()
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
        if objection := self._control.objection(request, self._who):
            return self._reject(objection, "root may, and who [keepalived] script_user names may notify")
        match request:
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

    def _reject(self, what: str, hint: str = 'send {"cmd": "status"} or {"cmd": "watch"}, one a line') -> None:
        self._control.rejected += 1
        self._transport.write(encode({"error": what, "hint": hint}))


def ask(path: Path, request: Record, timeout: float = 3.0) -> Record:
    """One question, one answer; blocking, for the command line."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(encode(request))
            with client.makefile("rb") as lines:
                answer = json.loads(lines.readline())
    except (FileNotFoundError, ConnectionRefusedError):
        raise ControlError(f"no floatip daemon answers at {path}", "systemctl status floatip") from None
    except PermissionError:
        raise ControlError(f"not allowed to use {path}", "run it with sudo, or join the group of that file") from None
    except TimeoutError:
        raise ControlError(f"the floatip daemon at {path} does not answer", "systemctl status floatip") from None
    except (OSError, ValueError) as error:
        raise ControlError(f"no answer from {path}: {error}", "systemctl status floatip") from None
    assert isinstance(answer, dict)
    if "error" in answer:
        raise ControlError(answer["error"], answer["hint"])
    return answer


def _credentials(client: socket.socket) -> Credentials:
    pid, uid, gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
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
        except BlockingIOError:
            # A daemon whose backlog is full has not died.
            pid = 0
        else:
            pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    raise ControlError(
        f"floatip already runs with this runtime directory (pid {pid or 'unknown'})",
        f"stop it first, or set RUNTIME_DIRECTORY to another directory than {path.parent}",
    )
