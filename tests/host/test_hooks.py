import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from floatip.core.events import Failing, Failure
from floatip.host.child import Ended
from floatip.host.hooks import LONGEST_QUEUE, Emptied, Hooks, RoleChange, emptied, role_change
from floatip.host.news import Item
from tests.host.reports import Clock, Reports, until

TOO_SLOW = "the command is too slow: 10 changes of role were not reported"


def script(path: Path, text: str) -> tuple[str, ...]:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return (str(path),)


def change(role: str, reason: str = "because") -> RoleChange:
    return RoleChange("VI 1", role, 50, reason, "takeover")


def test_the_command_is_called_as_keepalived_would(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_DAEMON", "too")
    told = tmp_path / "told"
    text = f'echo "$#|$1|$2|$3|$4|$FLOATIP_REASON|$FLOATIP_RANK|$OF_THE_DAEMON" > {told}\n'

    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(script(tmp_path / "notify", text), 10)
        hooks.notify(change("MASTER", "no advert for 3.61 s; $(reboot)"))
        await hooks.finish(10)

    asyncio.run(story())
    assert told.read_text() == "4|INSTANCE|VI 1|MASTER|50|no advert for 3.61 s; $(reboot)|takeover|too\n"
    assert not reports.events


def test_commands_run_in_order_and_one_at_a_time(reports: Reports, tmp_path: Path) -> None:
    told = tmp_path / "told"
    text = f"echo begin $3 >> {told}; sleep 0.1; echo end $3 >> {told}\n"

    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(script(tmp_path / "notify", text), 10)
        for role in ("BACKUP", "MASTER", "FAULT"):
            hooks.notify(change(role))
        await hooks.finish(20)

    asyncio.run(story())
    roles = [line.split() for line in told.read_text().splitlines()]
    assert roles == [[word, role] for role in ("BACKUP", "MASTER", "FAULT") for word in ("begin", "end")]


def test_a_command_that_hangs_or_is_missing_holds_up_nothing(reports: Reports, tmp_path: Path) -> None:
    told = tmp_path / "told"
    argv = script(tmp_path / "notify", f'[ "$3" = FAULT ] && exec sleep 60\necho $3 >> {told}\n')

    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(argv, 0.3)
        hooks.notify(change("FAULT"))
        hooks.configure(argv, 10)
        hooks.notify(change("MASTER"))
        await hooks.finish(20)
        hooks.configure((str(tmp_path / "gone"),), 10)
        hooks.notify(change("BACKUP"))
        hooks.notify(change("MASTER"))
        await hooks.finish(20)

    asyncio.run(story())
    assert told.read_text() == "MASTER\n"
    reasons = [
        f"{argv[0]}: timed out after 0.3 s",
        f"{tmp_path}/gone: cannot run {tmp_path}/gone: no such file or directory",
    ]
    assert failures(reports) == [[reasons[0]], [], [reasons[1]]]


def failures(reports: Reports) -> list[list[str]]:
    return [[failure.reason for failure in failing.failures] for failing in reports.of(Failing)]


def test_a_failure_lasts_until_the_next_success_or_five_minutes(reports: Reports, tmp_path: Path) -> None:
    """In virtual time, with a command that is played."""
    clock = Clock()
    outcomes = iter([(False, "exit status 1"), (False, "exit status 1"), (True, "exit status 0"), (False, "no")])

    class Played:
        running = False
        last_line = ""

        def __init__(
            self, argv: object, timeout: float, ended: Ended, gone: Callable[[], None], *_: object, **__: object
        ) -> None:
            clock.call_later(0.1, ended, *next(outcomes))
            clock.call_later(0.1, gone)

        def terminate(self) -> None:
            pass

    hooks = Hooks(reports, clock, Played)
    hooks.configure(("/x",), 5)
    for at in (0, 200, 310, 320):
        clock.run(at)
        hooks.notify(change("MASTER"))
    clock.run(620)
    assert failures(reports) == [["/x: exit status 1"], [], ["/x: no"]], "the second failure began the time again"
    clock.run(621)
    assert failures(reports)[-1] == []


@pytest.mark.parametrize("after", [(), ("/bin/true",)])
def test_a_reload_while_the_command_runs_is_survived_and_its_failure_is_nobodys(
    after: tuple[str, ...], reports: Reports, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"

    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(script(tmp_path / "notify", f"echo >> {begun}; sleep 0.3; exit 1\n"), 10)
        hooks.notify(change("BACKUP"))
        hooks.notify(change("MASTER"))
        await until(begun.exists)
        hooks.configure(after, 10)
        await hooks.finish(20)

    asyncio.run(story())
    assert begun.read_text() == "\n"
    assert failures(reports) == []


def test_the_command_for_an_empty_node_runs_in_its_turn_with_its_own_arguments(
    reports: Reports, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    text = f'echo "$#|$1|$FLOATIP_ORDER|$FLOATIP_RANK|$FLOATIP_REASON" >> {told}\n'

    async def story() -> None:
        hooks = Hooks(reports)
        command = script(tmp_path / "notify", f"sleep 0.1; echo $3 >> {told}\n")
        hooks.configure(command, 10, (*script(tmp_path / "drained", text), "now"))
        hooks.notify(change("BACKUP"))
        hooks.notify(Emptied("drain", "3 connections were reset"))
        await hooks.finish(20)

    asyncio.run(story())
    assert told.read_text().splitlines() == ["BACKUP", "1|now|drain||3 connections were reset"]


@pytest.mark.parametrize("is_there", [True, False])
def test_each_of_the_two_commands_may_be_missing(is_there: bool, reports: Reports, tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = script(tmp_path / "command", f"echo $FLOATIP_REASON >> {told}; exit 1\n")

    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(*((), 10, command) if is_there else (command, 10))
        hooks.notify(change("BACKUP", "role"))
        hooks.notify(Emptied("handover", "empty"))
        await hooks.finish(20)

    asyncio.run(story())
    assert told.read_text().split() == ["empty" if is_there else "role"]
    [failure] = reports.of(Failing)[-1].failures
    assert failure.what == ("notify drained" if is_there else "notify")


def test_only_news_of_an_empty_node_are_told_as_such() -> None:
    at = datetime.now(UTC)
    news = Item(0.0, at, "empty", "haproxy1", "after-drain", "all has gone", True, "")
    assert emptied(news) == Emptied("drain", "all has gone")
    assert emptied(replace(news, what="node", value="drained")) is None
    assert role_change(news, {}) is None


def test_of_too_many_changes_the_last_are_told(reports: Reports, tmp_path: Path) -> None:
    told = tmp_path / "told"

    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(script(tmp_path / "notify", f"echo $3 >> {told}\n"), 10)
        for number in range(LONGEST_QUEUE + 11):
            hooks.notify(change(str(number)))
        await hooks.finish(60)
        assert hooks.dropped == 10

    asyncio.run(story())
    lines = told.read_text().split()
    assert lines == ["0", *(str(number) for number in range(11, LONGEST_QUEUE + 11))]
    [failure] = reports.of(Failing)[-1].failures
    assert failure == Failure("notify queue", TOO_SLOW, "make the command faster; the last changes were reported")


def test_the_end_waits_for_the_last_command_but_not_for_ever(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        hooks = Hooks(reports)
        hooks.configure(script(tmp_path / "notify", "exec sleep 60\n"), 60)
        hooks.notify(change("STOP"))
        begun = time.monotonic()
        await hooks.finish(0.3)
        assert 0.2 < time.monotonic() - begun < 30
        await until(lambda: bool(reports.events))

    asyncio.run(story())
    assert failures(reports)[0][0].endswith("killed by signal 15")
