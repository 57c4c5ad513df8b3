"""The status tells the truth where etcd decides: "no problems" is said only if the address is served and, if the node
that serves it dies, the other one takes over. That is tried: the node dies.
"""

import copy
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import pytest

from floatip.core.diagnosis import diagnose
from floatip.core.election.elector import Role
from floatip.core.problems import Code, Problem, Severity
from floatip.core.settings import Instance, Nodes
from tests.core.arbitrated import DB, WEB, World

FLEET = '{"format": 1, "key": "ours"}'
ALIVE = '{"machine": "another", "boot": "1", "version": "1", "address": "10.0.0.9"}'
RELEASE = replace(WEB, election=Nodes(prefer=("n1",), on_arbiter_loss="release"))
KINDS: dict[str, Instance] = {"exclusive": DB, "release": RELEASE, "plain": WEB}
AT_ETCD: dict[str, dict[str, Any]] = {
    "well": {},
    "never": {"answers": False},
    "another fleet": {"rows": {"fleet": '{"format": 1, "key": "theirs"}'}},
    "another format": {"rows": {"fleet": '{"format": 2, "key": "ours"}'}},
    "no row of ours": {"rows": {"fleet": "hello"}},
    "name of n1 taken": {"rows": {"fleet": FLEET, "alive/n1": ALIVE}},
    "name of n2 taken": {"rows": {"fleet": FLEET, "alive/n2": ALIVE}},
    "owner by hand": {"rows": {"fleet": FLEET, "owners/db": "mine", "owners/web": "[]"}},
}
LOST = (
    *("not lost", "all for 2 s", "all for 6 s", "n1 for 2 s", "n1 for 6 s", "n2 for 6 s"),
    *("back for 1 s", "back for 6 s"),
)
Situation = tuple[str, str, str]


@cache
def world(kind: str, at_etcd: str, lost: str) -> World:
    made = World((KINDS[kind],), **AT_ETCD[at_etcd])
    made.run(8.0)
    if lost.startswith(("all", "n1", "n2", "back")):
        who, _, rest = lost.partition(" for ")
        made.lose_etcd(*(() if who in ("all", "back") else (who,)))
        made.run(6.0 if who == "back" else float(rest.split()[0]))
        if who == "back":
            made.lose_etcd("nobody")
            made.run(float(rest.split()[0]))
    return made


SITUATIONS = [*product(KINDS, ("well",), LOST), *product(KINDS, AT_ETCD, ("not lost",))]


def found(situation: Situation, name: str) -> list[Problem]:
    made = world(*situation)
    return diagnose(made.nodes[name], made.now)


def serves(made: World, name: str) -> bool:
    (instance,) = made.nodes[name].instances.values()
    return instance.role is Role.MASTER and all(instance.held(made.nodes[name].holding))


def succeeds(made: World, dies: str, other: str) -> bool:
    """Whether the other node serves when this one has died; the lease time is over by then."""
    after = copy.deepcopy(made)
    del after.nodes[dies]
    after.run(7.0)
    return serves(after, other)


@cache
def is_well(situation: Situation) -> bool:
    """Someone serves, and is followed by the other one."""
    made = world(*situation)
    serving = [name for name in made.nodes if serves(made, name)]
    if len(serving) != 1:
        return False
    (other,) = made.nodes.keys() - serving
    return succeeds(made, serving[0], other)


@pytest.mark.parametrize("name", ["n1", "n2"])
def test_no_problems_is_said_only_where_a_node_serves_and_the_other_one_follows(name: str) -> None:
    calm = [
        situation
        for situation in SITUATIONS
        if not any(problem.severity is Severity.PROBLEM for problem in found(situation, name))
    ]
    # Each node speaks for itself: of two, one that cannot follow says so on its own status.
    wrong = [one for one in calm if not is_well(one) and other_is_calm(one, name)]
    assert wrong == []
    assert len(calm) > 5


def other_is_calm(situation: Situation, name: str) -> bool:
    other = "n2" if name == "n1" else "n1"
    return not any(problem.severity is Severity.PROBLEM for problem in found(situation, other))


def test_nothing_is_cried_about_two_nodes_that_etcd_answers() -> None:
    for kind, lost in product(KINDS, ("not lost", "back for 6 s")):
        for name in ("n1", "n2"):
            assert found((kind, "well", lost), name) == []


def test_a_node_that_needs_nothing_of_etcd_only_warns_while_it_is_gone() -> None:
    for lost in ("all for 2 s", "all for 6 s"):
        assert is_well(("plain", "well", lost))
        for name in ("n1", "n2"):
            assert {(one.code, one.severity) for one in found(("plain", "well", lost), name)} == {
                (Code.ETCD_LOST, Severity.WARNING)
            }


def test_every_problem_with_etcd_names_the_next_step() -> None:
    seen = [one for situation in SITUATIONS for name in ("n1", "n2") for one in found(situation, name)]
    every = {(one.code, one.what): one for one in seen}
    assert not [one for one in every.values() if not one.hint]
    codes = {code for code, _ in every}
    assert codes >= {Code.ETCD_LOST, Code.EXCLUSIVE_LOST, Code.ETCD_PREFIX, Code.NAME_TAKEN, Code.ETCD_ROW}
