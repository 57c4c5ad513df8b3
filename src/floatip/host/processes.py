"""Watches a process that somebody else started, known by name or by pid file, with a pidfd: its end is noticed at once.

Nothing is polled while it lives. When it ends a successor is looked for at once (a reload of HAProxy replaces its
worker), and while there is none, twice a second. Of several with one name the oldest is watched: a child that is
about to execute something else still has its parent's name.

Once the process of a pid file has ended, the file must be written anew to be believed: the pid may be another's by now.
"""

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from floatip.host.errors import in_words

LOOK_AGAIN_INTERVAL = 0.5
PID_MAX = 1 << 22

Written = tuple[bytes, int, int]
"""The content of a file, its inode and its mtime: written again, it differs."""


class ProcessWatch:
    """`verdict` is whether the process lives, and a reason; `changed` is called when it may have changed."""

    def __init__(self, process: str, changed: Callable[[], None]) -> None:
        """`process`: what `pgrep -x` finds, or the path of a pid file."""
        self.pid_file = Path(process) if process.startswith("/") else None
        self.verdict = (False, "not looked for yet")
        self._name = process
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pidfd: int | None = None
        self._named: Written | None = None
        """The pid file that named the process that is watched."""
        self._past: Written | None = None
        """The one that named a process that has ended."""
        self.look()

    def look(self) -> None:
        """Look for the process; one that is watched and lives is given up only for another one that lives."""
        try:
            verdict = self._look_into(self.pid_file) if self.pid_file else self._look_around()
        except OSError as error:
            verdict = False, f"cannot look at {self.pid_file or '/proc'}: {in_words(error.errno)}"
        if self._timer:
            self._timer.cancel()
        if self._pidfd is None:
            self._timer = self._loop.call_later(LOOK_AGAIN_INTERVAL, self._look_again)
        if self._pidfd is None or verdict[0]:
            self.verdict = verdict

    def close(self) -> None:
        self._let_go()
        if self._timer:
            self._timer.cancel()

    def _look_around(self) -> tuple[bool, str]:
        for pid in _oldest_first(self._name):
            with suppress(ProcessLookupError):
                self._watch(pid)
                return True, f"{self._name} runs (pid {pid})"
        if not os.path.exists("/proc/1/comm"):
            return False, f"no process named {self._name} can be seen: /proc hides those of other users (hidepid)"
        return False, f"no process is named {self._name}"

    def _look_into(self, path: Path) -> tuple[bool, str]:
        try:
            content, status = _read(path)
        except FileNotFoundError:
            return False, f"{path} does not exist"
        first = content.split(maxsplit=1)[:1]
        pid = int(first[0]) if first and first[0].isdigit() else 0
        if not 0 < pid <= PID_MAX:
            return False, f"{path} names no process"
        written = content, status.st_ino, status.st_mtime_ns
        try:
            if written == self._past:
                raise ProcessLookupError
            self._watch(pid)
        except ProcessLookupError:
            self._past = written
            return False, f"pid {pid} of {path} has ended"
        self._named = written
        return True, f"pid {pid} of {path} runs"

    def _watch(self, pid: int) -> None:
        """Raises `ProcessLookupError` where there is no such process, or only a zombie."""
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if poll.poll(0):
            os.close(pidfd)
            raise ProcessLookupError
        self._let_go()
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._ended)

    def _let_go(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _ended(self) -> None:
        self._let_go()
        self._past = self._named
        self._look_again()

    def _look_again(self) -> None:
        self.look()
        self._changed()


def _oldest_first(name: str) -> list[int]:
    comm = name.encode() + b"\n"
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        # It may end meanwhile, or be hidden.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if _read(f"/proc/{pid}/comm")[0] == comm:
                stat, _ = _read(f"/proc/{pid}/stat")
                start_time = int(stat.rpartition(b")")[2].split()[19])
                found.append((start_time, int(pid)))
    return [pid for _, pid in sorted(found)]


def _read(path: str | Path) -> tuple[bytes, os.stat_result]:
    # A FIFO in its place must not hang us.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 4096), os.fstat(descriptor)
    finally:
        os.close(descriptor)
