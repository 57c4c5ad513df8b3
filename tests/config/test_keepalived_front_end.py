"""keepalived.conf as a front end of the model."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from pathlib import Path

import pytest

from floatip import reading
from floatip.core.settings import AddressOptions, Garps, Hmac, SyncGroup, Track, Virtual, Vrrp
from floatip.model import Fifo, File, Interface, Model, Process, RunAs, Script, Told, Value, check
from floatip.reading.keepalived.front_end import model_of
from floatip.reading.keepalived.keywords import KEYWORDS
from floatip.reading.place import ConfigError, ConfigErrors, ConfigNote, Problem
from floatip.reading.rights import user_id
from floatip.reading.rules import judge
from tests.command_line import floatip
from tests.config import keyword_docs
from tests.config.compare_keepalived import FOREVER, MACHINE, corpus, differences
from tests.config.fuzz_keepalived import play

INSTANCE = """vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    unicast_src_ip 192.168.143.227
    unicast_peer {
        192.168.143.241
    }
    virtual_ipaddress {
        192.168.223.158
    }
    LINES
}
"""


def write(folder: Path, text: str, name: str = "keepalived.conf") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def read(folder: Path, lines: str = "", *, above: str = "", below: str = "", dcid: int | None = None) -> Model:
    """An instance with these lines."""
    model, problems = judged(folder, lines, above=above, below=below, dcid=dcid)
    assert not [problem for problem in problems if isinstance(problem, ConfigError)], problems
    return model


def judged(
    folder: Path, lines: str = "", *, above: str = "", below: str = "", dcid: int | None = None
) -> tuple[Model, list[Problem]]:
    path = write(folder, f"{above}{INSTANCE.replace('LINES', lines)}{below}")
    model, _, problems = model_of(path, MACHINE, dcid)
    return model, problems


def vrrp(model: Model, number: int = 0) -> Vrrp:
    election = model.instances[number].election
    assert isinstance(election, Vrrp)
    return election


def test_a_plain_pair_is_read_with_keepaliveds_defaults(tmp_path: Path) -> None:
    model = read(tmp_path)
    assert vrrp(model) == Vrrp(
        interface="eth0",
        vrid=51,
        priority=100,
        source=IPv4Address("192.168.143.227"),
        peers=(IPv4Address("192.168.143.241"),),
        checks_source=False,
    )
    (one,) = model.instances
    assert (one.name, one.addresses) == ("VI_1", (ip_interface("192.168.223.158/32"),))
    assert (one.placement, one.interface, model.network) == ("master", "eth0", None)


@pytest.mark.parametrize(
    ("address", "placement", "interface", "is_announced"),
    [
        ("192.168.223.158", "all", "lo", True),
        ("192.168.223.158/32 dev lo", "all", "lo", True),
        ("192.168.223.158/32 dev eth1", "all", "lo", True),
        ("192.168.223.158/24", "master", "eth0", False),
    ],
)
def test_with_a_data_centre_single_addresses_are_announced_and_held_on_lo_of_all_nodes(
    address: str, placement: str, interface: str, is_announced: bool, tmp_path: Path
) -> None:
    path = write(tmp_path, INSTANCE.replace("192.168.223.158", address).replace("LINES", ""))
    (one,) = model_of(path, MACHINE, 6)[0].instances
    assert (one.placement, one.interface, one.is_announced) == (placement, interface, is_announced)
    assert not one.options


def test_all_values_of_an_instance_reach_the_model(tmp_path: Path) -> None:
    lines = """
    state MASTER
    priority 150
    version 3
    advert_int 0.02
    preempt_delay 5
    unicast_ttl 64
    down_timer_adverts 5
    higher_prio_send_advert
    lower_prio_no_advert on
    owner_ignore_adverts
    v3_checksum_as_v2
    check_unicast_src
    dont_track_primary
    garp_master_delay 1
    garp_master_repeat 2
    garp_lower_prio_delay 3
    garp_lower_prio_repeat 4
    garp_master_refresh 60
    garp_master_refresh_repeat 6
    notify_priority_changes
    """
    model = read(tmp_path, lines, above="global_defs {\n vrrp_startup_delay 2.5\n vrrp_gna_interval 0.1\n}\n")
    assert model.tells_priorities == {"VI_1"}
    assert vrrp(model) == Vrrp(
        interface="eth0",
        vrid=51,
        priority=150,
        source=IPv4Address("192.168.143.227"),
        peers=(IPv4Address("192.168.143.241"),),
        version=3,
        advert_interval=0.02,
        ttl=64,
        begins_as_master=True,
        down_timer_adverts=5,
        startup_delay=2.5,
        tracks_interface=False,
        sends_before_yielding=True,
        answers_lower=False,
        owner_ignores_adverts=True,
        checksum_as_v2=True,
        garps=Garps(2, 1, 4, 3, 60, 6, 0, 0.1),
    )


def test_options_of_addresses_reach_the_model(tmp_path: Path) -> None:
    lines = """virtual_ipaddress {
        10.1.0.1/24 dev eth1 label eth1:1 scope link no_track
    }
    virtual_ipaddress_excluded {
        2001:db8::1
        2001:db8::2/64
        2001:db8::3/64 preferred_lft 5
    }"""
    (one,) = read(tmp_path, lines).instances
    assert one.options == (
        AddressOptions(ip_interface("10.1.0.1/24"), "eth1", "eth1:1", 253, is_tracked=False),
        AddressOptions(ip_interface("2001:db8::1/128"), is_advertised=False, preferred_lft=0),
        AddressOptions(ip_interface("2001:db8::2/64"), is_advertised=False, preferred_lft=FOREVER),
        AddressOptions(ip_interface("2001:db8::3/64"), is_advertised=False, preferred_lft=5),
    )


@pytest.mark.parametrize(
    ("lines", "source", "version"),
    [
        ("virtual_ipaddress { 10.1.0.1 }", "192.168.143.227", 2),
        ("virtual_ipaddress { 2001:db8::1 }", "fe80::1", 3),
    ],
)
def test_without_a_source_and_peers_it_is_multicast_from_the_first_address(
    lines: str, source: str, version: int, tmp_path: Path
) -> None:
    text = f"vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n {lines}\n}}\n"
    model, _, _ = model_of(write(tmp_path, text), MACHINE)
    assert (vrrp(model).source, vrrp(model).peers, vrrp(model).version) == (ip_address(source), (), version)
    groups = "global_defs {\n vrrp_mcast_group4 224.0.0.99\n vrrp_mcast_group6 ff02::99\n}\n"
    model, _, _ = model_of(write(tmp_path, groups + text), MACHINE)
    assert vrrp(model).group == (IPv6Address("ff02::99") if version == 3 else IPv4Address("224.0.0.99"))


def test_a_source_that_is_not_there_yet_may_come(tmp_path: Path) -> None:
    text = "vrrp_instance VI_1 {\n interface eth9\n virtual_router_id 51\n virtual_ipaddress { 10.1.0.1 }\n}\n"
    with pytest.raises(ConfigErrors) as refused:
        reading.judged(reading.Read(*model_of(write(tmp_path, text), MACHINE)), machine=MACHINE)
    assert refused.value.may_mend
    assert "no unicast_src_ip, and eth9 has no IPv4 address of its own now" in str(refused.value)


def test_an_instance_without_an_interface_has_that_of_its_source(tmp_path: Path) -> None:
    path = write(tmp_path, INSTANCE.replace("interface eth0", "priority 100").replace("LINES", ""))
    model, _, problems = model_of(path, MACHINE)
    assert vrrp(model).interface == "eth0"
    assert [problem.text for problem in problems] == ["vrrp_instance VI_1: no interface"]


CHECKS = """
vrrp_script chk {
    script "/usr/bin/test -e '/a b'"
    interval 2
    timeout 3
    rise 4
    fall 5
    weight -20
    init_fail
    user nobody nogroup
}
vrrp_script bare {
    script "true"
}
vrrp_script open {
    script "</run/there"
    fall 3
}
vrrp_track_process haproxy {
    process haproxy
    quorum 2
    quorum_max 3
    delay 1
    terminate_delay 2
}
vrrp_track_process whole {
    process /usr/bin/python3 -m http.server
    param_match initial
}
track_file number {
    file /run/number
    init_file 7 overwrite
}
"""


def test_checks_are_made_of_what_is_tracked(tmp_path: Path) -> None:
    lines = """
    track_script {
        chk
        bare
        open
    }
    track_process {
        haproxy weight 10 reverse
        whole
    }
    track_file {
        number
    }
    track_interface {
        eth0
        eth1 weight -5
    }
    """
    model = read(tmp_path, lines, above=CHECKS)
    usual = RunAs("keepalived_script") if user_id("keepalived_script") else RunAs()
    true = next(path for path in ("/usr/sbin/true", "/usr/bin/true") if Path(path).exists())
    command = ("/usr/bin/test", "-e", "/a b")
    timing = {"interval": 2, "timeout": 3, "rise": 4, "fall": 5, "initial": "down"}
    python = ("/usr/bin/python3", "-m", "http.server")
    assert {one.name: one for one in model.checks} == {
        "interface eth1": check("interface eth1", Interface("eth1")),
        "chk": check("chk", Script(command, RunAs("nobody", "nogroup")), **timing),
        "bare": check("bare", Script((true,), usual)),
        "open": check("open", File(Path("/run/there"), "absent"), rise_delay=0, fall_delay=2),
        "haproxy": check("haproxy", Process("haproxy", 2, 3), rise_delay=1, fall_delay=2),
        "whole": check("whole", Process("python3", command=python, param_match="initial")),
        "number": check("number", Value(Path("/run/number"), 7, overwrite=True)),
    }
    (one,) = model.instances
    assert set(one.checks) == {"bare", "open", "whole"}
    tracks = {Track("chk", -20), Track("haproxy", 10, reverse=True), Track("number", 1), Track("interface eth1", -5)}
    assert set(one.tracks) == tracks


def test_the_interfaces_that_addresses_routes_and_rules_need_are_tracked_as_keepalived_does(tmp_path: Path) -> None:
    """Without one of them keepalived is in FAULT, whatever weight it has in track_interface."""
    lines = """
    track_interface {
        eth1 weight -5
        eth9 weight -5
    }
    virtual_ipaddress_excluded {
        192.0.2.11/32 dev eth1
        192.0.2.12/32 dev eth2 no_track
        192.0.2.13/32 dev eth0
        192.0.2.14/32 dev lo
    }
    virtual_routes {
        198.51.100.0/24 via 192.0.2.1 dev eth3
        203.0.113.0/24 dev eth4 no_track
    }
    virtual_rules {
        iif eth5 table 100
        from 192.0.2.11 table 100 no_track
    }
    """
    model, problems = judged(tmp_path, lines)
    (one,) = model.instances
    assert one.checks == ("interface eth1", "interface eth3", "interface eth5")
    assert one.tracks == (Track("interface eth9", -5),)
    what = "192.0.2.11/32 dev eth1 needs eth1, so its failure is a fault"
    assert [what in problem.what for problem in problems if "failure is a fault" in problem.what] == [True]


def test_an_interface_is_no_check_of_the_service(tmp_path: Path) -> None:
    path = write(tmp_path, INSTANCE.replace("LINES", "virtual_routes {\n 198.51.100.0/24 dev eth1\n}"))
    model, places, _ = model_of(path, MACHINE, None)
    assert any("nothing but an interface is checked" in problem.what for problem in judge(model, places, MACHINE))


def test_weights_of_members_of_a_group_count_only_where_the_group_says_so(tmp_path: Path) -> None:
    track = "track_script {\n chk\n}\ntrack_interface {\n eth1 weight 5\n}\n"
    group = "vrrp_sync_group G {\n group {\n VI_1\n}\ntrack_script {\n chk\n}\nMORE\n}\n"
    model, problems = judged(tmp_path, track, above=CHECKS, below=group.replace("MORE", ""))
    assert model.sync_groups == (SyncGroup("G", ("VI_1",), (), (Track("chk", -20),)),)
    assert (model.instances[0].checks, model.instances[0].tracks) == (("interface eth1",), ())
    assert sum("weights of an instance in a sync group do not count" in problem.what for problem in problems) == 2
    model = read(tmp_path, track, above=CHECKS, below=group.replace("MORE", "sync_group_tracking_weight"))
    assert model.sync_groups[0].members_have_weights
    assert set(model.instances[0].tracks) == {Track("chk", -20), Track("interface eth1", 5)}


def test_commands_and_fifos_are_told(tmp_path: Path) -> None:
    above = """global_defs {
    script_user nobody
    notify_fifo /run/all root
    vrrp_notify_fifo /run/vrrp
    vrrp_notify_fifo_script "/usr/bin/cat -u" daemon
    fifo_write_vrrp_states_on_reload
}
"""
    lines = (
        'notify_master "/usr/bin/true a" root root\nnotify /usr/bin/true\nnotify_master_rx_lower_pri "/usr/bin/true l"'
    )
    group = 'vrrp_sync_group G {\n group {\n VI_1\n}\nnotify_fault "/usr/bin/true g"\n}\n'
    model = read(tmp_path, lines, above=above, below=group)
    nobody, true = RunAs("nobody"), "/usr/bin/true"
    assert model.told == (
        Told("INSTANCE", "VI_1", "master", (true, "a"), RunAs("root", "root")),
        Told("INSTANCE", "VI_1", "any", (true,), nobody),
        Told("INSTANCE", "VI_1", "master_rx_lower_pri", (true, "l"), nobody),
        Told("GROUP", "G", "fault", (true, "g"), nobody),
    )
    assert model.fifos == (
        Fifo(Path("/run/all"), RunAs("root"), (), nobody, on_reload=True),
        Fifo(Path("/run/vrrp"), nobody, ("/usr/bin/cat", "-u"), RunAs("daemon"), on_reload=True),
    )


def test_routes_and_rules_keep_their_words_and_what_floatip_cannot_do_is_an_error(tmp_path: Path) -> None:
    lines = """virtual_routes {
        10.9.0.0/16 via 192.168.143.1 dev eth0 no_track
    }
    virtual_rules {
        from 192.168.223.158 table 100
    }"""
    (one,) = read(tmp_path, lines).instances
    assert one.virtuals == (
        Virtual("route", ("10.9.0.0/16", "via", "192.168.143.1", "dev", "eth0"), is_tracked=False),
        Virtual("rule", ("from", "192.168.223.158", "table", "100")),
    )
    judged(tmp_path, "virtual_routes {\n 10.9.0.0/16 via 192.168.143.1 nonsense\n}")
    model, places, _ = model_of(tmp_path / "keepalived.conf", MACHINE)
    (error,) = [problem for problem in judge(model, places, MACHINE) if isinstance(problem, ConfigError)]
    assert error.line == 12
    assert "nonsense" in error.what


def test_signed_adverts_have_the_keys_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hex:" + "ab" * 40 + "\n")
    lines = f"""auth_hmac {{
        key 7 0123456789abcdef0123456789abcdef
        key 8 file:{tmp_path}/secret
        active_key 8
        mode permissive
        time_window 30
        anti_replay monotonic
    }}"""
    keys = ((7, b"0123456789abcdef0123456789abcdef"), (8, b"\xab" * 40))
    assert vrrp(read(tmp_path, lines)).hmac == Hmac(keys, 8, "permissive", 30, monotonic=True)
    _, problems = judged(tmp_path, "auth_hmac {\n key 1 geheim\n}")
    assert "key 1: 6 octets, and a key has 32 to 64" in [problem.what for problem in problems]
    assert not any("geheim" in str(problem) for problem in problems)


def test_repeated_lines_and_the_environment_are_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIORITY", "77")
    lines = """priority ${_ENV PRIORITY}
    virtual_ipaddress {
        ~SEQ(N, 1, 2, 5) 10.1.0.${N}
        ~LST({A, B}, {1, 2}, {3, 4}) 10.${A}.0.${B}
        ~SEQx(H, 0x0e, 0x10) ~LST(L, 7) 10.2.0.${L}
    }"""
    (one,) = read(tmp_path, lines).instances
    shown = ["192.168.223.158", "10.1.0.1", "10.1.0.3", "10.1.0.5", "10.1.0.2", "10.3.0.4", "10.2.0.7"]
    assert [str(address.ip) for address in one.addresses] == shown
    assert vrrp(replace(read(tmp_path, lines))).priority == 77


def test_a_file_beside_it_says_what_keepalived_conf_cannot(tmp_path: Path) -> None:
    write(tmp_path, 'release_delay = 3\n[linode]\ndcid = 6\n[notify]\ncommand = ["/usr/bin/true"]\n', "floatip.toml")
    model = read(tmp_path)
    assert model.network
    assert (model.network.profile.dcid, model.release_delay) == (6, 3)
    assert model.notify
    assert model.instances[0].is_announced
    assert read(tmp_path, dcid=6) == model
    _, problems = judged(tmp_path, dcid=7)
    (error,) = [problem for problem in problems if isinstance(problem, ConfigError)]
    assert (error.file, error.line, error.what) == (f"{tmp_path}/floatip.toml", 3, "6 is not 7, which --dcid says")


def test_other_tables_beside_it_are_refused_with_their_line(tmp_path: Path) -> None:
    write(tmp_path, '[linode]\ndcid = 6\n[[instance]]\nname = "x"\n[odd]\n', "floatip.toml")
    _, problems = judged(tmp_path)
    errors = [problem for problem in problems if isinstance(problem, ConfigError)]
    assert [(error.file, error.line, error.path) for error in errors] == [
        (f"{tmp_path}/floatip.toml", 3, "instance"),
        (f"{tmp_path}/floatip.toml", 5, "odd"),
    ]
    assert errors[0].hint == "remove it: keepalived.conf says it, by a vrrp_instance"


WARNED = {
    "nopreempt false": "nopreempt false: it takes no value, and means nopreempt",
    "state MASTER\npriority 100\nnopreempt": "nopreempt does not count with state MASTER: this node takes over",
    "nopreempt\npreempt_delay 5": "preempt_delay does not count beside nopreempt",
    "priority 300": "priority 300: not a number from 1 to 255, so the line does not count, and 100 does",
    "advert_int 1.6": "advert_int 1.6: version 2 cannot say it, so 2 s counts",
    "garp_master_delay x": "garp_master_delay x: not a number from 0 to 4294, so the line does not count, and 5 does",
    "state BACKUP priority 50": "state BACKUP priority 50: keepalived reads one statement a line, and ignores priority",
    "prioriti 50": "vrrp_instance VI_1 prioriti 50: keepalived has no such keyword, so the line does not count",
    "new_block {\n foo\n}": "new_block {: keepalived 2.2 expects no block here, and ends vrrp_instance VI_1 at its }",
    "use_vmac": "vrrp_instance VI_1 use_vmac: floatip does not do this",
    "virtual_ipaddress {\n 2001:db8::1\n}": "2001:db8::1: not of the family of the first address",
    "virtual_ipaddress {\n 192.168.223.158\n}": "192.168.223.158: twice in vrrp_instance VI_1",
    "virtual_ipaddress {\n 10.1.0.1/33\n}": "10.1.0.1/33: not an address; keepalived takes /32 for the mask",
    "track_script {\n below\n}": "'below' does not count, as with keepalived: in track_script: there is no",
    "authentication {\n auth_pass x\n}": "keepalived ignores this authentication: it needs version 2 and",
    "track_script {\n far\n}": "vrrp_script far: asks 10.9.9.9, which is not this node",
    "track_script {\n light\n}": "light weighs -1: a failure can never move the address",
    "track_script {\n piped\n}": "floatip runs no shell, and '|' is an argument",
}
SCRIPTS = """
vrrp_script far {
    script "/usr/bin/ping -c1 10.9.9.9"
}
vrrp_script light {
    script "/usr/bin/true"
    weight -1
}
vrrp_script piped {
    script "/usr/bin/ss -ltn | /usr/bin/grep :80"
}
"""


@pytest.mark.parametrize("lines", WARNED)
def test_what_keepalived_accepts_in_silence_is_named_with_its_line(lines: str, tmp_path: Path) -> None:
    _, before = judged(tmp_path, above=SCRIPTS)
    _, problems = judged(tmp_path, lines, above=SCRIPTS, below='vrrp_script below {\n script "/usr/bin/true"\n}\n')
    assert not [problem for problem in problems if isinstance(problem, ConfigError)]
    found = [problem for problem in problems if WARNED[lines] in problem.what]
    assert found, [problem.what for problem in problems]
    assert found[0] not in before
    assert not isinstance(found[0], ConfigNote)
    assert found[0].line
    assert found[0].hint


def test_a_weight_says_which_priority_of_the_other_node_it_needs(tmp_path: Path) -> None:
    _, problems = judged(tmp_path, "track_script {\n chk\n}", above=CHECKS)
    (note,) = [problem for problem in problems if "weighs" in problem.what]
    what = "vrrp_instance VI_1: chk weighs -20: a failure moves the address only if the other node's priority is from"
    assert note.what == f"{what} 81 to 99"
    assert isinstance(note, ConfigNote)


REFUSED = {
    "no_accept": "vrrp_instance VI_1 no_accept: floatip cannot do this",
    "use_ipvlan": "vrrp_instance VI_1 use_ipvlan: floatip cannot do this",
    "vrf blue": "vrrp_instance VI_1 vrf blue: floatip cannot do this",
    "track_bfd {\n x\n}": "vrrp_instance VI_1 track_bfd: floatip cannot do this",
    "authentication {\n auth_type AH\n auth_pass x\n}": "auth_type AH",
    "virtual_ipaddress {\n 10.1.0.1 peer 10.1.0.2\n}": "10.1.0.1 peer 10.1.0.2: floatip holds no point-to-point",
    "virtual_ipaddress {\n 10.1.0.x\n}": "10.1.0.x: not an address",
    "virtual_ipaddress {\n 127.0.0.1\n}": "127.0.0.1: no address of one host",
    "unicast_peer {\n x\n}": "x: not an address",
    "priority": "priority has no value, and keepalived does not start",
    "track_script": "track_script: no {, and keepalived ignores all up to the next }",
    "priority ${_RANDOM 1 9}": "${_RANDOM 1 9} is not supported",
    'notify_master "': "a quote that is not closed",
    "interface eth\x00": "interface: a character that is not UTF-8 or cannot be printed",
}


@pytest.mark.parametrize("lines", REFUSED)
def test_what_would_change_who_serves_is_an_error_with_its_line(lines: str, tmp_path: Path) -> None:
    try:
        _, problems = judged(tmp_path, lines)
    except ConfigErrors as refused:
        problems = [*refused.errors]
    errors = [problem for problem in problems if isinstance(problem, ConfigError) and REFUSED[lines] in problem.what]
    assert errors, [problem.what for problem in problems]
    assert errors[0].line >= 11
    assert errors[0].hint


def test_ipvs_stays_keepaliveds_and_mail_is_named_once(tmp_path: Path) -> None:
    above = "global_defs {\n smtp_server 127.0.0.1\n smtp_alert\n enable_dbus\n}\n"
    below = "virtual_server 10.0.0.1 80 {\n lb_algo rr\n}\n"
    _, problems = judged(tmp_path, above=above, below=below)
    notes = [problem.what for problem in problems if isinstance(problem, ConfigNote)]
    assert notes == ["mail: floatip sends no mail", "D-Bus: floatip is not on D-Bus"]
    (warning,) = [problem for problem in problems if "virtual_server" in problem.what]
    assert warning.hint == "IPVS stays keepalived's: run keepalived -C beside floatip"


def test_a_notify_command_that_switches_lelastic_is_named_where_floatip_announces(tmp_path: Path) -> None:
    script = write(tmp_path, "#!/bin/sh\nexec /usr/local/bin/lelastic -dcid 6\n", "notify.sh")
    script.chmod(0o755)
    for dcid, is_named in ((6, True), (None, False)):
        _, problems = judged(tmp_path, f"notify_master {script}", dcid=dcid)
        assert any("it switches lelastic" in problem.what for problem in problems) == is_named


def test_a_file_that_cannot_be_read_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as refused:
        reading.read(tmp_path / "keepalived.conf")
    assert f"{tmp_path}/keepalived.conf: cannot be read: No such file or directory" in str(refused.value)


def test_check_exits_with_1_on_warnings_where_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(MACHINE, user=""))
    above = "vrrp_track_process sh {\n process sh\n}\n"
    text = INSTANCE.replace("LINES", "priority 100\ntrack_process {\n sh\n}\n")
    path = str(write(tmp_path, above + text))
    shown = "VI_1 192.168.223.158/32, vrid 51 on eth0 from .227 to .241, check sh, no BGP"
    assert floatip("check", "--strict", path) == (0, f"ok: {shown}\n")
    write(tmp_path, above + text.replace("priority 100", "priority 100\npriority 300"))
    assert floatip("check", path)[0] == 0
    assert floatip("check", "--strict", path)[0] == 1


@pytest.mark.parametrize(
    ("name", "text", "is_keepaliveds"),
    [
        ("any.conf", "", True),
        ("any.toml", "vrrp_instance x {", False),
        ("any", "! comment\n  vrrp_instance x {", True),
        ("any", "include /etc/keepalived/*.conf", True),
        ("any", "[linode]\ndcid = 6", False),
    ],
)
def test_the_name_decides_whose_file_it_is_and_else_the_content(
    name: str, text: str, is_keepaliveds: bool, tmp_path: Path
) -> None:
    assert reading.is_keepalived_conf(write(tmp_path, text, name)) == is_keepaliveds


def test_every_keyword_of_keepalived_is_known_and_documented() -> None:
    lines = (Path(__file__).parent / "keepalived_keywords.tsv").read_text().splitlines()
    rows = [tuple(line.split("\t")[:2]) for line in lines if not line.startswith("#")][1:]
    known = {(one.name, block) for block, all_ in KEYWORDS.items() for one in all_.values()}
    assert set(rows) == known
    assert keyword_docs.PAGE.read_text() == keyword_docs.page(), "run: python -m tests.config.keyword_docs"


@pytest.mark.parametrize("path", corpus(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_keepaliveds_own_dump_says_the_same_or_the_difference_has_a_reason(path: Path) -> None:
    unexplained = [one for one in differences(path) if not one.reason]
    assert not unexplained


def test_mutated_files_are_read_or_refused_with_named_errors(tmp_path: Path) -> None:
    assert play(300, 12, tmp_path)


SECRET = "S3CRETS3CRETS3CRETS3CRETS3CRETS3CRET"


@pytest.mark.parametrize(
    "lines",
    [
        f"authentication {{\n auth_type PASS\n {line}\n}}"
        for line in (
            f"auth_pas {SECRET}",
            f"AUTH_PASS {SECRET}",
            f"auth_pass={SECRET}",
            f"password {SECRET} {{\n}}",
            f'secret "{SECRET}',
        )
    ]
    + [f"auth_hmac {{\n {line}\n}}" for line in (f"kay 1 {SECRET}", f'key 1 "{SECRET}', f"key=1 {SECRET}")]
    + [f"authentification {{\n auth_pas ${{NONE}} {SECRET}\n}}", f"auth_password {SECRET}"],
)
def test_no_message_shows_a_secret_of_a_line_that_is_misspelt(tmp_path: Path, lines: str) -> None:
    try:
        _, problems = judged(tmp_path, lines)
    except ConfigErrors as refused:
        problems = [*refused.errors]
    assert problems
    assert SECRET not in "\n".join(map(str, problems))


CHECK = "vrrp_script chk {\n script /bin/true\n}\n"


@pytest.mark.parametrize(
    ("lines", "above", "what"),
    [
        ("", "", "no priority, so 100 counts: where other nodes have none either, the greater source address decides"),
        ("state MASTER", "", "no priority, so 255 counts: it takes over whenever it is back, and no weight changes it"),
        ("state SLAVE", "", "state SLAVE: neither MASTER nor BACKUP, so BACKUP counts"),
        ("state master", "", "state master: neither MASTER nor BACKUP, so BACKUP counts"),
        ("track_script {\n chk weight 300\n}", CHECK, "chk weight 300: not a weight from -253 to 253, and 0 counts"),
        ("track_script {\n chk weight -2O\n}", CHECK, "chk weight -2O: not a weight from -253 to 253, and -2 counts"),
        ("track_script {\n chk weight 5 6\n}", CHECK, "chk weight 5 6: '6' does not count"),
        ("track_script {\n chk\n}", CHECK.replace("}", "weight 300\n}"), "-253 to 253, and 253 counts"),
        ("track_script {\n chk\n}", CHECK.replace("}", "weight x\n}"), "so the line does not count, and 0 does"),
        ("", "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n}\n", "there is no vrrp_instance VI_2, so the group"),
        ("", "vrrp_sync_group G {\n group {\n VI_2\n }\n}\n", "vrrp_sync_group G: no instance in it, so it does not"),
        ("", "vrrp_sync_group G {\n VI_1\n}\n", "vrrp_sync_group G: no instance in it, so it does not count"),
        ("mcast_dst_ip 224.0.0.99", "", "mcast_dst_ip 224.0.0.99: adverts go to unicast_peer"),
        ("mcast_src_ip 10.99.1.1", "", "the last one, 10.99.1.1, is the source of all adverts"),
        (
            "track_script {\n chk\n}",
            CHECK.replace("/bin/true", '"/bin/true http://192.0.2.1/"'),
            "asks 192.0.2.1",
        ),
        ("preempt_delay 2000", "", "not a number from 0 to 1000, so the line does not count, and 0 does"),
        ("track_script {\n chkk\n}", CHECK, "there is no vrrp_script chkk above it\n  hint: did you mean chk?"),
    ],
)
def test_what_does_not_count_is_named_with_what_does(tmp_path: Path, lines: str, above: str, what: str) -> None:
    _, problems = judged(tmp_path, lines, above=above)
    assert what in "\n".join(f"{problem.what}\n  hint: {problem.hint}" for problem in problems)


def test_a_weight_that_no_priority_has_room_for_runs_as_the_largest(tmp_path: Path) -> None:
    above = CHECK.replace("}", "weight -300\n}")
    model = read(tmp_path, "track_script {\n chk\n}", above=above)
    assert model.instances[0].tracks == (Track("chk", -253),)


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"\x7fELF" + bytes(100), 0, "not a text file"),
        ("vrrp_instance VI_1 {\n}\n".encode("utf-16"), 0, "not a text file"),
        (b"vrrp_instance VI_1 {\n  priority {{ item.priority }}\n}\n" * 9, 2, "a template"),
        (b"{% for one in all %}\nvrrp_instance VI_1 {\n}\n{% endfor %}\n", 1, "a template"),
    ],
)
def test_what_is_no_keepalived_conf_at_all_is_one_error(tmp_path: Path, data: bytes, line: int, what: str) -> None:
    path = tmp_path / "keepalived.conf"
    path.write_bytes(data)
    with pytest.raises(ConfigErrors) as refused:
        model_of(path, MACHINE)
    (error,) = refused.value.errors
    assert error.line == line
    assert error.what.startswith(what)


def test_braces_in_quotes_are_no_template(tmp_path: Path) -> None:
    command = "/bin/true -f {{.State.Running}} x"
    model = read(tmp_path, "track_script {\n chk\n}", above=CHECK.replace("/bin/true", f'"{command}"'))
    kind = model.checks[0].kind
    assert isinstance(kind, Script)
    assert kind.argv == tuple(command.split())


@pytest.mark.parametrize("kind", ["missing", "directory", "large"])
def test_a_file_that_cannot_be_read_has_a_hint_about_keepalived_conf(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keepalived.conf"
    if kind == "directory":
        path.mkdir()
    elif kind == "large":
        path.write_text("# a comment\n" * 100_000)
    with pytest.raises(ConfigErrors) as refused:
        model_of(path, MACHINE)
    (error,) = refused.value.errors
    assert "TOML" not in error.hint
    assert "floatip init" not in error.hint


def test_hints_about_a_keepalived_conf_are_in_its_words(tmp_path: Path) -> None:
    lines = "virtual_ipaddress {\n 192.168.143.9/17 label vip\n}"
    path = write(tmp_path, INSTANCE.replace("interface eth0", "interface eth1").replace("LINES", lines))
    machine = replace(MACHINE, demoting=frozenset({"eth0", "eth1"}))
    model, places, _ = model_of(path, machine)
    hints = [problem.hint for problem in judge(model, places, machine)]
    assert "write label eth1:vip" in hints
    assert any("or write interface eth0" in hint for hint in hints)
    assert not [hint for hint in hints if '"' in hint or " = " in hint]
    model, places, _ = model_of(write(tmp_path, INSTANCE.replace("LINES", lines)), machine)
    hints = [problem.hint for problem in judge(model, places, machine)]
    assert any(hint.startswith("write 192.168.143.9/32, or: sysctl") for hint in hints)
