"""Exclusive addresses at the kernel: they have an end, which is renewed, and nothing outlives what the core allows."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_interface
from pathlib import Path

import pytest

from floatip.core.addresses import Placed
from floatip.core.arbiter import HANDLING, KERNEL_DELAY, MARGIN, SHORTEST_LEASE_TIME, lifetime
from floatip.core.events import Failing, Fence, Held, Hold
from floatip.core.settings import AddressOptions
from floatip.host.disk import Disk
from floatip.host.network.kernel import Kernel, Wanted, holder
from floatip.rtnetlink import GROUPS, OURS, Netlink, addition
from tests.host.reports import Reports, remembered, until

pytestmark = pytest.mark.usefixtures("namespace")

DB = Placed("lo", ip_interface("192.0.2.10/32"))
DB6 = Placed("lo", ip_interface("2001:db8::10/128"))
WEB = Placed("lo", ip_interface("192.0.2.20/32"))
BOTH = frozenset({DB, DB6})
NOTHING: frozenset[Placed] = frozenset()


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def lifetimes() -> dict[str, int]:
    """Of each address of lo that another machine may ask for, the seconds that the kernel says it has left."""
    found = json.loads(ip("-json address show dev lo"))[0]["addr_info"]
    return {one["local"]: one["valid_life_time"] for one in found if one["scope"] == "global"}


@contextlib.asynccontextmanager
async def kernel(reports: Reports, state: Path, exclusive: frozenset[Placed] = BOTH) -> AsyncIterator[Kernel]:
    disk = Disk(reports)
    it = Kernel(reports, await remembered(disk, state / "state" / "held.json"))
    await it.start()
    it.configure(Wanted(named=BOTH | {WEB}, exclusive=exclusive))
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
    await until(lambda: set(addresses) <= reports.of(Held)[-1].addresses)


async def released(reports: Reports, *addresses: Placed) -> None:
    await until(lambda: not set(addresses) & reports.of(Held)[-1].addresses)


def test_an_exclusive_address_is_never_added_without_leave(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            now = time.monotonic()
            for fence in (None, Fence(frozenset({DB6}), now - 1), Fence(frozenset({DB6}), now + KERNEL_DELAY + 1)):
                if fence:
                    it.fence(fence)
                it.hold(Hold(BOTH | {WEB}))
                await held(reports, WEB)
                assert set(lifetimes()) == {"192.0.2.20"}
                it.hold(Hold(BOTH))
                await released(reports, WEB)

    asyncio.run(story())
    assert not reports.of(Failing)


def test_an_exclusive_address_that_is_not_named_is_not_added_with_those_that_are(
    reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            with contextlib.closing(Netlink(GROUPS)) as monitor:
                it.fence(Fence(frozenset({DB6}), time.monotonic() + 60))
                it.hold(Hold(BOTH | {WEB}))
                await held(reports, DB6, WEB)
                seen: set[bytes] = set()

                def is_told() -> bool:
                    """The kernel tells of an IPv6 address a moment after it has added it."""
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            seen.update(getattr(one, "packed", b"") for one in monitor.receive())
                    return DB6.address.packed in seen

                await until(is_told)
                assert DB.address.packed not in seen, "not for a moment"
                assert lifetimes().keys() == {"2001:db8::10", "192.0.2.20"}

    asyncio.run(story())


def test_its_lifetime_in_the_kernel_ends_before_it_must_be_gone_and_is_renewed(
    reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.fence(Fence(BOTH, time.monotonic() + 4.5))
            it.hold(Hold(BOTH | {WEB}))
            await held(reports, DB, DB6, WEB)
            found = lifetimes()
            assert found["192.0.2.10"] in (2, 3)
            assert found["2001:db8::10"] in (2, 3)
            assert found["192.0.2.20"] == 0xFFFFFFFF
            it.fence(Fence(BOTH, time.monotonic() + 60))
            await until(lambda: lifetimes()["192.0.2.10"] > 50 and lifetimes()["2001:db8::10"] > 50)
            end = time.monotonic() + 4
            it.fence(Fence(BOTH, end))
            # What the core has not renewed goes without it.
            await until(lambda: lifetimes()["192.0.2.10"] > 50)  # a later end is not taken back

    asyncio.run(story())
    assert not reports.of(Failing)


def test_what_the_kernel_has_ended_comes_back_with_new_leave_and_is_nobodys_removal(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "REMOVALS_TOLD", 0)

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            for _ in range(2):
                ends = time.monotonic() + KERNEL_DELAY + HANDLING + 1.1
                it.fence(Fence(BOTH, ends))
                it.hold(Hold(BOTH))
                await held(reports, DB, DB6)
                await released(reports, DB, DB6)
                assert reports.times[-1] < ends
                it.hold(Hold(BOTH))  # the core asks again each second
                await asyncio.sleep(0.01)
                assert not lifetimes()

    asyncio.run(story())
    assert not reports.of(Failing)


def test_what_is_lost_goes_within_the_call_however_much_waits(reports: Reports, tmp_path: Path) -> None:
    many = frozenset(Placed("lo", ip_interface(f"198.51.{n // 200}.{n % 200}/32")) for n in range(2000))

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.fence(Fence(BOTH, time.monotonic() + 60))
            it.hold(Hold(BOTH))
            await held(reports, DB, DB6)
            it.hold(Hold(BOTH | many))
            await asyncio.sleep(0)
            it.hold(Hold(many))
            assert not set(lifetimes()) & {"192.0.2.10", "2001:db8::10"}
            it.hold(Hold(BOTH | many))
            await held(reports, DB, DB6)
            it.fence(Fence(NOTHING, time.monotonic() + 60))
            assert not set(lifetimes()) & {"192.0.2.10", "2001:db8::10"}

    asyncio.run(story())


def test_two_hundred_are_renewed_in_steps_of_a_millisecond(reports: Reports, tmp_path: Path) -> None:
    many = frozenset(
        Placed("lo", ip_interface(f"198.51.100.{n}/32" if n % 2 else f"2001:db8::{n:x}/128")) for n in range(200)
    )

    async def story() -> None:
        async with kernel(reports, tmp_path, many) as it:
            it.fence(Fence(many, time.monotonic() + 4))
            it.hold(Hold(many))
            await held(reports, *many)
            steps, told, loop = list[float](), 0, asyncio.get_running_loop()
            monitor = Netlink(GROUPS)

            def count() -> None:
                nonlocal told
                told += len(list(monitor.datagram()))

            loop.add_reader(monitor.socket, count)
            for n in range(1, 6):
                it.fence(Fence(many, time.monotonic() + 60 * n))
                before = time.thread_time()
                while told < 200 * n:
                    await asyncio.sleep(0)
                    steps.append(time.thread_time() - before)
                    before = time.thread_time()
            loop.remove_reader(monitor.socket)
            monitor.close()
            assert min(lifetimes().values()) > 250
            print(f"longest step {max(steps) * 1e3:.2f} ms of {len(steps)}, together {sum(steps) * 1e3:.1f} ms")
            assert sorted(steps)[-len(steps) // 100] < 0.002  # on a busy machine others have the caches

    asyncio.run(story())


def test_an_address_that_came_too_late_is_removed_at_once(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is stopped after the clock was read: within the system call. The kernel alone would not remove it."""
    ask = Netlink.request

    def lasting(
        index: int, address: object, marks: object, options: object, seconds: int, **more: bool
    ) -> tuple[int, int, bytes]:
        return addition(index, address, marks, options, seconds * 1000, **more)  # type: ignore[arg-type]

    def slow(it: Netlink, requests: Sequence[tuple[int, int, bytes]], by: float = 0) -> list[int]:
        codes = ask(it, requests, by)
        time.sleep(max(by - time.monotonic() + 1.5, 0) if by < time.monotonic() + 60 else 0)
        return codes

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            monitor, told = Netlink(GROUPS), list[bool]()
            monkeypatch.setattr(Netlink, "request", slow)
            monkeypatch.setattr("floatip.rtnetlink.addition", lasting)
            it.fence(Fence(BOTH, time.monotonic() + KERNEL_DELAY + HANDLING + 1.01))
            it.hold(Hold(BOTH))
            with contextlib.closing(monitor):
                async with asyncio.timeout(30):
                    while told.count(True) < 2:
                        await asyncio.sleep(0.01)
                        with contextlib.suppress(BlockingIOError):
                            told += [one.gone for one in monitor.receive()]
            monkeypatch.undo()
            assert told == [False, False, True, True]
            assert not lifetimes()

    asyncio.run(story())


def test_a_request_that_would_come_too_late_is_not_sent() -> None:
    netlink = Netlink()
    try:
        index = 1
        request = addition(index, DB.address, OURS, None, 5)
        assert netlink.request([request, request], by=time.monotonic() - 0.001) == [errno.ETIME] * 2
        assert not lifetimes()
    finally:
        netlink.close()


def test_what_another_program_does_to_an_exclusive_address_is_said(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            ip("address add 192.0.2.10/32 dev lo")
            await until(lambda: bool(reports.failing("exclusive addresses")))
            (failure,) = reports.failing("exclusive addresses")
            assert "another program added it" in failure.reason
            assert failure.hint.endswith("ip address del 192.0.2.10/32 dev lo")
            it.fence(Fence(BOTH, time.monotonic() + 60))
            it.hold(Hold(BOTH))
            await held(reports, DB6)
            assert lifetimes()["192.0.2.10"] == 0xFFFFFFFF
            ip("address del 192.0.2.10/32 dev lo")
            await until(lambda: not reports.failing("exclusive addresses"))
            it.hold(Hold(BOTH))
            await held(reports, DB)
            ip("address change 192.0.2.10/32 dev lo valid_lft forever preferred_lft forever")
            await until(lambda: bool(reports.failing("exclusive addresses")))
            (failure,) = reports.failing("exclusive addresses")
            assert "took away its end" in failure.reason
            it.fence(Fence(BOTH, time.monotonic() + 70))
            await until(lambda: not reports.failing("exclusive addresses"))
            assert lifetimes()["192.0.2.10"] <= 70
            ip("address change 192.0.2.10/32 dev lo valid_lft forever preferred_lft forever")
            await until(lambda: bool(reports.failing("exclusive addresses")))
            it.hold(Hold(NOTHING))
            assert not lifetimes()

    asyncio.run(story())


def test_a_reload_that_makes_it_exclusive_or_not_gives_it_an_end_or_takes_it_away(
    reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path, NOTHING) as it:
            it.hold(Hold(BOTH))
            await held(reports, DB, DB6)
            it.configure(Wanted(named=BOTH, exclusive=BOTH))
            it.fence(Fence(BOTH, time.monotonic() + 60))
            await until(lambda: max(lifetimes().values()) <= 60)
            it.configure(Wanted(named=BOTH))
            it.fence(Fence(NOTHING, time.monotonic()))
            await until(lambda: set(lifetimes().values()) == {0xFFFFFFFF})

    asyncio.run(story())
    assert not reports.of(Failing)


def test_a_successor_lets_lifetimes_go_on_until_the_core_has_spoken(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.fence(Fence(BOTH, time.monotonic() + 60))
            it.hold(Hold(BOTH))
            await held(reports, DB, DB6)
        async with kernel(reports, tmp_path) as it:
            await asyncio.sleep(0.1)
            assert 0 < min(lifetimes().values()) <= max(lifetimes().values()) <= 60
            it.fence(Fence(frozenset({DB}), time.monotonic() + 100))
            assert set(lifetimes()) == {"192.0.2.10"}
            await until(lambda: lifetimes()["192.0.2.10"] > 60)

    asyncio.run(story())


def test_preferred_is_never_longer_than_valid(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            options = {DB6: AddressOptions(DB6.address, preferred_lft=0xFFFFFFFF)}
            it.configure(Wanted(named=BOTH, exclusive=BOTH, options=options))
            it.fence(Fence(BOTH, time.monotonic() + 60))
            it.hold(Hold(BOTH))
            await held(reports, DB, DB6)
            assert "deprecated" not in ip("address show dev lo")
            it.configure(Wanted(named=BOTH, exclusive=BOTH))
            it.fence(Fence(BOTH, time.monotonic() + 70))
            await until(lambda: "deprecated" in ip("-6 address show dev lo"))
            assert "deprecated" not in ip("-4 address show dev lo")

    asyncio.run(story())
    assert not reports.of(Failing)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_is_stopped_or_killed_has_none_when_its_time_is_over(
    number: signal.Signals, tmp_path: Path
) -> None:
    """It renews them each half second before that."""
    program = Path(__file__).with_name("fence_process.py")
    child = subprocess.Popen(
        [sys.executable, program, tmp_path / "held.json"], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert child.stdout
        renewed = [float(child.stdout.readline()) for _ in range(4)]
        child.send_signal(number)
        assert set(lifetimes()) == {"192.0.2.10", "2001:db8::10"}
        os.set_blocking(child.stdout.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            renewed += [float(line) for line in os.read(child.stdout.fileno(), 1 << 16).split()]
        while lifetimes():
            assert time.monotonic() < renewed[-1]
            time.sleep(0.02)
        print(f"gone {renewed[-1] - time.monotonic():.2f} s before it had to be")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]


def test_the_shortest_lease_time_that_is_allowed_gives_a_lifetime_of_two_seconds() -> None:
    assert lifetime(SHORTEST_LEASE_TIME * (1 - MARGIN)) == 2
    assert lifetime((SHORTEST_LEASE_TIME - 1) * (1 - MARGIN)) < 2
