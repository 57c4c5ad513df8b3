"""A disk that hangs at will: what is in a directory, by FUSE, answered by a thread of the test.

It is mounted over the directory in a mount namespace that only a daemon is started in. The test sees the directory
itself, so it can look and write while the disk hangs. The kernel keeps nothing in mind, so each call comes here. What
the daemon waits for in the kernel is as on a dead NFS server or disk: no signal but SIGKILL ends it, and nothing at all
ends it once the request was taken. See linux/fuse.h.
"""

import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.host.conftest import entered

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
LOOKUP, GETATTR, SETATTR, MKDIR, UNLINK, RENAME, OPEN, READ, WRITE = 1, 3, 4, 9, 10, 12, 14, 15, 16
RELEASE, FLUSH, INIT, CREATE, RENAME2 = 18, 25, 26, 35, 45
FORGET, INTERRUPT, BATCH_FORGET = UNANSWERED = 2, 36, 42
CALLS = {
    "lookup": {LOOKUP},
    "getattr": {GETATTR},
    "open": {OPEN, CREATE},
    "read": {READ},
    "write": {WRITE},
    "close": {FLUSH},
    "rename": {RENAME, RENAME2},
    "mkdir": {MKDIR},
}
"""What may hang, as a process calls it."""
ROOT = 1
OPENED = {OPEN: 1, CREATE: 1, RELEASE: -1}
PARALLEL = 1 << 18
"""Calls in one directory do not wait for each other."""
NAMED = {LOOKUP: 0, MKDIR: 8, UNLINK: 0, RENAME: 8, CREATE: 16, RENAME2: 16}
"""Where the name stands that the call is about; the node is its directory."""
HEADER = struct.Struct("IIQQIIII")
"""Length, opcode, number of the request, node, uid, gid, pid, more."""
LARGEST = 1 << 17
UNMOUNTED = errno.ENODEV, errno.ECONNABORTED
"""The second one, where it is unmounted during the call."""
MODES = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_EXCL

Body = bytes
Answer = Callable[[Path, Body], bytes]


def _everywhere(path: Path) -> bool:
    return True


class Disk:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._device = -1
        self._paths = {ROOT: directory}
        """By inode."""
        self._lock = threading.Lock()
        self._open = 0
        """How many files are."""
        self._dies = False
        self._goes_on = threading.Event()
        self._hanging: Collection[int] = ()
        self._where: Callable[[Path], bool] = _everywhere
        self._held: list[bytes] = []
        self._answers: dict[int, Answer] = {
            LOOKUP: lambda path, body: self._entry(path / _name(body)),
            GETATTR: lambda path, body: _attributes_of(path),
            SETATTR: _set_attributes,
            MKDIR: self._make_directory,
            UNLINK: lambda path, body: _nothing(os.unlink(path / _name(body))),
            RENAME: lambda path, body: self._rename(path, body[:8], body[8:]),
            RENAME2: lambda path, body: self._rename(path, body[:8], body[16:]),
            OPEN: lambda path, body: _opened(path, struct.unpack_from("I", body)[0]),
            READ: _read,
            WRITE: _write,
            RELEASE: lambda path, body: _nothing(os.close(struct.unpack_from("Q", body)[0])),
            FLUSH: lambda path, body: b"",
            INIT: lambda path, body: struct.pack("4I2H2I36x", 7, 31, LARGEST, PARALLEL, 16, 12, LARGEST, 1),
            CREATE: self._create,
        }

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """For what is started meanwhile, until that has ended."""
        if not os.path.exists("/dev/fuse"):
            pytest.fail("this test mounts a FUSE file system: modprobe fuse")
        libc = ctypes.CDLL(None, use_errno=True)
        device = self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        is_mounted = threading.Event()
        # It stays outside: inside it would wait for itself.
        threading.Thread(target=self._serve, args=(device, is_mounted), daemon=True).start()
        with entered("mnt", CLONE_NEWNS):
            options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
            _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
            _check(libc.mount(b"fuse", os.fsencode(self._directory), b"fuse", 0, options.encode()))
            is_mounted.set()
            yield

    def hang(self, call: str, where: Callable[[Path], bool] = _everywhere) -> None:
        """From now on, on the paths that `where` says."""
        with self._lock:
            self._hanging, self._where = CALLS[call], where

    def die(self) -> None:
        """No request is taken any more, as soon as no file is open.

        A process that has one open never ends: the kernel closes it, and waits for that in spite of SIGKILL.
        """
        self._goes_on.clear()
        self._dies = True

    @property
    def is_waited_for(self) -> bool:
        return bool(self._held)

    def go_on(self) -> None:
        self._dies = False
        self._goes_on.set()
        with self._lock:
            self._hanging, held, self._held = (), self._held, []
        for request in held:
            self._answer(self._device, request)

    def _serve(self, device: int, is_mounted: threading.Event) -> None:
        is_mounted.wait()
        try:
            while True:
                select.select([device], [], [])
                if self._dies and not self._open:
                    self._goes_on.wait()
                request = os.read(device, LARGEST + 4096)
                _, opcode, _, node, *_ = HEADER.unpack_from(request)
                if opcode in UNANSWERED:
                    continue
                with self._lock:
                    if opcode in self._hanging and self._where(self._path(opcode, node, request)):
                        self._held.append(request)
                        continue
                self._answer(device, request)
        except OSError as error:
            os.close(device)
            if error.errno not in UNMOUNTED:
                raise

    def _path(self, opcode: int, node: int, request: bytes) -> Path:
        path = self._paths.get(node, self._directory)
        return path / _name(request[HEADER.size + NAMED[opcode] :]) if opcode in NAMED else path

    def _answer(self, device: int, request: bytes) -> None:
        _, opcode, number, node, *_ = HEADER.unpack_from(request)
        code, answer = 0, b""
        try:
            if opcode not in self._answers:
                raise OSError(errno.ENOSYS, "")
            answer = self._answers[opcode](self._paths.get(node, self._directory), request[HEADER.size :])
            with self._lock:
                self._open += OPENED.get(opcode, 0)
        except OSError as error:
            code = -(error.errno or errno.EIO)
        try:
            os.write(device, struct.pack("IiQ", 16 + len(answer), code, number) + answer)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBADF, *UNMOUNTED):  # nobody waits for it now
                raise

    def _entry(self, path: Path) -> bytes:
        status = os.lstat(path)
        self._paths[status.st_ino] = path
        return struct.pack("QQQQII", status.st_ino, 0, 0, 0, 0, 0) + _attributes(status)

    def _make_directory(self, path: Path, body: Body) -> bytes:
        mode, umask = struct.unpack_from("II", body)
        made = path / _name(body[8:])
        made.mkdir(mode & ~umask)
        return self._entry(made)

    def _rename(self, path: Path, directory: bytes, names: bytes) -> bytes:
        before, now, _ = names.split(b"\0", 2)
        target = self._paths[struct.unpack("Q", directory)[0]] / os.fsdecode(now)
        os.rename(path / os.fsdecode(before), target)
        self._entry(target)
        return b""

    def _create(self, path: Path, body: Body) -> bytes:
        flags, mode, umask, _ = struct.unpack_from("4I", body)
        created = path / _name(body[16:])
        os.close(os.open(created, os.O_CREAT | os.O_EXCL, mode & ~umask))
        return self._entry(created) + _opened(created, flags & ~os.O_EXCL)


def _name(body: Body) -> str:
    return os.fsdecode(body.partition(b"\0")[0])


def _nothing(_: None) -> bytes:
    return b""


def _attributes_of(path: Path) -> bytes:
    return struct.pack("QII", 0, 0, 0) + _attributes(os.lstat(path))


def _attributes(s: os.stat_result) -> bytes:
    times = [round(at) for at in (s.st_atime, s.st_mtime, s.st_ctime)]
    parts = [ns % 10**9 for ns in (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns)]
    of_file = s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_rdev, s.st_blksize, 0
    return struct.pack("6Q3I7I", s.st_ino, s.st_size, s.st_blocks, *times, *parts, *of_file)


def _set_attributes(path: Path, body: Body) -> bytes:
    valid, _, _, size = struct.unpack_from("IIQQ", body)
    if valid & 8:
        os.truncate(path, size)
    return _attributes_of(path)


def _opened(path: Path, flags: int) -> bytes:
    return struct.pack("QII", os.open(path, flags & MODES), 0, 0)


def _read(path: Path, body: Body) -> bytes:
    file, offset, size = struct.unpack_from("QQI", body)
    return os.pread(file, size, offset)


def _write(path: Path, body: Body) -> bytes:
    file, offset, size = struct.unpack_from("QQI", body)
    return struct.pack("II", os.pwrite(file, body[40 : 40 + size], offset), 0)


def _check(result: Any) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
