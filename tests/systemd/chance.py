"""Nodes with the second chance before a real HAProxy, and the connections that are open meanwhile."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from floatip.lab.connections import Connections, ends
from floatip.lab.network import OBSERVER, Hosts
from floatip.lab.programs.connections import BEHIND, PORT, ConnectionsProgram
from floatip.lab.programs.program import Program
from floatip.lab.verdicts import nothing_lost
from floatip.observing.summary import Summary
from floatip.second_chance.rules import TABLE
from floatip.second_chance.tunnel import DEVICE
from tests.systemd import guide
from tests.systemd.faults import starved
from tests.systemd.machines import Machine, on_each, wait_for
from tests.systemd.nodes import FLOATIP_TOML, Nodes, nodes_toml, share_key
from tests.systemd.pair import ADDRESS, Observation, Pair
from tests.systemd.stacks import SETTLE_TIMEOUT, install_package, status

LIMIT = 120.0
LONG, TLS, IDLE = 60, 20, 40
ENDS_WITHIN = 30.0
PEM = "/etc/haproxy/floatip.test.pem"

ECHO_SERVICE = f"""\
[Unit]
Before=haproxy.service

[Service]
Environment=PYTHONPATH=/usr/lib/floatip PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m floatip.lab.echo_process %H 127.0.0.1 {BEHIND} 2000

[Install]
WantedBy=multi-user.target
"""


def haproxy_cfg(name: str) -> str:
    page = f'http-request return status 200 content-type text/plain string "{name}"'
    return f"""
global
  maxconn 4000
  stats socket /run/haproxy/admin.sock mode 660 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend web
  bind :::80 v4v6
  {page}
frontend tls
  bind :::443 v4v6 ssl crt {PEM}
  {page}
listen echo
  mode tcp
  bind :::{PORT} v4v6
  server echo 127.0.0.1:{BEHIND}
"""


class Chanced(Nodes):
    name = "floatip's nodes with the second chance"

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit

    def install(self, pair: Pair) -> None:
        install_package(pair)
        certificate = _certificate()
        for node in pair.nodes:
            node.write(PEM, certificate, 0o640)
            node.write("/etc/systemd/system/echo.service", ECHO_SERVICE)
        on_each(pair.nodes, guide.install_service)
        for node in pair.nodes:
            node.write("/etc/haproxy/haproxy.cfg", haproxy_cfg(node.name))
        self.configure(pair)
        services = "systemctl daemon-reload && systemctl enable echo floatip && systemctl restart echo haproxy floatip"
        on_each(pair.nodes, lambda node: node.run(services))

    def configure(self, pair: Pair) -> None:
        for node in pair.nodes:
            node.write(FLOATIP_TOML, f'{nodes_toml()}\n[second_chance]\nmode = "on"\nlimit = {self.limit:g}\n')
        share_key(pair)

    def prepare(self, pair: Pair, master: Machine) -> None:
        super().prepare(pair, master)
        for node in pair.nodes:
            wait_for(partial(is_usable, node), f"the tunnel of {node.name}", SETTLE_TIMEOUT)


def chance(node: Machine) -> Any:
    """What the status says of it; empty: no daemon answers."""
    return status(node).get("second_chance") or {}


def is_usable(node: Machine) -> bool:
    """Open connections of both would survive a planned move, and none goes on now."""
    told = chance(node)
    works = told and told["usable"] and told["nodes"] and all(each["works"] for each in told["nodes"])
    return bool(works) and not told["without"] and not told["streams"]


def kept_here(node: Machine) -> int:
    """Connections of it that go on by the other node."""
    return sum(each["connections"] for each in chance(node).get("streams", ()) if not each["forwards"])


def kept_there(node: Machine) -> int:
    """Connections of the other node that go on by this one."""
    return sum(each["connections"] for each in chance(node).get("streams", ()) if each["forwards"])


def left_in_kernel(pair: Pair, node: Machine) -> list[str]:
    """What the second chance has put there, and the address."""
    found = []
    with pair.network.inside(node.name):
        for command in ("ip -brief link", "ip rule", "ip -6 rule", "ip -4 -brief address", "nft list tables"):
            told = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
            found += [f"{command}: {line}" for line in told.splitlines() if _is_ours(line)]
    return found


def _is_ours(line: str) -> bool:
    return any(word in line for word in (DEVICE, TABLE, ADDRESS))


def _certificate() -> str:
    """Of a key of its own."""
    subject = ["-subj", "/CN=floatip.test", "-days", "2", "-nodes", "-keyout", "-", "-out", "-"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *subject]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class CallersProgram(Program):
    def __init__(self, network: Hosts, name: str) -> None:
        self.name = name
        super().__init__(network, OBSERVER.name)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.systemd.callers", ADDRESS, str(TLS), str(IDLE)]

    @property
    def is_ready(self) -> bool:
        assert self.running, self.log.read_text()
        return self.log.exists() and "ready\n" in self.log.read_text()

    def end(self) -> dict[str, Any]:
        """After `stop`."""
        assert self.wait(ENDS_WITHIN) == 0, self.log.read_text()
        told: dict[str, Any] = json.loads(self.log.read_text().splitlines()[-1])
        return told


@dataclass
class Load:
    """Connections to the address."""

    connections: ConnectionsProgram
    callers: CallersProgram
    found: Connections = field(default_factory=Connections)
    called: dict[str, Any] = field(default_factory=dict)
    ended_at: float = 0.0
    """When all had been closed by their clients."""

    def begin(self) -> None:
        for program in (self.connections, self.callers):
            program.log.unlink(missing_ok=True)
            program.start()
        wait_for(lambda: self.connections.is_ready and self.callers.is_ready, "the connections to open", 60)

    def end(self) -> None:
        """All are closed by their clients."""
        self.callers.stop()  # once: a process that is about to exit does not handle a signal any more
        self.found = self.connections.end()
        self.called = self.callers.end()
        self.ended_at = time.monotonic()

    def kill(self) -> None:
        for program in (self.connections, self.callers):
            if program.running:
                program.kill()

    def failures(self, of: str = "") -> list[str]:
        """Of all connections, or of those that one node had: what became of those that did not last."""
        found = []
        kinds = (("long", self.found.long), ("short", self.found.short), ("transfer", self.found.transfers))
        for kind, some in kinds:
            mine = [one for one in some if of in ("", one.who)]
            assert mine, f"no {kind} connection of {of or 'either node'}"
            found += [f"{count} of {len(mine)} {kind}: {end}" for end, count in ends(mine).items()]
        for kind, told in self.called.items():
            found += [f"{count} of {told['count']} {kind}: {end}" for end, count in told["ends"].items()]
        return found

    def report(self) -> str:
        return json.dumps(self.found.summary() | {"callers": self.called})


@contextmanager
def loaded(pair: Pair, name: str = "connections") -> Iterator[Load]:
    """Open; the test ends them, or they are killed. `name`: of the directory, where there are several."""
    load = Load(ConnectionsProgram(pair.network, LONG, name=name), CallersProgram(pair.network, f"{name}-of-haproxy"))
    try:
        load.begin()
        yield load
    finally:
        load.kill()


def none_failed(load: Load) -> None:
    print(load.report())
    assert load.failures() == []


def no_probe_lost(observation: Observation) -> None:
    record = observation.record
    served = Summary.from_probes(probe for probe in record.probes if not starved(record, probe))
    verdicts = nothing_lost(served)
    print([verdict.text for verdict in verdicts])
    assert all(verdict.holds for verdict in verdicts), [verdict.text for verdict in verdicts]
