"""Floating addresses and the interfaces of this machine."""

from collections.abc import Iterator

from floatip.core.addresses import Address, Placed
from floatip.core.settings import Keepalived, Vrrp
from floatip.model import OWN_INTERFACE, Model
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.rules.parts import elections, floating, instances
from floatip.reading.words import shown


def counts(model: Model, places: Places) -> Iterator[Problem]:
    """A VRRP packet counts its addresses in 8 bits, and one without any is malformed (RFC 9568 section 5.2.5)."""
    for at, instance in instances(model, places):
        count = sum(address.version == 4 for address in instance.addresses)
        is_known = places.is_whole((*at, "addresses"))
        if isinstance(instance.election, Vrrp) and is_known and not 1 <= count <= 255:
            what = f"{count} IPv4 addresses do not fit an advert, which names 1 to 255"
            yield places.error((*at, "addresses"), what, "list at least one IPv4 address, and at most 255")


def prefixes(model: Model, places: Places) -> Iterator[Problem]:
    for thing, address in floating(model, places):
        if model.network and address.version == 4 and address.network.prefixlen != 32:
            what = f"{address} is more than the one address that BGP is to deliver"
            yield places.error(thing, what, f'write "{address.ip}/32"')


def interfaces(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    named: list[tuple[Thing, str]] = [((*at, "interface"), one.interface) for at, one in instances(model, places)]
    named = [(thing, name) for thing, name in named if thing in places.given]
    named += [((*at, "interface"), one.interface) for at, one in elections(model, places)]
    if model.network:
        named.append((("bgp", "interface"), model.network.speaker.interface))
    for thing, name in named:
        if name and name not in machine.interfaces:
            hint = f"it is used once it appears; there are {', '.join(machine.interfaces)}"
            yield places.warning(thing, f"{shown(name)} does not exist now", hint)


def arp(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    for at, instance in instances(model, places):
        if instance.placement == "master":
            continue
        for thing, address in places.each((*at, "addresses"), instance.addresses):
            for interface, subnet in machine.answering:
                if address.ip in subnet:
                    key = f"net.ipv4.conf.{interface.replace('.', '/')}.arp_ignore"
                    what = (
                        f"{address.ip} is inside {subnet} on {interface}, where a standby would answer ARP for it too"
                    )
                    yield places.warning(thing, what, f"if nodes share this layer 2: sysctl -w {key}=1")


def elsewhere(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """An address that floatip did not put there does not move, and IPv6 sessions may leave from it."""
    standing: dict[Address, list[Placed]] = {}
    for one in machine.placed(leased=True):
        if one not in machine.added:
            standing.setdefault(one.address.ip, []).append(one)
    for at, instance in instances(model, places):
        if isinstance(instance.election, Keepalived) or instance.interface == OWN_INTERFACE:
            continue  # keepalived moves it, on whichever interface; or this machine is none of the nodes
        for thing, address in places.each((*at, "addresses"), instance.addresses):
            for one in standing.get(address.ip, ()):
                if one != Placed(instance.interface, address):
                    what = f"{one.address} is on {one.interface} already, and stays there: floatip holds {address} on "
                    hint = "remove it from the network configuration, and: "
                    hint += f"ip address del {one.address} dev {one.interface}"
                    yield places.warning(thing, f"{what}{instance.interface}", hint)


def neighbours(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """The kernel removes with the first IPv4 address of a network all the others of that network.

    floatip itself promotes the others before it releases the first.
    """
    moving = {one.ip for _, one in floating(model, places)}
    for at, instance in instances(model, places):
        name = instance.interface
        own = {one.network: one for one in machine.interfaces.get(name, ()) if one.ip not in moving}
        for thing, address in places.each((*at, "addresses"), instance.addresses):
            other = own.get(address.network)
            if other and address.version == 4 and name in machine.demoting:
                key = f"net.ipv4.conf.{name.replace('.', '/')}.promote_secondaries"
                what = f"{address} and {other} share a network on {name}: who removes the first by hand removes both"
                yield places.warning(thing, what, f'write "{address.ip}/32", or: sysctl -w {key}=1')


RULES = (counts, prefixes)
ON_MACHINE = (interfaces, arp, elsewhere, neighbours)
