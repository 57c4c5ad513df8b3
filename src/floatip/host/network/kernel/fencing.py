"""Which exclusive addresses may be here, and until when: docs/decisions/0038-etcd.md.

The holder asks here before it adds one. The lifetimes are such that the kernel has removed an address by then, even if
this process hangs, is stopped or is killed.
"""

import math
from collections.abc import Iterable

from floatip.core.addresses import Placed
from floatip.core.arbiter import KERNEL_DELAY, lifetime
from floatip.core.events import Fence

EARLY = 0.1
"""Seconds by which the kernel may remove an address before its lifetime says: 0.02 s by its source."""
WORTH_IT = 0.2
"""Seconds by which a lifetime must grow before the kernel is asked for it."""


class Fencing:
    def __init__(self) -> None:
        self._configured: frozenset[Placed] = frozenset()
        self._fence: Fence | None = None
        """None: the core has not said yet."""
        self.exclusive: frozenset[Placed] = frozenset()
        self.named: frozenset[Placed] = frozenset()
        """Of these, those that may be here."""
        self._ends: dict[Placed, float] = {}
        """When the kernel removes each, at the earliest (monotonic seconds)."""

    def configure(self, exclusive: frozenset[Placed]) -> None:
        self._configured = exclusive
        self.exclusive = exclusive | self.named

    def take(self, fence: Fence) -> None:
        self._fence, self.named = fence, fence.addresses
        self.exclusive = self._configured | fence.addresses

    # Sets, not loops: a set knows the hashes of its members, and the hash of an address costs a microsecond.

    def forbidden(self, ours: Iterable[Placed], desired: frozenset[Placed] | None) -> set[Placed]:
        """Those of ours that must go at once. Before the core has said anything, their lifetimes go on."""
        exclusive = set(ours) & self.exclusive
        allowed = exclusive
        if self._fence is not None:
            allowed = allowed & self.named
        if desired is not None:
            allowed = allowed & desired
        return exclusive - allowed

    def addable(self, wanted: Iterable[Placed], now: float) -> set[Placed]:
        everything = set(wanted)
        return everything - (self.exclusive - self.named if self.lifetime(now) else self.exclusive)

    def lifetime(self, now: float) -> int:
        """Whole seconds; 0: none of them may be added."""
        return max(lifetime(self._fence.until - now), 0) if self._fence else 0

    def handed_over_by(self, seconds: int) -> float:
        """When such a lifetime must be in the kernel's hands, so that it ends in time."""
        return self._fence.until - seconds - KERNEL_DELAY if self._fence else -math.inf

    def lent(self, placed: Placed, end: float) -> None:
        self._ends[placed] = end

    def is_lent(self, placed: Placed) -> bool:
        return placed in self._ends

    def not_any_more(self, ours: Iterable[Placed]) -> set[Placed]:
        """Those that have a lifetime and need none."""
        return (set(ours) & self._ends.keys()) - self.exclusive

    def forget(self, addresses: Iterable[Placed]) -> None:
        for placed in addresses:
            self._ends.pop(placed, None)

    def gone(self, placed: Placed, now: float) -> bool:
        """Whether its lifetime was over."""
        return self._ends.pop(placed, math.inf) <= now + EARLY

    def due(self, ours: Iterable[Placed], now: float) -> list[Placed]:
        """Those of ours whose lifetimes can grow. Those that end first come first."""
        allowed, end = set(ours) & self.named, now + self.lifetime(now) - WORTH_IT
        lent = self._ends.keys() & allowed
        known = self._ends if len(lent) == len(self._ends) else {one: self._ends[one] for one in lent}
        grows = sorted((its, n, one) for n, (one, its) in enumerate(known.items()) if its < end)
        return [*(allowed - lent), *(one for _, _, one in grows)]
