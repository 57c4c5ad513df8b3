"""What systemd is told (sd_notify(3)), and the watchdog that ends a daemon which hangs.

One datagram a message; without systemd every call does nothing. The variables are taken out of the environment so
that checks and hooks cannot speak in our name.
"""

import asyncio
import contextlib
import os
import socket
import time


class Systemd:
    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog_usec = int(os.environ.pop("WATCHDOG_USEC", "0"))
        meant_for = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        self._watchdog_interval = watchdog_usec / 1e6 / 3 if meant_for == str(os.getpid()) else 0.0

    def ready(self) -> None:
        self._notify("READY=1")

    def reloading(self) -> None:
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._notify("STOPPING=1")

    def status(self, line: str) -> None:
        self._notify("STATUS=" + line.replace("\n", " "))

    def feed_watchdog(self) -> None:
        """Again and again from the loop, and from nowhere else: a loop that hangs falls silent."""
        if self._address and self._watchdog_interval:
            self._notify("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self._watchdog_interval, self.feed_watchdog)

    def _notify(self, message: str) -> None:
        if not self._address:
            return
        # An "@" stands for the NUL of the abstract namespace. Never wait for systemd, and never fail without it.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.setblocking(False)
            notifier.sendto(message.encode(), address)
