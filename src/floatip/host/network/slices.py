"""Work for many addresses is done in slices, between which adverts, timers and sessions have their turn."""

import asyncio
import time

LENGTH = 0.0005
"""Seconds."""


class Slice:
    def __init__(self) -> None:
        self._ends_at = time.monotonic() + LENGTH

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends_at

    async def next(self) -> None:
        """Everything that waits in the loop comes first."""
        await asyncio.sleep(0)
        self._ends_at = time.monotonic() + LENGTH
