import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from floatip.core.settings import LINK_PORT
from floatip.lab.layer2 import NeighbourWatch, SharedLayer2
from floatip.lab.network import (
    FLOATING,
    HAPROXY1,
    HAPROXY2,
    HOSTS,
    NODES,
    OBSERVER,
    ROUTE_SERVERS,
    ROUTER,
    ROUTER_MAC,
    Network,
)
from floatip.lab.routes import RouteWatch
from tests.lab.arrivals import arrival
from tests.lab.processes import processes_with, wait_until_gone


@pytest.fixture(scope="module")
def built() -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as network:
        yield network


@pytest.fixture
def network(built: Network) -> Iterator[Network]:
    yield built
    built.faults.heal_all()


def output(network: Network, host: str, *argv: str) -> str:
    return finished(network, host, *argv).stdout


def succeeds(network: Network, host: str, *argv: str) -> bool:
    return finished(network, host, *argv).returncode == 0


def finished(network: Network, host: str, *argv: str) -> subprocess.CompletedProcess[str]:
    with network.run(host, argv) as process:
        said, _ = process.communicate()
    return subprocess.CompletedProcess(argv, process.returncode, said.decode())


def reaches(network: Network, host: str, address: object) -> bool:
    return succeeds(network, host, "ping", "-q", "-c3", "-i0.05", "-W0.5", str(address))


def has_carrier(network: Network, host: str, interface: str) -> bool:
    return "LOWER_UP" in output(network, host, "ip", "-br", "link", "show", interface)


def test_the_whole_network_is_built_in_two_seconds(tmp_path: Path) -> None:
    """The quickest of some: what the machine does meanwhile only adds to it."""
    took: list[float] = []
    while not took or (min(took) >= 2 and len(took) < 5):
        started_at = time.monotonic()
        with Network(tmp_path):
            took.append(time.monotonic() - started_at)
    assert min(took) < 2


def test_the_observer_reaches_both_nodes_and_the_nodes_reach_all_route_servers(network: Network) -> None:
    assert all(reaches(network, OBSERVER.name, address) for node in NODES for address in node.addresses)
    assert all(reaches(network, node.name, server.ipv6) for node in NODES for server in ROUTE_SERVERS)


def test_the_router_answers_arp_for_the_floating_ip_even_while_nobody_announces_it(network: Network) -> None:
    assert not reaches(network, OBSERVER.name, FLOATING.ip)
    assert ROUTER_MAC in output(network, OBSERVER.name, "ip", "neigh", "show", str(FLOATING.ip))


def test_traffic_follows_the_routers_table_and_nothing_else(network: Network) -> None:
    for node in NODES:
        assert succeeds(network, node.name, "ip", "address", "add", str(FLOATING), "dev", "lo")
    assert not reaches(network, OBSERVER.name, FLOATING.ip)
    for node, other in (NODES, NODES[::-1]):
        point = ["ip", "route", "replace", str(FLOATING), "via", "inet6", str(node.ipv6), "dev", node.name]
        assert succeeds(network, ROUTER, *point)
        network.faults.cut(other.name)
        assert reaches(network, OBSERVER.name, FLOATING.ip)
        network.faults.heal(other.name)
    assert succeeds(network, ROUTER, "ip", "route", "del", str(FLOATING))


@pytest.mark.parametrize("host", ["haproxy1", "rs1"])
def test_a_cut_host_neither_sends_nor_receives_and_keeps_its_carrier(network: Network, host: str) -> None:
    address = next(each.ipv6 for each in HOSTS if each.name == host)
    other = HAPROXY2 if host == HAPROXY1.name else HAPROXY1
    assert reaches(network, other.name, address)

    network.faults.cut(host)

    counted = packets(network, host)
    assert not reaches(network, other.name, address)
    assert not reaches(network, host, other.ipv6)
    assert packets(network, host) == counted
    assert has_carrier(network, host, "eth0")
    assert has_carrier(network, ROUTER, host)

    network.faults.heal(host)
    assert reaches(network, other.name, address)


def packets(network: Network, host: str) -> int:
    """How many IPv6 packets the host has got."""
    with network.inside(host):
        lines = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Ip6InReceives"))


def test_a_cut_pair_loses_each_other_and_no_one_else(network: Network) -> None:
    network.faults.cut_pair("haproxy2", "rs2")
    assert not reaches(network, "haproxy2", ROUTE_SERVERS[1].ipv6)
    assert not reaches(network, "rs2", HAPROXY2.ipv6)
    assert reaches(network, "haproxy2", ROUTE_SERVERS[0].ipv6)
    assert reaches(network, "haproxy1", ROUTE_SERVERS[1].ipv6)
    network.faults.heal_pair("rs2", "haproxy2")
    assert reaches(network, "haproxy2", ROUTE_SERVERS[1].ipv6)


def test_what_the_nodes_tell_each_other_can_be_cut_and_nothing_else(network: Network) -> None:
    assert hears_an_advert(network)
    network.faults.cut_election()
    assert not hears_an_advert(network, within=0.5)
    assert reaches(network, "haproxy1", "192.168.143.241")
    network.faults.heal_election()
    assert hears_an_advert(network)


def test_on_a_shared_layer_2_the_observer_finds_who_has_the_address_and_adverts_can_be_cut(tmp_path: Path) -> None:
    with SharedLayer2(tmp_path) as network, NeighbourWatch(network, str(FLOATING)) as watch:
        assert hears_an_advert(network)
        network.faults.cut_election()
        assert not hears_an_advert(network, within=0.5)
        for node in NODES:
            assert succeeds(network, node.name, "ip", "address", "add", str(FLOATING), "dev", "eth0")
            assert reaches(network, OBSERVER.name, str(FLOATING.ip))
            assert arrival(watch, node.ipv6, 30)
            network.faults.cut(node.name)
            assert succeeds(network, OBSERVER.name, "ip", "neigh", "flush", "dev", "eth0")
            assert not reaches(network, OBSERVER.name, str(FLOATING.ip))


def test_a_share_of_the_link_can_be_cut_in_one_direction(network: Network) -> None:
    def arrive(sender: str, receiver: str) -> int:
        """Of 200 datagrams."""
        address = {"haproxy1": "192.168.143.227", "haproxy2": "192.168.143.241"}[receiver]
        with network.inside(receiver):
            theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            theirs.bind((address, LINK_PORT))
        with network.inside(sender):
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with theirs, ours:
            for _ in range(200):
                ours.sendto(b"hello", (address, LINK_PORT))
            theirs.setblocking(False)
            count = 0
            with contextlib.suppress(BlockingIOError):
                while theirs.recv(100):
                    count += 1
            return count

    assert arrive("haproxy1", "haproxy2") == 200
    network.faults.cut_link("haproxy1", "haproxy2")
    assert (arrive("haproxy1", "haproxy2"), arrive("haproxy2", "haproxy1")) == (0, 200)
    assert reaches(network, "haproxy1", "192.168.143.241")
    network.faults.heal_link()
    network.faults.cut_link("haproxy1", "haproxy2", 0.4)
    assert 60 < arrive("haproxy1", "haproxy2") < 180
    network.faults.heal_link()
    network.faults.cut_election()
    assert arrive("haproxy1", "haproxy2") == 0
    network.faults.heal_election()
    assert arrive("haproxy1", "haproxy2") == 200


def hears_an_advert(network: Network, within: float = 30) -> bool:
    with network.inside("haproxy2"):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    with network.inside("haproxy1"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    with receiver, sender:
        receiver.settimeout(within)
        sender.sendto(b"an advert", ("192.168.143.241", 0))
        try:
            return receiver.recv(100).endswith(b"an advert")
        except TimeoutError:
            return False


def test_a_watch_tells_each_next_hop_and_when(network: Network) -> None:
    def route(*argv: str) -> None:
        assert succeeds(network, "rs1", "ip", "route", *argv)

    with RouteWatch(network, "rs1", str(FLOATING)) as watch:
        started_at = time.monotonic()
        for node in NODES:
            route("replace", str(FLOATING), "via", "inet6", str(node.ipv6), "dev", "eth0")
            assert arrival(watch, node.ipv6, timeout=30)
        with RouteWatch(network, "rs1", str(FLOATING)) as late:
            assert late.next_hop == HAPROXY2.ipv6
        route("del", str(FLOATING))
        gone_at = arrival(watch, None, timeout=30)
        assert gone_at
        assert started_at <= gone_at <= time.monotonic()
        assert [change.next_hop for change in watch.changes] == [None, HAPROXY1.ipv6, HAPROXY2.ipv6, None]
        assert arrival(watch, IPv6Address("2001:db8::1"), timeout=0.01) is None


def test_what_a_program_has_started_ends_with_the_network(tmp_path: Path) -> None:
    marker = f"6{os.getpid()}"
    with Network(tmp_path) as network:
        program = network.run("haproxy1", ["sh", "-c", f"setsid sleep {marker} & echo begun; wait"])
        assert program.stdout
        assert program.stdout.readline() == b"begun\n"
        deadline = time.monotonic() + 10
        while not processes_with(marker) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert processes_with(marker)
        program.stdout.close()
    wait_until_gone(marker)


def test_a_strict_router_drops_what_a_node_sends_from_an_address_that_leads_to_the_other(tmp_path: Path) -> None:
    assert OBSERVER.ipv4
    address, own = str(FLOATING.ip), str(OBSERVER.ipv4.ip)
    with Network(tmp_path) as network:
        for node in NODES:
            network.ip(node.name, [f"address add {FLOATING} dev lo"])
        network.ip(ROUTER, [f"route add {address} via inet6 {HAPROXY1.ipv6} dev {HAPROXY1.name}"])
        with network.inside(OBSERVER.name):
            observer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with observer:
            observer.settimeout(30)
            observer.bind((own, 0))
            port = observer.getsockname()[1]

            def send(host: str, text: bytes) -> None:
                with network.inside(host), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.bind((address, 0))
                    sender.sendto(text, (own, port))

            send("haproxy2", b"before")
            assert observer.recv(10) == b"before"
            network.drop_spoofed()
            send("haproxy2", b"after")
            send("haproxy1", b"from 1")
            assert observer.recv(10) == b"from 1"
