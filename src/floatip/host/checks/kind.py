"""What every kind of check is given and gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from floatip.host.child import Start
from floatip.host.errors import in_words
from floatip.host.inotify import Inotify
from floatip.host.workers import Handle, Jobs, Loop

if TYPE_CHECKING:
    from floatip.host.checks.helper import Helper
    from floatip.host.checks.started import Started

Verdict = tuple[bool, str]
LOOK_INTERVAL = 1.0
LOOK_TIMEOUT = 2.0
"""Seconds after which a look at a path, which nobody can interrupt, counts as failed."""

T = TypeVar("T")


class Report(Protocol):
    def __call__(self, run: int, passed: bool, reason: str, value: int | None = None, /) -> None:
        """The number of the run (0: the check answers unasked), whether it passed, and why; `value`: of a `Value`."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the runners share. The simulation gives others."""

    loop: Loop
    jobs: Jobs
    start: Start
    inotify: Inotify
    helper: "Helper"
    started: "Started"


class Runner(Protocol):
    def run(self, run: int, timeout: float) -> None:
        """Answer once, or not at all: the core fails the run itself at its timeout (seconds)."""

    def tell(self) -> None:
        """A reload: a check that answers unasked tells its verdict again."""
        return None

    def close(self) -> None: ...


class Unasked(ABC, Generic[T]):
    """A check that answers at each change. It looks in a thread: at the start, at changes of its path, and by time."""

    def __init__(self, path: Path | None, report: Report, means: Means) -> None:
        self._path = path
        self._report = report
        self._means = means
        self._verdict: Verdict | None = None
        self._value: int | None = None
        self._told: tuple[Verdict, int | None] | None = None
        self._timer: Handle | None = None
        self._is_out = False
        self._is_needed_again = False
        self._closed = False
        if path:
            means.inotify.subscribe(path, self._look)
        self._look()

    def run(self, run: int, timeout: float) -> None:
        if self._verdict:
            self._report(run, *self._verdict, self._value)

    def tell(self) -> None:
        self._told = None
        self._look()

    def close(self) -> None:
        self._closed = True
        self._never()
        if self._path:
            self._means.inotify.unsubscribe(self._path, self._look)

    @abstractmethod
    def _see(self) -> T:
        """In a thread; may raise OSError."""

    @abstractmethod
    def _found(self, found: T) -> None:
        """Says what is to be said, and when to look again."""

    def _discard(self, found: T) -> None:
        """It was closed meanwhile."""

    def _cannot_look(self, reason: str) -> None:
        self._say((False, f"cannot look at {self._path or '/proc'}: {reason}"))

    def _say(self, verdict: Verdict, value: int | None = None) -> None:
        self._verdict, self._value = verdict, value
        if (verdict, value) != self._told:
            self._told = verdict, value
            self._report(0, *verdict, value)

    def _look(self) -> None:
        if self._closed:
            return
        if self._is_out:
            self._is_needed_again = True
            return
        self._is_out = True
        self._later(LOOK_TIMEOUT, partial(self._cannot_look, f"no answer after {LOOK_TIMEOUT:g} s"))
        self._means.jobs.do(self._job, self._done)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._never()
        self._timer = self._means.loop.call_later(seconds, action)

    def _never(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _job(self) -> tuple[int, T | OSError]:
        # Watch first: nothing that happens after the look is missed.
        code = self._means.inotify.watch(self._path) if self._path else 0
        try:
            return code, self._see()
        except OSError as error:
            return code, error

    def _done(self, outcome: tuple[int, T | OSError] | OSError) -> None:
        self._is_out = False
        code, found = (0, outcome) if isinstance(outcome, OSError) else outcome
        if self._closed:
            return None if isinstance(found, OSError) else self._discard(found)
        if self._path:
            self._means.inotify.note(self._path, code)
        self._later(LOOK_INTERVAL, self._look)
        if isinstance(found, OSError):
            self._cannot_look(in_words(found.errno))
        else:
            self._found(found)
        if self._is_needed_again:
            self._is_needed_again = False
            self._look()
        return None
