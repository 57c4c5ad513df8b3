"""One virtual router: who is master (RFC 9568 section 6.4; version 2: RFC 3768), as keepalived plays it on the wire.

                 start            master-down timer ran out
       INIT ──────────────> BACKUP ───────────────────────> MASTER
        ^                   ^    ^    higher advert heard     |
        | start    mended   |    └────────────────────────────┤
        |                 FAULT <─────────────────────────────┘
       stop                 sick, link down (a master says priority 0)

A backup waits for three advert intervals and a skew that is shorter the higher its priority; a master that leaves on
purpose says priority 0, and then only the skew is waited for. Equal priorities fall by the greater source address.
Without peers the adverts go to a group of multicast, and whoever is on the link may send them.

The priority is the effective one: what tracked checks add to it comes as `Obstacles.shift`. In a sync group the timer
that ran out makes a wish (`wants_master`) until nothing holds it back.

Where this differs from the RFC, and why (docs/reference/vrrp.md has the list):
* By unicast adverts may cross routers, and come from configured peers only; TTL is checked against `min_ttl`.
* A lower advert *from the master that we were following* arms the skew timer: that master has just been told that it is
  worse than we are, and the RFC would wait out master-down. From anyone else it would make false takeovers with a third
  node; it never extends the timer.
* A master answers a lower advert at once (RFC 9568 6.4.3; keepalived in version 2 too).
* Where the master alone has the address, one that yields sends the winner a last advert. The winner may have been cut
  off when it told its neighbours where the address is, and a lower advert makes it tell them again.
* The address list of an advert is compared, counted and otherwise ignored: dropping such adverts makes two masters
  out of every rolling change of addresses.
* A node that was suspended for longer than the master-down interval re-runs the election, because another node may have
  taken over: a master becomes backup, and a backup waits once more.
* `barred` (cut off from all route servers) keeps a backup from claiming mastership and makes a master give it up.
* `damped` and `leaving` make a master hand over once, and keep a backup from preempting. A silent master is replaced
  in time.
* A backup that had to give mastership back twice in five minutes asks its master before it claims again (`_ask`).
* After a fault of its link a router listens for 2 s at least: the others may still have to find it (ARP).
* A reload changes figures and not roles: a master of another priority stays master and advertises the new one.
* Of two owners that both stay masters, the one with the greater address falls to 254, as keepalived's does.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from floatip.core.addresses import Address
from floatip.core.counters import Adverts, Cause, Refused, Turns
from floatip.core.drops import Drops
from floatip.core.election.elector import (
    ASKING,
    Fact,
    Heard,
    Obstacles,
    Onset,
    Role,
    Subject,
    Surroundings,
    VirtualRouter,
    adverts,
    unheard,
)
from floatip.core.events import Became, Effect, SendAdvert
from floatip.core.problems import Code, Problem, Severity
from floatip.core.settings import Election, Vrrp
from floatip.core.vrrp import wire
from floatip.core.vrrp.trailer import Signer
from floatip.core.vrrp.wire import Advert

OWNER = 255
"""The priority of the owner of the addresses, which nothing changes (RFC 9568 section 5.2.4)."""
SECOND_MASTER_AFTER = 2
"""Advert intervals for which another master must be heard: a well one yields to our answer at once."""
SILENT_AFTER = 2
"""Advert intervals after which a node that sent adverts is silent."""
MISTAKES, MISTAKES_WINDOW = 2, 300.0
"""So many masterships given back to a better master within so many seconds: silence may be loss."""
ASK_AFTER = 2.5
"""Advert intervals: at two the next advert may be just arriving."""
ASKED_PER_INTERVAL, ASK_PAUSE = 8, 0.01
"""So often does it ask, and so many seconds apart at least: each question costs a keepalived a burst of ARP."""
LISTEN_AFTER_LINK_FAULT, LISTEN_SPREAD = 2.0, 0.5
"""Seconds: a neighbour entry that has failed is tried again each second; and what the lowest priority adds to it."""


class Router(VirtualRouter):
    """Time is an argument (monotonic seconds); every method returns the effects that it causes."""

    config: Vrrp
    sick = well = ""

    def __init__(self, name: str, config: Vrrp, addresses: Iterable[Address], now: float) -> None:
        self.name = name
        self.shift = 0
        """What tracked checks add to the priority, or take off."""
        self.clock_ahead = 0.0
        """Seconds from `now` to seconds since the epoch; what is signed depends on it."""
        self._signer: Signer | None = None
        self._gives_way = False
        """Whether this owner is none for now, because another one does not give way."""
        self._opens_at = now + config.startup_delay
        self._configure(config, addresses)
        self.role = Role.INIT
        self.reason = "starting"
        self.since = now
        self._due_at = math.inf
        self._ask_at = math.inf
        self.master: Address | None = None
        """Whom we follow."""
        self._master_priority = 0
        self.dropped = Drops()
        self.turns, self.adverts = Turns(), Adverts()
        self._hastened = ""
        """Why the skew timer runs instead of master-down."""
        self._hastened_by = Cause.SILENCE
        self._heard: Address | None = None
        """Whose reign it is, as far as we hear."""
        self._heard_at = -math.inf
        self._heard_priority = 0
        self._master_interval = config.advert_interval
        self._preempt_at = math.inf
        self._barred = self._damped = self._link_fault = self._unprepared = ""
        self.held_back = ""
        """Why its sync group does not let it be master yet; empty: it does."""
        self.lower_master: Address | None = None
        """Who serves, with a lower priority, while its sync group holds this node back."""
        self._want: tuple[str, Cause] | None = None
        """Why it would be master, if its sync group were."""
        self._yielded_to: set[str] = set()
        """The reasons to be damped that are known, until none is left: a master hands over once for each."""
        self._linked_at = -math.inf
        """When the last fault of its link ended."""
        self._rival: Address | None = None
        """A lower node whose adverts this master hears."""
        self._rival_since = self._rival_at = -math.inf
        self._peer: Address | None = None
        """Who was heard last, as whatever."""
        self._peer_at = -math.inf
        self._is_alone = False
        """Whether this master began in silence, and nobody has been heard since."""
        self._gave_back_at: list[float] = []
        """When this master yielded to a better one."""

    def _configure(self, config: Vrrp, addresses: Iterable[Address]) -> None:
        # RFC 9568 6.1: the owner preempts all the same
        self.config = config if config.priority < OWNER else replace(config, preempt=True)
        self._prioritize()
        version = config.source.version
        self.hears = frozenset[Subject]({adverts(config.interface, config.vrid, version)})
        self._group = config.group or (wire.GROUP if version == 4 else wire.GROUP_IPV6)
        self._signer = Signer(config, self._signer) if config.hmac else None
        has_password = config.version == 2 and version == 4 and not config.hmac
        self._auth_pass = config.auth_pass.encode()[:8] if has_password else b""
        # The adverts name the addresses of their own family, as keepalived's do.
        self.addresses = tuple(a for a in addresses if a.version == config.source.version)
        self._adverts: dict[int, dict[Address, SendAdvert]] = {}
        """By priority and destination: all are alike until something here changes, but for their signatures."""

    @property
    def deadline(self) -> float:
        return min(self._due_at, self._ask_at)

    @property
    def priority(self) -> int:
        """The effective one: of the configuration, and what tracked checks add or take off."""
        return self._priority

    @property
    def down_timer_adverts(self) -> int:
        return self.config.down_timer_adverts

    @property
    def wants_master(self) -> bool:
        """Whether it would be master, but for `Obstacles.holds_back`: until it hears a master that it follows."""
        return self._want is not None

    @property
    def master_priority(self) -> int:
        """Of the master that it follows, as it was last heard."""
        return self._master_priority

    @property
    def last_heard(self) -> Address | None:
        """Whose adverts it heard last, however long ago, unless that node handed over."""
        return self._heard

    def heard(self, now: float) -> Address | None:
        """Whose adverts it hears, whatever its own role."""
        return self._heard if now <= self._heard_at + self.master_down_interval else None

    def goes_on_as(self, config: Election) -> bool:
        """Only another virtual router needs another election (RFC 9568 section 1.7)."""
        return isinstance(config, Vrrp) and _identity(config) == _identity(self.config)

    def reconfigure(self, config: Election, addresses: Iterable[Address], now: float) -> list[Effect]:
        assert isinstance(config, Vrrp)
        interval = self.config.advert_interval
        if config != self.config:
            self.dropped = Drops()  # it may be what this mends
            if config.peers and self._peer not in config.peers:
                self._peer, self._peer_at = None, -math.inf
        self._configure(config, addresses)
        if config.advert_interval != interval:
            self._master_interval = config.advert_interval
        if not config.preempt:
            self._preempt_at = math.inf
        if self.role is Role.MASTER:
            self._due_at = min(self._due_at, now + config.advert_interval)
        elif self.role is Role.BACKUP:
            self._due_at = min(self._due_at, now + self.master_down_interval)
        return []

    def hear(self, fact: Fact, now: float) -> list[Effect]:
        match fact:
            case Heard(advert, source, ttl, destination):
                return self.receive(advert, source, ttl, now, destination)
            case _:
                return []

    def constrain(self, obstacles: Obstacles, now: float) -> list[Effect]:
        effects = self._wake(now)
        if self._barred and not obstacles.barred and self.role is Role.BACKUP:
            self._listen(now)  # somebody else may be master by now
        link = obstacles.link if self.config.tracks_interface else ""
        if self._link_fault and not link:
            self._linked_at = now
        damped = obstacles.damped or obstacles.leaving
        if not damped:
            self._yielded_to.clear()
        yields = obstacles.barred or ("" if damped in self._yielded_to else damped)
        self._yielded_to |= {damped} - {""}
        self._link_fault, self._barred, self._damped = link, obstacles.barred, damped
        if self._unprepared and not obstacles.unprepared and self.asks:
            self._due_at = now
        self._unprepared = obstacles.unprepared
        self.held_back = obstacles.holds_back
        if self._barred:
            self._want = None
        if self._want and self.held_back:
            self.reason = f"{self._want[0]}, but {self.held_back}"
        shifted, was_master = self._shift(obstacles, now), self.role is Role.MASTER
        effects += shifted
        waiting, fault = obstacles.waiting, obstacles.sick or link
        trouble = Cause.CHECK if obstacles.sick else Cause.LINK
        match self.role:
            case Role.INIT if not waiting and not fault:
                effects += self._enter_backup("started", now, Cause.START)
            case Role.INIT | Role.BACKUP if fault:
                effects += self._become(Role.FAULT, fault, now, trouble)
            case Role.MASTER if fault:
                effects += [*self._advertise(0, now), *self._become(Role.FAULT, fault, now, trouble)]
            case Role.FAULT if not fault and not waiting:
                effects += self._enter_backup("the fault is gone", now, Cause.RECOVERED)
            case Role.FAULT if fault and fault != self.reason:
                effects += self._become(Role.FAULT, fault, now, trouble)
            case Role.MASTER if yields:
                cause = Cause.BARRED if obstacles.barred else Cause.DAMPED if obstacles.damped else Cause.HANDOVER
                effects += [*self._advertise(0, now), *self._enter_backup(yields, now, cause)]
            case Role.MASTER if obstacles.yields:
                effects += self._enter_backup(obstacles.yields, now, Cause.GROUP)
            case Role.BACKUP if self._want and not self.held_back and not self._barred:
                effects += self._enter_master(*self._want, now)
            case Role.MASTER if shifted and was_master:
                self._due_at = now + self.config.advert_interval
                effects = [*self._advertise(self.priority, now), *effects]
        return effects

    def _prioritize(self) -> None:
        base = self.config.priority
        self._priority = base - self._gives_way if base == OWNER else min(max(base + self.shift, 1), OWNER - 1)

    def _shift(self, obstacles: Obstacles, now: float) -> list[Effect]:
        """The time that is left follows the priority, as keepalived's does."""
        before, skew = self.priority, self.skew
        self.shift = obstacles.shift
        self._prioritize()
        if self.priority == before:
            return []
        if self.role is Role.BACKUP:
            self._due_at += self.skew - skew
        return [Became("priority", self.name, str(self.priority), obstacles.why_shift)]

    def stop(self, reason: str, now: float) -> list[Effect]:
        effects = self._advertise(0, now) if self.role is Role.MASTER else []
        return effects + self._become(Role.INIT, reason, now, Cause.STOP)

    def tick(self, now: float) -> list[Effect]:
        effects = self._wake(now)
        if now < self._due_at:
            return effects + self._ask(now) if now >= self._ask_at else effects
        if self.role is Role.MASTER:
            self._due_at = max(self._due_at + self.config.advert_interval, now)
            return effects + self._advertise(self.priority, now)
        if self._barred:
            self._listen(now)
            return effects
        if self._hastened:
            return effects + self._claim(self._hastened, self._hastened_by, now)
        if self._hears_lower(now):
            why = f"{self._heard} has priority {self._heard_priority}, below ours ({self.priority})"
            return effects + self._claim(why, Cause.PREFERRED, now)
        silence = f"no advert for {self.master_down_interval:.2f} s"
        return effects + self._claim(self._from(silence), Cause.SILENCE, now)

    def _claim(self, reason: str, cause: Cause, now: float) -> list[Effect]:
        """Become master, or want to."""
        self.asks = cause is Cause.PREFERRED
        if self.asks and self._unprepared:
            self._due_at = now + self.config.advert_interval
            return []
        if not self.held_back:
            return self._enter_master(reason, cause, now)
        self._want = self._want or (reason, cause)
        self.master, self.reason = None, f"{reason}, but {self.held_back}"
        self.lower_master = self._heard if self._hears_lower(now) else None
        self._listen(now)
        return []

    def _hears_lower(self, now: float) -> bool:
        """Whether somebody with a lower priority is master, and goes on."""
        is_alive = now < self._heard_at + SILENT_AFTER * self._master_interval
        return self._heard is not None and is_alive and self._heard_priority < self.priority

    def receive(
        self, advert: Advert, source: Address, ttl: int, now: float, destination: Address | None = None
    ) -> list[Effect]:
        """`destination`: None, if it does not matter."""
        effects = self._wake(now)
        if objection := self._objection(advert, source, ttl, destination, now):
            refused, why = objection
            self.adverts.refused[refused] += 1
            self.dropped.count(f"dropped, {why}", now)
            return effects
        return effects + self.accept(advert, source, now)

    def accept(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        """Of an advert that nothing speaks against."""
        self.adverts.hear(advert.priority, now)
        if advert.addresses != self.addresses and set(advert.addresses) != set(self.addresses):
            self.adverts.other_addresses += 1
            self.dropped.count(f"accepted although they name other addresses, from {source}", now)
        self._peer, self._peer_at = source if advert.priority else None, now  # who leaves does not fall silent
        self._is_alone = False
        match self.role:
            case Role.BACKUP:
                return self._receive_as_backup(advert, source, now)
            case Role.MASTER:
                return self._receive_as_master(advert, source, now)
            case Role.FAULT | Role.INIT:
                self._note_reign(advert, source, now)
        return []

    def _wake(self, now: float) -> list[Effect]:
        late = now - self._due_at
        if late <= self.master_down_interval:
            return []
        if self.role is Role.MASTER:
            reason = f"was suspended for {late:.1f} s: another node may have taken over"
            effects = self._enter_backup(reason, now, Cause.SUSPENDED)
            # The neighbours may have found the address here meanwhile: who is master tells them again.
            return effects + (self.ask(now) if self.address_moves else [])
        self._heard = self._want = self.lower_master = None  # whom we followed may have begun again meanwhile
        self._listen(now)
        return []

    def _listen(self, now: float) -> None:
        self._due_at, self._hastened = now + self.master_down_interval, ""
        self._ask_at = now + ASK_AFTER * self._master_interval if self._doubts_silence(now) else math.inf

    def _doubts_silence(self, now: float) -> bool:
        """Whether a claim may well be another mistake, and asking makes no better master yield."""
        gave_back = [at for at in self._gave_back_at if at > now - MISTAKES_WINDOW]
        if len(gave_back) < MISTAKES or self.master is None or self._barred:
            return False
        return (ASKING, int(self.config.source)) < (self._master_priority, int(self.master))

    def _ask(self, now: float) -> list[Effect]:
        """A master answers a lower advert at once (RFC 9568 section 6.4.3), and so does keepalived's."""
        assert self.master is not None
        self._ask_at = now + max(self._master_interval / ASKED_PER_INTERVAL, ASK_PAUSE)
        return self._advertise(ASKING, now, [self.master])

    def ask(self, now: float) -> list[Effect]:
        return self._advertise(ASKING, now)

    def hand_over(self, now: float) -> list[Effect]:
        return self._advertise(0, now)

    def _objection(
        self, advert: Advert, source: Address, ttl: int, destination: Address | None, now: float
    ) -> tuple[Refused, str] | None:
        """Why the advert is dropped (RFC 9568 section 7.1); None: it is not."""
        config = self.config
        if now < self._opens_at:
            return Refused.OTHER, f"in the first {config.startup_delay:g} s (startup_delay)"
        is_multicast = not config.peers
        if is_multicast or not (config.checks_source or config.hmac):
            if source == config.source:
                return Refused.NOT_A_PEER, "from this node's own address"
        elif source not in config.peers:
            return Refused.NOT_A_PEER, "from an address that is not a peer"
        least, most = (255, 255) if is_multicast else (config.min_ttl, config.max_ttl)
        if not least <= ttl <= most:
            return Refused.TTL, f"TTL below {least}" if ttl < least else f"TTL above {most}"
        usual = self._group if is_multicast else config.source
        if destination not in (usual, None) and destination.is_multicast != is_multicast:
            came, ours = ("multicast", "unicast") if destination.is_multicast else ("unicast", "multicast")
            return Refused.CAST, f"{came} from {source}, ours is {ours}"
        if advert.version != config.version:
            return Refused.VERSION, f"version {advert.version} from {source}, ours is {config.version}"
        if self._signer:
            if objection := self._signer.objection(advert.trailer, source, now + self.clock_ahead):
                return objection
        elif advert.trailer:
            return Refused.SIGNATURE, f"signed, and this node has no key, from {source}"
        if advert.auth_pass != self._auth_pass:
            return Refused.PASSWORD, f"another password from {source}"
        if config.version == 2 and advert.interval != config.advert_interval:
            why = f"advert interval {advert.interval:g} s from {source}, ours is {config.advert_interval:g} s"
            return Refused.INTERVAL, why
        if not advert.addresses and self.addresses:  # RFC 9568 erratum 8299
            return Refused.NO_ADDRESS, f"no address in it, from {source}"
        if config.owner_ignores_adverts and self.priority == OWNER:
            return Refused.OTHER, "because this node owns the addresses (owner_ignore_adverts)"
        return None

    def _receive_as_backup(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        # RFC 9568 6.4.2
        if advert.priority == ASKING < self.priority:
            return []  # another backup asks: following it would start the wait again
        self._note_reign(advert, source, now)
        if self._gives_way and (advert.priority != OWNER or self.master not in (source, None)):
            self._gives_way = False  # the other owner is gone
            self._prioritize()
        if advert.priority == 0:
            return self._hasten(f"{source} handed over (priority 0)", now, Cause.HANDOVER)
        if advert.priority >= self.priority:
            self._preempt_at = math.inf
            return self._follow(advert, source, now)
        if not self.config.preempt or self._damped:
            return self._follow(advert, source, now)
        if self.config.preempt_delay:
            self._preempt_at = min(self._preempt_at, now + self.config.preempt_delay)
            if now < self._preempt_at:
                return self._follow(advert, source, now)
        if source == self.master:
            why = f"{source} now has priority {advert.priority}, below ours ({self.priority})"
            return self._hasten(why, now, Cause.PREFERRED)
        return []

    def _note_reign(self, advert: Advert, source: Address, now: float) -> None:
        """A node in FAULT counts too: who counts too many announces better than the next master can."""
        if advert.priority == 0:
            self._heard = None  # should it come back, that is a new reign
        if advert.priority in (0, ASKING):
            return
        may_have_begun_again = now > self._heard_at + self.master_down_interval
        if source != self._heard or may_have_begun_again:
            self.other_reign_at = now
        self._heard, self._heard_at, self._heard_priority = source, now, advert.priority

    def _hasten(self, why: str, now: float, cause: Cause) -> list[Effect]:
        if now + self.skew < self._due_at:
            self._due_at, self._hastened, self._hastened_by = now + self.skew, why, cause
            self._ask_at = now if self._doubts_silence(now) else math.inf
        return []

    def _follow(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        self.lower_master = None
        self._want, self.asks = None, False
        if source != self.master:
            self.master = source
            self.reason = f"following {source}, priority {advert.priority}"
        self._master_priority = advert.priority
        if self.config.version == 3:
            self._master_interval = advert.interval  # RFC 9568 6.4.2: the backup adopts the master's interval
        self._listen(now)
        return []

    def _receive_as_master(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        # RFC 9568 6.4.3
        config = self.config
        if advert.priority and (advert.priority, int(source)) > (self.priority, int(config.source)):
            why = f"{source} has priority {advert.priority}, ours is {self.priority}"
            if advert.priority == self.priority:
                why = f"{source} has the same priority {self.priority} and the greater address"
            self._gave_back_at = [*self._gave_back_at, now][-MISTAKES:]
            last = self._advertise(self.priority, now, [source]) if self.address_moves else []
            if config.sends_before_yielding:
                last = self._advertise(self.priority, now)
            effects = self._enter_backup(why, now, Cause.PREFERRED)
            return [*last, *effects, *self._receive_as_backup(advert, source, now)]
        given_way = self._give_way(advert, source, now)
        rival = self._remember_rival(advert, source, now)
        if advert.priority and not config.answers_lower:
            return [*given_way, *rival]
        self._due_at = now + config.advert_interval
        return [*self._advertise(self.priority, now), *given_way, *rival]

    def _give_way(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        """Of two owners the lower address yields. Where it does not, the other one does, as keepalived's."""
        if self.config.priority != OWNER or advert.priority != OWNER or source != self._rival:
            return []
        interval = self.config.advert_interval
        patience = 2 * interval + 1.2 * max(interval, advert.interval)
        if now <= self._rival_since + patience or now > self._rival_at + patience:
            return []
        self._gives_way = True
        self._prioritize()
        reason = f"{source} says that it owns the addresses too, and does not yield"
        return [Became("priority", self.name, str(self.priority), reason)]

    def _remember_rival(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        if advert.priority in (0, ASKING):
            return []  # only a backup asks, and who says 0 is master no longer
        pause = SECOND_MASTER_AFTER * max(advert.interval, self.config.advert_interval)
        if source != self._rival or now > self._rival_at + pause:
            self._rival, self._rival_since, self._rival_at = source, now, now
            return []
        was_second = self.second_master(now)
        self._rival_at = now
        if was_second or not self.second_master(now):
            return []
        return [Became("network", self.name, "second-master", self._two_masters(advert.priority))]

    def _two_masters(self, priority: int | None = None) -> str:
        theirs = "" if priority is None else f" (priority {priority}, ours is {self.priority})"
        return f"{self._rival} is MASTER too{theirs}: it does not hear our adverts"

    def second_master(self, now: float) -> bool:
        """Whether another node goes on being master beside this one."""
        lasts = self._rival_at - self._rival_since > SECOND_MASTER_AFTER * self.config.advert_interval
        return lasts and self.role is Role.MASTER and now <= self._rival_at + self.master_down_interval

    def problems(self, around: Surroundings, now: float) -> list[Problem]:
        if self.role is Role.FAULT and around.link_fault:
            hint = "compare vrrp.interface and vrrp.source with: ip -br addr"
            what = f"{self.name} takes no part in the election: {around.link_fault}"
            return [Problem(Code.INSTANCE_FAULT, self.name, what, hint, since=self.since)]
        if self._is_alone and self.role is Role.MASTER and not self.dropped.since(now - self.master_down_interval):
            return [unheard(self.name, self._peer, self._peer_at, now)]
        if self.second_master(now):
            hint = f"see whether IP protocol 112 reaches {self._rival}, there: tcpdump -ni {self.config.interface} vrrp"
            what = f"{self.name}: {self._two_masters()}"
            return [Problem(Code.SECOND_MASTER, self.name, what, hint, since=self._rival_since)]
        if self.role is Role.BACKUP and self.master is None and not self._barred:  # which is a problem of its own
            if self._want and self.lower_master:
                return []
            if self._want:
                what = f"{self.name}: no better master is heard, but this node must not be master: {self.held_back}"
                hint = "make all members of the sync group well, or able to be master: floatip status"
                return [Problem(Code.NOBODY_SERVES, self.name, what, hint, Severity.WARNING, self.since)]
            left = max(self.deadline - now, 0.0)
            what = (
                f"{self.name}: no better master is heard; this node becomes master in {left:.1f} s unless it hears one"
            )
            hint = f"wait; see whether adverts arrive: tcpdump -ni {self.config.interface} vrrp"
            return [Problem(Code.NOBODY_SERVES, self.name, what, hint, Severity.WARNING, self.since)]
        return []

    def _enter_backup(self, reason: str, now: float, cause: Cause) -> list[Effect]:
        is_free = not self._barred and not self._damped and now >= self._opens_at
        if self.config.priority == OWNER and self.role in (Role.INIT, Role.FAULT) and is_free:
            effects = [] if not self.held_back else self._become(Role.BACKUP, reason, now, cause)
            return effects + self._claim("owns the addresses (priority 255)", cause, now)
        effects = self._become(Role.BACKUP, reason, now, cause)
        self._master_interval = self.config.advert_interval
        spread = LISTEN_SPREAD * (256 - self.priority) / 256
        wait = self.master_down_interval
        if cause is Cause.START and self.config.begins_as_master:
            wait = self.config.advert_interval + self._skew(self.config.advert_interval, OWNER)
        listened = self._linked_at + LISTEN_AFTER_LINK_FAULT + spread
        self._due_at = max(now + wait, self._opens_at + wait, listened)
        return effects

    def _enter_master(self, reason: str, cause: Cause, now: float) -> list[Effect]:
        self._is_alone = now > self._peer_at + SILENT_AFTER * self._master_interval
        open_at = min(self._due_at - (self.skew if self._hastened else 0.0), now)
        is_silent = self._heard is not None and cause is Cause.SILENCE
        self.onset = Onset(self._heard_at if is_silent else None, open_at)
        if self._gives_way:
            self._gives_way = False
            self._prioritize()
        effects = [*self._advertise(self.priority, now), *self._become(Role.MASTER, reason, now, cause)]
        self.reign_at = now
        self._master_interval = self.config.advert_interval
        self._due_at = now + self.config.advert_interval
        return effects

    def _from(self, silence: str) -> str:
        return silence if self._heard is None else f"{silence} from {self._heard}"

    def _become(self, role: Role, reason: str, now: float, cause: Cause) -> list[Effect]:
        self.turns = self.turns.and_then(self.role.value, role.value, cause)
        if role is not self.role:
            self.since = now
        if not {role, self.role} <= {Role.BACKUP, Role.FAULT}:
            self._heard = None
        self.role, self.reason, self.cause, self.asks = role, reason, cause, False
        self.master, self._hastened, self._want, self.lower_master = None, "", None, None
        self._rival, self._rival_since, self._rival_at = None, -math.inf, -math.inf
        self._due_at = self._ask_at = self._preempt_at = math.inf
        return [Became("role", self.name, role.value, reason)]

    def _advertise(self, priority: int, now: float, to: Iterable[Address] | None = None) -> list[Effect]:
        """`to`: all peers, unless it is said; by multicast all are told."""
        if (made := self._adverts.get(priority)) is None:
            made = self._adverts[priority] = self._make_adverts(priority)
        is_for_all = to is None or not self.config.peers
        chosen = list(made.values()) if is_for_all else [made[peer] for peer in to or () if peer in made]
        if chosen and self._signer and self._signer.signs:
            chosen = self._sign(chosen, self._signer, now)
        self.adverts.sent += len(chosen)
        if not priority:
            self.adverts.zero_sent += len(chosen)
        return [*chosen]

    def _sign(self, chosen: list[SendAdvert], signer: Signer, now: float) -> list[SendAdvert]:
        """One signature for all destinations."""
        trailer = signer.trailer(chosen[0].data, now + self.clock_ahead)
        return [
            SendAdvert(
                one.interface, one.source, one.destination,
                wire.append(one.data, trailer, one.source, one.destination), one.ttl,
            )
            for one in chosen
        ]  # fmt: skip

    def _make_adverts(self, priority: int) -> dict[Address, SendAdvert]:
        config = self.config
        advert = Advert(
            version=config.version,
            vrid=config.vrid,
            priority=priority,
            interval=config.advert_interval,
            addresses=self.addresses,
            auth_pass=self._auth_pass,
        )
        ttl = config.ttl if config.peers else 255
        return {
            to: SendAdvert(config.interface, config.source, to, self._pack(advert, to), ttl)
            for to in config.peers or (self._group,)
        }

    def _pack(self, advert: Advert, to: Address) -> bytes:
        return wire.pack(advert, self.config.source, to, checksum_as_v2=self.config.checksum_as_v2)


def _identity(config: Vrrp) -> tuple[str, int, int, int]:
    return config.interface, config.vrid, config.version, config.source.version
