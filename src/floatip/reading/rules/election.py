"""Elections: what a version of VRRP can carry, who takes part, and with which address."""

from collections.abc import Container, Iterator

from floatip.core.addresses import Address
from floatip.core.election.elector import ASKING
from floatip.core.settings import Keepalived, Vrrp
from floatip.model import Model
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.rules.parts import elections, floating, instances, own_peers
from floatip.reading.words import shown

AUTH_LENGTH = 8
USUAL = "write seconds; 1 is usual"


def versions(model: Model, places: Places) -> Iterator[Problem]:
    for at, one in elections(model, places):
        interval, thing = one.advert_interval, (*at, "advert_interval")
        shown_interval = str(interval).removesuffix(".0")
        if not places.is_whole((*at, "version")):
            continue
        if one.version == 2 and (interval % 1 or not 1 <= interval <= 255):
            is_for_3 = 0.01 <= interval <= 40.95
            hint = "write version = 3 on all nodes alike, which takes 0.01 to 40.95" if is_for_3 else USUAL
            what = f"{shown_interval} is not a whole number between 1 and 255, as version 2 needs"
            yield places.error(thing, what, hint)
        if one.version == 3 and not 0.01 <= interval <= 40.95:
            what = f"{shown_interval} is not between 0.01 and 40.95, as version 3 needs"
            yield places.error(thing, what, USUAL)


def priorities(model: Model, places: Places) -> Iterator[Problem]:
    for at, one in elections(model, places):
        if one.priority == ASKING:
            what = f"adverts of priority {ASKING} are questions: floatip takes no node that sends them for a master"
            yield places.warning((*at, "priority"), what, "use 2 or more, also on the other nodes")


def passwords(model: Model, places: Places) -> Iterator[Problem]:
    for at, one in elections(model, places):
        if not isinstance(one, Vrrp) or not one.auth_pass:
            continue
        thing = (*at, "auth_pass")
        if one.hmac:
            hint = "keep one of the two, on all nodes alike"
            yield places.error(thing, "cannot stand beside auth_hmac", hint)
        elif one.version == 3:
            hint = "remove it, or write version = 2 on all nodes"
            yield places.error(thing, "version 3 has no authentication", hint)
        elif one.source.version == 6:
            hint = "remove it, or write auth_hmac, which also floatip and keepalived 2.4 on the other nodes know"
            yield places.error(thing, "adverts over IPv6 have no password", hint)
        elif (octets := len(one.auth_pass.encode())) > AUTH_LENGTH:
            hint = f"keep {AUTH_LENGTH} of them, on all nodes alike"
            yield places.warning(thing, f"only the first {AUTH_LENGTH} of {octets} octets are sent", hint)


def peers(model: Model, places: Places) -> Iterator[Problem]:
    moving = {one.ip for _, one in floating(model, places)}
    for at, one in elections(model, places):
        yield from own_peers(places, at, one.source, one.peers)
        for thing, peer in places.each((*at, "peers"), one.peers):
            if peer in moving:
                hint = "name the other node's own address, which stays there"
                yield places.error(thing, f"{peer} is a floating address", hint)
        if one.source in moving:
            hint = "name this node's own address, which stays here"
            yield places.error((*at, "source"), f"{one.source} is a floating address", hint)


def places_of_addresses(model: Model, places: Places) -> Iterator[Problem]:
    for at, instance in instances(model, places):
        if not isinstance(instance.election, Keepalived):
            continue
        if (*at, "placement") in places.given and instance.placement == "master":
            hint = "leave it out: keepalived holds the address on the master, floatip on lo of every node"
            yield places.error((*at, "placement"), "cannot stand beside keepalived", hint)
        if instance.interface == instance.election.interface:
            hint = "leave it out: keepalived would take our copy away with its own"
            yield places.error((*at, "interface"), "is where keepalived has the address", hint)


def sources(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """Warnings: a start before the network is up must not end with them."""
    moving = {one.ip for _, one in floating(model, places)}
    for at, one in elections(model, places):
        interface = one.interface if one.interface in machine.interfaces else ""
        if not (one.source.is_unspecified or one.source in moving or machine.has(one.source, interface)):
            yield _not_there(places, (*at, "source"), one, machine)
        elif not one.source.is_unspecified:
            yield from _ours(places, at, one.peers, {*moving, one.source}, machine)
    ours = model.network.speaker.source if model.network else None
    if model.network and ("bgp", "peers") in places.given:
        yield from _ours(places, ("bgp",), model.network.profile.peers, {*moving, ours}, machine)
    if ours and ours not in moving and not machine.has(ours):
        hint = "name an address that `ip address` shows: no session opens before it is there"
        yield places.warning(("bgp", "source"), f"this machine does not have {ours}", hint)
    if ours in {one.address.ip for one in machine.temporary}:
        hint = "name one that `ip -6 address` does not show as temporary, or leave the choice to floatip"
        yield places.warning(("bgp", "source"), f"{ours} is temporary: the kernel replaces it every day", hint)


def _ours(
    places: Places, at: Thing, peers: tuple[Address, ...], known: Container[Address | None], machine: Machine
) -> Iterator[Problem]:
    """Peers that are this machine; `known`: those that another rule names."""
    for thing, peer in places.each((*at, "peers"), peers):
        if peer not in known and not peer.is_loopback and machine.has(peer):
            what = f"{peer} is this machine's own address, on {machine.interface_of(peer)}"
            yield places.warning(thing, what, "name only the other nodes or route servers")


def _not_there(places: Places, thing: Thing, one: Vrrp | Keepalived, machine: Machine) -> Problem:
    if elsewhere := machine.interface_of(one.source):
        what = f"{one.source} is on {elsewhere}, not on {one.interface}, and the election waits until it is"
        written = places.either(f"interface = {shown(elsewhere)}", f"interface {elsewhere}")
        return places.warning(thing, what, f"name an address of {one.interface}, or write {written}")
    peer = next((peer for peer in one.peers if machine.has(peer)), None)
    if peer:
        what = f"{one.source} is not here, but its peer {peer} is, on {machine.interface_of(peer)}"
        return places.warning(thing, what, "is this the other node's file? swap source and peers")
    version = one.source.version
    here = (str(address.ip) for address in machine.interfaces.get(one.interface, ()) if address.version == version)
    has = f"{one.interface} has {', '.join(here) or f'no IPv{version} address'}"
    hint = f"name an address of this node, or add this one: {has}, and the election waits"
    return places.warning(thing, f"this machine does not have {one.source}", hint)


RULES = (versions, priorities, passwords, peers, places_of_addresses)
ON_MACHINE = (sources,)
