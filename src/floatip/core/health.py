"""From single results to a verdict: rise, fall, delays and timeouts, as keepalived counts them but for two traps.

A check is unknown until its first result, which decides at once unless the configuration says what it is until then.
After that `fall` failures in a row make it down and `rise` successes in a row make it up again. What reports each
change by itself has no runs to count; there only the delays matter. A check that cannot be run has failed, and the
verdict of a hanging check falls at its timeout, not when the process has finally gone.
"""

import math
from collections.abc import Sequence
from enum import Enum

from floatip.core import settings
from floatip.core.counters import check_duration
from floatip.core.events import Became, Effect, Probe

FIRST_SESSIONS = 3.0
"""Seconds in which the sessions of a node that starts may come up, before too few of them make a check down."""


class Health(Enum):
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class CheckState:
    """One configured check; `health` is the verdict and `reason` what follows "because"."""

    def __init__(self, config: settings.Check, now: float) -> None:
        self.config = config
        self.health = Health(config.initial)
        self.reason = "no result yet"
        if self.health is not Health.UNKNOWN:
            self.reason += f", and it counts as {config.initial} until then"
        self.since = now
        self.last_result = ""
        self.value: int | None = None
        """The number that the last result gave; None: it gave none."""
        self.is_master = False
        """Whether this node is master of an instance that has the check."""
        self.runs = 0
        self.duration = check_duration()
        """Of the runs that were asked for, from the question to the answer or the timeout."""
        self._verdict = self.health
        """Of the results; `health` is another while a drill takes the check as failed."""
        self._why = self.reason
        """The reason of that verdict."""
        self._is_taken_as_failed = False
        self._passed = False
        """The last result."""
        self._streak = 0
        """So many results in a row differ from the verdict."""
        self._streak_since = -math.inf
        self._settle_at = math.inf
        """When they have done so for long enough."""
        self._run_at = now if self.is_asked else math.inf
        self._began_at = -math.inf
        self._give_up_at = math.inf

    @property
    def is_asked(self) -> bool:
        """Whether it is run again and again, rather than reported."""
        return not (self.config.pushed or self.is_derived)

    @property
    def is_derived(self) -> bool:
        """Whether it follows from what the core knows."""
        return bool(self.config.of or self.config.sessions)

    @property
    def deadline(self) -> float:
        return min(self._give_up_at if self._give_up_at < math.inf else self._run_at, self._settle_at)

    @property
    def _period(self) -> float:
        return self.config.fast_interval or self.config.interval if self._streak else self.config.interval

    def goes_on_as(self, config: settings.Check) -> bool:
        """Whether results for this configuration say anything of another."""
        before = self.config
        kinds = (before.pushed, bool(before.of), bool(before.sessions))
        return kinds == (config.pushed, bool(config.of), bool(config.sessions))

    def reconfigure(self, config: settings.Check, now: float) -> None:
        """The verdict stands until the first result. A check that was asked for must still be."""
        before, self.config = self.config, config
        if not self.is_asked:
            return
        self._run_at = min(self._run_at, max(now, self._began_at + self._period))
        if config.what != before.what:
            self.runs += 1  # an answer to the old question does not count
            self._run_at, self._give_up_at = now, math.inf

    def tick(self, now: float) -> list[Effect]:
        if now >= self._settle_at:
            return self._settle(now)
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
            self._began_at, self._run_at = now, now + self._period
            self._give_up_at = now + self.config.timeout
            return [Probe(self.config.name, self.runs, self.config.timeout)]
        return []

    def done(self, run: int, passed: bool, reason: str, now: float, value: int | None = None) -> list[Effect]:
        if self.is_derived:
            return []
        if self.is_asked:
            if run != self.runs or self._give_up_at == math.inf:
                return []  # an answer that came after its timeout
            self._give_up_at = math.inf
            self.duration.observe(now - self._began_at)
        self.value = value
        is_said = value is None or str(value) in reason
        return self._count(passed, reason if is_said else f"{value}: {reason}", now)

    def conclude(self, passed: bool | None, reason: str, now: float) -> list[Effect]:
        """What the core knows; None: it cannot tell yet, and the verdict stands."""
        if passed is None:
            self.last_result = reason
            return []
        return self._count(passed, reason, now)

    def take_as_failed(self, why: str, now: float) -> list[Effect]:
        """For a drill, until `take_as_it_is`. Results are counted meanwhile."""
        if self._is_taken_as_failed:
            return []
        self._is_taken_as_failed = True
        self.health, self.reason, self.since = Health.DOWN, why, now
        return [Became("check", self.config.name, self.health.value, why)]

    def take_as_it_is(self, now: float) -> list[Effect]:
        """After a drill."""
        if not self._is_taken_as_failed:
            return []
        self._is_taken_as_failed = False
        self.health, self.reason, self.since = self._verdict, f"the drill is over: {self._why}", now
        return [Became("check", self.config.name, self.health.value, self.reason)]

    def _count(self, passed: bool, reason: str, now: float) -> list[Effect]:
        if self.config.inverted:
            passed, reason = not passed, f"{reason} (inverted)"
        self.last_result = reason
        if self._verdict is (Health.UP if passed else Health.DOWN):
            self._streak, self._settle_at = 0, math.inf
        else:
            if not self._streak or passed is not self._passed:
                self._streak, self._streak_since, self._settle_at = 0, now, math.inf
            self._streak += 1
        self._passed = passed
        news = self._settle(now) if self._streak else []
        if self.is_asked:
            self._run_at = self._began_at + self._period
        return news

    def _settle(self, now: float) -> list[Effect]:
        """The verdict, if the results have differed from it often enough and for long enough."""
        needed, delay = self._needed()
        if self._streak < needed:
            return []
        if now < self._streak_since + delay:
            self._settle_at = self._streak_since + delay
            return []
        in_a_row = f", {self._streak} in a row" if self.is_asked and self._streak > 1 else ""
        for_long = f", for {delay:g} s" if delay else ""
        self._verdict = Health.UP if self._passed else Health.DOWN
        self._why = self.last_result + in_a_row + for_long
        self._streak, self._settle_at = 0, math.inf
        if self._is_taken_as_failed:
            return []
        self.health, self.reason, self.since = self._verdict, self._why, now
        return [Became("check", self.config.name, self.health.value, self.reason)]

    def _needed(self) -> tuple[int, float]:
        """Results in a row, and seconds."""
        config = self.config
        if self._verdict is Health.UNKNOWN:
            return 1, FIRST_SESSIONS if config.sessions and not self._passed else 0.0
        if self._passed:
            count, delay = config.rise, config.rise_delay
            count = config.master_rise or count if self.is_master else count
        else:
            count, delay = config.fall, config.fall_delay
            count = config.master_fall or count if self.is_master else count
        return count if self.is_asked else 1, delay


def of_parts(quorum: int, parts: Sequence[CheckState]) -> tuple[bool | None, str]:
    """Whether so many of these checks are up; None: those without a result may still decide it."""
    up = sum(check.health is Health.UP for check in parts)
    unknown = sum(check.health is Health.UNKNOWN for check in parts)
    down = ", ".join(check.config.name for check in parts if check.health is Health.DOWN)
    reason = f"{up} of {len(parts)} are up, {quorum} must be" + (f" (down: {down})" if down else "")
    if up < quorum <= up + unknown:
        return None, reason
    return up >= quorum, reason


def of_sessions(needed: int, up: int, configured: int) -> tuple[bool, str]:
    return up >= needed, f"{up} of {configured} BGP sessions are up, {needed} must be"


def combine(checks: Sequence[CheckState]) -> tuple[Health, str]:
    """The health of an instance: up when all of its checks are up, and unknown is never healthy."""
    for health in (Health.DOWN, Health.UNKNOWN):
        for check in checks:
            if check.health is health:
                return health, f"check {check.config.name}: {check.reason}"
    if not checks:
        return Health.UP, "no checks are configured, so the node always counts as healthy"
    return Health.UP, "all checks are up" if len(checks) > 1 else f"check {checks[0].config.name}: {checks[0].reason}"
