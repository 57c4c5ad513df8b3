"""What an operator asks on the control socket: `floatip drain` and its like, and how far it has come."""

from collections.abc import Callable
from typing import Any

from floatip.core.events import Drained, Event, HandoverAsked, KeepOrders, Order, OrdersRecalled, Paused
from floatip.core.node import Node
from floatip.core.orders import Progress, Refused, names_to_hand_over, objection, progress
from floatip.host.ask import Record
from floatip.host.control import Command
from floatip.host.disk import Memory

LONGEST = 366 * 86400.0
"""Seconds."""


class Orders:
    def __init__(self, node: Callable[[], Node], report: Callable[[Event], None], memory: Memory) -> None:
        self._node = node
        self._report = report
        self._memory = memory
        self._asked: Drained | Paused | HandoverAsked | None = None

    def commands(self, now: Callable[[], float]) -> dict[str, Command]:
        """`now`: seconds since the epoch."""

        def until(request: Record) -> float:
            lasts = request.get("for")
            return now() + min(float(lasts), LONGEST) if isinstance(lasts, int | float) and lasts > 0 else 0.0

        def order(request: Record) -> Order:
            return Order(str(request.get("reason") or ""), until(request))

        def handover(request: Record) -> HandoverAsked:
            names = names_to_hand_over(self._node(), _text(request, "instance"))
            return HandoverAsked(names, _text(request, "to") or "")

        ways: dict[str, Callable[[Record], Drained | Paused | HandoverAsked]] = {
            "drain": lambda request: Drained(order(request)),
            "undrain": lambda request: Drained(None),
            "pause": lambda request: Paused(order(request)),
            "resume": lambda request: Paused(None),
            "handover": handover,
        }
        commands = {name: Command(self._answering(read), f"ask for {name}") for name, read in ways.items()}
        return commands | {"verb-status": Command(lambda request, pid: self._standing(), "ask how it stands")}

    def keep(self, effect: KeepOrders) -> None:
        self._memory.remember({"drained": _plain(effect.drained), "paused": _plain(effect.paused)})

    def recalled(self) -> OrdersRecalled | None:
        """What a predecessor was asked for; None: nothing."""
        return self._memory.recall(lambda state: OrdersRecalled(_order(state["drained"]), _order(state["paused"])))

    def _answering(self, read: Callable[[Record], Drained | Paused | HandoverAsked]) -> Callable[[Record, int], Record]:
        def answer(request: Record, pid: int) -> Record:
            order = read(request)
            if refused := objection(self._node(), order, force=bool(request.get("force"))):
                return _refusal(refused)
            self._asked = order
            self._report(order)
            return self._standing()

        return answer

    def _standing(self) -> Record:
        if self._asked is None:
            return {"done": False, "refused": "nothing has been asked", "hint": "repeat the command"}
        match progress(self._node(), self._asked):
            case Refused() as refused:
                return _refusal(refused)
            case Progress(done, waiting, result):
                return {"done": done, "waiting": list(waiting), "result": result}


def _refusal(refused: Refused) -> Record:
    return {"done": False, "refused": refused.what, "hint": refused.hint}


def _text(request: Record, key: str) -> str | None:
    value = request.get(key)
    return value if isinstance(value, str) and value else None


def _plain(order: Order | None) -> Any:
    return None if order is None else {"reason": order.reason, "until": order.until}


def _order(plain: Any) -> Order | None:
    return None if plain is None else Order(str(plain["reason"]), float(plain["until"]))
