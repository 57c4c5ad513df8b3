"""VRRP adverts: bytes to dataclasses and back.

Version 2 (RFC 3768, 2338) without authentication and with PASS, version 3 (RFC 9568), over IPv4 and IPv6; version 2
over IPv6 as keepalived has it. Anything else is refused by name: AH authentication, packets whose length is not the one
that their address count demands. Signed adverts have a trailer (`trailer`).
Over IPv4 both forms of the version 3 checksum are accepted, because the RFCs and keepalived disagree; the one with the
pseudo-header is sent, unless the configuration asks for the other.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from floatip.core.addresses import Address
from floatip.core.counters import Refused
from floatip.core.malformed import Malformed
from floatip.core.vrrp import trailer as trailers
from floatip.core.vrrp.trailer import Trailer

PROTOCOL = 112
GROUP, GROUP_IPV6 = IPv4Address("224.0.0.18"), IPv6Address("ff02::12")

_ADVERTISEMENT = 1
_HEADER = struct.Struct("!BBBBHH")
_AUTH_NONE, _AUTH_PASS, _AUTH_AH = 0, 1, 2
_AUTH_LENGTH = 8
_LENGTHS = {4: 4, 6: 16}
_CLASSES: dict[int, type[IPv4Address] | type[IPv6Address]] = {4: IPv4Address, 6: IPv6Address}

#     0               1               2               3               4
#     +-------+-------+---------------+---------------+---------------+
#     |version| type  |     vrid      |   priority    |   addresses   |
#     +-------+-------+---------------+---------------+---------------+
#  v2 |   auth type   |   interval, s |           checksum            |
#  v3 |  rsvd |    interval, cs       |           checksum            |
#     +-------+-----------------------+-------------------------------+
#     |  the addresses; in v2 over IPv4 then 8 octets of password     |
#     +---------------------------------------------------------------+


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
    """None at all: they are moved by other means."""
    auth_pass: bytes = b""
    """Version 2 over IPv4 only: the password without its padding; empty: no authentication."""
    trailer: Trailer | None = None
    """None: it is not signed."""


def parse(data: bytes, source: Address, destination: Address) -> Advert:
    """The payload of one IP packet; raises `Malformed`, nothing else. Signatures are not checked here."""
    if len(data) < _HEADER.size + trailers.LENGTH:
        return _parse(data, source, destination)
    end = _length(data, source.version)
    if len(data) != end + trailers.LENGTH:
        return _parse(data, source, destination)
    message = data[:end]
    trailer = trailers.parse(message, data[end:])
    if source.version == 6:  # its checksum is that of all octets (RFC 8200 section 8.1)
        if checksum(_pseudo_header(source, destination, len(data)) + data):
            raise Malformed("the checksum is wrong", Refused.CHECKSUM)
        message = trailers.without_checksum(message)
    one = _parse(message, source, destination, source.version == 6)
    return Advert(one.version, one.vrid, one.priority, one.interval, one.addresses, one.auth_pass, trailer)


@lru_cache(512)  # a master says the same each second
def _parse(data: bytes, source: Address, destination: Address, is_verified: bool = False) -> Advert:
    if source.version != destination.version:
        raise Malformed("its source and its destination are of different versions of IP", Refused.FAMILY)
    if len(data) < _HEADER.size:
        raise Malformed(f"{len(data)} octets are too short for a VRRP header", Refused.LENGTH)
    first, vrid, priority, count, timing, _ = _HEADER.unpack_from(data)
    version, kind = first >> 4, first & 0x0F
    if version not in (2, 3):
        raise Malformed(f"VRRP version {version} is unknown", Refused.VERSION)
    if kind != _ADVERTISEMENT:
        raise Malformed(f"VRRP type {kind} is not an advertisement", Refused.TYPE)
    length = _length(data, source.version)
    if len(data) != length:
        raise Malformed(f"{len(data)} octets, where an address count of {count} makes {length}", Refused.LENGTH)
    size, form = _LENGTHS[source.version], _CLASSES[source.version]
    end = _HEADER.size + size * count
    addresses: tuple[Address, ...] = tuple(form(data[at : at + size]) for at in range(_HEADER.size, end, size))
    if not is_verified:
        _verify(version, data, source, destination)
    if version == 2:
        auth_pass = _parse_auth(timing >> 8, data[end:], source.version)
        return Advert(2, vrid, priority, float(_interval(timing & 0xFF)), addresses, auth_pass)
    return Advert(3, vrid, priority, _interval(timing & 0x0FFF) / 100, addresses)


def _length(data: bytes, ip_version: int) -> int:
    """Without a trailer."""
    has_auth = ip_version == 4 and data[0] >> 4 == 2
    return _HEADER.size + data[3] * _LENGTHS[ip_version] + has_auth * _AUTH_LENGTH


def _verify(version: int, data: bytes, source: Address, destination: Address) -> None:
    if source.version == 6:
        is_right = not checksum(_pseudo_header(source, destination, len(data)) + data)
    else:
        # RFC 9568 5.2.8: over the message alone; RFC 5798 was read as with the pseudo-header
        is_right = not checksum(data)
        if not is_right and version == 3:
            is_right = not checksum(_pseudo_header(source, destination, len(data)) + data)
            if not is_right and not checksum(_pseudo_header(source, GROUP, len(data)) + data):
                what = "the checksum is that of old_unicast_checksum: delete this line in its keepalived.conf"
                raise Malformed(what, Refused.CHECKSUM)
    if not is_right:
        raise Malformed("the checksum is wrong", Refused.CHECKSUM)


def pack(advert: Advert, source: Address, destination: Address, *, checksum_as_v2: bool = False) -> bytes:
    """Without a trailer. `checksum_as_v2`: version 3 over IPv4 without the pseudo-header."""
    if advert.version == 2:
        assert advert.interval in range(1, 256), "whole seconds in version 2"
        timing = (_AUTH_PASS if advert.auth_pass else _AUTH_NONE) << 8 | int(advert.interval)
        tail = advert.auth_pass[:_AUTH_LENGTH].ljust(_AUTH_LENGTH, b"\0") if source.version == 4 else b""
    else:
        max_advert_centiseconds = round(advert.interval * 100)
        assert 1 <= max_advert_centiseconds <= 0x0FFF, "twelve bits in version 3"
        timing, tail = max_advert_centiseconds, b""
    count = len(advert.addresses)
    header = _HEADER.pack(advert.version << 4 | _ADVERTISEMENT, advert.vrid, advert.priority, count, timing, 0)
    data = header + b"".join(address.packed for address in advert.addresses) + tail
    # keepalived drops version 3 without the pseudo-header, unless it has v3_checksum_as_v2
    has_pseudo_header = source.version == 6 or (advert.version == 3 and not checksum_as_v2)
    pseudo_header = _pseudo_header(source, destination, len(data)) if has_pseudo_header else b""
    return _with_checksum(data, checksum(pseudo_header + data))


def append(data: bytes, trailer: bytes, source: Address, destination: Address) -> bytes:
    """`trailer` to what `pack` made. Over IPv4 the checksum does not cover it."""
    if source.version == 4:
        return data + trailer
    data = trailers.without_checksum(data) + trailer
    return _with_checksum(data, checksum(_pseudo_header(source, destination, len(data)) + data))


def _with_checksum(data: bytes, value: int) -> bytes:
    return data[:6] + value.to_bytes(2) + data[8:]


def _parse_auth(kind: int, data: bytes, ip_version: int) -> bytes:
    if kind == _AUTH_NONE:
        return b""  # RFC 3768 5.3.10: the field is ignored
    if kind == _AUTH_AH:
        raise Malformed("authentication type 2 (AH) is not supported", Refused.AUTH_TYPE)
    if kind != _AUTH_PASS:
        raise Malformed(f"authentication type {kind} is unknown", Refused.AUTH_TYPE)
    if ip_version == 6:
        raise Malformed("authentication type 1 (PASS) over IPv6, where there is no place for it", Refused.AUTH_TYPE)
    auth_pass = data.rstrip(b"\0")
    if not auth_pass:
        raise Malformed("authentication type 1 (PASS) with an empty password", Refused.PASSWORD)
    return auth_pass


def _interval(value: int) -> int:
    if not value:  # RFC 9568 erratum 8301: a backup that adopted it would become master at once
        raise Malformed("the advert interval is 0", Refused.INTERVAL)
    return value


def _pseudo_header(source: Address, destination: Address, length: int) -> bytes:
    """RFC 5798 section 5.2.8; RFC 8200 section 8.1."""
    form = "!HH" if source.version == 4 else "!II"
    numbers = (PROTOCOL, length) if source.version == 4 else (length, PROTOCOL)
    return source.packed + destination.packed + struct.pack(form, *numbers)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): 0 over data that holds its own correct one."""
    number = int.from_bytes(data)  # 2 ** 16 is 1, modulo 0xFFFF: what is left is the sum of its words
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))
