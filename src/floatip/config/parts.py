"""The parts of a document that several rules look at, and what rules say of keys that exclude each other."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from typing import Any

from floatip.config.document import Document, Location, Problem
from floatip.core.events import InterfaceAddress


def exactly_one(document: Document, location: Location, keys: tuple[str, ...]) -> Iterator[Problem]:
    if not any((*location, key) in document.lines for key in keys):
        yield document.error(location, f"has no {', '.join(keys[:-1])} or {keys[-1]}", "give exactly one of them")
    yield from at_most_one(document, location, keys)


def at_most_one(document: Document, location: Location, keys: tuple[str, ...]) -> Iterator[Problem]:
    given = [key for key in keys if (*location, key) in document.lines]
    for key in given[1:]:
        yield document.error((*location, key), f"cannot stand beside {given[0]}", f"keep one of {' and '.join(given)}")


def own_peers(document: Document, location: Location, table: dict[str, Any]) -> Iterator[Problem]:
    for index, peer in enumerate(table.get("peers", ())):
        if peer and "source" in table and ip_address(peer) == ip_address(table["source"]):
            yield document.error(
                (*location, "peers", index), f"{peer} is our own source", "name only the other nodes or route servers"
            )


def has_bgp(document: Document) -> bool:
    return ("linode",) in document.lines or ("bgp",) in document.lines


def routers(document: Document) -> Iterator[tuple[Location, dict[str, Any]]]:
    for location, instance in document.tables("instance"):
        for election in ("vrrp", "keepalived"):
            if election in instance:
                yield (*location, election), instance[election]


def followed(document: Document) -> Iterator[tuple[Location, str]]:
    """What keepalived calls the instances for which it elects."""
    for location, instance in document.tables("instance"):
        if "keepalived" in instance:
            name = instance["keepalived"].get("instance", instance.get("name", ""))
            yield (*location, "keepalived", "instance"), name


def addresses(document: Document) -> Iterator[tuple[Location, InterfaceAddress]]:
    for location, instance in document.tables("instance"):
        for index, text in enumerate(instance.get("addresses", ())):
            if text:
                yield (*location, "addresses", index), ip_interface(text)
