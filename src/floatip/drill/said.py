"""What a daemon says of its node by the control socket, as `Seen` of a report. Pure."""

from collections.abc import Iterator
from typing import get_args

from floatip.core.state import Status
from floatip.drill.report import Seen, What

KINDS: dict[object, What] = {kind: kind for kind in get_args(What)}
ORDERS = {"drained": "drain", "in service": "drain", "paused": "pause", "resumed": "pause"}
"""What a node tells of itself when an order begins or ends, and which order it is."""
LONGEST = 1000
"""Characters of a name, a value and a reason."""


def name_of(status: Status) -> str:
    """Of the node itself; without `[[node]]`, that of its machine."""
    return next((node.name for node in status.nodes if node.own), status.host)


def at_the_start(status: Status, at: float) -> Iterator[Seen]:
    """The state as the first things seen of a node."""
    name = name_of(status)
    for one in status.instances:
        for what, standing in (("role", one.role), ("rank", one.rank), ("health", one.health)):
            yield Seen(at, name, KINDS[what], one.name, standing.value, standing.reason)
    for check in status.checks:
        yield Seen(at, name, "check", check.name, check.value, check.reason)
    for session in status.sessions:
        value = "up" if session.state == "established" else "down"  # as the news say it
        yield Seen(at, name, "session", session.peer, value, session.reason)
    for node in status.nodes:
        if node.own:
            for order, holds, value in (("drain", node.drained, "drained"), ("pause", node.paused, "paused")):
                if holds:
                    yield Seen(at, name, "order", order, value, node.reason)
        else:
            yield Seen(at, name, "node", node.name, "alive" if node.state == "alive" else "gone", node.why)


def change(record: dict[str, object], name: str) -> Seen | None:
    """Of a record of `watch`, by the node of that name; None: it is not of a report, or no such record."""
    at, what = record.get("at"), KINDS.get(record.get("what"))
    if not isinstance(at, int | float) or what is None:
        return None
    thing, value, reason = (str(record.get(key, ""))[:LONGEST] for key in ("name", "value", "reason"))
    if what == "node" and thing == name and value in ORDERS:
        what, thing = "order", ORDERS[value]
    return Seen(float(at), name, what, thing, value, reason)
