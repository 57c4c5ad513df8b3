"""The status on a terminal: it fits, says what is wrong first, and who has the traffic."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unicodedata import east_asian_width

import pytest

from floatip import screen
from floatip.carrier import RANKS, carriers
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.trouble import Trouble
from floatip.core.events import CheckDone, Disconnected, Failing, Failure, LinkChanged
from floatip.core.problems import Code, Severity
from floatip.core.snapshot import describe
from floatip.core.state import (
    CarriedView,
    ChangeView,
    CheckBrief,
    InstanceView,
    NetworkView,
    NodeView,
    ProblemBrief,
    ProblemView,
    Standing,
    Status,
    as_data,
    read,
)
from floatip.nodes import draw_nodes
from floatip.text import aligned, folded, span
from floatip.view import IN_WORDS, SHORT, Shown, _names, draw_status
from tests.core.host import RS, RS2, SICK, Host, config, master

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


TWO = config(speaker={"peers": (RS, RS2)})
WELL: dict[str, Any] = {
    "host": "haproxy1",
    "version": "0.4.0",
    "uptime": 273600.0,
    "network": NetworkView("linode", 6, "Newark"),
    "problems": (),
}


def text(status: Status, width: int = 80, **options: Any) -> list[str]:
    return screen.plain(draw_status(status, Shown(width, **options))).splitlines()


def drawn(host: Host, width: int = 80) -> list[str]:
    return text(describe(host.node, host.now), width)


def well(**changes: Any) -> Status:
    host = master(TWO)
    return replace(describe(host.node, host.now), **{**WELL, **changes})


def section(lines: Sequence[str], title: str) -> list[str]:
    """The lines of a block, below its first."""
    begins = next(number for number, line in enumerate(lines) if line == title or line.startswith(f"{title}  "))
    rest = [*lines[begins + 1 :], ""]
    return list(rest[: rest.index("")])


def test_a_healthy_master_is_on_one_screen() -> None:
    change = ChangeView("2026-11-29T03:12:07.123+00:00", "role", "VI_1", "backup", "master", "haproxy2 handed over")
    nodes = (own(carries=(CarriedView("VI_1", "active"),)), node("haproxy2", carries=(CarriedView("VI_1", "standby"),)))
    lines = text(well(nodes=nodes, recent=(change,)))
    when = lines[-1][2:17]
    assert lines == [
        "haproxy1  OK  floatip 0.4.0, up 3d 4h, linode 6 (Newark)",
        "",
        "VI_1  MASTER for 26s",
        "  traffic    goes to this node",
        "  announced  as the one that serves, to 2 of 2 route servers",
        "  address    192.0.2.10/32 on lo, held",
        "  why        no advert for 3.80 s",
        "",
        "checks",
        "  web  up 30s  exit status 0",
        "",
        "other nodes",
        "  haproxy2  alive  in reserve for VI_1",
        "",
        "route servers",
        "  up 30s  2 of 2 connected, hold time 9 s",
        "",
        "last changes",
        f"  {when}  VI_1 backup -> master: haproxy2 handed over",
    ]
    assert when.endswith(":12:07")


def test_what_happens_twice_does_not_look_as_if_it_had_become_what_it_was() -> None:
    change = ChangeView(
        "2026-11-29T03:12:07.123+00:00", "configuration", "floatip", "reloaded", "reloaded", "no change"
    )
    assert text(well(recent=(change,)))[-1].endswith("  configuration floatip reloaded: no change")


def test_problems_stand_on_top_and_the_headline_counts_them() -> None:
    host = master(TWO)
    assert text(replace(well(), problems=describe(host.node, host.now).problems))[:5] == [
        "haproxy1  OK  floatip 0.4.0, up 3d 4h, linode 6 (Newark)",
        "",
        "note: VI_1: no other node has been heard (a backup is silent) [peer-unheard]",
        "  hint: run floatip status on the other node; if it is MASTER too, let IP",
        "        protocol 112 pass",
    ]
    host.dialling_works = False
    host.tell(SICK, Disconnected(RS, "connection refused", Trouble.REFUSED))
    lines = text(replace(well(), problems=describe(host.node, host.now + 5).problems))
    assert lines[0].startswith("haproxy1  1 PROBLEM  ")
    assert lines[2:4] == [
        "! VI_1 is not healthy: check web: exit status 1 (for 5.0s) [unhealthy]",
        "  hint: repair the service, or run the check by hand",
    ]
    assert lines[4].startswith("warning: 1 of 2 route servers not connected")


@pytest.mark.parametrize(
    ("severities", "said"),
    [
        ((), "OK"),
        ((Severity.NOTE,), "OK"),
        ((Severity.WARNING,), "OK, 1 warning"),
        ((Severity.WARNING, Severity.WARNING), "OK, 2 warnings"),
        ((Severity.PROBLEM, Severity.WARNING), "1 PROBLEM"),
        ((Severity.PROBLEM, Severity.PROBLEM), "2 PROBLEMS"),
    ],
)
def test_the_headline_says_how_the_node_is(severities: Sequence[str], said: str) -> None:
    problems = tuple(ProblemView("x", severity, "x", "x", "", None) for severity in severities)
    assert text(well(problems=problems))[0].split("  ")[1] == said


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (NetworkView("linode", 6, "Newark"), "linode 6 (Newark)"),
        (NetworkView("linode", 47), "linode 47"),
        (NetworkView("vultr"), "vultr"),
        (None, "no BGP"),
    ],
)
def test_the_headline_says_where_the_node_is(network: NetworkView | None, said: str) -> None:
    assert text(well(network=network))[0].endswith(f", {said}")


def test_many_problems_of_one_kind_are_counted_and_named() -> None:
    problems = tuple(
        ProblemView("nobody-serves", "problem", f"web{n:03}", f"web{n:03}: nobody", "look", None) for n in range(40)
    )
    lines = text(well(problems=problems))
    assert lines[0].startswith("haproxy1  40 PROBLEMS")
    assert section(lines, "")[-1] == "! and 37 more like this, of web003 to web039 [nobody-serves]"
    assert sum(line.startswith("! ") for line in lines) == 4
    assert sum(line.startswith("! ") for line in text(well(problems=problems), each=True)) == 40


LONG = "x" * 70 + " a-very-long-name " + "y" * 130


def nasty() -> Status:
    """Each word that others chose is as long as can be."""
    status = well()
    (check,), (instance,) = status.checks, status.instances
    standing = Standing(LONG, 3.0, LONG)
    return replace(
        status,
        host=LONG,
        version=LONG,
        network=NetworkView(LONG, 6, LONG),
        checks=(check, replace(check, name=LONG, value="down", last_result=LONG, reason=LONG + "z")),
        instances=(
            instance,
            replace(instance, name=LONG, role=standing, rank=standing, health=standing, master=LONG),
        ),
        sessions=tuple(replace(session, peer=LONG, state=LONG, reason=LONG) for session in status.sessions),
        nodes=(own(LONG), node(LONG, state=LONG, why=LONG, reason=LONG, version=LONG, drained=True)),
        recent=(ChangeView(LONG, LONG, LONG, LONG, LONG, LONG),),
        problems=(ProblemView(LONG, LONG, LONG, LONG, LONG, 3.0),),
    )


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    host = master(TWO)
    host.dialling_works = False
    host.tell(SICK, Disconnected(RS, "connection refused", Trouble.REFUSED), LinkChanged("eth0", False, "eth0 is down"))
    lines = drawn(host, width)
    assert max(map(len, lines)) <= width
    assert any("192.0.2.10/32 on lo" in line for line in lines)
    lines = text(nasty(), width)
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()).count("y" * 130) > 20, "nothing was cut"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_ideographs_take_two_columns(width: int) -> None:
    wide = "\u691c\u67fb\u306f\u5931\u6557" * 20
    status = well()
    (one,), (check,) = status.instances, status.checks
    status = replace(
        status,
        host=wide[:8],
        instances=(replace(one, name=wide[:9], role=replace(one.role, reason=wide)),),
        checks=(replace(check, name=wide[:7], last_result=wide), replace(check, name="web")),
        nodes=(own(), node(wide[:8], drained=True, reason=wide)),
    )
    lines = text(status, width) + (draw_nodes(status.nodes, width).split("\n") if width > 40 else [])
    assert max(map(taken, lines)) <= width
    assert "".join("".join(lines).split()).count(wide) >= 2, "nothing was cut"
    starts = [taken(line.split("up 30s")[0]) for line in section(lines, "checks") if "up 30s" in line]
    assert starts == [18, 18], "columns stay columns"


def taken(line: str) -> int:
    return sum(1 + (east_asian_width(char) == "W") for char in line)


def test_route_servers_that_are_well_take_one_line_and_else_one_each() -> None:
    host = master(TWO)
    assert section(drawn(host), "route servers") == ["  up 30s  2 of 2 connected, hold time 9 s"]
    host.dialling_works = False
    host.tell(Disconnected(RS, "connection refused", Trouble.REFUSED))
    assert section(drawn(host), "route servers") == [
        f"  {RS}  idle 0.0s  connection refused",
        f"  {RS2}  up 30s     connected",
    ]


def test_a_node_that_is_cut_off_does_not_say_that_route_servers_have_its_routes() -> None:
    lines = text(well(cut_off=True, instances=(instance("standby"),)), 100)
    assert section(lines, "route servers") == ["  up 30s  2 of 2 connected, and none acknowledges anything"]
    announced = "  announced  as the reserve, as far as it reaches: no route server acknowledges anything"
    assert announced in lines


@pytest.mark.parametrize("width", [60, 80])
def test_nothing_in_an_answer_is_a_command_to_the_terminal(width: int) -> None:
    host = master(TWO)
    evil = "\x1b[2K\nevil [bold]\u202e"
    host.tell(CheckDone("web", 0, False, evil), Failing("adverts", frozenset({Failure(evil, evil, evil)})))
    status = describe(host.node, host.now)
    nodes = (own(), node(evil, state=evil, why=evil, version=evil, reason=evil, address=evil, drained=True))
    change = ChangeView(evil, evil, evil, evil, evil, evil)
    status = replace(status, host=evil, version=evil, nodes=nodes, recent=(change,), network=NetworkView(evil, 1, evil))
    one = replace(status.instances[0], name=evil, master=evil, role=Standing(evil, 1.0, evil))
    many = tuple(replace(one, name=f"{evil}{number}") for number in range(9))
    for shown in (status, replace(status, instances=(one,)), replace(status, instances=many)):
        lines = screen.plain(draw_status(shown, Shown(width))).split("\n")
        assert not [line for line in lines if line.startswith("evil")]
        assert all(line.isprintable() for line in lines)
        assert any("\\x1b[2K\\nevil" in line for line in lines)


def test_a_check_that_is_down_shows_its_last_result_too() -> None:
    host = master(TWO)
    host.tell(SICK, CheckDone("web", 0, False, "no route to host"))
    assert section(drawn(host), "checks") == ["  web  down 0.0s  no route to host; down because: exit status 1"]


def test_a_check_that_is_up_shows_a_failure_that_does_not_count_yet() -> None:
    status = well()
    checks = (replace(status.checks[0], last_result="timed out"),)
    assert section(text(replace(status, checks=checks)), "checks") == [
        "  web  up 30s  timed out; up because: exit status 0"
    ]


def test_checks_that_are_well_are_counted_where_they_are_many() -> None:
    status = well()
    checks = [replace(status.checks[0], name=f"c{number}") for number in range(40)]
    checks[7] = replace(checks[7], value="down", reason="refused", last_result="refused")
    lines = section(text(replace(status, checks=tuple(checks))), "checks")
    assert lines == ["  c7  down 30s  refused", "      up        39 of 40; floatip status --all shows each"]
    assert len(section(text(replace(status, checks=tuple(checks)), each=True), "checks")) == 40


# Who has the traffic


def test_the_ranks_that_are_shown_are_those_of_the_core() -> None:
    assert tuple(rank.label for rank in Rank) == RANKS
    assert {*IN_WORDS, "none"} == {*SHORT, "none"} == set(RANKS)


def instance(rank: str, role: str = "backup", **changes: Any) -> InstanceView:
    view = well().instances[0]
    reached = 0 if rank == "none" else 2
    addresses = tuple(replace(one, announced_to=reached) for one in view.addresses)
    stands = {"rank": Standing(rank, 1.0, ""), "role": Standing(role, 1.0, ""), "addresses": addresses}
    return replace(view, **{**stands, **changes})


def carried(*ranks: str) -> list[NodeView]:
    """Other nodes, each with the instance at a rank."""
    return [node(f"haproxy{number}", carries=(CarriedView("VI_1", rank),)) for number, rank in enumerate(ranks, 2)]


SILENT = node("haproxy3", state="silent", carries=(CarriedView("VI_1", "active"),))
NO_BGP: dict[str, Any] = {"route_servers": 0}
NOT_HELD = tuple(replace(one, held=False) for one in instance("active").addresses)


@pytest.mark.parametrize(
    ("one", "others", "said"),
    [
        (instance("active", "master"), [], "goes to this node"),
        (instance("active", "master"), carried("standby"), "goes to this node"),
        (instance("active", "master"), carried("takeover"), "goes to haproxy2"),
        (instance("takeover", "master"), [SILENT], "goes to this node"),
        (instance("standby"), carried("active"), "goes to haproxy2"),
        (instance("standby"), carried("active", "standby"), "goes to haproxy2"),
        (instance("none", "fault"), carried("standby"), "goes to haproxy2"),
        (
            instance("standby", addresses=()),
            [replace(each, sessions_up=0) for each in carried("standby")],
            "goes to nobody: no node announces it",
        ),
        (instance("none", "fault"), carried("none"), "goes to nobody: no node announces it"),
        (instance("last-resort", "fault"), carried("none"), "goes to this node"),
        (
            instance("active", "master"),
            carried("active"),
            "not known: haproxy2 and this node announce it alike",
        ),
        (
            instance("standby"),
            carried("standby"),
            "not known: no node is master, and haproxy2 and this node announce it alike",
        ),
        (instance("standby"), [SILENT], "not known: haproxy3 cannot be asked"),
        (instance("standby"), [], "not known: this node follows no master"),
        (instance("standby", master="10.0.0.2"), [], "goes to 10.0.0.2"),
        (
            instance("standby", election="static"),
            [],
            "not known: this node is secondary, and does not know the others",
        ),
        (instance("active", "master", **NO_BGP), [], "goes to this node"),
        (instance("standby", **NO_BGP), carried("active"), "goes to haproxy2"),
        (instance("standby", **NO_BGP), carried("standby"), "goes to nobody: no node is master"),
        (
            instance("active", "master", **NO_BGP),
            carried("active"),
            "not known: haproxy2 and this node hold it alike",
        ),
        (
            instance("active", "master", addresses=()),
            [],
            "not known: this node is master, and no route server has it from this node",
        ),
        (
            instance("active", "master", **NO_BGP | {"addresses": NOT_HELD}),
            [],
            "not known: this node is master, and no address is on this node",
        ),
        (instance("active", "master", **NO_BGP | {"addresses": ()}), [], "goes to this node"),  # it only notifies
    ],
)
def test_the_traffic_goes_where_the_best_route_leads(one: InstanceView, others: list[NodeView], said: str) -> None:
    nodes = (own(), *others) if others else ()
    lines = text(well(instances=(one,), nodes=nodes), 120)
    (line,) = [line for line in lines if line.startswith("  traffic")]
    assert line.split(maxsplit=1)[1] == said


def test_a_master_whose_routes_reach_nobody_has_no_traffic() -> None:
    unheard = instance(
        "active", "master", addresses=tuple(replace(a, announced_to=0) for a in well().instances[0].addresses)
    )
    assert carriers(well(instances=(unheard,), nodes=(own(), *carried("standby"))))["VI_1"].node == "haproxy2"


def test_an_address_that_no_route_server_has_is_announced_to_nobody() -> None:
    (address,) = well().instances[0].addresses
    one = instance("standby", addresses=(replace(address, announced_to=0),))
    lines = text(well(instances=(one,)))
    assert "  announced  to nobody: none of 2 route servers has it from this node" in lines


def test_an_address_that_should_be_here_and_is_not_stands_out() -> None:
    (address,) = well().instances[0].addresses
    one = instance("active", "master", addresses=(replace(address, held=False, announced_to=2),))
    problem = ProblemView(Code.NOT_HELD, "problem", "VI_1", "VI_1 does not hold it", "", None)
    assert "  address    192.0.2.10/32 on lo, NOT HELD" in text(well(instances=(one,), problems=(problem,)))
    assert "  address    192.0.2.10/32 on lo, not held" in text(well(instances=(one,)))


@pytest.mark.parametrize(
    ("role", "held", "changes", "said"),
    [
        ("master", True, {}, "serves"),
        ("master", False, {}, "is master, and does not serve"),
        ("backup", False, {}, "ready to take over"),
        ("backup", False, {"drained": True}, "does not take over: drained until floatip undrain"),
        ("backup", False, {"paused": True, "until": 60.0}, "does not take over: paused for 1 min more"),
        ("fault", False, {}, "cannot take over"),
        ("init", False, {}, "cannot take over"),
    ],
)
def test_ready_to_take_over_is_said_only_of_a_node_that_would(
    role: str, held: bool, changes: dict[str, Any], said: str
) -> None:
    (address,) = well().instances[0].addresses
    addresses = (replace(address, held=held),)
    one = instance("standby", role, election="nodes", **NO_BGP | {"addresses": addresses})
    lines = text(well(instances=(one,), nodes=(own(**changes), node("haproxy2"))))
    assert f"  state      {said}" in lines


def test_a_pause_on_another_node_holds_this_one_back_too() -> None:
    one = instance("standby", election="nodes", **NO_BGP)
    nodes = (own(), node("haproxy2", paused=True))
    assert "does not take over: haproxy2 is paused until floatip resume" in "\n".join(
        text(well(instances=(one,), nodes=nodes))
    )


# Many instances


def many(count: int = 255) -> Status:
    """Two thirds are master here, one third stands by."""
    here, there = instance("active", "master"), instance("standby", master="10.0.0.2")
    views = [replace(there if n % 3 == 0 else here, name=f"web{n:03}") for n in range(count)]
    return well(instances=tuple(views))


def test_instances_that_are_alike_share_a_block() -> None:
    lines = text(many())
    assert len(lines) < 30
    assert "170 instances  MASTER for 1.0s" in lines
    assert "85 instances  BACKUP for 1.0s" in lines
    assert any("web000, web003, web006" in line for line in lines)
    assert any(line.endswith(" more") for line in section(lines, "85 instances"))
    assert section(lines, "170 instances")[-2].startswith("  addresses  170, all held")


def test_up_to_four_instances_and_those_that_are_asked_for_have_a_block_each() -> None:
    def blocks(lines: list[str]) -> int:
        return sum(line.startswith("  traffic ") for line in lines)

    assert blocks(text(many(4))) == 4
    assert blocks(text(many(5))) == 2
    assert blocks(text(many(), each=True)) == 255
    lines = text(many(), instance="web007")
    assert blocks(lines) == 1
    assert "web007  MASTER for 1.0s" in lines


def test_what_is_wrong_stands_before_what_is_well_and_runs_of_names_are_short() -> None:
    status = many(30)
    sick = instance("none", "fault", health=Standing("down", 2.0, "check web: refused"))
    views = [replace(sick, name=one.name) if n in (7, 8, 9, 10) else one for n, one in enumerate(status.instances)]
    lines = text(replace(status, instances=tuple(views)))
    assert lines[2] == "4 instances  FAULT for 1.0s"
    assert lines[3] == "  which      web007 to web010"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["VI_8", "VI_9", "VI_10", "VI_11"], "VI_8 to VI_11"),
        (["web098", "web099", "web100", "x"], "web098 to web100, x"),
        (["a1", "a2", "b3"], "a1, a2, b3"),
        (["1", "2", "3"], "1 to 3"),
        (["x9" * 30 + str(n) for n in range(10**20, 10**20 + 3)], None),
        (["", "a", "a"], ", a, a"),
    ],
)
def test_names_that_count_up_are_a_run(names: list[str], said: str | None) -> None:
    assert _names(names) == (said or f"{names[0]} to {names[2]}")


def test_reasons_that_are_all_different_do_not_make_a_block_each() -> None:
    views = [replace(one, role=Standing("master", 1.0, f"reason {n}")) for n, one in enumerate(many(90).instances)]
    lines = text(well(instances=tuple(views)))
    assert len(lines) < 40
    assert any("of 60; floatip status --all shows each" in " ".join(lines) for line in lines)


# Colour


def test_colour_is_only_for_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    class Pipe(Terminal):
        def isatty(self) -> bool:
            return False

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert screen.has_colour(Terminal())  # type: ignore[arg-type]
    assert not screen.has_colour(Pipe())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not screen.has_colour(Terminal())  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR")
    for dumb in ("dumb", ""):
        monkeypatch.setenv("TERM", dumb)
        assert not screen.has_colour(Terminal())  # type: ignore[arg-type]


def test_colours_change_nothing_but_the_colour() -> None:
    lines = draw_status(well())
    coloured = screen.coloured(lines)
    assert coloured.startswith("\033[1mhaproxy1\033[0m  \033[32mOK\033[0m  ")
    for code in (*screen.CODES.values(), "0"):
        coloured = coloured.replace(f"\033[{code}m", "")
    assert [line.rstrip() for line in coloured.splitlines()] == screen.plain(lines).splitlines()


# The nodes


def test_a_long_line_is_folded_under_its_column() -> None:
    assert folded("key  some words that are too long", 27, 5) == ["key  some words that are", "     too long"]
    assert folded("key  some words", 12, 5) == ["key  some words"], "there is no room for a column"
    assert folded("short", 12, 5) == ["short"]
    assert aligned([("a", "b " * 20)], 30)[1].startswith("   b")


def spread(nodes: int, instances: int, name: str = "haproxy{}") -> list[NodeView]:
    """Node i is master of each instance whose number leaves the rest i, and standby for the others."""

    def carries(place: int) -> tuple[CarriedView, ...]:
        ranks = ["active" if number % nodes == place else "standby" for number in range(instances)]
        return tuple(CarriedView(f"web{number:02}", rank) for number, rank in enumerate(ranks))

    all_well: dict[str, Any] = {"instances": instances, "instances_healthy": instances}
    others = [node(name.format(i), carries=carries(i), **all_well) for i in range(1, nodes)]
    return [own(name.format(0), carries=carries(0), **all_well), *others]


def block(nodes: Sequence[NodeView], width: int = 80) -> list[str]:
    """The lines of the status that are about the other nodes."""
    return section(text(well(nodes=tuple(nodes)), width), "other nodes")


def test_a_node_without_a_link_has_no_block_of_nodes() -> None:
    assert "other nodes" not in drawn(master(TWO))


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


def test_the_problems_of_a_node_are_named_with_it() -> None:
    hostile = ProblemBrief("\x1b[2J", "later", "", "", "")
    problems = [ProblemBrief(code, severity, "web", "", "") for code, severity in PROBLEMS]
    sick = node("haproxy2", problems=(*problems, hostile), more_problems=3)
    lines = draw_nodes([own(), sick]).splitlines()
    assert lines[-1] == "  problems: no-session, unhealthy, \\x1b[2J, 3 not listed"
    assert block([own(), sick], 100) == [
        "  haproxy2  alive  in reserve for web; problems: no-session, unhealthy, \\x1b[2J, 3 not listed"
    ]
    well = node("haproxy2", problems=(ProblemBrief("peer-unheard", "note", "web", "", ""),))
    assert len(draw_nodes([own(), well]).splitlines()) == 5


PROBLEMS = [("no-session", "problem"), ("unhealthy", "problem"), ("unhealthy", "warning"), ("peer-unheard", "note")]


def test_each_other_node_has_a_line_in_the_status() -> None:
    silent = node("haproxy3", state="silent", why="no hello for 3.2 s", heard=3.2, carries=())
    assert block([own(), node("haproxy2"), silent]) == [
        "  haproxy2  alive        in reserve for web",
        "  haproxy3  SILENT 3.2s  no hello for 3.2 s",
    ]


def test_of_many_nodes_those_that_are_well_are_counted() -> None:
    others = [node(f"haproxy{n}") for n in range(2, 20)]
    others[3] = replace(others[3], hears_us=None)
    assert block([own(), *others]) == [
        "  haproxy5  alive  in reserve for web; does not hear this node",
        "            alive  17 of 18; floatip nodes shows each",
    ]


def test_the_line_of_a_node_says_what_is_not_whole() -> None:
    wrong = {"hears_us": None, "same_configuration": False, "version": "0.3.9", "sessions_up": 3, "stopping": True}
    lines = block([own(), node("haproxy2", carries=(), healthy=False, instances_healthy=0, **wrong)], 400)
    assert lines[0].endswith(
        "carries nothing; 0 of 1 instances healthy; 3 of 4 route servers connected; stopping; does not hear this node; "
        "has another configuration than this node; has version 0.3.9, this node has 0.4.0"
    )


def test_many_instances_are_counted_in_the_status_and_named_by_their_master_in_the_table() -> None:
    nodes = spread(7, 40)
    assert block(nodes)[0] == "  haproxy1  alive  serves 6 instances; in reserve for 34 instances"
    assert "  192.168.143.241  web01, web08, web15, web22, web29, web36 at active; 34" in draw_nodes(nodes).splitlines()
    leaving = node("haproxy2", carries=tuple(CarriedView(str(n), "takeover", n < 2) for n in range(9)))
    assert block([own(), leaving])[0].endswith("serves 9 instances (2 leaving)")


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
    assert block([own(), node("haproxy2", **what)], 200)[-1].endswith(f"; {said}")


@pytest.mark.parametrize("name", ["haproxy{}", "haproxy{}.us-east.production.example.internal"])
@pytest.mark.parametrize("instances", [1, 40])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_nodes_fit_in_80_columns_however_many_and_whatever_they_are_called(
    count: int, instances: int, name: str
) -> None:
    nodes = spread(count, instances, name)
    nodes[-1] = replace(nodes[-1], drained=True, reason=WHY, until=7100.0)
    for said, named in (("\n".join(block(nodes)), nodes[1:]), (draw_nodes(nodes), nodes)):
        assert max(map(len, said.splitlines())) <= 80
        assert all(said.count(each.name) == 1 for each in named)
        assert f"drained for 1 h 58 min more: {WHY}" in " ".join(said.split())


def test_nothing_that_a_node_says_is_a_command_to_the_terminal() -> None:
    evil = "\x1b[2K\nevil"
    nodes = [own(), node(evil, state=evil, why=evil, version=evil, reason=evil, address=evil, drained=True)]
    nodes.append(node(evil, carries=(CarriedView(evil, evil), CarriedView(evil, "active"))))
    lines = draw_nodes(nodes).splitlines()
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
