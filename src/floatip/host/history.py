"""Keeps each change in the history file (`floatip.history`), by a thread: the loop formats and writes nothing.

What waits is written as one batch, so that a failover of many instances is a few writes. Each batch is synced
(fdatasync), because the last lines before a power loss are those that somebody will look for; the thread waits for
that, on a queue of its own, so that no address waits behind the history. A batch that cannot be written stays, bounded,
and is tried again: a disk that is full is a problem in the status and nothing else.
"""

import asyncio
import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from floatip.core.events import Phases, TookOver
from floatip.core.state import ChangeView
from floatip.history import LARGEST, NAME, NO_FILE, Change, NotOurs, line, stamp, tail
from floatip.host.disk import PATIENCE, Disk, boot_id
from floatip.host.news import Item

RETRY_INTERVAL = 10.0
MOST_WAITING = 2000
"""Changes that wait for a disk; beyond it the oldest are given up."""
TAIL = 50
"""Lines of a predecessor that are read."""
AT_ONCE = 250
"""Changes in one write."""
LONGEST = 500
"""Characters of a text in a line: others chose it."""
SHOWN = 3
WORTH_SHOWING = {"role", "health", "node", "network", "link", "drill", "daemon", "configuration", "etcd", "connections"}
"""What stands in the status: the rest goes with one of these, or is there as a problem."""
FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Noted:
    """As the loop leaves it to the thread."""

    item: Item
    node: str
    phases: Phases | None = None


class History:
    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._path = directory / NAME
        self._name = f"history {self._path}"
        self._boot = boot_id()
        self.node = ""
        """The name of this node."""
        self._phases: dict[str, Phases] = {}
        self._waiting: deque[Noted] = deque(maxlen=MOST_WAITING)
        self._unwritten: list[Noted] = []
        """What the last attempt could not write. Only the thread changes it."""
        self._is_asked = False
        """Whether a write is asked for and has not begun."""
        self._retry: asyncio.TimerHandle | None = None
        self._left: list[Change] = []
        """The last lines of a predecessor. Only the thread sets it."""
        self._shown: deque[Item] = deque(maxlen=SHOWN)

    async def load(self) -> None:
        """What a predecessor wrote last. If the disk hangs, the daemon starts without it."""
        await asyncio.wait([self._disk.do(self._name, self._read, "read")], timeout=PATIENCE)

    @property
    def unclean(self) -> str:
        """How the predecessor ended, if it did not stop as it was asked to; else empty."""
        if not self._left or (self._left[-1].what, self._left[-1].value) == ("daemon", "stopped"):
            return ""
        if self._left[-1].boot == self._boot:
            return "the daemon before this one crashed or was killed"
        return "the machine went down before the daemon was stopped"

    @property
    def recent(self) -> tuple[ChangeView, ...]:
        """The last changes worth a line, oldest first."""
        left = [change.view for change in self._left if change.what in WORTH_SHOWING]
        shown = [_change(Noted(item, self.node), self._boot).view for item in self._shown]
        return tuple([*left, *shown][-SHOWN:])

    def took_over(self, effect: TookOver) -> None:
        """Its phases go with the news of it, which follows."""
        self._phases[effect.instance] = effect.phases

    def note(self, item: Item) -> None:
        phases = self._phases.pop(item.name, None) if item.what == "takeover" else None
        if item.what in WORTH_SHOWING:
            self._shown.append(item)
        self._waiting.append(Noted(item, self.node, phases))
        self._ask()

    def _ask(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._disk.do(self._name, self._write).add_done_callback(self._written)

    def _written(self, over: asyncio.Future[bool]) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None
        if not over.result():
            self._is_asked = False
            self._retry = self._loop.call_later(RETRY_INTERVAL, self._ask)

    # In the thread

    def _read(self) -> str:
        try:
            self._left = tail(self._directory, TAIL)
        except NotOurs as error:
            return str(error.strerror)
        return ""

    def _write(self) -> str:
        self._is_asked = False  # before the queue is read: what comes from now on asks for another write
        with suppress(IndexError):
            while True:
                self._unwritten.append(self._waiting.popleft())
        del self._unwritten[:-MOST_WAITING]
        while self._unwritten:
            some = self._unwritten[:AT_ONCE]
            if reason := append(self._path, b"".join([line(_change(noted, self._boot)) for noted in some])):
                return reason
            del self._unwritten[:AT_ONCE]
        return ""


def _change(noted: Noted, boot: str) -> Change:
    item, took = noted.item, None
    if noted.phases:
        took = {step: _rounded(seconds) for step, seconds in asdict(noted.phases).items()}
    return Change(
        stamp(item.time),
        round(item.at, 6),
        boot,
        noted.node,
        item.what,
        _bounded(item.name),
        _bounded(item.before),
        _bounded(item.value),
        _bounded(item.reason),
        took,
    )


def append(path: Path, batch: bytes) -> str:
    """Why nothing of it was written, or nothing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if reason := _distrust(path):
        return reason
    is_there = path.exists()
    file = os.open(path, FLAGS, 0o640)
    try:
        size = os.fstat(file).st_size
        if size and size + len(batch) > LARGEST:
            older = path.with_name(f"{NAME}.1")
            if reason := _distrust(older):
                return f"the older half, {older}: {reason}"
            os.rename(path, older)
            before, file = file, os.open(path, FLAGS | os.O_EXCL, 0o640)
            os.close(before)
            size, is_there = 0, False
        if size and os.pread(file, 1, size - 1) != b"\n":
            batch = b"\n" + batch  # the end of a torn line
        _write_all(file, batch, size)
        os.fdatasync(file)
    finally:
        os.close(file)
    if not is_there:
        _sync(path.parent)
    return ""


def _write_all(file: int, batch: bytes, size: int) -> None:
    """Nothing of it stays if not all of it finds room."""
    left = memoryview(batch)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        if len(left) < len(batch):
            os.ftruncate(file, size)
        raise


def _distrust(path: Path) -> str:
    """Why this is not ours to write to or to replace; empty: it is, or there is nothing."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return f"{NO_FILE}; move it away: mv {path} {path}.other"
    if status.st_uid != os.geteuid() or status.st_nlink > 1:
        whose = "has another name too" if status.st_nlink > 1 else "belongs to another user"
        return f"it {whose}; move it away: mv {path} {path}.other"
    return ""


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _bounded(text: str) -> str:
    """Without what UTF-8 has no octets for, such as a file name that is none."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
