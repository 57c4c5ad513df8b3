import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import pytest

from floatip.core.addresses import Address
from floatip.core.bgp.trouble import Trouble
from floatip.core.events import (
    BytesReceived,
    Close,
    Connected,
    Dial,
    Disconnected,
    Measure,
    Measured,
    SendBytes,
    Writable,
)
from floatip.host.network import peers as peers_module
from floatip.host.network.peers import DSCP_CS6, Options, Peers
from tests.host.reports import Reports, until

pytestmark = pytest.mark.usefixtures("namespace")

LOCALHOST: Address = ip_address("127.0.0.1")
LOCALHOST6: Address = ip_address("::1")
Play = Callable[[Peers, socket.socket], Awaitable[None]]


async def accepted(server: socket.socket) -> socket.socket:
    connection, _ = await asyncio.get_running_loop().sock_accept(server)
    return connection


def play(
    reports: Reports, story: Play, peer: Address = LOCALHOST, source: Address | None = None, **options: Any
) -> None:
    async def whole() -> None:
        descriptors = len(os.listdir("/proc/self/fd"))
        family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
        with socket.socket(family) as server:
            server.bind((str(peer), 0))
            server.listen()
            server.setblocking(False)
            peers = Peers(reports, port=server.getsockname()[1])
            peers.configure(Options(source, 16, **options))
            try:
                async with asyncio.timeout(60):
                    await story(peers, server)
            finally:
                peers.close_all()
                server.close()
            # What was closed lives on until its last bytes have left.
            await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)

    asyncio.run(whole())


@pytest.mark.parametrize("peer", [LOCALHOST, LOCALHOST6])
def test_a_dialled_connection_carries_bytes_both_ways(peer: Address, reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(peer, 5))
        with await accepted(server) as there:
            assert await reports.next(Connected) == Connected(peer, peer)
            peers.send(SendBytes(peer, b"hello"))
            assert await reports.next(Writable) == Writable(peer)
            assert await asyncio.get_running_loop().sock_recv(there, 100) == b"hello"
            there.send(b"good day")
            assert await reports.next(BytesReceived) == BytesReceived(peer, b"good day")
        assert await reports.next(Disconnected) == Disconnected(peer, "closed by the peer")

    play(reports, story, peer)


def test_source_and_ttl_are_as_configured(reports: Reports) -> None:
    source = ip_address("127.0.0.9")

    async def story(peers: Peers, server: socket.socket) -> None:
        server.setsockopt(socket.IPPROTO_IP, 21, 17)  # IP_MINTTL: a handshake with less is dropped
        peers.dial(Dial(LOCALHOST, 0.3))
        assert await reports.next(Disconnected) == Disconnected(LOCALHOST, "timed out after 0.3 s", Trouble.TIMED_OUT)
        server.setsockopt(socket.IPPROTO_IP, 21, 16)
        peers.dial(Dial(LOCALHOST, 5))
        with await accepted(server) as there:
            assert there.getpeername()[0] == "127.0.0.9"
            assert await reports.next(Connected) == Connected(LOCALHOST, source)

    play(reports, story, source=source)


def sign(server: socket.socket, peer: Address, key: bytes) -> None:
    """What the other end of a signed connection sets (struct tcp_md5sig)."""
    where = socket.getaddrinfo(str(peer), 0, proto=socket.IPPROTO_TCP)[0][0]
    address = where.to_bytes(2, "little") + bytes(2 if peer.version == 4 else 6) + peer.packed
    signature = address.ljust(128, b"\0") + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)
    server.setsockopt(socket.IPPROTO_TCP, 14, signature)


@pytest.mark.parametrize("peer", [LOCALHOST, LOCALHOST6])
def test_with_a_key_only_a_peer_with_the_same_key_is_reached(peer: Address, reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        sign(server, peer, b"another")
        peers.dial(Dial(peer, 0.5))
        assert await reports.next(Disconnected) == Disconnected(peer, "timed out after 0.5 s", Trouble.TIMED_OUT)
        sign(server, peer, b"k" * 80)
        peers.dial(Dial(peer, 5))
        with await accepted(server) as there:
            await reports.next(Connected)
            peers.send(SendBytes(peer, b"signed"))
            assert await asyncio.get_running_loop().sock_recv(there, 100) == b"signed"

    play(reports, story, peer, md5="k" * 80)


@pytest.mark.parametrize(
    ("peer", "level", "option"),
    [(LOCALHOST, socket.IPPROTO_IP, socket.IP_TTL), (LOCALHOST6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)],
)
def test_a_peer_that_is_further_away_than_min_ttl_is_not_heard(
    peer: Address, level: int, option: int, reports: Reports
) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        server.setsockopt(level, option, 253)
        peers.dial(Dial(peer, 0.5))
        assert await reports.next(Disconnected) == Disconnected(peer, "timed out after 0.5 s", Trouble.TIMED_OUT)
        server.setsockopt(level, option, 254)
        peers.dial(Dial(peer, 5))
        assert await reports.next(Connected) == Connected(peer, peer)

    play(reports, story, peer, min_ttl=254)


def test_a_session_that_is_bound_to_an_interface_leaves_by_no_other(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.configure(Options(None, 16, interface="nowhere"))
        peers.dial(Dial(LOCALHOST, 5))
        assert await reports.next(Disconnected) == Disconnected(LOCALHOST, "no such device", Trouble.NO_INTERFACE)
        subprocess.run(["ip", "link", "add", "veth0", "type", "veth", "peer", "veth1"], check=True)
        subprocess.run(["ip", "link", "set", "veth0", "up"], check=True)
        peers.configure(Options(None, 16, interface="veth0"))
        peers.dial(Dial(LOCALHOST, 0.5))
        await reports.next(Disconnected, 2)
        peers.configure(Options(None, 16, interface="lo"))
        peers.dial(Dial(LOCALHOST, 5))
        assert await reports.next(Connected) == Connected(LOCALHOST, LOCALHOST)

    play(reports, story)


def test_a_source_of_the_other_family_does_not_bind_the_session(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        assert await reports.next(Connected) == Connected(LOCALHOST, LOCALHOST)

    play(reports, story, source=LOCALHOST6)


def test_nobody_there_is_said_in_words(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        server.close()
        peers.dial(Dial(LOCALHOST, 5))
        assert await reports.next(Disconnected) == Disconnected(LOCALHOST, "connection refused", Trouble.REFUSED)
        subprocess.run(["ip", "route", "add", "unreachable", "192.0.2.0/24"], check=True)
        far = ip_address("192.0.2.1")
        peers.dial(Dial(far, 5))
        assert await reports.next(Disconnected, 2) == Disconnected(far, "no route to host", Trouble.UNREACHABLE)
        peers.configure(Options(ip_address("192.0.2.77"), 16))
        peers.dial(Dial(LOCALHOST, 5))
        assert await reports.next(Disconnected, 3) == Disconnected(
            LOCALHOST, "cannot assign requested address", Trouble.NO_SOURCE
        )

    play(reports, story)


def test_a_peer_that_resets_is_said_in_words(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        there = await accepted(server)
        await reports.next(Connected)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        assert await reports.next(Disconnected) == Disconnected(LOCALHOST, "connection reset by the peer")
        peers.send(SendBytes(LOCALHOST, b"too late"))
        peers.measure(Measure(LOCALHOST))
        assert await reports.next(Measured) == Measured(LOCALHOST, False)
        assert not reports.of(Writable)

    play(reports, story)


def test_writable_waits_for_a_peer_that_does_not_read(reports: Reports) -> None:
    data = bytes(16_000_000)

    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        with await accepted(server) as there:
            await reports.next(Connected)
            peers.send(SendBytes(LOCALHOST, data))
            await asyncio.sleep(0.2)
            assert not reports.of(Writable)
            read = 0
            while read < len(data):
                read += len(await asyncio.get_running_loop().sock_recv(there, 1 << 20))
            assert await reports.next(Writable) == Writable(LOCALHOST)

    play(reports, story)


def test_what_waits_for_a_peer_that_does_not_read_is_not_acknowledged(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        with await accepted(server) as there:
            await reports.next(Connected)
            peers.send(SendBytes(LOCALHOST, bytes(16_000_000)))
            unread = [-1, 0]
            while unread[-1] != unread[-2]:  # until all that is in flight has arrived, and the window is shut
                await asyncio.sleep(0.1)
                unread.append(int.from_bytes(fcntl.ioctl(there, termios.FIONREAD, bytes(4)), "little"))
            peers.measure(Measure(LOCALHOST))
            assert await reports.next(Measured) == Measured(LOCALHOST, False)

    play(reports, story)


def test_a_close_delivers_the_last_bytes_even_while_the_peer_is_talking(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "LINGER_TIMEOUT", 30.0)

    async def story(peers: Peers, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        peers.dial(Dial(LOCALHOST, 5))
        with await accepted(server) as there:
            await reports.next(Connected)
            await loop.sock_sendall(there, bytes(100_000))  # unread bytes would turn a close into a RST
            peers.send(SendBytes(LOCALHOST, b"the last word"))
            peers.close(Close(LOCALHOST))
            told = len(reports.events)
            await loop.sock_sendall(there, b"not heard any more")
            await asyncio.sleep(0.1)
            assert await loop.sock_recv(there, 100) == b"the last word"
            assert await loop.sock_recv(there, 100) == b""
        assert len(reports.events) == told

    play(reports, story)


def test_a_close_does_not_wait_for_ever_for_a_peer_that_does_not_read(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "LINGER_TIMEOUT", 0.3)

    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        with await accepted(server) as there:
            await reports.next(Connected)
            peers.send(SendBytes(LOCALHOST, bytes(16_000_000)))
            begun = time.monotonic()
            peers.close(Close(LOCALHOST))
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < begun + 20:
                    await asyncio.sleep(0.05)
                    there.send(b".")
            assert 0.25 < time.monotonic() - begun < 20

    play(reports, story)


def test_a_second_dial_replaces_the_first_connection(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        first = await accepted(server)
        await reports.next(Connected)
        peers.dial(Dial(LOCALHOST, 5))
        second = await accepted(server)
        await reports.next(Connected, 2)
        assert await asyncio.get_running_loop().sock_recv(first, 100) == b""
        first.close()
        second.send(b"on the second")
        assert (await reports.next(BytesReceived)).data == b"on the second"
        assert not reports.of(Disconnected)
        second.close()
        await reports.next(Disconnected)

    play(reports, story)


def test_what_the_peer_does_not_acknowledge_is_measured(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        async def measured() -> bool:
            peers.measure(Measure(LOCALHOST))
            return reports.of(Measured)[-1].acknowledged

        assert not await measured()
        peers.dial(Dial(LOCALHOST, 5))
        with await accepted(server):
            await reports.next(Connected)
            assert await measured()
            subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
            peers.send(SendBytes(LOCALHOST, b"into the void"))
            assert not await measured()
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            begun = time.monotonic()
            while not await measured():
                assert time.monotonic() - begun < 20
                await asyncio.sleep(0.01)
            await until(lambda: bool(reports.of(Writable)))

    play(reports, story)


def test_packets_carry_the_class_of_network_control_and_leave_from_no_temporary_address(reports: Reports) -> None:
    async def story(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST6, 5))
        await reports.next(Connected)
        dialled = peers._connections[LOCALHOST6]._socket
        assert dialled.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == DSCP_CS6
        assert dialled.getsockopt(socket.IPPROTO_IPV6, 72) & 2  # IPV6_PREFER_SRC_PUBLIC
        peers.close_all()

    play(reports, story, LOCALHOST6)

    async def over_ipv4(peers: Peers, server: socket.socket) -> None:
        peers.dial(Dial(LOCALHOST, 5))
        await reports.next(Connected, 2)
        dialled = peers._connections[LOCALHOST]._socket
        assert dialled.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == DSCP_CS6

    play(reports, over_ipv4)


def test_no_session_leaves_from_a_floating_address(reports: Reports) -> None:
    peer, floating = ip_address("2001:db8::1"), ip_address("2001:db8::99")

    async def story(peers: Peers, server: socket.socket) -> None:
        for command in (
            "link add veth0 type veth peer veth1",
            "link set veth1 up",
            "link set veth0 up",
            "address add 2001:db8::99/64 dev veth0 nodad",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        peers.dial(Dial(peer, 5))
        reason = "the kernel chose the floating address 2001:db8::99 as source"
        assert await reports.next(Disconnected) == Disconnected(peer, reason, Trouble.FLOATING_SOURCE)

    play(reports, story, floating=frozenset({floating}))
