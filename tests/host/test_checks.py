import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from floatip.core.events import CheckDone, Probe
from floatip.host.checks import Probes, runner
from floatip.host.checks import process as process_check
from floatip.host.checks.runner import AT_ONCE
from floatip.host.spawn import spawn
from floatip.model import File, Kind, Process, Script, Tcp
from tests.host.reports import Reports, close, until


def probe(reports: Reports, kind: Kind, timeout: float = 10.0, name: str = "chk") -> CheckDone:
    async def story() -> CheckDone:
        probes = Probes(reports)
        probes.configure({name: kind})
        probes.run(Probe(name, 7, timeout))
        try:
            return await reports.next(CheckDone)
        finally:
            await close(probes)

    return asyncio.run(story())


def script(text: str) -> Script:
    return Script(("/bin/sh", "-c", text))


@pytest.mark.parametrize(
    ("text", "passed", "reason"),
    [
        ("exit 0", True, "exit status 0"),
        ("echo 3 backends are up", True, "exit status 0: 3 backends are up"),
        ("exit 1", False, "exit status 1"),
        ("echo first; echo 'no backend is up' >&2; exit 3", False, "exit status 3: no backend is up"),
        ("printf 'bell \\007 and escape \\033[0m\\n\\n'; exit 1", False, "exit status 1: bell ? and escape ?[0m"),
        ("printf '%01000d' 0; exit 1", False, "exit status 1: " + "0" * 200),
        ("kill -9 $$", False, "killed by signal 9"),
        ("head -c 1000000 /dev/zero; exit 1", False, "exit status 1: " + "?" * 200),
    ],
)
def test_a_script_is_judged_by_its_exit_status(text: str, passed: bool, reason: str, reports: Reports) -> None:
    assert probe(reports, script(text)) == CheckDone("chk", 7, passed, reason)


@pytest.mark.parametrize("first", ["#!/usr/bin/perl-of-nowhere", "#!/bin/sh\r"], ids=["not installed", "CRLF"])
def test_a_script_without_its_interpreter_is_not_called_missing(first: str, tmp_path: Path, reports: Reports) -> None:
    path = tmp_path / "check.sh"
    path.write_text(f"{first}\nexit 0\n", newline="")
    path.chmod(0o755)
    reason = f"cannot run {path}: the interpreter that its first line names is not there"
    assert probe(reports, Script((str(path),))) == CheckDone("chk", 7, False, reason)


@pytest.mark.parametrize("kind", ["missing", "not executable", "no format", "a directory"])
def test_a_script_that_cannot_be_run_has_failed(kind: str, tmp_path: Path, reports: Reports) -> None:
    path = tmp_path / "check.sh"
    if kind != "missing":
        path.write_text("neither a script nor a program")
        path.chmod(0o755 if kind == "no format" else 0o644)
    answer = probe(reports, Script((str(tmp_path if kind == "a directory" else path),)))
    assert not answer.passed
    assert answer.reason.startswith("cannot run ")


def test_a_script_that_hangs_has_failed_at_its_timeout_and_is_killed_with_its_children(
    tmp_path: Path, reports: Reports
) -> None:
    pids = tmp_path / "pids"
    hanging = script(f"trap '' TERM; (trap '' TERM; sleep 60) & echo $$ $! > {pids}; sleep 60")

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": hanging})
        started = time.monotonic()
        probes.run(Probe("chk", 1, 0.5))
        while not (pids.exists() and pids.read_text().endswith("\n")):
            time.sleep(0.001)  # the loop stands still, and its timeout with it, until the script has got so far
            assert time.monotonic() - started < 60
        assert await reports.next(CheckDone) == CheckDone("chk", 1, False, "timed out after 0.5 s")
        assert 0.4 < time.monotonic() - started < 30
        for pid in pids.read_text().split():
            await until(lambda pid=pid: not is_running(int(pid)))  # type: ignore[misc]
        probes.run(Probe("chk", 2, 0.5))
        assert (await reports.next(CheckDone, 2)).run == 2
        await close(probes)

    asyncio.run(story())


def test_what_a_script_leaves_behind_is_ended_and_what_it_wrote_before_its_timeout_is_told(
    tmp_path: Path, reports: Reports
) -> None:
    pids = tmp_path / "pids"
    left = script(f"trap '' TERM; sleep 600 & echo $! > {pids}; echo started")
    late = script(f"echo asking the database; touch {tmp_path}/asked; sleep 600")

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": left, "late": late})
        probes.run(Probe("chk", 1, 30))
        assert await reports.next(CheckDone) == CheckDone("chk", 1, True, "exit status 0: started")
        await until(lambda: not is_running(int(pids.read_text())))
        probes.run(Probe("late", 1, 2))
        answer = CheckDone("late", 1, False, "timed out after 2 s: asking the database")
        assert await reports.next(CheckDone, 2) == answer
        await close(probes)
        assert len(reports.of(CheckDone)) == 2, "it is told once"

    asyncio.run(story())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_run_waits_until_the_one_before_has_ended_and_is_no_failure(reports: Reports, tmp_path: Path) -> None:
    lock, ready = tmp_path / "lock", tmp_path / "ready"
    once = f"""
        mkdir {lock} || exit 1
        trap 'rmdir {lock}' EXIT
        trap 'exit 9' TERM
        [ -e {ready} ] && exit 0
        sleep 60 & touch {ready}
        wait
    """

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": script(once)})
        probes.run(Probe("chk", 1, 60))
        await until(ready.exists)
        probes.run(Probe("chk", 2, 60))
        assert await reports.next(CheckDone, 2) == CheckDone("chk", 2, True, "exit status 0"), reports.events
        assert reports.of(CheckDone)[0].run == 1
        await close(probes)

    asyncio.run(story())


def test_a_run_that_times_out_is_told_to_end_so_that_its_trap_runs(reports: Reports, tmp_path: Path) -> None:
    lock, ready = tmp_path / "lock", tmp_path / "ready"
    text = f"trap 'rmdir {lock}' EXIT; trap 'exit 1' TERM; mkdir {lock}; sleep 60 & touch {ready}; wait"

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": script(text)})
        probes.run(Probe("chk", 1, 2))
        await until(ready.exists)
        assert (await reports.next(CheckDone)).reason == "timed out after 2 s"
        await until(lambda: not lock.exists())
        await close(probes)

    asyncio.run(story())


def test_a_run_that_waited_past_its_timeout_is_not_begun(reports: Reports, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": script(f"trap '' TERM; echo >> {ran}; sleep 60 & wait; sleep 60")})
        probes.run(Probe("chk", 1, 60))
        await until(ran.exists)
        probes.run(Probe("chk", 2, 0.01))  # shorter than the first one takes to be killed
        assert (await reports.next(CheckDone)).reason == "killed by signal 9"
        await asyncio.sleep(0.1)
        assert reports.of(CheckDone) == [CheckDone("chk", 1, False, "killed by signal 9")], "the core fails run 2"
        assert ran.read_text() == "\n"
        await close(probes)

    asyncio.run(story())


def test_a_script_that_a_reload_replaces_while_it_runs_has_no_say_any_more(reports: Reports) -> None:
    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": script("sleep 60"), "other": script("sleep 60")})
        probes.run(Probe("chk", 1, 60))
        probes.run(Probe("other", 1, 60))
        probes.configure({"chk": script("exit 3")})
        probes.run(Probe("chk", 2, 60))
        assert await reports.next(CheckDone) == CheckDone("chk", 2, False, "exit status 3")
        await asyncio.sleep(0.1)
        assert len(reports.events) == 1
        await close(probes)

    asyncio.run(story())


def test_a_script_has_no_terminal_no_input_and_a_session_of_its_own(reports: Reports) -> None:
    text = 'read line && exit 1; set -- $(cat /proc/self/stat); [ "$6" != "$(cut -d" " -f6 /proc/$PPID/stat)" ]'
    assert probe(reports, script(text)).passed


def test_a_script_gets_none_of_our_descriptors(reports: Reports) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    ours = f"pipe:[{os.fstat(writer).st_ino}]"
    text = f'for fd in /proc/$$/fd/*; do [ "$(readlink $fd)" = "{ours}" ] && exit 9; done; exit 0'
    try:
        assert probe(reports, script(text)).passed
    finally:
        os.close(reader)
        os.close(writer)


def test_runs_leave_neither_zombies_nor_descriptors_behind(reports: Reports) -> None:
    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": script("echo $$; exit 1"), "tcp": Tcp("127.0.0.1", 1)})
        for run in range(20):
            probes.run(Probe("chk", run, 10))
            probes.run(Probe("tcp", run, 10))
            await reports.next(CheckDone, 2 * run + 2)

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(story())
    assert len(os.listdir("/proc/self/fd")) == before
    pids = [event.reason.rpartition(": ")[2] for event in reports.of(CheckDone) if event.check == "chk"]
    assert len(pids) == 20
    assert not [pid for pid in pids if Path(f"/proc/{int(pid)}").exists()]


def by_name(events: list[CheckDone]) -> list[CheckDone]:
    """Each check looks in its own time."""
    return sorted(events, key=lambda event: event.check)


@contextlib.contextmanager
def listener(backlog: int = 5) -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        yield server


@pytest.mark.usefixtures("namespace")
def test_a_tcp_check_passes_when_somebody_listens(reports: Reports) -> None:
    with listener() as server:
        _, port = server.getsockname()
        assert probe(reports, Tcp("localhost", port)) == CheckDone("chk", 7, True, "connected")
    refused = probe(Reports(), Tcp("127.0.0.1", port))
    assert refused == CheckDone("chk", 7, False, "connection refused")


def test_a_tcp_check_has_failed_at_its_timeout(reports: Reports) -> None:
    with listener(0) as server, socket.create_connection(server.getsockname()):
        assert select.select([server], [], [], 60)[0]
        # The queue of one is full: the kernel answers no further handshake.
        silent = probe(reports, Tcp(*server.getsockname()), timeout=0.3)
    assert silent == CheckDone("chk", 7, False, "timed out after 0.3 s")


def test_hundreds_of_runs_that_are_due_at_once_leave_the_loop_its_turns(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 200
    monkeypatch.setattr(runner, "PAUSE", 60.0)  # on a busy machine, each of them begins late

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({str(number): Tcp("127.0.0.1", 1) for number in range(count)})
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if len(reports.of(CheckDone)) < count:
                loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        loop.call_soon(turn)
        for number in range(count):
            probes.run(Probe(str(number), 1, 60))
        assert len(reports.of(CheckDone)) < count // 2
        await reports.next(CheckDone, count)
        assert turns >= count // AT_ONCE - 1
        assert sorted(int(event.check) for event in reports.of(CheckDone)) == list(range(count))
        probes.close()

    asyncio.run(story())


def test_a_probe_of_an_unknown_check_has_failed(reports: Reports) -> None:
    async def story() -> None:
        Probes(reports).run(Probe("gone", 1, 1))

    asyncio.run(story())
    assert reports.events == [CheckDone("gone", 1, False, "there is no such check")]


def test_a_file_is_told_at_the_start_and_within_milliseconds_of_each_change(tmp_path: Path, reports: Reports) -> None:
    trigger = tmp_path / "deep" / "down" / "trigger"

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"trigger": File(trigger), "token": File(trigger, "absent")})
        await reports.next(CheckDone, 2)
        assert by_name(reports.of(CheckDone)) == [
            CheckDone("token", 0, False, f"{trigger} does not exist"),
            CheckDone("trigger", 0, True, f"{trigger} does not exist"),
        ]
        latencies = []

        async def after(change: object, present: bool) -> None:
            started = time.monotonic()
            number = len(reports.events) + 2
            assert callable(change)
            change()
            await reports.next(CheckDone, number)
            latencies.append(reports.times[number - 1] - started)
            assert [event.passed for event in by_name(reports.of(CheckDone)[-2:])] == [present, not present]

        trigger.parent.mkdir(parents=True)
        await after(trigger.touch, True)
        await after(trigger.unlink, False)
        (tmp_path / "new").touch()
        await after(lambda: (tmp_path / "new").rename(trigger), True)
        await after(lambda: trigger.rename(tmp_path / "away"), False)
        await after(trigger.touch, True)
        await after(lambda: trigger.parent.rename(tmp_path / "elsewhere"), False)
        await after(lambda: (tmp_path / "elsewhere").rename(trigger.parent), True)
        for _ in range(20):
            await after(trigger.unlink, False)
            await after(trigger.touch, True)
        print(f"file check: median {sorted(latencies)[len(latencies) // 2] * 1e3:.2f} ms")
        assert sorted(latencies)[len(latencies) // 2] < 0.05
        trigger.write_text("a change of the content is no change of the answer")
        (trigger.parent / "another").touch()
        # What happened before has been seen, when this is told.
        await after(trigger.unlink, False)
        assert len(reports.events) == 2 + 2 * len(latencies)
        probes.close()

    asyncio.run(story())


def test_a_file_whose_directory_appears_together_with_it_is_seen(tmp_path: Path, reports: Reports) -> None:
    trigger = tmp_path / "new" / "trigger"

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"trigger": File(trigger)})
        assert (await reports.next(CheckDone)).passed
        trigger.parent.mkdir()
        trigger.touch()
        assert not (await reports.next(CheckDone, 2)).passed
        probes.close()

    asyncio.run(story())


def test_a_file_in_a_place_that_cannot_be_looked_at_has_failed(tmp_path: Path, reports: Reports) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"trigger": File(loop / "trigger")})
        await reports.next(CheckDone)
        probes.close()

    asyncio.run(story())
    assert [event.passed for event in reports.of(CheckDone)] == [False]


def test_a_process_that_was_killed_from_outside_says_so(reports: Reports, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def story() -> None:
        probes = Probes(reports)
        probes.configure({"chk": script(f"echo $$ > {pid}; exec sleep 60")})
        probes.run(Probe("chk", 1, 60))
        await until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        os.kill(int(pid.read_text()), signal.SIGTERM)
        assert (await reports.next(CheckDone)).reason == "killed by signal 15"

    asyncio.run(story())


def test_a_reload_tells_each_pushed_check_again_and_leaves_nothing_of_those_that_are_gone(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_check, "LOOK_AGAIN_INTERVAL", 0.05)
    pid, trigger = tmp_path / "pid", tmp_path / "trigger"
    pid.write_text(f"{os.getpid()}\n")
    checks: dict[str, Kind] = {
        "web": Process(str(pid)),
        "none": Process("no such"),
        "trigger": File(trigger),
    }
    told = [
        CheckDone("none", 0, False, "no process is named no such"),
        CheckDone("trigger", 0, True, f"{trigger} does not exist"),
        CheckDone("web", 0, True, f"pid {os.getpid()} of {pid} runs"),
    ]

    async def story() -> None:
        probes = Probes(reports)
        for number in range(1, 4):
            probes.configure(checks)
            await reports.next(CheckDone, 3 * number)
            assert by_name(reports.of(CheckDone)[-3:]) == told
        probes.run(Probe("web", 7, 1))
        probes.configure({})
        await asyncio.sleep(0.2)
        probes.close()

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(story())
    assert reports.events[9:] == [replace(told[2], run=7)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_exec_that_hangs_leaves_python_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child hangs where it opens its standard input, before exec, for ten seconds at most."""
    fifo, gave_up = tmp_path / "fifo", tmp_path / "gave up"
    os.mkfifo(fifo)
    monkeypatch.setattr(os, "devnull", str(fifo))
    read, write = os.pipe()
    giving_up = subprocess.Popen(
        ["/bin/sh", "-c", 'sleep 10; : > "$1"; : > "$0"', fifo, gave_up], start_new_session=True
    )
    pids: list[int] = []
    starting = threading.Thread(target=lambda: pids.append(spawn(["/bin/true"], None, write)))
    starting.start()
    released = -1
    while released < 0 and not gave_up.exists():
        with contextlib.suppress(OSError):  # until the child waits there for a writer
            released = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.001)
    was_free = not gave_up.exists()
    starting.join()
    os.waitpid(pids[0], 0)
    os.killpg(giving_up.pid, signal.SIGKILL)
    giving_up.wait()
    for descriptor in (read, write, released):
        if descriptor >= 0:
            os.close(descriptor)
    assert was_free


def test_a_child_can_be_told_to_end_whatever_the_thread_that_starts_it_blocks() -> None:
    read, write = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        os.waitpid(spawn(["/bin/grep", "SigBlk", "/proc/self/status"], None, write), 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert os.read(read, 100) == b"SigBlk:\t0000000000000000\n"
    os.close(read)
    os.close(write)
