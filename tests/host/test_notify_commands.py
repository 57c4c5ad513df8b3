"""keepalived's notify commands, with real commands, and in virtual time with commands that are played."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from floatip.core.events import Failing, Failure
from floatip.host import notify_commands
from floatip.host.child import GRACE, Ended
from floatip.host.notify_commands import LONGEST_QUEUE, MOST_AT_ONCE, OVERTIME, Change, Commands, Subject
from floatip.model import DAEMON, NotifyEvent, RunAs, Told
from tests.host.reports import Clock, Reports, until

VI: Subject = ("INSTANCE", "VI_1")
EVENTS: tuple[NotifyEvent, ...] = ("master", "backup", "fault", "stop", "deleted", "master_rx_lower_pri", "any")


def told(command: Path | str, *events: NotifyEvent, subject: Subject = VI, timeout: float = 0.0) -> list[Told]:
    return [Told(*subject, event, (str(command), event), timeout=timeout) for event in events]


def change(word: str, subject: Subject = VI) -> Change:
    return Change(subject, word, 100, f"why {word}", "takeover")


def script(path: Path, text: str) -> Path:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


class Played:
    """A command in virtual time: it runs until it is told to end, or until `seconds` are over."""

    def __init__(self, clock: Clock, seconds: Mapping[str, float]) -> None:
        self.clock, self.seconds = clock, seconds
        self.begun: list[tuple[float, str]] = []
        self.running_now = self.most = 0

    def start(
        self,
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None],
        environment: Mapping[str, str] | None = None,
        *,
        run_as: RunAs = DAEMON,
    ) -> "Run":
        self.begun.append((self.clock.time(), " ".join(argv)))
        self.running_now += 1
        self.most = max(self.most, self.running_now)
        return Run(self, self.seconds.get(argv[0], 0.0), ended, gone)


class Run:
    last_line = ""

    def __init__(self, played: Played, seconds: float, ended: Ended, gone: Callable[[], None]) -> None:
        self.running = True
        self._played, self._ended, self._gone = played, ended, gone
        played.clock.call_later(seconds, self.end, True)

    def terminate(self) -> None:
        self._played.clock.call_later(0.1, self.end, False)

    def end(self, succeeded: bool) -> None:
        if self.running:
            self.running = False
            self._played.running_now -= 1
            self._ended(succeeded, "exit status 0" if succeeded else "killed by signal 15")
            self._gone()


def failures(reports: Reports) -> list[set[Failure]]:
    return [set(failing.failures) for failing in reports.of(Failing)]


def test_a_state_has_its_own_command_with_its_own_words_and_then_notify_with_four_more(
    reports: Reports, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    text = f'echo "begin $* $FLOATIP_RANK $FLOATIP_REASON" >> {out}; sleep 0.05; echo end >> {out}\n'
    group: Subject = ("GROUP", "G 1")
    mine = script(tmp_path / "mine", text)

    async def story() -> None:
        commands = Commands(reports)
        commands.configure([*told(mine, *EVENTS), *told(mine, "any", "master", subject=group)])
        commands.tell(change("BACKUP"))
        await until(out.exists)
        for word in ("MASTER", "MASTER_RX_LOWER_PRI", "MASTER_PRIORITY", "STOP"):
            commands.tell(change(word))
        await commands.finish(20)
        commands.tell(Change(group, "MASTER", 0))
        await commands.finish(20)

    asyncio.run(story())
    lines = out.read_text().splitlines()
    assert lines[1::2] == ["end"] * (len(lines) // 2), "one at a time"
    why = "takeover why"
    assert lines[::2] == [
        f"begin backup {why} BACKUP",
        f"begin any INSTANCE VI_1 BACKUP 100 {why} BACKUP",
        f"begin master {why} MASTER",
        f"begin any INSTANCE VI_1 MASTER 100 {why} MASTER",
        f"begin master_rx_lower_pri {why} MASTER_RX_LOWER_PRI",
        f"begin stop {why} STOP",
        f"begin any INSTANCE VI_1 STOP 100 {why} STOP",
        "begin master  ",
        "begin any GROUP G 1 MASTER 0  ",
    ]
    assert not reports.events


def test_a_command_that_hangs_is_ended_with_what_it_started_and_the_next_one_runs(
    reports: Reports, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    hangs = script(tmp_path / "hangs", f"sleep 97 & echo $! > {out}\ntrap '' TERM\nwait\nwait\nsleep 97\n")
    works = script(tmp_path / "works", f"echo works >> {out}\n")

    async def story() -> None:
        commands = Commands(reports)
        commands.configure([*told(hangs, "fault", timeout=0.5), *told(works, "backup")])
        commands.tell(change("FAULT"))
        commands.tell(change("BACKUP"))
        await until(lambda: "works" in (out.read_text() if out.exists() else ""))

    asyncio.run(story())
    [failed] = failures(reports)
    hint = "run the command by hand as the daemon's user"
    assert failed == {Failure("notify_fault of VI_1", f"{hangs}: timed out after 0.5 s", hint)}
    child = Path("/proc", out.read_text().split()[0])
    assert not child.exists() or "zombie" in (child / "status").read_text()


def test_a_command_without_a_timeout_may_run_until_the_next_one_is_due_and_30_s_more(reports: Reports) -> None:
    clock = Clock()
    played = Played(clock, {"/daemon": 1e6})
    commands = Commands(reports, clock, played.start)
    commands.configure([*told("/daemon", "master"), *told("/quick", "backup")])
    commands.tell(change("MASTER"))
    clock.run(1000)
    commands.tell(change("BACKUP"))
    clock.run(1000 + OVERTIME - 1)
    commands.tell(change("MASTER"))
    clock.run(2000)
    assert played.begun == [
        (0, "/daemon master"),
        (1000 + OVERTIME + 0.1, "/quick backup"),
        (1000 + OVERTIME + 0.1, "/daemon master"),
    ]
    [failure] = failures(reports)[0]
    assert failure.reason == "/daemon: it still ran, and the next command was due for 30 s"


def test_a_process_that_the_kernel_cannot_end_holds_up_the_next_command_for_a_second(reports: Reports) -> None:
    clock = Clock()
    played = Played(clock, {})

    def start(argv: Sequence[str], timeout: float, ended: Ended, *others: object, **more: object) -> Run:
        run = Run(played, 1e6, ended, lambda: None)
        run.terminate = lambda: None  # type: ignore[method-assign]
        played.begun.append((clock.time(), argv[0]))
        return run

    commands = Commands(reports, clock, start)
    commands.configure([*told("/stuck", "master"), *told("/quick", "backup")])
    commands.tell(change("MASTER"))
    commands.tell(change("BACKUP"))
    clock.run(100)
    assert played.begun == [(0, "/stuck"), (OVERTIME + 2 * GRACE, "/quick")]


def test_instances_run_side_by_side_up_to_a_bound_and_slow_ones_do_not_count(reports: Reports) -> None:
    clock = Clock()
    played = Played(clock, {"/daemon": 1e6, "/second": 1.0})
    commands = Commands(reports, clock, played.start)
    subjects: list[Subject] = [("INSTANCE", f"VI_{number}") for number in range(2 * MOST_AT_ONCE)]
    commands.configure([one for subject in subjects for one in told("/second", "master", subject=subject)])
    for subject in subjects:
        commands.tell(change("MASTER", subject))
    clock.run(1.5)
    assert (len(played.begun), played.most) == (2 * MOST_AT_ONCE, MOST_AT_ONCE)
    commands.configure([one for subject in subjects for one in told("/daemon", "backup", subject=subject)])
    clock.run(10)
    for subject in subjects:
        commands.tell(change("BACKUP", subject))
    clock.run(10 + notify_commands.SLOW + 0.1)
    assert len(played.begun) == 4 * MOST_AT_ONCE, "daemons do not hold up others without limit"


def test_of_too_many_changes_the_newest_state_is_told_and_the_number_of_those_skipped(reports: Reports) -> None:
    clock = Clock()
    played = Played(clock, {"/slow": 10.0})
    commands = Commands(reports, clock, played.start)
    commands.configure(told("/slow", "master", "backup", "master_rx_lower_pri"))
    for _ in range(LONGEST_QUEUE):
        commands.tell(change("MASTER"))
        commands.tell(change("MASTER_RX_LOWER_PRI"))
    commands.tell(change("BACKUP"))
    clock.run(1e4)
    words = [command.split()[1] for _, command in played.begun]
    assert words[0] == "master"
    assert words[-1] == "backup", "the newest state"
    assert "master_rx_lower_pri" in words
    assert len(words) + commands.dropped == 2 * LONGEST_QUEUE + 1
    skipped = next(iter(failures(reports)[-2]))
    assert skipped.what == "notify queue of VI_1"
    assert "changes of VI_1 were skipped, because their commands are too slow" in skipped.reason


def test_at_the_end_the_stop_command_runs_though_the_one_before_hangs(reports: Reports, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hangs = script(tmp_path / "hangs", "exec sleep 97\n")
    stops = script(tmp_path / "stops", f"sleep 0.2; echo stopped > {out}\n")

    async def story() -> None:
        commands = Commands(reports)
        commands.configure([*told(hangs, "master"), *told(stops, "stop")])
        commands.tell(change("MASTER"))
        commands.tell(change("STOP"))
        begun = time.monotonic()
        await commands.finish(30)
        assert time.monotonic() - begun > notify_commands.END_OVERTIME / 2

    asyncio.run(story())
    assert out.read_text() == "stopped\n"
    assert any("it still ran, and the daemon ends" in one.reason for one in failures(reports)[0])


def test_a_stop_command_that_hangs_does_not_hold_up_the_end(reports: Reports, tmp_path: Path) -> None:
    hangs = script(tmp_path / "hangs", "exec sleep 97\n")

    async def story() -> None:
        commands = Commands(reports)
        commands.configure(told(hangs, "stop", "any"))
        commands.tell(change("STOP"))
        begun = time.monotonic()
        await commands.finish(0.3)
        assert time.monotonic() - begun < 30
        assert commands.dropped == 1

    asyncio.run(story())


def test_a_reload_forgets_failures_of_what_it_removed_and_what_runs_goes_on(reports: Reports) -> None:
    clock = Clock()
    played = Played(clock, {"/slow": 5.0})
    commands = Commands(reports, clock, played.start)
    commands.configure(told("/slow", "master"))
    commands.tell(change("MASTER"))
    commands.tell(change("MASTER"))
    commands.configure([])
    clock.run(100)
    assert [at for at, _ in played.begun] == [0, 5]
    assert not reports.events


def test_a_command_runs_as_its_user(reports: Reports, tmp_path: Path) -> None:
    assert os.geteuid() == 0, "only root can run commands as others: sudo .venv/bin/python -m pytest tests/host"
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if "pytest" in str(parent):
            parent.chmod(0o755)
    out = tmp_path / "out"
    says = script(tmp_path / "says", f"id -un > {out}\n")

    async def story() -> None:
        commands = Commands(reports)
        commands.configure([Told(*VI, "stop", (str(says),), run_as=RunAs("nobody"))])
        commands.tell(change("STOP"))
        await commands.finish(20)

    asyncio.run(story())
    assert out.read_text() == "nobody\n"
    assert not reports.events
