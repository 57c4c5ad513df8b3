"""`floatip check` of a file that is not where it is to be: from stdin, or with --as."""

import io
import os
import sys
from pathlib import Path

import pytest

from floatip.reading import machine
from floatip.reading.toml.document import LARGEST
from tests.command_line import floatip

NODES = """
[[node]]
name = "a"
address = "127.0.0.2"
[[node]]
name = "b"
address = "192.0.2.2"
[[instance]]
name = "web"
addresses = ["192.0.2.10/32"]
placement = "master"
"""
MISSING = "key is missing: the nodes sign what they tell each other"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    return content


def give(stdin: io.BytesIO, text: bytes) -> None:
    stdin.write(text)
    stdin.seek(0)


def test_what_stdin_has_is_judged_as_the_default_file(stdin: io.BytesIO) -> None:
    give(stdin, b"[linode]\ndcid = 6\nwrong = 1\n")
    status, told = floatip("check", "-")
    assert status == 2
    assert "/etc/floatip/floatip.toml:3: linode.wrong" in told


def test_a_stdin_without_an_end_is_refused(stdin: io.BytesIO) -> None:
    give(stdin, b"#" * (LARGEST + 1))
    status, told = floatip("check", "-")
    assert status == 2
    assert "/etc/floatip/floatip.toml: larger than 512 KiB" in told


def test_the_key_is_the_one_beside_the_path_that_the_file_becomes(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "DAEMON", "nobody")
    staged, etc = open_directory / "staged", open_directory / "etc"
    for directory in (staged, etc):
        directory.mkdir()
    (staged / "floatip.toml").write_text(NODES)
    staged.chmod(0o700)
    _, told = floatip("check", "--as", str(etc / "floatip.toml"), str(staged / "floatip.toml"))
    assert f"{etc}/{MISSING}" in told

    (etc / "key").write_text("0" * 64 + "\n")
    (etc / "key").chmod(0o640)
    os.chown(etc / "key", 0, 65534)
    _, told = floatip("check", "--as", str(etc / "floatip.toml"), str(staged / "floatip.toml"))
    assert MISSING not in told
    assert "cannot read it" not in told, "the directory that is closed is not the one where it will be"
