"""From role and health to a rank, with the reason: guard after guard, the first that applies decides.

It remembers only what the rank depends on: when this node became master and what it replaced, and its recent
withdrawals.

A new master starts at `takeover`, because the old master's route may still be around: it may have crashed, or it may be
cut off and unable to withdraw. It settles to `active` by itself when a stale route must be gone, after twice the hold
time. When the master that it replaces may itself still have been at `takeover`, it uses the second rung. On both rungs
the latest master has the best MED (`rank.med`).

Three withdrawals of one's own in five minutes are a flap that networks punish; after that the node is damped until it
has been quiet for as long: it leaves mastership to others (the elector sees to that) and stays at `standby`. Rank and
role go together: one that has become master since, because nobody else is, announces as any new master does.
"""

import math
from dataclasses import dataclass

from floatip.core.bgp.rank import Rank
from floatip.core.election.elector import Role
from floatip.core.health import Health

SETTLE_AT_LEAST = 20.0
FLAP_WINDOW = 300.0
FLAP_WITHDRAWALS = 3
DAMPED = (
    f"withdrawn {FLAP_WITHDRAWALS} times in {FLAP_WINDOW / 60:g} minutes: leaves mastership to others until it is quiet"
)


def settle_time(hold_time: float) -> float:
    """Seconds after which a route that a dead master left behind is surely gone."""
    return max(2 * hold_time, SETTLE_AT_LEAST)


@dataclass(frozen=True, slots=True)
class Facts:
    role: Role
    role_reason: str
    health: Health
    health_reason: str
    stopping: str = ""
    """Why the node stops; empty: it does not."""
    unkept: str = ""
    """Why the address does not stay here; empty: it does."""
    announces: bool = True
    """Whether there are route servers. Without them no route can be stale, and none is withdrawn."""


class Decision:
    def __init__(self, last_resort: bool, now: float) -> None:
        self.last_resort = last_resort
        self.rank = Rank.NONE
        self.reason = "starting"
        self.since = now
        self.deadline = math.inf
        self.master_since = 0.0
        """When this node became master, in seconds since the epoch."""
        self._is_again = False
        """Whether the mastership before this one may not have settled."""
        self._settled_at = -math.inf
        self._withdrawn_at: list[float] = []
        self.damped_until = -math.inf
        self._held_back = False
        """Whether a mastership, if there is one, is older than what damps."""
        self._unkept = ""

    def became_master(
        self, began_at: float, other_began_at: float, clock_ahead: float, hold_time: float, blind_time: float
    ) -> None:
        """`other_began_at`: when the latest other master began; `clock_ahead`: of the time of day, in seconds.

        `blind_time`: for how long a master may have been dead or cut off before the next one began. It may have
        been unable to settle in that time although its own had come.
        """
        settle = settle_time(hold_time)
        self.master_since = began_at + clock_ahead
        self._is_again = began_at - other_began_at < settle + blind_time
        self._settled_at = began_at + settle
        self._held_back = False

    def withdrawals(self, now: float) -> int:
        """Of its own, that count for the next one."""
        return sum(now - at < FLAP_WINDOW for at in self._withdrawn_at)

    def damped(self, now: float) -> str:
        """Why; empty: it is not."""
        return DAMPED if now < self.damped_until else ""

    def decide(self, facts: Facts, now: float) -> bool:
        """Whether the rank changed."""
        before = self.rank
        self.deadline = math.inf
        if not facts.announces:
            self._settled_at = self.damped_until = -math.inf
        self._held_back |= bool(facts.unkept and not self._unkept)
        self._unkept = facts.unkept
        self.rank, self.reason = self._choose(facts, now)
        if self.rank is before:
            return False
        self.since = now
        if self.rank is Rank.NONE and facts.announces and not facts.stopping:
            self._remember_withdrawal(now)
        return True

    def _choose(self, facts: Facts, now: float) -> tuple[Rank, str]:
        if facts.stopping:
            return Rank.NONE, facts.stopping
        if facts.health is not Health.UP:
            if facts.health is Health.DOWN and self.last_resort:
                return Rank.LAST_RESORT, facts.health_reason
            return Rank.NONE, facts.health_reason
        if damped := facts.unkept or self.damped(now):
            self.deadline = self.damped_until if now < self.damped_until else math.inf
            if self._held_back or facts.role is not Role.MASTER:
                return Rank.STANDBY, damped
        if facts.role is not Role.MASTER:
            return Rank.STANDBY, facts.role_reason if facts.role is Role.FAULT else "not master"
        if now < self._settled_at:
            self.deadline = min(self.deadline, self._settled_at)
            if self._is_again:
                return Rank.TAKEOVER_AGAIN, "took over before the last takeover had settled, so one step stronger"
            return Rank.TAKEOVER, "took over; outranks a stale route of the old master until that must be gone"
        return Rank.ACTIVE, "master, settled"

    def _remember_withdrawal(self, now: float) -> None:
        self._held_back = True
        self._withdrawn_at = [at for at in self._withdrawn_at if at > now - FLAP_WINDOW] + [now]
        if len(self._withdrawn_at) >= FLAP_WITHDRAWALS or now < self.damped_until:
            self.damped_until = now + FLAP_WINDOW
