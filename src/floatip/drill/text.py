"""A report for a terminal: what was done and seen, the verdict, and what was restored. Pure."""

from collections.abc import Iterable, Iterator

from floatip.drill.html import time_of, verdict
from floatip.drill.observed import observations, offset
from floatip.drill.report import Finding, Report
from floatip.screen import BAD, BOLD, DIM, GOOD, Line, under


def draw(report: Report, width: int = 80) -> list[Line]:
    """In at most `width` columns."""
    word, kind = verdict(report)
    return [
        *under([("", "")], report.title, width, BOLD, indent=2),
        *under([("", "")], f"{time_of(report.began)}, by {report.made_by}", width, DIM, indent=2),
        *_section("steady state before", _findings(report.before, width)),
        *_section("method", _method(report, width)),
        *_section("observed", _observed(report, width)),
        *_section("verdict", _findings(report.verdict, width)),
        *_section("restored", _findings(report.restored, width)),
        *_section("notes", (line for note in report.notes for line in _item(note, width))),
        [],
        [(word, GOOD if kind == "ok" else BAD)],
    ]


def _section(title: str, lines: Iterable[Line]) -> list[Line]:
    found = list(lines)
    return [[], [(title, BOLD)], *found] if found else []


def _findings(found: Iterable[Finding], width: int) -> Iterator[Line]:
    for one in found:
        word, style = ("ok    ", GOOD) if one.holds else ("FAILED", BAD)
        yield from under([("  ", ""), (word, style), ("  ", "")], one.text, width)
        if one.hint:
            yield from under([("          hint: ", DIM)], one.hint, width)


def _method(report: Report, width: int) -> Iterator[Line]:
    for sentence in report.method.sentences:
        yield from _item(sentence, width)
    for number, done in enumerate(report.done, 1):
        at = f"  {number:>2}  {offset(done.at):>10}  "
        yield from under([(at, DIM)], done.text, width, BOLD if done.step == "fault" else "")


def _observed(report: Report, width: int) -> Iterator[Line]:
    for group in observations(report):
        yield from _item(group.title, width)
        for one in group.sentences:
            yield from under([("    ", "")], one.text, width, BAD if one.is_loss else "", indent=6)


def _item(text: str, width: int) -> list[Line]:
    return under([("  ", "")], text, width, indent=4)
