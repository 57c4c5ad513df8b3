"""Runs each check once, all at the same time, for a person who waits: `floatip check --run`.

What only the core knows is counted from the results, or is not known.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from floatip.host.checks.helper import PART, Helper
from floatip.host.checks.kind import Means
from floatip.host.checks.runner import KINDS
from floatip.host.checks.started import Started
from floatip.host.child import GRACE, Child, Ended
from floatip.host.failures import Failures
from floatip.host.inotify import Inotify
from floatip.host.workers import Workers
from floatip.model import DAEMON, Check, Quorum, RunAs, Value

PROGRESS_INTERVAL, PAUSE = 2.0, 0.01
LEFT_BEHIND = GRACE + 1.0
"""Seconds after its end, or ours, that a script may take to be gone."""


class Result(NamedTuple):
    passed: bool
    reason: str
    seconds: float


def counted(check: Check, results: Mapping[str, Result]) -> Result | None:
    """Of a check that looks at nothing. None: only a daemon that runs knows."""
    if not isinstance(check.kind, Quorum):
        return None
    of, quorum = check.kind.of, check.kind.quorum
    passed = [name for name in of if name in results and results[name].passed]
    reason = f"{len(passed)} of {len(of)} passed, {quorum} must"
    return Result((len(passed) >= quorum) != check.policy.inverted, reason, 0.0)


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
    with suppress(TimeoutError):
        async with asyncio.timeout(LEFT_BEHIND):
            while not helper.is_gone:
                await asyncio.sleep(PAUSE)
    inotify.close()
    workers.close()


class _Try:
    def __init__(self, check: Check, workers: Workers, inotify: Inotify, helper: Helper) -> None:
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._workers = workers
        self._means = Means(self._loop, workers, self._start, inotify, helper, Started())
        self._answer: asyncio.Future[tuple[bool, str]] = self._loop.create_future()
        self._is_gone = asyncio.Event()
        self._is_gone.set()

    async def run(self) -> Result:
        kind, started = self._check.kind, self._loop.time()
        if isinstance(kind, Value):
            kind = replace(kind, initial=None)  # the daemon writes it
        runner = KINDS[type(kind)](kind, self._answered, self._means)
        try:
            runner.run(1, self._check.policy.timeout)
            passed, reason = await self._answer
            if self._check.policy.inverted:
                passed, reason = not passed, f"{reason}; inverted"
            return Result(passed, reason, self._loop.time() - started)
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
        self._is_gone.clear()
        told = partial(self._gone, gone)
        return Child(self._workers, argv, timeout, ended, told, environment, run_as=run_as, ends_group=True)

    def _gone(self, gone: Callable[[], None]) -> None:
        gone()
        self._is_gone.set()
