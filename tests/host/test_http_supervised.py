"""The daemon's side of the HTTP process, with other programs in its place."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from floatip.host import helper_process
from floatip.host.web import Web
from floatip.model import Listener
from tests.host.reports import Reports, until


def play(script: str, story: Callable[[Web, Reports], Awaitable[None]], path: Path, patch: pytest.MonkeyPatch) -> None:
    """With a shell script as the process; its descriptor 0 is the socket to the daemon."""
    program = path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    patch.setattr(sys, "executable", str(program))
    patch.setattr(helper_process, "SOONEST", 0.05)

    async def run() -> None:
        reports = Reports()
        part = Web(reports, path / "floatip.sock", path)
        part.configure(Listener())
        await story(part, reports)
        part.close()
        await until(lambda: part.is_gone)

    asyncio.run(run())


def test_a_process_that_ends_is_started_again_later_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(part: Web, reports: Reports) -> None:
        await until(lambda: (tmp_path / "starts").exists() and (tmp_path / "starts").read_text().count("\n") >= 4)
        [failure] = reports.failing("http")
        assert failure.reason == "the process that serves it ended: exit status 3: cannot go on"
        starts = [float(line) for line in (tmp_path / "starts").read_text().split()]
        assert starts[3] - starts[2] >= 4 * helper_process.SOONEST

    play(f"date +%s.%N >> {tmp_path}/starts; echo cannot go on; exit 3", story, tmp_path, monkeypatch)


def test_what_it_says_that_fails_is_a_failure_until_it_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(part: Web, reports: Reports) -> None:
        await until(lambda: bool(reports.failing("http")))
        [failure] = reports.failing("http")
        assert (failure.what, failure.reason, failure.hint) == ("http x", "in \\x1b[2J use", "do")
        (tmp_path / "go").touch()
        await until(lambda: not reports.failing("http"))
        part.configure(None)
        await until(lambda: part.is_gone)
        assert reports.failing("http") == set()

    say = r"""echo '[["http x", "in \u001b[2J use", "do"]]' >&0"""
    wait = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo '[]' >&0; exec sleep 1000"
    play(f"read settings; {say}; {wait}", story, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "nonsense",
    ["{", "null", "1", "[1]", '[["a"]]', '[["a", "b", 1]]', "[" * 5000, '[["a", "b", "' + "c" * 2000 + '"]]', "\\0377"],
)
def test_nonsense_ends_the_process_and_nothing_else(
    nonsense: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(part: Web, reports: Reports) -> None:
        await until(lambda: bool(reports.failing("http")))
        [failure] = reports.failing("http")
        assert failure.reason == "the process that serves it ended: killed by signal 15"

    play(f"printf '%b\\n' '{nonsense}' >&0; exec sleep 1000", story, tmp_path, monkeypatch)


def test_a_line_without_end_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(part: Web, reports: Reports) -> None:
        await until(lambda: bool(reports.failing("http")))

    play("yes | tr -d '\\n' >&0", story, tmp_path, monkeypatch)


def test_a_process_that_reads_no_settings_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(part: Web, reports: Reports) -> None:
        many = Listener(hosts=("x" * 250,) * 64)
        while not reports.failing("http"):
            part.configure(many)
            await asyncio.sleep(0)

    play("exec sleep 1000", story, tmp_path, monkeypatch)
