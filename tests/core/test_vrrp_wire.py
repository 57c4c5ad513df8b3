"""The VRRP wire format against keepalived's bytes, the checks of the RFCs, and noise."""

import random
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.core.addresses import Address
from floatip.core.malformed import Malformed
from floatip.core.vrrp.wire import GROUP, Advert, pack, parse

CAPTURES = Path(__file__).parents[1] / "captures"
SOURCE, DESTINATION = IPv4Address("192.168.143.227"), IPv4Address("192.168.143.241")
ADDRESSES = (IPv4Address("192.168.223.158"), IPv4Address("192.0.2.1"))
V2 = Advert(2, vrid=51, priority=50, interval=1.0, addresses=ADDRESSES)
PASS = Advert(2, vrid=51, priority=50, interval=1.0, addresses=ADDRESSES, auth_pass=b"s3cr3t")
V3 = Advert(3, vrid=51, priority=50, interval=0.1, addresses=ADDRESSES)


def captured(*forms: str) -> list[tuple[Address, Address, bytes]]:
    """Source, destination, packet."""
    rows = [line.split() for line in (CAPTURES / "keepalived.hex").read_text().splitlines() if line[0] != "#"]
    return [(ip_address(row[1]), ip_address(row[2]), bytes.fromhex(row[3])) for row in rows if row[0] in forms]


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    return (-total % 0xFFFF).to_bytes(2)


def altered(advert: Advert, at: int, value: int) -> bytes:
    """One octet changed, the checksum right again."""
    data = bytearray(pack(advert, SOURCE, DESTINATION))
    data[at] = value
    data[6:8] = bytes(2)
    data[6:8] = checksum(bytes(data))
    return bytes(data)


@pytest.mark.parametrize(("source", "destination", "packet"), captured("v2-none", "v2-pass", "v3"))
def test_keepalived_packet_is_understood_and_made_the_same(
    source: Address, destination: Address, packet: bytes
) -> None:
    assert pack(parse(packet, source, destination), source, destination) == packet


def test_keepalived_adverts_say_what_was_configured() -> None:
    adverts = {parse(packet, *ends) for *ends, packet in captured("v2-none", "v2-pass", "v3")}
    assert Advert(2, 1, 100, 1.0, (IPv4Address("10.98.0.101"),)) in adverts
    assert Advert(2, 3, 254, 2.0, (IPv4Address("10.98.0.104"),), b"12345678") in adverts
    assert Advert(2, 7, 0, 1.0, (IPv4Address("192.0.2.10"),), b"linode") in adverts
    assert Advert(3, 5, 101, 0.3, tuple(IPv4Address(f"10.98.0.{n}") for n in (106, 107, 108))) in adverts
    assert Advert(3, 255, 1, 1.0, tuple(IPv4Address(f"10.98.1.{n}") for n in range(1, 21))) in adverts


@pytest.mark.parametrize(("form", "why"), [("v2-ah", "authentication type 2 (AH)"), ("ipv6", "IPv6")])
def test_what_is_not_supported_is_named(form: str, why: str) -> None:
    packets = captured(form)
    assert packets
    for source, destination, packet in packets:
        with pytest.raises(Malformed) as malformed:
            parse(packet, source, destination)
        assert why in malformed.value.what


@st.composite
def adverts(draw: st.DrawFn) -> Advert:
    octet = st.integers(0, 255)
    addresses = tuple(draw(st.lists(st.ip_addresses(v=4), min_size=1, max_size=255)))
    if draw(st.booleans()):
        return Advert(3, draw(octet), draw(octet), draw(st.integers(1, 4095)) / 100, addresses)
    password = draw(st.binary(max_size=8)).rstrip(b"\0")
    return Advert(2, draw(octet), draw(octet), float(draw(st.integers(1, 255))), addresses, password)


@settings(deadline=None, max_examples=300)
@given(adverts(), st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_parse_is_the_inverse_of_pack(advert: Advert, source: IPv4Address, destination: IPv4Address) -> None:
    assert parse(pack(advert, source, destination), source, destination) == advert


def test_version_3_is_sent_with_the_pseudo_header_and_accepted_without() -> None:
    without = altered(V3, 1, V3.vrid)
    assert pack(V3, SOURCE, DESTINATION) != without
    assert parse(without, SOURCE, DESTINATION) == V3


def test_the_checksum_of_version_3_holds_for_its_own_addresses_only() -> None:
    with pytest.raises(Malformed, match="checksum"):
        parse(pack(V3, SOURCE, DESTINATION), SOURCE, IPv4Address("192.168.143.242"))


def test_the_checksum_of_old_keepaliveds_is_refused_with_the_keyword_that_asks_for_it() -> None:
    old = pack(V3, SOURCE, GROUP)
    assert parse(old, SOURCE, GROUP) == V3  # multicast: it is the right one
    with pytest.raises(Malformed, match="old_unicast_checksum"):
        parse(old, SOURCE, DESTINATION)


def test_a_long_password_is_cut_to_eight_octets() -> None:
    advert = Advert(2, 1, 100, 1.0, ADDRESSES, b"a longer password")
    assert parse(pack(advert, SOURCE, DESTINATION), SOURCE, DESTINATION).auth_pass == b"a longer"


def test_octets_that_mean_nothing_are_ignored() -> None:
    assert parse(altered(V2, -1, 0xFF), SOURCE, DESTINATION) == V2  # authentication data without authentication
    assert parse(altered(V3, 4, 0xF0), SOURCE, DESTINATION) == V3  # reserved bits


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "0 octets are too short for a VRRP header"),
    "seven octets": (pack(V2, SOURCE, DESTINATION)[:7], "7 octets are too short for a VRRP header"),
    "version 1": (altered(V2, 0, 0x11), "VRRP version 1 is unknown"),
    "version 4": (altered(V3, 0, 0x41), "VRRP version 4 is unknown"),
    "type 2": (altered(V2, 0, 0x22), "VRRP type 2 is not an advertisement"),
    "no address": (altered(V3, 3, 0), "the advert names no address"),
    "more addresses than octets": (altered(V3, 3, 3), "16 octets, where an address count of 3 makes 20"),
    "fewer addresses than octets": (altered(V2, 3, 1), "24 octets, where an address count of 1 makes 20"),
    "a cut password": (pack(PASS, SOURCE, DESTINATION)[:-1], "23 octets, where an address count of 2 makes 24"),
    "an octet too many": (pack(V3, SOURCE, DESTINATION) + b"\0", "17 octets, where an address count of 2 makes 16"),
    "an interval of 0 s": (altered(V2, 5, 0), "the advert interval is 0"),
    "an interval of 0 cs": (altered(V3, 5, 0), "the advert interval is 0"),
    "AH": (altered(V2, 4, 2), "authentication type 2 (AH) is not supported"),
    "authentication type 3": (altered(V2, 4, 3), "authentication type 3 is unknown"),
    "PASS without a password": (altered(V2, 4, 1), "authentication type 1 (PASS) with an empty password"),
}


@pytest.mark.parametrize(("packet", "why"), [pytest.param(*case, id=name) for name, case in REFUSED.items()])
def test_a_bad_packet_is_refused_with_the_reason(packet: bytes, why: str) -> None:
    with pytest.raises(Malformed) as malformed:
        parse(packet, SOURCE, DESTINATION)
    assert malformed.value.what == why


@pytest.mark.parametrize("advert", [V2, PASS, V3])
def test_no_flipped_bit_goes_unnoticed(advert: Advert) -> None:
    packet = pack(advert, SOURCE, DESTINATION)
    for bit in range(len(packet) * 8):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            parse(bytes(flipped), SOURCE, DESTINATION)


def test_noise_raises_nothing_but_malformed() -> None:
    draw = random.Random(1)
    seeds = [packet for *_, packet in captured("v2-none", "v2-pass", "v2-ah", "v3", "ipv6")]
    ends: list[Any] = [SOURCE, DESTINATION, IPv6Address("fe80::1")]
    parsed = 0
    for turn in range(100_000):
        packet = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(packet) + 1)
            packet[at : at + draw.randint(0, 4)] = draw.randbytes(draw.randint(0, 4))
        if turn % 2 and len(packet) > 8:
            packet[6:8] = bytes(2)
            packet[6:8] = checksum(bytes(packet))
        try:
            parse(bytes(packet), draw.choice(ends), DESTINATION)
            parsed += 1
        except Malformed:
            pass
    assert 1_000 < parsed < 90_000  # or the mutations test only one side
