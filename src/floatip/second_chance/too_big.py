"""Tells clients to send smaller packets, where the tunnel cannot carry theirs.

Over IPv4 the outer packets go in fragments. The kernel does not cut outer packets of IPv6 that it forwards, and says so
to this machine instead of to the client. So this looks at the packets that leave by the tunnel and are too big, and
answers each connection as a router does: RFC 1191 section 4, RFC 4443 section 3.2. The client sends the data again, in
packets that fit, within a round trip.
"""

import contextlib
import ctypes
import socket
import struct
from ipaddress import ip_address

PACKET_VNET_HDR, SO_ATTACH_FILTER = 15, 26
SOL_PACKET, SOL_RAW, ICMP_FILTER, ICMP6_FILTER, IP_PKTINFO = 263, 255, 1, 1, 8
ETH_P_ALL = 3
ETHERNET = 14
VIRTIO = struct.Struct("=BBHHHH")
"""struct virtio_net_hdr: flags, kind, length of the headers, payload of each segment; and of a checksum."""
SEEN = 160
"""Octets of a packet that are looked at: Ethernet, IP, TCP, all with options."""
QUOTED = 96
BATCH = 256
OUTGOING = 4
IPV4, IPV6 = 0x0800, 0x86DD


class TooBig:
    def __init__(self, device: str, mtu: int) -> None:
        """Raises OSError."""
        self._mtu = mtu
        kinds = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sockets = [
            socket.socket(socket.AF_PACKET, kinds, 0),
            socket.socket(socket.AF_INET, kinds, socket.IPPROTO_ICMP),
        ]
        try:
            self._packets, self._icmp4 = self._sockets
            self._packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            _filter(self._packets, ETHERNET + mtu)
            self._packets.bind((device, ETH_P_ALL))
            self._icmp4.setsockopt(SOL_RAW, ICMP_FILTER, b"\xff" * 4)  # it receives nothing
            self._icmp6 = None
            with contextlib.suppress(OSError):  # a machine without IPv6
                self._icmp6 = socket.socket(socket.AF_INET6, kinds, socket.IPPROTO_ICMPV6)
                self._sockets.append(self._icmp6)
                self._icmp6.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, b"\xff" * 32)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def fileno(self) -> int:
        """Readable when there is something to tell: then call `tell`."""
        return self._packets.fileno()

    def tell(self) -> None:
        """Raises OSError where the device is gone."""
        told = set()
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                packet = self._packets.recv(VIRTIO.size + SEEN)
                if (found := self._judged(packet)) and found[:2] not in told:
                    told.add(found[:2])
                    self._answer(found[0], found[2])

    def _judged(self, seen: bytes) -> tuple[bytes, bytes, bytes] | None:
        """Its addresses, its ports and itself, if it is TCP and too big as it will be on the wire."""
        payload_of_each = VIRTIO.unpack_from(seen)[3]
        kind = int.from_bytes(seen[VIRTIO.size + 12 : VIRTIO.size + 14], "big")
        packet = seen[VIRTIO.size + ETHERNET :]
        if kind == IPV4:
            head, protocol, addresses = (packet[0] & 15) * 4, packet[9], packet[12:20]
        elif kind == IPV6:
            head, protocol, addresses = 40, packet[6], packet[8:40]
        else:
            return None
        if protocol != socket.IPPROTO_TCP or len(packet) < head + 20:
            return None
        if payload_of_each and head + (packet[head + 12] >> 4) * 4 + payload_of_each <= self._mtu:
            return None  # the kernel cuts it into segments that fit
        return addresses, packet[head : head + 4], packet

    def _answer(self, addresses: bytes, packet: bytes) -> None:
        """From the address that the client sent it to."""
        half = len(addresses) // 2
        client, ours = addresses[:half], addresses[half:]
        quoted = packet[:QUOTED]
        control: tuple[int, int, bytes]
        if half == 4:
            message = struct.pack("!BBHHH", 3, 4, 0, 0, self._mtu) + quoted
            message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
            by, control = self._icmp4, (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, ours))
        elif self._icmp6:
            # The kernel fills the checksum in.
            message = struct.pack("!BBHI", 2, 0, 0, self._mtu) + quoted
            by, control = self._icmp6, (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, ours + bytes(4))
        else:
            return
        with contextlib.suppress(OSError):  # the client's next packet is as big
            by.sendmsg([message], [control], 0, (str(ip_address(client)), 0))


def _filter(packets: socket.socket, longest: int) -> None:
    """Only what leaves and is longer, and only its beginning (classic BPF)."""
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0xFFFFF004),  # the kind of packet
            (0x15, 0, 3, OUTGOING),
            (0x80, 0, 0, 0),  # its length
            (0x25, 0, 1, longest),
            (0x06, 0, 0, SEEN),
            (0x06, 0, 0, 0),
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    packets.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 6, ctypes.addressof(buffer)))


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
