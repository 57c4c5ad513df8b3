"""What the machine of the second chance knows of another node: what it takes from it, and what it keeps for it."""

import math
from dataclasses import dataclass, field

from floatip.core.addresses import Address
from floatip.core.second_chance.direct import Belief
from floatip.core.second_chance.flow import Flow
from floatip.core.second_chance.wire import NO_NONCE, Ask, AskFlag, Hello, Listing

GOES_NOWHERE = 10
"""Packets that were forwarded, none of which is accepted: that many are no accident."""
LITTLE, LITTLE_PATIENCE = 3, 5
"""Of so few packets that are lost, so many times as long: one that is lost alone comes again."""


@dataclass(slots=True, eq=False)
class Sought:
    """An address of which this node wants a keeper's connections."""

    instance: str
    number: int = 0
    """Of the first `Ask` that names it."""
    asked_at: float = math.inf
    moved_at: float | None = None
    until: float = math.inf
    is_reverse: bool = False
    """The other node is or becomes the carrier; what reaches this node by mistake is passed on."""


@dataclass(slots=True, eq=False)
class Gauge:
    """Whether what goes in at one end comes out at the other. Both ends are counted, and seen late."""

    put: int | None = None
    """Packets, as of when one last came out; None: not looked at since."""
    put_before: int = 0
    got: int = 0
    got_at: float = -math.inf
    little_since: float = math.inf
    much_since: float = math.inf

    def look(self, put: int, put_at: float, got: int, now: float) -> None:
        """`put_at`: when that was so, at the earliest. What went in before the last one came out must not count."""
        if got != self.got or (self.put is not None and put < self.put):
            self.put, self.got, self.got_at = None, got, now
            self.little_since = self.much_since = math.inf
        elif self.put is None:
            if put_at >= self.got_at:
                self.put = put
        else:
            lost = self.put_before - self.put
            self.little_since = min(self.little_since, now) if lost >= LITTLE else math.inf
            self.much_since = min(self.much_since, now) if lost >= GOES_NOWHERE else math.inf
        self.put_before = put

    def is_stuck(self, patience: float, now: float) -> bool:
        return now >= min(self.much_since + patience, self.little_since + LITTLE_PATIENCE * patience)


@dataclass(slots=True, eq=False)
class Taking:
    """What this node forwards, or is about to, to a keeper."""

    since: float
    number: int = 0
    sought: dict[Address, Sought] = field(default_factory=dict)
    boot: int = 0
    """Of the keeper's process that made the list."""
    version: int = 0
    answered: int = 0
    """The `Ask` that the list answers."""
    flows: frozenset[Flow] = frozenset()
    pending: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Boot, version, base and parts of a list that is not whole yet."""
    parts: dict[int, Listing] = field(default_factory=dict)
    heard_at: float = -math.inf
    asked_at: float = -math.inf
    accepted: int | None = None
    """As of the last list; None: none was heard."""
    there: Gauge = field(default_factory=Gauge)
    """From this node's uplinks to the keeper's sockets."""
    back: Gauge = field(default_factory=Gauge)
    """From the keeper's sockets to this node's uplinks."""
    is_proven: bool = False
    """A packet was accepted since the move: the keeper says so, or an answer came back."""
    answers_before: int | None = None
    """Packets that had come back by the move, or since when all are of this keeper; None: that is to be counted yet."""
    is_direct: bool = False
    """The keeper's answers leave by its own way, as it says."""

    @property
    def moved(self) -> list[float]:
        """When addresses were taken over."""
        return [one.moved_at for one in self.sought.values() if one.moved_at is not None]

    def take(self, boot: int, told: Listing, now: float) -> bool:
        """A part of a list. Whether the list is whole now, or is as it was."""
        is_known = boot == self.boot
        if told.base == told.version:
            return is_known and told.version == self.version
        if told.base and not (is_known and told.base == self.version):
            return False
        if is_known and told.version <= self.version:
            return False
        about = boot, told.version, told.base, told.parts
        if about != self.pending:
            if boot == self.pending[0] and told.version < self.pending[1]:
                return False
            self.pending, self.parts = about, {}
        self.parts[told.part] = told
        self.heard_at = max(self.heard_at, now - told.asked_ago / 1000)
        if len(self.parts) < told.parts:
            return False
        parts, self.parts, self.pending = self.parts.values(), {}, (0, 0, 0, 0)
        before = self.flows if told.base else frozenset[Flow]()
        self.flows = before.difference(*(one.remove for one in parts)).union(*(one.add for one in parts))
        self.boot, self.version = boot, told.version
        self.asked_at = -math.inf  # to confirm it at once
        return True

    def begin(self, answers: int | None) -> None:
        """Another address was taken over. `answers`: packets that have come back so far; None: nobody knows."""
        self.there, self.back, self.is_proven, self.answers_before = Gauge(), Gauge(), False, answers

    def came_back(self, answers: int | None) -> None:
        """`answers`: packets so far; None: some of them may be another keeper's."""
        if answers is None or self.answers_before is None or answers < self.answers_before:
            self.answers_before = answers
        elif answers > self.answers_before:
            self.is_proven = True  # its process may wait for a CPU, and the kernel goes on

    def accepts(self, told: Listing) -> None:
        """What it says of packets that have reached its sockets."""
        if self.moved and self.accepted is not None and told.accepted > self.accepted:
            self.is_proven = True
        self.accepted, self.is_direct = told.accepted, told.is_direct


@dataclass(slots=True, eq=False)
class Keeping:
    """What another node forwards to this one, or is about to."""

    boot: int
    ask: Ask
    heard_at: float
    version: int = 0
    """That it forwards."""
    base: frozenset[Flow] = frozenset()
    listed: frozenset[Flow] = frozenset()
    number: int = 0
    """The `Ask` that `listed` answers; 0: nothing was listed yet."""
    out: list[Listing] = field(default_factory=list)
    """What was said and not confirmed yet."""
    out_flows: frozenset[Flow] = frozenset()
    said_at: float = -math.inf
    admitted: frozenset[Flow] = frozenset()
    carries_since: float = math.inf
    """Since when the other node carries them, or may do so: this node has given them up, and several nodes asked."""
    says_so: bool = False
    """Whether it said that it carries them."""
    given_at: float = -math.inf
    """When this node, which was the carrier, gave it up."""
    is_orphan: bool = False
    """The carrier has fallen silent, and may be gone."""
    belief: Belief = field(default_factory=Belief)

    def confirm(self, version: int) -> None:
        """The other node says which list of this process it forwards; 0: none."""
        if self.out and version == self.out[0].version:
            self.version, self.base, self.out = version, self.out_flows, []
        elif version != self.version:  # it has begun again, or this process has
            self.version, self.base, self.out = 0, frozenset(), []

    @property
    def distrust(self) -> str:
        """Why no probe of this stream proves anything any more."""
        return self.belief.why if self.ask.nonce in (NO_NONCE, self.belief.disbelieved) else ""

    @property
    def believes(self) -> bool:
        """Whether a probe proves anything."""
        settled = self.says_so and not self.is_orphan and not self.is_fast
        return settled and self.ask.nonce not in (NO_NONCE, self.belief.disbelieved)

    @property
    def is_fast(self) -> bool:
        return (bool(self.ask.flags & AskFlag.FAST) or bool(self.ask.reverse)) and not self.is_orphan

    @property
    def sought(self) -> frozenset[Address]:
        """Of which the other node is, or becomes, the carrier."""
        return self.ask.addresses - self.ask.reverse

    @property
    def asks_back(self) -> frozenset[Address]:
        """Of which this node is to ask, too."""
        return self.sought if self.ask.flags & AskFlag.FAST and not self.is_orphan else frozenset()

    @property
    def is_ready(self) -> bool:
        return bool(self.ask.flags & AskFlag.READY)


@dataclass(slots=True, eq=False)
class Peer:
    name: str
    identity: bytes
    boot: int = 0
    old_boots: set[int] = field(default_factory=set)
    known_at: float = -math.inf
    """Since when it has this boot, and is heard."""
    unproven: int = 0
    last: int = 0
    """The greatest sequence heard."""
    sequence: int = 0
    heard_at: float = -math.inf
    hears_us_at: float = -math.inf
    was_heard_at: float = -math.inf
    """Whatever it said, also before it has repeated our boot."""
    whole_at: float = -math.inf
    """When a packet of the full size came."""
    hello_at: float = -math.inf
    hello: Hello = field(default_factory=lambda: Hello(False, "it has said nothing yet"))
    offered_at: float = -math.inf
    wanted_at: float = -math.inf
    """When it offered addresses last."""
    offers: frozenset[Address] = frozenset()
    taking: Taking | None = None
    keeping: Keeping | None = None
    goodbyes: int = 0
    last_words: str = ""
    done: set[tuple[Address, float]] = field(default_factory=set)
    """Addresses, and when they moved, of which nothing is asked any more."""
