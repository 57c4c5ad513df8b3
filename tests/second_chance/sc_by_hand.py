"""Packets that no kernel sends of its own accord."""

import socket
import struct

from floatip.core.addresses import Address
from floatip.core.second_chance.flow import Flow
from floatip.second_chance.tunnel import mac
from tests.second_chance.sc_rig import VNI

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, NO_PROBE = 19, 20, 21, -1
RECEIVED, SENT = 1, 2
SYN, RST, ACK_PUSH = 0x02, 0x04, 0x18


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2 + len(data) % 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def sequences(it: socket.socket) -> tuple[int, int]:
    """The next octet that it sends, and the next one that it expects."""
    it.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    found = []
    for queue in (SENT, RECEIVED):
        it.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        found.append(it.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF)
    it.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, NO_PROBE)
    return found[0], found[1]


def segment(
    source: Address,
    destination: Address,
    ports: tuple[int, int],
    flags: int,
    numbers: tuple[int, int],
    data: bytes = b"",
) -> bytes:
    head = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 4096, 0, 0)
    pseudo = source.packed + destination.packed + struct.pack("!II", len(head) + len(data), socket.IPPROTO_TCP)
    return head[:16] + struct.pack("!H", checksum(pseudo + head + data)) + head[18:] + data


def packet(
    source: Address, destination: Address, payload: bytes, offset: int = 0, more: bool = False, number: int = 1
) -> bytes:
    """With TCP in it, or a part of that: `offset` in octets."""
    if source.version == 4:
        place = offset // 8 | (0x2000 if more else 0)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, place, 64, socket.IPPROTO_TCP, 0)
        head += source.packed + destination.packed
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload
    following = socket.IPPROTO_TCP
    if offset or more:
        payload = struct.pack("!BBHI", socket.IPPROTO_TCP, 0, offset | more, number) + payload
        following = 44
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, 64)
    return head + source.packed + destination.packed + payload


def parts(source: Address, destination: Address, payload: bytes, number: int = 1) -> list[bytes]:
    """The packet in two."""
    half = len(payload) // 16 * 8
    return [
        packet(source, destination, payload[:half], 0, True, number),
        packet(source, destination, payload[half:], half, False, number),
    ]


def send(packets: list[bytes], to: Address) -> None:
    """From the network namespace that this thread is in."""
    family = socket.AF_INET if to.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for each in packets:
            raw.sendto(each, (str(to), 0))


def in_vxlan(sender: str, receiver: str, inner: bytes) -> bytes:
    """What the tunnel's UDP carries."""
    kind = 0x0800 if inner[0] >> 4 == 4 else 0x86DD
    return struct.pack("!II", 0x08 << 24, VNI << 8) + mac(receiver) + mac(sender) + struct.pack("!H", kind) + inner


def ends(of: Flow) -> tuple[int, int]:
    """The ports of a flow: the client's and ours."""
    size = (len(of) - 8) // 2
    return int.from_bytes(of[size : size + 2], "big"), int.from_bytes(of[-4:-2], "big")
