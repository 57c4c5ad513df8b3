"""The built-in route server: what it accepts, what it prefers, and when it lets go."""

from ipaddress import IPv4Address, ip_address, ip_network
from math import inf
from typing import Any

import pytest

from floatip.core.bgp.attributes import Attributes, Origin, Prefix
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import Capabilities, Keepalive, Message, Open, pack, parse
from floatip.lab.route_server import BestChanged, Drop, Output, RouteServer, Send

PREFIX: Prefix = ip_network("192.0.2.10/32")
ONE, TWO = ip_address("2001:db8::1"), ip_address("2001:db8::2")
PRIMARY, SECONDARY = ((65000, 1),), ((65000, 2),)


def route(**attributes: Any) -> Attributes:
    return Attributes(next_hop=ONE, **({"as_path": (65001,)} | attributes))


def sent(outputs: list[Output]) -> list[Message]:
    return [parse(each.data) for each in outputs if isinstance(each, Send)]


def announce(attributes: Attributes) -> bytes:
    return pack(Update(announced=(PREFIX,), attributes=attributes))


def hello(hold_time: int = 9, asn: int = 65001) -> bytes:
    offer = Capabilities(families=frozenset({(1, 1)}), four_octet_asn=True)
    return pack(Open(asn, hold_time, IPv4Address("192.0.2.1"), offer))


def server(**options: Any) -> RouteServer:
    return RouteServer(65000, IPv4Address("192.0.2.254"), **options)


def established(*peers: Any, hold_time: int = 9, **options: Any) -> RouteServer:
    """A route server with one session per peer; their connections are 1, 2, ..."""
    rs = server(**options)
    for connection, peer in enumerate(peers, start=1):
        rs.accepted(connection, peer, 0.0)
        rs.received(connection, hello(hold_time) + pack(Keepalive()), 0.0)
    return rs


def test_it_says_open_at_once_and_keepalive_to_the_clients_open() -> None:
    rs = server()
    [opening] = sent(rs.accepted(1, ONE, 0.0))
    assert isinstance(opening, Open)
    assert (opening.asn, opening.hold_time) == (65000, 9)
    assert sent(rs.received(1, hello(), 0.1)) == [Keepalive()]
    assert rs.established() == []
    rs.received(1, pack(Keepalive()), 0.2)
    assert rs.established() == [ONE]


def test_ipv4_withdrawn_by_an_attribute_ends_the_session_as_with_openbgpd() -> None:
    rs = established(ONE)
    rs.received(1, announce(route()), 0.1)
    mp_unreach = bytes.fromhex("800f080001 01 20c000020a")
    body = bytes(2) + len(mp_unreach).to_bytes(2) + mp_unreach
    outputs = rs.received(1, b"\xff" * 16 + (19 + len(body)).to_bytes(2) + b"\2" + body, 0.2)
    assert sent(outputs) == [Notification(3, 9)]
    assert Drop(1, "IPv4 withdrawn by MP_UNREACH_NLRI") in outputs


def test_bytes_may_come_one_at_a_time() -> None:
    rs = server()
    rs.accepted(1, ONE, 0.0)
    for byte in hello() + pack(Keepalive()) + announce(route()):
        rs.received(1, bytes([byte]), 0.0)
    best = rs.best(PREFIX)
    assert best is not None
    assert best.attributes == route()


def test_the_smaller_hold_time_counts_and_a_silent_client_keeps_its_routes_until_it_ends() -> None:
    rs = established(ONE, hold_time=6, peer_asns=frozenset({65001}))
    rs.received(1, announce(route()), 0.5)
    assert sent(rs.tick(2.1)) == [Keepalive()]
    assert rs.best(PREFIX) is not None
    rs.tick(6.4)
    assert rs.best(PREFIX) is not None
    outputs = rs.tick(6.6)
    assert sent(outputs) == [Notification(4, 0)]
    assert Drop(1, "hold timer expired") in outputs
    assert BestChanged(PREFIX, None) in outputs
    assert (rs.best(PREFIX), rs.deadline) == (None, inf)


def test_a_keepalive_puts_the_hold_timer_off() -> None:
    rs = established(ONE)
    rs.received(1, pack(Keepalive()), 8.0)
    assert not [each for each in rs.tick(16.9) if isinstance(each, Drop)]
    assert [each for each in rs.tick(17.1) if isinstance(each, Drop)]


def test_hold_time_zero_means_no_timers() -> None:
    assert established(ONE, hold_time=0).deadline == inf


def test_a_second_connection_of_a_living_client_is_refused_and_the_first_stays() -> None:
    rs = established(ONE)
    outputs = rs.accepted(7, ONE, 1.0)
    assert sent(outputs) == [Notification(6, 7)]
    assert isinstance(outputs[-1], Drop)
    assert rs.established() == [ONE]
    rs.closed(1)
    assert isinstance(sent(rs.accepted(8, ONE, 2.0))[0], Open)


def test_a_foreign_as_is_refused() -> None:
    rs = server(peer_asns=frozenset({65001}))
    rs.accepted(1, ONE, 0.0)
    assert sent(rs.received(1, hello(asn=65009), 0.0)) == [Notification(2, 2)]


def test_an_update_before_the_session_stands_is_a_state_machine_error() -> None:
    rs = server()
    rs.accepted(1, ONE, 0.0)
    assert sent(rs.received(1, announce(route()), 0.0)) == [Notification(5, 1)]


def test_garbage_is_answered_with_its_notification_and_the_routes_go() -> None:
    rs = established(ONE)
    rs.received(1, announce(route()), 0.0)
    outputs = rs.received(1, b"\0" * 19, 0.0)
    assert sent(outputs)[0] == Notification(1, 1)
    assert BestChanged(PREFIX, None) in outputs


def test_a_withdrawal_a_close_and_a_notification_each_uncover_the_next_route() -> None:
    for goodbye in ("withdraw", "close", "notify"):
        rs = established(ONE, TWO)
        rs.received(1, announce(route(communities=PRIMARY)), 0.0)
        rs.received(2, announce(route(communities=SECONDARY)), 0.0)
        match goodbye:
            case "withdraw":
                outputs = rs.received(1, pack(Update(withdrawn=(PREFIX,))), 1.0)
            case "close":
                outputs = rs.closed(1)
            case _:
                outputs = rs.received(1, pack(Notification(6, 2)), 1.0)
        [change] = [each for each in outputs if isinstance(each, BestChanged)]
        assert change.route is not None
        assert change.route.peer == TWO


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (route(communities=PRIMARY, as_path=(65001, 65001)), route(communities=SECONDARY)),
        (route(communities=SECONDARY), route(as_path=(65001, 65001))),
        (route(as_path=(65001,), origin=Origin.INCOMPLETE), route(as_path=(65001, 65001), origin=Origin.IGP)),
        (route(origin=Origin.IGP, med=9), route(origin=Origin.EGP, med=1)),
        (route(origin=Origin.EGP), route(origin=Origin.INCOMPLETE)),
        (route(med=1), route(med=2)),
        (route(), route(med=1)),
    ],
)
def test_the_better_route_wins_whichever_comes_first(better: Attributes, worse: Attributes) -> None:
    for attributes in ((better, worse), (worse, better)):
        rs = established(ONE, TWO)
        rs.received(1, announce(attributes[0]), 0.0)
        rs.received(2, announce(attributes[1]), 1.0)
        best = rs.best(PREFIX)
        assert best is not None
        assert best.attributes == better
        assert len(rs.routes(PREFIX)) == 2


def test_med_says_nothing_between_different_neighbours_so_the_older_route_stays() -> None:
    rs = established(ONE, TWO)
    rs.received(2, announce(route(med=9)), 0.0)
    rs.received(1, announce(route(as_path=(65002,), med=1)), 1.0)
    best = rs.best(PREFIX)
    assert best is not None
    assert best.peer == TWO


def test_a_route_said_again_stays_as_old_as_it_was() -> None:
    rs = established(ONE, TWO)
    rs.received(2, announce(route()), 0.0)
    rs.received(1, announce(route()), 1.0)
    assert rs.received(2, announce(route()), 2.0) == []
    best = rs.best(PREFIX)
    assert best is not None
    assert best.peer == TWO


def test_routes_of_one_instant_are_ordered_by_peer_address() -> None:
    rs = established(TWO, ONE)
    rs.received(1, announce(route()), 0.0)
    rs.received(2, announce(route()), 0.0)
    best = rs.best(PREFIX)
    assert best is not None
    assert best.peer == ONE
