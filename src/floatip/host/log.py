"""The log: to systemd's journal with fields, to others as text or JSON on stderr. It never waits.

A journal that is stuck must not stop an election. What cannot be written at once is dropped and counted.
"""

import json
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from floatip.host.journal import Field, Journal
from floatip.text import printable

ERROR, WARNING, NOTICE = 3, 4, 5
"""Levels of syslog(3)."""
IN_WORDS = {ERROR: "error", WARNING: "warning", NOTICE: "info"}
LONGEST_LINE = 4000
"""Bytes. A pipe or socket that is writable takes so many without blocking."""
DAEMON = "3"
"""The facility of syslog(3)."""
OURS = "FLOATIP_"
"""Begins the names of our fields in the journal."""


class Log:
    def __init__(self, least: int = NOTICE, as_json: bool = False, journal: Journal | None = None) -> None:
        self._least = least
        self.as_json = as_json
        """JSON goes to stderr, even where that is the journal."""
        self._descriptor = sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY)
        stream = os.fstat(self._descriptor)
        self._is_journal = os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"
        self._journal = journal or Journal()
        self._identifier = _identifier()
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self.dropped = 0

    def write(self, level: int, message: str, fields: Sequence[Field] = ()) -> None:
        """`fields`: what the message says, as names in upper case and values."""
        message = "\n".join(map(printable, message.rstrip("\n").split("\n")))
        if level > self._least or not message:
            return
        fields = [(name, printable(value)) for name, value in fields]
        if self.as_json:
            for line in _as_json(level, message, fields):
                self._write_line(level, line)
        elif not (self._is_journal and self._sent(level, message, fields)):
            clock = "" if self._is_journal else time.strftime("%H:%M:%S ")
            for line in message.split("\n"):
                self._write_line(level, clock + line)

    def _sent(self, level: int, message: str, fields: Sequence[Field]) -> bool:
        """False: there is no socket of the journal here."""
        entry = [("MESSAGE", message), ("PRIORITY", str(level)), ("SYSLOG_FACILITY", DAEMON)]
        entry += [("SYSLOG_IDENTIFIER", self._identifier)]
        entry += [(name if name == "MESSAGE_ID" else OURS + name, value) for name, value in fields]
        try:
            self.dropped += not self._journal.send(entry)
        except OSError:
            return False
        return True

    def _write_line(self, level: int, line: str) -> None:
        # sd-daemon(3): the journal takes the level from a prefix, and knows the time.
        prefix = f"<{level}>" if self._is_journal else ""
        try:
            if any(events == select.POLLOUT for _, events in self._writable.poll(0)):
                os.write(self._descriptor, (prefix + line).encode(errors="replace")[:LONGEST_LINE] + b"\n")
                return
        except OSError:
            pass
        self.dropped += 1


def _identifier() -> str:
    """As the journal would name the stream of this process."""
    name = Path(sys.argv[0]).name
    return name if name.startswith("floatip") else "floatip"


def _as_json(level: int, message: str, fields: Sequence[Field]) -> Iterator[str]:
    """One object; where that is too long, one for each line of the message."""
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    record: dict[str, object] = {"level": IN_WORDS[level], "msg": message, "time": now}
    for name in dict.fromkeys(name for name, _ in fields):
        values = [value for each, value in fields if each == name]
        record[name.lower()] = values if len(values) > 1 else values[0]
    if len(whole := json.dumps(record)) <= LONGEST_LINE:
        yield whole
        return
    for line in message.split("\n"):
        kept = line
        while len(text := json.dumps({"level": IN_WORDS[level], "msg": kept, "time": now})) > LONGEST_LINE:
            kept = kept[: len(kept) // 2]
        yield text
