"""The rules that look at this machine: its interfaces and files, and who may write them."""

import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from floatip.config.document import Document, Location, Problem, shown
from floatip.config.parts import addresses, has_bgp, routers


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


def commands(document: Document) -> Iterator[Problem]:
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


def state_log(document: Document) -> Iterator[Problem]:
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


def fifo(document: Document, location: Location, path: Path) -> Iterator[Problem]:
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


def interfaces(document: Document, around: Surroundings) -> Iterator[Problem]:
    bgp: list[tuple[Location, dict[str, Any]]] = [(("bgp",), document.data.get("bgp", {}))]
    for location, table in [*bgp, *document.tables("instance"), *routers(document)]:
        name = table.get("interface")
        if name and name not in around.interfaces:
            hint = f"it is used once it appears; there are {', '.join(around.interfaces)}"
            yield document.warning((*location, "interface"), f"{shown(name)} does not exist now", hint)


def arp(document: Document, around: Surroundings) -> Iterator[Problem]:
    for location, address in addresses(document):
        instance = document.data["instance"][location[1]]
        if instance.get("placement", "all" if has_bgp(document) else "master") == "master":
            continue
        for interface, subnet in around.answering:
            if address.ip in subnet:
                what = f"{address.ip} is inside {subnet} on {interface}, where a standby would answer ARP for it too"
                hint = (
                    f"if nodes share this layer 2: sysctl -w net.ipv4.conf.{interface.replace('.', '/')}.arp_ignore=1"
                )
                yield document.warning(location, what, hint)
