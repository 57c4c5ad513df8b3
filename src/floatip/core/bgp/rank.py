"""How much a node wants a prefix: the ladder that lets the network itself pick the best announcer.

Route servers compare ranks by ordinary best-path rules (RFC 4271 section 9.1.2.2), so a rank is nothing but a choice of
attributes: community (the provider turns it into a local preference), AS path length, ORIGIN. Below the rank the MED
orders the nodes as a healed election would, so that equal ranks have one winner at every route server.
"""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

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


def med(priority: int, source: IPv4Address, rank: Rank, level: int = 1) -> int:
    """The MED that orders nodes as the election would: higher priority first, then the greater source address.

    It needs nothing but the node's own figures: the inverted priority in the second octet, the inverted low 16 bits of
    the address below it. Lower is better (RFC 4271 section 9.1.2.2 c). The first octet is the same for all but two: on
    the second takeover rung it falls with each further mastership, so that the latest wins; a sick node's is above
    every healthy node's, for networks that ignore the length of the path.
    """
    order = 0x80
    if rank is Rank.LAST_RESORT:
        order = 0xFF
    elif rank is Rank.TAKEOVER_AGAIN:
        order = max(0x80 - (level - 2), 0)
    return order << 24 | (255 - priority) << 16 | (~int(source) & 0xFFFF)
