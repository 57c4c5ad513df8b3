"""What the machine refuses, or does not answer, is a failed check or a failure, and never ends the daemon."""

import asyncio
import builtins
import contextlib
import ctypes
import errno
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floatip.core.events import CheckDone, Failing, KeepalivedFound, Probe
from floatip.core.problems import Code
from floatip.host import child, inotify, spawn
from floatip.host.checks import Probes, kind
from floatip.host.checks import process as process_check
from floatip.host.disk import Memory
from floatip.host.hooks import Hooks, RoleChange
from floatip.host.keepalived import Keepalived, Paths, fifo, processes
from floatip.model import File, Kind, Process, Script, Tcp
from tests.host.reports import PromptDisk, Reports, close, until

ERRORS = (errno.EMFILE, errno.EAFNOSUPPORT, errno.ENOSPC)


class Libc:
    """The C library, of which one function fails."""

    def __init__(self, function: str, code: int) -> None:
        self._function = function
        self._code = code
        self._real = ctypes.CDLL(None, use_errno=True)

    def __getattr__(self, name: str) -> Any:
        if name != self._function:
            return getattr(self._real, name)

        def fail(*arguments: object) -> int:
            ctypes.set_errno(self._code)
            return self._code if name.startswith("posix_") else -1

        return fail


def refuse(patch: pytest.MonkeyPatch, call: str, code: int) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    match call:
        case "socket":
            patch.setattr(socket, "socket", fail)
        case "open":
            for module in (os, io, builtins):
                patch.setattr(module, "open", fail)
        case "posix_spawn":
            patch.setattr(spawn, "_libc", Libc(call, code))
        case "inotify_init1" | "inotify_add_watch":
            patch.setattr(inotify, "_libc", Libc(call, code))
        case _:
            patch.setattr(os, call, fail)


FAILS = {
    "socket": {"tcp"},
    "open": {"pid file", "name"},
    "stat": {"file"},
    "listdir": {"name"},
    "pidfd_open": {"script", "pid file", "name"},
    "pipe": {"script"},
    "posix_spawn": {"script"},
    "inotify_init1": set[str](),
    "inotify_add_watch": set[str](),
}
"""Which checks cannot pass without it."""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "LOOK_INTERVAL", 0.02)
    monkeypatch.setattr(process_check, "LOOK_AGAIN_INTERVAL", 0.02)
    monkeypatch.setattr(fifo, "OPEN_INTERVAL", 0.02)


@contextlib.contextmanager
def survived() -> Iterator[None]:
    """Nothing has reached the loop's exception handler, which ends the daemon with status 70."""
    bugs: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
    yield
    assert not bugs, bugs


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", FAILS)
def test_what_the_world_refuses_fails_the_check_until_it_is_given_again(
    call: str, code: int, reports: Reports, tmp_path: Path
) -> None:
    present, pid = tmp_path / "present", tmp_path / "pid"
    present.touch()
    pid.write_text(f"{os.getpid()}\n")
    comm = Path("/proc/self/comm").read_text().strip()

    async def story(server: socket.socket) -> None:
        checks: dict[str, Kind] = {
            "script": Script(("/bin/true",)),
            "tcp": Tcp(*server.getsockname()),
            "file": File(present, "absent"),
            "pid file": Process(str(pid)),
            "name": Process(comm),
        }
        last: dict[str, bool] = {}
        run = 0

        def all_are(failing: set[str]) -> bool:
            nonlocal run
            if len([done for done in reports.of(CheckDone) if done.run == run]) == 2 * bool(run):
                run += 1
                for name in ("script", "tcp"):
                    probes.run(Probe(name, run, 10))
            last.update({done.check: done.passed for done in reports.of(CheckDone)})
            return {name for name, passed in last.items() if not passed} == failing and len(last) == len(checks)

        with survived():
            with pytest.MonkeyPatch.context() as patch:
                memory = Memory(PromptDisk(reports), tmp_path / "keepalived.json")
                refuse(patch, call, code)
                probes, hooks, keepalived = Probes(reports), Hooks(reports), Keepalived(reports, memory)
                keepalived.configure(Paths(tmp_path / "fifo", (pid, pid)), ("VI_1",))
                hooks.configure(("/bin/true",), 10)
                probes.configure(checks)
                hooks.notify(RoleChange("VI_1", "MASTER", 100, "because", "active"))
                await until(lambda: all_are(FAILS[call]))
                if call.startswith("inotify"):
                    assert all("once a second" in failure.reason for failure in failures_now(reports, "checks"))
                    assert failures_now(reports, "checks")
            os.mkfifo(tmp_path / "fifo")
            await until(lambda: all_are(set()))
            await until(lambda: not failures_now(reports, "checks"))
            await until(lambda: not failures_now(reports, "keepalived"))
            hooks.notify(RoleChange("VI_1", "BACKUP", 100, "because", "standby"))
            await hooks.finish(10)
            assert not failures_now(reports, "notify")
            keepalived.close()
            await close(probes)
        assert {failure.code for failing in reports.of(Failing) for failure in failing.failures} <= set(Code)

    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        asyncio.run(story(server))


def failures_now(reports: Reports, part: str) -> list[Any]:
    levels = [each.failures for each in reports.of(Failing) if each.part == part]
    return list(levels[-1]) if levels else []


class Hang:
    """Calls that do not return until they are released, and the threads that made them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._released = threading.Event()
        self.callers: set[int] = set()

    def at(self, owner: object, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if when(*arguments):
                assert threading.current_thread() is not threading.main_thread(), "the loop waits"
                self.callers.add(threading.get_ident())
                assert self._released.wait(60)
            return real(*arguments, **options)

        self._patch.setattr(owner, name, call)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    hang = Hang(monkeypatch)
    yield hang
    hang.release()


def test_an_exec_that_hangs_fails_one_check_and_stops_nothing_else(hang: Hang, reports: Reports) -> None:
    hang.at(child, "spawn", lambda argv, *_: argv[0] == "/hung")

    async def story() -> None:
        with survived():
            probes = Probes(reports)
            probes.configure({"hung": Script(("/hung",)), "well": Script(("/bin/true",))})
            probes.run(Probe("hung", 1, 2.0))  # far longer than the other one takes, on a busy machine too
            probes.run(Probe("well", 1, 60))
            assert await reports.next(CheckDone) == CheckDone("well", 1, True, "exit status 0")
            assert await reports.next(CheckDone, 2) == CheckDone("hung", 1, False, "timed out after 2 s")
            probes.run(Probe("hung", 2, 60))
            await asyncio.sleep(0.05)
            assert len(reports.events) == 2, "the first one has not ended"
            hang.release()
            assert (await reports.next(CheckDone, 3)).reason.startswith("cannot run /hung: ")
            probes.close()

    asyncio.run(story())


def test_a_file_system_that_hangs_fails_its_checks_and_stops_nothing_else(
    hang: Hang, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "LOOK_TIMEOUT", 0.2)
    monkeypatch.setattr(kind, "LOOK_INTERVAL", 0.02)
    hung, well = tmp_path / "hung", tmp_path / "well"
    hang.at(Path, "stat", lambda path, *_: path == hung)
    hang.at(process_check, "_read", lambda path, *_: path == hung)

    async def story() -> None:
        with survived():
            probes = Probes(reports)
            probes.configure({"hung": File(hung), "pid": Process(str(hung)), "well": File(well)})
            assert await reports.next(CheckDone) == CheckDone("well", 0, True, f"{well} does not exist")
            await reports.next(CheckDone, 3)
            reasons = {done.check: (done.passed, done.reason) for done in reports.of(CheckDone)}
            assert reasons["hung"] == reasons["pid"] == (False, f"cannot look at {hung}: no answer after 0.2 s")
            well.touch()
            assert not (await reports.next(CheckDone, 4)).passed
            hang.release()
            await until(lambda: CheckDone("hung", 0, True, f"{hung} does not exist") in reports.events)
            await until(lambda: CheckDone("pid", 0, False, f"{hung} does not exist") in reports.events)
            probes.close()

    asyncio.run(story())


def test_a_keepalived_whose_paths_hang_stops_nothing_else(
    hang: Hang, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOOK_TIMEOUT", 0.2)
    monkeypatch.setattr(fifo, "OPEN_TIMEOUT", 0.2)
    paths = Paths(tmp_path / "fifo", (tmp_path / "pid", tmp_path / "vrrp_pid"))
    os.mkfifo(paths.fifo)
    hang.at(Path, "read_text", lambda path, *_: path == paths.pid_files[0])
    hang.at(fifo, "_open")
    hang.at(os, "stat", lambda path, *_: isinstance(path, int))

    async def story() -> None:
        with survived():
            keepalived = Keepalived(reports, Memory(PromptDisk(reports), tmp_path / "keepalived.json"))
            keepalived.configure(paths, ("VI_1",))
            found = await reports.next(KeepalivedFound)
            assert found.reason == f"no answer after 0.2 s from {paths.pid_files[0]} or {paths.pid_files[1]}"
            await until(lambda: bool(failures_now(reports, "keepalived")))
            (failure,) = failures_now(reports, "keepalived")
            assert failure.reason == "no answer after 0.2 s: does a disk hang?"
            answered: list[str] = []
            keepalived.look(lambda: answered.append("at once"))
            assert answered, "who notifies must not wait for a disk that hangs"
            hang.release()
            await until(lambda: not failures_now(reports, "keepalived"))
            keepalived.close()

    asyncio.run(story())
    assert len(hang.callers) == 2


def test_what_inotify_does_not_tell_is_seen_by_looking(reports: Reports, tmp_path: Path) -> None:
    """A link whose target goes: nothing happens in the directory that is watched."""
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "here" / "link"
    for path in (target, link):
        path.parent.mkdir()
    target.touch()
    link.symlink_to(target)

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"token": File(link, "absent")})
        assert (await reports.next(CheckDone)).passed
        target.unlink()
        assert not (await reports.next(CheckDone, 2)).passed
        probes.close()

    asyncio.run(story())


@pytest.mark.usefixtures("namespace")
def test_a_connection_to_itself_is_no_service(reports: Reports) -> None:
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40500 40501")
    itself = "connected to itself: nobody listens"

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"app": Tcp("127.0.0.1", 40500)})
        run = 0
        while run < 20 or itself not in {done.reason for done in reports.of(CheckDone)}:
            run += 1
            probes.run(Probe("app", run, 10))
            assert not (await reports.next(CheckDone, run)).passed
        print(f"{[done.reason for done in reports.of(CheckDone)].count(itself)} of {run} times it met itself")
        with socket.socket() as service:
            service.bind(("127.0.0.1", 40500))  # no connection waits in TIME_WAIT
        probes.close()

    asyncio.run(story())


AS_PROCESS_1 = """
import asyncio, os
from floatip.core.events import Probe
from floatip.host import child
from floatip.host.checks import Probes
from floatip.model import Script
assert os.getpid() == 1
child.REAP_INTERVAL = 0
def zombies():
    pids = filter(str.isdecimal, os.listdir("/proc"))
    return [pid for pid in pids if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"]
async def story():
    answers = []
    probes = Probes(answers.append)
    probes.configure({"chk": Script(("/bin/sh", "-c", "sleep 0.01 & exit 0"))})
    for run in range(30):
        probes.run(Probe("chk", run, 10))
        while len(answers) <= run:
            await asyncio.sleep(0.001)
    print({answer.reason for answer in answers})
    while zombies():
        await asyncio.sleep(0.01)
    probes.close()
asyncio.run(asyncio.wait_for(story(), 60))
print("no zombies")
"""


def test_as_process_1_it_reaps_what_others_leave_and_no_answer_is_lost() -> None:
    if os.geteuid() != 0:
        pytest.fail("this test makes a pid namespace and needs root: sudo make test")

    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", AS_PROCESS_1]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.stdout, ended.stderr) == ("{'exit status 0'}\nno zombies\n", "")
