"""A BGP session, message by message (RFC 4271 section 8), and back to back with the lab's route server."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise
from typing import Any

import pytest

from floatip.core.addresses import Address
from floatip.core.bgp import session as bgp
from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST, Attributes, Origin, Prefix
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.session import Route, Session, State
from floatip.core.bgp.trouble import Trouble
from floatip.core.bgp.update import EndOfRib, Update
from floatip.core.bgp.wire import Capabilities, Keepalive, Message, Open, RouteRefresh, pack, parse, split
from floatip.core.events import Became, Close, Dial, Effect, Measure, SendBytes
from floatip.core.settings import Speaker
from floatip.lab.route_server import RouteServer, Send

PEER, LOCAL = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::227")
ROUTER_ID = IPv4Address("10.0.0.1")
MARKS = {rank: Marks(communities=((65000, rank),)) for rank in Rank}
V4, V6 = IPv4Network("192.0.2.10/32"), IPv6Network("2001:db8:f::10/128")
ACTIVE, STANDBY = Route(Rank.ACTIVE, 7), Route(Rank.STANDBY, 7)
BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})
THEIRS = Capabilities(BOTH, frozenset({(1, 1, 2)}), route_refresh=True, four_octet_asn=True)
KEEPALIVE = pack(Keepalive())


def attributes(route: Route, next_hop: Address = LOCAL) -> Attributes:
    return Attributes(next_hop, Origin.INCOMPLETE, (65001,), route.med, ((65000, route.rank),))


def theirs(asn: int = 65000, hold_time: int = 9, capabilities: Capabilities = THEIRS) -> bytes:
    return pack(Open(asn, hold_time, ROUTER_ID, capabilities))


def made(peer: Address = PEER, seed: int = 1, **speaker: Any) -> Session:
    config = Speaker(65001, 65000, ROUTER_ID, (peer,), MARKS, **speaker)
    return Session(peer, config, seed, now=0)


def open_sent(**config: Any) -> Session:
    session = made(**config)
    session.tick(0)
    session.connected(LOCAL if session.peer.version == 6 else IPv4Address("10.0.0.227"), 0)
    session.writable()
    return session


def open_confirm(their_open: bytes = theirs(), **config: Any) -> Session:
    session = open_sent(**config)
    session.received(their_open, 0)
    session.writable()
    return session


def established(their_open: bytes = theirs(), **config: Any) -> Session:
    """Since 0 s; writable, and has said all that it had to say: nothing."""
    session = open_confirm(their_open, **config)
    session.received(KEEPALIVE, 0)
    session.writable()
    return session


def said(effects: Iterable[Effect], *, four_octet_asn: bool = True) -> list[Message]:
    buffer = bytearray(b"".join(effect.data for effect in effects if isinstance(effect, SendBytes)))
    messages = [parse(each, four_octet_asn=four_octet_asn) for each in split(buffer)]
    assert not buffer
    return messages


# Dial and retry


def test_the_first_dial_comes_at_once() -> None:
    session = made()
    assert session.deadline == 0
    assert session.tick(0) == [Dial(PEER, 2.0)]
    assert (session.state, session.deadline, session.tick(100)) == (State.CONNECT, float("inf"), [])


def dialled(seed: int) -> list[float]:
    """When a peer that refuses every connection is dialled."""
    session, times = made(seed=seed), []
    for _ in range(30):
        times.append(session.deadline)
        assert session.tick(session.deadline) == [Dial(PEER, 2.0)]
        session.disconnected("connection refused", times[-1])
    return times


def test_a_refused_connection_is_tried_again_each_1_to_2_s_for_ever() -> None:
    pauses = [after - before for before, after in pairwise(dialled(seed=1))]
    assert 1 <= min(pauses) < 1.3
    assert 1.7 < max(pauses) <= 2


def test_the_pauses_come_from_the_seed_alone() -> None:
    assert dialled(seed=1) == dialled(seed=1)
    assert dialled(seed=1) != dialled(seed=2)


def ended_after(session: Session, up_for: float) -> float:
    """Dialled, up for so long and ended by the peer; the pause from that dial to the next."""
    dialled_at = session.deadline
    session.tick(dialled_at)
    session.connected(LOCAL, dialled_at)
    session.received(theirs() + KEEPALIVE, dialled_at)
    assert session.is_up
    session.received(pack(Notification(6, 1)), dialled_at + up_for)
    return session.deadline - dialled_at


def test_a_peer_that_ends_one_session_after_another_is_dialled_ever_less_often_and_the_status_says_so() -> None:
    session = made()
    pauses = [ended_after(session, up_for=0.1) for _ in range(2000)]
    for pause, least in zip(pauses, [1, 2, 4, 8, 15], strict=False):
        assert least <= pause <= min(15, 2 * least)
    assert all(14 < pause <= 15 for pause in pauses[4:])
    assert session.why == (
        "the peer sent Cease: Maximum Number of Prefixes Reached; 2000 sessions in a row ended within 30 s of coming "
        "up, so the next dial is 15 s after the last"
    )


def test_a_session_that_lasts_ends_the_damping_and_a_refused_connection_is_not_damped() -> None:
    session = made()
    for _ in range(6):
        ended_after(session, up_for=0.1)
    session.tick(at := session.deadline)
    session.disconnected("connection refused", at)
    assert 1 <= session.deadline - at <= 2
    assert ended_after(session, up_for=0.1) > 14
    assert ended_after(session, up_for=31) == 31
    assert ended_after(session, up_for=0.1) <= 2
    assert "in a row" not in session.reason


@pytest.mark.parametrize("code", [(4, 0), None])
def test_a_way_that_is_cut_again_and_again_is_not_damped(code: tuple[int, int] | None) -> None:
    session = made()
    for _ in range(6):
        session.tick(at := session.deadline)
        session.connected(LOCAL, at)
        session.received(theirs() + KEEPALIVE, at)
        ended_at = at + 9
        if code:
            session.received(pack(Notification(*code)), ended_at)
        else:
            session.disconnected("timed out", ended_at, Trouble.TIMED_OUT)
        assert session.deadline == ended_at


def test_a_dial_that_timed_out_is_followed_by_the_next() -> None:
    session = made()
    session.tick(0)
    assert session.disconnected("timed out", 2.0) == [Became("session", str(PEER), "down", "timed out")]
    assert session.deadline == 2.0


def test_only_a_reason_not_yet_given_is_news() -> None:
    session = made()
    reasons = ["refused", "refused", "no route", "refused"]
    news: list[Effect] = []
    for reason in reasons:
        session.tick(session.deadline)
        news += session.disconnected(reason, session.deadline)
    assert [each.reason for each in news if isinstance(each, Became)] == ["refused", "no route"]


def test_a_peer_that_hangs_up_after_our_open_is_named_as_such() -> None:
    session = open_sent()
    session.disconnected("the peer closed", 0.1)
    assert session.reason == "the peer closed in answer to our OPEN"
    assert 1 <= session.deadline <= 2


def test_a_connection_that_nobody_asked_for_is_ignored() -> None:
    assert made().connected(LOCAL, 0) == []
    assert made().disconnected("gone", 0) == []


# OPEN


def test_our_open_offers_what_a_speaker_of_both_families_needs() -> None:
    session = made(hostname="haproxy1", hold_time=30)
    session.tick(0)
    ours = Capabilities(BOTH, frozenset({(1, 1, 2)}), route_refresh=True, four_octet_asn=True, hostname="haproxy1")
    assert said(session.connected(LOCAL, 0)) == [Open(65001, 30, ROUTER_ID, ours)]


@pytest.mark.parametrize(
    ("their_open", "answer", "reason"),
    [
        (theirs(asn=65099), Notification(2, 2), "the peer's AS is 65099, but peer_asn is 65000"),
        (
            theirs(hold_time=0),
            Notification(2, 6),
            "the peer proposed hold time 0; refused, because routes of a dead node would never expire",
        ),
        (theirs(hold_time=2), Notification(2, 6), "hold time of 2 s"),
        (theirs()[:19] + b"\3" + theirs()[20:], Notification(2, 1, b"\0\4"), "BGP version 3"),
    ],
)
def test_an_open_that_does_not_suit_is_refused(their_open: bytes, answer: Notification, reason: str) -> None:
    session = open_sent()
    effects = session.received(their_open, 0.1)
    assert said(effects) == [answer]
    assert effects[1:] == [Close(PEER), Became("session", str(PEER), "down", reason)]
    assert 1 <= session.deadline <= 2


@pytest.mark.parametrize(("ours", "their", "negotiated"), [(9, 90, 9), (90, 9, 9), (9, 3, 3)])
def test_the_smaller_hold_time_counts(ours: int, their: int, negotiated: int) -> None:
    session = established(theirs(hold_time=their), hold_time=ours)
    assert session.hold_time == negotiated
    assert session.tick(negotiated - 0.1)[0] == Measure(PEER)
    assert said(session.tick(negotiated)) == [Notification(4, 0)]


def test_their_open_is_answered_by_a_keepalive_and_their_keepalive_establishes() -> None:
    session = open_sent()
    assert said(session.received(theirs(), 0.1)) == [Keepalive()]
    assert session.state is State.OPEN_CONFIRM
    session.writable()
    effects = session.received(KEEPALIVE, 0.2)
    assert effects[0] == Became("session", str(PEER), "up", "hold time 9 s")
    assert said(effects) == [EndOfRib(IPV4_UNICAST), EndOfRib(IPV6_UNICAST)]
    assert (session.is_up, session.since, session.acknowledged_at) == (True, 0.2, 0.2)


# Hold timer and keepalives


@pytest.mark.parametrize(
    ("make", "at", "reason"),
    [
        (open_sent, 240.0, "hold timer expired: nothing heard for 240 s"),
        (open_confirm, 9.0, "hold timer expired: nothing heard for 9 s"),
        (established, 9.0, "hold timer expired: nothing heard for 9 s"),
    ],
)
def test_a_silent_peer_is_given_up_when_the_hold_time_ends(make: Callable[[], Session], at: float, reason: str) -> None:
    session = make()
    session.tick(at - 0.01)
    effects = session.tick(at)
    assert said(effects) == [Notification(4, 0)]
    assert effects[1:] == [Close(PEER), Became("session", str(PEER), "down", reason)]
    assert at <= session.deadline <= at + 2


@pytest.mark.parametrize("message", [Keepalive(), Update(withdrawn=(V6,)), EndOfRib(IPV4_UNICAST)])
def test_each_keepalive_and_update_restarts_the_hold_timer(message: Message) -> None:
    session = established()
    session.received(pack(message), 8)
    session.tick(16.9)
    assert session.is_up
    assert said(session.tick(17)) == [Notification(4, 0)]


@pytest.mark.parametrize("hold_time", [3, 9, 90])
def test_a_keepalive_leaves_every_second_and_before_it_is_asked_what_was_acknowledged(hold_time: int) -> None:
    session = established(theirs(hold_time=hold_time), hold_time=hold_time)
    for second in range(1 if hold_time == 3 else 2, 20):
        session.received(KEEPALIVE, second - 0.5)
        assert session.deadline == second
        assert session.tick(second - 0.01) == []
        assert session.tick(second) == [Measure(PEER), SendBytes(PEER, KEEPALIVE)]
        session.writable()


def test_a_peer_that_stops_reading_gets_no_keepalives_but_is_measured() -> None:
    session = established()
    assert session.tick(2) == [Measure(PEER), SendBytes(PEER, KEEPALIVE)]
    assert session.tick(3) == session.tick(4) == [Measure(PEER)]


def test_the_keepalives_of_all_sessions_leave_on_one_beat_and_never_within_a_second_of_the_last() -> None:
    late, later = established(), established()
    for session, at in ((late, 2.2), (later, 2.9)):
        session.disconnected("reset", at - 0.1)
        session.tick(session.deadline)
        session.connected(LOCAL, at)
        session.writable()
        session.received(theirs() + KEEPALIVE, at)
    assert late.deadline == later.deadline == 4


def test_only_an_acknowledgement_is_remembered() -> None:
    session = established()
    session.measured(True, 1)
    session.measured(False, 2)
    assert session.acknowledged_at == 1
    unopened = open_confirm()
    unopened.measured(True, 1)
    assert unopened.acknowledged_at < 0


@pytest.mark.parametrize(("hold_time", "expires_at"), [(9, 480), (300, 600)])
def test_a_peer_that_talks_but_does_not_read_is_given_up(hold_time: int, expires_at: int) -> None:
    session = established(theirs(hold_time=hold_time), hold_time=hold_time)
    session.tick(1)
    for second in range(1, expires_at):
        session.received(KEEPALIVE, second)
        session.measured(False, second)
        session.tick(second)
    assert session.is_up
    effects = session.tick(expires_at)
    assert said(effects) == [Notification(8, 0)]
    reason = f"send hold timer expired: nothing acknowledged for {expires_at} s"
    assert effects[1:] == [Close(PEER), Became("session", str(PEER), "down", reason)]


# What is not welcome


@pytest.mark.parametrize(
    ("make", "message", "subcode"),
    [
        (open_sent, Keepalive(), 1),
        (open_sent, Update(withdrawn=(V6,)), 1),
        (open_sent, RouteRefresh(IPV4_UNICAST), 1),
        (open_confirm, theirs(), 2),
        (open_confirm, Update(withdrawn=(V6,)), 2),
        (open_confirm, RouteRefresh(IPV4_UNICAST), 2),
        (established, theirs(), 3),
        # whatever is wrong in it
        (open_sent, b"\xff" * 16 + b"\0\x17\2" + b"\xff" * 4, 1),
        (established, theirs()[:19] + b"\3" + theirs()[20:], 3),
    ],
)
def test_an_unexpected_message_is_refused_with_its_type(
    make: Callable[[], Session], message: Message | bytes, subcode: int
) -> None:
    data = message if isinstance(message, bytes) else pack(message)
    session = make()
    effects = session.received(data, 0.1)
    assert said(effects) == [Notification(5, subcode, data[18:19])]
    assert Close(PEER) in effects
    assert session.state is State.IDLE


@pytest.mark.parametrize("make", [open_sent, open_confirm, established])
def test_a_notification_is_believed_and_not_answered(make: Callable[[], Session]) -> None:
    session = make()
    effects = session.received(pack(Notification(6, 2, b"\x07upgrade")), 0.1)
    reason = 'the peer sent Cease: Administrative Shutdown ("upgrade")'
    assert effects == [Close(PEER), Became("session", str(PEER), "down", reason)]


@pytest.mark.parametrize("make", [open_sent, open_confirm, established])
@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\xff" * 16 + b"\0\x14\3\6", []),
        (b"\xff" * 16 + b"\0\x13\x09", [Notification(1, 3, b"\x09")]),
        (b"\xff" * 16 + b"\0\x12\4", [Notification(1, 2, b"\0\x12")]),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", [Notification(1, 1)]),
    ],
    ids=["a malformed NOTIFICATION", "an unknown type", "a wrong length", "no marker"],
)
def test_what_is_malformed_closes_the_session_and_only_a_notification_is_not_answered(
    make: Callable[[], Session], data: bytes, answer: list[Message]
) -> None:
    session = make()
    effects = session.received(data, 0.1)
    assert said(effects) == answer
    assert [each for each in effects if isinstance(each, Close)] == [Close(PEER)]
    assert session.state is State.IDLE


@pytest.mark.parametrize("behind", [KEEPALIVE, b"\0" * 19, theirs()])
def test_what_comes_behind_an_error_is_not_answered_any_more(behind: bytes) -> None:
    session = open_sent()
    effects = session.received(KEEPALIVE + behind, 0.1)
    assert said(effects) == [Notification(5, 1, b"\4")]
    assert session.received(behind, 0.2) == []
    session.tick(session.deadline)
    assert session.received(behind, 3) == []
    assert session.state is State.CONNECT


def test_a_new_connection_starts_with_an_empty_buffer() -> None:
    session = open_sent()
    session.received(KEEPALIVE + theirs()[:10], 0.1)
    session.tick(session.deadline)
    session.connected(LOCAL, 3)
    session.writable()
    assert said(session.received(theirs(), 3)) == [Keepalive()]


def test_what_others_announce_is_counted_and_dropped() -> None:
    session = established()
    session.announce({V6: ACTIVE}, 1)
    session.writable()
    for _ in range(3):
        assert session.received(pack(Update((V6,), attributes(STANDBY))), 1) == []
    assert (session.received_updates, session.announced) == (3, 1)


@pytest.mark.parametrize("body", ["00050000", "0000000540", "0004 20c00002 0001"])
def test_an_update_that_overruns_itself_ends_the_session(body: str) -> None:
    data = bytes.fromhex(body)
    session = established()
    effects = session.received(b"\xff" * 16 + (19 + len(data)).to_bytes(2) + b"\2" + data, 1)
    assert said(effects) == [Notification(3, 1)]
    assert (session.state, session.malformed_messages) == (State.IDLE, 1)


def test_what_is_wrong_inside_a_route_that_is_dropped_does_no_harm() -> None:
    session = established()
    origin_3, prefix_of_33_bits = bytes.fromhex("40010103"), bytes.fromhex("21c000020100")
    body = b"\0\0" + len(origin_3).to_bytes(2) + origin_3 + prefix_of_33_bits
    assert session.received(b"\xff" * 16 + (19 + len(body)).to_bytes(2) + b"\2" + body, 1) == []
    assert (session.is_up, session.received_updates) == (True, 1)


def test_a_peer_that_knows_no_optional_parameters_is_asked_again_without_any() -> None:
    session = open_sent(peer=IPv4Address("10.0.0.1"))
    session.received(pack(Notification(2, 4)), 0.1)
    session.tick(session.deadline)
    [opened] = said(session.connected(IPv4Address("10.0.0.227"), 3))
    assert opened == Open(65001, 9, ROUTER_ID)
    session.writable()
    session.received(theirs(capabilities=Capabilities()), 3)
    session.writable()
    session.announce({V4: ACTIVE, V6: ACTIVE}, 3)
    [update] = said(session.received(KEEPALIVE, 3), four_octet_asn=False)
    assert update == Update((V4,), attributes(ACTIVE, IPv4Address("10.0.0.227")))
    session.disconnected("reset", 4)
    session.tick(session.deadline)
    [again] = said(session.connected(IPv4Address("10.0.0.227"), 6))
    assert isinstance(again, Open)
    assert again.capabilities.families == BOTH


def test_a_capability_that_the_peer_wants_of_us_is_named() -> None:
    session = open_sent()
    session.received(pack(Notification(2, 7, b"\x40\x02\0\0")), 0.1)
    assert session.reason == "the peer sent OPEN Message Error: Unsupported Capability (it wants capability 64)"


# What to try


HINTS = {
    Trouble.REFUSED: "start it",
    Trouble.OPEN_REJECTED: "ask to be let in",
    Trouble.ERROR_WAIT: "wait",
    Trouble.BAD_PEER_AS: "compare asn",
    Trouble.ROLE_MISMATCH: "ask for a session without a role",
    Trouble.HOLD_TIMER: "compare the TTL",
}


@pytest.mark.parametrize(
    ("make", "trouble", "hint"),
    [
        (lambda: made(hints=HINTS), Trouble.REFUSED, "start it"),
        (lambda: open_sent(hints=HINTS), Trouble.OTHER, "ask to be let in"),
        (lambda: established(hints=HINTS), Trouble.OTHER, ""),
        (lambda: established(hints=HINTS), Trouble.UNREACHABLE, ""),
    ],
)
def test_what_went_wrong_finds_the_hint(make: Callable[[], Session], trouble: Trouble, hint: str) -> None:
    session = make()
    session.tick(0)
    [news] = session.disconnected("it ended", 0.5, trouble)
    assert isinstance(news, Became)
    assert (session.hint, news.hint, news.reason) == (hint, hint, session.reason)
    session.tick(session.deadline)
    assert (session.state, session.hint) == (State.CONNECT, hint)
    session.connected(LOCAL, 3)
    assert session.hint == ""


def test_a_peer_that_asks_for_a_role_is_understood() -> None:
    session = open_sent(hints=HINTS)
    session.received(pack(Notification(2, 11)), 1)
    assert session.reason == "the peer sent OPEN Message Error: Role Mismatch"
    assert session.hint == "ask for a session without a role"


def test_the_hint_stays_while_a_peer_that_was_silent_is_silent_again_or_hangs_up() -> None:
    session = open_confirm(hints=HINTS)
    session.tick(9)
    session.tick(session.deadline)
    session.connected(LOCAL, 10)
    assert session.hint == "compare the TTL"
    session.disconnected("closed by the peer", 10.1)
    assert session.hint == "compare the TTL"
    assert session.why.startswith("hold timer expired: nothing heard for 9 s; since then: closed by the peer")
    session.tick(session.deadline)
    session.connected(LOCAL, 11)
    assert session.hint == "compare the TTL"
    session.received(theirs() + KEEPALIVE, 11)
    assert (session.is_up, session.hint) == (True, "")


def dialled_again(session: Session) -> Session:
    """And the peer hangs up in answer to our OPEN."""
    session.tick(session.deadline)
    session.connected(LOCAL, 5)
    session.disconnected("connection reset", 6)
    return session


def test_what_the_peer_said_stays_in_sight_while_it_hangs_up_without_a_word() -> None:
    session = open_sent(hints=HINTS)
    session.received(pack(Notification(2, 2)), 1)
    said = session.reason
    dialled_again(session)
    assert (session.hint, session.why) == ("compare asn", f"{said}; since then: {session.reason}")


def test_a_peer_that_was_up_and_hangs_up_now_may_only_be_waiting() -> None:
    session = established(hints=HINTS)
    session.disconnected("connection reset", 4)
    assert dialled_again(session).hint == "wait"


def test_a_peer_whose_hold_timer_expired_may_only_be_waiting_either() -> None:
    session = established(hints=HINTS | {Trouble.PEERS_HOLD_TIMER: "see the firewall"})
    session.received(pack(Notification(4, 0)), 4)
    assert session.hint == "see the firewall"
    said = session.reason
    assert dialled_again(session).hint == "wait"
    assert session.why == f"{said}; since then: {session.reason}"


# What is announced


def test_after_establishing_comes_the_whole_set_and_then_end_of_rib() -> None:
    session = open_confirm()
    assert session.announce({V4: ACTIVE, V6: STANDBY}, 0) == []
    assert said(session.received(KEEPALIVE, 0)) == [
        Update((V4,), attributes(ACTIVE)),
        Update((V6,), attributes(STANDBY)),
        EndOfRib(IPV4_UNICAST),
        EndOfRib(IPV6_UNICAST),
    ]


def test_whole_set_in_and_the_difference_out() -> None:
    session = established()
    steps: list[tuple[dict[Prefix, Route], list[Message]]] = [
        ({V4: STANDBY, V6: STANDBY}, [Update((p,), attributes(STANDBY)) for p in (V4, V6)]),
        ({V4: ACTIVE, V6: STANDBY}, [Update((V4,), attributes(ACTIVE))]),
        ({V4: ACTIVE, V6: STANDBY}, []),
        ({V4: ACTIVE}, [Update(withdrawn=(V6,))]),
        ({V6: ACTIVE}, [Update(withdrawn=(V4,)), Update((V6,), attributes(ACTIVE))]),
        ({}, [Update(withdrawn=(V6,))]),
        ({}, []),
    ]
    for routes, expected in steps:
        assert said(session.announce(routes, 1)) == expected
        session.writable()


def test_equal_attributes_share_one_update() -> None:
    prefixes = tuple(IPv4Network(f"192.0.2.{n}/32") for n in range(50))
    session = established()
    assert said(session.announce(dict.fromkeys(prefixes, ACTIVE), 1)) == [Update(prefixes, attributes(ACTIVE))]
    assert session.sent_updates == 1


@pytest.mark.parametrize("capabilities", [THEIRS, Capabilities()], ids=["IPv6 next hop", "no capabilities"])
@pytest.mark.parametrize("stops", [False, True])
def test_ipv4_is_withdrawn_without_an_attribute_whatever_announced_it(capabilities: Capabilities, stops: bool) -> None:
    peer = PEER if capabilities.families else IPv4Address("10.0.0.1")
    session = established(theirs(capabilities=capabilities), peer=peer)
    session.announce({V4: ACTIVE}, 1)
    session.writable()
    [sent, *_] = session.stop(2, "upgrade", 2) if stops else session.announce({}, 2)
    assert isinstance(sent, SendBytes)
    assert next(split(bytearray(sent.data)))[19:] == bytes.fromhex("0005 20c000020a 0000")


def test_a_peer_that_does_not_read_costs_no_bytes_and_then_one_update() -> None:
    session = established()
    session.announce({V4: STANDBY}, 1)
    for turn in range(1000):
        assert session.announce({V4: Route(Rank.ACTIVE, turn)}, 2) == []
    assert said(session.writable()) == [Update((V4,), attributes(Route(Rank.ACTIVE, 999)))]
    assert session.writable() == []


def test_what_came_and_went_while_the_peer_did_not_read_is_never_said() -> None:
    session = established()
    session.tick(2)
    session.announce({V4: ACTIVE}, 2)
    session.announce({}, 2)
    assert session.writable() == []


def test_after_a_broken_session_the_whole_set_is_said_again_and_nothing_is_withdrawn() -> None:
    session = established()
    session.announce({V4: ACTIVE, V6: ACTIVE}, 1)
    session.disconnected("reset", 2)
    assert session.announce({V4: STANDBY}, 3) == []
    session.tick(session.deadline)
    session.connected(LOCAL, 4)
    session.received(theirs(), 4)
    session.writable()
    ends: list[Message] = [EndOfRib(IPV4_UNICAST), EndOfRib(IPV6_UNICAST)]
    assert said(session.received(KEEPALIVE, 4)) == [Update((V4,), attributes(STANDBY)), *ends]
    assert (session.established_count, session.announced) == (2, 1)


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_a_route_refresh_is_answered_with_all_routes_of_its_family(family: tuple[int, int]) -> None:
    session = established()
    session.announce({V4: ACTIVE, V6: ACTIVE}, 1)
    session.writable()
    prefix = V4 if family == IPV4_UNICAST else V6
    assert said(session.received(pack(RouteRefresh(family)), 2)) == [Update((prefix,), attributes(ACTIVE))]
    assert (session.writable(), session.announced) == ([], 2)


def test_a_route_refresh_of_another_family_is_ignored() -> None:
    session = established()
    session.announce({V4: ACTIVE}, 1)
    session.writable()
    assert session.received(pack(RouteRefresh((1, 128))), 2) == []
    assert session.is_up


def test_what_is_dropped_between_a_route_refresh_and_its_answer_is_still_withdrawn() -> None:
    session = established()
    session.announce({V4: ACTIVE}, 1)
    assert session.received(pack(RouteRefresh(IPV4_UNICAST)), 2) == []
    session.announce({}, 3)
    assert said(session.writable()) == [Update(withdrawn=(V4,))]


def test_other_marks_are_announced_anew() -> None:
    session = established()
    session.announce({V4: ACTIVE}, 1)
    session.writable()
    marks = MARKS | {Rank.ACTIVE: Marks(path_length=2)}
    session.speaker = Speaker(65001, 65000, ROUTER_ID, (PEER,), marks)
    prepended = Attributes(LOCAL, Origin.INCOMPLETE, (65001, 65001), 7)
    assert said(session.announce({V4: ACTIVE}, 2)) == [Update((V4,), prepended)]


@pytest.mark.parametrize(
    ("peer", "offered", "announced"),
    [
        (PEER, THEIRS, [V4, V6]),
        (PEER, Capabilities(BOTH), [V6]),
        (PEER, Capabilities(frozenset({IPV4_UNICAST}), frozenset({(1, 1, 2)})), [V4]),
        (PEER, Capabilities(), []),
        (IPv4Address("10.0.0.1"), Capabilities(), [V4]),
        (IPv4Address("10.0.0.1"), THEIRS, [V4]),
    ],
)
def test_a_session_carries_the_families_that_its_peer_can_take(
    peer: Address, offered: Capabilities, announced: list[Prefix]
) -> None:
    session = established(theirs(capabilities=offered), peer=peer)
    messages = said(session.announce({V4: ACTIVE, V6: ACTIVE}, 1), four_octet_asn=offered.four_octet_asn)
    assert [p for message in messages if isinstance(message, Update) for p in message.announced] == announced
    assert [session.tells(prefix) for prefix in (V4, V6)] == [V4 in announced, V6 in announced]


V4_HOP, V6_HOP = IPv4Address("198.51.100.1"), IPv6Address("2001:db8::99")
OVER_IPV4, LOCAL_V4 = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.227")


@pytest.mark.parametrize(
    ("peer", "offered", "next_hops", "announced"),
    [
        (PEER, THEIRS, (V4_HOP,), {V4: V4_HOP, V6: LOCAL}),
        (PEER, THEIRS, (V6_HOP,), {V4: V6_HOP, V6: V6_HOP}),
        (PEER, THEIRS, (V4_HOP, V6_HOP), {V4: V4_HOP, V6: V6_HOP}),
        (PEER, Capabilities(BOTH, four_octet_asn=True), (V6_HOP,), {V6: V6_HOP}),
        (OVER_IPV4, THEIRS, (V6_HOP,), {V4: V6_HOP, V6: V6_HOP}),
        (OVER_IPV4, Capabilities(BOTH, four_octet_asn=True), (V6_HOP,), {V4: LOCAL_V4, V6: V6_HOP}),
        (OVER_IPV4, Capabilities(frozenset({IPV6_UNICAST}), four_octet_asn=True), (), {}),
    ],
)
def test_a_configured_next_hop_comes_before_our_end_of_the_session(
    peer: Address, offered: Capabilities, next_hops: tuple[Address, ...], announced: dict[Prefix, Address]
) -> None:
    session = established(theirs(capabilities=offered), peer=peer, next_hops=next_hops)
    messages = said(session.announce({V4: ACTIVE, V6: ACTIVE}, 1))
    updates = [each for each in messages if isinstance(each, Update) and each.attributes]
    assert {p: u.attributes.next_hop for u in updates for p in u.announced if u.attributes} == announced
    assert [session.carries(version) for version in (4, 6)] == [V4 in announced, V6 in announced]


@pytest.mark.parametrize(("med", "expected"), [("election", 7), (None, None), (100, 100)])
def test_the_med_is_the_elections_or_none_or_fixed(med: Any, expected: int | None) -> None:
    session = established(med=med)
    [update] = said(session.announce({V4: ACTIVE}, 1))
    assert isinstance(update, Update)
    assert update.attributes
    assert update.attributes.med == expected


def test_a_rank_has_its_large_communities() -> None:
    session = established(large_communities={Rank.ACTIVE: ((65000, 1, 2),)})
    active, standby = (said(session.announce({V4: r}, 1) + session.writable())[0] for r in (ACTIVE, STANDBY))
    assert [m.attributes.large_communities for m in (active, standby) if isinstance(m, Update) and m.attributes] == [
        ((65000, 1, 2),),
        (),
    ]


def test_a_two_octet_peer_gets_a_path_that_it_can_read() -> None:
    session = established(theirs(capabilities=Capabilities(BOTH, frozenset({(1, 1, 2)}))))
    session.speaker = replace(session.speaker, asn=4200000001)
    [update] = said(session.announce({V4: ACTIVE}, 1), four_octet_asn=False)
    assert isinstance(update, Update)
    assert update.attributes
    assert update.attributes.as_path == (4200000001,)  # put together from AS_TRANS and AS4_PATH


def repeating(**config: Any) -> Session:
    session = established(first_repeat=30, repeat_interval=300, **config)
    session.announce({V4: ACTIVE, V6: STANDBY}, 1)
    session.writable()
    return session


def quiet_until(session: Session, start: float, end: float) -> float:
    """When the session said anything but a KEEPALIVE; `end`: never."""
    now = start
    while (now := max(now, session.deadline)) < end:
        session.received(KEEPALIVE, now)
        session.measured(True, now)
        if [each for each in said(session.tick(now)) if each != Keepalive()]:
            return now
        session.writable()
    return end


def test_all_routes_are_said_again_after_half_a_minute_and_then_every_five() -> None:
    session = repeating()
    first = quiet_until(session, 1, 1000)
    session.writable()
    second = quiet_until(session, first, 1000)
    assert 30 <= first <= 33
    assert 300 <= second - first <= 330


def test_a_repetition_says_what_was_said_and_waits_for_a_peer_that_does_not_read() -> None:
    session = repeating()
    for second in range(1, 40):
        session.received(KEEPALIVE, second)
        assert session.tick(second)[1:] in ([], [SendBytes(PEER, KEEPALIVE)])
    session.tick(40)
    assert said(session.writable()) == [Update((V4,), attributes(ACTIVE)), Update((V6,), attributes(STANDBY))]
    assert session.writable() == []
    assert session.announced == 2


def test_the_sessions_of_a_node_repeat_at_different_times() -> None:
    times = {quiet_until(repeating(seed=seed), 1, 100) for seed in range(4)}
    assert len(times) == 4


def test_over_ipv4_an_ipv4_route_is_a_classic_one() -> None:
    session = established(peer=IPv4Address("10.0.0.1"))
    [sent] = session.announce({V4: ACTIVE}, 1)
    assert isinstance(sent, SendBytes)
    assert sent.data.endswith(b"\x20" + V4.network_address.packed)  # NLRI, behind the attributes
    assert said([sent]) == [Update((V4,), attributes(ACTIVE, IPv4Address("10.0.0.227")))]


def test_end_of_rib_is_said_of_the_families_that_the_peer_offered() -> None:
    session = open_confirm(theirs(capabilities=Capabilities(frozenset({IPV6_UNICAST}))))
    assert said(session.received(KEEPALIVE, 0)) == [EndOfRib(IPV6_UNICAST)]


def batches(session: Session, first: list[Effect]) -> list[list[Message]]:
    """All that leaves, a list a write."""
    writes = [said(first)]
    while effects := session.writable():
        writes.append(said(effects))
    return writes


def test_thousands_of_prefixes_leave_in_batches() -> None:
    number = 2 * bgp.BATCH + 100
    prefixes = [IPv4Network((0x0A000000 + n, 32)) for n in range(number)]
    session = open_confirm()
    session.announce(dict.fromkeys(prefixes, ACTIVE), 0)
    told: list[Prefix] = []
    writes = batches(session, session.received(KEEPALIVE, 0))
    for messages in writes:
        batch = [p for message in messages if isinstance(message, Update) for p in message.announced]
        assert len(batch) <= bgp.BATCH
        told += batch
    assert told == prefixes
    assert [EndOfRib(IPV4_UNICAST) in messages for messages in writes] == [False, False, True]
    withdrawn = batches(session, session.announce({}, 1))
    assert sum(len(m.withdrawn) for messages in withdrawn for m in messages if isinstance(m, Update)) == number
    assert session.announced == 0


def test_a_batch_counts_routes_and_withdrawals_together() -> None:
    half = bgp.BATCH // 2 + 50
    old, new = ([IPv4Network((start + n, 32)) for n in range(half)] for start in (0x0A000000, 0x0B000000))
    session = established()
    batches(session, session.announce(dict.fromkeys(old, ACTIVE), 1))
    writes = batches(session, session.announce(dict.fromkeys(new, ACTIVE), 2))
    sizes = [sum(len(m.announced) + len(m.withdrawn) for m in each if isinstance(m, Update)) for each in writes]
    assert sizes == [bgp.BATCH, 2 * half - bgp.BATCH]


# Stop


def test_a_stop_withdraws_and_ceases_in_one_write_and_dials_no_more() -> None:
    session = established()
    session.announce({V4: ACTIVE, V6: ACTIVE}, 1)
    effects = session.stop(2, "upgrade", 2)
    assert len(effects) == 3
    assert said(effects[:1]) == [
        Update(withdrawn=(V4,)),
        Update(withdrawn=(V6,)),
        Notification(6, 2, b"\x07upgrade"),
    ]
    assert effects[1:] == [Close(PEER), Became("session", str(PEER), "down", "upgrade")]
    assert (session.deadline, session.tick(1000)) == (float("inf"), [])


def test_the_reason_of_a_stop_is_cut_between_characters() -> None:
    [notification] = said(established().stop(2, "ü" * 100 + "!", 2))
    assert notification == Notification(6, 2, b"\x80" + ("ü" * 64).encode())
    [notification] = said(established().stop(2, "!" + "ü" * 100, 2))
    assert notification == Notification(6, 2, b"\x7f!" + ("ü" * 63).encode())


@pytest.mark.parametrize("make", [open_sent, open_confirm])
def test_a_stop_while_opening_only_ceases(make: Callable[[], Session]) -> None:
    assert said(make().stop(3, "removed by a reload", 1)) == [Notification(6, 3)]


def test_a_stop_while_dialling_gives_the_connection_up() -> None:
    session = made()
    session.tick(0)
    assert session.stop(2, "upgrade", 1) == [Close(PEER), Became("session", str(PEER), "down", "upgrade")]


# The network is a for-loop


def play(session: Session, server: RouteServer, until: float, octets: int = 65535) -> list[Became]:
    """Both ends of one connection at a time; bytes arrive at once and in order, in pieces of `octets`."""
    news: list[Became] = []
    connection = 0
    todo: deque[Any] = deque()

    def perform(what: Any, now: float) -> None:
        nonlocal connection
        match what:
            case Became():
                news.append(what)
            case Dial():
                connection += 1
                todo.extend(server.accepted(connection, LOCAL, now))
                todo.extend(session.connected(LOCAL, now))
            case SendBytes(_, data):
                for at in range(0, len(data), octets):
                    todo.extend(server.received(connection, data[at : at + octets], now))
                todo.extend(session.writable())
            case Close():
                todo.extend(server.closed(connection))
            case Measure():
                session.measured(True, now)
            case Send(_, data):
                for at in range(0, len(data), octets):
                    todo.extend(session.received(data[at : at + octets], now))

    for tenth in range(round(until * 10) + 1):
        todo.extend([*session.tick(tenth / 10), *server.tick(tenth / 10)])
        while todo:
            perform(todo.popleft(), tenth / 10)
    return news


@pytest.mark.parametrize("octets", [1, 7, 65535])
def test_a_route_server_and_a_session_understand_each_other_whatever_tcp_makes_of_it(octets: int) -> None:
    session, server = made(), RouteServer(65000, ROUTER_ID)
    session.announce({V4: ACTIVE, V6: STANDBY}, 0)
    assert [news.value for news in play(session, server, until=60, octets=octets)] == ["up"]
    assert {p: r.attributes for p in (V4, V6) if (r := server.best(p))} == {
        V4: attributes(ACTIVE),
        V6: attributes(STANDBY),
    }
    assert session.acknowledged_at == 60


def test_a_route_server_that_refuses_us_is_asked_again_and_its_reason_is_told_once() -> None:
    session, server = made(), RouteServer(65000, ROUTER_ID, peer_asns=frozenset({65002}))
    news = play(session, server, until=20)
    assert [each.reason for each in news] == ["the peer sent OPEN Message Error: Bad Peer AS"]
    assert server.established() == []
