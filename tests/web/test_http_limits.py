"""Bad clients of every kind, against the real process: after each of them others are answered, and nothing is left."""

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from floatip.web import server, source
from tests.web.process import INSTANCE, LIMIT, PORT, STATUS, Stream, Web, connect, events, raw, request, until

KEPT_ALIVE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
ROOM = 16384
"""KiB that a process may have more after something, as Python keeps memory that it had once."""


@pytest.fixture(autouse=True)
def others_are_answered_afterwards(web: Web) -> Iterator[None]:
    with events():
        request("/status")
    until(lambda: request("/healthz").status == 200)
    with connect():
        pass
    descriptors, memory = web.descriptors, web.memory
    yield
    until(lambda: request("/healthz").status == 200)
    # A connection of the last request may still linger.
    until(lambda: web.descriptors <= descriptors)
    assert web.memory < memory + ROOM


def ends(client: socket.socket) -> bytes:
    """What it gets until the other side ends the connection."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65536):
            got += data
    return got


GARBAGE = {
    "nothing that is HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "NULs": bytes(1000),
    "line ends": b"\r\n" * 100,
    "no version": b"GET /status\r\n\r\n",
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a NUL in a header": b"GET /status HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "a header without colon": b"GET /status HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
    "a space before the colon": b"GET /status HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "two lengths": b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    "a negative length": b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "a length and chunks": b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an odd encoding": b"POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST /drain HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk without size": b"POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("octets", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_once_and_the_connection_ends(web: Web, octets: bytes) -> None:
    answered = raw(octets)
    assert answered.status in (400, 411, 501)
    assert answered.headers["connection"] == "close"
    assert b"HTTP/1.1 " not in answered.body  # nothing behind it was taken for a request


def test_random_octets_are_refused_too(web: Web) -> None:
    draw = random.Random(179)
    for _ in range(200):
        octets = draw.choice([b"", b"GET ", b"GET / HTTP/1.1\r\n"]) + draw.randbytes(draw.randint(1, 300)) + b"\r\n\r\n"
        assert raw(octets).status in (400, 405, 421, 501), octets


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/status/../status", "/%2e%2e/etc/passwd", "//status", "/status/", "*"]
)
def test_a_path_is_a_word_and_leads_nowhere_else(web: Web, path: str) -> None:
    answered = request(path)
    assert answered.status in (400, 404)
    assert b"root:" not in answered.body


def test_a_head_of_a_megabyte_is_refused(web: Web) -> None:
    answered = raw(b"GET /status HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n")
    assert answered.status == 431
    answered = raw(b"GET /status HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * (1 << 18) + b"\r\n")
    assert answered.status == 431
    assert raw(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 431


def test_a_body_of_more_than_four_kilobytes_is_refused(web: Web) -> None:
    assert request("/drain", "POST", Content_Length=str(1 << 40)).status == 413
    assert request("/drain", "POST", b"x" * 4097).status == 413
    chunks = b"400\r\n" + b"x" * 1024 + b"\r\n"
    head = b"POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(head + chunks * 2000).status == 411  # in pieces, not at all


def test_a_request_that_does_not_end_is_ended(web: Web) -> None:
    """Also when an octet comes now and then."""
    with connect() as quiet, connect() as slow, connect() as half:
        half.sendall(b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
        slow.settimeout(0.5)
        began, answer = time.monotonic(), b""
        for octet in b"GET /status HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 4:
            try:
                slow.sendall(bytes([octet]))
                if not (data := slow.recv(65536)):
                    break
                answer += data
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - began >= server.REQUEST_TIMEOUT / 2
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert ends(half).startswith(b"HTTP/1.1 408 ")
        assert ends(quiet) == b""


def test_a_thousand_connections_that_say_nothing_keep_nobody_from_an_answer(web: Web) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect()) for _ in range(1000)]
        for client in idle[::2]:
            with contextlib.suppress(ConnectionError):
                client.sendall(KEPT_ALIVE[:20])
        for _ in range(20):
            began = time.monotonic()
            assert request("/status").status == 200
            assert time.monotonic() - began < server.REQUEST_TIMEOUT  # nothing timed out first
        assert web.descriptors < 100


def test_a_request_that_is_not_read_yet_is_not_dropped_for_those_that_were_answered(web: Web) -> None:
    """Many wait for one answer of the daemon, get it together, and stay; meanwhile another one has connected."""
    before = web.descriptors
    with contextlib.ExitStack() as stack:
        late = stack.enter_context(connect())
        late.sendall(KEPT_ALIVE[:20])
        time.sleep(source.FRESH)  # the answer that is there is too old by now
        with web.daemon.hanging():
            crowd = []
            for _ in range(server.MOST_WAITING * 2):
                crowd.append(stack.enter_context(connect()))
                crowd[-1].sendall(KEPT_ALIVE)
            until(lambda: web.descriptors >= before + len(crowd))
        for client in crowd:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        late.sendall(KEPT_ALIVE[20:])
        assert late.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_reads_nothing_keeps_nobody_from_an_answer(web: Web) -> None:
    web.daemon.status = replace(STATUS, instances=(INSTANCE,) * 1000)
    until(lambda: len(request("/status").body) > 200_000)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(_with_small_buffer())
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        for _ in range(5):
            until(lambda: request("/healthz").status == 200)  # the daemon takes its time over such an answer
        web.daemon.status = STATUS
    until(lambda: len(request("/status").body) < 10_000)


def _with_small_buffer() -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(LIMIT)
    client.connect(("127.0.0.1", PORT))
    return client


def test_a_reader_of_events_that_does_not_read_is_dropped(web: Web) -> None:
    with events() as other:
        other.next("alive")
        without = web.descriptors
        with _with_small_buffer() as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: web.descriptors > without)
            for number in range(2000):
                web.daemon.tell("master", f"{number} {'x' * 2000}")
                assert other.next("change")["reason"].startswith(f"{number} ")
                if web.descriptors == without:
                    break
            assert web.descriptors == without
            assert number > 10


def test_there_are_sixteen_streams_and_requests_beside_them(web: Web) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(events()) for _ in range(16)]
        refused = request("/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert request("/status").status == 200
        web.daemon.tell("backup")
        assert {stream.next("change")["value"] for stream in streams} == {"backup"}
    until(_can_stream)


def _can_stream() -> bool:
    with connect() as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.closing(Stream(client)) as stream:
            return stream.head().status == 200


@pytest.mark.parametrize(
    "begin", [b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", KEPT_ALIVE, KEPT_ALIVE[:30], b""]
)
def test_clients_that_come_and_go_leave_nothing(web: Web, begin: bytes) -> None:
    def once() -> None:
        with connect() as client:
            client.sendall(begin)

    for _ in range(200):
        once()
    until(lambda: request("/healthz").status == 200)
    before = web.memory
    for _ in range(800):
        once()
    until(lambda: request("/healthz").status == 200)
    assert web.memory < before + 2048


def test_pipelined_requests_are_answered_in_order(web: Web) -> None:
    last = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    body = raw(KEPT_ALIVE * 500 + last).body
    assert body.count(b"HTTP/1.1 200 OK") == 500
    assert body.endswith(b"\r\n\r\nready\n")


def test_a_client_that_shuts_down_its_side_is_answered(web: Web) -> None:
    with connect() as client:
        client.sendall(KEPT_ALIVE)
        client.shutdown(socket.SHUT_WR)
        assert ends(client).endswith(b"\r\n\r\nok\n")


def test_a_client_that_waits_for_100_gets_it(web: Web) -> None:
    with connect() as client:
        client.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"{}")
        assert client.recv(100).startswith(b"HTTP/1.1 403 ")


def test_without_descriptors_it_waits_and_goes_on(web: Web) -> None:
    def limit(of: int) -> None:
        import resource  # noqa: PLC0415

        resource.prlimit(web.process.pid, resource.RLIMIT_NOFILE, (of, 1024))

    with contextlib.ExitStack() as stack:
        limit(web.descriptors + 3)
        clients = [stack.enter_context(connect()) for _ in range(10)]
        assert len(clients) == 10
        time.sleep(server.NO_DESCRIPTOR_PAUSE / 4)
        limit(1024)
        assert request("/healthz").status == 200
