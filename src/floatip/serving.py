"""What the processes of the daemon's own have in common: how they hear it, and how they end."""

import asyncio
import gc
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Protocol

LONGEST_LINE = 1000
"""Characters of the line that says why it ends."""

What = list[Any]
"""A packet of the daemon's: what it is first, then more."""


class Process(Protocol):
    def told(self, what: What) -> None:
        """By the daemon."""


def each(packet: bytes, connection: socket.socket) -> Iterable[What]:
    yield json.loads(packet)


async def serve(
    connection: socket.socket,
    make: Callable[[socket.socket], Process],
    longest: int,
    read: Callable[[bytes, socket.socket], Iterable[What]] = each,
) -> None:
    """Until the connection ends: then the daemon has ended, and the process does too.

    `longest`: octets of a packet. `read`: what a packet says, and those that wait behind it on the connection.
    """
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    process = make(connection)
    gc.collect()
    gc.freeze()
    gc.enable()
    while packet := await loop.sock_recv(connection, longest):
        for what in read(packet, connection):
            process.told(what)
    os._exit(0)


def end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A bug ends the process: the daemon says so, and starts another."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        traceback.print_exception(error)
    print(f"a bug in floatip: {context['message']}: {error!r}"[:LONGEST_LINE], file=sys.stderr, flush=True)
    os._exit(1)
