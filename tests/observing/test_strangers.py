"""What strangers, other programs and wrong messages may do to an observer: nothing but be refused."""

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from floatip.observing.join import MOST_PROVED, MOST_UNPROVED
from floatip.observing.signed import GREETING, HEAD, LENGTH, MAGIC, NONCE, Conversation, Message
from tests.observing.meet import KEY, LIMIT, OTHER, Observer, ended, key_file, observing, wait_for

WIRES: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closes_its_wires() -> Iterator[None]:
    yield
    while WIRES:
        WIRES.pop().close()


class Wire:
    """A connection to an observer, octet by octet. It is closed after the test."""

    def __init__(self, observer: Observer, keys: tuple[bytes, ...] = (KEY,)) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(LIMIT)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, buffer, 4096)
        self.socket.connect(("127.0.0.1", observer.port))
        WIRES.append(self.socket)
        self.conversation = Conversation(keys, secrets.token_bytes(NONCE), observes=False)
        self.greeting = b""
        while len(self.greeting) < GREETING.size:
            self.greeting += self.socket.recv(GREETING.size - len(self.greeting))
        self.conversation.receive(self.greeting)

    def hello(self) -> "Wire":
        self.socket.sendall(self.conversation.greeting)
        assert self.ask({"ask": "hello", "name": "haproxy1", "version": "1"})["answer"] == "hello"
        return self

    def ask(self, message: Message) -> Message:
        self.socket.sendall(self.conversation.pack(message))
        while True:
            for answer in self.conversation.receive(self.socket.recv(65536)):
                if "news" not in answer:
                    return answer


def garbled(message: bytes) -> bytes:
    return message[:-1] + bytes((message[-1] ^ 1,))


HELLO: Message = {"ask": "hello", "name": "haproxy1", "version": "1"}
BEFORE: dict[str, Callable[[Wire], bytes]] = {
    "another protocol": lambda wire: b"GET / HTTP/1.1\r\nHost: observer\r\n\r\n",
    "its own greeting, and nothing signed": lambda wire: wire.greeting + bytes(200),
    "another format": lambda wire: MAGIC + b"\x09" + bytes(NONCE),
    "a length without end": lambda wire: wire.conversation.greeting + LENGTH.pack(2**32 - 1),
    "a hello that was garbled": lambda wire: wire.conversation.greeting + garbled(wire.conversation.pack(HELLO)),
    "a hello of another key": lambda wire: wire.conversation.greeting + of_another_key(wire).pack(HELLO),
    "random octets": lambda wire: secrets.token_bytes(4000),
}
AFTER: dict[str, Callable[[Wire], bytes]] = {
    "garbled": lambda wire: garbled(wire.conversation.pack({"ask": "clock"})),
    "repeated": lambda wire: 2 * wire.conversation.pack({"ask": "clock"}),
    "the second before the first": lambda wire: (
        wire.conversation.pack({"ask": "clock"}) and wire.conversation.pack({"ask": "clock"})
    ),
    "too long": lambda wire: LENGTH.pack(5000),
    "no object": lambda wire: wire.conversation.pack_text(b"[]"),
    "random octets": lambda wire: b"\0\0\0\x10" + secrets.token_bytes(HEAD + 12),
}


def of_another_key(wire: Wire) -> Conversation:
    other = Conversation((OTHER,), wire.conversation._nonce, observes=False)
    other.receive(wire.greeting)
    return other


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observer]:
    """One observer for all that follows: nothing of it may harm it."""
    with observing(key_file(tmp_path_factory.mktemp("lasting"))) as observer:
        yield observer


def goes_on(observer: Observer) -> None:
    """It serves a drill."""
    wire = Wire(observer).hello()
    answer = wire.ask({"ask": "begin", "target": None, "most": 10})
    assert answer["answer"] == "begin", answer
    assert "recording" in answer
    assert wire.ask({"ask": "done"}) == {"answer": "done"}
    wire.socket.close()


@pytest.mark.parametrize("what", BEFORE)
def test_a_stranger_is_sent_away_with_a_reason(what: str, lasting: Observer) -> None:
    refused = len(lasting.lines)
    wire = Wire(lasting)
    wire.socket.sendall(BEFORE[what](wire))
    assert ended(wire.socket) == b""
    wait_for(lambda: any("refused" in line for line in lasting.lines[refused:]), lambda: lasting.text)
    goes_on(lasting)


@pytest.mark.parametrize("what", AFTER)
@pytest.mark.parametrize("begun", [False, True])
def test_what_comes_wrong_in_a_drill_ends_its_connection_and_not_the_observer(
    what: str, begun: bool, lasting: Observer
) -> None:
    wire = Wire(lasting).hello()
    id_ = wire.ask({"ask": "begin", "target": None, "most": 30})["recording"] if begun else ""
    wire.socket.sendall(AFTER[what](wire))
    ended(wire.socket)
    if begun:
        again = Wire(lasting).hello()
        assert again.ask({"ask": "attach", "recording": id_}) == {"answer": "attach", "sent": 0, "lost": 0}
        assert again.ask({"ask": "done"}) == {"answer": "done"}
        goes_on(lasting)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"ask": None},
        {"ask": ["clock"]},
        {"ask": "no such thing"},
        {"ask": "hello", "name": "again"},
        {"ask": "attach"},
        {"ask": "attach", "recording": "0" * 32},
        {"ask": "finish"},
        {"ask": "done"},
        {"ask": "fetch", "probes": 0, "seen": 0},
        {"ask": "begin"},
        {"ask": "begin", "target": {}, "most": 1},
        {"ask": "begin", "target": "192.0.2.1", "most": 1},
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_answered_with_an_error_and_a_hint(
    message: Message, lasting: Observer
) -> None:
    wire = Wire(lasting).hello()
    answer = wire.ask(message)
    assert answer["error"]
    assert answer["hint"]
    assert isinstance(wire.ask({"ask": "clock"})["at"], float)


def test_fetching_takes_numbers_only(lasting: Observer) -> None:
    wire = Wire(lasting).hello()
    assert wire.ask({"ask": "begin", "target": None, "most": 30})["recording"]
    for probes in (-1, 1.5, "0", None, True, 10**30):
        answer = wire.ask({"ask": "fetch", "probes": probes, "seen": 0})
        assert answer.get("error") or answer["probes"] == []
    assert wire.ask({"ask": "done"}) == {"answer": "done"}


def test_the_first_request_is_hello(lasting: Observer) -> None:
    wire = Wire(lasting)
    wire.socket.sendall(wire.conversation.greeting)
    assert "hello" in wire.ask({"ask": "clock"})["error"]


def test_who_says_nothing_keeps_nobody_out(lasting: Observer) -> None:
    with ExitStack() as stack:
        for _ in range(3 * MOST_UNPROVED):
            stack.enter_context(socket.create_connection(("127.0.0.1", lasting.port), LIMIT))
        goes_on(lasting)
        lasting.until(f"127.0.0.1: more than {MOST_UNPROVED} connections that ask for nothing")
        late = stack.enter_context(socket.create_connection(("127.0.0.1", lasting.port), LIMIT))
        assert ended(late)[:15] == MAGIC
        lasting.until("it did not prove within 5 s that it has the key")
    with ExitStack() as stack:
        for _ in range(2 * MOST_PROVED):
            stack.enter_context(Wire(lasting).hello().socket)
        goes_on(lasting)


def test_who_does_not_read_keeps_nobody_out(lasting: Observer) -> None:
    wire = Wire(lasting).hello()
    wire.socket.settimeout(1)
    questions = b"".join(wire.conversation.pack({"ask": "clock"}) for _ in range(30_000))
    with pytest.raises(TimeoutError):
        wire.socket.sendall(questions)
    goes_on(lasting)
