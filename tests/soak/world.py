"""A pair of floatip nodes, what they serve, and an observer, for hours of faults.

`all`: the guide's network with its route servers. `master`: both nodes and the observer share one layer 2, there is no
BGP, and the address is where the master is.
"""

import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from floatip.host.ask import ControlError
from floatip.lab.namespaces import Closes, find_program
from floatip.lab.network import FLOATING, GATEWAY, LINK_LOCAL, NODES, OBSERVER, ROUTE_SERVERS, ROUTER, LabHost, Network
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from floatip.lab.programs.floatip import FloatipDaemon, ObserverProgram
from floatip.lab.programs.program import Program
from floatip.lab.programs.services import PlainService
from floatip.lab.record import Record, RunOptions
from floatip.lab.routes import RouteWatch
from floatip.lab.run import DIRECTORY
from floatip.lab.scheduling import DelayWatch

OPTIONS = RunOptions(probe_interval=0.02)
CALM_TIMEOUT = 60.0
SAMPLES = 10
CHECK_INTERVAL = 0.5
"""Seconds; that of the checks that are run."""


class SharedLayer2(Network):
    """A bridge in place of the router; a port has the name of its host."""

    def _build(self) -> None:
        self._ip(ROUTER, ["link add bridge type bridge", "link set bridge up"])
        for host in (*NODES, OBSERVER):
            peer = f"name eth0 netns {self.path_of(host.name)}"
            port = [f"link add {host.name} type veth peer {peer}", f"link set {host.name} master bridge up"]
            self._ip(ROUTER, port)
            self._ip(host.name, ["link set lo up", "link set eth0 up"])
            with self.inside(host.name):
                add_addresses(host)


def add_addresses(host: LabHost) -> None:
    """As its network configuration does at boot, and when the link returns."""
    for address in (f"{host.ipv6}/128", str(host.ipv4)):
        add = ["ip", "address", "replace", address, "dev", "eth0", *(["nodad"] if ":" in address else [])]
        subprocess.run(add, check=True)


def add_gateways() -> None:
    for family, gateway in (("-4", GATEWAY), ("-6", LINK_LOCAL)):
        subprocess.run(["ip", family, "route", "replace", "default", "via", str(gateway), "dev", "eth0"], check=True)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a daemon takes of its machine."""

    rss: float
    """MB."""
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(status["VmRSS"].split()[0]) / 1024, descriptors, int(status["Threads"]))


class World(Closes):
    def __init__(self, placement: str) -> None:
        self.placement = placement
        self._exits = ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._exits.close()

    def _build(self) -> None:
        self.directory = DIRECTORY
        self.directory.mkdir()
        self._exits.callback(rmtree, self.directory)
        self.has_bgp = self.placement == "all"
        self.network: Network = self._exits.enter_context(
            Network(self.directory) if self.has_bgp else SharedLayer2(self.directory)
        )
        self.record = Record(OPTIONS, routes={ROUTER: []})
        self.servers: dict[str, Program] = {}
        routing: list[Program] = []
        if self.has_bgp:
            self.servers = {host.name: BuiltInRouteServer(self.network, host.name) for host in ROUTE_SERVERS}
            routing = [BuiltInFabric(self.network), *self.servers.values()]
            watch = self._exits.enter_context(RouteWatch(self.network, ROUTER, str(FLOATING.network)))
            self.record.routes[ROUTER] = watch.changes
        self.services = {node.name: PlainService(self.network, node.name) for node in NODES}
        self.toml = {node.name: self._toml(node) for node in NODES}
        self.nodes = {name: FloatipDaemon(self.network, name, text) for name, text in self.toml.items()}
        self.observer = ObserverProgram(self.network, OBSERVER.name, str(FLOATING.ip), OPTIONS.probe_interval)
        self._judged = [*self.nodes.values(), *routing]
        for program in (*routing, *self.services.values()):
            program.start()
        for name in self.servers:
            self.wait_for(lambda name=name: self.listens(name), f"{name} to listen")  # type: ignore[misc]
        for node in self.nodes.values():
            node.start()
        self._exits.callback(DelayWatch(self._pids, self.record.delays).close)
        self.observer.start()

    def _pids(self) -> list[int]:
        return [program.pid for program in self._judged if program.was_started]

    def _toml(self, node: LabHost) -> str:
        (other,) = (each for each in NODES if each is not node)
        assert node.ipv4
        assert other.ipv4
        slow = self.slow_script(node.name)
        slow.write_text(f"#!/bin/sh\ntest ! -e {slow}.hang || exec sleep 60\n")
        slow.chmod(0o755)
        return f"""\
{"[linode]" if self.has_bgp else ""}
{"dcid = 6" if self.has_bgp else ""}

[[check]]
name = "trigger"
file = "{self.trigger(node.name)}"

[[check]]
name = "service"
tcp = "127.0.0.1:80"
interval = {CHECK_INTERVAL}
timeout = 2

[[check]]
name = "script"
script = "{slow}"
interval = {CHECK_INTERVAL}
timeout = 2

[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
checks = ["trigger", "service", "script"]
placement = "{self.placement}"
[instance.vrrp]
preempt = false
interface = "eth0"
vrid = 51
priority = 50
version = 2
advert_interval = 1
source = "{node.ipv4.ip}"
peers = ["{other.ipv4.ip}"]
"""

    def trigger(self, node: str) -> Path:
        return self.directory / f"{node}.trigger"

    def slow_script(self, node: str) -> Path:
        return self.directory / f"{node}.script"

    # What is seen

    def status(self, node: str) -> dict[str, Any]:
        """Empty: the daemon does not answer."""
        with suppress(OSError, ControlError):
            return self.nodes[node].status()
        return {}

    def roles(self) -> dict[str, str]:
        """Empty: unknown."""
        told = {name: self.status(name).get("instances") for name in self.nodes}
        return {name: instances[0]["role"]["value"] if instances else "" for name, instances in told.items()}

    @property
    def master(self) -> str:
        return next(name for name, role in self.roles().items() if role == "master")

    def is_calm(self) -> bool:
        """One master and one backup, both whole, with all sessions."""
        if sorted(self.roles().values()) != ["backup", "master"]:
            return False
        sessions = [each for name in self.nodes for each in self.status(name)["sessions"]]
        return all(each["state"] == "established" for each in sessions)

    def listens(self, host: str) -> bool:
        """Whether the route server accepts BGP connections now."""
        with self.network.inside(host), open("/proc/thread-self/net/tcp6") as table:
            return any(line.split()[1].endswith(":00B3") and line.split()[3] == "0A" for line in list(table)[1:])

    def wait_for(self, true: Callable[[], bool], what: str, timeout: float = CALM_TIMEOUT) -> float:
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"timed out after {timeout:g} s waiting for {what}")
            time.sleep(0.05)
        return time.monotonic()

    def footprints(self) -> list[dict[str, Footprint]]:
        """Some, as a check that runs just now has descriptors of its own."""
        found = []
        for _ in range(SAMPLES):
            found.append({name: Footprint.of(daemon.pid) for name, daemon in self.nodes.items()})
            time.sleep(CHECK_INTERVAL / 5)
        return found

    # What is done, beside the faults of the lab

    def run(self, host: str, *command: str, check: bool = True) -> None:
        with self.network.inside(host):
            subprocess.run(command, check=check, capture_output=True)

    def drop(self, rules: Iterable[tuple[str, str]]) -> None:
        """Packets that come from a host and match vanish; no rules: nothing vanishes any more."""
        chains = "".join(
            f'chain {host} {{ type filter hook ingress device "{host}" priority 1; {match} drop; }}\n'
            for host, match in rules
        )
        ruleset = f"table netdev soak\ndelete table netdev soak\ntable netdev soak {{\n{chains}}}\n"
        with self.network.inside(ROUTER):
            subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=ruleset, text=True, check=True)

    def ask_garbage(self, node: str, garbage: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.settimeout(5)
            client.connect(str(self.nodes[node].socket))
            client.sendall(garbage)
            client.recv(4096)
