"""Remembers the starts of the daemon, to notice when it dies again and again. An end that was asked for is no death."""

import asyncio
from typing import Any

from floatip.host.disk import Memory

WINDOW = 60.0
LIMIT = 3
WRITE_TIMEOUT = 1.0


async def note(memory: Memory, now: float) -> float:
    """Note a start; for how many seconds the node must not be master. Who cannot remember is not barred."""

    def recent(state: dict[str, Any]) -> list[float]:
        return [float(at) for at in state["starts"] if now - WINDOW < at <= now]

    starts = [*(memory.recall(recent) or []), now]
    # What dies at once must have been noted.
    await asyncio.wait([memory.remember({"starts": starts})], timeout=WRITE_TIMEOUT)
    return WINDOW if len(starts) >= LIMIT else 0.0


def forget(memory: Memory) -> None:
    memory.remember({"starts": []})
