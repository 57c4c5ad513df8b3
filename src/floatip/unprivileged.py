"""What a helper process of the daemon's gives up at its start. It imports next to nothing, for their memory's sake."""

import os
from contextlib import suppress

MOST_LIKELY_KILLED = 500
"""oom_score_adj(5): when memory is short, a helper goes before the daemon."""


def give_up_rights(keep: int = 0) -> None:
    """`keep`: a mask of capabilities, of those that there are."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(MOST_LIKELY_KILLED))
    if os.geteuid() == 0:
        _drop_capabilities(keep)
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _drop_capabilities(keep: int) -> None:
    """The unit's user has none here (`host/privileges.py`); root, who runs it by hand, drops all others (capset(2))."""
    import ctypes  # noqa: PLC0415

    version_3 = 0x20080522
    header, sets = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets) == 0:
        for index, octets in enumerate((keep, keep, 0)):  # effective, permitted, inheritable
            sets[index] &= octets
            sets[index + 3] = 0
        if libc.capset(header, sets) == 0:
            return
    raise OSError(ctypes.get_errno(), "capset")
