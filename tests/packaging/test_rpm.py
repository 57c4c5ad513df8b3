"""The RPM of `make rpm`: what is in it, what it asks for, and rpm itself installs it, here into a Debian.

No Fedora is tried: that its packages have the names that the RPM asks for is not shown here.
"""

import subprocess
from pathlib import Path

import pytest

from floatip import __version__
from tests.packaging.trees import Layer
from tests.systemd.machines import debian
from tests.systemd.stacks import package

ROOT = Path(__file__).parents[2]
PROBE = """
import sys
sys.argv[1:] = ["--version"]
try:
    exec(open("/usr/bin/floatip").read())
except SystemExit:
    import h11, rich.live
"""
"""Fails unless the start of floatip leaves a path on which both libraries are."""


@pytest.fixture(scope="module")
def rpm() -> Path:
    subprocess.run(["make", "--silent", "rpm"], cwd=ROOT, capture_output=True, timeout=300, check=True)
    return ROOT / f"dist/floatip-{__version__}-1.noarch.rpm"


def asked(*question: str | Path) -> set[str]:
    done = subprocess.run(["rpm", "-qp", *question], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines())


def test_it_holds_the_same_files_as_the_debian_package(rpm: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", package()], capture_output=True, text=True, check=True).stdout
    debs = {line.split()[5].lstrip(".") for line in listed.splitlines() if not line.startswith("d")}
    # Debian keeps its own files about the package there, and its units and zsh in other directories.
    debs = {
        name.replace("/vendor-completions/", "/site-functions/").replace("/usr/lib/systemd/", "/lib/systemd/")
        for name in debs
        if not name.endswith(("/copyright", "/changelog.gz")) and "/lintian/" not in name
    }
    ours = {name.replace("/usr/lib/systemd/", "/lib/systemd/") for name in asked("--list", rpm)}
    assert debs <= ours
    assert {name for name in ours - debs if name.endswith((".py", ".service", ".8.gz"))} == set()


def test_it_asks_for_what_the_daemon_needs(rpm: Path) -> None:
    assert {"iproute", "procps-ng", "python3 >= 3.11", "python3-h11", "python3-rich"} <= asked("--requires", rpm)
    assert asked("--queryformat", "%{ARCH}", rpm) == {"noarch"}


def test_rpm_installs_it_upgrades_it_and_removes_it(rpm: Path, tmp_path: Path) -> None:
    host = Layer(tmp_path, str(debian()))
    host.write(f"/{rpm.name}", "")
    (tmp_path / f"upper/{rpm.name}").write_bytes(rpm.read_bytes())
    # Fedora has its libraries there.
    host.run("mkdir -p /usr/lib/python3.11/site-packages")
    host.run("mv /usr/lib/python3/dist-packages/* /usr/lib/python3.11/site-packages")
    with_rpm = "rpm --root=$PWD/root --nodeps"
    told = host.run(f"{with_rpm} --install root/{rpm.name}", inside=False)
    assert "warning" not in told, told
    assert host.run("floatip --version") == f"floatip {__version__}\n"
    host.write("/probe", PROBE)
    host.run("python3 -IS /probe")
    host.run("python3 -c 'import pwd; pwd.getpwnam(\"floatip\")' && systemctl is-enabled floatip")
    compiled = "/usr/lib/floatip/floatip/__pycache__/cli.cpython-311.pyc"
    host.run(f"test -e {compiled} && touch -d 2020-01-01 {compiled}")
    host.run(f"{with_rpm} --upgrade --force root/{rpm.name}", inside=False)
    assert host.run(f"find {compiled} -newermt 2021-01-01") == f"{compiled}\n"
    host.write("/var/lib/floatip/adopt/1/manifest.json", "{}")
    status, told = host.try_to(f"{with_rpm} --erase floatip", inside=False)
    assert status != 0
    assert "floatip adopt --undo first" in told
    host.run(f"rm -r /var/lib/floatip/adopt && test -e {compiled}")
    host.run(f"{with_rpm} --erase floatip", inside=False)
    assert host.try_to("test -e /usr/lib/floatip")[0] == 1
