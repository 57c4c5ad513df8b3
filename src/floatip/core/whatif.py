"""One question, answered for each instance: which play fits its election."""

from collections.abc import Callable

from floatip.core import settings
from floatip.core.foresight import Names, Outcome, Question
from floatip.core.instance import Instance
from floatip.core.node import Node
from floatip.core.nodes_play import NodesPlay
from floatip.core.virtual_router_play import VirtualRouterPlay, static_outcome


def foreseen(node: Node, question: Question, known: Names, now: float) -> Callable[[Instance], Outcome]:
    """What is common to all instances is computed once, and when it is first needed."""
    fleet = NodesPlay(node, question, known, now) if node.fleet else None

    def outcome(instance: Instance) -> Outcome:
        match instance.config.election:
            case settings.Nodes() if fleet:
                return fleet.outcome(instance)
            case settings.Vrrp() | settings.Keepalived():
                return VirtualRouterPlay(node, question, known, instance, now).outcome()
        return static_outcome(node, question, known, instance, now)

    return outcome
