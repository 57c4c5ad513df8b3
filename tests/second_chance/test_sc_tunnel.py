"""The device, its frames, the way of the answers; the devices and routes around it."""

import json
import random
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Network, ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import pytest

from floatip.core.addresses import Address
from floatip.second_chance.answers import leave_directly
from floatip.second_chance.cannot import Cannot
from floatip.second_chance.rules import Rules, _spans
from floatip.second_chance.surroundings import Route, Surroundings
from floatip.second_chance.tunnel import DEVICE, MTU, Node, Tunnel, mac
from tests.flows import flow
from tests.second_chance.sc_by_hand import ACK_PUSH, packet, segment
from tests.second_chance.sc_rig import (
    PORT,
    SERVICE,
    VIP4,
    VIP6,
    VNI,
    Client,
    Floatip,
    World,
    address4,
    figure,
    move,
    running,
)

OWN = Node("one", ip_address("10.0.0.1"))
PEERS = [Node(f"node {number}", ip_address(f"10.0.0.{number}")) for number in (2, 3, 4)]


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def up(device: str, address: str) -> None:
    """It has no other address: the kernel would add one of IPv6 some time later."""
    ip(f"link set {device} addrgenmode none up")
    ip(f"address add {address} dev {device}")


@pytest.fixture
def alone(namespace: None) -> None:
    """A machine with one link, of which both ends are here."""
    ip("link add eth0 type veth peer name wire")
    for device, address in (("eth0", "10.0.0.1/24"), ("wire", "10.0.9.1/24")):
        up(device, address)
    ip("route add default via 10.0.0.254")


@pytest.fixture
def tunnel(alone: None) -> Iterator[Tunnel]:
    with closing(Tunnel.open(OWN, PEERS, PORT, VNI)) as it:
        yield it


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as it:
        yield it


def neighbours() -> set[tuple[str, str]]:
    """Address and MAC."""
    said = ip(f"neigh show dev {DEVICE}") + ip(f"-6 neigh show dev {DEVICE}")
    found = (line.split() for line in said.splitlines())
    return {(words[0], words[2]) for words in found if "PERMANENT" in words}


def test_a_tunnel_is_whole_and_leaves_nothing(alone: None) -> None:
    before = ip("-d link"), ip("rule"), ip("address")
    with closing(Tunnel.open(OWN, PEERS, PORT, VNI)) as tunnel:
        assert tunnel.index == socket.if_nametoindex(DEVICE)
        assert not tunnel.is_adopted
        shown = ip(f"-d link show {DEVICE}")
        for words in (f"vxlan id {VNI}", "local 10.0.0.1", f"dstport {PORT}", "nolearning", "mtu 1500", "UP"):
            assert words in shown
        assert mac("one").hex(":") in shown
        assert Path(f"/proc/sys/net/ipv4/conf/{DEVICE}/rp_filter").read_text() == "2\n"
        fdb = subprocess.run(
            ["bridge", "fdb", "show", "dev", DEVICE], capture_output=True, text=True, check=True
        ).stdout
        assert {tuple(line.split()[:3]) for line in fdb.splitlines()} == {
            (mac(peer.name).hex(":"), "dst", str(peer.address)) for peer in PEERS
        }
        assert {address for address, _ in neighbours()} >= {"169.254.241.2", "169.254.241.3", "169.254.241.4"}
        assert len(neighbours()) == 6
        tunnel.answer_by({VIP4: "node 2", VIP6: "node 3"})
        assert "from 192.168.223.158 lookup" in ip("rule")
    assert (ip("-d link"), ip("rule"), ip("address")) == before


def test_a_node_keeps_its_number_while_others_come_and_go(tunnel: Tunnel) -> None:
    before = {name: peer.number for name, peer in tunnel.peers.items()}
    tunnel.configure(PEERS[1:])
    assert {name: peer.number for name, peer in tunnel.peers.items()} == {
        name: number for name, number in before.items() if name != "node 2"
    }
    newcomer = Node("node 9", ip_address("10.0.0.9"))
    tunnel.configure([newcomer, *PEERS[1:]])
    assert tunnel.peers["node 9"].number == before["node 2"]
    moved = Node("node 3", ip_address("10.0.0.33"))
    tunnel.configure([newcomer, moved])
    assert tunnel.peers["node 3"].number == before["node 3"]
    fdb = subprocess.run(["bridge", "fdb", "show", "dev", DEVICE], capture_output=True, text=True, check=True).stdout
    assert "10.0.0.33" in fdb
    assert "10.0.0.3 " not in fdb
    assert len(neighbours()) == 4
    tunnel.configure([])
    assert neighbours() == set()


def test_a_successor_adopts_the_device_if_it_is_the_same(alone: None) -> None:
    first = Tunnel.open(OWN, PEERS, PORT, VNI)
    first.answer_by({VIP4: "node 2"})
    numbers = {name: peer.number for name, peer in first.peers.items()}
    first._release()
    second = Tunnel.open(OWN, list(reversed(PEERS)), PORT, VNI)
    assert second.is_adopted
    assert second.index == first.index
    assert {name: peer.number for name, peer in second.peers.items()} == numbers
    assert "192.168.223.158" in ip("rule")
    second.answer_by({})
    assert "192.168.223.158" not in ip("rule")
    second._release()
    with closing(Tunnel.open(OWN, PEERS, PORT + 1, VNI)) as third:
        assert not third.is_adopted
        assert third.index != first.index
    assert DEVICE not in ip("link")


def test_answers_can_be_repaired_and_moved(tunnel: Tunnel) -> None:
    tunnel.answer_by({VIP4: "node 2"})
    ip("rule delete pref 241")
    tunnel.answer_by({VIP4: "node 2"})
    assert "192.168.223.158" in ip("rule")
    tunnel.answer_by({VIP4: "node 3"})
    rules = [line for line in ip("rule").splitlines() if "192.168.223.158" in line]
    assert len(rules) == 1
    assert rules[0].startswith("241:")
    ip("address add 192.168.223.158/32 dev lo")
    number = tunnel.peers["node 3"].number
    assert f"via 169.254.241.{number} dev {DEVICE}" in ip("route get 9.9.9.9 from 192.168.223.158")
    assert "dev eth0" in ip("route get 9.9.9.9 from 10.0.0.1")


def test_a_rule_of_the_users_with_the_same_number_stays(tunnel: Tunnel) -> None:
    ip("rule add from 192.168.223.158 lookup 100 pref 241")
    tunnel.answer_by({VIP4: "node 2"})
    tunnel.answer_by({})
    (left,) = [line for line in ip("rule").splitlines() if "192.168.223.158" in line]
    assert left.endswith("lookup 100")


def test_the_port_of_another_program_is_named(alone: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", PORT))
        with pytest.raises(Cannot) as said:
            Tunnel.open(OWN, PEERS, PORT, VNI)
    assert said.value.what == f"another program uses UDP port {PORT}"
    assert "ss -ulnp" in said.value.hint
    assert DEVICE not in ip("link")


def test_another_vxlan_with_the_same_number_is_named(alone: None) -> None:
    ip(f"link add theirs type vxlan id {VNI} dstport {PORT} local 10.0.0.1")
    with pytest.raises(Cannot, match="another VXLAN device"):
        Tunnel.open(OWN, PEERS, PORT, VNI)


def test_a_device_of_another_kind_is_left_alone(alone: None) -> None:
    ip(f"link add {DEVICE} type veth peer name other")
    with pytest.raises(Cannot, match="another program's"):
        Tunnel.open(OWN, PEERS, PORT, VNI)
    assert DEVICE in ip("link")


def test_a_node_with_an_address_of_the_other_version_is_named(alone: None) -> None:
    with pytest.raises(Cannot, match="node six has 2001:db8::1"):
        Tunnel.open(OWN, [Node("six", ip_address("2001:db8::1"))], PORT, VNI)


def test_a_machine_without_ipv6_has_a_tunnel_for_ipv4(alone: None) -> None:
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    with closing(Tunnel.open(OWN, PEERS, PORT, VNI)) as tunnel:
        assert not tunnel.has_ipv6
        tunnel.answer_by({VIP4: "node 2"})
        with pytest.raises(Cannot, match="no IPv6"):
            tunnel.answer_by({VIP6: "node 2"})
        surroundings = Surroundings.open(tunnel.index)
        rules = Rules.open(tunnel, PORT, 60, surroundings.read())
        rules.moved({flow(VIP4, 1, VIP4, 2): "node 2"}, ())
        rules.close()
        surroundings.close()


def test_what_is_no_flow_or_no_node_is_refused(tunnel: Tunnel) -> None:
    surroundings = Surroundings.open(tunnel.index)
    good = flow(VIP4, 1, VIP4, 2)
    with closing(surroundings), closing(Rules.open(tunnel, PORT, 60, surroundings.read())) as rules:
        for broken in (b"", good[:-1], good[:-1] + b"\1"):
            with pytest.raises(ValueError, match="not a flow"):
                rules.moved({good: "node 2", broken: "node 2"}, ())
            with pytest.raises(ValueError, match="not a flow"):
                rules.here([good, broken], ())
        with pytest.raises(KeyError):
            rules.moved({good: "stranger"}, ())
        assert rules.adopted() == {}
        assert rules.adopted_here() == frozenset()
        rules.moved({}, [b"nothing"])


def test_a_connection_goes_to_the_node_that_was_named_last(tunnel: Tunnel) -> None:
    def hop() -> str:
        listed = ["nft", "list", "map", "netdev", "floatip_sc", "moved4"]
        return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split(" : ")[-1].split()[0]

    surroundings = Surroundings.open(tunnel.index)
    one, two = (flow(VIP4, port, VIP4, 2) for port in (1, 2))
    with closing(surroundings), closing(Rules.open(tunnel, PORT, 60, surroundings.read())) as rules:
        rules.moved({one: "node 2"}, ())
        assert hop() == str(tunnel.peers["node 2"].ipv4)
        rules.moved({one: "node 3"}, ())
        assert hop() == str(tunnel.peers["node 3"].ipv4)
        rules.moved({one: "node 4"}, [one])
        assert hop() == str(tunnel.peers["node 4"].ipv4)
        rules.moved({one: "node 4", two: "node 4"}, ())
        assert rules.adopted() == {one: "node 4", two: "node 4"}
        rules.moved({}, [one, two, two])
        assert rules.adopted() == {}


# Frames


def test_frames_arrive_with_the_name_of_their_sender(world: World) -> None:
    a, b = Floatip(world, "a", ("b",)), Floatip(world, "b", ("a",))
    try:
        longest = bytes(range(250)) * 6
        assert len(longest) == MTU
        a.tunnel.send("b", b"hello" + bytes(41))
        a.tunnel.send("b", longest)
        b.tunnel.send("a", b"and you" + bytes(39))
        world.wait("b", lambda: len(b.frames) == 2, "both arrive")
        world.wait("a", lambda: len(a.frames) == 1, "it arrives")
        assert b.frames == [("a", b"hello" + bytes(41)), ("a", longest)]
        assert a.frames == [("b", b"and you" + bytes(39))]
    finally:
        a.close()
        b.close()


def test_a_burst_of_frames_arrives_whole(world: World) -> None:
    """A list of 10,000 connections."""
    a, b = Floatip(world, "a", ("b",)), Floatip(world, "b", ("a",))
    try:
        frames = [number.to_bytes(2, "big") + bytes(1398) for number in range(120)]
        b.read_no_more()
        before = figure(b, 1)
        for each in frames:
            a.tunnel.send("b", each)
        world.wait("b", lambda: figure(b, 1) >= before + len(frames), "all arrive")
        assert [payload for _, payload in b.tunnel.receive()] == frames
    finally:
        a.close()
        b.close()


def test_frames_of_strangers_are_not_read(tunnel: Tunnel) -> None:
    """Of a MAC that is no peer's, or to another one."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("wire", 0))
        ours = json.loads(ip("-json link show eth0"))[0]["address"]
        for sender, receiver in (("stranger", "one"), ("node 2", "node 3"), ("node 2", "one")):
            inner = mac(receiver) + mac(sender) + b"\x88\xb5" + sender.encode().ljust(46)
            wire.send(outer_frame(bytes.fromhex(ours.replace(":", "")), inner))
    assert select.select([tunnel], [], [], 20)[0]
    frames = []
    while select.select([tunnel], [], [], 0.2)[0]:
        frames += tunnel.receive()
    assert [(name, payload.rstrip()) for name, payload in frames] == [("node 2", b"node 2")]


def outer_frame(destination: bytes, inner: bytes) -> bytes:
    vxlan = b"\x08\0\0\0" + VNI.to_bytes(3, "big") + b"\0" + inner
    udp = (5000).to_bytes(2, "big") + PORT.to_bytes(2, "big") + (8 + len(vxlan)).to_bytes(2, "big") + b"\0\0" + vxlan
    head = bytearray(b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\1\0\0\x40\x11\0\0")
    head += PEERS[0].address.packed + OWN.address.packed
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
    head[10:12] = (~(total % 0xFFFF) & 0xFFFF).to_bytes(2, "big")
    return destination + b"\x02\0\0\0\0\1" + b"\x08\0" + bytes(head) + udp


def test_a_device_that_is_gone_is_said(alone: None) -> None:
    tunnel = Tunnel.open(OWN, PEERS, PORT, VNI)
    ip(f"link delete {DEVICE}")
    with pytest.raises(Cannot):
        tunnel.send("node 2", b"hello")
    with pytest.raises(Cannot):
        tunnel.receive()
    with pytest.raises(Cannot):
        tunnel.configure(PEERS)
    tunnel.close()


# Devices and routes


def test_uplinks_are_the_devices_by_which_packets_come(tunnel: Tunnel) -> None:
    with closing(Surroundings.open(tunnel.index)) as surroundings:
        assert surroundings.read().uplinks == {"eth0", "wire"}
        assert not select.select([surroundings], [], [], 0)[0]
        ip("link add eth1 type veth peer name wire1")
        assert select.select([surroundings], [], [], 20)[0]
        assert surroundings.read().uplinks == {"eth0", "wire"}
        up("eth1", "10.0.10.1/24")
        ip("link add br0 type bridge")
        ip("link add port type veth peer name end")
        for number, device in enumerate(("port", "end", "br0"), 11):
            up(device, f"10.0.{number}.1/24")
        ip("link set port master br0")
        assert surroundings.read().uplinks == {"eth0", "wire", "eth1", "br0", "end"}
        ip("link set eth1 down")
        assert surroundings.read().uplinks == {"eth0", "wire", "br0", "end"}


def test_rules_follow_devices_that_come_and_go(tunnel: Tunnel) -> None:
    def chains() -> set[str]:
        said = subprocess.run(
            ["nft", "list", "table", "netdev", "floatip_sc"], capture_output=True, text=True, check=True
        ).stdout
        return {line.split('"')[1] for line in said.splitlines() if "hook ingress" in line}

    with closing(Surroundings.open(tunnel.index)) as surroundings:
        rules = Rules.open(tunnel, PORT, 60, surroundings.read())
        one = flow(VIP4, 1, VIP4, 2)
        assert chains() == {DEVICE}
        rules.moved({one: "node 2"}, ())
        assert chains() == {DEVICE, "eth0", "wire"}
        rules.uplinks(["eth0", "not-there"])
        assert chains() == {DEVICE, "eth0"}
        ip("link delete eth0")
        rules.uplinks(["eth0"])
        ip("link add eth0 type veth peer name wire")
        rules.uplinks(["eth0"])
        assert chains() == {DEVICE, "eth0"}
        rules.uplinks([])
        assert chains() == {DEVICE}
        rules.uplinks(["eth0"])
        rules.moved({}, [one])
        assert chains() == {DEVICE}
        rules.close()


def test_nothing_is_hooked_in_while_nothing_is_moved(tunnel: Tunnel) -> None:
    def hooks() -> set[str]:
        said = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        lines = said.splitlines()
        return {before.split()[1] for before, line in pairwise(lines) if "type filter hook" in line}

    one = flow(VIP4, 1, VIP4, 2)
    with closing(Surroundings.open(tunnel.index)) as surroundings:
        rules = Rules.open(tunnel, PORT, 60, surroundings.read())
        assert hooks() == {"tunnel", "guard"}
        rules.hold([VIP4])
        rules.hold([VIP4, VIP6])
        assert hooks() == {"tunnel", "guard", "hold"}
        rules.here([one], ())
        assert hooks() == {"tunnel", "guard", "hold", "accepted"}
        rules.moved({one: "node 2"}, ())
        assert hooks() == {"tunnel", "guard", "hold", "accepted", "uplink_eth0", "uplink_wire"}
        rules.here((), [one])
        rules.hold([])
        rules.moved({}, [one])
        assert hooks() == {"tunnel", "guard"}
        rules._nftables.close()
        again = Rules.open(tunnel, PORT, 60, surroundings.read())
        assert hooks() == {"tunnel", "guard"}
        again.close()


def test_a_packet_with_a_tag_is_left_to_the_device_of_its_vlan(world: World) -> None:
    """It would take the tag along into the tunnel."""
    with running(world) as (_, carrier):
        with carrier.inside():
            carrier.rules.moved({flow(address4("client"), 4000, VIP4, SERVICE): "a"}, ())
            ours = json.loads(ip("-json link show eth0"))[0]["address"].replace(":", "")
        made = packet(address4("client"), VIP4, segment(address4("client"), VIP4, (4000, SERVICE), ACK_PUSH, (1, 1)))
        head = bytes.fromhex(ours) + b"\x02\0\0\0\0\1"
        with world.inside("router"), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("b", 0))
            wire.send(head + b"\x81\0\0\x0a\x08\0" + made)
            wire.send(head + b"\x08\0" + made)
        world.wait("b", lambda: carrier.rules.counts().forwarded > 0, "the one without a tag is forwarded")
        with carrier.inside():
            assert carrier.rules.counts().forwarded == 1


def test_answers_follow_the_routes(world: World) -> None:
    with running(world) as (keeper, carrier):
        client = Client(world, VIP4)
        move(keeper, carrier)
        assert client.echoes()
        world.ip("b", [f"route add {address4('client')}/32 via 10.0.2.253"])
        carrier.refresh()
        client.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            client.echoes()
        world.ip("b", [f"route delete {address4('client')}/32"])
        carrier.refresh()
        client.socket.settimeout(20)
        assert client.socket.recv(100) == b"still there?"


def test_answers_go_where_the_kernels_own_routes_lead(alone: None) -> None:
    """Many routes, one in another, and the kernel as the judge."""
    draw = random.Random(15)
    made: list[IPv4Network] = []
    for number in range(150):
        length = draw.randrange(1, 29)
        network = IPv4Network((draw.getrandbits(32) >> (32 - length) << (32 - length), length))
        if draw.random() < 0.5 and made:
            inner = draw.choice(made)
            if inner.prefixlen < 28:
                network = draw.choice(list(inner.subnets(min(6, 30 - inner.prefixlen))))
        first = int(network.network_address) >> 24
        if first in (0, 10, 127) or first >= 224 or network.prefixlen < 5:
            continue
        made.append(network)
        kind = f"via 10.0.0.{2 + number % 200}" if number % 3 else "scope link"
        subprocess.run(
            ["ip", "route", "add", str(network), *kind.split(), "dev", "eth0"], check=False, capture_output=True
        )
    ip("route add blackhole 100.64.0.0/10")
    with closing(Surroundings.open(0)) as surroundings:
        routes = surroundings.read().routes
    assert len(routes) > 50
    spans = list(_spans([route for route in routes if route.destination.version == 4], 32))
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    places = [one + step for network in made for one in (int(network[0]), int(network[-1])) for step in (-1, 0, 1)]
    checked = 0
    for place in places:
        address = ip_address(place)
        if address.packed[0] in (0, 10, 127, 100) or address.packed[0] >= 224:
            continue
        said = subprocess.run(["ip", "route", "get", str(address)], capture_output=True, text=True, check=False).stdout
        if "broadcast" in said or not said:
            continue
        words = said.split()
        gateway: Address | None = ip_address(words[words.index("via") + 1]) if "via" in words else None
        assert [route.gateway for start, end, route in spans if start <= place < end] == [gateway], address
        checked += 1
    assert checked > 200


def test_routes_that_hold_nothing_are_left_out() -> None:
    wide, narrow = (Route(ip_network(one), 1, None) for one in ("10.0.0.0/8", "10.0.0.0/9"))
    assert list(_spans([wide, narrow], 32)) == [
        (10 << 24, (10 << 24) + (1 << 23), narrow),
        ((10 << 24) + (1 << 23), 11 << 24, wide),
    ]
    assert list(_spans([], 32)) == []
    everything = Route(ip_network("0.0.0.0/0"), 1, None)
    assert list(_spans([everything], 32)) == [(0, 1 << 32, everything)]


def test_what_another_program_takes_from_the_device_is_repaired(tunnel: Tunnel) -> None:
    numbers = {name: peer.number for name, peer in tunnel.peers.items()}
    whole = neighbours(), ip(f"-4 address show dev {DEVICE}"), sorted(fdb().splitlines())
    ip(f"neigh flush dev {DEVICE} nud permanent")
    ip(f"address flush dev {DEVICE}")
    for each in mac("node 2"), mac("node 3"):
        subprocess.run(["bridge", "fdb", "del", each.hex(":"), "dev", DEVICE, "self"], check=True)
    assert not neighbours()
    tunnel.repair()
    assert (neighbours(), ip(f"-4 address show dev {DEVICE}"), sorted(fdb().splitlines())) == whole
    assert {name: peer.number for name, peer in tunnel.peers.items()} == numbers


def test_to_look_at_a_whole_device_changes_nothing(tunnel: Tunnel) -> None:
    with closing(Surroundings.open(tunnel.index)) as surroundings:
        surroundings.read()
        tunnel.repair()
        assert not select.select([surroundings.fileno()], [], [], 0)[0], "else all is read again"


def fdb() -> str:
    return subprocess.run(["bridge", "fdb", "show", "dev", DEVICE], check=True, capture_output=True, text=True).stdout


def test_answers_that_a_predecessor_left_are_adopted_and_those_to_nodes_that_are_gone_are_removed(alone: None) -> None:
    with closing(Tunnel.open(OWN, PEERS, PORT, VNI)) as tunnel:
        tunnel.answer_by({VIP4: "node 2", VIP6: "node 4"})
        tunnel._release()  # as by SIGKILL
        with closing(Tunnel.open(OWN, PEERS[:2], PORT, VNI)) as successor:
            assert successor.adopted_answers() == {VIP4: "node 2"}
            assert f"from {VIP4} " in ip("rule")
            assert str(VIP6) not in ip("-6 rule")


def test_a_node_that_becomes_master_answers_directly_whatever_the_process_does(tunnel: Tunnel) -> None:
    ip(f"rule add from {VIP4} lookup 99 priority 241")
    tunnel.answer_by({VIP4: "node 2", VIP6: "node 3"})
    leave_directly((VIP4, VIP6))
    assert str(VIP6) not in ip("-6 rule")
    assert [line.split()[-1] for line in ip("rule").splitlines() if str(VIP4) in line] == ["99"], (
        "the user's rule stays"
    )
    leave_directly((VIP4, VIP6))


def test_a_daemon_without_second_chance_removes_the_way_of_answers_that_a_killed_one_left(tunnel: Tunnel) -> None:
    ip(f"rule add from {VIP4} lookup 99 priority 241")
    tunnel.answer_by({VIP4: "node 2", VIP6: "node 3"})
    leave_directly()
    assert str(VIP6) not in ip("-6 rule")
    assert [line.split()[-1] for line in ip("rule").splitlines() if str(VIP4) in line] == ["99"], (
        "the user's rule stays"
    )
