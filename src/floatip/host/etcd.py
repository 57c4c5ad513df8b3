"""The daemon's side of the process that speaks with etcd (`floatip.etcd`): the core's questions and watch, and others.

Each question is answered once, with `Unknown` where the process is not there or does not answer. One watch serves the
core and whoever follows a prefix: each gets what is later than what it knows.
"""

import asyncio
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial

from floatip.core.etcd import (
    Answer,
    AskEtcd,
    EtcdAnswered,
    EtcdChanged,
    EtcdMembers,
    EtcdTrouble,
    EtcdUnwatched,
    Question,
    Range,
    Row,
    Rows,
    Unknown,
    WatchEtcd,
)
from floatip.core.events import Event
from floatip.etcd import lines
from floatip.host.helper_process import HelperProcess
from floatip.host.workers import Handle
from floatip.model import Etcd as Configured

MARGIN = 0.25
"""Seconds that the process has for its own timeout."""
HANGS_AFTER, STARTS_WITHIN = 10.0, 60.0
"""Seconds for which the process is asked and says nothing, until it is started again; the second: since its start.

On a busy machine it answers late, and takes seconds to start: to start it again would take longer.
"""
RETRY_INTERVAL = 1.0
"""Seconds until a prefix is read again that could not be read."""
NAME = "the process that speaks with etcd"
HINT = "floatip starts it again; if it goes on to end, report this line"

Answered = Callable[[Answer], None]
Rows_ = Mapping[str, Row]
Changed = Callable[[Rows_], None]


@dataclass(slots=True)
class _Watching:
    """The core."""

    prefixes: tuple[str, ...]
    position: int


@dataclass(slots=True)
class _Following:
    """Somebody else who wants to know all rows below a prefix."""

    prefix: str
    changed: Changed
    rows: dict[str, Row] = field(default_factory=dict)
    position: int = 0
    is_read: bool = False


class Etcd:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._report = report
        self._etcd: Configured | None = None
        self._process = HelperProcess("floatip.etcd", self, socket.SOCK_SEQPACKET)
        self._parts = lines.Parts()
        self._met = lines.Met()
        self._last = 0
        self._open: dict[int, tuple[Answered, Handle]] = {}
        self._hangs_at = math.inf
        """Unless it says something before that. It owes no answer: infinite."""
        self._why = f"{NAME} is not there"
        self._trouble: EtcdTrouble | None = None
        """As it was told."""
        self._watching: _Watching | None = None
        self._following: dict[str, _Following] = {}
        self._is_about_to_watch = False

    @property
    def is_gone(self) -> bool:
        """Nothing is left of the process."""
        return self._process.is_gone

    def configure(self, etcd: Configured | None) -> None:
        """The process looks for itself whether the files that it names have changed."""
        if etcd == self._etcd:
            return
        old, self._etcd = self._etcd, etcd
        self._trouble = None
        if old and etcd and (old.endpoints, old.prefix) != (etcd.endpoints, etcd.prefix):
            self._met = lines.Met()  # it may be another etcd
            self._unwatched(EtcdUnwatched("the configuration names another etcd"))
        if not etcd:
            self._process.unwant()
            self._lose(f"{NAME} is not wanted any more")
        elif self._process.is_connected:
            self._tell()
        else:
            self._process.want()

    def close(self) -> None:
        self._etcd = None
        for _, timer in self._open.values():
            timer.cancel()
        self._open.clear()
        self._process.close()

    # Questions

    def perform(self, effect: AskEtcd | WatchEtcd) -> None:
        """What the core asks."""
        if isinstance(effect, AskEtcd):
            self.ask(effect.question, partial(self._answered, effect.number))
        else:
            self._watching = _Watching(effect.prefixes, effect.revision) if effect.prefixes else None
            self._read_what_is_ahead(effect.revision)
            self._watch_soon()

    def _read_what_is_ahead(self, revision: int) -> None:
        """Where the core follows from an earlier revision, the store may be an older or another one: a follower would
        not see a change before the store has caught up.
        """
        for one in self._following.values():
            if one.is_read and one.position > revision:
                one.is_read = False
                self._loop.call_soon(self._read, one)

    def _answered(self, number: int, answer: Answer) -> None:
        self._report(EtcdAnswered(number, answer))

    def ask(self, question: Question, answered: Answered) -> None:
        """`answered` is called once, later, within the request timeout and `MARGIN`."""
        if not (self._etcd and self._process.is_connected):
            self._loop.call_soon(answered, Unknown(self._why))
            return
        self._last += 1
        packet = lines.of_question(self._last, question)
        if len(packet) > lines.LARGEST:
            self._loop.call_soon(answered, Unknown("the question is too large"))
        elif not self._process.send(packet):
            self._loop.call_soon(answered, Unknown(f"{NAME} does not read what it is told"))
            self._miss()
        else:
            if self._hangs_at == math.inf:
                self._hangs_at = self._loop.time() + HANGS_AFTER
            timer = self._loop.call_later(self._etcd.request_timeout + MARGIN, self._expire, self._last)
            self._open[self._last] = answered, timer

    def _expire(self, number: int) -> None:
        answered, _ = self._open.pop(number)
        self._miss()
        answered(Unknown(f"{NAME} does not answer"))

    def _miss(self) -> None:
        if self._loop.time() > self._hangs_at:
            self._process.end()

    # Watching

    def follow(self, prefix: str, changed: Changed) -> None:
        """`changed` is called with all rows below the prefix when they are known, and at each change: never at once.

        The rows are those of this moment: the mapping changes later. One follower a prefix.
        """
        self._following[prefix] = one = _Following(prefix, changed)
        self._loop.call_soon(self._read, one)

    def forget(self, prefix: str) -> None:
        self._following.pop(prefix, None)

    def _read(self, one: _Following) -> None:
        if self._following.get(one.prefix) is one and self._etcd:
            self.ask(Range(one.prefix), partial(self._was_read, one))

    def _was_read(self, one: _Following, answer: Answer) -> None:
        if self._following.get(one.prefix) is not one:
            return
        if not isinstance(answer, Rows):
            self._loop.call_later(RETRY_INTERVAL, self._read, one)
            return
        one.rows = {row.key: row for row in answer.rows}
        one.position, one.is_read = answer.revision, True
        self._watch_soon()
        one.changed(one.rows)

    def _watch_soon(self) -> None:
        if not self._is_about_to_watch:
            self._is_about_to_watch = True
            self._loop.call_soon(self._watch)

    def _watch(self) -> None:
        self._is_about_to_watch = False
        followed = [one for one in self._following.values() if one.is_read]
        prefixes = (*(self._watching.prefixes if self._watching else ()), *(one.prefix for one in followed))
        positions = [one.position for one in (self._watching, *followed) if one]
        if self._process.is_connected and not self._process.send(lines.of_watch(prefixes, min(positions, default=0))):
            self._process.end()

    def _changed(self, event: EtcdChanged) -> None:
        if (core := self._watching) and event.revision > core.position:
            rows = tuple(
                row for row in event.rows if row.key.startswith(core.prefixes) and row.revision > core.position
            )
            deleted = tuple(key for key in event.deleted if key.startswith(core.prefixes))
            core.position = event.revision
            if rows or deleted:
                self._report(EtcdChanged(event.revision, rows, deleted))
        for one in list(self._following.values()):
            if one.is_read and event.revision > one.position:
                self._changed_for(one, event)

    def _changed_for(self, one: _Following, event: EtcdChanged) -> None:
        rows = {row.key: row for row in event.rows if row.key.startswith(one.prefix) and row.revision > one.position}
        # Of what a change names twice, it is made of two: what was deleted here is not there at a later position.
        deleted = [key for key in event.deleted if key in one.rows and key.startswith(one.prefix)]
        one.position = event.revision
        one.rows |= rows
        for key in deleted:
            del one.rows[key]
        if rows or deleted:
            one.changed(one.rows)

    def _unwatched(self, event: EtcdUnwatched) -> None:
        if self._watching:
            self._watching = None
            self._report(event)
        for one in self._following.values():
            one.is_read = False
            self._loop.call_soon(self._read, one)

    # The process

    def began(self) -> None:
        self._parts = lines.Parts()
        self._hangs_at = self._loop.time() + STARTS_WITHIN
        self._tell()

    def _tell(self) -> None:
        assert self._etcd
        settings = asdict(self._etcd)
        if not self._process.send(lines.of_settings(settings, self._met)):
            self._process.end()
        self._watch_soon()
        for one in self._following.values():
            if not one.is_read:
                self._loop.call_soon(self._read, one)

    def heard(self, data: bytes) -> None:
        self._hangs_at = math.inf
        try:
            said = self._parts.heard(data)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):  # of hostile origin
            self._process.end()
            return
        match said:
            case (int(number), answer):
                if asked := self._open.pop(number, None):
                    answered, timer = asked
                    timer.cancel()
                    answered(answer)
            case EtcdChanged():
                self._changed(said)
            case EtcdUnwatched():
                self._unwatched(said)
            case EtcdTrouble():
                self._tell_trouble(said)
            case EtcdMembers():
                self._report(said)
            case lines.Met():
                self._met = said

    def lost(self, reason: str) -> None:
        self._lose(f"{NAME} ended: {reason}")
        if not (self._trouble and self._trouble.reason):  # it may have said why
            self._tell_trouble(EtcdTrouble(self._why, HINT))

    def gone(self) -> None:
        pass

    def _lose(self, why: str) -> None:
        self._why = why
        asked, self._open = self._open, {}
        for answered, timer in asked.values():
            timer.cancel()
            self._loop.call_soon(answered, Unknown(why))

    def _tell_trouble(self, trouble: EtcdTrouble) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._report(trouble)
