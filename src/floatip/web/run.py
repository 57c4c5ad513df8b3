"""What runs in the process, from its first configuration to the end of the connection to the daemon."""

import asyncio
import gc
import json
import os
import socket
import sys
import traceback
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

RELOAD = "systemctl reload floatip"
MOST_SHOWN, MOST_FAILURES = 400, 3


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
        self._failing: list[Failure] = []
        """Of the files, and bugs since the last configuration."""
        self._tls: Any = None
        events = Events()
        source = Source(first.control, first.history, events.publish)
        self._site = routes.Site(source, events, Access(first, b"", self._wrong))
        self._server = Server(partial(routes.answer, self._site), events, self._tell)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self._note(context))
        self._tasks = [asyncio.create_task(work) for work in (source.run(), events.beat(source))]
        for task in self._tasks:
            task.add_done_callback(_raise)
        self.configure(first)

    def configure(self, told: Settings) -> None:
        """Also where nothing changed: the files may have. The daemon is told what fails, once."""
        self._failing = []
        self._site.access = Access(told, self._token(told), self._wrong)
        if not told.tls_certificate or self._load_tls(told):
            self._server.configure(told, self._tls)
        self._tell()

    def _token(self, told: Settings) -> bytes:
        """Empty: there is none, and none is right."""
        try:
            return read_token(told.token) if told.token else b""
        except (OSError, ValueError) as error:
            hint = f"make another: {MAKE}; then: {RELOAD}"
            self._failing.append(("http token", f"{told.token} cannot be used: {_why(error)}", hint))
            return b""

    def _load_tls(self, told: Settings) -> bool:
        """Whether there is something to serve TLS with: else nothing listens."""
        from floatip.web import tls  # noqa: PLC0415

        try:
            self._tls = tls.context(told)
        except (OSError, ValueError) as error:
            what = f"the certificate, its key or client_ca cannot be used: {_why(error)}"
            self._failing.append(("http TLS", what, f"see which: floatip check; then: {RELOAD}"))
        return bool(self._tls)

    def _note(self, context: dict[str, Any]) -> None:
        """A bug ends what was being done, and no more: a stranger may have found out how to provoke it."""
        error = context.get("exception")
        if isinstance(error, Exception):
            traceback.print_exception(error)
        reason = f"a bug in floatip: {context['message']}: {error!r}"[:MOST_SHOWN]
        if len(self._failing) < MOST_FAILURES:
            self._failing.append(("http", reason, "report this line; until then what was asked for may not work"))
            self._tell()

    def _tell(self) -> None:
        """All that fails."""
        self._daemon.write(json.dumps([*self._failing, *self._server.failing]).encode() + b"\n")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def _raise(task: asyncio.Task[Any]) -> None:
    """A bug ends the process, and the daemon starts another."""
    if not task.cancelled() and (error := task.exception()):
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
        os._exit(1)
