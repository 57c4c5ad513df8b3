"""When a node that fell silent is gone.

Three intervals and a margin that follows the jitter seen. Where datagrams get lost, as many intervals more as make a
false alarm rare: a node that is heard every other time is still there.
"""

import math

LEAST = 0.25
"""Seconds."""
INTERVALS, MOST_INTERVALS = 3, 20
WINDOW = 64
"""Datagrams by whose loss the next silence is judged."""
FALSE_ALARM = 1e-6
"""How likely so many losses in a row may be, where nothing else is wrong."""
JITTERS = 4
"""Mean deviations in the margin, as in RFC 6298 section 2."""
LEAST_MARGIN = 0.02
SMOOTHING = 1 / 16


class Detector:
    def __init__(self, interval: float) -> None:
        self.interval = interval
        """Seconds between two hellos, as the node says it."""
        self.heard_at = -math.inf
        """When the kernel received the last one."""
        self._excused_until = -math.inf
        self._jitter = 0.0
        self._losses = 0
        """Of the last `WINDOW` datagrams, a bit for each that was lost."""

    def heard(self, at: float, interval: float, lost: int, *, is_back: bool) -> None:
        """`lost`: datagrams that its sequence has skipped. `is_back`: it was gone, and what was between says nothing of
        the way to it.
        """
        if interval != self.interval:
            self.interval, self._jitter = interval, 0.0
        if is_back or lost >= MOST_INTERVALS:  # it was cut off
            lost = 0
        self._losses = ((self._losses << lost | (1 << lost) - 1) << 1) & ((1 << WINDOW) - 1)
        if self.heard_at > -math.inf and not is_back:
            late = max(0.0, at - self.heard_at - interval * (1 + lost))
            self._jitter += (min(late, interval) - self._jitter) * SMOOTHING
        self.heard_at = max(self.heard_at, at)

    def excuse(self, late: float, now: float) -> None:
        """This node was held up itself for so many seconds, and may have missed what was said."""
        self._excused_until = min(self.heard_at + late, now) + self.patience

    @property
    def patience(self) -> float:
        """Seconds of silence."""
        margin = max(JITTERS * self._jitter, LEAST_MARGIN)
        return max(self._intervals() * self.interval + margin, LEAST)

    def _intervals(self) -> int:
        lost = self._losses.bit_count() / WINDOW
        if not lost:
            return INTERVALS
        needed = math.log(FALSE_ALARM) / math.log(lost) if lost < 1 else math.inf
        return min(max(INTERVALS, math.ceil(min(needed, MOST_INTERVALS))), MOST_INTERVALS)

    @property
    def slack(self) -> float:
        """How much more patient it is than where nothing is lost."""
        return self._intervals() / INTERVALS

    @property
    def gone_at(self) -> float:
        return max(self.heard_at + self.patience, self._excused_until)
