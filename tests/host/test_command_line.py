"""The help, the options of each command, what is said of wrong ones, and what a command loads."""

import builtins
import json
import os
import re
import shlex
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from floatip import init, key, plan, prompts
from floatip.adopt import command as adoption
from floatip.adopt.plan import Wishes
from floatip.arguments import parse
from floatip.commands import COMMANDS, Number, Option
from floatip.core.snapshot import describe
from floatip.core.state import as_data
from floatip.lab import runner
from floatip.observing import prober
from tests.command_line import floatip
from tests.core.host import master

NEEDED = {"observe": ["x"], "fleet": ["members"]}
"""Arguments without which a command is none."""
PARSED = [name for name in COMMANDS if name not in ("notify", "lelastic")]
LIBRARIES = {"argparse"}


def test_the_help_lists_the_commands_in_the_order_of_daily_use() -> None:
    status, alone = floatip()
    assert status == 2
    assert floatip("--help") == floatip("-h") == (0, alone)
    listed = [line.split()[0] for line in alone.splitlines() if line.startswith("  ") and "--" not in line]
    daily = ["status", "nodes", "history", "explain", "drain", "undrain", "handover", "rebalance"]
    daily += ["pause", "resume", "check", "doctor", "plan", "fleet", "observe", "drill"]
    others = ["adopt", "convert", "init", "key", "share", "run", "lelastic", "notify", "lab", "help", "providers"]
    assert listed == [*daily, *others]
    assert all(len(line) <= 80 and line.isascii() for line in alone.splitlines())


@pytest.mark.parametrize("name", PARSED)
def test_the_help_of_a_command_fits_and_says_how_it_exits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status, shown = floatip(name, "--help")
    assert status == 0
    assert all(len(line) <= 80 and line.isascii() for line in shown.splitlines()), shown
    _, _, exits = shown.partition("\nexit status:\n")
    assert exits.count("\n") == len(COMMANDS[name].exits)
    assert name == "providers" or "  0   " in exits
    for option in COMMANDS[name].options:
        assert all(f" {form}" in shown for form in option.names), shown


@pytest.mark.parametrize("name", PARSED)
def test_a_command_takes_the_options_that_its_help_lists(name: str) -> None:
    options = parse(COMMANDS[name], NEEDED.get(name, []))
    signature(COMMANDS[name].run).bind(**options)


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/operate").glob("*.md"))]


def shown_commands(page: Path) -> list[str]:
    """Of floatip: lines of blocks, and in a line of text."""
    *texts, last = page.read_text().split("```")
    lines = [line for block in texts[1::2] for line in block.splitlines()]
    lines += [code for text in (*texts[::2], last) for code in re.findall(r"`([^`]+)`", text)]
    parts = [part.strip().removeprefix("sudo ") for line in lines for part in re.split(r"&&| \| ", line)]
    return [part.partition("  #")[0].partition(" > ")[0] for part in parts if part.startswith("floatip ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_that_a_page_shows_can_be_given(page: Path) -> None:
    shown = shown_commands(page)
    assert shown
    for line in shown:
        name, *arguments = shlex.split(line)[1:]
        if name in PARSED:
            signature(COMMANDS[name].run).bind(**parse(COMMANDS[name], arguments))
        else:
            assert name in (*COMMANDS, "--version"), line


def called(monkeypatch: pytest.MonkeyPatch, module: object, name: str, *arguments: str) -> dict[str, Any]:
    """What the function of the module is called with, by name."""
    function: Callable[..., Any] = getattr(module, name)
    got: list[dict[str, Any]] = []

    def record(*given: Any, **named: Any) -> int:
        bound = signature(function).bind(*given, **named)
        bound.apply_defaults()
        got.append(bound.arguments)
        return 0

    monkeypatch.setattr(module, name, record)
    assert floatip(*arguments) == (0, "")
    return got[0]


def test_observe_hands_over_each_option(monkeypatch: pytest.MonkeyPatch) -> None:
    by_default = {
        "address": "192.0.2.1", "port": 80, "interval": 0.1, "timeout": 1.0, "duration": None, "count": None,
        "as_json": False, "probes": False, "request": "http", "path": "/",
    }  # fmt: skip
    assert called(monkeypatch, prober, "observe", "observe", "192.0.2.1") == by_default
    monkeypatch.undo()
    line = "observe --port=81 --interval 1 --timeout 2 --duration 3 --count 4 --json x --probes --request tcp --path /"
    assert list(called(monkeypatch, prober, "observe", *line.split()).values()) == [
        "x", 81, 1.0, 2.0, 3.0, 4, True, True, "tcp", "/",
    ]  # fmt: skip


def test_plan_hands_over_each_option(monkeypatch: pytest.MonkeyPatch) -> None:
    got = called(monkeypatch, plan, "plan", "plan", "f", "--without", "a", "--json", "--without", "b")
    assert got == {"file": Path("f"), "without": ["a", "b"], "as_json": True}


def test_adopt_hands_over_each_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    line = "adopt --instance a --dcid 9999 --instance b --notify --force --config k.conf --dry-run"
    got = called(monkeypatch, adoption, "adopt", *line.split())
    assert got.pop("system")
    assert got == {
        "wishes": Wishes(9999, ("a", "b"), True, True),
        "config": f"{tmp_path}/k.conf",
        "dry_run": True,
        "yes": False,
    }
    monkeypatch.undo()
    got = called(monkeypatch, adoption, "adopt", "adopt", "--yes")
    assert (got["wishes"], got["config"], got["yes"]) == (Wishes(None, (), False, False), None, True)
    monkeypatch.undo()
    got = called(monkeypatch, adoption, "undo", "adopt", "--undo", "--yes", "--force")
    assert (got["dry_run"], got["yes"], got["force"]) == (False, True, True)


@pytest.mark.parametrize("option", ["--config x", "--config=", "--dcid 6", "--instance VI_1", "--notify"])
def test_undo_refuses_the_options_that_it_does_not_use(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "undo", lambda *_, **options: 0)
    status, said = floatip("adopt", "--undo", "--yes", *option.split())
    name = option.split(maxsplit=1)[0].removesuffix("=")
    assert status == 2
    assert (
        f"error: --undo restores what the last adoption changed: {name} means nothing beside it [usage]\nhint: " in said
    )


def test_init_hands_over_each_option(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "init --dcid a --node b=1 --address c --node d=2 --check e --prefer f --file g"
    got = called(monkeypatch, init, "init", *line.split())
    assert got.pop("system")
    given = {"dcid": "a", "nodes": ["b=1", "d=2"], "addresses": "c", "check": "e", "prefer": "f"}
    assert got == {"given": given, "file": Path("g")}


def test_key_takes_one_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(monkeypatch, key, "write", "key") == {"file": Path("/etc/floatip/key"), "step": ""}
    for step in ("--next", "--use-next", "--drop-old"):
        monkeypatch.undo()
        assert called(monkeypatch, key, "write", "key", step, "/a/key") == {"file": Path("/a/key"), "step": step}
    monkeypatch.undo()
    status, said = floatip("key", "--drop-old", "--next")
    assert (status, said.splitlines()[0]) == (2, "error: --next and --drop-old exclude each other [usage]")


def test_lab_hands_over_each_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floatip.lab.namespaces.enter", lambda command: None)
    line = "lab --route-server bird --hold-time 3 crash --advert-interval 0.5 --runs 2 --json --keep --report a.html"
    got = called(monkeypatch, runner, "play", *line.split())
    assert got["names"] == ["crash"]
    assert (got["runs"], got["as_json"], got["keep"], got["report"]) == (2, True, True, Path("a.html"))
    options = got["options"]
    assert (options.bird, options.hold_time, options.advert_interval) == (True, 3, 0.5)
    assert (options.delay, options.connections, options.second_chance) == (0, 500, "off")
    monkeypatch.undo()
    monkeypatch.setattr("floatip.lab.namespaces.enter", lambda command: None)
    line = "lab connections-stop --delay 20 --connections 100 --second-chance on"
    options = called(monkeypatch, runner, "play", *line.split())["options"]
    assert (options.delay, options.connections, options.second_chance) == (0.02, 100, "on")


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("statu", "unknown command statu", "did you mean status? See: floatip --help"),
        ("xyz", "unknown command xyz", "floatip --help"),
        ("--versio", "unknown option --versio", "did you mean --version? See: floatip --help"),
        ("status --wach", "unknown option --wach", "did you mean --watch? See: floatip status --help"),
        ("observe --prot=80", "unknown option --prot", "did you mean --port? See: floatip observe --help"),
        ("run --xyz x", "unknown option --xyz", "floatip run --help"),
        ("run a b", "unrecognized arguments: b", "floatip run --help"),
        ("status -q", "unrecognized arguments: -q", "floatip status --help"),
        ("observe", "the floating IP is missing", "give it, or --join to wait for drills: floatip observe --help"),
        (
            "observe x --join",
            "ADDRESS means nothing beside --join",
            "the drill says what to probe: floatip observe --join [ADDRESS:PORT]",
        ),
        (
            "observe --join --json",
            "--json means nothing beside --join",
            "the drill says what to probe: floatip observe --join [ADDRESS:PORT]",
        ),
        ("observe x --name y", "--name is only for --join", "floatip observe --help"),
        ("observe --join a:b", "'a:b' is not a host with a port from 1 to 65535", "floatip observe --help"),
        ("observe x --port y", "--port: 'y' is not a whole number from 1 to 65535", "floatip observe --help"),
        ("observe x --interval y", "--interval: 'y' is not a number from 0.002 to 3600", "floatip observe --help"),
        ("adopt --dcid 1", "--dcid: '1' is not a whole number from 2 to 9999", "floatip adopt --help"),
        ("adopt --dcid 10000", "--dcid: '10000' is not a whole number from 2 to 9999", "floatip adopt --help"),
        ("lab nope", "there is no scene 'nope'", "floatip lab --list shows the scenes"),
    ],
)
def test_wrong_arguments_are_named_and_exit_with_2(line: str, error: str, hint: str) -> None:
    assert floatip(*line.split()) == (2, f"error: {error} [usage]\nhint: {hint}\n")


NUMBERS = [
    (name, option, option.read)
    for name, command in COMMANDS.items()
    for option in command.options
    if isinstance(option.read, Number)
]


def test_each_option_that_takes_a_number_has_a_range() -> None:
    named = {(name, option.names[0]) for name, option, _ in NUMBERS}
    assert named == {
        ("observe", "--port"), ("observe", "--interval"), ("observe", "--timeout"), ("observe", "--duration"),
        ("observe", "--count"), ("adopt", "--dcid"), ("run", "--dcid"), ("check", "--dcid"), ("convert", "--dcid"),
        ("lab", "--hold-time"), ("lab", "--advert-interval"), ("lab", "--delay"), ("lab", "--connections"),
        ("lab", "--runs"), ("share", "--linode"),
        ("drill", "--for"), ("drill", "--port"), ("drill", "--interval"), ("fleet", "--version"),
    }  # fmt: skip
    reads = {option.read for command in COMMANDS.values() for option in command.options}
    assert not reads & {int, float}


@pytest.mark.parametrize(("name", "option", "number"), NUMBERS, ids=lambda value: getattr(value, "names", [""])[0])
def test_a_number_outside_of_its_range_is_refused_before_anything_happens(
    name: str, option: Option, number: Number
) -> None:
    positional = NEEDED.get(name, [])
    for text in (str(number.least - 1), str(number.most + 1), "nan", "inf", "-inf", "", "1e400", "9" * 5000):
        status, said = floatip(name, *positional, f"{option.names[0]}={text}")
        assert (status, said.splitlines()[0].endswith(f"from {number.least} to {number.most} [usage]")) == (2, True), (
            said
        )
        assert said.startswith(f"error: {option.names[0]}: {text!r} is not a "), said
    for edge in (number.least, number.most):
        assert parse(COMMANDS[name], [*positional, f"{option.names[0]}={edge}"])


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_ctrl_c_and_ctrl_d_end_a_command(
    raised: type[BaseException], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> int:
        raise raised

    monkeypatch.setattr(COMMANDS["providers"], "run", interrupted)
    assert floatip("providers")[0] == status


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that a terminal shows."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "floatip", *arguments]
    with open(ours, "rb", buffering=0) as screen, subprocess.Popen(command, stdout=theirs, env=environment) as running:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: nobody has the other end any more
            while part := screen.read(4096):
                shown += part
        running.wait(60)
    return shown.decode().replace("\r\n", "\n").splitlines()


WEB = """\
[[instance]]
name = "web"
addresses = ["192.0.2.10/32"]
vrrp = { interface = "nowhere0", vrid = 51, source = "198.18.0.1", peers = ["198.18.0.2"] }
"""


def test_check_folds_its_lines_at_the_width_of_a_terminal_and_not_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(WEB)
    _, piped = floatip("check", str(tmp_path / "a.toml"))
    whole = piped.splitlines()
    assert max(map(len, whole)) > 90
    narrow = on_a_terminal(60, "check", str(tmp_path / "a.toml"))
    assert all(len(line) <= 60 or len(line.split()) == 1 for line in narrow), narrow
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(whole).split())
    hint = next(number for number, line in enumerate(narrow) if line.startswith("  hint: "))
    assert narrow[hint + 1].startswith(" " * 8)
    assert on_a_terminal(10, "check", str(tmp_path / "a.toml")) == whole, "nothing fits"


WRITERS = ["providers", "--help", "check --help", "check /nowhere", "notify --help", "lab --list"]


def with_stdout(line: str, stdout: int, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    command = [sys.executable, "-m", "floatip", *line.split()]
    done = subprocess.run(command, stdout=stdout, stderr=stderr, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("line", WRITERS)
def test_a_reader_that_has_gone_is_silent(line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert with_stdout(line, writer) == (74, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("line", WRITERS)
def test_a_full_disk_is_named(line: str) -> None:
    with open("/dev/full", "w") as full:
        assert with_stdout(line, full.fileno()) == (74, "error: cannot write: no space left on device\n")
        assert with_stdout(line, full.fileno(), full.fileno())[0] == 74


@pytest.mark.parametrize("length", [10, 100_000])
def test_adopt_tells_a_full_disk_from_a_file_that_it_cannot_read(length: int) -> None:
    """Also where the output is larger than the buffers, which then do not keep it."""
    program = f"""\
import os, sys
from floatip import cli
from floatip.adopt import command
os.geteuid = lambda: 0
command.look_at = lambda *given: command._show("x" * {length})
sys.exit(cli.main(["adopt", "--dry-run"]))"""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (74, "error: cannot write: no space left on device\n")


def test_what_explains_an_error_stands_above_it_also_in_a_pipe() -> None:
    line = "from floatip.text import say; print('what is so'); say('error: what is wrong')"
    command = [sys.executable, "-c", line]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, **pipes, env=buffered, timeout=60, check=False)
    assert done.stdout == "what is so\nerror: what is wrong\n"


@pytest.mark.parametrize(
    ("line", "status"), [("run /nowhere/floatip.toml", 2), ("lelastic -h", 0), ("notify Bogus", 2)]
)
def test_what_systemd_and_keepalived_start_loads_no_library_of_the_command_line(line: str, status: int) -> None:
    program = f"import sys; from floatip import cli; code = cli.main({line.split()}); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    code, *loaded = done.stdout.split()
    assert (int(code), LIBRARIES & set(loaded)) == (status, set())


def test_status_does_not_load_the_daemon() -> None:
    """And none of what explains that there is no daemon, where there is one."""
    program = """
import json, sys
from floatip import cli
from floatip.host import ask
answer = json.load(sys.stdin)
ask.ask = lambda *_: answer
cli.main(["status"])
print(*sys.modules)
"""
    answer = json.dumps(as_data(describe(master().node, 100.0)))
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    done = subprocess.run(command, input=answer, stdout=pipe, stderr=pipe, text=True, timeout=60, check=True)
    loaded = done.stdout.split()
    assert "floatip.view" in loaded, done
    assert not {"asyncio", "difflib", "subprocess", "floatip.absent"} & set(loaded)


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    rest = iter(lines)
    monkeypatch.setattr(builtins, "input", lambda: next(rest))


def test_questions_are_asked_again_until_they_are_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "", "  ", " eth0 ", "", "perhaps", "Y", "")
    assert prompts.ask("Interface") == "eth0"
    assert prompts.ask("Interface", "eth1") == "eth1"
    assert [prompts.confirm("Do this?"), prompts.confirm("Do this?")] == [True, False]
    printed = capsys.readouterr()
    assert printed.out == "", "stdout may be a file"
    assert (
        "Interface: Interface: Interface: Interface [eth1]: Do this? (y or n) [n]: error: answer y or n\n"
        in printed.err
    )


def test_ctrl_c_at_a_question_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "input", interrupted)
    with pytest.raises(EOFError):
        prompts.ask("Interface")
