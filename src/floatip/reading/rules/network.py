"""BGP: sessions, next hops, and ranks that must be better one than the other."""

import json
from collections.abc import Iterator
from itertools import pairwise

from floatip.core.addresses import Address
from floatip.model import Model, Network, Tcp
from floatip.providers import LINODE_REGIONS
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.rules.parts import floating, own_peers

EXAMPLES = {"peers": ["192.0.2.254"], "asn": 65001, "peer_asn": 65000}


def linode(model: Model, places: Places) -> Iterator[Problem]:
    if ("linode",) not in places.given or not model.network:
        return
    dcid = model.network.profile.dcid
    if dcid and dcid not in {region.dcid for region in LINODE_REGIONS}:
        hint = "it is used as it is; compare with the table of regions in Linode's failover guide"
        yield places.warning(("linode", "dcid"), f"no data centre that we know has the number {dcid}", hint)
    if ("bgp", "provider") in places.given:
        yield places.error(("bgp", "provider"), "cannot stand beside [linode]", "keep one of them")


def numbers(model: Model, places: Places) -> Iterator[Problem]:
    if not (net := model.network):
        return
    name = net.profile.name
    missing = "missing without [linode]" if name == "generic" else f"missing, {name} assigns it"
    for key, example in EXAMPLES.items():
        if not getattr(net.profile, key) and places.is_whole(("bgp", key)):
            yield places.error(("bgp", key), missing, f"add it, for example {key} = {json.dumps(example)}")
    if net.profile.asn and net.profile.asn == net.profile.peer_asn:
        hint = "inside one AS the rules are others; ask for an AS number of your own"
        yield places.error(("bgp", "peer_asn"), f"{net.profile.asn} is our own AS too", hint)
    if net.router_id in {address.ip for _, address in floating(model, places)}:
        hint = "another node would have it too; give an address that only this machine has"
        yield places.error(("bgp", "router_id"), f"{net.router_id} is a floating address", hint)


def sessions(model: Model, places: Places) -> Iterator[Problem]:
    if not (net := model.network):
        return
    source, peers = net.speaker.source, net.profile.peers
    moving = {address.ip for _, address in floating(model, places)}
    if source in moving:
        hint = "name an address of this machine that stays here: route servers answer to where it is"
        yield places.error(("bgp", "source"), f"{source} is a floating address", hint)
    for thing, peer in places.each(("bgp", "peers"), peers):
        if peer in moving:
            yield places.error(thing, f"{peer} is a floating address", "name the route server's own address")
    yield from own_peers(places, ("bgp",), source, peers)
    # A socket of one family cannot be bound to an address of the other.
    if source and peers and source.version not in {peer.version for peer in peers}:
        other = "IPv4" if source.version == 6 else "IPv6"
        hint = f"give an {other} address of this machine, or leave it to the kernel"
        yield places.error(("bgp", "source"), f"{source} is IPv{source.version}, and no peer is", hint)
    yield from _next_hop(places, net, peers)
    if net.profile.name == "vultr" and ("bgp", "md5") not in places.given:
        yield places.warning(("bgp", "md5"), "missing, and Vultr wants one", "write the password of the BGP page")


def _next_hop(places: Places, net: Network, peers: tuple[Address, ...]) -> Iterator[Problem]:
    if net.next_hop == "ipv6" and any(peer.version == 4 for peer in peers):
        hint = 'name it: next_hop = ["2001:db8::1"]'
        yield places.error(("bgp", "next_hop"), "a session over IPv4 has no IPv6 address of ours", hint)
    for address in net.next_hop if isinstance(net.next_hop, tuple) else ():
        if address in peers:
            yield places.error(("bgp", "next_hop"), f"{address} is a peer", "give an address of this machine")


def families(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """A session needs an address of its peer's family, and a check one of its service's."""
    here = {one.ip for all_ in machine.interfaces.values() for one in all_}
    own = here - {address.ip for _, address in floating(model, places)}
    usable = {address.version for address in own if not address.is_loopback and not address.is_link_local}
    peers = model.network.profile.peers if model.network else ()
    distant = {peer.version for peer in peers if not peer.is_loopback and not peer.is_link_local}
    for version in sorted(distant - usable):
        thing: Thing = ("bgp", "peers") if ("bgp", "peers") in places.given else ("linode", "dcid")
        what = f"there are route servers with IPv{version} addresses, and this machine has no IPv{version} address"
        yield places.warning(thing, what, f"no session to them opens before `ip -{version} address` shows one")
    for at, check in places.each(("check",), model.checks):
        is_ipv6 = isinstance(check.kind, Tcp) and ":" in check.kind.host
        if is_ipv6 and not any(address.version == 6 for address in here):
            hint = "check an IPv4 address, or enable IPv6: sysctl net.ipv6.conf.lo.disable_ipv6"
            yield places.warning((*at, "tcp"), "this machine has no IPv6, so the check fails", hint)


def ranks(model: Model, places: Places) -> Iterator[Problem]:
    """Between equal communities path and ORIGIN decide (RFC 4271 section 9.1.2.2)."""
    marks = model.network.speaker.marks if model.network else {}
    for worse, better in pairwise(sorted(marks)):
        one, other = marks[worse], marks[better]
        names = [("bgp", "ranks", rank.name.lower()) for rank in (worse, better)]
        is_known = places.is_whole(("bgp", "communities")) and all(map(places.is_whole, names))
        if not is_known or one.communities != other.communities:
            continue
        if (one.path_length, one.origin) <= (other.path_length, other.origin):
            hint = (
                "without communities of its own a rank needs fewer prepends, or the better origin: igp, egp, incomplete"
            )
            yield places.error(names[1], f"{better.label} is not better than {worse.label}", hint)


RULES = (linode, numbers, sessions, ranks)
ON_MACHINE = (families,)
