"""`floatip convert`: what it prints runs the same as the keepalived.conf."""

import re
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from floatip import convert, reading
from floatip.commands import Refusal
from floatip.reading import machine
from floatip.reading.keepalived.front_end import model_of
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import accepted
from tests.command_line import floatip

HERE = Path(__file__).parent
HOST = (IPv4Interface("192.0.2.1/24"), IPv6Interface("fe80::1/64"), IPv6Interface("2001:db8::1/64"))
MACHINE = machine.Machine({"eth0": HOST, "eth1": HOST, "lo": ()})
CONF = """\
vrrp_script web {
    script "/bin/sh -c true"
    interval 2
    weight -20
}
vrrp_instance VI_1 {
    interface eth0
    state MASTER
    virtual_router_id 51
    priority 101
    authentication {
        auth_type PASS
        auth_pass secret12
    }
    unicast_src_ip 192.0.2.1
    unicast_peer {
        192.0.2.2
    }
    virtual_ipaddress {
        192.0.2.10/32
        192.0.2.11/24 label eth0:1 no_track
    }
    track_script {
        web
    }
    notify_master "/bin/echo master"
    smtp_alert
}
"""
TOML = """\
# Written by `floatip convert` from {file}. It runs the same; every key:
# /usr/share/doc/floatip/reference/configuration.md
#
# Warnings and notes about that file:
#   {file}:27: mail: floatip sends no mail

# {file}:1
[[check]]
name = "web"
script = ["/bin/sh", "-c", "true"]
interval = 2

# {file}:6
[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32", { address = "192.0.2.11/24", label = "eth0:1", tracked = false }]
placement = "master"
tracks = [{ check = "web", weight = -20 }]
notify = { master = ["/bin/echo", "master"] }

[instance.vrrp]
interface = "eth0"
vrid = 51
priority = 101
source = "192.0.2.1"
peers = ["192.0.2.2"]
state = "MASTER"
auth_pass = "secret12"
check_unicast_src = false
"""


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user="": replace(MACHINE, user=user))
    monkeypatch.setattr(machine, "daemons_user", lambda: "")


def write(directory: Path, text: str) -> Path:
    path = directory / "keepalived.conf"
    path.write_text(text, errors="surrogateescape")
    path.chmod(0o600)
    return path


def test_a_keepalived_conf_is_printed_as_floatip_toml(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, CONF)
    assert convert.convert(file, None) == 0
    out, err = capfd.readouterr()
    # Where there is a user keepalived_script, keepalived runs scripts as that one.
    out = out.replace('user = "keepalived_script"\n', "").replace(', user = "keepalived_script"', "")
    about_weights = re.compile(r"#   \S+: vrrp_instance VI_1: web weighs .*\n")
    assert about_weights.sub("", out) == TOML.replace("{file}", str(file))
    assert err.splitlines()[-1] == convert.SECRETS


def test_what_is_printed_is_accepted_and_says_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, CONF)
    assert convert.convert(file, 6) == 0
    out, _ = capfd.readouterr()
    (tmp_path / "floatip").mkdir()
    written = tmp_path / "floatip" / "floatip.toml"
    written.write_text(out)
    written.chmod(0o640)
    assert list(reading.will(reading.load(written).model)) == list(reading.will(reading.load(file, dcid=6).model))


@pytest.mark.parametrize("above", ["", "global_defs {\n vrrp_mcast_group4 224.0.0.99\n}\n"])
def test_a_multicast_group_beside_peers_keeps_no_file_from_being_converted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], above: str
) -> None:
    conf = CONF if above else CONF.replace("    smtp_alert\n", "    mcast_dst_ip 224.0.0.99\n")
    assert convert.convert(write(tmp_path, above + conf), None) == 0
    assert "mcast_group" not in capfd.readouterr().out


FILES = sorted([*HERE.glob("keepalived/**/*.conf"), *HERE.glob("keepalived_minimal/**/*.conf")])
UNSAYABLE = {"a command that is no path": "m98.conf"}
"""keepalived does not run it either."""


@pytest.mark.parametrize("dcid", [None, 6])
def test_each_file_that_is_read_is_written_and_read_as_the_same_model(dcid: int | None) -> None:
    converted = refused = 0
    for file in FILES:
        try:
            read = reading.Read(*model_of(file, MACHINE, dcid))
        except reading.ConfigErrors:
            refused += 1
            continue
        is_wrong = any(isinstance(problem, reading.ConfigError) for problem in read.problems)
        if is_wrong or file.name in UNSAYABLE.values():
            refused += 1
            continue
        model, _ = accepted(parse("floatip.toml", convert.written(file, read).encode()))
        assert model.instances == read.model.instances, file
        converted += 1
    assert converted > 80, refused


def test_a_file_that_is_no_keepalived_conf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "floatip.toml"
    path.write_text("[linode]\ndcid = 6\n")
    status, said = floatip("convert", str(path))
    assert (status, said.splitlines()[0]) == (2, f"error: {path} is not a keepalived.conf [usage]")


def test_a_file_with_errors_prints_nothing_but_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, CONF.replace("virtual_router_id 51", ""))
    assert convert.convert(file, None) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert f"{file}:6: " in err


def test_a_machine_that_lacks_something_does_not_keep_the_file_from_being_converted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, CONF.replace("/bin/sh -c", "/usr/bin/of-nowhere"))
    assert convert.convert(file, None) == 0
    out, err = capfd.readouterr()
    assert '"/usr/bin/of-nowhere"' in out
    assert "/usr/bin/of-nowhere cannot be run: no such file or directory" in err


def test_octets_that_are_no_text_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, CONF.replace("/bin/echo master", "/bin/echo m\udce4ster"))
    with pytest.raises(Refusal) as refused:
        convert.convert(file, None)
    assert refused.value.what.splitlines()[0] == f"floatip.toml cannot say what {file} says:"
