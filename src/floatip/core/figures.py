"""What a node has counted: what `figures` on the control socket answers, and what `web/metrics.py` shows.

With 255 instances this must take the loop less than a millisecond, so rows are named tuples, which `json` writes as
lists, and counts are not copied: make JSON of what `collect` returns before the node goes on. `read` makes the same
types of the JSON. Moments are seconds of CLOCK_MONOTONIC.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from floatip.core.bgp.session import Session
from floatip.core.counters import Adverts, Histogram
from floatip.core.instance import Instance
from floatip.core.node import Node


class AdvertFigures(NamedTuple):
    sent: int
    received: int
    zero_sent: int
    zero_received: int
    other_addresses: int
    refused: list[int]
    """By `Refused`; empty: none was."""
    heard_at: float | None
    """When the latest came that was used."""


class InstanceFigures(NamedTuple):
    name: str
    interface: str
    """On which it elects; empty: it needs none."""
    turns: dict[str, int]
    """Changes of role by the new role and the cause, as "master silence"."""
    became_master: int
    released_master: int
    adverts: AdvertFigures | None
    """None: it elects without adverts."""


class SessionFigures(NamedTuple):
    peer: str
    peer_asn: int
    sent: list[int]
    """Messages by `bgp.wire.Type`."""
    received: list[int]
    announced: dict[str, int]
    """Prefixes that the peer has been told, by the rank that they have now."""


class HistogramFigures(NamedTuple):
    name: str
    """Of the check, or the phase."""
    counts: list[int]
    sum: float


class HistogramsFigures(NamedTuple):
    bounds: list[float]
    """Of all of them: the greatest value of each bucket but the last, in seconds."""
    each: list[HistogramFigures]


class Figures(NamedTuple):
    clock_ahead: float
    """Seconds from CLOCK_MONOTONIC to seconds since the epoch."""
    refused: list[int]
    """Adverts that belong to no instance, by `Refused`."""
    instances: list[InstanceFigures]
    sessions: list[SessionFigures]
    checks: HistogramsFigures
    """How long runs of the checks took; of one that answers unasked none are known."""
    phases: HistogramsFigures
    """How long takeovers of this node took."""
    lateness: HistogramsFigures
    """How much later than asked for the loop woke up."""


def collect(node: Node, phases: Mapping[str, Histogram], lateness: Histogram) -> Figures:
    return Figures(
        node.clock_ahead,
        node.refused,
        [_instance(instance) for instance in node.instances.values()],
        [_session(session) for session in node.sessions.values()],
        _histograms({name: check.duration for name, check in node.checks.items() if not check.config.pushed}),
        _histograms(phases),
        _histograms({"": lateness}),
    )


def read(data: dict[str, Any]) -> Figures:
    """Of `Figures._asdict()` as JSON. Raises KeyError, TypeError or ValueError where it is not that."""
    return Figures(
        data["clock_ahead"],
        data["refused"],
        [_read_instance(*one) for one in data["instances"]],
        [SessionFigures(*one) for one in data["sessions"]],
        _read_histograms(*data["checks"]),
        _read_histograms(*data["phases"]),
        _read_histograms(*data["lateness"]),
    )


def _read_instance(*values: Any) -> InstanceFigures:
    one = InstanceFigures(*values)
    return one._replace(adverts=AdvertFigures(*one.adverts)) if one.adverts else one


def _read_histograms(bounds: list[float], each: list[Any]) -> HistogramsFigures:
    return HistogramsFigures(bounds, [HistogramFigures(*one) for one in each])


def _instance(instance: Instance) -> InstanceFigures:
    elector = instance.elector
    turns, adverts = elector.turns, elector.adverts
    counted = _adverts(adverts) if adverts else None
    return InstanceFigures(
        instance.config.name, elector.interface, turns.by_cause, turns.became_master, turns.released_master, counted
    )


def _adverts(adverts: Adverts) -> AdvertFigures:
    return AdvertFigures(
        adverts.sent,
        adverts.received,
        adverts.zero_sent,
        adverts.zero_received,
        adverts.other_addresses,
        adverts.refused if any(adverts.refused) else [],
        adverts.heard_at if adverts.heard_at > -math.inf else None,
    )


def _session(session: Session) -> SessionFigures:
    announced = {rank.label: count for rank, count in Counter(session.told_ranks()).items()}
    peer_asn = session.speaker.peer_asn
    return SessionFigures(str(session.peer), peer_asn, session.sent, session.received_messages, announced)


def _histograms(named: Mapping[str, Histogram]) -> HistogramsFigures:
    """All with the same bounds."""
    bounds = next((one.bounds for one in named.values()), [])
    return HistogramsFigures(bounds, [HistogramFigures(name, one.counts, one.sum) for name, one in named.items()])
