"""One file as it is and as it should be: read, written in one piece, compared, and shown as a diff.

A file that became a link is not followed, and a file is read again before it is replaced.
"""

import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from floatip.adopt.system import AdoptError, System
from floatip.reading import regular

ACLS = {"system.posix_acl_access", "system.posix_acl_default"}
SECRET = re.compile(r"(\b(?:auth_pass|md5|key(?=\s*=\s*\"[0-9a-fA-F]{64}))\b[\s=]+).*")


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
        with regular.looked_at(system.at(path), follow=False) as descriptor:
            found = os.fstat(descriptor)
            content = regular.read_from(descriptor)
            has_acl = bool(ACLS & set(os.listxattr(f"/proc/self/fd/{descriptor}")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AdoptError(f"{path} cannot be read: {error.strerror}", f"look at it: ls -l {path}") from None
    obstacle = "has an ACL, which would be lost" if has_acl else ""
    if found.st_nlink > 1:
        obstacle = f"is one of {found.st_nlink} hard links to the same file"
    return FileState(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, content, obstacle)


def private(system: System, text: str) -> FileState:
    """A new file for root and the daemon; for its owner alone where it cannot be given to the daemon's group."""
    group, content = system.daemons_group(), text.encode(errors="surrogateescape")
    if group is None or os.geteuid() != 0:
        return FileState(0o600, os.geteuid(), os.getegid(), content)
    return FileState(0o640, 0, group, content)


def write(system: System, changes: Sequence[Change]) -> Iterator[Path]:
    """Each file as it is written. All are written beside the old ones before the first takes its place: a full disk
    changes nothing, and whoever reads a file sees the old one or the new one."""
    try:
        for change in changes:
            if change.after:
                _stage(system.at(change.path), change.after)
        for change in changes:
            _commit(system, change)
            yield change.path
    finally:
        clear(system, changes)


def clear(system: System, changes: Iterable[Change]) -> None:
    """Removes what a `write` left beside the files, also one that was killed, and empty directories of drop-ins."""
    for path in (system.at(change.path) for change in changes):
        with suppress(OSError):
            _beside(path).unlink()
        with suppress(OSError):
            if path.parent.suffix == ".d":
                path.parent.rmdir()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.floatip-new")


def _stage(path: Path, after: FileState) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(_beside(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as file:
        file.write(after.content)
        file.flush()
        os.fchown(descriptor, after.uid, after.gid)
        os.fchmod(descriptor, after.mode)
        os.fsync(descriptor)


def _commit(system: System, change: Change) -> None:
    if state(system, change.path) != change.before:
        what = f"{change.path} was changed by somebody else since it was shown"
        raise AdoptError(what, "run floatip adopt again to see it as it is now")
    path = system.at(change.path)
    if change.after:
        os.replace(_beside(path), path)
    else:
        path.unlink()


def diff(change: Change) -> Iterator[str]:
    """Without secrets."""
    old, new = (side.text.splitlines() if side else [] for side in (change.before, change.after))
    names = [str(change.path) if side else "/dev/null" for side in (change.before, change.after)]
    for line in difflib.unified_diff(old, new, names[0], names[1], lineterm=""):
        yield SECRET.sub(r"\1********", line)
