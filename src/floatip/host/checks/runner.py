"""Runs the checks, each by the runner of its kind. Each run ends in a `CheckDone`; no answer is a failure.

Scripts and connections answer a `Probe`; files and processes answer at the start and at each change. Rise, fall and
timing belong to the core.
"""

import asyncio
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from floatip.core.events import CheckDone, Event, Probe
from floatip.host.checks.file import FileRunner
from floatip.host.checks.helper import PART, HelpedRunner, Helper
from floatip.host.checks.interface import InterfaceRunner
from floatip.host.checks.kind import Means, Report, Runner
from floatip.host.checks.process import process_runner
from floatip.host.checks.script import ScriptRunner
from floatip.host.checks.started import Started
from floatip.host.checks.tcp import TcpRunner
from floatip.host.checks.value import ValueRunner
from floatip.host.child import Child, Orphans
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify
from floatip.host.workers import Workers
from floatip.model import Dns, File, Haproxy, Http, Icmp, Interface, Kind, Process, Script, Systemd, Tcp, Value

KINDS: dict[type[Any], Callable[[Any, Report, Means], Runner]] = {
    Script: ScriptRunner,
    Tcp: TcpRunner,
    File: FileRunner,
    Process: process_runner,
    Http: HelpedRunner,
    Dns: HelpedRunner,
    Icmp: HelpedRunner,
    Haproxy: HelpedRunner,
    Systemd: HelpedRunner,
    Interface: InterfaceRunner,
    Value: ValueRunner,
}

AT_ONCE = 8
PAUSE = 0.002
"""Seconds between two runs of which the second begins a slice of its own."""


class Probes:
    def __init__(self, report: Callable[[Event], None], means: Means | None = None) -> None:
        self._report = report
        self._means = means or _means(report)
        self._kinds: dict[str, Kind] = {}
        self._runners: dict[str, Runner] = {}
        self._waiting: deque[Probe] = deque()
        self._begun, self._began_at = 0, -math.inf
        """How many runs began in this slice, and when the last one was asked for."""
        self._orphans = Orphans() if means is None and os.getpid() == 1 else None

    def configure(self, checks: Mapping[str, Kind]) -> None:
        """By name. A check that stays as it is goes on, and tells its verdict again if it answers unasked."""
        old, self._kinds = self._kinds, dict(checks)
        for name in [name for name in self._runners if self._kinds.get(name) != old[name]]:
            self._runners.pop(name).close()
        for name, kind in self._kinds.items():
            if name in self._runners:
                self._runners[name].tell()
            elif type(kind) in KINDS:  # of others the core knows all
                self._runners[name] = KINDS[type(kind)](kind, partial(self._answer, name), self._means)

    def run(self, probe: Probe) -> None:
        """Hundreds that are due in one moment begin in slices, between which adverts and timers have their turn."""
        now = self._means.loop.time()
        if now - self._began_at > PAUSE:
            self._begun = 0
        self._began_at = now
        if self._begun < AT_ONCE and not self._waiting:
            self._begin(probe)
            return
        self._waiting.append(probe)
        if len(self._waiting) == 1:
            self._means.loop.call_later(0.0, self._next_slice)

    def _next_slice(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < AT_ONCE:
            self._begin(self._waiting.popleft())
        if self._waiting:
            self._means.loop.call_later(0.0, self._next_slice)

    def _begin(self, probe: Probe) -> None:
        self._begun += 1
        if runner := self._runners.get(probe.check):
            runner.run(probe.run, probe.timeout)
        else:
            self._report(CheckDone(probe.check, probe.run, False, "there is no such check"))

    def close(self) -> None:
        self._waiting.clear()
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._kinds.clear()
        self._means.inotify.close()
        self._means.jobs.close()
        if self._orphans:
            self._orphans.close()

    def _answer(self, name: str, run: int, passed: bool, reason: str, value: int | None = None) -> None:
        self._report(CheckDone(name, run, passed, reason, value))


def _means(report: Callable[[Event], None]) -> Means:
    workers = Workers()
    loop, inotify = asyncio.get_running_loop(), Inotify(Failures("checks", report))
    helper = Helper(loop, workers, Failures(PART, report))
    return Means(loop, workers, partial(Child, workers, ends_group=True), inotify, helper, Started())
