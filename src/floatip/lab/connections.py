"""Connections through a move: what became of each, as the client in the observer's host recorded it. Pure.

Long connections say something every few milliseconds and check the echo; some are idle, and say something at the end.
Short ones are one request each: connect, ask, read the answer, close. A transfer is an upload or a download that lasts
for as long as the client runs, and is compared by SHA-256 at its end. `connections_process` is the client,
`echo_process` the service.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

HANG = 3.0
"""Seconds without an answer after which a connection hangs: its user has pressed "reload"."""
RESET = "reset"
REFUSED = "refused"
TIMED_OUT = "timed out"
WRONG_BYTES = "wrong bytes"
CLOSED = "closed by the service"
SHORT_PER_SECOND = 500
"""At most, so that 10,000 long ones leave the machine some CPU."""
MESSAGES_PER_SECOND = 10_000
"""On all long connections together, at most."""
INTERVAL = 0.05
"""Seconds between two messages of a long connection, or more where there are many."""


def interval(long: int) -> float:
    """Seconds between two messages of one of so many long connections."""
    return max(INTERVAL, long / MESSAGES_PER_SECOND)


class Stalled:
    """What may stop for a while and go on."""

    __slots__ = ()
    stall: float
    stall_at: float

    @property
    def waited(self) -> tuple[float, float]:
        """From when until when it had no answer for the longest time."""
        return self.stall_at, self.stall_at + self.stall

    @property
    def hung(self) -> bool:
        return self.stall > HANG


@dataclass(frozen=True, slots=True)
class Long(Stalled):
    """All times are seconds on the monotonic clock."""

    number: int
    who: str
    """The node that has it."""
    opened_at: float
    ended_at: float
    end: str
    """Empty: it was whole until the client closed it. Else one of the words above, or what the kernel said."""
    messages: int
    """That were echoed."""
    stall: float
    """The longest time from a message to its echo; if the last one was not echoed, until the end."""
    stall_at: float
    """When that message was sent."""


@dataclass(frozen=True, slots=True)
class Short:
    at: float
    took: float
    """Seconds until the answer, or until it failed."""
    who: str
    end: str

    @property
    def waited(self) -> tuple[float, float]:
        return self.at, self.at + self.took

    @property
    def hung(self) -> bool:
        return self.took > HANG


@dataclass(frozen=True, slots=True)
class Transfer(Stalled):
    way: Literal["upload", "download"]
    who: str
    end: str
    size: int
    """Octets that have arrived at the other end, as far as the client knows."""
    stall: float
    """The longest time in which nothing arrived at the other end."""
    stall_at: float


KINDS: Mapping[str, type[Long] | type[Short] | type[Transfer]] = {"long": Long, "short": Short, "transfer": Transfer}


@dataclass(frozen=True, slots=True)
class Connections:
    long: tuple[Long, ...] = ()
    short: tuple[Short, ...] = ()
    transfers: tuple[Transfer, ...] = ()

    @classmethod
    def from_lines(cls, lines: Iterable[Mapping[str, Any]]) -> Self:
        """What the client wrote, in any order; lines of other kinds are left out."""
        found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for line in lines:
            if made := KINDS.get(line["event"]):
                found[line["event"]].append(made(**{field.name: line[field.name] for field in fields(made)}))
        return cls(tuple(found["long"]), tuple(found["short"]), tuple(found["transfer"]))

    @property
    def all(self) -> Sequence[Long | Short | Transfer]:
        return (*self.long, *self.short, *self.transfers)

    @property
    def resets(self) -> int:
        """Of all kinds; a request to open one that was refused is one too."""
        return sum(one.end in (RESET, REFUSED) for one in self.all)

    @property
    def hung(self) -> Sequence[Long | Short | Transfer]:
        return [one for one in self.all if one.hung]

    @property
    def longest(self) -> Long | None:
        """The one with the longest stall."""
        return max(self.long, key=lambda one: one.stall, default=None)

    @property
    def slowest(self) -> Short | None:
        """Of those that were answered."""
        return max((one for one in self.short if not one.end), key=lambda one: one.took, default=None)

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        longest, slowest = self.longest, self.slowest
        return {
            "long": _counted(self.long),
            "short": _counted(self.short),
            "hangs": len(self.hung),
            "longest_stall": longest.stall if longest else None,
            "slowest_short": slowest.took if slowest else None,
            "transfers": [asdict(one) for one in self.transfers],
        }


def _counted(some: Sequence[Long | Short]) -> dict[str, Any]:
    return {"count": len(some), "ends": ends(some), "by": dict(Counter(one.who for one in some if one.who))}


def ends(some: Iterable[Long | Short | Transfer]) -> dict[str, int]:
    """How many ended in each way but the right one."""
    return dict(Counter(one.end for one in some if one.end).most_common())
