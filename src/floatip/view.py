"""The status as a person reads it at night: where and how it is, what is wrong, who has the traffic and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from floatip import connection_words, etcd_words
from floatip.carrier import RANKS, STANDBY, THIS_NODE, Carrier, carriers
from floatip.core.problems import Code, Severity
from floatip.core.state import (
    FRESH_SESSION,
    ChangeView,
    CheckView,
    EtcdView,
    GroupView,
    InstanceView,
    KeepalivedView,
    NetworkView,
    NodeView,
    ProblemView,
    SessionView,
    Status,
)
from floatip.screen import BAD, BOLD, DIM, GOOD, WARN, Line, Part, under
from floatip.text import age, cells, padded, printable, span

LONG_NAME = 20
"""A longer name of a check or node stands above its facts."""
EACH = 4
"""Up to so many instances have a block each; of more, those that are alike share one."""
MOST_BLOCKS = 8
"""With more, those share one that differ only in why."""
MOST_ROWS = 8
"""Of more checks and nodes than that, those that are well are counted."""
MOST_PROBLEMS = 3
"""Of one code; more are counted."""
NAMED = 3
"""How many instances of a node are named; more are counted."""
LONGEST_LIST = 160
"""Characters of the names of a block."""
LABEL = 11
CONNECTIONS = "connections"
IN_WORDS = {
    "takeover-again": "as the one that serves, ahead of the routes of earlier masters",
    "takeover": "as the one that serves, ahead of the old master's route",
    "active": "as the one that serves",
    "standby": "as the reserve: serves when no better route is there",
    "last-resort": "as the last resort: unhealthy, and better than nothing",
}
WITHOUT_BGP = {"standby": "ready to take over", "none": "cannot take over"}
SHORT = {"standby": "in reserve for", "last-resort": "last resort for"} | dict.fromkeys(RANKS[STANDBY + 1 :], "serves")
ROLES = {"master": GOOD, "fault": BAD}
VALUES = {"up": GOOD, "down": BAD, "unknown": WARN}
SEVERITIES = {Severity.PROBLEM: ("! ", BAD), Severity.WARNING: ("warning: ", WARN), Severity.NOTE: ("note: ", "")}
SAY_SINCE = {Code.NODE_SILENT, Code.CUT_OFF, Code.NOT_ACKNOWLEDGED, Code.PEER_UNHEARD, Code.ETCD_LOST}
"""Problems with the time in their sentence."""
OBVIOUS = {"", "not master", "master, settled"}
"""Reasons of a rank that the role says already."""


class Shown(NamedTuple):
    """What of a status is drawn."""

    width: int = 80
    each: bool = False
    """Nothing is counted, and nothing shares a block."""
    instance: str | None = None
    """Only this one; None: all."""


EVERYTHING = Shown()


def draw_status(status: Status, shown: Shown = EVERYTHING) -> list[Line]:
    """Lines that fit in `width` columns.

    Any check can be the one that answers, as the daemon's user: nothing of the answer is a command to the terminal.
    """
    blocks = [
        _headline(status, shown.width),
        _problems(status.problems, shown),
        *_instances(status, shown),
        _table("keepalived", _keepalived(status.keepalived), shown),
        _table("checks", _checks(status.checks, shown), shown),
        _table("other nodes", _nodes(status.nodes, shown), shown),
        _connections(status, shown.width),
        _table("etcd", _etcd(status.etcd), shown),
        _table("route servers", _sessions(status.sessions, status.cut_off), shown),
        _table("last changes", map(_change, status.recent), shown),
    ]
    lines: list[Line] = []
    for block in filter(None, blocks):
        lines += [[], *block] if lines else block
    return lines


def verdict(problems: Iterable[ProblemView]) -> Part:
    """How the node is, in two words."""
    count = Counter(problem.severity for problem in problems)
    if wrong := count[Severity.PROBLEM]:
        return f"{wrong} PROBLEM{'S' * (wrong > 1)}", BAD
    if warnings := count[Severity.WARNING]:
        return f"OK, {warnings} warning{'s' * (warnings > 1)}", WARN
    return "OK", GOOD


def _headline(status: Status, width: int) -> list[Line]:
    named = next((node.name for node in status.nodes if node.own), "") or status.host
    machine = f" on {status.host}" if status.host not in ("", named) else ""
    program = f"floatip {status.version}{machine}"
    facts = ", ".join(filter(None, (program, f"up {age(status.uptime)}", _where(status.network))))
    word, style = verdict(status.problems)
    name = printable(named) or "?"
    if cells(name) + 2 + len(word) + 2 > width:
        return [*under([("", "")], name, width, BOLD), [(word, style)], *under([("", "")], facts, width)]
    return under([(name, BOLD), ("  ", ""), (word, style), ("  ", "")], facts, width, indent=cells(name) + 2)


def _where(network: NetworkView | None) -> str:
    if network is None:
        return "no BGP"
    what = network.name if network.dcid is None else f"{network.name} {network.dcid}"
    return f"{what} ({network.place})" if network.place else what


# What is wrong


def _problems(problems: Sequence[ProblemView], shown: Shown) -> list[Line]:
    lines: list[Line] = []
    seen: Counter[tuple[str, str]] = Counter()
    alike = Counter(_kind(problem) for problem in problems)
    for problem in problems:
        kind = _kind(problem)
        seen[kind] += 1
        if shown.each or alike[kind] <= MOST_PROBLEMS + 1 or seen[kind] <= MOST_PROBLEMS:
            lines += _problem(problem, shown.width)
        elif seen[kind] == alike[kind]:
            others = [one.subject for one in problems if _kind(one) == kind][MOST_PROBLEMS:]
            text = f"and {len(others)} more like this, of {_names(others)} [{problem.code}]"
            lines += under([_mark(problem.severity)], text, shown.width, indent=2)
    return lines


def _kind(problem: ProblemView) -> tuple[str, str]:
    return problem.severity, problem.code


def _mark(severity: str) -> Part:
    return SEVERITIES[Severity(severity)] if severity in list(Severity) else ("! ", BAD)


def _problem(problem: ProblemView, width: int) -> list[Line]:
    since = "" if problem.for_ is None or problem.code in SAY_SINCE else f" (for {age(problem.for_)})"
    style = BOLD if problem.severity == Severity.PROBLEM else ""
    text = f"{problem.what}{since} [{problem.code}]"
    lines = under([_mark(problem.severity)], text, width, style, indent=2)
    return lines + (under([("  hint: ", DIM)], problem.hint, width) if problem.hint else [])


# Instances


class _One(NamedTuple):
    view: InstanceView
    carrier: Carrier
    why: str
    is_missed: bool
    """Its addresses should be here."""
    order: str
    """That keeps this node from taking over; empty: none."""
    group: str
    """Its sync group, in words; empty: none."""
    owner: str
    """By etcd, in words; empty: etcd does not decide about it."""
    owner_brief: str
    """The same, but for what differs between instances that are alike."""


def _instances(status: Status, shown: Shown) -> Iterator[list[Line]]:
    missed = {problem.subject for problem in status.problems if problem.code == Code.NOT_HELD}
    carrying = carriers(status)
    names = {node.address: node.name for node in status.nodes}
    groups = {"": ""} | {group.name: _group(group) for group in status.groups}
    ones = [
        _One(
            one,
            carrying[one.name],
            _why(one, names),
            one.name in missed,
            _order(one, status.nodes),
            groups[one.group],
            etcd_words.owner(one, status, carrying[one.name].node),
            etcd_words.owner(one, status, carrying[one.name].node, brief=True),
        )
        for one in status.instances
        if shown.instance in (None, one.name)
    ]
    for group in [[one] for one in ones] if shown.each or len(ones) <= EACH else _alike(ones):
        yield _block(group, shown.width, status.cut_off)


def _alike(ones: Sequence[_One]) -> list[list[_One]]:
    for with_reasons in (True, False):
        groups: dict[object, list[_One]] = {}
        for one in ones:
            groups.setdefault(_look(one, with_reasons), []).append(one)
        if len(groups) <= MOST_BLOCKS:
            break
    return sorted(groups.values(), key=_urgency)


def _look(one: _One, with_reasons: bool) -> object:
    view = one.view
    look = (
        view.role.value,
        view.rank.value,
        view.health.value,
        one.carrier if with_reasons else one.carrier.node,
        one.is_missed,
        one.order,
        one.group,
        one.owner_brief,
        _priority(view),
        frozenset((address.held, address.interface, address.announced_to) for address in view.addresses),
    )
    return (*look, one.why) if with_reasons else look


def _urgency(group: Sequence[_One]) -> tuple[bool, bool, str]:
    """Those where something is wrong first, then those that this node has."""
    view = group[0].view
    is_well = view.health.value == "up" and view.role.value in ("master", "backup") and not group[0].is_missed
    return is_well, view.role.value != "master", view.name


def _block(group: Sequence[_One], width: int, is_cut_off: bool) -> list[Line]:
    first, view = group[0], group[0].view
    role = view.role.value
    name = printable(view.name) if len(group) == 1 else f"{len(group)} instances"
    ages = sorted({age(one.view.role.for_): one.view.role.for_ for one in group}.items(), key=lambda pair: pair[1])
    since = f"for {ages[0][0]}" if len(ages) == 1 else f"for {ages[0][0]} to {ages[-1][0]}"
    state, style = f"{role.upper()} {since}", ROLES.get(role, "")
    if cells(name) + 2 + cells(printable(state)) > width:
        lines = [*under([("", "")], name, width, BOLD), *under([("  ", "")], state, width, style)]
    else:
        lines = under([(name, BOLD), ("  ", "")], state, width, style)
    rows: list[tuple[str, str, str]] = []
    if len(group) > 1:
        rows.append(("which", _names([one.view.name for one in group], LONGEST_LIST), ""))
    rows.append(_traffic(first.carrier))
    if first.owner and view.etcd:
        is_wrong = etcd_words.is_other(view.etcd, first.carrier.node)
        rows.append(("owner", first.owner if len(group) == 1 else first.owner_brief, BAD if is_wrong else ""))
    rows.append(("announced", _announced(view, is_cut_off), "") if view.route_servers else ("state", _ready(first), ""))
    rows.append(_addresses(group))
    reasons = Counter(one.why for one in group)
    (why, times), *_ = reasons.most_common(1)
    more = f" ({times} of {len(group)}; floatip status --all shows each)" if len(reasons) > 1 else ""
    rows.append(("why", why + more, ""))
    if priority := _priority(view):
        rows.append(("priority", priority, WARN if view.why_priority else ""))
    if view.group:
        rows.append(("sync group", first.group, ""))
    if view.health.value != "up":
        rows.append(("health", f"{view.health.value} for {age(view.health.for_)}", VALUES.get(view.health.value, "")))
    for label, text, style in rows:
        lines += under([(f"  {label:{LABEL}}", DIM)], text, width, style)
    return lines


def _traffic(carrier: Carrier) -> tuple[str, str, str]:
    if carrier.node:
        return "traffic", f"goes to {carrier.node}", GOOD if carrier.node == THIS_NODE else ""
    if carrier.is_known:
        return "traffic", f"goes to nobody: {carrier.why}", BAD
    return "traffic", f"not known: {carrier.why}", WARN


def _announced(view: InstanceView, is_cut_off: bool) -> str:
    if view.rank.value == "none":
        return "not announced"
    reached = sorted({address.announced_to for address in view.addresses})
    if reached == [0]:
        return f"to nobody: none of {view.route_servers} route servers has it from this node"
    count = f"{reached[0]}" if len(reached) == 1 else f"{reached[0]} to {reached[-1]}" if reached else "0"
    words = IN_WORDS.get(view.rank.value, f"at {view.rank.value}")
    head, colon, rest = words.partition(":")
    if is_cut_off:
        return f"{head}, as far as it reaches: no route server acknowledges anything"
    return f"{head}, to {count} of {view.route_servers} route servers{colon}{rest}"


def _ready(one: _One) -> str:
    view = one.view
    if view.role.value == "master":
        serves = not view.addresses or any(address.held for address in view.addresses)
        return "serves" if serves else "is master, and does not serve"
    if view.role.value != "backup":
        return WITHOUT_BGP["none"]
    if view.rank.value == "standby" and one.order:
        return f"does not take over: {one.order}"
    return WITHOUT_BGP.get(view.rank.value, view.rank.value)


def _order(view: InstanceView, nodes: Sequence[NodeView]) -> str:
    for node in nodes:
        if node.own and node.drained and view.election in ("nodes", "vrrp"):
            return _held_back(node)
        if node.paused and is_known(node) and view.election == "nodes":
            return _held_back(node) if node.own else f"{node.name} is {_held_back(node)}"
    return ""


def _priority(view: InstanceView) -> str:
    """Where checks may change it."""
    if view.why_priority:
        return f"{view.priority} = {view.why_priority}"
    tracks = [f"{one.check} {one.weight:+d}{' reverse' * one.reverse}" for one in view.tracks if one.weight]
    return f"{view.priority}, with the weights {', '.join(tracks)}" if tracks else ""


def _group(group: GroupView) -> str:
    """All of its members are what it is."""
    return f"{group.name}, {group.role.value.upper()} as a whole: {_names(group.members, LONGEST_LIST)}"


def _addresses(group: Sequence[_One]) -> tuple[str, str, str]:
    all_of_it = [(one, address) for one in group for address in one.view.addresses]
    held = sum(address.held for _, address in all_of_it)
    word = "NOT HELD" if group[0].is_missed else "not held"
    style = BAD if group[0].is_missed else ""
    if len(group) == 1 and len(all_of_it) <= NAMED:
        texts = [f"{one.address} on {one.interface}, {'held' if one.held else word}" for _, one in all_of_it]
        return "address", "; ".join(texts) or "none", style
    state = "all held" if held == len(all_of_it) else f"{held} held, {len(all_of_it) - held} {word}"
    return "addresses", f"{len(all_of_it)}, {state}", style


def _why(view: InstanceView, names: Mapping[str, str]) -> str:
    """`names`: of the nodes, by their address."""
    reasons = [view.role.reason]
    if (master := view.master and names.get(view.master, view.master)) and master not in view.role.reason:
        reasons.append(f"{master} is master")
    if view.rank.reason not in OBVIOUS | {view.role.reason}:
        reasons.append(view.rank.reason)
    if view.health.value != "up" and view.health.reason not in reasons:
        reasons.append(view.health.reason)
    return "; ".join(reasons)


def _names(names: Sequence[str], longest: int = 60) -> str:
    """With runs of numbers as "web003 to web127"; in about so many characters, but one at least."""
    runs = list(_runs(names))
    for count in range(len(runs), 0, -1):
        text = ", ".join(name for name, _ in runs[:count])
        if len(text) <= longest or count == 1:
            break
    left = sum(number for _, number in runs[count:])
    return text + (f" and {left} more" if left else "")


def _runs(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Three names or more that count up are one run; with each its length."""
    run: list[str] = []
    for name in (*names, None):
        if run and (name is None or name != _next(run[-1])):
            yield from [(f"{run[0]} to {run[-1]}", len(run))] if len(run) > 2 else [(one, 1) for one in run]
            run = []
        run += [name] if name is not None else []


def _next(name: str) -> str:
    """The name with the next number: web10 after web9, web10 after web09."""
    digits = name[len(name.rstrip("0123456789")) :][-9:]
    return f"{name.removesuffix(digits)}{int(digits) + 1:0{len(digits)}}" if digits else ""


# What it rests on

Row = tuple[str, str, str, str]
"""A name, a value, its style, and what there is to say."""


def _table(title: str, rows: Iterable[Row], shown: Shown) -> list[Line]:
    rows = [_bounded(*row) for row in rows]
    if not rows:
        return []
    short = [cells(name) for name, *_ in rows if cells(name) <= LONG_NAME]
    name_width, value_width = max(short, default=0), max(cells(row[1]) for row in rows)
    lines: list[Line] = [[(title, BOLD)]]
    for name, value, style, text in rows:
        is_long = cells(name) > LONG_NAME
        lines += under([("  ", "")], name, shown.width) if is_long else []
        head: Line = [("  " + padded("" if is_long else name, name_width), "")] if name_width else []
        head.append((("  " + padded(value, value_width)) * bool(value_width) + "  ", style))
        lines += under(head, text, shown.width)
    return lines


def _bounded(name: str, value: str, style: str, text: str) -> Row:
    """A value is a word and an age; one that is longer, of another version, stands with the text."""
    if cells(printable(value)) > LONG_NAME:
        return printable(name), "", style, f"{value}: {text}"
    return printable(name), printable(value), style, text


def _keepalived(known: KeepalivedView | None) -> list[Row]:
    if known is None:
        return []
    said = ", ".join(f"{one.name} {one.state}" for one in known.said)
    said = f"{known.reason}; it said {said}" if said else known.reason
    value = f"runs {age(known.for_)}" if known.runs else f"GONE {age(known.for_)}"
    return [("", value, GOOD if known.runs else BAD, said)]


def _etcd(known: EtcdView | None) -> list[Row]:
    if known is None:
        return []
    value = f"answers {age(known.for_)}" if known.answers else f"SILENT {age(known.for_)}"
    rows = [("", value, GOOD if known.answers else BAD, etcd_words.summary(known))]
    return rows + [
        (etcd_words.place(one), f"silent {age(one.for_)}", BAD, etcd_words.said(one))
        for one in etcd_words.silent(known)
    ]


def _connections(status: Status, width: int) -> list[Line]:
    lines: list[Line] = []
    for text, is_well in connection_words.sentences(status):
        head = f"{CONNECTIONS}  " if not lines else " " * (len(CONNECTIONS) + 2)
        style = "" if is_well is None else GOOD if is_well else BAD
        lines += under([(head, BOLD)], text, width, style)
    return lines


def _checks(checks: Sequence[CheckView], shown: Shown) -> list[Row]:
    wrong = [check for check in checks if check.value != "up"]
    many = len(checks) > MOST_ROWS and not shown.each
    rows = [
        (check.name, f"{check.value} {age(check.for_)}", VALUES.get(check.value, ""), _output(check))
        for check in (wrong[:MOST_ROWS] if many else checks)
    ]
    if many and len(wrong) > MOST_ROWS:
        rows.append(("", "down", BAD, f"{len(wrong) - MOST_ROWS} more: {_names([c.name for c in wrong[MOST_ROWS:]])}"))
    if many and len(wrong) < len(checks):
        rows.append(("", "up", GOOD, f"{len(checks) - len(wrong)} of {len(checks)}; floatip status --all shows each"))
    return rows


def _output(check: CheckView) -> str:
    """The verdict of a check may rest on older results than the last."""
    last = check.last_result
    return f"{last}; {check.value} because: {check.reason}" if last and last not in check.reason else check.reason


def _sessions(sessions: Sequence[SessionView], is_cut_off: bool) -> list[Row]:
    """One line while all are well, and else one each."""
    up = [session for session in sessions if session.state == "established"]
    if sessions and len(up) == len(sessions):
        hold_times = ", ".join(sorted({f"{session.hold_time} s" for session in up}))
        text = f"{len(up)} of {len(up)} connected, hold time {hold_times}"
        if any(session.young for session in up):
            text += f"; they may ignore us for the first {FRESH_SESSION:g} s"
        if is_cut_off:
            text = f"{len(up)} of {len(up)} connected, and none acknowledges anything"
        return [("", f"up {age(min(session.for_ for session in up))}", BAD if is_cut_off else GOOD, text)]
    return [
        (session.peer, f"{'up' if session in up else session.state} {age(session.for_)}", style, text)
        for session in sessions
        for style, text in [(GOOD, "connected") if session in up else (BAD, session.reason)]
    ]


def _change(change: ChangeView) -> Row:
    to = f"{change.before} -> {change.value}" if change.before not in ("", change.value) else change.value
    is_said = change.what in ("role", "rank", "health", change.name)
    what = change.name if is_said else f"{change.what} {change.name}"
    return _local(change.time), "", "", f"{what} {to}: {change.reason}"


def _local(moment: str) -> str:
    """As the clock on the wall here shows it, like the journal."""
    from datetime import datetime  # noqa: PLC0415

    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%d %b %H:%M:%S")
    except (ValueError, OverflowError):
        return moment


# The other nodes


def _nodes(nodes: Sequence[NodeView], shown: Shown) -> list[Row]:
    others = [node for node in nodes if not node.own]
    rows = [_node(node, nodes) for node in others]
    wrong = [row for row, node in zip(rows, others, strict=True) if _is_special(node, nodes)]
    if len(rows) <= MOST_ROWS or shown.each:
        return rows
    well = len(rows) - len(wrong)
    return [*wrong, ("", "alive", GOOD, f"{well} of {len(rows)}; floatip nodes shows each")] if well else wrong


def _is_special(node: NodeView, nodes: Sequence[NodeView]) -> bool:
    return not is_known(node) or any(remarks(node, nodes)) or any(of_its_own(node))


def _node(node: NodeView, nodes: Sequence[NodeView]) -> Row:
    heard = "" if node.heard is None else f" {age(node.heard)}"
    style = GOOD if node.state == "alive" else BAD
    return node.name, state(node) + heard * (not is_known(node)), style, "; ".join(_news(node, nodes))


def _news(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    if is_known(node):
        yield from _carries(node)
        if node.healthy is False:
            yield f"{node.instances_healthy} of {node.instances} instances healthy"
        if node.sessions_up < node.sessions:
            yield f"{node.sessions_up} of {node.sessions} route servers connected"
    yield from remarks(node, nodes)
    yield from of_its_own(node)


def _carries(node: NodeView) -> Iterator[str]:
    if not node.carries:
        yield "carries nothing"
    for words in ("serves", *dict.fromkeys(SHORT[rank] for rank in reversed(RANKS[1 : STANDBY + 1]))):
        there = [one for one in node.carries if SHORT.get(one.rank, "serves") == words]
        leaving = sum(one.leaving for one in there)
        if len(there) > NAMED:
            yield f"{words} {len(there)} instances" + (f" ({leaving} leaving)" if leaving else "")
        elif there:
            yield f"{words} " + ", ".join(f"{one.instance}{' (leaving)' * one.leaving}" for one in there)


def of_its_own(node: NodeView) -> Iterator[str]:
    """The codes of the problems that it has told."""
    if codes := dict.fromkeys(problem.code for problem in node.problems if problem.severity != Severity.NOTE):
        yield f"problems: {', '.join(codes)}" + (f", {node.more_problems} not listed" if node.more_problems else "")


def is_known(node: NodeView) -> bool:
    """What it says of itself is of now."""
    return node.own or node.state == "alive"


def state(node: NodeView) -> str:
    return printable(node.state if is_known(node) else node.state.upper())


def remarks(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    """What is not as always, or not as it should be."""
    if not is_known(node) and not node.why:
        yield "not heard since this daemon started"
    elif node.why not in ("", node.state):
        yield node.why
    if node.stopping:
        yield "stopping"
    if node.drained or node.paused:
        yield _held_back(node)
    if node.drill:
        yield "a drill runs there" if not node.own else "a drill runs here"
    if node.state == "alive" and node.hears_us is None:
        yield "does not hear this node"
    if at_etcd := etcd_words.of_node(node):
        yield at_etcd
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
