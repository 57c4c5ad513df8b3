"""The TCP connections of this machine, from the kernel's sock_diag(7)."""
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.second_chance.flow import Flow


def listed(addresses: Iterable[Address]) -> frozenset[Flow]:
    """The connections whose local address is one of these, in every state that still needs packets. Raises OSError."""
    raise NotImplementedError


def listeners(addresses: Iterable[Address]) -> frozenset[Address]:
    """Those of the addresses at which some program listens, by name or as one of all. Raises OSError."""
    raise NotImplementedError


def has_mptcp(addresses: Iterable[Address]) -> bool:
    """Whether one of these addresses has an MPTCP connection. Raises OSError."""
    raise NotImplementedError
