"""What runs in the process, from its first configuration to the end of the connection to the daemon."""

import asyncio
import gc
import json
import os
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any

from floatip.web import routes, settings
from floatip.web.access import Access, Wrong
from floatip.web.events import Events
from floatip.web.server import Failures, Server
from floatip.web.settings import Settings
from floatip.web.source import Source


def run(connection: socket.socket, first: Settings) -> None:
    asyncio.run(_run(connection, first))


async def _run(connection: socket.socket, told: Settings) -> None:
    connection.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection)

    def report(failures: Failures) -> None:
        writer.write(json.dumps(failures).encode() + b"\n")

    events, wrong = Events(), Wrong()
    source = Source(told.control, events.publish)
    site = routes.Site(source, events, Access(told, b"", wrong))
    server = Server(partial(routes.answer, site), events, report)
    for work in (source.run(), events.beat(source)):
        asyncio.create_task(work).add_done_callback(_raise)
    server.configure(told, None)
    gc.collect()
    gc.freeze()
    gc.enable()
    with suppress(EOFError, ConnectionError):
        while True:
            told = settings.read(await reader.readuntil(b"\n"))
            site.access = Access(told, b"", wrong)
            server.configure(told, None)
    os._exit(0)  # with the daemon


def _raise(task: asyncio.Task[Any]) -> None:
    """A bug ends the process, and the daemon starts another."""
    if not task.cancelled() and (error := task.exception()):
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
        os._exit(1)
