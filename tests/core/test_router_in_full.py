"""VRRP beyond two unicast peers: multicast, IPv6, several interfaces, owners, signatures, keepalived's options."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

import pytest

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.counters import Refused
from floatip.core.election.elector import Obstacles, Role
from floatip.core.election.router import Router
from floatip.core.events import AdvertReceived, Became, ClockMoved, Effect, LinkChanged, SendAdvert, Started, Ticked
from floatip.core.node import Node
from floatip.core.settings import Hmac, Vrrp
from floatip.core.vrrp.wire import GROUP, GROUP_IPV6, Advert, pack, parse

INIT, BACKUP, MASTER, FAULT = Role
LOWER, US, PEER = IPv4Address("10.0.0.9"), IPv4Address("10.0.1.1"), IPv4Address("10.0.1.2")
US_IPV6, PEER_IPV6, LOWER_IPV6 = (IPv6Address(f"fe80::1:{n}") for n in (1, 2, 0))
VIP, VIP_IPV6 = IPv4Address("192.0.2.10"), IPv6Address("fe80::100")
KEYS = ((1, bytes(range(32))), (2, bytes(range(1, 65))))
WALL = 1.8e9
SKEW = 156 / 256
DOWN = 3 + SKEW


def router(source: Address = US, peers: tuple[Address, ...] = (), *, priority: int = 100, **config: Any) -> Router:
    """Multicast, unless there are peers; it listens since 0 s."""
    made = Router("VI_1", Vrrp("eth0", 51, priority, source, peers, **config), (VIP, VIP_IPV6), 0)
    made.clock_ahead = WALL
    return made


def begun(*source: Any, **config: Any) -> Router:
    made = router(*source, **config)
    made.constrain(Obstacles(), 0)
    return made


def master(*source: Any, **config: Any) -> Router:
    made = begun(*source, **config)
    made.tick(made.deadline)
    assert made.role is MASTER
    made._due_at = 11.0
    return made


def sent(effects: list[Effect]) -> list[SendAdvert]:
    return [effect for effect in effects if isinstance(effect, SendAdvert)]


def priorities(effects: list[Effect]) -> list[int]:
    return [parse(one.data, one.source, one.destination).priority for one in sent(effects)]


def advert(priority: int = 100, **changes: Any) -> Advert:
    return replace(Advert(2, 51, priority, 1.0, (VIP,)), **changes)


def deliver(to: Router, effects: list[Effect], now: float) -> list[Effect]:
    """What one router sent to the group or to `to`, over the wire."""
    answers: list[Effect] = []
    for one in sent(effects):
        if one.destination == to.config.source or one.destination.is_multicast:
            said = parse(one.data, one.source, one.destination)
            answers += to.receive(said, one.source, one.ttl, now, one.destination)
    return answers


def converse(one: Router, other: Router, now: float) -> None:
    """What one says when its time has come, until nobody answers."""
    said, speaks, listens = one.tick(now), one, other
    while said:
        said, speaks, listens = deliver(listens, said, now), listens, speaks


# Multicast


@pytest.mark.parametrize(
    ("source", "group", "destination"),
    [
        (US, None, GROUP),
        (US_IPV6, None, GROUP_IPV6),
        (US, IPv4Address("224.0.0.118"), IPv4Address("224.0.0.118")),
    ],
)
def test_without_peers_adverts_go_to_the_group(source: Address, group: Any, destination: Address) -> None:
    (one,) = sent(begun(source, group=group, ttl=64).tick(DOWN))
    assert (one.source, one.destination, one.ttl, one.interface) == (source, destination, 255, "eth0")
    assert parse(one.data, source, destination).addresses == ((VIP,) if source == US else (VIP_IPV6,))


def test_by_multicast_anybody_on_the_link_is_heard() -> None:
    backup = begun()
    backup.receive(advert(), IPv4Address("10.9.9.9"), 255, 1, GROUP)
    assert backup.master == IPv4Address("10.9.9.9")
    assert backup.deadline == 1 + DOWN


@pytest.mark.parametrize(
    ("source", "ttl", "destination", "why"),
    [
        (PEER, 254, GROUP, "TTL below 255"),
        (PEER, 255, US, "unicast from 10.0.1.2, ours is multicast"),
        (US, 255, GROUP, "from this node's own address"),
    ],
)
def test_by_multicast_what_may_come_from_elsewhere_is_dropped(
    source: Address, ttl: int, destination: Address, why: str
) -> None:
    backup = begun(min_ttl=1)
    backup.receive(advert(200), source, ttl, 1, destination)
    assert backup.dropped.counts == {f"dropped, {why}": 1}
    assert backup.deadline == DOWN


def test_unicast_nodes_do_not_hear_the_group() -> None:
    backup = begun(US, (PEER,))
    backup.receive(advert(200), PEER, 255, 1, GROUP)
    assert backup.dropped.counts == {"dropped, multicast from 10.0.1.2, ours is unicast": 1}
    assert backup.adverts.refused[Refused.CAST] == 1


def test_by_multicast_a_question_and_a_last_word_go_to_the_group() -> None:
    one = master()
    one.address_moves = True
    effects = one.receive(advert(200), PEER, 255, 10.5, GROUP)
    assert [each.destination for each in sent(effects)] == [GROUP]
    assert [each.destination for each in sent(one.ask(11))] == [GROUP]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("sources", "peers"), [((US, PEER), False), ((US_IPV6, PEER_IPV6), False), ((US, PEER), True),
                                                ((US_IPV6, PEER_IPV6), True)])  # fmt: skip
@pytest.mark.parametrize("signed", [False, True])
def test_two_routers_elect_one_master_and_keep_it(
    version: Any, sources: tuple[Address, Address], peers: bool, signed: bool
) -> None:
    hmac = Hmac(KEYS, 1) if signed else None
    one, other = (
        begun(me, (them,) if peers else (), priority=priority, version=version, hmac=hmac)
        for me, them, priority in [(*sources, 150), (*reversed(sources), 100)]
    )
    for hundredth in range(2000):
        now = hundredth / 100
        for each, another in ((one, other), (other, one)):
            if now >= each.deadline:
                converse(each, another, now)
    assert (one.role, other.role) == (MASTER, BACKUP)
    assert other.master == one.config.source
    assert one.dropped.counts == other.dropped.counts == {}
    assert (one.turns.became_master, other.turns.became_master) == (1, 0)


def test_a_reload_of_a_multicast_router_remembers_who_was_heard() -> None:
    """So that a master is not taken for alone."""
    backup = begun()
    backup.receive(advert(90), PEER, 255, 2, GROUP)
    backup.reconfigure(replace(backup.config, priority=120), (VIP,), 2.1)
    assert backup._peer == PEER


# IPv6, interfaces


def test_over_ipv6_equal_priorities_fall_by_the_greater_address() -> None:
    for source, role in ((PEER_IPV6, BACKUP), (LOWER_IPV6, MASTER)):
        one = master(US_IPV6, (PEER_IPV6, LOWER_IPV6), version=3)
        one.receive(advert(version=3, addresses=(VIP_IPV6,)), source, 255, 10.5)
        assert one.role is role


def node_of(*elections: Vrrp) -> Node:
    address = (IPv4Interface(VIP),)
    instances = tuple(settings.Instance(f"VI_{n}", address, each) for n, each in enumerate(elections))
    node = Node(settings.Settings(instances=instances), 0.0)
    for each in elections:
        node.handle(LinkChanged(each.interface, True, ""), 0)
    node.handle(ClockMoved(WALL), 0)
    node.handle(Started(), 0)
    return node


def test_one_vrid_is_another_virtual_router_on_each_interface_and_over_each_version_of_ip() -> None:
    ipv4, ipv6 = Vrrp("eth0", 51, 100, US, (), 3), Vrrp("eth0", 51, 100, US_IPV6, (), 3)
    node = node_of(ipv4, replace(ipv4, interface="eth1"), ipv6)
    said = advert(200, version=3, addresses=())
    for interface, source, group in (("eth0", PEER, GROUP), ("eth1", LOWER, GROUP), ("eth0", PEER_IPV6, GROUP_IPV6)):
        node.handle(AdvertReceived(interface, source, group, 255, pack(said, source, group)), 1.0)
    bare = {"dropped, no address in it, from 10.0.1.2": 1}
    assert node.instances["VI_0"].elector.dropped.counts == bare
    assert [each.elector.master for each in node.instances.values()] == [None, None, PEER_IPV6]


# Owners


def test_two_owners_do_not_stay_masters_where_the_lower_one_does_not_yield() -> None:
    """keepalived: after two adverts of its own and a little more, the higher address falls to 254."""
    one = master(priority=255)
    news: list[Effect] = []
    at = 10.0
    while one.role is MASTER and at < 20:
        at += 0.5
        news += one.receive(advert(255), LOWER, 255, at, GROUP) if at % 1 else one.tick(at)
    assert 13 < at < 16
    assert (one.role, one.master, one.priority) == (BACKUP, LOWER, 254)
    assert Became("priority", "VI_1", "254", f"{LOWER} says that it owns the addresses too, and does not yield") in news
    one.receive(advert(255), LOWER, 255, at + 1, GROUP)
    assert one.priority == 254
    one.receive(advert(200), LOWER, 255, at + 2, GROUP)
    assert one.priority == 255


def test_an_owner_that_gave_way_owns_again_when_the_other_one_is_silent() -> None:
    one = master(priority=255)
    one._gives_way = True
    one._prioritize()
    one.receive(advert(255), LOWER, 255, 10, GROUP)
    assert one.role is BACKUP
    assert priorities(one.tick(one.deadline)) == [255]


def test_of_two_owners_the_lower_address_yields_and_follows() -> None:
    one = master(priority=255)
    one.receive(advert(255), PEER, 255, 10.2, GROUP)
    one.receive(advert(255), PEER, 255, 11.2, GROUP)
    assert (one.role, one.master) == (BACKUP, PEER)


def test_an_owner_may_ignore_all_adverts() -> None:
    one = master(priority=255, owner_ignores_adverts=True)
    assert one.receive(advert(255), PEER, 255, 10.2, GROUP) == []
    assert one.role is MASTER
    other = master(priority=254, owner_ignores_adverts=True)
    other.receive(advert(255), PEER, 255, 10.2, GROUP)
    assert other.role is BACKUP


# Beginning


@pytest.mark.parametrize(("version", "interval", "wait"), [(2, 1.0, 1 + 1 / 256), (3, 0.1, 0.1 + 0.1 / 256)])
def test_who_begins_as_master_waits_for_one_advert_only(version: Any, interval: float, wait: float) -> None:
    one = begun(version=version, advert_interval=interval, begins_as_master=True, priority=50)
    assert (one.role, one.deadline) == (BACKUP, pytest.approx(wait))
    one.constrain(Obstacles(sick="check web"), 1)
    one.constrain(Obstacles(), 2)
    assert one.deadline == pytest.approx(2 + one.master_down_interval)


def test_who_begins_as_master_follows_a_better_one_that_it_hears() -> None:
    one = begun(begins_as_master=True)
    one.receive(advert(150), PEER, 255, 0.9, GROUP)
    assert one.deadline == 0.9 + DOWN


def test_in_the_startup_delay_nothing_is_heard_and_nothing_claimed() -> None:
    one = begun(startup_delay=10.0)
    assert one.deadline == 10 + DOWN
    one.receive(advert(150), PEER, 255, 5, GROUP)
    assert (one.master, one.deadline) == (None, 10 + DOWN)
    assert one.dropped.counts == {"dropped, in the first 10 s (startup_delay)": 1}
    one.receive(advert(150), PEER, 255, 10, GROUP)
    assert one.master == PEER


def test_an_owner_waits_for_the_startup_delay_too() -> None:
    one = router(priority=255, startup_delay=10.0)
    assert sent(one.constrain(Obstacles(), 0)) == []
    assert one.role is BACKUP
    assert one.deadline == pytest.approx(10 + 3 + 1 / 256)


# keepalived's options


@pytest.mark.parametrize(("adverts", "down"), [(1, 1), (3, 3), (5, 5), (100, 100)])
def test_down_timer_adverts_says_how_many_may_be_missed(adverts: int, down: int) -> None:
    one = begun(down_timer_adverts=adverts)
    assert one.deadline == one.detection_time == down + SKEW


def test_an_untracked_interface_makes_no_fault() -> None:
    one = begun(tracks_interface=False)
    one.constrain(Obstacles(link="eth0 is down"), 1)
    assert (one.role, one.deadline) == (BACKUP, DOWN)


@pytest.mark.parametrize(("sends", "answer"), [(False, []), (True, [100])])
def test_one_that_yields_may_send_one_more_advert(sends: bool, answer: list[int]) -> None:
    one = master(US, (PEER, LOWER), sends_before_yielding=sends)
    effects = one.receive(advert(200), PEER, 255, 10.2)
    assert priorities(effects) == 2 * answer
    assert one.role is BACKUP


@pytest.mark.parametrize(("answers", "answer", "due"), [(True, [100], 11.2), (False, [], 11)])
def test_a_master_may_leave_a_lower_advert_unanswered(answers: bool, answer: list[int], due: float) -> None:
    one = master(answers_lower=answers)
    assert priorities(one.receive(advert(50), PEER, 255, 10.2, GROUP)) == answer
    assert (one.role, one.deadline) == (MASTER, due)
    assert priorities(one.receive(advert(0), PEER, 255, 10.3, GROUP)) == [100]


@pytest.mark.parametrize(("ttl", "why"), [(63, "TTL below 64"), (65, "TTL above 64")])
def test_the_ttl_of_unicast_lies_between_two_limits(ttl: int, why: str) -> None:
    one = begun(US, (PEER,), min_ttl=64, max_ttl=64)
    one.receive(advert(), PEER, 64, 1)
    assert one.master == PEER
    one.receive(advert(), PEER, ttl, 2)
    assert one.dropped.counts == {f"dropped, {why}": 1}


def test_unicast_adverts_leave_with_the_ttl_that_is_configured() -> None:
    assert [one.ttl for one in sent(master(US, (PEER,), ttl=64).tick(11))] == [64]


def test_the_source_of_unicast_need_not_be_a_peer_if_the_configuration_says_so() -> None:
    one = begun(US, (PEER,), checks_source=False)
    one.receive(advert(), LOWER, 255, 1, US)
    assert one.master == LOWER
    signed = begun(US, (PEER,), checks_source=False, hmac=Hmac(KEYS, 1, "receive-only"))
    signed.receive(advert(), LOWER, 255, 1, US)
    assert signed.master is None


def test_the_checksum_of_version_3_may_be_that_of_version_2() -> None:
    plain = sent(master(version=3, checksum_as_v2=True).tick(11))[0].data
    usual = sent(master(version=3).tick(11))[0].data
    assert plain[:6] + plain[8:] == usual[:6] + usual[8:]
    assert plain[6:8] != usual[6:8]


def test_an_advert_without_an_address_counts_only_where_there_is_none_here_either() -> None:
    one = begun()
    one.receive(advert(addresses=()), PEER, 255, 1, GROUP)
    assert one.adverts.refused[Refused.NO_ADDRESS] == 1
    bare = Router("VI_1", Vrrp("eth0", 51, 100, US, ()), (), 0)
    bare.constrain(Obstacles(), 0)
    bare.receive(advert(addresses=()), PEER, 255, 1, GROUP)
    assert (bare.master, bare.dropped.counts) == (PEER, {})
    bare.receive(advert(), PEER, 255, 2, GROUP)
    assert bare.deadline == 2 + DOWN
    assert bare.adverts.other_addresses == 1


# Signatures


def test_a_master_signs_each_advert_again_and_all_copies_alike() -> None:
    one = master(US, (PEER, LOWER), hmac=Hmac(KEYS, 1))
    first, second = sent(one.tick(11)), sent(one.tick(12))
    assert [each.destination for each in first] == [PEER, LOWER]
    assert len({each.data[-28:] for each in first}) == len({each.data[-28:] for each in second}) == 1
    assert first[0].data[:-28] == second[0].data[:-28]
    sequences = [int.from_bytes(each.data[-24:-16]) for each in (first[0], second[0])]
    assert sequences == [int(WALL + at) << 32 for at in (11, 12)]


def test_who_receives_only_signs_nothing_and_believes_both() -> None:
    one = master(hmac=Hmac(KEYS, 1, "receive-only"))
    assert [len(each.data) for each in sent(one.tick(11))] == [20]
    theirs = master(PEER, priority=200, hmac=Hmac(KEYS, 2))
    deliver(one, theirs.tick(11), 11.5)
    assert (one.role, one.master) == (BACKUP, PEER)


def test_signed_adverts_without_a_key_here_are_dropped_by_name() -> None:
    one, theirs = master(), master(PEER, priority=200, hmac=Hmac(KEYS, 2))
    deliver(one, theirs.tick(11), 11)
    assert one.dropped.counts == {"dropped, signed, and this node has no key, from 10.0.1.2": 1}
    assert one.role is MASTER


def test_without_a_signature_nothing_is_believed_where_one_is_enforced() -> None:
    one, theirs = master(hmac=Hmac(KEYS, 1)), master(PEER, priority=200)
    deliver(one, theirs.tick(11), 11)
    assert one.role is MASTER
    assert one.adverts.refused[Refused.UNSIGNED] == 1


def test_a_signature_replaces_the_password() -> None:
    one = master(hmac=Hmac(KEYS, 1), auth_pass="secret")
    (each,) = sent(one.tick(11))
    assert parse(each.data, US, GROUP).auth_pass == b""


def test_a_replayed_priority_0_makes_nobody_take_over() -> None:
    hmac = Hmac(KEYS, 1, window=60.0)
    one = begun(hmac=hmac)
    goodbye = master(PEER, priority=200, hmac=hmac).stop("asked to stop", 11)
    deliver(one, goodbye, 1)
    assert one.deadline == 1 + SKEW
    deliver(one, master(PEER, priority=200, hmac=hmac).tick(11.5), 1.2)
    deliver(one, goodbye, 1.3)
    assert one.deadline == 1.2 + DOWN
    assert one.adverts.refused[Refused.REPLAYED] == 1


def test_the_clock_of_the_node_is_the_one_that_signs() -> None:
    node = node_of(Vrrp("eth0", 51, 100, US, (), hmac=Hmac(KEYS, 1)))
    (one,) = sent(node.handle(Ticked(), DOWN))
    assert int.from_bytes(one.data[-24:-20]) == int(WALL + DOWN)
    node.handle(ClockMoved(WALL + 1000), DOWN)
    (one,) = sent(node.handle(Ticked(), DOWN + 1))
    assert int.from_bytes(one.data[-24:-20]) == int(WALL + 1001 + DOWN)
