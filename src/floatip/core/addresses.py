"""Addresses, alone and with the interface that they stand on."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Placed:
    """An address and the interface that it is to be held on."""

    interface: str
    address: InterfaceAddress
