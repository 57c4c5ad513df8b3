"""One virtual router for which the user's keepalived elects: who is master is learned, never decided here.

Four things are known of keepalived, and none is believed alone: whether its processes live, what it said last (its
notify FIFO, or a notify command), whether its addresses are on its interface, and whether other nodes send adverts.

* It does not run: backup, with the reason. What it said is forgotten; a successor speaks for itself.
* It says MASTER: believed once the kernel has the addresses. Lines get lost (keepalived drops them while nobody reads),
  and a line outlives the process that wrote it.
* It says FAULT: that is a matter of health, and this node is sick.
* It says BACKUP or FAULT and has the addresses for longer than a moment, or has said nothing since we came: the kernel
  is believed, but only after other nodes were silent for master-down, as a backup would wait.
* It claims to be master while another node's adverts keep arriving for more than two intervals: contested, backup. A
  keepalived that hangs keeps its addresses and says nothing; only the adverts of its successor show it.
* `barred` (cut off from all route servers): backup, and afterwards again only after silence.
"""

import math
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.core.counters import Adverts, Cause, Refused, Turns
from floatip.core.drops import Drops
from floatip.core.election.elector import (
    ADDRESSES,
    ASKING,
    KEEPALIVED,
    Fact,
    Heard,
    Obstacles,
    Onset,
    Role,
    Seen,
    Subject,
    Surroundings,
    VirtualRouter,
    adverts,
    keepalived,
    unheard,
)
from floatip.core.events import Became, Effect, KeepalivedFound, KeepalivedSaid
from floatip.core.problems import Code, Problem
from floatip.core.settings import Election, Keepalived
from floatip.core.vrrp.wire import Advert

PATIENCE = 0.2
"""Seconds for which keepalived's word and the kernel's may differ: they come by different ways."""
BELIEVE_KERNEL_AFTER = 1.0
CONTESTED_AFTER = 2
"""Advert intervals."""
COMPARE = "compare floatip.toml with keepalived.conf: sudo floatip check"


class Follower(VirtualRouter):
    """Time is an argument (monotonic seconds); every method returns the effects that it causes."""

    config: Keepalived

    def __init__(self, name: str, config: Keepalived, now: float) -> None:
        self.name = name
        self.config = config
        self.role = Role.INIT
        self.reason = "looking for keepalived"
        self.since = now
        self.deadline = math.inf
        self.master: Address | None = None
        """Whose adverts we hear."""
        self.dropped = Drops()
        self.turns, self.adverts = Turns(), Adverts()
        self.runs = False
        self.word = ""
        """What this keepalived said last; empty: nothing that is still to be believed."""
        self.doubts = False
        """Whether what keepalived says, has and hears does not go together."""
        self._met = False
        self._lost = ""
        self._ended_in_fault = False
        self._disproved = False
        """Whether this node was master by the kernel although keepalived had said FAULT."""
        self._has_addresses = False
        self._differ_since = now
        self._claims = False
        self._claimed_because = self.reason
        self._rival_since = math.inf
        """Since when adverts of another node have been heard while ours claims to be master."""
        self._heard_at = -math.inf
        """-inf: of nobody who is still master."""
        self._advert_at = -math.inf
        self._advert_from: Address | None = None
        self._is_alone = False
        """Whether this master began in silence, and nobody has been heard since."""
        self._master_interval = config.advert_interval
        self._listen_until = -math.inf
        self._barred = ""
        self._began_at: float | None = None
        """Since when what we are about to learn has been so."""
        self._stopped = ""

    @property
    def hears(self) -> frozenset[Subject]:
        config = self.config
        group = [keepalived("GROUP", config.sync_group)] if config.sync_group else []
        own = adverts(config.interface, config.vrid, config.source.version), keepalived("INSTANCE", config.instance)
        return frozenset({KEEPALIVED, ADDRESSES, *own, *group})

    @property
    def sick(self) -> str:
        if self.role is Role.FAULT:
            return "keepalived says FAULT"
        if self._ended_in_fault and self.role is not Role.MASTER:
            return "keepalived said FAULT before it ended, and nothing since"
        return ""

    @property
    def well(self) -> str:
        if not self.runs:
            return "not checked: keepalived does not run"
        return "keepalived checks, and says no FAULT" if self.word else "keepalived has said nothing yet"

    def goes_on_as(self, config: Election) -> bool:
        """keepalived's election does not end by a reload of ours."""
        return isinstance(config, Keepalived)

    def reconfigure(self, config: Election, addresses: Iterable[Address], now: float) -> list[Effect]:
        """What was heard under another name, or of another virtual router, does not count."""
        assert isinstance(config, Keepalived)
        old, self.config = self.config, config
        self._master_interval = config.advert_interval
        if (config.instance, config.sync_group) != (old.instance, old.sync_group):
            self.word, self._ended_in_fault = "", False
        if (config.interface, config.vrid) != (old.interface, old.vrid):
            self.master, self._heard_at, self._rival_since = None, -math.inf, math.inf
        return []

    def hear(self, fact: Fact, now: float) -> list[Effect]:
        match fact:
            case Heard(advert, source):
                return self.receive(advert, source, now)
            case Seen(elsewhere):
                return self.sees(elsewhere, now)
            case KeepalivedFound(runs, reason):
                return self.found(runs, reason, now)
            case KeepalivedSaid(_, _, state, is_old, at):
                return self.said(state, is_old, now, at)
            case _:
                return []

    def is_unled(self, now: float) -> bool:
        """Whether keepalived stays backup although nobody has been master for long enough that it should be."""
        silent_since = max(self._advert_at, self.since)
        return self.role is Role.BACKUP and self.runs and now > silent_since + 2 * self.master_down_interval

    def found(self, runs: bool, reason: str, now: float) -> list[Effect]:
        self._met = True
        self.runs, self._lost = runs, "" if runs else f"keepalived does not run: {reason}"
        if not runs:
            self._ended_in_fault |= self.role is Role.FAULT
            self.word, self._claims, self._began_at = "", False, None
        self._differ_since = now
        return self._conclude(now)

    def said(self, state: str, is_old: bool, now: float, at: float | None = None) -> list[Effect]:
        """`at`: when a predecessor of this daemon heard it; a mastership that goes on began then."""
        if is_old and (state == "MASTER") is not self._has_addresses:
            return []  # it was true once
        if state != self.word:
            self._differ_since = now
        if state == "MASTER":
            self._listen_until = -math.inf
            if self.role is Role.MASTER and at is not None:
                self.reign_at = max(self.reign_at, at)  # it had ended, and nobody was there to hear of it
        # STOP is said by one that ends: no word on whether this node is well.
        self._ended_in_fault = state == "STOP" and (self._ended_in_fault or self.role is Role.FAULT)
        self.word, self._began_at, self._disproved = state, at, False
        return self._conclude(now)

    def sees(self, has_addresses: bool, now: float) -> list[Effect]:
        """Whether the kernel has the addresses where keepalived puts them."""
        if has_addresses is self._has_addresses:
            return []
        self._has_addresses, self._differ_since = has_addresses, now
        return self._conclude(now)

    def constrain(self, obstacles: Obstacles, now: float) -> list[Effect]:
        """A link that is down, a service, and whether it is damped, is for keepalived to see."""
        if self._barred and not obstacles.barred:
            self._listen_until = now + self.master_down_interval  # somebody else may be master by now
        self._barred = obstacles.barred
        return self._conclude(now)

    def stop(self, reason: str, now: float) -> list[Effect]:
        self._stopped = reason
        return self._conclude(now)

    def tick(self, now: float) -> list[Effect]:
        return self._conclude(now)

    def receive(self, advert: Advert, source: Address, now: float) -> list[Effect]:
        if source == self.config.source or (self.config.peers and source not in self.config.peers):
            self.adverts.refused[Refused.NOT_A_PEER] += 1
            self.dropped.count("dropped, from an address that is not a peer", now)
            return []
        if advert.priority == ASKING:
            return []  # no master
        self.adverts.hear(advert.priority, now)
        self._advert_at, self._advert_from, self._is_alone = now, source, False
        if advert.priority == 0:
            self.master, self._heard_at, self._rival_since = None, -math.inf, math.inf
            return self._conclude(now)
        if self.config.version == 3:
            self._master_interval = advert.interval
        was_silent = now > self._heard_at + self.master_down_interval
        if (was_silent or source != self.master) and self.role is not Role.MASTER:
            self.other_reign_at = now
        if was_silent or self._rival_since == math.inf:
            self._rival_since = now
        self.master, self._heard_at = source, now
        if now < self._listen_until:
            self._listen_until = now + self.master_down_interval
        return self._conclude(now)

    def _conclude(self, now: float) -> list[Effect]:
        role, reason = self._decide(now)
        began_at = now if self._began_at is None else min(self._began_at, now)
        if self.runs:
            self._began_at = None
        if (role, reason) == (self.role, self.reason):
            return []
        if role is not self.role:
            self.turns = self.turns.and_then(self.role.value, role.value, self._cause(role))
            self.since = now
            if role is Role.MASTER:
                self.master, self._disproved = None, True
                self._is_alone = now > self._advert_at + CONTESTED_AFTER * self._master_interval
                self.reign_at = began_at
                self.onset = Onset()  # keepalived detects and decides
            elif self.role is Role.MASTER and self.master:
                self.other_reign_at = min(self._rival_since, now)
        self.role, self.reason = role, reason
        return [Became("role", self.name, role.value, reason)]

    def _cause(self, role: Role) -> Cause:
        if self._stopped:
            return Cause.STOP
        is_barred = self.role is Role.MASTER and role is not Role.MASTER and self._claims and self._barred
        return Cause.BARRED if is_barred else Cause.KEEPALIVED

    def _decide(self, now: float) -> tuple[Role, str]:
        """Guard after guard, the first that applies decides; sets the deadline at which it would decide otherwise."""
        self.deadline, self.doubts = math.inf, False
        if not self._met:
            return Role.INIT, self.reason
        if self._stopped:
            return Role.INIT, self._stopped
        if self._lost:
            return Role.BACKUP, self._lost
        claims, reason = self._claim(now)
        otherwise = Role.FAULT if self.word == "FAULT" and not self._disproved else Role.BACKUP
        self._claimed_because = reason
        self._begin_or_end_claim(claims, now)
        if not claims:
            return otherwise, reason
        if self._barred:
            return otherwise, self._barred
        if now < self._listen_until:
            self.deadline = self._listen_until
            return otherwise, f"{reason}: listening for another master first"
        if self._contested(now):
            self.doubts = True
            return otherwise, f"contested: {reason}, and {self.master} sends adverts too"
        return Role.MASTER, reason

    def _claim(self, now: float) -> tuple[bool, str]:
        """Whether keepalived is master by what it says and has, and how we know."""
        match self.word, self._has_addresses:
            case "MASTER", True:
                return True, "keepalived says MASTER"
            case "MASTER", False if now < self._differ_since + PATIENCE:
                self.deadline = self._differ_since + PATIENCE
                return self._claims, self._claimed_because
            case "MASTER", False:
                self.doubts = True
                return False, f"keepalived says MASTER, but its addresses are not on {self.config.interface}"
            case "", True:
                return True, "keepalived has the addresses"
            case "", False:
                return False, "keepalived does not have the addresses"
            case "BACKUP" | "FAULT", True if now >= self._differ_since + BELIEVE_KERNEL_AFTER:
                self.doubts = True
                return True, f"keepalived has the addresses, although it said {self.word}"
            case "BACKUP" | "FAULT", True:
                self.deadline = self._differ_since + BELIEVE_KERNEL_AFTER
        return False, f"keepalived says {self.word}"

    def _begin_or_end_claim(self, claims: bool, now: float) -> None:
        if claims is self._claims:
            return
        self._claims = claims
        self._rival_since = math.inf
        if claims and self.word != "MASTER":
            self._listen_until = now + self.master_down_interval

    def _contested(self, now: float) -> bool:
        if self._heard_at - self._rival_since <= CONTESTED_AFTER * self._master_interval:
            return False
        quiet_at = self._heard_at + self.master_down_interval
        if now >= quiet_at:
            self._rival_since = math.inf
            return False
        self.deadline = min(self.deadline, quiet_at)
        return True

    def problems(self, around: Surroundings, now: float) -> list[Problem]:
        """What keeps keepalived's word from being believed, or from being heard."""
        name, config = self.name, self.config
        if not self.runs:
            hint = "start keepalived, because this node is not master until it runs: systemctl start keepalived"
            return [Problem(Code.KEEPALIVED_DOWN, name, f"{name}: {self.reason}", hint, since=self.since)]
        found: list[Problem] = []
        if around.link_fault:
            hint = f"bring the interface up: ip link set {config.interface} up"
            found.append(Problem(Code.KEEPALIVED_UNHEARD, name, f"{name}: {around.link_fault}", hint))
        others = ", ".join(around.others)
        if self.doubts:
            hint = (
                "check that keepalived responds (systemctl status keepalived) and that adverts arrive "
                f"(tcpdump -ni {config.interface} vrrp); {COMPARE}"
            )
            if others:
                hint = f"keepalived speaks of {others} too: {COMPARE}"
            found.append(Problem(Code.KEEPALIVED_DOUBTED, name, f"{name}: {self.reason}", hint, since=self.since))
        elif others and not around.is_spoken_of:
            what = f"{name}: keepalived speaks of {others} and never of {config.instance}"
            hint = "set keepalived.instance to the name in keepalived.conf"
            found.append(Problem(Code.KEEPALIVED_OTHER_INSTANCE, name, what, hint))
        elif self.role is Role.MASTER and self._is_alone:
            found.append(unheard(name, self._advert_from, self._advert_at, now))
        elif self.is_unled(now):
            silence = f"nobody sends adverts for vrid {config.vrid} on {config.interface}"
            what = f"{name}: {silence}, and keepalived stays BACKUP"
            hint = f"{COMPARE}; check that keepalived responds: systemctl status keepalived"
            found.append(Problem(Code.KEEPALIVED_BACKUP_UNLED, name, what, hint, since=self._advert_at))
        return found
