"""What the daemon says of streams of connections, and what it tells the process that knows of them."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from floatip.core import settings
from floatip.core.departure import Departure, Order
from floatip.core.election.elector import Role
from floatip.core.events import Arrange, Became
from floatip.core.instance import Instance
from floatip.core.second_chance.moves import SUCCEEDED_WITHIN, Moves
from floatip.core.second_chance.terms import End, Over, Phase, Standing, Stream, Through, Wish

NAME = "VI_1"


def kept(moves: Moves, now: float, *streams: Stream, why_not: str = "") -> int:
    _, effects = moves.take(Standing(why_not, streams=streams), now)
    return sum(isinstance(one, Became) and one.value == "kept" for one in effects)


def stream(since: float) -> Stream:
    return Stream("b", False, 5, since, since + 60, 0, 0)


def test_a_stream_is_told_once_although_the_process_was_killed_meanwhile() -> None:
    moves = Moves(settings.SecondChance(limit=60.0, is_wanted=True), 0.0)
    assert kept(moves, 10.0) == 0
    assert kept(moves, 20.0, stream(20.0)) == 1
    assert kept(moves, 21.0, why_not="it was killed") == 0
    assert kept(moves, 22.0) == 0
    assert kept(moves, 22.5, stream(20.0)) == 0


def test_the_next_stream_is_told_where_the_process_was_killed_in_the_last_one() -> None:
    moves = Moves(settings.SecondChance(limit=60.0, is_wanted=True), 0.0)
    assert kept(moves, 10.0) == 0
    assert kept(moves, 20.0, stream(20.0)) == 1
    assert kept(moves, 21.0, why_not="it was killed") == 0
    assert kept(moves, 22.0) == 0
    assert kept(moves, 22.0 + SUCCEEDED_WITHIN) == 0
    assert kept(moves, 40.0, stream(40.0)) == 1


def test_a_stream_of_which_nothing_is_said_for_a_moment_is_told_once() -> None:
    """As where another instance moves the same way: the process waits for the carrier to say that it is one."""
    moves = Moves(settings.SecondChance(limit=60.0, is_wanted=True), 0.0)
    assert kept(moves, 10.0) == 0
    assert kept(moves, 20.0, stream(20.0)) == 1
    assert kept(moves, 30.0) == 0
    assert kept(moves, 30.2, stream(20.0)) == 0
    assert kept(moves, 40.0) == 0
    assert kept(moves, 40.0 + SUCCEEDED_WITHIN) == 0
    assert kept(moves, 50.0, stream(50.0)) == 1


def test_that_answers_do_not_leave_directly_any_more_is_told_once() -> None:
    moves, told = Moves(settings.SecondChance(limit=60.0, may_be_direct=True), 0.0), list[Became]()
    ways = [(False, ""), (True, ""), (False, "9 of 9 repeat"), (False, "9 of 9 repeat"), (False, "")]
    for now, (is_direct, why) in enumerate(ways):
        _, effects = moves.take(Standing("", streams=(replace(stream(0.0), direct=is_direct, distrust=why),)), now)
        told += [one for one in effects if isinstance(one, Became) and one.value != "kept"]
    (became,) = told
    assert (became.name, became.value) == ("b", "by tunnel")
    assert became.reason == "answers go through the tunnel again, not directly: 9 of 9 repeat"


@pytest.mark.parametrize(
    "earlier",
    [
        Stream("c", True, 5, 0.0, 60.0, 0, 0),
        Stream("c", False, 0, 0.0, 60.0, 0, 0),
        Stream("b", False, 0, 0.0, 60.0, 0, 0),
    ],
)
def test_streams_of_earlier_moves_do_not_say_that_a_move_has_left_no_connection(earlier: Stream) -> None:
    """HAProxy was stopped softly by `[notify] drained` at the move: a third node's connections went on meanwhile."""
    moves = Moves(settings.SecondChance(limit=60.0, is_wanted=True), 0.0)
    name, through = NAME, (Through("b", True, ""),)
    instance = Instance(settings.Instance(name, (ip_interface("192.0.2.1/32"),), settings.Nodes()), 0.0)
    moves.take(Standing(through=through, streams=(earlier,)), 10.0)
    moves.prepare(instance, Phase.OFFERS, ["b"], 10.0)
    moves.take(Standing(through=through, streams=(earlier,), ready=frozenset([(name, "b")])), 10.1)
    moves.prepare(instance, Phase.OFFERS, ["b"], 10.1)
    moves.forget(name)
    assert moves.is_keeping(10.1)
    moves.take(Standing(through=through, streams=(earlier,)), 10.2)
    assert moves.is_keeping(10.2), "the process has not said yet what is kept"
    rest = tuple(one for one in (earlier,) if one.node != "b")
    moves.take(Standing(through=through, streams=(*rest, stream(10.2))), 10.3)
    assert moves.is_keeping(10.3)
    moves.take(Standing(through=through, streams=(*rest, replace(stream(10.2), connections=0))), 10.4)
    assert not moves.is_keeping(10.4)


@pytest.mark.parametrize(
    ("asked", "why"), [([], "b did not ask for connections within 1 s"), ([(NAME, "b")], "b was not ready within 1 s")]
)
def test_a_move_that_waits_no_longer_says_how_far_the_other_node_came(asked: list[tuple[str, str]], why: str) -> None:
    """Else nobody knows on which of the two nodes to look for the cause."""
    moves = Moves(settings.SecondChance(limit=60.0, is_wanted=True), 0.0)
    instance = Instance(settings.Instance(NAME, (ip_interface("192.0.2.1/32"),), settings.Nodes()), 0.0)
    moves.take(Standing(through=(Through("b", True),)), 10.0)
    assert moves.prepare(instance, Phase.OFFERS, ["b"], 10.0) == []
    moves.take(Standing(through=(Through("b", True),), asked=frozenset(asked)), 10.1)
    assert moves.prepare(instance, Phase.OFFERS, ["b"], 10.9) == []
    (became,) = moves.prepare(instance, Phase.OFFERS, ["b"], 11.0)
    assert isinstance(became, Became)
    assert became.reason == f"{why}: open connections are reset"


@pytest.mark.parametrize(
    ("ready", "asked", "words"),
    [
        ("", "b", "c did not ask for connections within 1 s; b was not ready within 1 s: open connections are reset"),
        ("", "bc", "b and c were not ready within 1 s: open connections are reset"),
        ("b", "b", "c did not ask for connections within 1 s: open connections go on if b takes over"),
    ],
)
def test_of_several_nodes_that_may_take_over_each_is_named_with_its_reason(ready: str, asked: str, words: str) -> None:
    """One was named for another's fault, and "are reset" was said where the other node took over with all of them."""
    moves = Moves(settings.SecondChance(limit=60.0, is_wanted=True), 0.0)
    instance = Instance(settings.Instance(NAME, (ip_interface("192.0.2.1/32"),), settings.Nodes()), 0.0)
    through = Through("b", True), Through("c", True)
    moves.take(Standing(through=through), 10.0)
    moves.prepare(instance, Phase.OFFERS, "bc", 10.0)
    of_ready, of_asked = (frozenset((NAME, name) for name in names) for names in (ready, asked))
    moves.take(Standing(through=through, ready=of_ready, asked=of_asked), 10.1)
    (became,) = moves.prepare(instance, Phase.OFFERS, "bc", 11.0)
    assert isinstance(became, Became)
    assert became.reason == words
    assert moves.is_keeping(11.0) == bool(ready), "a stop waits for what goes on"


def test_a_move_that_led_nowhere_is_no_warning_any_more_when_packets_of_the_next_one_are_accepted() -> None:
    """It stood for as long as the connections of the next move went on: for ten minutes it was not the last one."""
    moves = Moves(settings.SecondChance(limit=60.0), 0.0)
    moves.over(Over("b", True, 5, "b accepts none", End.UNACCEPTED), 10.0)
    moves.take(Standing(streams=(Stream("b", True, 5, 20.0, 80.0, 9, 0),)), 20.0)
    assert moves.useless
    moves.take(Standing(streams=(Stream("b", True, 5, 20.0, 80.0, 9, 3),)), 21.0)
    assert not moves.useless


def test_of_a_thousand_instances_the_one_that_changes_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make all wishes again took 7 ms of the daemon's loop, in each review."""
    instances = {
        name: Instance(settings.Instance(name, (ip_interface("192.0.2.1/32"),), settings.Nodes()), 0.0)
        for name in map(str, range(1000))
    }
    moves, looked_at = Moves(settings.SecondChance(), 0.0), list[str]()
    wish = moves._wish
    monkeypatch.setattr(moves, "_wish", lambda one, now: looked_at.append(one.config.name) or wish(one, now))
    (first,) = moves.arrange(instances.values(), 1.0)
    looked_at.clear()
    instances["7"].elector.role = Role.MASTER
    (second,) = moves.arrange([instances["7"]], 2.0)
    assert looked_at == ["7"]
    assert isinstance(first, Arrange)
    assert isinstance(second, Arrange)
    assert [one for one in second.wishes if one not in first.wishes] == [
        Wish("7", frozenset((ip_address("192.0.2.1"),)), Phase.CARRIES)
    ]
    assert not moves.arrange([instances["7"]], 3.0)
    moves.keep({"7", "8"})
    (third,) = moves.arrange((), 4.0)
    assert isinstance(third, Arrange)
    assert {one.instance for one in third.wishes} == {"7", "8"}


def test_what_has_left_says_how_its_connections_ended_as_far_as_that_is_known() -> None:
    ways = {
        End.DONE: (0, "and no connection goes on here"),
        End.MOVED_ON: (5, "and no connection goes on here"),
        End.LIMIT: (5, "5 connections were reset: why"),
        End.SILENT: (5, "5 connections may have been reset: why"),
    }
    for end, (count, expected) in ways.items():
        departure = Departure()
        departure.begin(Order.DRAIN)
        departure.over(Over("b", False, count, "why", end))
        (became,) = departure.look("a", is_master=False, is_meant=True, keeps=False)
        assert isinstance(became, Became)
        assert became.reason.endswith(expected), end
