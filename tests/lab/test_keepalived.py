"""One floatip and one keepalived (Debian's) as a pair: each must take the other for one of its own."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from floatip.core.election.elector import ASKING
from floatip.core.vrrp.wire import Advert, pack
from floatip.host.ask import NobodyAnswers
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, Network
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.keepalived import KeepalivedProgram

TIMEOUT = 60.0
KINDS = {
    "version 2": (2, 1, ""),
    "version 2 with a password": (2, 1, "twenty-characters-000"),
    "version 3": (3, 0.5, ""),
}


class Pair:
    """floatip on haproxy1, keepalived on haproxy2."""

    def __init__(self, network: Network, kind: str, ours: int, theirs: int) -> None:
        version, interval, password = KINDS[kind]
        assert HAPROXY1.ipv4
        assert HAPROXY2.ipv4
        password_line = f'auth_pass = "{password}"' if password else ""
        self.floatip = FloatipDaemon(
            network,
            HAPROXY1.name,
            f"""
[[instance]]
name = "VI_1"
placement = "master"
interface = "lo"
addresses = ["{FLOATING}"]
[instance.vrrp]
interface = "eth0"
vrid = 51
priority = {ours}
version = {version}
advert_interval = {interval}
source = "{HAPROXY1.ipv4.ip}"
peers = ["{HAPROXY2.ipv4.ip}"]
{password_line}
""",
        )
        authentication = f"authentication {{\n auth_type PASS\n auth_pass {password}\n}}" if password else ""
        self.keepalived = KeepalivedProgram(
            network,
            HAPROXY2.name,
            f"""
global_defs {{
  vrrp_version {version}
}}
vrrp_instance VI_1 {{
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority {theirs}
  advert_int {interval}
  {authentication}
  unicast_src_ip {HAPROXY2.ipv4.ip}
  unicast_peer {{
    {HAPROXY1.ipv4.ip}
  }}
  virtual_ipaddress {{
    {FLOATING} dev lo
  }}
}}
""",
        )
        self.network = network
        self.interval = interval

    def start(self) -> None:
        self.floatip.start()
        self.keepalived.start()

    @property
    def role(self) -> str:
        try:
            return str(self.floatip.status()["instances"][0]["role"]["value"])
        except NobodyAnswers:
            return "not yet running"

    @property
    def problems(self) -> list[str]:
        return [problem["what"] for problem in self.floatip.status()["problems"]]

    def holders(self) -> set[str]:
        return {host for host in (HAPROXY1.name, HAPROXY2.name) if self._holds(host)}

    def _holds(self, host: str) -> bool:
        with self.network.inside(host), open("/proc/thread-self/net/fib_trie") as table:
            return str(FLOATING.ip) in table.read()

    def become(self, holder: str) -> float:
        """Seconds until only this host holds the address."""
        began = time.monotonic()
        wait_for(lambda: self.holders() == {holder}, f"{holder} to be the only holder")
        return time.monotonic() - began


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline, f"waited {TIMEOUT} s in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def network() -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as network:
        yield network


@pytest.mark.parametrize("kind", KINDS)
def test_keepalived_with_the_higher_priority_is_followed_and_replaced_when_it_stops(
    network: Network, kind: str
) -> None:
    pair = Pair(network, kind, ours=50, theirs=150)
    pair.start()
    pair.become(HAPROXY2.name)
    wait_for(lambda: pair.role == "backup", "floatip to be backup")
    pair.keepalived.stop()
    took = pair.become(HAPROXY1.name)
    print(f"{kind}: floatip took over {took:.2f} s after keepalived's SIGTERM")
    assert "priority 0" in pair.floatip.status()["instances"][0]["role"]["reason"]
    if pair.interval == 1:  # shorter ones are shorter than a pause of this machine
        assert took < 3 * pair.interval, "the priority 0 was not understood"
    assert not pair.floatip.status()["instances"][0]["dropped"]


@pytest.mark.parametrize("kind", KINDS)
def test_keepalived_follows_floatip_with_the_higher_priority_and_replaces_it_when_it_stops(
    network: Network, kind: str
) -> None:
    pair = Pair(network, kind, ours=150, theirs=50)
    pair.start()
    pair.become(HAPROXY1.name)
    assert pair.role == "master"
    time.sleep(3 * pair.interval)
    assert pair.holders() == {HAPROXY1.name}
    pair.floatip.stop()
    wait_for(lambda: HAPROXY2.name in pair.holders(), "keepalived to take over")
    pair.become(HAPROXY2.name)
    errors = [line for line in pair.keepalived.log.read_text().splitlines() if "invalid" in line or "expected" in line]
    assert not errors


def test_a_floatip_that_comes_with_a_higher_priority_replaces_a_running_keepalived(network: Network) -> None:
    pair = Pair(network, "version 2", ours=150, theirs=50)
    pair.keepalived.start()
    pair.become(HAPROXY2.name)
    pair.floatip.start()
    pair.become(HAPROXY1.name)
    assert pair.role == "master"


def test_another_password_makes_two_masters_and_status_says_why(network: Network) -> None:
    pair = Pair(network, "version 2 with a password", ours=50, theirs=150)
    config = Path(pair.keepalived.config)
    config.write_text(config.read_text().replace("twenty", "thirty"))
    pair.start()
    wait_for(lambda: len(pair.holders()) == 2 and pair.role == "master", "two masters")
    wait_for(lambda: "another password from 192.168.143.241" in "\n".join(pair.problems), "the problem to be said")


@pytest.mark.parametrize("kind", ["version 2", "version 3"])
def test_a_keepalived_that_is_asked_whether_it_lives_answers_at_once_and_stays_master(
    network: Network, kind: str
) -> None:
    """What a floatip that was wrong twice relies on: see `Router._ask`."""
    version, interval, _ = KINDS[kind]
    pair = Pair(network, kind, ours=50, theirs=150)
    pair.keepalived.start()
    pair.become(HAPROXY2.name)
    assert HAPROXY1.ipv4
    assert HAPROXY2.ipv4
    ours, theirs = HAPROXY1.ipv4.ip, HAPROXY2.ipv4.ip
    asking = pack(Advert(version, 51, ASKING, interval, (FLOATING.ip,)), ours, theirs)  # type: ignore[arg-type]
    waits = []
    with network.inside(HAPROXY1.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        raw.settimeout(TIMEOUT)
        for _ in range(10):
            raw.recv(1024)
            asked_at = time.monotonic()
            raw.sendto(asking, (str(theirs), 0))
            raw.recv(1024)
            waits.append(time.monotonic() - asked_at)
    print(f"{kind}: answered after {sorted(waits)[5] * 1e3:.1f} ms (median)")
    assert sorted(waits)[2] < interval / 2, waits
    assert pair.holders() == {HAPROXY2.name}
