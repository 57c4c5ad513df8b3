"""An interface that must be up and running (netdevice(7)): told by rtnetlink at each change of any interface.

The flags are asked for after each message, and by time: the queue of messages can overflow.
"""

import array
import asyncio
import errno
import fcntl
import socket
import struct

from floatip.host.checks.kind import Means, Report, Runner, Verdict
from floatip.host.errors import in_words
from floatip.host.workers import Handle
from floatip.model import Interface

LOOK_INTERVAL = 5.0
RTMGRP_LINK = 1
SIOCGIFFLAGS = 0x8913
IFF_UP, IFF_RUNNING = 0x1, 0x40
_REQUEST = struct.Struct("16sH22x")
"""struct ifreq: the name and the flags."""


class InterfaceRunner(Runner):
    def __init__(self, kind: Interface, report: Report, means: Means) -> None:
        self._name = kind.name
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._told: Verdict | None = None
        self._timer: Handle | None = None
        self._asking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._monitor: socket.socket | None = None
        try:
            self._listen()
        except OSError:
            self._hear_no_more()  # then by time alone
        self._look()

    def run(self, run: int, timeout: float) -> None:
        self._report(run, *self._verdict())

    def tell(self) -> None:
        self._told = None
        self._look()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._hear_no_more()
        self._asking.close()

    def _listen(self) -> None:
        self._monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._monitor.bind((0, RTMGRP_LINK))
        self._loop.add_reader(self._monitor, self._changed)

    def _hear_no_more(self) -> None:
        if self._monitor:
            self._loop.remove_reader(self._monitor)
            self._monitor.close()
            self._monitor = None

    def _changed(self) -> None:
        assert self._monitor
        try:
            while self._monitor.recv(1):  # the rest of each message is dropped
                pass
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                self._hear_no_more()
        self._look()

    def _look(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(LOOK_INTERVAL, self._look)
        verdict = self._verdict()
        if verdict != self._told:
            self._told = verdict
            self._report(0, *verdict)

    def _verdict(self) -> Verdict:
        request = array.array("b", _REQUEST.pack(self._name.encode(), 0))
        try:
            fcntl.ioctl(self._asking, SIOCGIFFLAGS, request)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False, f"there is no interface {self._name}"
            return False, f"cannot ask for the flags of {self._name}: {in_words(error.errno)}"
        _, flags = _REQUEST.unpack(request)
        if not flags & IFF_UP:
            return False, f"{self._name} is down"
        if not flags & IFF_RUNNING:
            return False, f"{self._name} is up and has no link"
        return True, f"{self._name} is up"
