"""The status on a terminal: it fits, and says what is wrong last, where the eye is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from floatip.core.bgp.trouble import Trouble
from floatip.core.events import CheckDone, Disconnected, Failing, Failure, LinkChanged
from floatip.core.snapshot import describe
from floatip.core.state import CarriedView, CheckBrief, NodeView, ProblemBrief, Status, as_data, read
from floatip.text import aligned, folded, span
from floatip.view import draw_nodes, draw_status
from tests.core.host import RS, RS2, SICK, Host, config, master

TWO = config(speaker={"peers": (RS, RS2)})


def drawn(host: Host, width: int = 80) -> list[str]:
    return draw_status(describe(host.node, host.now), width).splitlines()


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    host = master(TWO)
    host.dialling_works = False
    host.tell(SICK, Disconnected(RS, "connection refused", Trouble.REFUSED), LinkChanged("eth0", False, "eth0 is down"))
    lines = drawn(host, width)
    assert max(map(len, lines)) <= width
    assert any("192.0.2.10/32 on lo" in line for line in lines)


def test_route_servers_that_are_well_take_one_line_and_others_one_each() -> None:
    host = master(TWO)
    assert [line for line in drawn(host) if "2001:db8" in line] == []
    assert any(line.startswith("route servers  up") and "2 of 2 connected" in line for line in drawn(host))
    host.dialling_works = False
    host.tell(Disconnected(RS, "connection refused", Trouble.REFUSED))
    assert any(line.startswith("route servers  PART") for line in drawn(host))
    assert any(f"{RS}: connection refused" in line for line in drawn(host) if line.startswith("  "))


def test_problems_stand_at_the_end_and_none_is_said() -> None:
    host = master(TWO)
    assert drawn(host)[-4:] == [
        "no problems",
        "note: VI_1: no other node has been heard (a backup is silent) [peer-unheard]",
        "  hint: run floatip status on the other node; if it is MASTER too, let IP",
        "        protocol 112 pass",
    ]
    host.tell(SICK)
    assert drawn(host)[-2:] == [
        "! VI_1 is not healthy: check web: exit status 1 [unhealthy]",
        "  hint: repair the service, or run the check by hand",
    ]


def test_nothing_in_an_answer_is_a_command_to_the_terminal() -> None:
    host = master(TWO)
    evil = "\x1b[2K\nno problems"
    host.tell(CheckDone("web", 0, False, evil), Failing("adverts", frozenset({Failure(evil, evil, evil)})))
    lines = drawn(host)
    assert "no problems" not in lines
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2K\\nno problems" in line for line in lines)


def test_a_check_that_is_down_shows_its_last_result_too() -> None:
    host = master(TWO)
    host.tell(SICK, CheckDone("web", 0, False, "no route to host"))
    (line,) = [line for line in drawn(host, 132) if line.startswith("check web")]
    assert line.endswith("no route to host; down because: exit status 1")


def test_a_long_line_is_folded_under_its_column() -> None:
    assert folded("key  some words that are too long", 27, 5) == ["key  some words that are", "     too long"]
    assert folded("key  some words", 12, 5) == ["key  some words"], "there is no room for a column"
    assert folded("short", 12, 5) == ["short"]
    assert aligned([("a", "b " * 20)], 30)[1].startswith("   b")


WHY = "kernel update, ticket 4711; ask Anna before you touch this node, she is at the console until Tuesday"


def node(name: str, **changes: Any) -> NodeView:
    """One that is well, and that this node hears."""
    well = NodeView(
        name,
        "192.168.143.241",
        own=False,
        state="alive",
        version="0.4.0",
        same_configuration=True,
        healthy=True,
        instances_healthy=1,
        instances=1,
        sessions_up=4,
        sessions=4,
        carries=(CarriedView("web", "standby"),),
        heard=0.06,
        hears_us=0.1,
    )
    return replace(well, **changes)


def own(name: str = "haproxy1", **changes: Any) -> NodeView:
    here = {"own": True, "state": "this node", "address": "192.168.143.227", "heard": None, "hears_us": None}
    return node(name, **{**here, "carries": (CarriedView("web", "active"),), **changes})


def spread(nodes: int, instances: int, name: str = "haproxy{}") -> list[NodeView]:
    """Node i is master of each instance whose number leaves the rest i, and standby for the others."""

    def carries(place: int) -> tuple[CarriedView, ...]:
        ranks = ["active" if number % nodes == place else "standby" for number in range(instances)]
        return tuple(CarriedView(f"web{number:02}", rank) for number, rank in enumerate(ranks))

    all_well: dict[str, Any] = {"instances": instances, "instances_healthy": instances}
    others = [node(name.format(i), carries=carries(i), **all_well) for i in range(1, nodes)]
    return [own(name.format(0), carries=carries(0), **all_well), *others]


def block(nodes: Sequence[NodeView], width: int = 80) -> list[str]:
    """The lines of the status that are about nodes."""
    host = master(TWO)
    lines = draw_status(replace(describe(host.node, host.now), nodes=tuple(nodes)), width).splitlines()
    return lines[next(number for number, line in enumerate(lines) if line.startswith("node")) : lines.index("")]


def test_a_node_without_a_link_has_no_block_of_nodes() -> None:
    assert not [line for line in drawn(master(TWO)) if line.startswith("node")]


REPORTED: dict[str, Any] = {
    "reported": 1.5,
    "checks": (CheckBrief("web", "down", "connection refused"),),
    "more_checks": 2,
    "problems": (ProblemBrief("unhealthy", "problem", "web", "web is not healthy", "repair it"),),
    "more_problems": 1,
}


def test_the_nodes_come_back_from_json_as_they_were() -> None:
    nodes = (
        own(),
        node("haproxy2", carries=(CarriedView("web", "active", True),), hears_us=None, until=5.0, **REPORTED),
    )
    whole = replace(describe(master(TWO).node, 30.0), nodes=nodes)
    assert read(Status, as_data(whole)).nodes == nodes


def test_the_problems_of_a_node_are_named_below_it() -> None:
    hostile = ProblemBrief("\x1b[2J", "later", "", "", "")
    problems = [ProblemBrief(code, severity, "web", "", "") for code, severity in PROBLEMS]
    sick = node("haproxy2", problems=(*problems, hostile), more_problems=3)
    lines = draw_nodes([own(), sick]).splitlines()
    assert lines[-1] == "  problems: no-session, unhealthy, \\x1b[2J, 3 not listed"
    well = node("haproxy2", problems=(ProblemBrief("peer-unheard", "note", "web", "", ""),))
    assert len(draw_nodes([own(), well]).splitlines()) == 5


PROBLEMS = [("no-session", "problem"), ("unhealthy", "problem"), ("unhealthy", "warning"), ("peer-unheard", "note")]


def test_each_node_has_a_line_in_the_status() -> None:
    silent = node("haproxy3", state="silent", why="no hello for 3.2 s", heard=3.2, carries=())
    assert block([own(), node("haproxy2"), silent]) == [
        "node haproxy1  this node        web at active",
        "node haproxy2  alive            web at standby",
        "node haproxy3  SILENT     3.2s  no hello for 3.2 s",
    ]


def test_the_line_of_a_node_says_what_is_not_whole() -> None:
    wrong = {"hears_us": None, "same_configuration": False, "version": "0.3.9", "sessions_up": 3, "stopping": True}
    lines = block([own(), node("haproxy2", carries=(), healthy=False, instances_healthy=0, **wrong)], 400)
    assert lines[1].endswith(
        "carries nothing; 0 of 1 instances healthy; 3 of 4 route servers connected; stopping; does not hear this node; "
        "has another configuration than this node; has version 0.3.9, this node has 0.4.0"
    )


def test_many_instances_are_counted_in_the_status_and_named_by_their_master_in_the_table() -> None:
    nodes = spread(7, 40)
    assert block(nodes)[1].split("  ")[-1].strip() == "6 instances at active; 34 instances at standby"
    assert "  192.168.143.241  web01, web08, web15, web22, web29, web36 at active; 34" in draw_nodes(nodes).splitlines()
    leaving = node("haproxy2", carries=tuple(CarriedView(str(n), "takeover", n < 2) for n in range(9)))
    assert block([own(), leaving])[1].endswith("9 instances at takeover (2 leaving)")


def test_the_better_rank_is_named_first_and_an_unknown_one_last() -> None:
    ranks = ("of a later version", "standby", "takeover-again", "active")
    carries = tuple(CarriedView(rank[:2], rank) for rank in ranks)
    (line,) = [line for line in draw_nodes([node("haproxy2", carries=carries)], 200).splitlines() if " at " in line]
    assert line.endswith("ta at takeover-again; ac at active; st at standby; of at of a later version")


def test_the_table_has_the_facts_of_each_node_and_below_them_what_is_special() -> None:
    drained = node("haproxy2", carries=(CarriedView("web", "active", True),), drained=True, reason=WHY, until=7100.0)
    silent = node("haproxy3", state="silent", why="no hello for 3.2 s", heard=3.2, hears_us=1.0)
    unheard = node("haproxy4", state="unheard", heard=None, version="", carries=())
    assert draw_nodes([own(), drained, silent, unheard]).splitlines() == [
        "NODE      STATE      HEARD  HEARS US  HEALTHY  SESSIONS  VERSION",
        "haproxy1  this node                   1 of 1   4 of 4    0.4.0",
        "  192.168.143.227  web at active",
        "haproxy2  alive      0.1s   0.1s      1 of 1   4 of 4    0.4.0",
        "  192.168.143.241  web (leaving) at active",
        "  drained for 1 h 58 min more: kernel update, ticket 4711; ask Anna before you",
        "    touch this node, she is at the console until Tuesday",
        "haproxy3  SILENT     3.2s   ?         ?        ?         0.4.0",
        "  192.168.143.241  carried when last heard: web at standby",
        "  no hello for 3.2 s",
        "haproxy4  UNHEARD    never  ?         ?        ?         ?",
        "  192.168.143.241",
        "  not heard since this daemon started",
    ]


def test_a_node_that_does_not_hear_this_one_or_is_of_unknown_health_says_so() -> None:
    assert draw_nodes([own(), node("haproxy2", hears_us=None, healthy=None)]).splitlines()[3:] == [
        "haproxy2  alive      0.1s   NO        ?        4 of 4    0.4.0",
        "  192.168.143.241  web at standby",
        "  does not hear this node",
    ]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"drained": True}, "drained until floatip undrain"),
        ({"paused": True, "reason": "a trial"}, "paused until floatip resume: a trial"),
        ({"paused": True, "until": 45.0}, "paused for 45 s more"),
        ({"paused": True, "drained": True, "until": 600.0}, "drained and paused for 10 min more"),
    ],
)
def test_a_node_that_is_drained_or_paused_says_until_when(what: dict[str, Any], said: str) -> None:
    assert draw_nodes([own(**what)]).splitlines()[-1] == f"  {said}"
    assert block([own(**what)], 200)[-1].endswith(f"; {said}")


@pytest.mark.parametrize("name", ["haproxy{}", "haproxy{}.us-east.production.example.internal"])
@pytest.mark.parametrize("instances", [1, 40])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_nodes_fit_in_80_columns_however_many_and_whatever_they_are_called(
    count: int, instances: int, name: str
) -> None:
    nodes = spread(count, instances, name)
    nodes[-1] = replace(nodes[-1], drained=True, reason=WHY, until=7100.0)
    for text in ("\n".join(block(nodes)), draw_nodes(nodes)):
        assert max(map(len, text.splitlines())) <= 80
        assert all(text.count(each.name) == 1 for each in nodes)
        assert f"drained for 1 h 58 min more: {WHY}" in " ".join(text.split())


def test_nothing_that_a_node_says_is_a_command_to_the_terminal() -> None:
    evil = "\x1b[2K\nevil"
    nodes = [own(), node(evil, state=evil, why=evil, version=evil, reason=evil, address=evil, drained=True)]
    nodes.append(node(evil, carries=(CarriedView(evil, evil), CarriedView(evil, "active"))))
    for lines in (draw_nodes(nodes).splitlines(), block(nodes)):
        assert all(line.isprintable() for line in lines)
        assert "evil" not in lines


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (7100, "1 h 58 min"),
        (86400, "1 d"),
        (99999, "1 d 3 h"),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, said: str) -> None:
    assert span(seconds) == said
