"""Who elects for an instance, behind one door.

An elector learns facts, is told what stands in this node's way, and says which role the node has and why. `Instance` is
the only one that speaks with it. Four exist: `NodesElector` (the nodes among themselves, over the link), `Router`
(VRRP of our own), `Follower` (a keepalived that the administrator keeps), and `Static` (no election).
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.arbiter import Ruling
from floatip.core.counters import Adverts, Cause, Turns
from floatip.core.drops import Drops
from floatip.core.events import Effect, KeepalivedFound, KeepalivedSaid
from floatip.core.problems import Code, Problem, Severity
from floatip.core.settings import Election, Keepalived, Vrrp
from floatip.core.vrrp.wire import Advert

ASKING = 1
"""The priority of an advert by which a backup of ours asks its master whether it lives (see `router`)."""


class Role(Enum):
    INIT = "init"
    BACKUP = "backup"
    MASTER = "master"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Heard:
    """An advert of another node."""

    advert: Advert
    source: Address
    ttl: int
    destination: Address | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether the kernel has the instance's addresses on an interface where floatip does not hold them."""

    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """Another node, which lives, says over the link that it is master."""

    node: str
    address: Address
    reign: int
    """When its mastership began, in milliseconds since the epoch."""
    ready: bool
    acknowledged: bool
    """A route server has what it announces as master."""
    leaves: bool
    """It wants another node to take over."""
    successor: str
    """Which one; empty: whoever is best."""
    why_it_leaves: str = ""
    """In words; empty: not known, as when somebody asked for a handover."""
    is_heard: bool = True
    """False: only etcd says so, and the link does not hear that node."""
    epoch: int = 0
    """The last with which etcd made it the owner; 0: none, or etcd has no part in it."""


@dataclass(frozen=True, slots=True)
class Others:
    """What is known over the link of one instance, and of this node's place among those that could be its master."""

    claims: tuple[Claim, ...]
    untold: bool
    """Whether a node lives that has not said yet what it is master of."""
    is_ready: bool
    """Whether this node could be master now, as it has said."""
    place: int
    """Nodes that are ready and come before this one, where nobody is master."""
    is_best: bool
    """Whether this node is preferred to the one that has it."""
    is_called: bool
    """Whether this node has to have it, because it has the instances that are together with it."""
    own: settings.Node
    preference: int
    """Its place in the order that follows from the configuration alone."""
    detection_time: float
    clock_ahead: float
    """Seconds from monotonic time to seconds since the epoch."""
    gone: str = ""
    """What became of the last master, in words."""
    heard_at: float | None = None
    """The last sign of life of the last master, if it fell silent."""


@dataclass(frozen=True, slots=True)
class Onset:
    """What came before a mastership of this node, in monotonic seconds; None: not known."""

    heard_at: float | None = None
    """The last sign of life of a master that fell silent."""
    open_at: float | None = None
    """When this node knew that nobody else is master, or that it is to take over from another."""


Fact = Heard | Seen | KeepalivedFound | KeepalivedSaid | Others | Ruling
Subject = Hashable
"""What a fact is about."""


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What stands in this node's way, each in words; empty: nothing does."""

    waiting: str = ""
    """It cannot start yet."""
    sick: str = ""
    """It cannot serve."""
    link: str = ""
    """It cannot take part in the election."""
    barred: str = ""
    """It must not be master."""
    leaving: str = ""
    """It must not become master, and a master waits only until another node has taken over."""
    paused: str = ""
    """It stays what it is, as long as it can."""
    unprepared: str = ""
    """What has to be done before it takes over from a master that is well."""
    damped: str = ""
    """It must not be master while another node is: it hands over once, and takes over only from a silent master."""
    holds_back: str = ""
    """Other members of its sync group do not want to be master yet: it only wants to be (`Router.wants_master`)."""
    yields: str = ""
    """Another member of its sync group is no longer master: a master becomes backup, without priority 0."""
    shift: int = 0
    """What tracked checks add to its priority, or take off."""
    why_shift: str = ""
    """Whose success or failure that was; for the news."""

    @property
    def are_none(self) -> bool:
        """Whether nothing keeps it from being master in time, or as soon as its checks have answered."""
        return not (self.sick or self.link or self.barred or self.leaving or self.paused or self.damped)


KEEPALIVED: Subject = "keepalived"
ADDRESSES: Subject = "addresses"
"""Of `Seen`."""


def others(instance: str) -> Subject:
    """What the other nodes say of it over the link."""
    return "others", instance


def ruling(instance: str) -> Subject:
    """What etcd says of it."""
    return "ruling", instance


def adverts(interface: str, vrid: int, ip_version: int = 4) -> Subject:
    """Of each version of IP, a virtual router of its own (RFC 9568 section 1.7)."""
    return "adverts", interface, vrid, ip_version


def keepalived(kind: str, name: str) -> Subject:
    """An instance or a group of keepalived's."""
    return "keepalived", kind, name


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an elector must know of the rest of the node to explain its troubles."""

    link_fault: str
    """Why VRRP cannot work on its interface; empty: it can."""
    others: tuple[str, ...] = ()
    """Instances of which keepalived speaks and that nobody here follows."""
    is_spoken_of: bool = True
    """Whether keepalived has said anything of this one."""


def unheard(name: str, peer: Address | None, heard_at: float, now: float) -> Problem:
    """Of a master. A backup sends nothing, so all may be well; a master that fell silent is another matter."""
    if peer is None:
        what = f"{name}: no other node has been heard (a backup is silent)"
        hint = "run floatip status on the other node; if it is MASTER too, let IP protocol 112 pass"
        return Problem(Code.PEER_UNHEARD, name, what, hint, Severity.NOTE)
    what = f"{name}: {peer} was master, fell silent, and has not been heard for {now - heard_at:.0f} s"
    hint = f"run floatip status on {peer}; if it is MASTER too, let IP protocol 112 pass"
    return Problem(Code.PEER_UNHEARD, name, what, hint, Severity.WARNING, heard_at)


class Elector(Protocol):
    """Time is an argument (monotonic seconds); every method that changes something returns the effects.

    What a method does here is right where nobody elects.
    """

    role: Role
    reason: str
    """Because of what it has this role."""
    since: float
    master: Address | None
    """Who is master elsewhere, as far as we hear."""
    reign_at: float
    """When this node became master last; `-math.inf`: never."""
    cause: Cause | None
    """Why it has this role; None: nobody elects, or somebody else does."""
    asks: bool
    """Whether it is about to take over from a master that is well, and `Obstacles.unprepared` keeps it from that."""
    reign: int
    """When a master that the nodes elected began, in milliseconds since the epoch; 0: it is none."""
    other_reign_at: float
    """When the latest other master that we know of began, or was first heard; `-math.inf`: there was none."""
    onset: Onset | None
    """Of the latest mastership of this node; None: it was none, or nobody elects."""
    dropped: Drops
    turns: Turns
    address_moves: bool
    """Whether the master alone holds the addresses."""

    @property
    def adverts(self) -> Adverts | None:
        """None: it sends and hears none."""

    @property
    def deadline(self) -> float:
        """When `tick` is wanted; `math.inf`: it waits for nothing."""

    @property
    def hears(self) -> frozenset[Subject]:
        """What the facts must be about that it wants to learn."""

    @property
    def interface(self) -> str:
        """The interface without which it cannot work; empty: it needs none."""

    @property
    def detection_time(self) -> float:
        """Seconds after which a silent master is noticed, by the configuration; 0: no election."""

    @property
    def master_down_interval(self) -> float | None:
        """The same by what was heard (RFC 9568 section 6.1), in seconds; None: no election."""

    @property
    def preference(self) -> tuple[int, Address] | None:
        """Priority and source address, by which an election orders the nodes; None: no order."""

    @property
    def sick(self) -> str:
        """Why it takes this node for sick; empty: it does not."""

    @property
    def well(self) -> str:
        """Why this node is taken for well where no check of ours looks; empty: it has nothing to say."""

    def goes_on_as(self, config: Election) -> bool:
        """Whether `reconfigure` can take this over, so that role and memories stay."""

    def reconfigure(self, config: Election, addresses: Iterable[Address], now: float) -> list[Effect]:
        return []

    def hear(self, fact: Fact, now: float) -> list[Effect]:
        return []

    def constrain(self, obstacles: Obstacles, now: float) -> list[Effect]:
        return []

    def tick(self, now: float) -> list[Effect]:
        return []

    def ask(self, now: float) -> list[Effect]:
        """Make a master that may be there say so at once."""
        return []

    def hand_over(self, now: float) -> list[Effect]:
        """Let the others take over who may take this node for master."""
        return []

    def stop(self, reason: str, now: float) -> list[Effect]:
        return []

    def problems(self, around: Surroundings, now: float) -> list[Problem]:
        return []


class VirtualRouter:
    """What the electors of a virtual router have in common, whoever elects: the times and the order of RFC 9568."""

    config: Vrrp | Keepalived
    reign_at = other_reign_at = -math.inf
    reign = 0
    cause: Cause | None = None
    asks = False
    onset: Onset | None = None
    _master_interval: float
    """Seconds between two adverts of the master, as far as we know."""
    address_moves = False

    def ask(self, now: float) -> list[Effect]:
        return []

    def hand_over(self, now: float) -> list[Effect]:
        return []

    @property
    def interface(self) -> str:
        return self.config.interface

    @property
    def down_timer_adverts(self) -> int:
        """So many adverts are missed before a master is gone."""
        return 3

    @property
    def priority(self) -> int:
        return self.config.priority

    @property
    def preference(self) -> tuple[int, Address]:
        return self.priority, self.config.source

    @property
    def detection_time(self) -> float:
        return self._down_after(self.config.advert_interval)

    @property
    def master_down_interval(self) -> float:
        return self._down_after(self._master_interval)

    @property
    def skew(self) -> float:
        return self._skew(self._master_interval, self.priority)

    def _down_after(self, advert_interval: float) -> float:
        return self.down_timer_adverts * advert_interval + self._skew(advert_interval, self.priority)

    def _skew(self, advert_interval: float, priority: int) -> float:
        """In seconds (RFC 9568 section 6.1; version 2: RFC 3768, which knows only whole seconds)."""
        return (256 - priority) / 256 * (1.0 if self.config.version == 2 else advert_interval)
