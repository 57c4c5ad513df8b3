"""Which nodes have the floating IP, as their kernels tell it: whether two ever had it at once."""

import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from threading import Event, Thread

from floatip.lab.namespaces import Closes
from floatip.lab.network import Hosts
from floatip.rtnetlink import ADDRESS, IFA_LOCAL, NEWADDR, Netlink, attributes


@dataclass(frozen=True, slots=True)
class Held:
    """From `at` (monotonic) on the node's kernel had the address, or not."""

    at: float
    holds: bool


class HolderWatch(Closes):
    """Whether a host's kernel has an address, and all changes; a thread listens to the kernel."""

    _group = 0x10
    """RTMGRP_IPV4_IFADDR."""

    def __init__(self, network: Hosts, host: str, address: IPv4Interface) -> None:
        self._address = address.ip.packed
        self.changes = [Held(time.monotonic(), False)]
        self._closing = Event()
        with network.inside(host):
            self._netlink = Netlink(self._group)
        self._thread = Thread(target=self._listen, name=f"addresses of {host}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._netlink.close()

    def _listen(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._netlink.socket], [], [], 0.1)[0]:
                continue
            now = time.monotonic()
            for kind, _, _, body in self._netlink.datagram():
                family, *_ = ADDRESS.unpack_from(body)
                if family != socket.AF_INET or bytes(attributes(body, ADDRESS.size)[IFA_LOCAL]) != self._address:
                    continue
                holds = kind == NEWADDR  # also said where only the lifetime changes
                if holds != self.changes[-1].holds:
                    self.changes.append(Held(now, holds))


def together(held: Mapping[str, Sequence[Held]]) -> tuple[int, float]:
    """The most nodes that had it at one instant, and the seconds for which more than one had it."""
    changes = sorted((change.at, change.holds, host) for host, each in held.items() for change in each)
    holders: set[str] = set()
    most, seconds, since = 0, 0.0, 0.0
    for at, holds, host in changes:
        if len(holders) > 1:
            seconds += at - since
        since = at
        if holds:
            holders.add(host)
        else:
            holders.discard(host)
        most = max(most, len(holders))
    return most, seconds
