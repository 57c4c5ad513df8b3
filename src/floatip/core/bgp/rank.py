"""How much a node wants a prefix: the ladder that lets the network itself pick the best announcer.

Route servers compare ranks by ordinary best-path rules (RFC 4271 section 9.1.2.2), so a rank is nothing but a choice of
attributes: community (the provider turns it into a local preference), AS path length, ORIGIN. Below the rank the MED
orders the nodes as a healed election would, so that equal ranks have one winner at every route server.
"""

from dataclasses import dataclass
from enum import IntEnum

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Origin


class Rank(IntEnum):
    """From worst to best."""

    NONE = 0
    """Withdrawn."""
    LAST_RESORT = 1
    """Sick, but better than nothing."""
    STANDBY = 2
    """Healthy, not master."""
    ACTIVE = 3
    """Master, settled."""
    TAKEOVER = 4
    """Became master while the old master's route may still be around: beats its `ACTIVE` at once."""
    TAKEOVER_AGAIN = 5
    """The same when the old master may itself still be at `TAKEOVER`."""

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Marks:
    """What a rank looks like on the wire."""

    origin: Origin = Origin.INCOMPLETE
    path_length: int = 1
    communities: tuple[tuple[int, int], ...] = ()
    """Standard communities, each as (AS, value) (RFC 1997)."""


TAKEOVER_STEP, ACTIVE_STEP = 1 / 32, 2.0
"""Seconds in one step of the MED, where the latest master has the best."""


def med(
    priority: int,
    source: Address,
    rank: Rank,
    since: float = 0.0,
    *,
    in_fault: bool = False,
    latest_stays: bool = False,
) -> int:
    """The MED that orders nodes as the election would: higher priority first, then the greater source address.

    It needs nothing but the node's own figures: the inverted priority in the second octet, the inverted low 16 bits of
    the address below it. Lower is better (RFC 4271 section 9.1.2.2 c). That of a node in FAULT is above that of every
    other standby, and a sick node's above all, for networks that ignore the length of the path.

    On the takeover rungs the latest master wins instead, because the route of an earlier one may be stale. `since` is
    when this one became master, in seconds since the epoch. The MED falls by one step each 1/32 s, and begins again
    every six days. Of two that became master in one step, the greater address wins.

    `latest_stays`: so it is in the election too. Then settled masters, of a split network, are ordered in the same way,
    in steps of 2 s, which last for a year.
    """
    is_settled = rank is Rank.ACTIVE and latest_stays
    if is_settled or rank in (Rank.TAKEOVER, Rank.TAKEOVER_AGAIN):
        step = ACTIVE_STEP if is_settled else TAKEOVER_STEP
        return (~int(since / step) & 0xFFFFFF) << 7 | (~int(source) & 0x7F)
    order = 0xFF if rank is Rank.LAST_RESORT else 0xC0 if in_fault else 0x80
    return order << 24 | (255 - priority) << 16 | (~int(source) & 0xFFFF)
