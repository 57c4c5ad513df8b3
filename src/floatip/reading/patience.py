"""Says on stderr which path a reading waits for: a network disk may hang for ever."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from floatip.text import say

PATIENCE = 5.0

_path: str | Path = ""


def note_path(path: str | Path) -> None:
    """To be called before a path is asked about."""
    global _path
    _path = path


@contextmanager
def told_when_slow(file: str | Path) -> Iterator[None]:
    note_path(file)
    timer = threading.Timer(PATIENCE, _tell, [file])
    timer.daemon = True
    with suppress(RuntimeError):  # the system has no thread left
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(file: str | Path) -> None:
    say(f"reading {file} and what it names takes long: {_path} does not answer")
