"""Reading files that others may own: only regular files are opened, and only up to a size.

Opening a device already does something (a watchdog, a tape), and a FIFO waits for its writer, so a path is looked at
before it is opened.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from floatip.reading.patience import note_path

LARGEST = 1 << 20
"""Bytes. No file that keepalived reads or runs as a script is larger."""


@contextmanager
def looked_at(path: str | Path, *, follow: bool = True) -> Iterator[int]:
    """A descriptor for `fstat` and `read_from` that has not opened the file. Raises `OSError`."""
    note_path(path)
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError:
        raise OSError(errno.EINVAL, "its name contains a NUL") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(descriptor: int) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return open(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC), "rb")


def read_from(descriptor: int, largest: int = LARGEST) -> bytes:
    """Raises `OSError`, also for what is not a regular file or is larger."""
    with _opened(descriptor) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise OSError(errno.EFBIG, f"larger than {largest >> 10} KiB")
    return data


def read(path: Path) -> bytes:
    """Raises `OSError`, also for what is not a regular file or is larger than `LARGEST`."""
    with looked_at(path) as descriptor:
        return read_from(descriptor)


def beginning(path: Path) -> bytes:
    """The first bytes of a regular file. Raises `OSError`."""
    with looked_at(path) as descriptor, _opened(descriptor) as file:
        return file.read(256)
