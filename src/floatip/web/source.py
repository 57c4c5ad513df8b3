"""What is known of the daemon: its newest status, and what changed.

One connection watches. Another asks for the status when a reader wants it and what is here is older than the last
change or than the reader allows, at most four times a second, however many readers there are: all wait for one answer.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
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
DAY_IS_GOOD = 5.0
"""Seconds for which the changes of the last day are not read again, if none is new."""
LONGEST_ANSWER = 1 << 26
MOST_CHANGES = 2000


class Silent(Exception):
    """The daemon does not answer: why, in words."""


class Line:
    """A connection to the control socket that is opened when it is needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
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
        # The daemon closes a connection that was idle: then, and only then, it is opened again.
        if self._ends and (self._ends[0].at_eof() or self._ends[1].is_closing()):
            self.close()
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
        self._day: list[ChangeView] = []
        self._day_at = float("-inf")
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
        """Since the daemon was started, oldest first, as far as they are known."""

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
        """The changes of the last day, oldest first: from the file, and the last ones that are not there yet."""
        now = self._loop.time()
        if self._day_at <= self._changed_at or now - self._day_at > DAY_IS_GOOD:
            from datetime import UTC, datetime, timedelta  # noqa: PLC0415
            from pathlib import Path  # noqa: PLC0415

            from floatip.history import read_history  # noqa: PLC0415

            since = datetime.now(UTC) - timedelta(days=1)
            try:
                kept = [change.view for change in read_history(Path(self._history), since, MOST_CHANGES)]
            except OSError:
                kept = []
            known = {(one.time, one.what, one.name, one.value) for one in kept}
            last = kept[-1].time if kept else since.isoformat()
            new = [each for each in self.changes if each.time >= last]
            kept += [each for each in new if (each.time, each.what, each.name, each.value) not in known]
            self._day, self._day_at = kept, now
        return self._day

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
        self.changes.append(ChangeView(record["time"], *thing, before, record["value"], record["reason"]))
        self._publish(record)
