"""Processes that begin, as the kernel's process connector tells them (CN_PROC, linux/cn_proc.h).

It needs CAP_NET_ADMIN, and the first namespaces of the machine: in a container nobody is told anything, and whoever
wants to know looks by time. Open only while somebody does, because each fork of the machine wakes us.
"""

import asyncio
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

from floatip.host.network.packet_filter import ALL, JUMP_EQUAL, LD_WORD, NOTHING, RETURN, Instruction, attach

NETLINK_CONNECTOR, CN_IDX_PROC, CN_VAL_PROC = 11, 1, 1
LISTEN, IGNORE = 1, 2
ACKNOWLEDGED, FORK, EXEC, COMM = 0x0, 0x1, 0x2, 0x200
"""What a message is about; ends of processes are not asked for."""
NLMSG_DONE = 3
MESSAGE = struct.Struct("=IHHII IIIIHH")
"""struct nlmsghdr, and struct cn_msg behind it."""
EVENT = struct.Struct("=II8xII")
"""What and the CPU, a time, and the first two pids of struct proc_event."""
WHAT = MESSAGE.size
FIRST = WHAT + EVENT.size - 8
"""Of FORK: the parent's pid and thread group, and then the child's. Of others: the process's."""
LDX_A, JUMP_EQUAL_X = 0x07, 0x1D
SO_RCVBUFFORCE, RECEIVE_BUFFER = 33, 1 << 20
BATCH = 0.005
"""Seconds in which processes are collected."""

Begun = Callable[[frozenset[int] | None], None]
"""The pids; None: some were lost."""


class Started:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._tells = False
        self._wanted: list[Begun] = []
        self._pids: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def tells(self) -> bool:
        """The kernel has agreed: nobody need look by time."""
        return self._tells

    def subscribe(self, begun: Begun) -> None:
        if begun in self._wanted:
            return
        self._wanted.append(begun)
        if len(self._wanted) == 1:
            with suppress(OSError):
                self._open()

    def unsubscribe(self, begun: Begun) -> None:
        if begun in self._wanted:
            self._wanted.remove(begun)
            if not self._wanted:
                self._close()

    def _open(self) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, NETLINK_CONNECTOR)
        try:
            with suppress(PermissionError):
                opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            attach(opened, _of_new_processes())
            opened.bind((0, CN_IDX_PROC))
            opened.send(_order(LISTEN))
        except OSError:
            opened.close()
            raise
        self._socket = opened
        self._loop.add_reader(opened, self._read)

    def _close(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._pids.clear()
        self._tells = False
        if self._socket:
            self._loop.remove_reader(self._socket)
            with suppress(OSError):
                self._socket.send(_order(IGNORE))  # older kernels go on telling otherwise
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket
        try:
            for _ in range(64):
                self._hear(self._socket.recv(256))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._tell(None)
            else:
                self._close()
        if self._pids and not self._timer:
            self._timer = self._loop.call_later(BATCH, self._tell_all)

    def _hear(self, data: bytes) -> None:
        if len(data) < WHAT + EVENT.size:
            return
        what, _, pid, _ = EVENT.unpack_from(data, WHAT)
        if what == ACKNOWLEDGED:
            self._tells = pid == 0  # an errno stands there
        elif what == FORK and len(data) >= FIRST + 16:
            self._pids.add(int.from_bytes(data[FIRST + 8 : FIRST + 12], sys.byteorder))
        else:
            self._pids.add(pid)

    def _tell_all(self) -> None:
        self._timer = None
        pids, self._pids = frozenset(self._pids), set()
        self._tell(pids)

    def _tell(self, pids: frozenset[int] | None) -> None:
        for begun in list(self._wanted):
            begun(pids)


def _order(what: int) -> bytes:
    message = MESSAGE.pack(MESSAGE.size + 4, NLMSG_DONE, 0, 0, os.getpid(), CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0)
    return message + struct.pack("=I", what)


def _of_new_processes() -> list[Instruction]:
    """Of FORK only that of a process, where pid and thread group are the same: threads are nobody's concern."""
    return [
        (LD_WORD, 0, 0, WHAT),
        (JUMP_EQUAL, 7, 0, _swapped(ACKNOWLEDGED)),
        (JUMP_EQUAL, 6, 0, _swapped(EXEC)),
        (JUMP_EQUAL, 5, 0, _swapped(COMM)),
        (JUMP_EQUAL, 0, 5, _swapped(FORK)),
        (LD_WORD, 0, 0, FIRST + 8),
        (LDX_A, 0, 0, 0),
        (LD_WORD, 0, 0, FIRST + 12),
        (JUMP_EQUAL_X, 0, 1, 0),
        (RETURN, 0, 0, ALL),
        (RETURN, 0, 0, NOTHING),
    ]


def _swapped(word: int) -> int:
    """A filter loads words as the network has them, and the kernel writes these as the machine does."""
    return int.from_bytes(word.to_bytes(4, sys.byteorder))
