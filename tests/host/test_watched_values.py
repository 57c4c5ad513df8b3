"""Files with a number, and interfaces: told at each change."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from floatip.core.events import CheckDone
from floatip.host.checks import Probes, interface
from floatip.host.checks.value import number
from floatip.model import Interface, Kind, Value
from tests.host.reports import Reports, close, until


def play(kind: Kind, story: Callable[[Reports, Probes], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        reports = Reports()
        probes = Probes(reports)
        probes.configure({"chk": kind})
        await reports.next(CheckDone)
        await story(reports, probes)
        await close(probes)

    asyncio.run(whole())


def last(reports: Reports) -> CheckDone:
    return reports.of(CheckDone)[-1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0\n", 0),
        (" 12 apples", 12),
        ("-5", -5),
        ("+7", 7),
        ("0x10", 16),
        ("010", 8),
        ("08", 0),
        ("2147483647", 2147483647),
        ("2147483648", None),
        ("-99999999999999999999", None),
        ("", None),
        ("abc", None),
        ("- 1", None),
    ],
)
def test_a_number_is_read_as_strtol_does(text: str, value: int | None) -> None:
    assert number(text) == value


def test_the_number_in_a_file_is_told_at_each_change(tmp_path: Path) -> None:
    path = tmp_path / "load"

    async def story(reports: Reports, probes: Probes) -> None:
        assert last(reports) == CheckDone("chk", 0, True, f"{path} does not exist, which counts as 0", 0)
        path.write_text("20\n")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, f"{path} holds 20", 20))
        path.write_text("30")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, f"{path} holds 30", 30))
        (tmp_path / "new").write_text("0")
        (tmp_path / "new").rename(path)
        await until(lambda: last(reports) == CheckDone("chk", 0, True, f"{path} holds 0", 0))
        path.write_text("much\n")
        await until(lambda: last(reports).reason == f"{path} holds no number, which counts as 0")
        path.unlink()
        await until(lambda: last(reports).reason == f"{path} does not exist, which counts as 0")
        path.mkdir()
        await until(lambda: last(reports).reason == f"{path} is not a regular file, which counts as 0")
        before = len(reports.of(CheckDone))
        probes.configure({"chk": Value(path)})  # a reload
        assert (await reports.next(CheckDone, before + 1)).value == 0

    play(Value(path), story)


@pytest.mark.parametrize(("overwrite", "before", "after"), [(False, "", 7), (False, "3", 3), (True, "3", 7)])
def test_a_file_that_is_missing_is_written_at_the_start_and_another_one_if_that_is_wanted(
    overwrite: bool, before: str, after: int, tmp_path: Path
) -> None:
    path = tmp_path / "load"
    if before:
        path.write_text(before)

    async def story(reports: Reports, probes: Probes) -> None:
        assert last(reports) == CheckDone("chk", 0, False, f"{path} holds {after}", after)
        path.write_text("9")
        await until(lambda: last(reports).value == 9)
        path.unlink()
        await until(lambda: last(reports).value == 0)  # not written again

    play(Value(path, 7, overwrite), story)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "load"

    async def story(reports: Reports, probes: Probes) -> None:
        reason = f"{path} does not exist, which counts as 0; 7 could not be written: no such file or directory"
        assert last(reports) == CheckDone("chk", 0, True, reason, 0)

    play(Value(path, 7), story)


def test_a_link_in_the_place_of_the_file_is_not_followed_to_write(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    path = tmp_path / "load"
    path.symlink_to(tmp_path / "passwd")

    async def story(reports: Reports, probes: Probes) -> None:
        assert (tmp_path / "passwd").read_text() == "root"

    play(Value(path, 7, True), story)


def test_a_file_that_cannot_be_read_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.symlink_to(path)

    async def story(reports: Reports, probes: Probes) -> None:
        assert not last(reports).passed
        assert last(reports).value is None

    play(Value(path), story)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.mark.usefixtures("namespace")
def test_an_interface_is_up_while_it_is_there_and_has_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "LOOK_INTERVAL", 86400.0)

    async def story(reports: Reports, probes: Probes) -> None:
        assert last(reports) == CheckDone("chk", 0, False, "there is no interface v0")
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, "v0 is down"))
        ip("link", "set", "v0", "up")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, "v0 is up and has no link"))
        ip("link", "set", "v1", "up")
        await until(lambda: last(reports) == CheckDone("chk", 0, True, "v0 is up"))
        ip("link", "set", "v1", "down")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, "v0 is up and has no link"))
        ip("link", "set", "v1", "up")
        await until(lambda: last(reports).passed)
        before = len(reports.of(CheckDone))
        ip("link", "add", "w0", "type", "veth", "peer", "name", "w1")  # of another one nothing is told
        ip("link", "delete", "v0")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, "there is no interface v0"))
        assert len(reports.of(CheckDone)) <= before + 2
        probes.configure({"chk": Interface("v0")})
        assert (await reports.next(CheckDone, len(reports.of(CheckDone)))).reason == "there is no interface v0"

    descriptors = len(os.listdir("/proc/self/fd"))
    play(Interface("v0"), story)
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.usefixtures("namespace")
def test_where_nobody_is_told_of_links_the_interface_is_looked_at_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise OSError

    monkeypatch.setattr(interface.InterfaceRunner, "_listen", refused)
    monkeypatch.setattr(interface, "LOOK_INTERVAL", 0.05)

    async def story(reports: Reports, probes: Probes) -> None:
        assert last(reports).passed
        ip("link", "set", "lo", "down")
        await until(lambda: last(reports) == CheckDone("chk", 0, False, "lo is down"))

    play(Interface("lo"), story)
