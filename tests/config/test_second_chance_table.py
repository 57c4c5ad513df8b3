"""The table [second_chance]: what reaches the core, what must be alike on all nodes, and what stands in the way."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path

import pytest

from floatip import model, reading
from floatip.core.differences import differences
from floatip.core.settings import Instance, Keepalived, Link, Nodes, SecondChance, Settings
from floatip.reading import machine
from floatip.reading.rules import members
from floatip.reading.toml import writer

NODES = """\
[[node]]
name = "haproxy1"
address = "192.168.143.227"
[[node]]
name = "haproxy2"
address = "192.168.143.241"
"""
ETCD = """\
[etcd]
endpoints = ["https://192.0.2.1:2379"]
"""
WEB = """\
[linode]
dcid = 6
[[check]]
name = "haproxy"
process = "haproxy"
[[instance]]
name = "web"
addresses = ["192.168.223.158/32"]
checks = ["haproxy"]
"""
ON = '[second_chance]\nmode = "on"\n'
STATIC = 'static = "primary"\n'
FOLLOWED = 'keepalived = { interface = "eth0", vrid = 51, source = "192.168.143.227", peers = ["192.168.143.241"] }\n'
HERE = machine.Machine({"eth0": (IPv4Interface("192.168.143.227/17"), IPv6Interface("2001:db8::1/64")), "lo": ()})
Load = Callable[[str], reading.Loaded]


@pytest.fixture(autouse=True)
def haproxy1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(HERE, user=user, _access={}))
    monkeypatch.setattr(members, "source_towards", lambda to: ip_address("192.168.143.227"))


@pytest.fixture
def load(tmp_path: Path) -> Load:
    (tmp_path / "key").write_text("5a" * 32)
    (tmp_path / "key").chmod(0o640)

    def loaded(text: str) -> reading.Loaded:
        (tmp_path / "floatip.toml").write_text(text)
        return reading.load(tmp_path / "floatip.toml")

    return loaded


def settings(load: Load, text: str) -> Settings:
    loaded = load(text)
    return loaded.model.settings(here=loaded.here)


def link(load: Load, text: str) -> Link:
    found = settings(load, text).link
    assert found
    return found


def said(load: Load, text: str) -> list[str]:
    """Errors and warnings, each with its hint, without the file."""
    try:
        warnings, errors = list(load(text).warnings), []
    except reading.ConfigErrors as refused:
        warnings, errors = refused.warnings, refused.errors
    found = [*(f"error: {one.text}\n{one.hint}" for one in errors)]
    return found + [f"warning: {one.text}\n{one.hint}" for one in warnings]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", None),
        ('[second_chance]\nmode = "off"\nlimit = 5\n', None),
        ("[second_chance]\n", SecondChance(8473, 600.0, False)),
        ('[second_chance]\nmode = "auto"\n', SecondChance(8473, 600.0, False)),
        (f"{ON}port = 9000\nlimit = 1800\n", SecondChance(9000, 1800.0, True)),
        (f'{ON}answers = "auto"\n', SecondChance(is_wanted=True, may_be_direct=True)),
        (f'{ON}answers = "tunnel"\n', SecondChance(is_wanted=True)),
    ],
)
def test_the_core_learns_the_port_the_limit_and_whether_it_is_wanted(
    table: str, expected: SecondChance | None, load: Load
) -> None:
    assert settings(load, NODES + table + WEB).second_chance == expected


def test_members_of_a_fleet_have_it_too(load: Load) -> None:
    found = settings(load, ETCD + "[second_chance]\n" + WEB)
    assert found.second_chance == SecondChance(is_wanted=False)
    assert said(load, ETCD + ON + WEB) == []


def test_a_machine_that_is_no_node_has_none(load: Load) -> None:
    assert load(NODES + ON + WEB).model.settings().second_chance is None


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_without_nodes_it_is_refused(mode: str, load: Load) -> None:
    assert said(load, f'[second_chance]\nmode = "{mode}"\n{WEB}{STATIC}') == [
        "error: second_chance: there are no nodes that could pass connections on to each other\n"
        "add a [[node]] for each node, with its name and address; or remove the table"
    ]
    assert said(load, f'[second_chance]\nmode = "off"\n{WEB}{STATIC}') == []


def test_a_refused_node_is_not_missed(load: Load) -> None:
    refused = said(load, 'node = "haproxy1"\n' + ON + WEB)
    assert len(refused) == 1
    assert "node: " in refused[0]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('mode = "yes"', 'mode: "yes" is not "off", "on" or "auto"'),
        ("mode = true", 'mode: true is not "off", "on" or "auto"'),
        ("port = 0", "port: 0 is not between 1 and 65535"),
        ("limit = 0.5", "limit: 0.5 is not between 1 and 86400"),
        ("limit = 86401", "limit: 86401 is not between 1 and 86400"),
        ('limit = "10m"', 'limit: "10m" is not a number'),
        ("limits = 1", 'limits: unknown key\ndid you mean "limit"?'),
    ],
)
def test_a_value_that_cannot_be_is_named(table: str, expected: str, load: Load) -> None:
    (found,) = said(load, f"{NODES}[second_chance]\n{table}\n{WEB}")
    assert found.startswith(f"error: second_chance.{expected}")


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        ("[second_chance]\nport = 9112\n", "second_chance.port"),
        ("[link]\nport = 8473\n[second_chance]\n", "link.port"),
        ("[link]\nport = 9000\n[second_chance]\nport = 9000\n", "second_chance.port"),
    ],
)
def test_the_tunnel_and_the_link_need_two_ports(tables: str, where: str, load: Load) -> None:
    (found,) = said(load, NODES + tables + WEB)
    assert found.startswith(f"error: {where}: ")
    assert "is the UDP port of both the link and the second chance" in found
    assert said(load, NODES + tables.replace("[second_chance]\n", '[second_chance]\nmode = "off"\n') + WEB) == []


@pytest.mark.parametrize(("port", "whose"), [(4789, "Docker Swarm and Calico"), (8472, "flannel and Cilium")])
def test_a_port_of_other_tunnels_is_a_warning(port: int, whose: str, load: Load) -> None:
    assert said(load, f"{NODES}[second_chance]\nport = {port}\n{WEB}") == [
        f"warning: second_chance.port: {whose} use UDP port {port} for their tunnels, "
        "and floatip drops what is not from its nodes there\nleave it out: the default is 8473"
    ]


MASTER = 'placement = "master"\n'
RESET = "open connections there are reset at each move"


def test_on_warns_of_instances_that_cannot_have_it_and_auto_does_not(load: Load) -> None:
    other = WEB.partition("[[instance]]")[2].replace('"web"', '"api"').replace("158", "159")
    text = f"{WEB}{MASTER}[[instance]]{other}{MASTER}"
    found = said(load, NODES + ON + text)
    assert [one.partition("\n")[0] for one in found] == [
        f"warning: second_chance.mode: only the master holds web, api: {RESET}"
    ]
    assert said(load, NODES + "[second_chance]\n" + text) == []
    assert said(load, NODES + ON + WEB) == []


def test_on_warns_where_keepalived_elects(load: Load) -> None:
    found = said(load, NODES + ON + WEB.replace('checks = ["haproxy"]\n', "") + FOLLOWED)
    assert any(f"second_chance.mode: keepalived elects web: {RESET}" in one for one in found)
    assert not any("only the master holds" in one for one in found)
    found = said(load, NODES + "[second_chance]\n" + WEB.replace('checks = ["haproxy"]\n', "") + FOLLOWED)
    assert not any("second_chance" in one for one in found)


def test_only_where_all_nodes_hold_the_address_and_floatip_elects() -> None:
    followed = Keepalived("VI_1", "eth0", 51, 100, ip_address("192.0.2.1"))
    assert Instance("web", (), Nodes()).may_have_second_chance
    assert not Instance("web", (), Nodes(), placement="master").may_have_second_chance
    assert not Instance("web", (), Nodes(), placement="found").may_have_second_chance
    assert not Instance("web", (), followed).may_have_second_chance


def test_mode_and_port_must_be_alike_on_all_nodes_and_the_limit_need_not(load: Load) -> None:
    without = link(load, NODES + WEB).digest
    tables = ("[second_chance]\n", ON, f"{ON}port = 9000\n", "[second_chance]\nport = 9000\n")
    digests = [link(load, NODES + table + WEB).digest for table in tables]
    assert len({without, *digests}) == 5
    assert link(load, f"{NODES}{ON}limit = 5\n{WEB}").digest == digests[1]
    assert link(load, f'{NODES}{ON}answers = "auto"\n{WEB}').digest == digests[1]
    assert link(load, f'{NODES}[second_chance]\nmode = "off"\nport = 9000\n{WEB}').digest == without


def test_a_reload_says_what_became_of_it(load: Load) -> None:
    without, on, longer = (settings(load, NODES + table + WEB) for table in ("", ON, f"{ON}limit = 900\n"))
    without = replace(without, link=on.link)
    assert differences(without, on) == "second chance added"
    assert differences(on, longer) == "second chance changed"
    assert differences(on, without) == "second chance removed"


def test_an_empty_table_is_written_as_one() -> None:

    assert writer.text(model.Model(second_chance=model.SecondChance())) == "[second_chance]\n"


def test_on_warns_of_what_is_exclusive(load: Load) -> None:
    etcd = '[etcd]\nendpoints = ["http://127.0.0.1:2379"]\n'
    web = WEB.replace('checks = ["haproxy"]\n', "exclusive = true\n")
    found = said(load, NODES + ON + etcd + web)
    assert any("second_chance.mode: an exclusive address leaves its node at each move (web)" in one for one in found)
    assert not any("only the master holds" in one for one in found)
    assert not Instance("web", (), Nodes(exclusive=True)).may_have_second_chance
