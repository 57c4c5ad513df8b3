"""The words of the second chance: what the daemon wants, what the machine wants done, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from floatip.core.addresses import Address
from floatip.core.second_chance.wire import Flow, Frame


class Phase(Enum):
    REST = "rest"
    """Not master. What is left of its connections is kept if somebody asks."""
    OFFERS = "offers"
    """Master, and about to hand over."""
    ASKS = "asks"
    """About to take over from a node that is well."""
    CARRIES = "carries"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the daemon wants of an instance."""

    instance: str
    addresses: frozenset[Address]
    phase: Phase
    nodes: tuple[str, ...] = ()
    """`OFFERS`: to whom. `ASKS`: whose connections it waits for."""
    moved_at: float | None = None
    """`CARRIES`: when it took over from a node that was well (monotonic seconds); None: otherwise."""


# Effects


@dataclass(frozen=True, slots=True)
class SendFrame:
    node: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class ListSockets:
    """Answer with `SecondChance.listed`."""

    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class CountPackets:
    """Answer with `SecondChance.counted`."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Change what is forwarded, and to which node. Done when the effect after it is."""

    add: Mapping[Flow, str]
    remove: frozenset[Flow]


@dataclass(frozen=True, slots=True)
class Admit:
    """Change which flows may come in through the tunnel."""

    add: frozenset[Flow]
    remove: frozenset[Flow]


@dataclass(frozen=True, slots=True)
class HoldBack:
    """The addresses from which no RST for an unknown connection leaves: the whole set. Said again while it lasts."""

    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class AnswerBy:
    """To which node packets from each of these addresses leave, through the tunnel: the whole set."""

    nodes: Mapping[Address, str]


@dataclass(frozen=True, slots=True)
class Through:
    """Another node, and whether the second chance works with it."""

    node: str
    works: bool
    why: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Connections of one node that another one forwards to it."""

    node: str
    """The other one."""
    forwards: bool
    """Whether this node forwards to it; else that one does to this node."""
    connections: int
    since: float
    """Monotonic seconds."""
    forwarded: int
    """Packets, both ways: to the keeper, as the carrier counts."""
    accepted: int
    """Packets that reached a socket of the keeper."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands, for the daemon."""

    why_not: str = ""
    """Why this node cannot take part; empty: it can."""
    hint: str = ""
    without: tuple[tuple[str, str], ...] = ()
    """Instances whose connections cannot be moved, and why."""
    through: tuple[Through, ...] = ()
    ready: frozenset[tuple[str, str]] = frozenset()
    """Instance and node: of an offer, who has all that it needs to take over. Of `ASKS`: an empty name: this node."""
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    standing: Standing


@dataclass(frozen=True, slots=True)
class Over:
    """A stream has ended."""

    node: str
    forwards: bool
    connections: int
    """That were left."""
    reason: str


Effect = SendFrame | ListSockets | CountPackets | Forward | Admit | HoldBack | AnswerBy | Tell | Over
