"""Rules of others in the way, rules of others that remove ours, and what a killed predecessor left."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import floatip
from floatip.core.addresses import Address
from floatip.second_chance.cannot import Cannot
from floatip.second_chance.rules import Counts, Rules
from floatip.second_chance.sockets import listed
from floatip.second_chance.surroundings import Surroundings
from floatip.second_chance.tunnel import Node, Tunnel
from tests.flows import flow
from tests.second_chance.sc_rig import (
    PORT,
    SERVICE,
    TIMEOUT,
    VIP4,
    VIP6,
    VIPS,
    VNI,
    Client,
    Floatip,
    Service,
    World,
    address4,
    move,
    nft,
    running,
    vip,
)

SOURCE = str(Path(floatip.__file__).parents[1])

INPUT = f"""
table inet user {{
  chain in {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    meta l4proto icmpv6 accept
    iif lo accept
    tcp dport {SERVICE} accept
    udp dport {PORT} accept
  }}
}}
"""
OUTPUT = f"""
table inet user {{
  chain out {{
    type filter hook output priority filter; policy drop;
    ct state established,related accept
    meta l4proto icmpv6 accept
    udp dport {PORT} accept
  }}
}}
"""
FORWARD = """
table inet user {
  chain forward { type filter hook forward priority filter; policy drop; }
}
"""
IPTABLES = f"""
*raw
:PREROUTING ACCEPT
:OUTPUT ACCEPT
COMMIT
*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport {SERVICE} -j ACCEPT
-A INPUT -p udp --dport {PORT} -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -p udp --dport {PORT} -j ACCEPT
COMMIT
"""
STRICT_FIB = """
table inet user {
  chain pre {
    type filter hook prerouting priority raw; policy accept;
    ip6 saddr fe80::/10 accept
    fib saddr . iif oif missing drop
  }
}
"""
RULESETS = {"input": INPUT, "output": OUTPUT, "forward": FORWARD, "iptables": IPTABLES, "fib": STRICT_FIB}
"""STRICT_FIB lets packets in because the policy rule of the answers also says where packets may come from."""
CLOSED = INPUT.replace(f"udp dport {PORT} accept", "")
ONE_DEVICE = INPUT.replace("ct state established", "iifname eth0 ct state established").replace(
    "tcp dport", "iifname eth0 tcp dport"
)


def install(world: World, ruleset: str) -> None:
    for node in ("a", "b"):
        with world.inside(node):
            if "*filter" in ruleset:
                subprocess.run(["iptables-nft-restore"], input=ruleset, text=True, check=True)
            else:
                nft(ruleset)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("ruleset", RULESETS.values(), ids=RULESETS)
def test_a_connection_survives_under_a_firewall(world: World, version: int, ruleset: str) -> None:
    install(world, ruleset)
    with running(world) as (keeper, carrier):
        client = Client(world, vip(version))
        assert client.echoes()
        move(keeper, carrier)
        assert client.echoes(bytes(20_000))
        with keeper.inside():
            assert sum(keeper.rules.counts().accepted.values()) > 0
        assert Client(world, vip(version)).node == "b"


@pytest.mark.parametrize("ruleset", [CLOSED, ONE_DEVICE], ids=["port", "device"])
def test_the_counters_show_where_a_firewall_stands_in_the_way(world: World, ruleset: str) -> None:
    install(world, ruleset)
    with running(world) as (keeper, carrier):
        client = Client(world, VIP4)
        assert client.echoes()
        move(keeper, carrier)
        client.socket.sendall(b"nobody gets this")

        def forwarded() -> bool:
            return carrier.rules.counts().forwarded >= 3

        world.wait("b", forwarded, "the client sends it again and again")
        with keeper.inside():
            assert sum(keeper.rules.counts().accepted.values()) == 0


@pytest.mark.parametrize("value", [0, 1, 2])
def test_a_reverse_path_filter_of_the_machine_is_not_in_the_way(world: World, value: int) -> None:
    for node in ("a", "b"):
        with world.inside(node):
            for name in ("all", "default", "eth0"):
                Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text(str(value))
    with running(world) as (keeper, carrier):
        client = Client(world, VIP4)
        move(keeper, carrier)
        assert client.echoes()


def test_other_programs_cannot_flush_the_tables(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, carrier = pair
    client = Client(world, VIP4)
    move(keeper, carrier)
    assert carrier.rules.is_owner
    for node in ("a", "b"):
        with world.inside(node):
            nft("flush ruleset")
    assert client.echoes()


def test_where_others_can_flush_the_tables_they_are_made_again(world: World) -> None:
    with running(world, may_own=False) as (keeper, carrier):
        client = Client(world, VIP4)
        move(keeper, carrier)
        assert client.echoes()
        with carrier.inside():
            before = quiet(carrier)
            nft("flush ruleset")
            assert (
                "floatip_sc"
                not in subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
            )
            assert carrier.rules.counts() == before
        with keeper.inside():
            nft("flush ruleset")
            keeper.rules.here((), ())
            keeper.rules.here({flow(address4("client"), 1, VIP4, SERVICE)}, ())
            keeper.rules.counts()
        assert client.echoes()
        with carrier.inside():
            assert carrier.rules.counts().forwarded > before.forwarded


def quiet(carrier: Floatip) -> Counts:
    """The counters, once no packet is under way: one that meets no rules is answered with a reset."""
    before, since = carrier.rules.counts(), time.monotonic()
    while time.monotonic() < since + 0.3:
        if (now := carrier.rules.counts()) != before:
            before, since = now, time.monotonic()
        time.sleep(0.01)
    return before


NO_RIGHTS, RIGHTS_OF_THE_UNIT = "-all", "-all,+net_admin,+net_raw"
OPENING = """
from ipaddress import ip_address
from floatip.second_chance.cannot import Cannot
from floatip.second_chance.rules import Rules
from floatip.second_chance.sockets import listed
from floatip.second_chance.surroundings import Surroundings
from floatip.second_chance.tunnel import Node, Tunnel
vip = ip_address("192.168.223.158")
try:
    tunnel = Tunnel.open(Node("a", ip_address("10.0.1.1")), [Node("b", ip_address("10.0.2.1"))], 8473, 241)
    surroundings = Surroundings.open(tunnel.index)
    rules = Rules.open(tunnel, 8473, 60, surroundings.read())
    connection = (vip.packed + bytes((0, 1, 0, 0))) * 2
    rules.moved({connection: "b"}, ())
    rules.here([connection], ())
    tunnel.answer_by({vip: "b"})
    tunnel.send("b", b"hello")
    print(rules.counts(), listed([vip]).flows, rules.is_owner)
    rules.close()
    tunnel.close()
except Cannot as error:
    print(error.what, "|", error.hint)
"""


def test_what_a_process_needs_are_the_rights_of_the_unit(world: World) -> None:
    def said(rights: str) -> str:
        argv = ["setpriv", "--bounding-set", rights, sys.executable, "-c", OPENING]
        return world.run("a", argv, env={"PYTHONPATH": SOURCE}).communicate()[0].decode()

    assert said(RIGHTS_OF_THE_UNIT) == "Counts(forwarded=0, answers=0, accepted={'b': 0}) frozenset() True\n"
    assert said(NO_RIGHTS).startswith("cannot make the tunnel: operation not permitted | floatip needs CAP_NET_ADMIN")


KILLED = """
import sys, time
from ipaddress import ip_address
from floatip.second_chance.rules import Rules
from floatip.second_chance.surroundings import Surroundings
from floatip.second_chance.tunnel import Node, Tunnel
name, address, peer, peer_address, vips, here, *flows = sys.argv[1:]
vips = [ip_address(one) for one in vips.split(",")]
tunnel = Tunnel.open(Node(name, ip_address(address)), [Node(peer, ip_address(peer_address))], 8473, 241)
surroundings = Surroundings.open(tunnel.index)
rules = Rules.open(tunnel, 8473, 60, surroundings.read())
flows = [bytes.fromhex(flow) for flow in flows]
if here == "here":
    rules.here(flows, ())
    tunnel.answer_by(dict.fromkeys(vips, peer))
else:
    rules.moved(dict.fromkeys(flows, peer), ())
print("ready", flush=True)
time.sleep(600)
"""


def test_connections_outlive_a_killed_process_and_its_successor_goes_on_with_them(world: World) -> None:
    services = [Service(world, name) for name in ("a", "b")]
    clients = [Client(world, VIP4), Client(world, VIP6)]
    with world.inside("a"):
        flows = listed(VIPS).flows
    assert len(flows) == 2
    running = []
    for name, peer, kind in (("a", "b", "here"), ("b", "a", "moved")):
        given = [name, str(address4(name)), peer, str(address4(peer)), f"{VIP4},{VIP6}", kind]
        argv = [sys.executable, "-c", KILLED, *given, *(one.hex() for one in flows)]
        process = world.run(name, argv)
        assert process.stdout
        with process.stdout:
            assert process.stdout.readline() == b"ready\n"
        running.append(process)
    world.route("b")
    assert all(client.echoes() for client in clients)
    for process in running:
        process.kill()
        process.wait()
    assert all(client.echoes() for client in clients)
    with world.inside("b"):
        index = Path("/sys/class/net/floatip-sc/ifindex").read_text() if False else None
        del index
    successors = [Floatip(world, "a", ("b",)), Floatip(world, "b", ("a",))]
    keeper, carrier = successors
    try:
        assert keeper.tunnel.is_adopted
        assert carrier.tunnel.is_adopted
        assert carrier.rules.adopted() == dict.fromkeys(flows, "a")
        assert keeper.rules.adopted_here() == flows
        assert all(client.echoes() for client in clients)
        with keeper.inside():
            keeper.tunnel.answer_by(dict.fromkeys(VIPS, "b"))
        assert all(client.echoes() for client in clients)
        with carrier.inside():
            carrier.rules.moved({}, flows)
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.echoes()
    finally:
        for node in successors:
            node.close()
        for service in services:
            service.close()
    for name in ("a", "b"):
        with world.inside(name):
            assert left() == []


def left() -> list[str]:
    """What floatip has in the kernel."""
    found = []
    for argv in (["ip", "link"], ["ip", "rule"], ["ip", "-6", "rule"], ["nft", "list", "tables"]):
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found += [line for line in said.splitlines() if "floatip" in line or "proto 242" in line]
    return found


def test_two_processes_cannot_have_the_tables(world: World, pair: tuple[Floatip, Floatip]) -> None:
    keeper, _ = pair
    with keeper.inside(), pytest.raises(Cannot, match="permitted"):
        Rules.open(keeper.tunnel, PORT, TIMEOUT, keeper.surroundings.read())


def test_nft_can_show_the_rules(world: World, pair: tuple[Floatip, Floatip]) -> None:
    """nft 1.0.6 aborts at some that the kernel takes, and with it each reload of the user's ruleset."""
    _, carrier = pair
    client: Address = address4("client")
    flows = [flow(client, port, VIP4, SERVICE) for port in range(1, 4)]
    flows.append(flow(VIP6, 1, VIP6, SERVICE))
    with carrier.inside():
        carrier.rules.moved(dict.fromkeys(flows, "a"), ())
        carrier.rules.here([flow(client, 9, VIP4, SERVICE)], ())
        carrier.rules.hold(VIPS)
        shown = subprocess.run(["nft", "-a", "list", "ruleset"], capture_output=True, text=True, check=True)
        assert shown.stderr == ""
        assert f"{client} . 1 . {VIP4} . {SERVICE}" in shown.stdout
        assert 'fwd ip to ip saddr . tcp sport . ip daddr . tcp dport map @moved4 device "floatip-sc"' in shown.stdout
        said = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        assert {"floatip_sc"} == {one["table"]["name"] for one in json.loads(said)["nftables"] if "table" in one}
        nft("flush ruleset")


def test_the_kernel_forgets_a_connection_after_the_timeout(world: World) -> None:
    one, two = (flow(address4("client"), port, VIP4, SERVICE) for port in (1, 2))
    with world.inside("b"):
        tunnel = Tunnel.open(Node("b", address4("b")), [Node("a", address4("a"))], PORT, VNI)
        surroundings = Surroundings.open(tunnel.index)
        rules = Rules.open(tunnel, PORT, 0.2, surroundings.read())
        rules.moved({one: "a"}, ())

    def is_forgotten() -> bool:
        shown = subprocess.run(
            ["nft", "list", "map", "netdev", "floatip_sc", "moved4"], capture_output=True, text=True, check=True
        ).stdout
        return str(address4("client")) not in shown

    world.wait("b", is_forgotten, "the element expires")
    with world.inside("b"):
        rules.moved({two: "a"}, [one])
        assert rules.adopted() == {two: "a"}
        rules.close()
        tunnel.close()
    surroundings.close()
