"""Runs the checks: scripts, TCP connects, files, processes. Each run ends in a `CheckDone`; no answer is a failure.

Scripts and connects answer a `Probe`; files and processes are pushed: they answer at the start and at each change.
Rise, fall and timing belong to the core.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from floatip.core.events import CheckDone, Event, Probe
from floatip.host.errors import in_words
from floatip.host.inotify import Inotify
from floatip.host.process import Process
from floatip.host.processes import ProcessWatch


@dataclass(frozen=True, slots=True)
class ScriptCheck:
    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TcpCheck:
    name: str
    host: str
    """An address, or `localhost`: a check must not hang on a name server."""
    port: int


@dataclass(frozen=True, slots=True)
class FileCheck:
    name: str
    path: Path
    fail_when: Literal["present", "absent"] = "present"


@dataclass(frozen=True, slots=True)
class ProcessCheck:
    name: str
    process: str
    """What `pgrep -x` finds, or the path of a pid file."""


Check = ScriptCheck | TcpCheck | FileCheck | ProcessCheck


class Probes:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._checks: dict[str, Check] = {}
        self._running: dict[str, Process] = {}
        self._inotify: Inotify | None = None
        self._watches: dict[ProcessCheck, ProcessWatch] = {}
        self._answers: dict[str, CheckDone] = {}

    def configure(self, checks: Iterable[Check]) -> None:
        self._checks = {check.name: check for check in checks}
        self._answers.clear()
        if self._inotify:
            self._inotify.close()
        self._watch()
        paths = [check.path for check in self._checks.values() if isinstance(check, FileCheck)]
        paths += [watch.pid_file for watch in self._watches.values() if watch.pid_file]
        self._inotify = Inotify(paths, self._look) if paths else None
        self._look()

    def run(self, probe: Probe) -> None:
        def done(passed: bool, reason: str) -> None:
            self._report(CheckDone(probe.check, probe.run, passed, reason))

        match self._checks.get(probe.check):
            case ScriptCheck(name, argv):
                previous = self._running.get(name)
                if previous and previous.running:
                    done(False, "the previous run has not ended yet")
                else:
                    self._running[name] = Process(argv, probe.timeout, done)
            case TcpCheck(_, host, port):
                _Connect(host, port, probe.timeout, done)
            case FileCheck() | ProcessCheck() as check:
                done(*self._verdict(check))
            case None:
                done(False, "there is no such check")

    def close(self) -> None:
        if self._inotify:
            self._inotify.close()
            self._inotify = None
        for watch in self._watches.values():
            watch.close()
        for process in self._running.values():
            process.kill()

    def _watch(self) -> None:
        """A reload forgets no process: one that has ended stays ended."""
        checks = {check for check in self._checks.values() if isinstance(check, ProcessCheck)}
        for check in self._watches.keys() - checks:
            self._watches.pop(check).close()
        for check in checks - self._watches.keys():
            self._watches[check] = ProcessWatch(check.process, self._answer)

    def _look(self) -> None:
        for watch in self._watches.values():
            if watch.pid_file:
                watch.look()
        self._answer()

    def _answer(self) -> None:
        for check in self._checks.values():
            if isinstance(check, FileCheck | ProcessCheck):
                answer = CheckDone(check.name, 0, *self._verdict(check))
                if self._answers.get(check.name) != answer:
                    self._answers[check.name] = answer
                    self._report(answer)

    def _verdict(self, check: FileCheck | ProcessCheck) -> tuple[bool, str]:
        if isinstance(check, ProcessCheck):
            return self._watches[check].verdict
        if self._inotify and check.path in self._inotify.blind:
            return False, f"cannot watch {check.path.parent}: {self._inotify.blind[check.path]}"
        try:
            check.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return check.fail_when != "absent", f"{check.path} does not exist"
        except OSError as error:
            return False, f"cannot look at {check.path}: {in_words(error.errno)}"
        return check.fail_when != "present", f"{check.path} exists"


class _Connect:
    """One TCP handshake, which is closed at once."""

    def __init__(self, host: str, port: int, timeout: float, done: Callable[[bool, str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = done
        try:
            address = ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            done(False, f"{host} is not an address")
            return
        self._socket = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        self._socket.setblocking(False)
        self._timer = self._loop.call_later(timeout, self._end, False, f"timed out after {timeout:g} s")
        self._conclude(self._socket.connect_ex((str(address), port)))

    def _writable(self) -> None:
        self._conclude(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _conclude(self, error: int) -> None:
        if error == errno.EINPROGRESS:
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._end(error == 0, in_words(error) if error else "connected")

    def _end(self, passed: bool, reason: str) -> None:
        self._timer.cancel()
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._done(passed, reason)
