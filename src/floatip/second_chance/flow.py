"""A connection, as the kernel's sets of packets have it."""

from ipaddress import ip_address
from typing import TypeAlias

from floatip.core.addresses import Address

Flow: TypeAlias = bytes
"""Client's address, its port in two octets, two zero octets; our address, our port, two zero octets.

16 octets for IPv4, 40 for IPv6.
"""
V4, V6 = 16, 40
"""Octets of a flow."""


def flow(client: Address, client_port: int, ours: Address, our_port: int) -> Flow:
    ports = [port.to_bytes(2, "big") + b"\0\0" for port in (client_port, our_port)]
    return client.packed + ports[0] + ours.packed + ports[1]


def our_address(of: Flow) -> Address:
    return ip_address(of[8:12] if len(of) == V4 else of[20:36])


def is_flow(octets: bytes) -> bool:
    """Whether this may be given to the kernel as a flow."""
    if len(octets) == V4:
        return octets[6:8] == octets[14:] == b"\0\0"
    return len(octets) == V6 and octets[18:20] == octets[38:] == b"\0\0"
