"""VRRP adverts: bytes to dataclasses and back. CONTRACT STUB: to be implemented."""

from dataclasses import dataclass
from typing import Literal

from floatip.core.events import Address

PROTOCOL = 112


@dataclass(frozen=True, slots=True)
class Advert:
    """One VRRP packet of version 2 (RFC 3768, 2338) or 3 (RFC 9568)."""

    version: Literal[2, 3]
    vrid: int
    priority: int
    """0: the master stops. 255: the owner of the addresses."""
    interval: float
    """Seconds; whole ones in version 2, hundredths in version 3."""
    addresses: tuple[Address, ...]
    auth_pass: bytes = b""
    """Version 2 only: the password without its padding; empty: no authentication."""


def parse(data: bytes, source: Address, destination: Address) -> Advert:
    """The payload of one IP packet; raises `Malformed`, nothing else."""
    raise NotImplementedError


def pack(advert: Advert, source: Address, destination: Address) -> bytes:
    raise NotImplementedError
