"""The model of etcd does what etcd does, as far as the simulation needs it; without nodes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any

import pytest

from floatip.core.etcd import (
    Answer,
    Compare,
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
from tests.linearizable import Asked, complaints
from tests.sim.etcd import ELECTION, EXPIRY_INTERVAL, Etcd

TIMEOUT = 1.0


@dataclass
class Clock:
    now: float = 0.0
    heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    order: int = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        self.order += 1
        heappush(self.heap, (time, self.order, action, arguments))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.heap and self.heap[0][0] <= until:
            self.now, _, action, arguments = heappop(self.heap)
            action(*arguments)
        self.now = until


class Play:
    def __init__(self, seed: int = 0) -> None:
        self.clock = Clock()
        self.random = Random(seed)
        self.etcd = Etcd(self.clock, self.random)
        self.seen: list[EtcdChanged | EtcdUnwatched] = []

    def ask(self, question: Question, client: str = "a") -> list[Answer]:
        """It is there when there is an answer."""
        answers: list[Answer] = []
        self.etcd.ask(client, question, TIMEOUT, answers.append)
        return answers

    def answer(self, question: Question, client: str = "a") -> Answer:
        answers = self.ask(question, client)
        while not answers:
            self.clock.run(0.001)
        return answers[0]

    def put(self, key: str, value: str, lease: int = 0, client: str = "a") -> int:
        done = self.answer(Txn((), (Put(key, value, lease),)), client)
        assert isinstance(done, TxnDone)
        assert done.succeeded
        return done.revision

    def rows(self, prefix: str = "", newer_than: int = 0) -> dict[str, str]:
        answer = self.answer(Range(prefix, newer_than))
        assert isinstance(answer, Rows)
        return {row.key: row.value for row in answer.rows}

    def lease(self, ttl: int = 5) -> int:
        granted = self.answer(Grant(ttl))
        assert isinstance(granted, Granted)
        return granted.lease

    def watch(self, revision: int, *prefixes: str) -> None:
        self.etcd.watch("a", prefixes or ("",), revision, self.seen.append)

    @property
    def watched(self) -> list[str]:
        """Keys as they were put, and with a minus as they were deleted."""
        changes = [each for each in self.seen if isinstance(each, EtcdChanged)]
        return [name for each in changes for name in (*(r.key for r in each.rows), *("-" + k for k in each.deleted))]


def test_each_write_is_one_revision_and_a_transaction_compares_the_one_of_its_row() -> None:
    play = Play()
    first = play.put("owners/web", "a")
    second = play.put("owners/db", "b")
    assert second == first + 1
    swap = Txn((Compare("owners/web", first),), (Put("owners/web", "c"),), ("owners/web", "owners/none"))
    assert play.answer(swap) == TxnDone(True, second + 1)
    assert play.answer(swap) == TxnDone(False, second + 1, (Row("owners/web", "c", second + 1),))
    assert play.answer(Txn((Compare("owners/none", 0),), (Put("owners/none", "x"),))) == TxnDone(True, second + 2)
    assert play.rows("owners/", newer_than=second) == {"owners/web": "c", "owners/none": "x"}
    play.answer(Txn((), (Delete("owners/web"), Delete("owners/gone"))))
    assert play.answer(Range("")) == Rows(
        second + 3, (Row("owners/db", "b", second), Row("owners/none", "x", second + 2))
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_lease_ends_no_sooner_than_its_time_and_soon_after_it(seed: int) -> None:
    play = Play(seed)
    play.clock.run(play.random.uniform(0, 1))
    began = play.clock.now
    lease = play.lease(5)
    play.put("alive/a", "1", lease)
    play.clock.run(began + 5 - play.clock.now)
    assert play.rows() == {"alive/a": "1"}
    play.clock.run(EXPIRY_INTERVAL + 0.1)
    assert play.rows() == {}
    assert play.answer(KeepAlive(lease)) == Granted(lease, 0)
    assert isinstance(play.answer(Txn((), (Put("alive/a", "2", lease),))), Unknown)


def test_a_lease_that_is_kept_alive_stays_and_one_that_is_revoked_takes_its_rows_with_it() -> None:
    play = Play()
    lease = play.lease(2)
    play.put("alive/a", "1", lease)
    for _ in range(5):
        play.clock.run(1.5)
        assert play.answer(KeepAlive(lease)) == Granted(lease, 2)
    assert play.rows() == {"alive/a": "1"}
    assert play.answer(Revoke(lease)) == Done()
    assert play.rows() == {}


def test_a_lease_is_of_whole_seconds_and_of_no_less_than_etcd_grants() -> None:
    answer = Play().answer(Grant(1))
    assert isinstance(answer, Granted)
    assert answer.ttl == 2


def test_nothing_is_answered_without_a_leader_and_a_new_one_extends_every_lease() -> None:
    play = Play()
    play.put("alive/a", "1", play.lease(2))
    play.clock.run(1.8)
    play.etcd.lose_leader(1.5)
    answers = play.ask(Range(""))
    play.clock.run(TIMEOUT + 0.1)
    assert isinstance(answers[0], Unknown)
    play.clock.run(0.5)
    play.clock.run(2 + ELECTION - 0.2)
    assert play.rows() == {"alive/a": "1"}
    play.clock.run(EXPIRY_INTERVAL + 0.2)
    assert play.rows() == {}


def test_a_question_waits_for_a_short_election() -> None:
    play = Play()
    play.etcd.lose_leader(0.5)
    assert play.rows() == {}
    assert 0.5 < play.clock.now < 0.6


def test_one_client_is_cut_off_and_the_others_are_answered() -> None:
    play = Play()
    play.etcd.cut_off("b")
    assert isinstance(play.answer(Range(""), "b"), Unknown)
    assert play.rows() == {}
    play.etcd.uncut("b")
    assert isinstance(play.answer(Range(""), "b"), Rows)


def test_all_members_are_gone_and_come_back_with_what_they_had() -> None:
    play = Play()
    play.put("owners/web", "a")
    play.etcd.vanish()
    assert all(isinstance(play.answer(Range("")), Unknown) for _ in range(5))
    play.etcd.come_back()
    play.clock.run(2)
    assert play.rows() == {"owners/web": "a"}


def test_a_left_leader_renews_leases_that_end_and_answers_nothing_else() -> None:
    play = Play()
    lease = play.lease(2)
    play.put("alive/a", "1", lease)
    play.etcd.isolate("a")
    for _ in range(4):
        play.clock.run(1)
        assert play.answer(KeepAlive(lease)) == Granted(lease, 2)
    assert isinstance(play.answer(Range("")), Unknown)
    assert isinstance(play.answer(Txn((), (Put("owners/web", "a"),))), Unknown)
    assert play.answer(Range(""), "b") == Rows(3, ())
    play.etcd.rejoin("a")
    assert play.answer(KeepAlive(lease)) == Granted(lease, 0)


def test_a_full_store_is_read_and_not_written() -> None:
    play = Play()
    lease = play.lease()
    first = play.put("owners/web", "a", lease)
    play.etcd.store.is_full = True
    assert isinstance(play.answer(Txn((Compare("owners/web", first),), (Put("owners/web", "b"),))), Unknown)
    assert isinstance(play.answer(Grant(5)), Unknown)
    assert play.answer(KeepAlive(lease)) == Granted(lease, 5)
    assert play.rows() == {"owners/web": "a"}
    assert play.answer(Txn((Compare("owners/web", 99),), (Put("owners/web", "b"),))) == TxnDone(False, first)


def test_an_answer_may_be_lost_though_the_write_is_done() -> None:
    play = Play()
    play.etcd.lost = 1.0
    assert isinstance(play.answer(Txn((), (Put("owners/web", "a"),))), Unknown)
    play.etcd.lost = 0.0
    assert play.rows() == {"owners/web": "a"}


def test_a_write_may_be_done_after_its_asker_had_no_answer() -> None:
    play = Play()
    play.etcd.late = 1.0
    assert isinstance(play.answer(Txn((), (Put("owners/web", "a"),))), Unknown)
    assert play.rows() == {}
    play.clock.run(8)
    assert play.rows() == {"owners/web": "a"}


def test_a_watch_tells_all_in_order_from_where_it_was_asked() -> None:
    play = Play()
    play.put("owners/a", "1")
    revision = play.put("owners/b", "1")
    play.put("owners/c", "1")
    play.put("members/x", "1")
    play.watch(revision, "owners/", "alive/")
    play.clock.run(1)
    lease = play.lease(2)
    play.answer(Txn((), (Put("alive/d", "1", lease), Delete("owners/a"))))
    play.clock.run(3)
    assert play.watched == ["owners/c", "alive/d", "-owners/a", "-alive/d"]


def test_a_watch_may_be_late_and_is_in_order_then_too() -> None:
    play = Play()
    play.watch(1)
    play.etcd.delay_watch("a", 3.0)
    for number in range(20):
        play.put(f"owners/{number}", "1")
        play.clock.run(0.1)
    play.clock.run(0.7)
    assert play.watched == []
    play.clock.run(3)
    assert play.watched == [f"owners/{number}" for number in range(20)]


def test_a_watch_goes_on_after_a_cut_and_has_a_gap_if_revisions_were_compacted() -> None:
    play = Play()
    play.watch(1)
    play.etcd.cut_off("a")
    play.put("owners/a", "1", client="b")
    play.etcd.uncut("a")
    play.clock.run(2)
    play.etcd.compact()
    play.put("owners/b", "1")
    play.clock.run(2)
    assert play.watched == ["owners/a", "owners/b"]
    play.etcd.cut_off("a")
    play.put("owners/c", "1", client="b")
    play.etcd.compact()
    play.etcd.uncut("a")
    play.clock.run(2)
    assert play.watched == ["owners/a", "owners/b"]
    assert isinstance(play.seen[-1], EtcdUnwatched)


def test_a_restored_store_has_what_it_had_and_another_identity() -> None:
    play = Play()
    play.watch(1)
    play.put("owners/a", "1")
    backup = play.etcd.backup()
    play.put("owners/a", "2")
    play.clock.run(1)
    play.etcd.vanish()
    play.etcd.restore(backup)
    play.etcd.come_back()
    play.clock.run(4)
    assert play.rows() == {"owners/a": "1"}
    assert play.watched == ["owners/a", "owners/a"]
    assert isinstance(play.seen[-1], EtcdUnwatched)


class Clients:
    """Three that swap one row, as nodes do, while etcd has each of its troubles."""

    def __init__(self, seed: int) -> None:
        self.play = Play(seed)
        self.known = dict.fromkeys("abc", 0)
        self.number = 0
        for client in self.known:
            self.go_on(client)

    def go_on(self, client: str) -> None:
        play, random = self.play, self.play.random
        self.number += 1
        if random.random() < 0.5:
            question: Question = Range("owners/", random.choice([0, 0, self.known[client]]))
        else:
            compares = (Compare("owners/web", self.known[client]),)
            question = Txn(compares, (Put("owners/web", f"{client} {self.number}"),), ("owners/web",))

        def answered(answer: Answer) -> None:
            match answer:
                case Rows(_, (row, *_)) | TxnDone(False, _, (row, *_)):
                    self.known[client] = row.revision
                case TxnDone(True, revision):
                    self.known[client] = revision
            play.clock.at(play.clock.now + random.uniform(0, 0.3), self.go_on, client)

        play.etcd.ask(client, question, TIMEOUT, answered)

    def trouble(self) -> None:
        play, random = self.play, self.play.random
        etcd, client = play.etcd, random.choice("abc")
        play.clock.run(random.uniform(0, 2))
        match random.randrange(7):
            case 0:
                etcd.lose_leader(random.uniform(0.5, 2))
            case 1:
                etcd.cut_off(client)
                play.clock.run(1.5)
                etcd.uncut(client)
            case 2:
                etcd.isolate(client)
                play.clock.run(1.5)
                etcd.rejoin(client)
            case 3:
                etcd.lost = random.choice((0.0, 0.3))
            case 4:
                etcd.late = random.choice((0.0, 0.3))
            case 5:
                etcd.slowness = random.choice((0.0, 0.3))
            case 6:
                etcd.store.is_full = not etcd.store.is_full


def tried(seed: int) -> list[Asked]:
    clients = Clients(seed)
    for _ in range(15):
        clients.trouble()
    assert len(clients.play.etcd.asked) > 40
    return clients.play.etcd.asked


@pytest.mark.parametrize("seed", range(20))
def test_what_clients_see_of_the_model_is_linearizable_whatever_happens(seed: int) -> None:
    assert complaints(tried(seed)) == []


@pytest.mark.parametrize("seed", range(5))
def test_what_clients_see_of_a_model_with_stale_reads_is_not_linearizable(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = Etcd._do

    def stale(etcd: Etcd, question: Question) -> Answer:
        if isinstance(question, Range) and etcd.store.changes and etcd._random.random() < 0.5:
            rows = etcd.store.changes[max(0, len(etcd.store.changes) - 5)].rows
            return Rows(etcd.store.revision, rows)
        return do(etcd, question)

    monkeypatch.setattr(Etcd, "_do", stale)
    assert complaints(tried(seed))
