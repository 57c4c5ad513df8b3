"""One run of the lab: the guide's network with its programs, and the record of everything that happens there."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Interface
from pathlib import Path
from shutil import rmtree, which
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from floatip.core.state import FRESH_SESSION
from floatip.explain import EVENTS
from floatip.lab.configuration import fleet_toml, floatip_toml, keepalived_conf
from floatip.lab.holders import HolderWatch
from floatip.lab.layer2 import NeighbourWatch, SharedLayer2
from floatip.lab.namespaces import Closes, LabError, find_program, in_memory, is_entered
from floatip.lab.network import (
    FLOATING,
    NODES,
    OBSERVER,
    ROUTE_SERVERS,
    ROUTER,
    THREE_NODES,
    WITNESSES,
    Network,
    floating,
)
from floatip.lab.programs.bird import BirdFabric, BirdRouteServer, Rules
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from floatip.lab.programs.connections import ConnectionsProgram, services
from floatip.lab.programs.etcd import Etcd
from floatip.lab.programs.floatip import FloatipDaemon, ObserverProgram
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program
from floatip.lab.programs.services import HAProxy, PlainService
from floatip.lab.record import SCENE, Answer, Foresight, PassedOn, Record, RunEvent, RunOptions
from floatip.lab.routes import RouteWatch
from floatip.lab.scheduling import DelayWatch, children, run_delay
from floatip.second_chance.rules import TABLE

DIRECTORY = Path("/run/lab")
TRIGGER = "trigger"
"""Where /run is the lab's own. In memory: a slow disk must not hold up a program that writes its log."""
SECOND_NODE_DELAY = 0.5
HEAD_START = 2.5
"""Seconds by which haproxy1 starts ahead in the election: a machine that pauses must not make it a tie."""
READY_TIMEOUT = 60.0
NO_ANSWER = 3
"""The exit status of `floatip fleet` where etcd does not answer."""
TIMEOUT = 20.0


class Run(Closes):
    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self.record = Record(options)
        self._over = False
        self._exits = ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._exits.close()

    def _build(self) -> None:
        if is_entered():
            directory = DIRECTORY
            directory.mkdir()
            self._exits.callback(rmtree, directory)
        else:
            directory = Path(self._exits.enter_context(TemporaryDirectory(prefix="floatip-lab-")))
        data = directory / "etcd"
        if self.options.etcd and is_entered():
            self._exits.enter_context(in_memory(data))
        self.network: Network = self._exits.enter_context(
            SharedLayer2(directory, delay=self.options.delay)
            if self.options.shared_layer2
            else Network(directory, WITNESSES if self.options.etcd else (), self.options.delay)
        )
        if self.options.strict:
            self.network.drop_spoofed()
        self.etcd = Etcd(self.network, data) if self.options.etcd else None
        hosts = [node.name for node in (THREE_NODES if self.options.three else NODES)]
        self._own = directory / "own"
        self.triggers = {host: self._own / host / TRIGGER for host in hosts}
        """As the lab sees them. Each daemon sees its own in `_own`, so that all have the same configuration."""
        self.servers: dict[str, Program] = {}
        self.routing: list[Program] = []
        """The route servers and the fabric."""
        if not self.options.shared_layer2:
            self.servers = {host.name: self._route_server(host.name) for host in ROUTE_SERVERS}
            fabric = BirdFabric(self.network) if self.options.bird else BuiltInFabric(self.network)
            self.routing = [fabric, *self.servers.values()]
        has_haproxy = bool(which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin"))
        service = HAProxy if has_haproxy else PlainService
        self.services: list[Program] = [service(self.network, host) for host in hosts]
        self._connections = self._connected_to(hosts, has_haproxy) if self.options.connections else None
        keepalived = self.options.election == "keepalived"
        self.keepaliveds = {host: self._keepalived(host) for host in hosts if keepalived}
        self.nodes = {host: self._node(host) for host in hosts}
        self._first = hosts[:-1] if self.options.last_joins else hosts
        """Those that are started with the lab."""
        self.electors: dict[str, Program] = {**self.nodes, **self.keepaliveds}
        """By node, the program that elects: keepalived, or floatip itself."""
        for host in (*self.servers, ROUTER):
            self.record.routes[host] = self._exits.enter_context(self._watch(host, FLOATING)).changes
        self.observed = {FLOATING: self.record}
        """By address. The records of the others have probes, and where the router leads them."""
        for address in floating(self.options.instances)[1:]:
            routes = {ROUTER: self._exits.enter_context(self._watch(ROUTER, address)).changes}
            self.observed[address] = Record(self.options, routes=routes, delays=self.record.delays)
        self._observers = {address: self._observer(address) for address in self.observed}
        for host in hosts if self.options.exclusive else ():
            watch = HolderWatch(self.network, host, FLOATING)
            self.record.held[host] = self._exits.enter_context(watch).changes
        self._exits.callback(DelayWatch(self._pids, self.record.delays).close)

    def _connected_to(self, hosts: Sequence[str], has_haproxy: bool) -> ConnectionsProgram:
        count, proxied = self.options.connections, has_haproxy and self.options.proxied
        for host in hosts:
            self.services += services(self.network, host, count, proxied=proxied)
        return ConnectionsProgram(self.network, count)

    def _observer(self, address: IPv4Interface) -> ObserverProgram:
        name = "observer" if address == FLOATING else f"observer-{address.ip}"
        interval = self.options.probe_interval * len(self.observed)  # all of them share one host
        return ObserverProgram(self.network, OBSERVER.name, str(address.ip), interval, name)

    def _watch(self, host: str, address: IPv4Interface) -> RouteWatch:
        prefix = str(address.network)
        if self.options.shared_layer2:
            return NeighbourWatch(self.network, prefix)
        return RouteWatch(self.network, host, prefix)

    def _route_server(self, host: str) -> Program:
        if self.options.bird:
            return BirdRouteServer(self.network, host, Rules(hold_time=self.options.hold_time))
        return BuiltInRouteServer(self.network, host, hold_time=self.options.hold_time)

    def _keepalived(self, host: str) -> KeepalivedProgram:
        return KeepalivedProgram(self.network, host, keepalived_conf(self.options, host, self.triggers[host]))

    def _node(self, host: str) -> FloatipDaemon:
        elector = self.keepaliveds.get(host)
        endpoints = self.etcd.endpoints if self.etcd else ()
        config = floatip_toml(self.options, host, self._own / TRIGGER, elector, endpoints)
        return FloatipDaemon(self.network, host, config, self._own)

    def _pids(self) -> list[int]:
        """Of the programs that decide how fast the traffic moves."""
        programs = [*self.nodes.values(), *self.routing, *self.keepaliveds.values()]
        if self._connections:
            programs += [self._connections, *self.services]
        pids = [program.pid for program in programs if program.was_started]
        if self.options.second_chance == "on":  # a process of its own makes the lists of connections
            pids += [pid for node in self.nodes.values() if node.was_started for pid in children(node.pid)]
        if self.network.cable:
            pids.append(self.network.cable.pid)
        for keepalived in self.keepaliveds.values():
            with suppress(OSError, ValueError):  # not written yet
                pids += keepalived.pids
        return list(dict.fromkeys(pids))

    def start(self, *, observed: bool = True) -> None:
        """Start everything, haproxy1 before the others, so that it is master. Returns when traffic flows."""
        for program in (*self.routing, *self.services):
            program.start()
        if self.etcd:
            self.etcd.start()
        if self.options.members:
            self._apply_fleet()
        for name in self.servers:
            self.wait_for(lambda name=name: self.listens(name), f"{name} to listen", READY_TIMEOUT)  # type: ignore[misc]
        self.start_node("haproxy1")
        # Not by time alone: on a busy machine the second process may be the first to listen.
        self.wait_for(lambda: self._takes_part("haproxy1"), "haproxy1 to take part in the election", READY_TIMEOUT)
        self.record.start_delay = run_delay(self.nodes["haproxy1"].pid)
        if self.options.election == "nodes":
            self.wait_for_role("haproxy1", "master")
        else:
            # haproxy1 is master after master-down, so haproxy2 can start a little less than that later at no cost.
            time.sleep(max(SECOND_NODE_DELAY, min(HEAD_START, self.options.master_down_interval - 1)))
        for host in self._first[1:]:
            self.start_node(host)
        self.wait_for(
            self._ready, "haproxy1 to be master, the others standby, and all routes to lead to haproxy1", READY_TIMEOUT
        )
        if not observed:
            return
        self._readers = [
            Thread(target=self._follow_observer, args=(address,), daemon=True) for address in self.observed
        ]
        for observer, reader in zip(self._observers.values(), self._readers, strict=True):
            observer.start()
            reader.start()
        self.wait_for(
            lambda: all(any(probe.who for probe in record.probes) for record in self.observed.values()),
            "the observer's first answer",
            READY_TIMEOUT,
        )

    def _apply_fleet(self) -> None:
        """The nodes find at etcd what is not in their files."""
        first = self.nodes["haproxy1"]
        file = first.write("fleet.toml", fleet_toml(self.options))
        deadline = time.monotonic() + READY_TIMEOUT
        applied = self.ask("haproxy1", "fleet", "apply", file)
        while applied.status == NO_ANSWER and time.monotonic() < deadline:  # etcd has little CPU on a busy machine
            applied = self.ask("haproxy1", "fleet", "apply", file)
        if applied.status:
            raise LabError(f"floatip fleet apply failed: {applied.text}", "read what it says of the file")

    def _takes_part(self, node: str) -> bool:
        """In the election."""
        daemon = self.nodes[node]
        if not daemon.running:
            why = daemon.log.read_text().strip()
            raise LabError(f"floatip on {node} exited with status {daemon.wait()}", f"its log:\n{why[-2000:]}")
        return self.record.latest(node, "role") != ""

    def _ready(self) -> bool:
        record, now = self.record, time.monotonic()
        elected = len(record.carries("haproxy1")) >= self.options.instances
        elected &= all(record.latest(host, "rank") == "standby" for host in self._first[1:])
        if self.options.etcd:  # on a busy machine the process that speaks with it starts seconds after the daemon
            elected &= all(record.latest(host, "etcd") == "answers" for host in self._first)
        # Without route servers the observer asks for the way with its first probe.
        return elected and all(record.pointed_at(host, now) == "haproxy1" for host in record.routes if self.servers)

    def start_node(self, name: str) -> None:
        if name in self.keepaliveds and not self.keepaliveds[name].running:
            self.mark(f"start keepalived on {name}")
            self.keepaliveds[name].start()
        self.mark(f"start floatip on {name}")
        self.nodes[name].start()
        Thread(target=self._follow_node, args=(name,), daemon=True).start()

    def open_connections(self) -> None:
        """Returns when the long ones are open, and short ones come and go."""
        assert self._connections
        client = self._connections
        for service in self.services:
            if not service.running:
                raise LabError(
                    f"{service.name} ended on {service.host}", f"its log:\n{service.log.read_text()[-2000:]}"
                )
        idle, short = f"{client.idle} idle ones", f"{client.short} short ones a second"
        self.mark(f"open {client.long} long connections, {idle}, and {short}")
        client.start()
        self.wait_for(lambda: client.is_ready, "the connections to be open", READY_TIMEOUT)

    def close_connections(self) -> None:
        """When the fate of each is known."""
        assert self._connections
        self.record.connections = self._connections.end()
        self.mark("close the connections")

    def mark(self, text: str) -> float:
        event = RunEvent(time.monotonic(), SCENE, "", "", "", text)
        self._note(event)
        return event.at

    def fault(self, text: str) -> float:
        """Mark what the scene is about, immediately before it is done."""
        self.record.fault_at = self.mark(text)
        return self.record.fault_at

    def wait_for(self, true: Callable[[], bool], what: str, timeout: float = TIMEOUT) -> float:
        """When it became true (within some milliseconds)."""
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                raise LabError(f"timed out after {timeout:g} s waiting for {what}", f"read the logs:\n{self._logs()}")
            time.sleep(0.01)
        return time.monotonic()

    def wait_for_role(self, node: str, role: str) -> float:
        return self.wait_for(lambda: self.record.latest(node, "role") == role, f"{node} to be {role}")

    def wait_for_event(self, node: str, what: str, value: str, after: float) -> float:
        return self.wait_for(
            lambda: self.record.first(node, what, value, after) is not None, f"{node} to have {what} {value}"
        )

    def wait_until_seasoned(self, node: str) -> None:
        """As the other nodes know it: route servers may ignore a younger session, so nothing is handed over to it."""

        def is_seasoned() -> bool:
            up = [event.at for event in self.record.of(node, "session") if event.value == "up"]
            return time.monotonic() > max(up) + FRESH_SESSION + 0.5

        self.wait_for(is_seasoned, f"{node}'s sessions to be old enough", FRESH_SESSION + 15)

    def foresee(self, kind: str, of: str, node: str = "") -> None:
        """Ask the daemons (or that of one node) what would happen, just before it does."""
        asked = [node] if node else [host for host, daemon in self.nodes.items() if daemon.running]
        name = of
        if self.options.election != "nodes" and kind != "check-fails":
            name = next(str(host.ipv4.ip) for host in THREE_NODES if host.name == of and host.ipv4)
        answers = {
            host: self.nodes[host].foretells(kind, name) for host in asked if host not in self.network.faults.cut_off
        }
        down = of if kind == "down" else ""
        self.record.foresights.append(Foresight(time.monotonic(), EVENTS[kind].format(of), answers, down))

    def ask(self, node: str, *words: str) -> Answer:
        """Run a command of floatip on the node, to its end."""
        command = f"floatip {' '.join(words)}"
        self.mark(f"{node}: {command}")
        done = self.nodes[node].ask(*words)
        text = " ".join(done.stdout.split())
        self.mark(f"{node}: {text if done.returncode else last_line(done.stdout)}")
        return Answer(f"{command} on {node}", done.returncode, text)

    def knows(self, node: str, other: str) -> dict[str, Any]:
        """What it knows of the other one by the link."""
        found: dict[str, Any] = next(each for each in self.nodes[node].status()["nodes"] if each["name"] == other)
        return found

    def reload(self, node: str, check: str) -> None:
        """With one more check; returns when the daemon has it."""
        daemon = self.nodes[node]
        self.mark(f"{node} reloads, with a check {check} more")
        daemon.reload(f'[[check]]\nname = "{check}"\nfile = "{self._own / TRIGGER}"\n')
        self.wait_for(lambda: check in daemon.checks(), f"{node} to have reloaded")

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
            interface = "eth0" if self.options.shared_layer2 else "lo"
            subprocess.run(["ip", "address", "del", str(FLOATING), "dev", interface], check=True)

    def holds_address(self, host: str) -> bool:
        with self.network.inside(host), open("/proc/thread-self/net/fib_trie") as table:
            return str(FLOATING.ip) in table.read()

    def count_passed_on(self, node: str) -> None:
        """What its kernel has counted for the second chance: nothing, while it does not carry."""
        command = [find_program("nft", "nftables"), "-j", "list", "counters", "table", "netdev", TABLE]
        with self.network.inside(node):
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found = [one["counter"] for one in json.loads(said or '{"nftables": []}')["nftables"] if "counter" in one]
        counts = {one["name"]: int(one["packets"]) for one in found}
        self.record.passed_on.append(PassedOn(counts.get("forwarded", 0), counts.get("answers", 0)))

    def finish(self) -> Record:
        """Stop the observer when the fate of its last probes is known; nothing that follows is recorded."""
        for observer in self._observers.values():
            observer.stop()
        for observer, reader in zip(self._observers.values(), self._readers, strict=True):
            observer.wait()
            reader.join()
        time.sleep(0.1)
        self._over = True
        return self.record

    def _note(self, event: RunEvent) -> None:
        if not self._over:
            self.record.events.append(event)

    def _follow_node(self, name: str) -> None:
        for news in self.nodes[name].watch():
            keys = ("what", "name", "value", "reason")
            self._note(RunEvent(news["at"], name, *(str(news[key]) for key in keys)))
        if self.record.latest(name, "daemon") != "stopped":
            self._note(RunEvent(time.monotonic(), name, "daemon", "floatip", "stopped", "its control socket closed"))

    def _follow_observer(self, address: IPv4Interface) -> None:
        observer, record = self._observers[address], self.observed[address]
        while True:
            over = not observer.running  # asked first: what it wrote before its end is read then
            results = observer.new_results()
            record.probes += results
            if not results and over:
                return
            time.sleep(0.02)

    def _logs(self) -> str:
        programs = [*self.nodes.values(), *self.routing, *self.services]
        programs += self.etcd.members.values() if self.etcd else ()
        tails = {f"{p.host} {p.name}": p.log.read_text().splitlines()[-6:] for p in programs if p.log.exists()}
        return "\n".join(f"  {who}: {line}" for who, lines in tails.items() for line in lines)


def last_line(said: str) -> str:
    """What a command says of its outcome, without its hint."""
    return next((line.strip() for line in reversed(said.splitlines()) if line and not line.startswith("hint: ")), "")
