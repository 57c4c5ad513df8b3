"""What checks say of an instance: whether it can serve, and what is added to its priority (keepalived.conf(5)).

A check without a result neither adds nor takes off anything. Where its failure is a fault, the instance waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from floatip.core.health import CheckState, Health, combine
from floatip.core.settings import Election, Track, Vrrp

OWNER = 255
"""The priority of an owner of the addresses, which no check changes."""
FAULT_AT = -254
"""A number of a file, times its weight, that is a fault (`track_file`)."""
MOST = 253


@dataclass(frozen=True, slots=True)
class Verdict:
    health: Health
    reason: str
    shift: int = 0
    """What is added to the priority."""
    why: str = ""
    """As ` - 20 (check web is down) + 5 (check dns is up)`, which stands behind the priority."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """All that an instance has, with what its sync group adds."""

    checks: tuple[CheckState, ...] = ()
    tracks: tuple[tuple[Track, CheckState], ...] = ()

    def judge(self) -> Verdict:
        health, reason = combine(self.checks)
        if not self.tracks:
            return Verdict(health, reason)
        faults = [fault for track, check in self.tracks if (fault := _fault(track, check))]
        if not self.checks:
            reason = "no check can make it unhealthy" if not faults else faults[0][1]
        for worst in (Health.DOWN, Health.UNKNOWN):
            if health is worst:
                break
            if found := next((fault for fault in faults if fault[0] is worst), None):
                health, reason = found
                break
        shifts = [(by, why) for track, check in self.tracks if (by := shift(track, check)) for why in [_why(check)]]
        signed = (f" {'+' if by > 0 else '-'} {abs(by)} ({why})" for by, why in shifts)
        return Verdict(health, reason, sum(by for by, _ in shifts), "".join(signed))


def why_priority(election: Election, verdict: Verdict) -> str:
    """As `100 - 20 (check web is down)`; empty: no check changes it."""
    if not isinstance(election, Vrrp) or election.priority == OWNER or not verdict.shift:
        return ""
    return f"{election.priority}{verdict.why}"


def shift(track: Track, check: CheckState, health: Health | None = None) -> int:
    """What the check adds to the priority; with another `health` than its own, if it had that."""
    weight = -track.weight if track.reverse else track.weight
    if check.value is not None and health is None:
        return max(min(check.value * weight, MOST), FAULT_AT)
    counts = Health.UP if track.weight > 0 else Health.DOWN
    return weight if (health or check.health) is counts else 0


def is_fault(track: Track) -> bool:
    """Whether it is its verdict that matters, and not the priority."""
    return track.weight == 0


def _fault(track: Track, check: CheckState) -> tuple[Health, str] | None:
    """None: it can be none."""
    name = check.config.name
    if is_fault(track):
        if not track.reverse:
            return check.health, f"check {name}: {check.reason}"
        turned = {Health.UP: Health.DOWN, Health.DOWN: Health.UP}
        return turned.get(check.health, Health.UNKNOWN), f"check {name} is {check.health.value}: {check.reason}"
    if check.value is None or (by := shift(track, check)) > FAULT_AT:
        return None
    return Health.DOWN, f"check {name}: {check.value} times its weight is {by} or less, which is a fault"


def _why(check: CheckState) -> str:
    state = f"is {check.health.value}" if check.value is None else f"says {check.value}"
    return f"check {check.config.name} {state}"


def tracked(checks: Sequence[CheckState], tracks: Sequence[tuple[Track, CheckState]]) -> Tracked:
    """Each once."""
    return Tracked(tuple(dict.fromkeys(checks)), tuple(dict.fromkeys(tracks)))
