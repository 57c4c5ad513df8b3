"""The status as a person reads it: what the node is, what explains it, then what is wrong."""

from collections.abc import Sequence

from floatip.core.problems import Code, Severity
from floatip.core.state import FRESH_SESSION, CheckView, InstanceView, KeepalivedView, ProblemView, SessionView, Status
from floatip.text import age, aligned, folded, printable

Row = tuple[str, str, str, str]
"""A thing, its value, since when, because of what."""


def draw_status(status: Status, width: int = 80) -> str:
    """`width`: columns of the terminal; longer lines are folded.

    Any check can be the one that answers, as the daemon's user: nothing of the answer is a command to the terminal.
    """
    not_held = {problem.subject for problem in status.problems if problem.code == Code.NOT_HELD}
    rows = [row for instance in status.instances for row in _instance(instance, instance.name in not_held)]
    rows += _keepalived(status.keepalived)
    rows += [(f"check {check.name}", check.value, age(check.for_), _why(check)) for check in status.checks]
    rows += _sessions(status.sessions)
    problems = [line for problem in status.problems for line in _problem(problem, width)]
    none = [] if any(problem.severity != Severity.NOTE for problem in status.problems) else ["no problems"]
    lines = aligned([tuple(map(printable, row)) for row in rows], width)
    return "\n".join([*lines, "", *none, *problems])


def _problem(problem: ProblemView, width: int) -> list[str]:
    mark = "! " if problem.severity == Severity.PROBLEM else f"{problem.severity}: "
    hint = folded("  hint: " + printable(problem.hint), width, 8) if problem.hint else []
    return [*folded(printable(f"{mark}{problem.what} [{problem.code}]"), width, 2), *hint]


def _why(check: CheckView) -> str:
    """The verdict of a check that is down may rest on older results than the last."""
    is_older = check.value == "down" and check.last_result and check.last_result not in check.reason
    return f"{check.last_result}; down because: {check.reason}" if is_older else check.reason


def _instance(instance: InstanceView, is_missed: bool) -> list[Row]:
    role, rank, health = instance.role, instance.rank, instance.health
    who = f"; {instance.master} is master" if instance.master and role.value != "master" else ""
    rows = [
        (instance.name, role.value.upper(), age(role.for_), role.reason + who),
        ("  rank", rank.value, age(rank.for_), rank.reason),
        ("  health", health.value, age(health.for_), health.reason),
    ]
    for address in instance.addresses:
        held = "held" if address.held else "NOT HELD" if is_missed else "not held"
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
    age_of_it = min(session.for_ for session in up or sessions)
    young = f"; they may ignore us for the first {FRESH_SESSION:g} s" if any(session.young for session in up) else ""
    hold_times = ", ".join(sorted({f"{session.hold_time} s" for session in up}))
    told = f"{len(up)} of {len(sessions)} connected" + (f", hold time {hold_times}{young}" if up else "")
    rows = [("route servers", "up" if len(up) == len(sessions) else "PART" if up else "DOWN", age(age_of_it), told)]
    return rows + [
        ("  " + session.state, "", age(session.for_), f"{session.peer}: {session.reason}")
        for session in sessions
        if session not in up
    ]
