"""A client beside real etcd, and what it has reported."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from floatip.core.etcd import EtcdChanged, EtcdEndpoint, EtcdMembers, EtcdTrouble, EtcdUnwatched, Row
from floatip.etcd.client import Client, Seen
from floatip.etcd.settings import Settings

LIMIT = 60.0
"""Seconds after which a test gives up."""
T = TypeVar("T")
Event = EtcdChanged | EtcdUnwatched | EtcdTrouble | EtcdMembers


class Asking(Client):
    """Keeps what it reports, and lets a test wait for it."""

    def __init__(self, settings: Settings, seen: Seen | None = None) -> None:
        super().__init__(settings, self._keep, seen)
        self.events: list[Event] = []
        self._came = asyncio.Event()

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        self._came.set()

    async def until(self, condition: Callable[[], T]) -> T:
        async with asyncio.timeout(LIMIT):
            while not (found := condition()):
                self._came.clear()
                await self._came.wait()
        return found

    @property
    def changes(self) -> list[EtcdChanged]:
        return [event for event in self.events if isinstance(event, EtcdChanged)]

    @property
    def rows(self) -> list[Row]:
        """That the watch has told, in their order."""
        return [row for change in self.changes for row in change.rows]

    @property
    def values(self) -> list[str]:
        return [row.value for row in self.rows]

    @property
    def deleted(self) -> list[str]:
        return [key for change in self.changes for key in change.deleted]

    @property
    def troubles(self) -> list[EtcdTrouble]:
        return [event for event in self.events if isinstance(event, EtcdTrouble)]

    @property
    def trouble(self) -> EtcdTrouble:
        return self.troubles[-1] if self.troubles else EtcdTrouble("")

    @property
    def endpoints(self) -> tuple[EtcdEndpoint, ...]:
        told = [event for event in self.events if isinstance(event, EtcdMembers)]
        return told[-1].endpoints if told else ()


@asynccontextmanager
async def asking(settings: Settings, seen: Seen | None = None) -> AsyncIterator[Asking]:
    client = Asking(settings, seen)
    try:
        yield client
    finally:
        await client.close()


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())
