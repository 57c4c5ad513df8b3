"""This node as a member, against an etcd in memory: what it writes, what it follows, and what it leaves alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from floatip import model
from floatip.core import settings
from floatip.core.arbiter import FORMAT
from floatip.core.etcd import Answer, Delete, Put, Question, Row, Txn, TxnDone, Unknown
from floatip.core.problems import Code
from floatip.core.settings import Node
from floatip.fleet import rows
from floatip.host.failures import Failures
from floatip.host.membership import Membership
from floatip.host.reload import Outcome
from floatip.reading import ConfigError, ConfigErrors, Loaded, MachineError
from floatip.reading.fleet import Known

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
OWN = Node("db1", ip_address("198.51.100.1"))
TOML = '{"version": 1, "toml": "a = 1"}'


class Loop:
    """Nothing happens before `pass_time`."""

    def __init__(self) -> None:
        self._later: list[Callable[[], object]] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Any:
        self._later.append(lambda: callback(*args))
        return self

    def cancel(self) -> None:
        self._later.clear()

    def pass_time(self) -> None:
        later, self._later = self._later, []
        for each in later:
            each()


class Store:
    """etcd, and the door to it."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.revision = 0
        self.asked: list[Txn] = []
        self.answers = True
        self._followers: list[tuple[str, Callable[[dict[str, Row]], None]]] = []
        """Of several nodes."""

    def follow(self, prefix: str, changed: Callable[[dict[str, Row]], None]) -> None:
        self._followers.append((prefix, changed))

    def forget(self, prefix: str) -> None:
        self._followers = [one for one in self._followers if one[0] != prefix]

    def put(self, key: str, value: str | None) -> None:
        self.revision += 1
        self.rows.pop(key, None)
        if value is not None:
            self.rows[key] = Row(key, value, self.revision)
        self.tell(key)

    def tell(self, changed: str = "") -> None:
        for prefix, follower in self._followers:
            if not changed or changed.startswith(prefix):
                follower({key: row for key, row in self.rows.items() if key.startswith(prefix)})

    def ask(self, question: Question, answered: Callable[[Answer], None]) -> None:
        assert isinstance(question, Txn)
        self.asked.append(question)
        assert len(self.asked) < 20, "it asks without end"
        if not self.answers:
            answered(Unknown("no answer"))
            return
        seen = {one.key: self.rows[one.key].revision if one.key in self.rows else 0 for one in question.compares}
        is_so = all(seen[one.key] == one.revision for one in question.compares)
        answered(TxnDone(is_so, self.revision))
        for one in question.then if is_so else ():
            match one:
                case Put(key, value):
                    self.put(key, value)
                case Delete(key):
                    self.put(key, None)

    def members(self) -> dict[str, Any]:
        return {key[8:]: json.loads(row.value) for key, row in self.rows.items() if key.startswith("members/")}


class Member(Membership):
    """And the rest of its daemon."""

    def __init__(self, store: Store, machine: str = "m1", node: Node = OWN, key: bytes = KEY) -> None:
        self.store, self.loop, self.remembered = store, Loop(), list[dict[str, Any]]()
        self.readings: list[tuple[Known, Outcome]] = []
        self.failures = Failures("fleet", lambda event: None, self.loop)
        super().__init__(store, self._judge, self.failures, self, machine, self.loop)  # type: ignore[arg-type]
        etcd = model.Etcd(("http://127.0.0.1:2379",))
        here = model.Here(node, "eth0", (key,))
        self.loaded = Loaded(model.Model(etcd=etcd, member=model.Member()), here=here, known=Known(prefix="/floatip/"))
        self.refuses: Callable[[Known], ConfigErrors | None] = lambda known: None

    def begin(self) -> "Member":
        self.configure(self.loaded)
        self.store.tell()
        return self

    def told(self) -> dict[str, Code]:
        """Of all that fails, and why."""
        return {one.what: one.code for one in self.failures._now.values()}

    def remember(self, state: dict[str, Any]) -> None:
        self.remembered.append(state)

    def _judge(self, known: Known, outcome: Outcome) -> None:
        self.readings.append((known, outcome))
        found = self.refuses(known)
        if found is None:
            self.loaded = self.loaded._replace(known=known)
            self.configure(self.loaded)
        outcome(self.loaded if found is None else found)

    def asked(self, what: str) -> Any:
        return self.commands()[what].answer({}, 0)


@pytest.fixture
def store() -> Store:
    store = Store()
    store.put("fleet", json.dumps({"format": FORMAT, "key": model.fingerprint(KEY)}))
    return store


def alive(store: Store, name: str = "db1", machine: str = "m1") -> None:
    store.put(f"alive/{name}", json.dumps({"machine": machine, "boot": "b", "version": "1", "address": "x"}))


def member(store: Store, name: str, address: str, since: str = "2026-11-30T04:00:00Z") -> None:
    node = Node(name, ip_address(address))
    store.put(f"members/{name}", rows.member_row(rows.Member(node, "1.0", (), since)))


def test_a_node_registers_once_when_its_name_is_its_own(store: Store) -> None:
    one = Member(store).begin()
    assert not store.members()
    alive(store)
    row = store.members()["db1"]
    assert (row["address"], row["weight"], row["capabilities"]) == ("198.51.100.1", 1, ["exclusive"])
    assert len(store.asked) == 1
    one.configure(one.loaded)
    assert len(store.asked) == 1


def test_a_new_weight_keeps_the_day_on_which_it_registered(store: Store) -> None:
    member(store, "db1", "198.51.100.1", since="2025-01-01T00:00:00Z")
    alive(store)
    Member(store, node=replace(OWN, weight=3.0)).begin()
    row = store.members()["db1"]
    assert (row["weight"], row["since"]) == (3, "2025-01-01T00:00:00Z")


def test_of_two_machines_with_one_name_the_living_one_stays_registered(store: Store) -> None:
    alive(store)
    Member(store).begin()
    second = Member(store, "m2", Node("db1", ip_address("198.51.100.9"))).begin()
    assert store.members()["db1"]["address"] == "198.51.100.1"
    assert second.asked("fleet-join")["waiting"] == "another machine that is alive has the name of this node"
    alive(store, machine="m2")
    assert store.members()["db1"]["address"] == "198.51.100.9"


def test_an_older_name_of_this_machine_goes_and_a_living_neighbour_with_its_address_does_not(store: Store) -> None:
    member(store, "before", "198.51.100.1")
    member(store, "wrong", "198.51.100.1")
    alive(store, "wrong", "m9")
    alive(store)
    one = Member(store).begin()
    one.loop.pass_time()
    assert store.members().keys() == {"db1", "wrong"}
    assert one.loaded.known.members == ()


def test_the_others_are_known_and_of_two_with_one_address_the_later(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    member(store, "db3", "198.51.100.2", since="2026-01-01T00:00:00Z")
    member(store, "db2", "198.51.100.2")
    member(store, "db4", "198.51.100.4")
    assert [node.name for node in one.loaded.known.members] == ["db2", "db4"]
    assert one.remembered[-1]["members"].keys() == {"db2", "db4"}
    store.put("members/db4", None)
    assert [node.name for node in one.loaded.known.members] == ["db2"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("hello", "is no JSON"),
        ("[1]", "is no JSON object"),
        ('{"address": "none"}', "has no IP address under address"),
        ('{"address": "127.0.0.1"}', "has 127.0.0.1 as its address"),
        ('{"address": "198.51.100.2", "weight": "heavy"}', "has no weight from 0 to 1000"),
        ('{"address": "198.51.100.2", "weight": NaN}', "has no weight from 0 to 1000"),
        ('{"address": "198.51.100.2", "capabilities": 1}', "has no list of words under capabilities"),
        ('{"address": "198.51.100.2", "version": "\\ud800"}', "has no text under version"),
        ('{"address": "198.51.100.2"}' + " " * 5000, "is larger than 4 KiB"),
    ],
)
def test_a_row_that_is_none_is_passed_over_and_shown_with_its_key(store: Store, value: str, why: str) -> None:
    alive(store)
    one = Member(store).begin()
    member(store, "db3", "198.51.100.3")
    store.put("members/odd", value)
    assert [node.name for node in one.loaded.known.members] == ["db3"]
    assert "row /floatip/members/odd" in one.failures
    with pytest.raises(rows.Odd, match=why):
        rows.member("odd", value)
    store.put("members/odd", None)
    assert "row /floatip/members/odd" not in one.failures


def test_a_prefix_of_another_fleet_is_left_alone(store: Store) -> None:
    alive(store)
    one = Member(store, key=OTHER_KEY).begin()
    store.put("config", TOML)
    assert not store.asked
    assert not one.readings
    store.put("fleet", "hello")
    assert not store.asked
    assert "this node as a member" in one.failures
    for leave in ("fleet-leave", "fleet-join"):
        assert one.asked(leave)["code"] == "other-fleet"
    store.put("fleet", json.dumps({"format": FORMAT, "key": model.fingerprint(OTHER_KEY)}))
    assert "this node as a member" not in one.failures


def test_what_is_refused_changes_nothing_and_the_next_version_is_tried_at_once(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    store.put("config", TOML)
    assert one.loaded.known.row == TOML
    error = ConfigErrors([ConfigError("etcd", 1, "", "wrong", "mend it")])
    one.refuses = lambda known: error if "bad" in known.row else None
    store.put("config", '{"version": 2, "toml": "bad = 1"}')
    assert one.loaded.known.row == TOML
    assert "the fleet's configuration" in one.failures
    tried = len(one.readings)
    one.loop.pass_time()
    member(store, "db2", "198.51.100.2")
    assert [node.name for node in one.loaded.known.members] == ["db2"], "members are known beside a bad version"
    assert all("bad" not in known.row for known, _ in one.readings[tried:])
    store.put("config", TOML.replace("1}", "3}").replace("a = 1", "a = 3"))
    assert "a = 3" in one.loaded.known.row
    assert "the fleet's configuration" not in one.failures


def test_what_may_mend_is_tried_again(store: Store) -> None:
    alive(store)
    one = Member(store)
    missing = ConfigErrors([MachineError("etcd", 1, "", "there is no eth1", "plug it in")])
    one.refuses = lambda known: missing if known.row else None
    one.begin()
    store.put("config", TOML)
    assert "the fleet's configuration" in one.failures
    one.loop.pass_time()
    assert one.loaded.known.row == ""
    one.refuses = lambda known: None
    one.loop.pass_time()
    assert one.loaded.known.row == TOML
    assert "the fleet's configuration" not in one.failures


def test_a_row_without_a_value_is_refused_and_takes_nothing_away(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    store.put("config", TOML)
    one.refuses = lambda known: (
        None if known.row in ("", TOML) else ConfigErrors([ConfigError("etcd", 1, "", "no", "")])
    )
    store.put("config", "")
    assert one.loaded.known.row == TOML
    assert "the fleet's configuration" in one.failures


def test_a_node_with_nothing_to_carry_says_that_there_is_no_configuration(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    assert one.told() == {"the fleet's configuration": Code.NO_CONFIGURATION}
    store.put("config", TOML)
    assert one.told() == {}
    store.put("config", None)
    assert one.told() == {}, "it goes on with what it has"


def test_a_node_that_has_left_or_has_its_instances_in_its_file_misses_no_configuration(store: Store) -> None:
    alive(store)
    one = Member(store)
    web = settings.Instance("web", (), settings.Nodes())
    one.loaded = one.loaded._replace(model=replace(one.loaded.model, instances=(web,)))
    assert one.begin().told() == {}
    other = Member(store, node=Node("db2", ip_address("198.51.100.2")))
    other.loaded = other.loaded._replace(known=replace(other.loaded.known, has_left=True))
    assert other.begin().told() == {}


def test_a_restored_etcd_with_an_older_version_is_followed_and_said(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    for version in (1, 2, 3):
        store.put("config", TOML.replace(": 1,", f": {version},"))
    assert one.told() == {}
    store.put("config", TOML)
    assert one.loaded.known.row == TOML
    assert one.told() == {"the version of the fleet's configuration": Code.FLEET_OLDER}
    store.put("config", TOML.replace(": 1,", ": 2,").replace("a = 1", "a = 2"))
    assert one.told() == {}


def test_a_configuration_that_is_deleted_stays_in_force(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    store.put("config", TOML)
    store.put("config", None)
    assert one.loaded.known.row == TOML


def test_a_write_without_an_answer_is_tried_again_and_not_without_end(store: Store) -> None:
    alive(store)
    store.answers = False
    one = Member(store).begin()
    assert len(store.asked) == 1
    one.loop.pass_time()
    assert len(store.asked) == 2
    store.answers = True
    one.loop.pass_time()
    assert "db1" in store.members()


def test_who_leaves_is_removed_and_knows_nobody_until_it_joins(store: Store) -> None:
    alive(store)
    member(store, "db2", "198.51.100.2")
    one = Member(store).begin()
    assert one.asked("fleet-leave") == {"done": True, "waiting": ""}
    assert "db1" not in store.members()
    assert one.loaded.known == Known(prefix="/floatip/", has_left=True)
    assert one.remembered[-1]["left"] is True
    one.close()
    again = Member(store)
    again.loaded = again.loaded._replace(known=one.loaded.known)
    again.begin()
    assert "db1" not in store.members(), "a restart does not undo it"
    assert again.asked("fleet-join") == {"done": True, "waiting": ""}
    assert "db1" in store.members()
    assert [node.name for node in again.loaded.known.members] == ["db2"]


def test_who_may_not_leave_learns_why(store: Store) -> None:
    alive(store)
    one = Member(store).begin()
    store.answers = False
    assert one.asked("fleet-leave")["waiting"] == "etcd has not removed this node yet: no answer"
    store.answers = True
    one.loop.pass_time()
    assert one.asked("fleet-leave") == {"done": True, "waiting": ""}


def test_a_node_that_is_no_member_refuses_to_leave(store: Store) -> None:
    one = Member(store)
    one.loaded = one.loaded._replace(model=replace(one.loaded.model, member=None))
    one.begin()
    assert one.asked("fleet-leave")["code"] == "no-fleet"
