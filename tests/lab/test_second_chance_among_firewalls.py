"""Firewalls, filters and narrow links through which open connections go on after a move, with real daemons."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from floatip.lab.network import OBSERVER, ROUTER, THREE_NODES
from floatip.lab.programs.connections import PORT
from floatip.second_chance.tunnel import DEVICE
from tests.lab.moving import Pair, moving
from tests.lab.obstacles import OURS, Way, chain, filtered, ip, nft, play, sysctl

IPTABLES = f"""
*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -p tcp -m multiport --dports 80,{PORT} -j ACCEPT
-A INPUT -p udp -m multiport --dports 9112,8473 -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -p icmp -j ACCEPT
-A OUTPUT -p tcp --dport 179 -j ACCEPT
-A OUTPUT -p udp -m multiport --dports 9112,8473 -j ACCEPT
COMMIT
"""
NO_IPTABLES = """
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
COMMIT
"""
STATES = "ct state established,related accept; meta l4proto { icmp, ipv6-icmp } accept"
INPUT = chain(
    "input", f"{STATES}; ct state invalid drop; iif lo accept; tcp dport {{ 80, {PORT} }} accept; {OURS}", "drop"
)
OUTPUT = chain("output", f"{STATES}; oif lo accept; {OURS}", "drop")
FORWARD = chain("forward", "counter", "drop")
STRICT_FIB = chain("prerouting", "ip6 saddr fe80::/10 accept; fib saddr . iif oif missing drop", priority="raw")


@contextmanager
def iptables(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    def restore(ruleset: str) -> None:
        for node in (keeper, carrier):
            with pair.network.inside(node):
                for program, icmp in (("iptables-nft", "icmp"), ("ip6tables-nft", "ipv6-icmp")):
                    rules = ruleset.replace("-p icmp", f"-p {icmp}")
                    subprocess.run([f"{program}-restore"], input=rules, text=True, check=True)

    restore(IPTABLES)
    try:
        yield
    finally:
        restore(NO_IPTABLES)


@contextmanager
def reverse_path_filter(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    def write(value: int) -> None:
        for node in (keeper, carrier):
            for name in ("all", "default", "eth0"):
                sysctl(pair, node, f"ipv4/conf/{name}/rp_filter", value)

    write(1)
    try:
        yield
    finally:
        write(0)


@contextmanager
def strict_router(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    pair.network.drop_spoofed()
    try:
        yield
    finally:
        for host in (*THREE_NODES, OBSERVER):
            sysctl(pair, ROUTER, f"ipv4/conf/{host.name}/rp_filter", 0)


@contextmanager
def narrow_client(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    def set_mtu(mtu: int) -> None:
        for host, device in ((OBSERVER.name, "eth0"), (ROUTER, OBSERVER.name)):
            ip(pair, host, f"link set {device} mtu {mtu}")

    set_mtu(1280)
    try:
        yield
    finally:
        set_mtu(1500)


@contextmanager
def flushed(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    for node in (keeper, carrier):
        nft(pair, node, "flush ruleset")
    yield


@contextmanager
def no_device_on_keeper(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    ip(pair, keeper, f"link delete {DEVICE}")
    yield


@contextmanager
def no_address(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    pair.run.delete_address(keeper)
    yield


WAYS = [
    Way("nothing"),
    Way("nftables: input drops", before=filtered("both", INPUT)),
    Way("nftables: output drops", before=filtered("both", OUTPUT)),
    Way("nftables: forward drops", before=filtered("both", FORWARD)),
    Way("nftables: a strict fib rule", before=filtered("both", STRICT_FIB)),
    Way("iptables", before=iptables),
    Way("rp_filter = 1", before=reverse_path_filter),
    Way("strict reverse path at the router", before=strict_router),
    Way("MTU 1280 at the client", before=narrow_client),
    Way("MTU 1280 at the client once they are open", opened=narrow_client),
    Way("nft flush ruleset", after=flushed),
    Way("the keeper's tunnel is deleted", after=no_device_on_keeper, after_for=3.5, stall=1.0),
    Way("the keeper's address is deleted", after=no_address),
]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with moving() as pair:
        yield pair


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_connections_go_on(pair: Pair, way: Way) -> None:
    play(pair, way)
