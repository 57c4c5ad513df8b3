"""A client of etcd's gRPC gateway: all endpoints as one, each question answered once, one watch.

* A question goes to the endpoint in use. If it cannot be reached, or says that it did nothing, the next one is asked.
  What can be asked twice (reads, keepalives) is asked at the next one too when there is no answer after a part of the
  request timeout: the first answer counts. A transaction is never asked twice, because the second answer would speak of
  the first: no answer is `Unknown`, and the core asks what became of it.
* Of a member that is cut off no answer counts: the term of raft never goes backwards, and the cluster is one. If all
  endpoints answer a linearizable question with an older term, or most of them as one other cluster, which takes a
  quorum, etcd was made again or restored: the watch says that it has a gap, and the core knows what to make of such a
  store. The cluster before cannot have a quorum any more then, where the configuration names all members.
* The watch is at the endpoint in use, and moves with it. So a member that hangs costs the watch no longer than the
  questions, although a silent stream looks the same as a quiet one. Beside that, the watch begins again elsewhere if
  another answer had a later revision of a watched key, and the stream has not brought it for a request timeout. What a
  watch misses, the core reads each keepalive interval: a watch is for speed.
"""

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from floatip.certificate import ending
from floatip.core import etcd_wire as wire
from floatip.core.arbiter import FLEET
from floatip.core.etcd import (
    Answer,
    Compare,
    EtcdChanged,
    EtcdEndpoint,
    EtcdMembers,
    EtcdTrouble,
    EtcdUnwatched,
    KeepAlive,
    Put,
    Question,
    Range,
    Rows,
    Txn,
    TxnDone,
    Unknown,
)
from floatip.core.etcd_wire import Header, Refused, Says
from floatip.etcd.failed import HEDGE, Failed, late, name, of_answer, of_connection, several
from floatip.etcd.settings import Settings

PROBE_INTERVAL = 10.0
"""Seconds between two looks at each endpoint, and at the files of TLS."""
SOONEST, LATEST = 0.1, 2.0
"""Seconds until a watch that ended is begun again; doubled each time."""
LONGEST_PASSWORD = 4096
MOST_CONNECTIONS = 64
MOST_HELD = 2 * wire.LONGEST_ANSWER
"""Octets of all answers that are not whole yet: those that never end would take a GB."""
HEADERS = [("content-type", "application/json"), ("accept-encoding", "identity"), ("grpc-metadata-hasleader", "true")]
"""With the last one a member without a leader says so at once, also in the middle of a watch."""
WRITES_NOTHING = Txn((Compare(FLEET, -1),), (Put(FLEET, ""),))
"""No row has that revision. etcd asks for the right to write before it compares."""

Report = Callable[[EtcdChanged | EtcdUnwatched | EtcdTrouble | EtcdMembers], None]


@dataclass(slots=True)
class Seen:
    """The newest that any answer said, and who said it first."""

    cluster: int = 0
    term: int = 0
    endpoint: str = ""


@dataclass(slots=True)
class Endpoint:
    url: str
    version: str = ""
    failure: Failed | None = None
    """Of the last question; None: it was answered."""
    alarm: Failed | None = None
    was_asked: bool = False
    is_behind: bool = False
    """It answered a linearizable read with an older term than another one."""
    other_cluster: int = 0
    """With which it answered a linearizable question last, if that is not the one that counts."""
    path: str = "/v3/"


class Client:
    def __init__(self, settings: Settings, report: Report = lambda event: None, seen: Seen | None = None) -> None:
        """`seen`: of a client before this one, of the same etcd. Files are read at the first question."""
        self.settings = settings
        self.seen = seen or Seen()
        self._report = report
        self._endpoints = [Endpoint(url.rstrip("/")) for url in settings.endpoints]
        self._used = 0
        self._transport: httpx.AsyncHTTPTransport | None = None
        self._files: tuple[object, ...] = ()
        self._token = ""
        self._ending: Failed | None = None
        """Our certificate has ended, or ends soon."""
        self._denied: Failed | None = None
        """This user may not write: who runs already has all that it needs, and would find out at its next claim."""
        self._held = 0
        """Octets of answers that are not whole yet."""
        self._may_read = False
        """A read was answered."""
        self._renewing = asyncio.Lock()
        self._troubles: dict[str, Failed] = {}
        """By the kind of question."""
        self._told: dict[type, object] = {}
        self._skipped = 0
        self._prefixes: tuple[str, ...] = ()
        self._position = 0
        """Of the watch: all that is watched is told up to this revision."""
        self._patience: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stream: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def used(self) -> Endpoint:
        return self._endpoints[self._used]

    async def ask(self, question: Question) -> Answer:
        """Within the request timeout. Never raises: what is not an answer is `Unknown`."""
        kind = type(question).__name__
        try:
            answer = await self._ask(question)
        except Failed as failure:
            self._note_trouble(kind, failure)
            return Unknown(failure.reason)
        except Exception as error:  # whatever it is, it does not say that nothing was done
            bug = Failed(f"a bug in floatip: {error!r}"[:200], "report this line")
            self._note_trouble(kind, bug)
            return Unknown(bug.reason)
        self._note_success(kind)
        return answer

    def failure_of(self, question: Question) -> Failed | None:
        """Why the last one of its kind was not answered; None: it was."""
        return self._troubles.get(type(question).__name__)

    def watch(self, prefixes: tuple[str, ...], revision: int) -> None:
        """Report what changes after `revision`, in place of the watch before. Without prefixes: nothing."""
        if self._watching:
            self._watching.cancel()
        self._prefixes, self._position = prefixes, revision
        self._watching = self._begin(self._watch()) if prefixes else None

    def look_after(self) -> None:
        """Look at every endpoint from time to time, also at those that are not used."""
        self._begin(self._probe())

    async def close(self) -> None:
        """Questions that are open end as `Unknown`, and nothing is reported any more: another client may have begun."""
        self._report = lambda event: None
        if self._patience:
            self._patience.cancel()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport:
            await self._transport.aclose()
            self._transport = None

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Questions

    async def _ask(self, question: Question) -> Answer:
        timeout = self.settings.request_timeout
        can_ask_again = isinstance(question, Range | KeepAlive)
        left = [*self._endpoints[self._used :], *self._endpoints[: self._used]]
        asked: dict[asyncio.Task[Answer], Endpoint] = {}
        failures: list[Failed] = []
        try:
            async with asyncio.timeout(timeout):
                while left or asked:
                    if left:
                        endpoint = left.pop(0)
                        task = asyncio.create_task(self._ask_at(endpoint, question))
                        task.add_done_callback(_forget)
                        asked[task] = endpoint
                    while asked:
                        hedge = timeout * HEDGE if can_ask_again and left else None
                        done, _ = await asyncio.wait(asked, timeout=hedge, return_when=asyncio.FIRST_COMPLETED)
                        for task in done:
                            endpoint = asked.pop(task)
                            try:
                                answer = task.result()
                            except Failed as error:
                                failures.append(error)
                                self._note(endpoint, error)
                                if error.may_be_done and not can_ask_again:
                                    self._leave(endpoint)
                                    raise
                            else:
                                for slow in asked.values():
                                    self._note(slow, late(slow.url, timeout * HEDGE))
                                self._use(endpoint)
                                return answer
                        if left:
                            break
        except TimeoutError:
            for endpoint in asked.values():
                failure = late(endpoint.url, timeout)
                failures.append(failure)
                self._note(endpoint, failure)
                self._leave(endpoint)
        finally:
            for task in asked:
                task.cancel()
        raise several(failures, self.settings)

    async def _ask_at(self, endpoint: Endpoint, question: Question) -> Answer:
        path, body = wire.request(question, self.settings.prefix)
        term = self.seen.term
        status, data = await self._post_as_user(endpoint, path, body)
        try:
            answer, header, skipped = wire.answer(question, self.settings.prefix, status, data)
        except Refused as refused:
            raise of_answer(refused, endpoint.url, self.settings, self._right(question)) from None
        self._may_read |= self._right(question) == "read"
        self._skipped = max(self._skipped, skipped)
        if header.cluster:
            try:
                self._check(endpoint, header, term)
            except Failed:
                if isinstance(question, Range | Txn):
                    is_other = header.cluster != self.seen.cluster
                    endpoint.other_cluster = header.cluster if is_other else 0
                    endpoint.is_behind = not is_other and isinstance(question, Range)
                    self._begin_again(header)
                raise
        if isinstance(answer, Rows | TxnDone):
            self._expect(question, answer)
        return answer

    def _right(self, question: Question) -> str:
        """What it needs below the prefix, as far as this is known."""
        if isinstance(question, Range) or (isinstance(question, Txn) and not question.then):
            return "read"
        return "write" if self._may_read else "read and write"

    async def _post_as_user(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """With a token, which is renewed where etcd does not know it any more."""
        if self.settings.user and not self._token:
            await self._renew(endpoint, "")
        token = self._token
        status, data = await self._post(endpoint, path, body, token)
        if self.settings.user and status in (400, 401):
            try:
                wire.result(status, data)
            except Refused as refused:
                if refused.says in (Says.TOKEN, Says.NO_USER):
                    await self._renew(endpoint, token)
                    return await self._post(endpoint, path, body, self._token)
        return status, data

    async def _renew(self, endpoint: Endpoint, old: str) -> None:
        async with self._renewing:
            if self._token != old:
                return  # somebody else did
            user = {"name": self.settings.user, "password": self._password()}
            status, data = await self._post(endpoint, wire.AUTHENTICATE, user, "")
            try:
                self._token = wire.token(status, data)
            except Refused as refused:
                if refused.says != Says.NO_AUTH:
                    raise of_answer(refused, endpoint.url, self.settings) from None
                self._token = ""  # everybody may do everything

    def _password(self) -> str:
        path = self.settings.password
        if not path:
            return ""
        try:
            with open(path, "rb") as file:
                return file.read(LONGEST_PASSWORD).decode().strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise Failed(f"the password file {path} cannot be read: {why}", f"ls -l {path}", done=False) from None

    async def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any], token: str) -> tuple[int, bytes]:
        """Status and body. Raises `Failed`."""
        status, data = await self._send(endpoint, "POST", endpoint.path + path, json.dumps(body).encode(), token)
        if status == 404 and not data.lstrip().startswith(b"{"):
            _, version = await self._send(endpoint, "GET", "/version", b"", "")
            if b'"etcdserver":"3.3.' in version.replace(b" ", b"") and endpoint.path == "/v3/":
                endpoint.path = "/v3beta/"
                return await self._post(endpoint, path, body, token)
        return status, data

    async def _send(self, endpoint: Endpoint, method: str, path: str, content: bytes, token: str) -> tuple[int, bytes]:
        timeout = self.settings.request_timeout
        try:
            response = await self._request(endpoint, method, path, content, token, timeout)
            chunks, length = list[bytes](), 0  # one buffer that grows leaves holes in memory, as many as it was moved
            try:
                async for chunk in _stream_of(response):
                    chunks.append(chunk)
                    length += len(chunk)
                    self._held += len(chunk)
                    is_crowded = self._held > MOST_HELD and length > MOST_HELD // MOST_CONNECTIONS
                    if length > wire.LONGEST_ANSWER or is_crowded:
                        size = f"{length >> 20} MB" if length >> 20 else f"{length >> 10} KB"
                        what = f"{name(endpoint.url)} answers more than {size}"
                        raise Failed(what, "check that it is etcd: curl -I " + endpoint.url)
                return response.status_code, b"".join(chunks)
            finally:
                self._held -= length
                chunks.clear()
                await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            if isinstance(error, httpx.PoolTimeout):
                self._replace_transport()  # httpcore before 1.0 loses connections whose use was cancelled
            raise of_connection(error, endpoint.url, self.settings) from None

    async def _request(
        self, endpoint: Endpoint, method: str, path: str, content: bytes, token: str, timeout: float | None
    ) -> httpx.Response:
        """The transport alone: what a client adds (cookies, redirects, proxies of the environment) is not wanted."""
        headers = [*HEADERS, ("authorization", token)] if token else HEADERS
        connect = self.settings.request_timeout * HEDGE
        limits = {"connect": connect, "pool": connect, "read": timeout, "write": self.settings.request_timeout}
        request = httpx.Request(
            method, endpoint.url + path, headers=headers, content=content, extensions={"timeout": limits}
        )
        return await self._opened().handle_async_request(request)

    def _opened(self) -> httpx.AsyncHTTPTransport:
        if not self._transport:
            limits = httpx.Limits(max_connections=MOST_CONNECTIONS, keepalive_expiry=60.0)
            self._files = self._look_at_files()
            self._transport = httpx.AsyncHTTPTransport(verify=self._tls(), trust_env=False, limits=limits)
        return self._transport

    def _replace_transport(self) -> None:
        if self._transport:
            self._begin(_close_later(self._transport, self.settings.request_timeout))  # what it is asked goes on
            self._transport = None
            self._move_watch()

    def _tls(self) -> ssl.SSLContext | bool:
        if not any(endpoint.url.startswith("https:") for endpoint in self._endpoints):
            return False
        path = self.settings.ca
        try:
            context = ssl.create_default_context(cafile=path)
            if path := self.settings.certificate:
                # A key with a passphrase is refused: nobody is there to type it.
                context.load_cert_chain(path, self.settings.key, password="")
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
            why = getattr(error, "strerror", None) or str(error)
            key = f" or its key {self.settings.key}" if path == self.settings.certificate and self.settings.key else ""
            what = f"the file {path}{key} cannot be used: {why}"
            raise Failed(what, "check the files that [etcd] names: floatip check", done=False) from None
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _look_at_files(self) -> tuple[object, ...]:
        def look(path: str) -> object:
            with suppress(OSError):
                found = os.stat(path)
                return found.st_ino, found.st_mtime_ns, found.st_size
            return None

        return tuple(look(path) for path in self.settings.files)

    # Which endpoint, and whether it is to be believed

    def _check(self, endpoint: Endpoint, header: Header, term: int) -> None:
        """`term`: the newest when the question was sent."""
        seen = self.seen
        if seen.cluster and header.cluster != seen.cluster:
            if endpoint.url == seen.endpoint:
                reason = f"{name(endpoint.url)} belongs to another cluster of etcd than before"
                hint = "if it was restored or made again, start all members; else correct endpoints in [etcd]"
                raise Failed(f"{reason}, so what it says does not count", hint, weight=3)
            reason = f"{name(endpoint.url)} and {name(seen.endpoint)} belong to two clusters of etcd"
            hint = f"compare: etcdctl --endpoints {endpoint.url},{seen.endpoint} endpoint status -w json"
            raise Failed(f"{reason}, so what the first one says does not count", hint, weight=3)
        if header.term < term:
            reason = f"{name(endpoint.url)} is behind the other members: its term is {header.term}, and {term} was seen"
            raise Failed(reason, "see which members reach each other: etcdctl endpoint status --cluster", weight=3)
        endpoint.is_behind, endpoint.other_cluster = False, 0
        seen.cluster, seen.endpoint = header.cluster, seen.endpoint or endpoint.url
        seen.term = max(seen.term, header.term)

    def _begin_again(self, header: Header) -> None:
        """If all endpoints are behind, or most are of one other cluster: then etcd is another one."""
        if all(endpoint.is_behind for endpoint in self._endpoints):
            self.seen, how = Seen(), "its term went back"
        elif sum(endpoint.other_cluster == header.cluster for endpoint in self._endpoints) * 2 > len(self._endpoints):
            first = next(endpoint.url for endpoint in self._endpoints if endpoint.other_cluster == header.cluster)
            self.seen, how = Seen(header.cluster, header.term, first), "it is another cluster"
        else:
            return
        for endpoint in self._endpoints:
            endpoint.is_behind, endpoint.other_cluster = False, 0
        if self._watching:
            self._watching.cancel()
            self._watching = None
            self._report(EtcdUnwatched(f"etcd was made again or restored: {how}"))

    def _use(self, endpoint: Endpoint) -> None:
        if endpoint is not self.used:
            self._used = self._endpoints.index(endpoint)
            self._move_watch()
        self._note(endpoint, None)

    def _leave(self, endpoint: Endpoint) -> None:
        """It did not answer: the next question goes to the next one."""
        if endpoint is self.used and len(self._endpoints) > 1:
            self._used = (self._used + 1) % len(self._endpoints)
            self._move_watch()
            self._tell_members()

    def _move_watch(self) -> None:
        if self._stream:
            self._stream.cancel()

    def _note(self, endpoint: Endpoint, failure: Failed | None) -> None:
        """What it said last."""
        endpoint.failure, endpoint.was_asked = failure, True
        self._tell_members()

    # What people are told

    def _note_trouble(self, kind: str, failure: Failed) -> None:
        self._troubles[kind] = failure
        self._tell_trouble()

    def _note_success(self, kind: str) -> None:
        if self._troubles:
            self._troubles.pop(kind, None)
            # Another kind did not reach etcd, and would now.
            self._troubles = {other: failure for other, failure in self._troubles.items() if failure.lasts}
        self._tell_trouble()

    def _tell_trouble(self) -> None:
        failure = max(self._troubles.values(), key=lambda one: one.weight, default=None)
        self._tell(EtcdTrouble(failure.reason, failure.hint) if failure else EtcdTrouble(""))

    def _tell_members(self) -> None:
        def view(endpoint: Endpoint) -> EtcdEndpoint:
            ours = (self._denied or self._ending) if endpoint is self.used else None
            failure = endpoint.failure or endpoint.alarm or ours
            said = (failure.reason, failure.hint) if failure else ("", "")
            answers = not endpoint.failure if endpoint.was_asked else None
            return EtcdEndpoint(endpoint.url, answers, *said, endpoint is self.used, endpoint.version)

        self._tell(EtcdMembers(tuple(map(view, self._endpoints)), self._skipped))

    def _tell(self, event: EtcdTrouble | EtcdMembers) -> None:
        if self._told.get(type(event)) != event:
            self._told[type(event)] = event
            self._report(event)

    # All endpoints, from time to time

    async def _probe(self) -> None:
        while True:
            if self._files != self._look_at_files():
                self._replace_transport()
            await self.look()
            self._look_at_certificate()
            if full := next((endpoint.alarm for endpoint in self._endpoints if endpoint.alarm), None):
                self._note_trouble("space", full)
            elif any(failure.says == Says.NO_SPACE for failure in self._troubles.values()):
                kept = {kind: one for kind, one in self._troubles.items() if one.says != Says.NO_SPACE}
                self._troubles = kept
                self._tell_trouble()
            await asyncio.sleep(PROBE_INTERVAL)

    def _look_at_certificate(self) -> None:
        """Before it ends: connections that are open go on with it, and then all members refuse it at once."""
        path = self.settings.certificate
        how = ending(path, time.time()) if path else ""
        hint = f"put a new one in its place, with its key; see it: openssl x509 -noout -dates -in {path}"
        self._ending = Failed(f"our certificate {path} {how}", hint) if how else None
        self._tell_members()

    async def look(self) -> None:
        """At each endpoint, once, and whether this user may write; what they say is reported."""
        await asyncio.gather(*map(self._look_at, self._endpoints))
        await self._look_at_rights()

    async def _look_at_rights(self) -> None:
        try:
            async with asyncio.timeout(self.settings.request_timeout):
                await self._ask_at(self.used, WRITES_NOTHING)
            self._denied = None
        except Failed as failure:
            self._denied = failure if failure.says == Says.DENIED else None
        except TimeoutError:
            return
        self._tell_members()

    async def _look_at(self, endpoint: Endpoint) -> None:
        term = self.seen.term
        failure: Failed | None = None
        try:
            async with asyncio.timeout(self.settings.request_timeout):
                status, data = await self._post_as_user(endpoint, wire.STATUS, {})
            standing, header = wire.standing(status, data)
            self._check(endpoint, header, term)
            endpoint.version = standing.version
            endpoint.alarm = None
            if any("NOSPACE" in alarm for alarm in standing.alarms):
                endpoint.alarm = of_answer(Refused(Says.NO_SPACE), endpoint.url, self.settings)
            if not standing.leader:
                failure = of_answer(Refused(Says.NO_LEADER), endpoint.url, self.settings)
        except TimeoutError:
            failure = late(endpoint.url, self.settings.request_timeout)
        except Refused as refused:
            failure = of_answer(refused, endpoint.url, self.settings)
        except Failed as error:
            failure = error
        self._note(endpoint, failure)

    # The watch

    async def _watch(self) -> None:
        delay, failures = SOONEST, 0
        while True:
            endpoint, began = self.used, self._position
            self._stream = stream = asyncio.create_task(self._follow(endpoint))
            stream.add_done_callback(_forget)
            try:
                await stream
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                delay = SOONEST  # to the endpoint that is in use now
            except Failed as failure:
                if failure.says == Says.COMPACTED:
                    self._watching = None
                    self._report(EtcdUnwatched(failure.reason))
                    return
                failures += 1
                if failure.lasts or failures >= len(self._endpoints):
                    self._note_trouble("watch", failure)
                self._note(endpoint, failure)
                self._leave(endpoint)
            if self._position > began:
                delay, failures = SOONEST, 0
            await asyncio.sleep(delay)
            delay = min(delay * 2, LATEST)

    async def _follow(self, endpoint: Endpoint) -> None:
        """One stream. Raises `Failed` at its end."""
        watched = wire.Watched(self.settings.prefix, self._position)
        path, body = wire.watch_request(self.settings.prefix, self._position)
        if self.settings.user and not self._token:
            await self._renew(endpoint, "")
        token = self._token
        try:
            response = await self._request(
                endpoint, "POST", endpoint.path + path, json.dumps(body).encode(), token, None
            )
            try:
                _keep_alive(response)
                if response.status_code != 200:
                    wire.result(response.status_code, await _first(response))
                rest = bytearray()
                async for chunk in _stream_of(response):
                    searched = len(rest)
                    rest += chunk
                    while (end := rest.find(b"\n", searched)) >= 0:
                        self._message(endpoint, watched, bytes(rest[:end]))
                        del rest[: end + 1]
                        searched = 0
                    if len(rest) > wire.LONGEST_ANSWER:
                        raise Refused(Says.GARBAGE, "a message without an end")
                if rest:
                    self._message(endpoint, watched, bytes(rest))
            finally:
                await response.aclose()
        except Refused as refused:
            if refused.says == Says.COMPACTED:
                raise Failed(refused.text, "", says=Says.COMPACTED) from None
            if refused.says in (Says.TOKEN, Says.NO_USER) and self.settings.user:
                await self._renew(endpoint, token)
                return
            raise of_answer(refused, endpoint.url, self.settings) from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise of_connection(error, endpoint.url, self.settings) from None

    def _message(self, endpoint: Endpoint, watched: wire.Watched, line: bytes) -> None:
        header, changes = watched.message(line)
        self._check(endpoint, header, self.seen.term)
        self._troubles.pop("watch", None)
        for change in changes:
            self._position = change.revision
            rows = tuple(row for row in change.rows if row.key.startswith(self._prefixes))
            deleted = tuple(key for key in change.deleted if key.startswith(self._prefixes))
            self._report(EtcdChanged(change.revision, rows, deleted))
        self._skipped = max(self._skipped, watched.skipped)
        self._tell_trouble()

    def _expect(self, question: Question, answer: Rows | TxnDone) -> None:
        """The watch must bring what another answer has already told."""
        if not self._watching:
            return
        keys: Iterable[str] = ()
        if isinstance(answer, TxnDone) and answer.succeeded and not isinstance(question, Range):
            keys = (one.key for one in getattr(question, "then", ()))
        latest = answer.revision if any(key.startswith(self._prefixes) for key in keys) else 0
        latest = max([latest, *(row.revision for row in answer.rows if row.key.startswith(self._prefixes))])
        if latest > self._position and not self._patience:
            later = asyncio.get_running_loop().call_later
            self._patience = later(self.settings.request_timeout, self._look_at_the_watch, latest)

    def _look_at_the_watch(self, expected: int) -> None:
        self._patience = None
        if self._watching and self._position < expected:
            self._leave(self.used)
            self._move_watch()


def _forget(task: asyncio.Task[Any]) -> None:
    """Whoever asked for it has another answer by now: what it raises is nobody's concern."""
    if not task.cancelled():
        task.exception()


async def _close_later(transport: httpx.AsyncHTTPTransport, seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        await transport.aclose()


def _stream_of(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


async def _first(response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in _stream_of(response):
        data += chunk
        if len(data) > wire.LONGEST_TEXT * 10:
            break
    return bytes(data)


def _keep_alive(response: httpx.Response) -> None:
    """A watch that waits for days notices a machine that has gone: after about 4 s."""
    with suppress(AttributeError, KeyError, OSError):
        connection = response.extensions["network_stream"].get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
