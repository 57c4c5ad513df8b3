"""What of open connections is said to a person: by `floatip status`, `floatip nodes`, and the page."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from floatip.core.state import EndedView, NodeView, SecondChanceView, Status, StreamView
from floatip.text import span

NAMED = 4
"""How many nodes or instances are named; more are counted."""
SECONDS = 1000
"""A time below that is said in seconds."""
SAID_FOR = 3600.0
"""Seconds for which it is said that connections were cut off."""


class Said(NamedTuple):
    text: str
    is_well: bool | None
    """None: neither well nor wrong."""


def sentences(status: Status) -> Iterator[Said]:
    """The most important first; none: there is no second chance."""
    known = status.second_chance
    if known is None:
        return
    here = [one for one in known.streams if not one.forwards]
    for one in here:
        yield Said(_here(one, waits=known.waits), None if known.waits else True)
    for one in known.streams:
        if one.forwards:
            is_one = one.connections == 1
            yield Said(f"{one.connections} of {one.node} {'goes' if is_one else 'go'} on there {_times(one)}", True)
    for move in known.preparing:
        way = f"{'moves to' if move.offers else 'comes from'} {' and '.join(move.nodes)}"
        yield Said(f"{move.instance} {way} when its connections are listed", None)
    yield from _readiness(known, status.nodes)
    for last in known.ended:
        if last.connections and last.end != "moved-on" and last.for_ < SAID_FOR:
            yield Said(_cut_off(last), False)


def _here(one: StreamView, *, waits: bool) -> str:
    if waits:
        it_ends = "it ends" if one.connections == 1 else "they end"
        when = f"floatip stops when {it_ends}, in {_span(one.left)} at most"
        return f"{one.connections} {'goes' if one.connections == 1 else 'go'} on here by {one.node}; {when}"
    return f"{one.connections} {'goes' if one.connections == 1 else 'go'} on here by {one.node} {_times(one)}"


def _times(one: StreamView) -> str:
    directly = "; answers leave directly" if one.direct else ""
    return f"(since {_span(one.for_)}, at most {_span(one.left)} more{directly})"


def _cut_off(last: EndedView) -> str:
    were = "were" if last.connections > 1 else "was"
    if last.end == "silent" and not last.forwards:  # the kernel of the other node may go on without its process
        were = "may have been"
    whose = f"of {last.node}" if last.forwards else "of this node"
    return f"{last.connections} {whose} {were} reset {_span(last.for_)} ago: {last.why}"


def _readiness(known: SecondChanceView, nodes: Sequence[NodeView]) -> Iterator[Said]:
    """Whether connections would survive the next planned move."""
    if not known.usable:
        hint = f"; {known.hint}" if known.hint else ""
        yield Said(f"a planned move resets them: {known.why}{hint}", False if known.mode == "on" else None)
        return
    gone = {node.name for node in nodes if not node.own and node.state != "alive"}
    ready = [one.node for one in known.nodes if one.works]
    broken = [one for one in known.nodes if not one.works and one.node not in gone]
    if ready:
        yield Said(f"ready: {_few(ready)}", True)
    for one in broken[:NAMED]:
        yield Said(f"{one.node} does not work: {one.why}", False if known.mode == "on" else None)
    if len(broken) > NAMED:
        yield Said(f"{len(broken) - NAMED} more do not work: {_few([one.node for one in broken[NAMED:]])}", None)
    if not ready and not broken:
        yield Said("no other node is there to take them over", None)
    for out in known.without[:NAMED]:
        yield Said(f"not of {out.instance}: {out.why}", False if known.mode == "on" else None)
    if len(known.without) > NAMED:
        yield Said(f"nor of {_few([out.instance for out in known.without[NAMED:]])}", None)


def _span(seconds: float) -> str:
    """In seconds as long as an administrator may wait for them."""
    return f"{seconds:.0f} s" if seconds < SECONDS else span(seconds)


def _few(names: Sequence[str]) -> str:
    left = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {left} more" if left > 0 else "")
