"""Runs the commands of keepalived's notify_... keywords: for each instance or sync group in order, one at a time.

Instances run side by side, up to a bound. A command that hangs is ended with its process group; that is a failure, and
the next one runs. keepalived starts them all at once and waits for none, so that an old state may be told last.

A command that failed is a failure until it succeeds, or for five minutes.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from floatip.core.events import Event
from floatip.host import run_as
from floatip.host.child import GRACE, Child, Running, Start
from floatip.host.failures import Failures
from floatip.host.workers import Handle, Loop, Workers
from floatip.model import Told

LONGEST_QUEUE = 32
"""Changes of one instance or group; of more only the newest state is kept."""
MOST_AT_ONCE = 32
"""Commands, of all instances."""
OVERTIME = 30.0
"""Seconds for which a command without a timeout may still run when the next one is due."""
END_OVERTIME = 1.0
"""The same at the end of the daemon, for commands of other events than the end."""
SLOW = 5.0
"""Seconds after which a command no longer holds up those of other instances."""
SHOWN_FOR = 300.0

Subject = tuple[Literal["INSTANCE", "GROUP"], str]
STATES = ("MASTER", "BACKUP", "FAULT", "STOP", "DELETED")


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What happened, in keepalived's words (keepalived.conf(5), notify)."""

    subject: Subject
    word: str
    """One of `STATES`, or MASTER_RX_LOWER_PRI, MASTER_PRIORITY, BACKUP_PRIORITY."""
    priority: int
    """The effective one; 0 for groups."""
    reason: str = ""
    rank: str = ""
    is_removed: bool = False
    """By a reload: nothing follows."""

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.subject, self.word, str(self.priority))

    @property
    def line(self) -> bytes:
        kind, name = self.subject
        return f'{kind} "{name}" {self.word} {self.priority}\n'.encode()


@dataclass(frozen=True, slots=True)
class _Job:
    told: Told
    change: Change

    @property
    def name(self) -> str:
        return name_of(self.told)


def name_of(told: Told) -> str:
    """Of its failures."""
    return f"notify{'' if told.event == 'any' else '_' + told.event} of {told.name}"


class _Queue:
    """Of one instance or group."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.jobs: deque[_Job] = deque()
        self.job: _Job | None = None
        """The one that runs."""
        self.child: Running | None = None
        """None: it has ended, or its time was over."""
        self.limit: Handle | None = None
        self.slow: Handle | None = None
        """While it counts among those that run at once."""


class Commands:
    def __init__(self, report: Callable[[Event], None], loop: Loop | None = None, start: Start | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._start = start or partial(Child, Workers())
        self._failures = Failures("notify commands", report, self._loop)
        self._told: dict[Subject, list[Told]] = {}
        self._busy: dict[Subject, _Queue] = {}
        self._waiting: deque[_Queue] = deque()
        """For others to end."""
        self._running = 0
        self._is_starting = self._is_ending = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.dropped = 0

    def configure(self, told: Iterable[Told]) -> None:
        """What runs and what waits already goes on."""
        self._told = {}
        names = set()
        for one in told:
            self._told.setdefault((one.kind, one.name), []).append(one)
            names.add(name_of(one))
        self._failures.keep(names | {_queue_of(subject) for subject in self._told})

    def tells_deleted(self, subject: Subject) -> bool:
        return any(one.event == "deleted" for one in self._told.get(subject, ()))

    def tell(self, change: Change) -> None:
        """First the command of the state, then `notify`."""
        told = self._told.get(change.subject, ())
        jobs = [_Job(one, change) for one in told if one.event == change.word.lower() and one.command]
        if change.word in STATES:
            jobs += [_Job(one, change) for one in told if one.event == "any"]
        if not jobs:
            return
        queue = self._busy.get(change.subject)
        if queue is None:
            queue = self._busy[change.subject] = _Queue(change.subject)
            self._idle.clear()
        queue.jobs += jobs
        if len(queue.jobs) > LONGEST_QUEUE:
            self._shorten(queue)
        if queue.job is not None:
            self._hurry(queue)
        elif queue not in self._waiting:
            self._waiting.append(queue)
            self._start_soon()

    async def finish(self, timeout: float) -> None:
        """Let what is queued run, and end what is left after `timeout` seconds."""
        self._is_ending = True
        for queue in list(self._busy.values()):
            self._hurry(queue)
        ends = self._loop.call_later(timeout, self._end)
        # SIGKILL has come by then.
        gives_up = self._loop.call_later(timeout + 3 * GRACE, self._idle.set)
        await self._idle.wait()
        ends.cancel()
        gives_up.cancel()

    def _end(self) -> None:
        for queue in list(self._busy.values()):
            if queue.jobs:
                reason = "the daemon ended before they were through"
                self._skipped(queue, len({job.change for job in queue.jobs}), reason)
                queue.jobs.clear()
            self._overdue(queue, queue.job)
        self._waiting.clear()
        if not any(queue.job for queue in self._busy.values()):
            self._idle.set()

    # One queue

    def _shorten(self, queue: _Queue) -> None:
        """The newest state is what counts, and the newest of what is no state."""
        changes = list(dict.fromkeys(job.change for job in queue.jobs))
        newest = {change.word in STATES or change.word: change for change in changes}.values()
        self._skipped(queue, len(changes) - len(newest), "their commands are too slow")
        queue.jobs = deque(job for job in queue.jobs if job.change in newest)

    def _skipped(self, queue: _Queue, number: int, why: str) -> None:
        self.dropped += number
        reason = f"{number} changes of {queue.subject[1]} were skipped, because {why}"
        hint = "make the notify scripts faster; the newest state is told"
        self._failures.set(_queue_of(queue.subject), reason, hint, lasts=SHOWN_FOR)

    def _start_soon(self) -> None:
        """One command each time the loop has had its turn: to start one takes a tenth of a millisecond."""
        if not self._is_starting and self._waiting and self._running < MOST_AT_ONCE:
            self._is_starting = True
            self._loop.call_later(0.0, self._start_one)

    def _start_one(self) -> None:
        self._is_starting = False
        if self._waiting and self._running < MOST_AT_ONCE:
            queue = self._waiting.popleft()
            self._run(queue, queue.jobs.popleft())
        self._start_soon()

    def _run(self, queue: _Queue, job: _Job) -> None:
        told, change = job.told, job.change
        argv = (*told.command, *change.words) if told.event == "any" else told.command
        environment = {"FLOATIP_REASON": change.reason, "FLOATIP_RANK": change.rank}
        ended, gone = partial(self._ended, queue, job), partial(self._go_on, queue, job)
        queue.job = job
        queue.child = self._start(argv, told.timeout or math.inf, ended, gone, environment, run_as=told.run_as)
        queue.slow = self._loop.call_later(SLOW, self._make_room, queue)
        self._running += 1
        self._hurry(queue)

    def _make_room(self, queue: _Queue) -> None:
        if queue.slow:
            queue.slow.cancel()
            queue.slow = None
            self._running -= 1
        self._start_soon()

    def _hurry(self, queue: _Queue) -> None:
        """A command without a timeout has one when the next one is due, and so has each at the end."""
        if (job := queue.job) is None:
            return
        if self._is_ending and job.change.word != "STOP":
            self._limit(queue, END_OVERTIME)
        elif queue.jobs and not job.told.timeout and not queue.limit:
            self._limit(queue, OVERTIME)

    def _limit(self, queue: _Queue, seconds: float) -> None:
        if queue.limit:
            queue.limit.cancel()
        queue.limit = self._loop.call_later(seconds, self._overdue, queue, queue.job)

    def _overdue(self, queue: _Queue, job: _Job | None) -> None:
        if job is None or job is not queue.job or queue.child is None:
            return
        queue.child.terminate()
        why = "the daemon ends" if self._is_ending else f"the next command was due for {OVERTIME:g} s"
        self._ended(queue, job, False, f"it still ran, and {why}")

    def _ended(self, queue: _Queue, job: _Job, succeeded: bool, reason: str) -> None:
        if job is not queue.job or queue.child is None:
            return
        if queue.child.running:
            # It has SIGTERM, and SIGKILL follows. The kernel may not be able to end it yet; it does nothing more.
            self._loop.call_later(2 * GRACE, self._go_on, queue, job)
        queue.child = None
        if job.told not in self._told.get(queue.subject, ()) and not job.change.is_removed:
            return
        if succeeded:
            self._failures.clear(job.name)
        else:
            hint = f"run the command by hand as {run_as.whose(job.told.run_as)}"
            self._failures.set(job.name, f"{job.told.command[0]}: {reason}", hint, lasts=SHOWN_FOR)

    def _go_on(self, queue: _Queue, job: _Job) -> None:
        if job is not queue.job:
            return
        queue.job = None
        if queue.limit:
            queue.limit.cancel()
            queue.limit = None
        if queue.jobs:
            self._waiting.append(queue)
        else:
            del self._busy[queue.subject]
        self._make_room(queue)
        if not self._busy:
            self._idle.set()


def _queue_of(subject: Subject) -> str:
    return f"notify queue of {subject[1]}"
