"""One instance: its addresses, its health, who elects for it, and what is announced for it.

It joins the machines (`Router`, `Decision`) and owns two short memories that keep traffic whole: an address that
someone deleted stays announced for the moment that putting it back takes, and a master that loses to a higher advert
under placement "master" keeps rank and address until the new one has taken over.
"""

import math

from floatip.core import settings
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.rank import Rank, med
from floatip.core.bgp.session import Route
from floatip.core.decision import Decision, Facts
from floatip.core.events import Address, Became, Effect, Garp, InterfaceAddress, Placed
from floatip.core.health import Health
from floatip.core.vrrp.follower import Follower
from floatip.core.vrrp.router import Role, Router

PUT_BACK_TIME = 0.05
KEEP_TIME = 0.2
CUT_OFF_AT_LEAST = 3.0


class Instance:
    def __init__(self, config: settings.Instance, now: float) -> None:
        self.config = config
        self.health = Health.UNKNOWN
        self.health_reason = "no result yet"
        self.health_since = now
        self.router: Router | Follower | None = None
        match config.election:
            case settings.Vrrp() as vrrp:
                self.router = Router(config.name, vrrp, tuple(a.ip for a in config.addresses), now)
            case settings.Keepalived() as keepalived:
                self.router = Follower(config.name, keepalived, now)
        self.decision = Decision(config.last_resort, now)
        self.lost_at: dict[Address, float] = {}
        """When an address that was held was found missing."""
        self._mastered = False
        self._keep_until = -math.inf
        self._garp_owed: frozenset[Placed] = frozenset()
        self._listed: tuple[InterfaceAddress, ...] | None = None

    @property
    def role(self) -> Role:
        if self.router is not None:
            return self.router.role
        return Role.MASTER if self.config.election == settings.Static("primary") else Role.BACKUP

    @property
    def role_reason(self) -> str:
        return self.router.reason if self.router is not None else "configured, no election"

    @property
    def waiting(self) -> str:
        """Why an announcer of what is found has nothing to announce; empty: it has, or is none."""
        if self.config.placement != "found" or self.config.addresses:
            return ""
        return f"waiting for an address on {self.config.interface}"

    @property
    def deadline(self) -> float:
        return min(self.router.deadline if self.router is not None else math.inf, self.patience)

    @property
    def patience(self) -> float:
        """When one of the short memories, or the rank of a new master, runs out."""
        at = self.decision.deadline
        if self.lost_at:
            at = min(at, min(self.lost_at.values()) + PUT_BACK_TIME)
        if self._keep_until > -math.inf:
            at = min(at, self._keep_until)
        return at

    def goes_on_as(self, config: settings.Instance) -> bool:
        """Whether role and rank go on under another configuration: keepalived's election does not end by our reload."""
        followed = isinstance(self.router, Follower) and isinstance(config.election, settings.Keepalived)
        return followed or config.election == self.config.election

    def reconfigure(self, config: settings.Instance) -> None:
        """Only one as which it goes on."""
        self.config = config
        self.decision.last_resort = config.last_resort
        if isinstance(self.router, Router):
            self.router.list_addresses(tuple(a.ip for a in config.addresses))
        elif isinstance(self.router, Follower) and isinstance(config.election, settings.Keepalived):
            self.router.reconfigure(config.election)

    def judge(self, health: Health, reason: str, now: float) -> list[Effect]:
        if health is Health.UNKNOWN and self.health is not Health.UNKNOWN:
            return []  # a check that a reload added: the old verdict stands until its first result
        if isinstance(self.router, Follower):
            if self.router.sick:
                health, reason = Health.DOWN, self.router.sick
            elif not self.config.checks:
                reason = self.router.verdict
        news = health is not self.health
        self.health, self.health_reason = health, reason
        if not news:
            return []
        self.health_since = now
        return [Became("health", self.config.name, health.value, reason)]

    def review(self, link_fault: str, barred: str, stopping: str, hold_time: float, now: float) -> list[Effect]:
        """Role, then rank, from all that is known by now."""
        effects = self._tell_found() if self.config.placement == "found" else []
        self.lost_at = {a: at for a, at in self.lost_at.items() if now < at + PUT_BACK_TIME}
        if self.router is not None and not stopping:
            if isinstance(self.router, Follower):
                effects += self.router.judge(barred, now)
            else:
                waiting = self.health_reason if self.health is Health.UNKNOWN else ""
                fault = self.health_reason if self.health is Health.DOWN else link_fault
                effects += self.router.judge(waiting, fault, barred, now)
            self._succeed(self.router, hold_time, now)
        role = Role.MASTER if now < self._keep_until else self.role
        if now >= self._keep_until:
            self._keep_until = -math.inf
        # Without an address it withdraws as one that stops does: that is no flap to be damped.
        facts = Facts(role, self.role_reason, self.health, self.health_reason, stopping or self.waiting)
        if self.decision.decide(facts, now):
            effects.append(Became("rank", self.config.name, self.decision.rank.label, self.decision.reason))
        return effects

    def _tell_found(self) -> list[Effect]:
        """Addresses that others put there and take away: what changed since it was told last."""
        before, now = self._listed, self.config.addresses
        self._listed = now
        effects: list[Effect] = [
            Became("address", str(a.ip), "gone", "the kernel has it no longer") for a in before or () if a not in now
        ]
        effects += [
            Became("address", str(a.ip), "found", f"it stands for {a.network}") for a in now if a not in (before or ())
        ]
        if not now and before != now:
            effects.append(Became("address", self.config.interface, "waiting", self.waiting))
        return effects

    def _succeed(self, router: Router | Follower, hold_time: float, now: float) -> None:
        is_master = router.role is Role.MASTER
        if is_master and not self._mastered:
            self.decision.became_master(
                router.reigns, hold_time, 3 * max(router.master_down_interval, CUT_OFF_AT_LEAST)
            )
            self._owe_garps()
        if self._mastered and router.master is not None and self.config.placement == "master":
            self._keep_until = now + KEEP_TIME
        self._mastered = is_master

    def sees(self, found: frozenset[Placed], now: float) -> list[Effect]:
        """Where keepalived elects: its addresses are those that are not on our interface, and look just like ours."""
        if not isinstance(self.router, Follower):
            return []
        elsewhere = {placed.address for placed in found if placed.interface != self.config.interface}
        return self.router.sees(not elsewhere.isdisjoint(self.config.addresses), now)

    @property
    def placed(self) -> frozenset[Placed]:
        return frozenset(Placed(self.config.interface, address) for address in self.config.addresses)

    def wants(self, now: float) -> frozenset[Placed]:
        """What is to be held now. Health does not matter: a service cannot bind an address that is not there."""
        return self.placed if self.config.placement != "found" and self._keeps(now) else frozenset()

    def _keeps(self, now: float) -> bool:
        return self.config.placement != "master" or self.role is Role.MASTER or now < self._keep_until

    def routes(self, held: frozenset[Address], now: float) -> dict[Prefix, Route]:
        """What is to be announced now: only addresses that the kernel has, and that are not about to be released."""
        rank = self.decision.rank
        if rank is Rank.NONE or not self._keeps(now):
            return {}
        return {a.network: self._route(rank) for a in self.config.addresses if a.ip in held or a.ip in self.lost_at}

    def _route(self, rank: Rank) -> Route:
        election = self.config.election
        if isinstance(election, settings.Static):
            return Route(rank)
        return Route(rank, med(election.priority, election.source, rank, self.decision.level))

    def _owe_garps(self) -> None:
        self._garp_owed = self.placed if self.config.placement == "master" else frozenset()

    def defend(self, held: frozenset[Address]) -> list[Effect]:
        """Somebody else took himself for master, and may have told the neighbours so."""
        self._owe_garps()
        return self.garps(held)

    def garps(self, held: frozenset[Address]) -> list[Effect]:
        """Told to the neighbours once the kernel has the addresses."""
        if not self._garp_owed or not all(p.address.ip in held for p in self._garp_owed):
            return []
        owed, self._garp_owed = self._garp_owed, frozenset()
        return [Garp(owed)] if self.role is Role.MASTER else []
