"""A process of the daemon's with its own module: started, restarted after a growing while, and spoken with.

Its stdin is a socket to here. It exits at the end of that connection, so it does not outlive the daemon however that
ends. What it says is of hostile origin, because strangers speak to it.
"""

import asyncio
import math
import os
import socket
import sys
from functools import partial
from typing import Protocol

from floatip.host.child import Child, Running
from floatip.host.errors import in_words
from floatip.host.workers import Handle, Workers

SOONEST, LATEST = 0.1, 30.0
"""Seconds until a process that ended is started again; doubled each time. Others may wait for the first."""
STEADY = 60.0
"""A process that ran for this long has started well."""
LONGEST = 1 << 17
"""Octets that are read at once."""


class User(Protocol):
    """What a part of the host makes of its process."""

    def began(self) -> None:
        """It runs, or is about to: what it must know can be sent."""

    def heard(self, data: bytes) -> None: ...
    def lost(self, reason: str) -> None:
        """It ended although it is wanted, or cannot be started; it is tried again."""

    def gone(self) -> None:
        """Nothing is left of it, and it is not wanted."""


class HelperProcess:
    def __init__(self, module: str, user: User, kind: int = socket.SOCK_STREAM, lends: int = 0) -> None:
        """`kind`: SOCK_SEQPACKET keeps apart what is sent at once. `lends`: a mask of capabilities that it has."""
        self._loop = asyncio.get_running_loop()
        self._module = module
        self._user = user
        self._kind = kind
        self._lends = lends
        self._workers = Workers()
        self._is_wanted = False
        self._child: Running | None = None
        self._ours: socket.socket | None = None
        self._started_at = 0.0
        self._delay = SOONEST
        self._next: Handle | None = None

    @property
    def is_connected(self) -> bool:
        return self._ours is not None

    @property
    def is_gone(self) -> bool:
        """Nothing is left of it."""
        return self._child is None

    def want(self) -> None:
        self._is_wanted = True
        if not self._child:
            self._start()

    def unwant(self) -> None:
        self._is_wanted = False
        self._stop()
        if not self._child:
            self._user.gone()

    def restart(self) -> None:
        """At once, and nobody is told that it is lost."""
        self._delay = 0.0
        self._stop()

    def end(self) -> None:
        """It does not behave; it is started again like one that ended."""
        self._stop()

    def close(self) -> None:
        self.unwant()
        self._workers.close()

    def send(self, data: bytes) -> bool:
        """Whether it could be sent, all of it."""
        if not self._ours:
            return False
        try:
            return self._ours.send(data) == len(data)
        except OSError:
            return False

    def _start(self) -> None:
        self._cancel()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, self._kind)
        except OSError as error:
            self._ended(False, in_words(error.errno))
            self._gone(())
            return
        ours.setblocking(False)
        self._ours = ours
        self._started_at = self._loop.time()
        self._user.began()
        if self._ours is ours:
            self._loop.add_reader(ours, self._read, ours)
        # The modules that are here, and no others: not those of the directory in which the daemon was started.
        modules = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
        argv = (sys.executable, "-SsPB", "-m", self._module)
        gone = partial(self._gone, (ours, theirs))
        environment = {"PYTHONPATH": modules}
        self._child = Child(
            self._workers, argv, math.inf, self._ended, gone, environment, theirs.fileno(), lends=self._lends
        )
        if self._ours is not ours:
            self._child.terminate()

    def _read(self, ours: socket.socket) -> None:
        try:
            data = ours.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._user.heard(data)
        else:
            self._stop()  # it ends, or is to

    def _stop(self) -> None:
        self._cancel()
        if self._ours:
            self._loop.remove_reader(self._ours)
            self._ours = None
        if self._child:
            self._child.terminate()

    def _cancel(self) -> None:
        if self._next:
            self._next.cancel()
            self._next = None

    def _ended(self, succeeded: bool, reason: str) -> None:
        if self._is_wanted and self._delay:
            self._user.lost(reason)

    def _gone(self, ends: tuple[socket.socket, ...]) -> None:
        if self._ours in ends and self._ours:
            self._loop.remove_reader(self._ours)
            self._ours = None
        for end in ends:
            end.close()
        self._child = None
        if not self._is_wanted:
            self._user.gone()
            return
        if self._loop.time() - self._started_at > STEADY:
            self._delay = SOONEST
        self._next = self._loop.call_later(self._delay, self._start)
        self._delay = min(max(SOONEST, self._delay * 2), LATEST)
