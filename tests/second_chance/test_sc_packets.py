"""The packets that are not plain segments: parts of packets, and ICMP errors. And what must not come in."""

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from floatip.second_chance.tunnel import mac
from tests.flows import flow
from tests.second_chance.sc_by_hand import ACK_PUSH, SYN, in_vxlan, packet, parts, segment, send, sequences
from tests.second_chance.sc_rig import (
    PATIENCE,
    PORT,
    SERVICE,
    VIP4,
    VIPS,
    Client,
    Floatip,
    Service,
    World,
    address4,
    address6,
    content,
    exactly,
    figure,
    move,
    running,
    vip,
    write,
)

MEGABYTES = 2 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, hosts=("client", "a", "b", "c")) as it:
        yield it


@pytest.fixture
def pair(world: World) -> Iterator[tuple[Floatip, Floatip]]:
    with running(world) as it:
        yield it


def received(of: Floatip) -> int:
    """Packets out of the tunnel."""
    return figure(of, 1)


def has_more(of: Floatip, before: int) -> bool:
    return received(of) > before


def none_lost(world: World, keeper: Floatip, carrier: Floatip) -> None:
    """Parts of a packet and ICMP errors are not counted as forwarded alone: it would look as if packets got lost."""

    def all_came() -> bool:
        with carrier.inside():
            forwarded = carrier.rules.counts().forwarded
        with keeper.inside():
            return 0 < forwarded <= keeper.rules.counts().accepted[carrier.name]

    world.wait(carrier.name, all_came, "the keeper to have accepted all that was forwarded")


def transmitted(of: Floatip) -> int:
    return figure(of, 9)


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_in_parts_reaches_the_keeper(world: World, version: int) -> None:
    with running(world) as (keeper, carrier):
        with (
            keeper.inside(),
            socket.create_server(("::", 7001), family=socket.AF_INET6, dualstack_ipv6=True) as listening,
        ):
            with world.inside("client"):
                ours = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
            world.opened.append(ours)
            ours.connect((str(vip(version)), 7001))
            theirs, _ = listening.accept()
        world.opened.append(theirs)
        theirs.settimeout(20)
        move(keeper, carrier)
        data = content(2000)
        source = address4("client") if version == 4 else address6("client")
        whole = segment(source, vip(version), (ours.getsockname()[1], 7001), ACK_PUSH, sequences(ours), data)
        with world.inside("client"):
            send(parts(source, vip(version), whole), vip(version))
        assert exactly(theirs, len(data)) == data
        none_lost(world, keeper, carrier)


def test_an_upload_survives_the_move_where_routers_cut_its_packets(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, carrier = pair
    with world.inside("client"):
        write(("ipv4/ip_no_pmtu_disc", 1))
    client = Client(world, VIP4)
    assert client.echoes(bytes(3000))
    for host, devices in (("router", ("a", "b")), ("a", ("eth0",)), ("b", ("eth0",))):
        world.ip(host, [f"link set dev {device} mtu 1280" for device in devices])
    move(keeper, carrier)
    for size in (1448, 20_000, 200_000):
        assert client.echoes(bytes(size))
    with world.inside("router"):
        created = subprocess.run(["nstat", "-asz", "IpFragCreates"], capture_output=True, text=True, check=True).stdout
    assert int(created.split()[-2]) > 100


@pytest.mark.parametrize("version", [4, 6])
def test_a_download_adapts_when_its_path_narrows_after_the_move(world: World, version: int) -> None:
    with running(world) as (keeper, carrier):
        client = Client(world, vip(version), b"d")
        move(keeper, carrier)
        world.ip("router", ["link set dev client mtu 1300"])
        client.socket.sendall(MEGABYTES.to_bytes(4, "big"))
        assert exactly(client.socket, MEGABYTES) == content(MEGABYTES)
        none_lost(world, keeper, carrier)


def test_the_tunnel_takes_nothing_from_a_stranger(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, carrier = pair
    client = Client(world, VIP4)
    move(keeper, carrier)
    assert client.echoes()
    with carrier.inside():
        carrier.rules.moved({}, keeper.listed())  # nothing else comes from b
    wanted = segment(address4("client"), VIP4, (client.port, SERVICE), ACK_PUSH, sequences(client.socket), b"forged")
    inner = packet(address4("client"), VIP4, wanted)
    before = received(keeper)
    for host in ("c", "a"):  # a itself: a user without rights of this machine
        with world.inside(host), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(in_vxlan("b", "a", inner), (str(address4("a")), PORT))
    with world.inside("b"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(in_vxlan("b", "a", inner), (str(address4("a")), PORT))
    world.wait("a", lambda: received(keeper) > before, "what comes from b's address arrives")
    assert received(keeper) == before + 1


def test_a_node_gets_in_only_what_the_list_has(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, carrier = pair
    client = Client(world, VIP4)
    move(keeper, carrier)
    other = Service(world, "a", 22)
    try:
        with keeper.inside():
            before = sum(keeper.rules.counts().accepted.values())
        arrived = received(keeper)
        source = address4("client")
        forged = [
            segment(source, VIP4, (4000, 22), SYN, (1, 0)),
            segment(source, VIP4, (4000, SERVICE), SYN, (1, 0)),
            segment(source, address4("a"), (client.port, SERVICE), SYN, (1, 0)),
        ]
        with world.inside("b"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for each, destination in zip(forged, (VIP4, VIP4, address4("a")), strict=True):
                udp.sendto(in_vxlan("b", "a", packet(source, destination, each)), (str(address4("a")), PORT))
        world.wait("a", lambda: received(keeper) >= arrived + 3, "they arrive at the tunnel")
        with keeper.inside():
            assert sum(keeper.rules.counts().accepted.values()) == before
        assert client.echoes()
        with keeper.inside():
            assert sum(keeper.rules.counts().accepted.values()) > before
    finally:
        other.close()


def test_what_was_accepted_is_counted_on_when_a_list_has_been_empty(
    world: World, pair: tuple[Floatip, Floatip]
) -> None:
    keeper, carrier = pair
    client = Client(world, VIP4)
    move(keeper, carrier)
    assert client.echoes()
    with keeper.inside():
        before = keeper.rules.counts().accepted["b"]
        flows = keeper.listed()
        keeper.rules.here((), flows)
        keeper.rules.here(flows, ())
        again = keeper.rules.counts().accepted["b"]
        assert again >= before > 0
    assert client.echoes()
    with keeper.inside():
        assert keeper.rules.counts().accepted["b"] > again


def test_the_tunnel_asks_and_answers_nothing_of_its_own(world: World, pair: tuple[Floatip, Floatip]) -> None:
    """An ARP request for an address of this machine, and behind it a frame of ours."""
    keeper, _ = pair
    sent, arrived = transmitted(keeper), received(keeper)
    question = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac("b"), b"\xa9\xfe\xf1\x02", bytes(6), VIP4.packed)
    with world.inside("b"), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("floatip-sc", 0))
        raw.send(mac("a") + mac("b") + b"\x08\x06" + question)
        raw.send(mac("a") + mac("b") + b"\x88\xb5" + b"ours".ljust(46, b"\0"))
    world.wait("a", lambda: bool(keeper.frames), "the frame behind it arrives")
    assert received(keeper) == arrived + 2
    assert transmitted(keeper) == sent


def test_what_came_through_the_tunnel_is_never_sent_to_another_node(world: World) -> None:
    """Each of two nodes believes that the other one has the connection."""
    with running(world) as (a, b):
        client = Client(world, VIP4)
        (one_flow,) = a.listed()
        for one, other in ((a, b), (b, a)):
            with one.inside():
                one.rules.moved({one_flow: other.name}, ())
        sent = received(a)
        client.socket.sendall(b"?")
        world.wait("b", lambda: received(b) > 0, "it arrives at b")
        time.sleep(0.3)  # nothing is to happen
        assert received(a) == sent


@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_goes_straight_to_a_client_on_a_network_of_the_carrier(world: World, version: int) -> None:
    networks = ("10.0.88.{}/24", "2001:db8:88::{}/64")
    world.ip("b", [f"link add name direct type veth peer name direct netns {world.path_of('client')}"])
    for host, number in (("b", 1), ("client", 2)):
        addresses = [f"address add {each.format(number)} dev direct" for each in networks]
        world.ip(host, ["link set dev direct up", *(line + " nodad" * (":" in line) for line in addresses)])
    client = ip_address(networks[version == 6].format(2).split("/")[0])
    with running(world) as (_, carrier):
        carrier.refresh()
        with carrier.inside():
            carrier.rules.moved({flow(client, 4000, vip(version), SERVICE): "a"}, ())
        answer = packet(
            vip(version), client, segment(vip(version), client, (SERVICE, 4000), ACK_PUSH, (1, 1), b"hello")
        )
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with world.inside("client"), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as arriving:
            arriving.settimeout(20)
            with world.inside("a"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(in_vxlan("a", "b", answer), (str(address4("b")), PORT))
            data, (source, *_) = arriving.recvfrom(2000)
        assert data.endswith(b"hello")
        assert ip_address(source) == vip(version)
        with carrier.inside():
            assert carrier.rules.counts().answers == 1


@pytest.mark.parametrize("version", [4, 6])
def test_answers_pass_in_the_window_and_after_it_only_those_of_the_list(world: World, version: int) -> None:
    client = address4("client") if version == 4 else address6("client")
    world.route("b")

    def answer(text: bytes) -> None:
        made = packet(vip(version), client, segment(vip(version), client, (SERVICE, 4000), ACK_PUSH, (1, 1), text))
        with world.inside("a"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(in_vxlan("a", "b", made), (str(address4("b")), PORT))

    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with running(world) as (_, carrier), world.inside("client"):
        arriving = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
        world.opened.append(arriving)
        arriving.settimeout(PATIENCE)
        for held, text in ((VIPS, b"first"), ((), b"second"), (VIPS, b"third")):
            with carrier.inside():
                carrier.rules.hold(held)
            came = received(carrier)
            answer(text)
            world.wait("b", partial(has_more, carrier, came), "it comes out of the tunnel")
        assert [arriving.recv(2000)[-5:] for _ in range(2)] == [b"first", b"third"]
        with carrier.inside():
            assert carrier.rules.counts().answers == 2


def test_three_nodes_keep_connections_of_one_carrier(world: World) -> None:
    services = [Service(world, name) for name in ("a", "c")]
    nodes = {name: Floatip(world, name, tuple({"a", "b", "c"} - {name})) for name in ("a", "b", "c")}
    try:
        clients = []
        for keeper in ("a", "c"):
            world.route(keeper)
            clients.append(Client(world, VIP4))
            with nodes[keeper].inside():
                nodes[keeper].rules.here(nodes[keeper].listed(), ())
            with nodes["b"].inside():
                nodes["b"].rules.moved(dict.fromkeys(nodes[keeper].listed(), keeper), ())
        for keeper in ("a", "c"):
            with nodes[keeper].inside():
                nodes[keeper].tunnel.answer_by({VIP4: "b"})
        world.route("b")
        assert [client.node for client in clients] == ["a", "c"]
        for client in clients:
            assert client.echoes()
        with nodes["b"].inside():
            nodes["b"].rules.moved({}, nodes["a"].listed())
        for keeper in ("a", "c"):
            with nodes[keeper].inside():
                came = [name for name, accepted in nodes[keeper].rules.counts().accepted.items() if accepted]
            assert came == ["b"], "those of other nodes are counted apart"
        assert clients[1].echoes()
        with pytest.raises(ConnectionResetError):
            clients[0].echoes()
    finally:
        for service in services:
            service.close()
        for node in nodes.values():
            node.close()
