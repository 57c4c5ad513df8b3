"""The values together, and against the machine: the second pass, over what the model has let through.

A rule yields problems and stops at none. It bears what the first pass has taken out: a missing key, a None in a list.
"""

import json
import os
import pwd
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from floatip.config.bgp import Bgp
from floatip.config.document import Document, Location, Problem, closest, shown
from floatip.config.model import Keepalived
from floatip.core.events import InterfaceAddress
from floatip.providers import LINODE_MARKS, LINODE_REGIONS, PROVIDERS

DEFAULT_FIFO = Keepalived.model_fields["fifo"].default
COMM_LENGTH = 15
"""What the kernel keeps of the name of a process."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    interfaces: tuple[str, ...]
    answering: tuple[tuple[str, IPv4Network], ...]
    """Connected subnets, and the interface on which the kernel answers ARP there for whichever address it has."""


def look_around() -> Surroundings:
    interfaces = tuple(sorted(name for _, name in socket.if_nameindex()))
    ignores = {name: _arp_ignore(name) for name in ("all", *interfaces)}
    answering = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, destination, gateway, _, _, _, _, mask, *_ = line.split()
        # The kernel takes the larger of the interface's value and that of all.
        if int(gateway, 16) == 0 != int(mask, 16) and not ignores.get(name) and not ignores["all"]:
            answering.append((name, IPv4Network((_host_order(destination), str(_host_order(mask))))))
    return Surroundings(interfaces, tuple(answering))


def _arp_ignore(interface: str) -> int:
    try:
        return int(Path(f"/proc/sys/net/ipv4/conf/{interface}/arp_ignore").read_text())
    except OSError:  # the interface has just gone
        return 0


def _host_order(digits: str) -> IPv4Address:
    return IPv4Address(int(digits, 16).to_bytes(4, sys.byteorder))


def judge(document: Document, around: Surroundings) -> Iterator[Problem]:
    for rule in (
        _repeated,
        _linode,
        _bgp,
        _sessions,
        _ranks,
        _checks,
        _commands,
        _state_log,
        _instances,
        _vrrp,
        _keepalived,
    ):
        yield from rule(document)
    yield from _interfaces(document, around)
    yield from _arp(document, around)


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
        for at, vrrp in _routers(document)
        if "interface" in vrrp and "vrid" in vrrp
    )
    yield from repeated(vrids, "two instances on one interface need two vrids")
    followed = ((at, f'"{name}"') for at, name in _followed(document))
    yield from repeated(followed, "each instance follows one of keepalived's own")
    addresses = ((at, str(address.ip)) for at, address in _addresses(document))
    yield from repeated(addresses, "an address belongs to one instance, and once")


def _linode(document: Document) -> Iterator[Problem]:
    dcid = document.data.get("linode", {}).get("dcid")
    if isinstance(dcid, int) and dcid not in {region.dcid for region in LINODE_REGIONS}:
        hint = "it is used as it is; compare with the table of regions in Linode's failover guide"
        yield document.warning(("linode", "dcid"), f"no data centre that we know has the number {dcid}", hint)
    if ("linode",) in document.lines and ("bgp", "provider") in document.lines:
        yield document.error(("bgp", "provider"), "cannot stand beside [linode]", "keep one of them")


def _bgp(document: Document) -> Iterator[Problem]:
    bgp = document.data.get("bgp", {})
    provider = bgp.get("provider", "generic")
    if ("bgp",) in document.lines and ("linode",) not in document.lines:
        missing = "missing without [linode]" if provider == "generic" else f"missing, {provider} assigns it"
        for key in ("peers", "asn", "peer_asn"):
            if ("bgp", key) not in document.lines and not getattr(PROVIDERS[provider], key):
                example = json.dumps(Bgp.model_fields[key].examples[0])  # type: ignore[index]
                yield document.error(("bgp", key), missing, f"for example {key} = {example}")
    if "asn" in bgp and bgp["asn"] == bgp.get("peer_asn"):
        hint = "inside one AS the rules are others; ask for an AS number of your own"
        yield document.error(("bgp", "peer_asn"), f"{bgp['asn']} is our own AS too", hint)
    floating = {str(address.ip): location for location, address in _addresses(document)}
    if bgp.get("router_id") in floating:
        hint = "another node would have it too; give an address that only this machine has"
        yield document.error(("bgp", "router_id"), f"{bgp['router_id']} is a floating address", hint)


def _sessions(document: Document) -> Iterator[Problem]:
    bgp = document.data.get("bgp", {})
    yield from _at_most_one(document, ("bgp",), ("source", "interface"))
    yield from _at_most_one(document, ("bgp",), ("multihop_ttl", "min_ttl"))
    yield from _own_peers(document, ("bgp",), bgp)
    yield from _source(document, bgp)
    yield from _next_hop(document, bgp)
    if bgp.get("provider") == "vultr" and ("bgp", "md5") not in document.lines:
        yield document.warning(("bgp", "md5"), "missing, and Vultr wants one", "the password of the BGP page")


def _next_hop(document: Document, bgp: dict[str, Any]) -> Iterator[Problem]:
    next_hop, peers = bgp.get("next_hop", ()), [ip_address(peer) for peer in bgp.get("peers", ()) if peer]
    if next_hop == "ipv6" and any(peer.version == 4 for peer in peers):
        hint = 'name it: next_hop = ["2001:db8::1"]'
        yield document.error(("bgp", "next_hop"), "a session over IPv4 has no IPv6 address of ours", hint)
    for address in next_hop if isinstance(next_hop, list) else ():
        if ip_address(address) in peers:
            yield document.error(("bgp", "next_hop"), f"{address} is a peer", "give an address of this machine")


def _ranks(document: Document) -> Iterator[Problem]:
    """Between equal communities path and ORIGIN decide (RFC 4271 section 9.1.2.2)."""
    try:
        bgp = Bgp.model_validate(document.data.get("bgp", {}))
    except ValidationError:
        return  # said in the first pass
    marks = bgp.marks(LINODE_MARKS if ("linode",) in document.lines else PROVIDERS[bgp.provider].marks)
    for worse, better in pairwise(sorted(marks)):
        one, other = marks[worse], marks[better]
        if one.communities == other.communities and (one.path_length, one.origin) <= (other.path_length, other.origin):
            hint = (
                "without communities of its own a rank needs fewer prepends, or the better origin: igp, egp, incomplete"
            )
            what = f"{better.label} is not better than {worse.label}"
            yield document.error(("bgp", "ranks", better.name.lower()), what, hint)


def _source(document: Document, bgp: dict[str, Any]) -> Iterator[Problem]:
    """A socket of one family cannot be bound to an address of the other."""
    versions = {ip_address(peer).version for peer in bgp.get("peers", ()) if peer}
    if ("bgp", "peers") not in document.lines and ("linode",) in document.lines:
        versions = {6}
    if versions and "source" in bgp and (version := ip_address(bgp["source"]).version) not in versions:
        hint = f"give an {'IPv4' if version == 6 else 'IPv6'} address of this machine, or leave it to the kernel"
        yield document.error(("bgp", "source"), f"{bgp['source']} is IPv{version}, and no peer is", hint)


def _own_peers(document: Document, location: Location, table: dict[str, Any]) -> Iterator[Problem]:
    for index, peer in enumerate(table.get("peers", ())):
        if peer and "source" in table and ip_address(peer) == ip_address(table["source"]):
            yield document.error(
                (*location, "peers", index), f"{peer} is our own source", "name only the other nodes or route servers"
            )


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
        yield from _exactly_one(document, location, ("script", "tcp", "file", "process"))
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


WITHOUT_BGP = {
    "static": "a fixed role is nothing but a BGP rank",
    "keepalived": "keepalived elects and holds the address, so there is nothing left to do",
}


def _exactly_one(document: Document, location: Location, keys: tuple[str, ...]) -> Iterator[Problem]:
    if not any((*location, key) in document.lines for key in keys):
        yield document.error(location, f"has no {', '.join(keys[:-1])} or {keys[-1]}", "give exactly one of them")
    yield from _at_most_one(document, location, keys)


def _at_most_one(document: Document, location: Location, keys: tuple[str, ...]) -> Iterator[Problem]:
    given = [key for key in keys if (*location, key) in document.lines]
    for key in given[1:]:
        yield document.error((*location, key), f"cannot stand beside {given[0]}", f"keep one of {' and '.join(given)}")


def _commands(document: Document) -> Iterator[Problem]:
    """Whoever can write a command can do what floatip may do, so only root should."""
    commands = [((*at, "script"), table["script"]) for at, table in document.tables("check") if "script" in table]
    if "command" in document.data.get("notify", {}):
        commands.append((("notify", "command"), document.data["notify"]["command"]))
    for location, command in commands:
        path = Path(command if isinstance(command, str) else command[0])
        try:
            yield from _command_file(document, location, path)
        except OSError as error:
            hint = "the path of a file that can be run"
            if isinstance(command, str) and " " in command:
                hint = f"arguments make it a list: {json.dumps(command.split())}"
            yield document.error(location, f"{path} cannot be run: {str(error.strerror).lower()}", hint)


def _command_file(document: Document, location: Location, path: Path) -> Iterator[Problem]:
    status = path.stat()
    doubts = []
    if not stat.S_ISREG(status.st_mode):
        doubts.append((f"{path} cannot be run: not a file", "the path of a file that can be run"))
    elif not status.st_mode & 0o111:
        doubts.append((f"{path} cannot be run: not executable", f"chmod +x {path}"))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        doubts.append((f"{path} is writable by group or others", f"chmod go-w {path}"))
    for directory in sorted({path.parent, path.resolve().parent}):
        if directory.stat().st_mode & stat.S_IWOTH:
            doubts.append((f"{directory} is writable by others, who can replace {path.name}", f"chmod o-w {directory}"))
    yield from (document.error(location, what, hint) for what, hint in doubts)
    if not doubts and status.st_uid != 0:
        yield document.warning(location, f"{path} does not belong to root", f"chown root {path}")


def _state_log(document: Document) -> Iterator[Problem]:
    if "state_log" not in document.data:
        return
    path, at = Path(document.data["state_log"]), ("state_log",)
    hint = 'a directory that only floatip can write to: "/var/log/floatip/state"'
    try:
        mode = path.parent.stat().st_mode
    except OSError as error:
        what = f"nothing can be written to {path.parent}: {str(error.strerror).lower()}"
        yield document.warning(at, what, hint)
        return
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield document.error(at, f"{path.parent} is writable by group or others", hint)
    elif os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        yield document.error(at, f"{path} is not a regular file", hint)


def _instances(document: Document) -> Iterator[Problem]:
    if ("instance",) not in document.lines:
        yield document.error((), "there is no [[instance]]", "an instance names the addresses to keep")
    for location, instance in document.tables("instance"):
        yield from _exactly_one(document, location, ("vrrp", "keepalived", "static"))
        if not _has_bgp(document) and instance.get("placement") == "all":
            hint = 'add [linode] or [bgp], or write placement = "master"'
            yield document.error((*location, "placement"), '"all" needs BGP to lead traffic to one node', hint)
        for key, what in WITHOUT_BGP.items():
            if not _has_bgp(document) and key in instance:
                hint = "add [linode] or [bgp], or let vrrp elect"
                yield document.error((*location, key), what, hint)
        if "keepalived" in instance and instance.get("placement") == "master":
            hint = "leave it out: keepalived holds the address on the master, floatip on lo of every node"
            yield document.error((*location, "placement"), "cannot stand beside keepalived", hint)
        if "keepalived" in instance and instance.get("interface", "lo") == instance["keepalived"].get("interface"):
            hint = "leave it out: keepalived would take our copy away with its own"
            yield document.error((*location, "interface"), "is where keepalived has the address", hint)
        # A VRRP packet counts its addresses in 8 bits, and one without any is malformed (RFC 9568 section 5.2.5).
        addresses = instance.get("addresses", (None,))
        count = sum(ip_interface(text).version == 4 for text in addresses if text)
        if "vrrp" in instance and None not in addresses and not 1 <= count <= 255:
            what = f"{count} IPv4 addresses do not fit an advert, which names 1 to 255"
            yield document.error((*location, "addresses"), what, "an instance with vrrp needs an IPv4 address")
    for location, address in _addresses(document):
        if _has_bgp(document) and address.version == 4 and address.network.prefixlen != 32:
            hint = f'write "{address.ip}/32"'
            yield document.error(location, f"{address} is more than the one address that BGP is to deliver", hint)


def _keepalived(document: Document) -> Iterator[Problem]:
    table = document.data.get("keepalived", {})
    first = next((location for location, _ in _followed(document)), None)
    if first is None:
        if ("keepalived",) in document.lines:
            hint = "give an instance keepalived = { ... } in place of vrrp, or remove the table"
            yield document.warning(("keepalived",), "no instance follows keepalived", hint)
        return
    at = ("keepalived", "fifo")
    yield from _fifo(document, at if at in document.lines else first[:-1], Path(table.get("fifo", DEFAULT_FIFO)))
    if user := table.get("script_user"):
        try:
            pwd.getpwnam(user)
        except KeyError:
            hint = "the user that keepalived runs its scripts as: useradd --system --no-create-home keepalived_script"
            yield document.warning(("keepalived", "script_user"), f"there is no user {shown(user)}", hint)


def _fifo(document: Document, location: Location, path: Path) -> Iterator[Problem]:
    try:
        if not stat.S_ISFIFO(path.lstat().st_mode):
            hint = f"rm {path}; systemd-tmpfiles --create; systemctl restart keepalived"
            yield document.error(location, f"{path} is not a FIFO", hint)
    except OSError as error:
        hint = "systemd-tmpfiles --create makes it; without it only `floatip notify` says what keepalived decides"
        yield document.warning(location, f"{path} cannot be read: {str(error.strerror).lower()}", hint)
    with suppress(OSError):
        if path.parent.stat().st_mode & stat.S_IWOTH:
            what = f"{path.parent} is writable by others, who can replace {path.name}"
            yield document.error(location, what, 'a directory of root\'s: "/run/keepalived/floatip"')


def _vrrp(document: Document) -> Iterator[Problem]:
    for location, vrrp in _routers(document):
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
        yield from _own_peers(document, location, vrrp)


def _interfaces(document: Document, around: Surroundings) -> Iterator[Problem]:
    bgp: list[tuple[Location, dict[str, Any]]] = [(("bgp",), document.data.get("bgp", {}))]
    for location, table in [*bgp, *document.tables("instance"), *_routers(document)]:
        name = table.get("interface")
        if name and name not in around.interfaces:
            hint = f"it is used once it appears; there are {', '.join(around.interfaces)}"
            yield document.warning((*location, "interface"), f"{shown(name)} does not exist now", hint)


def _arp(document: Document, around: Surroundings) -> Iterator[Problem]:
    for location, address in _addresses(document):
        instance = document.data["instance"][location[1]]
        if instance.get("placement", "all" if _has_bgp(document) else "master") == "master":
            continue
        for interface, subnet in around.answering:
            if address.ip in subnet:
                what = f"{address.ip} is inside {subnet} on {interface}, where a standby would answer ARP for it too"
                hint = (
                    f"if nodes share this layer 2: sysctl -w net.ipv4.conf.{interface.replace('.', '/')}.arp_ignore=1"
                )
                yield document.warning(location, what, hint)


def _has_bgp(document: Document) -> bool:
    return ("linode",) in document.lines or ("bgp",) in document.lines


def _routers(document: Document) -> Iterator[tuple[Location, dict[str, Any]]]:
    for location, instance in document.tables("instance"):
        for election in ("vrrp", "keepalived"):
            if election in instance:
                yield (*location, election), instance[election]


def _followed(document: Document) -> Iterator[tuple[Location, str]]:
    """What keepalived calls the instances for which it elects."""
    for location, instance in document.tables("instance"):
        if "keepalived" in instance:
            name = instance["keepalived"].get("instance", instance.get("name", ""))
            yield (*location, "keepalived", "instance"), name


def _addresses(document: Document) -> Iterator[tuple[Location, InterfaceAddress]]:
    for location, instance in document.tables("instance"):
        for index, text in enumerate(instance.get("addresses", ())):
            if text:
                yield (*location, "addresses", index), ip_interface(text)
