"""When the host did not schedule the lab's programs: test limits are extended by that time.

Counted is a program that was ready to run and did not for longer than `INTERVAL` (this process included), and CPU time
that was taken from the virtual machine. Shorter waits are normal on any machine and extend nothing.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class Delay:
    since: float
    until: float


class DelayWatch:
    """A thread that appends to `found`; `pids`: the programs' main processes now, asked each time."""

    def __init__(self, pids: Callable[[], Iterable[int]], found: list[Delay]) -> None:
        self._pids = pids
        self._found = found
        self._closing = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        waited: dict[int, float] = {}
        looked_at, taken = time.monotonic(), stolen()
        while not self._closing.wait(INTERVAL):
            now, taken_before = time.monotonic(), taken
            waits_now = {pid: run_delay(pid) for pid in self._pids()}
            taken = stolen()
            waits = (delay - waited.get(pid, 0.0) for pid, delay in waits_now.items())
            longest = max(now - looked_at - INTERVAL, taken - taken_before, *waits)
            if longest > INTERVAL:
                self._found.append(Delay(now - longest, now))
            looked_at, waited = now, waits_now


def run_delay(pid: int) -> float:
    """Seconds that it waited for a CPU so far (schedstat); 0 if it is gone or the kernel does not count."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def children(pid: int) -> list[int]:
    """Processes that it started, whichever of its threads did; none if it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def stolen() -> float:
    """Seconds so far that the hypervisor gave this virtual machine's CPUs to others."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def delayed(delays: Iterable[Delay], since: float, until: float) -> float:
    """Seconds between `since` and `until` in which any program was delayed."""
    total = 0.0
    for delay in sorted(delays, key=lambda each: each.until):
        begin, end = max(delay.since, since), min(delay.until, until)
        if begin < end:
            total += end - begin
            since = end
    return total
