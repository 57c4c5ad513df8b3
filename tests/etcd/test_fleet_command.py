"""`floatip fleet` as a person sees it, with a real etcd: what it shows, changes and refuses."""

import json
import os
import pty
import subprocess
import sys
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from floatip.core.arbiter import FORMAT
from floatip.core.settings import Node
from floatip.etcd.client import Client, Endpoint
from floatip.fleet import rows
from floatip.fleet.store import Conflict, Store
from floatip.model import Etcd, fingerprint
from floatip.reading.machine import Machine
from tests.command_line import floatip
from tests.etcd_cluster import Cluster

KEY = "5a" * 32
PREFIXES = (f"/fleet{number}/" for number in count())
WEB = """\
[[check]]
name = "web"
tcp = "127.0.0.1:80"

[[instance]]
name = "web"
addresses = ["203.0.113.10/32"]
checks = ["web"]
placement = "master"
"""
MAIL = WEB.partition("\n\n")[2].replace('name = "web"', 'name = "mail"').replace(".10/", ".11/")


class Fleet:
    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.prefix = next(PREFIXES)
        self.local, self.file = directory / "floatip.toml", directory / "fleet.toml"
        self.write_local()
        (directory / "key").write_text(KEY)
        (directory / "key").chmod(0o640)
        self.put("fleet", json.dumps({"format": FORMAT, "key": fingerprint(bytes.fromhex(KEY))}))

    def write_local(self, more: str = "") -> None:
        urls = json.dumps(self.cluster.endpoints)
        member = '[member]\nname = "db1"\naddress = "198.51.100.1"\n'
        self.local.write_text(f'[etcd]\nendpoints = {urls}\nprefix = "{self.prefix}"\n{member}{more}')

    def put(self, key: str, value: str) -> None:
        self.cluster.ctl("put", f"{self.prefix}{key}", "--", value)

    def get(self, key: str) -> str:
        return self.cluster.ctl("get", "--print-value-only", f"{self.prefix}{key}").rstrip("\n")

    def member(self, name: str, number: int, *owned: str, alive: bool = True) -> None:
        address = f"198.51.100.{number}"
        member = rows.Member(Node(name, IPv4Address(address)), "1.0", rows.CAPABILITIES, "")
        self.put(f"members/{name}", rows.member_row(member))
        if alive:
            self.put(f"alive/{name}", json.dumps({"machine": "m", "boot": "b", "version": "1.0", "address": address}))
        for one in owned:
            self.put(f"owners/{one}", json.dumps({"node": name, "released": False}))

    def __call__(self, *words: str) -> tuple[int, str]:
        return floatip("fleet", *words, "--file", str(self.local))

    def apply(self, text: str, *options: str) -> tuple[int, str]:
        self.file.write_text(text)
        return self("apply", str(self.file), *options)

    @property
    def etcd(self) -> Etcd:
        return Etcd(self.cluster.endpoints, self.prefix)


@pytest.fixture
def fleet(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """With an address of db1 that this machine has as well, whatever machine it is."""
    has = Machine.has
    monkeypatch.setattr(Machine, "has", lambda self, ip, name="": str(ip) == "198.51.100.1" or has(self, ip, name))
    monkeypatch.setenv("SUDO_USER", "anna")
    monkeypatch.setattr("socket.gethostname", lambda: "db1")
    return Fleet(cluster, tmp_path)


def test_a_first_configuration_is_shown_and_applied(fleet: Fleet) -> None:
    assert fleet("get") == (
        *(1, "error: this fleet has no configuration at etcd [unknown-name]\nhint: floatip fleet apply FILE\n"),
    )
    status, said = fleet.apply(WEB)
    assert status == 0
    assert f"--- nothing\n+++ {fleet.file}\n" in said
    assert '+addresses = ["203.0.113.10/32"]' in said
    assert "no member is alive, so what moves is not known" in said
    assert "applied as version 1; each node loads it when etcd tells it: floatip nodes" in said
    status, said = fleet("get")
    assert (status, said.partition("\n")[2]) == (0, WEB)
    assert said.startswith("version 1, by anna@db1 at 20")
    row = json.loads(fleet.get("config"))
    assert row.keys() == {"version", "by", "at", "toml"}
    assert fleet.get("versions/1") == fleet.get("config")


def test_the_same_text_is_not_a_new_version(fleet: Fleet) -> None:
    fleet.apply(WEB)
    assert fleet.apply(WEB) == (0, "nothing to do: version 1 is the same\n")


def test_a_dry_run_changes_nothing(fleet: Fleet) -> None:
    status, said = fleet.apply(WEB, "--dry-run")
    assert status == 0
    assert said.endswith("nothing was changed: --dry-run\n")
    assert fleet.get("config") == ""


def test_each_mistake_has_its_line_and_nothing_is_changed(fleet: Fleet) -> None:
    bad = WEB.replace('"master"', '"some"') + '[[check]]\nname = "deep"\nscript = "/bin/true"\n[http]\n'
    status, said = fleet.apply(bad)
    assert status == 2
    assert f'{fleet.file}:9: instance "web" placement: "some" is not "all" or "master"' in said
    assert f'{fleet.file}:12: check "deep" script: does not belong to the fleet\'s configuration' in said
    assert f"{fleet.file}:13: http: does not belong to the fleet's configuration" in said
    assert fleet.get("config") == ""
    status, said = fleet.apply("")
    assert status == 2
    assert f"{fleet.file}: there is no [[instance]]" in said
    status, said = fleet.apply("[link\n")
    assert (status, said.partition(": ")[0]) == (2, f"{fleet.file}:1")


def test_an_older_version_is_applied_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.apply(WEB)
    status, said = fleet.apply(WEB + "\n" + MAIL)
    assert "\nin short: instance mail added\n" in said
    assert "back to the version before: floatip fleet get --version 1 | floatip fleet apply -" in said
    first, _ = subprocess.Popen(
        [sys.executable, "-m", "floatip", "fleet", "get", "--version", "1", "--file", str(fleet.local)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).communicate(timeout=60)
    assert first.decode() == WEB
    (fleet.directory / "first").write_bytes(first)
    with (fleet.directory / "first").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        status, said = fleet("apply", "-")
    assert status == 0
    assert "applied as version 3" in said
    assert json.loads(fleet("get", "--json")[1])["toml"] == WEB
    status, said = fleet("versions")
    assert [line.split()[0] for line in said.splitlines()] == ["VERSION", "3", "2", "1"]


def test_of_two_who_change_it_at_once_one_is_refused_and_learns_who_was_first(fleet: Fleet) -> None:
    fleet.apply(WEB)
    with Store(fleet.etcd) as one, Store(fleet.etcd) as other:
        before, revision = one.config()
        other.apply(MAIL, "bert@db2", before, revision)
        with pytest.raises(Conflict) as refused:
            one.apply(WEB + "\n" + MAIL, "anna@db1", before, revision)
    assert "somebody changed the configuration meanwhile: there is version 2, by bert@db2 at 20" in str(refused.value)
    assert json.loads(fleet.get("config"))["toml"] == MAIL


def test_the_last_fifty_versions_are_kept(fleet: Fleet) -> None:
    with Store(fleet.etcd) as store:
        for number in range(rows.KEPT + 2):
            before, revision = store.config()
            store.apply(f"{WEB}# {number}\n", "anna", before, revision)
        found, odd = store.versions()
    assert [one.version for one in found] == list(range(rows.KEPT + 2, 2, -1))
    assert not odd
    status, said = fleet("get", "--version", "2")
    assert (status, said) == (
        1,
        "error: there is no version 2; the last 50 are kept [unknown-name]\nhint: see them: floatip fleet versions\n",
    )


def test_a_difference_to_a_file_is_shown_and_is_the_exit_status(fleet: Fleet) -> None:
    fleet.apply(WEB)
    fleet.file.write_text(WEB)
    assert fleet("diff", str(fleet.file)) == (0, "no difference to version 1\n")
    fleet.file.write_text(WEB.replace(".10/", ".12/"))
    status, said = fleet("diff", str(fleet.file))
    assert status == 1
    assert '-addresses = ["203.0.113.10/32"]\n+addresses = ["203.0.113.12/32"]\n' in said


def test_the_plan_says_what_moves_from_what_is_carried_now(fleet: Fleet) -> None:
    fleet.member("db1", 1, "web")
    fleet.member("db2", 2, "old")
    fleet.member("db3", 3, alive=False)
    fleet.file.write_text(WEB + "\n" + MAIL)
    status, said = fleet("plan", str(fleet.file))
    assert status == 0
    assert said == (
        "2 of 3 instances move, if every node that is alive is ready:\n"
        "  mail  nobody  ->  db2\n"
        "  old   db2     ->  removed\n"
    )
    assert json.loads(fleet("plan", str(fleet.file), "--json")[1]) == {
        "carried_by": {"web": "db1", "mail": "db2"},
        "moved": {"mail": {"from": None, "to": "db2"}},
        "gone": ["old"],
    }


def test_the_members_are_listed_and_a_silent_one_is_the_exit_status(fleet: Fleet) -> None:
    fleet.member("db1", 1, "web", "mail")
    assert fleet("members")[0] == 0
    fleet.member("db2", 2, alive=False)
    fleet.put("members/odd", "{")
    status, said = fleet("members")
    assert status == 1
    lines = said.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "ADDRESS", "WEIGHT", "OWNS", "VERSION", "MEMBER", "SINCE"]
    assert lines[1].split() == ["db1", "alive", "198.51.100.1", "1", "2", "1.0"]
    assert lines[2].split() == ["db2", "silent", "198.51.100.2", "1", "0", "1.0"]
    assert lines[3] == f"warning: the row {fleet.prefix}members/odd is passed over: it is no JSON"


def test_a_member_that_is_silent_is_forgotten_and_one_that_lives_is_not(fleet: Fleet) -> None:
    fleet.member("db1", 1)
    fleet.member("db2", 2, alive=False)
    assert fleet("forget", "db2") == (0, "db2 is no member any more\n")
    assert fleet.get("members/db2") == ""
    status, said = fleet("forget", "db1")
    assert (status, said.partition("\n")[0]) == (1, "error: db1 is alive, so it is not forgotten [node-alive]")
    status, said = fleet("forget", "db2")
    assert (status, said) == (1, "error: there is no member db2 [unknown-name]\nhint: did you mean db1?\n")


OTHERS = {
    "another key": (json.dumps({"format": FORMAT, "key": "another"}), "names another key: another fleet uses this pre"),
    "another format": (json.dumps({"format": 99, "key": "x"}), "have format 99, and this floatip knows 1"),
    "something else": ("hello", "is not floatip's: somebody else uses this prefix"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_prefix_of_somebody_else_is_left_alone(fleet: Fleet, case: str) -> None:
    value, expected = OTHERS[case]
    fleet.put("fleet", value)
    for words in (("apply", str(fleet.file)), ("get",), ("members",), ("forget", "db2")):
        fleet.file.write_text(WEB)
        status, said = fleet(*words)
        assert status == 1
        assert expected in said
        assert "[other-fleet]\nhint: " in said
    assert fleet.get("config") == ""


def test_a_row_that_is_no_configuration_is_not_overwritten(fleet: Fleet) -> None:
    fleet.put("config", '{"half": ')
    status, said = fleet.apply(WEB)
    assert status == 1
    assert f"error: the row {fleet.prefix}config is no JSON: it is not floatip's, or of another version" in said
    assert fleet.get("config") == '{"half": '


def test_where_the_file_names_the_nodes_there_is_nothing_to_apply(fleet: Fleet) -> None:
    nodes = "".join(f'[[node]]\nname = "db{n}"\naddress = "198.51.100.{n}"\n' for n in (1, 2))
    fleet.local.write_text(fleet.local.read_text().partition("[member]")[0] + nodes + WEB)
    status, said = fleet.apply(WEB)
    assert status == 2
    assert "names the nodes, so it has the whole configuration, and none is read from etcd [no-fleet]" in said
    fleet.local.write_text(nodes + WEB)
    status, said = fleet("get")
    assert status == 2
    assert "has no [etcd], so this node is of no fleet at etcd [no-fleet]" in said


def test_options_of_another_verb_are_refused(fleet: Fleet) -> None:
    assert fleet("get", "--dry-run")[1].startswith("error: --dry-run means nothing for fleet get [usage]")
    assert fleet("members", "x")[1].startswith("error: fleet members takes no argument [usage]")
    assert fleet("aply")[1].startswith("error: VERB: 'aply' is not apply, get, diff, plan, versions")
    assert fleet("apply")[1].startswith("error: FILE is missing [usage]")


def test_without_a_readable_key_nothing_is_written(fleet: Fleet) -> None:
    (fleet.directory / "key").unlink()
    status, said = fleet.apply(WEB)
    assert status == 2  # the configuration cannot be used without its key
    assert f"{fleet.directory}/key is missing" in said
    status, said = fleet("forget", "db1")
    assert status == 1
    assert "the key of the nodes cannot be read, so it is not known whether this is the fleet of this node" in said


def test_an_etcd_that_does_not_answer_is_named_with_the_next_step(fleet: Fleet) -> None:
    fleet.local.write_text('[etcd]\nendpoints = ["http://127.0.0.1:9"]\n[member]\naddress = "198.51.100.1"\n')
    status, said = fleet("members")
    assert status == 3
    assert said.startswith(
        "error: etcd does not answer: 127.0.0.1:9 refuses the connection [no-etcd]\nhint: check that"
    )


EXCLUSIVE = WEB.replace('"master"\n', '"master"\nexclusive = true\n')
RENAMED = EXCLUSIVE.replace('[[instance]]\nname = "web"', '[[instance]]\nname = "site"')


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_an_exclusive_address_does_not_change_its_instance_in_one_step(fleet: Fleet, options: tuple[str, ...]) -> None:
    assert fleet.apply(EXCLUSIVE)[0] == 0
    before = fleet.get("config")
    status, said = fleet.apply(RENAMED, *options)
    assert status == 1
    assert "203.0.113.10 moves from the exclusive instance web to site in one step: two nodes could hold it" in said
    assert said.endswith(
        "[exclusive-moves]\nhint: apply a version without 203.0.113.10, "
        "wait until floatip nodes shows that all have it, then apply this one\n"
    )
    assert fleet.get("config") == before


def test_an_exclusive_instance_is_renamed_in_two_steps_and_may_change_otherwise(fleet: Fleet) -> None:
    fleet.apply(EXCLUSIVE)
    assert fleet.apply(EXCLUSIVE + "\n" + MAIL)[0] == 0
    assert fleet.apply(WEB.partition("\n\n")[0] + "\n\n" + MAIL)[0] == 0
    assert fleet.apply(RENAMED + "\n" + MAIL)[0] == 0
    assert fleet.apply(RENAMED + "\n" + MAIL.replace('"mail"', '"post"'))[0] == 0, "what is not exclusive may"


def test_an_exclusive_address_is_known_also_where_this_node_refuses_the_version_in_force(fleet: Fleet) -> None:
    bad = EXCLUSIVE.replace('checks = ["web"]', 'checks = ["web", "missing"]')
    fleet.put("config", rows.config_row(rows.Config(1, "anna", "", bad)))
    status, said = fleet.apply(RENAMED)
    assert status == 1
    assert "[exclusive-moves]" in said


def test_the_own_address_of_a_member_is_no_floating_address(fleet: Fleet) -> None:
    fleet.member("db2", 2)
    status, said = fleet.apply(WEB.replace("203.0.113.10", "198.51.100.2"))
    assert status == 2
    assert f'{fleet.file}:7: instance "web" addresses: 198.51.100.2 is the own address of db2, a member' in said
    assert fleet.get("config") == ""


def test_names_at_etcd_do_nothing_in_a_terminal_or_a_shell(fleet: Fleet) -> None:
    fleet.member("db1", 1)
    fleet.put("members/$(reboot)\x1b[31m", "{")
    fleet.put("alive/'; reboot\x1b[2J", "{}")
    _, said = fleet("members")
    assert "\x1b" not in said
    assert f"etcdctl get '{fleet.prefix}members/$(reboot)\\x1b[31m'" in said
    assert "or it has left: '; reboot\\x1b[2J" in said


@pytest.fixture
def screen(fleet: Fleet) -> list[str]:
    """What a terminal of 80 columns shows of `floatip fleet members`."""
    for number in range(1, 4):
        fleet.member(f"database{number}", number, f"instance-{number}")
    main, side = pty.openpty()
    command = [sys.executable, "-m", "floatip", "fleet", "members", "--file", str(fleet.local)]
    process = subprocess.Popen(command, stdout=side, stderr=side, env=os.environ | {"COLUMNS": "80"})
    os.close(side)
    data = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:
            break
        data += chunk
    process.wait(60)
    os.close(main)
    return data.decode().replace("\r", "").splitlines()


def test_the_members_fit_into_80_columns(screen: list[str]) -> None:
    assert len(screen) == 4, screen
    assert max(map(len, screen)) <= 80


def test_the_hint_of_a_warning_stands_on_a_line_of_its_own(fleet: Fleet) -> None:
    status, said = fleet.apply(WEB.replace('checks = ["web"]\n', ""))
    assert status == 0
    assert "warning: instance " in said
    assert "\n  hint: add [[check]]" in said
    assert "\\n" not in said


def test_a_write_that_etcd_refuses_has_the_hint_of_that_refusal_and_not_of_the_read_after_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Client._post

    async def full(self: Client, endpoint: Endpoint, path: str, body: dict[str, Any], token: str) -> tuple[int, bytes]:
        if body.get("success"):
            error = {"code": 8, "message": "etcdserver: mvcc: database space exceeded"}
            return 429, json.dumps(error | {"error": error["message"]}).encode()
        return await send(self, endpoint, path, body, token)

    monkeypatch.setattr(Client, "_post", full)
    status, said = fleet.apply(WEB)
    assert status == 3
    assert "error: not applied: etcd is out of space and takes no writes (alarm NOSPACE) [no-etcd]" in said
    assert said.endswith("hint: compact and defragment etcd, then: etcdctl alarm disarm\n")
    assert fleet.get("config") == ""


def test_a_row_that_is_no_configuration_is_replaced_as_its_hint_says_and_no_version_is_overwritten(
    fleet: Fleet,
) -> None:
    fleet.apply(WEB)
    assert fleet.apply(WEB + "\n" + MAIL)[0] == 0
    kept = fleet.get("versions/1"), fleet.get("versions/2")
    fleet.put("config", '{"half": ')
    _, said = fleet.apply(WEB)
    assert said.endswith(f"to replace it: etcdctl del {fleet.prefix}config; then apply again\n")
    fleet.cluster.ctl("del", f"{fleet.prefix}config")
    status, said = fleet.apply(WEB)
    assert status == 0
    assert "applied as version 3" in said
    assert (fleet.get("versions/1"), fleet.get("versions/2")) == kept
    assert [line.split()[0] for line in fleet("versions")[1].splitlines()] == ["VERSION", "3", "2", "1"]
