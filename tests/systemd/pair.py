"""A network of the lab with real hosts in it: haproxy1, haproxy2 and the observer haproxy3; and what the observer saw.

The route servers, the fabric and the probes are the lab's own (`floatip.lab`), so figures compare with its scenes'.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from floatip.lab.layer2 import NeighbourWatch, SharedLayer2
from floatip.lab.network import FLOATING, NODES, OBSERVER, ROUTE_SERVERS, ROUTER, Network
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from floatip.lab.programs.floatip import ObserverProgram
from floatip.lab.programs.program import Program
from floatip.lab.record import NEXT_HOPS, Record
from floatip.lab.routes import RouteWatch
from floatip.lab.scheduling import DelayWatch
from tests.systemd.machines import Machine, Rack, boot, wait_for

PROBE_INTERVAL = 0.005
UNITS = ("keepalived.service", "floatip.service")
ADDRESS = str(FLOATING.ip)


class Pair:
    """All three hosts have booted when it is made."""

    def __init__(self, rack: Rack, exits: ExitStack, network: type[Network] = Network) -> None:
        self._rack = rack
        self.directory = rack.directory
        self.network = exits.enter_context(network(rack.directory))
        self._is_vlan = network is SharedLayer2
        self._routing: list[Program] = []
        prefix = str(FLOATING.network)
        watch = NeighbourWatch(self.network, prefix) if self._is_vlan else RouteWatch(self.network, ROUTER, prefix)
        self._watch = exits.enter_context(watch)
        if not self._is_vlan:
            servers = [BuiltInRouteServer(self.network, host.name) for host in ROUTE_SERVERS]
            self._routing = [BuiltInFabric(self.network), *servers]
        for daemon in self._routing:
            daemon.start()
            rack.adopt(daemon.pid)
        self.haproxy1, self.haproxy2, self.haproxy3 = (
            Machine(rack, self.network, host.name) for host in (*NODES, OBSERVER)
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
        """Of those on whom it depends how fast the traffic moves, and an answer comes."""
        daemons = [daemon.pid for daemon in self._routing]
        services = [thread for node in self.nodes for thread in node.threads_of("haproxy.service")]
        return daemons + services + [pid for node in self.nodes for unit in UNITS for pid in node.pids_of(unit)]

    @property
    def led_to(self) -> str:
        """The node that the network leads to; empty: none."""
        if self._is_vlan:
            self.haproxy3.succeeds(f"ping -c 1 -W 1 {ADDRESS}")  # only who asks has a neighbour entry
        return NEXT_HOPS.get(str(self._watch.next_hop), "")

    @contextmanager
    def observed(self) -> Iterator["Observation"]:
        observer = ObserverProgram(self.network, OBSERVER.name, ADDRESS, interval=PROBE_INTERVAL)
        observer.log.unlink(missing_ok=True)
        observer.start()
        self._rack.adopt(observer.pid)
        observation = Observation(observer)
        delays = DelayWatch(self._pids, observation.record.delays)
        try:
            wait_for(lambda: bool(observation.latest_answers(0.5)), "the observer's first answer", 60)
            yield observation
            observer.stop()
            observer.wait(60)
        finally:
            delays.close()
            if observer.running:
                observer.kill()
        observation.read()
        observation.record.routes[ROUTER] = list(self._watch.changes)


class Observation:
    """The record grows while the observer tells; complete once `Pair.observed` has been left."""

    def __init__(self, observer: ObserverProgram) -> None:
        self.record = Record()
        self._observer = observer

    def read(self) -> None:
        self.record.probes += self._observer.new_results()

    def latest_answers(self, seconds: float) -> list[str]:
        """Who answered in the last seconds; lost probes are known after 0.9 s, and then nothing counts as answered."""
        self.read()
        since = time.monotonic() - seconds
        recent = [probe for probe in self.record.probes if probe.at > since]
        return [probe.who for probe in recent if probe.who] if all(probe.ok for probe in recent) else []
