"""The VXLAN device between the nodes: frames of ours, packets of connections, and the way of the answers.

Every node has one device for all of its peers. A peer's MAC follows from its name. Nothing is learned or asked on the
device: the FDB says at which address of the link a MAC is, and permanent neighbours say which MAC an address has. Those
addresses mean something on this machine only, and no packet carries them: IPv4 needs one to name a next hop.
"""

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from typing import Self

from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.link.wire import identity
from floatip.rtnetlink import (
    ADDRESS,
    DELLINK,
    F_CREATE_EXCL,
    F_REPLACE,
    GETADDR,
    GETLINK,
    IFA_ADDRESS,
    IFA_F_NODAD,
    IFA_LOCAL,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_IFNAME,
    IFLA_INET_CONF,
    LINK,
    NEWADDR,
    NEWLINK,
    SETLINK,
    SO_RCVBUFFORCE,
    U32,
    AddressMessage,
    Interrupted,
    Netlink,
    attribute,
    attributes,
)
from floatip.second_chance.answers import DELRULE, PROTOCOL, rule, rules
from floatip.second_chance.cannot import Cannot
from floatip.second_chance.too_big import TooBig
from floatip.virtuals import MAIN

DEVICE = "floatip-sc"
ETHERTYPE = 0x88B5
"""IEEE 802: local experiments."""
MTU = 1500
"""Of what the device carries: connections keep their size. Outer packets of IPv4 go in fragments where they must."""
ANSWER_MTU = {4: 1450, 6: 1430}
"""Of answers, by the version of the outer packets: the keeper's kernel sends segments that need no fragments."""
BATCH = 256
RECEIVE_BUFFER = 4 << 20
"""Octets: a list of 10,000 connections comes in one burst."""
LONGEST_FRAME = 2048

OUR_ADDRESS = IPv4Address("169.254.241.1")
FIRST, LAST = 2, 254
"""The peers' numbers: 169.254.241.N."""
TABLE = 0xF1000000
"""The routing table of the peer with number N is N more."""

NEWNEIGH, DELNEIGH, GETNEIGH, NEWROUTE, NEWRULE = 28, 29, 30, 24, 32
F_CREATE, AF_BRIDGE = 0x400, 7
ATTEMPTS = 10
"""To read a table that changes meanwhile."""
IFLA_MTU, IFLA_LINKINFO, INFO_KIND, INFO_DATA = 4, 18, 1, 2
VXLAN_ID, VXLAN_LOCAL, VXLAN_TTL, VXLAN_LEARNING, VXLAN_PORT, VXLAN_LOCAL6 = 1, 4, 5, 7, 15, 17
CONF_RP_FILTER, LOOSE = 8, 2
INET6_ADDR_GEN_MODE, NO_ADDRESS = 8, 1
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT, NUD_NOARP, NTF_SELF = 0x80, 0x40, 0x02
NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, device, state, flags, type."""
ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg; struct fib_rule_hdr has the same form: family, lengths, tos, table, protocol, scope, type, flags."""
UNIVERSE, LINK_SCOPE, UNICAST, ONLINK = 0, 253, 1, 4
RTA_OIF, RTA_GATEWAY, RTA_METRICS, RTA_TABLE, RTAX_MTU = 4, 5, 8, 15, 2
NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.EINVAL})
"""What the kernel says where the machine, or a new device of it, has no IPv6."""

HINTS = {
    errno.EPERM: "floatip needs CAP_NET_ADMIN and CAP_NET_RAW: see the unit, systemctl cat floatip",
    errno.EOPNOTSUPP: "load or install the module: modprobe vxlan",
    errno.ENODEV: "see which program does that: ip monitor link",
}
GONE = errno.ENODEV, errno.ENXIO, errno.ENETDOWN
LOOK = "see what the kernel says: journalctl -k; ip -d link show floatip-sc"


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    address: Address
    """Its address on the link."""


def mac(name: str) -> bytes:
    return b"\x02\xf1" + identity(name)[:4]


@dataclass(frozen=True, slots=True)
class Peer:
    node: Node
    number: int

    @property
    def ipv4(self) -> IPv4Address:
        return OUR_ADDRESS + (self.number - 1)

    @property
    def ipv6(self) -> IPv6Address:
        return link_local(self.node.name)

    def next_hop(self, version: int) -> Address:
        return self.ipv4 if version == 4 else self.ipv6


def link_local(name: str) -> IPv6Address:
    return IPv6Address(b"\xfe\x80" + bytes(7) + b"\xf1" + bytes(2) + mac(name)[2:])


class Tunnel:
    def __init__(self, own: Node, port: int, vni: int) -> None:
        self.own = own
        self.index = 0
        """Of the device."""
        self.name = DEVICE
        self.is_adopted = False
        """Whether a killed predecessor made the device."""
        self.has_ipv6 = False
        """Whether the device carries IPv6: the machine may have none."""
        self.peers: Mapping[str, Peer] = {}
        self._port, self._vni = port, vni
        self._netlink: Netlink | None = None
        self._frames: socket.socket | None = None
        self._too_big: TooBig | None = None
        self._both: select.epoll | None = None
        self._names: dict[bytes, str] = {}

    @classmethod
    def open(cls, own: Node, peers: Sequence[Node], port: int, vni: int) -> Self:
        """Makes the device, or adopts the one that a killed predecessor left. Raises Cannot."""
        tunnel = cls(own, port, vni)
        try:
            tunnel._open()
            tunnel.configure(peers)
        except OSError as error:
            tunnel._release()
            raise _cannot("open the tunnel", error.errno or errno.EIO) from error
        except BaseException:
            tunnel._release()
            raise
        return tunnel

    def _open(self) -> None:
        self._netlink = Netlink()
        self.index = self._adopt()
        self.is_adopted = bool(self.index)
        self.index = self.index or self._make()
        self._prepare()
        self._frames = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )
        self._frames.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        self._frames.bind((DEVICE, ETHERTYPE))
        self._both = select.epoll()
        self._both.register(self._frames, select.EPOLLIN)
        if self.own.address.version == 6:
            self._too_big = TooBig(DEVICE, ANSWER_MTU[6])
            self._both.register(self._too_big, select.EPOLLIN)

    def _adopt(self) -> int:
        """The index of a device that is as ours must be, or 0. One that is not is removed."""
        for _ in range(ATTEMPTS):
            try:
                found = [(kind, bytes(body)) for kind, body in self._kernel.dump(GETLINK, LINK.pack(0, 0, 0, 0, 0))]
                break
            except Interrupted:
                continue
        else:
            raise OSError(errno.EAGAIN, "")
        for kind, body in found:
            has = attributes(memoryview(body), LINK.size)
            if kind != NEWLINK or bytes(has.get(IFLA_IFNAME, b"")).rstrip(b"\0") != DEVICE.encode():
                continue
            info = attributes(has.get(IFLA_LINKINFO, memoryview(b"")), 0)
            if bytes(info.get(INFO_KIND, b"")).rstrip(b"\0") != b"vxlan":
                hint = f"rename it, or remove it: ip link delete {DEVICE}"
                raise Cannot(f"the network device {DEVICE} is another program's", hint)
            index = int(LINK.unpack_from(body)[2])
            data = attributes(info[INFO_DATA], 0)
            is_same = all(bytes(data.get(kind, b"")) == value for kind, value in self._data())
            if is_same and bytes(has.get(IFLA_ADDRESS, b"")) == mac(self.own.name):
                return index
            self._ask("remove the old tunnel", [(DELLINK, 0, LINK.pack(0, 0, index, 0, 0))])
        return 0

    def _data(self) -> list[tuple[int, bytes]]:
        local = VXLAN_LOCAL if self.own.address.version == 4 else VXLAN_LOCAL6
        return [
            (VXLAN_ID, U32.pack(self._vni)),
            (local, self.own.address.packed),
            (VXLAN_TTL, b"\x40"),
            (VXLAN_LEARNING, b"\0"),
            (VXLAN_PORT, self._port.to_bytes(2, "big")),
        ]

    def _make(self) -> int:
        data = b"".join(attribute(kind, value) for kind, value in self._data())
        body = (
            LINK.pack(0, 0, 0, 0, 0)
            + attribute(IFLA_IFNAME, DEVICE.encode() + b"\0")
            + attribute(IFLA_ADDRESS, mac(self.own.name))
            + attribute(IFLA_MTU, U32.pack(MTU))
            + attribute(IFLA_LINKINFO, attribute(INFO_KIND, b"vxlan\0") + attribute(INFO_DATA, data))
        )
        code = self._kernel.request([(NEWLINK, F_CREATE_EXCL, body)])[0]
        if code == errno.EEXIST:
            what = f"another VXLAN device uses VNI {self._vni} on UDP port {self._port}"
            raise Cannot(what, "choose another port on all nodes: [second_chance] port")
        if code:
            raise _cannot("make the tunnel", code)
        return socket.if_nametoindex(DEVICE)

    def _prepare(self) -> None:
        """What the device needs, also one that is there."""
        loose = attribute(IFLA_INET_CONF, attribute(CONF_RP_FILTER, U32.pack(LOOSE)))
        head = LINK.pack(0, 0, self.index, 0, 0)
        self._ask(
            "prepare the tunnel",
            [
                (SETLINK, 0, head + attribute(IFLA_MTU, U32.pack(MTU))),
                (SETLINK, 0, head + attribute(IFLA_AF_SPEC, attribute(socket.AF_INET, loose))),
            ],
        )
        by_hand = attribute(INET6_ADDR_GEN_MODE, bytes([NO_ADDRESS]))
        code = self._kernel.request([(SETLINK, 0, head + attribute(IFLA_AF_SPEC, attribute(socket.AF_INET6, by_hand)))])
        self.has_ipv6 = not code[0]
        up = self._kernel.request([(SETLINK, 0, LINK.pack(0, 0, self.index, IFF_UP, IFF_UP))])[0]
        if up == errno.EADDRINUSE:
            if self._frames is None:
                self._kernel.request([(DELLINK, 0, head)])
            hint = (
                f"see which: ss -ulnp sport = {self._port}; or choose another port on all nodes: [second_chance] port"
            )
            raise Cannot(f"another program uses UDP port {self._port}", hint)
        if up:
            raise _cannot("start the tunnel", up)
        # A reverse path filter drops everything on a device that has no IPv4 address.
        self._ask("prepare the tunnel", [_address(self.index, IPv4Interface(OUR_ADDRESS))])
        if self.has_ipv6:
            address = IPv6Interface((link_local(self.own.name), 64))
            code = self._kernel.request([_address(self.index, address)])
            if code[0] and code[0] not in NO_IPV6:
                raise _cannot("prepare the tunnel", code[0])
            self.has_ipv6 = not code[0]

    def configure(self, peers: Sequence[Node]) -> None:
        """The whole set of the other nodes. Raises Cannot.

        Take the connections of a node that is no longer one out of the rules first: a later node may get its number.
        """
        for peer in peers:
            if peer.address.version != self.own.address.version:
                what = f"node {peer.name} has {peer.address} on the link, and this node {self.own.address}"
                raise Cannot(what, "give all nodes addresses of one version: address of each [[node]]")
        try:
            self._configure(peers)
        except OSError as error:
            raise _cannot("configure the tunnel", error.errno or errno.EIO) from error

    def _configure(self, peers: Sequence[Node]) -> None:
        by_mac = {mac(peer.name): peer for peer in peers}
        if len(by_mac) < len(peers) or len(peers) > LAST - FIRST + 1:
            raise Cannot("two nodes have one MAC on the tunnel, or there are too many nodes", "rename one of the nodes")
        numbers = {mac(name): peer.number for name, peer in self.peers.items() if mac(name) in by_mac}
        for _, address, lladdr in (neighbours := self._neighbours(socket.AF_INET)):
            number = int.from_bytes(address, "big") - int(OUR_ADDRESS) + 1
            if lladdr in by_mac and FIRST <= number <= LAST and number not in numbers.values():
                numbers.setdefault(lladdr, number)
        free = (number for number in range(FIRST, LAST + 1) if number not in set(numbers.values()))
        known = {each: Peer(peer, numbers.get(each) or next(free)) for each, peer in by_mac.items()}
        wanted = {(socket.AF_INET, peer.ipv4.packed, each) for each, peer in known.items()}
        wanted6 = (
            {(socket.AF_INET6, peer.ipv6.packed, each) for each, peer in known.items()} if self.has_ipv6 else set()
        )
        places = {(AF_BRIDGE, peer.node.address.packed, each) for each, peer in known.items()}
        there = {
            *neighbours,
            *(self._neighbours(socket.AF_INET6) if self.has_ipv6 else ()),
            *self._neighbours(AF_BRIDGE),
        }
        all_wanted = wanted | wanted6 | places
        gone = [(DELNEIGH, 0, self._neighbour(*entry)) for entry in there - all_wanted]
        here = [(NEWNEIGH, F_CREATE | F_REPLACE, self._neighbour(*entry)) for entry in all_wanted - there]
        self._ask("forget a node", gone, {errno.ENOENT})
        self._ask("reach the nodes", here)
        self.peers = {peer.node.name: peer for peer in known.values()}
        self._names = {each: peer.node.name for each, peer in known.items()}

    def repair(self) -> None:
        """What another program has taken from the device. Raises Cannot."""
        try:
            with contextlib.suppress(Interrupted):  # then it is looked at again
                there = [one.packed for one in self._kernel.read(GETADDR)
                         if isinstance(one, AddressMessage) and one.index == self.index]  # fmt: skip
                if OUR_ADDRESS.packed not in there:
                    self._prepare()
            self._configure([peer.node for peer in self.peers.values()])
        except OSError as error:
            raise _cannot("repair the tunnel", error.errno or errno.EIO) from error

    def _neighbours(self, family: int) -> list[tuple[int, bytes, bytes]]:
        """Family, address and MAC of each permanent neighbour on the device; of the FDB for AF_BRIDGE."""
        found = []
        for _ in range(ATTEMPTS):
            try:
                for _, body in self._kernel.dump(GETNEIGH, NEIGHBOUR.pack(family, self.index, 0, 0, 0)):
                    kind, index, state, _, _ = NEIGHBOUR.unpack_from(body)
                    has = attributes(body, NEIGHBOUR.size)
                    if index == self.index and kind == family and state & NUD_PERMANENT and NDA_LLADDR in has:
                        found.append((family, bytes(has.get(NDA_DST, b"")), bytes(has[NDA_LLADDR])))
                return found
            except Interrupted:
                found.clear()
        raise OSError(errno.EAGAIN, "")

    def _neighbour(self, family: int, address: bytes, lladdr: bytes) -> bytes:
        state, flags = (NUD_PERMANENT | NUD_NOARP, NTF_SELF) if family == AF_BRIDGE else (NUD_PERMANENT, 0)
        head = NEIGHBOUR.pack(family, self.index, state, flags, 0)
        return head + (attribute(NDA_DST, address) if address else b"") + attribute(NDA_LLADDR, lladdr)

    @property
    def _kernel(self) -> Netlink:
        if self._netlink is None:
            raise Cannot("the tunnel is closed", LOOK)
        return self._netlink

    def _ask(self, to: str, requests: Sequence[tuple[int, int, bytes]], harmless: Iterable[int] = ()) -> None:
        for code in self._kernel.request(requests) if requests else ():
            if code and code not in harmless:
                raise _cannot(to, code)

    # Frames

    def send(self, name: str, payload: bytes) -> None:
        """One frame of at most 1500 octets to a peer. It may be lost. Raises Cannot where the device is gone."""
        assert self._frames
        assert len(payload) <= MTU
        with _said("send through the tunnel"), contextlib.suppress(BlockingIOError):
            try:
                self._frames.sendto(payload, (DEVICE, ETHERTYPE, 0, 0, mac(name)))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def receive(self) -> list[tuple[str, bytes]]:
        """Frames that arrived, from peers only, at most `BATCH`: (name, payload). Raises Cannot where it is gone.

        It also tells clients whose packets the tunnel cannot carry.
        """
        assert self._frames
        frames = []
        with _said("look at packets in the tunnel"):
            if self._too_big:
                self._too_big.tell()
        with _said("receive from the tunnel"), contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                payload, (_, _, packet_type, _, sender) = self._frames.recvfrom(LONGEST_FRAME)
                if packet_type == socket.PACKET_HOST and (name := self._names.get(sender)):
                    frames.append((name, payload))
        return frames

    @property
    def whole(self) -> int:
        """Octets of the largest frame that gets through where all is well: outer packets of IPv6 are not cut."""
        return MTU if self.own.address.version == 4 else ANSWER_MTU[6]

    def fileno(self) -> int:
        """Readable when there is something to `receive`."""
        assert self._both
        return self._both.fileno()

    # The way of the answers

    def answer_by(self, routes: Mapping[Address, str], direct: Iterable[Address] = ()) -> None:
        """The whole set: what leaves with this source address goes through the tunnel to this node. Raises Cannot.

        `direct`: those of them whose TCP leaves by the main table instead.
        Call it again to repair: some programs remove rules that are not theirs.
        """
        with _said("route answers into the tunnel"):
            there = rules(self._kernel)
            wanted = {(address.packed, TABLE + self.peers[name].number) for address, name in routes.items()}
            wanted |= {(address.packed, MAIN) for address in direct}
            ways = {(address.version, name) for address, name in routes.items()}
            if not self.has_ipv6 and any(version == 6 for version, _ in ways):
                raise Cannot(
                    "the tunnel has no IPv6", "allow IPv6 on new devices: sysctl net.ipv6.conf.default.disable_ipv6"
                )
            self._ask("route answers", [self._default(version, self.peers[name]) for version, name in ways])
            new = [(NEWRULE, F_CREATE_EXCL, rule(*each)) for each in wanted - there]
            self._ask("route answers", new, {errno.EEXIST})
            old = [(DELRULE, 0, rule(*each)) for each in there - wanted]
            self._ask("stop routing answers", old, {errno.ENOENT})

    def adopted_answers(self) -> dict[Address, str]:
        """As a killed predecessor left them, to nodes that there are, all through the tunnel. Raises Cannot."""
        with _said("read how answers are routed"):
            names = {TABLE + peer.number: name for name, peer in self.peers.items()}
            found = {ip_address(source): names[table] for source, table in rules(self._kernel) if table in names}
        self.answer_by(found)
        return found

    def _default(self, version: int, peer: Peer) -> tuple[int, int, bytes]:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        head = ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, UNIVERSE, UNICAST, ONLINK)
        metrics = attribute(RTAX_MTU, U32.pack(ANSWER_MTU[self.own.address.version]))
        body = (
            attribute(RTA_TABLE, U32.pack(TABLE + peer.number))
            + attribute(RTA_OIF, U32.pack(self.index))
            + attribute(RTA_GATEWAY, peer.next_hop(version).packed)
            + attribute(RTA_METRICS, metrics)
        )
        return NEWROUTE, F_CREATE | F_REPLACE, head + body

    def close(self) -> None:
        """Removes the device, the policy rules and their routing tables. Raises Cannot."""
        try:
            if self._netlink:
                self.answer_by({})
                self._ask("remove the tunnel", [(DELLINK, 0, LINK.pack(0, 0, self.index, 0, 0))], {errno.ENODEV})
        finally:
            self._release()

    def _release(self) -> None:
        for each in (self._both, self._netlink, self._frames, self._too_big):
            if each:
                each.close()
        self._both = self._netlink = self._frames = self._too_big = None


def _address(index: int, address: InterfaceAddress) -> tuple[int, int, bytes]:
    is_v4 = address.version == 4
    head = ADDRESS.pack(
        socket.AF_INET if is_v4 else socket.AF_INET6,
        address.network.prefixlen,
        0 if is_v4 else IFA_F_NODAD,
        LINK_SCOPE,
        index,
    )
    packed = address.packed
    return NEWADDR, F_CREATE | F_REPLACE, head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)


def _cannot(to: str, code: int) -> Cannot:
    if code in GONE:  # whatever was to be done first after that
        return Cannot(f"the device {DEVICE} of the tunnel was deleted or set down", HINTS[errno.ENODEV])
    return Cannot(f"cannot {to}: {os.strerror(code).lower()}", HINTS.get(code, LOOK))


@contextlib.contextmanager
def _said(to: str) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise _cannot(to, error.errno or errno.EIO) from error
