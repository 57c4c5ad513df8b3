"""What a drill may ask for, how places are written, and how clocks and recordings are translated."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floatip.drill.observation import Target
from floatip.observing import join, recording
from floatip.observing import joined as client
from floatip.observing.joined import Clock, _probe, _seen, _translation, joined
from floatip.observing.meeting import PORT, CannotMeet, place_of
from floatip.observing.recording import LONGEST, MOST_PROBES, Unfit, target_of
from floatip.observing.summary import ProbeResult
from tests.observing.meet import KEY, LIMIT, key_file, wait_for

TARGET: dict[str, Any] = asdict(Target("192.0.2.10", 80, "http", 0.01))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("haproxy3", ("haproxy3", PORT)),
        ("haproxy3:99", ("haproxy3", 99)),
        ("192.0.2.9", ("192.0.2.9", PORT)),
        ("192.0.2.9:1", ("192.0.2.9", 1)),
        ("2001:db8::9", ("2001:db8::9", PORT)),
        ("::1", ("::1", PORT)),
        ("[2001:db8::9]", ("2001:db8::9", PORT)),
        ("[2001:db8::9]:65535", ("2001:db8::9", 65535)),
        ("fe80::1%eth0", ("fe80::1%eth0", PORT)),
        (":99", ("", 99)),
        ("", ("", PORT)),
    ],
)
def test_a_place_is_a_host_and_a_port(text: str, place: tuple[str, int]) -> None:
    assert place_of(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "a:0",
        "a:65536",
        "a:b",
        "a:-1",
        "a:\uff11",
        "a:",
        "[::1",
        "[::1]9",
        "[::1]:",
        "[a]:1",
        "a:1:2",
        "a b",
        "a/24",
        "a\nb",
        "\0",
    ],
)
def test_what_is_no_place_is_refused_with_what_it_must_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"^an? "):
        place_of(text)


@given(st.text(max_size=30))
def test_any_text_is_a_place_or_no_place(text: str) -> None:
    try:
        host, port = place_of(text)
    except ValueError:
        return
    assert 1 <= port <= 65535
    assert host.isprintable()


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 60),
        ({"interval": 0.002}, 500),
        ({"interval": 10}, LONGEST),
        ({"request": "none", "interval": 0.002}, 1000),
        ({"address": "2001:db8::10", "path": "/health?x=1"}, 0.1),
    ],
)
def test_a_drill_may_ask_for_this(changes: dict[str, Any], most: float) -> None:
    target, for_ = target_of(TARGET | changes, most)
    assert target == Target(**(TARGET | changes))
    assert for_ == most


@pytest.mark.parametrize(
    ("changes", "most", "what"),
    [
        ({}, 0, "lasts more than 0"),
        ({}, -1, "lasts more than 0"),
        ({}, LONGEST + 1, "at most 1800 s"),
        ({}, float("nan"), "at most 1800 s"),
        ({}, float("inf"), "at most 1800 s"),
        ({}, "60", "at most 1800 s"),
        ({}, True, "at most 1800 s"),
        ({}, None, "at most 1800 s"),
        ({"interval": 0.001}, 60, "the interval"),
        ({"interval": 0}, 60, "the interval"),
        ({"interval": float("nan")}, 60, "the interval"),
        ({"interval": 11}, 60, "the interval"),
        ({"interval": "0.1"}, 60, "the interval"),
        ({"interval": 0.002}, 501, f"more than {MOST_PROBES} probes"),
        ({"port": 0}, 60, "the port"),
        ({"port": 65536}, 60, "the port"),
        ({"port": 80.0}, 60, "the port"),
        ({"port": True}, 60, "the port"),
        ({"port": "80"}, 60, "the port"),
        ({"address": "--help"}, 60, "not an address"),
        ({"address": "example.com"}, 60, "not an address"),
        ({"address": "192.0.2.0/24"}, 60, "not an address"),
        ({"address": 1}, 60, "not an address"),
        ({"address": None}, 60, "not an address"),
        ({"request": "ftp"}, 60, "the request"),
        ({"request": []}, 60, "the request"),
        ({"path": "health"}, 60, "the path"),
        ({"path": "/" * 2000}, 60, "the path"),
        ({"path": "/ü"}, 60, "the path"),
        ({"path": None}, 60, "the path"),
    ],
)
def test_a_drill_may_not_ask_for_that(changes: dict[str, Any], most: Any, what: str) -> None:
    with pytest.raises(Unfit, match=what) as refused:
        target_of(TARGET | changes, most)
    assert refused.value.hint


@pytest.mark.parametrize("asked", [[], "x", 1, {}, {"address": "192.0.2.1"}, True])
def test_a_target_of_another_form_is_refused(asked: Any) -> None:
    with pytest.raises(Unfit):
        target_of(asked, 60)


# The clock


@given(
    ahead=st.floats(-1e6, 1e6),
    drift=st.floats(-1e-4, 1e-4),
    lasts=st.floats(1, 1800),
    part=st.floats(0, 1),
    delays=st.tuples(*[st.floats(0, 0.05)] * 4),
)
def test_a_time_of_a_clock_that_drifts_evenly_is_right_within_the_uncertainty(
    ahead: float, drift: float, lasts: float, part: float, delays: tuple[float, float, float, float]
) -> None:
    """Delays of both ways, of both measurements: they may be as unequal as they like."""

    def theirs(ours: float) -> float:
        return ours + ahead + drift * ours

    def measured(at: float, there: float, back: float) -> Clock:
        took = there + back
        return Clock(theirs(at + there), theirs(at + there) - (at + took / 2), took / 2)

    before, after = measured(0.0, *delays[:2]), measured(lasts, *delays[2:])
    at = part * lasts
    doubt = max(before.doubt, after.doubt) + abs(after.ahead - before.ahead) / 2
    # Outside of the two measurements, by as much as a round trip lasts, the line is only continued.
    slack = 1e-6 + 0.2 * (abs(drift) + abs(after.ahead - before.ahead) / lasts)
    assert abs(_translation(before, after)(theirs(at)) - at) <= doubt + slack


def test_two_measurements_at_one_time_are_no_drift() -> None:
    assert _translation(Clock(5.0, 2.0, 0.1), Clock(5.0, 2.5, 0.1))(9.0) == 7.0


# What is fetched


RESULT = ProbeResult("request", 5.0, True, 0.25, "haproxy1", None, 0.5, "X-Node")
SEEN = {"at": 5.0, "node": "a", "what": "role", "name": "web", "value": "master", "reason": "", "source": ""}


def test_a_result_keeps_all_that_the_prober_said() -> None:
    assert _probe(RESULT.to_json(), lambda at: at + 1) == ProbeResult(
        "request", 6.0, True, 0.25, "haproxy1", None, 0.5, "X-Node"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "x"},
        {"kind": []},
        {"at": None},
        {"at": float("inf")},
        {"at": "1"},
        {"ok": 1},
        {"rtt_ms": "1"},
        {"rtt_ms": float("nan")},
        {"who": 5},
        {"error": {}},
        {"late_ms": None},
        {"named_by": 1},
    ],
)
def test_a_result_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        _probe(RESULT.to_json() | changes, float)


@pytest.mark.parametrize(
    "changes", [{"at": None}, {"at": float("nan")}, {"what": "x"}, {"what": []}, {"node": 1}, {"reason": None}]
)
def test_what_was_seen_in_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        _seen(SEEN | changes, float)


class Here:
    """An observer in a thread of this process."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.stop = asyncio.Event()
        self.listener = join._listen("127.0.0.1", 0)
        self.where = f"127.0.0.1:{self.listener.getsockname()[1]}"
        observer = join.Observer((KEY,), "here", None, self.lines.append)
        self.thread = threading.Thread(
            target=lambda: self.loop.run_until_complete(observer.serve(self.listener, self.stop))
        )

    def __enter__(self) -> "Here":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(LIMIT)
        self.loop.close()
        self.listener.close()


PROBER = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
for number in range({number}):
    kind = "request" if number % 2 else "echo"
    print(json.dumps({{"event": "probe", "kind": kind, "at": float(number), "ok": number % 1000 != 3, "rtt_ms": 0.5,
        "who": {who!r}, "error": None, "late_ms": 0.0, "named_by": "X-Node"}}, ensure_ascii=False))
"""


@pytest.mark.parametrize(("number", "who"), [(20_000, "haproxy1"), (3000, "\U0001f600" * 64)])
def test_all_of_a_long_recording_is_fetched(tmp_path: Path, number: int, who: str) -> None:
    prober = [sys.executable, "-c", PROBER.format(number=number, who=who)]
    command: Callable[..., list[str]] = lambda target, most: prober  # noqa: E731
    with Here() as here, patch.object(recording, "_command", command):
        drill = joined(here.where, key_file(tmp_path), "haproxy1")
        drill.begin(Target("127.0.0.1", 80, "http", 0.01), 60)
        began = time.monotonic()
        seen = drill.finish(LIMIT)
        print(f"{number} results fetched in {time.monotonic() - began:.2f} s")
        drill.close()
    assert len(seen.probes) == number
    assert {probe.who for probe in seen.probes} == {who}
    assert [number for number, probe in enumerate(seen.probes) if not probe.ok] == list(range(3, number, 1000))
    assert drill.probes_so_far() == (number, number // 1000)


def test_a_drill_that_waits_longer_than_its_recording_keeps_its_connection(tmp_path: Path) -> None:
    prober = [sys.executable, "-c", PROBER.format(number=100, who="haproxy1")]
    command: Callable[..., list[str]] = lambda target, most: prober  # noqa: E731
    with Here() as here, patch.object(recording, "_command", command), patch.object(client, "STALE", 1.0):
        drill = joined(here.where, key_file(tmp_path), "haproxy1")
        drill.begin(Target("127.0.0.1", 80, "http", 0.01), 60)
        wait_for(lambda: any("ended: 100 probes sent" in line for line in here.lines), lambda: here.lines)
        ended_at = time.monotonic()
        wait_for(lambda: drill.probes_so_far() == (100, 1) and time.monotonic() > ended_at + 2, drill.probes_so_far)
        assert len(drill.finish(10).probes) == 100
        drill.close()
    assert not any("is back" in line for line in here.lines), here.lines


def test_a_prober_that_cannot_probe_is_a_refusal_with_its_reason(tmp_path: Path) -> None:
    with Here() as here:
        drill = joined(here.where, key_file(tmp_path), "haproxy1")
        with pytest.raises(CannotMeet, match="the observer cannot probe: path '/ ' is not a path"):
            drill.begin(Target("127.0.0.1", 80, "http", 0.01, path="/ "), 60)
        drill.begin(None, 60)
        assert drill.finish(10).probes == ()
        drill.close()


def test_a_drill_that_ends_without_fetching_leaves_nothing_behind(tmp_path: Path) -> None:
    with Here() as here:
        for _ in range(2):
            drill = joined(here.where, key_file(tmp_path), "haproxy1")
            drill.begin(None, 60)
            drill.close()
    assert [line for line in here.lines if "without" in line] == ["haproxy1 (127.0.0.1) has ended without fetching"] * 2


def test_a_drill_that_has_closed_the_connection_and_stays_away_is_not_observed_to_its_end(tmp_path: Path) -> None:
    with Here() as here, patch.object(join, "ENDS_AFTER", 0.1):
        drill = joined(here.where, key_file(tmp_path), "haproxy1")
        drill.begin(None, 1000)
        assert drill._line
        drill._line.close()
        wait_for(
            lambda: any("has not come back: its recording ends" in line for line in here.lines), lambda: here.lines
        )


def test_recordings_that_nobody_fetches_are_dropped_after_a_while(tmp_path: Path) -> None:
    with Here() as here, patch.object(join, "KEPT_FOR", 0.1):
        drill = joined(here.where, key_file(tmp_path), "haproxy1")
        drill.begin(None, 0.01)
        assert drill._line
        drill._line.close()
        drill._line = None
        wait_for(lambda: any("it is dropped" in line for line in here.lines), lambda: here.lines)
        with pytest.raises(CannotMeet, match="the observer does not have the recording"):
            drill.finish(LIMIT)
