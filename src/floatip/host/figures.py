"""What the host counts beside the core, and the answer to `figures` on the control socket."""

from floatip.core.counters import Histogram
from floatip.core.node import Node
from floatip.core.tally import collect
from floatip.host.ask import Record

PHASES = ("detected", "decided", "wire", "acknowledged")


class Counters:
    def __init__(self) -> None:
        self.lateness = Histogram.of(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
        self._phases = {
            phase: Histogram.of(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
            for phase in PHASES
        }

    def woke(self, due: float, now: float) -> None:
        """The loop was to wake up when it was `due` (monotonic seconds)."""
        self.lateness.observe(max(now - due, 0.0))

    def took_over(self, *phases: float | None) -> None:
        """How long each phase took, in seconds and in their order; None: it is not known, or was not reached."""
        for histogram, seconds in zip(self._phases.values(), phases, strict=True):
            if seconds is not None:
                histogram.observe(seconds)

    def answer(self, node: Node) -> Record:
        return collect(node, self._phases, self.lateness)._asdict()
