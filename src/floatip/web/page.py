"""The page: all nodes side by side, as one node knows them, with what is wrong on top. A whole HTML document.

It says everything without a script. `static/page.js` fetches it again when something changes, and makes the page that
is open equal to it. Elements that must stay the same ones (open details, the focus) have an id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from floatip import connection_words, etcd_words
from floatip.core.problems import Severity
from floatip.core.state import (
    CarriedView,
    ChangeView,
    CheckBrief,
    CheckView,
    EtcdView,
    InstanceView,
    NodeView,
    SecondChanceView,
    SessionView,
    Status,
)
from floatip.text import age, span
from floatip.web import timeline
from floatip.web.markup import few, text

UNFOLDED = 24
"""Instances: more than these are folded, except those that need a look."""
LATEST = 20
"""Changes that are listed."""
UNLISTED = {"rank", "address"}
"""They follow from others."""
NAMED = 6
"""Instances that a node's card names."""
CARRYING = {"active", "takeover", "takeover-again"}
"""Ranks; `core/bgp/rank.py` has them, and brings along what this process does not need."""
RANKS = {
    "none": "announces nothing",
    "last-resort": "last resort",
    "standby": "standby",
    "active": "carries",
    "takeover": "took over",
    "takeover-again": "took over again",
}
SIGNS = {"none": "·", "last-resort": "◌", "standby": "○"}
CARRIES = "●"
BADGES = {Severity.PROBLEM: ("bad", "✗"), Severity.WARNING: ("warn", "!"), Severity.NOTE: ("note", "i")}
STATES = {"alive": "ok", "this node": "ok", "silent": "bad", "unheard": "bad", "refused": "bad"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem, and which nodes have it."""

    severity: str
    code: str
    subject: str
    what: str
    hint: str
    nodes: tuple[str, ...]


def render(status: Status, changes: Sequence[ChangeView], now: datetime, *, can_order: bool = False) -> str:
    """`changes`: of the last day, oldest first. `now`: of the wall clock, with its zone.

    `can_order`: there is a token, and with it this node may be drained, paused and told to hand over.
    """
    nodes = status.nodes or (_alone(status),)
    own = next((node for node in nodes if node.own), nodes[0])
    troubles = _troubles(status, own, nodes)
    carriers = _carriers(status.instances, nodes)
    kind, verdict = _verdict(troubles)
    place = f", {text(status.network.place)}" if status.network and status.network.place else ""
    host = text(own.name)
    machine = f" on {text(status.host)}" if status.host not in ("", own.name) else ""
    sections = (
        _problems(troubles),
        _instances(status, nodes, carriers, troubles, now),
        _nodes(status, nodes),
        _connections(status),
        _etcd(status.etcd),
        _day(status, changes, carriers, own, now),
        _sessions(status.sessions),
        _changes(changes),
        _orders(own, nodes, status.second_chance) if can_order else "",
    )
    return f"""<!DOCTYPE html>
<html lang="en" data-version="{text(status.version)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(SIGN_OF[kind])} {host}: {text(verdict)}</title>
<link rel="stylesheet" href="/static/page.css">
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<script src="/static/page.js" defer></script>
</head>
<body>
<a class="skip" href="#main">Skip to the problems</a>
<header id="top" class="{kind}">
<h1>{host}</h1>
<p id="verdict" class="badge {kind}"><span aria-hidden="true">{SIGN_OF[kind]}</span> {text(verdict)}</p>
<p id="about">floatip {text(status.version)}{machine}, up {age(status.uptime)}{place}{_stopping(status)}</p>
</header>
<section id="state" aria-label="Whether this page is live">
<p id="live" class="still" data-at="{now:%H:%M:%S} UTC">Still picture of {now:%Y-%m-%d %H:%M:%S} UTC. \
<a href="/">Load it again</a></p>
<p id="said" class="unseen" role="status"></p>
</section>
<main id="main" tabindex="-1">
{"".join(sections)}
</main>
<footer><p>Times are UTC. What is said of other nodes, they say over the link to {host}.</p></footer>
</body>
</html>
"""


SIGN_OF = {"ok": "✓", "warn": "!", "bad": "✗"}


def gone(host: str, why: str) -> str:
    """The page while the daemon does not answer."""
    name = text(host)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>✗ {name}: floatip does not answer</title>
<link rel="stylesheet" href="/static/page.css">
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
</head>
<body>
<header id="top" class="bad"><h1>{name}</h1>
<p id="verdict" class="badge bad"><span aria-hidden="true">✗</span> floatip does not answer</p></header>
<main id="main"><p>{text(why)}</p><p class="hint">Run on {name}: <code>floatip status</code></p></main>
</body>
</html>
"""


# What is known, put in order


def _alone(status: Status) -> NodeView:
    """This node, where no others are configured."""
    up = sum(session.state == "established" for session in status.sessions)
    healthy = sum(instance.health.value == "up" for instance in status.instances)
    return NodeView(
        name=status.host or "this node",
        address="",
        own=True,
        state="this node",
        version=status.version,
        healthy=healthy == len(status.instances),
        instances_healthy=healthy,
        instances=len(status.instances),
        sessions_up=up,
        sessions=len(status.sessions),
        carries=tuple(CarriedView(one.name, one.rank.value) for one in status.instances if one.rank.value != "none"),
        stopping=bool(status.stopping),
    )


def _is_known(node: NodeView) -> bool:
    """What it says of itself is of now."""
    return node.own or node.state == "alive"


def _carriers(instances: Sequence[InstanceView], nodes: Sequence[NodeView]) -> dict[str, list[str]]:
    """Who carries each now, of the nodes that are heard."""
    carriers: dict[str, list[str]] = {instance.name: [] for instance in instances}
    for node in nodes:
        if _is_known(node):
            for one in node.carries:
                if one.rank in CARRYING and one.instance in carriers:
                    carriers[one.instance].append(node.name)
    return carriers


def _troubles(status: Status, own: NodeView, nodes: Sequence[NodeView]) -> list[Trouble]:
    """Of all nodes, worst first; what several nodes say is said once."""
    said: dict[tuple[str, str, str, str, str], list[str]] = {}
    for problem in status.problems:
        said.setdefault((problem.severity, problem.code, problem.subject, problem.what, problem.hint), []).append(
            own.name
        )
    for node in nodes:
        if not node.own and _is_known(node):
            for brief in node.problems:
                said.setdefault((brief.severity, brief.code, brief.subject, brief.what, brief.hint), []).append(
                    node.name
                )
    worst_first = list(Severity)
    troubles = [Trouble(*problem, tuple(dict.fromkeys(names))) for problem, names in said.items()]
    return sorted(troubles, key=lambda one: worst_first.index(_severity(one.severity)))


def _severity(word: str) -> Severity:
    """Another version may have more of them."""
    return Severity(word) if word in list(Severity) else Severity.PROBLEM


def _verdict(troubles: list[Trouble]) -> tuple[str, str]:
    count = {severity: sum(_severity(one.severity) is severity for one in troubles) for severity in Severity}
    problems, warnings = count[Severity.PROBLEM], count[Severity.WARNING]
    also = f", {warnings} warning{'s' * (warnings != 1)}" if warnings else ""
    if problems:
        return "bad", f"{problems} problem{'s' * (problems != 1)}{also}"
    return ("warn" if warnings else "ok"), f"OK{also}"


def _stopping(status: Status) -> str:
    return f", <strong>stopping: {text(status.stopping)}</strong>" if status.stopping else ""


# The parts


def _section(name: str, heading: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{heading}</h2>\n{body}</section>\n'


def _problems(troubles: list[Trouble]) -> str:
    if not troubles:
        return _section("problems", "Problems", '<p class="none">None on any node that is heard.</p>')
    items = "".join(f"<li>{_problem(one.severity, one.code, one.what, one.hint, one.nodes)}</li>" for one in troubles)
    return _section("problems", "Problems", f'<ul class="problems">{items}</ul>')


def _problem(severity: str, code: str, what: str, hint: str, nodes: Sequence[str] = ()) -> str:
    kind, sign = BADGES[_severity(severity)]
    where = f'<span class="where">{text(", ".join(nodes))}</span> ' if nodes else ""
    advice = f'<p class="hint">{text(hint)}</p>' if hint else ""
    return (
        f'<p><span class="badge {kind}"><span aria-hidden="true">{sign}</span> {text(severity)}</span> {where}'
        f"{text(what)} <code>{text(code)}</code></p>{advice}"
    )


def _nodes(status: Status, nodes: Sequence[NodeView]) -> str:
    cards = "".join(_card(status, node, number, nodes) for number, node in enumerate(nodes))
    return _section("nodes", "Nodes", f'<div class="cards">{cards}</div>')


def _card(status: Status, node: NodeView, number: int, nodes: Sequence[NodeView]) -> str:
    known = _is_known(node)
    kind = STATES.get(node.state, "bad")
    remarks = "".join(f'<p class="remark">{text(remark)}</p>' for remark in _remarks(node, nodes))
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(node))
    checks: Sequence[CheckView | CheckBrief] = status.checks if node.own else node.checks
    problems = () if node.own or not known else node.problems
    listed = "".join(f"<li>{_problem(one.severity, one.code, one.what, one.hint)}</li>" for one in problems)
    listed += f"<li>and {node.more_problems} more: floatip status there</li>" if problems and node.more_problems else ""
    return (
        f'<article id="n{number}" class="card{"" if known else " stale"}" aria-labelledby="n{number}-h">'
        f'<h3 id="n{number}-h">{text(node.name)} <span class="badge {kind}">{text(node.state)}</span></h3>'
        f"{remarks}<dl>{facts}</dl>{_checks(checks, 0 if node.own else node.more_checks, known)}"
        + (f'<ul class="problems">{listed}</ul>' if listed else "")
        + "</article>"
    )


def _facts(node: NodeView) -> Iterator[tuple[str, str]]:
    """Names and values, in HTML."""
    if node.address:
        yield "Address", text(node.address)
    if not node.own:
        yield "Heard", "never" if node.heard is None else f"{age(node.heard)} ago"
    if _is_known(node):
        if not node.own:
            yield "Hears this node", "<strong>no</strong>" if node.hears_us is None else "yes"
        yield "Instances healthy", _of(node.instances_healthy, node.instances)
        if node.sessions:
            yield "Route servers", _of(node.sessions_up, node.sessions)
    carried = [one.instance + " (leaving)" * one.leaving for one in node.carries if one.rank in CARRYING]
    what = f"{len(carried)}: " if len(carried) > NAMED else ""
    yield "Carries" if _is_known(node) else "Carried", text(what + few(carried, NAMED)) or "nothing"
    if node.version:
        yield "Version", text(node.version)


def _of(count: int, of: int) -> str:
    return f"{count} of {of}" if count == of else f"<strong>{count} of {of}</strong>"


def _remarks(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    """What is not as always."""
    if not _is_known(node) and node.why != node.state:
        yield node.why or "not heard since this daemon started"
    if node.stopping:
        yield "stopping"
    for word, true, end in (("drained", node.drained, "undrain"), ("paused", node.paused, "resume")):
        if true:
            until = f"until floatip {end}" if node.until is None else f"for {span(max(node.until, 0))} more"
            yield f"{word} {until}" + (f": {node.reason}" if node.reason else "")
    if at_etcd := etcd_words.of_node(node):
        yield at_etcd
    if node.same_configuration is False:
        yield "has another configuration than this node"
    ours = next((one.version for one in nodes if one.own), node.version)
    if node.version and ours != node.version:
        yield f"has another version than this node, {ours}"


def _checks(checks: Sequence[CheckView | CheckBrief], more: int, known: bool) -> str:
    if not checks or not known:
        return ""
    items = "".join(
        f'<li><span class="badge {_check_kind(one.value)}">{text(one.value)}</span> <b>{text(one.name)}</b> '
        f'<span class="output">{text(one.last_result)}</span></li>'
        for one in sorted(checks, key=lambda one: one.value == "up")
    )
    items += f"<li>and {more} more</li>" if more else ""
    return f'<h4>Checks</h4><ul class="checks">{items}</ul>'


def _check_kind(value: str) -> str:
    return {"up": "ok", "down": "bad"}.get(value, "note")


# Instances


def _instances(
    status: Status,
    nodes: Sequence[NodeView],
    carriers: dict[str, list[str]],
    troubles: Sequence[Trouble],
    now: datetime,
) -> str:
    own = next((node.name for node in nodes if node.own), "")
    subjects = {one.subject for one in troubles if _severity(one.severity) is not Severity.NOTE}
    ranks = [{one.instance: one for one in node.carries} for node in nodes]
    rows: dict[str, list[str]] = {}
    for number, instance in enumerate(status.instances):
        carried_by = carriers[instance.name]
        is_well = instance.health.value == "up" and instance.role.value != "fault"
        is_well = is_well and (len(carried_by) == 1 or not status.nodes)
        serves = "this node" if carried_by == [own] else " and ".join(carried_by)
        owner = etcd_words.owner(instance, status, serves, now=now)
        is_well = is_well and not (instance.etcd and etcd_words.is_other(instance.etcd, serves))
        needs_a_look = not is_well or instance.name in subjects
        look = "look" if needs_a_look else "well"
        group = "" if needs_a_look or len(status.instances) <= UNFOLDED else "".join(carried_by) or "another node"
        cells = "".join(_cell(node, of.get(instance.name), instance) for node, of in zip(nodes, ranks, strict=True))
        row = (
            f'<tr id="i{number}" class="{look}" data-name="{text(instance.name.lower())}">'
            f'<th scope="row">{text(instance.name)}</th>{cells}'
            f'<td class="why">{_why(instance, number, owner)}</td></tr>'
        )
        rows.setdefault(group, []).append(row)
    heads = "".join(f'<th scope="col">{text(node.name)}</th>' for node in nodes)
    tables = []
    for number, group in enumerate(sorted(rows)):
        caption = "What each node is to each instance" + (f", carried by {text(group)}" if group else "")
        table = (
            f'<div class="wide" role="group" aria-label="{caption}" tabindex="0"><table>'
            f'<caption class="unseen">{caption}</caption><thead><tr><th scope="col">Instance</th>{heads}'
            f'<th scope="col">Why on {text(own)}</th></tr></thead><tbody>{"".join(rows[group])}</tbody></table></div>'
        )
        if group:
            count = len(rows[group])
            summary = f"{count} instance{'s' * (count != 1)} on {text(group)}, nothing to look at"
            table = f'<details id="g{number}" class="group"><summary>{summary}</summary>{table}</details>'
        tables.append(table)
    find = (
        '<p class="find script" data-kept><label for="find">Find an instance</label> '
        '<input id="find" type="search" autocomplete="off"> <span id="found" role="status"></span></p>'
        if len(status.instances) > UNFOLDED
        else ""
    )
    return _section("instances", "Instances", find + "".join(tables) if rows else '<p class="none">None.</p>')


def _cell(node: NodeView, carried: CarriedView | None, instance: InstanceView) -> str:
    rank = carried.rank if carried else "none"
    kind = "carries" if rank in CARRYING else text(rank)
    words = RANKS.get(rank, rank) + (", hands over" if carried and carried.leaving else "")
    if node.own and instance.role.value == "fault":
        kind, words = "fault", f"fault, {words}"
    if not _is_known(node):
        kind, words = "stale", f"was: {words}" if carried else "not known"
    sign = SIGNS.get(rank, CARRIES if rank in CARRYING else "")
    return f'<td class="rank {kind}"><span aria-hidden="true">{sign}</span> {text(words)}</td>'


def _why(instance: InstanceView, number: int, owner: str) -> str:
    role, rank, health = instance.role, instance.rank, instance.health
    facts = [
        ("Role", f"{text(role.value.upper())} for {age(role.for_)}: {text(role.reason)}"),
        ("Rank", f"{text(rank.value)} for {age(rank.for_)}: {text(rank.reason)}"),
        ("Health", f"{text(health.value)} for {age(health.for_)}: {text(health.reason)}"),
    ]
    if owner:
        facts.append(("Owner", text(owner)))
    for address in instance.addresses:
        told = f", announced to {_of(address.announced_to, instance.route_servers)}" if instance.route_servers else ""
        held = "held" if address.held else "not held"
        facts.append(("Address", f"{text(address.address)} on {text(address.interface)}, {held}{told}"))
    if instance.master and role.value != "master":
        facts.append(("Master", text(instance.master)))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<details id="w{number}"><summary>{text(role.value.upper())} {age(role.for_)}: {text(role.reason)}</summary>'
        f"<dl>{listed}</dl></details>"
    )


def _day(
    status: Status, changes: Sequence[ChangeView], carriers: dict[str, list[str]], own: NodeView, now: datetime
) -> str:
    legend = "".join(
        f'<li><svg class="{kind}" width="28" height="14" aria-hidden="true"><rect width="28" height="14"/></svg> '
        f"{words}</li>"
        for kind, words in (
            ("here", f"{text(own.name)} carried it"),
            ("there", "backup: another node may have"),
            ("fault", "fault"),
            ("unknown", "not known"),
        )
    )
    now_by = {name: " and ".join(names) for name, names in carriers.items()}
    drawing = timeline.draw(status.instances, changes, now_by, own.name, now)
    return _section("day", "The last 24 hours", f'{drawing}<ul class="legend">{legend}</ul>')


# etcd


def _etcd(etcd: EtcdView | None) -> str:
    if etcd is None:
        return ""
    state, kind = ("answers", "ok") if etcd.answers else ("does not answer", "bad")
    rows = "".join(
        f'<tr><th scope="row">{text(one.url)}</th><td><span class="badge {_ENDPOINTS[one.answers][1]}">'
        f"{_ENDPOINTS[one.answers][0]}</span></td><td>{age(one.for_)}</td><td>{text(etcd_words.said(one))}</td></tr>"
        for one in etcd.endpoints
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Endpoint", "State", "For", "What it said last"))
    table = (
        f'<div class="wide" role="group" aria-label="Endpoints of etcd" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _etcd_facts(etcd))
    is_whole = etcd.answers and all(one.answers is not False for one in etcd.endpoints)
    hint = f'<p class="hint">{text(etcd.hint)}</p>' if etcd.hint and not etcd.answers else ""
    return _section(
        "etcd",
        "etcd decides who may have what",
        f'<p><span class="badge {kind}">{state}</span> for {age(etcd.for_)}: {text(etcd_words.summary(etcd))}</p>{hint}'
        f'<details id="et"{"" if is_whole else " open"}><summary>What this node knows of it</summary>'
        f"<dl>{facts}</dl>{table if rows else ''}</details>",
    )


_ENDPOINTS = {True: ("answers", "ok"), False: ("silent", "bad"), None: ("not asked", "note")}


def _etcd_facts(etcd: EtcdView) -> Iterator[tuple[str, str]]:
    """Names and values, in HTML."""
    if etcd.prefix:
        yield "Prefix of the keys", f"<code>{text(etcd.prefix)}</code>"
    yield "Revision seen", str(etcd.revision)
    if etcd.exclusive_left is not None:
        yield "Exclusive instances may stay", f"{max(etcd.exclusive_left, 0):.1f} s without another answer"
    yield "Questions", f"{etcd.answered} answered, {etcd.unknown} without an answer"
    yield "Claims", f"{etcd.claims_won} won, {etcd.claims_lost} lost, {etcd.claims_unknown} not known"
    rows = [f"<code>{text(one.key)}</code>: {text(one.why)}" for one in etcd.rows]
    if rows:
        more = f"<br>and {etcd.more_rows} more" if etcd.more_rows else ""
        yield "Rows that floatip cannot use", "<br>".join(rows) + more


# Route servers, changes


def _sessions(sessions: Sequence[SessionView]) -> str:
    if not sessions:
        return ""
    up = sum(session.state == "established" for session in sessions)
    rows = "".join(
        f'<tr><th scope="row">{text(one.peer)}</th>'
        f'<td><span class="badge {"ok" if one.state == "established" else "bad"}">{text(one.state)}</span></td>'
        f"<td>{age(one.for_)}</td><td>{one.announced}</td>"
        f"<td>{text(one.reason)}{_lost(one)}</td></tr>"
        for one in sorted(sessions, key=lambda one: one.state == "established")
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Route server", "State", "For", "Announced", "Why"))
    return _section(
        "sessions",
        f"Route servers: {up} of {len(sessions)} connected",
        f'<details id="rs"{"" if up == len(sessions) else " open"}><summary>Each of them</summary>'
        '<div class="wide" role="group" aria-label="Route servers" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>",
    )


def _lost(session: SessionView) -> str:
    lost = f". Lost before: {text(session.lost_because)}" if session.lost_because else ""
    return lost + (f'<p class="hint">{text(session.hint)}</p>' if session.hint else "")


def _move(change: ChangeView) -> str:
    before = f"{text(change.before)} → " if change.before not in ("", change.value) else ""
    return f"{before}<b>{text(change.value)}</b>"


def _changes(changes: Sequence[ChangeView]) -> str:
    if not changes:
        return _section("changes", "Changes", '<p class="none">None in the last day.</p>')
    listed = [change for change in changes if change.what not in UNLISTED]
    groups = _alike(listed)
    rows = "".join(
        f'<tr><td><time datetime="{text(group[0].time)}">{_time(group[0].time)}</time></td>'
        f"<td>{text(_what(group))}</td>"
        f"<td>{_move(group[0])}</td>"
        f"<td>{text(group[0].reason)}</td></tr>"
        for group in groups[:LATEST]
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Time", "What", "Change", "Why"))
    shown = sum(map(len, groups[:LATEST]))
    more = f'<p class="more">The latest {shown} of {len(listed)}. All: <code>floatip history</code></p>'
    return _section(
        "changes",
        "Changes",
        '<div class="wide" role="group" aria-label="Changes" tabindex="0"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{more if shown < len(listed) else ''}",
    )


def _what(group: Sequence[ChangeView]) -> str:
    names = few([one.name for one in group], timeline.NAMED)
    return names if names == group[0].what else f"{group[0].what} {names}"


def _alike(changes: Sequence[ChangeView]) -> list[list[ChangeView]]:
    """The latest first. A failover of many instances is one line: the same change, for the same reason, at a time."""
    groups: dict[object, list[ChangeView]] = {}
    for one in reversed(changes):
        groups.setdefault((one.time[:19], one.what, one.before, one.value, one.reason), []).append(one)
        if len(groups) > LATEST:
            break
    return list(groups.values())


def _time(time: str) -> str:
    at = timeline.moment(time)
    return f"{at:%d %b %H:%M:%S}" if at else text(time)


# Open connections


def _connections(status: Status) -> str:
    items = "".join(f"<li>{text(one.text)}</li>" for one in connection_words.sentences(status))
    return _section("connections", "Open connections", f'<ul class="connections">{items}</ul>') if items else ""


# Orders


def _orders(own: NodeView, nodes: Sequence[NodeView], chance: SecondChanceView | None) -> str:
    """Without the script there is no token to send, and nothing to press."""
    carried = [one.instance for one in own.carries if one.rank in CARRYING]
    others = [one.name for one in nodes if not one.own]
    name, all_of_it = text(own.name), text(few(carried, NAMED) or "nothing")
    resets = "Open connections to its addresses are reset."
    if chance and any(one.works for one in chance.nodes):
        resets = f"Open connections to its addresses go on here, for at most {chance.limit:g} s."
    buttons = (
        _button("undrain", f"Undrain {name}", f"{name} may carry instances again. Most stay where they are now.")
        if own.drained
        else _button(
            "drain",
            f"Drain {name}",
            f"{name} hands over {all_of_it}, and carries nothing until you undrain it, also after a reboot. {resets}",
        )
    ) + (
        _button("resume", "Resume", "A node takes over again when another one is gone or unhealthy.")
        if own.paused
        else _button(
            "pause", "Pause", "No node that hears this one takes over until you resume, even if a node is gone."
        )
    )
    handover = (
        '<fieldset><legend>Hand over</legend><p><label for="of">Instance</label> <select id="of">'
        f'<option value="">all that {name} carries</option>{_options(carried)}</select></p>'
        '<p><label for="to">To</label> <select id="to"><option value="">the best node that is ready</option>'
        f"{_options(others)}</select></p>"
        f"{_button('handover', 'Hand over', f'Another node takes over from {name}. {resets}')}</fieldset>"
        if carried
        else ""
    )
    return _section(
        "orders",
        f"Orders to {name}",
        '<p class="no-script">Orders on this page need JavaScript. In a shell: <code>floatip drain</code></p>'
        '<form id="unlock" class="script" data-kept><p><label for="token">Token</label> <input id="token" '
        'type="password" autocomplete="off" spellcheck="false"> <button>Show the orders</button></p></form>'
        f'<div id="verbs" hidden><p>{buttons}</p>{handover}</div>'
        '<dialog id="ask" aria-labelledby="ask-h" data-kept><h3 id="ask-h"></h3><p id="ask-what"></p>'
        '<p id="ask-now" role="status"></p><div id="ask-timed">'
        '<p><label for="reason">Reason, shown on all nodes</label> '
        '<input id="reason" maxlength="160" autocomplete="off"></p><p><label for="for">For</label> <select id="for">'
        '<option value="">as long as nobody ends it</option><option value="30m">30 minutes</option>'
        '<option value="2h">2 hours</option><option value="12h">12 hours</option></select></p></div>'
        '<p><button type="button" id="yes">Do it</button> <button type="button" id="no">Cancel</button></p></dialog>'
        '<p id="answer" role="status" data-kept></p>',
    )


def _button(verb: str, words: str, what: str) -> str:
    """`words` and `what`: HTML. What will happen is said before it is done."""
    return f'<button type="button" id="b-{verb}" data-verb="{verb}" data-what="{what}">{words}</button> '


def _options(names: Sequence[str]) -> str:
    return "".join(f'<option value="{text(name)}">{text(name)}</option>' for name in names)
