"""What every kind of check is given and gives."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from floatip.host.child import Start
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify
from floatip.host.workers import Handle, Jobs, Loop

Report = Callable[[int, bool, str], None]
"""The number of the run (0: the check answers unasked), whether it passed, and why."""
LOOK_TIMEOUT = 2.0
"""Seconds after which a look at a path, which nobody can interrupt, counts as failed."""
INSTEAD = "looks once a second instead"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Means:
    """What the runners share. The simulation gives others."""

    loop: Loop
    jobs: Jobs
    start: Start
    inotify: Inotify
    failures: Failures


class Runner(Protocol):
    def run(self, run: int, timeout: float) -> None:
        """Answer once, or not at all: the core fails the run itself at its timeout (seconds)."""

    def tell(self) -> None:
        """A reload: a check that answers unasked tells its verdict again."""

    def close(self) -> None: ...


class Lookout(Generic[T]):
    """Looks in a thread: when asked, at changes of the path if there is one, and when the time comes. One at a time."""

    def __init__(
        self,
        means: Means,
        path: Path | None,
        look: Callable[[], T],
        found: Callable[[T | OSError], None],
        timed_out: Callable[[], None],
    ) -> None:
        """`look` runs in a thread, `found` and `timed_out` (the look is still out) in the loop."""
        self._means = means
        self._path = path
        self._look = look
        self._found = found
        self._timed_out = timed_out
        self._timer: Handle | None = None
        self._is_out = False
        self._is_needed_again = False
        self._closed = False
        if path:
            means.inotify.subscribe(path, self.look)

    def look(self) -> None:
        if self._closed:
            return
        if self._is_out:
            self._is_needed_again = True
            return
        self._is_out = True
        self.look_in(LOOK_TIMEOUT, self._timed_out)
        if self._path:
            self._open_inotify()
        self._means.jobs.do(self._job, self._done)

    def look_in(self, seconds: float, action: Callable[[], None] | None = None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._means.loop.call_later(seconds, action or self.look)

    def close(self) -> None:
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._path:
            self._means.inotify.unsubscribe(self._path, self.look)
            self._means.failures.clear(f"watch {self._path.parent}")

    def _job(self) -> tuple[int, T | OSError]:
        # Watch first: nothing that happens after the look is missed.
        code = self._means.inotify.watch(self._path) if self._path else 0
        try:
            return code, self._look()
        except OSError as error:
            return code, error

    def _done(self, outcome: tuple[int, T | OSError] | OSError) -> None:
        self._is_out = False
        assert isinstance(outcome, tuple)
        code, found = outcome
        if self._timer:
            self._timer.cancel()
        if not self._closed and self._path:
            self._note_watch(self._path, code)
        self._found(found)
        if self._is_needed_again:
            self._is_needed_again = False
            self.look()

    def _open_inotify(self) -> None:
        try:
            self._means.inotify.open()
        except OSError as error:
            hint = "raise the sysctl user.max_inotify_instances"
            self._means.failures.set("inotify", f"{in_words(error.errno)}; {INSTEAD}", hint)
        else:
            self._means.failures.clear("inotify")

    def _note_watch(self, path: Path, code: int) -> None:
        what = f"watch {path.parent}"
        if code:
            hint = "raise the sysctl user.max_inotify_watches" if code == errno.ENOSPC else ""
            self._means.failures.set(what, f"{in_words(code)}; {INSTEAD}", hint)
        else:
            self._means.failures.clear(what)
