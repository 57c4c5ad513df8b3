"""Appends each change of role to a file, as the notify script of Linode's guide does, for whoever greps for it.

The file is opened for each entry, so it can be rotated at any time. It must be a regular file in a directory that
nobody else can write to. What cannot be written is a failure and stops nothing.
"""

import errno
import os
import stat
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from floatip.host.disk import Disk
from floatip.host.errors import in_words

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


class StateLog:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._path: Path | None = None
        self._names_instances = False

    def configure(self, path: Path | None, instances: int) -> None:
        if self._path and self._path != path:
            self._disk.forget(_name(self._path))
        self._path = path
        self._names_instances = instances > 1

    def write(self, instance: str, role: str) -> None:
        """`role` is one of MASTER, BACKUP, FAULT, STOP."""
        if not self._path:
            return
        of = f" ({instance})" if self._names_instances else ""
        date = datetime.now().strftime("%d-%b-%Y %H:%M:%S")
        entry = f"{'=' * 35}\nDate:  {date}\n[INFO] Now {role.capitalize()}{of}\n\n"
        self._disk.do(_name(self._path), partial(_append, self._path, entry.encode()))


def _name(path: Path) -> str:
    return f"state log {path}"


def _append(path: Path, entry: bytes) -> str:
    """Why it failed, or nothing."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        if reason := _distrust(path, directory):
            return reason
        file = os.open(path.name, FLAGS, 0o640, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        written = os.write(file, entry)
        return "" if written == len(entry) else in_words(errno.ENOSPC)
    finally:
        os.close(file)


def _distrust(path: Path, directory: int) -> str:
    status = os.fstat(directory)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path.parent} is writable by group or others"
    if status.st_uid not in (0, os.geteuid()):
        return f"{path.parent} belongs neither to root nor to the daemon's user"
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path.name, dir_fd=directory, follow_symlinks=False).st_mode):
            return "it is not a regular file"
    return ""
