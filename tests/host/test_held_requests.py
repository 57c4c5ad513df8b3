"""A request on the control socket that lasts as long as its connection, as a drill does."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from floatip.host import control
from floatip.host.ask import ControlError, Record, ask
from floatip.host.control import Command, Control, Credentials, Held
from tests.host.reports import no_client, until
from tests.host.users import as_user

STRANGER = 4242


class Kept:
    """What holds, and what has ended."""

    def __init__(self) -> None:
        self.begun: list[Credentials] = []
        self.ended = 0

    def hold(self, request: Record, who: Credentials) -> Held:
        if request.get("refuse"):
            return Held({"began": False})
        self.begun.append(who)
        return Held({"began": True}, self.end)

    def end(self) -> None:
        self.ended += 1

    def control(self, path: Path) -> Control:
        command = Command(lambda request, pid: {}, "drill", hold=self.hold)
        return Control(path, {"drill": command}, list, no_client)


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def test_a_held_request_lasts_until_its_connection_ends_however_long_nothing_is_said(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "IDLE_TIMEOUT", 0.1)
    path, kept = directory / "floatip.sock", Kept()

    async def story() -> None:
        server = kept.control(path)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"cmd": "drill"}\n')
        assert await asyncio.wait_for(reader.readline(), 60) == b'{"began": true}\n'
        idle, idle_writer = await asyncio.open_unix_connection(str(path))
        assert await asyncio.wait_for(idle.read(), 60) == b"", "another one, which holds nothing, is sent away"
        assert (len(kept.begun), kept.ended) == (1, 0)
        assert kept.begun[0].pid == os.getpid()
        writer.transport.abort()
        await until(lambda: kept.ended == 1)
        idle_writer.close()
        server.close()

    asyncio.run(story())


def test_a_request_that_is_refused_holds_nothing(directory: Path) -> None:
    path, kept = directory / "floatip.sock", Kept()

    async def story() -> None:
        server = kept.control(path)
        await server.start()
        assert await asyncio.to_thread(ask, path, {"cmd": "drill", "refuse": True}) == {"began": False}
        await until(lambda: not server.clients.total())
        assert (kept.begun, kept.ended) == ([], 0)
        server.close()

    asyncio.run(story())


def test_the_group_may_ask_for_the_status_and_holds_nothing(directory: Path) -> None:
    path, kept = directory / "floatip.sock", Kept()

    def told() -> str:
        try:
            return str(ask(path, {"cmd": "drill"}))
        except ControlError as error:
            return error.what

    async def story() -> None:
        server = kept.control(path)
        await server.start()
        assert await as_user(told, STRANGER, STRANGER, (os.getegid(),)) == "user 4242 may not drill"
        assert kept.begun == []
        server.close()

    asyncio.run(story())
