"""What all programs in the lab's hosts have in common: they are started, stopped, killed and paused in the same way.

A subclass writes its program's configuration and names its command.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from floatip.lab.network import Hosts
from floatip.lab.routes import flush


class Program:
    """It can be started again and again; its directory and log stay."""

    name: str

    def __init__(self, network: Hosts, host: str) -> None:
        self.network = network
        self.host = host
        self.directory = network.directory / host / self.name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def start(self) -> None:
        assert not self.running, f"{self.name} runs in {self.host}"
        self._process = self.network.run(self.host, self.command(), log=self.log, env=self.environment())

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started in {self.host}"
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """Of all its processes that kill, pause and resume signal."""
        return [self.pid]

    @property
    def was_started(self) -> bool:
        return self._process is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM; does not wait for the end."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float = 10.0) -> int:
        """For its end; the exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids:
            os.kill(pid, number)

    def write(self, name: str, text: str) -> str:
        """A file in its directory; the path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


class RoutingProgram(Program):
    def kill(self) -> None:
        super().kill()
        # A new BIRD stumbles over the routes of the one that was killed.
        with self.network.inside(self.host):
            flush()
