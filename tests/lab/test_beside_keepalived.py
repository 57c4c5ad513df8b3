"""floatip beside a real keepalived (Debian's), told by its FIFO or by its notify lines, whatever becomes of either."""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from floatip.host.ask import NobodyAnswers, ask
from floatip.host.keepalived import WRITER_PATIENCE
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, ROUTE_SERVERS, LabHost, Network
from floatip.lab.programs.builtin import BuiltInRouteServer
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.keepalived import KeepalivedProgram

TIMEOUT = 60.0
ADVERT_INTERVAL = 0.2
MASTER_DOWN = 0.8
"""That of priority 50, rounded up."""
OWNER = 255
"""The priority of who is master at once, and stays it."""
SECOND = "192.168.223.159/32"
FIFO = "vrrp_notify_fifo FIFO root"
PR_SET_CHILD_SUBREAPER = 36
SPLICE_F_NONBLOCK = 2


@dataclass(frozen=True, slots=True)
class Role:
    at: float
    name: str
    value: str
    reason: str


class Node:
    """One host with both programs, or with keepalived alone."""

    def __init__(
        self, network: Network, host: LabHost, priority: int = 50, interval: float = ADVERT_INTERVAL, **conf: str
    ) -> None:
        self.network, self.host, self.interval = network, host, interval
        self.trigger = network.directory / f"{host.name}.trigger"
        conf_text = keepalived_conf(host, priority, self.trigger, interval, **conf)
        self.keepalived = KeepalivedProgram(network, host.name, conf_text)
        self.floatip = FloatipDaemon(network, host.name, floatip_toml(host, priority, self.keepalived, interval))

    def start(self) -> None:
        self.keepalived.start()
        self.floatip.start()

    def start_after_floatip(self) -> None:
        """Its first word is heard, also on a slow machine. `floatip notify` waits for five seconds only."""
        self.floatip.start()
        wait_for(lambda: bool(self.status()["instances"]), lambda: f"floatip to answer\n{self.floatip.log.read_text()}")
        self.keepalived.start()

    def status(self) -> dict[str, Any]:
        with suppress(NobodyAnswers):
            return ask(self.floatip.socket, {"cmd": "status"}, timeout=TIMEOUT)
        return {"instances": [], "problems": [], "keepalived": {"runs": False, "said": []}}

    def said(self) -> list[tuple[str, str, str]]:
        return [(one["kind"], one["name"], one["state"]) for one in self.status()["keepalived"]["said"]]

    def role(self, name: str = "VI_1") -> str:
        return next((i["role"]["value"] for i in self.status()["instances"] if i["name"] == name), "")

    def reason(self, name: str = "VI_1") -> str:
        return next((i["role"]["reason"] for i in self.status()["instances"] if i["name"] == name), "")

    def roles(self) -> list[Role]:
        """All so far, since floatip was started."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(self.floatip.socket))
            client.sendall(b'{"cmd": "watch"}\n{"cmd": "status"}\n')
            news = []
            with client.makefile("rb") as lines:
                while "what" in (one := json.loads(lines.readline())):  # the status comes after the history
                    news.append(one)
        return [Role(*(one[key] for key in ("at", "name", "value", "reason"))) for one in news if one["what"] == "role"]

    def becomes(self, role: str, name: str = "VI_1", because: str = "") -> float:
        """Seconds that it took."""
        began = time.monotonic()
        wait_for(
            lambda: self.role(name) == role and because in self.reason(name),
            lambda: f"{name} to be {role}: it is {self.role(name)}, {self.reason(name)}\n{self.logs()}",
        )
        return time.monotonic() - began

    def logs(self) -> str:
        tails = (daemon.log.read_text().splitlines()[-12:] for daemon in (self.keepalived, self.floatip))
        return "\n".join(line for tail in tails for line in tail)

    def remembers(self, state: str) -> bool:
        """For a successor of this floatip: what keepalived said is in the file a moment after it is in the status."""
        file = self.floatip.directory / "state" / "keepalived.json"
        said = json.loads(file.read_bytes())["said"] if file.exists() else []
        return ["INSTANCE", "VI_1", state] in [word[:3] for word in said]

    def unheard(self) -> bytes:
        """What waits in the FIFO; it goes on waiting (tee(2))."""
        fifo = os.open(self.keepalived.fifo, os.O_RDONLY | os.O_NONBLOCK)
        reader, writer = os.pipe()
        try:
            ctypes.CDLL(None).tee(fifo, writer, 65536, SPLICE_F_NONBLOCK)
            os.close(writer)
            writer = -1
            return os.read(reader, 65536)
        finally:
            for descriptor in (fifo, reader, writer):
                if descriptor >= 0:
                    os.close(descriptor)

    def reloads(self) -> int:
        return self.keepalived.log.read_text().count("Reload complete")

    def has_reloaded_since(self, reloads: int) -> bool:
        return self.reloads() > reloads

    @property
    def has_address(self) -> bool:
        with self.network.inside(self.host.name), open("/proc/thread-self/net/fib_trie") as table:
            return str(FLOATING.ip) in table.read()

    def ip(self, *arguments: str) -> None:
        with self.network.inside(self.host.name):
            subprocess.run(["ip", *arguments], check=True)


def wait_for(true: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline, f"timed out after {TIMEOUT:g} s waiting for {what()}"
        time.sleep(0.005)


def keepalived_conf(
    host: LabHost,
    priority: int,
    trigger: Path,
    interval: float = ADVERT_INTERVAL,
    *,
    told: str = FIFO,
    interface: str = "eth0",
    peers: str = "",
    more: str = "",
) -> str:
    return f"""
global_defs {{
  vrrp_version 3
  {told if told == FIFO else ""}
  script_user root
  enable_script_security
}}
vrrp_script chk_trigger {{
  script "/usr/bin/test ! -e {trigger}"
  interval 1
}}
{
        instance_conf(
            "VI_1",
            51,
            priority,
            interface,
            peers or unicast(host),
            str(FLOATING),
            told if told != FIFO else "",
            interval=interval,
        )
    }
{more}
"""


def instance_conf(
    name: str,
    vrid: int,
    priority: int,
    interface: str,
    peers: str,
    address: str,
    more: str = "",
    interval: float = ADVERT_INTERVAL,
) -> str:
    return f"""
vrrp_instance {name} {{
  state {"MASTER" if priority == OWNER else "BACKUP"}
  interface {interface}
  virtual_router_id {vrid}
  priority {priority}
  advert_int {interval}
  {peers}
  virtual_ipaddress {{
    {address}
  }}
  track_script {{
    {"chk_trigger" if name == "VI_1" else ""}
  }}
  {more}
}}
"""


def unicast(host: LabHost) -> str:
    return f"unicast_src_ip {address_of(host)}\n unicast_peer {{\n {address_of(other(host))}\n }}"


def other(host: LabHost) -> LabHost:
    return HAPROXY2 if host is HAPROXY1 else HAPROXY1


def address_of(host: LabHost) -> str:
    assert host.ipv4
    return str(host.ipv4.ip)


def floatip_toml(host: LabHost, priority: int, keepalived: KeepalivedProgram, interval: float = ADVERT_INTERVAL) -> str:
    ours, theirs = address_of(host), address_of(other(host))
    return f"""
[linode]
dcid = 6

[keepalived]
fifo = "{keepalived.fifo}"
pid_file = "{keepalived.pid_file}"
vrrp_pid_file = "{keepalived.vrrp_pid_file}"
{instance_toml("VI_1", 51, priority, str(FLOATING), ours, [theirs], advert_interval=interval)}
"""


def instance_toml(
    name: str,
    vrid: int,
    priority: int,
    address: str,
    source: str,
    peers: list[str],
    interface: str = "eth0",
    more: str = "",
    advert_interval: float = ADVERT_INTERVAL,
) -> str:
    return f"""
[[instance]]
name = "{name}"
addresses = ["{address}"]
[instance.keepalived]
interface = "{interface}"
vrid = {vrid}
priority = {priority}
version = 3
advert_interval = {advert_interval}
source = "{source}"
peers = {json.dumps(peers)}
{more}
"""


def made_at(fifo: Path) -> int:
    """0: it is not there."""
    try:
        return fifo.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


def is_made_anew(fifo: Path, made: int) -> bool:
    return made_at(fifo) not in (0, made)


def has_ended(orphan: int) -> bool:
    try:
        return os.waitpid(orphan, os.WNOHANG)[0] == orphan
    except ChildProcessError:  # reaped already
        return True


def append(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


@pytest.fixture
def reaper() -> Iterator[None]:
    """Orphans are ours to reap: keepalived does not start while a zombie has the pid of its pid file."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def network(reaper: None) -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as network:
        BuiltInRouteServer(network, ROUTE_SERVERS[0].name).start()
        yield network


@pytest.fixture
def node(network: Network) -> Node:
    return Node(network, HAPROXY1)


def keepalived_says(node: Node, state: str) -> None:
    """Brings it about."""
    if state == "BACKUP":
        rival = Node(node.network, HAPROXY2, priority=OWNER, interval=node.interval)
        rival.keepalived.start()
        wait_for(lambda: rival.has_address, lambda: f"the rival to be master\n{rival.keepalived.log.read_text()}")
    if state == "FAULT":
        node.trigger.touch()


@pytest.mark.parametrize("state", ["MASTER", "BACKUP", "FAULT"])
def test_what_keepalived_said_is_known_again_after_our_restart(network: Network, state: str) -> None:
    # A pause of this machine is no silence of the rival.
    node = Node(network, HAPROXY1, interval=1 if state == "BACKUP" else ADVERT_INTERVAL)
    keepalived_says(node, state)
    node.start()
    node.becomes(state.lower(), because=f"keepalived says {state}")
    wait_for(partial(node.remembers, state), lambda: f"{state} to be remembered\n{node.logs()}")
    node.floatip.kill()
    node.floatip.start()
    took = node.becomes(state.lower(), because=f"keepalived says {state}")
    print(f"{state} known {took:.2f} s after the new start")
    assert {role.value for role in node.roles()} == {state.lower()}, "something else was believed before"


@pytest.mark.parametrize("state", ["BACKUP", "FAULT"])
def test_what_keepalived_said_while_we_were_away_is_heard_afterwards(node: Node, state: str) -> None:
    node.start()
    node.becomes("master")
    node.floatip.kill()
    gone = time.monotonic()
    keepalived_says(node, state)
    wait_for(lambda: f" {state} ".encode() in node.unheard(), lambda: f"{state}, not {node.unheard()!r}")
    node.keepalived.pause()  # it says no more
    time.sleep(max(0.0, gone + 2 * MASTER_DOWN - time.monotonic()))
    node.floatip.start()
    node.becomes(state.lower(), because=f"keepalived says {state}")
    assert "master" not in [role.value for role in node.roles()]


def test_master_since_we_were_away_is_heard_afterwards(node: Node) -> None:
    node.trigger.touch()
    node.start()
    node.becomes("fault")
    node.floatip.kill()
    node.trigger.unlink()
    wait_for(lambda: b" MASTER " in node.unheard(), lambda: f"MASTER, not {node.unheard()!r}")
    node.floatip.start()
    node.becomes("master", because="keepalived says MASTER")


@pytest.mark.parametrize("victims", ["child", "parent", "both"])
def test_a_killed_keepalived_is_noticed_at_once_and_believed_again_when_it_is_back(node: Node, victims: str) -> None:
    node.start()
    node.becomes("master")
    parent, child = node.keepalived.pids
    at = time.monotonic()
    for pid in {"child": [child], "parent": [parent], "both": [parent, child]}[victims]:
        os.kill(pid, signal.SIGKILL)
    gone, cleaned = "keepalived does not run", "keepalived does not have the addresses"
    last = "keepalived says STOP", cleaned

    def since() -> list[Role]:
        """Not what was before: floatip may have been there before keepalived."""
        return [role for role in node.roles() if role.at > at]

    wait_for(lambda: any(role.reason.startswith(gone) for role in since()), lambda: f"{gone}: {node.roles()}")
    left = since()[0]
    # The kernel ends the child of a killed parent by SIGTERM: it may have time for a last word, or to clean up. A child
    # that was killed has none, but the parent starts another at once, which cleans up.
    assert left.value == "backup"
    assert left.reason.startswith(gone) or left.reason in (last if victims != "child" else (cleaned,)), left
    print(f"{victims}: noticed {(left.at - at) * 1000:.1f} ms after the SIGKILL, {left.reason}")
    if victims != "child":  # the parent starts another
        node.keepalived.wait()
        wait_for(lambda: has_ended(child), lambda: "the orphan to end")
        node.keepalived.start()
    took = node.becomes("master", because="keepalived says MASTER")
    print(f"{victims}: master again {took:.2f} s later")
    # What it left in the kernel is no word of it: that counts only once nobody else was heard.
    back = next(role for role in since() if not role.reason.startswith((gone, *last)))
    assert back.value == "backup" or back.reason == "keepalived says MASTER", since()


def test_a_fault_that_a_successor_tells_before_we_know_of_the_death_is_heard(node: Node) -> None:
    node.start_after_floatip()
    node.becomes("master", because="keepalived says MASTER")
    node.floatip.pause()
    node.trigger.touch()
    os.kill(node.keepalived.pids[1], signal.SIGKILL)
    wait_for(lambda: b" FAULT " in node.unheard(), lambda: f"FAULT, not {node.unheard()!r}")
    node.floatip.resume()
    node.becomes("fault", because="keepalived says FAULT")


@pytest.mark.parametrize("fifo", ["made beforehand", "keepalived's own"])
def test_a_reload_of_keepalived_changes_nothing_and_what_follows_is_heard(node: Node, fifo: str) -> None:
    if fifo == "keepalived's own":
        node.keepalived.fifo.unlink()
    node.start_after_floatip()
    node.becomes("master", because="keepalived says MASTER")
    before = node.roles()
    for _ in range(3):
        made, reloads = made_at(node.keepalived.fifo), node.reloads()
        os.kill(node.keepalived.pid, signal.SIGHUP)
        wait_for(partial(node.has_reloaded_since, reloads), lambda: f"the reload\n{node.logs()}")
        if fifo == "keepalived's own":
            wait_for(partial(is_made_anew, node.keepalived.fifo, made), lambda: f"another FIFO\n{node.logs()}")
        else:
            assert made_at(node.keepalived.fifo) == made
    time.sleep(WRITER_PATIENCE + 0.5)  # then the last one is judged
    assert node.roles() == before
    assert node.said() == [("INSTANCE", "VI_1", "MASTER")]
    assert not [problem for problem in node.status()["problems"] if "FIFO" in problem["what"]]
    node.trigger.touch()
    node.becomes("fault", because="keepalived says FAULT")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_keepalived_that_is_back_at_once_is_not_taken_for_the_one_before(node: Node, number: signal.Signals) -> None:
    node.start()
    node.becomes("master")
    pids = node.keepalived.pids
    for pid in pids if number is signal.SIGKILL else pids[:1]:
        os.kill(pid, number)
    node.keepalived.wait()
    ended = time.monotonic()
    node.keepalived.start()
    node.becomes("master", because="keepalived says MASTER")
    values = [value for value, _ in groupby(role.value for role in node.roles())]
    assert values.count("master") == 2, values
    since = [value for value, _ in groupby(role.value for role in node.roles() if role.at > ended)]
    assert since in (["master"], ["backup", "master"]), node.roles()


def test_a_sync_group_speaks_for_its_members(network: Network) -> None:
    second = instance_conf("VI_2", 52, 50, "eth0", unicast(HAPROXY1), SECOND)
    group = "vrrp_sync_group VG1 {\n group {\n VI_1\n VI_2\n }\n}"
    node = Node(network, HAPROXY1, more=f"{second}\n{group}")
    peers = [address_of(HAPROXY2)]
    member = instance_toml("VI_2", 52, 50, SECOND, address_of(HAPROXY1), peers, more='sync_group = "VG1"')
    append(node.floatip.config, 'sync_group = "VG1"\n' + member)
    node.start_after_floatip()
    for name in ("VI_1", "VI_2"):
        node.becomes("master", name, because="keepalived says MASTER")
    wait_for(lambda: ("GROUP", "VG1", "MASTER") in node.said(), lambda: f"the group's word: {node.said()}")
    node.trigger.touch()  # of VI_1 alone
    for name in ("VI_1", "VI_2"):
        node.becomes("fault", name, because="keepalived says FAULT")
    node.trigger.unlink()
    for name in ("VI_1", "VI_2"):
        node.becomes("master", name)
    print(*node.status()["keepalived"]["said"], sep="\n")


def test_of_several_instances_only_the_one_that_is_named_is_followed(network: Network) -> None:
    second = instance_conf("VI_2", 52, 50, "eth0", unicast(HAPROXY1), SECOND)
    node = Node(network, HAPROXY1, more=second)
    node.start_after_floatip()
    node.becomes("master", because="keepalived says MASTER")
    wait_for(lambda: ("INSTANCE", "VI_2", "MASTER") in node.said(), lambda: f"VI_2 to be heard: {node.said()}")
    node.trigger.touch()
    node.becomes("fault", because="keepalived says FAULT")
    states = {said["name"]: said["state"] for said in node.status()["keepalived"]["said"]}
    assert states == {"VI_1": "FAULT", "VI_2": "MASTER"}
    assert not [problem for problem in node.status()["problems"] if "VI_2" in problem["what"]]


def test_an_instance_that_keepalived_never_mentions_is_a_problem(node: Node) -> None:
    append(node.floatip.config, 'instance = "VI_9"\n')
    node.start()
    expected = "VI_1: keepalived speaks of VI_1 and never of VI_9"
    wait_for(
        lambda: any(problem["what"].startswith(expected) for problem in node.status()["problems"]),
        lambda: f"the problem: {node.status()['problems']}",
    )
    node.becomes("master", because="keepalived has the addresses")


def test_the_address_put_there_by_hand_makes_no_master_of_a_backup(network: Network) -> None:
    node = Node(network, HAPROXY1, interval=0.5)
    master_down = 2.5 * MASTER_DOWN
    keepalived_says(node, "BACKUP")
    node.start()
    node.becomes("backup", because="keepalived says BACKUP")
    node.ip("address", "add", str(FLOATING), "dev", "eth0")
    expected = "keepalived has the addresses, although it said BACKUP: listening"
    node.becomes("backup", because=expected)
    time.sleep(1.25 * master_down)  # for so long it would listen if it heard nobody
    assert {role.value for role in node.roles()} == {"backup"}
    (problem,) = [one for one in node.status()["problems"] if "VI_1" in one["what"]]
    assert problem["what"].startswith(f"VI_1: {expected}"), problem
    node.ip("address", "del", str(FLOATING), "dev", "eth0")
    node.becomes("backup", because="keepalived says BACKUP")


def multicast(network: Network) -> Iterator[Node]:
    """Two keepalived on a link of their own: the lab's hosts share none."""
    with network.inside(HAPROXY1.name):
        path = network.path_of(HAPROXY2.name)
        subprocess.run(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", path], check=True)
    for number, host in enumerate((HAPROXY1, HAPROXY2), 1):
        node = Node(network, host, priority=150 if host is HAPROXY1 else 50, interface="eth1", peers=" ")
        node.ip("address", "add", f"198.51.100.{number}/24", "dev", "eth1")
        node.ip("link", "set", "eth1", "up")
        config = Path(node.floatip.config)
        text = config.read_text().replace('"eth0"', '"eth1"').replace(address_of(host), f"198.51.100.{number}")
        config.write_text(text.replace(json.dumps([address_of(other(host))]), "[]"))
        yield node


def test_multicast_adverts_are_heard_when_keepalived_hangs_and_when_it_is_gone(network: Network) -> None:
    node, rival = multicast(network)
    node.start()
    node.becomes("master")
    rival.keepalived.start()
    node.keepalived.pause()
    took = node.becomes("backup", because="contested: keepalived says MASTER, and 198.51.100.2 sends adverts too")
    print(f"contested {took:.2f} s after the SIGSTOP")
    node.keepalived.kill()
    node.floatip.kill()
    node.floatip.start()
    # Nothing but floatip listens to the group there now.
    wait_for(lambda: bool(node.status()["instances"]), lambda: "the status")
    wait_for(
        lambda: node.status()["instances"][0]["master"] == "198.51.100.2",
        lambda: f"the rival to be heard: {node.status()['instances']}",
    )


@pytest.fixture
def notified(network: Network) -> Node:
    """keepalived runs `floatip notify`, and writes to no FIFO that floatip knows."""
    run = network.directory / HAPROXY1.name / "floatip" / "run"
    command = f"/usr/bin/env RUNTIME_DIRECTORY={run} {sys.executable} -m floatip notify"
    lines = f'notify "{command}"\n  notify_stop "{command} Stop"'
    clock = network.directory / "clock"
    os.mkfifo(clock)
    more = f"global_defs {{\n vrrp_notify_fifo {clock} root\n}}"
    # Its word must come before the kernel is believed, which depends on the interval.
    return Node(network, HAPROXY1, interval=0.5, told=lines, more=more)


def test_keepaliveds_notify_lines_do_as_well_as_the_fifo(notified: Node) -> None:
    node = notified
    clock = os.open(node.network.directory / "clock", os.O_RDONLY | os.O_NONBLOCK)

    def line_at(word: bytes) -> float:
        """When keepalived wrote of it, for comparison."""
        said = b""
        while word not in said:
            assert select.select([clock], [], [], TIMEOUT)[0], (
                f"timed out after {TIMEOUT:g} s waiting for {word!r}: {said!r}"
            )
            said += os.read(clock, 4096)
        return time.monotonic()

    node.start_after_floatip()
    line_at(b"MASTER")
    node.becomes("master", because="keepalived says MASTER")
    for change, state in ((node.trigger.touch, "FAULT"), (node.trigger.unlink, "MASTER")):
        change()
        at = line_at(state.encode())
        node.becomes(state.lower(), because=f"keepalived says {state}")
        print(f"{state} known {(node.roles()[-1].at - at) * 1000:.0f} ms after keepalived's line about it")
    at = time.monotonic()
    node.keepalived.stop()
    node.becomes("backup")
    stopped = next(role for role in node.roles() if role.at > at)
    node.keepalived.wait()
    print(f"stopped: {(stopped.at - at) * 1000:.0f} ms after the SIGTERM, {stopped.reason}")
    os.close(clock)
    assert stopped.reason.startswith("keepalived ")
    assert "SECURITY" not in node.keepalived.log.read_text()
    assert {role.reason for role in node.roles() if role.value == "master"} == {"keepalived says MASTER"}


def test_a_keepalived_whose_floatip_is_away_stops_in_time_nevertheless(notified: Node) -> None:
    node = notified
    node.start_after_floatip()
    node.becomes("master", because="keepalived says MASTER")
    node.floatip.kill()
    began = time.monotonic()
    node.keepalived.stop()
    node.keepalived.wait()
    print(f"keepalived ended {time.monotonic() - began:.2f} s after the SIGTERM, with nobody to notify")
    assert time.monotonic() - began < 5
