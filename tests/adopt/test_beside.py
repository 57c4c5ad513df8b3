"""What `floatip check` says of keepalived and lelastic on the same machine."""

from pathlib import Path

import pytest

from floatip.adopt.beside import beside
from tests.adopt.haproxy1 import Haproxy1

FILE = Path("/etc/floatip/floatip.toml")
WEB = """
[[check]]
name = "web"
tcp = "127.0.0.1:80"
"""
ELECTED = """
[[instance]]
name = "a"
addresses = ["192.0.2.10/32"]
checks = ["web"]
vrrp = { interface = "eth0", vrid = 51, source = "192.168.143.227", peers = ["192.168.143.241"] }
"""
FOLLOWED = """
[[instance]]
name = "VI_1"
addresses = ["192.168.223.158/32"]
keepalived = { interface = "eth0", vrid = 51, source = "192.168.143.227", peers = ["192.168.143.241"] }
"""
TRIGGER = FOLLOWED.replace("keepalived =", 'checks = ["t"]\nkeepalived =')
TRIGGER += '[[check]]\nname = "t"\nfile = "/run/trigger"\n'
WATCHED = FOLLOWED.replace("keepalived =", 'checks = ["web"]\nkeepalived =') + WEB
LINODE = "[linode]\ndcid = 6\n"


@pytest.fixture
def host(tmp_path: Path) -> Haproxy1:
    return Haproxy1(tmp_path)


def said(host: Haproxy1, text: str) -> list[str]:
    host.write(str(FILE), text)
    return [one.text for one in beside(FILE, host)]


def test_a_lelastic_that_runs_takes_the_sessions(host: Haproxy1) -> None:
    host.active.discard("keepalived.service")
    what = "lelastic.service runs here: route servers accept one session per node, so floatip gets none"
    assert said(host, LINODE + WEB + ELECTED) == [f"linode: {what}"]
    assert said(host, WEB + ELECTED) == []
    host.active.discard("lelastic.service")
    assert said(host, LINODE + WEB + ELECTED) == []


def test_a_keepalived_that_runs_would_be_master_too(host: Haproxy1) -> None:
    host.active.discard("lelastic.service")
    place = "/etc/keepalived/keepalived.conf:14"
    what = f'instance "a": keepalived runs here, and elects for vrid 51 on eth0 too: {place}'
    assert said(host, LINODE + WEB + ELECTED) == [what]
    other_vrid = ELECTED.replace("51", "52")
    assert said(host, LINODE + WEB + other_vrid) == []
    assert said(host, LINODE + WEB + ELECTED.replace("eth0", "eth1")) == []
    static = ELECTED.replace("192.0.2.10", "192.168.223.158").partition("vrrp")[0] + 'static = "primary"\n'
    assert "elects for 192.168.223.158 too" in said(host, LINODE + WEB + static)[0]
    host.active.discard("keepalived.service")
    assert said(host, LINODE + WEB + ELECTED) == []


def test_a_service_that_neither_keepalived_nor_floatip_checks_is_named(host: Haproxy1) -> None:
    host.active.discard("lelastic.service")
    assert said(host, LINODE + FOLLOWED) == [], "no service runs here"
    host.write("/proc/900/comm", "haproxy\n")
    what = "haproxy runs here, and no check of keepalived's watches it"
    assert said(host, LINODE + FOLLOWED) == [f'instance "VI_1" checks: {what}']
    assert said(host, LINODE + TRIGGER) == [f'instance "VI_1" checks: {what}']
    assert said(host, LINODE + WATCHED) == []


def test_a_keepalived_conf_that_cannot_be_understood_says_nothing(host: Haproxy1) -> None:
    host.active.discard("lelastic.service")
    host.write("/etc/keepalived/keepalived.conf", "vrrp_instance VI_1 {\n")
    assert said(host, LINODE + WEB + ELECTED) == []
