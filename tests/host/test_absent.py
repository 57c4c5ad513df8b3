"""Why no daemon answers: what `floatip status` makes of what systemd, the journal and the files say."""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from floatip import absent
from tests.command_line import floatip

STOPPED_AT = 0
"""A little more than two minutes ago."""
RUNS = "{ path=/usr/bin/floatip ; argv[]=/usr/bin/floatip run ; }"
SOUND = """
[linode]
dcid = 6

[[instance]]
name = "web"
addresses = ["203.0.113.10/32"]
static = "primary"
"""
FAKE = """\
#!/bin/sh
echo "$0 $*" >>{directory}/asked
{line}
"""


@dataclass
class World:
    """What a machine says, through programs of the names that are asked."""

    directory: Path
    config: Path
    flags: Path

    def systemctl(self, **units: dict[str, object]) -> None:
        names = ("floatip", "floatip_lelastic", "lelastic", "keepalived")
        blocks = []
        for name in names:
            known = {"Id": f"{name.replace('_', '-')}.service", "LoadState": "not-found", "ActiveState": "inactive"}
            unit = known | {"SubState": "dead"} | units.get(name, {})
            blocks.append("".join(f"{key}={value}\n" for key, value in unit.items()))
        (self.directory / "units").write_text("\n".join(blocks))
        self.program("systemctl", f"cat {self.directory}/units")

    def journalctl(self, **messages: str | list[int]) -> None:
        """By a word of what is asked for."""
        entries = [
            (word, json.dumps({"MESSAGE": message, "__REALTIME_TIMESTAMP": str(STOPPED_AT * 1_000_000)}))
            for word, message in messages.items()
        ]
        for word, entry in entries:
            (self.directory / f"of-{word}").write_text(f"{entry}\nno JSON\n[]\n")
        cases = "".join(f"*{word}*) cat {self.directory}/of-{word} ;;" for word, _ in entries)
        self.program("journalctl", f'case "$*" in {cases} esac')

    def program(self, name: str, line: str) -> None:
        path = self.directory / "bin" / name
        path.write_text(FAKE.format(directory=self.directory, line=line))
        path.chmod(0o755)

    def status(self, *words: str) -> list[str]:
        absent._latest = None
        code, text = floatip(*(words or ("status",)))
        assert code == 3, text
        assert text.startswith(f"error: no floatip daemon answers at {self.directory}/floatip.sock [no-daemon]\n  ")
        return [line.removeprefix("  ") for line in text.rstrip("\n").split("\n")[1:]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    it = World(tmp_path, tmp_path / "floatip.toml", tmp_path / "lelastic")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(absent, "DEFAULT_CONFIG", str(it.config))
    monkeypatch.setattr(absent, "FLAGS", str(it.flags))
    monkeypatch.setattr(absent, "SYSTEMD", str(tmp_path))
    it.config.write_text(SOUND)
    it.journalctl()
    return it


def unit(state: str = "inactive", **more: object) -> dict[str, object]:
    return {"LoadState": "loaded", "ActiveState": state, "UnitFileState": "enabled", "ExecStart": RUNS} | more


def at(seconds: float) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(seconds))


@pytest.fixture(autouse=True)
def two_minutes_ago() -> None:
    """Of the test: it may run long after it was read."""
    global STOPPED_AT
    STOPPED_AT = int(time.time()) - 125


def test_who_stopped_it_and_when(world: World) -> None:
    world.systemctl(
        floatip=unit(
            ActiveExitTimestamp=f"@{STOPPED_AT - 3}", InactiveEnterTimestamp=f"@{STOPPED_AT}", ExecMainStatus=0
        )
    )
    world.journalctl(sudo="   alice : TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/systemctl stop floatip")
    assert world.status() == [
        f"floatip.service was stopped {at(STOPPED_AT)}, 2 min ago by alice: /usr/bin/systemctl stop floatip",
        "hint: systemctl start floatip",
    ]
    world.journalctl(sudo="   alice : TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/systemctl stop nginx")
    assert world.status()[0] == f"floatip.service was stopped {at(STOPPED_AT)}, 2 min ago"


def test_a_stop_that_systemd_forgot_is_in_the_journal(world: World) -> None:
    world.systemctl(floatip=unit(UnitFileState="disabled", InactiveEnterTimestamp=""))
    assert world.status()[0] == "floatip.service does not run, and no start since the boot is known"
    world.journalctl(JOB_TYPE="Stopped floatip.service.")
    assert world.status() == [
        f"floatip.service was stopped {at(STOPPED_AT)}, 2 min ago",
        "floatip.service is disabled: it does not start at boot (systemctl enable floatip)",
        "hint: systemctl start floatip",
    ]


@pytest.mark.parametrize(
    ("result", "code", "status", "how"),
    [
        ("exit-code", 1, 70, "exit status 70, a bug"),
        ("signal", 2, 11, "killed by SIGSEGV"),
        ("watchdog", 2, 9, "it hung, and the watchdog killed it; killed by SIGKILL"),
        ("never heard of", 0, 0, "never heard of"),
    ],
)
def test_how_it_failed_and_what_it_said_at_last(world: World, result: str, code: int, status: int, how: str) -> None:
    ended = {"ExecMainCode": code, "ExecMainStatus": status, "Result": result}
    world.systemctl(floatip=unit("failed", InactiveEnterTimestamp=f"@{STOPPED_AT}", **ended))
    world.journalctl(_SYSTEMD_UNIT="Traceback\nof\nour\nown\n\x1b]0;x\x07\n" + "y" * 1000)
    assert world.status() == [
        f"floatip.service failed {at(STOPPED_AT)}, 2 min ago: {how}",
        "the last lines of its journal:",
        *("  our", "  own", "  \\x1b]0;x\\x07", f"  {'y' * absent.LONGEST}"),
        "hint: read why: journalctl -u floatip -n 50",
    ]


def test_it_is_started_again_and_again(world: World) -> None:
    ended = {"SubState": "auto-restart", "ExecMainCode": 1, "ExecMainStatus": 75, "NRestarts": 7}
    world.systemctl(floatip=unit("activating", **ended))
    world.journalctl(_SYSTEMD_UNIT=list(b"b\x80d"))
    assert world.status()[:3] == [
        "floatip.service has ended, and systemd starts it again (7 restarts so far): "
        "exit status 75, this machine is not ready, and may be later",
        "the last lines of its journal:",
        "  b�d",
    ]


def test_the_errors_of_the_file_are_named(world: World) -> None:
    world.config.write_text("".join(f"wrong{number} = 1\n" for number in range(5)) + SOUND)
    world.systemctl(floatip=unit("failed", ExecMainCode=1, ExecMainStatus=2, InactiveEnterTimestamp=f"@{STOPPED_AT}"))
    world.journalctl(_SYSTEMD_UNIT="the same errors")
    first, *errors, more, hint = world.status()
    assert first.endswith("ago: exit status 2, the configuration is wrong")
    assert [line for line in errors if not line.startswith("  ")] == [
        f"{world.config}:{number}: wrong{number - 1}: unknown key" for number in (1, 2, 3)
    ]
    assert more == "and 2 more errors"
    assert hint == "hint: mend the file: floatip check; then: systemctl start floatip"


def test_a_file_that_hangs_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()
    monkeypatch.setattr(absent, "READ_TIMEOUT", 0.1)
    monkeypatch.setattr(absent, "_read", lambda: (over.wait(60), []))
    world.systemctl(floatip=unit(InactiveEnterTimestamp=f"@{STOPPED_AT}"))
    assert world.status()[1:] == [
        f"{world.config} could not be read and checked within 0.1 s",
        "hint: systemctl start floatip",
    ]
    over.set()


def test_a_masked_unit_and_one_that_is_not_there(world: World) -> None:
    world.systemctl(floatip={"LoadState": "masked", "InactiveEnterTimestamp": f"@{STOPPED_AT}"})
    assert world.status() == [
        "floatip.service is masked, so nothing can start it",
        f"stopped {at(STOPPED_AT)}, 2 min ago",
        "hint: systemctl unmask floatip; systemctl start floatip",
    ]
    world.systemctl()
    assert world.status()[0] == "there is no unit floatip.service"


def test_a_node_that_was_never_configured_is_told_how_to_begin(world: World) -> None:
    world.config.unlink()
    world.systemctl(floatip=unit())
    assert world.status() == [
        f"this node is not configured: there is no {world.config}",
        "hint: floatip adopt, or floatip init",
    ]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("floatip-lelastic", "/usr/bin/floatip-lelastic $OPTIONS"),
        ("lelastic", "/usr/local/bin/floatip-lelastic -dcid 6 -primary"),
        ("lelastic", "/usr/bin/floatip lelastic -dcid 6"),
    ],
)
def test_a_node_in_lelastic_mode_is_not_told_to_adopt(world: World, name: str, command: str) -> None:
    world.config.unlink()
    if name != "lelastic":
        world.flags.touch()
    stopped = unit(InactiveEnterTimestamp=f"@{STOPPED_AT}", ExecStart=f"{{ path=x ; argv[]={command} ; }}")
    world.systemctl(**{name.replace("-", "_"): stopped})
    mode = f"this node is in lelastic mode: {name}.service announces, and floatip elects and checks nothing here"
    was = f"{name}.service was stopped {at(STOPPED_AT)}, 2 min ago"
    assert world.status() == [was, mode, f"hint: systemctl start {name}"]
    world.systemctl(**{name.replace("-", "_"): stopped}, keepalived=unit("active"))
    *_, script, hint = world.status()
    assert script == "a notify script of keepalived may start and stop it: then a standby announces nothing"
    assert hint == f"hint: is this node to announce? journalctl -u keepalived -n 20; if it is: systemctl start {name}"


def test_lelastic_itself_is_nothing_of_ours(world: World) -> None:
    world.config.unlink()
    world.systemctl(lelastic=unit("active", ExecStart="{ path=/usr/local/bin/lelastic ; argv[]=lelastic -dcid 6 ; }"))
    assert world.status()[0] == f"this node is not configured: there is no {world.config}"


def test_a_wrong_flag_is_named_and_not_the_flags_that_there_are(world: World) -> None:
    world.config.unlink()
    world.flags.touch()
    world.systemctl(floatip_lelastic=unit("failed", ExecMainCode=1, ExecMainStatus=2, InactiveEnterTimestamp="@1"))
    usage = subprocess.run(
        [sys.executable, "-m", "floatip", "lelastic", "-role"], capture_output=True, text=True, check=False
    ).stderr
    world.journalctl(_SYSTEMD_UNIT=usage)
    assert world.status()[2:-1] == ["the last lines of its journal:", "  flag provided but not defined: -role"]


def test_where_keepalived_elects_that_is_said(world: World) -> None:
    follows = 'keepalived = { interface = "eth0", vrid = 51, priority = 100, source = "203.0.113.1" }'
    world.config.write_text(SOUND.replace('static = "primary"', follows))
    world.systemctl(floatip=unit(InactiveEnterTimestamp=f"@{STOPPED_AT}"), keepalived=unit("active"))
    fact = "keepalived elects on this node (keepalived.service is active); without floatip this node announces nothing"
    assert fact in world.status()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("exec sleep 60", "systemd does not answer"),
        ("exit 1", "systemd does not answer"),
        ("head -c 100000 /dev/urandom", "systemd does not answer"),
        ("kill -9 $$", "systemd does not answer"),
    ],
)
def test_a_systemd_that_hangs_or_talks_nonsense_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, line: str, why: str
) -> None:
    monkeypatch.setattr(absent, "TIMEOUT", 0.2 if "sleep" in line else 60.0)
    world.program("systemctl", line)
    world.program("journalctl", line)
    assert world.status()[0] == why


def test_a_journal_that_hangs_leaves_out_what_it_would_have_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.systemctl(floatip=unit(InactiveEnterTimestamp=f"@{STOPPED_AT}", ActiveExitTimestamp=f"@{STOPPED_AT}"))
    world.program("journalctl", "exec sleep 60")
    answered = absent._output
    monkeypatch.setattr(absent, "_output", lambda command: answered(command) if command[0] == "systemctl" else "")
    assert world.status()[0] == f"floatip.service was stopped {at(STOPPED_AT)}, 2 min ago"


def test_without_systemd_the_processes_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent, "SYSTEMD", "/nowhere")
    with subprocess.Popen(["/bin/sh", "-c", "read line; exit 0", "/usr/bin/floatip", "run"], stdin=-1) as daemon:
        first, hint = world.status()
        assert first.startswith("systemd does not run here, and process ")
        assert str(daemon.pid) in re.findall(r"\d+", first)
        assert "RUNTIME_DIRECTORY" in hint
        assert daemon.stdin
        daemon.stdin.close()


def test_json_and_nodes_say_it_on_stderr_and_stdout_has_nothing(world: World) -> None:
    world.systemctl(floatip=unit(InactiveEnterTimestamp=f"@{STOPPED_AT}"))
    assert world.status("nodes") == world.status()
    environment = {"RUNTIME_DIRECTORY": str(world.directory), "PATH": f"{world.directory}/bin:/usr/bin:/bin"}
    for command in ("status", "nodes"):
        done = subprocess.run(
            [sys.executable, "-m", "floatip", command, "--json"], capture_output=True, env=environment, check=False
        )
        assert (done.returncode, done.stdout) == (3, b"")


def test_a_command_that_is_repeated_asks_systemd_only_now_and_then(world: World) -> None:
    world.systemctl(floatip=unit(InactiveEnterTimestamp=f"@{STOPPED_AT}"))
    world.status()
    asked = (world.directory / "asked").read_text()
    assert floatip("status")[0] == 3
    assert (world.directory / "asked").read_text() == asked
