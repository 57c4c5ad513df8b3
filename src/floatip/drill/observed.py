"""What a report's probes and events say, in sentences: what was lost, who answered, and who took over. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from floatip.drill.report import Probes, Report, Seen
from floatip.observing.summary import KINDS, PLURAL, Kind, Summary, Window

MOST_WINDOWS = 8
"""Of a kind of probe, each with a sentence."""
MOST_MOVES = 12
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    is_loss: bool = False


@dataclass(frozen=True, slots=True)
class Observations:
    title: str
    sentences: tuple[Sentence, ...]


def observations(report: Report) -> list[Observations]:
    found = [_of_probes(one) for one in report.probes]
    if taken := tuple(Sentence(text) for text in _takeovers(report)):
        found.append(Observations("what the nodes said", taken))
    return found


def _of_probes(probes: Probes) -> Observations:
    seen = Summary(probes.results)
    title = f"what {probes.observer} saw of {probes.address} port {probes.port}, every {duration(probes.interval)}"
    return Observations(title, tuple(_sentences(seen, probes)))


def _sentences(seen: Summary, probes: Probes) -> Iterator[Sentence]:
    if not seen.probes:
        yield Sentence("no probe was sent")
        return
    for kind in KINDS:
        if seen.sent(kind):
            yield from _of_kind(seen, kind)
    answers = ", ".join(f"{who} {count:,}" for who, count in seen.answers().items())
    yield Sentence(f"answered: {answers}" if answers else "no answer named its node")
    moves = seen.moves()
    for move in moves[:MOST_MOVES]:
        yield Sentence(f"{offset(move.at)}: moved from {move.source} to {move.destination}")
    if len(moves) > MOST_MOVES:
        yield Sentence(f"and {len(moves) - MOST_MOVES} more moves")
    if alike := seen.answered_alike:
        yield Sentence(f"all answers carry one name, {alike[0]} ({alike[1]}): a move would not be seen")
    accuracy = f"each probe was sent at most {duration(seen.late_max)} late"
    if probes.uncertainty:
        accuracy += f"; the observer's clock is known to {duration(probes.uncertainty)}"
    yield Sentence(accuracy)


def _of_kind(seen: Summary, kind: Kind) -> Iterator[Sentence]:
    lost, p50, p99 = seen.lost(kind), seen.rtt(kind, 50), seen.rtt(kind, 99)
    told = f"{seen.sent(kind):,} {PLURAL[kind]} sent, {lost:,} lost{seen.errors_in_words(kind)}"
    if p50 is not None and p99 is not None:
        told += f"; round trip {duration(p50)} in the median, {duration(p99)} at the 99th percentile"
    yield Sentence(told, bool(lost))
    windows = seen.windows(kind)
    longest = sorted(windows, key=lambda window: -window.ms)[:MOST_WINDOWS]
    for window in windows:
        if window in longest:
            yield Sentence(_outage(window), True)
    if (rest := len(windows) - MOST_WINDOWS) > 0:
        yield Sentence(f"and {plurals(rest, 'outage')} no longer than these", True)


def _outage(window: Window) -> str:
    lost = f"{offset(window.first_lost_at)}: {window.lost:,} lost{' in a row' if window.lost > 1 else ''}"
    if window.next_good_at is None:
        return f"{lost}, and nothing was answered after that"
    return f"{lost}, for {duration(window.ms / 1000)}"


def _takeovers(report: Report) -> Iterator[str]:
    for seen in changes(report):
        who = f"{seen.node}, as {seen.source} heard," if seen.source else seen.node
        because = f": {seen.reason}" if seen.reason else ""
        if seen.what == "role":
            yield f"{offset(seen.at)}: {who} became {seen.value.upper()} of {seen.name}{because}"
        elif seen.what == "takeover":
            yield f"{offset(seen.at)}: takeover of {seen.name} by {who} {seen.value.replace('-', ' ')}{because}"


def changes(report: Report) -> list[Seen]:
    """Without what was so at the start, and without what is said twice."""
    known: dict[tuple[str, ...], str] = {}
    found = []
    for seen in sorted(report.seen, key=lambda seen: seen.at):
        key = seen.node, seen.what, seen.name, seen.source
        before = known.get(key)
        known[key] = seen.value
        if before is None and seen.at <= report.starts:
            continue
        if before != seen.value or seen.what == "takeover":
            found.append(seen)
    return found


def longest_outage(report: Report) -> float | None:
    """Seconds, of any observer; None: nothing was probed."""
    kinds = [(Summary(one.results), kind) for one in report.probes if one.results for kind in KINDS]
    if not kinds:
        return None
    return max((window.ms / 1000 for seen, kind in kinds for window in seen.windows(kind)), default=0.0)


def totals(report: Report) -> tuple[int, int]:
    """Probes sent and lost, of all observers."""
    return sum(len(one.results) for one in report.probes), sum(
        not probe.ok for one in report.probes for probe in one.results
    )


def plurals(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def offset(at: float) -> str:
    """Seconds from the fault, as +0.312 s, -1 min 02.5 s, +2 h 03 min 04 s."""
    sign, seconds = "-" if at < 0 else "+", abs(at)
    if round(seconds, 3) < MINUTE:
        return f"{sign}{seconds:.3f} s"
    if round(seconds, 1) < HOUR:
        tenths = round(seconds * 10)
        return f"{sign}{tenths // 600} min {tenths % 600 / 10:04.1f} s"
    whole = round(seconds)
    return f"{sign}{whole // HOUR} h {whole % HOUR // MINUTE:02} min {whole % MINUTE:02} s"


def duration(seconds: float) -> str:
    """As 312 ms, 5 ms, 0.3 ms, 2.5 s, 3 min 20 s."""
    if seconds < 0.01:
        return f"{seconds * 1000:.2g} ms"
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 2) < MINUTE:
        return f"{seconds:.3g} s"
    return offset(seconds).removeprefix("+").replace(".0 s", " s")
