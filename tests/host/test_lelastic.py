"""lelastic's flags in Go's syntax, what is refused, and how it logs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from floatip.host.ask import NobodyAnswers, ask
from floatip.lelastic import BadFlag, Flags, parse

USAGE = "Usage of floatip lelastic:"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("-dcid 6 -primary -allifs", {"dcid": 6, "primary": True, "allifs": True}),
        ("--dcid=6 --secondary", {"dcid": 6, "secondary": True}),
        ("-dcid=6 -primary=false -secondary=T", {"dcid": 6, "secondary": True}),
        ("-primary=1 -allifs=0 -send56=FALSE", {"primary": True}),
        ("-dcid 0x10", {"dcid": 16}),
        ("-dcid 010", {"dcid": 8}),
        ("-dcid -06", {"dcid": -6}),
        ("-dcid 2 -dcid 6", {"dcid": 6}),
        ("-loglevel debug -logjson -multihopttl 64", {"loglevel": "debug", "logjson": True, "multihopttl": 64}),
        ("-neighborpattern fd00:%d::%d", {"neighborpattern": "fd00:%d::%d"}),
        ("-neighborpattern=a=b", {"neighborpattern": "a=b"}),
        ("-loglevel -primary", {"loglevel": "-primary"}),
        ("", {}),
    ],
)
def test_flags_are_read_as_go_reads_them(line: str, meant: dict[str, Any]) -> None:
    assert parse(line.split()) == (Flags(**meant), [])


@pytest.mark.parametrize(
    ("line", "rest"),
    [("-primary false -dcid 6", ["false", "-dcid", "6"]), ("-primary -- -dcid", ["-dcid"]), ("-primary -", ["-"])],
)
def test_the_first_argument_that_is_no_flag_ends_them(line: str, rest: list[str]) -> None:
    assert parse(line.split()) == (Flags(primary=True), rest)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("-role primary", "flag provided but not defined: -role"),
        ("-primary -dcid", "flag needs an argument: -dcid"),
        ("-dcid six", 'invalid value "six" for flag -dcid: parse error'),
        ("-dcid 08", 'invalid value "08" for flag -dcid: parse error'),
        ("-primary=yes", 'invalid value "yes" for flag -primary: parse error'),
        ("-multihopttl=", 'invalid value "" for flag -multihopttl: parse error'),
        ("---dcid 6", "bad flag syntax: ---dcid"),
        ("-=6", "bad flag syntax: -=6"),
        ("-h", ""),
        ("-primary --help", ""),
    ],
)
def test_what_is_no_flag_is_refused_in_gos_words(line: str, what: str) -> None:
    with pytest.raises(BadFlag) as refused:
        parse(line.split())
    assert str(refused.value) == what


def lelastic(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "floatip", "lelastic", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("line", "status", "lines"),
    [
        ("-role primary", 2, ["flag provided but not defined: -role", USAGE]),
        ("-dcid", 2, ["flag needs an argument: -dcid", USAGE]),
        ("-h", 0, [USAGE, "  -allifs"]),
        ("-primary", 1, ["error: no data centre is given [usage]"]),
        ("-dcid 1 -primary", 1, ["error: there is no data centre 1 [usage]"]),
        ("-dcid 6", 1, ["error: no role is given [usage]"]),
        ("-dcid 6 -primary -secondary", 1, ["error: both roles are given, and none wins [usage]"]),
        ("-dcid 6 -primary -multihopttl 256", 1, ["error: multihopttl 256 is not between 1 and 255 [usage]"]),
        (
            "-dcid 6 -primary -neighborpattern %d",
            1,
            ['error: neighborpattern "%d" makes no addresses with dcid 6 [usage]'],
        ),
        (
            "-dcid 99999 -primary",
            1,
            ['error: neighborpattern "2600:3c0f:%d:34::%d" makes no addresses with dcid 99999 [usage]'],
        ),
    ],
)
def test_what_it_cannot_do_is_said_on_stderr(line: str, status: int, lines: list[str]) -> None:
    ended = lelastic(*line.split())
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.splitlines()[: len(lines)] == lines
    assert status != 1 or ended.stderr.splitlines()[1].startswith("hint: ")


class Announcer:
    """The daemon, in the namespace of the test, as long as the test wants it."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, runtime: str = "", before: Sequence[str] = ()) -> None:
        command = [*before, sys.executable, "-m", "floatip", "lelastic", *arguments]
        runtime = runtime or str(self._directory / "run")
        environment = {"RUNTIME_DIRECTORY": runtime, "STATE_DIRECTORY": str(self._directory)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | environment, stderr=log)

    def wait_for_log(self, text: str) -> str:
        """All whole lines."""
        deadline = time.monotonic() + 60
        while text not in (log := self.log.read_text().rpartition("\n")[0]):
            assert time.monotonic() < deadline, f"no {text!r} in:\n{log}"
            time.sleep(0.02)
        return log

    def wait_for_answer(self) -> None:
        """It has started with all that belongs to it."""
        deadline = time.monotonic() + 60
        while True:
            try:
                ask(self._directory / "run" / "floatip.sock", {"cmd": "status"}, timeout=60)
                return
            except NobodyAnswers:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def exit_status(self) -> int:
        assert self._process
        return self._process.wait(60)

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def announcer(namespace: None, tmp_path: Path) -> Iterator[Announcer]:
    it = Announcer(tmp_path)
    yield it
    it.kill()


def test_without_an_address_it_waits_and_follows_what_comes(announcer: Announcer) -> None:
    announcer.start("-dcid", "6", "-primary")
    announcer.wait_for_log("address lo waiting: waiting for an address on lo")
    subprocess.run(["ip", "address", "add", "192.0.2.10/32", "dev", "lo"], check=True)
    announcer.wait_for_log("address 192.0.2.10 found: announced as 192.0.2.10/32")
    announcer.signal(signal.SIGHUP)
    subprocess.run(["ip", "address", "del", "192.0.2.10/32", "dev", "lo"], check=True)
    announcer.wait_for_log("address 192.0.2.10 gone: the address is gone")
    announcer.signal(signal.SIGTERM)
    assert announcer.exit_status() == 0


def test_an_address_that_gets_a_lifetime_is_not_announced_any_more(announcer: Announcer) -> None:
    announcer.start("-dcid", "6", "-secondary")
    for lifetime, news in (("forever", "found"), ("3600", "gone"), ("forever", "found")):
        change = ["ip", "address", "replace", "2001:db8::1/64", "dev", "lo", "valid_lft", lifetime]
        subprocess.run([*change, "preferred_lft", lifetime], check=True)
        announcer.wait_for_log(f"address 2001:db8::1 {news}")
        announcer.log.write_text("")


def test_the_addresses_of_another_floatip_are_left_alone(announcer: Announcer, tmp_path: Path) -> None:
    subprocess.run(["ip", "address", "add", "192.0.2.10/32", "dev", "lo"], check=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    state = json.dumps({"boot": boot, "held": [["lo", "192.0.2.10/32"]]})
    (tmp_path / "held.json").write_text(state)
    announcer.start("-dcid", "6", "-primary")
    announcer.wait_for_log("address 192.0.2.10 found")
    announcer.signal(signal.SIGTERM)
    assert announcer.exit_status() == 0
    assert (tmp_path / "held.json").read_text() == state
    subprocess.run(["ip", "address", "del", "192.0.2.10/32", "dev", "lo"], check=True)


def test_it_needs_no_privilege_and_no_runtime_directory(announcer: Announcer) -> None:
    # Still the owner of the checkout, which another user may not be able to read.
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    announcer.start("-dcid", "6", "-primary", runtime="/proc/nowhere", before=powerless)
    log = announcer.wait_for_log("waiting for an address on lo")
    assert "no control socket at /proc/nowhere/floatip.sock" in log
    announcer.signal(signal.SIGTERM)
    assert announcer.exit_status() == 0


def test_logjson_makes_each_line_an_object(announcer: Announcer) -> None:
    announcer.start("-dcid", "99", "-primary", "-logjson", "left", "over")
    log = announcer.wait_for_log("waiting for an address on lo")
    lines = [json.loads(line) for line in log.splitlines()]
    assert all(line.keys() >= {"level", "msg", "time"} for line in lines)
    (waiting,) = (line for line in lines if line.get("what") == "address")
    assert (waiting["address"], waiting["value"]) == ("lo", "waiting")
    assert [line["msg"] for line in lines if line["level"] == "warning"][:2] == [
        "dcid 99 is not among the data centres that floatip knows",
        "ignored from the first argument that is no flag: left over",
    ]


def test_loglevel_says_what_is_not_worth_a_line(announcer: Announcer) -> None:
    announcer.start("-dcid", "99", "-primary", "-loglevel", "warn")
    announcer.wait_for_log("dcid 99 is not among")
    announcer.wait_for_answer()
    announcer.signal(signal.SIGTERM)
    assert announcer.exit_status() == 0
    assert "waiting for an address" not in announcer.log.read_text()


def test_an_unknown_loglevel_is_taken_for_info_as_lelastic_does(announcer: Announcer) -> None:
    announcer.start("-dcid", "6", "-primary", "-loglevel", "verbose")
    assert 'there is no log level "verbose"' in announcer.wait_for_log("waiting for an address on lo")
