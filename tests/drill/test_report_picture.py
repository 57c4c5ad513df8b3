"""The picture and the page of a report: well-formed, safe, and one lost probe in 20,000 is seen."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from floatip.drill import lanes
from floatip.drill.html import to_html
from floatip.drill.observed import duration, offset
from floatip.drill.picture import LEFT, MARK_LETTERS, PLOT, WIDTH, figures
from floatip.drill.report import Done, Report, Seen
from floatip.observing.summary import ProbeResult
from tests.drill.samples import (
    HOSTILE,
    ONE,
    SAMPLES,
    TWO,
    crash,
    empty,
    hostile,
    long_one,
    many_nodes,
    one_lost,
    probes,
    sample,
    short,
)

SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", "http://www.w3.org/2000/svg")


def parsed(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(to_html(report).removeprefix("<!DOCTYPE html>\n"))


def drawn(report: Report, number: int = 0) -> ElementTree.Element:
    return ElementTree.fromstring(figures(report)[number])


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def number(element: ElementTree.Element, name: str) -> float:
    return float(element.get(name, "nan"))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_is_well_formed_and_asks_nobody_for_anything(name: str) -> None:
    page = to_html(SAMPLES[name]())
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert page.count("http") == page.count('xmlns="http://www.w3.org/2000/svg"')
    assert not re.search(r"url\((?!#)|@import|src=|href=", page)
    assert not list(root.iter("script"))
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(names) == len(set(names))
    for used in re.findall(r"url\(#([^)]+)\)", page):
        assert used in names


@pytest.mark.parametrize("name", SAMPLES)
def test_everything_in_the_picture_is_inside_its_box(name: str) -> None:
    for svg in figures(SAMPLES[name]()):
        root = ElementTree.fromstring(svg)
        _, _, width, height = map(float, root.get("viewBox", "").split())
        assert width == WIDTH
        for rect in root.iter(f"{SVG}rect"):
            if rect.get("x"):  # not those of a pattern
                assert 0 <= number(rect, "x") <= number(rect, "x") + number(rect, "width") <= WIDTH
                assert 0 <= number(rect, "y") + number(rect, "height") <= height
        assert not re.search(r"\bnan\b|\binf\b", svg)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_picture_says_what_it_shows(name: str) -> None:
    for svg in figures(SAMPLES[name]()):
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        title, description, *_ = root
        assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text
        assert description.text


def test_the_sections_come_in_order_the_verdict_first() -> None:
    root = parsed(sample())
    names = [section.get("id") for section in root.iter("section")]
    assert names == ["verdict", "before", "method", "picture", "observed", "restored", "events", "made"]
    assert [title.text for title in root.iter("h1")] == [sample().title]
    (badge,) = (each for each in root.iter("header"))
    assert badge[0].text == "PASSED"
    later = sum(seen.at > sample().starts for seen in sample().seen)
    assert len(list(root.iter("tr"))) == 1 + len(sample().nodes) + later + len(sample().done)


def test_what_does_not_hold_is_said_first_with_its_hint() -> None:
    root = parsed(one_lost())
    (badge,) = (each for each in root.iter("header"))
    assert badge[0].text == "FAILED"
    (verdict,) = (each for each in root.iter("section") if each.get("id") == "verdict")
    assert "".join(verdict.itertext()) == (
        "VerdictFAILED1 of 20,000 probes was lostfloatip history shows what happened then"
    )


def test_a_drill_that_was_refused_has_a_page() -> None:
    root = parsed(empty())
    said = "".join(root.itertext())
    assert "NOT DONE" in said or "FAILED" in said
    assert f"{TWO} is not ready" in said
    assert "No verdict: no fault was made." in said
    assert "Nothing was observed." in said
    assert "Nothing was done." in said


def test_one_lost_probe_of_20_000_is_seen() -> None:
    report = one_lost()
    assert sum(len(each.results) for each in report.probes) == 20_000
    root = drawn(report)
    bars = [each for each in of_class(root, "lost") if each.find(f"{SVG}title") is not None]
    (bar,) = bars
    rect = bar.find(f"{SVG}rect")
    assert rect is not None
    assert number(rect, "width") >= 3
    (beds,) = {number(each, "height") for each in of_class(root, "bed")}
    assert number(rect, "height") > beds
    at = LEFT + PLOT * (17.33 + 20) / 50
    assert abs(number(rect, "x") - at) <= 1
    assert bar.findtext(f"{SVG}title") == "1 lost, +17.330 s: timed out"
    assert ["".join(each.itertext()) for each in of_class(root, "count")] == ["1 lost"]
    assert not of_class(drawn(sample()), "lost")


def test_a_column_keeps_the_shortest_the_longest_and_what_is_lost() -> None:
    results = [ProbeResult("echo", at / 1000, at != 500, (at % 10 + 1) / 1e4) for at in range(1000)]
    found = lanes.columns(results, 0.0, 1.0, 10)
    assert [column.at for column in found] == list(range(10))
    assert [column.sent for column in found] == [100] * 10
    assert [column.lost for column in found] == [0] * 5 + [1] + [0] * 4
    assert {(column.low, column.high) for column in found} == {(1e-4, 1e-3)}


def test_a_time_without_probes_is_not_a_time_of_losses() -> None:
    found = lanes.columns(
        [ProbeResult("echo", 0.05, True, 0.001), ProbeResult("echo", 0.95, True, 0.001)], 0.0, 1.0, 10
    )
    assert [(column.at, column.lost) for column in found] == [(0, 0), (9, 0)]


def test_the_outage_has_its_length_and_nobody_answers_in_it() -> None:
    report = crash()
    answered = next(lane for lane in lanes.groups(report)[0].lanes if lane.label == "answered by")
    first, second = answered.runs
    assert (first.word, second.word) == (ONE, TWO)
    assert first.end == pytest.approx(0.0, abs=0.021)
    assert second.begin == pytest.approx(0.32, abs=0.021)
    root = drawn(report)
    bars = [each.find(f"{SVG}rect") for each in of_class(root, "lost") if each.find(f"{SVG}title") is not None]
    widths = [number(bar, "width") for bar in bars if bar is not None]
    assert len(widths) == 2
    assert min(widths) == pytest.approx(0.32 * PLOT / 50, abs=0.5)


def test_the_time_around_the_fault_is_drawn_again_where_the_whole_is_long() -> None:
    assert len(figures(sample())) == 2
    begin, end = lanes.closeup(sample()) or (math.nan, math.nan)
    assert begin < 0
    assert 0.023 < end < 1
    close = replace(short(), starts=-0.2, ends=0.3)
    assert lanes.closeup(close) is None
    assert lanes.closeup(empty()) is None


def test_the_closer_picture_is_of_what_moved_and_not_of_other_news() -> None:
    calm = tuple(seen for seen in short().seen if seen.at < 0)
    news = Seen(0.5, TWO, "node", ONE, "drained")
    assert lanes.closeup(replace(short(), seen=(*calm, news))) is None
    late = Seen(4.0, TWO, "role", "web", "master")
    assert lanes.closeup(replace(short(), seen=(*calm, news, late))) == (-1.0, 5.0)


def test_what_a_killed_daemon_said_last_is_not_shown_as_so_until_the_end() -> None:
    report = short()
    killed = Seen(1.0, TWO, "daemon", "floatip", "stopped", "killed")
    shown = lanes.groups(replace(report, seen=(*(one for one in report.seen if one.at < 1), killed)))
    two = next(group for group in shown if group.title == TWO)
    assert {lane.runs[-1].word for lane in two.lanes} == {lanes.STOPPED}
    assert {lane.runs[-1].begin for lane in two.lanes} == {1.0}


def test_a_state_is_one_rectangle_however_often_it_was_said() -> None:
    again = tuple(Seen(float(at), ONE, "role", "web", "master", "still") for at in range(5))
    report = replace(short(), seen=(Seen(-20.0, ONE, "role", "web", "master"), *again))
    (role,) = (lane for group in lanes.groups(report) if group.title == ONE for lane in group.lanes)
    assert [(run.begin, run.end, run.word) for run in role.runs] == [(-20.0, 30.0, "MASTER")]


def test_what_another_node_says_is_drawn_where_the_node_itself_does_not_say_it() -> None:
    one = next(group for group in lanes.groups(crash()) if group.title == ONE)
    assert f"role ({TWO} says)" in [lane.label for lane in one.lanes]
    echo = replace(
        crash(), seen=(*sample().seen, *(replace(seen, source=TWO) for seen in sample().seen if seen.node == ONE))
    )
    one = next(group for group in lanes.groups(echo) if group.title == ONE)
    assert not [lane.label for lane in one.lanes if "says" in lane.label]


def test_sessions_are_one_lane_that_counts() -> None:
    report = short()
    down = tuple(
        Seen(at, ONE, "session", f"2001:db8::{n}", "down") for at, n in ((1.0, 1), (2.0, 2), (3.0, 3), (4.0, 4))
    )
    shown = lanes.groups(replace(report, seen=(*report.seen, *down)))
    one = next(group for group in shown if group.title == ONE)
    runs = next(lane for lane in one.lanes if lane.label == "sessions").runs
    assert [(run.begin, run.word, run.look) for run in runs] == [
        (-20.0, "4 of 4 up", lanes.LIGHT),
        (1.0, "3 of 4 up", lanes.WEAK),
        (2.0, "2 of 4 up", lanes.WEAK),
        (3.0, "1 of 4 up", lanes.WEAK),
        (4.0, "0 of 4 up", lanes.BAD),
    ]


def test_of_many_nodes_those_that_do_not_change_take_a_line_each() -> None:
    shown = lanes.groups(many_nodes(32))
    by_name = {group.title: group.lanes for group in shown if group.is_node}
    assert list(by_name) == [ONE, TWO, "nodes that did not change"]
    calm = by_name["nodes that did not change"]
    assert [lane.label for lane in calm] == [f"node{number}" for number in range(3, 33)]
    assert {run.word for lane in calm for run in lane.runs} == {"role BACKUP, rank standby, check web up"}
    _, _, _, height = map(float, drawn(many_nodes(32)).get("viewBox", "").split())
    assert height < 1.2 * WIDTH


def test_labels_of_steps_never_overlap() -> None:
    crowd = tuple(Done(number * 0.05, "watch", f"step {number} of many that come soon") for number in range(60))
    for report in (replace(short(), done=crowd), long_one(), hostile()):
        for svg in figures(report):
            grounds = [label.find(f"{SVG}rect") for label in of_class(ElementTree.fromstring(svg), "label")]
            boxes = [
                (number(each, "y"), number(each, "x"), number(each, "width")) for each in grounds if each is not None
            ]
            assert boxes
            for (row, x, width), (other, left, _) in pairwise(sorted(boxes)):
                assert row != other or x + width <= left + 0.11
    assert len(of_class(drawn(replace(short(), done=crowd)), "mark")) == 60


def test_the_axis_of_a_day_has_hours() -> None:
    root = drawn(long_one(24))
    ticks = ["".join(each.itertext()) for each in of_class(root, "tick") if each.tag == f"{SVG}text"]
    assert ticks == [
        "0",
        "+3:00 h",
        "+6:00 h",
        "+9:00 h",
        "+12:00 h",
        "+15:00 h",
        "+18:00 h",
        "+21:00 h",
        "+24:00 h",
        "time from the fault",
    ]


def test_hostile_names_are_text() -> None:
    page = to_html(hostile())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\\x1b[2J\\x00\\x07\\u202e\\ud800" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert page.encode()
    root = parsed(hostile())
    said = "\n".join(root.itertext())
    assert all(name in said for name in HOSTILE if name.isprintable())
    for svg in figures(hostile()):
        for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
            assert len(element.text or "") <= 150 + max(MARK_LETTERS)


def test_nodes_that_carry_differ_without_colour() -> None:
    names = [f"node{number}" for number in range(6)]
    results = tuple(ProbeResult("request", number / 10, True, 0.001, names[number // 5]) for number in range(30))
    report = replace(
        short(), starts=0.0, ends=3.0, nodes=tuple(names), probes=(replace(probes(0, 1, 0.1), results=results),)
    )
    root = drawn(report)
    patterns = {
        each.get("id", ""): [part.tag for part in each] + [part.get("d", "") for part in each]
        for each in root.iter(f"{SVG}pattern")
    }
    used = {
        re.sub(r"url\(#(.*)\)", r"\1", rect.get("fill", ""))
        for each in of_class(root, "carrier")
        for rect in each.iter(f"{SVG}rect")
        if rect.get("fill")
    }
    assert len(used) == 6
    assert len({str(patterns[each]) for each in used}) == 6


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (0.0, "+0.000 s"),
        (-0.0004, "-0.000 s"),
        (-4.1, "-4.100 s"),
        (59.9996, "+1 min 00.0 s"),
        (125.04, "+2 min 05.0 s"),
        (3599.97, "+1 h 00 min 00 s"),
        (-86399.6, "-24 h 00 min 00 s"),
    ],
)
def test_a_time_is_said_from_the_fault(at: float, said: str) -> None:
    assert offset(at) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 ms"), (0.0003, "0.3 ms"), (0.005, "5 ms"), (0.312, "312 ms"), (2.5, "2.5 s"), (200.0, "3 min 20 s")],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said
