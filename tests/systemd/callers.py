"""The clients of HAProxy: python -m tests.systemd.callers ADDRESS TLS IDLE.

TLS connections to port 443 that ask for the page four times a second each, and IDLE connections to the echo service
that say nothing between their beginning and their end, as a WebSocket's. Writes `ready` when all are open, and on
SIGTERM what became of them (JSON: kind, how many, who has them, how they ended).
"""

import asyncio
import json
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from floatip.lab.connections import CLOSED, RESET, TIMED_OUT, WRONG_BYTES
from floatip.lab.programs.connections import PORT

PACE = 0.25
PATIENCE = 10.0
TLS_PORT = 443
REQUEST = b"GET / HTTP/1.1\r\nHost: floatip.test\r\n\r\n"
MESSAGE = b"still there?" + bytes(52)


@dataclass(slots=True)
class Kind:
    count: int = 0
    requests: int = 0
    by: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """Of those that did not last until the client closed them."""


class Callers:
    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = asyncio.Event()
        self._open = 0
        self.kinds = {"tls": Kind(), "idle": Kind()}
        self._insecure = ssl.create_default_context()
        self._insecure.check_hostname = False
        self._insecure.verify_mode = ssl.CERT_NONE

    async def run(self, tls: int, idle: int) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        tasks = [asyncio.create_task(self._guard("tls", self._ask)) for _ in range(tls)]
        tasks += [asyncio.create_task(self._guard("idle", self._idle)) for _ in range(idle)]
        while self._open < tls + idle and not any(kind.ends for kind in self.kinds.values()):
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.gather(*tasks)

    async def _guard(self, name: str, talk: Callable[[Kind], Coroutine[None, None, None]]) -> None:
        kind = self.kinds[name]
        kind.count += 1
        try:
            await talk(kind)
        except TimeoutError:
            kind.ends[TIMED_OUT] += 1
        except (ConnectionResetError, BrokenPipeError):
            kind.ends[RESET] += 1
        except asyncio.IncompleteReadError:
            kind.ends[CLOSED] += 1
        except OSError as problem:
            kind.ends[problem.strerror or str(problem)] += 1

    async def _ask(self, kind: Kind) -> None:
        reader, writer = await asyncio.open_connection(self._address, TLS_PORT, ssl=self._insecure)
        try:
            who = await self._page(reader, writer)
            kind.by[who] += 1
            self._open += 1
            while not self._stop.is_set():
                kind.requests += 1
                if await self._page(reader, writer) != who:
                    kind.ends[WRONG_BYTES] += 1
                    return
                await asyncio.sleep(PACE)
        finally:
            writer.close()

    async def _page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = (line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
            return (await reader.readexactly(int(length))).decode()

    async def _idle(self, kind: Kind) -> None:
        reader, writer = await asyncio.open_connection(self._address, PORT)
        try:
            writer.write(b"echo\n")
            async with asyncio.timeout(PATIENCE):
                kind.by[(await reader.readuntil(b"\n")).decode().strip()] += 1
            self._open += 1
            heard = asyncio.create_task(reader.readexactly(len(MESSAGE)))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait((heard, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not heard.done():
                kind.requests += 1
                writer.write(MESSAGE)
            async with asyncio.timeout(PATIENCE):
                if await heard != MESSAGE:
                    kind.ends[WRONG_BYTES] += 1
        finally:
            writer.close()


async def _main() -> None:
    address, tls, idle = sys.argv[1:]
    callers = Callers(address)
    await callers.run(int(tls), int(idle))
    told = {
        name: {"count": kind.count, "requests": kind.requests, "by": dict(kind.by), "ends": dict(kind.ends)}
        for name, kind in callers.kinds.items()
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
