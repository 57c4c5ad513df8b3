"""FIFOs that get changes as keepalived's lines (keepalived.conf(5), notify_fifo).

keepalived loses what does not fit into a FIFO that nobody reads, and says nothing. Here it waits in a ring, and what is
dropped from that is counted and a failure. A FIFO that is missing is made (mode 0600), also again when somebody has
removed it. The path is looked at in a thread before each write, because it may hang; nothing here waits for a reader.
"""

import array
import asyncio
import errno
import fcntl
import grp
import math
import os
import pwd
import select
import stat
import termios
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice, takewhile
from pathlib import Path

from floatip.core.events import Event
from floatip.host.child import GRACE, Child, Running
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.workers import Workers
from floatip.model import DAEMON, Fifo, RunAs

MOST_LINES = 1000
"""That wait for a reader, beside the 64 KiB that the kernel keeps."""
OPEN_INTERVAL = 1.0
OPEN_TIMEOUT = 2.0
"""Seconds after which a path that does not answer is a failure."""
SCRIPT_INTERVAL = 1.0
"""Seconds until a script that ended is started again."""
STEADY = 10.0
"""Seconds after which a script works."""
DRAIN_INTERVAL = 0.01
"""Seconds between two looks, at the end, at whether the script has read all."""
SCRIPT_TIMEOUT = 1.0
"""Seconds for which a script that has read all may go on, before it gets SIGTERM."""
DISK_TIMEOUT = 1.0
SHOWN_FOR = 300.0
FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""Open for reading too: so it can be opened, and keeps its lines, while nobody reads."""

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class _Opened:
    fd: int
    identity: Identity
    is_made: bool


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str
    hint: str = ""


class Fifos:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._failures = Failures("notify FIFOs", report)
        self._workers = Workers()
        self._writers: dict[Path, _Writer] = {}
        self._dropped_before = 0
        """Of those that a reload has removed."""

    @property
    def dropped(self) -> int:
        return self._dropped_before + sum(writer.dropped for writer in self._writers.values())

    def configure(self, fifos: Iterable[Fifo], states: list[bytes]) -> None:
        """`states`: what those are told that want to know all states after a reload."""
        wanted = {fifo.path: fifo for fifo in fifos}
        for path, writer in list(self._writers.items()):
            if wanted.get(path) != writer.config:
                self._dropped_before += writer.dropped
                del self._writers[path]
                writer.close(keeps=path in wanted)
        kept = {name for writer in self._writers.values() for name in writer.names}
        self._failures.keep(kept)
        for path, fifo in wanted.items():
            if path not in self._writers:
                self._writers[path] = _Writer(fifo, self._failures, self._workers)
            if fifo.on_reload:
                for line in states:
                    self._writers[path].write(line)

    def write(self, line: bytes) -> None:
        for writer in self._writers.values():
            writer.write(line)

    async def finish(self, timeout: float) -> None:
        """Wait until the scripts have read all, and end them."""
        await asyncio.gather(*(writer.finish(timeout) for writer in self._writers.values()))


class _Writer:
    def __init__(self, fifo: Fifo, failures: Failures, workers: Workers) -> None:
        self.config = fifo
        self.dropped = 0
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self._workers = workers
        self._lines: deque[bytes] = deque()
        self._opened: _Opened | None = None
        self._is_out = self._is_needed_again = False
        """A thread looks at the path, and began to before the last line was written."""
        self._closed = False
        self._again: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._script: Running | None = None
        self._script_steady: asyncio.TimerHandle | None = None
        self._script_gone, self._removed = asyncio.Event(), asyncio.Event()
        self._script_gone.set()
        self._removed.set()
        self._look()

    @property
    def names(self) -> tuple[str, str, str]:
        """Of its failures."""
        path = self.config.path
        return f"notify_fifo {path}", f"lines for {path}", f"notify_fifo_script of {path}"

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) > MOST_LINES:
            self._lines.popleft()
            self.dropped += 1
            reason = f"nobody reads it: {self.dropped} lines were dropped; the newest are kept"
            hint = "start the program that reads it, or remove the FIFO from the configuration"
            self._failures.set(self.names[1], reason, hint, lasts=SHOWN_FOR)
        self._look()

    def close(self, *, keeps: bool = False) -> None:
        """`keeps`: another one uses the path."""
        self._closed = True
        for timer in (self._again, self._slow, self._script_steady):
            if timer:
                timer.cancel()
        if self._script:
            self._script.terminate()
        if self._opened:
            if self._opened.is_made and not keeps:
                self._removed.clear()
                remove = partial(_remove, self.config.path, self._opened.identity)
                self._workers.do(remove, lambda outcome: self._removed.set())
            self._shut()

    async def finish(self, timeout: float) -> None:
        until = self._loop.time() + timeout
        while not (self._script_gone.is_set() or self._is_drained()) and self._loop.time() < until:
            await asyncio.sleep(DRAIN_INTERVAL)
        script, self._script = self._script, None
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(DISK_TIMEOUT):
                await self._removed.wait()
        # A script that reads until the end has it now; one that opened the FIFO for writing too never sees it.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(until, self._loop.time() + SCRIPT_TIMEOUT)):
                await self._script_gone.wait()
        if script:
            script.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * GRACE):
                await self._script_gone.wait()

    def _is_drained(self) -> bool:
        if self._lines or not self._opened:
            return False
        unread = array.array("i", [0])
        fcntl.ioctl(self._opened.fd, termios.FIONREAD, unread)
        return unread[0] == 0

    # The path

    def _look(self) -> None:
        if self._is_out or self._closed:
            self._is_needed_again = True
            return
        self._is_out, self._is_needed_again = True, False
        if self._again:
            self._again.cancel()
        self._slow = self._loop.call_later(OPEN_TIMEOUT, self._be_slow)
        known = self._opened.identity if self._opened else None
        self._workers.do(partial(_open, self.config, known), self._looked)

    def _look_later(self) -> None:
        if self._again:
            self._again.cancel()
        self._again = self._loop.call_later(OPEN_INTERVAL, self._look)

    def _be_slow(self) -> None:
        self._failures.set(self.names[0], f"no answer after {OPEN_TIMEOUT:g} s: does a disk hang?")

    def _looked(self, found: _Opened | _Refused | OSError | None) -> None:
        self._is_out = False
        if self._closed:
            if isinstance(found, _Opened):
                os.close(found.fd)
            return
        if self._slow:
            self._slow.cancel()
        if isinstance(found, OSError):
            found = _refusal(self.config.path, found)
        if isinstance(found, _Refused):
            self._failures.set(self.names[0], found.reason, found.hint)
            self._look_later()
            return
        self._failures.clear(self.names[0])
        if found:
            if self._opened:
                self._shut()
            self._opened = found
            if self.config.script and not self._script:
                self._start_script()
        if self._is_needed_again:
            self._look()  # a FIFO that was removed meanwhile would swallow the line
        else:
            self._flush()

    def _shut(self) -> None:
        assert self._opened
        self._loop.remove_writer(self._opened.fd)
        os.close(self._opened.fd)
        self._opened = None

    def _flush(self) -> None:
        if not self._opened:
            return
        self._loop.remove_writer(self._opened.fd)
        while self._lines:
            count = max(1, _fitting(self._lines))
            try:
                os.write(self._opened.fd, b"".join(islice(self._lines, count)))  # whole or not at all: see PIPE_BUF
            except BlockingIOError:
                self._loop.add_writer(self._opened.fd, self._flush)
                self._look_later()  # is it still there?
                return
            for _ in range(count):
                self._lines.popleft()

    # The script

    def _start_script(self) -> None:
        if self._closed:
            return
        self._script_gone.clear()
        argv = (*self.config.script, str(self.config.path))
        self._script = Child(
            self._workers, argv, math.inf, self._script_ended, self._script_is_gone, run_as=self.config.run_as
        )
        self._script_steady = self._loop.call_later(STEADY, self._failures.clear, self.names[2])

    def _script_ended(self, succeeded: bool, reason: str) -> None:
        if self._script_steady:
            self._script_steady.cancel()
        if not self._closed:
            reason = f"{self.config.script[0]} ended ({reason}); it is started again"
            self._failures.set(self.names[2], reason, "make it read the FIFO until it gets SIGTERM")

    def _script_is_gone(self) -> None:
        self._script_gone.set()
        if not self._closed:
            self._loop.call_later(SCRIPT_INTERVAL, self._start_script)


def _fitting(lines: Iterable[bytes]) -> int:
    """How many of the first ones the kernel takes in one piece."""
    return sum(1 for _ in takewhile(lambda length: length <= select.PIPE_BUF, accumulate(map(len, lines))))


def _open(fifo: Fifo, known: Identity | None) -> _Opened | _Refused | None:
    """In a thread. None: the one that is open is right."""
    is_made = False
    if known:
        try:
            if _identity(os.stat(fifo.path, follow_symlinks=False)) == known:
                return None
        except FileNotFoundError:
            pass
    owner = _ids(fifo.owner)
    if isinstance(owner, _Refused):
        return owner
    try:
        os.mkfifo(fifo.path, 0o600)
        is_made = True
    except FileExistsError:
        if not stat.S_ISFIFO(os.stat(fifo.path, follow_symlinks=False).st_mode):
            return _Refused("it is there, and not a FIFO", f"remove it: rm {fifo.path}")
    try:
        fd = os.open(fifo.path, FLAGS)
        try:
            status = os.fstat(fd)
            if not stat.S_ISFIFO(status.st_mode):
                raise OSError(errno.EEXIST, "")
            if is_made and owner != (-1, -1):
                os.fchown(fd, *owner)
        except BaseException:
            os.close(fd)
            raise
    except OSError:
        if is_made:
            os.unlink(fifo.path)
        raise
    return _Opened(fd, _identity(status), is_made)


def _ids(owner: RunAs) -> tuple[int, int] | _Refused:
    if owner == DAEMON:
        return -1, -1
    try:
        user = pwd.getpwnam(owner.user) if owner.user else None
    except KeyError:
        return _Refused(
            f"its owner is not a user of this machine: {owner.user}", "create the user, or name another one"
        )
    try:
        group = grp.getgrnam(owner.group).gr_gid if owner.group else user.pw_gid if user else -1
    except KeyError:
        return _Refused(f"its group is not there: {owner.group}", "create the group, or name another one")
    return user.pw_uid if user else -1, group


def _refusal(path: Path, error: OSError) -> _Refused:
    hint = ""
    match error.errno:
        case errno.ENOENT:
            hint = f"create its directory: mkdir {path.parent}"
        case errno.EACCES | errno.EPERM:
            hint = f"make it for floatip's user: floatip check says how, as root; ls -ld {path.parent} {path}"
        case errno.EROFS:
            hint = (
                "the unit may not write there; put the FIFO below /run/floatip, or allow its directory:"
                f" systemctl edit floatip, and below [Service]: ReadWritePaths={path.parent}"
            )
    return _Refused(in_words(error.errno), hint)


def _remove(path: Path, identity: Identity) -> None:
    if _identity(os.stat(path, follow_symlinks=False)) == identity:
        os.unlink(path)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
