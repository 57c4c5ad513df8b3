"""`floatip adopt` beside a script user who changes the tree while root takes it away."""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from floatip.adopt import apply, backup, command, files
from floatip.adopt import plan as planning
from floatip.adopt.files import Change
from floatip.adopt.host import Host
from floatip.adopt.plan import Options
from tests.adopt.haproxy1 import KEEPALIVED_CONF, NOTIFY_SH, SCRIPT_USER, SUDO_RULE, Machine

CONF = "/etc/keepalived/keepalived.conf"
TOML = "/etc/floatip/floatip.toml"
ALICE = 64124
SECRET = "root:SECRETHASH:\n"


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.root.chmod(0o755)
    machine.write("/etc/shadow", SECRET, 0o600)
    return machine


@contextmanager
def script_user(host: Machine) -> Iterator[None]:
    """Paths are relative to the machine's root: who comes there is not let through pytest's directories."""
    here, groups = os.open(".", os.O_DIRECTORY), os.getgroups()
    os.chdir(host.root)
    os.setgroups([])
    os.setegid(SCRIPT_USER)
    os.seteuid(SCRIPT_USER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.fchdir(here)
        os.close(here)


def adopt(host: Machine, *, dry_run: bool = False, **options: Any) -> int:
    return command.adopt(host, Options(**options), dry_run=dry_run, yes=True)


def undo(host: Machine, *, force: bool = False) -> int:
    return command.undo(host, dry_run=False, yes=True, force=force)


def included(host: Machine, pattern: str = "conf.d/*.conf") -> None:
    text = f"{KEEPALIVED_CONF}include {pattern}\n"
    host.at(CONF).write_text(text)


def his(host: Machine, path: str, text: str | None = None, mode: int = 0o755) -> Path:
    """A file of the script user's, or a directory."""
    if text is None:
        host.at(path).mkdir(parents=True, exist_ok=True)
    else:
        host.write(path, text)
    os.chown(host.at(path), SCRIPT_USER, SCRIPT_USER)
    host.at(path).chmod(mode)
    return host.at(path)


def after_taking(monkeypatch: pytest.MonkeyPatch, do: Callable[[Path], None]) -> None:
    """`do` is called as each directory has changed hands."""

    def spied(host: Host, changes: Iterable[Change]) -> Iterator[Path]:
        for path in files.own(host, changes):
            yield path
            do(path)

    monkeypatch.setattr(apply, "own", spied)


def test_a_setuid_file_does_not_become_roots(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    shell = his(host, "/etc/keepalived/x", "#!/bin/sh\n", 0o4755)
    host.at("/etc/keepalived/failover.sh").chmod(0o6755)
    assert adopt(host) == 0
    found = host.at("/etc/keepalived/failover.sh").stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o755)
    assert (shell.stat().st_uid, shell.stat().st_mode & 0o7777) == (SCRIPT_USER, 0o4755), "it is his as it was"
    assert "failover.sh runs with the rights of its owner" in capsys.readouterr().out
    with script_user(host), pytest.raises(PermissionError):
        os.rename("etc/keepalived/x", "etc/keepalived/failover.sh")


def test_files_that_keepalived_does_not_use_stay_the_script_users(host: Machine) -> None:
    state = his(host, "/etc/keepalived/state")
    note = his(host, "/etc/keepalived/state/note", "x\n", 0o644)
    used = his(host, "/etc/keepalived/bin")
    check = his(host, "/etc/keepalived/bin/check.sh", "#!/bin/sh\n")
    host.at(CONF).write_text(KEEPALIVED_CONF.replace("/etc/keepalived/failover.sh", "/etc/keepalived/bin/check.sh"))
    assert adopt(host) == 0
    assert [path.stat().st_uid for path in (state, note, used, check)] == [SCRIPT_USER, SCRIPT_USER, 0, 0]


def test_what_is_given_back_after_a_failure_cannot_be_led_elsewhere(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    included(host)
    inner = his(host, "/etc/keepalived/conf.d")
    his(host, "/etc/keepalived/conf.d/vips.conf", "# none\n")
    elsewhere = host.at("/etc/conf.d")
    elsewhere.mkdir()
    swaps = []

    def swap(_: Path) -> None:
        """As soon as one of the directories is his."""
        with script_user(host), suppress(OSError):
            os.rename("etc/keepalived/conf.d", "etc/keepalived/old")
            os.symlink("../conf.d", "etc/keepalived/conf.d")
            swaps.append(os.stat("etc/keepalived/old").st_uid)

    after_taking(monkeypatch, swap)
    host.complaint = "it does not like it"
    assert adopt(host) == 1
    assert swaps == [SCRIPT_USER], "only when all was his again"
    assert elsewhere.stat().st_uid == 0
    assert not inner.is_dir() or inner.is_symlink()


def test_a_directory_that_is_another_one_by_now_is_not_taken(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    included(host)
    his(host, "/etc/keepalived/conf.d")
    his(host, "/etc/keepalived/conf.d/vips.conf", "# none\n")
    save = backup.save

    def swapped(*given: Any) -> Any:
        with script_user(host):
            os.rename("etc/keepalived/conf.d", "etc/keepalived/old")
            os.mkdir("etc/keepalived/conf.d", 0o755)
        return save(*given)

    monkeypatch.setattr(backup, "save", swapped)
    assert adopt(host) == 1
    assert "another directory by now" in capsys.readouterr().err
    assert {host.at(f"/etc/keepalived/{name}").stat().st_uid for name in ("", "old", "conf.d")} == {SCRIPT_USER}
    assert host.commands == []


def test_what_is_staged_cannot_be_replaced(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, denied = files._commit, []

    def attacked(directory: int, change: Change) -> None:
        if str(change.path) == CONF:
            with script_user(host):
                for attack in (os.unlink, lambda name: os.symlink("/etc/shadow", f"{name}.x")):
                    with pytest.raises(PermissionError):
                        attack("etc/keepalived/.keepalived.conf.floatip-new")
                    denied.append(attack)
        commit(directory, change)

    monkeypatch.setattr(files, "_commit", attacked)
    assert adopt(host) == 0
    assert len(denied) == 2
    assert "vrrp_notify_fifo" in host.text(CONF)


def test_who_has_a_file_open_writes_no_more_into_what_keepalived_reads(host: Machine) -> None:
    with script_user(host):
        opened = [open(f"etc/keepalived/{name}", "a") for name in ("keepalived.conf", "failover.sh")]  # noqa: SIM115
    assert adopt(host) == 0
    for file in opened:
        file.write("EVIL\n")
        file.close()
    assert "EVIL" not in host.text(CONF) + host.text("/etc/keepalived/failover.sh")


def test_what_is_changed_while_the_directories_are_taken_is_refused(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = []

    def edit(path: Path) -> None:
        edits.append(path)
        if len(edits) == 1:
            with script_user(host), open("etc/keepalived/keepalived.conf", "a") as file:
                file.write("! EVIL\n")

    after_taking(monkeypatch, edit)
    assert adopt(host) == 1
    assert f"somebody else has changed {CONF} since it was shown" in capsys.readouterr().err
    assert "! EVIL" in host.text(CONF), "putting back overwrites nothing of others"
    assert host.at("/etc/keepalived").stat().st_uid == SCRIPT_USER
    assert host.commands == []


def test_what_appears_while_the_files_are_written_is_refused(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory that adopt leaves alone."""
    included(host)
    his(host, "/etc/keepalived/conf.d", mode=0o1777)
    before = host.tree()

    def wrote(host: Machine, changes: Any) -> Iterator[Path]:
        yield from files.write(host, changes)
        if changes:
            his(host, "/etc/keepalived/conf.d/new.conf", "# none\n")

    monkeypatch.setattr(apply, "write", wrote)
    assert adopt(host) == 1
    assert "somebody else has changed /etc/keepalived/conf.d/new.conf" in capsys.readouterr().err
    host.at("/etc/keepalived/conf.d/new.conf").unlink()
    assert host.tree() == before


@pytest.mark.parametrize("adds", [False, True])
def test_what_a_colleague_changes_while_root_reads_the_question_is_not_lost(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, adds: bool
) -> None:
    included(host)
    his(host, "/etc/keepalived/conf.d")

    def edit(_: bool) -> None:
        if adds:
            his(host, "/etc/keepalived/conf.d/new.conf", "# empty for now\n")
        else:
            host.at(CONF).write_text(host.text(CONF).replace("priority 50", "priority 99 ! colleague"))

    monkeypatch.setattr(command, "_ask", edit)
    assert adopt(host) == 1
    assert "since it was shown" in capsys.readouterr().err
    assert adds or "colleague" in host.text(CONF)
    assert not list(host.at(backup.DIRECTORY).iterdir())


@pytest.mark.parametrize("name", ["keepalived.conf", "failover.sh"])
@pytest.mark.parametrize("to", ["link", "hard link", "fifo", "directory"])
def test_a_file_that_is_something_else_when_it_is_opened_gives_nothing_away(
    host: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, to: str
) -> None:
    target, shadow = host.at(f"/etc/keepalived/{name}"), host.at("/etc/shadow")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: target.symlink_to("../shadow"),
        "hard link": lambda: target.hardlink_to(shadow),
        "fifo": lambda: os.mkfifo(target),
        "directory": target.mkdir,
    }

    swaps: list[Path] = []

    def swapped(host: Machine, path: Path, **given: Any) -> Any:
        if path.name == name and not swaps:
            swaps.append(path)
            target.unlink()
            make[to]()
        return files.state(host, path, **given)

    monkeypatch.setattr(planning, "state", swapped)
    # A script is read by nobody, and one that is root's already is not changed.
    is_left = name == "failover.sh" and to in ("hard link", "directory")
    assert adopt(host) == (0 if is_left else 1)
    assert swaps
    printed = capsys.readouterr()
    assert "SECRET" not in printed.out + printed.err
    assert shadow.stat().st_mode & 0o777 == 0o600


def test_what_lies_behind_a_link_is_not_looked_at(host: Machine) -> None:
    host.write("/etc/elsewhere/vips.conf", SECRET)
    host.at("/etc/keepalived/conf.d").symlink_to("../elsewhere")
    with pytest.raises(OSError, match="conf"):
        files.state(host, Path("/etc/keepalived/conf.d/vips.conf"))


def test_a_file_with_another_name_elsewhere_is_not_taken(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    host.at("/etc/elsewhere").hardlink_to(host.at("/etc/keepalived/failover.sh"))
    assert adopt(host) == 1
    assert "failover.sh is one of 2 links to the same file" in capsys.readouterr().err
    assert host.at("/etc/elsewhere").stat().st_uid == SCRIPT_USER


def test_a_directory_with_a_sticky_bit_stays_as_it_is(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    included(host)
    shared = his(host, "/etc/keepalived/conf.d", mode=0o1777)
    his(host, "/etc/keepalived/conf.d/vips.conf", "# none\n")
    assert adopt(host) == 0
    assert (shared.stat().st_uid, shared.stat().st_mode & 0o7777) == (SCRIPT_USER, 0o1777)
    assert "keepalived_script can change /etc/keepalived/conf.d," in capsys.readouterr().err


def test_a_loop_of_links_is_an_error_and_no_traceback(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    script = host.at("/etc/keepalived/failover.sh")
    script.unlink()
    script.symlink_to("failover.sh")
    assert adopt(host) == 1
    assert "hint: " in capsys.readouterr().err


def test_control_c_at_the_question_is_no_error_of_a_file(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: bool) -> None:
        raise typer.Abort

    monkeypatch.setattr(command, "_ask", interrupted)
    with pytest.raises(typer.Abort):
        adopt(host)
    assert host.commands == []


def test_a_file_of_roots_that_the_script_user_moves_into_place_is_not_shown_to_it(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the directory can rename what root keeps in it."""
    host.write("/etc/keepalived/secret", SECRET, 0o600)

    def swapped(host: Machine, changes: Any) -> Iterator[Path]:
        if changes and host.at("/etc/keepalived/secret").exists():
            os.rename(host.at("/etc/keepalived/secret"), host.at("/etc/keepalived/failover.sh"))
        return files.write(host, changes)

    monkeypatch.setattr(apply, "write", swapped)
    assert adopt(host) == 1
    assert host.text("/etc/keepalived/failover.sh") == SECRET
    found = host.at("/etc/keepalived/failover.sh").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o600)


def test_tmp_is_not_changed_because_something_is_included_from_there(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    included(host, "/tmp/vips.conf")
    host.write("/tmp/vips.conf", "# none\n")
    host.at("/tmp").chmod(0o1777)
    assert adopt(host) == 0
    assert host.at("/tmp").stat().st_mode & 0o7777 == 0o1777
    printed = capsys.readouterr()
    said = "keepalived's configuration is read from /tmp, where anybody can put files"
    assert said in printed.out
    assert f"warning: /tmp/vips.conf: {said}" in printed.err


def test_what_others_can_change_after_all_is_a_warning_at_the_end(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    included(host)
    host.write("/etc/keepalived/conf.d/vips.conf", "# none\n")
    os.chown(host.at("/etc/keepalived/conf.d"), ALICE, 0)
    assert adopt(host) == 0
    assert f"user {ALICE} can change /etc/keepalived/conf.d," in capsys.readouterr().err
    assert host.at("/etc/keepalived/conf.d").stat().st_uid == ALICE


def acl(uid: int) -> bytes:
    entries = ((0x01, 6, -1), (0x02, 6, uid), (0x04, 4, -1), (0x10, 6, -1), (0x20, 4, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def test_an_acl_is_found_and_what_has_one_is_not_replaced(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (host.at("/etc/keepalived"), *host.at("/etc/keepalived").iterdir()):
        os.chown(path, 0, 0)
    os.setxattr(host.at(CONF), "system.posix_acl_access", acl(SCRIPT_USER))
    assert adopt(host) == 1
    printed = capsys.readouterr()
    assert f"keepalived_script can change {CONF}," in printed.out
    assert f"{CONF} has an ACL" in printed.err
    assert "setfacl -b" in printed.err


@pytest.mark.parametrize("became_master", [False, True])
def test_undo_starts_the_announcer_of_a_master_though_no_daemon_answers(host: Machine, became_master: bool) -> None:
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


def test_only_one_adopts_at_a_time(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    adopt(host)
    with backup.locked(host):
        assert adopt(host) == undo(host) == 1
    assert capsys.readouterr().err.count(f"floatip adopt runs already as process {os.getpid()}\n") == 2


def killed(host: Machine, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adoption that ends before this file is written, as by SIGKILL."""
    child = os.fork()
    if not child:
        commit = files._commit

        def dies(directory: int, change: Change) -> None:
            if str(change.path) == at:
                os._exit(9)
            commit(directory, change)

        monkeypatch.setattr(files, "_commit", dies)
        adopt(host)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def leftovers(host: Machine) -> list[Path]:
    return list(host.at("/etc").rglob(".*.floatip-new"))


@pytest.mark.parametrize("again", [False, True])
def test_after_an_adoption_was_killed_one_undo_goes_all_the_way_back(
    host: Machine, again: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = host.tree()
    killed(host, "/etc/keepalived/notify.sh", monkeypatch)
    assert leftovers(host)
    if again:
        assert adopt(host) == 0
        assert not leftovers(host)
    assert undo(host) == 0
    assert host.tree() == before
    assert undo(host) == 1, "there is only one adoption to undo"


def test_a_second_adoption_in_the_same_second_has_a_backup_of_its_own(host: Machine) -> None:
    before = host.tree()
    assert adopt(host) == 0
    host.write(TOML, host.text(TOML).replace("dcid = 6", "dcid = 7"))
    assert adopt(host, force=True, dcid=6) == 0
    assert undo(host) == 0
    assert undo(host, force=True) == 0
    assert host.tree() == before


def test_a_manifest_that_was_never_finished_is_in_nobodys_way(host: Machine) -> None:
    host.write(f"{backup.DIRECTORY}/29991231-235959.000000000/manifest.new", '{"changes": [')
    for directory in (host.at("/var/lib/floatip"), host.at(backup.DIRECTORY)):
        directory.chmod(0o700)
    assert adopt(host) == 0
    assert undo(host) == 0


def test_undo_by_force_keeps_what_it_overwrites(host: Machine) -> None:
    adopt(host)
    edited = host.text(CONF).replace("priority 50", "priority 60")
    host.at(CONF).write_text(edited)
    assert undo(host, force=True) == 0
    (kept,) = host.at(backup.DIRECTORY).rglob("keepalived.conf")
    assert kept.read_text() == edited
    assert kept.stat().st_mode & 0o077 == 0


def test_nothing_in_a_file_is_a_command_to_roots_terminal(host: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    comment = b"! both nodes \x1b[2K\x1b[1A caf\xe9 "
    conf = host.at(CONF).read_bytes().replace(b"! both nodes", comment)
    near = conf.replace(b"    enable_script_security\n", b"    enable_script_security " + comment + b"\n")
    host.at(CONF).write_bytes(near + b"include conf.d/*.conf\n")
    his(host, "/etc/keepalived/conf.d")
    his(host, "/etc/keepalived/conf.d/a\x1b[2K\nnote: all is well.conf", "# none\n")
    assert adopt(host, dry_run=True) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\\x1b[2K\\x1b[1A caf\\udce9" in printed.out
    assert "\nnote: all is well" not in printed.out
    assert adopt(host) == 0
    assert comment in host.at(CONF).read_bytes(), "and the file keeps its bytes"


@pytest.mark.parametrize("secret", ['auth_pass "sec ret89"', 'md5 = "sec ret89"', 'vrrp = { auth_pass = "sec ret89" }'])
def test_no_secret_is_in_a_diff(secret: str) -> None:
    change = Change(Path("/x"), None, files.State(0o600, 0, 0, f"{secret}\n".encode()))
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


def test_what_sudo_still_allows_is_found_and_a_warning_at_the_end(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rule is one of an alias, which the text of the file does not give away."""
    host.sudo = ALLOWED
    assert adopt(host) == 0
    printed = capsys.readouterr()
    said = "keepalived_script may run /usr/bin/systemctl * lelastic as root without a password"
    assert f"danger: /etc/sudoers: {said}" in printed.out
    assert f"warning: /etc/sudoers: {said}" in printed.err
    assert "/usr/bin/id" not in printed.out + printed.err


def test_the_sudo_rule_stays_while_a_script_that_stays_calls_sudo(
    host: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    host.at("/etc/keepalived/notify.sh").write_text(NOTIFY_SH + "curl -s http://pager.example/\n")
    assert adopt(host) == 0
    assert SUDO_RULE in host.text("/etc/sudoers.d/keepalived")
    assert "the sudo rule stays: /etc/keepalived/notify.sh" in capsys.readouterr().out
