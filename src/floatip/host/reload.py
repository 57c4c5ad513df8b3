"""SIGHUP: reads the configuration again, in a thread, because a path that the file names may hang.

A SIGHUP during a reading leads to one more reading after it: the file may have changed since it was read. A reading
that hangs is given up, and what it returns in the end is ignored. systemd is told at each SIGHUP that we reload, and
that we are ready when nothing is left to read.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from floatip.core.problems import Code
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.log import ERROR, Log
from floatip.host.systemd import Systemd
from floatip.host.workers import Workers
from floatip.reading import ConfigError, ConfigErrors, Loaded, render
from floatip.reading.patience import Waiting, noted

PATIENCE = 5.0
WHAT, RESTART = "reload", "restart"
"""The failures: of the last reload, and of the next start."""
STAYS = "so the configuration before it stays in force"
REFUSED = f"the file was refused, {STAYS}, and a restart would fail"
MENDED = "the file is right now, but not loaded: the configuration before it stays in force"
AGAIN = "systemctl reload floatip"

Read = Callable[[], Loaded]
"""Reads the configuration, at start and at each reload; may raise `ConfigErrors`."""
Outcome = Callable[[Loaded | ConfigErrors | OSError | None], None]
"""None: it hangs."""


class Reload:
    def __init__(
        self,
        read: Read,
        apply: Callable[[Loaded], None],
        failures: Failures,
        log: Log,
        systemd: Systemd,
        check: str,
        refused: Callable[[list[ConfigError]], None],
    ) -> None:
        """`check`: the command that names what is wrong with the file."""
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._read = read
        self._check = check
        self._apply = apply
        self._failures = failures
        self._log = log
        self._systemd = systemd
        self._workers = Workers()
        self._reading = 0
        """The number of the one that counts."""
        self._impatience: asyncio.TimerHandle | None = None
        """While a reading is out."""
        self._is_asked_again = False
        self._other: tuple[Read, Outcome] | None = None
        """What else is to be read, for another reason than SIGHUP."""
        self._is_told = self._is_reading_file = False
        """Whether systemd waits for us; whether the reading that is out is of the file."""
        self._is_closed = False

    def begin(self) -> None:
        if self._is_closed:
            return
        self._systemd.reloading()
        self._is_told = True
        if self._impatience:
            self._is_asked_again = True
        else:
            self._begin()

    def also(self, read: Read, outcome: Outcome) -> None:
        """Read it another way, and apply that. Of several that wait the last one is read."""
        if self._is_closed:
            return
        self._other = read, outcome
        if not self._impatience:
            self._begin()

    def close(self) -> None:
        """What is being read does not count any more."""
        self._is_closed = True
        self._is_out_no_more()
        self._workers.close()

    def _begin(self) -> None:
        self._reading += 1
        waiting = Waiting("the file")
        self._is_reading_file = not self._other
        if self._other:
            (read, outcome), self._other = self._other, None
            self._impatience = self._loop.call_later(PATIENCE, self._give_up_other, outcome)
            self._workers.do(partial(outcome_of, read, waiting), partial(self._has_other, self._reading, outcome))
            return
        self._is_asked_again = False
        self._impatience = self._loop.call_later(PATIENCE, self._give_up, waiting)
        self._workers.do(partial(outcome_of, self._read, waiting), partial(self._has_read, self._reading))

    def _give_up_other(self, outcome: Outcome) -> None:
        self._end()
        outcome(None)

    def _has_other(self, reading: int, outcome: Outcome, found: Loaded | ConfigErrors | OSError) -> None:
        if reading != self._reading:
            return
        if isinstance(found, Loaded):
            self._apply(found)
        elif isinstance(found, ConfigErrors):
            self._log.write(ERROR, f"{render(found.errors, found.warnings)}\nnot reloaded: the old configuration stays")
            self._refused(found.errors)
        self._end()
        outcome(found)

    def _is_out_no_more(self) -> None:
        self._reading += 1
        self._is_reading_file = False
        if self._impatience:
            self._impatience.cancel()
            self._impatience = None

    def _give_up(self, waiting: Waiting) -> None:
        what = f"not read after {PATIENCE:g} s: {waiting.path} does not answer, {STAYS}"
        self._failures.set(WHAT, what, f"find the disk that hangs: findmnt, dmesg; then: {AGAIN}")
        self._end()

    def _has_read(self, reading: int, outcome: Loaded | ConfigErrors | OSError) -> None:
        if reading != self._reading:
            return
        if not isinstance(outcome, OSError):
            self._failures.clear(RESTART)  # it was about another file, or this reading says it too
        match outcome:
            case Loaded():
                self._failures.clear(WHAT)
                self._apply(outcome)
            case ConfigErrors(errors=errors, warnings=warnings):
                self._log.write(ERROR, f"{render(errors, warnings)}\nnot reloaded: the old configuration stays")
                say_refused(self._failures, self._check)
                self._refused(errors)
            case OSError():
                what = f"the file could not be read and checked ({in_words(outcome.errno)}), {STAYS}"
                self._failures.set(WHAT, what, f"when this is mended: {AGAIN}")
        self._end()

    def _end(self) -> None:
        self._is_out_no_more()
        if self._is_asked_again or self._other:
            self._begin()
        if self._is_told and not self._is_asked_again and not self._is_reading_file:
            self._is_told = False
            self._systemd.ready()


def say_refused(failures: Failures, check: str) -> None:
    failures.set(WHAT, REFUSED, f"see what is wrong with it: {check}; then: {AGAIN}", Code.RELOAD_REFUSED)


def outcome_of(read: Read, waiting: Waiting) -> Loaded | ConfigErrors:
    """Workers hand over only an `OSError`."""
    with noted(waiting):
        try:
            return read()
        except ConfigErrors as error:
            return error
