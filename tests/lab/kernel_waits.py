"""How long programs stood still in the kernel, where no signal ends a wait: mostly for a lock that others hold too.

Namespaces that other tests make and remove at the same time share such locks with the programs of a play.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Thread

INTERVAL = 0.02


class KernelWaits:
    """A thread that looks each `INTERVAL`; `pids`: the programs now, asked each time."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._found: list[tuple[float, float, str]] = []
        self._closing = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def since(self, at: float) -> dict[str, float]:
        """Seconds of one program after another, by the kernel's function in which they stood (proc_pid_wchan(5))."""
        found: dict[str, float] = {}
        for begin, end, where in list(self._found):
            if end > at:
                found[where] = found.get(where, 0.0) + end - max(begin, at)
        return found

    def _watch(self) -> None:
        looked_at, stood = time.monotonic(), dict[int, str]()
        while not self._closing.wait(INTERVAL):
            now, stands = time.monotonic(), {pid: where for pid in self._pids() if (where := stands_in(pid))}
            # At both looks, and so in between.
            self._found += [(looked_at, now, where) for pid, where in stands.items() if stood.get(pid) == where]
            looked_at, stood = now, stands


def stands_in(pid: int) -> str:
    """The kernel's function in which it waits uninterruptibly (state D); empty: it does not, or is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return Path(f"/proc/{pid}/wchan").read_text() or "the kernel" if state == "D" else ""
    except OSError:
        return ""
