"""A filter in the kernel (classic BPF), so that VRRP packets of others cost this process nothing.

Packets of a known virtual router from a known node are for the election. All others are strangers; a few of them a
second are worth a look. The two filters of an interface are each other's opposite.
"""

import array
import contextlib
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
LONGEST = 4000
"""Instructions; the kernel takes 4096."""
LDX_HEADER_LENGTH, LD_LENGTH, SUB_X, LD_WORD, LD_BYTE_X = 0xB1, 0x80, 0x1C, 0x20, 0x50
JUMP, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x05, 0x15, 0x35, 0x06
SOURCE, VRID = 12, 1
"""Where they are: in the IPv4 header, and behind it."""
ALL = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]
"""Code, how many to skip if true, how many if false, value (struct sock_filter)."""


@dataclass(frozen=True, slots=True)
class Known:
    vrids: frozenset[int] = frozenset()
    """From `sources` only."""
    sources: frozenset[IPv4Address] = frozenset()
    open_vrids: frozenset[int] = frozenset()
    """From anywhere."""

    def plus(self, vrid: int, sources: Iterable[IPv4Address]) -> "Known":
        """One more virtual router. Without sources, whoever uses the vrid is known."""
        if not (new := frozenset(sources)):
            return replace(self, open_vrids=self.open_vrids | {vrid})
        return replace(self, vrids=self.vrids | {vrid}, sources=self.sources | new)


def program(known: Known, strangers: bool = False) -> list[Instruction]:
    """Passes what is known, or everything else."""
    sources = [(LD_WORD, 0, 0, SOURCE), *_any_of(map(int, known.sources), behind=1)]
    # Behind all checks stand two returns: for a stranger, and for what is known.
    vrids = _any_of(known.vrids, behind=1)
    checks = [*_any_of(known.open_vrids, behind=len(vrids) + 1 + len(sources) + 1), *vrids]
    head = [
        (LDX_HEADER_LENGTH, 0, 0, 0),
        (LD_LENGTH, 0, 0, 0),
        (SUB_X, 0, 0, 0),
        (JUMP_AT_LEAST, 1, 0, VRID + 1),
        (JUMP, 0, 0, 1 + len(checks) + 1 + len(sources)),
        (LD_BYTE_X, 0, 0, VRID),
    ]
    returns = [(RETURN, 0, 0, ALL if strangers else 0), (RETURN, 0, 0, 0 if strangers else ALL)]
    return [*head, *checks, (JUMP, 0, 0, len(sources)), *sources, *returns]


def _any_of(values: Iterable[int], behind: int) -> list[Instruction]:
    """If the accumulator is one of them, skip the rest and `behind` more instructions."""
    values = sorted(values)
    found: list[Instruction] = []
    for number, value in enumerate(values):
        # A conditional jump reaches only 255 instructions far.
        found += [(JUMP_EQUAL, 0, 1, value), (JUMP, 0, 0, 2 * (len(values) - number - 1) + behind)]
    return found


def attach(raw: socket.socket, instructions: list[Instruction]) -> None:
    """In place of the one before. Raises OSError."""
    code = array.array("B", b"".join(struct.pack("=HBBI", *one) for one in instructions))
    address, _ = code.buffer_info()
    raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), address))


def detach(raw: socket.socket) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has none
        raw.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
