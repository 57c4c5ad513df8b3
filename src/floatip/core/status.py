"""The state of a node as plain data: for each thing its value, since when, and because of what.

This is what `floatip status --json` prints and what the person's view is drawn from. Ages are seconds.
"""

from typing import Any

from floatip.core.bgp.rank import Rank
from floatip.core.bgp.session import Session
from floatip.core.decision import DAMPED
from floatip.core.events import InterfaceAddress
from floatip.core.health import Check, Health
from floatip.core.instance import Instance
from floatip.core.node import NO_INSTANCE, Node
from floatip.core.settings import Static
from floatip.core.vrrp.follower import Follower
from floatip.core.vrrp.router import Role

MATTERS = 300.0
"""Seconds for which something that happened once is a problem."""
FRESH_SESSION = 30.0  # route servers may silently drop what a younger session announces


def describe(node: Node, now: float) -> dict[str, Any]:
    return {
        "stopping": node.stopping or node.draining,
        "cut_off": node.cut_off,
        "instances": [_instance(node, instance, now) for instance in node.instances.values()],
        "checks": [_check(check, now) for check in node.checks.values()],
        "sessions": [_session(session, now) for session in node.sessions.values()],
        "keepalived": _keepalived(node, now),
        "links": [{"interface": name, "up": not fault, "reason": fault} for name, fault in node.links.items()],
        "dropped": node.dropped.counts,
        "failures": [{"what": w, "reason": f.reason, "ago": now - at} for w, (at, f) in node.failures.items()],
        "problems": problems(node, now),
        "warnings": warnings(node, now),
    }


def _instance(node: Node, instance: Instance, now: float) -> dict[str, Any]:
    router, decision, election = instance.router, instance.decision, instance.config.election
    sessions = node.sessions.values()
    return {
        "name": instance.config.name,
        "role": {
            "value": instance.role.value,
            "for": now - (router.since if router else decision.since),
            "reason": instance.role_reason,
        },
        "health": {
            "value": instance.health.value,
            "for": now - instance.health_since,
            "reason": instance.health_reason,
        },
        "rank": {"value": decision.rank.label, "for": now - decision.since, "reason": decision.reason},
        "master": str(router.master) if router and router.master else None,
        "election": type(election).__name__.lower(),
        "priority": None if isinstance(election, Static) else election.priority,
        "vrid": None if isinstance(election, Static) else election.vrid,
        "dropped": router.dropped.counts if router else {},
        "master_down_interval": router.master_down_interval if router else None,
        "addresses": [
            {
                "address": str(address),
                "interface": instance.config.interface,
                "held": _is_held(node, instance, address),
                "announced_to": sum(session.tells(address.network) for session in sessions),
            }
            for address in instance.config.addresses
        ],
        "route_servers": len(node.sessions),
    }


def _is_held(node: Node, instance: Instance, address: InterfaceAddress) -> bool:
    if instance.config.placement == "found":
        return address.ip in node.held
    return (instance.config.interface, address.ip) in node.placed


def _keepalived(node: Node, now: float) -> dict[str, Any] | None:
    """What is known of the keepalived that elects; None: none does."""
    if not node.followers:
        return None
    found = node.keepalived
    said = [
        {"kind": kind, "name": name, "state": state, "for": now - at}
        for (kind, name), (state, at) in node.keepalived_said.items()
    ]
    return {
        "runs": found is not None and found.running,
        "for": now - node.keepalived_since,
        "reason": found.reason if found else "",
        "said": said,
    }


def _check(check: Check, now: float) -> dict[str, Any]:
    return {
        "name": check.config.name,
        "value": check.health.value,
        "for": now - check.since,
        "reason": check.reason,
        "last_result": check.last_result,
        "runs": check.runs,
    }


def _session(session: Session, now: float) -> dict[str, Any]:
    return {
        "peer": str(session.peer),
        "state": session.state.value,
        "for": now - session.since,
        "reason": _young(session, now) or session.reason,
        "lost_because": session.lost_because,
        "hint": session.hint,
        "hold_time": session.hold_time if session.is_up else None,
        "announced": session.announced,
        "updates_sent": session.sent_updates,
        "updates_received": session.received_updates,
        "times_established": session.established_count,
        "malformed_messages": session.malformed_messages,
        "last_malformed": session.last_malformed,
    }


def _young(session: Session, now: float) -> str:
    if not session.is_up or now - session.since >= FRESH_SESSION:
        return ""
    return f"{session.reason}, younger than {FRESH_SESSION:g} s: route servers may not trust it yet"


def warnings(node: Node, now: float) -> list[str]:
    """What is not whole and still works."""
    found: list[str] = []
    down = [session for session in node.sessions.values() if not session.is_up]
    if down and len(down) < len(node.sessions):
        found.append(f"{len(down)} of {len(node.sessions)} route servers not connected: {_why(down[0])}")
    for instance in node.instances.values():
        if (left := instance.decision.damped_until - now) > 0:
            found.append(f"{instance.config.name}: {DAMPED}, {left:.0f} s more")
    return found


def _why(session: Session) -> str:
    return f"{session.peer}: {session.reason}" + (f"\n  hint: {session.hint}" if session.hint else "")


def problems(node: Node, now: float) -> list[str]:
    """What a person should look at, worst first; empty: all is well."""
    found: list[str] = []
    sessions = list(node.sessions.values())
    up = sum(session.is_up for session in sessions)
    if sessions and not up:
        found.append(f"no route server of {len(sessions)} is connected: {_why(sessions[0])}")
    if node.cut_off and up:
        found.append(f"cut off: no route server has acknowledged anything for {now - node.acknowledged_at:.1f} s")
    for instance in node.instances.values():
        name = instance.config.name
        if instance.health is not Health.UP:
            found.append(f"{name} is not healthy: {instance.health_reason}{_hint_of(instance)}")
        missing = [str(a.ip) for a in instance.config.addresses if not _is_held(node, instance, a)]
        if missing and (instance.config.placement == "all" or instance.role is Role.MASTER):
            found.append(f"{name} does not hold {', '.join(missing)}")
        if up and instance.decision.rank is not Rank.NONE:
            found += _unannounced(instance, sessions)
        if isinstance(instance.router, Follower):
            found += _following(node, instance.router, now)
        if instance.router is not None:
            dropped = instance.router.dropped.since(now - MATTERS)
            found += [f"{name}: {n} adverts {what}" for what, n in dropped.items()]
    for what, n in node.dropped.since(now - MATTERS).items():
        found.append(f"dropped {n} packets of VRRP: {what}{_hint_of_stranger(node, what)}")
    for session in sessions:
        if n := session.malformed_messages:
            found.append(f"{session.peer} sent {n} malformed messages, the last: {session.last_malformed}")
    lately = (failed for at, failed in node.failures.values() if failed.lasts or now - at < MATTERS)
    found += [f"{failed.what}: {failed.reason}" for failed in lately]
    return found


def _hint_of_stranger(node: Node, what: str) -> str:
    if not what.startswith(NO_INSTANCE) or not node.followers:
        return ""
    hint = (
        "if keepalived has that instance for itself: add it to [keepalived] other_vrids, and systemctl reload floatip"
    )
    return f"\n  hint: {hint}"


def _hint_of(instance: Instance) -> str:
    says_so = isinstance(instance.router, Follower) and instance.router.sick
    return "\n  hint: journalctl -u keepalived says which check fails" if says_so else ""


def _following(node: Node, follower: Follower, now: float) -> list[str]:
    """What keeps keepalived's word from being believed, or from being heard."""
    name, interface = follower.name, follower.config.interface
    if not follower.runs:
        hint = "this node is not master until it runs: systemctl status keepalived"
        return [f"{name}: {follower.reason}\n  hint: {hint}"]
    found: list[str] = []
    if fault := node.links.get(interface):
        found.append(f"{name}: {interface} {fault}\n  hint: without it nobody hears the adverts of the other nodes")
    followed = {subject for each in node.followers for subject in each.subjects}
    others = [other for kind, other in node.keepalived_said if kind == "INSTANCE" and (kind, other) not in followed]
    if follower.doubts:
        hint = "see whether keepalived hangs, and whether the nodes hear each other: systemctl status keepalived"
        if others:
            hint = f"keepalived speaks of {', '.join(others)} too: compare keepalived.conf with [[instance]]"
        found.append(f"{name}: {follower.reason}\n  hint: {hint}")
    elif others and not any(subject in node.keepalived_said for subject in follower.subjects):
        what = f"{name}: keepalived speaks of {', '.join(others)} and never of {follower.config.instance}"
        found.append(f"{what}\n  hint: keepalived.instance says what keepalived calls it")
    elif follower.forsaken(now):
        what = (
            f"{name}: nobody sends adverts for vrid {follower.config.vrid} on {interface}, and keepalived stays BACKUP"
        )
        found.append(
            f"{what}\n  hint: compare virtual_router_id, see whether keepalived hangs: systemctl status keepalived"
        )
    return found


def _unannounced(instance: Instance, sessions: list[Session]) -> list[str]:
    """Route servers that cannot be told of a prefix."""
    return [
        f"{instance.config.name}: {session.peer} takes no IPv{version} prefix over this session"
        "\n  hint: the peer's operator allows the family, for IPv4 over IPv6 with extended next hop (RFC 8950)"
        for version in sorted({address.version for address in instance.config.addresses})
        for session in sessions
        if session.is_up and not session.carries(version)
    ]
