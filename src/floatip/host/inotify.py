"""Tells when something may have changed at a path (inotify(7)), even while its directories do not exist yet.

All existing directories above the path are watched, from the root down: whatever is created, removed or renamed on
the way to the path is seen, and there is no moment between looking and watching in which it is missed.
"""

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from floatip.host.errors import in_words

_CREATE, _DELETE, _MOVED_FROM, _MOVED_TO, _ONLYDIR = 0x100, 0x200, 0x40, 0x80, 0x01000000
_CLOSE_WRITE = 0x8
_MASK = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE | _ONLYDIR
_EVENT = struct.Struct("iIII")
"""Watch descriptor, mask, cookie, length of the name that follows."""


class Inotify:
    def __init__(self, paths: Iterable[Path], changed: Callable[[], None]) -> None:
        self._changed = changed
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._paths = [path.absolute() for path in paths]
        self._names = {part.encode(errors="surrogateescape") for path in self._paths for part in path.parts}
        self.blind: dict[Path, str] = {}
        """Paths whose directory is there but cannot be watched, and why."""
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        self._watch()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _watch(self) -> None:
        """Adding a directory that is watched already changes nothing; one that is missing is noticed by its parent."""
        self.blind.clear()
        for path in self._paths:
            for directory in reversed(path.parents):
                watch = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
            if watch < 0 and ctypes.get_errno() not in (errno.ENOENT, errno.ENOTDIR):
                self.blind[path] = in_words(ctypes.get_errno())

    def _read(self) -> None:
        # An event without a name is about the watch or the queue itself: it may hide others.
        if any(not name or name in self._names for name in _names(os.read(self._fd, 65536))):
            self._watch()
            self._changed()


def _names(events: bytes) -> Iterable[bytes]:
    offset = 0
    while offset < len(events):
        *_, length = _EVENT.unpack_from(events, offset)
        offset += _EVENT.size + length
        yield events[offset - length : offset].rstrip(b"\0")
