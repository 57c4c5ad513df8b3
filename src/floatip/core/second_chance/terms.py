"""The words of the second chance: what the daemon wants, what the machine wants done, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from floatip.core.addresses import Address
from floatip.core.second_chance.direct import Probe
from floatip.core.second_chance.flow import Flow
from floatip.core.second_chance.wire import Frame


class Phase(Enum):
    REST = "rest"
    """Not master. What is left of its connections is kept if somebody asks."""
    OFFERS = "offers"
    """Master, and about to hand over."""
    ASKS = "asks"
    """About to take over from a node that is well."""
    CARRIES = "carries"


class Fault(StrEnum):
    """Why it does not work with another node."""

    HERE = "here"
    """This node cannot take part."""
    UNHEARD = "unheard"
    """Nothing of it comes through the tunnel."""
    DEAF = "deaf"
    """It hears nothing from this node through the tunnel."""
    LARGE = "large"
    """Only small packets come through the tunnel."""
    THERE = "there"
    """It cannot take part, as it says."""


class End(StrEnum):
    """Why a stream has ended."""

    DONE = "done"
    """No connection is left."""
    LIMIT = "limit"
    SILENT = "silent"
    """The other node says nothing more through the tunnel."""
    UNACCEPTED = "unaccepted"
    """No packet that is forwarded reaches a socket of the keeper."""
    UNANSWERED = "unanswered"
    """No answer of the keeper comes back."""
    MOVED_ON = "moved-on"
    """Neither of the two nodes is the carrier any more."""
    UNABLE = "unable"
    """The kernel of the carrier does not do what it should."""
    THERE = "there"
    """The carrier has ended it, with connections left, and knows why."""


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
    direct: frozenset[Address] = frozenset()
    """Those of them from which they leave by this node's own way instead."""


@dataclass(frozen=True, slots=True)
class ExpectProbes:
    """The probes that are looked for at the uplinks, and counted (`SecondChance.counted`): the whole set."""

    probes: frozenset[Probe]


@dataclass(frozen=True, slots=True)
class SendProbes:
    """By the way that answers take which do not go through the tunnel."""

    nonce: bytes
    sources: frozenset[Address]
    to: Address


@dataclass(frozen=True, slots=True)
class Through:
    """Another node, and whether the second chance works with it."""

    node: str
    works: bool
    why: str = ""
    """Why not."""
    fault: Fault | None = None
    """The same as a code; None: it works."""


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
    until: float
    """Likewise: when it ends at the latest."""
    forwarded: int
    """Packets, both ways: to the keeper, as the carrier counts."""
    accepted: int
    """Packets that reached a socket of the keeper."""
    direct: bool = False
    """Answers leave the keeper by its own way to the clients."""
    distrust: str = ""
    """Why they do not any more, though probes arrive. The keeper knows it."""


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
    asked: frozenset[tuple[str, str]] = frozenset()
    """Instance and node: of an offer, who has asked for the connections."""


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
    end: End

    @property
    def reset(self) -> int:
        """How many connections are reset now, as far as this node can tell: none, where they go on by another way.

        A keeper that hears nothing of the carrier cannot tell: the carrier's kernel may go on without its process.
        """
        goes_on = self.end is End.MOVED_ON or (self.end is End.SILENT and not self.forwards)
        return 0 if goes_on else self.connections


Effect = (
    SendFrame | ListSockets | CountPackets | Forward | Admit | HoldBack | AnswerBy | ExpectProbes | SendProbes | Tell
    | Over
)  # fmt: skip
