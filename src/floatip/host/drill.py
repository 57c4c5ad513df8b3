"""The daemon's side of `floatip drill`: a drill lasts as long as the connection of its client, and a limited time.

`{"cmd": "drill", "instance": "web", "fault": "check", "check": "haproxy", "for": 30}` begins one, unless something
stands against it; with `"dry": true` it only says what does. `"force": true` passes over what may be forced.
"""

from collections.abc import Callable
from dataclasses import asdict

from floatip.core.drill import FAULTS, Objection, objections
from floatip.core.events import Drill, Drilled, Event
from floatip.core.node import Node
from floatip.host.ask import Record
from floatip.host.control import Credentials, Held

LONGEST = 600.0
"""Seconds."""
EXAMPLE = '{"cmd": "drill", "instance": "web", "fault": "check", "check": "haproxy", "for": 30}'


class Drills:
    def __init__(self, node: Callable[[], Node], report: Callable[[Event], None], now: Callable[[], float]) -> None:
        self._node = node
        self._report = report
        self._now = now
        self._running: Drill | None = None

    def held(self, request: Record, who: Credentials) -> Held:
        drill = _drill(request, who)
        if isinstance(drill, str):
            found = [Objection(f"it is not understood: {drill}", f"send for example {EXAMPLE}")]
            return Held({"began": False, "objections": [asdict(one) for one in found]})
        found = objections(self._node(), drill, self._now())
        said = [asdict(one) for one in found]
        hinders = [one for one in found if not (one.may_force and request.get("force") is True)]
        if hinders or request.get("dry") is True:
            return Held({"began": False, "objections": said})
        self._running = drill
        self._report(Drilled(drill))
        return Held({"began": True, "objections": said}, lambda: self._end(drill))

    def _end(self, drill: Drill) -> None:
        """Unless its time is over, and another one runs since."""
        if self._running is drill:
            self._running = None
            if self._node().drill is drill:
                self._report(Drilled(None))


def _drill(request: Record, who: Credentials) -> Drill | str:
    """What is asked for, or what is wrong with that."""
    instance, fault, check = (request.get(key, "") for key in ("instance", "fault", "check"))
    lasts = request.get("for")
    if not isinstance(instance, str) or not isinstance(check, str):
        return "instance or check is not a name"
    if fault not in FAULTS:
        return f"fault is none of {', '.join(FAULTS)}"
    if not isinstance(lasts, int | float) or isinstance(lasts, bool) or not 0 < lasts <= LONGEST:
        return f"for is not a number of seconds, more than 0 and at most {LONGEST:g}"
    by = f"started by {'root' if who.uid == 0 else f'user {who.uid}'}, pid {who.pid}"
    return Drill(instance, str(fault), by, float(lasts), check if fault == "check" else "")
