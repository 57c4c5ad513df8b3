"""A request and an answer, as handlers see them."""

from collections.abc import Mapping
from dataclasses import dataclass

TEXT, JSON, FORM = "text/plain; charset=utf-8", "application/json", "application/x-www-form-urlencoded"


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

    @property
    def form(self) -> dict[str, str]:
        """What the body says, as a form does; empty: it is none. Raises `Refused`."""
        if not self.headers.get("content-type", "").lower().startswith(FORM):
            return {}
        from urllib.parse import parse_qsl  # noqa: PLC0415

        try:
            # The first of each name counts, wherever it is looked at.
            return dict(reversed(parse_qsl(self.body.decode(), max_num_fields=32, errors="strict")))
        except ValueError:
            raise Refused(400, "the body is no form") from None


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
        # A body of JSON may name things that have no UTF-8.
        self.response = Response(status, text.encode(errors="replace"), headers=tuple(names.items()))
