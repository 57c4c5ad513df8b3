"""Runs the user's notify command at changes of role: in order, one at a time, each bounded in time.

The arguments are those of keepalived's `notify`: `INSTANCE NAME MASTER|BACKUP|FAULT|STOP PRIORITY`, so that existing
scripts go on working; the reason and the rank are in the environment.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from floatip.core.events import Event, Failed
from floatip.host.process import Process

LONGEST_QUEUE = 64


@dataclass(frozen=True, slots=True)
class RoleChange:
    instance: str
    role: str
    priority: int
    reason: str
    rank: str


class Hooks:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._argv: tuple[str, ...] = ()
        self._timeout = 0.0
        self._queue: deque[RoleChange] = deque()
        self._current: Process | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.dropped = 0

    def configure(self, argv: tuple[str, ...], timeout: float) -> None:
        """An empty `argv`: nobody wants to know."""
        self._argv = argv
        self._timeout = timeout

    def notify(self, change: RoleChange) -> None:
        if not self._argv:
            return
        if len(self._queue) == LONGEST_QUEUE:
            # The last state is what counts.
            self._queue.popleft()
            self.dropped += 1
            self._report(Failed("notify", f"too slow, {self.dropped} changes of role were not told"))
        self._queue.append(change)
        if self._idle.is_set():
            self._idle.clear()
            self._next()

    async def finish(self, timeout: float) -> None:
        """Let what is queued run, within reason, and end the rest."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            self._queue.clear()
            if self._current:
                self._current.kill()

    def _next(self) -> None:
        if not self._queue:
            self._idle.set()
            return
        change = self._queue.popleft()
        arguments = ("INSTANCE", change.instance, change.role.upper(), str(change.priority))
        environment = os.environ | {"FLOATIP_REASON": change.reason, "FLOATIP_RANK": change.rank}
        self._current = Process((*self._argv, *arguments), self._timeout, self._ended, environment)

    def _ended(self, succeeded: bool, reason: str) -> None:
        if not succeeded:
            self._report(Failed("notify", f"{self._argv[0]}: {reason}"))
        # Not from here: a command that cannot be started ends before its constructor returns.
        asyncio.get_running_loop().call_soon(self._next)
