"""Which addresses the kernel has, and which of them this node wants to hold.

What the kernel reports is the only truth. Changes are applied one by one, so that a node with a thousand addresses does
not look at all of them whenever one moves.
"""

import math
from collections import Counter
from typing import TypeVar

from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.core.events import Effect, Hold

HOLD_AGAIN_INTERVAL = 1.0

K = TypeVar("K")
Key = tuple[str, Address]
"""Where an address stands: an interface and the address. Its prefix length may be another than ours."""


class Holding:
    def __init__(self) -> None:
        self.held: Counter[Address] = Counter()
        """What the kernel can answer for, wherever it is."""
        self.placed: Counter[Key] = Counter()
        """The same with the interface of each."""
        self.wanted: frozenset[Placed] | None = None
        """None: not said yet, so that what a predecessor left is released."""
        self.again_at = math.inf
        self.version = 0
        """Changes with what the kernel has."""
        self._found: frozenset[Placed] = frozenset()
        self._where: dict[InterfaceAddress, set[str]] = {}
        self._wanted: dict[Key, Placed] = {}
        self._missing: set[Key] = set()
        self._leaving: set[Key] = set()
        """No longer wanted, and still there."""

    def take(self, addresses: frozenset[Placed]) -> tuple[frozenset[Placed], list[Key], list[Key], list[Key]]:
        """All that the kernel has. Returns what is different, and which of our own are new, lost and released."""
        changed = addresses ^ self._found
        before = {key(placed): key(placed) in self.placed for placed in changed}
        for placed in changed:
            self._count(placed, 1 if placed in addresses else -1)
        self._found = addresses
        self.version += 1
        found = [one for one, was in before.items() if not was and one in self.placed and one in self._wanted]
        gone = [one for one, was in before.items() if was and one not in self.placed]
        lost = [one for one in gone if one in self._wanted]
        released = [one for one in gone if one in self._leaving]
        self._leaving.difference_update(released)
        self._missing.difference_update(found)
        self._missing.update(lost)
        return changed, found, lost, released

    def _count(self, placed: Placed, step: int) -> None:
        one = key(placed)
        _add(self.held, one[1], step)
        _add(self.placed, one, step)
        interfaces = self._where.setdefault(placed.address, set())
        if step > 0:
            interfaces.add(placed.interface)
        else:
            interfaces.discard(placed.interface)
        if not interfaces:
            del self._where[placed.address]

    def stands_elsewhere(self, address: InterfaceAddress, interface: str) -> bool:
        """Whether another interface has the address, just as it is written in the configuration."""
        return bool(self._where.get(address, frozenset()) - {interface})

    def want(self, wanted: frozenset[Placed], now: float) -> list[Effect]:
        """The whole desired set; what is missing is asked for again each second."""
        is_new = wanted != self.wanted
        if is_new:
            self.wanted = wanted
            before, self._wanted = self._wanted, {key(placed): placed for placed in wanted}
            self._leaving |= {one for one in before if one in self.placed}
            self._leaving -= self._wanted.keys()
            self._missing = {one for one in self._wanted if one not in self.placed}
        again = bool(self._missing) and now >= self.again_at
        if again or is_new or not self._missing:
            self.again_at = now + HOLD_AGAIN_INTERVAL if self._missing else math.inf
        return [Hold(wanted)] if is_new or again else []

    @property
    def is_released(self) -> bool:
        """Whether nothing that was wanted is there any more."""
        return len(self._missing) == len(self._wanted)


def key(placed: Placed) -> Key:
    return placed.interface, placed.address.ip


def _add(counter: Counter[K], entry: K, step: int) -> None:
    counter[entry] += step
    if not counter[entry]:
        del counter[entry]
