"""`floatip share` against the fake: what it shows, writes and refuses. Every test searches its output for the token."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from floatip import share as sharing
from floatip.linode import api, metadata, region
from tests.command_line import floatip
from tests.linode_fake.account import Account, Linode
from tests.linode_fake.clients import TOKEN, fake
from tests.linode_fake.server import Api, Fault, MetadataService

Fake = tuple[Account, Api, MetadataService]
SOURCE = Path(sharing.__file__).parents[1]
RANGE = "2001:db8:3c4d:15::"
FILE = """\
[linode]
dcid = "auto"

[[node]]
name = "haproxy1"
address = "192.168.143.227"

[[node]]
name = "haproxy2"
address = "192.168.143.241"

[[instance]]
name = "web"
addresses = ["192.168.223.158/32", "2001:db8:3c4d:15::1/64"]
"""


@pytest.fixture(name="linode", autouse=True)
def linode_fixture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Fake]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LINODE_TOKEN", TOKEN)
    monkeypatch.setattr(sharing, "DEFAULT_CONFIG", str(tmp_path / "there-is-none.toml"))
    monkeypatch.setattr(sharing, "LOOK", 0.02)
    monkeypatch.setattr(sharing, "VISIBLE", 3.0)
    monkeypatch.setattr(api, "SHORTEST_WAIT", 0.01)
    region.forget()
    with fake() as found:
        monkeypatch.setenv(api.VARIABLE, found[1].url)
        monkeypatch.setenv(metadata.VARIABLE, found[2].url)
        yield found
    region.forget()


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path) -> str:
    file = tmp_path / "floatip.toml"
    file.write_text(FILE)
    return str(file)


def share(*arguments: str) -> tuple[int, str]:
    status, text = floatip("share", *arguments)
    assert TOKEN not in text
    return status, text


def shared(account: Account) -> dict[int, list[str]]:
    return {one.id: sorted(one.shared) for one in account.linodes.values() if one.shared}


# What it does


def test_the_configuration_says_what_is_shared_to_whom(linode: Fake, file: str) -> None:
    status, text = share("--yes", "--file", file)
    assert status == 0, text
    assert shared(linode[0]) == {1001: [RANGE], 1002: ["192.168.223.158", RANGE]}
    assert text.splitlines()[:6] == [
        "haproxy1 (1001) in us-east",
        "  has     nothing that is shared to it",
        "  add     2001:db8:3c4d:15::/64",
        "haproxy2 (1002) in us-east",
        "  has     nothing that is shared to it",
        "  add     192.168.223.158, 2001:db8:3c4d:15::/64",
    ]
    assert text.endswith("done\n")


def test_the_second_time_it_says_that_there_is_nothing_to_do(linode: Fake, file: str) -> None:
    share("--yes", "--file", file)
    writes = list(linode[0].writes)
    assert share("--yes", "--file", file) == (0, "nothing to do: it is shared as you want it\n")
    assert linode[0].writes == writes


def test_what_was_shared_before_stays(linode: Fake) -> None:
    account, _, _ = linode
    account.share({"linode_id": 1002, "ips": ["192.0.2.11", RANGE]})
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 0, text
    assert shared(account)[1002] == ["192.0.2.100", "192.0.2.11", RANGE]
    assert "  has     192.0.2.11, 2001:db8:3c4d:15::/64\n  add     192.0.2.100\n" in text


def test_only_what_is_named_is_removed(linode: Fake) -> None:
    account, _, _ = linode
    account.share({"linode_id": 1002, "ips": ["192.0.2.11", "192.0.2.100", RANGE]})
    status, text = share("--remove", "192.0.2.100", "--with", "1002", "--yes")
    assert status == 0, text
    assert shared(account)[1002] == ["192.0.2.11", RANGE]
    assert "  remove  192.0.2.100\n" in text
    status, text = share("--remove", "192.0.2.11,2001:db8:3c4d:15::/64", "--with", "1002", "--yes")
    assert status == 0, text
    assert shared(account) == {}
    assert account.writes[-1] == (1002, [])


def test_a_dry_run_shows_and_changes_nothing(linode: Fake, file: str) -> None:
    status, text = share("--dry-run", "--file", file)
    assert (status, linode[0].writes) == (0, [])
    assert "  add     192.168.223.158" in text
    assert "nothing was changed: --dry-run" in text
    assert not linode[1].count("POST .*")


def test_an_address_in_a_range_stands_for_the_range(linode: Fake) -> None:
    for word in ("2001:db8:3c4d:15::", "2001:db8:3c4d:15::/64", "2001:db8:3c4d:15::beef", "2001:db8:3c4d:15::1/64"):
        _, text = share(word, "--with", "1002", "--dry-run")
        assert "  add     2001:db8:3c4d:15::/64" in text, word


def test_a_56_is_shared_whole(linode: Fake) -> None:
    account, _, _ = linode
    account.add(Linode(1003, "router", public=["192.0.2.13"]), "2001:db8:5600::/56")
    status, text = share("2001:db8:5600:1::/64", "--with", "1002", "--yes")
    assert status == 0, text
    assert shared(account) == {1002: ["2001:db8:5600::"], 1003: ["2001:db8:5600::"]}


def test_a_range_is_shared_to_its_owner_too(linode: Fake) -> None:
    status, text = share(RANGE, "--with", "1002", "--yes")
    assert status == 0, text
    assert shared(linode[0]) == {1001: [RANGE], 1002: [RANGE]}


def test_this_machine_is_the_one_that_the_metadata_service_names(linode: Fake) -> None:
    linode[2].linode = linode[0].linodes[1002]
    status, text = share("192.0.2.100", "--yes")
    assert status == 0, text
    assert shared(linode[0]) == {1002: ["192.0.2.100"]}


def test_a_flag_names_this_machine_where_no_service_answers(linode: Fake) -> None:
    linode[2].faults.append(Fault(".*", raw=b"", times=1 << 20))
    status, text = share("192.0.2.100", "--dry-run")
    assert status == 1
    assert "which Linode this is, is not known: the metadata service at 127.0.0.1 closes" in text
    assert "--linode NUMBER" in text
    status, text = share("192.0.2.100", "--yes", "--linode", "1002")
    assert status == 0, text
    assert shared(linode[0]) == {1002: ["192.0.2.100"]}


def test_many_nodes_get_it_each(linode: Fake, tmp_path: Path) -> None:
    account, _, _ = linode
    nodes = ""
    for number in range(1003, 1011):
        address = f"192.168.143.{number - 900}"
        account.add(Linode(number, f"web{number}", private=[address]))
        nodes += f'[[node]]\nname = "web{number}"\naddress = "{address}"\n'
    file = tmp_path / "many.toml"
    file.write_text(FILE + nodes)
    account.share({"linode_id": 1005, "ips": ["192.0.2.11"]})
    status, text = share("--yes", "--file", str(file))
    assert status == 0, text
    assert shared(account)[1005] == ["192.0.2.11", "192.168.223.158", RANGE]
    assert all("192.168.223.158" in shared(account)[number] for number in range(1002, 1011))
    assert "192.168.223.158" not in shared(account)[1001]


def test_the_ends_of_vrrp_are_nodes_too(linode: Fake, tmp_path: Path) -> None:
    file = tmp_path / "vrrp.toml"
    vrrp = '{ interface = "eth0", vrid = 51, source = "192.168.143.227", peers = ["192.168.143.241"] }'
    head = FILE.partition("[[node]]")[0] + FILE[FILE.index("[[instance]]") :]
    file.write_text(f"{head}vrrp = {vrrp}\n")
    status, text = share("--yes", "--file", str(file))
    assert status == 0, text
    assert shared(linode[0])[1002] == ["192.168.223.158", RANGE]


def test_a_private_address_of_two_regions_is_that_of_the_region(linode: Fake, file: str) -> None:
    account, _, _ = linode
    account.add(Linode(2001, "far", region="eu-central", private=["192.168.223.158"]))
    status, text = share("--yes", "--file", file)
    assert status == 0, text
    assert shared(account)[1002] == ["192.168.223.158", RANGE]


def test_json_says_the_same(linode: Fake) -> None:
    done = run("192.0.2.100", "--with", "1002", "--yes", "--json")
    data = json.loads(done.stdout)
    assert data["changed"]
    (one,) = data["linodes"]
    assert one == {
        "id": 1002,
        "label": "haproxy2",
        "region": "us-east",
        "has": [],
        "add": ["192.0.2.100"],
        "remove": [],
        "written": True,
        "seen": True,
        "missing": [],
    }
    assert "nothing reaches 192.0.2.100" in data["warnings"][0]
    again = json.loads(run("192.0.2.100", "--with", "1002", "--yes", "--json").stdout)
    assert (again["changed"], again["would_change"]) == (False, False)


# What comes in between


def test_a_busy_linode_is_asked_again_and_it_says_so(linode: Fake) -> None:
    linode[1].faults.append(Fault("POST .*", 400, "Linode busy.", {"Retry-After": "0.01"}, times=3))
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 0, text
    assert text.count("haproxy2 (1002): the Linode is busy with another job") == 3
    assert shared(linode[0]) == {1002: ["192.0.2.100"]}


def test_each_try_reads_again(linode: Fake) -> None:
    account, server, _ = linode
    server.faults.append(Fault("POST .*", 503, "Service unavailable", {"Retry-After": "0.3"}))

    def another() -> None:
        while not server.count("POST .*"):
            time.sleep(0.01)
        account.share({"linode_id": 1002, "ips": ["192.0.2.11"]})

    writer = threading.Thread(target=another)
    writer.start()
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    writer.join()
    assert status == 0, text
    assert shared(account) == {1002: ["192.0.2.100", "192.0.2.11"]}
    assert "haproxy2 (1002): somebody else added 192.0.2.11 meanwhile, which stays" in text


def test_a_write_whose_answer_is_lost_is_not_written_twice(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    linode[1].faults.append(Fault("POST .*", raw=b"", after=True))
    monkeypatch.setattr(api, "CUT_WAIT", 0.01)
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 0, text
    assert linode[0].writes == [(1002, ["192.0.2.100"])]


def test_a_linode_that_stays_busy_is_given_up_with_what_to_do(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE", 0.05)
    linode[1].faults.append(Fault("POST .*", 400, "Linode busy.", {"Retry-After": "0.02"}, times=1 << 20))
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 1
    assert "error: haproxy2 (1002): the Linode is busy with another job" in text
    assert "hint: run the same command again" in text


def test_it_waits_until_a_write_is_seen(linode: Fake) -> None:
    linode[0].visible_after = 0.5
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 0, text
    assert float(re.search(r"seen after ([\d.]+) s", text)[1]) >= 0.4  # type: ignore[index]


def test_a_write_that_is_not_seen_is_a_failure(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "VISIBLE", 0.1)
    linode[0].visible_after = 60
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 1
    assert "what was written is not seen after 0.1 s; look again: floatip share --dry-run" in text


def test_another_writer_who_takes_ours_away_is_named(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    account, _, _ = linode
    monkeypatch.setattr(sharing, "VISIBLE", 0.1)
    account.after_write.append(lambda: account.share({"linode_id": 1002, "ips": ["192.0.2.11"]}))
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 1
    assert "another program writes what is shared to this Linode: 192.0.2.100 is missing after our write" in text
    assert shared(account) == {1002: ["192.0.2.11"]}  # it does not fight


def test_what_another_writer_adds_after_us_is_named(linode: Fake) -> None:
    account, _, _ = linode
    account.after_write.append(lambda: account.share({"linode_id": 1002, "ips": ["192.0.2.100", "192.0.2.11"]}))
    status, text = share("192.0.2.100", "--with", "1002", "--yes")
    assert status == 0, text
    assert "somebody else shared 192.0.2.11 to it meanwhile" in text


def test_what_is_written_before_a_failure_stays_and_is_told(linode: Fake, file: str) -> None:
    account, server, _ = linode
    server.faults.append(Fault("POST .*", 400, "ips: no", times=0))
    account.after_write.append(lambda: server.faults.append(Fault("POST .*", 403, "Unauthorized")))
    done = run("--yes", "--json", "--file", file)
    data = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(one["id"], one["written"], one["seen"]) for one in data["linodes"]] == [
        (1001, True, True),
        (1002, False, False),
    ]
    assert data["error"].startswith("haproxy2 (1002): the user of the token may not do this")
    assert data["code"] == "linode-api"
    assert shared(account) == {1001: [RANGE]}


# What it refuses

REFUSED: dict[str, tuple[Sequence[str], int, str, str]] = {
    "no address": (("x",), 2, "x is not an IP address", "192.0.2.10"),
    "a control character": (("\x1b[31m",), 2, r"\x1b[31m is not an IP address", "192.0.2.10"),
    "a network": (("192.0.2.0/24",), 2, "one by one", "write 192.0.2.0"),
    "both": (("192.0.2.100", "--remove", "192.0.2.100"), 2, "shared and removed at once", "once"),
    "no such Linode": (("192.0.2.100", "--with", "7"), 1, "has no Linode 7", "1001 (haproxy1), 1002 (haproxy2)"),
    "no such node": (("192.0.2.100", "--with", "db", "--file", "FILE"), 2, "has no node db", "number of a Linode"),
    "nobody's address": (
        ("198.51.100.1", "--with", "1002"),
        1,
        "no Linode of the account has 198.51.100.1",
        "assigned",
    ),
    "no range": (("2001:db8:99::1", "--with", "1002"), 1, "in us-east contains 2001:db8:99::1", "add a range"),
    "another region": (("203.0.113.9", "--with", "1002"), 1, "203.0.113.9 is in eu-central", "within its region"),
    "two regions": (("192.0.2.100", "--with", "1002", "--with", "2001"), 1, "far (2001) is in eu-central", "--with"),
    "1:1 NAT": (("192.0.2.11", "--with", "1002"), 1, "used for 1:1 NAT to a VPC", "another public address"),
    "a file that is none": (("--file", "/dev/null"), 2, "not a regular file", "without the file"),
    "a missing file": (("--file", "/nonexistent"), 2, "cannot be used", "without the file"),
    "no file and no address": ((), 2, "there-is-none.toml: cannot be read", "floatip share ADDRESS"),
    "a token file that is missing": (("192.0.2.100", "--token-file", "/nonexistent"), 1, "cannot be read", "ls -l"),
}


@pytest.mark.parametrize(("arguments", "status", "what", "hint"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_with_the_next_step(
    linode: Fake, file: str, arguments: Sequence[str], status: int, what: str, hint: str
) -> None:
    account, server, _ = linode
    account.add(Linode(2001, "far", region="eu-central", public=["203.0.113.9"]))
    account.linodes[1001].nat_1_1.append("192.0.2.11")
    words = [file if word == "FILE" else word for word in arguments]
    found, text = share(*words, "--yes")
    assert found == status, text
    assert what in text
    assert hint in text
    assert "hint:" in text
    assert not server.count("POST .*")


def test_a_node_that_no_linode_has_is_named_with_the_number_to_give(linode: Fake, tmp_path: Path) -> None:
    file = tmp_path / "vlan.toml"
    file.write_text(FILE.replace("192.168.143.241", "10.0.0.2"))
    status, text = share("--yes", "--file", str(file))
    assert status == 1
    assert "no Linode of the account has 10.0.0.2, the address of node haproxy2" in text
    assert "--with 1002 (its label is haproxy2)" in text


def test_without_a_terminal_it_wants_to_be_told(linode: Fake, file: str) -> None:
    done = run("--file", file)
    assert done.returncode == 2
    assert "--yes is missing, and stdin is not a terminal" in done.stderr
    assert not linode[1].requests


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """As a process of its own; nothing that it prints has the token, and nothing that others can read of it has."""
    inside = {**os.environ, "PYTHONPATH": str(SOURCE), **environment}
    command = [sys.executable, "-m", "floatip", "share", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=inside, stdin=subprocess.DEVNULL, check=False)
    assert TOKEN not in done.stdout + done.stderr
    return done


@contextmanager
def at_a_terminal(answer: str, *arguments: str) -> Iterator[tuple[int, str]]:
    child, terminal = pty.fork()
    if not child:
        os.environ["PYTHONPATH"] = str(SOURCE)
        os.execv(sys.executable, [sys.executable, "-m", "floatip", "share", *arguments])
    text = ""
    while "[n]" not in text:
        text += os.read(terminal, 1 << 16).decode()
    os.write(terminal, f"{answer}\n".encode())
    try:
        while data := os.read(terminal, 1 << 16):
            text += data.decode()
    except OSError:  # it has ended
        pass
    os.close(terminal)
    assert TOKEN not in text
    yield os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


@pytest.mark.parametrize(("answer", "writes"), [("y", 1), ("n", 0), ("", 0)])
def test_a_person_is_asked_after_the_diff(linode: Fake, answer: str, writes: int) -> None:
    with at_a_terminal(answer, "192.0.2.100", "--with", "1002") as (status, text):
        assert len(linode[0].writes) == writes
        assert status == (0 if writes else 1)
        assert text.index("add     192.0.2.100") < text.index("Change what is shared?")


def test_the_token_comes_from_stdin_too(linode: Fake) -> None:
    command = [
        sys.executable,
        "-m",
        "floatip",
        "share",
        "192.0.2.100",
        "--with",
        "1002",
        "--dry-run",
        "--token-file",
        "-",
    ]
    inside = {name: value for name, value in os.environ.items() if name != "LINODE_TOKEN"} | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, input=f"{TOKEN}\n", capture_output=True, text=True, env=inside, check=False)
    assert done.returncode == 0, done.stderr
    assert "add     192.0.2.100" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_a_bug_shows_no_token_either(linode: Fake) -> None:
    """Of the traceback of an error that nobody expects."""
    code = (
        "import sys; from floatip import cli; from floatip.linode import api\n"
        "def bug(*_, **__): raise ZeroDivisionError\n"
        "api.Account.held = bug\n"
        "sys.exit(cli.main(['share', '192.0.2.100', '--with', '1002', '--dry-run']))"
    )
    inside = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=inside, check=False)
    assert "ZeroDivisionError" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


# What the daemon says


def status_of(address: str, told: int) -> dict[str, Any]:
    standing = {"value": "up", "for": 1.0, "reason": "x"}
    instance = {
        "name": "web", "role": standing, "health": standing, "rank": standing, "master": None, "election": "nodes",
        "priority": None, "vrid": None, "dropped": {}, "master_down_interval": None, "route_servers": 4,
        "addresses": [{"address": address, "interface": "lo", "held": True, "announced_to": told}],
    }  # fmt: skip
    return {
        "stopping": "", "cut_off": False, "instances": [instance], "checks": [], "sessions": [], "keepalived": None,
        "links": [], "dropped": {}, "problems": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "told", "warns", "hint"),
    [
        ("192.0.2.100/32", 4, False, ""),
        ("192.0.2.100/32", 0, True, "announces it as soon as the route servers let it"),
        ("192.0.2.7/32", 4, True, "start floatip on the nodes first"),
    ],
)
def test_it_warns_of_what_nobody_announces(
    linode: Fake, monkeypatch: pytest.MonkeyPatch, address: str, told: int, warns: bool, hint: str
) -> None:
    monkeypatch.setattr(sharing, "ask", lambda path, request: status_of(address, told))
    _, text = share("192.0.2.100", "--with", "1002", "--dry-run")
    assert ("once shared, nothing reaches 192.0.2.100 until" in text) == warns
    assert hint in text


def test_it_does_not_warn_of_what_is_shared_to_another_node_already(linode: Fake, file: str) -> None:
    account, _, _ = linode
    account.add(Linode(1003, "haproxy3", private=["192.168.143.250"]))
    share("--yes", "--file", file)
    with open(file, "a") as more:
        more.write('[[node]]\nname = "haproxy3"\naddress = "192.168.143.250"\n')
    status, text = share("--dry-run", "--file", file)
    assert "  add     192.168.223.158, 2001:db8:3c4d:15::/64" in text
    assert "warning" not in text
    assert status == 0


def test_without_a_daemon_it_warns_and_says_why(linode: Fake) -> None:
    _, text = share("192.0.2.100", "--with", "1002", "--dry-run")
    assert "nothing reaches 192.0.2.100" in text
    assert "no floatip daemon answers at" in text


def test_it_warns_before_it_takes_away_what_is_announced(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    linode[0].share({"linode_id": 1002, "ips": ["192.0.2.100"]})
    monkeypatch.setattr(sharing, "ask", lambda path, request: status_of("192.0.2.100/32", 4))
    _, text = share("--remove", "192.0.2.100", "--with", "1002", "--dry-run")
    assert "floatip announces 192.0.2.100, and the Linode will not be allowed to any more" in text
