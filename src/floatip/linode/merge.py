"""What is to be shared to which Linode, from what is: read, modify, write. Pure.

Writing replaces the whole list of a Linode, so that the list that is written starts from the one that was read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network

Thing = IPv4Address | IPv6Network
"""As the API shares it: an IPv4 address, or a whole range of IPv6."""
Things = frozenset[Thing]


@dataclass(frozen=True, slots=True)
class Change:
    """Of what one Linode has."""

    add: Things = frozenset()
    remove: Things = frozenset()

    def __post_init__(self) -> None:
        assert not self.add & self.remove

    def applied(self, has: Things) -> Things:
        return (has | self.add) - self.remove

    def of(self, has: Things) -> "Change":
        """What of it is left to do."""
        return Change(self.add - has, self.remove & has)

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def wanted(linode_id: int, owners: Iterable[tuple[Thing, int]]) -> Things:
    """What a Linode must have shared to it, of things and their owners. A range is shared to its owner too."""
    return frozenset(thing for thing, owner in owners if isinstance(thing, IPv6Network) or owner != linode_id)


def in_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    return tuple(
        sorted(things, key=lambda one: (one.version, one if isinstance(one, IPv4Address) else one.network_address))
    )
