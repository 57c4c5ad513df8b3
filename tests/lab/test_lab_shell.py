"""`floatip lab shell` enters the lab that was kept last: one lab at a time, so both tests are here."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import floatip
from floatip.lab.network import WITNESSES
from tests.lab.processes import processes_with, wait_until_gone

KEEPER = """
import sys
from floatip.lab import shell
from floatip.lab.namespaces import enter
from floatip.lab.record import RunOptions
from floatip.lab.run import Run
enter([sys.executable, *sys.argv])
with Run(RunOptions(OPTIONS)) as run:
    if run.etcd:
        run.etcd.start()
    run.network.run("haproxy1", ["sleep", "MARKER"])
    shell.prepare(run)
    print("ready", *shell.commands(run), sep="\\n", flush=True)
    sys.stdin.read()
"""
LOOK_AROUND = """
ip -br address
ls -A /run
echo "$LAB_HOST $RUNTIME_DIRECTORY ${FLOATIP_LAB_PID:-not entered}"
command -v floatip && floatip --version
floatip status
"""
MARKER = f"600.{os.getpid()}"


@contextmanager
def kept(tmp_path: Path, options: str = "") -> Iterator[None]:
    """A lab that is killed at the end."""
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    keeper = tmp_path / "keeper.py"
    keeper.write_text(KEEPER.replace("OPTIONS", options).replace("MARKER", MARKER))
    lab = subprocess.Popen([sys.executable, keeper], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert lab.stdout
        assert lab.stdout.readline() == "ready\n"
        yield
    finally:
        lab.kill()
        lab.communicate()


def typed(host: str, commands: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "floatip", "lab", "shell", host]
    return subprocess.run(command, input=commands, capture_output=True, text=True, check=False)


def test_a_shell_finds_its_host_and_everything_disappears_when_the_lab_is_killed(tmp_path: Path) -> None:
    with kept(tmp_path):
        look = typed("haproxy1", LOOK_AROUND)
        assert "192.168.143.227/17" in look.stdout
        lines = [line for line in look.stdout.splitlines() if "eth0" not in line and "lo " not in line]
        directory = "/run/lab/haproxy1/floatip/run"
        version = f"floatip {floatip.__version__}"
        assert lines == ["lab", f"haproxy1 {directory} not entered", "/run/lab/bin/floatip", version], look.stderr
        assert f"no floatip daemon answers at {directory}/floatip.sock" in look.stderr
        assert processes_with(MARKER)
    wait_until_gone(MARKER)


def test_a_shell_of_a_kept_lab_finds_etcd(tmp_path: Path) -> None:
    with kept(tmp_path, 'election="nodes", etcd=True'):
        look = typed("etcd1", "etcdctl endpoint health\n")
        assert look.stdout.count("is healthy") + look.stderr.count("is healthy") == len(WITNESSES), look
    wait_until_gone(MARKER)
