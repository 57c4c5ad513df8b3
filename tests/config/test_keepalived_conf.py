"""The files in `keepalived` are read by keepalived too: what it says of them is what must have been read.

Those in `refused` end with the report, in comments.
"""

import contextlib
import difflib
import json
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.reading.keepalived import Group, Instance, KeepalivedConf, NotUnderstood, read
from tests.config.keepalived_dump import CHECK, DUMP, blocks, listed, placed, run_keepalived, seconds, value, words

CASES = Path(__file__).parent / "keepalived"
ACCEPTED = sorted(CASES.glob("*.conf"))
REFUSED = sorted((CASES / "refused").glob("*.conf"))
KEEPALIVED_REFUSES = (2, 4, 5, 6)
"""Its exit status: it gives up, errors, errors that it reads on after, scripts that are not safe."""


def as_keepalived_says(output: str) -> dict[str, Any]:
    dump = "\n".join(re.findall(r"^\w{3} \w{3} [ \d]\d [\d:]+ \d{4}: ( .*)$", output, re.MULTILINE)) + "\n"
    return {
        "instances": {
            name: {
                "version": int(value(lines, "VRRP Version")),
                "state": value(lines, "Wantstate"),
                "interface": value(lines, "Interface"),
                "source": "".join(re.findall(r"src_ip = (\S+) \(from configuration\)", lines)),
                "vrid": int(value(lines, "Virtual Router ID")),
                "priority": int(value(lines, "Priority")),
                "advert_interval": seconds(value(lines, "Advert interval")),
                "preempt": value(lines, "Preempt") == "enabled",
                "password": value(lines, "Password"),
                "addresses": [placed(line) for line in listed(lines, r"Virtual IP \(")],
                "excluded": [placed(line) for line in listed(lines, "Virtual IP Excluded")],
                "peers": [line[0] for line in listed(lines, "Unicast Peer")],
                **tracked_and_notified(lines),
            }
            for name, lines in blocks(dump, "VRRP Instance")
        },
        "groups": {
            name.partition(",")[0]: {
                "members": [line[0] for line in listed(lines, "VRRP member instances")],
                **tracked_and_notified(lines),
            }
            for name, lines in blocks(dump, "VRRP Sync Group")
        },
        "scripts": {
            name: {
                "command": words(value(lines, "Command")),
                "interval": seconds(value(lines, "Interval")),
                "timeout": seconds(value(lines, "Timeout")),
                "weight": int(value(lines, "Weight")),
                "rise": int(value(lines, "Rise")),
                "fall": int(value(lines, "Fall")),
            }
            for name, lines in blocks(dump, "VRRP Script")
        },
    }


def tracked_and_notified(lines: str) -> dict[str, Any]:
    events = {"Master": "master", "Backup": "backup", "Fault": "fault", "Stop": "stop", "Generic": "any"}
    notified = re.findall(r"^   (\w+) state transition script = (.*), uid", lines, re.MULTILINE)
    return {
        "tracked": [(name, int(weight)) for name, _, weight, *_ in listed(lines, "Tracked scripts")],
        "notified": {events[kind]: words(command) for kind, command in notified},
    }


def as_we_say(conf: KeepalivedConf) -> dict[str, Any]:
    return {
        "instances": {
            instance.name: {
                "version": instance.version,
                "state": instance.state,
                "interface": instance.interface,
                "source": str(instance.source or ""),
                "vrid": instance.vrid,
                "priority": instance.priority,
                "advert_interval": instance.advert_interval,
                "preempt": instance.preempt,
                "password": instance.auth_pass[:8],
                "addresses": [(str(virtual.address), virtual.interface) for virtual in instance.addresses],
                "excluded": [(str(virtual.address), virtual.interface) for virtual in instance.excluded],
                "peers": [str(peer) for peer in instance.peers],
                **known(instance, conf),
            }
            for instance in conf.instances
        },
        "groups": {group.name: {"members": list(group.members), **known(group, conf)} for group in conf.groups},
        "scripts": {
            script.name: {
                "command": list(script.command),
                "interval": script.interval,
                "timeout": script.timeout,
                "weight": script.weight,
                "rise": script.rise,
                "fall": script.fall,
            }
            for script in conf.scripts
        },
    }


def known(owner: Instance | Group, conf: KeepalivedConf) -> dict[str, Any]:
    """What keepalived's dump leaves out is left out: scripts that it does not know, `notify_deleted` without one."""
    scripts = [script.name for script in conf.scripts]
    return {
        "tracked": [(name, weight) for name, weight in owner.tracking.scripts if name in scripts],
        "notified": {notify.event: list(notify.command) for notify in owner.notifies if notify.command},
    }


def lines_of(errors: NotUnderstood, folder: Path) -> list[str]:
    return str(errors).replace(f"{folder}/", "").splitlines()


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.stem)
def test_each_case_is_read_as_keepalived_reads_it(case: Path) -> None:
    output = run_keepalived(DUMP, case).stdout
    print(output)
    said = as_keepalived_says(output)
    assert said["instances"], "keepalived did not start"
    ours = as_we_say(read(case, config_id="haproxy1"))
    theirs_shown, ours_shown = (json.dumps(side, indent=1).splitlines() for side in (said, ours))
    print(*difflib.unified_diff(theirs_shown, ours_shown), sep="\n")
    assert ours == said


def test_more_addresses_than_an_advert_holds_are_in_none(tmp_path: Path) -> None:
    many = "\n".join(f"10.2.{number // 250}.{number % 250}" for number in range(257))
    path = write(tmp_path, INSTANCE.replace("10.1.0.1 }", f"\n{many}\n}}"))
    said = as_keepalived_says(run_keepalived(DUMP, path).stdout)["instances"]["VI_1"]
    ours = as_we_say(read(path))["instances"]["VI_1"]
    assert (len(ours["addresses"]), len(ours["excluded"])) == (255, 2)
    assert (ours["addresses"], ours["excluded"]) == (said["addresses"], said["excluded"])


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.stem)
def test_what_is_refused_is_refused_by_keepalived_too_and_every_error_has_its_place(case: Path) -> None:
    check = run_keepalived(CHECK, case)
    print(check.stdout)
    assert check.returncode in KEEPALIVED_REFUSES, check.returncode
    report = [line[2:] for line in case.read_text().splitlines() if line.startswith("!")]
    with pytest.raises(NotUnderstood) as errors:
        read(case, config_id="haproxy1")
    assert lines_of(errors.value, case.parent) == report


def write(folder: Path, text: str, name: str = "keepalived.conf") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


INSTANCE = """vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress { 10.1.0.1 }
}
"""


def test_a_statement_knows_its_file_and_its_first_and_last_line() -> None:
    conf = read(CASES / "includes.conf", config_id="haproxy1")
    first, second = (instance.statement for instance in conf.instances)
    assert (str(first.place), first.end_line) == (f"{CASES}/includes.conf:7", 10)
    assert (str(second.place), second.end_line) == (f"{CASES}/includes.conf:11", 15)
    assert str(first.block[1].place) == f"{CASES}/conf.d/part.txt:1"  # type: ignore[index]
    names = ["includes.conf", "conf.d/global.txt", "conf.d/script.inc", "conf.d/there_is_one.txt"]
    assert conf.files == tuple(CASES / name for name in [*names, "conf.d/more/script.txt", "conf.d/part.txt"])


def test_a_statement_out_of_a_definition_has_the_place_where_the_definition_is_used() -> None:
    conf = read(CASES / "definitions.conf", config_id="haproxy1")
    assert [instance.statement.place.line for instance in conf.instances] == [24, 27]


def test_another_root_is_put_before_what_is_opened_and_not_before_what_is_shown(tmp_path: Path) -> None:
    write(tmp_path / "etc/keepalived", f"include /etc/keepalived/conf.d/*.conf\n{INSTANCE}")
    write(tmp_path / "etc/keepalived", "global_defs {\n script_user root\n", "conf.d/one.conf")
    write(tmp_path / "etc/keepalived", "vrrp_version 3\n}\n", "conf.d/two.conf")
    conf = read(Path("/etc/keepalived/keepalived.conf"), root=tmp_path)
    assert [str(file) for file in conf.files] == [
        "/etc/keepalived/keepalived.conf",
        "/etc/keepalived/conf.d/one.conf",
        "/etc/keepalived/conf.d/two.conf",
    ]
    assert conf.instances[0].version == 3
    option = conf.option("script_user")
    assert option
    assert str(option.place) == "/etc/keepalived/conf.d/one.conf:2"


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotUnderstood) as errors:
        read(tmp_path / "keepalived.conf")
    assert lines_of(errors.value, tmp_path) == [
        "keepalived.conf: cannot be read: No such file or directory",
        "  hint: give the path of the file that keepalived reads, as root",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("~SEQ(A, 1, 0, 2) priority ${A}", "~SEQ(A, 1, 0, 2) priority ${A}: not as ~SEQ and ~LST are written"),
        ("$A=x ${B}\n$B=y ${A}\npriority ${A}", "a definition that contains itself"),
        ("include keepalived.conf", "includes itself"),
        ("includeb {a,b}.conf", "includeb a.conf: no such file"),
        ("global_defs {\ninclude_check +match\n}\ninclude a.conf", "include a.conf: no such file"),
        ("priority ${_RANDOM 10 10}", "priority ${_RANDOM 10 10}: ${_RANDOM 10 10} is not supported"),
    ],
)
def test_what_is_not_supported_is_said_with_its_line(text: str, what: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{INSTANCE}{text}\n")
    with pytest.raises(NotUnderstood, match=re.escape(what)) as errors:
        read(path)
    print(errors.value)
    assert {place.line for place, *_ in errors.value.errors} == {text.count("\n") + 6}


def test_the_hosts_short_name_decides_about_conditions_unless_another_is_given(tmp_path: Path) -> None:
    name = os.uname().nodename.partition(".")[0]
    path = write(tmp_path, INSTANCE.replace("51\n", f"51\n@{name} priority 7\n@other priority 8\n"))
    assert read(path).instances[0].priority == 7
    assert read(path, config_id="other").instances[0].priority == 8


def test_a_password_is_in_no_message_and_in_no_instance_that_is_printed(tmp_path: Path) -> None:
    secret = 'authentication {\n auth_type PASS\n auth_pass "hunter2\n}\n'
    path = write(tmp_path, INSTANCE.replace("51\n", f"51\n{secret}"))
    with pytest.raises(NotUnderstood) as errors:
        read(path)
    assert "hunter2" not in str(errors.value)
    path.write_text(path.read_text().replace('"', ""))
    (instance,) = read(path).instances
    assert instance.auth_pass == "hunter2"
    assert "hunter2" not in str(instance)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from(["{", "}", '"', "'", "\\", "!", "#", "$A", "$A=", "${A}", "@", "~", "\n", " "])))
def test_any_text_is_read_or_refused(text: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text("".join(text))
    with contextlib.suppress(NotUnderstood):
        read(path)


def test_a_fifo_in_place_of_an_included_file_is_an_error_and_holds_up_nobody(tmp_path: Path) -> None:
    file = write(tmp_path, f"include {tmp_path}/more.conf\n{INSTANCE}")
    os.mkfifo(tmp_path / "more.conf")
    with pytest.raises(NotUnderstood, match=r"more\.conf cannot be read: not a regular file"):
        read(file)


def nested_definitions(folder: Path) -> str:
    """Nine of ten lines each: a thousand million lines."""
    names = "ABCDEFGHI"
    lines = [f"${name}=\\\n" + "\\\n".join([f"${after}"] * 10) for name, after in pairwise(names)]
    return "\n".join([*reversed(lines), "$I=x", "$A", ""])


def links_that_include_each_other(folder: Path) -> str:
    for number in range(11):
        (folder / f"{number}.conf").symlink_to("keepalived.conf")
    return "include *.conf\n"


def a_file_of_gigabytes(folder: Path) -> str:
    with open(folder / "large.inc", "wb") as file:
        file.truncate(5 << 29)
    return "include large.inc\n"


def a_line_that_grows(folder: Path) -> str:
    return f"$A={'x' * 600}\nfoo ${{A}} ${{A}}\n"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (nested_definitions, "more than 100000 lines"),
        (links_that_include_each_other, "more than 1000 files"),
        (a_file_of_gigabytes, "large.inc cannot be read: larger than 1024 KiB"),
        (a_line_that_grows, "a line of 1205 bytes"),
    ],
)
def test_a_file_that_is_made_to_take_all_memory_or_time_is_refused(
    make: Callable[[Path], str], what: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"{make(tmp_path)}{INSTANCE}")
    with pytest.raises(NotUnderstood, match=what):
        read(path)


def test_numbers_without_end_count_as_out_of_range(tmp_path: Path) -> None:
    many = "9" * 1000
    script = f'vrrp_script chk {{\nscript "/bin/true"\nfall {many}\nweight {many}\n}}\n'
    tracked = f"51\ntrack_script {{\n chk weight {many}\n}}\n"
    conf = read(write(tmp_path, script + INSTANCE.replace("51\n", tracked)))
    assert (conf.scripts[0].fall, conf.scripts[0].weight) == (1, 0)
    assert conf.instances[0].tracking.scripts == (("chk", 0),)
