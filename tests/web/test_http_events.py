"""The stream of events, as a page reads it."""

from tests.web.process import Web, events, request, until


def test_a_change_reaches_every_reader_with_its_reason(web: Web) -> None:
    with events() as one, events() as other:
        web.daemon.tell("backup", 'h2 is "master"\nevent: forged\r\ndata: {}')
        for stream in (one, other):
            change = stream.next("change")
            assert (change["what"], change["name"], change["value"]) == ("role", "VI_1", "backup")
            assert change["reason"].endswith('h2 is "master"\nevent: forged\r\ndata: {}')


def test_a_sign_of_life_comes_each_second(web: Web) -> None:
    with events() as stream:
        first, second = stream.next("alive"), stream.next("alive")
        assert second["time"] > first["time"]


def test_a_daemon_that_hangs_is_told_as_silent(web: Web) -> None:
    with events() as stream:
        stream.next("alive")
        with web.daemon.hanging():
            assert "did not answer within 3 s" in stream.next("silent")["reason"]
        stream.next("alive")


def test_who_comes_back_gets_what_was_missed(web: Web) -> None:
    with events() as stream:
        web.daemon.tell("one")
        assert stream.next("change")["value"] == "one"
        seen = stream.last_id
        web.daemon.tell("two")
        web.daemon.tell("three")
        assert [stream.next("change")["value"] for _ in range(2)] == ["two", "three"]
    with events(after=seen) as stream:
        assert [stream.next("change")["value"] for _ in range(2)] == ["two", "three"]


def test_who_comes_back_with_another_id_starts_again(web: Web) -> None:
    for after in ("nonsense", "x-1", "0-99999999999999999999", "-"):
        with events(after=after) as stream:
            assert stream.next("reset") == {}


def test_head_of_the_stream_has_no_events(web: Web) -> None:
    answered = request("/events", "HEAD")
    assert (answered.status, answered.headers["content-type"]) == (200, "text/event-stream")


def test_a_watch_that_breaks_is_taken_up_again_and_tells_nothing_twice(web: Web) -> None:
    with events() as stream:
        web.daemon.tell("one")
        assert stream.next("change")["value"] == "one"
        web.daemon.drop_watchers()
        web.daemon.tell("two")
        until(lambda: web.daemon.is_watched)
        web.daemon.tell("three")
        assert [stream.next("change")["value"] for _ in range(2)] == ["two", "three"]
