"""The process: told by the daemon on stdin what to check, and ended with that connection."""

import gc
import socket
from contextlib import suppress

from floatip.unprivileged import give_up_rights

CAP_DAC_OVERRIDE, CAP_NET_RAW = 1 << 1, 1 << 13
"""Of root: sockets of HAProxy's user, and echo requests."""


def main() -> None:
    connection = socket.socket(fileno=0)
    give_up_rights(keep=CAP_DAC_OVERRIDE | CAP_NET_RAW)
    from floatip.checking.run import run  # noqa: PLC0415

    gc.disable()
    with suppress(KeyboardInterrupt):
        run(connection)


if __name__ == "__main__":
    main()
