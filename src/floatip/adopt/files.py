"""One path as it is and as it shall be: read, written in one piece, compared, and shown as a diff."""

import difflib
import grp
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floatip.adopt.host import Host


@dataclass(frozen=True, slots=True)
class State:
    mode: int
    uid: int
    gid: int
    content: bytes | None = None
    """None: a directory."""

    @property
    def text(self) -> str:
        return (self.content or b"").decode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Change:
    path: Path
    before: State | None
    """None: not there."""
    after: State | None


def state(host: Host, path: Path) -> State | None:
    try:
        found = host.at(path).lstat()
    except FileNotFoundError:
        return None
    content = host.at(path).read_bytes() if stat.S_ISREG(found.st_mode) else None
    return State(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, content)


def put(host: Host, wanted: Mapping[Path, State | None]) -> Iterator[Path]:
    """Each path as it has got its state. All contents are written beside the files before the first takes its place:
    a full disk changes nothing, and whoever reads a file sees the old one or the new one."""
    staged: dict[Path, str] = {}
    try:
        for path, state in wanted.items():
            if state and state.content is not None:
                _stage(host.at(path), state, staged)
        for path, state in wanted.items():
            _commit(host.at(path), state, staged)
            yield path
    finally:
        for target, name in staged.items():
            os.unlink(name)
            _tidy(target.parent)


def _stage(target: Path, state: State, staged: dict[Path, str]) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, staged[target] = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with open(descriptor, "wb") as file:
        file.write(state.content or b"")
        os.fchown(descriptor, state.uid, state.gid)
        os.fchmod(descriptor, state.mode)
        file.flush()
        os.fsync(descriptor)


def _commit(target: Path, state: State | None, staged: dict[Path, str]) -> None:
    if target in staged:
        os.replace(staged[target], target)
        del staged[target]
    elif state:
        # Its owner is not root yet, and may put a link in its place at any time.
        descriptor = os.open(target, os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchown(descriptor, state.uid, state.gid)
            os.fchmod(descriptor, state.mode)
        finally:
            os.close(descriptor)
    else:
        target.unlink(missing_ok=True)
        _tidy(target.parent)


def _tidy(directory: Path) -> None:
    """A directory of drop-ins goes with the last of them."""
    if directory.suffix == ".d" and directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def diff(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if (before and before.content) != (after and after.content):
        old, new = (side.text.splitlines() if side else [] for side in (before, after))
        names = [str(change.path) if side else "/dev/null" for side in (before, after)]
        for line in difflib.unified_diff(old, new, names[0], names[1], lineterm=""):
            yield re.sub(r"(\bauth_pass\s+)\S+", r"\1********", line)
    if before and after and _owner(before) != _owner(after):
        yield f"{change.path}: {_owner(before)} becomes {_owner(after)}"


def _owner(of: State) -> str:
    return f"{_name(pwd.getpwuid, of.uid)}:{_name(grp.getgrgid, of.gid)} {of.mode:04o}"


def _name(find: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)
