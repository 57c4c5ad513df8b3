"""A file with a number (keepalived.conf(5), track_file): the number goes to the core, and 0 passes.

As with keepalived a file that is missing counts as 0, and so does what is no number; the reason says so.
"""

import os
import re
import stat
from typing import NamedTuple

from floatip.host.checks.kind import Means, Report, Unasked
from floatip.host.errors import in_words
from floatip.model import Value

LONGEST = 127
"""Octets that are read."""
LARGEST = 2**31 - 1
NUMBER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
"""As strtol(3) reads it; what follows is ignored."""


class _Seen(NamedTuple):
    value: int
    reason: str


class ValueRunner(Unasked[_Seen]):
    def __init__(self, kind: Value, report: Report, means: Means) -> None:
        self._file = kind
        self._initial = kind.initial
        """Until it is written, or was not to be."""
        self._unwritten = ""
        super().__init__(kind.path, report, means)

    def _see(self) -> _Seen:
        path = self._file.path
        if self._initial is not None:
            self._begin(self._initial)
        try:
            return _read(path)
        except (FileNotFoundError, NotADirectoryError):
            return _Seen(0, f"{path} does not exist, which counts as 0{self._unwritten}")

    def _begin(self, value: int) -> None:
        """Once."""
        self._initial = None
        how = os.O_TRUNC if self._file.overwrite else os.O_EXCL
        try:
            # A FIFO in its place must not hang us.
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | how
            descriptor = os.open(self._file.path, flags, 0o644)
        except FileExistsError:
            return
        except OSError as error:
            self._unwritten = f"; {value} could not be written: {in_words(error.errno)}"
            return
        with open(descriptor, "w") as file:
            file.write(f"{value}\n")

    def _found(self, found: _Seen) -> None:
        self._say((found.value == 0, found.reason), found.value)


def _read(path: "os.PathLike[str]") -> _Seen:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _Seen(0, f"{path} is not a regular file, which counts as 0")
        text = os.read(descriptor, LONGEST).decode(errors="replace")
    finally:
        os.close(descriptor)
    value = number(text)
    if value is None:
        return _Seen(0, f"{path} holds no number, which counts as 0")
    return _Seen(value, f"{path} holds {value}")


def number(text: str) -> int | None:
    """None: it is none, or does not fit 32 bits."""
    found = NUMBER.match(text)
    if not found:
        return None
    sign, digits = found.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    value = int(f"{sign}{digits}", base)
    return value if abs(value) <= LARGEST else None
