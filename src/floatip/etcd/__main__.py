"""The process: told by the daemon on stdin what to ask, and ended with that connection."""

import gc
import json
import os
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec

from floatip.unprivileged import give_up_rights

NICENESS = -10
"""Where it may have that (root, or RLIMIT_NICE): an answer that waits for a busy processor may cost an address."""
UNUSED = ("click", "rich")
"""Of httpx's own command, for which it would load them: a third of the memory."""
LOOKED_FOR = ("sniffio",)
"""By httpcore, four times in each request: along the whole path of modules where it is not installed."""


def main() -> None:
    connection = socket.socket(fileno=0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    give_up_rights()
    for name in (*UNUSED, *(name for name in LOOKED_FOR if find_spec(name) is None)):
        sys.modules[name] = None  # type: ignore[assignment]
    gc.disable()
    try:
        from floatip.etcd.run import run  # noqa: PLC0415
    except ImportError as error:
        hint = "apt install python3-httpx; elsewhere: pip install 'floatip[etcd]'"
        connection.send(json.dumps(["trouble", f"floatip speaks with etcd by httpx: {error}", hint]).encode())
        sys.exit(f"httpx cannot be loaded: {error}")
    with suppress(KeyboardInterrupt):
        run(connection)


if __name__ == "__main__":
    main()
