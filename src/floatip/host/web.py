"""The process that listens for browsers and Prometheus (`floatip.web`), and what it is told.

It gets its configuration, a JSON object a line at each reload, and says which addresses it cannot serve, all of them
each time.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floatip.core.events import Event, Failure
from floatip.host.failures import Failures
from floatip.host.helper_process import HelperProcess
from floatip.model import Listener
from floatip.text import printable

PART = "http"
LONGEST_LINE, LONGEST_TEXT = 1 << 16, 1000


class Web:
    def __init__(self, report: Callable[[Event], None], control: Path, history: Path) -> None:
        """`control`: the path of the control socket; `history`: the directory of the file with the changes."""
        self._failures = Failures(PART, report)
        self._paths = {"control": control, "history": history}
        self._http: Listener | None = None
        self._process = HelperProcess("floatip.web", self)
        self._heard = b""

    @property
    def is_gone(self) -> bool:
        """Nothing is left of the process."""
        return self._process.is_gone

    def configure(self, http: Listener | None) -> None:
        """Also if nothing changed: the files that it names may have."""
        had_tls = bool(self._http and self._http.tls_certificate)
        self._http = http
        if not http:
            self._process.unwant()
        elif not self._process.is_connected:
            self._process.want()
        elif had_tls != bool(http.tls_certificate):
            self._process.restart()  # what TLS needs is loaded at the start
        else:
            self.began()

    def close(self) -> None:
        self._http = None
        self._process.close()

    def began(self) -> None:
        assert self._http
        self._heard = b""
        settings = asdict(self._http) | self._paths
        if not self._process.send(json.dumps(settings, default=str).encode() + b"\n"):
            self._process.end()  # it does not read: what it serves is not what the file says

    def heard(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\n")
        if len(self._heard) > LONGEST_LINE:
            self._process.end()
        elif lines:
            try:
                self._failures.replace([*map(_failure, json.loads(lines[-1]))])
            except (ValueError, TypeError, RecursionError):  # strangers speak to it: it may be anything by now
                self._process.end()

    def lost(self, reason: str) -> None:
        hint = "nothing else depends on it, and floatip starts it again; if it goes on to end, report this line"
        self._failures.replace([Failure(PART, f"the process that serves it ended: {reason}", hint)])

    def gone(self) -> None:
        self._failures.keep(())


def _failure(told: Any) -> Failure:
    what, reason, hint = told
    if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in (what, reason, hint)):
        raise ValueError
    return Failure(printable(what), printable(reason), printable(hint))
