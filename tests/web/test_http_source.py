"""The changes of the last day: from the file of the history, and from the daemon where they are newer."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from floatip.history import NAME, Change, line, stamp
from floatip.web.source import Source

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
