"""Adverts between two machines on one layer 2, as the wire has them."""

import asyncio
import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from floatip.core.addresses import Address
from floatip.core.events import AdvertReceived, LinkChanged, SendAdvert
from floatip.core.vrrp.wire import GROUP, Advert, checksum, pack
from floatip.host.network.adverts import Adverts, Listening, Place
from floatip.host.network.packet_filter import Known
from tests.host.conftest import Elsewhere
from tests.host.reports import Reports, until

GROUP6 = IPv6Address("ff02::12")
OURS, THEIRS = ip_address("10.0.0.1"), ip_address("10.0.0.2")
OURS6, THEIRS6 = ip_address("fe80::1"), ip_address("fe80::2")
BOTH = pytest.mark.parametrize(("source", "group"), [(OURS, GROUP), (OURS6, GROUP6)], ids=["IPv4", "IPv6"])


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, stdout=subprocess.PIPE, text=True).stdout


def is_up(interface: str) -> bool:
    return bool(json.loads(ip(f"-json link show {interface}"))[0]["operstate"] == "UP")


def make_wire(elsewhere: Elsewhere) -> None:
    """eth9 is .1 here and .2 there."""
    ip("link add eth9 address 02:00:00:00:00:01 type veth peer name far9 address 02:00:00:00:00:02")
    ip(f"link set far9 netns {elsewhere.path}")
    address("eth9", 1)
    with elsewhere.entered():
        ip("link set far9 name eth9")
        address("eth9", 2)
    for _ in range(2):
        while not is_up("eth9"):
            time.sleep(0.001)
    with elsewhere.entered():
        while not is_up("eth9"):
            time.sleep(0.001)


def address(interface: str, number: int) -> None:
    ip(f"link set {interface} addrgenmode none")
    ip(f"address add 10.0.0.{number}/24 dev {interface}")
    ip(f"address add fe80::{number}/64 dev {interface} nodad")
    ip(f"link set {interface} up")


def on(version: int, groups: Iterable[Address] = (), known: Known | None = None) -> dict[Place, Listening]:
    return {("eth9", version): Listening(frozenset(groups), known)}


def v3(source: Address, vrid: int = 51, checksum: int = 0) -> bytes:
    """With one address; a checksum of 0 is right only where the kernel writes it."""
    address = ip_address("192.0.2.10" if source.version == 4 else "2001:db8::10")
    return struct.pack("!BBBBHH", 0x31, vrid, 100, 1, 100, checksum) + address.packed


@contextmanager
def there(elsewhere: Elsewhere, reports: Reports, wanted: dict[Place, Listening]) -> Iterator[Adverts]:
    with elsewhere.entered():
        adverts = Adverts(reports)
        adverts.configure(wanted)
    try:
        yield adverts
    finally:
        adverts.close()


@BOTH
def test_an_advert_to_the_group_is_heard_by_the_others_and_not_by_its_sender(
    source: Address, group: Address, elsewhere: Elsewhere, reports: Reports
) -> None:
    own = Reports()

    async def story() -> None:
        make_wire(elsewhere)
        adverts = Adverts(own)
        adverts.configure(on(group.version, [group]))
        with there(elsewhere, reports, on(group.version, [group])) as others:
            adverts.send(SendAdvert("eth9", source, group, v3(source)))
            heard = await reports.next(AdvertReceived)
            assert (heard.interface, heard.source, heard.destination, heard.ttl) == ("eth9", source, group, 255)
            assert heard.data[:6] + heard.data[8:] == v3(source)[:6] + v3(source)[8:]
            answer = THEIRS if group.version == 4 else THEIRS6
            others.send(SendAdvert("eth9", answer, group, v3(answer)))
            assert (await own.next(AdvertReceived)).source == answer
            assert len(own.events) == 1, "its own came back"
        adverts.close()

    asyncio.run(story())


@BOTH
def test_who_is_not_in_the_group_hears_no_advert_to_it(
    source: Address, group: Address, elsewhere: Elsewhere, reports: Reports
) -> None:
    async def story() -> None:
        make_wire(elsewhere)
        adverts = Adverts(Reports())
        adverts.configure(on(group.version, [group]))
        unicast = THEIRS if group.version == 4 else THEIRS6
        with there(elsewhere, reports, on(group.version)):
            adverts.send(SendAdvert("eth9", source, group, v3(source)))
            adverts.send(SendAdvert("eth9", source, unicast, v3(source)))
            assert (await reports.next(AdvertReceived)).destination == unicast
        adverts.close()

    asyncio.run(story())


@BOTH
def test_the_time_to_live_is_that_of_the_advert(
    source: Address, group: Address, elsewhere: Elsewhere, reports: Reports
) -> None:
    async def story() -> None:
        make_wire(elsewhere)
        adverts = Adverts(Reports())
        adverts.configure(on(group.version))
        unicast = THEIRS if group.version == 4 else THEIRS6
        with there(elsewhere, reports, on(group.version)):
            for number, ttl in enumerate((64, 255, 1), 1):
                adverts.send(SendAdvert("eth9", source, unicast, v3(source), ttl))
                assert (await reports.next(AdvertReceived, number)).ttl == ttl
        adverts.close()

    asyncio.run(story())


@BOTH
@pytest.mark.parametrize("change", ["created again", "down for a while", "IPv6 disabled for a while"])
def test_the_group_is_joined_again_when_the_interface_comes_back(
    change: str, source: Address, group: Address, elsewhere: Elsewhere, reports: Reports
) -> None:
    async def story() -> None:
        make_wire(elsewhere)
        adverts = Adverts(Reports())
        adverts.configure(on(group.version, [group]))
        with there(elsewhere, reports, on(group.version, [group])) as others:
            with elsewhere.entered():
                others.link(LinkChanged("eth9", False, "eth9 is down"))
                match change:
                    case "created again":
                        ip("link del eth9")
                    case "down for a while":
                        ip("link set eth9 down")
                        ip("link set eth9 up")
                    case _:  # by an MTU that is too small
                        ip("link set eth9 mtu 1200")
                        ip("link set eth9 mtu 1500")
            if change == "created again":
                make_wire(elsewhere)
            with elsewhere.entered():
                while not is_up("eth9"):
                    await asyncio.sleep(0.001)
                others.link(LinkChanged("eth9", True, "eth9 is up"))
            adverts.refresh()

            def heard() -> bool:
                adverts.send(SendAdvert("eth9", source, group, v3(source)))
                return bool(reports.of(AdvertReceived))

            await until(heard)
        adverts.close()

    asyncio.run(story())


@pytest.mark.parametrize("version", [4, 6])
def test_the_filter_knows_nodes_and_virtual_routers(version: int, elsewhere: Elsewhere, reports: Reports) -> None:
    ours, others, to = (OURS, "10.0.0.3", THEIRS) if version == 4 else (OURS6, "fe80::3", THEIRS6)
    other = ip_address(others)
    known = Known().plus(51, [ours]).plus(52, [])

    async def story() -> None:
        make_wire(elsewhere)
        ip(f"address add {other} dev eth9" + " nodad" * (version == 6))
        adverts = Adverts(Reports())
        adverts.configure(on(version))
        with there(elsewhere, reports, on(version, known=known)) as receiver:
            place = receiver._links["eth9", version]
            for source, vrid in [(ours, 51), (other, 51), (other, 52), (ours, 53), (other, 53)]:
                adverts.send(SendAdvert("eth9", source, to, v3(source, vrid)))
            await until(lambda: len(reports.events) == 5)
            heard = [(event.source, event.data[1]) for event in reports.of(AdvertReceived)]
            assert set(heard) == {(ours, 51), (other, 51), (other, 52), (ours, 53), (other, 53)}
            asyncio.get_running_loop().remove_reader(place.strangers)
            reports.events.clear()
            for source, vrid in [(other, 51), (other, 53), (ours, 51), (other, 52), (ours, 53)]:
                adverts.send(SendAdvert("eth9", source, to, v3(source, vrid)))
            await until(lambda: len(reports.events) == 3)
            heard = [(event.source, event.data[1]) for event in reports.of(AdvertReceived)]
            assert heard == [(ours, 51), (other, 52), (ours, 53)]
        adverts.close()

    asyncio.run(story())


def test_the_kernel_drops_adverts_over_ipv6_with_a_wrong_checksum(elsewhere: Elsewhere, reports: Reports) -> None:
    async def story() -> None:
        make_wire(elsewhere)
        with there(elsewhere, reports, on(6)):
            adverts = Adverts(Reports())
            adverts.configure(on(6))
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, 112) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth9")
                raw.sendto(v3(OURS6, checksum=0xBAD), (str(THEIRS6), 0, 0, socket.if_nametoindex("eth9")))
            adverts.send(SendAdvert("eth9", OURS6, THEIRS6, v3(OURS6, vrid=52)))
            assert (await reports.next(AdvertReceived)).data[1] == 52
            adverts.close()

    asyncio.run(story())


@BOTH
def test_what_leaves_looks_right_to_tshark(
    source: Address, group: Address, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    async def story() -> list[bytes]:
        make_wire(elsewhere)
        adverts = Adverts(Reports())
        adverts.configure(on(group.version))
        with elsewhere.entered():
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            wire.bind(("eth9", 0))
        frames: list[bytes] = []
        with wire:
            wire.setblocking(False)
            data = v3(source)
            if group.version == 4:
                data = pack(Advert(3, 51, 100, 1.0, (ip_address("192.0.2.10"),)), source, group)
            adverts.send(SendAdvert("eth9", source, group, data))
            if group.version == 6:
                # A trailer of authentication is covered too (draft-cassen-vrrp-auth-hmac).
                adverts.send(SendAdvert("eth9", source, group, data + bytes(range(28))))

            def arrived() -> bool:
                try:
                    frame = wire.recv(2000)
                except BlockingIOError:
                    return False
                if frame[:2] in (b"\x01\x00", b"\x33\x33") and 112 in (frame[23], frame[20]):
                    frames.append(frame)
                return len(frames) == (1 if group.version == 4 else 2)

            await until(arrived)
        adverts.close()
        return frames

    frames = asyncio.run(story())
    seen = tshark(frames[:1], tmp_path)
    lines = ["Differentiated Services Field: 0xc0", "Time to Live: 255"]
    if group.version == 6:
        lines = ["Traffic Class: 0xc0", "Hop Limit: 255"]
    for line in [*lines, f"Source Address: {source}", f"Destination Address: {group}", "[correct]"]:
        assert line in seen, seen
    if group.version == 6:
        for frame in frames:
            payload = frame[54:]
            pseudo = OURS6.packed + GROUP6.packed + struct.pack("!II", len(payload), 112)
            assert checksum(pseudo + payload) == 0


def tshark(frames: list[bytes], directory: Path) -> str:
    file = directory / "frames.pcap"
    records = [struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames]
    file.write_bytes(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records))
    try:
        shown = subprocess.run(["tshark", "-r", str(file), "-V"], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.fail("this test needs tshark: apt-get install tshark")
    return shown.stdout
