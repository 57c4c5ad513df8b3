"""The lab's one BGP speaker: one session, from the OPEN to its end (RFC 4271). Pure; its users own sockets and clock.

It has no timer for dialling and no collisions, as each user opens exactly one connection a peer. Nothing of it is
shared with the daemon's session (`floatip.core.bgp.session`) but the parsing of messages: one finds the faults of the
other.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from math import inf

from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST, Code, split_attributes
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.update import EndOfRib, Update, split_update
from floatip.core.bgp.wire import Capabilities, Keepalive, Message, Open, RouteRefresh, Type, pack, parse, split
from floatip.core.malformed import Malformed

CAPABILITIES = Capabilities(
    families=frozenset({IPV4_UNICAST, IPV6_UNICAST}),
    extended_next_hop=frozenset({(1, 1, 2)}),
    route_refresh=True,
    four_octet_asn=True,
)
KEEPALIVE = pack(Keepalive())
OPEN_TIMEOUT = 240.0  # RFC 4271 section 8.2.2: the hold timer until the peer's OPEN is there


class PeeringEnded(Exception):
    """`last_words`: the NOTIFICATION to send before the connection is closed; empty if the peer ended it."""

    def __init__(self, reason: str, notification: Notification | None = None) -> None:
        super().__init__(reason)
        self.last_words = pack(notification) if notification else b""


class PeeringState(IntEnum):
    """The values are the subcodes of a state machine error in it (RFC 6608)."""

    OPEN_SENT = 1
    OPEN_CONFIRM = 2
    ESTABLISHED = 3


@dataclass(frozen=True)
class Speaker:
    asn: int
    router_id: IPv4Address
    hold_time: int = 9
    """Seconds, offered; 0: no KEEPALIVEs."""
    peer_asns: frozenset[int] | None = None
    """None: any."""

    def open(self) -> bytes:
        return pack(Open(self.asn, self.hold_time, self.router_id, CAPABILITIES))


@dataclass(slots=True)
class Peering:
    """A session whose connection is up and on which `speaker.open()` has been sent."""

    speaker: Speaker
    hold_at: float
    """When the peer must have said something; at first now + OPEN_TIMEOUT."""
    state: PeeringState = PeeringState.OPEN_SENT
    hold_time: int = 0
    keepalive_at: float = inf
    _four_octet_asn: bool = True
    _buffer: bytearray = field(default_factory=bytearray)

    @property
    def deadline(self) -> float:
        return min(self.hold_at, self.keepalive_at)

    def received(self, data: bytes, now: float) -> tuple[bytes, list[Update]]:
        """What to answer, and what the peer announced or withdrew. Raises PeeringEnded."""
        if data == KEEPALIVE and self.state is PeeringState.ESTABLISHED and not self._buffer:
            self._heard_from(now)  # nearly all that ever arrives
            return b"", []
        self._buffer += data
        answers, updates = b"", []
        try:
            for each in split(self._buffer):
                message = parse(each, four_octet_asn=self._four_octet_asn)
                _check_withdrawal(each)
                self._heard_from(now)
                if self.state is PeeringState.ESTABLISHED and isinstance(message, Update):
                    updates.append(message)
                else:
                    answers += self._take(message, now)
        except Malformed as error:
            raise PeeringEnded(error.what, Notification(error.code, error.subcode, error.data)) from error
        return answers, updates

    def tick(self, now: float) -> bytes:
        """What to send at `deadline`. Raises PeeringEnded."""
        if now >= self.hold_at:
            raise PeeringEnded("hold timer expired", Notification(4, 0))
        if now < self.keepalive_at:
            return b""
        self.keepalive_at = now + self.hold_time / 3
        return KEEPALIVE

    def _heard_from(self, now: float) -> None:
        if self.hold_time:
            self.hold_at = now + self.hold_time

    def _take(self, message: Message, now: float) -> bytes:
        match self.state, message:
            case PeeringState.OPEN_SENT, Open():
                return self._opened(message, now)
            case PeeringState.OPEN_CONFIRM, Keepalive():
                self.state = PeeringState.ESTABLISHED
            case PeeringState.ESTABLISHED, Keepalive() | EndOfRib() | RouteRefresh():
                pass
            case _, Notification():
                raise PeeringEnded(explain(message))
            case state, _:
                raise PeeringEnded(f"{type(message).__name__} in {state.name}", Notification(5, state))
        return b""

    def _opened(self, message: Open, now: float) -> bytes:
        if self.speaker.peer_asns is not None and message.asn not in self.speaker.peer_asns:
            raise PeeringEnded(f"AS {message.asn} is not a client", Notification(2, 2))
        self.state = PeeringState.OPEN_CONFIRM
        self._four_octet_asn = message.capabilities.four_octet_asn
        self.hold_time = min(self.speaker.hold_time, message.hold_time)
        self.hold_at = now + self.hold_time if self.hold_time else inf
        self.keepalive_at = now + self.hold_time / 3 if self.hold_time else inf
        return KEEPALIVE


def _check_withdrawal(message: bytes) -> None:
    """As OpenBGPD 9.2, the strictest peer that is known: it takes no withdrawal of IPv4 by MP_UNREACH_NLRI."""
    if message[18] == Type.UPDATE:
        attributes, _ = split_attributes(split_update(message[19:])[1])
        if attributes.get(Code.MP_UNREACH_NLRI, b"").startswith(b"\0\1\1"):
            raise PeeringEnded("IPv4 withdrawn by MP_UNREACH_NLRI", Notification(3, 9))
