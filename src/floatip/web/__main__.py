"""The process: configured by the daemon on stdin, a line of JSON at a time, and ended with that connection."""

import gc
import socket
import sys
from contextlib import suppress

from floatip.unprivileged import give_up_rights
from floatip.web import settings


def main() -> None:
    connection = socket.socket(fileno=0)
    give_up_rights()
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


if __name__ == "__main__":
    main()
