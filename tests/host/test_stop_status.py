"""What a stop that waits for open connections says to systemd."""

from floatip.core.second_chance.terms import Stream
from floatip.host.second_chance import in_a_line


def stream(node: str, connections: int, until: float) -> Stream:
    return Stream(node, False, connections, 90.0, until, 0, 0)


def test_a_stop_says_how_many_connections_are_left_by_whom_and_for_how_long() -> None:
    assert in_a_line([stream("haproxy2", 312, 688.4)], 100.0) == (
        "312 open connections go on by haproxy2, 588 s at most"
    )
    assert in_a_line([stream("b", 1, 110.0), stream("a", 0, 500.0)], 100.0) == (
        "1 open connection goes on by b, 10 s at most"
    )
    assert in_a_line([stream("b", 1, 90.0), stream("a", 2, 95.0)], 100.0) == (
        "3 open connections go on by a and b, 0 s at most"
    )


def test_a_stop_says_nothing_of_connections_where_none_is_left() -> None:
    assert in_a_line([], 100.0) == ""
    assert in_a_line([stream("b", 0, 500.0)], 100.0) == ""
