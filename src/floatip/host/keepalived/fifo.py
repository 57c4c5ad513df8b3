"""keepalived's notify FIFO: opened as soon as it is there, opened again when it was made anew, read until it is empty.

Traps (keepalived 2.2): a line is lost when it is full; one that keepalived makes itself is root's alone, and a reload
makes it anew, which the reader sees as an end. One that was made beforehand keeps its inode, and what keepalived
writes while nobody reads waits in it.
"""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify

OPEN_INTERVAL = 1.0
LONGEST_LINE = 4096


class Fifo:
    def __init__(
        self, path: Path, heard: Callable[[list[bytes], bool], None], opened: Callable[[], None], failures: Failures
    ) -> None:
        """`heard(lines, is_old)`; `opened` is called when the FIFO was opened, and then and again."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._heard = heard
        self._opened = opened
        self._failures = failures
        self._fd = -1
        self._rest = b""
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
        if self._opening:
            self._opening.cancel()
            self._opening = None
        code = self._inotify.watch(self._path)
        self._inotify.note(self._path, code)
        if code:
            self._opening = self._loop.call_later(OPEN_INTERVAL, self.open, True)
        if self.is_open and _is_same(self._fd, self._path):
            return
        self.drain()  # the one that is replaced
        self._close()
        try:
            self._fd = _open(self._path)
        except OSError as error:
            if is_old or error.errno != errno.ENOENT:  # a reload makes it anew in a moment
                self.fail(*_refusal(self._path, error.errno))
            if not self._opening:
                self._opening = self._loop.call_later(OPEN_INTERVAL, self.open, True)
            return
        self._failures.clear(self.name)
        self._loop.add_reader(self._fd, self._read)
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
        if self._opening:
            self._opening.cancel()
        self._inotify.close()
        self._close()

    def _read(self) -> None:
        if self.drain():
            self._close()
            self.open()

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
        self._fd, self._rest = -1, b""


def _open(path: Path) -> int:
    """Raises OSError: ENOSTR if it is no FIFO, EWOULDBLOCK if another process reads it and would take our lines."""
    fifo = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
            raise OSError(errno.ENOSTR, "")
        fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fifo)
        raise
    return fifo


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


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
