"""Linode's API v4, through the official linode-api4: what `floatip share` and `floatip doctor` ask and write.

The package is loaded with the first `Account`; see `LIBRARY` for where Debian's users put it. What the API says is
checked before it is used. Each request has a time limit, which the package does not have, and each refusal says in
words what to do.
"""

import logging
import math
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar
from urllib.parse import urlsplit

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.linode.accounts import Shares
from floatip.linode.token import NEW, SCOPES, Token
from floatip.text import printable

URL = "https://api.linode.com/v4"
VARIABLE = "FLOATIP_LINODE_API"
"""For tests: another API; without TLS only on this machine."""
LIBRARY = "/usr/local/lib/floatip"
"""Where the package may be put by `pip install --target`, for a floatip that came as a Debian package."""
INSTALL = (
    f"apt install python3-pip && pip install --target {LIBRARY} linode-api4; "
    "where floatip came by pip: pip install 'floatip[linode]'"
)
CONNECT, READ = 10.0, 30.0
"""Seconds, of each request."""
LARGEST = 16 << 20
"""Octets of an answer."""
PAGE = 500
"""The most that the API gives at once."""
MOST_PAGES = 1000
PATIENCE = 60.0
"""Seconds for which a reading is tried again."""
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 30.0
CUT_WAIT = 5.0
LONGEST_REASON = 300
BUSY = "busy"
"""In the reason of a 400: the Linode has another job, and the same call works later."""
MAY_PASS = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")
Tell = Callable[[str], None]


class ApiError(Refusal):
    """The API refuses, or cannot be asked."""

    code = Why.LINODE_API


class Unclear(ApiError):
    """What the API says is not understood."""


class Again(ApiError):
    """The same call may succeed later."""

    def __init__(self, what: str, hint: str, wait: float) -> None:
        super().__init__(what, hint)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Linode:
    id: int
    label: str
    region: str
    ipv4: tuple[IPv4Address, ...]
    ipv6: IPv6Address | None
    """Of SLAAC."""


@dataclass(frozen=True, slots=True)
class Held:
    """The IPv4 addresses of one Linode."""

    own: tuple[IPv4Address, ...]
    shared: tuple[IPv4Address, ...]
    """To it, by others."""
    nat_1_1: tuple[IPv4Address, ...]
    """Of its own, those that are translated to an address in a VPC: they cannot be shared."""


@dataclass(frozen=True, slots=True)
class Range:
    network: IPv6Network
    region: str
    is_shared: bool
    linodes: tuple[int, ...]
    """The owner, and those that share it."""


def shares(linode_id: int, token: Token, tell: Tell = lambda line: None) -> Shares:
    """What is shared to a Linode. Raises `ApiError`."""
    return Account(token, tell).shares(linode_id)


class Account:
    def __init__(self, token: Token, tell: Tell = lambda line: None, patience: float = PATIENCE) -> None:
        """`tell`: hears what is waited for. Raises `ApiError`: the package is missing, or the URL is not safe."""
        self._token = token
        self._tell = tell
        self._patience = patience
        self._client = _client(token, url())

    def linodes(self) -> tuple[Linode, ...]:
        path = "/linode/instances"
        found = self._all(path)
        return self._understood(path, lambda: tuple(map(_linode, found)))

    def linode(self, linode_id: int) -> Linode:
        path = f"/linode/instances/{linode_id}"
        data = self._read(path, partial(self._client.get, path))
        return self._understood(path, partial(_linode, data))

    def held(self, linode_id: int) -> Held:
        path = f"/linode/instances/{linode_id}/ips"
        data = self._read(path, partial(self._client.get, path))
        return self._understood(path, partial(_held, data))

    def ranges(self, region: str) -> tuple[Range, ...]:
        """The ranges of the account in one region. Only the answer about one says who shares it."""
        path = "/networking/ipv6/ranges"
        found = self._all(path)
        names = self._understood(path, lambda: [IPv6Address(one["range"]) for one in found if one["region"] == region])
        return tuple(self._range(f"{path}/{name}") for name in names)

    def _range(self, path: str) -> Range:
        data = self._read(path, partial(self._client.get, path))
        return self._understood(path, partial(_range, data))

    def shares(self, linode_id: int) -> Shares:
        return shares_of(linode_id, self.held(linode_id), self.ranges(self.linode(linode_id).region))

    def share(self, linode_id: int, ips: Iterable[IPv4Address | IPv6Network]) -> None:
        """The whole list of what is shared to a Linode: what is not in it is taken away. Raises `Again`."""
        texts = [str(one.network_address if isinstance(one, IPv6Network) else one) for one in ips]
        self._once("POST /networking/ips/share", lambda: self._client.networking.ip_addresses_share(texts, linode_id))

    def _all(self, path: str) -> list[Any]:
        """Every page. An entry that is missed would be taken for one that is not shared."""
        found: list[Any] = []
        page, pages, results = 1, 1, -1
        while page <= pages:
            data = self._read(path, partial(self._client.get, f"{path}?page={page}&page_size={PAGE}"))
            items, pages, counted = self._understood(path, partial(_page, data))
            if page > 1 and counted != results:
                raise Unclear(f"the list of GET {path} changed while it was read", AFTER)
            found += items
            page, results = page + 1, counted
        if len(found) != results:
            raise Unclear(f"GET {path} gave {len(found)} of {results} entries", LATER)
        return found

    def _read(self, what: str, call: Callable[[], T]) -> T:
        end = time.monotonic() + self._patience
        while True:
            try:
                return self._once(f"GET {what}", call)
            except Again as error:
                if time.monotonic() + error.wait > end:
                    raise
                self._tell(f"{error.what}; trying again in {error.wait:g} s")
                time.sleep(error.wait)

    def _once(self, request: str, call: Callable[[], T]) -> T:
        """Raises `ApiError`."""
        import requests  # noqa: PLC0415
        from linode_api4.errors import ApiError as Refused  # noqa: PLC0415
        from linode_api4.errors import UnexpectedResponseError  # noqa: PLC0415

        try:
            return call()
        except Refused as error:
            refusal = _refused(request, error, self._token)
        except requests.exceptions.JSONDecodeError as error:
            refusal = Unclear(f"the answer to {request} is no JSON: {self._shown(error)}", LATER)
        except requests.exceptions.SSLError as error:
            what = f"{_where()} shows a certificate that this machine does not trust: {_verified(error)}"
            refusal = ApiError(
                what, "check the clock (timedatectl) and the package ca-certificates; or a proxy is between"
            )
        except requests.exceptions.ReadTimeout:
            refusal = Again(f"{_where()} does not answer {request} within {READ:g} s", AFTER, 5.0)
        except (requests.exceptions.RequestException, OSError) as error:
            what = f"{_where()} cannot be asked ({request}): {self._token.hidden(_cause(error))}"
            hint = f"see what is in the way: curl -sSI {url()}/regions; a proxy is named by $HTTPS_PROXY"
            refusal = Again(what, AFTER, CUT_WAIT) if _was_cut(error) else ApiError(what, hint)
        except (UnexpectedResponseError, RuntimeError, *MISUNDERSTOOD) as error:
            refusal = Unclear(f"the answer to {request} is not understood: {self._shown(error)}", LATER)
        raise refusal

    def _understood(self, path: str, read: Callable[[], T]) -> T:
        """Raises `Unclear`."""
        try:
            return read()
        except MISUNDERSTOOD as error:
            what = f"missing: {error}" if isinstance(error, KeyError) else str(error)
        raise Unclear(f"the answer to GET {path} is not understood: {self._token.hidden(_line(what))}", LATER)

    def _shown(self, error: Exception) -> str:
        return self._token.hidden(_line(str(error)))


def _cause(error: BaseException) -> str:
    """What the kernel said, if it did; else the innermost words."""
    found = [error]
    while len(found) < 10 and (inner := _inner(found[-1])):
        found.append(inner)
    said = [one.strerror for one in found if isinstance(one, OSError) and isinstance(one.strerror, str)]
    return _line(said[-1].lower() if said else str(found[-1]))


def _verified(error: BaseException) -> str:
    """What OpenSSL says of it."""
    found: BaseException | None = error
    while found:
        if isinstance(found, ssl.SSLCertVerificationError):
            return _line(found.verify_message)
        found = _inner(found)
    return _cause(error)


def _inner(error: BaseException) -> BaseException | None:
    first = error.args[0] if error.args else None
    for one in (getattr(error, "reason", None), first, error.__cause__, error.__context__):
        if isinstance(one, BaseException):
            return one
    return None


def _was_cut(error: BaseException) -> bool:
    """The connection was there, and was closed before the answer was."""
    from urllib3.exceptions import ProtocolError  # noqa: PLC0415

    return bool(error.args) and isinstance(error.args[0], ProtocolError)


MISUNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
AFTER = "run the same command again: it reads first, and writes only what is missing"
LATER = "run the same command again; if it stays so, look at https://status.linode.com, or for a newer linode-api4"


def _line(text: str) -> str:
    return printable(" ".join(text.split()))[:LONGEST_REASON]


# The client


def url() -> str:
    """Raises `ApiError`: the token is sent in clear text only on this machine."""
    given = os.environ.get(VARIABLE)
    if not given:
        return URL
    parts = urlsplit(given)
    try:
        is_safe = bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback)
        )
    except ValueError:
        is_safe = False
    if not is_safe or parts.username or parts.query or parts.fragment:
        what = f"${VARIABLE} is {_line(given)!r}, and a token is sent only by https"
        raise ApiError(what, f"unset it, or write {URL}")
    return given.rstrip("/")


def _where() -> str:
    return f"Linode's API at {urlsplit(url()).netloc}"


def _client(token: Token, base: str) -> Any:
    if LIBRARY not in sys.path and os.path.isdir(LIBRARY):
        sys.path.append(LIBRARY)
    try:
        import linode_api4  # noqa: PLC0415
        import requests  # noqa: PLC0415
    except ImportError as error:
        what = f"the Python package linode-api4 is missing, which asks Linode's API ({error})"
        raise ApiError(what, INSTALL) from None
    for name in ("linode_api4", "urllib3"):  # they would write what the API says to stderr
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    # Tried again here, where it is said.
    client = linode_api4.LinodeClient(token.value, base_url=base, user_agent="floatip", page_size=PAGE, retry=False)
    session = client.session
    session.auth = lambda request: request  # a ~/.netrc would replace the token
    session.max_redirects = 0
    session.trust_env = urlsplit(base).scheme == "https"  # no proxy stands between this machine and itself
    bounded = _bounded(requests.adapters.HTTPAdapter)
    for prefix in ("https://", "http://"):
        session.mount(prefix, bounded())
    return client


def _bounded(adapter: Any) -> Any:
    """An adapter with limits of time and size."""
    from requests.exceptions import ContentDecodingError  # noqa: PLC0415

    class Bounded(adapter):  # type: ignore[misc]
        def send(self, request: Any, **options: Any) -> Any:
            response = super().send(request, **options | {"timeout": (CONNECT, READ), "stream": True})
            body = b""
            for part in response.iter_content(1 << 16):
                body += part
                if len(body) > LARGEST:
                    response.close()
                    raise ContentDecodingError(f"the answer is larger than {LARGEST >> 20} MiB")
            response._content = body
            return response

    return Bounded


# Refusals in words


def _refused(request: str, error: Any, token: Token) -> ApiError:
    reasons = _reasons(error)
    said = token.hidden(_line("; ".join(reasons)) or "without a reason")
    status = error.status
    of = f"({request}: HTTP {status}, {said})"
    wait = _wait(error)
    if status == 400 and BUSY in said.lower():
        return Again(f"the Linode is busy with another job {of}", AFTER, wait or 5.0)
    if status == 429:
        return Again(f"too many requests for this token {of}", AFTER, wait or 15.0)
    if status in MAY_PASS:
        return Again(f"Linode's API has trouble {of}", f"{AFTER}; see also https://status.linode.com", wait or 5.0)
    match status:
        case 401:
            hint = f"it is from {token.source}; {NEW}"
            return ApiError(f"the API refuses the token {of}", hint)
        case 403:
            hint = f"ask the owner of the account for read and write access to these Linodes; the scopes are {SCOPES}"
            return ApiError(f"the user of the token may not do this {of}", hint)
        case 404:
            hint = "compare its number and its account with https://cloud.linode.com/linodes"
            return ApiError(f"it does not exist in this token's account {of}", hint)
        case 405:
            return ApiError(
                f"this version of the API does not have the call {of}", f"unset ${VARIABLE}, or update linode-api4"
            )
        case 400:
            hint = (
                "an address is shared only within its region, from the Linode that has it to others; "
                "an address with 1:1 NAT to a VPC is not"
            )
            return ApiError(f"the API refuses the request {of}", hint)
    return ApiError(f"the API refuses the request {of}", LATER)


def _reasons(error: Any) -> Iterator[str]:
    try:
        for one in error.json["errors"]:
            where = one.get("field")
            yield f"{where}: {one['reason']}" if where else str(one["reason"])
    except MISUNDERSTOOD:
        return


def _wait(error: Any) -> float:
    """Of Retry-After, in seconds; 0: it says none."""
    try:
        said = float(error.response.headers["Retry-After"])
    except MISUNDERSTOOD:
        return 0.0
    return min(max(said, SHORTEST_WAIT), LONGEST_WAIT) if math.isfinite(said) else 0.0


# What the answers say


def _linode(data: Any) -> Linode:
    slaac = data.get("ipv6")
    ipv6 = IPv6Address(str(slaac).partition("/")[0]) if slaac else None
    ipv4 = tuple(IPv4Address(_text(one)) for one in data["ipv4"])
    return Linode(_number(data["id"]), _line(_text(data["label"])), _line(_text(data["region"])), ipv4, ipv6)


def _held(data: Any) -> Held:
    ipv4 = data["ipv4"]
    own = [one for kind in ("public", "private", "reserved") for one in ipv4.get(kind) or ()]
    return Held(
        tuple(dict.fromkeys(map(_address, own))),
        tuple(dict.fromkeys(map(_address, ipv4["shared"]))),
        tuple(_address(one) for one in own if one.get("vpc_nat_1_1")),
    )


def _address(data: Any) -> IPv4Address:
    return IPv4Address(_text(data["address"]))


def _range(data: Any) -> Range:
    network = ip_network(f"{_text(data['range'])}/{_number(data['prefix'])}")
    if not isinstance(network, IPv6Network):
        raise TypeError("range is no IPv6 range")
    linodes = tuple(_number(one) for one in data["linodes"])
    if type(data["is_bgp"]) is not bool:
        raise TypeError("is_bgp is neither true nor false")
    return Range(network, _line(_text(data["region"])), data["is_bgp"], linodes)


def _page(data: Any) -> tuple[list[Any], int, int]:
    items, pages, results = data["data"], _number(data["pages"]), _number(data["results"])
    if not isinstance(items, list) or not 0 < pages <= MOST_PAGES:
        raise ValueError(f"{pages} pages")
    return items, pages, results


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no number")
    return value


def shares_of(linode_id: int, held: Held, ranges: Iterable[Range]) -> Shares:
    shared = (one.network for one in ranges if one.is_shared and linode_id in one.linodes)
    return Shares(linode_id, held.shared, tuple(shared))
