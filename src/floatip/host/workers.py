"""Runs what may hang (fork and exec, every walk along a path) in threads, so that the loop never waits for the machine.

The threads are daemons: a job that hangs for ever does not hold up the end of the process. Whoever asks for a job keeps
a limit of its own, and asks for no second one while the first is out.
"""

import asyncio
import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
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
    def __init__(self, most: int = MOST) -> None:
        """`most`: threads. With one, jobs are done one after the other, by the same thread."""
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._jobs: SimpleQueue[Callable[[], Answer] | None] = SimpleQueue()
        self._threads = 0
        self._unfinished = 0

    def do(self, job: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        """`done` is called in the loop with what the job returned, or with its `OSError`. Any other error is a bug."""
        if self._threads <= min(self._unfinished, self._most - 1):
            self._start()
        if not self._threads:
            self._loop.call_soon(done, OSError(errno.EAGAIN, ""))
            return
        self._unfinished += 1
        self._jobs.put(partial(_work, job, done))

    def close(self) -> None:
        """The threads end after what they do now, and what waits is dropped."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in range(self._threads):
            self._jobs.put(None)

    def _start(self) -> None:
        with suppress(RuntimeError):  # the system has no thread left
            threading.Thread(target=self._serve, name="worker", daemon=True).start()
            self._threads += 1

    def _serve(self) -> None:
        while work := self._jobs.get():
            answer = work()
            try:
                self._loop.call_soon_threadsafe(self._finished, answer)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _finished(self, answer: Answer) -> None:
        self._unfinished -= 1
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
