"""`floatip nodes`: all nodes in one table, as the node on this machine knows them."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from floatip import connection_words, etcd_words
from floatip.carrier import RANKS, STANDBY
from floatip.core.state import CarriedView, EtcdView, NodeView, Status
from floatip.host.ask import Record
from floatip.status import answered, repeat
from floatip.text import age, aligned, cells, columns, folded, printable
from floatip.view import is_known, of_its_own, remarks, state

NONE = """\
no [[node]] is configured: this node knows no others
hint: name all nodes in the configuration, each with a [[node]] table; floatip status shows this one"""
NAMED = 8
"""How many instances of a rank are named; more are counted. Those that a node serves are all named."""
BETTER_FIRST = list(reversed(RANKS))
CARRYING = set(RANKS[STANDBY + 1 :])
HEADINGS = ("NODE", "STATE", "HEARD", "HEARS US", "HEALTHY", "SESSIONS", "VERSION")
UNKNOWN = "?"
CONNECTIONS = "connections  "


def show(*, as_json: bool) -> int:
    answer, status = answered()
    print(_drawn(answer, status, as_json=as_json))
    return 0 if status.nodes and all(map(_is_well_linked, status.nodes)) else 1


def watch(*, as_json: bool) -> NoReturn:
    repeat(lambda: _drawn(*answered(), as_json=as_json), as_json=as_json)


def _is_well_linked(node: NodeView) -> bool:
    return node.own or (node.state == "alive" and node.hears_us is not None)


def _drawn(answer: Record, status: Status, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(answer.get("nodes", []), indent=2)
    if not status.nodes:
        return NONE
    width = columns()
    return "\n".join([draw_nodes(status.nodes, width), *_connections(status, width), *_etcd(status.etcd, width)])


def _connections(status: Status, width: int) -> Iterator[str]:
    for place, (text, _) in enumerate(connection_words.sentences(status)):
        head = CONNECTIONS if place == 0 else " " * len(CONNECTIONS)
        yield from folded(f"{head}{printable(text)}", width, len(CONNECTIONS))


def _etcd(known: EtcdView | None, width: int) -> Iterator[str]:
    if known is not None:
        word = "answers" if known.answers else "SILENT"
        yield from folded(f"etcd  {word} {age(known.for_)}: {printable(etcd_words.summary(known))}", width, 6)
        for one in etcd_words.silent(known):
            line = f"{etcd_words.place(one)} silent {age(one.for_)}: {etcd_words.said(one)}"
            yield from folded(f"  {printable(line)}", width, 4)


def draw_nodes(nodes: Sequence[NodeView], width: int = 80) -> str:
    """A line of facts for each node, and below it what it carries and what is special. A long name has its own line."""
    rows = [HEADINGS, *map(_facts, nodes)]
    lines = aligned(rows)
    names_apart = max(map(cells, lines)) > width
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
    if not is_known(node):
        return name, state(node), heard, UNKNOWN, UNKNOWN, UNKNOWN, version or UNKNOWN
    hears_us = "" if node.own else "NO" if node.hears_us is None else age(node.hears_us)
    healthy = UNKNOWN if node.healthy is None else f"{node.instances_healthy} of {node.instances}"
    return name, state(node), heard, hears_us, healthy, f"{node.sessions_up} of {node.sessions}", version


def _below(node: NodeView, nodes: Sequence[NodeView]) -> Iterator[str]:
    carries = "; ".join(_carries(node.carries, lambda rank: math.inf if rank in CARRYING else NAMED))
    if is_known(node):
        yield f"{node.address}  {carries}"
    else:
        yield f"{node.address}  carried when last heard: {carries}" if node.carries else node.address
    yield from remarks(node, nodes)
    yield from of_its_own(node)


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
