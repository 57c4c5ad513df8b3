"""The parts of a model that several rules look at, each with its place."""

from collections.abc import Iterator

from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.core.settings import AddressOptions, Instance, Keepalived, SyncGroup, Vrrp
from floatip.model import Model, Told
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.words import few

MOST_SHOWN = 8
"""Addresses of a machine."""


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


def options(instance: Instance) -> dict[InterfaceAddress, AddressOptions]:
    return {one.address: one for one in instance.options}


def placed(places: Places, at: Thing, instance: Instance) -> Iterator[tuple[Thing, Placed]]:
    """Where the addresses of an instance are held."""
    special = options(instance)
    for thing, address in places.each((*at, "addresses"), instance.addresses):
        own = special[address].interface if address in special else ""
        yield thing, Placed(own or instance.interface, address)


def tracking(model: Model, places: Places) -> Iterator[tuple[Thing, Instance | SyncGroup]]:
    """What has checks."""
    yield from instances(model, places)
    yield from places.each(("sync_group",), model.sync_groups)


def told(model: Model, places: Places) -> Iterator[tuple[Thing, Told]]:
    named: dict[tuple[str, str], Thing] = {("INSTANCE", one.name): at for at, one in instances(model, places)}
    named |= {("GROUP", one.name): at for at, one in places.each(("sync_group",), model.sync_groups)}
    for index, one in enumerate(model.told):
        if ("told", index) in places.given:
            yield ("told", index), one
        elif at := named.get((one.kind, one.name)):
            yield (*at, "notify", one.event), one


def own_peers(places: Places, at: Thing, source: Address | None, peers: tuple[Address, ...]) -> Iterator[Problem]:
    seen = set[Address]()
    for thing, peer in places.each((*at, "peers"), peers):
        if peer == source:
            yield places.error(thing, f"{peer} is our own source", "name only the other nodes or route servers")
        elif peer in seen:
            yield places.error(thing, f"{peer} is there twice", "name each peer once")
        seen.add(peer)


def own_addresses(model: Model, places: Places, machine: Machine) -> str:
    """Those of this machine that could be a node's, in words."""
    has = {one.ip for all_ in machine.interfaces.values() for one in all_}
    usable = sorted(
        (one for one in has if not one.is_loopback and not (one.version == 6 and one.is_link_local)),
        key=lambda one: (one.version, one),
    )
    moving = {one.ip for _, one in floating(model, places)}
    return few([str(one) for one in usable if one not in moving], ", ", MOST_SHOWN) or "no address"


def looked_at(model: Model, instance: Instance) -> set[str]:
    """The checks of which the instance depends, also by its sync groups."""
    groups = [group for group in model.sync_groups if instance.name in group.members]
    owners: list[Instance | SyncGroup] = [instance, *groups]
    return {name for one in owners for name in (*one.checks, *(track.check for track in one.tracks))}
