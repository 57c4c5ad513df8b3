"""The second chance on hosts with firewalld, ufw and iptables, opened by the lines of docs/operate/firewall.md.

Each is reloaded while connections go on.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from floatip.lab.programs.connections import PORT
from tests.systemd import guide
from tests.systemd.chance import Chanced, kept_there, loaded, no_probe_lost, none_failed
from tests.systemd.machines import Machine, Rack, debian_with, on_each, wait_for
from tests.systemd.nodes import season
from tests.systemd.pair import ADDRESS, Pair
from tests.systemd.stacks import SETTLE_TIMEOUT, begin_to_build, claims, settle, status, use

CHANCED = Chanced()
OBSERVED, LIVES = 3.5, 3.0
"""Seconds for which the address is observed after a move, until the keeper is judged slowly: ufw drops everything for a
moment. Seconds for which the connections go on after the reloads."""
SERVICES = ("80", "443", str(PORT))
SHUT = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -p tcp -m multiport --dports {services} -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -p {icmp} -j ACCEPT
COMMIT
"""
"""As many machines have it; {icmp} and {services} are filled in."""
OPEN = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
"""
PROGRAMS = {"iptables": "icmp", "ip6tables": "ipv6-icmp"}


@dataclass(frozen=True)
class Firewall:
    name: str
    up: Sequence[str]
    """Commands. OTHER is the address of the other node."""
    reload: str
    down: str
    is_silent: bool = False
    """Its reload drops all packets for a moment, in which another node would take over."""


FIREWALLS = (
    Firewall(
        "ufw",
        (
            "ufw default deny outgoing",
            *(f"ufw allow {port}/tcp" for port in SERVICES),
            "ufw allow proto udp from OTHER to any port 9112,8473",
            "ufw allow out proto udp to OTHER port 9112,8473",
            *(f"ufw allow out proto tcp to 2600:3c0f:6:34::{number} port 179" for number in range(1, 5)),
            "ufw --force enable",
        ),
        "ufw reload",
        "ufw --force reset; ufw --force disable",
        is_silent=True,
    ),
    Firewall(
        "firewalld",
        (
            "systemctl start firewalld",
            *(
                f"firewall-cmd{permanent} {what}"
                for what in (
                    *(f"--add-port={port}/tcp" for port in SERVICES),
                    *(
                        '--add-rich-rule=\'rule family="ipv4" source address="OTHER"'
                        f' port port="{port}" protocol="udp" accept\''
                        for port in (9112, 8473)
                    ),
                )
                for permanent in ("", " --permanent")
            ),
        ),
        "firewall-cmd --reload",
        "systemctl stop firewalld; rm -f /etc/firewalld/zones/*",
    ),
    Firewall(
        "iptables",
        (
            *(f"{program}-restore </root/{program}.shut" for program in PROGRAMS),
            "iptables -I INPUT -p udp -s OTHER -m multiport --dports 9112,8473 -j ACCEPT",
            "iptables -I OUTPUT -p udp -d OTHER -m multiport --dports 9112,8473 -j ACCEPT",
            "ip6tables -I INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "ip6tables -I OUTPUT -p tcp --dport 179"
            " -m iprange --dst-range 2600:3c0f:6:34::1-2600:3c0f:6:34::4 -j ACCEPT",
            *(f"{program}-save >/root/{program}.rules" for program in PROGRAMS),
        ),
        "; ".join(f"{program}-restore </root/{program}.rules" for program in PROGRAMS),
        "; ".join(f"{program}-restore </root/{program}.open" for program in PROGRAMS),
    ),
)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Hosts of its own: firewalls would be in the way of other tests."""
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack(str(debian_with("firewalld")))
        exits.callback(rack.close)
        pair = Pair(rack, exits)
        use(pair, CHANCED)
        for node in pair.nodes:
            for program, icmp in PROGRAMS.items():
                node.put(f"/root/{program}.shut", SHUT.format(icmp=icmp, services=",".join(SERVICES)).encode())
                node.put(f"/root/{program}.open", OPEN.encode())
        yield pair


@pytest.mark.parametrize("firewall", FIREWALLS, ids=lambda firewall: firewall.name)
def test_a_handover_resets_nothing_and_neither_does_a_reload_of_the_firewall(pair: Pair, firewall: Firewall) -> None:
    def type_(node: Machine, lines: Sequence[str]) -> None:
        _, other = guide.hosts(node)
        assert other.ipv4
        for line in lines:
            node.run(line.replace("OTHER", str(other.ipv4.ip)))

    on_each(pair.nodes, lambda node: type_(node, firewall.up))
    try:
        for _ in range(2):
            _moves(pair, firewall)
    finally:
        on_each(pair.nodes, lambda node: node.run(firewall.down, check=False))


def _moves(pair: Pair, firewall: Firewall) -> None:
    on_each(pair.nodes, lambda node: node.run(f"ss --kill --tcp --no-header src {ADDRESS}", quiet=True))
    master = settle(pair, CHANCED)
    season(pair)
    other = pair.other(master)
    with loaded(pair) as load:
        with pair.observed() as observation:
            master.run("floatip handover")
            wait_for(lambda: claims(status(other)), f"{other.name} to take over", SETTLE_TIMEOUT)
            wait_for(lambda: kept_there(other) > 0, "the connections to go on", SETTLE_TIMEOUT)
            time.sleep(OBSERVED)
        # Some drop what is new, or everything, for a moment.
        if firewall.is_silent:
            on_each(pair.nodes, lambda node: node.run(f"floatip pause --reason {firewall.name}"))
        for node in (master, other):
            node.run(firewall.reload)
        if firewall.is_silent:
            on_each(pair.nodes, lambda node: node.run("floatip resume"))
        time.sleep(LIVES)
        load.end()
    none_failed(load)
    no_probe_lost(observation)
