"""What the rules must know of the machine: users, files and their owners, sudo rules, addresses, what runs.

Nothing is opened that is not a regular file, and nothing is read beyond a bound: others may own all of it.
"""

import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG, S_ISVTX

from floatip.core.addresses import Placed
from floatip.reading import regular
from floatip.reading.keepalived import KeepalivedConf, Place

LONGEST_SCRIPT = 1 << 18
NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
SERVICES = ("haproxy", "nginx", "apache2", "httpd", "envoy", "traefik", "caddy", "varnishd", "postgres", "mysqld")
ROOT = "root"
ACL = "system.posix_acl_access"
INTERPRETERS = re.compile(r"(ba|da|z|k)?sh|env|sudo|timeout|flock|nice|(python|perl|ruby)[\d.]*")
ACL_USER, ACL_GROUP, ACL_MASK = 0x02, 0x08, 0x10
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""systemd's, for its services."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    gids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()
    gid: int = -1
    """The primary one."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file or a directory; links are followed."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    is_directory: bool = False
    text: str = ""
    """Of a script; empty for programs."""
    writers: frozenset[tuple[int, int]] = frozenset()
    """Whom an ACL lets write: a tag, `ACL_USER` or `ACL_GROUP`, and a number."""

    def can_change(self, user: User) -> bool:
        """Write it, or let oneself; of a directory: replace what others own in it."""
        if user.uid == self.uid:
            return True
        if self.is_directory and self.mode & S_ISVTX:
            return False
        if self.writers & {(ACL_USER, user.uid), *((ACL_GROUP, gid) for gid in user.gids)}:
            return True
        return bool(self.mode & (0o020 if self.gid in user.gids else 0o002))

    def can_execute(self, user: User) -> bool:
        if user.uid == 0:
            return bool(self.mode & 0o111)
        return bool(self.mode & (0o100 if user.uid == self.uid else 0o010 if self.gid in user.gids else 0o001))

    def can_read(self, user: User) -> bool:
        bits = 0o400 if user.uid == self.uid else 0o040 if self.gid in user.gids else 0o004
        return user.uid == 0 or bool(self.mode & bits)

    @property
    def is_for_everybody(self) -> bool:
        """As /tmp is."""
        return bool(self.is_directory and self.mode & S_ISVTX and self.mode & 0o002)

    @property
    def is_roots_alone(self) -> bool:
        """What keepalived asks of each part of the path of a script that runs as root."""
        open_to = self.mode & (0o002 if self.gid == 0 else 0o022)
        return self.uid == 0 and (not open_to or bool(self.is_directory and self.mode & S_ISVTX))


@dataclass(frozen=True, slots=True)
class MachineFacts:
    users: Mapping[str, User] = field(default_factory=lambda: {ROOT: User(ROOT, 0)})
    files: Mapping[Path, SeenFile] = field(default_factory=dict)
    """The configuration, the scripts, and the directories above them, also above what links lead to."""
    real: Mapping[Path, Path] = field(default_factory=dict)
    """Those of them that are links, or lie behind one."""
    sudoers: tuple[tuple[Place, str], ...] = ()
    """Its lines, each with its place."""
    sudo: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What sudo itself says that a user may run."""
    addresses: tuple[Placed, ...] = ()
    """Those of the kernel."""
    services: frozenset[str] = frozenset()
    """Programs that run here and may be what the floating address is for: haproxy, nginx..."""
    peer_priority: int | None = None
    """That of the other node, if somebody knows it."""


def gather(
    conf: KeepalivedConf,
    root: Path = Path("/"),
    addresses: Iterable[Placed] = (),
    peer_priority: int | None = None,
) -> MachineFacts:
    commands = [command for _, command in commands_of(conf)]
    wanted = {*conf.files, *(path for command in commands for path in paths_of(command))}
    real = {path: target for path in wanted if (target := _real(root, path)) not in (None, path)}
    wanted |= set(real.values())
    wanted |= {directory for path in wanted for directory in path.parents}
    wanted |= {path for command in commands if command for path in in_path(command[0])}
    seen = {path: found for path in wanted if (found := _seen(root / path.relative_to("/")))}
    return MachineFacts(
        _users(root),
        seen,
        real,
        tuple(_sudoers(root)),
        addresses=tuple(addresses),
        services=frozenset(_services(root)),
        peer_priority=peer_priority,
    )


def commands_of(conf: KeepalivedConf) -> list[tuple[Place, tuple[str, ...]]]:
    """What keepalived runs."""
    commands = [(script.statement.place, script.command) for script in conf.scripts]
    return commands + [(one.statement.place, one.command) for owner in conf.owners for one in owner.notifies]


def paths_of(command: tuple[str, ...]) -> list[Path]:
    """The program, and behind an interpreter the first path, which is its script. Other words are only data."""
    if not command:
        return []
    program = [Path(command[0])] if command[0].startswith("/") else []
    if not INTERPRETERS.fullmatch(Path(command[0]).name):
        return program
    return program + [Path(word) for word in command[1:] if word.startswith("/")][:1]


def in_path(program: str) -> list[Path]:
    """Where keepalived looks for a program without a path."""
    return [] if program.startswith("/") else [Path(directory) / program for directory in PATH.split(":")]


def _real(root: Path, path: Path) -> Path | None:
    with suppress(OSError, RuntimeError, ValueError):  # a loop of links; a link that leaves `root`
        return Path("/") / (root / path.relative_to("/")).resolve().relative_to(root.resolve())
    return None


def _seen(path: Path) -> SeenFile | None:
    try:
        with regular.looked_at(path) as descriptor:
            status = os.fstat(descriptor)
            data = b""
            if S_ISREG(status.st_mode) and status.st_size <= LONGEST_SCRIPT:
                data = regular.read_from(descriptor, LONGEST_SCRIPT)
            text = "" if b"\0" in data else data.decode(errors="replace")
            writers = frozenset(_writers(descriptor))
    except OSError:
        return None
    return SeenFile(status.st_uid, status.st_gid, S_IMODE(status.st_mode), S_ISDIR(status.st_mode), text, writers)


def _writers(descriptor: int) -> Iterator[tuple[int, int]]:
    """acl(5): after a version, entries of a tag, permissions and a number; the mask limits all but the owner."""
    try:
        entries = list(struct.iter_unpack("<HHI", os.getxattr(f"/proc/self/fd/{descriptor}", ACL)[4:]))
    except OSError:
        return
    mask = next((allowed for tag, allowed, _ in entries if tag == ACL_MASK), 7)
    for tag, allowed, number in entries:
        if tag in (ACL_USER, ACL_GROUP) and allowed & mask & 2:
            yield tag, number


def _users(root: Path) -> dict[str, User]:
    memberships: dict[str, dict[str, int]] = {}
    names: dict[int, str] = {}
    for name, _, gid, members in _fields(root / "etc/group", 4):
        names[int(gid)] = name
        for member in members.split(","):
            memberships.setdefault(member, {})[name] = int(gid)
    users = {}
    for name, _, uid, gid, *_ in _fields(root / "etc/passwd", 7):
        if NUMBER.fullmatch(gid):
            groups = memberships.get(name, {}) | {names.get(int(gid), gid): int(gid)}
            users[name] = User(name, int(uid), frozenset(groups.values()), frozenset(groups), int(gid))
    return {ROOT: User(ROOT, 0)} | users


def _fields(path: Path, count: int) -> Iterator[list[str]]:
    """Lines of another form, as those of NIS, are skipped."""
    for line in _lines(path):
        fields = line.split(":")
        if len(fields) == count and NUMBER.fullmatch(fields[2]):
            yield fields


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return regular.read(path).decode(errors="replace").splitlines()
    return []


def _sudoers(root: Path) -> Iterator[tuple[Place, str]]:
    # sudo itself leaves out names with a dot and backups.
    directory = root / "etc/sudoers.d"
    extra = (path for path in sorted(directory.glob("*")) if "." not in path.name and not path.name.endswith("~"))
    for path in (root / "etc/sudoers", *extra):
        shown = Path("/") / path.relative_to(root)
        begun = ""
        for number, line in enumerate(_lines(path), 1):
            if line.endswith("\\"):
                begun += line[:-1]
                continue
            yield Place(shown, number), re.sub(r"\s+", " ", begun + line).strip()
            begun = ""


def _services(root: Path) -> Iterator[str]:
    for directory in root.glob("proc/[0-9]*"):
        with suppress(OSError):
            name = regular.read(directory / "comm").decode(errors="replace").strip()
            if name in SERVICES:
                yield name
