"""`floatip adopt` beside others who can write what it reads, and who are killed, interrupted or at it too."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floatip.adopt import backup, command, files
from floatip.adopt.files import Change
from floatip.adopt.plan import Wishes
from floatip.adopt.system import AdoptError, System
from floatip.cli import ended
from tests.adopt.haproxy1 import KEEPALIVED_CONF, SCRIPT_USER, Haproxy1

CONF = "/etc/keepalived/keepalived.conf"
TOML = "/etc/floatip/floatip.toml"
ALICE = 64124
SECRET = "root:SECRETHASH:\n"


@pytest.fixture
def host(tmp_path: Path) -> Haproxy1:
    machine = Haproxy1(tmp_path)
    machine.write("/etc/shadow", SECRET, 0o600)
    return machine


def adopt(host: Haproxy1, *, dry_run: bool = False, **options: Any) -> int:
    return ended(lambda: command.adopt(host, Wishes(**options), dry_run=dry_run, yes=True))


def undo(host: Haproxy1, *, force: bool = False) -> int:
    return ended(lambda: command.undo(host, dry_run=False, yes=True, force=force))


def included(host: Haproxy1, pattern: str = "conf.d/*.conf") -> None:
    host.at(CONF).write_text(f"{KEEPALIVED_CONF}include {pattern}\n")


def refused(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> str:
    before = host.tree()
    assert adopt(host) == 1
    assert (host.tree(), host.commands) == (before, [])
    return capsys.readouterr().err


# A danger stands: the command that removes it, and nothing is changed


@pytest.mark.parametrize(
    ("path", "owner", "mode", "expected"),
    [
        ("/etc/keepalived", ALICE, 0o755, "chown root:root /etc/keepalived && chmod go-w /etc/keepalived"),
        (CONF, 0, 0o666, f"chown root:root {CONF} && chmod go-w {CONF}"),
        (CONF, SCRIPT_USER, 0o600, f"chown root:keepalived_script {CONF} && chmod 640 {CONF}"),
        ("/etc/keepalived/failover.sh", ALICE, 0o755, "chown root:root /etc/keepalived/failover.sh && chmod go-w"),
    ],
)
def test_what_others_can_change_is_refused_with_the_command(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], path: str, owner: int, mode: int, expected: str
) -> None:
    os.chown(host.at(path), owner, 0)
    host.at(path).chmod(mode)
    assert expected in refused(host, capsys)


def test_a_script_of_the_user_that_runs_it_is_no_danger(host: Haproxy1) -> None:
    os.chown(host.at("/etc/keepalived/failover.sh"), SCRIPT_USER, SCRIPT_USER)
    assert adopt(host) == 0


def test_data_that_a_command_names_is_nobodys_danger(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    """A chown of a database's directory would stop the database."""
    host.at("/var/lib/postgresql").mkdir(parents=True)
    os.chown(host.at("/var/lib/postgresql"), ALICE, ALICE)
    text = host.text(CONF).replace("/etc/keepalived/failover.sh", "/etc/keepalived/failover.sh /var/lib/postgresql")
    host.at(CONF).write_text(text)
    assert adopt(host) == 0
    assert "/var/lib/postgresql," not in capsys.readouterr().out


def test_a_directory_that_is_everybodys_is_refused(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    included(host, "/tmp/vips.conf")
    host.write("/tmp/vips.conf", "# none\n")
    host.at("/tmp").chmod(0o1777)
    assert "include from a directory that only root can write" in refused(host, capsys)


def acl(uid: int) -> bytes:
    entries = ((0x01, 6, -1), (0x02, 6, uid), (0x04, 4, -1), (0x10, 6, -1), (0x20, 4, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def test_an_acl_is_found_and_what_has_one_is_not_replaced(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    os.setxattr(host.at(CONF), "system.posix_acl_access", acl(SCRIPT_USER))
    assert f"{CONF} has an ACL" in refused(host, capsys)


def test_a_script_that_an_acl_opens_to_others_is_refused(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    script = "/etc/keepalived/notify.sh"
    os.setxattr(host.at(script), "system.posix_acl_access", acl(ALICE))
    assert f"setfacl -b {script}" in refused(host, capsys)


def test_a_file_with_another_name_elsewhere_is_not_replaced(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/etc/elsewhere").hardlink_to(host.at(CONF))
    assert "is one of 2 hard links" in refused(host, capsys)


# Links, and files that change meanwhile


def test_what_a_link_leads_to_is_not_looked_at(host: Haproxy1) -> None:
    host.at("/etc/keepalived/vips.conf").symlink_to("../shadow")
    with pytest.raises(AdoptError, match="not a regular file"):
        files.state(host, Path("/etc/keepalived/vips.conf"))


def test_a_loop_of_links_is_no_traceback(host: Haproxy1) -> None:
    script = host.at("/etc/keepalived/failover.sh")
    script.unlink()
    script.symlink_to("failover.sh")
    assert adopt(host, dry_run=True) in (0, 1)


@pytest.mark.parametrize("name", [CONF, TOML])
@pytest.mark.parametrize("to", ["link", "hard link", "fifo", "directory", "other text"])
def test_a_file_that_changes_while_root_reads_the_question_is_neither_read_nor_overwritten(
    host: Haproxy1, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, to: str
) -> None:
    target, shadow = host.at(name), host.at("/etc/shadow")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: target.symlink_to("../shadow"),
        "hard link": lambda: target.hardlink_to(shadow),
        "fifo": lambda: os.mkfifo(target),
        "directory": target.mkdir,
        "other text": lambda: target.write_text("! of a colleague\n"),
    }

    def swap(_: bool) -> bool:
        target.unlink(missing_ok=True)
        make[to]()
        return True

    monkeypatch.setattr(command, "_confirmed", swap)
    assert adopt(host) == 1
    printed = capsys.readouterr()
    assert "SECRET" not in printed.out + printed.err
    assert shadow.read_text() == SECRET
    assert shadow.stat().st_mode & 0o777 == 0o600
    assert to != "other text" or target.read_text() == "! of a colleague\n"
    assert not [one for one in host.commands if one.startswith("systemctl st")]
    assert not list(host.at(backup.DIRECTORY).iterdir())


def test_control_c_at_the_question_is_no_error_of_a_file(
    host: Haproxy1, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: bool) -> None:
        raise EOFError

    monkeypatch.setattr(command, "_confirmed", interrupted)
    assert adopt(host) == 1
    assert capsys.readouterr().err == "\nAborted.\n"
    assert host.commands == []


# Undo, and adoptions that end half-way


@pytest.mark.parametrize("became_master", [False, True])
def test_undo_starts_the_announcer_of_a_master_though_no_daemon_answers(host: Haproxy1, became_master: bool) -> None:
    if became_master:
        host.active.discard("lelastic.service")
        host.addresses_on["eth0"].remove("192.168.223.158/32")
        host.role = "backup"
    assert adopt(host) == 0
    if became_master:
        host.addresses_on["eth0"].append("192.168.223.158/32")
    host.active.discard("floatip.service")
    assert undo(host) == 0
    assert "lelastic.service" in host.active


def test_only_one_adopts_at_a_time(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(host)
    with backup.locked(host):
        assert adopt(host) == undo(host) == 1
    assert capsys.readouterr().err.count("floatip adopt is already running [already-runs]\n") == 2


def killed(host: Haproxy1, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adoption that ends before this file is written, as by SIGKILL."""
    child = os.fork()
    if not child:
        commit = files._commit

        def dies(system: System, change: Change) -> None:
            if str(change.path) == at:
                os._exit(9)
            commit(system, change)

        monkeypatch.setattr(files, "_commit", dies)
        adopt(host)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def leftovers(host: Haproxy1) -> list[Path]:
    return list(host.at("/etc").rglob(".*.floatip-new"))


def test_after_an_adoption_was_killed_the_next_asks_for_undo_which_goes_all_the_way_back(
    host: Haproxy1, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = host.tree()
    killed(host, "/etc/systemd/system/lelastic.service.d/floatip.conf", monkeypatch)
    assert leftovers(host)
    assert adopt(host) == adopt(host, dry_run=True) == 1
    assert capfd.readouterr().err.count("floatip adopt --undo first") == 2
    assert undo(host) == 0
    assert host.tree() == before
    assert undo(host) == 1, "there is only one adoption to undo"
    assert adopt(host) == 0


def test_a_second_adoption_in_the_same_second_has_a_backup_of_its_own(host: Haproxy1) -> None:
    before = host.tree()
    assert adopt(host) == 0
    host.write(TOML, host.text(TOML).replace("dcid = 6", "dcid = 7"))
    assert adopt(host, force=True, dcid=6) == 0
    assert undo(host) == 0
    assert undo(host, force=True) == 0
    assert host.tree() == before


def test_a_manifest_that_was_never_finished_is_in_nobodys_way(host: Haproxy1) -> None:
    host.write(f"{backup.DIRECTORY}/29991231-235959.000000000/manifest.new", '{"changes": [')
    for directory in (host.at("/var/lib/floatip"), host.at(backup.DIRECTORY)):
        directory.chmod(0o700)
    assert adopt(host) == 0
    assert undo(host) == 0


def test_nothing_in_a_file_is_a_command_to_roots_terminal(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    comment = b"! both nodes \x1b[2K\x1b[1A caf\xe9 "
    conf = host.at(CONF).read_bytes().replace(b"! both nodes", comment)
    near = conf.replace(b"    enable_script_security\n", b"    enable_script_security " + comment + b"\n")
    host.at(CONF).write_bytes(near + b"include conf.d/*.conf\n")
    host.write("/etc/keepalived/conf.d/a\x1b[2K\nnote: all is well.conf", "# none\n")
    assert adopt(host, dry_run=True) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\\x1b[2K\\x1b[1A caf\\udce9" in printed.out
    assert "\nnote: all is well" not in printed.out
    assert adopt(host) == 0
    assert comment in host.at(CONF).read_bytes(), "and the file keeps its bytes"


@pytest.mark.parametrize("secret", ['auth_pass "sec ret89"', 'md5 = "sec ret89"', 'vrrp = { auth_pass = "sec ret89" }'])
def test_no_secret_is_in_a_diff(secret: str) -> None:
    change = Change(Path("/x"), None, files.FileState(0o600, 0, 0, f"{secret}\n".encode()))
    shown = "\n".join(files.diff(change))
    assert "ret89" not in shown
    assert "********" in shown


ALLOWED = """\
Matching Defaults entries for keepalived_script on haproxy1:
    env_reset

User keepalived_script may run the following commands on haproxy1:
    (root) NOPASSWD: /usr/bin/systemctl * lelastic
    (root) /usr/bin/id
"""


def test_what_sudo_allows_is_named_with_what_to_do(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rule is one of an alias, which the text of the file does not give away. adopt edits no sudoers."""
    host.sudo = ALLOWED
    assert adopt(host) == 0
    printed = capsys.readouterr()
    said = "keepalived_script may run /usr/bin/systemctl * lelastic as root without a password"
    assert said in " ".join(printed.out.split())
    assert f"warning: /etc/sudoers: {said}" in printed.err
    assert "remove this line (visudo)" in printed.err
    assert "/usr/bin/id" not in printed.out + printed.err
