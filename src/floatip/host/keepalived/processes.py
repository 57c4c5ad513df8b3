"""Whether the user's keepalived runs: its pid files are read until it does, then pidfds tell of its end."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from floatip.core.events import KeepalivedFound
from floatip.host import pidfd
from floatip.host.errors import in_words

LOOK_INTERVAL = 0.1
"""Seconds between two looks for a keepalived that does not run."""


class Processes:
    def __init__(
        self,
        pid_files: tuple[Path, ...],
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
        self._report = report
        self._on_found = found
        self._on_ending = ending
        self._on_ended = ended
        self._watches: list[tuple[int, pidfd.Watch]] = []
        """Each with its pid."""
        self._told: KeepalivedFound | None = None
        self._looking: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return bool(self._watches)

    @property
    def reason(self) -> str:
        return self._told.reason if self._told else ""

    def look(self) -> None:
        """Find a keepalived that runs, also in the place of one whose end has not been noticed."""
        if self._watches and not self._ended_pid():
            return
        opened: list[tuple[int, int]] = []
        try:
            for path in self._pid_files:
                opened.append(_open_process(path))
        except _NotThere as reason:
            for _, descriptor in opened:
                os.close(descriptor)
            if not self._watches:  # of one that has just ended the last words come first
                self._tell(KeepalivedFound(False, str(reason)))
                self._look_never()
                self._looking = self._loop.call_later(LOOK_INTERVAL, self.look)
            return
        self._end()
        self._watches = [(pid, pidfd.Watch(descriptor, self._died)) for pid, descriptor in opened]
        pid = opened[-1][0]
        began = pidfd.began(pid)
        # Not the pid alone: that may be another process's later.
        self._on_found(f"{pid} {began}", began)
        self._tell(KeepalivedFound(True, f"process {pid}", _clock(began)))

    def close(self) -> None:
        self._look_never()
        self._forget()

    def _died(self) -> None:
        self._on_ending()
        if self._ended_pid():  # else what was read has led to a successor
            self._end()
            self.look()

    def _end(self) -> None:
        """Tell of the end of the one that is watched, if it has not been told."""
        self._look_never()
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
