import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from pathlib import Path

import pytest

from floatip.core.events import Address, Failed, Garp, Held, Hold, LinkChanged, Placed
from floatip.host import kernel as kernel_module
from floatip.host.disk import BOOT_ID, Disk, Memory
from floatip.host.garp import gratuitous_arp, neighbour_advertisement
from floatip.host.kernel import Kernel
from tests.host.reports import Reports, until

pytestmark = pytest.mark.usefixtures("namespace")

VIP = Placed("lo", ip_interface("192.0.2.10/32"))
LOOPBACK = frozenset(Placed("lo", ip_interface(address)) for address in ("127.0.0.1/8", "::1/128"))
VIP6 = Placed("lo", ip_interface("2001:db8::10/128"))


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def on(interface: str) -> set[str]:
    found = json.loads(ip(f"-json address show dev {interface}"))[0]["addr_info"]
    return {address["local"] for address in found if address["scope"] == "global"}


@contextlib.asynccontextmanager
async def kernel(reports: Reports, state: Path) -> AsyncIterator[Kernel]:
    disk = Disk(reports)
    it = Kernel(reports, Memory(disk, state / "state" / "held.json"))
    await it.start()
    it.configure({})
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(it.run())
            yield it
            running.cancel()
    finally:
        it.close()
        await disk.finish(60)
        disk.close()


async def held(reports: Reports, *addresses: Placed) -> None:
    wanted = set(addresses)
    await until(lambda: wanted <= reports.of(Held)[-1].addresses)


async def released(reports: Reports, *addresses: Placed) -> None:
    unwanted = set(addresses)
    await until(lambda: not unwanted & reports.of(Held)[-1].addresses)


async def nothing_else_is_done(reports: Reports, it: Kernel, *addresses: Placed) -> None:
    """Hold these, and see one more come and go: by then all has been done that was to be done before."""
    it.hold(Hold(frozenset({*addresses, VIP6})))
    await held(reports, VIP6)
    it.hold(Hold(frozenset(addresses)))
    await released(reports, VIP6)


def test_addresses_are_held_reported_and_released(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            assert reports.of(Held) == [Held(LOOPBACK)]
            it.hold(Hold(frozenset({VIP, VIP6})))
            await held(reports, VIP, VIP6)
            assert on("lo") == {"192.0.2.10", "2001:db8::10"}
            assert "nodad" in ip("-6 address show dev lo")
            assert "preferred_lft 0sec" in ip("-6 address show dev lo")
            it.hold(Hold(frozenset({VIP6})))
            await released(reports, VIP)
            it.hold(Hold(frozenset()))
            await released(reports, VIP6)
            assert on("lo") == set()

    asyncio.run(story())
    assert not reports.of(Failed)


def test_an_address_that_someone_deletes_can_be_put_back_within_milliseconds(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            gaps = []
            for _ in range(20):
                ip("address del 192.0.2.10/32 dev lo")
                await released(reports, VIP)
                gone = reports.times[-1]
                it.hold(Hold(frozenset({VIP})))
                await held(reports, VIP)
                gaps.append(reports.times[-1] - gone)
            print(f"put back: median {sorted(gaps)[10] * 1e3:.2f} ms after the report")
            assert sorted(gaps)[10] < 0.05
            it.hold(Hold(frozenset()))
            await released(reports, VIP)

    asyncio.run(story())


def test_an_address_of_somebody_else_is_used_but_never_released(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        ip("address add 192.0.2.10/24 dev eth9")
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({Placed("eth9", VIP.address), VIP6})))
            await held(reports, VIP6)
            assert on("lo") == {"2001:db8::10"}
            it.hold(Hold(frozenset()))
            await released(reports, VIP6)
            await nothing_else_is_done(reports, it)
            assert "192.0.2.10" in on("eth9")

    asyncio.run(story())


def test_an_address_is_held_beside_the_same_one_of_somebody_else_on_another_interface(
    reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        ip("address add 192.0.2.10/32 dev eth9")
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            ip("address del 192.0.2.10/32 dev eth9")
            await released(reports, Placed("eth9", VIP.address))
            assert on("lo") == {"192.0.2.10"}
            ip("address add 192.0.2.10/32 dev eth9")
            it.hold(Hold(frozenset()))
            await released(reports, VIP)
            assert "192.0.2.10" in on("eth9")

    asyncio.run(story())


def test_an_address_that_the_administrator_puts_back_before_us_is_his(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            ip("address del 192.0.2.10/32 dev lo")
            await released(reports, VIP)
            ip("address add 192.0.2.10/32 dev lo")
            await held(reports, VIP)
            await nothing_else_is_done(reports, it, VIP)
            await nothing_else_is_done(reports, it)
            assert on("lo") == {"192.0.2.10"}

    asyncio.run(story())


@pytest.mark.parametrize("wanted", [True, False])
def test_what_a_dead_predecessor_left_is_adopted(wanted: bool, reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
        ip("address add 192.0.2.11/32 dev lo")  # by hand, meanwhile
        async with kernel(reports, tmp_path) as successor:
            if wanted:
                await nothing_else_is_done(reports, successor, VIP)
                assert on("lo") == {"192.0.2.10", "192.0.2.11"}
            successor.hold(Hold(frozenset()))
            await released(reports, VIP)
            assert on("lo") == {"192.0.2.11"}

    asyncio.run(story())


def test_what_was_left_before_the_last_boot_is_not_taken_for_ours(reports: Reports, tmp_path: Path) -> None:
    state = tmp_path / "state" / "held.json"

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
        state.write_text(json.dumps(json.loads(state.read_text()) | {"boot": "another"}))
        async with kernel(reports, tmp_path) as successor:
            await nothing_else_is_done(reports, successor)
            assert on("lo") == {"192.0.2.10"}

    asyncio.run(story())


@pytest.mark.parametrize("content", ["", "[]", "{", '{"boot": "BOOT"}'])
def test_a_damaged_state_file_is_reported_and_replaced(content: str, reports: Reports, tmp_path: Path) -> None:
    state = tmp_path / "state" / "held.json"
    state.parent.mkdir()
    state.write_text(content.replace("BOOT", BOOT_ID.read_text().strip()))

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)

    asyncio.run(story())
    assert reports.of(Failed)[0].reason.startswith("not understood, so ignored: ")
    assert json.loads(state.read_text())["held"] == [["lo", "192.0.2.10/32"]]


def test_an_address_moves_to_another_interface_without_a_gap(reports: Reports, tmp_path: Path) -> None:
    moved = Placed("eth9", VIP.address)

    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            number = len(reports.events)
            it.hold(Hold(frozenset({moved})))
            await held(reports, moved)
            await released(reports, VIP)
            assert on("lo") == set()
            assert on("eth9") >= {"192.0.2.10"}
            reported = [event.addresses for event in reports.events[number:] if type(event) is Held]
            assert all({VIP, moved} & addresses for addresses in reported)

    asyncio.run(story())


def test_an_interface_that_does_not_exist_is_one_failure(reports: Reports, tmp_path: Path) -> None:
    nowhere = Placed("eth7", VIP.address)

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            for _ in range(3):
                await nothing_else_is_done(reports, it, nowhere)

    asyncio.run(story())
    assert reports.of(Failed) == [Failed("add 192.0.2.10/32 on eth7", "no such device")]


def test_a_link_is_up_when_vrrp_can_work_on_it(reports: Reports, tmp_path: Path) -> None:
    source: frozenset[Address] = frozenset({ip_address("10.0.0.1")})

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.configure({"eth9": source})

            async def told(reason: str) -> None:
                await until(lambda: reports.of(LinkChanged)[-1].reason == reason)
                assert reports.of(LinkChanged)[-1].up is (reason == "the interface is up")

            await told("the interface does not exist")
            ip("link add eth9 type veth peer name peer9")
            await told("the interface is down")
            ip("link set eth9 up")
            await told("the interface has no carrier")
            ip("link set peer9 up")
            await told("the interface does not have 10.0.0.1")
            ip("address add 10.0.0.1/24 dev eth9")
            await told("the interface is up")
            ip("address del 10.0.0.1/24 dev eth9")
            await told("the interface does not have 10.0.0.1")
            ip("link del eth9")
            await told("the interface does not exist")

    asyncio.run(story())


def test_a_link_that_is_down_answers_for_none_of_its_addresses(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            ip("link set lo down")
            await released(reports, VIP)
            ip("link set lo up")
            await held(reports, VIP)

    asyncio.run(story())


def test_an_address_that_is_still_tentative_is_not_held(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path):
            ip("link add eth9 type veth peer name peer9")
            ip("link set peer9 up")
            ip("link set eth9 up")
            begun = time.monotonic()  # before: the machine may pause
            ip("address add 2001:db8::99/64 dev eth9")
            await until(lambda: Placed("eth9", ip_interface("2001:db8::99/64")) in reports.of(Held)[-1].addresses)
            assert time.monotonic() - begun > 0.2, "duplicate address detection takes a second"

    asyncio.run(story())


def test_lost_notifications_are_made_good_by_reading_everything(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            lossy = it._monitor
            lossy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            batch = "".join(f"address add 198.51.100.{host}/32 dev lo\n" for host in range(1, 201))
            # Not awaited: the loop stands still while the buffer overflows.
            subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
            await until(lambda: len(reports.of(Held)[-1].addresses) == 202)
            assert it._monitor is not lossy, "nothing was lost"
            assert len(reports.of(Held)) < 100
            ip("address del 198.51.100.7/32 dev lo")
            await until(lambda: len(reports.of(Held)[-1].addresses) == 201)

    asyncio.run(story())


def test_neighbours_are_told_five_times(reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_module, "GARP_DELAYS", [delay / 10 for delay in kernel_module.GARP_DELAYS])
    vip, vip6 = Placed("eth9", VIP.address), Placed("eth9", VIP6.address)
    mac = bytes.fromhex("020000000009")
    arp = gratuitous_arp(mac, IPv4Address("192.0.2.10"))
    body = neighbour_advertisement(mac, IPv6Address("2001:db8::10"))
    frames: list[bytes] = []

    async def story() -> None:
        ip("link add eth9 address 02:00:00:00:00:09 type veth peer name peer9")
        ip("link set peer9 up")
        ip("link set eth9 up")
        # Only then it has the routes of multicast: a worker of the kernel makes them.
        await until(lambda: json.loads(ip("-json link show eth9"))[0]["operstate"] == "UP")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sniffer:
            sniffer.bind(("peer9", 0))
            sniffer.setblocking(False)
            async with kernel(reports, tmp_path) as it:
                it.hold(Hold(frozenset({vip, vip6})))
                await held(reports, vip, vip6)
                it.garp(Garp(frozenset({vip, vip6})))

                def sniffed() -> bool:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            frames.append(sniffer.recv(2000))
                    return len(told(frames)) >= 10

                await until(sniffed)
                await asyncio.sleep(0.2)  # for more than there should be
                sniffed()

    def told(frames: list[bytes]) -> list[bytes]:
        # The checksum of the second is the kernel's.
        return [frame for frame in frames if frame == arp or (frame[54:56] == body[:2] and frame[58:] == body[4:])]

    asyncio.run(story())
    advertised = [frame for frame in told(frames) if frame != arp]
    assert len(advertised) == len(told(frames)) - len(advertised) == 5
    assert {frame[21] for frame in advertised} == {255}
    assert struct.unpack("!H", advertised[0][56:58]) != (0,)
    assert not reports.of(Failed)
