"""A process that somebody else started, known by name or by pid file, and watched by a pidfd: its end is told at once.

When it ends a successor is looked for at once (a reload of HAProxy replaces its worker), and while there is none, twice
a second. Nothing is polled while it lives, but a pid file, once a second. Of several with one name the oldest is
watched: a child that is about to execute something else still has its parent's name.

After the process in a pid file has ended, the check stays down until the pid file is rewritten: the pid may be another
process's by now.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from floatip.host import pidfd
from floatip.host.checks.kind import Means, Report, Unasked
from floatip.model import Process

LOOK_AGAIN_INTERVAL = 0.5
PID_MAX = 1 << 22

Written = tuple[bytes, int, int]
"""The content of a file, its inode and its mtime: written again, it differs."""


@dataclass(frozen=True, slots=True)
class _Found:
    passed: bool
    reason: str
    pidfd: int = -1
    """Of a process that was not watched so far."""
    written: Written | None = None
    """The pid file that names it; without a pidfd: one that names a process that has ended."""


class ProcessRunner(Unasked[_Found]):
    def __init__(self, kind: Process, report: Report, means: Means) -> None:
        self._name = kind.process
        self._watch: pidfd.Watch | None = None
        self._named: Written | None = None
        """The pid file that named the process that is watched."""
        self._past: Written | None = None
        """The one that named a process that has ended."""
        super().__init__(Path(kind.process) if kind.process.startswith("/") else None, report, means)

    def close(self) -> None:
        super().close()
        self._let_go()

    def _see(self) -> _Found:
        return self._look_into(self._path) if self._path else self._look_around()

    def _look_around(self) -> _Found:
        for pid in _oldest_first(self._name):
            with suppress(ProcessLookupError):
                return _Found(True, f"{self._name} runs (pid {pid})", pidfd.open_pidfd(pid))
        if not os.path.exists("/proc/1/comm"):
            return _Found(
                False, f"no process named {self._name} can be seen: /proc hides those of other users (hidepid)"
            )
        return _Found(False, f"no process is named {self._name}")

    def _look_into(self, path: Path) -> _Found:
        named = self._named
        try:
            content, status = _read(path)
        except FileNotFoundError:
            return _Found(False, f"{path} does not exist")
        first = content.split(maxsplit=1)[:1]
        pid = int(first[0]) if first and first[0].isdigit() else 0
        if not 0 < pid <= PID_MAX:
            return _Found(False, f"{path} names no process")
        written = content, status.st_ino, status.st_mtime_ns
        if written == named:
            return _Found(True, f"pid {pid} of {path} runs")  # if it did not, its pidfd would have told
        try:
            if written == self._past:
                raise ProcessLookupError
            return _Found(True, f"pid {pid} of {path} runs", pidfd.open_pidfd(pid), written)
        except ProcessLookupError:
            return _Found(False, f"pid {pid} of {path} has ended", written=written)

    def _found(self, found: _Found) -> None:
        if found.pidfd >= 0:
            self._let_go()
            self._watch = pidfd.Watch(found.pidfd, self._ended)
            self._named = found.written
        elif not found.passed and found.written:
            self._past = found.written
        elif found.passed and not self._watch:
            self._look()  # it has ended since
            return
        # A process that is watched and lives is given up only for another one that lives.
        if not self._watch or found.passed:
            self._say((found.passed, found.reason))
        elif self._verdict:
            self._say(self._verdict)
        if not self._watch:
            self._later(LOOK_AGAIN_INTERVAL, self._look)
        elif not self._path:
            self._never()  # its pidfd tells

    def _discard(self, found: _Found) -> None:
        if found.pidfd >= 0:
            os.close(found.pidfd)

    def _cannot_look(self, reason: str) -> None:
        if not self._watch:
            super()._cannot_look(reason)

    def _ended(self) -> None:
        self._let_go()
        self._past, self._named = self._named, None
        self._look()

    def _let_go(self) -> None:
        if self._watch:
            self._watch.close()
            self._watch = None


def _oldest_first(name: str) -> list[int]:
    comm = name.encode() + b"\n"
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        # It may end meanwhile, or be hidden.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if _read(f"/proc/{pid}/comm")[0] == comm:
                found.append((pidfd.began(int(pid)), int(pid)))
    return [pid for _, pid in sorted(found)]


def _read(path: str | Path) -> tuple[bytes, os.stat_result]:
    # A FIFO in its place must not hang us.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 4096), os.fstat(descriptor)
    finally:
        os.close(descriptor)
