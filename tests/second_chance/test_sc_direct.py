"""Probes: by which way they go, where they are seen, and what else is not taken for one."""

import time

import pytest

from floatip.core.addresses import Address
from floatip.core.second_chance.direct import Probe
from floatip.rtnetlink import Netlink
from floatip.second_chance import answers, probes, sockets
from floatip.second_chance.rules import PROVEN_FOR
from tests.second_chance.sc_by_hand import send
from tests.second_chance.sc_rig import (
    PORT,
    VIP4,
    VIPS,
    Client,
    Floatip,
    World,
    address4,
    address6,
    move,
    nft,
    running,
    vip,
    write,
)
from tests.second_chance.test_sc_rulesets import STRICT_FIB

NONCE, OTHER = b"n" * 16, b"o" * 16
PATIENCE = 20.0


def strictness(world: World, *, is_strict: bool) -> None:
    if not is_strict:
        with world.inside("router"):
            nft("delete table inet strict")


def moved(world: World, pair: tuple[Floatip, Floatip]) -> Client:
    """With one connection; b expects probes from both addresses."""
    keeper, carrier = pair
    client = Client(world, VIP4)
    move(keeper, carrier)
    with carrier.inside():
        carrier.rules.expect({Probe(NONCE, one) for one in VIPS})
    return client


def own(of: Floatip, version: int) -> Address:
    with of.inside():
        return next(one for one in of.surroundings.read().own if one.version == version)


def probe(keeper: Floatip, to: Address, nonce: bytes = NONCE) -> None:
    with keeper.inside():
        way = keeper.surroundings.read().way_out(to.version)
        assert way
        probes.send(nonce, [vip(to.version)], to, PORT, way)


def seen(carrier: Floatip) -> frozenset[Address]:
    with carrier.inside():
        return frozenset(one.source for one in carrier.rules.seen())


def is_seen(keeper: Floatip, carrier: Floatip, version: int) -> bool:
    """One may be lost where a neighbour is not known yet."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        probe(keeper, own(carrier, version))
        if vip(version) in seen(carrier):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("version", [4, 6])
def test_a_probe_is_seen_though_answers_go_through_the_tunnel(
    world: World, pair: tuple[Floatip, Floatip], version: int
) -> None:
    strictness(world, is_strict=False)
    client = moved(world, pair)
    assert own(pair[1], version) == (address4 if version == 4 else address6)("b")
    assert is_seen(*pair, version)
    assert client.echoes(bytes(20_000)), "and nothing else has changed"


@pytest.mark.parametrize("version", [4, 6])
def test_a_router_with_a_strict_reverse_path_drops_it(
    world: World, pair: tuple[Floatip, Floatip], version: int
) -> None:
    moved(world, pair)
    for _ in range(20):
        probe(pair[0], own(pair[1], version))
        time.sleep(0.02)
    with world.inside("router"):
        dropped = nft("list table inet strict").split("counter packets ")[1].split()[0]
    assert int(dropped) >= 20 - 1
    assert not seen(pair[1])


def test_it_goes_to_the_default_router_where_the_carrier_is_a_neighbour_too(
    world: World, pair: tuple[Floatip, Floatip]
) -> None:
    """There the router has something to say about the answers to the clients."""
    strictness(world, is_strict=False)
    moved(world, pair)
    world.ip("a", [f"route add {address4('b')}/32 dev eth0"])
    assert is_seen(*pair, 4)


def test_what_was_seen_is_forgotten_when_nothing_comes(world: World, pair: tuple[Floatip, Floatip]) -> None:
    strictness(world, is_strict=False)
    moved(world, pair)
    assert is_seen(*pair, 4)
    began = last = time.monotonic()
    while time.monotonic() < began + 6:  # longer than one is remembered
        time.sleep(0.3)
        assert seen(pair[1]) or time.monotonic() > last + PROVEN_FOR
        last = time.monotonic()
        probe(pair[0], address4("b"))
    world.wait("b", lambda: not pair[1].rules.seen(), "it is forgotten")


def test_without_the_nonce_of_the_stream_it_is_nothing(world: World, pair: tuple[Floatip, Floatip]) -> None:
    strictness(world, is_strict=False)
    moved(world, pair)
    assert is_seen(*pair, 4)
    with pair[1].inside():
        pair[1].rules.expect({Probe(OTHER, VIP4)})
    assert not seen(pair[1]), "what was seen of another stream is forgotten"
    forged = probes.packet(VIP4, address4("b"), PORT, NONCE)
    elsewhere = probes.packet(VIP4, address4("b"), PORT + 1, OTHER)
    stranger = probes.packet(address4("client", 77), address4("b"), PORT, OTHER)
    with world.inside("client"):
        send([forged, elsewhere, stranger] * 10, address4("client", 254))
        send([probes.packet(VIP4, address4("b"), PORT, OTHER)], address4("client", 254))
    world.wait("b", lambda: bool(pair[1].rules.seen()), "the right one is seen, after the others")
    with pair[1].inside():
        assert pair[1].rules.seen() == {Probe(OTHER, VIP4)}


def test_nothing_is_looked_for_unless_connections_are_moved(world: World, pair: tuple[Floatip, Floatip]) -> None:
    strictness(world, is_strict=False)
    keeper, carrier = pair
    with carrier.inside():
        carrier.rules.expect({Probe(NONCE, VIP4)})
    probe(keeper, address4("b"))
    with carrier.inside():
        assert "uplink_eth0" not in carrier.rules._chains()
    assert not seen(carrier)


def test_what_is_expected_comes_back_after_another_program_has_removed_the_tables(world: World) -> None:
    strictness(world, is_strict=False)
    with running(world, may_own=False) as pair:
        moved(world, pair)
        with world.inside("b"):
            nft("flush ruleset")
            pair[1].rules.counts()
        assert is_seen(*pair, 4)


def test_connections_whose_client_does_not_acknowledge_are_stuck(world: World, pair: tuple[Floatip, Floatip]) -> None:
    clients = [Client(world, VIP4) for _ in range(4)]
    with world.inside("a"):
        found = sockets.listed(VIPS)
    assert (len(found.flows), found.stuck) == (4, 0)
    with world.inside("router"):
        nft("table inet cut { chain f { type filter hook forward priority 0; ip saddr 192.168.223.158 drop; }; }")
    for client in clients[:3]:
        client.socket.sendall(b"what comes back is lost")
    world.wait("a", lambda: sockets.listed(VIPS)[1:] == (3, 3), "three of them are stuck")
    with world.inside("a"):
        repeats = sockets.repeats()
    clients[0].socket.sendall(b"more")  # repeated, because its acknowledgement is lost
    world.wait("a", lambda: sockets.repeats() > repeats, "what comes again is counted")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("filtered", [False, True], ids=["", "strict"])
def test_answers_leave_directly_and_packets_still_pass_a_reverse_path_filter(
    world: World, pair: tuple[Floatip, Floatip], version: int, filtered: bool
) -> None:
    strictness(world, is_strict=False)
    keeper, carrier = pair
    with world.inside("a"):
        if filtered:
            nft(STRICT_FIB)
            write(("ipv4/conf/all/rp_filter", 1))
    client = Client(world, vip(version))
    move(keeper, carrier)
    assert client.echoes()
    for direct in (VIPS, (), VIPS):
        with keeper.inside():
            keeper.tunnel.answer_by(dict.fromkeys(VIPS, "b"), direct)
        with carrier.inside():
            before = carrier.rules.counts()
        for _ in range(3):
            assert client.echoes(bytes(30_000))
        with carrier.inside():
            after = carrier.rules.counts()
        assert after.forwarded > before.forwarded
        assert (after.answers == before.answers) == bool(direct)
    new = Client(world, vip(version))
    assert new.node == "b"


def test_the_rules_of_direct_answers_go_with_the_others(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, _ = pair
    with keeper.inside():
        keeper.tunnel.answer_by(dict.fromkeys(VIPS, "b"), VIPS)
        kernel = Netlink()
        assert len(answers.rules(kernel)) == 4
        assert keeper.tunnel.adopted_answers() == dict.fromkeys(VIPS, "b")
        assert len(answers.rules(kernel)) == 2, "a successor begins with the tunnel"
        keeper.tunnel.answer_by(dict.fromkeys(VIPS, "b"), VIPS)
        answers.leave_directly([VIP4])
        assert {source for source, _ in answers.rules(kernel)} == {vip(6).packed}
        answers.leave_directly()
        assert not answers.rules(kernel)
        kernel.close()
