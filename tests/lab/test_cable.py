"""The cable with a delay: what goes in comes out, in order, so much later."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from random import Random
from threading import Thread

import pytest

from floatip.lab.layer2 import SharedLayer2
from floatip.lab.network import CABLE, HAPROXY1, OBSERVER, Network

DELAY = 0.05
WITHIN = 60.0


@pytest.fixture(scope="module", params=[Network, SharedLayer2])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with request.param(tmp_path_factory.mktemp("lab"), delay=DELAY) as network:
        yield network


def sockets(network: Network, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket, tuple[str, int]]:
    """In the observer's host and in a node's, and the address of the second."""
    assert HAPROXY1.ipv4
    with network.inside(OBSERVER.name):
        client = socket.socket(socket.AF_INET, kind)
    with network.inside(HAPROXY1.name):
        server = socket.socket(socket.AF_INET, kind)
    for each in (client, server):
        each.settimeout(WITHIN)
    server.bind((str(HAPROXY1.ipv4.ip), 0))
    return client, server, server.getsockname()


def test_a_datagram_arrives_after_the_delay_and_so_does_the_answer(network: Network) -> None:
    client, server, address = sockets(network, socket.SOCK_DGRAM)
    with client, server:
        for _ in range(2):  # the first one waits for ARP as well
            sent_at = time.monotonic()
            client.sendto(b"x", address)
            _, sender = server.recvfrom(10)
            there = time.monotonic() - sent_at
            server.sendto(b"y", sender)
            client.recv(10)
            back = time.monotonic() - sent_at
        assert there >= DELAY
        assert back >= 2 * DELAY


def test_frames_keep_their_order_and_none_is_lost(network: Network) -> None:
    client, server, address = sockets(network, socket.SOCK_DGRAM)
    count = 2000
    with client, server:
        server.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        client.sendto(b"-1", address)
        assert server.recv(10) == b"-1"
        for number in range(count):
            client.sendto(str(number).encode(), address)
            time.sleep(0)
        assert [int(server.recv(10)) for _ in range(count)] == list(range(count))


def test_megabytes_arrive_whole_in_segments_that_are_larger_than_a_frame(network: Network) -> None:
    client, server, address = sockets(network, socket.SOCK_STREAM)
    data = Random(1).randbytes(10_000_000)
    with ExitStack() as stack:
        for each in (client, server):
            stack.enter_context(each)
        server.listen()
        client.connect(address)
        accepted, _ = server.accept()
        stack.enter_context(accepted)
        accepted.settimeout(WITHIN)
        sender = Thread(target=client.sendall, args=(data,))
        sender.start()
        began, digest, left = time.monotonic(), sha256(), len(data)
        while left:
            part = accepted.recv(1 << 20)
            assert part
            digest.update(part)
            left -= len(part)
        sender.join()
        print(f"{len(data) * 8 / 1e6 / (time.monotonic() - began):.0f} Mbit/s")
        assert digest.digest() == sha256(data).digest()


def test_the_namespace_of_the_cable_has_no_address_to_answer_from(network: Network) -> None:
    with network.inside(CABLE):
        assert subprocess.check_output(["ip", "-oneline", "address"]) == b""
        assert subprocess.check_output(["ip", "-oneline", "link"]).count(b"LOWER_UP") == 2
