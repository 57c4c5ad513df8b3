"""The picture of a report: SVG by hand, all of it on one time axis, and a closer one of the time around the fault.

It needs the style sheet of `html.py`: colours are CSS variables, so that it follows light, dark and print. A state is
told by its word, its pattern and its height too, never by its colour alone. Pure.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from floatip.drill import lanes as shown
from floatip.drill.lanes import Carriers, Column, Group, Lane, Run, Strip
from floatip.drill.observed import duration, offset
from floatip.drill.report import Done, Report
from floatip.web.markup import text

WIDTH, LEFT, RIGHT = 1000, 170, 22
PLOT = WIDTH - LEFT - RIGHT
"""Pixels of the time axis, as the view box counts."""
LETTER, CAPITAL, BOLD = 6.6, 8.0, 1.15
"""Pixels: letters of the picture, on the safe side; how much wider bold ones are."""
HEADING, LANE, BAR, STRIP, LEGEND = 20, 17, 14, 40, 18
ROW = 14
"""Pixels: a row of labels of the marks."""
MOST_ROWS = 6
LABEL_LETTERS = 25
THIN_BAR, WIDE_BAR = 3.0, 6.0
"""Pixels of what is lost: a bar has these at least; a wider one than that has a pattern."""
MARK_LETTERS = (72, 36)
"""The second where there is no room for the first."""
PATTERNS = 6
"""For the nodes that carry the address: the seventh looks like the first."""
HATCHES = {shown.WEAK: "weak", shown.BAD: "bad"}
SHORT = {"MASTER": "M", "BACKUP": "B", "FAULT": "F", "INIT": "I"}
LEGEND_OF_STATES = (
    (shown.STRONG, "carries: MASTER, active"),
    (shown.LIGHT, "ready: BACKUP, up"),
    (shown.WEAK, "in part"),
    (shown.BAD, "lost, down, FAULT"),
    (shown.NONE, "nothing known, or none"),
)
STEPS = (
    *(scale * 10.0**power for power in (-6, -5, -4, -3, -2, -1) for scale in (1, 2, 5)),
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800),
)
TICKS = 11
"""On an axis, about."""


@dataclass(frozen=True, slots=True)
class Axis:
    begin: float
    end: float

    def x(self, at: float) -> float:
        share = (at - self.begin) / (self.end - self.begin)
        return LEFT + PLOT * min(1.0, max(0.0, share))

    @property
    def pixel(self) -> float:
        """Seconds."""
        return (self.end - self.begin) / PLOT

    def ticks(self) -> Iterator[tuple[float, str]]:
        wanted = (self.end - self.begin) / TICKS
        step = next((step for step in STEPS if step >= wanted), math.ceil(wanted / 604800) * 604800.0)
        for number in range(math.ceil(self.begin / step), math.floor(self.end / step) + 1):
            yield number * step, _tick(number * step, step, self)


def figures(report: Report) -> list[str]:
    """The whole, and where that is too coarse, the time around the fault. Each is an SVG element."""
    everything = shown.groups(report)
    span = max(report.ends - report.starts, 0.001)
    whole = Axis(report.starts, report.starts + span)
    close = shown.closeup(report)
    found = [_figure(report, whole, everything, "whole", "The whole", close)]
    if close:
        axis = Axis(*close)
        found.append(_figure(report, axis, _of_interest(everything, axis), "close", "Around the fault", None))
    return found


def _of_interest(groups: Iterable[Group], axis: Axis) -> list[Group]:
    """Strips and carriers, and of the nodes what changes in this time."""
    found = []
    for group in groups:
        lanes = [lane for lane in group.lanes if not group.is_node or lane.changes(axis.begin, axis.end)]
        if lanes:
            found.append(Group(group.title, lanes, group.is_node))
    return found


@dataclass(slots=True)
class _Drawing:
    axis: Axis
    ident: str
    carriers: Carriers
    y: float = 0.0
    parts: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    """Below all lanes."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """Left edge and width."""

    def fill(self, look: str) -> str:
        """The pattern, or nothing: then the style sheet fills it."""
        if look.startswith("node "):
            return f' fill="url(#{self.ident}-n{int(look[5:]) % PATTERNS})"'
        return f' fill="url(#{self.ident}-{HATCHES[look]})"' if look in HATCHES else ""


def _figure(
    report: Report, axis: Axis, groups: list[Group], ident: str, name: str, close: tuple[float, float] | None
) -> str:
    drawing = _Drawing(axis, ident, Carriers(report))
    marks = [(number, done) for number, done in enumerate(report.done, 1) if axis.begin <= done.at <= axis.end]
    labels, rows = _labels(axis, marks)
    top = drawing.y = ROW * rows + 8
    for group in groups:
        _group(drawing, group)
    bottom = drawing.y + 4
    _axis(drawing, top, bottom)
    drawing.y = bottom + 24
    _legend(drawing)
    height = drawing.y + 4
    behind = [_band("outage", x, width, top, bottom) for x, width in drawing.outages]
    if close:
        x, end = (axis.x(at) for at in close)
        behind.append(_band("close", x, max(end - x, 2), top, bottom, "the time that the second picture shows"))
    lines = [f'<path class="mark {done.step}" d="M{axis.x(done.at):.1f} 2V{bottom:.0f}"/>' for _, done in marks]
    parts = "".join((*behind, *drawing.behind, *drawing.parts, *lines, *labels))
    title = f"{name}: {report.title}, from {offset(axis.begin)} to {offset(axis.end)}"
    return (
        f'<svg id="{ident}" class="drill" role="img" aria-labelledby="{ident}-title {ident}-desc" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{ident}-title">{text(title)}</title>'
        f'<desc id="{ident}-desc">{text(_description(report, groups, axis))}</desc>'
        f"<defs>{_patterns(ident)}</defs>{parts}</svg>"
    )


def _band(kind: str, x: float, width: float, top: float, bottom: float, title: str = "") -> str:
    said = f"<title>{text(title)}</title>" if title else ""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{top:.0f}" width="{width:.1f}" height="{bottom - top:.0f}">{said}</rect>'
    )


def _description(report: Report, groups: list[Group], axis: Axis) -> str:
    lost = sum(
        loss.lost for group in groups for lane in group.lanes if lane.strip for loss in _losses(lane.strip, axis)
    )
    said = [f"{lost:,} probes lost"]
    for group in groups:
        for lane in group.lanes:
            changed = [run for run in lane.runs[1:] if axis.begin < run.begin < axis.end]
            if changed and (group.is_node or lane.label == "answered by"):
                who = f"{group.title} {lane.label}" if group.is_node else lane.label
                said.append(f"{who}: " + ", ".join(f"{run.word} at {offset(run.begin)}" for run in changed[:4]))
    return "; ".join(said[:12]) + ". Everything is listed below."


# Lanes


def _group(drawing: _Drawing, group: Group) -> None:
    kind = "node" if group.is_node else "source"
    drawing.parts.append(
        f'<text class="heading {kind}" x="2" y="{drawing.y + 14:.0f}">{text(_cut(group.title, 140))}</text>'
    )
    drawing.y += HEADING
    strips = {id(lane): _columns(lane.strip, drawing.axis) for lane in group.lanes if lane.strip}
    scale = shown.decades(strips.values()) if strips else (0, 1)
    for lane in group.lanes:
        drawing.parts.append(f'<text class="lane" x="10" y="{drawing.y + 11:.0f}">{_label(lane.label)}</text>')
        if lane.strip:
            _strip(drawing, lane.strip, strips[id(lane)], scale)
        else:
            _runs(drawing, lane)
    drawing.y += 4


def _label(label: str) -> str:
    short = _cut(label, LABEL_LETTERS)
    return text(short) if short == label else f"{text(short)}<title>{text(label)}</title>"


def _runs(drawing: _Drawing, lane: Lane) -> None:
    axis, y = drawing.axis, drawing.y
    for run in lane.runs:
        if run.end < axis.begin or run.begin > axis.end:
            continue
        x, end = axis.x(run.begin), axis.x(run.end)
        width = max(end - x, 1.0)
        inset = 3 if run.look == shown.LIGHT else 0
        look = "carrier" if run.look.startswith("node ") else run.look
        because = f": {run.because}" if run.because else ""
        title = f"{lane.label}: {run.word} from {offset(run.begin)} to {offset(run.end)}{because}"
        drawing.parts.append(
            f'<g class="run {look}"><title>{text(title)}</title><rect x="{x:.1f}" y="{y + inset:.0f}" '
            f'width="{width:.1f}" height="{BAR - 2 * inset}"{drawing.fill(run.look)}/>'
            f"{_word(drawing, run, x, y, width)}</g>"
        )
    drawing.y += LANE


def _word(drawing: _Drawing, run: Run, x: float, y: float, width: float) -> str:
    room = width - 8
    candidates = (run.word, SHORT.get(run.word, ""), _cut(run.word, max(8, int(room / CAPITAL))))
    word = next((word for word in candidates if word and _wide(word) <= room), "")
    if not word:
        return ""
    ground = ""
    if drawing.fill(run.look) or run.look == shown.LIGHT:
        left = -1 if run.look == shown.LIGHT else 2
        wide = _wide(word) + 6
        ground = f'<rect class="ground" x="{x + left:.1f}" y="{y + 1:.0f}" width="{wide:.0f}" height="{BAR - 2}"/>'
    return f'{ground}<text x="{x + 5:.1f}" y="{y + 11:.0f}">{text(word)}</text>'


# Strips of probes


def _columns(strip: Strip, axis: Axis) -> list[Column]:
    return shown.columns(strip.results(axis.begin, axis.end), axis.begin, axis.end, PLOT)


def _losses(strip: Strip, axis: Axis) -> list[shown.Loss]:
    return shown.losses(strip, axis.begin, axis.end, axis.pixel)


def _strip(drawing: _Drawing, strip: Strip, columns: list[Column], scale: tuple[int, int]) -> None:
    """Round trips as a band from the shortest to the longest; what is lost is a bar over the whole height."""
    axis, top, height = drawing.axis, drawing.y, STRIP - 6
    low, high = scale
    reach = max(1.0, min(strip.probes.interval / axis.pixel, 8.0))
    drawing.parts.append(f'<rect class="bed" x="{LEFT}" y="{top:.0f}" width="{PLOT}" height="{height}"/>')
    for number in range(low, high + 1):
        y = top + height - height * (number - low) / (high - low)
        if low < number < high:
            drawing.parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{PLOT}"/>')
    for number, y in ((high, top + 8), (low, top + height)):
        drawing.parts.append(
            f'<text class="scale" x="{LEFT - 5}" y="{y:.0f}" text-anchor="end">{_scale(number)}</text>'
        )
    path = []
    for column in columns:
        if column.sent == column.lost:
            continue
        upper, lower = (
            top + height - 1 - (height - 2) * (math.log10(rtt) - low) / (high - low) if rtt else top + height - 1
            for rtt in (column.high, column.low)
        )
        path.append(f"M{LEFT + column.at} {upper - 0.5:.1f}h{reach:.1f}V{lower + 1:.1f}h-{reach:.1f}z")
    if path:
        drawing.parts.append(f'<path class="good" d="{"".join(path)}"/>')
    found = _losses(strip, axis)
    bars = [_bar(loss, strip, axis) for loss in found]
    drawing.outages += bars
    free = LEFT + 0.0
    for number, (loss, (x, width)) in enumerate(zip(found, bars, strict=True)):
        fill = drawing.fill(shown.BAD) if width > WIDE_BAR else ""
        drawing.parts.append(
            f'<g class="lost"><title>{text(loss.text)}</title><rect x="{x:.1f}" y="{top - 2:.0f}" '
            f'width="{width:.1f}" height="{height + 4}"{fill}/></g>'
        )
        after = bars[number + 1][0] if number + 1 < len(bars) else float(WIDTH)
        label = f"{loss.lost:,} lost"
        wide = _wide(label) + 6
        places = [at for at in (x + width + 2, x - wide - 2) if at >= free and at + wide <= after]
        if places and not x < places[0] < x + width:
            drawing.parts.append(
                f'<g class="lost"><rect class="ground" x="{places[0]:.1f}" y="{top + 1:.0f}" width="{wide:.0f}" '
                f'height="13"/><text class="count" x="{places[0] + 3:.1f}" y="{top + 11:.0f}">{label}</text></g>'
            )
        free = max([x + width, *(place + wide for place in places[:1])])
    drawing.y += STRIP


def _bar(loss: shown.Loss, strip: Strip, axis: Axis) -> tuple[float, float]:
    """Left edge and width: never too thin to be seen."""
    x = axis.x(loss.begin)
    width = max(axis.x(loss.end) + strip.probes.interval / axis.pixel - x, THIN_BAR)
    return x, min(width, LEFT + PLOT + THIN_BAR - x)


def _scale(power: int) -> str:
    return duration(10.0**power)


# Marks, axis and legend


def _labels(axis: Axis, marks: list[tuple[int, Done]]) -> tuple[list[str], int]:
    """Of the marks, and how many rows they take. They never overlap: without room it is a number, or is missing."""
    ends = [0.0] * MOST_ROWS
    found, rows = [], 1
    for number, done in marks:
        words = [_cut(f"{number} {done.text}", most) for most in MARK_LETTERS]
        place = _place(ends, axis.x(done.at), *words, str(number))
        if place is None:
            continue
        row, left, wide, label = place
        ends[row], rows = left + wide, max(rows, row + 1)
        anchor = f'x="{left + 2:.1f}"' if left + wide < WIDTH else f'x="{WIDTH - 2}" text-anchor="end"'
        found.append(
            f'<g class="label {done.step}"><title>{text(f"{offset(done.at)}: {done.text}")}</title>'
            f'<rect class="ground" x="{left:.1f}" y="{ROW * row}" width="{wide:.1f}" height="{ROW}"/>'
            f'<text {anchor} y="{ROW * row + 11}">{text(label)}</text></g>'
        )
    return found, rows


def _place(ends: list[float], x: float, *words: str) -> tuple[int, float, float, str] | None:
    """In the first row that has room: row, left edge, width and words."""
    for each in words:
        wide = BOLD * _wide(each) + 4
        left = min(x + 2, WIDTH - wide)
        for row, end in enumerate(ends):
            if left >= end:
                return row, left, wide, each
    return None


def _axis(drawing: _Drawing, top: float, bottom: float) -> None:
    axis, free = drawing.axis, 0.0
    for at, word in axis.ticks():
        x, half = axis.x(at), _wide(word) / 2
        drawing.behind.append(f'<path class="tick" d="M{x:.1f} {top:.0f}V{bottom + 4:.0f}"/>')
        x = min(x, WIDTH - half)
        if x - half >= free:
            drawing.parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 15:.0f}" text-anchor="middle">{word}</text>'
            )
            free = x + half + 6
    drawing.parts.append(f'<path class="axis" d="M{LEFT} {bottom:.0f}h{PLOT}"/>')
    drawing.parts.append(f'<text class="tick" x="10" y="{bottom + 15:.0f}">time from the fault</text>')


def _tick(at: float, step: float, axis: Axis) -> str:
    sign, seconds = "-" if at < 0 else "+", abs(at)
    if seconds < step / 2:
        return "0"
    if step < 1:
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        is_short = max(-axis.begin, axis.end) < 1
        return f"{sign}{seconds * 1000:.6g} ms" if is_short else f"{sign}{seconds:.{digits}f} s"
    whole = round(seconds)
    if step < 60:
        return f"{sign}{whole} s" if whole < 60 else f"{sign}{whole // 60}:{whole % 60:02} min"
    if step < 86400:
        return f"{sign}{whole // 60} min" if whole < 3600 else f"{sign}{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{sign}{whole // 86400} d"


def _legend(drawing: _Drawing) -> None:
    entries = [(f"node {number}", name) for number, name in enumerate(drawing.carriers.names)]
    x, y = 10.0, drawing.y
    for look, word in (*entries, *LEGEND_OF_STATES):
        words = _cut(word, 40)
        wide = 26 + _wide(words) + 10
        if x + wide > WIDTH and x > 10:
            x, y = 10.0, y + LEGEND
        kind = "carrier" if look.startswith("node ") else look
        inset = 3 if look == shown.LIGHT else 0
        drawing.parts.append(
            f'<g class="run key {kind}"><rect x="{x:.0f}" y="{y + inset:.0f}" width="20" height="{BAR - 2 * inset}"'
            f'{drawing.fill(look)}/></g><text class="key" x="{x + 26:.0f}" y="{y + 11:.0f}">{text(words)}</text>'
        )
        x += wide
    drawing.y = y + LEGEND


def _patterns(ident: str) -> str:
    """In black and white they differ too."""
    lines = {
        "bad": '<path class="i-bad" d="M0 8L8 0M-2 2L2 -2M6 10L10 6"/>',
        "weak": '<path class="i-weak" d="M2 0V8M6 0V8"/>',
        "n0": "",
        "n1": '<path class="i" d="M0 0L8 8M-2 6L2 10M6 -2L10 2"/>',
        "n2": '<circle class="d" cx="2" cy="2" r="1.3"/><circle class="d" cx="6" cy="6" r="1.3"/>',
        "n3": '<path class="i" d="M0 2H8M0 6H8"/>',
        "n4": '<path class="i" d="M2 0V8M6 0V8"/>',
        "n5": '<path class="i" d="M0 4H8M4 0V8"/>',
    }
    return "".join(
        f'<pattern id="{ident}-{name}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect class="g-{name}" width="8" height="8"/>{drawn}</pattern>'
        for name, drawn in lines.items()
    )


def _wide(words: str) -> float:
    """Pixels, on the safe side. Ideographs take two letters."""
    return sum(CAPITAL if letter.isupper() else 2 * LETTER if letter > "\u2e7f" else LETTER for letter in words)


def _cut(words: str, most: int) -> str:
    """As long as there is room for; what no screen shows is spelled out later, and takes room then."""
    shown_words = words if words.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)
    return shown_words if len(shown_words) <= most else f"{shown_words[: most - 1]}…"
