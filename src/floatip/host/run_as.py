"""Whose rights a command has: setpriv(1) stands in front of it, where the daemon is root and so may choose.

Python's `preexec_fn` would fork a process of our size in a thread. A daemon that is not root runs all commands as
itself; `floatip check` says so where the configuration names another user.
"""

import errno
import grp
import os
import pwd
from collections.abc import Sequence

from floatip.model import DAEMON, RunAs

SETPRIV = "/usr/bin/setpriv"


class CannotBecome(OSError):
    """`strerror` says what is missing."""


def whose(run_as: RunAs) -> str:
    """Who it runs as, in words."""
    if os.geteuid() != 0 or not (run_as.user or run_as.group):
        return "the daemon's user"
    both = (run_as.user and f"user {run_as.user}", run_as.group and f"group {run_as.group}")
    return " and ".join(filter(None, both))


def command(argv: Sequence[str], run_as: RunAs) -> Sequence[str]:
    """What to execute. Users may be asked over the network, so only in a thread. Raises `CannotBecome`."""
    if run_as == DAEMON or os.geteuid() != 0:
        return argv
    if not os.access(SETPRIV, os.X_OK):
        raise CannotBecome(errno.ENOENT, f"{SETPRIV} is missing, which runs it as another user")
    uid, gid = _user(run_as.user) if run_as.user else (os.geteuid(), os.getegid())
    groups = "--init-groups"
    if run_as.group:
        gid, groups = _group(run_as.group), "--clear-groups"
    return (SETPRIV, f"--reuid={uid}", f"--regid={gid}", groups, "--inh-caps=-all", "--", *argv)


def _user(name: str) -> tuple[int, int]:
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise CannotBecome(errno.EINVAL, f"there is no user {name}") from None
    return user.pw_uid, user.pw_gid


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise CannotBecome(errno.EINVAL, f"there is no group {name}") from None
