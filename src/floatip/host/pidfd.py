"""Processes that somebody else started, held by a pidfd: it tells of the end at once, and means no later process."""

import asyncio
import os
import select
from collections.abc import Callable
from pathlib import Path


def open_pidfd(pid: int) -> int:
    """Raises `ProcessLookupError` where there is no such process, or only one that nobody has reaped."""
    pidfd = os.pidfd_open(pid)
    if _has_ended(pidfd):
        os.close(pidfd)
        raise ProcessLookupError
    return pidfd


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def began(pid: int) -> int:
    """Clock ticks since boot (proc(5), field 22 of stat); 0: it has ended, or is hidden from us."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


class Watch:
    """Calls `ended` once, at the end of the process, and owns the pidfd."""

    def __init__(self, pidfd: int, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pidfd = pidfd
        self._ended = ended
        self._loop.add_reader(pidfd, self._end)

    @property
    def has_ended(self) -> bool:
        """Perhaps before `ended` is called."""
        return _has_ended(self._pidfd)

    def _end(self) -> None:
        self._loop.remove_reader(self._pidfd)  # it stays readable
        self._ended()

    def close(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
