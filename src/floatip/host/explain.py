"""The control command `explain`: why an instance is where it is, and what would happen if.

Why is told at once, a slice of instances at a time. What would happen is played in a thread, on copies that are taken
in the loop, one question after the other, with a rest as long as it took. An answer has as many instances
as can be taken in a slice, and at least one; `more` names the one at which the next request goes on.
"""

import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from floatip.core.explain import explain
from floatip.core.foresight import Kind, Names, Question, names, objection
from floatip.core.node import Node
from floatip.core.orders import Refused
from floatip.core.refusals import Why
from floatip.core.state import as_data
from floatip.core.whatif import Foreseen
from floatip.host.ask import Record
from floatip.host.control import Command
from floatip.host.network.slices import Slice
from floatip.host.orders import refusal
from floatip.host.workers import Jobs, Loop

KINDS: tuple[Kind, ...] = (
    "down",
    "check-fails",
    "drained",
    "back",
    "check-passes",
    "undrained",
    "resumed",
    "etcd-gone",
)
EXAMPLE = '{"cmd": "explain", "instance": "web", "if": "down", "of": "haproxy2"}'
PAUSE = 0.001
"""Seconds."""
Tell = Callable[[Callable[[], Record]], None]
"""Takes what makes the answer when it is the client's turn."""
Played = tuple[Record, float]
"""An answer, and the CPU time that it took."""


class Explain:
    def __init__(self, node: Callable[[], Node], loop: Loop, jobs: Jobs) -> None:
        self._node = node
        self._loop = loop
        self._jobs = jobs
        self._waiting: deque[tuple[Record, Tell]] = deque()
        self._is_busy = False
        self.command = Command(self._why, "ask why", think=self._think)

    def _think(self, request: Record, tell: Tell) -> None:
        if request.get("if") is None:
            tell(lambda: self._why(request, 0))
            return
        self._waiting.append((request, tell))
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        self._is_busy = bool(self._waiting)
        if not self._waiting:
            return
        request, tell = self._waiting.popleft()
        began = time.thread_time()
        prepared = _guarded(lambda: self._prepared(request))
        taken = time.thread_time() - began
        if isinstance(prepared, dict):
            self._tell(tell, (prepared, taken))
            return
        self._jobs.do(lambda: _played(prepared, taken), lambda result: self._tell(tell, result))

    def _tell(self, tell: Tell, result: Played | OSError) -> None:
        answer = (
            refusal(Refused(str(result), "try again", Why.KERNEL_REFUSES)) if isinstance(result, OSError) else result[0]
        )
        taken = 0.0 if isinstance(result, OSError) else result[1]
        tell(lambda: answer)
        self._loop.call_later(taken, self._next)

    def _why(self, request: Record, pid: int) -> Record:
        answer: Record = _guarded(lambda: self._explained(request))
        return answer

    def _explained(self, request: Record) -> Record:
        node = self._node()
        asked = _asked(node, request, known := names(node, socket.gethostname()))
        if isinstance(asked, dict):
            return asked
        part, told = Slice(), list[Any]()
        for name in asked[1]:
            if told and part.is_over:
                return {"answers": told, "more": name}
            told.append(as_data(explain(node, node.instances[name], known, self._loop.time())))
        return {"answers": told, "more": None}

    def _prepared(self, request: Record) -> Record | Callable[[], Record]:
        """A refusal, or the play."""
        node = self._node()
        asked = _asked(node, request, known := names(node, socket.gethostname()))
        if isinstance(asked, dict):
            return asked
        question, instances = asked
        play, part = Foreseen(node, question, known, self._loop.time()), Slice()
        for number, name in enumerate(instances):
            if number and part.is_over:
                return partial(_outcomes, play, name)
            play.take(node.instances[name])
        return partial(_outcomes, play, None)


def _outcomes(play: Foreseen, more: str | None) -> Record:
    """In the thread. Between two outcomes the loop has the interpreter for itself."""
    told = []
    for outcome in play.outcomes():
        told.append(as_data(outcome))
        time.sleep(PAUSE)
    return {"answers": told, "more": more}


def _played(play: Callable[[], Record], taken: float) -> Played:
    began = time.thread_time()
    answer: Record = _guarded(play)
    return answer, taken + time.thread_time() - began


def _guarded(answer: Callable[[], Any]) -> Any:
    """A bug here has touched nothing but copies, and must not end the daemon."""
    try:
        return answer()
    except Exception as error:
        what = f"a bug in floatip: {type(error).__name__}: {error}"
        return {"refused": what, "hint": "report it, with the output of: floatip status --json"}


def _asked(node: Node, request: Record, known: Names) -> tuple[Question, list[str]] | Record:
    """The question, and the instances of which it is asked; or why it is refused."""
    instance, kind, of, begin = (request.get(key) for key in ("instance", "if", "of", "from"))
    texts = isinstance(instance, str | None) and isinstance(of, str | None) and isinstance(begin, str | None)
    if not texts or (kind is not None and (kind not in KINDS or of is None)):
        return refusal(Refused("it is not understood", f"send for example {EXAMPLE}", Why.ORDER_MALFORMED))
    question = Question(kind, str(of)) if kind else Question("now")
    if refused := objection(node, question, instance, known):  # type: ignore[arg-type]
        return refusal(refused)
    asked = list(node.instances) if instance is None else [str(instance)]
    return question, asked[asked.index(str(begin)) if begin in asked else 0 :]
