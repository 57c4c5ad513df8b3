"""Each part of the doctor: what it finds in a node as it was recorded, with which evidence and which command."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network, ip_address
from pathlib import Path
from threading import Event

import pytest

from floatip.commands import Refusal
from floatip.core.bgp.trouble import Trouble
from floatip.core.state import NodeView, ProblemView
from floatip.doctor import addresses, configuration, daemon, network, others, system
from floatip.doctor.context import Context, gather
from floatip.doctor.examination import Looker, examine, lookers
from floatip.doctor.finding import Code, Finding, Grade, well
from floatip.doctor.firewall import looker as firewall
from floatip.host.ask import NobodyAnswers, NotAllowed
from floatip.lab.namespaces import Namespace
from floatip.linode.accounts import Metadata, Shares
from floatip.reading import machine
from tests.doctor.contexts import ADDRESSES, CONF, NODES, context, graded, placed, running, subnet
from tests.doctor.recorded import Recorded
from tests.doctor.two_namespaces import sh
from tests.web.views import session

VIP = "192.168.223.158"
MASTER = NODES.replace("[linode]\ndcid = 6\n", "")
EMPTY = {
    ("nft", "-j", "list", "ruleset"): '{"nftables": []}',
    ("nft", "-a", "list", "ruleset"): "",
}


def found(looker: Looker, given: Context) -> list[Finding]:
    return list(looker(given))


def one(looker: Looker, given: Context, grade: Grade) -> Finding:
    """The only one of that grade."""
    (only,) = [each for each in looker(given) if each.grade is grade]
    return only


# Addresses


def test_an_address_on_lo_as_32_is_well() -> None:
    assert [each.grade for each in addresses.placed(context(status=running()))] == [Grade.WELL]


def test_an_address_that_is_nowhere_is_a_problem_while_the_daemon_runs() -> None:
    nowhere = {"lo": ["127.0.0.1/8"], "eth0": ["192.168.143.227/17"]}
    assert one(addresses.placed, context(addresses=nowhere, status=running()), Grade.PROBLEM).subject == VIP
    assert one(addresses.placed, context(addresses=nowhere), Grade.NOTE)


def test_network_helpers_copy_is_named_with_the_command_that_removes_it() -> None:
    both = {**ADDRESSES, "eth0": (*ADDRESSES["eth0"], f"{VIP}/24")}
    finding = one(addresses.placed, context(addresses=both, status=running()), Grade.PROBLEM)
    assert finding.code is Code.ADDRESS_PREFIX
    assert finding.evidence == (f"ip address: {VIP}/24 on eth0",)
    assert finding.hint.startswith(f"ip addr del {VIP}/24 dev eth0  # on Linode, Network Helper")


def test_the_command_that_removes_the_copy_takes_no_other_address_away() -> None:
    """The first address of a network takes the others with it, the one of ssh too; and a copy alone serves."""
    given = {"lo": ["127.0.0.1/8"], "eth0": [f"{VIP}/24", "192.168.223.7/24"]}
    finding = one(addresses.placed, context(addresses=given, status=running()), Grade.PROBLEM)
    with closing(Namespace()) as namespace, namespace.inside():
        sh("ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set lo up")
        for address in given["eth0"]:
            sh(f"ip address add {address} dev eth0")
        sh(finding.hint)
        left = sh("ip -o -4 address show dev eth0")
    assert "192.168.223.7/24" in left
    assert f"{VIP}/24" not in left
    assert f"{VIP}/32" in left


def test_settings_of_a_vlan_are_named_as_sysctl_takes_them() -> None:
    assert addresses.conf(4, "eth0.5") == "net.ipv4.conf.eth0/5"


def test_any_address_of_a_range_is_enough() -> None:
    text = NODES.replace("192.168.223.158/32", "2001:db8:5::1/64")
    there = {"lo": ["2001:db8:5::77/128"], "eth0": ["192.168.143.227/17"]}
    assert [each.grade for each in addresses.placed(context(text, addresses=there, status=running()))] == [Grade.WELL]


def test_a_backup_under_placement_master_does_not_have_the_address() -> None:
    status = running()
    backup = replace(status.instances[0], role=replace(status.instances[0].role, value="backup"))
    status = replace(status, instances=(backup,))
    nowhere = {"lo": ["127.0.0.1/8"], "eth0": ["192.168.143.227/17"]}
    given = context(MASTER, addresses=nowhere, status=status)
    assert [each.grade for each in addresses.placed(given)] == [Grade.WELL]
    given.status = running()
    assert one(addresses.placed, given, Grade.PROBLEM).code is Code.ADDRESS_PLACED


def test_strict_rp_filter_matters_with_two_ways_out() -> None:
    two = {("ip", "-4", "route", "show", "default"): "default via 10.0.0.1 dev eth1\ndefault via 10.1.0.1 dev eth0\n"}
    strict = {f"{CONF}/eth0/rp_filter": "1\n", f"{CONF}/eth1/rp_filter": "0\n"}
    finding = graded(found(addresses.settings, context(files=strict, outputs=two)), Grade.WARNING)["rp-filter"]
    assert finding.hint == "sysctl -w net.ipv4.conf.eth0.rp_filter=2"
    assert f"{CONF}/eth0/rp_filter: 1" in finding.evidence
    of_one_way = found(addresses.settings, context(files={f"{CONF}/eth0/rp_filter": "1\n"}))
    assert graded(of_one_way, Grade.WELL)["rp-filter"]


def test_two_nodes_that_answer_arp_for_one_address_are_a_warning() -> None:
    given = context(answering=(subnet("eth0", "192.168.128.0/17"), subnet("eth1", "192.168.223.0/24")))
    finding = graded(found(addresses.settings, given), Grade.WARNING)["arp-answers"]
    assert finding.subject == "eth1"
    assert "arp_ignore=1" in finding.hint


def test_a_service_that_binds_to_an_address_that_moves_needs_nonlocal_bind() -> None:
    listens = tcp(f"{hexed(VIP)}:0050 00000000:0000 0A")
    finding = one(addresses.settings, context(MASTER, files=listens), Grade.WARNING)
    assert (finding.code, "(port 80)" in finding.what) == (Code.NONLOCAL_BIND, True)
    assert "net.ipv4.ip_nonlocal_bind=1" in finding.hint
    allowed = {**listens, "/proc/sys/net/ipv4/ip_nonlocal_bind": "1\n"}
    assert not graded(found(addresses.settings, context(MASTER, files=allowed)), Grade.WARNING)


def hexed(address: str) -> str:
    return ip_address(address).packed[::-1].hex().upper()


def tcp(*sockets: str) -> dict[str, str]:
    lines = [f"   0: {each} 0:0 00:0 0 0 0 12345 1" for each in sockets]
    return {"/proc/thread-self/net/tcp": "\n".join(["  sl  local_address ...", *lines])}


# What the checks look at


def test_an_instance_without_a_check_is_a_warning() -> None:
    text = NODES.replace('checks = ["haproxy"]\n', "")
    assert one(configuration.watched, context(text), Grade.WARNING).code is Code.UNWATCHED
    assert one(configuration.watched, context(), Grade.WELL)


def test_a_check_of_a_trigger_file_alone_sees_no_service() -> None:
    text = NODES.replace('process = "haproxy"', 'file = "/etc/keepalived/trigger"')
    assert "look at files" in one(configuration.watched, context(text), Grade.WARNING).what


def test_a_check_of_a_port_that_nobody_is_served_on_is_a_warning() -> None:
    text = NODES.replace('process = "haproxy"', 'tcp = "127.0.0.1:8080"')
    listens = tcp("00000000:01BB 00000000:0000 0A", f"{hexed('127.0.0.1')}:1F90 00000000:0000 0A")
    finding = one(configuration.watched, context(text, files=listens), Grade.WARNING)
    assert finding.what == "web: the checks look at port 8080, and what listens on the address is port 443"
    assert "127.0.0.1:443" in finding.hint
    right = text.replace("8080", "443")
    assert one(configuration.watched, context(right, files=listens), Grade.WELL)


# Others


def process(pid: int, *words: str) -> dict[str, str]:
    return {f"/proc/{pid}/comm": words[0].rpartition("/")[2], f"/proc/{pid}/cmdline": "\0".join(words) + "\0"}


@pytest.mark.parametrize("name", ["lelastic", "gobgpd", "bird", "bgpd", "exabgp"])
def test_another_announcer_is_a_problem(name: str) -> None:
    given = context(files=process(5, f"/usr/sbin/{name}", "-dcid", "6"), status=running())
    finding = one(others.others, given, Grade.PROBLEM)
    assert finding.code is Code.OTHER_ANNOUNCER
    assert finding.hint.startswith("systemctl disable --now ")
    assert finding.evidence == (f"/proc/5/cmdline: /usr/sbin/{name} -dcid 6",)


def test_a_second_floatip_is_a_problem_and_the_first_is_not() -> None:
    ours = process(99, "/usr/bin/python3", "/usr/bin/floatip", "run")
    assert not graded(found(others.others, context(files=ours, status=running())), Grade.PROBLEM)
    second = ours | process(100, "python3", "/usr/bin/floatip", "run")
    assert one(others.others, context(files=second, status=running()), Grade.PROBLEM).hint == "kill 100"


def test_an_announcer_of_a_container_is_not_ours() -> None:
    given = context(files=process(5, "bird"), status=running())
    given.host.links |= {"/proc/thread-self/ns/net": "net:[1]", "/proc/5/ns/net": "net:[2]"}  # type: ignore[attr-defined]
    assert not graded(found(others.others, given), Grade.PROBLEM)


@pytest.mark.parametrize(("numbers", "problems"), [("5", 1), ("5 1", 0)])
def test_where_the_network_of_a_process_is_not_shown_its_own_processes_are(numbers: str, problems: int) -> None:
    """As another user than root."""
    given = context(
        files=process(5, "bird") | {"/proc/5/status": f"Name:\tbird\nNSpid:\t{numbers}\n"}, status=running()
    )
    given.host.links |= {"/proc/thread-self/ns/net": "net:[1]"}  # type: ignore[attr-defined]
    assert len(graded(found(others.others, given), Grade.PROBLEM)) == problems


def test_what_starts_at_the_next_boot_is_a_warning() -> None:
    enabled = {("systemctl", "is-enabled", "lelastic.service"): "enabled\n"}
    finding = one(others.others, context(outputs=enabled, status=running()), Grade.WARNING)
    assert finding.hint == "systemctl disable lelastic.service"


def test_keepalived_beside_an_election_of_floatip_is_a_warning() -> None:
    given = context(files=process(5, "keepalived"), status=running())
    assert one(others.others, given, Grade.WARNING).code is Code.OTHER_ELECTOR


# The way to the route servers, and what Linode says


def test_each_route_server_has_a_way_and_a_source() -> None:
    codes = {str(each.code) for each in network.routes(context(status=running())) if each.grade is not Grade.WELL}
    assert not codes


def test_a_route_server_without_a_way_is_a_problem() -> None:
    given = context(status=running())
    given.host.outputs = {}  # type: ignore[attr-defined]
    assert graded(found(network.routes, given), Grade.PROBLEM).keys() == {"route-server", "link-path"}


def test_a_temporary_source_and_a_floating_one_are_told_apart() -> None:
    slaac = placed("eth0", "2600:3c03::f03c:1/64")
    notes = [each for each in network.routes(context(temporary=frozenset({slaac}))) if each.grade is Grade.NOTE]
    assert len(notes) == 4
    assert "use_tempaddr=0" in notes[0].hint
    floating = NODES.replace("192.168.223.158/32", "2600:3c03::f03c:1/128")
    problems = [each for each in network.routes(context(floating)) if each.grade is Grade.PROBLEM]
    assert len(problems) == 4
    assert "[bgp] source" in problems[0].hint


def test_a_low_ttl_and_a_low_mtu_are_warnings() -> None:
    low = NODES + "[bgp]\nmultihop_ttl = 10\n"
    assert graded(found(network.routes, context(low)), Grade.WARNING).keys() == {"ttl"}
    small = {"/sys/class/net/eth0/mtu": "1200\n"}
    assert graded(found(network.routes, context(files=small)), Grade.WARNING).keys() == {"link-path"}


def test_a_session_that_is_closed_after_our_open_means_no_share() -> None:
    given = context()
    assert given.model
    assert given.model.network
    hint = given.model.network.profile.hints[Trouble.OPEN_REJECTED]
    closed = replace(session("2600:3c0f:6:34::1", "idle"), hint=hint)
    given.status = running(sessions=(closed,))
    assert one(network.share, given, Grade.PROBLEM).code is Code.IP_SHARE
    assert one(network.route_servers, given, Grade.PROBLEM).hint == hint
    given.status = running()
    assert (
        one(network.share, given, Grade.WELL).evidence[0].startswith("floatip status: connected to 2600:3c0f:6:34::1")
    )


def metadata(region: str = "us-east", shared: str = VIP) -> Callable[[], Metadata]:
    return lambda: Metadata(7, "haproxy1", region, (), (), (IPv4Address(shared),), (), ())


def test_the_data_centre_is_compared_with_the_metadata_service() -> None:
    given = context()
    given.metadata = metadata()
    assert one(network.metadata, given, Grade.WELL)
    given = context()
    given.metadata = metadata("eu-west")
    finding = one(network.metadata, given, Grade.PROBLEM)
    assert finding.hint == "set [linode] dcid = 7 on all nodes"
    assert finding.evidence == ("metadata service: region eu-west",)
    given = context()
    given.metadata = metadata("xx-new")
    assert one(network.metadata, given, Grade.UNSEEN)


def test_a_metadata_service_that_does_not_answer_is_asked_once_and_is_a_note() -> None:
    asked = []

    def refuses() -> Metadata:
        asked.append(1)
        raise Refusal("nobody answers", "is this a Linode?")

    given = context(status=running())
    given.metadata = refuses
    assert one(network.metadata, given, Grade.NOTE)
    assert one(network.share, given, Grade.WELL), "the sessions say it"
    assert len(asked) == 1


def test_an_address_that_is_not_shared_is_a_problem_unless_the_api_knows_it() -> None:
    given = context(status=running())
    given.metadata = metadata(shared="192.0.2.1")
    finding = one(network.share, given, Grade.PROBLEM)
    assert finding.hint == f"floatip share {VIP}"
    given.shares = lambda number: Shares(number, (IPv4Address(VIP),), (IPv6Network("2001:db8::/64"),))
    assert not graded(found(network.share, given), Grade.PROBLEM)


# The daemon and the nodes


def test_a_silent_node_and_a_deaf_one_are_problems() -> None:
    status = running()
    silent = replace(status.nodes[1], state="silent", why="nothing arrives")
    assert one(daemon.nodes, context(status=replace(status, nodes=(silent,))), Grade.PROBLEM).code is Code.LINK_HEARD
    deaf: NodeView = replace(status.nodes[1], hears_us=None)
    finding = one(daemon.nodes, context(status=replace(status, nodes=(deaf,))), Grade.PROBLEM)
    assert "does not hear this node" in finding.what


def test_nodes_of_two_versions_are_a_warning() -> None:
    status = running()
    other = replace(status.nodes[1], version="0.0.1")
    finding = one(daemon.nodes, context(status=replace(status, nodes=(other,))), Grade.WARNING)
    assert finding.code is Code.VERSIONS


def test_what_the_daemon_names_is_named_with_its_hint() -> None:
    named = ProblemView("unhealthy", "problem", "web", "web is not healthy", "repair the service", 3.0)
    finding = one(daemon.daemon, context(status=running(problems=(named,))), Grade.PROBLEM)
    assert (finding.what, finding.hint) == ("floatip status: web is not healthy", "repair the service")


def test_a_daemon_that_may_not_be_asked_is_not_seen_and_one_that_is_dead_is_a_problem() -> None:
    given = context()
    given.no_status = NotAllowed("not allowed to use /run/floatip/floatip.sock", "sudo")
    assert one(daemon.daemon, given, Grade.UNSEEN).hint == "sudo floatip doctor"
    given.no_status = NobodyAnswers("no floatip daemon answers", "systemctl start floatip")
    assert one(daemon.daemon, given, Grade.PROBLEM).hint == "systemctl start floatip"


def test_missing_capabilities_are_a_problem() -> None:
    none = {"/proc/99/status": "Name:\tfloatip\nCapEff:\t0000000000002000\n"}
    finding = one(daemon.process, context(files=none, status=running()), Grade.PROBLEM)
    assert "lacks CAP_NET_ADMIN:" in finding.what
    both = {"/proc/99/status": "CapEff:\t0000000000003000\n"}
    assert {each.grade for each in daemon.process(context(files=both, status=running()))} == {Grade.WELL}


def test_a_daemon_without_real_time_is_a_warning() -> None:
    scheduling = running().scheduling
    assert scheduling
    both = {"/proc/99/status": "CapEff:\t0000000000003000\n"}
    status = running(scheduling=replace(scheduling, policy="other"))
    assert one(daemon.process, context(files=both, status=status), Grade.WARNING).code is Code.SCHEDULING


# The system

SHOW = ("systemctl", "show", "floatip.service", "-p", system.PROPERTIES)
BOOTED = {"/run/systemd/system/x": "", "/run/log/x": ""}


def test_a_unit_that_does_not_start_at_boot_is_a_warning() -> None:
    shown = {SHOW: "LoadState=loaded\nUnitFileState=disabled\nActiveState=active\nNRestarts=0\n"}
    finding = one(system.unit, context(files=BOOTED, outputs=shown), Grade.WARNING)
    assert finding.hint == "systemctl enable floatip"
    shown = {SHOW: "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nNRestarts=3\n"}
    assert "3 times" in one(system.unit, context(files=BOOTED, outputs=shown), Grade.WARNING).what
    shown = {SHOW: "LoadState=masked\nUnitFileState=masked\nActiveState=inactive\nNRestarts=0\n"}
    assert one(system.unit, context(files=BOOTED, outputs=shown), Grade.PROBLEM)


def test_a_journal_that_is_lost_at_a_reboot_is_a_warning() -> None:
    assert one(system.journal, context(files=BOOTED), Grade.WARNING).code is Code.JOURNAL
    kept = {**BOOTED, "/var/log/journal/0123/system.journal": ""}
    assert one(system.journal, context(files=kept), Grade.WELL)
    assert not found(system.journal, context())


@pytest.mark.parametrize(
    ("command", "said", "grade"),
    [
        (("timedatectl", "show", "-p", "NTPSynchronized", "-p", "NTP"), "NTP=yes\nNTPSynchronized=yes", Grade.WELL),
        (("timedatectl", "show", "-p", "NTPSynchronized", "-p", "NTP"), "NTP=no\nNTPSynchronized=no", Grade.WARNING),
        (("adjtimex", "--print"), "         status: 8193\n", Grade.WELL),
        (("adjtimex", "--print"), "         status: 64\n", Grade.WARNING),
        (("true",), "", Grade.UNSEEN),
    ],
)
def test_the_clock_is_synchronised_or_not_or_not_known(command: tuple[str, ...], said: str, grade: Grade) -> None:
    assert one(system.clock, context(outputs={command: said}), grade).code is Code.CLOCK


# The firewall


def test_without_rules_everything_passes() -> None:
    grades = {each.grade for each in firewall.firewall(context(outputs=EMPTY))}
    assert grades == {Grade.WELL}


def test_without_root_or_programs_the_firewall_is_not_seen() -> None:
    assert one(firewall.firewall, context(outputs=EMPTY, is_root=False), Grade.UNSEEN).hint == "sudo floatip doctor"
    assert "does not name the tables" in one(firewall.firewall, context(), Grade.UNSEEN).what
    given = context()
    given.host.tables = [("inet", "mine")]  # type: ignore[attr-defined]
    finding = one(firewall.firewall, given, Grade.UNSEEN)
    assert finding.what == "the rules of inet mine are not seen: nft is not installed"
    assert finding.hint == "apt install nftables"


def test_a_connection_to_a_route_server_is_another_announcers_only_where_no_daemon_can_have_it() -> None:
    peer = ip_address("2600:3c0f:6:34::1").packed
    words = "".join(peer[at : at + 4][::-1].hex().upper() for at in range(0, 16, 4))
    given = context(files={"/proc/thread-self/net/tcp6": f"sl\n 0: {'0' * 32}:9C40 {words}:00B3 01 0:0 00:0 0 0 0 7 1"})
    given.no_status = NobodyAnswers("no floatip daemon answers", "systemctl start floatip")
    assert one(others.others, given, Grade.WARNING).subject == "2600:3c0f:6:34::1"
    given.no_status = NotAllowed("not allowed to use /run/floatip/floatip.sock", "sudo")
    assert not graded(found(others.others, given), Grade.WARNING)


def test_an_answer_of_nft_that_is_none_is_not_believed() -> None:
    for said in ("", "{}", '{"nftables": 5}', '{"nftables": [{"rule": {}}]}', '{"nftables": [{"table": {}}]}'):
        broken = {**EMPTY, ("nft", "-j", "list", "ruleset"): said}
        assert Grade.UNSEEN in {each.grade for each in firewall.firewall(context(outputs=broken))}


@pytest.mark.parametrize(
    ("election", "code"),
    [
        (
            '[instance.vrrp]\ninterface = "eth0"\nvrid = 51\nsource = "192.168.143.227"\npeers = ["192.168.143.241"]',
            "112",
        ),
        ("", "cannot be seen"),
    ],
)
def test_linodes_cloud_firewall_is_named_and_that_it_knows_no_vrrp(election: str, code: str) -> None:
    finding = one(firewall.cloud_firewall, context(NODES + election), Grade.NOTE)
    assert code in finding.what


def test_an_observer_is_asked_about_only_where_it_is_named() -> None:
    given = context(
        outputs={**EMPTY, ("ip", "-json", "route", "get", "192.0.2.9"): '[{"dev": "eth0", "prefsrc": "192.0.2.1"}]'}
    )
    assert "firewall-observer" not in {str(each.code) for each in firewall.firewall(given)}
    given.observers = (ip_address("192.0.2.9"),)
    assert "firewall-observer" in {str(each.code) for each in firewall.firewall(given)}


# All of them


def test_a_part_that_crashes_or_hangs_ends_no_other() -> None:
    begun, release = Event(), Event()

    def crashes(given: Context) -> Iterator[Finding]:
        yield well(Code.CLOCK, "a", "seen before")
        raise ZeroDivisionError("a bug")

    def hangs(given: Context) -> Iterator[Finding]:
        begun.set()
        release.wait(60)
        yield well(Code.CLOCK, "b", "too late")

    def works(given: Context) -> Iterator[Finding]:
        begun.wait(60)
        yield well(Code.CLOCK, "c", "seen")

    began = time.monotonic()
    result = examine(context(), {"one": crashes, "two": hangs, "three": works}, limit=1.0)
    assert time.monotonic() - began < 30
    release.set()
    assert [(each.grade, each.subject) for each in result] == [
        (Grade.WELL, "a"),
        (Grade.UNSEEN, "one"),
        (Grade.UNSEEN, "two"),
        (Grade.WELL, "c"),
    ]
    assert "ZeroDivisionError: a bug (test_lookers.py:" in result[1].evidence[0]


@pytest.mark.parametrize("has_file", [True, False])
def test_a_machine_of_which_nothing_can_be_read_crashes_no_part(has_file: bool) -> None:
    given = context() if has_file else context("")
    given.host.files, given.host.outputs = {}, {}  # type: ignore[attr-defined]
    given.host.is_root = False
    given.machine, given.has_file = None, has_file
    given.file = Path("/nowhere/floatip.toml")
    crashed = [each for each in examine(given, lookers()) if each.code is Code.LOOKER]
    assert not crashed


def test_where_the_unit_runs_another_file_that_one_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "keepalived.conf"
    conf.write_text("vrrp_instance VI_1 {\n}\n")
    commands = ["", "/usr/bin/floatip run", "", f"/usr/bin/floatip run --dcid 6 {conf}"]
    monkeypatch.setattr("floatip.doctor.context.DEFAULT_CONFIG", str(tmp_path / "floatip.toml"))
    monkeypatch.setattr(machine, "unit_settings", lambda key, *places: commands if key == "ExecStart" else [])
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert gather(Recorded(), tmp_path / "floatip.toml").file == conf
    (tmp_path / "floatip.toml").write_text("")
    assert gather(Recorded(), tmp_path / "floatip.toml").file == tmp_path / "floatip.toml"
