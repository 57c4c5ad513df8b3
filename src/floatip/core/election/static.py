"""No election: the role is configured, as with lelastic's flags."""

import math

from floatip.core.addresses import Address
from floatip.core.counters import Turns
from floatip.core.drops import Drops
from floatip.core.election.elector import Elector, Role, Subject
from floatip.core.settings import Election, Static


class StaticElector(Elector):
    deadline = math.inf
    hears = frozenset[Subject]()
    interface = ""
    detection_time = 0.0
    master_down_interval = None
    preference = None
    sick = well = ""
    adverts = None
    address_moves = False
    reign_at = other_reign_at = -math.inf
    reign = 0
    cause = None
    asks = False
    onset = None

    def __init__(self, config: Static, now: float) -> None:
        self.role = _role(config)
        self.reason = "configured, no election"
        self.since = now
        self.master: Address | None = None
        self.dropped = Drops()
        self.turns = Turns()

    def goes_on_as(self, config: Election) -> bool:
        return isinstance(config, Static) and _role(config) is self.role


def _role(config: Static) -> Role:
    return Role.MASTER if config.role == "primary" else Role.BACKUP
