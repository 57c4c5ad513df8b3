"""What is wrong with etcd is a problem with its code; `floatip explain` says who owns what, and what is waited for."""

import json
import shlex
from dataclasses import replace

import pytest

from floatip.core.arbiter_problems import of_arbiter
from floatip.core.diagnosis import diagnose
from floatip.core.election.elector import Role
from floatip.core.election.nodes import NodesElector
from floatip.core.etcd import (
    AskEtcd,
    Delete,
    EtcdChanged,
    EtcdEndpoint,
    EtcdMembers,
    EtcdUnwatched,
    KeepAlive,
    Put,
    Txn,
    Unknown,
)
from floatip.core.events import Drained, Order
from floatip.core.explain import Explanation, explain
from floatip.core.foresight import Kind, Outcome, Question, names
from floatip.core.orders import objection
from floatip.core.problems import Code, Problem, Severity
from floatip.core.refusals import Why
from floatip.core.rules import Rule
from floatip.core.whatif import foreseen
from floatip.explain import Explained, draw_explanations
from tests.core.arbitrated import DB, LEASE_TIME, REFUSED, WEB, World
from tests.core.test_nodes_play import EPOCH


def problems(world: World, name: str = "n1") -> list[Problem]:
    return diagnose(world.nodes[name], world.now)


def one(world: World, code: Code, name: str = "n1") -> Problem:
    (found,) = [problem for problem in problems(world, name) if problem.code == code]
    return found


def told(world: World, name: str, instance: str) -> Explanation:
    node = world.nodes[name]
    return explain(node, node.instances[instance], names(node), world.now)


def outcome(world: World, name: str, instance: str, kind: Kind, of: str = "") -> Outcome:
    node = world.nodes[name]
    return foreseen(node, Question(kind, of), names(node), node.instances[instance], world.now)


def owner(node: str, epoch: float, **changes: object) -> str:
    row = {"node": node, "machine": f"machine {node}", "boot": "0" * 16, "epoch": round(epoch * 1000)}
    return json.dumps({**row, "held": True, "released": False, "why": "by hand", **changes})


def test_the_carrier_says_when_its_exclusive_instance_leaves_and_what_goes_on() -> None:
    world = World()
    world.lose_etcd()
    world.run(2.0)
    found = one(world, Code.ETCD_LOST)
    assert (
        found.what
        == f"etcd has not answered for 2.0 s ({REFUSED}): db leaves this node within 1.5 s; web goes on by the link"
    )
    assert found.severity is Severity.PROBLEM
    assert "this node may not take over db" in one(world, Code.ETCD_LOST, "n2").what
    world.run(1.6)
    assert world.carriers() == {"db": "", "web": "n1"}
    assert one(world, Code.EXCLUSIVE_LOST).what == "no node may have db: etcd does not answer"
    assert Code.NOBODY_SERVES not in {each.code for each in problems(world)}


def test_a_keepalive_that_is_answered_does_not_hide_that_etcd_refuses_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.run(2.0)
    ask, reason = world.etcd.ask, "etcd wants to know the user"
    monkeypatch.setattr(
        world.etcd, "ask", lambda question: ask(question) if isinstance(question, KeepAlive) else Unknown(reason)
    )
    world.run(1.5)
    for _ in range(30):
        world.run(0.1)
        assert f"({reason})" in one(world, Code.ETCD_LOST).what
    monkeypatch.setattr(world.etcd, "ask", ask)
    world.run(1.5)
    assert Code.ETCD_LOST not in {each.code for each in problems(world)}


def test_a_node_without_instances_says_that_etcd_is_gone_and_nothing_after_that() -> None:
    world = World()
    world.lose_etcd()
    world.run(2.0)
    world.nodes["n1"].instances = {}
    assert one(world, Code.ETCD_LOST).what == f"etcd has not answered for 2.0 s ({REFUSED})"


def test_a_node_whose_etcd_alone_is_gone_names_the_node_that_carries_it() -> None:
    world = World()
    world.lose_etcd("n2")
    world.run(6.0)
    what = one(world, Code.EXCLUSIVE_LOST, "n2").what
    assert what == "db is on n1, and this node may not take it over: etcd does not answer"
    assert {each.code for each in problems(world, "n1")} == {Code.NO_STANDBY}


def test_an_owner_that_waits_says_for_whom_and_how_long() -> None:
    world = World()
    world.do("down", "n1", "n1")
    world.run(1.0)
    assert world.carriers() == {"db": "", "web": "n2"}
    waits = [each.what for each in problems(world, "n2") if each.code is Code.NOBODY_SERVES]
    assert waits == [
        "db: no node that is heard is master; this node owns it, and waits 4.3 s until n1 surely has let go"
    ]
    (view,) = [each.etcd for each in world.status("n2").instances if each.name == "db"]
    assert view is not None
    assert (view.own, view.waits_for, view.exclusive) == (True, "n1", True)
    world.run(5.0)
    assert world.carriers() == {"db": "n2", "web": "n2"}


def test_a_master_that_is_not_the_owner_is_a_disagreement_after_two_seconds() -> None:
    world = World((WEB,))
    arbiter = world.nodes["n1"].arbiter
    assert arbiter is not None
    row = replace(arbiter.owners["web"], node="n2", boot="another")
    arbiter.owners["web"], arbiter.seen_at["web"] = row, world.now - 1.0
    assert problems(world) == []
    arbiter.seen_at["web"] = world.now - 2.5
    found = one(world, Code.ETCD_DISAGREES)
    assert found.what == "web is served by this node, and etcd says that n2 owns it"
    assert found.severity is Severity.PROBLEM
    world.lose_etcd()
    world.run(3.0)
    assert Code.ETCD_DISAGREES not in {each.code for each in problems(world)}  # what etcd said last may be old


def test_an_endpoint_that_is_bad_among_good_ones_is_a_warning() -> None:
    world = World()
    good = EtcdEndpoint("https://10.0.0.1:2379", True, "", "", True, "3.5.9")
    bad = EtcdEndpoint("https://10.0.0.2:2379", False, "10.0.0.2:2379 refuses the connection", "start it", False, "")
    world.tell("n1", EtcdMembers((good, bad), 2))
    assert Code.ETCD_MEMBER_DOWN not in {each.code for each in problems(world)}
    world.run(2.5)
    found = one(world, Code.ETCD_MEMBER_DOWN)
    assert found.what == "1 of 2 endpoints of etcd is not well: 10.0.0.2:2379 refuses the connection"
    assert (found.severity, found.hint) == (Severity.WARNING, "start it")
    etcd = world.status().etcd
    assert etcd is not None
    assert [(each.url[-6:], each.answers, each.for_) for each in etcd.endpoints] == [
        ("1:2379", True, 2.5),
        ("2:2379", False, 2.5),
    ]
    assert etcd.more_rows == 2
    world.tell("n1", EtcdMembers((good, replace(bad, answers=True, reason="", hint=""))))
    assert problems(world) == []


def test_a_clock_that_is_ahead_is_named_with_its_node() -> None:
    world = World(rows={"fleet": '{"format": 1, "key": "ours"}', "owners/web": owner("n2", EPOCH + 600, released=True)})
    found = [each for each in problems(world) if each.code is Code.CLOCK_AHEAD]
    assert [(each.subject, each.severity) for each in found] == [("n1", Severity.WARNING)]  # its epoch follows n2's
    assert "s ahead of the clock of this node" in found[0].what


def test_explain_says_who_owns_it_since_when_and_what_etcd_makes_of_a_failure() -> None:
    world = World()
    here = told(world, "n2", "db")
    assert here.owner is not None
    assert (here.owner.owner, here.owner.epoch // 1000, here.etcd_silent) == ("n1", round(EPOCH), None)
    dies = outcome(world, "n2", "db", "down", "n1")
    assert dies.carrier == "n2"
    assert dies.after == pytest.approx(0.3 + 5.0, abs=0.1)
    assert outcome(world, "n2", "web", "down", "n1").after == pytest.approx(0.3, abs=0.1)
    lost = outcome(world, "n1", "db", "etcd-gone")
    assert (lost.carrier, lost.rule) == ("", Rule.ETCD_SILENT)
    stays = outcome(world, "n1", "web", "etcd-gone")
    assert (stays.carrier, stays.before) == ("n1", "n1")


@pytest.mark.parametrize("instance", ["db", "web"])
def test_what_is_foretold_of_a_dead_node_happens(instance: str) -> None:
    world = World()
    foretold = outcome(world, "n2", instance, "down", "n1")
    assert foretold.after is not None
    world.do("down", "n1", "n1")
    world.run(foretold.after - 0.15)
    assert world.carriers()[instance] == ""
    world.run(0.3)
    assert world.carriers()[instance] == foretold.carrier == "n2"


def test_what_is_foretold_of_etcd_happens() -> None:
    world = World()
    foretold = {name: outcome(world, "n1", name, "etcd-gone").carrier for name in ("db", "web")}
    world.lose_etcd()
    world.run(6.0)
    assert world.carriers() == foretold == {"db": "", "web": "n1"}
    dies = outcome(world, "n2", "db", "down", "n1")
    assert (dies.carrier, dies.rule) == ("", Rule.ETCD_SILENT)


def test_a_drain_that_is_refused_because_etcd_is_gone_says_so() -> None:
    world = World()
    world.lose_etcd()
    world.run(6.0)
    refused = objection(world.nodes["n1"], Drained(Order("work")), force=False)
    assert refused
    assert refused.code is Why.NOBODY_READY
    assert refused.what.endswith("take over db: etcd does not answer, and without etcd no node may have it")
    assert refused.hint.startswith("make etcd answer first: floatip doctor; ")


def test_explain_says_that_a_node_alone_without_etcd_may_not_take_it_from_its_carrier() -> None:
    world = World()
    world.lose_etcd("n2")
    world.run(6.0)
    there = told(world, "n2", "db")
    assert there.carrier == "n1"
    assert (there.rule, there.what) == (Rule.ETCD_SILENT, "etcd does not answer; without etcd n2 may not take it over")


@pytest.mark.parametrize(("seconds", "said"), [(2, "2.0 s"), (64, "1 min 4 s"), (3600 + 125, "1 h 2 min")])
def test_for_how_long_etcd_is_gone_is_said_in_units_of_people(seconds: float, said: str) -> None:
    world = World()
    arbiter = world.nodes["n1"].arbiter
    assert arbiter
    world.lose_etcd()
    world.run(6.0)
    (lost,) = (
        one for one in of_arbiter(world.nodes["n1"], arbiter, arbiter.since + seconds) if one.code is Code.ETCD_LOST
    )
    assert lost.what.startswith(f"etcd has not answered for {said} (")


def test_explain_names_etcd_as_what_keeps_a_node_from_it() -> None:
    world = World()
    world.lose_etcd()
    world.run(6.0)
    here = told(world, "n1", "db")
    assert (here.rule, here.what) == (Rule.ETCD_SILENT, "etcd does not answer; without etcd no node may have it")
    shown = draw_explanations([Explained(here, None)], 80)
    assert "by etcd    etcd, which has not answered for 6.0s, said that n1 has owned it\n" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    world = World()
    world.do("down", "n1", "n1")
    world.run(1.0)
    assert told(world, "n2", "db").rule is Rule.WAITS_FOR_ETCD


def test_without_etcd_nothing_speaks_of_it() -> None:
    world = World((DB,))
    world.nodes["n1"].arbiter = None
    assert world.status().etcd is None
    assert told(world, "n1", "db").owner is None


def test_a_node_that_has_let_go_knows_at_once_that_it_is_not_the_owner_although_etcd_does_not_answer() -> None:
    world = World()
    assert world.carriers()["db"] == "n1"
    world.lose_etcd("n1")
    world.run(6.0)
    node = world.nodes["n1"]
    elector = node.instances["db"].elector
    assert node.arbiter is not None
    assert isinstance(elector, NodesElector)
    assert elector.ruling is not None
    assert node.arbiter.is_spent("db")
    assert (node.instances["db"].role, elector.ruling.is_own) == (Role.BACKUP, False)


@pytest.mark.parametrize("key", ["owners/old", "owners/$(reboot)", "asks/it's"])
def test_the_hint_of_a_garbled_row_is_a_command_that_asks_for_this_row_alone(key: str) -> None:
    world = World(prefix="/floatip/")
    world.put(key, "hello")
    world.run(1.0)
    get, _, delete = one(world, Code.ETCD_ROW).hint.removeprefix("see who wrote it: ").partition("; ")
    assert shlex.split(get) == ["etcdctl", "get", f"/floatip/{key}"]
    assert shlex.split(delete.rpartition(": ")[2]) == ["etcdctl", "del", f"/floatip/{key}"]


@pytest.mark.parametrize("are_members", [True, False])
def test_files_that_name_their_node_are_compared_and_not_copied(are_members: bool) -> None:
    world = World(registers=are_members)
    other = world.nodes["n2"].fleet
    assert other
    other.link.config = replace(other.link.config, digest=b"another!")
    world.run(3.0)
    hint = one(world, Code.OTHER_CONFIGURATION).hint
    assert ("copy floatip.toml" in hint) is not are_members
    assert ("floatip status on n2; if not, make floatip.toml alike" in hint) is are_members


def test_a_store_that_may_be_another_one_is_asked_whose_prefix_it_is() -> None:
    """As after a restore, or where a reload names another prefix."""
    world = World()
    world.run(1.0)
    world.etcd.write(Put("fleet", json.dumps({"format": 1, "key": "theirs"})))
    before = {key: row.revision for key, row in world.etcd.rows.items()}
    world.tell("n1", EtcdUnwatched("etcd was made again or restored: it is another cluster"))
    world.run(1.0)
    assert "belongs to a fleet with another key" in one(world, Code.ETCD_PREFIX).what
    assert {key: row.revision for key, row in world.etcd.rows.items()} == before


def test_an_empty_store_gets_the_row_of_the_fleet_again() -> None:
    world = World()
    world.run(1.0)
    row = world.etcd.rows["fleet"].value
    world.etcd.write(Delete("fleet"))
    for name in ("n1", "n2"):
        world.tell(name, EtcdUnwatched("etcd was made again or restored: its term went back"))
    world.run(1.0)
    assert world.etcd.rows["fleet"].value == row
    assert world.carriers() == {"db": "n1", "web": "n1"}
    assert problems(world) == []


def test_another_prefix_is_asked_whose_it_is() -> None:
    world = World(prefix="/ours/")
    world.run(1.0)
    arbiter = world.nodes["n1"].arbiter
    assert arbiter
    arbiter.reconfigure(replace(arbiter.config, prefix="/theirs/"), arbiter.own, ("db", "web"))
    asked = arbiter.unwatched("the configuration names another etcd", world.now)
    assert [type(one.question) for one in asked if isinstance(one, AskEtcd)] == [Txn], (
        "before any row is read or written"
    )


def test_a_row_that_is_no_json_is_told_in_words() -> None:
    world = World()
    for value, why in (("hello", "it is no JSON object"), ('{"to": 3}', 'it has no "to" that is a text')):
        world.put("asks/old", value)
        world.run(1.0)
        assert one(world, Code.ETCD_ROW).what == f"the row asks/old at etcd is not one of floatip's: {why}"


def test_a_node_that_asks_another_etcd_is_named_after_a_lease() -> None:
    world = World()
    world.run(1.0)
    world.lose_etcd("n2")
    world.etcd.write(Delete("alive/n2"))
    world.tell("n1", EtcdChanged(world.etcd.revision, (), ("alive/n2",)))
    world.run(LEASE_TIME + 3.0)
    found = one(world, Code.NOT_AT_ETCD)
    assert found.what == "n2 is alive, and has no lease at this node's etcd: it does not reach it, or asks another"
    assert (found.subject, found.severity) == ("n2", Severity.WARNING)
    assert Code.NOT_AT_ETCD not in {each.code for each in problems(world, "n2")}, "it does not know who lives"
