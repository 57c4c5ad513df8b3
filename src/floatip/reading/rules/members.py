"""This machine as a member of a fleet whose nodes etcd knows: its name and its address."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from floatip.core.addresses import Address
from floatip.core.link.wire import LONGEST_NAME
from floatip.core.settings import Node
from floatip.model import Model
from floatip.reading.machine import Machine, source_towards
from floatip.reading.place import Places, Problem
from floatip.reading.rules.parts import own_addresses
from floatip.reading.words import shown


def own(model: Model) -> Node | None:
    """None: it is no member, or its address is not known."""
    if not model.member:
        return None
    address = model.member.address or _towards_etcd(model)
    return Node(model.member.name or socket.gethostname(), address, model.member.weight) if address else None


def with_own(model: Model, machine: Machine) -> Model:
    """`nodes` are the members that etcd knows. This one is as its own file has it; what is left of an older name or
    address of this machine, and what the link cannot reach, is no node."""
    if (node := own(model)) is None:
        return replace(model, nodes=()) if model.member else model
    others = [
        one
        for one in model.nodes
        if one.name != node.name and one.address.version == node.address.version and not machine.has(one.address)
    ]
    return replace(model, nodes=tuple(sorted([node, *others], key=lambda one: one.name)))


def place(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """Errors: without a name and an address this node can take no part."""
    at = ("member", "address") if ("member", "address") in places.given else ("member",)
    name = (model.member.name if model.member else "") or socket.gethostname()
    if (octets := len(name.encode())) > LONGEST_NAME or not name.isprintable():
        what = f"the host name {shown(name)} does not do as the name of a node: {octets} octets"
        yield places.on_machine(("member", "name"), what, f"give a name of up to {LONGEST_NAME} octets")
    if not (("etcd",) in places.given and places.is_whole(("etcd", "endpoints")) and places.is_whole(at)):
        return
    has = own_addresses(model, places, machine)
    node = own(model)
    if node is None:
        what = "no endpoint of etcd shows which address this machine has: none is another machine's address"
        hint = f'write [member] address = "..."; this machine has {has}'
        if taken := next((one for one in _sources(model) if one in _floating(model)), None):
            what = f"{taken}, with which this machine reaches etcd, is a floating address of an [[instance]]"
            hint = 'remove it there, or write the node\'s own address, which stays: [member] address = "..."'
        yield places.on_machine(at, what, hint)
    elif not machine.has(node.address):
        what = f"{node.address} is not this machine, which has {has}"
        yield places.on_machine(at, what, "correct the address, or bring it up: ip address")
    elif any(node.address == one.ip for instance in model.instances for one in instance.addresses):
        what = f"{node.address} is a floating address"
        yield places.error(at, what, "write the node's own address, which stays there: [member] address")


def _towards_etcd(model: Model) -> Address | None:
    """The address from which the kernel would send to the first endpoint that is another machine, or its address."""
    floating = _floating(model)
    return next((one for one in _sources(model) if one not in floating), None)


def _floating(model: Model) -> set[Address]:
    return {one.ip for instance in model.instances for one in instance.addresses}


def _sources(model: Model) -> Iterator[Address]:
    for endpoint in model.etcd.endpoints if model.etcd else ():
        try:
            to = ip_address(urlsplit(endpoint).hostname or "")
        except ValueError:  # a name: what may hang is not asked here
            continue
        if not to.is_loopback and (found := source_towards(to)) and not found.is_loopback:
            yield found
