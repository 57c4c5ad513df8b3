"""The HTTP process as it runs, beside a control socket that a test plays the daemon's part of."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from floatip.core.state import InstanceView, Standing, Status, as_data
from floatip.host.ask import Record
from floatip.host.control import Command, Control

PORT = 8179
LIMIT = 30.0
"""Seconds after which a test gives up."""
WELL = Standing("up", 5.0, "all checks are up")
INSTANCE = InstanceView(
    "VI_1",
    Standing("master", 5.0, "no other"),
    WELL,
    Standing("active", 5.0, ""),
    None,
    "nodes",
    None,
    None,
    {},
    None,
    (),
    0,
)
STATUS = Status(
    "", False, (INSTANCE,), (), (), None, (), {}, (), version="1", host="h1", time="2026-01-01T00:00:00.000+00:00"
)


class Daemon:
    """The real control socket, in a thread; what it answers is the test's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status: Status = STATUS
        self.asked: list[Record] = []
        """Without the questions for the status."""
        self.questions = 0
        """For the status."""
        self.order: Callable[[Record], Record] = lambda request: {"done": True, "result": "well", "order": 1}
        self._go_on = threading.Event()
        self._go_on.set()
        self._history: list[Record] = []
        self._loop = asyncio.new_event_loop()
        verbs = "drain", "undrain", "pause", "resume", "handover"
        commands = {verb: Command(self._order, verb) for verb in verbs}
        commands["status"] = Command(self._answer, "ask")
        self._control: Control
        self._thread = threading.Thread(target=self._run, args=(commands,), daemon=True)
        self._thread.start()
        until(path.exists)

    def _run(self, commands: dict[str, Command]) -> None:
        self._control = Control(self.path, commands, lambda: self._history, lambda error: None)
        self._loop.run_until_complete(self._control.start())
        self._loop.run_forever()

    def _answer(self, request: Record, pid: int) -> Record:
        self.questions += 1
        self._go_on.wait()
        answer: Record = as_data(self.status)
        return answer

    def _order(self, request: Record, pid: int) -> Record:
        self.asked.append(request)
        return self.order(request)

    def tell(self, value: str, reason: str = "because") -> None:
        """A change."""
        record: Record = {
            "at": time.monotonic(),
            "time": "2026-01-01T00:00:00.000+00:00",
            "what": "role",
            "name": "VI_1",
            "value": value,
            "reason": reason,
        }
        self._history.append(record)
        self._loop.call_soon_threadsafe(self._control.publish, record)

    @property
    def is_watched(self) -> bool:
        return bool(self._control.watchers)

    def drop_watchers(self) -> None:
        for watcher in list(self._control.watchers):
            self._loop.call_soon_threadsafe(watcher.abort)
        until(lambda: not self.is_watched)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        self._go_on.clear()
        try:
            yield
        finally:
            self._go_on.set()

    def close(self) -> None:
        self._go_on.set()
        self._loop.call_soon_threadsafe(self._control.close)
        until(lambda: not self._control.clients.total() and not self._control._opening)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()


class Web:
    """The process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemon = Daemon(directory / "floatip.sock")
        self.log = directory / "log"
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(LIMIT)
        self._told = self._ours.makefile("rb")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-SsPB", "-m", "floatip.web"],
                stdin=theirs.fileno(),
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        theirs.close()

    def tell(self, **settings: Any) -> list[list[str]]:
        """Configures it; what it says that fails."""
        known = {"listen": [("127.0.0.1", PORT)], "hosts": [], "control": self.daemon.path, "history": self.directory}
        files = dict.fromkeys(("token", "tls_certificate", "tls_key", "client_ca"))
        self._ours.sendall(json.dumps({**files, **known, **settings}, default=str).encode() + b"\n")
        return self.told()

    def told(self) -> list[list[str]]:
        """What it says next that fails."""
        failing: list[list[str]] = json.loads(self._told.readline())
        return failing

    def make_token(self, token: str = "0123456789abcdef") -> Path:
        path = self.directory / "token"
        path.write_text(f"{token}\n")
        return path

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def memory(self) -> int:
        """KiB of its own."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))

    def hang_up(self) -> int:
        """As a daemon that is killed does; its exit status."""
        self._told.close()
        self._ours.close()
        return self.process.wait(LIMIT)

    def close(self) -> None:
        self.hang_up()
        self.daemon.close()
        assert "Traceback" not in self.log.read_text(), self.log.read_text()


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def connect(port: int = PORT, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), LIMIT)


class Answered:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def raw(request: bytes, *, host: str = "127.0.0.1") -> Answered:
    """What comes back until the end of the connection."""
    with connect(host=host) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                answer += data
    return Answered(answer)


def request(path: str, method: str = "GET", body: bytes = b"", /, *, to: str = "127.0.0.1", **headers: str) -> Answered:
    """Of the headers' names, "_" is "-"."""
    sent = {"Host": f"localhost:{PORT}", "Connection": "close"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    if method == "POST":
        sent.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value), "", ""]
    return raw("\r\n".join(lines).encode() + body, host=to)


class Stream:
    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self._lines = client.makefile("rb")
        self.last_id = ""

    def close(self) -> None:
        """Else the client would stay open."""
        self._lines.close()

    def head(self) -> Answered:
        lines = []
        while (line := self._lines.readline()) not in (b"\r\n", b""):
            lines.append(line)
        return Answered(b"".join(lines))

    def next(self, name: str) -> Any:
        """The data of the next event of that name."""
        event: dict[str, str] = {}
        while event.get("event") != name:
            event = self._event()
        return json.loads(event["data"])

    def _event(self) -> dict[str, str]:
        event: dict[str, str] = {}
        while (text := self._line()) or not event:
            if text:
                key, _, value = text.partition(": ")
                event[key] = value
        self.last_id = event.get("id", self.last_id)
        return event

    def _line(self) -> str:
        """Of the body. Each chunk has whole lines, and its size is a line of its own."""
        while True:
            line = self._lines.readline()
            assert line.endswith(b"\n"), "the stream has ended"
            if not line.endswith(b"\r\n"):
                return line[:-1].decode()


@contextlib.contextmanager
def events(after: str = "") -> Iterator[Stream]:
    with connect() as client:
        again = f"Last-Event-ID: {after}\r\n" if after else ""
        client.sendall(f"GET /events HTTP/1.1\r\nHost: localhost\r\n{again}\r\n".encode())
        with contextlib.closing(Stream(client)) as stream:
            assert stream.head().status == 200
            yield stream
