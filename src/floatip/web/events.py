"""Streams of events (HTML, "Server-sent events"): one for each change, and one a second that says whether the daemon
answers.

`event: change`, its data as the daemon writes it (`{"cmd": "watch"}`), with an id.
`event: alive`, `{"time": ...}` in seconds since the epoch; `event: silent`, `{"reason": ...}`.
`event: reset`: the id that the reader came with is not known, or too long ago; it reads everything again.
"""

import asyncio
import json
import os
import time
from collections import deque
from typing import Any, Protocol

from floatip.web.source import Silent, Source

MOST_STREAMS = 16
BEAT = 1.0
"""Seconds between two signs of life."""
KEPT = 256
"""Events for readers that come back."""
MOST_UNREAD = 1 << 16
"""Bytes; a reader that reads so late is dropped, and comes back with the id of what it read last."""
LONGEST = 900.0
"""Seconds of a stream; its reader comes back. This ends those that nobody reads any more."""
RETRY = b"retry: 1000\n\n"


class Reader(Protocol):
    def push(self, data: bytes) -> None: ...
    @property
    def unread(self) -> int:
        """Bytes."""

    def drop(self) -> None: ...


class Events:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = os.urandom(4).hex()
        """Ids of another process are not ours."""
        self._number = 0
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        """Up to the one with the newest number."""
        self._readers: dict[Reader, asyncio.TimerHandle] = {}
        self._come = asyncio.Event()
        """There are readers."""

    def __len__(self) -> int:
        return len(self._readers)

    @property
    def is_full(self) -> bool:
        return len(self._readers) >= MOST_STREAMS

    def publish(self, change: dict[str, Any]) -> None:
        self._number += 1
        event = _event("change", change, f"{self._run}-{self._number}")
        self._kept.append(event)
        self._push(event)

    def join(self, reader: Reader, after: str) -> None:
        """`after`: the last id that it has read; empty: it has read none."""
        self._readers[reader] = self._loop.call_later(LONGEST, reader.drop)
        self._come.set()
        missed: list[bytes] = []
        if after:
            run, _, number = after.partition("-")
            behind = self._number - int(number) if run == self._run and _is_number(number) else -1
            known = 0 <= behind <= len(self._kept)
            missed = list(self._kept)[len(self._kept) - behind :] if known else [_event("reset", {})]
        reader.push(RETRY + b"".join(missed))

    def leave(self, reader: Reader) -> None:
        if timer := self._readers.pop(reader, None):
            timer.cancel()
        if not self._readers:
            self._come.clear()

    async def beat(self, source: Source) -> None:
        """Without end."""
        while True:
            await self._come.wait()
            try:
                await source.fresh_answer(BEAT)
                self._push(_event("alive", {"time": time.time()}))
            except Silent as silent:
                self._push(_event("silent", {"reason": str(silent)}))
            await asyncio.sleep(BEAT)

    def _push(self, event: bytes) -> None:
        for reader in list(self._readers):
            reader.push(event)
            if reader.unread > MOST_UNREAD:
                reader.drop()


def _event(name: str, data: dict[str, Any], identity: str = "") -> bytes:
    """JSON has no line ends, so what others wrote cannot begin another field."""
    return (f"id: {identity}\n" if identity else "").encode() + f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18
