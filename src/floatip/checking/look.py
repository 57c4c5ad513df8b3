"""What each kind of check gives to `run.py`, and the words for what went wrong."""

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

Verdict = tuple[bool, str]
Say = Callable[[bool, str], None]


class Look(ABC):
    """Made from the fields of the kind in `floatip.model`, as JSON has them."""

    @abstractmethod
    async def look(self) -> Verdict:
        """Cancelled at the timeout. Raises whatever goes wrong."""

    def late(self) -> str:
        """How far the look was that is cancelled; may be empty."""
        return ""

    async def close(self) -> None:
        return None


class Watch(ABC):
    """A check that answers unasked."""

    @abstractmethod
    async def watch(self, say: Say) -> None:
        """Says each change, until it is cancelled. Raises whatever goes wrong, and is called again."""


class Failed(Exception):
    """In our own words."""


class Impossible(Look):
    """A check that cannot be run, and why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def look(self) -> Verdict:
        return False, self._reason


def why(error: BaseException) -> str:
    """In words: libraries wrap what the kernel or OpenSSL has said, and say less."""
    if isinstance(error, Failed):
        return str(error)
    for one in _causes(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {one.verify_message}"
        if isinstance(one, ssl.SSLError):
            return f"TLS: {str(one.reason or one).replace('_', ' ').lower()}"
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno).lower()
    text = str(error) or type(error).__name__
    return f"{text[0].lower()}{text[1:]}" if text[1:2].islower() else text


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            waiting += [one.__context__, one.__cause__, *getattr(one, "exceptions", ())]
