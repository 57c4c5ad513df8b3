"""The summary against tables of probes, and answers against what services may say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.observing.summary import FIRST_LINE, Answer, MoveDetector, ProbeResult, Summary, read_http, read_line


def requests(story: str) -> list[ProbeResult]:
    """One request a second; the letter names the node that answers, x is a lost one."""
    return [
        ProbeResult(
            "request",
            float(at),
            ok=who != "x",
            who=None if who == "x" else who,
            error="refused" if who == "x" else None,
        )
        for at, who in enumerate(story)
    ]


@pytest.mark.parametrize(
    ("story", "windows", "moves"),
    [
        ("", [], []),
        ("aaaa", [], []),
        ("aabb", [], [(2, "a", "b")]),
        ("aaxxaa", [(2, 4, 2)], []),
        ("aaxxbb", [(2, 4, 2)], [(4, "a", "b")]),
        ("xxaa", [(0, 2, 2)], []),
        ("aaxx", [(2, None, 2)], []),
        ("axaxxb", [(1, 2, 1), (3, 5, 2)], [(5, "a", "b")]),
        ("abab", [], [(1, "a", "b"), (2, "b", "a"), (3, "a", "b")]),
        ("axbxa", [(1, 2, 1), (3, 4, 1)], [(2, "a", "b"), (4, "b", "a")]),
        ("xxx", [(0, None, 3)], []),
    ],
)
def test_windows_and_moves_follow_from_the_probes(
    story: str, windows: list[tuple[int, int | None, int]], moves: list[tuple[int, str, str]]
) -> None:
    summary = Summary.from_probes(reversed(requests(story)))
    assert [(w.first_lost_at, w.next_good_at, w.lost) for w in summary.windows("request")] == windows
    assert [(m.at, m.source, m.destination) for m in summary.moves()] == moves
    assert summary.lost("request") == story.count("x")
    assert summary.windows("echo") == []


def test_a_window_lasts_from_the_first_lost_probe_to_the_next_good_one() -> None:
    assert [window.ms for window in Summary.from_probes(requests("axxb")).windows("request")] == [2000]


def test_a_window_without_an_end_lasts_at_least_to_its_last_lost_probe() -> None:
    assert [window.ms for window in Summary.from_probes(requests("axx")).windows("request")] == [1000]


def test_echoes_and_requests_are_judged_apart() -> None:
    echoes = [ProbeResult("echo", at + 0.5, ok=at != 1) for at in range(4)]
    summary = Summary.from_probes(requests("axxa") + echoes)
    assert (summary.lost("echo"), summary.lost("request")) == (1, 2)
    assert [(w.first_lost_at, w.next_good_at) for w in summary.windows("echo")] == [(1.5, 2.5)]


def test_answers_are_counted_from_an_instant_up_to_another() -> None:
    summary = Summary.from_probes(requests("aabba"))
    assert [probe.at for probe in summary.between(1, 4).probes] == [1, 2, 3]
    assert summary.between(1, 4).answers() == {"a": 1, "b": 2}
    assert summary.answers() == {"a": 3, "b": 2}


def test_an_answer_without_a_name_is_no_move() -> None:
    nameless = ProbeResult("request", 0.5, ok=True)
    assert Summary.from_probes([*requests("aa"), nameless]).moves() == []


def test_an_old_answer_that_comes_late_is_no_move_back() -> None:
    follower = MoveDetector()
    first, slow, fast = requests("aab")
    assert [follower.follow(probe) is not None for probe in (first, fast, slow)] == [False, True, False]


def test_percentiles_are_round_trips_that_happened() -> None:
    summary = Summary.from_probes(ProbeResult("echo", at, ok=True, rtt=at / 1000) for at in range(1, 101))
    assert (summary.rtt("echo", 50), summary.rtt("echo", 99)) == (0.050, 0.099)
    assert summary.rtt("request", 50) is None


@pytest.mark.parametrize(
    "probe",
    [
        ProbeResult("echo", 12.25, ok=True, rtt=0.0005, late=0.002),
        ProbeResult("request", 1.5, ok=True, rtt=0.001, who="haproxy1"),
        ProbeResult("request", 1.5, ok=False, error="timed out"),
    ],
)
def test_a_probe_survives_json(probe: ProbeResult) -> None:
    assert ProbeResult.from_json(json.loads(json.dumps(probe.to_json()))) == probe


@pytest.mark.parametrize(
    ("data", "ended", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nx-node: haproxy1\r\n\r\nsome page\n", False, Answer("haproxy1", None, "X-Node")),
        (
            b"HTTP/1.1 200 OK\r\nServer: nginx\r\nX-Served-By: web1\r\n\r\na\n",
            False,
            Answer("web1", None, "X-Served-By"),
        ),
        (b"HTTP/1.1 200 OK\r\nX-Served-By: web1\r\nX-Node: a\r\n\r\n", False, Answer("a", None, "X-Node")),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nhaproxy2\n", False, Answer("haproxy2", None, FIRST_LINE)),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n<!DOCTYPE html>\n", False, Answer("nginx", None, "Server")),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n", True, Answer("nginx", None, "Server")),
        (b"HTTP/1.1 200 OK\r\n\r\n<!DOCTYPE html>\n", False, Answer("<!DOCTYPE html>", None, FIRST_LINE)),
        (b"HTTP/1.1 200 OK\r\n\r\nhaproxy2\nmore", False, Answer("haproxy2", None, FIRST_LINE)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhaproxy2", False, Answer("haproxy2", None, FIRST_LINE)),
        (b"HTTP/1.1 200 OK\r\n\r\nhaproxy", False, None),
        (b"HTTP/1.1 200 OK\r\n\r\nhaproxy2", True, Answer("haproxy2", None, FIRST_LINE)),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, Answer(None)),
        (b"HTTP/1.1 200 OK\r\n\r\n a\x1b[31mb \n", True, Answer("a[31mb", None, FIRST_LINE)),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"n" * 100, True, Answer("n" * 64, None, FIRST_LINE)),
        (b"HTTP/1.0 503 Unavailable\r\nX-Node: a\r\n\r\n", False, Answer("a", "status 503", "X-Node")),
        (b"HTTP/1.1 404 Not Found\r\nX-Node: a\r\n\r\n", False, Answer("a", None, "X-Node")),
        (b"HTTP/1.1 200 OK\r\n", True, Answer(error="closed without an answer")),
        (b"", True, Answer(error="closed without an answer")),
        (b"SSH-2.0\r\n\r\n", False, Answer(error="not HTTP")),
    ],
)
def test_an_http_answer_names_its_node(data: bytes, ended: bool, answer: Answer | None) -> None:
    assert read_http(data, ended) == answer


@pytest.mark.parametrize(
    ("data", "ended", "answer"),
    [
        (b"haproxy1\r\nmore", False, Answer("haproxy1", None, FIRST_LINE)),
        (b"haproxy1", False, None),
        (b"haproxy1", True, Answer("haproxy1", None, FIRST_LINE)),
        (b"", True, Answer(error="closed without an answer")),
    ],
)
def test_a_tcp_answer_is_its_first_line(data: bytes, ended: bool, answer: Answer | None) -> None:
    assert read_line(data, ended) == answer


@pytest.mark.parametrize(
    ("names", "named_by", "alike"),
    [
        (["web", "web"], FIRST_LINE, ("web", FIRST_LINE)),
        (["nginx", "nginx"], "Server", ("nginx", "Server")),
        (["web", "web"], "X-Node", None),
        (["web1", "web2"], FIRST_LINE, None),
        ([None, None], "", None),
    ],
)
def test_one_name_in_all_answers_is_told_unless_each_node_names_itself(
    names: list[str | None], named_by: str, alike: tuple[str, str] | None
) -> None:
    probes = [ProbeResult("request", float(at), True, who=who, named_by=named_by) for at, who in enumerate(names)]
    assert Summary.from_probes(probes).answered_alike == alike


@settings(deadline=None)
@given(st.binary() | st.binary().map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail))
def test_any_bytes_are_an_answer_once_the_service_has_closed(data: bytes) -> None:
    assert read_http(data, ended=True) is not None
    assert read_line(data, ended=True) is not None
