"""python -m tests.etcd_faults.daemon CONFIG HISTORY CLOCK: the daemon, as the unit runs it, with two things more.

What it asks of etcd and learns goes to HISTORY, a line each, with the time. Its time of day is ahead by the number of
seconds in CLOCK (a double), which may change at any time; its monotonic time is not touched. A library that is loaded
before the daemon (libfaketime) would do the same, and read a file for each look at the clock.
"""

import contextlib
import mmap
import os
import struct
import sys
import time

from floatip.core.etcd import AskEtcd, EtcdAnswered
from floatip.core.events import Effect, Event
from floatip.core.node import Node
from floatip.host import daemon

DOUBLE = struct.Struct("=d")


def main() -> int:
    config, history, clock = sys.argv[1:]
    _step_clock(clock)
    _record(os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    return daemon.run(config)


def _step_clock(file: str) -> None:
    with open(file, "r+b") as opened:
        ahead = mmap.mmap(opened.fileno(), DOUBLE.size)
    true = time.time
    time.time = lambda: true() + DOUBLE.unpack_from(ahead)[0]


def _record(history: int) -> None:
    handle = Node.handle

    def note(kind: str, number: int, what: object, at: float) -> None:
        os.write(history, f"{(os.getpid(), kind, number, at)!r} {what!r}\n".encode())

    def recording(node: Node, event: Event, now: float) -> list[Effect]:
        if isinstance(event, EtcdAnswered):
            note("answered", event.number, event.answer, time.monotonic())
        effects = handle(node, event, now)
        for effect in effects:
            if isinstance(effect, AskEtcd):
                note("asked", effect.number, effect.question, time.monotonic())
        return effects

    Node.handle = recording  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    sys.exit(main())
