"""What the parts of a node count, as plain numbers: an advert or a message costs an addition and no object.

`core/figures.py` collects them. Counters begin at zero with the part that counts, so a reload that makes an instance or
a session again starts them again.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Cause(StrEnum):
    """Why a role changed, for machines. The elector's `reason` says it for people."""

    START = "start"
    STOP = "stop"
    CHECK = "check"
    """The instance is not healthy."""
    LINK = "link"
    """The interface of the election does not work."""
    RECOVERED = "recovered"
    """What made it FAULT is gone."""
    SILENCE = "silence"
    """Nobody is master: the last one is silent or gone, or there was none."""
    HANDOVER = "handover"
    """The old master wanted to leave."""
    PREFERRED = "preferred"
    """The node with the better priority takes over from a master that lives."""
    BARRED = "barred"
    """Cut off from all route servers, or restarted again and again."""
    DAMPED = "damped"
    SUSPENDED = "suspended"
    """This node did not run for a while."""
    GROUP = "group"
    """Another member of its sync group is no longer master."""
    KEEPALIVED = "keepalived"
    """keepalived elects, and says so."""


class Refused(IntEnum):
    """Why an advert was not used (RFC 9568 section 7.1)."""

    OTHER = 0
    FAMILY = 1
    LENGTH = 2
    VERSION = 3
    TYPE = 4
    NO_ADDRESS = 5
    CHECKSUM = 6
    AUTH_TYPE = 7
    PASSWORD = 8
    INTERVAL = 9
    NOT_A_PEER = 10
    TTL = 11
    UNKNOWN_VRID = 12
    UNSIGNED = 13
    SIGNATURE = 14
    """Wrong, of an unknown form, or made with a key that is not configured."""
    STALE = 15
    """Signed by another time than it is here."""
    REPLAYED = 16
    CAST = 17
    """Unicast where multicast is configured, or the other way round."""

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


def refusals() -> list[int]:
    """A zero for each `Refused`."""
    return [0] * len(Refused)


@dataclass(slots=True)
class Adverts:
    """Of one virtual router."""

    sent: int = 0
    """One for each peer."""
    received: int = 0
    """Those that were used."""
    zero_sent: int = 0
    """With priority 0: handing over."""
    zero_received: int = 0
    other_addresses: int = 0
    """Used, although they name other addresses."""
    refused: list[int] = field(default_factory=refusals)
    """By `Refused`."""
    heard_at: float = -math.inf
    """When the latest came that was used, in monotonic seconds."""

    def hear(self, priority: int, now: float) -> None:
        self.received += 1
        self.zero_received += not priority
        self.heard_at = now


@dataclass(frozen=True, slots=True)
class Turns:
    """Changes of role. It is only replaced, so a copy of an elector, on which something is tried, counts alone."""

    by_cause: dict[str, int] = field(default_factory=dict)
    """By the new role and the cause, as "master silence"."""
    became_master: int = 0
    released_master: int = 0

    def and_then(self, before: str, after: str, cause: Cause) -> "Turns":
        """Roles by their value. A role that stays is no change."""
        if before == after:
            return self
        key = f"{after} {cause}"
        return Turns(
            self.by_cause | {key: self.by_cause.get(key, 0) + 1},
            self.became_master + (after == "master"),
            self.released_master + (before == "master"),
        )


@dataclass(slots=True)
class Histogram:
    bounds: list[float]
    """Seconds: the greatest value of each bucket. One more bucket has what is greater."""
    counts: list[int]
    sum: float = 0.0

    @classmethod
    def of(cls, *bounds: float) -> "Histogram":
        return cls(list(bounds), [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


def check_duration() -> Histogram:
    return Histogram.of(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
