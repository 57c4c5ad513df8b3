"""The process that listens for browsers and Prometheus (`floatip.web`): started, restarted, and told what to do.

Its stdin is a socket to here. It gets its configuration there, a JSON object a line at each reload, and says which
addresses it cannot serve, all of them each time. It exits at the end of that connection, so it does not outlive the
daemon however that ends.
"""

import asyncio
import json
import math
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from floatip.core.events import Event, Failure
from floatip.host.child import Child, Running
from floatip.host.failures import Failures
from floatip.host.workers import Handle, Workers
from floatip.model import Listener
from floatip.text import printable

PART = "http"
SOONEST, LATEST = 1.0, 30.0
"""Seconds until a process that ended is started again; doubled each time."""
STEADY = 60.0
"""A process that ran for this long has started well."""
LONGEST_LINE, LONGEST_TEXT = 1 << 16, 1000


class Web:
    def __init__(self, report: Callable[[Event], None], control: Path, history: Path) -> None:
        """`control`: the path of the control socket; `history`: the directory of the file with the changes."""
        self._loop = asyncio.get_running_loop()
        self._failures = Failures(PART, report)
        self._paths = {"control": control, "history": history}
        self._workers = Workers()
        self._http: Listener | None = None
        self._child: Running | None = None
        self._ours: socket.socket | None = None
        self._heard = b""
        self._started_at = 0.0
        self._delay = SOONEST
        self._next: Handle | None = None

    def configure(self, http: Listener | None) -> None:
        """Also if nothing changed: the files that it names may have."""
        had_tls = bool(self._http and self._http.tls_certificate)
        self._http = http
        if not http:
            self._stop()
        elif self._ours and had_tls != bool(http.tls_certificate):
            self._delay = 0.0  # what TLS needs is loaded at the start
            self._stop()
        elif self._ours:
            self._tell()
        elif not self._child:
            self._start()

    def close(self) -> None:
        self._http = None
        self._stop()
        self._workers.close()

    def _start(self) -> None:
        self._cancel()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._ended(False, os.strerror(error.errno or 0).lower())
            self._gone(())
            return
        ours.setblocking(False)
        self._ours, self._heard = ours, b""
        self._started_at = self._loop.time()
        self._tell()
        self._loop.add_reader(ours, self._read, ours)
        # The modules that are here, and no others: not those of the directory in which the daemon was started.
        modules = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
        argv = (sys.executable, "-SsPB", "-m", "floatip.web")
        gone = partial(self._gone, (ours, theirs))
        environment = {"PYTHONPATH": modules}
        self._child = Child(self._workers, argv, math.inf, self._ended, gone, environment, theirs.fileno())

    def _tell(self) -> None:
        assert self._ours
        assert self._http
        settings = asdict(self._http) | self._paths
        try:
            self._ours.sendall(json.dumps(settings, default=str).encode() + b"\n")
        except OSError:  # it does not read: what it serves is not what the file says
            self._stop()

    def _read(self, ours: socket.socket) -> None:
        try:
            data = ours.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._heard = (self._heard + data).split(b"\n")
        if not data or len(self._heard) > LONGEST_LINE:
            self._loop.remove_reader(ours)  # it ends, or is to
            self._stop()
        elif lines:
            try:
                self._failures.replace([*map(_failure, json.loads(lines[-1]))])
            except (ValueError, TypeError, RecursionError):  # strangers speak to it: it may be anything by now
                self._stop()

    def _stop(self) -> None:
        self._cancel()
        if self._ours:
            self._loop.remove_reader(self._ours)
            self._ours = None
        if self._child:
            self._child.terminate()
        elif not self._http:
            self._failures.keep(())

    def _cancel(self) -> None:
        if self._next:
            self._next.cancel()
            self._next = None

    def _ended(self, succeeded: bool, reason: str) -> None:
        if self._http and self._delay:
            hint = "nothing else depends on it, and floatip starts it again; if it goes on to end, report this line"
            self._failures.replace([Failure(PART, f"the process that serves it ended: {reason}", hint)])

    def _gone(self, ends: tuple[socket.socket, ...]) -> None:
        if self._ours in ends and self._ours:
            self._loop.remove_reader(self._ours)
            self._ours = None
        for end in ends:
            end.close()
        self._child = None
        if not self._http:
            self._failures.keep(())
            return
        if self._loop.time() - self._started_at > STEADY:
            self._delay = SOONEST
        self._next = self._loop.call_later(self._delay, self._start)
        self._delay = min(max(SOONEST, self._delay * 2), LATEST)


def _failure(told: Any) -> Failure:
    what, reason, hint = told
    if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in (what, reason, hint)):
        raise ValueError
    return Failure(printable(what), printable(reason), printable(hint))
