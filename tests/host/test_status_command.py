"""How `floatip status` ends when it has no status to show."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path

import pytest

from floatip import cli
from tests.command_line import floatip
from tests.host.users import as_user


def shown() -> str:
    status, output = floatip("status")
    return f"{status} {output}"


@pytest.mark.parametrize(
    ("configured", "hint"),
    [(True, "systemctl status floatip"), (False, "there is no /etc/floatip/floatip.toml yet: floatip adopt, or")],
)
def test_without_a_daemon_the_hint_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: bool, hint: str
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "lelastic").touch()
    monkeypatch.setattr(cli, "CONFIGURED_BY", ("/nowhere", str(tmp_path / ("lelastic" if configured else "none"))))
    told = shown()
    assert told.startswith("3 error: no floatip daemon answers")
    assert f"hint: {hint}" in told


def test_who_may_not_ask_gets_an_exit_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as daemon:
        monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
        shown()  # what it imports, the other user may not be able to read
        os.chmod(directory, 0o755)
        daemon.bind(f"{directory}/floatip.sock")
        daemon.listen()
        told = asyncio.run(as_user(shown))
    assert told.startswith(f"4 error: not allowed to use {directory}/floatip.sock\nhint: permission denied: sudo"), told
