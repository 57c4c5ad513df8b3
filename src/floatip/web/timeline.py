"""Who carried which instance in the last day, as one SVG: a lane per instance, and in it a rectangle per run of a role.

Positions across are percentages, so that the day fills any screen and its letters keep their size. The history of one
node says what this node was; who carried the instance meanwhile is known of now only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from floatip.core.state import ChangeView, InstanceView
from floatip.web.markup import few, text

DAY = timedelta(days=1)
ALIKE = timedelta(seconds=5)
"""Instances whose roles changed alike, within this time, share a lane."""
MOST_LANES = 40
MOST_RUNS = 200
"""In a lane: who flaps more often than that is drawn for the latest part of the day."""
NAMED = 3
"""How many instances of a lane its label names."""
TOP, LANE, LABEL, BAR = 22, 42, 14, 18
"""Pixels: the hours, a lane, its label and its bar."""
ROOM_FOR_WORDS = 4.0
"""Per cent of the day: a shorter run has no words in it."""
UNKNOWN = "unknown"
LONG_AGO = datetime.min.replace(tzinfo=UTC)
LOOKS = {"master": "here", "backup": "there", "fault": "fault"}
"""Classes of the style sheet. What is in none of them looks unknown."""
STOPPED = "stopped"
WORDS = {
    "master": "carried here",
    "backup": "backup here",
    "fault": "fault here",
    "init": "starting",
    STOPPED: "floatip was stopped",
    UNKNOWN: "not known",
}


@dataclass(frozen=True, slots=True)
class Run:
    start: datetime
    end: datetime
    role: str
    reason: str
    is_cut: bool = False
    """The daemon ended without a word, at an unknown time in it: killed, or the machine lost its power."""


@dataclass(frozen=True, slots=True)
class Point:
    at: datetime
    before: str
    role: str
    reason: str
    is_cut: bool = False
    """See `Run`: what was before it."""


def draw(
    instances: Sequence[InstanceView], changes: Iterable[ChangeView], carriers: dict[str, str], here: str, now: datetime
) -> str:
    """`changes`: the history, oldest first. `carriers`: who carries each instance now, as a person reads it."""
    lanes = _lanes(instances, changes, now)
    hidden = len(lanes) - MOST_LANES
    drawn = "".join(
        _lane(names, runs, carriers, here, now, TOP + number * LANE)
        for number, (names, runs) in enumerate(lanes[:MOST_LANES])
    )
    height = TOP + LANE * min(len(lanes), MOST_LANES)
    said = "; ".join(
        f"{few(names, NAMED)}: {WORDS.get(runs[-1].role, runs[-1].role)} since {_moment(runs[-1].start, now)}, "
        f"{_times(len(runs) - 1)}"
        for names, runs in lanes[:MOST_LANES]
    )
    rest = f"<p>{hidden} more lanes are not drawn.</p>" if hidden > 0 else ""
    return (
        f'<svg id="day-svg" class="day" role="img" aria-labelledby="day-name day-said" width="100%" height="{height}" '
        'xmlns="http://www.w3.org/2000/svg">'
        f'<title id="day-name">What {text(here)} was to each instance in the last 24 hours</title>'
        f'<desc id="day-said">{text(said)}. The changes are listed below.</desc>'
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="fault-ground" width="6" height="6"/><rect class="fault-line" width="2" height="6"/></pattern>'
        f"</defs>{_hours(now, height)}{drawn}</svg>{rest}"
    )


def _times(changes: int) -> str:
    return f"{changes} change{'s' * (changes != 1)} in the day"


def _lanes(
    instances: Sequence[InstanceView], changes: Iterable[ChangeView], now: datetime
) -> list[tuple[list[str], list[Run]]]:
    """The names and the runs of each: those that changed come first."""
    by_name: dict[str, list[Point]] = {instance.name: [] for instance in instances}
    known = ((at, change) for change in changes if (at := moment(change.time)) and at <= now)
    was_stopped = True
    for at, change in sorted(known, key=lambda each: each[0]):
        if change.what == "role" and change.name in by_name:
            by_name[change.name].append(Point(at, change.before, change.value, change.reason))
        elif change.what == "daemon":
            is_start = change.value == "started"
            point = Point(at, "", UNKNOWN if is_start else STOPPED, change.reason, is_start and not was_stopped)
            was_stopped = not is_start
            for points in by_name.values():
                points.append(point)
    lanes: list[tuple[list[str], list[Run]]] = []
    by_roles: dict[tuple[str, ...], list[tuple[list[str], list[Run]]]] = {}
    for instance in instances:
        runs = _runs(instance, by_name[instance.name], now)
        candidates = by_roles.setdefault(tuple(run.role for run in runs), [])
        lane = next((lane for lane in candidates if _are_alike(lane[1], runs)), None)
        if lane is None:
            lane = [], runs
            candidates.append(lane)
            lanes.append(lane)
        lane[0].append(instance.name)
    return sorted(lanes, key=lambda lane: len(lane[1]) == 1)


def _are_alike(runs: list[Run], others: list[Run]) -> bool:
    return all(abs(run.start - other.start) < ALIKE for run, other in zip(runs, others, strict=True))


def _runs(instance: InstanceView, points: list[Point], now: datetime) -> list[Run]:
    """The whole day, without a gap. `points` are in order. The current role is what the status says."""
    begin = now - DAY
    role = instance.role
    first = Point(LONG_AGO, "", (points[0].before if points else "") or UNKNOWN, "")
    points = [first, *points]
    if points[-1].role != role.value:
        since = now - timedelta(seconds=min(role.for_, DAY.total_seconds()))
        points.append(Point(max(since, points[-1].at), "", role.value, role.reason))
    runs: list[Run] = []
    for point, after in pairwise([*points, Point(now, "", "", "")]):
        if after.at <= begin or after.at <= point.at:
            continue
        if runs and runs[-1].role == point.role and not runs[-1].is_cut:
            runs[-1] = replace(runs[-1], end=after.at, is_cut=after.is_cut)
        else:
            runs.append(Run(max(point.at, begin), after.at, point.role, point.reason, after.is_cut))
    if len(runs) > MOST_RUNS:
        earlier = len(runs) - MOST_RUNS
        runs = [Run(begin, runs[earlier].start, f"{earlier} changes, not drawn", ""), *runs[earlier:]]
    return runs or [Run(begin, now, role.value, role.reason)]


def moment(time: str) -> datetime | None:
    """A file may say anything."""
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _moment(at: datetime, now: datetime) -> str:
    return "before" if at <= now - DAY else f"{at:%H:%M:%S}"


def _across(at: datetime, now: datetime) -> float:
    """Per cent of the day."""
    return 100 * (at - (now - DAY)) / DAY


def _hours(now: datetime, height: int) -> str:
    hour = now.replace(minute=0, second=0, microsecond=0)
    ticks = []
    for hours in range(24):
        at = hour - timedelta(hours=hours)
        if at.hour % 3:
            continue
        across = _across(at, now)
        kind = "tick" if at.hour % 6 == 0 else "tick odd"
        ticks.append(f'<line class="{kind}" x1="{across:.2f}%" x2="{across:.2f}%" y1="{TOP - 6}" y2="{height}"/>')
        if 3 < across < 97:
            ticks.append(f'<text class="{kind}" x="{across:.2f}%" y="12" text-anchor="middle">{at:%H:%M}</text>')
    return "".join(ticks)


def _lane(names: list[str], runs: list[Run], carriers: dict[str, str], here: str, now: datetime, top: int) -> str:
    label = few(names, NAMED)
    known = {carriers.get(name, "") for name in names}
    carrier = known.pop() if len(known) == 1 else ""
    parts = [f'<text class="lane" x="0" y="{top + LABEL - 3}">{text(label)}</text>']
    for run in runs:
        is_now = run is runs[-1]
        words = {"master": here, "backup": carrier if is_now and carrier else WORDS["backup"]}.get(
            run.role, WORDS.get(run.role, run.role)
        )
        start, width = _across(run.start, now), 100 * (run.end - run.start) / DAY
        until = "now" if is_now else f"{run.end:%H:%M:%S}"
        title = f"{label}: {WORDS.get(run.role, run.role)}, from {_moment(run.start, now)} until {until}"
        title += f": {run.reason}" if run.reason else ""
        title += "; at an unknown time in it floatip was killed, or the machine stopped" if run.is_cut else ""
        inside = f'<text x="5" y="13">{text(words)}</text>' if width > ROOM_FOR_WORDS else ""
        parts.append(
            f'<svg x="{start:.3f}%" y="{top + LABEL}" width="{width:.3f}%" height="{BAR}" '
            f'class="{LOOKS.get(run.role, UNKNOWN)}{" cut" if run.is_cut else ""}"><title>{text(title)}</title>'
            f'<rect width="100%" height="{BAR}"/>{inside}</svg>'
        )
        if run is not runs[0]:
            parts.append(
                f'<line class="change" x1="{start:.3f}%" x2="{start:.3f}%" y1="{top + LABEL - 4}" '
                f'y2="{top + LABEL + BAR + 3}"/>'
            )
    return "".join(parts)
