"""Probes: what shows the carrier that answers of this node arrive by this node's own way (`core.second_chance.direct`).

A raw socket, so that no port is taken, and so that the policy rule of the tunnel does not see the floating address. An
IPv4 packet goes to the default router, also where the carrier is a neighbour: answers to clients go there.
"""

import contextlib
import socket
import struct
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.second_chance.surroundings import Route

PORT_OF_PROBES = 9
"""Where they come from: discard. Nothing answers them."""
TTL = 64
IPV4 = struct.Struct("!BBHHHBBH4s4s")
IPV6 = struct.Struct("!IHBB16s16s")
UDP = struct.Struct("!HHHH")
INDEX4, INDEX6 = struct.Struct("=i8x"), struct.Struct("=16xI")
"""struct in_pktinfo and in6_pktinfo: the device."""
IP_PKTINFO = 8


def send(nonce: bytes, sources: Iterable[Address], to: Address, port: int, way: Route) -> None:
    """What cannot be sent is not seen, and then the answers go through the tunnel."""
    is_v4 = to.version == 4
    if to.is_multicast or to.is_unspecified or to.is_loopback:
        return
    family = socket.AF_INET if is_v4 else socket.AF_INET6
    info = (
        (socket.IPPROTO_IP, IP_PKTINFO, INDEX4.pack(way.device))
        if is_v4
        else (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, INDEX6.pack(way.device))
    )
    # The kernel takes a packet of IPv6 to where its own header says.
    hop = way.gateway if is_v4 and way.gateway and way.gateway.version == 4 else to
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setblocking(False)
        for source in sources:
            with contextlib.suppress(OSError):
                raw.sendmsg([packet(source, to, port, nonce)], [info], 0, (str(hop), 0))


def packet(source: Address, to: Address, port: int, nonce: bytes) -> bytes:
    length = UDP.size + len(nonce)
    if to.version == 4:
        # The kernel adds length, identification and checksum. UDP needs none there.
        head = IPV4.pack(0x45, 0, 0, 0, 0, TTL, socket.IPPROTO_UDP, 0, source.packed, to.packed)
        return head + UDP.pack(PORT_OF_PROBES, port, length, 0) + nonce
    pseudo = source.packed + to.packed + struct.pack("!II", length, socket.IPPROTO_UDP)
    checksum = _checksum(pseudo + UDP.pack(PORT_OF_PROBES, port, length, 0) + nonce) or 0xFFFF
    head = IPV6.pack(6 << 28, length, socket.IPPROTO_UDP, TTL, source.packed, to.packed)
    return head + UDP.pack(PORT_OF_PROBES, port, length, checksum) + nonce


def _checksum(data: bytes) -> int:
    """RFC 1071; an even number of octets."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
