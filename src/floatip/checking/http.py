"""One HTTP/1.1 request over a new connection, and whether the answer is as wanted.

A redirect is an answer, and no proxy of the environment counts. Of the body no more than 64 KiB are read, as they come
over the wire: nothing is unpacked.
"""

import re
import ssl
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from floatip.checking.look import Look, Verdict

if TYPE_CHECKING:
    from floatip.model import Http

MOST_OF_BODY = 1 << 16
LONGEST_SHOWN = 60
PHASES = {
    "connection.connect_tcp.started": ": no connection",
    "connection.start_tls.started": ": connected, and the TLS handshake does not end",
    "http11.send_request_headers.started": ": connected, and no answer",
    "http11.receive_response_headers.started": ": connected, and no answer",
    "http11.receive_response_body.started": ": the answer does not end",
}
"""By the events of httpcore's extension `trace`."""


class Check(Look):
    def __init__(self, kind: "Http") -> None:
        """Raises OSError and ValueError where the CA cannot be loaded."""
        self._kind = kind
        self._url = httpx.URL(kind.url)
        self._headers = [("User-Agent", "floatip"), ("Accept-Encoding", "identity")]
        self._headers += [(name, value) for name, value in kind.headers]
        self._extensions: dict[str, Any] = {}
        if address := kind.address or {"localhost": "127.0.0.1"}.get(self._url.host, ""):
            if "host" not in (name.lower() for name, _ in self._headers):
                self._headers.append(("Host", self._url.netloc.decode()))
            self._extensions["sni_hostname"] = self._url.host
            self._url = self._url.copy_with(host=address)
        verify = _context(kind) if self._url.scheme == "https" else False
        # Each run is a client of its own to the server: one that only keeps its old connections has failed.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(verify=verify, trust_env=False, timeout=None, limits=limits)
        self._client.headers.clear()
        self._phase = ""

    async def look(self) -> Verdict:
        async def trace(event: str, _: Any) -> None:
            self._phase = PHASES.get(event, self._phase)

        self._phase = ""
        request = self._client.build_request(
            self._kind.method, self._url, headers=self._headers, extensions={**self._extensions, "trace": trace}
        )
        response = await self._client.send(request, stream=True)
        try:
            return await self._judge(response)
        finally:
            await response.aclose()

    def late(self) -> str:
        return self._phase

    async def close(self) -> None:
        await self._client.aclose()

    async def _judge(self, response: httpx.Response) -> Verdict:
        said = _status(response.status_code)
        if not any(low <= response.status_code <= high for low, high in self._kind.status):
            return False, said
        for name, pattern in self._kind.header:
            value = response.headers.get(name)
            if value is None:
                return False, f"{said}, without the header {name}"
            if not re.search(pattern, value):
                return False, f"{said}, and the header {name} is {value[:LONGEST_SHOWN]!r}"
        days = ""
        if self._kind.certificate_days:
            passed, days = self._judge_certificate(response)
            if not passed:
                return False, days
            days = f"; {days}"
        if self._kind.body and not re.search(self._kind.body, body := await _body(response)):
            begins = body.strip()[:LONGEST_SHOWN]
            return False, f"{said}, and {self._kind.body!r} is not in the body, which begins with {begins!r}"
        return True, f"{said}{days}"

    def _judge_certificate(self, response: httpx.Response) -> Verdict:
        from cryptography import x509  # noqa: PLC0415

        connection = response.extensions["network_stream"].get_extra_info("ssl_object")
        if connection is None:
            return False, "there is no certificate: the answer came without TLS"
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
        # The time zone is told by newer versions only.
        end = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=UTC)
        left = end - datetime.now(UTC)
        if left.total_seconds() < 0:
            return False, f"the certificate is not valid since {end:%Y-%m-%d}"
        return left.days >= self._kind.certificate_days, f"the certificate is valid for {left.days} days more"


def _context(kind: "Http") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=kind.ca)
    if not kind.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _body(response: httpx.Response) -> str:
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) >= MOST_OF_BODY:
            break
    return body[:MOST_OF_BODY].decode(errors="replace")


def _status(code: int) -> str:
    try:
        return f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP {code}"
