"""What a node asks of etcd, and what etcd answers, as values: no bytes, no HTTP, and no clock.

Keys are relative to the prefix of the configuration. A revision is etcd's: it grows by one with each write to the
store. Reads are linearizable, so an answer holds all that was written before the question was sent. An answer that does
not come means *unknown*: what was asked may have been done, or may be done later.
"""

from dataclasses import dataclass

# Questions


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease. Answer: `Granted`."""

    ttl: int
    """Whole seconds. It ends that long after the last `KeepAlive`, or later: never sooner."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Answer: `Granted`, with a ttl of 0 if the lease is over."""

    lease: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """End a lease, and delete its keys. Answer: `Done`."""

    lease: int


@dataclass(frozen=True, slots=True)
class Range:
    """All rows whose keys begin with `prefix`. Answer: `Rows`."""

    prefix: str
    newer_than: int = 0
    """Only those that were written at a later revision. What was deleted is not seen by that."""


@dataclass(frozen=True, slots=True)
class Compare:
    """The key was written last at `revision`; 0: there is none."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: str
    lease: int = 0
    """The row goes with it; 0: it stays."""


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class Txn:
    """If all of `compares` are so, do all of `then`; else read the keys of `otherwise`. Answer: `TxnDone`."""

    compares: tuple[Compare, ...]
    then: tuple[Put | Delete, ...]
    otherwise: tuple[str, ...] = ()


Question = Grant | KeepAlive | Revoke | Range | Txn


# Answers


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    value: str
    revision: int
    """At which it was written last (`mod_revision`)."""
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    lease: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Done:
    pass


@dataclass(frozen=True, slots=True)
class Rows:
    revision: int
    """Of the store when it answered."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class TxnDone:
    succeeded: bool
    revision: int
    """Of the store; of a write that succeeded, the one at which it was written."""
    rows: tuple[Row, ...] = ()
    """What `otherwise` read; a key that is not there has none."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or one that says nothing for sure."""

    reason: str


Answer = Granted | Done | Rows | TxnDone | Unknown


# Effects


@dataclass(frozen=True, slots=True)
class AskEtcd:
    """Answer with `EtcdAnswered` of the same number, once, within `request_timeout` and a little."""

    number: int
    question: Question


@dataclass(frozen=True, slots=True)
class WatchEtcd:
    """Report with `EtcdChanged` each change of a key that begins with one of `prefixes`, after `revision`, in order.

    There is one watch: another one takes its place. The host connects again where a connection ends; only where it
    cannot go on without a gap does it say `EtcdUnwatched`.
    """

    prefixes: tuple[str, ...]
    revision: int


# Events


@dataclass(frozen=True, slots=True)
class EtcdAnswered:
    number: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class EtcdChanged:
    """Part or all of what changed up to `revision`; of one revision, all that is watched is in one event."""

    revision: int
    rows: tuple[Row, ...]
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EtcdUnwatched:
    """The watch has a gap: revisions that are not there any more (compaction), or another store."""

    reason: str


@dataclass(frozen=True, slots=True)
class EtcdTrouble:
    """Why etcd does not answer, for people, when that changes; an empty `reason`: it answers."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class EtcdEndpoint:
    """What one endpoint of the configuration said last."""

    url: str
    answers: bool | None
    """None: it was not asked yet."""
    reason: str
    """Why it does not answer, or that an alarm is raised, for people; empty: all is well."""
    hint: str
    in_use: bool
    """The questions go there."""
    version: str
    """Of etcd; empty: not known."""


@dataclass(frozen=True, slots=True)
class EtcdMembers:
    """All endpoints, when something changed. One that is bad among good ones is no `EtcdTrouble`."""

    endpoints: tuple[EtcdEndpoint, ...]
    skipped: int = 0
    """Keys below the prefix that are no text or too long, of the answer with the most: they are in no answer."""
