"""`floatip init`: from answers to the configurations of both nodes."""

import sys
import tomllib
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from floatip import init, prompts, reading
from floatip.adopt import system
from floatip.adopt.system import CommandResult
from floatip.cli import ended
from floatip.reading.machine import Machine
from tests.adopt.haproxy1 import KEEPALIVED_CONF

GUIDE: dict[str, str | None] = {
    "dcid": "6",
    "addresses": "192.168.223.158",
    "interface": "eth0",
    "source": "192.168.143.227",
    "peer": "192.168.143.241",
    "vrid": "51",
    "prefer": "neither",
    "check": "process:haproxy",
}
FILE = Path("/etc/floatip/floatip.toml")


class Played(system.System):
    def run(self, *command: str) -> CommandResult:
        if command[0] == "systemctl":
            active = "active" if self.at("/etc/keepalived/keepalived.conf").exists() else "inactive"
            return CommandResult(0, f"LoadState=loaded\nUnitFileState=enabled\nActiveState={active}\nMainPID=0")
        raise AssertionError(command)

    def machine(self) -> Machine:
        eth0 = ip_interface("45.33.69.7/24"), ip_interface("192.168.143.227/17")
        return Machine({"lo": (), "eth0": eth0}, default_interface="eth0")

    def daemons_group(self) -> int | None:
        return 64130


@pytest.fixture
def host(tmp_path: Path) -> Played:
    return Played(tmp_path)


def given(**changed: Any) -> init.Given:
    return GUIDE | changed


def both(host: Played, tmp_path: Path, answers: init.Given) -> tuple[dict[str, Any], dict[str, Any]]:
    assert ended(lambda: init.init(host, answers, FILE, Path("/other"))) == 0
    (other,) = (tmp_path / "other").iterdir()
    return tomllib.loads(host.text(FILE)), tomllib.loads(other.read_text())


def test_flags_make_a_pair_that_the_daemon_accepts(host: Played, tmp_path: Path) -> None:
    ours, others = both(host, tmp_path, GUIDE)
    reading.load(host.at(FILE))
    reading.load(tmp_path / "other" / "192.168.143.241.toml")
    mirrored = {"source": "192.168.143.241", "peers": ["192.168.143.227"]}
    assert others["instance"][0]["vrrp"] == ours["instance"][0]["vrrp"] | mirrored
    assert ours["check"] == others["check"] == [{"name": "haproxy", "process": "haproxy"}]
    assert ours["instance"][0]["addresses"] == ["192.168.223.158/32"]


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("this", (150, 100, None)), ("other", (100, 150, None)), ("neither", (100, 100, False))],
)
def test_who_is_preferred(host: Played, tmp_path: Path, prefer: str, expected: tuple[int, int, bool | None]) -> None:
    ours, others = (one["instance"][0]["vrrp"] for one in both(host, tmp_path, given(prefer=prefer)))
    assert (ours["priority"], others["priority"], ours.get("preempt")) == expected


def test_without_bgp_the_master_holds_the_address(host: Played, tmp_path: Path) -> None:
    ours, _ = both(host, tmp_path, given(dcid="none", addresses="10.0.0.9/24", check="none"))
    assert "linode" not in ours
    settings = reading.load(host.at(FILE)).model.settings()
    assert settings.instances[0].placement == "master"
    assert settings.instances[0].checks == ()


def test_whoever_says_that_there_is_no_bgp_is_not_warned_of_it(
    host: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(lambda: init.init(host, given(dcid="none", addresses="10.0.0.9/32"), FILE, None)) == 0
    assert "no [bgp]" not in capsys.readouterr().err


def test_a_directory_that_it_makes_is_named(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    host.at(FILE.parent).mkdir(parents=True)
    assert ended(lambda: init.init(host, GUIDE, FILE, Path("/some/where"))) == 0
    made = [line for line in capsys.readouterr().err.splitlines() if "was made" in line]
    assert made == ["/some/where: did not exist, and was made"]


def test_the_other_nodes_file_alone_goes_to_standard_output(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: init.init(host, GUIDE, FILE, None)) == 0
    other = tomllib.loads(capsys.readouterr().out)
    assert other["instance"][0]["vrrp"]["source"] == "192.168.143.241"


def test_each_answer_is_checked_at_its_question_and_asked_again(
    host: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str | None]] = []
    wrong = [
        ("no such region", "newark"),
        ("192.168.223.158/24", "192.168.223.158"),
        ("192.168.223.158", "eth7", "lo", None),
        ("enp3s0", "192.168.143.9", "192.168.223.158", None),
        ("192.168.143.227", "192.168.223.158", "2001:db8::1", "192.168.143.241"),
        ("300", "51"),
        ("me", None),
        ("haproxy", "tcp:80", "process:haproxy"),
    ]
    answers = iter([answer for answers in wrong for answer in answers])

    def prompt(text: str, default: str | None) -> str | None:
        asked.append((text, default))
        return next(answers) or default

    monkeypatch.setattr(prompts, "ask", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    ours, _ = both(host, tmp_path, {})
    print(asked)
    assert [sum(text == question.text for text, _ in asked) for question in init.QUESTIONS.values()] == [
        len(answers) for answers in wrong
    ]
    assert ours["linode"] == {"dcid": "us-east"}
    assert ours["instance"][0]["vrrp"]["interface"] == "eth0", "that of the default route"
    assert ours["instance"][0]["vrrp"]["source"] == "192.168.143.227", "the private address"
    said = capsys.readouterr().err
    for expected in (
        'write "192.168.223.158/32"',
        "eth7 is not an interface of this machine; it has eth0, lo",
        "192.168.143.9 is not an address of this machine's eth0, which has 45.33.69.7, 192.168.143.227",
        "192.168.143.227 is our own source",
        "192.168.223.158 is a floating address",
        '"80" is not host:port',
    ):
        assert expected in said


def test_it_says_what_the_firewall_must_let_through_and_what_comes_next(
    host: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(lambda: init.init(host, GUIDE, FILE, None)) == 0
    said = capsys.readouterr().err
    assert "IP protocol 112 (VRRP) between 192.168.143.227 and 192.168.143.241" in said
    assert "TCP port 179 (BGP)" in said
    assert said.endswith(f"  floatip check {FILE}\n  systemctl enable --now floatip\n")


def test_a_file_that_the_unit_does_not_read_is_moved_first(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: init.init(host, GUIDE, Path("/srv/pair.toml"), None)) == 0
    check, move, enable = capsys.readouterr().err.splitlines()[-3:]
    assert check == "  floatip check /srv/pair.toml"
    assert move.startswith(f"  mv /srv/pair.toml {FILE}  ")
    assert enable == "  systemctl enable --now floatip"


@pytest.mark.parametrize(
    ("there", "what", "hint"),
    [
        ("/other", "/other is not a directory", "give --output a directory"),
        ("/other/192.168.143.241.toml", "/other/192.168.143.241.toml exists", "move it away, or give --output another"),
        ("/etc/floatip", "cannot be written: ", "choose another path: --file"),
    ],
)
def test_a_path_that_is_taken_has_the_hint_that_helps(
    host: Played, capsys: pytest.CaptureFixture[str], there: str, what: str, hint: str
) -> None:
    host.at(there).parent.mkdir(parents=True, exist_ok=True)
    host.at(there).write_text("mine")
    assert ended(lambda: init.init(host, GUIDE, FILE, Path("/other"))) == 1
    said = capsys.readouterr().err
    assert what in said
    assert f"hint: {hint}" in said
    assert host.at(there).read_text() == "mine"


def test_a_relative_path_is_one_of_the_working_directory(
    tmp_path: Path, host: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert system.System().at("other.toml") == tmp_path / "other.toml"


def test_a_file_of_this_node_that_cannot_be_written_leaves_nothing_behind(host: Played, tmp_path: Path) -> None:
    host.at(FILE).parent.parent.mkdir()
    host.at(FILE).parent.write_text("no directory")
    assert ended(lambda: init.init(host, GUIDE, FILE, Path("/other"))) == 1
    assert list((tmp_path / "other").iterdir()) == []


def test_what_it_writes_is_for_its_owner_and_the_daemon_alone(host: Played, tmp_path: Path) -> None:
    both(host, tmp_path, GUIDE)
    status = host.at(FILE).stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, 64130)
    assert "# The node is not master while this fails.\n[[check]]" in host.text(FILE)


def test_it_never_overwrites(host: Played, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    host.at(FILE).parent.mkdir(parents=True)
    host.at(FILE).write_text("mine")
    assert ended(lambda: init.init(host, GUIDE, FILE, Path("/other"))) == 1
    assert host.at(FILE).read_text() == "mine"
    assert not (tmp_path / "other").exists()
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"peer": None}, "--peer is missing"),
        ({"addresses": "192.168.223.300"}, "--address: "),
        ({"vrid": "256"}, "--vrid: 256 is not between 1 and 255"),
        ({"dcid": "us-east-9"}, "--dcid: us-east-9 is no region"),
        ({"check": "http"}, "--check: http is not tcp:"),
        ({"prefer": "me"}, "--prefer: me is not"),
        ({"check": "tcp:localhost"}, "--check: "),
        ({"addresses": "192.168.223.158/24"}, "192.168.223.158/24"),
        ({"peer": "192.168.143.227"}, "192.168.143.227"),
    ],
)
def test_a_wrong_answer_writes_nothing(
    host: Played, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], said: str
) -> None:
    assert ended(lambda: init.init(host, given(**wrong), FILE, None)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "hint: " in error
    assert not host.at(FILE).exists()


@pytest.mark.parametrize(
    ("vrid", "address", "common"),
    [
        ("51", "192.0.2.10", "vrid 51 on eth0"),
        ("52", "192.168.223.158", "192.168.223.158"),
        ("52", "192.0.2.10", ""),
    ],
    ids=["its virtual router", "its address", "another one"],
)
def test_a_keepalived_that_elects_for_the_same_is_named(
    vrid: str, address: str, common: str, host: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/keepalived").mkdir(parents=True)
    (tmp_path / "etc/keepalived/keepalived.conf").write_text(KEEPALIVED_CONF)
    assert ended(lambda: init.init(host, given(vrid=vrid, addresses=address), FILE, None)) == 0
    said = capsys.readouterr().err
    place = "/etc/keepalived/keepalived.conf:14"
    assert (f"keepalived runs here, and elects for {common} too: {place}" in said) is bool(common)
    assert ("keep keepalived and run floatip adopt" in said) is bool(common)
