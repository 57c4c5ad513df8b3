"""What adopt changes, kept so that it can be put back byte for byte: contents, modes, owners, and what systemd ran.

It belongs to root, and is used only while it does: who can write it says what root writes on `--undo`. That is why the
daemon's own directory is another one.
"""

import base64
import dataclasses
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from floatip.adopt.files import Change, State
from floatip.adopt.host import AdoptError, Host, UnitState

DIRECTORY = "/var/lib/floatip/adopt"
MANIFEST = "manifest.json"
UNDONE = "-undone"


@dataclass(frozen=True, slots=True)
class Backup:
    changes: tuple[Change, ...]
    units: Mapping[str, UnitState | None]
    """As they were."""
    by_role: bool
    """keepalived's notify scripts started and stopped the announcer: who is master decides whether it is to run."""
    addresses: tuple[str, ...]
    """Those whose place says who is master."""
    directory: Path = Path()
    is_finished: bool = False
    """All files were written. Otherwise adopt was killed."""


@contextmanager
def locked(host: Host) -> Iterator[None]:
    """One at a time, from the first look to the end."""
    try:
        host.at(DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(host.at(DIRECTORY), os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"floatip adopt runs already{_holder(os.fstat(descriptor).st_ino)}"
            raise AdoptError(what, "wait for its end") from None
        yield
    finally:
        os.close(descriptor)


def _holder(inode: int) -> str:
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return next((f" as process {lock[4]}" for lock in locks if lock[5].endswith(f":{inode}")), "")


def save(host: Host, backup: Backup) -> Backup:
    """With what an adoption that was killed has kept: it saw the files before they were changed."""
    killed = newest(host)
    if killed and not killed.is_finished:
        first = {change.path: change.before for change in killed.changes}
        later = (replace(change, before=first.get(change.path, change.before)) for change in backup.changes)
        changes = {change.path: change for change in (*killed.changes, *later)}
        by_role = killed.by_role or backup.by_role
        backup = replace(backup, changes=tuple(changes.values()), units=killed.units, by_role=by_role)
    # The newest is the last by name: so one reading of the clock, and no time zone, where an hour may come twice.
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}.{nanoseconds:09d}"
    backup = replace(backup, directory=Path(DIRECTORY) / name)
    try:
        host.at(backup.directory).mkdir(mode=0o700)
        _write(host, backup)
    except OSError as error:
        forget(host, backup)
        raise _unwritable(error) from None
    return backup


def finish(host: Host, backup: Backup) -> None:
    _write(host, replace(backup, is_finished=True))
    for other in _kept(host):
        if other.directory != backup.directory and not other.is_finished:
            forget(host, other)


def _write(host: Host, backup: Backup) -> None:
    path = host.at(backup.directory / MANIFEST)
    beside = path.with_suffix(".new")
    with open(os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        json.dump(dataclasses.asdict(backup), file, default=_as_json, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)


def _unwritable(error: OSError) -> AdoptError:
    hint = "nothing was changed; make room there, or mount it for writing"
    return AdoptError(f"the backup cannot be written to {DIRECTORY}: {error.strerror}", hint)


def newest(host: Host) -> Backup | None:
    return next(_kept(host), None)


def _kept(host: Host) -> Iterator[Backup]:
    for manifest in sorted(host.at(DIRECTORY).glob(f"*/{MANIFEST}"), reverse=True):
        if UNDONE not in manifest.parent.name:
            yield _read(host, manifest)


def _read(host: Host, manifest: Path) -> Backup:
    for path in (manifest, manifest.parent, manifest.parent.parent):
        found = path.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise AdoptError(
                f"somebody else than root can write {path}", "look at what it would write before you use it"
            )
    try:
        data = json.loads(manifest.read_text())
        changes = tuple(
            Change(Path(change["path"]), _state(change["before"]), _state(change["after"]))
            for change in data["changes"]
        )
        units = {name: unit and UnitState(**unit) for name, unit in data["units"].items()}
        addresses = tuple(data["addresses"])
        directory = Path(data["directory"])
        return Backup(changes, units, data["by_role"], addresses, directory, data["is_finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdoptError(
            f"{manifest} cannot be read: {error}", "remove that directory to use the one before it"
        ) from None


def keep_overwritten(host: Host, backup: Backup, changes: Iterable[Change]) -> None:
    """What somebody has written since, and an undo by force does away with."""
    for change in changes:
        if change.after and change.after.content is not None:
            kept = host.at(backup.directory / "overwritten" / change.path.relative_to("/"))
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(kept, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.write(change.after.content)


def mark_undone(host: Host, backup: Backup) -> None:
    os.rename(host.at(backup.directory), host.at(f"{backup.directory}{UNDONE}"))


def forget(host: Host, backup: Backup) -> None:
    """Of an adoption that never was."""
    shutil.rmtree(host.at(backup.directory), ignore_errors=True)


def _as_json(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _state(data: dict[str, str] | None) -> State | None:
    if data is None:
        return None
    content = data.pop("content")
    decoded = None if content is None else base64.b64decode(content)
    return State(**data | {"content": decoded, "inode": None})  # type: ignore[arg-type]
