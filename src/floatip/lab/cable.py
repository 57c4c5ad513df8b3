"""A long cable: python -m floatip.lab.cable SECONDS ONE OTHER

It is a program in a namespace of its own, with an end of two veth pairs in it. A frame that comes in at ONE leaves at
OTHER so many seconds later, and the other way round. No frame overtakes another, and none is lost: where this process
did not run for a while, frames are later. netem would do the same, but few kernels of containers have it.

Frames come with a header that says what the kernel has left to the network card (checksums, segments), and go on with
it: neither is computed here, and a large segment passes as one frame.
"""

import os
import socket
import sys
import time
from collections import deque
from contextlib import suppress

CARRIES = "carries\n"
"""What it says as soon as it does."""
ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
BUFFER = 32 << 20
LONGEST = 10 + 14 + 65535 + 64
BATCH = 0.0005
"""Seconds between two looks at what has come: one at a time would cost twice the CPU."""
PRIORITY = 20
"""In real time, above the nodes' daemons: a cable does not wait for a CPU."""


class Direction:
    def __init__(self, source: socket.socket, sink: socket.socket, seconds: float) -> None:
        self._source, self._sink, self._seconds = source, sink, seconds
        self._buffer = memoryview(bytearray(LONGEST))
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        arrives_at = time.monotonic() + self._seconds
        with suppress(BlockingIOError):
            while True:
                size = self._source.recv_into(self._buffer)
                self._on_the_way.append((arrives_at, self._buffer[:size].tobytes()))

    def deliver(self) -> None:
        now = time.monotonic()
        while self._on_the_way and self._on_the_way[0][0] <= now:
            self._sink.send(self._on_the_way.popleft()[1])


def end(interface: str) -> socket.socket:
    """All frames that arrive at it."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        with suppress(PermissionError):  # in a user's namespace
            opened.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    opened.setblocking(False)
    opened.bind((interface, ETH_P_ALL))
    return opened


def carry(one: socket.socket, other: socket.socket, seconds: float) -> None:
    directions = (Direction(one, other, seconds), Direction(other, one, seconds))
    while True:
        for direction in directions:
            direction.take()
            direction.deliver()
        time.sleep(BATCH)


def main() -> None:
    seconds, one, other = sys.argv[1:]
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    ends = end(one), end(other)
    print(CARRIES, end="", flush=True)
    carry(*ends, float(seconds))


if __name__ == "__main__":
    main()
