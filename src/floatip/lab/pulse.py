"""How long the machine kept the lab's programs from running, so that its share is taken out of their verdicts.

Only hold-ups count: a process that could have run and did not for longer than `INTERVAL`, this one included, or CPUs
that were taken from the virtual machine. The short waits of any machine are the verdicts' own matter.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class HoldUp:
    since: float
    until: float


class Pulse:
    """A thread that looks at the programs' main processes; `pids` is asked each time, they come and go."""

    def __init__(self, pids: Callable[[], Iterable[int]], found: list[HoldUp]) -> None:
        self._pids = pids
        self._found = found
        self._closing = Event()
        self._thread = Thread(target=self._beat, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _beat(self) -> None:
        waited: dict[int, float] = {}
        looked_at, taken = time.monotonic(), stolen()
        while not self._closing.wait(INTERVAL):
            now, taken_before = time.monotonic(), taken
            delays = {pid: run_delay(pid) for pid in self._pids()}
            taken = stolen()
            waits = (delay - waited.get(pid, 0.0) for pid, delay in delays.items())
            longest = max(now - looked_at - INTERVAL, taken - taken_before, *waits)
            if longest > INTERVAL:
                self._found.append(HoldUp(now - longest, now))
            looked_at, waited = now, delays


def run_delay(pid: int) -> float:
    """Seconds (schedstat, second field, ns); 0 where the kernel keeps none, and of a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def stolen() -> float:
    """Seconds that the CPUs of this virtual machine were taken from it."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def held_up(hold_ups: Iterable[HoldUp], since: float, until: float) -> float:
    """Seconds between two instants in which anything was held up."""
    total = 0.0
    for hold_up in sorted(hold_ups, key=lambda each: each.until):
        begin, end = max(hold_up.since, since), min(hold_up.until, until)
        if begin < end:
            total += end - begin
            since = end
    return total
