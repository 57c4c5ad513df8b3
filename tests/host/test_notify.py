"""`floatip notify`: what it understands, and how long and to whom it speaks."""

import asyncio
import contextlib
import subprocess
import sys
import syslog
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from floatip import notify
from floatip.host.ask import Record
from floatip.host.control import Command, Control
from tests.host.reports import no_client
from tests.host.users import NOBODY, as_user

UNDERSTOOD = [
    ("Master", None, None, "MASTER"),
    ("Backup", None, None, "BACKUP"),
    ("Fault", None, None, "FAULT"),
    ("Stop", None, None, "STOP"),
    ("mAsTeR", None, None, "MASTER"),
    ("INSTANCE VI_1 MASTER 150", "INSTANCE", "VI_1", "MASTER"),
    ("INSTANCE VI_1 MASTER", "INSTANCE", "VI_1", "MASTER"),
    ("GROUP VG1 FAULT 0", "GROUP", "VG1", "FAULT"),
    ("instance VI_1 backup 1", "INSTANCE", "VI_1", "BACKUP"),
    ("INSTANCE Master STOP 1", "INSTANCE", "Master", "STOP"),
    ("INSTANCE VI_1 DELETED 1", "INSTANCE", "VI_1", "STOP"),
    ("INSTANCE VI_1 MASTER_RX_LOWER_PRI 150", "INSTANCE", "VI_1", "MASTER"),
]
MISUSED = {
    "": "no state is given",
    "Bogus": "Bogus is not a state",
    "Mastered": "Mastered is not a state",
    "INIT": "INIT is not a state",
    "Master Backup": "not understood: Master Backup",
    "INSTANCE VI_1": "not understood: INSTANCE VI_1",
    "INSTANCE VI_1 BOGUS 1": "BOGUS is not a state",
    "COUSIN VI_1 MASTER 1": "not understood: COUSIN VI_1 MASTER 1",
    "INSTANCE VI_1 MASTER 150 more": "not understood: INSTANCE VI_1 MASTER 150 more",
    "--force": "--force is not a state",
}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path / "floatip.sock"


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: lines.append(line))
    return lines


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait longer than this machine ever pauses."""
    monkeypatch.setattr(notify, "WAIT", 60.0)


@contextlib.asynccontextmanager
async def listening(path: Path, answer: Record) -> AsyncIterator[list[Record]]:
    requests: list[Record] = []

    def notified(request: Record, pid: int) -> Record:
        requests.append(request)
        return answer

    control = Control(path, {"notify": Command(notified, "notify", is_for_notifiers=True)}, list, no_client)
    await control.start()
    try:
        yield requests
    finally:
        control.close()


@pytest.mark.parametrize(("arguments", "kind", "name", "state"), UNDERSTOOD)
def test_the_guides_words_and_keepaliveds_are_understood(
    arguments: str, kind: str | None, name: str | None, state: str
) -> None:
    request = notify.parse(arguments.split())
    assert (request.get("kind"), request.get("name"), request["state"]) == (kind, name, state)


@pytest.mark.parametrize("arguments", MISUSED)
def test_anything_else_is_an_error_with_the_usage(
    arguments: str, capsys: pytest.CaptureFixture[str], journal: list[str]
) -> None:
    assert notify.main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == f"error: {MISUSED[arguments]} [usage]\n{notify.USAGE}\n"
    assert journal == [f"error: {MISUSED[arguments]} [usage]"]


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert notify.main(["--help"]) == 0
    assert capsys.readouterr() == (f"{notify.USAGE}\n", "")


def test_what_was_heard_is_not_talked_about(runtime: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async with listening(runtime, {"heard": ""}) as requests:
            assert await asyncio.to_thread(notify.main, ["INSTANCE", "VI_1", "MASTER", "150"]) == 0
            assert requests == [{"cmd": "notify", "kind": "INSTANCE", "name": "VI_1", "state": "MASTER"}]

    asyncio.run(story())
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("patient")
def test_a_refusal_is_told_at_once(runtime: Path, capsys: pytest.CaptureFixture[str], journal: list[str]) -> None:
    async def story() -> None:
        refusal: Record = {"error": "no instance follows INSTANCE VI_9", "hint": "VI_1 does"}
        async with listening(runtime, refusal) as requests:
            began = time.monotonic()
            assert await asyncio.to_thread(notify.main, ["INSTANCE", "VI_9", "MASTER", "150"]) == 1
            assert time.monotonic() - began < notify.WAIT / 2
            assert len(requests) == 1

    asyncio.run(story())
    error = "error: INSTANCE VI_9 MASTER 150 was not delivered: no instance follows INSTANCE VI_9 [daemon-refuses]"
    assert capsys.readouterr().err == f"{error}\nhint: VI_1 does\n"
    assert journal == [error, "hint: VI_1 does"]


def test_a_daemon_that_stays_away_is_waited_for_and_then_reported(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journal: list[str]
) -> None:
    monkeypatch.setattr(notify, "WAIT", 0.5)
    began = time.monotonic()
    assert notify.main(["Master"]) == 1
    took = time.monotonic() - began
    print(f"gave up after {took:.2f} s")
    assert 0.5 <= took < 10
    assert journal == [
        f"error: Master was not delivered: no floatip daemon answers at {runtime} [no-daemon]",
        "hint: systemctl status floatip",
    ]


def test_a_daemon_that_hangs_is_waited_for_no_longer(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, journal: list[str]
) -> None:
    monkeypatch.setattr(notify, "WAIT", 0.5)

    async def story() -> None:
        async with listening(runtime, {"heard": ""}):
            began = time.monotonic()
            assert notify.main(["Master"]) == 1  # in the daemon's own thread
            assert 0.5 <= time.monotonic() - began < 10

    asyncio.run(story())
    assert (
        journal[0]
        == f"error: Master was not delivered: the floatip daemon at {runtime} does not answer [daemon-silent]"
    )


@pytest.mark.usefixtures("patient")
def test_a_daemon_that_comes_back_is_told(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    sleep = time.sleep

    def slept(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", slept)

    async def story() -> None:
        telling = asyncio.create_task(asyncio.to_thread(notify.main, ["Master"]))
        assert await asyncio.to_thread(waits.wait, 20), "it has asked, and nobody was there"
        async with listening(runtime, {"heard": ""}) as requests:
            assert await telling == 0
            assert requests == [{"cmd": "notify", "state": "MASTER"}]

    asyncio.run(story())


@pytest.mark.usefixtures("patient")
def test_a_daemon_that_dies_before_it_answers_is_told_again(runtime: Path) -> None:
    async def story() -> None:
        asked = asyncio.Event()

        def die(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()
            asked.set()

        dying = await asyncio.start_unix_server(die, runtime)
        telling = asyncio.create_task(asyncio.to_thread(notify.main, ["Master"]))
        async with asyncio.timeout(20):
            await asked.wait()
        dying.close()
        runtime.unlink(missing_ok=True)
        async with listening(runtime, {"heard": ""}) as requests:
            assert await telling == 0
            assert len(requests) == 1

    asyncio.run(story())


@pytest.mark.usefixtures("patient")
def test_who_may_not_is_told_so_and_does_not_wait(tmp_path: Path, journal: list[str]) -> None:
    """The socket's directory cannot even be entered by him."""
    began = time.monotonic()
    path = tmp_path / "closed" / "floatip.sock"
    path.parent.mkdir(mode=0o700)

    def told() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUNTIME_DIRECTORY", str(path.parent))
            return f"{notify.main(['Master'])} {journal}"

    answer = asyncio.run(as_user(told, NOBODY))
    assert answer.startswith(f"1 ['error: Master was not delivered: not allowed to use {path} [not-allowed]', "), answer
    assert "script_user" in answer
    assert time.monotonic() - began < notify.WAIT / 2


def test_it_starts_quickly_because_it_loads_little() -> None:
    took = []
    for _ in range(5):
        began = time.monotonic()
        ended = subprocess.run([sys.executable, "-m", "floatip", "notify", "--help"], capture_output=True, check=True)
        took.append((time.monotonic() - began) * 1000)
        assert ended.stdout.startswith(b"usage: floatip notify")
    listing = "import sys; from floatip import cli; cli.main(['notify', '-h']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    print(f"{min(took):.0f} to {max(took):.0f} ms from start to end, {len(loaded)} modules")
    ours = {name for name in loaded if name.startswith("floatip")}
    own = "cli", "commands", "core", "core.refusals", "host", "host.ask", "notify"
    assert ours == {"floatip", *(f"floatip.{name}" for name in own)}
    assert not {"asyncio", "argparse", "typing", "subprocess"} & set(loaded)


def test_with_no_standard_error_it_still_says_two() -> None:
    ended = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m floatip notify Bogus 2>&-"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
