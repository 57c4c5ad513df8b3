"""Commands with the rights of another user: with real users, by setpriv(1)."""

import asyncio
import grp
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest

from floatip.core.events import CheckDone, Probe
from floatip.host import run_as
from floatip.host.checks import Probes
from floatip.model import DAEMON, RunAs, Script
from floatip.reading.rules.run_as import DROP_IN
from tests.host.reports import Reports, close
from tests.host.users import as_user

WHO = 'echo "$(id -u) $(id -g) $(id -G) $(grep CapPrm /proc/self/status | tr -d [:space:])"; exit 1'
SECOND = grp.getgrnam("daemon")


def said(rights: RunAs) -> str:
    async def story() -> str:
        reports = Reports()
        probes = Probes(reports)
        probes.configure({"chk": Script(("/bin/sh", "-c", WHO), rights)})
        probes.run(Probe("chk", 1, 30))
        answer = await reports.next(CheckDone)
        await close(probes)
        return answer.reason.removeprefix("exit status 1: ")

    return asyncio.run(story())


@pytest.fixture(autouse=True)
def root() -> None:
    if os.geteuid() != 0:
        pytest.fail("this test runs commands as other users and needs root: sudo make test")


def test_a_command_has_the_user_and_all_of_its_groups_and_no_capability() -> None:
    user = pwd.getpwnam("nobody")
    groups = " ".join(map(str, os.getgrouplist(user.pw_name, user.pw_gid)))
    assert said(RunAs("nobody")) == f"{user.pw_uid} {user.pw_gid} {groups} CapPrm:{0:016x}"


def test_a_group_that_is_named_is_the_only_one() -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    assert said(RunAs("nobody", "daemon")).startswith(f"{uid} {SECOND.gr_gid} {SECOND.gr_gid} ")
    assert said(RunAs(group="daemon")).startswith(f"0 {SECOND.gr_gid} {SECOND.gr_gid} ")


def test_without_a_user_nothing_stands_in_front_of_the_command() -> None:
    assert run_as.command(("/bin/true",), DAEMON) == ("/bin/true",)


def test_a_daemon_that_is_not_root_runs_it_as_itself() -> None:
    async def story() -> str:
        return await as_user(lambda: " ".join(run_as.command(("/bin/true", "x"), RunAs("root"))))

    assert asyncio.run(story()) == "/bin/true x"


@pytest.mark.parametrize("rights", [RunAs("nobody-knows-it"), RunAs("nobody", "nobody-knows-it"), RunAs("a\0b")])
def test_a_user_or_group_that_is_not_there_is_named(rights: RunAs) -> None:
    kind = "group" if rights.group else "user"
    assert said(rights).rstrip("?") == f"cannot run /bin/sh: there is no {kind} {rights.group or rights.user}"


def test_without_setpriv_the_command_is_not_run_as_root_instead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_as, "SETPRIV", str(tmp_path / "setpriv"))
    assert said(RunAs("nobody")).endswith(f"{tmp_path}/setpriv is missing, which runs it as another user")


def test_a_hint_names_who_really_runs_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_as.whose(RunAs("nobody", "daemon")) == "user nobody and group daemon"
    assert run_as.whose(DAEMON) == "the daemon's user"
    monkeypatch.setattr(os, "geteuid", lambda: 995)
    assert run_as.whose(RunAs("nobody")) == "the daemon's user", "only root can become another"


def test_the_capabilities_of_the_hint_let_floatip_end_a_script_of_another_user() -> None:
    granted = re.findall(r"CAP_(\w+)", DROP_IN)
    documented = Path(__file__, "../../../docs/operate/checks.md").resolve().read_text()
    assert f"CapabilityBoundingSet={' '.join(f'CAP_{name}' for name in granted)}\n" in documented
    program = (
        "import os, signal, subprocess\n"
        "from floatip.host.run_as import command\n"
        "from floatip.model import RunAs\n"
        "argv = command(['/bin/sh', '-c', 'echo; exec sleep 9'], RunAs('nobody'))\n"
        "child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)\n"
        "child.stdout.readline()\n"
        "try:\n"
        "    os.killpg(child.pid, signal.SIGKILL)\n"
        "finally:\n"
        "    child.stdout.close()\n"
        "print(child.wait(10))\n"
    )
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in granted)])
    line = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("-9\n", "")
