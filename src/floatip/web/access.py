"""Who may ask for what: the host that is meant, the token, and that no other site speaks through a browser.

A name that others chose can lead to our address (DNS rebinding), so a request must mean this machine by name. A page of
another site can send a form here, so a POST must say that it does not come from there: `Origin` or `Sec-Fetch-Site`,
unless it has the token where no other page can put it.
"""

import asyncio
import binascii
import re
import socket

from floatip.web.exchange import Refused, Request
from floatip.web.settings import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "ip6-localhost"})
HOST = re.compile(r"(?:\[([^]]+)\]|([^]\[:@]+))(?::[0-9]*)?")
WRONG_AT_ONCE = 10
"""Wrong tokens of an address; then one in `WRONG_EVERY` seconds."""
WRONG_EVERY = 6.0
MOST_ADDRESSES = 1024
ASK = 'Basic realm="floatip: any name, and the token as password", charset="UTF-8"'


class Wrong:
    """How often which address came with a wrong token: a bucket for each, which empties."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._full_until: dict[str, float] = {}
        """When the bucket of an address will be empty."""

    def wait(self, client: str) -> float:
        """Seconds until it may try again."""
        full = self._full_until.get(_network(client), 0.0) - self._loop.time()
        return max(0.0, full - (WRONG_AT_ONCE - 1) * WRONG_EVERY)

    def note(self, client: str) -> None:
        now, network = self._loop.time(), _network(client)
        until = max(now, self._full_until.pop(network, 0.0)) + WRONG_EVERY
        if len(self._full_until) >= MOST_ADDRESSES:
            del self._full_until[next(iter(self._full_until))]
        self._full_until[network] = until


class Access:
    def __init__(self, settings: Settings, token: bytes, wrong: Wrong) -> None:
        """`token`: empty: there is none."""
        self._hosts = LOOPBACK | settings.hosts
        self._token = token
        self._wrong = wrong

    @property
    def has_token(self) -> bool:
        """Whether anybody may give orders."""
        return bool(self._token)

    def host(self, request: Request) -> None:
        name = host_of(request.authority)
        if name not in self._hosts and name != request.own:
            hint = (
                "ask for localhost, or add the name to hosts in [http] of floatip.toml, then: systemctl reload floatip"
            )
            raise Refused(421, "this is not the host that the request means", hint)

    def read(self, request: Request) -> None:
        if not request.may_read:
            self._with_token(request, *_header_token(request))

    def order(self, request: Request) -> None:
        # A proxy in front may ask for a password of its own and pass it on: what the form says goes before it.
        token = _form_token(request)
        kind, token = ("form", token) if token else _header_token(request)
        _same_site(request, is_needed=kind != "bearer")
        if not self._token:
            hint = "make one, and name its file as token in [http] of floatip.toml; or use the command of this name"
            raise Refused(403, "orders need the token, and none is configured", hint)
        self._with_token(request, kind, token)

    def _with_token(self, request: Request, kind: str, token: bytes) -> None:
        if wait := self._wrong.wait(request.client):
            hint = f"try again in {wait:.0f} s"
            raise Refused(429, "too many wrong tokens from this address", hint, Retry_After=f"{wait + 1:.0f}")
        # Imported here: without a token the process needs no libcrypto.
        from hmac import compare_digest  # noqa: PLC0415

        if kind and self._token and compare_digest(token, self._token):
            return
        if kind:
            self._wrong.note(request.client)
        what = "the token is wrong" if kind else "the token is missing"
        hint = "send it as Authorization: Bearer TOKEN, or as the password of any name"
        # Where a script sent the token, the browser must not ask for a password.
        ask = 'Bearer realm="floatip"' if kind in ("bearer", "form") else ASK
        raise Refused(401, what, hint, WWW_Authenticate=ask)


def host_of(authority: str) -> str:
    """Its host in lower case, without port, brackets and the last dot; empty: it is no host and port."""
    if found := HOST.fullmatch(authority.strip().lower()):
        return found[1] or found[2].rstrip(".")
    return ""


def _header_token(request: Request) -> tuple[str, bytes]:
    """How it is given, and which; ("", b""): not at all."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return "bearer", given.strip().encode("latin-1")
        case "basic":
            try:
                return "basic", binascii.a2b_base64(given.strip(), strict_mode=True).partition(b":")[2]
            except ValueError:
                return "basic", b""
    return ("other", b"") if scheme else ("", b"")


def _form_token(request: Request) -> bytes:
    return request.form.get("token", "").strip().encode(errors="replace")


def _same_site(request: Request, *, is_needed: bool) -> None:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin") or (origin is not None and not _is_ours(origin, request.authority)):
        hint = "behind a proxy, pass on the Host that the browser sent"
        raise Refused(403, "the request comes from a page of another site", hint)
    if is_needed and site is None and origin is None:
        hint = "send the token as Authorization: Bearer TOKEN, or the header Origin"
        raise Refused(403, "the request does not say which page it comes from", hint)


def _is_ours(origin: str, authority: str) -> bool:
    scheme, separator, rest = origin.lower().partition("://")
    return bool(separator) and scheme in ("http", "https") and _plain(rest, scheme) == _plain(authority.lower(), scheme)


def _plain(authority: str, scheme: str) -> str:
    return authority.removesuffix(":443" if scheme == "https" else ":80")


def _network(client: str) -> str:
    """An IPv6 client has a whole /64 of addresses."""
    if ":" not in client:
        return client
    return socket.inet_pton(socket.AF_INET6, client.partition("%")[0])[:8].hex()
