"""What is found after a scene: each finding one sentence with the figure, and whether it is as it must be."""

from dataclasses import dataclass

from floatip.lab.net import ROUTER
from floatip.lab.stage import NEXT_HOPS, Record, Stage
from floatip.lab.summary import RESET, Kind, Probe, Summary

KINDS: tuple[tuple[Kind, str], ...] = (("echo", "echoes"), ("request", "requests"))
OPEN_FOR_AT_MOST = 0.05
"""Seconds that one request may take on a busy machine."""
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
    return {probe for probe in resets if any(probe.at <= at <= probe.at + OPEN_FOR_AT_MOST for at in moves)}


def nothing_lost(seen: Summary, when: str = "") -> list[Finding]:
    found: list[Finding] = []
    for kind, plural in KINDS:
        lost = seen.lost(kind)
        found.append(Finding(not lost, f"{lost} of {seen.sent(kind)} {plural} lost {when}".rstrip() + why(seen, kind)))
    return found


def why(seen: Summary, kind: Kind) -> str:
    errors = ", ".join(f"{number} {error}" for error, number in seen.errors(kind).items())
    return f" ({errors})" if errors else ""


def lost_less_than(seen: Summary, bound: float, times: int) -> list[Finding]:
    found: list[Finding] = []
    for kind, plural in KINDS:
        windows = seen.windows(kind)
        outages = ", ".join(f"{window.ms / 1000:.3f} s" for window in windows) or "nothing"
        holds = len(windows) <= times and all(window.ms / 1000 < bound for window in windows)
        text = f"{plural} lost for {outages} (master-down + 100 ms: {bound:.3f} s)"
        found.append(Finding(holds, text if holds else text + why(seen, kind)))
    return found


def answered_only_by(seen: Summary, node: str, after: float, event: str, until: float = float("inf")) -> Finding:
    answers = [probe for probe in seen.probes if probe.ok and probe.who and after <= probe.at < until]
    others = [probe for probe in answers if probe.who != node]
    if not answers:
        return Finding(False, f"nobody answered after {event}")
    if others:
        last = (others[-1].at - after) * 1000
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
    spread, start = 0.0, float("-inf")
    for at, _ in changes:
        if at - start > 1:
            start = at
        spread = max(spread, at - start)
    ends = {record.pointed_at(server, float("inf")) for server in servers}
    return [
        Finding(spread <= AGREEMENT, f"route servers follow a change within {spread * 1000:.1f} ms (100 allowed)"),
        Finding(len(ends) == 1, f"all route servers end at {', '.join(sorted(ends))}"),
        Finding(len(changes) <= len(servers), f"{len(changes)} changes of best path at {len(servers)} route servers"),
    ]


def announced(stage: Stage, node: str, after: float) -> Finding:
    rank = stage.record.first(node, "rank", "standby", after)
    return Finding(rank is not None, f"{node} is announced as standby" if rank else f"{node} is not announced")
