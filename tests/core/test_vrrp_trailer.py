"""Signed adverts: the images of the draft's appendix, keepalived's order of checks, and replays."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from floatip.core.addresses import Address
from floatip.core.counters import Refused
from floatip.core.settings import Hmac, Vrrp
from floatip.core.vrrp import trailer as trailers
from floatip.core.vrrp.trailer import LENGTH, SENDERS, Signer, Trailer
from floatip.core.vrrp.wire import Advert, append, pack, parse

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 65))
US, PEER = IPv4Address("198.51.100.10"), IPv4Address("198.51.100.20")
US_IPV6, PEER_IPV6 = IPv6Address("fe80::10"), IPv6Address("fe80::20")
CLOCK = 1_800_000_000.25

# draft-cassen-vrrp-auth-hmac, appendix, as keepalived 2.4's test has them: vrid 51, priority 200, key 00 to 1f.
VECTORS = {
    "IPv4": (
        US,
        PEER,
        "192.0.2.100",
        "3133c80100644402c00002640101000068000000800000001b84bc4e8e43892dc6d98448f8ee2265",
    ),
    "IPv6": (
        US_IPV6,
        PEER_IPV6,
        "fe80::100",
        "3133c8010064a2e9fe800000000000000000000000000100010100006800000080000000c8c56146ebfd66ee10ec4d8186461b78",
    ),
}
OF_VECTORS = 0x68000000 + 0.5


def signer(source: Address = US, *, vrid: int = 51, interval: float = 1.0, peers: Any = (), **changes: Any) -> Signer:
    hmac = replace(Hmac(((1, KEY), (9, OTHER_KEY)), 1, window=5.0), **changes)
    return Signer(Vrrp("eth0", vrid, 100, source, peers, 3, interval, hmac=hmac))


def signed(by: Signer, clock: float = CLOCK, source: Address = PEER) -> Trailer:
    """An advert, as it arrives."""
    data = pack(Advert(3, 51, 100, 1.0, ()), source, US)
    trailer = parse(append(data, by.trailer(data, clock), source, US), source, US).trailer
    assert trailer
    return trailer


def refusal(by: Signer, trailer: Trailer | None, clock: float = CLOCK, source: Address = PEER) -> Refused | None:
    objection = by.objection(trailer, source, clock)
    return objection[0] if objection else None


@pytest.mark.parametrize(("source", "destination", "address", "image"), VECTORS.values(), ids=VECTORS)
def test_the_images_of_the_draft_are_made(source: Address, destination: Address, address: str, image: str) -> None:
    data = pack(Advert(3, 51, 200, 1.0, (ip_address(address),)), source, destination, checksum_as_v2=True)
    trailer = signer(source).trailer(data, OF_VECTORS)
    assert append(data, trailer, source, destination).hex() == image


@pytest.mark.parametrize(("source", "destination", "address", "image"), VECTORS.values(), ids=VECTORS)
def test_the_images_of_the_draft_are_believed(source: Address, destination: Address, address: str, image: str) -> None:
    advert = parse(bytes.fromhex(image), source, destination)
    assert replace(advert, trailer=None) == Advert(3, 51, 200, 1.0, (ip_address(address),))
    assert refusal(signer(source), advert.trailer, OF_VECTORS, source) is None


@pytest.mark.parametrize(
    ("at", "refused"),
    [
        (2, Refused.SIGNATURE),
        (5, Refused.SIGNATURE),
        (6, None),  # the checksum
        (23, Refused.SIGNATURE),
        (24, Refused.SIGNATURE),  # type
        (25, Refused.SIGNATURE),  # key
        (26, Refused.SIGNATURE),  # reserved
        (28, Refused.STALE),
        (31, Refused.SIGNATURE),
        (32, Refused.SIGNATURE),
        (35, Refused.SIGNATURE),
        (36, Refused.SIGNATURE),
        (51, Refused.SIGNATURE),
    ],
)
def test_a_changed_octet_is_noticed_unless_it_is_of_the_checksum(at: int, refused: Refused | None) -> None:
    data = bytearray(bytes.fromhex(VECTORS["IPv6"][3]))
    data[at] ^= 1
    trailer = parse_unchecked(bytes(data))
    assert refusal(signer(US_IPV6), trailer, OF_VECTORS, US_IPV6) is refused


def parse_unchecked(data: bytes) -> Trailer:
    return trailers.parse(data[:-LENGTH], data[-LENGTH:])


def test_the_source_and_the_vrid_are_signed_too() -> None:
    trailer = signed(signer(PEER))
    assert refusal(signer(), trailer, source=IPv4Address("198.51.100.21")) is Refused.SIGNATURE
    assert refusal(signer(vrid=52), trailer) is Refused.SIGNATURE
    assert refusal(signer(), trailer) is None


def test_a_key_is_chosen_by_its_id() -> None:
    trailer = signed(signer(PEER, active=9))
    assert trailer.key_id == 9
    assert refusal(signer(), trailer) is None
    assert refusal(signer(keys=((1, KEY),)), trailer) is Refused.SIGNATURE
    assert refusal(signer(keys=((1, KEY), (9, KEY))), trailer) is Refused.SIGNATURE


@pytest.mark.parametrize("mode", ["receive-only", "permissive", "enforce"])
def test_only_enforce_asks_for_a_signature_and_all_modes_check_one(mode: str) -> None:
    ours = signer(mode=mode)
    assert ours.signs is (mode != "receive-only")
    assert refusal(ours, None) is (Refused.UNSIGNED if mode == "enforce" else None)
    assert refusal(ours, signed(signer(PEER, keys=((1, OTHER_KEY),)))) is Refused.SIGNATURE
    assert refusal(ours, signed(signer(PEER))) is None


@pytest.mark.parametrize(("ahead", "refused"), [(-6, Refused.STALE), (-5, None), (5, None), (6, Refused.STALE)])
def test_clocks_may_differ_by_the_window(ahead: int, refused: Refused | None) -> None:
    assert refusal(signer(), signed(signer(PEER), CLOCK + ahead)) is refused
    assert refusal(signer(monotonic=True), signed(signer(PEER), CLOCK + ahead)) is None


def test_a_stale_advert_is_refused_before_its_key_is_looked_at() -> None:
    assert refusal(signer(), signed(signer(PEER, active=9), CLOCK - 60)) is Refused.STALE
    assert refusal(signer(keys=((1, KEY),)), signed(signer(PEER, active=9), CLOCK - 60)) is Refused.STALE


@pytest.mark.parametrize(("interval", "window"), [(0.01, 5), (1, 5), (2, 6), (40, 120), (255, 300)])
def test_the_window_is_three_adverts_unless_it_is_said(interval: float, window: float) -> None:
    assert signer(interval=interval, window=0.0).window == window
    assert signer(interval=interval, window=7.0).window == 7


@pytest.mark.parametrize("monotonic", [False, True])
def test_nothing_is_believed_twice(monotonic: bool) -> None:
    theirs, ours = signer(PEER), signer(monotonic=monotonic)
    first, second = signed(theirs), signed(theirs)
    assert refusal(ours, second) is None
    assert refusal(ours, second) is Refused.REPLAYED
    assert refusal(ours, first) is Refused.REPLAYED
    assert refusal(ours, signed(theirs)) is None


def test_each_receiver_believes_the_same_copy_once() -> None:
    trailer = signed(signer(PEER))
    assert [refusal(each, trailer) for each in (signer(), signer())] == [None, None]


def test_what_is_forged_moves_no_mark() -> None:
    theirs, ours = signer(PEER), signer()
    forged = replace(signed(theirs, CLOCK + 4), mac=bytes(16))
    assert refusal(ours, forged) is Refused.SIGNATURE
    assert refusal(ours, signed(signer(PEER))) is None


def sequences(by: Signer, *clocks: float) -> list[int]:
    return [signed(by, clock).sequence for clock in clocks]


def test_the_sequence_is_the_clock_and_grows_where_the_clock_does_not() -> None:
    first = 1_800_000_000 << 32 | 0x4000 << 16
    assert sequences(signer(), CLOCK, CLOCK, CLOCK - 1, CLOCK + 1) == [first, first + 1, first + 2, first + (1 << 32)]


def test_a_clock_that_is_put_back_further_than_the_window_is_followed_unless_it_is_monotonic() -> None:
    first = 1_800_000_000 << 32 | 0x4000 << 16
    assert sequences(signer(), CLOCK, CLOCK - 5, CLOCK - 6) == [first, first + 1, first - (6 << 32)]
    assert sequences(signer(monotonic=True), CLOCK, CLOCK - 3600) == [first, first + 1]


def test_a_sender_whose_clock_was_put_right_is_heard_again_when_it_comes_to_its_mark() -> None:
    ours = signer()
    assert refusal(ours, signed(signer(PEER), CLOCK + 4)) is None
    assert refusal(ours, signed(signer(PEER), CLOCK + 1), CLOCK + 1) is Refused.REPLAYED
    assert refusal(ours, signed(signer(PEER), CLOCK + 5), CLOCK + 5) is None


@pytest.mark.parametrize(("monotonic", "refused"), [(False, None), (True, Refused.REPLAYED)])
def test_after_all_clocks_were_put_back_a_mark_of_the_future_counts_for_nothing_unless_it_is_monotonic(
    monotonic: bool, refused: Refused | None
) -> None:
    ours = signer(monotonic=monotonic)
    assert refusal(ours, signed(signer(PEER), CLOCK + 3600), CLOCK + 3600) is None
    assert refusal(ours, signed(signer(PEER))) is refused


def test_sequences_are_compared_as_serial_numbers() -> None:
    """RFC 1982: the seconds come round in 2106."""
    last = (1 << 32) - 1.0
    theirs, ours = signer(PEER), signer()
    assert refusal(ours, signed(theirs, last), last) is None
    assert refusal(ours, signed(theirs, last + 2), last + 2) is None
    assert refusal(ours, signed(signer(PEER), last), last) is Refused.REPLAYED


def test_by_multicast_the_latest_senders_are_remembered() -> None:
    ours = signer()
    senders = [IPv4Address(f"198.51.100.{n}") for n in range(20, 21 + SENDERS)]
    trailers = {source: signed(signer(source), source=source) for source in senders}
    assert [refusal(ours, trailers[source], source=source) for source in senders] == [None] * len(senders)
    assert refusal(ours, trailers[senders[1]], source=senders[1]) is Refused.REPLAYED
    assert refusal(ours, trailers[senders[0]], source=senders[0]) is None  # forgotten, but for the window


def test_of_every_unicast_peer_the_sequence_is_remembered() -> None:
    senders = tuple(IPv4Address(f"198.51.100.{n}") for n in range(20, 21 + 2 * SENDERS))
    ours = signer(peers=senders)
    trailers = {source: signed(signer(source), source=source) for source in senders}
    for expected in (None, Refused.REPLAYED):
        assert {refusal(ours, trailers[source], source=source) for source in senders} == {expected}


def test_a_reload_forgets_neither_what_was_sent_nor_what_was_heard() -> None:
    theirs, ours = signer(PEER), signer()
    trailer = signed(theirs)
    assert refusal(ours, trailer) is None
    sent = signed(ours).sequence
    again = Signer(replace(ours._config, priority=50), ours)
    assert refusal(again, trailer) is Refused.REPLAYED
    assert signed(again, CLOCK).sequence == sent + 1
