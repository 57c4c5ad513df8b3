"""Runs the checks, each by the runner of its kind. Each run ends in a `CheckDone`; no answer is a failure.

Scripts and connections answer a `Probe`; files and processes answer at the start and at each change. Rise, fall and
timing belong to the core.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from floatip.core.events import CheckDone, Event, Probe
from floatip.host.checks.file import FileCheck, FileRunner
from floatip.host.checks.kind import Means, Report, Runner
from floatip.host.checks.process import ProcessCheck, ProcessRunner
from floatip.host.checks.script import ScriptCheck, ScriptRunner
from floatip.host.checks.tcp import TcpCheck, TcpRunner
from floatip.host.child import Child, Orphans
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify
from floatip.host.workers import Workers

Check = ScriptCheck | TcpCheck | FileCheck | ProcessCheck
KINDS: dict[type[Any], Callable[[Any, Report, Means], Runner]] = {
    ScriptCheck: ScriptRunner,
    TcpCheck: TcpRunner,
    FileCheck: FileRunner,
    ProcessCheck: ProcessRunner,
}


class _Asked(NamedTuple):
    run: int
    until: float


class Probes:
    def __init__(self, report: Callable[[Event], None], means: Means | None = None) -> None:
        self._report = report
        self._means = means or _means(report)
        self._checks: dict[str, Check] = {}
        self._runners: dict[str, Runner] = {}
        self._asked: dict[str, _Asked] = {}
        """Runs that have no answer yet."""
        self._orphans = Orphans() if means is None and os.getpid() == 1 else None

    def configure(self, checks: Iterable[Check]) -> None:
        """A check that stays as it is goes on, and tells its verdict again if it answers unasked."""
        old, self._checks = self._checks, {check.name: check for check in checks}
        for name in [name for name in self._runners if self._checks.get(name) != old[name]]:
            self._runners.pop(name).close()
        for name in self._asked.keys() - self._checks.keys():
            del self._asked[name]
        for name, check in self._checks.items():
            if name in self._runners:
                self._runners[name].tell()
            else:
                self._start(name, check)

    def run(self, probe: Probe) -> None:
        if runner := self._runners.get(probe.check):
            self._asked[probe.check] = _Asked(probe.run, self._means.loop.time() + probe.timeout)
            runner.run(probe.run, probe.timeout)
        else:
            self._report(CheckDone(probe.check, probe.run, False, "there is no such check"))

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._checks.clear()
        self._means.inotify.close()
        self._means.jobs.close()
        if self._orphans:
            self._orphans.close()

    def _start(self, name: str, check: Check) -> None:
        self._runners[name] = KINDS[type(check)](check, partial(self._answer, name), self._means)
        # What the core waits for is asked again, of the check as it is now.
        if (asked := self._asked.get(name)) and (left := asked.until - self._means.loop.time()) > 0:
            self._runners[name].run(asked.run, left)

    def _answer(self, name: str, run: int, passed: bool, reason: str) -> None:
        if (asked := self._asked.get(name)) and asked.run == run:
            del self._asked[name]
        self._report(CheckDone(name, run, passed, reason))


def _means(report: Callable[[Event], None]) -> Means:
    workers = Workers()
    start = partial(Child, workers)
    return Means(asyncio.get_running_loop(), workers, start, Inotify(), Failures("checks", report))
