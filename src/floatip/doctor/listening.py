"""Sockets of TCP, from /proc/net (proc_pid_net(5))."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from floatip.core.addresses import Address
from floatip.doctor.host import Host, Missing, Unseen

LISTEN, ESTABLISHED = 0x0A, 0x01


@dataclass(frozen=True, slots=True)
class Socket:
    state: int
    address: Address
    port: int
    peer: Address
    peer_port: int
    uid: int
    inode: int


def sockets(host: Host) -> Iterator[Socket]:
    """Raises `Unseen`."""
    for name in ("tcp", "tcp6"):
        try:
            text = host.text(f"/proc/thread-self/net/{name}")
        except Missing:
            continue
        for line in text.splitlines()[1:]:
            try:
                _, local, remote, state, _, _, _, uid, _, inode, *_ = line.split()
                yield Socket(int(state, 16), *_end(local), *_end(remote), int(uid), int(inode))
            except (ValueError, IndexError):
                raise Unseen(f"/proc/net/{name} is not understood") from None


def listeners(host: Host) -> list[Socket]:
    """Raises `Unseen`."""
    return [one for one in sockets(host) if one.state == LISTEN]


def _end(text: str) -> tuple[Address, int]:
    """Words of 32 bits in the order of this machine."""
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)]
    address = ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address, int(port, 16)


def service(port: int) -> str:
    try:
        return f"{port} ({socket.getservbyport(port)})"
    except OSError:
        return str(port)
