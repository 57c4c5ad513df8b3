"""One path as it is and as it shall be: read, written in one piece, compared, and shown as a diff.

Others may change what lies on the way to a path at any time. So every component is opened below the one before it and
no link is followed, and what is known of a file comes from its descriptor.
"""

import difflib
import grp
import os
import pwd
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from floatip.adopt.host import AdoptError, Host

LARGEST = 1 << 20
ACLS = {"system.posix_acl_access", "system.posix_acl_default"}
SECRET = re.compile(r"(\b(?:auth_pass|md5)\b[\s=]+).*")


@dataclass(frozen=True, slots=True)
class State:
    mode: int
    uid: int
    gid: int
    content: bytes | None = None
    """None: it stays, whatever it is; so always of a directory."""
    inode: tuple[int, int] | None = field(default=None, compare=False)
    """Of a directory: its device and number. Not kept in the backup: a device has another number after a boot."""
    is_directory: bool = False
    obstacle: str = ""
    """Why it cannot be replaced by a copy with other rights."""

    @property
    def text(self) -> str:
        return (self.content or b"").decode(errors="surrogateescape")

    @property
    def rights(self) -> tuple[int, int, int]:
        return self.uid, self.gid, self.mode


@dataclass(frozen=True, slots=True)
class Change:
    path: Path
    """Without links."""
    before: State | None
    """None: not there."""
    after: State | None

    @property
    def is_directory(self) -> bool:
        return any(side and side.is_directory for side in (self.before, self.after))


def state(host: Host, path: Path, *, contents: bool = True) -> State | None:
    try:
        with _directory(host, path.parent) as directory, _opened(path.name, directory) as descriptor:
            return _state(path, descriptor, contents=contents)
    except FileNotFoundError:
        return None


def now(host: Host, change: Change) -> State | None:
    contents = any(side and side.content is not None for side in (change.before, change.after))
    return state(host, change.path, contents=contents)


def _state(path: Path, descriptor: int, *, contents: bool) -> State:
    found = os.fstat(descriptor)
    is_directory = stat.S_ISDIR(found.st_mode)
    if not is_directory and not stat.S_ISREG(found.st_mode):
        raise AdoptError(f"{path} is no regular file", "put a file in its place")
    obstacle = ""
    if ACLS & set(os.listxattr(descriptor)):
        obstacle = "has an ACL, which would be lost"
    elif not is_directory and found.st_nlink > 1:
        obstacle = f"is one of {found.st_nlink} links to the same file"
    content = None
    if contents and not is_directory:
        content = os.read(descriptor, LARGEST + 1)
        if len(content) > LARGEST:
            raise AdoptError(f"{path} is larger than {LARGEST >> 20} MB", "nothing that keepalived reads is")
    inode = (found.st_dev, found.st_ino) if is_directory else None
    mode = stat.S_IMODE(found.st_mode)
    return State(mode, found.st_uid, found.st_gid, content, inode, is_directory, obstacle)


@contextmanager
def _directory(host: Host, path: Path, *, make: bool = False) -> Iterator[int]:
    descriptor = os.open(host.root, os.O_DIRECTORY)
    try:
        for name in path.parts[1:]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=descriptor)
            inner = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened(name: str, directory: int) -> Iterator[int]:
    # Not blocking: it may be a FIFO by now.
    descriptor = os.open(name, os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def own(host: Host, changes: Iterable[Change]) -> Iterator[Path]:
    """Directories change hands, each only if it is the one that was looked at."""
    for change in changes:
        wanted = change.after
        assert wanted
        with _directory(host, change.path) as descriptor:
            found = _state(change.path, descriptor, contents=False)
            known = {side.inode for side in (change.before, wanted) if side and side.inode}
            if found != change.before or known - {found.inode}:
                raise AdoptError(f"{change.path} is another directory by now", "floatip adopt looks at it again")
            os.fchown(descriptor, wanted.uid, wanted.gid)
            os.fchmod(descriptor, wanted.mode)
        yield change.path


def write(host: Host, changes: Sequence[Change]) -> Iterator[Path]:
    """Each file as it is there. All are written beside the old ones before the first takes its place: a full disk
    changes nothing, and whoever reads a file sees the old one or the new one. Where only the owner changes it is a copy
    too: the old owner may have the old file open."""
    with ExitStack() as at_end:
        directories = []
        for change in changes:
            at_end.callback(_tidy, host.at(change.path.parent))
            directory = at_end.enter_context(_directory(host, change.path.parent, make=True))
            directories.append(directory)
            at_end.callback(_remove, _beside(change.path), directory)
            _stage(directory, change)
        for change, directory in zip(changes, directories, strict=True):
            _commit(directory, change)
            yield change.path


def clear(host: Host, changes: Iterable[Change]) -> None:
    """Of what a `write` that was killed has left beside the files."""
    for change in changes:
        with suppress(FileNotFoundError), _directory(host, change.path.parent) as directory:
            _remove(_beside(change.path), directory)
        if not change.before:
            _tidy(host.at(change.path.parent))


def _beside(path: Path) -> str:
    return f".{path.name}.floatip-new"


def _stage(directory: int, change: Change) -> None:
    if change.after is None:
        return
    descriptor = os.open(_beside(change.path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        if change.after.content is not None:
            file.write(change.after.content)
        else:
            _copy(directory, change, descriptor)
        file.flush()
        os.fchown(descriptor, change.after.uid, change.after.gid)
        os.fchmod(descriptor, change.after.mode)
        os.fsync(descriptor)


def _copy(directory: int, change: Change, to: int) -> None:
    with _opened(change.path.name, directory) as source:
        if _state(change.path, source, contents=False) != change.before:
            raise AdoptError(f"{change.path} is another file by now", "floatip adopt looks at it again")
        with open(source, "rb", closefd=False) as old, open(to, "wb", closefd=False) as new:
            shutil.copyfileobj(old, new)


def _commit(directory: int, change: Change) -> None:
    if change.after:
        os.replace(_beside(change.path), change.path.name, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        _remove(change.path.name, directory)


def _remove(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _tidy(directory: Path) -> None:
    """A directory of drop-ins goes with the last of them."""
    if directory.suffix == ".d":
        with suppress(OSError):
            directory.rmdir()


def diff(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if (before and before.content) != (after and after.content):
        old, new = (side.text.splitlines() if side else [] for side in (before, after))
        names = [str(change.path) if side else "/dev/null" for side in (before, after)]
        for line in difflib.unified_diff(old, new, names[0], names[1], lineterm=""):
            yield SECRET.sub(r"\1********", line)
    if before and after and before.rights != after.rights:
        yield f"{change.path}: {_owner(before)} becomes {_owner(after)}"


def _owner(of: State) -> str:
    return f"{_name(pwd.getpwuid, of.uid)}:{_name(grp.getgrgid, of.gid)} {of.mode:04o}"


def _name(find: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)
