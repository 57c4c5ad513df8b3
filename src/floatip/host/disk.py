"""Reads and writes files in a thread, one after the other: a disk that hangs holds up no advert and no failover.

What fails, or takes longer than `PATIENCE`, is a failure until it is done at last.
"""

import asyncio
import json
import os
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from floatip.core.events import Event
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.workers import Workers

PATIENCE = 5.0
RETRY_INTERVAL = 10.0
LIMIT = 1000
"""How many jobs may wait for a disk that hangs."""
LARGEST_STATE = 4 << 20
"""Bytes."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Job = Callable[[], str]
"""Returns why it failed, or nothing; may raise OSError."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Task:
    what: str
    job: Job
    over: asyncio.Future[bool]
    impatience: asyncio.TimerHandle


class Disk:
    def __init__(self, report: Callable[[Event], None], part: str = "disk") -> None:
        """`part`: whose failures they are. Each disk has a queue and a thread of its own."""
        self._failures = Failures(part, report)
        self._loop = asyncio.get_running_loop()
        self._workers = Workers()
        self._tasks: deque[_Task] = deque()
        """The first one is being done."""

    def do(self, what: str, job: Job, verb: str = "written") -> asyncio.Future[bool]:
        """In the order of the calls. The future says whether it succeeded."""
        over = self._loop.create_future()
        if len(self._tasks) >= LIMIT:
            self.fail(what, f"not {verb}: {LIMIT} entries wait already, the disk hangs")
            over.set_result(False)
            return over
        reason = f"not {verb} after {PATIENCE:g} s: does the disk hang?"
        self._tasks.append(_Task(what, job, over, self._loop.call_later(PATIENCE, self.fail, what, reason)))
        if len(self._tasks) == 1:
            self._workers.do(job, self._done)
        return over

    def fail(self, what: str, reason: str) -> None:
        """Until the next success."""
        self._failures.set(what, reason)

    def forget(self, what: str) -> None:
        """Nobody asks for it any more."""
        self._failures.clear(what)

    async def finish(self, timeout: float) -> None:
        """Wait for what was begun, at most `timeout` seconds."""
        if self._tasks:
            await asyncio.wait([task.over for task in self._tasks], timeout=timeout)

    def close(self) -> None:
        self._workers.close()

    def _done(self, outcome: str | OSError) -> None:
        task = self._tasks.popleft()
        if self._tasks:
            self._workers.do(self._tasks[0].job, self._done)
        task.impatience.cancel()
        reason = in_words(outcome.errno) if isinstance(outcome, OSError) else outcome
        task.over.set_result(not reason)
        if reason:
            self.fail(task.what, reason)
        elif not any(self._is_late(other) for other in self._tasks if other.what == task.what):
            self._failures.clear(task.what)

    def _is_late(self, task: _Task) -> bool:
        return task.impatience.when() <= self._loop.time()


class Memory:
    """A small JSON object that outlives the daemon, in a file that is replaced whole."""

    def __init__(self, disk: Disk, path: Path, *, across_boots: bool = False) -> None:
        self._disk = disk
        self._path = path
        self._name = f"state file {path}"
        self._boot = "any" if across_boots else boot_id()
        self._left: Any = None
        """By a predecessor. Only the thread sets it."""
        self._state: dict[str, Any] | None = None
        self._over: asyncio.Future[bool]
        self._waits = False
        """Whether a write is asked for and has not begun."""

    async def load(self) -> None:
        """What a predecessor remembered. If the disk hangs, the daemon starts without it."""
        await asyncio.wait([self._disk.do(self._name, self._read, "read")], timeout=PATIENCE)

    def recall(self, read: Callable[[dict[str, Any]], T]) -> T | None:
        """What `read` makes of the state; None, if nothing is remembered of this boot, or only nonsense."""
        state = self._left if self._state is None else self._state
        try:
            return read(state) if state is not None and state["boot"] == self._boot else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._disk.fail(self._name, _not_understood(error))
        return None

    def remember(self, state: dict[str, Any]) -> asyncio.Future[bool]:
        """The future says whether the attempt succeeded. What failed is tried again."""
        self._state = {"boot": self._boot} | state
        return self._write()

    def _write(self) -> asyncio.Future[bool]:
        # One that waits will write the state as it is then: a disk that hangs makes no queue.
        if not self._waits:
            self._waits = True
            self._over = self._disk.do(self._name, self._replace)
            self._over.add_done_callback(self._check)
        return self._over

    def _read(self) -> str:
        try:
            self._left = json.loads(_content(self._path))
        except FileNotFoundError:
            pass
        except (ValueError, RecursionError) as error:
            return _not_understood(error)
        return ""

    def _replace(self) -> str:
        self._waits = False  # before the state is read: whoever changes it from now on asks for another write
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._state))
        new.replace(self._path)
        return ""

    def _check(self, over: asyncio.Future[bool]) -> None:
        if over is self._over and not over.result():
            self._waits = False
            over.get_loop().call_later(RETRY_INTERVAL, self._write)


def _not_understood(error: Exception) -> str:
    return f"not understood, so ignored: {error}"


def boot_id() -> str:
    """Of a boot that is not known, nothing is remembered."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return f"not known to process {os.getpid()}"


def _content(path: Path) -> bytes:
    """Never waits, whatever stands in the place of the file. Raises OSError and ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(LARGEST_STATE + 1)
    if len(content) > LARGEST_STATE:
        raise ValueError(f"it is larger than {LARGEST_STATE} bytes")
    return content
