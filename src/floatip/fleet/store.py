"""The rows of a fleet, as the commands read and write them. Each call blocks; an answer that is not sure is said."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from json import loads
from typing import Any, Self

from floatip.commands import Refusal
from floatip.core.arbiter import ALIVE, FLEET, FORMAT, OWNERS
from floatip.core.etcd import (
    Answer,
    Compare,
    Delete,
    EtcdTrouble,
    Put,
    Question,
    Range,
    Row,
    Rows,
    Txn,
    TxnDone,
    Unknown,
)
from floatip.core.refusals import Why
from floatip.etcd.client import Client
from floatip.etcd.settings import read
from floatip.fleet import rows
from floatip.fleet.rows import CONFIG, MEMBERS, VERSIONS, Config, Member, Odd
from floatip.model import Etcd
from floatip.text import printable

AT_ONCE = 8
"""Versions that are read by one question: an answer has a limit."""
PATIENCE = 5.0
"""Seconds for an answer, where the daemon has less: a person can wait."""
WHEN = "%Y-%m-%dT%H:%M:%SZ"


class NoEtcd(Refusal):
    status = 3
    code = Why.NO_ETCD


class OtherFleet(Refusal):
    code = Why.OTHER_FLEET


class Conflict(Refusal):
    code = Why.FLEET_CONFLICT


@dataclass(frozen=True, slots=True)
class Found:
    """Members and who lives, and what could not be read."""

    members: tuple[Member, ...] = ()
    alive: dict[str, str] = field(default_factory=dict)
    """Names, and the version of floatip."""
    owners: dict[str, str] = field(default_factory=dict)
    """Who carries each instance, by etcd."""
    odd: tuple[tuple[str, str], ...] = ()
    """Keys of rows that are none of ours, and why."""


class Store:
    def __init__(self, etcd: Etcd) -> None:
        self.prefix = etcd.prefix
        self._trouble = EtcdTrouble("")
        given = {name: str(value) if name in PATHS and value else value for name, value in asdict(etcd).items()}
        given["request_timeout"] = max(etcd.request_timeout, PATIENCE)
        self._runner = asyncio.Runner()
        self._client = Client(read(given), self._keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def _keep(self, event: object) -> None:
        if isinstance(event, EtcdTrouble):
            self._trouble = event

    def _ask(self, question: Question) -> Answer:
        return self._runner.run(self._client.ask(question))

    def ask(self, question: Question) -> Any:
        """Raises `NoEtcd`."""
        answer = self._ask(question)
        if isinstance(answer, Unknown):
            if (failure := self._client.failure_of(question)) and failure.lasts:
                raise NoEtcd(printable(failure.reason), failure.hint)  # it answers, and refuses
            hint = self._trouble.hint or "see which members answer: etcdctl endpoint status --cluster"
            raise NoEtcd(f"etcd does not answer: {printable(answer.reason)}", hint)
        return answer

    def get(self, keys: Iterable[str]) -> dict[str, Row]:
        """Rows by their whole keys: by a transaction that compares what cannot be."""
        answer = self.ask(Txn((Compare(CONFIG, -1),), (), tuple(keys)))
        assert isinstance(answer, TxnDone)
        return {row.key: row for row in answer.rows}

    def range(self, prefix: str) -> tuple[Row, ...]:
        answer = self.ask(Range(prefix))
        assert isinstance(answer, Rows)
        return answer.rows

    # Whose prefix it is

    def refuse_other_fleet(self, fingerprints: Iterable[str]) -> None:
        """Raises `OtherFleet`."""
        row = self.get([FLEET]).get(FLEET)
        if row is None:
            return
        try:
            found = loads(row.value)
            form, key = found["format"], found["key"]
        except (ValueError, TypeError, KeyError, RecursionError):
            form, key = None, None
        where = printable(self.prefix + FLEET)
        if form is None:
            what = f"the row {where} is not floatip's: somebody else uses this prefix"
            raise OtherFleet(what, "give this fleet a prefix of its own, in [etcd] of each node")
        if form != FORMAT:
            what = (
                f"the rows below {printable(self.prefix)} have format {str(form)[:20]}, and this floatip knows {FORMAT}"
            )
            raise OtherFleet(what, "use the floatip of that fleet, or give this one a prefix of its own")
        if key not in (known := list(fingerprints)) and known:
            what = f"{where} names another key: another fleet uses this prefix"
            hint = "copy the key of that fleet's nodes here, or give this fleet a prefix of its own, in [etcd]"
            raise OtherFleet(what, hint)

    # Members

    def found(self) -> Found:
        members: list[Member] = []
        odd: list[tuple[str, str]] = []
        for row in self.range(MEMBERS):
            try:
                members.append(rows.member(row.key.removeprefix(MEMBERS), row.value))
            except Odd as error:
                odd.append((row.key, str(error)))
        alive = {row.key.removeprefix(ALIVE): _member_of(row.value, "version") for row in self.range(ALIVE)}
        owners = {
            row.key.removeprefix(OWNERS): node
            for row in self.range(OWNERS)
            if (node := _member_of(row.value, "node")) and not _member_of(row.value, "released")
        }
        return Found(tuple(members), alive, owners, tuple(odd))

    def forget(self, name: str) -> bool:
        """Whether it was there, and is not any more. Raises `Refusal` if it is alive."""
        alive, key = ALIVE + name, MEMBERS + name
        known = self.get([key])
        if key not in known:
            return False
        revision = known[key].revision
        answer = self.ask(Txn((Compare(alive, 0), Compare(key, revision)), (Delete(key),), (alive, key)))
        if answer.succeeded:
            return True
        if any(row.key == alive for row in answer.rows):
            what = f"{printable(name)} is alive, so it is not forgotten"
            raise Refusal(what, "run floatip fleet leave on that node, or stop its floatip first", Why.NODE_ALIVE)
        return self.forget(name)

    # The configuration

    def config(self, number: int = 0) -> tuple[Config | None, int]:
        """The one in force or a version, and its revision. Raises `Odd`."""
        key = f"{VERSIONS}{number}" if number else CONFIG
        row = self.get([key]).get(key)
        return (rows.config(row.value), row.revision) if row else (None, 0)

    def versions(self) -> tuple[list[Config], list[tuple[str, str]]]:
        """The latest first; and keys of rows that could not be read, with why."""
        current, _ = self.config()
        found, odd = list[Config](), list[tuple[str, str]]()
        last = current.version if current else 0
        numbers = range(last, max(last - rows.KEPT, 0), -1)
        for first in range(0, len(numbers), AT_ONCE):
            keys = [f"{VERSIONS}{number}" for number in numbers[first : first + AT_ONCE]]
            answer = self.get(keys)
            for key in keys:
                try:
                    found += [rows.config(answer[key].value)] if key in answer else []
                except Odd as error:
                    odd.append((key, str(error)))
        return found, odd

    def apply(self, toml: str, by: str, before: Config | None, revision: int) -> Config:
        """Write the next version, if `before` is still in force at that revision. Raises `Conflict` and `NoEtcd`."""
        number = (before.version if before else self._latest()) + 1
        new = Config(number, by, datetime.now(UTC).strftime(WHEN), toml)
        value = rows.config_row(new)
        then: list[Put | Delete] = [Put(CONFIG, value), Put(f"{VERSIONS}{number}", value)]
        if number > rows.KEPT:
            then.append(Delete(f"{VERSIONS}{number - rows.KEPT}"))
        answer = self._ask(Txn((Compare(CONFIG, revision),), tuple(then), (CONFIG,)))
        if isinstance(answer, TxnDone) and answer.succeeded:
            return new
        return self._became(new, answer, self._trouble.hint)

    def _latest(self) -> int:
        """The number of the latest version that is kept, also if the row of the one in force was deleted."""
        names = (row.key.removeprefix(VERSIONS) for row in self.range(VERSIONS))
        return max((int(name) for name in names if name.isdecimal() and int(name) < rows.LARGEST_NUMBER), default=0)

    def _became(self, new: Config, answer: Answer, hint: str) -> Config:
        """What stands there after a transaction that failed, or whose answer is lost: it may have been done."""
        try:
            now, _ = self.config()
        except NoEtcd as error:
            what = f"it is not known whether the configuration was applied: {error.what}"
            raise NoEtcd(what, "when etcd answers: floatip fleet versions") from None
        if now == new:
            return new
        if isinstance(answer, Unknown):
            what = f"not applied: {printable(answer.reason)}"
            raise NoEtcd(what, hint or "apply it again")  # the read since then has ended the trouble
        who = f"version {now.version}, by {now.by or 'nobody'} at {now.at}" if now else "nothing"
        what = printable(f"not applied: somebody changed the configuration meanwhile: there is {who} now")
        raise Conflict(what, "see what changed, and apply again: floatip fleet diff FILE")


PATHS = ("ca", "certificate", "key", "password")


def _member_of(value: str, name: str) -> Any:
    try:
        row = loads(value)
    except (ValueError, RecursionError):
        return ""
    return row.get(name, "") if isinstance(row, dict) and isinstance(row.get(name, ""), str | bool) else ""
