"""This node at etcd: its lease, what it knows of owners, its claims, and until when it may hold what is exclusive.

docs/decisions/0038-etcd.md says why. Safety rests on two things alone: an owner is written by a transaction that
compares the revision it has seen, and what is exclusive is held only for `hold_time` after this node *sent* a question
whose linearizable answer still names it. The watch and the leases make it fast; nothing is lost if they are wrong.

Rows are JSON objects. What is no row of ours is shown; it is replaced only where this node has something to write.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

from floatip.core import settings
from floatip.core.etcd import Answer as EtcdAnswer
from floatip.core.etcd import (
    AskEtcd,
    Compare,
    EtcdChanged,
    EtcdEndpoint,
    EtcdMembers,
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
    WatchEtcd,
)
from floatip.core.events import Became, Effect

FORMAT = 1
FLEET, OWNERS, ALIVE, ASKS = "fleet", "owners/", "alive/", "asks/"
WATCHED = (OWNERS, ALIVE, ASKS)
EPOCH_STEP = 2000
"""Milliseconds by which an epoch is greater than the one before it, at least: a step of the MED of settled masters."""
PATIENCE = 0.015
"""Seconds for which what is not exclusive waits for etcd's answer to a claim."""
MARGIN = 0.1
"""The share of `lease_time` by which an owner lets go before another may have it, for clocks that run unevenly."""
BUNDLE = 64
"""Rows that are written by one transaction, at most. etcd allows 128."""
WRITES = ("lease", "alive", "claim", "write", "leave")
"""Kinds of questions that an etcd which answers may refuse, for want of room or of a right."""
RETRY = 0.2
"""Seconds after which a question without an answer is asked again, at the soonest."""
LONGEST_TEXT = 1000
LONGEST_LEASE = 3_600_000
"""Milliseconds: what somebody writes by hand keeps nobody waiting for longer."""
REFUSED_KEPT = 64

KERNEL_DELAY = 1.2
"""Seconds by which the kernel may remove an address later than its lifetime says.

It looks at lifetimes at most once a second; 0.98 s is the latest that its source allows, and a busy machine adds to it.
"""
HANDLING = 0.05
"""Seconds that the daemon has to hand a lifetime to the kernel. If it takes longer, the address gets a shorter one."""
SHORTEST_LEASE_TIME = 4
"""Seconds of `lease_time`, of what is exclusive: a lifetime of 2 s is the shortest that lasts until the next answer."""


def lifetime(left: float) -> int:
    """Seconds of `valid_lft` for an address that may be here for `left` seconds more; less than 1: it may not."""
    return int(max(left - KERNEL_DELAY - HANDLING, 0.0))  # before the first confirmation it is minus infinity


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """A row of `owners/`."""

    node: str
    machine: str
    boot: str
    epoch: int
    """Milliseconds since the Unix epoch, and greater than every epoch before it."""
    held: bool
    """Whether it has waited until nobody before it could have it any more."""
    released: bool
    """Whether it has let go."""
    why: str = ""
    """Why it took over, for people."""
    lease: int = 0
    """Milliseconds for which it, or one that it waits for, may have it without a word of etcd."""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Alive:
    """A row of `alive/`: it goes with the lease of its node."""

    machine: str
    boot: str
    version: str
    address: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A row of `asks/`: the owner of an instance is to hand it over."""

    to: str
    by: str
    id: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Ruling:
    """What etcd says of one instance, as its elector learns it."""

    owner: Owner | None
    """None: nobody, or not known yet."""
    is_own: bool
    """Whether this daemon is the owner, and has not let go."""
    answers: bool
    """Whether etcd answers."""
    free_at: float
    """Of an owner: when nobody else can have it any more (monotonic seconds); `-inf`: it is free."""
    epoch: int = 0
    """The last with which this daemon was the owner; 0: it never was."""
    is_known: bool = True
    """Whether it is known who the owner is, or the link would say it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    what: Literal["fleet", "sync", "confirm", "lease", "keep", "alive", "claim", "write", "leave"]
    sent_at: float
    name: str = ""
    """Of the instance, or the prefix."""
    row: Owner | None = None
    """What a claim or write is to make of it."""


class Arbiter:
    def __init__(self, config: settings.Arbiter, own: settings.Node, boot: int, now: float, number: int = 0) -> None:
        """`number`: of the last question before."""
        self.config = config
        self.own = own
        self.boot = f"{boot:016x}"
        self.owners: dict[str, Owner] = {}
        self.alive: dict[str, Alive] = {}
        self.asks: dict[str, Ask] = {}
        self.refused: dict[str, str] = {}
        """Keys of rows that are no rows of ours, and why."""
        self._refused_at: dict[str, int] = {}
        """At which revision each was written: this fleet's prefix is ours, so a claim replaces it."""
        self.claimed_at: dict[str, float] = {}
        """When it saw a claim of the owner happen; for a lease from then on that is a sign of life of its own."""
        self.seen_at: dict[str, float] = {}
        """When this node learned of the epoch of each owner."""
        self.fault = ""
        """Why this node takes no part: the prefix is another fleet's, or its format is not known here."""
        self.name_taken = ""
        """The machine that has this node's name; empty: none has."""
        self.answers = False
        self.answered_at = -math.inf
        """When the last question that was answered had been sent."""
        self.since = now
        """Since when it answers, or does not."""
        self.reason = "no answer yet"
        self.hint = ""
        self.endpoints: dict[str, tuple[float, EtcdEndpoint]] = {}
        """Each as it said last, and since when it answers, or does not."""
        self.skipped = 0
        """Keys below the prefix that the host cannot pass on."""
        self.counts = Counter[str]()
        """Questions by their outcome: answered, unknown; claims: won, lost, claim unknown."""
        self.revision = 0
        self.lease = 0
        self.lost_at = -math.inf
        """When it learned that its lease was over."""
        self.kept_at = -math.inf
        """When the last `KeepAlive` that was answered had been sent."""
        self.confirmed_at = -math.inf
        """When the last question had been sent whose answer names all owners."""
        self.free_at: dict[str, float] = {}
        self.epochs: dict[str, int] = {}
        """The last of its own of each instance."""
        self._spent: dict[str, int] = {}
        """The last of its own that it has let go of: it never comes back under it."""
        self._before: dict[str, Owner] = {}
        """Whom it has taken an instance from that it still waits for."""
        self._is_ours = self._is_synced = self._has_left = False
        self._registered = 0
        """The lease with which `alive/` has this node."""
        self.shorter = set[str]()
        """Its instances whose rows tell the others of a shorter lease than the configuration has since a reload."""
        self._names: frozenset[str] | None = None
        """The instances since the last reload: the rows of others are never written again. None: there was none."""
        self._writing = set[str]()
        """The instances whose row it is about to write."""
        self._is_stale = True
        """Whether what it knows of who lives is older than a lease."""
        self._sync: dict[str, Rows] = {}
        self._distrusts_until = -math.inf
        """Another store, or an older one, answers: what it says of who had what may be old."""
        self._gone: dict[str, int] = {}
        """The revision at which a key was found missing."""
        self._asked: dict[int, _Asked] = {}
        self.number = number
        self._bundles: dict[int, tuple[int, ...]] = {}
        """The questions that went as one, by the number of it."""
        self._beat_at = now
        self._retry_at = math.inf
        self._not_before: dict[str, float] = {}
        """When a claim that got no answer may be made again."""
        self._changed = set[str]()
        self._is_all_changed = False
        self._asks_taken: dict[str, int] = {}

    def reconfigure(self, config: settings.Arbiter, own: settings.Node, names: Iterable[str]) -> None:
        """Lease and rows go on; other times count from now on. `names`: of the instances that there are now."""
        # A new key is written to the row; another prefix may be another fleet's.
        self._is_ours &= (config.fleet, config.prefix) == (self.config.fleet, self.config.prefix)
        self.config, self.own = config, own
        self._names = frozenset(names)
        self.shorter = {name for name, row in self.owners.items() if self._tells_less(name, row)}

    # What it knows

    @property
    def hold_time(self) -> float:
        """Seconds for which what is exclusive may stay after a question that was answered had been sent."""
        return self.config.lease_time * (1 - MARGIN)

    @property
    def until(self) -> float:
        """Until when what is exclusive may stay here."""
        if not self.shorter:
            return self.confirmed_at + self.hold_time
        told = min(self.owners[name].lease for name in self.shorter) / 1000
        return self.confirmed_at + min(told * (1 - MARGIN), self.hold_time)

    @property
    def deadline(self) -> float:
        old_at = min(self.claimed_at.values(), default=math.inf) + self.config.lease_time
        return min(self._beat_at, self._retry_at, old_at, math.inf if self._is_stale else self._stale_at)

    @property
    def _stale_at(self) -> float:
        return self.answered_at + self.config.lease_time

    @property
    def is_registered(self) -> bool:
        row = self.alive.get(self.own.name)
        return bool(row and row.boot == self.boot and self.lease and self._registered == self.lease)

    @property
    def knows_who_lives(self) -> bool:
        """Whether what `alive` says is younger than a lease."""
        return not self._is_stale

    @property
    def is_synced(self) -> bool:
        """Whether it knows all rows, and follows them."""
        return self._is_synced

    def is_own(self, name: str) -> bool:
        row = self.owners.get(name)
        return bool(row and self._is_mine(row) and not row.released and row.epoch > self._spent.get(name, 0))

    def _is_mine(self, row: Owner) -> bool:
        return row.node == self.own.name and row.machine == self.config.machine and row.boot == self.boot

    def is_spent(self, name: str) -> bool:
        """Whether it has let go of the last epoch with which it was the owner, or never was."""
        return self._spent.get(name, 0) >= self.epochs.get(name, 0)

    def ruling(self, name: str) -> Ruling:
        is_own = self.is_own(name)
        free_at = self.free_at.get(name, -math.inf) if is_own else 0.0
        is_known = self.revision > 0 or not self.config.registers
        return Ruling(self.owners.get(name), is_own, self.answers, free_at, self.epochs.get(name, 0), is_known)

    @property
    def awaited(self) -> dict[str, Owner]:
        """Of instances that it owns: from whom it took them, while that one may still have it."""
        return self._before

    def claim_of(self, name: str) -> float:
        """Since when a claim waits for its answer; `inf`: none does."""
        sent = [one.sent_at for one in self._asked.values() if one.what == "claim" and one.name == name]
        return min(sent, default=math.inf)

    def take_ask(self, name: str) -> Ask | None:
        """That its owner hands it over; each is given once."""
        ask = self.asks.get(name)
        if ask is None or self._asks_taken.get(name) == ask.revision:
            return None
        self._asks_taken[name] = ask.revision
        return ask

    def take_changed(self, names: Iterable[str]) -> list[str]:
        """Those of `names` of which something else is known since the last call."""
        changed, self._changed = self._changed, set()
        is_all, self._is_all_changed = self._is_all_changed, False
        return [name for name in names if is_all or name in changed]

    # Events

    def begin(self, now: float) -> list[Effect]:
        self._beat_at = now
        return self.tick(now)

    def tick(self, now: float) -> list[Effect]:
        if now < self.deadline:
            return []
        if now >= self._retry_at:
            self._retry_at = math.inf
            again = {name for name, at in self._not_before.items() if now >= at}
            self._not_before = {name: at for name, at in self._not_before.items() if name not in again}
            self._retry_at = min(self._not_before.values(), default=math.inf)
            self._changed |= again
        if not self._is_stale and now >= self._stale_at:
            self._is_stale = True
            self._is_all_changed = True
        old = {name for name, at in self.claimed_at.items() if now >= at + self.config.lease_time}
        self.claimed_at = {name: at for name, at in self.claimed_at.items() if name not in old}
        self._changed |= old
        effects = self._proceed(now)
        if now >= self._beat_at:
            effects += self._beat(now)
        return effects

    def _beat(self, now: float) -> list[Effect]:
        """Each counts from when it was sent, so none waits for the answer to the one before.

        Where etcd does not answer, they come sooner after a failure, and not more often: they would pile up.
        """
        interval = self.config.keepalive_interval
        self._beat_at = now + (interval if self.answers else min(interval, RETRY))
        effects: list[Effect] = []
        sent = {one.what: one.sent_at for one in self._asked.values()}
        if self.fault and "fleet" not in sent:
            effects.append(self._ask(_Asked("fleet", now), self._fleet_question()))
        if self._is_synced and now >= sent.get("confirm", -math.inf) + interval:
            question = Range(OWNERS, self.revision)
            effects.append(self._ask(_Asked("confirm", now), question))
        if self.lease and now >= sent.get("keep", -math.inf) + interval:
            effects.append(self._ask(_Asked("keep", now), KeepAlive(self.lease)))
        return effects

    def _proceed(self, now: float) -> list[Effect]:
        """The next steps of taking part, each as soon as the one before it is done."""
        open_ = {(one.what, one.name) for one in self._asked.values()}
        if self.fault or self._has_left:
            return []
        if not self._is_ours:
            return [] if ("fleet", "") in open_ else [self._ask(_Asked("fleet", now), self._fleet_question())]
        effects: list[Effect] = []
        if not self._is_synced:
            effects += [
                self._ask(_Asked("sync", now, prefix), Range(prefix))
                for prefix in WATCHED
                if prefix not in self._sync and ("sync", prefix) not in open_
            ]
        if not self.lease and ("lease", "") not in open_:
            effects.append(self._ask(_Asked("lease", now), Grant(math.ceil(self.config.lease_time))))
        if self.lease and self._is_synced and ("alive", str(self.lease)) not in open_:
            effects += self._register(now)
        return effects

    def _fleet_question(self, revision: int = 0) -> Question:
        row = json.dumps({"format": FORMAT, "key": self.config.fleet})
        return Txn((Compare(FLEET, revision),), (Put(FLEET, row),), (FLEET,))

    def _register(self, now: float) -> list[Effect]:
        known = self.alive.get(self.own.name)
        is_predecessor = known is not None and known.machine == self.config.machine
        self.name_taken = known.machine if known and not is_predecessor else ""
        if self.name_taken or self.is_registered:
            return []
        key = ALIVE + self.own.name
        row = Alive(self.config.machine, self.boot, self.config.version, str(self.own.address))
        put = Put(key, _as_text(row), self.lease)
        txn = Txn((Compare(key, self._revision_of(key, known)),), (put,), (key,))
        return [self._ask(_Asked("alive", now, str(self.lease)), txn)]

    def bundled(self, effects: list[Effect]) -> list[Effect]:
        """The same, with one transaction for many rows: each question costs a connection and 2 ms of CPU.

        If one of its rows is another by now, all of it fails, and is asked again.
        """
        kinds: dict[str, list[AskEtcd]] = {}
        for effect in effects:
            if isinstance(effect, AskEtcd) and (asked := self._asked.get(effect.number)) and asked.row:
                kinds.setdefault(asked.what, []).append(effect)
        instead: dict[int, AskEtcd | None] = {}
        for asks in kinds.values():
            for some in (asks[at : at + BUNDLE] for at in range(0, len(asks), BUNDLE)):
                if len(some) > 1:
                    numbers = tuple(one.number for one in some)
                    instead |= dict.fromkeys(numbers)
                    instead[numbers[0]] = AskEtcd(numbers[0], _as_one(some))
                    self._bundles[numbers[0]] = numbers
        if not instead:
            return effects
        new = (instead.get(one.number, one) if isinstance(one, AskEtcd) else one for one in effects)
        return [one for one in new if one is not None]

    def answered(self, number: int, answer: EtcdAnswer, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for one in self._bundles.pop(number, (number,)):
            effects += self._answered(one, answer, now)
        return effects

    def _answered(self, number: int, answer: EtcdAnswer, now: float) -> list[Effect]:
        asked = self._asked.pop(number, None)
        if asked is None:
            return []
        if asked.what in ("claim", "write"):
            self._writing.discard(asked.name)
        if isinstance(answer, Unknown):
            return self._unknown(asked, answer, now)
        self.counts["answered"] += 1
        effects = self._heard(asked, now)
        match asked.what, answer:
            case "fleet", TxnDone():
                effects += self._take_fleet(answer, now)
            case "sync", Rows():
                effects += self._synced(asked.name, answer, now)
            case "confirm", Rows():
                effects += self._confirmed(asked, answer, now)
            case "lease", Granted(lease):
                self.lease, self.kept_at = lease, asked.sent_at
            case "keep", Granted(lease, ttl) if lease in (0, self.lease):  # of one before it: no matter
                self.kept_at = asked.sent_at if ttl else self.kept_at
                if not ttl:
                    self.lease, self.lost_at = 0, now
            case "alive", TxnDone():
                effects += self._learn_key(ALIVE + self.own.name, answer, now)
                if answer.succeeded:
                    row = Alive(self.config.machine, self.boot, self.config.version, str(self.own.address))
                    self.alive[self.own.name] = replace(row, revision=answer.revision)
                    self._registered = int(asked.name)
                    self._is_all_changed = True
            case (("claim" | "write"), TxnDone()):
                effects += self._wrote(asked, answer, now)
        return effects + self._proceed(now)

    def _unknown(self, asked: _Asked, answer: Unknown, now: float) -> list[Effect]:
        self.counts["unknown"] += 1
        if asked.what in ("claim", "write"):
            self.counts["claim unknown"] += asked.what == "claim"
            self._not_before[asked.name] = now + RETRY
            self._changed.add(asked.name)
        self._retry_at = min(self._retry_at, max(asked.sent_at + RETRY, now + RETRY / 4))
        if asked.what in WRITES or asked.sent_at < self.answered_at:
            return []
        self.reason = answer.reason or self.reason
        if not self.answers:
            return []
        self.answers, self.since = False, now
        self._is_all_changed = True
        return [Became("etcd", "etcd", "lost", self.reason, self.hint)]

    def _heard(self, asked: _Asked, now: float) -> list[Effect]:
        if asked.what == "keep":  # etcd asks for no right and no quorum: it may answer while it refuses all reads
            return []
        is_first = self.answered_at == -math.inf
        self.answered_at = max(self.answered_at, asked.sent_at)
        self._is_stale = now >= self._stale_at
        if self.answers:
            return []
        silent, self.answers, self.since = now - self.since, True, now
        self._is_all_changed = True
        why = "its first answer" if is_first else f"it did not for {silent:.1f} s"
        return [Became("etcd", "etcd", "answers", why)]

    def troubled(self, reason: str, hint: str) -> None:
        """What the host says of etcd, for people."""
        self.reason, self.hint = reason or self.reason, hint

    def met(self, members: EtcdMembers, now: float) -> None:
        """How each endpoint is."""
        before, self.endpoints, self.skipped = self.endpoints, {}, members.skipped
        for one in members.endpoints:
            known = before.get(one.url)
            since = known[0] if known and known[1].answers == one.answers else now
            self.endpoints[one.url] = since, one

    def _take_fleet(self, answer: TxnDone, now: float) -> list[Effect]:
        row = next(iter(answer.rows), None)
        self.fault = ""
        self._is_all_changed = True
        if answer.succeeded or row is None:
            self._is_ours = answer.succeeded
            return []
        try:
            found = json.loads(row.value)
            form, key = found["format"], found["key"]
        except (ValueError, TypeError, KeyError, RecursionError):
            self.fault = f'the row "{FLEET}" is not floatip\'s'
            return []
        if form != FORMAT:
            self.fault = f"the rows have format {str(form)[:20]}, and this floatip knows {FORMAT}"
        elif key in self.config.older:
            return [self._ask(_Asked("fleet", now), self._fleet_question(row.revision))]
        elif key != self.config.fleet:
            self.fault = "the prefix belongs to a fleet with another key"
        else:
            self._is_ours = True
        return []

    # Rows

    def _synced(self, prefix: str, rows: Rows, now: float) -> list[Effect]:
        if self._is_synced:
            return []
        self._sync[prefix] = rows
        if len(self._sync) < len(WATCHED):
            return []
        revision = min(one.revision for one in self._sync.values())
        if revision < self.revision:
            self._distrusts_until = now + self.config.lease_time
        found = {row.key for one in self._sync.values() for row in one.rows}
        effects: list[Effect] = []
        self._gone.clear()
        self._refused_at.clear()
        known = [OWNERS + name for name in self.owners] + [ALIVE + name for name in self.alive]
        for key in [*known, *(ASKS + name for name in self.asks)]:
            if key not in found:
                effects += self._delete(key, now)
        for one in self._sync.values():
            for row in one.rows:
                effects += self._take(row, now, is_fresh=True)
        self._sync = {}
        self._is_synced, self.revision = True, revision
        self._beat_at, self._is_all_changed = now, True
        return [*effects, WatchEtcd(WATCHED, revision)]

    def _confirmed(self, asked: _Asked, rows: Rows, now: float) -> list[Effect]:
        if not self._is_synced:
            return []
        if rows.revision < self.revision:
            return self.unwatched("its revision went back: was a backup restored?", now)
        effects = self._take_all(rows.rows, now)
        self.revision = max(self.revision, rows.revision)
        self.confirmed_at = max(self.confirmed_at, asked.sent_at)
        return effects

    def changed(self, event: EtcdChanged, now: float) -> list[Effect]:
        """By the watch."""
        if not self._is_synced:
            return []
        effects = self._take_all(event.rows, now)
        for key in event.deleted:
            effects += self._delete(key, now, event.revision)
        return effects + self._proceed(now)

    def unwatched(self, reason: str, now: float) -> list[Effect]:
        """Read all of it again."""
        if not self._is_synced:
            return []
        # It may be another store: empty, or another fleet's.
        self._is_synced, self._sync, self._is_ours = False, {}, False
        return [Became("etcd", "etcd", "read-again", reason), *self._proceed(now)]

    def _take_all(self, rows: Iterable[Row], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for row in rows:
            effects += self._take(row, now)
        return effects

    def _take(self, row: Row, now: float, *, is_fresh: bool = False) -> list[Effect]:
        """`is_fresh`: whatever was known before."""
        if not is_fresh and row.revision <= self._gone.get(row.key, 0):
            return []
        kind, _, name = row.key.partition("/")
        try:
            match kind + "/":
                case "owners/":
                    owner = replace(_read(Owner, row.value), revision=row.revision)
                    return self._take_owner(name, owner, now, is_fresh=is_fresh)
                case "alive/":
                    if is_fresh or name not in self.alive or row.revision > self.alive[name].revision:
                        self.alive[name] = replace(_read(Alive, row.value), revision=row.revision)
                        self._changed |= {each for each, one in self.owners.items() if one.node == name}
                case "asks/":
                    self.asks[name] = replace(_read(Ask, row.value), revision=row.revision)
                    self._changed.add(name)
        except ValueError as error:
            known = self.owners.get(name) if kind + "/" == OWNERS else None
            if known and not is_fresh and row.revision <= known.revision:
                return []
            if known:  # whose it was in between is not known
                del self.owners[name]
                self.shorter.discard(name)
                self._before.pop(name, None)
            if row.key in self.refused or len(self.refused) < REFUSED_KEPT:
                self.refused[row.key] = str(error)
            self._refused_at[row.key] = row.revision
            self._changed.add(name)
            return []
        if row.revision > self._refused_at.get(row.key, 0):
            self._forget_refused(row.key)
        return []

    def _take_owner(self, name: str, row: Owner, now: float, *, is_fresh: bool) -> list[Effect]:
        before = self.owners.get(name)
        refused_at = self._refused_at.get(OWNERS + name, 0)
        if not is_fresh and row.revision <= max(before.revision if before else 0, refused_at):
            return []
        self._forget_refused(OWNERS + name)
        was_own = self.is_own(name)
        self.owners[name] = row
        (self.shorter.add if self._tells_less(name, row) else self.shorter.discard)(name)
        self._changed.add(name)
        if before is None or (before.node, before.epoch) != (row.node, row.epoch):
            self.seen_at[name] = now
            if not is_fresh:
                self.claimed_at[name] = now
        if self._is_mine(row):
            self.epochs[name] = max(self.epochs.get(name, 0), row.epoch)
        if self.is_own(name) and not was_own:
            self._begin_to_own(name, None if is_fresh or refused_at else before, now)
        elif not self.is_own(name):
            self._before.pop(name, None)
        known = (before.node, before.released) if before else None
        if known == (row.node, row.released) and before and before.epoch == row.epoch:
            return []
        if row.released:
            return [Became("owner", name, "nobody", f"{row.node} has let go of it")]
        return [Became("owner", name, row.node, row.why)]

    def _begin_to_own(self, name: str, before: Owner | None, now: float) -> None:
        """`before`: whose row it was, if that is known for sure."""
        # Whoever had it confirmed that before this was written, and lets go in less than the lease time.
        self.free_at[name] = now + max(self._lease(before), self._lease(self.owners[name])) / 1000
        self._before.pop(name, None)
        if before and before.held and now >= self._distrusts_until:
            is_predecessor = before.node == self.own.name and before.machine == self.config.machine
            if before.released or is_predecessor:
                self.free_at[name] = -math.inf
            else:
                self._before[name] = before

    def _delete(self, key: str, now: float, revision: int = 0) -> list[Effect]:
        kind, _, name = key.partition("/")
        self._gone[key] = max(revision, self._gone.get(key, 0))
        self._forget_refused(key)
        match kind + "/":
            case "owners/" if name in self.owners and (not revision or self.owners[name].revision <= revision):
                del self.owners[name]
                self.shorter.discard(name)
                self._before.pop(name, None)
                self._changed.add(name)
                return [Became("owner", name, "nobody", "its row was deleted")]
            case "alive/" if name in self.alive and (not revision or self.alive[name].revision <= revision):
                del self.alive[name]
                gone = {each for each, one in self.owners.items() if one.node == name}
                self.claimed_at = {each: at for each, at in self.claimed_at.items() if each not in gone}
                self._changed |= gone
            case "asks/":
                self.asks.pop(name, None)
        return []

    def _forget_refused(self, key: str) -> None:
        self.refused.pop(key, None)
        self._refused_at.pop(key, None)

    def _revision_of(self, key: str, known: Owner | Alive | None) -> int:
        """What the row is compared with that is to be written."""
        return self._refused_at.get(key, known.revision if known else 0)

    def _learn_key(self, key: str, answer: TxnDone, now: float) -> list[Effect]:
        """What a transaction that failed has read of its key."""
        if answer.succeeded:
            return []
        if not answer.rows:
            return self._delete(key, now, answer.revision)
        kind, _, name = key.partition("/")
        known = self.owners.get(name) if kind + "/" == OWNERS else self.alive.get(name)
        if answer.rows[0].revision < (known.revision if known else self._gone.get(key, 0)):
            # It would be passed over, and to ask again would have no end.
            return self.unwatched("a row of it is older than it was: was a backup restored?", now)
        return self._take_all(answer.rows, now)

    # Claims

    def bid(self, name: str, epoch: int, why: str, now: float) -> list[Effect]:
        """Become the owner, unless it is, with this epoch or a later one."""
        row = self.owners.get(name)
        is_there = OWNERS + name not in self._refused_at
        if not self._may_write(name, now) or (row and is_there and self.is_own(name) and row.epoch >= epoch):
            return []
        if row:
            epoch = max(epoch, row.epoch + EPOCH_STEP)
        # As a successor of itself it has waited already.
        held = bool(row and self.is_own(name) and row.held)
        lease = self._lease(row)
        new = Owner(self.own.name, self.config.machine, self.boot, epoch, held, False, why[:LONGEST_TEXT], lease)
        return self._write("claim", name, new, now)

    def _lease(self, before: Owner | None) -> int:
        """The longest time for which anybody may have it, where the nodes are configured differently."""
        own = round(self.config.lease_time * 1000)
        return max(own, min(before.lease, LONGEST_LEASE)) if before else own

    def let_go(self, name: str, now: float) -> list[Effect]:
        """Say that this node has it no more: nothing of it is in the kernel, and nothing can come back."""
        self._spent[name] = self.epochs.get(name, 0)
        row = self.owners.get(name)
        if not row or not self._is_mine(row) or row.released or not self._may_write(name, now):
            return []
        return self._write("write", name, replace(row, released=True), now)

    def has_waited(self, name: str, now: float) -> list[Effect]:
        """Nobody before this node can have it any more."""
        row = self.owners.get(name)
        self._before.pop(name, None)
        if not row or not self.is_own(name) or row.held or not self._may_write(name, now):
            return []
        return self._write("write", name, replace(row, held=True, lease=self._lease(None)), now)

    def tell_lease(self, name: str, now: float) -> list[Effect]:
        """Of the configuration, before it counts: who takes it over waits for what the row says."""
        row = self.owners.get(name)
        if not row or not self.is_own(name) or not self._tells_less(name, row) or not self._may_write(name, now):
            return []
        return self._write("write", name, replace(row, lease=self._lease(None)), now)

    def _tells_less(self, name: str, row: Owner) -> bool:
        is_there = self._names is None or name in self._names
        return is_there and self._is_mine(row) and not row.released and row.lease < self._lease(None)

    def freed(self, name: str) -> None:
        """The one from whom it was taken says that it is free of it."""
        if self._before.pop(name, None):
            self.free_at[name] = -math.inf
            self._changed.add(name)

    def _may_write(self, name: str, now: float) -> bool:
        at = self._not_before.get(name, -math.inf)
        if now < at:
            self._retry_at = min(self._retry_at, at)
        is_member = self._is_ours and self._is_synced and self.answers and self.is_registered
        return is_member and now >= at and name not in self._writing

    def _write(self, what: Literal["claim", "write"], name: str, new: Owner, now: float) -> list[Effect]:
        before, key = self.owners.get(name), OWNERS + name
        self._writing.add(name)
        revision = self._revision_of(key, before)
        txn = Txn((Compare(key, revision),), (Put(key, _as_text(new)),), (key,))
        return [self._ask(_Asked(what, now, name, replace(new, revision=revision)), txn)]

    def _wrote(self, asked: _Asked, answer: TxnDone, now: float) -> list[Effect]:
        assert asked.row
        self._not_before.pop(asked.name, None)
        self._changed.add(asked.name)
        key = OWNERS + asked.name
        found = tuple(row for row in answer.rows if row.key == key)
        before, now_at = asked.row.revision, found[0].revision if found else 0
        if asked.what == "claim" and (answer.succeeded or before != now_at):  # else another row of its bundle was late
            self.counts["won" if answer.succeeded else "lost"] += 1
        if not answer.succeeded:
            return self._learn_key(key, replace(answer, rows=found), now)
        return self._take_owner(asked.name, replace(asked.row, revision=answer.revision), now, is_fresh=False)

    # The end

    def leave(self, now: float) -> list[Effect]:
        """Nothing of it is here any more."""
        lease, self.lease, self._has_left = self.lease, 0, True
        self._beat_at = self._retry_at = math.inf
        if not lease:
            return []
        return [self._ask(_Asked("leave", now), Revoke(lease))]

    def _ask(self, asked: _Asked, question: Question) -> AskEtcd:
        self.number += 1
        self._asked[self.number] = asked
        return AskEtcd(self.number, question)


def _as_one(asks: Iterable[AskEtcd]) -> Txn:
    txns = [one.question for one in asks if isinstance(one.question, Txn)]
    return Txn(
        tuple(each for txn in txns for each in txn.compares),
        tuple(each for txn in txns for each in txn.then),
        tuple(key for txn in txns for key in txn.otherwise),
    )


def _as_text(row: Owner | Alive) -> str:
    fields = asdict(row)
    del fields["revision"]
    return json.dumps(fields)


KINDS: dict[str, type] = {"epoch": int, "lease": int, "held": bool, "released": bool}
"""Of the members of a row; the others are strings."""
A_KIND = {int: "a number", bool: "true or false", str: "a text"}


def _read(kind: type[T], value: str) -> T:
    """Raises ValueError. Members that are not known here are passed over."""
    try:
        found: Any = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    names = [name for name in kind.__dataclass_fields__ if name != "revision"]  # type: ignore[attr-defined]
    members: dict[str, Any] = {}
    for name in names:
        if name in ("why", "lease") and name not in found:
            continue
        member = found.get(name)
        wanted = KINDS.get(name, str)
        if type(member) is not wanted:
            raise ValueError(f'it has no "{name}" that is {A_KIND[wanted]}')
        if (isinstance(member, str) and len(member) > LONGEST_TEXT) or (
            isinstance(member, int) and not 0 <= member < 1 << 53
        ):
            raise ValueError(f'its "{name}" is out of range')
        members[name] = member
    return kind(**members)
