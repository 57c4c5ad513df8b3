"""The package on each distribution that it is for: `python -m tests.packaging.suites [SUITE...]`, as root.

From the repository, by the suite's own apt, with the suite's own Python and libraries; then two nodes with a real
systemd and four route servers. The base systems are kept, so that only the first run takes long.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES
from tests.packaging.trees import Key, Layer, lay_out, served
from tests.systemd.machines import Machine, Rack, debian, on_each, wait_for
from tests.systemd.nodes import FLOATIP_TOML, nodes_toml, share_key
from tests.systemd.pair import Pair
from tests.systemd.stacks import package

ROOT = Path(__file__).parents[2]
PACKAGES = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "haproxy")
"""What a server has; floatip's own needs come with it."""
UBUNTU_SCRIPT = "/usr/share/debootstrap/scripts/gutsy"
"""debootstrap of Debian 12 does not know the name of Ubuntu 24.04; all names of Ubuntu are links to this one."""
UBUNTU_KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
KEYRING_PACKAGE = "ubuntu-keyring"
OK_TIMEOUT = 60.0
HAPROXY = "defaults\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"
HAPROXY += "frontend web\n  mode http\n  bind :80\n  http-request return status 200\n"
COLUMNS = ("suite", "Python", "h11", "rich", "systemd", "install", "to OK", "memory", "result", "took")


@dataclass(frozen=True)
class Suite:
    name: str
    title: str
    packages: tuple[str, ...] = PACKAGES
    is_ubuntu: bool = False

    def tree(self) -> Path:
        if not self.is_ubuntu:
            return debian(self.name, self.packages)
        keyring = TRIXIE.tree() / UBUNTU_KEYRING
        options = ["--components=main,universe", f"--keyring={keyring}"]
        return debian(self.name, self.packages, options, UBUNTU_SCRIPT)


TRIXIE = Suite("trixie", "Debian 13", (*PACKAGES, KEYRING_PACKAGE))
"""Debian 12 has no keyring of Ubuntu."""
SUITES = (
    Suite("bookworm", "Debian 12"),
    TRIXIE,
    Suite("jammy", "Ubuntu 22.04", is_ubuntu=True),
    Suite("noble", "Ubuntu 24.04", is_ubuntu=True),
)


def install(host: Layer, suite: Suite, sources: str) -> list[str]:
    """By apt, with all that it needs; Python and the libraries that it got, and how long it took."""
    if suite.is_ubuntu:
        # debootstrap knows the release alone, and no machine has only that.
        host.run(r"sed -i '/updates/d; p; s/ \([a-z]*\) main/ \1-updates main/' /etc/apt/sources.list")
    host.write("/etc/apt/sources.list.d/floatip.sources", sources)
    updated = host.run("apt-get update -q")
    assert not re.search("^[WE]:", updated, re.M), updated
    begun = time.monotonic()
    host.run("apt-get install -y -q floatip")
    took = time.monotonic() - begun
    assert re.fullmatch(r"floatip \S+\n", host.run("floatip --version"))
    example = re.search(r"```toml\n(# /etc/floatip/floatip.toml.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert example
    host.write(FLOATIP_TOML, example[1])
    host.run("floatip key && chgrp floatip /etc/floatip/*")
    ours = f"ip link set lo up && ip address add {NODES[0].ipv4} dev lo"
    host.run(f"unshare --net sh -ec '{ours} && floatip check'")
    host.run("rm /etc/floatip/*")
    which = r"ls -d /usr/lib/floatip/floatip/__pycache__/cli.*.pyc | sed 's/.*cpython-3\(.*\).pyc/3.\1/'"
    python = host.run(which).strip()
    exact = host.run(f"python{python} -c 'import platform; print(platform.python_version())'").strip()
    show = "dpkg-query --show --showformat='${Version}' "
    versions = [host.run(f"{show} {name}").partition("-")[0] for name in ("python3-h11", "python3-rich", "systemd")]
    return [exact, *versions, f"{took:.0f} s"]


def serve(tree: str) -> list[str]:
    """Two nodes: how long they took until both say OK, and the memory of the daemon."""
    with ExitStack() as exits:
        rack = Rack(tree)
        exits.callback(rack.close)
        pair = Pair(rack, exits)
        for node in pair.nodes:
            node.write("/etc/haproxy/haproxy.cfg", HAPROXY)
            node.write(FLOATIP_TOML, nodes_toml())
        share_key(pair)
        on_each(pair.nodes, lambda node: node.run("systemctl restart haproxy"))
        begun = time.monotonic()
        on_each(pair.nodes, lambda node: node.run("systemctl enable --now floatip"))
        for node in pair.nodes:
            wait_until_ok(node)
        took = time.monotonic() - begun
        for node in pair.nodes:
            node.run("floatip status; floatip nodes; floatip check --run")
            assert node.run("systemctl --failed --no-legend | grep floatip", check=False) == ""
        pid = pair.haproxy1.pids_of("floatip.service")[0]
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert resident
        return [f"{took:.1f} s", f"{int(resident[1]) / 1024:.0f} MB"]


def wait_until_ok(node: Machine) -> None:
    try:
        wait_for(partial(node.succeeds, "floatip status"), f"{node.name} to say OK", OK_TIMEOUT)
    except AssertionError:
        print(node.journal())
        raise


def main(names: Sequence[str]) -> int:
    wanted = [suite for suite in SUITES if not names or suite.name in names]
    table = Table(*COLUMNS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    failed = not wanted
    lint = subprocess.run([find_program("lintian", "lintian"), "--fail-on=error,warning", package()], check=False)
    failed |= lint.returncode != 0
    with TemporaryDirectory(prefix="floatip-suites-") as temporary, ExitStack() as exits:
        directory = Path(temporary)
        directory.chmod(0o755)
        key = Key(directory / "key")
        exits.callback(key.close)
        url = exits.enter_context(served(directory / "apt"))
        done = lay_out(directory / "apt", package(), key.environment | {"URL": url})
        assert done.returncode == 0, done.stderr
        sources = (directory / "apt/floatip.sources").read_text()
        for suite in wanted:
            begun = time.monotonic()
            cells: list[str] = []
            try:
                host = Layer(directory / suite.name, str(suite.tree()))
                cells += install(host, suite, sources)
                cells += serve(host.tree)
                result = "OK"
            except AssertionError as error:
                print(f"{suite.title}: {error}")
                result, failed = "FAILED", True
            cells += [""] * (len(COLUMNS) - 3 - len(cells))
            table.add_row(suite.title, *cells, result, f"{time.monotonic() - begun:.0f} s")
    Console(width=88).print(table)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
