"""What is said of open connections: by `floatip status`, `floatip nodes` and the page, in 80 columns."""

from dataclasses import replace
from typing import Any

import pytest

from floatip.connection_words import Said, sentences
from floatip.core.state import (
    EndedView,
    PreparingView,
    SecondChanceView,
    Status,
    StreamView,
    ThroughView,
    WithoutView,
    as_data,
    read,
)
from floatip.nodes import _connections as in_nodes
from floatip.screen import plain
from floatip.view import Shown, draw_status
from tests.web.views import CHANCE, EVIL, PAIR, node

IDLE = replace(CHANCE, streams=(), ends={}, cut=0)
SILENT = ThroughView(
    "haproxy2", works=False, for_=9.0, why="nothing comes from haproxy2 through the tunnel", fault="unheard"
)
HERE, THERE = (
    StreamView("haproxy2", False, 312, 12.4, 587.6, 9, 9),
    StreamView("haproxy2", True, 312, 12.4, 587.6, 9, 9),
)


def of(known: SecondChanceView | None, **changes: Any) -> list[str]:
    return [one.text for one in sentences(replace(PAIR, second_chance=known, **changes))]


def shown(known: SecondChanceView) -> list[str]:
    """The lines of the status, from the first of these on to the next empty one."""
    lines = plain(draw_status(replace(PAIR, second_chance=known), Shown(80))).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("connections"))
    return lines[at : lines.index("", at)]


def test_the_lines_are_as_the_documents_have_them() -> None:
    assert shown(IDLE) == ["connections  ready: haproxy2"]
    assert shown(replace(IDLE, nodes=(SILENT,))) == [
        "connections  haproxy2 does not work: nothing comes from haproxy2 through the",
        "             tunnel",
    ]
    assert shown(CHANCE) == [
        "connections  312 of haproxy2 go on there (since 12 s, at most 588 s more)",
        "             ready: haproxy2",
    ]
    assert shown(replace(IDLE, streams=(HERE,)))[0] == (
        "connections  312 go on here by haproxy2 (since 12 s, at most 588 s more)"
    )
    assert of(replace(IDLE, streams=(replace(HERE, direct=True),)))[0] == (
        "312 go on here by haproxy2 (since 12 s, at most 588 s more; answers leave directly)"
    )
    assert shown(replace(IDLE, streams=(HERE,), waits=True))[:2] == [
        "connections  312 go on here by haproxy2; floatip stops when they end, in 588 s",
        "             at most",
    ]


def test_one_connection_goes_on() -> None:
    one, other = replace(HERE, connections=1), replace(THERE, connections=1)
    assert of(replace(IDLE, streams=(one, other)))[:2] == [
        "1 goes on here by haproxy2 (since 12 s, at most 588 s more)",
        "1 of haproxy2 goes on there (since 12 s, at most 588 s more)",
    ]
    assert "floatip stops when it ends" in of(replace(IDLE, streams=(one,), waits=True))[0]


def test_a_long_time_is_said_in_hours() -> None:
    long = replace(THERE, for_=7200.0, left=79200.0)
    assert of(replace(IDLE, streams=(long,)))[0] == "312 of haproxy2 go on there (since 2 h, at most 22 h more)"


def test_the_table_of_nodes_ends_with_the_same_lines() -> None:
    lines = list(in_nodes(replace(PAIR, second_chance=CHANCE), 80))
    assert lines == shown(CHANCE)


def test_without_a_second_chance_there_is_no_line() -> None:
    assert of(None) == []
    assert "connections" not in plain(draw_status(PAIR, Shown(80)))


def test_a_node_that_cannot_take_part_says_what_to_do() -> None:
    known = replace(IDLE, usable=False, why="the kernel has no VXLAN", hint="modprobe vxlan", nodes=(SILENT,))
    assert of(known) == ["a planned move resets them: the kernel has no VXLAN; modprobe vxlan"]


@pytest.mark.parametrize(("mode", "is_well"), [("on", False), ("auto", None)])
def test_what_does_not_work_looks_wrong_only_where_it_is_wanted(mode: str, is_well: bool | None) -> None:
    (said,) = sentences(replace(PAIR, second_chance=replace(IDLE, mode=mode, nodes=(SILENT,))))
    assert said == Said("haproxy2 does not work: nothing comes from haproxy2 through the tunnel", is_well)


def test_of_a_node_that_is_gone_nothing_is_said() -> None:
    gone = (PAIR.nodes[0], node("haproxy2", {}, state="silent"))
    assert of(replace(IDLE, nodes=(SILENT,)), nodes=gone) == ["no other node is there to take them over"]


def test_many_nodes_and_instances_are_counted() -> None:
    names = [f"web{number}" for number in range(40)]
    well = tuple(replace(CHANCE.nodes[0], node=name) for name in names[:20])
    broken = tuple(replace(SILENT, node=name, why="why") for name in names[20:])
    out = tuple(WithoutView(name, "it is behind NAT") for name in names)
    said = of(replace(IDLE, nodes=well + broken, without=out))
    assert said[0] == "ready: web0, web1, web2, web3 and 16 more"
    assert said[1] == "web20 does not work: why"
    assert said[5] == "16 more do not work: web24, web25, web26, web27 and 12 more"
    assert said[6] == "not of web0: it is behind NAT"
    assert said[-1] == "nor of web4, web5, web6, web7 and 32 more"
    assert len(said) == 11


def test_a_move_that_waits_and_connections_that_were_reset_are_said() -> None:
    moves = PreparingView("web", True, ("haproxy2",), 0.1), PreparingView("mail", False, ("haproxy2",), 0.1)
    last = EndedView("haproxy2", True, 5, 30.0, "the limit of 600 s", "limit")
    said = of(replace(IDLE, preparing=moves, ended=(last, replace(last, connections=0), replace(last, for_=4000.0))))
    assert said == [
        "web moves to haproxy2 when its connections are listed",
        "mail comes from haproxy2 when its connections are listed",
        "ready: haproxy2",
        "5 of haproxy2 were reset 30 s ago: the limit of 600 s",
    ]
    assert of(replace(IDLE, ended=(replace(last, end="moved-on"),))) == ["ready: haproxy2"]


def test_the_status_goes_to_json_and_back() -> None:
    status = replace(PAIR, second_chance=replace(CHANCE, without=(WithoutView("web", "NAT"),)))
    assert read(Status, as_data(status)) == status
    older = {key: value for key, value in as_data(status).items() if key != "second_chance"}
    assert read(Status, older).second_chance is None


def test_nothing_of_it_is_a_command_to_the_terminal() -> None:
    known = replace(IDLE, nodes=(replace(SILENT, why=EVIL),), without=(WithoutView(EVIL, EVIL),))
    assert "\x1b" not in plain(draw_status(replace(PAIR, second_chance=known), Shown(80)))
    assert "\x1b" not in "\n".join(in_nodes(replace(PAIR, second_chance=known), 80))
