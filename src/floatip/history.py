"""The history of this node: the file in which the daemon keeps each change, and `floatip history`, which shows it.

One JSON object a line, newest last, in two generations of at most `LARGEST` bytes each. Each line is whole in itself:
what cannot be read (a torn line, NULs after a power loss, a line of another version) is skipped, and the next one
counts.
"""

import errno
import json
import math
import os
import stat
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from floatip.core.state import ChangeView

NAME = "history.jsonl"
LARGEST = 4 << 20
"""Bytes of one generation."""
VERSION = 1
HEAD = f'{{"v": {VERSION}, "time": "'.encode()
"""How each line begins. The time follows, always equally long, so that lines are compared before they are parsed."""
LENGTH_OF_TIME = len("2026-11-29T16:55:43.123+00:00")
TEXTS = "time", "boot", "node", "what", "name", "before", "value", "reason"
_quoted = json.encoder.encode_basestring_ascii
PHASES = "detected", "decided", "wire", "acknowledged"
LONGEST_TAIL = 64 << 10
NO_FILE = "it is not a regular file"


class NotOurs(OSError):
    """Something else stands in the place of the file."""


@dataclass(frozen=True, slots=True)
class Change:
    time: str
    """Of the wall clock, UTC, ISO 8601 with milliseconds."""
    monotonic: float
    """The same moment in seconds of CLOCK_MONOTONIC, which begins again at each boot."""
    boot: str
    """The boot id of the kernel."""
    node: str
    what: str
    name: str
    before: str
    """Empty: not known."""
    value: str
    reason: str
    took: dict[str, float | None] | None = None
    """Of a takeover: the seconds of each of `PHASES`; None: not known."""

    @property
    def view(self) -> ChangeView:
        return ChangeView(self.time, self.what, self.name, self.before, self.value, self.reason)

    @property
    def data(self) -> dict[str, object]:
        """With the keys of `floatip history --json`, in their order."""
        return {
            "time": self.time,
            "monotonic": self.monotonic,
            "boot": self.boot,
            "node": self.node,
            "what": self.what,
            "name": self.name,
            "before": self.before,
            "value": self.value,
            "reason": self.reason,
            "took": self.took,
        }


def line(change: Change) -> bytes:
    """As it stands in the file. JSON escapes all that is not ASCII, so that no text breaks a line."""
    texts = ", ".join([f'"{name}": {_quoted(getattr(change, name))}' for name in TEXTS[1:]])
    took = json.dumps(change.took)
    return b'%s%s", "monotonic": %r, %s, "took": %s}\n' % (
        HEAD,
        change.time.encode(),
        change.monotonic,
        texts.encode(),
        took.encode(),
    )


def stamp(time: datetime) -> str:
    """As the lines have it: text of equal length, which sorts as the times do."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def read_history(
    directory: Path, since: datetime | None = None, most: int = sys.maxsize, without: Collection[str] = ()
) -> list[Change]:
    """The changes since then, newest last, and of them the last ones; none, if there is no file. Raises OSError.

    `since` has a time zone. Of older lines only the time is looked at, and lines of the kinds in `without` (plain
    words) are not parsed.
    """
    least = stamp(since).encode() if since else b""
    # In a text, a quotation mark is escaped: this can only be the field.
    unwanted = [f'"what": "{kind}"'.encode() for kind in without]
    lines = [
        each for each in _lines(directory) if _is_since(each, least) and not any(kind in each for kind in unwanted)
    ]
    return [change for each in lines[-most:] if (change := parse(each))]


def tail(directory: Path, most: int) -> list[Change]:
    """The last changes, at most `most`. Reads only the end of the files. Raises OSError."""
    found = _last(directory / NAME, most)
    return [*_last(directory / f"{NAME}.1", most - len(found)), *found]


def _last(path: Path, most: int) -> list[Change]:
    if not most or not (file := _opened(path)):
        return []
    with file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_TAIL))
        return [change for each in file.read(LONGEST_TAIL).split(b"\n") if (change := parse(each))][-most:]


def _is_since(text: bytes, least: bytes) -> bool:
    """Whether it may be a line of ours, not older than `least`."""
    return text.startswith(HEAD) and text[len(HEAD) : len(HEAD) + LENGTH_OF_TIME] >= least


def parse(text: bytes) -> Change | None:
    """None: this is no line of ours, or not whole."""
    if not text.startswith(HEAD):
        return None
    try:
        record = json.loads(text)
        texts = {name: record[name] for name in TEXTS}
        datetime.fromisoformat(record["time"]).astimezone()  # no year that is none here
        if not all(isinstance(each, str) for each in texts.values()):
            return None
        return Change(**texts, monotonic=_finite(record["monotonic"]), took=_took(record.get("took")))
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _finite(number: Any) -> float:
    """JSON has no other. Raises ValueError, OverflowError."""
    if not math.isfinite(seconds := float(number)):
        raise ValueError(number)
    return seconds


def _took(phases: Any) -> dict[str, float | None] | None:
    if phases is None:
        return None
    return {name: None if phases[name] is None else _finite(phases[name]) for name in PHASES}


def _lines(directory: Path) -> Iterator[bytes]:
    # The newer one is opened first: if the daemon begins another file meanwhile, no line is missed.
    newer, older = _opened(directory / NAME), _opened(directory / f"{NAME}.1")
    for file in (older, newer):
        if file and not (file is older and newer and os.path.sameopenfile(file.fileno(), newer.fileno())):
            with file:
                yield from file.read(2 * LARGEST).split(b"\n")


def _opened(path: Path) -> BinaryIO | None:
    """None: there is no such file. Never waits, whatever stands in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotOurs(errno.ELOOP, NO_FILE, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotOurs(errno.EINVAL, NO_FILE, str(path))
    return open(descriptor, "rb")
