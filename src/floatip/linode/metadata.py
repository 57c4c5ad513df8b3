"""What Linode's metadata service says of this machine: three requests over plain HTTP to a link-local address.

Bounded in time and size as a whole, and every value is checked: a machine that is no Linode has whoever answers there.
With h11 alone (docs/decisions/0034-linode.md).
"""

import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Network, ip_address
from time import monotonic
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import h11

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.linode.accounts import Metadata
from floatip.text import printable

URLS = ("http://169.254.169.254/v1", "http://[fd00:a9fe:a9fe::1]/v1")
VARIABLE = "FLOATIP_METADATA_URL"
"""For tests: another service, on a loopback address."""
TIMEOUT = 2.0
"""Seconds for everything together; a Linode answers within milliseconds."""
LARGEST = 1 << 16
"""Octets of an answer."""
TOKEN_SECONDS = 60
LONGEST_REASON = 200
TOKEN = re.compile(rb'\s*(?:\["([\x21-\x7e]{1,4096}?)"\]|([\x21-\x7e]{1,4096}))\s*')
T = TypeVar("T")
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Unavailable(Refusal):
    """The service does not answer, or not as a Linode's does."""

    code = Why.NO_METADATA


class NotUnderstood(Unavailable):
    pass


class _Service(NamedTuple):
    address: str
    port: int
    path: str
    deadline: float


def ask(timeout: float = TIMEOUT) -> Metadata:
    """Raises `Unavailable` after `timeout` seconds at the latest."""
    service, token = _opened(timeout)
    number, label, slug = _checked(_instance, _get(service, token, "/instance"))
    public, private, shared, ranges, shared_ranges = _checked(_network, _get(service, token, "/network"))
    return Metadata(number, label, slug, public, private, shared, ranges, shared_ranges)


def region(timeout: float = TIMEOUT) -> str:
    """As `us-east`. Raises `Unavailable` after `timeout` seconds at the latest."""
    service, token = _opened(timeout)
    _, _, slug = _checked(_instance, _get(service, token, "/instance"))
    return slug


def urls() -> tuple[str, ...]:
    """Raises `Unavailable`: the variable names what is not on this machine."""
    given = os.environ.get(VARIABLE)
    if not given:
        return URLS
    parts = urlsplit(given)
    try:
        is_here = parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback and parts.port is not None
    except ValueError:
        is_here = False
    if not is_here:
        what = f"${VARIABLE} is {printable(given)[:LONGEST_REASON]!r}, which is no service on this machine"
        raise Unavailable(what, "write http://127.0.0.1:PORT/v1, or unset it")
    return (given.rstrip("/"),)


# HTTP


def _opened(timeout: float) -> tuple[_Service, str]:
    """The service that answers, and a token for it. The second address is asked where the first cannot be reached."""
    end = monotonic() + timeout
    candidates = urls()
    failures: list[Unavailable] = []
    for number, url in enumerate(candidates):
        parts = urlsplit(url)
        left = len(candidates) - number
        until = end - (end - monotonic()) * (left - 1) / (left + 1)  # of two, the first has two thirds of the time
        service = _Service(parts.hostname or "", parts.port or 80, parts.path, until)
        try:
            headers = {"Metadata-Token-Expiry-Seconds": str(TOKEN_SECONDS), "Accept": "text/plain"}
            answer = _request(service, "PUT", "/token", headers)
        except Unavailable as error:
            failures.append(error)
            continue
        if not (match := TOKEN.fullmatch(answer)):
            raise NotUnderstood(f"{url} gives no token that can be used", HINT)
        return service._replace(deadline=end), (match[1] or match[2]).decode()
    raise failures[0]


HINT = "see what answers there: curl -sS -m 2 http://169.254.169.254/"


def _get(service: _Service, token: str, path: str) -> bytes:
    return _request(service, "GET", path, {"Metadata-Token": token, "Accept": "application/json"})


def _request(service: _Service, method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The body of the answer. Raises `Unavailable`."""
    where = f"the metadata service at {service.address}"
    name = f"[{service.address}]" if ":" in service.address else service.address
    host = name if service.port == 80 else f"{name}:{service.port}"
    usual = {"Host": host, "User-Agent": "floatip", "Connection": "close", "Content-Length": "0"}
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST)
    request = h11.Request(method=method, target=f"{service.path}{path}", headers=[*(usual | dict(headers)).items()])
    try:
        with socket.socket(socket.AF_INET6 if ":" in service.address else socket.AF_INET) as client:
            client.settimeout(_left(service))
            client.connect((service.address, service.port))
            client.sendall((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
            status, body = _read(client, connection, service, where)
    except TimeoutError:
        raise Unavailable(f"{where} does not answer in time", "is this machine a Linode?") from None
    except OSError as error:
        what = f"{where} cannot be reached: {str(error.strerror or error).lower()}"
        raise Unavailable(what, "is this machine a Linode?") from None
    except h11.RemoteProtocolError as error:
        raise NotUnderstood(f"{where} does not answer in HTTP: {printable(str(error))}", HINT) from None
    if status != 200:
        raise NotUnderstood(f"{where} answers {method} {path} with HTTP {status}{_reason(body)}", HINT)
    return body


def _read(client: socket.socket, connection: h11.Connection, service: _Service, where: str) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            client.settimeout(_left(service))
            data = client.recv(1 << 14)
            if not data and connection.their_state is h11.SEND_RESPONSE:
                raise NotUnderstood(f"{where} closes the connection without an answer", HINT)
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > LARGEST:
                raise NotUnderstood(f"{where} answers more than {LARGEST >> 10} KiB", HINT)
        elif isinstance(event, h11.EndOfMessage):
            return status, body


def _left(service: _Service) -> float:
    """Raises TimeoutError."""
    if (left := service.deadline - monotonic()) <= 0:
        raise TimeoutError
    return left


def _reason(body: bytes) -> str:
    try:
        errors = json.loads(body)["errors"]
        text = "; ".join(str(one["reason"]) for one in errors)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {printable(text)[:LONGEST_REASON]}" if text else ""


# What the answers say


def _checked(read: Callable[[dict[str, Any]], T], body: bytes) -> T:
    """Raises `NotUnderstood`."""
    try:
        data = json.loads(body)
        if not isinstance(data, dict):
            raise TypeError("it is no object")
        return read(data)
    except KeyError as error:
        why = f"{error} is missing"
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = str(error)
    raise NotUnderstood(f"what the metadata service says is not understood: {printable(why)[:LONGEST_REASON]}", HINT)


def _instance(data: dict[str, Any]) -> tuple[int, str, str]:
    number, label, slug = data["id"], data.get("label"), data["region"]
    if type(number) is not int or not 0 < number < 1 << 53:
        raise ValueError(f"id is {number!r}")
    if not isinstance(slug, str) or not SLUG.fullmatch(slug):
        raise ValueError(f"region is {slug!r}")
    return number, label if isinstance(label, str) else "", slug


_Network = tuple[
    tuple[IPv4Address, ...],
    tuple[IPv4Address, ...],
    tuple[IPv4Address, ...],
    tuple[IPv6Network, ...],
    tuple[IPv6Network, ...],
]


def _network(data: dict[str, Any]) -> _Network:
    """The names of the guide of 2024 are read too, beside those of the official client."""
    ipv4, ipv6 = data.get("ipv4") or {}, data.get("ipv6") or {}
    return (
        _addresses(_strings(ipv4, "public")),
        _addresses(_strings(ipv4, "private")),
        _addresses(_strings(ipv4, "shared", "elastic")),
        _ranges(_strings(ipv6, "ranges")),
        _ranges(_strings(ipv6, "shared_ranges", "elastic-ranges", "elastic_ranges")),
    )


def _ranges(texts: Iterable[str]) -> tuple[IPv6Network, ...]:
    return tuple(dict.fromkeys(IPv6Network(one, strict=False) for one in texts))


def _addresses(texts: Iterable[str]) -> tuple[IPv4Address, ...]:
    """Each stands with its prefix, as `192.0.2.1/24` or `/32`."""
    return tuple(dict.fromkeys(IPv4Interface(one).ip for one in texts))


def _strings(table: dict[str, Any], *names: str) -> Iterator[str]:
    for name in names:
        for one in table.get(name) or ():
            if not isinstance(one, str):
                raise TypeError(f"{name} has {one!r}")
            yield one
