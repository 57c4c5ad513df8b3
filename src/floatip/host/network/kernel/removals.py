"""Who keeps removing an address that we hold fills no log: a few times are told one by one, then it is one failure.

Such an address is put back at once, without asking the core.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from floatip.core.events import Event, Placed
from floatip.host.failures import Failures

WINDOW = 10.0
"""Seconds."""
MOST_TOLD = 5
"""Of one address, within the window."""


class Removals:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._failures = Failures("removals", report)
        self._times: dict[Placed, deque[float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, placed: Placed) -> bool:
        """Whether somebody keeps removing it."""
        now = self._loop.time()
        times = self._times.setdefault(placed, deque(maxlen=MOST_TOLD + 1))
        times.append(now)
        if not self._timer:
            self._timer = self._loop.call_later(WINDOW, self._expire)
        if len(times) <= MOST_TOLD or times[0] < now - WINDOW:
            return False
        hint = "ip -timestamp monitor address shows when; look for another tool that manages this interface"
        self._failures.set(_name(placed), "something keeps removing it; floatip puts it back", hint)
        return True

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _expire(self) -> None:
        since = self._loop.time() - WINDOW
        self._times = {placed: times for placed, times in self._times.items() if times[-1] > since}
        self._failures.keep(_name(placed) for placed in self._times)
        self._timer = self._loop.call_later(WINDOW, self._expire) if self._times else None


def _name(placed: Placed) -> str:
    return f"{placed.address} on {placed.interface}"
