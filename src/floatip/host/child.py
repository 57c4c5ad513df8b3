"""A child process: at its timeout its whole group gets SIGTERM, so that traps run, and a moment later SIGKILL.

It is started in a thread, because exec may hang as long as a file system or a virus scanner does. There is no shell and
no `preexec_fn`, and the child gets a session of its own. The verdict falls at the timeout even if the kernel cannot
end the child yet; `running` tells when it really has gone.
"""

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from floatip.host import privileges
from floatip.host import run_as as rights
from floatip.host.errors import in_words
from floatip.host.spawn import spawn
from floatip.host.workers import Handle, Workers
from floatip.model import DAEMON, RunAs

TAIL = 4096
LONGEST_LINE = 200
GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL, but not more than half of the child's timeout."""
REAP_INTERVAL = 1.0
NO_INTERPRETER = "the interpreter that its first line names is not there"
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT

Ended = Callable[[bool, str], None]


class NoInterpreter(OSError):
    """The kernel says that there is no such file, of a script that is there (execve(2))."""


class Running(Protocol):
    """What the user of a child needs; the simulation plays one."""

    @property
    def running(self) -> bool: ...
    @property
    def last_line(self) -> str:
        """Of what it has written so far, safe to print."""

    def terminate(self) -> None: ...


class Start(Protocol):
    """Starts a child. `ended(succeeded, reason)` is called exactly once, `gone()` when nothing is left of the child.

    `environment` is added to ours.
    """

    def __call__(
        self,
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None],
        environment: Mapping[str, str] | None = None,
        *,
        run_as: RunAs = DAEMON,
    ) -> Running: ...


class Child:
    """See `Start`. Neither callback comes before the constructor has returned."""

    def __init__(
        self,
        workers: Workers,
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None] = lambda: None,
        environment: Mapping[str, str] | None = None,
        source: int | None = None,
        *,
        run_as: RunAs = DAEMON,
        lends: int = 0,
        ends_group: bool = False,
    ) -> None:
        """`source`: a descriptor that the child reads from. It stays open until `gone`.

        `lends`: a mask of our capabilities that it has. `ends_group`: what it leaves behind is killed however it ended.
        """
        self._loop = asyncio.get_running_loop()
        self._name = argv[0]
        self._timeout = timeout
        self._ended = ended
        self._gone = gone
        self._tail = b""
        self._is_told = False
        self._is_unwanted = False
        self._ends_group = ends_group
        self._child: _Process | None = None
        self._killing: asyncio.TimerHandle | None = None
        self.running = True
        self._timer: Handle = self._loop.call_later(timeout, self._timed_out)
        _starting.add(self)
        workers.do(partial(_spawn, argv, environment, source, run_as, lends), self._started)

    @property
    def last_line(self) -> str:
        return last_line(self._tail)

    def terminate(self) -> None:
        """End the child and all that it started: SIGTERM now, SIGKILL a moment later."""
        if not self.running or self._is_unwanted:
            return
        self._is_unwanted = True
        if self._killing:
            self._killing.cancel()
        self._killing = self._loop.call_later(min(GRACE, self._timeout / 2), self._signal, signal.SIGKILL)
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self._child:
            # Not reaped yet, so its group cannot be anyone else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _started(self, outcome: "_Process | OSError") -> None:
        _starting.discard(self)
        if isinstance(outcome, OSError):
            why = in_words(outcome.errno)
            if isinstance(outcome, NoInterpreter | rights.CannotBecome):
                why = str(outcome.strerror)
            self._end(False, f"cannot run {self._name}: {why}")
            return
        self._child = outcome
        _ours.add(outcome.pid)
        self._loop.add_reader(outcome.output, self._read)
        self._loop.add_reader(outcome.pidfd, self._exited)
        if self._is_unwanted:
            self._is_unwanted = False
            self.terminate()

    def _read(self) -> None:
        assert self._child
        try:
            data = os.read(self._child.output, 65536)
        except BlockingIOError:
            return
        if data:
            self._tail = (self._tail + data)[-TAIL:]
        else:
            self._loop.remove_reader(self._child.output)

    def _timed_out(self) -> None:
        self.terminate()
        self._conclude(False, f"timed out after {self._timeout:g} s")

    def _exited(self) -> None:
        assert self._child
        # What is left in the pipe is ours to read; a grandchild that keeps it open is not waited for.
        self._read()
        if self._is_unwanted or self._ends_group:
            self._signal(signal.SIGKILL)  # to what it leaves behind
        for descriptor in (self._child.output, self._child.pidfd):
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(self._child.pid, 0)[1])
        _ours.discard(self._child.pid)
        outcome = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        line = self.last_line
        self._end(status == 0, f"{outcome}: {line}" if line else outcome)

    def _end(self, succeeded: bool, reason: str) -> None:
        self.running = False
        for timer in filter(None, (self._timer, self._killing)):
            timer.cancel()
        self._conclude(succeeded, reason)
        self._gone()

    def _conclude(self, succeeded: bool, reason: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._ended(succeeded, reason)


_starting: set[Child] = set()
"""Their pids are not known yet."""
_ours: set[int] = set()
"""Pids of children that somebody waits for."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    pidfd: int
    output: int


def _spawn(
    argv: Sequence[str], environment: Mapping[str, str] | None, source: int | None, run_as: RunAs, lends: int
) -> _Process:
    """In a thread. Raises OSError."""
    argv = rights.command(argv, run_as)
    output, its_output = os.pipe()
    pid = 0
    try:
        with privileges.lent(lends):
            pid = spawn(argv, environment, its_output, source)
        os.set_blocking(output, False)
        return _Process(pid, os.pidfd_open(pid), output)
    except OSError as error:
        os.close(output)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if error.errno == errno.ENOENT and os.path.exists(argv[0]):
            raise NoInterpreter(errno.ENOENT, NO_INTERPRETER) from None
        raise
    finally:
        os.close(its_output)


class Orphans:
    """Process 1 of a container inherits every orphan: reaps those that have ended, before nothing can be forked."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reap()

    def close(self) -> None:
        self._timer.cancel()

    def _reap(self) -> None:
        self._timer = self._loop.call_later(REAP_INTERVAL, self._reap)
        with contextlib.suppress(ChildProcessError):
            # Our own children are only looked at: whoever started one waits for it.
            while not _starting and (ended := os.waitid(os.P_ALL, 0, _LOOK)) and ended.si_pid not in _ours:
                os.waitpid(ended.si_pid, os.WNOHANG)


def last_line(output: bytes) -> str:
    """The last line with something in it, safe to print."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1][:LONGEST_LINE]) if lines else ""
