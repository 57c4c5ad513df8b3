"""What is wrong with the second chance: with what was done, and with what the configuration wants (`mode = "on"`)."""

import math
from collections.abc import Iterator

from floatip.core.fleet import Fleet
from floatip.core.problems import Code, Problem, Severity
from floatip.core.second_chance.moves import Moves
from floatip.core.second_chance.terms import End, Fault, Over, Through

SETTLE = 5.0
"""Seconds after the start, or after another node was heard first, in which nothing is said."""


def of_second_chance(moves: Moves, fleet: Fleet, started_at: float, now: float) -> Iterator[Problem]:
    for node, (at, over) in moves.useless.items():
        if moves.works_with(node):
            what = f"the last planned move from {node} reset open connections ({over.connections}): {over.reason}"
            yield _warning(node, what, f"{_where_it_ends(over)}. The next planned move from {node} tries again", at)
    if not moves.config.is_wanted or now < started_at + SETTLE:
        return
    standing = moves.standing
    if standing.why_not:
        what = f"a planned move from or to this node resets connections: {standing.why_not}"
        hint = standing.hint or "read why: journalctl -u floatip"
        yield _warning(fleet.own.name, what, hint, moves.since[""])
        return
    for one in standing.through:
        peer = fleet.link.peers.get(one.node)
        if not one.works and peer and peer.alive and now >= max(peer.since, moves.since[one.node]) + SETTLE:
            what = f"a planned move between this node and {one.node} resets connections: {one.why}"
            yield _warning(one.node, what, _hint(one, moves.config.port, fleet), moves.since[one.node])
    for name, why in standing.without:
        what = f"a planned move of {name} resets connections: {why}"
        yield _warning(name, what, 'see what listens: ss -Htlnp; to do without, for all instances: mode = "auto"')


def _warning(subject: str, what: str, hint: str, since: float = math.inf) -> Problem:
    return Problem(Code.SECOND_CHANCE, subject, what, hint, Severity.WARNING, None if since == math.inf else since)


def _where_it_ends(over: Over) -> str:
    if over.end is End.UNACCEPTED:
        return f"see on {over.node} what drops TCP that comes by floatip-sc: floatip doctor"
    return f"see on {over.node} what drops TCP that leaves by floatip-sc: floatip doctor; ip rule"


def _hint(one: Through, port: int, fleet: Fleet) -> str:
    name, address, dump = one.node, fleet.link.peers[one.node].config.address, f"tcpdump -ni any udp port {port}"
    match one.fault:
        case Fault.UNHEARD:
            where = (
                f"here, and on the way; see what comes: {dump}; what floatip drops: nft list table netdev floatip_sc"
            )
            return f"let UDP port {port} from {name} ({address}) pass {where}"
        case Fault.DEAF:
            to = f"on {name} ({address}), and on the way there; see there what comes: {dump}"
            return f"let UDP port {port} from {fleet.own.address} pass {to}"
        case Fault.LARGE:
            comes = f"tcpdump -ni any 'udp port {port} or ip[6:2] & 0x3fff != 0'"
            return f"let fragments of UDP port {port} from {name} ({address}) pass; see what comes: {comes}"
    return f"run on {name}: floatip status"
