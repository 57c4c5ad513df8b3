"""A server in place of etcd that answers what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

HEADER = {"cluster_id": "1", "member_id": "2", "revision": "10", "raft_term": "5"}
"""Of an answer of a member of the cluster 1."""

Respond = Callable[[str, dict[str, Any], asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def said(**fields: Any) -> bytes:
    """As etcd answers."""
    return answer(200, json.dumps({"header": HEADER} | fields).encode())


def always(octets: bytes) -> Respond:
    async def respond(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(octets)

    return respond


async def never(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def endless(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


@asynccontextmanager
async def server(respond: Respond) -> AsyncIterator[str]:
    """The endpoint."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r")[0] or 0)
                body = await reader.readexactly(length)
                await respond(head.split(" ")[1], json.loads(body or b"{}"), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            serving.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        listener.close()
        for task in [*serving]:
            task.cancel()
        await asyncio.sleep(0)
