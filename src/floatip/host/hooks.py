"""Runs the user's notify command at changes of role: in order, one at a time, each bounded in time.

The arguments are those of keepalived's `notify`: `INSTANCE NAME MASTER|BACKUP|FAULT|STOP PRIORITY`, so that existing
scripts go on working; the reason and the rank are in the environment.

Another command, `drained`, runs once when all that an administrator has moved away has gone (`core/departure.py`), with
no arguments but its own. Both are told in the order of what happened.

A command that failed is a failure until one succeeds, or for five minutes: without another change of role none runs.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from floatip.core.events import Event
from floatip.core.instance import Instance
from floatip.host.child import GRACE, Child, Running, Start
from floatip.host.failures import Failures
from floatip.host.news import Item
from floatip.host.workers import Loop, Workers

ROLES = {"master": "MASTER", "backup": "BACKUP", "fault": "FAULT", "init": "STOP"}
"""In the words of keepalived's notify."""
LONGEST_QUEUE = 64
HOOKS_TIMEOUT = 1.0
"""How long the end of the daemon waits for the last commands."""
SHOWN_FOR = 300.0
COMMAND, DRAINED, QUEUE = "notify", "notify drained", "notify queue"


@dataclass(frozen=True, slots=True)
class RoleChange:
    instance: str
    role: str
    priority: int
    reason: str
    rank: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """Nothing is left here of what was moved away."""

    order: str
    """`drain` or `handover`."""
    reason: str


def emptied(item: Item) -> Emptied | None:
    """None: the news is of something else."""
    return Emptied(item.value.removeprefix("after-"), item.reason) if item.what == "empty" else None


def role_change(item: Item, instances: Mapping[str, Instance]) -> RoleChange | None:
    """None: the news is of something else, or the role is as it was."""
    if item.what != "role" or not item.is_new:
        return None
    instance = instances.get(item.name)
    preference = instance.elector.preference if instance else None
    return RoleChange(item.name, ROLES[item.value], preference[0] if preference else 0, item.reason, item.rank)


class Hooks:
    def __init__(self, report: Callable[[Event], None], loop: Loop | None = None, start: Start | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._start = start or partial(Child, Workers())
        self._failures = Failures("notify", report, self._loop)
        self._argv: tuple[str, ...] = ()
        self._drained: tuple[str, ...] = ()
        self._timeout = 0.0
        self._queue: deque[RoleChange | Emptied] = deque()
        self._current: Running | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.dropped = 0

    def configure(self, argv: tuple[str, ...], timeout: float, drained: tuple[str, ...] = ()) -> None:
        """An empty `argv`, or `drained`: nobody wants to know. A command that runs is let run."""
        self._argv, self._drained = argv, drained
        self._timeout = timeout
        self._queue = deque(each for each in self._queue if self._command(each))
        self._failures.keep([*[COMMAND, QUEUE] * bool(argv), *[DRAINED] * bool(drained)])

    def _command(self, what: RoleChange | Emptied) -> tuple[str, ...]:
        return self._argv if isinstance(what, RoleChange) else self._drained

    def notify(self, change: RoleChange | Emptied) -> None:
        if not self._command(change):
            return
        if len(self._queue) == LONGEST_QUEUE:
            # The last state is what counts.
            self._queue.popleft()
            self.dropped += 1
            hint = "make the command faster; the last changes were reported"
            reason = f"the command is too slow: {self.dropped} changes of role were not reported"
            self._failures.set(QUEUE, reason, hint, lasts=SHOWN_FOR)
        self._queue.append(change)
        if not self._current:
            self._idle.clear()
            self._next()

    async def finish(self, timeout: float) -> None:
        self.finish_within(timeout)
        await self._idle.wait()

    def finish_within(self, timeout: float) -> None:
        """Let what is queued run, within reason, and end the rest."""
        self._loop.call_later(timeout, self._end)
        self._loop.call_later(timeout + 2 * GRACE, self._idle.set)  # SIGKILL has come by then

    def _end(self) -> None:
        self._queue.clear()
        if self._current:
            self._current.terminate()

    def _next(self) -> None:
        self._current = None
        if not self._queue:
            self._idle.set()
            return
        change = self._queue.popleft()
        argv = self._command(change)
        environment = {"FLOATIP_REASON": change.reason}
        match change:
            case RoleChange(instance, role, priority, _, rank):
                words: tuple[str, ...] = ("INSTANCE", instance, role.upper(), str(priority))
                environment["FLOATIP_RANK"] = rank
            case Emptied(order):
                words = ()
                environment["FLOATIP_ORDER"] = order
        ended = partial(self._ended, change, argv)
        self._current = self._start((*argv, *words), self._timeout, ended, self._next, environment)

    def _ended(self, change: RoleChange | Emptied, argv: tuple[str, ...], succeeded: bool, reason: str) -> None:
        if argv != self._command(change):
            return  # a reload has removed or replaced it
        name = COMMAND if isinstance(change, RoleChange) else DRAINED
        if succeeded:
            self._failures.clear(name)
        else:
            hint = "run the command by hand as the daemon's user"
            self._failures.set(name, f"{argv[0]}: {reason}", hint, lasts=SHOWN_FOR)
