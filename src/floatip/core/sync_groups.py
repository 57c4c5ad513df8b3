"""Sync groups: instances that are master together, or not at all (keepalived.conf(5), vrrp_sync_group).

The node lets a group speak in each review, between the obstacles of its members and their elections:
* What keeps one member from being master keeps all of them: a fault, a check without a result, a bar, an order.
* No member becomes master before all of them want to; then all do, in the same review.
* When one that was master is not any more, the others yield in the same review. They say no priority 0: the master
  that made it yield has all of them, or takes them over now. One that hands over or fails is an obstacle for the
  others, and so all of them say it.

Two nodes can each have a better member, by other priorities or by the addresses of two interfaces. If both claim at
the same moment, each makes the other yield, and at the end of the same wait both claim again. So the node that was
beaten in the *leader*, the member with the lowest vrid, waits one advert interval longer before its next claim: of two
nodes that beat each other only one was beaten there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from floatip.core import settings
from floatip.core.election.elector import Obstacles, Role
from floatip.core.events import Became, Effect
from floatip.core.instance import Instance

MOST_ROUNDS = 3
"""In which what one member does reaches the others: it becomes master or not, the others yield, and that is all."""


class SyncGroup:
    def __init__(self, config: settings.SyncGroup, now: float) -> None:
        self.config = config
        self.role = Role.INIT
        self.reason = "starting"
        self.since = now
        self.members: tuple[Instance, ...] = ()
        self._leader: Instance | None = None
        self._masters: set[str] = set()
        """The members that were master at the last look."""
        self._not_before = -math.inf
        """Whoever wants to be master before, waits."""
        self.deadline = math.inf
        """When members that all want to be master may be; `math.inf`: nothing is waited for."""

    def configure(self, config: settings.SyncGroup, instances: Mapping[str, Instance]) -> None:
        """Its state stays."""
        self.config = config
        self.members = tuple(instances[name] for name in config.members if name in instances)
        self._leader = min(self.members, key=_place, default=None)
        self._masters &= set(config.members)

    @property
    def what(self) -> str:
        return f"sync group {self.config.name}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.config.name for member in self.members)

    def constrain(self, own: Sequence[Obstacles], now: float) -> list[Obstacles]:
        """`own`: of each member alone, in their order. Returns what they are with those of the others."""
        self.deadline = math.inf
        for member in self.members:
            if member.config.name in self._masters and _is_beaten(member) and member is self._leader:
                wait = max(one.elector.master_down_interval or 0.0 for one in self.members)
                self._not_before = now + wait + _advert_interval(member)
        shared = {
            "sick": self._first([each.sick or each.link for each in own]),
            "waiting": self._first([each.waiting for each in own]),
            "barred": self._first([each.barred for each in own]),
            "leaving": self._first([each.leaving for each in own]),
            "damped": self._first([each.damped for each in own]),
            "yields": self._yields(),
        }
        unwilling = self._unwilling
        waits = "" if unwilling else self._waits(now)
        return [
            _with(each, shared, self._of_unwilling(member, unwilling) if unwilling else waits)
            for member, each in zip(self.members, own, strict=True)
        ]

    @property
    def is_willing(self) -> bool:
        """Whether all members want to be master, or are."""
        return all(map(_is_or_wants, self.members))

    @property
    def _unwilling(self) -> list[Instance]:
        """Two are enough to name one for each member that is another."""
        return [*islice((member for member in self.members if not _is_or_wants(member)), 2)]

    def holds_back(self, member: Instance) -> str:
        """Who keeps the member from being master now; empty: nobody."""
        unwilling = self._unwilling
        return self._of_unwilling(member, unwilling) if unwilling else ""

    def _of_unwilling(self, member: Instance, unwilling: Sequence[Instance]) -> str:
        one = unwilling[-1] if member is unwilling[0] else unwilling[0]
        who = f"follows {one.elector.master}" if one.elector.master else f"is {one.role.value}"
        return f"{self.what}: {one.config.name} {who}"

    def _first(self, words: Sequence[str]) -> str:
        """The first that there are, with whose they are."""
        found = ((member, word) for member, word in zip(self.members, words, strict=True) if word)
        return next((f"{self.what}: {member.config.name}: {word}" for member, word in found), "")

    def _waits(self, now: float) -> str:
        """Though all want to be master."""
        if now >= self._not_before:
            return ""
        self.deadline = self._not_before
        return f"{self.what}: it has just left mastership to another node"

    def _yields(self) -> str:
        """A member that has never been master since it is one, as after a reload, has its time to become it."""
        for member in self.members:
            was_master = member.config.name in self._masters
            if member.role is not Role.MASTER and (was_master or member.elector.master):
                return f"{self.what}: {member.config.name}: {member.elector.reason}"
        return ""

    def settle(self, now: float) -> list[Effect]:
        """Its members have become what they become."""
        self._masters = {member.config.name for member in self.members if member.role is Role.MASTER}
        roles = {member.role for member in self.members}
        role = Role.FAULT if Role.FAULT in roles else next(iter(roles)) if len(roles) == 1 else self.role
        if role is self.role or role is Role.INIT:
            return []
        reasons = [member.elector.reason for member in self.members if member.role is role]
        self.reason = next((one for one in reasons if not one.startswith(self.what)), reasons[0])
        self.role, self.since = role, now
        return [Became("group", self.config.name, role.value, self.reason)]


def _is_or_wants(member: Instance) -> bool:
    return member.role is Role.MASTER or member.wants_master


def _is_beaten(member: Instance) -> bool:
    """By a better master that it heard."""
    return member.role is Role.BACKUP and member.elector.master is not None


def _advert_interval(member: Instance) -> float:
    election = member.config.election
    return election.advert_interval if isinstance(election, settings.Vrrp) else 0.0


def _place(member: Instance) -> tuple[int, str]:
    election = member.config.election
    return (election.vrid if isinstance(election, settings.Vrrp) else 0), member.config.name


def _with(own: Obstacles, shared: Mapping[str, str], holds_back: str) -> Obstacles:
    """Its own come first, because they name the cause."""
    sick = own.sick or ("" if own.link else shared["sick"])
    return replace(
        own,
        sick=sick,
        waiting=own.waiting or shared["waiting"],
        barred=own.barred or shared["barred"],
        leaving=own.leaving or shared["leaving"],
        damped=own.damped or shared["damped"],
        holds_back=holds_back,
        yields=shared["yields"],
    )
