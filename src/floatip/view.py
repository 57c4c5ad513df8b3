"""The status as a person reads it: what the node is, what explains it, then what is wrong."""

import math
from collections.abc import Callable, Iterator, Sequence

from floatip.core.bgp.rank import Rank
from floatip.core.problems import Code, Severity
from floatip.core.state import (
    FRESH_SESSION,
    CarriedView,
    CheckView,
    InstanceView,
    KeepalivedView,
    NodeView,
    ProblemView,
    SessionView,
    Status,
)
from floatip.text import age, aligned, folded, printable, span

Row = tuple[str, str, str, str]
"""A thing, its value, since when, because of what."""
LONG_NAME = 16
"""Of a node: a longer one would leave no room for the columns beside it."""
NAMED, NAMED_IN_TABLE = 3, 8
"""How many instances of a rank are named; more are counted."""
BETTER_FIRST = [rank.label for rank in reversed(Rank)]
CARRYING = {rank.label for rank in Rank if rank > Rank.STANDBY}
HEADINGS = ("NODE", "STATE", "HEARD", "HEARS US", "HEALTHY", "SESSIONS", "VERSION")
UNKNOWN = "?"


def draw_status(status: Status, width: int = 80) -> str:
    """`width`: columns of the terminal; longer lines are folded.

    Any check can be the one that answers, as the daemon's user: nothing of the answer is a command to the terminal.
    """
    not_held = {problem.subject for problem in status.problems if problem.code == Code.NOT_HELD}
    rows = [row for instance in status.instances for row in _instance(instance, instance.name in not_held)]
    rows += _keepalived(status.keepalived)
    rows += [(f"check {check.name}", check.value, age(check.for_), _why(check)) for check in status.checks]
    rows += _sessions(status.sessions)
    rows += [_node(node, status.nodes) for node in status.nodes]
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


def _node(node: NodeView, nodes: Sequence[NodeView]) -> Row:
    told = "; ".join(_news(node, nodes))
    since = age(node.heard) if node.heard is not None and not _is_known(node) else ""
    if len(node.name) > LONG_NAME:
        return "node", _state(node), since, f"{node.name}: {told}"
    return f"node {node.name}", _state(node), since, told


def _news(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    if _is_known(node):
        yield from _carries(node.carries, lambda rank: NAMED)
        if node.healthy is False:
            yield f"{node.instances_healthy} of {node.instances} instances healthy"
        if node.sessions_up < node.sessions:
            yield f"{node.sessions_up} of {node.sessions} route servers connected"
    yield from _remarks(node, nodes)


def draw_nodes(nodes: Sequence[NodeView], width: int = 80) -> str:
    """A line of facts for each node, and below it what it carries and what is special. A long name has its own line."""
    rows = [HEADINGS, *map(_facts, nodes)]
    lines = aligned(rows)
    names_apart = max(map(len, lines)) > width
    if names_apart:
        lines = aligned([("", *facts) for _, *facts in rows])
    drawn = lines[:1]
    for node, line in zip(nodes, lines[1:], strict=True):
        drawn += [printable(node.name)] * names_apart + [line]
        for remark in _below(node, nodes):
            drawn += folded("  " + printable(remark), width, 4)
    return "\n".join(drawn)


def _facts(node: NodeView) -> tuple[str, ...]:
    name, version = printable(node.name), printable(node.version)
    heard = "" if node.own else "never" if node.heard is None else age(node.heard)
    if not _is_known(node):
        return name, _state(node), heard, UNKNOWN, UNKNOWN, UNKNOWN, version or UNKNOWN
    hears_us = "" if node.own else "NO" if node.hears_us is None else age(node.hears_us)
    healthy = UNKNOWN if node.healthy is None else f"{node.instances_healthy} of {node.instances}"
    return name, _state(node), heard, hears_us, healthy, f"{node.sessions_up} of {node.sessions}", version


def _below(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    carries = "; ".join(_carries(node.carries, lambda rank: math.inf if rank in CARRYING else NAMED_IN_TABLE))
    if _is_known(node):
        yield f"{node.address}  {carries}"
    else:
        yield f"{node.address}  carried when last heard: {carries}" if node.carries else node.address
    yield from _remarks(node, nodes)
    if codes := dict.fromkeys(problem.code for problem in node.problems if problem.severity != Severity.NOTE):
        yield f"problems: {', '.join(codes)}" + (f", {node.more_problems} not listed" if node.more_problems else "")


def _is_known(node: NodeView) -> bool:
    """What it says of itself is of now."""
    return node.own or node.state == "alive"


def _state(node: NodeView) -> str:
    return printable(node.state if _is_known(node) else node.state.upper())


def _carries(carried: Sequence[CarriedView], most: Callable[[str], float]) -> Iterator[str]:
    """One part for each rank, the best first. `most`: up to how many instances of a rank are named."""
    by_rank: dict[str, list[CarriedView]] = {rank: [] for rank in BETTER_FIRST}
    for one in carried:
        by_rank.setdefault(one.rank, []).append(one)
    if not carried:
        yield "carries nothing"
    for rank, there in by_rank.items():
        leaving = sum(one.leaving for one in there)
        if len(there) > most(rank):
            yield f"{len(there)} instances at {rank}" + (f" ({leaving} leaving)" if leaving else "")
        elif there:
            names = ", ".join(f"{one.instance} (leaving)" if one.leaving else one.instance for one in there)
            yield f"{names} at {rank}"


def _remarks(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    """What is not as always, or not as it should be."""
    if node.why or not _is_known(node):
        yield node.why or "not heard since this daemon started"
    if node.stopping:
        yield "stopping"
    if node.drained or node.paused:
        yield _held_back(node)
    if node.state == "alive" and node.hears_us is None:
        yield "does not hear this node"
    if node.same_configuration is False:
        yield "has another configuration than this node"
    ours = next((one.version for one in nodes if one.own), node.version)
    if node.version and ours != node.version:
        yield f"has version {node.version}, this node has {ours}"


def _held_back(node: NodeView) -> str:
    what = " and ".join(word for word, true in (("drained", node.drained), ("paused", node.paused)) if true)
    end = "floatip undrain" if node.drained else "floatip resume"
    until = f"until {end}" if node.until is None else f"for {span(node.until)} more"
    return f"{what} {until}" + (f": {node.reason}" if node.reason else "")
