"""One question, answered for each instance: which play fits its election."""

from collections.abc import Iterator

from floatip.core import settings
from floatip.core.foresight import Names, Outcome, Question
from floatip.core.instance import Instance
from floatip.core.node import Node
from floatip.core.nodes_play import NodesPlay
from floatip.core.virtual_router_play import VirtualRouterPlay, static_outcome


class Foreseen:
    """`take` is quick and needs the node; `outcomes` may take its time, in another thread."""

    def __init__(self, node: Node, question: Question, known: Names, now: float) -> None:
        self._asked = node, question, known
        self._now = now
        self._fleet = NodesPlay(node, question, known, now) if node.fleet else None
        self._taken: dict[str, Outcome | NodesPlay] = {}

    def take(self, instance: Instance) -> None:
        name = instance.config.name
        match instance.config.election:
            case settings.Nodes() if self._fleet:
                self._fleet.take(instance)
                self._taken[name] = self._fleet
            case settings.Vrrp() | settings.Keepalived():
                self._taken[name] = VirtualRouterPlay(*self._asked, instance, self._now).outcome()
            case _:
                self._taken[name] = static_outcome(*self._asked, instance, self._now)

    def outcomes(self) -> Iterator[Outcome]:
        """Of what was taken, in that order; each is played when it is asked for."""
        for name, one in self._taken.items():
            yield one if isinstance(one, Outcome) else one.outcome(name)


def foreseen(node: Node, question: Question, known: Names, instance: Instance, now: float) -> Outcome:
    """For one instance."""
    every = Foreseen(node, question, known, now)
    every.take(instance)
    (outcome,) = every.outcomes()
    return outcome
