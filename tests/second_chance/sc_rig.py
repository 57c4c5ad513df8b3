"""A client, a router with a strict reverse path, and the nodes a, b and c, each on a link of its own, as in the lab.

The floating addresses are on `lo` of every node. The router's route decides which one has the traffic.
"""

import array
import contextlib
import fcntl
import hashlib
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from floatip.core.addresses import Address
from floatip.core.second_chance.flow import Flow
from floatip.lab.namespaces import Namespace, find_program
from floatip.lab.network import Hosts, wait_until_usable
from floatip.second_chance.rules import Rules
from floatip.second_chance.sockets import listed
from floatip.second_chance.surroundings import Surroundings
from floatip.second_chance.tunnel import Node, Tunnel

PORT, VNI, TIMEOUT = 8473, 241, 60.0
SERVICE = 7000
VIP4, VIP6 = ip_address("192.168.223.158"), ip_address("2001:db8:ff::158")
VIPS = (VIP4, VIP6)
LINKS = {"client": 9, "a": 1, "b": 2, "c": 3}
"""The number of each host's network at the router."""
NODES = ("a", "b", "c")
STRICT = """
table inet strict {
  chain pre {
    type filter hook prerouting priority raw;
    ip6 saddr fe80::/10 accept
    ip6 saddr ff00::/8 accept
    ip6 saddr :: accept
    fib saddr . iif oif missing counter drop
  }
}
"""
PATIENCE = 20.0
"""Seconds that a busy machine may take for anything."""
SIOCETHTOOL = 0x8946
OFFLOADS = (0x17, 0x15, 0x1F, 0x24, 0x2C)
"""ETHTOOL_SRXCSUM, STXCSUM, STSO, SGSO, SGRO."""


def address4(host: str, number: int = 1) -> Address:
    return ip_address(f"10.0.{LINKS[host]}.{number}")


def address6(host: str, number: int = 1) -> Address:
    return ip_address(f"2001:db8:{LINKS[host]}::{number}")


def vip(version: int) -> Address:
    return VIP4 if version == 4 else VIP6


class World(Hosts):
    """Built when it is made."""

    def __init__(
        self, directory: Path, *, real_packets: bool = True, hosts: Sequence[str] = ("client", "a", "b")
    ) -> None:
        """`real_packets`: no larger ones than the wire has, as on a machine with a card."""
        super().__init__(directory)
        self.opened: list[socket.socket] = []
        """Closed with it."""
        try:
            for name in ("router", *hosts):
                self._namespaces[name] = Namespace()
            self._build(hosts)
            if real_packets:
                for name in hosts:
                    for host, device in ((name, "eth0"), ("router", name)):
                        with self.inside(host):
                            no_offloads(device)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for each in self.opened:
            each.close()
        super().close()

    def _build(self, hosts: Sequence[str]) -> None:
        with self.inside("router"):
            write(("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1), ("ipv4/conf/all/rp_filter", 0))
            write(("ipv6/conf/default/accept_dad", 0))
        lines = ["link set lo up"]
        for name in hosts:
            peer = f"name eth0 netns {self.path_of(name)}"
            lines += [
                f"link add name {name} type veth peer {peer}",
                f"link set dev {name} up",
                f"address add {address4(name, 254)}/24 dev {name}",
                f"address add {address6(name, 254)}/64 dev {name} nodad",
            ]
        self.ip("router", lines)
        for name in hosts:
            with self.inside(name):
                write(("ipv6/conf/eth0/accept_dad", 0), ("ipv4/tcp_max_tw_buckets", 0))
                write(*((f"ipv4/conf/{each}/rp_filter", 0) for each in ("all", "default", "eth0")))
            floating = [f"address add {VIP4}/32 dev lo", f"address add {VIP6}/128 dev lo nodad"]
            lines = [
                "link set lo up",
                "link set eth0 up",
                f"address add {address4(name)}/24 dev eth0",
                f"address add {address6(name)}/64 dev eth0 nodad",
                f"route add default via {address4(name, 254)}",
                f"route add default via {address6(name, 254)}",
                *(floating if name in NODES else []),
            ]
            self.ip(name, lines)
        with self.inside("router"):
            nft(STRICT)
        for name in ("router", *hosts):
            with self.inside(name):
                wait_until_usable(name)
        self.route("a")

    def route(self, node: str) -> None:
        """The traffic of the floating addresses goes there."""
        replace = [f"route replace {VIP4}/32 via {address4(node)}", f"route replace {VIP6}/128 via {address6(node)}"]
        self.ip("router", replace)

    def wait(self, host: str, until: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        with self.inside(host):
            while not until():
                assert time.monotonic() < deadline, what
                time.sleep(0.01)


def write(*values: tuple[str, int]) -> None:
    for name, value in values:
        Path("/proc/sys/net", name).write_text(str(value))


def nft(text: str) -> str:
    return subprocess.run(
        [find_program("nft", "nftables"), "-f", "-"], input=text, text=True, check=True, capture_output=True
    ).stdout


def no_offloads(device: str) -> None:
    with socket.socket() as any_socket:
        for command in OFFLOADS:
            value = array.array("B", struct.pack("=II", command, 0))
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0])
            with contextlib.suppress(OSError):  # one that the device never has
                fcntl.ioctl(any_socket, SIOCETHTOOL, request)


class Service:
    """Says the node's name, then does as the first octet asks: echo, take an upload, or give a download."""

    def __init__(self, world: World, node: str, port: int = SERVICE) -> None:
        self._name = node.encode()
        with world.inside(node):
            self._listening = socket.socket(socket.AF_INET6)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("::", port))
        self._listening.listen(1000)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(self._name)
            kind = connection.recv(1)
            if kind == b"d":
                connection.sendall(content(int.from_bytes(exactly(connection, 4), "big")))
                connection.shutdown(socket.SHUT_WR)
            elif kind == b"u":
                digest = hashlib.sha256()
                while data := connection.recv(1 << 16):
                    digest.update(data)
                connection.sendall(digest.digest())
            while kind == b"e" and (data := connection.recv(1 << 16)):
                connection.sendall(data)
            connection.recv(1)

    def close(self) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise EOFError
        data += more
    return data


class Client:
    """A connection to the floating address."""

    def __init__(self, world: World, to: Address, kind: bytes = b"e", port: int = SERVICE, own_port: int = 0) -> None:
        family = socket.AF_INET if to.version == 4 else socket.AF_INET6
        with world.inside("client"):
            self.socket = socket.socket(family)
        world.opened.append(self.socket)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if own_port:
            self.socket.bind(("", own_port))
        self.socket.connect((str(to), port))
        self.node = self.socket.recv(1).decode()
        self.socket.sendall(kind)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def echoes(self, text: bytes = b"still there?") -> bool:
        """Raises ConnectionResetError, or TimeoutError where nothing comes back."""
        self.socket.sendall(text)
        return exactly(self.socket, len(text)) == text

    def close(self) -> None:
        self.socket.close()


@dataclass
class Floatip:
    """What a node's process of the second chance has open."""

    world: World
    name: str
    peers: tuple[str, ...]
    version: int = 4
    """Of the link."""
    may_own: bool = True
    tunnel: Tunnel = field(init=False)
    surroundings: Surroundings = field(init=False)
    rules: Rules = field(init=False)
    frames: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.inside():
            peers = [self._node(name) for name in self.peers]
            self.tunnel = Tunnel.open(self._node(self.name), peers, PORT, VNI)
            self.surroundings = Surroundings.open(self.tunnel.index)
            seen = self.surroundings.read()
            self.rules = Rules.open(self.tunnel, PORT, TIMEOUT, seen, may_own=self.may_own)
        self._is_over = threading.Event()
        self._receiving = threading.Thread(target=self._receive, daemon=True)
        self._receiving.start()

    def _node(self, name: str) -> Node:
        return Node(name, address4(name) if self.version == 4 else address6(name))

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return self.world.inside(self.name)

    def listed(self) -> frozenset[Flow]:
        with self.inside():
            return listed(VIPS).flows

    def refresh(self) -> None:
        with self.inside():
            seen = self.surroundings.read()
            self.rules.uplinks(seen.uplinks)
            self.rules.routes(seen.routes)

    def _receive(self) -> None:
        """The tunnel wants to be read."""
        while not self._is_over.is_set():
            if select.select([self.tunnel], [], [], 0.05)[0]:
                self.frames += self.tunnel.receive()

    def read_no_more(self) -> None:
        self._is_over.set()
        self._receiving.join()

    def close(self) -> None:
        self.read_no_more()
        with self.inside():
            self.rules.close()
            self.tunnel.close()
        self.surroundings.close()


def figure(of: Floatip, place: int) -> int:
    """Of the tunnel, in /proc/net/dev."""
    with of.inside():
        return int(Path("/proc/thread-self/net/dev").read_text().split("floatip-sc:")[1].split()[place])


def move(
    keeper: Floatip, carrier: Floatip, *, hold: bool = True, meanwhile: Callable[[], None] = lambda: None
) -> frozenset[Flow]:
    """The planned move of both floating addresses, as the two programs do it. Gives the connections that move.

    `meanwhile`: what happens between the list and the move.
    """
    flows = keeper.listed()
    meanwhile()
    for each in (keeper, carrier):
        with each.inside():
            each.rules.hold(VIPS if hold else ())
    with keeper.inside():
        keeper.rules.here(flows, ())
        keeper.tunnel.answer_by(dict.fromkeys(VIPS, carrier.name))
    with carrier.inside():
        carrier.rules.moved(dict.fromkeys(flows, keeper.name), ())
    keeper.world.route(carrier.name)
    return flows


@contextlib.contextmanager
def running(world: World, version: int = 4, may_own: bool = True) -> Iterator[tuple[Floatip, Floatip]]:
    """The keeper a and the carrier b, and the service on both."""
    with contextlib.ExitStack() as stack:
        for name in ("a", "b"):
            stack.callback(Service(world, name).close)
        a = Floatip(world, "a", ("b",), version, may_own)
        stack.callback(a.close)
        b = Floatip(world, "b", ("a",), version, may_own)
        stack.callback(b.close)
        yield a, b
