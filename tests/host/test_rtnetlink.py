"""The codec against the kernel, with `ip` as the judge."""

import errno
import json
import select
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

import pytest

from floatip import rtnetlink
from floatip.core.addresses import InterfaceAddress
from floatip.rtnetlink import GETADDR, GETLINK, GROUPS, AddressMessage, LinkMessage, Netlink

pytestmark = pytest.mark.usefixtures("namespace")

V4, V6 = ip_interface("192.0.2.10/24"), ip_interface("2001:db8::10/64")


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def netlink() -> Iterator[Netlink]:
    yield (it := Netlink())
    it.close()


@pytest.fixture
def monitor() -> Iterator[Netlink]:
    yield (it := Netlink(GROUPS))
    it.close()


def heard(monitor: Netlink) -> list[rtnetlink.Message]:
    messages: list[rtnetlink.Message] = []
    try:
        while True:
            messages += monitor.receive()
    except BlockingIOError:
        return messages


def addresses(netlink: Netlink) -> set[tuple[int, str, int, int | None]]:
    found = [one for one in netlink.read(GETADDR) if isinstance(one, AddressMessage)]
    return {(one.index, str(ip_address(one.packed)), one.prefixlen, one.proto) for one in found}


def test_the_tables_are_what_ip_reads(netlink: Netlink) -> None:
    ip("link add eth9 address 02:00:00:00:00:09 type veth peer name peer9")
    ip("address add 10.0.0.1/24 dev eth9")
    ip("address add 10.0.0.2 peer 10.0.0.3/32 dev eth9")
    links = {one.index: one for one in netlink.read(GETLINK) if isinstance(one, LinkMessage)}
    shown = {one["ifindex"]: one for one in json.loads(ip("-json link show"))}
    assert {index: link.name for index, link in links.items()} == {n: one["ifname"] for n, one in shown.items()}
    eth9 = next(link for link in links.values() if link.name == "eth9")
    assert (eth9.mac, eth9.up, eth9.carrier) == (bytes.fromhex("020000000009"), False, False)
    assert {(eth9.index, "10.0.0.1", 24, None), (eth9.index, "10.0.0.2", 32, None)} <= addresses(netlink)
    assert (1, "::1", 128, 1) in addresses(netlink), "who added an address is said since Linux 5.18"


@pytest.mark.parametrize("address", [V4, V6])
def test_what_is_added_and_deleted_is_heard(address: InterfaceAddress, netlink: Netlink, monitor: Netlink) -> None:
    length = address.network.prefixlen
    assert netlink.request([rtnetlink.addition(1, address, 0xF1)]) == [0]
    assert (1, str(address.ip), length, 0xF1) in addresses(netlink)
    select.select([monitor.socket], [], [])  # of an IPv6 address the kernel tells when it has the time
    (added,) = (one for one in heard(monitor) if isinstance(one, AddressMessage))
    assert netlink.request([rtnetlink.deletion(1, address)]) == [0]
    (deleted,) = (one for one in heard(monitor) if isinstance(one, AddressMessage))
    assert (added.gone, added.index, added.packed, added.prefixlen) == (False, 1, address.packed, length)
    assert (deleted.gone, deleted.index, deleted.packed, deleted.prefixlen) == (True, 1, address.packed, length)
    assert str(address.ip) not in ip("address show dev lo")


def test_each_request_of_a_batch_has_its_own_answer(netlink: Netlink) -> None:
    add, delete = rtnetlink.addition(1, V4, 0xF1), rtnetlink.deletion(1, V4)
    answers = netlink.request([delete, add, add, delete, rtnetlink.addition(99, V4, 0xF1), delete])
    assert answers == [errno.EADDRNOTAVAIL, 0, errno.EEXIST, 0, errno.ENODEV, errno.EADDRNOTAVAIL]
    assert netlink.request([add]) == [0]


def test_a_table_longer_than_one_datagram_is_read_to_its_end(netlink: Netlink) -> None:
    wanted = [ip_interface(f"10.1.{n // 250}.{n % 250 + 1}/32") for n in range(1000)]
    for at in range(0, 1000, 100):
        assert not any(netlink.request([rtnetlink.addition(1, one, 0xF1) for one in wanted[at : at + 100]]))
    assert {(1, str(one.ip), 32, 0xF1) for one in wanted} <= addresses(netlink)


def test_a_datagram_that_was_cut_off_counts_as_lost(monitor: Netlink) -> None:
    monitor._buffer = bytearray(40)
    ip("address add 192.0.2.10/24 dev lo")
    with pytest.raises(OSError, match=r"^\[Errno") as lost:
        heard(monitor)
    assert lost.value.errno == errno.ENOBUFS


def test_a_socket_that_cannot_be_bound_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Unbound(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(errno.ENOMEM, "")

        def close(self) -> None:
            closed.append(self.fileno())
            super().close()

    monkeypatch.setattr(socket, "socket", Unbound)
    with pytest.raises(OSError, match=r"^\[Errno"):
        Netlink()
    assert len(closed) == 1
