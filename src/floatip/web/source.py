"""What is known of the daemon: its newest status, and what changed.

One connection watches. Another asks for the status when a reader wants it and what is here is older than the last
change or than the reader allows, at most four times a second, however many readers there are: all wait for one answer.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from floatip.core.state import ChangeView, Status, read

PATIENCE = 3.0
"""Seconds that an answer of the daemon may take."""
LEAST_INTERVAL = 0.25
"""Seconds between two questions."""
FRESH = 1.0
"""Seconds for which an answer is good, if nothing changed since."""
AGAIN = 0.5
"""Seconds until the daemon is watched again after the connection was lost."""
USED = 30.0
"""Seconds after which a connection is not used again: after 60 the daemon closes it, and a question may cross that."""
LONGEST_ANSWER = 1 << 26
MOST_CHANGES = 10_000
"""Of the last day. The failover of 255 instances is about 500 of those that are shown."""
NOT_SHOWN = frozenset({"rank", "address"})
"""They follow from others, and the page has neither in its list nor in its drawing."""
LATE = 1000
"""Changes that may be in the file before the watch tells them."""


class Silent(Exception):
    """The daemon does not answer: why, in words."""


class Line:
    """A connection to the control socket that is opened when it is needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_at = 0.0
        self._turn = asyncio.Lock()

    async def ask(self, request: dict[str, object]) -> bytes:
        """The answer, a line of JSON. Raises `Silent`."""
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._ask(json.dumps(request).encode() + b"\n")
            except TimeoutError:
                why = f"the daemon did not answer within {PATIENCE:g} s"
            except (OSError, EOFError, ValueError) as error:
                why = f"the daemon does not answer: {error}"
            except asyncio.CancelledError:
                self.close()
                raise
            self.close()
            raise Silent(why)

    async def _ask(self, request: bytes) -> bytes:
        now = asyncio.get_running_loop().time()
        if self._ends and (self._ends[0].at_eof() or self._ends[1].is_closing() or now - self._used_at > USED):
            self.close()
        self._used_at = now
        if not self._ends:
            self._ends = await asyncio.open_unix_connection(self.path, limit=LONGEST_ANSWER)
        reader, writer = self._ends
        writer.write(request)
        return await reader.readuntil(b"\n")

    def close(self) -> None:
        if self._ends:
            self._ends[1].transport.abort()
            self._ends = None


class Kept:
    """The newest answer to one question."""

    def __init__(self, line: Line, command: str) -> None:
        self._line = line
        self._command = command
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = -LEAST_INTERVAL
        self.answer = b""
        """A line of JSON; empty: there was none yet."""
        self.at = float("-inf")
        """Monotonic seconds: it is not older than this."""
        self.silence = ""
        """Why the last question was not answered; empty: it was."""

    async def fresh(self, since: float) -> bytes:
        """An answer that is not older than `since`. Raises `Silent`."""
        while self.at < since:
            if not self._asking:
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
            if self.silence:
                raise Silent(self.silence)
        return self.answer

    async def _ask(self) -> None:
        try:
            await asyncio.sleep(self._asked_at + LEAST_INTERVAL - self._loop.time())
            self._asked_at = self._loop.time()
            answer = await self._line.ask({"cmd": self._command})
            if answer.startswith(b'{"error":'):
                raise Silent(f"the daemon refuses: {json.loads(answer)['error']}")
            self.answer, self.at, self.silence = answer, self._asked_at, ""
        except Silent as silent:
            self.silence = str(silent)
        finally:
            self._asking = None


class Source:
    def __init__(self, path: str, history: str, publish: Callable[[dict[str, Any]], None]) -> None:
        """`path` of the control socket; directory of the `history`; `publish` gets each change."""
        self._path = path
        self._history = history
        self._has_day = False
        """The file of the history was read, and the daemon is watched since."""
        self._kept_already: set[tuple[str, ...]] = set()
        """The last that the file had then; the watch may tell some of it later."""
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._kept = Kept(Line(path), "status")
        self._figures = Kept(Line(path), "figures")
        self._changed_at = float("-inf")
        self._last_at = float("-inf")
        self._last: set[bytes] = set()
        """The changes of that moment."""
        self._latest: dict[tuple[str, str], str] = {}
        self._read: tuple[bytes, Status] | None = None
        self.changes: deque[ChangeView] = deque(maxlen=MOST_CHANGES)
        """Oldest first, as far as they are known: those that the daemon told, and from `last_day` on the day's."""

    @property
    def answer(self) -> bytes:
        """The newest status as JSON; empty: there was none yet."""
        return self._kept.answer

    @property
    def status(self) -> Status | None:
        """The newest one, however old it is."""
        if not self.answer:
            return None
        if not self._read or self._read[0] is not self.answer:
            self._read = self.answer, read(Status, json.loads(self.answer))
        return self._read[1]

    async def fresh(self, within: float = FRESH) -> Status:
        """The status of at most so many seconds ago, and of after the last change. Raises `Silent`."""
        await self.fresh_answer(within)
        assert self.status
        return self.status

    async def fresh_answer(self, within: float = FRESH) -> bytes:
        """The same as JSON."""
        return await self._kept.fresh(max(self._loop.time() - within, self._changed_at))

    async def figures(self, within: float = FRESH) -> bytes:
        """What was counted, of at most so many seconds ago, as JSON. Raises `Silent`."""
        return await self._figures.fresh(self._loop.time() - within)

    def last_day(self) -> list[ChangeView]:
        """The changes of the last day, oldest first, without those of `NOT_SHOWN`."""
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415
        from pathlib import Path  # noqa: PLC0415

        from floatip.history import read_history  # noqa: PLC0415

        since = datetime.now(UTC) - timedelta(days=1)
        if not self._has_day:
            # Once: it is megabytes, and the watch tells the rest.
            with suppress(OSError):
                changes = read_history(Path(self._history), since, MOST_CHANGES, NOT_SHOWN)
                self._begin_with([one.view for one in changes])
                self._has_day = True
        least = since.isoformat()
        while self.changes and self.changes[0].time < least:
            self.changes.popleft()
        return [*self.changes]

    def _begin_with(self, kept: list[ChangeView]) -> None:
        """What the file has, and then what the watch told and the file has not yet."""
        known, last = {_key(one) for one in kept}, kept[-1].time if kept else ""
        new = [one for one in self.changes if one.time >= last and _key(one) not in known]
        self._kept_already = {_key(one) for one in kept[-LATE:]}
        self.changes.clear()
        self.changes.extend(kept + new)

    async def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """Something else. Raises `Silent`."""
        line = Line(self._path)
        try:
            answer = json.loads(await line.ask(request))
        finally:
            line.close()
        assert isinstance(answer, dict)
        return answer

    async def run(self) -> None:
        """Watch, without end."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LONGEST_ANSWER)
                try:
                    writer.write(b'{"cmd": "watch"}\n')
                    await self._watch(reader)
                finally:
                    writer.transport.abort()
            except (OSError, EOFError):
                pass
            self._changed_at = self._loop.time()
            self._has_day = False  # it may have told more meanwhile than it tells again
            await asyncio.sleep(AGAIN)

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """After a break the daemon begins with its history again, most of which is known here."""
        while True:
            line = await reader.readuntil(b"\n")
            record = json.loads(line)
            if "error" in record:
                return  # too many connections, perhaps
            if record["at"] > self._last_at:
                self._last_at, self._last = record["at"], set()
            if record["at"] == self._last_at and line not in self._last:
                self._last.add(line)
                self._note(record)

    def _note(self, record: dict[str, Any]) -> None:
        self._changed_at = self._loop.time()
        thing = record["what"], record["name"]
        before = self._latest.get(thing, "")
        self._latest[thing] = record["value"]
        change = ChangeView(record["time"], *thing, before, record["value"], record["reason"])
        if change.what not in NOT_SHOWN and _key(change) not in self._kept_already:
            self.changes.append(change)
        self._publish(record)


def _key(change: ChangeView) -> tuple[str, ...]:
    return change.time, change.what, change.name, change.value
