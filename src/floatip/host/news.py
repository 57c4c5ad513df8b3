"""The feed of news: what changed and why, for everybody who wants to know, told after the doing.

The daemon hands in what the core said. Subscribers (log, watchers, hooks, state log, systemd) get it one by one, in
order, a few at a time with the loop between them, so that a failover of 255 instances is not held up by its own log.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from floatip.core.events import Became

HISTORY_LENGTH = 500
AT_ONCE = 8
"""Items told before the loop has its turn."""


@dataclass(frozen=True, slots=True)
class Item:
    at: float
    """Monotonic seconds: when it was decided."""
    time: datetime
    what: str
    name: str
    value: str
    reason: str
    is_new: bool
    """Whether the value differs from the one before."""
    rank: str
    """The rank that goes with a role; else empty."""

    @property
    def record(self) -> dict[str, object]:
        return {
            "at": self.at,
            "time": self.time.isoformat(timespec="milliseconds"),
            "what": self.what,
            "name": self.name,
            "value": self.value,
            "reason": self.reason,
        }


class News:
    def __init__(
        self, subscribers: Iterable[Callable[[Item], None]], soon: Callable[[Callable[[], None]], object]
    ) -> None:
        """`soon`: calls back when the loop has had its turn."""
        self.history: deque[Item] = deque(maxlen=HISTORY_LENGTH)
        self.latest: dict[tuple[str, str], str] = {}
        """The last value of each thing, by what and name; of what a reload removed, see `forget`."""
        self._subscribers = tuple(subscribers)
        self._soon = soon
        self._waiting: deque[Item] = deque()
        self._is_telling = False

    def add(self, news: list[Became], at: float) -> None:
        """What one event brought about."""
        time = datetime.now(UTC)
        are_new = []
        for one in news:
            key = one.what, one.name
            are_new.append(self.latest.get(key) != one.value)
            self.latest[key] = one.value
        for one, is_new in zip(news, are_new, strict=True):
            rank = self.latest.get(("rank", one.name), "none") if one.what == "role" else ""
            self._waiting.append(Item(at, time, one.what, one.name, one.value, one.reason, is_new, rank))
        if not self._is_telling:
            self._is_telling = True
            self._soon(self._tell)

    def flush(self) -> None:
        """Tell all that waits."""
        while self._waiting:
            self._tell_one()

    def forget(self, is_gone: Callable[[str, str], bool]) -> None:
        self.latest = {key: value for key, value in self.latest.items() if not is_gone(*key)}

    def _tell(self) -> None:
        for _ in range(min(AT_ONCE, len(self._waiting))):
            self._tell_one()
        self._is_telling = bool(self._waiting)
        if self._is_telling:
            self._soon(self._tell)

    def _tell_one(self) -> None:
        item = self._waiting.popleft()
        self.history.append(item)
        for subscriber in self._subscribers:
            subscriber(item)
