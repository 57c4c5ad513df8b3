"""`floatip adopt` on configurations of other people's: what it understands, and what it does not claim to know."""

import os
from pathlib import Path
from typing import Any

import pytest

from floatip.adopt import command, keepalived_states
from floatip.adopt.beside import beside
from floatip.adopt.conf_edits import ConfText
from floatip.adopt.plan import Wishes
from floatip.cli import ended
from floatip.reading.toml.document import read
from floatip.reading.toml.reader import accepted
from tests.adopt.haproxy1 import KEEPALIVED_CONF, Haproxy1

CONF = "/etc/keepalived/keepalived.conf"
TOML = "/etc/floatip/floatip.toml"
ADDRESS = "        192.168.223.158/32\n"
SCRIPT_ROOT = "    script_user root\n    enable_script_security\n"


@pytest.fixture
def host(tmp_path: Path) -> Haproxy1:
    return Haproxy1(tmp_path)


def adopt(host: Haproxy1, *, dry_run: bool = False, **options: Any) -> int:
    return ended(lambda: command.adopt(host, Wishes(**options), dry_run=dry_run, yes=True))


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Without the line ends of the layout."""
    return " ".join(capsys.readouterr().out.split())


def rewrite(host: Haproxy1, *edits: tuple[str, str], path: str = CONF) -> None:
    text = host.text(path)
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    host.at(path).write_text(text)


def refused(host: Haproxy1, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    before = host.tree()
    assert adopt(host, **options) == 1
    assert host.tree() == before
    assert host.commands == []
    error = capsys.readouterr().err
    assert "hint: " in error
    return error


# What keepalived is


def test_a_node_that_is_in_fault_is_told_to_the_daemon_as_that(host: Haproxy1) -> None:
    host.keepalived_is, host.role = {"VI_1": "FAULT", "other": "MASTER"}, "fault"
    host.addresses_on["eth0"] = ["192.168.143.227/17"]
    assert adopt(host) == 0
    assert host.told == [{"cmd": "notify", "kind": "INSTANCE", "name": "VI_1", "state": "FAULT"}]


def test_a_state_that_changes_while_it_is_told_is_told_again(host: Haproxy1, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["BACKUP", "MASTER", "MASTER"])
    monkeypatch.setattr(keepalived_states, "states", lambda *_: {"VI_1": next(said)})
    assert adopt(host) == 0
    assert [one["state"] for one in host.told] == ["BACKUP", "MASTER"]


def test_a_state_that_cannot_be_learned_is_not_claimed(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.keepalived_is = {}
    assert adopt(host) == 0
    said = capsys.readouterr().err
    assert "keepalived's own state: not known" in said
    assert "until it changes: systemctl restart keepalived" in said


def test_a_file_in_tmp_that_is_not_keepalived_s_is_not_believed(host: Haproxy1) -> None:
    def put_by_somebody(pid: str) -> object:
        host.write("/proc/811/root/tmp/theirs", " VRRP Instance = VI_1\n   FileState = MASTER\n")
        os.chown(host.at("/proc/811/root/tmp/theirs"), 65534, 65534)
        host.at("/proc/811/root/tmp/theirs").rename(host.at("/proc/811/root/tmp/keepalived.data"))
        return host.run("true")

    host._dumped = put_by_somebody  # type: ignore[assignment, method-assign]
    assert adopt(host) == 0
    assert host.told == []


def test_an_instance_that_keepalived_runs_without_is_an_error(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.keepalived_is, host.role = {"VI_2": "MASTER"}, "backup"
    assert adopt(host) == 1
    assert "keepalived runs without VI_1" in capsys.readouterr().err


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_keepalived_that_was_meant_to_run_and_does_not(
    is_forced: bool, host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.active.discard("keepalived.service")
    if not is_forced:
        assert "keepalived does not run" in refused(host, capsys)
        return
    assert adopt(host, force=True) == 0
    said = capsys.readouterr().err
    assert "nobody elects until it does" in said
    assert "keepalived elects" not in said


# Its processes


@pytest.mark.parametrize(
    ("statements", "main", "vrrp"),
    [
        ("use_pid_dir\n", "/run/keepalived/keepalived.pid", "/run/keepalived/vrrp.pid"),
        ("instance web\n", "/run/keepalived/keepalived_web.pid", "/run/keepalived/vrrp_web.pid"),
    ],
)
def test_the_pid_files_are_those_that_the_statements_say(statements: str, main: str, vrrp: str, host: Haproxy1) -> None:
    host.write(CONF, statements + KEEPALIVED_CONF)
    host.write(main, "811\n")
    host.write(vrrp, "812\n")
    host.pids["keepalived.service"] = 811
    assert adopt(host) == 0
    assert f'pid_file = "{main}"\nvrrp_pid_file = "{vrrp}"\n' in host.text(TOML)


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ("net_namespace blue\n", "network namespace"),
        ("global_defs {\n    vrrp_process_name vip\n}\n", "begins so"),
        ("use_pid_dir\n", "/run/keepalived/keepalived.pid names process none"),
    ],
)
def test_a_keepalived_that_floatip_would_not_find_is_refused(
    conf: str, expected: str, host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(CONF, conf + KEEPALIVED_CONF)
    host.pids["keepalived.service"] = 811
    assert expected in refused(host, capsys)


def test_a_network_namespace_on_the_command_line_is_refused(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("/etc/default/keepalived", 'DAEMON_ARGS="-s blue"\n')
    assert "keepalived -s blue" in refused(host, capsys)


# IPv6 addresses


def with_ipv6(host: Haproxy1, address: str) -> None:
    excluded = f"    virtual_ipaddress_excluded {{\n        {address}\n    }}\n"
    rewrite(host, ("    notify_master", f"{excluded}    notify_master"))
    host.addresses_on["eth0"] += ["2600:3c03:0:1::2/64", address if "/" in address else f"{address}/128"]


def test_an_ipv6_address_that_would_lose_its_announcer_is_not_given_up_silently(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    with_ipv6(host, "2600:3c03:0:aa::5")
    assert "announces 2600:3c03:0:aa::5/64 too, and nobody would any more" in refused(host, capsys)
    assert adopt(host, force=True) == 0
    assert "IPv6 address 2600:3c03:0:aa::5/128 stays with keepalived, not announced" in shown(capsys)


@pytest.mark.parametrize(("address", "is_named"), [("2600:3c03:0:aa::5/64", True), ("2600:3c03:0:aa::5", False)])
def test_an_address_that_the_kernel_may_speak_bgp_from_is_found_and_another_is_named(
    address: str, is_named: bool, host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    with_ipv6(host, address)
    adopt(host, force=True)
    assert ("as the source of BGP sessions" in capsys.readouterr().out) is is_named
    assert ('[bgp]\nsource = "2600:3c03:0:1::2"\n' in host.text(TOML)) is is_named


def test_a_source_that_is_not_given_may_be_an_address_of_dhcp(host: Haproxy1) -> None:
    rewrite(host, ("    unicast_src_ip 192.168.143.227\n", ""))
    host.leased = {"192.168.143.9/17"}
    host.addresses_on["eth0"].insert(0, "192.168.143.9/17")
    assert adopt(host) == 0
    assert 'source = "192.168.143.9"' in host.text(TOML)


# What it may edit


def test_a_block_that_closes_on_the_line_of_another_gets_no_line(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    block = f"    virtual_ipaddress {{\n{ADDRESS}    }}\n"
    fault = '    notify_fault "/etc/keepalived/notify.sh Fault"\n}\n'
    rewrite(host, (block, ""), (fault, block.rstrip() + " }\n"))
    assert "closing brace on a line of its own" in refused(host, capsys, notify=True)


def test_global_defs_that_close_on_the_line_of_another_are_followed_by_new_ones(host: Haproxy1) -> None:
    email = "    notification_email {\n        root@localhost\n    } }\n"
    rewrite(host, ("    enable_script_security\n}\n", email))
    assert adopt(host) == 0
    assert "    } }\nglobal_defs {\n    vrrp_notify_fifo /run/keepalived/floatip root\n}\n" in host.text(CONF)


def test_an_edit_that_says_something_else_than_it_shall_is_refused(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(host, ("    enable_script_security\n}\n\nvrrp_script", "    enable_script_security } vrrp_script"))
    assert "of its own" in refused(host, capsys)


@pytest.mark.parametrize("line", [9, 15, 32])
def test_a_line_in_a_wrong_place_is_noticed_before_it_is_written(
    line: int, host: Haproxy1, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConfText, "append_to", lambda text, block, what: text.insert(line, what) is None)
    said = refused(host, capsys)
    assert f"{CONF}: a change there would change something else too" in said


def test_an_added_line_ends_as_its_neighbours_do(host: Haproxy1) -> None:
    host.at(CONF).write_bytes(KEEPALIVED_CONF.replace("\n", "\r\n").encode())
    assert adopt(host) == 0
    assert b"    vrrp_notify_fifo /run/keepalived/floatip root\r\n}\r\n" in host.at(CONF).read_bytes()


def test_a_file_without_a_last_line_feed_gets_its_line_on_a_line_of_its_own() -> None:
    text = ConfText("a\nb }")
    text.insert(3, "c")
    assert str(text) == "a\nb }\nc\n"


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x85", "\u2028"])
def test_only_a_line_feed_ends_a_line(mark: str, host: Haproxy1) -> None:
    rewrite(host, ("! the guide's configuration\n", f"! the guide's{mark} configuration {mark}\n"))
    assert adopt(host) == 0
    assert "    enable_script_security\n    vrrp_notify_fifo" in host.text(CONF)


def test_a_line_for_this_node_alone_goes_and_one_of_a_definition_is_named(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("/etc/default/keepalived", 'DAEMON_ARGS="-i haproxy1"\n')
    line = '    notify_fault "/etc/keepalived/notify.sh Fault"\n'
    rewrite(host, ("    notify_master", "    @haproxy1 notify_master"), (line, "    $FAULT\n"))
    host.write(CONF, f"$FAULT={line.strip()}\n{host.text(CONF)}")
    assert adopt(host) == 0
    assert "notify_master" not in host.text(CONF)
    assert "notify_fault does not stand alone on its line: remove it by hand" in shown(capsys)


def test_a_name_that_is_not_utf_8_is_refused(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.at(CONF).write_bytes(KEEPALIVED_CONF.encode().replace(b"VI_1", b"V\xe9"))
    assert "not UTF-8" in refused(host, capsys)


def test_several_statements_on_one_line_are_named_as_that(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(host, ("    nopreempt\n    interface eth0\n", ""), ("state BACKUP", "state BACKUP interface eth0"))
    assert adopt(host) == 2
    assert "one statement a line: interface stands behind state" in capsys.readouterr().err


# Who is told how

THEIRS = ("    enable_script_security\n", "    enable_script_security\n    vrrp_notify_fifo /run/theirs\n")


def test_a_script_of_the_users_that_calls_floatip_notify_is_enough(host: Haproxy1) -> None:
    host.write("/etc/keepalived/all.sh", '#!/bin/sh\nfloatip notify "$@"\npage somebody "$3"\n', 0o755)
    lines = '    notify "/etc/keepalived/all.sh"\n    notify_master'
    rewrite(host, THEIRS, ("    notify_master", lines))
    assert adopt(host) == 0
    assert "/usr/bin/floatip notify" not in host.text(CONF)
    assert "all.sh" in host.text(CONF)


def test_a_fifo_is_not_recommended_where_it_is_taken(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("/etc/keepalived/all.sh", "#!/bin/sh\npage somebody\n", 0o755)
    rewrite(host, THEIRS, ("    notify_master", '    notify "/etc/keepalived/all.sh"\n    notify_master'))
    said = refused(host, capsys)
    assert "call `floatip notify" in said
    assert "--notify" not in said


# What is shown


def test_what_keepalived_says_of_its_file_is_shown(host: Haproxy1, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(host, ("! the guide's", "! floatip's guide's"))
    host.complaint = "(Line 3) Unknown keyword 'frobnicate'"
    adopt(host, dry_run=True)
    assert "    (Line 3) Unknown keyword 'frobnicate'\n" in capsys.readouterr().out


# What has changed since


def compared(host: Haproxy1) -> list[str]:
    return [str(one) for one in beside(*accepted(read(str(host.at(TOML)))), host)]


OWN = 'state_log = "/var/log/floatip/state"\n\n[[check]]\nname = "mine"\nfile = "/run/x" # keep me\n'


def test_a_floatip_toml_that_differs_is_shown_with_what_is_wanted_and_replaced_by_force(
    host: Haproxy1, capsys: pytest.CaptureFixture[str]
) -> None:
    adopt(host)
    rewrite(
        host,
        ('state_log = "/var/log/floatip/state"\n', OWN),
        ("[[instance]]\n", '[[instance]]\nchecks = ["mine"]\n'),
        path=TOML,
    )
    written = host.text(TOML)
    rewrite(host, ("priority 50", "priority 40"), (ADDRESS, f"{ADDRESS}        192.168.223.159\n"))
    host.commands.clear()
    said = refused(host, capsys)
    assert f"keepalived.priority: 50 here, and 40 at {CONF}:20" in said
    assert "addresses: 192.168.223.158/32 here, and 192.168.223.158/32, 192.168.223.159/32 at" in said
    assert "priority = 40" in said, "the wanted file"
    assert adopt(host, force=True) == 0
    assert "priority = 40" in host.text(TOML)
    assert "mine" not in host.text(TOML)
    assert ended(lambda: command.undo(host, dry_run=False, yes=True, force=False)) == 0
    assert host.text(TOML) == written, "the backup keeps it"


def test_check_says_where_keepalived_has_been_changed_since(host: Haproxy1) -> None:
    adopt(host)
    assert compared(host) == []
    rewrite(host, ("priority 50", "priority 40"), ("192.168.143.241", "192.168.143.99"))
    said = compared(host)
    line = host.text(TOML).split("\n").index(next(one for one in host.text(TOML).split("\n") if "vrid" in one)) + 1
    assert all(f'floatip.toml:{line}: warning: instance "VI_1" keepalived.' in one for one in said)
    assert [f"priority: 50 here, and 40 at {CONF}:20" in said[0], "peers: 192.168.143.241 here" in said[1]] == [
        True
    ] * 2
    rewrite(host, ("vrrp_instance VI_1", "vrrp_instance web"))
    assert "has no vrrp_instance VI_1; those there are web" in compared(host)[0]
