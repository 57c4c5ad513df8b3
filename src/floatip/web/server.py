"""The listeners and their connections. h11 parses; here are the limits.

A connection waits for its client, or its client for us. When too many wait for their clients, one is dropped: first
those that were answered, then the one that has waited longest. Whoever opens a thousand and says nothing keeps nobody
from being answered.
"""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import h11

from floatip.web.events import Events
from floatip.web.exchange import Answer, EventStream, Refused, Request, Response
from floatip.web.settings import Settings

MOST_WAITING = 32
"""Connections that wait for their clients, besides the event streams."""
MOST_BUSY = 96
"""Requests that wait for the daemon; all wait for the same answer, so more of them cost little."""
ACCEPTED_AT_ONCE = 8
"""So few that each is read before `MOST_WAITING` others have come."""
LONGEST_HEAD, LONGEST_BODY = 16 << 10, 4 << 10
REQUEST_TIMEOUT = 10.0
"""Seconds from the beginning of a request, or of its connection, to its end, however it comes."""
IDLE_TIMEOUT = 60.0
WRITE_TIMEOUT = 20.0
"""Seconds in which a client must have read an answer."""
LINGER = 2.0
"""Seconds for which what a client goes on sending is read and dropped, so that it gets our answer and no reset."""
HANDSHAKE_TIMEOUT = 5.0
BACKLOG = 128
NO_DESCRIPTOR_PAUSE = 1.0
BIND_AGAIN = 5.0
UNACKNOWLEDGED = 15_000
"""Milliseconds after which the kernel gives up a client that is gone (TCP_USER_TIMEOUT, tcp(7))."""
STREAM_BUFFER = 1 << 14
"""Bytes of a stream that the kernel keeps."""

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)

DAYS = "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"
MONTHS = "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"

Handler = Callable[[Request], Awaitable[Answer]]
Failure = tuple[str, str, str]
"""What fails, why, and what to do."""


class Server:
    def __init__(self, handler: Handler, events: Events, changed: Callable[[], None]) -> None:
        """`changed` is called when something else fails than after the last `configure`."""
        self._loop = asyncio.get_running_loop()
        self.handler = handler
        self.events = events
        self._changed = changed
        self._listeners: dict[tuple[str, int], socket.socket] = {}
        self.failing: list[Failure] = []
        """The addresses that cannot be served."""
        self._settings: Settings | None = None
        self._tls: Any = None
        self._again: asyncio.TimerHandle | None = None
        self._opening: dict[asyncio.Task[Any], None] = {}
        """Handshakes, oldest first."""
        self.answered: dict[Connection, None] = {}
        """Those that were answered and have not asked again, longest first."""
        self.waiting: dict[Connection, None] = {}
        """The others that wait for their clients, longest first."""
        self.busy: set[Connection] = set()
        """Those that are being answered."""

    def configure(self, settings: Settings, tls: Any) -> None:
        """`tls`: an `ssl.SSLContext`, or None. A listener that stays loses no connection."""
        self._settings, self._tls = settings, tls
        for address in self._listeners.keys() - set(settings.listen):
            self._close(self._listeners.pop(address))
        self._listen()

    def close(self) -> None:
        for listener in self._listeners.values():
            self._close(listener)
        self._listeners.clear()

    def _close(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)
        listener.close()

    def _listen(self) -> None:
        if self._again:
            self._again.cancel()
            self._again = None
        assert self._settings
        self.failing = []
        for address in self._settings.listen:
            if address not in self._listeners:
                try:
                    self._listeners[address] = listener = _bound(address)
                except OSError as error:
                    self.failing.append(_failure(address, error))
                else:
                    self._loop.add_reader(listener, self._accept, listener)
        if self.failing:
            self._again = self._loop.call_later(BIND_AGAIN, self._listen_again)

    def _listen_again(self) -> None:
        before = self.failing
        self._listen()
        if self.failing != before:
            self._changed()

    def _accept(self, listener: socket.socket) -> None:
        is_loopback = _is_loopback(listener.getsockname()[0])
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._loop.remove_reader(listener)
                    self._loop.call_later(NO_DESCRIPTOR_PAUSE, self._resume, listener)
                    return
                continue  # the client is gone already
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
            self._open(client, is_loopback)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners.values():
            self._loop.add_reader(listener, self._accept, listener)

    def _open(self, client: socket.socket, is_loopback: bool) -> None:
        may_read = is_loopback or bool(self._tls and self._tls.verify_mode.name == "CERT_REQUIRED")
        if self._tls and len(self._opening) >= MOST_WAITING:
            next(iter(self._opening)).cancel()
        task = self._loop.create_task(self._handshake(client, self._tls, may_read))
        self._opening[task] = None
        task.add_done_callback(self._opening.pop)

    async def _handshake(self, client: socket.socket, tls: Any, may_read: bool) -> None:
        timeout = HANDSHAKE_TIMEOUT if tls else None
        with suppress(OSError):  # also an ssl.SSLError
            await self._loop.connect_accepted_socket(
                lambda: Connection(self, may_read), client, ssl=tls, ssl_handshake_timeout=timeout
            )

    def admit(self, connection: "Connection", *, is_answered: bool) -> None:
        """It waits for its client, from now on. A new one whose request is not read yet stays before answered ones."""
        self.forget(connection)
        (self.answered if is_answered else self.waiting)[connection] = None
        while len(self.answered) + len(self.waiting) > MOST_WAITING:
            next(iter(self.answered or self.waiting)).drop()

    def forget(self, connection: "Connection") -> None:
        self.answered.pop(connection, None)
        self.waiting.pop(connection, None)
        self.busy.discard(connection)


class Connection(asyncio.Protocol):
    def __init__(self, server: Server, may_read: bool) -> None:
        self._server = server
        self._may_read = may_read
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._request: h11.Request | None = None
        self._body = b""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_unread = False
        """Something of what was written waits for the client."""
        self._is_answered = False
        """An answer was written, and the request is not over."""
        self._is_ending = False
        """What the client still sends is dropped."""
        self._is_streaming = False
        self._transport: asyncio.Transport

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # So that the transport says when all was read.
        transport.set_write_buffer_limits(high=1, low=0)
        self._client = (transport.get_extra_info("peername") or [""])[0]  # none: it is gone already
        self._own = (transport.get_extra_info("sockname") or [""])[0]
        self._wait(REQUEST_TIMEOUT)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.forget(self)
        self._server.events.leave(self)
        self._stop_timer()
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._is_ending or self._is_streaming:
            return
        if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
            self._wait(REQUEST_TIMEOUT)
        self._feed(data)

    def eof_received(self) -> bool:
        if self._is_ending or self._is_streaming:
            return False
        self._feed(b"")
        return (self._task is not None or self._is_unread) and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._is_unread = True

    def resume_writing(self) -> None:
        self._is_unread = False
        if self._is_ending:
            self._shut()
        elif self._is_answered:
            self._finish()

    def drop(self) -> None:
        self._server.forget(self)
        self._transport.abort()

    # Time

    def _wait(self, seconds: float, *, is_answered: bool = False) -> None:
        """For the client."""
        self._server.admit(self, is_answered=is_answered)
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self._timed_out)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        if not self._is_ending and (self._request or self._http.trailing_data[0]):
            self._refuse(Response(408, b"the request did not end in time\n"))
        else:
            self.drop()

    # Requests

    def _feed(self, data: bytes | None) -> None:
        """None: what came behind the last request."""
        try:
            if data is not None:
                self._http.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(Response(error.error_status_hint, f"{error}\n".encode()))
        except Refused as refused:
            self._refuse(refused.response)

    def _advance(self) -> None:
        while not self._task and not self._is_ending:
            event = self._http.next_event()
            match event:
                case h11.Request():
                    self._request, self._body = event, b""
                    _check_framing(event)
                    if self._http.they_are_waiting_for_100_continue:
                        self._write(h11.InformationalResponse(status_code=100, headers=[]))
                case h11.Data():
                    self._body += event.data
                case h11.EndOfMessage():
                    self._begin()
                case h11.ConnectionClosed():
                    if not self._is_unread:
                        self._transport.close()
                    return
                case _:  # NEED_DATA, PAUSED
                    return

    def _begin(self) -> None:
        assert self._request
        request = _read(self._request, self._body, self._client, self._own, self._may_read)
        if len(self._server.busy) >= MOST_BUSY:
            raise Refused(503, "too many requests at once", "ask less often", Retry_After="1")
        self._server.forget(self)
        self._server.busy.add(self)
        self._stop_timer()
        self._transport.pause_reading()
        self._task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._server.handler(request)
        except Refused as refused:
            answer = refused.response
        except Exception as error:
            self._loop.call_exception_handler({"message": request.path, "exception": error})
            answer = Response(500, b"a bug in floatip: floatip status shows it\n")
        self._task = None
        if self._transport.is_closing():
            return
        if isinstance(answer, EventStream):
            self._stream(answer, request)
            return
        self._is_answered = True
        self._send(answer)
        if self._is_unread:
            self._wait(WRITE_TIMEOUT)
        elif self._is_answered:
            self._finish()

    def _send(self, response: Response, *more: tuple[str, str]) -> None:
        """All of it; to HEAD without the body (RFC 9110 section 9.3.2)."""
        headers = [*_common(response), ("Content-Length", str(len(response.body))), *more]
        phrase = HTTPStatus(response.status).phrase
        events: list[Any] = [h11.Response(status_code=response.status, headers=headers, reason=phrase)]
        if response.body and not (self._request and self._request.method == b"HEAD"):
            events.append(h11.Data(data=response.body))
        self._transport.write(b"".join(self._http.send(event) or b"" for event in (*events, h11.EndOfMessage())))

    def _finish(self) -> None:
        """The client has read the answer, at least into its kernel."""
        self._request, self._is_answered = None, False
        if self._is_ending:
            return
        self._transport.resume_reading()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            has_more = bool(self._http.trailing_data[0])
            self._wait(REQUEST_TIMEOUT if has_more else IDLE_TIMEOUT, is_answered=not has_more)
            self._feed(None)
        else:
            self._end()

    def _refuse(self, response: Response) -> None:
        """And go on no further: what else this client has sent is not known."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(response, ("Connection", "close"))
        self._end()

    def _end(self) -> None:
        self._is_ending = True
        self._transport.resume_reading()
        self._wait(LINGER, is_answered=not self._is_unread)
        if not self._is_unread:
            self._shut()

    def _shut(self) -> None:
        """Our side; the client's goes on to be read for a moment."""
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        except OSError:  # the client is gone
            self.drop()

    def _write(self, event: Any) -> None:
        self._transport.write(self._http.send(event) or b"")

    # Events

    def _stream(self, stream: EventStream, request: Request) -> None:
        self._server.forget(self)
        self._is_streaming = True
        self._transport.resume_reading()
        client = self._transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER)
        headers = [*_common(Response(200, kind="text/event-stream"))]
        self._write(h11.Response(status_code=200, headers=headers))
        if request.method == "HEAD":
            self._transport.close()
        else:
            self._server.events.join(self, stream.after)

    def push(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._write(h11.Data(data=data))

    @property
    def unread(self) -> int:
        return self._transport.get_write_buffer_size()


def _check_framing(request: h11.Request) -> None:
    """What two readers could take for different requests is none: orders are short, and need no chunks."""
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        raise Refused(411, "this server reads no Transfer-Encoding", "send Content-Length")
    lengths = [value for name, value in request.headers if name == b"content-length"]
    if lengths and int(lengths[0]) > LONGEST_BODY:
        raise Refused(413, f"the body is longer than {LONGEST_BODY} bytes")


def _read(request: h11.Request, body: bytes, client: str, own: str, may_read: bool) -> Request:
    """Raises `Refused`."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    target = request.target.decode("ascii")
    authority = headers.get("host", "")
    if not target.startswith("/"):  # RFC 9112 section 3.2.2: its host counts
        scheme, separator, rest = target.partition("://")
        if scheme.lower() not in ("http", "https") or not separator:
            raise Refused(400, "the target of the request is no path")
        meant, slash, rest = rest.partition("/")
        if meant.lower() != authority.lower():
            raise Refused(400, "the target of the request names another host than the header Host")
        target = slash + rest or "/"
    path, _, query = target.partition("?")
    method = request.method.decode("ascii")
    return Request(method, path, _parameters(query), headers, authority, body, client, own, may_read)


def _parameters(query: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {name: value for name, _, value in pairs}


def _common(response: Response) -> list[tuple[str, str]]:
    own = {name for name, _ in response.headers}
    common = [pair for pair in HEADERS if pair[0] not in own]
    return [("Date", _date(time.gmtime())), ("Content-Type", response.kind), *common, *response.headers]


def _bound(address: tuple[str, int]) -> socket.socket:
    host, _ = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _failure(address: tuple[str, int], error: OSError) -> Failure:
    host, port = address
    hint = {
        errno.EADDRINUSE: f"find out who uses it: ss -tlnp 'sport = :{port}'; or choose another port in [http] listen",
        errno.EADDRNOTAVAIL: f"see whether this machine has {host}: ip address; or correct listen in [http]",
        errno.EACCES: "choose a port above 1023 in [http] listen",
    }.get(error.errno or 0, "correct listen in [http], then: systemctl reload floatip")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"http {shown}", f"cannot listen: {os.strerror(error.errno or 0).lower()}", hint


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _date(now: time.struct_time) -> str:
    """RFC 9110 section 5.6.7, whatever the locale."""
    day, month = DAYS[now.tm_wday], MONTHS[now.tm_mon - 1]
    return f"{day}, {now.tm_mday:02} {month} {now.tm_year} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} GMT"
