"""The guide's network with real hosts in it: haproxy1, haproxy2 and the observer haproxy3; and what the observer saw.

The route servers, the fabric and the probes are the lab's own (`floatip.lab`), so figures compare with its scenes'.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from floatip.lab import net
from floatip.lab.cast import BuiltInFabric, BuiltInRouteServer, Observer
from floatip.lab.findings import connections_torn
from floatip.lab.net import FLOATING, ROUTER, Move, Network, RouteWatch
from floatip.lab.pulse import Pulse
from floatip.lab.stage import NEXT_HOPS, Options, Record
from floatip.lab.summary import Probe, Summary
from tests.systemd.machines import Machine, Rack, boot, wait_for

PROBE_INTERVAL = 0.005
UNITS = ("keepalived.service", "floatip.service")
ADDRESS = str(FLOATING.ip)


class Pair:
    """All three hosts have booted when it is made."""

    def __init__(self, rack: Rack, exits: ExitStack) -> None:
        self._rack = rack
        self.directory = rack.directory
        self.network = exits.enter_context(Network(rack.directory))
        self._fabric = BuiltInFabric(self.network)
        self._servers = [BuiltInRouteServer(self.network, host.name) for host in net.ROUTE_SERVERS]
        for daemon in (self._fabric, *self._servers):
            daemon.start()
            rack.adopt(daemon.pid)
        self._watch = exits.enter_context(RouteWatch(self.network, ROUTER, str(FLOATING.network)))
        self.haproxy1, self.haproxy2, self.haproxy3 = (
            Machine(rack, self.network, host.name) for host in (*net.NODES, net.OBSERVER)
        )
        boot([*self.nodes, self.haproxy3])
        self.stack: object = None
        """What is installed on the nodes."""

    @property
    def nodes(self) -> tuple[Machine, Machine]:
        return self.haproxy1, self.haproxy2

    def other(self, node: Machine) -> Machine:
        return self.haproxy2 if node is self.haproxy1 else self.haproxy1

    def masters(self) -> list[Machine]:
        """The nodes on which keepalived has put the address."""
        return [node for node in self.nodes if f" {FLOATING} " in node.run("ip -4 address show eth0", quiet=True)]

    def _pids(self) -> list[int]:
        """Of those on whom it depends how fast the traffic moves."""
        daemons = [daemon.pid for daemon in (self._fabric, *self._servers)]
        return daemons + [pid for node in self.nodes for unit in UNITS for pid in node.pids_of(unit)]

    @property
    def led_to(self) -> str:
        """The node that the fabric leads to; empty: none."""
        return NEXT_HOPS.get(str(self._watch.next_hop), "")

    @contextmanager
    def observed(self) -> Iterator["Observation"]:
        observer = Observer(self.network, net.OBSERVER.name, ADDRESS, interval=PROBE_INTERVAL)
        observer.log.unlink(missing_ok=True)
        observer.start()
        self._rack.adopt(observer.pid)
        observation = Observation(observer.log)
        pulse = Pulse(self._pids, observation.record.hold_ups)
        try:
            wait_for(lambda: bool(observation.latest_answers(0.5)), "the observer's first answer", 60)
            yield observation
            observer.stop()
            observer.wait(60)
        finally:
            pulse.close()
            if observer.running:
                observer.kill()
        observation.read()
        observation.record.moves[ROUTER] = list(self._watch.moves)


@dataclass
class Observation:
    """What the observer has told; complete once `Pair.observed` has been left."""

    log: Path
    record: Record = field(default_factory=lambda: Record(Options()))
    _offset: int = 0

    def read(self) -> None:
        with self.log.open() as log:
            log.seek(self._offset)
            for line in iter(log.readline, ""):
                if not line.endswith("\n"):
                    break
                self._offset += len(line)
                news = json.loads(line)
                if news["event"] == "probe":
                    self.record.probes.append(Probe.from_json(news))

    def latest_answers(self, seconds: float) -> list[str]:
        """Who answered in the last seconds; lost probes are known after 0.9 s, and then nothing counts as answered."""
        self.read()
        since = time.monotonic() - seconds
        recent = [probe for probe in self.record.probes if probe.at > since]
        return [probe.who for probe in recent if probe.who] if all(probe.ok for probe in recent) else []

    @property
    def moves(self) -> list[Move]:
        """Of the fabric."""
        return self.record.moves[ROUTER]

    @cached_property
    def torn(self) -> set[Probe]:
        return connections_torn(self.record)

    @cached_property
    def seen(self) -> Summary:
        return Summary.from_probes(probe for probe in self.record.probes if probe not in self.torn)
