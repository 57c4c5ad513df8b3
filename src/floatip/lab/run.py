"""One run of the lab: the guide's network with its programs, and the record of everything that happens there."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from threading import Thread

from floatip.lab.configuration import floatip_toml, keepalived_conf
from floatip.lab.fabric import Fabric
from floatip.lab.namespaces import Closes, LabError, is_entered
from floatip.lab.network import FLOATING, NODES, OBSERVER, ROUTE_SERVERS, ROUTER, Network
from floatip.lab.programs.floatip import FloatipDaemon, ObserverProgram
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program
from floatip.lab.programs.route_servers import BirdRouteServer, BuiltInRouteServer
from floatip.lab.programs.services import Service
from floatip.lab.record import SCENE, Record, RunEvent, RunOptions
from floatip.lab.routes import RouteWatch
from floatip.lab.scheduling import DelayWatch, run_delay

DIRECTORY = Path("/run/lab")
"""Where /run is the lab's own. In memory: a slow disk must not hold up a program that writes its log."""
SECOND_NODE_DELAY = 0.5
HEAD_START = 2.5
"""Seconds by which haproxy1 starts ahead in the election: a machine that pauses must not make it a tie."""
READY_TIMEOUT = 60.0
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
        self.network = self._exits.enter_context(Network(directory))
        self.triggers = {node.name: directory / f"{node.name}.trigger" for node in NODES}
        route_server = BirdRouteServer if self.options.bird else BuiltInRouteServer
        hold_time = self.options.hold_time
        self.servers = {host.name: route_server(self.network, host.name, hold_time) for host in ROUTE_SERVERS}
        self.services = {node.name: Service(self.network, node.name) for node in NODES}
        self.keepaliveds: dict[str, KeepalivedProgram] = {}
        self.nodes: dict[str, FloatipDaemon] = {}
        for name, trigger in self.triggers.items():
            if self.options.keepalived:
                conf = keepalived_conf(self.options, name, trigger)
                self.keepaliveds[name] = KeepalivedProgram(self.network, name, conf)
            toml = floatip_toml(self.options, name, trigger, self.keepaliveds.get(name))
            self.nodes[name] = FloatipDaemon(self.network, name, toml)
        self.electors: dict[str, Program] = {**self.nodes, **self.keepaliveds}
        """By node, the program that elects: keepalived, or floatip itself."""
        self.observer = ObserverProgram(
            self.network, OBSERVER.name, str(FLOATING.ip), interval=self.options.probe_interval
        )
        prefix = str(FLOATING.network)
        fabric = self._exits.enter_context(Fabric(self.network, prefix))
        router = self._exits.enter_context(RouteWatch(self.network, ROUTER, prefix))
        self.record.routes = {host: watch.changes for host, watch in {**fabric.watches, ROUTER: router}.items()}
        self._exits.callback(DelayWatch(self._pids, self.record.delays).close)

    def _pids(self) -> list[int]:
        """Of the programs that decide how fast the traffic moves."""
        programs = [*self.nodes.values(), *self.servers.values(), *self.keepaliveds.values()]
        return [pid for program in programs for pid in program.pids]

    def start(self, *, observed: bool = True) -> None:
        """Start everything, haproxy1 before haproxy2, so that it is master. Returns when traffic flows."""
        for program in (*self.servers.values(), *self.services.values()):
            program.start()
        for name in self.servers:
            self.wait_for(lambda name=name: self.listens(name), f"{name} to listen", READY_TIMEOUT)  # type: ignore[misc]
        self.start_node("haproxy1")
        # Not by time alone: on a busy machine the second process may be the first to listen.
        self.wait_for(
            lambda: self.record.latest("haproxy1", "role") != "", "haproxy1 to take part in the election", READY_TIMEOUT
        )
        self.record.start_delay = run_delay(self.nodes["haproxy1"].pid)
        # haproxy1 is master after master-down, so haproxy2 can start a little less than that later at no cost.
        time.sleep(max(SECOND_NODE_DELAY, min(HEAD_START, self.options.master_down_interval - 1)))
        self.start_node("haproxy2")
        self.wait_for(
            self._ready, "haproxy1 to be master, haproxy2 standby, and all routes to lead to haproxy1", READY_TIMEOUT
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
        record, now = self.record, time.monotonic()
        elected = record.latest("haproxy1", "role") == "master" and record.latest("haproxy2", "rank") == "standby"
        return elected and all(record.pointed_at(host, now) == "haproxy1" for host in record.routes)

    def start_node(self, name: str) -> None:
        if name in self.keepaliveds and not self.keepaliveds[name].running:
            self.mark(f"start keepalived on {name}")
            self.keepaliveds[name].start()
        self.mark(f"start floatip on {name}")
        self.nodes[name].start()
        Thread(target=self._follow_node, args=(name,), daemon=True).start()

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

    def connected(self, node: str) -> bool:
        """With all route servers."""
        sessions = self.nodes[node].status()["sessions"]
        return all(session["state"] == "established" for session in sessions)

    def listens(self, host: str) -> bool:
        """Whether the route server accepts BGP connections now."""
        return bool(self.network.output(host, "ss", "-Htln", "sport = :179"))

    def finish(self) -> Record:
        """Stop the observer when the fate of its last probes is known; nothing that follows is recorded."""
        self.observer.stop()
        self.observer.wait()
        self._reader.join()
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

    def _follow_observer(self) -> None:
        while True:
            over = not self.observer.running  # asked first: what it wrote before its end is read then
            results = self.observer.new_results()
            self.record.probes += results
            if not results and over:
                return
            time.sleep(0.02)

    def _logs(self) -> str:
        programs = [*self.nodes.values(), *self.servers.values(), *self.services.values()]
        tails = {f"{p.host} {p.name}": p.log.read_text().splitlines()[-6:] for p in programs if p.log.exists()}
        return "\n".join(f"  {who}: {line}" for who, lines in tails.items() for line in lines)
