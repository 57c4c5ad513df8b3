import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from floatip.core.events import Failing, Failure
from floatip.host import disk as disk_module
from floatip.host.disk import BOOT_ID, Disk, Memory
from tests.host.reports import Reports, remembered, until


class Hanging:
    """A job that lasts as long as it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.done = False

    def __call__(self) -> str:
        assert self.go_on.wait(60)
        self.done = True
        return ""


def play(story: Callable[[Disk], Awaitable[None]], reports: Reports) -> None:
    async def run() -> None:
        disk = Disk(reports)
        async with asyncio.timeout(60):
            await story(disk)
        disk.close()

    asyncio.run(run())


def test_a_disk_that_hangs_holds_up_nothing_and_is_told(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_module, "PATIENCE", 0.1)

    async def story(disk: Disk) -> None:
        hanging, done = Hanging(), list[int]()
        disk.do("state file held", hanging)
        for number in range(3):
            disk.do("another", lambda number=number: done.append(number) or "")  # type: ignore[misc]
        assert not hanging.done
        await until(lambda: len(reports.failing("disk")) == 2)
        assert {failure.reason for failure in reports.failing("disk")} == {
            "not written after 0.1 s: does the disk hang?"
        }
        await disk.finish(0.1)
        assert not hanging.done
        hanging.go_on.set()
        await disk.finish(60)
        assert hanging.done
        assert done == [0, 1, 2]
        assert reports.failing("disk") == set()

    play(story, reports)


def test_a_success_mends_nothing_while_a_later_job_of_the_same_thing_hangs(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "PATIENCE", 0.1)

    async def story(disk: Disk) -> None:
        first, second = Hanging(), Hanging()
        over = [disk.do("state file held", job) for job in (first, second)]
        await until(lambda: len(reports.failing("disk")) == 1)
        await asyncio.sleep(0.1)  # the patience with the second one is over too
        first.go_on.set()
        assert await over[0]
        assert len(reports.failing("disk")) == 1
        second.go_on.set()
        assert await over[1]
        assert reports.failing("disk") == set()

    play(story, reports)


def test_what_waits_for_a_disk_that_hangs_is_bounded(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_module, "LIMIT", 3)

    async def story(disk: Disk) -> None:
        hanging, written = Hanging(), list[int]()
        disk.do("first", hanging)
        for number in range(5):
            disk.do("log", lambda number=number: written.append(number) or "")  # type: ignore[misc]
        failure = Failure("log", "not written: 3 entries wait already, the disk hangs")
        assert reports.events == [Failing("disk", frozenset({failure}))]
        hanging.go_on.set()
        await disk.finish(60)
        assert written == [0, 1]

    play(story, reports)


def test_a_failure_is_told_when_it_begins_changes_and_ends(reports: Reports) -> None:
    answers = iter(["no", "no", "never", "", ""])

    async def story(disk: Disk) -> None:
        for _ in range(5):
            await disk.do("it", lambda: next(answers))
        levels = [{Failure("it", "no")}, {Failure("it", "never")}, set[Failure]()]
        assert reports.events == [Failing("disk", frozenset(level)) for level in levels]

    play(story, reports)


def test_the_end_of_the_process_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    program = f"""
import asyncio
from pathlib import Path
from floatip.host.disk import Disk

async def story():
    disk = Disk(print)
    disk.do("it", Path("{tmp_path}/fifo").read_text)  # until somebody writes: never
    await disk.finish(0.05)
    disk.close()

asyncio.run(story())
"""
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60).stdout == b""


def recalled(memory: Memory) -> object:
    return memory.recall(lambda state: state["x"])


def test_what_was_remembered_is_recalled_by_a_successor_and_before_it_is_written(
    reports: Reports, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "x.json"

    async def story(disk: Disk) -> None:
        memory, hanging = Memory(disk, path), Hanging()
        assert recalled(memory) is None
        disk.do("first", hanging)
        written = memory.remember({"x": [1]})
        assert recalled(memory) == [1]
        assert not path.exists()
        hanging.go_on.set()
        await written
        assert recalled(await remembered(disk, path)) == [1]
        assert os.listdir(path.parent) == [path.name]
        assert reports.events == []

    play(story, reports)


def test_a_daemon_begins_without_what_a_disk_that_hangs_remembers_and_says_so(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"

    async def story(disk: Disk) -> None:
        await Memory(disk, path).remember({"x": 1})
        monkeypatch.setattr(disk_module, "PATIENCE", 0.1)
        hanging = Hanging()
        disk.do("first", hanging)
        memory = await remembered(disk, path)
        assert recalled(memory) is None
        failure = Failure(f"state file {path}", "not read after 0.1 s: does the disk hang?")
        await until(lambda: failure in reports.failing("disk"))
        memory.remember({"x": 2})
        hanging.go_on.set()
        await disk.finish(60)
        assert recalled(memory) == 2, "what is new counts, whatever is read in the end"
        assert reports.failing("disk") == set()

    play(story, reports)


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"boot": "BOOT"}', "\ud8ff", "[" * 100_000, " " * (5 << 20)])
def test_nonsense_is_told_and_mended_by_the_next_write(content: str, reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.replace("BOOT", BOOT_ID.read_text().strip()).encode(errors="surrogatepass"))

    async def story(disk: Disk) -> None:
        memory = await remembered(disk, path)
        assert recalled(memory) is None
        (failure,) = reports.failing("disk")
        assert failure.what == f"state file {path}"
        assert failure.reason.startswith("not understood, so ignored: ")
        await memory.remember({"x": 1})
        assert reports.failing("disk") == set()

    play(story, reports)


def test_a_fifo_in_the_place_of_the_state_is_not_waited_for(reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    os.mkfifo(path)

    async def story(disk: Disk) -> None:
        assert recalled(await remembered(disk, path)) is None
        assert {failure.reason for failure in reports.failing("disk")} == {
            "not understood, so ignored: it is not a regular file"
        }

    writer = threading.Timer(10, lambda: os.close(os.open(path, os.O_RDWR)))
    writer.start()
    play(story, reports)
    assert writer.is_alive(), "it waited for a writer"
    writer.cancel()


def test_what_is_of_another_boot_is_forgotten(reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"boot": "another", "x": 1}))

    async def story(disk: Disk) -> None:
        assert recalled(await remembered(disk, path)) is None
        assert reports.events == []

    play(story, reports)


def test_states_that_wait_for_a_disk_that_hangs_are_written_as_one_the_latest(reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "x.json"

    async def story(disk: Disk) -> None:
        memory, hanging = Memory(disk, path), Hanging()
        disk.do("first", hanging)
        writes = {memory.remember({"x": number}) for number in range(10)}
        assert len(writes) == 1
        hanging.go_on.set()
        await writes.pop()
        assert recalled(await remembered(disk, path)) == 9
        await memory.remember({"x": 10})
        assert recalled(await remembered(disk, path)) == 10

    play(story, reports)


def test_what_could_not_be_written_is_tried_again(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "RETRY_INTERVAL", 0.05)
    (tmp_path / "state").touch()

    async def story(disk: Disk) -> None:
        memory = Memory(disk, tmp_path / "state" / "x.json")
        await memory.remember({"x": 1})
        await until(lambda: bool(reports.failing("disk")))
        (tmp_path / "state").unlink()
        await until(lambda: not reports.failing("disk"))
        assert recalled(await remembered(disk, tmp_path / "state" / "x.json")) == 1
        number = len(reports.events)
        await asyncio.sleep(0.2)
        assert len(reports.events) == number

    play(story, reports)


def test_what_nobody_asks_for_any_more_does_not_fail(reports: Reports) -> None:
    async def story(disk: Disk) -> None:
        await disk.do("it", lambda: "no")
        disk.forget("it")
        assert reports.failing("disk") == set()

    play(story, reports)


def test_a_system_that_can_start_no_thread_is_a_failure_until_it_can(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story(disk: Disk) -> None:
        with monkeypatch.context() as without:
            without.setattr(threading.Thread, "start", start)
            await disk.do("it", lambda: "")
        assert {failure.reason for failure in reports.failing("disk")} == {"resource temporarily unavailable"}
        await disk.do("it", lambda: "")
        assert reports.failing("disk") == set()

    play(story, reports)


def test_a_bug_in_a_job_is_the_loops(reports: Reports) -> None:
    def bug() -> str:
        raise ValueError("a bug")

    async def story(disk: Disk) -> None:
        met: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: met.append(context["exception"]))
        disk.do("it", bug)
        await until(lambda: bool(met))
        assert str(met[0]) == "a bug"

    play(story, reports)
