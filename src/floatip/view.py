"""The status as a person reads it: what the node is, what explains it, then what is wrong."""

from collections.abc import Sequence

from floatip.core.problems import Severity
from floatip.core.state import FRESH_SESSION, InstanceView, KeepalivedView, ProblemView, SessionView, Status
from floatip.text import age, aligned, folded

Row = tuple[str, str, str, str]
"""A thing, its value, since when, because of what."""


def draw_status(status: Status, width: int = 80) -> str:
    """`width`: columns of the terminal; longer lines are folded."""
    rows = [row for instance in status.instances for row in _instance(instance)]
    rows += _keepalived(status.keepalived)
    rows += [(f"check {check.name}", check.value, age(check.for_), check.reason) for check in status.checks]
    rows += _sessions(status.sessions)
    problems = [line for problem in status.problems for line in _problem(problem, width)]
    return "\n".join([*aligned(rows, width), "", *(problems or ["no problems"])])


def _problem(problem: ProblemView, width: int) -> list[str]:
    mark = "! " if problem.severity == Severity.PROBLEM else "warning: "
    hint = folded("  hint: " + problem.hint, width, 8) if problem.hint else []
    return [*folded(mark + problem.what, width, 2), *hint]


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
        where = f"{address.address} on {address.interface}"
        if instance.route_servers:
            where += f", announced to {address.announced_to} of {instance.route_servers} route servers"
        rows.append(("  address", held, "", where))
    return rows


def _keepalived(known: KeepalivedView | None) -> list[Row]:
    if known is None:
        return []
    said = ", ".join(f"{one.name} {one.state}" for one in known.said)
    said = f"{known.reason}; it said {said}" if said else known.reason
    return [("keepalived", "runs" if known.runs else "GONE", age(known.for_), said)]


def _sessions(sessions: Sequence[SessionView]) -> list[Row]:
    """One line while all are well, and else one each."""
    if not sessions:
        return []
    up = [session for session in sessions if session.state == "established"]
    youngest = min(session.for_ for session in up) if up else 0.0
    young = f"; they may ignore us for the first {FRESH_SESSION:g} s" if any(session.young for session in up) else ""
    hold_times = ", ".join(sorted({f"{session.hold_time} s" for session in up}))
    told = f"{len(up)} of {len(sessions)} connected" + (f", hold time {hold_times}{young}" if up else "")
    rows = [("route servers", "up" if len(up) == len(sessions) else "PART" if up else "DOWN", age(youngest), told)]
    return rows + [
        ("  " + session.state, "", age(session.for_), f"{session.peer}: {session.reason}")
        for session in sessions
        if session not in up
    ]
