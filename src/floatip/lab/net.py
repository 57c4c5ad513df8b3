"""The guide's network in namespaces, and what can go wrong in it.

As on Linode no two hosts share a layer 2: each has a link of its own to the router, which answers every ARP request
for them (proxy ARP) and forwards by its own table. What the fabric installs there moves the traffic, nothing else.
A fault drops packets and never touches a link: a crashed host on a cloud is silent, nobody sees its carrier go.
No namespace has a name: they are descriptors of this process and end with it. Nothing here is asynchronous.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
from pyroute2.netlink.rtnl.iprsocket import MarshalRtnl

from floatip.core.events import Address


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    ipv6: IPv6Address
    ipv4: IPv4Interface | None = None

    @property
    def addresses(self) -> list[Address]:
        return [self.ipv6] if self.ipv4 is None else [self.ipv6, self.ipv4.ip]


HAPROXY1 = Host("haproxy1", IPv6Address("2600:3c03:0:1::1"), IPv4Interface("192.168.143.227/17"))
HAPROXY2 = Host("haproxy2", IPv6Address("2600:3c03:0:1::2"), IPv4Interface("192.168.143.241/17"))
OBSERVER = Host("haproxy3", IPv6Address("2600:3c03:0:1::3"), IPv4Interface("192.168.209.244/17"))
NODES = (HAPROXY1, HAPROXY2)
ROUTE_SERVERS = tuple(Host(f"rs{n}", IPv6Address(f"2600:3c0f:6:34::{n}")) for n in range(1, 5))
HOSTS = (*NODES, OBSERVER, *ROUTE_SERVERS)
FLOATING = IPv4Interface("192.168.223.158/32")

ROUTER = "router"
FABRIC = IPv6Address("2600:3c0f:6:34::f")
"""The router's own address: where the route servers reach the fabric."""
GATEWAY = IPv4Address("192.168.128.1")
LINK_LOCAL = "fe80::1"
ROUTER_MAC = "02:00:00:00:00:01"
SUBNET = IPv4Network("192.168.128.0/17")
NODE_SUBNET = IPv6Network("2600:3c03:0:1::/64")

CLONE_NEWNET = 0x40000000
MAIN_TABLE = 254
IFA_F_TENTATIVE = 0x40
USABLE_WITHIN = 30.0
ENTERED = "FLOATIP_LAB_PID"
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab cannot run here; `hint` says what would help."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}\n  hint: {hint}")
        self.what = what
        self.hint = hint


def enter(argv: Sequence[str]) -> None:
    """Run `argv`, the current command, again where all that it makes ends with it; returns only there."""
    if ENTERED in os.environ:
        _settle()
        return
    is_root = os.geteuid() == 0
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    # Root in a container may be refused what a user is allowed.
    ways = [[], ["--user", "--map-root-user"]] if is_root else [["--user", "--map-root-user"]]
    for way in ways:
        unshare = ["unshare", *way, *namespaces, "--"]
        attempt = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
        if attempt.returncode == 0:
            # The pid stays, and by it nsenter finds the namespaces from outside.
            os.execvpe("unshare", [*unshare, *argv], os.environ | {ENTERED: str(os.getpid())})
    if not is_root and shutil.which("sudo"):
        os.execvp("sudo", ["sudo", "--", *argv])
    raise LabError(
        f"the kernel refuses network namespaces: {attempt.stderr.strip()}",
        "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1"
        " kernel.apparmor_restrict_unprivileged_userns=0",
    )


def _settle() -> None:
    # Daemons leave their sockets and pid files in /run.
    _check(_libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None), "mount a tmpfs on /run")
    # We are pid 1 here, and the kernel spares pid 1 every signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _check(result: int, what: str) -> None:
    if result != 0:
        error = os.strerror(ctypes.get_errno())
        raise LabError(
            f"cannot {what}: {error}", "run as root, or by `floatip lab`, which enters namespaces of its own"
        )


def find_program(name: str, package: str) -> str:
    # Debian keeps daemons and nft in sbin, which is not on a user's PATH.
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise LabError(f"the lab needs {name}, which is not installed", f"apt install {package}")
    return program


class Network:
    """Hosts, links and faults. A fault is in force when its method returns, and so is its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """For the files of the programs that run in the hosts; keep it short, Unix sockets end after 107 octets."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cut: set[str] = set()
        self._dropped: set[str] = set()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._namespaces: dict[str, int] = {}
        try:
            for name in (ROUTER, *(host.name for host in HOSTS)):
                self._namespaces[name] = self._new_namespace()
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for pid in self._orphans():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for fd in (*self._namespaces.values(), self._home):
            os.close(fd)
        self._processes.clear()
        self._namespaces.clear()

    def _orphans(self) -> Iterator[int]:
        """What the programs have started and left: a child of keepalived outlives it if it is very young."""
        ours = {os.fstat(fd).st_ino for fd in self._namespaces.values()}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "ns/net").stat().st_ino in ours and int(process.name) != os.getpid():
                    yield int(process.name)

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """This thread is in the host: what it starts and the sockets that it opens stay there."""
        _check(_libc.setns(self._namespaces[host], CLONE_NEWNET), f"enter the namespace of {host}")
        try:
            yield
        finally:
            _check(_libc.setns(self._home, CLONE_NEWNET), "leave a namespace")

    def run(
        self, host: str, argv: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in the host; its output is appended to `log`, or else is ours to read."""
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

    def path_of(self, host: str) -> str:
        """The host's namespace as a file, for programs that enter it by themselves."""
        return f"/proc/{os.getpid()}/fd/{self._namespaces[host]}"

    def shell_hint(self, host: str) -> str:
        """How to get a shell in the host, from outside the lab and while it stands."""
        inner = f"nsenter --net={self.path_of(host)} bash"
        outside = os.environ.get(ENTERED)
        if outside is None:
            return f"to get a shell in {host}: {inner}"
        # A user namespace of our own shows in its map: it is not the whole identity.
        mapped = "4294967295" not in Path("/proc/self/uid_map").read_text()
        user = "--user --preserve-credentials " if mapped else ""
        pid = f"--pid=/proc/{outside}/ns/pid_for_children"
        return f"to get a shell in {host}: nsenter --target {outside} {user}--mount {pid} {inner}"

    def cut(self, host: str) -> None:
        """All packets of the host vanish, both ways, and its link stays up: a crash as its neighbours see it."""
        self._cut.add(host)
        self._apply(host)

    def heal(self, host: str) -> None:
        self._cut.discard(host)
        self._apply(host)

    def cut_pair(self, one: str, other: str) -> None:
        """The two hosts lose each other; the rest of the network reaches both."""
        self._dropped |= _between(one, other)
        self._apply()

    def heal_pair(self, one: str, other: str) -> None:
        self._dropped -= _between(one, other)
        self._apply()

    def cut_vrrp(self) -> None:
        """The nodes do not hear each other's adverts any more."""
        self._dropped.add("ip protocol 112")
        self._apply()

    def heal_vrrp(self) -> None:
        self._dropped.discard("ip protocol 112")
        self._apply()

    def heal_all(self) -> None:
        hosts = list(self._cut)
        self._cut.clear()
        self._dropped.clear()
        self._apply(*hosts)

    def _apply(self, *hosts: str) -> None:
        # Ingress alone, at both ends of the link: the egress hook is younger than some kernels in use.
        dropped = [f"{match} drop" for match in sorted(self._dropped)]
        forward = _table("inet", [_chain("forward", "filter hook forward", dropped)])
        self._load(ROUTER, forward + _table("netdev", [_drop_all(host) for host in sorted(self._cut)]))
        for host in hosts:
            self._load(host, _table("netdev", [_drop_all("eth0")] if host in self._cut else []))

    def _load(self, host: str, ruleset: str) -> None:
        with self.inside(host):
            subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=ruleset, text=True, check=True)

    def _new_namespace(self) -> int:
        _check(_libc.unshare(CLONE_NEWNET), "make a network namespace")
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            _check(_libc.setns(self._home, CLONE_NEWNET), "leave a namespace")

    def _build(self) -> None:
        for name in self._namespaces:
            with self.inside(name):
                _write_sysctls(router=name == ROUTER)
        with self.inside(ROUTER), IPRoute() as ip:
            _build_router(ip)
            macs = {host.name: self._link(ip, host, number) for number, host in enumerate(HOSTS, 1)}
        for host in HOSTS:
            with self.inside(host.name), IPRoute() as ip:
                _build_host(ip, host, macs[host.name])
        for name in self._namespaces:
            with self.inside(name), IPRoute() as ip:
                _wait_until_usable(ip, name)

    def _link(self, ip: IPRoute, host: Host, number: int) -> str:
        """The host's link, seen from the router: routes to its addresses, and neighbours that never fail."""
        mac = f"02:00:00:00:01:{number:02x}"
        peer = {"ifname": "eth0", "address": mac, "net_ns_fd": self._namespaces[host.name]}
        ip.link("add", kind="veth", ifname=host.name, address=ROUTER_MAC, peer=peer)
        index = _index(ip, host.name)
        _write_sysctl(f"ipv4/neigh/{host.name}/proxy_delay", 0)
        ip.link("set", index=index, state="up")
        _add_address(ip, index, f"{LINK_LOCAL}/64")
        for address in host.addresses:
            ip.route("add", dst=f"{address}/{address.max_prefixlen}", oif=index)
            ip.neigh("add", dst=str(address), lladdr=mac, ifindex=index, state="permanent")
        return mac


def _build_router(ip: IPRoute) -> None:
    lo = _index(ip, "lo")
    ip.link("set", index=lo, state="up")
    for address in (f"{GATEWAY}/32", f"{FABRIC}/128"):
        _add_address(ip, lo, address)
    # Proxy ARP answers for what has a route. Addresses that no host has right now lead into a sink, so that the
    # observer resolves the floating IP once, whether it is announced or not. NOARP: the sink resolves nothing, and its
    # other end drops frames that are not addressed to it.
    ip.link("add", kind="veth", ifname="sink", peer={"ifname": "drain"})
    sink = _index(ip, "sink")
    ip.link("set", index=sink, arp=False, state="up")
    ip.link("set", index=_index(ip, "drain"), state="up")
    ip.route("add", dst=str(SUBNET), oif=sink)


def _build_host(ip: IPRoute, host: Host, mac: str) -> None:
    eth0 = _index(ip, "eth0")
    ip.link("set", index=_index(ip, "lo"), state="up")
    _add_address(ip, eth0, f"{host.ipv6}/128")
    if host.ipv4:
        _add_address(ip, eth0, str(host.ipv4))
    ip.link("set", index=eth0, state="up")
    ip.route("add", dst="::/0", gateway=LINK_LOCAL, oif=eth0)
    if host.ipv4:
        ip.route("add", dst="0.0.0.0/0", gateway=str(GATEWAY))
        return
    # A route server's kernel routes name the node, not the way to it: for that the nodes must look like neighbours.
    ip.route("add", dst=str(NODE_SUBNET), oif=eth0)
    for node in NODES:
        ip.neigh("add", dst=str(node.ipv6), lladdr=ROUTER_MAC, ifindex=eth0, state="permanent")


def _wait_until_usable(ip: IPRoute, host: str) -> None:
    """An IPv6 address is tentative, and nothing can bind to it, until a worker of the kernel has seen the carrier."""
    deadline = time.monotonic() + USABLE_WITHIN
    while any(address["flags"] & IFA_F_TENTATIVE for address in ip.get_addr(family=socket.AF_INET6)):
        if time.monotonic() > deadline:
            raise LabError(f"addresses of {host} stay tentative", "is the machine overloaded?")
        time.sleep(0.002)


def _index(ip: IPRoute, interface: str) -> int:
    (index,) = ip.link_lookup(ifname=interface)
    return int(index)


def _add_address(ip: IPRoute, index: int, address: str) -> None:
    address, _, length = address.partition("/")
    ip.addr("add", index=index, address=address, prefixlen=int(length))


def _write_sysctls(*, router: bool) -> None:
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


def _table(family: str, chains: list[str]) -> str:
    # nft takes its input as one transaction, so the table is replaced at once, whatever was there.
    table = f"table {family} lab"
    return "\n".join([table, f"delete {table}", f"{table} {{", *chains, "}", ""])


def _drop_all(interface: str) -> str:
    return _chain(interface, f'filter hook ingress device "{interface}"', ["drop"])


def _chain(name: str, hook: str, rules: list[str]) -> str:
    return "\n".join([f"chain {name} {{", f"type {hook} priority 0", *rules, "}"])


def _between(one: str, other: str) -> set[str]:
    # The router's end of a link has the name of the host.
    return {f'iifname "{a}" oifname "{b}"' for a, b in ((one, other), (other, one))}


@dataclass(frozen=True, slots=True)
class Move:
    """From this instant (monotonic) the prefix had this next hop; None: no route."""

    at: float
    next_hop: Address | None


class RouteWatch:
    """Where a host's main table points for a prefix, and since when: the kernel tells a thread of its own."""

    def __init__(self, network: Network, host: str, prefix: str) -> None:
        self._prefix, length = prefix.split("/")
        self._length = int(length)
        self._condition = Condition()
        self._closing = Event()
        with network.inside(host):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.bind((0, RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE))
            self._socket.settimeout(0.1)  # netlink knows no shutdown() that would end the thread's recv
            with IPRoute() as ip:
                found = [route for route in ip.get_routes(table=MAIN_TABLE) if self._concerns(route)]
        self.moves = [Move(time.monotonic(), _next_hop(found[0]) if found else None)]
        self._thread = Thread(target=self._listen, name=f"routes of {host}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def next_hop(self) -> Address | None:
        return self.moves[-1].next_hop

    def wait_for(self, next_hop: Address | None, timeout: float) -> float | None:
        """Since when the prefix has had this next hop; None when it has not after `timeout` seconds."""
        with self._condition:
            arrived = self._condition.wait_for(lambda: self.next_hop == next_hop, timeout)
            return self.moves[-1].at if arrived else None

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        marshal = MarshalRtnl()
        while not self._closing.is_set():
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            for message in marshal.parse(data):
                if self._concerns(message):
                    self._moved(Move(now, _next_hop(message) if message["event"] == "RTM_NEWROUTE" else None))

    def _moved(self, move: Move) -> None:
        with self._condition:
            if move.next_hop != self.next_hop:
                self.moves.append(move)
                self._condition.notify_all()

    def _concerns(self, route: Any) -> bool:
        found = route.get_attr("RTA_DST"), route["dst_len"], route.get_attr("RTA_TABLE")
        return found == (self._prefix, self._length, MAIN_TABLE)


def _next_hop(route: Any) -> Address | None:
    via = route.get_attr("RTA_VIA")
    gateway = via["addr"] if via else route.get_attr("RTA_GATEWAY")
    return ip_address(gateway) if gateway else None
