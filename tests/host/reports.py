"""Stands in for the core: collects what the host reports, and waits for it."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from floatip.core.events import Event
from floatip.host.disk import Disk, Job

E = TypeVar("E")


class Reports:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(time.monotonic())

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def next(self, kind: type[E], number: int = 1) -> E:
        """The nth event of its kind."""
        await until(lambda: len(self.of(kind)) >= number)
        return self.of(kind)[number - 1]


class PromptDisk(Disk):
    """Writes at once, in the caller's thread."""

    def do(self, what: str, job: Job) -> asyncio.Future[None]:
        over = self._loop.create_future()
        self._done(what, self._try(job), over)
        return over


async def until(true: Callable[[], bool], timeout: float = 20.0) -> None:
    async with asyncio.timeout(timeout):
        while not true():
            await asyncio.sleep(0.0005)
