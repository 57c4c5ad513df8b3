"""Runs each check once, all at the same time, for a person who waits: `floatip check --run`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from floatip.host.checks.helper import PART, Helper
from floatip.host.checks.kind import Means
from floatip.host.checks.runner import KINDS
from floatip.host.child import GRACE, Child, Ended
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify
from floatip.host.workers import Workers
from floatip.model import DAEMON, Check, RunAs

PROGRESS_INTERVAL = 2.0
LEFT_BEHIND = GRACE + 1.0
"""Seconds after its end, or ours, that a script may take to be gone."""


class Result(NamedTuple):
    passed: bool
    reason: str
    seconds: float


async def run_each(
    checks: Sequence[Check],
    done: Callable[[Check, Result], None],
    still_running: Callable[[Sequence[Check], float], None],
) -> None:
    """`still_running` is called with the seconds since the start, as long as nothing else is told."""
    loop = asyncio.get_running_loop()
    workers, inotify = Workers(), Inotify(Failures("checks", lambda event: None))
    helper = Helper(loop, workers, Failures(PART, lambda event: None))
    tasks = {asyncio.create_task(_Try(one, workers, inotify, helper).run()): one for one in checks}
    started, running = loop.time(), set(tasks)
    while running:
        ended, running = await asyncio.wait(running, timeout=PROGRESS_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(ended, key=list(tasks).index):
            done(tasks[task], task.result())
        if not ended:
            still_running([one for task, one in tasks.items() if task in running], loop.time() - started)
    inotify.close()
    workers.close()


class _Try:
    def __init__(self, check: Check, workers: Workers, inotify: Inotify, helper: Helper) -> None:
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._workers = workers
        self._means = Means(self._loop, workers, self._start, inotify, helper)
        self._answer: asyncio.Future[tuple[bool, str]] = self._loop.create_future()
        self._is_gone = asyncio.Event()
        self._is_gone.set()

    async def run(self) -> Result:
        kind, started = self._check.kind, self._loop.time()
        runner = KINDS[type(kind)](kind, self._answered, self._means)
        try:
            runner.run(1, self._check.policy.timeout)
            return Result(*await self._answer, self._loop.time() - started)
        finally:
            runner.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_gone.wait(), LEFT_BEHIND)

    def _answered(self, run: int, passed: bool, reason: str, value: int | None = None) -> None:
        if not self._answer.done():
            self._answer.set_result((passed, reason))

    def _start(
        self,
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None],
        environment: Mapping[str, str] | None = None,
        *,
        run_as: RunAs = DAEMON,
    ) -> Child:
        def concluded(succeeded: bool, reason: str) -> None:
            line = child.last_line
            ended(succeeded, reason if not line or reason.endswith(line) else f"{reason}: {line}")

        self._is_gone.clear()
        child = Child(self._workers, argv, timeout, concluded, partial(self._gone, gone), environment, run_as=run_as)
        return child

    def _gone(self, gone: Callable[[], None]) -> None:
        gone()
        self._is_gone.set()
