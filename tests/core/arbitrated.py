"""Nodes that hear each other, and an etcd that answers at once, or not at all: what each of them says of it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from floatip.core import settings
from floatip.core.etcd import (
    Answer,
    AskEtcd,
    Delete,
    Done,
    EtcdAnswered,
    EtcdChanged,
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
from floatip.core.events import CheckDone, ClockMoved, DatagramReceived, Event, Held, Hold, SendDatagram, Started
from floatip.core.node import Node
from floatip.core.snapshot import describe
from floatip.core.state import Status
from tests.core.test_nodes_play import EPOCH, SETTLED, Fleet

DB = settings.Instance(
    "db", (IPv4Interface("192.0.2.1/32"),), settings.Nodes(prefer=("n1",), exclusive=True), (), "master", "eth0"
)
WEB = settings.Instance("web", (IPv4Interface("192.0.2.2/32"),), settings.Nodes(prefer=("n1",)), (), "master", "eth0")
MEMBERS = tuple(settings.Node(f"n{n}", IPv4Address(f"10.0.0.{n}")) for n in (1, 2))
LEASE_TIME = 5.0
REFUSED = "192.0.2.9:2379 refuses the connection"


class Etcd:
    """Leases end with what the test says: nothing here has a clock."""

    def __init__(self) -> None:
        self.revision = 1
        self.rows: dict[str, Row] = {}
        self.leases = 0

    def ask(self, question: Question) -> Answer:
        match question:
            case Grant(ttl):
                self.leases += 1
                return Granted(self.leases, ttl)
            case KeepAlive(lease):
                return Granted(lease, 5)
            case Revoke(lease):
                self.rows = {key: row for key, row in self.rows.items() if row.lease != lease}
                return Done()
            case Range(prefix, newer_than):
                found = [row for key, row in self.rows.items() if key.startswith(prefix) and row.revision > newer_than]
                return Rows(self.revision, tuple(found))
            case Txn(compares, then, otherwise):
                has = {one.key: self.rows[one.key].revision if one.key in self.rows else 0 for one in compares}
                if any(has[one.key] != one.revision for one in compares):
                    return TxnDone(False, self.revision, tuple(self.rows[key] for key in otherwise if key in self.rows))
                self.revision += 1  # one for all that a transaction writes
                for one in then:
                    self._write(one)
                return TxnDone(True, self.revision)

    def write(self, one: Put | Delete) -> Row | None:
        self.revision += 1
        return self._write(one)

    def _write(self, one: Put | Delete) -> Row | None:
        if isinstance(one, Delete):
            self.rows.pop(one.key, None)
            return None
        self.rows[one.key] = Row(one.key, one.value, self.revision, one.lease)
        return self.rows[one.key]


class World(Fleet):
    def __init__(
        self,
        instances: tuple[settings.Instance, ...] = (DB, WEB),
        *,
        answers: bool = True,
        rows: dict[str, str] | None = None,
        **arbiter: Any,
    ) -> None:
        self.etcd = Etcd()
        for key, value in (rows or {}).items():
            self.etcd.write(Put(key, value))
        self.deaf: set[str] = set() if answers else {"n1", "n2"}
        """The nodes that etcd does not answer."""
        self.cut = False
        """No datagram arrives."""
        self.watches: dict[str, tuple[str, ...]] = {}
        self.arbiter = arbiter
        super().__init__(instances, MEMBERS)

    def start(self, name: str) -> None:
        self._boots += 1
        link = settings.Link(self.members, name, (bytes(32),), bytes(8))
        given: dict[str, Any] = {
            "machine": f"machine {name}",
            "fleet": "ours",
            "lease_time": LEASE_TIME,
            **self.arbiter,
        }
        arbiter = settings.Arbiter(**given)
        config = settings.Settings(self.checks, self.instances, link=link, arbiter=arbiter, boot=self._boots)
        self.nodes[name] = Node(config, self.now)
        for event in (ClockMoved(EPOCH), Held(frozenset()), Started()):
            self.tell(name, event)
        for check in self.checks:
            self.tell(name, CheckDone(check.name, 0, True, ""))

    def tell(self, name: str, event: Event) -> None:
        queue = deque([(name, event)])
        while queue:
            hearer, event = queue.popleft()
            if hearer not in self.nodes:
                continue
            for effect in self.nodes[hearer].handle(event, self.now):
                queue.extend(self.done(hearer, effect))

    def done(self, name: str, effect: object) -> Iterator[tuple[str, Event]]:
        match effect:
            case SendDatagram() if not self.cut:
                to = next(one.name for one in self.members if one.address == effect.destination)
                source = next(one.address for one in self.members if one.name == name)
                yield to, DatagramReceived(source, effect.data, self.now)
            case Hold():
                yield name, Held(effect.addresses)
            case WatchEtcd(prefixes):
                self.watches[name] = prefixes
            case AskEtcd(number, _) if name in self.deaf:
                yield name, EtcdAnswered(number, Unknown(REFUSED))
            case AskEtcd(number, question):
                before = self.etcd.revision
                yield name, EtcdAnswered(number, self.etcd.ask(question))
                yield from self.changed(before)

    def changed(self, before: int) -> Iterator[tuple[str, Event]]:
        for name, prefixes in self.watches.items():
            rows = [row for row in self.etcd.rows.values() if row.revision > before and row.key.startswith(prefixes)]
            if rows and name not in self.deaf:
                yield name, EtcdChanged(self.etcd.revision, tuple(rows))

    def put(self, key: str, value: str) -> None:
        """By hand."""
        before = self.etcd.revision
        self.etcd.write(Put(key, value))
        for name, event in list(self.changed(before)):
            self.tell(name, event)

    def lose_etcd(self, *names: str) -> None:
        self.deaf = set(names or ("n1", "n2"))

    def status(self, name: str = "n1") -> Status:
        status = describe(self.nodes[name], self.now)
        return replace(status, host=name, monotonic=self.now, time="")


__all__ = ["DB", "LEASE_TIME", "SETTLED", "WEB", "World"]
