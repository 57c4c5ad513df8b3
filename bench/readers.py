"""Who reads by HTTP, in a process of its own, so that the one that measures stays free.

python -m bench.readers open PORT STREAMS SECONDS      event streams that stay open, beside a scrape each second
python -m bench.readers requests PORT NUMBER           requests of /status, over a few connections that are kept
python -m bench.readers streams PORT NUMBER            event streams that are opened and dropped after the first event

It prints one JSON object: what it reached.
"""

import json
import socket
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection
from threading import Thread

CONNECTIONS = 4


def open_streams(port: int, streams: int, seconds: float) -> dict[str, float]:
    """Slow is the longest scrape, in seconds."""
    until = time.monotonic() + seconds
    events: list[int] = []
    readers = [Thread(target=lambda: events.append(_read_events(port, until))) for _ in range(streams)]
    for reader in readers:
        reader.start()
    took, octets = [], 0
    while time.monotonic() < until:
        began = time.monotonic()
        octets = len(_get(HTTPConnection("127.0.0.1", port, timeout=10), "/metrics"))
        took.append(time.monotonic() - began)
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    for reader in readers:
        reader.join()
    return {"scrapes": len(took), "slow": max(took), "octets": octets, "streams": len(events), "events": sum(events)}


def _read_events(port: int, until: float) -> int:
    """How many came."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    count = 0
    while time.monotonic() < until:
        count += answer.readline().startswith(b"event:")
    connection.close()
    return count


def requests(port: int, number: int) -> dict[str, float]:
    began = time.monotonic()
    share = number // CONNECTIONS
    octets: list[int] = []
    clients = [Thread(target=lambda: octets.append(_ask(port, share))) for _ in range(CONNECTIONS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return {"answers": share * len(octets), "octets": sum(octets), "seconds": time.monotonic() - began}


def _ask(port: int, number: int) -> int:
    """Octets of the answers. By hand: http.client takes longer for an answer than who gives it."""
    request = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    octets = 0
    with socket.create_connection(("127.0.0.1", port)) as client:
        for _ in range(number):
            client.sendall(request)
            octets += _read_answer(client)
    return octets


def _read_answer(client: socket.socket) -> int:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += _more(client)
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the answer is {head[:200]!r}")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    left = length - len(body)
    while left > 0:
        left -= len(_more(client))
    return length


def _more(client: socket.socket) -> bytes:
    data = client.recv(1 << 16)
    if not data:
        raise RuntimeError("the connection was closed")
    return data


def streams(port: int, number: int) -> dict[str, float]:
    began, heard = time.monotonic(), 0
    for _ in range(number):
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        if answer.status == 200:
            with suppress(TimeoutError):
                heard += bool(answer.readline())
        connection.close()
        answer.close()
    return {"streams": heard, "seconds": time.monotonic() - began}


def _get(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: status {answer.status}: {body[:200]!r}")
    return body


def main() -> None:
    what, port, number, *rest = sys.argv[1:]
    match what:
        case "open":
            found = open_streams(int(port), int(number), float(rest[0]))
        case "requests":
            found = requests(int(port), int(number))
        case "streams":
            found = streams(int(port), int(number))
        case _:
            sys.exit(f"there is no {what}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
