"""A fourth route server that misbehaves, each in its own way: it costs little, and the three others notice nothing."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from floatip.host.ask import NobodyAnswers
from floatip.lab.network import FLOATING, HAPROXY1, ROUTE_SERVERS, LabHost, Network
from floatip.lab.programs.builtin import BuiltInRouteServer
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.speaker import KEEPALIVE, Speaker

SECONDS = 4.0
MOST_CPU = 0.05
TIMEOUT = 60.0
*HONEST, HOSTILE = ROUTE_SERVERS

CONFIG = f"""
[linode]
dcid = 6

[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
static = "primary"
"""

OPEN = Speaker(65000, IPv4Address("10.0.34.5")).open()
# As many unknown capabilities as fit, in one parameter with an extended length (RFC 9072).
UNKNOWN = b"\xc8\x00" * 2029 + b"\xc8\x01\x00"
LONG_OPEN = OPEN[:16] + b"\x10\x00\x01" + OPEN[19:28] + b"\xff\xff\x0f\xe0\x02\x0f\xdd" + UNKNOWN


def dribble(connection: socket.socket) -> None:
    """An OPEN that takes half a minute, and would then be a good one."""
    for octet in OPEN:
        connection.sendall(bytes((octet,)))
        time.sleep(1)


def open_with_4096_octets(connection: socket.socket) -> None:
    """A good one, and the end as soon as it is answered."""
    assert len(LONG_OPEN) == 4096
    connection.sendall(LONG_OPEN)
    while (data := connection.recv(65536)) and not data.endswith(KEEPALIVE):
        pass


def send_garbage(connection: socket.socket) -> None:
    connection.sendall(os.urandom(65536))
    while connection.recv(65536):
        pass


def close_at_once(connection: socket.socket) -> None:
    pass


def never_read(connection: socket.socket) -> None:
    """The session stands, and is kept alive from the other side."""
    connection.sendall(OPEN)
    while True:
        connection.sendall(KEEPALIVE)
        time.sleep(1)


class Hostile:
    """One connection after the other, as often as it is dialled."""

    def __init__(self, network: Network, behave: Callable[[socket.socket], None]) -> None:
        with network.inside(HOSTILE.name):
            self._listener = socket.create_server(("::", 179), family=socket.AF_INET6)
        self._behave = behave
        self._connection: socket.socket | None = None
        self._closing = False
        self.dialled = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        for each in (self._listener, self._connection):
            if each:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                self._connection, _ = self._listener.accept()
            except OSError:
                return
            if self._closing:  # a connection that close() may not have seen would go on for ever
                self._connection.close()
                return
            self.dialled += 1
            with self._connection, suppress(OSError):
                self._behave(self._connection)


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Network, FloatipDaemon]]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with TemporaryDirectory() as directory, Network(Path(directory)) as network:
        for server in HONEST:
            BuiltInRouteServer(network, server.name).start()
        node = FloatipDaemon(network, HAPROXY1.name, CONFIG)
        node.start()
        wait_for(lambda: undisturbed(node), "the sessions with the honest ones")
        yield network, node


def session(node: FloatipDaemon, server: LabHost) -> dict[str, Any]:
    sessions: list[dict[str, Any]] = node.status()["sessions"]
    return next(each for each in sessions if each["peer"] == str(server.ipv6))


def undisturbed(node: FloatipDaemon) -> bool:
    try:
        sessions = [session(node, server) for server in HONEST]
    except NobodyAnswers:  # not yet
        return False
    return all((each["state"], each["times_established"]) == ("established", 1) for each in sessions)


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline, f"timed out after {TIMEOUT:g} s waiting for {what}"
        time.sleep(0.05)


def cpu(node: FloatipDaemon) -> float:
    """Seconds."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("behave", [dribble, open_with_4096_octets, send_garbage, close_at_once, never_read])
def test_a_hostile_peer_costs_little_and_no_other_session_anything(
    stage: tuple[Network, FloatipDaemon], behave: Callable[[socket.socket], None]
) -> None:
    network, node = stage
    with ExitStack() as exits:
        hostile = Hostile(network, behave)
        exits.callback(hostile.close)
        wait_for(lambda: hostile.dialled > 0, "the node to dial")
        before, began_at = cpu(node), time.monotonic()
        time.sleep(SECONDS)
        share = (cpu(node) - before) / (time.monotonic() - began_at)
        seen = session(node, HOSTILE)
        assert undisturbed(node)
    print(f"{behave.__name__}: {100 * share:.1f} % of a core, dialled {hostile.dialled} times: {seen['reason']}")
    assert share < MOST_CPU
