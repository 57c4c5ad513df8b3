"""The parts of the host that decide something, run as they are, in the world's time: only children are played."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import inf
from typing import Any, Protocol, TypeVar

from floatip.core.events import Event
from floatip.core.node import Node
from floatip.host.checks import Probes
from floatip.host.checks.kind import Means
from floatip.host.child import Ended
from floatip.host.hooks import HOOKS_TIMEOUT, LONGEST_QUEUE, ROLES, Hooks, role_change
from floatip.host.news import Item, News
from floatip.model import DAEMON, RunAs, Script

T = TypeVar("T")

RUN_TIME = 0.003
REAP_TIME = 0.02
"""From SIGTERM until nothing is left of a child that hangs."""
NOTIFY_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run of a child: how it exits, and after how many seconds, if it is let run."""

    passed: bool
    after: float = RUN_TIME


PASSES, FAILS, HANGS = Outcome(True), Outcome(False), Outcome(False, inf)
OF_SERVICE = {"ok": PASSES, "sick": FAILS, "hanging": HANGS}


class Process(Protocol):
    """The process of a daemon, as its host parts see the world through it."""

    def now(self) -> float: ...

    def later(self, delay: float, happen: Callable[[], None], *, is_timer: bool) -> None:
        """While it hangs nothing happens. When it wakes, what descriptors tell comes first, then timers."""

    def report(self, event: Event) -> None: ...


@dataclass(eq=False)
class _Timer:
    callback: Callable[[], object] | None

    def fire(self) -> None:
        if self.callback:
            self.callback()

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self, process: Process) -> None:
        self._process = process

    def time(self) -> float:
        return self._process.now()

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> _Timer:
        timer = _Timer(partial(callback, *arguments))
        self._process.later(delay, timer.fire, is_timer=True)
        return timer


class Child:
    last_line = ""

    def __init__(
        self, process: Process, outcome: Outcome, timeout: float, ended: Ended, gone: Callable[[], None]
    ) -> None:
        self._process = process
        self._ended = ended
        self._gone = gone
        self.running = True
        self._is_told_to_end = False
        self._timer = Loop(process).call_later(timeout, self._timed_out, timeout)
        if outcome.after < inf:
            process.later(outcome.after, partial(self._exit, outcome.passed), is_timer=False)

    def terminate(self) -> None:
        if self.running and not self._is_told_to_end:
            self._is_told_to_end = True
            self._process.later(REAP_TIME, partial(self._exit, False), is_timer=False)

    def _timed_out(self, timeout: float) -> None:
        self.terminate()
        self._tell(False, f"timed out after {timeout:g} s")

    def _exit(self, passed: bool) -> None:
        if self.running:
            self.running = False
            self._timer.cancel()
            self._tell(passed, "exit status 0" if passed else "exit status 1")
            self._gone()

    def _tell(self, passed: bool, reason: str) -> None:
        ended, self._ended = self._ended, _to_nobody
        ended(passed, reason)


def _to_nobody(passed: bool, reason: str) -> None:
    """It is told once."""


def checks(process: Process, service: Callable[[], str], name: str) -> Probes:
    """The runner of the checks with one script, which is well when the service is."""

    def start(
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None],
        environment: Mapping[str, str] | None = None,
        *,
        run_as: RunAs = DAEMON,
    ) -> Child:
        return Child(process, OF_SERVICE[service()], timeout, ended, gone)

    nothing: Any = None
    probes = Probes(process.report, Means(Loop(process), nothing, start, nothing, nothing, nothing))
    probes.configure({name: Script(("/check",))})
    return probes


@dataclass(slots=True)
class Call:
    """One run of the notify command."""

    said: tuple[str, str]
    """Role and reason."""
    at: float
    gone_at: float = inf


class Notified:
    """The news and the hooks of one incarnation; `changes` is what the command is to be told, `calls` what it was."""

    def __init__(self, process: Process, node: Node, outcome: Callable[[], Outcome]) -> None:
        self._process = process
        self._node = node
        self._outcome = outcome
        self.changes: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.ended_at = inf
        """When nothing more was begun."""
        self.hooks = Hooks(process.report, Loop(process), self._start)
        self.hooks.configure(("/notify",), NOTIFY_TIMEOUT)
        self.news = News((self._tell,), partial(process.later, 0.0, is_timer=False))

    def expect(self, role: str, reason: str) -> None:
        if not self.changes or self.changes[-1][0] != ROLES[role]:
            self.changes.append((ROLES[role], reason))

    def finish(self) -> None:
        """As the daemon ends."""
        self.news.flush()
        self.hooks.finish_within(HOOKS_TIMEOUT)
        self.ended_at = self._process.now() + HOOKS_TIMEOUT

    def complaints(self, now: float) -> Iterator[str]:
        """What is wrong with the calls until now, or until the end."""
        if any(later.at < earlier.gone_at for earlier, later in pairwise(self.calls)):
            yield "two notify commands run at a time"
        told, changes = [call.said for call in self.calls], iter(self.changes)
        if not all(said in changes for said in told):
            yield f"the notify command is told {told}, and the changes are {self.changes}"
        until = min(self.ended_at, now)
        is_busy = any(call.at <= until <= call.gone_at for call in self.calls)
        lost = len(self.changes) - len(told)
        if not is_busy and (lost != self.hooks.dropped or told[-LONGEST_QUEUE:] != self.changes[-LONGEST_QUEUE:]):
            yield f"the notify command is told {told} of {self.changes}, and {self.hooks.dropped} count as dropped"

    def _tell(self, item: Item) -> None:
        if change := role_change(item, self._node.instances):
            self.hooks.notify(change)

    def _start(
        self,
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None],
        environment: Mapping[str, str] | None = None,
        *,
        run_as: RunAs = DAEMON,
    ) -> Child:
        assert environment is not None
        call = Call((argv[3], environment["FLOATIP_REASON"]), self._process.now())
        self.calls.append(call)

        def is_gone() -> None:
            call.gone_at = self._process.now()
            gone()

        return Child(self._process, self._outcome(), timeout, ended, is_gone)


class Memory:
    """As `disk.Memory`, on a disk that never hangs. It outlives the daemon."""

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def recall(self, read: Callable[[dict[str, Any]], T]) -> T | None:
        return read(self._state) if self._state else None

    def remember(self, state: dict[str, Any]) -> None:
        self._state = state
