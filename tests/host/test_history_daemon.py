"""The history of a whole daemon: what it says of its own life, and that no file keeps it from starting."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from floatip.history import NAME, read_history
from tests.host.conftest import entered
from tests.host.fuse import CLONE_NEWNS
from tests.host.test_daemon import CONFIG, Floatip, floatip, wait

__all__ = ["floatip"]
pytestmark = pytest.mark.usefixtures("namespace")


def directory(floatip: Floatip) -> Path:
    return floatip.directory / "state"


def records(floatip: Floatip, *whats: str) -> list[tuple[str, str]]:
    """Value and reason of what the history has."""
    return [(one.value, one.reason) for one in read_history(directory(floatip)) if one.what in whats]


def problems(floatip: Floatip) -> list[str]:
    return [str(one["what"]) for one in floatip.status()["problems"] if "history" in one["what"]]


def recent(floatip: Floatip) -> list[dict[str, Any]]:
    return list(floatip.status()["recent"])


def test_starts_reloads_refusals_kills_and_stops_are_in_it_with_their_cause(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: floatip.role() == "master")
    floatip.write(CONFIG.replace("release_delay = 0.2", "release_delay = 0.3"))
    floatip.signal(signal.SIGHUP)
    wait(lambda: len(records(floatip, "configuration")) == 1)
    floatip.write(f"nonsense = 1{CONFIG}")
    floatip.signal(signal.SIGHUP)
    wait(lambda: len(records(floatip, "configuration")) == 2)
    (reloaded, changed), (refused, why) = records(floatip, "configuration")
    assert (reloaded, refused) == ("reloaded", "refused")
    assert changed.startswith("options changed; configuration ")
    assert why == f"{floatip.file}:1: nonsense: unknown key"
    floatip.signal(signal.SIGKILL)
    floatip.exit_status()
    floatip.write(CONFIG)
    floatip.start()
    wait(lambda: floatip.role() == "master")
    wait(lambda: len(records(floatip, "daemon")) == 2)
    assert [one["what"] for one in recent(floatip)][-1] == "role"
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    (first, _), (second, cause), last = records(floatip, "daemon")
    assert (first, second) == ("started", "started")
    assert cause.endswith(", the daemon before this one crashed or was killed")
    assert last == ("stopped", "asked to stop (SIGTERM)")
    assert read_history(directory(floatip))[-1].value == "stopped"
    floatip.start()
    wait(lambda: len(records(floatip, "daemon")) == 4)
    assert "crashed" not in records(floatip, "daemon")[-1][1]


def test_after_a_reboot_the_history_goes_on(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: len(records(floatip, "daemon")) == 1)
    floatip.signal(signal.SIGKILL)
    floatip.exit_status()
    path = directory(floatip) / NAME
    lines = path.read_text().splitlines()
    path.write_text("".join(json.dumps(json.loads(line) | {"boot": "before"}) + "\n" for line in lines))
    floatip.start()
    wait(lambda: len(records(floatip, "daemon")) == 2)
    assert records(floatip, "daemon")[1][1].endswith(", the machine went down before the daemon was stopped")
    assert len({one.boot for one in read_history(directory(floatip))}) == 2


@pytest.mark.parametrize("kind", ["directory", "symlink", "FIFO", "torn", "NULs"])
def test_whatever_stands_there_the_daemon_serves(kind: str, floatip: Floatip) -> None:
    path = directory(floatip) / NAME
    path.parent.mkdir()
    match kind:
        case "directory":
            path.mkdir()
        case "symlink":
            path.symlink_to("/etc/passwd")
        case "FIFO":
            os.mkfifo(path)
        case "torn":
            path.write_bytes(b'{"v": 1, "time": "2026-11-29T12:00:00.0')
        case "NULs":
            path.write_bytes(b"\0" * 4096)
    floatip.start()
    wait(lambda: floatip.role() == "master")
    wait(lambda: "role" in {one["what"] for one in recent(floatip)})
    if kind in ("torn", "NULs"):
        wait(lambda: ("master", "owns the addresses (priority 255)") in records(floatip, "role"))
        assert problems(floatip) == []
    else:
        wait(lambda: len(problems(floatip)) == 1)
        assert f"it is not a regular file; move it away: mv {path} {path}.other" in problems(floatip)[0]


@pytest.mark.parametrize(
    ("options", "reason"), [("size=64k", "no space left on device"), ("ro", "read-only file system")]
)
def test_a_disk_that_takes_nothing_is_a_problem_and_the_daemon_serves(
    options: str, reason: str, floatip: Floatip
) -> None:
    path = directory(floatip)
    path.mkdir()
    with entered("mnt", CLONE_NEWNS):
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        if options != "ro":
            (path / "ballast").write_bytes(b"x" * (64 << 10))
        floatip.start()
        wait(lambda: floatip.role() == "master")
        wait(lambda: any(reason in one for one in problems(floatip)))
        floatip.signal(signal.SIGTERM)
        assert floatip.exit_status() == 0
