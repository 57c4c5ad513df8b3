"""The backup of an adoption, from which `--undo` restores files byte for byte, modes, owners, and what systemd ran.

It is used only while nobody but root can write it, because it says what root writes on `--undo`. So the daemon's own
directory is another one.
"""

import base64
import dataclasses
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floatip.adopt.files import Change, FileState, state, write
from floatip.adopt.system import AdoptError, System, UnitState
from floatip.core.refusals import Why

DIRECTORY = "/var/lib/floatip/adopt"
MANIFEST = "manifest.json"
UNDONE = "-undone"


@dataclass(frozen=True, slots=True)
class Backup:
    changes: tuple[Change, ...]
    units: Mapping[str, UnitState | None]
    """As they were."""
    by_role: bool
    """keepalived's notify scripts started and stopped the announcer, so only the master is to run it."""
    addresses: tuple[str, ...]
    """On the master keepalived holds them."""
    directory: Path = Path()
    is_finished: bool = False
    """All files were written. False: adopt was killed."""
    replaces: bool = False
    """keepalived was replaced (`--replace`)."""


@contextmanager
def locked(system: System) -> Iterator[None]:
    """Only one adopt or undo runs at a time."""
    try:
        system.at(DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(system.at(DIRECTORY), os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait until it exits: pgrep -af 'floatip adopt'"
            raise AdoptError("floatip adopt is already running", hint, Why.ALREADY_RUNS) from None
        yield
    finally:
        os.close(descriptor)


def save(system: System, backup: Backup) -> Backup:
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S.%f}"  # the newest is the last by name
    backup = replace(backup, directory=Path(DIRECTORY) / name)
    try:
        system.at(backup.directory).mkdir(mode=0o700)
        _write(system, backup)
    except OSError as error:
        forget(system, backup)
        raise _unwritable(error) from None
    return backup


def finish(system: System, backup: Backup) -> None:
    try:
        _write(system, replace(backup, is_finished=True))
    except OSError as error:
        raise _unwritable(error) from None


def is_nothing_left_of_a_killed_adoption(system: System) -> None:
    if (found := newest(system)) and not found.is_finished:
        what = f"an earlier floatip adopt was killed while it wrote files; they are in {found.directory}"
        raise AdoptError(what, "floatip adopt --undo first: it puts everything back")


def _write(system: System, backup: Backup) -> None:
    path = backup.directory / MANIFEST
    content = json.dumps(dataclasses.asdict(backup), default=_as_json, indent=1).encode()
    manifest = FileState(0o600, os.geteuid(), os.getegid(), content)
    list(write(system, [Change(path, state(system, path), manifest)]))


def _unwritable(error: OSError) -> AdoptError:
    hint = "nothing was changed; make room there, or mount it for writing"
    return AdoptError(f"the backup cannot be written to {DIRECTORY}: {error.strerror}", hint, Why.FILE_UNWRITABLE)


def last(system: System) -> Backup:
    """What there is to undo."""
    if (found := newest(system)) is None:
        raise AdoptError(f"there is nothing to undo in {DIRECTORY}", "floatip adopt writes a backup there")
    return found


def newest(system: System) -> Backup | None:
    manifests = sorted(system.at(DIRECTORY).glob(f"*/{MANIFEST}"), reverse=True)
    return next((_read(manifest) for manifest in manifests if UNDONE not in manifest.parent.name), None)


def _read(manifest: Path) -> Backup:
    for path in (manifest, manifest.parent, manifest.parent.parent):
        found = path.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise AdoptError(f"others than root can write {path}", "look at what it would write before you use it")
    try:
        data = json.loads(manifest.read_text())
        changes = tuple(
            Change(Path(change["path"]), _state(change["before"]), _state(change["after"]))
            for change in data["changes"]
        )
        units = {name: unit and UnitState(**unit) for name, unit in data["units"].items()}
        addresses = tuple(data["addresses"])
        directory = Path(data["directory"])
        finished, replaces = data["is_finished"], data.get("replaces", False)
        return Backup(changes, units, data["by_role"], addresses, directory, finished, replaces)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdoptError(
            f"{manifest} cannot be read: {error}", "remove that directory to use the one before it"
        ) from None


def mark_undone(system: System, backup: Backup) -> None:
    os.rename(system.at(backup.directory), system.at(f"{backup.directory}{UNDONE}"))


def forget(system: System, backup: Backup) -> None:
    """Removes the backup of an adoption that changed nothing."""
    shutil.rmtree(system.at(backup.directory), ignore_errors=True)


def _as_json(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _state(data: dict[str, Any] | None) -> FileState | None:
    return FileState(**data | {"content": base64.b64decode(data["content"])}) if data else None
