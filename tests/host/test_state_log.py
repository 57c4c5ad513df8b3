import asyncio
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from floatip.core.events import Failing, Failure
from floatip.host.disk import Disk
from floatip.host.state_log import StateLog
from tests.host.reports import PromptDisk, Reports, until

ENTRY = r"={35}\nDate:  \d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\n\[INFO\] Now %s\n\n"


def write(reports: Reports, path: Path | None, *roles: str, instances: int = 1) -> None:
    """Waits for the disk."""

    before = set(threading.enumerate())

    async def story() -> None:
        disk = Disk(reports)
        log = StateLog(disk)
        log.configure(path, instances)
        for role in roles:
            log.write("VI_2", role)
        await disk.finish(60)
        disk.close()
        await until(lambda: before.issuperset(threading.enumerate()))

    asyncio.run(story())


def test_each_change_is_an_entry_in_the_format_of_the_guide(reports: Reports, tmp_path: Path) -> None:
    write(reports, tmp_path / "state", "MASTER", "BACKUP", "FAULT", "STOP")
    expected = "".join(ENTRY % role for role in ("Master", "Backup", "Fault", "Stop"))
    assert re.fullmatch(expected, (tmp_path / "state").read_text())
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o640
    assert reports.events == []


def test_of_several_instances_the_entry_says_which(reports: Reports, tmp_path: Path) -> None:
    write(reports, tmp_path / "state", "MASTER", instances=2)
    assert re.fullmatch(ENTRY % r"Master \(VI_2\)", (tmp_path / "state").read_text())


def test_without_a_path_nothing_is_written(reports: Reports) -> None:
    write(reports, None, "MASTER")
    assert reports.events == []


def test_a_log_that_was_rotated_is_begun_anew(reports: Reports, tmp_path: Path) -> None:
    write(reports, tmp_path / "state", "MASTER")
    (tmp_path / "state").rename(tmp_path / "state.1")
    write(reports, tmp_path / "state", "BACKUP")
    assert "Now Master" in (tmp_path / "state.1").read_text()
    assert re.fullmatch(ENTRY % "Backup", (tmp_path / "state").read_text())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("symlink", "it is not a regular file"),
        ("FIFO", "it is not a regular file"),
        ("directory", "it is not a regular file"),
        ("shared", "{directory} is writable by group or others"),
        ("sticky", "{directory} is writable by group or others"),
        ("another's", "{directory} belongs neither to root nor to the daemon's user"),
        ("missing", "no such file or directory"),
    ],
)
def test_what_cannot_be_written_safely_is_said_at_once_and_stops_nothing(
    kind: str, reason: str, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "log"
    path, target = directory / "state", tmp_path / "target"
    if kind != "missing":
        directory.mkdir(0o755)
    target.touch()
    match kind:
        case "symlink":
            path.symlink_to(target)
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "shared":
            directory.chmod(0o775)
        case "sticky":
            directory.chmod(0o1777)
        case "another's":
            monkeypatch.setattr(os, "geteuid", lambda: 4711)
            if directory.stat().st_uid == 0:
                os.chown(directory, 4712, -1)
    before = len(os.listdir("/proc/self/fd"))
    write(reports, path, "MASTER")
    monkeypatch.undo()
    assert reports.failing("disk") == {Failure(f"state log {path}", reason.format(directory=directory))}
    assert target.read_text() == ""
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_is_full_also_when_it_takes_half_an_entry(reports: Reports, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small disk in a namespace of its own and needs root: sudo make test")
    program = (
        "from pathlib import Path; from tests.host.reports import Reports; from tests.host.test_state_log import write;"
        f"Path('{tmp_path}/filler').write_bytes(b' ' * 4096); reports = Reports();"
        f"write(reports, Path('{tmp_path}/state'), *['MASTER'] * 60);"
        "print(*reports.events, sep='\\n')"
    )
    script = f'mount -t tmpfs -o size=8k,mode=755 tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", program]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert said == [
        str(Failing("disk", frozenset({Failure(f"state log {tmp_path}/state", "no space left on device")})))
    ]


def test_a_log_that_a_reload_gave_up_fails_no_more(reports: Reports, tmp_path: Path) -> None:
    async def story() -> None:
        log = StateLog(disk := PromptDisk(reports))
        log.configure(tmp_path / "missing" / "state", 1)
        log.write("VI_1", "MASTER")
        assert reports.failing("disk")
        log.configure(tmp_path / "missing" / "state", 1)
        assert reports.failing("disk")
        log.configure(None, 1)
        assert not reports.failing("disk")
        disk.close()

    asyncio.run(story())
