"""A sync group in one node: its state, what the status and `explain` say of it, and reloads."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest

from floatip.core.addresses import Address
from floatip.core.differences import differences
from floatip.core.election.elector import Role
from floatip.core.events import (
    AdvertReceived,
    Became,
    CheckDone,
    Effect,
    Event,
    Garp,
    Held,
    Hold,
    LinkChanged,
    Reloaded,
    SendAdvert,
    Started,
    Ticked,
)
from floatip.core.explain import explain
from floatip.core.foresight import Kind, Outcome, Question, names
from floatip.core.health import Health
from floatip.core.node import Node
from floatip.core.problems import Code
from floatip.core.rules import Rule
from floatip.core.settings import Check, Instance, Settings, SyncGroup, Track, Vrrp
from floatip.core.snapshot import describe
from floatip.core.vrrp import wire
from floatip.core.vrrp.wire import Advert
from floatip.core.whatif import foreseen
from floatip.text import printable
from floatip.view import draw_status

ONE, TWO = "one", "two"
PEERS: dict[str, Address] = {ONE: IPv4Address("10.0.1.2"), TWO: IPv4Address("10.0.2.2")}
OURS: dict[str, Address] = {ONE: IPv4Address("10.0.1.1"), TWO: IPv4Address("10.0.2.1")}
VIPS = {ONE: IPv4Interface("192.0.2.1/32"), TWO: IPv4Interface("192.0.2.2/32")}
VRIDS = {ONE: 51, TWO: 52}


def instance(name: str, **changes: Any) -> Instance:
    election = Vrrp(f"eth{VRIDS[name]}", VRIDS[name], 100, OURS[name], (PEERS[name],))
    where: dict[str, Any] = {"placement": "master", "interface": "lan"}
    return Instance(name, (VIPS[name],), election, checks=(name,), **where | changes)


def grouped(group: dict[str, Any] | None = None, **changes: Any) -> Settings:
    """`changes`: to both instances; `group`: to their group."""
    checks = tuple(Check(name, pushed=True) for name in (ONE, TWO, "both", "light"))
    return Settings(
        checks, (instance(ONE, **changes), instance(TWO, **changes)), (SyncGroup("G", (ONE, TWO), **(group or {})),)
    )


class Pair:
    """A node with two instances, and a kernel that does what it is asked."""

    def __init__(self, config: Settings, *, results: tuple[str, ...] = (ONE, TWO, "both", "light")) -> None:
        self.now = 0.0
        self.node = Node(config, 0)
        self.tell(Started(), *(LinkChanged(f"eth{vrid}", True, "") for vrid in VRIDS.values()))
        self.tell(*(CheckDone(name, 0, True, "it passes") for name in results))

    def tell(self, *events: Event) -> list[Effect]:
        effects = [effect for event in events for effect in self.node.handle(event, self.now)]
        for effect in list(effects):
            if isinstance(effect, Hold):
                effects += self.tell(Held(effect.addresses))
        return effects

    def run(self, seconds: float, *, peer: int = 0) -> "Pair":
        """`peer`: the priority of the other node, which is master of both then."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(max(self.node.deadline, self.now), until, float(int(self.now + 1)))
            if peer and self.now == int(self.now):
                self.tell(self.advert(ONE, peer), self.advert(TWO, peer))
            self.tell(Ticked())
        return self

    def advert(self, name: str, priority: int) -> AdvertReceived:
        source, ours = PEERS[name], OURS[name]
        data = wire.pack(Advert(2, VRIDS[name], priority, 1.0, (VIPS[name].ip,)), source, ours)
        return AdvertReceived(f"eth{VRIDS[name]}", source, ours, 255, data)

    def check(self, name: str, passed: bool, value: int | None = None) -> list[Effect]:
        return self.tell(CheckDone(name, 0, passed, "it passes" if passed else "it fails", value))

    @property
    def roles(self) -> set[Role]:
        return {one.role for one in self.node.instances.values()}

    def foresee(self, kind: Kind, of: str, name: str = ONE) -> Outcome:
        return foreseen(self.node, Question(kind, of), names(self.node), self.node.instances[name], self.now)


def news(effects: list[Effect], what: str) -> list[tuple[str, str]]:
    return [(e.name, e.value) for e in effects if isinstance(e, Became) and e.what == what]


def sent(effects: list[Effect]) -> list[tuple[int, int]]:
    adverts = [e for e in effects if isinstance(e, SendAdvert)]
    return [(p.vrid, p.priority) for p in (wire.parse(e.data, e.source, e.destination) for e in adverts)]


def master(config: Settings | None = None) -> Pair:
    pair = Pair(config or grouped()).run(10)
    assert pair.roles == {Role.MASTER}
    return pair


def backup(config: Settings | None = None, priority: int = 200) -> Pair:
    pair = Pair(config or grouped()).run(10, peer=priority)
    assert pair.roles == {Role.BACKUP}
    return pair


def test_the_last_member_whose_timer_runs_out_takes_the_others_along_in_one_answer() -> None:
    pair = backup().run(0.5)
    pair.tell(pair.advert(TWO, 200))
    pair.run(3.3)  # the first wants to be master since 3.6 s after its last advert
    assert (pair.roles, pair.node.instances[ONE].wants_master) == ({Role.BACKUP}, True)
    found = []
    while pair.roles == {Role.BACKUP}:
        pair.now = pair.node.deadline
        found = pair.tell(Ticked())
    assert pair.roles == {Role.MASTER}
    assert sent(found)[:2] == [(51, 100), (52, 100)]
    assert news(found, "role") == [(ONE, "master"), (TWO, "master")]
    assert news(found, "group") == [("G", "master")]


def test_a_member_that_hears_a_better_master_takes_the_others_along_without_priority_0() -> None:
    pair = master()
    effects = pair.tell(pair.advert(TWO, 200))
    assert news(effects, "role") == [(TWO, "backup"), (ONE, "backup")]
    assert 0 not in {priority for _, priority in sent(effects)}
    assert news(effects, "group") == [("G", "backup")]
    assert len(pair.node.holding.wanted or ()) == 2  # until the next master has them
    pair.run(0.3)
    assert not pair.node.holding.wanted


@pytest.mark.parametrize("check", [ONE, TWO])
def test_a_fault_of_one_member_is_one_of_all_and_all_say_priority_0_once(check: str) -> None:
    pair = master()
    effects = pair.check(check, False)
    assert sorted(sent(effects)) == [(51, 0), (52, 0)]
    assert (pair.roles, news(effects, "group")) == ({Role.FAULT}, [("G", "fault")])
    other = pair.node.instances[TWO if check == ONE else ONE]
    assert (other.health, other.elector.reason) == (Health.UP, f"sync group G: {check}: check {check}: it fails")
    pair.check(check, True)
    assert pair.roles == {Role.BACKUP}


def test_no_member_leaves_init_or_fault_while_another_waits_for_a_first_result() -> None:
    pair = Pair(grouped(), results=(ONE,))
    assert pair.roles == {Role.INIT}
    pair.check(TWO, True)
    assert pair.roles == {Role.BACKUP}


def test_a_check_of_the_group_counts_for_the_health_of_each_member() -> None:
    pair = master(grouped({"checks": ("both",)}))
    pair.check("both", False)
    assert {one.health for one in pair.node.instances.values()} == {Health.DOWN}


def test_weights_of_members_count_only_if_the_group_says_so_and_its_own_for_all() -> None:
    own, of_group = (Track("light", -10),), (Track("both", -20),)
    for members_have_weights, priority in ((False, 80), (True, 70)):
        group = {"tracks": of_group, "members_have_weights": members_have_weights}
        pair = master(grouped(group, tracks=own))
        effects = pair.check("light", False) + pair.check("both", False)
        assert {one.elector.priority for one in pair.node.instances.values()} == {priority}  # type: ignore[attr-defined]
        assert news(effects, "priority")[-2:] == [(ONE, str(priority)), (TWO, str(priority))]
        assert pair.roles == {Role.MASTER}


def test_the_neighbours_of_all_members_are_told_again_when_one_hears_a_lower_master() -> None:
    pair = master()
    effects = pair.tell(pair.advert(ONE, 10))
    told = [placed.address for effect in effects if isinstance(effect, Garp) for placed in effect.addresses]
    assert (told, news(effects, "advert")) == ([VIPS[ONE], VIPS[TWO]], [(ONE, "lower")])


def test_a_reload_that_makes_or_ends_a_group_changes_no_role_of_its_own() -> None:
    together, alone = grouped(), replace(grouped(), sync_groups=())
    pair = master(alone)
    assert news(pair.tell(Reloaded(together)), "role") == []
    assert [(one.name, one.role.value) for one in describe(pair.node, pair.now).groups] == [("G", "master")]
    assert pair.run(5).roles == {Role.MASTER}
    assert news(pair.tell(Reloaded(alone)), "role") == []
    pair.check(ONE, False)
    assert [one.role for one in pair.node.instances.values()] == [Role.FAULT, Role.MASTER]
    assert differences(alone, together) == "sync group G added"


def test_a_member_that_a_reload_adds_is_awaited_by_a_group_that_is_master() -> None:
    one = replace(grouped(), instances=(instance(ONE),), sync_groups=(SyncGroup("G", (ONE,)),))
    pair = master(one)
    assert news(pair.tell(Reloaded(grouped())), "role") == [(TWO, "backup")]
    pair.run(5)
    assert pair.roles == {Role.MASTER}


# What is said of it

WEIGHTED = grouped({"tracks": (Track("light", -20),)})


def text(pair: Pair) -> str:
    lines = draw_status(describe(pair.node, pair.now))
    return "\n".join(printable("".join(part for part, _ in line)) for line in lines)


def test_the_status_has_the_priority_with_its_sum_and_the_group_with_its_state() -> None:
    pair = master(WEIGHTED)
    assert "priority   100, with the weights light -20" in text(pair)
    pair.check("light", False)
    assert "priority   80 = 100 - 20 (check light is down)" in text(pair)
    assert "sync group G, MASTER as a whole: one, two" in text(pair)
    view = describe(pair.node, pair.now).instances[0]
    assert (view.priority, view.base_priority, view.group) == (80, 100, "G")
    assert [(one.check, one.weight, one.shift) for one in view.tracks] == [("light", -20, -20)]


def test_a_master_with_less_priority_that_nobody_relieves_is_a_warning() -> None:
    pair = master(WEIGHTED)
    pair.check("light", False)
    assert Code.PRIORITY_LOWERED not in codes(pair)
    pair.run(5)
    assert codes(pair).count(Code.PRIORITY_LOWERED) == 2
    pair.check("light", True)
    assert Code.PRIORITY_LOWERED not in codes(pair)


def codes(pair: Pair) -> list[str]:
    return [problem.code for problem in describe(pair.node, pair.now).problems]


def rule(pair: Pair, name: str) -> tuple[Rule, str]:
    found = explain(pair.node, pair.node.instances[name], names(pair.node), pair.now)
    return found.rule, found.what


def test_explain_names_the_member_that_keeps_the_group_from_it() -> None:
    pair = master()
    pair.check(ONE, False)
    assert rule(pair, TWO) == (Rule.SYNC_GROUP, "sync group G: one: check one: it fails")
    pair = backup()
    while not pair.node.instances[ONE].wants_master:
        pair.tell(pair.advert(TWO, 200))
        pair.now += 1
        pair.tell(Ticked())
    found, what = rule(pair, ONE)
    assert (found, "two follows 10.0.2.2" in what) == (Rule.SYNC_GROUP, True)


def test_explain_says_what_checks_have_to_do_with_the_priority() -> None:
    pair = master(WEIGHTED)
    pair.check("light", False)
    assert rule(pair, ONE)[1].endswith("a higher priority than 80 (100 - 20 (check light is down))")


def test_a_check_of_another_member_is_foretold_as_the_fault_of_all() -> None:
    outcome = master().foresee("check-fails", TWO, ONE)
    assert (outcome.rule, outcome.carrier, outcome.certain) == (Rule.UNHEALTHY, str(PEERS[ONE]), False)


def test_where_a_weight_decides_what_the_silent_backups_have_is_said_to_be_unknown() -> None:
    pair = master(WEIGHTED)
    outcome = pair.foresee("check-fails", "light")
    assert (outcome.rule, outcome.carrier, outcome.certain) == (Rule.PRIORITY, "", False)
    assert "becomes 80 (100 - 20 (check light is down))" in outcome.what
    assert "higher priority than 80" in outcome.unknown[0]


def test_a_backup_whose_priority_rises_above_that_of_its_master_is_foretold_to_take_over() -> None:
    alone = replace(WEIGHTED, sync_groups=(), instances=(instance(ONE, tracks=(Track("light", 50),)),))
    pair = Pair(alone, results=(ONE,)).run(10, peer=120)
    outcome = pair.foresee("check-passes", "light")
    assert (outcome.carrier, outcome.certain, outcome.rule) == ("10.0.1.1", True, Rule.PRIORITY)
    assert outcome.after is not None
    began = pair.now
    pair.check("light", True)
    while pair.roles != {Role.MASTER}:
        pair.run(0.1, peer=120)
    assert outcome.after <= pair.now - began <= outcome.after + 1.1  # it learns of the lower master by an advert


def test_what_a_check_with_a_number_does_is_not_foretold() -> None:
    pair = master(WEIGHTED)
    pair.check("light", False, 3)
    assert "which number" in pair.foresee("check-passes", "light").unknown[0]
