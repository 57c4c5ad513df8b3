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
from floatip.web.server import Failure, Server
from floatip.web.settings import Settings
from floatip.web.source import Source
from floatip.web.token import MAKE, read_token


def run(connection: socket.socket, first: Settings) -> None:
    asyncio.run(_run(connection, first))


async def _run(connection: socket.socket, first: Settings) -> None:
    connection.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    process = Process(first, writer)
    gc.collect()
    gc.freeze()
    gc.enable()
    with suppress(EOFError, ConnectionError):
        while True:
            process.configure(settings.read(await reader.readuntil(b"\n")))
    os._exit(0)  # with the daemon


class Process:
    def __init__(self, first: Settings, daemon: asyncio.StreamWriter) -> None:
        self._daemon = daemon
        self._wrong = Wrong()
        self._failing: dict[str, list[Failure]] = {}
        """By part."""
        self._tls: Any = None
        events = Events()
        source = Source(first.control, events.publish)
        self._site = routes.Site(source, events, Access(first, b"", self._wrong))
        self._server = Server(partial(routes.answer, self._site), events, partial(self._report, "listen"))
        self._tasks = [asyncio.create_task(work) for work in (source.run(), events.beat(source))]
        for task in self._tasks:
            task.add_done_callback(_raise)
        self.configure(first)

    def configure(self, told: Settings) -> None:
        """Also where nothing changed: the files may have. What cannot be read leaves what was read before."""
        token = b""
        try:
            token = read_token(told.token) if told.token else b""
            self._report("token", [])
        except (OSError, ValueError) as error:
            hint = f"make another: {MAKE}; then: systemctl reload floatip"
            self._report(
                "token", [("http token", f"{told.token} cannot be used, so no token is right: {_why(error)}", hint)]
            )
        self._site.access = Access(told, token, self._wrong)
        if told.tls_certificate:
            from floatip.web import tls  # noqa: PLC0415

            try:
                self._tls = tls.context(told)
                self._report("tls", [])
            except (OSError, ValueError) as error:
                what = f"the certificate, its key or client_ca cannot be used: {_why(error)}"
                hint = "see which: floatip check; then: systemctl reload floatip"
                self._report("tls", [("http TLS", what, hint)])
                if not self._tls:
                    return  # and nothing listens
        self._server.configure(told, self._tls)

    def _report(self, part: str, failures: list[Failure]) -> None:
        """All that fails, whenever a part of it is found out."""
        self._failing[part] = failures
        told = [failure for each in self._failing.values() for failure in each]
        self._daemon.write(json.dumps(told).encode() + b"\n")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def _raise(task: asyncio.Task[Any]) -> None:
    """A bug ends the process, and the daemon starts another."""
    if not task.cancelled() and (error := task.exception()):
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
        os._exit(1)
