"""What one part of the host cannot do now, as a level: `Failing` names the whole set whenever it changes.

A part calls `set` each time something fails and `clear` when the same thing works, as often as it likes; only a change
is reported. What a reload has made meaningless goes by `keep`.
"""

import asyncio
from collections.abc import Callable, Iterable

from floatip.core.events import Event, Failing, Failure
from floatip.core.problems import Code
from floatip.host.workers import Handle, Loop

MOST = 20
"""Of one part; what does not fit is counted in one more."""


class Failures:
    def __init__(self, part: str, report: Callable[[Event], None], loop: Loop | None = None) -> None:
        self._part = part
        self._report = report
        self._loop = loop
        self._now: dict[str, Failure] = {}
        self._expiring: dict[str, Handle] = {}
        self._told: frozenset[Failure] = frozenset()

    def __contains__(self, what: str) -> bool:
        return what in self._now

    def set(self, what: str, reason: str, hint: str = "", code: Code = Code.FAILURE, lasts: float = 0.0) -> None:
        self.put(Failure(what, reason, hint, code), lasts)

    def put(self, failure: Failure, lasts: float = 0.0) -> None:
        """`lasts`: seconds after which it is forgotten if it is not set again; 0: never."""
        what = failure.what
        if what in self._expiring:
            self._expiring.pop(what).cancel()
        if lasts:
            loop = self._loop or asyncio.get_running_loop()
            self._expiring[what] = loop.call_later(lasts, self.clear, what)
        if self._now.get(what) != failure:
            self._now[what] = failure
            self._tell()

    def clear(self, what: str) -> None:
        if self._now.pop(what, None):
            self._tell()

    def keep(self, whats: Iterable[str]) -> None:
        """Forget all others: nobody tries them any more."""
        kept = frozenset(whats)
        self.replace([failure for what, failure in self._now.items() if what in kept])

    def replace(self, failures: Iterable[Failure]) -> None:
        """These and no others: for a part that looks at many things at a time."""
        now = {failure.what: failure for failure in failures}
        if now != self._now:
            self._now = now
            self._tell()

    def _tell(self) -> None:
        shown = list(self._now.values())[:MOST]
        if left := len(self._now) - len(shown):
            shown.append(Failure(f"{self._part}: others", f"{left} more of this kind"))
        failures = frozenset(shown)
        if failures != self._told:
            self._told = failures
            self._report(Failing(self._part, failures))
