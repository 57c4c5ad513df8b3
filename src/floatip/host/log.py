"""One line a message, text or a JSON object, on stderr, without ever waiting for it.

A journal that is stuck must not stop an election.
"""

import json
import os
import select
import sys
import time
from datetime import datetime

ERROR, WARNING, NOTICE = 3, 4, 5
"""Levels of syslog(3)."""
IN_WORDS = {ERROR: "error", WARNING: "warning", NOTICE: "info"}
LONGEST_LINE = 4000
"""A pipe or socket that is writable takes so many bytes without blocking."""


class Log:
    def __init__(self, least: int = NOTICE, as_json: bool = False) -> None:
        self._least = least
        self._as_json = as_json
        self._descriptor = sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY)
        stream = os.fstat(self._descriptor)
        self._to_journal = os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"
        self._writable = select.poll()
        self._writable.register(self._descriptor, select.POLLOUT)
        self.dropped = 0

    def write(self, level: int, message: str) -> None:
        if level > self._least:
            return
        for line in message.splitlines():
            self._write_line(level, _as_json(level, line) if self._as_json else line)

    def _write_line(self, level: int, line: str) -> None:
        # sd-daemon(3): the journal takes the level from a prefix, and knows the time.
        clock = "" if self._as_json else time.strftime("%H:%M:%S ")
        prefix = f"<{level}>" if self._to_journal else clock
        try:
            if any(events == select.POLLOUT for _, events in self._writable.poll(0)):
                os.write(self._descriptor, (prefix + line).encode(errors="replace")[:LONGEST_LINE] + b"\n")
                return
        except OSError:
            pass
        self.dropped += 1


def _as_json(level: int, message: str) -> str:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"level": IN_WORDS[level], "msg": message, "time": now})
