"""The status as a person reads it: what the node is, what explains it, then what is wrong."""

from floatip.core.problems import Severity
from floatip.core.state import FRESH_SESSION, InstanceView, KeepalivedView, ProblemView, SessionView, Status
from floatip.text import age, aligned

Row = tuple[str, str, str, str]
"""A thing, its value, since when, because of what."""


def draw_status(status: Status) -> str:
    rows = [row for instance in status.instances for row in _instance(instance)]
    rows += _keepalived(status.keepalived)
    rows += [(f"check {check.name}", check.value, age(check.for_), check.reason) for check in status.checks]
    rows += [(f"route server {s.peer}", _state(s), age(s.for_), _reason(s)) for s in status.sessions]
    problems = [_problem(problem) for problem in status.problems]
    return "\n".join([*aligned(rows), "", *(problems or ["no problems"])])


def _problem(problem: ProblemView) -> str:
    mark = "! " if problem.severity == Severity.PROBLEM else "warning: "
    return mark + problem.what + (f"\n  hint: {problem.hint}" if problem.hint else "")


def _instance(instance: InstanceView) -> list[Row]:
    role, rank, health = instance.role, instance.rank, instance.health
    who = f"; {instance.master} is master" if instance.master and role.value != "master" else ""
    rows = [
        (instance.name, role.value.upper(), age(role.for_), role.reason + who),
        ("  rank", rank.value, age(rank.for_), rank.reason),
        ("  health", health.value, age(health.for_), health.reason),
    ]
    for address in instance.addresses:
        held = "held" if address.held else "NOT HELD"
        announced = f"announced to {address.announced_to} of {instance.route_servers} route servers"
        rows.append(("  address", held, "", f"{address.address} on {address.interface}, {announced}"))
    return rows


def _keepalived(known: KeepalivedView | None) -> list[Row]:
    if known is None:
        return []
    said = ", ".join(f"{one.name} {one.state}" for one in known.said)
    said = f"{known.reason}; it said {said}" if said else known.reason
    return [("keepalived", "runs" if known.runs else "GONE", age(known.for_), said)]


def _reason(session: SessionView) -> str:
    if session.young:
        return f"{session.reason}; route servers may ignore us for the first {FRESH_SESSION:g} s"
    return session.reason


def _state(session: SessionView) -> str:
    return "up" if session.state == "established" else session.state
