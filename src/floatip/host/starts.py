"""Remembers the starts of the daemon, to notice when it dies again and again. An end that was asked for is no death."""

import json
from contextlib import suppress
from pathlib import Path

WINDOW = 60.0
LIMIT = 3


def note(path: Path, now: float) -> float:
    """Note a start; for how many seconds the node must not be master. Who cannot remember is not barred."""
    boot, starts = Path("/proc/sys/kernel/random/boot_id").read_text(), [now]
    with suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads(path.read_bytes())
        if state["boot"] == boot:
            starts = [at for at in state["starts"] if now - WINDOW < at <= now] + starts
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"boot": boot, "starts": starts}))
    return WINDOW if len(starts) >= LIMIT else 0.0


def forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
