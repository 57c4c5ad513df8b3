"""`floatip check --run`: each check once, as the daemon's user."""

import asyncio
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from floatip import text
from floatip.host.checks import once
from floatip.reading import machine
from tests.command_line import floatip
from tests.host.users import NOBODY, as_user

HEAD = """
[linode]
dcid = 6
[[instance]]
name = "a"
addresses = ["192.0.2.10/32"]
static = "primary"
"""
CHECK = """
[[check]]
name = "{name}"
{kind}
"""
GONE = r"kill -0 and killall -0 ask only about processes of the same user"


@pytest.fixture
def open_to_write(open_directory: Path) -> Path:
    path = open_directory / "open"
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.fixture
def run(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs checks, given by the text of a script or as another kind, with nobody as the daemon's user."""
    monkeypatch.setattr(machine, "DAEMON", "nobody")

    def run(uid: int = 0, timeout: float = 30, **kinds: str) -> tuple[int, str]:
        text = HEAD + f"checks = {list(kinds)}\n"
        for name, kind in kinds.items():
            is_script = " = " not in kind
            script = open_directory / f"{name}.sh"
            if is_script:
                script.write_text(f"#!/bin/sh\n{kind}\n")
                script.chmod(0o755)
            text += CHECK.format(name=name, kind=f'script = "{script}"\ntimeout = {timeout}' if is_script else kind)
        (open_directory / "floatip.toml").write_text(text)

        floatip("check", str(open_directory / "floatip.toml"))  # loads what another user might not be able to read

        def checked() -> str:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # not that of the loop in which we forked
            status, said = floatip("check", "--run", str(open_directory / "floatip.toml"))
            return f"{status}\n{said}"

        status, _, said = asyncio.run(as_user(checked, uid, uid)).partition("\n")
        assert status.isdecimal(), said
        return int(status), said

    return run


def test_each_check_runs_once_as_the_daemons_user(run: Callable[..., tuple[int, str]], open_directory: Path) -> None:
    (open_directory / "private").mkdir(mode=0o700)
    count = open_directory / "count"
    count.touch()
    count.chmod(0o666)
    status, said = run(
        who=f"echo once >> {count}; echo first; echo $(id -un) in $PWD with $(env | grep -c ^LS_COLORS)",
        rights="grep -q '^CapEff:.0*$' /proc/self/status && grep -q '^NoNewPrivs:.1' /proc/self/status",
        closed=f"ls {open_directory}/private",
        there=f'file = "{count}"',
        nothing='process = "none-of-it"',
        port='tcp = "127.0.0.1:1"',
    )
    assert status == 1
    lines = {line.split()[1]: line for line in said.splitlines() if re.match("(passed|failed) ", line)}
    ends = {name: re.sub(r"  +[\d.]+ s  ", ": ", line) for name, line in lines.items()}
    assert re.fullmatch("passed  who.*: exit status 0: nobody in / with 0", ends["who"])
    assert re.fullmatch("passed  rights: exit status 0", ends["rights"])
    assert re.fullmatch("failed  closed: exit status 2: .*[Pp]ermission denied", ends["closed"])
    assert re.fullmatch(f"failed  there.*: {count} exists", ends["there"])
    assert re.fullmatch("failed  nothing: no process is named none-of-it", ends["nothing"])
    assert re.fullmatch("failed  port.*: connection refused", ends["port"])
    assert "each check once, as user nobody:" in said
    assert said.endswith("2 of 6 passed\n")
    assert count.read_text() == "once\n"


def test_where_all_pass_the_exit_status_is_0(run: Callable[..., tuple[int, str]]) -> None:
    status, said = run(one="exit 0")
    assert (status, said.splitlines()[-1]) == (0, "1 of 1 passed")


def test_a_check_that_takes_too_long_has_failed_and_nothing_of_it_is_left(
    run: Callable[..., tuple[int, str]], open_to_write: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "PROGRESS_INTERVAL", 0.1)
    status, said = run(slow=f"trap '' TERM; echo $$ > {open_to_write}/pid; echo waiting; sleep 600", timeout=1)
    assert status == 1
    assert "after 0 s still running: slow (timeout 1 s)" in said
    assert "  timed out after 1 s: waiting\n" in said
    assert not Path("/proc", (open_to_write / "pid").read_text().strip()).exists()


def test_ctrl_c_leaves_no_check_behind(run: Callable[..., tuple[int, str]], open_to_write: Path) -> None:
    status, _ = run(slow=f"echo $$ > {open_to_write}/pid; kill -INT $PPID; sleep 600")
    assert status == 130
    assert not Path("/proc", (open_to_write / "pid").read_text().strip()).exists()


def test_a_signal_to_a_process_of_another_user_has_a_hint(run: Callable[..., tuple[int, str]]) -> None:
    _, said = run(one="kill -0 1")
    assert "peration not permitted\n  hint: kill -0 and killall -0 ask only about" in said


def test_another_user_is_told_who_may_run_them(run: Callable[..., tuple[int, str]], open_directory: Path) -> None:
    status, said = run(uid=NOBODY - 1, one="exit 0")
    what = f"error: --run runs the checks as user nobody, and you are number {NOBODY - 1} [usage]"
    assert (status, said) == (2, f"{what}\nhint: sudo floatip check --run {open_directory}/floatip.toml\n")
    status, said = run(uid=NOBODY, one="exit 0")
    assert (status, said.splitlines()[-1]) == (0, "1 of 1 passed")


def test_each_kind_runs_and_the_table_fits_80_columns(
    run: Callable[..., tuple[int, str]], open_to_write: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # ours may be in a directory of root's
    monkeypatch.setattr(text, "terminal_width", lambda: 80)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
    status, said = run(
        fails="exit 1",
        not_http='http = "http://127.0.0.1:1/"',
        not_dns='dns = { server = "127.0.0.1", port = 1 }',
        ping='icmp = "127.0.0.1"',
        not_there='haproxy = "/run/a/long/path/that/is/not/there"\nbackend = "web"',
        lo='interface = "lo"',
        unit='systemd = "nginx.service"',
        number=f'value = "{open_to_write}/number"\ninit = 5',
        inverted='process = "none-of-it"\ninverted = true',
        none_may='process = "none-of-it"\nquorum_max = 0',
        sessions="bgp = 1",
        two_of='of = ["fails", "ping", "lo"]\nquorum = 2',
        three_of='of = ["fails", "ping", "lo"]\nquorum = 3',
    )
    assert status == 1
    table = said[said.index("each check once") :]
    assert [line for line in table.splitlines() if len(line) > 80] == []
    # What is folded stands below its column.
    lines = re.sub(r"\n {20,}", " ", table).splitlines()
    found = {line.split()[1]: re.sub(r"^(\w+) .*? s  ", r"\1: ", line) for line in lines[1:-1]}
    assert found["not_http"] == found["not_dns"] == "failed: connection refused"
    assert found["ping"].startswith("passed: answered after "), "with the capability that the unit's user has"
    assert found["not_there"].endswith("is/not/there: no such file or directory")
    assert found["lo"] == "passed: lo is up"
    assert found["unit"] == "failed: cannot connect to D-Bus: no such file or directory"
    assert found["number"] == f"passed: {open_to_write}/number does not exist, which counts as 0"
    assert not (open_to_write / "number").exists()
    assert found["inverted"] == "passed: no process is named none-of-it; inverted"
    assert found["none_may"] == "passed: no processes are named none-of-it"
    assert found["sessions"].endswith("only a floatip that runs knows")
    assert found["two_of"] == "passed: 2 of 3 passed, 2 must"
    assert found["three_of"] == "failed: 2 of 3 passed, 3 must"
    assert said.endswith("6 of 12 passed\n")


def test_a_file_with_errors_runs_nothing(run: Callable[..., tuple[int, str]], open_to_write: Path) -> None:
    trace = open_to_write / "trace"
    status, said = run(one=f"touch {trace}", two='tcp = "nowhere"')
    assert status == 2
    assert "is not host:port" in said
    assert not trace.exists()
