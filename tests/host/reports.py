"""Stands in for the core: collects what the host reports, and waits for it."""

import asyncio
import inspect
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from floatip.core.events import Event, Failing, Failure
from floatip.host.checks import Probes
from floatip.host.checks.script import ScriptRunner
from floatip.host.disk import Disk, Memory
from floatip.host.workers import Workers

E = TypeVar("E")
T = TypeVar("T")


class Reports:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        self._by_kind: defaultdict[type[Event], list[Event]] = defaultdict(list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(time.monotonic())
        self._by_kind[type(event)].append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def failing(self, part: str) -> set[Failure]:
        """What it cannot do now."""
        levels = [event.failures for event in self.of(Failing) if event.part == part]
        return set(levels[-1]) if levels else set()

    async def next(self, kind: type[E], number: int = 1) -> E:
        """The nth event of its kind."""
        found: list[Event] = self._by_kind[kind]  # type: ignore[index]
        await until(lambda: len(found) >= number)
        return found[number - 1]  # type: ignore[return-value]


class Clock:
    """Virtual time for host parts that take a loop."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[_Timer] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> "_Timer":
        timer = _Timer(self._now + delay, partial(callback, *arguments))
        self._timers.append(timer)
        return timer

    def run(self, until: float) -> None:
        while due := [timer for timer in self._timers if timer.at <= until and not timer.is_cancelled]:
            timer = min(due, key=lambda each: each.at)
            self._timers.remove(timer)
            self._now = timer.at
            timer.callback()
        self._now = until


@dataclass(eq=False)
class _Timer:
    at: float
    callback: Callable[[], object]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class PromptDisk(Disk):
    """Writes at once, in the caller's thread."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        super().__init__(report)
        self._workers = Prompt()


async def remembered(disk: Disk, path: Path) -> Memory:
    """As a daemon begins with it."""
    memory = Memory(disk, path)
    await memory.load()
    return memory


class Prompt(Workers):
    def do(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        outcome: T | OSError
        try:
            outcome = job()
        except OSError as error:
            outcome = error
        done(outcome)


async def close(probes: Probes) -> None:
    """And wait for children: else they would be left to nobody."""
    runners = [each for each in probes._runners.values() if isinstance(each, ScriptRunner)]
    helper = probes._means.helper
    probes.close()
    await until(lambda: not any(runner.running for runner in runners) and helper.is_gone)


async def until(true: Callable[[], bool], timeout: float = 60.0) -> None:
    try:
        async with asyncio.timeout(timeout):
            while not true():
                await asyncio.sleep(0.0005)
    except TimeoutError as error:
        raise TimeoutError(f"waited {timeout:g} s for: {inspect.getsource(true).strip()}") from error


def no_client(error: OSError) -> None:
    """For a control socket that has descriptors enough."""
    raise error
