"""The bytes between a drill and an observer: only what the other end wrote now, for us, in this order, is believed."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floatip.core.link import wire
from floatip.observing.signed import (
    GREETING,
    HEAD,
    LENGTH,
    LONGEST_ANSWER,
    LONGEST_HELLO,
    LONGEST_REQUEST,
    NONCE,
    Conversation,
    Message,
    OtherFormat,
    OtherKey,
    Untrusted,
)
from tests.observing.meet import KEY, OTHER

Pair = tuple[Conversation, Conversation]
OURS, THEIRS = b"\1" * NONCE, b"\2" * NONCE


def met(keys: tuple[bytes, ...] = (KEY,), observers: tuple[bytes, ...] = (KEY,)) -> Pair:
    """The drill and the observer, who have greeted each other."""
    drill = Conversation(keys, OURS, observes=False)
    observer = Conversation(observers, THEIRS, observes=True)
    assert drill.receive(observer.greeting) == []
    assert observer.receive(drill.greeting) == []
    return drill, observer


def trusting() -> Pair:
    drill, observer = met()
    assert observer.receive(drill.pack({"ask": "hello"})) == [{"ask": "hello"}]
    assert drill.receive(observer.pack({"answer": "hello"})) == [{"answer": "hello"}]
    return drill, observer


@given(st.lists(st.integers(1, 200)))
def test_messages_arrive_in_their_order_however_the_octets_are_cut(sizes: list[int]) -> None:
    drill, observer = Conversation((KEY,), OURS, observes=False), Conversation((KEY,), THEIRS, observes=True)
    drill.receive(observer.greeting)
    messages = [{"number": number, "text": "é" * number} for number in range(5)]
    octets = drill.greeting + b"".join(map(drill.pack, messages))
    got = []
    for size in sizes:
        got += observer.receive(octets[:size])
        octets = octets[size:]
    assert got + observer.receive(octets) == messages


@pytest.mark.parametrize(
    ("drills", "observers"),
    [
        ((KEY,), (KEY,)),
        ((KEY,), (KEY, OTHER)),
        ((KEY,), (OTHER, KEY)),
        ((OTHER, KEY), (KEY, OTHER)),
        ((OTHER, KEY), (OTHER,)),
    ],
)
def test_any_of_the_two_keys_is_believed_while_one_is_being_replaced(
    drills: tuple[bytes, ...], observers: tuple[bytes, ...]
) -> None:
    drill, observer = met(drills, observers)
    for text in ("first", "second"):
        assert observer.receive(drill.pack({"ask": text})) == [{"ask": text}]
        assert drill.receive(observer.pack({"answer": text})) == [{"answer": text}]


@pytest.mark.parametrize("observers", [(OTHER,), (OTHER, bytes(32))])
def test_another_key_is_not_believed_by_either_end(observers: tuple[bytes, ...]) -> None:
    drill, observer = met((KEY,), observers)
    with pytest.raises(OtherKey):
        observer.receive(drill.pack({"ask": "hello"}))
    assert not observer.is_trusted
    with pytest.raises(OtherKey):
        drill.receive(observer.pack({"answer": "hello"}))


# What somebody in between can do to a message, at each step


def changed(place: int) -> Callable[[bytes, Pair], bytes]:
    def change(message: bytes, pair: Pair) -> bytes:
        return message[:place] + bytes((message[place] ^ 1,)) + message[place + 1 :]

    return change


def sent_back(message: bytes, pair: Pair, *, to_observer: bool) -> bytes:
    """What the receiver itself would send now."""
    receiver = pair[1] if to_observer else pair[0]
    return receiver.pack(json.loads(message[HEAD:]))


def of_another_connection(message: bytes, pair: Pair, *, to_observer: bool) -> bytes:
    other = Conversation((KEY,), b"\3" * NONCE, observes=False), Conversation((KEY,), b"\4" * NONCE, observes=True)
    other[0].receive(other[1].greeting)
    other[1].receive(other[0].greeting)
    return other[0 if to_observer else 1].pack(json.loads(message[HEAD:]))


def with_another_nonce(message: bytes, pair: Pair, *, to_observer: bool) -> bytes:
    """The same drill, whose greeting the observer got with another nonce."""
    sender = Conversation((KEY,), OURS if to_observer else THEIRS, observes=not to_observer)
    sender.receive(Conversation((KEY,), b"\5" * NONCE, observes=to_observer).greeting)
    return sender.pack(json.loads(message[HEAD:]))


def the_next_one(message: bytes, pair: Pair, *, to_observer: bool) -> bytes:
    return pair[0 if to_observer else 1].pack(json.loads(message[HEAD:]))


HARMS: dict[str, Callable[..., bytes]] = {
    "length changed": changed(3),
    "signature changed": changed(4),
    "end of the signature changed": changed(HEAD - 1),
    "text changed": changed(HEAD + 2),
    "end of the text changed": changed(-2),
    "sent back": sent_back,
    "of another connection": of_another_connection,
    "with another nonce": with_another_nonce,
    "left out": the_next_one,
    "without a signature": lambda message, pair: message[:4] + bytes(HEAD - 4) + message[HEAD:],
    "a datagram of the link": lambda message, pair: signed_like_the_link(message),
}


def signed_like_the_link(message: bytes) -> bytes:
    datagram = wire.pack(wire.Datagram(bytes(8), 1, 1, 100, wire.HelloFlag(0)), KEY)
    return LENGTH.pack(len(datagram)) + bytes(HEAD - 4) + datagram


@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("to_observer", [True, False], ids=["to the observer", "to the drill"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_message_is_not_believed_at_any_step(harm: str, to_observer: bool, step: int) -> None:
    pair = drill, observer = met()
    for _ in range(step):
        observer.receive(drill.pack({"ask": "x"}))
        drill.receive(observer.pack({"answer": "x"}))
    sender, receiver = (drill, observer) if to_observer else (observer, drill)
    message = sender.pack({"a": "text that is long enough"})
    do = HARMS[harm]
    harmed = do(message, pair, to_observer=to_observer) if harm in SIDED else do(message, pair)
    assert harmed != message
    following = sender.pack({"a": "a length that was changed may ask for more first"})
    with pytest.raises(Untrusted):
        receiver.receive(harmed + following)


SIDED = {"sent back", "of another connection", "with another nonce", "left out"}


@pytest.mark.parametrize("to_observer", [True, False])
def test_a_repeated_message_is_not_believed(to_observer: bool) -> None:
    drill, observer = trusting()
    sender, receiver = (drill, observer) if to_observer else (observer, drill)
    message = sender.pack({"a": "b"})
    assert receiver.receive(message) == [{"a": "b"}]
    with pytest.raises(Untrusted):
        receiver.receive(message)


def test_a_conversation_that_was_recorded_is_not_believed_by_the_next_one() -> None:
    drill, observer = met()
    recorded = [drill.greeting, drill.pack({"ask": "hello"}), drill.pack({"ask": "begin"})]
    assert [message for octets in recorded[1:] for message in observer.receive(octets)]
    another = Conversation((KEY,), b"\6" * NONCE, observes=True)
    assert another.receive(recorded[0]) == []
    with pytest.raises(OtherKey):
        another.receive(recorded[1])


def test_an_observer_that_gets_its_own_greeting_and_words_back_believes_nothing() -> None:
    observer = Conversation((KEY,), THEIRS, observes=True)
    observer.receive(observer.greeting)
    with pytest.raises(OtherKey):
        observer.receive(observer.pack({"answer": "hello"}))


@pytest.mark.parametrize(("observes", "longest"), [(True, LONGEST_REQUEST), (False, LONGEST_ANSWER)])
def test_what_is_too_long_is_refused_by_its_length_alone(observes: bool, longest: int) -> None:
    drill, observer = met()
    receiver = observer if observes else drill
    with pytest.raises(Untrusted, match="are the most"):
        receiver.receive(LENGTH.pack(LONGEST_HELLO + 1))
    drill, observer = trusting()
    receiver = observer if observes else drill
    assert receiver.receive(LENGTH.pack(longest)) == []
    drill, observer = trusting()
    receiver = observer if observes else drill
    with pytest.raises(Untrusted, match="are the most"):
        receiver.receive(LENGTH.pack(longest + 1))


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"[" * 3000, b"\xff", b'"text"', b"null"])
def test_what_the_right_key_signed_must_be_an_object_too(body: bytes) -> None:
    drill, observer = trusting()
    with pytest.raises(Untrusted):
        observer.receive(drill.pack_text(body))


@pytest.mark.parametrize("observes", [True, False])
def test_another_format_is_named_and_another_protocol_is_refused_at_its_first_octets(observes: bool) -> None:
    end = partial(Conversation, (KEY,), OURS, observes=observes)
    magic = end().greeting[:15]
    with pytest.raises(OtherFormat, match="format 2"):
        end().receive(magic + b"\2")
    for octets in (b"GET / HTTP/1.1\r\n", b"SSH-2.0", b"\x16\x03\x01", b"floatip observX", b"\0"):
        with pytest.raises(Untrusted, match="another protocol"):
            end().receive(octets)


@given(st.binary(max_size=300), st.booleans(), st.booleans(), st.booleans())
def test_no_octets_do_more_than_be_refused(data: bytes, observes: bool, greeted: bool, trusted: bool) -> None:
    drill, observer = trusting() if trusted else met()
    one = observer if observes else drill
    if not greeted and not trusted:
        one = Conversation((KEY,), OURS, observes=observes)
    try:
        assert one.receive(data) == []
    except Untrusted:
        return
    assert len(one._waiting) == (len(data) if greeted or trusted or len(data) < GREETING.size else len(data) - 48)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_octet_anywhere_leaves_only_what_came_before_it(place: int, octet: int) -> None:
    drill, observer = Conversation((KEY,), OURS, observes=False), Conversation((KEY,), THEIRS, observes=True)
    drill.receive(observer.greeting)
    messages: list[Message] = [{"ask": "hello", "name": "haproxy1"}, {"ask": "clock"}, {"ask": "begin", "most": 60.0}]
    octets = bytearray(drill.greeting + b"".join(map(drill.pack, messages)))
    place %= len(octets)
    is_changed = octets[place] != octet
    octets[place] = octet
    got = []
    try:
        for at in range(0, len(octets), 16):
            got += observer.receive(bytes(octets[at : at + 16]))
    except Untrusted:
        pass
    if is_changed:
        assert len(got) < len(messages)
    assert got == messages[: len(got)]
