"""What is found after a scene: each finding one sentence with the figure, and whether it is as it must be."""

from dataclasses import dataclass

from floatip.lab.net import ROUTER
from floatip.lab.stage import NEXT_HOPS, Record, Stage
from floatip.lab.summary import RESET, Kind, Probe, Summary

KINDS: tuple[tuple[Kind, str], ...] = (("echo", "echoes"), ("request", "requests"))
OPEN_FOR_AT_MOST = 0.05
"""Seconds that one request may take, beside those for which the machine holds it up."""
AFTERTHOUGHT = 0.05
"""Seconds in which packets on the way may still reach the node that has just handed over."""
AGREEMENT = 0.1
"""Seconds within which all route servers must have followed a change."""


@dataclass(frozen=True, slots=True)
class Finding:
    holds: bool
    text: str


def last_role(record: Record, node: str) -> str:
    return [h.value for h in record.happenings if (h.host, h.what) == (node, "role")][-1]


def role(record: Record, node: str, role: str) -> Finding:
    is_now = last_role(record, node)
    return Finding(is_now == role, f"{node} is {is_now} in the end" + ("" if is_now == role else f", not {role}"))


def connections_torn(record: Record) -> set[Probe]:
    """Requests that were reset because they were open when the fabric moved: the other node does not know them.

    No address that moves can spare them, so they are told apart from what is lost.
    """
    moves = [move.at for move in record.moves[ROUTER]]
    resets = (probe for probe in record.probes if probe.error == RESET)
    return {probe for probe in resets if any(_was_open(record, probe, at) for at in moves)}


def _was_open(record: Record, probe: Probe, at: float) -> bool:
    """After a pause the observer sends what it missed at once, and one waits for another."""
    return probe.at <= at <= probe.at + OPEN_FOR_AT_MOST + probe.late + record.held_up(probe.at, at)


def allowance(held_up: float) -> str:
    """How a bound is put where the machine held its subject up; else nothing."""
    return f", beside {held_up * 1000:.0f} ms that the machine held it up" if held_up >= 0.01 else ""


def nothing_lost(seen: Summary, when: str = "") -> list[Finding]:
    found: list[Finding] = []
    for kind, plural in KINDS:
        lost = seen.lost(kind)
        found.append(Finding(not lost, f"{lost} of {seen.sent(kind)} {plural} lost {when}".rstrip() + why(seen, kind)))
    return found


def why(seen: Summary, kind: Kind) -> str:
    errors = ", ".join(f"{number} {error}" for error, number in seen.errors(kind).items())
    return f" ({errors})" if errors else ""


def lost_less_than(record: Record, seen: Summary, bound: float, times: int) -> list[Finding]:
    found: list[Finding] = []
    for kind, plural in KINDS:
        windows = seen.windows(kind)
        outages = ", ".join(f"{window.ms / 1000:.3f} s" for window in windows) or "nothing"
        held_up = [record.held_up(w.first_lost_at, w.next_good_at or w.last_lost_at) for w in windows]
        short = all(window.ms / 1000 < bound + held for window, held in zip(windows, held_up, strict=True))
        holds = len(windows) <= times and short
        text = f"{plural} lost for {outages} (master-down + 100 ms: {bound:.3f} s{allowance(max(held_up, default=0))})"
        found.append(Finding(holds, text if holds else text + why(seen, kind)))
    return found


def answered_only_by(seen: Summary, node: str, after: float, event: str, until: float = float("inf")) -> Finding:
    answers = _answers(seen, after, until)
    return _answered(answers, [probe for probe in answers if probe.who != node], node, after, event)


def moved_to(record: Record, seen: Summary, node: str, at: float, event: str, until: float = float("inf")) -> Finding:
    """Only that node answers from then on, but for what was on its way, or while the machine holds the move up."""
    after = at + AFTERTHOUGHT
    answers = _answers(seen, after, until)
    wrong = [probe for probe in answers if probe.who != node]
    others = [probe for probe in wrong if probe.at >= after + record.held_up(at, probe.at)]
    found = _answered(answers, others, node, after, event)
    return (
        Finding(True, f"{found.text}, but {len(wrong)} while the machine held it up")
        if wrong and found.holds
        else found
    )


def _answers(seen: Summary, after: float, until: float) -> list[Probe]:
    return [probe for probe in seen.probes if probe.ok and probe.who and after <= probe.at < until]


def _answered(answers: list[Probe], others: list[Probe], node: str, after: float, event: str) -> Finding:
    if not answers:
        return Finding(False, f"nobody answered after {event}")
    if others:
        last = (max(probe.at for probe in others) - after) * 1000
        return Finding(
            False, f"{len(others)} of {len(answers)} answers after {event} not by {node}, the last {last:.0f} ms late"
        )
    return Finding(True, f"{node} gave all {len(answers)} answers after {event}")


def never_moves(record: Record, after: float, event: str) -> Finding:
    moves = [move for move in record.moves[ROUTER] if move.at > after]
    return Finding(not moves, f"the fabric moves {len(moves)} times after {event}")


def agreement(record: Record, after: float) -> list[Finding]:
    """Each change reaches all four route servers in time, and they end at the same node."""
    servers = [host for host in record.moves if host != ROUTER]
    changes = sorted(
        (move.at, NEXT_HOPS.get(str(move.next_hop), "nobody")) for s in servers for move in record.moves[s]
    )
    changes = [change for change in changes if change[0] > after]
    spread, held_up, start = 0.0, 0.0, float("-inf")
    for at, _ in changes:
        if at - start > 1:
            start = at
        if at - start > spread:
            spread, held_up = at - start, record.held_up(start, at)
    ends = {record.pointed_at(server, float("inf")) for server in servers}
    return [
        Finding(
            spread <= AGREEMENT + held_up,
            f"route servers follow a change within {spread * 1000:.1f} ms (100 allowed{allowance(held_up)})",
        ),
        Finding(len(ends) == 1, f"all route servers end at {', '.join(sorted(ends))}"),
        Finding(len(changes) <= len(servers), f"{len(changes)} changes of best path at {len(servers)} route servers"),
    ]


def announced(stage: Stage, node: str, after: float) -> Finding:
    rank = stage.record.first(node, "rank", "standby", after)
    return Finding(rank is not None, f"{node} is announced as standby" if rank else f"{node} is not announced")
