"""What a record says about a fault: each verdict is one sentence with the figure, and whether it holds.

Lost echoes alone prove nothing, because both nodes hold the address: who answered the requests counts as well.
"""

from dataclasses import dataclass, replace

from floatip.lab.network import ROUTER
from floatip.lab.record import OPEN_FOR_AT_MOST, Answer, Record
from floatip.observing.summary import KINDS, PLURAL, ProbeResult, Summary, Window

STILL_ON_THE_WAY = 0.05
"""Seconds in which packets that are on their way may still reach the node that has just handed over."""
AGREEMENT = 0.1
"""Seconds within which all route servers must have followed a change."""
TAKEOVER_MARGIN = 0.1
"""Seconds that a takeover may take beyond the detection of a silent master."""
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Verdict:
    holds: bool
    text: str


def limit(seconds: float, delayed: float) -> str:
    """The limit of a verdict, and why it is longer than usual if it is."""
    if delayed < 0.01:
        return f"limit {seconds:.3g} s"
    return f"limit {seconds + delayed:.3g} s: {seconds:.3g} s and {delayed:.2f} s without a CPU"


def ends_as(record: Record, node: str, role: str) -> Verdict:
    now = record.latest(node, "role")
    return Verdict(now == role, f"{node} is {now} at the end" + ("" if now == role else f", not {role}"))


def one_master(record: Record) -> Verdict:
    masters = record.masters
    return Verdict(len(masters) == 1, f"master at the end: {' and '.join(masters) or 'no node'}")


def was_done(answer: Answer, what: str = "") -> Verdict:
    """`what`: words that it must have said."""
    holds = answer.status == 0 and what in answer.text
    return Verdict(holds, f"{answer.command}: " + (what or "done") if holds else _odd(answer, what))


def was_refused(answer: Answer, why: str) -> Verdict:
    holds = answer.status == 1 and "refused" in answer.text and why in answer.text
    return Verdict(holds, f"{answer.command}: refused, because {why}" if holds else _odd(answer, why))


def _odd(answer: Answer, wanted: str) -> str:
    more = f", and not {wanted!r}" if wanted else ""
    return f"{answer.command}: status {answer.status}, {answer.text!r}{more}"


def changes_role(record: Record, after: float, most: int) -> list[Verdict]:
    """Each node, so often at most."""
    found = []
    for node in record.nodes:
        count = sum(event.at > after for event in record.of(node, "role"))
        found.append(Verdict(count <= most, f"{count} changes of role on {node} (at most {most})"))
    return found


def nothing_lost(seen: Summary, when: str = "", torn: int = 0) -> list[Verdict]:
    """`torn`: how many requests `seen` leaves out, because the move reset them."""
    found = []
    for kind in KINDS:
        lost = seen.lost(kind)
        text = f"{lost} of {seen.sent(kind)} {PLURAL[kind]} lost {when}".rstrip() + seen.errors_in_words(kind)
        if torn and kind == "request":
            text += f"; {torn} {'was' if torn == 1 else 'were'} reset by the move"
        found.append(Verdict(not lost, text))
    return found


def no_loss(record: Record) -> list[Verdict]:
    return nothing_lost(record.seen, torn=len(record.torn))


def handed_over(record: Record) -> list[Verdict]:
    """Where both nodes hold the address a handover costs nothing, else the skew time in which none does."""
    if record.options.shared_layer2:
        return lost_less_than(record, record.options.skew_time + TAKEOVER_MARGIN)
    return no_loss(record)


def lost_less_than(record: Record, bound: float, times: int = 1) -> list[Verdict]:
    """At most `times` outages, each shorter than `bound` seconds."""
    found: list[Verdict] = []
    for kind in KINDS:
        windows = _joined(record, record.seen.windows(kind))
        outages = " and ".join(f"{window.ms / 1000:.3f} s" for window in windows)
        delays = [record.delayed(w.first_lost_at, w.next_good_at or w.last_lost_at) for w in windows]
        short = all(window.ms / 1000 < bound + delay for window, delay in zip(windows, delays, strict=True))
        holds = len(windows) <= times and short and all(window.next_good_at for window in windows)
        lost = f"{PLURAL[kind]} lost for {outages} ({limit(bound, max(delays))})" if windows else f"no {kind} lost"
        found.append(Verdict(holds, lost if holds else lost + record.seen.errors_in_words(kind)))
    return found


def _joined(record: Record, windows: list[Window]) -> list[Window]:
    """A request that was open when the fault came is lost although some that were sent after it were not."""
    found: list[Window] = []
    for window in windows:
        if found and (good_at := found[-1].next_good_at):
            open_for = OPEN_FOR_AT_MOST + record.delayed(good_at, window.first_lost_at)
            if window.first_lost_at - good_at <= open_for:
                before = found.pop()
                found.append(replace(window, first_lost_at=before.first_lost_at, lost=before.lost + window.lost))
                continue
        found.append(window)
    return found


def answered_only_by(seen: Summary, node: str, after: float, event: str, until: float = FOREVER) -> Verdict:
    answers = _answers(seen, after, until)
    return _answered(answers, [probe for probe in answers if probe.who != node], node, after, event)


def moved_to(
    record: Record, node: str, at: float, event: str, until: float = FOREVER, within: float = STILL_ON_THE_WAY
) -> Verdict:
    """Only that node answers later than `within` seconds after `at`, and what the host delays may be later."""
    after = at + within
    answers = _answers(record.seen, after, until)
    wrong = [probe for probe in answers if probe.who != node]
    others = [probe for probe in wrong if probe.at >= after + record.delayed(at, probe.at)]
    found = _answered(answers, others, node, after, event)
    if not wrong or not found.holds:
        return found
    return Verdict(True, f"{found.text}, except {len(wrong)} while the lab had no CPU")


def _answers(seen: Summary, after: float, until: float) -> list[ProbeResult]:
    return [probe for probe in seen.between(after, until).probes if probe.ok and probe.who]


def _answered(answers: list[ProbeResult], others: list[ProbeResult], node: str, after: float, event: str) -> Verdict:
    if not answers:
        return Verdict(False, f"no node answered after {event}")
    if others:
        last = (max(probe.at for probe in others) - after) * 1000
        wrong = f"{len(others)} of {len(answers)} answers after {event} not from {node}"
        return Verdict(False, f"{wrong}, the last {last:.0f} ms too late")
    return Verdict(True, f"{node} gave all {len(answers)} answers after {event}")


def never_moves(record: Record, after: float, event: str, until: float = FOREVER) -> Verdict:
    moves = [change for change in record.routes[ROUTER] if after < change.at <= until]
    return Verdict(
        not moves, f"the traffic moved {len(moves)} times after {event}" if moves else f"no move after {event}"
    )


def happened_within(record: Record, what: str, then: float | None, seconds: float, at: float, event: str) -> Verdict:
    """`what` happened at `then` (None: never), at most so many seconds after the event at `at`."""
    if then is None:
        return Verdict(False, f"not seen: {what} after {event}")
    delayed = record.delayed(at, then)
    return Verdict(then - at < seconds + delayed, f"{what} {then - at:.3f} s after {event} ({limit(seconds, delayed)})")


def agreement(record: Record, after: float) -> list[Verdict]:
    """Each change reaches all four route servers in time, and they end at the same node."""
    servers = [host for host in record.routes if host != ROUTER]
    changes = sorted(change.at for server in servers for change in record.routes[server] if change.at > after)
    spread, delayed, start = 0.0, 0.0, -FOREVER
    for at in changes:
        if at - start > 1:
            start = at
        if at - start > spread:
            spread, delayed = at - start, record.delayed(start, at)
    ends = {record.pointed_at(server, FOREVER) or "no node" for server in servers}
    return [
        Verdict(
            spread <= AGREEMENT + delayed,
            f"all route servers followed each change within {spread:.3f} s ({limit(AGREEMENT, delayed)})",
        ),
        Verdict(len(ends) == 1, f"all route servers lead to {' or '.join(sorted(ends))} at the end"),
        Verdict(
            len(changes) <= len(servers), f"the best path changed {len(changes)} times at {len(servers)} route servers"
        ),
    ]


def becomes_standby(record: Record, node: str, after: float) -> Verdict:
    rank = record.first(node, "rank", "standby", after)
    return Verdict(rank is not None, f"{node} is announced as standby" if rank else f"{node} is not announced")


def starts_in_time(record: Record) -> Verdict:
    began, first = record.started_first_at, record.start_to_first_route
    delayed = max(record.delayed(began, began + first), record.start_delay)
    return Verdict(
        first < 1 + delayed,
        f"a route server had the first route {first:.2f} s after floatip started ({limit(1, delayed)})",
    )
