"""All that is known of one run, on one clock.

All processes of the lab share the machine's monotonic clock, so what the observer saw, what the nodes decided and
where the route servers and the fabric pointed can be laid over each other to the millisecond.
"""

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from floatip.lab.connections import Connections
from floatip.lab.holders import Held
from floatip.lab.network import ROUTER, THREE_NODES
from floatip.lab.routes import RouteChange
from floatip.lab.scheduling import Delay, delayed
from floatip.observing.summary import KINDS, RESET, ProbeResult, Summary

PRIORITY = 50  # both nodes, as in the guide; the greater address, haproxy2's, wins a tie
NEXT_HOPS = {str(host.ipv6): host.name for host in THREE_NODES}
SCENE = "scene"
NODE_GONE_AFTER = 0.35
"""Seconds until a silent node is gone for the others: three intervals and a margin, which follows the jitter."""
OPEN_FOR_AT_MOST = 0.05
"""Seconds that one request may take while the host schedules everything."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    bird: bool = False
    hold_time: int = 9
    advert_interval: float = 1.0
    probe_interval: float = 0.005
    check: str = ""
    """A line of configuration instead of the trigger file."""
    election: Literal["nodes", "vrrp", "keepalived"] = "vrrp"
    """Who elects: the nodes over the link, floatip by VRRP, or keepalived, which floatip follows."""
    three: bool = False
    """Nodes; otherwise two."""
    shared_layer2: bool = False
    """Without route servers: the master alone holds the address (placement `master`)."""
    etcd: bool = False
    """Its three members, which decide who has what."""
    exclusive: bool = False
    """One holder at most, which etcd has confirmed (placement `master`)."""
    members: bool = False
    """The nodes have files of a few lines: they register themselves, and the rest is at etcd."""
    last_joins: bool = False
    """The last of the nodes is not started with the others."""
    instances: int = 1
    """Each with one address."""
    connections: int = 0
    """Long ones to the address, and as many short ones a second (500 at most), where a scene has them."""
    proxied: bool = True
    """HAProxy, if it is installed, is between them and what answers them."""
    second_chance: Literal["off", "on"] = "off"
    """Whether open connections survive a planned move."""
    answers: Literal["tunnel", "auto"] = "tunnel"
    """How answers of these connections reach the clients."""
    delay: float = 0.0
    """Seconds from the observer to the router, and back."""
    strict: bool = False
    """The router checks the reverse path: a node without the route cannot answer for the address."""

    @property
    def vrrp_version(self) -> int:
        """Version 2 knows whole seconds only."""
        return 2 if self.advert_interval % 1 == 0 else 3

    @property
    def skew_time(self) -> float:
        """Seconds; RFC 9568 section 6.1, version 2 below it: RFC 3768."""
        unit = self.advert_interval if self.vrrp_version == 3 else 1.0
        return (256 - PRIORITY) / 256 * unit

    @property
    def master_down_interval(self) -> float:
        """Seconds."""
        return 3 * self.advert_interval + self.skew_time

    @property
    def detection_time(self) -> float:
        """Seconds after which a silent master is replaced, at most."""
        return NODE_GONE_AFTER if self.election == "nodes" else self.master_down_interval


@dataclass(frozen=True, slots=True)
class RunEvent:
    """What a node decided, or what the scene did (`host` is then SCENE)."""

    at: float
    host: str
    what: str
    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command of floatip said, such as `handover`."""

    command: str
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Foresight:
    """What each daemon that was asked foretold of the instance, as `floatip explain --json` prints it."""

    at: float
    question: str
    answers: dict[str, dict[str, Any]]
    down: str = ""
    """The node that goes down, which carries nothing then, whatever it believes."""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """Packets of open connections so far."""

    forwarded: int
    """To the node that has the connections."""
    answers: int
    """Through the tunnel to the clients."""


@dataclass
class Record:
    options: RunOptions = RunOptions()
    started_at: float = field(default_factory=time.monotonic)
    fault_at: float = 0.0
    """When the first fault began."""
    events: list[RunEvent] = field(default_factory=list)
    probes: list[ProbeResult] = field(default_factory=list)
    routes: dict[str, list[RouteChange]] = field(default_factory=dict)
    """By host: the four route servers and the router. On a shared layer 2 the observer is its own router."""
    held: dict[str, list[Held]] = field(default_factory=dict)
    """By node: whether its kernel had the floating IP; only where that is exclusive."""
    delays: list[Delay] = field(default_factory=list)
    foresights: list[Foresight] = field(default_factory=list)
    """What the daemons were asked, in order, and what they foretold."""
    connections: Connections = field(default_factory=Connections)
    """What became of them; where a scene has them, complete after the run."""
    passed_on: list[PassedOn] = field(default_factory=list)
    """At the new carrier: some seconds after the move, and at the end."""
    start_delay: float = 0.0
    """Seconds that the first daemon waited for a CPU at its start, where short waits add up."""

    def delayed(self, since: float, until: float) -> float:
        """Seconds for which the host did not schedule nodes, route servers or fabric."""
        return delayed(self.delays, since, until)

    @cached_property
    def torn(self) -> set[ProbeResult]:
        """Requests that were reset because they were open when the traffic moved: the other node does not know them.

        They are told apart from losses, because no address that moves can spare them. Complete after the run.
        """
        moves = [change.at for change in self.routes[ROUTER]]
        resets = (probe for probe in self.probes if probe.error == RESET)
        return {probe for probe in resets if any(self._was_open(probe, at) for at in moves)}

    def _was_open(self, probe: ProbeResult, at: float) -> bool:
        """After a pause the observer sends what it missed at once, and one waits for another."""
        open_for = max(OPEN_FOR_AT_MOST, probe.rtt or 0.0)
        return probe.at <= at <= probe.at + open_for + probe.late + self.delayed(probe.at, at)

    @cached_property
    def seen(self) -> Summary:
        """What the observer saw, without `torn`. Complete after the run."""
        return Summary.from_probes(probe for probe in self.probes if probe not in self.torn)

    @property
    def longest_outage(self) -> float:
        """Seconds."""
        return max((window.ms / 1000 for kind in KINDS for window in self.seen.windows(kind)), default=0.0)

    def of(self, host: str, what: str) -> list[RunEvent]:
        return [event for event in self.events if (event.host, event.what) == (host, what)]

    @property
    def nodes(self) -> list[str]:
        """Those that have said something, in order."""
        hosts = {event.host for event in self.events}
        return [node.name for node in THREE_NODES if node.name in hosts]

    def latest(self, host: str, what: str) -> str:
        """Its value now; empty: nothing known yet."""
        found = self.of(host, what)
        return found[-1].value if found else ""

    def carries(self, host: str) -> set[str]:
        """The instances of which it is master now."""
        return {
            name
            for name, role in {event.name: event.value for event in self.of(host, "role")}.items()
            if role == "master"
        }

    def first(self, host: str, what: str, value: str, after: float = 0.0) -> RunEvent | None:
        found = (event for event in self.of(host, what) if event.value == value and event.at >= after)
        return min(found, key=lambda event: event.at, default=None)

    @property
    def masters(self) -> list[str]:
        return [node for node in self.nodes if self.latest(node, "role") == "master"]

    @property
    def started_first_at(self) -> float:
        """When the first daemon was started."""
        return min(event.at for event in self.events if event.host == SCENE)

    @property
    def start_to_first_route(self) -> float:
        """Seconds from then until a route server had its route; inf: never."""
        routes = [change.at for changes in self.routes.values() for change in changes if change.next_hop is not None]
        return min(routes, default=math.inf) - self.started_first_at

    def pointed_at(self, host: str, at: float) -> str:
        """The node that the host's route led to at that instant; empty: none."""
        hops = [change.next_hop for change in self.routes[host] if change.at <= at]
        return NEXT_HOPS.get(str(hops[-1]), "") if hops else ""
