import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from floatip.host import control
from floatip.host.ask import ControlError, Record, ask
from floatip.host.control import Control

STATUS: Record = {"instances": [], "pid": 1}
HISTORY: list[Record] = [{"what": "role", "value": "backup"}, {"what": "role", "value": "master"}]


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Control]:
    server = Control(path, lambda: STATUS, HISTORY)
    await server.start()
    yield server
    server.close()
    await asyncio.sleep(0.01)


async def lines(path: Path, *requests: bytes, answers: int) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    writer.write(b"".join(requests))
    async with asyncio.timeout(20):
        found = [json.loads(await reader.readline()) for _ in range(answers)]
    writer.close()
    await writer.wait_closed()
    return found


def test_the_status_is_answered_and_only_the_group_may_ask(tmp_path: Path) -> None:
    path = tmp_path / "run" / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS
        assert not path.exists()

    asyncio.run(story())


def test_a_watcher_gets_the_history_and_then_each_change(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b'{"cmd": "watch"}\n')
            async with asyncio.timeout(20):
                assert [json.loads(await reader.readline()) for _ in HISTORY] == HISTORY
                server.publish({"what": "rank"})
                assert json.loads(await reader.readline()) == {"what": "rank"}
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.05)
            assert not server.watchers

    asyncio.run(story())


def test_a_watcher_that_does_not_read_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            with socket.socket(socket.AF_UNIX) as watcher:
                watcher.connect(str(path))
                watcher.sendall(b'{"cmd": "watch"}\n')
                while not server.watchers:
                    await asyncio.sleep(0.001)
                for _ in range(100):
                    server.publish({"reason": "x" * 50_000})
                await asyncio.sleep(0.05)
                assert not server.watchers

    asyncio.run(story())


GARBAGE = [b"", b"\xff\xfe\x00", b"{", b"null", b"[]", b'{"cmd": 7}', b'{"cmd": "drop"}', b"[" * 60_000]


def test_garbage_is_counted_and_answered_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            requests = [line + b"\n" for line in GARBAGE]
            *answers, status = await lines(path, *requests, b'{"cmd": "status"}\n', answers=len(GARBAGE) + 1)
            assert all({"error", "hint"} == answer.keys() for answer in answers)
            assert server.rejected == len(GARBAGE)
            assert status == STATUS

    asyncio.run(story())


def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            reader, writer = await asyncio.open_unix_connection(str(path))
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    writer.write(b"x" * 10_000)
                    await writer.drain()
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await asyncio.wait_for(reader.read(), 20)
            assert answer.count(b"\n") <= 1
            assert writer.transport.is_closing() or reader.at_eof()
            writer.transport.abort()
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS

    asyncio.run(story())


def test_a_client_that_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_TIMEOUT", 0.2)
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            idle, idle_writer = await asyncio.open_unix_connection(str(path))
            watching, watch_writer = await asyncio.open_unix_connection(str(path))
            watch_writer.write(b'{"cmd": "watch"}\n')
            assert await asyncio.wait_for(idle.read(), 20) == b""
            await asyncio.sleep(0.3)
            server.publish({"what": "still here"})
            async with asyncio.timeout(20):
                while json.loads(await watching.readline()) != {"what": "still here"}:
                    pass
            for writer in (idle_writer, watch_writer):
                writer.close()
                await writer.wait_closed()

    asyncio.run(story())


def test_the_socket_of_a_dead_daemon_is_replaced_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def story() -> None:
        async with serving(path):
            with pytest.raises(ControlError, match=rf"already runs .* \(pid {os.getpid()}\)"):
                await Control(path, lambda: STATUS, HISTORY).start()
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS

    asyncio.run(story())


def test_asking_when_nobody_answers_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"
    with pytest.raises(ControlError, match="no floatip daemon answers at") as error:
        ask(path, {"cmd": "status"})
    assert error.value.hint == "systemctl status floatip"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        with pytest.raises(ControlError, match="does not answer"):
            ask(path, {"cmd": "status"}, timeout=0.1)


def test_an_error_from_the_daemon_reaches_the_one_who_asked(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            with pytest.raises(ControlError, match="there is no such command"):
                await asyncio.to_thread(ask, path, {"cmd": "nonsense"})

    asyncio.run(story())
