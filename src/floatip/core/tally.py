"""The figures of a node. Counts are not copied: make JSON of them before the node goes on."""

import math
from collections import Counter
from collections.abc import Mapping

from floatip.core.bgp.session import Session
from floatip.core.counters import Adverts, Histogram
from floatip.core.figures import (
    AdvertFigures,
    Figures,
    HistogramFigures,
    HistogramsFigures,
    InstanceFigures,
    SessionFigures,
)
from floatip.core.instance import Instance
from floatip.core.node import Node


def collect(node: Node, phases: Mapping[str, Histogram], lateness: Histogram) -> Figures:
    return Figures(
        node.clock_ahead,
        node.refused,
        [_instance(instance) for instance in node.instances.values()],
        [_session(session) for session in node.sessions.values()],
        _histograms({name: check.duration for name, check in node.checks.items() if check.is_asked}),
        _histograms(phases),
        _histograms({"": lateness}),
    )


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
