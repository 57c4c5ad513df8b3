"""Whose answers leave by the tunnel: policy rules of the kernel, one for each address that another node carries.

Where the answers leave directly, a second rule is before it. The first one stays: a reverse path filter asks it from
where packets of the clients may come.
"""

import errno
import socket
import struct
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.rtnetlink import U32, Interrupted, Netlink, attribute, attributes
from floatip.virtuals import MAIN

PRIORITY, DIRECT_PRIORITY = 241, 240
"""Of the policy rules: behind the table `local`, before what an administrator usually writes."""
PROTOCOL = 0xF2
"""RTPROT and FRA_PROTOCOL: marks rules and routes as ours."""
DELRULE, GETRULE = 33, 34
ATTEMPTS = 10
"""To read a table that changes meanwhile."""
HEADER = struct.Struct("=BBBBBBBBI")
"""struct fib_rule_hdr has the form of struct rtmsg: family, lengths, tos, table, two that are 0, action, flags."""
TO_TABLE = 1
FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL, FRA_IP_PROTO, FRA_SPORT_RANGE = 2, 3, 6, 15, 21, 22, 23
OWN_SEGMENTS = (
    attribute(FRA_IIFNAME, b"lo\0")
    + attribute(FRA_IP_PROTO, bytes([socket.IPPROTO_TCP]))
    + attribute(FRA_SPORT_RANGE, struct.pack("=HH", 1, 0xFFFE))
)
"""TCP of this machine, from all ports that the kernel takes here. A reverse path filter asks without a port."""


def rule(source: bytes, table: int) -> bytes:
    """`table`: of a node behind the tunnel, or `MAIN`: directly."""
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    is_direct = table == MAIN
    return (
        HEADER.pack(family, 0, 8 * len(source), 0, 0, 0, 0, TO_TABLE, 0)
        + attribute(FRA_SRC, source)
        + (OWN_SEGMENTS if is_direct else b"")
        + attribute(FRA_PRIORITY, U32.pack(DIRECT_PRIORITY if is_direct else PRIORITY))
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
