"""Connections that survive a move, with the kernel's part used as the two programs use it."""

import hashlib
import subprocess
import threading
from pathlib import Path

import pytest

from tests.second_chance.sc_rig import (
    VIP4,
    VIPS,
    Client,
    Floatip,
    World,
    content,
    exactly,
    move,
    nft,
    running,
    vip,
)

MEGABYTES = 4 << 20


def test_without_a_second_chance_a_connection_is_reset(world: World, pair: tuple[Floatip, Floatip]) -> None:
    client = Client(world, VIP4)
    assert client.echoes()
    world.route("b")
    with pytest.raises(ConnectionResetError):
        client.echoes()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [4, 6])
def test_a_connection_survives_the_move_and_its_answers_pass_a_strict_reverse_path(
    world: World, version: int, link: int
) -> None:
    with running(world, link) as (keeper, carrier):
        client = Client(world, vip(version))
        assert client.node == "a"
        assert client.echoes()
        move(keeper, carrier)
        for size in (1, 1400, 60_000):
            assert client.echoes(bytes(size))
        with carrier.inside():
            counts = carrier.rules.counts()
        assert counts.forwarded > 0
        assert counts.answers > 0
        with keeper.inside():
            assert sum(keeper.rules.counts().accepted.values()) > 0
        new = Client(world, vip(version))
        assert new.node == "b"
        assert new.echoes()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [4, 6])
@pytest.mark.parametrize("real_packets", [True, False])
def test_an_upload_and_a_download_arrive_whole_over_the_move(
    tmp_path: Path, version: int, real_packets: bool, link: int
) -> None:
    with World(tmp_path, real_packets=real_packets) as world, running(world, link) as (keeper, carrier):
        up, down = Client(world, vip(version), b"u"), Client(world, vip(version), b"d")
        data = content(MEGABYTES)
        down.socket.sendall(MEGABYTES.to_bytes(4, "big"))
        first = exactly(down.socket, MEGABYTES // 8)
        up.socket.sendall(data[: MEGABYTES // 8])
        move(keeper, carrier)
        sending = threading.Thread(target=lambda: up.socket.sendall(data[MEGABYTES // 8 :]), daemon=True)
        sending.start()
        assert first + exactly(down.socket, MEGABYTES - len(first)) == data
        sending.join()
        up.socket.shutdown(1)
        assert exactly(up.socket, 32) == hashlib.sha256(data).digest()


def test_a_connection_that_is_not_in_the_list_is_reset(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, carrier = pair
    kept = Client(world, VIP4)
    move(keeper, carrier, hold=False)
    with keeper.inside():
        keeper.tunnel.answer_by({})
    world.route("a")
    late = Client(world, VIP4)
    assert late.node == "a"
    world.route("b")
    with pytest.raises(ConnectionResetError):
        late.echoes()
    with keeper.inside():
        keeper.tunnel.answer_by(dict.fromkeys(VIPS, "b"))
    assert kept.echoes()


def test_a_connection_that_begins_between_the_list_and_the_move_survives_with_later_lists(
    world: World, pair: tuple[Floatip, Floatip]
) -> None:
    keeper, carrier = pair
    late: list[Client] = []
    move(keeper, carrier, meanwhile=lambda: late.append(Client(world, VIP4)))
    assert late[0].node == "a"
    late[0].socket.sendall(b"now b has it, and holds back its reset")
    carried_before = frozenset(carrier.rules.adopted())
    flows = keeper.listed() - carried_before
    assert len(flows) == 1
    with keeper.inside():
        keeper.rules.here(flows, ())
    with carrier.inside():
        carrier.rules.moved(dict.fromkeys(flows, "a"), ())
    assert exactly(late[0].socket, 38) == b"now b has it, and holds back its reset"


def test_connections_survive_a_move_and_the_way_back_within_a_moment(
    world: World, pair: tuple[Floatip, Floatip]
) -> None:
    a, b = pair
    clients = [Client(world, vip(version)) for version in (4, 6)]
    for _ in range(2):
        for keeper, carrier in ((a, b), (b, a)):
            move(keeper, carrier)
            with carrier.inside():
                carrier.tunnel.answer_by({})
                carrier.rules.here((), carrier.rules.adopted_here())
            with keeper.inside():
                keeper.rules.moved({}, keeper.rules.adopted())
            assert all(client.echoes(bytes(3000)) for client in clients)
            clients += [Client(world, vip(version)) for version in (4, 6)]
            assert [client.node for client in clients[-2:]] == [carrier.name] * 2
    assert all(client.echoes() for client in clients)


def test_pings_are_answered_while_the_route_still_leads_to_the_keeper(
    world: World, pair: tuple[Floatip, Floatip]
) -> None:
    """A VRRP node gives the address up before the next one takes over."""
    move(*pair)
    world.route("a")
    with world.inside("router"):
        nft("delete table inet strict")
    with world.inside("client"):
        for address in VIPS:
            subprocess.run(["ping", "-c", "1", "-W", "10", str(address)], check=True, capture_output=True)
