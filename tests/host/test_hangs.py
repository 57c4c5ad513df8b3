"""The whole daemon on a disk of which one call at a time hangs: at start, in work, during a reload, during a stop.

Each hang lasts until the adverts have gone on for a while and what is expected was told, so a loop that waits for the
disk fails the test whatever the machine's load. Not tried, because the kernel never waits in them: socket(), netlink,
inotify_init1, pidfd_open, pipe2 (they only take memory and descriptors), connect (non-blocking everywhere), and what is
in /run, /proc and /sys, which are in memory. tests/host/test_daemon.py lets these fail.
"""

import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from floatip.host.ask import ControlError
from tests.host.fuse import CALLS, Disk
from tests.host.test_daemon import Floatip, floatip, held, ip, wait

__all__ = ["floatip"]
pytestmark = pytest.mark.usefixtures("namespace")

ADVERT_INTERVAL = 0.5
MASTER_DOWN_INTERVAL = 3 * ADVERT_INTERVAL
CONFIG = f"""
release_delay = 0.2
state_log = "{{directory}}/disk/state.log"

[[check]]
name = "trigger"
file = "{{directory}}/trigger"
[[check]]
name = "script"
script = "{{directory}}/disk/script"
interval = 0.2
timeout = 0.5
fall = 1
rise = 1
[[check]]
name = "file"
file = "{{directory}}/disk/maintenance"
[[check]]
name = "pid file"
process = "{{directory}}/disk/pid"

[[instance]]
name = "steady"
addresses = ["192.0.2.10/32"]
vrrp = {{{{ interface = "eth9", vrid = 51, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"], version = 3, \
advert_interval = {ADVERT_INTERVAL} }}}}
[[instance]]
name = "on the disk"
addresses = ["192.0.2.11/32"]
checks = ["script", "file", "pid file"]
vrrp = {{{{ interface = "eth9", vrid = 52, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"] }}}}
[[instance]]
name = "moved"
addresses = ["192.0.2.12/32"]
checks = ["trigger"]
vrrp = {{{{ interface = "eth9", vrid = 53, priority = 255, source = "10.0.0.1", peers = ["10.0.0.2"] }}}}

[notify]
command = ["{{directory}}/disk/notify"]
timeout = 0.5
"""
ON_THE_DISK = "192.0.2.11"
"""Of the instance whose check is a script on the disk that hangs."""
ADDRESSES = {"192.0.2.10", ON_THE_DISK, "192.0.2.12"}
IMPATIENT = """
from floatip.host import daemon, disk, reload
from floatip.host.checks import kind
daemon.DISK_TIMEOUT = daemon.HOOKS_TIMEOUT = 0.2
disk.PATIENCE = reload.PATIENCE = kind.LOOK_TIMEOUT = 0.5
"""
PATIENT_START = "from floatip.host import starts; starts.WRITE_TIMEOUT = 60"
AS_A_COMMAND = """
from floatip import cli
from floatip.reading import patience
patience.PATIENCE = 0.1
sys.exit(cli.main(["run", {file!r}]))
"""
SIGNS = {
    "file": "check file down: cannot look at ",
    "script": "check script down: timed out after ",
    "notify": "/notify: timed out after ",
    "held.json": "/held.json: not written after ",
    "state.log": "/state.log: not written after ",
    "history": "/history.jsonl: not written after ",
}
RUNS, WRITES = {"script", "notify"}, {"held.json", "state.log", "history"}
TOLD = {
    "lookup": {"file"} | RUNS | WRITES,
    "getattr": {"file"} | RUNS | WRITES,
    "open": RUNS | WRITES,
    "read": RUNS | {"history"},
    "write": WRITES,
    "close": RUNS | WRITES,
    "rename": WRITES - {"history"},
    "mkdir": set[str](),
}
"""What hangs with it in work. A process that a pid file named is still watched."""
OF_A_READING = ("lookup", "getattr", "open", "read", "close")
SO_TIMESTAMPNS = 35


class Adverts:
    """Those of the steady instance, as they arrive at the other end of the link: the kernel's time, the priority."""

    def __init__(self) -> None:
        self._received: list[tuple[float, int]] = []
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self._wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._wire.bind(("peer9", 0x0800))
        threading.Thread(target=self._listen, daemon=True).start()

    def go_on(self) -> None:
        """Two more arrive, and so soon that a peer would not take over."""
        so_far = len(self._received)
        wait(lambda: len(self._received) >= so_far + 2)
        times = [at for at, _ in self._received[max(0, so_far - 1) :]]
        assert max(later - earlier for earlier, later in pairwise(times)) < MASTER_DOWN_INTERVAL

    def hand_over(self) -> bool:
        return bool(self._received) and self._received[-1][1] == 0

    def _listen(self) -> None:
        while True:
            packet, ((_, _, stamp), *_), _, _ = self._wire.recvmsg(2048, 64)
            protocol, vrid, priority = packet[23], packet[35], packet[36]
            if (protocol, vrid) == (112, 51):
                seconds, nanoseconds = struct.unpack("qq", stamp)
                self._received.append((seconds + nanoseconds / 1e9, priority))


@pytest.fixture
def adverts(floatip: Floatip) -> Adverts:
    mac = re.search(r"link/ether (\S+)", ip("link show peer9"))
    assert mac
    ip(f"neighbour add 10.0.0.2 lladdr {mac[1]} dev eth9 nud permanent")
    return Adverts()


@pytest.fixture
def disk(floatip: Floatip) -> Iterator[Disk]:
    directory = floatip.directory / "disk"
    (directory / "lib").mkdir(parents=True)
    floatip.file = directory / "floatip.toml"
    floatip.write(CONFIG)
    for name in ("script", "notify"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    (directory / "pid").write_text(f"{os.getpid()}\n")
    disk = Disk(directory)
    yield disk
    disk.go_on()


def state_directory(floatip: Floatip) -> Path:
    """In a directory of its own: a mkdir that hangs holds up all that looks into the same one."""
    return floatip.directory / "disk" / "lib" / "state"


def start(floatip: Floatip, disk: Disk, before: str = IMPATIENT) -> None:
    with disk.mounted():
        floatip.start(f"exec({before!r})", STATE_DIRECTORY=str(state_directory(floatip)))


def problems(floatip: Floatip) -> list[str]:
    return [one["what"] for one in floatip.status()["problems"] if one["severity"] != "note"]


def role_of_moved(floatip: Floatip) -> str:
    return next(str(one["role"]["value"]) for one in floatip.status()["instances"] if one["name"] == "moved")


def is_well(floatip: Floatip) -> bool:
    try:
        return held() == ADDRESSES and not problems(floatip)
    except ControlError:
        return False


def is_well_after_a_reload(floatip: Floatip) -> bool:
    """A reading may take longer than the half second that these tests give it, on a busy machine."""
    if any(what.startswith("reload") for what in problems(floatip)):
        floatip.signal(signal.SIGHUP)
        time.sleep(1)
    return is_well(floatip)


def misses_a_check(floatip: Floatip) -> bool:
    """All is held but the address of the script on the disk, because that timed out."""
    script = next(one for one in floatip.status()["checks"] if one["name"] == "script")
    return held() == ADDRESSES - {ON_THE_DISK} and "timed out after 0.5 s" in script["reason"]


def hanging(floatip: Floatip) -> set[str]:
    """What the status says to hang."""
    checks = [f"check {one['name']} {one['value']}: {one['reason']}" for one in floatip.status()["checks"]]
    texts = [*problems(floatip), *checks]
    return {name for name, sign in SIGNS.items() if any(sign in text for text in texts)}


def has_ended(floatip: Floatip) -> bool:
    """As far as it can while a thread of it waits for the disk: it is a zombie until that returns."""
    assert floatip.process
    try:
        return "\nState:\tZ" in Path(f"/proc/{floatip.process.pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_hangs_is_a_problem_while_it_does_and_delays_no_advert(
    call: str, floatip: Floatip, disk: Disk, adverts: Adverts
) -> None:
    state, trigger = state_directory(floatip), floatip.directory / "trigger"
    if call != "mkdir":
        state.mkdir()
        for name in ("held", "keepalived", "starts"):
            (state / f"{name}.json").write_text('{"boot": "another"}')

    def answers() -> None:
        assert disk.is_waited_for
        disk.go_on()

    # At start
    disk.hang(call, lambda path: path.parent == state or call == "mkdir")
    start(floatip, disk)
    # A child closes its copy of a file that a thread has open just then, and waits for the disk, too: its check fails.
    wait(lambda: floatip.role() == "master" and (held() == ADDRESSES or (call == "close" and misses_a_check(floatip))))
    missed = "keepalived.json: not read" if call in OF_A_READING else "starts.json: not written"
    wait(lambda: any(f"{state}/{missed} after 0.5 s" in what for what in problems(floatip)))
    adverts.go_on()
    answers()
    wait(lambda: is_well(floatip))

    # In work
    if TOLD[call]:
        disk.hang(call)
        trigger.touch()
        wait(lambda: role_of_moved(floatip) == "fault")
        trigger.unlink()  # a second change: of its two files one waits for the disk, the other one for that now
        wait(lambda: hanging(floatip) == TOLD[call])
        adverts.go_on()
        answers()
        trigger.touch()  # only a run that succeeds clears what is said of the notify command
        wait(lambda: role_of_moved(floatip) == "fault")
        trigger.unlink()
        wait(lambda: is_well(floatip))

    # During a reload
    if call in OF_A_READING:
        disk.hang(call, lambda path: path == floatip.file)
        floatip.signal(signal.SIGHUP)
        reload = f"reload: not read after 0.5 s: {floatip.file} does not answer"
        wait(lambda: any(what.startswith(reload) for what in problems(floatip)))
        adverts.go_on()
        answers()
        wait(lambda: is_well_after_a_reload(floatip))

    # During a stop
    disk.hang(call)
    floatip.signal(signal.SIGTERM)
    wait(adverts.hand_over)
    wait(lambda: held() == set())
    wait(lambda: has_ended(floatip))
    disk.go_on()
    assert floatip.exit_status() == 0


def test_a_reload_comes_through_while_a_start_waits_for_the_disk(floatip: Floatip, disk: Disk) -> None:
    disk.hang("write")
    start(floatip, disk, PATIENT_START)
    wait(lambda: disk.is_waited_for and floatip.socket.exists())
    floatip.signal(signal.SIGHUP)
    wait(lambda: floatip.log.read_text().count("there is no [linode]") == 2)
    disk.go_on()
    wait(lambda: is_well(floatip))


def test_a_stop_comes_through_while_a_start_waits_for_the_disk(floatip: Floatip, disk: Disk) -> None:
    disk.hang("write")
    start(floatip, disk, PATIENT_START)
    wait(lambda: disk.is_waited_for and floatip.socket.exists())
    floatip.signal(signal.SIGTERM)
    disk.go_on()
    assert floatip.exit_status() == 0
    assert held() == set()


def test_a_start_on_a_dead_disk_ends_when_it_is_asked_to(floatip: Floatip, disk: Disk) -> None:
    disk.die()
    start(floatip, disk, AS_A_COMMAND.format(file=str(floatip.file)))
    wait(lambda: f"takes long: {floatip.file} does not answer" in floatip.log.read_text())
    floatip.signal(signal.SIGTERM)
    assert floatip.exit_status() == -signal.SIGTERM


def test_a_daemon_whose_disk_died_serves_on_and_ends_when_it_is_asked_to(
    floatip: Floatip, disk: Disk, adverts: Adverts
) -> None:
    start(floatip, disk)
    wait(lambda: is_well(floatip))
    disk.die()
    (floatip.directory / "trigger").touch()
    floatip.signal(signal.SIGHUP)
    wait(lambda: hanging(floatip) == TOLD["lookup"])
    adverts.go_on()
    floatip.signal(signal.SIGTERM)
    wait(adverts.hand_over)
    assert floatip.exit_status() == 0
    assert held() == set()
