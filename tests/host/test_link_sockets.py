"""The sockets of the link, in a namespace; the nodes are addresses of its loopback interface."""

import asyncio
import errno
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from floatip.core.addresses import Address
from floatip.core.events import DatagramReceived, Failure, SendDatagram
from floatip.core.link import wire
from floatip.core.malformed import Malformed
from floatip.core.state import SocketView
from floatip.host.network import link as link_module
from floatip.host.network import slices
from floatip.host.network.link import Link
from floatip.lab.namespaces import find_program
from tests.host.reports import Reports, until

pytestmark = pytest.mark.usefixtures("namespace")

PORT = 9112
SO_MEMINFO = 55


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def addresses(prefix: str) -> list[Address]:
    return [ip_address(f"{prefix}{number}") for number in (1, 2, 3, 9)]


def add(address: Address, interface: str) -> None:
    at_once = "nodad" if address.version == 6 else ""
    ip(f"address add {address}/{address.max_prefixlen} dev {interface} {at_once}")


def make_interface() -> None:
    ip("link add eth9 type veth peer name peer9")
    ip("link set eth9 up")
    ip("link set peer9 up")


@pytest.fixture(params=["10.0.0.", "fd00::"], ids=["ipv4", "ipv6"])
def nodes(request: pytest.FixtureRequest) -> list[Address]:
    """Our own address, two known nodes, and a stranger."""
    found = addresses(request.param)
    for address in found:
        add(address, "lo")
    return found


@pytest.fixture
def ipv4() -> list[Address]:
    found = addresses("10.0.0.")
    for address in found:
        add(address, "lo")
    return found


@contextmanager
def node(address: Address) -> Iterator[Callable[[bytes, Address], int]]:
    """Another one: sends from its address."""
    with other(address) as udp:
        yield lambda data, to: udp.sendto(data, (str(to), PORT))


@contextmanager
def other(address: Address, port: int = PORT) -> Iterator[socket.socket]:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.bind((str(address), port))
        udp.settimeout(60)
        yield udp


def heard(reports: Reports) -> list[tuple[Address, bytes]]:
    return [(event.source, event.data) for event in reports.of(DatagramReceived)]


def queued(link: Link, of_strangers: bool = False) -> int:
    """Octets of memory that the datagrams take in the kernel."""
    assert link._sockets
    udp = link._sockets.strangers if of_strangers else link._sockets.known
    return int(struct.unpack("I", udp.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4))[0])


def wait_until(true: Callable[[], bool]) -> None:
    """While the loop stands still."""
    ends_at = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends_at
        time.sleep(0.001)


def fill(link: Link, send: Callable[[bytes], int], number: int) -> None:
    """So many datagrams have arrived, and none is read yet."""
    send(bytes(2))
    wait_until(lambda: queued(link) > 0)
    each = queued(link)
    for count in range(1, number):
        send(count.to_bytes(2))
    wait_until(lambda: queued(link) == number * each)


# What arrives


def test_nodes_hear_each_other(reports: Reports, nodes: list[Address]) -> None:
    ours, theirs, *_ = nodes

    async def story() -> None:
        there = Reports()
        here, other_node = Link(reports), Link(there)
        here.configure(ours, PORT, [theirs])
        other_node.configure(theirs, PORT, [ours])
        here.send(SendDatagram(theirs, b"hello"))
        event = await there.next(DatagramReceived)
        assert (event.source, event.data) == (ours, b"hello")
        other_node.send(SendDatagram(ours, b"hello yourself"))
        await reports.next(DatagramReceived)
        assert heard(reports) == [(theirs, b"hello yourself")]
        here.close()
        other_node.close()

    asyncio.run(story())


def test_the_time_is_that_of_the_arrival_when_the_loop_was_blocked(reports: Reports, nodes: list[Address]) -> None:
    ours, theirs, *_ = nodes

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])

        def arrival_is_told() -> bool:
            before = time.monotonic()
            send(b"", ours)
            time.sleep(0.1)
            read_at = time.monotonic()
            link.drain()
            if not reports.events:
                return False
            event = reports.of(DatagramReceived)[-1]
            reports.events.clear()
            assert before - 0.001 <= event.at <= time.monotonic()
            return event.at < read_at - 0.05

        with node(theirs) as send:
            # The kernel begins to stamp some time after the first socket has asked for it.
            await until(arrival_is_told, timeout=20)
        link.close()

    asyncio.run(story())


class SetClock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now, self.ahead = 100.0, 1.7e9

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.ahead


def stamp(at: float) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, link_module.SO_TIMESTAMPNS, struct.pack("@ll", int(at), int(at % 1 * 1e9)))]


def test_a_clock_that_is_set_makes_no_datagram_older_or_younger(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SetClock()
    monkeypatch.setattr(link_module, "time", world)
    for step in (3600.0, 0.2, -0.2, -3600.0):
        clock = link_module._Clock()
        waiting = [stamp(world.time()), stamp(world.time() + 0.1)]
        world.now += 0.3
        assert clock.monotonic(waiting[0]) == pytest.approx(world.now - 0.3, abs=1e-5)
        world.ahead += step
        for one in waiting:
            # The second one, too, though the clock stays as it is from then on.
            assert clock.monotonic(one) == world.now, step
        after = stamp(world.time())
        world.now += 0.5
        assert clock.monotonic(after) == pytest.approx(world.now - 0.5, abs=1e-5)


def test_a_clock_that_is_slewed_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SetClock()
    monkeypatch.setattr(link_module, "time", world)
    clock = link_module._Clock()
    for _ in range(100):
        sent = stamp(world.time())
        world.now += 1.0
        world.ahead += 0.0005
        assert clock.monotonic(sent) == pytest.approx(world.now - 1.0, abs=0.001)


def test_a_datagram_without_a_time_or_from_the_future_was_received_now(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SetClock()
    monkeypatch.setattr(link_module, "time", world)
    clock = link_module._Clock()
    assert clock.monotonic([]) == world.now
    assert clock.monotonic([(socket.SOL_SOCKET, link_module.SO_TIMESTAMPNS, b"short")]) == world.now
    assert clock.monotonic(stamp(world.time() + 1)) == world.now


def test_one_drain_and_one_turn_of_the_loop_hear_a_part_of_a_flood(
    reports: Reports, nodes: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is forged: only the core can tell."""
    monkeypatch.setattr(link_module, "MOST_AT_ONCE", 50)
    monkeypatch.setattr(slices, "LENGTH", 0.0)
    ours, theirs, *_ = nodes

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        with node(theirs) as send:
            fill(link, lambda data: send(data, ours), 120)
        for number in (50, 100):
            link.drain()
            assert len(reports.events) == number
        while len(reports.events) < 120:
            number = len(reports.events)
            await asyncio.sleep(0)
            assert len(reports.events) <= number + 1
        assert [int.from_bytes(data) for _, data in heard(reports)] == list(range(120))
        link.close()

    asyncio.run(story())


@pytest.mark.parametrize("length", [wire.LARGEST + 1, 1472, 65000])
def test_of_a_datagram_that_is_too_long_only_what_shows_it_is_read(
    reports: Reports, nodes: list[Address], length: int
) -> None:
    ours, theirs, *_ = nodes
    key = bytes(32)
    start = wire.MAGIC + bytes([wire.FORMAT])

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        with node(theirs) as send:
            for data in (b"", start.ljust(length), bytes(wire.LARGEST), b"short"):
                send(data, ours)
        await reports.next(DatagramReceived, 4)
        assert [len(data) for _, data in heard(reports)] == [0, wire.LARGEST + 1, wire.LARGEST, 5]
        with pytest.raises(Malformed, match="longer than 1200 octets"):
            wire.parse(heard(reports)[1][1], [key])
        link.close()

    asyncio.run(story())


# Strangers


def test_strangers_do_not_get_between_the_nodes(reports: Reports, nodes: list[Address]) -> None:
    ours, first, second, stranger = nodes

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [first, second])
        with node(first) as a, node(second) as b, node(stranger) as c:
            for _ in range(1000):
                c(bytes(1000), ours)
            a(b"a", ours)
            b(b"b", ours)
        wait_until(lambda: (link.drain(), len(reports.events) >= 2)[1])
        assert heard(reports) == [(first, b"a"), (second, b"b")]
        await reports.next(DatagramReceived, 3)
        assert heard(reports)[2] == (stranger, bytes(1000)), "so that the core can name it"
        link.close()

    asyncio.run(story())


@pytest.mark.parametrize("at_a_time", [1, 500])
def test_of_a_flood_of_strangers_few_a_second_are_looked_at(
    reports: Reports, nodes: list[Address], monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    """Whether the loop has its turn between them or not."""
    monkeypatch.setattr(link_module, "STRANGERS_A_SECOND", 10)
    ours, theirs, _, stranger = nodes

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        began_at = time.monotonic()
        with node(theirs) as send, node(stranger) as flood:
            for number in range(100):
                for _ in range(at_a_time):
                    flood(b"", ours)
                send(bytes([number]), ours)
                await reports.next(DatagramReceived, number + 1)
        await until(lambda: sum(source == theirs for source, _ in heard(reports)) == 100)
        looked_at = [source for source, _ in heard(reports) if source == stranger]
        assert 0 < len(looked_at) <= 10 + 10 * (time.monotonic() - began_at)
        assert [data[0] for source, data in heard(reports) if source == theirs] == list(range(100))
        number = len(reports.events)
        wait_until(lambda: queued(link, of_strangers=True) > 0)
        await reports.next(DatagramReceived, number + 1)  # later
        link.close()

    asyncio.run(story())


def test_a_reload_that_brings_a_node_keeps_the_socket(reports: Reports, nodes: list[Address]) -> None:
    ours, theirs, new, _ = nodes

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        kept = link._sockets
        with node(theirs) as send, node(new) as send_new:
            fill(link, lambda data: send(data, ours), 3)
            for known in ([theirs, new], [new], [], [new, theirs]):
                link.configure(ours, PORT, known)
                assert link._sockets is kept
            send_new(b"new", ours)
            wait_until(lambda: (link.drain(), len(reports.events) >= 4)[1])
        assert heard(reports)[3] == (new, b"new"), "a known node comes by the socket that is drained"
        link.configure(ours, PORT + 1, [theirs])
        assert link._sockets is not kept
        assert link.sockets() == [SocketView(f"link at {ours} port {PORT + 1}", 48, "known nodes")]
        link.configure(None)
        assert link.sockets() == []
        with other(ours), other(ours, PORT + 1):
            pass  # both are free
        link.close()

    asyncio.run(story())


def test_many_nodes_are_known(reports: Reports, nodes: list[Address]) -> None:
    ours, _, last, stranger = nodes
    known = [*(ours + number for number in range(1000, 1200)), last]

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, known)
        with node(stranger) as unknown, node(last) as send:
            unknown(b"unknown", ours)
            send(b"known", ours)
            wait_until(lambda: (link.drain(), bool(reports.events))[1])
        assert heard(reports) == [(last, b"known")]
        link.close()

    asyncio.run(story())


# Opening


def test_the_socket_is_opened_when_its_address_has_come(
    reports: Reports, nodes: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "OPEN_AGAIN_INTERVAL", 0.01)
    _, theirs, *_ = nodes
    ours = theirs + 40

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        link.send(SendDatagram(theirs, b""))
        link.drain()
        hint = f"add {ours} to its interface, or correct the address of this node in the configuration: ip address"
        assert reports.failing("link") == {Failure("link socket", f"this machine does not have {ours}", hint)}
        assert link.sockets() == []
        add(ours, "lo")
        await until(lambda: not reports.failing("link"))
        with node(theirs) as send:
            send(b"at last", ours)
            await reports.next(DatagramReceived)
        link.close()

    asyncio.run(story())


def test_a_link_that_is_closed_is_not_opened_again(
    reports: Reports, ipv4: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "OPEN_AGAIN_INTERVAL", 0.01)
    ours = ipv4[0] + 40

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT)
        link.close()
        assert not reports.failing("link")
        add(ours, "lo")
        await asyncio.sleep(0.05)
        assert link.sockets() == []

    asyncio.run(story())


def test_reloads_meanwhile_do_not_add_tries(
    reports: Reports, ipv4: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "OPEN_AGAIN_INTERVAL", 0.2)
    tries = []

    def refuse(own: Address, port: int) -> None:
        tries.append(own)
        raise OSError(errno.EADDRNOTAVAIL, "")

    monkeypatch.setattr(link_module, "_pair", refuse)

    async def story() -> None:
        link = Link(reports)
        for _ in range(20):
            link.configure(ipv4[0], PORT)
        await until(lambda: len(tries) > 20)
        await asyncio.sleep(0.1)
        assert len(tries) < 25
        link.close()

    asyncio.run(story())


def test_with_another_address_the_failures_of_the_one_before_go(reports: Reports, ipv4: list[Address]) -> None:
    ours, theirs, *_ = ipv4
    far = theirs + 0x10000

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [far])
        link.send(SendDatagram(far, b""))
        assert [failure.what for failure in reports.failing("link")] == [f"link to {far}"]
        link.configure(ours + 40, PORT, [far])
        assert [failure.what for failure in reports.failing("link")] == ["link socket"]
        link.close()

    asyncio.run(story())


def test_an_interface_made_anew_costs_no_socket(reports: Reports, nodes: list[Address]) -> None:
    _, theirs, *_ = nodes
    ours, far = theirs + 40, theirs + 0x10000
    gateway = theirs + 41

    def make() -> None:
        make_interface()
        add(ours, "eth9")
        ip(f"route add {gateway} dev eth9")
        ip(f"route add {far} via {gateway}")

    async def story() -> None:
        link = Link(reports)
        make()
        link.configure(ours, PORT, [theirs, far])
        with node(theirs) as send:
            for _ in range(2):
                link.send(SendDatagram(far, b""))
                assert not reports.failing("link")
                so_far = len(reports.of(DatagramReceived))
                while len(reports.of(DatagramReceived)) == so_far:  # what comes to a new interface at once may be lost
                    send(b"hello", ours)
                    await asyncio.sleep(0.01)
                ip("link del eth9")
                link.send(SendDatagram(far, b""))
                assert [failure.what for failure in reports.failing("link")] == [f"link to {far}"]
                make()
        link.send(SendDatagram(far, b""))
        assert not reports.failing("link")
        link.close()

    asyncio.run(story())


def test_a_port_in_use_is_named_until_it_is_free(
    reports: Reports, nodes: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "OPEN_AGAIN_INTERVAL", 0.01)
    ours, theirs, *_ = nodes
    reason = f"another program uses UDP port {PORT} of {ours}"
    hint = f"stop the program that has port {PORT}, or change the link's port: ss -lunp"
    failure = Failure("link socket", reason, hint)

    async def story() -> None:
        link, first = Link(reports), Link(Reports())
        with other(ours):
            link.configure(ours, PORT, [theirs])
            assert reports.failing("link") == {failure}
        await until(lambda: not reports.failing("link"))
        link.close()
        first.configure(ours, PORT, [theirs])
        link.configure(ours, PORT, [theirs])
        assert reports.failing("link") == {failure}, "of another floatip, too"
        with node(theirs) as send:
            send(b"", ours)
            first.close()
            await until(lambda: not reports.failing("link"))
            send(b"heard", ours)
            await reports.next(DatagramReceived)
        assert heard(reports) == [(theirs, b"heard")]
        link.close()

    asyncio.run(story())


# Sending


def test_datagrams_leave_as_network_control_from_the_own_address(reports: Reports, nodes: list[Address]) -> None:
    ours, theirs, *_ = nodes
    level, option = (socket.IPPROTO_IP, socket.IP_RECVTOS) if ours.version == 4 else (socket.IPPROTO_IPV6, 66)

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        assert link.sockets() == [SocketView(f"link at {ours} port {PORT}", 48, "known nodes")]
        with other(theirs) as udp:
            udp.setsockopt(level, option, 1)
            link.send(SendDatagram(theirs, bytes(wire.LARGEST)))
            data, ancillary, _, (host, port, *_) = udp.recvmsg(2000, 100)
        assert (len(data), ip_address(host), port) == (wire.LARGEST, ours, PORT)
        assert [value[0] for *_, value in ancillary] == [0xC0]
        link.close()

    asyncio.run(story())


@dataclass
class Refusal:
    reason: str
    begin: Callable[[Address], None]
    end: Callable[[Address], None]
    hint: str = "see which way it would go, and from which address: ip address; ip route get {to} from {ours}"


def nft(ruleset: str) -> None:
    subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=ruleset, text=True, check=True)


def route(kind: str) -> tuple[Callable[[Address], None], Callable[[Address], None]]:
    return lambda to: ip(f"route add {kind} {to}"), lambda to: ip(f"route del {kind} {to}")


REFUSALS = {
    "no route": Refusal(
        "network is unreachable",
        lambda to: ip(f"-{to.version} route del default"),
        lambda to: ip(f"-{to.version} route add default dev eth9"),
    ),
    "prohibit": Refusal("permission denied", *route("prohibit")),
    "blackhole": Refusal("invalid argument", *route("blackhole")),
    "nftables": Refusal(
        "operation not permitted",
        lambda to: nft("table inet t { chain c { type filter hook output priority 0; udp dport 9112 drop; }; }"),
        lambda to: nft("delete table inet t"),
        "let UDP to port 9112 out of this machine's firewall: nft list ruleset",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_send_is_a_failure_until_one_works_and_costs_no_socket(
    reports: Reports, nodes: list[Address], kind: str
) -> None:
    ours, theirs, *_ = nodes
    far = theirs + 0x10000
    refusal = REFUSALS[kind]

    async def story() -> None:
        make_interface()
        ip(f"-{ours.version} route add default dev eth9")
        link = Link(reports)
        link.configure(ours, PORT, [theirs, far])
        link.send(SendDatagram(far, b""))
        assert not reports.events
        refusal.begin(far)
        for _ in range(3):
            link.send(SendDatagram(far, b""))
        hint = refusal.hint.format(to=far, ours=ours)
        assert reports.failing("link") == {Failure(f"link to {far}", refusal.reason, hint)}
        refusal.end(far)
        link.send(SendDatagram(far, b""))
        assert not reports.failing("link")
        assert len(reports.events) == 2, "only a change is told"
        with node(theirs) as send:
            send(b"still heard", ours)
            await reports.next(DatagramReceived)
        link.close()

    asyncio.run(story())


def test_that_nobody_listens_is_no_failure(reports: Reports, nodes: list[Address]) -> None:
    """The core says which node is silent."""
    ours, theirs, *_ = nodes

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs])
        for _ in range(5):
            link.send(SendDatagram(theirs, b"to nobody"))
            await asyncio.sleep(0.01)  # the answer of ICMP
            link.drain()
        assert not reports.events
        with node(theirs) as send:
            send(b"back", ours)
            await reports.next(DatagramReceived)
        link.close()

    asyncio.run(story())


def test_a_reload_forgets_the_failure_of_a_node_that_is_gone(reports: Reports, nodes: list[Address]) -> None:
    ours, theirs, *_ = nodes
    far = theirs + 0x10000

    async def story() -> None:
        link = Link(reports)
        link.configure(ours, PORT, [theirs, far])
        link.send(SendDatagram(far, b""))
        assert [failure.what for failure in reports.failing("link")] == [f"link to {far}"]
        link.configure(ours, PORT, [theirs])
        assert not reports.failing("link")
        link.send(SendDatagram(far, b""))  # the last word to it
        assert not reports.failing("link")
        link.close()

    asyncio.run(story())
