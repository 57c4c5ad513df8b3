"""What systemd is told (sd_notify(3)), and the watchdog that ends a daemon which hangs.

One datagram a message; without systemd every call does nothing. The variables are taken out of the environment so
that checks and hooks cannot speak in our name.
"""

import asyncio
import contextlib
import os
import socket
import time

STOP_MARGIN = 10.0
"""Seconds that are added to a long stop, for the rest of it."""

FEEDINGS = 6
"""In an interval of the watchdog."""


class Systemd:
    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog_usec = int(os.environ.pop("WATCHDOG_USEC", "0"))
        meant_for = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        self._notifier: socket.socket | None = None
        self._watchdog_interval = watchdog_usec / 1e6 / FEEDINGS if meant_for == str(os.getpid()) else 0.0

    def ready(self) -> None:
        self._notify("READY=1")

    def reloading(self) -> None:
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """A long stop asks for more time than `TimeoutStopSec` of the unit."""
        is_long = seconds > STOP_MARGIN / 2
        extension = f"\nEXTEND_TIMEOUT_USEC={int((seconds + STOP_MARGIN) * 1e6)}" if is_long else ""
        self._notify("STOPPING=1" + extension)

    def status(self, line: str) -> None:
        self._notify("STATUS=" + line.replace("\n", " "))

    def feed_watchdog(self) -> None:
        """Again and again from the loop, and from nowhere else: a loop that hangs falls silent."""
        if self._address and self._watchdog_interval:
            self._notify("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self._watchdog_interval, self.feed_watchdog)

    def close(self) -> None:
        self._address = ""
        if self._notifier:
            self._notifier.close()

    def _notify(self, message: str) -> None:
        if not self._address:
            return
        # An "@" stands for the NUL of the abstract namespace. Never wait for systemd, and never fail without it.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError):
            if not self._notifier:
                self._notifier = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._notifier.sendto(message.encode(), address)
