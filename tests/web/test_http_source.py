"""The changes of the last day: from the file of the history, and from the daemon where they are newer."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from floatip.history import NAME, Change, line, stamp
from floatip.host.control import IDLE_TIMEOUT
from floatip.web.source import AGAIN, MOST_CHANGES, USED, Line, Source

NOW = datetime.now(UTC)


def change(ago: timedelta, value: str) -> Change:
    return Change(stamp(NOW - ago), 1.0, "boot", "h1", "role", "VI_1", "", value, "because")


def record(at: float, ago: timedelta, value: str) -> dict[str, Any]:
    return {"at": at, "time": stamp(NOW - ago), "what": "role", "name": "VI_1", "value": value, "reason": "because"}


def test_the_last_day_has_each_change_once(tmp_path: Path) -> None:
    kept = [
        change(timedelta(days=2), "old"),
        change(timedelta(hours=2), "backup"),
        change(timedelta(hours=1), "master"),
    ]
    (tmp_path / NAME).write_bytes(b"".join(map(line, kept)) + b"torn")

    async def play() -> None:
        source = Source("/nowhere", str(tmp_path), lambda told: None)
        assert [one.value for one in source.last_day()] == ["backup", "master"]
        await asyncio.sleep(0)
        source._note(record(1.0, timedelta(hours=1), "master"))
        source._note(record(2.0, timedelta(0), "fault"))
        assert [one.value for one in source.last_day()] == ["backup", "master", "fault"]

    asyncio.run(play())


def test_without_a_file_the_last_day_is_what_the_daemon_told(tmp_path: Path) -> None:
    async def play() -> None:
        source = Source("/nowhere", str(tmp_path / "none"), lambda told: None)
        source._note(record(1.0, timedelta(0), "master"))
        assert [(one.value, one.before) for one in source.last_day()] == [("master", "")]

    asyncio.run(play())


def test_what_the_page_does_not_show_pushes_nothing_out_of_the_day(tmp_path: Path) -> None:
    """Two failovers of 255 instances: a role, a rank and an address for each."""
    first = change(timedelta(hours=5), "the first")
    ranks = [replace(first, what=what, time=stamp(NOW - timedelta(hours=4))) for what in ("rank", "address")]
    (tmp_path / NAME).write_bytes(line(first) + b"".join(map(line, ranks)) * MOST_CHANGES)

    async def play() -> None:
        source = Source("/nowhere", str(tmp_path), lambda told: None)
        source._note(record(1.0, timedelta(0), "standby") | {"what": "rank"})
        assert [one.value for one in source.last_day()] == ["the first"]

    asyncio.run(play())


def test_the_file_is_read_once_and_again_after_the_watch_broke(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(line(change(timedelta(hours=2), "one")))

    async def play() -> None:
        source = Source(str(tmp_path / "nowhere"), str(tmp_path), lambda told: None)
        assert [one.value for one in source.last_day()] == ["one"]
        file.write_bytes(file.read_bytes() + line(change(timedelta(hours=1), "two")))
        source._note(record(1.0, timedelta(hours=1), "two"))
        assert [one.value for one in source.last_day()] == ["one", "two"]
        source._note(record(2.0, timedelta(0), "four"))
        file.write_bytes(file.read_bytes() + line(change(timedelta(minutes=1), "three")))
        assert [one.value for one in source.last_day()] == ["one", "two", "four"]
        watch = asyncio.create_task(source.run())
        await asyncio.sleep(AGAIN / 10)  # there is no daemon
        watch.cancel()
        assert [one.value for one in source.last_day()] == ["one", "two", "three", "four"]

    asyncio.run(play())


def test_what_is_older_than_a_day_goes(tmp_path: Path) -> None:
    async def play() -> None:
        source = Source("/nowhere", str(tmp_path / "none"), lambda told: None)
        source._note(record(1.0, timedelta(days=1, seconds=1), "old"))
        source._note(record(2.0, timedelta(hours=23), "master"))
        assert [one.value for one in source.last_day()] == ["master"]

    asyncio.run(play())


def test_a_connection_that_the_daemon_may_just_be_closing_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> int:
        connections, ended = 0, asyncio.Semaphore(0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.readline():
                writer.write(b"{}\n")
            writer.close()
            await writer.wait_closed()
            ended.release()

        path = str(tmp_path / "socket")
        async with await asyncio.start_unix_server(serve, path):
            used = Line(path)
            await used.ask({})
            await used.ask({})
            assert connections == 1
            monkeypatch.setattr("floatip.web.source.USED", 0.0)
            await used.ask({})
            used.close()
            for _ in range(connections):
                await ended.acquire()
        return connections

    assert asyncio.run(play()) == 2
    assert USED < IDLE_TIMEOUT
