"""What the kernel refused, in words."""

import errno
import os


def in_words(code: int | None) -> str:
    if code == errno.ECONNRESET:
        return "connection reset by the peer"
    return os.strerror(code).lower() if code else "unknown error"
