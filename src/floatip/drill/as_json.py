"""A report as JSON, which is authoritative: text, picture and HTML can be made from it again.

Times have microseconds. Probes are columns, because there may be tens of thousands of them: of each kind its times as
differences, and what seldom changes as runs of equal values. docs/reference/drill-report.md describes all keys. Pure.
"""

import json
import math
import types
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from itertools import accumulate, groupby, pairwise
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.drill.report import FORMAT, Probes, Report
from floatip.observing.summary import KINDS, Kind, ProbeResult

T = TypeVar("T")
MICRO = 1_000_000
MOST_PROBES = 10_000_000
"""In one report: two days of both kinds, 25 of each a second."""
LATEST = 253402300799.0
"""Unix time: the end of the year 9999."""
LONGEST = 1e9
"""Seconds from the fault."""
COLUMNS = ("at_us", "rtt_us", "late_us", "ok", "who", "error", "named_by")
HINT = "ask for the file again where it was made, or make a new report"


class NotAReport(Refusal):
    """The file does not hold a report that this version can read."""

    code = Why.NOT_A_REPORT


def to_json(report: Report) -> str:
    """One line for each event and each column, in ASCII."""
    report = rounded(report)
    data = {"format": FORMAT, **{field.name: getattr(report, field.name) for field in fields(Report)}}
    return _in_lines(data | {"probes": [_columns(one) for one in data["probes"]]})


def from_json(text: str | bytes, name: str = "the report") -> Report:
    """Raises NotAReport, which says where in `name` what is wrong."""
    try:
        data = json.loads(text, parse_constant=_not_json)
    except RecursionError:
        raise NotAReport(f"{name} is not a report: its lists are nested too deeply", HINT) from None
    except UnicodeDecodeError:
        raise NotAReport(f"{name} is not a report: it is not UTF-8", HINT) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotAReport(f"{name} is not JSON: {where}: {error.msg.lower()}", HINT) from None
    except ValueError as error:
        raise NotAReport(f"{name} is not JSON: {error}", HINT) from None
    if not isinstance(data, dict) or "format" not in data:
        raise NotAReport(f"{name} is JSON, but not a report of a drill: it has no key format", HINT)
    if (said := data["format"]) != FORMAT or isinstance(said, bool):
        newer = isinstance(said, int) and said > FORMAT
        hint = "update floatip on this machine" if newer else HINT
        raise NotAReport(f"{name} has format {_short(said)}, and this floatip reads format {FORMAT}", hint)
    try:
        return _object(Report, data, "")
    except _Wrong as wrong:
        raise NotAReport(f"{name} is not a whole report: {wrong.place}: {wrong.what}", HINT) from None


def rounded(report: Report) -> Report:
    """What the JSON can hold: microseconds; of two probes that were sent in the same one, the echo comes first."""
    return cast(Report, _rounded(report))


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 6) + 0.0  # no -0.0
        case tuple():
            return tuple(map(_rounded, value))
        case ProbeResult():  # by far the most
            at, rtt, late = _rounded(value.at), _rounded(value.rtt), _rounded(value.late)
            return replace(value, at=at, rtt=rtt, late=late)
        case _ if is_dataclass(value) and not isinstance(value, type):
            new = replace(value, **{field.name: _rounded(getattr(value, field.name)) for field in fields(value)})
            if isinstance(new, Probes):
                new = replace(new, results=tuple(sorted(new.results, key=_turn)))
            return new
    return value


def _turn(probe: ProbeResult) -> tuple[float, int]:
    return probe.at, KINDS.index(probe.kind)


# Writing


def _columns(probes: Probes) -> dict[str, Any]:
    found: dict[str, Any] = {f.name: getattr(probes, f.name) for f in fields(Probes) if f.name != "results"}
    for kind in KINDS:
        mine = [probe for probe in probes.results if probe.kind == kind]
        times = [_micro(probe.at) for probe in mine]
        found[kind] = {
            "at_us": [*times[:1], *(after - before for before, after in pairwise(times))],
            "rtt_us": [None if probe.rtt is None else _micro(probe.rtt) for probe in mine],
            "late_us": [_micro(probe.late) for probe in mine],
            **{name: _runs([getattr(probe, name) for probe in mine]) for name in COLUMNS[3:]},
        }
    return found


def _micro(seconds: float) -> int:
    return round(seconds * MICRO)


def _runs(values: Iterable[object]) -> list[list[object]]:
    return [[value, sum(1 for _ in same)] for value, same in groupby(values)]


def _in_lines(value: Any, indent: str = "") -> str:
    """What holds no object is one line."""
    if is_dataclass(value):
        return json.dumps({field.name: getattr(value, field.name) for field in fields(value)}, default=_plain)
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {_in_lines(each, inner)}" for key, each in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and value and (isinstance(value[0], dict) or is_dataclass(value[0])):
        return "[\n" + ",\n".join(f"{inner}{_in_lines(each, inner)}" for each in value) + f"\n{indent}]"
    return json.dumps(value, separators=(",", ":") if isinstance(value, list) else None)


def _plain(value: Any) -> Any:
    return {field.name: getattr(value, field.name) for field in fields(value)}


# Reading


class _Wrong(Exception):
    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what


def _object(kind: type[T], data: Any, place: str) -> T:
    """A dataclass. Keys that it does not know are of a newer version, and mean nothing to it."""
    if not isinstance(data, dict):
        raise _Wrong(place, f"an object is expected, not {_short(data)}")
    hints = _hints(cast(type, kind))
    values = {}
    for field in fields(cast(Any, kind)):
        where = f"{place}.{field.name}".lstrip(".")
        if kind is Probes and field.name == "results":
            values["results"] = _results(data, place)
        elif field.name not in data:
            raise _Wrong(where, "the key is missing")
        else:
            values[field.name] = _value(hints[field.name], data[field.name], where)
    return kind(**values)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, data: Any, place: str) -> Any:
    origin = get_origin(kind)
    if origin is tuple:
        if not isinstance(data, list):
            raise _Wrong(place, f"a list is expected, not {_short(data)}")
        return tuple(_value(get_args(kind)[0], each, f"{place}[{number}]") for number, each in enumerate(data))
    if origin is Literal:
        if data not in get_args(kind):
            raise _Wrong(place, f"one of {', '.join(get_args(kind))} is expected, not {_short(data)}")
        return data
    if kind is float:
        least, most = (0.0, LATEST) if place == "began" else (-LONGEST, LONGEST)
        if isinstance(data, bool) or not isinstance(data, int | float) or not least <= data <= most:
            raise _Wrong(place, f"a number from {least:g} to {most:g} is expected, not {_short(data)}")
        return float(data)
    if is_dataclass(kind):
        return _object(cast(type[Any], kind), data, place)
    return _plainly(kind, data, place)


def _plainly(kind: Any, data: Any, place: str) -> Any:
    """str, int, bool, or one of these or None."""
    wanted = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if type(data) not in wanted:
        names = {str: "a text", int: "a whole number", bool: "true or false", type(None): "null"}
        raise _Wrong(place, f"{' or '.join(names[one] for one in wanted)} is expected, not {_short(data)}")
    return data


def _results(data: dict[str, Any], place: str) -> tuple[ProbeResult, ...]:
    found = [probe for kind in KINDS for probe in _of_kind(kind, data, f"{place}.{kind}")]
    return tuple(sorted(found, key=_turn))


def _of_kind(kind: Kind, data: dict[str, Any], place: str) -> Iterable[ProbeResult]:
    columns = data.get(kind)
    if not isinstance(columns, dict):
        raise _Wrong(place, "the columns of its probes are missing")
    hints = _hints(ProbeResult)
    differences = _numbers(columns, "at_us", place)
    count = len(differences)
    if any(difference < 0 for difference in differences[1:]):
        raise _Wrong(f"{place}.at_us", "the times go back")
    times = list(accumulate(differences))
    if times and max(-times[0], times[-1]) > LONGEST * MICRO:
        raise _Wrong(f"{place}.at_us", "a time is too far from the fault")
    rtts, lates = _numbers(columns, "rtt_us", place, count, none=True), _numbers(columns, "late_us", place, count)
    if any(rtt < 0 for rtt in rtts if rtt is not None):
        raise _Wrong(f"{place}.rtt_us", "an answer is from before its probe")
    runs = [_expanded(columns, name, place, count, hints[name]) for name in COLUMNS[3:]]
    return (
        ProbeResult(kind, at / MICRO, ok, None if rtt is None else rtt / MICRO, who, error, late / MICRO, named_by)
        for at, rtt, late, ok, who, error, named_by in zip(times, rtts, lates, *runs, strict=True)
    )


def _numbers(
    columns: dict[str, Any], name: str, place: str, count: int | None = None, *, none: bool = False
) -> list[Any]:
    values = columns.get(name)
    place = f"{place}.{name}"
    if not isinstance(values, list) or len(values) > MOST_PROBES:
        raise _Wrong(place, "a list of whole numbers is expected")
    for number, value in enumerate(values):
        if not (type(value) is int and abs(value) <= LONGEST * MICRO) and not (none and value is None):
            raise _Wrong(f"{place}[{number}]", f"a whole number of microseconds is expected, not {_short(value)}")
    _must_be(count, len(values), place)
    return values


def _expanded(columns: dict[str, Any], name: str, place: str, count: int, kind: Any) -> Sequence[Any]:
    runs, place = columns.get(name), f"{place}.{name}"
    if not isinstance(runs, list):
        raise _Wrong(place, "a list of runs, [value, number], is expected")
    for number, run in enumerate(runs):
        if not (isinstance(run, list) and len(run) == 2 and type(run[1]) is int and 0 < run[1] <= MOST_PROBES):
            raise _Wrong(f"{place}[{number}]", f"a run, [value, number], is expected, not {_short(run)}")
        _plainly(kind, run[0], f"{place}[{number}][0]")
    _must_be(count, sum(length for _, length in runs), place)  # before they take memory
    return [value for value, length in runs for _ in range(length)]


def _must_be(count: int | None, found: int, place: str) -> None:
    if count is not None and found != count:
        raise _Wrong(place, f"it has {found} values, and at_us has {count}")


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _short(data: Any) -> str:
    """What is there, in few words."""
    if isinstance(data, dict | list):
        return "an object" if isinstance(data, dict) else "a list"
    if isinstance(data, float) and not math.isfinite(data):
        return "a number that is too large"
    if isinstance(data, int) and abs(data) > 1 << 64:
        return "a number that is too large"
    said = json.dumps(data)
    return said if len(said) <= 40 else f"{said[:36]} ..."
