"""FIFOs with real readers: nothing is lost while they are away, and what must be lost is counted."""

import asyncio
import errno
import os
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from floatip.host import notify_fifo
from floatip.host.notify_fifo import MOST_LINES, Fifos
from floatip.model import Fifo, RunAs
from tests.host.reports import Reports, until

LINE = b'INSTANCE "VI_1" MASTER 150\n'
PART = "notify FIFOs"


class Reader:
    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.text = b""

    def read(self) -> bytes:
        try:
            while data := os.read(self.fd, 65536):
                self.text += data
        except BlockingIOError:
            pass
        return self.text

    def close(self) -> None:
        os.close(self.fd)


def play(story: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(story())


def script(path: Path, text: str) -> tuple[str, ...]:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return (str(path),)


def test_a_missing_fifo_is_made_for_its_owner_alone_and_removed_at_the_end(reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "fifo"

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path, RunAs("nobody", "nogroup") if os.geteuid() == 0 else RunAs())], [])
        fifos.write(LINE)
        fifos.write(LINE)
        await until(path.exists)
        await until(lambda: os.geteuid() != 0 or path.stat().st_uid == 65534)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader = Reader(path)
        await until(lambda: reader.read() == 2 * LINE)
        await fifos.finish(10)
        assert os.read(reader.fd, 1) == b"", "the end"
        reader.close()

    play(story)
    assert not path.exists()
    assert not reports.events


def test_a_fifo_that_is_there_stays_and_its_reader_reads_what_was_written_before_it_came(
    reports: Reports, tmp_path: Path
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path, 0o640)

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path)], [])
        fifos.write(LINE)
        await asyncio.sleep(0.1)
        fifos.write(b"more\n")
        reader = Reader(path)
        await until(lambda: reader.read() == LINE + b"more\n")
        await fifos.finish(10)
        reader.close()

    play(story)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_does_not_fit_waits_and_of_too_much_the_oldest_is_dropped_counted_and_a_failure(
    reports: Reports, tmp_path: Path
) -> None:
    path = tmp_path / "fifo"
    lines = [f'INSTANCE "VI_{number:06}" MASTER 150\n'.encode() for number in range(65536 // 31 + 2 * MOST_LINES)]

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path)], [])
        for count, line in enumerate(lines):
            fifos.write(line)
            if count % 100 == 0:
                await asyncio.sleep(0.005)
        reader = Reader(path)
        await until(lambda: reader.read().endswith(lines[-1]))
        read = reader.text.splitlines(keepends=True)
        assert len(read) + fifos.dropped == len(lines)
        assert fifos.dropped > 0
        kept = iter(lines)
        assert all(line in kept for line in read), "in order"
        [failure] = reports.failing(PART)
        assert failure.reason == f"nobody reads it: {fifos.dropped} lines were dropped; the newest are kept"
        await fifos.finish(10)
        reader.close()

    play(story)


def test_a_line_does_not_go_to_a_fifo_that_was_removed_while_it_was_opened(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened, go, really = tmp_path / "fifo", threading.Event(), threading.Event(), notify_fifo._open

    def slowly(*arguments: Any) -> Any:
        found = really(*arguments)
        opened.set()
        go.wait(60)
        return found

    monkeypatch.setattr(notify_fifo, "_open", slowly)

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path)], [])
        await until(opened.is_set)
        path.unlink()
        fifos.write(LINE)
        go.set()
        await until(path.exists)
        reader = Reader(path)
        await until(lambda: reader.read() == LINE)
        await fifos.finish(10)
        reader.close()

    play(story)


def test_a_fifo_that_somebody_removed_is_made_again(reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "fifo"

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path)], [])
        await until(path.exists)
        path.unlink()
        fifos.write(LINE)
        await until(path.exists)
        reader = Reader(path)
        await until(lambda: reader.read() == LINE)
        await fifos.finish(10)
        reader.close()

    play(story)


def test_what_is_no_fifo_is_a_failure_with_a_hint_until_it_is_removed(reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    path.write_text("mine")

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path)], [])
        fifos.write(LINE)
        await until(lambda: bool(reports.failing(PART)))
        [failure] = reports.failing(PART)
        assert failure.reason == "it is there, and not a FIFO"
        assert failure.hint == f"remove it: rm {path}"
        assert path.read_text() == "mine"
        path.unlink()
        await until(lambda: path.exists() and not reports.failing(PART))
        reader = Reader(path)
        await until(lambda: reader.read() == LINE)
        await fifos.finish(10)
        reader.close()

    play(story)


@pytest.mark.parametrize(
    ("where", "owner", "said"),
    [
        ("missing/fifo", RunAs(), os.strerror(errno.ENOENT).lower()),
        ("fifo", RunAs("nobody-of-this-name"), "its owner is not a user of this machine: nobody-of-this-name"),
        ("fifo", RunAs("root", "nobody-of-this-name"), "its group is not there: nobody-of-this-name"),
    ],
)
def test_a_fifo_that_cannot_be_made_is_a_failure(
    where: str, owner: RunAs, said: str, reports: Reports, tmp_path: Path
) -> None:
    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(tmp_path / where, owner)], [])
        await until(lambda: bool(reports.failing(PART)))
        [failure] = reports.failing(PART)
        assert failure.reason == said
        assert failure.hint
        fifos.configure([], [])
        assert not reports.failing(PART)

    play(story)


def test_the_script_gets_the_path_and_each_line_also_the_last_and_is_started_again(
    reports: Reports, tmp_path: Path
) -> None:
    path, out = tmp_path / "fifo", tmp_path / "out"
    argv = script(
        tmp_path / "reads",
        f'echo "$@" >> {out}\nwhile read -r line; do echo "$line" >> {out}; [ "$line" = end ] && exit 3; done < $2\n',
    )

    def said() -> list[str]:
        return out.read_text().splitlines() if out.exists() else []

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path, script=(*argv, "word"))], [])
        fifos.write(b"end\n")
        await until(lambda: bool(reports.failing(PART)))
        [failure] = reports.failing(PART)
        assert failure.what == f"notify_fifo_script of {path}"
        assert failure.reason == f"{argv[0]} ended (exit status 3); it is started again"
        await until(lambda: len(said()) == 3)
        for _ in range(100):
            fifos.write(LINE)
        await fifos.finish(30)

    play(story)
    assert said() == [f"word {path}", "end", f"word {path}", *[LINE.decode().strip()] * 100]


def test_a_script_that_reads_on_is_ended_at_the_end(reports: Reports, tmp_path: Path) -> None:
    path, out = tmp_path / "fifo", tmp_path / "out"
    argv = script(tmp_path / "reads", f'echo $$ > {out}\nwhile read -r line; do echo "$line" >> {out}; done <> $1\n')

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure([Fifo(path, script=argv)], [])
        fifos.write(LINE)
        await until(lambda: out.exists() and len(out.read_text().splitlines()) == 2)
        await fifos.finish(30)

    play(story)
    assert not Path("/proc", out.read_text().split()[0]).exists()


def test_a_reload_writes_all_states_where_they_are_wanted(reports: Reports, tmp_path: Path) -> None:
    wants, does_not = tmp_path / "wants", tmp_path / "does_not"
    configured = [Fifo(wants, on_reload=True), Fifo(does_not)]

    async def story() -> None:
        fifos = Fifos(reports)
        fifos.configure(configured, [])
        await until(lambda: wants.exists() and does_not.exists())
        inodes = [path.stat().st_ino for path in (wants, does_not)]
        readers = [Reader(path) for path in (wants, does_not)]
        fifos.configure(configured, [LINE])
        fifos.write(b"new\n")
        await until(lambda: all(reader.read().endswith(b"new\n") for reader in readers))
        assert [reader.text for reader in readers] == [LINE + b"new\n", b"new\n"]
        assert [path.stat().st_ino for path in (wants, does_not)] == inodes
        fifos.configure([], [])
        await until(lambda: not wants.exists() and not does_not.exists())
        for reader in readers:
            reader.close()

    play(story)
