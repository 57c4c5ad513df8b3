"""What the host tells of a keepalived: of its processes and of its notify FIFO, whatever becomes of either."""

import asyncio
import fcntl
import functools
import gc
import os
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from floatip.core.events import Failing, Failure, KeepalivedFound, KeepalivedSaid
from floatip.host.ask import Record
from floatip.host.keepalived import Keepalived, Paths, elector, fifo, processes
from floatip.host.keepalived import words as keepalived_words
from floatip.host.workers import Workers
from tests.host.reports import PromptDisk, Reports, remembered, until
from tests.host.users import as_user

T = TypeVar("T")
MASTER, BACKUP, STOP = (f'INSTANCE "VI_1" {state} 150' for state in ("MASTER", "BACKUP", "STOP"))
PATIENCE = 0.1
"""How long nothing must happen."""


class Fake:
    """Two processes of keepalived's name, their pid files, and the FIFO that they have open."""

    def __init__(self, directory: Path) -> None:
        self.paths = Paths(directory / "fifo", (directory / "pid", directory / "vrrp_pid"))
        self.program = shutil.copy(shutil.which("sleep") or "sleep", directory / "keepalived")
        self.processes: list[subprocess.Popen[bytes]] = []
        self._fifo = -1

    def make_fifo(self) -> None:
        with suppress(FileNotFoundError):
            self.paths.fifo.unlink()
        os.mkfifo(self.paths.fifo, 0o600)

    def start(self) -> None:
        self.open_fifo()
        self.processes = [subprocess.Popen([self.program, "600"]) for _ in self.paths.pid_files]
        self.name_processes()

    def name_processes(self) -> None:
        for path, process in zip(self.paths.pid_files, self.processes, strict=True):
            while Path(f"/proc/{process.pid}/comm").read_text() != "keepalived\n":
                time.sleep(0.0005)  # it is still about to be that
            path.write_text(f"{process.pid}\n")

    def open_fifo(self) -> None:
        self.close_fifo()
        if self.paths.fifo.exists():
            self._fifo = os.open(self.paths.fifo, os.O_RDWR | os.O_NONBLOCK)

    def close_fifo(self) -> None:
        if self._fifo >= 0:
            os.close(self._fifo)
        self._fifo = -1

    def say(self, *lines: str) -> None:
        self.write("".join(f"{line}\n" for line in lines).encode())

    def write(self, data: bytes) -> None:
        assert os.write(self._fifo, data) == len(data)

    async def is_read(self) -> None:
        """Nothing waits in the FIFO any more."""
        await until(lambda: fcntl.ioctl(self._fifo, termios.FIONREAD, bytes(4)) == struct.pack("i", 0))

    def fill(self, line: str) -> int:
        """How many times the line went in."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self.say(line)
                count += 1
        return count

    def restart(self, *which: int) -> None:
        self.open_fifo()
        for number in which:
            self.processes[number] = subprocess.Popen([self.program, "600"])
        self.name_processes()

    def kill(self, *which: int) -> None:
        for process in [self.processes[number] for number in which or (0, 1)]:
            process.kill()
            process.wait()
        self.close_fifo()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    fake = Fake(tmp_path)
    fake.make_fifo()
    fake.start()
    yield fake
    fake.kill()


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keepalived.json"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does again and again it does several times within our patience."""
    for module, name in ((processes, "LOOK_INTERVAL"), (fifo, "OPEN_INTERVAL"), (elector, "WRITER_PATIENCE")):
        monkeypatch.setattr(module, name, PATIENCE / 5)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this machine pauses, it is still the moment for which a FIFO may be away, or without a writer."""
    monkeypatch.setattr(fifo, "OPEN_INTERVAL", 600.0)
    monkeypatch.setattr(elector, "WRITER_PATIENCE", 600.0)


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        async def play() -> None:
            async with asyncio.timeout(60):
                await test(**fixtures)

        asyncio.run(play())

    return run


async def follow(fake: Fake, reports: Reports, memory: Path, *instances: str) -> Keepalived:
    follower = Keepalived(reports, await remembered(PromptDisk(reports), memory))
    follower.configure(fake.paths, instances or ("VI_1",))
    await has_looked(follower)
    return follower


async def has_looked(follower: Keepalived) -> None:
    """What is said from now on is no older than its FIFO."""
    await until(lambda: not any(part and part._is_out for part in (follower._fifo, follower._processes)))


async def notified(follower: Keepalived, request: Record, pid: int) -> Record:
    """As the control socket does it."""
    prepared = asyncio.Event()
    follower.look(prepared.set)
    await prepared.wait()
    return follower.notified(request, pid)


def words(reports: Reports) -> list[tuple[str, str, bool]]:
    return [(said.name, said.state, said.is_old) for said in reports.of(KeepalivedSaid)]


async def heard(reports: Reports, *expected: tuple[str, str, bool]) -> None:
    with suppress(TimeoutError):
        await until(lambda: len(words(reports)) >= len(expected), timeout=10)
    assert words(reports) == list(expected), reports.events


def failing(reports: Reports) -> list[list[Failure]]:
    """What fails in this part of the host, whenever that changes."""
    return [sorted(each.failures, key=lambda failure: failure.what) for each in reports.of(Failing)]


async def failure(reports: Reports) -> Failure:
    await until(lambda: any(failing(reports)))
    return next(failures[0] for failures in failing(reports) if failures)


def runs(reports: Reports) -> list[bool]:
    return [found.running for found in reports.of(KeepalivedFound)]


@on_a_loop
async def test_a_keepalived_that_runs_is_found_and_heard(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(MASTER, 'GROUP "VG1" BACKUP 0', 'INSTANCE "VI_1" MASTER_RX_LOWER_PRI 150', 'INSTANCE "VI_1" DELETED 0')
    await heard(
        reports, ("VI_1", "MASTER", False), ("VG1", "BACKUP", False), ("VI_1", "MASTER", False), ("VI_1", "STOP", False)
    )
    assert reports.events[0] == KeepalivedFound(True, f"process {fake.processes[1].pid}")
    assert reports.of(KeepalivedSaid)[1].kind == "GROUP"
    assert not failing(reports)
    follower.close()


@on_a_loop
async def test_of_what_waited_only_the_last_line_of_each_subject_counts_and_is_old(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    fake.say(BACKUP, MASTER, 'INSTANCE "VI_2" MASTER 1', 'GROUP "VI_1" FAULT 0', 'INSTANCE "VI_2" BACKUP 1')
    follower = await follow(fake, reports, memory)
    await heard(reports, ("VI_1", "MASTER", True), ("VI_1", "FAULT", True), ("VI_2", "BACKUP", True))
    assert [said.kind for said in reports.of(KeepalivedSaid)] == ["INSTANCE", "GROUP", "INSTANCE"]
    follower.close()


@on_a_loop
async def test_a_full_fifo_is_emptied_and_what_follows_is_heard(fake: Fake, reports: Reports, memory: Path) -> None:
    count = fake.fill(BACKUP)
    follower = await follow(fake, reports, memory)
    await heard(reports, ("VI_1", "BACKUP", True))
    fake.say(MASTER)
    await heard(reports, ("VI_1", "BACKUP", True), ("VI_1", "MASTER", False))
    print(f"{count} lines waited")
    follower.close()


@on_a_loop
async def test_a_fifo_that_appears_later_is_opened(fake: Fake, reports: Reports, memory: Path) -> None:
    fake.paths.fifo.unlink()
    follower = await follow(fake, reports, memory)
    failed = await failure(reports)
    assert (failed.what, failed.reason) == (f"notify FIFO {fake.paths.fifo}", "no such file or directory")
    assert failed.hint.startswith("let floatip read it: systemctl stop")
    fake.make_fifo()
    fake.open_fifo()
    await asyncio.sleep(0.05)
    fake.say(MASTER)
    await heard(reports, ("VI_1", "MASTER", False))
    follower.close()


@on_a_loop
async def test_a_fifo_made_anew_is_opened_anew_and_nothing_is_forgotten(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(BACKUP)
    await heard(reports, ("VI_1", "BACKUP", False))
    fake.make_fifo()
    fake.say(MASTER)  # is still in the old one when the new one is seen
    fake.open_fifo()
    await heard(reports, ("VI_1", "BACKUP", False), ("VI_1", "MASTER", False))
    await asyncio.sleep(PATIENCE)
    fake.say(STOP)
    await heard(reports, ("VI_1", "BACKUP", False), ("VI_1", "MASTER", False), ("VI_1", "STOP", False))
    assert runs(reports) == [True]
    assert not failing(reports)
    follower.close()


@pytest.mark.usefixtures("unhurried")
@on_a_loop
async def test_a_fifo_that_goes_for_a_moment_is_no_failure_and_one_that_stays_away_is(
    fake: Fake, reports: Reports, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = await follow(fake, reports, memory)
    for _ in range(5):
        fake.paths.fifo.unlink()
        await asyncio.sleep(0.02)
        fake.make_fifo()
        fake.open_fifo()
        await asyncio.sleep(0.02)
    assert not failing(reports)
    monkeypatch.setattr(fifo, "OPEN_INTERVAL", PATIENCE)
    fake.paths.fifo.unlink()
    fake.close_fifo()
    assert "no such file" in (await failure(reports)).reason
    assert runs(reports) == [True]
    follower.close()


@pytest.mark.usefixtures("unhurried")
@on_a_loop
async def test_the_end_of_the_fifo_is_nothing_while_the_process_lives(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    await reports.next(KeepalivedFound)
    fake.close_fifo()
    gc.collect()  # not while we count
    spent = time.thread_time()
    await asyncio.sleep(PATIENCE)
    spent = time.thread_time() - spent
    print(f"{spent * 1000:.1f} ms of CPU in {PATIENCE} s without a writer")
    assert spent < PATIENCE / 2, "it spins"
    assert len(reports.events) == 1
    fake.open_fifo()
    fake.say(MASTER)
    await heard(reports, ("VI_1", "MASTER", False))
    follower.close()


def _regular(path: Path) -> None:
    path.write_text(f"{MASTER}\n")


def _symlink(path: Path) -> None:
    os.mkfifo(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


def _nothing_to_open(path: Path) -> None:
    path.symlink_to(path.name)


NO_FIFOS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a regular file": (_regular, "not a FIFO", "systemctl stop keepalived; rm "),
    "a directory": (Path.mkdir, "not a FIFO", "systemctl stop keepalived; rm "),
    "a symlink": (_symlink, "too many levels of symbolic links", "replace the symbolic link, which is not followed: "),
    "a loop": (_nothing_to_open, "too many levels of symbolic links", "replace the symbolic link"),
}


@pytest.mark.parametrize("kind", NO_FIFOS)
@on_a_loop
async def test_what_is_no_fifo_is_refused_until_there_is_one(
    fake: Fake, reports: Reports, memory: Path, kind: str
) -> None:
    make, reason, hint = NO_FIFOS[kind]
    fake.paths.fifo.unlink()
    make(fake.paths.fifo)
    follower = await follow(fake, reports, memory)
    failed = await failure(reports)
    assert (failed.reason, failed.hint.startswith(hint)) == (reason, True)
    fake.paths.fifo.rmdir() if fake.paths.fifo.is_dir() else fake.paths.fifo.unlink()
    fake.make_fifo()
    fake.open_fifo()
    await asyncio.sleep(0.05)
    fake.say(MASTER)
    await heard(reports, ("VI_1", "MASTER", False))
    assert [len(each) for each in failing(reports)] == [1, 0]
    follower.close()


def test_a_fifo_that_only_root_may_read_is_named_with_a_hint(reports: Reports) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        fake = Fake(Path(directory))
        fake.make_fifo()
        fake.start()

        def story() -> str:
            async def play() -> str:
                follower = await follow(fake, reports, Path(directory) / "state" / "keepalived.json")
                (await reports.next(KeepalivedFound),)
                failed = await failure(reports)
                follower.close()
                return f"{runs(reports)} {failed.reason}; {failed.hint}"

            return asyncio.run(play())

        told = asyncio.run(as_user(story))
        fake.kill()
    assert told.startswith("[True] permission denied; let floatip read it: systemctl stop"), told


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_two_readers_would_share_the_lines_so_the_second_waits(
    fake: Fake, reports: Reports, memory: Path, tmp_path: Path
) -> None:
    first = await follow(fake, reports, memory)
    others = Reports()
    second = await follow(fake, others, tmp_path / "other.json")
    assert (await failure(others)).reason == "another process reads it"
    fake.say(MASTER)
    await heard(reports, ("VI_1", "MASTER", False))
    first.close()
    fake.say(BACKUP)
    await heard(others, ("VI_1", "BACKUP", True))
    second.close()


GARBAGE = {
    "nothing": b"\n\n\n",
    "binary": bytes(range(256)).replace(b"\n", b"") + b"\n",
    "a line of 64 KB": b"x" * 65535 + b"\n",
    "a line of 64 KB that ends well": b"x" * (65535 - len(MASTER)) + MASTER.encode() + b"\n",
    "no state": b'INSTANCE "VI_1"  150\n',
    "no name": b"INSTANCE VI_1 MASTER 150\n",
    "no priority": b'INSTANCE "VI_1" MASTER\n',
    "another state": b'INSTANCE "VI_1" INIT 150\n',
    "another kind": b'VS "[192.0.2.1]:tcp:80" UP\n',
}


@pytest.mark.parametrize("kind", GARBAGE)
@on_a_loop
async def test_garbage_is_passed_over(fake: Fake, reports: Reports, memory: Path, kind: str) -> None:
    follower = await follow(fake, reports, memory)
    await reports.next(KeepalivedFound)
    fake.write(GARBAGE[kind])
    await fake.is_read()
    fake.say(BACKUP)  # the garbage, if it were understood, would be MASTER
    await heard(reports, ("VI_1", "BACKUP", False))
    follower.close()


NAMES = ["a name", 'with "quotes"', '" MASTER 1', "back\\slash", "ünïcode", "x" * 3000]


@on_a_loop
async def test_names_are_whatever_stands_in_the_quotes(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = await follow(fake, reports, memory, *NAMES)
    fake.say(*(f'INSTANCE "{name}" BACKUP 150' for name in NAMES))
    await heard(reports, *((name, "BACKUP", False) for name in NAMES))
    follower.close()


@on_a_loop
async def test_half_a_line_waits_for_its_other_half(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = await follow(fake, reports, memory)
    await reports.next(KeepalivedFound)
    for part in (b"INST", b'ANCE "VI_1" MAS', b"TER 15", b"0"):
        fake.write(part)
        await fake.is_read()
    assert not words(reports)
    fake.write(b"\n")
    await heard(reports, ("VI_1", "MASTER", False))
    follower.close()


def _pid_file(text: str) -> Callable[[Path, int], object]:
    return lambda path, dead: path.write_text(text.format(dead=dead, ourselves=os.getpid()))


PID_FILES: dict[str, tuple[Callable[[Path, int], object], str]] = {
    "none": (lambda path, dead: None, "{path} does not exist"),
    "empty": (_pid_file(""), "{path} names no process"),
    "words": (_pid_file("keepalived"), "{path} names no process"),
    "binary": (lambda path, dead: path.write_bytes(b"\xff\xfe"), "{path} names no process"),
    "huge": (_pid_file("9" * 50), "{path} names no process"),
    "zero": (_pid_file("0"), "{path}: invalid argument"),
    "negative": (_pid_file("-1"), "{path}: invalid argument"),
    "stale": (_pid_file("{dead}"), "process {dead} of {path} has ended"),
    "another program's": (_pid_file("{ourselves}"), "process {ourselves} of {path} is {name} now"),
    "a directory": (lambda path, dead: path.mkdir(), "{path}: is a directory"),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", PID_FILES)
@on_a_loop
async def test_a_pid_file_that_names_no_keepalived_means_that_it_does_not_run(
    fake: Fake, reports: Reports, memory: Path, kind: str
) -> None:
    make, reason = PID_FILES[kind]
    path = fake.paths.pid_files[1]
    fake.kill()
    path.unlink()
    dead = fake.processes[1].pid
    fake.start()
    right, path = path.read_text(), path.rename(path.with_suffix(".kept")) and path
    make(path, dead)
    follower = await follow(fake, reports, memory)
    name = Path("/proc/self/comm").read_text().strip()
    expected = reason.format(path=path, dead=dead, ourselves=os.getpid(), name=name)
    assert reports.events[0] == KeepalivedFound(False, expected)
    fake.say(MASTER)
    await asyncio.sleep(PATIENCE)
    assert len(reports.events) == 1, "words of nobody, and the same reason again, are not told"
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    path.write_text(right)
    assert (await reports.next(KeepalivedFound, 2)).running
    fake.say(BACKUP)
    await heard(reports, ("VI_1", "BACKUP", False))
    follower.close()


@pytest.mark.parametrize("which", [0, 1], ids=["the main process", "the one for VRRP"])
@on_a_loop
async def test_an_end_is_told_at_once_and_after_the_last_words(
    fake: Fake, reports: Reports, memory: Path, which: int
) -> None:
    follower = await follow(fake, reports, memory)
    await reports.next(KeepalivedFound)
    pid = fake.processes[which].pid
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.0005)
    fake.say(STOP)  # so that the end is seen first
    await reports.next(KeepalivedFound, 2)
    print(f"told {(reports.times[-1] - began) * 1000:.2f} ms after the SIGKILL")
    said, found = reports.events[-2:]
    assert said == KeepalivedSaid("INSTANCE", "VI_1", "STOP")
    assert found == KeepalivedFound(False, f"its process {pid} has ended")
    fake.kill()
    follower.close()


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_a_process_that_nobody_reaps_is_no_living_one(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = await follow(fake, reports, memory)
    await reports.next(KeepalivedFound)
    fake.processes[1].kill()
    await reports.next(KeepalivedFound, 2)
    await asyncio.sleep(PATIENCE)
    assert runs(reports) == [True, False]
    follower.close()


@on_a_loop
async def test_one_that_returns_is_found_and_what_the_last_one_said_is_forgotten(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(MASTER)
    await reports.next(KeepalivedSaid)
    fake.kill()
    await reports.next(KeepalivedFound, 2)
    fake.open_fifo()
    fake.say(MASTER)
    await fake.is_read()
    await has_looked(follower)  # where a successor runs already, the line counts as its own
    fake.start()
    found = await reports.next(KeepalivedFound, 3)
    assert found == KeepalivedFound(True, f"process {fake.processes[1].pid}")
    fake.say(BACKUP)
    await heard(reports, ("VI_1", "MASTER", False), ("VI_1", "BACKUP", False))
    follower.close()


@on_a_loop
async def test_a_keepalived_that_is_replaced_while_we_sleep_is_told_anew(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    await reports.next(KeepalivedFound)
    fake.kill()
    fake.start()  # and the loop has not run meanwhile
    await reports.next(KeepalivedFound, 3)
    assert runs(reports) == [True, False, True]
    follower.close()


@pytest.mark.parametrize("which", [(0, 1), (1,)], ids=["keepalived", "its process for VRRP"])
@on_a_loop
async def test_what_a_successor_said_while_we_slept_is_not_taken_for_the_last_words(
    fake: Fake, reports: Reports, memory: Path, which: tuple[int, ...]
) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(MASTER)
    await reports.next(KeepalivedSaid)
    keeps_it_open = os.open(fake.paths.fifo, os.O_WRONLY)
    fake.kill(*which)
    fake.restart(*which)
    fake.say(BACKUP)  # and the loop has not run meanwhile
    await reports.next(KeepalivedSaid, 2)
    found = KeepalivedFound(True, f"process {fake.processes[1].pid}")
    assert runs(reports) == [True, False, True]
    assert [reports.events[-2], words(reports)[-1]] == [found, ("VI_1", "BACKUP", False)]
    os.close(keeps_it_open)
    follower.close()
    again = Reports()
    follower = await follow(fake, again, memory)
    await heard(again, ("VI_1", "BACKUP", True))
    follower.close()


@on_a_loop
async def test_what_was_said_outlives_us_as_something_old(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(BACKUP, 'GROUP "VG1" FAULT 0', MASTER)
    await reports.next(KeepalivedSaid, 3)
    follower.close()
    again = Reports()
    follower = await follow(fake, again, memory)
    assert isinstance(again.events[-1], KeepalivedFound), "when it is found, what it said is known"
    fake.say(BACKUP)
    await heard(again, ("VG1", "FAULT", True), ("VI_1", "MASTER", True), ("VI_1", "BACKUP", False))
    follower.close()


@on_a_loop
async def test_what_was_said_does_not_outlive_the_process_that_said_it(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(MASTER)
    await reports.next(KeepalivedSaid)
    follower.close()
    fake.kill()
    fake.start()
    again = Reports()
    follower = await follow(fake, again, memory)
    await asyncio.sleep(PATIENCE)
    assert again.events == [KeepalivedFound(True, f"process {fake.processes[1].pid}")]
    follower.close()


STATE_FILES = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"7",
    b'{"process": ""}',
    b'{"said": []}',
    b'{"process": "", "said": [[1]]}',
]


@pytest.mark.parametrize("state", STATE_FILES)
@on_a_loop
async def test_a_state_file_that_makes_no_sense_is_a_failure_and_nothing_else(
    fake: Fake, reports: Reports, memory: Path, state: bytes
) -> None:
    memory.parent.mkdir()
    memory.write_bytes(state)
    follower = await follow(fake, reports, memory)
    assert (await failure(reports)).what == f"state file {memory}"
    fake.say(MASTER)
    await heard(reports, ("VI_1", "MASTER", False))
    assert len([failures for failures in failing(reports) if failures]) == 1
    follower.close()


def _no_directory(memory: Path) -> None:
    memory.parent.write_text("")


def _disk_full(memory: Path) -> None:
    memory.parent.mkdir()
    memory.with_suffix(".new").symlink_to("/dev/full")


NO_MEMORY = {"not a directory": _no_directory, "no space left on device": _disk_full}


@pytest.mark.parametrize("reason", NO_MEMORY)
@on_a_loop
async def test_a_state_that_cannot_be_written_is_a_failure_and_nothing_else(
    fake: Fake, reports: Reports, memory: Path, reason: str
) -> None:
    NO_MEMORY[reason](memory)
    follower = await follow(fake, reports, memory)
    fake.say(MASTER)
    await heard(reports, ("VI_1", "MASTER", False))
    assert any(reason in failed.reason.lower() for failures in failing(reports) for failed in failures)
    follower.close()


@on_a_loop
async def test_a_hundred_starts_and_ten_deaths_leave_no_descriptor_open(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what others left open goes now
    before = descriptors()
    follower = await follow(fake, reports, memory)
    while_following = descriptors()
    for number in range(100):  # the kernel takes its time over the end of an inotify
        follower.configure(None)
        follower.configure(fake.paths, ("VI_1",))
        if number % 10 == 0:
            fake.kill()
            await until(lambda: not runs(reports)[-1])  # else it may see one pid, and then the other
            fake.make_fifo()
            fake.start()
            await until(lambda: runs(reports)[-1])
    await until(lambda: descriptors() <= while_following)
    follower.close()
    await until(lambda: descriptors() == before)
    print(f"{before} descriptors before and after, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} KiB at most")


def notify(state: str, **more: str) -> Record:
    return {"cmd": "notify", "state": state, **more}


REFUSALS: list[tuple[Record, str]] = [
    ({"cmd": "notify"}, "a notify request without a state"),
    (notify("INIT"), "a notify request without a state"),
    ({"cmd": "notify", "state": ["MASTER"]}, "a notify request without a state"),
    ({"cmd": "notify", "state": "MASTER", "kind": []}, "a notify request without a state"),
    (notify("MASTER"), "2 instances follow keepalived, and none is named"),
    (notify("MASTER", name="VI_9"), "no instance follows INSTANCE VI_9"),
    (notify("MASTER", name="VG1"), "no instance follows INSTANCE VG1"),
    (notify("MASTER", kind="GROUP", name="VI_1"), "no instance follows GROUP VI_1"),
    (notify("MASTER", kind="COUSIN", name="VI_1"), "no instance follows COUSIN VI_1"),
    ({"cmd": "notify", "state": "MASTER", "name": 7}, "no instance follows INSTANCE 7"),
]


class SlowToLook(Workers):
    """Looks at no process until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0

    def do(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        if isinstance(job, functools.partial) and job.func is processes._open_all:
            self.held += 1
        else:
            super().do(job, done)


@on_a_loop
async def test_what_waits_for_a_look_goes_on_after_a_reload_that_names_other_pid_files(
    fake: Fake, reports: Reports, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOOK_TIMEOUT", 600.0)
    slow = SlowToLook()
    workers: list[Workers] = [slow, Workers()]
    follower = Keepalived(reports, await remembered(PromptDisk(reports), memory), lambda: workers.pop(0))
    follower.configure(fake.paths, ("VI_1",))
    await until(lambda: not follower._fifo or not follower._fifo._is_out)
    fake.say(MASTER)
    await fake.is_read()
    answered = asyncio.Event()
    follower.look(answered.set)
    assert (slow.held, runs(reports), words(reports)) == (1, [], [])
    others = tuple(Path(shutil.copy(file, tmp_path / f"other_{file.name}")) for file in fake.paths.pid_files)
    follower.configure(replace(fake.paths, pid_files=others), ("VI_1",))
    await answered.wait()
    await heard(reports, ("VI_1", "MASTER", False))
    assert runs(reports) == [True]
    follower.close()


@on_a_loop
async def test_who_waits_for_a_look_is_answered_after_a_reload_by_which_nobody_follows_keepalived(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = Keepalived(reports, await remembered(PromptDisk(reports), memory), SlowToLook)
    follower.configure(fake.paths, ("VI_1",))
    answered = asyncio.create_task(notified(follower, {"state": "MASTER"}, os.getpid()))
    await asyncio.sleep(0)
    follower.configure(None)
    assert (await answered)["error"] == "no instance follows keepalived"


@on_a_loop
async def test_a_notify_that_cannot_be_meant_is_refused(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = Keepalived(reports, await remembered(PromptDisk(reports), memory))
    assert (await notified(follower, notify("MASTER"), os.getpid()))["error"] == "no instance follows keepalived"
    follower.configure(fake.paths, ("VI_1", "VI_2"), ("VG1",))
    await has_looked(follower)
    for request, error in REFUSALS:
        answer = await notified(follower, request, os.getpid())
        assert (answer["error"], bool(answer["hint"])) == (error, True)
    assert not words(reports)
    follower.close()


@on_a_loop
async def test_a_notify_is_the_same_as_a_line(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = Keepalived(reports, await remembered(PromptDisk(reports), memory))
    follower.configure(fake.paths, ("VI_1",), ("VG1",))
    await has_looked(follower)
    pid = fake.processes[1].pid  # any that is no older than keepalived
    assert await notified(follower, notify("MASTER"), pid) == {"heard": "INSTANCE VI_1 MASTER"}
    assert await notified(follower, notify("FAULT", kind="GROUP", name="VG1"), pid) == {"heard": "GROUP VG1 FAULT"}
    assert words(reports) == [("VI_1", "MASTER", False), ("VG1", "FAULT", False)]
    follower.close()


@on_a_loop
async def test_of_two_notifies_at_once_the_one_that_began_last_counts(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    earlier, later = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    await notified(follower, notify("BACKUP"), later.pid)
    answer = await notified(follower, notify("MASTER"), earlier.pid)
    why = f"a notify that was started later (pid {later.pid}) said BACKUP"
    assert answer["error"] == f"INSTANCE VI_1 MASTER is out of date: {why}"
    await notified(follower, notify("FAULT"), later.pid)
    assert words(reports) == [("VI_1", "BACKUP", False), ("VI_1", "FAULT", False)]
    for process in (earlier, later):
        process.kill()
        process.wait()
    follower.close()


@on_a_loop
async def test_a_notify_from_before_keepalived_began_is_no_news_of_it(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    late = subprocess.Popen(["sleep", "60"])
    follower = await follow(fake, reports, memory)
    fake.kill()
    await reports.next(KeepalivedFound, 2)
    answer = await notified(follower, notify("MASTER"), late.pid)
    assert str(answer["error"]).startswith("keepalived does not run: ")
    assert "heard" in await notified(follower, notify("STOP"), late.pid), "it is stopped, and that is what is said"
    await asyncio.sleep(0.02)  # the kernel counts in hundredths
    fake.start()
    answer = await notified(follower, notify("MASTER"), late.pid)
    why = f"its sender (pid {late.pid}) was started before the keepalived that runs now"
    assert answer["error"] == f"INSTANCE VI_1 MASTER is out of date: {why}"
    assert answer["hint"]
    assert not words(reports)
    late.kill()
    late.wait()
    follower.close()


@pytest.mark.parametrize("name", [b"\xff\xfe", b") R 1 1", b"a\nb"])
@on_a_loop
async def test_whoever_notifies_may_be_called_anything(
    fake: Fake, reports: Reports, memory: Path, tmp_path: Path, name: bytes
) -> None:
    follower = await follow(fake, reports, memory)
    program = tmp_path / os.fsdecode(name)
    shutil.copy(shutil.which("sleep") or "sleep", program)
    process = subprocess.Popen([program, "60"])
    await notified(follower, notify("MASTER"), process.pid)
    assert words(reports) == [("VI_1", "MASTER", False)]
    process.kill()
    process.wait()
    follower.close()


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_a_keepalived_that_does_not_have_the_fifo_open_is_a_failure_until_it_has(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    fake.close_fifo()
    follower = await follow(fake, reports, memory)
    failed = await failure(reports)
    assert failed.reason == "keepalived does not have it open, so what it says is not heard"
    assert failed.hint.startswith("keepalived.conf: vrrp_notify_fifo ")
    fake.open_fifo()
    await until(lambda: failing(reports)[-1] == [])
    await asyncio.sleep(PATIENCE)
    assert len(failing(reports)) == 2
    follower.close()


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_a_fifo_made_anew_that_keepalived_does_not_open_is_a_failure(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(MASTER)
    await reports.next(KeepalivedSaid)
    fake.make_fifo()  # keepalived writes to the one before
    assert (await failure(reports)).reason.startswith("keepalived does not have it open")
    follower.close()


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_who_is_told_by_notify_needs_no_fifo(fake: Fake, reports: Reports, memory: Path) -> None:
    fake.close_fifo()
    follower = await follow(fake, reports, memory)
    await failure(reports)
    assert "heard" in await notified(follower, {"state": "MASTER"}, 0)
    await until(lambda: failing(reports)[-1] == [])
    follower.close()
    again = Reports()
    follower = await follow(fake, again, memory)
    await asyncio.sleep(PATIENCE)
    assert failing(again) == []
    follower.close()


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_a_word_by_notify_ends_the_doubt_about_the_fifo_at_once(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    fake.close_fifo()
    follower = await follow(fake, reports, memory)
    assert (await failure(reports)).reason.startswith("keepalived does not have it open")
    assert "heard" in await notified(follower, {"state": "MASTER"}, 0)
    assert failing(reports)[-1] == []
    follower.close()


@on_a_loop
async def test_a_change_of_priority_is_no_change_of_state(fake: Fake, reports: Reports, memory: Path) -> None:
    follower = await follow(fake, reports, memory)
    fake.say('INSTANCE "VI_1" FAULT 100', 'INSTANCE "VI_1" BACKUP_PRIORITY 80', 'INSTANCE "VI_1" MASTER_PRIORITY 80')
    fake.say(STOP)
    await heard(reports, ("VI_1", "FAULT", False), ("VI_1", "STOP", False))
    follower.close()


@on_a_loop
async def test_a_mastership_goes_on_from_when_it_began_and_one_from_the_backlog_begins_now(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    began = asyncio.get_running_loop().time()
    fake.say(MASTER)
    await reports.next(KeepalivedSaid)
    heard_by = asyncio.get_running_loop().time()
    fake.say('INSTANCE "VI_1" MASTER_RX_LOWER_PRI 150')
    await reports.next(KeepalivedSaid, 2)
    follower.close()
    again = Reports()
    follower = await follow(fake, again, memory)
    recalled = (await again.next(KeepalivedSaid)).at
    assert recalled is not None
    assert began <= recalled <= heard_by
    follower.close()
    fake.say(BACKUP, MASTER)
    last = Reports()
    stopped = asyncio.get_running_loop().time()
    follower = await follow(fake, last, memory)
    at = (await last.next(KeepalivedSaid, 2)).at
    assert at is not None
    assert at >= stopped
    follower.close()


@pytest.mark.usefixtures("hasty")
@on_a_loop
async def test_a_process_of_another_user_is_no_keepalived(fake: Fake, reports: Reports, memory: Path) -> None:
    fake.kill()
    with tempfile.TemporaryDirectory() as directory:  # pytest's are closed to other users
        os.chmod(directory, 0o755)
        program = shutil.copy(fake.program, directory)
        fake.processes = [subprocess.Popen([program, "600"], user=4711) for _ in fake.paths.pid_files]
    fake.name_processes()
    follower = await follow(fake, reports, memory)
    await asyncio.sleep(PATIENCE)
    process, pid_file = fake.processes[0], fake.paths.pid_files[0]
    assert reports.events == [KeepalivedFound(False, f"process {process.pid} of {pid_file} is somebody else's now")]
    follower.close()


@on_a_loop
async def test_when_keepalived_began_is_told(fake: Fake, reports: Reports, memory: Path) -> None:
    fake.kill()
    before = asyncio.get_running_loop().time()
    fake.start()
    follower = await follow(fake, reports, memory)
    since = (await reports.next(KeepalivedFound)).since
    assert since is not None
    assert before - 0.02 <= since <= asyncio.get_running_loop().time(), "the kernel counts in hundredths"
    follower.close()


@on_a_loop
async def test_of_more_names_than_can_be_meant_only_some_are_remembered(
    fake: Fake, reports: Reports, memory: Path
) -> None:
    follower = await follow(fake, reports, memory)
    fake.say(MASTER)
    count = 4 * keepalived_words.MOST_SUBJECTS
    for number in range(count):
        fake.say(f'INSTANCE "other {number}" BACKUP 1')
        await fake.is_read()
    await reports.next(KeepalivedSaid, count + 1)
    follower.close()
    again = Reports()
    follower = await follow(fake, again, memory)
    remembered = words(again)
    assert len(remembered) == keepalived_words.MOST_SUBJECTS
    assert remembered[0] == ("VI_1", "MASTER", True), "the one that is followed is forgotten last"
    assert remembered[-1] == (f"other {count - 1}", "BACKUP", True)
    follower.close()
