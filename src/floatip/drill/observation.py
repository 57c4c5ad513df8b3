"""What an observer on another machine saw during a drill, and how one is asked."""

from dataclasses import dataclass
from typing import Protocol

from floatip.drill.report import Seen
from floatip.observing.summary import ProbeResult


@dataclass(frozen=True, slots=True)
class Target:
    address: str
    port: int
    request: str
    """http, tcp or none, as `floatip observe --request` takes it."""
    interval: float
    """Seconds."""
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Observation:
    """All times are this machine's time.monotonic(), whatever clock the observer has."""

    observer: str
    """The name of its machine; of a node: the node's name."""
    probes: tuple[ProbeResult, ...]
    seen: tuple[Seen, ...]
    """What the daemon on the observer's machine said, where one runs there."""
    uncertainty: float
    """Seconds by which these times may be off."""


class Observer(Protocol):
    """`floatip observe --join` on another machine. All raise Refusal, with what to do next."""

    name: str
    is_probing: bool
    """After `begin`: whether it probes the target. One whose machine has the address itself does not."""

    def begin(self, target: Target | None, most: float) -> None:
        """Record for `most` seconds at most; with a target, probe it. Returns when the first probe was sent."""

    def close(self) -> None:
        """End the recording, if there is one, and drop it. Does not raise."""

    def probes_so_far(self) -> tuple[int, int]:
        """Sent and lost; while the observer cannot be reached: as it was before. Does not raise."""

    def finish(self, within: float) -> Observation:
        """End the recording and fetch it; tries for `within` seconds where the observer cannot be reached yet."""
