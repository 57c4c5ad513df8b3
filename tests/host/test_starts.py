import asyncio
import json
from pathlib import Path

import pytest

from floatip.core.events import Failing
from floatip.host import starts
from floatip.host.disk import BOOT_ID
from tests.host.reports import PromptDisk, Reports, remembered


def note(path: Path, reports: Reports, *times: float, forgets: bool = False) -> list[float]:
    """Each by a daemon of its own."""

    async def start(now: float) -> float:
        memory = await remembered(PromptDisk(reports), path)
        barred_for = await starts.note(memory, now)
        if forgets:
            starts.forget(memory)
        return barred_for

    return [asyncio.run(start(now)) for now in times]


def test_the_third_start_in_a_minute_is_barred_and_so_is_each_further_one(tmp_path: Path, reports: Reports) -> None:
    assert note(tmp_path / "state" / "starts.json", reports, 100, 110, 120, 159, 175, 300) == [0, 0, 60, 60, 60, 0]
    assert reports.events == []


def test_a_stop_that_was_asked_for_is_no_death(tmp_path: Path, reports: Reports) -> None:
    assert note(tmp_path / "starts.json", reports, *range(10), forgets=True) == [0] * 10


THIS_BOOT = BOOT_ID.read_text().strip()
NONSENSE = ["", "[]", "{", f'{{"boot": "{THIS_BOOT}"}}', f'{{"boot": "{THIS_BOOT}", "starts": [1, "x"]}}', "\ud8ff"]


@pytest.mark.parametrize("content", NONSENSE)
def test_a_file_of_nonsense_counts_for_nothing_and_is_told(content: str, tmp_path: Path, reports: Reports) -> None:
    file = tmp_path / "starts.json"
    file.write_bytes(content.encode(errors="surrogatepass"))
    assert note(file, reports, 3) == [0]
    assert json.loads(file.read_text())["starts"] == [3]
    assert "not understood, so ignored" in next(iter(reports.of(Failing)[0].failures)).reason


def test_the_starts_before_the_boot_count_for_nothing(tmp_path: Path, reports: Reports) -> None:
    file = tmp_path / "starts.json"
    file.write_text('{"boot": "another", "starts": [1, 2]}')
    assert note(file, reports, 3) == [0]
    assert reports.events == []


def test_who_cannot_remember_is_not_barred(tmp_path: Path, reports: Reports) -> None:
    (tmp_path / "file").touch()
    assert note(tmp_path / "file" / "starts.json", reports, *range(5)) == [0] * 5
    reasons = {failure.reason for level in reports.of(Failing) for failure in level.failures}
    assert reasons == {"not a directory", "file exists"}
