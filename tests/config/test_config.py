"""The folder `cases` holds configurations, each with the report that `check` gives below a line of dashes."""

import errno
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floatip import model, providers, reading
from floatip.core.addresses import Placed
from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.trouble import Trouble
from floatip.core.settings import Check, Instance, Settings, Speaker, Static, Vrrp
from floatip.reading import machine
from floatip.reading.place import Thing
from floatip.reading.toml.document import locate
from floatip.reading.toml.tables import TOP, Items, Short, Table
from tests.command_line import floatip

CASES = Path(__file__).parent / "cases"
GUIDE = (CASES / "the_guide_on_haproxy1.toml").read_text().partition("-" * 10)[0]
MACHINE = machine.Machine(
    interfaces={
        "eth0": (IPv4Interface("192.168.143.227/17"), IPv4Interface("10.0.0.1/24")),
        "eth1": (IPv4Interface("192.0.2.1/24"), IPv6Interface("2001:db8::1/64"), IPv6Interface("2001:db8::5/64")),
        "lo": (),
    },
    answering=(("eth0", IPv4Network("192.168.128.0/17")),),
    temporary=frozenset({Placed("eth1", IPv6Interface("2001:db8::5/64"))}),
    demoting=frozenset({"eth0"}),
    mounts={Path("/"): "ext4", Path("/sys"): "sysfs", Path("/mnt/nfs"): "nfs4"},
)


@pytest.fixture(autouse=True)
def the_guides_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(MACHINE, user=user))


def report(path: Path) -> str:
    try:
        warnings = reading.load(path).warnings
        return reading.render([], warnings) if warnings else "ok"
    except reading.ConfigErrors as problems:
        return reading.render(problems.errors, problems.warnings)


def write(directory: Path, text: str) -> Path:
    path = directory / "floatip.toml"
    path.write_text(text)
    path.chmod(0o640)
    return path


FIRST_LINES = {
    "bare.sh": b"exit 0\n",
    "crlf.sh": b"#!/bin/sh\r\nexit 0\r\n",
    "perl.sh": b"#!/usr/bin/perl-of-nowhere -w\n",
    "mark.sh": b"\xef\xbb\xbf#!/bin/sh\n",
}


def make_scripts(directory: Path) -> None:
    (directory / "key").write_text("5a" * 32)
    (directory / "key").chmod(0o640)
    (directory / "open").mkdir()
    for name, text in FIRST_LINES.items():
        (directory / name).write_bytes(text)
        (directory / name).chmod(0o755)
    for name, mode in {"plain.sh": 0o644, "shared.sh": 0o775, "foreign.sh": 0o755, "open/check.sh": 0o755}.items():
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(mode)
    (directory / "open").chmod(0o777)
    if os.geteuid() == 0:
        os.chown(directory / "foreign.sh", 1, -1)


@pytest.mark.parametrize("case", sorted(CASES.glob("*.toml")), ids=lambda case: case.stem)
def test_the_report_of_each_case_is_the_one_below_its_dashes(case: Path, tmp_path: Path) -> None:
    make_scripts(tmp_path)
    text, _, expected = case.read_text().partition("-" * 10 + "\n")
    path = write(tmp_path, text.replace("{dir}", str(tmp_path)))
    assert report(path).replace(str(tmp_path), "{dir}") == expected.rstrip("\n")


def test_the_guides_configuration_gives_exactly_these_settings(tmp_path: Path) -> None:
    assert reading.load(write(tmp_path, GUIDE)).model.settings(seed=1) == Settings(
        checks=(Check("haproxy", interval=1.0, timeout=1.0, rise=2, fall=2, what="/bin/sh"),),
        instances=(
            Instance(
                name="VI_1",
                addresses=(IPv4Interface("192.168.223.158/32"),),
                election=Vrrp(
                    interface="eth0",
                    vrid=51,
                    priority=50,
                    source=IPv4Address("192.168.143.227"),
                    peers=(IPv4Address("192.168.143.241"),),
                    preempt=False,
                ),
                checks=("haproxy",),
                placement="all",
                interface="lo",
            ),
        ),
        speaker=Speaker(
            asn=65001,
            peer_asn=65000,
            router_id=IPv4Address("192.168.143.227"),
            peers=tuple(IPv6Address(f"2600:3c0f:6:34::{number}") for number in (1, 2, 3, 4)),
            marks=providers.LINODE_MARKS,
            hold_time=9,
            ttl=16,
            first_repeat=30,
            repeat_interval=300,
            hints=providers.linode(6).hints,
        ),
    )


def load_case(name: str, directory: Path) -> model.Model:
    text = (CASES / f"{name}.toml").read_text().partition("-" * 10)[0]
    return reading.load(write(directory, text.replace("{dir}", str(directory)))).model


def test_a_generic_network_is_what_the_bgp_table_says(tmp_path: Path) -> None:
    loaded = load_case("a_generic_network_without_an_election", tmp_path)
    assert loaded.network
    assert loaded.network.profile == replace(
        providers.GENERIC,
        asn=65010,
        peer_asn=64512,
        peers=(IPv4Address("192.0.2.254"), IPv6Address("2001:db8::fe")),
        hold_time=30,
        multihop_ttl=2,
    )
    web, maintenance = loaded.settings().checks
    assert web == Check("web", interval=0.2, timeout=0.2, what="::1 80")
    assert maintenance == Check("maintenance", pushed=True)
    assert loaded.checks[0].kind == model.Tcp("::1", 80)
    assert loaded.checks[1].kind == model.File(Path("/run/floatip/maintenance"), "present")
    assert loaded.settings().instances[0].election == Static("primary")
    assert loaded.notify
    assert loaded.notify.command == ("/bin/sh", "-c", "true")


def test_the_notify_table_needs_one_of_its_two_commands(tmp_path: Path) -> None:
    alone = 'static = "primary"\n[linode]\ndcid = 6\n'
    base = f'[[instance]]\nname = "web"\naddresses = ["192.0.2.10/32"]\n{alone}[notify]\n'
    notify = reading.load(write(tmp_path, f'{base}drained = ["/bin/true", "now"]\n')).model.notify
    assert notify == model.Notify(drained=("/bin/true", "now"))
    with pytest.raises(reading.ConfigErrors, match=r"notify: it has no command\n.*name what runs"):
        reading.load(write(tmp_path, f"{base}timeout = 3\n"))
    with pytest.raises(reading.ConfigErrors, match=r"notify.drained: /no/such"):
        reading.load(write(tmp_path, f'{base}drained = "/no/such"\n'))


def test_without_bgp_the_address_goes_to_the_master_on_the_interface_of_vrrp(tmp_path: Path) -> None:
    result = load_case("a_vlan_without_bgp", tmp_path).settings()
    assert result.speaker is None
    assert (result.instances[0].placement, result.instances[0].interface) == ("master", "eth0")


WEB = '[[check]]\nname = "w"\nprocess = "haproxy"\n'
STATIC = '[linode]\ndcid = 6\n[[instance]]\nname = "a"\naddresses = ["192.0.2.10/32"]\nstatic = "primary"\n'
WATCHED = f'{STATIC}checks = ["w"]\n{WEB}'
SCRIPT = STATIC + 'checks = ["c"]\n[[check]]\nname = "c"\nscript = "/not/mounted/yet"\n'


@pytest.mark.parametrize(
    ("text", "router_id"),
    [
        (GUIDE + '[bgp]\nrouter_id = "192.0.2.7"\n', "192.0.2.7"),
        (GUIDE, "192.168.143.227"),
        (STATIC, "192.0.2.9"),
    ],
    ids=["configured", "first vrrp source", "the machine's"],
)
def test_the_router_id_is_the_first_that_is_known(text: str, router_id: str, tmp_path: Path) -> None:
    speaker = reading.load(write(tmp_path, text)).model.settings(router_id=IPv4Address("192.0.2.9")).speaker
    assert speaker
    assert speaker.router_id == IPv4Address(router_id)


def test_bgp_overrides_the_provider(tmp_path: Path) -> None:
    speaker = reading.load(write(tmp_path, GUIDE + "[bgp]\nhold_time = 90\n")).model.settings().speaker
    assert speaker
    assert (speaker.hold_time, speaker.asn, len(speaker.peers)) == (90, 65001, 4)


def test_every_option_of_bgp_reaches_the_speaker(tmp_path: Path) -> None:
    speaker = load_case("bgp_options", tmp_path).settings(router_id=IPv4Address("192.0.2.9")).speaker
    added = (65010, 7)
    assert speaker == Speaker(
        asn=65010,
        peer_asn=64512,
        router_id=IPv4Address("192.0.2.9"),
        peers=(IPv4Address("192.0.2.254"), IPv4Address("192.0.2.253")),
        marks={
            Rank.TAKEOVER_AGAIN: Marks(Origin.IGP, 1, (added,)),
            Rank.TAKEOVER: Marks(Origin.EGP, 1, (added,)),
            Rank.ACTIVE: Marks(Origin.INCOMPLETE, 1, ((65010, 1), added)),
            Rank.STANDBY: Marks(Origin.EGP, 3, ((65010, 2), added)),
            Rank.LAST_RESORT: Marks(Origin.INCOMPLETE, 3, (added,)),
        },
        large_communities=dict.fromkeys(providers.GENERIC_MARKS, ((65010, 1, 7),))
        | {Rank.STANDBY: ((65010, 2, 2), (65010, 1, 7))},
        med=100,
        next_hops=(IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")),
        hold_time=9,
        retry_interval=5,
        interface="eth0",
        ttl=255,
        min_ttl=254,
        md5="secret",
        graceful_shutdown=15,
        first_repeat=30,
        repeat_interval=300,
        hints=speaker.hints if speaker else {},
    )


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("", "med", "election"),
        ("med = false", "med", None),
        ('med = "election"', "med", "election"),
        ('next_hop = "ipv4"', "next_hops", (IPv4Address("192.168.143.227"),)),
        ('next_hop = "ipv6"', "next_hops", ()),
        ('source = "2001:db8::5"', "source", IPv6Address("2001:db8::5")),
    ],
)
def test_a_word_stands_for_a_value(option: str, field: str, value: object, tmp_path: Path) -> None:
    speaker = reading.load(write(tmp_path, f"{GUIDE}[bgp]\n{option}\n")).model.settings().speaker
    assert getattr(speaker, field) == value


@pytest.mark.parametrize(("option", "words"), [('md5 = "k"', "MD5 key"), ("min_ttl = 254", "min_ttl")])
def test_a_time_out_is_suspected_of_what_was_configured(option: str, words: str, tmp_path: Path) -> None:
    plain, guarded = (
        reading.load(write(tmp_path, f"{GUIDE}[bgp]\n{o}\n")).model.settings().speaker for o in ("", option)
    )
    assert plain
    assert guarded
    assert words not in plain.hints[Trouble.TIMED_OUT]
    assert words in guarded.hints[Trouble.TIMED_OUT]


def test_vultr_needs_no_more_than_an_as_and_its_password(tmp_path: Path) -> None:
    text = (CASES / "vultr.toml").read_text().partition("-" * 10)[0]
    loaded = reading.load(
        write(tmp_path, text.replace('"vultr"', '"vultr"\nasn = 4200000001\nmd5 = "k"') + f'checks = ["w"]\n{WEB}')
    )
    assert loaded.warnings == ()
    assert loaded.model.network
    assert loaded.model.network.profile == replace(providers.VULTR, asn=4200000001)


def test_a_region_stands_for_its_data_centre(tmp_path: Path) -> None:
    named = reading.load(write(tmp_path, GUIDE.replace("dcid = 6", 'dcid = "us-east"')))
    assert named.model.network
    assert named.model.network.profile == providers.linode(6)


def test_the_number_of_a_data_centre_stands_in_decimal_in_its_peers() -> None:
    assert str(providers.linode(46).peers[3]) == "2600:3c0f:46:34::4"


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    said = report(path).splitlines()
    assert said[0] == f"{path}: cannot be read: No such file or directory"
    assert said[1] == "  hint: make it: floatip init, or floatip adopt where keepalived runs"


def test_a_file_of_windows_is_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, WATCHED)
    path.write_bytes(b"\xef\xbb\xbf" + WATCHED.replace("\n", "\r\n").encode())
    assert report(path) == "ok"


def test_the_last_line_may_be_without_an_end(tmp_path: Path) -> None:
    assert f"{tmp_path}/floatip.toml:2: linode.dcid: missing" in report(write(tmp_path, "\n[linode]"))


def test_a_file_that_is_not_text_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "floatip.toml"
    path.write_bytes(b"[linode]\ndcid = \xff\n")
    assert report(path).startswith(f"{path}:2: not UTF-8\n")


@given(st.integers(0, len(GUIDE)), st.integers(0, 40), st.sampled_from(['"', "[", "]", "{}", "\n", "=", ".", "0", "#"]))
@settings(max_examples=300, deadline=None)
def test_a_mangled_file_gives_a_configuration_or_a_report_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, length: int, put: str
) -> None:
    path = write(tmp_path_factory.getbasetemp(), GUIDE[:at] + put + GUIDE[at + length :])
    lines = report(path).splitlines()
    assert lines[-1] == "ok" or lines[0].startswith(f"{path}:")


def tables(table: Table, at: Thing = ()) -> dict[Thing, Table]:
    """By where they stand."""
    found = {at: table}
    for name, key in table.keys.items():
        inner = key.kind.kind if isinstance(key.kind, Items) else key.kind
        inner = inner.table if isinstance(inner, Short) else inner
        if isinstance(inner, Table):
            found |= tables(inner, (*at, name))
    return found


TABLES = tables(TOP)
KEYS = [(location, key) for location, table in TABLES.items() for key in table.keys]
VALUES = ["1", "-1.5", "nan", "9" * 30, "9" * 5000, "true", '""', '"x"', r'"\u0000/"', "1979-05-27", "{}", "{ x = 1 }"]
LISTS = ["[]", "[1]", '["x"]', "[[]]", "[{}]", "[" * 2000 + "]" * 2000]


@pytest.mark.parametrize("value", [*VALUES, *LISTS], ids=lambda value: value[:12])
def test_any_value_of_any_key_gives_a_configuration_or_a_report(value: str, tmp_path: Path) -> None:
    for location, key in KEYS:
        table = ".".join(map(str, location))
        header = f"[[{table}]]\n" if location in (("check",), ("instance",)) else f"[{table}]\n" if table else ""
        assert report(write(tmp_path, f"{header}{key} = {value}\n")).startswith(str(tmp_path))


def test_a_list_of_a_thousand_lines_is_read_in_a_moment(tmp_path: Path) -> None:
    addresses = ",\n".join(f'"10.0.{n // 250}.{n % 250}/32"' for n in range(1000))
    text = STATIC.replace('"192.0.2.10/32"', addresses) + "oops = 1\n"
    assert f"{tmp_path}/floatip.toml:1006: " in report(write(tmp_path, text))


@pytest.mark.parametrize(
    ("package", "may_know"),
    [
        ("model", ("core", "model", "providers")),
        ("reading/rules", ("core", "model", "providers", "reading", "virtuals", "web")),
    ],
)
def test_the_model_knows_no_reader_and_the_rules_no_format(package: str, may_know: tuple[str, ...]) -> None:
    for file in (Path(model.__file__).parents[1] / package).glob("*.py"):
        for module in re.findall(r"^(?:from|import) floatip\.(\S+)", file.read_text(), re.MULTILINE):
            assert module.split(".")[0] in may_know, file
            assert not module.startswith("reading.toml"), file


HOSTILE = {
    "nested tables": "a = " + "{ a = " * 5000 + "1" + " }" * 5000,
    "a deep header": "[" + ".".join("a" * 899) + "]",
    "a deep key": ".".join("a" * 100_000) + " = 1",
    "a deep key in spaces": " . ".join("a" * 100_000) + " = 1",
    "quotes without an end": '"' * 99_999 + "." * 100_000,
    "escapes without an end": '"' + '\\"' * 100_000 + "." * 100,
    "too large": "#" * (2 << 20),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_would_exhaust_the_reader_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(reading.ConfigErrors):
        reading.load(write(tmp_path, text))


def test_the_file_is_parsed_once_however_its_lists_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parsed: list[int] = []
    loads = tomllib.loads

    def count(text: str) -> dict[str, Any]:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", count)
    lines = [f'  "10.7.{n // 250}.{n % 250}/32",  # [web{n}]' for n in range(3000)]
    path = write(tmp_path, WATCHED.replace('["192.0.2.10/32"]', "\n".join(["[", *lines, '  "10.7.0.7/32"', "]"])))
    assert report(path).startswith(f'{path}:3006: instance "a" addresses: 10.7.0.7 is taken by line 13\n')
    assert len(parsed) == 1


def test_each_thing_is_on_its_line() -> None:
    text = '''
[bgp]  # = [
"peer_asn" = 1
ranks."standby" . prepend = 2
note = """
[not] = "a header" \\"""
"""

[[check]]
[[ check ]]
script = [
  "a,b", # ] "
  [1,
   2], { x = [ "]" ] },
  'c]',
]
[check.more]
k = { a = 1, b = [
  1, 2 ] }
'''
    lines = locate(text)
    expected = {
        ("bgp",): 2,
        ("bgp", "peer_asn"): 3,
        ("bgp", "ranks"): 4,
        ("bgp", "ranks", "standby"): 4,
        ("bgp", "ranks", "standby", "prepend"): 4,
        ("bgp", "note"): 5,
        ("check",): 9,
        ("check", 0): 9,
        ("check", 1): 10,
        ("check", 1, "script"): 11,
        ("check", 1, "script", 0): 12,
        ("check", 1, "script", 1): 13,
        ("check", 1, "script", 2): 14,
        ("check", 1, "script", 3): 15,
        ("check", 1, "more"): 17,
        ("check", 1, "more", "k"): 18,
    }
    assert {thing: lines.get(thing) for thing in expected} == expected


def test_a_fifo_in_place_of_the_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "floatip.toml")
    file = f"{tmp_path}/floatip.toml"
    command = [sys.executable, "-m", "floatip", "check", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    first = done.stdout.splitlines()[0]
    assert (done.returncode, first) == (2, f"{file}: cannot be read: not a regular file")


def test_an_interfaces_name_reaches_no_terminal_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = replace(MACHINE, interfaces={"e\x1b[31m\x9b\a": (), "lo": ()})
    monkeypatch.setattr(reading, "look_around", lambda user: evil)
    said = report(write(tmp_path, GUIDE))
    assert "there are e\\x1b[31m\\x9b\\x07, lo" in said
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize(("mode", "is_open"), [(0o644, True), (0o640, False), (0o600, False)])
@pytest.mark.parametrize("secret", ['[bgp]\nmd5 = "k"\n', ""], ids=["with", "without"])
def test_a_password_that_everybody_can_read_is_warned_of(mode: int, is_open: bool, secret: str, tmp_path: Path) -> None:
    path = write(tmp_path, GUIDE + secret)
    path.chmod(mode)
    hint = f"  hint: chown root:floatip {path} && chmod 640 {path}"
    assert (hint in report(path).splitlines()) == (is_open and bool(secret))


def test_a_machine_without_ipv6_cannot_reach_what_has_no_other_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, WATCHED.replace('process = "haproxy"', 'tcp = "[::1]:80"'))
    assert reading.load(path).warnings == ()
    v4 = {name: tuple(one for one in all_ if one.version == 4) for name, all_ in MACHINE.interfaces.items()}
    monkeypatch.setattr(reading, "look_around", lambda user: replace(MACHINE, interfaces=v4))
    sessions, check = (warning.text for warning in reading.load(path).warnings)
    assert sessions == (
        "linode.dcid: there are route servers with IPv6 addresses, and this machine has no IPv6 address"
    )
    assert check == 'check "w" tcp: this machine has no IPv6, so the check fails'


@pytest.mark.parametrize(
    ("text", "may_mend"),
    [(STATIC, None), (SCRIPT, True), (SCRIPT + "dcid = 6\n", False), (STATIC + "dcid = 6\n", False)],
    ids=["right", "the machine", "both", "the file"],
)
def test_what_the_machine_lacks_is_told_from_what_the_file_has_wrong(
    text: str, may_mend: bool | None, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    if may_mend is None:
        reading.load(path)
        return
    with pytest.raises(reading.ConfigErrors) as refused:
        reading.load(path)
    assert refused.value.may_mend == may_mend


WILL = {
    GUIDE: "ok: VI_1 192.168.223.158/32, vrid 51 on eth0 from .227 to .241, check haproxy, Newark (6): 4 route servers",
    WATCHED: "ok: a 192.0.2.10/32, always primary, check w, Newark (6): 4 route servers",
}


@pytest.mark.parametrize(("text", "expected"), WILL.items(), ids=["elected", "static"])
def test_check_says_what_the_daemon_will_do(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(MACHINE, answering=()))
    assert floatip("check", str(write(tmp_path, text))) == (0, f"{expected}\n")


def test_a_machine_that_cannot_be_asked_is_an_error_of_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(user: str) -> machine.Machine:
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr(reading, "look_around", refuse)
    status, said = floatip("check", str(write(tmp_path, WATCHED)))
    what = "error: this machine's addresses and routes cannot be read: too many open files [kernel-refuses]"
    assert (status, said.splitlines()[0]) == (2, what)


def test_check_says_that_beside_warnings_too(tmp_path: Path) -> None:
    status, said = floatip("check", str(write(tmp_path, STATIC)))
    *_, count, ok = said.splitlines()
    assert (status, count) == (0, "no errors, 1 warning")
    assert ok == "ok: a 192.0.2.10/32, always primary, no check, Newark (6): 4 route servers"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            "a_generic_network_without_an_election",
            "web 198.51.100.10/32 2001:db8:1::/64, always primary, checks web maintenance, AS 64512: 2 route servers",
        ),
        ("a_vlan_without_bgp", "vlan 10.0.0.10/24, vrid 7 on eth0 from .1 to .2 .3, no check, no BGP"),
        (
            "keepalived_elects",
            "VI_1 192.0.2.10/32, keepalived elects VI_1, vrid 51 on eth0, keepalived checks, "
            "Newark (6): 4 route servers",
        ),
    ],
)
def test_each_kind_of_instance_is_told_in_a_line(case: str, expected: str, tmp_path: Path) -> None:
    make_scripts(tmp_path)
    assert list(reading.will(load_case(case, tmp_path))) == [expected]


TITLES: dict[tuple[str | int, ...], str] = {
    (): "Top level",
    ("keepalived",): "`keepalived`",
    ("instance", "routes"): "Routes and rules",
    ("instance", "rules"): "Routes and rules",
    ("instance", "notify"): "`notify` of an instance",
    ("sync_group", "notify"): "`notify` of an instance",
    ("instance", "vrrp", "auth_hmac", "keys"): "`auth_hmac`",
}
"""Of the section of a table, where its last key is not the title."""


def title_of(location: Thing) -> str:
    if "ranks" in location:
        return "`ranks`"
    if location[1:2] == ("notify",):
        return TITLES[location[:2]]
    return TITLES.get(location) or (f"[{location[0]}]" if len(location) == 1 else f"`{location[-1]}`")


def test_every_key_is_in_its_table_of_the_reference() -> None:
    reference = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text()
    chapters, sections = (
        dict(part.split("\n", 1) for part in re.split(mark, reference, flags=re.MULTILINE)[1:])
        for mark in (r"^## ", r"^#+ ")
    )
    for location, table in TABLES.items():
        name = title_of(location)
        parts = chapters if name.startswith("[") else sections
        [section] = [text for title, text in parts.items() if title.startswith((name, f"`{name}", f"`[{name}"))]
        missing = [key for key in table.keys if f"`{key}`" not in section and f"[{key}]" not in reference]
        assert not missing, location
