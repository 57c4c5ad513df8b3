"""The whole daemon as a process, in a network namespace, with nobody else on its link."""

import contextlib
import errno
import inspect
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from floatip.core.link import wire
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
vrrp = {{ interface = "eth9", vrid = 51, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"], version = 3, \
advert_interval = 10 }}

[notify]
command = ["{directory}/notify"]
"""
"""Master from the start, and it would have to sleep for half a minute to give that up: a machine may pause."""
ELECTED = CONFIG.replace("priority = 255", "priority = 50").replace("advert_interval = 10", "advert_interval = 0.1")
"""Becomes master after 0.4 s of silence, and backup again when it was that late."""
PATIENT = "from floatip.host import daemon; daemon.HOOKS_TIMEOUT = daemon.DISK_TIMEOUT = 60"
"""Its end waits for the last notify command and file however slow they are."""
ROLES = re.compile(r"^\d\d:\d\d:\d\d VI_1: ([A-Z]+)\b", re.MULTILINE)


class Floatip:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "floatip.toml"
        self.socket = directory / "run" / "floatip.sock"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.all: list[subprocess.Popen[bytes]] = []
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
        self.all.append(self.process)

    def status(self) -> dict[str, Any]:
        return ask(self.socket, {"cmd": "status"}, timeout=60)

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
        return self.process.wait(60)


@pytest.fixture
def floatip(tmp_path: Path) -> Iterator[Floatip]:
    tmp_path.chmod(0o755)
    ip("link add eth9 type veth peer name peer9")
    ip("link set peer9 up")
    ip("link set eth9 up")
    ip("address add 10.0.0.1/24 dev eth9")
    it = Floatip(tmp_path)
    yield it
    for process in it.all:
        process.kill()
        process.wait()
    print(it.log.read_text())


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def held() -> set[str]:
    links = json.loads(ip("-json -4 address show"))
    return {address["local"] for link in links for address in link["addr_info"]} - {"127.0.0.1", "10.0.0.1"}


def wait(true: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for: {inspect.getsource(true).strip()}"
        time.sleep(0.01)


def test_it_becomes_master_holds_the_address_and_hands_it_back(floatip: Floatip) -> None:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(floatip.directory / "notify.sock"))
    notified.setblocking(False)
    messages = []

    def read_messages() -> None:
        """Often: only ten may wait."""
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(notified.recv(1000))

    def is_master() -> bool:
        read_messages()
        return held() == {"192.0.2.10"} and floatip.role() == "master"

    floatip.write(ELECTED)
    floatip.start(before=PATIENT, NOTIFY_SOCKET=str(floatip.directory / "notify.sock"))
    wait(is_master)
    read_messages()
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()
    assert not floatip.socket.exists()
    read_messages()
    notified.close()
    assert messages.count(b"READY=1") == 1
    assert b"STATUS=VI_1 master at rank takeover" in messages or b"STATUS=VI_1 master at rank active" in messages
    assert b"STOPPING=1" in messages
    roles = ROLES.findall(floatip.log.read_text())
    assert [*roles[:2], roles[-1]] == ["BACKUP", "MASTER", "INIT"]
    words = {"BACKUP": "BACKUP 50", "MASTER": "MASTER 50", "INIT": "STOP 50"}
    assert (floatip.directory / "told").read_text().splitlines() == [words[role] for role in roles]


def test_the_history_says_what_happened_and_why(floatip: Floatip) -> None:
    floatip.write(ELECTED)
    began = time.monotonic()
    floatip.start()
    wait(lambda: floatip.role() == "master")
    (floatip.directory / "trigger").touch()
    wait(lambda: floatip.role() == "fault")
    records: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as watcher:
        watcher.settimeout(60)
        watcher.connect(str(floatip.socket))
        watcher.sendall(b'{"cmd": "watch"}\n')
        with watcher.makefile() as lines:
            while not records or (records[-1]["what"], records[-1]["value"]) != ("role", "fault"):
                records.append(json.loads(lines.readline()))
    assert {one["name"] for one in records if one["what"] == "role"} == {"VI_1"}
    roles = [one["value"] for one in records if one["what"] == "role"]
    assert [role.upper() for role in roles] == ROLES.findall(floatip.log.read_text())
    assert [*roles[:2], roles[-1]] == ["backup", "master", "fault"]
    assert all(set(one) == {"at", "time", "what", "name", "value", "reason", "hint"} for one in records)
    assert began < records[-1]["at"] < time.monotonic()


def test_an_address_that_is_deleted_by_hand_is_back_within_milliseconds(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    seen: list[tuple[int, float]] = []
    times = 5  # more in so short a time, and it does not believe that the address can be kept

    def watch(monitor: socket.socket) -> None:
        while len(seen) < 2 * times:
            (kind,) = struct.unpack_from("H", monitor.recv(4096), 4)
            seen.append((kind, time.monotonic()))

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, 0x10))  # RTMGRP_IPV4_IFADDR
        monitor.settimeout(60)
        watcher = threading.Thread(target=watch, args=(monitor,))
        watcher.start()
        for number in range(1, times + 1):
            ip("address del 192.0.2.10/32 dev eth9")
            wait(lambda number=number: len(seen) >= 2 * number)  # type: ignore[misc]
        watcher.join()
    assert [kind for kind, _ in seen] == [21, 20] * times, "RTM_DELADDR, RTM_NEWADDR"
    waits = sorted(back - gone for (_, gone), (_, back) in zip(seen[::2], seen[1::2], strict=True))
    print(f"put back after {waits[times // 2] * 1e3:.2f} ms (median), {waits[-1] * 1e3:.2f} ms (worst)")
    assert waits[times // 2] < 0.1
    assert floatip.role() == "master"


def test_where_an_address_is_deleted_again_and_again_a_master_hands_over_and_serves_as_long_as_it_is_alone(
    floatip: Floatip,
) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    while "VI_1: BACKUP" not in floatip.log.read_text():
        subprocess.run(["ip", "address", "del", "192.0.2.10/32", "dev", "eth9"], stderr=subprocess.DEVNULL, check=False)
    assert "address-removed" in [problem["code"] for problem in floatip.status()["problems"]]
    wait(lambda: floatip.role() == "master")
    wait(lambda: held() == {"192.0.2.10"})
    assert floatip.log.read_text().count("address 192.0.2.10 lost") <= 6


def test_a_successor_of_a_killed_daemon_releases_what_that_had_added(floatip: Floatip) -> None:
    remembered = floatip.directory / "state" / "held.json"
    floatip.start()
    # It adds an address also if the disk has not written it down after half a second.
    wait(lambda: held() == {"192.0.2.10"} and remembered.exists() and "192.0.2.10" in remembered.read_text())
    floatip.signal(signal.SIGKILL)
    floatip.exit_status()
    assert held() == {"192.0.2.10"}
    (floatip.directory / "trigger").touch()
    floatip.start()
    wait(lambda: floatip.role() == "fault" and held() == set())


def test_the_status_says_how_it_is_scheduled_and_what_its_sockets_are_like(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: floatip.role() == "master")
    assert floatip.process
    status = floatip.status()
    assert status["scheduling"] == {"policy": "other", "priority": 0, "reset_on_fork": False}
    assert status["sockets"] == [{"what": "VRRP on eth9", "dscp": 48, "packet_filter": "known nodes"}]
    os.sched_setscheduler(floatip.process.pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(7))
    assert floatip.status()["scheduling"] == {"policy": "rr", "priority": 7, "reset_on_fork": True}


def test_a_reload_takes_over_what_changed_and_refuses_what_is_wrong(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    floatip.write(CONFIG.replace("192.0.2.10/32", "192.0.2.10"))
    floatip.signal(signal.SIGHUP)
    wait(lambda: "not reloaded" in floatip.log.read_text())
    assert "has no prefix" in floatip.log.read_text()
    assert held() == {"192.0.2.10"}
    (hint,) = [problem["hint"] for problem in floatip.status()["problems"] if problem["code"] == "reload-refused"]
    assert f"floatip check {floatip.directory}/floatip.toml; " in hint
    floatip.write(CONFIG.replace('["192.0.2.10/32"]', '["192.0.2.10/32", "192.0.2.11/32"]'))
    floatip.signal(signal.SIGHUP)
    wait(lambda: held() == {"192.0.2.10", "192.0.2.11"})
    assert [problem["code"] for problem in floatip.status()["problems"]] == ["peer-unheard"]
    assert floatip.log.read_text().count("VI_1: MASTER") == 1
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()


def test_a_stop_that_comes_before_it_listens_waits_and_releases_what_a_predecessor_left(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    floatip.signal(signal.SIGKILL)
    floatip.exit_status()
    directories = {"RUNTIME_DIRECTORY": floatip.socket.parent, "STATE_DIRECTORY": floatip.directory / "state"}
    with floatip.log.open("ab") as log:
        floatip.process = subprocess.Popen(
            [sys.executable, "-m", "floatip", "run", str(floatip.file)],
            env=os.environ | {name: str(path) for name, path in directories.items()},
            stderr=log,
        )
    floatip.all.append(floatip.process)
    status = Path(f"/proc/{floatip.process.pid}/status")
    blocked = re.compile(r"^SigBlk:\t(\w+)$", re.MULTILINE)

    # Who starts a process or a thread blocks all signals for a moment.
    mask = sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

    def blocks_them() -> bool:
        found = blocked.search(status.read_text())
        return bool(found) and int(found[1], 16) == mask  # type: ignore[index]

    wait(blocks_them)
    for number in (signal.SIGHUP, signal.SIGTERM):
        floatip.signal(number)
    assert floatip.exit_status() == 0
    assert held() == set()


BUGS = {
    "in the core": """from floatip.core.node import Node
def handle(self, event, now): raise ZeroDivisionError("planted")
Node.handle = handle""",
    "in a callback": """from floatip.host.daemon import Daemon
def tick(self): raise ZeroDivisionError("planted")
Daemon._tick = tick""",
    "in what follows the kernel": """from floatip.host.network.kernel.tables import Tables
take = Tables.take
def planted(self, message):
    if message.gone: raise ZeroDivisionError("planted")
    return take(self, message)
Tables.take = planted""",
    "in the answer to a client": """from floatip.host.daemon import Daemon
def status(self, request, pid): raise ZeroDivisionError("planted")
Daemon._status = status""",
}


@pytest.mark.parametrize("where", BUGS)
def test_a_bug_ends_the_process_loudly(where: str, floatip: Floatip) -> None:
    ip("address add 192.0.2.99/32 dev lo")
    floatip.write(ELECTED)  # its timer runs at once
    floatip.start(before="exec(" + repr(BUGS[where]) + ")")
    deadline = time.monotonic() + 60
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
    floatip.start(before="from floatip.host import disk; disk.PATIENCE = 0.5")
    wait(lambda: held() == {"192.0.2.10"})
    assert floatip.role() == "master"
    wait(lambda: any("does the disk hang?" in problem["what"] for problem in floatip.status()["problems"]))
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()


def test_the_journal_gets_an_entry_with_fields(floatip: Floatip) -> None:
    floatip.log.touch()
    log = floatip.log.stat()
    path = str(floatip.directory / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.settimeout(60)
        journal.bind(path)
        before = f"from floatip.host import journal; journal.PATH = {path!r}"
        floatip.start(before, JOURNAL_STREAM=f"{log.st_dev}:{log.st_ino}")
        while not (entry := journal.recv(65536)).startswith(b"MESSAGE=VI_1: MASTER at rank active"):
            pass
    assert {b"PRIORITY=5", b"FLOATIP_INSTANCE=VI_1", b"FLOATIP_ROLE=master"} <= set(entry.split(b"\n"))
    assert floatip.log.read_text() == ""


def test_log_is_json_where_the_file_says_so(floatip: Floatip) -> None:
    floatip.write('log = "json"\n' + CONFIG)
    floatip.start()
    wait(lambda: floatip.role() == "master")
    floatip.write(CONFIG)
    records = [json.loads(line) for line in floatip.log.read_text().splitlines()]
    floatip.signal(signal.SIGHUP)
    wait(lambda: bool(re.search(r"^\d\d:\d\d:\d\d .*: warning: ", floatip.log.read_text(), re.MULTILINE)))
    (master,) = [record for record in records if record.get("role") == "master" and "role" in record["what"]]
    assert master["msg"].startswith("VI_1: MASTER at rank active")
    assert (master["instance"], master["rank"], master["level"]) == ("VI_1", "active", "info")


def test_a_configuration_with_mistakes_is_refused(floatip: Floatip) -> None:
    floatip.write(CONFIG.replace("priority = 255", "priority = 256"))
    floatip.start()
    assert floatip.exit_status() == 2
    assert "priority: 256 is not between 1 and 255" in floatip.log.read_text()


def test_what_this_machine_lacks_now_ends_with_another_status_than_a_mistake(floatip: Floatip) -> None:
    script = floatip.directory / "mounted-later"
    floatip.write(CONFIG.replace('file = "{directory}/trigger"', 'script = "{directory}/mounted-later"'))
    floatip.start()
    assert floatip.exit_status() == 75, "systemd tries again, where it would not after a 2"
    assert "mounted-later cannot be run: no such file or directory" in floatip.log.read_text()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})


@pytest.mark.parametrize("files", [3, 4, 5, 6, 8, 9])
def test_a_start_without_a_file_for_what_it_needs_says_so_and_is_tried_again(floatip: Floatip, files: int) -> None:
    """At each step: for /proc, the configuration, the event loop, netlink's sockets, the router id."""
    floatip.start(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))")
    assert floatip.exit_status() == 75
    said = floatip.log.read_text()
    assert "Too many open files\n  hint: " in said or "files [kernel-refuses]\n  hint: allow more open files: " in said
    assert "host/daemon.py" not in said, "no traceback of ours; of half a loop Python itself may print one"


@pytest.mark.parametrize("place", ["read", "__init__"])
def test_a_start_that_netlink_refuses_says_so_and_is_tried_again(floatip: Floatip, place: str) -> None:
    refuse = "def refuse(*_): raise OSError(errno.ENOBUFS, '')"
    floatip.start(f"import errno\n{refuse}\nfrom floatip.rtnetlink import Netlink; Netlink.{place} = refuse")
    assert floatip.exit_status() == 75
    assert (
        "the kernel refuses what it needs: no buffer space available [kernel-refuses]\n  hint: "
        in floatip.log.read_text()
    )
    assert "Traceback" not in floatip.log.read_text()


def test_a_script_that_would_stop_the_next_start_is_a_problem_while_the_daemon_runs(floatip: Floatip) -> None:
    script = floatip.directory / "check.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    floatip.write(CONFIG.replace('file = "{directory}/trigger"', 'script = "{directory}/check.sh"'))
    floatip.start("from floatip.host import restart; restart.INTERVAL = 0.1")
    wait(lambda: held() == {"192.0.2.10"})

    def refused() -> list[str]:
        return [one["what"] for one in floatip.status()["problems"] if one["code"] == "restart-refused"]

    assert refused() == []
    script.chmod(0o775)
    wait(lambda: refused() != [])
    (what,) = refused()
    assert what.startswith('restart: would fail: check "trigger" script: ')
    assert what.endswith("check.sh is writable by group or others")
    assert floatip.role() == "master"
    script.chmod(0o755)
    wait(lambda: refused() == [])


def test_a_reload_of_a_file_that_no_parser_bears_changes_nothing(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: held() == {"192.0.2.10"})
    floatip.file.write_text("[" + ".".join("a" * 899) + "]\n")
    floatip.signal(signal.SIGHUP)
    wait(lambda: "a key of more than 64 parts" in floatip.log.read_text())
    assert floatip.role() == "master"
    assert held() == {"192.0.2.10"}


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
    floatip.write(ELECTED)
    floatip.start()
    wait(lambda: floatip.role() == "master")
    assert floatip.process

    def cpu() -> float:
        assert floatip.process
        fields = Path(f"/proc/{floatip.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    used, started = cpu(), time.monotonic()
    time.sleep(1)
    share = (cpu() - used) / (time.monotonic() - started)
    memory = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{floatip.process.pid}/status").read_text())[0]) / 1024
    print(f"RSS {memory:.1f} MB, CPU {share:.2%} with an advert every 100 ms")
    assert memory < 60
    assert share < 0.2


REFUSE = """
import builtins, ctypes, errno, io, os, signal, socket
from floatip.host import disk, inotify, spawn
disk.RETRY_INTERVAL = 0.1
order = {"call": "", "code": 0}
really = {name: getattr(os, name) for name in ("open", "read", "close")}

def obey(*_):
    file = really["open"](DIRECTORY + "/order", os.O_RDONLY)
    order["call"], code = really["read"](file, 100).decode().split()
    order["code"] = int(code)
    really["close"](file)
    os.rename(DIRECTORY + "/order", DIRECTORY + "/obeyed")

def refuse(call):
    if order["call"] == call:
        raise OSError(order["code"], os.strerror(order["code"]))

def guarded(call, function):
    def guard(*arguments, **options):
        refuse(call)
        return function(*arguments, **options)
    return guard

class Socket(socket.socket):
    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if fileno is None:
            refuse("socket")
        super().__init__(family, type, proto, fileno)
    def send(self, *arguments):
        if self.family == socket.AF_NETLINK:
            refuse("netlink")
        return super().send(*arguments)

class Libc:
    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
    def __getattr__(self, name):
        if name != order["call"]:
            return getattr(self.libc, name)
        def fail(*_):
            ctypes.set_errno(order["code"])
            return order["code"] if name == "posix_spawn" else -1
        return fail

socket.socket = Socket
for module in (os, io, builtins):
    module.open = guarded("open", module.open)
os.pidfd_open = guarded("pidfd_open", os.pidfd_open)
spawn._libc = inotify._libc = Libc()
signal.signal(signal.SIGUSR1, obey)
"""
"""The daemon reads from a file which call fails, and how, whenever it gets SIGUSR1."""
CODES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EIO)
NO_PATHS = """
state_log = "{directory}/state.log"
[[check]]
name = "script"
script = "/bin/true"
interval = 0.1
timeout = 10
fall = 1
rise = 1
[[check]]
name = "tcp"
tcp = "127.0.0.1:8080"
interval = 0.1
timeout = 10
fall = 1
rise = 1
[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32", "192.0.2.12/32"]
vrrp = {{ interface = "eth9", vrid = 51, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"] }}
[[instance]]
name = "VI_2"
addresses = ["192.0.2.11/32"]
checks = ["script", "tcp"]
vrrp = {{ interface = "eth9", vrid = 52, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"] }}
"""
BUSY = NO_PATHS.replace('"tcp"]', '"tcp", "process"]') + '[[check]]\nname = "process"\nprocess = "{directory}/pid"\n'
BUSIER = BUSY.replace('"process"]', '"process", "file"]') + '[[check]]\nname = "file"\nfile = "{directory}/trigger"\n'


@pytest.mark.parametrize("call", ["socket", "open", "pidfd_open", "posix_spawn", "inotify_init1", "netlink"])
def test_what_the_kernel_refuses_is_a_problem_and_never_the_end(call: str, floatip: Floatip) -> None:
    """Everything that the daemon does goes on meanwhile: checks, a reload, adding the address again, clients."""
    order, obeyed = floatip.directory / "order", floatip.directory / "obeyed"
    (floatip.directory / "pid").write_text(f"{os.getpid()}\n")
    floatip.directory.chmod(0o755)

    def refuse(what: str, code: int) -> None:
        order.with_suffix(".new").write_text(f"{what} {code}")
        order.with_suffix(".new").rename(order)
        floatip.signal(signal.SIGUSR1)
        wait(lambda: obeyed.exists() or floatip.process.poll() is not None)  # type: ignore[union-attr]
        obeyed.unlink()

    def problems() -> list[str]:
        assert floatip.process
        assert floatip.process.poll() is None, floatip.log.read_text()
        return [one["what"].lower() for one in floatip.status()["problems"] if one["severity"] != "note"]

    def recover() -> None:
        refuse("nothing", 0)
        floatip.write(BUSY)
        floatip.signal(signal.SIGHUP)
        wait(lambda: held() == {"192.0.2.10", "192.0.2.11", "192.0.2.12"} and not problems())

    def is_told(reason: str, since: int) -> bool:
        told = [*problems(), floatip.log.read_text()[since:].lower()]
        return len(told) > 1 and any(reason in text for text in told)

    with socket.create_server(("127.0.0.1", 8080), backlog=1000):
        floatip.write(NO_PATHS if call == "inotify_init1" else BUSY)  # it is opened with the first path
        floatip.start(before=f"DIRECTORY = {str(floatip.directory)!r}\nexec({REFUSE!r})")
        wait(lambda: held() == {"192.0.2.10", "192.0.2.11", "192.0.2.12"})
        state_log = floatip.directory / "state.log"
        wait(lambda: state_log.exists() and state_log.read_text().count("Now Master") == 2)  # no later entry mends it
        # In turns: who loses one more than five times in ten seconds has another problem.
        for code, address in zip(CODES, cycle(("192.0.2.10", "192.0.2.12"))):
            since, reason = len(floatip.log.read_text()), os.strerror(code).lower()
            refuse(call, code)
            floatip.write(BUSIER)
            floatip.signal(signal.SIGHUP)
            wait(lambda address=address: address in held())  # type: ignore[misc]
            ip(f"address del {address}/32 dev eth9")
            wait(lambda since=since, reason=reason: is_told(reason, since))  # type: ignore[misc]
            if call != "inotify_init1":  # it is opened once
                recover()
        recover()
        floatip.signal(signal.SIGTERM)
        assert floatip.exit_status() == 0
        assert held() == set()


def test_a_client_for_whom_there_is_no_descriptor_is_a_problem_until_there_is_one(floatip: Floatip) -> None:
    floatip.start()
    wait(lambda: floatip.role() == "master")
    assert floatip.process
    pid = floatip.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)

    def ask_again(client: socket.socket) -> list[str]:
        client.sendall(b'{"cmd": "status"}\n')
        answer = b""
        while not answer.endswith(b"\n"):
            answer += client.recv(65536)
        return [one["what"] for one in json.loads(answer)["problems"] if one["severity"] != "note"]

    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for client in (first, second):
            client.settimeout(60)
        first.connect(str(floatip.socket))
        wait(lambda: ask_again(first) == [])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))  # 0, 1 and 2 are open
        second.connect(str(floatip.socket))
        wait(lambda: "control socket: no client accepted: too many open files" in ask_again(first))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert ask_again(second)
    assert floatip.process.poll() is None


def test_a_stop_waits_for_no_file_that_is_being_read(floatip: Floatip) -> None:
    hang = """
import pathlib, threading
from floatip.host import daemon
load, loads = daemon.load, []
def hang(path, *how):
    loads.append(path)
    if len(loads) > 1:
        pathlib.Path(path).with_name("reads").touch()
        threading.Event().wait()
    return load(path, *how)
daemon.load = hang
"""
    floatip.start(before=f"exec({hang!r})")
    wait(lambda: held() == {"192.0.2.10"})
    floatip.signal(signal.SIGHUP)
    wait((floatip.directory / "reads").exists)
    assert floatip.role() == "master"
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == 0
    assert held() == set()


FLEET = """
[[node]]
name = "a"
address = "10.0.0.1"
[[node]]
name = "b"
address = "10.0.0.2"
[[check]]
name = "trigger"
file = "{directory}/trigger"
[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32"]
checks = ["trigger"]
"""


def test_it_speaks_with_the_other_nodes_on_one_socket(floatip: Floatip) -> None:
    key = bytes(range(32))
    file = floatip.directory / "key"
    file.touch(0o600)
    file.write_text(key.hex())
    floatip.write(FLEET)
    floatip.start()
    wait(lambda: floatip.role() != "not running")
    (view,) = [one for one in floatip.status()["sockets"] if one["what"].startswith("link")]
    assert view == {"what": "link at 10.0.0.1 port 9112", "dscp": 48, "packet_filter": "known nodes"}
    ip("address add 10.0.0.2/32 dev peer9")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("10.0.0.2", 9112))
        other.settimeout(60)
        hello = wire.parse(other.recv(2000), [key])
        assert (hello.sender, hello.your_age) == (wire.identity("a"), wire.NEVER)
        ours = wire.Datagram(
            sender=hello.receiver,
            receiver=hello.sender,
            boot=7,
            sequence=1,
            interval=100,
            flags=wire.HelloFlag(0),
            your_boot=hello.boot,
            your_sequence=hello.sequence,
            your_age=0,
        )
        other.sendto(wire.pack(ours, key), ("10.0.0.1", 9112))
        while (hello := wire.parse(other.recv(2000), [key])).your_sequence != 1:
            pass
        assert hello.your_boot == 7
        floatip.signal(signal.SIGTERM)
        assert floatip.exit_status() == 0
