"""What `findings` has to know of the machine: users, files and their owners, sudo rules, addresses."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG, S_ISVTX

from floatip.core.events import Placed
from floatip.keepalived_conf import KeepalivedConf, Place

LONGEST_SCRIPT = 1 << 18
ROOT = "root"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    gids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """A file or a directory; links are followed."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    is_directory: bool = False
    text: str = ""
    """Of a script; empty for programs."""

    def can_change(self, user: User) -> bool:
        """Write it, or let oneself; of a directory: replace what others own in it."""
        if user.uid == self.uid:
            return True
        if self.is_directory and self.mode & S_ISVTX:
            return False
        return bool(self.mode & (0o020 if self.gid in user.gids else 0o002))

    def can_execute(self, user: User) -> bool:
        if user.uid == 0:
            return bool(self.mode & 0o111)
        return bool(self.mode & (0o100 if user.uid == self.uid else 0o010 if self.gid in user.gids else 0o001))

    @property
    def is_roots_alone(self) -> bool:
        """What keepalived asks of each part of the path of a script that runs as root."""
        open_to = self.mode & (0o002 if self.gid == 0 else 0o022)
        return self.uid == 0 and (not open_to or bool(self.is_directory and self.mode & S_ISVTX))


@dataclass(frozen=True, slots=True)
class Surroundings:
    users: Mapping[str, User] = field(default_factory=lambda: {ROOT: User(ROOT, 0)})
    files: Mapping[Path, Seen] = field(default_factory=dict)
    """The configuration, the scripts, and the directories above them."""
    sudoers: tuple[tuple[Place, str], ...] = ()
    """Its lines, each with its place."""
    addresses: tuple[Placed, ...] = ()
    """Those of the kernel."""
    peer_priority: int | None = None
    """That of the other node, if somebody knows it."""


def look_around(
    conf: KeepalivedConf,
    root: Path = Path("/"),
    addresses: Iterable[Placed] = (),
    peer_priority: int | None = None,
) -> Surroundings:
    commands = [script.command for script in conf.scripts]
    commands += [notify.command for owner in conf.owners for notify in owner.notifies]
    wanted = {*conf.files, *(path for command in commands for path in paths_of(command))}
    wanted |= {directory for path in wanted for directory in path.parents}
    seen = {path: found for path in wanted if (found := _seen(root / path.relative_to("/")))}
    return Surroundings(_users(root), seen, tuple(_sudoers(root)), tuple(addresses), peer_priority)


def paths_of(command: tuple[str, ...]) -> list[Path]:
    """The program, and the scripts that it may be given."""
    return [Path(word) for word in command if word.startswith("/")]


def _seen(path: Path) -> Seen | None:
    try:
        status = path.stat()
        text = ""
        if S_ISREG(status.st_mode) and status.st_size <= LONGEST_SCRIPT:
            data = path.read_bytes()
            text = "" if b"\0" in data else data.decode(errors="replace")
    except OSError:
        return None
    return Seen(status.st_uid, status.st_gid, S_IMODE(status.st_mode), S_ISDIR(status.st_mode), text)


def _users(root: Path) -> dict[str, User]:
    memberships: dict[str, dict[str, int]] = {}
    names: dict[int, str] = {}
    for name, _, gid, members in _fields(root / "etc/group", 4):
        names[int(gid)] = name
        for member in members.split(","):
            memberships.setdefault(member, {})[name] = int(gid)
    users = {}
    for name, _, uid, gid, *_ in _fields(root / "etc/passwd", 7):
        groups = memberships.get(name, {}) | {names.get(int(gid), gid): int(gid)}
        users[name] = User(name, int(uid), frozenset(groups.values()), frozenset(groups))
    return {ROOT: User(ROOT, 0)} | users


def _fields(path: Path, count: int) -> Iterator[list[str]]:
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) == count and fields[2].isdigit():
                yield fields


def _sudoers(root: Path) -> Iterator[tuple[Place, str]]:
    # sudo itself leaves out names with a dot and backups.
    directory = root / "etc/sudoers.d"
    extra = (path for path in sorted(directory.glob("*")) if "." not in path.name and not path.name.endswith("~"))
    for path in (root / "etc/sudoers", *extra):
        with suppress(OSError):
            shown = Path("/") / path.relative_to(root)
            begun = ""
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if line.endswith("\\"):
                    begun += line[:-1]
                    continue
                yield Place(shown, number), re.sub(r"\s+", " ", begun + line).strip()
                begun = ""
