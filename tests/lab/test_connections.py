"""The client of long and short connections, against services on loopback that do right and wrong."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

import pytest

from floatip.lab import connections, connections_process
from floatip.lab.connections import (
    CLOSED,
    REFUSED,
    RESET,
    TIMED_OUT,
    WRONG_BYTES,
    Connections,
    Long,
    Short,
    Transfer,
    interval,
)
from floatip.lab.connections_process import SIZE, Client, lines
from floatip.lab.echo_process import Service
from floatip.lab.namespaces import LabError

Answer = Callable[[socket.socket, bytes, int], None]
"""What a service does with the nth message of a connection."""
WITHIN = 60.0


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def echo(connection: socket.socket, message: bytes, number: int) -> None:
    connection.sendall(message)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def service(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A service on loopback, with a thread for each connection; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.sendall(b"a\n")
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()


def echoing(answer: Answer = echo) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        read(connection, len(b"echo\n"))
        for number in range(1_000_000):
            answer(connection, read(connection, SIZE), number)

    return serve


def play(
    port: int,
    until: Callable[[Client], bool],
    *,
    long: int = 0,
    idle: int = 0,
    short: float = 0,
    rate: int = 0,
    pace: float = 0.01,
) -> Connections:
    """Until that is true, in time."""
    with Client("127.0.0.1", port, long=long, idle=idle, short=short, rate=rate, pace=pace) as client:
        client.open()
        found: list[Connections] = []
        thread = threading.Thread(target=lambda: found.append(client.run()))
        thread.start()
        deadline = time.monotonic() + WITHIN
        while not until(client) and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        reached = until(client)
        client.stop()
        thread.join()
    assert reached, f"not within {WITHIN:g} s: {found}"
    return found[0]


def of_second(wrong: Callable[[socket.socket, bytes], None]) -> Answer:
    """The second message gets this for an answer, all others their echo."""
    return lambda connection, message, number: (
        wrong(connection, message) if number == 1 else connection.sendall(message)
    )


@pytest.fixture(scope="module")
def echo_port() -> int:
    made = Service("haproxy1", "127.0.0.1", 0)
    threading.Thread(target=made.serve, daemon=True).start()
    return made.port


def test_connections_that_are_left_alone_are_whole(echo_port: int) -> None:
    found = play(
        echo_port,
        lambda client: client.over >= 20 and client.echoed >= 50 and client.transferred > 200_000,
        long=5,
        short=100,
        rate=1_000_000,
    )
    assert {one.end for one in found.all} == {""}
    assert {one.who for one in found.all} == {"haproxy1"}
    assert [one.number for one in found.long] == [0, 1, 2, 3, 4]
    assert all(one.messages >= 1 and one.stall > 0 and one.opened_at < one.ended_at for one in found.long)
    assert [one.way for one in found.transfers] == ["upload", "download"]
    assert found.resets == 0


def test_what_was_recorded_survives_json(echo_port: int) -> None:
    found = play(echo_port, lambda client: client.over >= 2 and client.transferred > 0, long=2, short=50, rate=500_000)
    assert Connections.from_lines(map(json.loads, lines(found))) == found
    assert Connections.from_lines([{"event": "ready"}]) == Connections()


def test_a_connection_that_the_service_resets_is_told_from_one_that_it_closes() -> None:
    for wrong, end in ((lambda connection, message: reset(connection), RESET), (close, CLOSED)):
        with service(echoing(of_second(wrong))) as port:
            found = play(port, lambda client: client.ended == 1, long=1)
        assert [(one.end, one.messages, one.who) for one in found.long] == [(end, 1, "a")]
        assert found.resets == (end == RESET)


def close(connection: socket.socket, message: bytes) -> None:
    connection.close()


def test_one_wrong_octet_is_seen() -> None:
    def garble(connection: socket.socket, message: bytes) -> None:
        connection.sendall(message[:-1] + b"!")

    with service(echoing(of_second(garble))) as port:
        found = play(port, lambda client: client.ended == 1, long=1)
    assert [(one.end, one.messages) for one in found.long] == [(WRONG_BYTES, 1)]
    assert found.resets == 0


def test_an_echo_of_another_connection_is_wrong_and_so_is_one_too_many() -> None:
    first = b"0" * 10 + b" " + b"0" * 10
    with service(echoing(lambda connection, message, _: connection.sendall(first.ljust(SIZE, b".")))) as port:
        found = play(port, lambda client: client.ended == 2, long=2)
    assert sorted(one.messages for one in found.long)[0] == 0
    assert {one.end for one in found.long} == {WRONG_BYTES}
    with service(echoing(lambda connection, message, _: connection.sendall(message + message))) as port:
        found = play(port, lambda client: client.ended == 1, long=1)
    assert [one.end for one in found.long] == [WRONG_BYTES]


def test_an_idle_connection_says_something_at_the_end() -> None:
    heard: list[bytes] = []

    def note(connection: socket.socket, message: bytes, number: int) -> None:
        heard.append(message)
        connection.sendall(message)

    with service(echoing(note)) as port:
        found = play(port, lambda client: client.over >= 10, idle=2, short=100)
    assert [(one.end, one.messages) for one in found.long] == [("", 1), ("", 1)]
    assert all(message.startswith(b"1") for message in heard[:10]), "the short ones come first"
    with service(echoing(lambda connection, message, number: reset(connection))) as port:
        found = play(port, lambda client: client.over >= 3, idle=1, short=100)
    assert [(one.end, one.messages) for one in found.long] == [(RESET, 0)]


def test_an_echo_in_pieces_is_one() -> None:
    def dribble(connection: socket.socket, message: bytes, number: int) -> None:
        for octet in message:
            connection.sendall(bytes([octet]))

    with service(echoing(dribble)) as port:
        found = play(port, lambda client: client.echoed >= 5, long=1)
    assert [one.end for one in found.long] == [""]


def test_the_longest_stall_is_from_a_message_to_its_echo() -> None:
    slept: list[tuple[float, float]] = []

    def pause(connection: socket.socket, message: bytes) -> None:
        began = time.monotonic()
        time.sleep(0.3)
        connection.sendall(message)
        slept.append((began, time.monotonic()))

    with service(echoing(of_second(pause))) as port:
        found = play(port, lambda client: client.echoed >= 10, long=1)
    ((began, ended),) = slept
    (one,) = found.long
    assert (one.end, one.hung) == ("", False)
    assert one.stall >= 0.3
    assert one.stall_at < ended
    assert one.stall_at + one.stall >= began + 0.3
    assert found.longest is one


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANG", 0.2)
    monkeypatch.setattr(connections_process, "HANG", 0.2)
    monkeypatch.setattr(connections_process, "PATIENCE", 1.0)


@pytest.mark.usefixtures("impatient")
def test_a_connection_without_an_answer_hangs_and_one_with_a_late_answer_hung() -> None:
    with service(echoing(of_second(lambda connection, message: None))) as port:
        silent = play(port, lambda client: client.ended == 1, long=1)
    # What comes after the one that is left out is not what is awaited.
    assert [one.end for one in silent.long] == [WRONG_BYTES]
    heard: list[int] = []

    def mute(connection: socket.socket, message: bytes, number: int) -> None:
        heard.append(number)
        if number == 0:
            connection.sendall(message)

    with service(echoing(mute)) as port:
        silent = play(port, lambda client: len(heard) > 1, long=1)
    assert [(one.end, one.messages, one.hung) for one in silent.long] == [(TIMED_OUT, 1, True)]
    assert len(silent.hung) == 1

    def pause(connection: socket.socket, message: bytes) -> None:
        time.sleep(0.3)
        connection.sendall(message)

    with service(echoing(of_second(pause))) as port:
        late = play(port, lambda client: client.echoed >= 5, long=1)
    assert [(one.end, one.hung) for one in late.long] == [("", True)]
    assert len(late.hung) == 1


def test_each_short_connection_has_its_end() -> None:
    count = iter(range(1_000_000))

    def serve(connection: socket.socket) -> None:
        read(connection, len(b"echo\n"))
        message, number = read(connection, SIZE), next(count)
        if number == 1:
            reset(connection)
        elif number == 2:
            connection.sendall(b"x" * SIZE)
        elif number != 3:
            connection.sendall(message)
            read(connection, 1)

    with service(serve) as port:
        found = play(port, lambda client: client.over >= 10, short=50)
    assert sorted(one.end for one in found.short if one.end) == sorted([RESET, WRONG_BYTES, CLOSED])
    assert found.resets == 1
    assert found.slowest is not None
    assert found.slowest.took == max(one.took for one in found.short if not one.end)


def test_a_short_connection_that_is_refused_counts_as_reset() -> None:
    with service(echoing()) as port:
        pass
    found = play(port, lambda client: client.over >= 3, short=50)
    assert {one.end for one in found.short} == {REFUSED}
    assert found.resets == len(found.short)


@pytest.mark.usefixtures("impatient")
def test_a_short_connection_without_an_answer_times_out() -> None:
    with service(echoing(lambda connection, message, number: None)) as port:
        found = play(port, lambda client: client.over >= 1, short=5)
    assert {one.end for one in found.short} == {TIMED_OUT}
    assert found.hung == list(found.short)
    assert found.slowest is None


def test_long_connections_that_cannot_be_opened_are_an_error() -> None:
    with service(echoing()) as port:
        pass
    with (
        Client("127.0.0.1", port, long=3, short=0) as client,
        pytest.raises(LabError, match="cannot open the connections: refused"),
    ):
        client.open()


def test_a_transfer_whose_digest_differs_has_wrong_bytes() -> None:
    def serve(connection: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            line += read(connection, 1)
        if line.startswith(b"download"):
            for _ in range(100):
                connection.sendall(b"x" * 10_000)
            connection.recv(1)
            connection.sendall(sha256(b"y").digest())
            return
        digest = sha256()
        while data := connection.recv(65536):
            digest.update(data)
        connection.sendall(sha256(digest.digest()).digest())

    with service(serve) as port:
        found = play(port, lambda client: client.transferred > 100_000, rate=1_000_000)
    assert {one.way: one.end for one in found.transfers} == {"upload": WRONG_BYTES, "download": WRONG_BYTES}


@pytest.mark.usefixtures("impatient")
def test_a_transfer_that_stops_is_seen(echo_port: int) -> None:
    reads: list[float] = []

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        read(connection, len(b"upload\n"))
        reads.append(time.monotonic())
        time.sleep(WITHIN)

    with service(serve) as port:
        found = play(port, lambda client: bool(reads) and time.monotonic() > reads[-1] + 1, rate=10_000_000)
    assert {one.way: (one.end, one.hung) for one in found.transfers} == {
        "upload": (TIMED_OUT, True),
        "download": (TIMED_OUT, True),
    }


@pytest.mark.parametrize("line", [b"nonsense\n", b"download\n", b"echo 1\n", b"download x\n", b"e" * 100])
def test_the_service_closes_what_it_does_not_understand(echo_port: int, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", echo_port)) as connection:
        connection.settimeout(WITHIN)
        connection.sendall(line)
        assert read(connection, len(b"haproxy1\n")) == b"haproxy1\n"
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_many_long_connections_say_less_often() -> None:
    assert (interval(1), interval(500), interval(10_000)) == (0.05, 0.05, 1.0)


def test_the_summary_has_each_end() -> None:
    found = Connections(
        tuple(Long(number, "a", 0, 9, end, 5, stall, 3) for number, (end, stall) in enumerate(ENDS)),
        (Short(1, 0.5, "a", ""), Short(2, 3.5, "b", ""), Short(3, 0.1, "", RESET)),
        (Transfer("upload", "a", "", 1000, 0.1, 2), Transfer("download", "a", RESET, 5, 4.0, 2)),
    )
    assert (found.resets, len(found.hung)) == (4, 3)
    summary = found.summary()
    assert summary["long"] == {"count": 4, "ends": {RESET: 2, TIMED_OUT: 1}, "by": {"a": 4}}
    assert summary["short"] == {"count": 3, "ends": {RESET: 1}, "by": {"a": 1, "b": 1}}
    assert (summary["longest_stall"], summary["slowest_short"]) == (4.5, 3.5)
    assert [one["end"] for one in summary["transfers"]] == ["", RESET]


ENDS = (("", 0.1), (RESET, 0.2), (RESET, 0.3), (TIMED_OUT, 4.5))
