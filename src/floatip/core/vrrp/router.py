"""One virtual router: who is master (RFC 9568 section 6.4; version 2: RFC 3768), as keepalived plays it on the wire.

                 start            master-down timer ran out
       INIT ──────────────> BACKUP ───────────────────────> MASTER
        ^                   ^    ^    higher advert heard     |
        | start    mended   |    └────────────────────────────┤
        |                 FAULT <─────────────────────────────┘
       stop                 sick, link down (a master says priority 0)

A backup waits for three advert intervals and a skew that is shorter the higher its priority; a master that leaves on
purpose says priority 0, and then only the skew is waited for. Equal priorities fall by the greater source address.

Where this differs from the RFC, and why:
* Adverts are unicast, over routers, from configured peers only; TTL is checked only against `min_ttl`.
* A lower advert *from the master that we were following* arms the skew timer: that master has just been told that it is
  worse than we are, and the RFC would wait out master-down. From anyone else it would make false takeovers with a third
  node; it never extends the timer.
* A master answers a lower advert at once (RFC 9568 6.4.3; keepalived in version 2 too).
* The address list of an advert is compared, counted and otherwise ignored: dropping such adverts makes two masters
  out of every rolling change of addresses.
* Late is dangerous: who was late by more than the master-down interval may have been replaced without hearing of it, so
  a late master becomes backup and a late backup waits once more, before either believes itself.
* `barred` (cut off from all route servers) keeps a backup from claiming mastership and makes a master give it up.
"""

import math
from dataclasses import replace
from enum import Enum

from floatip.core.drops import Drops
from floatip.core.events import Address, Became, Effect, SendAdvert
from floatip.core.settings import Vrrp
from floatip.core.vrrp import wire
from floatip.core.vrrp.wire import Advert

REIGNS_KEPT = 64


class Role(Enum):
    INIT = "init"
    BACKUP = "backup"
    MASTER = "master"
    FAULT = "fault"


class Router:
    """Time is an argument (monotonic seconds); every method returns the effects that it causes."""

    def __init__(self, name: str, config: Vrrp, addresses: tuple[Address, ...], now: float) -> None:
        self.name = name
        # RFC 9568 6.1: the owner preempts all the same
        self.config = config if config.priority < 255 else replace(config, preempt=True)
        self.list_addresses(addresses)
        self.role = Role.INIT
        self.reason = "starting"
        self.since = now
        self.deadline = math.inf
        self.master: Address | None = None
        """Whom we follow."""
        self.reigns: list[float] = []
        """When each of the latest masters that we know of began, or was first heard; our own times included."""
        self.dropped = Drops()
        self._hastened = ""
        """Why the skew timer runs instead of master-down."""
        self._heard: Address | None = None
        self._master_interval = config.advert_interval
        self._preempt_at = math.inf
        self._barred = ""

    def list_addresses(self, addresses: tuple[Address, ...]) -> None:
        """What the adverts name: the addresses of their own family, as keepalived does."""
        self.addresses = tuple(a for a in addresses if a.version == self.config.source.version)

    @property
    def skew(self) -> float:
        unit = 1.0 if self.config.version == 2 else self._master_interval
        return (256 - self.config.priority) / 256 * unit

    @property
    def master_down_interval(self) -> float:
        return 3 * self._master_interval + self.skew

    def judge(self, waiting: str, fault: str, barred: str, now: float) -> list[Effect]:
        """What stands in the way, in words, or empty: of starting, of working, of being master."""
        effects = self._wake(now)
        if self._barred and not barred and self.role is Role.BACKUP:
            self._listen(now)  # somebody else may be master by now
        self._barred = barred
        match self.role:
            case Role.INIT if not waiting and not fault:
                effects += self._enter_backup("started", now)
            case Role.INIT | Role.BACKUP if fault:
                effects += self._become(Role.FAULT, fault, now)
            case Role.MASTER if fault:
                effects += [*self._advertise(0), *self._become(Role.FAULT, fault, now)]
            case Role.FAULT if not fault and not waiting:
                effects += self._enter_backup("no fault any more", now)
            case Role.FAULT if fault and fault != self.reason:
                effects += self._become(Role.FAULT, fault, now)
            case Role.MASTER if barred:
                effects += [*self._advertise(0), *self._enter_backup(barred, now)]
        return effects

    def stop(self, reason: str, now: float) -> list[Effect]:
        effects = self._advertise(0) if self.role is Role.MASTER else []
        return effects + self._become(Role.INIT, reason, now)

    def tick(self, now: float) -> list[Effect]:
        effects = self._wake(now)
        if now < self.deadline:
            return effects
        if self.role is Role.MASTER:
            self.deadline = max(self.deadline + self.config.advert_interval, now)
            return effects + self._advertise(self.config.priority)
        if self._barred:
            self._listen(now)
            return effects
        silence = f"no advert for {self.master_down_interval:.2f} s"
        return effects + self._enter_master(self._hastened or self._from(silence), now)

    def receive(self, advert: Advert, source: Address, ttl: int, now: float) -> list[Effect]:
        effects = self._wake(now)
        if objection := self._objection(advert, source, ttl):
            self.dropped.count(f"dropped, {objection}", now)
            return effects
        if set(advert.addresses) != set(self.addresses):
            self.dropped.count("accepted although they name other addresses", now)
        match self.role:
            case Role.BACKUP:
                return effects + self._receive_as_backup(advert, source, now)
            case Role.MASTER:
                return effects + self._receive_as_master(advert, source, now)
            case _:
                return effects

    def _wake(self, now: float) -> list[Effect]:
        late = now - self.deadline
        if late <= self.master_down_interval:
            return []
        if self.role is Role.MASTER:
            return self._enter_backup(f"was {late:.1f} s late: another node may have taken over", now)
        self._heard = None  # whom we followed may have begun anew meanwhile
        self._listen(now)
        return []

    def _listen(self, now: float) -> None:
        self.deadline, self._hastened = now + self.master_down_interval, ""

    def _objection(self, advert: Advert, source: Address, ttl: int) -> str:
        """Why the advert is dropped (RFC 9568 section 7.1), or empty."""
        config = self.config
        if source not in config.peers:
            return "from an address that is not a peer"
        if ttl < config.min_ttl:
            return f"TTL below {config.min_ttl}"
        if advert.version != config.version:
            return f"version {advert.version} from {source}, ours is {config.version}"
        if advert.auth_pass != config.auth_pass.encode()[:8]:
            return f"another password from {source}"
        if config.version == 2 and advert.interval != config.advert_interval:
            return f"advert interval {advert.interval:g} s from {source}, ours is {config.advert_interval:g} s"
        return ""

    def _receive_as_backup(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        # RFC 9568 6.4.2
        if advert.priority == 0:
            self._heard = None  # should it come back, that is a new reign
            return self._hasten(f"{source} gave up being master (priority 0)", now)
        if source != self._heard:
            self._heard = source
            self._record_reign(now)
        if advert.priority >= self.config.priority:
            self._preempt_at = math.inf
            return self._follow(advert, source, now)
        if not self.config.preempt:
            return self._follow(advert, source, now)
        if self.config.preempt_delay:
            self._preempt_at = min(self._preempt_at, now + self.config.preempt_delay)
            if now < self._preempt_at:
                return self._follow(advert, source, now)
        if source == self.master:
            return self._hasten(f"{source} now has priority {advert.priority}, ours is {self.config.priority}", now)
        return []

    def _hasten(self, why: str, now: float) -> list[Effect]:
        if now + self.skew < self.deadline:
            self.deadline, self._hastened = now + self.skew, why
        return []

    def _follow(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        if source != self.master:
            self.master = source
            self.reason = f"following {source}, priority {advert.priority}"
        if self.config.version == 3:
            self._master_interval = advert.interval  # RFC 9568 6.4.2: the backup adopts the master's interval
        self._listen(now)
        return []

    def _receive_as_master(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        # RFC 9568 6.4.3
        config = self.config
        if advert.priority and (advert.priority, int(source)) > (config.priority, int(config.source)):
            why = f"{source} has priority {advert.priority}, ours is {config.priority}"
            if advert.priority == config.priority:
                why = f"{source} has the same priority {config.priority} and the greater address"
            return [*self._enter_backup(why, now), *self._receive_as_backup(advert, source, now)]
        self.deadline = now + config.advert_interval
        return self._advertise(config.priority)

    def _enter_backup(self, reason: str, now: float) -> list[Effect]:
        if self.config.priority == 255 and self.role in (Role.INIT, Role.FAULT) and not self._barred:
            return self._enter_master("owns the addresses (priority 255)", now)
        effects = self._become(Role.BACKUP, reason, now)
        self._master_interval = self.config.advert_interval
        self.deadline = now + self.master_down_interval
        return effects

    def _enter_master(self, reason: str, now: float) -> list[Effect]:
        effects = [*self._advertise(self.config.priority), *self._become(Role.MASTER, reason, now)]
        self._record_reign(now)
        self._master_interval = self.config.advert_interval
        self.deadline = now + self.config.advert_interval
        return effects

    def _record_reign(self, now: float) -> None:
        self.reigns = [*self.reigns, now][-REIGNS_KEPT:]

    def _from(self, silence: str) -> str:
        return silence if self._heard is None else f"{silence} from {self._heard}"

    def _become(self, role: Role, reason: str, now: float) -> list[Effect]:
        if role is not self.role:
            self.since = now
        self.role, self.reason = role, reason
        self.master, self._heard, self._hastened = None, None, ""
        self.deadline, self._preempt_at = math.inf, math.inf
        return [Became("role", self.name, role.value, reason)]

    def _advertise(self, priority: int) -> list[Effect]:
        config = self.config
        advert = Advert(
            version=config.version,
            vrid=config.vrid,
            priority=priority,
            interval=config.advert_interval,
            addresses=self.addresses,
            auth_pass=config.auth_pass.encode()[:8],
        )
        return [
            SendAdvert(config.interface, config.source, peer, wire.pack(advert, config.source, peer))
            for peer in config.peers
        ]
