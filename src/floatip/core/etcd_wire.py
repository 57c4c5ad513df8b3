"""Questions to etcd as requests of its gRPC gateway (JSON over HTTP), and what it answers as `Answer`s.

The traps of that form (etcd's documentation, "gRPC gateway"; the JSON mapping of proto3): 64-bit integers are strings,
what is false, 0 or empty is left out, keys and values are base64. Whatever comes from etcd is hostile until it is read
here: anything else than a whole, sensible answer raises `Refused`.

The prefix of the configuration is added to keys and taken off here, and nowhere else.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from floatip.core.etcd import (
    Answer,
    Delete,
    Done,
    EtcdChanged,
    Grant,
    Granted,
    KeepAlive,
    Put,
    Question,
    Range,
    Revoke,
    Row,
    Rows,
    Txn,
    TxnDone,
)

LONGEST_ANSWER = 16 << 20
"""Octets of an answer, and of a line of a watch."""
LONGEST_KEY = 1024
"""Octets of a key, with the prefix."""
LONGEST_TEXT = 200
"""Characters of what an error says."""
BITS = 64
KEEPALIVE, GRANT, REVOKE = "lease/keepalive", "lease/grant", "lease/revoke"
RANGE, TXN, WATCH = "kv/range", "kv/txn", "watch"
STATUS, AUTHENTICATE = "maintenance/status", "auth/authenticate"


class Says(StrEnum):
    """What an error of etcd means to whoever asked."""

    TOKEN = "token"
    """The token of the user is not valid (any more)."""
    NO_USER = "no user"
    """It wants a user and none was named."""
    PASSWORD = "password"
    NO_AUTH = "no auth"
    """A user was named, and it asks for none."""
    DENIED = "denied"
    NO_LEASE = "no lease"
    NO_LEADER = "no leader"
    NO_SPACE = "no space"
    NO_GATEWAY = "no gateway"
    """Nothing is at that path."""
    PLAIN = "plain"
    """HTTP was spoken to a port of HTTPS."""
    COMMON_NAME = "common name"
    """It asks for users, and its gateway takes no certificate of a client that has a common name."""
    COMPACTED = "compacted"
    OTHER = "other"
    GARBAGE = "garbage"
    """No answer of etcd at all."""


class Refused(Exception):
    """An error, or no answer of etcd; `text`: what it said, of hostile origin."""

    def __init__(self, says: Says, text: str = "", status: int = 200) -> None:
        """`status`: of HTTP."""
        super().__init__(says, text)
        self.says = says
        self.text = text[:LONGEST_TEXT]
        self.status = status


@dataclass(frozen=True, slots=True)
class Header:
    """Of an answer: who gave it."""

    cluster: int
    member: int
    revision: int
    """0: not told."""
    term: int
    """Of raft: grows with each election of a leader."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member says of itself."""

    version: str
    leader: int
    """0: it knows none."""
    alarms: tuple[str, ...]


# Requests


def request(question: Question, prefix: str) -> tuple[str, dict[str, Any]]:
    """The path, below `/v3/`, and the body."""
    match question:
        case Grant():
            return GRANT, {"TTL": str(question.ttl)}
        case KeepAlive():
            return KEEPALIVE, {"ID": str(question.lease)}
        case Revoke():
            return REVOKE, {"ID": str(question.lease)}
        case Range():
            body = _below(prefix + question.prefix)
            if question.newer_than:
                body["min_mod_revision"] = str(question.newer_than + 1)
            return RANGE, body
        case Txn():
            compares = [
                {
                    "key": _base64(prefix + one.key),
                    "target": "MOD",
                    "result": "EQUAL",
                    "mod_revision": str(one.revision),
                }
                for one in question.compares
            ]
            reads = [{"request_range": {"key": _base64(prefix + key)}} for key in question.otherwise]
            writes = [_write(one, prefix) for one in question.then]
            return TXN, {"compare": compares, "success": writes, "failure": reads}


def watch_request(prefix: str, revision: int) -> tuple[str, dict[str, Any]]:
    """All keys of the fleet, after `revision`."""
    wanted = {"start_revision": str(revision + 1), "progress_notify": True, "fragment": True}
    return WATCH, {"create_request": _below(prefix) | wanted}


def _write(one: Put | Delete, prefix: str) -> dict[str, Any]:
    key = _base64(prefix + one.key)
    if isinstance(one, Delete):
        return {"request_delete_range": {"key": key}}
    lease = {"lease": str(one.lease)} if one.lease else {}
    return {"request_put": {"key": key, "value": _base64(one.value)} | lease}


def _below(prefix: str) -> dict[str, Any]:
    """A range of all keys that begin so. The last octet of UTF-8 is below 255, so it has a successor."""
    octets = prefix.encode()
    return {"key": _base64(prefix), "range_end": b64encode(octets[:-1] + bytes((octets[-1] + 1,))).decode()}


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


# Answers


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises `Refused`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(Says.GARBAGE, data[:LONGEST_TEXT].decode(errors="replace"))
    return value


def answer(question: Question, prefix: str, status: int, data: bytes) -> tuple[Answer, Header, int]:
    """And how many keys it left out, because they are no text or too long. `status`: of HTTP. Raises `Refused`."""
    try:
        said = result(status, data)
    except Refused as refused:
        if refused.says == Says.NO_LEASE and isinstance(question, KeepAlive | Revoke):
            nobody = Header(0, 0, 0, 0)
            return (Granted(question.lease, 0) if isinstance(question, KeepAlive) else Done()), nobody, 0
        raise
    head = header(said)
    match question:
        case Grant() | KeepAlive():
            lease, ttl = _number(said, "ID"), _number(said, "TTL")
            if not lease or (isinstance(question, KeepAlive) and lease != question.lease):
                raise Refused(Says.GARBAGE, "an answer for another lease")
            return Granted(lease, ttl), head, 0
        case Revoke():
            return Done(), head, 0
        case Range():
            if said.get("more"):
                raise Refused(Says.GARBAGE, "an answer that is not whole")
            rows, skipped = _rows([said], prefix)
            if any(not row.key.startswith(question.prefix) for row in rows):
                raise Refused(Says.GARBAGE, "keys that nobody asked for")
            return Rows(_revision(head), rows), head, skipped
        case Txn():
            if said.get("succeeded") is True:
                return TxnDone(True, _revision(head)), head, 0
            reads = [_object(one, "response_range") for one in _list(said, "responses")]
            if len(reads) != len(question.otherwise):
                raise Refused(Says.GARBAGE, "not all that was asked for")
            rows, _ = _rows(reads, prefix)
            if any(row.key not in question.otherwise for row in rows):
                raise Refused(Says.GARBAGE, "keys that nobody asked for")
            return TxnDone(False, _revision(head), rows), head, 0


def result(status: int, data: bytes) -> dict[str, Any]:
    """Of an answer that is one message, or of a stream of which it is the first. Raises `Refused`."""
    if status != 200:
        raise _error(status, data)
    said = parsed(data)
    if "error" in said:
        raise _error(status, data)
    return _object(said, "result") if "result" in said else said


def header(said: dict[str, Any]) -> Header:
    head = _object(said, "header")
    cluster, member, revision, term = (
        _number(head, name) for name in ("cluster_id", "member_id", "revision", "raft_term")
    )
    if not (cluster and member):
        raise Refused(Says.GARBAGE, "an answer without a cluster")
    return Header(cluster, member, revision, term)


def standing(status: int, data: bytes) -> tuple[Standing, Header]:
    """What it answers to `STATUS`."""
    said = result(status, data)
    version = said.get("version", "")
    alarms = [text for text in _list(said, "errors") if isinstance(text, str)]
    if not isinstance(version, str):
        raise Refused(Says.GARBAGE, "a version that is no text")
    shown = tuple(text[:LONGEST_TEXT] for text in alarms[:4])
    return Standing(version[:20], _number(said, "leader"), shown), header(said)


def token(status: int, data: bytes) -> str:
    """What it answers to `AUTHENTICATE`: for the header `Authorization`."""
    said = result(status, data).get("token")
    if not (isinstance(said, str) and 0 < len(said) <= 4096 and said.isascii() and said.isprintable()):
        raise Refused(Says.GARBAGE, "no token")
    return said


class Watched:
    """Puts the messages of one watch together: what belongs to one revision comes at once."""

    def __init__(self, prefix: str, revision: int) -> None:
        self._prefix = prefix
        self.revision = revision
        """Up to it everything is told."""
        self.skipped = 0
        """Keys that are no text, or too long."""
        self._events: list[Any] = []
        """Of a message whose fragments are not all here."""

    def message(self, line: bytes) -> tuple[Header, list[EtcdChanged]]:
        """Raises `Refused`; COMPACTED: there is a gap."""
        said = result(200, line)
        head = header(said)
        if said.get("canceled"):
            if _number(said, "compact_revision"):
                raise Refused(Says.COMPACTED, f"revision {self.revision} is compacted")
            reason = said.get("cancel_reason", "")
            raise Refused(_meaning(0, str(reason)), str(reason))
        self._events += _list(said, "events")
        if len(self._events) * 100 > LONGEST_ANSWER:
            raise Refused(Says.GARBAGE, "a message without an end")
        if said.get("fragment"):
            return head, []
        events, self._events = self._events, []
        if events:
            return head, list(self._changes(events))
        if not said.get("created"):  # progress: all up to here is told
            self.revision = max(self.revision, head.revision)
            return head, [EtcdChanged(self.revision, ())]
        return head, []

    def _changes(self, events: list[Any]) -> Iterator[EtcdChanged]:
        """Whole revisions, as many as there are until a key changes a second time."""
        rows: dict[str, Row] = {}
        deleted: dict[str, None] = {}
        for event in events:
            kv = _object(event, "kv")
            revision = _number(kv, "mod_revision")
            if revision < self.revision or not revision:
                raise Refused(Says.GARBAGE, "revisions that run backwards")
            row = _row(kv, self._prefix)
            if (row and (row.key in rows or row.key in deleted)) and revision > self.revision:
                yield EtcdChanged(self.revision, tuple(rows.values()), tuple(deleted))
                rows, deleted = {}, {}
            self.revision = revision
            if not row:
                self.skipped += 1
            elif event.get("type") in ("DELETE", 1):
                deleted[row.key] = None
            else:
                rows[row.key] = row
        yield EtcdChanged(self.revision, tuple(rows.values()), tuple(deleted))


def _rows(said: Iterable[dict[str, Any]], prefix: str) -> tuple[tuple[Row, ...], int]:
    found = [_row(kv, prefix) for one in said for kv in _list(one, "kvs")]
    return tuple(row for row in found if row), found.count(None)


def _row(kv: Any, prefix: str) -> Row | None:
    """None: the key is no text, or too long. A value that is no text stays, with marks in place of what is wrong."""
    key, value = _octets(kv, "key"), _octets(kv, "value")
    revision, lease = _number(kv, "mod_revision"), _number(kv, "lease")
    if not (key and revision):
        raise Refused(Says.GARBAGE, "a row without a key or a revision")
    try:
        name = key.decode() if len(key) <= LONGEST_KEY else ""
    except UnicodeDecodeError:
        name = ""
    if not name:
        return None
    if not name.startswith(prefix):
        raise Refused(Says.GARBAGE, "keys that nobody asked for")
    return Row(name.removeprefix(prefix), value.decode(errors="replace"), revision, lease)


def _revision(head: Header) -> int:
    if not head.revision:
        raise Refused(Says.GARBAGE, "an answer without a revision")
    return head.revision


def _object(said: Any, name: str) -> dict[str, Any]:
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, dict):
        raise Refused(Says.GARBAGE, f"no {name}")
    return value


def _list(said: dict[str, Any], name: str) -> list[Any]:
    value = said.get(name, [])
    if not isinstance(value, list):
        raise Refused(Says.GARBAGE, f"a {name} that is no list")
    return value


def _number(said: dict[str, Any], name: str) -> int:
    value = said.get(name, 0)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << BITS:
        raise Refused(Says.GARBAGE, f"a {name} that is no number")
    return value


def _octets(said: Any, name: str) -> bytes:
    value = said.get(name, "") if isinstance(said, dict) else None
    try:
        if isinstance(value, str):
            return b64decode(value, validate=True)
    except ValueError:
        pass
    raise Refused(Says.GARBAGE, f"a {name} that is not base64")


# Errors

_WORDS = {
    "invalid auth token": Says.TOKEN,
    "revision of auth store is old": Says.TOKEN,
    "user name is empty": Says.NO_USER,
    "authentication failed": Says.PASSWORD,
    "authentication is not enabled": Says.NO_AUTH,
    "permission denied": Says.DENIED,
    "lease not found": Says.NO_LEASE,
    "no leader": Says.NO_LEADER,
    "database space exceeded": Says.NO_SPACE,
    "has been compacted": Says.COMPACTED,
    "HTTP request to an HTTPS server": Says.PLAIN,
    "CommonName of client": Says.COMMON_NAME,
}
"""The errors of etcd that share a code differ in their words only (api/v3rpc/rpctypes/error.go)."""


def _error(status: int, data: bytes) -> Refused:
    """{"error", "message", "code"} up to etcd 3.5, without "error" later; in a stream, an object below "error"."""
    text, is_json = "", False
    try:
        said = json.loads(data)
        is_json = True
        inner = said.get("error", said) if isinstance(said, dict) else None
        text = (inner if isinstance(inner, dict) else said).get("message", "")
    except (ValueError, RecursionError, AttributeError):
        pass
    if isinstance(text, str) and text:
        return Refused(_meaning(status, text), text, status)
    text = data[:LONGEST_TEXT].decode(errors="replace")
    if status == 404:
        return Refused(Says.NO_GATEWAY, text, status)
    says = _meaning(status, text) if status == 400 else Says.OTHER
    if says == Says.OTHER:  # a proxy, or whatever listens there: JSON of others is for programs
        return Refused(Says.GARBAGE, "" if is_json and status != 200 else text, status)
    return Refused(says, text, status)


def _meaning(status: int, text: str) -> Says:
    return next((says for words, says in _WORDS.items() if words in text), Says.OTHER)
