"""Whether a history could have come from one register that does one thing at a time, in an order that time allows.

The search of Wing and Gong (1993), with the memory of Lowe (2017): what is left to place and the state of the register
say all about what can still come, so each such pair is looked at once. A history of several registers is linearizable
if that of each is, so each key is checked for itself.

The register is a row of etcd: a compare-and-swap compares the revision at which the row was written. An operation
without a known outcome may take effect at any time after its start, or never. Of several such that are the same, the
one that began first can always take the place of a later one, so they are placed in the order of their starts.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from floatip.core.etcd import Answer, Put, Question, Range, Row, Rows, Txn, TxnDone, Unknown

S = TypeVar("S", bound=Hashable)
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Operation(Generic[C]):
    client: str
    call: C
    start: float
    end: float
    """`inf`: nobody knows whether it took effect."""


def is_linearizable(history: Sequence[Operation[C]], initial: S, step: Callable[[S, C], Iterable[S]]) -> bool:
    """`step`: the states to which a call may lead, with the outcome that it has; none: it is not possible there."""
    entries = _Entries(history)
    twin = _twins(history)
    unplaced = sum(each.end < inf for each in history)
    state, placed = initial, 0
    seen: set[tuple[int, S]] = set()
    path: list[tuple[int, S, list[S]]] = []
    """What was placed: its entry, the state before it, and the other states to which it may lead."""
    entry = entries.first
    while unplaced:
        number = entries.number[entry]
        if entries.is_call[entry]:
            is_next = twin[number] < 0 or placed >> twin[number] & 1
            ways = step(state, history[number].call) if is_next else ()
            ways = [way for way in ways if (placed | 1 << number, way) not in seen]
            if ways:
                path.append((entry, state, ways[1:]))
                state, placed = ways[0], placed | 1 << number
                seen.add((placed, state))
                unplaced -= history[number].end < inf
                entries.lift(entry)
                entry = entries.first
            else:
                entry = entries.after[entry]
            continue
        # It has ended and is not placed: one that was placed before it should not have been.
        while path:
            entry, before, ways = path.pop()
            number = entries.number[entry]
            if ways := [way for way in ways if (placed, way) not in seen]:
                path.append((entry, before, ways[1:]))
                state = ways[0]
                seen.add((placed, state))
                entry = entries.first
                break
            state, placed = before, placed & ~(1 << number)
            unplaced += history[number].end < inf
            entries.unlift(entry)
            entry = entries.after[entry]
            break
        else:
            return False
    return True


def _twins(history: Sequence[Operation[C]]) -> list[int]:
    """Of each operation of unknown outcome, the same one that began last before it; -1: there is none."""
    found, last = [-1] * len(history), dict[C, int]()
    for number in sorted(range(len(history)), key=lambda number: history[number].start):
        if history[number].end == inf:
            found[number] = last.get(history[number].call, -1)
            last[history[number].call] = number
    return found


class _Entries:
    """Starts and ends in the order of time, as a list from which operations are lifted and put back. Entry 0 is its
    end, where an operation of unknown outcome ends too."""

    def __init__(self, history: Sequence[Operation[C]]) -> None:
        # At one instant, starts come before ends: what touches may overlap.
        order = sorted(
            [(each.start, False, number) for number, each in enumerate(history)]
            + [(each.end, True, number) for number, each in enumerate(history)]
        )
        self.number = [-1] + [number for _, _, number in order]
        self.is_call = [False] + [not is_end for _, is_end, _ in order]
        count = len(order) + 1
        self.after: list[int] = [*range(1, count), 0]
        self.before: list[int] = [count - 1, *range(count - 1)]
        self._end_of = dict.fromkeys(range(count), 0)
        ends = {number: entry for entry, number in enumerate(self.number) if entry and not self.is_call[entry]}
        for entry in range(1, count):
            if self.is_call[entry]:
                self._end_of[entry] = ends[self.number[entry]]

    @property
    def first(self) -> int:
        return self.after[0]

    def lift(self, call: int) -> None:
        for entry in (call, self._end_of[call]):
            self.after[self.before[entry]], self.before[self.after[entry]] = self.after[entry], self.before[entry]

    def unlift(self, call: int) -> None:
        for entry in (self._end_of[call], call):
            self.after[self.before[entry]] = self.before[self.after[entry]] = entry


# A row of etcd


@dataclass(frozen=True, slots=True)
class State:
    revision: int
    """0: there is no row; -1: written at a revision that nobody learned."""
    value: str = ""


NOTHING, UNLEARNED = State(0), -1


@dataclass(frozen=True, slots=True)
class Read:
    """What was read; None: there was no row newer than `newer_than`."""

    row: State | None
    newer_than: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    """Write `value`, if the row was written last at `expected`. None of `value`: delete it; of `expected`: whatever."""

    expected: int | None
    value: str | None
    succeeded: bool | None
    """None: not known."""
    revision: int = UNLEARNED
    """At which it was written."""
    found: State | None = None
    """What one that failed read instead."""


Call = Read | Swap


class Register:
    def __init__(self, history: Iterable[Operation[Call]]) -> None:
        self._revisions: dict[str, set[int]] = defaultdict(set)
        """At which a value was written, as far as anybody learned."""
        for each in history:
            match each.call:
                case Read(State(revision, value)) | Swap(found=State(revision, value)) if revision > 0:
                    self._revisions[value].add(revision)
                case Swap(value=str(value), succeeded=True, revision=revision) if revision > 0:
                    self._revisions[value].add(revision)
        self._learned = {0}.union(*self._revisions.values())

    def step(self, state: State, call: Call) -> list[State]:
        if isinstance(call, Read):
            if call.row is None:
                return [state] if state.revision <= call.newer_than else []
            return [call.row] if self._is(state, call.row) else []
        if call.succeeded is False:
            is_so = state.revision == call.expected or (call.found and not self._is(state, call.found))
            return [] if call.expected is None or is_so else [call.found or state]
        if call.expected is not None and not self._is_at(state, call.expected):
            return []
        if call.value is None:
            return [NOTHING]
        known, revision = self._revisions[call.value], call.revision
        if revision == UNLEARNED and len(known) == 1:
            (revision,) = known
        return [State(revision, call.value)] if revision > state.revision or revision == UNLEARNED else []

    def _is(self, state: State, row: State) -> bool:
        return state == row or (state.revision == UNLEARNED and state.value == row.value)

    def _is_at(self, state: State, revision: int) -> bool:
        if state.revision != UNLEARNED:
            return state.revision == revision
        return revision in self._revisions[state.value] or revision not in self._learned


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a client, as it saw it."""

    client: str
    question: Question
    answer: Answer
    start: float
    end: float


def history_of(key: str, asked: Iterable[Asked]) -> list[Operation[Call]]:
    """What the clients did with one row."""
    found = []
    for each in asked:
        if call := _call(key, each.question, each.answer):
            is_unknown = isinstance(each.answer, Unknown)
            found.append(Operation(each.client, call, each.start, inf if is_unknown else each.end))
    return found


def keys_of(asked: Iterable[Asked]) -> set[str]:
    """The rows that somebody wrote, but those that a lease may have deleted."""
    writes = [write for each in asked if isinstance(each.question, Txn) for write in each.question.then]
    leased = {each.key for each in writes if isinstance(each, Put) and each.lease}
    return {each.key for each in writes} - leased


def _call(key: str, question: Question, answer: Answer) -> Call | None:
    match question, answer:
        case Range(prefix, newer_than), Rows(_, rows) if key.startswith(prefix):
            return Read(_state(key, rows) or (None if newer_than else NOTHING), newer_than)
        case Txn(compares, then, otherwise), _:
            write = next((each for each in then if each.key == key), None)
            is_known = isinstance(answer, TxnDone)
            succeeded = answer.succeeded if isinstance(answer, TxnDone) else None
            rows = answer.rows if isinstance(answer, TxnDone) else ()
            read = (_state(key, rows) or NOTHING) if key in otherwise and is_known and not succeeded else None
            is_alone = all(each.key == key for each in compares)
            if write is None or (not is_alone and succeeded is False):  # another row may have been the reason
                return Read(read) if read else None
            expected = next((each.revision for each in compares if each.key == key), None)
            value = write.value if isinstance(write, Put) else None
            revision = answer.revision if isinstance(answer, TxnDone) and succeeded else UNLEARNED
            return Swap(expected, value, succeeded, revision, read)
    return None


def _state(key: str, rows: Iterable[Row]) -> State | None:
    return next((State(each.revision, each.value) for each in rows if each.key == key), None)


def complaints(asked: Sequence[Asked]) -> list[str]:
    """The rows whose history no register can have had."""
    wrong = []
    for key in sorted(keys_of(asked)):
        history = history_of(key, asked)
        if not is_linearizable(history, NOTHING, Register(history).step):
            wrong.append(f"the history of {key} is not linearizable ({len(history)} operations)")
    return wrong
