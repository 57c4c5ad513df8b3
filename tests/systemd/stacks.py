"""The stacks that are compared: the guide's and floatip beside the guide's keepalived, and in `vlan` two without BGP.

A stack knows how it is installed on a node, and how to get both nodes back to where every test begins: one is master
and answers, the other is ready.
"""

import fcntl
import json
import re
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from floatip import __version__
from floatip.lab.network import FLOATING, ROUTE_SERVERS
from tests.systemd import guide
from tests.systemd.machines import Machine, on_each, wait_for
from tests.systemd.pair import Pair

CHECKOUT = Path(__file__).parents[2]
NEXT_VERSION = f"{__version__}+next"
SETTLE_TIMEOUT = 120.0
NOTIFYING = "pgrep --full '[/]notify.sh|[f]loatip notify'"
"""Whether a script of keepalived's still runs, which may start or stop the announcer."""
KEEPALIVED_PIDS = "$(cat /run/keepalived.pid /run/vrrp.pid 2>/dev/null)"
REPAIR = f"rm -f {guide.TRIGGER}; kill -CONT {KEEPALIVED_PIDS}; systemctl start haproxy keepalived"


class Stack(Protocol):
    name: str
    announcer: str
    """The unit that announces, or holds, what keepalived or itself decides."""
    repair: str
    """What is typed on each node to repair what a fault broke."""

    def install(self, pair: Pair) -> None: ...

    def masters(self, pair: Pair) -> list[Machine]:
        """As they see themselves."""
        return pair.masters()

    def prepare(self, pair: Pair, master: Machine) -> None:
        """What is needed beyond a master and a backup."""
        return

    def claims(self, node: Machine) -> bool:
        """Whether the node is announced as master."""
        ...


def use(pair: Pair, stack: Stack) -> None:
    if pair.stack is stack:
        return
    try:
        stack.install(pair)
    except BaseException:
        pair.stack = None
        raise
    pair.stack = stack


def settle(pair: Pair, stack: Stack) -> Machine:
    """Repairs what the last test broke; the master."""
    pair.network.faults.heal_all()
    for node in pair.nodes:
        node.run(stack.repair, quiet=True)
    masters: list[Machine] = []

    def one_is_master() -> bool:
        masters[:] = stack.masters(pair)
        return len(masters) == 1 and not any(node.succeeds(NOTIFYING) for node in pair.nodes)

    def it_is_announced() -> bool:
        return one_is_master() and pair.led_to == masters[0].name and claiming(pair, stack) == masters

    wait_for(one_is_master, "one node to be master", SETTLE_TIMEOUT)
    stack.prepare(pair, masters[0])
    wait_for(it_is_announced, "one node alone to be announced as master", SETTLE_TIMEOUT)
    print(f"-- {masters[0].name} is master, and both nodes are ready", flush=True)
    return masters[0]


def claiming(pair: Pair, stack: Stack) -> list[Machine]:
    """Of the nodes that others reach."""
    return [node for node in pair.nodes if node.name not in pair.network.faults.cut_off and stack.claims(node)]


class Guide(Stack):
    name = "the guide's stack"
    announcer = "lelastic"
    repair = REPAIR

    def install(self, pair: Pair) -> None:
        on_each(pair.nodes, self._install)

    def _install(self, node: Machine) -> None:
        if node.succeeds("dpkg-query --status floatip"):
            node.run("floatip adopt --undo --yes --force; dpkg --purge floatip", check=False)
        node.run("systemctl stop keepalived")
        guide.install_service(node)
        guide.install_announcer(node)
        guide.install_keepalived(node)

    def prepare(self, pair: Pair, master: Machine) -> None:
        master.run("systemctl start lelastic", quiet=True)

    def claims(self, node: Machine) -> bool:
        return node.succeeds(f"systemctl is-active lelastic && ip address show eth0 | grep -F ' {FLOATING} '")


class Beside(Stack):
    name = "floatip beside keepalived"
    announcer = "floatip"
    repair = REPAIR

    def install(self, pair: Pair) -> None:
        use(pair, GUIDE)
        master = settle(pair, GUIDE)
        install_package(pair)
        for node in (pair.other(master), master):
            adopt(node)

    def prepare(self, pair: Pair, master: Machine) -> None:
        # A route that flaps is damped, so every test begins with a clean record.
        on_each(pair.nodes, lambda node: node.run("systemctl restart floatip", quiet=True))
        for node in pair.nodes:
            wait_for(lambda node=node: is_announced(status(node)), f"{node.name} to be announced", SETTLE_TIMEOUT)  # type: ignore[misc]

    def claims(self, node: Machine) -> bool:
        return claims(status(node))


def status(node: Machine) -> Any:
    # Its exit status tells whether something is wrong, and here something often is.
    told = node.run("floatip status --json", check=False, quiet=True)
    return json.loads(told) if told else {"instances": [], "nodes": [], "sessions": []}  # no daemon answers


def claims(told: Any) -> bool:
    """Whether a node with this status is announced as master."""
    return any(each["rank"]["value"] in ("active", "takeover", "takeover-again") for each in told["instances"])


def is_announced(told: Any) -> bool:
    """By all route servers."""
    announced_to = [each["announced_to"] for one in told["instances"] for each in one["addresses"]]
    return announced_to == [len(ROUTE_SERVERS)]


def adopt(node: Machine, options: str = "") -> None:
    """As an administrator does: what adopt asks for first, and again."""
    refused = node.run(f"floatip adopt {options} --yes 2>&1", check=False)
    for command in re.findall(r"^  (chown .*)$", refused, re.M):
        node.run(command)
    node.run(f"floatip adopt {options} --yes")


def install_package(pair: Pair) -> None:
    """On both nodes, unless they have it."""
    built = package()
    version = "dpkg-query --show --showformat='${Version}' floatip"
    on_each(
        [node for node in pair.nodes if node.run(version, check=False, quiet=True) != __version__],
        lambda node: node.install(built),
    )


_BUILDER = ThreadPoolExecutor(1)


@cache
def begin_to_build() -> Future[Path]:
    """Half a minute of work where no package is there yet, in which other things can be done."""
    return _BUILDER.submit(_build)


def package() -> Path:
    """The built .deb."""
    return begin_to_build().result()


def _build() -> Path:
    with (CHECKOUT / "Makefile").open() as lock:  # other tests may run in another process
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = subprocess.run(["make", "--silent", "deb"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (CHECKOUT / "dist").glob(f"floatip_{__version__}_all.deb")
    return found


def next_package(directory: Path) -> Path:
    """The same with a higher version."""
    tree, name = directory / "next", directory / f"floatip_{NEXT_VERSION}_all.deb"
    if not name.exists():
        subprocess.run(["dpkg-deb", "--raw-extract", package(), tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"Version: {__version__}\n", f"Version: {NEXT_VERSION}\n"))
        build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(name)]
        subprocess.run(build, capture_output=True, check=True)
    return name


GUIDE, BESIDE = Guide(), Beside()
