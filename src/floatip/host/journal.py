"""The native protocol of systemd's journal: one datagram an entry, a field a line (systemd.io/JOURNAL_NATIVE_PROTOCOL).

Never waits. systemd keeps the socket while journald is restarted, so the kernel queues what is sent meanwhile.
"""

import errno
import socket
import struct
from collections.abc import Iterable

PATH = "/run/systemd/journal/socket"
LONGEST_VALUE = 16384
"""Bytes. An entry must fit into one datagram: what is longer is cut, and says so."""
Field = tuple[str, str]
"""A name in upper case and its value. A name may come more than once."""


class Journal:
    def __init__(self, path: str = "") -> None:
        self._path = path or PATH
        self._socket: socket.socket | None = None

    def send(self, fields: Iterable[Field]) -> bool:
        """Whether the entry was taken. Raises OSError where no journal can be reached, so that it never will be."""
        try:
            if not self._socket:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.sendto(encode(fields), self._path)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                return False
            raise
        return True

    def close(self) -> None:
        if self._socket:
            self._socket.close()


def encode(fields: Iterable[Field]) -> bytes:
    fields = list(fields)
    if all("\n" not in value and len(value) <= LONGEST_VALUE // 4 for _, value in fields):  # as most are
        return "".join([f"{name}={value}\n" for name, value in fields]).encode(errors="replace")
    return b"".join(_encoded(name, _cut(value.encode(errors="replace"))) for name, value in fields)


def _encoded(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)


def _cut(value: bytes) -> bytes:
    if len(value) <= LONGEST_VALUE:
        return value
    kept = value[:LONGEST_VALUE].decode(errors="ignore").encode()
    return b"%s ... (%d bytes more)" % (kept, len(value) - len(kept))
