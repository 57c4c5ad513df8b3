"""`floatip key`: the key of the nodes is made, and replaced while nodes have the file of this step or of the last."""

import os
import stat
from ipaddress import IPv4Interface
from itertools import pairwise
from pathlib import Path

import pytest

from floatip import key as command
from floatip.adopt.system import System
from floatip.reading import key
from floatip.reading.machine import Machine
from tests.command_line import floatip

GROUP = 64130
CONFIG = """\
[[node]]
name = "haproxy1"
address = "{}"
[[node]]
name = "haproxy2"
address = "{}"
[[node]]
name = "haproxy3"
address = "{}"
"""


@pytest.fixture(autouse=True)
def haproxy1(monkeypatch: pytest.MonkeyPatch) -> None:
    eth0 = tuple(map(IPv4Interface, ("192.0.2.1/24",)))
    monkeypatch.setattr(command, "look_around", lambda: Machine({"eth0": eth0, "lo": ()}))
    monkeypatch.setattr(System, "daemons_group", lambda self: GROUP)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "key"


def keys(file: Path) -> tuple[bytes, ...]:
    found, doubts = key.read(file, Machine({}))
    assert not doubts
    return found


def owner(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def test_the_first_key_is_for_root_and_the_daemon_alone(file: Path) -> None:
    assert os.geteuid() == 0, "the file belongs to root: run as root"
    status, said = floatip("key", str(file))
    assert (status, said.splitlines()[0]) == (0, f"{file}: written, a new key")
    assert [len(one) for one in keys(file)] == [32]
    assert owner(file) == (0o640, 0, GROUP)
    assert keys(file)[0].hex() not in said
    assert list(file.parent.iterdir()) == [file]


def test_each_key_is_another(file: Path) -> None:
    floatip("key", str(file))
    first = keys(file)
    file.unlink()
    floatip("key", str(file))
    assert keys(file) != first


def test_a_key_that_is_there_is_not_overwritten(file: Path) -> None:
    file.write_text("what somebody has here\n")
    hint = f"to replace the key without a gap: floatip key {file} --next"
    assert floatip("key", str(file)) == (1, f"error: {file} exists [file-exists]\nhint: {hint}\n")
    assert file.read_text() == "what somebody has here\n"
    file.unlink()
    file.symlink_to("nowhere")
    assert floatip("key", str(file))[0] == 1
    assert file.is_symlink()


def test_in_every_step_each_node_believes_what_the_others_sign(file: Path) -> None:
    floatip("key", str(file))
    os.chown(file, 0, GROUP + 1)
    file.chmod(0o440)
    files = [keys(file)]
    for step in ("--next", "--use-next", "--drop-old"):
        assert floatip("key", str(file), step)[0] == 0
        files.append(keys(file))
        assert owner(file) == (0o440, 0, GROUP + 1), "as they were"
    assert [len(one) for one in files] == [1, 2, 2, 1]
    for before, after in pairwise(files):
        assert before[0] in after
        assert after[0] in before
    assert files[3] != files[0]
    assert list(file.parent.iterdir()) == [file]


def test_what_does_not_follow_on_the_file_is_refused_and_changes_nothing(file: Path) -> None:
    assert floatip("key", str(file), "--next") == (
        1,
        f"error: {file} is missing: the nodes sign what they tell each other [key-unusable]\n"
        f"hint: make it on one node, and copy it to the others: floatip key {file}\n",
    )
    floatip("key", str(file))
    before = file.read_text()
    one = f"error: {file} has only one key [key-step]\nhint: add the next one: floatip key {file} --next\n"
    assert floatip("key", str(file), "--use-next") == floatip("key", str(file), "--drop-old") == (1, one)
    assert file.read_text() == before
    floatip("key", str(file), "--next")
    before = file.read_text()
    status, said = floatip("key", str(file), "--next")
    assert (status, said.splitlines()[0]) == (1, f"error: {file} has two keys already [key-step]")
    assert file.read_text() == before
    file.chmod(0o644)
    status, said = floatip("key", str(file), "--use-next")
    assert (status, said.splitlines()[1]) == (1, f"hint: chown root:floatip {file} && chmod 640 {file}")
    assert file.read_text() == before


def test_the_next_steps_name_each_other_node(file: Path) -> None:
    (file.parent / "floatip.toml").write_text(CONFIG.format("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    _, said = floatip("key", str(file))
    copies = [line for line in said.splitlines() if "scp" in line]
    assert copies == [
        f"  scp -p {file} root@192.0.2.{host}:{file} && ssh root@192.0.2.{host} chgrp floatip {file}" for host in (2, 3)
    ]
    assert said.splitlines()[-2:] == ["Then on each node, this one too:", "  systemctl reload floatip"]
    _, said = floatip("key", str(file), "--next")
    assert said.splitlines()[-1] == f"  floatip key {file} --use-next"
    _, said = floatip("key", str(file), "--use-next")
    assert said.splitlines()[-1] == f"  floatip key {file} --drop-old"


def test_an_ipv6_address_is_bracketed_where_scp_needs_it(file: Path) -> None:
    (file.parent / "floatip.toml").write_text(CONFIG.format("2001:db8::1", "2001:db8::2", "2001:db8::3"))
    _, said = floatip("key", str(file))
    assert f"  scp -p {file} root@[2001:db8::2]:{file} && ssh root@2001:db8::2 chgrp floatip {file}" in said


@pytest.mark.parametrize("text", ["not TOML", "", "[linode]\ndcid = 6\n"])
def test_without_a_configuration_that_names_nodes_the_steps_are_the_same(text: str, file: Path) -> None:
    (file.parent / "floatip.toml").write_text(text)
    _, said = floatip("key", str(file))
    assert f"  scp -p {file} root@NODE:{file} && ssh root@NODE chgrp floatip {file}" in said


def test_a_directory_that_cannot_be_written_is_named() -> None:
    status, said = floatip("key", "/proc/floatip-key")
    assert (status, said.splitlines()[0]) == (
        1,
        "error: /proc/floatip-key cannot be written: no such file or directory [file-unwritable]",
    )
