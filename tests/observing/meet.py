"""An observer as it runs, a service that it probes, and a wire that a test holds."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from floatip.drill.observation import Target

LIMIT = 60.0
"""Seconds after which a test fails."""
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def wait_for(true: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


def key_file(directory: Path, *keys: bytes, name: str = "key") -> Path:
    file = directory / name
    file.touch(0o600)
    file.write_text("".join(f"{key.hex()}\n" for key in keys or (KEY,)))
    return file


class Observer:
    """`floatip observe --join`, and what it prints."""

    def __init__(self, key: Path, *options: str, before: Sequence[str] = (), address: str = "127.0.0.1:0") -> None:
        """`before`: what runs the command."""
        # A directory of its own: a daemon that may run on this machine is none of the test's.
        environment = os.environ | {"RUNTIME_DIRECTORY": str(key.parent), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "floatip", "observe", "--join", address, "--key", str(key), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.until("is recorded")
        self.port = int(self.text.partition("TCP port ")[2].partition(",")[0])

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def until(self, said: str) -> None:
        """It has said this, or will."""
        wait_for(lambda: said in self.text or not self._reader.is_alive(), lambda: f"{said!r} is not in {self.text!r}")
        assert said in self.text

    def probers(self) -> list[int]:
        """The processes that probe for it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return list(map(int, children.read_text().split())) if children.exists() else []

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return status


@contextmanager
def observing(key: Path, *options: str, **how: Any) -> Iterator[Observer]:
    observer = Observer(key, *options, **how)
    try:
        yield observer
    finally:
        if observer.process.poll() is None:
            observer.stop(signal.SIGKILL)
        assert observer.process.stdout
        observer.process.stdout.close()


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-Node", "haproxy1")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Service(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.asked: list[float] = []
        """When, by the monotonic clock."""
        super().__init__((address, 0), _Answer)

    def get_request(self) -> Any:
        """In the order in which they were sent."""
        request = super().get_request()
        self.asked.append(time.monotonic())
        return request

    def target(self, interval: float = 0.02) -> Target:
        host, port = self.server_address[:2]
        return Target(str(host), port, "http", interval)


@contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[Service]:
    service = Service(address)
    thread = threading.Thread(target=service.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        thread.join(LIMIT)
        service.server_close()


def ended(wire: socket.socket) -> bytes:
    """What comes until the other end closes."""
    wire.settimeout(LIMIT)
    data = b""
    try:
        while more := wire.recv(65536):
            data += more
    except ConnectionError:
        pass
    return data
