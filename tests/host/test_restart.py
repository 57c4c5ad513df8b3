"""What would stop the next start is told while the daemon still runs."""

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from floatip.core.events import Failure
from floatip.core.problems import Code
from floatip.host import restart as restart_module
from floatip.host.failures import Failures
from floatip.host.reload import MENDED, WHAT, say_refused
from floatip.host.restart import Restart
from floatip.model import Model
from floatip.reading import ConfigError, ConfigErrors, Loaded, MachineError
from floatip.reading.patience import note_path
from tests.host.reports import Reports, until

SCRIPT = "/etc/x.sh is writable by group or others"
REFUSED = ConfigErrors([MachineError("f", 7, 'check "x" script', SCRIPT, "chmod"), ConfigError("f", 9, "", "b", "c")])
RIGHT = Loaded(Model())


class File:
    """What each look finds, and when it answers."""

    def __init__(self) -> None:
        self.now: Loaded | Exception = RIGHT
        self.looks = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self) -> Loaded:
        self.looks += 1
        assert threading.current_thread() is not threading.main_thread()
        note_path("/dead/script")
        assert self.answers.wait(60)
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    monkeypatch.setattr(restart_module, "INTERVAL", 0.02)
    file = File()
    yield file
    file.answers.set()


def play(file: File, reports: Reports, story: Callable[[Failures], Any]) -> None:
    async def run() -> None:
        failures = Failures("daemon", reports)
        restart = Restart(file, failures, "floatip check /other.toml")
        await story(failures)
        restart.close()
        looks = file.looks
        await asyncio.sleep(0.1)
        assert file.looks <= looks + 1, "nobody looks after the end"

    asyncio.run(run())


async def looked(file: File) -> None:
    """From beginning to end, from now on."""
    so_far = file.looks
    await until(lambda: file.looks >= so_far + 2)


def test_what_would_stop_a_start_is_a_problem_until_it_is_mended(file: File, reports: Reports) -> None:
    async def story(failures: Failures) -> None:
        await looked(file)
        assert not reports.failing("daemon")
        file.now = REFUSED
        await until(lambda: bool(reports.failing("daemon")))
        (failure,) = reports.failing("daemon")
        assert isinstance(failure, Failure)
        assert (failure.what, failure.code) == ("restart", Code.RESTART_REFUSED)
        assert failure.reason == f'would fail: check "x" script: {SCRIPT}, and 1 more'
        assert "`floatip check /other.toml`" in failure.hint
        file.now = OSError(errno.EMFILE, "")
        await looked(file)
        assert reports.failing("daemon") == {failure}, "a look that failed says nothing"
        file.now = RIGHT
        await until(lambda: not reports.failing("daemon"))

    play(file, reports, story)


def test_beside_a_refused_reload_it_is_not_told_again(file: File, reports: Reports) -> None:
    async def story(failures: Failures) -> None:
        file.now = REFUSED
        await until(lambda: "restart" in failures)
        failures.set(WHAT, "the file was refused")
        await until(lambda: "restart" not in failures)
        failures.clear(WHAT)
        await until(lambda: "restart" in failures)

    play(file, reports, story)


def test_what_a_refused_reload_said_is_corrected_when_the_file_changes(file: File, reports: Reports) -> None:
    def said() -> tuple[str, str]:
        (failure,) = reports.failing("daemon")
        assert isinstance(failure, Failure)
        assert (failure.what, failure.code) == (WHAT, Code.RELOAD_REFUSED)
        return failure.reason, failure.hint

    async def story(failures: Failures) -> None:
        say_refused(failures, "floatip check /other.toml")
        refused = said()
        await until(lambda: said() == (MENDED, "systemctl reload floatip"))
        file.now = REFUSED
        await until(lambda: said() == refused)

    play(file, reports, story)


def test_a_look_that_began_before_the_reload_was_refused_corrects_nothing(
    file: File, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(failures: Failures) -> None:
        file.answers.clear()
        await until(lambda: file.looks == 1)
        monkeypatch.setattr(restart_module, "INTERVAL", 60.0)
        await until(lambda: "restart" in failures)
        say_refused(failures, "floatip check")
        file.answers.set()
        await until(lambda: "restart" not in failures)
        (failure,) = reports.failing("daemon")
        assert failure.reason.startswith("the file was refused")

    play(file, reports, story)


def test_a_path_that_hangs_is_told_and_asked_only_once(file: File, reports: Reports) -> None:
    async def story(failures: Failures) -> None:
        file.answers.clear()
        await until(lambda: bool(reports.failing("daemon")))
        (failure,) = reports.failing("daemon")
        assert failure.reason == "would hang: /dead/script does not answer"
        await asyncio.sleep(0.1)
        assert file.looks == 1
        file.answers.set()
        await until(lambda: not reports.failing("daemon"))

    play(file, reports, story)
