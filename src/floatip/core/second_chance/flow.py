"""A TCP connection, as the kernel's sets of packets have it."""

from typing import TypeAlias

Flow: TypeAlias = bytes
"""Client's address, its port in two octets in network order, two zero octets; our address, our port, two zero octets.

16 octets for IPv4, 40 for IPv6.
"""
V4, V6 = 16, 40
"""Octets of a flow."""


def packed_address(flow: Flow) -> bytes:
    """Ours, as `Address.packed` has it."""
    return flow[8:12] if len(flow) == V4 else flow[20:36]


def is_flow(octets: bytes) -> bool:
    """Whether this may be given to the kernel as a flow."""
    if len(octets) == V4:
        return octets[6:8] == octets[14:] == b"\0\0"
    return len(octets) == V6 and octets[18:20] == octets[38:] == b"\0\0"
