"""etcd as the arbiter: its times, who may ask it, and which instances only one node may hold."""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit

from floatip.core.arbiter import SHORTEST_LEASE_TIME
from floatip.core.settings import Nodes
from floatip.model import Model, is_exclusive
from floatip.reading import secrets
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem
from floatip.reading.rules.parts import instances

LIBRARY, PACKAGE, EXTRA = "httpx", "python3-httpx", "floatip[etcd]"
FILES = ("ca", "certificate", "key", "password")


def times(model: Model, places: Places) -> Iterator[Problem]:
    etcd = model.etcd
    keys = ("lease_time", "keepalive_interval", "request_timeout")
    if not etcd or not all(places.is_whole(("etcd", key)) for key in keys):
        return
    needed = etcd.keepalive_interval + 2 * etcd.request_timeout
    if needed > etcd.lease_time:
        at = next((("etcd", key) for key in keys if ("etcd", key) in places.given), ("etcd",))
        what = (
            f"keepalive_interval {etcd.keepalive_interval:g} + 2 x request_timeout {etcd.request_timeout:g} = "
            f"{needed:g} s is more than lease_time {etcd.lease_time:g} s: one lost answer would end the lease"
        )
        timeout = math.floor((etcd.lease_time - etcd.keepalive_interval) * 5) / 10
        shorter = f", or request_timeout = {timeout:g}" if timeout > 0 else ""
        yield places.error(at, what, f"write lease_time = {math.ceil(needed)} on all nodes{shorter}")
    if etcd.lease_time < SHORTEST_LEASE_TIME and any(is_exclusive(one.election) for one in model.instances):
        at = ("etcd", "lease_time")
        what = f"{etcd.lease_time:g} s is too short for an exclusive instance: the kernel counts whole seconds"
        yield places.error(at, what, f"write lease_time = {SHORTEST_LEASE_TIME} or more, on all nodes alike")


def access(model: Model, places: Places) -> Iterator[Problem]:
    etcd = model.etcd
    if not etcd:
        return
    seen: set[str] = set()
    has_tls = any(one.startswith("https:") for one in etcd.endpoints) or not places.is_whole(("etcd", "endpoints"))
    for at, endpoint in places.each(("etcd", "endpoints"), etcd.endpoints):
        if endpoint in seen:
            yield places.error(at, f"{endpoint} is there twice", "name each member of etcd once")
        seen.add(endpoint)
        if ("etcd", "password") in places.given and endpoint.startswith("http:") and not _is_loopback(endpoint):
            what = f"the password travels readable to {endpoint}, without TLS"
            yield places.warning(at, what, "write https, or use a network that you trust")
    for key, other in (("certificate", "key"), ("key", "certificate"), ("user", "password"), ("password", "user")):
        if ("etcd", key) in places.given and ("etcd", other) not in places.given:
            yield places.error(("etcd", key), f"means nothing without {other}", f"add {other}, or remove {key}")
    for key in ("ca", "certificate"):
        if ("etcd", key) in places.given and not has_tls:
            yield places.warning(("etcd", key), "means nothing without TLS", "write the endpoints with https")


def exclusive(model: Model, places: Places) -> Iterator[Problem]:
    has_etcd = ("etcd",) in places.given
    for at, instance in instances(model, places):
        one = instance.election
        if not isinstance(one, Nodes):
            continue
        if one.exclusive and not has_etcd:
            what = "without etcd, halves of a split network may both hold it"
            yield places.error((*at, "exclusive"), what, "add [etcd] with the endpoints of your etcd, or remove it")
        if one.exclusive and instance.placement == "all":
            what = 'cannot be "all" for an exclusive instance: every node would hold the address'
            yield places.error((*at, "placement"), what, 'write placement = "master", or remove exclusive')
        if one.exclusive and one.on_arbiter_loss == "hold":
            what = '"hold" is what an exclusive instance must not do: another node may take over after lease_time'
            hint = 'remove it: an exclusive instance has on_arbiter_loss = "release"'
            yield places.error((*at, "on_arbiter_loss"), what, hint)
        elif (*at, "on_arbiter_loss") in places.given and not has_etcd:
            yield places.warning((*at, "on_arbiter_loss"), "means nothing without [etcd]", "add [etcd], or remove it")


def membership(model: Model, places: Places) -> Iterator[Problem]:
    if ("member",) not in places.given:
        return
    if ("etcd",) not in places.given:
        what = "a member registers itself at etcd, and there is no [etcd]"
        yield places.error(("member",), what, "add [etcd], or name all nodes: a [[node]] for each")
    elif ("node",) in places.given:
        what = "this file names the nodes, so none registers itself"
        yield places.error(("member",), what, "remove [member], or every [[node]]: then etcd knows who is a node")


def library(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    if model.etcd and find_spec(LIBRARY) is None:
        what = f"floatip speaks with etcd by {LIBRARY}, which is not installed"
        yield places.error(("etcd",), what, f"apt install {PACKAGE}; elsewhere: pip install '{EXTRA}'")


def files(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """Warnings, as for the listener: what etcd says is shown, and a node without it may still hold an address."""
    if not (etcd := model.etcd):
        return
    doubted = False
    for key in FILES:
        path = getattr(etcd, key)
        if path and (doubt := secrets.unreadable(path, machine, is_secret=key in ("key", "password"))):
            doubted = True
            yield places.warning(("etcd", key), doubt.what, doubt.hint)
    if not doubted and any(one.startswith("https:") for one in etcd.endpoints):
        for key, doubt in secrets.tls(etcd.certificate, etcd.key, etcd.ca, is_server=False):
            yield places.warning(("etcd", key), doubt.what, doubt.hint)


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


RULES = (times, access, exclusive, membership)
ON_MACHINE = (library, files)
