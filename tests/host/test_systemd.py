import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from floatip.host.systemd import Systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of the socket that systemd holds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


@pytest.fixture
def systemd(manager: socket.socket) -> Iterator[Systemd]:
    yield (it := Systemd())
    it.close()


def test_systemd_is_told_each_step(manager: socket.socket, systemd: Systemd) -> None:
    systemd.ready()
    assert manager.recv(1000) == b"READY=1"
    systemd.status("VI_1 master\nat rank active")
    assert manager.recv(1000) == b"STATUS=VI_1 master at rank active"
    systemd.reloading()
    state, clock = manager.recv(1000).split(b"\nMONOTONIC_USEC=")
    assert state == b"RELOADING=1"
    assert abs(int(clock) / 1e6 - time.monotonic()) < 20
    systemd.stopping(1)
    assert manager.recv(1000) == b"STOPPING=1"
    systemd.stopping(30)
    assert manager.recv(1000) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000"


def test_the_watchdog_is_fed_six_times_in_its_interval(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    manager.setblocking(False)
    times = [time.monotonic()]

    async def story() -> None:
        systemd = Systemd()
        systemd.feed_watchdog()
        for _ in range(7):
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 100), 60) == b"WATCHDOG=1"
            times.append(time.monotonic())
        systemd.close()

    asyncio.run(story())
    # The first comes at once; one or the other may be late, where the machine is.
    assert times[-1] - times[0] > 0.59
    assert min(later - sooner for sooner, later in pairwise(times[1:])) < 0.15


@pytest.mark.parametrize("pid", ["1", None])
def test_a_watchdog_that_is_not_meant_for_us_is_not_fed(
    pid: str | None, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pid:
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.setenv("WATCHDOG_PID", pid)

    async def story() -> None:
        Systemd().feed_watchdog()

    asyncio.run(story())
    manager.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_all_messages_leave_by_one_socket_even_after_one_could_not_be_opened(
    manager: socket.socket, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(socket, "socket", refuse)
        systemd.ready()
    systemd.ready()
    with monkeypatch.context() as without:
        without.setattr(socket, "socket", refuse)
        systemd.status("well")
    assert [manager.recv(1000), manager.recv(1000)] == [b"READY=1", b"STATUS=well"]


def refuse(*_: object) -> socket.socket:
    raise OSError(errno.EMFILE, "")


def test_children_do_not_inherit_the_right_to_speak_for_us(manager: socket.socket) -> None:
    Systemd()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()


def test_without_systemd_or_when_it_does_not_listen_nothing_happens(
    manager: socket.socket, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.close()
    systemd.ready()
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Systemd().ready()
