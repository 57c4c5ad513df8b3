"""The VRRP wire format against keepalived's bytes, scapy, tshark, the checks of the RFCs, and noise."""

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vrrp import VRRP, VRRPv3
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from floatip.core.addresses import Address
from floatip.core.malformed import Malformed
from floatip.core.vrrp.wire import GROUP, GROUP_IPV6, Advert, append, pack, parse
from tests.core.fuzz_vrrp import play

CAPTURES = Path(__file__).parents[1] / "captures"
SOURCE, DESTINATION = IPv4Address("192.168.143.227"), IPv4Address("192.168.143.241")
ADDRESSES = (IPv4Address("192.168.223.158"), IPv4Address("192.0.2.1"))
V2 = Advert(2, vrid=51, priority=50, interval=1.0, addresses=ADDRESSES)
PASS = Advert(2, vrid=51, priority=50, interval=1.0, addresses=ADDRESSES, auth_pass=b"s3cr3t")
V3 = Advert(3, vrid=51, priority=50, interval=0.1, addresses=ADDRESSES)
SOURCE_IPV6, DESTINATION_IPV6 = IPv6Address("fe80::10"), IPv6Address("fe80::20")
ADDRESSES_IPV6 = (IPv6Address("fe80::100"), IPv6Address("2001:db8::100"))
V3_IPV6 = Advert(3, vrid=51, priority=50, interval=0.1, addresses=ADDRESSES_IPV6)
V2_IPV6 = Advert(2, vrid=51, priority=50, interval=1.0, addresses=ADDRESSES_IPV6)
TRAILER = bytes.fromhex("0102000068000000800000010102030405060708090a0b0c0d0e0f10")


def captured(*forms: str) -> list[tuple[Address, Address, bytes]]:
    """Source, destination, packet."""
    rows = [line.split() for line in (CAPTURES / "keepalived.hex").read_text().splitlines() if line[0] != "#"]
    return [(ip_address(row[1]), ip_address(row[2]), bytes.fromhex(row[3])) for row in rows if row[0] in forms]


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    return (-total % 0xFFFF).to_bytes(2)


def ends(advert: Advert) -> tuple[Address, Address]:
    is_ipv6 = advert.addresses[:1] == ADDRESSES_IPV6[:1]
    return (SOURCE_IPV6, DESTINATION_IPV6) if is_ipv6 else (SOURCE, DESTINATION)


def altered(advert: Advert, at: int, value: int) -> bytes:
    """One octet changed, the checksum right again."""
    data = bytearray(pack(advert, SOURCE, DESTINATION))
    data[at] = value
    data[6:8] = bytes(2)
    data[6:8] = checksum(bytes(data))
    return bytes(data)


@pytest.mark.parametrize(("source", "destination", "packet"), captured("v2-none", "v2-pass", "v3", "ipv6", "v2-ipv6"))
def test_keepalived_packet_is_understood_and_made_the_same(
    source: Address, destination: Address, packet: bytes
) -> None:
    assert pack(parse(packet, source, destination), source, destination) == packet


def test_keepalived_adverts_say_what_was_configured() -> None:
    adverts = {parse(packet, *ends) for *ends, packet in captured("v2-none", "v2-pass", "v3", "ipv6", "v2-ipv6")}
    assert Advert(2, 1, 100, 1.0, (IPv4Address("10.98.0.101"),)) in adverts
    assert Advert(2, 3, 254, 2.0, (IPv4Address("10.98.0.104"),), b"12345678") in adverts
    assert Advert(2, 7, 0, 1.0, (IPv4Address("192.0.2.10"),), b"linode") in adverts
    assert Advert(3, 5, 101, 0.3, tuple(IPv4Address(f"10.98.0.{n}") for n in (106, 107, 108))) in adverts
    ipv6 = IPv6Address("fe80::98:1"), IPv6Address("fd00:98::101")
    assert Advert(3, 5, 0, 1.0, ipv6) in adverts
    assert Advert(2, 61, 100, 1.0, (IPv6Address("fe80::61"), IPv6Address("2001:db8::61"))) in adverts
    assert Advert(3, 255, 1, 1.0, tuple(IPv4Address(f"10.98.1.{n}") for n in range(1, 21))) in adverts


def test_ah_is_not_supported_and_named() -> None:
    packets = captured("v2-ah")
    assert packets
    for source, destination, packet in packets:
        with pytest.raises(Malformed, match="authentication type 2 \\(AH\\)"):
            parse(packet, source, destination)


Sent = tuple[Advert, Address, Address]


@st.composite
def adverts(draw: st.DrawFn) -> Sent:
    """With a source and a destination."""
    octet = st.integers(0, 255)
    ip_version: Literal[4, 6] = draw(st.sampled_from((4, 6)))
    address = st.ip_addresses(v=ip_version)
    addresses = tuple(draw(st.lists(address, max_size=255)))
    ends = draw(address), draw(address)
    if draw(st.booleans()):
        return Advert(3, draw(octet), draw(octet), draw(st.integers(1, 4095)) / 100, addresses), *ends
    password = draw(st.binary(max_size=8)).rstrip(b"\0") if ip_version == 4 else b""
    return Advert(2, draw(octet), draw(octet), float(draw(st.integers(1, 255))), addresses, password), *ends


@settings(deadline=None, max_examples=300)
@given(adverts(), st.booleans())
def test_parse_is_the_inverse_of_pack(sent: Sent, checksum_as_v2: bool) -> None:
    advert, *ends = sent
    assert parse(pack(advert, *ends, checksum_as_v2=checksum_as_v2), *ends) == advert


@settings(deadline=None, max_examples=300)
@given(adverts(), st.binary(min_size=28, max_size=28))
def test_a_trailer_changes_nothing_else(sent: Sent, trailer: bytes) -> None:
    advert, *ends = sent
    signed = parse(append(pack(advert, *ends), trailer, *ends), *ends)
    assert replace(signed, trailer=None) == advert
    assert signed.trailer is not None
    assert (signed.trailer.kind, signed.trailer.key_id, signed.trailer.mac) == (trailer[0], trailer[1], trailer[12:])
    assert signed.trailer.reserved == int.from_bytes(trailer[2:4])
    assert signed.trailer.sequence == int.from_bytes(trailer[4:12])


@pytest.mark.parametrize("advert", [V2, V3, V3_IPV6, V2_IPV6])
def test_every_octet_of_an_address_may_say_that_there_is_a_trailer(advert: Advert) -> None:
    """The length alone tells, and only by 28 octets."""
    data = pack(advert, *ends(advert))
    for more in (1, 4, 27, 29, 56):
        with pytest.raises(Malformed, match="octets, where an address count of 2 makes"):
            parse(data + bytes(more), *ends(advert))


def test_an_advert_without_addresses_is_one() -> None:
    """Of a keepalived without virtual_ipaddress. Whether that is right here is for the router to say."""
    for advert in (V2, PASS, V3, V3_IPV6, V2_IPV6):
        bare = replace(advert, addresses=())
        assert parse(pack(bare, *ends(advert)), *ends(advert)) == bare


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
    "no address, although there are some": (altered(V3, 3, 0), "16 octets, where an address count of 0 makes 8"),
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


@pytest.mark.parametrize("advert", [V2, PASS, V3, V3_IPV6, V2_IPV6])
def test_no_flipped_bit_goes_unnoticed(advert: Advert) -> None:
    packet = pack(advert, *ends(advert))
    for bit in range(len(packet) * 8):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            parse(bytes(flipped), *ends(advert))


@pytest.mark.parametrize("advert", [V3_IPV6, V2_IPV6])
def test_over_ipv6_the_checksum_covers_the_trailer(advert: Advert) -> None:
    packet = append(pack(advert, *ends(advert)), TRAILER, *ends(advert))
    for bit in range(len(packet) * 8):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            parse(bytes(flipped), *ends(advert))


def test_a_password_has_no_place_over_ipv6() -> None:
    data = bytearray(pack(V2_IPV6, *ends(V2_IPV6)))
    data[4] = 1
    data[6:8] = bytes(2)
    header = SOURCE_IPV6.packed + DESTINATION_IPV6.packed + bytes((0, 0, 0, len(data), 0, 0, 0, 112))
    data[6:8] = checksum(header + bytes(data))
    with pytest.raises(Malformed, match="authentication type 1 \\(PASS\\) over IPv6"):
        parse(bytes(data), *ends(V2_IPV6))


def test_the_versions_of_ip_of_an_advert_agree() -> None:
    with pytest.raises(Malformed, match="different versions of IP"):
        parse(pack(V3, SOURCE, DESTINATION), SOURCE, DESTINATION_IPV6)


# What others make of it


def packet(advert: Advert, source: Address, destination: Address, data: bytes) -> Packet:
    """By scapy, around our bytes."""
    if source.version == 6:
        return IPv6(src=str(source), dst=str(destination), nh=112, hlim=255) / Raw(data)
    return IP(src=str(source), dst=str(destination), proto=112, ttl=255) / Raw(data)


MADE: dict[str, Sent] = {
    "v2": (V2, SOURCE, DESTINATION),
    "v2 PASS": (PASS, SOURCE, GROUP),
    "v3": (V3, SOURCE, DESTINATION),
    "v3 multicast": (V3, SOURCE, GROUP),
    "v3 IPv6": (V3_IPV6, SOURCE_IPV6, DESTINATION_IPV6),
    "v3 IPv6 multicast": (V3_IPV6, SOURCE_IPV6, GROUP_IPV6),
}


@pytest.mark.parametrize("made", [pytest.param(sent, id=name) for name, sent in MADE.items() if sent[1].version == 4])
def test_scapy_makes_the_same_packet(made: Sent) -> None:
    advert, source, destination = made
    common: dict[str, Any] = {
        "vrid": advert.vrid,
        "priority": advert.priority,
        "addrlist": [str(a) for a in advert.addresses],
    }
    if advert.version == 2:
        first, second = (int.from_bytes(advert.auth_pass.ljust(8, b"\0")[at : at + 4]) for at in (0, 4))
        vrrp: Packet = VRRP(adv=1, authtype=int(bool(advert.auth_pass)), auth1=first, auth2=second, **common)
    else:
        vrrp = VRRPv3(adv=round(advert.interval * 100), **common)
    built = bytes(IP(src=str(source), dst=str(destination), proto=112, ttl=255) / vrrp)
    assert built[20:] == pack(advert, source, destination)


def test_scapy_reads_what_we_send() -> None:
    read = IP(bytes(packet(PASS, SOURCE, DESTINATION, pack(PASS, SOURCE, DESTINATION))))[VRRP]
    assert (read.version, read.vrid, read.priority, read.adv, read.authtype) == (2, 51, 50, 1, 1)
    assert read.addrlist == [str(address) for address in ADDRESSES]
    read = IP(bytes(packet(V3, SOURCE, DESTINATION, pack(V3, SOURCE, DESTINATION))))[VRRPv3]
    assert (read.version, read.vrid, read.priority, read.adv) == (3, 51, 50, 10)


FIELDS = "vrrp.version vrrp.virt_rtr_id vrrp.prio vrrp.checksum.status vrrp.ip_addr vrrp.ipv6_addr"
GOOD = "1"


def test_tshark_reads_what_we_send_and_finds_every_checksum_right(tmp_path: Path) -> None:
    packets = [packet(*sent, pack(*sent)) for sent in MADE.values()]
    wrpcap(
        str(tmp_path / "adverts.pcap"),
        [Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / one for one in packets],
    )
    command = ["tshark", "-r", str(tmp_path / "adverts.pcap"), "-Y", "vrrp", "-T", "fields", "-E", "separator=;"]
    command += [word for field in FIELDS.split() for word in ("-e", field)]
    command += [word for field in ("adver_int", "short_adver_int", "auth_string") for word in ("-e", f"vrrp.{field}")]
    read = [line.split(";") for line in subprocess.check_output(command, text=True).splitlines()]
    assert len(read) == len(MADE), "tshark does not take one of them for VRRP"
    for line, (advert, source, _) in zip(read, MADE.values(), strict=True):
        version, vrid, priority, status, ipv4, ipv6, seconds, hundredths, password = line
        assert (int(version), int(vrid), int(priority)) == (advert.version, advert.vrid, advert.priority)
        assert status == GOOD
        named = (ipv4 if source.version == 4 else ipv6).split(",")
        assert [ip_address(one) for one in named] == list(advert.addresses)
        assert (seconds or hundredths) == str(round(advert.interval * (1 if advert.version == 2 else 100)))
        assert password.encode() == advert.auth_pass


# Noise


def test_noise_raises_nothing_but_malformed() -> None:
    parsed = play(cases=100_000, seed=1)
    assert 1_000 < parsed < 90_000  # or the mutations test only one side
