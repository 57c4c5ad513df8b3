"""Whether a fault must end before its time, because the nodes left do not serve."""

import time
from collections.abc import Callable, Sequence

from floatip.core.state import InstanceView, Status
from floatip.drill.faults import Check, Fault, Stop
from floatip.drill.method import allowed_outage
from floatip.drill.observation import Observer
from floatip.drill.verdict import nobody_could, nobody_does
from floatip.drill.watching import Watch

CONFIRMED = 0.5
"""Seconds for which no node could carry the instance: longer than between two messages of the link."""
PATIENCE = 3.0
"""Seconds, beyond what the documentation allows, without a master or without an answer to any probe."""


class Lifeline:
    """Asked again and again from the fault on. During a cut, this node learns nothing of the others."""

    def __init__(
        self,
        fault: Fault,
        instance: InstanceView,
        observers: Sequence[Observer],
        watch: Watch,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._watch, self._now = instance.name, watch, now
        self._sees_nodes = isinstance(fault, Check)
        self._observers = observers if isinstance(fault, Check | Stop) else ()
        kind = "check" if self._sees_nodes else "stop"
        self._patience = PATIENCE + allowed_outage(instance, kind) + (instance.master_down_interval or 0.0)
        self._since: dict[str, float] = {}
        self._answered, self._sent, self._answered_at = -1, 0, now()

    def broken(self) -> str:
        """Why the fault must end now; empty: it need not."""
        return (self._of_nodes(self._watch.status) if self._sees_nodes else "") or self._of_probes()

    def _of_nodes(self, status: Status | None) -> str:
        if status is None:
            self._since.clear()
            return ""
        if status.drill is None:
            return "the daemon knows of no drill any more; was it restarted?"
        if self._lasts("could", bool(why := nobody_could(status, self._name)), CONFIRMED):
            return why
        return why if self._lasts("does", bool(why := nobody_does(status, self._name)), self._patience) else ""

    def _of_probes(self) -> str:
        """An observer tells of a probe when it was answered, or is lost."""
        told = [observer.probes_so_far() for observer in self._observers if observer.is_probing]
        sent, answered = sum(sent for sent, _ in told), sum(sent - lost for sent, lost in told)
        if answered > self._answered or not sent:
            self._answered, self._sent, self._answered_at = answered, sent, self._now()
        silent = self._now() - self._answered_at
        return f"no probe was answered for {silent:.1f} s" if sent > self._sent and silent > self._patience else ""

    def _lasts(self, what: str, is_so: bool, limit: float) -> bool:
        if not is_so:
            self._since.pop(what, None)
            return False
        return self._now() - self._since.setdefault(what, self._now()) >= limit
