"""Real processes, started and ended here; each bears a name of its own, so that strangers do not matter."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from floatip.core.events import CheckDone
from floatip.host.checks import Probes
from floatip.host.checks import process as process_check
from floatip.model import Process
from tests.host.reports import Reports, until

NAME = f"fltp{os.getpid()}"


class Servant:
    """A process that does nothing, under a name."""

    def __init__(self, directory: Path, name: str = NAME) -> None:
        program = directory / name
        if not program.exists():
            shutil.copy("/bin/sleep", program)
        self.child = subprocess.Popen([program, "600"])
        self.pid = self.child.pid
        # Until it has executed, it bears our own name.
        while Path(f"/proc/{self.pid}/comm").read_text() != f"{name}\n":
            time.sleep(0.001)

    def end(self) -> None:
        self.child.kill()
        self.child.wait()


Start = Callable[[], Servant]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servants: list[Servant] = []

    def one() -> Servant:
        servants.append(Servant(tmp_path))
        return servants[-1]

    yield one
    for servant in servants:
        servant.end()


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_check, "LOOK_AGAIN_INTERVAL", 0.05)


def play(reports: Reports, kind: Process, story: Callable[[Probes], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        probes = Probes(reports)
        probes.configure({"haproxy": kind})
        try:
            await reports.next(CheckDone)
            await story(probes)
        finally:
            probes.close()

    asyncio.run(whole())


def last(reports: Reports) -> tuple[bool, str]:
    answer = reports.of(CheckDone)[-1]
    assert (answer.check, answer.run) == ("haproxy", 0)
    return answer.passed, answer.reason


def test_an_end_is_told_within_milliseconds_and_a_start_within_half_a_second(reports: Reports, start: Start) -> None:
    ends, starts = [], []

    async def story(_: Probes) -> None:
        assert last(reports) == (False, f"no process is named {NAME}")
        for number in range(5):
            servant = start()
            began = time.monotonic()
            assert (await reports.next(CheckDone, 2 * number + 2)).reason == f"{NAME} runs (pid {servant.pid})"
            starts.append(reports.times[-1] - began)
            began = time.monotonic()
            os.kill(servant.pid, signal.SIGKILL)
            assert (await reports.next(CheckDone, 2 * number + 3)).reason == f"no process is named {NAME}"
            ends.append(reports.times[-1] - began)
            servant.end()

    play(reports, Process(NAME), story)
    print(f"SIGKILL to the verdict: median {statistics.median(ends) * 1e3:.1f} ms, worst {max(ends) * 1e3:.1f} ms")
    print(f"start to the verdict: median {statistics.median(starts) * 1e3:.0f} ms")
    assert statistics.median(ends) < 0.1
    assert statistics.median(starts) < 2


@pytest.mark.usefixtures("looks_often")
def test_it_is_up_while_one_of_them_lives_and_a_zombie_does_not_count(reports: Reports, start: Start) -> None:
    first, second = start(), start()

    async def story(_: Probes) -> None:
        assert last(reports) == (True, f"{NAME} runs (pid {first.pid})")
        second.child.kill()
        await until(lambda: ") Z " in Path(f"/proc/{second.pid}/stat").read_text())
        first.child.kill()
        assert not (await reports.next(CheckDone, 2)).passed
        assert Path(f"/proc/{first.pid}/comm").read_text() == f"{NAME}\n", "not a zombie"
        await asyncio.sleep(0.2)
        assert len(reports.events) == 2

    play(reports, Process(NAME), story)


def test_a_successor_that_is_there_already_is_never_a_gap(reports: Reports, start: Start) -> None:
    servants = [start()]

    async def story(_: Probes) -> None:
        for _round in range(20):
            servants.append(start())
            servants[-2].end()
            await until(lambda: last(reports)[1] == f"{NAME} runs (pid {servants[-1].pid})")

    play(reports, Process(NAME), story)
    assert all(answer.passed for answer in reports.of(CheckDone))


def test_a_pid_file_is_followed_to_the_process_that_it_names(reports: Reports, start: Start, tmp_path: Path) -> None:
    file = tmp_path / "haproxy.pid"

    async def story(_: Probes) -> None:
        assert last(reports) == (False, f"{file} does not exist")
        for text in ("", "\n", "haproxy\n", "-1\n", "0\n", "9" * 5000, "²\n"):
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").rename(file)
            await until(lambda: last(reports) == (False, f"{file} names no process"))
            file.unlink()
            await until(lambda: last(reports) == (False, f"{file} does not exist"))
        old = start()
        file.write_text(f"{old.pid}\nand more\n")
        await until(lambda: last(reports) == (True, f"pid {old.pid} of {file} runs"))
        new = start()
        file.write_text(f"{new.pid}\n")
        await until(lambda: last(reports) == (True, f"pid {new.pid} of {file} runs"))
        # As long as the process lives, a file that says nothing of use is being written.
        file.write_text("")
        file.unlink()
        old.end()
        await asyncio.sleep(0.1)
        assert last(reports) == (True, f"pid {new.pid} of {file} runs")
        file.write_text(f"{new.pid}\n")
        await asyncio.sleep(0.1)
        began = time.monotonic()
        new.child.kill()
        await until(lambda: last(reports) == (False, f"pid {new.pid} of {file} has ended"))
        print(f"SIGKILL to the verdict: {(reports.times[-1] - began) * 1e3:.1f} ms")
        file.unlink()
        await until(lambda: last(reports) == (False, f"{file} does not exist"))

    play(reports, Process(str(file)), story)


@pytest.mark.usefixtures("looks_often")
def test_a_pid_that_is_another_processs_by_now_does_not_count(
    reports: Reports, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, servant, another = tmp_path / "haproxy.pid", start(), start()
    file.write_text(f"{servant.pid}\n")

    async def story(probes: Probes) -> None:
        assert last(reports)[0]
        servant.end()
        await until(lambda: last(reports) == (False, f"pid {servant.pid} of {file} has ended"))
        # The kernel gives the pid out again, sooner than it ever would.
        pidfd_open = os.pidfd_open
        monkeypatch.setattr(os, "pidfd_open", lambda pid: pidfd_open(another.pid if pid == servant.pid else pid))
        probes.configure({"haproxy": Process(str(file))})
        await asyncio.sleep(0.2)
        assert not last(reports)[0], "believed a stale file"
        file.write_text(f"{servant.pid}\n")
        await until(lambda: last(reports)[0])

    play(reports, Process(str(file)), story)


@pytest.mark.parametrize("kind", ["FIFO", "directory", "loop"])
def test_what_is_no_pid_file_is_down_and_holds_up_nothing(kind: str, reports: Reports, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.pid"
    make: dict[str, Callable[[], None]] = {
        "FIFO": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "loop": lambda: path.symlink_to(path),
    }
    make[kind]()

    async def story(_: Probes) -> None:
        assert not last(reports)[0]
        assert last(reports)[1].startswith(f"{path} names no" if kind == "FIFO" else f"cannot look at {path}: ")

    play(reports, Process(str(path)), story)


def test_five_hundred_processes_leave_no_descriptor_behind(reports: Reports, tmp_path: Path) -> None:
    file, ends = tmp_path / "pid", []
    before = len(os.listdir("/proc/self/fd"))

    async def story(_: Probes) -> None:
        for number in range(500):
            child = subprocess.Popen(["/bin/sleep", "600"])
            file.write_text(f"{child.pid}\n")
            await reports.next(CheckDone, 2 * number + 2)
            began = time.monotonic()
            child.kill()
            await reports.next(CheckDone, 2 * number + 3)
            ends.append(reports.times[-1] - began)
            child.wait()
            assert len(os.listdir("/proc/self/fd")) < before + 10

    play(reports, Process(str(file)), story)
    print(f"500 ends: median {statistics.median(ends) * 1e3:.2f} ms, worst {max(ends) * 1e3:.1f} ms")
    assert [answer.passed for answer in reports.of(CheckDone)] == [False] + [True, False] * 500
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("by", ["name", "pid file"])
def test_without_descriptors_it_is_down_with_the_reason_and_gets_well_again(
    by: str, reports: Reports, start: Start, tmp_path: Path
) -> None:
    file, limits = tmp_path / "pid", resource.getrlimit(resource.RLIMIT_NOFILE)
    looked_at, process = ("/proc", NAME) if by == "name" else (file, str(file))

    async def story(_: Probes) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), limits[1]))
        fillers = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            await until(lambda: last(reports) == (False, f"cannot look at {looked_at}: too many open files"))
        finally:
            for filler in fillers:
                os.close(filler)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        file.write_text(f"{start().pid}\n")
        await until(lambda: last(reports)[0])

    play(reports, Process(process), story)


WATCHER = """
import asyncio, os, sys
from floatip.host.checks import Probes
from floatip.model import Process
os.setgroups([]), os.setgid(65534), os.setuid(65534)  # who may not read a checkout of root's
async def look():
    told = asyncio.get_running_loop().create_future()
    Probes(told.set_result).configure({"chk": Process(sys.argv[1])})
    answer = await told
    print((answer.passed, answer.reason))
asyncio.run(look())
"""


@pytest.mark.parametrize("hidepid", ["0", "1", "2"])
def test_a_proc_that_hides_the_processes_of_others_is_the_reason(hidepid: str, start: Start) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test mounts /proc in a namespace of its own and needs root: sudo make test")
    servant = start()
    program = f"""
        mount -t proc -o hidepid={hidepid} proc /proc
        mount -t tmpfs tmpfs /mnt
        echo {servant.pid} > /mnt/pid
        exec "$@"
    """

    def seen(process: str) -> str:
        watcher = [sys.executable, "-c", WATCHER, process]
        command = ["unshare", "--mount", "sh", "-e", "-c", program, "sh", *watcher]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    hidden = (False, f"no process named {NAME} can be seen: /proc hides those of other users (hidepid)")
    assert seen(NAME) == str((True, f"{NAME} runs (pid {servant.pid})") if hidepid == "0" else hidden)
    assert seen("/mnt/pid") == str((True, f"pid {servant.pid} of /mnt/pid runs"))


HAPROXY = """
global
    stats socket {directory}/stats
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
frontend web
    bind unix@{directory}/web
    http-request return status 200
"""


class HAProxy:
    """As Debian's unit runs it, master and worker, under a name of its own."""

    def __init__(self, directory: Path) -> None:
        if not (installed := shutil.which("haproxy")):
            pytest.fail("this test needs haproxy: sudo apt-get install haproxy")
        program, self._config = directory / f"hap{os.getpid()}", directory / "haproxy.cfg"
        self.name, self.pid_file = program.name, directory / "haproxy.pid"
        shutil.copy(installed, program)
        self._config.write_text(HAPROXY.format(directory=directory))
        self._master_socket = directory / "master"
        command: list[str | Path] = [program, "-W", "-q", "-f", self._config, "-p", self.pid_file]
        command += ["-S", f"unix@{self._master_socket}"]
        self.master = subprocess.Popen(command)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    async def is_ready(self, reloads: int) -> None:
        """The master says so itself, so it hears signals again, and the worker before has gone."""
        async with asyncio.timeout(60):
            while await asyncio.to_thread(self._reloads) != reloads:
                await asyncio.sleep(0.005)
        await until(lambda: self.pid_file.exists() and len(self.workers()) == 1)

    def _reloads(self) -> int | None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self._master_socket))
            client.sendall(b"show proc\n")
            with client.makefile() as lines:
                return next((int(words[2]) for line in lines if (words := line.split())[1:2] == ["master"]), None)
        return None

    def end(self) -> None:
        for pid in self.workers() if self.master.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        self.master.kill()
        self.master.wait()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[HAProxy]:
    it = HAProxy(tmp_path)
    yield it
    it.end()


@pytest.mark.parametrize("by", ["name", "pid file"])
@pytest.mark.parametrize("victim", ["master", "worker"])
def test_haproxy_is_up_through_reloads_and_down_when_it_dies(
    by: str, victim: str, haproxy: HAProxy, reports: Reports
) -> None:
    async def story(_: Probes) -> None:
        await until(lambda: last(reports)[0])
        await haproxy.is_ready(0)
        before = len(reports.events)
        for number in range(1, 11):
            [worker] = haproxy.workers()
            haproxy.master.send_signal(signal.SIGUSR2)
            await until(lambda worker=worker: worker not in haproxy.workers() != [])  # type: ignore[misc]
            await haproxy.is_ready(number)
        assert all(answer.passed for answer in reports.of(CheckDone)[before:]), "down during a reload"
        assert last(reports)[0]
        killed = haproxy.master.pid if victim == "master" else haproxy.workers()[0]
        began = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: not last(reports)[0])
        took = (reports.times[-1] - began) * 1e3
        print(f"by {by}, SIGKILL to the {victim}: {took:.1f} ms, {last(reports)[1]}")

    play(reports, Process(haproxy.name if by == "name" else str(haproxy.pid_file)), story)


@pytest.mark.parametrize("where", ["here", "in a network namespace"])
def test_a_quorum_counts_the_processes_of_a_name(
    where: str, reports: Reports, start: Start, request: pytest.FixtureRequest
) -> None:
    """In another network namespace the kernel tells nobody what starts."""
    if where != "here":
        request.getfixturevalue("namespace")
    kind = Process(NAME, quorum=2, quorum_max=3)

    async def story(_: Probes) -> None:
        are, servants = f"named {NAME}, and it must be at least 2, at most 3", []
        assert last(reports) == (False, f"0 processes are {are}")
        for count in range(1, 5):
            servants.append(start())
            verdict = 2 <= count <= 3, f"{count} process{' is' if count == 1 else 'es are'} {are}"
            await until(lambda verdict=verdict: last(reports) == verdict)  # type: ignore[misc]
        for count in (3, 2, 1):
            servants.pop(0).end()
            verdict = count >= 2, f"{count} process{' is' if count == 1 else 'es are'} {are}"
            await until(lambda verdict=verdict: last(reports) == verdict)  # type: ignore[misc]

    play(reports, kind, story)


def test_a_process_that_must_not_run_is_down_while_it_does(reports: Reports, start: Start) -> None:
    async def story(_: Probes) -> None:
        assert last(reports) == (True, f"no processes are named {NAME}")
        servant = start()
        await until(lambda: last(reports) == (False, f"1 process is named {NAME}"))
        servant.end()
        await until(lambda: last(reports)[0])

    play(reports, Process(NAME, quorum_max=0), story)


def test_where_the_kernel_tells_what_starts_nobody_looks_by_time(
    reports: Reports, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(probes: Probes) -> None:
        started = probes._means.started
        try:
            await until(lambda: started.tells, timeout=5)
        except TimeoutError:
            pytest.fail("this test needs the first network and pid namespace of the machine, and CAP_NET_ADMIN")
        # From now on the clock would let it wait for a day.
        monkeypatch.setattr(process_check, "LOOK_AGAIN_INTERVAL", 86400.0)
        monkeypatch.setattr(process_check, "REST_INTERVAL", 86400.0)
        runner: Any = probes._runners["haproxy"]
        runner._look()
        await until(lambda: runner._timer.when() > time.monotonic() + 80000)
        took = []
        for number in range(10):
            servant = start()
            began = time.monotonic()
            assert (await reports.next(CheckDone, 2 * number + 2)).passed
            took.append(reports.times[-1] - began)
            assert started._socket is None, "while it runs nobody needs to know what starts"
            servant.end()
            await reports.next(CheckDone, 2 * number + 3)
            await until(lambda: started.tells)
        print(f"start to the verdict: median {statistics.median(took) * 1e3:.1f} ms, worst {max(took) * 1e3:.1f} ms")
        assert statistics.median(took) < 0.2

    play(reports, Process(NAME), story)


@pytest.mark.parametrize(
    ("command", "match", "fits"),
    [
        (("/usr/bin/x", "-a", "one"), "exact", True),
        (("x", "-a", "one"), "exact", True),
        (("/bin/x", "-a", "one"), "exact", False),
        (("x", "-a"), "exact", False),
        (("x",), "exact", False),
        (("x", "-a"), "partial", True),
        (("x",), "partial", True),
        (("x", "-b"), "partial", False),
        (("x", "-a", "on"), "partial", False),
        (("x", "-a", "on"), "initial", True),
        (("x", "-a", "one", ""), "initial", False),
        (("x", "-", "one"), "initial", False),
        (("x",), "initial", True),
    ],
)
def test_a_command_line_is_compared_word_by_word(command: tuple[str, ...], match: Any, fits: bool) -> None:
    kind = Process("x", command=command, param_match=match)
    assert process_check.fits(b"/usr/bin/x\0-a\0one\0", kind) is fits


def test_a_process_is_found_by_its_command_line_whatever_its_name_is(reports: Reports, start: Start) -> None:
    kind = Process("any name", command=(NAME, "60"), param_match="initial")

    async def story(_: Probes) -> None:
        assert last(reports) == (False, "no process is named any name")
        servant = start()
        await until(lambda: last(reports) == (True, f"any name runs (pid {servant.pid})"))
        servant.end()
        await until(lambda: not last(reports)[0])

    play(reports, kind, story)
