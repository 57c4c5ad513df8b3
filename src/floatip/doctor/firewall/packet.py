"""A packet that matters, and what a firewall says of it. Pure."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from floatip.core.addresses import Address

TCP, UDP, ICMP, ICMP6, VRRP = 6, 17, 1, 58, 112


@dataclass(frozen=True, slots=True)
class Packet:
    direction: Literal["in", "out"]
    source: Address
    target: Address
    protocol: int
    interface: str
    """By which it comes or goes."""
    source_port: int | None = None
    target_port: int | None = None
    state: Literal["new", "established", "untracked", "invalid"] = "new"
    """As connection tracking has it; it does not track neighbour discovery. Before it, each packet is invalid."""
    flags: frozenset[str] = frozenset()
    """Of TCP."""
    icmp_type: int | None = None
    way_back: str = ""
    """The interface by which this machine would send to the source; empty: not known."""
    ttl: int | None = None
    below: frozenset[str] = frozenset()
    """What carries the interface: the device of a VLAN, the ports of a bridge or bond."""

    @property
    def version(self) -> int:
        return self.target.version


class Verdict(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Because:
    """Where a verdict was spoken."""

    source: str
    """What was read: `nft list ruleset`, `iptables-save`."""
    chain: str
    """As `inet filter input`."""
    rule: str
    """The rule in the words of its program; of a policy: `policy drop`."""
    base: str = ""
    """The chain of the hook in which the packet was then."""
    path: tuple[str, ...] = ()
    """The chains that led there."""

    def __str__(self) -> str:
        return f"{self.source}: {self.chain}: {self.rule}"


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    because: Sequence[Because] = ()
    """Of drop and reject: where; of unknown: the rules that are not understood."""


def protocol_number(name: object) -> int | None:
    """Of a name in /etc/protocols, or of its number; None: there is no such protocol."""
    known = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "ipv6-icmp": ICMP6, "icmpv6": ICMP6, "vrrp": VRRP, "all": 0}
    known |= {"udplite": 136, "sctp": 132, "dccp": 33, "esp": 50, "ah": 51, "igmp": 2, "gre": 47, "ipip": 4}
    text = str(name).lower()
    if text in known:
        return known[text]
    with suppress(ValueError):
        return int(text, 0)
    with suppress(OSError):
        return socket.getprotobyname(text)
    return None


def port_number(name: object) -> int | None:
    with suppress(ValueError):
        return int(str(name), 0)
    with suppress(OSError):
        return socket.getservbyname(str(name))
    return None
