"""The list of connections, against sockets in the states that matter."""

import errno
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from floatip.core.addresses import Address
from floatip.core.second_chance.flow import is_flow, packed_address
from floatip.second_chance import sockets
from floatip.second_chance.sockets import has_mptcp, listed, listeners
from tests.flows import flow
from tests.second_chance.sc_by_hand import SYN, packet, segment
from tests.second_chance.sc_rig import PATIENCE, VIP4, World, address4, exactly

ONE, TWO, SIX = ip_address("127.0.0.7"), ip_address("127.0.0.8"), ip_address("::1")
CLIENT = "127.0.1.1"


@pytest.fixture
def stack(namespace: None) -> Iterator[ExitStack]:
    with ExitStack() as it:
        yield it


def listening(stack: ExitStack, at: str, port: int = 0, *, v6only: bool = False) -> socket.socket:
    it = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET))
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in at:
        it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    it.bind((at, port))
    it.listen(100)
    return it


def connected(stack: ExitStack, to: Address, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    source = (CLIENT, 0) if to.version == 4 else None
    client = stack.enter_context(
        socket.create_connection((str(to), listener.getsockname()[1]), source_address=source, timeout=20)
    )
    return client, stack.enter_context(listener.accept()[0])


def until(it: Callable[[], bool]) -> None:
    """A busy machine handles packets of its own later, too."""
    deadline = time.monotonic() + PATIENCE
    while not it():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def key(client: socket.socket) -> bytes:
    (source, port), (ours, our_port) = client.getsockname()[:2], client.getpeername()[:2]
    return flow(ip_address(source), port, ip_address(ours), our_port)


def test_only_connections_of_these_addresses_are_listed(stack: ExitStack) -> None:
    listener = listening(stack, "::")
    wanted, other, six = (connected(stack, to, listener)[0] for to in (ONE, TWO, SIX))
    assert listed([ONE]).flows == {key(wanted)}
    assert listed([TWO, ONE]).flows == {key(wanted), key(other)}
    assert listed([SIX]).flows >= {key(six)}
    assert listed([]).flows == frozenset()
    many = [ip_address(f"127.0.2.{number}") for number in range(1, 200)]
    assert listed([*many, ONE, ip_address("2001:db8::1")]).flows == {key(wanted)}


@pytest.mark.parametrize("at", ["0.0.0.0", "::"])
def test_an_ipv4_connection_is_one_whichever_socket_has_it(stack: ExitStack, at: str) -> None:
    client, _ = connected(stack, ONE, listening(stack, at))
    (found,) = listed([ONE]).flows
    assert found == key(client)
    assert len(found) == 16
    assert packed_address(found) == ONE.packed


def test_a_list_is_right_whatever_the_lengths_of_the_messages(stack: ExitStack) -> None:
    """The kernel says more of some sockets than of others: a class, a mark, a congestion control of their own."""
    listener = listening(stack, "0.0.0.0")
    pairs = [connected(stack, ONE, listener) for _ in range(300)]
    for number, (_, server) in enumerate(pairs):
        if number % 3 == 0:
            server.shutdown(socket.SHUT_WR)
        if number % 7 == 0:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    assert listed([ONE]).flows == {key(client) for client, _ in pairs}


def test_rows_of_mixed_lengths_are_read_one_by_one() -> None:
    def message(length: int, port: int) -> bytes:
        return sockets.MESSAGE.pack(
            length,
            20,
            socket.AF_INET,
            0,
            0,
            b"\0\x50",
            port.to_bytes(2, "big"),
            ONE.packed,
            b"",
            b"\x0a\0\0\1",
            b"",
        ) + bytes(length - sockets.MESSAGE.size)

    for lengths in ([120, 120, 120], [120, 128, 120, 120], [96, 96, 192], [192, 96, 96]):
        datagram = memoryview(b"".join(message(length, port) for port, length in enumerate(lengths, 1)))
        assert {row[6] for row in sockets._rows(datagram)} >= {n.to_bytes(2, "big") for n in range(1, len(lengths) + 1)}
        ports = {int.from_bytes(row[6], "big") for row in sockets._rows(datagram) if row[2] == socket.AF_INET}
        assert ports == set(range(1, len(lengths) + 1))


def test_every_state_that_needs_packets_is_listed_and_no_other(stack: ExitStack) -> None:
    listener = listening(stack, "0.0.0.0")
    established, _ = connected(stack, ONE, listener)
    closing_client, closing_server = connected(stack, ONE, listener)
    closing_server.shutdown(socket.SHUT_WR)  # FIN_WAIT2
    closed_client, close_wait = connected(stack, ONE, listener)
    closed_client.shutdown(socket.SHUT_WR)  # close_wait is in CLOSE_WAIT
    time_wait, server = connected(stack, ONE, listener)
    ended = key(time_wait)
    server.close()
    assert time_wait.recv(1) == b""
    time_wait.close()

    def shown() -> set[str]:
        said = subprocess.run(["ss", "-Htan", "src", str(ONE)], capture_output=True, text=True, check=True).stdout
        return {line.split()[0] for line in said.splitlines()}

    until(lambda: shown() == {"ESTAB", "FIN-WAIT-2", "CLOSE-WAIT", "TIME-WAIT"})
    assert listed([ONE]).flows == {key(established), key(closing_client), key(closed_client)}
    assert ended not in listed([ONE]).flows
    del close_wait


def test_a_half_of_a_handshake_is_listed(tmp_path: Path) -> None:
    """The client may have sent the last packet of it and believe that it is connected."""
    with World(tmp_path, hosts=("client", "a")) as world:
        with world.inside("a"):
            listener = socket.create_server(("::", 7001), family=socket.AF_INET6, dualstack_ipv6=True)
        with closing(listener):
            with world.inside("client"), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                subprocess.run(["nft", "-f", "-"], input=NO_RST, text=True, check=True)
                syn = segment(address4("client"), VIP4, (4000, 7001), SYN, (1, 0))
                raw.sendto(packet(address4("client"), VIP4, syn), (str(VIP4), 0))
            wanted = flow(address4("client"), 4000, VIP4, 7001)
            world.wait("a", lambda: listed([VIP4]).flows == {wanted}, "the half of a handshake is listed")
            with world.inside("a"):
                said = subprocess.run(
                    ["ss", "-Htan", "state", "syn-recv"], capture_output=True, text=True, check=True
                ).stdout
            assert "4000" in said


NO_RST = """
table ip quiet {
  chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }
}
"""


def test_a_reset_of_what_waits_for_its_last_time_is_not_seen_by_the_client(tmp_path: Path) -> None:
    """Why TIME_WAIT is not listed: the client's last FIN meets a reset, and its program has read the end already."""
    with World(tmp_path, hosts=("client", "a", "b")) as world:
        with world.inside("a"):
            listener = socket.create_server((str(VIP4), 7001))
            Path("/proc/sys/net/ipv4/tcp_max_tw_buckets").write_text("1000")
        with closing(listener):
            with world.inside("client"):
                client = socket.create_connection((str(VIP4), 7001), timeout=20)
            server, _ = listener.accept()
            server.sendall(b"all of the answer")
            server.close()
            # The last acknowledgement of the client's FIN is lost: it goes nowhere.
            assert exactly(client, 17) == b"all of the answer"
            with world.inside("a"):
                assert len(listed([VIP4]).flows) == 1  # FIN_WAIT2: the client's FIN is still to come
                subprocess.run(["nft", "-f", "-"], input=LAST_ACK_LOST, text=True, check=True)
            client.shutdown(socket.SHUT_WR)
            world.wait("a", lambda: listed([VIP4]).flows == frozenset(), "it is in TIME_WAIT")
            world.route("b")
            world.wait("client", lambda: "LAST-ACK" not in states(), "the client's FIN meets the reset")
            with closing(client):
                assert client.recv(1) == b""
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


LAST_ACK_LOST = """
table ip lost {
  chain out { type filter hook output priority 0; tcp sport 7001 drop; }
}
"""


def states() -> str:
    return subprocess.run(["ss", "-Htan"], capture_output=True, text=True, check=True).stdout


def test_where_a_program_listens(stack: ExitStack) -> None:
    assert listeners([ONE, SIX]) == frozenset()
    with socket.create_server((str(ONE), 0)):
        assert listeners([ONE, TWO, SIX]) == {ONE}
    with socket.create_server(("0.0.0.0", 0)):
        assert listeners([ONE, TWO, SIX]) == {ONE, TWO}
    with closing(listening(stack, "::", v6only=True)):
        assert listeners([ONE, TWO, SIX]) == {SIX}
    with closing(listening(stack, "::")):
        assert listeners([ONE, TWO, SIX]) == {ONE, TWO, SIX}
    with closing(listening(stack, f"::ffff:{ONE}")):
        assert listeners([ONE, TWO, SIX]) == {ONE}
    assert listeners([]) == frozenset()


def test_mptcp_is_seen_where_an_address_has_it(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, sockets.IPPROTO_MPTCP))
    listener.bind((str(ONE), 0))
    listener.listen()
    assert not has_mptcp([ONE])
    client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, sockets.IPPROTO_MPTCP))
    client.connect(listener.getsockname())
    stack.enter_context(listener.accept()[0])
    assert has_mptcp([ONE])
    assert not has_mptcp([TWO])


def test_a_flow_is_what_the_kernel_takes_as_one() -> None:
    four, six = flow(ONE, 1, TWO, 65535), flow(SIX, 1, SIX, 2)
    assert four == bytes.fromhex("7f000007 00010000 7f000008 ffff0000")
    assert packed_address(six) == SIX.packed
    assert is_flow(four)
    assert is_flow(six)
    for broken in (
        b"",
        four[:-1],
        four + b"\0",
        four[:7] + b"\1" + four[8:],
        four[:-1] + b"\1",
        six[:19] + b"\1" + six[20:],
    ):
        assert not is_flow(broken)


def test_a_thousand_connections_are_listed_whole(stack: ExitStack) -> None:
    listener = listening(stack, "::")
    listener.listen(4096)
    accepting: list[socket.socket] = []
    draw = random.Random(15)
    thread = threading.Thread(target=lambda: accepting.extend(listener.accept()[0] for _ in range(1000)))
    thread.start()
    clients = [
        stack.enter_context(
            socket.create_connection(
                (str(ONE), listener.getsockname()[1]), source_address=(f"127.0.{draw.randrange(3, 200)}.1", 0)
            )
        )
        for _ in range(1000)
    ]
    thread.join()
    for each in accepting:
        stack.enter_context(each)
    assert listed([ONE]).flows == {key(client) for client in clients}
