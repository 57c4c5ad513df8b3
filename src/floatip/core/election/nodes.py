"""The nodes elect among themselves, over the link: each computes the same answer from what all of them say.

Who is master stays it. Where nobody is, the best of the ready nodes takes over at once. Each of the others waits one
step longer than the one before it, in case that one does not: a node that lies about being ready delays, and no more.

Of two masters the later one stays, as at the route servers (decision 25): by the time of day at which it took over,
then by the greater address. Both nodes compare the same numbers. The earlier one yields when a route server has
acknowledged what the later one announces, or after a second: make before break. So to hand over, a master only says
that it wants to leave, and goes on until another one has taken over.

Where etcd decides, whoever is to become master makes a bid there first (core/arbiter.py). What is exclusive waits until
it is the owner and nobody else can have it. Anything else waits for `PATIENCE`: the bid goes on while it is master, and
of two masters the owner stays.
"""

import math
from collections.abc import Iterable
from ipaddress import IPv4Address

from floatip.core.addresses import Address
from floatip.core.arbiter import EPOCH_STEP, PATIENCE, Ruling
from floatip.core.counters import Cause, Turns
from floatip.core.drops import Drops
from floatip.core.election.elector import (
    Claim,
    Fact,
    Obstacles,
    Onset,
    Others,
    Role,
    Subject,
    Surroundings,
    others,
    ruling,
)
from floatip.core.events import Became, Effect
from floatip.core.problems import Problem
from floatip.core.settings import Election, Nodes

YIELD_AFTER = 1.0
"""Seconds for which a master waits for the route servers of the later one."""
UNTOLD_TIME = 1.0
"""Seconds for which a node waits for what another one, which lives, is master of."""
LEARN_TIME = 5.0
"""Seconds after its start for which a node that registers waits for what etcd says of the owners."""
PREEMPTS_AGAIN = 10.0
"""Seconds between two times at which a node takes over because it is preferred: etcd lets two do so in turns that both
take themselves for that, and do not hear each other."""
FIRST_PREFERENCE = 200


class NodesElector:
    sick = well = ""
    interface = ""
    address_moves = False
    onset: Onset | None = None
    adverts = None
    cause: Cause | None = None
    asks = False

    def __init__(self, name: str, config: Nodes, now: float) -> None:
        self.name = name
        self.config = config
        self.role = Role.INIT
        self.reason = "starting"
        self.since = now
        self.master: Address | None = None
        self.reign_at = self.other_reign_at = -math.inf
        self.reign = 0
        """When this node became master, in milliseconds since the epoch; 0: it is not."""
        self.dropped = Drops()
        self.turns = Turns()
        self.hears = frozenset[Subject]({others(name), ruling(name)})
        self.deadline = math.inf
        self.ruling: Ruling | None = None
        """None: etcd has no part in it."""
        self.why_bid = ""
        self._bid = 0
        """The reign with which it wants to become master."""
        self._bid_at = -math.inf
        self._others: Others | None = None
        self._preference: tuple[int, Address] | None = None
        self._obstacles = Obstacles()
        self._listen_until = -math.inf
        """Nobody is known to be master before: another node may not have been heard yet."""
        self._open_since = math.inf
        """Since when nobody is master who wants to stay it."""
        self._better_since = math.inf
        """Since when this master knows of a later one."""
        self._preempt_at = math.inf
        self._renewed_at = -math.inf
        self._rival_reign = 0
        """Of a later master that this one knows of; 0: there is none."""

    @classmethod
    def as_told(cls, name: str, config: Nodes, role: Role, reign: int, *, is_open: bool, now: float) -> "NodesElector":
        """The elector of another node, as far as that node tells. `is_open`: nobody has been master for long enough."""
        elector = cls(name, config, now)
        elector.role, elector.reign, elector._open_since = role, reign, -math.inf if is_open else math.inf
        return elector

    @property
    def obstacles(self) -> Obstacles:
        return self._obstacles

    @property
    def preempts_at(self) -> float:
        """When it takes over from a node that is not preferred; `math.inf`: it does not."""
        return self._preempt_at

    @property
    def detection_time(self) -> float:
        return self._others.detection_time if self._others else 0.0

    @property
    def master_down_interval(self) -> float | None:
        return self.detection_time

    @property
    def preference(self) -> tuple[int, Address] | None:
        return self._preference

    def forget_etcd(self) -> None:
        """For a play of what the nodes would do without it."""
        self.ruling, self._bid, self._bid_at = None, 0, -math.inf

    @property
    def bid(self) -> int:
        """The epoch with which it wants to be the owner at etcd; 0: it does not."""
        if self.role is not Role.MASTER or not self.ruling or not self._others:
            return self._bid
        is_anothers = any(claim.epoch > self._epoch for claim in self._rivals(self._others))
        return 0 if is_anothers and not self.ruling.is_own else self.reign

    def _rivals(self, around: Others) -> list[Claim]:
        """Of this master. One that the link misses may have gone since it became the owner: only a later one counts."""
        return [claim for claim in around.claims if claim.is_heard or claim.epoch > self.reign]

    @property
    def _epoch(self) -> int:
        """The last with which etcd made this node the owner; it tells the others."""
        return self.ruling.epoch if self.ruling else 0

    def goes_on_as(self, config: Election) -> bool:
        return isinstance(config, Nodes)

    def reconfigure(self, config: Election, addresses: Iterable[Address], now: float) -> list[Effect]:
        assert isinstance(config, Nodes)
        self.config, self._preempt_at = config, math.inf
        return self._judge(now)

    def hear(self, fact: Fact, now: float) -> list[Effect]:
        if isinstance(fact, Ruling):
            self.ruling = fact
            if self.role is Role.MASTER and fact.is_own and fact.owner and fact.owner.epoch > self.reign:
                self.reign = fact.owner.epoch
            return self._judge(now)
        if not isinstance(fact, Others):
            return []
        self._others = fact
        own = IPv4Address(int(fact.own.address) & 0xFFFFFFFF)
        self._preference = max(FIRST_PREFERENCE - fact.preference, 1), own
        for claim in fact.claims:
            self.other_reign_at = max(self.other_reign_at, min(claim.reign / 1000 - fact.clock_ahead, now))
        return self._judge(now)

    def constrain(self, obstacles: Obstacles, now: float) -> list[Effect]:
        fault = obstacles.sick or obstacles.link
        trouble = Cause.CHECK if obstacles.sick else Cause.LINK
        if self._obstacles.barred and not obstacles.barred:
            self._listen_until = now + self.detection_time  # where it was cut off, it may not have heard the others
        self._obstacles = obstacles
        effects: list[Effect] = []
        match self.role:
            case Role.INIT | Role.FAULT if not fault and not obstacles.waiting:
                is_start = self.role is Role.INIT
                reason, cause = ("started", Cause.START) if is_start else ("the fault is gone", Cause.RECOVERED)
                effects = self._become(Role.BACKUP, reason, now, cause)
                if is_start:
                    self._listen_until = now + self.detection_time
            case Role.INIT | Role.BACKUP | Role.MASTER if fault:
                effects = self._become(Role.FAULT, fault, now, trouble)
            case Role.FAULT if fault and fault != self.reason:
                effects = self._become(Role.FAULT, fault, now, trouble)
            case Role.MASTER if yields := obstacles.barred or (obstacles.damped if self._has_heir() else ""):
                effects = self._become(Role.BACKUP, yields, now, Cause.BARRED if obstacles.barred else Cause.DAMPED)
        return effects + self._judge(now)

    def tick(self, now: float) -> list[Effect]:
        return self._judge(now)

    def stop(self, reason: str, now: float) -> list[Effect]:
        return self._become(Role.INIT, reason, now, Cause.STOP)

    def ask(self, now: float) -> list[Effect]:
        return []

    def hand_over(self, now: float) -> list[Effect]:
        return []

    def problems(self, around: Surroundings, now: float) -> list[Problem]:
        return []

    @property
    def _must_wait(self) -> str:
        return self._obstacles.barred or self._obstacles.leaving or self._obstacles.paused

    def _has_heir(self) -> bool:
        """Whether another master is there already: one that is damped leaves only to somebody."""
        return self._others is not None and any(not claim.leaves for claim in self._others.claims)

    def _judge(self, now: float) -> list[Effect]:
        self.deadline, self.asks = math.inf, False
        if self._others is None:
            return []
        match self.role:
            case Role.MASTER:
                return self._judge_as_master(self._others, now)
            case Role.BACKUP:
                return self._judge_as_backup(self._others, now)
        self.master = _latest(self._others.claims)
        return []

    def _judge_as_master(self, around: Others, now: float) -> list[Effect]:
        if self.config.exclusive and self.ruling and not self.ruling.is_own:
            owner = self.ruling.owner
            taker = owner.node if owner and not owner.released else "nobody"
            cause = Cause.HANDOVER if self._obstacles.leaving else Cause.PREFERRED
            return self._become(Role.BACKUP, f"etcd says that {taker} owns it", now, cause) + self._judge(now)
        address, stays = int(around.own.address), not self._obstacles.leaving
        own = stays, self._epoch, self.reign, address
        rivals = self._rivals(around)
        later = [claim for claim in rivals if (not claim.leaves, *_order(claim)) > own]
        before, self._rival_reign = self._rival_reign, 0
        if has_rival := any((not c.leaves, c.reign, int(c.address)) > (stays, self.reign, address) for c in rivals):
            self._rival_reign = max(before, *(claim.reign for claim in rivals))
        # At the route servers the reign alone counts: what it left behind there may be stronger.
        if before >= self.reign and before and not has_rival and not later:
            return self._renew("the one that took over is not master any more", now)
        if not later or self._obstacles.paused:
            self._better_since = math.inf
            return []
        best = max(later, key=lambda claim: (not claim.leaves, *_order(claim)))
        # Once a second: both may take themselves for the better one.
        may_renew = best.epoch <= self._epoch  # else it yields, and makes a bid for it
        is_time = not self.config.preempt_delay and now >= self._renewed_at + YIELD_AFTER
        if may_renew and is_time and self._may_preempt(around):
            return self._renew(f"is preferred to {best.node}", now)
        self._better_since = min(self._better_since, now)
        if best.acknowledged or (best.ready and now >= self._better_since + YIELD_AFTER):
            cause = Cause.HANDOVER if self._obstacles.leaving else Cause.PREFERRED
            effects = self._become(Role.BACKUP, f"{best.node} took over", now, cause)
            return effects + self._judge(now)
        self.deadline = self._better_since + YIELD_AFTER if best.ready else math.inf
        return []

    def _judge_as_backup(self, around: Others, now: float) -> list[Effect]:
        former, self._bid = self._bid, 0
        effects = self._judge_as_successor(around, former, now)
        if not self._bid:
            self._bid_at = -math.inf
        return effects

    def _judge_as_successor(self, around: Others, bid: int, now: float) -> list[Effect]:
        """`bid`: that it has made already; 0: none."""
        staying = [claim for claim in around.claims if not claim.leaves]
        self.master = _latest(around.claims)
        if staying:
            self._open_since = math.inf
            if len(staying) == len(around.claims):
                return self._preempt(around, bid, now)
        self._preempt_at = math.inf
        if staying:  # while one hands over, who takes it is decided
            return []
        self._open_since = min(self._open_since, now)
        if self._must_wait or (around.claims and not around.is_ready):
            return []
        is_own = bool(self.ruling and self.ruling.is_own)  # then it is its turn: the others wait for it
        at = now if is_own else max(self._open_since, self._listen_until) + self._wait(around)
        if now < at:
            self.deadline = at
            return []
        return self._take_over(bid, self._why(around), now, Cause.HANDOVER if around.claims else Cause.SILENCE)

    def _take_over(self, bid: int, why: str, now: float, cause: Cause, *, is_urgent: bool = True) -> list[Effect]:
        """At once, or as soon as etcd has agreed; see at the top of this file."""
        if self.ruling is None:
            return self._enter_master(why, now, cause)
        if not self.ruling.is_known and now < self.since + LEARN_TIME:
            self.deadline = self.since + LEARN_TIME
            return []
        self._bid = bid or self._latest_reign(now)
        self.why_bid = why
        if not bid:
            self._bid_at = now
        if self.ruling.is_own and self.ruling.owner:
            at = self.ruling.free_at if self.config.exclusive else now
            if now >= at:
                return self._enter_master(why, now, cause, self.ruling.owner.epoch)
            self.deadline = at
            return []
        if self.config.exclusive or self.config.on_arbiter_loss == "release" or not is_urgent:
            return []
        if not self.ruling.answers or now >= self._bid_at + PATIENCE:
            return self._enter_master(why, now, cause, self._bid)
        self.deadline = self._bid_at + PATIENCE
        return []

    def _wait(self, around: Others) -> float:
        """Seconds until it is this node's turn."""
        if around.untold:
            return UNTOLD_TIME
        step = around.detection_time / 2
        successors = {claim.successor for claim in around.claims} - {""}
        if successors:
            return 0.0 if around.own.name in successors else step * (around.place + 1)
        return step * around.place

    def _why(self, around: Others) -> str:
        if around.claims:
            latest = max(around.claims, key=_order)
            return f"{latest.node} hands over{latest.why_it_leaves and ': '}{latest.why_it_leaves}"
        return around.gone or "no other node was master"

    def _preempt(self, around: Others, bid: int, now: float) -> list[Effect]:
        if not self._may_preempt(around):
            self._preempt_at = math.inf
            return []
        if self._preempt_at == math.inf:
            delay = 0.0 if around.is_called else self.config.preempt_delay
            again = PREEMPTS_AGAIN if self.ruling else YIELD_AFTER
            self._preempt_at = max(now + delay, self._listen_until, self._renewed_at + again)
        if now < self._preempt_at:
            self.deadline = self._preempt_at
            return []
        self.asks = True
        if self._obstacles.unprepared:
            return []
        why = f"has what is together with it: {self.config.together}" if around.is_called else "is preferred (preempt)"
        return self._take_over(bid, why, now, Cause.PREFERRED, is_urgent=False)

    def _may_preempt(self, around: Others) -> bool:
        free = not self._must_wait and not self._obstacles.damped
        owner = self.ruling.owner if self.ruling and self.config.exclusive and not self.ruling.is_own else None
        if owner and not (owner.held or owner.released):
            return False  # who waits would make way for one that waits again, as long
        return free and (around.is_called or (self.config.preempt and around.is_best))

    def _renew(self, reason: str, now: float) -> list[Effect]:
        """A mastership that is the latest again, as if it had yielded and taken back at once."""
        self._renewed_at = now
        return self._enter_master(reason, now, Cause.PREFERRED)

    def _enter_master(self, reason: str, now: float, cause: Cause, reign: int = 0) -> list[Effect]:
        """`reign`: the one that etcd knows, or is to know; 0: a new one."""
        open_at = min(self._open_since, now)
        self.onset = Onset(self._others.heard_at if self._others else None, open_at)
        effects = self._become(Role.MASTER, reason, now, cause)
        if cause is Cause.PREFERRED:
            self._renewed_at = now
        self.reign_at = now
        self.reign = reign or self._latest_reign(now)
        return effects

    def _latest_reign(self, now: float) -> int:
        assert self._others is not None
        latest = max((claim.reign for claim in self._others.claims), default=0)
        owner = self.ruling.owner if self.ruling else None
        # Where the clocks differ, still later than whom it replaces.
        return max(round((now + self._others.clock_ahead) * 1000), latest + 1, owner.epoch + EPOCH_STEP if owner else 0)

    def _become(self, role: Role, reason: str, now: float, cause: Cause) -> list[Effect]:
        self.turns = self.turns.and_then(self.role.value, role.value, cause)
        if role is not self.role:
            self.since = now
        self.role, self.reason, self.cause, self.asks = role, reason, cause, False
        self.master = None
        self.reign, self._rival_reign, self._bid = 0, 0, 0
        self._better_since = self._open_since = self._preempt_at = self.deadline = math.inf
        return [Became("role", self.name, role.value, reason)]


def _order(claim: Claim) -> tuple[int, int, int]:
    """etcd's word first, which is the same for all nodes."""
    return claim.epoch, claim.reign, int(claim.address)


def _latest(claims: Iterable[Claim]) -> Address | None:
    best = max(claims, key=_order, default=None)
    return best.address if best else None
