"""Whether all that an administrator has moved away from this node has gone, with its open connections.

It begins with `floatip drain` or `floatip handover`. It is over when this node is master of nothing and no connection
of it goes on by another node: then `drained` of `[notify]` is told, and `floatip drain --wait` returns. It is given up
where the order is taken back, or where the handover leaves this node master of something.
"""

from enum import StrEnum

from floatip.core.events import Became, Effect
from floatip.core.second_chance.terms import End, Over


class Order(StrEnum):
    DRAIN = "drain"
    HANDOVER = "handover"


class Departure:
    def __init__(self) -> None:
        self.order: Order | None = None
        """None: nothing is waited for."""
        self.said = ""
        """How the last one ended; empty: none has, since the last began."""
        self._cut = self._unknown = 0
        """Connections that were cut off, and those of which nobody knows whether they go on."""
        self._why = ""
        """Why the last of them were."""

    def begin(self, order: Order) -> None:
        self.order, self.said, self._cut, self._unknown, self._why = order, "", 0, 0, ""

    def give_up(self) -> None:
        self.order = None

    def over(self, over: Over) -> None:
        """Connections do not go on any more."""
        if over.forwards or over.end is End.MOVED_ON or not over.connections:
            return
        self._cut += over.reset
        self._unknown += over.connections - over.reset
        self._why = over.reason

    def look(self, name: str, *, is_master: bool, is_meant: bool, keeps: bool) -> list[Effect]:
        """`name` of this node. `is_master`: of any instance. `is_meant`: the order stands, or has not failed.

        `keeps`: connections go on here by another node.
        """
        if self.order is None or (is_master and is_meant):
            return []
        if not is_meant:
            self.give_up()
            return []
        if keeps:
            return []
        what = "all that this node carried has moved away"
        if self._cut:
            what += f"; {self._cut} connection{'s were' if self._cut > 1 else ' was'} reset: {self._why}"
        elif self._unknown:
            what += f"; {self._unknown} connection{'s' * (self._unknown > 1)} may have been reset: {self._why}"
        else:
            what += ", and no connection goes on here"
        value = f"after-{self.order}"
        self.give_up()
        self.said = what
        return [Became("empty", name, value, what)]
