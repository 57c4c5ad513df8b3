"""The second chance as the doctor sees it: what the daemon says, the firewall, the reverse path, the tables."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from floatip.core.state import SecondChanceView, WithoutView
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, Grade
from floatip.doctor.firewall import looker
from floatip.doctor.host import Unseen
from floatip.doctor.second_chance import TABLES, second_chance
from tests.doctor.contexts import CONF, NODES, context, running
from tests.doctor.recorded import Recorded
from tests.web.views import CHANCE

WANTED = '[second_chance]\nmode = "on"\n' + NODES
AUTO = '[second_chance]\nmode = "auto"\n' + NODES
FILES = {f"{CONF}/floatip-sc/rp_filter": "2\n"}
OWNED = json.dumps({"nftables": [{"table": {"family": "netdev", "name": "floatip_sc", "flags": ["owner", "persist"]}}]})
PLAIN = json.dumps({"nftables": [{"table": {"family": "netdev", "name": "floatip_sc"}}]})
LIST = ("nft", "-j", "list", "tables")


def chanced(
    text: str = WANTED,
    known: SecondChanceView | None = CHANCE,
    *,
    tables: Sequence[tuple[str, str]] = TABLES,
    files: dict[str, str] | None = None,
    outputs: dict[Any, str] | None = None,
    is_root: bool = True,
) -> Context:
    given = context(
        text,
        status=running(second_chance=known),
        files=FILES | (files or {}),
        outputs={LIST: OWNED} | (outputs or {}),
        is_root=is_root,
    )
    assert isinstance(given.host, Recorded)
    given.host.tables = tables
    return given


def not_well(given: Context) -> list[Finding]:
    return [one for one in second_chance(given) if one.grade is not Grade.WELL]


def through(**changes: Any) -> SecondChanceView:
    (one,) = CHANCE.nodes
    return replace(CHANCE, nodes=(replace(one, **changes),))


def test_where_all_works_each_part_is_named() -> None:
    found = list(second_chance(chanced()))
    assert not_well(chanced()) == []
    assert {one.code for one in found} == {Code.SECOND_CHANCE, Code.TUNNEL, Code.RP_FILTER}
    assert any("no other program can change them" in one.what for one in found)


def test_without_the_table_there_is_nothing_to_look_at() -> None:
    assert list(second_chance(chanced(NODES, None))) == []


@pytest.mark.parametrize(("text", "grade"), [(WANTED, Grade.WARNING), (AUTO, Grade.NOTE)])
def test_what_does_not_work_is_a_warning_only_where_it_is_wanted(text: str, grade: Grade) -> None:
    mode = "on" if text is WANTED else "auto"
    known = replace(through(works=False, why="nothing comes", fault="unheard"), mode=mode)
    (finding,) = not_well(chanced(text, known))
    assert (finding.grade, finding.code, finding.subject) == (grade, Code.TUNNEL, "haproxy2")
    assert "tcpdump -ni any udp port 8473" in finding.hint


def test_where_the_other_node_is_at_fault_the_hint_leads_there() -> None:
    (finding,) = not_well(chanced(known=through(works=False, why="haproxy2 says: no VXLAN", fault="there")))
    assert finding.hint == "on haproxy2: floatip doctor"


def test_a_node_that_is_silent_is_no_fault_of_the_tunnel() -> None:
    given = chanced(known=through(works=False, why="nothing comes", fault="unheard"))
    assert given.status
    one, two = given.status.nodes
    given.status = replace(given.status, nodes=(one, replace(two, state="silent")))
    (finding,) = not_well(given)
    assert finding.grade is Grade.NOTE


def test_a_node_that_cannot_take_part_says_why_and_nothing_else() -> None:
    known = replace(CHANCE, usable=False, why="the kernel has no VXLAN", hint="modprobe vxlan")
    (finding,) = second_chance(chanced(known=known))
    assert (finding.grade, finding.hint) == (Grade.WARNING, "modprobe vxlan")
    assert "the kernel has no VXLAN" in finding.what


def test_an_instance_that_cannot_be_moved_is_named() -> None:
    (finding,) = not_well(chanced(known=replace(CHANCE, without=(WithoutView("web", "it is behind NAT"),))))
    assert finding.subject == "web"
    assert "it is behind NAT" in finding.what


@pytest.mark.parametrize(("of_all", "own", "is_strict"), [(1, 0, True), (0, 1, True), (1, 2, False), (0, 0, False)])
def test_the_larger_of_two_reverse_path_filters_counts(of_all: int, own: int, is_strict: bool) -> None:
    files = {f"{CONF}/all/rp_filter": f"{of_all}\n", f"{CONF}/floatip-sc/rp_filter": f"{own}\n"}
    found = [one for one in not_well(chanced(files=files)) if one.code is Code.RP_FILTER]
    assert len(found) == is_strict
    assert not is_strict or found[0].hint == "sysctl -w net.ipv4.conf.floatip-sc.rp_filter=2"


def test_tables_that_are_gone_and_tables_that_anybody_may_change_are_told_apart() -> None:
    (gone,) = not_well(chanced(tables=TABLES[:1]))
    assert gone.grade is Grade.WARNING
    assert "netdev floatip_sc" in gone.what
    (plain,) = not_well(chanced(outputs={LIST: PLAIN}))
    assert plain.grade is Grade.NOTE
    assert "nft flush ruleset" in plain.what


def test_only_root_sees_the_tables() -> None:
    (finding,) = not_well(chanced(is_root=False))
    assert (finding.grade, finding.hint) == (Grade.UNSEEN, "sudo floatip doctor")


def test_without_a_daemon_the_modules_are_looked_for() -> None:
    given = context(WANTED, outputs={("modprobe", "--dry-run", name): "" for name in ("vxlan", "nft_fwd_netdev")})
    assert list(second_chance(given)) == [], "without modprobe nobody knows"


def test_a_module_that_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Recorded, *command: str) -> str:
        if command[-1] == "vxlan":
            raise Unseen("modprobe: FATAL: Module vxlan not found")
        return ""

    monkeypatch.setattr(Recorded, "run", run)
    (finding,) = second_chance(context(WANTED))
    assert (finding.grade, finding.subject) == (Grade.NOTE, "vxlan")


def test_what_a_killed_daemon_left_is_named_where_nothing_uses_it() -> None:
    left = {"/sys/class/net/floatip-sc/mtu": "1500\n"}
    (finding,) = second_chance(context(NODES, files=left))
    assert finding.grade is Grade.NOTE
    assert finding.hint.startswith("ip link del floatip-sc")
    assert not_well(chanced(files=left)) == []


# The firewall


def match(key: dict[str, Any], value: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": key, "right": value}}


def ruleset(*items: dict[str, Any], text: str = "") -> dict[tuple[str, ...], str]:
    return {
        ("nft", "-j", "list", "ruleset"): json.dumps({"nftables": items}),
        ("nft", "-a", "list", "ruleset"): text,
    }


def rule(handle: int, family: str, table: str, chain: str, *expressions: dict[str, Any]) -> dict[str, Any]:
    named = {"family": family, "table": table, "chain": chain, "handle": handle}
    return {"rule": named | {"expr": list(expressions)}}


DEPORT = {"payload": {"protocol": "udp", "field": "dport"}}
FILTER = (
    {"table": {"family": "inet", "name": "fw", "handle": 1}},
    {
        "chain": {
            "family": "inet",
            "table": "fw",
            "name": "in",
            "handle": 2,
            "type": "filter",
            "hook": "input",
            "prio": 0,
            "policy": "accept",
        }
    },
)
OWN = (
    {"table": {"family": "netdev", "name": "floatip_sc", "handle": 9}},
    {
        "chain": {
            "family": "netdev",
            "table": "floatip_sc",
            "name": "uplink_eth0",
            "handle": 2,
            "dev": "eth0",
            "type": "filter",
            "hook": "ingress",
            "prio": -310,
            "policy": "accept",
        }
    },
    rule(3, "netdev", "floatip_sc", "uplink_eth0", {"fwd": {"addr": "169.254.241.2", "dev": "floatip-sc"}}),
)


def tunnel(given: Context) -> list[Finding]:
    return [one for one in looker.firewall(given) if one.code is Code.FIREWALL_TUNNEL]


def test_an_open_firewall_lets_the_tunnel_and_what_comes_out_of_it_through() -> None:
    found = tunnel(chanced(outputs=ruleset()))
    assert [one.grade for one in found] == [Grade.WELL] * 3
    assert [one.subject for one in found] == ["haproxy2", "haproxy2", "192.168.223.158"]
    assert "UDP port 8473, in by eth0" in found[0].what
    what = "connections to 192.168.223.158 that come through the tunnel (TCP port 443, in by floatip-sc)"
    assert what in found[2].what


@pytest.mark.parametrize(("text", "grade"), [(WANTED, Grade.WARNING), (AUTO, Grade.NOTE)])
def test_a_rule_that_drops_the_tunnel_is_named_with_the_command_that_mends_it(text: str, grade: Grade) -> None:
    drop = rule(3, "inet", "fw", "in", match(DEPORT, 8473), {"drop": None})
    found = tunnel(chanced(text, outputs=ruleset(*FILTER, drop)))
    (bad,) = [one for one in found if one.grade is not Grade.WELL]
    assert bad.grade is grade
    assert "drops the tunnel of the second chance from haproxy2" in bad.what
    assert "nft insert rule inet fw in ip saddr 192.168.143.241 udp dport 8473 accept" in bad.hint


def listening(*ports: int) -> dict[str, str]:
    rows = [f"0: 00000000:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 1" for port in ports]
    return {"/proc/thread-self/net/tcp": "\n".join(["head", *rows])}


def test_each_service_that_clients_reach_is_asked_for_and_no_other() -> None:
    """The firewall lets nobody in to 9100, and so no connection to it can be moved."""
    port = {"payload": {"protocol": "tcp", "field": "dport"}}
    by_tunnel = match({"meta": {"key": "iifname"}}, "floatip-sc")
    rules = (
        rule(3, "inet", "fw", "in", match(port, 9100), {"drop": None}),
        rule(4, "inet", "fw", "in", by_tunnel, match(port, 7), {"drop": None}),
    )
    far = ("ip", "-json", "route", "get", "203.0.113.1")
    route = {
        far: json.dumps([{"dst": far[-1], "gateway": "192.168.128.1", "dev": "eth0", "prefsrc": "192.168.143.227"}])
    }
    given = chanced(files=listening(7, 80, 9100), outputs=ruleset(*FILTER, *rules) | route)
    found = [one for one in tunnel(given) if one.subject == "192.168.223.158"]
    assert [(one.grade is Grade.WELL, one.what.partition("TCP port ")[2].partition(",")[0]) for one in found] == [
        (False, "7"),
        (True, "80"),
    ]


def test_without_the_second_chance_its_port_is_not_asked_for() -> None:
    assert tunnel(chanced(NODES, None, outputs=ruleset())) == []


def test_our_own_tables_hide_nothing_of_the_firewall() -> None:
    found = list(looker.firewall(chanced(outputs=ruleset(*OWN))))
    assert found
    assert {one.grade for one in found} == {Grade.WELL}


def test_the_cloud_firewall_is_to_let_both_ports_in() -> None:
    (finding,) = looker.cloud_firewall(chanced())
    assert "UDP ports 9112 and 8473" in finding.hint
    (finding,) = looker.cloud_firewall(chanced(NODES, None))
    assert "UDP port 9112 from" in finding.hint
