"""Which node is to carry which instance: even, the same on every node, and nothing moves that need not."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import combinations, permutations
from statistics import mean

import pytest

from floatip.core.link.spread import assign, ranking
from floatip.core.settings import Instance, Node, Nodes, Static

SEEDS = range(300)
WEB = ("haproxy2", "haproxy1", "haproxy3")
EIGHT = {
    "web1": "haproxy3",
    "web2": "haproxy1",
    "web3": "haproxy3",
    "web4": "haproxy3",
    "web5": "haproxy1",
    "web6": "haproxy1",
    "web7": "haproxy2",
    "web8": "haproxy2",
}


def nodes(*names: str, **weights: float) -> list[Node]:
    addresses = (ip_address(f"192.0.2.{number}") for number in range(1, 255))
    return [Node(name, next(addresses), weights.get(name, 1.0)) for name in names]


def instance(name: str, *prefer: str, together: str = "", apart: str = "") -> Instance:
    return Instance(name, (), Nodes(prefer, together, apart))


def everything(instance: str, node: str) -> bool:
    return True


def without(*gone: str) -> Callable[[str, str], bool]:
    return lambda instance, node: node not in gone


def plan(instances: Sequence[Instance], fleet: Sequence[Node]) -> dict[str, str]:
    return assign(instances, fleet, everything, {})


def names(chance: random.Random, count: int) -> list[str]:
    """As an administrator names things: `web1`, or nothing in common."""
    word = "".join(chance.choices("abcdefgh", k=3))
    several = chance.random() < 0.5
    return [f"{word}{number}" if several else f"{chance.getrandbits(32):x}" for number in range(1, count + 1)]


def drawn(chance: random.Random) -> tuple[list[Instance], list[Node]]:
    """Instances of every kind on two to seven nodes."""
    fleet_names = names(chance, chance.randint(2, 7))
    fleet = nodes(*fleet_names, **{name: chance.choice([0.0, 0.5, 1.0, 1.0, 3.0]) for name in fleet_names})
    instances = [
        instance(
            name,
            *chance.sample(fleet_names, chance.choice([0, 0, 1, 2])),
            together=chance.choice(["", "", "t1", "t2"]),
            apart=chance.choice(["", "", "a1"]),
        )
        for name in names(chance, chance.randint(1, 20))
    ]
    return instances, fleet


def some_ready(chance: random.Random, instances: Sequence[Instance], fleet: Sequence[Node]) -> set[tuple[str, str]]:
    likely = chance.choice([0.3, 0.5, 0.7, 0.95])
    return {(i.name, n.name) for i in instances for n in fleet if chance.random() < likely}


# Even


def test_eight_instances_end_three_three_two_on_three_nodes() -> None:
    chance = random.Random(1)
    ratios = []
    for _ in SEEDS:
        fleet = nodes(*names(chance, 3))
        loads = Counter(plan([instance(name) for name in names(chance, 8)], fleet).values())
        assert sorted(loads.values()) == [2, 3, 3]
        ratios.append(max(loads.values()) / (8 / 3))
    assert mean(ratios) <= 1.15


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 64])
def test_the_loads_of_equal_nodes_differ_by_one_at_most(count: int) -> None:
    chance = random.Random(count)
    for _ in range(50):
        fleet = nodes(*names(chance, chance.randint(2, 7)))
        loads = Counter(plan([instance(name) for name in names(chance, count)], fleet).values())
        assert max(loads.values()) - min(loads[node.name] for node in fleet) <= 1


def test_chance_alone_would_be_less_even() -> None:
    """Else the bound on the load would not be needed, and not be tested."""
    chance = random.Random(2)
    firsts = []
    for _ in SEEDS:
        fleet = nodes(*names(chance, 3))
        firsts.append(Counter(ranking(instance(name), fleet)[0] for name in names(chance, 8)))
    assert mean(max(first.values()) / (8 / 3) for first in firsts) > 1.3


def test_what_a_node_left_behind_is_spread_evenly_over_the_others() -> None:
    chance = random.Random(3)
    for _ in SEEDS:
        fleet = nodes(*names(chance, 4))
        instances = [instance(name) for name in names(chance, 12)]
        after = assign(instances, fleet, without(fleet[0].name), plan(instances, fleet))
        assert sorted(Counter(after.values()).values()) == [4, 4, 4]


def test_a_new_instance_goes_to_the_node_that_carries_least() -> None:
    fleet = nodes("n1", "n2", "n3")
    carried = {f"v{number}": "n1" if number < 4 else "n2" for number in range(8)}
    instances = [instance(f"v{number}") for number in range(11)]
    assert Counter(assign(instances, fleet, everything, carried).values()) == {"n1": 4, "n2": 4, "n3": 3}


def test_what_is_new_is_spread_evenly_beside_a_node_that_has_more_than_its_share() -> None:
    chance = random.Random(14)
    for _ in SEEDS:
        fleet = nodes(*names(chance, 4))
        carried = {f"v{number}": fleet[0].name for number in range(8)}
        new = [instance(name) for name in names(chance, 3)]
        answer = assign([*map(instance, carried), *new], fleet, everything, carried)
        assert {answer[one.name] for one in new} == {node.name for node in fleet[1:]}


# The same on every node


def test_the_order_in_the_file_has_no_part_in_the_answer() -> None:
    chance = random.Random(4)
    for _ in SEEDS:
        instances, fleet = drawn(chance)
        ready = some_ready(chance, instances, fleet)
        carried = {i.name: chance.choice(fleet).name for i in instances if chance.random() < 0.5}
        answers = []
        for _ in range(3):
            answers.append(assign(instances, fleet, lambda i, n: (i, n) in ready, carried))  # noqa: B023
            rankings = [ranking(one, fleet) for one in sorted(instances, key=lambda one: one.name)]
            chance.shuffle(instances)
            chance.shuffle(fleet)
            carried = dict(sorted(carried.items(), key=lambda _: chance.random()))
            assert rankings == [ranking(one, fleet) for one in sorted(instances, key=lambda one: one.name)]
        assert answers[0] == answers[1] == answers[2]


def test_the_answer_is_the_same_in_every_process_and_release() -> None:
    """Nodes of two releases elect together: a change of these lines moves addresses."""
    fleet = nodes("haproxy1", "haproxy2", "haproxy3")
    assert ranking(instance("web"), fleet) == WEB
    assert ranking(instance("web", "haproxy3"), fleet) == ("haproxy3", *(name for name in WEB if name != "haproxy3"))
    assert plan([instance(f"web{number}") for number in range(1, 9)], fleet) == EIGHT


def test_everything_that_a_node_is_ready_for_is_carried_by_a_node_that_is_ready() -> None:
    chance = random.Random(5)
    for _ in SEEDS:
        instances, fleet = drawn(chance)
        ready = some_ready(chance, instances, fleet)
        carried = {i.name: chance.choice(fleet).name for i in instances if chance.random() < 0.5}
        answer = assign(instances, fleet, lambda i, n: (i, n) in ready, carried)  # noqa: B023
        assert set(answer) == {name for name, _ in ready}
        assert set(answer.items()) <= ready


def test_only_the_instances_that_the_nodes_elect_for_are_placed() -> None:
    fleet = nodes("n1", "n2")
    assert set(plan([instance("web"), Instance("old", (), Static("primary"))], fleet)) == {"web"}


# Nothing moves that need not


def test_when_a_node_goes_only_its_instances_move_and_when_it_comes_back_nothing_does() -> None:
    chance = random.Random(6)
    moved = 0
    for _ in SEEDS:
        instances, fleet = drawn(chance)
        now = plan(instances, fleet)
        for _ in range(4):
            gone = chance.choice(fleet).name
            after = assign(instances, fleet, without(gone), now)
            for name, node in now.items():
                assert (after[name] != node) == (node == gone)
            moved += after != now
            assert assign(instances, fleet, everything, after) == after
            now = after
    assert moved > len(SEEDS)


def test_an_instance_stays_where_it_is_while_that_node_is_ready() -> None:
    """Whatever is preferred, apart or uneven; only `together` is stronger."""
    chance = random.Random(7)
    for _ in SEEDS:
        instances, fleet = drawn(chance)
        ready = some_ready(chance, instances, fleet)
        carried = {i.name: chance.choice(fleet).name for i in instances if chance.random() < 0.7}
        answer = assign(instances, fleet, lambda i, n: (i, n) in ready, carried)  # noqa: B023
        for one in instances:
            assert isinstance(one.election, Nodes)
            if not one.election.together and (one.name, carried.get(one.name)) in ready:
                assert answer[one.name] == carried[one.name]


def test_a_group_moves_as_one_and_only_if_its_node_is_not_ready_for_one_of_it() -> None:
    fleet = nodes("n1", "n2", "n3")
    group = [instance(name, together="pair") for name in ("a", "b")]
    home = plan(group, fleet)["a"]
    other = next(node.name for node in fleet if node.name != home)
    carried = {"a": home, "b": home}
    assert assign(group, fleet, without(other), carried) == carried
    after = assign(group, fleet, lambda i, n: (i, n) != ("a", home), carried)
    assert after["a"] == after["b"] != home
    assert assign(group, fleet, everything, after) == after


def test_a_group_that_was_parted_comes_together_where_most_of_it_is() -> None:
    fleet = nodes("n1", "n2", "n3")
    group = [instance(name, together="all") for name in "abc"]
    for most, least in permutations(["n1", "n2", "n3"], 2):
        assert set(assign(group, fleet, everything, {"a": most, "b": least, "c": most}).values()) == {most}


def test_the_order_between_two_nodes_does_not_depend_on_a_third() -> None:
    chance = random.Random(8)
    for _ in SEEDS:
        fleet = nodes(*names(chance, 5))
        one = instance(names(chance, 1)[0])
        whole = ranking(one, fleet)
        assert ranking(one, fleet[1:]) == tuple(name for name in whole if name != fleet[0].name)


# Weights


def test_weights_shift_the_shares() -> None:
    chance = random.Random(9)
    loads, firsts = Counter[str](), Counter[str]()
    for _ in range(100):
        fleet = nodes("a", "b", "c", a=2.0)
        instances = [instance(name) for name in names(chance, 20)]
        loads.update(plan(instances, fleet).values())
        firsts.update(ranking(one, fleet)[0] for one in instances)
    assert loads == {"a": 1000, "b": 500, "c": 500}
    assert 0.45 < firsts["a"] / 2000 < 0.55


def test_a_node_of_weight_0_carries_only_what_prefers_it_or_what_nobody_else_can() -> None:
    chance = random.Random(10)
    for _ in SEEDS:
        fleet = nodes("a", "b", "spare", spare=0.0)
        instances = [instance(name) for name in names(chance, 7)]
        assert set(plan(instances, fleet).values()) == {"a", "b"}
        assert all(ranking(one, fleet)[-1] == "spare" for one in instances)
        assert set(assign(instances, fleet, without("a", "b"), {}).values()) == {"spare"}
        assert plan([instance("x", "spare"), *instances], fleet)["x"] == "spare"


def test_a_node_of_weight_0_does_not_part_those_that_are_apart() -> None:
    answer = plan([instance(name, apart="x") for name in "abc"], nodes("a", "b", "spare", spare=0.0))
    assert sorted(Counter(answer.values()).values()) == [1, 2]
    assert "spare" not in answer.values()


def test_nodes_that_all_have_weight_0_share_evenly() -> None:
    loads = Counter(plan([instance(f"v{n}") for n in range(6)], nodes("a", "b", "c", a=0.0, b=0.0, c=0.0)).values())
    assert loads == {"a": 2, "b": 2, "c": 2}


# Wishes


def test_crosswise_pairs() -> None:
    """Each node is the first choice for an instance, and takes over the other one."""
    fleet = nodes("n1", "n2")
    pair = [instance("a", "n1"), instance("b", "n2")]
    home = {"a": "n1", "b": "n2"}
    assert plan(pair, fleet) == home
    assert assign(pair, fleet, without("n1"), home) == {"a": "n2", "b": "n2"}
    assert assign(pair, fleet, without("n2"), home) == {"a": "n1", "b": "n1"}


def test_the_first_ready_node_of_prefer_is_taken_however_much_it_carries() -> None:
    chance = random.Random(11)
    for _ in SEEDS:
        fleet_names = names(chance, 4)
        fleet = nodes(*fleet_names)
        wish = chance.sample(fleet_names, 2)
        wishing = [instance(name, *wish) for name in names(chance, 8)]
        others = [instance(f"other{number}") for number in range(4)]
        assert all(ranking(one, fleet)[:2] == tuple(wish) for one in wishing)
        answer = plan(wishing + others, fleet)
        assert {answer[one.name] for one in wishing} == {wish[0]}
        assert wish[0] not in {answer[one.name] for one in others}, "what has no wish goes elsewhere"
        answer = assign(wishing, fleet, without(wish[0]), {})
        assert set(answer.values()) == {wish[1]}
        answer = assign(wishing, fleet, without(*wish), {})
        assert sorted(Counter(answer.values()).values()) == [4, 4]


def test_a_preferred_node_that_is_unknown_is_passed_over() -> None:
    fleet = nodes("n1", "n2")
    assert set(ranking(instance("a", "n9", "n2"), fleet)) == {"n1", "n2"}
    assert plan([instance("a", "n9", "n2")], fleet) == {"a": "n2"}


def test_instances_that_are_together_go_to_one_node_while_one_is_ready_for_all() -> None:
    chance = random.Random(12)
    parted = 0
    for _ in SEEDS:
        instances, fleet = drawn(chance)
        ready = some_ready(chance, instances, fleet)
        carried = {i.name: chance.choice(fleet).name for i in instances if chance.random() < 0.5}
        answer = assign(instances, fleet, lambda i, n: (i, n) in ready, carried)  # noqa: B023
        for word in ("t1", "t2"):
            group = [i.name for i in instances if isinstance(i.election, Nodes) and i.election.together == word]
            group = [name for name in group if name in answer]
            can = [node for node in fleet if all((name, node.name) in ready for name in group)]
            if can:
                assert len({answer[name] for name in group}) <= 1
            parted += not can
    assert parted, "some groups had no node that was ready for all"


def each_has_its_own(group: Sequence[str], fleet: Sequence[Node], ready: Callable[[str, str], bool]) -> bool:
    """Whether each can have its own node, by trying all ways."""
    ways = permutations([node.name for node in fleet], len(group))
    return any(all(map(ready, group, way)) for way in ways)


def test_instances_that_are_apart_go_to_different_nodes_wherever_that_is_possible() -> None:
    chance = random.Random(13)
    counts = Counter[bool]()
    for _ in SEEDS:
        fleet_names = names(chance, chance.randint(2, 6))
        fleet = nodes(*fleet_names)
        group = [
            instance(name, *chance.sample(fleet_names, chance.choice([0, 1])), apart="x")
            for name in names(chance, chance.randint(2, len(fleet)))
        ]
        others = [instance(f"other{number}") for number in range(chance.randint(0, 5))]
        ready = some_ready(chance, group + others, fleet)
        answer = assign(group + others, fleet, lambda i, n: (i, n) in ready, {})  # noqa: B023
        able = [one.name for one in group if one.name in answer]
        possible = each_has_its_own(able, fleet, lambda i, n: (i, n) in ready)  # noqa: B023
        assert (len({answer[name] for name in able}) == len(able)) == possible
        counts[possible] += 1
    assert min(counts[True], counts[False]) > 5


def test_many_make_way_for_each_other() -> None:
    chance = random.Random(16)
    counts = Counter[bool]()
    for _ in SEEDS:
        fleet = nodes(*names(chance, 6))
        group = [instance(name, apart="x") for name in names(chance, 6)]
        ready = {(one.name, node.name) for one in group for node in chance.sample(fleet, 2)}
        answer = assign(group, fleet, lambda i, n: (i, n) in ready, {})  # noqa: B023
        possible = each_has_its_own([one.name for one in group], fleet, lambda i, n: (i, n) in ready)  # noqa: B023
        assert (len(set(answer.values())) == 6) == possible
        counts[possible] += 1
    assert min(counts.values()) > 20


def test_one_that_makes_way_for_another_counts_only_where_it_went() -> None:
    chance = random.Random(15)
    fleet = nodes("n1", "n2", "n3")
    only = {"a": {"n1", "n2"}, "b": {"n1"}}
    for _ in range(50):
        group = [instance("a", "n1", apart="x"), instance("b", apart="x")]
        others = [instance(name) for name in names(chance, 4)]
        answer = assign(group + others, fleet, lambda i, n: n in only.get(i, {n}), {})
        assert (answer["a"], answer["b"]) == ("n2", "n1")
        assert Counter(answer.values()) == {"n1": 2, "n2": 2, "n3": 2}


def test_where_there_are_too_few_nodes_those_that_are_apart_are_spread_evenly() -> None:
    answer = plan([instance(f"v{number}", apart="x") for number in range(7)], nodes("a", "b", "c"))
    assert sorted(Counter(answer.values()).values()) == [2, 2, 3]


def test_those_that_are_apart_are_placed_around_those_that_stay() -> None:
    fleet = nodes("n1", "n2", "n3")
    group = [instance(name, apart="x") for name in "abc"]
    for stays, homeless in ((pair[0], pair[1]) for pair in combinations("abc", 2)):
        for node in fleet:
            answer = assign(group, fleet, everything, {stays: node.name})
            assert answer[stays] == node.name != answer[homeless]
            assert len(set(answer.values())) == 3
