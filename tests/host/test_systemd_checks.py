"""Checks of systemd's units: a D-Bus daemon of the test's own, with a systemd of a few units on it."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from floatip.core.events import CheckDone
from floatip.lab.namespaces import find_program
from floatip.model import Systemd
from tests.host.checking import Asked
from tests.host.reports import Reports, until

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""
PREFIX = "/org/freedesktop/systemd1/unit/"
UNIT, PROPERTIES = "org.freedesktop.systemd1.Unit", "org.freedesktop.DBus.Properties"


class Bus:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "bus"
        self._config = directory / "bus.conf"
        self._config.write_text(CONFIG.format(path=self.path))
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = find_program("dbus-daemon", "dbus-daemon")
        command = [program, f"--config-file={self._config}", "--nofork", "--nopidfile", "--print-address=1"]
        self._daemon = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._daemon.stdout
        assert self._daemon.stdout.readline()  # it listens

    def send(self, number: signal.Signals) -> None:
        assert self._daemon
        self._daemon.send_signal(number)

    def stop(self) -> None:
        if self._daemon and self._daemon.stdout:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon.stdout.close()
            self._daemon = None
            self.path.unlink(missing_ok=True)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    made = Bus(tmp_path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={made.path}")
    made.start()
    yield made
    made.stop()


class Manager:
    """org.freedesktop.systemd1, as far as a check asks it. It says nothing to those that have not subscribed."""

    def __init__(self) -> None:
        self.states = {"nginx.service": ("active", "running")}
        self._subscribers: set[str] = set()

    async def start(self) -> None:
        self._bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        self._bus.add_message_handler(self._handle)
        await self._bus.request_name("org.freedesktop.systemd1")

    def stop(self) -> None:
        self._bus.disconnect()

    def become(self, unit: str, state: str, sub: str) -> None:
        self.states[unit] = state, sub
        if self._subscribers:
            body = [UNIT, {"ActiveState": Variant("s", state)}, []]
            path = PREFIX + unit.replace(".", "_2e")
            self._bus.send(Message.new_signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body))

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        assert message.sender
        match message.member:
            case "Subscribe":
                if message.sender in self._subscribers:
                    return Message.new_error(message, "org.freedesktop.systemd1.AlreadySubscribed", "already")
                self._subscribers.add(message.sender)
                return Message.new_method_return(message)
            case "LoadUnit":
                path = PREFIX + message.body[0].replace(".", "_2e")
                return Message.new_method_return(message, "o", [path])
            case "GetAll":
                assert message.path
                unit = message.path.removeprefix(PREFIX).replace("_2e", ".")
                state, sub = self.states.get(unit, ("inactive", "dead"))
                found: dict[str, Any] = {"ActiveState": state, "SubState": sub}
                found["LoadState"] = "loaded" if unit in self.states else "not-found"
                values = {name: Variant("s", value) for name, value in found.items()}
                return Message.new_method_return(message, "a{sv}", [values])
        return None


async def said(reports: Reports, number: int) -> tuple[bool, str]:
    answer = await reports.next(CheckDone, number)
    return answer.passed, answer.reason


def test_a_unit_is_told_at_the_start_and_at_each_change(bus: Bus) -> None:
    async def story() -> None:
        manager = Manager()
        await manager.start()
        asked = Asked({"nginx": Systemd("nginx.service")})
        assert await said(asked.reports, 1) == (True, "nginx.service is active (running)")
        states = [("reloading", "reload"), ("deactivating", "stop"), ("failed", "failed"), ("active", "running")]
        for number, (state, sub) in enumerate(states, 2):
            manager.become("nginx.service", state, sub)
            passed = state in ("active", "reloading")
            assert await said(asked.reports, number) == (passed, f"nginx.service is {state} ({sub})")
        assert await asked.run("nginx") == (True, "nginx.service is active (running)")
        await asked.close()
        manager.stop()

    asyncio.run(story())


def test_a_unit_that_is_not_there_is_down_until_it_is(bus: Bus) -> None:
    async def story() -> None:
        manager = Manager()
        manager.states.clear()
        await manager.start()
        asked = Asked({"nginx": Systemd("nginx.service")})
        assert await said(asked.reports, 1) == (False, "systemd knows no unit nginx.service")
        manager.become("nginx.service", "active", "running")
        assert (await said(asked.reports, 2))[0]
        await asked.close()
        manager.stop()

    asyncio.run(story())


def test_a_systemd_that_ends_is_down_and_one_that_comes_back_is_asked_again(bus: Bus) -> None:
    async def story() -> None:
        manager = Manager()
        await manager.start()
        asked = Asked({"nginx": Systemd("nginx.service")})
        assert (await said(asked.reports, 1))[0]
        manager.stop()
        passed, reason = await said(asked.reports, 2)
        assert not passed
        assert "org.freedesktop.systemd1 was not provided" in reason
        manager = Manager()
        await manager.start()
        assert (await said(asked.reports, 3))[0]
        manager.become("nginx.service", "failed", "failed")
        assert await said(asked.reports, 4) == (False, "nginx.service is failed (failed)")
        await asked.close()
        manager.stop()

    asyncio.run(story())


def test_a_bus_that_ends_is_down_and_one_that_comes_back_is_asked_again(bus: Bus) -> None:
    async def story() -> None:
        manager = Manager()
        await manager.start()
        asked = Asked({"nginx": Systemd("nginx.service")})
        assert (await said(asked.reports, 1))[0]
        bus.stop()
        passed, reason = await said(asked.reports, 2)
        assert not passed
        assert "D-Bus" in reason
        await until(lambda: "no such file" in asked.reports.of(CheckDone)[-1].reason)
        bus.start()
        manager = Manager()
        await manager.start()
        await until(lambda: asked.reports.of(CheckDone)[-1].passed)
        await asked.close()
        manager.stop()

    asyncio.run(story())


def test_a_bus_that_hangs_is_down(bus: Bus) -> None:
    async def story() -> None:
        bus.send(signal.SIGSTOP)
        asked = Asked({"nginx": Systemd("nginx.service")})
        assert await said(asked.reports, 1) == (False, "D-Bus does not answer within 5 s")
        bus.send(signal.SIGCONT)
        await asked.close()

    asyncio.run(story())


def test_without_a_bus_the_check_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")

    async def story() -> None:
        asked = Asked({"nginx": Systemd("nginx.service")})
        assert await said(asked.reports, 1) == (False, "cannot connect to D-Bus: no such file or directory")
        await asked.close()

    asyncio.run(story())
