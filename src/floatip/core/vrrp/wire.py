"""VRRP adverts: bytes to dataclasses and back.

Version 2 over IPv4 without authentication and with PASS, version 3 over IPv4. Anything else is refused by name: AH
authentication, IPv6, packets whose length is not the one that their address count demands.
Both forms of the version 3 checksum are accepted, because the RFCs and keepalived disagree; keepalived's is sent.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Literal

from floatip.core.addresses import Address
from floatip.core.counters import Refused
from floatip.core.malformed import Malformed

PROTOCOL = 112
GROUP = IPv4Address("224.0.0.18")

_ADVERTISEMENT = 1
_HEADER = struct.Struct("!BBBBHH")
_AUTH_NONE, _AUTH_PASS, _AUTH_AH = 0, 1, 2
_AUTH_LENGTH = 8

#     0               1               2               3               4
#     +-------+-------+---------------+---------------+---------------+
#     |version| type  |     vrid      |   priority    |   addresses   |
#     +-------+-------+---------------+---------------+---------------+
#  v2 |   auth type   |   interval, s |           checksum            |
#  v3 |  rsvd |    interval, cs       |           checksum            |
#     +-------+-----------------------+-------------------------------+
#     |  the addresses, 4 octets each; in v2 then 8 octets of password |
#     +----------------------------------------------------------------+


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


@lru_cache(512)  # a master says the same each second
def parse(data: bytes, source: Address, destination: Address) -> Advert:
    """The payload of one IP packet; raises `Malformed`, nothing else."""
    if source.version != 4 or destination.version != 4:
        raise Malformed("VRRP over IPv6 is not supported", Refused.FAMILY)
    if len(data) < _HEADER.size:
        raise Malformed(f"{len(data)} octets are too short for a VRRP header", Refused.LENGTH)
    first, vrid, priority, count, timing, _ = _HEADER.unpack_from(data)
    version, kind = first >> 4, first & 0x0F
    if version not in (2, 3):
        raise Malformed(f"VRRP version {version} is unknown", Refused.VERSION)
    if kind != _ADVERTISEMENT:
        raise Malformed(f"VRRP type {kind} is not an advertisement", Refused.TYPE)
    if not count:  # RFC 9568 erratum 8299
        raise Malformed("the advert names no address", Refused.NO_ADDRESS)
    addresses_end = _HEADER.size + 4 * count
    length = addresses_end + (_AUTH_LENGTH if version == 2 else 0)
    if len(data) != length:
        raise Malformed(f"{len(data)} octets, where an address count of {count} makes {length}", Refused.LENGTH)
    addresses = tuple(IPv4Address(data[at : at + 4]) for at in range(_HEADER.size, addresses_end, 4))
    if version == 2:
        if checksum(data):
            raise Malformed("the checksum is wrong", Refused.CHECKSUM)
        auth_pass = _parse_auth(timing >> 8, data[addresses_end:])
        return Advert(2, vrid, priority, float(_interval(timing & 0xFF)), addresses, auth_pass)
    # RFC 9568 5.2.8: over the message alone; RFC 5798 was read as with the pseudo-header
    if checksum(data) and checksum(_pseudo_header(source, destination, length) + data):
        if not checksum(_pseudo_header(source, GROUP, length) + data):
            what = "the checksum is that of old_unicast_checksum: delete this line in its keepalived.conf"
            raise Malformed(what, Refused.CHECKSUM)
        raise Malformed("the checksum is wrong", Refused.CHECKSUM)
    return Advert(3, vrid, priority, _interval(timing & 0x0FFF) / 100, addresses)


def pack(advert: Advert, source: Address, destination: Address) -> bytes:
    if advert.version == 2:
        assert advert.interval in range(1, 256), "whole seconds in version 2"
        timing = (_AUTH_PASS if advert.auth_pass else _AUTH_NONE) << 8 | int(advert.interval)
        tail, pseudo_header = advert.auth_pass[:_AUTH_LENGTH].ljust(_AUTH_LENGTH, b"\0"), b""
    else:
        max_advert_centiseconds = round(advert.interval * 100)
        assert 1 <= max_advert_centiseconds <= 0x0FFF, "twelve bits in version 3"
        timing, tail = max_advert_centiseconds, b""
        # keepalived drops what comes without the pseudo-header
        pseudo_header = _pseudo_header(source, destination, _HEADER.size + 4 * len(advert.addresses))
    count = len(advert.addresses)
    header = _HEADER.pack(advert.version << 4 | _ADVERTISEMENT, advert.vrid, advert.priority, count, timing, 0)
    data = header + b"".join(address.packed for address in advert.addresses) + tail
    return data[:6] + checksum(pseudo_header + data).to_bytes(2) + data[8:]


def _parse_auth(kind: int, data: bytes) -> bytes:
    if kind == _AUTH_NONE:
        return b""  # RFC 3768 5.3.10: the field is ignored
    if kind == _AUTH_AH:
        raise Malformed("authentication type 2 (AH) is not supported", Refused.AUTH_TYPE)
    if kind != _AUTH_PASS:
        raise Malformed(f"authentication type {kind} is unknown", Refused.AUTH_TYPE)
    auth_pass = data.rstrip(b"\0")
    if not auth_pass:
        raise Malformed("authentication type 1 (PASS) with an empty password", Refused.PASSWORD)
    return auth_pass


def _interval(value: int) -> int:
    if not value:  # RFC 9568 erratum 8301: a backup that adopted it would become master at once
        raise Malformed("the advert interval is 0", Refused.INTERVAL)
    return value


def _pseudo_header(source: Address, destination: Address, length: int) -> bytes:
    return source.packed + destination.packed + struct.pack("!HH", PROTOCOL, length)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): 0 over data that holds its own correct one."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
