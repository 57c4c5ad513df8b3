"""The parts of a model that several rules look at, each with its place."""

from collections.abc import Iterator

from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.settings import Instance, Keepalived, SyncGroup, Vrrp
from floatip.model import Model
from floatip.reading.place import Places, Problem, Thing


def instances(model: Model, places: Places) -> Iterator[tuple[Thing, Instance]]:
    return places.each(("instance",), model.instances)


def elections(model: Model, places: Places) -> Iterator[tuple[Thing, Vrrp | Keepalived]]:
    for at, instance in instances(model, places):
        if isinstance(instance.election, Vrrp):
            yield (*at, "vrrp"), instance.election
        elif isinstance(instance.election, Keepalived):
            yield (*at, "keepalived"), instance.election


def floating(model: Model, places: Places) -> Iterator[tuple[Thing, InterfaceAddress]]:
    for at, instance in instances(model, places):
        yield from places.each((*at, "addresses"), instance.addresses)


def own_peers(places: Places, at: Thing, source: Address | None, peers: tuple[Address, ...]) -> Iterator[Problem]:
    seen = set[Address]()
    for thing, peer in places.each((*at, "peers"), peers):
        if peer == source:
            yield places.error(thing, f"{peer} is our own source", "name only the other nodes or route servers")
        elif peer in seen:
            yield places.error(thing, f"{peer} is there twice", "name each peer once")
        seen.add(peer)


def looked_at(model: Model, instance: Instance) -> set[str]:
    """The checks of which the instance depends, also by its sync groups."""
    groups = [group for group in model.sync_groups if instance.name in group.members]
    owners: list[Instance | SyncGroup] = [instance, *groups]
    return {name for one in owners for name in (*one.checks, *(track.check for track in one.tracks))}
