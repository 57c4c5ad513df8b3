"""The day as a drawing."""

import re
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

from floatip.core.state import ChangeView, InstanceView
from floatip.web import timeline
from tests.web.views import DAY, EVIL, NOW, change, fleet, instance

SVG = "{http://www.w3.org/2000/svg}"
WEB = instance("web")
DAY_LONG = 86400


def draw(
    *changes: ChangeView, of: Sequence[InstanceView] = (WEB,), carriers: dict[str, str] | None = None
) -> ElementTree.Element:
    drawn = timeline.draw(of, changes, carriers or {}, "haproxy1", NOW)
    return ElementTree.fromstring(f"<div>{drawn}</div>")


def runs(drawn: ElementTree.Element) -> list[tuple[str, float, float, str]]:
    """What each looks like, where it begins and how long it is, in hours, and what is written in it."""
    found = []
    for one in drawn.iterfind(f".//{SVG}svg/{SVG}svg"):
        start, width = (float(str(one.get(key)).removesuffix("%")) * 0.24 for key in ("x", "width"))
        words = one.findtext(f"{SVG}text") or ""
        found.append((str(one.get("class")), round(start, 2), round(width, 2), words))
        assert len(one.findall(f"{SVG}rect")) == 1
    return found


def titles(drawn: ElementTree.Element) -> list[str]:
    return [one.findtext(f"{SVG}title") or "" for one in drawn.iterfind(f".//{SVG}svg/{SVG}svg")]


def test_a_role_that_did_not_change_is_one_run_of_the_whole_day() -> None:
    assert runs(draw()) == [("here", 0, 24, "haproxy1")]


def test_a_role_that_is_younger_than_what_the_history_knows_was_not_known_before() -> None:
    young = instance("web", age=3600.0)
    assert runs(draw(of=[young])) == [("unknown", 0, 23, "not known"), ("here", 23, 1, "haproxy1")]


def test_each_run_of_a_role_is_one_rectangle_that_says_from_when_until_when_and_why() -> None:
    mail = instance("mail", "backup", 41000.0)
    drawn = draw(*DAY, of=[mail], carriers={"mail": "haproxy2"})
    assert runs(drawn) == [
        ("there", 0, 10.11, "backup here"),
        ("here", 10.11, 2.5, "haproxy1"),
        ("there", 12.61, 11.39, "haproxy2"),
    ]
    reason = "haproxy2 is not healthy: check haproxy"
    assert titles(drawn)[1] == f"mail: carried here, from 01:36:40 until 04:06:40: {reason}"
    assert titles(drawn)[2].startswith("mail: backup here, from 04:06:40 until now")


def test_runs_fill_the_day_without_a_gap_whatever_the_history_says() -> None:
    odd = [
        change(-60, "role", "web", "backup", "fault", "it is of tomorrow"),
        change(5000, "role", "web", "backup", "fault", "x"),
        change(7000, "role", "web", "", "init", "and later in the file than in time"),
        change(2 * DAY_LONG, "role", "web", "init", "backup", "long ago"),
        replace(change(1, "role", "web", "", "fault", "no time"), time="yesterday"),
        replace(change(1, "role", "web", "", "fault", "no zone"), time="2026-11-12T15:00:00"),
        change(4000, "role", "another", "", "fault", "of an instance that is gone"),
    ]
    found = runs(draw(*odd))
    assert [kind for kind, *_ in found] == ["there", "unknown", "fault", "here"]
    position = 0.0
    for _, start, width, _ in found:
        assert abs(start - position) < 0.02
        position = start + width
    assert abs(position - 24) < 0.02


def test_a_change_of_a_moment_is_marked_however_short_the_run_is() -> None:
    short = change(7200, "role", "web", "master", "backup", "x"), change(7199, "role", "web", "backup", "master", "y")
    drawn = draw(*short)
    assert len(drawn.findall(f".//{SVG}line[@class='change']")) == 2
    assert [words for *_, words in runs(drawn)] == ["haproxy1", "", "haproxy1"]


def test_instances_that_changed_together_share_a_lane_and_those_that_changed_come_first() -> None:
    status = fleet()
    moved = [change(7200 - n / 60, "role", f"site-{n:03}", "backup", "master", "x") for n in range(0, 255, 3)]
    drawn = draw(*moved, of=status.instances)
    labels = [one.text for one in drawn.iterfind(f".//{SVG}text[@class='lane']")]
    assert labels == ["site-000, site-003, site-006 and 82 more", "site-001, site-002, site-004 and 167 more"]


def test_an_instance_that_flaps_all_day_stays_drawable() -> None:
    roles = "backup", "master"
    flaps = [change(80000 - 10 * n, "role", "web", roles[n % 2 - 1], roles[n % 2], "x") for n in range(8000)]
    drawn = draw(*flaps)
    found = runs(drawn)
    assert len(found) == timeline.MOST_RUNS + 1
    assert "changes, not drawn" in titles(drawn)[0]


def test_more_lanes_than_a_screen_holds_are_counted() -> None:
    status = fleet(60)
    apart = [
        change(60 * n + 60, "role", one.name, "fault", one.role.value, "x") for n, one in enumerate(status.instances)
    ]
    drawn = draw(*apart, of=status.instances)
    assert drawn.findtext("p") == "20 more lanes are not drawn."


def test_it_is_an_image_with_a_name_and_a_description_and_asks_nothing_of_another_host() -> None:
    drawn = draw(*DAY, of=[instance("mail", "backup", 41000.0)])
    svg = drawn.find(f"{SVG}svg")
    assert svg is not None
    assert svg.get("role") == "img"
    assert svg.findtext(f"{SVG}title") == "What haproxy1 was to each instance in the last 24 hours"
    said = svg.findtext(f"{SVG}desc") or ""
    assert said.startswith("mail: backup here since 04:06:40, 2 changes in the day")
    text = ElementTree.tostring(drawn, encoding="unicode").replace("http://www.w3.org/2000/svg", "")
    assert re.search("https?:", text) is None
    assert "style=" not in text


def test_nothing_that_others_chose_is_markup_in_it() -> None:
    evil = instance(EVIL, "backup", 60.0)
    moved = change(60, "role", EVIL, EVIL, "backup", EVIL)
    drawn = timeline.draw([evil], [moved], {EVIL: EVIL}, EVIL, NOW)
    ElementTree.fromstring(f"<div>{drawn}</div>")
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert drawn.isprintable()


def test_while_floatip_was_stopped_nothing_is_known_and_that_is_said() -> None:
    restart = (
        change(7200, "daemon", "floatip", "started", "stopped", "was asked to stop"),
        change(3600, "daemon", "floatip", "", "started", "version 0.5.0"),
        change(3599, "role", "web", "", "master", "no other node carries it"),
    )
    before = change(40000, "role", "web", "backup", "master", "x")
    found = runs(draw(before, *restart))
    assert [(kind, words) for kind, _, width, words in found if width > 0.01] == [
        ("there", "backup here"),
        ("here", "haproxy1"),
        ("unknown", "floatip was stopped"),
        ("here", "haproxy1"),
    ]


def test_a_run_that_ends_with_a_start_without_a_stop_before_says_that_its_end_is_not_known() -> None:
    power_loss = (
        change(40000, "daemon", "floatip", "", "started", "version 0.5.0"),
        change(39999, "role", "web", "", "master", "x"),
        change(3600, "daemon", "floatip", "", "started", "version 0.5.0"),
        change(3599, "role", "web", "", "master", "x"),
    )
    drawn = draw(*power_loss)
    assert [kind for kind, _, width, _ in runs(drawn) if width > 0.01] == ["unknown", "here cut", "here"]
    assert any("at an unknown time in it floatip was killed, or the machine stopped" in one for one in titles(drawn))
