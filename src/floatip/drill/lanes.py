"""What the picture of a report shows: lanes of runs of equal states, and strips of probes, one column a pixel. Pure."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

from floatip.drill.observed import changes, duration, offset
from floatip.drill.report import Probes, Report, Seen
from floatip.observing.summary import KINDS, PLURAL, Kind, MoveDetector, ProbeResult

MOST_WHOLE = 4
"""Nodes: of more, one that does not change has one lane instead of all."""
MOST_CHECKS = 6
"""Of a node."""
STRONG, LIGHT, WEAK, BAD, NONE = "strong", "light", "weak", "bad", "none"
"""How a state looks."""
LOOKS = {
    "role": {"master": STRONG, "backup": LIGHT, "fault": BAD},
    "rank": {
        "active": STRONG,
        "takeover": STRONG,
        "takeover-again": STRONG,
        "standby": LIGHT,
        "last-resort": WEAK,
    },
    "check": {"up": LIGHT, "down": BAD},
    "health": {"up": LIGHT, "down": BAD},
    "node": {"alive": LIGHT, "in service": LIGHT, "resumed": LIGHT, "silent": BAD, "gone": BAD, "refused": BAD},
    "session": {"up": LIGHT, "down": BAD},
    "address": {"held": LIGHT, "found": LIGHT, "lost": BAD},
}
DRAWN = ("role", "rank", "check", "session", "address", "node", "order")
"""In this order."""
STOPPED = "not running"
ALWAYS = ("role", "rank", "check", "session")
"""Others are drawn if they change."""


@dataclass(frozen=True, slots=True)
class Run:
    begin: float
    end: float
    look: str
    """One of the above, or `node N`: the N-th node that carries the address."""
    word: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Probes that were sent in the time of one pixel."""

    at: int
    sent: int
    lost: int
    low: float | None
    """Round trip in seconds, the shortest and the longest; None: not known."""
    high: float | None


@dataclass(frozen=True, slots=True)
class Strip:
    kind: Kind
    probes: Probes

    def results(self, begin: float, end: float) -> list[ProbeResult]:
        return [probe for probe in self.probes.results if probe.kind == self.kind and begin <= probe.at <= end]


@dataclass(slots=True)
class Lane:
    label: str
    runs: list[Run] = field(default_factory=list)
    strip: Strip | None = None

    def changes(self, begin: float, end: float) -> bool:
        return any(begin < run.begin < end for run in self.runs[1:])


@dataclass(slots=True)
class Group:
    title: str
    lanes: list[Lane]
    is_node: bool = False


def groups(report: Report) -> list[Group]:
    carriers = Carriers(report)
    found = [_of_probes(one, report, carriers) for one in report.probes if one.results]
    if routes := _routes(report, carriers):
        found.append(Group("where routes lead", routes))
    by_node: dict[str, list[Seen]] = {node: [] for node in report.nodes}
    for one in report.seen:
        by_node.setdefault(one.node, []).append(one)
    calm = Group("nodes that did not change", [], is_node=True)
    for node, seen in by_node.items():
        lanes = list(_lanes(node, sorted(seen, key=lambda one: one.at), report))
        if not lanes:
            lanes = [Lane("not known", [Run(report.starts, report.ends, NONE, "this node said nothing")])]
        elif len(by_node) > MOST_WHOLE and not any(lane.changes(report.starts, report.ends) for lane in lanes):
            words = ", ".join(f"{lane.label} {lane.runs[-1].word}" for lane in lanes)
            calm.lanes.append(Lane(node, [Run(report.starts, report.ends, lanes[0].runs[-1].look, words)]))
            continue
        found.append(Group(node, lanes, is_node=True))
    return [*found, calm] if calm.lanes else found


class Carriers:
    """Which node has which look: in the order of the configuration, then of their answers."""

    def __init__(self, report: Report) -> None:
        seen = {probe.who: None for one in report.probes for probe in one.results if probe.ok and probe.who}
        seen |= {route.node: None for route in report.routes if route.node}
        self.names = [node for node in report.nodes if node in seen]
        self.names += [str(name) for name in seen if name not in report.nodes]
        self._looks = {name: f"node {number}" for number, name in enumerate(self.names)}

    def look(self, name: str) -> str:
        return self._looks[name]


def _of_probes(probes: Probes, report: Report, carriers: Carriers) -> Group:
    kinds = [kind for kind in KINDS if any(probe.kind == kind for probe in probes.results)]
    lanes = [Lane(PLURAL[kind], strip=Strip(kind, probes)) for kind in kinds]
    if runs := list(_answered(probes, report, carriers)):
        lanes.append(Lane("answered by", runs))
    title = f"{probes.observer} probes {probes.address} port {probes.port} every {duration(probes.interval)}"
    return Group(title, lanes)


def _answered(probes: Probes, report: Report, carriers: Carriers) -> Iterator[Run]:
    """A run ends with the last answer of its node: while nobody answers there is none."""
    detector = MoveDetector()
    answers: list[ProbeResult] = []
    for probe in probes.results:
        moved = detector.follow(probe)
        if moved or (not probe.ok and answers):
            yield from _run_of(answers, moved.at if moved else answers[-1].at + probes.interval, carriers)
            answers = []
        if detector.latest is probe:
            answers.append(probe)
    if answers:
        yield from _run_of(answers, min(report.ends, answers[-1].at + probes.interval), carriers)


def _run_of(answers: list[ProbeResult], end: float, carriers: Carriers) -> Iterator[Run]:
    if answers and (who := answers[0].who):
        yield Run(answers[0].at, max(end, answers[0].at), carriers.look(who), who, f"{len(answers):,} answers")


def _routes(report: Report, carriers: Carriers) -> list[Lane]:
    by_host: dict[str, list[tuple[float, str]]] = {}
    for route in sorted(report.routes, key=lambda route: route.at):
        by_host.setdefault(route.host, []).append((route.at, route.node))
    lanes = []
    for host, points in by_host.items():
        found = [
            Run(max(begin, report.starts), end, carriers.look(node) if node else NONE, node or "no route")
            for begin, end, node in _spans(points, report.ends)
        ]
        lanes.append(Lane(host, found))
    return lanes


def _spans(points: list[tuple[float, str]], ends: float) -> Iterator[tuple[float, float, str]]:
    """Runs of equal values; `points` in order of time."""
    first = [next(same) for _, same in groupby(points, key=lambda point: point[1])]
    for number, (at, value) in enumerate(first):
        end = first[number + 1][0] if number + 1 < len(first) else ends
        if end > at or number + 1 == len(first):
            yield at, end, value


def _lanes(node: str, seen: list[Seen], report: Report) -> Iterator[Lane]:
    by_what: dict[tuple[str, str, str], list[Seen]] = {}
    for one in seen:
        if one.what == "daemon" and not one.source and one.value.startswith("stopped"):
            for points in by_what.values():
                if not points[0].source:
                    points.append(replace(points[0], at=one.at, value=STOPPED, reason=one.reason))
        elif one.what in DRAWN:
            by_what.setdefault((one.what, one.name, one.source), []).append(one)
    instances = {name for what, name, _ in by_what if what == "role"}
    sources = list(dict.fromkeys(source for _, _, source in by_what))
    for source in sorted(sources):  # what it says of itself comes first
        mine = {(what, name): points for (what, name, by), points in by_what.items() if by == source}
        for what in DRAWN:
            lanes = {name: _runs(points, report) for (kind, name), points in mine.items() if kind == what}
            if source:
                lanes = {
                    name: runs for name, runs in lanes.items() if not _says(by_what.get((what, name, "")), runs, report)
                }
            said_by = f" ({source} says)" if source else ""
            for lane in _of_kind(what, lanes, said_by, len(instances) > 1, report):
                yield replace(lane, label="orders") if lane.label == f"hears {node}" else lane


def _says(points: list[Seen] | None, runs: list[Run], report: Report) -> bool:
    """Whether the node itself says the same."""
    return points is not None and [run.word for run in _runs(points, report)] == [run.word for run in runs]


def _of_kind(what: str, lanes: dict[str, list[Run]], by: str, several: bool, report: Report) -> Iterator[Lane]:
    if what == "session" and lanes:
        yield Lane(f"sessions{by}", _together(lanes, report))
        return
    if what not in ALWAYS:
        lanes = {name: runs for name, runs in lanes.items() if len(runs) > 1}
    if what == "check" and len(lanes) > MOST_CHECKS:
        lanes = dict(sorted(lanes.items(), key=lambda item: -len(item[1]))[:MOST_CHECKS])
    for name, runs in lanes.items():
        named = {"role": several, "rank": several}.get(what, True)
        label = {"node": "hears", "order": "order"}.get(what, what)
        yield Lane(f"{label} {name}{by}" if named else f"{label}{by}", runs)


def _runs(points: list[Seen], report: Report) -> list[Run]:
    reasons = {point.at: point.reason for point in points}
    what = points[0].what
    found = []
    for begin, end, value in _spans([(point.at, point.value) for point in points], report.ends):
        word = value.upper() if what == "role" and value != STOPPED else value
        look = LOOKS.get(what, {}).get(value, WEAK if what in ("node", "order") and value != STOPPED else NONE)
        found.append(Run(max(begin, report.starts), max(end, report.starts), look, word, reasons[begin]))
    return found


def _together(lanes: dict[str, list[Run]], report: Report) -> list[Run]:
    """How many sessions are up, as one lane."""
    edges = sorted({run.begin for runs in lanes.values() for run in runs} | {report.starts})
    points = []
    for at in edges:
        if all(any(run.begin <= at < run.end and run.word == STOPPED for run in runs) for runs in lanes.values()):
            points.append((at, STOPPED))
            continue
        up = sum(any(run.begin <= at < run.end and run.word == "up" for run in runs) for runs in lanes.values())
        points.append((at, f"{up} of {len(lanes)} up"))
    last = f"{len(lanes)} of {len(lanes)} up"
    looks = {last: LIGHT, f"0 of {len(lanes)} up": BAD, STOPPED: NONE}
    return [Run(begin, end, looks.get(value, WEAK), value) for begin, end, value in _spans(points, report.ends)]


def columns(probes: Iterable[ProbeResult], begin: float, end: float, width: int) -> list[Column]:
    """One a pixel, in order; a pixel in whose time no probe was sent has none."""
    by_pixel: dict[int, list[ProbeResult]] = {}
    scale = width / (end - begin)
    for probe in probes:
        by_pixel.setdefault(min(width - 1, max(0, int((probe.at - begin) * scale))), []).append(probe)
    found = []
    for at, sent in sorted(by_pixel.items()):
        rtts = [probe.rtt for probe in sent if probe.ok and probe.rtt is not None]
        lost = sum(not probe.ok for probe in sent)
        found.append(Column(at, len(sent), lost, min(rtts, default=None), max(rtts, default=None)))
    return found


@dataclass(frozen=True, slots=True)
class Loss:
    """Probes that were lost in a row, or so close to each other that the picture cannot tell."""

    begin: float
    end: float
    """When the last of them was sent."""
    lost: int
    text: str


def losses(strip: Strip, begin: float, end: float, pixel: float) -> list[Loss]:
    rows: list[list[ProbeResult]] = []
    was_lost = False
    for probe in strip.results(begin, end):
        if not probe.ok:
            if rows and (was_lost or probe.at - rows[-1][-1].at <= 2 * pixel):
                rows[-1].append(probe)
            else:
                rows.append([probe])
        was_lost = not probe.ok
    return [Loss(row[0].at, row[-1].at, len(row), _loss_text(row)) for row in rows]


def _loss_text(row: list[ProbeResult]) -> str:
    errors = ", ".join(dict.fromkeys(probe.error or "unknown" for probe in row))
    until = f" to {offset(row[-1].at)}" if len(row) > 1 else ""
    return f"{len(row):,} lost, {offset(row[0].at)}{until}: {errors}"


def decades(strips: Iterable[list[Column]]) -> tuple[int, int]:
    """Powers of ten, in seconds, between which all round trips lie; as (-4, -1)."""
    known = [rtt for each in strips for column in each for rtt in (column.low, column.high) if rtt]
    low, high = (min(known), max(known)) if known else (0.001, 0.001)
    return math.floor(math.log10(low)), max(math.floor(math.log10(low)) + 1, math.ceil(math.log10(high)))


AROUND = 0.25
"""Of the time from the first to the last that happened: so much is shown before and after it."""
SHORTEST, LONGEST_PART = 0.4, 0.4
"""The closeup: seconds at least, and the part of the whole at most."""
ONE_EVENT = 0.8
"""Seconds: what follows within this time belongs to what it follows."""


MOVES = ("role", "rank", "takeover")
"""What a closer look is for."""


def closeup(report: Report) -> tuple[float, float] | None:
    """The time around the fault in which the traffic moved; None: the whole shows it well."""
    if not report.starts <= 0 <= report.ends:
        return None
    times = [seen.at for seen in changes(report) if seen.what in MOVES] + [route.at for route in report.routes]
    times += [probe.at for one in report.probes for probe in one.results if not probe.ok]
    last = 0.0
    for at in sorted(at for at in times if at > 0):
        if last and at - last > ONE_EVENT:
            break
        last = at
    if last == 0:
        return None
    margin = max(AROUND * last, (SHORTEST - last) / 2)
    begin, end = max(-margin, report.starts), min(last + margin, report.ends)
    return (begin, end) if end - begin <= LONGEST_PART * (report.ends - report.starts) else None
