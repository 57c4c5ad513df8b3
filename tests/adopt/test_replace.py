"""`floatip adopt --replace` on the guide's haproxy1: a tree of files; systemd, the kernel and the daemon are played.

On real hosts: tests/systemd/test_replacing.py.
"""

from pathlib import Path
from typing import Any

import pytest

from floatip import cli
from floatip.adopt import backup, command
from floatip.adopt.plan import Wishes
from floatip.adopt.system import CommandResult
from floatip.cli import ended
from tests.adopt.haproxy1 import FLOATIP, Haproxy1

CONF, BESIDE = "/etc/keepalived/keepalived.conf", "/etc/keepalived/floatip.toml"
DROP_IN = "/etc/systemd/system/floatip.service.d/keepalived-conf.conf"
VIP = "192.168.223.158/32"


class Backup(Haproxy1):
    """keepalived is backup here; a floatip in its place is what `role` says, and follows `master`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.addresses_on["eth0"].remove(VIP)
        self.active.remove("lelastic.service")
        self.role, self.master = "backup", "192.168.143.241"
        self.reason = "no advert for 3.61 s"
        self.priorities: list[str] = []
        """At each reload of keepalived."""
        self.is_relieved = True
        """Whether the other node takes over."""
        self.checks = CommandResult(0, "passed  chk_haproxy\n1 of 1 passed")
        text = self.text(CONF).replace("enable_script_security", "script_user root")  # a user of the test's machine
        for script in ("failover.sh", "notify.sh"):
            text = text.replace(f"/etc/keepalived/{script}", "/usr/bin/true")
        self.write(CONF, text, 0o640)

    def status(self) -> dict[str, Any] | None:
        status = super().status()
        for instance in (status or {"instances": []})["instances"]:
            instance["master"] = self.master or None
            instance["role"]["reason"] = self.reason
        return status

    def run(self, *words: str) -> CommandResult:
        if words == ("systemctl", "reload", "keepalived.service"):
            self.priorities.append(self.text(CONF).partition("priority ")[2].partition("\n")[0])
            if self.is_relieved and self.priorities[-1] == "1":
                self.addresses_on["eth0"].remove(VIP)
        if words[:3] == ("floatip", "check", "--run"):
            self.commands.append(" ".join(words))
            return self.checks
        return super().run(*words)


@pytest.fixture
def host(tmp_path: Path) -> Backup:
    return Backup(tmp_path)


def replace(host: Haproxy1, *, dry_run: bool = False, **options: Any) -> int:
    wishes = Wishes(**options)
    return ended(lambda: command.replace_keepalived(host, wishes, config=None, dry_run=dry_run, yes=True))


def undo(host: Haproxy1) -> int:
    return ended(lambda: command.undo(host, dry_run=False, yes=True, force=False))


def unchanged(host: Haproxy1, before: object) -> None:
    assert host.tree() == before
    assert not list(host.at(backup.DIRECTORY).glob("*"))


def test_keepalived_stops_before_floatip_starts_and_its_file_stays_as_it_is(host: Backup) -> None:
    text = host.text(CONF)
    assert replace(host) == 0
    assert host.text(CONF) == text
    assert [one for one in host.commands if one.startswith("systemctl ")] == [
        "systemctl daemon-reload",
        "systemctl disable lelastic.service",
        "systemctl stop lelastic.service",
        "systemctl disable keepalived.service",
        "systemctl stop keepalived.service",
        "systemctl enable floatip.service",
        "systemctl start floatip.service",
    ]
    assert f"ExecStart=\nExecStart=/usr/bin/floatip run {CONF}\n" in host.text(DROP_IN)
    assert "User=" not in host.text(DROP_IN)
    assert "dcid = 6\n" in host.text(BESIDE)
    info = host.at(CONF).stat()
    assert (info.st_gid, info.st_mode & 0o777) == (FLOATIP, 0o640), "the daemon may read it"


def test_undo_restores_every_file_and_what_runs(host: Backup) -> None:
    before, units = host.tree(), (set(host.active), set(host.enabled))
    assert replace(host) == 0
    host.commands.clear()
    assert undo(host) == 0
    assert host.tree() == before
    assert (host.active, host.enabled) == units
    starts = [one for one in host.commands if one.split()[1] in ("start", "stop")]
    assert starts == ["systemctl stop floatip.service", "systemctl start keepalived.service"]


def test_a_second_time_there_is_nothing_to_do(host: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    assert replace(host) == 0
    host.commands.clear()
    assert replace(host) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert host.commands == []


def test_what_was_killed_before_the_start_is_finished_and_undone_in_one(host: Backup) -> None:
    before = host.tree()
    assert replace(host) == 0
    host.active.remove("floatip.service")
    assert replace(host) == 0
    assert "floatip.service" in host.active
    assert undo(host) == 0
    assert host.tree() == before


def test_a_dry_run_changes_nothing_and_shows_what_floatip_does_otherwise(
    host: Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.tree()
    host.write(CONF, host.text(CONF).replace("auth_pass secret89", "auth_pass more-than-eight"), 0o640)
    before = host.tree()
    assert replace(host, dry_run=True) == 0
    shown = capsys.readouterr().out
    assert "only the first 8 of 15 octets are sent" in " ".join(shown.split())
    assert "scripts run as user floatip in the sandbox of floatip.service, and not as root" in " ".join(shown.split())
    assert f"{CONF} can be read by group floatip" in shown
    hints = [hint.partition(f"{CONF}:")[0] for hint in " ".join(shown.split()).split("hint: ")[1:]]
    assert len(hints) == len(set(hints)), "a hint is said once"
    unchanged(host, before)
    assert host.commands == []


def test_a_file_with_errors_changes_nothing(host: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    host.write(CONF, host.text(CONF).replace("virtual_router_id 51", "virtual_router_id 510"), 0o640)
    before = host.tree()
    assert replace(host) != 0
    error = capsys.readouterr().err
    assert "510" in error
    assert "warning" not in error, "they would hide it"
    unchanged(host, before)
    assert host.commands == []


def test_the_master_is_refused_and_told_the_order_of_both_nodes(
    host: Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    host.addresses_on["eth0"].append(VIP)
    host.active.add("lelastic.service")
    before = host.tree()
    assert replace(host) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "MASTER of VI_1: replace the keepalived of the other node first" in error
    assert "systemctl stop lelastic.service && systemctl stop keepalived.service" in error
    unchanged(host, before)
    assert replace(host, force=True) == 0
    stops = [one for one in host.commands if one.startswith("systemctl stop")]
    assert stops == ["systemctl stop lelastic.service", "systemctl stop keepalived.service"]


def test_a_master_without_an_announcer_hands_over_before_it_stops(host: Backup) -> None:
    host.addresses_on["eth0"].append(VIP)
    host.enabled.discard("lelastic.service")
    before = host.tree()
    assert replace(host, force=True) == 0
    assert host.priorities == ["1"]
    assert "    priority 50\n" in host.text(CONF), "as it was"
    reload, stop = (host.commands.index(f"systemctl {verb} keepalived.service") for verb in ("reload", "stop"))
    assert reload < stop
    assert undo(host) == 0
    assert host.tree() == before


def test_where_no_other_node_takes_over_the_master_goes_on(host: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    host.addresses_on["eth0"].append(VIP)
    host.enabled.discard("lelastic.service")
    host.is_relieved = False
    before = host.tree()
    assert replace(host, force=True) == 1
    assert "no other node took over within 24 s" in capsys.readouterr().err
    assert host.priorities == ["1", "50"]
    assert "systemctl stop keepalived.service" not in host.commands
    assert host.tree() == before
    assert "keepalived.service" in host.active


def test_a_check_that_fails_as_the_daemon_runs_it_stops_nothing(
    host: Backup, capsys: pytest.CaptureFixture[str]
) -> None:
    host.checks = CommandResult(1, "failed  chk_haproxy  0.01 s  exit status 1: operation not permitted\n0 of 1 passed")
    before = host.tree()
    assert replace(host) == 1
    said = capsys.readouterr().err
    assert "chk_haproxy  0.01 s  exit status 1: operation not permitted" in said
    assert "--root" in said
    unchanged(host, before)
    assert not [one for one in host.commands if one.startswith("systemctl ")]
    host.role = "fault"
    assert replace(host, force=True) == 0


@pytest.mark.parametrize(
    ("role", "master", "said"),
    [
        ("master", "", "VI_1 became master here, although the other node was"),
        ("backup", "", "VI_1 is backup and hears no master"),
        ("fault", "", "VI_1 is fault"),
    ],
)
def test_a_floatip_that_does_not_do_what_keepalived_did_goes_and_keepalived_comes_back(
    host: Backup, capsys: pytest.CaptureFixture[str], role: str, master: str, said: str
) -> None:
    host.role, host.master = role, master
    before, units = host.tree(), (set(host.active), set(host.enabled))
    assert replace(host) == 1
    assert said in capsys.readouterr().err
    assert host.tree() == before
    assert (host.active, host.enabled) == units


def test_a_floatip_that_preempts_a_lower_master_has_heard_it_and_stays(host: Backup) -> None:
    host.role, host.master = "master", ""
    host.reason = "192.168.143.241 has priority 49, below ours (50)"
    assert replace(host) == 0
    assert "floatip.service" in host.active


def test_where_keepalived_was_stopped_for_it_floatip_may_be_either_and_undo_starts_keepalived(host: Backup) -> None:
    host.active.discard("keepalived.service")
    host.role, host.master = "master", ""
    assert replace(host) == 0
    assert undo(host) == 0
    assert "keepalived.service" in host.active, "it is enabled: it was meant to run"


def test_with_root_scripts_keep_their_rights(host: Backup) -> None:
    assert replace(host, as_root=True) == 0
    assert "\nUser=root\n" in host.text(DROP_IN)
    assert host.at(CONF).stat().st_gid == 0, "root reads it anyway"


def test_another_floatip_is_not_replaced(host: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    host.active.add("floatip.service")
    before = host.tree()
    assert replace(host) == 1
    assert "floatip runs here already, with another configuration" in capsys.readouterr().err
    unchanged(host, before)


def test_an_announcer_of_our_own_must_stop_first(host: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    host.installed.add("floatip-lelastic.service")
    host.active.add("floatip-lelastic.service")
    assert replace(host) == 1
    assert "systemctl disable --now floatip-lelastic.service" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--replace", "--notify"], ["--replace", "--instance", "VI_1"], ["--root"], ["--undo", "--replace"]]
)
def test_options_that_mean_nothing_together_are_refused(words: list[str]) -> None:
    assert cli.main(["adopt", *words]) == 2
