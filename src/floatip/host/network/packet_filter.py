"""Filters in the kernel (classic BPF), so that packets of others cost this process nothing.

VRRP packets from a known node, or of a virtual router that anybody may speak for, are for the election. All others are
strangers; a few of them a second are worth a look. The two filters of an interface are each other's opposite. The two
UDP sockets of the link share one filter, which says which of them gets a datagram.
"""

import array
import socket
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from floatip.core.addresses import Address

SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 51
LDX_HEADER_LENGTH, LD_WORD, LD_BYTE, LD_BYTE_X, JUMP_EQUAL, RETURN = 0xB1, 0x20, 0x30, 0x50, 0x15, 0x06
VRID = 1
"""Where it is, behind the IP header."""
ALL, NOTHING = 0xFFFFFFFF, 0
IP_HEADER = 0xFFF00000
"""SKF_NET_OFF: behind it, offsets count from the IP header. Without, a filter begins with the data of UDP, and of a raw
socket with the IPv4 header, or with what follows the IPv6 header."""
SOURCE_OF_VERSION = {4: 12, 6: 8}
FIRST, SECOND = 0, 1
"""Of the sockets that share a port, in the order in which they were bound."""

Instruction = tuple[int, int, int, int]
"""Code, how many to skip if true, how many if false, value (struct sock_filter)."""


@dataclass(frozen=True, slots=True)
class Known:
    sources: frozenset[Address] = frozenset()
    open_vrids: frozenset[int] = frozenset()
    """From anywhere."""

    def plus(self, vrid: int, sources: Iterable[Address]) -> "Known":
        """One more virtual router. Without sources, whoever uses the vrid is known."""
        if not (new := frozenset(sources)):
            return replace(self, open_vrids=self.open_vrids | {vrid})
        return replace(self, sources=self.sources | new)


def program(known: Known | None, strangers: bool = False, version: int = 4) -> list[Instruction]:
    """Passes what is known (None: everything), or else all the rest that is long enough to have a vrid.

    For a raw socket over this version of IP."""
    ours, rest = (NOTHING, ALL) if strangers else (ALL, NOTHING)
    if known is None:
        return [(RETURN, 0, 0, ours)]
    code = _return_if_from_any_of((one for one in known.sources if one.version == version), ours)
    if known.open_vrids:
        at_vrid = [(LDX_HEADER_LENGTH, 0, 0, 0), (LD_BYTE_X, 0, 0, VRID)] if version == 4 else [(LD_BYTE, 0, 0, VRID)]
        code += at_vrid
        code += [one for vrid in sorted(known.open_vrids) for one in ((JUMP_EQUAL, 0, 1, vrid), (RETURN, 0, 0, ours))]
    return [*code, (RETURN, 0, 0, rest)]


def by_source(known: Collection[Address]) -> list[Instruction]:
    """The first socket gets what comes from a known node, the second all the rest. Addresses of one family."""
    return [*_return_if_from_any_of(known, FIRST), (RETURN, 0, 0, SECOND)]


def _return_if_from_any_of(sources: Iterable[Address], answer: int) -> list[Instruction]:
    code: list[Instruction] = []
    for address in sources:
        words = [int.from_bytes(address.packed[at : at + 4]) for at in range(0, len(address.packed), 4)]
        for number, word in enumerate(words):
            code.append((LD_WORD, 0, 0, IP_HEADER + SOURCE_OF_VERSION[address.version] + 4 * number))
            code.append((JUMP_EQUAL, 0, 2 * (len(words) - number) - 1, word))
        code.append((RETURN, 0, 0, answer))
    return code


def attach(raw: socket.socket, instructions: list[Instruction]) -> None:
    """In place of the one before. Raises OSError."""
    _attach(raw, SO_ATTACH_FILTER, instructions)


def share_out(udp: socket.socket, known: Collection[Address]) -> None:
    """Among the sockets that have its port (SO_REUSEPORT), in place of the way before. Raises OSError."""
    _attach(udp, SO_ATTACH_REUSEPORT_CBPF, by_source(known))


def _attach(to: socket.socket, option: int, instructions: list[Instruction]) -> None:
    code = array.array("B", b"".join(struct.pack("=HBBI", *one) for one in instructions))
    address, _ = code.buffer_info()
    to.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", len(instructions), address))
