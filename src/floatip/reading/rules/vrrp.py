"""Virtual routers: families, multicast, and signed adverts."""

from collections.abc import Iterator

from floatip.core.settings import Vrrp
from floatip.model import Model
from floatip.reading.place import Places, Problem
from floatip.reading.rules.parts import elections

UNICAST = "min_ttl", "max_ttl", "unicast_ttl", "check_unicast_src"


def families(model: Model, places: Places) -> Iterator[Problem]:
    for at, one in elections(model, places):
        if one.source.is_unspecified:
            continue
        named = [*places.each((*at, "peers"), one.peers)]
        if isinstance(one, Vrrp) and one.group:
            named.append(((*at, "mcast_group"), one.group))
        for thing, other in named:
            if other.version != one.source.version:
                what = f"{other} is IPv{other.version}, and the source {one.source} is IPv{one.source.version}"
                yield places.error(thing, what, "name addresses of one version: they send to each other")
        if one.version == 2 and one.source.version == 6:
            hint = f"write {places.either('version = 3', 'version 3')} on all nodes"
            yield places.warning((*at, "version"), "version 2 has no IPv6 (RFC 3768), though keepalived sends it", hint)


def multicast(model: Model, places: Places) -> Iterator[Problem]:
    for at, one in elections(model, places):
        if not isinstance(one, Vrrp) or one.peers or not places.is_whole((*at, "peers")):
            continue
        if one.source.version == 6 and not one.source.is_link_local and not one.source.is_unspecified:
            what = f"{one.source} is not link-local, and adverts to a multicast group have a link-local source"
            hint = f"name the address that `ip -6 address show dev {one.interface} scope link` shows, or add "
            hint += places.either("peers", "unicast_peer")
            yield places.error((*at, "source"), what, hint)
        for key in UNICAST:
            if (*at, key) in places.given:
                yield places.warning((*at, key), "means nothing without peers", "add peers = [...], or remove it")


def signatures(model: Model, places: Places) -> Iterator[Problem]:
    for at, one in elections(model, places):
        if not isinstance(one, Vrrp) or not one.hmac:
            continue
        seen = set[int]()
        for thing, (number, _) in places.each((*at, "auth_hmac", "keys"), one.hmac.keys):
            if number in seen:
                yield places.error((*thing, "id"), f"{number} is the id of another key", "give each key its own id")
            seen.add(number)
        if one.hmac.active not in seen and places.is_whole((*at, "auth_hmac")):
            ids = ", ".join(map(str, sorted(seen)))
            what = f"there is no key {one.hmac.active}"
            yield places.error((*at, "auth_hmac", "active_key"), what, f"write the id of one of the keys: {ids}")


RULES = (families, multicast, signatures)
