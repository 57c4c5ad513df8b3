"""What is asked about this machine: addresses and routes of a real kernel, files with another user's eyes, the unit."""

import errno
import grp
import os
import pwd
import socket
import subprocess
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface
from pathlib import Path

import pytest

from floatip import reading, rtnetlink
from floatip.reading import machine
from floatip.reading.machine import Machine, look_around, stop_limit
from floatip.reading.rights import users
from floatip.rtnetlink import Netlink


def ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


@pytest.mark.usefixtures("namespace")
def test_interfaces_addresses_and_the_default_route_are_those_of_the_kernel() -> None:
    ip("link add eth9 type veth peer name eth8", "link set eth9 up", "link set eth8 up")
    ip("address add 192.168.143.227/17 dev eth9", "address add 192.168.143.228/32 dev eth9 label eth9:1")
    ip("address add 2001:db8::7/64 dev eth9 nodad", "address add 172.17.0.1/16 dev eth8")
    ip("route add default via 192.168.128.1 dev eth9 metric 5", "route add default via 172.17.0.9 dev eth8 metric 50")
    ip("address add 192.168.143.250/17 dev eth9 valid_lft 600 preferred_lft 600")
    machine = look_around()
    assert set(machine.interfaces) == {"lo", "eth8", "eth9"}
    assert [str(one.address) for one in machine.leased] == ["192.168.143.250/17"]
    assert set(machine.placed(leased=True)) - set(machine.placed()) == machine.leased
    for address in ("192.168.143.227/17", "192.168.143.228/32", "2001:db8::7/64"):
        assert ip_interface(address) in machine.interfaces["eth9"]
    assert machine.default_interface == "eth9"
    assert ("eth8", ip_interface("172.17.0.1/16").network) in machine.answering
    assert machine.interface_of(ip_address("172.17.0.1")) == "eth8"
    assert machine.first_ipv4() == IPv4Address("192.168.143.227")


@pytest.mark.usefixtures("namespace")
def test_it_is_known_where_the_first_address_takes_the_others_along() -> None:
    """And which addresses a floatip added."""
    ip("link add eth9 type veth peer name eth8", "address add 192.0.2.8/24 dev eth8")
    addition = rtnetlink.addition(socket.if_nametoindex("eth9"), ip_interface("192.0.2.7/24"), rtnetlink.OURS)
    with closing(Netlink()) as netlink:
        assert netlink.request([addition]) == [0]
    for name, value in (("all", 0), ("eth8", 0), ("eth9", 1)):
        Path(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries").write_text(f"{value}\n")
    machine = look_around()
    assert {"eth8", "eth9"} & machine.demoting == {"eth8"}
    assert {str(one.address) for one in machine.added} == {"192.0.2.7/24"}


@pytest.mark.usefixtures("namespace")
def test_the_kernels_temporary_addresses_are_known() -> None:
    ip("link add eth9 type veth peer name eth8", "link set eth8 up")
    Path("/proc/sys/net/ipv6/conf/eth9/use_tempaddr").write_text("2\n")
    ip("link set eth9 up", "address add 192.0.2.7/24 dev eth9", "address add 192.0.2.8/24 dev eth9")
    ip("address add 2001:db8::7/64 dev eth9 mngtmpaddr nodad")
    (temporary,) = look_around().temporary
    assert temporary.address.network == ip_interface("2001:db8::7/64").network
    assert temporary.address.ip != ip_address("2001:db8::7")


@pytest.mark.usefixtures("namespace")
def test_a_path_is_on_the_file_system_that_was_mounted_there_last(tmp_path: Path) -> None:
    below = tmp_path / "a b"
    below.mkdir()
    before = look_around().file_system(below / "file")
    subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
    subprocess.run(["mount", "-t", "ramfs", "none", below], check=True)
    try:
        (tmp_path / "link").symlink_to(below)
        machine = look_around()
        assert machine.file_system(below / "not" / "there") == "ramfs" != before
        assert machine.file_system(tmp_path / "link" / "file") == "ramfs"
        assert machine.file_system(tmp_path / "file") == before
        assert machine.file_system(Path("/sys/class/net")) == "sysfs"
    finally:
        subprocess.run(["umount", below, below], check=True)


def test_users_have_the_groups_that_they_belong_to() -> None:
    root = users()["root"]
    assert (root.uid, root.group) == (0, "root")
    assert {name: user.uid for name, user in users().items()} == {one.pw_name: one.pw_uid for one in pwd.getpwall()}
    for group in grp.getgrall():
        assert all(group.gr_gid in users()[member].gids for member in group.gr_mem if member in users())


@pytest.mark.usefixtures("namespace")
def test_a_machine_without_a_network_can_be_looked_at() -> None:
    assert set(look_around().interfaces) == {"lo"}
    assert look_around().first_ipv4() is None


@pytest.mark.parametrize(
    ("default", "floating", "expected"),
    [
        ("eth1", [], "198.51.100.7"),
        ("eth1", ["198.51.100.7"], "198.51.100.8"),
        ("", [], "192.168.1.5"),
        ("", ["192.168.1.5"], "198.51.100.7"),
        ("eth2", [], "203.0.113.9"),
    ],
    ids=["of the default route", "none that floats", "the lowest, but no bridge's", "the lowest that stays", "no /32"],
)
def test_the_address_of_a_machine_is_one_of_its_own(default: str, floating: list[str], expected: str) -> None:
    interfaces = {
        "lo": (ip_interface("127.0.0.1/8"), ip_interface("10.0.0.9/32")),
        "docker0": (ip_interface("172.17.0.1/16"),),
        "eth0": (ip_interface("192.168.1.5/24"),),
        "eth1": (ip_interface("198.51.100.7/24"), ip_interface("198.51.100.8/24"), ip_interface("2001:db8::1/64")),
        "eth2": (ip_interface("203.0.113.5/32"), ip_interface("203.0.113.9/24")),
    }
    machine = Machine(interfaces, default_interface=default, bridges=frozenset({"docker0"}))
    assert machine.first_ipv4(map(ip_address, floating)) == IPv4Address(expected)


def test_nothing_but_a_bridge_is_no_address() -> None:
    machine = Machine({"docker0": (ip_interface("172.17.0.1/16"),)}, bridges=frozenset({"docker0"}))
    assert machine.first_ipv4() is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 15),
        ({"lib/floatip.service": "[Service]\nTimeoutStopSec=20\n"}, 20),
        ({"lib/floatip.service.d/a.conf": "TimeoutStopSec=1min 30s\n"}, 90),
        ({"lib/floatip.service": "TimeoutStopSec=20", "etc/floatip.service": "TimeoutSec=5"}, 5),
        ({"etc/floatip.service.d/b.conf": "TimeoutStopSec = 7", "lib/floatip.service.d/z.conf": "TimeoutStopSec=8"}, 8),
        ({"etc/floatip.service.d/b.conf": "TimeoutStopSec=infinity"}, float("inf")),
        ({"etc/floatip.service.d/b.conf": "TimeoutStopSec=soon"}, 15),
    ],
)
def test_the_limit_of_a_stop_is_the_units(files: dict[str, str], expected: float, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert stop_limit([str(tmp_path / "lib"), str(tmp_path / "etc")]) == expected


CONFIG = """
[linode]
dcid = 6
[[check]]
name = "c"
script = "{script}"
[[instance]]
name = "a"
addresses = ["192.0.2.10/32"]
checks = ["c"]
static = "primary"
"""


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        ((0o755, 0o755, 0o644), None),
        ((0o755, 0o755, 0o600), "user nobody, who runs the daemon, cannot read it"),
        ((0o755, 0o700, 0o644), "check.sh cannot be run by user nobody"),
        ((0o755, 0o711, 0o644), "check.sh cannot be read by user nobody, so its interpreter cannot run it"),
        ((0o700, 0o755, 0o644), "is closed"),
    ],
    ids=["all is open", "the file", "the script", "the script's text", "its directory"],
)
def test_files_are_looked_at_with_the_eyes_of_the_daemons_user(
    modes: tuple[int, int, int], said: str | None, open_directory: Path
) -> None:
    script, file = open_directory / "d" / "check.sh", open_directory / "floatip.toml"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    file.write_text(CONFIG.format(script=script))
    for path, mode in zip((script.parent, script, file), modes, strict=True):
        path.chmod(mode)
    reading.load(file)
    if said is None:
        reading.load(file, "nobody")
        return
    with pytest.raises(reading.ConfigErrors) as refused:
        reading.load(file, "nobody")
    assert refused.value.may_mend
    (error,) = refused.value.errors
    assert said in error.what


def test_a_kernel_that_does_not_answer_is_no_machine_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Netlink:
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr(machine, "Netlink", refuse)
    with pytest.raises(OSError, match=str(errno.EMFILE)):
        look_around()


def test_a_file_in_a_directory_that_is_closed_has_the_hint_to_open_that(open_directory: Path) -> None:
    directory = open_directory / "floatip"
    directory.mkdir(mode=0o700)
    file = directory / "floatip.toml"
    file.write_text(CONFIG.format(script="/bin/true"))
    with pytest.raises(reading.ConfigErrors) as refused:
        reading.load(file, "nobody")
    (error,) = refused.value.errors
    assert error.hint == f"chmod o+x {directory}"


FILES = """
state_log = "{directory}/log/state"
[linode]
dcid = 6
[[check]]
name = "c"
file = "{directory}/closed/trigger"
[[check]]
name = "p"
process = "{directory}/closed/app.pid"
[keepalived]
fifo = "{directory}/fifo"
[[instance]]
name = "a"
addresses = ["192.0.2.10/32"]
checks = ["c", "p"]
keepalived = {{ interface = "eth9", vrid = 51, source = "192.0.2.1" }}
"""


def test_what_the_daemon_watches_and_writes_is_looked_at_with_its_eyes(open_directory: Path) -> None:
    (open_directory / "closed").mkdir(mode=0o700)
    (open_directory / "log").mkdir()
    os.mkfifo(open_directory / "fifo", 0o600)
    file = open_directory / "floatip.toml"
    file.write_text(FILES.format(directory=open_directory))
    said = {
        f"{open_directory}/{name} cannot be {what} by user nobody"
        for name, what in (
            ("closed/trigger", "looked at"),
            ("closed/app.pid", "looked at"),
            ("log/state", "written"),
            ("fifo", "read"),
        )
    }
    of_nobody = {warning.what.partition(":")[0] for warning in reading.load(file, "nobody").warnings}
    assert said <= of_nobody
    assert not {what for what in of_roots(file) if str(open_directory) in what}


def of_roots(file: Path) -> set[str]:
    return {warning.what for warning in reading.load(file).warnings}


def test_adopt_and_init_look_with_the_daemons_eyes(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = open_directory / "check.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    reading.checked(CONFIG.format(script=script))
    monkeypatch.setattr(machine, "DAEMON", "nobody")
    with pytest.raises(reading.ConfigErrors, match="cannot be run by user nobody"):
        reading.checked(CONFIG.format(script=script))


def test_a_script_on_a_disk_of_the_network_is_named(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, file = open_directory / "check.sh", open_directory / "floatip.toml"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    file.write_text(CONFIG.format(script=script))
    seen = replace(look_around(), mounts={Path("/"): "ext4", open_directory: "fuse.sshfs"})
    what = f"{script} is on fuse.sshfs: while that hangs, the check fails on every node that uses it"
    assert what not in of_roots(file)
    monkeypatch.setattr(reading, "look_around", lambda user: seen)
    assert what in of_roots(file)
