"""What the daemon may do, and what the commands that it runs may not."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from floatip.commands import Refusal
from floatip.core.refusals import Why

CAP_NET_ADMIN, CAP_NET_RAW = 1 << 12, 1 << 13
PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 8, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_LOWER, PR_CAP_AMBIENT_CLEAR_ALL = 2, 3, 4


def need() -> None:
    """Raises `Refusal`: a capability is missing."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if ~int(status["CapEff"], 16) & (CAP_NET_ADMIN | CAP_NET_RAW):
        what = "not allowed to hold addresses or to open raw sockets"
        raise Refusal(what, "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7))", Why.NO_CAPABILITIES)


def keep_from_children() -> None:
    """Checks and hooks start with nothing, unless the administrator runs all as root anyway.

    Done once here: a `preexec_fn` would cost milliseconds a check.
    """
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def lent(capabilities: int) -> Iterator[None]:
    """What this thread starts meanwhile has these capabilities, a mask, of the ambient set (capabilities(7)). 0: none.

    Where it cannot be lent, what needs it says so.
    """
    if not capabilities:
        yield
        return
    libc = ctypes.CDLL(None)
    numbers = [number for number in range(capabilities.bit_length()) if capabilities >> number & 1]
    for number in numbers:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)
    try:
        yield
    finally:
        for number in numbers:
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, number, 0, 0)


@contextmanager
def kept() -> Iterator[None]:
    """What the unit gives to its user stays, over a change from root to that user (capabilities(7)). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    yield
    version_3, ours = 0x20080522, CAP_NET_ADMIN | CAP_NET_RAW
    # Effective, permitted and inheritable: the lower 32 bits of each, then the upper ones (capset(2)).
    if libc.capset((ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)(ours, ours, ours)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
