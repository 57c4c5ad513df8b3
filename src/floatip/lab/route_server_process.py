"""One process of the lab's network: `python -m floatip.lab.route_server_process ROLE ROUTER-ID HOLD-TIME FABRIC`.

ROLE is route-server or fabric, FABRIC the address where the fabric listens.

It puts sockets, the clock and the kernel's main table around `RouteServer`, and decides nothing. A route server tells
its best routes to the fabric, attributes untouched; the fabric is a `RouteServer` with the route servers as its
clients, and what it installs in the router moves the traffic.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from typing import Any

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.core.bgp.wire import pack_routes
from floatip.lab.route_server import BestChanged, Drop, Output, RouteServer, Send
from floatip.lab.routes import flush, request
from floatip.lab.speaker import Peering, PeeringEnded, PeeringState, Speaker
from floatip.rtnetlink import Netlink

PORT = 179
ASN = 65000
CLIENT_ASN = 65001
FABRIC_HOLD_TIME = 9
RETRY_INTERVAL = 1.0


class Listener:
    """The machine, its connections and its one timer."""

    def __init__(self, machine: RouteServer, best_changed: Callable[[BestChanged], None]) -> None:
        self.machine = machine
        self._best_changed = best_changed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.transports: dict[int, asyncio.Transport] = {}
        self.numbers = count()

    def perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send(connection, data):
                    self.transports[connection].write(data)
                case Drop(connection, reason):
                    self._log(f"connection {connection} dropped: {reason}")
                    self.transports[connection].close()
                case BestChanged(prefix, route):
                    self._log(f"{prefix} " + (f"by {route.peer}: {route.attributes}" if route else "has no route"))
                    self._best_changed(output)
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if self.machine.deadline < float("inf"):
            self._timer = self._loop.call_at(self.machine.deadline, self._tick)

    def now(self) -> float:
        return self._loop.time()

    def _tick(self) -> None:
        self.perform(self.machine.tick(self.now()))

    def _log(self, line: str) -> None:
        print(f"{self.now():.3f} {line}", flush=True)


class ClientConnection(asyncio.Protocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._number = next(listener.numbers)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._listener.transports[self._number] = transport
        peer = ip_address(transport.get_extra_info("peername")[0])
        self._listener.perform(self._listener.machine.accepted(self._number, peer, self._listener.now()))

    def data_received(self, data: bytes) -> None:
        self._listener.perform(self._listener.machine.received(self._number, data, self._listener.now()))

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.perform(self._listener.machine.closed(self._number))
        del self._listener.transports[self._number]


class Uplink:
    """The session with the fabric, which is told what is best here."""

    def __init__(self, fabric: Address, router_id: IPv4Address) -> None:
        self._fabric = fabric
        self._speaker = Speaker(ASN, router_id, FABRIC_HOLD_TIME)
        self._best: dict[Prefix, Attributes] = {}
        self._established: asyncio.StreamWriter | None = None

    def best_changed(self, change: BestChanged) -> None:
        self._best.pop(change.prefix, None)
        if change.route:
            self._best[change.prefix] = change.route.attributes
        if self._established:
            announced = [(change.prefix, change.route.attributes)] if change.route else []
            withdrawn = [] if change.route else [change.prefix]
            self._established.writelines(pack_routes(announced, withdrawn))

    async def keep(self) -> None:
        while True:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(2 * RETRY_INTERVAL):
                    reader, writer = await asyncio.open_connection(str(self._fabric), PORT)
                try:
                    await self._converse(reader, writer)
                except PeeringEnded as end:
                    writer.write(end.last_words)
                finally:
                    self._established = None
                    writer.close()
            await asyncio.sleep(RETRY_INTERVAL)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        peering = Peering(self._speaker, hold_at=now() + FABRIC_HOLD_TIME)
        writer.write(self._speaker.open())
        while True:
            try:
                async with asyncio.timeout_at(peering.deadline):
                    data = await reader.read(65536)
            except TimeoutError:
                writer.write(peering.tick(now()))
                continue
            if not data:
                return
            answers, _ = peering.received(data, now())
            writer.write(answers)
            if peering.state is PeeringState.ESTABLISHED and not self._established:
                self._established = writer
                writer.writelines(pack_routes(self._best.items(), ()))


async def serve(role: str, router_id: IPv4Address, hold_time: int, fabric: Address) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_end_on_bug)
    serving = asyncio.current_task()
    assert serving is not None
    loop.add_signal_handler(signal.SIGTERM, serving.cancel)
    is_fabric = role == "fabric"
    kernel, uplink = Netlink(), Uplink(fabric, router_id)

    def best_changed(change: BestChanged) -> None:
        if not is_fabric:
            uplink.best_changed(change)
        next_hop = change.route.attributes.next_hop if change.route else None
        (code,) = kernel.request([request(change.prefix, next_hop)])
        if code:
            print(f"{change.prefix} not installed: {os.strerror(code)}", file=sys.stderr, flush=True)

    clients = frozenset({ASN if is_fabric else CLIENT_ASN})
    listener = Listener(RouteServer(ASN, router_id, hold_time, clients), best_changed)
    flush()  # a predecessor that was killed left its routes
    try:
        async with await loop.create_server(lambda: ClientConnection(listener), "::", PORT):
            await (loop.create_future() if is_fabric else uplink.keep())
    finally:
        flush()


def _end_on_bug(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)
    os._exit(1)


if __name__ == "__main__":
    role, router_id, hold_time, fabric = sys.argv[1:]
    with suppress(asyncio.CancelledError):
        asyncio.run(serve(role, IPv4Address(router_id), int(hold_time), IPv6Address(fabric)))
