"""floatip itself: the daemon of a node, and the observer on a third machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from floatip.host.ask import ask
from floatip.lab.namespaces import LabError, see
from floatip.lab.network import Hosts
from floatip.lab.programs.program import Program
from floatip.observing.summary import ProbeResult

KEY = f"{0x10A71B:064x}\n"
"""Of the link, where there is one."""


UNIT_PRIORITY = 10


class FloatipDaemon(Program):
    name = "floatip"

    def __init__(self, network: Hosts, host: str, config_text: str, own: Path | None = None) -> None:
        """`own`: where this daemon sees the directory `own/HOST`, so that all nodes can have the same configuration."""
        super().__init__(network, host)
        self._own = own
        if own:
            (own / host).mkdir(parents=True)
        self.config = self.write("floatip.toml", config_text)
        Path(self.write("key", KEY)).chmod(0o600)
        self._run, self._state = self.directory / "run", self.directory / "state"
        for each in (self._run, self._state):
            each.mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "floatip", "run", self.config]

    def start(self) -> None:
        if not self._own:
            super().start()
            return
        with ThreadPoolExecutor(1) as thread:  # of which nothing is left afterwards, so neither is its view
            thread.submit(self._start_with_own_view, self._own).result()

    def _start_with_own_view(self, own: Path) -> None:
        see(own / self.host, at=own)
        super().start()

    def environment(self) -> Mapping[str, str]:
        return {
            "RUNTIME_DIRECTORY": str(self._run),
            "STATE_DIRECTORY": str(self._state),
            "CONFIGURATION_DIRECTORY": str(Path(self.config).parent),
        }

    @property
    def socket(self) -> Path:
        return self._run / "floatip.sock"

    def status(self) -> dict[str, Any]:
        return ask(self.socket, {"cmd": "status"})

    def foretells(self, kind: str, of: str) -> dict[str, Any]:
        """What it answers to a question of `floatip explain`, of its one instance."""
        answer: dict[str, Any] = ask(self.socket, {"cmd": "explain", "if": kind, "of": of})
        if "answers" not in answer:
            raise LabError(f"{self.host} foretells nothing: {answer}", "read host/explain.py: what it refuses, and why")
        (outcome,) = answer["answers"]
        found: dict[str, Any] = outcome
        return found

    def checks(self) -> list[str]:
        return [check["name"] for check in self.status()["checks"]]

    def reload(self, more: str) -> None:
        """With more at the end of its file (SIGHUP)."""
        self.write("floatip.toml", f"{Path(self.config).read_text()}\n{more}")
        os.kill(self.pid, signal.SIGHUP)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands, as an operator does, to its end."""
        with self.network.inside(self.host):
            return subprocess.run(
                [sys.executable, "-m", "floatip", *words],
                env={**os.environ, **self.environment()},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )

    def _run_in_real_time(self) -> None:
        """As chrt in debian/floatip.service, where the machine allows it: else a busy machine makes others miss it."""
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(self.pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(UNIT_PRIORITY))

    def watch(self) -> Iterator[dict[str, Any]]:
        """Its news from the first on, while it runs; the generator waits for them. It is in real time then."""
        client = socket.socket(socket.AF_UNIX)
        while self.running:
            try:
                client.connect(str(self.socket))
                self._run_in_real_time()
                break
            except (FileNotFoundError, ConnectionRefusedError):  # not yet
                time.sleep(0.005)
        # A daemon that is killed resets the connection.
        with suppress(OSError), client, client.makefile("rb") as lines:
            client.sendall(b'{"cmd": "watch"}\n')
            yield from map(json.loads, lines)


class ObserverProgram(Program):
    """`floatip observe`; its log is JSON, a line an event."""

    name = "observer"

    def __init__(self, network: Hosts, host: str, address: str, interval: float, name: str = "observer") -> None:
        """`name`: of its directory, where a host has several."""
        self.name = name
        super().__init__(network, host)
        self._address = address
        self._interval = interval
        self._read_up_to = 0

    def command(self) -> Sequence[str]:
        # TCP sends a lost SYN again after a second: a request that was lost must not be saved by that.
        probe = ["--interval", str(self._interval), "--timeout", "0.9", "--json", "--probes"]
        return [sys.executable, "-m", "floatip", "observe", self._address, *probe]

    def new_results(self) -> list[ProbeResult]:
        """What it has written since the last call."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(self._read_up_to)
            whole, end, _ = log.read().rpartition(b"\n")
        self._read_up_to += len(whole + end)
        news = map(json.loads, whole.splitlines())
        return [ProbeResult.from_json(each) for each in news if each["event"] == "probe"]
