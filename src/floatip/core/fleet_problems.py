"""What is wrong between the nodes, as this one knows it."""

from collections.abc import Iterator

from floatip.core.election.elector import Role
from floatip.core.events import Order
from floatip.core.fleet import Fleet, why_not
from floatip.core.instance import Instance
from floatip.core.link import wire
from floatip.core.link.link import MATTERS, SILENT, Peer
from floatip.core.problems import Code, Problem, Severity

STRANGERS_MATTER = 300.0
REFUSED = {
    wire.OTHER_KEY: "copy the key from one node to the other, then there: systemctl reload floatip",
    wire.OTHER_FORMAT: "upgrade the older node: floatip --version",
}
COPY = "copy floatip.toml from one node to the other, then there: floatip check && systemctl reload floatip"
COMPARE = (
    "see whether {name} refuses the fleet's version: floatip status on {name}; if not, make floatip.toml alike on both "
    "nodes, apart from [member] (lease_time, prefix, [[check]]), then: floatip check && systemctl reload floatip"
)
SETTLE = 2.0
"""Seconds in which the nodes agree, as a rule."""


def of_fleet(fleet: Fleet, clock_ahead: float, now: float, *, registers: bool = False) -> Iterator[Problem]:
    """`registers`: the nodes are members, whose files name them and differ in that."""
    if now <= fleet.link.began_at + SETTLE:
        what = f"floatip started {now - fleet.link.began_at:.1f} s ago: which node serves is not known yet"
        hint = f"ask again {SETTLE:g} s after the start: floatip status"
        yield Problem(Code.STARTING, "floatip", what, hint, Severity.WARNING, fleet.link.began_at)
    for peer in fleet.others:
        yield from _of_peer(fleet, peer, now, COMPARE if registers else COPY)
    for address, at in fleet.link.strangers.items():
        if now < at + STRANGERS_MATTER:
            what = f"{address} sends to the port of the link, and is no node of the configuration"
            hint = f"add it as a [[node]] on all nodes, or find out what it is: tcpdump -ni any host {address}"
            yield Problem(Code.LINK_STRANGER, str(address), what, hint, Severity.WARNING, at)
    if fleet.drained:
        yield _ordered("drained", "undrain", fleet.drained, clock_ahead, now)
    if fleet.paused:
        yield _ordered("paused", "resume", fleet.paused, clock_ahead, now)


def _ordered(what: str, end: str, order: Order, clock_ahead: float, now: float) -> Problem:
    left = f" for {max(order.until - clock_ahead - now, 0) / 60:.0f} min more" if order.until else ""
    why = f": {order.reason}" if order.reason else ""
    code = Code.DRAINED if what == "drained" else Code.PAUSED
    return Problem(code, "floatip", f"this node is {what}{left}{why}", f"to end it: floatip {end}", Severity.WARNING)


def _of_peer(fleet: Fleet, peer: Peer, now: float, other_file: str) -> Iterator[Problem]:
    name, port, address = peer.name, fleet.link.config.port, peer.config.address
    if not peer.alive:
        if peer.refused and now < peer.refused_at + MATTERS:
            what = f"what {name} says is refused: {peer.refused}"
            hint = REFUSED.get(
                peer.refused_for, "compare floatip.toml of both nodes: sha256sum /etc/floatip/floatip.toml"
            )
            yield Problem(Code.NODE_REFUSED, name, what, hint, since=peer.since)
        elif peer.was_heard or now > peer.since + SETTLE:
            silent = f"has been silent for {now - peer.detector.heard_at:.1f} s"
            what = f"{name} {silent if peer.why == SILENT else why_not(peer, '')}"
            hint = "is that machine up? Run there: systemctl status floatip; "
            hint += f"see here what arrives: tcpdump -ni any udp port {port}"
            yield Problem(Code.NODE_SILENT, name, what, hint, since=peer.since)
        return
    if not peer.hears_us(now) and now > peer.since + SETTLE:
        what = f"{name} does not hear this node, and this node hears it"
        hint = f"let UDP port {port} from {fleet.own.address} pass on {name} ({address}), and on the way there"
        yield Problem(Code.NODE_DEAF, name, what, hint)
    if peer.node is None:
        return
    if peer.node.flags & wire.NodeFlag.DRILL:
        what = f"{name} rehearses a failover: floatip drill runs there"
        yield Problem(
            Code.DRILL, name, what, f"wait for its end; see it there: floatip status on {name}", Severity.NOTE
        )
    if peer.node.version != fleet.link.config.version:
        what = f"{name} runs floatip {peer.node.version}, this node {fleet.link.config.version}"
        yield Problem(Code.OTHER_VERSION, name, what, "upgrade the older one", Severity.WARNING)
    if peer.node.digest != fleet.link.config.digest:
        what = f"{name} has another configuration than this node"
        yield Problem(Code.OTHER_CONFIGURATION, name, what, other_file.format(name=name))


def of_election(
    fleet: Fleet, instance: Instance, now: float, waits: str = "", *, is_fenced: bool = False
) -> Iterator[Problem]:
    """`waits`: what this node waits for, as the owner by etcd. `is_fenced`: etcd keeps it from the instance, and that
    is a problem of its own.
    """
    name, elector = instance.config.name, instance.elector
    masters = [peer.name for peer in fleet.others if peer.alive and says_master(peer, name)]
    if elector.role is Role.MASTER:
        masters.insert(0, fleet.own.name)
    is_settled = now > max(elector.since, fleet.link.began_at) + SETTLE
    if len(masters) > 1 and is_settled:
        what = f"{name} has {len(masters)} masters: {' and '.join(masters)}"
        yield Problem(Code.SECOND_MASTER, name, what, "see whether they hear each other: floatip nodes")
    if not masters and is_settled and not is_fenced:
        what = f"{name}: no node that is heard is master"
        hint = "see what each node says: floatip nodes"
        if waits:
            what, hint = f"{what}; {waits}", "wait; if it stays so: floatip explain " + name
        elif why := fleet.pause_reason:
            what, hint = (
                f"{what}, and no node takes over ({why})",
                "let the nodes elect, where it was paused: floatip resume",
            )
        elif fleet.drained:
            what, hint = (
                f"{what}, and this node leaves it to others (drained)",
                "let this node take over: floatip undrain",
            )
        yield Problem(Code.NOBODY_SERVES, name, what, hint)
    if elector.role is Role.MASTER and is_settled and not fleet.heirs(name):
        what = f"{name}: no other node could take over: {fleet.why_nobody(name)}"
        yield Problem(Code.NO_STANDBY, name, what, "get that node ready: floatip status there says how")


def says_master(peer: Peer, instance: str) -> bool:
    state = peer.instances.get(wire.identity(instance))
    return state is not None and state.role is wire.Role.MASTER
