"""The control command `explain`: why an instance is where it is, and what would happen if.

The electors are copied and played in the daemon, which must hold up nothing: an answer is as much as fits into a slice,
and at least one instance; `more` names the instance at which the next request goes on.
"""

import socket
from collections.abc import Callable
from typing import Any

from floatip.core.explain import explain
from floatip.core.foresight import Kind, Question, names, objection
from floatip.core.instance import Instance
from floatip.core.node import Node
from floatip.core.state import as_data
from floatip.core.whatif import foreseen
from floatip.host.ask import Record
from floatip.host.control import Command
from floatip.host.network.slices import Slice

KINDS: tuple[Kind, ...] = ("down", "check-fails", "drained", "back", "check-passes", "undrained", "resumed")
EXAMPLE = '{"cmd": "explain", "instance": "web", "if": "down", "of": "haproxy2"}'


def command(node: Callable[[], Node], now: Callable[[], float]) -> Command:
    """`now`: monotonic seconds."""

    def answer(request: Record, pid: int) -> Record:
        try:
            return _answer(node(), request, now())
        except Exception as error:  # a bug here has touched nothing but copies, and must not end the daemon
            what = f"a bug in floatip: {type(error).__name__}: {error}"
            return {"refused": what, "hint": "report it, with the output of: floatip status --json"}

    return Command(answer, "ask why")


def _answer(node: Node, request: Record, now: float) -> Record:
    instance, kind, of, begin = (request.get(key) for key in ("instance", "if", "of", "from"))
    texts = isinstance(instance, str | None) and isinstance(of, str | None) and isinstance(begin, str | None)
    if not texts or (kind is not None and (kind not in KINDS or of is None)):
        return {"refused": "it is not understood", "hint": f"send for example {EXAMPLE}"}
    known = names(node, socket.gethostname())
    question = Question(kind, str(of)) if kind else Question("now")
    if refused := objection(node, question, instance, known):  # type: ignore[arg-type]
        return {"refused": refused.what, "hint": refused.hint}
    answer: Callable[[Instance], Any] = (
        foreseen(node, question, known, now) if kind else lambda one: explain(node, one, known, now)
    )
    asked = list(node.instances) if instance is None else [str(instance)]
    first = asked.index(str(begin)) if begin in asked else 0
    part, told = Slice(), list[Any]()
    for name in asked[first:]:
        if told and part.is_over:
            return {"answers": told, "more": name}
        told.append(as_data(answer(node.instances[name])))
    return {"answers": told, "more": None}
