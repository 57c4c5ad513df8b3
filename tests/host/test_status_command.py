"""`floatip status` where it has no status to show, and `--watch` while the daemon is restarted."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from floatip.core.snapshot import describe
from floatip.core.state import NodeView, as_data
from tests.command_line import floatip
from tests.core.host import master
from tests.core.test_view import node, own
from tests.host.users import as_user


def shown() -> str:
    code, output = floatip("status")
    return f"{code} {output}"


def test_who_may_not_ask_gets_an_exit_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as daemon:
        monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
        shown()  # what it imports, the other user may not be able to read
        os.chmod(directory, 0o755)
        daemon.bind(f"{directory}/floatip.sock")
        daemon.listen()
        told = asyncio.run(as_user(shown))
    assert told.startswith(f"4 error: not allowed to use {directory}/floatip.sock\nhint: permission denied: sudo"), told


ANSWER = json.dumps(as_data(describe(master().node, 100.0))).encode() + b"\n"


@contextmanager
def daemon(directory: Path, answer: bytes = ANSWER) -> Iterator[None]:
    """Answers each request with the same status."""
    path = directory / "floatip.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    if client.recv(100) == b"end\n":
                        return
                    client.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"end\n")
            thread.join()
    path.unlink()


@pytest.mark.parametrize("answer", [b'{"version": "9"}\n', b'{"instances": 1}\n'])
def test_an_answer_of_another_version_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path, answer):
        assert shown().startswith("3 error: the daemon is of another version")


def with_nodes(*nodes: NodeView) -> bytes:
    return json.dumps(json.loads(ANSWER) | {"nodes": as_data(nodes)}).encode() + b"\n"


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (node("haproxy2"), 0),
        (node("haproxy2", drained=True, healthy=False), 0),
        (node("haproxy2", hears_us=None), 1),
        (node("haproxy2", state="silent"), 1),
        (node("haproxy2", state="unheard"), 1),
        (node("haproxy2", state="refused"), 1),
    ],
)
def test_nodes_exits_with_0_only_if_all_are_alive_and_hear_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: NodeView, code: int
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path, with_nodes(own(), second)):
        status, table = floatip("nodes")
        assert (status, table.count("haproxy")) == (code, 2)
        assert table.startswith("NODE ")
        assert floatip("nodes", "--json") == (code, json.dumps(as_data((own(), second)), indent=2) + "\n")


def test_nodes_without_a_link_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path):
        status, told = floatip("nodes")
        assert status == 1, "it cannot say that all nodes are alive"
        assert told.startswith("no [[node]] is configured: this node knows no others\nhint: ")
        assert floatip("nodes", "--json") == (1, "[]\n")
    assert floatip("nodes")[0] == 3


@contextmanager
def watching(directory: Path, *options: str, command: str = "status") -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "floatip", command, "--watch", *options]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(directory)}
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()


def until(lines: Iterator[str], begins: str) -> str:
    return next(line for line in lines if line.startswith(begins))


def test_watch_goes_on_while_the_daemon_is_restarted(tmp_path: Path) -> None:
    with watching(tmp_path) as process:
        assert process.stdout
        silent = until(process.stdout, "no daemon answers")
        assert re.fullmatch(r"no daemon answers since \d\d:\d\d:\d\d\n", silent)
        assert until(process.stdout, "no daemon answers") == silent, "since the first time"
        assert until(process.stdout, "hint: ")
        with daemon(tmp_path):
            assert until(process.stdout, "VI_1") == until(process.stdout, "VI_1")
        assert until(process.stdout, "no daemon answers") != silent
        with daemon(tmp_path):
            assert until(process.stdout, "VI_1")


def test_watch_with_json_leaves_stdout_to_json(tmp_path: Path) -> None:
    with watching(tmp_path, "--json") as process:
        assert process.stderr
        assert process.stdout
        assert until(process.stderr, "no daemon answers")
        with daemon(tmp_path):
            assert next(process.stdout) == "{\n"


def test_nodes_can_be_watched_too(tmp_path: Path) -> None:
    with watching(tmp_path, command="nodes") as process:
        assert process.stdout
        assert until(process.stdout, "no daemon answers")
        with daemon(tmp_path, with_nodes(own(), node("haproxy2"))):
            assert until(process.stdout, "haproxy2") == until(process.stdout, "haproxy2")
