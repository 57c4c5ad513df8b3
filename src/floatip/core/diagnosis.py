"""What a person should look at: the problems of a node, worst first, each made from the state as it is now."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from floatip.core import settings
from floatip.core.arbiter_problems import is_fenced, of_arbiter, of_ownership, waits
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.session import Session
from floatip.core.decision import DAMPED
from floatip.core.election.elector import Role, Surroundings, keepalived
from floatip.core.election.router import Router
from floatip.core.fleet_problems import of_election, of_fleet
from floatip.core.health import Health
from floatip.core.instance import Instance
from floatip.core.problems import KEEPS_CRASHING, UNSTEADY, Code, Problem, Severity
from floatip.core.second_chance_problems import of_second_chance

if TYPE_CHECKING:  # it tells the other nodes what is found here
    from floatip.core.node import Node

UNACKNOWLEDGED = 5.0
"""Seconds, and KEEPALIVEs, without an acknowledgement after which a route server is a warning."""
MATTERS = 300.0
"""Seconds for which a packet that could not be used is a problem."""
DROPPED = (
    (
        "name other addresses",
        "make the addresses the same on both nodes: a keepalived ignores adverts that name others, and is MASTER too",
    ),
    ("its clock and ours", "while they are dropped both nodes may be MASTER: compare the clocks, on both: timedatectl"),
    ("sent before", "somebody repeats old adverts, or the clock of that node was put back: timedatectl"),
    ("sign", "while they are dropped both nodes may be MASTER: compare mode and keys of auth_hmac on both"),
    ("another password", "while they are dropped both nodes may be MASTER: compare auth_pass on both"),
    ("version", "while they are dropped both nodes may be MASTER: give both the same version of VRRP"),
    ("advert interval", "while they are dropped both nodes may be MASTER: give both the same advert interval"),
    ("TTL", "they crossed a router, or are forged: see who sends them"),
)
"""What to do about adverts that were not used, by words of the reason."""
PASSED_OVER = {Code.ETCD_ROW, Code.FLEET_OLDER}
"""Failures with which all that this node has goes on."""
_ORDER = {severity: place for place, severity in enumerate(Severity)}


def diagnose(node: "Node", now: float, known: Iterable[Problem] | None = None) -> list[Problem]:
    """Worst first. None of `Severity.PROBLEM`: this node is a master that serves, or a standby that could.

    `known`: what `of_instances` found a moment ago; None: look now.
    """
    found = of_instances(node, node.instances.values(), now) if known is None else () if node.stopping else known
    return worst_first([*of_node(node, now), *found, *of_packets(node, now)])


def worst_first(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: _ORDER[problem.severity])


def of_node(node: "Node", now: float) -> Iterator[Problem]:
    """What is no instance's own problem."""
    yield from _of_stop(node, now)
    if node.stopping:  # sessions that close and addresses that go are no problems of their own
        yield from _of_host(node)
        return
    yield from _of_drill(node, now)
    yield from _of_network(node, now)
    yield from _of_host(node)
    yield from _of_links(node, now)
    if node.fleet:
        registers = node.config.arbiter is not None and node.config.arbiter.registers
        yield from of_fleet(node.fleet, node.clock_ahead, now, registers=registers)
        if node.moves:
            yield from of_second_chance(node.moves, node.fleet, node.started_at, now)
    if node.arbiter:
        yield from of_arbiter(node, node.arbiter, now)


def of_instances(node: "Node", instances: Iterable[Instance], now: float) -> Iterator[Problem]:
    if node.stopping:
        return
    spoken_of = {keepalived(kind, name) for kind, name in node.keepalived_said}
    others = tuple(n for kind, n in node.keepalived_said if kind == "INSTANCE" and not node.is_followed(kind, n))
    refusing = _refusing(node.sessions.values())
    around: dict[tuple[str, bool], Surroundings] = {}
    for instance in instances:
        fault = node.link_fault(instance)
        is_spoken_of = bool(spoken_of) and not spoken_of.isdisjoint(instance.elector.hears)
        key = fault, is_spoken_of
        if key not in around:
            around[key] = Surroundings(fault, others, is_spoken_of)
        yield from _of_instance(node, instance, around[key], refusing, now)
        if node.fleet and not isinstance(instance.config.election, settings.Static):
            yield from of_ownership(node, instance, now)
            waiting = waits(node, instance, now)
            yield from of_election(node.fleet, instance, now, waiting, is_fenced=is_fenced(node, instance, now))


def _of_stop(node: "Node", now: float) -> Iterator[Problem]:
    if reason := node.stopping or node.draining:
        hint = "wait; if it stays so, see what it waits for: systemctl status floatip"
        what = f"stopping: {reason}"
        if node.moves and node.waits_for_connections(now) and (kept := node.moves.kept):
            many = _count(sum(one.connections for one in kept), "connection")
            by, left = " and ".join(one.node for one in kept), max(one.until for one in kept) - now
            what = f"{what}; waits for {many} that go{'es' * (many[:2] == '1 ')} on here by {by}, {left:.0f} s at most"
            hint = "wait; to reset them and stop at once: systemctl kill floatip"
        yield Problem(Code.STOPPING, "floatip", what, hint)


def _of_drill(node: "Node", now: float) -> Iterator[Problem]:
    if drill := node.drill:
        what = f"a drill rehearses a failover of {drill.instance}: {drill.fault}"
        what += f", check {drill.check} counts as failed" if drill.fails else ""
        what += f"; {drill.by}, for at most {max(node.drill_until - now, 0):.0f} s more"
        hint = "wait for its end, or press Ctrl-C where floatip drill runs"
        yield Problem(Code.DRILL, drill.instance, what, hint, Severity.WARNING, node.drill_until - drill.lasts)


def _of_network(node: "Node", now: float) -> Iterator[Problem]:
    if node.barred_until < float("inf"):
        left = f"{UNSTEADY}, {node.barred_until - now:.0f} s more" if node.holds_back else KEEPS_CRASHING
        what = f"floatip crashed and {left}"
        yield Problem(Code.START_LIMIT, "floatip", what, "read why: journalctl -u floatip", since=node.started_at)
    sessions = list(node.sessions.values())
    down = [session for session in sessions if not session.is_up]
    if sessions and len(down) == len(sessions):
        what = f"no route server of {len(sessions)} is connected: {_why(down[0])}"
        yield Problem(Code.NO_SESSION, str(down[0].peer), what, _try(down[0]), since=max(s.since for s in down))
    elif node.network.cut_off:
        since = node.network.acknowledged_at
        what = f"cut off: no route server has acknowledged anything for {now - since:.1f} s"
        hint = "check this node's way to the route servers: ip route get ADDRESS"
        yield Problem(Code.CUT_OFF, "route servers", what, hint, since=since)
    elif down:
        what = f"{len(down)} of {len(sessions)} route servers not connected: {_why(down[0])}"
        yield Problem(Code.SESSION_DOWN, str(down[0].peer), what, _try(down[0]), Severity.WARNING, down[0].since)
    if not node.network.cut_off:
        yield from _of_deaf_peers(sessions, now)


def _of_deaf_peers(sessions: Iterable[Session], now: float) -> Iterator[Problem]:
    """They may have stopped reading: their KEEPALIVEs still arrive, and no withdrawal reaches them."""
    for session in sessions:
        silent = now - session.acknowledged_at
        if session.is_up and silent > UNACKNOWLEDGED:
            what = f"{session.peer} has acknowledged nothing for {silent:.0f} s: what is withdrawn now stays there"
            hint = f"see what waits: ss -tno dst {session.peer}; if it lasts, ask the peer's operator"
            since = session.acknowledged_at
            yield Problem(Code.NOT_ACKNOWLEDGED, str(session.peer), what, hint, Severity.WARNING, since)


def _why(session: Session) -> str:
    return f"{session.peer}: {session.why}"


def _try(session: Session) -> str:
    return session.hint or "read what was tried: journalctl -u floatip -g session"


def _of_host(node: "Node") -> Iterator[Problem]:
    for failures in node.failures.values():
        for since, failure in failures.values():
            hint = failure.hint or f"look up {failure.code} in /usr/share/doc/floatip/operate/troubleshooting.md"
            severity = Severity.WARNING if failure.code in PASSED_OVER else Severity.PROBLEM
            yield Problem(failure.code, failure.what, f"{failure.what}: {failure.reason}", hint, severity, since)


def _of_links(node: "Node", now: float) -> Iterator[Problem]:
    for interface, (since, why) in node.unsteady_links(now).items():
        hint = f"find out why: journalctl -k -g {interface}; see when: ip -timestamp monitor link"
        yield Problem(Code.LINK_UNSTEADY, interface, f"{interface} comes and goes: {why}", hint, since=since)


def _of_instance(
    node: "Node", instance: Instance, around: Surroundings, refusing: Mapping[int, list[Session]], now: float
) -> Iterator[Problem]:
    """`refusing`: the sessions that carry no prefixes of an IP version, by version."""
    name, elector, decision = instance.config.name, instance.elector, instance.decision
    if instance.health is not Health.UP:
        hint = "repair the service, or run the check by hand"
        if elector.sick:
            hint = "find out which check of keepalived fails: journalctl -u keepalived"
        elif instance.health is Health.UNKNOWN:
            hint = "wait for the first result: a run that does not end fails at its timeout"
        if (
            node.drill
            and node.drill.fails
            and any(check.config.name == node.drill.check for check in node.tracked(instance).checks)
        ):
            hint = "wait for the end of the drill"
        what = f"{name} is not healthy: {instance.health_reason}"
        yield Problem(Code.UNHEALTHY, name, what, hint, since=instance.health_since)
    role, placement, held = instance.role, instance.config.placement, instance.held(node.holding)
    if not all(held) and (placement == "all" or role is Role.MASTER):
        missing = [str(target.ip) for target, is_held in zip(instance.targets, held, strict=True) if not is_held]
        hint = f"see where it is: ip addr show to {missing[0]}"
        yield Problem(Code.NOT_HELD, name, f"{name} does not hold {_some(missing)}", hint)
    if placement == "master" and role is not Role.MASTER and any(held) and not instance.wants(now):
        standing = [target for target, is_held in zip(instance.targets, held, strict=True) if is_held]
        what = (
            f"{name} is not master here, and has {_some([str(target.ip) for target in standing])}: two nodes may answer"
        )
        hint = f"ip addr del {standing[0].address} dev {standing[0].placed.interface}"
        yield Problem(Code.NOT_RELEASED, name, what, hint)
    if instance.waiting:
        hint = f"add the address: ip addr add ADDRESS dev {instance.config.interface}"
        yield Problem(Code.NOT_HELD, name, f"{name} announces nothing: {instance.waiting}", hint)
    if refusing and decision.rank is not Rank.NONE:
        yield from _unannounced(instance, refusing)
    yield from elector.problems(around, now)
    for what, count in elector.dropped.since(now - MATTERS).items() if elector.dropped.counts else ():
        hint = next((hint for words, hint in DROPPED if words in what), "compare the election of both nodes")
        hint += f"; the adverts: tcpdump -vni {elector.interface} vrrp"
        yield Problem(Code.ADVERTS_DROPPED, name, f"{name}: {_count(count, 'advert')} {what}", hint)
    yield from _of_priority(instance, now)
    if (left := decision.damped_until - now) > 0:
        what = f"{name}: {DAMPED}, {left:.0f} s more"
        hint = "find out why it withdrew: journalctl FLOATIP_RANK=none"
        yield Problem(Code.DAMPED, name, what, hint, Severity.WARNING, decision.since)


def _of_priority(instance: Instance, now: float) -> Iterator[Problem]:
    """Checks took from the priority of a master, and a better node would have taken over by now."""
    elector, name = instance.elector, instance.config.name
    down_after = elector.master_down_interval
    if instance.role is not Role.MASTER or not isinstance(elector, Router) or down_after is None:
        return
    if elector.priority >= elector.config.priority or now < instance.shift_since + down_after:
        return
    what = (
        f"{name} has priority {elector.priority} ({instance.why_shift}), and no other node took over: "
        "none is well, or none has a higher priority and preempts"
    )
    hint = "compare: the weight must be greater than the distance to the priority of the other node"
    yield Problem(Code.PRIORITY_LOWERED, name, what, hint, Severity.WARNING, instance.shift_since)


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _some(things: list[str], most: int = 3) -> str:
    left = len(things) - most
    return ", ".join(things[:most]) + (f" and {left} more" if left > 0 else "")


def _refusing(sessions: Iterable[Session]) -> dict[int, list[Session]]:
    up = [session for session in sessions if session.is_up]
    found = {version: [session for session in up if not session.carries(version)] for version in (4, 6)}
    return {version: those for version, those in found.items() if those}


def _unannounced(instance: Instance, refusing: Mapping[int, list[Session]]) -> Iterator[Problem]:
    """Route servers that do not take the prefixes of one family."""
    versions = {target.ip.version for target in instance.targets} if instance.is_announced else set[int]()
    for version in sorted(versions & refusing.keys()):
        for session in refusing[version]:
            what = f"{instance.config.name}: {session.peer} takes no IPv{version} prefix over this session"
            hint = "ask the peer's operator to enable the family"
            hint += ", for IPv4 over IPv6 with extended next hop (RFC 8950)" if version == 4 else ""
            yield Problem(Code.PREFIX_REFUSED, instance.config.name, what, hint, since=session.since)


def of_packets(node: "Node", now: float) -> Iterator[Problem]:
    if node.stopping:
        return
    for what, count in node.dropped.since(now - MATTERS).items():
        hint = "see who sends them: tcpdump -vni any ip proto 112"
        yield Problem(Code.ADVERTS_DROPPED, "VRRP", f"{_count(count, 'VRRP packet')} dropped: {what}", hint)
    for (interface, vrid), (at, source) in node.strangers_at.items():
        if at >= now - MATTERS:
            count = node.strangers[interface, vrid]
            packets = _count(count, "VRRP packet")
            what = f"{packets} dropped: vrid {vrid} from {source} belongs to no instance on {interface}"
            hint = "compare vrid on both nodes"
            if node.follows_keepalived:
                hint += ", or, if keepalived has that instance for itself, add it to [keepalived] other_vrids"
            yield Problem(Code.VRRP_UNKNOWN, interface, what, f"{hint}; then: systemctl reload floatip")
    for session in node.sessions.values():
        if count := session.malformed_since(now - MATTERS):
            what = f"{session.peer} sent {_count(count, 'malformed message')}, the last: {session.last_malformed}"
            hint = (
                f"record them for the peer's operator: tcpdump -ni any -w bgp.pcap host {session.peer} and tcp port 179"
            )
            yield Problem(Code.MALFORMED_MESSAGES, str(session.peer), what, hint)
