"""The daemon's side of `floatip drill`: a drill lasts as long as the connection of its client, and a limited time.

`{"cmd": "drill", "instance": "web", "fault": "check", "check": "haproxy", "for": 30}` begins one, unless something
stands against it. With `"dry": true` it only says what does. `"force": true` passes over what may be forced.
`{"cmd": "drill-fails", "for": 15}` on the same connection makes the check fail.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TypeGuard

from floatip.core.drill import FAULTS, Objection, checks_of, objections
from floatip.core.events import Drill, Drilled, Event
from floatip.core.node import Node
from floatip.host.ask import Record
from floatip.host.control import Command, Credentials, Held

LONGEST = 600.0
"""Seconds."""
EXAMPLE = '{"cmd": "drill", "instance": "web", "fault": "check", "check": "haproxy", "for": 30}'


class Drills:
    def __init__(self, node: Callable[[], Node], report: Callable[[Event], None], now: Callable[[], float]) -> None:
        self._node = node
        self._report = report
        self._now = now
        self._pid = 0
        """Who holds the drill that runs."""

    def commands(self) -> dict[str, Command]:
        return {
            "drill": Command(_unheld, "drill", hold=self._begin),
            "drill-fails": Command(_unheld, "drill", hold=self._fail),
        }

    def _begin(self, request: Record, who: Credentials) -> Held:
        drill = _drill(request, who)
        if isinstance(drill, str):
            found = [Objection(f"it is not understood: {drill}", f"send for example {EXAMPLE}")]
            return Held({"began": False, "objections": [asdict(one) for one in found]})
        found = objections(self._node(), drill, self._now())
        said = [asdict(one) for one in found]
        hinders = [one for one in found if not (one.may_force and request.get("force") is True)]
        if hinders or request.get("dry") is True:
            node = self._node()
            concerned = {"checks": checks_of(node, drill.instance), "counts_for": node.by_check.get(drill.check, [])}
            return Held({"began": False, "objections": said, **concerned})
        self._pid = who.pid
        self._report(Drilled(drill))
        return Held({"began": True, "objections": said}, partial(self._end, drill.by))

    def _fail(self, request: Record, who: Credentials) -> Held:
        """From now on the check of the drill counts as failed."""
        drill, lasts = self._node().drill, request.get("for")
        if drill is None or who.pid != self._pid or not drill.check or not _is_time(lasts):
            return Held({"began": False})
        self._report(Drilled(replace(drill, fails=True, lasts=float(lasts))))
        return Held({"began": True})

    def _end(self, by: str) -> None:
        """Unless its time was over, and another one runs since."""
        drill = self._node().drill
        if drill and drill.by == by:
            self._report(Drilled(None))


def _unheld(request: Record, pid: int) -> Record:
    raise AssertionError("a drill is held by its connection")


def _drill(request: Record, who: Credentials) -> Drill | str:
    """What is asked for, or what is wrong with that."""
    instance, fault, check, to = (request.get(key, "") for key in ("instance", "fault", "check", "to"))
    lasts = request.get("for")
    if not all(isinstance(name, str) for name in (instance, check, to)):
        return "instance, check or to is not a name"
    if fault not in FAULTS:
        return f"fault is none of {', '.join(FAULTS)}"
    if not _is_time(lasts):
        return f"for is not a number of seconds, more than 0 and at most {LONGEST:g}"
    by = f"started by {'root' if who.uid == 0 else f'user {who.uid}'}, pid {who.pid}"
    return Drill(str(instance), str(fault), by, float(lasts), str(check) if fault == "check" else "", to=str(to))


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST
