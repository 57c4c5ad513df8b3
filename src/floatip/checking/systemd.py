"""Whether a unit of systemd is active, by D-Bus (org.freedesktop.systemd1(5)): told at each change.

The manager says nothing of changes to a client that has not subscribed. A signal says that something changed and is
no truth: the state is asked for after each.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from floatip.checking.look import Failed, Say, Verdict, Watch, why

if TYPE_CHECKING:
    from floatip.model import Systemd

PATIENCE = 5.0
"""Seconds for an answer of the bus."""
LOOK_INTERVAL = 10.0
SYSTEMD, MANAGER = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
UNIT, PROPERTIES = "org.freedesktop.systemd1.Unit", "org.freedesktop.DBus.Properties"
BUS = "org.freedesktop.DBus"
SUBSCRIBED = "org.freedesktop.systemd1.AlreadySubscribed"
ACTIVE = "active", "reloading", "refreshing"


class Check(Watch):
    def __init__(self, kind: "Systemd") -> None:
        self._unit = kind.unit

    async def watch(self, say: Say) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        except TimeoutError:
            raise Failed(f"D-Bus does not answer within {PATIENCE:g} s") from None
        except OSError as error:
            raise Failed(f"cannot connect to D-Bus: {why(error)}") from None
        lost = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        try:
            await _Watched(bus, self._unit, lost).watch(say)
        finally:
            lost.cancel()
            bus.disconnect()


class _Watched:
    def __init__(self, bus: MessageBus, unit: str, lost: asyncio.Future[Any]) -> None:
        self._bus = bus
        self._lost = lost
        self._unit = unit
        self._changed = asyncio.Event()
        self._path = ""

    async def watch(self, say: Say) -> None:
        self._bus.add_message_handler(self._hear)
        rules = (
            f"type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{UNIT}'",
            f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'",
        )
        for rule in rules:
            await self._call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", rule)
        said = None
        while True:
            self._changed.clear()
            # A manager that was started again knows no subscriber.
            await self._call(SYSTEMD, "/org/freedesktop/systemd1", MANAGER, "Subscribe")
            verdict = await self._look()
            if verdict != said:
                say(*verdict)
                said = verdict
            await self._wait()

    async def _wait(self) -> None:
        changed = asyncio.create_task(self._changed.wait())
        done, _ = await asyncio.wait({self._lost, changed}, timeout=LOOK_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if self._lost in done:
            raise Failed("the connection to D-Bus ended")

    def _hear(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path in (self._path, "/org/freedesktop/DBus"):
            self._changed.set()

    async def _look(self) -> Verdict:
        [self._path] = await self._call(SYSTEMD, "/org/freedesktop/systemd1", MANAGER, "LoadUnit", "s", self._unit)
        [properties] = await self._call(SYSTEMD, self._path, PROPERTIES, "GetAll", "s", UNIT)
        found = {name: str(properties[name].value) for name in ("LoadState", "ActiveState", "SubState")}
        if found["LoadState"] == "not-found":
            return False, f"systemd knows no unit {self._unit}"
        state = found["ActiveState"]
        return state in ACTIVE, f"{self._unit} is {state} ({found['SubState']})"

    async def _call(
        self, to: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        message = Message(to, path, interface, member, signature=signature, body=list(body))
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._bus.call(message)
        except TimeoutError:
            raise Failed(f"systemd does not answer {member} within {PATIENCE:g} s") from None
        assert answer
        if answer.message_type is MessageType.ERROR and answer.error_name != SUBSCRIBED:
            raise Failed(f"systemd answers {member} with: {answer.body[0] if answer.body else answer.error_name}")
        return list(answer.body)
