"""Long and short connections to the floating IP, and the service on the nodes that echoes what they say."""

import json
import math
import sys
from collections.abc import Sequence

from floatip.lab.connections import SHORT_PER_SECOND, Connections
from floatip.lab.namespaces import LabError, find_program
from floatip.lab.network import FLOATING, OBSERVER, Hosts
from floatip.lab.programs.program import Program

PORT, BEHIND = 7, 1007
"""Of the service, and where it listens behind HAProxy."""
SHORT_AT_ONCE = 5000
"""At most, where none is answered."""
PROXY_TAKES = 9000
"""Connections, each with two files: many machines allow a process 20,000."""
IDLE = 10
"""One idle connection for each so many long ones that are not."""
RATE = 1_000_000
"""Octets a second of the upload, and of the download."""
ENDS_WITHIN = 30.0


class EchoService(Program):
    name = "echo"

    def __init__(self, network: Hosts, host: str, connections: int, *, is_behind: bool) -> None:
        """`is_behind`: HAProxy has its port, and it listens on loopback."""
        super().__init__(network, host)
        self._connections, self._is_behind = connections, is_behind

    def command(self) -> Sequence[str]:
        where = ["127.0.0.1", str(BEHIND)] if self._is_behind else ["", str(PORT)]
        module = [sys.executable, "-m", "floatip.lab.echo_process", self.host]
        return [*module, *where, str(self._connections + self._connections // IDLE + SHORT_AT_ONCE)]


class TcpProxy(Program):
    """HAProxy in TCP mode before the service: one of the processes that share its port."""

    def __init__(self, network: Hosts, host: str, number: int) -> None:
        self.name = f"haproxy-tcp-{number}"
        super().__init__(network, host)

    def command(self) -> Sequence[str]:
        config = f"""
global
  maxconn {PROXY_TAKES}
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen echo
  bind :::{PORT} v4v6
  server echo 127.0.0.1:{BEHIND}
"""
        return [find_program("haproxy", "haproxy"), "-db", "-f", self.write("haproxy.cfg", config)]


def services(network: Hosts, host: str, connections: int, *, proxied: bool) -> list[Program]:
    """That answer so many long connections, and the short ones."""
    echo = EchoService(network, host, connections, is_behind=proxied)
    # The kernel shares the connections out at random, so that they get about as many.
    processes = math.ceil(1.1 * (connections + connections // IDLE + SHORT_AT_ONCE) / PROXY_TAKES) if proxied else 0
    return [echo, *(TcpProxy(network, host, number) for number in range(1, processes + 1))]


class ConnectionsProgram(Program):
    """The client."""

    def __init__(self, network: Hosts, long: int, address: str = str(FLOATING.ip), name: str = "connections") -> None:
        """`name`: of its directory, where there are several."""
        self.name = name
        super().__init__(network, OBSERVER.name)
        self._address = address
        self.long, self.idle, self.short = long, long // IDLE, min(long, SHORT_PER_SECOND)

    def command(self) -> Sequence[str]:
        module = [sys.executable, "-m", "floatip.lab.connections_process"]
        return [*module, self._address, str(PORT), *map(str, (self.long, self.idle, self.short, RATE))]

    @property
    def is_ready(self) -> bool:
        """All long ones are open. Raises LabError where they cannot be."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        if not self.running:
            raise LabError("the client of the connections ended", "\n".join(lines[-5:]))
        return '{"event": "ready"}' in lines

    def end(self) -> Connections:
        """Close them all; what became of each."""
        if self.running:
            self.stop()
        status = self.wait(ENDS_WITHIN)
        lines = self.log.read_text().splitlines()
        if status:
            raise LabError(f"the client of the connections exited with status {status}", "\n".join(lines[-5:]))
        return Connections.from_lines(map(json.loads, lines))
