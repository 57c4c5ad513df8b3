"""Where a report is written, where it is not, and what a terminal shows of it."""

import os
import stat
from pathlib import Path

import pytest

from floatip.commands import Refusal
from floatip.drill import files
from floatip.drill.as_json import NotAReport, rounded
from floatip.drill.html import to_html
from floatip.drill.text import draw
from floatip.lab import runner
from floatip.screen import plain
from tests.drill.samples import SAMPLES, crash, hostile, one_lost, short


def test_the_ending_of_the_name_says_what_is_written(tmp_path: Path) -> None:
    files.write(short(), tmp_path / "web.html")
    files.write(short(), tmp_path / "web.JSON")
    assert (tmp_path / "web.html").read_text() == to_html(short())
    assert files.read(tmp_path / "web.JSON") == rounded(short())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web.JSON", "web.html"]


@pytest.mark.parametrize("name", ["web.pdf", "web", "web.html.gz", ".json"])
def test_another_ending_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    for refuses in (files.check, lambda path: files.write(short(), path)):
        with pytest.raises(files.CannotWrite, match=r"ends in \.html or \.json"):
            refuses(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_older_report_is_replaced_and_its_rights_are_as_the_umask_says(tmp_path: Path) -> None:
    for path in (tmp_path / "web.html", tmp_path / "web.json"):
        files.write(crash(), path)
        files.check(path)
        files.write(short(), path)
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert files.read(tmp_path / "web.json") == short()


def test_the_page_of_somebody_else_stays(tmp_path: Path) -> None:
    for path, content in ((tmp_path / "index.html", "<!DOCTYPE html><p>mine"), (tmp_path / "a.json", '{"format": 1}')):
        path.write_text(content)
        for refuses in (files.check, lambda path: files.write(short(), path)):
            with pytest.raises(files.CannotWrite, match="is not a report of floatip"):
                refuses(path)
        assert path.read_text() == content


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "web.json").symlink_to("there/real.json")
    files.check(tmp_path / "web.json")
    files.write(short(), tmp_path / "web.json")
    assert (tmp_path / "web.json").is_symlink()
    assert files.read(tmp_path / "there" / "real.json") == short()


def test_where_nothing_can_be_written_is_said_with_the_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory.html").mkdir()
    for path, why in (
        (tmp_path / "no" / "web.html", "the directory does not exist"),
        (tmp_path / "file" / "web.html", "a part of the path is not a directory"),
        (tmp_path / f"{'n' * 300}.html", "the name is too long"),
        (tmp_path / "directory.html", "is not a file"),
        (Path("/proc/web.html"), ""),
    ):
        for refuses in (files.check, lambda path: files.write(short(), path)):
            with pytest.raises(files.CannotWrite) as refusal:
                refuses(path)
            assert str(path) in refusal.value.what
            assert why in refusal.value.what
            assert refusal.value.hint


def test_a_disk_that_is_full_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "web.json"
    files.write(crash(), path)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.CannotWrite, match="the disk is full"):
        files.write(short(), path)
    assert files.read(path) == rounded(crash())
    assert [each.name for each in tmp_path.iterdir()] == ["web.json"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text("{")
    for path in (tmp_path / "web.json", tmp_path / "none.json", tmp_path / "web.html", tmp_path):
        with pytest.raises(NotAReport) as refusal:
            files.read(path)
        assert str(path) in refusal.value.what


def test_each_scene_and_run_of_the_lab_has_its_file(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    assert runner.report_files(path, ["crash"], 1) == {("crash", 1): path}
    assert runner.report_files(path, ["check", "crash"], 1) == {
        ("check", 1): tmp_path / "out-check.html",
        ("crash", 1): tmp_path / "out-crash.html",
    }
    assert [each.name for each in runner.report_files(path, ["crash"], 2).values()] == [
        "out-crash-1.html",
        "out-crash-2.html",
    ]
    (tmp_path / "out-crash.html").write_text("mine")
    with pytest.raises(files.CannotWrite, match=r"out-crash\.html exists"):
        runner.report_files(path, ["check", "crash"], 1)


def test_the_run_directory_of_the_lab_is_no_place_for_a_report() -> None:
    with pytest.raises(Refusal, match=r"/run/web\.html is in /run, of which the lab has its own"):
        runner.check_report(Path("/run/web.html"), ["check"], 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_text_fits_an_old_terminal(name: str) -> None:
    lines = plain(draw(SAMPLES[name](), 80)).split("\n")
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def test_the_text_says_all_in_order() -> None:
    said = plain(draw(one_lost())).split("\n")
    titles = [line for line in said if line and not line.startswith(" ")]
    assert titles[2:] == ["steady state before", "method", "observed", "verdict", "restored", "notes", "FAILED"]
    assert "    10,000 requests sent, 1 lost (1 timed out); round trip 0.7 ms in the median," in said
    assert "    +17.330 s: 1 lost, for 5 ms" in said
    assert "          hint: floatip history shows what happened then" in said
    assert "   2    +0.000 s  the check haproxy of haproxy1 is down" in said


def test_hostile_names_do_not_reach_the_terminal() -> None:
    said = plain(draw(hostile()))
    assert "\x1b" not in said
    assert "\u202e" not in said
