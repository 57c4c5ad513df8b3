"""Daemons whose nodes etcd knows, with a real etcd on their network: a few lines of file, one configuration for all."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from floatip.fleet import rows
from tests.etcd_cluster import Cluster
from tests.host.conftest import CLONE_NEWNET, entered
from tests.host.test_two_daemons import Host, run, wait

LOCAL = """\
[etcd]
endpoints = ["{endpoint}"]
lease_time = 4
keepalive_interval = 0.5
[member]
name = "{name}"
"""
FLEET = """\
[link]
interval = 0.2

[[instance]]
name = "web"
addresses = ["192.0.2.10/32"]
placement = "master"
"""
KINDS = "/floatip/members/", "/floatip/alive/"
MAIL = FLEET.replace("web", "mail").replace("2.10/", "2.11/").partition("\n\n")[2]


class Fleet:
    def __init__(self, directory: Path) -> None:
        self.cluster = Cluster(directory / "etcd", 1, addresses=["10.0.0.254"])
        self.cluster.start()
        self.hosts = [Host(directory, number) for number in (1, 2, 3)]
        self.one, self.two, self.three = self.hosts
        assert self.one.command("key", str(self.one.key))[0] == 0
        for host in self.hosts:
            host.key.write_text(self.one.key.read_text())
            host.key.chmod(0o640)
            host.file.write_text(LOCAL.format(endpoint=self.cluster.endpoints[0], name=host.name))

    def fleet(self, *words: str, host: Host | None = None) -> tuple[int, str]:
        chosen = host or self.one
        return chosen.command("fleet", *words, "--file", str(chosen.file))

    def apply(self, text: str, host: Host | None = None) -> str:
        file = self.one.directory / "fleet.toml"
        file.write_text(text)
        status, said = self.fleet("apply", str(file), host=host)
        assert status == 0, said
        return said

    def members(self) -> set[str]:
        """Those that are registered and alive."""
        keys = self.cluster.ctl("get", "--prefix", "--keys-only", "/floatip/").split()
        registered, alive = ({key[len(kind) :] for key in keys if key.startswith(kind)} for kind in KINDS)
        return registered & alive

    def use(self, text: str) -> None:
        """The configuration of the fleet, unless it is so."""
        row = self.cluster.ctl("get", "--print-value-only", "/floatip/config").strip()
        before: dict[str, Any] = json.loads(row) if row else {"version": 0, "toml": ""}
        if before["toml"] != text:
            new = rows.config_row(rows.Config(before["version"] + 1, "test", "", text))
            self.put(rows.CONFIG, new)
            self.put(f"versions/{before['version'] + 1}", new)

    def held(self, *hosts: Host) -> list[str]:
        return sorted(address for host in hosts or self.hosts if host.runs() for address in host.held())

    def put(self, key: str, value: str) -> None:
        self.cluster.ctl("put", f"/floatip/{key}", "--", value)

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
            os.close(host.namespace)
            host.notified.close()
        self.cluster.close()


@pytest.fixture(scope="module")
def switch() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory() as directory, entered("net", CLONE_NEWNET):
        Path(directory).chmod(0o755)
        for words in ("link set lo up", "link add bridge type bridge", "link set bridge up"):
            run("ip", *words.split())
        run("ip", "address", "add", "10.0.0.254/24", "dev", "bridge")
        fleet = Fleet(Path(directory))
        yield fleet
        fleet.close()


@pytest.fixture
def fleet(switch: Fleet) -> Iterator[Fleet]:
    """The first two nodes are members, and one of them carries the address."""
    for host in (switch.one, switch.two):
        if not host.runs():
            host.start()
    wait(lambda: {"haproxy1", "haproxy2"} <= switch.members())
    switch.use(FLEET)
    wait(lambda: all(host.roles().keys() == {"web"} for host in (switch.one, switch.two)))
    wait(lambda: switch.held(switch.one, switch.two) == ["192.0.2.10"])
    yield switch
    for host in switch.hosts:
        with suppress(FileNotFoundError):
            print(host.name, host.log.read_text()[-3000:], sep="\n")


def test_two_files_of_a_few_lines_make_a_fleet(fleet: Fleet) -> None:
    wait(lambda: fleet.one.sees() == {"haproxy1": "this node", "haproxy2": "alive"})
    wait(lambda: not fleet.one.problems() and not fleet.two.problems())
    status, said = fleet.fleet("members")
    assert status == 0
    assert "haproxy1  alive  10.0.0.1  1" in said


def test_a_node_that_joins_is_known_to_all_without_a_change_of_any_file(fleet: Fleet) -> None:
    fleet.three.start()
    wait(lambda: fleet.one.sees().get("haproxy3") == "alive" == fleet.two.sees().get("haproxy3"))
    wait(lambda: fleet.three.sees() == {"haproxy1": "alive", "haproxy2": "alive", "haproxy3": "this node"})
    assert fleet.three.roles() == {"web": "backup"}
    fleet.three.stop()
    status, said = fleet.fleet("members")
    assert status == 1
    assert "haproxy3  silent" in said
    assert fleet.fleet("forget", "haproxy3") == (0, "haproxy3 is no member any more\n")
    wait(lambda: "haproxy3" not in fleet.one.sees())


def test_a_new_version_is_in_force_on_all_nodes_and_the_one_before_comes_back(fleet: Fleet) -> None:
    said = fleet.apply(FLEET + "\n" + MAIL)
    assert '+name = "mail"' in said
    assert "in short: instance mail added" in said
    wait(lambda: fleet.held(fleet.one, fleet.two) == ["192.0.2.10", "192.0.2.11"])
    number = int(said.split("applied as version ")[1].split(";")[0])
    _, old = fleet.fleet("get", "--version", str(number - 1))
    assert FLEET in old


def test_what_cannot_be_used_is_refused_and_shown_and_changes_nothing(fleet: Fleet) -> None:
    before = fleet.held(fleet.one, fleet.two), fleet.one.roles(), fleet.two.roles()
    for bad, why in (
        ("half a row", "is no JSON"),
        (rows.config_row(rows.Config(899, "mallory", "", "")), "there is no [[instance]]"),
        (rows.config_row(rows.Config(900, "mallory", "", FLEET.replace("master", "some"))), '"some" is not'),
    ):
        fleet.put(rows.CONFIG, bad)
        wait(lambda why=why: all(why in host.problem("fleet-refused") for host in (fleet.one, fleet.two)))  # type: ignore[misc]
        assert "so the one before stays in force" in fleet.one.problem("fleet-refused")
        assert (fleet.held(fleet.one, fleet.two), fleet.one.roles(), fleet.two.roles()) == before
    status, said = fleet.fleet("get")
    assert status == 0
    assert "version 900, by mallory" in said
    fleet.put(rows.CONFIG, "no JSON")
    status, said = fleet.fleet("get")
    assert status == 1
    assert "error: the row /floatip/config is no JSON: it is not floatip's" in said
    fleet.put(rows.CONFIG, rows.config_row(rows.Config(901, "root", "", FLEET)))
    wait(lambda: "fleet-refused" not in fleet.one.problems() | fleet.two.problems())


def test_a_row_of_somebody_else_among_the_members_is_passed_over_and_shown(fleet: Fleet) -> None:
    fleet.put(rows.MEMBERS + "odd\x1b[31m", "hello")
    wait(lambda: "etcd-row" in fleet.one.problems())
    assert [one["severity"] for one in fleet.one.status()["problems"] if one["code"] == "etcd-row"] == ["warning"]
    status, said = fleet.fleet("members")
    assert status == 0
    assert "warning: the row /floatip/members/odd\\x1b[31m is passed over: it has no name of a node" in said
    fleet.cluster.ctl("del", "/floatip/members/odd\x1b[31m")
    wait(lambda: "etcd-row" not in fleet.one.problems())


def test_a_node_leaves_after_it_has_handed_over_and_joins_again(fleet: Fleet) -> None:
    carrier = next(host for host in (fleet.one, fleet.two) if host.held())
    other = next(host for host in (fleet.one, fleet.two) if host is not carrier)
    wait(lambda: not carrier.problems() and not other.problems())
    status, said = fleet.fleet("leave", host=carrier)
    assert status == 0, said
    assert "this node is no member any more, and carries nothing" in said
    assert other.held() == {"192.0.2.10"}
    assert carrier.roles() == {}
    wait(lambda: other.sees() == {other.name: "this node"})
    carrier.stop()
    carrier.start()
    wait(lambda: carrier.status()["nodes"])
    assert carrier.roles() == {}
    status, said = fleet.fleet("join", host=carrier)
    assert status == 0, said
    wait(lambda: other.sees().get(carrier.name) == "alive")
    wait(lambda: carrier.roles() == {"web": "backup"})


def test_a_node_starts_while_etcd_is_gone_with_what_it_knew(fleet: Fleet) -> None:
    [member] = fleet.cluster.members
    member.kill()
    fleet.two.stop()
    fleet.two.start()
    wait(lambda: fleet.two.sees() == {"haproxy1": "alive", "haproxy2": "this node"})
    assert fleet.two.roles().keys() == {"web"}
    status, said = fleet.fleet("get")
    assert status == 3
    assert said.startswith("error: etcd does not answer: 10.0.0.254:")
    member.start()
    fleet.cluster.wait()
    fleet.use(FLEET + "\n" + MAIL)
    wait(lambda: fleet.two.roles().keys() == {"web", "mail"})


def test_an_edit_of_a_nodes_file_waits_for_its_reload(fleet: Fleet) -> None:
    text = fleet.one.file.read_text()
    try:
        fleet.one.file.write_text(text + "half an ed")
        fleet.use(FLEET + "\n" + MAIL)
        wait(lambda: fleet.one.roles().keys() == {"web", "mail"})
    finally:
        fleet.one.file.write_text(text)
