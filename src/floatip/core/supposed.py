"""What the checks of an instance would say, if one of them were up or down."""

import copy

from floatip.core.foresight import Question
from floatip.core.health import CheckState, Health, of_parts
from floatip.core.instance import Instance
from floatip.core.node import Node
from floatip.core.tracks import Tracked, Verdict

HEALTH = {"check-fails": Health.DOWN, "check-passes": Health.UP}


def concerns(node: Node, question: Question, instance: Instance) -> bool:
    """Whether it asks for a check that counts for the instance, also by others or for its sync group."""
    return question.kind in HEALTH and instance.config.name in node.by_check.get(question.of, ())


def verdict_if(node: Node, question: Question, instance: Instance) -> Verdict:
    supposed = {question.of: _but(node.checks[question.of], HEALTH[question.kind])}
    for check in node.derived:
        if not supposed.keys().isdisjoint(check.config.of):
            parts = [supposed.get(part, node.checks[part]) for part in check.config.of]
            passed, _ = of_parts(check.config.quorum, parts)
            if passed is not None:
                health = Health.UP if passed is not check.config.inverted else Health.DOWN
                supposed[check.config.name] = _but(check, health)
    has = node.tracked(instance)
    checks = tuple(supposed.get(check.config.name, check) for check in has.checks)
    tracks = tuple((track, supposed.get(check.config.name, check)) for track, check in has.tracks)
    return Tracked(checks, tracks).judge()


def says_a_number(node: Node, question: Question, instance: Instance) -> bool:
    """Whether what it does to the priority depends on a number that the question does not name."""
    tracks = node.tracked(instance).tracks
    return any(check.value is not None and track.weight and track.check == question.of for track, check in tracks)


def _but(check: CheckState, health: Health) -> CheckState:
    supposed = copy.copy(check)
    if health is not check.health:
        supposed.health, supposed.value = health, None
        supposed.reason = "it fails" if health is Health.DOWN else "it passes"
    return supposed
