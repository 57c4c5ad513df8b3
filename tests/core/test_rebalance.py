"""The fewest moves that make the nodes even again, and none that a rule forbids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.core.link.rebalance import Move, rebalance
from floatip.core.link.spread import Spread, assign, units_of, weights_of
from floatip.core.settings import Instance, Node
from tests.core.test_spread import everything, instance, nodes

QUICK = settings(max_examples=100, deadline=None)


def after(carried: Mapping[str, str], moves: Sequence[Move]) -> dict[str, str]:
    return dict(carried) | {name: move.to for move in moves for name in move.instances}


def several(count: int) -> list[Instance]:
    return [instance(f"web{number}") for number in range(1, count + 1)]


@st.composite
def small(draw: st.DrawFn) -> tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]]:
    """Up to five instances without words on up to three nodes, what is ready for what, and who carries it."""
    names = [f"node{number}" for number in range(1, draw(st.integers(2, 3)) + 1)]
    weights = {name: draw(st.sampled_from([1.0, 1.0, 0.5, 2.0])) for name in names}
    instances = several(draw(st.integers(1, 5)))
    pairs = [(one.name, name) for one in instances for name in names]
    ready = {pair for pair in pairs if draw(st.integers(0, 3))}
    carried = {one.name: draw(st.sampled_from(names)) for one in instances if draw(st.integers(0, 5))}
    return instances, nodes(*names, **weights), ready, carried


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]]:
    """With words, spares and preferences."""
    names = [f"node{number}" for number in range(1, draw(st.integers(2, 5)) + 1)]
    weights = {name: draw(st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0])) for name in names}
    instances = [
        instance(
            f"web{number}",
            *draw(st.lists(st.sampled_from(names), max_size=2, unique=True)),
            together=draw(st.sampled_from(["", "", "", "t1"])),
            apart=draw(st.sampled_from(["", "", "a1"])),
        )
        for number in range(1, draw(st.integers(1, 12)) + 1)
    ]
    likely = draw(st.integers(1, 6))
    ready = {(one.name, name) for one in instances for name in names if draw(st.integers(0, likely))}
    carried = {one.name: draw(st.sampled_from(names)) for one in instances if draw(st.integers(0, 7))}
    return instances, nodes(*names, **weights), ready, carried


def beyond(loads: Mapping[str, int], bounds: Mapping[str, tuple[int, int]]) -> int:
    return sum(max(least - loads[name], 0) + max(loads[name] - most, 0) for name, (least, most) in bounds.items())


@QUICK
@given(small())
def test_no_other_choice_is_as_even_with_fewer_moves(
    case: tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]],
) -> None:
    instances, fleet, ready, carried = case
    moves = rebalance(instances, fleet, lambda one, node: (one, node) in ready, carried)
    well = [one.name for one in instances if (one.name, carried.get(one.name, "")) in ready]
    rest = Counter(node for name, node in carried.items() if name not in well)
    units = [
        unit for unit in units_of(instances, fleet, lambda one, node: (one, node) in ready) if unit.names[0] in well
    ]
    spread = Spread(weights_of(fleet), rest)
    spread.bound(units)

    def worth(homes: Mapping[str, str]) -> tuple[int, int]:
        loads = rest + Counter(homes.values())
        return beyond(loads, spread.bounds), sum(carried[name] != node for name, node in homes.items())

    choices = product(*(unit.candidates for unit in units))
    best = min((worth(dict(zip(well, choice, strict=True))) for choice in choices), default=(0, 0))
    assert worth({name: after(carried, moves)[name] for name in well}) == best


@QUICK
@given(fleets())
def test_what_is_not_carried_by_a_node_that_is_ready_for_it_stays_and_nothing_goes_where_it_could_not_be(
    case: tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]],
) -> None:
    instances, fleet, ready, carried = case
    for move in rebalance(instances, fleet, lambda one, node: (one, node) in ready, carried):
        for name, before in zip(move.instances, move.before, strict=True):
            assert carried[name] == before != move.to
            assert (name, before) in ready
            assert (name, move.to) in ready


@QUICK
@given(fleets())
def test_a_second_time_moves_nothing(
    case: tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]],
) -> None:
    instances, fleet, ready, carried = case
    moves = rebalance(instances, fleet, lambda one, node: (one, node) in ready, carried)
    assert rebalance(instances, fleet, lambda one, node: (one, node) in ready, after(carried, moves)) == []


@QUICK
@given(fleets(), st.randoms())
def test_the_order_in_the_file_means_nothing(
    case: tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]], chance: Random
) -> None:
    instances, fleet, ready, carried = case
    mixed = chance.sample(instances, len(instances))
    plans = [rebalance(some, fleet, lambda one, node: (one, node) in ready, carried) for some in (instances, mixed)]
    assert plans[0] == plans[1]


@QUICK
@given(fleets())
def test_what_assign_has_spread_from_nothing_is_left_alone(
    case: tuple[list[Instance], list[Node], set[tuple[str, str]], dict[str, str]],
) -> None:
    instances, fleet, *_ = case
    plain = [instance(one.name) for one in instances]
    assert rebalance(plain, fleet, everything, assign(plain, fleet, everything, {})) == []


def test_a_node_that_came_back_gets_its_share_and_the_others_exchange_nothing() -> None:
    fleet, instances = nodes("node1", "node2", "node3", "node4"), several(200)
    before = assign(instances, fleet, lambda one, node: node != "node4", {})
    moves = rebalance(instances, fleet, everything, before)
    assert len(moves) == 50
    assert {move.to for move in moves} == {"node4"}
    assert sorted(Counter(after(before, moves).values()).values()) == [50, 50, 50, 50]


def test_an_instance_goes_to_the_node_that_it_prefers() -> None:
    fleet = nodes("node1", "node2")
    (move,) = rebalance(
        [instance("web1", "node2"), instance("web2")], fleet, everything, {"web1": "node1", "web2": "node1"}
    )
    assert move == Move(("web1",), ("node1",), "node2")


def test_what_is_to_be_apart_is_parted() -> None:
    fleet = nodes("node1", "node2", "node3")
    instances = [instance(f"dns{number}", apart="dns") for number in (1, 2, 3)]
    moves = rebalance(instances, fleet, everything, dict.fromkeys(("dns1", "dns2", "dns3"), "node1"))
    assert len(moves) == 2
    assert sorted(move.to for move in moves) == ["node2", "node3"]


def test_what_is_together_moves_in_one_move() -> None:
    fleet = nodes("node1", "node2")
    instances = [
        instance("imap", together="mail"),
        instance("smtp", together="mail"),
        instance("web1"),
        instance("web2"),
    ]
    (move,) = rebalance(instances, fleet, everything, dict.fromkeys(("imap", "smtp", "web1", "web2"), "node1"))
    assert move == Move(("imap", "smtp"), ("node1", "node1"), "node2")


def test_a_thousand_instances_on_fifty_nodes_of_which_five_came_back() -> None:
    names = [f"node{number}" for number in range(1, 51)]
    fleet, instances = nodes(*names), several(1000)
    before = assign(instances, fleet, lambda one, node: node not in names[:5], {})
    moves = rebalance(instances, fleet, everything, before)
    assert len(moves) == 100
    assert set(Counter(after(before, moves).values()).values()) == {20}
