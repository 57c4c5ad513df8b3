import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address

import pytest

from floatip.core.addresses import Address
from floatip.core.events import AdvertReceived, Failure, LinkChanged, SendAdvert
from floatip.core.vrrp.wire import GROUP, PROTOCOL
from floatip.host.network import adverts as adverts_module
from floatip.host.network.adverts import RECEIVE_BUFFER, Adverts, Listening, Place
from floatip.host.network.packet_filter import Known
from floatip.host.network.vrrp_sockets import SO_RCVBUFFORCE
from tests.host.reports import Reports, until

pytestmark = pytest.mark.usefixtures("namespace")

OURS, THEIRS = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, stdout=subprocess.PIPE, text=True).stdout


def on(
    interface: str, known: Known | None = None, groups: Iterable[Address] = (), version: int = 4
) -> dict[Place, Listening]:
    return {(interface, version): Listening(frozenset(groups), known)}


def make_link() -> None:
    ip("link add eth9 address 02:00:00:00:00:09 type veth peer name peer9")
    ip("address add 10.0.0.1/24 dev eth9")
    ip("link set eth9 up")
    ip("link set peer9 up")
    ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth9")
    # A worker of the kernel opens the queue some time after the carrier came; what is sent before is lost.
    while any(json.loads(ip(f"-json link show {name}"))[0]["operstate"] != "UP" for name in ("eth9", "peer9")):
        time.sleep(0.001)


def next_advert(wire: socket.socket) -> bytes:
    """The next IPv4 packet of protocol 112 on the wire, without its Ethernet header."""
    while True:
        frame = wire.recv(2000)
        if frame[12:14] == b"\x08\x00" and frame[23] == 112:
            return frame[14:]


@contextlib.contextmanager
def witness(interface: str) -> Iterator[Callable[[int], None]]:
    """Waits, while the loop stands still, until so many adverts have arrived: the kernel delivers when it has time."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        raw.settimeout(60)

        def arrived(number: int) -> None:
            for _ in range(number):
                raw.recv(2000)

        yield arrived


def test_an_advert_arrives_as_it_was_sent(reports: Reports) -> None:
    async def story() -> None:
        ip("address add 10.0.0.1/32 dev lo")
        ip("address add 10.0.0.2/32 dev lo")
        adverts = Adverts(reports)
        adverts.configure(on("lo"))
        adverts.send(SendAdvert("lo", OURS, THEIRS, b"anything"))
        await reports.next(AdvertReceived)
        adverts.close()

    asyncio.run(story())
    assert reports.events == [AdvertReceived("lo", OURS, THEIRS, 255, b"anything")]


def test_an_advert_opens_no_socket(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    """To close one may take tens of milliseconds."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket is opened")

    async def story() -> None:
        ip("address add 10.0.0.1/32 dev lo")
        ip("address add 10.0.0.2/32 dev lo")
        adverts = Adverts(reports)
        adverts.configure(on("lo"))
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", refuse)
            for _ in range(3):
                adverts.send(SendAdvert("lo", OURS, THEIRS, b"anything"))
            adverts.drain()
        assert len(reports.of(AdvertReceived)) == 3
        adverts.close()

    asyncio.run(story())


def test_draining_hears_all_that_has_arrived_before_the_loop_runs(reports: Reports) -> None:
    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(on("lo"))
        localhost = IPv4Address("127.0.0.1")
        with witness("lo") as arrived:
            for number in range(300):
                adverts.send(SendAdvert("lo", localhost, localhost, number.to_bytes(2, "big")))
            arrived(300)
            adverts.drain()
            heard = [int.from_bytes(event.data, "big") for event in reports.of(AdvertReceived)]
            assert heard == list(range(300))
            for _ in range(1000):
                adverts.send(SendAdvert("lo", localhost, localhost, b""))
            arrived(1000)
        adverts.drain()
        assert len(reports.events) == 300 + 512, "bounded, so that a flood cannot hold up the timers"
        await until(lambda: len(reports.events) == 1300)
        adverts.close()

    asyncio.run(story())


def test_only_the_named_interface_is_heard(reports: Reports) -> None:
    async def story() -> None:
        make_link()
        sender, receiver = Adverts(reports), Adverts(reports)
        sender.configure(on("lo"))
        receiver.configure(on("eth9"))
        localhost = IPv4Address("127.0.0.1")
        sender.send(SendAdvert("lo", localhost, localhost, b""))
        await reports.next(AdvertReceived)
        receiver.drain()
        assert [event.interface for event in reports.of(AdvertReceived)] == ["lo"]
        sender.close()
        receiver.close()

    asyncio.run(story())


def test_an_interface_that_appears_later_or_anew_is_opened_then(reports: Reports) -> None:
    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        for number in (1, 2):
            make_link()
            adverts.refresh()
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
                wire.bind(("peer9", 0x0800))
                wire.settimeout(60)
                adverts.send(SendAdvert("eth9", OURS, THEIRS, b"out"))
                packet = next_advert(wire)
                assert (packet[1], packet[8], packet[20:]) == (0xC0, 255, b"out")
                # The same packet back, with source and destination exchanged: the checksum stays right.
                back = packet[:12] + packet[16:20] + packet[12:16] + b"in!"
                wire.send(bytes.fromhex("020000000009 020000000002 0800") + back)
            assert await reports.next(AdvertReceived, number) == AdvertReceived("eth9", THEIRS, OURS, 255, b"in!")
            ip("link del eth9")
            adverts.refresh()
        adverts.close()

    asyncio.run(story())
    assert len(reports.events) == 2


def test_the_last_advert_on_an_interface_that_a_reload_gives_up_still_leaves(reports: Reports) -> None:
    async def story() -> None:
        make_link()
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
            wire.bind(("peer9", 0x0800))
            wire.settimeout(60)
            adverts.configure({})
            adverts.send(SendAdvert("eth9", OURS, THEIRS, b"last"))
            assert next_advert(wire)[20:] == b"last"
        await asyncio.sleep(0)
        assert not adverts.sockets()
        adverts.close()

    asyncio.run(story())
    assert not reports.events


def test_a_destination_fails_until_a_send_works(reports: Reports) -> None:
    advert = SendAdvert("eth9", OURS, THEIRS, b"")

    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        for _ in range(3):
            adverts.send(advert)
        what = "advert to 10.0.0.2 on eth9"
        assert reports.failing("adverts") == {Failure(what, "eth9 does not exist")}
        make_link()
        adverts.refresh()
        ip("link set eth9 down")
        for _ in range(3):
            adverts.send(advert)
        assert reports.failing("adverts") == {Failure(what, "network is unreachable")}
        ip("link set eth9 up")
        adverts.send(advert)
        assert reports.failing("adverts") == set()
        assert len(reports.events) == 3, "only a change is told"
        adverts.close()

    asyncio.run(story())


def test_that_nothing_leaves_by_an_interface_that_is_down_is_no_failure_of_its_own(reports: Reports) -> None:
    advert = SendAdvert("eth9", OURS, THEIRS, b"")

    async def story() -> None:
        make_link()
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        ip("link set eth9 down")
        adverts.send(advert)
        assert reports.failing("adverts"), "nobody has said that it is down"
        adverts.link(LinkChanged("eth9", False, "eth9 is down"))
        assert not reports.failing("adverts")
        adverts.send(advert)
        ip("link del eth9")
        adverts.send(advert)
        assert not reports.failing("adverts")
        adverts.link(LinkChanged("eth9", True, "eth9 is up"))
        adverts.send(advert)
        assert reports.failing("adverts"), "now it should work"
        adverts.close()

    asyncio.run(story())


def test_a_destination_to_which_nobody_sends_any_more_does_not_fail(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adverts_module, "PATIENCE", 0.1)

    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(on("eth9") | on("eth8"))
        adverts.send(SendAdvert("eth9", OURS, THEIRS, b""))
        adverts.send(SendAdvert("eth8", OURS, THEIRS, b""))
        assert len(reports.failing("adverts")) == 2
        adverts.configure(on("eth9"))
        assert {failure.what for failure in reports.failing("adverts")} == {"advert to 10.0.0.2 on eth9"}
        await until(lambda: not reports.failing("adverts"))
        adverts.close()

    asyncio.run(story())


def test_what_is_seldom_tried_fails_in_between(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adverts_module, "PATIENCE", 0.01)

    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        for _ in range(2):
            adverts.send(SendAdvert("eth9", OURS, THEIRS, b""))
            number = len(reports.events)
            await asyncio.sleep(0.2)
        # Three times the time between the two tries, and not the shortest patience.
        assert len(reports.events) == number
        await until(lambda: not reports.failing("adverts"))
        adverts.close()

    asyncio.run(story())


def test_an_interface_made_anew_is_opened_by_the_send_that_meets_it(reports: Reports) -> None:
    async def story() -> None:
        make_link()
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        ip("link del eth9")
        make_link()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
            wire.bind(("peer9", 0x0800))
            wire.settimeout(60)
            adverts.send(SendAdvert("eth9", OURS, THEIRS, b"lost"))
            assert {failure.reason for failure in reports.failing("adverts")} == {"no such device"}
            adverts.send(SendAdvert("eth9", OURS, THEIRS, b"sent"))
            assert next_advert(wire)[20:] == b"sent"
        assert not reports.failing("adverts")
        adverts.close()

    asyncio.run(story())


def test_the_group_is_joined_and_left_by_a_reload(reports: Reports) -> None:
    def groups() -> str:
        return ip("maddress show dev eth9")

    async def story() -> None:
        make_link()
        adverts = Adverts(reports)
        adverts.configure(on("eth9"))
        kept = adverts._links["eth9", 4].adverts
        assert "224.0.0.18" not in groups()
        adverts.configure(on("eth9", groups=[GROUP]))
        assert "224.0.0.18" in groups()
        adverts.configure(on("eth9"))
        assert "224.0.0.18" not in groups()
        assert adverts._links["eth9", 4].adverts is kept
        adverts.close()

    asyncio.run(story())
    assert not reports.events


def advert(vrid: int) -> bytes:
    return bytes([0x21, vrid, 100, 1])


class Strangers:
    """Localhost and its neighbours send to each other; what is for us goes through the filter of the kernel."""

    def __init__(self, reports: Reports) -> None:
        self.sender, self.receiver = Adverts(lambda event: None), Adverts(reports)
        self.sender.configure(on("lo"))

    def send(self, source: str, data: bytes) -> None:
        self.sender.send(SendAdvert("lo", IPv4Address(source), IPv4Address("127.0.0.1"), data))

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


KNOWN = Known().plus(51, [IPv4Address("127.0.0.2"), IPv4Address("127.0.0.3")]).plus(52, [IPv4Address("127.0.0.2")])


def test_what_is_not_for_us_comes_by_a_way_of_its_own(reports: Reports) -> None:
    async def story() -> None:
        play = Strangers(reports)
        play.receiver.configure(on("lo", KNOWN.plus(99, [])))
        sent = [
            ("127.0.0.2", advert(51), True),
            ("127.0.0.3", advert(52), True),
            ("127.0.0.9", advert(99), True),  # from anywhere
            ("127.0.0.9", advert(51), False),
            ("127.0.0.2", advert(53), True),
            ("127.0.0.2", b"", True),
            ("127.0.0.2", b"!", True),
            ("127.0.0.9", advert(53), False),
        ]
        for source, data, _ in sent:
            play.send(source, data)
        play.receiver.drain()
        heard = [(str(event.source), event.data, True) for event in reports.of(AdvertReceived)]
        assert heard == [one for one in sent if one[2]]
        await until(lambda: len(reports.events) == len(sent))
        heard = [(str(event.source), event.data, False) for event in reports.of(AdvertReceived)[6:]]
        assert heard == [one for one in sent if not one[2]]
        play.close()

    asyncio.run(story())


@pytest.mark.parametrize("at_a_time", [1, 100])
def test_of_a_flood_of_strangers_few_a_second_are_looked_at_and_no_advert_is_lost(
    reports: Reports, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    """Whether the loop has its turn between them or not."""
    monkeypatch.setattr(adverts_module, "STRANGERS_A_SECOND", 10)

    def known() -> list[int]:
        return [event.data[-1] for event in reports.of(AdvertReceived) if event.source == IPv4Address("127.0.0.2")]

    async def story() -> None:
        play = Strangers(reports)
        play.receiver.configure(on("lo", KNOWN))
        began_at = time.monotonic()
        for number in range(100):
            for _ in range(at_a_time):
                play.send("127.0.0.9", advert(51))
            play.send("127.0.0.2", advert(51) + bytes([number]))
            await until(lambda: len(known()) > number)  # noqa: B023
        looked_at = len(reports.events) - 100
        assert 0 < looked_at <= 10 + 10 * (time.monotonic() - began_at)
        assert known() == list(range(100))
        await reports.next(AdvertReceived, len(reports.events) + 1)  # later
        play.close()

    asyncio.run(story())


def test_a_reload_changes_what_is_for_us_on_the_same_socket(reports: Reports) -> None:
    async def story() -> None:
        play = Strangers(reports)
        play.receiver.configure(on("lo", KNOWN))
        kept = play.receiver._links["lo", 4].adverts
        for known, expected in ((KNOWN, 0), (KNOWN.plus(77, []), 1), (None, 2)):
            play.receiver.configure(on("lo", known))
            play.send("127.0.0.9", advert(77))
            play.receiver.drain()
            assert len([e for e in reports.of(AdvertReceived) if e.data == advert(77)]) == expected
        assert play.receiver._links["lo", 4].adverts is kept
        play.close()

    asyncio.run(story())


def test_a_filter_reaches_over_many_virtual_routers_and_nodes(reports: Reports) -> None:
    nodes = [IPv4Address(f"127.0.{number}.1") for number in range(1, 101)]
    known = Known(frozenset(nodes), frozenset(range(200, 256)))

    async def story() -> None:
        play = Strangers(reports)
        play.receiver.configure(on("lo", known))
        for source, vrid in [(nodes[0], 1), (nodes[-1], 254), (nodes[50], 128), (IPv4Address("127.0.0.9"), 255)]:
            play.send(str(source), advert(vrid))
            play.receiver.drain()
            assert reports.of(AdvertReceived)[-1].source == source
        number = len(reports.events)
        play.send("127.0.0.9", advert(1))
        play.receiver.drain()
        assert len(reports.events) == number
        play.close()

    asyncio.run(story())
