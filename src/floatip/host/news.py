"""The feed of news: what changed and why, for everybody who wants to know, told after the doing.

The daemon hands in what the core said. Subscribers (log, watchers, hooks, state log, systemd) get it one by one, in
order, a few at a time with the loop between them, so that a failover of 255 instances is not held up by its own log.
The log gets together what one event brought about for one reason.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from floatip.core.events import Became

HISTORY_LENGTH = 500
AT_ONCE = 8
"""Items told before the loop has its turn."""
MOST_TOGETHER = 8
"""In a group."""
OF_INSTANCE = ("health", "role", "rank")
"""What an instance has; their names are its name."""


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
    """Of the instance, after the event; empty if this is about something else."""
    role: str = ""
    """Likewise."""
    hint: str = ""
    before: str = ""
    """The value before; empty: not known."""

    @property
    def record(self) -> dict[str, object]:
        return {
            "at": self.at,
            "time": self.time.isoformat(timespec="milliseconds"),
            "what": self.what,
            "name": self.name,
            "value": self.value,
            "reason": self.reason,
            "hint": self.hint,
        }


class News:
    def __init__(
        self,
        subscribers: Iterable[Callable[[Item], None]],
        soon: Callable[[Callable[[], None]], object],
        log: Callable[[Sequence[Item]], None] = lambda group: None,
    ) -> None:
        """`soon`: calls back when the loop has had its turn. `log` gets groups, each before its first item is told."""
        self.history: deque[Item] = deque(maxlen=HISTORY_LENGTH)
        self.latest: dict[tuple[str, str], str] = {}
        """The last value of each thing, by what and name; of what a reload removed, see `forget`."""
        self._subscribers = tuple(subscribers)
        self._soon = soon
        self._log = log
        self._waiting: deque[tuple[Item, Sequence[Item]]] = deque()
        self._is_telling = False

    def add(self, news: list[Became], at: float) -> None:
        """What one event brought about."""
        time = datetime.now(UTC)
        befores = []
        for one in news:
            key = one.what, one.name
            befores.append(self.latest.get(key, ""))
            self.latest[key] = one.value
        items = []
        for one, before in zip(news, befores, strict=True):
            has_both = one.what in OF_INSTANCE
            rank = self.latest.get(("rank", one.name), "none") if has_both else ""
            role = self.latest.get(("role", one.name), "") if has_both else ""
            is_new = before != one.value
            items.append(
                Item(at, time, one.what, one.name, one.value, one.reason, is_new, rank, role, one.hint, before)
            )
        self._waiting += _with_groups(items)
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
        left = AT_ONCE
        while self._waiting and left > 0:
            left -= 2 if self._waiting[0][1] else 1  # a line of the log costs more than the rest
            self._tell_one()
        self._is_telling = bool(self._waiting)
        if self._is_telling:
            self._soon(self._tell)

    def _tell_one(self) -> None:
        item, group = self._waiting.popleft()
        if group:
            self._log(group)
        self.history.append(item)
        for subscriber in self._subscribers:
            subscriber(item)


def _with_groups(items: Sequence[Item]) -> list[tuple[Item, Sequence[Item]]]:
    """Each item in its order, and the group that begins with it.

    A group: what became of one instance, with the check that its health rests on; or what became of several things of
    a kind for one reason.
    """
    rests_on = {item.reason: item.name for item in items if item.what == "health"}
    groups: dict[str | tuple[str, ...], list[Item]] = {}
    begun: list[tuple[Item, Sequence[Item]]] = []
    for item in items:
        key: str | tuple[str, ...] | None = item.name if item.what in OF_INSTANCE else None
        if item.what == "check":
            key = rests_on.get(f"check {item.name}: {item.reason}")
        if key is None:
            key = item.what, item.value, item.reason
        group = groups.get(key)
        if group is None or len(group) == MOST_TOGETHER:
            group = groups[key] = []
            begun.append((item, group))
        else:
            begun.append((item, ()))
        group.append(item)
    return begun
