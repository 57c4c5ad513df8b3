"""`floatip rebalance`: the fewest moves after which what is carried is as `assign` would spread it.

`assign` moves nothing that is carried. So after a node has come back, or was added, the nodes stay uneven until
somebody asks. The rules are those of `assign`, the strongest first: what is `together` goes to one node, what is
`apart` to different ones, what prefers a node to that one, and last each node gets its share of the load.

To share out is a flow of least cost through the nodes: to move an instance costs one, wherever it goes, and to move it
back where it was earns that again. So an instance that only few nodes are ready for makes room by as few others as
possible. Groups (`together`) are larger than one; they are moved before that, where one fits as a whole.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from floatip.core import settings
from floatip.core.link.spread import Spread, Unit, units_of, weights_of

Bounds = Mapping[str, tuple[int, int]]
"""How many instances each node is to have, at least and at most."""
MUST = 1_000_000
"""What it is worth that a node has no more than its share, or no less: more than all moves together."""


@dataclass(frozen=True, slots=True)
class Move:
    instances: tuple[str, ...]
    """One, or those that are `together`."""
    before: tuple[str, ...]
    """The node that carries each of them."""
    to: str


def rebalance(
    instances: Sequence[settings.Instance],
    nodes: Sequence[settings.Node],
    ready: Callable[[str, str], bool],
    carried: Mapping[str, str],
) -> list[Move]:
    """`ready(instance, node)`: whether the node could be master of it. `carried`: the master of each instance.

    What nobody carries, or a node that is not ready for it (it is drained, or sick), is not moved: the election does
    that.
    """
    units = [unit for unit in units_of(instances, nodes, ready) if _is_carried_well(unit, carried, ready)]
    ours = {name for unit in units for name in unit.names}
    elected = [one.name for one in instances if isinstance(one.election, settings.Nodes)]
    fixed = Counter(carried[name] for name in elected if name in carried and name not in ours)
    plan = _Plan(units, nodes, carried, fixed)
    plan.prefer()
    plan.part()
    plan.even()
    return plan.moves()


def _is_carried_well(unit: Unit, carried: Mapping[str, str], ready: Callable[[str, str], bool]) -> bool:
    return all((node := carried.get(name, "")) and ready(name, node) for name in unit.names)


class _Plan:
    def __init__(
        self,
        units: Sequence[Unit],
        nodes: Sequence[settings.Node],
        carried: Mapping[str, str],
        fixed: Counter[str],
    ) -> None:
        """`fixed`: what each node carries that is not moved."""
        self._units, self._carried, self._fixed = units, carried, fixed
        self._weights = weights_of(nodes)
        self._nodes = [node.name for node in nodes]
        self._home = {unit: self._gathered(unit) for unit in units}
        self._pinned = set[Unit]()
        """Those that are where they prefer to be."""
        self._words = Counter((node, word) for unit, node in self._home.items() for word in unit.apart)
        """How many are on each node, by the word that keeps them apart."""

    def _gathered(self, unit: Unit) -> str:
        """The node that carries most of it."""
        carriers = [self._carried[name] for name in unit.names]
        return max((node for node in unit.nodes if node in carriers), key=carriers.count, default=unit.nodes[0])

    def prefer(self) -> None:
        for unit in self._units:
            best = unit.nodes[0]
            pinned = {word for other in self._pinned if self._home[other] == best for word in other.apart}
            if best in unit.preferred and pinned.isdisjoint(unit.apart):
                self._put(unit, best)
                self._pinned.add(unit)

    def part(self) -> None:
        for word in sorted({word for unit in self._units for word in unit.apart}):
            mates = [unit for unit in self._units if word in unit.apart]
            able = {name for unit in mates for name in unit.candidates}
            most = -(-len(mates) // len(able))
            loads = Counter(self._home[unit] for unit in mates if unit in self._pinned)
            bounds = {name: (0, max(most - loads[name], 0)) for name in self._nodes}
            self._share_out([unit for unit in mates if unit not in self._pinned], bounds, minds_apart=False)

    def even(self) -> None:
        free = [unit for unit in self._units if unit not in self._pinned]
        fixed = self._fixed + Counter(
            {node: sum(len(unit.names) for unit in self._pinned if self._home[unit] == node) for node in self._nodes}
        )
        spread = Spread(self._weights, fixed)
        spread.bound(free)
        groups = [unit for unit in free if len(unit.names) > 1]
        self._move_groups(groups, free, fixed, spread.bounds)
        for unit in groups:
            fixed[self._home[unit]] += len(unit.names)
        bounds = {n: (max(least - fixed[n], 0), max(most - fixed[n], 0)) for n, (least, most) in spread.bounds.items()}
        self._share_out([unit for unit in free if len(unit.names) == 1], bounds, minds_apart=True)

    def _move_groups(self, groups: Iterable[Unit], free: Iterable[Unit], fixed: Counter[str], bounds: Bounds) -> None:
        """From a node that has too many even without the whole group, to the best that has room for it."""
        loads = Counter(fixed)
        for unit in free:
            loads[self._home[unit]] += len(unit.names)
        for unit in sorted(groups, key=lambda unit: (-len(unit.names), unit.names)):
            here, size = self._home[unit], len(unit.names)
            fits = (n for n in unit.candidates if loads[n] + size <= bounds[n][1] and self._is_apart(unit, n))
            if loads[here] - size >= bounds[here][1] and (to := next(fits, "")):
                loads[here] -= size
                loads[to] += size
                self._put(unit, to)

    def _share_out(self, units: Sequence[Unit], bounds: Bounds, *, minds_apart: bool) -> None:
        """Move as few of them as possible so that each node has so many of them."""
        first = {unit: self._home[unit] for unit in units}
        at: dict[str, list[Unit]] = {name: [] for name in self._nodes}
        for unit in units:
            at[first[unit]].append(unit)
        steps = {name: self._steps(at[name], name, first, minds_apart=minds_apart) for name in self._nodes}
        while path := self._cheapest(steps, {name: len(at[name]) for name in self._nodes}, bounds):
            words = set[str]()
            for here, to, unit in path:
                at[here].remove(unit)
                at[to].append(unit)
                self._put(unit, to)
                words.update(unit.apart)
            touched = {name for here, to, _ in path for name in (here, to)}
            for name in self._nodes if words and minds_apart else touched:
                steps[name] = self._steps(at[name], name, first, minds_apart=minds_apart)

    def _steps(self, units: Iterable[Unit], here: str, first: Mapping[Unit, str], *, minds_apart: bool) -> "_Steps":
        """The cheapest that could go from here to each other node. Of equals, the one that the node ranks best for."""
        best: dict[str, tuple[tuple[int, int, tuple[str, ...]], Unit]] = {}
        for unit in units:
            is_back = here != first[unit]
            for rank, to in enumerate(unit.candidates):
                if to != here and not (minds_apart and not self._is_apart(unit, to)):
                    key = (to != first[unit]) - is_back, rank, unit.names
                    if to not in best or key < best[to][0]:
                        best[to] = key, unit
        return {to: (key[0], unit) for to, (key, unit) in best.items()}

    def _cheapest(
        self, steps: "Mapping[str, _Steps]", loads: Mapping[str, int], bounds: Bounds
    ) -> list[tuple[str, str, Unit]]:
        """The way from a node with too many, or to one with too few, that costs least (Bellman-Ford); empty: none is
        worth its moves.
        """
        costs: dict[str, int] = {}
        for name in self._nodes:
            least, most = bounds[name]
            if loads[name] > least:
                costs[name] = -MUST if loads[name] > most else 0
        before: dict[str, tuple[str, Unit]] = {}
        for _ in self._nodes:
            is_done = True
            for here in self._nodes:
                if here not in costs:
                    continue
                for to, (cost, unit) in steps[here].items():
                    if (new := costs[here] + cost) < costs.get(to, MUST):
                        costs[to], before[to] = new, (here, unit)
                        is_done = False
            if is_done:
                break
        ends = {
            name: costs[name] - (MUST if loads[name] < bounds[name][0] else 0)
            for name in self._nodes
            if name in before and loads[name] < bounds[name][1]
        }
        end = min(ends, key=lambda name: ends[name], default="")
        if not end or ends[end] >= 0:
            return []
        path = []
        while end in before:
            here, unit = before[end]
            path.append((here, end, unit))
            end = here
        return path[::-1]

    def _is_apart(self, unit: Unit, node: str) -> bool:
        """Whether it has a node for itself there."""
        is_here = self._home[unit] == node
        return all(self._words[node, word] == is_here for word in unit.apart)

    def _put(self, unit: Unit, node: str) -> None:
        for word in unit.apart:
            self._words[self._home[unit], word] -= 1
            self._words[node, word] += 1
        self._home[unit] = node

    def moves(self) -> list[Move]:
        """From the fullest nodes first, to the emptiest."""
        loads = Counter(self._carried.values())
        moves = []
        for unit, to in self._home.items():
            if away := tuple(name for name in unit.names if self._carried[name] != to):
                moves.append(Move(away, tuple(self._carried[name] for name in away), to))
        return sorted(moves, key=lambda move: (-loads[move.before[0]], loads[move.to], move.instances))


_Steps = dict[str, tuple[int, Unit]]
