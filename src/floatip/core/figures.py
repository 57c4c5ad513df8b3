"""What a node has counted: what `figures` on the control socket answers, and what `web/metrics.py` shows.

The daemon's loop makes it, with 255 instances too, so rows are named tuples, which `json` writes as lists. `read` makes
the same types of the JSON. `core/tally.py` collects it. Moments are seconds of CLOCK_MONOTONIC.
"""

from typing import Any, NamedTuple

MESSAGES = "open", "update", "notification", "keepalive", "route-refresh"
"""From 1 on, as BGP numbers them."""


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
    """Messages by type (`MESSAGES`)."""
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
