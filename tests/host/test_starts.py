import json
from pathlib import Path

import pytest

from floatip.host import starts


def test_the_third_start_in_a_minute_is_barred_and_so_is_each_further_one(tmp_path: Path) -> None:
    file = tmp_path / "state" / "starts.json"
    assert [starts.note(file, now) for now in (100, 110, 120, 159, 175, 300)] == [0, 0, 60, 60, 60, 0]


def test_a_stop_that_was_asked_for_is_no_death(tmp_path: Path) -> None:
    for now in range(10):
        assert starts.note(tmp_path / "starts.json", now) == 0
        starts.forget(tmp_path / "starts.json")
    starts.forget(tmp_path / "starts.json")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"boot": "another", "starts": [1, 2]}', '{"boot": 1}', "\ud8ff"])
def test_a_file_of_another_boot_or_of_nonsense_counts_for_nothing(content: str, tmp_path: Path) -> None:
    file = tmp_path / "starts.json"
    file.write_bytes(content.encode(errors="surrogatepass"))
    assert starts.note(file, 3) == 0
    assert json.loads(file.read_text())["starts"] == [3]


def test_who_cannot_remember_is_not_barred(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert [starts.note(tmp_path / "file" / "starts.json", now) for now in range(5)] == [0] * 5
