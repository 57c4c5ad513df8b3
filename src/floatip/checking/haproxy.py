"""How many servers of a backend HAProxy has up, by its stats socket (management guide, section 9)."""

import asyncio
import csv
from typing import TYPE_CHECKING

from floatip.checking.look import Look, Verdict, why

if TYPE_CHECKING:
    from floatip.model import Haproxy

LARGEST = 1 << 22
UP = "UP", "no"
"""The first word of the status: "UP 1/2" is about to go down, "no check" is never asked."""


class Check(Look):
    def __init__(self, kind: "Haproxy") -> None:
        self._kind = kind

    async def look(self) -> Verdict:
        try:
            reader, writer = await asyncio.open_unix_connection(self._kind.socket, limit=LARGEST)
        except OSError as error:
            return False, f"cannot connect to {self._kind.socket}: {why(error)}"
        try:
            # Type 4: servers.
            writer.write(f"show stat {self._kind.backend} 4 -1\n".encode())
            said = b""
            while len(said) < LARGEST and (part := await reader.read(LARGEST)):
                said += part
        finally:
            writer.close()
        return self._judge(said.decode(errors="replace").strip())

    def _judge(self, said: str) -> Verdict:
        head, *rows = csv.reader(said.removeprefix("#").splitlines()) if said else [[]]
        names = [name.strip() for name in head]
        if not {"pxname", "svname", "status"} <= set(names):
            return False, f"HAProxy answers: {said[:100] or 'nothing'}"
        servers = [dict(zip(names, row, strict=False)) for row in rows]
        states = {one["svname"]: one["status"] for one in servers if one.get("pxname") == self._kind.backend}
        up = [name for name, state in states.items() if state.partition(" ")[0] in UP]
        result = f"{len(up)} of {len(states)} servers of {self._kind.backend} are up"
        if len(up) >= self._kind.servers:
            return True, result
        others = ", ".join(f"{name} {state}" for name, state in states.items() if name not in up)
        return False, f"{result}, {self._kind.servers} are wanted{f': {others}' if others else ''}"
