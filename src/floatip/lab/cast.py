"""Who plays in the lab: one small class a program, all started, stopped, killed and paused in the same way.

A class writes its program's configuration and names its command; it judges nothing. The route servers do as Linode's
do: they listen only, prefer `65000:1` to `65000:2`, and hand their best route to the fabric in the router as it is.
Both kinds install it in the kernel of their own host as well, where `RouteWatch` sees it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from floatip.host.ask import ask
from floatip.lab.net import (
    FABRIC,
    FLOATING,
    HOSTS,
    NODE_SUBNET,
    NODES,
    ROUTE_SERVERS,
    ROUTER,
    Host,
    Network,
    find_program,
)
from floatip.lab.route_server_process import ASN, CLIENT_ASN, FABRIC_HOLD_TIME, RTPROT_BGP

RTPROT_BIRD = 12
FLOATING_PREFIXES = (str(FLOATING.network),)


class Daemon:
    """A program in a host, started as often as you like; its directory outlives it."""

    name: str

    def __init__(self, network: Network, host: str) -> None:
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
    def started(self) -> bool:
        """Ever."""
        return self._process is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM; does not wait for what the daemon does then."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float = 10.0) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


class Floatip(Daemon):
    name = "floatip"

    def __init__(self, network: Network, host: str, config_text: str) -> None:
        super().__init__(network, host)
        self.config = self._write("floatip.toml", config_text)
        for each in (self._run, self._state):
            each.mkdir(exist_ok=True)

    @property
    def _run(self) -> Path:
        return self.directory / "run"

    @property
    def _state(self) -> Path:
        return self.directory / "state"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "floatip", "run", self.config]

    def environment(self) -> Mapping[str, str]:
        return {"RUNTIME_DIRECTORY": str(self._run), "STATE_DIRECTORY": str(self._state)}

    @property
    def socket(self) -> Path:
        return self._run / "floatip.sock"

    def status(self) -> dict[str, Any]:
        return ask(self.socket, {"cmd": "status"})


class HAProxy(Daemon):
    """The service of a node: every answer is the node's name."""

    name = "haproxy"

    def command(self) -> Sequence[str]:
        config = self._write("haproxy.cfg", haproxy_config(self.host))
        return [find_program("haproxy", "haproxy"), "-db", "-f", config]


def haproxy_config(answer: str) -> str:
    return f"""
defaults
  mode http
  timeout client 5s
frontend web
  bind :::80 v4v6
  http-request return status 200 content-type text/plain string "{answer}"
"""


class PlainService(Daemon):
    """The same without HAProxy."""

    name = "service"
    _SCRIPT = """
import asyncio, sys
async def answer(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        body = sys.argv[1].encode()
        writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()
async def serve():
    async with await asyncio.start_server(answer, None, 80) as server:
        await server.serve_forever()
asyncio.run(serve())
"""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self._SCRIPT, self.host]


class Observer(Daemon):
    """Its log is JSON, a line an event."""

    name = "observer"

    def __init__(self, network: Network, host: str, address: str, interval: float) -> None:
        super().__init__(network, host)
        self._address = address
        self._interval = interval

    def command(self) -> Sequence[str]:
        # TCP sends a lost SYN again after a second: a request that was lost must not be saved by that.
        probe = ["--interval", str(self._interval), "--timeout", "0.9", "--json", "--probes"]
        return [sys.executable, "-m", "floatip", "observe", self._address, *probe]


class Keepalived(Daemon):
    """Its FIFO is there before it, for root alone to write; `FIFO` in the text of its configuration is the path."""

    name = "keepalived"

    def __init__(self, network: Network, host: str, config_text: str) -> None:
        super().__init__(network, host)
        self.fifo = self.directory / "fifo"
        os.mkfifo(self.fifo, 0o600)
        self.pid_file, self.vrrp_pid_file = self.directory / "pid", self.directory / "vrrp_pid"
        self.config = self._write("keepalived.conf", config_text.replace("FIFO", str(self.fifo)))

    @property
    def pids(self) -> list[int]:
        """Of its main process and of the one for VRRP."""
        return [int(path.read_text()) for path in (self.pid_file, self.vrrp_pid_file)]

    def wait(self, timeout: float = 10.0) -> int:
        status = super().wait(timeout)
        # Where we are pid 1 an orphan is ours to reap, or a new keepalived takes it for one that still runs.
        with suppress(FileNotFoundError, ChildProcessError):
            os.waitpid(int(self.vrrp_pid_file.read_text()), 0)
        return status

    def send(self, number: signal.Signals) -> None:
        """To both processes."""
        for pid in self.pids:
            os.kill(pid, number)

    def command(self) -> Sequence[str]:
        files = {"pid": self.pid_file, "vrrp_pid": self.vrrp_pid_file, "checkers_pid": self.directory / "checkers_pid"}
        pids = [f"--{which}={path}" for which, path in files.items()]
        program = find_program("keepalived", "keepalived")
        return [program, "--dont-fork", "--log-console", "--log-detail", f"--use-file={self.config}", *pids]


class Router(Daemon):
    def kill(self) -> None:
        super().kill()
        # The kernel keeps the routes of a killed daemon, and a new BIRD stumbles over them.
        with self.network.inside(self.host), IPRoute() as ip:
            for protocol in (RTPROT_BIRD, RTPROT_BGP):
                ip.flush_routes(proto=protocol)


class _BuiltIn(Router):
    def __init__(self, network: Network, host: str, *, hold_time: int) -> None:
        super().__init__(network, host)
        self._hold_time = hold_time

    def command(self) -> Sequence[str]:
        command = [sys.executable, "-m", "floatip.lab.route_server_process", "--role", self.name]
        command += ["--router-id", router_id(self.host), "--hold-time", str(self._hold_time), "--fabric", str(FABRIC)]
        return command


class BuiltInRouteServer(_BuiltIn):
    name = "route-server"

    def __init__(self, network: Network, host: str, *, hold_time: int = 9) -> None:
        super().__init__(network, host, hold_time=hold_time)


class BuiltInFabric(_BuiltIn):
    name = "fabric"

    def __init__(self, network: Network) -> None:
        super().__init__(network, ROUTER, hold_time=FABRIC_HOLD_TIME)


class _Bird(Router):
    """BIRD 2. It takes one session a peer, so four route servers are four processes."""

    name = "bird"

    def __init__(self, network: Network, host: str, prefixes: Sequence[str]) -> None:
        super().__init__(network, host)
        versions = [(f"ipv{ip_network(prefix).version}", prefix) for prefix in prefixes]
        self._families = {family: [prefix for its, prefix in versions if its == family] for family, _ in versions}

    def command(self) -> Sequence[str]:
        config = self._write("bird.conf", self._config())
        return [find_program("bird", "bird2"), "-f", "-c", config, "-s", str(self.directory / "ctl")]

    def _config(self) -> str:
        raise NotImplementedError

    def _globals(self, ways: Sequence[str]) -> str:
        """`ways` say how next hops are reached, so that the kernel's routes name the node itself."""
        kernels = [f"protocol kernel {{ {family} {{ import none; {_EXPORT} }}; }}\n" for family in self._families]
        return f"""
log stderr all;
router id {router_id(self.host)};
protocol device {{ }}
protocol static {{ ipv6; {" ".join(ways)} }}
function weigh() {{
  if (65000, 1) ~ bgp_community then bgp_local_pref = 200;
  else if (65000, 2) ~ bgp_community then bgp_local_pref = 100;
}}
{"".join(kernels)}"""

    def _session(self, local: IPv6Address, peer: Host, asn: int, *, hold_time: int, onward: bool = False) -> str:
        channels = ""
        for family, prefixes in self._families.items():
            learn = f"import filter {{ if net !~ [{', '.join(prefixes)}] then reject; weigh(); accept; }}; export none;"
            rules = f"import none; {_EXPORT} next hop keep;" if onward else learn
            channels += f"  {family} {{ {'extended next hop; ' if family == 'ipv4' else ''}{rules} }};\n"
        # BIRD is patient by default: five seconds to the first dial, a minute after an error. And when it dialled,
        # 2.0.12 keeps its first UPDATE back until the next KEEPALIVE is due.
        return f"""
protocol bgp {peer.name} {{
  local {local} as {ASN};
  neighbor {peer.ipv6} as {asn};
  multihop;
  passive {"off" if onward else "on"};
  hold time {hold_time};
  keepalive time {1 if onward else hold_time // 3};
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 1;
  graceful restart off;
  deterministic med on;
{channels}}}
"""


class BirdRouteServer(_Bird):
    def __init__(
        self, network: Network, host: str, *, hold_time: int = 9, prefixes: Sequence[str] = FLOATING_PREFIXES
    ) -> None:
        super().__init__(network, host, prefixes)
        self._hold_time = hold_time

    def _config(self) -> str:
        (address,) = (host.ipv6 for host in ROUTE_SERVERS if host.name == self.host)
        sessions = [self._session(address, node, CLIENT_ASN, hold_time=self._hold_time) for node in NODES]
        sessions.append(self._session(address, Host("fabric", FABRIC), ASN, hold_time=FABRIC_HOLD_TIME, onward=True))
        return self._globals([f'route {NODE_SUBNET} via "eth0";']) + "".join(sessions)


class BirdFabric(_Bird):
    def __init__(self, network: Network, *, prefixes: Sequence[str] = FLOATING_PREFIXES) -> None:
        super().__init__(network, ROUTER, prefixes)

    def _config(self) -> str:
        sessions = [self._session(FABRIC, server, ASN, hold_time=FABRIC_HOLD_TIME) for server in ROUTE_SERVERS]
        ways = [f'route {node.ipv6}/128 via "{node.name}";' for node in NODES]
        return self._globals(ways) + "".join(sessions)


_EXPORT = "export where source = RTS_BGP;"


def router_id(host: str) -> str:
    return f"10.0.34.{(ROUTER, *(each.name for each in HOSTS)).index(host) + 1}"
