"""What the daemon says of streams of connections, where the process that knew of them was killed."""

from floatip.core import settings
from floatip.core.events import Became
from floatip.core.second_chance.moves import SUCCEEDED_WITHIN, Moves
from floatip.core.second_chance.terms import Standing, Stream


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
