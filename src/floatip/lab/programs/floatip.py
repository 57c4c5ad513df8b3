"""floatip itself: the daemon of a node, and the observer on a third machine."""

import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from floatip.host.ask import ask
from floatip.lab.network import Network
from floatip.lab.programs.program import Program
from floatip.observing.summary import ProbeResult


class FloatipDaemon(Program):
    name = "floatip"

    def __init__(self, network: Network, host: str, config_text: str) -> None:
        super().__init__(network, host)
        self.config = self.write("floatip.toml", config_text)
        self._run, self._state = self.directory / "run", self.directory / "state"
        for each in (self._run, self._state):
            each.mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "floatip", "run", self.config]

    def environment(self) -> Mapping[str, str]:
        return {"RUNTIME_DIRECTORY": str(self._run), "STATE_DIRECTORY": str(self._state)}

    @property
    def socket(self) -> Path:
        return self._run / "floatip.sock"

    def status(self) -> dict[str, Any]:
        return ask(self.socket, {"cmd": "status"})

    def watch(self) -> Iterator[dict[str, Any]]:
        """Its news from the first on, while it runs; the generator waits for them."""
        client = socket.socket(socket.AF_UNIX)
        while self.running:
            try:
                client.connect(str(self.socket))
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

    def __init__(self, network: Network, host: str, address: str, interval: float) -> None:
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
