"""keepalived's notify FIFO: opened as soon as it is there, opened again when it was made again, read until it is empty.

Traps (keepalived 2.2): a line is lost when it is full; one that keepalived makes itself is root's alone, and a reload
makes it anew, which the reader sees as an end. One that was made beforehand keeps its inode, and what keepalived
writes while nobody reads waits in it.

It is looked at and opened in a thread, where its path may hang; it is read in the loop.
"""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify
from floatip.host.workers import Jobs

OPEN_INTERVAL = 1.0
OPEN_TIMEOUT = 2.0
"""Seconds after which a path that does not answer is a failure."""
LONGEST_LINE = 4096

Identity = tuple[int, int]
"""Device and inode."""
Opened = tuple[int, Identity]
"""A descriptor, and of what."""


class Fifo:
    def __init__(
        self,
        path: Path,
        jobs: Jobs,
        heard: Callable[[list[bytes], bool], None],
        opened: Callable[[], None],
        failures: Failures,
    ) -> None:
        """`heard(lines, is_old)`; `opened` is called when the FIFO was opened, and then and again."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._jobs = jobs
        self._heard = heard
        self._opened = opened
        self._failures = failures
        self._fd = -1
        self._identity: Identity | None = None
        """Of the one that is open."""
        self._rest = b""
        self._is_out = False
        self._is_slow = False
        self._is_needed_again = False
        self._closed = False
        self._opening: asyncio.TimerHandle | None = None
        self._inotify = Inotify(failures)
        self._inotify.subscribe(path, self.open)

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def name(self) -> str:
        return f"notify FIFO {self._path}"

    def fail(self, reason: str, hint: str = "") -> None:
        self._failures.set(self.name, reason, hint)

    def open(self, is_old: bool = False) -> None:
        """`is_old`: what waits in it was written while nobody listened."""
        if self._is_out:
            self._is_needed_again = True
            return
        self._is_out = True
        self._later(OPEN_TIMEOUT, self._be_slow)
        self._jobs.do(partial(self._job, self._identity), partial(self._looked, is_old))

    def _be_slow(self) -> None:
        self._is_slow = True
        self.fail(f"no answer after {OPEN_TIMEOUT:g} s: does a disk hang?")

    def _job(self, identity: Identity | None) -> tuple[int, Opened | OSError | None]:
        """The errno of the watch, and: what was opened; None if the one that is open is right; why there is none."""
        code = self._inotify.watch(self._path)  # first: nothing that happens after the look is missed
        try:
            if identity and identity == _identity(os.stat(self._path)):
                return code, None
            return code, _open(self._path)
        except OSError as error:
            return code, error

    def _looked(self, is_old: bool, outcome: tuple[int, Opened | OSError | None] | OSError) -> None:
        self._is_out = False
        code, found = (0, outcome) if isinstance(outcome, OSError) else outcome
        if self._closed:
            if isinstance(found, tuple):
                os.close(found[0])
            return
        self._never()
        self._inotify.note(self._path, code)
        if code:
            self._later(OPEN_INTERVAL, self.open, True)
        if self._is_slow:
            self._is_slow = False
            self._failures.clear(self.name)
        if isinstance(found, OSError):
            self._lack(found, is_old)
        elif found is not None:
            self._begin(*found, is_old)
        if self._is_needed_again or (found is None and not self.is_open):
            self._is_needed_again = False
            self.open()

    def _lack(self, error: OSError, is_old: bool) -> None:
        self.drain()  # the one that is replaced
        self._close()
        if is_old or error.errno != errno.ENOENT:  # a reload makes it anew in a moment
            self.fail(*_refusal(self._path, error.errno))
        self._later(OPEN_INTERVAL, self.open, True)

    def _begin(self, fifo: int, identity: Identity, is_old: bool) -> None:
        self.drain()  # the one that is replaced
        self._close()
        self._fd, self._identity = fifo, identity
        self._failures.clear(self.name)
        self._loop.add_reader(fifo, self._read)
        self.drain(is_old)
        self._opened()

    def drain(self, is_old: bool = False) -> bool:
        """Whether it came to an end: nobody has it open for writing any more."""
        lines: list[bytes] = []
        has_ended = False
        while self._fd >= 0 and not has_ended:
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                break
            has_ended = not data
            *more, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-LONGEST_LINE:]
            lines += more
        if lines:
            self._heard(lines, is_old)
        return has_ended

    def close(self) -> None:
        self._closed = True
        self._never()
        self._inotify.close()
        self._close()

    def _later(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        self._never()
        self._opening = self._loop.call_later(seconds, action, *arguments)

    def _never(self) -> None:
        if self._opening:
            self._opening.cancel()
            self._opening = None

    def _read(self) -> None:
        if self.drain():
            self._close()
            self.open()

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
        self._fd, self._identity, self._rest = -1, None, b""


def _open(path: Path) -> Opened:
    """Raises OSError: ENOSTR if it is no FIFO, EWOULDBLOCK if another process reads it and would take our lines."""
    fifo = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fifo)
        if not stat.S_ISFIFO(status.st_mode):
            raise OSError(errno.ENOSTR, "")
        fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fifo)
        raise
    return fifo, _identity(status)


def _refusal(path: Path, code: int | None) -> tuple[str, str]:
    """Reason and hint."""
    # keepalived removes one that it made itself when it ends.
    remake = f"systemctl stop keepalived; rm -f {path}; systemd-tmpfiles --create; systemctl start keepalived"
    match code:
        case errno.EACCES | errno.ENOENT:
            return in_words(code), f"let floatip read it: {remake}"
        case errno.ELOOP:
            return in_words(code), f"replace the symbolic link, which is not followed: {remake}"
        case errno.ENOSTR:
            return "not a FIFO", remake
        case errno.EWOULDBLOCK:
            return "another process reads it", "stop the other daemon: only one can follow keepalived"
    return in_words(code), ""


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
