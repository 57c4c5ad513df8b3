"""A reload reads in a thread: what becomes meanwhile of signals, of a stop and of systemd, and of a file that hangs."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from floatip.core.events import Failure
from floatip.core.problems import Code
from floatip.host import reload as reload_module
from floatip.host.failures import Failures
from floatip.host.log import Log
from floatip.host.reload import Reload
from floatip.host.systemd import Systemd
from floatip.model import Model
from floatip.reading import ConfigError, ConfigErrors, Loaded
from floatip.reading.patience import note_path
from tests.host.reports import Reports, until

Told = list[str]
Outcome = Loaded | ConfigErrors | OSError | None


class Script:
    """What each reading gives, and when."""

    def __init__(self) -> None:
        self.outcomes: list[Loaded | Exception] = []
        self.may_go_on = threading.Event()
        self.begun = 0
        self.threads: set[int] = set()

    def __call__(self) -> Loaded:
        self.begun += 1
        outcome = self.outcomes.pop(0)
        self.threads.add(threading.get_ident())
        note_path(f"/dead/{self.begun}")
        assert self.may_go_on.wait(60)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Manager(Systemd):
    """systemd, in words."""

    def __init__(self) -> None:
        self.told: Told = []

    def _notify(self, message: str) -> None:
        self.told.append(message.partition("\n")[0])


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.may_go_on.set()


def loaded(release_delay: float) -> Loaded:
    return Loaded(Model(release_delay=release_delay))


def play(
    script: Script, reports: Reports, story: Callable[[Reload, Told, list[float]], Any], *outcomes: Loaded | Exception
) -> None:
    script.outcomes = list(outcomes)

    async def run() -> None:
        met: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: met.append(context))
        manager, applied, refused = Manager(), list[float](), list[list[str]]()
        again = Reload(
            script,
            lambda loaded: applied.append(loaded.model.release_delay),
            Failures("daemon", reports),
            Log(),
            manager,
            "floatip check /other.toml",
            lambda errors: refused.append([str(error) for error in errors]),
        )
        await story(again, manager.told, applied)
        again.close()
        assert not met

    asyncio.run(run())


def test_signals_during_a_reading_lead_to_one_more_reading_after_it(script: Script, reports: Reports) -> None:
    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        for _ in range(5):
            reload.begin()
            await until(lambda: script.begun == 1)
        assert told == ["RELOADING=1"] * 5
        script.may_go_on.set()
        await until(lambda: "READY=1" in told)
        assert applied == [1, 2]
        assert told == ["RELOADING=1"] * 5 + ["READY=1"]
        reload.begin()
        await until(lambda: applied == [1, 2, 3])
        assert told[-2:] == ["RELOADING=1", "READY=1"]
        assert threading.get_ident() not in script.threads

    play(script, reports, story, loaded(1), loaded(2), loaded(3))


def test_what_is_read_when_the_stop_comes_does_not_count(script: Script, reports: Reports) -> None:
    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        reload.begin()
        reload.begin()
        await until(lambda: script.begun == 1)
        before = threading.active_count()
        reload.close()
        script.may_go_on.set()
        await until(lambda: threading.active_count() < before)
        await asyncio.sleep(0)
        reload.begin()
        assert applied == []
        assert script.begun == 1
        assert told == ["RELOADING=1"] * 2

    play(script, reports, story, loaded(1), loaded(2))


def test_a_reading_that_hangs_is_told_and_holds_up_no_other(
    script: Script, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload_module, "PATIENCE", 0.1)

    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        reload.begin()
        await until(lambda: bool(reports.failing("daemon")))
        (failure,) = reports.failing("daemon")
        assert failure.reason.startswith("not read after 0.1 s: /dead/1 does not answer, so ")
        assert failure.hint == "find the disk that hangs: findmnt, dmesg; then: systemctl reload floatip"
        assert told == ["RELOADING=1", "READY=1"]
        reload.begin()
        await until(lambda: any("/dead/2 does not answer" in one.reason for one in reports.failing("daemon")))
        monkeypatch.setattr(reload_module, "PATIENCE", 60.0)
        reload.begin()
        await until(lambda: script.begun == 3)
        script.may_go_on.set()  # for all: the first two are late
        await until(lambda: not reports.failing("daemon"))
        await until(lambda: told[-1] == "READY=1" and len(told) == 6)
        await until(lambda: reload._workers._unfinished == 0)
        assert applied == [3]

    play(script, reports, story, loaded(1), loaded(2), loaded(3))


REFUSED = ConfigErrors([ConfigError("floatip.toml", 1, "", "it is wrong", "mend it")])


@pytest.mark.parametrize(
    ("outcome", "code", "reason"),
    [
        (REFUSED, Code.RELOAD_REFUSED, "the file was refused, so the configuration before it stays in force"),
        (
            OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
            Code.FAILURE,
            "the file could not be read and checked (too many open files), so the configuration before it stays",
        ),
    ],
    ids=["refused", "no descriptors"],
)
def test_what_cannot_be_loaded_is_a_failure_until_a_reload_succeeds(
    script: Script, reports: Reports, outcome: Exception, code: Code, reason: str
) -> None:
    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        script.may_go_on.set()
        reload.begin()
        await until(lambda: told[-1] == "READY=1")
        (failure,) = reports.failing("daemon")
        assert isinstance(failure, Failure)
        assert (failure.what, failure.code) == ("reload", code)
        assert failure.reason.startswith(reason)
        assert failure.hint.endswith(": systemctl reload floatip")
        assert ("floatip check /other.toml; " in failure.hint) == (code is Code.RELOAD_REFUSED)
        assert applied == []
        reload.begin()
        await until(lambda: applied == [2])
        assert not reports.failing("daemon")

    play(script, reports, story, outcome, loaded(2))


def test_what_else_is_read_is_applied_and_systemd_hears_only_of_its_own_reloads(
    script: Script, reports: Reports
) -> None:
    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        outcomes: list[Outcome] = []
        reload.also(script, outcomes.append)
        await until(lambda: script.begun == 1)
        reload.also(script, lambda outcome: pytest.fail("something newer was asked for"))
        reload.also(script, outcomes.append)
        reload.begin()
        assert told == ["RELOADING=1"]
        script.may_go_on.set()
        await until(lambda: "READY=1" in told)
        assert applied == [1, 2, 3]
        assert [one.model.release_delay for one in outcomes if isinstance(one, Loaded)] == [1, 2]
        assert told == ["RELOADING=1", "READY=1"]

    play(script, reports, story, loaded(1), loaded(2), loaded(3))


def test_what_else_is_read_and_refused_changes_nothing_and_is_no_failure_of_the_file(
    script: Script, reports: Reports
) -> None:
    error = ConfigErrors([ConfigError("etcd", 3, "instance", "wrong", "mend it")])

    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        outcomes: list[Outcome] = []
        script.may_go_on.set()
        reload.also(script, outcomes.append)
        await until(lambda: bool(outcomes))
        assert outcomes == [error]
        assert not applied
        assert not told
        assert not reports.failing("daemon")

    play(script, reports, story, error)


def test_what_else_hangs_is_given_up(script: Script, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload_module, "PATIENCE", 0.05)

    async def story(reload: Reload, told: Told, applied: list[float]) -> None:
        outcomes: list[Outcome] = []
        reload.also(script, outcomes.append)
        await until(lambda: bool(outcomes))
        assert outcomes == [None]
        script.may_go_on.set()
        reload.begin()
        await until(lambda: applied == [2])

    play(script, reports, story, loaded(1), loaded(2))
