"""A route server: it listens, learns routes from its clients and says which one is best.

Pure as the core is: connections are numbers, time is an argument, and what to do comes back as a list. The lab puts
sockets around it, the simulation virtual time. It stands in for one of the data centre's four route servers, so it
is as plain as they are: it announces nothing, and a silent client's routes stay until the hold time ends.
That stale route is what the failover has to beat.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from math import inf

from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST, Attributes, Prefix
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.update import EndOfRib, Update
from floatip.core.bgp.wire import Capabilities, Keepalive, Message, Open, RouteRefresh, pack, parse, split
from floatip.core.events import Address
from floatip.core.malformed import Malformed

PREFERENCE = {(65000, 1): 200, (65000, 2): 100}
"""Local preference by community, as Linode does it for primary and secondary."""
DEFAULT_PREFERENCE = 100
_KEEPALIVE = Keepalive()
OPEN_TIMEOUT = 240.0  # RFC 4271 section 8.2.2: the hold timer until the peer's OPEN is there


@dataclass(frozen=True, slots=True)
class Route:
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
    route: Route | None


Output = Send | Drop | BestChanged


def choose(routes: Iterable[Route]) -> Route | None:
    """The best path (RFC 4271 section 9.1): each step keeps the best, the next one decides among what is left."""
    left = list(routes)
    if len(left) > 1:
        best = min(map(_degree, left))
        left = [route for route in left if _degree(route) == best]
        # Step c: MED counts only among routes from one neighbouring AS.
        left = [route for route in left if not any(_has_lower_med(other, route) for other in left)]
    # Then the older route, which spares the network a change (RFC 5004), then the lower peer address.
    return min(left, key=lambda route: (route.learnt_at, route.peer.packed), default=None)


def _degree(route: Route) -> tuple[int, int, int]:
    attributes = route.attributes
    marked = (PREFERENCE[each] for each in attributes.communities if each in PREFERENCE)
    preference = max(marked, default=DEFAULT_PREFERENCE)
    return -preference, len(attributes.as_path), attributes.origin


def _has_lower_med(one: Route, other: Route) -> bool:
    same_neighbour = one.attributes.as_path[:1] == other.attributes.as_path[:1]
    return same_neighbour and (one.attributes.med or 0) < (other.attributes.med or 0)


class State(IntEnum):
    """Where a session is; the values are the subcodes of a state machine error in it (RFC 6608)."""

    OPEN_SENT = 1
    OPEN_CONFIRM = 2
    ESTABLISHED = 3


@dataclass(slots=True)
class Session:
    peer: Address
    hold_at: float
    state: State = State.OPEN_SENT
    hold_time: int = 0
    keepalive_at: float = inf
    four_octet_asn: bool = True
    buffer: bytearray = field(default_factory=bytearray)


class RouteServer:
    def __init__(
        self, asn: int, router_id: IPv4Address, hold_time: int = 9, peer_asns: frozenset[int] | None = None
    ) -> None:
        self._hold_time = hold_time
        self._peer_asns = peer_asns
        capabilities = Capabilities(
            families=frozenset({IPV4_UNICAST, IPV6_UNICAST}),
            extended_next_hop=frozenset({(1, 1, 2)}),
            route_refresh=True,
            four_octet_asn=True,
        )
        self._open = pack(Open(asn, hold_time, router_id, capabilities))
        self._keepalive = pack(_KEEPALIVE)
        self._sessions: dict[int, Session] = {}
        self._routes: dict[Prefix, dict[Address, Route]] = {}
        self._best: dict[Prefix, Route] = {}

    @property
    def deadline(self) -> float:
        return min((min(each.hold_at, each.keepalive_at) for each in self._sessions.values()), default=inf)

    def best(self, prefix: Prefix) -> Route | None:
        return self._best.get(prefix)

    def routes(self, prefix: Prefix) -> list[Route]:
        return sorted(self._routes.get(prefix, {}).values(), key=lambda route: route.peer.packed)

    def established(self) -> list[Address]:
        return [each.peer for each in self._sessions.values() if each.state is State.ESTABLISHED]

    def accepted(self, connection: int, peer: Address, now: float) -> list[Output]:
        # A client that crashed and is back must wait for the end of its old session: BIRD does not look whether
        # the old one is dead, and refuses (RFC 4486 subcode 7).
        if any(each.peer == peer for each in self._sessions.values()):
            refusal = Send(connection, pack(Notification(6, 7)))
            return [refusal, Drop(connection, f"{peer} has a session already")]
        self._sessions[connection] = Session(peer, hold_at=now + OPEN_TIMEOUT)
        return [Send(connection, self._open)]

    def received(self, connection: int, data: bytes, now: float) -> list[Output]:
        session = self._sessions.get(connection)
        if session is None:
            return []
        if data == self._keepalive and session.state is State.ESTABLISHED and not session.buffer:
            return self._heard(connection, session, _KEEPALIVE, now)  # nearly all that ever arrives
        session.buffer += data
        outputs: list[Output] = []
        try:
            for each in split(session.buffer):
                message = parse(each, four_octet_asn=session.four_octet_asn)
                outputs += self._heard(connection, session, message, now)
                if connection not in self._sessions:
                    break
        except Malformed as error:
            outputs += self._refuse(connection, Notification(error.code, error.subcode, error.data), error.what)
        return outputs

    def closed(self, connection: int, now: float) -> list[Output]:
        return self._forget(connection)

    def tick(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for connection, session in list(self._sessions.items()):
            if now >= session.hold_at:
                outputs += self._refuse(connection, Notification(4, 0), "hold timer expired")
            elif now >= session.keepalive_at:
                session.keepalive_at = now + session.hold_time / 3
                outputs.append(Send(connection, self._keepalive))
        return outputs

    def _heard(self, connection: int, session: Session, message: Message, now: float) -> list[Output]:
        if session.hold_time:
            session.hold_at = now + session.hold_time
        match session.state, message:
            case State.ESTABLISHED, Update():
                return self._update(session.peer, message, now)
            case State.ESTABLISHED, Keepalive() | EndOfRib() | RouteRefresh():
                return []
            case State.OPEN_SENT, Open():
                return self._opened(connection, session, message, now)
            case State.OPEN_CONFIRM, Keepalive():
                session.state = State.ESTABLISHED
                return []
            case _, Notification():
                return [Drop(connection, explain(message)), *self._forget(connection)]
            case state, _:
                what = f"{type(message).__name__} in {state.name}"
                return self._refuse(connection, Notification(5, state), what)

    def _opened(self, connection: int, session: Session, message: Open, now: float) -> list[Output]:
        if self._peer_asns is not None and message.asn not in self._peer_asns:
            return self._refuse(connection, Notification(2, 2), f"AS {message.asn} is not a client")
        session.state = State.OPEN_CONFIRM
        session.four_octet_asn = message.capabilities.four_octet_asn
        session.hold_time = min(self._hold_time, message.hold_time)
        session.hold_at = now + session.hold_time if session.hold_time else inf
        session.keepalive_at = now + session.hold_time / 3 if session.hold_time else inf
        return [Send(connection, self._keepalive)]

    def _refuse(self, connection: int, notification: Notification, reason: str) -> list[Output]:
        refusal = Send(connection, pack(notification))
        return [refusal, Drop(connection, reason), *self._forget(connection)]

    def _forget(self, connection: int) -> list[Output]:
        session = self._sessions.pop(connection, None)
        if session is None:
            return []
        lost = [prefix for prefix, routes in self._routes.items() if session.peer in routes]
        return self._learn(session.peer, dict.fromkeys(lost))

    def _update(self, peer: Address, update: Update, now: float) -> list[Output]:
        changes: dict[Prefix, Route | None] = dict.fromkeys(update.withdrawn)
        if update.attributes is not None:
            changes |= dict.fromkeys(update.announced, Route(peer, update.attributes, now))
        return self._learn(peer, changes)

    def _learn(self, peer: Address, changes: dict[Prefix, Route | None]) -> list[Output]:
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
