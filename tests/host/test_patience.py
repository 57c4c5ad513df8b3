"""A path that never answers, as on a dead NFS: which one it is, and that a start and `check` can be ended."""

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIG = """
[linode]
dcid = 6
[[check]]
name = "web"
script = "/dead/check.sh"
[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32"]
checks = ["web"]
vrrp = { interface = "eth0", vrid = 51, source = "192.0.2.1", peers = ["192.0.2.2"] }
"""
# A mutex of C is waited for as a dead disk is: no handler of a signal runs meanwhile.
PROGRAM = """
import ctypes, os, sys
from floatip import cli
from floatip.host import privileges
from floatip.reading import patience

c, mutex, stat = ctypes.CDLL(None), ctypes.create_string_buffer(64), os.stat
c.pthread_mutex_lock(mutex)

def hangs(path, **options):
    return c.pthread_mutex_lock(mutex) if str(path).startswith("/dead/") else stat(path, **options)

os.stat = hangs
privileges.need = lambda: None
patience.PATIENCE = 0.1
sys.exit(cli.main(sys.argv[1:]))
"""


@contextmanager
def hanging(command: str, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Once it has said what it waits for."""
    file.write_text(CONFIG)
    line = [sys.executable, "-c", PROGRAM, command, str(file)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert select.select([process.stderr], [], [], 60)[0], "it says nothing"
            said = process.stderr.readline()
            assert said == f"reading {file} and what it names takes long: /dead/check.sh does not answer\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_check_names_the_path_that_hangs_and_can_be_ended(tmp_path: Path, number: signal.Signals) -> None:
    with hanging("check", tmp_path / "floatip.toml") as process:
        process.send_signal(number)
        assert process.wait(60) == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_names_the_path_that_hangs_and_can_be_ended(tmp_path: Path, number: signal.Signals) -> None:
    with hanging("run", tmp_path / "floatip.toml") as process:
        process.send_signal(number)
        assert process.wait(60) == -number
