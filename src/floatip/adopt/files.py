"""One file as it is and as it should be: read, written in one piece, compared, and shown as a diff.

No link is followed on the way to a file, and a file is read again before it is replaced.
"""

import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from floatip.adopt.system import AdoptError, System
from floatip.reading import regular

ACLS = {"system.posix_acl_access", "system.posix_acl_default"}
SECRET = re.compile(r"(\b(?:auth_pass|md5)\b[\s=]+).*")


@dataclass(frozen=True, slots=True)
class FileState:
    mode: int
    uid: int
    gid: int
    content: bytes
    obstacle: str = ""
    """Why a copy cannot replace it."""

    @property
    def text(self) -> str:
        return self.content.decode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Change:
    path: Path
    """Without links."""
    before: FileState | None
    """None: not there."""
    after: FileState | None


def state(system: System, path: Path) -> FileState | None:
    try:
        with _directory(system, path.parent) as directory:
            return _state(path, directory)
    except FileNotFoundError:
        return None


def _state(path: Path, directory: int) -> FileState | None:
    try:
        with regular.looked_at(path.name, directory=directory, follow=False) as descriptor:
            found = os.fstat(descriptor)
            content = regular.read_from(descriptor)
            obstacle = ""
            if ACLS & set(os.listxattr(f"/proc/self/fd/{descriptor}")):
                obstacle = "has an ACL, which would be lost"
            elif found.st_nlink > 1:
                obstacle = f"is one of {found.st_nlink} hard links to the same file"
            return FileState(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, content, obstacle)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AdoptError(f"{path} cannot be read: {error.strerror}", f"look at it: ls -l {path}") from None


@contextmanager
def _directory(system: System, path: Path, *, make: bool = False) -> Iterator[int]:
    descriptor = os.open(system.root, os.O_DIRECTORY)
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


def write(system: System, changes: Sequence[Change]) -> Iterator[Path]:
    """Each file as it is written. All are written beside the old ones before the first takes its place: a full disk
    changes nothing, and whoever reads a file sees the old one or the new one."""
    with ExitStack() as at_end:
        directories = []
        for change in changes:
            at_end.callback(_remove_empty_drop_ins, system.at(change.path.parent))
            directory = at_end.enter_context(_directory(system, change.path.parent, make=True))
            directories.append(directory)
            at_end.callback(_remove, _beside(change.path), directory)
            _stage(directory, change)
        for change, directory in zip(changes, directories, strict=True):
            _commit(directory, change)
            yield change.path


def clear(system: System, changes: Iterable[Change]) -> None:
    """Removes what a `write` that was killed left beside the files."""
    for change in changes:
        with suppress(FileNotFoundError), _directory(system, change.path.parent) as directory:
            _remove(_beside(change.path), directory)
        if not change.before:
            _remove_empty_drop_ins(system.at(change.path.parent))


def _beside(path: Path) -> str:
    return f".{path.name}.floatip-new"


def _stage(directory: int, change: Change) -> None:
    if change.after is None:
        return
    descriptor = os.open(_beside(change.path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(change.after.content)
        file.flush()
        os.fchown(descriptor, change.after.uid, change.after.gid)
        os.fchmod(descriptor, change.after.mode)
        os.fsync(descriptor)


def _commit(directory: int, change: Change) -> None:
    if _state(change.path, directory) != change.before:
        what = f"{change.path} was changed by somebody else since it was shown"
        raise AdoptError(what, "run floatip adopt again to see it as it is now")
    if change.after:
        os.replace(_beside(change.path), change.path.name, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        _remove(change.path.name, directory)


def _remove(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _remove_empty_drop_ins(directory: Path) -> None:
    if directory.suffix == ".d":
        with suppress(OSError):
            directory.rmdir()


def diff(change: Change) -> Iterator[str]:
    """Without secrets."""
    old, new = (side.text.splitlines() if side else [] for side in (change.before, change.after))
    names = [str(change.path) if side else "/dev/null" for side in (change.before, change.after)]
    for line in difflib.unified_diff(old, new, names[0], names[1], lineterm=""):
        yield SECRET.sub(r"\1********", line)
