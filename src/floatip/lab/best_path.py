"""The routes that a route server has learnt from its clients, and which of them is best (RFC 4271 section 9.1). Pure.

It stands in for one of the data centre's four route servers, which weigh Linode's two communities.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.core.bgp.update import Update

PREFERENCE = {(65000, 1): 200, (65000, 2): 100}
"""Local preference by community, as Linode does it for primary and secondary."""
DEFAULT_PREFERENCE = 100


@dataclass(frozen=True, slots=True)
class LearntRoute:
    peer: Address
    attributes: Attributes
    learnt_at: float


@dataclass(frozen=True, slots=True)
class BestChanged:
    prefix: Prefix
    route: LearntRoute | None


def choose(routes: Iterable[LearntRoute]) -> LearntRoute | None:
    """The best path: each step keeps the best, the next one decides among what is left."""
    left = list(routes)
    if len(left) > 1:
        best = min(map(_degree, left))
        left = [route for route in left if _degree(route) == best]
        # Step c: MED counts only among routes from one neighbouring AS.
        left = [route for route in left if not any(_has_lower_med(other, route) for other in left)]
    # Then the older route, which spares the network a change (RFC 5004), then the lower peer address.
    return min(left, key=lambda route: (route.learnt_at, route.peer.packed), default=None)


def _degree(route: LearntRoute) -> tuple[int, int, int]:
    attributes = route.attributes
    marked = (PREFERENCE[each] for each in attributes.communities if each in PREFERENCE)
    preference = max(marked, default=DEFAULT_PREFERENCE)
    return -preference, len(attributes.as_path), attributes.origin


def _has_lower_med(one: LearntRoute, other: LearntRoute) -> bool:
    same_neighbour = one.attributes.as_path[:1] == other.attributes.as_path[:1]
    return same_neighbour and (one.attributes.med or 0) < (other.attributes.med or 0)


class Routes:
    def __init__(self) -> None:
        self._learnt: dict[Prefix, dict[Address, LearntRoute]] = {}
        self._best: dict[Prefix, LearntRoute] = {}

    def best(self, prefix: Prefix) -> LearntRoute | None:
        return self._best.get(prefix)

    def of(self, prefix: Prefix) -> list[LearntRoute]:
        return sorted(self._learnt.get(prefix, {}).values(), key=lambda route: route.peer.packed)

    def forget(self, peer: Address) -> list[BestChanged]:
        return self._learn(peer, {prefix: None for prefix, routes in self._learnt.items() if peer in routes}, 0.0)

    def update(self, peer: Address, update: Update, now: float) -> list[BestChanged]:
        announced = update.announced if update.attributes else ()
        return self._learn(peer, dict.fromkeys(update.withdrawn) | dict.fromkeys(announced, update.attributes), now)

    def _learn(self, peer: Address, changes: Mapping[Prefix, Attributes | None], now: float) -> list[BestChanged]:
        changed: list[BestChanged] = []
        for prefix, attributes in changes.items():
            routes = self._learnt.setdefault(prefix, {})
            old = routes.pop(peer, None)
            if attributes is not None:
                # Said again, it is as old as it was.
                as_before = old is not None and old.attributes == attributes
                routes[peer] = old if old and as_before else LearntRoute(peer, attributes, now)
            best = choose(routes.values())
            if best != self._best.get(prefix):
                self._best.pop(prefix, None)
                if best is not None:
                    self._best[prefix] = best
                changed.append(BestChanged(prefix, best))
        return changed
