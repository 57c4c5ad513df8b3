"""The API v4 and the metadata service over HTTP/1.1 on loopback, each in a thread of its own."""

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.linode_fake.account import Account, Linode, Refused

REGIONS = ("us-east", "us-central", "eu-central", "de-fra-2", "jp-tyo-3")


@dataclass
class Fault:
    """What a request gets instead of its answer, so many times."""

    path: str
    """A regular expression for the method and the path, as `POST /networking/ips/share`."""
    status: int = 0
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of the usual JSON with the reason."""
    raw: bytes | None = None
    """Instead of HTTP; the connection is closed after it."""
    seconds: float = 0.0
    """Before anything is answered."""
    drip: float = 0.0
    """Seconds between two octets of the body."""
    after: bool = False
    """The request counts, and then the fault comes in place of its answer."""
    times: int = 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(self.server.base)
        self.server.requests.append((method, path, dict(self.headers.items()), data))
        fault = self.server.fault(f"{method} {path}")
        if fault and not fault.after:
            return self._fail(fault)
        try:
            if not parts.path.startswith(f"{self.server.base}/"):
                raise Refused(404, "Not found")
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            kind, answer = self.server.answer(method, unquote(path), query, self.headers, data)
            status = 200
        except Refused as refused:
            status, kind, answer = refused.status, "application/json", {"errors": refused.errors}
        if fault:
            return self._fail(fault)
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        return self._send(status, kind, body, {}, 0.0)

    def _fail(self, fault: Fault) -> None:
        self.server.closing.wait(fault.seconds)
        if fault.raw is not None:
            self.close_connection = True
            self.wfile.write(fault.raw)
            return
        errors = json.dumps({"errors": [{"reason": fault.reason}]}).encode()
        body = errors if fault.body is None else fault.body
        self._send(fault.status, "application/json", body, fault.headers, fault.drip)

    def _send(self, status: int, kind: str, body: bytes, headers: Mapping[str, str], drip: float) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        for at in range(0, len(body), 1 if drip else len(body) or 1):
            self.wfile.write(body[at : at + (1 if drip else len(body))])
            if drip and self.server.closing.wait(drip):
                return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    base: ClassVar[str]

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()

    def server_bind(self) -> None:
        """Without asking for the name of the address, as HTTPServer does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.base}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are part of the tests."""

    def fault(self, request: str) -> Fault | None:
        with self.lock:
            for one in self.faults:
                if one.times and re.fullmatch(one.path, request):
                    one.times -= 1
                    return one
        return None

    def count(self, request: str) -> int:
        return sum(bool(re.fullmatch(request, f"{method} {path}")) for method, path, _, _ in self.requests)

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Any, data: bytes
    ) -> tuple[str, dict[str, Any] | list[str] | str]:
        """The content type, and JSON or text."""
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self.shutdown()
            self.server_close()
            thread.join()


class Api(Server):
    base = "/v4"

    def __init__(self, account: Account, port: int = 0) -> None:
        super().__init__(port)
        self.account = account
        self.page_sizes = (25, 500)

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Any, data: bytes
    ) -> tuple[str, dict[str, Any] | list[str] | str]:
        for allowed, pattern, scope, act in self._routes():
            if match := re.fullmatch(pattern, path):
                if method != allowed:
                    raise Refused(405, "Method Not Allowed")
                self._authorize(headers, scope, writes=method != "GET")
                return "application/json", act(*match.groups(), query=query, data=data)
        raise Refused(404, "Not found")

    def _routes(self) -> Iterator[tuple[str, str, str, Callable[..., dict[str, Any]]]]:
        account = self.account

        def share(*, data: bytes, **_: Any) -> dict[str, Any]:
            account.share(_json(data))
            return {}

        def linodes(*, query: dict[str, str], **_: Any) -> dict[str, Any]:
            return self._page([account.instance(one) for one in account.linodes.values()], query)

        def ranges(*, query: dict[str, str], **_: Any) -> dict[str, Any]:
            return self._page([account.range(one) for one in account.ranges.values()], query)

        def ips(*, query: dict[str, str], **_: Any) -> dict[str, Any]:
            return self._page([account.ip(text) for one in account.linodes.values() for text in one.public], query)

        def regions(*, query: dict[str, str], **_: Any) -> dict[str, Any]:
            return self._page([_region(name) for name in REGIONS], query)

        def one_range(name: str, **_: Any) -> dict[str, Any]:
            if name not in account.ranges:
                raise Refused(404, "Not found")
            return account.range(account.ranges[name], whole=True)

        def one_region(name: str, **_: Any) -> dict[str, Any]:
            if name not in REGIONS:
                raise Refused(404, "Not found")
            return _region(name)

        yield "POST", "/networking/ips/share", "ips linodes", share
        yield "POST", "/networking/ipv4/share", "ips linodes", share
        yield "GET", "/linode/instances", "linodes", linodes
        yield "GET", r"/linode/instances/(\d+)", "linodes", lambda n, **_: account.instance(account.linode(int(n)))
        yield "GET", r"/linode/instances/(\d+)/ips", "linodes", lambda n, **_: account.ips(account.linode(int(n)))
        yield "GET", "/networking/ipv6/ranges", "ips", ranges
        yield "GET", "/networking/ipv6/ranges/([0-9a-f:]+)", "ips", one_range
        yield "GET", "/networking/ips", "ips", ips
        yield "GET", "/networking/ips/([0-9a-f.:]+)", "ips", lambda text, **_: account.ip(text)
        yield "GET", "/regions", "", regions
        yield "GET", "/regions/([a-z0-9-]+)", "", one_region

    def _authorize(self, headers: Any, scope: str, *, writes: bool) -> None:
        if not scope:
            return
        kind, _, token = (headers.get("Authorization") or "").partition(" ")
        if kind != "Bearer" or token not in self.account.tokens:
            raise Refused(401, "Invalid Token")
        if token in self.account.grantless:
            raise Refused(403, "Unauthorized")
        has = self.account.tokens[token].split()
        for one in scope.split():
            if f"{one}:read_write" not in has and (writes or f"{one}:read_only" not in has):
                raise Refused(401, "Your OAuth token is not authorized to use this endpoint.")

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        least, most = self.page_sizes
        size, page = int(query.get("page_size", min(100, most))), int(query.get("page", 1))
        if not 1 <= size <= 500 or ("page" not in query and size < least):
            raise Refused(400, f"Must be {least}-{most}", "page_size")
        size = min(size, most)
        pages = max(1, -(-len(items) // size))
        if page > pages:
            raise Refused(404, "Not found")
        return {"data": items[(page - 1) * size : page * size], "page": page, "pages": pages, "results": len(items)}


def _region(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "label": name,
        "country": "us",
        "capabilities": ["Linodes", "Metadata"],
        "status": "ok",
        "resolvers": {"ipv4": "192.0.2.53", "ipv6": "2001:db8::53"},
        "site_type": "core",
        "placement_group_limits": None,
    }


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise Refused(400, "Invalid JSON") from None


class MetadataService(Server):
    base = "/v1"

    def __init__(self, account: Account, linode: Linode, port: int = 0, *, old_keys: bool = False) -> None:
        super().__init__(port)
        self.account = account
        self.linode = linode
        self.old_keys = old_keys
        """The names of the guide of January 2024."""
        self.tokens: dict[str, float] = {}
        """Until when each is good."""

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: Any, data: bytes
    ) -> tuple[str, dict[str, Any] | list[str] | str]:
        if path == "/token":
            return self._token(method, headers)
        if path not in ("/instance", "/network"):
            raise Refused(404, "Not found")
        if method != "GET":
            raise Refused(405, "Method Not Allowed")
        if self.tokens.get(headers.get("Metadata-Token") or "", 0.0) < time.monotonic():
            raise Refused(401, "Not authenticated")
        values = self._instance() if path == "/instance" else self._network()
        if _wants_json(headers):
            return "application/json", values
        return "text/plain", "".join(_lines(values))

    def _token(self, method: str, headers: Any) -> tuple[str, list[str] | str]:
        if method != "PUT":
            raise Refused(405, "Method Not Allowed")
        seconds = headers.get("Metadata-Token-Expiry-Seconds") or ""
        if not seconds.isdecimal() or not 1 <= int(seconds) <= 86400:
            raise Refused(400, "Metadata-Token-Expiry-Seconds must be from 1 to 86400")
        token = secrets.token_hex(32)
        self.tokens[token] = time.monotonic() + int(seconds)
        return ("application/json", [token]) if _wants_json(headers) else ("text/plain", token)

    def _instance(self) -> dict[str, Any]:
        one = self.linode
        return {
            "id": one.id,
            "host_uuid": f"{one.id:032x}",
            "label": one.label,
            "region": one.region,
            "type": "g6-standard-1",
            "tags": "",
            "specs": {"vcpus": 1, "memory": 2048, "disk": 51200, "transfer": 2000, "gpus": 0},
            "backups": {"enabled": False, "status": None},
        }

    def _network(self) -> dict[str, Any]:
        one, ranges = self.linode, self.account.ranges.values()
        shared = [text for text in one.shows() if ":" not in text]
        shared_ranges = [str(each.network) for each in ranges if each.name in one.shows()]
        own = [str(each.network) for each in ranges if each.owner == one.id]
        names = ("elastic", "elastic-ranges", "link-local") if self.old_keys else SHARED
        return {
            "interfaces": [],
            "ipv4": {
                "public": [f"{text}/32" for text in one.public],
                "private": [f"{text}/32" for text in one.private],
                names[0]: [f"{text}/32" for text in shared],
            },
            "ipv6": {"slaac": f"{one.slaac}/128", "ranges": own, names[1]: shared_ranges, names[2]: "fe80::1/128"},
        }


SHARED = ("shared", "shared_ranges", "link_local")


def _wants_json(headers: Any) -> bool:
    return "application/json" in (headers.get("Accept") or "")


def _lines(values: dict[str, Any], before: str = "") -> Iterator[str]:
    """The service's own form: `ipv4.public: 192.0.2.1/24`, a line each."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{before}{key}.")
        else:
            for one in value if isinstance(value, list) else [value]:
                yield f"{before}{key}: {one}\n"
