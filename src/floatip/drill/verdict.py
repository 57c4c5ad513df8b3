"""What a drill showed, as findings: the steady state before, how the failover went, and what is as before. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from floatip.carrier import carriers
from floatip.core.problems import Code, Severity
from floatip.core.state import InstanceView, NodeView, Status
from floatip.drill.method import allowed_outage
from floatip.drill.report import Finding, Probes, Seen
from floatip.observing.summary import KINDS, PLURAL, RESET, ProbeResult, Summary, Window
from floatip.text import span

SOON = 2.0
"""Seconds within which another node takes over that is asked to, or that learns of the fault at once."""
OBSERVE = "run floatip observe --join on a third machine, and here: --observer THAT-MACHINE"


def instance_of(status: Status, name: str) -> InstanceView | None:
    return next((one for one in status.instances if one.name == name), None)


def ready_nodes(status: Status, name: str) -> list[NodeView]:
    """The others that could take it over now, as far as the link tells."""
    return [
        node
        for node in status.nodes
        if not node.own and node.state == "alive" and any(one.instance == name and one.ready for one in node.carries)
    ]


def hindrance(was: Status, now: Status | None, name: str) -> str:
    """What has come in the way since the objections were asked for, but for this drill; empty: nothing."""
    if now is None:
        return "the daemon does not answer any more"
    if others := [node.name for node in now.nodes if node.drill and not node.own]:
        return f"a drill runs on {', '.join(others)}"
    instance = instance_of(now, name)
    if instance is None or instance.role.value != "master":
        return f"this node does not carry {name} any more"
    if (ready := ready_nodes(was, name)) and not ready_nodes(now, name):
        return f"not ready any more: {', '.join(node.name for node in ready)}"
    return ""


def nobody_could(status: Status, name: str) -> str:
    """Whether no node carries it or could take it over now, as far as the link tells; empty: one does."""
    instance, others = instance_of(status, name), [node for node in status.nodes if not node.own]
    if instance is None or instance.role.value == "master" or not others or ready_nodes(status, name):
        return ""
    if any(_is_master(node, name) for node in others):
        return ""
    states = [f"{node.name} is {'not ready' if node.state == 'alive' else node.state}" for node in others]
    return f"no node could carry {name}: {', '.join(states)}"


def nobody_does(status: Status, name: str) -> str:
    """The same for carrying it. Without a link this node does not know: in a fault it hears no adverts."""
    instance, others = instance_of(status, name), [node for node in status.nodes if not node.own]
    if instance is None or instance.role.value == "master" or not others:
        return ""
    return "" if any(_is_master(node, name) for node in others) else f"no node carries {name}"


def _is_master(node: NodeView, name: str) -> bool:
    return node.state == "alive" and any(one.instance == name and one.master_since is not None for one in node.carries)


def before(status: Status, instance: InstanceView) -> Iterator[Finding]:
    """What is as it must be. What is not is named by the daemon's objections."""
    if instance.role.value == "master":
        yield Finding(True, f"this node carries {instance.name} for {span(instance.role.for_)}")
    if ready := ready_nodes(status, instance.name):
        sessions = ", ".join(f"{node.name} with {node.sessions_up} of {node.sessions} BGP sessions" for node in ready)
        yield Finding(True, f"ready to take over: {sessions}")
    up = [session for session in status.sessions if session.state == "established"]
    if up and not any(session.young for session in up):
        yield Finding(True, f"{len(up)} of {len(status.sessions)} BGP sessions of this node are up")
    checks = [check for check in status.checks if check.value == "up"]
    if checks and len(checks) == len(status.checks):
        yield Finding(True, f"checks are up: {', '.join(check.name for check in checks)}")
    if not any(problem.severity != Severity.NOTE for problem in status.problems):
        yield Finding(True, "no node names a problem")


def took_over(
    seen: Iterable[Seen], own: str, instance: InstanceView, fault: str, lasted: float, *, is_linked: bool
) -> Finding:
    """Times of `seen` are since the fault. `lasted`: for how long it did. `is_linked`: the nodes tell each other."""
    name = instance.name
    masters = [one for one in seen if one.what == "role" and one.name == name and one.value == "master" and one.at >= 0]
    others = sorted((one for one in masters if one.node != own), key=lambda one: one.at)
    if not others:
        hint = "see why: floatip explain, on the other nodes"
        return Finding(
            False, f"no other node took {name} over within {lasted:.1f} s, as far as this node learned", hint
        )
    waits = fault == "cut" or instance.election == "vrrp"  # at least the skew time
    first, limit = others[0], SOON + (instance.master_down_interval or 0.0) * waits
    if not is_linked:  # when this node learns of it says nothing
        return Finding(True, f"{first.node} is master of {name}, as {first.source} heard")
    how = f", as {first.source} heard" if first.source else ""
    text = f"{first.node} took {name} over after {first.at:.2f} s{how}"
    if first.at <= limit:
        return Finding(True, text)
    return Finding(
        False, f"{text}; it should take less than {limit:.1f} s", f"see why: floatip history on {first.node}"
    )


def one_after(seen: Iterable[Seen], status: Status, name: str) -> Finding:
    """Whether one node carries it now."""
    carrier = carriers(status).get(name)
    if carrier and carrier.is_known and carrier.node:
        node = next((one.name for one in status.nodes if one.own), status.host)
        return Finding(True, f"one node carries {name} now: {node if carrier.node == 'this node' else carrier.node}")
    why = carrier.why if carrier else f"{name} is gone"
    return Finding(False, f"it is not known that one node carries {name}: {why}", "floatip nodes, on each node")


def probed(probes: Probes, instance: InstanceView, fault: str) -> Iterator[Finding]:
    """Times of `probes` are since the fault."""
    summary = Summary(probes.results)
    who = f"{probes.observer}, {probes.address}"
    if not any(probe.ok for probe in probes.results):
        yield Finding(False, f"{who}: no probe was answered", "see that the service answers: floatip observe ADDRESS")
        return
    allowed = allowed_outage(instance, fault)
    for kind in KINDS:
        if summary.sent(kind):
            yield _of_kind(summary, kind, who, allowed, probes.interval)
    moves = [move for move in summary.moves() if move.at >= 0]
    answered = _answers([probe for probe in probes.results if probe.at >= 0])
    if moves:
        yield Finding(
            True,
            f"{who}: answers moved from {moves[0].source} to {moves[0].destination}"
            f" after {max(moves[0].at, 0.0):.2f} s; answered: {answered}",
        )
    elif summary.answered_alike or not answered:
        text = f"{who}: answers do not name their node, so the move was not seen"
        yield Finding(True, text, "let the service send its node's name in the header X-Node")
    else:
        yield Finding(False, f"{who}: the answers did not move: {answered}", "floatip nodes, on each node")


def _of_kind(summary: Summary, kind: str, who: str, allowed: float, interval: float) -> Finding:
    kinds = next(one for one in KINDS if one == kind)
    windows = summary.windows(kinds)
    lost = [window for window in windows if not _is_reset(summary.probes, kind, window)]
    outage = sum(window.ms for window in lost) / 1000
    ends = all(window.next_good_at is not None for window in lost)
    reset = len(windows) - len(lost)
    text = f"{who}: {summary.lost(kinds)} of {summary.sent(kinds)} {PLURAL[kinds]} lost"
    if lost:
        text += f", {outage:.2f} s without an answer" + (f" in {len(lost)} outages" if len(lost) > 1 else "")
        text += f"; the documentation allows {allowed:.2f} s" + ("" if ends else "; nothing was answered after that")
    text += f"; {reset} {'was' if reset == 1 else 'were'} reset by the move" if reset else ""
    holds = ends and outage <= allowed + 2 * interval if allowed else not lost
    return Finding(
        holds, text, "" if holds else "see where it was lost: the report's picture; floatip history on each node"
    )


def _is_reset(probes: Sequence[ProbeResult], kind: str, window: Window) -> bool:
    """An open connection that the move tears is reset. That is not a loss of the address."""
    lost = [one for one in probes if one.kind == kind and window.first_lost_at <= one.at <= window.last_lost_at]
    return all(one.error == RESET for one in lost)


def _answers(probes: Sequence[ProbeResult]) -> str:
    return ", ".join(f"{who} {count}" for who, count in Summary(tuple(probes)).answers().items())


def restored(was: Status, now: Status | None, name: str) -> list[Finding]:
    """Whether all is as before, but for who carries it."""
    if now is None:
        return [Finding(False, "no daemon answers on this node", "systemctl start floatip; journalctl -u floatip")]
    instance = instance_of(now, name)
    if instance is None:
        return [Finding(False, f"there is no instance {name} any more", "floatip check")]
    return [
        Finding(True, f"the daemon runs (pid {now.pid})"),
        _no_drill(now),
        *_checks(was, now),
        _sessions(was, now),
        _addresses(was, instance),
        _takes_part(now, instance),
        _others(was, now),
        _problems(was, now),
    ]


def _no_drill(now: Status) -> Finding:
    if now.drill:
        return Finding(False, f"the daemon still knows a drill: {now.drill.by}", "floatip status")
    return Finding(True, "the daemon knows of no drill")


def _checks(was: Status, now: Status) -> Iterator[Finding]:
    values = {check.name: check for check in now.checks}
    worse = [
        one.name
        for one in was.checks
        if one.value == "up" and (one.name not in values or values[one.name].value != "up")
    ]
    if worse:
        why = "; ".join(f"{each}: {values[each].reason}" for each in worse if each in values)
        yield Finding(False, f"not up as before: check {', '.join(worse)}: {why}", "floatip status")
    elif was.checks:
        yield Finding(
            True, f"all {len(was.checks)} checks are up" if len(was.checks) > 1 else f"check {was.checks[0].name} is up"
        )


def _up(status: Status) -> int:
    return sum(session.state == "established" for session in status.sessions)


def _sessions(was: Status, now: Status) -> Finding:
    young = sum(session.young for session in now.sessions)
    text = f"{_up(now)} of {len(now.sessions)} BGP sessions are up"
    if young:
        text += f", {young} of them for less than 30 s: route servers may ignore this node until then"
    if _up(now) < _up(was):
        return Finding(False, f"{text}; {_up(was)} were before", "see why: floatip status")
    return Finding(True, text if now.sessions else "there are no BGP sessions, as before")


def _addresses(was: Status, instance: InstanceView) -> Finding:
    before_it = instance_of(was, instance.name)
    needs = instance.role.value == "master" or instance.route_servers > 0
    if instance.role.value != "master" and not instance.route_servers:
        held = [one.address for one in instance.addresses if one.held]
        if held:
            hint = "two nodes may answer: see what holds it: floatip status"
            return Finding(False, f"this node is not master, and holds {', '.join(held)}", hint)
    missing = [one.address for one in instance.addresses if needs and not one.held]
    if missing and before_it and any(one.held for one in before_it.addresses):
        hint = f"see where it is: ip address show to {missing[0].partition('/')[0]}"
        return Finding(False, f"this node does not hold {', '.join(missing)}", hint)
    if not any(one.held for one in instance.addresses):
        return Finding(True, "this node is not master, and holds no address of it")
    return Finding(True, f"this node holds {', '.join(one.address for one in instance.addresses)}")


def _takes_part(now: Status, instance: InstanceView) -> Finding:
    role = instance.role.value
    own = next((node for node in now.nodes if node.own), None)
    carried = next((one for one in own.carries if one.instance == instance.name), None) if own else None
    if role == "master" or (role == "backup" and (own is None or (carried and carried.ready))):
        return Finding(True, f"this node is {role} of {instance.name}" + (", and ready" if role == "backup" else ""))
    damped = [one.what for one in now.problems if (one.code, one.subject) == (Code.DAMPED, instance.name)]
    why = damped[0] if damped else instance.role.reason
    return Finding(
        False,
        f"this node is {role} of {instance.name}, and could not take over: {why}",
        "floatip explain",
    )


def _others(was: Status, now: Status) -> Finding:
    there = {node.name for node in now.nodes if not node.own and node.state == "alive" and node.hears_us is not None}
    gone = [node.name for node in was.nodes if not node.own and node.state == "alive" and node.name not in there]
    if gone:
        return Finding(False, f"not heard, or deaf, since the drill: {', '.join(gone)}", "floatip nodes")
    return Finding(
        True, f"{', '.join(sorted(there))} and this node hear each other" if there else "no other node is configured"
    )


def _problems(was: Status, now: Status) -> Finding:
    known = {(problem.code, problem.subject) for problem in was.problems}
    new = [one for one in now.problems if one.severity != Severity.NOTE and (one.code, one.subject) not in known]
    if damped := [one for one in new if one.code == Code.DAMPED]:  # it lasts for minutes, and is no fault of the drill
        new.remove(damped[0])
    if damped and not new:
        return Finding(True, f"after three drills within five minutes, {damped[0].what}")
    if new:
        return Finding(False, f"since the drill: {new[0].what}", new[0].hint)
    return Finding(True, "this node names no problem that it did not have before")
