"""The process: configured by the daemon on stdin, a line of JSON at a time, and ended with that connection."""

import gc
import os
import socket
import sys
from contextlib import suppress

from floatip.web import settings

MOST_LIKELY_KILLED = 500
"""oom_score_adj(5): when memory is short, this process goes before the daemon."""


def main() -> None:
    connection = socket.socket(fileno=0)
    _give_up_rights()
    told = b""
    while not told.endswith(b"\n"):
        octet = connection.recv(1)
        if not octet:
            return
        told += octet
    first = settings.read(told)
    if not first.tls_certificate:
        # A third of the memory of asyncio.
        sys.modules["ssl"] = None  # type: ignore[assignment]
    from floatip.web.run import run  # noqa: PLC0415

    gc.disable()
    with suppress(KeyboardInterrupt):
        run(connection, first)


def _give_up_rights() -> None:
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(MOST_LIKELY_KILLED))
    if os.geteuid() == 0:
        _drop_capabilities()
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _drop_capabilities() -> None:
    """The unit's user has none here (`host/privileges.py`); root, who runs it by hand, drops all (capset(2))."""
    import ctypes  # noqa: PLC0415

    version_3 = 0x20080522
    header, none = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main()
