"""No election: the role is configured, as with lelastic's flags."""

import math
from collections.abc import Iterable

from floatip.core.addresses import Address
from floatip.core.drops import Drops
from floatip.core.election.elector import Fact, Obstacles, Role, Subject, Surroundings
from floatip.core.events import Effect
from floatip.core.problems import Problem
from floatip.core.settings import Election, Static


class StaticElector:
    interface = ""
    detection_time = 0.0
    master_down_interval = None
    preference = None
    sick = well = ""
    address_moves = False
    reign_at = other_reign_at = -math.inf

    def __init__(self, config: Static, now: float) -> None:
        self.role = _role(config)
        self.reason = "configured, no election"
        self.since = now
        self.deadline = math.inf
        self.master: Address | None = None
        self.dropped = Drops()

    @property
    def hears(self) -> frozenset[Subject]:
        return frozenset()

    def goes_on_as(self, config: Election) -> bool:
        return isinstance(config, Static) and _role(config) is self.role

    def reconfigure(self, config: Election, addresses: Iterable[Address], now: float) -> list[Effect]:
        return []

    def hear(self, fact: Fact, now: float) -> list[Effect]:
        return []

    def constrain(self, obstacles: Obstacles, now: float) -> list[Effect]:
        return []

    def tick(self, now: float) -> list[Effect]:
        return []

    def ask(self) -> list[Effect]:
        return []

    def stop(self, reason: str, now: float) -> list[Effect]:
        return []

    def problems(self, around: Surroundings, now: float) -> list[Problem]:
        return []


def _role(config: Static) -> Role:
    return Role.MASTER if config.role == "primary" else Role.BACKUP
