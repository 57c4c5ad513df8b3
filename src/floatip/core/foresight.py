"""What would happen: a question, played on copies of the electors, and the answer for each instance.

Nothing here touches the node. The electors are copied, their clock is a number, and what the other nodes would do
follows from what they have said. What cannot be known from here is said with each answer.
"""

from dataclasses import dataclass, field
from typing import Literal

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.bgp.rank import Rank
from floatip.core.election.elector import Role
from floatip.core.election.router import Router
from floatip.core.instance import Instance
from floatip.core.node import Node
from floatip.core.orders import Refused
from floatip.core.refusals import Why
from floatip.core.rules import Rule

Kind = Literal["now", "down", "check-fails", "drained", "back", "check-passes", "undrained", "resumed", "etcd-gone"]
"""A person asks for "down", "check-fails" and "drained"; `explain` asks the others of what is not as it should be."""


@dataclass(frozen=True, slots=True)
class Question:
    kind: Kind
    of: str = ""
    """A node, or a check of this node."""


@dataclass(frozen=True, slots=True)
class Step:
    """Another node becomes master, in the play."""

    after: float
    """Seconds from the event."""
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would come of it, for one instance."""

    instance: str
    if_: Kind
    of: str
    before: str
    """The node that carries it now; empty: none is known."""
    carrier: str
    """The node that would carry it then; empty: none, or which one cannot be known from here."""
    certain: bool
    """Whether this follows from what is known here."""
    after: float | None
    """Seconds until another node carries it, about; None: nothing moves."""
    rule: Rule
    what: str
    """A sentence."""
    candidates: tuple[str, ...] = ()
    """Where it is not certain: the nodes of which one would carry it."""
    unknown: tuple[str, ...] = ()
    """What cannot be known from here."""
    refused: str = ""
    """Why floatip would refuse that command now."""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """What the nodes are called: as the configuration calls them, or else by their address."""

    own: str
    others: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)
    """Other words for them."""

    def find(self, word: str) -> str:
        """Empty: there is none."""
        return word if word in (self.own, *self.others) else self.aliases.get(word, "")

    def of(self, address: Address | None) -> str:
        return self.aliases.get(str(address), str(address)) if address else ""


def names(node: Node, host: str = "") -> Names:
    """`host`: the name of this machine, which means this node where no other has that name."""
    aliases: dict[str, str] = {}
    own, others = "", list[str]()
    if node.fleet:
        own = node.fleet.own.name
        others = [peer.name for peer in node.fleet.others]
        aliases = {str(each.address): each.name for each in node.fleet.link.config.nodes}
    for instance in node.instances.values():
        election = instance.config.election
        if isinstance(election, settings.Vrrp | settings.Keepalived):
            own = own or str(election.source)
            aliases.setdefault(str(election.source), own)
            elector = instance.elector
            heard = elector.master or (elector.last_heard if isinstance(elector, Router) else None)
            for address in (*election.peers, *([heard] if heard else [])):
                if aliases.setdefault(str(address), str(address)) not in (own, *others):
                    others.append(aliases[str(address)])
    own = own or host or "this node"
    if host and host not in others:
        aliases.setdefault(host, own)
    return Names(own, tuple(others), aliases)


def objection(node: Node, question: Question, instance: str | None, known: Names) -> Refused | None:
    """Why it cannot be answered."""
    if instance is not None and instance not in node.instances:
        return Refused(
            f"there is no instance {instance}", f"the instances are: {_list(node.instances)}", Why.UNKNOWN_NAME
        )
    match question.kind:
        case "down" | "drained" | "back" if not known.find(question.of):
            what = f"there is no node {question.of}"
            if not known.others:
                hint = f"this node is {known.own}, and it knows no others: name them with [[node]] tables"
                return Refused(what, hint, Why.UNKNOWN_NAME)
            hint = f"the nodes are: {_list((known.own, *known.others))}; this one is {known.own}"
            return Refused(what, hint, Why.UNKNOWN_NAME)
        case "check-fails" | "check-passes" if question.of not in node.checks:
            hint = f"the checks of this node are: {_list(node.checks)}"
            if not node.checks:
                hint = "this node has no checks; those of keepalived are keepalived's own"
            return Refused(f"there is no check {question.of}", hint, Why.UNKNOWN_NAME)
        case "drained" if node.fleet is None:
            hint = "name all nodes in the configuration, each with a [[node]] table; floatip drain needs them too"
            return Refused("no [[node]] is configured: no node can be drained", hint, Why.NO_NODES)
        case "etcd-gone" if node.arbiter is None:
            return Refused("etcd has no part in this: [etcd] is not in the configuration", "", Why.UNKNOWN_NAME)
    return None


def reaches(node: Node, instance: Instance) -> bool:
    """Whether what this node does as master can lead traffic to it."""
    if not instance.targets and instance.config.placement != "found":
        return True  # it only elects and notifies
    if node.sessions and instance.is_announced:
        prefixes = [target.prefix for target in instance.targets]
        return any(session.tells(prefix) for session in node.sessions.values() for prefix in prefixes)
    return any(instance.held(node.holding))


def _list(known: object) -> str:
    return ", ".join(map(str, known)) or "none"  # type: ignore[call-overload]


def carrier(node: Node, instance: Instance, known: Names, now: float) -> str:
    """The node that is master of it now, as far as this one knows; empty: none that is known."""
    elector = instance.elector
    if instance.role is Role.MASTER:
        return known.own if instance.decision.rank is not Rank.NONE and reaches(node, instance) else ""
    if node.fleet and isinstance(instance.config.election, settings.Nodes):
        return node.fleet.carrier(instance.config.name)
    if isinstance(elector, Router):
        return known.of(elector.master or elector.heard(now))
    return known.of(elector.master)
