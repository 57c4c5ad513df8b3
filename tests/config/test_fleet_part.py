"""The fleet's part of a configuration beside the file of one node: both are one, and each mistake has its place."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path

import pytest

from floatip import reading
from floatip.core.settings import Node, SecondChance
from floatip.fleet import rows
from floatip.host.daemon import Reading
from floatip.reading import fleet, machine, state
from floatip.reading.rules import members
from tests.command_line import floatip

LOCAL = """\
[etcd]
endpoints = ["https://192.0.2.1:2379"]
"""
PART = """\
[link]
interval = 0.2
[[check]]
name = "web"
tcp = "127.0.0.1:80"
[[instance]]
name = "web"
addresses = ["203.0.113.1/32"]
checks = ["web"]
placement = "master"
"""
SCRIPT = """\
[[check]]
name = "deep"
process = "haproxy"
"""
DB2 = Node("db2", IPv4Address("198.51.100.2"), 2)
HERE = machine.Machine({"eth0": (IPv4Interface("198.51.100.1/24"),), "lo": (IPv4Interface("127.0.0.1/8"),)})
FILE = "etcd /floatip/config (version 3)"


@pytest.fixture(autouse=True)
def db1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(HERE, user=user, _access={}))
    monkeypatch.setattr(members, "source_towards", lambda to: ip_address("198.51.100.1"))
    monkeypatch.setattr("socket.gethostname", lambda: "db1")
    monkeypatch.setattr(state, "PLACES", (tmp_path / "state",))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


Load = Callable[..., reading.Loaded]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    (tmp_path / "key").write_text("5a" * 32)
    (tmp_path / "key").chmod(0o640)

    def loaded(local: str, part: str | None = None, *others: Node, prefix: str = "/floatip/") -> reading.Loaded:
        file = tmp_path / "floatip.toml"
        file.write_text(local)
        config = "" if part is None else rows.config_row(rows.Config(3, "root@db1", "2026-11-30T04:00:00Z", part))
        return reading.load(file, known=fleet.Known(config, others, prefix))

    return loaded


def wrong(load: Load, local: str, part: str) -> str:
    with pytest.raises(reading.ConfigErrors) as raised:
        load(local, part)
    return "\n".join(map(str, raised.value.errors))


def test_the_file_of_a_node_and_the_fleets_part_are_one_configuration(load: Load) -> None:
    loaded = load(LOCAL + SCRIPT, PART.replace('checks = ["web"]', 'checks = ["web", "deep"]'), DB2)
    assert [check.name for check in loaded.model.checks] == ["deep", "web"]
    assert loaded.model.link.interval == 0.2
    assert loaded.here
    assert loaded.model.nodes == (loaded.here.node, DB2)
    assert not loaded.warnings
    assert list(reading.will(loaded.model, loaded.here)) == [
        "web 203.0.113.1/32, with etcd: db1 (this node) and db2 elect, checks web deep, no BGP"
    ]


def test_the_second_chance_is_of_the_fleet(load: Load) -> None:
    loaded = load(LOCAL, '[second_chance]\nmode = "on"\nlimit = 60\n' + PART, DB2)
    assert loaded.model.settings(here=loaded.here).second_chance == SecondChance(8473, 60.0, True)
    assert f"{FILE}:2: warning: second_chance.mode: only the master holds web" in str(loaded.warnings[0])
    assert f"floatip.toml:3: second_chance: stands in {FILE} too" in wrong(
        load, LOCAL + "[second_chance]\n", "[second_chance]\n" + PART
    )


def test_before_the_fleets_part_is_known_a_member_has_no_instance_and_says_so(load: Load) -> None:
    loaded = load(LOCAL + SCRIPT)
    assert not loaded.model.instances
    assert [warning.text for warning in loaded.warnings] == [
        "there is no [[instance]] here, and the fleet's configuration is not known on this machine"
    ]


def test_with_nodes_in_the_file_the_fleets_part_is_not_read(load: Load) -> None:
    nodes = "".join(f'[[node]]\nname = "db{n}"\naddress = "198.51.100.{n}"\n' for n in (1, 2))
    loaded = load(LOCAL + nodes + PART, "not TOML")
    assert [node.name for node in loaded.model.nodes] == ["db1", "db2"]


def test_a_mistake_in_the_fleets_part_has_its_line_there(load: Load) -> None:
    assert f'{FILE}:10: instance "web" placement: "some" is not' in wrong(
        load, LOCAL, PART.replace('"master"', '"some"')
    )
    assert f"{FILE}:2: not TOML" in wrong(load, LOCAL, "\n[link\n").replace(" ", " ")


def test_a_mistake_about_both_has_both_places(load: Load, tmp_path: Path) -> None:
    said = wrong(load, LOCAL + PART, PART)
    assert f"{tmp_path}/floatip.toml:3: link: stands in {FILE} too, line 1\n" in said
    assert "  hint: remove [link] here, or there: floatip fleet get, and then apply it without" in said
    assert f"{tmp_path}/floatip.toml:8: instance: stands in {FILE} too, line 6\n" in said
    assert f'{FILE}:4: check "web" name: "web" is taken by line 6 of {tmp_path}/floatip.toml' in said


MISPLACED = {
    "etcd": ("[etcd]\n", ":1: etcd: does not belong to the fleet's configuration: it is how a node finds"),
    "node": ('[[node]]\nname = "a"\n', ":1: node: does not belong to the fleet's configuration: the members register"),
    "member": ('[member]\nname = "a"\n', ":1: member: does not belong to the fleet's configuration: each node has a"),
    "http": ("[http]\n", ":1: http: does not belong to the fleet's configuration: it is of one machine"),
    "log": ('log = "json"\n', ":1: log: does not belong"),
    "state_log": ('state_log = "/a"\n', ":1: state_log: does not belong"),
    "keepalived": ("[keepalived]\n", ":1: keepalived: does not belong"),
    "notify": ('[notify]\ncommand = "/bin/true"\n', ":1: notify: does not belong"),
    "the key": ('link = { key = "/a" }\n', ":1: link.key: does not belong to the fleet's configuration: it is a path"),
    "router_id": ('[bgp]\nrouter_id = "1.1.1.1"\n', ":2: bgp.router_id: does not belong"),
    "md5": ('[bgp]\nmd5 = "secret"\n', ":2: bgp.md5: does not belong to the fleet's configuration: it is a secret"),
    "a script": (
        '[[check]]\nname = "a"\nscript = "/bin/true"\n',
        ':3: check "a" script: does not belong to the fleet\'s configuration: whoever may write to etcd could run '
        "programs on every node\n  hint: write this [[check]] into the file of each node; the instances here may name",
    ),
    "a pid file": ('[[check]]\nname = "a"\nprocess = "/run/a.pid"\n', ':3: check "a" process: does not belong'),
    "a socket": ('[[check]]\nname = "a"\nhaproxy = "/run/a"\nbackend = "b"\n', ':3: check "a" haproxy: does not'),
    "vrrp": ('[[instance]]\nname = "b"\nvrrp = {}\n', ':3: instance "b" vrrp: does not belong'),
    "told": ('[[instance]]\nname = "b"\nnotify = { master = "/b" }\n', ':3: instance "b" notify: does not belong'),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_what_is_of_one_node_is_refused_in_the_fleets_part(load: Load, case: str) -> None:
    text, expected = MISPLACED[case]
    said = wrong(load, LOCAL, text)
    assert f"{FILE}{expected}" in said
    assert "secret" not in said.replace("it is a secret", "")


def test_check_and_the_next_start_know_what_the_daemon_kept(load: Load, tmp_path: Path) -> None:
    kept = load(LOCAL, PART, DB2).known
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / fleet.NAME).write_text(json.dumps({"boot": "any"} | fleet.plain(kept)))
    loaded = reading.load(tmp_path / "floatip.toml")
    assert [one.name for one in loaded.model.instances] == ["web"]
    assert loaded.model.nodes[1] == DB2
    other = tmp_path / "other.toml"
    other.write_text(LOCAL + 'prefix = "/other"\n')
    assert not reading.load(other).model.instances


def kept(load: Load, tmp_path: Path, part: str) -> Path:
    """The file of a node, with what its daemon has kept."""
    state_file = tmp_path / "state" / fleet.NAME
    state_file.parent.mkdir(exist_ok=True)
    row = rows.config_row(rows.Config(3, "root@db1", "2026-11-30T04:00:00Z", part))
    state_file.write_text(json.dumps({"boot": "any"} | fleet.plain(fleet.Known(row, (DB2,), "/floatip/"))))
    load(LOCAL)
    return tmp_path / "floatip.toml"


def test_a_start_goes_without_a_kept_part_that_cannot_be_used_any_more(load: Load, tmp_path: Path) -> None:
    file = kept(load, tmp_path, PART.replace('"master"', '"some"'))
    read = Reading(file, None)
    loaded = read()
    assert not loaded.model.instances
    assert [node.name for node in loaded.model.nodes] == ["db1", "db2"]
    assert f'{FILE}:10: warning: instance "web" placement: "some" is not' in str(loaded.warnings[0])
    file.write_text("half a fi")
    with pytest.raises(reading.ConfigErrors):
        read()


def test_check_says_what_the_node_will_do_with_both_parts(load: Load, tmp_path: Path) -> None:
    file = kept(load, tmp_path, PART)
    status, said = floatip("check", str(file))
    ok = "ok: web 203.0.113.1/32, with etcd: db1 (this node) and db2 elect, check web, no BGP\n"
    assert (status, said) == (0, ok)
    file.write_text(LOCAL + '[[check]]\nname = "web"\nprocess = "nginx"\n')
    status, said = floatip("check", str(file))
    assert status == 2
    assert f'{FILE}:4: check "web" name: "web" is taken by line 4 of {file}' in said.replace("\n    ", " ")


def test_plan_knows_the_members(load: Load, tmp_path: Path) -> None:
    status, said = floatip("plan", str(kept(load, tmp_path, PART)))
    assert status == 0
    assert "db2 (weight 2)  1  web" in said


@pytest.mark.parametrize("nonsense", ["", "{", "[]", '{"config": 1, "members": {}, "prefix": ""}', "[" * 10**5])
def test_a_state_file_that_is_none_is_as_if_it_were_not_there(load: Load, tmp_path: Path, nonsense: str) -> None:
    load(LOCAL)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / fleet.NAME).write_text(nonsense)
    assert not reading.load(tmp_path / "floatip.toml").model.instances


def test_a_node_that_has_left_carries_nothing_and_knows_nobody(load: Load, tmp_path: Path) -> None:
    known = replace(load(LOCAL, PART, DB2).known, has_left=True)
    assert fleet.unplain(fleet.plain(known)) == known
    loaded = reading.load(tmp_path / "floatip.toml", known=known)
    assert loaded.here
    assert (loaded.model.instances, loaded.model.nodes) == ((), (loaded.here.node,))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"version": 3, "by": "a", "at": "b"}', "has no text under toml"),
        ('{"version": "3", "toml": "a = 1"}', "has no number under version"),
        ('{"version": 3, "toml": "\\ud800"}', "has no text under toml"),
        ("[" * 10**5, "is no JSON"),
    ],
)
def test_a_row_that_is_none_of_ours_is_refused_with_the_next_step(tmp_path: Path, row: str, why: str) -> None:
    with pytest.raises(reading.ConfigErrors) as raised:
        fleet.parsed(fleet.Known(row, prefix="/floatip/"))
    where = "/floatip/config"
    hint = f"look at it: etcdctl get {where}; to replace it: etcdctl del {where}; then: floatip fleet apply FILE"
    assert str(raised.value) == f"etcd /floatip/config: the row {why}\n  hint: {hint}"


def test_a_member_with_our_name_or_address_or_another_version_of_ip_is_no_second_node(load: Load) -> None:
    odd = (
        Node("db1", IPv4Address("198.51.100.9")),
        Node("before", IPv4Address("198.51.100.1")),
        Node("six", ip_address("2001:db8::1")),
    )
    loaded = load(LOCAL, PART, *odd, DB2)
    assert [node.name for node in loaded.model.nodes] == ["db1", "db2"]
