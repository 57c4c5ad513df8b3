"""Two network namespaces with a cable between them, and whether the kernel lets a packet through: the truth that the
evaluator of firewalls is compared with.

A packet that does not arrive is not waited for. What is sent on one end of the cable arrives in order, so when a frame
that no firewall sees has arrived behind it, whatever becomes of the packet has become of it.
"""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address

from floatip.doctor.firewall.packet import ICMP6, TCP, UDP, VRRP, Packet
from floatip.lab.namespaces import Namespace

NODE, PEER, STRANGER = "10.9.0.1", "10.9.0.2", "10.9.0.3"
NODE6, PEER6 = "fd00:9::1", "fd00:9::2"
INTERFACE = "eth0"
ETH_P_ALL, SENTINEL = 3, 0x88B5
"""IEEE Std 802 local experimental ethertype 1."""
PATIENCE = 10.0
NETLINK_NETFILTER, CT_DELETE = 12, 1 << 8 | 2
LINK, BGP = 9112, 179


def sh(command: str, text: str = "") -> str:
    done = subprocess.run(["sh", "-ec", command], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{text}"
    return done.stdout


class Cable:
    """`node` has the firewall."""

    def __init__(self) -> None:
        self.node, self.peer = Namespace(), Namespace()
        # Both ends of a packet are worked off on the CPU of the thread that sends it.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        with self.node.inside():
            sh(f"ip link set lo up; ip link add {INTERFACE} type veth peer name eth0 netns {self.peer.path}")
            sh(f"ip address add {NODE}/24 dev {INTERFACE}; ip address add {NODE6}/64 dev {INTERFACE} nodad")
            sh(f"ip link set {INTERFACE} up; ip route add default via {PEER}")
            self._taps = [_tap(INTERFACE)]
        with self.peer.inside():
            sh("ip link set lo up")
            sh(f"ip address add {PEER}/24 dev eth0; ip address add {STRANGER}/24 dev eth0")
            sh(f"ip address add {PEER6}/64 dev eth0 nodad; ip link set eth0 up")
            self._taps.append(_tap("eth0"))
        self._know_each_other()

    def _know_each_other(self) -> None:
        """Permanent neighbours: neither ARP nor neighbour discovery is in the way of a firewall's drops."""
        macs = []
        for namespace in (self.node, self.peer):
            with namespace.inside():
                macs.append(_mac("eth0"))
        with self.node.inside():
            for address in (PEER, STRANGER, PEER6):
                sh(f"ip neigh replace {address} lladdr {macs[1]} dev eth0 nud permanent")
        with self.peer.inside():
            for address in (NODE, NODE6):
                sh(f"ip neigh replace {address} lladdr {macs[0]} dev eth0 nud permanent")

    def close(self) -> None:
        for tap in self._taps:
            tap.close()
        self.node.close()
        self.peer.close()

    def passes(self, packet: Packet, *, forget: bool = True) -> bool:
        """Whether the kernel of the node lets it in, or out; with `forget` no connection is known before."""
        if forget:
            with self.node.inside():
                forget_connections()
        if packet.protocol == UDP:
            return self._udp(packet)
        if packet.protocol == TCP:
            return self._tcp(packet)
        return self._raw(packet)

    def _ends(self, packet: Packet) -> tuple[Namespace, Namespace]:
        return (self.peer, self.node) if packet.direction == "in" else (self.node, self.peer)

    def _udp(self, packet: Packet) -> bool:
        begin, end = self._ends(packet)
        with end.inside():
            receiver = _bound(packet, socket.SOCK_DGRAM, packet.target, packet.target_port or 0)
        with begin.inside():
            sender = _bound(packet, socket.SOCK_DGRAM, packet.source, packet.source_port or 0)
        with receiver, sender:
            with suppress(OSError):  # EPERM: the firewall drops it on its way out
                sender.sendto(b"probe", (str(packet.target), packet.target_port or 0))
            self._settle(packet)
            return _has(receiver)

    def _raw(self, packet: Packet) -> bool:
        begin, end = self._ends(packet)
        with end.inside():
            receiver = socket.socket(_family(packet), socket.SOCK_RAW | socket.SOCK_NONBLOCK, packet.protocol)
        with begin.inside():
            sender = _bound(packet, socket.SOCK_RAW, packet.source, 0, packet.protocol)
        with receiver, sender:
            data = b"\x21\x33\x64\x01" + bytes(12)
            if packet.protocol == ICMP6:
                data = struct.pack("!BBHI", packet.icmp_type or 0, 0, 0, 0x60000000) + packet.source.packed
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            with suppress(OSError):
                sender.sendto(data, (str(packet.target), 0))
            self._settle(packet)
            return _has(receiver)

    def _tcp(self, packet: Packet) -> bool:
        """A SYN: whether it arrives. An answer: whether the connection opens."""
        is_answer = packet.state == "established"
        begin, end = self._ends(packet)
        client, server = (end, begin) if is_answer else (begin, end)
        source, target = (packet.target, packet.source) if is_answer else (packet.source, packet.target)
        port = (packet.source_port if is_answer else packet.target_port) or 0
        with server.inside():
            listener = _bound(packet, socket.SOCK_STREAM, target, port)
            listener.listen()
            watch = _tap("eth0")
        with client.inside():
            dialling = _bound(packet, socket.SOCK_STREAM, source, 0)
        with listener, dialling, watch:
            with suppress(OSError):
                dialling.connect((str(target), port))
            self._settle(packet)
            if is_answer:
                self._settle(packet)
                return _connected(dialling)
            return _saw_syn(watch, port)

    def _settle(self, packet: Packet) -> None:
        """Until a frame that is sent now has arrived: in both directions, for answers."""
        for which in (0, 1) if packet.direction == "out" else (1, 0):
            sender, receiver = self._taps[which], self._taps[1 - which]
            token = os.urandom(16)
            sender.send(b"\xff" * 6 + b"\2\0\0\0\0\1" + struct.pack("!H", SENTINEL) + token)
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    if token in receiver.recv(2048):
                        break
                except BlockingIOError:
                    assert time.monotonic() < deadline, "the cable is broken"
                    time.sleep(0.001)


def forget_connections() -> None:
    """Of this namespace: IPCTNL_MSG_CT_DELETE of all (linux/netfilter/nfnetlink_conntrack.h)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.send(struct.pack("=IHHIIBBH", 20, CT_DELETE, 0x05, 1, 0, 0, 0, 0))
        answer = netlink.recv(4096)
    (error,) = struct.unpack_from("=i", answer, 16)
    assert error in (0, -2, -22), os.strerror(-error)  # nothing is tracked here yet


def _mac(interface: str) -> str:
    words = sh(f"ip -o link show {interface}").split()
    return words[words.index("link/ether") + 1]


def _tap(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
    tap.bind((interface, ETH_P_ALL))
    return tap


def _family(packet: Packet) -> int:
    return socket.AF_INET if packet.version == 4 else socket.AF_INET6


def _bound(packet: Packet, kind: int, address: object, port: int, protocol: int = 0) -> socket.socket:
    made = socket.socket(_family(packet), kind | socket.SOCK_NONBLOCK, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not ip_address(str(address)).is_multicast:
        made.bind((str(address), port))
    return made


def _has(receiver: socket.socket) -> bool:
    with suppress(BlockingIOError):
        receiver.recv(2048)
        return True
    return False


def _connected(dialling: socket.socket) -> bool:
    with suppress(OSError):
        dialling.getpeername()
        return dialling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    return False


def _saw_syn(watch: socket.socket, port: int) -> bool:
    """A SYN to the port arrived, whatever became of it there."""
    while True:
        try:
            frame = watch.recv(2048)
        except BlockingIOError:
            return False
        (kind,) = struct.unpack_from("!H", frame, 12)
        at = 14 + (20 if kind == 0x0800 else 40)
        if kind in (0x0800, 0x86DD) and len(frame) >= at + 14:
            protocol = frame[23] if kind == 0x0800 else frame[20]
            if protocol == TCP and struct.unpack_from("!H", frame, at + 2)[0] == port and frame[at + 13] & 0x12 == 2:
                return True


def probes() -> dict[str, Packet]:
    """What floatip needs, and what a firewall should keep out."""
    node, peer, stranger = map(ip_address, (NODE, PEER, STRANGER))
    node6, peer6 = map(ip_address, (NODE6, PEER6))
    syn, answer = frozenset({"syn"}), frozenset({"syn", "ack"})
    return {
        "link in": Packet("in", peer, node, UDP, INTERFACE, LINK, LINK, way_back=INTERFACE),
        "link out": Packet("out", node, peer, UDP, INTERFACE, LINK, LINK),
        "link of a stranger": Packet("in", stranger, node, UDP, INTERFACE, LINK, LINK, way_back=INTERFACE),
        "VRRP in": Packet("in", peer, node, VRRP, INTERFACE, way_back=INTERFACE),
        "VRRP out": Packet("out", node, peer, VRRP, INTERFACE),
        "BGP out": Packet("out", node6, peer6, TCP, INTERFACE, 40000, BGP, flags=syn),
        "BGP answer": Packet("in", peer6, node6, TCP, INTERFACE, BGP, 40000, "established", answer, way_back=INTERFACE),
        "IPv6 link in": Packet("in", peer6, node6, UDP, INTERFACE, LINK, LINK, way_back=INTERFACE),
        "neighbour discovery": Packet(
            "in", peer6, node6, ICMP6, INTERFACE, state="untracked", icmp_type=136, way_back=INTERFACE, ttl=255
        ),
    }


@contextmanager
def cable() -> Iterator[Cable]:
    affinity = os.sched_getaffinity(0)
    made = Cable()
    try:
        yield made
    finally:
        made.close()
        os.sched_setaffinity(0, affinity)
