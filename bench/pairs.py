"""A pair of VRRP nodes with many groups, by floatip and by keepalived, on the lab's network."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_interface
from pathlib import Path
from tempfile import TemporaryDirectory

from floatip.lab.namespaces import ENTERED, LabError
from floatip.lab.network import HAPROXY1, HAPROXY2, Network
from floatip.lab.programs.floatip import UNIT_PRIORITY, FloatipDaemon
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program

ONE, OTHER = HAPROXY1.name, HAPROXY2.name
PROGRAMS = ("floatip", "keepalived")
STARTED_WITHIN = 60.0
HIGH, LOW = 150, 50


def ipv4_of(host: str) -> str:
    found = HAPROXY1.ipv4 if host == ONE else HAPROXY2.ipv4
    assert found
    return str(found.ip)


def other_of(host: str) -> str:
    return OTHER if host == ONE else ONE


SENDERS = {ipv4_of(host): host for host in (ONE, OTHER)}


@dataclass(frozen=True, slots=True)
class Group:
    vrid: int
    preferred: str
    """The host with the higher priority."""
    addresses: tuple[str, ...]

    def priority(self, host: str) -> int:
        return HIGH if host == self.preferred else LOW


@dataclass(frozen=True, slots=True)
class Plan:
    """What both nodes of a pair are configured with."""

    groups: Sequence[Group]
    interval: float
    """Of the adverts, in seconds."""
    bgp: bool = False
    """With route servers, so both nodes hold the addresses (placement "all", floatip only)."""
    scripts: Sequence[str] = ()
    """Paths of checks, each of which every group tracks."""
    script_interval: float = 1.0

    @property
    def addresses(self) -> list[str]:
        return [str(ip_interface(address).ip) for group in self.groups for address in group.addresses]

    def master_down(self, priority: int = LOW) -> float:
        """Seconds; RFC 9568 section 6.1."""
        return 3 * self.interval + self.skew(priority)

    def skew(self, priority: int = LOW) -> float:
        return (256 - priority) / 256 * self.interval


def shared_groups(count: int, preferred: Callable[[int], str]) -> list[Group]:
    """Groups of one address each, with the vrids from 1 on."""
    return [Group(vrid, preferred(vrid), (f"192.168.200.{vrid}/32",)) for vrid in range(1, count + 1)]


def floatip_config(plan: Plan, host: str) -> str:
    header = "release_delay = 0\n" + ("[linode]\ndcid = 6\n" if plan.bgp else "")
    names = [f"chk_{number}" for number in range(len(plan.scripts))]
    checks = "".join(
        f'\n[[check]]\nname = "{name}"\nscript = "{path}"\ninterval = {plan.script_interval:g}\ntimeout = 10\n'
        for name, path in zip(names, plan.scripts, strict=True)
    )
    return (
        header
        + checks
        + "".join(
            f"""
[[instance]]
name = "VI_{group.vrid}"
checks = {json.dumps(names)}
addresses = [{", ".join(f'"{address}"' for address in group.addresses)}]
[instance.vrrp]
interface = "eth0"
vrid = {group.vrid}
priority = {group.priority(host)}
version = 3
advert_interval = {plan.interval:g}
source = "{ipv4_of(host)}"
peers = ["{ipv4_of(other_of(host))}"]
"""
            for group in plan.groups
        )
    )


def keepalived_config(plan: Plan, host: str) -> str:
    names = [f"chk_{number}" for number in range(len(plan.scripts))]
    checks = "".join(
        f'vrrp_script {name} {{\n  script "{path}"\n  interval {plan.script_interval:g}\n  timeout 10\n}}\n'
        for name, path in zip(names, plan.scripts, strict=True)
    )
    listed = "\n    ".join(names)
    tracked = f"track_script {{\n    {listed}\n  }}" if names else ""
    return (
        "global_defs {\n  vrrp_version 3\n  script_user root\n}\n"
        + checks
        + "".join(
            f"""
vrrp_instance VI_{group.vrid} {{
  state BACKUP
  interface eth0
  virtual_router_id {group.vrid}
  priority {group.priority(host)}
  advert_int {plan.interval:g}
  unicast_src_ip {ipv4_of(host)}
  unicast_peer {{
    {ipv4_of(other_of(host))}
  }}
  virtual_ipaddress {{
    {_of_family(group, ipv4=True)}
  }}
  virtual_ipaddress_excluded {{
    {_of_family(group, ipv4=False)}
  }}
  {tracked}
}}
"""
            for group in plan.groups
        )
    )


def _of_family(group: Group, *, ipv4: bool) -> str:
    return "\n    ".join(a for a in group.addresses if isinstance(ip_interface(a), IPv4Interface) is ipv4)


@contextmanager
def stage() -> Iterator[Network]:
    """The lab's hosts and nothing in them; its files are in memory where /run is our own."""
    parent = "/run" if ENTERED in os.environ else None
    with TemporaryDirectory(prefix="floatip-bench-", dir=parent) as directory, Network(Path(directory)) as network:
        yield network


class Pair:
    def __init__(self, network: Network, program: str, plan: Plan) -> None:
        self.program = program
        self.plan = plan
        self.nodes: dict[str, Program] = {
            host: FloatipDaemon(network, host, floatip_config(plan, host))
            if program == "floatip"
            else KeepalivedProgram(network, host, keepalived_config(plan, host))
            for host in (ONE, OTHER)
        }

    def start(self, host: str) -> None:
        """Returns when the daemon takes part in the election."""
        node = self.nodes[host]
        node.start()
        wait_for(lambda: self._takes_part(node), f"{self.program} on {host} to start", STARTED_WITHIN)
        for pid in self._pids(node):  # as floatip's unit does it; keepalived has the same place
            with suppress(PermissionError):
                os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(UNIT_PRIORITY))

    def _takes_part(self, node: Program) -> bool:
        if not node.running:
            raise LabError(f"{self.program} ended on {node.host}", f"its log: {node.log.read_text()[-2000:]}")
        if isinstance(node, FloatipDaemon):
            return node.socket.exists()
        assert isinstance(node, KeepalivedProgram)
        with suppress(OSError, ValueError):
            return bool(node.pids)
        return False

    def sender(self, host: str) -> int:
        """The process that sends the adverts."""
        node = self.nodes[host]
        return node.pids[1] if isinstance(node, KeepalivedProgram) else node.pid

    def senders(self) -> dict[str, int]:
        return {host: self.sender(host) for host, node in self.nodes.items() if node.running}

    def kill(self, host: str) -> None:
        """All its processes at once, so that no last word is said."""
        node = self.nodes[host]
        pids = node.pids if isinstance(node, KeepalivedProgram) else [node.pid]
        for pid in reversed(pids):
            os.kill(pid, 9)
        node.wait()

    def cpu(self) -> Mapping[str, float]:
        """Seconds on a CPU so far, by host."""
        return {host: sum(map(cpu_of, self._pids(node))) for host, node in self.nodes.items() if node.running}

    def rss(self) -> float:
        """MB, of all processes of the first node."""
        return sum(map(rss, self._pids(self.nodes[ONE])))

    def _pids(self, node: Program) -> list[int]:
        return node.pids if isinstance(node, KeepalivedProgram) else [node.pid]


def cpu_of(pid: int) -> float:
    """Seconds of all its threads, from nanoseconds (schedstat): clock ticks are too coarse."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def rss(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(true: Callable[[], bool], what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s in vain for {what}", "is the machine overloaded?")
        time.sleep(0.01)
