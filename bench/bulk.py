"""A service that takes or gives as much as it can: python -m bench.bulk PORT. The first octet says which: u or d."""

import socket
import sys
from contextlib import suppress
from threading import Thread

CHUNK = 1 << 18
UPLOAD, DOWNLOAD = b"u", b"d"


def serve(port: int) -> None:
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        while True:
            client, _ = listening.accept()
            Thread(target=_serve, args=(client,), daemon=True).start()


def _serve(client: socket.socket) -> None:
    buffer = bytearray(CHUNK)
    with client, suppress(OSError):
        if client.recv(1) == UPLOAD:
            while client.recv_into(buffer):
                pass
        else:
            while True:
                client.sendall(buffer)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
