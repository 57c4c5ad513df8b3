"""The guide's network: haproxy1, haproxy2, an observer, four route servers, and the router between them all.

As on Linode no two hosts share a layer 2: each has a link of its own to the router, which answers every ARP request
for them (proxy ARP) and forwards by its own table. What the fabric installs there moves the traffic, nothing else.
Nothing here is asynchronous.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from floatip.core.addresses import Address
from floatip.lab.faults import Faults
from floatip.lab.namespaces import Closes, LabError, Namespace


@dataclass(frozen=True, slots=True)
class LabHost:
    name: str
    ipv6: IPv6Address
    ipv4: IPv4Interface | None = None

    @property
    def addresses(self) -> list[Address]:
        return [self.ipv6] if self.ipv4 is None else [self.ipv6, self.ipv4.ip]


HAPROXY1 = LabHost("haproxy1", IPv6Address("2600:3c03:0:1::1"), IPv4Interface("192.168.143.227/17"))
HAPROXY2 = LabHost("haproxy2", IPv6Address("2600:3c03:0:1::2"), IPv4Interface("192.168.143.241/17"))
OBSERVER = LabHost("haproxy3", IPv6Address("2600:3c03:0:1::3"), IPv4Interface("192.168.209.244/17"))
NODES = (HAPROXY1, HAPROXY2)
ROUTE_SERVERS = tuple(LabHost(f"rs{n}", IPv6Address(f"2600:3c0f:6:34::{n}")) for n in range(1, 5))
HOSTS = (*NODES, OBSERVER, *ROUTE_SERVERS)
FLOATING = IPv4Interface("192.168.223.158/32")

ROUTER = "router"
GATEWAY = IPv4Address("192.168.128.1")
LINK_LOCAL = "fe80::1"
ROUTER_MAC = "02:00:00:00:00:01"
SUBNET = IPv4Network("192.168.128.0/17")
NODE_SUBNET = IPv6Network("2600:3c03:0:1::/64")

ROUTER_LINES = f"""\
link set lo up
address add {GATEWAY}/32 dev lo
link add sink type veth peer name drain
link set sink arp off up
link set drain up
route add {SUBNET} dev sink
"""
"""Proxy ARP answers for what has a route. Addresses that no host has right now lead into a sink, so that the observer
resolves the floating IP once, whether it is announced or not. Without ARP the sink resolves nothing, and its other end
drops frames that are not addressed to it.
"""

SYSCTLS = {
    f"{name}/conf/{which}/{key}": 0
    for name, key in (("ipv6", "accept_dad"), ("ipv4", "rp_filter"))
    for which in ("all", "default")
}
ROUTER_SYSCTLS = {
    "ipv4/ip_forward": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv4/conf/all/proxy_arp": 1,
}
HOST_SYSCTLS = {
    "ipv4/conf/all/arp_ignore": 1,  # as `floatip check` advises
    # A connection that the move tears must be reset, to be told apart from a loss. A node that remembers one of a
    # minute ago from the same port answers with an acknowledgement instead, and it times out.
    "ipv4/tcp_max_tw_buckets": 0,
}
IFA_F_TENTATIVE = 0x40
USABLE_WITHIN = 30.0


class Network(Closes):
    """Built when it is made. `faults` is what can go wrong in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """For the files of the programs. Keep it short: the path of a Unix socket has at most 107 octets."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._namespaces: dict[str, Namespace] = {}
        try:
            for name in (ROUTER, *(host.name for host in HOSTS)):
                self._namespaces[name] = Namespace()
            self.faults = Faults(self._namespaces[ROUTER])
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for namespace in self._namespaces.values():
            # What the programs started and left: a young child of keepalived outlives it.
            for pid in namespace.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for namespace in self._namespaces.values():
            namespace.close()
        self._processes.clear()
        self._namespaces.clear()

    def inside(self, host: str) -> AbstractContextManager[None]:
        """This thread is in the host: what it starts and the sockets that it opens stay there."""
        return self._namespaces[host].inside()

    def path_of(self, host: str) -> str:
        """The host's network namespace as a file, for programs that enter it themselves."""
        return self._namespaces[host].path

    def run(
        self, host: str, argv: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in the host; its output is appended to `log`, or without one the caller reads it."""
        output = log.open("ab") if log else subprocess.PIPE
        with self.inside(host):
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        if not isinstance(output, int):
            output.close()
        self._processes.append(process)
        return process

    def output(self, host: str, *argv: str, text: str = "") -> str:
        """What a command in the host says, once it has ended well; `text`: its input."""
        with self.inside(host):
            return subprocess.run(argv, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout

    def _build(self) -> None:
        for name in self._namespaces:
            self._write(name, SYSCTLS | (ROUTER_SYSCTLS if name == ROUTER else HOST_SYSCTLS))
        self._ip(ROUTER, ROUTER_LINES, *(self._link(host, number) for number, host in enumerate(HOSTS, 1)))
        for host in HOSTS:
            self._write(ROUTER, {f"ipv4/neigh/{host.name}/proxy_delay": 0})
            self._ip(host.name, _host_lines(host))
        for name in self._namespaces:
            self._wait_until_usable(name)

    def _ip(self, host: str, *lines: str) -> None:
        """One command a line."""
        self.output(host, "ip", "-batch", "-", text="\n".join(lines))

    def _link(self, host: LabHost, number: int) -> str:
        """The host's link, seen from the router: routes to its addresses, and neighbours that never fail."""
        mac = f"02:00:00:00:01:{number:02x}"
        peer = f"peer name eth0 address {mac} netns {self.path_of(host.name)}"
        lines = [
            f"link add {host.name} address {ROUTER_MAC} type veth {peer}",
            f"link set {host.name} up",
            f"address add {LINK_LOCAL}/64 dev {host.name}",
        ]
        for address in host.addresses:
            lines.append(f"route add {address} dev {host.name}")
            lines.append(f"neighbour add {address} lladdr {mac} dev {host.name} nud permanent")
        return "\n".join(lines)

    def _write(self, host: str, sysctls: Mapping[str, int]) -> None:
        with self.inside(host):
            for name, value in sysctls.items():
                Path("/proc/sys/net", name).write_text(str(value))

    def _wait_until_usable(self, host: str) -> None:
        """Nothing can bind to a tentative IPv6 address: all are until a worker of the kernel has seen the carrier."""
        deadline = time.monotonic() + USABLE_WITHIN
        with self.inside(host):
            while _has_tentative_address():
                if time.monotonic() > deadline:
                    raise LabError(f"addresses of {host} stay tentative", "try again when the machine is less busy")
                time.sleep(0.002)


def _has_tentative_address() -> bool:
    # Columns: address, interface index, prefix length, scope, flags, name.
    addresses = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    return any(int(line.split()[4], 16) & IFA_F_TENTATIVE for line in addresses)


def _host_lines(host: LabHost) -> str:
    lines = ["link set lo up", f"address add {host.ipv6}/128 dev eth0"]
    lines += [f"address add {host.ipv4} dev eth0"] if host.ipv4 else []
    lines += ["link set eth0 up", f"route add ::/0 via {LINK_LOCAL} dev eth0"]
    if host.ipv4:
        lines.append(f"route add 0.0.0.0/0 via {GATEWAY}")
    else:
        # A route server's kernel routes name the node, not the way to it: for that the nodes must look like neighbours.
        lines.append(f"route add {NODE_SUBNET} dev eth0")
        lines += [f"neighbour add {node.ipv6} lladdr {ROUTER_MAC} dev eth0 nud permanent" for node in NODES]
    return "\n".join(lines)


def router_id(host: str) -> str:
    return f"10.0.34.{(ROUTER, *(each.name for each in HOSTS)).index(host) + 1}"
