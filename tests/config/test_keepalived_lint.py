"""A setup without a fault, and the findings of each fault that is put into it."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from floatip.core.addresses import Placed
from floatip.reading.keepalived import KeepalivedConf, read
from floatip.reading.keepalived.lint import MachineFacts, lint
from floatip.reading.keepalived.lint.facts import gather, paths_of
from floatip.reading.rights import SeenFile, User

CONF = Path("/etc/keepalived/keepalived.conf")
TEXT = """\
global_defs {
    enable_script_security
    script_user keepalived_script
}
vrrp_script chk {
    script "/etc/keepalived/check.sh"
    interval 1
    fall 2
}
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 100
    unicast_src_ip 192.168.143.227
    unicast_peer {
        192.168.143.241
    }
    virtual_ipaddress {
        192.168.223.158/32
    }
    track_script {
        chk
    }
    notify "/etc/keepalived/notify.sh arg"
}
"""
SCRIPT_USER = User("keepalived_script", 998, frozenset({998}), "keepalived_script")
SCRIPTS = {Path("/etc/keepalived/check.sh"): SeenFile(), Path("/etc/keepalived/notify.sh"): SeenFile()}
DIRECTORIES = {directory: SeenFile(is_directory=True) for directory in CONF.parents}
FACTS = MachineFacts(
    users={"root": User("root", 0), SCRIPT_USER.name: SCRIPT_USER},
    files={CONF: SeenFile(mode=0o644), **SCRIPTS, **DIRECTORIES},
    addresses=(
        Placed("eth0", ip_interface("192.168.143.227/17")),
        Placed("lo", ip_interface("192.168.223.158/32")),
    ),
)


def parsed(root: Path, *edits: tuple[str, str]) -> KeepalivedConf:
    text = TEXT
    for old, new in edits:
        assert old in text, f"the setup has no {old!r}"
        text = text.replace(old, new)
    path = root / CONF.relative_to("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read(CONF, root)


def found(conf: KeepalivedConf, **changes: Any) -> list[str]:
    said = []
    for finding in lint(conf, replace(FACTS, **changes)):
        print(finding)
        assert finding.hint
        said.append(re.sub(rf"{CONF}:(?=\d)", "", f"{finding.severity}: {finding.place}: {finding.what}"))
    return said


def seen(path: str, **changes: Any) -> Mapping[Path, SeenFile]:
    files = dict(FACTS.files)
    files[Path(path)] = replace(files[Path(path)], **changes)
    return files


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert found(parsed(tmp_path)) == []


NOTIFY = '    notify "/etc/keepalived/notify.sh arg"\n'
PRIORITY = "    priority 100\n"
TRACKED = "        chk\n"
GROUP = "vrrp_sync_group G {\n    group {\n        VI_1\n    }\n}\nvrrp_instance VI_1 {"
AS_ROOT = ("script_user keepalived_script", "script_user root")
CHECK = ("check.sh", "nothing.sh")
FAULTS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "no_notify_stop": (
        [(NOTIFY, NOTIFY.replace("notify ", "notify_master "))],
        "danger: 10: vrrp_instance VI_1: no notify_stop: keepalived stops, the announcer goes on, traffic is lost",
    ),
    "a_tracked_script_that_is_not_defined": (
        [(TRACKED, f"{TRACKED}        other\n")],
        "danger: 24: vrrp_instance VI_1: keepalived ignores 'other' in track_script: "
        "there is no vrrp_script other above it",
    ),
    "a_script_that_is_not_there": (
        [CHECK],
        "danger: 5: vrrp_script chk: /etc/keepalived/nothing.sh is not there, "
        "so keepalived drops it and its instances run without this check",
    ),
    "a_notify_script_that_is_not_there": (
        [("notify.sh", "nothing.sh")],
        "danger: 25: notify /etc/keepalived/nothing.sh arg: /etc/keepalived/nothing.sh is not there, "
        "so keepalived drops it and nobody is told",
    ),
    "a_vrrp_script_without_a_script": (
        [('    script "/etc/keepalived/check.sh"\n', "\n")],
        "danger: 5: vrrp_script chk: no script, so keepalived drops it and its instances run without this check",
    ),
    "arguments_without_quotes": (
        [('"/etc/keepalived/notify.sh arg"', "/etc/keepalived/notify.sh arg")],
        "danger: 25: notify /etc/keepalived/notify.sh arg: there is no user arg, "
        "so keepalived drops it and nobody is told",
    ),
    "an_address_on_lo": (
        [("158/32", "158/32 dev lo")],
        "danger: 20: 192.168.223.158/32 dev lo: on lo keepalived removes the copy that floatip holds, "
        "at each change of role",
    ),
    "a_wide_prefix": (
        [("158/32", "158/24")],
        "wrong: 20: 192.168.223.158/24: written as /24: its neighbours of that network cannot be reached from here",
    ),
    "no_address": (
        [("        192.168.223.158/32\n", "\n")],
        "wrong: 10: vrrp_instance VI_1: no address",
    ),
    "multicast": (
        [("    unicast_peer {\n        192.168.143.241\n    }\n", "\n\n\n")],
        "danger: 10: vrrp_instance VI_1: no unicast_peer: clouds drop multicast, and each node becomes master",
    ),
    "no_source": (
        [("    unicast_src_ip 192.168.143.227\n", "\n")],
        "wrong: 10: vrrp_instance VI_1: no unicast_src_ip: keepalived takes the interface's first address",
    ),
    "nopreempt_and_state_master": (
        [("state BACKUP", "state MASTER"), (PRIORITY, f"{PRIORITY}    nopreempt\n")],
        "wrong: 15: vrrp_instance VI_1: nopreempt with state MASTER: keepalived clears it; a returning node takes over",
    ),
    "a_weight_and_nopreempt": (
        [(TRACKED, "        chk weight -20\n"), (PRIORITY, f"{PRIORITY}    nopreempt\n")],
        "wrong: 10: vrrp_instance VI_1: chk weighs -20: with nopreempt the other node leaves the failing master alone",
    ),
    "a_weight_at_priority_255": (
        [("    fall 2\n", "    fall 2\n    weight 20\n"), ("priority 100", "priority 255")],
        "danger: 24: vrrp_instance VI_1: keepalived ignores 'chk' in track_script: priority 255 has no weights",
    ),
    "a_weight_in_a_group": (
        [("vrrp_instance VI_1 {", GROUP), (TRACKED, "        chk weight -20\n")],
        "wrong: 15: vrrp_instance VI_1: chk weighs -20: "
        "keepalived leaves out weighted checks of an instance in a sync group",
    ),
    "a_weight_and_an_unknown_peer": (
        [(TRACKED, "        chk weight -20\n")],
        "note: 10: vrrp_instance VI_1: chk weighs -20: "
        "a failure moves the address only if the other node's priority is above 80",
    ),
    "a_long_password": (
        [
            (
                PRIORITY,
                f"{PRIORITY}    authentication {{\n        auth_type PASS\n        auth_pass hunter2hunter2\n    }}\n",
            )
        ],
        "note: 10: vrrp_instance VI_1: auth_pass has more than 8 characters: only 8 reach the wire, in clear",
    ),
    "a_slow_check": (
        [("interval 1\n    fall 2", "interval 15\n    fall 4")],
        "note: 5: vrrp_script chk: a failure is noticed after 45 to 60 s (interval 15 s, fall 4)",
    ),
    "no_script_security": (
        [("    enable_script_security\n", "\n")],
        "wrong: 1: no enable_script_security: keepalived runs as root also what others can change",
    ),
    "a_check_below_its_use": (
        [
            (TRACKED, f"{TRACKED}        late\n"),
            (NOTIFY + "}\n", NOTIFY + '}\nvrrp_script late {\n    script "/bin/x"\n}\n'),
        ],
        "danger: 24: vrrp_instance VI_1: keepalived ignores 'late' in track_script: "
        "there is no vrrp_script late above it",
    ),
    "a_word_behind_a_check": (
        [(TRACKED, "        chk 10\n")],
        "danger: 23: vrrp_instance VI_1: keepalived ignores 'chk 10' in track_script: '10' is not 'weight NUMBER'",
    ),
    "a_check_twice": (
        [(TRACKED, TRACKED * 2)],
        "note: 24: vrrp_instance VI_1: keepalived ignores 'chk' in track_script: chk is tracked already",
    ),
    "shell_syntax": (
        [('check.sh"', 'check.sh a | /usr/bin/grep b"')],
        "danger: 5: check /etc/keepalived/check.sh a | /usr/bin/grep b: "
        "keepalived runs no shell, and '|' is an argument",
    ),
    "a_builtin_of_the_shell": (
        [('"/etc/keepalived/check.sh"', '"cd /tmp"')],
        "danger: 5: vrrp_script chk: keepalived runs no shell, and 'cd' is no program, "
        "so keepalived drops it and its instances run without this check",
    ),
    "a_process_below_its_use": (
        [
            (PRIORITY, f"{PRIORITY}    track_process {{\n        web\n    }}\n"),
            (NOTIFY + "}\n", NOTIFY + "}\nvrrp_track_process web {\n    process nginx\n}\n"),
        ],
        "danger: 16: vrrp_instance VI_1: keepalived ignores 'web' in track_process: "
        "there is no vrrp_track_process web above it",
    ),
    "a_file_that_is_not_defined": (
        [(PRIORITY, f"{PRIORITY}    track_file {{\n        load\n    }}\n")],
        "danger: 16: vrrp_instance VI_1: keepalived ignores 'load' in track_file: "
        "there is no vrrp_track_file load above it",
    ),
    "two_statements_on_a_line": (
        [("    state BACKUP\n", "    state BACKUP priority 200\n")],
        "danger: 11: state BACKUP priority 200: keepalived reads one statement a line, and ignores priority",
    ),
    "two_statements_on_a_line_of_a_script": (
        [("    interval 1\n    fall 2\n", "    interval 1 fall 2\n\n")],
        "danger: 7: interval 1 fall 2: keepalived reads one statement a line, and ignores fall",
    ),
    "two_statements_on_a_line_of_the_globals": (
        [("    script_user", "    vrrp_strict max_auto_priority enable_script_security\n    script_user")],
        "danger: 3: vrrp_strict max_auto_priority enable_script_security: "
        "keepalived reads one statement a line, and ignores enable_script_security",
    ),
    "two_addresses_on_a_line": (
        [("158/32\n", "158/32 dev eth0 192.168.223.159\n")],
        "danger: 20: 192.168.223.158/32 dev eth0 192.168.223.159: "
        "keepalived reads one statement a line, and ignores 192.168.223.159",
    ),
    "two_peers_on_a_line": (
        [("143.241\n", "143.241 fd00::1\n")],
        "danger: 17: 192.168.143.241 fd00::1: keepalived reads one statement a line, and ignores fd00::1",
    ),
    "script_security_false": (
        [("enable_script_security", "enable_script_security no")],
        "wrong: 2: enable_script_security no: it takes no value, and means enable_script_security",
    ),
    "nopreempt_false": (
        [(PRIORITY, f"{PRIORITY}    nopreempt false\n")],
        "wrong: 15: nopreempt false: it takes no value, and means nopreempt",
    ),
    "nopreempt_and_a_delay": (
        [(PRIORITY, f"{PRIORITY}    nopreempt\n    preempt_delay 5\n")],
        "note: 16: preempt_delay 5: without effect, because of nopreempt",
    ),
    "the_checksum_of_old_keepaliveds": (
        [(PRIORITY, f"{PRIORITY}    old_unicast_checksum\n    version 3\n")],
        "danger: 15: old_unicast_checksum: floatip drops adverts with this checksum, "
        "and takes a silent keepalived for dead",
    ),
    "a_header_for_authentication": (
        [(PRIORITY, f"{PRIORITY}    authentication {{\n        auth_type AH\n        auth_pass x\n    }}\n")],
        "danger: 16: vrrp_instance VI_1: auth_type AH: floatip does not understand these adverts",
    ),
    "a_header_that_version_3_has_not": (
        [
            (
                PRIORITY,
                f"{PRIORITY}    version 3\n    authentication {{\n        auth_type AH\n        auth_pass x\n    }}\n",
            )
        ],
        "note: 17: vrrp_instance VI_1: keepalived ignores this authentication: it needs version 2 and auth_type PASS",
    ),
    "a_password_without_its_type": (
        [(PRIORITY, f"{PRIORITY}    authentication {{\n        auth_pass hunter2hunter2\n    }}\n")],
        "note: 16: vrrp_instance VI_1: keepalived ignores this authentication: it needs version 2 and auth_type PASS",
    ),
    "a_fifo_that_somebody_reads": (
        [("script_user", "vrrp_notify_fifo /run/other\n    script_user")],
        "note: 3: vrrp_notify_fifo /run/other: somebody reads this FIFO already, and a line goes to one reader only",
    ),
}


HARMLESS = {
    "a_check_whether_a_file_can_be_opened": [('"/etc/keepalived/check.sh"', '"</etc/hostname"')],
    "a_link_local_address": [
        ("    track_script", "    virtual_ipaddress_excluded {\n  fe80::10/64\n }\n    track_script")
    ],
    "an_address_that_is_the_value_of_an_option": [("158/32\n", "158/32 brd 192.168.223.255\n")],
    "a_value_that_looks_like_a_keyword": [(PRIORITY, f"{PRIORITY}    debug state\n")],
    "the_checksum_of_old_keepaliveds_in_version_2": [(PRIORITY, f"{PRIORITY}    old_unicast_checksum\n")],
    "the_checksum_of_old_keepaliveds_never": [(PRIORITY, f"{PRIORITY}    old_unicast_checksum never\n    version 3\n")],
    "quoted_shell_syntax": [('check.sh"', 'check.sh \'a|b\' \\"$1;\\" http://h/?a=1&b=2 -x=>y"')],
    "a_lock": [('"/etc/keepalived/check.sh"', '"/usr/bin/flock /var/lib/postgresql/data /etc/keepalived/check.sh"')],
    "code_behind_an_interpreter": [
        ('"/etc/keepalived/check.sh"', "\"/bin/sh -ec 'test -e $1' /var/lib/postgresql/data\"")
    ],
    "code_behind_perl": [('"/etc/keepalived/check.sh"', '"/bin/sh -e /bin/perl -we 1 /var/lib/postgresql/data"')],
    "data_behind_a_program": [('check.sh"', 'check.sh /var/lib/postgresql/data"')],
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_as_it_should_be_is_not_found(case: str, tmp_path: Path) -> None:
    database = {Path("/var/lib/postgresql/data"): SeenFile(uid=105, is_directory=True)}
    programs = {Path(name): SeenFile() for name in ("/usr/bin/flock", "/bin/sh", "/bin/perl")}
    assert found(parsed(tmp_path, *HARMLESS[case]), files={**FACTS.files, **programs, **database}) == []


@pytest.mark.parametrize(
    ("script", "is_watched"),
    [
        ("[ ! -f /etc/keepalived/trigger.file ]", False),
        ("# haproxy", False),
        ("killall -0 haproxy", True),
        ("curl http://localhost", True),
        ("ss -ltn | grep -q :80", True),
        ("", True),  # a program
    ],
)
def test_a_service_that_no_check_watches_is_found(script: str, is_watched: bool, tmp_path: Path) -> None:
    files = seen("/etc/keepalived/check.sh", text=f"#!/bin/sh\n{script}\n" if script else "")
    said = lint(parsed(tmp_path), replace(FACTS, files=files, services=frozenset({"haproxy"})))
    assert ("service-unwatched" in {one.code for one in said}) is not is_watched


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_configuration_is_found_and_nothing_else(fault: str, tmp_path: Path) -> None:
    edits, expected = FAULTS[fault]
    assert found(parsed(tmp_path, *edits)) == [expected]


def test_no_password_is_ever_in_a_finding(tmp_path: Path) -> None:
    password = f"{PRIORITY}    authentication {{\n        auth_type PASS\n        auth_pass hunter2hunter2\n    }}\n"
    conf = parsed(tmp_path, (PRIORITY, password))
    assert "hunter2" not in "".join(map(str, lint(conf, FACTS)))


def test_an_address_that_network_helper_put_there_with_a_wide_prefix_is_found(tmp_path: Path) -> None:
    wide = Placed("eth0", ip_interface("192.168.223.158/24"))
    assert found(parsed(tmp_path), addresses=(*FACTS.addresses, wide)) == [
        "wrong: 20: 192.168.223.158/24 is on eth0, put there by something else: "
        "its neighbours of that network cannot be reached from here"
    ]


def test_what_the_script_user_can_change_of_roots_is_found_with_the_directory_above_it(tmp_path: Path) -> None:
    files = {
        path: replace(one, uid=998) if str(path).startswith("/etc/keepalived") else one
        for path, one in FACTS.files.items()
    }
    assert found(parsed(tmp_path), files=files) == [
        f"danger: {CONF}: keepalived_script can change {path}, and with it what root reads or runs"
        for path in ("/etc/keepalived", CONF)
    ]


@pytest.mark.parametrize(
    ("path", "changes", "is_open"),
    [
        ("/etc/keepalived/check.sh", {"mode": 0o757}, True),
        ("/etc/keepalived/check.sh", {"mode": 0o775, "gid": 998}, True),
        ("/etc/keepalived/check.sh", {"mode": 0o775, "gid": 0}, False),
        ("/etc/keepalived/check.sh", {"mode": 0o555, "uid": 1000}, True),
        ("/etc/keepalived/check.sh", {"mode": 0o755, "uid": 998}, False),
        ("/etc/keepalived", {"mode": 0o1777}, False),
        ("/etc/keepalived", {"mode": 0o777}, True),
        ("/etc", {"uid": 998}, True),
    ],
)
def test_who_can_change_a_file_is_judged_by_owner_group_mode_and_sticky_bit(
    path: str, changes: dict[str, Any], is_open: bool, tmp_path: Path
) -> None:
    alice = User("alice", 1000, frozenset({1000, 998}))
    said = found(parsed(tmp_path), files=seen(path, **changes), users={**FACTS.users, "alice": alice})
    assert [f"can change {path}," in finding for finding in said if "can change" in finding] == [True] * is_open


def test_a_script_that_its_user_cannot_execute_is_dropped(tmp_path: Path) -> None:
    assert found(parsed(tmp_path), files=seen("/etc/keepalived/check.sh", mode=0o744)) == [
        "danger: 5: vrrp_script chk: keepalived_script cannot execute /etc/keepalived/check.sh, "
        "so keepalived drops it and its instances run without this check"
    ]


def test_with_script_security_a_script_of_roots_that_others_can_change_is_dropped(tmp_path: Path) -> None:
    as_root = ("script_user keepalived_script", "script_user root")
    files = seen("/etc/keepalived/check.sh", mode=0o757)
    dropped = (
        "danger: 5: vrrp_script chk: it runs as root, and not only root can change /etc/keepalived/check.sh, "
        "so keepalived drops it and its instances run without this check"
    )
    open_to = "everybody can change /etc/keepalived/check.sh, and with it what root reads or runs"
    assert found(parsed(tmp_path, as_root), files=files) == [dropped, f"danger: 5: {open_to}"]
    insecure = parsed(tmp_path, as_root, ("    enable_script_security\n", ""))
    assert [finding.partition(":")[0] for finding in found(insecure, files=files)] == ["danger", "wrong"]


@pytest.mark.parametrize("is_secure", [True, False])
def test_without_a_script_user_script_security_asks_for_keepalived_script(is_secure: bool, tmp_path: Path) -> None:
    edits = [("    script_user keepalived_script\n", "")]
    edits += [] if is_secure else [("    enable_script_security\n", "")]
    said = found(parsed(tmp_path, *edits), users={"root": User("root", 0)})
    no_user = [finding for finding in said if "there is no user keepalived_script" in finding]
    assert len(no_user) == (2 if is_secure else 0)


def test_a_sudo_rule_of_the_script_user_is_found(tmp_path: Path) -> None:
    sudo = {"keepalived_script": ("/usr/bin/systemctl restart lelastic", "ALL"), "somebody": ("ALL",)}
    end = "as root without a password, and so may whoever changes its script"
    assert found(parsed(tmp_path), sudo=sudo) == [
        f"danger: /etc/sudoers: keepalived_script may run /usr/bin/systemctl restart lelastic {end}",
        f"danger: /etc/sudoers: keepalived_script may run ALL {end}",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sudo -n true", ["calls sudo"]),
        ("/usr/bin/systemctl is-active x", []),
        ("killall -0 haproxy", ["asks killall -0"]),
        ("killall -q -0 haproxy", ["asks killall -q -0"]),
        ("pidof haproxy", ["asks pidof"]),
        ("echo $1 >> /tmp/keepalived.state", ["uses /tmp/keepalived.state"]),
        ("log='/var/tmp/x/y.log'", ["uses /var/tmp/x/y.log"]),
        ("mktemp /tmp/mine.XXXXXX", []),
        ("# sudo systemctl killall -0 /tmp/x", []),
        ("ls /srv/tmp/x; pseudo; killall -9 x; mysystemctl_x", []),
    ],
)
def test_what_a_script_does_is_read_in_its_text(text: str, expected: list[str], tmp_path: Path) -> None:
    files = seen("/etc/keepalived/check.sh", text=f"#!/bin/sh\n{text}\n")
    said = found(parsed(tmp_path), files=files)
    starts = [f"check /etc/keepalived/check.sh {what}" for what in expected]
    assert [finding.split(": ")[2] for finding in said] == starts


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("systemctl is-active -q haproxy", False),
        ("systemctl show -p ActiveState haproxy", False),
        ("/usr/bin/systemctl --no-block restart haproxy", True),
        ("systemctl -q reload haproxy", True),
    ],
)
def test_a_notify_script_that_changes_a_unit_is_found_and_one_that_asks_is_not(
    text: str, is_found: bool, tmp_path: Path
) -> None:
    said = found(parsed(tmp_path), files=seen("/etc/keepalived/notify.sh", text=f"#!/bin/sh\n{text}\n"))
    assert ["calls systemctl" in one for one in said] == [True] * is_found


def test_what_a_command_does_without_a_script_is_read_too(tmp_path: Path) -> None:
    conf = parsed(tmp_path, ('"/etc/keepalived/check.sh"', '"killall -0 haproxy"'))
    killall = {Path("/usr/bin/killall"): SeenFile()}
    assert found(conf, files={**FACTS.files, **killall})[1:] == [
        "wrong: 5: check killall -0 haproxy asks killall -0: "
        "yes also for a zombie, another's process of that name, or one that hangs"
    ]


@pytest.mark.parametrize(
    ("arguments", "syntax"),
    [
        ("-ltn|/usr/bin/grep :80", "-ltn|/usr/bin/grep"),
        ("a && b", "&&"),
        ("a; b", "a;"),
        ("a & b", "&"),
        ("2>&1", "2>&1"),
        ("a >/dev/null", ">/dev/null"),
        ("a>/dev/null", "a>/dev/null"),
        ("< /etc/passwd", "<"),
        ("$(hostname)", "$(hostname)"),
        ("`hostname`", "`hostname`"),
        ("$HOSTNAME", "$HOSTNAME"),
        ("${HOSTNAME", "${HOSTNAME"),
        ("/run/*.pid", "/run/*.pid"),
    ],
)
def test_what_only_a_shell_understands_is_found_in_the_arguments(arguments: str, syntax: str, tmp_path: Path) -> None:
    said = found(parsed(tmp_path, ('check.sh"', f'check.sh {arguments}"')))
    assert [one.partition("no shell, and ")[2] for one in said] == [f"'{syntax}' is an argument"]


@pytest.mark.parametrize("word", ["cd", "LANG=C", "~/check.sh", "$HOME/check.sh", "[[", ".", "exec", "!"])
def test_what_only_a_shell_runs_is_found(word: str, tmp_path: Path) -> None:
    said = found(parsed(tmp_path, ('"/etc/keepalived/check.sh"', f'"{word} x"')))
    assert [f"keepalived runs no shell, and '{word}' is no program" in one for one in said] == [True]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/bin/a /b", ["/bin/a"]),
        ("/bin/sh -e /b /c", ["/bin/sh", "/b"]),
        ("sudo -u x /bin/bash /b /c", ["/bin/bash", "/b"]),
        ("env A=1 /bin/a /c", ["/bin/a"]),
        ("/usr/bin/timeout -s KILL 5 /usr/bin/flock -n /lock /bin/a", ["/usr/bin/timeout", "/usr/bin/flock", "/bin/a"]),
        ("python3.11 -m http /c", []),
        ("", []),
    ],
)
def test_only_what_is_run_counts_as_a_path_of_a_command(command: str, expected: list[str]) -> None:
    assert paths_of(tuple(command.split())) == [Path(path) for path in expected]


@pytest.mark.parametrize("secure", [True, False])
def test_the_directory_of_somebody_else_is_not_taken_from_them(secure: bool, tmp_path: Path) -> None:
    """A chown of it would stop the service or the person whose it is."""
    home = {Path("/home/deploy"): SeenFile(uid=1000, is_directory=True), Path("/home/deploy/check.sh"): SeenFile()}
    deploy = User("deploy", 1000, frozenset({1000}))
    edits = [AS_ROOT, ("/etc/keepalived/check.sh", "/home/deploy/check.sh")]
    edits += [] if secure else [("    enable_script_security\n", "")]
    conf = parsed(tmp_path, *edits)
    facts = replace(FACTS, files={**FACTS.files, **home}, users={**FACTS.users, "deploy": deploy})
    hints = {one.hint for one in lint(conf, facts) if one.code in ("others-can-write", "command-dropped")}
    assert hints == {"move /home/deploy/check.sh to a directory that only root can write, such as /etc/keepalived"}


def test_the_worst_comes_first(tmp_path: Path) -> None:
    conf = parsed(tmp_path, ("    fall 2\n", "    fall 30\n"), ("158/32", "158/24"), CHECK)
    assert [finding.partition(":")[0] for finding in found(conf)] == ["danger", "wrong", "note"]


def make(root: Path, files: dict[str, tuple[str, int, int]]) -> None:
    for name, (text, mode, uid) in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, uid, 0)


def test_the_guides_host_is_looked_at_as_it_lies_on_the_disk(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "files of other users are made: run as root"
    guide = Path(__file__).parents[1] / "config" / "keepalived" / "the_guide.conf"
    notify = "#!/bin/bash\nlog='/tmp/keepalived.state'\nsudo systemctl restart lelastic\necho $1 >> $log\n"
    make(
        tmp_path,
        {
            "etc/keepalived/keepalived.conf": (guide.read_text(), 0o644, 998),
            "etc/keepalived/notify.sh": (notify, 0o755, 998),
            "etc/keepalived/failover.sh": ("#!/bin/bash\n[ ! -f /etc/keepalived/trigger.file ]\n", 0o644, 998),
        },
    )
    os.chown(tmp_path / "etc/keepalived", 998, 0)
    tmp_path.chmod(0o755)
    conf = read(CONF, tmp_path)
    facts = replace(gather(conf, FACTS.users, tmp_path, FACTS.addresses), sudo={"keepalived_script": ("ALL",)})
    said = [f"{one.severity} {one.place} {one.code}" for one in lint(conf, facts)]
    print("\n".join(map(str, lint(conf, facts))))
    assert said == [
        f"danger {CONF}:7 command-dropped",  # failover.sh is not executable
        f"danger {CONF} others-can-write",  # its directory
        f"danger {CONF} others-can-write",
        "danger /etc/sudoers sudo-without-password",
        f"danger {CONF}:38 script-calls-sudo",
        f"danger {CONF}:38 file-in-tmp",
        f"danger {CONF}:14 no-notify-stop",
        f"wrong {CONF}:38 script-calls-systemctl",
        f"note {CONF}:7 slow-check",
        f"note {CONF}:14 long-password",
    ]


def test_a_program_without_a_path_is_dropped_for_all_but_root(tmp_path: Path) -> None:
    pidof = ('"/etc/keepalived/check.sh"', '"pidof nginx"')
    files = {**FACTS.files, Path("/usr/bin/pidof"): SeenFile()}
    dropped = (
        "danger: 5: vrrp_script chk: keepalived looks up pidof in its PATH for root only, not for keepalived_script"
    )
    assert found(parsed(tmp_path, pidof), files=files)[0].startswith(dropped)
    assert not [one for one in found(parsed(tmp_path, pidof, AS_ROOT), files=files) if "drops" in one]
    assert "pidof is not in keepalived's PATH" in found(parsed(tmp_path, pidof, AS_ROOT))[0]


def test_where_a_program_without_a_path_stands_is_looked_up(tmp_path: Path) -> None:
    conf = parsed(tmp_path, ('"/etc/keepalived/check.sh"', '"pidof nginx"'))
    make(tmp_path, {"usr/sbin/pidof": ("", 0o755, 0)})
    assert Path("/usr/sbin/pidof") in gather(conf, FACTS.users, tmp_path).files


def test_sudo_gives_root_nothing(tmp_path: Path) -> None:
    files = seen("/etc/keepalived/check.sh", text="#!/bin/sh\nsudo true\n")
    assert found(parsed(tmp_path, AS_ROOT), files=files) == []


def test_an_address_that_keepalived_put_there_as_it_is_written_is_written_wide_once(tmp_path: Path) -> None:
    placed = Placed("eth0", ip_interface("192.168.223.158/24"))
    said = found(parsed(tmp_path, ("158/32", "158/24")), addresses=(*FACTS.addresses, placed))
    assert ["written as /24" in one for one in said] == [True]


@pytest.mark.parametrize(
    ("address", "is_source"),
    [
        ("2600::5/64", True),
        ("2600::5", False),
        ("2600::5 preferred_lft forever", True),
        ("2600::5/64 preferred_lft 0", False),
    ],
)
def test_an_ipv6_address_that_is_not_deprecated_may_become_the_source_of_sessions(
    address: str, is_source: bool, tmp_path: Path
) -> None:
    excluded = f"    virtual_ipaddress_excluded {{\n        {address}\n    }}\n    track_script"
    said = found(parsed(tmp_path, ("    track_script", excluded)))
    assert ["as the source of BGP sessions" in one for one in said] == [True] * is_source


def test_a_fifo_for_all_events_takes_nothing_away_from_floatip(tmp_path: Path) -> None:
    fifos = "    enable_script_security\n    notify_fifo /run/theirs\n"
    assert found(parsed(tmp_path, ("    enable_script_security\n", fifos))) == []
