"""`floatip init`: from answers to the one configuration of all nodes, and their key."""

import os
import sys
import tomllib
from collections.abc import Iterable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from floatip import init, prompts, reading
from floatip.adopt import system
from floatip.adopt.system import CommandResult
from floatip.cli import ended
from floatip.core.addresses import Placed
from floatip.reading.machine import Machine
from tests.adopt.haproxy1 import KEEPALIVED_CONF

GUIDE: dict[str, Any] = {
    "dcid": "6",
    "nodes": ["haproxy1=192.168.143.227", "haproxy2=192.168.143.241"],
    "addresses": "192.168.223.158",
    "check": "process:haproxy",
    "prefer": None,
}
FILE = Path("/etc/floatip/floatip.toml")
KEY = Path("/etc/floatip/key")
NODES = [{"name": "haproxy1", "address": "192.168.143.227"}, {"name": "haproxy2", "address": "192.168.143.241"}]


class Played(system.System):
    on_eth0: tuple[str, ...] = ("45.33.69.7/24", "192.168.143.227/17", "fe80::1/64")
    added: frozenset[Placed] = frozenset()

    def run(self, *command: str) -> CommandResult:
        if command[0] == "systemctl":
            active = "active" if self.at("/etc/keepalived/keepalived.conf").exists() else "inactive"
            return CommandResult(0, f"LoadState=loaded\nUnitFileState=enabled\nActiveState={active}\nMainPID=0")
        raise AssertionError(command)

    def machine(self) -> Machine:
        eth0 = tuple(map(ip_interface, self.on_eth0))
        lo = (ip_interface("127.0.0.1/8"),)
        docker0, bridges = (ip_interface("10.0.0.1/24"),), frozenset({"docker0"})
        return Machine({"docker0": docker0, "eth0": eth0, "lo": lo}, (), "eth0", bridges, added=self.added)

    def daemons_group(self) -> int | None:
        return 64130


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.setattr("socket.gethostname", lambda: "haproxy1.example.org")
    return Played(tmp_path)


def given(**changed: Any) -> init.Given:
    return GUIDE | changed


def status(host: Played, answers: init.Given, file: Path = FILE) -> int:
    return ended(lambda: init.init(host, answers, file))


def written(host: Played, answers: init.Given) -> dict[str, Any]:
    assert status(host, answers) == 0
    return tomllib.loads(host.text(FILE))


def answering(monkeypatch: pytest.MonkeyPatch, answers: Iterable[str | None]) -> list[str]:
    """A person at the terminal; None: Enter. Returns the questions, as they come."""
    asked: list[str] = []
    left = iter(answers)

    def prompt(text: str, default: str = "") -> str:
        asked.append(f"{text} [{default}]")
        return next(left) or default

    monkeypatch.setattr(prompts, "ask", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    return asked


def test_options_make_the_file_of_the_design(host: Played) -> None:
    assert written(host, GUIDE) == {
        "linode": {"dcid": 6},
        "node": NODES,
        "second_chance": {"mode": "auto"},
        "check": [{"name": "haproxy", "process": "haproxy"}],
        "instance": [{"name": "web", "addresses": ["192.168.223.158/32"], "checks": ["haproxy"]}],
    }


@pytest.mark.parametrize("page", ["README.md", "docs/reference/configuration.md"])
def test_the_documents_show_what_it_writes(host: Played, page: str) -> None:
    block = (Path(__file__).parents[2] / page).read_text().split("```toml\n")[1].partition("```")[0]
    shown, file = tomllib.loads(block), written(host, GUIDE)
    assert shown["check"][0]["name"] == "haproxy"
    assert shown | {"check": file["check"]} == file


@pytest.mark.parametrize("own", [0, 1])
def test_each_node_finds_itself_in_the_file(host: Played, monkeypatch: pytest.MonkeyPatch, own: int) -> None:
    written(host, GUIDE)
    host.on_eth0 = (NODES[own]["address"] + "/17",)
    monkeypatch.setattr(reading, "look_around", lambda user: host.machine())
    loaded = reading.load(host.at(FILE))
    settings = loaded.model.settings(here=loaded.here)
    assert settings.link
    assert settings.link.own == NODES[own]["name"]
    assert [node.name for node in settings.link.nodes] == ["haproxy1", "haproxy2"]


def test_file_and_key_are_for_root_and_the_daemon_alone(host: Played) -> None:
    written(host, GUIDE)
    for path in (FILE, KEY):
        found = host.at(path).stat()
        assert (found.st_mode & 0o777, found.st_gid) == (0o640, 64130), path
    assert len(host.text(KEY).splitlines()[-1]) == 64
    assert "# While this fails, a node does not carry the address.\n[[check]]" in host.text(FILE)


def test_the_own_node_may_be_left_out(host: Played) -> None:
    assert written(host, given(nodes=["haproxy2=192.168.143.241"]))["node"] == NODES


def test_a_guess_is_private_and_neither_link_local_nor_of_a_bridge_nor_a_single_address(host: Played) -> None:
    host.on_eth0 = ("fe80::1/64", "2001:db8::1/64", "10.1.2.3/32", "45.33.69.7/24", "192.168.143.227/17")
    assert written(host, given(nodes=["haproxy2=192.168.143.241"]))["node"] == NODES


def test_nodes_may_speak_ipv6(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    host.on_eth0 = ("192.168.143.227/17", "2001:db8::1/64")
    assert written(host, given(nodes=["haproxy2=2001:db8::2"]))["node"][0]["address"] == "2001:db8::1"
    said = capsys.readouterr().err
    assert "'ip6 saddr 2001:db8::2 udp dport { 9112, 8473 } accept'" in said
    assert "sources 2001:db8::2/128" in said
    assert "root@[2001:db8::2]:/etc/floatip/" in said


def test_nodes_may_have_the_addresses_of_examples(host: Played) -> None:
    host.on_eth0 = ("192.0.2.0/31",)
    nodes = [f"n{number}=192.0.2.{number}" for number in range(4)]
    assert len(written(host, given(nodes=nodes))["node"]) == 4


@pytest.mark.parametrize("prefer", ["haproxy1", "haproxy2"])
def test_a_node_may_be_preferred(host: Played, prefer: str) -> None:
    assert written(host, given(prefer=prefer))["instance"][0]["prefer"] == [prefer]


def test_without_bgp_the_master_holds_the_address_on_the_interface_of_the_node(
    host: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(host, given(dcid="none", addresses="192.168.143.9/17", check="none"))
    assert "linode" not in file
    assert "second_chance" not in file
    assert "no [bgp]" not in capsys.readouterr().err
    monkeypatch.setattr(reading, "look_around", lambda user: host.machine())
    instance = reading.load(host.at(FILE)).model.settings().instances[0]
    assert (instance.placement, instance.interface, instance.checks) == ("master", "eth0", ())


@pytest.mark.parametrize("where", ["newark", "Newark", "us-east", "US-EAST", "6"])
def test_a_data_centre_has_a_number_and_two_names(host: Played, where: str) -> None:
    assert written(host, given(dcid=where))["linode"] == {"dcid": 6}
    assert "# The data centre, which decides the route servers: Newark (us-east).\n[linode]" in host.text(FILE)


def test_a_data_centre_that_is_not_known_yet_may_have_a_number(host: Played) -> None:
    assert written(host, given(dcid="9000"))["linode"] == {"dcid": 9000}


def test_each_answer_is_checked_at_its_question_and_asked_again(
    host: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: dict[str, list[str | None]] = {
        "Linode's data centre": ["nework", "1", "newark"],
        "This node": ["192.168.143.227", "haproxy1=192.168.143.9", "a=haproxy1", None],
        "Another node": [
            "none",
            "haproxy1=192.168.143.241",
            "b=45.33.69.7",
            "b=2001:db8::2",
            "haproxy2 192.168.143.241",
        ],
        "One more node": ["b=192.168.143.241", "haproxy3=192.168.143.242", None],
        "Floating address": [
            "web.example.org",
            "192.168.223.158/24",
            "192.168.143.241",
            "45.33.69.7",
            "192.168.223.158",
        ],
        "What to check": ["haproxy", "tcp:80", "script:/no/such", "process:haproxy"],
        "Which node": ["haproxy9", None],
    }
    asked = answering(monkeypatch, [answer for answers in wrong.values() for answer in answers])
    file = written(host, {})
    assert {start: sum(text.startswith(start) for text in asked) for start in wrong} == {
        start: len(answers) for start, answers in wrong.items()
    }
    assert "This node, as NAME=ADDRESS [haproxy1=192.168.143.227]" in asked
    assert file["linode"] == {"dcid": 6}
    assert file["node"] == [*NODES, {"name": "haproxy3", "address": "192.168.143.242"}]
    assert file["instance"] == [{"name": "web", "addresses": ["192.168.223.158/32"], "checks": ["haproxy"]}]
    said = capsys.readouterr().err
    for expected in (
        '"nework" is not a known region',
        "1 is not the number of a data centre",
        "192.168.143.227 is not a name and an address\n  hint: write haproxy1=192.0.2.1",
        "192.168.143.9 is not an address of this machine, which has 192.168.143.227 and 45.33.69.7",
        '"haproxy1" is not an IP address\n  hint: write an address; names are not resolved',
        "none is not a name and an address",
        "haproxy1 is there already",
        "more than one is this machine: haproxy1 192.168.143.227 and b 45.33.69.7",
        "2001:db8::2 is IPv6, and haproxy1 has IPv4",
        "192.168.143.241 is the address of haproxy2 too",
        "web.example.org is not an IP address",
        'write "192.168.223.158/32"',
        "192.168.143.241 is the address of haproxy2\n",
        "45.33.69.7 is an address of this machine, on eth0\n  hint: remove it there, floatip adds it: ip address del 4",
        "haproxy is no check",
        '"80" is not host:port',
        "/no/such",
        "there is no node haproxy9\n  hint: the nodes are haproxy1, haproxy2 and haproxy3; or write none",
    ):
        assert expected in said, expected


def test_an_address_that_a_floatip_added_here_may_float(host: Played) -> None:
    host.on_eth0 = (*host.on_eth0, "192.168.223.158/32")
    assert status(host, GUIDE) == 2
    host.added = frozenset({Placed("eth0", ip_interface("192.168.223.158/32"))})
    assert status(host, GUIDE) == 0


def test_whoever_gives_the_options_is_not_asked(host: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answering(monkeypatch, []) == []
    assert status(host, GUIDE) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nodes": None}, "--node is missing"),
        ({"dcid": None, "addresses": None}, "--dcid, --address are missing"),
        ({"addresses": "192.168.223.300"}, "--address: "),
        ({"dcid": "us-east-9"}, '--dcid: "us-east-9" is not a known region'),
        ({"check": "http"}, "--check: http is no check"),
        ({"check": "tcp:localhost"}, "--check: "),
        ({"prefer": "me"}, "--prefer: there is no node me"),
        ({"addresses": "192.168.223.158/24"}, "--address: 192.168.223.158/24 is more than the one address"),
        ({"addresses": "192.168.143.227"}, "--address: 192.168.143.227 is the address of haproxy1"),
        ({"addresses": " , "}, "--address: "),
        ({"nodes": ["haproxy2"]}, "--node: haproxy2 is not a name and an address"),
        ({"nodes": ["a=192.168.143.241", "a=192.168.143.227"]}, "--node: a is there already"),
        ({"nodes": ["a=192.168.143.227"]}, "--node: there is only one [[node]]"),
        ({"nodes": ["a=192.168.143.227", "b=45.33.69.7"]}, "--node: more than one is this machine"),
        (
            {"nodes": ["haproxy1=192.168.143.22", "haproxy2=192.168.143.241"]},
            "--node: 192.168.143.22 is not an address of this machine, which has 192.168.143.227 and 45.33.69.7",
        ),
    ],
)
def test_a_wrong_option_writes_nothing(
    host: Played, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], said: str
) -> None:
    assert status(host, given(**wrong)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert "\nhint: " in error
    assert not host.at(FILE.parent).exists()


@pytest.mark.parametrize("on_eth0", [(), ("2001:db8::1/64",)], ids=["no address", "of another version"])
def test_a_machine_without_an_address_must_be_named(
    host: Played, capsys: pytest.CaptureFixture[str], on_eth0: tuple[str, ...]
) -> None:
    host.on_eth0 = on_eth0
    assert status(host, given(nodes=["haproxy2=192.168.143.241"])) == 2
    assert "hint: bring its network up, or add --node haproxy1=ADDRESS" in capsys.readouterr().err


def test_it_says_what_comes_next(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(host, GUIDE) == 0
    said = capsys.readouterr().err
    assert f"{KEY}: written, a new key\n" in said
    nodes = "haproxy1 192.168.143.227 (this node) and haproxy2 192.168.143.241"
    assert f"{FILE}: written, the same for all nodes: {nodes}\n" in said
    _, _, after = said.partition("\n\n")
    assert after.splitlines() == [
        "Install floatip on the other nodes, and copy both files there:",
        "  scp -p /etc/floatip/floatip.toml /etc/floatip/key root@192.168.143.241:/etc/floatip/",
        "  ssh root@192.168.143.241 chgrp floatip /etc/floatip/floatip.toml /etc/floatip/key",
        "On each node, let UDP ports 9112 and 8473 in from the other nodes. Here:",
        "  nftables:  nft insert rule inet filter input 'ip saddr 192.168.143.241 udp dport { 9112, 8473 } accept'",
        "  ufw:       ufw allow proto udp from 192.168.143.241 to any port 9112,8473",
        "  Linode Cloud Firewall, an inbound rule: UDP, ports 9112, 8473, sources 192.168.143.241/32, ACCEPT",
        "  Outgoing, if you filter that: UDP ports 9112 and 8473 to the other nodes, "
        "TCP port 179 (BGP) to the route servers",
        "Then on each node:",
        "  floatip check --run",
        "  systemctl enable --now floatip",
        "  floatip nodes",
    ]


def test_each_other_node_is_copied_to_and_let_in(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(host, given(nodes=[*GUIDE["nodes"], "haproxy3=192.168.143.242"], dcid="none")) == 0
    said = capsys.readouterr().err
    assert "input 'ip saddr { 192.168.143.241, 192.168.143.242 } udp dport 9112 accept'\n" in said
    assert said.count("ufw allow proto udp from") == said.count("scp -p") == said.count("chgrp") == 2
    assert "sources 192.168.143.241/32, 192.168.143.242/32" in said
    assert "BGP" not in said


def test_files_that_the_unit_does_not_read_are_moved_first(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(host, GUIDE, Path("/srv/pair.toml")) == 0
    said = capsys.readouterr().err
    assert "  mv /srv/pair.toml /etc/floatip/floatip.toml && mv /srv/key /etc/floatip/key\n" in said
    assert said.startswith("/srv: did not exist, and was made\n")


def test_a_directory_that_cannot_be_made_has_the_hint_that_helps(
    host: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    host.at("/etc").mkdir()
    host.at("/etc/floatip").write_text("mine")
    assert status(host, GUIDE) == 1
    said = capsys.readouterr().err
    assert "cannot be written: " in said
    assert "hint: choose another path: --file" in said


def test_a_relative_path_is_one_of_the_working_directory(
    tmp_path: Path, host: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert system.System().at("other.toml") == tmp_path / "other.toml"


def test_it_never_overwrites_a_configuration(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    host.at(FILE).parent.mkdir(parents=True)
    host.at(FILE).write_text("mine")
    assert status(host, GUIDE) == 1
    assert host.at(FILE).read_text() == "mine"
    assert os.listdir(host.at(FILE.parent)) == ["floatip.toml"]
    assert "exists" in capsys.readouterr().err


def test_a_key_that_is_there_is_kept(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    text = "5a" * 32 + "\n"
    host.at(KEY).parent.mkdir(parents=True)
    host.at(KEY).write_text(text)
    host.at(KEY).chmod(0o600)
    assert status(host, GUIDE) == 0
    assert host.at(KEY).read_text() == text
    assert "/etc/floatip/key: is there already, and is used\n" in capsys.readouterr().err


def test_a_key_that_cannot_be_used_stops_it(host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    host.at(KEY).parent.mkdir(parents=True)
    host.at(KEY).write_text("no key\n")
    host.at(KEY).chmod(0o600)
    assert status(host, GUIDE) == 1
    assert "has 6 characters, and a key has 64 hex digits" in capsys.readouterr().err
    assert not host.at(FILE).exists()


@pytest.mark.parametrize(
    ("address", "common"),
    [("192.168.223.158", "192.168.223.158"), ("192.0.2.10", "")],
    ids=["its address", "another one"],
)
def test_a_keepalived_that_elects_for_the_same_is_named(
    address: str, common: str, host: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/keepalived").mkdir(parents=True)
    (tmp_path / "etc/keepalived/keepalived.conf").write_text(KEEPALIVED_CONF)
    assert status(host, given(addresses=address)) == 0
    said = capsys.readouterr().err
    place = "/etc/keepalived/keepalived.conf:14"
    assert (f"keepalived runs here, and elects for {common} too: {place}" in said) is bool(common)
    assert ("keep keepalived and run floatip adopt" in said) is bool(common)
