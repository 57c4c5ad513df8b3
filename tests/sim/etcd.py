"""An etcd in virtual time, as far as a node sees it: questions and answers, a watch, and what goes wrong with them.

`Store` is the replicated state: one order of revisions, rows, and leases that end no sooner than their ttl, looked at
each half second, and that a new leader extends by their ttl and the election time. `Etcd` is the way there: members
that are gone or without a leader, clients that are cut off or speak with a leader that is none any more, answers that
are lost, and writes that are done after their asker has got `Unknown`. Reads are linearizable; a watch may lag.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import Any, Protocol

from floatip.core.etcd import (
    Answer,
    Delete,
    Done,
    EtcdChanged,
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
from tests.linearizable import Asked

ELECTION = 1.0
"""Seconds: no lease is shorter than one and a half of it, and a new leader extends each by its ttl and this."""
EXPIRY_INTERVAL = 0.5
LATENCY = 0.0003, 0.002
"""Seconds one way, with the round among the members that a write and a linearizable read need."""
RECONNECT = 0.05, 1.0
"""Seconds until a client whose way was cut reads its watch again."""
HAND = "by hand"


class Time(Protocol):
    now: float

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """All that one revision did."""

    revision: int
    at: float
    rows: tuple[Row, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(slots=True)
class Lease:
    ttl: int
    ends_at: float
    keys: set[str] = field(default_factory=set)


class Full(Exception):
    """NOSPACE: what would take space is refused."""


class Store:
    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.rows: dict[str, Row] = {}
        self.leases: dict[int, Lease] = {}
        self.changes: list[Change] = []
        self.is_full = False
        self.granted: dict[int, int] = {}
        """The ttl of every lease that ever was."""

    def do(self, question: Question, now: float) -> Answer:
        match question:
            case Grant(ttl):
                self._need_space()
                number, ttl = 1000 + len(self.granted), max(ttl, ceil(1.5 * ELECTION))
                self.granted[number], self.leases[number] = ttl, Lease(ttl, now + ttl)
                return Granted(number, ttl)
            case KeepAlive(number):
                lease = self.leases.get(number)
                if lease is None:
                    return Granted(number, 0)
                lease.ends_at = now + lease.ttl
                return Granted(number, lease.ttl)
            case Revoke(number):
                self._end(number, now)
                return Done()
            case Range(prefix, newer_than):
                rows = (row for key, row in sorted(self.rows.items()) if key.startswith(prefix))
                return Rows(self.revision, tuple(row for row in rows if row.revision > newer_than))
            case Txn(compares, then, otherwise):
                if any(self._revision_of(each.key) != each.revision for each in compares):
                    return TxnDone(False, self.revision, tuple(self.rows[k] for k in otherwise if k in self.rows))
                if any(isinstance(each, Put) and each.lease and each.lease not in self.leases for each in then):
                    return Unknown("etcdserver: requested lease not found")
                if any(isinstance(each, Put) for each in then):
                    self._need_space()
                self._write(then, now)
                return TxnDone(True, self.revision)

    def _need_space(self) -> None:
        if self.is_full:
            raise Full

    def _revision_of(self, key: str) -> int:
        return self.rows[key].revision if key in self.rows else 0

    def _write(self, writes: tuple[Put | Delete, ...], now: float) -> None:
        """All in one revision, as a transaction; one that deletes what is not there has none."""
        writes = tuple(each for each in writes if isinstance(each, Put) or each.key in self.rows)
        if not writes:
            return
        self.revision += 1
        for each in writes:
            if (old := self.rows.pop(each.key, None)) and old.lease in self.leases:
                self.leases[old.lease].keys.discard(each.key)
            if isinstance(each, Put):
                self.rows[each.key] = Row(each.key, each.value, self.revision, each.lease)
                if each.lease:
                    self.leases[each.lease].keys.add(each.key)
        put = tuple(self.rows[each.key] for each in writes if isinstance(each, Put))
        gone = tuple(each.key for each in writes if isinstance(each, Delete))
        self.changes.append(Change(self.revision, now, put, gone))

    def _end(self, number: int, now: float) -> None:
        if lease := self.leases.get(number):
            self._write(tuple(map(Delete, sorted(lease.keys))), now)
            del self.leases[number]

    def expire(self, now: float) -> None:
        for number in [number for number, lease in self.leases.items() if lease.ends_at <= now]:
            self._end(number, now)

    def promote(self, now: float) -> None:
        """There is a new leader, who does not know how old a lease is."""
        for lease in self.leases.values():
            lease.ends_at = now + lease.ttl + ELECTION

    def compact(self) -> None:
        self.compacted = self.revision
        self.changes.clear()


@dataclass(eq=False, slots=True)
class Pending:
    """A question whose asker waits."""

    client: str
    question: Question
    start: float
    answered: Callable[[Answer], None]
    cluster: int
    is_settled: bool = False
    is_kept: bool = False
    """It is done when there is a way again, though nobody waits for it any more."""


@dataclass(eq=False, slots=True)
class Watch:
    prefixes: tuple[str, ...]
    sent: int
    """All up to this revision was told."""
    cluster: int
    changed: Callable[[EtcdChanged | EtcdUnwatched], None]
    is_over: bool = False


class Etcd:
    """`cut`, `stale`, `lag`: of clients, by name."""

    def __init__(self, time: Time, random: Random) -> None:
        self.store = Store()
        self.cluster = 1
        """Another one after a restore."""
        self.cut: set[str] = set()
        self.stale: set[str] = set()
        """They speak with a leader that the others have left: it renews leases, as until 3.4.25, and nothing else."""
        self.lag: dict[str, float] = defaultdict(float)
        """Seconds by which a watch is late."""
        self.is_gone = False
        self.slowness = 0.0
        """Seconds that an answer takes, up to twice that."""
        self.lost = 0.0
        """The share of answers that do not come."""
        self.late = 0.0
        """The share of writes that are done after the asker has got no answer."""
        self.asked: list[Asked] = []
        """All that was asked of this cluster, for the checker of linearizability."""
        self.count = 0
        """Of questions."""
        self._time = time
        self._random = random
        self.elected_at = 0.0
        self._has_leader = True
        self._elections = 0
        self._waiting: list[Pending] = []
        self._watches: dict[str, Watch] = {}
        self._expire()

    @property
    def answers(self) -> bool:
        """Whether it can, for those that reach it."""
        return self._has_leader and not self.is_gone

    def reaches(self, client: str) -> bool:
        return client not in self.cut and client not in self.stale

    # Questions

    def ask(self, client: str, question: Question, timeout: float, answered: Callable[[Answer], None]) -> None:
        self.count += 1
        random, now = self._random, self._time.now
        pending = Pending(client, question, now, answered, self.cluster)
        self._time.at(now + timeout, self._settle, pending, Unknown("timed out"))
        delay = random.uniform(*LATENCY) + (random.uniform(0.5, 2.0) * self.slowness if self.slowness else 0.0)
        if self.late and isinstance(question, Txn | Grant) and random.random() < self.late:
            delay += timeout + random.uniform(0.0, 8.0)
            pending.is_kept = True
        self._time.at(now + delay, self._arrive, pending)

    def _settle(self, pending: Pending, answer: Answer) -> None:
        if not pending.is_settled:
            pending.is_settled = True
            if pending.cluster == self.cluster:
                self.asked.append(Asked(pending.client, pending.question, answer, pending.start, self._time.now))
            pending.answered(answer)

    def _arrive(self, pending: Pending) -> None:
        random = self._random
        if (pending.is_settled and not pending.is_kept) or pending.cluster != self.cluster:
            return  # the client has closed the connection before it was sent, or the members were stopped meanwhile
        if pending.client in self.stale:
            if isinstance(pending.question, KeepAlive):
                number = pending.question.lease
                self._reply(pending, Granted(number, self.store.granted.get(number, 0)))
        elif self.is_gone and random.random() < 0.5:
            self._reply(pending, Unknown("connection refused"))
        elif not self.answers or pending.client in self.cut:
            pending.is_kept = random.random() < 0.3
            self._waiting.append(pending)
        else:
            self._reply(pending, self._do(pending.question))

    def _do(self, question: Question) -> Answer:
        before = self.store.revision
        try:
            answer = self.store.do(question, self._time.now)
        except Full:
            return Unknown("etcdserver: mvcc: database space exceeded")
        if self.store.revision > before:
            self._tell_all()
        return answer

    def _reply(self, pending: Pending, answer: Answer) -> None:
        random = self._random
        if pending.client not in self.cut and not (self.lost and random.random() < self.lost):
            delay = random.uniform(*LATENCY) + random.uniform(0.0, 1.0) * self.slowness
            self._time.at(self._time.now + delay, self._settle, pending, answer)

    def _go_on(self) -> None:
        """There is a way again."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._time.at(self._time.now + self._random.uniform(*LATENCY), self._arrive, each)

    # The watch

    def watch(
        self,
        client: str,
        prefixes: tuple[str, ...],
        revision: int,
        changed: Callable[[EtcdChanged | EtcdUnwatched], None],
    ) -> None:
        """Takes the place of the client's other one."""
        self.unwatch(client)
        self._watches[client] = Watch(prefixes, revision, self.cluster, changed)
        self._tell_later(client)

    def unwatch(self, client: str) -> None:
        if old := self._watches.pop(client, None):
            old.is_over = True

    def _tell_all(self) -> None:
        for client in self._watches:
            self._tell_later(client)

    def _tell_later(self, client: str, within: tuple[float, float] = LATENCY) -> None:
        at = self._time.now + self._random.uniform(*within) + self.lag[client]
        self._time.at(at, self._tell, client, self._watches[client])

    def _tell(self, client: str, watch: Watch) -> None:
        if watch.is_over or not self.answers or not self.reaches(client):
            return
        changes = self.store.changes
        if watch.cluster != self.cluster:
            self._end_watch(client, watch, "another cluster answers")
        elif watch.sent < self.store.compacted:
            self._end_watch(client, watch, "the revisions are compacted")
        else:
            until = self._time.now - self.lag[client]
            begin = bisect_right(changes, watch.sent, key=lambda each: each.revision)
            for change in changes[begin:]:
                if change.at > until:
                    self._tell_later(client)
                    break
                watch.sent = change.revision
                rows = tuple(row for row in change.rows if row.key.startswith(watch.prefixes))
                deleted = tuple(key for key in change.deleted if key.startswith(watch.prefixes))
                if rows or deleted:
                    watch.changed(EtcdChanged(change.revision, rows, deleted))
                if watch.is_over:
                    break

    def _end_watch(self, client: str, watch: Watch, reason: str) -> None:
        self.unwatch(client)
        watch.changed(EtcdUnwatched(reason))

    # Faults and their mending

    def cut_off(self, client: str) -> None:
        self.cut.add(client)

    def uncut(self, client: str) -> None:
        self.cut.discard(client)
        self._reconnect()

    def isolate(self, client: str) -> None:
        """It speaks with an old leader on the wrong side."""
        self.stale.add(client)

    def rejoin(self, client: str) -> None:
        self.stale.discard(client)
        self._reconnect()

    def lose_leader(self, seconds: float) -> None:
        """Nothing is answered until there is another."""
        self._has_leader = False
        self._elections += 1
        self._time.at(self._time.now + seconds, self._elect, self._elections)

    def _elect(self, election: int) -> None:
        if election == self._elections:
            self._has_leader, self.elected_at = True, self._time.now
            self.store.promote(self._time.now)
            self._reconnect()

    def vanish(self) -> None:
        """All members."""
        self.is_gone = True

    def come_back(self) -> None:
        self.is_gone = False
        self.lose_leader(self._random.uniform(0.5, 1.5) * ELECTION)

    def delay_watch(self, client: str, seconds: float) -> None:
        self.lag[client] = seconds

    def break_watch(self, client: str) -> None:
        if watch := self._watches.get(client):
            self._end_watch(client, watch, "the connection broke, and the revisions are compacted")

    def compact(self) -> None:
        """What is connected and in time goes on."""
        for client, watch in list(self._watches.items()):
            if not self.lag[client] and self.answers and self.reaches(client):
                self._tell(client, watch)
        self.store.compact()

    def write(self, key: str, value: str | None) -> None:
        """Somebody does, with etcdctl; None deletes."""
        question = Txn((), (Delete(key) if value is None else Put(key, value),))
        now = self._time.now
        self.asked.append(Asked(HAND, question, self._do(question), now, now))

    def backup(self) -> Store:
        return deepcopy(self.store)

    def restore(self, backup: Store) -> None:
        """Of all members, which were stopped before (`vanish`): what was written since is lost."""
        is_full = self.store.is_full
        self.store = deepcopy(backup)
        self.store.is_full = is_full  # whoever restores it sees to that
        self.cluster += 1
        now = self._time.now
        self.asked = [
            Asked(HAND, Txn((), (Put(row.key, row.value, row.lease),)), TxnDone(True, row.revision), now, now)
            for row in self.store.rows.values()
        ]
        self._waiting.clear()

    def _reconnect(self) -> None:
        self._go_on()
        for client in self._watches:
            self._tell_later(client, RECONNECT)

    # Time

    def _expire(self) -> None:
        if self.answers and self.store.leases:
            before = self.store.revision
            self.store.expire(self._time.now)
            if self.store.revision > before:
                self._tell_all()
        self._time.at(self._time.now + EXPIRY_INTERVAL, self._expire)
