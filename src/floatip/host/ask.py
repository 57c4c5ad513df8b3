"""The client's side of the control socket: one question, one answer, blocking.

It imports little, because `floatip notify` is run at every change of keepalived's state.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from floatip.commands import Refusal
from floatip.core.refusals import Why

Record = dict[str, object]


class ControlError(Refusal):
    status = 3
    code = Why.DAEMON_SILENT


class NobodyAnswers(ControlError):
    """No daemon is there, perhaps not yet or no more."""

    code = Why.NO_DAEMON


class NotAllowed(ControlError):
    """One may be there, and this user may not ask it."""

    status = 4
    code = Why.NOT_ALLOWED


class Declined(Refusal):
    """The daemon understood, and says why it does not do it."""

    def __init__(self, answer: Record, what: str = "") -> None:
        code = answer.get("code")  # of another version, it may have none or a new one
        known = next((why for why in Why if why == code), Why.DAEMON_REFUSES)
        super().__init__(f"{what}{answer['refused']}", str(answer.get("hint", "")), known)


def socket_path() -> Path:
    return Path(os.environ.get("RUNTIME_DIRECTORY", "/run/floatip").split(":")[0]) / "floatip.sock"


def state_directory() -> Path:
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/floatip").split(":")[0])


def encode(record: Record | str) -> bytes:
    """A line. A text is one already, without its end."""
    return (record if isinstance(record, str) else json.dumps(record)).encode() + b"\n"


def ask(path: Path, request: Record, timeout: float = 3.0) -> Record:
    """One question, one answer; blocking, for the command line."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            # Where many connect at once, the kernel lets a blocking socket wait for its turn, and only such a socket.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
            client.connect(str(path))
            client.settimeout(timeout)
            with client.makefile("rb") as lines:
                with suppress(ConnectionError):  # who may not ask is told so before he has
                    client.sendall(encode(request))
                line = lines.readline()
        if not line.endswith(b"\n"):  # it was killed meanwhile
            raise ConnectionResetError
        answer = _answer(line)
    except (FileNotFoundError, ConnectionError, BlockingIOError):
        raise NobodyAnswers(f"no floatip daemon answers at {path}", "systemctl status floatip") from None
    except PermissionError:
        hint = "permission denied: sudo, or join its group; for keepalived's scripts: [keepalived] script_user"
        raise NotAllowed(f"not allowed to use {path}", hint) from None
    except TimeoutError:
        raise ControlError(f"the floatip daemon at {path} does not answer", "systemctl status floatip") from None
    except (OSError, ValueError) as error:
        raise ControlError(f"no answer from {path}: {error}", "systemctl status floatip") from None
    if "error" in answer:
        raise _refusal(answer)
    return answer


def changes(path: Path, idle: float) -> Iterator[Record | None]:
    """What the daemon had to tell so far, and then each change as it happens. Raises `NobodyAnswers` at its end.

    None: for `idle` seconds there was none, or the daemon hangs.
    """
    gone = NobodyAnswers(f"no floatip daemon answers at {path}", "systemctl status floatip")
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.settimeout(idle)
            client.sendall(encode({"cmd": "watch"}))
            rest = b""
            while True:
                try:
                    data = client.recv(65536)
                except TimeoutError:
                    yield None
                    continue
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    answer = _answer(line)
                    if "error" in answer:
                        raise _refusal(answer)
                    yield answer
    except (OSError, ValueError):
        raise gone from None
    raise gone


def _answer(line: bytes) -> Record:
    """Raises ValueError."""
    try:
        answer = json.loads(line)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(answer, dict):
        raise ValueError("it is no object")
    return answer


def _refusal(answer: Record) -> ControlError:
    what, hint = str(answer["error"]), str(answer.get("hint") or "")
    return NotAllowed(what, hint) if answer.get("forbidden") else ControlError(what, hint, Why.DAEMON_REFUSES)


def _timeval(seconds: float) -> bytes:
    """struct timeval."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
