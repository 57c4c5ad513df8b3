"""What the kernel refused: in words for people, and as a value for the core."""

import errno
import os

from floatip.core.bgp.trouble import Trouble

_TROUBLES = {
    errno.ECONNREFUSED: Trouble.REFUSED,
    errno.ETIMEDOUT: Trouble.TIMED_OUT,
    errno.ENETUNREACH: Trouble.UNREACHABLE,
    errno.EHOSTUNREACH: Trouble.UNREACHABLE,
    errno.EAFNOSUPPORT: Trouble.UNREACHABLE,
    errno.EADDRNOTAVAIL: Trouble.NO_SOURCE,
    errno.ENODEV: Trouble.NO_INTERFACE,
}


def in_words(code: int | None) -> str:
    if code == errno.ECONNRESET:
        return "connection reset by the peer"
    return os.strerror(code).lower() if code else "unknown error"


def trouble(code: int | None) -> Trouble:
    """What it means for a session."""
    return _TROUBLES.get(code or 0, Trouble.OTHER)
