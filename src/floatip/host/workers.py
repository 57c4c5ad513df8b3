"""Runs what may hang (fork and exec, every walk along a path) in threads, so that the loop never waits for the machine.

The threads are daemons: a job that hangs for ever does not hold up the end of the process. Whoever asks for a job keeps
a limit of its own, and asks for no second one while the first is out.
"""

import asyncio
import errno
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

MOST = 64
"""Threads; further jobs wait."""

T = TypeVar("T")


class Handle(Protocol):
    def cancel(self) -> None: ...


class Loop(Protocol):
    """The part of an event loop that tells and keeps time; the simulation has one in virtual time."""

    def time(self) -> float: ...
    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle: ...


class Jobs(Protocol):
    """What `Workers` does; the simulation does it at once."""

    def do(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None: ...
    def close(self) -> None: ...


Answer = Callable[[], None]
"""What is left to do in the loop."""


class Workers:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: list[SimpleQueue[Callable[[], Answer] | None]] = []
        self._threads = 0
        self._waiting: deque[Callable[[], Answer]] = deque()
        self._closed = False

    def do(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        """`done` is called in the loop with what the job returned, or with its `OSError`. Any other error is a bug."""
        work = partial(_work, job, done)
        if self._idle:
            self._idle.pop().put(work)
        elif self._threads == MOST:
            self._waiting.append(work)
        else:
            queue: SimpleQueue[Callable[[], Answer] | None] = SimpleQueue()
            queue.put(work)
            try:
                threading.Thread(target=self._serve, args=(queue,), name="worker", daemon=True).start()
            except RuntimeError:  # the system has no thread left
                self._loop.call_soon(done, OSError(errno.EAGAIN, ""))
            else:
                self._threads += 1

    def close(self) -> None:
        """The threads end after what they do now, and what waits is dropped."""
        self._closed = True
        self._waiting.clear()
        while self._idle:
            self._idle.pop().put(None)

    def _serve(self, queue: "SimpleQueue[Callable[[], Answer] | None]") -> None:
        while work := queue.get():
            answer = work()
            try:
                self._loop.call_soon_threadsafe(self._finished, queue, answer)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _finished(self, queue: "SimpleQueue[Callable[[], Answer] | None]", answer: Answer) -> None:
        if self._waiting:
            queue.put(self._waiting.popleft())
        elif self._closed:
            queue.put(None)
        else:
            self._idle.append(queue)
        answer()


def _work(job: Callable[[], T], done: Callable[[T | OSError], None]) -> Answer:
    try:
        return partial(done, job())
    except OSError as error:
        return partial(done, error)
    except Exception as error:
        return partial(_raise, error)


def _raise(error: Exception) -> None:
    """In the loop, where a bug ends the process."""
    raise error
