"""A script: its exit status is the verdict. One run at a time.

A run that is asked for while the one before still ends (it was killed at its timeout) begins when that one has gone. It
is no failure of its own: if it does not begin in time, the core fails it at its timeout. The last line of what it has
written is in the reason, also of a run that times out: it is given up a moment before the core does so.
"""

from functools import partial

from floatip.host.checks.kind import Means, Report, Runner
from floatip.host.child import Running
from floatip.host.workers import Handle
from floatip.model import Script

MARGIN, MOST_MARGIN = 0.05, 0.005
"""Of the timeout, and seconds at most."""


class ScriptRunner(Runner):
    def __init__(self, kind: Script, report: Report, means: Means) -> None:
        self._kind = kind
        self._report = report
        self._loop = means.loop
        self._start_child = means.start
        self._child: Running | None = None
        self._asked: int | None = None
        """The run that is not answered."""
        self._timer: Handle | None = None
        self._next: tuple[int, float, float] | None = None
        """The run that waits for its turn, its timeout, and the time at which the core gives it up."""

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def run(self, run: int, timeout: float) -> None:
        if self._child:
            self._next = run, timeout, self._loop.time() + timeout
            self._child.terminate()  # the core has given it up
        else:
            self._start(run, timeout, timeout)

    def close(self) -> None:
        self._next = self._asked = None
        self._cancel()
        if self._child:
            self._child.terminate()

    def _start(self, run: int, timeout: float, left: float) -> None:
        self._asked = run
        self._timer = self._loop.call_later(left - min(MOST_MARGIN, MARGIN * left), self._give_up, run, timeout)
        answer = partial(self._answer, run)
        self._child = self._start_child(self._kind.argv, left, answer, self._gone, run_as=self._kind.run_as)

    def _give_up(self, run: int, timeout: float) -> None:
        if self._child:
            line = self._child.last_line
            self._child.terminate()
            self._answer(run, False, f"timed out after {timeout:g} s{f': {line}' if line else ''}")

    def _answer(self, run: int, passed: bool, reason: str) -> None:
        # A check that a reload has removed or replaced has no say any more.
        if run == self._asked:
            self._asked = None
            self._report(run, passed, reason)

    def _gone(self) -> None:
        self._child = None
        self._cancel()
        if self._next:
            (run, timeout, give_up_at), self._next = self._next, None
            if (left := give_up_at - self._loop.time()) > 0:
                self._start(run, timeout, left)

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
