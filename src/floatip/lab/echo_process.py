"""The service of long connections: python -m floatip.lab.echo_process NAME ADDRESS PORT CONNECTIONS.

At once it says NAME. The client's first line says what follows:

echo           everything comes back
upload         the client sends until it closes its half; the SHA-256 of that comes back, 32 octets
download RATE  so many octets a second, until the client closes its half; then their SHA-256, and the end
"""

import random
import select
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from floatip.lab.namespaces import allow_files

CHUNK = 16384
TICK = 0.01
"""Seconds between two chunks of a download at most."""
LONGEST_LINE = 64
MODES = ("echo", "upload", "download")
FILES = 50
"""Beside its connections."""
BACKLOG = 4096


@dataclass(slots=True, eq=False)
class Client:
    socket: socket.socket
    mode: str = ""
    """Empty: its first line has not come whole."""
    line: bytes = b""
    unsent: bytes = b""
    ended: bool = False
    """It has closed its half."""
    rate: float = 0.0
    began: float = 0.0
    sent: int = 0
    digest: Any = field(default_factory=sha256)


class Service:
    def __init__(self, name: str, address: str, port: int) -> None:
        """`address` may be empty: all of both families."""
        self._hello = f"{name}\n".encode()
        self._random = random.Random(name)
        self._clients: dict[int, Client] = {}
        self._downloads: list[Client] = []
        self._epoll = select.epoll()
        dual = not address
        family = socket.AF_INET6 if dual or ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._epoll.register(self._listening, select.EPOLLIN)

    def serve(self) -> None:
        while True:
            for fd, event in self._epoll.poll(TICK if self._downloads else -1, 1024):
                client = self._clients.get(fd)
                if client is None:
                    self._accept()
                    continue
                try:
                    if event & select.EPOLLOUT:
                        self._flush(client)
                    elif event:
                        self._read(client)
                except BlockingIOError:
                    continue
                except OSError:
                    self._close(client)
            for client in list(self._downloads):
                try:
                    self._go_on(client)
                except OSError:
                    self._close(client)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._listening.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with suppress(OSError):  # it may be gone already
                    connection.send(self._hello)
                self._clients[connection.fileno()] = Client(connection)
                self._epoll.register(connection, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        data = client.socket.recv(65536)
        if not data:
            self._end(client)
        elif client.mode == "echo":
            self._send(client, data)
        elif client.mode == "upload":
            client.digest.update(data)
        elif not client.mode:
            self._begin(client, client.line + data)

    def _begin(self, client: Client, data: bytes) -> None:
        line, found, rest = data.partition(b"\n")
        client.line = data
        mode, _, rate = line.decode(errors="replace").partition(" ")
        if len(line) > LONGEST_LINE or (found and (mode not in MODES or rate.isdecimal() != (mode == "download"))):
            self._close(client)
            return
        if not found:
            return
        client.mode = mode
        if client.mode == "echo" and rest:
            self._send(client, rest)
        elif client.mode == "upload":
            client.digest.update(rest)
        elif client.mode == "download":
            client.rate, client.began = float(rate), time.monotonic()
            self._downloads.append(client)

    def _end(self, client: Client) -> None:
        """The client has closed its half."""
        client.ended = True
        if client.mode == "upload":
            self._send(client, client.digest.digest())
        if client.mode == "download":
            self._downloads.remove(client)
            self._send(client, client.digest.digest())
        if not client.unsent:
            self._close(client)

    def _send(self, client: Client, data: bytes) -> None:
        if client.unsent:
            client.unsent += data
            return
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            client.unsent = data[sent:]
            # What it sends waits until it takes what it gets: no more than a buffer is kept for each.
            self._epoll.modify(client.socket, select.EPOLLOUT)

    def _flush(self, client: Client) -> None:
        client.unsent = client.unsent[client.socket.send(client.unsent) :]
        if client.unsent:
            return
        if client.ended:
            self._close(client)
        else:
            self._epoll.modify(client.socket, select.EPOLLIN)

    def _go_on(self, client: Client) -> None:
        """With a download, as far as it should be by now."""
        due = int((time.monotonic() - client.began) * client.rate) - client.sent
        while due >= CHUNK and not client.unsent:
            chunk = self._random.randbytes(CHUNK)
            client.digest.update(chunk)
            client.sent += CHUNK
            due -= CHUNK
            self._send(client, chunk)

    def _close(self, client: Client) -> None:
        if client in self._downloads:
            self._downloads.remove(client)
        self._clients.pop(client.socket.fileno(), None)
        client.socket.close()


def main() -> None:
    name, address, port, connections = sys.argv[1:]
    allow_files(int(connections) + FILES)
    Service(name, address, int(port)).serve()


if __name__ == "__main__":
    main()
