"""From single results to a verdict: rise, fall and timeouts, as keepalived counts them but for two traps.

A check is unknown until its first result, which decides at once; after that `fall` failures in a row make it down and
`rise` successes in a row make it up again. A check that cannot be run has failed, and the verdict of a
hanging check falls at its timeout, not when the process has finally gone.
"""

import math
from enum import Enum

from floatip.core import settings
from floatip.core.counters import check_duration
from floatip.core.events import Became, Effect, Probe


class Health(Enum):
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class CheckState:
    """One configured check; `health` is the verdict and `reason` what follows "because"."""

    def __init__(self, config: settings.Check, now: float) -> None:
        self.config = config
        self.health = Health.UNKNOWN
        self.reason = "no result yet"
        self.since = now
        self.last_result = ""
        self.runs = 0
        self.duration = check_duration()
        """Of the runs that were asked for, from the question to the answer or the timeout."""
        self._streak = 0
        self._run_at = math.inf if config.pushed else now
        self._began_at = -math.inf
        self._give_up_at = math.inf

    @property
    def deadline(self) -> float:
        return self._give_up_at if self._give_up_at < math.inf else self._run_at

    def reconfigure(self, config: settings.Check, now: float) -> None:
        """The verdict stands until the first result. A check that was asked for must still be."""
        before, self.config = self.config, config
        if config.pushed:
            return
        self._run_at = min(self._run_at, max(now, self._began_at + config.interval))
        if config.what != before.what:
            self.runs += 1  # an answer to the old question does not count
            self._run_at, self._give_up_at = now, math.inf

    def tick(self, now: float) -> list[Effect]:
        if now >= self._give_up_at:
            timeout = self.config.timeout
            asleep = now - self._give_up_at > timeout  # then it was us who hung, not the check: ask again
            self._give_up_at = math.inf
            if not asleep:
                self.duration.observe(timeout)
                return self._count(False, f"timed out after {timeout:g} s", now)
            self._run_at = now
        if now >= self._run_at and self._give_up_at == math.inf:
            self.runs += 1
            self._began_at, self._run_at = now, now + self.config.interval
            self._give_up_at = now + self.config.timeout
            return [Probe(self.config.name, self.runs, self.config.timeout)]
        return []

    def done(self, run: int, passed: bool, reason: str, now: float) -> list[Effect]:
        if not self.config.pushed:
            if run != self.runs or self._give_up_at == math.inf:
                return []  # an answer that came after its timeout
            self._give_up_at = math.inf
            self.duration.observe(now - self._began_at)
        return self._count(passed, reason, now)

    def _count(self, passed: bool, reason: str, now: float) -> list[Effect]:
        self.last_result = reason
        verdict = Health.UP if passed else Health.DOWN
        if verdict is self.health:
            self._streak = 0
            return []
        self._streak += 1
        needed = self.config.rise if passed else self.config.fall
        if self.health is not Health.UNKNOWN and not self.config.pushed and self._streak < needed:
            return []
        in_a_row = f", {self._streak} in a row" if self._streak > 1 else ""
        self.health, self.reason, self.since, self._streak = verdict, reason + in_a_row, now, 0
        return [Became("check", self.config.name, verdict.value, self.reason)]


def combine(checks: list[CheckState]) -> tuple[Health, str]:
    """The health of an instance: up when all of its checks are up, and unknown is never healthy."""
    for health in (Health.DOWN, Health.UNKNOWN):
        for check in checks:
            if check.health is health:
                return health, f"check {check.config.name}: {check.reason}"
    if not checks:
        return Health.UP, "no checks are configured, so the node always counts as healthy"
    return Health.UP, "all checks are up" if len(checks) > 1 else f"check {checks[0].config.name}: {checks[0].reason}"
