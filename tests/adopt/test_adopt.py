"""`floatip adopt` on the guide's haproxy1: a tree of files in which systemd, the kernel and the daemon are played."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from floatip.adopt import backup, command, files
from floatip.adopt.files import Change
from floatip.adopt.glue import only_switches_lelastic, without_rule
from floatip.adopt.host import Host, Result
from floatip.adopt.plan import Options
from tests.adopt.haproxy1 import KEEPALIVED_CONF, LELASTIC_SERVICE, NOTIFY_SH, SCRIPT_USER, SUDO_RULE, Machine

CONF = "/etc/keepalived/keepalived.conf"
TOML = "/etc/floatip/floatip.toml"
NOBODY = 65534


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def adopt(host: Machine, *, dry_run: bool = False, yes: bool = True, **options: Any) -> int:
    return command.adopt(host, Options(**options), dry_run=dry_run, yes=yes)


def undo(host: Machine, *, force: bool = False) -> int:
    return command.undo(host, dry_run=False, yes=True, force=force)


def refused(host: Machine, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """What is said by an adoption that changes nothing."""
    before = host.tree()
    assert adopt(host, **options) != 0
    assert host.tree() == before
    assert host.commands == []
    assert not host.at(backup.DIRECTORY).exists() or not list(host.at(backup.DIRECTORY).iterdir())
    error = capsys.readouterr().err
    assert "hint: " in error
    return error


def edit(host: Machine, path: str, old: str, new: str) -> None:
    text = host.text(path)
    assert old in text
    host.at(path).write_text(text.replace(old, new))


def test_the_guides_setup_is_adopted(host: Machine) -> None:
    assert adopt(host) == 0
    conf = host.text(CONF)
    assert "    enable_script_security\n    vrrp_notify_fifo /run/keepalived/floatip root\n}\n" in conf
    assert "notify_" not in conf.replace("vrrp_notify_fifo", "")
    changed = {line for line in KEEPALIVED_CONF.splitlines() if line not in conf.splitlines()}
    assert all("notify.sh" in line for line in changed), "comments and layout stay"
    assert host.text("/etc/sudoers.d/keepalived") == "# the guide's\n"
    written = host.text(TOML)
    assert 'state_log = "/var/log/floatip/state"' in written
    assert "dcid = 6\n" in written
    assert (
        'keepalived = { interface = "eth0", vrid = 51, priority = 50, '
        'source = "192.168.143.227", peers = ["192.168.143.241"] }' in written
    )


def test_nothing_stops_before_floatip_holds_and_keepalived_comes_last(host: Machine) -> None:
    adopt(host)
    print(host.commands)
    order = [
        "systemctl start floatip.service",
        "systemctl stop lelastic.service",
        "systemctl reload-or-restart keepalived.service",
    ]
    assert [one for one in host.commands if one in order] == order
    assert host.enabled == {"keepalived.service", "floatip.service"}


def test_lelastic_cannot_be_started_beside_floatip_by_a_script_that_was_forgotten(host: Machine) -> None:
    adopt(host)
    drop_in = host.text("/etc/systemd/system/lelastic.service.d/floatip.conf")
    assert "ConditionPathExists=|!/etc/floatip/floatip.toml\n" in drop_in
    assert "ConditionPathExists=|!/usr/bin/floatip\n" in drop_in, "it may where floatip was removed"
    assert host.text("/etc/systemd/system/lelastic.service") == LELASTIC_SERVICE


def test_a_second_adoption_finds_nothing_to_do(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(host)
    tree, commands = host.tree(), list(host.commands)
    assert adopt(host) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (host.tree(), host.commands) == (tree, commands)


def test_what_was_interrupted_is_finished_by_the_next_adoption(host: Machine) -> None:
    host.fails = {"systemctl reload-or-restart keepalived.service"}
    assert adopt(host) == 1
    host.fails.clear()
    assert adopt(host) == 0
    assert host.has_open(812, "/run/keepalived/floatip")


@pytest.mark.parametrize("options", [{}, {"method": "notify"}])
def test_undo_restores_byte_for_byte(host: Machine, options: dict[str, Any]) -> None:
    before = host.tree()
    adopt(host, **options)
    assert host.tree() != before
    assert undo(host) == 0
    assert host.tree() == before
    assert host.enabled == {"keepalived.service", "lelastic.service"}
    assert host.active == {"keepalived.service", "lelastic.service"}
    assert undo(host) == 1, "a second undo has nothing to undo"


def test_undo_on_a_node_that_is_backup_by_now_leaves_lelastic_stopped(host: Machine) -> None:
    adopt(host)
    host.addresses_on["eth0"].remove("192.168.223.158/32")
    undo(host)
    assert "lelastic.service" not in host.active
    assert "lelastic.service" in host.enabled


def test_undo_refuses_when_a_file_was_changed_since(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
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
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    adopt(host)
    (directory,) = host.at(backup.DIRECTORY).iterdir()
    os.chown(directory, NOBODY, NOBODY)
    assert undo(host) == 1
    assert "somebody else than root" in capsys.readouterr().err


def test_a_dry_run_touches_nothing(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for path in host.root.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)  # the kernel's clock is coarse: what is touched now may seem old
    before = {path: path.lstat().st_mtime_ns for path in host.root.rglob("*")}
    assert adopt(host, dry_run=True) == 0
    assert {path: path.lstat().st_mtime_ns for path in host.root.rglob("*")} == before
    assert host.commands == []
    out = capsys.readouterr().out
    assert "+    vrrp_notify_fifo /run/keepalived/floatip" in out
    assert "lelastic.service starts lelastic: dcid 6, primary" in out
    assert "this node is master: adopt the backup first" in out
    assert "secret89" not in out


def test_the_script_user_can_read_and_run_as_before_and_write_no_more(host: Machine) -> None:
    adopt(host)
    for name, mode in {"": 0o755, "keepalived.conf": 0o640, "notify.sh": 0o755, "failover.sh": 0o750}.items():
        found = host.at(f"/etc/keepalived/{name}").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, SCRIPT_USER, mode), name


def test_the_backup_is_for_root_alone(host: Machine) -> None:
    adopt(host)
    for path in (host.at(backup.DIRECTORY), *host.at(backup.DIRECTORY).rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_without_a_terminal_it_refuses_unless_told_yes(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--yes" in refused(host, capsys, yes=False)


def test_a_file_that_does_not_parse_is_shown_by_its_line(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    edit(host, CONF, "virtual_router_id 51", "virtual_router_id 300")
    assert f"{CONF}:18: virtual_router_id 300" in refused(host, capsys)


def test_what_keepalived_does_not_accept_is_put_back(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.complaint = "(keepalived.conf: Line 6) Failed to set default user for vrrp_ fifo - ignoring"
    assert "Failed to set default user" in refused(host, capsys)


class RealKeepalived(Machine):
    def run(self, *command: str) -> Result:
        if "keepalived" not in command:
            return super().run(*command)
        *options, path = command
        return Host().run(*options, str(self.at(path)))


def test_the_real_keepalived_accepts_what_is_written(tmp_path: Path) -> None:
    if not shutil.which("keepalived"):
        pytest.fail("this test needs keepalived: apt-get install keepalived")
    host = RealKeepalived(tmp_path)
    edit(host, CONF, "enable_script_security", "script_user root")
    assert adopt(host) == 0
    edit(host, CONF, "vrrp_notify_fifo", "vrrp_notify_fife")
    assert "vrrp_notify_fife" in host.run("keepalived", "-t", "-f", CONF).output, "it would have said so"


def test_a_script_user_that_does_not_exist(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    edit(host, "/etc/passwd", "keepalived_script", "somebody")
    assert "there is no user keepalived_script" in refused(host, capsys, method="notify")
    edit(host, CONF, "    enable_script_security\n", "    script_user another\n")
    assert "there is no user another" in refused(host, capsys, method="notify")
    assert adopt(host) == 0, "the FIFO needs none"


def test_only_root_adopts(host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert "sudo floatip adopt" in refused(host, capsys)


@pytest.mark.parametrize("room", range(4))
def test_a_full_disk_leaves_everything_as_it_was(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, room: int
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
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = files._commit

    def fails_at_sudoers(directory: int, change: Change) -> None:
        if change.path.parent.name == "sudoers.d":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        commit(directory, change)

    monkeypatch.setattr(files, "_commit", fails_at_sudoers)
    assert "Read-only file system" in refused(host, capsys)


def test_a_place_for_backups_that_cannot_be_written(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/var/lib").write_text("not a directory")
    assert "the backup cannot be written" in refused(host, capsys)


def test_a_service_that_does_not_start_is_said_with_the_way_back(
    host: Machine, capsys: pytest.CaptureFixture[str]
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


def test_a_floatip_that_never_connects_is_said(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.connects = False
    assert adopt(host) == 1
    assert "no route server is connected" in capsys.readouterr().err


def test_without_the_package_nothing_is_done(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.installed.remove("floatip.service")
    assert "there is no floatip.service" in refused(host, capsys)


def test_without_keepalived_it_points_to_init(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.installed.remove("keepalived.service")
    assert "floatip init" in refused(host, capsys)


def test_without_lelastic_the_data_centre_must_be_given(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/etc/systemd/system/lelastic.service").unlink()
    host.active.discard("lelastic.service")
    assert "--dcid" in refused(host, capsys)
    assert adopt(host, dcid=7) == 0
    assert "dcid = 7\n" in host.text(TOML)


def test_a_person_is_asked_for_the_data_centre(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    host.at("/etc/systemd/system/lelastic.service").unlink()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: 7)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: False)
    assert adopt(host, yes=False) == 1
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: True)
    host.active.discard("lelastic.service")
    assert adopt(host, yes=False) == 0
    assert "dcid = 7\n" in host.text(TOML)


def test_a_keepalived_that_systemd_did_not_start_is_not_touched(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    host.active.discard("keepalived.service")
    host.write("/run/keepalived.pid", "811\n")
    host.write("/proc/811/comm", "keepalived\n")
    assert "process 811" in refused(host, capsys)


def test_an_undo_that_failed_half_way_goes_on(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.tree()
    adopt(host)
    commit = files._commit

    def fails_at_sudoers(directory: int, change: Change) -> None:
        if change.path.parent.name == "sudoers.d":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        commit(directory, change)

    with monkeypatch.context() as broken:
        broken.setattr(files, "_commit", fails_at_sudoers)
        assert undo(host) == 1
    assert undo(host) == 0
    assert host.tree() == before


def test_addresses_that_adverts_do_not_name_move_too(host: Machine) -> None:
    excluded = "    virtual_ipaddress_excluded {\n        192.168.223.160\n        2001:db8::1/64\n    }\n"
    edit(host, CONF, "    virtual_ipaddress {", f"{excluded}    virtual_ipaddress {{")
    assert adopt(host, dry_run=True) == 0
    adopt(host)
    assert 'addresses = ["192.168.223.158/32", "192.168.223.160/32"]' in host.text(TOML)


def test_the_findings_are_shown_worst_first(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(host, dry_run=True)
    levels = [
        line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith(("danger:", "wrong:"))
    ]
    assert {"danger", "wrong"} == set(levels)
    assert levels == sorted(levels)


SECOND = """
vrrp_instance VI_2 {
    interface eth0
    virtual_router_id 52
    virtual_ipaddress {
        192.168.223.159/32
    }
}
"""


def test_of_several_instances_only_the_named_one_is_adopted(host: Machine) -> None:
    host.write(CONF, KEEPALIVED_CONF + SECOND)
    assert adopt(host, instances=("VI_1",)) == 0
    assert "VI_2" not in host.text(TOML)
    assert "other_vrids = [52]" in host.text(TOML)


def test_vrids_of_others_are_added_to_what_its_owner_has_written(host: Machine) -> None:
    adopt(host)
    mine = host.text(TOML) + '\n[keepalived]\nscript_user = "nobody"  # mine\n\n[notify]\ncommand = "/bin/true"\n'
    host.write(TOML, mine)
    host.write(CONF, (host.text(CONF) + SECOND).replace("priority 50", "priority 60"))
    assert adopt(host, instances=("VI_1",), force=True) == 0
    wanted = mine.replace("priority = 50", "priority = 60")
    assert host.text(TOML) == wanted.replace("[keepalived]", "[keepalived]\nother_vrids = [52]")


def test_all_instances_are_adopted_when_none_is_named(host: Machine) -> None:
    host.write(CONF, KEEPALIVED_CONF + SECOND)
    assert adopt(host, dry_run=True) == 0
    adopt(host)
    assert 'name = "VI_2"' in host.text(TOML)
    assert 'source = "192.168.143.227", peers = []' in host.text(TOML), "the interface's own address"


def test_an_instance_that_is_not_there(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(host, capsys, instances=("VI_9",))
    assert "no vrrp_instance VI_9" in error
    assert "VI_1" in error


@pytest.mark.parametrize(
    ("address", "why"),
    [("", "no address"), ("2001:db8::1/64", "IPv6"), ("192.168.223.158/24", "belongs to a subnet")],
)
def test_an_instance_that_bgp_cannot_move(
    host: Machine, capsys: pytest.CaptureFixture[str], address: str, why: str
) -> None:
    edit(host, CONF, "192.168.223.158/32", address)
    assert why in refused(host, capsys)


def test_an_address_that_lelastic_announces_too_is_not_lost_by_accident(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    host.addresses_on["lo"].append("192.168.223.200/32")
    assert "192.168.223.200/32" in refused(host, capsys)
    assert adopt(host, force=True) == 0


def test_an_address_on_lo_moves_to_the_interface_of_its_instance(host: Machine) -> None:
    edit(host, CONF, "192.168.223.158/32", "192.168.223.158/32 dev lo  # the floating IP")
    adopt(host)
    assert "        192.168.223.158/32 dev eth0  # the floating IP\n" in host.text(CONF)


def test_a_notify_script_that_does_more_stays_and_is_said(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/etc/keepalived/notify.sh").write_text(NOTIFY_SH + "curl -s http://pager.example/\n")
    adopt(host)
    assert host.text(CONF).count("notify.sh") == 3
    assert "notify_master stays" in capsys.readouterr().out


def test_with_notify_lines_keepalived_calls_floatip(host: Machine) -> None:
    adopt(host, method="notify")
    assert '    notify "/usr/bin/floatip notify"\n}\n' in host.text(CONF)
    assert "vrrp_notify_fifo" not in host.text(CONF)
    assert 'script_user = "keepalived_script"' in host.text(TOML)
    commands = list(host.commands)
    assert adopt(host) == 0
    assert host.commands == commands, "nothing to do"


def test_a_fifo_of_somebody_else_is_left_alone(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    edit(host, CONF, "    enable_script", "    vrrp_notify_fifo /run/exporter\n    enable_script")
    assert "somebody else" in refused(host, capsys, method="fifo")
    assert adopt(host) == 0
    assert 'notify "/usr/bin/floatip notify"' in host.text(CONF)
    assert "vrrp_notify_fifo /run/exporter" in host.text(CONF)


def test_a_file_where_the_fifo_should_be(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/run/keepalived/floatip").unlink()
    host.write("/run/keepalived/floatip", "")
    assert "is not a FIFO" in refused(host, capsys)


def test_a_configuration_of_floatip_that_is_there_is_not_overwritten(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(TOML, "[linode]\ndcid = 6\n")
    assert TOML in refused(host, capsys)
    before = host.tree()
    assert adopt(host, force=True) == 0
    undo(host)
    assert host.tree() == before


def test_an_edited_configuration_that_follows_the_same_keepalived_stays(host: Machine) -> None:
    adopt(host)
    edited = host.text(TOML) + 'checks = ["haproxy"]\n\n[[check]]\nname = "haproxy"\nprocess = "haproxy"\n'
    host.at(TOML).write_text(edited)
    assert adopt(host) == 0
    assert host.text(TOML) == edited


def test_a_global_defs_on_one_line_gets_a_neighbour(host: Machine) -> None:
    conf = KEEPALIVED_CONF.split("}\n", 1)[1]
    host.write(CONF, "global_defs { router_id A }\n" + conf)
    adopt(host)
    assert "global_defs { router_id A }\nglobal_defs {\n    vrrp_notify_fifo" in host.text(CONF)


def test_included_files_are_edited_where_they_are(host: Machine) -> None:
    head, _, instance = KEEPALIVED_CONF.partition("vrrp_instance")
    host.write(CONF, head + "include conf.d/*.conf\n")
    host.write("/etc/keepalived/conf.d/vi.conf", "vrrp_instance" + instance)
    adopt(host)
    assert "notify" not in host.text("/etc/keepalived/conf.d/vi.conf")
    assert "vrrp_notify_fifo" in host.text(CONF)


def test_a_file_behind_a_link_is_edited_and_the_link_stays(host: Machine) -> None:
    host.at(CONF).unlink()
    host.write("/etc/ha/keepalived.conf", KEEPALIVED_CONF)
    host.at(CONF).symlink_to("../ha/keepalived.conf")
    before = host.tree()
    adopt(host)
    assert host.at(CONF).is_symlink()
    assert "vrrp_notify_fifo" in host.text("/etc/ha/keepalived.conf")
    undo(host)
    assert host.tree() == before


def test_the_file_that_keepalived_really_reads_is_found(host: Machine) -> None:
    host.write("/etc/default/keepalived", 'DAEMON_ARGS="-D -f /etc/ha/ka.conf -p /run/ka.pid"\n')
    host.write("/etc/ha/ka.conf", KEEPALIVED_CONF)
    adopt(host)
    assert "vrrp_notify_fifo" in host.text("/etc/ha/ka.conf")
    assert "vrrp_notify_fifo" not in host.text(CONF)
    assert 'pid_file = "/run/ka.pid"' in host.text(TOML)


def test_the_command_line_of_the_process_counts_more_than_its_unit(host: Machine) -> None:
    host.write("/etc/ha/ka.conf", KEEPALIVED_CONF)
    host.pids["keepalived.service"] = 811
    host.write("/proc/811/cmdline", "/usr/sbin/keepalived\0--dont-fork\0-Dlf/etc/ha/ka.conf\0--log-facility=3\0")
    adopt(host)
    assert "vrrp_notify_fifo" in host.text("/etc/ha/ka.conf")


def test_a_flag_of_keepalived_that_is_not_known(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("/etc/default/keepalived", 'DAEMON_ARGS="--frobnicate"\n')
    assert "--frobnicate" in refused(host, capsys)


def test_flags_of_lelastic_that_matter_are_kept(host: Machine) -> None:
    edit(
        host,
        "/etc/systemd/system/lelastic.service",
        "-dcid 6",
        "-dcid 6 -multihopttl 3 -neighborpattern 2001:db8:%d::%d",
    )
    adopt(host)
    assert '[bgp]\npeers = ["2001:db8:6::1", ' in host.text(TOML)
    assert "multihop_ttl = 3\n" in host.text(TOML)


@pytest.mark.parametrize(
    "line",
    [
        "systemctl restart lelastic.service >/dev/null 2>&1 &",
        'logger -t ha "became $1" || true',
        "/usr/bin/systemctl --no-block stop lelastic && echo done  # yes",
        "exit 0",
    ],
)
def test_a_script_that_only_logs_and_switches_lelastic_can_go(line: str) -> None:
    assert only_switches_lelastic(f"{NOTIFY_SH}\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "systemctl restart haproxy",
        ". /usr/local/bin/page.sh",
        "sudo systemctl restart lelastic haproxy",
        "echo MASTER > /run/state",
        'echo "$(curl http://pager.example)"',
        "X=`reboot`",
        "bash -c 'reboot'",
        "$command",
        "(reboot)",
        "(\n reboot)",
        "systemctl stop lelastic && ip address del 192.0.2.1/32 dev lo",
        "cat << EOF | mail root\nfailed\nEOF",
    ],
)
def test_a_script_with_any_other_command_stays(line: str) -> None:
    assert not only_switches_lelastic(f"{NOTIFY_SH}\n{line}\n")


def test_a_program_that_is_no_shell_script_stays() -> None:
    assert not only_switches_lelastic("#!/usr/bin/python3\nexit\n")


def test_only_rules_of_that_user_for_lelastic_alone_go() -> None:
    more = "keepalived_script ALL=(root) NOPASSWD: /bin/systemctl stop lelastic, \\\n  /bin/ls\n"
    kept = f"# {SUDO_RULE}root ALL=(ALL) ALL\nother {SUDO_RULE}{more}"
    text, gone, mixed = without_rule(kept + SUDO_RULE, "keepalived_script")
    assert text == kept
    assert gone == [SUDO_RULE.strip()]
    assert len(mixed) == 1
