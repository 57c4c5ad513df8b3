"""Deadlines by key, in a heap: the earliest is known at once, and moving one costs next to nothing.

A deadline that moves to a later time, as at each advert, leaves its entry where it is; the entry is put right when its
old time comes. So the heap holds about one entry a key, however often the deadlines move.
"""

import math
from collections.abc import Hashable
from heapq import heappop, heappush, heapreplace


class Timers:
    def __init__(self) -> None:
        self._at: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._queued: dict[Hashable, float] = {}
        """The earliest entry of each key in the heap."""
        self._order = 0

    def set(self, key: Hashable, at: float) -> None:
        """`math.inf`: it waits for nothing."""
        if at == math.inf:
            self._at.pop(key, None)
            return
        self._at[key] = at
        if at < self._queued.get(key, math.inf):
            self._order += 1
            heappush(self._heap, (at, self._order, key))
            self._queued[key] = at

    @property
    def earliest(self) -> float:
        """Monotonic seconds; `math.inf`: nothing is waited for."""
        heap = self._heap
        while heap:
            queued_at, _, key = heap[0]
            at = self._at.get(key)
            if at == queued_at:
                return queued_at
            self._put_right(queued_at, key, at)
        return math.inf

    def due(self, now: float) -> list[Hashable]:
        """The keys whose time has come, earliest first. They wait for nothing until they are set again."""
        keys = []
        while self.earliest <= now:
            at, _, key = heappop(self._heap)
            if self._queued.get(key) == at:
                del self._queued[key]
            del self._at[key]
            keys.append(key)
        return keys

    def _put_right(self, queued_at: float, key: Hashable, at: float | None) -> None:
        """The first entry of the heap is not that of its key any more."""
        is_known = self._queued.get(key) == queued_at
        if at is None or not is_known:
            heappop(self._heap)
            if is_known:
                del self._queued[key]
            return
        self._order += 1
        heapreplace(self._heap, (at, self._order, key))
        self._queued[key] = at
