"""A script: its exit status is the verdict. One run at a time.

A run that is asked for while the one before still ends (it was killed at its timeout) begins when that one has gone. It
is no failure by itself: if it does not begin in time, the core fails it at its timeout.
"""

from functools import partial

from floatip.host.checks.kind import Means, Report, Runner
from floatip.host.child import Running
from floatip.model import Script


class ScriptRunner(Runner):
    def __init__(self, kind: Script, report: Report, means: Means) -> None:
        self._kind = kind
        self._report = report
        self._loop = means.loop
        self._start_child = means.start
        self._child: Running | None = None
        self._next: tuple[int, float] | None = None
        """The run that waits for its turn, and the time at which the core gives it up."""

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def run(self, run: int, timeout: float) -> None:
        if self._child:
            self._next = run, self._loop.time() + timeout
            self._child.terminate()  # the core has given it up
        else:
            self._start(run, timeout)

    def close(self) -> None:
        self._next = None
        self._report = _to_nobody
        if self._child:
            self._child.terminate()

    def _start(self, run: int, timeout: float) -> None:
        self._child = self._start_child(
            self._kind.argv, timeout, partial(self._answer, run), self._gone, run_as=self._kind.run_as
        )

    def _gone(self) -> None:
        self._child = None
        if self._next:
            (run, give_up_at), self._next = self._next, None
            if (left := give_up_at - self._loop.time()) > 0:
                self._start(run, left)

    def _answer(self, run: int, passed: bool, reason: str) -> None:
        self._report(run, passed, reason)


def _to_nobody(run: int, passed: bool, reason: str, value: int | None = None, /) -> None:
    """A check that a reload has removed or replaced has no say any more."""
