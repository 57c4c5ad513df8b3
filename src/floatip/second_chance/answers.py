"""Whose answers leave by the tunnel: policy rules of the kernel, one for each address that another node carries."""

import socket
import struct
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.rtnetlink import U32, Netlink, attribute

PRIORITY = 241
"""Of the policy rules: behind the table `local`, before what an administrator usually writes."""
PROTOCOL = 0xF2
"""RTPROT and FRA_PROTOCOL: marks rules and routes as ours."""
DELRULE = 33
HEADER = struct.Struct("=BBBBBBBBI")
"""struct fib_rule_hdr has the form of struct rtmsg: family, lengths, tos, table, two that are 0, action, flags."""
TO_TABLE = 1
FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL = 2, 6, 15, 21


def rule(source: bytes, table: int | None) -> bytes:
    """`table`: None, to delete it whichever that is."""
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    return (
        HEADER.pack(family, 0, 8 * len(source), 0, 0, 0, 0, TO_TABLE, 0)
        + attribute(FRA_SRC, source)
        + attribute(FRA_PRIORITY, U32.pack(PRIORITY))
        + (attribute(FRA_TABLE, U32.pack(table)) if table is not None else b"")
        + attribute(FRA_PROTOCOL, bytes([PROTOCOL]))
    )


def leave_directly(addresses: Iterable[Address]) -> None:
    """From now on, answers from these addresses do not leave by the tunnel. Raises OSError.

    The daemon does that when it becomes master: the process may have been killed, or hang.
    """
    kernel = Netlink()
    try:
        kernel.request([(DELRULE, 0, rule(address.packed, None)) for address in addresses])
    finally:
        kernel.close()
