"""The frames of the second chance: what is packed is read again, and nothing else is believed or breaks anything."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floatip.core.addresses import Address
from floatip.core.malformed import Malformed
from floatip.core.second_chance.flow import V4, is_flow, packed_address
from floatip.core.second_chance.wire import (
    FLOWS_IN_A_PART,
    LARGEST,
    WHOLE,
    Ask,
    Frame,
    Hello,
    Listing,
    Message,
    Offer,
    pack,
    parse,
    parts_of,
    that_fit,
)
from tests.flows import flow

KEY, OTHER = b"k" * 32, b"o" * 32
NUMBERS = st.integers(0, 2**63)
ADDRESSES = st.frozensets(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), max_size=30)
PORTS = st.binary(min_size=2, max_size=2).map(lambda port: port + b"\0\0")


def of_size(size: int) -> st.SearchStrategy[bytes]:
    addresses = st.binary(min_size=size, max_size=size)
    return st.tuples(addresses, PORTS, addresses, PORTS).map(b"".join)


FLOWS = st.frozensets(st.one_of(of_size(4), of_size(16)), max_size=20)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.booleans(), st.text("abc äß", max_size=40), st.booleans()),
    st.builds(Offer, ADDRESSES),
    st.builds(
        lambda number, one, both, flags, version, boot, forwarded, reason, nonce, probe_at, direct: Ask(
            *(number, one | both, both, flags, version, boot, forwarded, reason, nonce),
            frozenset({address.version: address for address in probe_at}.values()),
            direct & (one | both),
        ),
        *(
            NUMBERS,
            ADDRESSES,
            ADDRESSES,
            st.integers(0, 7),
            NUMBERS,
            NUMBERS,
            NUMBERS,
            st.text("xyz", max_size=40),
            st.binary(min_size=16, max_size=16),
            ADDRESSES,
            ADDRESSES,
        ),
    ),
    st.builds(
        Listing,
        NUMBERS,
        st.integers(0, 2**32 - 1),
        *(NUMBERS, NUMBERS, st.just(2), st.integers(3, 9), st.integers(0, 9), NUMBERS, FLOWS, FLOWS, st.booleans()),
    ),
)


def framed(message: Message) -> Frame:
    return Frame(b"a" * 8, b"b" * 8, 3, 2**63, 5, message)


@given(MESSAGES)
def test_what_is_packed_is_read_again(message: Message) -> None:
    data = pack(framed(message), KEY)
    is_large = isinstance(message, Hello) and message.is_large
    assert len(data) == WHOLE if is_large else len(data) <= LARGEST
    assert parse(data, [OTHER, KEY]) == framed(message)


def test_a_large_hello_is_as_large_as_the_way_allows() -> None:
    frame = framed(Hello(True, is_large=True))
    assert [len(pack(frame, KEY, whole)) for whole in (1430, WHOLE)] == [1430, WHOLE]
    assert parse(pack(frame, KEY, 1430), [KEY]) == frame


@given(MESSAGES, st.integers(0, 10_000), st.integers(0, 7))
def test_a_changed_bit_is_not_believed(message: Message, at: int, bit: int) -> None:
    data = bytearray(pack(framed(message), KEY))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(Malformed):
        parse(bytes(data), [KEY])


@given(st.integers(1, 6), st.binary(max_size=200))
def test_only_malformed_comes_of_what_is_signed_and_makes_no_sense(kind: int, body: bytes) -> None:
    """The other node may be of a later release, or wrong."""
    import hmac  # noqa: PLC0415

    from floatip.core.second_chance.wire import FORMAT, HEADER, MAGIC, TAG  # noqa: PLC0415

    signed = HEADER.pack(MAGIC, FORMAT, kind, b"a" * 8, b"b" * 8, 1, 2, 3) + body
    data = signed + hmac.digest(KEY, b"second chance" + signed, "sha256")[:TAG]
    try:
        frame = parse(data, [KEY])
    except Malformed:
        return
    assert isinstance(frame.message, Message)


def test_with_another_key_nothing_is_read() -> None:
    with pytest.raises(Malformed, match="another key"):
        parse(pack(framed(Hello(True)), OTHER), [KEY])


def test_ten_thousand_connections_go_in_frames_that_need_no_fragments() -> None:
    flows = frozenset(number.to_bytes(4, "big") + b"\x30\x39\0\0" + bytes(8) for number in range(10_000))
    parts = parts_of(flows, frozenset())
    assert len(parts) == -(-10_000 // (FLOWS_IN_A_PART // V4))
    assert frozenset().union(*(add for add, _ in parts)) == flows
    longest = max(len(pack(framed(Listing(1, 0, 1, 0, 0, len(parts), 10_000, 0, *part)), KEY)) for part in parts)
    assert longest <= LARGEST


def test_nothing_new_is_a_part_too() -> None:
    assert parts_of(frozenset(), frozenset()) == [(frozenset(), frozenset())]


def test_of_too_many_addresses_those_that_fit_are_the_same_each_time() -> None:
    many = {IPv4Address(number) for number in range(1000)} | {IPv6Address(number) for number in range(1000)}
    assert that_fit(many) == that_fit(sorted(many, key=str, reverse=True))
    assert len(pack(framed(Offer(frozenset(many))), KEY)) <= LARGEST
    frame = parse(pack(framed(Offer(frozenset(many))), KEY), [KEY])
    assert frame.message == Offer(that_fit(many))


@pytest.mark.parametrize("ours", ["192.0.2.1", "2001:db8::1"])
def test_our_address_is_found_in_a_flow(ours: str) -> None:
    address = ip_address(ours)
    found = flow(ip_address("192.0.2.9" if address.version == 4 else "2001:db8::9"), 4660, address, 80)
    assert is_flow(found)
    assert packed_address(found) == address.packed


def test_what_is_no_connection_is_not_read() -> None:
    """The kernel's sets would not have it, or have it twice."""
    wrong = frozenset((bytes(6) + b"\1" + bytes(9),))
    with pytest.raises(Malformed, match="that is none"):
        parse(pack(framed(Listing(1, 0, 1, 0, 0, 1, 1, 0, wrong)), KEY), [KEY])


def test_which_of_very_many_addresses_probes_came_from_has_room() -> None:
    many = that_fit(IPv4Address(number) for number in range(1000))
    direct = frozenset(sorted(many)[::2])
    nonce = b"n" * 16
    probe_at = frozenset[Address]((IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")))
    ask = Ask(1, many, frozenset(sorted(many)[:9]), nonce=nonce, probe_at=probe_at, direct=direct)
    data = pack(framed(ask), KEY)
    assert len(data) <= LARGEST
    assert parse(data, [KEY]).message == ask


def test_more_than_one_place_for_probes_is_not_believed() -> None:
    places: frozenset[Address] = frozenset((IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")))
    with pytest.raises(Malformed, match="probes"):
        parse(pack(framed(Ask(1, frozenset(), probe_at=places)), KEY), [KEY])
