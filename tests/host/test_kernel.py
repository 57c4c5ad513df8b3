import asyncio
import contextlib
import errno
import json
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from floatip import rtnetlink
from floatip.core.addresses import Address, Placed
from floatip.core.events import Failing, Failure, Garp, Held, Hold, LinkChanged
from floatip.core.settings import AddressOptions, Garps
from floatip.host.disk import BOOT_ID, Disk, Memory
from floatip.host.network import kernel as kernel_module
from floatip.host.network.kernel import Kernel, Wanted, holder, neighbours
from floatip.host.network.kernel.neighbours import Neighbours, gratuitous_arp, neighbour_advertisement
from floatip.host.network.kernel.tables import Tables
from floatip.host.network.slices import Slice
from floatip.rtnetlink import AddressMessage, LinkMessage
from tests.host.conftest import Elsewhere
from tests.host.reports import Reports, remembered, until

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
async def kernel(reports: Reports, state: Path, *named: Placed) -> AsyncIterator[Kernel]:
    disk = Disk(reports)
    it = Kernel(reports, await remembered(disk, state / "state" / "held.json"))
    await it.start()
    it.configure(Wanted(named=frozenset(named)))
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
    assert not reports.of(Failing)


def test_an_address_that_someone_deletes_can_be_put_back_within_milliseconds(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "REMOVALS_TOLD", 20)

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


def test_who_keeps_removing_an_address_is_one_failure_and_the_address_is_put_back(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "REMOVALS_WINDOW", 2.0)
    monkeypatch.setattr(holder, "REMOVAL_MATTERS", 2.0)

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            removals = 0
            while not reports.failing("removals"):
                removals += 1
                assert removals < 100
                ip("address del 192.0.2.10/32 dev lo")
                await until(lambda: VIP not in reports.of(Held)[-1].addresses or bool(reports.failing("removals")))
                it.hold(Hold(frozenset({VIP})))
                await held(reports, VIP)
            number = len(reports.events)
            for _ in range(50):
                await until(lambda: "192.0.2.10" in on("lo"))
                ip("address del 192.0.2.10/32 dev lo")
                await asyncio.sleep(0)
            await until(lambda: "192.0.2.10" in on("lo"))
            assert all(VIP in event.addresses for event in reports.events[number:] if isinstance(event, Held))
            (failure,) = reports.failing("removals")
            assert (failure.what, failure.unkept) == ("192.0.2.10/32 on lo", {VIP})
            await until(lambda: not reports.failing("removals"))
            it.hold(Hold(frozenset()))
            await released(reports, VIP)
            assert on("lo") == set()

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
    assert next(iter(reports.of(Failing)[0].failures)).reason.startswith("not understood, so ignored: ")
    assert not reports.failing("disk"), "the next write replaced it"
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


def test_an_interface_that_does_not_exist_is_one_failure_until_it_does(reports: Reports, tmp_path: Path) -> None:
    nowhere = Placed("eth7", VIP.address)

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            for _ in range(3):
                await nothing_else_is_done(reports, it, nowhere)
            assert len(reports.of(Failing)) == 1
            assert reports.failing("addresses") == {
                Failure("add 192.0.2.10/32 on eth7", "no such device", "see which interfaces there are: ip -br link")
            }
            ip("link add eth7 type veth peer name peer7")
            ip("link set eth7 up")
            it.hold(Hold(frozenset({nowhere})))
            await held(reports, nowhere)
            await until(lambda: not reports.failing("addresses"))

    asyncio.run(story())


def test_a_link_is_up_when_vrrp_can_work_on_it(reports: Reports, tmp_path: Path) -> None:
    source: frozenset[Address] = frozenset({ip_address("10.0.0.1")})

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.configure(Wanted({"eth9": source}))

            async def told(reason: str) -> None:
                await until(lambda: reports.of(LinkChanged)[-1].reason == reason)
                assert reports.of(LinkChanged)[-1].up is (reason == "eth9 is up")

            await told("eth9 does not exist")
            ip("link add eth9 type veth peer name peer9")
            await told("eth9 is down")
            ip("link set eth9 up")
            await told("eth9 has no carrier")
            ip("link set peer9 up")
            await told("eth9 does not have 10.0.0.1")
            ip("address add 10.0.0.1/24 dev eth9")
            await told("eth9 is up")
            ip("address del 10.0.0.1/24 dev eth9")
            await told("eth9 does not have 10.0.0.1")
            ip("link del eth9")
            await told("eth9 does not exist")

    asyncio.run(story())


def test_a_source_that_is_tentative_is_not_there_yet(reports: Reports, tmp_path: Path, elsewhere: Elsewhere) -> None:
    source = ip_address("fe80::1")

    async def story() -> None:
        ip("link add eth9 type veth peer name far9")
        ip(f"link set far9 netns {elsewhere.path}")
        with elsewhere.entered():
            ip("link set far9 up")
        ip("link set eth9 addrgenmode none")
        ip("link set eth9 up")
        async with kernel(reports, tmp_path) as it:
            it.configure(Wanted({"eth9": frozenset({source})}))
            await until(lambda: reports.of(LinkChanged)[-1].reason == "eth9 does not have fe80::1")
            ip("address add fe80::1/64 dev eth9")
            await until(lambda: reports.of(LinkChanged)[-1].up)
            reasons = [event.reason for event in reports.of(LinkChanged)]
            assert "eth9 cannot use fe80::1 yet: duplicate address detection" in reasons

    asyncio.run(story())


def test_the_neighbours_are_told_of_a_source_when_its_interface_is_back_and_before_that_is_reported(
    reports: Reports, tmp_path: Path
) -> None:
    source, source6 = ip_address("10.0.0.1"), ip_address("fe80::1")
    mac = bytes.fromhex("020000000009")
    arp = gratuitous_arp(mac, IPv4Address("10.0.0.1"))
    body = neighbour_advertisement(mac, IPv6Address("fe80::1"))

    async def story() -> None:
        ip("link add eth9 address 02:00:00:00:00:09 type veth peer name peer9")
        for command in ("peer9 up", "eth9 addrgenmode none", "eth9 up"):
            ip(f"link set {command}")
        await until(lambda: json.loads(ip("-json link show eth9"))[0]["operstate"] == "UP")
        ip("address add 10.0.0.1/24 dev eth9")
        ip("address add fe80::1/64 dev eth9 nodad")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sniffer:
            sniffer.bind(("peer9", 0))
            sniffer.setblocking(False)

            def told() -> list[bytes]:
                frames = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        frames.append(sniffer.recv(2000))
                # The kernel's own unsolicited advertisement has another hardware option or none.
                return [f for f in frames if f == arp or (f[54:56] == body[:2] and f[58:] == body[4:])]

            async with kernel(reports, tmp_path) as it:
                both = frozenset({source, source6})
                it.configure(Wanted({"eth9": both}, greeting=frozenset(("eth9", one) for one in both)))
                await until(lambda: bool(reports.of(LinkChanged)) and reports.of(LinkChanged)[-1].up)
                assert not told(), "nobody had given it up"
                ip("address del 10.0.0.1/24 dev eth9")
                await until(lambda: not reports.of(LinkChanged)[-1].up)
                ip("address add 10.0.0.1/24 dev eth9")
                await until(lambda: reports.of(LinkChanged)[-1].up)
                heard: list[bytes] = []
                await until(lambda: heard.extend(told()) or len(heard) >= 2)
                assert len(heard) == 2

    asyncio.run(story())


def test_addresses_get_what_their_options_say(reports: Reports, tmp_path: Path) -> None:
    labelled = Placed("eth9", ip_interface("192.0.2.10/24"))
    addresses = ("192.0.2.11/32", "2001:db8::10/128", "2001:db8::11/128", "2001:db8::12/128")
    scoped, lasting, plain, passing = (Placed("eth9", ip_interface(address)) for address in addresses)
    options = {
        labelled: AddressOptions(labelled.address, label="eth9:vip"),
        scoped: AddressOptions(scoped.address, scope=253),
        lasting: AddressOptions(lasting.address, preferred_lft=0xFFFFFFFF),
        passing: AddressOptions(passing.address, is_tracked=False),
    }

    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        async with kernel(reports, tmp_path) as it:
            it.configure(Wanted(named=frozenset(options), options=options))
            it.hold(Hold(frozenset({*options, plain})))
            await held(reports, *options, plain)
            found = {one["local"]: one for one in json.loads(ip("-json address show dev eth9"))[0]["addr_info"]}
            assert found["192.0.2.10"]["label"] == "eth9:vip"
            assert found["192.0.2.11"]["scope"] == "link"
            assert found["2001:db8::10"]["preferred_life_time"] == 0xFFFFFFFF
            assert found["2001:db8::11"]["preferred_life_time"] == 0
            assert found["2001:db8::12"]["preferred_life_time"] == 0
            assert found["2001:db8::10"]["nodad"] is True
            it.hold(Hold(frozenset()))
            await released(reports, *options, plain)

    asyncio.run(story())
    assert not reports.of(Failing)


def test_an_address_that_is_there_with_another_label_is_left_as_it_is(reports: Reports, tmp_path: Path) -> None:
    vip = Placed("eth9", ip_interface("192.0.2.10/24"))

    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        ip("address add 192.0.2.10/24 dev eth9 label eth9:other")
        async with kernel(reports, tmp_path) as it:
            it.configure(Wanted(named=frozenset({vip}), options={vip: AddressOptions(vip.address, label="eth9:vip")}))
            await nothing_else_is_done(reports, it, vip)
            await nothing_else_is_done(reports, it)
            assert "eth9:other" in ip("address show dev eth9")

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


def test_addresses_follow_a_link_that_gets_another_name(reports: Reports, tmp_path: Path) -> None:
    before, after = (Placed(name, ip_interface("10.0.0.1/24")) for name in ("eth9", "wan0"))

    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        ip("address add 10.0.0.1/24 dev eth9")
        async with kernel(reports, tmp_path):
            await held(reports, before)
            ip("link set eth9 down")
            ip("link set eth9 name wan0")
            await released(reports, before)
            ip("link set wan0 up")
            await held(reports, after)
            ip("link del wan0")
            await released(reports, after)

    asyncio.run(story())


def test_an_address_is_released_from_a_link_that_got_another_name_meanwhile(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set eth9 up")
        before, now = (Placed(name, VIP.address) for name in ("eth9", "eth8"))
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({before})))
            await held(reports, before)
            ip("link set eth9 name eth8")
            await held(reports, now)
            it.hold(Hold(frozenset()))
            await released(reports, now)
            assert on("eth8") == set()

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
            before = it._tables
            it._monitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            batch = "".join(f"address add 198.51.100.{host}/32 dev lo\n" for host in range(1, 201))
            # Not awaited: the loop stands still while the buffer overflows.
            subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
            await until(lambda: len(reports.of(Held)[-1].addresses) == 202)
            assert it._tables is not before, "nothing was lost"
            assert len(reports.of(Held)) < 100
            ip("address del 198.51.100.7/32 dev lo")
            await until(lambda: len(reports.of(Held)[-1].addresses) == 201)

    asyncio.run(story())


def overflow(it: Kernel, *, meanwhile: str = "") -> None:
    """Make the kernel lose notifications while the loop stands still."""
    it._monitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    burst = [f"address {verb} 198.51.100.{host}/32 dev lo\n" for verb in ("add", "del") for host in range(1, 101)]
    subprocess.run(["ip", "-batch", "-"], input=meanwhile + "".join(burst), text=True, check=True)


def test_an_interface_made_anew_while_notifications_were_lost_is_another_one(reports: Reports, tmp_path: Path) -> None:
    make = "link add eth9 type veth peer name peer9\nlink set peer9 up\nlink set eth9 up\n"
    make += "address add 10.0.0.1/24 dev eth9\n"
    source: frozenset[Address] = frozenset({ip_address("10.0.0.1")})

    async def story() -> None:
        subprocess.run(["ip", "-batch", "-"], input=make, text=True, check=True)
        async with kernel(reports, tmp_path) as it:
            it.configure(Wanted({"eth9": source}))
            await until(lambda: reports.of(LinkChanged)[-1].up)
            before, tables = reports.of(LinkChanged)[-1], it._tables
            overflow(it, meanwhile="link del eth9\n" + make)
            await until(lambda: reports.of(LinkChanged)[-1].index != before.index and reports.of(LinkChanged)[-1].up)
            assert reports.of(LinkChanged)[-1].index == socket.if_nametoindex("eth9")
            assert it._tables is not tables, "nothing was lost"

    asyncio.run(story())


def test_an_end_in_the_middle_of_a_burst_of_notifications_is_quiet(reports: Reports, tmp_path: Path) -> None:
    met: list[object] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: met.append(context))
        async with kernel(reports, tmp_path) as it:
            overflow(it)
            await asyncio.sleep(0)
        it = Kernel(reports, None)
        await it.start()
        running = asyncio.create_task(it.run())
        await asyncio.sleep(0)
        overflow(it)
        running.cancel()
        it.close()  # as the daemon does: without waiting for the task
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(story())
    assert met == []


def many(number: int, interface: str = "lo") -> frozenset[Placed]:
    return frozenset(Placed(interface, ip_interface(f"10.7.{n // 250}.{n % 250 + 1}/32")) for n in range(number))


class Short(Slice):
    """Over when it has been asked ten times, however long that took."""

    asked, most = 0, 10

    @property
    def is_over(self) -> bool:
        self.asked += 1
        return self.asked > self.most

    async def next(self) -> None:
        await super().next()
        self.asked = 0


async def most_at_once(done: Callable[[], int], until_done: Coroutine[None, None, None]) -> int:
    """How much of the work was done in one turn of the loop."""
    task, most = asyncio.create_task(until_done), 0
    while not task.done():
        before = done()
        await asyncio.sleep(0)
        most = max(most, abs(done() - before))
    await task
    return most


def test_a_thousand_addresses_leave_the_loop_free(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kernel_module, holder):
        monkeypatch.setattr(module, "Slice", Short)

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:

            def ours() -> int:
                return len(it._holder._ours)

            it.hold(Hold(many(1000)))
            assert await most_at_once(ours, held(reports, *many(1000))) <= 11 * holder.BATCH
            assert len(reports.of(Held)) < 300, "a burst is told once"
            it.hold(Hold(frozenset()))
            assert await most_at_once(ours, released(reports, *many(1000))) <= 11 * holder.BATCH
            assert on("lo") == set()

    asyncio.run(story())
    assert not reports.of(Failing)


def test_a_new_set_replaces_the_one_that_is_in_work(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(many(1000)))
            await until(lambda: len(reports.of(Held)[-1].addresses) > 20)
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            await released(reports, *many(1000))
            assert on("lo") == {"192.0.2.10"}
            assert max(len(event.addresses) for event in reports.of(Held)) < 1000

    asyncio.run(story())


def test_an_address_is_released_also_before_the_kernel_has_told_of_it(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path, VIP6) as it:
            for _ in range(50):
                it.hold(Hold(frozenset({VIP6})))
                await until(lambda: set(it._holder._ours) == {VIP6})
                it.hold(Hold(frozenset()))
                await until(lambda: not it._holder._ours)
                assert on("lo") == set()

    asyncio.run(story())


def test_the_state_file_alone_makes_no_address_ours(reports: Reports, tmp_path: Path) -> None:
    """A check could have written it: floatip would delete for it what it must not delete by itself."""
    ip("address add 192.0.2.10/32 dev lo")
    (tmp_path / "state").mkdir()
    boot = BOOT_ID.read_text().strip()
    (tmp_path / "state" / "held.json").write_text(json.dumps({"boot": boot, "held": [["lo", "192.0.2.10/32"]]}))

    async def story() -> None:
        async with kernel(reports, tmp_path, VIP) as it:
            await nothing_else_is_done(reports, it)
            assert on("lo") == {"192.0.2.10"}

    asyncio.run(story())


@pytest.mark.parametrize("named", [True, False])
def test_what_carries_our_mark_is_adopted_without_the_state_file_if_the_configuration_names_it(
    named: bool, reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
        (tmp_path / "state" / "held.json").unlink()
        async with kernel(reports, tmp_path, *([VIP] if named else [])) as successor:
            await nothing_else_is_done(reports, successor)
            assert on("lo") == (set() if named else {"192.0.2.10"})

    asyncio.run(story())


def test_an_address_that_the_configuration_names_does_not_wait_for_the_disk(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's mark tells a successor of it. One that is not in the configuration is known by the file alone."""
    monkeypatch.setattr(holder, "WRITE_TIMEOUT", 3600.0)

    async def story() -> None:
        async with kernel(reports, tmp_path, VIP) as it:
            hangs, written = asyncio.get_running_loop().create_future(), list[object]()
            monkeypatch.setattr(Memory, "remember", lambda memory, what: written.append(what) or hangs)
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
            it.hold(Hold(frozenset({VIP, VIP6})))
            await until(lambda: len(written) > 1 and VIP6.interface in str(written[-1]))
            await asyncio.sleep(0.05)  # time in which it must not add the address
            assert on("lo") == {"192.0.2.10"}
            hangs.set_result(True)
            await held(reports, VIP, VIP6)

    asyncio.run(story())


def test_what_somebody_put_in_the_place_of_ours_meanwhile_is_not_released(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP})))
            await held(reports, VIP)
        ip("address del 192.0.2.10/32 dev lo")
        ip("address add 192.0.2.10/32 dev lo")
        async with kernel(reports, tmp_path, VIP) as successor:
            await nothing_else_is_done(reports, successor)
            assert on("lo") == {"192.0.2.10"}

    asyncio.run(story())


def test_a_kernel_without_marks_lets_the_file_and_the_configuration_together_decide(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtnetlink, "IFA_PROTO", 99)  # the kernel ignores it, and is not heard to say it
    other = Placed("lo", ip_interface("192.0.2.11/32"))

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP, other})))
            await held(reports, VIP, other)
        async with kernel(reports, tmp_path, VIP) as successor:
            await nothing_else_is_done(reports, successor)
            assert on("lo") == {"192.0.2.11"}

    asyncio.run(story())


def test_the_addresses_and_routes_of_the_host_stay_when_ours_was_the_first_of_their_network(
    reports: Reports, tmp_path: Path
) -> None:
    vip = Placed("eth9", ip_interface("192.0.2.10/24"))

    async def story() -> None:
        ip("link add eth9 type veth peer name peer9")
        ip("link set peer9 up")
        ip("link set eth9 up")
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({vip})))
            await held(reports, vip)
            ip("address add 192.0.2.5/24 dev eth9")
            ip("route add 198.51.100.0/24 via 192.0.2.1")
            assert "secondary" in ip("address show dev eth9 to 192.0.2.5")
            it.hold(Hold(frozenset()))
            await released(reports, vip)
            assert on("eth9") == {"192.0.2.5"}
            assert "198.51.100.0/24 via 192.0.2.1" in ip("route show")

    asyncio.run(story())


def test_an_address_that_the_kernel_refuses_is_a_failure_with_a_hint_until_it_is_wanted_no_more(
    reports: Reports, tmp_path: Path
) -> None:
    hint = "enable IPv6 on lo: sysctl net.ipv6.conf.lo.disable_ipv6=0"

    async def story() -> None:
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        async with kernel(reports, tmp_path) as it:
            it.hold(Hold(frozenset({VIP, VIP6})))
            await held(reports, VIP)
            await until(lambda: bool(reports.failing("addresses")))
            refused = Failure("add 2001:db8::10/128 on lo", "permission denied", hint)
            assert reports.failing("addresses") == {refused}
            it.hold(Hold(frozenset({VIP})))
            await until(lambda: not reports.failing("addresses"))

    asyncio.run(story())


def count_sockets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The family of each that the part for the neighbours opens."""
    opened: list[int] = []

    class Counted(socket.socket):
        def __init__(self, family: int, kind: int, protocol: int) -> None:
            super().__init__(family, kind, protocol)
            opened.append(family)

    monkeypatch.setattr(neighbours, "socket", SimpleNamespace(**vars(socket) | {"socket": Counted}))
    return opened


def test_neighbours_are_told_five_times(reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", neighbours.SPREAD / 10)
    opened = count_sockets(monkeypatch)
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
    assert not reports.of(Failing)
    assert sorted(opened) == [socket.AF_INET6, socket.AF_PACKET], (
        "none a packet: to close one takes tens of milliseconds"
    )


class Sent(Neighbours):
    """Notes what would be sent, and sends nothing."""

    def __init__(self, reports: Reports) -> None:
        super().__init__(reports)
        self.sent: list[str] = []
        self.times: list[float] = []
        self.refuses = 0

    def _send_arp(self, interface: str, mac: bytes, address: IPv4Address) -> None:
        if self.refuses:
            raise OSError(self.refuses, "")
        self.sent.append(str(address))
        self.times.append(time.monotonic())


def tables_with(*addresses: Placed) -> Tables:
    tables = Tables()
    tables.take(LinkMessage(False, 7, 0, "eth9", True, True, bytes(5) + b"\x09"))
    for one in addresses:
        tables.take(AddressMessage(False, 7, one.address.network.prefixlen, one.address.packed, 0x80, None))
    return tables


def test_a_second_set_follows_and_a_refresh_goes_on_until_another_node_answers(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", 0.01)
    (vip,) = many(1, "eth9")

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(vip))
        told.configure({vip: Garps(repeat=3, delay=0.3)})
        told.tell([vip])
        await until(lambda: not told._sets)
        assert len(told.sent) == 6
        assert told.times[3] - told.times[0] >= 0.29
        told.sent.clear()
        told.configure({vip: Garps(refresh=0.02, refresh_repeat=2)})
        await until(lambda: len(told.sent) >= 6)
        told.forget(vip)
        told.sent.clear()
        await until(lambda: not told._queue)
        assert not told.sent
        told.close()

    asyncio.run(story())


def test_after_a_lower_advert_neighbours_are_told_as_often_as_is_configured_for_that(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", 0.01)
    first, second = sorted(many(2, "eth9"), key=str)

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(first, second))
        told.configure({first: Garps(lower_repeat=2, lower_delay=0.02), second: Garps(lower_repeat=0)})
        told.tell([first, second], after_lower=True)
        await until(lambda: not told._sets)
        assert told.sent == [str(first.address.ip)] * 4

    asyncio.run(story())


def test_packets_on_one_interface_keep_their_distance(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", 0.01)
    vips = many(10, "eth9")

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(*vips))
        told.configure({vip: Garps(repeat=2, delay=0.0, interval=0.01) for vip in vips})
        told.tell(vips)
        await until(lambda: not told._sets)
        assert len(told.sent) == 20
        assert told.times[-1] - told.times[0] >= 19 * 0.01 - 0.001
        told.close()

    asyncio.run(story())


def test_packets_keep_their_distance_where_the_loop_was_late(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", 0.01)
    vips = many(10, "eth9")

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(*vips))
        told.configure({vip: Garps(repeat=1, delay=0.0, interval=0.01) for vip in vips})
        told.tell(vips)
        await until(lambda: bool(told.sent))
        time.sleep(0.05)  # several have their turn meanwhile
        await until(lambda: not told._sets)
        assert len(told.sent) == 10
        # A packet leaves up to a slice after the moment that counts.
        assert min(after - before for before, after in pairwise(told.times)) >= 0.01 - 0.002
        told.close()

    asyncio.run(story())


def test_a_new_order_for_the_neighbours_replaces_the_repeats_of_the_old_one(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", neighbours.SPREAD / 10)

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(*many(3, "eth9")))
        for _ in range(10):
            told.tell(many(2, "eth9"))
        await until(lambda: not told._queue)
        assert sorted(told.sent) == ["10.7.0.1"] * 5 + ["10.7.0.2"] * 5
        assert not told._sets

    asyncio.run(story())


def test_after_a_suspension_the_loop_learns_first_what_may_have_changed_and_then_the_neighbours_are_told(
    reports: Reports,
) -> None:
    async def story() -> None:
        (vip,) = many(1, "eth9")
        told = Sent(reports)
        told.look_at(tables_with(vip))
        told.tell([vip])
        await until(lambda: bool(told.sent))
        before = len(told.sent)
        longest = neighbours.SPREAD / 4
        asyncio.get_running_loop().call_later(longest + 0.05, told.forget, vip)
        time.sleep(longest + 0.1)
        await until(lambda: not told._queue)
        assert len(told.sent) == before

    asyncio.run(story())


def test_a_thousand_addresses_are_told_to_the_neighbours_between_other_work(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "Slice", Short)

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(*many(1000, "eth9")))
        told.tell(many(1000, "eth9"))
        assert not told.sent, "what the loop has to do already comes first"
        assert await most_at_once(lambda: len(told.sent), until(lambda: len(told.sent) >= 1000)) <= 10
        told.close()

    asyncio.run(story())


def test_eighty_addresses_change_hands_with_an_advert_between_each_few_of_them(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adverts leave when the loop has its turn: what the kernel and the neighbours get in between is bounded."""

    class Shortest(Short):
        most = 1

    for module in (kernel_module, holder, neighbours):
        monkeypatch.setattr(module, "Slice", Shortest)
    vips, told = many(80, "eth9"), list[Address]()

    async def story() -> None:
        ip("link add eth9 address 02:00:00:00:00:09 type veth peer name peer9")
        ip("link set peer9 up")
        ip("link set eth9 up")
        async with kernel(reports, tmp_path, *vips) as it:
            monkeypatch.setattr(it._neighbours, "_send", lambda interface, mac, address: told.append(address))

            def done() -> int:
                return len(it._holder._ours) + len(told)

            async def takeover() -> None:
                it.hold(Hold(vips))
                await held(reports, *vips)
                it.garp(Garp(vips))
                await until(lambda: len(told) >= 80)

            assert await most_at_once(done, takeover()) <= 3 * holder.BATCH
            it.hold(Hold(frozenset()))
            assert await most_at_once(done, released(reports, *vips)) <= 3 * holder.BATCH
            assert on("eth9") == set()

    asyncio.run(story())
    assert not reports.of(Failing)


def test_neighbours_that_cannot_be_told_are_a_failure_until_they_can_or_the_address_goes(reports: Reports) -> None:
    first, second = sorted(many(2, "eth9"), key=str)

    async def story() -> None:
        told = Sent(reports)
        told.look_at(tables_with(first, second))
        told.refuses = errno.ENETDOWN
        told.tell([first, second])
        await until(lambda: len(reports.failing("neighbours")) == 2)
        assert Failure("gratuitous ARP for 10.7.0.1 on eth9", "network is down") in reports.failing("neighbours")
        told.forget(first)
        assert {failure.what for failure in reports.failing("neighbours")} == {"gratuitous ARP for 10.7.0.2 on eth9"}
        told.refuses = 0
        await until(lambda: not reports.failing("neighbours"))
        assert set(told.sent) == {"10.7.0.2"}
        told.close()

    asyncio.run(story())
