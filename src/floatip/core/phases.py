"""How long the steps of a takeover lasted: detected, decided, on the wire, acknowledged (`events.Phases`).

The node says who is master, which session wrote what, and who has all of it. A takeover is open from the role until
it is complete or the role is another one; then it is one piece of news and one `TookOver`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.session import Route, Session
from floatip.core.election.elector import Onset, Role
from floatip.core.events import Became, Effect, Phases, TookOver
from floatip.core.instance import Instance


@dataclass(slots=True)
class Takeover:
    onset: Onset
    role_at: float
    wire_at: float | None = None


class Takeovers:
    def __init__(self) -> None:
        self.open: dict[str, Takeover] = {}
        """By instance: those that are not complete."""
        self._masters: set[str] = set()

    def look(self, instance: Instance) -> list[Effect]:
        """Its role may be another one."""
        name, is_master = instance.config.name, instance.role is Role.MASTER
        if is_master is (name in self._masters):
            return []
        if is_master:
            self._masters.add(name)
            if onset := instance.elector.onset:
                self.open[name] = Takeover(onset, instance.elector.since)
            return []
        self._masters.discard(name)
        if not (given_up := self.open.pop(name, None)):
            return []
        phases = _phases(given_up, None)
        why = f"not master any more: {instance.elector.reason}"
        said = ", ".join(_in_words(phases, "")) or "nothing of it is known"
        return [TookOver(name, phases), Became("takeover", name, "given-up", f"{why}; until then: {said}")]

    def wrote(self, session: Session, routes: Mapping[str, Mapping[Prefix, Route]], now: float) -> None:
        """All that the session has said is in the kernel's hands; `routes` of each instance."""
        for name, takeover in self.open.items():
            if takeover.wire_at is None and (wanted := routes.get(name)) and all(map(session.has_told, wanted)):
                takeover.wire_at = now

    def written_before(self, at: float) -> list[str]:
        """Which instances a route server knew by then."""
        return [name for name, one in self.open.items() if one.wire_at is not None and one.wire_at <= at]

    def complete(self, name: str, last: str, at: float) -> list[Effect]:
        """`last`: what the last step is called, as in `acknowledged`."""
        phases = _phases(self.open.pop(name), at)
        return [TookOver(name, phases), Became("takeover", name, "complete", ", ".join(_in_words(phases, last)))]

    def keep(self, names: Mapping[str, object]) -> None:
        """A reload removed all others."""
        self._masters &= names.keys()
        self.open = {name: one for name, one in self.open.items() if name in names}


def _phases(takeover: Takeover, acknowledged_at: float | None) -> Phases:
    heard_at, open_at = takeover.onset.heard_at, takeover.onset.open_at
    role_at, wire_at = takeover.role_at, takeover.wire_at
    return Phases(
        _between(heard_at, open_at),
        _between(open_at, role_at),
        _between(role_at, wire_at),
        _between(role_at if wire_at is None else wire_at, acknowledged_at),
    )


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else max(0.0, end - begin)


def _in_words(phases: Phases, last: str) -> list[str]:
    steps = ("detected", "decided", "on the wire", last)
    seconds = (phases.detected, phases.decided, phases.wire, phases.acknowledged)
    return [f"{step} in {each:.2f} s" for step, each in zip(steps, seconds, strict=True) if each is not None]
