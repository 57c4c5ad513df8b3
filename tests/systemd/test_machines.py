"""The hosts themselves: what was written on one survives its reboot, and nothing of them survives the tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from floatip.lab.network import FLOATING
from tests.systemd.machines import wait_for
from tests.systemd.pair import Pair
from tests.systemd.stacks import GUIDE, settle, use

CHECKOUT = Path(__file__).parents[2]
A_SESSION = """
import sys
from contextlib import ExitStack
from tests.systemd.machines import Rack
from tests.systemd.pair import Pair
with ExitStack() as exits:
    rack = Rack()
    Pair(rack, exits)
    print(rack.directory, *rack.cgroups, flush=True)
    sys.stdin.read()
"""


def test_a_host_comes_back_from_a_reboot_with_all_that_was_installed_on_it(pair: Pair) -> None:
    use(pair, GUIDE)
    node = pair.other(settle(pair, GUIDE))
    node.write("/etc/written-before", "the reboot\n")
    booted = node.run("cat /proc/sys/kernel/random/boot_id")
    node.reboot(pause=0)
    assert node.run("cat /proc/sys/kernel/random/boot_id") != booted
    assert node.run("cat /etc/written-before") == "the reboot\n"
    assert node.run("systemctl is-active haproxy keepalived").split() == ["active", "active"]
    assert str(FLOATING) not in node.run("ip address show eth0")


def test_nothing_is_left_of_the_hosts_when_the_tests_are_killed() -> None:
    command = [sys.executable, "-c", A_SESSION]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout
        directory, *cgroups = map(Path, session.stdout.readline().split())
        name = directory.name
        assert name.startswith("floatip-hosts-")
        assert directory.is_dir()
        assert cgroups
        assert all(cgroup.is_dir() for cgroup in cgroups)
        assert _running(name).count("systemd") == 3
        os.kill(session.pid, signal.SIGKILL)
    wait_for(lambda: not directory.exists(), "the directory to be removed", 120)
    assert not any(cgroup.exists() for cgroup in cgroups)
    assert name not in Path("/proc/mounts").read_text()
    wait_for(lambda: not _running(name), "the janitor to end too, the last of them", 120)


def _running(name: str) -> list[str]:
    """Programs whose cgroup or environment names the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "cgroup").read_text() + (process / "environ").read_bytes().decode(errors="replace")
            program, state = (process / "comm").read_text().strip(), (process / "stat").read_text().rpartition(") ")[2]
        except OSError:
            continue
        if name in about and not state.startswith("Z"):
            found.append(program)
    return found
