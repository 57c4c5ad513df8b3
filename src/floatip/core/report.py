"""When this node looks for its problems and tells them to the others, with its checks.

To look takes milliseconds where there are hundreds of instances, so it is done in slices.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from floatip.core.diagnosis import of_instances, of_node, of_packets, worst_first
from floatip.core.health import CheckState, Health
from floatip.core.link.link import Link
from floatip.core.link.report import MOST_CHECKS, MOST_PROBLEMS, REPORT_INTERVAL, Content
from floatip.core.problems import Problem
from floatip.core.state import CheckBrief, ProblemBrief

if TYPE_CHECKING:  # it owns the reporter
    from floatip.core.node import Node

LOOK_INTERVAL = 1.0
"""Seconds at least from one look to the next."""
SLICE, SLICE_PAUSE = 8, 0.02
"""Instances that are looked at in one go, and the seconds from one to the next."""
WORST_FIRST = {Health.DOWN: 0, Health.UNKNOWN: 1, Health.UP: 2}


def content(checks: Iterable[CheckState], problems: Iterable[Problem]) -> Content:
    """`problems`: worst first."""
    in_order, problems = sorted(checks, key=lambda check: WORST_FIRST[check.health]), list(problems)
    return Content(
        tuple(CheckBrief(c.config.name, c.health.value, c.last_result) for c in in_order[:MOST_CHECKS]),
        max(len(in_order) - MOST_CHECKS, 0),
        tuple(ProblemBrief(p.code, p.severity, p.subject, p.what, p.hint) for p in problems[:MOST_PROBLEMS]),
        max(len(problems) - MOST_PROBLEMS, 0),
    )


class Reporter:
    def __init__(self, now: float) -> None:
        self.at = now
        """When it has something to do."""
        self.is_marked = False
        """Something may be a problem now that was none, or the other way round."""
        self._said_at = now - REPORT_INTERVAL
        self._said: object = None
        self.left: list[str] | None = None
        """The instances that this look has not come to yet; None: it has not begun."""
        self._found: list[Problem] = []

    def tick(self, node: "Node", link: Link, now: float) -> None:
        if self.left is None:
            self._begin(node, link, now)
        elif self.left:
            names, self.left = self.left[:SLICE], self.left[SLICE:]
            instances = [node.instances[name] for name in names if name in node.instances]
            self._found += of_instances(node, instances, now)
            self.at = now + SLICE_PAUSE
        else:
            self._end(node, link, now)

    def _begin(self, node: "Node", link: Link, now: float) -> None:
        self.at = now + LOOK_INTERVAL
        if not link.report and (self.is_marked or now >= self._said_at + REPORT_INTERVAL):
            self.is_marked, self.left, self._found = False, list(node.instances), []
            self.at = now + SLICE_PAUSE

    def _end(self, node: "Node", link: Link, now: float) -> None:
        self.left, self.at = None, now + LOOK_INTERVAL
        found = content(node.checks.values(), worst_first([*of_node(node, now), *self._found, *of_packets(node, now)]))
        # What checks and problems say may be new each second: it waits for its turn.
        essence = [(c.name, c.value) for c in found.checks], [(p.code, p.subject) for p in found.problems]
        if essence != self._said or now >= self._said_at + REPORT_INTERVAL:
            self._said, self._said_at = essence, now
            link.report.say(found, now)
