"""A route server: it listens, learns routes from its clients and says which one is best.

Pure as the core is: connections are numbers, time is an argument, and what to do comes back as a list. The lab puts
sockets around it, the simulation virtual time. It stands in for one of the data centre's four route servers, so it
announces nothing itself, and the routes of a silent client stay until the hold time ends: the failover has to beat
those stale routes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from math import inf

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import pack
from floatip.lab.speaker import OPEN_TIMEOUT, Peering, PeeringEnded, PeeringState, Speaker

PREFERENCE = {(65000, 1): 200, (65000, 2): 100}
"""Local preference by community, as Linode does it for primary and secondary."""
DEFAULT_PREFERENCE = 100


@dataclass(frozen=True, slots=True)
class LearntRoute:
    peer: Address
    attributes: Attributes
    learnt_at: float


@dataclass(frozen=True, slots=True)
class Send:
    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection after what was sent so far."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class BestChanged:
    prefix: Prefix
    route: LearntRoute | None


Output = Send | Drop | BestChanged


def choose(routes: Iterable[LearntRoute]) -> LearntRoute | None:
    """The best path (RFC 4271 section 9.1): each step keeps the best, the next one decides among what is left."""
    left = list(routes)
    if len(left) > 1:
        best = min(map(_degree, left))
        left = [route for route in left if _degree(route) == best]
        # Step c: MED counts only among routes from one neighbouring AS.
        left = [route for route in left if not any(_has_lower_med(other, route) for other in left)]
    # Then the older route, which spares the network a change (RFC 5004), then the lower peer address.
    return min(left, key=lambda route: (route.learnt_at, route.peer.packed), default=None)


def _degree(route: LearntRoute) -> tuple[int, int, int]:
    attributes = route.attributes
    marked = (PREFERENCE[each] for each in attributes.communities if each in PREFERENCE)
    preference = max(marked, default=DEFAULT_PREFERENCE)
    return -preference, len(attributes.as_path), attributes.origin


def _has_lower_med(one: LearntRoute, other: LearntRoute) -> bool:
    same_neighbour = one.attributes.as_path[:1] == other.attributes.as_path[:1]
    return same_neighbour and (one.attributes.med or 0) < (other.attributes.med or 0)


class RouteServer:
    def __init__(
        self, asn: int, router_id: IPv4Address, hold_time: int = 9, peer_asns: frozenset[int] | None = None
    ) -> None:
        self._speaker = Speaker(asn, router_id, hold_time, peer_asns)
        self._open = self._speaker.open()
        self._clients: dict[int, tuple[Address, Peering]] = {}
        """By connection."""
        self._routes: dict[Prefix, dict[Address, LearntRoute]] = {}
        self._best: dict[Prefix, LearntRoute] = {}

    @property
    def deadline(self) -> float:
        return min((peering.deadline for _, peering in self._clients.values()), default=inf)

    def best(self, prefix: Prefix) -> LearntRoute | None:
        return self._best.get(prefix)

    def routes(self, prefix: Prefix) -> list[LearntRoute]:
        return sorted(self._routes.get(prefix, {}).values(), key=lambda route: route.peer.packed)

    def established(self) -> list[Address]:
        return [peer for peer, peering in self._clients.values() if peering.state is PeeringState.ESTABLISHED]

    def accepted(self, connection: int, peer: Address, now: float) -> list[Output]:
        # A client that crashed and is back must wait for the end of its old session: BIRD does not look whether
        # the old one is dead, and refuses (RFC 4486 subcode 7).
        if any(peer == each for each, _ in self._clients.values()):
            refusal = Send(connection, pack(Notification(6, 7)))
            return [refusal, Drop(connection, f"{peer} has a session already")]
        self._clients[connection] = peer, Peering(self._speaker, hold_at=now + OPEN_TIMEOUT)
        return [Send(connection, self._open)]

    def received(self, connection: int, data: bytes, now: float) -> list[Output]:
        if connection not in self._clients:
            return []
        peer, peering = self._clients[connection]
        try:
            answers, updates = peering.received(data, now)
        except PeeringEnded as end:
            return self._drop(connection, end)
        outputs: list[Output] = [Send(connection, answers)] if answers else []
        for update in updates:
            outputs += self._update(peer, update, now)
        return outputs

    def closed(self, connection: int) -> list[Output]:
        if connection not in self._clients:
            return []
        peer, _ = self._clients.pop(connection)
        lost = [prefix for prefix, routes in self._routes.items() if peer in routes]
        return self._learn(peer, dict.fromkeys(lost))

    def tick(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for connection, (_, peering) in list(self._clients.items()):
            try:
                beat = peering.tick(now)
            except PeeringEnded as end:
                outputs += self._drop(connection, end)
            else:
                outputs += [Send(connection, beat)] if beat else []
        return outputs

    def _drop(self, connection: int, end: PeeringEnded) -> list[Output]:
        refusal: list[Output] = [Send(connection, end.last_words)] if end.last_words else []
        return [*refusal, Drop(connection, str(end)), *self.closed(connection)]

    def _update(self, peer: Address, update: Update, now: float) -> list[Output]:
        changes: dict[Prefix, LearntRoute | None] = dict.fromkeys(update.withdrawn)
        if update.attributes is not None:
            changes |= dict.fromkeys(update.announced, LearntRoute(peer, update.attributes, now))
        return self._learn(peer, changes)

    def _learn(self, peer: Address, changes: dict[Prefix, LearntRoute | None]) -> list[Output]:
        outputs: list[Output] = []
        for prefix, route in changes.items():
            routes = self._routes.setdefault(prefix, {})
            old = routes.pop(peer, None)
            if route is not None:
                # Said again, it is as old as it was.
                routes[peer] = old if old is not None and old.attributes == route.attributes else route
            best = choose(routes.values())
            if best != self._best.get(prefix):
                self._best.pop(prefix, None)
                if best is not None:
                    self._best[prefix] = best
                outputs.append(BestChanged(prefix, best))
        return outputs
