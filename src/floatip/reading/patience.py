"""Which path a reading waits for: a network disk may hang without limit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from floatip.text import say

PATIENCE = 5.0

_here = threading.local()


@dataclass
class Waiting:
    """What a reading, which may be in another thread, waits for."""

    path: str | Path


def note_path(path: str | Path) -> None:
    """To be called before a path is asked about."""
    if waiting := getattr(_here, "waiting", None):
        waiting.path = path


@contextmanager
def noted(waiting: Waiting) -> Iterator[None]:
    """What this thread waits for meanwhile."""
    _here.waiting = waiting
    try:
        yield
    finally:
        _here.waiting = None


@contextmanager
def told_when_slow(file: str | Path) -> Iterator[None]:
    """Says on stderr what the main thread waits for. From then on SIGTERM and SIGINT end the process in any case.

    While the kernel waits for a disk, they do so only where the process has no handler, and a thread does not block
    them.
    """
    waiting, is_over = Waiting(file), threading.Event()
    teller = threading.Thread(target=_tell, args=(file, waiting, is_over), daemon=True)
    on_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(RuntimeError):  # the system has no thread left
        teller.start()
    try:
        with noted(waiting):
            yield
    finally:
        is_over.set()
        signal.signal(signal.SIGINT, on_ctrl_c)


def _tell(file: str | Path, waiting: Waiting, is_over: threading.Event) -> None:
    if not is_over.wait(PATIENCE):
        say(f"reading {file} and what it names takes long: {waiting.path} does not answer")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        is_over.wait()
