"""What one part of the host cannot do now, as a level: `Failing` names the whole set whenever it changes.

A part calls `set` each time something fails and `clear` when the same thing works, as often as it likes; only a change
is reported. What a reload has made meaningless goes by `keep`.
"""

import asyncio
from collections.abc import Callable, Iterable

from floatip.core.addresses import Placed
from floatip.core.events import Event, Failing, Failure
from floatip.core.problems import Code
from floatip.host.workers import Handle, Loop

MOST = 20
"""Of one part; what does not fit is one more failure, which has the addresses of all of them."""


class Failures:
    def __init__(self, part: str, report: Callable[[Event], None], loop: Loop | None = None) -> None:
        self._part = part
        self._report = report
        self._loop = loop
        self._now: dict[str, Failure] = {}
        self._expires_at: dict[str, float] = {}
        self._expiry: Handle | None = None
        self._told: frozenset[Failure] = frozenset()

    def __contains__(self, what: str) -> bool:
        return what in self._now

    def set(self, what: str, reason: str, hint: str = "", code: Code = Code.FAILURE, lasts: float = 0.0) -> None:
        self.put(Failure(what, reason, hint, code), lasts)

    def put(self, failure: Failure, lasts: float = 0.0) -> None:
        """`lasts`: seconds after which it is forgotten if it is not set again; 0: never."""
        what = failure.what
        self._expires_at.pop(what, None)
        if lasts:
            loop = self._loop or asyncio.get_running_loop()
            self._expires_at[what] = loop.time() + lasts
            self._expire_later(loop)
        if self._now.get(what) != failure:
            self._now[what] = failure
            self._tell()

    def _expire_later(self, loop: Loop) -> None:
        """One timer for all: each would tell of all that are left."""
        if self._expiry is None and self._expires_at:
            self._expiry = loop.call_later(min(self._expires_at.values()) - loop.time(), self._expire, loop)

    def _expire(self, loop: Loop) -> None:
        self._expiry = None
        over = {what for what, at in self._expires_at.items() if at <= loop.time()}
        self._expires_at = {what: at for what, at in self._expires_at.items() if what not in over}
        self.keep(self._now.keys() - over)
        self._expire_later(loop)

    def clear(self, what: str) -> None:
        self._expires_at.pop(what, None)
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
        shown, rest = list(self._now.values())[:MOST], list(self._now.values())[MOST:]
        if rest:
            unkept = frozenset[Placed]().union(*(one.unkept for one in rest))
            reason = f"{len(rest)} more, such as {rest[0].what}: {rest[0].reason}"
            shown.append(Failure(f"{self._part}: others", reason, rest[0].hint, rest[0].code, unkept))
        failures = frozenset(shown)
        if failures != self._told:
            self._told = failures
            self._report(Failing(self._part, failures))
