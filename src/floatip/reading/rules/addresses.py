"""Floating addresses and the interfaces of this machine."""

from collections.abc import Iterator

from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.core.settings import Keepalived, Vrrp
from floatip.model import OWN_INTERFACE, Model
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.rules.parts import elections, floating, instances, options, placed
from floatip.reading.words import closest, shown

LONGEST_LABEL = 15


def counts(model: Model, places: Places) -> Iterator[Problem]:
    """An advert counts its addresses in 8 bits, and in version 3 it has at least one (RFC 9568 section 5.2.5)."""
    for at, instance in instances(model, places):
        thing, election = (*at, "addresses"), instance.election
        if not places.is_whole(thing):
            continue
        if not isinstance(election, Vrrp):
            if not instance.addresses:
                hint = "name at least one; only vrrp elects without an address"
                yield places.error(thing, "the list is empty", hint)
            continue
        version = election.source.version
        special = options(instance)
        named = [one for one in instance.addresses if one not in special or special[one].is_advertised]
        count = sum(address.version == version for address in named)
        is_known = places.is_whole((*at, "vrrp", "source"))
        if is_known and (count > 255 or (not count and (named or election.version == 3))):
            least = 1 if named or election.version == 3 else 0
            what = f"{count} IPv{version} addresses do not fit an advert, which names {least} to 255"
            hint = f"list at least one IPv{version} address, and at most 255"
            yield places.error(thing, what, hint)


def labels(model: Model, places: Places) -> Iterator[Problem]:
    """What the kernel cuts off or does not keep (ip-address(8))."""
    for at, instance in instances(model, places):
        special = options(instance)
        for thing, one in placed(places, at, instance):
            option = special.get(one.address)
            if not option:
                continue
            label, is_ipv6 = option.label, one.address.version == 6
            if len(label.encode()) > LONGEST_LABEL:
                what = f"{shown(label)} is longer than {LONGEST_LABEL} octets, as the kernel has labels"
                yield places.error((*thing, "label"), what, f"write a shorter one, as {one.interface}:1")
            elif label and not is_ipv6 and label != one.interface and not label.startswith(f"{one.interface}:"):
                what = f"{shown(label)} does not begin with {one.interface}:, so `ip` and ifconfig may not find it"
                better = f"{one.interface}:{label[-4:]}"
                hint = f"write {places.either(shown(better), f'label {better}')}"
                yield places.warning((*thing, "label"), what, hint)
            for key, is_given, other in (
                ("label", bool(label) and is_ipv6, "IPv6"),
                ("scope", option.scope is not None and is_ipv6, "IPv6"),
                ("preferred_lft", option.preferred_lft is not None and not is_ipv6, "IPv4"),
            ):
                if is_given:
                    yield places.warning((*thing, key), f"means nothing for an {other} address", "remove it")


def prefixes(model: Model, places: Places) -> Iterator[Problem]:
    for at, instance in instances(model, places):
        for thing, address in places.each((*at, "addresses"), instance.addresses):
            is_announced = model.network and instance.is_announced
            if is_announced and address.version == 4 and address.network.prefixlen != 32:
                what = f"{address} is more than the one address that BGP is to deliver"
                yield places.error(thing, what, f'write "{address.ip}/32", or announce = false in the instance')


def interfaces(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    named: list[tuple[Thing, str]] = [((*at, "interface"), one.interface) for at, one in instances(model, places)]
    named = [(thing, name) for thing, name in named if thing in places.given]
    named += [((*at, "interface"), one.interface) for at, one in elections(model, places)]
    for at, instance in instances(model, places):
        own = ((thing, one.interface) for thing, one in placed(places, at, instance))
        named += (((*thing, "interface"), name) for thing, name in own if name != instance.interface)
    if model.network:
        named.append((("bgp", "interface"), model.network.speaker.interface))
    for thing, name in named:
        if name and name not in machine.interfaces:
            hint = f"it is used once it appears; there are {', '.join(machine.interfaces)}"
            close = closest(name, machine.interfaces)
            hint = f"did you mean {close}? {hint[0].upper()}{hint[1:]}" if close else hint
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
        for thing, ours in placed(places, at, instance):
            for one in standing.get(ours.address.ip, ()):
                if one != ours:
                    what = f"{one.address} is on {one.interface} already, and stays there: floatip holds "
                    what += f"{ours.address} on {ours.interface}"
                    hint = "remove it from the network configuration, and: "
                    hint += f"ip address del {one.address} dev {one.interface}"
                    yield places.warning(thing, what, hint)


def neighbours(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """The kernel removes with the first IPv4 address of a network all the others of that network.

    floatip itself promotes the others before it releases the first.
    """
    moving = {one.ip for _, one in floating(model, places)}
    own: dict[str, dict[object, InterfaceAddress]] = {}
    for at, instance in instances(model, places):
        for thing, ours in placed(places, at, instance):
            name, address = ours.interface, ours.address
            if name not in own:
                own[name] = {one.network: one for one in machine.interfaces.get(name, ()) if one.ip not in moving}
            other = own[name].get(address.network)
            if other and address.version == 4 and name in machine.demoting:
                key = f"net.ipv4.conf.{name.replace('.', '/')}.promote_secondaries"
                what = f"{address} and {other} share a network on {name}: who removes the first by hand removes both"
                alone = f"{address.ip}/32"
                hint = f"write {places.either(shown(alone), alone)}, or: sysctl -w {key}=1"
                yield places.warning(thing, what, hint)


RULES = (counts, prefixes, labels)
ON_MACHINE = (interfaces, arp, elsewhere, neighbours)
