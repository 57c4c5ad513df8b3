"""Histories that one register can have had, and histories that none can: the checker must tell them apart."""

from math import inf
from random import Random

import pytest

from floatip.core.etcd import Compare, Put, Range, Row, Rows, Txn, TxnDone, Unknown
from tests.linearizable import (
    NOTHING,
    UNLEARNED,
    Asked,
    Call,
    Operation,
    Read,
    Register,
    State,
    Swap,
    complaints,
    is_linearizable,
)


def won(expected: int, value: str, revision: int) -> Swap:
    return Swap(expected, value, True, revision)


def lost(expected: int, value: str, found: State | None = None) -> Swap:
    return Swap(expected, value, False, found=found)


def unknown(expected: int, value: str) -> Swap:
    return Swap(expected, value, None)


def row(revision: int, value: str) -> Read:
    return Read(State(revision, value))


NONE = Read(NOTHING)
GOOD: dict[str, list[tuple[Call, float, float]]] = {
    "nothing": [],
    "one after the other": [(won(0, "a", 1), 0, 1), (row(1, "a"), 2, 3), (won(1, "b", 2), 4, 5), (row(2, "b"), 6, 7)],
    "a read beside a write sees it or not": [(won(0, "a", 1), 0, 3), (NONE, 1, 2), (row(1, "a"), 1, 2)],
    "of two that swap, one wins": [(won(0, "a", 1), 0, 2), (lost(0, "b", State(1, "a")), 1, 3)],
    "an order that is not that of the starts": [(won(1, "b", 2), 0, 9), (won(0, "a", 1), 1, 8), (row(2, "b"), 10, 11)],
    "an unknown one that never was": [(unknown(0, "a"), 0, inf), (NONE, 1, 2), (won(0, "b", 1), 3, 4)],
    "an unknown one that came late": [(unknown(0, "a"), 0, inf), (NONE, 5, 6), (row(1, "a"), 7, 8)],
    "an unknown one that others go on from": [(unknown(0, "a"), 0, inf), (won(1, "b", 2), 5, 6), (row(2, "b"), 7, 8)],
    "unknown ones after each other": [
        (unknown(0, "a"), 0, inf),
        (unknown(1, "b"), 1, inf),
        (row(1, "a"), 2, 3),
        (row(2, "b"), 4, 5),
    ],
    "the same value again": [
        (won(0, "a", 1), 0, 1),
        (won(1, "b", 2), 2, 3),
        (unknown(2, "a"), 4, inf),
        (row(3, "a"), 5, 6),
    ],
    "nothing newer": [(won(0, "a", 1), 0, 1), (Read(None, 1), 2, 3), (won(1, "b", 2), 2, 4), (Read(None, 1), 2, 3)],
    "deleted": [(won(0, "a", 1), 0, 1), (Swap(1, None, True, 2), 2, 3), (NONE, 4, 5), (won(0, "b", 3), 6, 7)],
    "written by hand": [(won(0, "a", 1), 0, 1), (Swap(None, "x", True, 2), 2, 3), (lost(1, "b", State(2, "x")), 4, 5)],
}
BAD: dict[str, list[tuple[Call, float, float]]] = {
    "a stale read": [(won(0, "a", 1), 0, 1), (won(1, "b", 2), 2, 3), (row(1, "a"), 4, 5)],
    "a read that goes back": [(won(0, "a", 1), 0, 9), (row(1, "a"), 1, 2), (NONE, 3, 4)],
    "two winners": [(won(0, "a", 1), 0, 5), (won(0, "b", 2), 0, 5)],
    "one that lost to nobody": [(lost(0, "a"), 0, 1), (NONE, 2, 3)],
    "one that lost and was seen": [(won(0, "a", 1), 0, 1), (lost(1, "b"), 2, 3), (row(2, "b"), 4, 5)],
    "one that won and was not there": [(won(0, "a", 1), 0, 1), (NONE, 2, 3)],
    "an unknown one before its start": [(row(1, "a"), 0, 1), (unknown(0, "a"), 2, inf)],
    "an unknown one that was and was not": [(unknown(0, "a"), 0, inf), (row(1, "a"), 1, 2), (NONE, 3, 4)],
    "an unknown one that was there twice": [
        (unknown(0, "a"), 0, inf),
        (row(1, "a"), 1, 2),
        (won(1, "b", 2), 3, 4),
        (row(1, "a"), 5, 6),
    ],
    "revisions that fall": [(won(0, "a", 7), 0, 1), (won(7, "b", 3), 2, 3)],
    "nothing newer, though there is": [(won(0, "a", 5), 0, 1), (Read(None, 4), 2, 3)],
    "a value that nobody wrote": [(won(0, "a", 1), 0, 1), (row(2, "x"), 2, 3)],
    "one that found what was over": [
        (won(0, "a", 1), 0, 1),
        (won(1, "b", 2), 2, 3),
        (lost(0, "c", State(1, "a")), 4, 5),
    ],
}


def judged(steps: list[tuple[Call, float, float]]) -> bool:
    history = [Operation(str(number), call, start, end) for number, (call, start, end) in enumerate(steps)]
    return is_linearizable(history, NOTHING, Register(history).step)


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_a_register_can_have_passes(name: str) -> None:
    assert judged(GOOD[name])
    assert judged(GOOD[name][::-1]), "the order in the list says nothing"


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_no_register_can_have_fails(name: str) -> None:
    assert not judged(BAD[name])
    assert not judged(BAD[name][::-1]), "the order in the list says nothing"


def drawn(random: Random, operations: int = 120, clients: int = 5) -> list[Operation[Call]]:
    """What clients see of a register that does each thing at an instant between start and end; some learn nothing."""
    instants = sorted(random.uniform(0, operations / 4) for _ in range(operations))
    state, revision, history, known = NOTHING, 0, [], [0]
    free = {str(number): 0.0 for number in range(clients)}
    for number, at in enumerate(instants):
        able = [client for client, since in free.items() if since < at]
        if not able:
            continue
        client = random.choice(able)
        start, end = random.uniform(max(free[client], at - 2), at), at + random.uniform(0, 2)
        free[client] = end
        is_unknown = random.random() < 0.1
        call: Call = Read(state)
        if random.random() < 0.7:
            expected, value = random.choice([state.revision, *known[-3:]]), f"v{number}"
            if succeeded := expected == state.revision and not (is_unknown and random.random() < 0.5):
                revision += random.randint(1, 3)
                state = State(revision, value)
                known.append(revision)
            found = None if succeeded or random.random() < 0.5 else state
            call = Swap(expected, value, succeeded, revision if succeeded else UNLEARNED, found)
            if is_unknown:
                call, end = Swap(expected, value, None), inf
        elif is_unknown:
            continue
        history.append(Operation(client, call, start, end))
    return history


@pytest.mark.parametrize("seed", range(20))
def test_drawn_histories_of_a_register_pass_and_fail_when_one_read_is_changed(seed: int) -> None:
    random = Random(seed)
    history = drawn(random)
    assert is_linearizable(history, NOTHING, Register(history).step)
    reads = [n for n, each in enumerate(history) if isinstance(each.call, Read) and each.start > 10]
    changed = random.choice(reads)
    now = history[changed].call
    assert isinstance(now, Read)
    others = [
        each.call.row for each in history if isinstance(each.call, Read) and each.end < history[changed].start - 2
    ]
    stale = next(row for row in others if row != now.row)
    one = history[changed]
    history[changed] = Operation(one.client, Read(stale), one.start, one.end)
    assert not is_linearizable(history, NOTHING, Register(history).step)


def test_many_writes_without_an_answer_that_are_the_same_are_not_tried_in_each_order() -> None:
    """Tried in each order and each choice, these would be thousands of states."""
    tries: list[Operation[Call]] = [Operation("hand", Swap(None, "b", None), at, inf) for at in range(2, 14)]
    reads: list[Operation[Call]] = [Operation("a", row(1, "a"), at + 0.2, at + 0.4) for at in range(2, 14)]
    ends: list[Operation[Call]] = [Operation("a", won(0, "a", 1), 0.0, 1.0), Operation("a", row(1, "c"), 20.0, 21.0)]
    history = [*ends, *tries, *reads]
    register, steps = Register(history), list[State]()

    def step(state: State, call: Call) -> list[State]:
        steps.append(state)
        return register.step(state, call)

    assert not is_linearizable(history, NOTHING, step)
    assert len(steps) < 1000


def test_what_was_asked_of_etcd_is_judged_row_by_row() -> None:
    """Two clients win the same row: both compared with the revision at which there was none."""
    claim = Txn((Compare("owners/web", 0),), (Put("owners/web", "a"),), ("owners/web",))
    other = Txn((Compare("owners/web", 0),), (Put("owners/web", "b"),), ("owners/web",))
    asked = [
        Asked("a", claim, TxnDone(True, 5), 0.0, 1.0),
        Asked("b", Range("owners/"), Rows(6, (Row("owners/web", "a", 5), Row("owners/db", "x", 6))), 2.0, 3.0),
        Asked("b", other, TxnDone(False, 6, (Row("owners/web", "a", 5),)), 4.0, 5.0),
        Asked("b", Range("owners/", 5), Rows(6, ()), 6.0, 7.0),
        Asked("b", Range("owners/"), Unknown("timed out"), 8.0, 9.0),
    ]
    assert complaints(asked) == []
    asked.append(Asked("c", other, TxnDone(True, 7), 8.0, 9.0))
    assert complaints(asked) == ["the history of owners/web is not linearizable (5 operations)"]
