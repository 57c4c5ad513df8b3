"""How a route server ends a connection, on the loopback."""

import socket
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address, ip_address
from threading import Thread

import pytest

from floatip.core.bgp import wire
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.trouble import Trouble
from floatip.core.settings import Speaker
from floatip.doctor import dialling
from floatip.doctor.dialling import Result, dial

HERE = ip_address("127.0.0.1")
SPEAKER = Speaker(65001, 65000, IPv4Address("192.0.2.1"), (HERE,), {})
THEIRS = wire.Open(65000, 90, IPv4Address("192.0.2.254"))


def answered(answer: Callable[[socket.socket], None]) -> tuple[Result, list[bytes]]:
    """The result, and what the route server got."""
    got: list[bytes] = []
    with closing(socket.create_server((str(HERE), 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                got.append(connection.recv(4096))
                answer(connection)
                while data := connection.recv(4096):
                    got.append(data)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        result = dial(HERE, SPEAKER, server.getsockname()[1])
        thread.join(10)
    return result, got


def test_a_peer_that_answers_gets_our_open_and_a_cease_and_no_route() -> None:
    result, got = answered(lambda connection: connection.sendall(wire.pack(THEIRS)))
    assert result == Result("AS 65000, hold time 90 s", None)
    buffer = bytearray(b"".join(got))
    messages = list(map(wire.parse, wire.split(buffer)))
    assert [type(message) for message in messages] == [wire.Open, Notification]
    assert messages[1] == Notification(6, 4)


def test_a_peer_that_closes_without_a_word_means_no_share() -> None:
    result, _ = answered(lambda connection: connection.shutdown(socket.SHUT_WR))
    assert result.trouble is Trouble.OPEN_REJECTED


def test_a_notification_says_why() -> None:
    result, _ = answered(lambda connection: connection.sendall(wire.pack(Notification(2, 2))))
    assert (result.trouble, result.what) == (Trouble.BAD_PEER_AS, "it answers: OPEN Message Error: Bad Peer AS")


def test_what_is_no_bgp_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = answered(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert result.what.startswith("its answer is no BGP")
    monkeypatch.setattr(dialling, "TIMEOUT", 0.3)
    silent, _ = answered(lambda connection: None)
    assert silent == Result("connected, and no answer to our OPEN", Trouble.TIMED_OUT)


def test_a_port_where_nobody_listens_refuses() -> None:
    with closing(socket.create_server((str(HERE), 0))) as server:
        port = server.getsockname()[1]
    assert dial(HERE, SPEAKER, port) == Result("connection refused", Trouble.REFUSED)
