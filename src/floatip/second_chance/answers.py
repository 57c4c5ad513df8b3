"""Whose answers leave by the tunnel: policy rules of the kernel, one for each address that another node carries."""

import errno
import socket
import struct
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.rtnetlink import U32, Interrupted, Netlink, attribute, attributes

PRIORITY = 241
"""Of the policy rules: behind the table `local`, before what an administrator usually writes."""
PROTOCOL = 0xF2
"""RTPROT and FRA_PROTOCOL: marks rules and routes as ours."""
DELRULE, GETRULE = 33, 34
ATTEMPTS = 10
"""To read a table that changes meanwhile."""
HEADER = struct.Struct("=BBBBBBBBI")
"""struct fib_rule_hdr has the form of struct rtmsg: family, lengths, tos, table, two that are 0, action, flags."""
TO_TABLE = 1
FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL = 2, 6, 15, 21


def rule(source: bytes, table: int) -> bytes:
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    return (
        HEADER.pack(family, 0, 8 * len(source), 0, 0, 0, 0, TO_TABLE, 0)
        + attribute(FRA_SRC, source)
        + attribute(FRA_PRIORITY, U32.pack(PRIORITY))
        + attribute(FRA_TABLE, U32.pack(table))
        + attribute(FRA_PROTOCOL, bytes([PROTOCOL]))
    )


def rules(kernel: Netlink) -> set[tuple[bytes, int]]:
    """Source and table of each policy rule that is ours. Raises OSError."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for _ in range(ATTEMPTS):
            try:
                for _, body in kernel.dump(GETRULE, HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
                    has = attributes(body, HEADER.size)
                    if has.get(FRA_PROTOCOL, b"") == bytes([PROTOCOL]) and FRA_SRC in has:
                        found.add((bytes(has[FRA_SRC]), U32.unpack(has[FRA_TABLE])[0]))
                break
            except Interrupted:
                continue
            except OSError as error:
                if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                    break
                raise
    return found


def leave_directly(addresses: Iterable[Address] | None = None) -> None:
    """From now on, answers from these addresses do not leave by the tunnel; None: from none. Raises OSError.

    The daemon does that when it becomes master: the process may have been killed, or hang. As a rule there is nothing
    to remove, and to find that out takes one look however many they are.
    """
    wanted = None if addresses is None else {address.packed for address in addresses}
    kernel = Netlink()
    try:
        if left := [each for each in rules(kernel) if wanted is None or each[0] in wanted]:
            kernel.request([(DELRULE, 0, rule(*each)) for each in left])
    finally:
        kernel.close()
