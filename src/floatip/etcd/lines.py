"""What the daemon and the process that speaks with etcd say to each other: a list in JSON, one packet each.

Questions go one way in one packet. What may be long comes the other way in parts, none of which keeps the daemon's loop
for a millisecond; `Parts` puts them together.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from floatip.core.etcd import (
    Answer,
    Compare,
    Delete,
    Done,
    EtcdChanged,
    EtcdEndpoint,
    EtcdMembers,
    EtcdTrouble,
    EtcdUnwatched,
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
    Unknown,
)
from floatip.text import printable

MOST_ROWS, LONGEST_PIECE = 64, 1 << 12
"""Of a packet: rows, and characters of keys and values (of which JSON makes up to twelve octets each)."""
LARGEST = 1 << 17
"""Octets of a packet, either way."""
LONGEST_TEXT = 1000
MOST_ENDPOINTS = 64
MOST_HELD = 64 << 20
"""Characters of an answer that is put together."""


@dataclass(frozen=True, slots=True)
class Met:
    """What the process knows of the cluster (`client.Seen`), for its successor."""

    cluster: int = 0
    term: int = 0
    endpoint: str = ""


Told = EtcdChanged | EtcdUnwatched | EtcdTrouble | EtcdMembers


def of_settings(settings: dict[str, Any], met: Met) -> bytes:
    return json.dumps(["configure", settings, (met.cluster, met.term, met.endpoint)], default=str).encode()


def of_watch(prefixes: tuple[str, ...], revision: int) -> bytes:
    return json.dumps(["watch", prefixes, revision]).encode()


def of_met(met: Met) -> bytes:
    return _packet("met", met.cluster, met.term, met.endpoint)


def of_question(number: int, question: Question) -> bytes:
    match question:
        case Grant():
            what: list[Any] = ["grant", question.ttl]
        case KeepAlive():
            what = ["keepalive", question.lease]
        case Revoke():
            what = ["revoke", question.lease]
        case Range():
            what = ["range", question.prefix, question.newer_than]
        case Txn():
            compares = [(one.key, one.revision) for one in question.compares]
            writes = [(one.key, one.value, one.lease) if isinstance(one, Put) else (one.key,) for one in question.then]
            what = ["txn", compares, writes, question.otherwise]
    return json.dumps(["ask", number, what]).encode()


def question(what: list[Any]) -> Question:
    match what:
        case ["grant", ttl]:
            return Grant(ttl)
        case ["keepalive", lease]:
            return KeepAlive(lease)
        case ["revoke", lease]:
            return Revoke(lease)
        case ["range", prefix, newer_than]:
            return Range(prefix, newer_than)
        case ["txn", compares, writes, otherwise]:
            then = (Put(*one) if len(one) == 3 else Delete(*one) for one in writes)
            return Txn(tuple(Compare(*one) for one in compares), tuple(then), tuple(otherwise))
    raise ValueError(what)


def of_answer(number: int, answer: Answer) -> Iterator[bytes]:
    match answer:
        case Granted():
            yield _packet("answer", number, "granted", answer.lease, answer.ttl)
        case Done():
            yield _packet("answer", number, "done")
        case Unknown():
            yield _packet("answer", number, "unknown", answer.reason[:LONGEST_TEXT])
        case Rows():
            yield from _rows(number, answer.rows)
            yield _packet("answer", number, "rows", answer.revision)
        case TxnDone():
            yield from _rows(number, answer.rows)
            yield _packet("answer", number, "txn", answer.succeeded, answer.revision)


def of_told(event: Told) -> Iterator[bytes]:
    match event:
        case EtcdChanged():
            yield from _rows(0, event.rows)
            for keys in _chunks(event.deleted):
                yield _packet("deleted", keys)
            yield _packet("changed", event.revision)
        case EtcdUnwatched():
            yield _packet("unwatched", event.reason[:LONGEST_TEXT])
        case EtcdTrouble():
            yield _packet("trouble", event.reason[:LONGEST_TEXT], event.hint[:LONGEST_TEXT])
        case EtcdMembers():
            views = [
                (one.url, one.answers, one.reason[:LONGEST_TEXT], one.hint[:LONGEST_TEXT], one.in_use, one.version)
                for one in event.endpoints[:MOST_ENDPOINTS]
            ]
            yield _packet("members", views, event.skipped)


def _rows(number: int, rows: tuple[Row, ...]) -> Iterator[bytes]:
    """0: of a change. A value that is longer than a packet may be comes in pieces, its row at the end."""
    batch: list[tuple[str, str, int, int]] = []
    size = 0
    for row in rows:
        value = row.value
        while len(value) > LONGEST_PIECE:
            yield _packet("piece", number, value[:LONGEST_PIECE])
            value = value[LONGEST_PIECE:]
        if batch and (len(value) < len(row.value) or len(batch) == MOST_ROWS or size + len(value) > LONGEST_PIECE):
            yield _packet("row", number, batch)
            batch, size = [], 0
        batch.append((row.key, value, row.revision, row.lease))
        size += len(row.key) + len(value)
        if len(value) < len(row.value):
            yield _packet("row", number, batch)
            batch, size = [], 0
    if batch:
        yield _packet("row", number, batch)


def _chunks(keys: tuple[str, ...]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for key in keys:
        if chunk and (len(chunk) == MOST_ROWS or size + len(key) > LONGEST_PIECE):
            yield chunk
            chunk, size = [], 0
        chunk.append(key)
        size += len(key)
    if chunk:
        yield chunk


def _packet(*what: Any) -> bytes:
    return json.dumps(what).encode()


class Parts:
    """What the process says, for the daemon. Whatever is wrong with it raises ValueError, TypeError or KeyError."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Row]] = {}
        self._pieces: dict[int, list[str]] = {}
        self._deleted: list[str] = []
        self._held = 0

    def heard(self, packet: bytes) -> tuple[int, Answer] | Told | Met | None:
        """A whole answer with its number, or news; None: there is more to come."""
        match json.loads(packet):
            case ["piece", int(number), str(text)]:
                self._hold(len(text))
                self._pieces.setdefault(number, []).append(text)
            case ["row", int(number), [*rows]]:
                self._hold(len(packet))
                found = [_row(row) for row in rows]
                if pieces := self._pieces.pop(number, None):
                    first = found[0]
                    found[0] = Row(first.key, "".join(pieces) + first.value, first.revision, first.lease)
                self._rows.setdefault(number, []).extend(found)
            case ["deleted", [*keys]]:
                self._hold(len(packet))
                self._deleted += [_text(key) for key in keys]
            case ["changed", int(revision)]:
                deleted, self._deleted = tuple(self._deleted), []
                return EtcdChanged(revision, self._take(0), deleted)
            case ["answer", int(number), kind, *fields]:
                return number, self._answer(number, kind, fields)
            case ["met", int(cluster), int(term), str(endpoint)]:
                return Met(cluster, term, endpoint)
            case ["unwatched", reason]:
                return EtcdUnwatched(_shown(reason))
            case ["trouble", reason, hint]:
                return EtcdTrouble(_shown(reason), _shown(hint))
            case ["members", [*views], int(skipped)]:
                return EtcdMembers(tuple(map(_endpoint, views)), skipped)
            case other:
                raise ValueError(str(other)[:LONGEST_TEXT])
        return None

    def _answer(self, number: int, kind: str, fields: list[Any]) -> Answer:
        rows = self._take(number)
        match kind, fields:
            case "granted", [int(lease), int(ttl)]:
                return Granted(lease, ttl)
            case "done", []:
                return Done()
            case "unknown", [reason]:
                return Unknown(_shown(reason))
            case "rows", [int(revision)]:
                return Rows(revision, rows)
            case "txn", [bool(succeeded), int(revision)]:
                return TxnDone(succeeded, revision, rows)
        raise ValueError(kind)

    def _take(self, number: int) -> tuple[Row, ...]:
        rows = tuple(self._rows.pop(number, ()))
        if not self._rows and not self._pieces:
            self._held = 0
        return rows

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MOST_HELD:
            raise ValueError("an answer without an end")


def _row(told: Any) -> Row:
    key, value, revision, lease = told
    if not (isinstance(revision, int) and isinstance(lease, int)):
        raise ValueError
    return Row(_text(key), _text(value), revision, lease)


def _endpoint(told: Any) -> EtcdEndpoint:
    url, answers, reason, hint, in_use, version = told
    if not (answers in (None, True, False) and isinstance(in_use, bool)):
        raise ValueError
    return EtcdEndpoint(_shown(url), answers, _shown(reason), _shown(hint), in_use, _shown(version))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _shown(value: Any) -> str:
    """What people may see."""
    return printable(_text(value)[:LONGEST_TEXT])
