"""What `floatip check` says of keepalived and lelastic on the same machine."""

import os
from pathlib import Path

import pytest

from floatip import check, reading
from floatip.adopt.beside import beside
from floatip.adopt.system import AdoptError, System
from floatip.reading import regular
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import accepted
from tests.adopt.haproxy1 import Haproxy1
from tests.command_line import floatip

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
keepalived = { interface = "eth0", vrid = 51, priority = 50, source = "192.168.143.227", peers = ["192.168.143.241"] }
"""
BY_HAND = """
[[instance]]
name = "web"
addresses = ["192.168.223.158/32", "192.168.223.159/32"]

[instance.keepalived]
instance = "VI_1"
interface = "eth1"
vrid = 52
priority = 60
source = "192.168.143.228"
peers = ["192.168.143.242"]
version = 3
advert_interval = 2
"""
TRIGGER = FOLLOWED.replace("keepalived =", 'checks = ["t"]\nkeepalived =')
TRIGGER += '[[check]]\nname = "t"\nfile = "/run/trigger"\n'
WATCHED = FOLLOWED.replace("keepalived =", 'checks = ["web"]\nkeepalived =') + WEB
LINODE = "[linode]\ndcid = 6\n"


@pytest.fixture
def host(tmp_path: Path) -> Haproxy1:
    return Haproxy1(tmp_path)


def said(host: Haproxy1, text: str) -> list[str]:
    return [one.text for one in beside(*accepted(parse(str(FILE), text.encode())), host)]


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


def test_a_keepalived_conf_that_cannot_be_understood_is_not_compared(host: Haproxy1) -> None:
    host.active.discard("lelastic.service")
    host.write("/etc/keepalived/keepalived.conf", "vrrp_instance VI_1 {\n")
    assert said(host, LINODE + WEB + ELECTED) == []
    assert "not compared with keepalived.conf: /etc/keepalived/keepalived.conf:1: " in said(host, LINODE + FOLLOWED)[0]


CONF = "/etc/keepalived/keepalived.conf"
DIFFERENT = [
    f"4: addresses: 192.168.223.158/32, 192.168.223.159/32 here, and 192.168.223.158/32 at {CONF}:33",
    f"8: keepalived.interface: eth1 here, and eth0 at {CONF}:18",
    f"9: keepalived.vrid: 52 here, and 51 at {CONF}:19",
    f"10: keepalived.priority: 60 here, and 50 at {CONF}:20",
    f"11: keepalived.source: 192.168.143.228 here, and 192.168.143.227 at {CONF}:29",
    f"12: keepalived.peers: 192.168.143.242 here, and 192.168.143.241 at {CONF}:30",
    f"13: keepalived.version: 3 here, and 2 at {CONF}:4",
    f"14: keepalived.advert_interval: 2.0 here, and 1.0 at {CONF}:21",
]


def with_a_version(host: Haproxy1) -> None:
    text = host.text(CONF)
    host.write(CONF, text.replace("    enable_script_security\n", "    vrrp_version 2\n    enable_script_security\n"))


def test_a_file_written_by_hand_is_compared_with_both_places_and_the_next_step(host: Haproxy1) -> None:
    with_a_version(host)
    found = list(beside(*accepted(parse(str(FILE), BY_HAND.encode())), host))
    said = [f"{one.line}: {one.text}".replace('instance "web" ', "") for one in found]
    assert sorted(said, key=lambda one: int(one.partition(":")[0])) == DIFFERENT
    assert {one.file for one in found} == {str(FILE)}
    assert {one.hint.partition(";")[0] for one in found} == {
        "edit the wrong one and reload it: systemctl reload floatip, or keepalived"
    }


def test_a_keepalived_that_systemd_did_not_start_is_found_by_its_pid_file(host: Haproxy1) -> None:
    with_a_version(host)
    host.installed.discard("keepalived.service")
    assert said(host, BY_HAND) == [], "none runs here"
    host.write("/proc/811/comm", "keepalived\n")
    host.at(CONF).rename(host.at("/etc/other.conf"))
    host.write("/proc/811/cmdline", "keepalived\0-f\0/etc/other.conf\0")
    assert len(said(host, BY_HAND)) == len(DIFFERENT)
    assert any(one.endswith("52 here, and 51 at /etc/other.conf:19") for one in said(host, BY_HAND))
    assert "elects for vrid 51 on eth0 too" in said(host, WEB + ELECTED)[0]


def test_check_compares_a_file_wherever_it_is_and_reads_it_once(
    host: Haproxy1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened = tmp_path / "elsewhere.toml", []
    file.write_text(LINODE + BY_HAND)
    read_from = regular.read_from

    def noted(descriptor: int, largest: int = regular.LARGEST) -> bytes:
        opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return read_from(descriptor, largest)

    monkeypatch.setattr(regular, "read_from", noted)
    monkeypatch.setattr(check, "System", lambda patience: host)
    status, shown = floatip("check", str(file))
    assert status == 0
    assert f'{file}:11: warning: instance "web" keepalived.vrid: 52 here, and 51 at {CONF}:18\n  hint: edit' in shown
    assert opened.count(str(file)) == 1


def test_a_systemd_that_does_not_answer_is_not_waited_for_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl, file = tmp_path / "systemctl", tmp_path / "floatip.toml"
    systemctl.write_text("#!/bin/sh\nexec sleep 300\n")
    systemctl.chmod(0o755)
    file.write_text(LINODE + BY_HAND)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(check, "PATIENCE", 0.2)
    read = reading.read(file)
    (found,) = check._beside(read)
    assert "whether keepalived or lelastic elects or announces here too is not known: systemd does not answer" in str(
        found
    )
    assert "did not end within 0.2 s" in str(found)
    with pytest.raises(AdoptError):
        System(patience=0.2).unit("keepalived.service")
