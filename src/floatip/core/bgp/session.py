"""One BGP session with a route server (RFC 4271 section 8), for a speaker that only dials and only announces.

       IDLE ──dial──> CONNECT ──TCP up──> OPEN_SENT ──OPEN──> OPEN_CONFIRM ──KEEPALIVE──> ESTABLISHED
        ^                │                    │                    │                           │
        └── 1 to 2 s ────┴────────────────────┴────────────────────┴───────────────────────────┘

The first dial comes at once; after that a new one each 1 to 2 s with jitter, without end. Only a peer that ends one
session after another soon after it came up is dialled ever less often (RFC 4271 8.1.1, DampPeerOscillations): routes
that flap disturb the whole network. There is no listening socket, so there are no collisions and no Active state.

Desired routes in, difference out: `announce` takes all routes, `change` what is different. The session remembers what
the peer has been told, and sends the difference when the connection is writable. At most one UPDATE a prefix is ever
pending, and bytes are made only when they can leave, so a peer that stops reading costs no memory.

A KEEPALIVE goes out every second, and before it the host is asked
whether everything so far was acknowledged: that is how a node notices that it is cut off long before a hold time ends.

All routes are said again half a minute after the session came up, and then every few minutes: a route server may lose
in silence what so young a session announces. An update that changes nothing disturbs nothing.

Refused on purpose: a hold time of 0 (a silent host would never lose its routes), graceful restart (stale routes are
black holes for a floating address). Received routes are counted and dropped; of their UPDATEs only the framing matters.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from floatip.core.addresses import Address
from floatip.core.bgp import wire
from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST, Attributes, Family, Prefix, family_of
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.trouble import Trouble, said
from floatip.core.bgp.update import EndOfRib, split_update
from floatip.core.bgp.wire import Capabilities
from floatip.core.events import Became, Close, Dial, Effect, Measure, SendBytes
from floatip.core.malformed import Malformed
from floatip.core.settings import Speaker

DIAL_TIMEOUT = 2.0
OPEN_TIMEOUT = 240.0  # RFC 4271 8.2.2: "a large value", four minutes suggested
SEND_HOLD_TIME = 480.0  # RFC 9687 section 4
KEEPALIVE = wire.pack(wire.Keepalive())
SHORT_LIVED = 30.0
MOST_DAMPED = 15.0
THE_WAY = (Trouble.HOLD_TIMER, Trouble.PEERS_HOLD_TIMER, Trouble.TIMED_OUT, Trouble.UNREACHABLE)
"""A way that is cut again and again is no fault of the peer's."""
BATCH = 250  # prefixes per write: a millisecond
FAMILIES = (IPV4_UNICAST, IPV6_UNICAST)

CEASE = 6
SHUTDOWN = 2
PEER_REMOVED = 3
CONFIGURATION_CHANGE = 6


class State(Enum):
    IDLE = "idle"
    CONNECT = "connect"
    OPEN_SENT = "open-sent"
    OPEN_CONFIRM = "open-confirm"
    ESTABLISHED = "established"


WELCOME = {
    State.OPEN_SENT: (1, {wire.Type.OPEN, wire.Type.NOTIFICATION}),
    State.OPEN_CONFIRM: (2, {wire.Type.KEEPALIVE, wire.Type.NOTIFICATION}),
    State.ESTABLISHED: (3, set(wire.Type) - {wire.Type.OPEN}),
}
"""In each state the subcode of what is not welcome (RFC 6608 section 4), and what is, before its content matters."""


@dataclass(frozen=True, slots=True)
class Route:
    """How much a prefix is wanted; the speaker's marks and the session's own address make attributes of it."""

    rank: Rank
    med: int | None = None


class Session:
    def __init__(self, peer: Address, speaker: Speaker, seed: int, now: float) -> None:
        self.peer = peer
        self.speaker = speaker
        self._measure, self._keepalive = Measure(peer), SendBytes(peer, KEEPALIVE)
        self.state = State.IDLE
        self.reason = "not tried yet"
        self.since = now
        self.hold_time = speaker.hold_time
        self.established_count = 0
        self.received_updates = 0
        self.malformed_messages = 0
        self.last_malformed = ""
        self._malformed_at = -math.inf
        self.sent_updates = 0
        self.sent, self.received_messages = wire.counters(), wire.counters()
        """Messages by `wire.Type`."""
        self.acknowledged_at = -math.inf
        """When the peer's TCP was last known to have everything."""
        self._desired: dict[Prefix, Route] = {}
        self._told: dict[Prefix, Attributes | None] = {}
        """None: told, and to be told again."""
        self._pending: dict[Prefix, None] = {}
        """Of which the peer may have to be told something, in order."""
        self._owes_end_of_rib = False
        self._attributes: dict[tuple[Route, int], Attributes | None] = {}
        self._local: Address | None = None
        self._offered = Capabilities()
        self._without_capabilities = False
        self._short_lived = 0
        """How many sessions in a row ended soon after they came up."""
        self._buffer = bytearray()
        self._writable = False
        self._dial_at = now
        self._dialled_at = now
        self._hold_at = math.inf
        self._keepalive_at = math.inf
        self._send_hold_at = math.inf
        """When to give up a peer that talks but does not read: no withdrawal would reach it (RFC 9687)."""
        self._repeat_at = math.inf
        self._seed = (seed ^ int(peer)) & 0xFFFFFFFF
        self.lost_because = ""
        """What the peer said last, that it was silent, or why the session was lost after it had been up."""
        self._trouble = Trouble.OTHER
        self._said = Trouble.OTHER
        """What the peer said since the session was last up."""
        self._news: set[str] = set()
        """What was said of it since it was last up: a peer that refuses each dial is not news each time."""

    @property
    def deadline(self) -> float:
        return min(self._dial_at, self._hold_at, self._send_hold_at, self._keepalive_at, self._repeat_at)

    def malformed_since(self, at: float) -> int:
        """How many messages were malformed, if one was since then."""
        return self.malformed_messages if self._malformed_at >= at else 0

    @property
    def is_connected(self) -> bool:
        return self.state not in (State.IDLE, State.CONNECT)

    @property
    def is_up(self) -> bool:
        return self.state is State.ESTABLISHED

    def carries(self, version: int) -> bool:
        """Whether prefixes of IP version 4 or 6 may go over this session."""
        return self._next_hop(version) is not None

    @property
    def announced(self) -> int:
        """How many prefixes the peer has been told."""
        return len(self._told)

    def told_ranks(self) -> Iterator[Rank]:
        """For each prefix that the peer has been told the rank that it is to have now."""
        return (route.rank for route in map(self._desired.get, self._told) if route)

    def tells(self, prefix: Prefix) -> bool:
        return prefix in self._told

    def has_told(self, prefix: Prefix) -> bool:
        """Whether the peer has been told the prefix as it is wanted now."""
        return prefix not in self._pending and self._told.get(prefix) is not None

    def announce(self, routes: Mapping[Prefix, Route], now: float) -> list[Effect]:
        """The whole set that this peer is to have from now on."""
        self._desired = dict(routes)
        self._attributes = {}  # a reload may have brought other marks
        self._pending = dict.fromkeys((*self._told, *self._desired))
        return self._update()

    def change(self, changes: Mapping[Prefix, Route | None]) -> list[Effect]:
        """What is to be different from now on; None: withdrawn."""
        for prefix, route in changes.items():
            if route is None:
                self._desired.pop(prefix, None)
            else:
                self._desired[prefix] = route
            self._pending[prefix] = None
        return self._update()

    def stop(self, subcode: int, text: str, now: float) -> list[Effect]:
        """Withdraw everything, cease (RFC 9003) and stay down."""
        effects: list[Effect] = []
        if self.is_connected:
            withdrawal = b"".join(wire.pack_routes((), self._told))
            shutdown = text.encode()[:128].decode(errors="ignore").encode()  # RFC 8203 2: whole characters
            data = bytes([len(shutdown)]) + shutdown if subcode == SHUTDOWN else b""
            effects.append(self._send(withdrawal + wire.pack(Notification(CEASE, subcode, data))))
        if self.state is not State.IDLE:
            effects.append(Close(self.peer))
        effects += self._enter(State.IDLE, text, now, Trouble.OTHER)
        self._dial_at = math.inf
        return effects

    def connected(self, local: Address, now: float) -> list[Effect]:
        if self.state is not State.CONNECT:
            return []
        self._local = local
        self._attributes = {}
        self._writable = False
        self._buffer.clear()
        self._enter(State.OPEN_SENT, "TCP is up, waiting for the peer's OPEN", now)
        self._hold_at = now + OPEN_TIMEOUT
        speaker = self.speaker
        own = Capabilities(
            families=frozenset(FAMILIES),
            extended_next_hop=frozenset({(1, 1, 2)}),
            route_refresh=True,
            four_octet_asn=True,
            hostname=speaker.hostname,
        )
        offer = Capabilities() if self._without_capabilities else own
        return [self._send(wire.pack(wire.Open(speaker.asn, speaker.hold_time, speaker.router_id, offer)))]

    def disconnected(self, reason: str, now: float, trouble: Trouble = Trouble.OTHER) -> list[Effect]:
        if self.state is State.IDLE:
            return []
        if self.state is State.OPEN_SENT:
            reason += " in answer to our OPEN"
            trouble = Trouble.ERROR_WAIT if self.established_count else Trouble.OPEN_REJECTED
        return self._drop(reason, now, trouble)

    def received(self, data: bytes, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if not self.is_connected:
            return effects  # from a connection that is no more
        if data == KEEPALIVE and self.state is State.ESTABLISHED and not self._buffer:
            self._hold_at = now + self.hold_time  # nearly all that ever arrives
            self.received_messages[wire.Type.KEEPALIVE] += 1
            return effects
        self._buffer += data
        try:
            for message in wire.split(self._buffer):
                effects += self._handle(message, now)
                if not self.is_connected:
                    break  # nothing is answered any more
        except Malformed as error:
            self.malformed_messages += 1
            self.last_malformed, self._malformed_at = error.what, now
            if self._buffer[18:19] == b"\x03":  # RFC 4271 6.4: no NOTIFICATION in answer to a NOTIFICATION
                what = f"malformed NOTIFICATION: {error.what}"
                return [*effects, Close(self.peer), *self._drop(what, now, Trouble.OTHER)]
            effects += self._refuse(Notification(error.code, error.subcode, error.data), error.what, now)
        return effects

    def writable(self) -> list[Effect]:
        self._writable = True
        return self._update()

    def measured(self, acknowledged: bool, now: float) -> None:
        if acknowledged and self.state is State.ESTABLISHED:
            self.acknowledged_at, self._send_hold_at = now, now + self._send_hold_time

    def tick(self, now: float) -> list[Effect]:
        if now >= self._dial_at:
            self._dial_at, self._dialled_at = math.inf, now
            self._enter(State.CONNECT, self.reason, now)
            return [Dial(self.peer, DIAL_TIMEOUT)]
        if now >= self._hold_at:
            return self._expire(now)
        if now >= self._send_hold_at:
            what = f"send hold timer expired: nothing acknowledged for {self._send_hold_time:g} s"
            return self._refuse(Notification(8, 0), what, now)
        if now >= self._repeat_at:
            self._repeat_at = now + self._spread(self.speaker.repeat_interval)
            return self._say_again(*FAMILIES)
        if now >= self._keepalive_at:
            self._keepalive_at += (now - self._keepalive_at) // 1 + 1  # the next one that is not past
            if self._writable:
                self._writable = False
                self.sent[wire.Type.KEEPALIVE] += 1
                return [self._measure, self._keepalive]
            return [self._measure]
        return []

    def _expire(self, now: float) -> list[Effect]:
        was_up = self.is_up
        waited = OPEN_TIMEOUT if self.state is State.OPEN_SENT else self.hold_time
        what = f"hold timer expired: nothing heard for {waited:g} s"
        effects = self._refuse(Notification(4, 0), what, now, Trouble.HOLD_TIMER)
        if not was_up:  # such a peer refuses the next dials, because it waits for this one
            self.lost_because, self._said = self.reason, Trouble.HOLD_TIMER
        return effects

    @property
    def _send_hold_time(self) -> float:
        return max(SEND_HOLD_TIME, 2 * self.hold_time)

    def _handle(self, data: bytes, now: float) -> list[Effect]:
        kind = wire.Type(data[18])
        self.received_messages[kind] += 1
        subcode, welcome = WELCOME[self.state]
        if kind not in welcome:
            return self._refuse(
                Notification(5, subcode, bytes((kind,))), f"unexpected {kind.name} in {self.state.value}", now
            )
        if kind is wire.Type.UPDATE:
            split_update(data[19:])
            self.received_updates += 1
            self._hold_at = now + self.hold_time
            return []
        match wire.parse(data):
            case Notification() as notification:
                # RFC 5492 3: a peer that knows no optional parameter is asked again without any
                self._without_capabilities = (notification.code, notification.subcode) == (2, 4)
                reason = f"the peer sent {explain(notification)}"
                effects = self._drop(reason, now, said(notification))
                self.lost_because, self._said = self.reason, said(notification)
                return [Close(self.peer), *effects]
            case wire.Open() as theirs:
                return self._open(theirs, now)
            case wire.Keepalive() if self.state is State.OPEN_CONFIRM:
                return self._establish(now)
            case wire.RouteRefresh(family):
                return self._say_again(family) if family in FAMILIES else []
        self._hold_at = now + self.hold_time
        return []

    def _open(self, theirs: wire.Open, now: float) -> list[Effect]:
        if theirs.asn != self.speaker.peer_asn:
            what = f"the peer's AS is {theirs.asn}, but peer_asn is {self.speaker.peer_asn}"
            return self._refuse(Notification(2, 2), what, now, Trouble.WRONG_PEER_AS)
        if theirs.hold_time == 0:
            what = "the peer proposed hold time 0; refused, because routes of a dead node would never expire"
            return self._refuse(Notification(2, 6), what, now, Trouble.HOLD_TIME_ZERO)
        self._offered = Capabilities() if self._without_capabilities else theirs.capabilities
        self.hold_time = min(self.speaker.hold_time, theirs.hold_time)
        self._hold_at = now + self.hold_time
        # On one beat for all sessions, so that an idle node wakes up once a second and not once a session. A hold time
        # below 6 s may not wait for it (RFC 4271 4.4).
        self._keepalive_at = min(now // 1 + 2, now + self.hold_time / 3)
        self._enter(State.OPEN_CONFIRM, "waiting for the peer's first KEEPALIVE", now)
        return [self._send(KEEPALIVE)]

    def _establish(self, now: float) -> list[Effect]:
        self.established_count += 1
        self.acknowledged_at, self._send_hold_at = now, now + self._send_hold_time
        self._hold_at = now + self.hold_time
        self._repeat_at = now + self._spread(self.speaker.first_repeat)
        self._without_capabilities = False  # the next session tries again
        self._told = {}
        self._pending = dict.fromkeys(self._desired)
        self._owes_end_of_rib = True
        return self._enter(State.ESTABLISHED, f"hold time {self.hold_time} s", now, Trouble.OTHER) + self._update()

    def _update(self) -> list[Effect]:
        """The difference between what the peer should have and what it was told, as far as it can leave now."""
        if self.state is not State.ESTABLISHED or not self._writable or not (self._pending or self._owes_end_of_rib):
            return []
        changed: list[tuple[Prefix, Attributes]] = []
        gone: list[Prefix] = []
        while self._pending and len(changed) + len(gone) < BATCH:
            prefix = next(iter(self._pending))
            del self._pending[prefix]
            route = self._desired.get(prefix)
            attributes = None if route is None else self._encode(prefix, route)
            if attributes is not None and self._told.get(prefix) != attributes:
                changed.append((prefix, attributes))
                self._told[prefix] = attributes
            elif attributes is None and prefix in self._told:
                gone.append(prefix)
                del self._told[prefix]
        messages = list(wire.pack_routes(changed, gone, four_octet_asn=self._offered.four_octet_asn))
        self.sent_updates += len(messages)
        if self._owes_end_of_rib and not self._pending:
            self._owes_end_of_rib = False
            messages += [wire.pack(EndOfRib(family)) for family in FAMILIES if family in self._offered.families]
        return [self._send(b"".join(messages))] if messages else []

    def _say_again(self, *families: Family) -> list[Effect]:
        again = [prefix for prefix in self._told if family_of(prefix) in families]
        self._told |= dict.fromkeys(again)
        self._pending |= dict.fromkeys(again)
        return self._update()

    def _encode(self, prefix: Prefix, route: Route) -> Attributes | None:
        """None: this session cannot carry the prefix."""
        key = route, prefix.version
        if key not in self._attributes:
            self._attributes[key] = self._make_attributes(*key)
        return self._attributes[key]

    def _make_attributes(self, route: Route, version: int) -> Attributes | None:
        speaker, marks = self.speaker, self.speaker.marks[route.rank]
        if (next_hop := self._next_hop(version)) is None:
            return None
        return Attributes(
            next_hop=next_hop,
            origin=marks.origin,
            as_path=(speaker.asn,) * marks.path_length,
            med=route.med if speaker.med == "election" else speaker.med,
            communities=marks.communities,
            large_communities=speaker.large_communities.get(route.rank, ()),
        )

    def _next_hop(self, version: int) -> Address | None:
        """For prefixes of IP version 4 or 6, the configured one first; None: the peer does not take it."""
        offered = self._offered
        own = [hop for hop in (*self.speaker.next_hops, self._local) if hop is not None]
        if version == 6:
            return next((hop for hop in own if hop.version == 6 and IPV6_UNICAST in offered.families), None)
        # RFC 4760 8: who names no family takes IPv4. RFC 8950 4: but by IPv6 only who says so.
        takes_ipv4 = IPV4_UNICAST in offered.families or not offered.families
        extended = (1, 1, 2) in offered.extended_next_hop
        return next((hop for hop in own if takes_ipv4 and (hop.version == 4 or extended)), None)

    def _send(self, data: bytes) -> SendBytes:
        self._writable = False
        wire.count(data, self.sent)
        return SendBytes(self.peer, data)

    def _refuse(
        self, notification: Notification, what: str, now: float, trouble: Trouble = Trouble.OTHER
    ) -> list[Effect]:
        return [self._send(wire.pack(notification)), Close(self.peer), *self._drop(what, now, trouble)]

    def _drop(self, reason: str, now: float, trouble: Trouble) -> list[Effect]:
        pause = self.speaker.retry_interval * (1 + self._jitter())
        if self.is_up:
            is_short = now - self.since < SHORT_LIVED and trouble not in THE_WAY
            self._short_lived = self._short_lived + 1 if is_short else 0
            if self._short_lived > 1:
                pause = max(pause, min(MOST_DAMPED, pause * 2 ** min(self._short_lived - 1, 10)))
                reason += f"; {self._short_lived} sessions in a row ended within {SHORT_LIVED:g} s of coming up, so "
                reason += f"the next dial is {pause:.0f} s after the last"
        effects = self._enter(State.IDLE, reason, now, trouble)
        self._dial_at = max(now, self._dialled_at + pause)
        return effects

    def _spread(self, interval: float) -> float:
        """A little longer, so that the sessions do not all speak at once."""
        return interval * (1 + self._jitter() / 10)

    def _jitter(self) -> float:
        """0 to 1, from the seed alone (a linear congruential generator), so that a replay is exact."""
        self._seed = (self._seed * 1664525 + 1013904223) & 0xFFFFFFFF
        return self._seed / 0x100000000

    @property
    def hint(self) -> str:
        """What a person can try while it is down: a peer that hangs up without a word has said why before."""
        trouble = self._trouble
        if trouble in (Trouble.OPEN_REJECTED, Trouble.ERROR_WAIT):
            is_waiting = trouble is Trouble.ERROR_WAIT and self._said in (Trouble.HOLD_TIMER, Trouble.PEERS_HOLD_TIMER)
            trouble = self._said if self._said in self.speaker.hints and not is_waiting else trouble
        # A peer that drops our packets for their TTL opens a connection, and is silent on it for a hold time.
        is_shown = self.state in (State.IDLE, State.CONNECT) or trouble is Trouble.HOLD_TIMER
        return self.speaker.hints.get(trouble, "") if is_shown else ""

    @property
    def why(self) -> str:
        """Why it is as it is; what it was lost by stands first, because each further dial would hide it."""
        if self.is_up or self.lost_because in ("", self.reason):
            return self.reason
        return f"{self.lost_because}; since then: {self.reason}"

    def _enter(self, state: State, reason: str, now: float, trouble: Trouble | None = None) -> list[Effect]:
        """`trouble`: None, as before."""
        if (state is State.ESTABLISHED) != self.is_up:
            self.since = now
            self._news.clear()
            self.lost_because = reason if self.is_up else self.lost_because
            self._said = Trouble.OTHER
        self.state, self.reason = state, reason
        self._trouble = self._trouble if trouble is None else trouble
        if state is State.IDLE:
            self._told, self._writable = {}, False
            self._hold_at = self._send_hold_at = self._keepalive_at = self._repeat_at = math.inf
        if state not in (State.IDLE, State.ESTABLISHED) or reason in self._news:
            return []  # the steps on the way, and each further refusal, are not news
        self._news.add(reason)
        value = "up" if state is State.ESTABLISHED else "down"
        return [Became("session", str(self.peer), value, reason, self.hint)]
