"""Whether a fault cost more than it may, and whether a daemon has grown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from floatip.lab.record import Record
from floatip.observing.summary import KINDS, PLURAL
from tests.soak.world import Footprint

RSS_MARGIN = 4.0
"""MB. The allocator keeps what a burst took."""
THREADS_MARGIN = 6
"""Workers stay once they were needed, and a daemon that was started a moment ago has not needed them yet."""


@dataclass(frozen=True, slots=True)
class Judged:
    name: str
    node: str
    outage: float
    """Seconds; the longest."""
    bound: float
    calm_after: float | None
    """Seconds from the end of the fault; None: the pair did not become calm."""
    violations: list[str]

    @property
    def line(self) -> str:
        calm = "never calm" if self.calm_after is None else f"calm after {self.calm_after:4.1f} s"
        outage = f"outage {self.outage:5.2f} s (bound {self.bound:.2f} s)"
        return "  ".join([f"{self.name:19}{self.node:9}", outage, calm, *(f"VIOLATION: {v}" for v in self.violations)])


def judge(name: str, node: str, record: Record, at: float, bound: float, calm_after: float | None) -> Judged:
    """`record` has the probes since the fault before; time in which the host did not schedule is added to the bound."""
    part = replace(record, probes=[probe for probe in record.probes if probe.at >= at])
    longest, violations = 0.0, []
    if not part.probes:
        violations.append("the observer has sent nothing")
    for kind in KINDS:
        for window in part.seen.windows(kind):
            seconds = window.ms / 1000
            delayed = record.delayed(window.first_lost_at, window.next_good_at or window.last_lost_at)
            longest = max(longest, seconds)
            if seconds > bound + delayed or window.next_good_at is None:
                errors = ", ".join(f"{n} {error}" for error, n in part.seen.errors(kind).items())
                extra = f" and {delayed:.2f} s without a CPU" if delayed >= 0.01 else ""
                after = f"{window.first_lost_at - at:.2f} s after the fault"
                lost = f"{PLURAL[kind]} lost for {seconds:.2f} s, {after}: bound {bound:.2f} s{extra} ({errors})"
                violations.append(lost)
    if calm_after is None:
        violations.append("no single master and ready backup after the fault")
    return Judged(name, node, longest, bound, calm_after, violations)


def grown(early: Sequence[Footprint], late: Sequence[Footprint]) -> list[str]:
    """`late` at its smallest is compared with `early` at its largest."""
    before, after = (
        Footprint(*(which(getattr(each, name) for each in samples) for name in ("rss", "descriptors", "threads")))
        for which, samples in ((max, early), (min, late))
    )
    found = []
    if after.rss > before.rss + RSS_MARGIN:
        found.append(f"RSS grew from {before.rss:.1f} to {after.rss:.1f} MB")
    if after.descriptors > before.descriptors:
        found.append(f"descriptors grew from {before.descriptors} to {after.descriptors}")
    if after.threads > before.threads + THREADS_MARGIN:
        found.append(f"threads grew from {before.threads} to {after.threads}")
    return found
