"""A report as one HTML file: it needs no script and no other file, and prints on A4. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

from floatip.drill.as_json import rounded
from floatip.drill.observed import changes, duration, longest_outage, observations, offset, plurals, totals
from floatip.drill.picture import figures
from floatip.drill.report import Finding, Report, Seen
from floatip.web.markup import text

READING = (
    "A strip shows the round trips of all probes, from the shortest to the longest in the time of a pixel. A red bar "
    "over the whole height is a lost probe. The numbers at the lines are those of the steps above."
)
UNFOLDED = 150
"""Events: more are folded."""


def to_html(report: Report) -> str:
    """The same, whether it is made from the report or from its JSON."""
    report = rounded(report)
    word, kind = verdict(report)
    sections = (
        _facts(report),
        _section("verdict", "Verdict", _findings(report.verdict, "No verdict: no fault was made.")),
        _section("before", "Steady state before", _findings(report.before, "Nothing was looked at.")),
        _section("method", "Method", _method(report)),
        _section("picture", "Picture", _pictures(report)),
        _section("observed", "Observed", _observed(report)),
        _section("restored", "Restored", _restored(report)),
        _section("events", "All events", _events(report)),
        _section("made", "How this was made", _made(report)),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en" dir="ltr"><head><meta charset="utf-8"/>'
        f'<meta name="generator" content="{text(report.made_by)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta name="color-scheme" content="light dark"/>'
        f"<title>{word}: {text(report.title)}</title><style>{_style()}</style></head>\n<body>"
        f'<header><span class="badge {kind}">{word}</span><h1>{text(report.title)}</h1></header>'
        f"<main>{''.join(sections)}</main></body></html>\n"
    )


def verdict(report: Report) -> tuple[str, str]:
    """A word for it, and how good that is."""
    if report.holds:
        return "PASSED", "ok"
    return ("FAILED", "bad") if report.verdict or not all(one.holds for one in report.before) else ("NOT DONE", "bad")


def _style() -> str:
    style = (files("floatip.drill") / "report.css").read_text()
    return "".join(line.strip() for line in style.split("\n"))


def _section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{content}</section>\n' if content else ""


def _facts(report: Report) -> str:
    method = report.method
    rows = [("when", time_of(report.began)), ("fault", method.fault), ("node", method.node)]
    rows += [("instance", method.instance), ("addresses", ", ".join(method.addresses))]
    sent, lost = totals(report)
    outage = longest_outage(report)
    if outage is not None:
        rows.append(("lost", f"{lost:,} of {plurals(sent, 'probe')}"))
        rows.append(("longest outage", duration(outage) if outage else "none"))
    cells = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in rows if value)
    return f'<dl class="facts">{cells}</dl>\n'


def time_of(at: float) -> str:
    """Of the clock on the wall."""
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %Y, %H:%M:%S UTC")


def _findings(found: Iterable[Finding], none: str) -> str:
    items = "".join(
        f'<li class="{"ok" if one.holds else "bad"}"><span class="badge {"ok" if one.holds else "bad"}">'
        f"{'ok' if one.holds else 'FAILED'}</span><div>{text(one.text)}"
        + (f'<p class="hint">{text(one.hint)}</p>' if one.hint else "")
        + "</div></li>"
        for one in found
    )
    return f'<ul class="findings">{items}</ul>' if items else f"<p>{none}</p>"


def _method(report: Report) -> str:
    said = "".join(f"<p>{text(sentence)}</p>" for sentence in report.method.sentences)
    steps = "".join(
        f'<li class="{one.step}"><span class="at">{offset(one.at)}</span> <span>{text(one.text)}</span></li>'
        for one in report.done
    )
    return said + (f'<ol class="steps">{steps}</ol>' if steps else "<p>Nothing was done.</p>")


def _pictures(report: Report) -> str:
    shown = "".join(
        f'<figure><div class="scroll" tabindex="0" role="group" aria-label="{label}">{svg}</div></figure>'
        for svg, label in zip(figures(report), ("the picture", "the time around the fault"), strict=False)
    )
    return f'{shown}<p class="note">{READING}</p>'


def _observed(report: Report) -> str:
    blocks = []
    for group in observations(report):
        lines = "".join(
            f'<li class="loss">{text(one.text)}</li>' if one.is_loss else f"<li>{text(one.text)}</li>"
            for one in group.sentences
        )
        blocks.append(f"<h3>{text(group.title[:1].upper() + group.title[1:])}</h3><ul>{lines}</ul>")
    return "".join(blocks) or "<p>Nothing was observed.</p>"


def _restored(report: Report) -> str:
    if report.kind == "lab" and not report.restored:
        return ""
    return _findings(report.restored, "Nothing had to be restored.")


@dataclass(frozen=True, slots=True)
class Row:
    at: float
    time: str
    who: str
    what: str
    became: str
    why: str
    kind: str = ""


def _events(report: Report) -> str:
    rows = sorted(_rows(report), key=lambda row: row.at)
    if not rows:
        return "<p>Nothing happened.</p>"
    body = "".join(
        f'<tr class="{row.kind}"><td class="at">{row.time}</td>'
        f"{''.join(f'<td>{text(cell)}</td>' for cell in (row.who, row.what, row.became, row.why))}</tr>"
        for row in rows
    )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("time", "who", "what", "became", "why"))
    opened = ' open="open"' if len(rows) <= UNFOLDED else ""
    return (
        f"<details{opened}><summary>{plurals(len(rows), 'event')}, with the time from the fault</summary>"
        f'<div class="scroll" tabindex="0" role="group" aria-label="all events"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _rows(report: Report) -> Iterator[Row]:
    """First the state at the start, in a row for each node."""
    at_start: dict[str, list[str]] = {}
    for seen in report.seen:
        if seen.at <= report.starts:
            at_start.setdefault(_who(seen), []).append(f"{seen.what} {seen.name} {seen.value}")
    for route in report.routes:
        if route.at <= report.starts:
            at_start.setdefault("routes", []).append(f"{route.host} to {route.node or 'no node'}")
    for who, states in at_start.items():
        yield Row(report.starts, "at the start", who, "state", "", ", ".join(states))
    for seen in changes(report):
        yield Row(seen.at, offset(seen.at), _who(seen), f"{seen.what} {seen.name}", seen.value, seen.reason)
    for route in report.routes:
        if route.at > report.starts:
            yield Row(route.at, offset(route.at), route.host, "route", route.node or "no route", "")
    by = "floatip" if report.kind == "drill" else "the lab"
    for done in report.done:
        yield Row(done.at, offset(done.at), by, done.step, "", done.text, f"done {done.step}")


def _who(seen: Seen) -> str:
    return f"{seen.node}, as {seen.source} heard" if seen.source else seen.node


def _made(report: Report) -> str:
    how = "floatip drill, on the nodes themselves" if report.kind == "drill" else "floatip lab, on one machine"
    said = [f"By {text(report.made_by)}: {how}. Times are from the fault, {text(time_of(report.began))}."]
    said += [text(note[:1].upper() + note[1:]) for note in report.notes]
    return "".join(f"<p>{one}{'' if one.endswith('.') else '.'}</p>" for one in said)
