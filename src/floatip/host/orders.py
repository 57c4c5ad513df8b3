"""What an operator asks on the control socket: `floatip drain` and its like, and how far it has come."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from floatip.core.events import Drained, Event, HandoverAsked, KeepOrders, Order, OrdersRecalled, Paused
from floatip.core.link.wire import LONGEST_REASON
from floatip.core.node import Node
from floatip.core.orders import Progress, Refused, foreseen, names_to_hand_over, objection, progress
from floatip.core.refusals import Why
from floatip.host.ask import Record
from floatip.host.control import Command
from floatip.host.disk import Memory

LONGEST = 366 * 86400.0
"""Seconds."""
LAST = 1e11
"""Seconds since the epoch, in the year 5138."""
KEPT = 512
"""Orders whose progress can be asked for: of more clients than there can be."""
EXAMPLE = '{"cmd": "drain", "reason": "kernel", "for": 3600, "force": false}'

Asked = Drained | Paused | HandoverAsked


class Odd(Exception):
    """A field of a request, and what it has to be."""


class Orders:
    def __init__(self, node: Callable[[], Node], report: Callable[[Event], None], memory: Memory) -> None:
        self._node = node
        self._report = report
        self._memory = memory
        self._asked: dict[int, tuple[Asked, bool]] = {}
        """By a number that their clients know, with whether each was forced."""
        self._number = 0

    def commands(self, now: Callable[[], float]) -> dict[str, Command]:
        """`now`: seconds since the epoch."""

        def order(request: Record) -> Order:
            lasts = _seconds(request)
            return Order(_reason(request), now() + lasts if lasts else 0.0, _flag(request, "withdraw"))

        def handover(request: Record) -> HandoverAsked:
            names = names_to_hand_over(self._node(), _name(request, "instance"))
            return HandoverAsked(names, _name(request, "to") or "")

        ways: dict[str, Callable[[Record], Asked]] = {
            "drain": lambda request: Drained(order(request)),
            "undrain": lambda request: Drained(None),
            "pause": lambda request: Paused(order(request)),
            "resume": lambda request: Paused(None),
            "handover": handover,
        }
        commands = {name: Command(self._answering(read), f"ask for {name}") for name, read in ways.items()}
        return commands | {"verb-status": Command(lambda request, pid: self._standing(request), "ask how it stands")}

    def keep(self, effect: KeepOrders) -> None:
        self._memory.remember({"drained": _plain(effect.drained), "paused": _plain(effect.paused)})

    def recalled(self) -> OrdersRecalled | None:
        """What a predecessor was asked for; None: nothing."""
        return self._memory.recall(lambda state: OrdersRecalled(_order(state["drained"]), _order(state["paused"])))

    def _answering(self, read: Callable[[Record], Asked]) -> Callable[[Record, int], Record]:
        def answer(request: Record, pid: int) -> Record:
            try:
                order, force = read(request), _flag(request, "force")
            except Odd as error:
                return refusal(
                    Refused(f"it is not understood: {error}", f"send for example {EXAMPLE}", Why.ORDER_MALFORMED)
                )
            if refused := objection(self._node(), order, force=force):
                return refusal(refused)
            if request.get("check") is True:
                return {"done": False, "would": foreseen(self._node(), order)}
            self._number += 1
            self._asked[self._number] = order, force
            self._asked.pop(self._number - KEPT, None)
            self._report(order)
            return self._progress(self._number)

        return answer

    def _standing(self, request: Record) -> Record:
        number = request.get("order")
        if type(number) is not int or number not in self._asked:
            return refusal(Refused("this daemon does not know of it", "repeat the command", Why.ORDER_UNKNOWN))
        return self._progress(number)

    def _progress(self, number: int) -> Record:
        order, force = self._asked[number]
        match progress(self._node(), order, force=force):
            case Refused() as refused:
                return refusal(refused)
            case Progress(done, waiting, result, kept, gone):
                answer = {"done": done, "waiting": list(waiting), "result": result, "order": number}
                return answer | {"kept": asdict(kept) if kept else None, "gone": gone}


def refusal(refused: Refused) -> Record:
    """The answer."""
    return {"done": False, "refused": refused.what, "hint": refused.hint, "code": refused.code}


def _name(request: Record, key: str) -> str | None:
    value = request.get(key)
    if value is None or (isinstance(value, str) and value):
        return value
    raise Odd(f"{key} is not a name")


def _reason(request: Record) -> str:
    value = request.get("reason")
    if value is None:
        return ""
    if _is_reason(value):
        return str(value)
    raise Odd(f"reason is not one line of at most {LONGEST_REASON} bytes")


def _is_reason(value: object) -> bool:
    # In this order: what is half of a character cannot be encoded, and is not printable.
    return isinstance(value, str) and value.isprintable() and len(value.encode()) <= LONGEST_REASON


def _seconds(request: Record) -> float | None:
    value = request.get("for")
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST:
        return float(value)
    raise Odd(f"for is not a number of seconds, more than 0 and at most {LONGEST:.0f} (366 days)")


def _flag(request: Record, key: str) -> bool:
    value = request.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Odd(f"{key} is neither true nor false")


def _plain(order: Order | None) -> Any:
    return None if order is None else {"reason": order.reason, "until": order.until, "withdraw": order.withdraw}


def _order(plain: Any) -> Order | None:
    """As it was kept. Raises what `Memory.recall` takes for nonsense."""
    if plain is None:
        return None
    reason, until, withdraw = plain["reason"], plain["until"], plain.get("withdraw", False)
    if not _is_reason(reason):
        raise ValueError("a reason is not one line of text")
    if not isinstance(until, int | float) or not 0 <= until <= LAST:
        raise ValueError("an end is not a time")
    if not isinstance(withdraw, bool):
        raise ValueError("withdraw is neither true nor false")
    return Order(reason, float(until), withdraw)
