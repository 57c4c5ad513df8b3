"""What runs in the process, from its start to the end of the connection to the daemon."""

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import astuple
from typing import Any

from floatip.etcd import lines, settings
from floatip.etcd.client import Client, Seen
from floatip.etcd.settings import Settings
from floatip.serving import end, serve

MOST_UNSAID = 100_000
"""Packets that the daemon has not read; it hangs or is lost, and asks again after that."""


def run(connection: socket.socket) -> None:
    asyncio.run(serve(connection, Process, lines.LARGEST * 2))


class Process:
    def __init__(self, daemon: socket.socket) -> None:
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(end)
        self._client: Client | None = None
        self._met = lines.Met()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsaid: deque[bytes] = deque()

    def told(self, what: list[Any]) -> None:
        match what:
            case ["ask", number, asked]:
                self._begin(self._ask(number, asked))
            case ["watch", prefixes, revision] if self._client:
                self._client.watch(tuple(prefixes), revision)
            case ["configure", given, seen]:
                self._configure(settings.read(given), Seen(*seen))

    def _configure(self, given: Settings, seen: Seen) -> None:
        if self._client:
            self._begin(self._client.close())
        self._client = Client(given, self._report, seen)
        self._client.look_after()

    async def _ask(self, number: int, asked: list[Any]) -> None:
        assert self._client, "it is configured first"
        answer = await self._client.ask(lines.question(asked))
        met = lines.Met(*astuple(self._client.seen))
        if (met.cluster, met.term) != (self._met.cluster, self._met.term):
            self._met = met
            self._say([lines.of_met(met)])
        self._say(lines.of_answer(number, answer))

    def _report(self, event: lines.Told) -> None:
        self._say(lines.of_told(event))

    def _say(self, packets: Iterable[bytes]) -> None:
        self._unsaid.extend(packets)
        if len(self._unsaid) > MOST_UNSAID:
            sys.exit("the daemon does not read what it is told")
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsaid:
                self._daemon.send(self._unsaid[0])
                self._unsaid.popleft()
            self._loop.remove_writer(self._daemon)
        except BlockingIOError:
            self._loop.add_writer(self._daemon, self._flush)
        except OSError:
            os._exit(0)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            end(self._loop, {"message": "a task failed", "exception": error})
