"""A scene on stage: the guide's network with its cast, and everything that happens there, with one clock.

All processes of the lab share the machine's monotonic clock, so what the observer saw, what the nodes decided and
where the route servers and the fabric pointed can be laid over each other to the millisecond.
"""

import json
import math
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from threading import Thread
from types import TracebackType
from typing import Self

from floatip.lab import net
from floatip.lab.cast import (
    BirdFabric,
    BirdRouteServer,
    BuiltInFabric,
    BuiltInRouteServer,
    Daemon,
    Floatip,
    HAProxy,
    Keepalived,
    Observer,
    PlainService,
)
from floatip.lab.net import FLOATING, LabError, Move, Network, RouteWatch
from floatip.lab.pulse import HoldUp, Pulse, held_up, run_delay
from floatip.lab.summary import Probe

SECOND_NODE_DELAY = 0.5
HEAD_START = 2.5
"""Seconds by which haproxy1 shall be ahead in the election: a machine that pauses must not make it a tie."""
READY_TIMEOUT = 60.0
TIMEOUT = 20.0
PRIORITY = 50  # both nodes, as in the guide; the greater address, haproxy2's, wins a tie
NEXT_HOPS = {str(host.ipv6): host.name for host in net.NODES}


@dataclass(frozen=True, slots=True)
class Options:
    bird: bool = False
    hold_time: int = 9
    advert_interval: float = 1.0
    probe_interval: float = 0.005
    check: str = ""
    """A line of configuration instead of the trigger file."""
    keepalived: bool = False
    """It elects, and floatip follows it."""

    @property
    def master_down_interval(self) -> float:
        """Seconds; RFC 9568 section 6.1, version 2 below it: RFC 3768."""
        unit = self.advert_interval if self.advert_interval < 1 else 1.0
        return 3 * self.advert_interval + (256 - PRIORITY) / 256 * unit


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a node decided, or that the scene did (`host` is then "scene")."""

    at: float
    host: str
    what: str
    name: str
    value: str
    reason: str


@dataclass(slots=True)
class Record:
    """All that is known of one play."""

    options: Options
    started_at: float = field(default_factory=time.monotonic)
    happenings: list[Happening] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    moves: dict[str, list[Move]] = field(default_factory=dict)
    """By host: the four route servers and the router."""
    hold_ups: list[HoldUp] = field(default_factory=list)
    waited_for_cpu: float = 0.0
    """Seconds that the first daemon waited in all at its start, which is work: there short waits add up."""

    def held_up(self, since: float, until: float) -> float:
        """Seconds for which the machine kept nodes, route servers and fabric from running."""
        return held_up(self.hold_ups, since, until)

    def first(self, host: str, what: str, value: str, after: float = 0.0) -> Happening | None:
        found = (h for h in self.happenings if (h.host, h.what, h.value) == (host, what, value) and h.at >= after)
        return min(found, key=lambda happening: happening.at, default=None)

    @property
    def started_first_at(self) -> float:
        """When the first daemon was started."""
        return min(h.at for h in self.happenings if h.host == "scene")

    @property
    def start_to_first_route(self) -> float:
        """Seconds from then until a route server had its route; inf: never."""
        routes = [move.at for moves in self.moves.values() for move in moves if move.next_hop is not None]
        return min(routes, default=math.inf) - self.started_first_at

    def pointed_at(self, host: str, at: float) -> str:
        """Which node the host's route led to at that instant; empty: none."""
        hops = [move.next_hop for move in self.moves[host] if move.at <= at]
        return NEXT_HOPS.get(str(hops[-1]), "") if hops else ""


def _ends(host: str) -> tuple[str, str]:
    """The addresses of this node and of the other."""
    me, other = net.NODES if host == net.NODES[0].name else reversed(net.NODES)
    assert me.ipv4 is not None
    assert other.ipv4 is not None
    return str(me.ipv4.ip), str(other.ipv4.ip)


class Stage:
    """Built on entering, gone on leaving. `told` is called with each happening, from another thread."""

    def __init__(self, options: Options, told: Callable[[Happening], None]) -> None:
        self.options = options
        self.record = Record(options)
        self._told = told
        self._over = False
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _build(self) -> None:
        # In memory, where /run is the lab's own: a slow disk must not hold up who writes a log.
        parent = "/run" if net.ENTERED in os.environ else None
        directory = Path(self._exits.enter_context(TemporaryDirectory(prefix="floatip-lab-", dir=parent)))
        self.network = self._exits.enter_context(Network(directory))
        self.triggers = {node.name: directory / f"{node.name}.trigger" for node in net.NODES}
        server = BirdRouteServer if self.options.bird else BuiltInRouteServer
        self.servers = {
            host.name: server(self.network, host.name, hold_time=self.options.hold_time) for host in net.ROUTE_SERVERS
        }
        self.fabric: Daemon = BirdFabric(self.network) if self.options.bird else BuiltInFabric(self.network)
        service = HAProxy if which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") else PlainService
        self.services = {node.name: service(self.network, node.name) for node in net.NODES}
        electing = net.NODES if self.options.keepalived else ()
        self.electors = {
            node.name: Keepalived(self.network, node.name, self._keepalived_conf(node.name)) for node in electing
        }
        self.nodes = {node.name: Floatip(self.network, node.name, self._config(node.name)) for node in net.NODES}
        self.observer = Observer(
            self.network, net.OBSERVER.name, str(FLOATING.ip), interval=self.options.probe_interval
        )
        prefix = str(FLOATING.network)
        for host in (*self.servers, net.ROUTER):
            watch = self._exits.enter_context(RouteWatch(self.network, host, prefix))
            self.record.moves[host] = watch.moves
        self._exits.callback(Pulse(self._pids, self.record.hold_ups).close)

    def _pids(self) -> list[int]:
        """Of those on whom it depends how fast the traffic moves."""
        daemons = [*self.nodes.values(), *self.servers.values(), self.fabric, *self.electors.values()]
        pids = [daemon.pid for daemon in daemons if daemon.started]
        for elector in self.electors.values():
            with suppress(OSError, ValueError):  # not written yet
                pids += elector.pids
        return list(dict.fromkeys(pids))

    def _config(self, host: str) -> str:
        me, other = _ends(host)
        fast = self.options.advert_interval < 1
        election = """\
[instance.vrrp]
preempt = false
"""
        if elector := self.electors.get(host):
            election = f"""\
[keepalived]
fifo = "{elector.fifo}"
pid_file = "{elector.pid_file}"
vrrp_pid_file = "{elector.vrrp_pid_file}"

[instance.keepalived]
"""
        return f"""\
[linode]
dcid = 6

[bgp]
hold_time = {self.options.hold_time}

{self._check(host)}
[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
checks = [{'"trigger"' if self._check(host) else ""}]

{election}interface = "eth0"
vrid = 51
priority = {PRIORITY}
version = {3 if fast else 2}
advert_interval = {self.options.advert_interval:g}
source = "{me}"
peers = ["{other}"]
"""

    def _check(self, host: str) -> str:
        """Our own; beside keepalived it is keepalived that checks."""
        if self.options.keepalived:
            return ""
        return f"""\
[[check]]
name = "trigger"
{self.options.check or f'file = "{self.triggers[host]}"'}
"""

    def _keepalived_conf(self, host: str) -> str:
        me, other = _ends(host)
        return f"""\
global_defs {{
  vrrp_notify_fifo FIFO root
  vrrp_version {3 if self.options.advert_interval < 1 else 2}
  script_user root
  enable_script_security
}}
vrrp_script chk_trigger {{
  script "/usr/bin/test ! -e {self.triggers[host]}"
  interval 1
  fall 2
  rise 2
}}
vrrp_instance VI_1 {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority {PRIORITY}
  advert_int {self.options.advert_interval:g}
  track_script {{
    chk_trigger
  }}
  unicast_src_ip {me}
  unicast_peer {{
    {other}
  }}
  virtual_ipaddress {{
    {FLOATING}
  }}
}}
"""

    def start(self, *, observed: bool = True) -> None:
        """Everybody on stage, haproxy1 a little before haproxy2 and so the master. Returns when traffic flows."""
        for daemon in (self.fabric, *self.servers.values(), *self.services.values()):
            daemon.start()
        for name in self.servers:
            self.wait_for(lambda name=name: self.listens(name), f"{name} to listen", READY_TIMEOUT)  # type: ignore[misc]
        self.start_node("haproxy1")
        # Not by time alone: on a busy machine the second process may be the first to listen.
        self.wait_for(
            lambda: self.latest("haproxy1", "role") != "", "haproxy1 to take part in the election", READY_TIMEOUT
        )
        self.record.waited_for_cpu = run_delay(self.nodes["haproxy1"].pid)
        # It is master after master-down, and so long the other one may be late without costing any time.
        time.sleep(max(SECOND_NODE_DELAY, min(HEAD_START, self.options.master_down_interval - 1)))
        self.start_node("haproxy2")
        self.wait_for(
            self._ready,
            "haproxy1 to be master, both nodes announced, and the fabric to point at haproxy1",
            READY_TIMEOUT,
        )
        if not observed:
            return
        self.observer.start()
        self._reader = Thread(target=self._follow_observer, daemon=True)
        self._reader.start()
        self.wait_for(
            lambda: any(probe.who for probe in self.record.probes), "the observer's first answer", READY_TIMEOUT
        )

    def _ready(self) -> bool:
        ranks = {name: self.latest(name, "rank") for name in self.nodes}
        told = all(self.record.pointed_at(host, time.monotonic()) == "haproxy1" for host in self.record.moves)
        return self.latest("haproxy1", "role") == "master" and ranks["haproxy2"] == "standby" and told

    def start_node(self, name: str) -> None:
        if name in self.electors and not self.electors[name].running:
            self.mark(f"start keepalived on {name}")
            self.electors[name].start()
        self.mark(f"start floatip on {name}")
        self.nodes[name].start()
        Thread(target=self._follow_node, args=(name,), daemon=True).start()

    def latest(self, host: str, what: str) -> str:
        found = [h.value for h in self.record.happenings if (h.host, h.what) == (host, what)]
        return found[-1] if found else ""

    def mark(self, text: str) -> float:
        happening = Happening(time.monotonic(), "scene", "", "", "", text)
        self._tell(happening)
        return happening.at

    def wait_for(self, true: Callable[[], bool], what: str, timeout: float = TIMEOUT) -> float:
        """When it became true (within some milliseconds)."""
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                raise LabError(f"waited {timeout:g} s in vain for {what}", f"see the logs:\n{self._logs()}")
            time.sleep(0.01)
        return time.monotonic()

    def connected(self, node: str) -> bool:
        """With all route servers."""
        sessions = self.nodes[node].status()["sessions"]
        return all(session["state"] == "established" for session in sessions)

    def listens(self, host: str) -> bool:
        """Whether the route server accepts BGP connections now."""
        with self.network.inside(host), open("/proc/thread-self/net/tcp6") as table:
            return any(line.split()[1].endswith(":00B3") and line.split()[3] == "0A" for line in list(table)[1:])

    def delete_address(self, host: str) -> None:
        with self.network.inside(host):
            subprocess.run(["ip", "address", "del", str(FLOATING), "dev", "lo"], check=True)

    def holds_address(self, host: str) -> bool:
        with self.network.inside(host), open("/proc/thread-self/net/fib_trie") as table:
            return str(FLOATING.ip) in table.read()

    def _tell(self, happening: Happening) -> None:
        if self._over:
            return
        self.record.happenings.append(happening)
        self._told(happening)

    def _follow_node(self, name: str) -> None:
        node = self.nodes[name]
        client = socket.socket(socket.AF_UNIX)
        while node.running:
            try:
                client.connect(str(node.socket))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.005)
        # A daemon that is killed resets the connection.
        with suppress(OSError), client, client.makefile("rb") as lines:
            client.sendall(b'{"cmd": "watch"}\n')
            for line in lines:
                news = json.loads(line)
                keys = ("what", "name", "value", "reason")
                self._tell(Happening(news["at"], name, *(str(news[key]) for key in keys)))

    def _follow_observer(self) -> None:
        while not self.observer.log.exists():
            time.sleep(0.01)
        with self.observer.log.open() as log:
            rest = ""
            while True:
                over = not self.observer.running  # asked first: what it wrote before its end is read then
                text = log.read()
                if not text and over:
                    return
                *lines, rest = (rest + text).split("\n")
                for line in lines:
                    news = json.loads(line)
                    if news["event"] == "probe":
                        self.record.probes.append(Probe.from_json(news))
                if not text:
                    time.sleep(0.02)

    def finish(self) -> None:
        """The last probes are judged when their time is up; what the clearing does is no part of the play."""
        self.observer.stop()
        self.observer.wait()
        self._reader.join()
        time.sleep(0.1)
        self._over = True

    def _logs(self) -> str:
        daemons = [*self.nodes.values(), *self.servers.values(), self.fabric, *self.services.values()]
        tails = {f"{d.host} {d.name}": d.log.read_text().splitlines()[-6:] for d in daemons if d.log.exists()}
        return "\n".join(f"  {who}: {line}" for who, lines in tails.items() for line in lines)
