"""Processes that a lab started, wherever they are."""

import time
from pathlib import Path

GONE_WITHIN = 10.0
"""Seconds."""


def processes_with(argument: str) -> list[Path]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in each.read_bytes().split(b"\0"):
                found.append(each)
        except OSError:
            continue
    return found


def wait_until_gone(argument: str) -> None:
    deadline = time.monotonic() + GONE_WITHIN
    while processes_with(argument):
        assert time.monotonic() < deadline, f"it still runs: {processes_with(argument)}"
        time.sleep(0.05)
