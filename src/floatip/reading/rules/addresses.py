"""Floating addresses and the interfaces of this machine."""

from collections.abc import Iterator

from floatip.core.settings import Vrrp
from floatip.model import Model
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


RULES = (counts, prefixes)
ON_MACHINE = (interfaces, arp)
