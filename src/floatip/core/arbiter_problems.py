"""What is wrong with etcd, as this node knows it, and what follows from it."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from floatip.core import settings
from floatip.core.arbiter import Arbiter
from floatip.core.election.elector import Role
from floatip.core.fleet_problems import says_master
from floatip.core.instance import Instance
from floatip.core.problems import Code, Problem, Severity

if TYPE_CHECKING:
    from floatip.core.node import Node

SETTLE = 2.0
"""Seconds in which etcd and the nodes agree, as a rule."""
CLOCKS = 60.0
"""Seconds by which an epoch is ahead of the clock of this node that are a warning."""
MOST_ROWS = 20
NAMED = 3
COMPARE = "compare prefix in [etcd], the key of the nodes and the version, on all nodes: "
COMPARE += "sha256sum /etc/floatip/key; floatip --version"
PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""A key that needs no quotes in a shell."""


def of_arbiter(node: "Node", arbiter: Arbiter, now: float) -> Iterator[Problem]:
    if not arbiter.answers and (arbiter.answered_at > -math.inf or now > arbiter.since + SETTLE):
        yield _lost(node, arbiter, now)
    elif arbiter.answers and not (arbiter.is_registered or arbiter.fault or arbiter.name_taken):
        yield from _cannot_write(arbiter, now)
    if arbiter.fault:
        yield Problem(Code.ETCD_PREFIX, "etcd", f"this node claims nothing at etcd: {arbiter.fault}", COMPARE)
    if arbiter.name_taken:
        name = arbiter.own.name
        what = f"another machine is {name} at etcd ({arbiter.name_taken}), so this node claims nothing there"
        hint = (
            "give each machine a name of its own, in [[node]] or [member]; after a reboot, the old lease must end first"
        )
        yield Problem(Code.NAME_TAKEN, name, what, hint)
    yield from _endpoints(arbiter, now)
    yield from _rows(arbiter)
    yield from _clocks(node, arbiter, now)
    yield from _elsewhere(node, arbiter, now)


def _lost(node: "Node", arbiter: Arbiter, now: float) -> Problem:
    silent = now - arbiter.since
    never = arbiter.answered_at == -math.inf
    what = "etcd has not answered since the start" if never else f"etcd has not answered for {silent:.1f} s"
    what += f" ({arbiter.reason})"
    if follows := consequence(node, arbiter, now):
        what += f": {follows}"
    hint = arbiter.hint or "see each endpoint, and what is wrong with it: floatip doctor"
    bound = any(map(needs_etcd, node.instances.values()))
    return Problem(
        Code.ETCD_LOST, "etcd", what, hint, Severity.PROBLEM if bound else Severity.WARNING, since=arbiter.since
    )


def _cannot_write(arbiter: Arbiter, now: float) -> Iterator[Problem]:
    if now <= max(arbiter.since, arbiter.lost_at) + SETTLE:
        return
    why = f" ({arbiter.reason})" if arbiter.reason else ""
    what = f"etcd answers, and this node cannot register there{why}: it claims nothing"
    hint = arbiter.hint or "see what etcd refuses: floatip doctor; it needs the right to write below prefix, and room"
    yield Problem(Code.ETCD_LOST, "etcd", what, hint)


def consequence(node: "Node", arbiter: Arbiter, now: float) -> str:
    """What follows while etcd does not answer."""
    bound = [one for one in node.instances.values() if needs_etcd(one)]
    free = [one for one in node.instances.values() if isinstance(one.config.election, settings.Nodes)]
    free = [one for one in free if not needs_etcd(one)]
    here = [one.config.name for one in bound if one.role is Role.MASTER]
    rest = [one.config.name for one in bound if one.role is not Role.MASTER]
    parts = []
    if here:
        left = max(arbiter.until - now, 0.0)
        parts.append(f"{_some(here)} {_verb(here, 'leaves', 'leave')} this node in {left:.1f} s")
    if rest:
        parts.append(f"this node may not take over {_some(rest)}")
    if free:
        names = [one.config.name for one in free]
        parts.append(f"{_some(names)} {_verb(names, 'goes', 'go')} on by the link")
    return "; ".join(parts)


def needs_etcd(instance: Instance) -> bool:
    """Whether it leaves a node that etcd does not answer."""
    election = instance.config.election
    return isinstance(election, settings.Nodes) and (election.exclusive or election.on_arbiter_loss == "release")


def is_fenced(node: "Node", instance: Instance, now: float) -> bool:
    """Whether etcd has not confirmed for too long that it may be here."""
    return needs_etcd(instance) and (node.arbiter is None or now >= node.arbiter.until)


def waits(node: "Node", instance: Instance, now: float) -> str:
    """As its owner, until the one before it surely has let go; empty: it does not wait."""
    arbiter, name = node.arbiter, instance.config.name
    if arbiter is None or not instance.is_exclusive or instance.role is Role.MASTER or not arbiter.is_own(name):
        return ""
    left = arbiter.free_at.get(name, -math.inf) - now
    before = arbiter.awaited.get(name)
    who = before.node if before else "any other node"
    return f"this node owns it, and waits {left:.1f} s until {who} surely has let go" if left > 0 else ""


def of_ownership(node: "Node", instance: Instance, now: float) -> Iterator[Problem]:
    """Of one instance that the nodes elect."""
    arbiter, fleet, name = node.arbiter, node.fleet, instance.config.name
    if arbiter is None or fleet is None:
        return
    if is_fenced(node, instance, now) and now > fleet.link.began_at + SETTLE:
        why = "etcd does not answer" if not arbiter.answers else arbiter.fault or "etcd has not confirmed its owners"
        carrier = fleet.carrier(name)
        what = f"{name} is on {carrier}, and this node may not take it over" if carrier else f"no node may have {name}"
        hint = "make etcd answer first; each endpoint, and what is wrong with it: floatip doctor"
        hint = COMPARE if arbiter.answers and arbiter.fault else hint
        since = arbiter.until if arbiter.until > -math.inf else None
        yield Problem(Code.EXCLUSIVE_LOST, name, f"{what}: {why}", hint, since=since)
    if not arbiter.answers or arbiter.fault or arbiter.name_taken or not arbiter.is_synced:
        return
    settled_at = max(instance.elector.since, arbiter.seen_at.get(name, -math.inf), arbiter.since) + SETTLE
    owner, is_master = arbiter.owners.get(name), instance.role is Role.MASTER
    if now <= settled_at:
        return
    by_etcd = owner.node if owner and not owner.released else "nobody"
    serves = (
        "this node"
        if is_master
        else next((peer.name for peer in fleet.others if peer.alive and says_master(peer, name)), "")
    )
    if (is_master and not arbiter.is_own(name)) or (not is_master and serves and arbiter.is_own(name)):
        what = f"{name} is served by {serves}, and etcd says that {by_etcd} owns it"
        hint = "see what each node says: floatip nodes; the row at etcd: floatip explain " + name
        yield Problem(Code.ETCD_DISAGREES, name, what, hint, since=settled_at - SETTLE)


def _endpoints(arbiter: Arbiter, now: float) -> Iterator[Problem]:
    """Those that are bad while others are good; if none answers, that is a problem of its own."""
    if not arbiter.answers:
        return
    bad = [(since, one) for since, one in arbiter.endpoints.values() if one.answers is False or one.reason]
    for since, one in bad:
        if one.answers is not False or now > since + SETTLE:
            count = f"{len(bad)} of {len(arbiter.endpoints)} endpoints of etcd {_verb(bad, 'is', 'are')} not well"
            what, hint = f"{count}: {one.reason or one.url}", one.hint or "see what is wrong with it: floatip doctor"
            yield Problem(Code.ETCD_MEMBER_DOWN, one.url, what, hint, Severity.WARNING, since=since)


def _rows(arbiter: Arbiter) -> Iterator[Problem]:
    """An owner that cannot be read is replaced by the next claim; until then nobody is known to own the instance."""
    for key, why in [*arbiter.refused.items()][:MOST_ROWS]:
        what = f"the row {key} at etcd is not one of floatip's: {why}"
        where = _quoted(arbiter.config.prefix + key)
        hint = f"see who wrote it: etcdctl get {where}; delete it if nothing else uses it: etcdctl del {where}"
        yield Problem(Code.ETCD_ROW, key, what, hint, Severity.WARNING)


def _quoted(key: str) -> str:
    """For a shell: whoever wrote the row chose its key."""
    return key if PLAIN.fullmatch(key) else "'" + key.replace("'", "'\\''") + "'"


def _clocks(node: "Node", arbiter: Arbiter, now: float) -> Iterator[Problem]:
    """Of each owner, once."""
    ahead: dict[str, float] = {}
    for owner in arbiter.owners.values():
        seconds = owner.epoch / 1000 - (now + node.clock_ahead)
        if seconds > CLOCKS:
            ahead[owner.node] = max(seconds, ahead.get(owner.node, 0.0))
    for name, seconds in ahead.items():
        what = f"{name} took over at a time that is {seconds:.0f} s ahead of the clock of this node"
        hint = "compare the clocks, on both nodes: timedatectl"
        yield Problem(Code.CLOCK_AHEAD, name, what, hint, Severity.WARNING)


def _elsewhere(node: "Node", arbiter: Arbiter, now: float) -> Iterator[Problem]:
    """Nodes that the link hears and etcd does not: where they ask another etcd, both may hold what is exclusive."""
    if not (node.fleet and arbiter.answers and arbiter.is_registered and arbiter.knows_who_lives):
        return
    for peer in node.fleet.others:
        at = max(peer.since, arbiter.since) + arbiter.config.lease_time + SETTLE
        if peer.alive and peer.name not in arbiter.alive and now > at:
            what = f"{peer.name} is alive, and has no lease at this node's etcd: it does not reach it, or asks another"
            hint = f"see what {peer.name} says of etcd: floatip status there; compare endpoints and prefix in [etcd]"
            yield Problem(Code.NOT_AT_ETCD, peer.name, what, hint, Severity.WARNING)


def _some(names: list[str]) -> str:
    left = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {left} more" if left > 0 else "")


def _verb(names: Sequence[object], one: str, many: str) -> str:
    return one if len(names) == 1 else many
