"""Whether a restart would work: reads the configuration again every minute, in a thread, and changes nothing.

What the last reload said of the file is corrected too: the file may have changed since, without a SIGHUP.

A start is stricter than a run: a script that became writable by others stops only the next start, on a day on which
nobody thinks of it. The daemon reads with its own rights, so it sees what its next start will see.
"""

import asyncio
from functools import partial

from floatip.core.problems import Code
from floatip.host.failures import Failures
from floatip.host.reload import AGAIN, MENDED, RESTART, WHAT, Read, outcome_of, say_refused
from floatip.host.workers import Workers
from floatip.reading import ConfigErrors, Loaded
from floatip.reading.patience import Waiting

INTERVAL = 60.0


class Restart:
    def __init__(self, read: Read, failures: Failures, check: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = read
        self._failures = failures
        self._check = check
        self._hint = f"mend what `{check}` names before the next restart, upgrade or reboot"
        self._workers = Workers()
        self._is_out = False
        self._waiting = Waiting("the file")
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def close(self) -> None:
        self._timer.cancel()
        self._workers.close()

    def _look(self) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._look)
        if self._is_out:
            what = f"would hang: {self._waiting.path} does not answer"
            self._failures.set(RESTART, what, self._hint, Code.RESTART_REFUSED)
            return
        self._is_out = True
        read = partial(outcome_of, self._read, self._waiting)
        self._workers.do(read, partial(self._has_read, WHAT in self._failures))

    def _has_read(self, was_refused: bool, outcome: Loaded | ConfigErrors | OSError) -> None:
        self._is_out = False
        if isinstance(outcome, OSError):
            return  # this process lacks something, which says nothing of the next one
        if WHAT in self._failures:
            self._failures.clear(RESTART)  # what a refused reload says includes the restart
            if was_refused:
                self._correct(outcome)
        elif isinstance(outcome, ConfigErrors):
            first, *others = outcome.errors
            more = f", and {len(others)} more" if others else ""
            self._failures.set(RESTART, f"would fail: {first.text}{more}", self._hint, Code.RESTART_REFUSED)
        else:
            self._failures.clear(RESTART)

    def _correct(self, outcome: Loaded | ConfigErrors) -> None:
        if isinstance(outcome, ConfigErrors):
            say_refused(self._failures, self._check)
        else:
            self._failures.set(WHAT, MENDED, AGAIN, Code.RELOAD_REFUSED)
