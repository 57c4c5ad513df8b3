"""The JSON of a report: nothing is lost, it is small, and what is damaged is named."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floatip.drill.as_json import COLUMNS, NotAReport, from_json, rounded, to_json
from floatip.drill.html import to_html
from floatip.drill.report import FORMAT, Done, Finding, Method, Probes, Report, Route, Seen, Step, What
from floatip.observing.summary import KINDS
from tests.drill.samples import SAMPLES, one_lost, sample, short

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "drill-report.md"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_report_is_the_same_after_its_json(name: str) -> None:
    report = SAMPLES[name]()
    assert from_json(to_json(report)) == rounded(report)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.from_type(Report))
def test_any_report_is_the_same_after_its_json(report: Report) -> None:
    assert from_json(to_json(_bounded(report))) == rounded(_bounded(report))
    assert rounded(rounded(_bounded(report))) == rounded(_bounded(report))


def _bounded(value: Any) -> Any:
    """Times that a report can have."""
    if isinstance(value, float):
        return 0.0 if math.isnan(value) else max(-1e8, min(1e8, value))
    if isinstance(value, tuple):
        return tuple(map(_bounded, value))
    if is_dataclass(value) and not isinstance(value, type):
        known = {field.name: _bounded(getattr(value, field.name)) for field in fields(value)}
        return replace(
            value, **{name: abs(each) if each and name in ("began", "rtt") else each for name, each in known.items()}
        )
    return value


def test_times_of_a_sample_are_not_changed_by_rounding() -> None:
    assert rounded(sample()) == sample()


def test_the_html_made_from_the_json_is_the_same() -> None:
    assert to_html(from_json(to_json(one_lost()))) == to_html(one_lost())


def test_twenty_thousand_probes_take_few_bytes() -> None:
    report = one_lost()
    assert len(report.probes[0].results) == 20_000
    assert len(to_json(report)) < 15 * 20_000


def test_the_json_is_ascii_with_a_line_for_each_event_and_column() -> None:
    lines = to_json(short()).split("\n")
    assert "\n".join(lines).isascii()
    assert lines[1] == f' "format": {FORMAT},'
    assert sum(line.startswith('  {"at": ') for line in lines) == len(short().seen) + len(short().done)
    assert sum(line.startswith('    "') for line in lines) == len(COLUMNS) * len(KINDS)


Change = Callable[[dict[str, Any]], object]


def _set(*path: Any, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda data: data.pop("title"), "title: the key is missing"),
        (_set("title", value=7), "title: a text is expected, not 7"),
        (_set("kind", value="war"), 'kind: one of drill, lab is expected, not "war"'),
        (_set("began", value="now"), "began: a number"),
        (_set("began", value=True), "began: a number"),
        (
            _set("ends", value=10**400),
            "ends: a number from -1e+09 to 1e+09 is expected, not a number that is too large",
        ),
        (_set("began", value=-253402300799), "began: a number from 0 to 2.53402e+11 is expected"),
        (_set("probes", 0, "echo", "rtt_us", 3, value=-1), "probes[0].echo.rtt_us: an answer is from before its probe"),
        (_set("nodes", value="ab"), "nodes: a list is expected"),
        (_set("nodes", 1, value=None), "nodes[1]: a text is expected, not null"),
        (_set("seen", 3, value=[]), "seen[3]: an object is expected, not a list"),
        (lambda data: data["seen"][3].pop("value"), "seen[3].value: the key is missing"),
        (_set("verdict", 0, "holds", value=1), "verdict[0].holds: true or false is expected, not 1"),
        (_set("method", "addresses", 0, value={}), "method.addresses[0]: a text is expected, not an object"),
        (_set("probes", 0, "echo", value=[]), "probes[0].echo: the columns of its probes are missing"),
        (_set("probes", 0, "echo", "at_us", 17, value="x"), "probes[0].echo.at_us[17]: a whole number"),
        (_set("probes", 0, "echo", "at_us", 17, value=-1), "probes[0].echo.at_us: the times go back"),
        (_set("probes", 0, "echo", "at_us", 0, value=10**15), "probes[0].echo.at_us: a time is too far"),
        (lambda data: data["probes"][0]["echo"]["rtt_us"].pop(), "probes[0].echo.rtt_us: it has 99 values"),
        (_set("probes", 0, "echo", "late_us", 0, value=None), "probes[0].echo.late_us[0]: a whole number"),
        (_set("probes", 0, "request", "ok", value=[[True, 10**12]]), "probes[0].request.ok[0]: a run"),
        (_set("probes", 0, "request", "ok", value=[[True, 9]]), "probes[0].request.ok: it has 9 values"),
        (_set("probes", 0, "request", "who", 0, 0, value=5), "probes[0].request.who[0][0]: a text or null"),
    ],
)
def test_what_is_damaged_is_named(change: Change, place: str) -> None:
    data = json.loads(to_json(short()))
    change(data)
    with pytest.raises(NotAReport) as refusal:
        from_json(json.dumps(data), "web.json")
    assert refusal.value.what.startswith(f"web.json is not a whole report: {place}"), refusal.value.what
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "web.json is not JSON: line 1, column 1"),
        (to_json(short())[:5000], "web.json is not JSON: line "),
        ('{"format": NaN}', "web.json is not JSON: NaN"),
        ("[" * 100_000, "web.json is not a report: its lists are nested too deeply"),
        (b"\xff\xfe\x00", "web.json is not"),
        ("[]", "web.json is JSON, but not a report of a drill"),
        ('{"node": "haproxy1"}', "web.json is JSON, but not a report of a drill"),
        (f'{{"format": {FORMAT + 1}}}', f"web.json has format {FORMAT + 1}, and this floatip reads format {FORMAT}"),
        ('{"format": "x"}', 'web.json has format "x"'),
        ('{"format": ' + "1" * 5000 + "}", "web.json is not JSON: "),
    ],
)
def test_another_file_is_refused(content: str | bytes, says: str) -> None:
    with pytest.raises(NotAReport) as refusal:
        from_json(content, "web.json")
    assert refusal.value.what.startswith(says), refusal.value.what


def test_a_newer_report_of_the_same_format_may_have_more_keys() -> None:
    data = json.loads(to_json(short())) | {"weather": "fine"}
    data["seen"][0]["colour"] = "red"
    assert from_json(json.dumps(data)) == short()


def _keys(table: str) -> set[str]:
    cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def test_the_reference_has_every_key_and_no_other() -> None:
    page = PAGE.read_text()
    tables = re.split(r"^## ", page, flags=re.MULTILINE)
    documented = {table.split("\n")[0]: _keys(table) for table in tables[1:]}
    kinds = {"method": Method, "done": Done, "seen": Seen, "routes": Route, "before`, `verdict`, `restored": Finding}
    wanted = {f"`{name}`": {field.name for field in fields(kind)} for name, kind in kinds.items()}
    wanted["The report"] = {"format", *(field.name for field in fields(Report))}
    wanted["`probes`"] = {field.name for field in fields(Probes)} - {"results"} | set(KINDS)
    wanted["Columns of probes"] = set(COLUMNS)
    assert documented == wanted
    assert f"`format` | {FORMAT}." in page
    assert all(f'`"{word}"`' in page for kind in (What, Step) for word in get_args(kind))
