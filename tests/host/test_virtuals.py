"""Routes and rules of a master, in the kernel."""

import asyncio
import builtins
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from floatip.core.addresses import Placed
from floatip.core.events import Failing, Failure, Hold, Install
from floatip.core.settings import Virtual
from floatip.host.disk import Disk
from floatip.host.network.kernel import Kernel, Wanted
from floatip.host.network.kernel import virtuals as virtuals_module
from tests.host.reports import Reports, remembered, until

pytestmark = pytest.mark.usefixtures("wire")
PART = "routes and rules"


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def wire(namespace: None) -> None:
    ip("link add eth9 type veth peer name peer9")
    for name in ("peer9", "eth9"):
        ip(f"link set {name} addrgenmode none")
    ip("link set peer9 up")
    ip("link set eth9 up")
    ip("address add 10.0.0.1/24 dev eth9")
    ip("address add 2001:db8:9::1/64 dev eth9 nodad")
    while json.loads(ip("-json link show eth9"))[0]["operstate"] != "UP":
        time.sleep(0.001)


def route(text: str, is_tracked: bool = True) -> Virtual:
    return Virtual("route", tuple(text.split()), is_tracked)


def rule(text: str) -> Virtual:
    return Virtual("rule", tuple(text.split()))


@contextlib.asynccontextmanager
async def kernel(reports: Reports, state: Path, *named: Virtual) -> AsyncIterator[Kernel]:
    disk = Disk(reports)
    held, ours = [await remembered(disk, state / "state" / f"{name}.json") for name in ("held", "virtuals")]
    it = Kernel(reports, held, ours)
    await it.start()
    it.configure(Wanted(virtuals=frozenset(named)))
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(it.run())
            yield it
            running.cancel()
    finally:
        it.close()
        await until(lambda: it._virtuals._thread._route is None)
        await disk.finish(60)
        disk.close()


def routes(table: str = "main", family: str = "-4") -> str:
    shown = subprocess.run(
        ["ip", "-details", family, "route", "show", "table", table], capture_output=True, text=True, check=False
    )
    return shown.stdout


def ours(table: str = "main", family: str = "-4") -> list[str]:
    return [line.strip() for line in routes(table, family).splitlines() if "proto 241" in line]


async def has(*parts: str, table: str = "main", family: str = "-4") -> None:
    await until(lambda: any(all(part in line for part in parts) for line in ours(table, family)))


ROUTES = [
    ("192.0.2.0/24 via 10.0.0.2", "-4", "main", ["192.0.2.0/24", "via 10.0.0.2", "dev eth9"]),
    ("default via 10.0.0.2 dev eth9 table 100 src 10.0.0.1", "-4", "100", ["default", "src 10.0.0.1"]),
    ("192.0.2.0/24 dev eth9 scope link metric 50 mtu 1400", "-4", "main", ["metric 50", "scope link", "mtu 1400"]),
    ("192.0.2.0/24 via 10.0.0.2 mtu lock 1400 advmss 1300", "-4", "main", ["mtu lock 1400", "advmss 1300"]),
    ("192.0.2.0/24 via 172.16.0.1 dev eth9 onlink", "-4", "main", ["via 172.16.0.1", "onlink"]),
    ("blackhole 192.0.2.0/24", "-4", "main", ["blackhole 192.0.2.0/24"]),
    ("unreachable 192.0.2.0/24 table 1000", "-4", "1000", ["unreachable 192.0.2.0/24"]),
    ("2001:db8:1::/48 via 2001:db8:9::2 metric 7", "-6", "main", ["2001:db8:1::/48", "metric 7"]),
    ("2001:db8:1::/48 dev eth9 src 2001:db8:9::1", "-6", "main", ["src 2001:db8:9::1"]),
    ("192.0.2.0/24 tos 4 via 10.0.0.2", "-4", "main", ["tos 0x04"]),
]


@pytest.mark.parametrize(("text", "family", "table", "parts"), ROUTES, ids=[one[0] for one in ROUTES])
def test_a_route_is_there_while_it_is_wanted(
    text: str, family: str, table: str, parts: list[str], reports: Reports, tmp_path: Path
) -> None:
    before = routes(table, family)

    async def story() -> None:
        async with kernel(reports, tmp_path, route(text)) as it:
            it.install(Install((route(text),)))
            await has(*parts, table=table, family=family)
            it.install(Install(()))
            await until(lambda: routes(table, family) == before)

    asyncio.run(story())
    assert not reports.of(Failing)


def test_a_route_over_several_gateways_shares_the_load(reports: Reports, tmp_path: Path) -> None:
    for number, text in enumerate(
        (
            "192.0.2.0/24 nexthop via 10.0.0.2 weight 1 nexthop via 10.0.0.3 dev eth9 weight 3",
            "192.0.2.0/24 via 10.0.0.2 or 10.0.0.3 dev eth9",
        )
    ):

        async def story(one: Virtual) -> None:
            async with kernel(reports, tmp_path, one) as it:
                it.install(Install((one,)))
                await has("192.0.2.0/24")
                (found,) = [one for one in json.loads(ip("-json route show")) if one["dst"] == "192.0.2.0/24"]
                weights = [(hop["gateway"], hop["dev"], hop["weight"]) for hop in found["nexthops"]]
                assert weights == [("10.0.0.2", "eth9", 1), ("10.0.0.3", "eth9", 1 if number else 3)]  # noqa: B023
                it.install(Install(()))
                await until(lambda: not ours())

        asyncio.run(story(route(text)))
    assert not reports.of(Failing)


RULES = [
    ("from 192.0.2.0/24 table 100", "-4", ["16384:", "from 192.0.2.0/24", "lookup 100"]),
    ("to 192.0.2.0/24 table main preference 77", "-4", ["77:", "to 192.0.2.0/24", "lookup main"]),
    ("from 2001:db8::/32 lookup 1000", "-6", ["from 2001:db8::/32", "lookup 1000"]),
    ("fwmark 0x10/0xff iif eth9 table 100", "-4", ["fwmark 0x10/0xff", "iif eth9"]),
    ("not from 192.0.2.0/24 oif eth9 unreachable", "-4", ["not from 192.0.2.0/24", "oif eth9", "unreachable"]),
    ("ipproto TCP sport 10-20 dport 443 table 100", "-4", ["ipproto tcp", "sport 10-20", "dport 443"]),
    ("inet6 uidrange 100-200 blackhole", "-6", ["uidrange 100-200", "blackhole"]),
    ("to 192.0.2.0/24 table main suppress_prefixlength 0", "-4", ["suppress_prefixlength 0"]),
]


def rules(family: str) -> list[str]:
    return [line for line in ip(f"-details {family} rule show").splitlines() if "proto 241" in line]


@pytest.mark.parametrize(("text", "family", "parts"), RULES, ids=[one[0] for one in RULES])
def test_a_rule_is_there_while_it_is_wanted(
    text: str, family: str, parts: list[str], reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path, rule(text)) as it:
            it.install(Install((rule(text),)))
            await until(lambda: len(rules(family)) == 1 and all(part in rules(family)[0] for part in parts))
            it.install(Install((rule(text), route("blackhole 198.51.100.0/24"))))
            await has("198.51.100.0/24")
            assert len(rules(family)) == 1
            it.install(Install(()))
            await until(lambda: not rules(family))

    asyncio.run(story())
    assert not reports.of(Failing)


def test_a_route_that_needs_an_address_of_the_same_takeover_is_no_failure(reports: Reports, tmp_path: Path) -> None:
    vip, one = Placed("eth9", ip_interface("10.0.0.10/24")), route("192.0.2.0/24 via 10.0.0.2 src 10.0.0.10")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            it.install(Install((one,)))
            it.hold(Hold(frozenset({vip})))
            await has("src 10.0.0.10")
            it.hold(Hold(frozenset()))
            it.install(Install(()))
            await until(lambda: not ours())

    asyncio.run(story())
    assert not reports.of(Failing)


def test_what_the_kernel_refuses_is_a_failure_with_a_hint_until_it_works(reports: Reports, tmp_path: Path) -> None:
    one = route("192.0.2.0/24 via 172.16.0.1 dev eth9")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            it.install(Install((one,)))
            await until(lambda: bool(reports.failing(PART)))
            (failure,) = reports.failing(PART)
            assert failure.what == "add route 192.0.2.0/24 via 172.16.0.1 dev eth9"
            assert failure.reason == "network is unreachable"
            assert failure.hint.endswith("ip route get GATEWAY")
            ip("address add 172.16.0.9/24 dev eth9")
            await has("via 172.16.0.1")
            await until(lambda: not reports.failing(PART))

    asyncio.run(story())


def test_what_is_being_added_is_removed_again_if_nobody_wants_it_by_then(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = route("192.0.2.0/24 via 10.0.0.2")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            work, added = it._virtuals._thread.work, asyncio.Event()
            loop = asyncio.get_running_loop()

            def slow(*arguments: Any) -> Any:
                outcome = work(*arguments)
                loop.call_soon_threadsafe(added.set)
                time.sleep(0.1)
                return outcome

            monkeypatch.setattr(it._virtuals._thread, "work", slow)
            await until(lambda: it._virtuals._thread._route is not None)
            await asyncio.sleep(2 * virtuals_module.PAUSE)  # nothing else is to ask for a pass
            it.install(Install((one,)))
            await added.wait()
            assert ours()
            it.install(Install(()))
            await until(lambda: not ours())

    asyncio.run(story())


def test_a_kernel_that_does_not_answer_is_a_failure_until_it_does(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtuals_module, "ANSWER_TIMEOUT", 0.05)
    one, goes_on = route("192.0.2.0/24 via 10.0.0.2"), threading.Event()

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            work = it._virtuals._thread.work

            def hanging(*arguments: Any) -> Any:
                goes_on.wait(60)
                return work(*arguments)

            monkeypatch.setattr(it._virtuals._thread, "work", hanging)
            it.install(Install((one,)))
            await until(lambda: bool(reports.failing(PART)))
            goes_on.set()
            await has("192.0.2.0/24")
            await until(lambda: not reports.failing(PART))

    asyncio.run(story())


def test_what_goes_wrong_in_pyroute2_is_a_failure_and_ends_nothing(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtuals_module, "RETRY_INTERVAL", 0.01)
    one = route("192.0.2.0/24 via 10.0.0.2")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            await until(lambda: it._virtuals._thread._route is not None)

            def broken(messages: list[Any]) -> None:
                raise KeyError("nlm_generator")

            monkeypatch.setattr(it._virtuals._thread._route, "nlm_request_batch", broken)
            it.install(Install((one,)))
            await until(lambda: bool(reports.failing(PART)))
            (failure,) = reports.failing(PART)
            assert failure.reason == "pyroute2 fails: KeyError('nlm_generator')"

    asyncio.run(story())


def test_an_interface_that_is_missing_is_waited_for(reports: Reports, tmp_path: Path) -> None:
    one = route("192.0.2.0/24 dev eth8")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            it.install(Install((one,)))
            await until(lambda: bool(reports.failing(PART)))
            assert next(iter(reports.failing(PART))).reason == "no such device"
            ip("link add eth8 type veth peer name peer8")
            ip("link set eth8 up")
            await has("dev eth8")
            await until(lambda: not reports.failing(PART))

    asyncio.run(story())


@pytest.mark.parametrize("by", ["somebody", "the interface"])
def test_a_route_that_goes_is_put_back(by: str, reports: Reports, tmp_path: Path) -> None:
    one, two = route("192.0.2.0/24 via 10.0.0.2"), rule("from 192.0.2.0/24 table 100")

    async def story() -> None:
        async with kernel(reports, tmp_path, one, two) as it:
            it.install(Install((one, two)))
            await has("192.0.2.0/24")
            await until(lambda: bool(rules("-4")))
            if by == "somebody":
                ip("route del 192.0.2.0/24")
                ip("rule del from 192.0.2.0/24")
            else:
                ip("link set eth9 down")
                assert not ours()
                ip("link set eth9 up")
            await has("192.0.2.0/24")
            await until(lambda: bool(rules("-4")))

    asyncio.run(story())


def test_a_route_that_is_not_tracked_stays_away_until_the_next_time(reports: Reports, tmp_path: Path) -> None:
    one, other = route("192.0.2.0/24 via 10.0.0.2", is_tracked=False), route("198.51.100.0/24 via 10.0.0.2")

    async def story() -> None:
        async with kernel(reports, tmp_path, one, other) as it:
            it.install(Install((one, other)))
            await has("192.0.2.0/24")
            ip("route del 192.0.2.0/24")
            ip("route del 198.51.100.0/24")
            await has("198.51.100.0/24")
            assert len(ours()) == 1
            it.install(Install((other,)))
            it.install(Install((one, other)))
            await has("192.0.2.0/24")

    asyncio.run(story())


def test_what_somebody_else_has_put_there_is_never_removed(reports: Reports, tmp_path: Path) -> None:
    wanted = (
        route("192.0.2.0/24 via 10.0.0.2"),
        route("2001:db8:1::/48 via 2001:db8:9::2"),
        rule("from 192.0.2.0/24 table 100 preference 50"),
        route("203.0.113.0/24 via 10.0.0.2 proto static"),
    )

    async def story() -> None:
        ip("route add 192.0.2.0/24 via 10.0.0.2")
        ip("-6 route add 2001:db8:1::/48 via 2001:db8:9::2")
        ip("rule add from 192.0.2.0/24 table 100 preference 50")
        ip("route add 203.0.113.0/24 via 10.0.0.2 proto static")
        before = routes(), routes("main", "-6"), ip("rule show")
        async with kernel(reports, tmp_path, *wanted) as it:
            last = route("blackhole 198.51.100.0/24")
            it.install(Install((*wanted, last)))
            await has("198.51.100.0/24")
            it.install(Install(()))
            await until(lambda: not ours())
            await until(lambda: (routes(), routes("main", "-6"), ip("rule show")) == before)

    asyncio.run(story())
    assert not reports.of(Failing)


@pytest.mark.parametrize("text", ["192.0.2.0/24 via 10.0.0.2", "192.0.2.0/24 via 10.0.0.2 proto static"])
def test_what_a_dead_predecessor_left_is_adopted(text: str, reports: Reports, tmp_path: Path) -> None:
    one = route(text)

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            it.install(Install((one,)))
            await until(lambda: "192.0.2.0/24" in routes())
        async with kernel(reports, tmp_path, one) as successor:
            assert "192.0.2.0/24" in routes()
            successor.install(Install(()))
            await until(lambda: "192.0.2.0/24" not in routes())
            await until(lambda: json.loads((tmp_path / "state" / "virtuals.json").read_text())["virtuals"] == [])

    asyncio.run(story())


@pytest.mark.parametrize("virtual", [route("192.0.2.0/24 via 10.0.0.2"), rule("from 192.0.2.10 table 100")])
def test_what_a_dead_predecessor_could_not_write_down_is_found_by_its_mark(
    virtual: Virtual, reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        async with kernel(reports, tmp_path, virtual) as it:
            it.install(Install((virtual,)))
            await until(lambda: "192.0.2." in routes() + "".join(rules("-4")))
        (tmp_path / "state" / "virtuals.json").unlink()
        async with kernel(reports, tmp_path, virtual) as successor:
            successor.install(Install(()))
            await until(lambda: "192.0.2." not in routes() + "".join(rules("-4")))

    asyncio.run(story())
    assert not reports.of(Failing)


def test_a_backup_leaves_alone_what_is_like_its_own_and_carries_no_mark(reports: Reports, tmp_path: Path) -> None:
    text = "192.0.2.0/24 via 10.0.0.2"
    other = route("198.51.100.0/24 via 10.0.0.2")

    async def story() -> None:
        ip(f"route add {text} proto static")
        async with kernel(reports, tmp_path, route(text), other) as it:
            it.install(Install(()))
            it.install(Install((other,)))
            await has("198.51.100.0/24")
            assert "192.0.2.0/24" in routes()

    asyncio.run(story())


@pytest.mark.parametrize("is_named", [True, False])
def test_what_a_dead_predecessor_left_stays_until_the_core_decides_if_the_configuration_still_has_it(
    is_named: bool, reports: Reports, tmp_path: Path
) -> None:
    one, other = route("192.0.2.0/24 via 10.0.0.2"), route("198.51.100.0/24 via 10.0.0.2")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            it.install(Install((one,)))
            await has("192.0.2.0/24")
        async with kernel(reports, tmp_path, *([one, other] if is_named else [])) as successor:
            if not is_named:
                await until(lambda: not ours())
                return
            successor.install(Install((one, other)))
            await has("198.51.100.0/24")
            ip("route del 192.0.2.0/24")
            await has("192.0.2.0/24")

    asyncio.run(story())
    assert not reports.of(Failing)


def test_a_configuration_without_routes_loads_no_pyroute2(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, asked = builtins.__import__, list[str]()

    def watched(name: str, *arguments: Any, **options: Any) -> Any:
        asked.append(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", watched)

    async def story() -> None:
        async with kernel(reports, tmp_path) as it:
            it.install(Install(()))
            it.hold(Hold(frozenset({Placed("eth9", ip_interface("10.0.0.10/24"))})))
            await until(lambda: "10.0.0.10" in ip("address show dev eth9"))

    asyncio.run(story())
    assert not [name for name in asked if name.startswith("pyroute2")]


def test_that_pyroute2_is_missing_is_said(reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtuals_module, "RETRY_INTERVAL", 0.01)
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyroute2"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    one = route("192.0.2.0/24 via 10.0.0.2")

    async def story() -> None:
        async with kernel(reports, tmp_path, one) as it:
            it.install(Install((one,)))
            await until(lambda: bool(reports.failing(PART)))

    asyncio.run(story())
    hint = "apt-get install python3-pyroute2, or pip install 'floatip[routes]'"
    assert reports.failing(PART) == {Failure(PART, "pyroute2 is not installed", hint)}
