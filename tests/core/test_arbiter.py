"""One node at etcd, question by question: what it may believe, and how long it must wait."""

import json
from dataclasses import replace
from ipaddress import IPv4Address
from math import inf

import pytest

from floatip.core import settings
from floatip.core.arbiter import ALIVE, EPOCH_STEP, FLEET, OWNERS, RETRY, Arbiter
from floatip.core.etcd import (
    Answer,
    AskEtcd,
    EtcdChanged,
    Grant,
    Granted,
    KeepAlive,
    Question,
    Range,
    Row,
    Rows,
    Txn,
    TxnDone,
    Unknown,
    WatchEtcd,
)
from floatip.core.events import Became, Effect

CONFIG = settings.Arbiter("machine-a", "f1ee7", lease_time=5.0, keepalive_interval=1.0)
OWN = settings.Node("a", IPv4Address("192.0.2.1"))
LEASE = 77


class Etcd:
    """Its rows, and the questions of one arbiter that are not answered yet."""

    def __init__(self, *rows: Row, boot: int = 1) -> None:
        self.rows = {row.key: row for row in rows}
        self.revision = max([10, *(row.revision for row in rows)])
        self.arbiter = Arbiter(CONFIG, OWN, boot, 0.0)
        self.open: list[AskEtcd] = []
        self.effects: list[Effect] = []

    def take(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        self.open += [effect for effect in effects if isinstance(effect, AskEtcd)]
        return effects

    def put(self, key: str, value: str) -> Row:
        self.revision += 1
        self.rows[key] = Row(key, value, self.revision)
        return self.rows[key]

    def answer(self, question: Question) -> Answer:
        match question:
            case Grant(ttl):
                return Granted(LEASE, ttl)
            case KeepAlive(lease):
                return Granted(lease, 5)
            case Range(prefix, newer):
                rows = [row for key, row in self.rows.items() if key.startswith(prefix) and row.revision > newer]
                return Rows(self.revision, tuple(rows))
            case Txn(compares, then, otherwise):
                known = {one.key: self.rows[one.key].revision if one.key in self.rows else 0 for one in compares}
                if all(known[one.key] == one.revision for one in compares):
                    self.revision += 1
                    for one in then:
                        self.rows[one.key] = Row(one.key, getattr(one, "value", ""), self.revision)
                    return TxnDone(True, self.revision)
                return TxnDone(False, self.revision, tuple(self.rows[key] for key in otherwise if key in self.rows))
        raise AssertionError(question)

    def answer_all(self, now: float) -> None:
        while self.open:
            asked = self.open.pop(0)
            self.take(self.arbiter.answered(asked.number, self.answer(asked.question), now))

    def begin(self, now: float = 0.0) -> Arbiter:
        self.take(self.arbiter.begin(now))
        self.answer_all(now)
        self.confirm(now)
        return self.arbiter

    def confirm(self, now: float) -> None:
        self.take(self.arbiter.tick(max(now, self.arbiter.deadline)))
        self.answer_all(now)

    def owner(self, name: str = "db") -> dict[str, object]:
        found: dict[str, object] = json.loads(self.rows[OWNERS + name].value)
        return found


def owned(by: str = "b", *, epoch: int = 1000, held: bool = True, released: bool = False, **others: object) -> str:
    row = {"node": by, "machine": f"machine-{by}", "boot": "00", "epoch": epoch, "held": held, "released": released}
    return json.dumps({**row, "why": "it was there", **others})


def row(value: str, revision: int = 5) -> Row:
    return Row(OWNERS + "db", value, revision)


def bid(etcd: Etcd, now: float, epoch: int = 5000) -> None:
    etcd.take(etcd.arbiter.bid("db", epoch, "b is silent", now))


def test_a_node_takes_part_once_the_prefix_is_its_fleets_and_it_has_read_all_and_is_registered() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    assert json.loads(etcd.rows[FLEET].value) == {"format": 1, "key": "f1ee7"}
    assert json.loads(etcd.rows[ALIVE + "a"].value)["address"] == "192.0.2.1"
    assert arbiter.is_registered
    assert arbiter.is_synced
    assert sum(isinstance(effect, WatchEtcd) for effect in etcd.effects) == 1
    assert Became("etcd", "etcd", "answers", "its first answer") in etcd.effects


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ('{"format": 1, "key": "other"}', "the prefix belongs to a fleet with another key"),
        ('{"format": 2, "key": "f1ee7"}', "the rows have format 2, and this floatip knows 1"),
        ("[]", 'the row "fleet" is not floatip\'s'),
        ("{", 'the row "fleet" is not floatip\'s'),
    ],
)
def test_a_prefix_of_another_fleet_or_format_is_left_alone(value: str, fault: str) -> None:
    etcd = Etcd(Row(FLEET, value, 3))
    arbiter = etcd.begin()
    assert arbiter.fault == fault
    assert arbiter.until == -inf
    assert etcd.rows.keys() == {FLEET}
    etcd.rows[FLEET] = Row(FLEET, '{"format": 1, "key": "f1ee7"}', 11)
    etcd.confirm(1.0)
    assert not arbiter.fault
    assert arbiter.is_registered


def test_while_the_key_is_replaced_the_row_follows_the_key_that_signs() -> None:
    etcd = Etcd(Row(FLEET, '{"format": 1, "key": "f1ee7"}', 3))
    arbiter = etcd.begin()
    arbiter.reconfigure(replace(CONFIG, older=("next",)), OWN, ["db"])
    etcd.confirm(1.0)
    assert json.loads(etcd.rows[FLEET].value)["key"] == "f1ee7"
    arbiter.reconfigure(replace(CONFIG, fleet="next", older=("f1ee7",)), OWN, ["db"])
    etcd.confirm(2.0)
    assert json.loads(etcd.rows[FLEET].value)["key"] == "next"
    arbiter.reconfigure(replace(CONFIG, fleet="next"), OWN, ["db"])
    etcd.confirm(3.0)
    assert not arbiter.fault
    assert arbiter.is_registered
    again = Etcd(*etcd.rows.values(), boot=2)
    assert again.begin().fault == "the prefix belongs to a fleet with another key"


def test_the_clock_of_what_is_exclusive_starts_when_the_question_was_sent() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    before = arbiter.until
    etcd.take(arbiter.tick(10.0))
    etcd.answer_all(11.4)
    assert before < arbiter.until == 10.0 + arbiter.hold_time
    assert arbiter.hold_time < CONFIG.lease_time


def test_no_answer_confirms_nothing() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    before = arbiter.until
    etcd.take(arbiter.tick(1.0))
    news = [one for asked in etcd.open for one in arbiter.answered(asked.number, Unknown("no leader"), 2.5)]
    assert arbiter.until == before
    assert not arbiter.answers
    assert [one.value for one in news if isinstance(one, Became)] == ["lost"]


def test_the_watch_confirms_nothing() -> None:
    """It may bring late what was true a while ago."""
    etcd = Etcd()
    arbiter = etcd.begin()
    before = arbiter.until
    new = etcd.put(OWNERS + "other", owned("b"))
    arbiter.changed(EtcdChanged(new.revision, (new,)), 2.0)
    assert arbiter.owners["other"].node == "b"
    assert arbiter.until == before


def test_who_takes_it_from_a_silent_owner_waits_a_whole_lease_from_the_answer() -> None:
    etcd = Etcd(row(owned("b")))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.2)
    assert arbiter.is_own("db")
    assert arbiter.ruling("db").free_at == 1.2 + CONFIG.lease_time
    assert arbiter.awaited.keys() == {"db"}
    arbiter.freed("db")
    assert arbiter.ruling("db").free_at == -inf


@pytest.mark.parametrize(
    ("value", "waits"),
    [
        (owned("b", released=True), False),
        (owned("b", released=True, held=False), True),
        (owned("a"), False),
        (owned("a", held=False), True),
        (owned("a", machine="another"), True),
        (None, True),
    ],
)
def test_only_a_word_of_an_owner_that_had_waited_itself_spares_the_wait(value: str | None, waits: bool) -> None:
    etcd = Etcd(*([row(value)] if value else []))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    assert arbiter.is_own("db")
    assert (arbiter.ruling("db").free_at > 1.0) is waits


def test_an_owner_that_had_not_waited_cannot_free_it_over_the_link() -> None:
    etcd = Etcd(row(owned("b", held=False)))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    assert not arbiter.awaited
    arbiter.freed("db")
    assert arbiter.ruling("db").free_at == 1.0 + CONFIG.lease_time


def test_an_epoch_is_always_later_than_the_one_before_it() -> None:
    etcd = Etcd(row(owned("b", epoch=9_000_000)))
    etcd.begin()
    bid(etcd, 1.0, epoch=5000)
    etcd.answer_all(1.0)
    assert etcd.owner()["epoch"] == 9_000_000 + EPOCH_STEP


def test_a_claim_that_another_node_forestalled_is_lost() -> None:
    etcd = Etcd(row(owned("b")))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.put(OWNERS + "db", owned("c", epoch=4000))
    etcd.answer_all(1.0)
    assert not arbiter.is_own("db")
    assert arbiter.owners["db"].node == "c"
    assert arbiter.counts["lost"] == 1


def test_a_claim_without_an_answer_that_was_written_is_known_by_its_row() -> None:
    etcd = Etcd(row(owned("b")))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    asked = etcd.open.pop()
    etcd.answer(asked.question)
    etcd.take(arbiter.answered(asked.number, Unknown("timeout"), 2.5))
    assert not arbiter.is_own("db")
    etcd.confirm(3.0)
    assert arbiter.is_own("db")
    assert arbiter.ruling("db").free_at >= 3.0 + CONFIG.lease_time


def test_who_has_let_go_never_comes_back_under_that_epoch() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    etcd.take(arbiter.let_go("db", 2.0))
    assert not arbiter.is_own("db")  # before it is written, and even if it never is
    assert arbiter.is_spent("db")
    for asked in etcd.open:
        etcd.take(arbiter.answered(asked.number, Unknown("timeout"), 2.5))
    assert not arbiter.is_own("db")


def test_after_a_gap_a_proof_that_may_be_old_counts_for_nothing() -> None:
    etcd = Etcd(row(owned("c")))
    arbiter = etcd.begin()
    etcd.revision, etcd.rows[OWNERS + "db"] = 4, row(owned("b", released=True), 3)
    etcd.take(arbiter.unwatched("another store", 1.0))
    etcd.answer_all(1.0)
    bid(etcd, 1.5)
    etcd.answer_all(1.5)
    etcd.confirm(2.0)
    bid(etcd, 2.0)
    etcd.answer_all(2.0)
    assert arbiter.is_own("db")
    assert arbiter.ruling("db").free_at > 2.0


def test_the_watch_brings_another_owner_and_what_is_old_changes_nothing() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    taken = etcd.put(OWNERS + "db", owned("b", epoch=99_000))
    arbiter.changed(EtcdChanged(taken.revision, (taken,)), 2.0)
    assert not arbiter.is_own("db")
    arbiter.changed(EtcdChanged(taken.revision, (replace(taken, value=owned("c"), revision=taken.revision - 1),)), 2.0)
    assert arbiter.owners["db"].node == "b"
    arbiter.changed(EtcdChanged(taken.revision + 1, (), (OWNERS + "db",)), 3.0)
    assert "db" not in arbiter.owners


@pytest.mark.parametrize(
    "value",
    ["", "1", "[]", "{}", owned(epoch=-1), owned(epoch=1 << 60), '{"node": 1}', "[" * 10_000, owned("b" * 2000)],
)
def test_a_row_that_is_none_of_ours_is_named_and_left_alone(value: str) -> None:
    etcd = Etcd(row(value))
    arbiter = etcd.begin()
    assert arbiter.refused.keys() == {OWNERS + "db"}
    assert arbiter.ruling("db").owner is None
    assert etcd.rows[OWNERS + "db"].value == value


def test_a_name_that_another_machine_has_is_not_taken() -> None:
    value = json.dumps({"machine": "machine-b", "boot": "00", "version": "1", "address": "192.0.2.9"})
    etcd = Etcd(Row(ALIVE + "a", value, 4))
    arbiter = etcd.begin()
    assert arbiter.name_taken == "machine-b"
    bid(etcd, 1.0)
    assert not etcd.open
    del etcd.rows[ALIVE + "a"]
    etcd.take(arbiter.changed(EtcdChanged(11, (), (ALIVE + "a",)), 2.0))
    etcd.answer_all(2.0)
    assert not arbiter.name_taken
    assert arbiter.is_registered


def test_a_lease_that_is_over_is_granted_again_and_the_node_registers_again() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    etcd.take(arbiter.tick(1.0))
    kept = next(asked for asked in etcd.open if isinstance(asked.question, KeepAlive))
    etcd.open.remove(kept)
    del etcd.rows[ALIVE + "a"]
    etcd.take(arbiter.changed(EtcdChanged(etcd.revision, (), (ALIVE + "a",)), 1.0))
    assert not arbiter.is_registered
    etcd.take(arbiter.answered(kept.number, Granted(LEASE, 0), 1.0))
    etcd.answer_all(1.1)
    assert arbiter.is_registered
    assert ALIVE + "a" in etcd.rows


# Many at once


def bids(arbiter: Arbiter, names: list[str], now: float) -> list[Effect]:
    effects = [effect for name in names for effect in arbiter.bid(name, 5000, "b is silent", now)]
    return arbiter.bundled(effects)


def test_what_many_bids_write_goes_in_transactions_of_64() -> None:
    etcd = Etcd()
    arbiter, names = etcd.begin(), [f"web{number}" for number in range(100)]
    asked = etcd.take(bids(arbiter, names, 1.0))
    assert [len(one.question.then) for one in asked if isinstance(one, AskEtcd) and isinstance(one.question, Txn)] == [
        64,
        36,
    ]
    etcd.answer_all(1.01)
    assert all(map(arbiter.is_own, names))
    assert arbiter.counts["won"] == 100


def test_where_one_row_of_many_is_anothers_by_now_the_others_are_won_the_second_time() -> None:
    etcd = Etcd()
    arbiter, names = etcd.begin(), ["web1", "db", "web2"]
    etcd.put(OWNERS + "db", owned())
    etcd.take(bids(arbiter, names, 1.0))
    etcd.answer_all(1.01)
    assert (arbiter.counts["won"], arbiter.counts["lost"]) == (0, 1)
    again = arbiter.take_changed(names)
    assert again == names
    etcd.take(bids(arbiter, [name for name in again if name not in arbiter.owners], 1.02))
    etcd.answer_all(1.03)
    assert [arbiter.is_own(name) for name in names] == [True, False, True]
    assert arbiter.owners["db"].node == "b"


def test_no_answer_to_many_bids_means_that_each_may_be_won() -> None:
    etcd = Etcd()
    arbiter, names = etcd.begin(), ["web1", "web2"]
    etcd.take(bids(arbiter, names, 1.0))
    (asked,) = etcd.open
    etcd.open.clear()
    etcd.take(arbiter.answered(asked.number, Unknown("late"), 2.5))
    assert not any(map(arbiter.is_own, names))
    assert arbiter.take_changed(names) == names
    etcd.confirm(2.5)
    assert bids(arbiter, names, 2.5 + RETRY / 2) == []
    etcd.take(bids(arbiter, names, 2.5 + RETRY))
    etcd.answer_all(2.8)
    assert all(map(arbiter.is_own, names))


def test_an_owner_whose_row_somebody_garbles_is_not_the_owner_any_more_and_waits_like_any_other() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    assert arbiter.is_own("db")
    old = etcd.rows[OWNERS + "db"]
    arbiter.changed(EtcdChanged(old.revision - 1, (replace(old, value="mine", revision=old.revision - 1),)), 2.0)
    assert arbiter.is_own("db")
    etcd.put(OWNERS + "db", "mine")
    etcd.confirm(20.0)
    assert not arbiter.is_own("db")
    bid(etcd, 21.0)
    etcd.answer_all(21.0)
    assert arbiter.is_own("db")
    assert arbiter.ruling("db").free_at == 21.0 + CONFIG.lease_time
    assert not arbiter.refused


def test_the_longest_lease_of_those_that_may_have_it_counts_until_they_cannot_have_it_any_more() -> None:
    etcd = Etcd(row(owned("b", lease=12_000)))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    assert arbiter.ruling("db").free_at == 13.0
    assert etcd.owner()["lease"] == 12_000
    etcd.take(arbiter.has_waited("db", 13.0))
    etcd.answer_all(13.0)
    assert etcd.owner()["lease"] == 5_000


def test_after_a_reload_with_a_longer_lease_time_it_holds_no_longer_than_its_row_tells_the_others() -> None:
    etcd = Etcd(row(owned(released=True)))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    etcd.take(arbiter.has_waited("db", 1.0))
    etcd.answer_all(1.0)
    etcd.confirm(2.0)
    confirmed = arbiter.confirmed_at
    arbiter.reconfigure(replace(CONFIG, lease_time=20.0), OWN, ["db"])
    assert etcd.owner()["lease"] == 5000
    assert arbiter.until <= confirmed + 5.0
    etcd.take(arbiter.tell_lease("db", 2.0))
    etcd.answer_all(2.0)
    assert etcd.owner()["lease"] == 20_000
    assert arbiter.until == confirmed + arbiter.hold_time == confirmed + 18.0


def test_the_row_of_an_instance_that_a_reload_has_removed_shortens_nothing() -> None:
    etcd = Etcd()
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    etcd.confirm(2.0)
    arbiter.reconfigure(replace(CONFIG, lease_time=20.0), OWN, ["another"])
    assert arbiter.until == arbiter.confirmed_at + 18.0
    etcd.take(arbiter.unwatched("compacted", 2.0))
    etcd.answer_all(2.0)
    assert arbiter.until == arbiter.confirmed_at + 18.0


def test_a_row_that_is_older_than_it_was_makes_it_read_all_again_and_not_ask_without_end() -> None:
    etcd = Etcd(row(owned(released=True)))
    arbiter = etcd.begin()
    bid(etcd, 1.0)
    etcd.answer_all(1.0)
    etcd.rows[OWNERS + "db"] = row(owned("b"), 4)
    etcd.take(arbiter.has_waited("db", 1.0))
    etcd.answer_all(1.0)
    assert not arbiter.is_own("db")
    assert arbiter.owners["db"].node == "b"


def test_an_older_row_of_its_own_life_makes_it_read_all_again_and_not_ask_without_end() -> None:
    """A backup was restored in which it lives, after etcd had said that its lease was over."""
    etcd = Etcd()
    arbiter = etcd.begin()
    old = etcd.rows.pop(ALIVE + "a")
    etcd.revision += 1
    etcd.take(arbiter.changed(EtcdChanged(etcd.revision, (), (old.key,)), 1.0))
    etcd.rows[old.key] = old
    for _ in range(20):
        if not etcd.open:
            break
        asked = etcd.open.pop(0)
        etcd.take(arbiter.answered(asked.number, etcd.answer(asked.question), 1.0))
    assert not etcd.open
    assert arbiter.is_registered
