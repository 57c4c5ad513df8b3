"""The whole daemon as a process, in a network namespace, with nobody else on its link."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floatip.host.ask import ControlError, ask

pytestmark = pytest.mark.usefixtures("namespace")

CONFIG = """
release_delay = 0.2

[[check]]
name = "trigger"
file = "{directory}/trigger"

[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32"]
checks = ["trigger"]
vrrp = {{ interface = "eth9", vrid = 51, priority = 50, source = "10.0.0.1", peers = ["10.0.0.2"], version = 3, \
advert_interval = 0.1 }}

[notify]
command = ["{directory}/notify"]
"""


class Floatip:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "floatip.toml"
        self.socket = directory / "run" / "floatip.sock"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.write(CONFIG)
        notify = directory / "notify"
        notify.write_text(f'#!/bin/sh\necho "$3 $4" >> {directory}/told\n')
        notify.chmod(0o755)

    def write(self, config: str) -> None:
        self.file.write_text(config.format(directory=self.directory))

    def start(self, before: str = "", stderr: Any = None, **environment: str) -> None:
        program = (
            f"import sys; from floatip.host.daemon import run; {before or 'pass'}\nsys.exit(run({str(self.file)!r}))"
        )
        directories = {"RUNTIME_DIRECTORY": self.socket.parent, "STATE_DIRECTORY": self.directory / "state"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                env=os.environ | {name: str(path) for name, path in directories.items()} | environment,
                stderr=stderr or log,
            )

    def status(self) -> dict[str, Any]:
        return ask(self.socket, {"cmd": "status"})

    def role(self) -> str:
        try:
            return str(self.status()["instances"][0]["role"]["value"])
        except ControlError:
            return "not running"

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def exit_status(self) -> int:
        assert self.process
        return self.process.wait(20)


@pytest.fixture
def floatip(tmp_path: Path) -> Iterator[Floatip]:
    tmp_path.chmod(0o755)
    ip("link add eth9 type veth peer name peer9")
    ip("link set peer9 up")
    ip("link set eth9 up")
    ip("address add 10.0.0.1/24 dev eth9")
    it = Floatip(tmp_path)
    yield it
    if it.process and it.process.poll() is None:
        it.process.kill()
        it.process.wait()
    print(it.log.read_text())


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def held() -> set[str]:
    links = json.loads(ip("-json -4 address show"))
    return {address["local"] for link in links for address in link["addr_info"]} - {"127.0.0.1", "10.0.0.1"}


def wait(true: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_it_becomes_master_holds_the_address_and_hands_it_back(floatip: Floatip) -> None:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(floatip.directory / "notify.sock"))
    floatip.start(NOTIFY_SOCKET=str(floatip.directory / "notify.sock"))
    wait(lambda: held() == {"192.0.2.10"})
    assert floatip.role() == "master"
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()
    assert not floatip.socket.exists()
    messages = []
    notified.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(notified.recv(1000))
    notified.close()
    assert messages.count(b"READY=1") == 1
    assert b"STATUS=VI_1 master at rank takeover" in messages or b"STATUS=VI_1 master at rank active" in messages
    assert b"STOPPING=1" in messages
    assert (floatip.directory / "told").read_text().splitlines() == ["BACKUP 50", "MASTER 50", "STOP 50"]
    assert re.search(r"^\d\d:\d\d:\d\d role VI_1 master: ", floatip.log.read_text(), re.MULTILINE)


def test_the_history_says_what_happened_and_why(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: floatip.role() == "master")
    (floatip.directory / "trigger").touch()
    wait(lambda: floatip.role() == "fault")
    with socket.socket(socket.AF_UNIX) as watcher:
        watcher.connect(str(floatip.socket))
        watcher.sendall(b'{"cmd": "watch"}\n')
        records = [json.loads(line) for line in watcher.recv(1 << 20).splitlines()]
    assert [(one["value"], one["name"]) for one in records if one["what"] == "role"] == [
        ("backup", "VI_1"),
        ("master", "VI_1"),
        ("fault", "VI_1"),
    ]
    assert set(records[0]) == {"at", "time", "what", "name", "value", "reason"}
    assert abs(records[-1]["at"] - time.monotonic()) < 20


def test_an_address_that_is_deleted_by_hand_is_back_within_milliseconds(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    seen: list[tuple[int, float]] = []

    def watch(monitor: socket.socket) -> None:
        while len(seen) < 20:
            (kind,) = struct.unpack_from("H", monitor.recv(4096), 4)
            seen.append((kind, time.monotonic()))

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, 0x10))  # RTMGRP_IPV4_IFADDR
        monitor.settimeout(20)
        watcher = threading.Thread(target=watch, args=(monitor,))
        watcher.start()
        for _ in range(10):
            ip("address del 192.0.2.10/32 dev eth9")
            time.sleep(0.1)
        watcher.join()
    assert [kind for kind, _ in seen] == [21, 20] * 10, "RTM_DELADDR, RTM_NEWADDR, ten times"
    waits = sorted(back - gone for (_, gone), (_, back) in zip(seen[::2], seen[1::2], strict=True))
    print(f"put back after {waits[5] * 1e3:.2f} ms (median), {waits[-1] * 1e3:.2f} ms (worst)")
    assert waits[5] < 0.1
    assert floatip.role() == "master"


def test_a_successor_of_a_killed_daemon_releases_what_that_had_added(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    floatip.signal(signal.SIGKILL)
    floatip.exit_status()
    assert held() == {"192.0.2.10"}
    (floatip.directory / "trigger").touch()
    floatip.start()
    wait(lambda: floatip.role() == "fault" and held() == set())


def test_a_reload_takes_over_what_changed_and_refuses_what_is_wrong(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    floatip.write(CONFIG.replace("192.0.2.10/32", "192.0.2.10"))
    floatip.signal(signal.SIGHUP)
    wait(lambda: "not reloaded" in floatip.log.read_text())
    assert "has no prefix" in floatip.log.read_text()
    assert held() == {"192.0.2.10"}
    assert any("a restart would fail" in problem for problem in floatip.status()["problems"])
    floatip.write(CONFIG.replace('["192.0.2.10/32"]', '["192.0.2.10/32", "192.0.2.11/32"]'))
    floatip.signal(signal.SIGHUP)
    wait(lambda: held() == {"192.0.2.10", "192.0.2.11"})
    assert floatip.status()["problems"] == []
    assert floatip.log.read_text().count("role VI_1 master") == 1
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()


BUGS = {
    "in the core": """from floatip.core.node import Node
def handle(self, event, now): raise ZeroDivisionError("planted")
Node.handle = handle""",
    "in a callback": """from floatip.host.daemon import Daemon
def tick(self): raise ZeroDivisionError("planted")
Daemon._tick = tick""",
    "in the task that follows the kernel": """from floatip.host.kernel import Tables
take, taken = Tables.take, []
def planted(self, message):
    if message["event"] == "RTM_DELADDR": raise ZeroDivisionError("planted")
    return take(self, message)
Tables.take = planted""",
    "in the answer to a client": """from floatip.host.daemon import Daemon
def status(self): raise ZeroDivisionError("planted")
Daemon._status = status""",
}


@pytest.mark.parametrize("where", BUGS)
def test_a_bug_ends_the_process_loudly(where: str, floatip: Floatip) -> None:
    ip("address add 192.0.2.99/32 dev lo")
    floatip.start(before="exec(" + repr(BUGS[where]) + ")")
    deadline = time.monotonic() + 20
    while floatip.process and floatip.process.poll() is None:
        assert time.monotonic() < deadline
        with contextlib.suppress(ControlError):
            floatip.status()
            subprocess.run(["ip", "address", "del", "192.0.2.99/32", "dev", "lo"], check=False, capture_output=True)
        time.sleep(0.05)
    assert floatip.exit_status() == 70
    assert "ZeroDivisionError: planted" in floatip.log.read_text()


def test_a_second_signal_does_not_wait(floatip: Floatip) -> None:
    floatip.write(CONFIG.replace("release_delay = 0.2", "release_delay = 300"))
    floatip.start()
    wait(lambda: floatip.role() == "master")
    floatip.signal(signal.SIGTERM)
    wait(lambda: "asked to stop (SIGTERM)" in floatip.log.read_text())
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 128 + signal.SIGTERM


def test_a_stderr_that_nobody_reads_holds_up_nothing(floatip: Floatip) -> None:
    unread, stderr = os.pipe()
    os.set_blocking(stderr, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(stderr, b"x" * 4096)
    os.set_blocking(stderr, True)
    floatip.start(stderr=stderr)
    wait(lambda: floatip.role() == "master")
    assert floatip.status()["log_lines_dropped"] > 0
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    os.close(unread)
    os.close(stderr)


def test_a_disk_that_hangs_holds_up_nothing_and_is_told(floatip: Floatip) -> None:
    state = floatip.directory / "state"
    state.mkdir()
    os.mkfifo(state / "held.new")  # whoever opens it for writing waits for a reader
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    assert floatip.role() == "master"
    wait(lambda: any("does the disk hang?" in problem for problem in floatip.status()["problems"]))
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()


def test_the_journal_gets_the_level_with_each_line(floatip: Floatip) -> None:
    floatip.log.touch()
    log = floatip.log.stat()
    floatip.start(JOURNAL_STREAM=f"{log.st_dev}:{log.st_ino}")
    wait(lambda: "<5>role VI_1 master: " in floatip.log.read_text())


def test_a_configuration_with_mistakes_is_refused(floatip: Floatip) -> None:
    floatip.write(CONFIG.replace("priority = 50", "priority = 256"))
    floatip.start()
    assert floatip.exit_status() == 2
    assert "priority: 256 is not between 1 and 255" in floatip.log.read_text()


def test_a_second_daemon_with_the_same_directory_is_refused(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: floatip.role() == "master")
    first = floatip.process
    floatip.start()
    assert floatip.exit_status() == 1
    floatip.process = first
    assert "floatip already runs with this runtime directory (pid" in floatip.log.read_text()
    assert held() == {"192.0.2.10"}


def test_without_the_capabilities_it_says_so_and_does_not_start(floatip: Floatip) -> None:
    floatip.start(before="import os; os.setgid(65534); os.setuid(65534)")
    assert floatip.exit_status() == 1
    assert "CAP_NET_ADMIN and CAP_NET_RAW" in floatip.log.read_text()


AS_THE_SERVICE_USER = """
import ctypes, os, struct, subprocess
from floatip.host import privileges
libc = ctypes.CDLL(None)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
net = 1 << 12 | 1 << 13
assert libc.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", net, net, net, 0, 0, 0)) == 0
for capability in (12, 13):
    assert libc.prctl(47, 2, capability, 0, 0) == 0  # PR_CAP_AMBIENT_RAISE
privileges.need()
privileges.keep_from_children()
privileges.need()
subprocess.run(["/bin/cat", "/proc/self/status"])
"""


def test_checks_and_hooks_of_the_service_user_have_no_capabilities() -> None:
    output = subprocess.run([sys.executable, "-c", AS_THE_SERVICE_USER], check=True, capture_output=True, text=True)
    child = dict(line.split(":\t", 1) for line in output.stdout.splitlines())
    assert [int(child[kind], 16) for kind in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]
    assert child["NoNewPrivs"] == "1"


def test_it_is_small_and_idle(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: floatip.role() == "master")
    assert floatip.process

    def cpu() -> float:
        assert floatip.process
        fields = Path(f"/proc/{floatip.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    used, started = cpu(), time.monotonic()
    time.sleep(2)
    share = (cpu() - used) / (time.monotonic() - started)
    memory = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{floatip.process.pid}/status").read_text())[0]) / 1024
    print(f"RSS {memory:.1f} MB, CPU {share:.2%} with an advert every 100 ms")
    assert memory < 60
    assert share < 0.2
