"""A node's checks and problems, as the other nodes show them. No election depends on a report.

A report is said in parts, each small enough for a datagram. The receiver shows it when it has all parts, so a problem
that is gone goes with the next report. A part that was lost comes with the repetition.
"""

from collections import deque
from dataclasses import dataclass
from math import inf

from floatip.core.link import wire
from floatip.core.link.wire import Datagram
from floatip.core.state import CheckBrief, ProblemBrief

REPORT_INTERVAL = 5.0
"""Seconds between two reports."""
MOST_CHECKS, MOST_PROBLEMS = 64, 16
"""That a report names; the others are counted."""
REPEATS = 3
"""A report is stale after so many intervals without a repetition."""
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Content:
    checks: tuple[CheckBrief, ...] = ()
    """Worst first, and the problems too."""
    more_checks: int = 0
    problems: tuple[ProblemBrief, ...] = ()
    more_problems: int = 0


class Saying:
    """What this node has yet to say of its report."""

    def __init__(self) -> None:
        self._content: Content | None = None
        self._number = 0
        self._parts: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._parts)

    def say(self, content: Content, now: float) -> None:
        if content != self._content:
            self._content = content
            self._number = max(self._number + 1, round(now * MICROSECONDS))
        self._parts = deque(_parts(content, self._number))

    def next_part(self) -> list[bytes]:
        """The blocks of a datagram; none: all was said."""
        return [self._parts.popleft()] if self._parts else []


class Hearing:
    """What another node has said of its reports."""

    def __init__(self) -> None:
        self.content: Content | None = None
        """Of the last report of which all parts have come; None: none has, or it is stale."""
        self.at = -inf
        """When a part of it came last."""
        self._whole = self._number = -1
        """The number of that report, and of the one of which parts come now."""
        self._parts: dict[int, Content] = {}
        self._count = 0

    def hear(self, datagram: Datagram, now: float) -> None:
        report = datagram.report
        if report is None or report.number < self._number or report.parts > wire.MOST_PARTS:
            return
        self._count = report.parts
        if report.number == self._whole:
            self.at = now
            return
        if report.number > self._number:
            self._number, self._parts = report.number, {}
        checks, problems = self._gathered()
        if report.part not in self._parts:
            some_checks = datagram.checks[: MOST_CHECKS - len(checks)]
            some_problems = datagram.problems[: MOST_PROBLEMS - len(problems)]
            self._parts[report.part] = Content(some_checks, problems=some_problems)
        if len(self._parts) == report.parts:
            checks, problems = self._gathered()
            more_checks, more_problems = report.checks - len(checks), report.problems - len(problems)
            self.content = Content(tuple(checks), max(more_checks, 0), tuple(problems), max(more_problems, 0))
            self.at, self._whole, self._parts = now, self._number, {}

    def forget_stale(self, interval: float, slack: float, now: float) -> None:
        """`interval`: seconds between two hellos; `slack`: as the detector has it."""
        if now > self.at + REPEATS * (REPORT_INTERVAL + self._count * interval) * slack:
            self.content, self._whole = None, -1

    def _gathered(self) -> tuple[list[CheckBrief], list[ProblemBrief]]:
        parts = [part for _, part in sorted(self._parts.items())]
        return [check for part in parts for check in part.checks], [one for part in parts for one in part.problems]


def _parts(content: Content, number: int) -> list[bytes]:
    totals = len(content.checks) + content.more_checks, len(content.problems) + content.more_problems
    blocks = [*map(wire.problem_block, content.problems), *map(wire.check_block, content.checks)]
    pieces = list(wire.pieces(blocks, wire.ROOM - wire.BLOCK.size - wire.REPORT.size))
    return [
        b"".join((wire.report_block(wire.Report(number, part, len(pieces), *totals)), *piece))
        for part, piece in enumerate(pieces)
    ]
