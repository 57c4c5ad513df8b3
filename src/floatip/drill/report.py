"""The report of a rehearsed failover: what was done, seen and restored. JSON is authoritative; text and HTML show it.

`floatip drill` and `floatip lab --report` make the same report. Times are seconds since `began`, unless a name says
otherwise; they are negative before the fault. Pure.
"""

from dataclasses import dataclass
from typing import Literal

from floatip.observing.summary import ProbeResult

FORMAT = 1
"""Grows when an older reader would misread the JSON."""

What = Literal[
    "role", "rank", "health", "takeover", "check", "session", "node", "order", "address", "daemon", "network", "failure"
]
"""What changed on a node, as `core.events.Became` has it: `name` says which instance, check, session, node, order,
address or part, `value` what it became."""
Step = Literal["before", "fault", "watch", "restore", "after"]


@dataclass(frozen=True, slots=True)
class Method:
    """What is done, said before it is done."""

    fault: str
    """Its kind: check, stop, handover, cut; of the lab: the scene."""
    node: str
    """To which node."""
    instance: str
    addresses: tuple[str, ...]
    sentences: tuple[str, ...]
    """What happens, in order, for a person who decides whether it may."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact with its evidence: of the steady state before, of the verdict, of what was restored."""

    holds: bool
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What the drill did."""

    at: float
    step: Step
    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node said of itself, or another one said of it. The first ones of a node are its state at the start."""

    at: float
    node: str
    what: What
    name: str
    value: str
    reason: str = ""
    source: str = ""
    """The node that said it; empty: the node itself."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What one observer saw of one address."""

    observer: str
    address: str
    port: int
    interval: float
    """Seconds between two probes of a kind."""
    results: tuple[ProbeResult, ...]
    """In the order of sending; `at` is since `began`."""
    uncertainty: float = 0.0
    """Seconds by which the observer's clock may be off against the others here."""


@dataclass(frozen=True, slots=True)
class Route:
    """From then on a route server, or the router before the clients, led to this node; empty: to none."""

    at: float
    host: str
    node: str


@dataclass(frozen=True, slots=True)
class Report:
    title: str
    made_by: str
    """As `floatip 0.1.0`."""
    kind: Literal["drill", "lab"]
    began: float
    """Unix time, seconds: when the fault began, or, if none was made, when the drill was refused or ended."""
    starts: float
    ends: float
    method: Method
    nodes: tuple[str, ...]
    """All nodes of the instance, in the order of the configuration."""
    before: tuple[Finding, ...]
    """The steady state, and what else must hold before a fault is made."""
    done: tuple[Done, ...]
    seen: tuple[Seen, ...]
    probes: tuple[Probes, ...]
    verdict: tuple[Finding, ...]
    restored: tuple[Finding, ...]
    routes: tuple[Route, ...] = ()
    """Of the lab, which alone can see them."""
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all went as it must, and all is as it was."""
        return all(finding.holds for finding in (*self.before, *self.verdict, *self.restored))
