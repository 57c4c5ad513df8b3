"""The values together, and against the machine: the second pass, over what the model has let through.

A rule yields problems and stops at none. It bears what the first pass has taken out: a missing key, a None in a list.
"""

import pwd
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from pathlib import Path

from floatip.config.document import Document, Location, Problem, closest, shown
from floatip.config.machine import Surroundings, arp, commands, fifo, interfaces, state_log
from floatip.config.model import Keepalived
from floatip.config.parts import addresses, exactly_one, followed, has_bgp, own_peers, routers
from floatip.config.sessions import bgp, linode, ranks, sessions

DEFAULT_FIFO = Keepalived.model_fields["fifo"].default
COMM_LENGTH = 15
"""What the kernel keeps of the name of a process."""
WITHOUT_BGP = {
    "static": "a fixed role is nothing but a BGP rank",
    "keepalived": "keepalived elects and holds the address, so there is nothing left to do",
}


def judge(document: Document, around: Surroundings) -> Iterator[Problem]:
    ours = (_repeated, _checks, _instances, _vrrp, _keepalived)
    for rule in (*ours, linode, bgp, sessions, ranks, commands, state_log):
        yield from rule(document)
    yield from interfaces(document, around)
    yield from arp(document, around)


def _repeated(document: Document) -> Iterator[Problem]:
    def repeated(values: Iterable[tuple[Location, str]], hint: str) -> Iterator[Problem]:
        first: dict[str, Location] = {}
        for location, value in values:
            if (earlier := first.setdefault(value, location)) != location:
                yield document.error(location, f"{value} is taken by line {document.line(earlier)}", hint)

    for kind in ("check", "instance"):
        names = (((*at, "name"), f'"{table["name"]}"') for at, table in document.tables(kind) if "name" in table)
        yield from repeated(names, f"each {kind} needs a name of its own")
    vrids = (
        ((*at, "vrid"), f"{vrrp['vrid']} on {vrrp['interface']}")
        for at, vrrp in routers(document)
        if "interface" in vrrp and "vrid" in vrrp
    )
    yield from repeated(vrids, "two instances on one interface need two vrids")
    instances = ((at, f'"{name}"') for at, name in followed(document))
    yield from repeated(instances, "each instance follows one of keepalived's own")
    floating = ((at, str(address.ip)) for at, address in addresses(document))
    yield from repeated(floating, "an address belongs to one instance, and once")


def _checks(document: Document) -> Iterator[Problem]:
    names = [table["name"] for _, table in document.tables("check") if "name" in table]
    used: set[str] = set()
    for location, instance in document.tables("instance"):
        for index, name in enumerate(instance.get("checks", ())):
            used.add(name)
            if name and name not in names:
                hint = closest(name, names, f"the checks are {', '.join(names)}" if names else "add a [[check]]")
                yield document.error((*location, "checks", index), f"there is no check {shown(name)}", hint)
    for location, check in document.tables("check"):
        yield from exactly_one(document, location, ("script", "tcp", "file", "process"))
        if "process" in check:
            yield from _process(document, (*location, "process"), check["process"])
        if check.get("name") not in used:
            yield document.warning(location, "no instance uses this check", "name it in the checks of an instance")
        watched = "file" if "file" in check else "process"
        for key in ("interval", "timeout", "rise", "fall"):
            if watched in check and key in check:
                hint = f"a {watched} is watched, not asked: each change counts at once"
                yield document.warning((*location, key), f"means nothing beside {watched}", hint)
        if "fail_when" in check and (*location, "file") not in document.lines:
            hint = 'add file = "/run/floatip/trigger", or remove it'
            yield document.error((*location, "fail_when"), "means nothing without file", hint)


def _process(document: Document, location: Location, process: str) -> Iterator[Problem]:
    if "/" in process and not process.startswith("/"):
        hint = 'a name as pgrep -x finds it, or a pid file: "/run/haproxy.pid"'
        yield document.error(location, f"{shown(process)} is neither a name nor an absolute path", hint)
    elif len(process.encode()) > COMM_LENGTH and not process.startswith("/"):
        kept = process.encode()[:COMM_LENGTH].decode(errors="ignore")
        hint = f"the kernel keeps {COMM_LENGTH} of a name: write {shown(kept)}"
        yield document.error(location, f"{shown(process)} is longer than {COMM_LENGTH} octets", hint)


def _instances(document: Document) -> Iterator[Problem]:
    if ("instance",) not in document.lines:
        yield document.error((), "there is no [[instance]]", "an instance names the addresses to keep")
    for location, instance in document.tables("instance"):
        yield from exactly_one(document, location, ("vrrp", "keepalived", "static"))
        if not has_bgp(document) and instance.get("placement") == "all":
            hint = 'add [linode] or [bgp], or write placement = "master"'
            yield document.error((*location, "placement"), '"all" needs BGP to lead traffic to one node', hint)
        for key, what in WITHOUT_BGP.items():
            if not has_bgp(document) and key in instance:
                hint = "add [linode] or [bgp], or let vrrp elect"
                yield document.error((*location, key), what, hint)
        if "keepalived" in instance and instance.get("placement") == "master":
            hint = "leave it out: keepalived holds the address on the master, floatip on lo of every node"
            yield document.error((*location, "placement"), "cannot stand beside keepalived", hint)
        if "keepalived" in instance and instance.get("interface", "lo") == instance["keepalived"].get("interface"):
            hint = "leave it out: keepalived would take our copy away with its own"
            yield document.error((*location, "interface"), "is where keepalived has the address", hint)
        # A VRRP packet counts its addresses in 8 bits, and one without any is malformed (RFC 9568 section 5.2.5).
        listed = instance.get("addresses", (None,))
        count = sum(ip_interface(text).version == 4 for text in listed if text)
        if "vrrp" in instance and None not in listed and not 1 <= count <= 255:
            what = f"{count} IPv4 addresses do not fit an advert, which names 1 to 255"
            yield document.error((*location, "addresses"), what, "an instance with vrrp needs an IPv4 address")
    for location, address in addresses(document):
        if has_bgp(document) and address.version == 4 and address.network.prefixlen != 32:
            hint = f'write "{address.ip}/32"'
            yield document.error(location, f"{address} is more than the one address that BGP is to deliver", hint)


def _keepalived(document: Document) -> Iterator[Problem]:
    table = document.data.get("keepalived", {})
    first = next((location for location, _ in followed(document)), None)
    if first is None:
        if ("keepalived",) in document.lines:
            hint = "give an instance keepalived = { ... } in place of vrrp, or remove the table"
            yield document.warning(("keepalived",), "no instance follows keepalived", hint)
        return
    at = ("keepalived", "fifo")
    yield from fifo(document, at if at in document.lines else first[:-1], Path(table.get("fifo", DEFAULT_FIFO)))
    if user := table.get("script_user"):
        try:
            pwd.getpwnam(user)
        except KeyError:
            hint = "the user that keepalived runs its scripts as: useradd --system --no-create-home keepalived_script"
            yield document.warning(("keepalived", "script_user"), f"there is no user {shown(user)}", hint)


def _vrrp(document: Document) -> Iterator[Problem]:
    for location, vrrp in routers(document):
        version, interval = vrrp.get("version", 2), vrrp.get("advert_interval", 1)
        at = (*location, "advert_interval")
        if version == 2 and (interval % 1 or not 1 <= interval <= 255):
            hint = "version = 3 takes 0.01 to 40.95, on all nodes alike"
            yield document.error(at, f"{interval} is not a whole number between 1 and 255, as version 2 needs", hint)
        if version == 3 and not 0.01 <= interval <= 40.95:
            what = f"{interval} is not between 0.01 and 40.95, as version 3 needs"
            yield document.error(at, what, "seconds, not more")
        if version == 3 and "auth_pass" in vrrp:
            hint = "remove it, or write version = 2 on all nodes"
            yield document.error((*location, "auth_pass"), "version 3 has no authentication", hint)
        yield from own_peers(document, location, vrrp)
