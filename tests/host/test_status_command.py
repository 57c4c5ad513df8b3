"""`floatip status` where it has no status to show, and `--watch` while the daemon is restarted."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from threading import Thread
from time import monotonic

import pytest

from floatip.core.problems import Severity
from floatip.core.snapshot import describe
from floatip.core.state import CarriedView, NodeView, ProblemView, Status, as_data
from floatip.host.ask import Record
from tests.command_line import floatip
from tests.core.host import master
from tests.core.test_view import node, own
from tests.host.users import as_user


def shown() -> str:
    code, output = floatip("status")
    return f"{code} {output}"


def test_who_may_not_ask_gets_an_exit_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as daemon:
        monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
        shown()  # what it imports, the other user may not be able to read
        os.chmod(directory, 0o755)
        daemon.bind(f"{directory}/floatip.sock")
        daemon.listen()
        told = asyncio.run(as_user(shown))
    assert told.startswith(
        f"4 error: not allowed to use {directory}/floatip.sock [not-allowed]\nhint: permission denied: sudo"
    ), told


SETTLED = master()
ANSWER = json.dumps(as_data(describe(SETTLED.node, 100.0))).encode() + b"\n"
WELL = describe(SETTLED.node, SETTLED.now)


@contextmanager
def daemon(directory: Path, answer: bytes = ANSWER, changes: Sequence[Record] = ()) -> Iterator[None]:
    """Answers each request with the same status, or with the changes; of the watchers, each is left after those."""
    path = directory / "floatip.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    asked = client.recv(100)
                    if asked == b"end\n":
                        return
                    if b"watch" in asked:
                        client.sendall(b"".join(json.dumps(change).encode() + b"\n" for change in changes))
                    else:
                        client.sendall(answer)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"end\n")
            thread.join()
    path.unlink()


@pytest.mark.parametrize("answer", [b'{"version": "9"}\n', b'{"instances": 1}\n'])
def test_an_answer_of_another_version_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path, answer):
        assert shown().startswith("3 error: the daemon is of another version")


@pytest.mark.parametrize("answer", [b"[]\n", b"[" * 100_000 + b"\n", b'{"error": 1}\n', ANSWER[:500], b"\xff\n"])
def test_an_answer_that_is_none_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path, answer):
        assert shown().startswith("3 error: ")
        status, line = floatip("status", "--brief")
        assert (status, line.count("\n")) == (2, 1)
        assert line.startswith("FLOATIP CRITICAL - ")
        assert floatip("explain")[0] == 3


def test_an_answer_that_breaks_off_is_that_of_a_daemon_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path, ANSWER[:500]):
        assert shown().startswith("3 error: no floatip daemon answers at ")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watch_of_an_instance_that_is_not_there_says_so(tmp_path: Path, options: Sequence[str]) -> None:
    with daemon(tmp_path), on_a_terminal(tmp_path, "VI_9", "--watch", *options) as (process, terminal):
        read_until(terminal, b"error: this node has no instance VI_9")
        assert process.wait(60) == 2


def test_a_watch_that_is_terminated_gives_the_terminal_back(tmp_path: Path) -> None:
    with daemon(tmp_path), on_a_terminal(tmp_path, "--watch") as (process, terminal):
        read_until(terminal, b"goes to this node")
        process.terminate()
        read_until(terminal, b"\x1b[?1049l", b"\x1b[?25h")
        assert process.wait(60) == 143


@pytest.mark.parametrize("options", ["", "--brief"])
def test_a_closed_stdout_and_one_of_few_letters_are_no_traceback(tmp_path: Path, options: str) -> None:
    said = [replace(check, last_result="\u5931\u6557") for check in WELL.checks]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    command = f"{sys.executable} -m floatip status {options}"
    with daemon(tmp_path, json.dumps(as_data(replace(WELL, checks=tuple(said)))).encode() + b"\n"):
        for to in ("", " >&-"):
            done = subprocess.run(
                ["sh", "-c", command + to], env=environment, capture_output=True, text=True, check=True
            )
            assert done.stderr == ""
            assert ("\\u5931\\u6557" in done.stdout) is (not options and not to)


def with_nodes(*nodes: NodeView) -> bytes:
    return json.dumps(json.loads(ANSWER) | {"nodes": as_data(nodes)}).encode() + b"\n"


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (node("haproxy2"), 0),
        (node("haproxy2", drained=True, healthy=False), 0),
        (node("haproxy2", hears_us=None), 1),
        (node("haproxy2", state="silent"), 1),
        (node("haproxy2", state="unheard"), 1),
        (node("haproxy2", state="refused"), 1),
    ],
)
def test_nodes_exits_with_0_only_if_all_are_alive_and_hear_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: NodeView, code: int
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path, with_nodes(own(), second)):
        status, table = floatip("nodes")
        assert (status, table.count("haproxy")) == (code, 2)
        assert table.startswith("NODE ")
        assert floatip("nodes", "--json") == (code, json.dumps(as_data((own(), second)), indent=2) + "\n")


def test_nodes_without_a_link_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with daemon(tmp_path):
        status, told = floatip("nodes")
        assert status == 1, "it cannot say that all nodes are alive"
        assert told.startswith("no [[node]] is configured: this node knows no others\nhint: ")
        assert floatip("nodes", "--json") == (1, "[]\n")
    assert floatip("nodes")[0] == 3


@contextmanager
def watching(directory: Path, *options: str, command: str = "status") -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "floatip", command, "--watch", *options]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(directory)}
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()


def until(lines: Iterator[str], begins: str) -> str:
    return next(line for line in lines if line.startswith(begins))


def change(value: str, reason: str = "haproxy2 handed over", name: str = "VI_1", ago: float = 0.0) -> Record:
    """As the daemon tells it."""
    time = "2025-11-29T03:12:07.123+00:00"
    at = monotonic() + 3600 - ago
    return {"at": at, "time": time, "what": "role", "name": name, "value": value, "reason": reason}


def test_watch_in_a_pipe_prints_a_line_a_change_also_while_the_daemon_is_restarted(tmp_path: Path) -> None:
    old, first, second = change("init", ago=7200), change("backup"), change("master", "\x1b[2Kevil")
    with watching(tmp_path) as process:
        assert process.stdout
        silent = next(process.stdout)
        assert re.fullmatch(r"no daemon answers since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d; hint: .*\n", silent)
        with daemon(tmp_path, changes=[old, first]):
            assert next(process.stdout).endswith(" VI_1 MASTER\n"), "how it is now"
            assert next(process.stdout).endswith(":12:07 role VI_1 backup: haproxy2 handed over\n")
            assert next(process.stdout).startswith("no daemon answers since ")
        with daemon(tmp_path, changes=[second]):
            assert until(process.stdout, "2025-11-29").endswith("role VI_1 master: \\x1b[2Kevil\n")


def test_watch_of_one_instance_leaves_out_what_is_about_others(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, changes=[change("backup", name="other"), change("backup")]),
        watching(tmp_path, "VI_1") as process,
    ):
        assert process.stdout
        assert until(process.stdout, "2025-11-29").endswith(" VI_1 backup: haproxy2 handed over\n")


def test_watch_in_a_pipe_says_that_the_daemon_hangs(tmp_path: Path) -> None:
    with watching(tmp_path) as process, socket.socket(socket.AF_UNIX) as listener:
        assert process.stdout
        listener.bind(str(tmp_path / "floatip.sock"))
        listener.listen()
        first, _ = listener.accept()
        first.sendall(ANSWER)
        watcher, _ = listener.accept()  # and it hangs
        assert "does not answer since" in until(process.stdout, "the floatip daemon at ")
        first.close()
        watcher.close()


@contextmanager
def on_a_terminal(directory: Path, *options: str, **environment: str) -> Iterator[tuple[Popen[bytes], int]]:
    """The process, and our end of its terminal of 80 columns and 24 lines."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    arguments = [sys.executable, "-m", "floatip", "status", *options]
    everything = {**os.environ, "RUNTIME_DIRECTORY": str(directory), "TERM": "xterm", **environment}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        everything.pop(name, None) if name not in environment else None
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=everything) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, *what: bytes) -> bytes:
    """All that came until all of it has come."""
    seen = b""
    while not all(each in seen for each in what):
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # the process has ended
            raise AssertionError(seen) from None
    return seen


def test_a_terminal_gets_colours_and_a_pipe_none(tmp_path: Path) -> None:
    with daemon(tmp_path):
        with on_a_terminal(tmp_path) as (_, terminal):
            read_until(terminal, b"\x1b[1mVI_1\x1b[0m", b"\x1b[32mMASTER for")
        with on_a_terminal(tmp_path, NO_COLOR="1") as (_, terminal):
            assert b"\x1b" not in read_until(terminal, b"route servers")
        with on_a_terminal(tmp_path, TERM="dumb") as (_, terminal):
            assert b"\x1b" not in read_until(terminal, b"route servers")


def test_watch_has_the_whole_terminal_and_gives_it_back_after_a_restart_and_ctrl_c(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, "--watch") as (process, terminal):
        assert b"\x1b[?1049h" in read_until(terminal, b"no daemon answers since", b"hint: ")
        with daemon(tmp_path):
            read_until(terminal, b"VI_1", b"goes to this node")
        read_until(terminal, b"no daemon answers since")
        with daemon(tmp_path):
            read_until(terminal, b"goes to this node")
            process.send_signal(signal.SIGINT)  # a Ctrl-C written here would also flush what the terminal has not shown
            read_until(terminal, b"\x1b[?1049l", b"\x1b[?25h")
            assert process.wait(60) == 130


def test_a_screen_that_is_too_low_says_how_many_lines_are_missing(tmp_path: Path) -> None:
    answer = json.loads(ANSWER)
    answer["instances"] = [answer["instances"][0] | {"name": f"VI_{number}"} for number in range(4)]
    with daemon(tmp_path, json.dumps(answer).encode() + b"\n"), on_a_terminal(tmp_path, "--watch") as (_, terminal):
        read_until(terminal, b"more lines: floatip status")


def test_watch_on_a_dumb_terminal_prints_a_line_a_change(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, changes=[change("backup")]),
        on_a_terminal(tmp_path, "--watch", TERM="dumb") as (_, terminal),
    ):
        assert b"\x1b" not in read_until(terminal, b"role VI_1 backup: haproxy2 handed over")


# One line for a monitoring plug-in


def brief(monkeypatch: pytest.MonkeyPatch, directory: Path, status: Status) -> tuple[int, str]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(directory))
    with daemon(directory, json.dumps(as_data(status)).encode() + b"\n"):
        return floatip("status", "--brief")


def problem(severity: str, what: str = "web is not healthy") -> ProblemView:
    return ProblemView("unhealthy", severity, "web", what, "", None)


@pytest.mark.parametrize(
    ("severities", "code", "begins"),
    [
        ([], 0, "FLOATIP OK - VI_1 MASTER | problems=0;;0;0 warnings=0;0;;0 "),
        ([Severity.NOTE], 0, "FLOATIP OK - VI_1 MASTER | "),
        (
            [Severity.WARNING],
            1,
            "FLOATIP WARNING - web is not healthy [unhealthy]; VI_1 MASTER | problems=0;",
        ),
        ([Severity.PROBLEM, Severity.WARNING], 2, "FLOATIP CRITICAL - web is not healthy and 1 more like"),
        ([Severity.PROBLEM] * 9, 2, "FLOATIP CRITICAL - web"),
    ],
)
def test_the_brief_line_is_that_of_a_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, severities: list[str], code: int, begins: str
) -> None:
    problems = tuple(map(problem, severities))
    status, line = brief(monkeypatch, tmp_path, replace(WELL, problems=problems))
    assert status == code
    assert line.startswith(begins)
    assert line.count("\n") == 1
    assert ("and 8 more like this [unhealthy]; VI_1 MASTER" in line) == (len(problems) == 9)
    assert line.endswith(" instances=1;;;0 master=1;;;0 route_servers=1;;;0;1\n")


def test_nothing_in_an_answer_makes_the_brief_line_longer_or_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = problem("problem", "x | y=1\nOK\x1b[2K\t" + "z" * 9000)
    status, line = brief(monkeypatch, tmp_path, replace(WELL, problems=(evil,) * 9))
    assert status == 2
    assert "x \\x7c y=1\\nOK\\x1b[2K\\t" in line
    assert (line.count("|"), line.count("\n")) == (1, 1)
    assert len(line) < 700


def test_many_instances_are_counted_in_the_brief_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = WELL.instances
    there = replace(one, role=replace(one.role, value="backup"))
    instances = tuple(replace(one if n % 2 else there, name=f"web{n}") for n in range(255))
    _, line = brief(monkeypatch, tmp_path, replace(WELL, instances=instances))
    assert line.startswith("FLOATIP OK - 128 BACKUP, 127 MASTER | ")


def test_the_brief_line_says_who_serves_where_another_node_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = WELL.instances
    backup = replace(one, role=replace(one.role, value="backup"), rank=replace(one.rank, value="standby"))
    nodes = (own(), node("haproxy2", carries=(CarriedView("VI_1", "active"),)))
    _, line = brief(monkeypatch, tmp_path, replace(WELL, instances=(backup,), nodes=nodes))
    assert line.startswith("FLOATIP OK - VI_1 BACKUP (haproxy2 serves) | ")


def test_without_a_daemon_the_brief_line_is_critical_and_where_nobody_may_ask_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    status, line = floatip("status", "--brief")
    assert status == 2
    assert line == f"FLOATIP CRITICAL - no floatip daemon answers at {tmp_path}/floatip.sock\n"
    with daemon(tmp_path, b'{"instances": 1}\n'):
        status, line = floatip("status", "--brief")
    assert (status, line.count("\n")) == (3, 1)
    assert line.startswith("FLOATIP UNKNOWN - the daemon is of another version")
    refused = b'{"error": "user 5 may not ask", "hint": "", "forbidden": true}\n'
    with daemon(tmp_path, refused):
        assert floatip("status", "--brief") == (3, "FLOATIP UNKNOWN - user 5 may not ask\n")


@pytest.mark.parametrize("option", ["--json", "--watch", "INSTANCE"])
def test_the_brief_line_is_one_line_of_text_for_the_whole_node(option: str) -> None:
    status, told = floatip("status", "--brief", option)
    assert status == 2
    assert f"--brief and {option} exclude each other" in told


def test_an_instance_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (one,) = WELL.instances
    two = replace(WELL, instances=(one, replace(one, name="VI_2")), problems=())
    with daemon(tmp_path, json.dumps(as_data(two)).encode() + b"\n"):
        code, told = floatip("status", "VI_2")
        assert code == 0
        assert ("VI_2  MASTER" in told, "VI_1  MASTER" in told) == (True, False)
        assert [each["name"] for each in json.loads(floatip("status", "VI_2", "--json")[1])["instances"]] == ["VI_2"]
        code, told = floatip("status", "VI_3")
        assert code == 2
        assert told == "error: this node has no instance VI_3 [unknown-name]\nhint: it has VI_1, VI_2\n"


def test_watch_with_json_leaves_stdout_to_json(tmp_path: Path) -> None:
    with watching(tmp_path, "--json") as process:
        assert process.stderr
        assert process.stdout
        assert until(process.stderr, "no daemon answers")
        with daemon(tmp_path):
            assert next(process.stdout) == "{\n"


def test_nodes_can_be_watched_too(tmp_path: Path) -> None:
    with watching(tmp_path, command="nodes") as process:
        assert process.stdout
        assert until(process.stdout, "no daemon answers")
        with daemon(tmp_path, with_nodes(own(), node("haproxy2"))):
            assert until(process.stdout, "haproxy2") == until(process.stdout, "haproxy2")
