"""The process: told by the daemon on stdin what to do, and ended with that connection."""

import gc
import os
import signal
import socket
from contextlib import suppress

from floatip.unprivileged import give_up_rights

NICENESS = -10
"""Where it may have that (root, or RLIMIT_NICE): a list that waits for a busy processor may cost connections."""
CAP_NET_ADMIN, CAP_NET_RAW = 1 << 12, 1 << 13


def main() -> None:
    connection = socket.socket(fileno=0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a stop is told on the connection; systemd signals every process
    give_up_rights(CAP_NET_ADMIN | CAP_NET_RAW)
    gc.disable()
    from floatip.second_chance.run import run  # noqa: PLC0415

    with suppress(KeyboardInterrupt):
        run(connection)


if __name__ == "__main__":
    main()
