"""A request and an answer, as handlers see them."""

from collections.abc import Mapping
from dataclasses import dataclass

TEXT, JSON = "text/plain; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """As it came, without the query: nothing is decoded, and only what is equal to a route is one."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case."""
    authority: str
    """The host, and perhaps the port, that the client means."""
    body: bytes
    client: str
    """Its address."""
    own: str
    """Our address, to which it connected."""
    may_read: bool
    """Whether reading needs no token: the listener is on the loopback, or the client showed a certificate."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    kind: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EventStream:
    """The answer goes on with events, those after the one with this id first; empty: from now on."""

    after: str


Answer = Response | EventStream


class Refused(Exception):
    def __init__(self, status: int, what: str, hint: str = "", **headers: str) -> None:
        """Of the headers' names, "_" is "-"."""
        super().__init__(what)
        text = f"{what}\n" + (f"hint: {hint}\n" if hint else "")
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = Response(status, text.encode(), headers=tuple(names.items()))
