"""Answers that leave the keeper by its own way to the clients, instead of through the tunnel.

A network may drop packets that come from a node to which it has no route, and no counter on a node shows that. So the
keeper sends **probes** from the floating address by that way to the carrier, which looks for them where packets of
clients come, and says which addresses it saw. Where none comes any more, answers go through the tunnel again.

A probe proves the way to the carrier, and not the one to each client. So the keeper also looks at its sockets: where
they repeat themselves, or the clients do, it believes no probe any more.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from floatip.core.addresses import Address

NONCE = 16
"""Octets: what a probe says. The carrier has told it to the keeper, and nobody else may send one."""
PROBE_INTERVAL = 1.0
NEW = 2.0
"""Seconds after answers have begun to leave directly in which connections are listed often."""
LISTS = 4
"""Lists of connections over which repeats of the clients are counted."""
MANY, MANY_OF = 2, 50
"""Connections that are stuck by now, and were not: two, or one of 50 where that is more. A filter may be before some
of the clients only; and to go through the tunnel where a few clients have vanished does no harm.
"""
REPEATS = 2
"""Of a client: one that is lost alone is no sign."""


class Probe(NamedTuple):
    nonce: bytes
    source: Address


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the connections of this machine fare."""

    waiting: int = 0
    """Connections that wait for the client to acknowledge something."""
    stuck: int = 0
    """Of these, those that have sent it for the third time."""
    repeats: int = 0
    """Segments that clients have sent though they were here already, on the whole machine, since it started."""


@dataclass(slots=True, eq=False)
class Belief:
    """Whether the keeper believes that its answers arrive by its own way."""

    probed_at: float = -math.inf
    disbelieved: bytes = b""
    """The nonce of the stream in which they did not."""
    why: str = ""
    """Why they did not."""
    is_used: bool = False
    """Answers leave that way."""
    since: float = -math.inf
    """Since when they do, or do not."""
    were_stuck: int = 0
    """Connections that were stuck already when that began, and still are."""
    lately: deque[tuple[int, int, float]] = field(default_factory=lambda: deque(maxlen=LISTS))
    """Repeats, accepted packets and when these were counted, at the last lists."""

    def use(self, is_used: bool, now: float) -> None:
        if is_used != self.is_used:
            self.is_used, self.since = is_used, now
            self.lately.clear()

    def is_new(self, now: float) -> bool:
        """Whether the sockets are to be looked at often: if answers do not arrive, all clients wait."""
        return self.is_used and now < self.since + NEW

    def look(self, pulse: Pulse, connections: int, accepted: int, counted_at: float, nonce: bytes) -> None:
        """`connections`: of the list. `accepted`: packets that came through the tunnel to a socket by `counted_at`."""
        if not self.is_used:
            self.were_stuck = pulse.stuck
            return
        self.were_stuck = min(self.were_stuck, pulse.stuck)
        stuck, waiting = pulse.stuck - self.were_stuck, pulse.waiting - self.were_stuck
        if not self.lately or counted_at > self.lately[-1][2]:
            self.lately.append((pulse.repeats, accepted, counted_at))
        first, last = self.lately[0], self.lately[-1]
        repeats, came = last[0] - first[0], last[1] - first[1]
        if stuck and (2 * stuck >= waiting or stuck >= max(MANY, connections / MANY_OF)):
            self.why = f"{stuck} of {waiting} connections that wait for a client to acknowledge something repeat it"
        elif repeats >= REPEATS and REPEATS <= came <= 2 * repeats:  # else another connection of the machine repeats
            self.why = f"clients repeat themselves: {came} packets came, and {repeats} on this machine had come before"
        else:
            return
        self.disbelieved = nonce
