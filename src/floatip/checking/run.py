"""What runs in the process, from its start to the end of the connection to the daemon."""

import asyncio
import importlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

from floatip.checking.libraries import PACKAGES
from floatip.checking.look import Impossible, Look, Verdict, Watch, why
from floatip.serving import serve

LONGEST = 1 << 17
LONGEST_REASON = 300
MARGIN = 0.05
"""Of the timeout, and seconds at most: the answer is there before the core gives the run up without a reason."""
RETRY_INTERVAL = 2.0
"""Seconds until a watch that failed is tried again."""


def run(connection: socket.socket) -> None:
    asyncio.run(serve(connection, Process, LONGEST))


class Process:
    def __init__(self, daemon: socket.socket) -> None:
        self._daemon = daemon
        self._looks: dict[int, Look] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """The run or the watch of each check."""
        self._living: set[asyncio.Task[None]] = set()
        """Nothing else holds a task that was replaced until it has ended."""
        self._unsaid: dict[int | str, bytes] = {}

    def told(self, what: list[Any]) -> None:
        match what:
            case ["run", key, number, timeout]:
                self._begin(key, self._look(key, number, timeout))
            case ["ping"]:
                self._say(["pong"])
            case ["set", key, kind, fields]:
                self._set(key, kind, fields)
            case ["drop", key]:
                self._drop(key)

    def _set(self, key: int, kind: str, fields: dict[str, Any]) -> None:
        self._drop(key)
        check = _make(kind, fields)
        if isinstance(check, Look):
            self._looks[key] = check
        else:
            self._begin(key, self._watch(key, check))

    def _drop(self, key: int) -> None:
        if task := self._tasks.pop(key, None):
            task.cancel()
        if check := self._looks.pop(key, None):
            self._keep(check.close())

    def _begin(self, key: int, work: Coroutine[Any, Any, None]) -> None:
        if task := self._tasks.get(key):
            task.cancel()
        self._tasks[key] = self._keep(work)

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._living.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._living.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug ends the process: the daemon says so, and starts another.
            traceback.print_exception(error)
            sys.stderr.flush()
            os._exit(1)

    async def _look(self, key: int, number: int, timeout: float) -> None:
        check = self._looks[key]
        limit = asyncio.timeout(timeout - min(MARGIN, MARGIN * timeout))
        try:
            async with limit:
                verdict: Verdict = await check.look()
        except Exception as error:
            late = f"timed out after {timeout:g} s{check.late()}"
            verdict = False, late if limit.expired() else why(error)
        self._answer(key, number, verdict)

    async def _watch(self, key: int, check: Watch) -> None:
        def say(passed: bool, reason: str) -> None:
            self._answer(key, 0, (passed, reason))

        while True:
            try:
                await check.watch(say)
            except Exception as error:
                self._answer(key, 0, (False, why(error)))
            await asyncio.sleep(RETRY_INTERVAL)

    def _answer(self, key: int, number: int, verdict: Verdict) -> None:
        passed, reason = verdict
        self._say([key, number, passed, reason[:LONGEST_REASON]])

    def _say(self, what: list[Any]) -> None:
        self._unsaid[what[0]] = json.dumps(what).encode()
        self._flush()

    def _flush(self) -> None:
        """A daemon that does not read hears the last word of each check later."""
        loop = asyncio.get_running_loop()
        try:
            for key in list(self._unsaid):
                self._daemon.send(self._unsaid[key])
                del self._unsaid[key]
            loop.remove_writer(self._daemon)
        except BlockingIOError:
            loop.add_writer(self._daemon, self._flush)
        except OSError:
            os._exit(0)


def _make(kind: str, fields: dict[str, Any]) -> Look | Watch:
    """The library of a kind is loaded with the first check of it."""
    try:
        made: Look | Watch = importlib.import_module(f"floatip.checking.{kind}").Check(SimpleNamespace(**fields))
    except ImportError as error:
        return Impossible(_missing(error))
    except Exception as error:
        return Impossible(why(error))
    return made


def _missing(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    return f"it needs {PACKAGES[name]}, which is not installed" if name in PACKAGES else f"cannot be loaded: {error}"
