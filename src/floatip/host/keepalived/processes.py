"""Whether the user's keepalived runs: its pid files are read until it does, then pidfds tell of its end.

The pid files are looked at in a thread. What must know the outcome waits for it: see `look`.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from floatip.core.events import KeepalivedFound
from floatip.host import pidfd
from floatip.host.errors import in_words
from floatip.host.workers import Jobs

LOOK_INTERVAL = 0.1
"""Seconds between two looks for a keepalived that does not run."""
LOOK_TIMEOUT = 2.0
"""Seconds after which a pid file that does not answer counts as missing."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The processes that the pid files name, each with a pidfd."""

    descriptors: list[tuple[int, int]]
    began: int
    """Of the last one: clock ticks since boot; 0: hidden from us."""


class Processes:
    def __init__(
        self,
        pid_files: tuple[Path, ...],
        jobs: Jobs,
        report: Callable[[KeepalivedFound], None],
        found: Callable[[str, int], None],
        ending: Callable[[], object],
        ended: Callable[[], None],
    ) -> None:
        """`pid_files`: of the main process and of the one for VRRP.

        `found(process, began)` is called before a keepalived is reported, `ending` before its end is, `ended` after.
        """
        self._loop = asyncio.get_running_loop()
        self._pid_files = pid_files
        self._jobs = jobs
        self._report = report
        self._on_found = found
        self._on_ending = ending
        self._on_ended = ended
        self._watches: list[tuple[int, pidfd.Watch]] = []
        """Each with its pid."""
        self._told: KeepalivedFound | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._is_out = False
        self._is_slow = False
        """Whether the look that is out has been given up."""
        self._then: list[Callable[[], None]] = []
        self._closed = False

    @property
    def running(self) -> bool:
        return bool(self._watches)

    @property
    def reason(self) -> str:
        return self._told.reason if self._told else ""

    def look(self, then: Callable[[], None] = lambda: None) -> None:
        """Find a keepalived that runs, also in the place of one whose end has not been noticed. Calls `then` after."""
        if self._is_slow or (self._watches and not self._ended_pid()):
            then()
            return
        self._then.append(then)
        if not self._is_out:
            self._is_out = True
            self._look_later(LOOK_TIMEOUT, self._give_up)
            self._jobs.do(partial(_open_all, self._pid_files), self._looked)

    def close(self) -> list[Callable[[], None]]:
        """Returns what still waits for a look."""
        self._closed = True
        self._look_never()
        self._forget()
        then, self._then = self._then, []
        return then

    def _looked(self, outcome: "_Opened | _NotThere | OSError") -> None:
        self._is_out = self._is_slow = False
        match outcome:
            case _Opened(descriptors) if self._closed:
                _close_all(descriptors)
            case _Opened():
                self._watch(outcome)
            case OSError() if not self._closed:
                self._miss(f"cannot look for it: {in_words(outcome.errno)}")
            case _NotThere() if not self._closed:
                self._miss(str(outcome))
        self._go_on()

    def _give_up(self) -> None:
        self._is_slow = True
        self._miss(f"no answer after {LOOK_TIMEOUT:g} s from {' or '.join(map(str, self._pid_files))}")
        self._go_on()

    def _go_on(self) -> None:
        then, self._then = self._then, []
        for each in then:
            each()

    def _watch(self, opened: _Opened) -> None:
        self._end()
        self._look_never()
        self._watches = [(pid, pidfd.Watch(descriptor, self._died)) for pid, descriptor in opened.descriptors]
        pid, began = opened.descriptors[-1][0], opened.began
        # Not the pid alone: that may be another process's later.
        self._on_found(f"{pid} {began}", began)
        self._tell(KeepalivedFound(True, f"process {pid}", _clock(began)))

    def _miss(self, reason: str) -> None:
        self._look_later(LOOK_INTERVAL, self.look)
        if not self._watches:  # of one that has just ended the last words come first
            self._tell(KeepalivedFound(False, reason))

    def _died(self) -> None:
        self._on_ending()
        self.look(self._bury)

    def _bury(self) -> None:
        """What it said last is told; unless that has led to a successor, so is its end."""
        if self._ended_pid():
            self._end()
            self.look()

    def _end(self) -> None:
        """Tell of the end of the one that is watched, if it has not been told."""
        if pid := self._ended_pid():
            self._forget()
            self._tell(KeepalivedFound(False, f"its process {pid} has ended"))
            self._on_ended()

    def _ended_pid(self) -> int:
        return next((pid for pid, watch in self._watches if watch.has_ended), 0)

    def _forget(self) -> None:
        for _, watch in self._watches:
            watch.close()
        self._watches = []

    def _look_later(self, seconds: float, action: Callable[[], None]) -> None:
        self._look_never()
        self._looking = self._loop.call_later(seconds, action)

    def _look_never(self) -> None:
        if self._looking:
            self._looking.cancel()
            self._looking = None

    def _tell(self, found: KeepalivedFound) -> None:
        # Why it is not there now says less than why it ended.
        if self._told is None or self._told.running is not found.running or found.running:
            self._told = found
            self._report(found)


class _NotThere(Exception):
    """Why a process cannot be watched, in words."""


def _open_all(pid_files: tuple[Path, ...]) -> _Opened | _NotThere:
    """In a thread."""
    opened: list[tuple[int, int]] = []
    try:
        for path in pid_files:
            opened.append(_open_process(path))
    except _NotThere as reason:
        _close_all(opened)
        return reason
    return _Opened(opened, pidfd.began(opened[-1][0]))


def _close_all(opened: list[tuple[int, int]]) -> None:
    for _, descriptor in opened:
        os.close(descriptor)


def _open_process(pid_file: Path) -> tuple[int, int]:
    """The pid and a pidfd, of a process that is keepalived's."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        descriptor = pidfd.open_pidfd(pid)
    except FileNotFoundError:
        raise _NotThere(f"{pid_file} does not exist") from None
    except (ValueError, OverflowError):
        raise _NotThere(f"{pid_file} names no process") from None
    except ProcessLookupError:
        raise _NotThere(f"process {pid} of {pid_file} has ended") from None
    except OSError as error:
        raise _NotThere(f"{pid_file}: {in_words(error.errno)}") from None
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        if Path(f"/proc/{pid}").stat().st_uid:
            name = "somebody else's"  # a pid file stays when its process is killed, and anybody may get the pid
    except OSError:  # hidden from us
        name = "keepalived"
    if not name.startswith("keepalived"):
        os.close(descriptor)
        raise _NotThere(f"process {pid} of {pid_file} is {name} now")
    return pid, descriptor


def _clock(ticks: int) -> float | None:
    """Since when by our clock, which stands still while the machine sleeps."""
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return ticks / os.sysconf("SC_CLK_TCK") - slept if ticks else None
