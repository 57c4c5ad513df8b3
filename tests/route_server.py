"""A route server: it listens, learns routes from its clients and says which one is best.

Pure as the core is: connections are numbers, time is an argument, and what to do comes back as a list. It is as exact
as the tests need it, and the simulation plays it in virtual time; the lab's own is `floatip.lab.route_server_process`.
It announces nothing itself, and the routes of a silent client stay until the hold time ends: the failover has to beat
those stale routes.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from math import inf

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.wire import pack
from floatip.lab.best_path import BestChanged, LearntRoute, Routes
from tests.speaker import OPEN_TIMEOUT, Peering, PeeringEnded, PeeringState, Speaker


@dataclass(frozen=True, slots=True)
class Send:
    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection after what was sent so far."""

    connection: int
    reason: str


Output = Send | Drop | BestChanged


class RouteServer:
    def __init__(
        self, asn: int, router_id: IPv4Address, hold_time: int = 9, peer_asns: frozenset[int] | None = None
    ) -> None:
        self._speaker = Speaker(asn, router_id, hold_time, peer_asns)
        self._open = self._speaker.open()
        self._clients: dict[int, tuple[Address, Peering]] = {}
        """By connection."""
        self._routes = Routes()

    @property
    def deadline(self) -> float:
        return min((peering.deadline for _, peering in self._clients.values()), default=inf)

    def best(self, prefix: Prefix) -> LearntRoute | None:
        return self._routes.best(prefix)

    def routes(self, prefix: Prefix) -> list[LearntRoute]:
        return self._routes.of(prefix)

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
            outputs += self._routes.update(peer, update, now)
        return outputs

    def closed(self, connection: int, now: float) -> list[Output]:
        return self._forget(connection)

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
        return [*refusal, Drop(connection, str(end)), *self._forget(connection)]

    def _forget(self, connection: int) -> list[Output]:
        if connection not in self._clients:
            return []
        peer, _ = self._clients.pop(connection)
        return [*self._routes.forget(peer)]
