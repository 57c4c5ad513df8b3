import os
import socket
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from math import inf
from pathlib import Path
from typing import Literal

import pytest

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Attributes, Origin
from floatip.core.bgp.wire import pack_routes
from floatip.lab.configuration import floatip_toml
from floatip.lab.namespaces import LabError
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, ROUTE_SERVERS, ROUTER, LabHost, Network
from floatip.lab.programs.bird import BirdFabric, BirdRouteServer
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from floatip.lab.programs.connections import services
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.program import Program
from floatip.lab.programs.services import HAProxy, PlainService
from floatip.lab.record import RunOptions
from floatip.lab.routes import RouteWatch
from floatip.lab.run import Run
from floatip.lab.speaker import Peering, PeeringEnded, PeeringState, Speaker
from tests.lab.arrivals import arrival

PRIMARY = (65000, 1)
SECONDARY = (65000, 2)
PROGRAMS = [
    (500, False, ["echo"]),
    (500, True, ["echo", "haproxy-tcp-1"]),
    (10_000, True, ["echo", "haproxy-tcp-1", "haproxy-tcp-2"]),
]
SERVER_NAMES = [server.name for server in ROUTE_SERVERS]


class Announcer:
    """A node's sessions with some route servers. Hold time 0, so that it needs no clock."""

    def __init__(self, network: Network, node: LabHost, servers: list[str]) -> None:
        self.node = node
        self.speaker = Speaker(65001, IPv4Address("10.0.0.1"), hold_time=0)
        self.sockets = {server: self._connect(network, server) for server in servers}

    def _connect(self, network: Network, server: str) -> socket.socket:
        address = next(each.ipv6 for each in ROUTE_SERVERS if each.name == server)
        deadline = time.monotonic() + 60
        while True:
            with ExitStack() as undo:
                try:
                    with network.inside(self.node.name):
                        connection = socket.create_connection((str(address), 179), timeout=5)
                    undo.callback(connection.close)
                    self._open(connection)
                    undo.pop_all()
                    return connection
                except OSError:
                    assert time.monotonic() < deadline, f"no session with {server}"
            time.sleep(0.1)

    def _open(self, connection: socket.socket) -> None:
        connection.sendall(self.speaker.open())
        peering = Peering(self.speaker, hold_at=inf)
        while peering.state is not PeeringState.ESTABLISHED:
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError
            try:
                answers, _ = peering.received(data, 0.0)
            except PeeringEnded as end:  # it may not have seen yet that an earlier connection is gone
                raise ConnectionRefusedError(str(end)) from end
            connection.sendall(answers)

    def announce(self, community: tuple[int, int], *, med: int = 0, origin: Origin = Origin.INCOMPLETE) -> None:
        attributes = Attributes(self.node.ipv6, origin, (65001,), med, (community,))
        self._send(b"".join(pack_routes([(FLOATING.network, attributes)], [])))

    def withdraw(self) -> None:
        self._send(b"".join(pack_routes([], [FLOATING.network])))

    def _send(self, data: bytes) -> None:
        for connection in self.sockets.values():
            connection.sendall(data)

    def close(self) -> None:
        for connection in self.sockets.values():
            connection.close()


class Provider:
    """Four route servers and the fabric, watched; `built_in` or BIRD."""

    def __init__(self, network: Network, *, bird: bool) -> None:
        self.network = network
        fabric, route_server = (BirdFabric, BirdRouteServer) if bird else (BuiltInFabric, BuiltInRouteServer)
        self.fabric: Program = fabric(network)
        self.servers: dict[str, Program] = {name: route_server(network, name) for name in SERVER_NAMES}
        self.watches = {name: RouteWatch(network, name, str(FLOATING)) for name in (*SERVER_NAMES, ROUTER)}
        self.announcers: list[Announcer] = []

    def announcer(self, node: LabHost, servers: list[str] = SERVER_NAMES) -> Announcer:
        self.announcers.append(Announcer(self.network, node, servers))
        return self.announcers[-1]

    def points_at(self, next_hop: Address | None, *hosts: str, within: float = 30) -> bool:
        return all(
            arrival(self.watches[host], next_hop, within) is not None for host in hosts or (*SERVER_NAMES, ROUTER)
        )

    def close(self) -> None:
        for announcer in self.announcers:
            announcer.close()
        for watch in self.watches.values():
            watch.close()


@pytest.fixture
def network() -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as network:
        yield network


@pytest.fixture(params=["built-in", "bird"])
def provider(network: Network, request: pytest.FixtureRequest) -> Iterator[Provider]:
    provider = Provider(network, bird=request.param == "bird")
    for daemon in (provider.fabric, *provider.servers.values()):
        daemon.start()
    yield provider
    provider.close()


def test_an_announced_prefix_reaches_the_kernels_of_all_route_servers_and_of_the_fabric(provider: Provider) -> None:
    announcer = provider.announcer(HAPROXY1)
    announcer.announce(PRIMARY)
    assert provider.points_at(HAPROXY1.ipv6)
    announcer.withdraw()
    assert provider.points_at(None)


def test_primary_beats_secondary_whichever_comes_first(provider: Provider) -> None:
    one, two = provider.announcer(HAPROXY1), provider.announcer(HAPROXY2)
    one.announce(SECONDARY)
    assert provider.points_at(HAPROXY1.ipv6)
    two.announce(PRIMARY)
    assert provider.points_at(HAPROXY2.ipv6)
    two.announce(SECONDARY, med=9)
    one.announce(PRIMARY)
    assert provider.points_at(HAPROXY1.ipv6)


def test_origin_egp_beats_incomplete_and_igp_beats_both(provider: Provider) -> None:
    one, two = provider.announcer(HAPROXY1), provider.announcer(HAPROXY2)
    one.announce(PRIMARY)
    assert provider.points_at(HAPROXY1.ipv6)
    two.announce(PRIMARY, med=9, origin=Origin.EGP)
    assert provider.points_at(HAPROXY2.ipv6)
    one.announce(PRIMARY, med=99, origin=Origin.IGP)
    assert provider.points_at(HAPROXY1.ipv6)


def test_the_lower_med_wins_between_equal_ranks(provider: Provider) -> None:
    one, two = provider.announcer(HAPROXY1), provider.announcer(HAPROXY2)
    one.announce(PRIMARY, med=20)
    assert provider.points_at(HAPROXY1.ipv6)
    two.announce(PRIMARY, med=10)
    assert provider.points_at(HAPROXY2.ipv6)
    one.announce(PRIMARY, med=5)
    assert provider.points_at(HAPROXY1.ipv6)


def test_the_fabric_weighs_what_all_route_servers_say(provider: Provider) -> None:
    secondary = provider.announcer(HAPROXY1, SERVER_NAMES[:3])
    secondary.announce(SECONDARY)
    assert provider.points_at(HAPROXY1.ipv6, "rs1", "rs2", "rs3", ROUTER)
    primary = provider.announcer(HAPROXY2, ["rs4"])
    primary.announce(PRIMARY)
    assert provider.points_at(HAPROXY2.ipv6, "rs4", ROUTER)
    assert provider.points_at(HAPROXY1.ipv6, "rs1", "rs2", "rs3")
    primary.close()
    assert provider.points_at(None, "rs4", within=5)
    assert provider.points_at(HAPROXY1.ipv6, ROUTER, within=5)


def test_a_route_server_that_dies_takes_its_routes_from_the_fabric_at_once_and_brings_them_back(
    provider: Provider,
) -> None:
    provider.announcer(HAPROXY1, ["rs1"]).announce(PRIMARY)
    provider.announcer(HAPROXY2, ["rs2"]).announce(SECONDARY)
    assert provider.points_at(HAPROXY1.ipv6, ROUTER)
    provider.servers["rs1"].kill()
    assert provider.points_at(None, "rs1", within=5)
    assert provider.points_at(HAPROXY2.ipv6, ROUTER, within=5)
    provider.servers["rs1"].start()
    provider.announcer(HAPROXY1, ["rs1"]).announce(PRIMARY)
    assert provider.points_at(HAPROXY1.ipv6, ROUTER)


def test_a_route_server_that_is_cut_stays_in_the_fabric_until_the_hold_time_ends(provider: Provider) -> None:
    provider.announcer(HAPROXY1, ["rs1"]).announce(PRIMARY)
    provider.announcer(HAPROXY2, ["rs2"]).announce(SECONDARY)
    assert provider.points_at(HAPROXY1.ipv6, ROUTER)
    cut_at = time.monotonic()
    provider.network.faults.cut("rs1")
    moved_at = arrival(provider.watches[ROUTER], HAPROXY2.ipv6, timeout=30)
    assert moved_at
    # What ended it, and by its last KEEPALIVE when: the fabric's hold time is 9 s, the route servers' pace up to 3 s.
    assert "old timer expired" in provider.fabric.log.read_text()
    assert 3 < moved_at - cut_at < 15
    provider.network.faults.heal("rs1")
    assert provider.points_at(HAPROXY1.ipv6, ROUTER, within=30)


def test_a_stopped_route_server_leaves_no_route_in_its_kernel(provider: Provider) -> None:
    provider.announcer(HAPROXY1, ["rs1"]).announce(PRIMARY)
    assert provider.points_at(HAPROXY1.ipv6, "rs1")
    provider.servers["rs1"].stop()
    assert provider.servers["rs1"].wait() == 0
    assert provider.points_at(None, "rs1", ROUTER)


def answer(network: Network, node: LabHost) -> str:
    assert node.ipv4
    with network.inside(ROUTER):
        connection = socket.create_connection((str(node.ipv4.ip), 80), timeout=5)
    with connection, connection.makefile("rwb") as stream:
        stream.write(b"GET / HTTP/1.0\r\n\r\n")
        stream.flush()
        return stream.read().decode()


@pytest.mark.parametrize("service", [HAProxy, PlainService])
def test_a_service_names_its_node_in_every_answer(network: Network, service: Callable[[Network, str], Program]) -> None:
    for node in (HAPROXY1, HAPROXY2):
        service(network, node.name).start()
        deadline = time.monotonic() + 30
        while True:
            try:
                said = answer(network, node)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"nobody listens on {node.name}"
                time.sleep(0.05)
        head, _, body = said.partition("\r\n\r\n")
        assert " 200 " in head.splitlines()[0]
        assert body.strip() == node.name


def test_a_daemon_is_paused_resumed_stopped_and_started_again(network: Network) -> None:
    service = PlainService(network, "haproxy1")
    service.start()
    first = service.pid
    service.pause()
    assert state(first) == "T"
    service.resume()
    service.stop()
    service.wait()
    assert not service.running
    service.start()
    assert service.running
    assert service.pid != first
    service.kill()
    assert not service.running


def test_a_node_that_is_watched_runs_in_real_time_as_its_unit_has_it(network: Network, tmp_path: Path) -> None:
    node = FloatipDaemon(network, "haproxy1", floatip_toml(RunOptions(), "haproxy1", tmp_path, None))
    node.start()
    next(node.watch())
    assert os.sched_getscheduler(node.pid) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
    node.kill()


def test_a_node_that_exits_at_its_start_ends_the_lab_with_its_own_words() -> None:
    with Run(RunOptions(check="nonsense = 1")) as run, pytest.raises(LabError) as raised:
        run.start(observed=False)
    assert "floatip on haproxy1 exited with status 2" in str(raised.value)
    assert "nonsense" in str(raised.value)


def test_only_the_second_chance_has_a_table_for_it(tmp_path: Path) -> None:
    modes: tuple[Literal["off", "on"], ...] = ("off", "on")
    texts = {
        mode: floatip_toml(RunOptions(election="nodes", second_chance=mode), "haproxy1", tmp_path, None)
        for mode in modes
    }
    off, on = (tomllib.loads(texts[mode]) for mode in modes)
    assert "second_chance" not in off
    assert on == {**off, "second_chance": {"mode": "on"}}


@pytest.mark.parametrize(("connections", "proxied", "names"), PROGRAMS)
def test_as_many_proxies_share_the_port_as_the_connections_need(
    network: Network, connections: int, proxied: bool, names: list[str]
) -> None:
    found = services(network, "haproxy1", connections, proxied=proxied)
    assert [program.name for program in found] == names


def test_nodes_with_the_same_file_see_a_trigger_of_their_own(network: Network, tmp_path: Path) -> None:
    own = tmp_path / "own"
    text = floatip_toml(RunOptions(), "haproxy1", own / "trigger", None)
    nodes = [FloatipDaemon(network, host.name, text, own) for host in (HAPROXY1, HAPROXY2)]
    (own / "haproxy1/trigger").touch()
    for node in nodes:
        node.start()
        next(node.watch())
    deadline = time.monotonic() + 20
    while (found := [node.status()["checks"][0]["value"] for node in nodes]) != ["down", "up"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    assert not (own / "trigger").exists(), "the lab does not see it"
    for node in nodes:
        node.kill()


def state(pid: int) -> str:
    """As in ps: T is stopped. The signal takes effect in its own time."""
    deadline = time.monotonic() + 5
    while True:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        if found == "T" or time.monotonic() > deadline:
            return found
        time.sleep(0.01)
