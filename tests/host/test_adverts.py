import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from floatip.core.events import AdvertReceived, Failed, SendAdvert
from floatip.core.vrrp.wire import PROTOCOL
from floatip.host.adverts import RECEIVE_BUFFER, SO_RCVBUFFORCE, Adverts
from tests.host.reports import Reports, until

pytestmark = pytest.mark.usefixtures("namespace")

OURS, THEIRS = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, stdout=subprocess.PIPE, text=True).stdout


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
        adverts.configure(["lo"])
        adverts.send(SendAdvert("lo", OURS, THEIRS, b"anything"))
        await reports.next(AdvertReceived)
        adverts.close()

    asyncio.run(story())
    assert reports.events == [AdvertReceived("lo", OURS, THEIRS, 255, b"anything")]


def test_draining_hears_all_that_has_arrived_before_the_loop_runs(reports: Reports) -> None:
    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(["lo"])
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
        sender.configure(["lo"])
        receiver.configure(["eth9"])
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
        adverts.configure(["eth9"])
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


def test_a_send_that_fails_is_told_once_for_each_reason(reports: Reports) -> None:
    async def story() -> None:
        adverts = Adverts(reports)
        adverts.configure(["eth9"])
        for _ in range(3):
            adverts.send(SendAdvert("eth9", OURS, THEIRS, b""))
        make_link()
        adverts.refresh()
        ip("link set eth9 down")
        for _ in range(3):
            adverts.send(SendAdvert("eth9", OURS, THEIRS, b""))
        adverts.close()

    asyncio.run(story())
    missing, down = reports.of(Failed)
    assert missing == Failed("advert to 10.0.0.2 on eth9", "the interface does not exist")
    assert "network" in down.reason
