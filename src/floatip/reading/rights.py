"""The users of this machine, and what each of them may do with a file."""

import grp
import os
import pwd
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG, S_ISVTX

from floatip.reading import regular

ROOT = "root"
ACL = "system.posix_acl_access"
LONGEST_SCRIPT = 1 << 18


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    gids: frozenset[int] = frozenset()
    group: str = ""
    """The name of the primary group, or its number."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file or a directory; links are followed."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    is_directory: bool = False
    text: str = ""
    """Of a script; empty for programs."""
    has_acl: bool = False
    """Then the bits of the group in `mode` are the most that the ACL gives to anybody it names (acl(5))."""

    def may(self, user: User, bit: int) -> bool:
        """`bit`: `os.R_OK` or `os.X_OK`."""
        shift = 6 if user.uid == self.uid else 3 if self.gid in user.gids else 0
        if user.uid == 0:
            return bit == os.R_OK or bool(self.mode & 0o111)
        return bool(self.mode & bit << shift)

    @property
    def is_sticky(self) -> bool:
        return self.is_directory and bool(self.mode & S_ISVTX)

    @property
    def is_roots_alone(self) -> bool:
        """What keepalived asks of each part of the path of a script that runs as root."""
        open_to = self.mode & (0o002 if self.gid == 0 else 0o022)
        return self.uid == 0 and (not open_to or self.is_sticky)


def seen(path: Path) -> SeenFile | None:
    """None: not there, or not to be read."""
    try:
        with regular.looked_at(path) as descriptor:
            status = os.fstat(descriptor)
            has_acl = ACL in os.listxattr(f"/proc/self/fd/{descriptor}")
            data = b""
            if S_ISREG(status.st_mode) and status.st_size <= LONGEST_SCRIPT:
                data = regular.read_from(descriptor, LONGEST_SCRIPT)
    except OSError:
        return None
    text = "" if b"\0" in data else data.decode(errors="replace")
    return SeenFile(status.st_uid, status.st_gid, S_IMODE(status.st_mode), S_ISDIR(status.st_mode), text, has_acl)


def users() -> dict[str, User]:
    groups = grp.getgrall()
    names = {group.gr_gid: group.gr_name for group in groups}
    gids = {entry.pw_name: {entry.pw_gid} for entry in pwd.getpwall()}
    for group in groups:
        for member in group.gr_mem:
            gids.get(member, set()).add(group.gr_gid)
    return {
        name: User(name, uid, frozenset(gids[name]), names.get(gid, str(gid)))
        for name, _, uid, gid, *_ in pwd.getpwall()
    }


def user_id(name: str) -> int | None:
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_uid
    return None


def group_id(name: str) -> int | None:
    with suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return None


def may_as(name: str, path: Path, mode: int) -> bool:
    """Access of a user (`os.R_OK`, `os.X_OK`), asked in a child: only the kernel knows ACLs and all directories."""
    user = pwd.getpwnam(name)
    with warnings.catch_warnings():
        # Python warns of forks beside a thread; the one of `patience` waits, and holds nothing that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            os.setgroups(os.getgrouplist(name, user.pw_gid))
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            os._exit(0 if os.access(path, mode) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0
