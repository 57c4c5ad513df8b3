"""The guide's network: haproxy1, haproxy2, an observer, four route servers, and the router between them all. A third
node, haproxy4, is there for the scenes that play with three; the three members of etcd are guests.

As on Linode no two hosts share a layer 2: each has a link of its own to the router, which answers every ARP request
for them (proxy ARP) and forwards by its own table. What the fabric installs there moves the traffic, nothing else.
Nothing here is asynchronous.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from floatip.core.addresses import Address
from floatip.lab.cable import CARRIES
from floatip.lab.faults import Faults
from floatip.lab.namespaces import Closes, LabError, Namespace, find_program


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
HAPROXY4 = LabHost("haproxy4", IPv6Address("2600:3c03:0:1::4"), IPv4Interface("192.168.143.242/17"))
NODES = (HAPROXY1, HAPROXY2)
THREE_NODES = (*NODES, HAPROXY4)
WITNESSES = tuple(
    LabHost(f"etcd{n}", IPv6Address(f"2600:3c03:0:1::e{n}"), IPv4Interface(f"192.168.143.{200 + n}/17"))
    for n in (1, 2, 3)
)
"""The members of etcd, for the scenes that have it."""
ROUTE_SERVERS = tuple(LabHost(f"rs{n}", IPv6Address(f"2600:3c0f:6:34::{n}")) for n in range(1, 5))
HOSTS = (*NODES, OBSERVER, *ROUTE_SERVERS, HAPROXY4)
FLOATING = IPv4Interface("192.168.223.158/32")


def floating(instances: int) -> list[IPv4Interface]:
    """One for each of so many instances."""
    return [IPv4Interface(f"{FLOATING.ip + number}/32") for number in range(instances)]


ROUTER = "router"
CABLE, NEAR, FAR = "cable", "near", "far"
"""Where a delay is, and its ends at the router and at the observer."""
FABRIC = IPv6Address("2600:3c0f:6:34::f")
"""The router's own address: where the route servers reach the fabric."""
GATEWAY = IPv4Address("192.168.128.1")
LINK_LOCAL = "fe80::1"
ROUTER_MAC = "02:00:00:00:00:01"
SUBNET = IPv4Network("192.168.128.0/17")
NODE_SUBNET = IPv6Network("2600:3c03:0:1::/64")

USABLE_WITHIN = 30.0


class Hosts(Closes):
    """Namespaces by name, and what runs in them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """For the files of the programs. Keep it short: the path of a Unix socket has at most 107 octets."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._namespaces: dict[str, Namespace] = {}

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

    def __contains__(self, host: str) -> bool:
        return host in self._namespaces

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

    def ip(self, host: str, lines: Iterable[str]) -> None:
        """Commands of ip(8), run in the host."""
        with self.inside(host):
            subprocess.run(
                [find_program("ip", "iproute2"), "-batch", "-"], input="\n".join(lines), text=True, check=True
            )


class Network(Hosts):
    """Built when it is made. `faults` is what can go wrong in it."""

    filtered_as = "inet"
    """nftables' family of what the router forwards."""

    def __init__(self, directory: Path, guests: Sequence[LabHost] = (), delay: float = 0.0) -> None:
        """`guests`: hosts beside the guide's. `delay`: seconds from the observer to the router, and back."""
        super().__init__(directory)
        self._hosts = (*HOSTS, *guests)
        self._delay = delay
        self.cable: subprocess.Popen[bytes] | None = None
        """What carries frames between the two, if that takes time."""
        try:
            for name in (ROUTER, *(host.name for host in self._hosts), *([CABLE] if delay else [])):
                self._namespaces[name] = Namespace()
            self.faults = Faults(self._namespaces[ROUTER], self._namespaces, self.filtered_as)
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for name in self._namespaces:
            with self.inside(name):
                write_sysctls(router=name == ROUTER)
        links = [line for number, host in enumerate(self._hosts, 1) for line in self._link(host, number)]
        self.ip(ROUTER, [*BUILD_ROUTER, *links])
        with self.inside(ROUTER):
            for host in self._hosts:
                _write_sysctl(f"ipv4/neigh/{host.name}/proxy_delay", 0)
        if self._delay:
            self._lay_cable(_mac(self._hosts.index(OBSERVER) + 1))
        for host in self._hosts:
            self.ip(host.name, _build_host(host, self._hosts))
        for name in self._namespaces:
            with self.inside(name):
                wait_until_usable(name)

    def _link(self, host: LabHost, number: int) -> Iterator[str]:
        """The host's link, seen from the router: routes to its addresses, and neighbours that never fail."""
        mac = _mac(number)
        yield f"link add {host.name} address {ROUTER_MAC} type veth peer {self._peer(host.name, mac)}"
        yield f"link set {host.name} up"
        yield f"address add {LINK_LOCAL}/64 dev {host.name}"
        for address in host.addresses:
            yield f"route add {address} dev {host.name}"
            yield f"neigh add {address} lladdr {mac} dev {host.name} nud permanent"

    def drop_spoofed(self) -> None:
        """From now on the router drops IPv4 packets that come from elsewhere than it would send their answers to."""
        with self.inside(ROUTER):
            for host in self._hosts:
                _write_sysctl(f"ipv4/conf/{host.name}/rp_filter", 1)

    def _peer(self, host: str, mac: str) -> str:
        """The other end of the router's link: the host's, or that of the cable to it."""
        if host == OBSERVER.name and self._delay:
            return f"name {NEAR} netns {self.path_of(CABLE)}"
        return f"name eth0 address {mac} netns {self.path_of(host)}"

    def _lay_cable(self, mac: str) -> None:
        """From the router's link to the observer. Returns when it carries."""
        with self.inside(CABLE):
            for which in ("all", "default"):
                _write_sysctl(f"ipv6/conf/{which}/disable_ipv6", 1)  # it must not say anything of its own
        peer = f"name eth0 address {mac} netns {self.path_of(OBSERVER.name)}"
        self.ip(CABLE, [f"link add {FAR} type veth peer {peer}", f"link set {FAR} up", f"link set {NEAR} up"])
        module, log = [sys.executable, "-m", "floatip.lab.cable"], self.directory / "cable.log"
        self.cable = self.run(CABLE, [*module, str(self._delay), NEAR, FAR], log=log)
        deadline = time.monotonic() + USABLE_WITHIN
        while log.read_text() != CARRIES:
            if self.cable.poll() is not None or time.monotonic() > deadline:
                raise LabError("the cable with a delay does not carry", f"its log:\n{log.read_text()[-1500:]}")
            time.sleep(0.005)


def _mac(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


# Proxy ARP answers for what has a route. Addresses that no host has right now lead into a sink, so that the observer
# resolves the floating IP once, whether it is announced or not. NOARP: the sink resolves nothing, and its other end
# drops frames that are not addressed to it.
BUILD_ROUTER = (
    "link set lo up",
    f"address add {GATEWAY}/32 dev lo",
    f"address add {FABRIC}/128 dev lo",
    "link add sink type veth peer name drain",
    "link set sink arp off up",
    "link set drain up",
    f"route add {SUBNET} dev sink",
)


def _build_host(host: LabHost, hosts: Iterable[LabHost]) -> Iterator[str]:
    yield "link set lo up"
    yield f"address add {host.ipv6}/128 dev eth0"
    if host.ipv4:
        yield f"address add {host.ipv4} dev eth0"
    yield "link set eth0 up"
    yield f"route add default via {LINK_LOCAL} dev eth0"
    if host.ipv4:
        yield f"route add default via {GATEWAY}"
        return
    # A route server's kernel routes name the node, not the way to it: for that the nodes must look like neighbours.
    yield f"route add {NODE_SUBNET} dev eth0"
    for node in hosts:
        if node.ipv6 not in NODE_SUBNET:
            continue
        yield f"neigh add {node.ipv6} lladdr {ROUTER_MAC} dev eth0 nud permanent"


def wait_until_usable(host: str) -> None:
    """An IPv6 address is tentative, and nothing can bind to it, until a worker of the kernel has seen the carrier."""
    deadline = time.monotonic() + USABLE_WITHIN
    while subprocess.run(["ip", "-6", "address", "show", "tentative"], stdout=subprocess.PIPE, check=True).stdout:
        if time.monotonic() > deadline:
            raise LabError(f"addresses of {host} stay tentative", "try again when the machine is less busy")
        time.sleep(0.002)


def write_sysctls(*, router: bool) -> None:
    values = {"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0}
    values |= {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0}
    if router:
        values |= {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}
        values["ipv4/conf/all/proxy_arp"] = 1
    else:
        values["ipv4/conf/all/arp_ignore"] = 1  # as `floatip check` advises
        # A connection that the move tears must be reset, to be told apart from a loss. A node that remembers one of a
        # minute ago from the same port answers with an acknowledgement instead, and it times out.
        values["ipv4/tcp_max_tw_buckets"] = 0
    for name, value in values.items():
        _write_sysctl(name, value)


def _write_sysctl(name: str, value: int) -> None:
    Path("/proc/sys/net", name).write_text(str(value))


def router_id(host: str) -> str:
    return f"10.0.34.{(ROUTER, *(each.name for each in HOSTS)).index(host) + 1}"
