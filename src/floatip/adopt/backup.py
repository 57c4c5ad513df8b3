"""What adopt changes, kept so that it can be put back byte for byte: contents, modes, owners, and what systemd ran.

It belongs to root, and is used only while it does: who can write it says what root writes on `--undo`. That is why the
daemon's own directory is another one.
"""

import base64
import dataclasses
import json
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from floatip.adopt.files import Change, State
from floatip.adopt.host import AdoptError, Host, UnitState

DIRECTORY = "/var/lib/floatip/adopt"
UNDONE = "-undone"


@dataclass(frozen=True, slots=True)
class Backup:
    directory: Path
    changes: tuple[Change, ...]
    units: dict[str, UnitState | None]
    """As they were."""
    by_role: bool
    """keepalived's notify scripts started and stopped the announcer: who is master decides whether it is to run."""


def save(host: Host, changes: Iterable[Change], units: dict[str, UnitState | None], *, by_role: bool) -> Backup:
    directory = Path(DIRECTORY) / time.strftime("%Y%m%d-%H%M%S")
    backup = Backup(directory, tuple(changes), units, by_role)
    try:
        host.at(DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
        host.at(directory).mkdir(mode=0o700)
        try:
            _write(host.at(directory / "manifest.json"), backup)
        except OSError:
            forget(host, backup)
            raise
    except OSError as error:
        hint = "nothing was changed; make room there, or mount it for writing"
        raise AdoptError(f"the backup cannot be written to {directory}: {error.strerror}", hint) from None
    return backup


def _write(path: Path, backup: Backup) -> None:
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(dataclasses.asdict(backup), file, default=_as_json, indent=1)
        file.flush()
        os.fsync(file.fileno())


def newest(host: Host) -> Backup:
    kept = [path for path in sorted(host.at(DIRECTORY).glob("*/manifest.json")) if UNDONE not in path.parent.name]
    if not kept:
        raise AdoptError(f"there is nothing to undo in {DIRECTORY}", "floatip adopt writes a backup there first")
    manifest = kept[-1]
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
        return Backup(Path(data["directory"]), changes, units, data["by_role"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdoptError(
            f"{manifest} cannot be read: {error}", "remove that directory to use the one before it"
        ) from None


def mark_undone(host: Host, backup: Backup) -> None:
    os.rename(host.at(backup.directory), host.at(f"{backup.directory}{UNDONE}"))


def forget(host: Host, backup: Backup) -> None:
    """Of an adoption that never was."""
    directory = host.at(backup.directory)
    if directory.is_dir():
        (directory / "manifest.json").unlink(missing_ok=True)
        directory.rmdir()


def _as_json(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _state(data: dict[str, str] | None) -> State | None:
    if data is None:
        return None
    content = data.pop("content")
    return State(**data, content=None if content is None else base64.b64decode(content))  # type: ignore[arg-type]
