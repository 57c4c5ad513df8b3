"""The words of routes and rules, as ip-route(8), ip-rule(8) and keepalived.conf(5) have them."""

import shlex
import socket
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as some

from floatip.core.settings import Virtual
from floatip.virtuals import Hop, NotUnderstood, Route, Rule, machine_tables, parse, parse_route, parse_rule


def route(text: str, **tables: int) -> Route:
    return parse_route(text.split(), tables)


def rule(text: str, **tables: int) -> Rule:
    return parse_rule(text.split(), tables)


def test_the_samples_of_keepalived_are_read() -> None:
    found = route("src 192.168.100.1 192.168.109.0/24 via 192.168.200.254 dev eth1")
    assert found.destination == ip_network("192.168.109.0/24")
    assert found.prefers == ip_address("192.168.100.1")
    assert found.hops == (Hop(ip_address("192.168.200.254"), "eth1"),)
    found = route("192.168.113.0/24 via 192.168.100.252 or 192.168.100.253")
    assert [str(hop.gateway) for hop in found.hops] == ["192.168.100.252", "192.168.100.253"]
    assert route("0.0.0.0/0 gw 192.168.0.1 table 100").table == 100
    assert route("blackhole 192.168.113.1/32").type == 6
    found = route(
        "192.168.100.0/24 table 6909 nexthop via 192.168.101.1 dev wlan0 onlink weight 1"
        " nexthop via 192.168.101.2 dev wlan0 onlink weight 2"
    )
    assert found.hops[1] == Hop(ip_address("192.168.101.2"), "wlan0", 2, onlink=True)
    found = route(
        "192.168.200.0/24 dev p33p1.2 table 6909 tos 0x04 protocol bird scope link priority 12 mtu 1000 hoplimit 100"
        " advmss 101 rtt 102 rttvar 103 reordering 104 window 105 cwnd 106 ssthresh lock 107"
    )
    assert (found.tos, found.protocol, found.priority, found.scope) == (4, 12, 12, 253)
    assert dict(found.metrics) == {2: 1000, 10: 100, 8: 101, 4: 102, 5: 103, 9: 104, 3: 105, 7: 106, 6: 107}
    assert found.locked == 1 << 6


def test_rules_are_read() -> None:
    found = rule("from 192.168.28.0/24 to 192.168.29.0/26 table small iif p33p1 oif wlan0 tos 22 fwmark 24/12", small=7)
    assert (found.table, found.iif, found.oif, found.tos, found.mark) == (7, "p33p1", "wlan0", 22, (24, 12))
    found = rule("to 1:2:3:4:6:6:7:0/112 from 8:6:5:4:3:2::/96 l3mdev protocol 12 ip_proto UDP sport 10-20 dport 20-30")
    assert (found.family, found.ip_protocol, found.source_ports) == (socket.AF_INET6, 17, (10, 20))
    assert rule("from all table 100").source is None
    assert rule("inet6 fwmark 1 table 100 pref 9").preference == 9


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("10.0.0.0/8 dev eth0", 253),
        ("10.0.0.0/8 via 10.0.0.1", 0),
        ("local 10.0.0.1 dev lo", 254),
        ("throw 10.0.0.1", 0),
    ],
)
def test_the_scope_is_that_of_ip_route(text: str, scope: int) -> None:
    assert route(text).scope == scope


def test_default_is_of_the_family_of_its_gateway() -> None:
    assert route("default via fe80::1 dev eth0").destination == ip_network("::/0")
    assert route("default via 10.0.0.1").destination == ip_network("0.0.0.0/0")
    assert route("default dev eth0 inet6").family == socket.AF_INET6


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("route", "10.0.0.0/8 via 10.0.0.1 encap mpls 100", "floatip does not know the word encap"),
        ("route", "10.0.0.0/8 via 10.0.0.1 realms 3", "floatip does not know the word realms"),
        ("route", "10.0.0.0/8 via", "via has no value"),
        ("route", "10.0.0.0/8 via here", "via here: not an address"),
        ("route", "10.0.0.0/8 via inet6 fe80::1", "a gateway of the other family is not supported"),
        ("route", "10.0.0.0/8 via fe80::1", "it mixes IPv4 and IPv6"),
        ("route", "10.0.0.0/8", "it names neither a gateway (via) nor an interface (dev)"),
        ("route", "via 10.0.0.1", "it has no destination"),
        ("route", "", "it has no destination"),
        ("route", "10.0.0.0/33 dev eth0", "floatip does not know the word 10.0.0.0/33"),
        ("route", "to 10.0.0.0/33 dev eth0", "to 10.0.0.0/33: not a network"),
        ("route", "10.0.0.0/8 dev abcdefghijklmnop", "dev abcdefghijklmnop: not the name of an interface"),
        ("route", "10.0.0.0/8 dev eth0 table blue", "table blue: not the name of a table of this machine"),
        ("route", "10.0.0.0/8 dev eth0 metric -1", "metric -1: not a number up to 4294967295"),
        ("route", "10.0.0.0/8 nexthop weight", "weight has no value"),
        ("route", "10.0.0.0/8 nexthop", "nexthop has neither via nor dev"),
        ("rule", "from 10.0.0.0/8", "it names no table, and nothing else to do"),
        ("rule", "from 10.0.0.0/8 table 1 realms 3", "floatip does not know the word realms"),
        ("rule", "from 10.0.0.0/8 to ::/0 table 1", "it mixes IPv4 and IPv6"),
        ("rule", "fwmark x table 1", "fwmark x: not a mark, or a mark and a mask (1/0xff)"),
        ("rule", "sport 9-3 table 1", "sport 9-3: not a port or range"),
    ],
)
def test_what_is_not_understood_is_named(kind: str, text: str, why: str) -> None:
    virtual = Virtual("route" if kind == "route" else "rule", tuple(text.split()))
    with pytest.raises(NotUnderstood) as caught:
        parse(virtual)
    assert str(caught.value).startswith(f"{kind} {text}: {why}")


WORDS = shlex.split(
    "via dev src from to table scope metric proto onlink nexthop weight default 10.0.0.0/8 fe80::1 eth0 mtu lock 1400"
    " blackhole inet6 or gw append 0x10 not fwmark iif preference goto l3mdev sport 1-2 main -1 main"
)


@given(some.lists(some.sampled_from(WORDS) | some.text(max_size=8), max_size=12), some.sampled_from(["route", "rule"]))
def test_any_words_are_understood_or_refused(words: list[str], kind: str) -> None:
    try:
        found = parse(Virtual("route" if kind == "route" else "rule", tuple(words)))
    except NotUnderstood:
        return
    assert found.family in (socket.AF_INET, socket.AF_INET6)


def test_the_tables_of_this_machine_have_their_names() -> None:
    assert machine_tables()["main"] == 254
