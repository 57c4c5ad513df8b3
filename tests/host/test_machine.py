"""What is asked about this machine: addresses and routes of a real kernel, files with another user's eyes, the unit."""

import errno
import grp
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_interface
from pathlib import Path

import pytest

from floatip import reading
from floatip.reading import machine as machine_module
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


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that others can enter, which pytest's own are not."""
    if os.geteuid() != 0:
        pytest.fail("this test looks with the eyes of other users and needs root: sudo make test")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


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

    monkeypatch.setattr(machine_module, "Netlink", refuse)
    with pytest.raises(OSError, match=str(errno.EMFILE)):
        look_around()
