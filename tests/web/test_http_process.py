"""The daemon and its HTTP process together, in a network namespace: start, reload, crash, end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from floatip.host.ask import ControlError, ask
from tests.host.conftest import CLONE_NEWNET, entered
from tests.web.process import LIMIT, PORT, Stream, events, request, until

CONFIG = """
[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32"]
vrrp = { interface = "eth9", vrid = 51, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"] }
"""
HTTP = "[http]\n"


class Floatip:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "floatip.toml"
        self.process: subprocess.Popen[bytes]

    def write(self, http: str) -> None:
        self.file.write_text(CONFIG + http)

    def start(self, http: str) -> None:
        self.write(http)
        directories = {"RUNTIME_DIRECTORY": f"{self.directory}/run", "STATE_DIRECTORY": f"{self.directory}/state"}
        with (self.directory / "log").open("ab") as log:
            command = [sys.executable, "-m", "floatip", "run", str(self.file)]
            environment = os.environ | directories | {"PYTHONPATH": os.pathsep.join(sys.path)}
            self.process = subprocess.Popen(command, env=environment, stderr=log)

    def reload(self, http: str) -> None:
        self.write(http)
        self.process.send_signal(signal.SIGHUP)

    def status(self) -> dict[str, Any]:
        return ask(self.directory / "run" / "floatip.sock", {"cmd": "status"}, timeout=LIMIT)

    def problems(self) -> dict[str, str]:
        """Of the listener: by subject, what and hint."""
        try:
            problems = self.status()["problems"]
        except ControlError:
            return {}
        return {one["subject"]: f"{one['what']} {one['hint']}" for one in problems if one["subject"].startswith("http")}

    @property
    def web(self) -> int:
        """The pid of its HTTP process; 0: there is none."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [pid for each in children for pid in each.read_text().split()]
        return next((int(pid) for pid in pids if b"floatip.web" in command_of(pid)), 0)


def command_of(pid: str) -> bytes:
    """Empty: it has just ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.fixture
def floatip(tmp_path: Path) -> Iterator[Floatip]:
    with entered("net", CLONE_NEWNET):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        it = Floatip(tmp_path)
        yield it
        it.process.kill()
        it.process.wait()
        print((tmp_path / "log").read_text())


def is_served(port: int = PORT) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def test_it_shows_the_status_of_the_daemon(floatip: Floatip) -> None:
    floatip.start(HTTP)
    until(is_served)
    shown, asked = request("/status").data, floatip.status()
    assert (shown["pid"], shown["instances"][0]["name"]) == (floatip.process.pid, "VI_1")
    assert shown.keys() == asked.keys()
    refused = request("/readyz")
    assert (refused.status, refused.body) == (503, b"VI_1: fault: eth9 does not exist\n")


def test_its_process_has_no_rights_and_no_descriptor_of_the_daemon(floatip: Floatip) -> None:
    floatip.start(HTTP)
    until(is_served)
    process = Path(f"/proc/{floatip.web}")
    rights = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert {int(rights[name], 16) for name in ("CapEff", "CapPrm", "CapInh")} == {0}
    assert os.sched_getscheduler(floatip.web) == os.SCHED_OTHER
    assert (process / "oom_score_adj").read_text() == "500\n"
    targets = {os.readlink(fd) for fd in (process / "fd").iterdir()}
    assert not {target for target in targets if target.startswith("/") and target != "/dev/null"}


def test_without_the_table_nothing_listens(floatip: Floatip) -> None:
    floatip.start("")
    until((floatip.directory / "run" / "floatip.sock").exists)
    floatip.status()
    assert floatip.web == 0


def test_a_reload_moves_the_listener_and_loses_no_connection(floatip: Floatip) -> None:
    floatip.start(HTTP)
    until(is_served)
    pid = floatip.web
    with events() as stream:
        floatip.reload(f'{HTTP}listen = ["127.0.0.1:{PORT}", "127.0.0.1:{PORT + 1}"]\n')
        until(lambda: is_served(PORT + 1))
        floatip.reload(f'{HTTP}listen = ["127.0.0.1:{PORT + 1}"]\n')
        until(lambda: not is_served(PORT))
        stream.next("alive")
    assert floatip.web == pid
    floatip.reload("")
    until(lambda: not floatip.web)
    assert floatip.problems() == {}
    floatip.reload(HTTP)
    until(is_served)


def test_an_address_in_use_is_a_problem_until_it_is_free(floatip: Floatip) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", PORT))
        other.listen()
        floatip.start(f'{HTTP}listen = ["127.0.0.1:{PORT}", "127.0.0.1:{PORT + 1}"]\n')
        until(floatip.problems)
        [(subject, text)] = floatip.problems().items()
        assert subject == f"http 127.0.0.1:{PORT}"
        assert "address already in use" in text
        assert f"ss -tlnp 'sport = :{PORT}'" in text
        assert is_served(PORT + 1)
    until(is_served)
    until(lambda: floatip.problems() == {})


def test_a_process_that_is_killed_is_a_problem_and_is_started_again(floatip: Floatip) -> None:
    floatip.start(HTTP)
    until(is_served)
    first = floatip.web
    os.kill(first, signal.SIGKILL)
    until(floatip.problems)
    assert "killed by signal 9" in floatip.problems()["http"]
    until(is_served)
    assert floatip.web != first
    until(lambda: floatip.problems() == {})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_daemon_and_its_readers_see_that(floatip: Floatip, number: signal.Signals) -> None:
    floatip.start(HTTP)
    until(is_served)
    pid = floatip.web
    with socket.create_connection(("127.0.0.1", PORT), LIMIT) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.closing(Stream(client)) as stream:
            stream.next("alive")
            floatip.process.send_signal(number)
            with contextlib.suppress(AssertionError, ConnectionError):
                while True:
                    stream.next("alive")
    assert floatip.process.wait(LIMIT) in (0, -number)
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_tls_is_switched_on_by_a_reload(floatip: Floatip) -> None:
    floatip.start(HTTP)
    until(is_served)
    key, certificate = floatip.directory / "key.pem", floatip.directory / "certificate.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*new, "-subj", "/CN=h1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    floatip.reload(f'{HTTP}tls_certificate = "{certificate}"\ntls_key = "{key}"\n')
    curl = ["curl", "-s", "--insecure", f"https://localhost:{PORT}/healthz"]
    until(lambda: subprocess.run(curl, capture_output=True, check=False).stdout == b"ok\n")


def test_an_order_reaches_the_core(floatip: Floatip) -> None:
    token = floatip.directory / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o640)
    floatip.start(f'{HTTP}token = "{token}"\n')
    until(is_served)
    answered = request("/drain", "POST", Authorization="Bearer 0123456789abcdef")
    assert answered.status == 409
    assert answered.data["refused"] == "no [[node]] is configured: this node knows no others"
