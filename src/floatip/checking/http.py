"""One HTTP/1.1 request over a new connection, and whether the answer is as wanted.

A redirect is an answer, and no proxy of the environment counts. Of the body no more than 64 KiB are read, as they come
over the wire: nothing is unpacked. With h11 and asyncio alone: the name that TLS verifies is not the address that is
connected to, and what the kernel or OpenSSL says of a failure reaches the status.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import h11

from floatip.checking.look import Failed, Look, Verdict

if TYPE_CHECKING:
    from floatip.model import Http

MOST_OF_BODY, LARGEST_HEAD, CHUNK = 1 << 16, 1 << 16, 1 << 16
LONGEST_SHOWN = 60


class Check(Look):
    def __init__(self, kind: "Http") -> None:
        """Raises OSError where the CA cannot be loaded, and ImportError."""
        self._kind = kind
        self._url = urlsplit(kind.url)
        self._context = _context(kind) if self._url.scheme == "https" else None
        if kind.certificate_days:
            from cryptography import x509  # noqa: F401, PLC0415
        self._phase = ""

    async def look(self) -> Verdict:
        async with self._connected() as (reader, writer):
            self._phase = ": connected, and no answer"
            answer = _Answer(reader)
            writer.write(answer.ask(self._kind, self._url))
            response = await answer.head()
            self._phase = ": the answer does not end"
            return await self._judge(response, answer, writer)

    def late(self) -> str:
        return self._phase

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        name = self._url.hostname or ""
        address = self._kind.address or ("127.0.0.1" if name == "localhost" else name)
        self._phase = ": no connection"
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connecting:
            connecting.setblocking(False)
            port = self._url.port or (443 if self._context else 80)
            await asyncio.get_running_loop().sock_connect(connecting, (address, port))
            self._phase = ": connected, and the TLS handshake does not end" if self._context else ""
            reader, writer = await asyncio.open_connection(
                sock=connecting, ssl=self._context, server_hostname=name if self._context else None
            )
            try:
                yield reader, writer
            finally:
                writer.close()

    async def _judge(self, response: h11.Response, answer: "_Answer", writer: asyncio.StreamWriter) -> Verdict:
        said = _status(response.status_code)
        if not any(low <= response.status_code <= high for low, high in self._kind.status):
            return False, said
        headers: dict[str, str] = {}
        for header, value in response.headers:
            headers.setdefault(header.decode("latin-1"), value.decode("latin-1"))
        for name, pattern in self._kind.header:
            found = headers.get(name.lower())
            if found is None:
                return False, f"{said}, without the header {name}"
            if not re.search(pattern, found):
                return False, f"{said}, and the header {name} is {found[:LONGEST_SHOWN]!r}"
        days = ""
        if self._kind.certificate_days:
            passed, days = _judge_certificate(writer, self._kind.certificate_days)
            if not passed:
                return False, days
            days = f"; {days}"
        if self._kind.body and not re.search(self._kind.body, body := await answer.body()):
            begins = body.strip()[:LONGEST_SHOWN]
            return False, f"{said}, and {self._kind.body!r} is not in the body, which begins with {begins!r}"
        return True, f"{said}{days}"


class _Answer:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)

    def ask(self, kind: "Http", url: SplitResult) -> bytes:
        named = {name.lower() for name, _ in kind.headers}
        usual = {"Host": url.netloc, "User-Agent": "floatip", "Accept-Encoding": "identity", "Connection": "close"}
        headers = [(name, value) for name, value in usual.items() if name.lower() not in named]
        target = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
        headers += [(name, value) for name, value in kind.headers]
        request = h11.Request(method=kind.method, target=target, headers=headers)
        return (self._connection.send(request) or b"") + (self._connection.send(h11.EndOfMessage()) or b"")

    async def head(self) -> h11.Response:
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise Failed("the connection was closed without an answer")
        return event

    async def body(self) -> str:
        body = b""
        while len(body) < MOST_OF_BODY and isinstance(event := await self._next(), h11.Data):
            body += event.data
        return body[:MOST_OF_BODY].decode(errors="replace")

    async def _next(self) -> object:
        try:
            while (event := self._connection.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(CHUNK)
                if not data and self._connection.their_state is h11.SEND_RESPONSE:
                    raise Failed("the connection was closed without an answer")
                self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Failed(f"the answer is not HTTP: {error}") from None
        return event


def _judge_certificate(writer: asyncio.StreamWriter, days: int) -> Verdict:
    from cryptography import x509  # noqa: PLC0415

    certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    # Only newer versions tell the time zone.
    end = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=UTC)
    left = end - datetime.now(UTC)
    if left.total_seconds() < 0:
        return False, f"the certificate is not valid since {end:%Y-%m-%d}"
    return left.days >= days, f"the certificate is valid for {left.days} days more"


def _context(kind: "Http") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=kind.ca)
    if not kind.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _status(code: int) -> str:
    try:
        return f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP {code}"
