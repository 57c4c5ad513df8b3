"""One instance: its addresses, its health, who elects for it, and what is announced for it.

It is the only door to its elector. It joins health, role and rank, each a step of its own, so that the node can take
each step with all instances before the next. And it owns two short memories that keep traffic whole: an address that
someone deleted stays announced for the moment that putting it back takes, and a master that loses to a higher advert
under placement "master" keeps rank and address until the new one has taken over.
"""

import math
from dataclasses import dataclass, replace

from floatip.core import settings
from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.rank import Rank, med
from floatip.core.bgp.session import Route
from floatip.core.decision import Decision, Facts
from floatip.core.election.elector import ADDRESSES, ASKING, Elector, Fact, Heard, Obstacles, Role, Seen
from floatip.core.election.follower import Follower
from floatip.core.election.nodes import NodesElector
from floatip.core.election.router import Router
from floatip.core.election.static import StaticElector
from floatip.core.events import Became, Effect, Garp, StopGarp
from floatip.core.health import Health
from floatip.core.holding import Holding, Key
from floatip.core.tracks import Verdict, why_priority

PUT_BACK_TIME = 0.05
KEEP_TIME = 0.2
CUT_OFF_AT_LEAST = 3.0
DEFEND_INTERVAL = 1.0
"""Between two answers to the neighbours while another node takes itself for master."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address of the instance, in the forms in which it is looked up."""

    address: InterfaceAddress
    ip: Address
    prefix: Prefix
    key: Key
    placed: Placed


def elector(config: settings.Instance, now: float) -> Elector:
    match config.election:
        case settings.Vrrp() as vrrp:
            return Router(config.name, vrrp, advertised(config), now)
        case settings.Keepalived() as keepalived:
            return Follower(config.name, keepalived, now)
        case settings.Nodes() as nodes:
            return NodesElector(config.name, nodes, now)
        case settings.Static() as static:
            return StaticElector(static, now)


def advertised(config: settings.Instance) -> list[Address]:
    """What its adverts name."""
    silent = {option.address for option in config.options if not option.is_advertised}
    return [address.ip for address in config.addresses if address not in silent]


class Instance:
    def __init__(self, config: settings.Instance, now: float) -> None:
        self.health = Health.UNKNOWN
        self.health_reason = "no result yet"
        self.health_since = now
        self.verdict = Verdict(self.health, self.health_reason)
        """Of its checks."""
        self.shift_since = now
        """When what they do to its priority changed last."""
        self.elector = elector(config, now)
        self.decision = Decision(config.last_resort, now)
        self.lost_at: dict[Address, float] = {}
        """When an address that was held was found missing."""
        self.unkept = ""
        """Why an address of it does not stay here; empty: all do."""
        self.bar = ""
        """Why it must not be master; empty: it may."""
        self.doubted_until = -math.inf
        """Until when an exclusive address may be here although the kernel has not said so."""
        self.ended_until = -math.inf
        """The end of the lease when the kernel ended an exclusive address: nothing is put back before that."""
        self._was_master = False
        self._reign = 0
        self._keep_until = -math.inf
        self._staying = frozenset[Placed]()
        """Addresses that a predecessor left here, or this node had before it was suspended."""
        self._stay_until = -math.inf
        self._stay_since = -math.inf
        """`math.inf`: another master was heard, and has them in a moment."""
        self._may_ask = True
        self._told: frozenset[Placed] = frozenset()
        """The addresses of which the layer-2 neighbours know that they are here."""
        self._defended_at = self._lower_heard_at = -math.inf
        self._held: tuple[int, tuple[bool, ...]] = (-1, ())
        self._listed: tuple[InterfaceAddress, ...] | None = None
        self._configure(config)

    def _configure(self, config: settings.Instance) -> None:
        self.config = config
        self.decision.last_resort = config.last_resort
        self.elector.address_moves = config.placement == "master"
        places = {option.address: option.interface for option in config.options if option.interface}
        found = ((address, places.get(address, config.interface)) for address in config.addresses)
        self.targets = tuple(Target(a, a.ip, a.network, (where, a.ip), Placed(where, a)) for a, where in found)
        self.placed = frozenset(target.placed for target in self.targets)
        self._held = (-1, ())

    @property
    def role(self) -> Role:
        return self.elector.role

    def held(self, holding: Holding) -> tuple[bool, ...]:
        """Of each target, whether the kernel has it. To hash an address takes so long that the answer is kept."""
        version, held = self._held
        if version != holding.version:
            if self.config.placement == "found":
                held = tuple(target.ip in holding.held for target in self.targets)
            else:
                held = tuple(target.key in holding.placed for target in self.targets)
            self._held = holding.version, held
        return held

    @property
    def wants_master(self) -> bool:
        """Whether only its sync group keeps it from being master."""
        return isinstance(self.elector, Router) and self.elector.wants_master

    @property
    def is_exclusive(self) -> bool:
        """Whether at most one node may have it, at any instant."""
        return isinstance(self.config.election, settings.Nodes) and self.config.election.exclusive

    def is_free(self, holding: Holding, now: float) -> bool:
        """Whether nothing exclusive of it is in the kernel, or about to be."""
        if not self.is_exclusive:
            return True
        return now >= self.doubted_until and not any(target.key in holding.placed for target in self.targets)

    @property
    def is_announced(self) -> bool:
        """Whether it has, or may get, what route servers are told."""
        return self.config.is_announced and (bool(self.targets) or self.config.placement == "found")

    @property
    def waiting(self) -> str:
        """Why an announcer of what is found has nothing to announce; empty: it has, or is none."""
        if self.config.placement != "found" or self.config.addresses:
            return ""
        return f"waiting for an address on {self.config.interface}"

    @property
    def deadline(self) -> float:
        return min(self.elector.deadline, self.patience)

    @property
    def patience(self) -> float:
        """When one of the short memories, or the rank of a new master, runs out."""
        at = self.decision.deadline
        if self.lost_at:
            at = min(at, min(self.lost_at.values()) + PUT_BACK_TIME)
        if self._keep_until > -math.inf:
            at = min(at, self._keep_until)
        if self._stay_until > -math.inf:
            at = min(at, self._stay_until)
        if self.doubted_until > -math.inf:
            at = min(at, self.doubted_until)
        return at

    def begin(self, holding: Holding, *, may_ask: bool, now: float) -> None:
        """Where only a master has the addresses, those that a killed one left go on serving until another is heard.

        `may_ask`: a keepalived with `nopreempt` takes the question for a sign of life, so who keeps dying asks nobody.
        """
        here = frozenset(target.placed for target in self.targets if target.key in holding.placed)
        if self.config.placement == "master" and here and not self.is_exclusive:
            self._stay(here, now)
            self._may_ask = may_ask

    def _stay(self, here: frozenset[Placed], now: float) -> None:
        """Until this node is master, or another."""
        self._staying = here
        self._stay_since, self._stay_until = now, now + 2 * (self.elector.master_down_interval or 0.0)

    def _end_stay(self, now: float) -> list[Effect]:
        """The others may still take this node for master."""
        if now >= self._stay_until:
            return []
        self._stay_until = -math.inf
        return self.elector.hand_over(now) if self._stay_since < math.inf else []

    def goes_on_as(self, config: settings.Instance) -> bool:
        """Whether role and rank go on under another configuration."""
        return self.elector.goes_on_as(config.election)

    def reconfigure(self, config: settings.Instance, now: float) -> list[Effect]:
        """Only one as which it goes on."""
        self._configure(config)
        return self.elector.reconfigure(config.election, advertised(config), now)

    # Facts and time, for the elector

    def hear(self, fact: Fact, now: float) -> list[Effect]:
        adverts = self.elector.adverts if self.elector.role is Role.MASTER else None
        used = adverts.received if adverts else 0
        effects = self.elector.hear(fact, now)
        if now < self._stay_until and self.elector.other_reign_at >= self._stay_since:
            self._stay_until, self._stay_since = now + KEEP_TIME, math.inf
            effects = [*effects, *self.elector.ask(now)]  # the neighbours may still find the address here
        is_lower = adverts is not None and adverts.received > used and self.elector.role is Role.MASTER
        if is_lower and isinstance(self.elector, Router) and isinstance(fact, Heard):
            return [*effects, *self._hear_lower(fact, now), *self.defend(now)]
        return effects

    def _hear_lower(self, fact: Heard, now: float) -> list[Effect]:
        """A better one would have made it yield."""
        advert = fact.advert
        if advert.priority in (0, ASKING) or now < self._lower_heard_at + DEFEND_INTERVAL:
            return []
        self._lower_heard_at = now
        return [Became("advert", self.config.name, "lower", f"{fact.source} has priority {advert.priority}")]

    def tell_time(self, clock_ahead: float) -> None:
        """Seconds from monotonic time to seconds since the epoch: what is signed depends on it."""
        if isinstance(self.elector, Router):
            self.elector.clock_ahead = clock_ahead

    def see(self, holding: Holding, now: float) -> list[Effect]:
        """The kernel's addresses changed."""
        if ADDRESSES not in self.elector.hears:
            return []
        elsewhere = any(holding.stands_elsewhere(one.address, one.placed.interface) for one in self.targets)
        return self.elector.hear(Seen(elsewhere), now)

    def tick(self, now: float) -> list[Effect]:
        return self.elector.tick(now) if now >= self.elector.deadline else []

    def stop(self, reason: str, now: float) -> list[Effect]:
        return self._end_stay(now) + self.elector.stop(reason, now)

    # The steps of a review

    def take_health(self, verdict: Verdict, now: float) -> list[Effect]:
        """`verdict` is that of its checks; an elector that knows of a sickness is believed first."""
        if verdict.shift != self.verdict.shift:
            self.shift_since = now
        self.verdict, health, reason = verdict, verdict.health, verdict.reason
        if sick := self.elector.sick:
            health, reason = Health.DOWN, sick
        elif health is Health.UNKNOWN and self.health is not Health.UNKNOWN:
            return []  # a check that a reload added: the old verdict stands until its first result
        elif not self.config.checks:
            reason = self.elector.well or reason
        news = health is not self.health
        self.health, self.health_reason = health, reason
        if not news:
            return []
        self.health_since = now
        return [Became("health", self.config.name, health.value, reason)]

    def obstacles(self, outside: Obstacles, now: float) -> Obstacles:
        """`outside`: what stands in the way of the whole node."""
        return replace(
            outside,
            waiting=self.health_reason if self.health is Health.UNKNOWN else "",
            sick=self.health_reason if self.health is Health.DOWN else "",
            damped=self.unkept or self.decision.damped(now),
            shift=self.verdict.shift,
            why_shift=self.why_shift,
        )

    @property
    def why_shift(self) -> str:
        """As `100 - 20 (check web is down)`."""
        return why_priority(self.config.election, self.verdict) or "no check changes it"

    def elect(self, obstacles: Obstacles, hold_time: float, clock_ahead: float, now: float) -> list[Effect]:
        self.bar = obstacles.barred or obstacles.damped
        began, is_free = self.role is Role.INIT, obstacles.are_none
        effects = [] if is_free else self._end_stay(now)
        self.tell_time(clock_ahead)
        effects += self.elector.constrain(obstacles, now)
        if began and self.role is Role.BACKUP and now < self._stay_until and self._may_ask:
            effects += self.elector.ask(now)
        is_dethroned = self._was_master and self.role is Role.BACKUP
        has_heir = self.elector.master is not None or (is_dethroned and bool(obstacles.yields))
        stays = self.config.placement == "master" and not self.is_exclusive
        if is_dethroned and not has_heir and is_free and stays:
            self._stay(self.placed, now)  # another may be master or not
        self._succeed(hold_time, clock_ahead, now, has_heir=has_heir)
        return effects

    def _succeed(self, hold_time: float, clock_ahead: float, now: float, *, has_heir: bool) -> None:
        """`has_heir`: another node is master, or is about to take the whole sync group."""
        is_master = self.role is Role.MASTER
        if is_master and not (self._was_master and self._reign == self.elector.reign):
            if self.elector.reign:  # so that the route servers order the nodes as they order themselves
                clock_ahead = self.elector.reign / 1000 - self.elector.reign_at
            blind_time = 3 * max(self.elector.master_down_interval or 0.0, CUT_OFF_AT_LEAST)
            self.decision.became_master(
                self.elector.reign_at, self.elector.other_reign_at, clock_ahead, hold_time, blind_time
            )
        if self._was_master and has_heir and self.config.placement == "master" and not self.is_exclusive:
            self._keep_until = now + KEEP_TIME
        self._was_master, self._reign = is_master, self.elector.reign

    def decide(self, stopping: str, announces: bool, now: float) -> list[Effect]:
        """The rank, from all that is known by now. `announces`: whether there are route servers."""
        effects = self._tell_found() if self.config.placement == "found" else []
        self.lost_at = {a: at for a, at in self.lost_at.items() if now < at + PUT_BACK_TIME}
        role = Role.MASTER if now < self._keep_until else self.role
        if now >= self._keep_until:
            self._keep_until = -math.inf
        if now >= self.doubted_until:
            self.doubted_until = -math.inf
        if now >= self._stay_until or self.role is Role.MASTER:
            self._stay_until = -math.inf
        # Without an address it withdraws as one that stops does: that is no flap to be damped.
        health, why_not = self.health_reason, stopping or self.waiting
        told = announces and self.is_announced
        facts = Facts(role, self.elector.reason, self.health, health, why_not, self.unkept, told)
        if self.decision.decide(facts, now):
            effects.append(Became("rank", self.config.name, self.decision.rank.label, self.decision.reason))
        return effects

    def _tell_found(self) -> list[Effect]:
        """Addresses that others put there and take away: what changed since it was told last."""
        before, now = self._listed, self.config.addresses
        self._listed = now
        effects: list[Effect] = [
            Became("address", str(a.ip), "gone", "the address is gone") for a in before or () if a not in now
        ]
        effects += [
            Became("address", str(a.ip), "found", f"announced as {a.network}") for a in now if a not in (before or ())
        ]
        if not now and before != now:
            effects.append(Became("address", self.config.interface, "waiting", self.waiting))
        return effects

    # What follows: addresses, routes, neighbours

    def wants(self, now: float) -> frozenset[Placed]:
        """What is to be held now. Health does not matter: a service cannot bind an address that is not there."""
        if self.config.placement == "found" or not self._keeps(now):
            return frozenset()
        stays = self.role is not Role.MASTER and self._keep_until <= now < self._stay_until
        return self._staying & self.placed if stays else self.placed

    def _keeps(self, now: float) -> bool:
        if self.is_exclusive:
            return self.role is Role.MASTER
        may_stay = now < max(self._keep_until, self._stay_until)
        return self.config.placement != "master" or self.role is Role.MASTER or may_stay

    def routes(self, holding: Holding, now: float) -> dict[Prefix, Route]:
        """What is to be announced now: only addresses that the kernel has, and that are not about to be released."""
        rank = self.decision.rank
        if rank is Rank.NONE or not self.is_announced or not self._keeps(now):
            return {}
        route = self._route(rank)
        return {t.prefix: route for t in self.targets if t.ip in holding.held or t.ip in self.lost_at}

    def _route(self, rank: Rank) -> Route:
        if self.elector.preference is None:
            return Route(rank)
        in_fault = self.role is Role.FAULT  # the others may not know it yet
        among_nodes, since = isinstance(self.config.election, settings.Nodes), self.decision.master_since
        return Route(rank, med(*self.elector.preference, rank, since, in_fault=in_fault, latest_stays=among_nodes))

    def virtuals(self, now: float) -> tuple[settings.Virtual, ...]:
        """The routes and rules that are to be there now."""
        return self.config.virtuals if self.role is Role.MASTER or now < self._keep_until else ()

    def defend(self, now: float) -> list[Effect]:
        """Another node takes itself for master, and may have told the neighbours so."""
        if self._told and now >= self._defended_at + DEFEND_INTERVAL:
            self._defended_at = now
            return [Garp(self._told, after_lower=True)]
        return []

    @property
    def has_told_neighbours(self) -> bool:
        """Of all addresses, where only a master has them."""
        return self.config.placement != "master" or self._told >= self.placed

    def tell_neighbours(self, holding: Holding) -> list[Effect]:
        """Of what a master holds and they have not been told yet. One that yields keeps the address for a moment, and
        must not lead them back to it."""
        here = frozenset[Placed]()
        if self.config.placement == "master" and self.role is Role.MASTER:
            here = frozenset(target.placed for target in self.targets if target.key in holding.placed)
        new, old, self._told = here - self._told, self._told - here, here
        effects: list[Effect] = [StopGarp(old)] if old else []
        return [*effects, Garp(new)] if new else effects


def is_held(holding: Holding, instance: Instance, target: Target) -> bool:
    if instance.config.placement == "found":
        return target.ip in holding.held
    return target.key in holding.placed
