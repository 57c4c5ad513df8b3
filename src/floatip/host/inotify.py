"""Tells when something may have changed at a path (inotify(7)), even while its directories do not exist yet.

All existing directories above the path are watched, from the root down: whatever is created, removed or renamed on
the way to the path is seen, and there is no moment between looking and watching in which it is missed. It is a hint
and no truth: network file systems, FUSE, /proc and /sys say nothing, so whoever needs to be sure also looks by time.
"""

import asyncio
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from floatip.host.errors import in_words
from floatip.host.failures import Failures

_CREATE, _DELETE, _MOVED_FROM, _MOVED_TO, _ONLYDIR = 0x100, 0x200, 0x40, 0x80, 0x01000000
_CLOSE_WRITE = 0x8
_MASK = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE | _ONLYDIR
_EVENT = struct.Struct("iIII")
"""Watch descriptor, mask, cookie, length of the name that follows."""

_libc = ctypes.CDLL(None, use_errno=True)
_HINTS = {
    errno.EMFILE: "raise the sysctl user.max_inotify_instances",
    errno.ENOSPC: "raise the sysctl user.max_inotify_watches",
}


class Inotify:
    def __init__(self, failures: Failures) -> None:
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self._opening = threading.Lock()
        self._fd = -1
        self._closed = False
        self._changed: dict[Path, list[Callable[[], None]]] = {}
        self._names: dict[Path, frozenset[bytes]] = {}

    def subscribe(self, path: Path, changed: Callable[[], None]) -> None:
        """Call `changed` when something may have changed at the path, as far as `watch` was called for it."""
        self._changed.setdefault(path, []).append(changed)
        self._names[path] = frozenset(part.encode(errors="surrogateescape") for part in path.absolute().parts)

    def unsubscribe(self, path: Path, changed: Callable[[], None]) -> None:
        self._changed[path].remove(changed)
        if not self._changed[path]:
            del self._changed[path], self._names[path]
            self._failures.clear(_watch_of(path))

    def watch(self, path: Path) -> int:
        """Watch what exists above the path; again, it changes nothing. The errno, or 0. Any thread may call it.

        A directory that is missing is noticed by its parent, so that is no error.
        """
        with self._opening:
            if self._closed:
                return 0
            if self._fd < 0:
                fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
                if fd < 0:
                    return ctypes.get_errno()
                self._fd = fd
                self._loop.call_soon_threadsafe(self._listen)
        for directory in reversed(path.absolute().parents):
            watch = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
        code = ctypes.get_errno() if watch < 0 else 0
        return 0 if code in (errno.ENOENT, errno.ENOTDIR) else code

    def note(self, path: Path, code: int) -> None:
        """What `watch` returned is a failure, or is none any more."""
        if code:
            reason = f"{in_words(code)}; looks once a second instead"
            self._failures.set(_watch_of(path), reason, _HINTS.get(code, ""))
        else:
            self._failures.clear(_watch_of(path))

    def close(self) -> None:
        with self._opening:  # never held for long
            self._closed = True
            if self._fd >= 0:
                self._loop.remove_reader(self._fd)
                os.close(self._fd)
                self._fd = -1

    def _listen(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        # An event without a name is about the watch or the queue itself: it may hide others.
        names = set(_names(os.read(self._fd, 65536)))
        for path, callbacks in list(self._changed.items()):
            if b"" in names or not names.isdisjoint(self._names[path]):
                for changed in list(callbacks):
                    changed()


def _watch_of(path: Path) -> str:
    return f"watch {path.parent}"


def _names(events: bytes) -> Iterable[bytes]:
    offset = 0
    while offset < len(events):
        *_, length = _EVENT.unpack_from(events, offset)
        offset += _EVENT.size + length
        yield events[offset - length : offset].rstrip(b"\0")
