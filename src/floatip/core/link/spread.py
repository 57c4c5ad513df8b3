"""Which node is to carry which instance: every node computes the same answer from the same facts.

The order of preference is weighted rendezvous hashing: a node that goes or comes changes nothing between the others.
A bound on the load evens out what chance leaves uneven. What must be stronger wins: `together`, then who carries it
now, `apart`, `prefer`, and last the even load.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from floatip.core import settings

Weights = tuple[tuple[str, float], ...]
"""The nodes by name, each with its weight."""
ROUNDING = 1e-9


def ranking(instance: settings.Instance, nodes: Sequence[settings.Node]) -> tuple[str, ...]:
    """All nodes in the order of preference that follows from the configuration alone.

    Those of `prefer` come first, and those with weight 0 last. Instances that are `together` share an order.
    """
    election = _election(instance)
    return _ranking(_key(instance), election.prefer, weights_of(nodes))


def place(
    instance: settings.Instance,
    nodes: Sequence[settings.Node],
    own: str,
    ready: Callable[[str, str], bool],
    planned: str,
) -> int:
    """How many nodes come before `own`, where nobody carries it. `planned`: the node that `assign` names, or empty."""
    order = list(ranking(instance, nodes))
    ready_ones = [node for node in order if ready(instance.name, node)]
    if planned in ready_ones:
        ready_ones.remove(planned)
        ready_ones.insert(0, planned)
    return ready_ones.index(own) if own in ready_ones else len(ready_ones) + order.index(own)


def assign(
    instances: Sequence[settings.Instance],
    nodes: Sequence[settings.Node],
    ready: Callable[[str, str], bool],
    carried: Mapping[str, str],
) -> dict[str, str]:
    """Which node is to carry each instance, for the instances that a node is ready for.

    `ready(instance, node)`. `carried`: the master of each instance now. It stays as long as it is ready, unless
    another node must take the instances that are `together`.
    """
    weights = weights_of(nodes)
    spread = Spread(weights)
    homeless, rest = [], []
    for members in _groups(instances):
        # What stays, which is nearly all as a rule, is not looked at for each node.
        if node := _home(members, spread.nodes, ready, carried):
            spread.keep(_kept(members), node)
        else:
            rest.append(members)
    for unit in _units(rest, weights, ready):
        if node := _carrier(unit, carried):
            spread.keep(unit, node)
        else:
            homeless.append(unit)
    homeless.sort(key=lambda unit: (not unit.preferred, not unit.apart, -len(unit.names), unit.names))
    preferring = [unit for unit in homeless if unit.preferred]
    for unit in preferring:
        spread.place(unit)
    spread.bound(homeless[len(preferring) :])
    for unit in homeless[len(preferring) :]:
        spread.place(unit)
    return {name: node for unit, node in spread.homes.items() for name in unit.names}


def units_of(
    instances: Sequence[settings.Instance], nodes: Sequence[settings.Node], ready: Callable[[str, str], bool]
) -> "list[Unit]":
    """What goes to one node each, without what no node is ready for."""
    return _units(_groups(instances), weights_of(nodes), ready)


def _election(instance: settings.Instance) -> settings.Nodes:
    assert isinstance(instance.election, settings.Nodes)
    return instance.election


def _key(instance: settings.Instance) -> str:
    """What is hashed with the name of a node."""
    word = _election(instance).together
    return f"together {word}" if word else f"instance {instance.name}"


def weights_of(nodes: Sequence[settings.Node]) -> Weights:
    return tuple((node.name, node.weight) for node in nodes)


@lru_cache(2 * settings.MOST_INSTANCES)
def _ranking(key: str, prefer: tuple[str, ...], weights: Weights) -> tuple[str, ...]:
    names = {name for name, _ in weights}
    by_score = sorted(weights, key=lambda one: (one[1] <= 0, -_score(key, *one), one[0]))
    return tuple(dict.fromkeys([*(name for name in prefer if name in names), *(name for name, _ in by_score)]))


def _score(key: str, name: str, weight: float) -> float:
    """Greater is better. The share of keys for which a node has the greatest score is its share of the weights."""
    digest = sha256(f"{key}\0{name}".encode()).digest()
    fraction = (int.from_bytes(digest[:6]) + 0.5) / (1 << 48)
    return math.log(fraction) / (weight or 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Instances that go to one node."""

    names: tuple[str, ...]
    nodes: tuple[str, ...]
    """Those that are ready for all of them, the best first."""
    candidates: tuple[str, ...]
    """The same without nodes of weight 0, where there is another."""
    preferred: frozenset[str]
    """Candidates that the configuration names."""
    apart: tuple[str, ...]


def _groups(instances: Sequence[settings.Instance]) -> Iterable[list[settings.Instance]]:
    """What the nodes elect, as it is `together`. In no order that the file has a part in."""
    groups: dict[str, list[settings.Instance]] = {}
    for instance in sorted(instances, key=lambda instance: instance.name):
        if isinstance(instance.election, settings.Nodes):
            groups.setdefault(_key(instance), []).append(instance)
    return groups.values()


def _home(
    members: Sequence[settings.Instance],
    nodes: Container[str],
    ready: Callable[[str, str], bool],
    carried: Mapping[str, str],
) -> str:
    """The node that carries all of them, and is ready for them; empty: there is none."""
    carriers = {carried.get(member.name, "") for member in members}
    node = carriers.pop()
    return node if not carriers and node in nodes and all(ready(member.name, node) for member in members) else ""


def _units(
    groups: Iterable[list[settings.Instance]], weights: Weights, ready: Callable[[str, str], bool]
) -> list[Unit]:
    """Without the instances that no node is ready for."""
    names = [name for name, _ in weights]
    idle = {name for name, weight in weights if weight <= 0}
    units = []
    for group in groups:
        able = {instance.name: {name for name in names if ready(instance.name, name)} for instance in group}
        members = [instance for instance in group if able[instance.name]]
        common = set.intersection(*(able[member.name] for member in members)) if members else set()
        if common:
            units.append(_unit(members, common, weights, idle))
        else:
            units += [_unit([member], able[member.name], weights, idle) for member in members]
    return units


def _kept(members: Sequence[settings.Instance]) -> Unit:
    return Unit(tuple(member.name for member in members), (), (), frozenset(), _apart(members))


def _unit(members: Sequence[settings.Instance], ready: set[str], weights: Weights, idle: set[str]) -> Unit:
    """`idle`: the nodes of weight 0."""
    elections = [_election(member) for member in members]
    prefer = tuple(dict.fromkeys(name for election in elections for name in election.prefer))
    nodes = tuple(name for name in _ranking(_key(members[0]), prefer, weights) if name in ready)
    candidates = tuple(name for name in nodes if name not in idle or name in prefer) if idle else nodes
    names = tuple(member.name for member in members)
    return Unit(names, nodes, candidates or nodes, frozenset(prefer) & ready, _apart(members))


def _apart(members: Sequence[settings.Instance]) -> tuple[str, ...]:
    return tuple(sorted({word for member in members if (word := _election(member).apart)}))


def _carrier(unit: Unit, carried: Mapping[str, str]) -> str:
    """The node that carries most of it; empty: none does, or it is not ready for all of it."""
    carriers = [carried.get(name, "") for name in unit.names]
    return max((node for node in unit.nodes if node in carriers), key=carriers.count, default="")


class Spread:
    """Who has been placed where, and how much each node may have."""

    def __init__(self, weights: Weights, loads: Mapping[str, int] | None = None) -> None:
        """`loads`: what nodes carry besides."""
        self.homes: dict[Unit, str] = {}
        self._stay = set[Unit]()
        self._weights = dict(weights)
        self.nodes = self._weights.keys()
        self._loads = {name: (loads or {}).get(name, 0) for name in self._weights}
        self._least = self._most = dict.fromkeys(self._weights, 0)
        self._spare = 0
        """How much more nodes may have than their share rounded down, all together."""
        self._words: dict[tuple[str, str], list[Unit]] = {}
        """Who is on a node, by the word that keeps them apart."""

    @property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """How many instances each node is to have, at least and at most."""
        return {name: (self._least[name], self._most[name]) for name in self._weights}

    def keep(self, unit: Unit, node: str) -> None:
        self._stay.add(unit)
        self.put(unit, node)

    def put(self, unit: Unit, node: str) -> None:
        self.homes[unit] = node
        self._loads[node] += len(unit.names)
        for word in unit.apart:
            self._words.setdefault((node, word), []).append(unit)

    def _take(self, unit: Unit) -> None:
        node = self.homes.pop(unit)
        self._loads[node] -= len(unit.names)
        for word in unit.apart:
            self._words[node, word].remove(unit)

    def place(self, unit: Unit) -> None:
        nodes = self._apart(unit) if unit.apart else unit.candidates
        self.put(unit, nodes[0] if nodes[0] in unit.preferred else self._evenly(unit, nodes))

    def bound(self, rest: Iterable[Unit]) -> None:
        """A fair share of the load for each node, rounded down and up; one that has more leaves less to the others."""
        rest = list(rest)
        level = 0.0
        nodes = {name for unit in rest for name in unit.candidates if self._weights[name] > 0}
        load = sum(len(unit.names) for unit in rest) + sum(self._loads[name] for name in nodes)
        while nodes:
            level = load / math.fsum(self._weights[name] for name in nodes)
            full = {name for name in nodes if self._loads[name] > level * self._weights[name] + ROUNDING}
            if not full:
                break
            nodes -= full
            load -= sum(self._loads[name] for name in full)
        shares = {name: level * self._weights[name] if name in nodes else 0.0 for name in self._weights}
        self._least = {name: math.floor(share + ROUNDING) for name, share in shares.items()}
        self._most = {name: math.ceil(share - ROUNDING) for name, share in shares.items()}
        self._spare = load - sum(max(self._least[name], self._loads[name]) for name in nodes)

    def _evenly(self, unit: Unit, nodes: Sequence[str]) -> str:
        size = len(unit.names)
        for name in nodes:
            load = self._loads[name]
            above = load + size - max(self._least[name], load)
            if load + size <= self._least[name] or (load + size <= self._most[name] and above <= self._spare):
                self._spare -= max(above, 0)
                return name
        return min(nodes, key=lambda name: (self._loads[name] + size) / (self._weights[name] or 1.0))

    def _apart(self, unit: Unit) -> Sequence[str]:
        """The nodes with the fewest of those that it is to be apart from; these move on if that frees a node."""
        mates = {name: len(self._mates(unit, name)) for name in unit.candidates}
        fewest = min(mates.values())
        if fewest and (node := self._freed(unit, set())):
            return [node]
        return [name for name in unit.candidates if mates[name] == fewest]

    def _freed(self, unit: Unit, asked: set[str]) -> str:
        """A node with none of those that it is to be apart from, once one has moved on; empty: there is none.

        This is an augmenting path (Kuhn): `asked` are the nodes that were tried.
        """
        for name in unit.candidates:
            if name in asked:
                continue
            asked.add(name)
            mates = self._mates(unit, name)
            if not mates:
                return name
            if len(mates) == 1 and mates[0] not in self._stay and (other := self._freed(mates[0], asked)):
                self._take(mates[0])
                self.put(mates[0], other)
                return name
        return ""

    def _mates(self, unit: Unit, node: str) -> list[Unit]:
        return [mate for word in unit.apart for mate in self._words.get((node, word), ())]
