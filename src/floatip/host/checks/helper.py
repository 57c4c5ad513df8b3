"""The process that runs the checks of `floatip.checking`: started with the first of them, restarted, and asked.

Its stdin is a socket to here, on which one packet is one line of JSON. It exits at the end of that connection, so it
does not outlive the daemon however that ends. What it does not answer is the core's timeout, and a process that does
not answer a ping either is ended: what strangers answer must not keep it for long.
"""

import json
import math
import os
import socket
import sys
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from floatip.core.events import Failure
from floatip.host import privileges
from floatip.host.checks.kind import Means, Report, Runner
from floatip.host.child import Child, Running
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.workers import Handle, Workers
from floatip.model import Dns, Haproxy, Http, Icmp, Systemd
from floatip.text import printable

PART = "checks helper"
SOONEST, LATEST = 1.0, 30.0
"""Seconds until a process that ended is started again; doubled each time."""
STEADY = 60.0
"""A process that ran for this long has started well."""
PING_INTERVAL, MOST_MISSED = 1.0, 5
TO_START = 25
"""So many pings more may be missed by a process that starts: a busy machine loads modules for seconds."""
LARGEST = 1 << 16
HINT = "floatip starts it again; if it goes on to end, report this line"

Helped = Http | Dns | Icmp | Haproxy | Systemd


class Told(Protocol):
    """A check, as far as the helper needs to know."""

    @property
    def kind(self) -> Helped: ...
    def greeting(self) -> list[str]:
        """What a process that does not know the check must learn."""

    def answered(self, run: int, passed: bool, reason: str) -> None: ...

    def lost(self, reason: str) -> None:
        """There is no process any more."""


class Helper:
    """One for all checks of a daemon."""

    def __init__(self, loop: Any, workers: Workers, failures: Failures) -> None:
        self._loop = loop
        self._workers = workers
        self._failures = failures
        self._checks: dict[int, Told] = {}
        self._last = 0
        self._child: Running | None = None
        self._ours: socket.socket | None = None
        self._is_lent = False
        """Whether the process has CAP_NET_RAW from us."""
        self.why = ""
        """There is no process; empty: there is, or is about to be."""
        self._missed = 0
        self._started_at = 0.0
        self._delay = SOONEST
        self._next: Handle | None = None
        self._ping: Handle | None = None

    @property
    def is_gone(self) -> bool:
        """Nothing is left of the process."""
        return self._child is None

    def add(self, check: Told) -> int:
        """The key of the check, which then begins."""
        self._last += 1
        self._checks[self._last] = check
        return self._last

    def begin(self, key: int) -> None:
        """The process learns of the check, before it is asked to run it."""
        if not self._child and not self._next:
            # All checks of a configuration come at once: the process starts when they are known.
            self._next = self._loop.call_later(0.0, self._start)
        elif self._ours and isinstance(self._checks[key].kind, Icmp) and not self._is_lent and _must_lend():
            self._delay = 0.0
            self._stop()
        elif self._ours:
            self._greet(key)

    def remove(self, key: int) -> None:
        del self._checks[key]
        if self._checks:
            self.send(f'["drop", {key}]')
        else:
            self._delay = 0.0
            self._stop()
            self._failures.keep(())

    def send(self, line: str) -> None:
        if not self._ours:
            return
        try:
            self._ours.send(line.encode())
        except BlockingIOError:
            self._give_up("does not read what it is told")
        except OSError:
            pass  # it ended, which is told in a moment

    def _start(self) -> None:
        self._next = None
        if not self._checks:
            return
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._ended(False, in_words(error.errno))
            self._gone(())
            return
        ours.setblocking(False)
        self._ours, self.why, self._missed = ours, "", -TO_START
        self._started_at = self._loop.time()
        self._loop.add_reader(ours, self._read, ours)
        # The modules that are here, and no others: not those of the directory in which the daemon was started.
        modules = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
        argv = (sys.executable, "-SsPB", "-m", "floatip.checking")
        gone = partial(self._gone, (ours, theirs))
        pings = any(isinstance(check.kind, Icmp) for check in self._checks.values())
        self._is_lent = pings and _must_lend()
        self._child = Child(
            self._workers,
            argv,
            math.inf,
            self._ended,
            gone,
            {"PYTHONPATH": modules},
            theirs.fileno(),
            lends=privileges.CAP_NET_RAW if self._is_lent else 0,
        )
        self._ping = self._loop.call_later(PING_INTERVAL, self._look_after)
        for key in list(self._checks):
            self._greet(key)

    def _greet(self, key: int) -> None:
        for line in self._checks[key].greeting():
            self.send(line)

    def _look_after(self) -> None:
        self._missed += 1
        self._ping = self._loop.call_later(PING_INTERVAL, self._look_after)
        if self._missed > MOST_MISSED:
            self._give_up("does not answer")
        else:
            self.send('["ping"]')

    def _read(self, ours: socket.socket) -> None:
        try:
            data = ours.recv(LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(ours)  # it ends, or is to
            self._stop()
            return
        try:
            self._answer(json.loads(data))
        except (ValueError, TypeError, RecursionError):  # strangers speak to it: it may be anything by now
            self._give_up("says what nobody understands")

    def _answer(self, said: Any) -> None:
        self._missed = 0
        if PART in self._failures:
            self._failures.keep(())
        if said == ["pong"]:
            return
        key, run, passed, reason = said
        if not (isinstance(run, int) and isinstance(passed, bool) and isinstance(reason, str)):
            raise ValueError
        if check := self._checks.get(key):
            check.answered(run, passed, printable(reason))

    def _give_up(self, what: str) -> None:
        self._lose(f"the helper of the checks {what}")
        self._stop()

    def _stop(self) -> None:
        for timer in filter(None, (self._next, self._ping)):
            timer.cancel()
        self._next = self._ping = None
        if self._ours:
            self._loop.remove_reader(self._ours)
            self._ours = None
        if self._child:
            self._child.terminate()

    def _ended(self, succeeded: bool, reason: str) -> None:
        if self._checks and self._delay and not self.why:
            self._lose(f"the helper of the checks ended: {reason}")

    def _lose(self, why: str) -> None:
        self.why = why
        self._failures.replace([Failure(PART, why, HINT)])
        for check in list(self._checks.values()):
            check.lost(why)

    def _gone(self, ends: tuple[socket.socket, ...]) -> None:
        if self._ours in ends:
            self._stop()
        for end in ends:
            end.close()
        self._child = None
        if not self._checks:
            return
        if self._loop.time() - self._started_at > STEADY:
            self._delay = SOONEST
        self._next = self._loop.call_later(self._delay, self._start)
        self._delay = min(max(SOONEST, self._delay * 2), LATEST)


def _must_lend() -> bool:
    """Whether the kernel lets this user send no echo request without a capability. Root keeps its own."""
    if os.geteuid() == 0:
        return False
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except OSError:
        return True
    return False


class HelpedRunner(Runner):
    """A check that the helper runs. Those that are watched answer with run 0."""

    def __init__(self, kind: Helped, report: Report, means: Means) -> None:
        self.kind = kind
        self._report = report
        self._helper = means.helper
        self._out: tuple[int, float] | None = None
        """The run that is not answered, and its timeout."""
        self._said: tuple[bool, str] | None = None
        """Unasked."""
        self._key = self._helper.add(self)
        fields = json.dumps(asdict(kind), default=str)
        self._set = f'["set", {self._key}, "{type(kind).__name__.lower()}", {fields}]'
        self._helper.begin(self._key)

    def run(self, run: int, timeout: float) -> None:
        if isinstance(self.kind, Systemd):
            if self._said:
                self._report(run, *self._said)
            return
        self._out = run, timeout
        if self._helper.why:
            self.lost(self._helper.why)
        else:
            self._helper.send(self._run(run, timeout))

    def tell(self) -> None:
        for line in self.greeting():  # files that it names may have changed
            self._helper.send(line)
        if self._said:
            self._report(0, *self._said)

    def close(self) -> None:
        self._helper.remove(self._key)

    def greeting(self) -> list[str]:
        return [self._set, *([self._run(*self._out)] if self._out else [])]

    def answered(self, run: int, passed: bool, reason: str) -> None:
        if isinstance(self.kind, Systemd):
            if self._said != (passed, reason):
                self._said = passed, reason
                self._report(0, passed, reason)
        elif self._out and self._out[0] == run:
            self._out = None
            self._report(run, passed, reason)

    def lost(self, reason: str) -> None:
        if isinstance(self.kind, Systemd):
            self.answered(0, False, reason)
        elif self._out:
            self.answered(self._out[0], False, reason)

    def _run(self, run: int, timeout: float) -> str:
        return f'["run", {self._key}, {run}, {timeout!r}]'
