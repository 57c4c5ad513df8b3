"""Whatever the machine refuses is a failure or the end of one connection, never an exception that ends the daemon."""

import asyncio
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from floatip.core.addresses import Placed
from floatip.core.events import Dial, Disconnected, Failing, Garp, Hold, Measure, SendAdvert
from floatip.core.vrrp.wire import GROUP
from floatip.host.disk import Disk, Memory
from floatip.host.network import kernel as kernel_module
from floatip.host.network.adverts import Adverts, Listening
from floatip.host.network.kernel import Kernel, Wanted, neighbours
from floatip.host.network.packet_filter import Known
from floatip.host.network.peers import Options, Peers
from floatip.host.state_log import StateLog
from floatip.host.systemd import Systemd
from tests.host.reports import Reports, remembered, until

CODES = [errno.EMFILE, errno.EAFNOSUPPORT, errno.ENOSPC, errno.EPERM]
REASONS = {os.strerror(code).lower() for code in CODES}
SYSTEM_CALLS = ["setsockopt", "getsockopt", "bind", "connect", "send", "sendto", "sendmsg", "recv_into", "recvmsg_into"]
SYSTEM_CALLS += ["getsockname"]

pytestmark = [pytest.mark.usefixtures("namespace"), pytest.mark.parametrize("code", CODES)]

VIP, VIP6 = (Placed("eth9", ip_interface(address)) for address in ("192.0.2.10/32", "2001:db8::10/128"))


class Refusing(socket.socket):
    """Refuses one system call, from when it is told to."""

    call = ""
    code = 0

    def __init__(self, *arguments: Any) -> None:
        if Refusing.call == "socket":
            raise OSError(Refusing.code, os.strerror(Refusing.code))
        super().__init__(*arguments)

    @classmethod
    def refuse(cls, call: str, code: int) -> None:
        cls.call, cls.code = call, code


def _guarded(call: str) -> Callable[..., Any]:
    original = getattr(socket.socket, call)

    def guarded(self: Refusing, *arguments: Any) -> Any:
        if Refusing.call == call:
            raise OSError(Refusing.code, os.strerror(Refusing.code))
        return original(self, *arguments)

    return guarded


for one in SYSTEM_CALLS:
    setattr(Refusing, one, _guarded(one))


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch, namespace: None) -> Iterator[None]:
    for command in ("add eth9 type veth peer name peer9", "set peer9 up", "set eth9 up"):
        subprocess.run(["ip", "link", *command.split()], check=True)
    monkeypatch.setattr(socket, "socket", Refusing)
    yield
    Refusing.refuse("", 0)


def play(story: Callable[[], Any]) -> None:
    met: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: met.append(context))
        async with asyncio.timeout(60):
            await story()

    asyncio.run(run())
    assert met == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("call", ["socket", "setsockopt", "sendmsg", "recv_into", "recvmsg_into"])
def test_adverts(call: str, version: int, code: int, reports: Reports) -> None:
    source, group = ("10.0.0.1", GROUP) if version == 4 else ("fe80::1", ip_address("ff02::12"))
    advert = SendAdvert("eth9", ip_address(source), group, bytes(8))

    async def story() -> None:
        adverts = Adverts(reports)
        Refusing.refuse(call, code)
        adverts.configure({("eth9", version): Listening(frozenset({group}), Known().plus(51, []))})
        adverts.send(advert)
        adverts.drain()
        Refusing.refuse("", 0)
        if call in ("socket", "setsockopt"):
            (failure,) = reports.failing("VRRP sockets")
            assert failure.what == ("VRRP on eth9" if version == 4 else "VRRP over IPv6 on eth9")
            assert failure.reason in REASONS
            await until(lambda: not reports.failing("VRRP sockets"))  # it is tried again
        elif call == "sendmsg":
            (failure,) = reports.failing("adverts")
            assert failure.reason in REASONS
            adverts.send(advert)
        adverts.close()

    play(story)


@pytest.mark.parametrize("call", ["socket", "setsockopt", "getsockopt", "bind", "connect", "send", "getsockname"])
@pytest.mark.parametrize("peer", [ip_address("127.0.0.1"), ip_address("::1")])
def test_peers(call: str, code: int, peer: Any, reports: Reports) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET if peer.version == 4 else socket.AF_INET6) as server:
            server.bind((str(peer), 0))
            server.listen()
            peers = Peers(reports, port=server.getsockname()[1])
            peers.configure(Options(peer, 64, md5="key", min_ttl=1))
            Refusing.refuse(call, code)
            peers.dial(Dial(peer, 0.2))
            peers.measure(Measure(peer))
            (ended,) = [await reports.next(Disconnected)]
            assert ended.reason in REASONS | {"timed out after 0.2 s"}
            Refusing.refuse("", 0)
            peers.close_all()

    play(story)


@pytest.mark.parametrize("call", ["socket", "setsockopt", "sendto", "sendmsg"])
def test_neighbours(call: str, code: int, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SPREAD", 0.1)

    async def story() -> None:
        kernel = Kernel(reports, None)
        await kernel.start()
        running = asyncio.create_task(kernel.run())
        for address in (VIP, VIP6):
            subprocess.run(["ip", "address", "add", str(address.address), "dev", "eth9", "nodad"], check=True)
        await until(lambda: {VIP.address.ip, VIP6.address.ip} <= kernel.addresses)
        Refusing.refuse(call, code)
        kernel.garp(Garp(frozenset({VIP, VIP6})))
        await until(lambda: bool(reports.failing("neighbours")))
        assert {failure.reason for failure in reports.failing("neighbours")} <= REASONS
        Refusing.refuse("", 0)
        await until(lambda: not reports.failing("neighbours"))
        running.cancel()
        kernel.close()

    play(story)


def test_netlink_requests(code: int, reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        disk = Disk(reports)
        kernel = Kernel(reports, Memory(disk, tmp_path / "held.json"))
        await kernel.start()
        kernel.configure(Wanted(named=frozenset({VIP})))
        running = asyncio.create_task(kernel.run())
        Refusing.refuse("send", code)
        kernel.hold(Hold(frozenset({VIP})))
        await until(lambda: bool(reports.failing("addresses")))
        assert {failure.reason for failure in reports.failing("addresses")} <= REASONS
        Refusing.refuse("", 0)
        kernel.hold(Hold(frozenset({VIP})))
        await until(lambda: not reports.failing("addresses"))
        running.cancel()
        kernel.close()
        disk.close()

    play(story)


def test_netlink_tables(code: int, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_module, "RETRY_INTERVAL", 0.05)

    async def story() -> None:
        kernel = Kernel(reports, None)
        await kernel.start()
        running = asyncio.create_task(kernel.run())
        await asyncio.sleep(0)
        Refusing.refuse("recv_into", code)
        subprocess.run(["ip", "address", "add", "192.0.2.10/32", "dev", "eth9"], check=True)
        await until(lambda: bool(reports.failing("netlink")))
        assert {failure.reason for failure in reports.failing("netlink")} <= REASONS
        Refusing.refuse("", 0)
        await until(lambda: not reports.failing("netlink"))
        await until(lambda: VIP.address.ip in kernel.addresses)
        running.cancel()
        kernel.close()

    play(story)


def test_files(code: int, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    async def story() -> None:
        disk = Disk(reports)
        with monkeypatch.context() as without:
            without.setattr(os, "open", refuse)
            without.setattr(Path, "write_text", refuse)
            without.setattr(Path, "read_text", refuse)
            memory, log = await remembered(disk, tmp_path / "x.json"), StateLog(disk)
            log.configure(tmp_path / "state", 1)
            log.write("VI_1", "MASTER")
            assert memory.recall(dict) is None
            await memory.remember({})
            await disk.finish(60)
        assert {failure.reason for failure in reports.failing("disk")} <= REASONS
        assert len(reports.failing("disk")) == 2
        assert reports.of(Failing)
        disk.close()

    play(story)


def test_systemd(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    systemd = Systemd()
    for call in ("socket", "sendto"):
        Refusing.refuse(call, code)
        systemd.ready()
    systemd.close()
