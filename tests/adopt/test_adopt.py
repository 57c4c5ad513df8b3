"""`floatip adopt` on the guide's haproxy1: a tree of files in which systemd, the kernel and the daemon are played."""

import errno
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floatip import prompts
from floatip.adopt import backup, command, files
from floatip.adopt.files import Change
from floatip.adopt.notify_scripts import only_switches_lelastic
from floatip.adopt.plan import Wishes
from floatip.adopt.system import CommandResult, System
from floatip.cli import ended
from floatip.reading.keepalived.lint.facts import SEVERITIES
from tests.adopt.haproxy1 import FLOATIP, KEEPALIVED_CONF, LELASTIC_SERVICE, NOTIFY_SH, SCRIPT_USER, SUDO_RULE, Haproxy1
from tests.command_line import floatip

CONF = "/etc/keepalived/keepalived.conf"
TOML = "/etc/floatip/floatip.toml"
NOBODY = 65534


@pytest.fixture
def host(tmp_path: Path) -> Haproxy1:
    return Haproxy1(tmp_path)


def adopt(host: Haproxy1, *, dry_run: bool = False, yes: bool = True, **options: Any) -> int:
    return ended(lambda: command.adopt(host, Wishes(**options), dry_run=dry_run, yes=yes))


def undo(host: Haproxy1, *, force: bool = False) -> int:
    return ended(lambda: command.undo(host, dry_run=False, yes=True, force=force))


def refused(host: Haproxy1, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """What is said by an adoption that changes nothing."""
    before = host.tree()
    assert adopt(host, **options) != 0
    assert host.tree() == before
    assert host.commands == []
    assert not host.at(backup.DIRECTORY).exists() or not list(host.at(backup.DIRECTORY).iterdir())
    error = capsys.readouterr().err
    assert "hint: " in error
    return error


def edit(host: Haproxy1, path: str, old: str, new: str) -> None:
    text = host.text(path)
    assert old in text
    host.at(path).write_text(text.replace(old, new))


def test_the_guides_setup_is_adopted(host: Haproxy1) -> None:
    assert adopt(host) == 0
    conf = host.text(CONF)
    assert "    enable_script_security\n    vrrp_notify_fifo /run/keepalived/floatip root\n}\n" in conf
    assert "notify_" not in conf.replace("vrrp_notify_fifo", "")
    changed = {line for line in KEEPALIVED_CONF.splitlines() if line not in conf.splitlines()}
    assert all("notify.sh" in line for line in changed), "comments and layout stay"
    assert SUDO_RULE in host.text("/etc/sudoers.d/keepalived"), "a person removes it"
    written = host.text(TOML)
    assert 'state_log = "/var/log/floatip/state"' in written
    assert "dcid = 6\n" in written
    assert (
        'keepalived = { interface = "eth0", vrid = 51, priority = 50, '
        'source = "192.168.143.227", peers = ["192.168.143.241"] }' in written
    )


def test_nothing_stops_before_floatip_holds_and_keepalived_comes_last(host: Haproxy1) -> None:
    adopt(host)
    print(host.commands)
    order = [
        "systemctl start floatip.service",
        "systemctl stop lelastic.service",
        "systemctl reload-or-restart keepalived.service",
    ]
    assert [one for one in host.commands if one in order] == order
    assert host.enabled == {"keepalived.service", "floatip.service"}


def test_lelastic_cannot_be_started_beside_floatip_by_a_script_that_was_forgotten(host: Haproxy1) -> None:
    adopt(host)
    drop_in = host.text("/etc/systemd/system/lelastic.service.d/floatip.conf")
    assert "ConditionPathExists=|!/etc/floatip/floatip.toml\n" in drop_in
    assert "ConditionPathExists=|!/usr/bin/floatip\n" in drop_in, "it may where floatip was removed"
    assert host.text("/etc/systemd/system/lelastic.service") == LELASTIC_SERVICE


def test_a_second_adoption_finds_nothing_to_do(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(host)
    tree, commands = host.tree(), list(host.commands)
    assert adopt(host) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert (host.tree(), host.commands) == (tree, commands)


def test_what_was_interrupted_is_finished_by_the_next_adoption(host: Haproxy1) -> None:
    host.fails = {"systemctl reload-or-restart keepalived.service"}
    assert adopt(host) == 1
    host.fails.clear()
    assert adopt(host) == 0
    assert host.has_open(812, "/run/keepalived/floatip")


@pytest.mark.parametrize("options", [{}, {"notify": True}])
def test_undo_restores_byte_for_byte(host: Haproxy1, options: dict[str, Any]) -> None:
    before = host.tree()
    adopt(host, **options)
    assert host.tree() != before
    assert undo(host) == 0
    assert host.tree() == before
    assert host.enabled == {"keepalived.service", "lelastic.service"}
    assert host.active == {"keepalived.service", "lelastic.service"}
    assert undo(host) == 1, "a second undo has nothing to undo"


def test_an_undo_with_nothing_to_undo_changes_nothing(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    assert undo(host) == 1
    assert "there is nothing to undo in /var/lib/floatip/adopt" in capsys.readouterr().err
    assert not host.at("/var/lib/floatip").exists()


def test_undo_on_a_node_that_is_backup_by_now_leaves_lelastic_stopped(host: Haproxy1) -> None:
    adopt(host)
    host.addresses_on["eth0"].remove("192.168.223.158/32")
    undo(host)
    assert "lelastic.service" not in host.active
    assert "lelastic.service" in host.enabled


def test_undo_refuses_when_a_file_was_changed_since(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    before = host.tree()
    adopt(host)
    edit(host, CONF, "priority 50", "priority 60")
    adopted = host.tree()
    assert undo(host) == 1
    assert host.tree() == adopted
    out = capsys.readouterr().out
    assert "+    priority 60" in out
    assert "secret89" not in out
    assert undo(host, force=True) == 0
    assert host.tree() == before


def test_undo_refuses_a_backup_that_somebody_else_could_write(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    adopt(host)
    (directory,) = host.at(backup.DIRECTORY).iterdir()
    os.chown(directory, NOBODY, NOBODY)
    assert undo(host) == 1
    assert "others than root" in capsys.readouterr().err


def test_a_dry_run_touches_nothing(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    for path in host.root.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)  # the kernel's clock is coarse: what is touched now may seem old
    before = {path: path.lstat().st_mtime_ns for path in host.root.rglob("*")}
    assert adopt(host, dry_run=True) == 0
    assert {path: path.lstat().st_mtime_ns for path in host.root.rglob("*")} == before
    assert host.commands == []
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("     +")), "but lines of files"
    assert "+    vrrp_notify_fifo /run/keepalived/floatip" in out
    assert "lelastic.service starts lelastic: dcid 6, primary" in out
    assert out.startswith("This node is MASTER: adopt the backup first")
    assert "Nothing was changed: --dry-run" in out
    assert "secret89" not in out


def test_the_backup_is_for_root_alone(host: Haproxy1) -> None:
    adopt(host)
    for path in (host.at(backup.DIRECTORY), *host.at(backup.DIRECTORY).rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_without_a_terminal_it_refuses_unless_told_yes(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--yes" in refused(host, capsys, yes=False)


def test_a_file_that_does_not_parse_is_shown_by_its_line(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    edit(host, CONF, "virtual_router_id 51", "virtual_router_id 300")
    assert f"{CONF}:18: virtual_router_id 300" in refused(host, capsys)


def test_what_keepalived_does_not_accept_is_put_back(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.complaint = "(keepalived.conf: Line 6) Failed to set default user for vrrp_ fifo - ignoring"
    assert "Failed to set default user" in refused(host, capsys)


class RealKeepalived(Haproxy1):
    def run(self, *command: str) -> CommandResult:
        if "keepalived" not in command:
            return super().run(*command)
        *options, path = command
        return System().run(*options, str(self.at(path)))


def test_the_real_keepalived_accepts_what_is_written(tmp_path: Path) -> None:
    if not shutil.which("keepalived"):
        pytest.fail("this test needs keepalived: apt-get install keepalived")
    host = RealKeepalived(tmp_path)
    edit(host, CONF, "enable_script_security", "script_user root")
    assert adopt(host) == 0
    edit(host, CONF, "vrrp_notify_fifo", "vrrp_notify_fife")
    assert "vrrp_notify_fife" in host.run("keepalived", "-t", "-f", CONF).output, "it would have said so"


def test_a_script_user_that_does_not_exist(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    edit(host, "/etc/passwd", "keepalived_script", "somebody")
    assert "there is no user keepalived_script" in refused(host, capsys, notify=True)
    edit(host, CONF, "    enable_script_security\n", "    script_user another\n")
    assert "there is no user another" in refused(host, capsys, notify=True)
    assert adopt(host) == 0, "the FIFO needs none"


def test_only_root_adopts(host: Haproxy1, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert "sudo floatip" in refused(host, capsys)
    for options in (["--undo"], ["--dry-run", "--instance", "VI 1"]):
        status, said = floatip("adopt", *options)
        assert (status, said.splitlines()[-1]) == (1, f"hint: {shlex.join(['sudo', 'floatip', 'adopt', *options])}")


@pytest.mark.parametrize("room", range(4))
def test_a_full_disk_leaves_everything_as_it_was(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """There is room for `room` files more; the first is the backup."""
    left = [room]
    fsync: Callable[[int], None] = os.fsync

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(host, capsys)


def test_a_rename_that_fails_half_way_is_put_back(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = files._commit

    def fails_at_the_second_file(system: System, change: Change) -> None:
        if change.path.name == "keepalived.conf":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        commit(system, change)

    monkeypatch.setattr(files, "_commit", fails_at_the_second_file)
    assert "Read-only file system" in refused(host, capsys)


def test_a_place_for_backups_that_cannot_be_written(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/var/lib").write_text("not a directory")
    assert "the backup cannot be written" in refused(host, capsys)


def test_a_service_that_does_not_start_is_said_with_the_way_back(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.tree()
    host.fails = {"systemctl start floatip.service"}
    assert adopt(host) == 1
    error = capsys.readouterr().err
    assert "systemctl start floatip.service: FAILED" in error
    assert "floatip adopt --undo" in error
    assert "lelastic.service" in host.active, "what announces now goes on"
    host.fails.clear()
    undo(host)
    assert host.tree() == before
    assert "lelastic.service" in host.active


def test_a_floatip_that_never_connects_is_said(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.connects = False
    assert adopt(host) == 1
    assert "no route server is connected" in capsys.readouterr().err


def test_without_the_package_nothing_is_done(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.installed.remove("floatip.service")
    assert "there is no floatip.service" in refused(host, capsys)


def test_without_keepalived_it_points_to_init(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.installed.remove("keepalived.service")
    assert "floatip init" in refused(host, capsys)


def test_without_lelastic_the_data_centre_must_be_given(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/etc/systemd/system/lelastic.service").unlink()
    host.active.discard("lelastic.service")
    assert "--dcid" in refused(host, capsys)
    assert adopt(host, dcid=7) == 0
    assert "dcid = 7\n" in host.text(TOML)


def test_it_adopts_once_a_person_says_yes(host: Haproxy1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(prompts, "confirm", lambda _: False)
    assert adopt(host, yes=False) == 1
    assert not host.text(TOML)
    monkeypatch.setattr(prompts, "confirm", lambda _: True)
    assert adopt(host, yes=False) == 0
    assert host.text(TOML)


def test_a_keepalived_that_systemd_did_not_start_is_not_touched(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.active.discard("keepalived.service")
    host.write("/run/keepalived.pid", "811\n")
    host.write("/proc/811/comm", "keepalived\n")
    assert "process 811" in refused(host, capsys)


def test_an_undo_that_failed_half_way_goes_on(host: Haproxy1, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.tree()
    adopt(host)
    commit = files._commit

    def fails_at_the_second_file(system: System, change: Change) -> None:
        if change.path.name == "keepalived.conf":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        commit(system, change)

    with monkeypatch.context() as broken:
        broken.setattr(files, "_commit", fails_at_the_second_file)
        assert undo(host) == 1
    assert undo(host) == 0
    assert host.tree() == before


def test_addresses_that_adverts_do_not_name_move_too(host: Haproxy1) -> None:
    excluded = "    virtual_ipaddress_excluded {\n        192.168.223.160\n        2001:db8::1/64\n    }\n"
    edit(host, CONF, "    virtual_ipaddress {", f"{excluded}    virtual_ipaddress {{")
    assert adopt(host, dry_run=True) == 0
    adopt(host)
    assert 'addresses = ["192.168.223.158/32", "192.168.223.160/32"]' in host.text(TOML)


def test_the_findings_are_shown_worst_first(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(host, dry_run=True)
    levels = re.findall(r"^2\.\d+ +(\w+):", capsys.readouterr().out, re.M)
    assert {"danger", "wrong"} <= set(levels)
    assert levels == sorted(levels, key=SEVERITIES.index)


SECOND = """
vrrp_instance VI_2 {
    interface eth0
    virtual_router_id 52
    virtual_ipaddress {
        192.168.223.159/32
    }
}
"""


def test_of_several_instances_only_the_named_one_is_adopted(host: Haproxy1) -> None:
    host.write(CONF, KEEPALIVED_CONF + SECOND)
    assert adopt(host, instances=("VI_1",)) == 0
    assert "VI_2" not in host.text(TOML)
    assert "other_vrids = [52]" in host.text(TOML)


def test_all_instances_are_adopted_when_none_is_named(host: Haproxy1) -> None:
    host.write(CONF, KEEPALIVED_CONF + SECOND)
    assert adopt(host, dry_run=True) == 0
    adopt(host)
    assert 'name = "VI_2"' in host.text(TOML)
    assert 'source = "192.168.143.227" }' in host.text(TOML), "the interface's own address"


def test_an_instance_that_is_not_there(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(host, capsys, instances=("VI_9",))
    assert "no vrrp_instance VI_9" in error
    assert "VI_1" in error


@pytest.mark.parametrize(
    ("address", "why"),
    [("", "no IPv4 address"), ("192.168.223.158/24", "belongs to a subnet")],
)
def test_an_instance_that_bgp_cannot_move(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], address: str, why: str
) -> None:
    edit(host, CONF, "192.168.223.158/32", address)
    assert why in refused(host, capsys)


def test_an_address_that_lelastic_announces_too_is_not_lost_by_accident(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.addresses_on["lo"].append("192.168.223.200/32")
    assert "192.168.223.200/32" in refused(host, capsys)
    assert adopt(host, force=True) == 0


def test_an_address_on_lo_is_for_a_person_to_move(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    edit(host, CONF, "192.168.223.158/32", "192.168.223.158/32 dev lo  # the floating IP")
    assert f"{CONF}:33: write 192.168.223.158 dev eth0" in refused(host, capsys)


def test_a_notify_script_that_does_more_stays_and_is_said(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/etc/keepalived/notify.sh").write_text(NOTIFY_SH + "curl -s http://pager.example/\n")
    adopt(host)
    assert host.text(CONF).count("notify.sh") == 3
    assert "notify_master stays" in capsys.readouterr().out


def test_with_notify_lines_keepalived_calls_floatip(host: Haproxy1) -> None:
    adopt(host, notify=True)
    assert '    notify "/usr/bin/floatip notify"\n}\n' in host.text(CONF)
    assert "vrrp_notify_fifo" not in host.text(CONF)
    assert 'script_user = "keepalived_script"' in host.text(TOML)
    commands = list(host.commands)
    assert adopt(host) == 0
    assert host.commands == commands, "nothing to do"


def test_a_fifo_of_somebody_else_is_left_alone(host: Haproxy1) -> None:
    edit(host, CONF, "    enable_script", "    vrrp_notify_fifo /run/exporter\n    enable_script")
    assert adopt(host) == 0
    assert 'notify "/usr/bin/floatip notify"' in host.text(CONF)
    assert "vrrp_notify_fifo /run/exporter" in host.text(CONF)


def test_a_file_where_the_fifo_should_be(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/run/keepalived/floatip").unlink()
    host.write("/run/keepalived/floatip", "")
    assert "is not a FIFO" in refused(host, capsys)


def test_a_configuration_of_floatip_that_is_there_is_not_overwritten(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(TOML, "[linode]\ndcid = 6\n")
    assert TOML in refused(host, capsys)
    before = host.tree()
    assert adopt(host, force=True) == 0
    undo(host)
    assert host.tree() == before


def test_an_edited_configuration_that_follows_the_same_keepalived_stays(host: Haproxy1) -> None:
    adopt(host)
    edited = host.text(TOML) + 'checks = ["haproxy"]\n\n[[check]]\nname = "haproxy"\nprocess = "haproxy"\n'
    host.at(TOML).write_text(edited)
    assert adopt(host) == 0
    assert host.text(TOML) == edited


def test_a_global_defs_on_one_line_gets_a_neighbour(host: Haproxy1) -> None:
    conf = KEEPALIVED_CONF.split("}\n", 1)[1]
    host.write(CONF, "global_defs { router_id A }\n" + conf)
    adopt(host)
    assert "global_defs { router_id A }\nglobal_defs {\n    vrrp_notify_fifo" in host.text(CONF)


def test_included_files_are_edited_where_they_are(host: Haproxy1) -> None:
    head, _, instance = KEEPALIVED_CONF.partition("vrrp_instance")
    host.write(CONF, head + "include conf.d/*.conf\n")
    host.write("/etc/keepalived/conf.d/vi.conf", "vrrp_instance" + instance)
    adopt(host)
    assert "notify" not in host.text("/etc/keepalived/conf.d/vi.conf")
    assert "vrrp_notify_fifo" in host.text(CONF)


def test_a_file_behind_a_link_is_edited_and_the_link_stays(host: Haproxy1) -> None:
    host.at(CONF).unlink()
    host.write("/etc/ha/keepalived.conf", KEEPALIVED_CONF)
    host.at(CONF).symlink_to("../ha/keepalived.conf")
    before = host.tree()
    adopt(host)
    assert host.at(CONF).is_symlink()
    assert "vrrp_notify_fifo" in host.text("/etc/ha/keepalived.conf")
    undo(host)
    assert host.tree() == before


def test_the_file_that_keepalived_really_reads_is_found(host: Haproxy1) -> None:
    host.write("/etc/default/keepalived", 'DAEMON_ARGS="-D -f /etc/ha/ka.conf -p /run/ka.pid"\n')
    host.write("/etc/ha/ka.conf", KEEPALIVED_CONF)
    adopt(host)
    assert "vrrp_notify_fifo" in host.text("/etc/ha/ka.conf")
    assert "vrrp_notify_fifo" not in host.text(CONF)
    assert 'pid_file = "/run/ka.pid"' in host.text(TOML)


def test_the_command_line_of_the_process_counts_more_than_its_unit(host: Haproxy1) -> None:
    host.write("/etc/ha/ka.conf", KEEPALIVED_CONF)
    host.pids["keepalived.service"] = 811
    host.write("/proc/811/cmdline", "/usr/sbin/keepalived\0--dont-fork\0-Dlf/etc/ha/ka.conf\0--log-facility=3\0")
    adopt(host)
    assert "vrrp_notify_fifo" in host.text("/etc/ha/ka.conf")


def test_a_flag_of_keepalived_that_is_not_known(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("/etc/default/keepalived", 'DAEMON_ARGS="--frobnicate"\n')
    assert "--frobnicate" in refused(host, capsys)


def test_flags_of_lelastic_that_matter_are_kept(host: Haproxy1) -> None:
    edit(
        host,
        "/etc/systemd/system/lelastic.service",
        "-dcid 6",
        "-dcid 6 -multihopttl 3 -neighborpattern 2001:db8:%d::%d",
    )
    adopt(host)
    assert '[bgp]\npeers = ["2001:db8:6::1", ' in host.text(TOML)
    assert "multihop_ttl = 3\n" in host.text(TOML)


NOTIFY_IN_FUNCTIONS = """\
#!/bin/bash
# another layout of the same
my_log=/var/log/keepalived.state
note() {
  local state="$1"
  cat << EOF >> $my_log
===
Date:  $(date +'%s')
[INFO] Now $state

EOF
  if [ "$state" = "Master" ]; then
    sudo /usr/bin/systemctl start lelastic.service
  else
    sudo /usr/bin/systemctl stop lelastic.service
  fi
}
main() {
  local state=$1
  case "$state" in
    Master)
      note Master;;
    Backup|Fault)
      note Backup;;
    *)
      echo "[ERR] no such state"
  esac
}
main "$1"
"""


@pytest.mark.parametrize("script", [NOTIFY_SH, NOTIFY_IN_FUNCTIONS])
def test_the_guides_script_can_go_in_any_layout(script: str) -> None:
    assert only_switches_lelastic("/etc/keepalived/notify.sh Master", script)


@pytest.mark.parametrize(
    ("command", "goes"),
    [
        ("/usr/bin/systemctl restart lelastic", True),
        ("sudo systemctl stop lelastic.service", True),
        ("/usr/bin/systemctl restart lelastic haproxy", False),
        ("/usr/bin/logger -t vrrp", False),
        ("", False),
    ],
)
def test_a_notify_line_without_a_script_goes_if_it_switches_lelastic(command: str, goes: bool) -> None:
    assert only_switches_lelastic(command, "") is goes


@pytest.mark.parametrize(
    "line",
    [
        "systemctl restart haproxy",
        ". /usr/local/bin/page.sh",
        "sudo systemctl restart lelastic haproxy",
        "echo MASTER > /run/state",
        "echo 1 >> /proc/sys/net/ipv4/ip_forward",
        "log=/proc/sys/net/ipv4/ip_forward",
        'echo "$(curl http://pager.example)"',
        "X=`reboot`",
        "reboot Master",
        "$command",
        "(\n reboot)",
        "systemctl stop lelastic && ip address del 192.0.2.1/32 dev lo",
        "cat << EOF | mail root\nfailed\nEOF",
    ],
)
def test_a_script_with_any_other_line_stays(line: str) -> None:
    assert not only_switches_lelastic("/etc/keepalived/notify.sh Master", f"{NOTIFY_SH}\n{line}\n")


@pytest.mark.parametrize("line", ["<<A" * 65_536, "\n" * 65_536 + "$(" * 65_536], ids=["documents", "nested"])
def test_a_script_that_is_made_to_be_hard_to_read_is_read(line: str) -> None:
    assert not only_switches_lelastic("/etc/keepalived/notify.sh Master", f"{NOTIFY_SH}\n{line}\n")


def test_a_program_that_is_no_shell_script_stays() -> None:
    assert not only_switches_lelastic("/x", NOTIFY_SH.replace("/bin/bash", "/usr/bin/python3"))


def test_the_guides_owners_are_a_danger_that_a_person_removes_first(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    """keepalived_script owns what keepalived's root reads: adopt prints the commands and changes nothing."""
    host.belongs_to_the_script_user()
    said = refused(host, capsys)
    assert "other users can change what root reads" in said
    commands = [line.strip() for line in said.splitlines() if line.startswith("  chown ")]
    assert commands == [
        "chown root:root /etc/keepalived && chmod go-w /etc/keepalived",
        f"chown root:keepalived_script {CONF} && chmod 640 {CONF}",
    ]
    for command_line in commands:
        for part in command_line.split(" && "):
            program, argument, path = part.split()
            done = System().run(program, argument.replace("keepalived_script", str(SCRIPT_USER)), str(host.at(path)))
            assert done.status == 0
    assert adopt(host) == 0
    status = host.at(CONF).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, SCRIPT_USER, 0o640), "adopt changes no owner"


def test_force_adopts_although_others_can_write(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.belongs_to_the_script_user()
    assert adopt(host, force=True) == 0
    assert host.at(CONF).stat().st_uid == SCRIPT_USER
    assert "can change /etc/keepalived, and with it what root reads or runs" in capsys.readouterr().err


def test_no_is_no_error(host: Haproxy1, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(prompts, "confirm", lambda _: False)
    before = host.tree()
    assert adopt(host, yes=False) == 1
    printed = capsys.readouterr()
    assert printed.out.endswith("Nothing was changed.\n")
    assert printed.err == ""
    assert host.tree() == before


def test_a_service_that_nothing_watches_is_named_until_floatip_watches_it(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("/proc/900/comm", "haproxy\n")
    assert adopt(host) == 0
    printed = capsys.readouterr()
    assert "haproxy runs here, and no check of keepalived's watches it" in printed.out
    assert 'name = "haproxy", process = "haproxy"' in " ".join(printed.err.split())
    host.write(TOML, host.text(TOML) + '[[check]]\nname = "haproxy"\nprocess = "haproxy"\n')
    assert adopt(host) == 0
    assert "haproxy runs here" not in capsys.readouterr().out


def test_what_it_writes_is_for_root_and_the_daemon(host: Haproxy1) -> None:
    adopt(host)
    status = host.at(TOML).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, FLOATIP, 0o640)


@pytest.mark.parametrize(
    "complaint",
    [
        "(keepalived.conf: Line 14) Unknown interface!",
        "(Line 7) *** Configuration line starting `debug` is missing a parameter after keyword `debug`",
        "(VI_1) the virtual router id must be set",
        "(VI_1) No VIP specified; at least one is required",
        "(VI_1) duplicate VRID conflict with VI_2 VRID 51",
        "Non-existent interface specified in configuration",
        "(Line 4) Config files missing 'more.conf'.",
    ],
)
def test_a_keepalived_that_does_not_start_is_not_adopted(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], complaint: str
) -> None:
    host.write(CONF, host.text(CONF) + "# floatip\n")
    host.complaint = complaint
    assert "keepalived does not start with its file" in refused(host, capsys)


@pytest.mark.parametrize("keyword", ["use_vmac", "use_vmac vrrp1", "use_ipvlan"])
def test_an_instance_with_an_interface_of_its_own_is_not_adopted(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], keyword: str
) -> None:
    edit(host, CONF, "    virtual_router_id", f"    {keyword}\n    virtual_router_id")
    assert "puts its addresses on another interface" in refused(host, capsys)


def test_a_plan_that_floatip_could_not_run_is_not_shown(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.write(CONF, host.text(CONF) + SECOND.replace("223.159", "223.158"))
    assert adopt(host, dry_run=True) == 1
    printed = capsys.readouterr()
    assert "floatip cannot run with what keepalived.conf says" in printed.err
    assert "3. What will change" not in printed.out


def test_an_address_that_keepalived_has_twice_is_written_once(host: Haproxy1) -> None:
    edit(host, CONF, "        192.168.223.158/32\n", "        192.168.223.158/32\n" * 2)
    assert adopt(host) == 0
    assert 'addresses = ["192.168.223.158/32"]' in host.text(TOML)


def test_numbers_without_end_are_no_traceback(host: Haproxy1) -> None:
    edit(host, CONF, "    fall 2\n", f"    fall {'9' * 1000}\n    weight {'9' * 1000}\n")
    edit(host, CONF, "    notify_fault", '    notify_stop "/bin/true\0"\n    notify_fault')
    assert adopt(host, dry_run=True) == 0


OPENED: list[str] = []
"""What Python opens, with O_PATH or without."""


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and not (arguments[2] or 0) & os.O_PATH:
        path = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else ""
        OPENED.append(os.path.realpath(path) if path.startswith("/proc/self/fd/") else path)


def test_what_is_no_regular_file_is_not_opened(host: Haproxy1) -> None:
    """Opening a watchdog and closing it reboots the machine."""
    device = host.at("/etc/keepalived/watchdog")
    os.mkfifo(device)
    edit(host, CONF, "/etc/keepalived/failover.sh", "/etc/keepalived/watchdog")
    sys.addaudithook(note_opened)
    assert adopt(host, dry_run=True) == 0
    assert os.path.realpath(host.at("/etc/keepalived/notify.sh")) in OPENED, "files are seen"
    assert not [path for path in OPENED if path.endswith("watchdog")]
